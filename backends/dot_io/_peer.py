"""Who asks a server."""

from __future__ import annotations

from dataclasses import dataclass

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
