"""The law of a driver's duties holds for an engine in the plainest session, and finds every bug that is planted."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import strategies as st

from dot_proto import (
    AuthenticationPolicy,
    Cause,
    ClientConfiguration,
    ClientConnection,
    ConnectionClosed,
    Event,
    Evidence,
    Fault,
    QueryLost,
    RemoteProtocolError,
    ServerConfiguration,
    ServerConnection,
    State,
)
from dot_proto.testing.duties import (
    CLOSE,
    CLOSE_AT_ONCE,
    ENDS,
    SILENCE,
    Make,
    check_duties,
    every_moment,
)
from dot_proto.testing.exchange import Action, Exchange, Pair, Plan
from support.scenes import counting

HELLO = b"\x16"
"What both sides of this test's handshake send first."


class PlainSession:
    """A session without TLS: one octet from each side is the handshake, and every end of TCP is one in order."""

    def __init__(self, connection: ClientConnection | ServerConnection, *, now: float) -> None:
        self.connection: Any = connection
        self.unsent = HELLO
        self.is_through = False
        self.deadline = now + 5.0

    @property
    def is_finished(self) -> bool:
        return self.has_ended and self.connection.next_timeout() is None and not self.unsent

    @property
    def has_ended(self) -> bool:
        return self.connection.state is State.CLOSED

    def data_to_send(self) -> list[bytes]:
        self.encrypt()
        chunks, self.unsent = [self.unsent] if self.unsent else [], b""
        return chunks

    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        events: list[Event] = []
        if data and not self.is_through and not self.has_ended:
            if data[:1] != HELLO:
                return self.settle(self.connection.fail(broken("no hello"), now=now), now)
            self.is_through, data = True, data[1:]
            if isinstance(self.connection, ClientConnection):
                events += self.connection.verify_peer(Evidence(), now=now)
            else:
                self.connection.begin(now=now)
        if data and not self.has_ended:
            events += self.connection.receive_data(data, now=now)
        return self.settle(events, now)

    def receive_eof(self, *, now: float) -> list[Event]:
        return self.settle(self.connection.receive_eof(now=now), now)

    def fail(self, explanation: str, *, now: float) -> list[Event]:
        return self.settle(self.connection.fail(broken(explanation), now=now), now)

    def abort(self, *, now: float) -> list[Event]:
        self.connection.close(now=now, timeout=0.0)
        return self.settle(self.connection.handle_timeout(now=now), now)

    def next_timeout(self) -> float | None:
        deadline = self.connection.next_timeout()
        if self.is_through or self.has_ended:
            return deadline
        return min(self.deadline, math.inf if deadline is None else deadline)

    def handle_timeout(self, *, now: float) -> list[Event]:
        events: list[Event] = []
        if not self.is_through and not self.has_ended and self.deadline <= now:
            events += self.connection.fail(broken("the handshake took too long"), now=now)
        events += self.connection.handle_timeout(now=now)
        return self.settle(events, now)

    def settle(self, events: list[Event], now: float) -> list[Event]:
        """An engine that has ended may have something left to tell, and something to send."""
        if self.has_ended:
            events += self.connection.handle_timeout(now=now)
            self.encrypt()
        return events

    def encrypt(self) -> None:
        if self.is_through:
            self.unsent += b"".join(self.connection.data_to_send())


def broken(explanation: str) -> RemoteProtocolError:
    return RemoteProtocolError(explanation, Fault.RESET)


def makes(
    session: type[PlainSession] = PlainSession,
    client: ClientConfiguration | None = None,
    server: ServerConfiguration | None = None,
) -> Make:
    def make(now: float) -> Pair:
        connection = ClientConnection(AuthenticationPolicy.opportunistic(), client, entropy=counting())
        return session(connection, now=now), session(ServerConnection(server), now=now)

    return make


KINDS = {
    "plain": makes(),
    "keepalive-0": makes(server=ServerConfiguration(idle_timeout=0.0)),
    "max-queries": makes(server=ServerConfiguration(max_queries=1)),
    "max-duration": makes(server=ServerConfiguration(max_duration=1.0, close_timeout=0.5)),
    "one-in-flight": makes(client=ClientConfiguration(max_in_flight=1, idle_timeout=0.0)),
    "short-timeouts": makes(client=ClientConfiguration(query_timeout=0.1, close_timeout=0.0)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_each_end_at_each_moment(kind: str, end: Any) -> None:
    """Before each read of an exchange, and inside each."""
    draining = Plan((Action(CLOSE, True, 3),), prompt=False, asks_first=True)
    for plan in (Plan(needless=True), draining) if kind == "plain" else (Plan(),):
        for at_server in (False, True):
            assert list(every_moment(KINDS[kind], end, at_server=at_server, plan=plan, octets=(0, 13)))


def test_however_octets_are_cut() -> None:
    """Up to three ends, one after the other."""
    seen: set[Cause] = set()

    def note(exchange: Exchange) -> None:
        assert exchange.client.closed
        seen.add(exchange.client.closed.cause)

    check_duties(st.sampled_from(list(KINDS.values())), also=note)
    assert len(seen) > 2


def test_a_moment_is_an_octet() -> None:
    """An action comes after so many octets of a read, even where all are read at once."""
    [first, *_] = every_moment(KINDS["plain"], CLOSE_AT_ONCE, at_server=False, octets=[1])
    assert "1000.0: client.receive_data(1 octets)" in "".join(first.trace)
    assert [type(event) for event in first.client.events][-1] is ConnectionClosed


def test_a_reset_takes_what_was_on_its_way() -> None:
    """Octets that arrive at a closed TCP are answered by RST, if the plan says so; the other side still finishes."""
    plan = Plan((Action(CLOSE_AT_ONCE, False, 2),), answered=3, resets=True)
    exchange = Exchange(KINDS["plain"](1000.0), plan).play()
    assert any(call.startswith("1000.0: server.fail('Connection reset by peer')") for call in exchange.trace)


# Planted bugs


class Raises(PlainSession):
    def receive_eof(self, *, now: float) -> list[Event]:
        raise ZeroDivisionError


class FinishedTooEarly(PlainSession):
    """Has a last octet to send, and does not wait until it is sent."""

    is_last_out = False

    @property
    def is_finished(self) -> bool:
        return self.has_ended and self.connection.next_timeout() is None

    def settle(self, events: list[Event], now: float) -> list[Event]:
        events = super().settle(events, now)
        if self.has_ended and not self.is_last_out:
            self.is_last_out, self.unsent = True, self.unsent + b"\x15"
        return events


class FinishedUntold(PlainSession):
    @property
    def is_finished(self) -> bool:
        return self.has_ended and not self.unsent


class NeverFinished(PlainSession):
    @property
    def is_finished(self) -> bool:
        return False


class FinishedForAWhile(PlainSession):
    """Says that it is finished, and not any more when it is asked again."""

    asked = 0

    @property
    def is_finished(self) -> bool:
        self.asked += 1
        return self.asked == 3


class Sleeps(PlainSession):
    def next_timeout(self) -> float | None:
        return None


class SpinsForEver(PlainSession):
    """What is due stays due."""

    def next_timeout(self) -> float | None:
        return self.deadline if not self.is_through else super().next_timeout()

    def handle_timeout(self, *, now: float) -> list[Event]:
        return []


class WaitsForThePeerThatHasGone(PlainSession):
    ended_at = math.inf

    @property
    def is_finished(self) -> bool:
        return super().is_finished and self.ended_at == -math.inf

    def settle(self, events: list[Event], now: float) -> list[Event]:
        events = super().settle(events, now)
        if self.has_ended and self.ended_at == math.inf:
            self.ended_at = now + 1.0
        return events

    def next_timeout(self) -> float | None:
        return super().next_timeout() or (self.ended_at if math.isfinite(self.ended_at) else None)

    def handle_timeout(self, *, now: float) -> list[Event]:
        if self.ended_at <= now:
            self.ended_at = -math.inf
        return super().handle_timeout(now=now)


class LosesAFate(PlainSession):
    def settle(self, events: list[Event], now: float) -> list[Event]:
        return [event for event in super().settle(events, now) if not isinstance(event, QueryLost)]


class TellsAFateTwice(PlainSession):
    def settle(self, events: list[Event], now: float) -> list[Event]:
        events = super().settle(events, now)
        return [event for event in events for _ in range(1 + isinstance(event, QueryLost))]


class TellsTheEndTwice(PlainSession):
    def settle(self, events: list[Event], now: float) -> list[Event]:
        events = super().settle(events, now)
        return events + [event for event in events if isinstance(event, ConnectionClosed)]


class TellsTheEndToEveryCaller(PlainSession):
    def abort(self, *, now: float) -> list[Event]:
        return [*super().abort(now=now), ConnectionClosed(Cause.LOCAL_CLOSE, None)]


class SendsWhenCalled(PlainSession):
    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        if not data and self.is_through and not self.has_ended:
            self.unsent += bytes(2)
        return super().receive_data(data, now=now)


class PutsItsDeadlineOff(PlainSession):
    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        self.deadline += 1.0
        return super().receive_data(data, now=now)


class AccusesThePeer(PlainSession):
    def abort(self, *, now: float) -> list[Event]:
        return self.fail("Connection reset by peer", now=now)


class IgnoresAbort(PlainSession):
    def abort(self, *, now: float) -> list[Event]:
        return []


class StaysAwake(PlainSession):
    """Always has something to do in a second."""

    def next_timeout(self) -> float | None:
        return getattr(self, "woken_at", 1000.0) + 1.0

    def handle_timeout(self, *, now: float) -> list[Event]:
        self.woken_at = now
        return []


PLANTED: dict[type[PlainSession], str] = {
    Raises: r"receive_eof raises ZeroDivisionError",
    FinishedTooEarly: r"is finished, and has octets to send",
    FinishedUntold: r"is finished, and no ConnectionClosed was told",
    NeverFinished: r"has told the end, is not finished, and has nothing to wait for",
    FinishedForAWhile: r"was finished, and is not any more",
    Sleeps: r"they wait for ever",
    SpinsForEver: r"a busy loop",
    WaitsForThePeerThatHasGone: r"waits for a peer that has gone",
    LosesAFate: r"queries \[\d+\] have met no fate|queries .* have met no fate",
    TellsAFateTwice: r"is told \['QueryLost\(\d+\)'\] of no pending query",
    TellsTheEndTwice: r"after its ConnectionClosed",
    TellsTheEndToEveryCaller: r"after its ConnectionClosed",
    SendsWhenCalled: r"sends something when receive_data is called without need",
    PutsItsDeadlineOff: r"before receive_data was called without need",
    AccusesThePeer: r"says that it is the peer's fault: Connection reset by peer",
    IgnoresAbort: r"was aborted, and has not finished",
    StaysAwake: r"there is no end after 1000 turns",
}


def complaints(make: Make) -> Iterator[AssertionError]:
    """What the law complains of."""
    for plan in (Plan(asks_first=True), Plan(needless=True), Plan((Action(SILENCE, True, 1),))):
        for end in ENDS:
            for at_server in (False, True):
                try:
                    list(every_moment(make, end, at_server=at_server, plan=plan))
                except AssertionError as error:
                    yield error


@pytest.mark.parametrize("session", PLANTED, ids=lambda session: session.__name__)
def test_a_planted_bug_is_found(session: type[PlainSession]) -> None:
    """And what is wrong with it is said, with the calls that lead there."""
    found = next(error for error in complaints(makes(session)) if re.search(PLANTED[session], str(error)))
    assert found.__notes__[0].startswith("Plan(")


def test_nothing_is_found_where_nothing_is_planted() -> None:
    assert list(complaints(makes())) == []
