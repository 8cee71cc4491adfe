"""TLS sessions before the handshake is through: octets from nobody, and a peer's own octets changed on the way."""

from __future__ import annotations

import tempfile
from functools import cache
from itertools import count
from pathlib import Path

from dot_io.tls import ClientContext, HandshakeCompleted, ServerContext, TLSClient, TLSServer
from dot_proto import (
    AuthenticationPolicy,
    ConnectionClosed,
    Event,
    PeerAuthenticated,
    QueryLost,
    QueryReceived,
    RemoteProtocolError,
    make_query,
)
from fuzzing.program import cut, picked
from support.credentials import Credentials
from support.scenes import counting

DELAYS = (0.0, 0.0, 0.0, 0.0, 0.0, 2.0)
"Seconds between two pieces; the handshake may take 5."

ROUNDS = 8
"Flights each way at the most; a handshake has three (RFC 8446, section 2)."


def target(data: bytes) -> None:
    """A typed failure, and never a query octet to anybody who has proved nothing (AUT-1, CON-18)."""
    setting, size, octets = data[0] if data else 0, data[1] if data[1:] else 0, data[2:]
    made = _contexts()
    session = Session(
        client_session(picked(made[1:], setting >> 2)) if setting & 1 else TLSServer(made[0], now=0.0),
        size=size,
        delay=picked(DELAYS, setting >> 4),
    )
    if setting & 2:
        peer = TLSServer(made[0], now=0.0) if setting & 1 else client_session(made[1])
        session.meet(peer, changes_of(octets))
    else:
        session.receive(octets)
        assert not session.has_shaken_hands
    session.finish()


def client_session(context: ClientContext) -> TLSClient:
    """A client that would ask at once, if it could."""
    client = TLSClient(context, server=("192.0.2.53", 853), entropy=counting(), now=0.0)
    client.connection.send_query(make_query("secret.example"), now=0.0)
    return client


def changes_of(octets: bytes) -> dict[int, int]:
    """Changes to a stream: by offset, of two octets, what is to be exclusive-ored."""
    return {int.from_bytes(octets[at : at + 2]) % 4096: octets[at + 2] for at in range(0, len(octets) - 2, 3)}


@cache
def _contexts() -> tuple[ServerContext, ClientContext, ClientContext, ClientContext]:
    # Made once for a process: keys are slow.  No two runs agree in every octet anyway, since OpenSSL draws its own.
    with tempfile.TemporaryDirectory() as home:
        made = Credentials.make(Path(home))
        policies = made.policy, AuthenticationPolicy.strict(pins=[made.leaf_pin]), AuthenticationPolicy.opportunistic()
        return (made.context, *map(ClientContext, policies))


class Session:
    """One session, held to its promises."""

    def __init__(self, session: TLSClient | TLSServer, *, size: int, delay: float) -> None:
        self.session = session
        self.events: list[Event] = []
        self._size = size
        self._delay = delay
        self._now = 0.0

    @property
    def has_shaken_hands(self) -> bool:
        return any(isinstance(event, HandshakeCompleted) for event in self.events)

    def meet(self, peer: TLSClient | TLSServer, changes: dict[int, int]) -> None:
        """Let the two talk, with changes to what the peer says."""
        offset = count()
        for _ in range(ROUNDS):
            peer.receive_data(b"".join(self.session.data_to_send()), now=self._now)
            flight = b"".join(peer.data_to_send())
            self.receive(bytes(octet ^ changes.get(next(offset), 0) for octet in flight))

    def receive(self, stream: bytes) -> None:
        for piece in cut(stream, self._size):
            self.events += self.session.receive_data(piece, now=self._now)
            self._now += self._delay
            deadline = self.session.next_timeout()
            if deadline is not None and deadline <= self._now:
                self.events += self.session.handle_timeout(now=self._now)
        self._keeps_silent()

    def finish(self) -> None:
        """The other side hangs up; then everything is over, in so many words."""
        session = self.session
        session.data_to_send()
        self.events += session.receive_eof(now=self._now)
        session.data_to_send()
        self.events += session.handle_timeout(now=self._now + 1e6)
        session.data_to_send()  # where something was owed, close_notify leaves last of all
        closed = self.events[-1]
        assert isinstance(closed, ConnectionClosed)
        assert not any(isinstance(event, ConnectionClosed) for event in self.events[:-1])
        self._keeps_silent()
        if not self.has_shaken_hands:
            assert isinstance(closed.error, RemoteProtocolError)
            assert str(closed.error)
        assert session.is_finished
        assert session.data_to_send() == []
        assert session.next_timeout() is None
        assert session.receive_data(b"\x16", now=self._now + 1e6) == []

    def _keeps_silent(self) -> None:
        """Nobody has been asked, or heard, before there was a handshake and a verdict."""
        kinds = [type(event) for event in self.events]
        assert HandshakeCompleted in kinds or not {PeerAuthenticated, QueryReceived} & set(kinds)
        if PeerAuthenticated not in kinds:
            assert self.session.connection.data_to_send() == []
            assert not any(isinstance(event, QueryLost) and event.was_sent for event in self.events)
