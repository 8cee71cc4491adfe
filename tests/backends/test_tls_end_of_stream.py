"""How a connection ends, seen from the client: four ends that must not be taken for one another (CON-10), and what
comes behind the end (TLS-16); and how the client ends it itself (CON-11, CON-16).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from dot_io.tls import ClientContext
from dot_proto import (
    AuthenticationPolicy,
    Cause,
    ConnectionClosed,
    Event,
    Fault,
    QueryLost,
    ResponseReceived,
    State,
)
from support.messages import Clock, response_to, stream_of
from support.pki import NAME, Pki
from support.pki import pki_fixture as pki_fixture
from support.records import ALERT, CLOSE_NOTIFY, DATA, SUITE, Forger, records
from support.wire import TLS12, TLS13, Peer, Wire, make_client, raw_server, the


@pytest.fixture
def keylog(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture(params=[TLS12, TLS13], ids=["1.2", "1.3"])
def wire(pki: Pki, keylog: Path, request: pytest.FixtureRequest) -> Wire:
    """Two queries are with a server that has said nothing yet, and sends no tickets."""
    context = raw_server(pki.file(*pki.honest), request.param, ciphers=SUITE, tickets=0)
    context.options |= ssl.OP_NO_TICKET
    context.keylog_filename = str(keylog)
    clock = Clock()
    policy = AuthenticationPolicy.strict(NAME, trust_anchors=[pki.root.der])
    wire = Wire(make_client(ClientContext(policy), clock), Peer(context, is_server=True), clock=clock)
    wire.ask("a.example", "b.example")
    wire.flow()
    wire.client_events.clear()
    return wire


def answers(wire: Wire) -> bytes:
    """To both queries, which have 128 octets each."""
    return stream_of([response_to(wire.heard[2:130]), response_to(wire.heard[132:260])])


def said(wire: Wire, octets: bytes) -> list[Event]:
    """The server says this, and the client receives it."""
    wire.server.say(octets)
    return sent(wire)


def sent(wire: Wire) -> list[Event]:
    """The client receives what the server has left to send."""
    return wire.client.receive_data(b"".join(wire.server.data_to_send()), now=wire.now)


def close_notify(wire: Wire) -> list[Event]:
    wire.server.close()
    return sent(wire)


def fin(wire: Wire) -> list[Event]:
    return wire.client.receive_eof(now=wire.now)


def reset(wire: Wire) -> list[Event]:
    return wire.client.fail("Connection reset by peer", now=wire.now)


def fin_inside_a_record(wire: Wire) -> list[Event]:
    wire.server.say(bytes(100))
    record = b"".join(wire.server.data_to_send())
    assert wire.client.receive_data(record[:-1], now=wire.now) == []
    return fin(wire)


def damage(wire: Wire) -> list[Event]:
    wire.server.say(bytes(100))
    record = bytearray(b"".join(wire.server.data_to_send()))
    record[-1] ^= 1
    return wire.client.receive_data(bytes(record), now=wire.now)


ENDS: dict[str, tuple[Callable[[Wire], list[Event]], Cause, Fault | None]] = {
    "close_notify": (close_notify, Cause.PEER_CLOSED, None),
    "fin": (fin, Cause.TRANSPORT_FAILED, Fault.NO_CLOSE_NOTIFY),
    "reset": (reset, Cause.TRANSPORT_FAILED, Fault.RESET),
    "fin-inside-a-record": (fin_inside_a_record, Cause.TRANSPORT_FAILED, Fault.NO_CLOSE_NOTIFY),
    "damage": (damage, Cause.TRANSPORT_FAILED, Fault.TLS),
}


def ended(wire: Wire, events: list[Event]) -> tuple[Cause, Fault | None]:
    """How; after a check that every query has its fate, and that nothing comes behind the end."""
    [*fates, closed] = events
    assert isinstance(closed, ConnectionClosed)
    assert all(isinstance(fate, ResponseReceived | QueryLost) for fate in fates)
    assert len(fates) == 2
    wire.client.data_to_send()
    assert wire.client.is_finished
    assert wire.client.next_timeout() is None
    assert fin(wire) == reset(wire) == wire.client.receive_data(b"more", now=wire.now) == []
    assert wire.client.handle_timeout(now=wire.now + 3600.0) == []
    return closed.cause, closed.error and closed.error.fault


@pytest.mark.parametrize("end", ENDS)
def test_an_end_between_messages(wire: Wire, end: str) -> None:
    """CON-6, CON-10: each has its own cause; close_notify alone is an end in order."""
    happen, cause, fault = ENDS[end]
    assert ended(wire, happen(wire)) == (cause, fault)


@pytest.mark.parametrize("cut", [1, 2, 3, 28])
@pytest.mark.parametrize("end", [close_notify, fin], ids=["close_notify", "fin"])
def test_an_end_inside_a_message(wire: Wire, end: Callable[[Wire], list[Event]], cut: int) -> None:
    """CON-10, FRM-11: truncation, with close_notify and without; nothing of the message is delivered."""
    assert said(wire, answers(wire)[:cut]) == []
    assert ended(wire, end(wire)) == (Cause.PEER_FAULT, Fault.TRUNCATED)


@pytest.mark.parametrize("end", ENDS)
def test_what_was_whole_counts(wire: Wire, end: str) -> None:
    """CON-10: an answer before the end is an answer, however it ends."""
    happen, cause, fault = ENDS[end]
    whole = answers(wire)
    [response] = said(wire, whole[: len(whole) // 2])
    assert isinstance(response, ResponseReceived)
    events = [response, *happen(wire)]
    assert isinstance(events[-2], QueryLost)
    assert ended(wire, events) == (cause, fault)


def test_all_in_one_read(wire: Wire) -> None:
    """FRM-10: answers and close_notify behind them."""
    wire.server.say(answers(wire))
    events = close_notify(wire)
    assert [type(event) for event in events] == [ResponseReceived, ResponseReceived, ConnectionClosed]
    assert ended(wire, events) == (Cause.PEER_CLOSED, None)


def test_close_notify_and_fin_are_one_end(wire: Wire) -> None:
    """CON-10: FIN behind close_notify is no second event."""
    assert ended(wire, close_notify(wire) + fin(wire)) == (Cause.PEER_CLOSED, None)


def test_an_alert_in_the_middle(wire: Wire, keylog: Path) -> None:
    """TLS-14: named as well as one inside the handshake."""
    forger = Forger(keylog, wire.from_client + wire.from_server, is_server=True)
    events = wire.client.receive_data(forger.record(ALERT, b"\x02\x50"), now=wire.now)
    assert ended(wire, events) == (Cause.TRANSPORT_FAILED, Fault.TLS)
    closed = the(ConnectionClosed, events)
    assert str(closed.error) == "the TLS session broke: tlsv1 alert internal error"


def test_the_answer_to_damage_is_an_alert(wire: Wire) -> None:
    """RFC 8446, section 5.2: bad_record_mac, which the server learns."""
    damage(wire)
    wire.flow()
    assert wire.server.error is not None
    assert wire.server.error.reason == "SSLV3_ALERT_BAD_RECORD_MAC"


@pytest.mark.parametrize("in_one_read", [True, False])
def test_data_behind_close_notify(wire: Wire, keylog: Path, in_one_read: bool) -> None:
    """TLS-16 (RFC 8446, section 6.1): ignored, also where it would be the answer."""
    forger = Forger(keylog, wire.from_client + wire.from_server, is_server=True)
    octets = [forger.record(ALERT, CLOSE_NOTIFY), forger.record(DATA, answers(wire))]
    events: list[Event] = []
    for piece in [b"".join(octets)] if in_one_read else octets:
        events += wire.client.receive_data(piece, now=wire.now)
    assert [type(event) for event in events] == [QueryLost, QueryLost, ConnectionClosed]
    assert ended(wire, events) == (Cause.PEER_CLOSED, None)


@pytest.mark.parametrize("end", ["close_notify", "fin"])
def test_the_client_sends_close_notify_too(wire: Wire, end: str) -> None:
    """CON-11: close_notify leaves, once, before TCP is closed."""
    ENDS[end][0](wire)
    assert b"".join(wire.client.data_to_send()) != b""
    assert wire.client.data_to_send() == []


def test_closing_waits_for_nobody(wire: Wire) -> None:
    """CON-11: close_notify leaves, and that is all: the server's own is not waited for."""
    wire.client.connection.close(now=wire.now, timeout=0.0)
    assert wire.client.next_timeout() == wire.now
    events = wire.client.handle_timeout(now=wire.now)
    wire.flow()
    assert wire.server.has_close_notify
    assert wire.server.error is None
    assert ended(wire, events) == (Cause.CLOSE_TIMEOUT, None)


@pytest.mark.parametrize("verb", ["receive_data", "receive_eof", "fail", "handle_timeout"])
def test_any_verb_reports_what_a_command_has_ended(wire: Wire, verb: str) -> None:
    """CON-16: whatever the driver has to say next, it learns that the connection is closed, and once."""
    fates = said(wire, answers(wire))
    wire.client.connection.close(now=wire.now)
    assert wire.client.next_timeout() == wire.now
    arguments = {"receive_data": [b"late"], "fail": ["Connection reset by peer"]}.get(verb, [])
    events = getattr(wire.client, verb)(*arguments, now=wire.now)
    assert ended(wire, fates + events) == (Cause.LOCAL_CLOSE, None)


def test_closing_waits_for_answers_but_not_for_ever(wire: Wire) -> None:
    """CON-16: first what is owed, then close_notify; within the time that was given."""
    wire.client.connection.close(now=wire.now, timeout=2.0)
    wire.flow()
    assert wire.client.connection.state is State.DRAINING
    assert not wire.server.has_close_notify
    assert wire.client.next_timeout() == wire.now + 2.0
    events = said(wire, answers(wire))
    wire.flow()
    assert wire.server.has_close_notify
    assert ended(wire, events) == (Cause.LOCAL_CLOSE, None)


def test_an_answer_that_comes_too_late(wire: Wire) -> None:
    """CON-11: it was on its way when the client closed; that is nobody's fault."""
    wire.server.say(answers(wire))
    wire.client.connection.close(now=wire.now, timeout=0.0)
    events = wire.client.handle_timeout(now=wire.now)
    wire.flow_to_server()
    assert sent(wire) == []
    assert ended(wire, events) == (Cause.CLOSE_TIMEOUT, None)
    assert wire.server.has_close_notify


def test_an_idle_client_closes_in_order(wire: Wire) -> None:
    """CON-4, CON-11."""
    events = said(wire, answers(wire))
    deadline = wire.client.next_timeout()
    assert deadline == wire.now + 10.0
    events += wire.client.handle_timeout(now=deadline)
    wire.flow()
    assert wire.server.has_close_notify
    assert ended(wire, events) == (Cause.IDLE, None)


def test_nothing_but_close_notify_leaves_at_the_end(wire: Wire) -> None:
    """CON-11: one record, an alert; what was asked too late is not sent any more."""
    wire.client.connection.send_query(wire.heard[2:130], now=wire.now)
    before = wire.heard
    wire.client.connection.close(now=wire.now, timeout=0.0)
    wire.client.handle_timeout(now=wire.now)
    octets = b"".join(wire.client.data_to_send())
    assert len(list(records(octets))) == 1
    wire.server.receive_data(octets, now=wire.now)
    assert wire.server.has_close_notify
    assert wire.heard == before
