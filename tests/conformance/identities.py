"""A certificate authority, a server under it, and a stranger; with the policies that tell them apart."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from dot_io.tls import ClientContext, ServerContext
from dot_proto import AuthenticationPolicy, Pin

NAME = "dns.example"


@dataclass(frozen=True)
class Identities:
    """The server's certificate is for :data:`NAME`, 127.0.0.1 and ::1; it sends its issuer's along."""

    server: ServerContext
    certificate_file: Path
    "Chain and key, in PEM."
    anchor: bytes
    "The issuer's certificate, in DER."
    leaf_pin: Pin
    issuer_pin: Pin
    stranger: bytes
    "The certificate of another issuer, in DER."
    stranger_pin: Pin

    @property
    def policy(self) -> AuthenticationPolicy:
        """By name, up to our own authority."""
        return AuthenticationPolicy.strict(NAME, trust_anchors=[self.anchor])

    def context(self, **options: Any) -> ClientContext:
        """A client's context for :attr:`policy`."""
        return ClientContext(self.policy, **options)

    def plain_context(self) -> ssl.SSLContext:
        """The server's identity for Python's own ssl."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate_file)
        return context

    def server_context(self, **options: Any) -> ServerContext:
        """The same server under other TLS settings."""
        return ServerContext(self.certificate_file, **options)


def make_identities(home: Path, trustme: ModuleType) -> Identities:
    """Make keys and certificates, and put what the server needs into ``home``."""
    authority, stranger = trustme.CA(), trustme.CA()
    leaf = authority.issue_cert(NAME, "127.0.0.1", "::1")
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems) + authority.cert_pem.bytes()
    file = home / "server.pem"
    file.write_bytes(leaf.private_key_pem.bytes() + chain)
    issuer, other = (_der(one.cert_pem.bytes()) for one in (authority, stranger))
    return Identities(
        ServerContext(file),
        file,
        issuer,
        Pin.of_certificate(_der(leaf.cert_chain_pems[0].bytes())),
        Pin.of_certificate(issuer),
        other,
        Pin.of_certificate(other),
    )


def _der(pem: bytes) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.decode())
