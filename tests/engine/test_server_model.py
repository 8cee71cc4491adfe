"""The server against the model of dot_proto.testing, which foretells every event and every octet of every step.

Bugs are planted in the connection, to see that the machine finds each; steps in a fixed order reach every rule.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import settings

from dot_proto import (
    Cause,
    ConnectionClosed,
    LocalProtocolError,
    QueryReceived,
    QueryRejected,
    ServerConnection,
    State,
)
from dot_proto._state import Step
from dot_proto._timers import Slot
from dot_proto.server import _HAS_OPT, _IS_PADDED, _WANTS_DNSSEC, _WANTS_KEEPALIVE
from dot_proto.testing.connection_machine import ENDS
from dot_proto.testing.machines import ServerMachine
from dot_proto.testing.server_machine import FAIR, FORMS, MISTAKES, QUERIES
from support.interpreted import interpreted
from support.planted import find_bug

TestServer = ServerMachine.TestCase
TestServer.settings = settings(stateful_step_count=50)


# Bugs that are planted


class Server(ServerConnection):
    """Our own, with a bug."""


class AnswersUnderAnotherId(Server):
    def data_to_send(self):
        return [chunk[:3] + bytes([chunk[3] ^ 1]) + chunk[4:] for chunk in super().data_to_send()]


class MixesUpQueriesOfOneId(Server):
    """It knows them by their ids."""

    def send_response(self, query, message, *, now, more=False):
        same = [handle for handle in self._queries if self._queries[handle].message[:2] == self._id_of(query)]
        return super().send_response(same[0] if same else query, message, now=now, more=more)

    def _id_of(self, query):
        return self._queries[query].message[:2] if query in self._queries else None


class ForgetsAQuery(Server):
    """One that comes in a read with others, under an id that is in use."""

    def receive_data(self, data, *, now):
        ids = [query.message[:2] for query in self._queries.values()]
        events = super().receive_data(data, now=now)
        return [each for each in events if not (isinstance(each, QueryReceived) and each.message[:2] in ids)]


class ReadsOnWhileItCloses(Server):
    def receive_data(self, data, *, now):
        is_draining = self._state is State.DRAINING
        if is_draining:
            self._state = State.OPEN
        events = super().receive_data(data, now=now)
        if is_draining and self._state is State.OPEN:
            self._state = State.DRAINING
        return events


class SendsToAClientThatIsGone(Server):
    def fail(self, error, *, now):
        outgoing = self._outgoing.copy()
        events = super().fail(error, now=now)
        self._outgoing = outgoing
        return events


class KeepsBackAnswersAtTheEnd(Server):
    """Those that were ready."""

    def _lose_queries(self, cause, events):
        super()._lose_queries(cause, events)
        self._outgoing = []


class ExceedsTheHardLimit(Server):
    def __init__(self, configuration):
        super().__init__(replace(configuration, hard_outstanding=1 << 20))


class AlwaysWantsData(Server):
    @property
    def wants_data(self):
        return self._state is State.OPEN


class ForgetsItsOctets(Server):
    @property
    def wants_data(self):
        return self._state is State.OPEN and len(self._queries) < self.configuration.max_outstanding


class AllowsAnyNumberOfUnsolicited(Server):
    def _discard(self, message, events):
        self._unsolicited = 0
        super()._discard(message, events)


class NeverResetsUnsolicited(Server):
    def _receive_query(self, message, now, events):
        unsolicited = self._unsolicited_so_far
        super()._receive_query(message, now, events)
        self._unsolicited = unsolicited

    def _discard(self, message, events):
        super()._discard(message, events)
        self._unsolicited_so_far = self._unsolicited

    _unsolicited_so_far = 0


class AnswersAResponse(Server):
    def _discard(self, message, events):
        super()._discard(message, events)
        self._outgoing.append(len(message).to_bytes(2) + message)


class TakesAnyOpcode(Server):
    def __init__(self, configuration):
        super().__init__(replace(configuration, opcodes=frozenset(range(16))))


class IsNeverIdle(Server):
    def _restart_idle_timer(self, now):
        self._timers.stop(Slot.IDLE)


class ClosesBeforeItsClient(Server):
    """No grace."""

    def _restart_idle_timer(self, now):
        if self._state is State.OPEN:
            self._timers.set(Slot.IDLE, now + self.configuration.idle_timeout)


class IdlesWhileItOwes(Server):
    def _receive_query(self, message, now, events):
        super()._receive_query(message, now, events)
        self._restart_idle_timer(now)


class NeverSaysGo(Server):
    """It states its usual idle timeout while it closes."""

    def _move(self, step):
        added = self._added
        super()._move(step)
        self._added = added


class IgnoresKeepalive(Server):
    def _send(self, query, message, now):
        query.kind &= ~_WANTS_KEEPALIVE
        super()._send(query, message, now)


class DoesNotPad(Server):
    def __init__(self, configuration):
        super().__init__(replace(configuration, padding_block=None))


class PadsAnyAnswer(Server):
    def _send(self, query, message, now):
        query.kind |= _IS_PADDED * bool(query.kind & _HAS_OPT)
        super()._send(query, message, now)


class SendsOptToAnybody(Server):
    def _send(self, query, message, now):
        query.kind |= _HAS_OPT
        super()._send(query, message, now)


class LeavesOutDnssecOk(Server):
    """FR-62."""

    def _send(self, query, message, now):
        query.kind &= ~_WANTS_DNSSEC
        super()._send(query, message, now)


class StatesMoreThanIsLeft(Server):
    """FR-65: the idle timeout, though the connection ends earlier."""

    def begin(self, *, now):
        super().begin(now=now)
        self._added_until = math.inf


class HandsOnWhatAnotherServerSaid(Server):
    """FR-65: its keepalive, padding, version, and all else."""

    def _send(self, query, message, now):
        if message[11] and query.kind & _HAS_OPT:
            self._outgoing.append(len(message).to_bytes(2) + query.message[:2] + message[2:])
        else:
            super()._send(query, message, now)


class EndsAnExchangeTooEarly(Server):
    """With the first of several messages."""

    def send_response(self, query, message, *, now, more=False):
        return super().send_response(query, message, now=now)


class NeverEndsAnExchange(Server):
    """Whoever has begun to answer owes more for ever."""

    def send_response(self, query, message, *, now, more=False):
        self._begun.append(query)
        return super().send_response(query, message, now=now, more=more or query in self._begun[:-1])

    def __init__(self, configuration):
        super().__init__(configuration)
        self._begun: list[int] = []


class TakesAnyNumberOfQueries(Server):
    def __init__(self, configuration):
        super().__init__(replace(configuration, max_queries=None))


class LivesForEver(Server):
    def __init__(self, configuration):
        super().__init__(replace(configuration, max_duration=None))


class ClosesWithoutADeadline(Server):
    def close(self, *, now, timeout=None):
        super().close(now=now, timeout=timeout)
        self._timers.stop(Slot.CLOSE)


class GoesWithItsClient(Server):
    """Though it owes answers to one that has only finished asking."""

    def receive_eof(self, *, now, orderly=True):
        events = super().receive_eof(now=now, orderly=orderly)
        if orderly and self.closing_for is Cause.PEER_FINISHED and self._state is not State.CLOSED:
            self._end(Cause.PEER_CLOSED, None, events)
        return events


class GoesWithItsClientWithoutAWord(Server):
    """FR-28, FR-70: an end that is not in order makes it forget what it owes."""

    def receive_eof(self, *, now, orderly=True):
        events = super().receive_eof(now=now, orderly=orderly)
        if self._peer_error is not None and self._state is not State.CLOSED:
            self._end(Step.TRANSPORT_FAILED, None, events)
        return events


class ForgetsHowItsClientFinished(Server):
    """FR-70: the end is told as if it had been in order."""

    def receive_eof(self, *, now, orderly=True):
        events = super().receive_eof(now=now, orderly=orderly)
        self._peer_error = None
        return events


class OverlooksATruncation(Server):
    def _end_of_stream_error(self, orderly):
        return None if orderly else super()._end_of_stream_error(orderly)


class EndsWithoutAWord(Server):
    def handle_timeout(self, *, now):
        return [event for event in super().handle_timeout(now=now) if not isinstance(event, ConnectionClosed)]


class RejectsInSilence(Server):
    def receive_data(self, data, *, now):
        return [event for event in super().receive_data(data, now=now) if not isinstance(event, QueryRejected)]


class AnswersATimeTooMany(Server):
    """Whoever answers twice is not told, and both answers are sent."""

    def send_response(self, query, message, *, now, more=False):
        found = self._queries.get(query)
        if found is not None:
            self._answered[query] = found
        elif query in self._answered and self._state is not State.CLOSED:
            self._send(self._answered[query], message, now)
            return True
        return super().send_response(query, message, now=now, more=more)

    def __init__(self, configuration):
        super().__init__(configuration)
        self._answered: dict[int, object] = {}


class CountsOnFromElsewhere(Server):
    """So that no record of its calls can be replayed."""

    elsewhere = itertools.count(1000)

    def __init__(self, configuration):
        super().__init__(configuration)
        self._next_handle = next(self.elsewhere)


class CountsMistakesAsUnsolicited(Server):
    """Which shows only when a message comes that is one."""

    def send_response(self, query, message, *, now, more=False):
        try:
            return super().send_response(query, message, now=now, more=more)
        except LocalProtocolError:
            self._unsolicited += 1
            raise


@interpreted
@pytest.mark.parametrize("bug", Server.__subclasses__(), ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(bug):
    """Within a bounded number of examples, the same ones every time."""

    class Machine(ServerMachine):
        def make_connection(self, configuration):
            return bug(configuration)

    assert find_bug(Machine)


# Steps in a fixed order, so that what is tested does not hang on luck


def begun(configuration: int = 0) -> ServerMachine:
    """A machine at its beginning."""
    machine = ServerMachine()
    machine.begin(configuration)
    return machine


def last(machine: ServerMachine) -> tuple[str, ...]:
    """What kinds the last two events are of."""
    return tuple(type(event).__name__ for event in machine.events[-2:])


@pytest.mark.parametrize("configuration", range(len(ServerMachine.configurations)))
@pytest.mark.parametrize("kind", QUERIES)
def test_each_kind_of_query(kind, configuration):
    """Answered in every way, where it is the caller's to answer."""
    machine = begun(configuration)
    machine.receive([("bare", 1), (kind, 1), (kind, 2)], [1, 60])
    for form, more in zip(FORMS, (True, True, True, False), strict=True):
        machine.respond(0, form, more)
    machine.drain()
    machine.receive_one(kind, 1)
    machine.send_error(0, 23)
    machine.receive_one(kind, 1)
    machine.decline(0)
    machine.close(1.0)
    machine.receive_one(kind, 1)
    machine.send_error(0, 5)
    machine.respond(0, form="opt", more=False)
    machine.teardown()


def test_too_many_outstanding():
    """The engine answers by itself what is beyond the limit."""
    machine = begun(0)
    machine.receive([(kind, 0) for kind in FAIR], [])
    assert last(machine) == ("QueryRejected", "QueryRejected")
    machine.teardown()


def test_the_limit_on_queries():
    """The last one is answered and told to go; what comes behind it is not read."""
    machine = begun(2)
    machine.receive([("keepalive", 0)] * 8, [])
    assert machine.connection.state is State.DRAINING
    for _ in range(6):
        machine.respond(0, form="bare", more=False)
    machine.sleep()
    assert last(machine) == ("QueryReceived", "ConnectionClosed")
    machine.begin_again(2)
    machine.flood("opcode", 0, 6)
    assert last(machine) == ("QueryRejected", "ConnectionClosed")
    machine.teardown()


def test_idleness_and_duration():
    """With nothing outstanding the server goes; in the end it goes anyway, with nothing owed or with something."""
    machine = begun(1)
    machine.sleep()
    assert last(machine) == ("ConnectionClosed",)
    machine.begin_again(1)
    machine.pass_time(2.5, looks=False)
    machine.receive_one("bare", 0)
    machine.sleep()
    machine.sleep()
    assert last(machine) == ("QueryReceived", "ConnectionClosed")
    machine.begin_again(1)
    machine.receive_one("bare", 0)
    machine.close(math.inf)
    machine.sleep()
    machine.respond(0, form="bare", more=False)
    machine.sleep()
    assert last(machine) == ("QueryReceived", "ConnectionClosed")
    machine.teardown()


def test_closing():
    """Waits for answers for so long; behind it nothing is taken."""
    machine = begun(0)
    machine.close(None)
    machine.close(None)
    machine.sleep()
    machine.begin_again(0)
    machine.receive([("all", 0), ("all", 0)], [])
    machine.close(None)
    machine.close(1.0)
    machine.respond(0, form="opt", more=False)
    machine.sleep()
    assert last(machine) == ("QueryReceived", "ConnectionClosed")
    machine.respond(0, form="opt", more=False)
    machine.send_error(0, 2)
    machine.decline(0)
    machine.teardown()


def test_answering_twice():
    """Is a mistake, in each of three ways."""
    machine = begun(0)
    machine.receive_one("bare", 0)
    machine.decline(0)
    machine.respond(0, form="bare", more=False)
    machine.send_error(0, 2)
    machine.decline(0)
    machine.teardown()


def test_too_many_unsolicited_messages():
    """One more than are allowed; a query in between forgives them."""
    machine = begun(0)
    machine.receive([("response", 0), ("bare", 0), ("response", 0)], [])
    machine.receive([("response", 0), ("bare", 0)], [])
    assert last(machine) == ("MessageDiscarded", "ConnectionClosed")
    machine.teardown()


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake(mistake):
    """With a query outstanding, without, and once all is over."""
    machine = begun()
    machine.err(mistake, 0)
    machine.receive_one("bare", 0)
    machine.err(mistake, 0)
    machine.end("reset", orderly=False)
    machine.err(mistake, 0)
    machine.teardown()


@pytest.mark.parametrize("step", ["nothing", "query", "closing", "finished"])
@pytest.mark.parametrize("orderly", [False, True])
@pytest.mark.parametrize("how", ENDS)
def test_each_end(how, orderly, step):
    """In each state; and what comes behind the end."""
    machine = begun()
    if step != "nothing":
        machine.receive_one("bare", 0)
    if step == "closing":
        machine.close(5.0)
    if step == "finished":
        machine.end("eof", orderly=True)
    for _ in range(2):
        machine.what_can_be_seen_is_as_foretold()
        machine.the_next_timeout_is_never_late()
        machine.the_end_is_the_end()
        machine.the_limits_are_as_foretold()
        machine.end(how, orderly)
    machine.end("in a length", orderly)
    machine.teardown()
