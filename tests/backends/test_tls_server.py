"""Our server's side of TLS: whom it answers and whom it does not, and how it lets go of a client (TLS-5, FRM-16,
SRV-3, CON-14, CON-23).
"""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dot_io.errors import Failure, HandshakeError
from dot_io.tls import HANDSHAKE_TIMEOUT, ClientContext, HandshakeCompleted, ServerContext, TLSServer
from dot_io.tls.server import LINGER_TIMEOUT
from dot_proto import (
    AuthenticationPolicy,
    Cause,
    ConnectionClosed,
    Event,
    Fault,
    QueryReceived,
    ServerConfiguration,
    State,
    make_query,
)
from support.messages import Clock, just_before, pieces, response_to, stream_of
from support.pki import NAME, Pki
from support.pki import pki_fixture as pki_fixture
from support.records import ALERT, CLOSE_NOTIFY, DATA, SUITE, Forger, records
from support.wire import TLS12, TLS13, Peer, Wire, both_versions, make_client, raw_client, the

QUERIES = [make_query(f"{number}.example", message_id=number) for number in (1, 2, 3)]


def make_server(pki: Pki, clock: Clock) -> TLSServer:
    context = ServerContext(pki.file(*pki.honest))
    return TLSServer(context, ServerConfiguration(padding_block=None), now=clock.now)


def met(pki: Pki, version: ssl.TLSVersion = TLS13, context: ssl.SSLContext | None = None) -> Wire:
    """Our server and a client of OpenSSL's, behind the handshake."""
    clock = Clock()
    return Wire(Peer(context or raw_client(version)), make_server(pki, clock), clock=clock).flow()


def failure(wire: Wire, events: list[Event]) -> HandshakeError:
    """The error; after a check that nothing more will come of this connection."""
    [closed] = events
    assert isinstance(closed, ConnectionClosed)
    assert closed.cause is Cause.TRANSPORT_FAILED
    assert isinstance(closed.error, HandshakeError)
    wire.flow()
    assert wire.server.is_finished
    assert wire.server.next_timeout() is None
    assert wire.server.receive_data(stream_of(QUERIES), now=wire.now) == []
    assert wire.server.data_to_send() == []
    return closed.error


def answered(wire: Wire) -> list[int]:
    """The ids of the messages that the client has."""
    stream, found = wire.client.heard, []
    while stream:
        found.append(int.from_bytes(stream[2:4]))
        stream = stream[2 + int.from_bytes(stream[:2]) :]
    return found


# The handshake.


@both_versions
@pytest.mark.parametrize("size", [None, 1, 100])
@pytest.mark.parametrize("offered", [["h2"], ["h2", "http/1.1"], ["dot2", "do"]])
def test_a_client_of_another_protocol(pki: Pki, version: ssl.TLSVersion, size: int | None, offered: list[str]) -> None:
    """TLS-5 (RFC 7301, section 3.2): it is told so by alert 120, and gets no answer."""
    clock = Clock()
    wire = Wire(Peer(raw_client(version, alpn=offered)), make_server(pki, clock), size=size, clock=clock).flow()
    assert wire.from_server == bytes([ALERT, 3, 3, 0, 2, 2, 120])
    assert wire.client.error is not None
    assert "no application protocol" in str(wire.client.error)
    error = failure(wire, wire.server_events)
    assert error.failure is Failure.NO_APPLICATION_PROTOCOL
    assert ", ".join(offered) in str(error)
    assert wire.heard == b""


@both_versions
@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("offered", [["h2"], ["h2", "dot"]])
def test_a_client_hello_in_many_records(pki: Pki, version: ssl.TLSVersion, size: int, offered: list[str]) -> None:
    """TLS-5: anybody on the way may cut the records anew (RFC 8446, section 5.1), and saves no client by that."""
    clock = Clock()
    client, server = Peer(raw_client(version, alpn=offered)), make_server(pki, clock)
    wire = Wire(client, server, clock=clock)
    [hello] = records(b"".join(client.data_to_send()))
    for piece in pieces(hello.body, size):
        wire.server_events += server.receive_data(b"\x16\x03\x01" + len(piece).to_bytes(2) + piece, now=wire.now)
    wire.flow()
    if "dot" in offered:
        assert the(HandshakeCompleted, wire.server_events).alpn == "dot"
    else:
        assert wire.from_server == bytes([ALERT, 3, 3, 0, 2, 2, 120])
        assert failure(wire, wire.server_events).failure is Failure.NO_APPLICATION_PROTOCOL


@both_versions
@pytest.mark.parametrize("offered", [[], ["dot"], ["h2", "dot"]])
def test_clients_of_ours(pki: Pki, version: ssl.TLSVersion, offered: list[str]) -> None:
    """TLS-5: whoever offers nothing is not asked (RFC 7858 has no ALPN)."""
    wire = met(pki, version, raw_client(version, alpn=offered))
    assert the(HandshakeCompleted, wire.server_events).alpn == ("dot" if offered else None)
    assert wire.client.error is None


PLAIN = stream_of([make_query("example.com")])


@pytest.mark.parametrize(
    "octets",
    [PLAIN, stream_of(QUERIES), b"GET / HTTP/1.1\r\nHost: dot.test\r\n\r\n", b"SSH-2.0-x\r\n", bytes(100)],
    ids=["dns", "more-dns", "http", "ssh", "zeros"],
)
@pytest.mark.parametrize("size", [1, 100])
def test_a_client_that_does_not_speak_tls(pki: Pki, octets: bytes, size: int) -> None:
    """FRM-16, TLS-4 (RFC 7858, section 3.1): a TLS alert or nothing; no DNS octet, and no FORMERR."""
    wire = met(pki)
    server = make_server(pki, wire.clock)
    wire = Wire(Peer(raw_client()), server, clock=wire.clock)
    events = [event for piece in pieces(octets, size) for event in server.receive_data(piece, now=wire.now)]
    assert {record.kind for record in records(b"".join(server.data_to_send()))} <= {ALERT}
    assert failure(wire, events).failure is Failure.NOT_TLS


@given(st.binary(min_size=1, max_size=200), st.sampled_from([b"", b"\x16\x03\x01", PLAIN]))
def test_any_octets_are_answered_by_alerts_alone(pki: Pki, octets: bytes, start: bytes) -> None:
    """FRM-16: and nothing raises."""
    server = make_server(pki, Clock())
    events = server.receive_data(start + octets, now=1000.0) or server.receive_eof(now=1000.0)
    assert isinstance(the(ConnectionClosed, events).error, HandshakeError)
    assert {record.kind for record in records(b"".join(server.data_to_send()))} <= {ALERT}
    assert server.is_finished


@both_versions
def test_a_client_that_refuses_us(pki: Pki, version: ssl.TLSVersion) -> None:
    """TLS-14: the server learns why."""
    clock = Clock()
    policy = AuthenticationPolicy.strict(NAME, trust_anchors=[pki.other_root.der])
    context = ClientContext(policy, maximum_version=version)
    wire = Wire(make_client(context, clock), make_server(pki, clock), clock=clock).flow()
    error = failure(wire, wire.server_events)
    assert (error.failure, error.alert) == (Failure.ALERT, "unknown_ca")


@both_versions
def test_a_client_whose_pins_do_not_match(pki: Pki, version: ssl.TLSVersion) -> None:
    """AUT-10: its handshake succeeds; it leaves in order without a word."""
    clock = Clock()
    context = ClientContext(AuthenticationPolicy.strict(pins=[pki.attacker.pin]), maximum_version=version)
    wire = Wire(make_client(context, clock), make_server(pki, clock), clock=clock)
    wire.ask("secret.example")
    wire.flow()
    assert [type(event) for event in wire.server_events] == [HandshakeCompleted, ConnectionClosed]
    assert the(ConnectionClosed, wire.server_events).cause is Cause.PEER_CLOSED
    assert wire.heard == b""


def test_a_client_that_takes_too_long(pki: Pki) -> None:
    """SRV-12, SRV-20: for the handshake there is a limit of its own."""
    clock = Clock()
    server = make_server(pki, clock)
    wire = Wire(Peer(raw_client()), server, clock=clock)
    deadline = clock.now + HANDSHAKE_TIMEOUT
    assert server.next_timeout() == deadline
    assert server.handle_timeout(now=just_before(deadline)) == []
    assert failure(wire, server.handle_timeout(now=deadline)).failure is Failure.TIMED_OUT


@pytest.mark.parametrize("how", ["fin", "reset"])
def test_a_client_that_goes_inside_the_handshake(pki: Pki, how: str) -> None:
    """SRV-17: that is the end of this connection, and of nothing else."""
    clock = Clock()
    wire = Wire(Peer(raw_client()), make_server(pki, clock), clock=clock)
    wire.flow_to_server()
    server = wire.server
    events = server.receive_eof(now=clock.now) if how == "fin" else server.fail("reset", now=clock.now)
    assert failure(wire, events).failure is Failure.END_OF_STREAM


def test_closing_inside_the_handshake(pki: Pki) -> None:
    """CON-16: nothing is owed to a client that has not asked."""
    clock = Clock()
    server = make_server(pki, clock)
    server.connection.close(now=clock.now)
    assert server.next_timeout() == clock.now
    assert server.handle_timeout(now=clock.now) == [ConnectionClosed(cause=Cause.LOCAL_CLOSE, error=None)]
    assert server.is_finished
    assert server.data_to_send() == []
    assert server.next_timeout() is None


# The end of a connection.


@both_versions
@pytest.mark.parametrize("tcp_too", [False, True], ids=["close_notify", "and-fin"])
def test_a_client_that_asks_and_says_it_will_ask_no_more(pki: Pki, version: ssl.TLSVersion, tcp_too: bool) -> None:
    """SRV-3, CON-12: it gets all its answers, in any order, and then close_notify."""
    wire = met(pki, version)
    wire.client.say(stream_of(QUERIES))
    wire.client.close()
    wire.flow_to_server()
    if tcp_too:
        wire.server_events += wire.server.receive_eof(now=wire.now)
    assert wire.server.connection.state is State.DRAINING
    queries = [event for event in wire.server_events if isinstance(event, QueryReceived)]
    assert [event.message for event in queries] == QUERIES
    for query in reversed(queries):
        assert not wire.server.is_finished
        assert wire.server.connection.send_response(query.query, response_to(query.message), now=wire.now)
        wire.flow()
    assert answered(wire) == [3, 2, 1]
    assert wire.client.has_close_notify
    assert wire.server.next_timeout() == wire.now
    assert wire.server.handle_timeout(now=wire.now) == [ConnectionClosed(cause=Cause.PEER_FINISHED, error=None)]


@both_versions
@pytest.mark.parametrize("rest", [b"", b"\0", b"\0\x20", b"\0\x20" + bytes(31)], ids=len)
@pytest.mark.parametrize("end", ["close_notify", "close_notify and FIN", "FIN"])
def test_what_came_whole_is_answered(pki: Pki, version: ssl.TLSVersion, rest: bytes, end: str) -> None:
    """FR-28, FR-70: in one read with how the client ended, which is told behind the last answer."""
    wire = met(pki, version)
    wire.client.say(stream_of(QUERIES) + rest)
    if "close_notify" in end:
        wire.client.close()
    wire.flow_to_server()
    if "FIN" in end:
        wire.server_events += wire.server.receive_eof(now=wire.now)
    queries = [event for event in wire.server_events if isinstance(event, QueryReceived)]
    assert [event.message for event in queries] == QUERIES
    for query in queries:
        assert not wire.server.is_finished
        assert wire.server.connection.send_response(query.query, response_to(query.message), now=wire.now)
    wire.flow()
    assert answered(wire) == [1, 2, 3]
    assert wire.client.has_close_notify
    closed = the(ConnectionClosed, wire.server.handle_timeout(now=wire.now))
    fault = Fault.TRUNCATED if rest else Fault.NO_CLOSE_NOTIFY if end == "FIN" else None
    assert (closed.cause, closed.error and closed.error.fault) == (Cause.PEER_FINISHED, fault)
    assert wire.server.is_finished == ("FIN" in end)


@both_versions
@pytest.mark.parametrize("how", ["reset", "damage"])
@pytest.mark.parametrize("has_finished", [False, True])
def test_a_client_that_is_gone_gets_nothing(pki: Pki, version: ssl.TLSVersion, how: str, has_finished: bool) -> None:
    """CON-14 (RFC 7766, section 6.2.4): nobody is left to be answered."""
    wire = met(pki, version)
    wire.client.say(stream_of(QUERIES))
    wire.flow()
    if has_finished and how == "reset":
        assert wire.server.receive_eof(now=wire.now) == []
    if how == "reset":
        events = wire.server.fail("Connection reset by peer", now=wire.now)
    else:
        events = wire.server.receive_data(bytes([DATA, 3, 3, 0, 40]) + bytes(40), now=wire.now)
    closed = the(ConnectionClosed, events)
    assert closed.error is not None
    assert closed.error.fault is {"reset": Fault.RESET, "damage": Fault.TLS}[how]
    for query in (event for event in wire.server_events if isinstance(event, QueryReceived)):
        assert not wire.server.connection.send_response(query.query, response_to(query.message), now=wire.now)
    wire.flow()
    assert wire.client.heard == b""


@both_versions
def test_data_behind_close_notify(pki: Pki, version: ssl.TLSVersion, tmp_path_factory: pytest.TempPathFactory) -> None:
    """TLS-16, FRM-12: neither read nor kept, however much it is, while answers are still owed."""
    keylog = tmp_path_factory.mktemp("keys") / "keys"
    context = raw_client(version)
    context.set_ciphers(SUITE)
    context.keylog_filename = str(keylog)
    wire = met(pki, version, context)
    forger = Forger(keylog, wire.from_client + wire.from_server, is_server=False)
    ask, end = forger.record(DATA, stream_of(QUERIES[:1])), forger.record(ALERT, CLOSE_NOTIFY)
    late = forger.record(DATA, stream_of(QUERIES[1:]))
    events = wire.server.receive_data(ask + end + late, now=wire.now)
    assert events == [QueryReceived(query=0, message=QUERIES[0])]
    before = wire.server._incoming.pending
    for _ in range(100):
        assert wire.server.receive_data(late, now=wire.now) == []
    assert wire.server._incoming.pending == before
    wire.server.connection.send_response(0, response_to(QUERIES[0]), now=wire.now)
    wire.flow_to_client()
    assert answered(wire) == [1]


def has_sent_close_notify(wire: Wire, events: list[Event]) -> Cause:
    """Why the server has ended, after a check that it lingers for its client."""
    wire.flow()
    assert wire.client.has_close_notify
    assert not wire.server.is_finished
    return the(ConnectionClosed, events).cause


@both_versions
def test_a_server_that_closes_lets_its_client_go_first(pki: Pki, version: ssl.TLSVersion) -> None:
    """CON-23, SRV-13 (RFC 7858, section 3.4): what still comes is not answered, and does not reset the connection
    under the last answers either.
    """
    wire = met(pki, version)
    wire.client.say(stream_of(QUERIES[:1]))
    wire.flow()
    wire.server.connection.close(now=wire.now)
    wire.answer()
    wire.flow_to_client()
    events = wire.server.handle_timeout(now=wire.now)
    assert has_sent_close_notify(wire, events) is Cause.LOCAL_CLOSE
    assert answered(wire) == [1]
    deadline = wire.now + LINGER_TIMEOUT
    assert wire.server.next_timeout() == deadline
    assert wire.server.receive_data(b"whatever is still on its way", now=wire.now) == []
    assert wire.server.handle_timeout(now=just_before(deadline)) == []
    assert not wire.server.is_finished
    assert wire.server.receive_eof(now=just_before(deadline)) == []
    assert wire.server.is_finished
    assert wire.server.next_timeout() is None
    assert wire.server.data_to_send() == []


def test_a_server_does_not_linger_for_ever(pki: Pki) -> None:
    """CON-11, CON-23: for a client that never closes there is a limit."""
    wire = met(pki)
    wire.server.connection.close(now=wire.now)
    assert has_sent_close_notify(wire, wire.server.handle_timeout(now=wire.now)) is Cause.LOCAL_CLOSE
    assert wire.server.handle_timeout(now=wire.now + LINGER_TIMEOUT) == []
    assert wire.server.is_finished
    assert wire.server.next_timeout() is None


def test_lingering_begins_when_the_end_is_told(pki: Pki) -> None:
    """CON-23: however long ago the client was last heard of; and the end is reported at once."""
    wire = met(pki)
    later = wire.clock.advance(9.0)
    wire.server.connection.close(now=later)
    assert b"".join(wire.server.data_to_send()) != b""
    assert wire.server.next_timeout() <= later  # at once
    assert wire.server.handle_timeout(now=later) == [ConnectionClosed(cause=Cause.LOCAL_CLOSE, error=None)]
    assert wire.server.next_timeout() == later + LINGER_TIMEOUT
    assert not wire.server.is_finished


@both_versions
def test_close_notify_is_not_yet_the_end_of_tcp(pki: Pki, version: ssl.TLSVersion) -> None:
    """CON-23: a client that has said it will ask no more is still to close first."""
    wire = met(pki, version)
    wire.client.close()
    wire.flow()
    assert has_sent_close_notify(wire, wire.server_events) is Cause.PEER_CLOSED
    assert wire.server.next_timeout() == wire.now + LINGER_TIMEOUT
    assert wire.server.receive_eof(now=wire.now) == []
    assert wire.server.is_finished


def test_an_idle_client_is_closed_in_order(pki: Pki) -> None:
    """SRV-11, SRV-13: with close_notify, and the same wait."""
    wire = met(pki)
    deadline = wire.server.next_timeout()
    assert deadline == 1000.0 + 10.0 + 2.0
    events = wire.server.handle_timeout(now=deadline)
    assert has_sent_close_notify(wire, events) is Cause.IDLE
    assert wire.server.next_timeout() == deadline + LINGER_TIMEOUT


def test_after_a_reset_nobody_is_waited_for(pki: Pki) -> None:
    """CON-23: there is no client left to close first."""
    wire = met(pki)
    wire.server.fail("Connection reset by peer", now=wire.now)
    wire.server.data_to_send()
    assert wire.server.is_finished
    assert wire.server.next_timeout() is None


@both_versions
def test_a_fault_of_the_clients_ends_the_session_in_order(pki: Pki, version: ssl.TLSVersion) -> None:
    """FRM-5: a frame that is none; TLS itself is still whole."""
    wire = met(pki, version)
    wire.client.say(b"\0\0")
    wire.flow()
    assert has_sent_close_notify(wire, wire.server_events) is Cause.PEER_FAULT
    assert wire.client.error is None


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_a_server_without_sni(pki: Pki, version: ssl.TLSVersion) -> None:
    """SRV-18: clients that know an address alone get the one certificate there is."""
    wire = met(pki, version)
    assert wire.client.tls.getpeercert(binary_form=True) == pki.leaf.der
