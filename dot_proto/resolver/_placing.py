"""Where a query goes: onto a connection, or into a line."""

from __future__ import annotations

import math
from typing import Final

from ..authentication import AuthenticationPolicy
from ..client import ClientConnection
from ._connections import Connections
from ._fates import Fates
from ._records import ResolverQuery, UpstreamConnection
from ._selection import Selection
from ._waiting import Waiting
from .configuration import ResolverConfiguration
from .events import FailureReason

_ANY_POLICY: Final = AuthenticationPolicy.opportunistic()
"Of a connection that is never opened."


class Placing:
    """Hands queries to connections."""

    __slots__ = ("_configuration", "_connections", "_fates", "_least_patience", "_selection", "_waiting")

    def __init__(
        self,
        configuration: ResolverConfiguration,
        connections: Connections,
        selection: Selection,
        waiting: Waiting,
        fates: Fates,
    ) -> None:
        self._configuration = configuration
        self._least_patience = configuration.least_patience
        self._connections = connections
        self._selection = selection
        self._waiting = waiting
        self._fates = fates

    def place(self, query: ResolverQuery, connection: UpstreamConnection, now: float) -> None:
        """Ask on a connection that has a place, with all the time that is left."""
        engine = connection.engine
        assert engine is not None, "only a connection with an engine takes queries"
        handle = engine.send_query(query.message, now=now, timeout=query.deadline - now)
        connection.placed[handle] = query
        query.connection = connection, handle
        query.placed_at = now
        connection.record.sent += 1
        connection.record.resent += query.sends > 0
        query.sends += 1
        self._connections.unflushed.add(connection.number)
        if connection.unheard_since == math.inf and connection.verdict is not None:
            connection.unheard_since = now
            self._connections.ring_at(now + self._least_patience)

    def place_waiting(self, now: float) -> None:
        """Ask what waits, as far as there are places; what no upstream can be asked in its time fails."""
        for (order, avoided), line in list(self._waiting.lines.items()):
            wanted = order if avoided is None else sorted(order, key=lambda record: record is avoided)
            for query in list(line.values()):
                connection = self._selection.choose(wanted, now)
                if connection is None:
                    break
                self._waiting.discard(query)
                self.place(query, connection, now)
            else:
                continue
            until = self._selection.can_wait_until(order)
            for query in [one for one in line.values() if one.deadline < until]:
                self._waiting.discard(query)
                self._fates.fail(query, FailureReason.NO_UPSTREAM)

    def check(self, message: bytes, now: float) -> None:
        """Refuse now what every connection would refuse later, in the same words: one that never sends is asked."""
        example = ClientConnection(_ANY_POLICY, self._configuration.connection, entropy=bytes)
        example.takes_parts = False
        example.send_query(message, now=now)
