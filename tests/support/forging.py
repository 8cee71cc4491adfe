"""A scripted server whose TLS 1.3 records are made by hand, for what OpenSSL refuses to send."""

from __future__ import annotations

import socket
import ssl
import tempfile
from pathlib import Path

from support.messages import stream_of
from support.peers import Caller
from support.records import ALERT, DATA, Forger

WARNING, FATAL = 1, 2
"Levels of alerts (RFC 8446, section 6)."

CLOSE_NOTIFY, INTERNAL_ERROR, USER_CANCELED = 0, 80, 90
"Alerts (RFC 8446, section 6)."


class ForgingCaller(Caller):
    """A client that Python's ssl reads from; all that is sent to it is counted, and so goes through here."""

    def __init__(self, sock: ssl.SSLSocket, forger: Forger) -> None:
        super().__init__(sock)
        self._forger = forger

    def record(self, kind: int, data: bytes) -> bytes:
        """The next record."""
        return self._forger.record(kind, data)

    def alert(self, level: int, description: int) -> bytes:
        """The next record, an alert."""
        return self.record(ALERT, bytes([level, description]))

    def data(self, *messages: bytes) -> bytes:
        """The next record, with these messages."""
        return self.record(DATA, stream_of(messages))

    def send_octets(self, *octets: bytes) -> None:
        """In one write, past Python's ssl."""
        left = b"".join(octets)
        while left:
            left = left[socket.socket.send(self.socket, left) :]

    def send(self, *messages: bytes) -> None:
        self.send_octets(self.data(*messages))


def accept_and_forge(sock: socket.socket, context: ssl.SSLContext) -> ForgingCaller:
    """Shake hands as a server; raises :class:`OSError` where that fails."""
    context.num_tickets = 0  # they would be records that nobody has counted
    with tempfile.TemporaryDirectory() as home:
        log = Path(home, "keys")
        context.keylog_filename = str(log)
        return ForgingCaller(context.wrap_socket(sock, server_side=True), Forger(log, b"", is_server=True))
