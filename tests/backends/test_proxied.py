"""A session behind a load balancer: the header of the PROXY protocol, then TLS, however TCP cuts them."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Any

import pytest

from dot_io._proxied import TLS_START, ProxiedTLSServer
from dot_io.errors import Failure, HandshakeError
from dot_io.tls import ClientContext, HandshakeCompleted, ServerContext, TLSClient, TLSServer
from dot_proto import AuthenticationPolicy, Cause, ConnectionClosed, Event, QueryReceived, make_query
from dot_proto.testing.duties import every_moment
from dot_proto.testing.exchange import End
from support.messages import just_before, pieces, stream_of
from support.pki import NAME, Pki
from support.pki import pki_fixture as pki_fixture
from support.serving import IDLE_LIMIT
from support.sessions import PLAIN, TLS_ENDS, check_ends_of_tls
from support.wire import Clock, Peer, Wire, both_versions, make_client, raw_client, the

HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 853\r\n"
BINARY = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([192, 0, 2, 7, 198, 51, 100, 1]) + b"\x9c\x40\x03\x55"
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
UNKNOWN = b"PROXY UNKNOWN\r\n"


class Behind:
    """A client, and a server that believes the header sent before its first octet."""

    def __init__(self, pki: Pki, *, stays: bool = True) -> None:
        self.clock = Clock()
        self.admitted: list[tuple[str, int]] = []
        self.stays = stays
        policy = AuthenticationPolicy.strict(NAME, trust_anchors=[pki.root.der])
        self.client = make_client(ClientContext(policy), self.clock)
        self.server = ProxiedTLSServer(
            ServerContext(pki.file(*pki.honest)), admit=self._admit, now=self.clock.now, handshake_timeout=3.0
        )
        self.wire = Wire(self.client, self.server, clock=self.clock)

    def _admit(self, host: str, port: int) -> bool:
        self.admitted.append((host, port))
        return self.stays

    def send(self, octets: bytes, size: int = 1000) -> list[Event]:
        return [event for part in pieces(octets, size) for event in self.server.receive_data(part, now=self.clock.now)]

    def is_over(self) -> bool:
        """Whether nothing was sent, and nothing that comes now changes anything."""
        assert self.server.is_finished
        assert self.server.data_to_send() == []
        assert self.server.next_timeout() is None
        before = list(self.admitted)
        assert self.send(HEADER) == []
        return self.admitted == before


@pytest.mark.parametrize("size", [1, 2, 17, 46, 47, 100_000])
@pytest.mark.parametrize(
    ("header", "admitted"),
    [(HEADER, [("192.0.2.7", 40_000)]), (BINARY, [("192.0.2.7", 40_000)]), (LOCAL, []), (UNKNOWN, [])],
    ids=["version 1", "version 2", "LOCAL", "UNKNOWN"],
)
def test_tls_begins_behind_the_header(pki: Pki, header: bytes, admitted: list[tuple[str, int]], size: int) -> None:
    """FR-34: also where both come in one read."""
    behind = Behind(pki)
    behind.wire.ask("example.com")
    events = behind.send(header + b"".join(behind.client.data_to_send()), size)
    behind.wire.flow()
    assert behind.admitted == admitted
    assert the(HandshakeCompleted, [*events, *behind.wire.server_events])
    assert the(QueryReceived, behind.wire.server_events)
    behind.wire.answer()
    behind.wire.flow()
    assert behind.admitted == admitted


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("wrong", [b"\x15\x03\x01\x00\x02\x02", b"PROXY TCP4 a b c d\r\n", HEADER[2:], bytes(5000)])
def test_what_is_no_header_ends_it(pki: Pki, wrong: bytes, size: int) -> None:
    """FR-34: at once; nothing is sent, nobody is admitted."""
    behind = Behind(pki)
    closed = the(ConnectionClosed, behind.send(wrong, size))
    assert isinstance(closed.error, HandshakeError)
    assert closed.error.failure is Failure.PROXY
    assert "PROXY" in str(closed.error)
    assert behind.is_over()
    assert not behind.admitted


def test_a_second_header_is_no_tls(pki: Pki) -> None:
    """FR-34: the first counts; a client cannot add its own."""
    behind = Behind(pki)
    closed = the(ConnectionClosed, behind.send(HEADER + HEADER.replace(b"192.0.2.7", b"192.0.2.8")))
    assert isinstance(closed.error, HandshakeError)
    assert closed.error.failure is Failure.NOT_TLS
    assert behind.admitted == [("192.0.2.7", 40_000)]


def test_who_may_not_stay(pki: Pki) -> None:
    """FR-34: before an octet of TLS is looked at."""
    behind = Behind(pki, stays=False)
    closed = the(ConnectionClosed, behind.send(HEADER + b"".join(behind.client.data_to_send())))
    assert (closed.cause, closed.error) == (Cause.LOCAL_CLOSE, None)
    assert behind.is_over()


@pytest.mark.parametrize("come", [0, 1, len(HEADER) - 1, len(HEADER)])
def test_the_header_has_the_time_of_the_handshake(pki: Pki, come: int) -> None:
    """FR-34: both together; an octet now and then does not make it longer."""
    behind = Behind(pki)
    began = behind.clock.now
    for octet in pieces(HEADER[:come], 1):
        behind.clock.now += 2.0 / len(HEADER)
        assert behind.server.receive_data(octet, now=behind.clock.now) == []
    assert behind.server.next_timeout() == began + 3.0
    assert behind.server.handle_timeout(now=just_before(began + 3.0)) == []
    behind.clock.now = began + 3.0
    closed = the(ConnectionClosed, behind.server.handle_timeout(now=behind.clock.now))
    assert isinstance(closed.error, HandshakeError)
    assert closed.error.failure is Failure.TIMED_OUT
    assert behind.is_over()


def test_the_end_inside_the_header(pki: Pki) -> None:
    """FR-34: as by a check that a load balancer makes of TCP alone."""
    behind = Behind(pki)
    assert behind.send(HEADER[:20]) == []
    closed = the(ConnectionClosed, behind.server.receive_eof(now=behind.clock.now))
    assert isinstance(closed.error, HandshakeError)
    assert closed.error.failure is Failure.END_OF_STREAM
    assert behind.is_over()


@pytest.mark.parametrize("header", [HEADER, BINARY])
def test_a_header_from_anybody_else_is_no_tls(pki: Pki, header: bytes) -> None:
    """FR-34: whoever connects directly cannot say to be another."""
    server = TLSServer(ServerContext(pki.file(*pki.honest)), now=0.0)
    closed = the(ConnectionClosed, server.receive_data(header + b"\x16\x03\x01", now=0.0))
    assert isinstance(closed.error, HandshakeError)
    assert closed.error.failure is Failure.NOT_TLS


# Inside TLS, as dnsdist sends it.


class Inside(Behind):
    """A load balancer that speaks TLS itself, with the handshake behind it."""

    def __init__(self, pki: Pki, version: ssl.TLSVersion | None = None, *, stays: bool = True) -> None:
        super().__init__(pki, stays=stays)
        self.peer = Peer(raw_client(version))
        self.wire = Wire(self.peer, self.server, clock=self.clock).flow()
        assert the(HandshakeCompleted, self.wire.server_events)

    def say(self, *parts: bytes) -> list[Event]:
        """Each part in a record of its own, and a read of its own; what it leads to."""
        before = len(self.wire.server_events)
        for part in parts:
            self.peer.say(part)
            self.wire.flow()
        return self.wire.server_events[before:]


QUERY = stream_of([make_query("example.com")])


@both_versions
@pytest.mark.parametrize("size", [1, 7, len(BINARY), 1000])
@pytest.mark.parametrize(
    ("header", "admitted"),
    [(HEADER, [("192.0.2.7", 40_000)]), (BINARY, [("192.0.2.7", 40_000)]), (LOCAL, []), (UNKNOWN, [])],
    ids=["version 1", "version 2", "LOCAL", "UNKNOWN"],
)
def test_a_header_inside_tls(
    pki: Pki, version: ssl.TLSVersion, header: bytes, admitted: list[tuple[str, int]], size: int
) -> None:
    """FR-34: before the first query, however it is cut; another one is no message."""
    inside = Inside(pki, version)
    events = inside.say(*pieces(header + QUERY, size))
    assert inside.admitted == admitted
    assert the(QueryReceived, events)
    assert the(QueryReceived, inside.say(QUERY))
    inside.wire.answer()
    inside.wire.flow()
    assert inside.peer.heard
    assert inside.admitted == admitted


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("wrong", [QUERY, b"PROXY TCP4 a b c d\r\n", TLS_START + HEADER, bytes(5000)])
def test_no_header_at_all(pki: Pki, wrong: bytes, size: int) -> None:
    """FR-34: whoever is passed on without one is not answered, and is told the end in order."""
    inside = Inside(pki)
    closed = the(ConnectionClosed, inside.say(*pieces(wrong, size)))
    assert isinstance(closed.error, HandshakeError)
    assert closed.error.failure is Failure.PROXY
    assert not inside.admitted
    assert (inside.peer.heard, inside.peer.has_close_notify) == (b"", True)
    inside.peer.close()
    inside.wire.flow()
    inside.server.receive_eof(now=inside.clock.now)
    assert inside.is_over()


def test_who_may_not_stay_is_told_inside_tls(pki: Pki) -> None:
    """FR-34: no query of it is taken."""
    inside = Inside(pki, stays=False)
    closed = the(ConnectionClosed, inside.say(HEADER + QUERY))
    assert (closed.cause, closed.error) == (Cause.LOCAL_CLOSE, None)
    assert (inside.peer.heard, inside.peer.has_close_notify) == (b"", True)


def test_a_header_inside_tls_has_the_time_of_an_idle_connection(pki: Pki) -> None:
    """FR-34: octets of it do not make that longer."""
    inside = Inside(pki)
    deadline = inside.server.next_timeout()
    assert deadline == inside.clock.now + IDLE_LIMIT
    inside.clock.now += 5.0
    assert inside.say(HEADER[:20]) == []
    assert inside.server.next_timeout() == deadline
    assert the(ConnectionClosed, inside.server.handle_timeout(now=deadline))


def test_a_header_before_tls_is_the_only_one(pki: Pki) -> None:
    """FR-34: a client behind a load balancer cannot say to be another."""
    behind = Behind(pki)
    peer = Peer(raw_client())
    assert behind.send(HEADER) == []
    wire = Wire(peer, behind.server, clock=behind.clock).flow()
    peer.say(HEADER.replace(b"192.0.2.7", b"192.0.2.8") + QUERY)
    wire.flow()
    assert behind.admitted == [("192.0.2.7", 40_000)]
    assert not [event for event in wire.server_events if isinstance(event, QueryReceived)]


class Before(TLSClient):
    """A client, and the load balancer's header in front of what it sends."""

    _has_header = False

    def data_to_send(self) -> list[bytes]:
        chunks = super().data_to_send()
        if chunks and not self._has_header:
            self._has_header = True
            return [HEADER, *chunks]
        return chunks


class First(TLSClient):
    """The load balancer itself, which ends TLS and begins it anew."""

    def _handshake_complete(self, now: float) -> list[Event]:
        events = super()._handshake_complete(now)
        with suppress(ssl.SSLError):  # where the test has taken the keys
            self._tls.write(BINARY)
        return events


@pytest.mark.parametrize("end", TLS_ENDS, ids=repr)
@pytest.mark.parametrize("client", [Before, First])
@pytest.mark.parametrize("kind", PLAIN)
def test_each_end_at_each_moment(pki: Pki, kind: str, client: type[TLSClient], end: End) -> None:
    """FR-34: the law that every session keeps: each fate is told, one end, and nothing is left to do."""
    admitted: list[str] = []

    class Admitting(ProxiedTLSServer):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, admit=lambda host, _: not admitted.append(host), **settings)

    make = PLAIN[kind].maker(pki, client=client, server=Admitting)
    for at_server in (False, True):
        for exchange in every_moment(make, end, at_server=at_server, octets=(0, 1, 100)):
            check_ends_of_tls(exchange)
    assert set(admitted) == {"192.0.2.7"}
