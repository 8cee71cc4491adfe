"""Which upstream a query goes to, and on which connection."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ._connections import Connections
from ._health import Health
from ._records import UpstreamConnection, UpstreamRecord
from .configuration import ResolverConfiguration, Strategy


class Selection:
    """Chooses among the upstreams, and has opened what is to be opened."""

    def __init__(
        self,
        records: tuple[UpstreamRecord, ...],
        configuration: ResolverConfiguration,
        connections: Connections,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._records = records
        self._rotations = tuple(records[first:] + records[:first] for first in range(len(records)))
        self._is_ordered = configuration.strategy is Strategy.ORDERED or len(records) == 1
        self._turn = 0
        self._configuration = configuration
        self._connections = connections
        self._entropy = entropy

    def order(self, now: float) -> tuple[UpstreamRecord, ...]:
        """The upstreams as the strategy has them for the next query."""
        if self._is_ordered:
            return self._records
        rotations, strategy = self._rotations, self._configuration.strategy
        if strategy is Strategy.FASTEST:
            return tuple(sorted(self._records, key=lambda record: record.expected_time(now=now)))
        if strategy is Strategy.RANDOM:
            return rotations[int.from_bytes(self._entropy(4)) % len(rotations)]
        self._turn = (self._turn + 1) % len(rotations)
        return rotations[self._turn - 1]

    def choose(self, order: Sequence[UpstreamRecord], now: float) -> UpstreamConnection | None:
        """The connection that takes a query which wants the upstreams in this order; ``None``: it has to wait.

        Opens what is to be opened.
        """
        is_one_up: bool | None = None
        for record in order:
            if record.health.is_up:
                connection = record.takes()
                if connection is not None:
                    return connection
                if record.may_open(self._configuration.max_connections):
                    self._connections.begin(record, now=now)
                if not record.is_suspect:
                    return None
            else:
                if is_one_up is None:
                    is_one_up = any(one.health.is_up for one in order)
                self._retry(record, is_waited_for=not is_one_up, now=now)
        return None

    def _retry(self, record: UpstreamRecord, *, is_waited_for: bool, now: float) -> None:
        """An upstream that is not up is tried again when its time has come: on one connection, by a probe."""
        if record.race is not None or record.is_suspect:
            return
        retry_at = record.health.retry_at(is_waited_for=is_waited_for)
        if retry_at <= now:
            for connection in record.connections.values():
                if connection.counts:
                    self._connections.probe(connection, now=now, patience=record.patience(self._configuration))
                    return
            self._connections.begin(record, now=now)
        elif is_waited_for and record.health.state is Health.DOWN:
            self._connections.ring_at(retry_at)

    def can_wait_until(self, order: Sequence[UpstreamRecord]) -> float:
        """The first deadline of a query that is worth waiting; minus infinity: something is under way."""
        begun = False
        for record in order:
            begun = begun or record.health.is_up or record.race is not None or bool(record.connections)
        if begun:
            return -math.inf
        down = (record for record in order if record.health.state is Health.DOWN)
        return min((record.health.retry_at(is_waited_for=True) for record in down), default=math.inf)
