"""What the resolver knows of a query, of a connection, and of an upstream with its connections."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from ..authentication import Verdict
from ..client import ClientConnection
from ._health import UpstreamHealth
from ._race import Race
from .configuration import ResolverConfiguration
from .events import Attempt, Phase, QueryAnswered, UpstreamFailure, UpstreamReport, UpstreamStatistics
from .upstream import Upstream

_DECAY: Final = 180.0
"Seconds in which a measured time counts half: an upstream that was slow once is tried again some time."

_SMOOTHING: Final = 0.125
"The part of the newest measurement in the smoothed time, as RFC 6298, section 2, has it."


class ResolverQuery:
    """One query, from asking to its fate."""

    __slots__ = (
        "asked_at",
        "attempts",
        "avoided",
        "connection",
        "deadline",
        "first_answer",
        "handle",
        "message",
        "order",
        "placed_at",
        "sends",
    )

    def __init__(
        self, handle: int, message: bytes, order: tuple[UpstreamRecord, ...], asked_at: float, deadline: float
    ) -> None:
        self.handle = handle
        self.message = message
        self.order = order
        "The upstreams, as the strategy has them for this query."
        self.asked_at = asked_at
        self.deadline = deadline
        self.placed_at = asked_at
        self.sends = 0
        self.avoided: UpstreamRecord | None = None
        "Who is asked last, since an attempt there has failed."
        self.connection: tuple[UpstreamConnection, int] | None = None
        "Where it was handed to, and its handle there."
        self.attempts: tuple[Attempt, ...] = ()
        self.first_answer: QueryAnswered | None = None
        "A response with an RCODE that asks for the next upstream; the answer, if no other has a better one."


class UpstreamConnection:
    """One connection of an upstream, from dialling to its end."""

    __slots__ = (
        "address",
        "answers",
        "engine",
        "is_left",
        "number",
        "opened_at",
        "placed",
        "probes_in_a_row",
        "record",
        "suspect_until",
        "unheard_since",
        "verdict",
    )

    def __init__(self, number: int, record: UpstreamRecord, address: str, *, now: float) -> None:
        self.number = number
        self.record = record
        self.address = address
        self.opened_at = now
        self.engine: ClientConnection | None = None
        "There is one once TCP is up."
        self.verdict: Verdict | None = None
        "How the server was authenticated; there is one once it was accepted."
        self.placed: dict[int, ResolverQuery] = {}
        "Queries handed to the engine, by the engine's handle."
        self.answers = 0
        self.unheard_since = math.inf
        "When the first query left after the server was last heard."
        self.probes_in_a_row = 0
        self.suspect_until = math.inf
        "When the connection is given up; infinity: it is not suspected."
        self.is_left = False
        "Whether the network has changed since: then its end says nothing of the upstream."

    @property
    def counts(self) -> bool:
        """Whether it is one of the connections that an upstream may have: not, once it drains or has ended."""
        return self.engine is None or self.engine.is_open

    def heard(self, *, now: float) -> None:
        """Something came from the server."""
        self.unheard_since = now if self.placed else math.inf
        self.suspect_until = math.inf

    def silence_at(self, patience: float) -> float:
        """When its silence calls for an action; infinity: never, as things stand."""
        if self.suspect_until < math.inf:
            return self.suspect_until
        # After a probe that was answered, the next one waits twice as long: the name is slow, and not the server.
        return self.unheard_since + patience * 2.0 ** min(self.probes_in_a_row, 2)


class UpstreamRecord:
    """One upstream, its health, its connections and its counters."""

    __slots__ = (
        "addresses",
        "addresses_until",
        "answered",
        "connections",
        "failed",
        "health",
        "last_good",
        "lost",
        "measured_at",
        "most_waiting",
        "opened",
        "probes",
        "race",
        "rcodes",
        "refused",
        "resent",
        "sent",
        "smoothed_time",
        "timed_out",
        "upstream",
        "waiting",
    )

    def __init__(self, upstream: Upstream, configuration: ResolverConfiguration, jitter: Callable[[], float]) -> None:
        self.upstream = upstream
        self.health = UpstreamHealth(configuration, jitter)
        self.connections: dict[int, UpstreamConnection] = {}
        self.race: Race | None = None
        "The opening that is under way."
        self.addresses: tuple[str, ...] = upstream.addresses
        self.addresses_until = math.inf if upstream.addresses else -math.inf
        self.last_good: str | None = None
        "The address where a server was last authenticated."
        self.smoothed_time: float | None = None
        self.measured_at = 0.0
        self.opened = self.failed = self.refused = self.lost = 0
        self.sent = self.resent = self.answered = self.timed_out = self.probes = 0
        self.waiting = self.most_waiting = 0
        self.rcodes: dict[int, int] = {}

    def takes(self) -> UpstreamConnection | None:
        """The connection that takes a query now."""
        for connection in self.connections.values():
            engine = connection.engine
            if engine is not None and connection.suspect_until == math.inf and engine.capacity > 0:
                return connection
        return None

    def may_open(self, most: int) -> bool:
        """Whether a connection may be opened: none is being opened, and there are fewer than ``most``."""
        return self.race is None and sum(one.counts for one in self.connections.values()) < most

    @property
    def is_suspect(self) -> bool:
        """Whether all its connections that count have fallen silent."""
        counting = [one for one in self.connections.values() if one.counts]
        return bool(counting) and all(one.suspect_until < math.inf for one in counting)

    def measured(self, elapsed: float, *, now: float) -> None:
        """A query was answered after ``elapsed`` seconds."""
        known = self.smoothed_time
        self.smoothed_time = elapsed if known is None else known + _SMOOTHING * (elapsed - known)
        self.measured_at = now

    def expected_time(self, *, now: float) -> float:
        """Seconds that an answer may take; what was measured long ago counts little."""
        if self.smoothed_time is None:
            return 0.0
        return float(self.smoothed_time * 0.5 ** ((now - self.measured_at) / _DECAY))

    def patience(self, configuration: ResolverConfiguration) -> float:
        """Seconds of silence that raise suspicion, by what is known of the server."""
        if self.smoothed_time is None:
            return configuration.patience
        return min(max(configuration.least_patience, 4 * self.smoothed_time), 2 * configuration.patience)

    def report(self) -> UpstreamReport:
        """Where it stands."""
        health = self.health
        next_try = None if health.is_up else health.retry_at(is_waited_for=False)
        return UpstreamReport(self.upstream, health.failure or self._opening(), next_try)

    def _opening(self) -> UpstreamFailure | None:
        """What is wrong with an opening that takes longer than a query has."""
        race = self.race
        if race is None:
            return None
        if race.failure is not None:
            return race.failure
        if not race.racers:
            return UpstreamFailure(Phase.LOOKUP, None, "the addresses of its name are not found yet")
        connection = self.connections[min(race.racers)]
        phase = Phase.TCP if connection.engine is None else Phase.TLS
        return UpstreamFailure(phase, connection.address, f"the connection is not open yet ({phase.value})")

    def statistics(self) -> UpstreamStatistics:
        """Its counters as they are now."""
        return UpstreamStatistics(
            upstream=self.upstream,
            is_up=self.health.is_up,
            connections=len(self.connections),
            opened=self.opened,
            failed=self.failed,
            refused=self.refused,
            lost=self.lost,
            sent=self.sent,
            resent=self.resent,
            pending=sum(len(one.placed) for one in self.connections.values()),
            waiting=self.waiting,
            most_waiting=self.most_waiting,
            answered=self.answered,
            rcodes=dict(self.rcodes),
            timed_out=self.timed_out,
            probes=self.probes,
            smoothed_time=self.smoothed_time,
        )
