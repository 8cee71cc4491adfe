"""Records that bring nothing to the engine: how many of them a session works on, and what they make it send."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dot_io.tls import ClientContext, ServerContext, TLSClient, TLSServer
from dot_io.tls.session import MAX_REPLIES, MAX_WITHOUT_DATA
from dot_proto import Cause, ConnectionClosed, Event, Fault, ResponseReceived, State, make_query
from support.messages import Clock, pieces, response_to, stream_of
from support.pki import Pki
from support.pki import pki_fixture as pki_fixture
from support.records import ALERT, DATA, HANDSHAKE, HELLO_REQUEST, SUITE, Forger, records
from support.sessions import by_name
from support.wire import TLS12, TLS13, Peer, Wire, make_client, raw_client, raw_server

TICKET = (
    b"\x04\x00\x00\x35" + (7200).to_bytes(4) + bytes(4) + b"\x08" + bytes(8) + b"\x00\x20" + bytes(32) + b"\x00\x00"
)
"NewSessionTicket (RFC 8446, section 4.6.1)."

NO_RENEGOTIATION = b"\x01\x64"
"A warning (RFC 5246, section 7.2.2)."

READ = 65_536
"Octets of one read of a driver's."

Make = Callable[["Attacked"], bytes]


@dataclass
class Attacked:
    """A session of ours behind its handshake, and who forges its peer's records."""

    session: TLSClient | TLSServer
    forger: Forger
    wire: Wire

    def receive(self, octets: bytes) -> list[Event]:
        return self.session.receive_data(octets, now=self.wire.now)

    @property
    def is_open(self) -> bool:
        return self.session.connection.state is State.OPEN


def attacked(pki: Pki, home: Path, version: ssl.TLSVersion, *, client: bool) -> Attacked:
    clock = Clock()
    keylog = home / f"keys-{next(NUMBERS)}"
    if client:
        context = raw_server(pki.file(*pki.honest), version, ciphers=SUITE, tickets=0)
        context.options |= ssl.OP_NO_TICKET
        context.keylog_filename = str(keylog)
        ours = make_client(ClientContext(by_name(pki)), clock)
        wire = Wire(ours, Peer(context, is_server=True), clock=clock).flow()
        return Attacked(ours, Forger(keylog, wire.from_client + wire.from_server, is_server=True), wire)
    context = raw_client(version)
    context.set_ciphers(SUITE)
    context.keylog_filename = str(keylog)
    server = TLSServer(ServerContext(pki.file(*pki.honest)), now=clock.now)
    wire = Wire(Peer(context), server, clock=clock).flow()
    return Attacked(server, Forger(keylog, wire.from_client + wire.from_server, is_server=False), wire)


NUMBERS = count()


def hello(victim: Attacked) -> bytes:
    """The client's wish to renegotiate."""
    return next(record.body for record in records(victim.wire.from_client))


FLOODS: dict[str, tuple[ssl.TLSVersion, bool, Make]] = {
    **{
        f"{name}-to-{'client' if client else 'server'}": (version, client, make)
        for client in (True, False)
        for name, version, make in [
            ("keys-and-reply", TLS13, lambda victim: victim.forger.update_key()),
            ("keys", TLS13, lambda victim: victim.forger.update_key(is_reply_wanted=False)),
            ("empty-1.2", TLS12, lambda victim: victim.forger.record(DATA, b"")),
            ("empty-1.3", TLS13, lambda victim: victim.forger.record(DATA, b"")),
            ("warnings", TLS12, lambda victim: victim.forger.record(ALERT, NO_RENEGOTIATION)),
        ]
    },
    "tickets": (TLS13, True, lambda victim: victim.forger.record(HANDSHAKE, TICKET)),
    "hello-requests": (TLS12, True, lambda victim: victim.forger.record(HANDSHAKE, HELLO_REQUEST)),
    "hellos": (TLS12, False, lambda victim: victim.forger.record(HANDSHAKE, hello(victim))),
}
"Version, whether the client is attacked, and one record."


def flood(victim: Attacked, make: Make, octets: int) -> bytes:
    made = bytearray()
    while len(made) < octets:
        made += make(victim)
    return bytes(made)


@pytest.mark.parametrize("size", [27, 1_000, READ])
@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_the_connection(pki: Pki, tmp_path: Path, name: str, size: int) -> None:
    """FR-53: as a fault of the peer's TLS, before much has been worked on, however it is cut."""
    version, client, make = FLOODS[name]
    victim = attacked(pki, tmp_path, version, client=client)
    reads = pieces(flood(victim, make, 2 * READ), size)
    [closed] = next(events for read in reads if (events := victim.receive(read)))
    assert isinstance(closed, ConnectionClosed)
    assert closed.error is not None
    assert (closed.cause, closed.error.fault) == (Cause.TRANSPORT_FAILED, Fault.TLS)
    assert victim.session._without_data <= MAX_WITHOUT_DATA + size
    # A reply is no longer than what asks for it, close_notify and an alert aside.
    assert len(b"".join(victim.session.data_to_send())) <= MAX_WITHOUT_DATA + size + 100


@pytest.mark.parametrize("name", ["keys-and-reply-to-client", "keys-and-reply-to-server", "hello-requests"])
def test_reading_stops_while_replies_are_not_taken(pki: Pki, tmp_path: Path, name: str) -> None:
    """FR-53: a driver that cannot send leaves them with the session, which says that it wants no more."""
    version, client, make = FLOODS[name]
    victim = attacked(pki, tmp_path, version, client=client)
    victim.session.data_to_send()
    assert victim.session.wants_data
    received = 0
    while victim.session.wants_data:
        octets = make(victim)
        received += len(octets)
        assert victim.receive(octets) == []
    assert MAX_REPLIES / 2 < received < MAX_REPLIES * 2
    victim.session.data_to_send()
    assert victim.session.wants_data


def test_queries_that_are_not_taken_do_not_stop_reading(pki: Pki, tmp_path: Path) -> None:
    """The server may wait for its answers to be read before it reads more queries: then nobody would move."""
    victim = attacked(pki, tmp_path, TLS13, client=True)
    for number in range(1000):
        victim.session.connection.send_query(make_query(f"{number}.example"), now=victim.wire.now)
    assert victim.session.wants_data


def test_a_handshake_that_is_not_taken_does_not_stop_reading(pki: Pki) -> None:
    """Not even a server's first flight with a long chain."""
    context = ServerContext(pki.file(pki.rsa, *[pki.intermediate] * 10))
    server = TLSServer(context, now=1000.0)
    assert server.receive_data(b"".join(Peer(raw_client()).data_to_send()), now=1000.0) == []
    assert server._outgoing.pending > MAX_REPLIES
    assert server.wants_data


def test_changes_of_keys_between_answers_are_welcome(pki: Pki, tmp_path: Path) -> None:
    """However many there are in a connection's life (RFC 8446, section 4.6.3)."""
    victim = attacked(pki, tmp_path, TLS13, client=True)
    answered = 0
    for number in range(MAX_WITHOUT_DATA // 27 + 100):
        victim.wire.ask(f"{number}.example")
        heard = len(victim.wire.heard)
        victim.wire.flow_to_server()
        answer = stream_of([response_to(victim.wire.heard[heard + 2 :])])
        events = victim.receive(victim.forger.update_key() + victim.forger.record(DATA, answer))
        answered += sum(isinstance(event, ResponseReceived) for event in events)
    assert answered == MAX_WITHOUT_DATA // 27 + 100
    assert victim.is_open


def test_the_longest_record_may_come_in_single_octets(pki: Pki, tmp_path: Path) -> None:
    """Behind a ticket, and a change of keys."""
    victim = attacked(pki, tmp_path, TLS13, client=True)
    victim.wire.ask("example.com")
    octets = victim.forger.record(HANDSHAKE, TICKET) + victim.forger.update_key()
    # Two octets of data and as much padding as there may be: zeros behind the type (RFC 8446, section 5.4).
    octets += victim.forger.record(0, b"\xff\xff" + bytes([DATA]) + bytes(16_381))
    for octet in pieces(octets, 1):
        victim.receive(octet)
    assert victim.is_open


RECORDS = st.sampled_from(["keys", "keys-and-reply", "ticket", "data"])


@settings(suppress_health_check=list(HealthCheck), max_examples=30)
@given(st.lists(st.tuples(RECORDS, st.integers(1, 700)), max_size=8), st.sampled_from([999, 5_000, READ]))
def test_only_a_row_without_data_is_a_flood(
    pki: Pki, tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[str, int]], size: int
) -> None:
    """Mixed in any way and cut anywhere: the end comes with more than the limit in a row, and never before."""
    victim = attacked(pki, tmp_path_factory.mktemp("keys"), TLS13, client=True)
    row = longest = 0
    stream = bytearray()
    for name, times in runs:
        for _ in range(times if name != "data" else 1):
            octets = _record(victim.forger, name)
            row = 0 if name == "data" else row + len(octets)
            longest = max(longest, row)
            stream += octets
    for piece in pieces(bytes(stream), size):
        victim.receive(piece)
        victim.session.data_to_send()
    # A row is counted in whole reads, the first and the last of which may hold data as well.
    if longest <= MAX_WITHOUT_DATA:
        assert victim.is_open
    elif longest > MAX_WITHOUT_DATA + 2 * size:
        assert not victim.is_open


def _record(forger: Forger, name: str) -> bytes:
    match name:
        case "keys":
            return forger.update_key(is_reply_wanted=False)
        case "keys-and-reply":
            return forger.update_key()
        case "ticket":
            return forger.record(HANDSHAKE, TICKET)
        case _:
            return forger.record(DATA, b"\xff")  # of a message of 65535 octets
