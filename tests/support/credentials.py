"""A server's certificate under an authority of our own, made anew for each run of the tests."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

from dot_io.tls import ServerContext
from dot_proto import AuthenticationPolicy, Pin

NAME = "dot.example"
"Whom the certificate is for."


@dataclass(frozen=True)
class Credentials:
    """A server's chain of leaf and issuer under a root; the leaf is for :data:`NAME`, 127.0.0.1 and ::1."""

    file: Path
    "Key and chain, in PEM."
    root_file: Path
    "The root, in PEM; the server does not send it."
    anchor: bytes
    "The root, in DER."
    leaf_pin: Pin
    issuer_pin: Pin
    stranger_file: Path
    "Another root, in PEM."
    stranger: bytes
    "The same, in DER."

    @classmethod
    def make(cls, home: Path) -> Credentials:
        """New keys and certificates, with their files in ``home``."""
        root, stranger = trustme.CA(), trustme.CA()
        leaf = root.create_child_ca().issue_cert(NAME, "127.0.0.1", "::1")
        file, root_file, stranger_file = home / "server.pem", home / "root.pem", home / "stranger.pem"
        leaf.private_key_and_cert_chain_pem.write_to_path(str(file))
        root.cert_pem.write_to_path(str(root_file))
        stranger.cert_pem.write_to_path(str(stranger_file))
        first, issuer = map(_der, leaf.cert_chain_pems)
        pins = Pin.of_certificate(first), Pin.of_certificate(issuer)
        return cls(file, root_file, _der(root.cert_pem), *pins, stranger_file, _der(stranger.cert_pem))

    @property
    def policy(self) -> AuthenticationPolicy:
        """By name, up to our own root."""
        return AuthenticationPolicy.strict(NAME, trust_anchors=[self.anchor])

    @property
    def context(self) -> ServerContext:
        """The server's."""
        return ServerContext(self.file)


def _der(pem: trustme.Blob) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.bytes().decode())
