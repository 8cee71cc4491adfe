"""What travels inside the records, once there is a session: whole messages in both directions, and nothing that
changes who is at the other end (FRM-2, FRM-8, FRM-14, TLS-7, TLS-15).
"""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from dot_io.tls import ClientContext, HandshakeCompleted, ServerContext, TLSServer
from dot_proto import (
    AuthenticationPolicy,
    ClientConfiguration,
    Event,
    PeerAuthenticated,
    QueryReceived,
    ResponseReceived,
    ServerConfiguration,
)
from support.messages import Clock, opt, option, query_of_length, response_to, stream_of
from support.pki import NAME, Pki
from support.pki import pki_fixture as pki_fixture
from support.records import ALERT, DATA, HANDSHAKE, HELLO_REQUEST, SUITE, Forger, data_lengths, records
from support.wire import TLS12, TLS13, Peer, Wire, both_versions, make_client, raw_client, raw_server, the

BARE = ClientConfiguration(padding_block=None, keepalive=False)
"Queries go out as they come in, so that lengths are known."


def policy(pki: Pki) -> AuthenticationPolicy:
    return AuthenticationPolicy.strict(NAME, trust_anchors=[pki.root.der])


def our_server(pki: Pki, clock: Clock, version: ssl.TLSVersion, *, share: bool = False) -> TLSServer:
    context = ServerContext(pki.file(*pki.honest), maximum_version=version)
    return TLSServer(context, ServerConfiguration(padding_block=None), now=clock.now, share_records=share)


def established(pki: Pki, version: ssl.TLSVersion, *, size: int | None = None, share: bool = False) -> Wire:
    """Our client and our server behind their handshake; what travelled by then is forgotten."""
    clock = Clock()
    client = make_client(ClientContext(policy(pki)), clock, BARE, share_records=share)
    wire = Wire(client, our_server(pki, clock, version, share=share), size=size, clock=clock).flow()
    wire.from_client = wire.from_server = b""
    return wire


def with_raw_server(pki: Pki, version: ssl.TLSVersion, keylog: Path) -> Wire:
    """Our client and OpenSSL as server, which sends no tickets, behind their handshake."""
    context = raw_server(pki.file(*pki.honest), version, ciphers=SUITE, tickets=0)
    context.options |= ssl.OP_NO_TICKET
    context.keylog_filename = str(keylog)
    clock = Clock()
    wire = Wire(make_client(ClientContext(policy(pki)), clock, BARE), Peer(context, is_server=True), clock=clock)
    return wire.flow()


def forge(wire: Wire, keylog: Path, *, said: int = 0) -> Forger:
    """In the name of the server."""
    return Forger(keylog, wire.from_client + wire.from_server, is_server=True, said=said)


def receive(wire: Wire, octets: bytes) -> list[Event]:
    """The client receives what no server of OpenSSL's has sent."""
    return wire.client.receive_data(octets, now=wire.now)


def count(stream: bytes) -> int:
    """Records of data, in either version."""
    return sum(record.kind == DATA for record in records(stream))


@both_versions
def test_one_message_a_record(pki: Pki, version: ssl.TLSVersion) -> None:
    """FRM-2: some servers answer only the first of several queries in one record until more octets come."""
    wire = established(pki, version)
    wire.ask("a.example", "bb.example", "ccc.example")
    wire.flow_to_server()
    assert count(wire.from_client) == 3
    assert wire.answer() == 3
    wire.flow_to_client()
    assert count(wire.from_server) == 3
    if version is TLS12:
        assert data_lengths(wire.from_client) == [40, 41, 42]
        assert data_lengths(wire.from_server) == [40, 41, 42]


@both_versions
def test_records_that_are_shared(pki: Pki, version: ssl.TLSVersion) -> None:
    """FRM-14: on request, for a peer that is known to cope."""
    wire = established(pki, version, share=True)
    wire.ask("a.example", "bb.example", "ccc.example")
    wire.flow_to_server()
    assert count(wire.from_client) == 1
    assert wire.answer() == 3
    wire.flow_to_client()
    assert count(wire.from_server) == 1
    if version is TLS12:
        assert data_lengths(wire.from_client) == data_lengths(wire.from_server) == [40 + 41 + 42]
    assert sum(isinstance(event, ResponseReceived) for event in wire.client_events) == 3


@both_versions
@pytest.mark.parametrize("size", [None, 1499])
@pytest.mark.parametrize("share", [False, True])
def test_the_longest_message_both_ways(pki: Pki, version: ssl.TLSVersion, size: int | None, share: bool) -> None:
    """FRM-8: with its prefix it needs five records (RFC 8446, section 5.1)."""
    wire = established(pki, version, size=size, share=share)
    query = query_of_length(65_535)
    handle = wire.client.connection.send_query(query, now=wire.now)
    wire.flow_to_server()
    received = the(QueryReceived, wire.server_events)
    assert received.message[2:] == query[2:]
    assert count(wire.from_client) == 5
    room = 65_535 - len(response_to(query)) - len(opt(option(65_001)))
    answer = response_to(query, additionals=[opt(option(65_001, bytes(room)))])
    assert len(answer) == 65_535
    wire.server.connection.send_response(received.query, answer, now=wire.now)
    wire.flow_to_client()
    response = the(ResponseReceived, wire.client_events)
    assert (response.query, response.message[2:]) == (handle, answer[2:])
    assert count(wire.from_server) == 5


@both_versions
@pytest.mark.parametrize("share", [False, True])
def test_more_than_100_kilobytes_at_once(pki: Pki, version: ssl.TLSVersion, share: bool) -> None:
    """FRM-3, FRM-14: in whatever records; each message arrives, once and whole."""
    wire = established(pki, version, share=share)
    queries = [query_of_length(length) for length in range(1000, 1100)]
    for query in queries:
        wire.client.connection.send_query(query, now=wire.now)
    wire.flow_to_server()
    received = [event.message for event in wire.server_events if isinstance(event, QueryReceived)]
    assert [message[2:] for message in received] == [query[2:] for query in queries]
    assert count(wire.from_client) == (7 if share else 100)


@both_versions
def test_a_record_for_every_octet(pki: Pki, version: ssl.TLSVersion) -> None:
    """FRM-14: the boundaries of records mean nothing, in either direction."""
    clock = Clock()
    client = Peer(raw_client(version))
    wire = Wire(client, our_server(pki, clock, version), clock=clock).flow()
    queries = [query_of_length(50), query_of_length(60)]
    for octet in stream_of(queries):
        client.say(bytes([octet]))
    wire.flow()
    received = [event.message for event in wire.server_events if isinstance(event, QueryReceived)]
    assert received == queries

    server = Peer(raw_server(pki.file(*pki.honest), version), is_server=True)
    wire = Wire(make_client(ClientContext(policy(pki)), clock, BARE), server, clock=clock)
    handles = wire.ask("a.example", "b.example")
    wire.flow()
    answers = [response_to(wire.heard[2:40]), response_to(wire.heard[42:])]
    for octet in stream_of(reversed(answers)):
        server.say(bytes([octet]))
    wire.flow()
    responses = [event.query for event in wire.client_events if isinstance(event, ResponseReceived)]
    assert responses == handles[::-1]


@both_versions
def test_tickets_are_no_data(pki: Pki, version: ssl.TLSVersion) -> None:
    """TLS-15: what a server sends behind the handshake is nothing to the engine, and no end of the stream."""
    clock = Clock()
    server = Peer(raw_server(pki.file(*pki.honest), version, tickets=4), is_server=True)
    wire = Wire(make_client(ClientContext(policy(pki)), clock), server, clock=clock).flow()
    assert [type(event) for event in wire.client_events] == [HandshakeCompleted, PeerAuthenticated]
    assert wire.client.connection.is_open


@both_versions
def test_empty_records_are_no_end(pki: Pki, version: ssl.TLSVersion, tmp_path: Path) -> None:
    """TLS-15 (RFC 8446, section 5.1): they may hide how much is said."""
    wire = with_raw_server(pki, version, tmp_path / "keys")
    [handle] = wire.ask("example.com")
    wire.flow()
    forger = forge(wire, tmp_path / "keys")
    assert receive(wire, forger.record(DATA, b"") + forger.record(DATA, b"")) == []
    answer = stream_of([response_to(wire.heard[2:])])
    pieces = answer[:7], b"", answer[7:]
    [event] = receive(wire, b"".join(forger.record(DATA, piece) for piece in pieces))
    assert isinstance(event, ResponseReceived)
    assert event.query == handle


def test_a_change_of_keys(pki: Pki, tmp_path: Path) -> None:
    """TLS-15 (RFC 8446, section 4.6.3): the client follows, and changes its own when asked to."""
    wire = with_raw_server(pki, TLS13, tmp_path / "keys")
    [first] = wire.ask("example.com")
    wire.flow()
    forger = forge(wire, tmp_path / "keys")
    assert receive(wire, forger.update_key()) == []
    [event] = receive(wire, forger.record(DATA, stream_of([response_to(wire.heard[2:])])))
    assert isinstance(event, ResponseReceived)
    assert event.query == first
    heard = wire.heard
    wire.ask("example.net")
    wire.flow_to_server()
    assert wire.server.error is None
    assert b"example\3net" in wire.heard[len(heard) :]


def test_a_server_that_wants_to_renegotiate(pki: Pki, tmp_path: Path) -> None:
    """TLS-7 (RFC 9325, section 3.5): no, and the connection goes on with the identity that was judged."""
    wire = with_raw_server(pki, TLS12, tmp_path / "keys")
    [handle] = wire.ask("example.com")
    wire.flow()
    forger = forge(wire, tmp_path / "keys")
    assert receive(wire, forger.record(HANDSHAKE, HELLO_REQUEST)) == []
    [refusal] = records(b"".join(wire.client.data_to_send()))
    assert refusal.kind == ALERT
    [event] = receive(wire, forger.record(DATA, stream_of([response_to(wire.heard[2:])])))
    assert isinstance(event, ResponseReceived)
    assert event.query == handle


def test_a_client_that_wants_to_renegotiate(pki: Pki, tmp_path: Path) -> None:
    """TLS-7: our server does not either, and answers on."""
    clock = Clock()
    context = raw_client(TLS12)
    context.set_ciphers(SUITE)
    context.keylog_filename = str(tmp_path / "keys")
    wire = Wire(Peer(context), our_server(pki, clock, TLS12), clock=clock).flow()
    forger = Forger(tmp_path / "keys", wire.from_client + wire.from_server, is_server=False)
    hello = next(record.body for record in records(wire.from_client))
    assert wire.server.receive_data(forger.record(HANDSHAKE, hello), now=wire.now) == []
    [refusal] = records(b"".join(wire.server.data_to_send()))
    assert refusal.kind == ALERT
    query = query_of_length(50)
    [event] = wire.server.receive_data(forger.record(DATA, stream_of([query])), now=wire.now)
    assert event == QueryReceived(query=0, message=query)
