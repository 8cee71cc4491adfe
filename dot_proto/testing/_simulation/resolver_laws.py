"""The laws that a stub resolver keeps, whatever its upstreams, its network and its callers do; each says what it is.

They are judged by what a driver sees: calls, events, actions, and the octets that leave.  Nothing is asked of the
resolver that it does not tell everybody.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from ...client import ClientConnection
from ...events import ConnectionClosed, Event, ResponseReceived
from ...resolver.configuration import MAX_SENDS, Strategy
from ...resolver.events import (
    FailureReason,
    OpenConnection,
    Phase,
    QueryAnswered,
    QueryFailed,
    UpstreamDown,
    UpstreamUp,
)
from ...resolver.machine import StubResolver
from .network import TICKS, Link, Scheduler
from .upstreams import PROBE, Server, ServerSide, name_of

LATE: Final = 4 / TICKS
"Seconds that a fate may come after its deadline: timers are late by a grain, and one thing follows another."

MOST_DIALS: Final = 100
"Vain dials of one address in any minute: the delay grows from 0.1 s to 1 s while queries wait, less half as jitter."

SHORTEST_REFUSAL: Final = 29.0
"Seconds from a refusal until the same server is judged again: a minute, less half of it as jitter."

LONGEST_OPENING: Final = 15.0
"Seconds that an opening may go on when nobody waits for it any more: a lookup, and an address after another."


@dataclass(slots=True)
class Asked:
    """A query that has no fate yet."""

    name: bytes
    "As it stands on the wire; no other query has it."
    at: float
    deadline: float
    is_safe: bool
    "Whether it may be sent again (RFC 7766, section 6.2.4)."
    answer_by: float
    "When it must be answered, since all works; infinity: nothing is promised."
    sends: int = 0
    answers: int = 0
    "Answers that said to ask the next upstream."
    let_down_by: set[int] = field(default_factory=set[int])
    "The numbers of upstreams that ended the connection with it, or said to ask the next one."


@dataclass(slots=True)
class Line:
    """The client's end of one TCP connection."""

    opening: OpenConnection
    upstream: int
    "Its place in the resolver's list."
    server: Server
    link: Link
    engine: ClientConnection | None = None
    side: ServerSide | None = None
    "The server's end, once the handshake is over."
    is_gone: bool = False
    is_left: bool = False
    "Whether the network has changed since."
    unheard_since: float = math.inf
    "When the first query left after the server was last heard."
    unanswered: set[bytes] = field(default_factory=set[bytes])
    "The names that have left on it, and have no answer."


class ResolverLaws:
    """What was seen, and whether it may be."""

    def __init__(self, scheduler: Scheduler, resolver: StubResolver, *, first_works: bool) -> None:
        configuration = resolver.configuration
        self._scheduler = scheduler
        self._resolver = resolver
        self._first_works = first_works
        self._asked: dict[int, Asked] = {}
        self._by_name: dict[bytes, Asked] = {}
        self._down = set[int]()
        self._refused = set[int]()
        self._doubtful_until = [-math.inf] * len(resolver.upstreams)
        "When each upstream was last down or silent; infinity while it is down."
        self._wanted_at = -math.inf  # when there was last a query without a fate
        self._awake_since = -math.inf
        self._keeps_sessions = False  # of another network
        self._is_closing = self._has_closed = False
        self._soon: Final = (
            configuration.open_timeout  # of an opening that began before
            + configuration.max_delay_while_waiting
            + 2 * configuration.patience
            + configuration.probe_timeout
            + 1.0  # the lookup, the handshake and the answer
        )

    # Queries

    def asked(self, handle: int, name: bytes, timeout: float, *, is_safe: bool, all_works: bool, now: float) -> None:
        """A query was taken."""
        self._require(handle not in self._asked, "a handle is issued twice")
        answer_by = now + self._soon if all_works else math.inf
        asked = Asked(name, now, now + timeout, is_safe, answer_by)
        self._asked[handle] = self._by_name[name] = asked

    def finished(self, handle: int, *, now: float) -> Asked:
        """A query has its fate."""
        asked = self._asked.pop(handle, None)
        self._require(asked is not None, "a second fate, or that of no query: {}", handle)
        assert asked is not None
        del self._by_name[asked.name]
        self._wanted_at = now
        late = now - max(asked.deadline, self._awake_since)
        self._require(late <= LATE, "a fate comes {} s after its deadline", late)
        return asked

    def told(self, event: Event, *, now: float) -> None:
        """The resolver has told an event."""
        self._require(not self._has_closed, "an event after the last: {}", event)
        match event:
            case QueryAnswered():
                self._answered(event, now)
            case QueryFailed():
                self._failed(event, now)
            case UpstreamDown():
                self._went_down(event)
            case UpstreamUp():
                self._came_up(self._resolver.upstreams.index(event.upstream), now)
            case _:
                self._has_closed = True

    def _answered(self, event: QueryAnswered, now: float) -> None:
        asked, facts = self.finished(event.query, now=now), event.facts
        self._require(asked.name in event.message.lower(), "the answer to {} answers another", asked.name)
        is_right = facts.sends == asked.sends or asked.answers > 0  # else it may be the first of several answers
        self._require(is_right, "an answer after {} sendings says {}", asked.sends, facts.sends)
        late = now - max(asked.answer_by, self._awake_since + self._soon)
        self._require(late <= 0.0, "all works again, and a query is answered {} s too late", late)

    def _failed(self, event: QueryFailed, now: float) -> None:
        asked, reason = self.finished(event.query, now=now), event.reason
        is_closed, is_lost = reason is FailureReason.CLOSED, reason is FailureReason.LOST
        self._require(not is_closed or self._is_closing, "a query fails (closed), and nobody has closed the resolver")
        may_leave = asked.is_safe and asked.sends < MAX_SENDS and now < asked.deadline
        self._require(not (is_lost and may_leave), "a query fails (lost), and may leave once more")
        was_in_time = asked.at >= self._awake_since and asked.deadline >= asked.at + 5.0
        is_owed = was_in_time and not is_closed and not is_lost
        self._require(not (is_owed and self._first_works), "no answer ({}), and the first upstream works", reason.value)
        is_owed = is_owed and asked.answer_by < math.inf and len(self._refused) < len(self._resolver.upstreams)
        self._require(not is_owed, "all works again, and a query is not answered ({})", reason.value)

    def closing(self, timeout: float, *, now: float) -> None:
        """The resolver is closed."""
        self._is_closing = True
        for asked in self._asked.values():
            asked.deadline = min(asked.deadline, now + timeout)

    # Upstreams

    def _went_down(self, event: UpstreamDown) -> None:
        number = self._resolver.upstreams.index(event.upstream)
        self._require(number > 0 or not self._first_works, "the first upstream works, and is said to be down")
        self._down.add(number)
        self._doubtful_until[number] = math.inf
        if event.failure.phase is Phase.AUTHENTICATION:
            self._refused.add(number)

    def _came_up(self, number: int, now: float) -> None:
        self._refused.discard(number)
        if number in self._down:
            self._down.remove(number)
            self._doubtful_until[number] = now

    def network_changed(self, *, now: float, was_asleep: bool) -> None:
        """Nothing that was known of upstreams counts."""
        for number in range(len(self._resolver.upstreams)):
            self._came_up(number, now)
        self._keeps_sessions = True
        if was_asleep:
            self._awake_since = now

    def forgot_sessions(self) -> None:
        """TLS sessions were forgotten."""
        self._keeps_sessions = False

    # Connections

    def dialled(self, server: Server, *, now: float) -> None:
        """A connection is to be opened."""
        is_wanted = bool(self._asked) or now <= self._wanted_at + LONGEST_OPENING
        self._require(is_wanted, "a connection is opened, and nobody asks")
        self._require(not self._keeps_sessions, "a connection is opened with the TLS sessions of another network")
        dials, now = server.dials, self._scheduler.now
        dials.append(now)
        if len(dials) > MOST_DIALS:
            since = now - dials.popleft()
            self._require(since > 60.0, "{} vain dials of one address in {} s", MOST_DIALS, since)

    def judged(self, line: Line) -> None:
        """A server has shown who it is."""
        server, now = line.server, self._scheduler.now
        assert line.side is not None
        if line.side.is_genuine or line.opening.upstream.is_opportunistic:
            server.refused_at = -math.inf
        elif len(line.opening.upstream.addresses) == 1:
            since = now - server.refused_at
            self._require(since >= SHORTEST_REFUSAL, "a server that was refused is judged again after {} s", since)
            server.refused_at = now

    def abandoned(self, line: Line) -> None:
        """An opening was given up."""
        self._require(line.side is None, "a connection is abandoned whose server was judged")

    def check_connections(self, lines: Iterable[Line]) -> None:
        """No upstream has more of them than it may."""
        taking, opening = dict[int, int](), set[int]()
        for line in lines:
            if line.side is None:
                opening.add(line.upstream)
            elif line.engine is not None and line.engine.is_open:
                taking[line.upstream] = taking.get(line.upstream, 0) + 1
        most = self._resolver.configuration.max_connections
        for number in opening | taking.keys():
            count = taking.get(number, 0) + (number in opening)
            self._require(count <= most, "{} connections of one upstream", count)

    def sent(self, line: Line, message: bytes, lines: Iterable[Line], *, now: float) -> None:
        """A query leaves on one of these lines."""
        side, name = line.side, name_of(message)
        self._require(side is not None, "an octet leaves before the verdict")
        assert side is not None
        may_be = side.is_genuine or line.opening.upstream.is_opportunistic
        self._require(may_be, "an octet is shown to a server that was not authenticated")
        if name == PROBE:
            return
        asked = self._by_name.get(name)
        self._require(asked is not None, "{} is asked for, though its query has had its fate", name)
        assert asked is not None
        asked.sends += 1
        self._require(asked.sends <= MAX_SENDS, "{} leaves more than {} times", name, MAX_SENDS)
        is_first = asked.sends == asked.answers + 1
        self._require(asked.is_safe or is_first, "{} leaves twice, and is not safe to resend", name)
        if self._resolver.configuration.strategy is Strategy.ORDERED:
            for number in set(range(line.upstream)) - asked.let_down_by:
                is_doubtful = self._doubtful_until[number] >= asked.at
                is_silent = any(self._is_silent(one, now) for one in lines if one.upstream == number)
                is_needed = is_doubtful or is_silent
                self._require(is_needed, "{} is shown to a second upstream while the first works", name)
        line.unanswered.add(name)
        line.unheard_since = min(line.unheard_since, now)

    def reported(self, line: Line, events: Iterable[Event], *, now: float) -> None:
        """A connection reports its events; the resolver has not heard of them yet."""
        for event in events:
            match event:
                case ConnectionClosed():
                    self._let_down(line, line.unanswered)
                case ResponseReceived():
                    if self._is_silent(line, now):
                        self._doubtful_until[line.upstream] = max(self._doubtful_until[line.upstream], now)
                    name = name_of(event.message)
                    line.unanswered.discard(name)
                    line.unheard_since = now if line.unanswered else math.inf
                    if event.rcode in self._resolver.configuration.failover_rcodes and name in self._by_name:
                        asked = self._by_name[name]
                        asked.answers += 1
                        asked.let_down_by.add(line.upstream)
                case _:
                    pass

    def _let_down(self, line: Line, names: set[bytes]) -> None:
        """An upstream has not answered, which is no fault of the network's."""
        if not line.is_left:
            for name in names & self._by_name.keys():
                self._by_name[name].let_down_by.add(line.upstream)

    def _is_silent(self, line: Line, now: float) -> bool:
        """Whether another upstream may be asked for that reason."""
        return line.unheard_since + self._resolver.configuration.least_patience <= now

    # The end

    def check_end(self, lines: Iterable[Line]) -> None:
        """Everything is over."""
        resolver, statistics = self._resolver, self._resolver.statistics()
        self._require(self._has_closed, "the resolver never ends")
        self._require(not self._asked, "{} queries have no fate", len(self._asked))
        left = sum(1 for _ in lines) + sum(one.connections for one in statistics)
        self._require(not left, "{} connections are left", left)
        held = resolver.pending + resolver.waiting + sum(one.pending for one in statistics)
        self._require(not held, "queries are left in the tables")
        self._require(resolver.next_timeout() is None, "a resolver that has ended wants to be woken")

    def _require(self, holds: bool, text: str, *details: object) -> None:
        self._scheduler.require(holds, text, *details)
