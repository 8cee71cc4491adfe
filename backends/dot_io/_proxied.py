"""The TLS session of a client that a load balancer passes on: a header of the PROXY protocol comes first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dot_proto import Event, ServerConfiguration
from dot_proto.arguments import check_buffer, check_time

from ._proxy_protocol import ProxyHeaderError, parse_header
from .errors import Failure, HandshakeError
from .tls import HANDSHAKE_TIMEOUT, ServerContext, TLSServer

Admit = Callable[[str, int], bool]
"Told the true client's address and port; whether it may stay."


class ProxiedTLSServer(TLSServer):
    """A server's session that takes its first octets for a header; whatever is none ends it.

    ``admit`` is called once the header is there, before an octet of TLS is looked at; it is not called where the header
    names nobody, as in a health check: then the client is whoever has connected.  The header's time is a part of the
    handshake's.
    """

    def __init__(
        self,
        context: ServerContext,
        configuration: ServerConfiguration | None = None,
        *,
        admit: Admit,
        now: float,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
        share_records: bool = False,
    ) -> None:
        super().__init__(
            context, configuration, now=now, handshake_timeout=handshake_timeout, share_records=share_records
        )
        self._admit: Final = admit
        self._header: bytearray | None = bytearray()  # what has come of it, until it is whole

    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        if self._header is None or self.has_ended:
            return super().receive_data(data, now=now)
        check_time("now", now)
        check_buffer("data", data)
        self._now = now
        self._header += data
        try:
            header = parse_header(self._header)
        except ProxyHeaderError as error:
            events = self._engine.fail(HandshakeError(str(error), Failure.PROXY), now=now)
            self._settle(events, now)
            return events
        if header is None:
            return []
        rest = bytes(self._header[header.length :])
        self._header = None
        if header.client is not None and not self._admit(*header.client):
            return self.abort(now=now)
        return super().receive_data(rest, now=now)
