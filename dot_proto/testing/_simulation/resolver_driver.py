"""The resolver under simulation: a driver that keeps its duties and no more, on a machine that sleeps and moves."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from ..._state import State
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
)
from ...resolver.machine import StubResolver
from ...resolver.upstream import Upstream
from .credentials import certificate
from .network import End, Scheduler
from .resolver_laws import Line, ResolverLaws
from .upstreams import Handshake, Reachability, Server, ServerSide

NAME: Final = "dot.test"
"The authentication domain name of every upstream."

_LEAF: Final = certificate(bytes(32))
_GENUINE: Final = Evidence(PresentedChain((_LEAF,)), _LEAF, ValidatedChain((_LEAF,), NAME))
_OTHER: Final = Evidence(PresentedChain((_LEAF,)), _LEAF)

_TTL: Final = 120.0
"Seconds that the addresses of a name may be kept."

_UPDATE: Final = 5 << 3
"The opcode UPDATE in the octet of the flags (RFC 2136, section 2.2): what it does, may not be done twice."


class Driver:
    """Dials, moves octets and keeps time for one resolver; decides nothing."""

    def __init__(
        self,
        scheduler: Scheduler,
        servers: Mapping[Upstream, Sequence[Server]],
        configuration: ResolverConfiguration,
        *,
        first_works: bool,
    ) -> None:
        self._scheduler = scheduler
        self._servers = servers
        self._numbers = {upstream: number for number, upstream in enumerate(servers)}
        self._lines: dict[int, Line] = {}
        self._serial = 0
        self.is_asleep = False
        self._slept_since = 0.0
        self._stood_still = 0.0  # seconds that this machine's clock has lost by sleeping
        self._postponed = deque[Callable[[], None]]()
        self.is_closed = False
        self.resolver = StubResolver(list(servers), configuration, entropy=self._entropy)
        self.laws = ResolverLaws(scheduler, self.resolver, first_works=first_works)

    @property
    def now(self) -> float:
        """The time on this machine's clock."""
        return self._scheduler.now - self._stood_still

    # What a program does.

    def ask(self, timeout: float, *, is_safe: bool = True, is_cancelled: bool = False, all_works: bool = False) -> None:
        """Ask for a name that was never asked for.  ``all_works``: an answer is due."""
        if self.is_closed:
            return
        scheduler, name = self._scheduler, f"n{self._serial}.test"
        self._serial += 1
        message = bytearray(make_query(name))
        message[2] |= 0 if is_safe else _UPDATE
        try:
            handle = self.resolver.send_query(bytes(message), now=self.now, timeout=timeout)
        except TooManyQueriesError:
            scheduler.counters["turned away"] += 1
            return
        scheduler.counters["queries"] += 1
        self.laws.asked(handle, encode_name(name), timeout, is_safe=is_safe, all_works=all_works, now=self.now)
        if is_cancelled:
            self.call_later(scheduler.seconds(0.0, 2.0), partial(self._cancel, handle))
        self._do()

    def _cancel(self, handle: int) -> None:
        """Give a query up, if it has no fate yet."""
        if self.resolver.cancel(handle, now=self.now):
            self._scheduler.counters["cancelled"] += 1
            self.laws.finished(handle, now=self.now)
        # Otherwise it has a fate, which may not have been told yet: whether it is told once, is checked in any case.
        self._do()

    def close(self, timeout: float) -> None:
        """The end; perhaps not for the first time."""
        self.is_closed = True
        self.laws.closing(timeout, now=self.now)
        self.resolver.close(now=self.now, timeout=timeout)
        self._do()

    def check_end(self) -> None:
        """Everything is over."""
        self.laws.check_end(self._lines.values())

    # What befalls the machine.

    def lose_address(self) -> None:
        """The machine has another address: nothing goes through on its connections any more, and nobody is told."""
        for line in self._lines.values():
            line.link.cut()

    def network_changed(self, *, was_asleep: bool = False) -> None:
        """The resolver is told that the network is another one."""
        for server in (server for servers in self._servers.values() for server in servers):
            server.refused_at = -math.inf
        for line in self._lines.values():
            line.is_left = True
        self.laws.network_changed(now=self.now, was_asleep=was_asleep)
        self.resolver.network_changed(now=self.now)
        self._do()

    def sleep(self) -> None:
        """The machine is suspended.  What is to happen on it happens once it is awake."""
        self.is_asleep = True
        self._slept_since = self._scheduler.now

    def wake(self, *, clock_stood_still: bool) -> None:
        """It is awake.  The clock has gone on, or has not, as CLOCK_MONOTONIC of Linux."""
        scheduler = self._scheduler
        self.is_asleep = False
        scheduler.counters["sleeps"] += 1
        if clock_stood_still:
            self._stood_still += scheduler.now - self._slept_since
        self.network_changed(was_asleep=True)
        for line in list(self._lines.values()):
            self._keep_time(line)
        while self._postponed:
            self._postponed.popleft()()

    def call_later(self, delay: float, act: Callable[[], None]) -> None:
        """Have something happen on this machine: in so many seconds, or when it is awake."""
        self._scheduler.call_later(delay, self._when_awake, act)

    def _when_awake(self, act: Callable[[], None]) -> None:
        if self.is_asleep:
            self._postponed.append(act)
        else:
            act()

    def _call_at(self, due: float, act: Callable[[], None]) -> None:
        self._scheduler.call_at(due + self._stood_still, self._when_awake, act)

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
            self._call_at(due, self._ring)
        self.laws.check_connections(self._lines.values())

    def _ring(self) -> None:
        due = self.resolver.next_timeout()
        if due is not None and due <= self.now:
            self._take(self.resolver.handle_timeout(now=self.now))
            after = self.resolver.next_timeout()
            is_late = after is not None and after <= self.now
            self._scheduler.require(not is_late, "a resolver that was woken is due again at once")

    def _carry_out(self, action: Action) -> None:
        scheduler = self._scheduler
        scheduler.note(f"resolver: {type(action).__name__} {getattr(action, 'connection', '')}")
        match action:
            case OpenConnection():
                self._dial(action)
            case AbandonConnection():
                line = self._lines.pop(action.connection)
                line.is_gone = True
                self.laws.abandoned(line)
            case FindAddresses():
                self.call_later(scheduler.seconds(0.0, 4.0), partial(self._found, action))
            case _:
                assert isinstance(action, ForgetSessions), "there is no other action"
                self.laws.forgot_sessions()

    def _found(self, action: FindAddresses) -> None:
        """A lookup is over: it has failed, or the name has some of the addresses that it may have."""
        scheduler, servers = self._scheduler, self._servers[action.upstream]
        addresses = [server.address for server in servers if scheduler.chance(0.5)]
        scheduler.counters["lookups" if addresses else "lookups that failed"] += 1
        self._take(self.resolver.addresses_found(action.upstream, addresses, _TTL, now=self.now))

    def _dial(self, action: OpenConnection) -> None:
        scheduler, number = self._scheduler, action.connection
        server = next(one for one in self._servers[action.upstream] if one.address == action.address)
        line = Line(action, self._numbers[action.upstream], server, server.link(number))
        self._lines[number] = line
        self.laws.dialled(server, now=self.now)
        scheduler.counters["dials"] += 1
        self.call_later(scheduler.seconds(0.0, 0.1), partial(self._dialled, line))

    def _dialled(self, line: Line) -> None:
        conduct, action = line.server.conduct, line.opening
        if line.is_gone or line.link.is_broken or conduct.reachability is Reachability.DROPS:
            return
        if conduct.reachability is Reachability.REFUSES:
            self._fail(line, "connection refused")
            return
        policy = action.upstream.policy_for(action.address)
        line.engine = ClientConnection(policy, self.resolver.configuration.connection, entropy=self._entropy)
        self._take(self.resolver.connection_opened(action.connection, line.engine, now=self.now))
        self.call_later(self._scheduler.seconds(0.0, 0.1), partial(self._shaken, line))

    def _shaken(self, line: Line) -> None:
        server, engine = line.server, line.engine
        assert engine is not None
        if line.is_gone or line.link.is_broken or server.conduct.handshake is Handshake.STALLS:
            return
        if server.has_forgotten_sessions:
            server.has_forgotten_sessions = False
            self._fail(line, "the server does not know the session", may_retry=True)
        elif server.conduct.handshake is Handshake.FAILS or server.conduct.reachability is not Reachability.ACCEPTS:
            error = RemoteProtocolError("the peer has ended the handshake", Fault.TLS)
            self._feed(line, engine.fail(error, now=self.now))
        else:
            line.side = ServerSide(server, line.link)
            line.link.down.receive = lambda item: self._when_awake(partial(self._arrived, line, item))
            self.laws.judged(line)
            evidence = _GENUINE if line.side.is_genuine else _OTHER
            self._feed(line, engine.verify_peer(evidence, now=self.now))

    def _fail(self, line: Line, explanation: str, *, may_retry: bool = False) -> None:
        number = line.opening.connection
        line.is_gone = True
        del self._lines[number]
        self._take(self.resolver.connection_failed(number, explanation, now=self.now, may_retry=may_retry))

    def _arrived(self, line: Line, item: bytes | End) -> None:
        engine, now = line.engine, self.now
        if line.is_gone:
            return
        assert engine is not None
        if isinstance(item, bytes):
            self._feed(line, engine.receive_data(item, now=now))
        elif item is End.RESET:
            self._feed(line, engine.fail(RemoteProtocolError("reset by peer", Fault.RESET), now=now))
        else:
            self._feed(line, engine.receive_eof(now=now, orderly=item is End.ORDERLY))

    def _feed(self, line: Line, events: list[Event]) -> None:
        """A verb of a connection's engine has returned: its events go to the resolver, its octets to the server."""
        self.laws.reported(line, events, now=self.now)
        found = self.resolver.receive_events(line.opening.connection, events, now=self.now)
        self._flush(line)
        self._take(found)

    def _flush(self, line: Line) -> None:
        engine = line.engine
        assert engine is not None, "only an open connection has something to send"
        for octets in engine.data_to_send():
            self.laws.sent(line, octets[2:], self._lines.values(), now=self.now)
            line.link.up.send(octets)
        if engine.state is State.CLOSED and engine.next_timeout() is None:
            line.is_gone = True
            self._lines.pop(line.opening.connection, None)
            line.link.up.send(End.ORDERLY)
        else:
            self._keep_time(line)

    def _keep_time(self, line: Line) -> None:
        """Be there at the deadline of a connection's engine."""
        due = None if line.engine is None else line.engine.next_timeout()
        if due is not None:
            self._call_at(due, partial(self._ring_line, line))

    def _ring_line(self, line: Line) -> None:
        engine = line.engine
        assert engine is not None
        due = engine.next_timeout()
        if not line.is_gone and due is not None and due <= self.now:
            self._feed(line, engine.handle_timeout(now=self.now))

    # What comes of it.

    def _take(self, events: list[Event]) -> None:
        counters = self._scheduler.counters
        for event in events:
            self._scheduler.note(f"resolver: {type(event).__name__}")
            match event:
                case QueryAnswered():
                    counters["answered"] += 1
                case QueryFailed():
                    counters[event.reason.value] += 1
                case _:
                    counters[type(event).__name__] += 1
            self.laws.told(event, now=self.now)
        self._do()

    def _entropy(self, size: int) -> bytes:
        return bytes(self._scheduler.number(0, 255) for _ in range(size))
