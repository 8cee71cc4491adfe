"""A stub resolver without I/O: several upstreams, connections that come and go, and one fate for each query.

Theory of operation.  The resolver holds the :class:`~dot_proto.ClientConnection` of every connection, and asks in it
by itself.  Its driver dials, moves octets, and tells what happened; it decides nothing.  A query waits until an
upstream that may be asked has a connection that takes it; there it has all the time that is left to it.  When the
connection ends first, the query is asked again on another one, if that is safe.

Where a query goes is said in ``_placing`` and ``_selection``, what a connection's events mean in ``_receiving``, what
its silence means in ``_connections``, how one of several addresses wins in ``_race``, and when a failed upstream is
tried again in ``_health``.

A name is shown to a second upstream only when the first cannot be asked, or has let the query down.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Final, NoReturn

from ..arguments import (
    check_flag,
    check_function,
    check_instance,
    check_seconds,
    check_text,
    check_time,
    check_whole,
    collected,
    shown,
)
from ..client import ClientConnection
from ..errors import LocalProtocolError, TooManyQueriesError
from ..events import Event
from ._connections import Connections
from ._fates import Fates
from ._health import Sign
from ._placing import Placing
from ._receiving import Receiving
from ._records import ResolverQuery, UpstreamConnection, UpstreamRecord
from ._selection import Selection
from ._together import checked_upstreams
from ._waiting import Waiting
from .configuration import ResolverConfiguration
from .events import (
    Action,
    FailureReason,
    ForgetSessions,
    Phase,
    ResolverClosed,
    UpstreamFailure,
    UpstreamStatistics,
)
from .upstream import Upstream

_DEFAULT: Final = ResolverConfiguration()
"Made once, since its checks take as long as the rest of a resolver's beginning."


class StubResolver:
    """A stub resolver over one or more upstreams, without I/O.

    ``entropy`` returns that many octets of cryptographic randomness (``os.urandom`` will do): for the delay until a
    failed upstream is tried again, and for the choice of :attr:`Strategy.RANDOM`.

    After every call: do what :meth:`duties` returns, send what connections that were fed have to send, then wait for
    octets, for a connection's own deadline, or for :meth:`next_timeout`.  Tell a connection's events in their order.

    Raises :class:`~dot_proto.LocalProtocolError` for upstreams that cannot stand together.
    """

    def __init__(
        self,
        upstreams: Iterable[Upstream],
        configuration: ResolverConfiguration | None = None,
        *,
        entropy: Callable[[int], bytes],
    ) -> None:
        if configuration is not None:
            check_instance("configuration", configuration, ResolverConfiguration)
        self.configuration: Final = configuration or _DEFAULT
        self.upstreams: Final = checked_upstreams(upstreams, self.configuration)
        check_function("entropy", entropy, "a function that returns so many octets", "os.urandom is one")
        jitter = partial(_jitter, entropy)  # no method: what is dropped is to go at once, without the garbage collector
        self._records = tuple(UpstreamRecord(one, self.configuration, jitter) for one in self.upstreams)
        self._connections = Connections(self.configuration)
        self._selection = Selection(self._records, self.configuration, self._connections, entropy)
        self._fates = Fates(self._records)
        self._waiting = Waiting()
        self._placing = Placing(self.configuration, self._connections, self._selection, self._waiting, self._fates)
        self._receiving = Receiving(self.configuration, self._connections, self._waiting, self._fates)
        self._handles = 0
        self._untold_since = math.inf
        self._has_ended = False

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a StubResolver can be neither pickled nor copied, since it holds one side of each of its connections: "
            "pass on its upstreams and its configuration, and make another one there"
        )

    @property
    def pending(self) -> int:
        """How many queries have no fate yet."""
        return len(self._fates.open)

    @property
    def waiting(self) -> int:
        """How many of them wait for a place on a connection."""
        return len(self._waiting)

    # Commands: they queue, and raise LocalProtocolError for the caller's mistakes.

    def send_query(self, message: bytes, *, now: float, timeout: float | None = None) -> int:
        """Ask; returns the handle under which the query's fate will be reported.

        ``message`` is a whole query, as for :meth:`ClientConnection.send_query`; ``timeout`` is in seconds from
        ``now``, and covers all: waiting, opening connections, asking, and asking again.

        Raises :class:`~dot_proto.LocalProtocolError` for a message that cannot be sent and after :meth:`close`,
        :class:`~dot_proto.TooManyQueriesError` while too many queries wait.
        """
        if self._fates.is_closing:
            raise LocalProtocolError("the resolver takes no more queries: it is closed")
        try:  # as check_time, which costs more
            if not -math.inf < now < math.inf:
                check_time("now", now)
        except TypeError:
            check_time("now", now)
        timeout = self.configuration.query_timeout if timeout is None else check_seconds("timeout", timeout)
        order = self._selection.order(now)
        query = ResolverQuery(self._handles, message, order, now, now + timeout)
        first = order[0]
        has_line = self._waiting.lines and self._waiting.has_line(query)
        connection = first.takes() if first.health.is_up and not has_line else None
        if connection is not None:
            self._placing.place(query, connection, now)
        else:
            self._placing.check(message, now)
            if len(self._waiting) >= self.configuration.max_waiting:
                raise TooManyQueriesError(
                    f"{self.configuration.max_waiting} queries wait for a connection (max_waiting): wait for one to end"
                )
            self._waiting.add(query)
        self._handles += 1
        self._fates.open[query.handle] = query
        if connection is None:
            self._settle(now)
        return query.handle

    def cancel(self, query: int, *, now: float) -> bool:
        """Give up one query; says whether that was its fate (false: it already had another).

        Raises :class:`~dot_proto.LocalProtocolError` for a handle that was never issued.
        """
        check_whole("query", query, "number, a handle that send_query returned")
        if not 0 <= query < self._handles:
            raise LocalProtocolError(f"query: {shown(query)} is no handle that send_query returned on this resolver")
        check_time("now", now)
        found = self._fates.open.pop(query, None)
        if found is None:
            return False
        if not self._waiting.discard(found):
            assert found.connection is not None, "a query that does not wait has a place"
            connection, handle = found.connection
            assert connection.engine is not None
            del connection.placed[handle]
            connection.engine.cancel(handle, now=now)
            self._connections.unflushed.add(connection.number)
        self._settle(now)
        return True

    def network_changed(self, *, now: float) -> None:
        """The machine is in another network, or was suspended: what was known of the upstreams does not count.

        Answers that are owed may still come, until the silence calls for an action.  New connections are opened on
        demand, without the TLS sessions of before (RFC 8446, appendix C.4).
        """
        check_time("now", now)
        borne = self.configuration.patience + self.configuration.probe_timeout
        for record in self._records:
            self._connections.abandon_race(record)
            self._connections.step(record, Sign.FORGOTTEN, now=now)
            record.last_good = None
            for connection in record.connections.values():
                connection.is_left = True
                self._connections.close(connection, borne, now=now)
        self._connections.actions.append(ForgetSessions())
        self._settle(now)

    def close(self, *, now: float, timeout: float | None = None) -> None:
        """Take no more queries; answers still owed are waited for, ``timeout`` seconds long.

        Queries that are on no connection yet fail.  Closing twice does nothing, or shortens the wait.
        """
        check_time("now", now)
        timeout = check_seconds("timeout", self.configuration.close_timeout if timeout is None else timeout)
        self._fates.is_closing = True
        for record in self._records:
            self._connections.abandon_race(record)
        for connection in self._connections.by_number.values():
            self._connections.close(connection, timeout, now=now)
        self._settle(now)

    # The verbs of the driver: they report what the network, the connections and the clock do.

    def connection_opened(self, connection: int, engine: ClientConnection, *, now: float) -> list[Event]:
        """TCP is up; the server is not judged yet.  ``engine`` is the connection's, and the driver's to drive."""
        check_instance("engine", engine, ClientConnection)
        found = self._known(connection, now)
        if found is not None:
            self._connections.opened(found, engine)
        return self._settled(now)

    def receive_events(self, connection: int, events: Sequence[Event], *, now: float) -> list[Event]:
        """What a verb of a connection's session has returned."""
        if type(events) is not list:
            events = collected("events", events, Event, "a list of events")
        found = self._known(connection, now)
        if found is not None:
            self._receiving.take_in(found, events, now)
        return self._settled(now)

    def connection_failed(
        self, connection: int, explanation: str, *, now: float, may_retry: bool = False
    ) -> list[Event]:
        """A connection could not be opened: there was no TCP, or the handshake failed without a word of the engine.

        ``explanation`` is a sentence.  ``may_retry``: the same address is worth another try at once, since it is known
        why this one has failed: a session was offered that the server did not want, or the handshake was to learn the
        certificate of an issuer that is pinned.  No events of the connection are told then.
        """
        check_text("explanation", explanation)
        check_flag("may_retry", may_retry)
        found = self._known(connection, now)
        if found is not None:
            if found.verdict is not None:
                raise LocalProtocolError(f"connection {connection} has been opened: its events tell how it ends")
            phase = Phase.TCP if found.engine is None else Phase.TLS
            failure = UpstreamFailure(phase, found.address, explanation)
            self._connections.failed(found, failure, now=now, may_retry=may_retry)
        return self._settled(now)

    def addresses_found(
        self, upstream: Upstream, addresses: Sequence[str], ttl: float, *, now: float, explanation: str = ""
    ) -> list[Event]:
        """The answer to :class:`FindAddresses`, to be kept for ``ttl`` seconds.

        No addresses: the lookup failed; ``explanation`` says why.
        """
        check_instance("upstream", upstream, Upstream)
        check_seconds("ttl", ttl)
        check_text("explanation", explanation)
        check_time("now", now)
        found = collected("addresses", addresses, str, "a list of IP addresses as text")
        for record in self._records:
            if record.upstream == upstream:
                self._connections.addresses_found(record, found, ttl, explanation, now=now)
        return self._settled(now)

    def handle_timeout(self, *, now: float) -> list[Event]:
        """Act on the deadlines that have come; does nothing when there are none."""
        check_time("now", now)
        if self._connections.due <= now:
            self._connections.handle_timeout(self._records, now=now)
        return self._settled(now)

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is to be called; it may be early, never late.  ``None``: never."""
        due = self._untold_since if self._fates.untold else self._connections.due
        return None if due == math.inf else due

    def duties(self) -> tuple[Sequence[Action], Collection[int], float | None]:
        """What the driver is to do now, and what time to wait for; one call, since each query needs it twice.

        Actions to carry out, each told once; the numbers of the connections in which the resolver has asked, or which
        it has closed, since the last call, and whose octets are to be sent; and :meth:`next_timeout`.
        """
        connections = self._connections
        actions, unflushed = connections.actions, connections.unflushed
        if actions:
            connections.actions = []
        if unflushed:
            connections.unflushed = set()
        due = self._untold_since if self._fates.untold else connections.due
        return actions, unflushed, None if due == math.inf else due

    def statistics(self) -> tuple[UpstreamStatistics, ...]:
        """The counters of each upstream."""
        return tuple(record.statistics() for record in self._records)

    # Small parts.

    def _known(self, connection: int, now: float) -> UpstreamConnection | None:
        """The connection of a number, unless it has been dropped."""
        try:  # as check_time, which costs more
            if not -math.inf < now < math.inf:
                check_time("now", now)
        except TypeError:
            check_time("now", now)
        found = self._connections.by_number.get(connection) if type(connection) is int else None
        if found is None:
            check_whole("connection", connection, "number, as OpenConnection has it")
        return found

    def _settle(self, now: float) -> None:
        """After every change: queries whose connection was abandoned wait again, and whoever can be placed is."""
        connections, waiting = self._connections, self._waiting
        if connections.returned:
            waiting.put_back(connections.returned)
            connections.returned = []
        if waiting.lines and waiting.earliest_deadline() <= now:
            for query in waiting.expired(now):
                self._fates.fail(query, FailureReason.TIMED_OUT)
        if self._fates.is_closing:
            for query in waiting.clear():
                self._fates.fail(query, FailureReason.CLOSED)
            if not connections.by_number and not self._has_ended:
                self._has_ended = True
                connections.due = math.inf
                self._fates.untold.append(ResolverClosed())
        elif waiting.lines:
            self._placing.place_waiting(now)
            connections.ring_at(waiting.earliest_deadline())
        if connections.events:
            self._fates.untold += connections.events
            connections.events = []
        self._untold_since = now

    def _settled(self, now: float) -> list[Event]:
        self._settle(now)
        events, self._fates.untold = self._fates.untold, []
        return events


def _jitter(entropy: Callable[[int], bytes]) -> float:
    return 0.5 + int.from_bytes(entropy(2)) / 65_536
