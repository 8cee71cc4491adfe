"""The client against the model of dot_proto.testing, which foretells every event and every octet of every step.

Bugs are planted in the connection, to see that the machine finds each; steps in a fixed order reach every rule.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import settings

from dot_proto import (
    Cause,
    ClientConfiguration,
    ClientConnection,
    ConnectionClosed,
    DiscardReason,
    LocalProtocolError,
    MessageDiscarded,
    QueryLost,
    QueryTimedOut,
    ResponseReceived,
    State,
)
from dot_proto._edns import for_queries, splice
from dot_proto._keepalive import StatedTimeout
from dot_proto._matching import Exchange, Outstanding
from dot_proto._message import walk
from dot_proto._state import Step
from dot_proto._timers import Slot
from dot_proto.testing.client_machine import ANSWERS, EVIDENCE, MISTAKES, always_seven
from dot_proto.testing.connection_machine import ENDS
from dot_proto.testing.machines import ClientMachine
from support.interpreted import interpreted
from support.planted import find_bug

TestClient = ClientMachine.TestCase
TestClient.settings = settings(stateful_step_count=50)


# Bugs that are planted


class Client(ClientConnection):
    """Our own, with a bug."""


class NeverTimesOut(Client):
    def handle_timeout(self, *, now):
        return [event for event in super().handle_timeout(now=now) if not isinstance(event, QueryTimedOut)]


class TimesOutTooEarly(Client):
    def handle_timeout(self, *, now):
        return super().handle_timeout(now=now + 0.5)


class SleepsTooLong(Client):
    def next_timeout(self):
        deadline = super().next_timeout()
        return deadline and deadline + 1.0


class NeverSleeps(Client):
    def next_timeout(self):
        return 0.0


class AnswersTwice(Client):
    def receive_data(self, data, *, now):
        events = super().receive_data(data, now=now)
        return [each for event in events for each in [event] * (1 + isinstance(event, ResponseReceived))]


class SpeaksBeforeTheVerdict(Client):
    def data_to_send(self):
        if self._state is State.UNVERIFIED and self._outgoing:
            chunks = list(self._outgoing.values())
            self._outgoing.clear()
            return chunks
        return super().data_to_send()


class TrustsAnybody(Client):
    def verify_peer(self, evidence, *, now):
        return super().verify_peer(EVIDENCE["trusted"], now=now)


class ReusesAnIdTooEarly(Client):
    def _abandon(self, query):
        super()._abandon(query)
        abandoned = self._outstanding.abandoned
        if query.wire_id in abandoned:
            abandoned[-query.wire_id] = abandoned.pop(query.wire_id)


class NeverFreesAnId(Client):
    def _discard_late(self, query, message, events):
        super()._discard_late(query, message, events)
        self._outstanding.abandoned[query.wire_id] = query


class ForgetsAnAnswerAtTheClose(Client):
    def _lose_queries(self, cause, events):
        super()._lose_queries(cause, [])


class SaysThatAllIsSafe(Client):
    def _lose_queries(self, cause, events):
        super()._lose_queries(cause, events)
        events[:] = [replace(each, safe_to_resend=True) if isinstance(each, QueryLost) else each for each in events]


class IgnoresKeepalive(Client):
    def _idle_timeout(self):
        return self.configuration.idle_timeout


class IgnoresWhatALateAnswerSays(Client):
    """FR-64."""

    def _discard_late(self, query, message, events):
        stated, count = self._stated, len(events)
        self._stated = StatedTimeout()
        super()._discard_late(query, message, events)
        self._stated = stated
        del events[count + 1 :]


class BelievesAnyKeepalive(Client):
    def __init__(self, policy, configuration, *, entropy):
        super().__init__(policy, replace(configuration, max_idle_timeout=1e6), entropy=entropy)


class StaysAsLongAsTheServer(Client):
    def _idle_timeout(self):
        return self.configuration.idle_timeout if self._stated.seconds is None else self._stated.seconds


class AsksOnAfterTheLastCall(Client):
    def _drain(self, cause, deadline):
        if cause.value != "go-away":
            super()._drain(cause, deadline)


class TakesAnyAnswer(Client):
    def _match(self, message, wire_id, events):
        return self._outstanding.pending.get(wire_id) or super()._match(message, wire_id, events)


class InsistsOnAQuestion(Client):
    """FR-6."""

    def _match(self, message, wire_id, events):
        query = super()._match(message, wire_id, events)
        if query is None or message[4:6] != b"\0\0" or message[3] & 15 not in (0, 3):
            return query
        events.append(MessageDiscarded(message, DiscardReason.QUESTION_MISSING, query.handle))
        return None


class ReadsFourBitsOfAnRcode(Client):
    """FR-66."""

    def _discard_late(self, query, message, events):
        super()._discard_late(query, message, events)
        if isinstance(query, Exchange) and not message[3] & 15:
            self._outstanding.abandoned[query.wire_id] = query


class EndsNoExchangeByBadvers(Client):
    """FR-66."""

    def receive_data(self, data, *, now):
        pending = dict(self._outstanding.pending)
        events = super().receive_data(data, now=now)
        for event in events:
            if isinstance(event, ResponseReceived) and event.rcode == 16 and self.state is State.OPEN:
                query = pending[event.query & 0xFFFF]
                if isinstance(query, Exchange):
                    self._outstanding.pending[query.wire_id] = query
        return events


class ChangesTheIdOfASignedQuery(Client):
    """FR-61."""

    def _prepared(self, message):
        prepared = super()._prepared(message)
        prepared.own_id = -1
        return prepared


class PadsASignedQuery(Client):
    """FR-61."""

    def _prepared(self, message):
        prepared = super()._prepared(message)
        if prepared.own_id >= 0:
            unsigned = message[:11] + b"\1" + message[12 : prepared.question_end + 11]
            added = for_queries(keepalive=False, padding_block=128)
            prepared.behind_id = splice(unsigned, walk(unsigned), added)[2:]
        return prepared


class GivesAnIdTwice(Client):
    """FR-61: a query signed by SIG(0) takes the id of another."""

    def __init__(self, policy, configuration, *, entropy):
        super().__init__(policy, configuration, entropy=entropy)
        self._outstanding = TakesNothingForTaken(entropy)


class TakesNothingForTaken(Outstanding):
    def is_taken(self, wire_id):
        return False


class IgnoresTheKeyLimit(Client):
    """KEY-1."""

    def __init__(self, policy, configuration, *, entropy):
        super().__init__(policy, replace(configuration, max_queries=1 << 24), entropy=entropy)


class StaysOpenBehindTheLastQuery(Client):
    """KEY-1."""

    def _drain(self, step, deadline):
        if step is not Step.KEY_LIMIT:
            super()._drain(step, deadline)


class IsStrictAboutCase(Client):
    def _match(self, message, wire_id, events):
        query = super()._match(message, wire_id, events)
        return query if query is None or message.startswith(query.question, 12) else None


class KeepsItsOwnId(Client):
    def receive_data(self, data, *, now):
        events = super().receive_data(data, now=now)
        return [
            replace(each, message=(each.query & 0xFFFF).to_bytes(2) + each.message[2:])
            if isinstance(each, ResponseReceived)
            else each
            for each in events
        ]


class ExceedsTheLimit(Client):
    def __init__(self, policy, configuration, *, entropy):
        more = replace(configuration, max_in_flight=configuration.max_in_flight + 1)
        super().__init__(policy, more, entropy=entropy)


class AllowsAnyNumberOfUnsolicited(Client):
    def _match(self, message, wire_id, events):
        self._unsolicited = 0
        return super()._match(message, wire_id, events)


class DoesNotPad(Client):
    def __init__(self, policy, configuration, *, entropy):
        super().__init__(policy, replace(configuration, padding_block=None), entropy=entropy)


class LosesTheLastMessage(Client):
    def data_to_send(self):
        return super().data_to_send()[:-1]


class IdlesWhileItWaits(Client):
    def send_query(self, message, **options):
        idle_at = self._timers.deadline(Slot.IDLE)
        handle = super().send_query(message, **options)
        self._timers.set(Slot.IDLE, idle_at)
        return handle


class ClosesWithoutADeadline(Client):
    def close(self, *, now, timeout=None):
        super().close(now=now, timeout=timeout)
        self._timers.stop(Slot.CLOSE)


class EndsWithoutAWord(Client):
    def receive_eof(self, *, now, orderly=True):
        events = super().receive_eof(now=now, orderly=orderly)
        return [event for event in events if not isinstance(event, ConnectionClosed)]


class ThinksATruncationOrderly(Client):
    def _end_of_stream_error(self, orderly):
        return None if orderly else super()._end_of_stream_error(orderly)


class EndsTwice(Client):
    def fail(self, error, *, now):
        events = super().fail(error, now=now)
        return events or [ConnectionClosed(*self._last_end())]

    def _last_end(self):
        return self.closing_for, None


class RenewsNoDeadline(Client):
    """Of an exchange, when a message of it comes."""

    def receive_data(self, data, *, now):
        before = {query.handle: query.deadline for query in self._outstanding.pending.values()}
        events = super().receive_data(data, now=now)
        for query in self._outstanding.pending.values():
            query.deadline = before[query.handle]
        return events


class DrawsIdsFromElsewhere(Client):
    """So that no record of its calls can be replayed."""

    elsewhere = itertools.count(1000)

    def __init__(self, policy, configuration, *, entropy):
        super().__init__(policy, configuration, entropy=lambda size: next(self.elsewhere).to_bytes(2) * (size // 2))


class CountsMistakesAsUnsolicited(Client):
    """Which shows only when a message comes that is one."""

    def send_query(self, message, **options):
        try:
            return super().send_query(message, **options)
        except LocalProtocolError:
            self._unsolicited += 1
            raise


@interpreted
@pytest.mark.parametrize("bug", Client.__subclasses__(), ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(bug):
    """Within a bounded number of examples, the same ones every time."""

    class Machine(ClientMachine):
        def make_connection(self, configuration):
            return bug(self.policy, configuration, entropy=always_seven)

    assert find_bug(Machine)


# Steps in a fixed order, so that what is tested does not hang on luck


def begun(configuration: int = 3, *, verified: bool = True) -> ClientMachine:
    """A machine at its beginning; the third configuration allows for many unsolicited messages."""
    machine = ClientMachine()
    machine.begin(configuration, verified)
    return machine


def last(machine: ClientMachine) -> tuple[str, ...]:
    """What kinds the last two events are of."""
    return tuple(type(event).__name__ for event in machine.events[-2:])


@pytest.mark.parametrize("configuration", range(4))
@pytest.mark.parametrize("multiple", [False, True])
@pytest.mark.parametrize("opcode", [0, 5])
@pytest.mark.parametrize("kind", ANSWERS)
def test_each_kind_of_answer(kind, opcode, multiple, configuration):
    """To a query that is pending, that has been answered, that was given up, or that was not sent yet."""
    machine = begun(configuration)
    for is_given_up in (False, True):
        machine.ask("a.example", opcode, 20.0, multiple, held=False)
        machine.receive([(0, "right", None), (0, kind, None)], [5, 40])
        machine.end_exchange(0)
        machine.ask("B.example", opcode, 20.0, multiple, held=False)
        if is_given_up:
            machine.cancel(-1)
        machine.receive([(-1, kind, None), (-1, kind, None)], [])
        machine.ask("B.example", opcode, 20.0, multiple, held=True)
        machine.receive([(-1, kind, None)], [])
    machine.teardown()


def test_keepalive_in_every_way():
    """Stated, stated again, changed, badly formed (which is reported once), not stated any more, and zero."""
    machine = begun(0)
    for keepalive in (b"\0\xc8", b"\0\xc8", b"\x01\x90", b"", b"", None, b"\0\x1e"):
        machine.exchange("a.example", multiple=False, keepalive=keepalive, seconds=0.5)
    kinds = [type(event).__name__ for event in machine.events]
    assert kinds.count("KeepaliveReceived") == 5
    machine.ask("a.example", 0, 8.0, multiple=False, held=False)
    machine.exchange("a.example", multiple=False, keepalive=b"\0\0", seconds=0.0)
    assert machine.connection.state is State.DRAINING
    machine.receive_one(0, b"\0\0")
    assert last(machine) == ("ResponseReceived", "ConnectionClosed")
    machine.exchange("a.example", multiple=False, keepalive=None, seconds=0.0)
    machine.teardown()


def test_places_run_out_and_come_back():
    """A query that was given up keeps its place until the late answer comes, however many messages that has."""
    machine = begun(0)
    for number in range(5):
        machine.ask("a.example", 0, 8.0 if number > 1 else 1.0, number == 0, held=False)
    machine.cancel(3)
    machine.cancel(3)
    machine.pass_time(1.0, looks=True)
    assert last(machine) == ("QueryTimedOut", "QueryTimedOut")
    machine.ask("a.example", 0, 1.0, multiple=False, held=False)
    for kind in ("right", "refused"):
        machine.receive([(which, kind, None) for which in (0, 0, 0)], [])
    machine.teardown()


def test_silence():
    """Two queries time out one after the other, and not one octet comes."""
    machine = begun(2)
    for _ in range(2):
        machine.ask("a.example", 0, 1.0, multiple=False, held=False)
        machine.pass_time(1.0, looks=True)
    assert last(machine) == ("QueryTimedOut", "ConnectionClosed")
    assert machine.events[-1].cause is Cause.PEER_SILENT
    machine.teardown()


def test_silence_while_every_query_is_cancelled_in_time():
    """For two seconds, as long as two queries with their default time; an octet begins the count anew."""

    class Machine(ClientMachine):
        configurations = (ClientConfiguration(max_in_flight=64, query_timeout=1.0, max_silent_timeouts=2),)

    machine = Machine()
    machine.begin(0, True)
    for answers in (True, False, False, False):
        machine.ask("a.example", 0, 8.0, multiple=False, held=False)
        machine.pass_time(1.0, looks=True)
        machine.cancel(-1)
        if answers:
            machine.receive([(-1, "right", None)], [])
    machine.pass_time(0.0, looks=True)
    assert machine.events[-1].cause is Cause.PEER_SILENT
    machine.teardown()


def test_ids_that_run_short():
    """The engine counts when the first of them are late, and once more when so are others."""
    machine = begun(0)
    limit = machine.connection.configuration.max_in_flight
    for number in range(limit):
        machine.ask("a.example", 0, 1.0 + number, multiple=False, held=False)
    for _ in range(limit - 1):
        machine.cancel(0)
    machine.receive([(1, "right", None)], [])  # the first that was cancelled
    machine.pass_time(2.0, looks=True)
    assert machine.connection.is_open
    machine.pass_time(1.0, looks=True)
    assert machine.connection.closing_for is Cause.EXHAUSTED
    machine.teardown()


def test_idleness():
    """With nothing outstanding the client goes; another connection is begun."""
    machine = begun(2)
    machine.pass_time(0.5, looks=False)
    machine.pass_time(0.0, looks=True)
    machine.ask("a.example", 0, None, multiple=False, held=False)
    machine.sleep()
    machine.sleep()
    assert last(machine) == ("QueryTimedOut", "ConnectionClosed")
    machine.sleep()
    machine.ask("a.example", 0, None, multiple=False, held=False)
    machine.cancel(0)
    machine.close(None)
    machine.begin_again(0, verified=False)
    assert machine.connection.state is State.UNVERIFIED
    machine.teardown()


def test_closing():
    """Waits for answers for so long; closing again shortens it; the last answer ends it."""
    machine = begun()
    machine.ask("a.example", 0, 20.0, multiple=False, held=False)
    machine.close(None)
    machine.close(1.0)
    machine.sleep()
    assert last(machine) == ("QueryLost", "ConnectionClosed")
    machine.begin_again(3, verified=True)
    machine.ask("a.example", 0, 20.0, multiple=False, held=True)
    machine.close(5.0)
    machine.drain()
    machine.receive_one(0, None)
    assert last(machine) == ("ResponseReceived", "ConnectionClosed")
    machine.begin_again(3, verified=True)
    machine.ask("a.example", 0, 20.0, multiple=False, held=True)
    machine.close(5.0)
    machine.cancel(0)
    machine.end("eof", orderly=True)
    assert last(machine) == ("PeerAuthenticated", "ConnectionClosed")
    machine.teardown()


@pytest.mark.parametrize("whom", EVIDENCE)
def test_authentication(whom):
    """What is asked is held, and given up, until the peer is judged."""
    machine = begun(0, verified=False)
    machine.ask("a.example", 0, 20.0, multiple=False, held=False)
    machine.ask("a.example", 0, 1.0, multiple=False, held=False)
    machine.cancel(0)
    machine.verify_peer(whom)
    machine.drain()
    assert machine.connection.state is (State.OPEN if whom == "trusted" else State.CLOSED)
    machine.teardown()


def test_closing_before_the_verdict():
    """The end waits for the next verb, which may be the verdict."""
    machine = begun(0, verified=False)
    machine.ask("a.example", 0, 20.0, multiple=False, held=False)
    machine.close(None)
    machine.verify_peer("trusted")
    assert last(machine) == ("QueryLost", "ConnectionClosed")
    assert machine.connection.verdict is None
    machine.teardown()


@pytest.mark.parametrize("verified", [False, True])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake(mistake, verified):
    """Also once all is over."""
    machine = begun(verified=verified)
    machine.err(mistake)
    machine.end("reset", orderly=False)
    machine.err(mistake)
    machine.teardown()


@pytest.mark.parametrize("verified", [False, True])
@pytest.mark.parametrize("orderly", [False, True])
@pytest.mark.parametrize("how", ENDS)
def test_each_end(how, orderly, verified):
    """Octets do not come before the verdict."""
    machine = begun(verified=verified)
    machine.ask("a.example", 5, 20.0, multiple=False, held=False)
    for _ in range(2):
        machine.what_can_be_seen_is_as_foretold()
        machine.the_next_timeout_is_never_late()
        machine.the_end_is_the_end()
        machine.the_places_are_as_foretold()
        machine.end(how, orderly)
    machine.teardown()


def test_too_many_unsolicited_messages():
    """One more than are allowed; what comes behind is not read."""
    machine = begun(1)
    machine.ask("a.example", 0, 20.0, multiple=False, held=False)
    machine.receive([(0, "echo", None), (0, "right", None)], [])
    assert last(machine) == ("QueryLost", "ConnectionClosed")
    machine.begin_again(0, verified=True)
    machine.ask("a.example", 0, 20.0, multiple=False, held=False)
    machine.flood(0, "other-name", 4)
    assert last(machine) == ("QueryLost", "ConnectionClosed")
    machine.teardown()


# What a complaint says


def test_a_complaint_shows_the_calls():
    """As a script; and Hypothesis, which calls teardown() nevertheless, is told of no other."""
    machine = begun()
    machine.ask("a.example", 0, 20.0, multiple=False, held=False)
    machine.model.pending.clear()

    def fail_and_tear_down() -> None:
        try:
            machine.end("reset", orderly=False)
        finally:
            machine.teardown()

    with pytest.raises(AssertionError, match=r"^events: \[QueryLost.*; due is \[\('Conn") as raised:
        fail_and_tear_down()
    (note,) = raised.value.__notes__
    assert "\nconnection.send_query(b'" in note
    assert "timeout=20.0, multiple=False)  # 7\n" in note


def test_an_error_out_of_place_is_complained_of():
    """Where the caller made no mistake."""
    machine = begun()
    machine.connection.handle_timeout = lambda *, now: 1 / 0
    with pytest.raises(AssertionError, match=r"<lambda> raises ZeroDivisionError\("):
        machine.tick()


def test_what_is_no_mistake_is_complained_of():
    """Where an error is due."""
    machine = begun()
    with pytest.raises(AssertionError, match="mistake is told: False; due is True"):
        machine.refused(LocalProtocolError, machine.connection.data_to_send)


def test_a_recording_replays():
    """On a connection that is alike; with the mistakes or without; and on no other."""
    machine = begun()
    machine.err("short")
    machine.ask("a.example", 0, 20.0, multiple=False, held=False)
    machine.recording.replay(machine.another())
    machine.recording.replay(machine.another(), mistakes=False)
    unverified = machine.make_connection(machine.configurations[0])
    unverified.close(now=100.0)
    with pytest.raises(AssertionError, match=r"^replayed, call 0 brings .*: connection.verify_peer\("):
        machine.recording.replay(unverified)
    verified = machine.make_connection(machine.configurations[0])
    verified.verify_peer(EVIDENCE["nobody"], now=100.0)
    machine.recording.calls[0:1] = []
    with pytest.raises(AssertionError, match=r"^replayed, the mistakes left out, call 1 brings LocalProtocolError"):
        machine.recording.replay(verified, mistakes=False)
