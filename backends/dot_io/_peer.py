"""Who asks a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dot_proto import CertificateFacts
from dot_proto.arguments import check_instance, check_text, check_whole


@dataclass(frozen=True, slots=True)
class Peer:
    """Who asks, as far as the transport knows."""

    host: str
    "The client's address."
    port: int
    "The client's port."
    certificate: CertificateFacts | None = None
    "The client's certificate, which its chain vouches for; ``None`` where the context asks for none."

    def __post_init__(self) -> None:
        check_text("host", self.host, "an address as text")
        check_whole("port", self.port)
        if self.certificate is not None:
            check_instance("certificate", self.certificate, CertificateFacts)


def peer_of(address: tuple[Any, ...]) -> Peer:
    """The client as the address of its socket names it; one of IPv4 on a socket of both families is still of IPv4."""
    host, port, *_ = address
    return Peer(plain_address(host), port)


def plain_address(host: str) -> str:
    """An IPv4 address that was mapped into IPv6 (RFC 4291, section 2.5.5.2) as what it is; any other as it stands."""
    return host[7:] if host.startswith("::ffff:") and "." in host else host
