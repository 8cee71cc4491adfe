"""Certificates made on the spot: nothing is kept in a repository, and nothing expires there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trustme

from dot_proto import Pin
from dot_proto.arguments import check_instance, check_text

from .._stays import StaysInProcess


@dataclass(frozen=True, slots=True)
class Identity:
    """What one server shows, and what its clients need to know it by."""

    name: str
    "The authentication domain name (RFC 8310, section 2)."
    root_file: Path
    "The root's certificate in PEM."
    chain_file: Path
    "The leaf's key, its certificate and the intermediate's in PEM, readable for the owner alone."
    pin: Pin
    "The leaf's."

    def __post_init__(self) -> None:
        check_text("name", self.name)
        check_instance("root_file", self.root_file, Path)
        check_instance("chain_file", self.chain_file, Path)
        check_instance("pin", self.pin, Pin)


class Authority(StaysInProcess):
    """A root and an intermediate under it, whose files go into ``folder``."""

    def __init__(self, folder: Path, owner: str) -> None:
        """``owner`` is the organization in every certificate."""
        check_instance("folder", folder, Path)
        check_text("owner", owner)
        self._folder = folder
        self._owner = owner
        self._issued = 0
        root = trustme.CA(organization_name=owner, organization_unit_name="root")
        # create_child_ca() would do the same, but for the names.
        self._intermediate = trustme.CA(
            parent_cert=root, path_length=0, organization_name=owner, organization_unit_name="intermediate"
        )
        self.root_file: Final = folder / "root.pem"
        "The root's certificate in PEM."
        self.root_file.write_bytes(root.cert_pem.bytes())

    def issue(self, name: str, *more: str) -> Identity:
        """A key and a certificate for ``name``, and for ``more`` names or addresses."""
        for each in (name, *more):
            check_text("name", each, "a name or an address, as text")
        leaf = self._intermediate.issue_cert(
            name, *more, common_name=name, organization_name=self._owner, organization_unit_name="server"
        )
        self._issued += 1
        chain_file = self._folder / f"server-{self._issued}.pem"
        secret = os.open(chain_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(secret, "wb") as file:
            file.write(leaf.private_key_and_cert_chain_pem.bytes())
        return Identity(name, self.root_file, chain_file, Pin.of_certificate(leaf.cert_chain_pems[0].bytes()))
