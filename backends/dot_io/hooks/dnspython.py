"""A nameserver for dnspython's resolvers, with connections that stay.

>>> import dns.resolver
>>> from dot_io.hooks.dnspython import nameserver
>>> from dot_proto import Upstream
>>> resolver = dns.resolver.Resolver(configure=False)
>>> resolver.nameservers = [nameserver([Upstream.well_known("quad9")])]
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

from .._extras import needs_extra

with needs_extra("dot_io.hooks.dnspython", "dnspython"):
    import dns.exception
    import dns.message
    import dns.nameserver
    import dns.query

import dot_io.asyncio
from dot_proto import ResolverConfiguration, Upstream

from .. import blocking
from ..errors import QueryTimeoutError
from ._getaddrinfo import PATIENT


def nameserver(upstreams: Iterable[Upstream], configuration: ResolverConfiguration | None = None) -> Nameserver:
    """For ``nameservers`` of :class:`dns.resolver.Resolver` and of :class:`dns.asyncresolver.Resolver`.

    It asks ``upstreams``.  One will do for threads, for event loops of asyncio and for runs of trio, all at once: each
    loop has connections of its own, which end with it, and all threads share one resolver, until :meth:`close`.
    Raises :class:`~dot_proto.LocalProtocolError` for a wrong argument.
    """
    return Nameserver(blocking.Resolver(upstreams, PATIENT if configuration is None else configuration))


class _Asked(Protocol):
    def query(self, message: bytes, /, *, timeout: float | None) -> Awaitable[bytes]: ...


class Nameserver(dns.nameserver.AddressAndPortNameserver):
    """Made by :func:`nameserver`."""

    def __init__(self, resolver: blocking.Resolver) -> None:
        first = resolver.upstreams[0]
        super().__init__(first.addresses[0] if first.addresses else "0.0.0.0", first.port)
        self._resolver: Final = resolver
        self._by_loop: dict[object, _Asked] = {}
        self._tasks: dict[object, asyncio.Task[None]] = {}
        self._opening: set[object] = set()
        "Runs of trio whose resolver has been made, and has no nursery yet."
        weakref.finalize(self, resolver.close, timeout=0.0)

    def __str__(self) -> str:
        return f"DoT:{', '.join(map(str, self._resolver.upstreams))}"

    def kind(self) -> str:
        """As dnspython's own."""
        return "DoT"

    def is_always_max_size(self) -> bool:
        """No answer is truncated, so none is asked for again over TCP."""
        return True

    def close(self) -> None:
        """Close what threads share; loops close their own when they end."""
        self._resolver.close()

    async def aclose(self) -> None:
        """Close what the running event loop of asyncio has; for loops whose tasks nobody cancels at their end.

        ``asyncio.run`` does that, and trio ends what is its own.
        """
        task = self._tasks.pop(asyncio.get_running_loop(), None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def query(
        self,
        request: dns.message.QueryMessage,
        timeout: float,
        source: str | None,
        source_port: int,
        max_size: bool = False,
        one_rr_per_rrset: bool = False,
        ignore_trailing: bool = False,
    ) -> dns.message.Message:
        """Ask, and wait; raises :class:`dns.exception.Timeout` and what ``dot_io.blocking.Resolver.query`` raises."""
        try:
            octets = self._resolver.query(request.to_wire(), timeout=timeout)
        except QueryTimeoutError as error:
            raise _timeout(timeout) from error
        return _response(request, octets, one_rr_per_rrset, ignore_trailing)

    async def async_query(
        self,
        request: dns.message.QueryMessage,
        timeout: float,
        source: str | None,
        source_port: int,
        max_size: bool,
        backend: Any,
        one_rr_per_rrset: bool = False,
        ignore_trailing: bool = False,
    ) -> dns.message.Message:
        """Ask, and wait, on the loop that runs, whatever ``backend`` says: dnspython keeps its first one for good."""
        resolver = await self._of_this_loop()
        try:
            octets = await resolver.query(request.to_wire(), timeout=timeout)
        except QueryTimeoutError as error:
            raise _timeout(timeout) from error
        return _response(request, octets, one_rr_per_rrset, ignore_trailing)

    # Private methods.

    async def _of_this_loop(self) -> _Asked:
        trio = sys.modules.get("trio")
        on_trio = trio is not None and trio.lowlevel.in_trio_task()
        loop: object = trio.lowlevel.current_trio_token() if on_trio and trio else asyncio.get_running_loop()
        resolver = self._by_loop.get(loop)
        if resolver is None:
            resolver = await (self._open_on_trio(loop) if on_trio else self._open_on_asyncio(loop))
        return resolver

    async def _open_on_asyncio(self, loop: object) -> _Asked:
        resolver = dot_io.asyncio.Resolver(self._resolver.upstreams, self._resolver.configuration)
        self._by_loop[loop] = resolver
        task = asyncio.get_running_loop().create_task(self._hold(resolver, loop, asyncio.Event().wait))
        self._tasks[loop] = task  # loops keep weak references to their tasks alone
        task.add_done_callback(lambda _: self._tasks.pop(loop, None))
        return resolver

    async def _open_on_trio(self, loop: object) -> _Asked:
        import trio

        import dot_io.trio

        resolver = dot_io.trio.Resolver(self._resolver.upstreams, self._resolver.configuration)
        if loop not in self._opening:
            self._opening.add(loop)
            trio.lowlevel.spawn_system_task(self._hold, resolver, loop, trio.sleep_forever)
        while loop not in self._by_loop:
            await trio.lowlevel.checkpoint()
        return self._by_loop[loop]

    async def _hold(
        self, resolver: AbstractAsyncContextManager[Any], loop: object, for_ever: Callable[[], Awaitable[object]]
    ) -> None:
        """A task of its own, which is cancelled when the loop has nothing left to do: then the resolver is closed."""
        try:
            async with resolver as opened:
                self._by_loop[loop] = opened
                self._opening.discard(loop)
                await for_ever()
        finally:
            self._by_loop.pop(loop, None)


def _timeout(seconds: float | None) -> dns.exception.Timeout:
    return dns.exception.Timeout(timeout=seconds)  # type: ignore[no-untyped-call]


def _response(
    request: dns.message.QueryMessage, octets: bytes, one_rr_per_rrset: bool, ignore_trailing: bool
) -> dns.message.Message:
    response = dns.message.from_wire(
        octets,
        keyring=request.keyring,
        request_mac=request.mac,
        one_rr_per_rrset=one_rr_per_rrset,
        ignore_trailing=ignore_trailing,
    )
    if not request.is_response(response):
        raise dns.query.BadResponse
    return response
