"""Certificates of every kind that a server may show, honest and not, with their private keys.

Two authorities that might be trusted, each a root with an intermediate; servers under the first; and an attacker,
who has keys of his own and every certificate that is public.  All is made at test time: no key is ever stored.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from dot_proto.testing import chains
from dot_proto.testing.chains import CLIENT as CLIENT
from dot_proto.testing.chains import DAY as DAY
from dot_proto.testing.chains import NAME as NAME
from dot_proto.testing.chains import SERVER as SERVER
from dot_proto.testing.chains import Identity as Identity
from dot_proto.testing.chains import Key


def new_key() -> Key:
    """A cheap key, P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def issue(subject: str, issuer: Identity | None = None, *, key: Key | None = None, **more: Any) -> Identity:
    """As the kit's, but with a key that nobody else has, and valid now."""
    return chains.issue(subject, issuer, key=key or new_key(), at=datetime.now(UTC), **more)


class Pki:
    """Everybody; who is asked for is made then."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def file(self, *chain: Identity) -> Path:
        """A file for a server that sends these certificates, in this order, and has the key of the first."""
        text = b"".join([chain[0].key_pem, *(one.pem for one in chain)])
        file = self._home / f"{hashlib.sha256(text).hexdigest()}.pem"
        file.write_bytes(text)
        return file

    # The authority that is trusted.

    @cached_property
    def root(self) -> Identity:
        return issue("root.test", is_ca=True, key=ec.generate_private_key(ec.SECP384R1()))

    @cached_property
    def intermediate(self) -> Identity:
        return issue("intermediate.test", self.root, is_ca=True)

    @cached_property
    def leaf(self) -> Identity:
        return issue(NAME, self.intermediate)

    @cached_property
    def honest(self) -> tuple[Identity, ...]:
        """The chain as the server sends it; the root need not be sent (RFC 8446, section 4.4.2)."""
        return self.leaf, self.intermediate

    # Servers that are not what a policy by name asks for.

    @cached_property
    def expired(self) -> Identity:
        return issue(NAME, self.intermediate, begins=-30 * DAY, ends=-3 * DAY - timedelta(hours=1))

    @cached_property
    def not_yet_valid(self) -> Identity:
        return issue(NAME, self.intermediate, begins=5 * DAY + timedelta(hours=1))

    @cached_property
    def wrong_name(self) -> Identity:
        return issue("other.test", self.intermediate, names=["other.test", "192.0.2.1"])

    @cached_property
    def cn_only(self) -> Identity:
        return issue(NAME, self.intermediate, names=[])

    @cached_property
    def wildcard(self) -> Identity:
        return issue("*.dot.test", self.intermediate, names=["*.dot.test"])

    @cached_property
    def ip_only(self) -> Identity:
        return issue("addresses", self.intermediate, names=["127.0.0.1", "::1"])

    @cached_property
    def client_only(self) -> Identity:
        return issue(NAME, self.intermediate, usage=CLIENT)

    @cached_property
    def self_signed(self) -> Identity:
        return issue(NAME)

    @cached_property
    def rsa(self) -> Identity:
        return issue(NAME, self.intermediate, key=rsa.generate_private_key(65_537, 2048))

    @cached_property
    def ed25519(self) -> Identity:
        return issue(NAME, self.intermediate, key=ed25519.Ed25519PrivateKey.generate())

    @cached_property
    def expired_intermediate(self) -> Identity:
        return issue("intermediate.test", self.root, is_ca=True, begins=-30 * DAY, ends=-2 * DAY)

    @cached_property
    def under_expired(self) -> Identity:
        return issue(NAME, self.expired_intermediate)

    @cached_property
    def revived_intermediate(self) -> Identity:
        """The expired intermediate's name and key under new dates, and under a worthless signature."""
        expired = self.expired_intermediate
        return issue("intermediate.test", self.root, signed_by=self.attacker, key=expired.key, is_ca=True)

    # Others, and the attacker.

    @cached_property
    def customer(self) -> Identity:
        """Another, honest customer of the same authority."""
        return issue("customer.test", self.intermediate, names=["customer.test"])

    @cached_property
    def other_root(self) -> Identity:
        """Another authority; some policies trust it too."""
        return issue("other-root.test", is_ca=True)

    @cached_property
    def other_leaf(self) -> Identity:
        """A certificate for the very name, from the other authority."""
        return issue(NAME, self.other_root)

    @cached_property
    def attacker(self) -> Identity:
        return issue(NAME)

    @cached_property
    def forged(self) -> Identity:
        """Names the true intermediate as issuer, key identifier included; the attacker signed it."""
        return issue(NAME, self.intermediate, signed_by=self.attacker)

    @cached_property
    def under_leaf(self) -> Identity:
        """Names the honest server as issuer, which is no authority."""
        return issue(NAME, self.leaf, signed_by=self.attacker)

    @cached_property
    def under_customer(self) -> Identity:
        """Truly signed by another customer of the authority, who is no authority."""
        return issue(NAME, self.customer)

    @cached_property
    def rogue_intermediate(self) -> Identity:
        """Names and signatures as the true one's, but for the key."""
        return issue("intermediate.test", issue("root.test", is_ca=True), is_ca=True)

    @cached_property
    def under_rogue(self) -> Identity:
        return issue(NAME, self.rogue_intermediate)

    @cached_property
    def respun_intermediate(self) -> Identity:
        """The true intermediate's key in a certificate that the attacker wrote and could not have signed."""
        return issue("respun.test", self.root, signed_by=self.attacker, key=self.intermediate.key, is_ca=True)

    @cached_property
    def under_respun(self) -> Identity:
        return issue(NAME, self.respun_intermediate, signed_by=self.attacker)

    @cached_property
    def respun_leaf(self) -> Identity:
        """The honest server's key in a certificate that makes it an authority."""
        return issue("respun-leaf.test", self.root, signed_by=self.attacker, key=self.leaf.key, is_ca=True)

    @cached_property
    def under_respun_leaf(self) -> Identity:
        return issue(NAME, self.respun_leaf, signed_by=self.attacker)


@pytest.fixture(scope="session", name="pki")
def pki_fixture(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Everybody, with a place for their files."""
    return Pki(tmp_path_factory.mktemp("pki"))
