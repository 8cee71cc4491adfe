"""Asks upstreams for clients: between the policy, which decides, and the resolver, which asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from time import monotonic
from typing import Final

from dot_proto import LocalProtocolError, MessageError, Upstream
from dot_proto._message import FORMERR
from dot_proto.resolver.events import FailureReason, Phase, QueryAnswered, QueryFailed, UpstreamStatistics

from .._fate import Fate
from .._resolver import Waiter
from ..asyncio import Resolver
from ._cache import Cache
from ._counters import Counters
from ._in_flight import InFlight
from ._policy import Drop, DropReason, Forward, Policy, Reply
from ._responses import NETWORK_ERROR, NO_REACHABLE_AUTHORITY, OTHER_ERROR, ClientQuery
from .configuration import ProxyConfiguration

Answerer = Callable[[bytes | None], None]
"Sends a response to whoever asked; ``None``: there will be none.  It raises nothing."


class _Resolver(Resolver):
    """A resolver that calls back: a task for each query would cost as much as all else."""

    def ask(self, message: bytes, waiter: Waiter) -> int:
        """Ask; ``waiter`` is told the fate of the handle that is returned, later."""
        self._running_loop()
        handle = self._ask(message, None, waiter)
        self._do()
        return handle

    def abandon(self, handle: int) -> None:
        """Nobody waits for this query any more."""
        self._cancel(handle)


class Forwarder:
    """The queries of all clients, for one list of upstreams and one configuration."""

    def __init__(
        self,
        upstreams: Iterable[Upstream],
        configuration: ProxyConfiguration,
        counters: Counters,
        cache: Cache | None = None,
    ) -> None:
        self._counters = counters
        self.cache: Final = cache
        "Answers that are kept, where any are."
        asking = replace(
            configuration.resolver,
            query_timeout=configuration.wait_for_upstream,
            max_waiting=configuration.max_in_flight + 1,  # one more is asked before the oldest is dropped
        )
        self._resolver = _Resolver(upstreams, asking)
        self._policy = Policy(
            configuration, clears_ad=any(upstream.is_opportunistic for upstream in self._resolver.upstreams)
        )
        self._in_flight = InFlight[tuple[ClientQuery, Answerer, bytes | None, float]](configuration)
        self._is_empty = asyncio.Event()
        self.configuration: Final = configuration

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """Who is asked."""
        return self._resolver.upstreams

    @property
    def waiting(self) -> int:
        """How many queries wait for their answers."""
        return len(self._in_flight)

    def statistics(self) -> tuple[UpstreamStatistics, ...]:
        """The counters of each upstream."""
        return self._resolver.statistics()

    def receive(self, message: bytes, answer: Answerer, *, over_udp: bool) -> None:
        """A client's message; ``answer`` is called once, perhaps at once."""
        decision = self._policy.receive(message, over_udp=over_udp)
        if isinstance(decision, Drop):
            self._drop(answer, decision.reason)
            return
        (self._counters.over_udp if over_udp else self._counters.over_tcp)[decision.query.rdtype] += 1
        if isinstance(decision, Reply):
            self._answer(answer, decision.message)
        else:
            self._ask(decision, answer)

    async def close(self) -> None:
        """Wait for what is owed, which has its deadlines, and end all connections."""
        while self._in_flight:
            self._is_empty.clear()
            await self._is_empty.wait()
        await self._resolver.close()

    async def abort(self) -> None:
        """End all connections at once; whoever waits is told."""
        await self._resolver.close(timeout=0.0)

    # Private methods.

    def _ask(self, asked: Forward, answer: Answerer) -> None:
        message, query, key = asked.message, asked.query, None
        if self.cache is not None and asked.may_be_kept:
            key = message[2:12] + message[12:].lower()  # all that an upstream is asked, but for the case of letters
            kept = self.cache.get(key, now=monotonic())
            if kept is not None:
                self._counters.cache_hits += 1
                self._answer(answer, query.response(kept))
                return
            self._counters.cache_misses += 1
        question = query.question.lower()
        if not self._in_flight.takes(question):
            self._drop(answer, DropReason.EQUAL)
            return
        try:
            handle = self._resolver.ask(message, self._end)
        except MessageError:  # the engine reads messages as strictly as a server does
            self._answer(answer, query.error(FORMERR))
            return
        except LocalProtocolError:  # it is being closed, or the id that a signature covers is in use
            self._answer(answer, query.failure(OTHER_ERROR, "dot-proto: cannot be asked now"))
            return
        self._in_flight.add(handle, (query, answer, key, monotonic()), question, len(message))
        while (oldest := self._in_flight.surplus()) is not None:
            self._resolver.abandon(oldest)
            found = self._in_flight.remove(oldest)
            assert found is not None
            self._drop(found[1], DropReason.OVERLOAD)

    def _end(self, fate: Fate) -> None:
        """The fate of a query."""
        found = self._in_flight.remove(fate.query)
        if found is None:
            return
        query, answer, key, came_at = found
        now = monotonic()
        self._counters.took(now - came_at)
        if isinstance(fate, QueryAnswered):
            if key is not None and self.cache is not None:
                self.cache.put(key, fate.message, now=now)
            self._answer(answer, query.response(fate.message))
        else:
            self._answer(answer, query.failure(*_why(fate)))
        if not self._in_flight:
            self._is_empty.set()

    def _answer(self, answer: Answerer, message: bytes) -> None:
        self._counters.rcodes[message[3] & 15] += 1
        self._counters.truncated += message[2] >> 1 & 1
        answer(message)

    def _drop(self, answer: Answerer, reason: DropReason) -> None:
        self._counters.dropped[reason] += 1
        answer(None)


def _why(fate: QueryFailed) -> tuple[int, str]:
    """The extended error (RFC 8914) and its text, which says that it is ours (section 3) and holds no name."""
    failures = [report.failure for report in fate.upstreams]
    if all(failure is not None and failure.phase is Phase.AUTHENTICATION for failure in failures):
        return OTHER_ERROR, "dot-proto: authentication"
    if fate.reason is FailureReason.NO_UPSTREAM or (not fate.attempts and all(failures)):
        return NO_REACHABLE_AUTHORITY, "dot-proto: no upstream can be reached"
    return NETWORK_ERROR, "dot-proto: no answer from an upstream"
