"""The server's timers and limits, and every way in which a connection ends (SRV-10 to SRV-13, CON, KAL-14, FRM-13)."""

from __future__ import annotations

import math

import pytest

from dot_proto import (
    Cause,
    ConnectionClosed,
    Fault,
    QueryReceived,
    RemoteProtocolError,
    ServerConfiguration,
    ServerConnection,
    State,
)
from support.messages import KEEPALIVE, cut_at, just_before, response_to, stream_of
from support.serving import (
    ASKING,
    BARE,
    GO,
    IDLE_LIMIT,
    NOW,
    PADDED,
    RESPONSE,
    TEN_SECONDS,
    WITH_OPT,
    Server,
    closed,
    options_of,
)

# Time.


def test_a_client_that_never_asks():
    """Closed like an idle one, at the very tick (SRV-10, SRV-20, KAL-14)."""
    server = Server()
    assert server.engine.next_timeout() == NOW + IDLE_LIMIT
    assert server.engine.handle_timeout(now=just_before(NOW + IDLE_LIMIT)) == []
    assert closed(server.engine.handle_timeout(now=NOW + IDLE_LIMIT)) == (Cause.IDLE, None)
    assert server.engine.next_timeout() is None


def test_the_server_stays_longer_than_it_says():
    """So that the client closes first (KAL-14; RFC 7828, section 3.3.2)."""
    server = Server(idle_timeout=10, idle_grace=3)
    assert options_of(server.exchange(ASKING)) == {KEEPALIVE: TEN_SECONDS}
    assert server.engine.handle_timeout(now=NOW + 10.5) == []
    assert server.engine.next_timeout() == NOW + 13


def test_the_idle_timer_stands_still_while_something_is_outstanding():
    """It starts at the last response (CON-5, SRV-10)."""
    server = Server()
    one, two = server.ask(BARE, BARE)
    assert server.engine.next_timeout() is None
    server.clock.advance(500)
    assert server.timeout() == []
    server.answer(one, RESPONSE)
    assert server.engine.next_timeout() is None
    server.clock.advance(1)
    server.answer(two, RESPONSE)
    assert server.engine.next_timeout() == NOW + 501 + IDLE_LIMIT


def test_a_trickle_does_not_keep_a_connection_open():
    """One octet each 0.9 of the idle timeout: closed at the limit, counted from the last message (FRM-13, SRV-10)."""
    server = Server()
    server.exchange(BARE)
    limit = server.engine.next_timeout()
    for octet in stream_of([BARE])[:-1]:
        server.clock.advance(9)
        if server.clock.now >= limit:
            break
        assert server.engine.receive_data(bytes([octet]), now=server.clock.now) == []
        assert server.engine.next_timeout() == limit
    assert closed(server.timeout()) == (Cause.IDLE, None)


@pytest.mark.parametrize("wire", [b"", b"\0", RESPONSE])
def test_what_does_not_restart_the_idle_timer(wire):
    """Nothing, an octet, a message that is no query (SRV-5, SRV-10)."""
    server = Server()
    server.engine.receive_data(stream_of([wire]) if wire == RESPONSE else wire, now=NOW + 5)
    assert server.engine.next_timeout() == NOW + IDLE_LIMIT


def test_a_query_that_the_engine_answers_restarts_the_idle_timer():
    """It was a whole message (SRV-10)."""
    server = Server()
    server.clock.advance(5)
    server.receive(BARE + b"\0")
    assert server.engine.next_timeout() == NOW + 5 + IDLE_LIMIT


def test_a_query_that_the_engine_answers_starts_no_timer_while_others_wait():
    """CON-5."""
    server = Server()
    server.ask(BARE)
    server.receive(BARE + b"\0")
    assert server.engine.next_timeout() is None


@pytest.mark.parametrize("idle", [0.0, 0.5])
def test_an_idle_timeout_of_nothing(idle):
    """Allowed under load (SRV-11)."""
    server = Server(idle_timeout=idle, idle_grace=0)
    assert server.engine.next_timeout() == NOW + idle
    assert closed(server.engine.handle_timeout(now=NOW + idle)) == (Cause.IDLE, None)


def test_octets_may_come_at_the_last_tick():
    """The driver reads before it looks at the clock: then the query counts."""
    server = Server()
    server.clock.advance(IDLE_LIMIT)
    server.ask(BARE)
    assert server.timeout() == []
    assert server.engine.state is State.OPEN


# Limits.


def test_the_limit_at_which_reading_should_stop():
    """TCP then slows the client; what was read already is still taken (SRV-12, CON-20)."""
    server = Server(max_outstanding=2)
    (one,) = server.ask(BARE)
    assert server.engine.wants_data
    two, three = server.ask(BARE, BARE)
    assert not server.engine.wants_data
    server.answer(one, RESPONSE)
    assert not server.engine.wants_data
    server.answer(two, RESPONSE)
    assert server.engine.wants_data
    server.answer(three, RESPONSE)


def test_the_limit_beyond_which_queries_are_refused():
    """SERVFAIL, so that memory is bounded whatever the driver does (SRV-12)."""
    server = Server(max_outstanding=1, hard_outstanding=2)
    one, _ = server.ask(WITH_OPT, BARE)
    (event,) = server.receive(PADDED)
    assert (event.rcode, event.explanation) == (2, "2 queries are outstanding on this connection")
    (reply,) = server.sent()
    assert reply[3] & 15 == 2
    assert len(reply) == 468
    assert server.engine.outstanding == 2
    server.answer(one, RESPONSE)
    server.ask(PADDED)


def test_what_is_wrong_is_said_before_what_is_too_much():
    """A malformed query stays malformed at the limit (SRV-12)."""
    server = Server(max_outstanding=1, hard_outstanding=1)
    server.ask(BARE)
    (event,) = server.receive(BARE + b"\0")
    assert event.rcode == 1


def test_the_limit_on_octets():
    """Promise 7, SRV-12: few large queries take as much memory as many small ones."""
    server = Server(max_outstanding_octets=2 * len(BARE))
    (one,) = server.ask(BARE)
    assert server.engine.wants_data
    (two,) = server.ask(BARE)
    assert not server.engine.wants_data
    server.answer(one, RESPONSE)
    assert server.engine.wants_data
    server.engine.decline(two, now=NOW)
    server.ask(BARE)
    assert server.engine.wants_data


def test_a_connection_may_begin_after_it_was_made():
    """SRV-11: what is allowed for idling is counted from the end of the handshake, however long that took."""
    engine = ServerConnection(ServerConfiguration(idle_timeout=1, idle_grace=0, max_duration=60))
    assert engine.next_timeout() is None
    engine.begin(now=NOW + 4)
    assert engine.next_timeout() == NOW + 5
    engine.receive_data(stream_of([BARE]), now=NOW + 4)
    engine.begin(now=NOW + 8)
    assert engine.next_timeout() == NOW + 68
    engine.fail(RemoteProtocolError("gone", Fault.RESET), now=NOW + 9)
    engine.begin(now=NOW + 10)
    assert engine.next_timeout() is None


def test_the_limit_on_queries():
    """The last ones are answered with a word to go, and then the connection ends (SRV-12, KAL-8)."""
    server = Server(max_queries=2)
    server.exchange(ASKING)
    events = server.receive(ASKING, ASKING)
    assert [event.query for event in events] == [1]
    assert server.engine.state is State.DRAINING
    assert server.engine.closing_for is Cause.GO_AWAY
    assert not server.engine.wants_data
    assert server.receive(ASKING) == []
    server.answer(1, response_to(ASKING))
    (response,) = server.sent()
    assert options_of(response) == {KEEPALIVE: GO}
    assert closed(server.timeout()) == (Cause.GO_AWAY, None)


def test_what_the_engine_answers_counts_too():
    """SRV-12: otherwise a client could have malformed queries answered for ever."""
    server = Server(max_queries=2)
    server.receive(BARE + b"\0")
    assert server.engine.state is State.OPEN
    server.receive(BARE + b"\0")
    assert server.engine.state is State.CLOSED
    assert len(server.engine.data_to_send()) == 2


def test_the_limit_on_time_of_a_quiet_connection():
    """Nothing is owed: it ends at the tick (SRV-12)."""
    server = Server(max_duration=5)
    assert server.engine.next_timeout() == NOW + 5
    assert server.engine.handle_timeout(now=just_before(NOW + 5)) == []
    assert closed(server.engine.handle_timeout(now=NOW + 5)) == (Cause.GO_AWAY, None)


def test_the_limit_on_time_of_a_busy_connection():
    """What is owed is still sent, within close_timeout (SRV-12, CON-16)."""
    server = Server(max_duration=60, close_timeout=3)
    (handle,) = server.ask(ASKING)
    server.clock.advance(60)
    assert server.timeout() == []
    assert server.engine.state is State.DRAINING
    assert server.engine.next_timeout() == NOW + 63
    server.answer(handle, response_to(ASKING))
    assert options_of(server.sent()[0]) == {KEEPALIVE: GO}
    assert closed(server.timeout()) == (Cause.GO_AWAY, None)


def test_the_limit_on_time_without_a_close_timeout():
    """With nothing to wait for, the same tick ends it: the next deadline is never now."""
    server = Server(max_duration=60, close_timeout=0)
    server.ask(BARE)
    server.clock.advance(60)
    assert closed(server.timeout()) == (Cause.CLOSE_TIMEOUT, None)


def test_the_limit_on_time_while_closing():
    """Closing goes on, with its own deadline."""
    server = Server(max_duration=60)
    server.ask(BARE)
    server.clock.advance(59)
    server.engine.close(now=server.clock.now, timeout=5)
    server.clock.advance(1)
    assert server.timeout() == []
    assert server.engine.closing_for is Cause.LOCAL_CLOSE
    assert server.engine.next_timeout() == NOW + 64


def test_idleness_and_duration_at_one_tick():
    """One end only."""
    server = Server(max_duration=IDLE_LIMIT)
    server.clock.advance(IDLE_LIMIT)
    assert closed(server.timeout()) == (Cause.IDLE, None)
    assert server.timeout() == []


@pytest.mark.parametrize("limit", [0, 3])
def test_the_limit_on_messages_that_are_no_queries(limit):
    """One more ends the connection, and nothing behind it is read (SRV-5, SRV-12)."""
    server = Server(max_unsolicited=limit)
    assert len(server.receive(*[RESPONSE] * limit)) == limit
    assert server.engine.state is State.OPEN
    events = server.receive(RESPONSE, BARE)
    assert len(events) == 2
    assert closed(events) == (Cause.PEER_FAULT, Fault.TOO_MANY_UNSOLICITED)
    assert server.engine.state is State.CLOSED


def test_unsolicited_messages_are_counted_in_a_row():
    """A query in between forgives them (SRV-5)."""
    server = Server(max_unsolicited=1)
    for _ in range(5):
        server.receive(RESPONSE, BARE)
    server.receive(RESPONSE)
    assert closed(server.receive(RESPONSE)) == (Cause.PEER_FAULT, Fault.TOO_MANY_UNSOLICITED)


# The end.


def test_closing_with_nothing_outstanding():
    """In order, at once, with close_notify and no fault (SRV-13, CON-16)."""
    server = Server()
    server.exchange(BARE)
    server.engine.close(now=NOW)
    assert server.engine.state is State.CLOSED
    assert server.engine.next_timeout() == NOW
    assert server.timeout() == [ConnectionClosed(cause=Cause.LOCAL_CLOSE, error=None)]
    assert server.engine.next_timeout() is None


def test_closing_with_answers_owed():
    """Two queries: both answered, then the end; no new ones (CON-16)."""
    server = Server()
    handles = server.ask(BARE, BARE)
    server.engine.close(now=NOW)
    assert server.engine.state is State.DRAINING
    assert server.engine.next_timeout() == NOW + 5
    assert server.receive(BARE) == []
    for handle in handles:
        assert server.answer(handle, RESPONSE)
    assert server.sent() == [RESPONSE, RESPONSE]
    assert server.receive(BARE) == [ConnectionClosed(cause=Cause.LOCAL_CLOSE, error=None)]


def test_closing_is_bounded():
    """At the tick of its deadline the connection ends, and late answers are not sent (CON-16)."""
    server = Server()
    one, two = server.ask(BARE, BARE)
    server.engine.close(now=NOW, timeout=3)
    server.answer(one, RESPONSE)
    assert server.engine.handle_timeout(now=just_before(NOW + 3)) == []
    assert closed(server.engine.handle_timeout(now=NOW + 3)) == (Cause.CLOSE_TIMEOUT, None)
    assert server.sent() == [RESPONSE]  # it was ready in time
    assert server.answer(two, RESPONSE) is False
    assert server.sent() == []


def test_a_declined_query_is_not_waited_for():
    """CON-16."""
    server = Server()
    (handle,) = server.ask(BARE)
    server.engine.close(now=NOW)
    server.engine.decline(handle, now=NOW)
    assert closed(server.timeout()) == (Cause.LOCAL_CLOSE, None)
    server.engine.decline(handle, now=NOW)  # the connection has ended: no mistake any more


@pytest.mark.parametrize(("first", "second", "left"), [(5, 3, 3), (3, 5, 3), (5, 0, 0), (5, None, 5), (math.inf, 2, 2)])
def test_closing_twice(first, second, left):
    """Does nothing, or shortens the wait."""
    server = Server()
    server.ask(BARE)
    server.engine.close(now=NOW, timeout=first)
    server.engine.close(now=NOW, timeout=second)
    assert server.engine.next_timeout() == NOW + left


def test_closing_what_is_closed():
    """Nothing happens; there is one end."""
    server = Server()
    server.engine.close(now=NOW)
    server.engine.close(now=NOW)
    assert len(server.timeout()) == 1
    server.engine.close(now=NOW)
    assert server.timeout() == []


def test_closing_without_a_deadline():
    """The handler may take as long as it likes."""
    server = Server()
    server.ask(BARE)
    server.engine.close(now=NOW, timeout=math.inf)
    assert server.engine.next_timeout() is None


def test_the_client_closes_in_order():
    """Nothing owed, nothing half said (CON-10)."""
    server = Server()
    server.exchange(BARE)
    assert closed(server.engine.receive_eof(now=NOW)) == (Cause.PEER_CLOSED, None)
    assert server.engine.receive_eof(now=NOW) == []


@pytest.mark.parametrize("rest", [b"", b"\0", b"\0\x1d", stream_of([BARE])[:-1]])
@pytest.mark.parametrize("orderly", [True, False])
def test_what_came_whole_is_answered_however_the_client_finishes(rest, orderly):
    """FR-28, FR-70: in order, without close_notify, or inside a message; then that is told (CON-10, FRM-11)."""
    server = Server()
    wrong = BARE[:2] + b"\x79" + BARE[3:]  # opcode 15, which the engine answers
    events = server.engine.receive_data(stream_of([BARE, BARE, wrong]) + rest, now=NOW)
    one, two = (event.query for event in events[:2])
    assert server.engine.receive_eof(now=NOW, orderly=orderly) == []
    assert server.engine.closing_for is Cause.PEER_FINISHED
    assert server.engine.next_timeout() == NOW + 5
    assert server.engine.receive_eof(now=NOW, orderly=False) == []
    assert server.receive(BARE) == []
    assert server.answer(two, RESPONSE)
    assert server.answer(one, RESPONSE)
    assert server.sent() == [response_to(wrong, rcode=4), RESPONSE, RESPONSE]
    fault = Fault.TRUNCATED if rest else None if orderly else Fault.NO_CLOSE_NOTIFY
    assert closed(server.timeout()) == (Cause.PEER_FINISHED, fault)


@pytest.mark.parametrize("rest", [b"", b"\0", stream_of([BARE])[:-1]])
@pytest.mark.parametrize("orderly", [True, False])
def test_nothing_is_owed_when_the_client_finishes(rest, orderly):
    """CON-10, FRM-11: the end is told at once; FR-70: what the engine has answered by itself still leaves."""
    server = Server()
    wrong = BARE[:2] + b"\x79" + BARE[3:]
    server.engine.receive_data(stream_of([wrong]) + rest, now=NOW)
    due = (Cause.PEER_FAULT, Fault.TRUNCATED) if rest else (Cause.TRANSPORT_FAILED, Fault.NO_CLOSE_NOTIFY)
    events = server.engine.receive_eof(now=NOW, orderly=orderly)
    assert closed(events) == ((Cause.PEER_CLOSED, None) if orderly and not rest else due)
    assert server.sent() == [response_to(wrong, rcode=4)]


def test_a_client_that_finishes_without_a_word_is_not_waited_for_for_ever():
    """FR-28: for as long as any close waits; and the answer that comes later is sent to nobody (CON-14)."""
    server = Server(close_timeout=3.0)
    (handle,) = server.ask(BARE)
    server.engine.receive_eof(now=NOW, orderly=False)
    server.clock.advance(3.0)
    assert closed(server.timeout()) == (Cause.CLOSE_TIMEOUT, Fault.NO_CLOSE_NOTIFY)
    assert server.answer(handle, RESPONSE) is False
    assert server.engine.send_error(handle, now=NOW) is False
    assert server.sent() == []
    assert server.engine.outstanding == 0


@pytest.mark.parametrize("orderly", [True, False])
def test_a_client_that_has_finished_and_then_is_gone(orderly):
    """Its TCP fails: it gets nothing more, and that is what is told (CON-14; RFC 7766, section 6.2.4)."""
    server = Server()
    one, two = server.ask(BARE, BARE)
    server.engine.receive_eof(now=NOW, orderly=orderly)
    server.answer(one, RESPONSE)
    events = server.engine.fail(RemoteProtocolError("connection reset", Fault.RESET), now=NOW)
    assert closed(events) == (Cause.TRANSPORT_FAILED, Fault.RESET)
    assert server.sent() == []
    assert server.answer(two, RESPONSE) is False


def test_the_transport_fails():
    """Each query loses its answer, once (CON-6, CON-14)."""
    server = Server()
    server.ask(BARE)
    error = RemoteProtocolError("connection reset", Fault.RESET)
    assert server.engine.fail(error, now=NOW) == [ConnectionClosed(cause=Cause.TRANSPORT_FAILED, error=error)]
    assert server.engine.fail(error, now=NOW) == []
    assert server.sent() == []


def test_a_query_that_is_cut_by_our_close_is_no_truncation():
    """The client completes it, the server does not read it any more, and owes what it owes (CON-16)."""
    server = Server()
    (handle,) = server.ask(BARE)
    first, second = cut_at(stream_of([BARE]), [10])
    server.engine.receive_data(first, now=NOW)
    server.engine.close(now=NOW)
    assert server.engine.receive_data(second, now=NOW) == []
    assert server.engine.receive_eof(now=NOW) == []
    assert server.answer(handle, RESPONSE)
    assert server.sent() == [RESPONSE]


@pytest.mark.parametrize("length", [0, 1, 11])
def test_a_length_below_a_header(length):
    """What came before it is delivered, nothing after it, and the connection ends (FRM-5, FRM-6, FRM-10)."""
    server = Server()
    events = server.engine.receive_data(stream_of([BARE, bytes(length), BARE]), now=NOW)
    assert events[0] == QueryReceived(query=0, message=BARE)
    assert len(events) == 2
    assert closed(events) == (Cause.PEER_FAULT, Fault.SHORT_FRAME)
    assert server.receive(BARE) == []


def test_octets_behind_the_end_of_the_stream_are_ignored():
    """CON-12, TLS-16; RFC 8446, section 6.1."""
    server = Server()
    (handle,) = server.ask(BARE)
    server.engine.receive_eof(now=NOW)
    assert server.receive(BARE) == []
    assert server.engine.receive_data(b"\0\0", now=NOW) == []
    assert server.answer(handle, RESPONSE)


def test_a_client_that_has_finished_is_not_waited_on_for_ever():
    """The caller has close_timeout to answer (CON-12)."""
    server = Server(close_timeout=4)
    server.ask(BARE)
    server.engine.receive_eof(now=NOW)
    assert server.engine.next_timeout() == NOW + 4
    assert closed(server.engine.handle_timeout(now=NOW + 4)) == (Cause.CLOSE_TIMEOUT, None)


def test_the_first_reason_to_close_is_the_one_that_is_told():
    """Closing, and then the client has finished too."""
    server = Server()
    (handle,) = server.ask(BARE)
    server.engine.close(now=NOW)
    server.engine.receive_eof(now=NOW)
    server.answer(handle, RESPONSE)
    assert closed(server.timeout()) == (Cause.LOCAL_CLOSE, None)
