"""The client's connection in time: deadlines, idleness, giving up, and every way in which it ends.

CON-4 to CON-8, CON-10, CON-16 to CON-18, CON-24, FRM-5, FRM-6, FRM-10, FRM-11, MAT-13, TLS-16.
"""

from __future__ import annotations

import math

import pytest

from dot_proto import (
    Cause,
    ClientConfiguration,
    DiscardReason,
    Fault,
    LocalProtocolError,
    MessageDiscarded,
    PeerAuthenticated,
    QueryLost,
    QueryTimedOut,
    RemoteProtocolError,
    State,
    make_query,
)
from support.messages import just_before, message, question_of, response_to, stream_of
from support.scenes import TRUSTED, Scene, always, closed, condition, outcome

QUERY = make_query("example.com", message_id=0xBEEF)
UPDATE = b"\xbe\xef\x28\x00" + make_query("example.com", "SOA")[4:]
NOTIFY = b"\xbe\xef\x20\x00" + make_query("example.com", "SOA")[4:]


def id_of(each: bytes) -> int:
    return int.from_bytes(each[:2])


# Callers that do not wait for a time-out


def test_a_server_that_is_silent_for_good_is_given_up_also_where_queries_are_cancelled():
    """FR-3: as by ``asyncio.timeout(1)`` around each query; after as long a silence as time-outs would have needed."""
    scene = Scene(query_timeout=5.0, max_silent_timeouts=3)
    for _ in range(14):
        handle, _ = scene.ask()
        scene.clock.advance(1.0)
        assert scene.client.cancel(handle, now=scene.now)
    other, _ = scene.ask()
    handle, _ = scene.ask()
    assert scene.client.is_open
    scene.clock.advance(1.0)
    assert scene.client.cancel(handle, now=scene.now)
    assert scene.client.next_timeout() == scene.now
    lost = QueryLost(query=other, safe_to_resend=True, was_sent=True)
    assert outcome(scene.tick()) == [lost, closed(Cause.PEER_SILENT)]


def test_an_octet_between_cancelled_queries_is_a_sign_of_life():
    """FR-3: and so the count begins anew."""
    scene = Scene(query_timeout=5.0, max_silent_timeouts=3)
    for second in range(40):
        handle, wire = scene.ask()
        scene.clock.advance(1.0)
        scene.client.cancel(handle, now=scene.now)
        if second % 10 == 9:
            scene.receive(response_to(wire))
    assert scene.client.is_open


@pytest.mark.parametrize("settings", [{"max_silent_timeouts": None}, {"query_timeout": 60.0}])
def test_as_much_silence_as_is_borne(settings):
    scene = Scene(**settings)
    for _ in range(100):
        handle, _ = scene.ask(timeout=5.0)
        scene.clock.advance(1.0)
        scene.client.cancel(handle, now=scene.now)
    assert scene.client.is_open


def test_what_was_cancelled_before_it_left_says_nothing():
    scene = Scene(query_timeout=1.0, max_silent_timeouts=1, silence_timeout=0.0)
    for _ in range(9):
        handle = scene.client.send_query(QUERY, now=scene.now, timeout=9.0)
        scene.clock.advance(2.0)
        assert scene.client.cancel(handle, now=scene.now)
    assert scene.client.is_open


# Deadlines


def test_a_query_times_out_at_its_deadline_and_not_before():
    """``next_timeout()`` says when; the time passed is said in the event."""
    scene = Scene()
    handle, _ = scene.ask(timeout=2.5)
    deadline = scene.now + 2.5
    assert scene.client.next_timeout() == deadline
    assert scene.client.handle_timeout(now=just_before(deadline)) == []
    assert scene.client.handle_timeout(now=deadline) == [QueryTimedOut(query=handle, elapsed=2.5)]
    assert scene.client.pending == 0


def test_the_default_deadline_is_the_configurations():
    scene = Scene(query_timeout=3.0)
    scene.ask()
    assert scene.client.next_timeout() == scene.now + 3.0


def test_queries_time_out_in_the_order_of_their_deadlines():
    """Also when the driver comes too late for each of them."""
    scene = Scene()
    slow, _ = scene.ask(timeout=3.0)
    quick, _ = scene.ask(timeout=1.0)
    also, _ = scene.ask(timeout=3.0)
    left, _ = scene.ask(timeout=9.0)
    scene.clock.advance(5.0)
    assert scene.tick() == [
        QueryTimedOut(query=quick, elapsed=5.0),
        QueryTimedOut(query=slow, elapsed=5.0),
        QueryTimedOut(query=also, elapsed=5.0),
    ]
    assert scene.client.next_timeout() == scene.now + 4.0
    assert outcome(scene.wait()) == [QueryTimedOut(query=left, elapsed=9.0)]


def test_no_deadline_at_all():
    """A caller with a clock of his own may ask without one."""
    scene = Scene()
    handle, wire = scene.ask(timeout=math.inf)
    assert scene.client.next_timeout() is None
    scene.clock.advance(1e9)
    assert scene.tick() == []
    assert scene.receive(response_to(wire))[0].elapsed == 1e9
    assert handle is not None


def test_a_timeout_of_zero_is_over_at_the_next_tick():
    scene = Scene()
    handle, _ = scene.ask(timeout=0.0)
    assert scene.client.next_timeout() == scene.now
    assert scene.tick() == [QueryTimedOut(query=handle, elapsed=0.0)]


def test_a_spurious_tick_does_nothing():
    scene = Scene()
    scene.ask()
    before = condition(scene.client)
    scene.clock.advance(1.0)
    assert scene.tick() == []
    assert condition(scene.client) == before


def test_a_deadline_met_early_leaves_at_most_one_needless_tick():
    """Behind the tick the next deadline is later than now, or there is none."""
    scene = Scene()
    _, wire = scene.ask(timeout=1.0)
    last, _ = scene.ask(timeout=4.0)
    scene.receive(response_to(wire))
    due = scene.now + 4.0
    assert scene.client.next_timeout() <= due
    scene.clock.advance(1.0)
    assert scene.tick() == []
    assert scene.client.next_timeout() == due
    assert scene.wait() == [QueryTimedOut(query=last, elapsed=4.0)]


# Idle


def test_an_idle_client_closes():
    """From the last answer on, and to the tick (CON-4, CON-5)."""
    scene = Scene(idle_timeout=4.0)
    assert scene.client.next_timeout() == scene.now + 4.0
    _, wire = scene.ask()
    scene.clock.advance(3.0)
    scene.receive(response_to(wire))
    due = scene.now + 4.0
    assert scene.client.next_timeout() == due
    assert scene.client.handle_timeout(now=just_before(due)) == []
    assert outcome(scene.client.handle_timeout(now=due)) == [closed(Cause.IDLE)]
    assert scene.client.state is State.CLOSED
    assert scene.client.next_timeout() is None


def test_nothing_is_idle_while_a_query_is_pending():
    """The timer is lifted by a query, however long the answer takes (CON-5)."""
    scene = Scene(idle_timeout=4.0)
    scene.clock.advance(3.0)
    first, wire = scene.ask(timeout=60.0)
    scene.clock.advance(30.0)
    assert scene.tick() == []
    second, other = scene.ask(timeout=60.0)
    assert outcome(scene.receive(response_to(wire))) == [first]
    scene.clock.advance(29.0)
    assert scene.tick() == []
    assert outcome(scene.receive(response_to(other))) == [second]
    assert scene.client.next_timeout() == scene.now + 4.0


@pytest.mark.parametrize("how", ["timeout", "cancel", "cancel-unsent"])
def test_idleness_begins_with_any_fate(how):
    """An abandoned query is not waited for (CON-5)."""
    scene = Scene(idle_timeout=4.0)
    handle = scene.client.send_query(QUERY, now=scene.now, timeout=1.0)
    if how != "cancel-unsent":
        scene.sent()
    scene.clock.advance(1.0)
    if how == "timeout":
        scene.tick()
    else:
        scene.client.cancel(handle, now=scene.now)
    assert scene.client.next_timeout() == scene.now + 4.0


def test_an_unsolicited_message_is_no_activity():
    """Only what answers keeps a connection (CON-5, SRV-10's mirror)."""
    scene = Scene(idle_timeout=4.0)
    due = scene.client.next_timeout()
    scene.clock.advance(1.0)
    scene.receive(response_to(QUERY))
    assert scene.client.next_timeout() == due


def test_no_idle_time_before_the_verdict():
    """How long a handshake may take is the driver's affair (CON-18)."""
    scene = Scene(verified=False)
    assert scene.client.next_timeout() is None
    scene.client.send_query(QUERY, now=scene.now, timeout=2.0)
    assert scene.client.next_timeout() == scene.now + 2.0


def test_an_idle_timeout_of_zero():
    """An idle timeout of zero: one answer, and the end at the same tick."""
    scene = Scene(idle_timeout=0.0)
    handle, wire = scene.ask(timeout=1.0)
    scene.receive(response_to(wire))
    assert outcome(scene.wait()) == [closed(Cause.IDLE)]
    scene = Scene(idle_timeout=0.0)
    handle, _ = scene.ask(timeout=1.0)
    assert outcome(scene.wait()) == [QueryTimedOut(query=handle, elapsed=1.0), closed(Cause.IDLE)]


# Handles and commands


def test_cancelling_one_harms_no_other():
    """(CON-17)."""
    scene = Scene()
    handles, wires = zip(*(scene.ask(name) for name in ("a.example", "b.example", "c.example")), strict=True)
    assert scene.client.cancel(handles[1], now=scene.now)
    events = scene.receive(*map(response_to, wires))
    assert outcome(events) == [
        handles[0],
        MessageDiscarded(message=response_to(wires[1]), reason=DiscardReason.LATE, query=handles[1]),
        handles[2],
    ]


def test_a_fate_is_not_cancelled():
    """``cancel`` says whether it was the fate: not after an answer, a timeout, an earlier cancel, or the end."""
    scene = Scene()
    answered, wire = scene.ask()
    timed_out, _ = scene.ask(timeout=1.0)
    cancelled, _ = scene.ask(timeout=9.0)
    lost, _ = scene.ask(timeout=9.0)
    scene.receive(response_to(wire))
    scene.clock.advance(1.0)
    scene.tick()
    assert scene.client.cancel(cancelled, now=scene.now)
    scene.client.receive_eof(now=scene.now)
    for handle in (answered, timed_out, cancelled, lost):
        assert not scene.client.cancel(handle, now=scene.now)


@pytest.mark.parametrize("handle", [-1, 0, 1 << 16, 1 << 40])
@pytest.mark.parametrize("command", ["cancel", "end_exchange"])
def test_a_handle_that_was_never_issued(command, handle):
    """Is a mistake, said as such, and changes nothing."""
    scene = Scene()
    before = condition(scene.client)
    with pytest.raises(LocalProtocolError, match="no handle"):
        getattr(scene.client, command)(handle, now=scene.now)
    assert condition(scene.client) == before


def test_a_handle_is_not_used_again_with_its_id():
    """The second query under one id has another handle: the first cannot be taken for it (MAT-13)."""
    scene = Scene(entropy=always(7))
    first, wire = scene.ask()
    scene.receive(response_to(wire))
    second, wire = scene.ask()
    assert first != second
    assert not scene.client.cancel(first, now=scene.now)
    assert outcome(scene.receive(response_to(wire))) == [second]


# Ends


def prepared(state: State) -> tuple[Scene, list[QueryLost]]:
    """A scene in this state with as much pending as may be, and what a sudden end makes of it."""
    scene = Scene(verified=state is not State.UNVERIFIED)
    handles = [scene.client.send_query(query, now=scene.now) for query in (QUERY, UPDATE, NOTIFY)]
    scene.client.data_to_send()
    was_sent = state is not State.UNVERIFIED
    safe = [True, not was_sent, not was_sent]
    lost = [
        QueryLost(query=handle, safe_to_resend=each, was_sent=was_sent)
        for handle, each in zip(handles, safe, strict=True)
    ]
    if state is State.DRAINING:
        scene.client.close(now=scene.now)
    elif state is State.CLOSED:
        scene.client.receive_eof(now=scene.now)
        lost = []
    assert scene.client.state is state
    return scene, lost


RESET = RemoteProtocolError("connection reset by peer", Fault.RESET)

ENDS = {
    "close-notify": (lambda client, now: client.receive_eof(now=now), closed(Cause.PEER_CLOSED)),
    "eof": (
        lambda client, now: client.receive_eof(now=now, orderly=False),
        closed(Cause.TRANSPORT_FAILED, Fault.NO_CLOSE_NOTIFY),
    ),
    "reset": (lambda client, now: client.fail(RESET, now=now), closed(Cause.TRANSPORT_FAILED, Fault.RESET)),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("state", State)
def test_sudden_ends_in_every_state(state, end):
    """One terminal event, and one fate each: what may have been carried out is not silently safe to resend.

    CON-6, CON-7, CON-10, CON-24: a connection that fails before any octet of a query is a failed connection.
    """
    scene, lost = prepared(state)
    finish, terminal = ENDS[end]
    assert outcome(finish(scene.client, scene.now)) == ([] if state is State.CLOSED else [*lost, terminal])
    assert_dead(scene)


def assert_dead(scene: Scene) -> None:
    """Nothing more is reported, sent, awaited or taken, whatever is called (TLS-16)."""
    client, now = scene.client, scene.clock.advance(1.0)
    assert client.state is State.CLOSED
    assert client.next_timeout() is None
    assert client.data_to_send() == []
    assert client.pending == 0
    assert not client.is_open
    assert not client.accepts_queries
    client.close(now=now)
    assert client.receive_data(stream_of([response_to(QUERY)]) + b"\0\0", now=now) == []
    assert client.receive_eof(now=now) == client.receive_eof(now=now, orderly=False) == []
    assert client.fail(RESET, now=now) == client.handle_timeout(now=now + 1e6) == []
    with pytest.raises(LocalProtocolError, match="it is closed"):
        client.send_query(QUERY, now=now)
    assert client.next_timeout() is None


def test_what_never_left_is_safe_to_resend():
    """Queued but not handed out: safe whatever the opcode, beside one that was sent (CON-8)."""
    scene = Scene()
    sent, _ = scene.ask(UPDATE)
    held = scene.client.send_query(UPDATE, now=scene.now)
    assert scene.client.receive_eof(now=scene.now)[:2] == [
        QueryLost(query=sent, safe_to_resend=False, was_sent=True),
        QueryLost(query=held, safe_to_resend=True, was_sent=False),
    ]


@pytest.mark.parametrize("orderly", [True, False])
@pytest.mark.parametrize("octets", [1, 2, 13])
def test_an_end_inside_a_message_is_a_truncation(octets, orderly):
    """In the prefix or the body, close_notify or not; the part is not delivered (CON-10, FRM-11)."""
    scene = Scene()
    handle, wire = scene.ask()
    assert scene.client.receive_data(stream_of([response_to(wire)])[:octets], now=scene.now) == []
    events = scene.client.receive_eof(now=scene.now, orderly=orderly)
    assert outcome(events) == [
        QueryLost(query=handle, safe_to_resend=True, was_sent=True),
        closed(Cause.PEER_FAULT, Fault.TRUNCATED),
    ]


@pytest.mark.parametrize("orderly", [True, False])
@pytest.mark.parametrize("octets", [1, 2, 13])
def test_whole_responses_before_a_truncated_one(octets, orderly):
    """FR-70: each is delivered, and only the last query is lost (CON-7, CON-10)."""
    scene = Scene()
    (one, first), (two, second), (three, third) = scene.ask(), scene.ask(), scene.ask()
    stream = stream_of([response_to(second), response_to(first)]) + stream_of([response_to(third)])[:octets]
    assert outcome(scene.client.receive_data(stream, now=scene.now)) == [two, one]
    assert outcome(scene.client.receive_eof(now=scene.now, orderly=orderly)) == [
        QueryLost(query=three, safe_to_resend=True, was_sent=True),
        closed(Cause.PEER_FAULT, Fault.TRUNCATED),
    ]


def test_whole_messages_before_the_end_count():
    """An answer and the end in one go (CON-10)."""
    scene = Scene()
    handle, wire = scene.ask()
    assert outcome(scene.receive(response_to(wire))) == [handle]
    assert outcome(scene.client.receive_eof(now=scene.now)) == [closed(Cause.PEER_CLOSED)]


@pytest.mark.parametrize("length", [0, 11])
def test_a_bad_length_ends_the_connection(length):
    """What came before it is delivered, what comes behind it is not (FRM-5, FRM-6, FRM-10)."""
    scene = Scene()
    first, wire = scene.ask()
    second, other = scene.ask()
    data = stream_of([response_to(wire)]) + bytes([0, length]) + stream_of([response_to(other)])
    events = scene.client.receive_data(data, now=scene.now)
    assert outcome(events) == [
        first,
        QueryLost(query=second, safe_to_resend=True, was_sent=True),
        closed(Cause.PEER_FAULT, Fault.SHORT_FRAME),
    ]
    assert_dead(scene)


def test_close_with_nothing_pending_is_over_at_once():
    """The event is due now, and comes with whatever verb is next; the first cause counts (CON-16)."""
    scene = Scene()
    scene.client.close(now=scene.now)
    assert scene.client.state is State.CLOSED
    assert scene.client.closing_for is Cause.LOCAL_CLOSE
    assert scene.client.next_timeout() == scene.now
    assert outcome(scene.tick()) == [closed(Cause.LOCAL_CLOSE)]
    assert_dead(scene)


VERBS = {
    "receive_data": lambda client, now: client.receive_data(b"", now=now),
    "receive_eof": lambda client, now: client.receive_eof(now=now),
    "fail": lambda client, now: client.fail(RESET, now=now),
    "handle_timeout": lambda client, now: client.handle_timeout(now=now),
    "verify_peer": lambda client, now: client.verify_peer(TRUSTED, now=now),
}


@pytest.mark.parametrize("verb", VERBS)
def test_what_a_command_left_to_report_comes_with_any_verb(verb):
    """Once; and the next deadline says that it is due."""
    scene = Scene(verified=False)
    handle = scene.client.send_query(UPDATE, now=scene.now)
    scene.client.close(now=scene.now)
    assert scene.client.next_timeout() == scene.now
    events = VERBS[verb](scene.client, scene.now)
    assert outcome(events) == [QueryLost(query=handle, safe_to_resend=True, was_sent=False), closed(Cause.LOCAL_CLOSE)]
    assert_dead(scene)


def test_a_graceful_close_waits_for_the_answers_owed():
    """What is held still leaves, both answers come, and then it is over (CON-16)."""
    scene = Scene()
    first, wire = scene.ask()
    second = scene.client.send_query(QUERY, now=scene.now)
    scene.client.close(now=scene.now)
    assert scene.client.state is State.DRAINING
    assert scene.client.closing_for is Cause.LOCAL_CLOSE
    assert not scene.client.is_open
    with pytest.raises(LocalProtocolError, match="it is draining"):
        scene.client.send_query(QUERY, now=scene.now)
    (other,) = scene.sent()
    assert outcome(scene.receive(response_to(wire))) == [first]
    assert outcome(scene.receive(response_to(other))) == [second, closed(Cause.LOCAL_CLOSE)]
    assert_dead(scene)


def test_a_graceful_close_is_bounded():
    """At the close timeout what is pending is lost (CON-16)."""
    scene = Scene(close_timeout=2.0)
    handle, _ = scene.ask()
    scene.client.close(now=scene.now)
    due = scene.now + 2.0
    assert scene.client.next_timeout() == due
    assert scene.client.handle_timeout(now=just_before(due)) == []
    events = scene.client.handle_timeout(now=due)
    assert outcome(events) == [QueryLost(query=handle, safe_to_resend=True, was_sent=True), closed(Cause.CLOSE_TIMEOUT)]


def test_closing_again_shortens_the_wait_and_never_prolongs_it():
    scene = Scene(close_timeout=3.0)
    scene.ask()
    scene.client.close(now=scene.now)
    due = scene.client.next_timeout()
    scene.client.close(now=scene.now, timeout=4.0)
    assert scene.client.next_timeout() == due
    scene.client.close(now=scene.now, timeout=1.0)
    assert scene.client.next_timeout() == scene.now + 1.0
    scene.client.close(now=scene.now, timeout=0.0)
    assert outcome(scene.tick())[-1] == closed(Cause.CLOSE_TIMEOUT)


@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_a_graceful_close_ends_with_the_last_fate_of_any_kind(how):
    """Nothing is owed any more when the last query is given up (CON-16)."""
    scene = Scene(close_timeout=10.0)
    handle, _ = scene.ask(timeout=1.0)
    scene.client.close(now=scene.now)
    scene.clock.advance(1.0)
    if how == "cancel":
        assert scene.client.cancel(handle, now=scene.now)
        assert scene.client.next_timeout() == scene.now
        assert outcome(scene.tick()) == [closed(Cause.LOCAL_CLOSE)]
    else:
        assert outcome(scene.tick()) == [QueryTimedOut(query=handle, elapsed=1.0), closed(Cause.LOCAL_CLOSE)]


def test_unsolicited_messages_do_not_keep_a_closing_connection():
    """Nor do they end it: only the answer does (CON-16)."""
    scene = Scene()
    handle, wire = scene.ask()
    scene.client.close(now=scene.now)
    unsolicited = response_to(wire, id=id_of(wire) ^ 1)
    assert scene.receive(unsolicited) == [
        MessageDiscarded(message=unsolicited, reason=DiscardReason.UNKNOWN_ID, query=None)
    ]
    assert outcome(scene.receive(response_to(wire), unsolicited)) == [handle, closed(Cause.LOCAL_CLOSE)]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("timeout", [-0.5, math.nan])
def test_a_close_timeout_that_is_no_time(state, timeout):
    """A mistake in every state, and it changes nothing."""
    scene, _ = prepared(state)
    before = condition(scene.client)
    with pytest.raises(LocalProtocolError, match="timeout must be a number of seconds"):
        scene.client.close(now=scene.now, timeout=timeout)
    assert condition(scene.client) == before


# A server that does not answer


def asked_and_timed_out(scene: Scene, count: int, timeout: float = 1.0) -> list[object]:
    """These many queries at a time, none of which is answered; what becomes of them."""
    for _ in range(count):
        scene.ask(timeout=timeout)
    scene.clock.advance(timeout)
    return scene.tick()


def test_unanswered_queries_end_the_connection_before_they_have_taken_every_id():
    """FR-2: a server that answers some queries and silently drops others; what it still owes is waited for."""
    scene = Scene(max_in_flight=8, max_silent_timeouts=None)
    asked_and_timed_out(scene, 3)
    assert scene.client.is_open
    answered, wire = scene.ask(timeout=9.0)
    assert [type(event) for event in asked_and_timed_out(scene, 1)] == [QueryTimedOut]
    assert scene.client.state is State.DRAINING
    assert scene.client.closing_for is Cause.EXHAUSTED
    with pytest.raises(LocalProtocolError):
        scene.client.send_query(make_query("more.example"), now=scene.now)
    assert outcome(scene.receive(response_to(wire))) == [answered, closed(Cause.EXHAUSTED)]


@pytest.mark.parametrize("max_in_flight", [1, 2, 3, 64, 1024])
def test_half_of_what_may_be_in_flight_is_too_much(max_in_flight):
    """FR-2: rounded up, so that one of one is; never later, so that there is always capacity until then."""
    scene = Scene(max_in_flight=max_in_flight, max_silent_timeouts=None)
    for count in range((max_in_flight + 1) // 2 - 1, 0, -1):
        asked_and_timed_out(scene, 1)
        assert scene.client.is_open, count
        assert scene.client.capacity
    assert outcome(asked_and_timed_out(scene, 1))[1:] == [closed(Cause.EXHAUSTED)]


def test_cancelled_queries_count_from_their_own_deadline():
    """FR-2: until then their answers may be on their way; late answers give ids back."""
    scene = Scene(max_in_flight=4, max_silent_timeouts=None)
    queries = [scene.ask(timeout=3.0) for _ in range(2)]
    for handle, _ in queries:
        scene.client.cancel(handle, now=scene.now)
    scene.ask(timeout=60.0)
    assert scene.client.next_timeout() == scene.now + 3.0
    assert scene.receive(response_to(queries[0][1]))
    scene.clock.advance(3.0)
    assert scene.tick() == []
    assert scene.client.is_open
    _, again = scene.ask(timeout=2.0)
    scene.client.cancel(scene.ask(timeout=1.0)[0], now=scene.now)
    assert scene.receive(response_to(again))
    scene.clock.advance(1.0)
    scene.tick()
    assert scene.client.closing_for is Cause.EXHAUSTED


def test_the_count_is_put_off_while_answers_are_not_yet_late():
    """FR-2: more are cancelled, with later deadlines, and earlier ones are answered meanwhile."""
    scene = Scene(max_in_flight=4, max_silent_timeouts=None)
    first = scene.ask(timeout=1.0)
    others = [scene.ask(timeout=5.0), scene.ask(timeout=2.0)]
    for handle, _ in (first, *others):
        scene.client.cancel(handle, now=scene.now)
    assert scene.client.next_timeout() == scene.now + 5.0
    scene = Scene(max_in_flight=4, max_silent_timeouts=None)
    queries = [scene.ask(timeout=seconds) for seconds in (1.0, 2.0, 5.0)]
    for handle, _ in queries:
        scene.client.cancel(handle, now=scene.now)
    assert scene.client.next_timeout() == scene.now + 2.0
    scene.receive(response_to(queries[0][1]))
    scene.clock.advance(2.0)
    assert scene.tick() == []
    assert scene.client.next_timeout() == scene.now + 3.0
    scene.clock.advance(3.0)
    assert outcome(scene.tick()) == [closed(Cause.EXHAUSTED)]


def test_a_server_that_is_silent_for_good_is_given_up():
    """FR-3: three queries time out one after the other, and not one octet comes; the rest is safe to ask elsewhere."""
    scene = Scene()
    last, _ = scene.ask(timeout=60.0)
    for _ in range(2):
        assert [type(event) for event in asked_and_timed_out(scene, 1)] == [QueryTimedOut]
    timed_out, lost, end = asked_and_timed_out(scene, 1)
    assert isinstance(timed_out, QueryTimedOut)
    assert lost == QueryLost(query=last, safe_to_resend=True, was_sent=True)
    assert outcome([end]) == [closed(Cause.PEER_SILENT)]


def test_queries_that_time_out_together_are_one_silence():
    """FR-3: a burst says no more than one query; nor do queries that were asked before the last one timed out."""
    scene = Scene()
    asked_and_timed_out(scene, 50)
    for seconds in (0.1, 0.2, 0.3):
        scene.ask(timeout=1.0 + seconds)
    for _ in range(3):
        scene.wait()
    assert scene.client.is_open
    asked_and_timed_out(scene, 1)
    assert scene.client.state is State.CLOSED


def test_any_octet_is_a_sign_of_life():
    """FR-3: even one of a message that nobody asked for."""
    scene = Scene()
    for octet in stream_of([response_to(make_query("nobody.example"))])[:6]:
        asked_and_timed_out(scene, 2)
        scene.client.receive_data(bytes([octet]), now=scene.now)
    assert scene.client.is_open


def test_queries_that_never_left_prove_nothing():
    """FR-3: the transport takes nothing; whether the server would answer is not known."""
    scene = Scene(idle_timeout=60.0)
    for _ in range(5):
        scene.client.send_query(make_query("unsent.example"), now=scene.now, timeout=1.0)
        scene.clock.advance(1.0)
        scene.tick()
    assert scene.client.is_open


def test_a_moment_is_no_silence():
    """FR-3: queries with hardly any time of their own prove little; it takes two seconds in all."""
    scene = Scene()
    for _ in range(19):
        asked_and_timed_out(scene, 1, timeout=0.1)
    assert scene.client.is_open
    asked_and_timed_out(scene, 1, timeout=0.2)
    assert scene.client.state is State.CLOSED


def test_silence_can_be_borne():
    """FR-3: where the configuration says so."""
    scene = Scene(max_silent_timeouts=None)
    for _ in range(20):
        asked_and_timed_out(scene, 1)
    assert scene.client.is_open


# As many queries as one key of TLS is good for


def test_the_last_query_of_a_connection():
    """KEY-1: behind it the connection is drained, and ends with its own cause (RFC 8446, section 5.5)."""
    scene = Scene(max_queries=3)
    first, wire = scene.ask()
    assert scene.client.capacity == 2
    second, _ = scene.ask()
    scene.client.cancel(second, now=scene.now)
    assert scene.client.closing_for is None
    third, last = scene.ask()
    assert scene.client.state is State.DRAINING
    assert scene.client.closing_for is Cause.KEY_LIMIT
    assert (scene.client.is_open, scene.client.capacity) == (False, 0)
    with pytest.raises(LocalProtocolError, match="it is draining"):
        scene.client.send_query(make_query("more.example"), now=scene.now)
    assert outcome(scene.receive(response_to(last), response_to(wire))) == [third, first, closed(Cause.KEY_LIMIT)]


def test_the_last_query_may_be_asked_before_the_verdict():
    """KEY-1: no more are taken, and the drain begins with the verdict; nothing held is lost for it."""
    scene = Scene(verified=False, max_queries=2)
    handles = [scene.client.send_query(make_query(name), now=scene.now) for name in ("a.example", "b.example")]
    assert scene.client.state is State.UNVERIFIED
    assert (scene.client.is_open, scene.client.accepts_queries) == (False, False)
    before = condition(scene.client)
    with pytest.raises(LocalProtocolError, match=r"it has been asked 2 \(max_queries\)"):
        scene.client.send_query(make_query("more.example"), now=scene.now)
    assert condition(scene.client) == before
    assert [type(event) for event in scene.client.verify_peer(TRUSTED, now=scene.now)] == [PeerAuthenticated]
    assert scene.client.closing_for is Cause.KEY_LIMIT
    assert outcome(scene.receive(*map(response_to, scene.sent()))) == [*handles, closed(Cause.KEY_LIMIT)]


def test_the_last_query_may_be_given_up_before_the_verdict():
    """KEY-1: then nothing is owed, and the verdict is followed by the end."""
    scene = Scene(verified=False, max_queries=1)
    scene.client.cancel(scene.client.send_query(make_query("a.example"), now=scene.now), now=scene.now)
    assert not scene.client.is_open
    events = scene.client.verify_peer(TRUSTED, now=scene.now)
    assert outcome(events)[1:] == [closed(Cause.KEY_LIMIT)]
    assert scene.client.next_timeout() is None


@pytest.mark.parametrize("opcode", [0, 5])
def test_what_has_not_left_is_safe_to_ask_again(opcode):
    """KEY-1, CON-7, CON-8: where the connection breaks while it is drained, also of the last query."""
    scene = Scene(max_queries=2)
    query = message(question_of(make_query("a.example")), flags=opcode << 11)
    sent, _ = scene.ask(query)
    held = scene.client.send_query(query, now=scene.now)
    assert scene.client.state is State.DRAINING
    assert outcome(scene.client.receive_eof(now=scene.now)) == [
        QueryLost(query=sent, safe_to_resend=opcode == 0, was_sent=True),
        QueryLost(query=held, safe_to_resend=True, was_sent=False),
        closed(Cause.PEER_CLOSED),
    ]


def test_a_query_that_is_refused_does_not_count():
    """KEY-1: only those that are taken."""
    scene = Scene(max_queries=2)
    for wrong in (b"", bytes(12)[:-1], response_to(make_query("a.example"))):
        with pytest.raises(LocalProtocolError):
            scene.client.send_query(wrong, now=scene.now)
    assert scene.client.capacity == 2


def test_answers_behind_the_last_query_time_out():
    """KEY-1: a server that does not answer holds up nobody: each query has its own deadline."""
    scene = Scene(max_queries=1)
    handle, _ = scene.ask(timeout=3.0)
    scene.clock.advance(3.0)
    assert outcome(scene.tick()) == [QueryTimedOut(query=handle, elapsed=3.0), closed(Cause.KEY_LIMIT)]


def test_how_many_records_the_default_allows():
    """KEY-1: a query of up to 16 KiB is one record, so that the default leaves more than half of the limit."""
    assert ClientConfiguration().max_queries == 2**23
    assert 2.8 * ClientConfiguration().max_queries < 2**24.5
