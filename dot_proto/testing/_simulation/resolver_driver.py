"""The resolver under simulation: a driver that keeps its duties and no more, and what is checked at each step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from ...authentication import Evidence, PresentedChain, ValidatedChain
from ...client import ClientConnection
from ...errors import Fault, RemoteProtocolError, TooManyQueriesError
from ...events import Event
from ...query import encode_name, make_query
from ...resolver.configuration import ResolverConfiguration
from ...resolver.events import (
    AbandonConnection,
    Action,
    FindAddresses,
    ForgetSessions,
    OpenConnection,
    QueryAnswered,
    QueryFailed,
    ResolverClosed,
)
from ...resolver.machine import StubResolver
from ...resolver.upstream import Upstream
from .network import TICKS, Scheduler
from .upstreams import Handshake, Reachability, Server, ServerSide

NAME: Final = "dot.test"
"The authentication domain name of every upstream."

LATE: Final = 4 / TICKS
"Seconds that a fate may come after its deadline: timers are late by a grain, and one thing follows another."


@dataclass(slots=True)
class Asked:
    """A query that has no fate yet."""

    name: bytes
    deadline: float
    timeout: float


@dataclass(slots=True)
class Line:
    """The client's end of one TCP connection."""

    opening: OpenConnection
    server: Server
    engine: ClientConnection | None = None
    side: ServerSide | None = None
    is_gone: bool = False
    events: list[Event] = field(default_factory=list)


class Driver:
    """Dials, moves octets and keeps time for one resolver; decides nothing."""

    def __init__(
        self,
        scheduler: Scheduler,
        leaf: bytes,
        servers: dict[str, Server],
        upstreams: Iterable[Upstream],
        configuration: ResolverConfiguration,
        *,
        all_answered: bool,
    ) -> None:
        self._all_answered = all_answered
        self._scheduler = scheduler
        self._good = Evidence(PresentedChain((leaf,)), leaf, ValidatedChain((leaf,), NAME))
        self._bad = Evidence(PresentedChain((leaf,)), leaf)
        self._servers = servers
        self._lines: dict[int, Line] = {}
        self._asked: dict[int, Asked] = {}
        self._serial = 0
        self.has_closed = False
        self.resolver = StubResolver(upstreams, configuration, entropy=self._entropy)

    # What a program does.

    def ask(self, timeout: float) -> int | None:
        """Ask for a name that was never asked for; returns the handle, or ``None`` where too many wait."""
        scheduler = self._scheduler
        name = f"n{self._serial}.test"
        self._serial += 1
        try:
            handle = self.resolver.send_query(make_query(name), now=scheduler.now, timeout=timeout)
        except TooManyQueriesError:
            scheduler.counters["turned away"] += 1
            return None
        scheduler.counters["queries"] += 1
        scheduler.require(handle not in self._asked, "a handle is issued twice")
        self._asked[handle] = Asked(encode_name(name), scheduler.now + timeout, timeout)
        self._do()
        return handle

    def cancel(self, handle: int) -> None:
        """Give a query up, if it has no fate yet."""
        scheduler = self._scheduler
        if self.resolver.cancel(handle, now=scheduler.now):
            scheduler.counters["cancelled"] += 1
            self._finish(handle)
        # Otherwise it has a fate, which may not have been told yet: whether it is told once, is checked in any case.
        self._do()

    def network_changed(self) -> None:
        """The machine has another address."""
        for server in self._servers.values():
            server.refused_at = -math.inf
        self.resolver.network_changed(now=self._scheduler.now)
        self._do()

    def close(self, timeout: float) -> None:
        """The end."""
        self.resolver.close(now=self._scheduler.now, timeout=timeout)
        self._do()

    def check_end(self) -> None:
        """Everything is over."""
        scheduler, resolver = self._scheduler, self.resolver
        scheduler.require(self.has_closed, "the resolver never ends")
        scheduler.require(not self._asked, "{} queries have no fate", len(self._asked))
        scheduler.require(not self._lines, "{} connections are left", len(self._lines))
        scheduler.require(not resolver.pending and not resolver.waiting, "queries are left in the tables")
        scheduler.require(resolver.next_timeout() is None, "a resolver that has ended wants to be woken")

    # The duties.

    def _do(self) -> None:
        """Carry out what the resolver wants, flush what it has touched, and keep the timers."""
        resolver = self.resolver
        while True:
            actions, touched, due = resolver.duties()
            if not actions and not touched:
                break
            for action in actions:
                self._carry_out(action)
            for line in [self._lines[number] for number in touched if number in self._lines]:
                self._flush(line)
        if due is not None:
            self._scheduler.call_at(due, self._wake)
        self._check_limits()

    def _wake(self) -> None:
        now = self._scheduler.now
        due = self.resolver.next_timeout()
        if due is not None and due <= now:
            self._take(self.resolver.handle_timeout(now=now))
            after = self.resolver.next_timeout()
            self._scheduler.require(after is None or after > now, "a resolver that was woken is due again at once")

    def _carry_out(self, action: Action) -> None:
        scheduler = self._scheduler
        scheduler.note(f"resolver: {type(action).__name__} {getattr(action, 'connection', '')}")
        match action:
            case OpenConnection():
                server = self._servers[action.address]
                server.dials[action.connection] = scheduler.now
                scheduler.counters["dials"] += 1
                self._lines[action.connection] = Line(action, server)
                scheduler.call_later(scheduler.seconds(0.0, 0.1), self._dialled, self._lines[action.connection])
            case AbandonConnection():
                line = self._lines.pop(action.connection)
                line.is_gone = True
                scheduler.require(line.side is None, "a connection is abandoned whose server was judged")
            case FindAddresses():
                scheduler.call_later(scheduler.seconds(0.0, 4.0), self._found, action)
            case _:
                assert isinstance(action, ForgetSessions), "there is none here to be forgotten"

    def _found(self, action: FindAddresses) -> None:
        scheduler = self._scheduler
        addresses = () if scheduler.chance(0.3) else (next(iter(self._servers)),)
        self._take(self.resolver.addresses_found(action.upstream, addresses, 120.0, now=scheduler.now))

    def _dialled(self, line: Line) -> None:
        now, conduct = self._scheduler.now, line.server.conduct
        if line.is_gone or conduct.reachability is Reachability.DROPS:
            return
        number = line.opening.connection
        if conduct.reachability is Reachability.REFUSES:
            del self._lines[number]
            self._take(self.resolver.connection_failed(number, "connection refused", now=now))
            return
        policy, configuration = (
            line.opening.upstream.policy_for(line.server.address),
            self.resolver.configuration.connection,
        )
        line.engine = ClientConnection(policy, configuration, entropy=self._entropy)
        self._take(self.resolver.connection_opened(number, line.engine, now=now))
        self._scheduler.call_later(self._scheduler.seconds(0.0, 0.1), self._shaken, line)

    def _shaken(self, line: Line) -> None:
        now, conduct, engine = self._scheduler.now, line.server.conduct, line.engine
        assert engine is not None
        if line.is_gone or conduct.handshake is Handshake.STALLS:
            return
        if conduct.handshake is Handshake.FAILS or conduct.reachability is not Reachability.ACCEPTS:
            error = RemoteProtocolError("the peer has ended the handshake", Fault.TLS)
            self._feed(line, engine.fail(error, now=now))
            return
        line.side = ServerSide(
            line.server,
            line.opening.connection,
            lambda item: self._scheduler.call_later(0.01, self._arrived, line, item),
        )
        self._check_refusals(line)
        evidence = self._good if line.side.is_genuine else self._bad
        self._feed(line, engine.verify_peer(evidence, now=now))

    def _arrived(self, line: Line, item: bytes | RemoteProtocolError | None) -> None:
        engine, now = line.engine, self._scheduler.now
        if line.is_gone:
            return
        assert engine is not None
        if isinstance(item, bytes):
            self._feed(line, engine.receive_data(item, now=now))
        elif item is None:
            self._feed(line, engine.receive_eof(now=now))
        else:
            self._feed(line, engine.fail(item, now=now))

    def _feed(self, line: Line, events: list[Event]) -> None:
        """A verb of a connection's engine has returned: its events go to the resolver, its octets to the server."""
        number, scheduler = line.opening.connection, self._scheduler
        found = self.resolver.receive_events(number, events, now=scheduler.now)
        self._flush(line)
        self._take(found)

    def _flush(self, line: Line) -> None:
        engine, scheduler = line.engine, self._scheduler
        assert engine is not None, "only an open connection has something to send"
        octets = b"".join(engine.data_to_send())
        if octets:
            side = line.side
            assert side is not None, "octets before the handshake"
            scheduler.call_later(scheduler.seconds(0.0, 0.05), side.receive, octets)
        if engine.state.name == "CLOSED" and engine.next_timeout() is None:
            line.is_gone = True
            self._lines.pop(line.opening.connection, None)
            if line.side is not None:
                line.side.client_has_ended()
            return
        due = engine.next_timeout()
        if due is not None:
            scheduler.call_at(due, self._ring, line)

    def _ring(self, line: Line) -> None:
        now, engine = self._scheduler.now, line.engine
        if line.is_gone or engine is None:
            return
        due = engine.next_timeout()
        if due is not None and due <= now:
            self._feed(line, engine.handle_timeout(now=now))

    # What comes of it.

    def _take(self, events: list[Event]) -> None:
        scheduler = self._scheduler
        for event in events:
            scheduler.require(not self.has_closed, "an event after the last: {}", event)
            scheduler.note(f"resolver: {type(event).__name__}")
            match event:
                case QueryAnswered():
                    asked = self._finish(event.query)
                    scheduler.counters["answered"] += 1
                    scheduler.require(
                        asked.name in event.message.lower(), "the answer to {} answers another", asked.name
                    )
                case QueryFailed():
                    scheduler.counters[event.reason.value] += 1
                    asked = self._finish(event.query)
                    scheduler.require(
                        not self._all_answered or asked.timeout < 5.0,
                        "a query has no answer ({}), though the first upstream works",
                        event.reason.value,
                    )
                case ResolverClosed():
                    self.has_closed = True
                case _:
                    scheduler.counters[type(event).__name__] += 1
        self._do()

    def _finish(self, handle: int) -> Asked:
        scheduler = self._scheduler
        asked = self._asked.pop(handle, None)
        scheduler.require(asked is not None, "a second fate, or that of no query: {}", handle)
        assert asked is not None
        late = scheduler.now - asked.deadline
        scheduler.require(late <= LATE, "a fate comes {} s after its deadline", late)
        return asked

    def _check_limits(self) -> None:
        scheduler, most = self._scheduler, self.resolver.configuration.max_connections
        for upstream in self.resolver.upstreams:
            taking = [
                line
                for line in self._lines.values()
                if line.opening.upstream == upstream
                and line.engine is not None
                and line.engine.verdict is not None
                and line.engine.is_open
            ]
            scheduler.require(len(taking) <= most, "{} connections of one upstream take queries", len(taking))

    def _check_refusals(self, line: Line) -> None:
        """An upstream that was not authenticated is left alone for a minute, less half of it by chance."""
        scheduler, server = self._scheduler, line.server
        assert line.side is not None
        if line.side.is_genuine:
            server.refused_at = -math.inf
        elif len(line.opening.upstream.addresses) == 1:
            since = scheduler.now - server.refused_at
            scheduler.require(since >= 29.0, "a server that was refused is dialled again after {} s", since)
            server.refused_at = scheduler.now

    def _entropy(self, size: int) -> bytes:
        return bytes(self._scheduler.number(0, 255) for _ in range(size))
