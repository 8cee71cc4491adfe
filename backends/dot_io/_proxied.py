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

TLS_START: Final = b"\x16"
"How every TLS session begins (RFC 8446, section 5.1), and no header does."


class ProxiedTLSServer(TLSServer):
    """A server's session that waits for a header; whatever is none ends it.

    The header comes before TLS, as its specification has it, or first inside TLS, as dnsdist sends it.  Either way it
    must come, so a client that is passed on without one gains nothing by a header of its own: all others would be
    refused.  Before TLS its time is a part of the handshake's, inside it that of an idle connection.

    ``admit`` is called once the header is there, before anything behind it is looked at.  It is not called where the
    header names nobody, as in a health check: then the client is whoever has connected.
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
        self._is_inside = False

    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        if self._header is None or self._is_inside or self.has_ended:
            return super().receive_data(data, now=now)
        check_time("now", now)
        check_buffer("data", data)
        if not self._header and bytes(data[:1]) == TLS_START:
            self._is_inside = True
            return super().receive_data(data, now=now)
        self._now = now
        rest, events = self._behind_header(data, now)
        self._settle(events, now)
        return super().receive_data(rest, now=now) if rest else events

    def _feed(self, data: bytes, now: float) -> list[Event]:
        if self._header is None:
            return super()._feed(data, now)
        rest, events = self._behind_header(data, now)
        return super()._feed(rest, now) if rest else events

    def _behind_header(self, data: bytes, now: float) -> tuple[bytes, list[Event]]:
        """What follows the header, or how the connection has ended for the lack of one."""
        assert self._header is not None
        self._header += data
        try:
            header = parse_header(self._header)
        except ProxyHeaderError as error:
            return b"", self._engine.fail(HandshakeError(str(error), Failure.PROXY), now=now)
        if header is None:
            return b"", []
        rest = bytes(self._header[header.length :])
        self._header = None
        if header.client is None or self._admit(*header.client):
            return rest, []
        self._engine.close(now=now, timeout=0.0)
        return b"", self._engine.handle_timeout(now=now)
