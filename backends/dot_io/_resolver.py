"""What the resolvers of all backends share: contexts, sessions, and what becomes of events.

The policy is :class:`dot_proto.resolver.machine.StubResolver`'s.  A backend dials, moves octets and keeps time; this
module stands between the two.  It hands to the machine what the sessions report, and to each caller the fate of its
query, and has the machine's actions carried out.
"""

from __future__ import annotations

import logging
import math
import os
import socket
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final, Self

from dot_proto import (
    AuthenticationPolicy,
    ConnectionClosed,
    DoTError,
    Event,
    LocalProtocolError,
    PeerAuthenticated,
    QueryLost,
    ResponseReceived,
    UpstreamError,
)
from dot_proto.arguments import check_flag, check_seconds
from dot_proto.query import not_octets
from dot_proto.resolver.configuration import ResolverConfiguration
from dot_proto.resolver.events import (
    AbandonConnection,
    Action,
    FindAddresses,
    ForgetSessions,
    OpenConnection,
    QueryAnswered,
    QueryFailed,
    ResolverClosed,
    UpstreamDown,
    UpstreamStatistics,
    UpstreamUp,
)
from dot_proto.resolver.machine import StubResolver
from dot_proto.resolver.upstream import Upstream

from ._addresses import FAMILIES
from ._attempt import Attempt
from ._fate import Fate
from ._fork import forgets_after_fork
from ._network import RESTED, NetworkWatch
from ._stays import StaysInProcess
from ._transport import give_up_unacknowledged
from .errors import AuthenticationError, HandshakeError
from .tls import ClientContext, TLSClient

log = logging.getLogger("dot_io")

_FATES: Final = (QueryAnswered, QueryFailed)
"All of :data:`Fate`, ready for isinstance(): a union would be made anew for each event."

Waiter = Callable[[Fate], None]
"What is told a query's fate."

MAX_KEPT: Final = 256
"Addresses of which it is kept how they were authenticated; then all is forgotten, sessions too."

MAX_LOOKUPS: Final = 2
"""Lookups of one upstream's name at a time.  One that hangs in a network which is no more is not waited for, and cannot
be ended either where the system does it; but networks that change in turns are not to leave one behind each time."""

LOOKUP_SHARE: Final = 0.75
"The part of an opening's time that the lookup of the upstream's name may take."

HANDSHAKE_GRACE: Final = 1.0
"Seconds that a session waits longer for its handshake than the machine does, which decides."


class ResolverBase(StaysInProcess, ABC):
    """The part of a resolver that does not wait."""

    _now: Callable[[], float]
    "Seconds on the clock that the machine is given; a backend has its clock itself here, since it is asked often."

    def __init__(
        self,
        upstreams: Iterable[Upstream],
        configuration: ResolverConfiguration | None = None,
        *,
        share_records: bool = False,
    ) -> None:
        check_flag("share_records", share_records)
        self._machine = StubResolver(upstreams, configuration, entropy=os.urandom)
        for number, upstream in enumerate(self._machine.upstreams):
            if not upstream.addresses and not upstream.bootstrap:
                raise UpstreamError(
                    f"upstreams[{number}]: no address to dial: give addresses, or bootstrap=[...] of upstreams to ask "
                    'for them, or bootstrap="system", which asks in the clear'
                )
        self._share_records = share_records
        self._contexts: dict[tuple[Upstream, AuthenticationPolicy], ClientContext] = {}
        self._attempts: dict[tuple[Upstream, str], Attempt] = {}
        "By address: of the handshake that is under way, or of the last one, if it has authenticated the server."
        self._proven: set[tuple[Upstream, str]] = set()
        "The addresses where it has."
        self._waiters: dict[int, Waiter] = {}
        self._bootstraps: dict[tuple[Upstream, ...], Self] = {}
        "By whom they ask: the resolvers that look upstreams' own names up.  They know which of those were refused."
        self._lookup_counts = Counter[Upstream]()
        "How many are under way."
        self._has_closed = False
        self._network = NetworkWatch()
        self._asked_at = -math.inf
        self._timer_at = math.inf
        "When the timer rings.  It may be early: to move it to a later time for each query would cost more."
        forgets_after_fork(self)

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """Who is asked."""
        return self._machine.upstreams

    @property
    def configuration(self) -> ResolverConfiguration:
        """How it behaves."""
        return self._machine.configuration

    def statistics(self) -> tuple[UpstreamStatistics, ...]:
        """The counters of each upstream; they hold no name that was asked for."""
        return self._machine.statistics()

    def __repr__(self) -> str:
        count = len(self.upstreams)
        return (
            f"<{type(self).__module__}.{type(self).__qualname__} of {count} upstream{'s' if count > 1 else ''}, "
            f"{'closed' if self._has_closed else 'open'}>"
        )

    def forget_parents(self) -> None:
        """In a forked child: begin anew, since what is open belongs to the parent.

        Queries that wait here are the parent's too, and nobody in this process waits for them.
        """
        self._begin_anew()

    def _begin_anew(self) -> None:
        """With nothing open, nothing asked, and nothing known of the upstreams."""
        self._machine = StubResolver(self.upstreams, self._machine.configuration, entropy=os.urandom)
        self._forget_sessions()
        self._waiters.clear()
        self._bootstraps.clear()
        self._lookup_counts.clear()
        self._network = NetworkWatch()
        self._timer_at = math.inf

    # For the backends.

    @abstractmethod
    def _open(self, action: OpenConnection) -> None:
        """Begin to dial."""

    @abstractmethod
    def _abandon(self, number: int) -> None:
        """End a connection at once, dialling included."""

    @abstractmethod
    def _find(self, action: FindAddresses) -> None:
        """Begin to look a name up."""

    @abstractmethod
    def _flush(self, number: int) -> None:
        """Have sent what a connection has to send."""

    @abstractmethod
    def _set_timer(self, due: float) -> None:
        """Call :meth:`_ring` at this time, which is earlier than what was set before."""

    def _bootstrap_of(self, upstream: Upstream) -> Self:
        """The resolver that looks the upstream's own name up; it is closed with this one."""
        assert upstream.bootstrap != "system", "the system needs no resolver of ours"
        bootstrap = self._bootstraps.get(upstream.bootstrap)
        if bootstrap is None:
            bootstrap = type(self)(upstream.bootstrap, self._bootstrap_configuration)
            self._bootstraps[upstream.bootstrap] = bootstrap
        return bootstrap

    @property
    def _bootstrap_configuration(self) -> ResolverConfiguration:
        """No connection outlasts its lookup.

        That one ends before the machine gives it up: of A and AAAA one may have been answered, which is enough.
        """
        configuration = self.configuration
        return replace(
            configuration,
            query_timeout=LOOKUP_SHARE * configuration.open_timeout,
            max_waiting=MAX_LOOKUPS * len(FAMILIES) * len(self.upstreams),
            connection=replace(configuration.connection, idle_timeout=0.0, max_idle_timeout=0.0),
        )

    def _new_session(self, action: OpenConnection, sock: socket.socket) -> TLSClient:
        """The session of a TCP connection that has come up."""
        configuration = self._machine.configuration
        # The longest silence that the machine bears: no packet needs to be sent again after that.
        give_up_unacknowledged(sock, 2 * configuration.patience + configuration.probe_timeout)
        self._network.opened(action.connection, action.address)
        attempt = self._attempt(action)
        return TLSClient(
            attempt.context,
            configuration.connection,
            server=(action.address, action.upstream.port),
            entropy=os.urandom,
            now=self._now(),
            handshake_timeout=configuration.open_timeout + HANDSHAKE_GRACE,
            share_records=self._share_records,
            tried=attempt.tried,
        )

    def _attempt(self, action: OpenConnection) -> Attempt:
        where = action.upstream, action.address
        attempt = self._attempts.get(where)
        if attempt is None:
            if len(self._attempts) >= MAX_KEPT:
                self._forget_sessions()
            key = action.upstream, action.upstream.policy_for(action.address)
            context = self._contexts.get(key)
            if context is None:
                context = self._contexts[key] = ClientContext(key[1])
            attempt = self._attempts[where] = Attempt.first(context)
        return attempt

    def _forget_sessions(self) -> None:
        """Sessions to resume are in the contexts, and so is what was learnt of issuers."""
        self._contexts.clear()
        self._attempts.clear()
        self._proven.clear()

    def _opened(self, action: OpenConnection, session: TLSClient) -> None:
        """TCP is up."""
        self._take(self._machine.connection_opened(action.connection, session.connection, now=self._now()))

    def _found(self, action: FindAddresses, addresses: Sequence[str], ttl: float, error: DoTError | None) -> None:
        """A lookup is over; ``ttl`` is in seconds.  What one has not found, another that is under way may find."""
        self._lookup_counts[action.upstream] -= 1
        if error is not None and self._lookup_counts[action.upstream] > 0:
            return
        why = "" if error is None else str(error)
        now = self._now()
        self._take(self._machine.addresses_found(action.upstream, addresses, ttl, now=now, explanation=why))

    def _failed(self, action: OpenConnection, error: DoTError) -> None:
        """There is no connection."""
        self._take(self._machine.connection_failed(action.connection, str(error), now=self._now()))

    def _process(self, action: OpenConnection, session: TLSClient, events: list[Event]) -> None:
        """What a verb of a session has returned."""
        where, machine = (action.upstream, action.address), self._machine
        for event in events:
            if isinstance(event, ResponseReceived):  # as nearly all are
                continue
            if isinstance(event, PeerAuthenticated):
                self._note(logging.DEBUG, "upstream %s: connection %d is open", action.upstream, action.connection)
                # Where a name was tried in vain, it is tried again next time.
                if session.was_tried:
                    self._attempts.pop(where, None)
                else:
                    self._proven.add(where)
            elif isinstance(event, ConnectionClosed):
                self._network.ended(action.connection)
                lost = sum(isinstance(each, QueryLost) and each.was_sent for each in events)
                text = "upstream %s: connection %d has ended (%s); queries without an answer: %d"
                self._note(logging.DEBUG, text, action.upstream, action.connection, event.cause.value, lost)
                if not isinstance(event.error, HandshakeError):
                    continue
                event.error.session_was_offered = session.offers_session
                if self._has_another(where, event.error):
                    text = str(event.error)
                    self._take(machine.connection_failed(action.connection, text, now=self._now(), may_retry=True))
                    return
        self._take(machine.receive_events(action.connection, events, now=self._now()))

    def _has_another(self, where: tuple[Upstream, str], error: HandshakeError) -> bool:
        """Whether another handshake is to follow one that has failed; if so, it is prepared."""
        upstream, address = where
        attempt = self._attempts.pop(where, None)
        was_proven = where in self._proven
        self._proven.discard(where)
        if attempt is None:
            return False  # the network has changed meanwhile
        try:
            self._attempts[where] = attempt.after(error, (address, upstream.port))
        except HandshakeError:
            # What was right before may be wrong since: an issuer has a new certificate for its key. Then we begin anew.
            return was_proven and isinstance(error, AuthenticationError)
        return True

    def _ask(self, message: bytes, timeout: float | None, waiter: Waiter) -> int:
        """Ask for a caller, one or several times; then call :meth:`_do`."""
        if timeout is not None:
            check_seconds("timeout", timeout)
        if not isinstance(message, bytes):
            raise LocalProtocolError(not_octets(message))
        now = self._now()
        if not self._waiters:  # else a timer is on its way
            has_rested = now - self._asked_at > RESTED
            if self._network.has_slept() or (has_rested and self._network.has_moved()):
                self._start_anew(now)
        self._asked_at = now
        handle = self._machine.send_query(message, now=now, timeout=timeout)
        self._waiters[handle] = waiter
        return handle

    def _cancel(self, handle: int) -> None:
        """A caller does not wait any more."""
        if self._waiters.pop(handle, None) is not None:
            self._machine.cancel(handle, now=self._now())
            self._do()

    def _ring(self) -> None:
        """A deadline of the machine's has come: it may be a server's that is silent, since we are elsewhere."""
        self._timer_at = math.inf
        now = self._now()
        if self._network.has_slept() or self._network.has_moved():
            self._start_anew(now)
        self._take(self._machine.handle_timeout(now=now))

    def _leave_network(self) -> None:
        """The machine is in another one."""
        self._machine.network_changed(now=self._now())
        self._do()

    def _start_anew(self, now: float) -> None:
        self._note(logging.INFO, "the machine has slept, or is in another network: connections are opened anew")
        self._machine.network_changed(now=now)

    def _note(self, level: int, text: str, *arguments: object) -> None:
        """For the log."""
        log.log(level, text, *arguments)

    def _take(self, events: list[Event]) -> None:
        """What a verb of the machine has returned."""
        for event in events:
            if isinstance(event, _FATES):
                waiter = self._waiters.get(event.query)
                if waiter is not None:
                    waiter(event)
                    # Not before: an interruption in between must not leave somebody waiting whom nobody knows.
                    self._waiters.pop(event.query, None)
            elif isinstance(event, UpstreamDown):
                failure, delay = event.failure, max(event.next_try - self._now(), 0.0)
                text = "upstream %s is down (%s): %s; next try in %.1f s"
                self._note(logging.WARNING, text, event.upstream, failure.phase.value, failure.explanation, delay)
            elif isinstance(event, UpstreamUp):
                self._note(logging.INFO, "upstream %s is up again", event.upstream)
            elif isinstance(event, ResolverClosed):
                self._has_closed = True
        self._do()

    def _do(self) -> None:
        """The duties of a driver: actions, octets, the timer."""
        actions, unflushed, due = self._machine.duties()
        if due is not None and due < self._timer_at:
            self._timer_at = due
            self._set_timer(due)
        for action in actions:
            self._carry_out(action)
        for number in unflushed:
            self._flush(number)

    def _carry_out(self, action: Action) -> None:
        match action:
            case OpenConnection():
                self._open(action)
            case AbandonConnection():
                self._network.ended(action.connection)
                self._abandon(action.connection)
            case FindAddresses() if self._lookup_counts[action.upstream] < MAX_LOOKUPS:
                self._lookup_counts[action.upstream] += 1
                self._find(action)
            case FindAddresses():
                pass  # those that are under way tell
            case ForgetSessions():
                self._forget_sessions()
                for bootstrap in self._bootstraps.values():
                    bootstrap._leave_network()
