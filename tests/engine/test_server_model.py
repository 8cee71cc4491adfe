"""The server against the model of dot_proto.testing, which foretells every event and every octet of every step.

Bugs are planted in the connection, to see that the machine finds each; steps in a fixed order reach every rule.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from dot_proto import (
    Cause,
    ConnectionClosed,
    LocalProtocolError,
    QueryReceived,
    QueryRejected,
    ServerConnection,
    State,
)
from dot_proto._timers import Slot
from dot_proto.testing.server_machine import FAIR, MISTAKES, QUERIES, ServerMachine
from support.planted import SEARCH, find_bug

TestServer = ServerMachine.TestCase
TestServer.settings = settings(max_examples=2 * settings().max_examples, stateful_step_count=50)


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


class SendsAfterAFault(Server):
    def _lose_queries(self, cause, events):
        outgoing = self._outgoing
        super()._lose_queries(cause, events)
        self._outgoing = outgoing


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


class BearsAnyStrays(Server):
    def _discard(self, message, events):
        self._strays = 0
        super()._discard(message, events)


class NeverForgivesStrays(Server):
    def _receive_query(self, message, now, events):
        strays = self._strays_so_far
        super()._receive_query(message, now, events)
        self._strays = strays

    def _discard(self, message, events):
        super()._discard(message, events)
        self._strays_so_far = self._strays

    _strays_so_far = 0


class AnswersAResponse(Server):
    def _discard(self, message, events):
        super()._discard(message, events)
        self._outgoing.append(len(message).to_bytes(2) + message)


class TakesAnyOpcode(Server):
    def __init__(self, configuration):
        super().__init__(replace(configuration, opcodes=frozenset(range(16))))


class IsNeverIdle(Server):
    def _rest(self, now):
        self._timers.stop(Slot.IDLE)


class ClosesBeforeItsClient(Server):
    """No grace."""

    def _rest(self, now):
        if self._state is State.OPEN:
            self._timers.set(Slot.IDLE, now + self.configuration.idle_timeout)


class IdlesWhileItOwes(Server):
    def _receive_query(self, message, now, events):
        super()._receive_query(message, now, events)
        self._rest(now)


class NeverSaysGo(Server):
    """It states its usual idle timeout while it closes."""

    def send_response(self, query, message, *, now, more=False):
        is_draining = self._state is State.DRAINING
        if is_draining:
            self._state = State.OPEN
        try:
            return super().send_response(query, message, now=now, more=more)
        finally:
            if is_draining and self._state is State.OPEN:
                self._state = State.DRAINING
                self._timers.stop(Slot.IDLE)
                self._settle(now)


class IgnoresKeepalive(Server):
    def _send(self, query, message):
        query.wants_keepalive = False
        super()._send(query, message)


class DoesNotPad(Server):
    def __init__(self, configuration):
        super().__init__(replace(configuration, padding_block=None))


class PadsAnyAnswer(Server):
    def _send(self, query, message):
        query.is_padded = query.has_opt
        super()._send(query, message)


class SendsOptToAnybody(Server):
    def _send(self, query, message):
        query.has_opt = True
        super()._send(query, message)


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
        if self.closing_for is Cause.PEER_FINISHED and self._state is not State.CLOSED:
            self._end(Cause.PEER_CLOSED, None, events)
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
            self._send(self._answered[query], message)
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


class CountsMistakesAsStrays(Server):
    """Which shows only when a message comes that is one."""

    def send_response(self, query, message, *, now, more=False):
        try:
            return super().send_response(query, message, now=now, more=more)
        except LocalProtocolError:
            self._strays += 1
            raise


@pytest.mark.parametrize("bug", Server.__subclasses__(), ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(bug):
    """Within a bounded number of examples, the same ones every time."""

    class Machine(ServerMachine):
        def make_connection(self, configuration):
            return bug(configuration)

    assert find_bug(Machine)


def test_no_bug_is_found_where_none_is():
    """In the same search."""
    run_state_machine_as_test(ServerMachine, settings=SEARCH)
