"""The client against the model of dot_proto.testing, which foretells every event and every octet of every step.

Bugs are planted in the connection, to see that the machine finds each; steps in a fixed order reach every rule.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from dot_proto import (
    ClientConnection,
    ConnectionClosed,
    Fault,
    LocalProtocolError,
    QueryLost,
    QueryTimedOut,
    ResponseReceived,
    State,
)
from dot_proto._timers import Slot
from dot_proto.testing.client_machine import ANSWERS, EVIDENCE, MISTAKES, ClientMachine
from support.planted import SEARCH, find_bug

TestClient = ClientMachine.TestCase
TestClient.settings = settings(max_examples=2 * settings().max_examples, stateful_step_count=50)


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


class BelievesAnyKeepalive(Client):
    def __init__(self, policy, configuration, *, entropy):
        super().__init__(policy, replace(configuration, max_idle_timeout=1e6), entropy=entropy)


class StaysAsLongAsTheServer(Client):
    def _idle_timeout(self):
        return self.configuration.idle_timeout if self._stated_timeout is None else self._stated_timeout


class AsksOnAfterTheLastCall(Client):
    def _drain(self, cause, deadline):
        if cause.value != "last-call":
            super()._drain(cause, deadline)


class TakesAnyAnswer(Client):
    def _match(self, message, wire_id, events):
        return self._outstanding.pending.get(wire_id) or super()._match(message, wire_id, events)


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


class BearsAnyStrays(Client):
    def _match(self, message, wire_id, events):
        self._strays = 0
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


class CountsMistakesAsStrays(Client):
    """Which shows only when a message comes that is one."""

    def send_query(self, message, **options):
        try:
            return super().send_query(message, **options)
        except LocalProtocolError:
            self._strays += 1
            raise


@pytest.mark.parametrize("bug", Client.__subclasses__(), ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(bug):
    """Within a bounded number of examples, the same ones every time."""

    class Machine(ClientMachine):
        def make_connection(self, configuration):
            return bug(self.policy, configuration, entropy=super().make_connection(configuration)._outstanding._draw)

    assert find_bug(Machine)


def test_no_bug_is_found_where_none_is():
    """In the same search."""
    run_state_machine_as_test(ClientMachine, settings=SEARCH)


# Steps in a fixed order
