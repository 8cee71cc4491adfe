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
from collections.abc import AsyncGenerator, Awaitable, Generator, Iterable
from contextlib import contextmanager
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
from .._clock import monotonic
from ..errors import NoUpstreamError, QueryTimeoutError
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
        self._on_asyncio: dict[asyncio.AbstractEventLoop, tuple[_Asked, AsyncGenerator[None]]] = {}
        "Each loop's resolver, and what closes it."
        self._on_trio: dict[object, _Asked] = {}
        "By the token of the run."
        self._opening: dict[object, Any] = {}
        "By the token of the run: an event for those who wait until its resolver has a nursery."
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
        """Close what the running event loop of asyncio has; for loops that end without ``shutdown_asyncgens()``.

        ``asyncio.run`` calls that, and trio ends what is its own.
        """
        if held := self._on_asyncio.get(asyncio.get_running_loop()):
            await held[1].aclose()

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
        with _in_time(timeout):
            octets = self._resolver.query(request.to_wire(), timeout=timeout)
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
        resolver = await (self._of_trio() if _is_in_trio() else self._of_asyncio())
        with _in_time(timeout):
            octets = await resolver.query(request.to_wire(), timeout=timeout)
        return _response(request, octets, one_rr_per_rrset, ignore_trailing)

    # Private methods.

    async def _of_asyncio(self) -> _Asked:
        loop = asyncio.get_running_loop()
        if loop not in self._on_asyncio:
            for closed in [one for one in list(self._on_asyncio) if one.is_closed()]:
                self._on_asyncio.pop(closed, None)  # another thread may have done so
            resolver = dot_io.asyncio.Resolver(self._resolver.upstreams, self._resolver.configuration)
            until_shutdown = self._hold(resolver, loop)
            self._on_asyncio[loop] = resolver, until_shutdown
            await anext(until_shutdown)
        return self._on_asyncio[loop][0]

    async def _hold(self, resolver: dot_io.asyncio.Resolver, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None]:
        """A generator, since those end after all tasks (``loop.shutdown_asyncgens()``): they may ask until then."""
        try:
            async with resolver:
                yield
        finally:
            self._on_asyncio.pop(loop, None)

    async def _of_trio(self) -> _Asked:
        import trio

        token = trio.lowlevel.current_trio_token()
        if token not in self._on_trio:
            if token not in self._opening:
                self._opening[token] = trio.Event()
                trio.lowlevel.spawn_system_task(self._hold_on_trio, token)
            await self._opening[token].wait()
        return self._on_trio[token]

    async def _hold_on_trio(self, token: object) -> None:
        """A system task: it is cancelled after the main task's end."""
        import trio

        import dot_io.trio

        try:
            async with dot_io.trio.Resolver(self._resolver.upstreams, self._resolver.configuration) as resolver:
                self._on_trio[token] = resolver
                self._opening.pop(token).set()
                await trio.sleep_forever()
        finally:
            self._on_trio.pop(token, None)


def _is_in_trio() -> bool:
    """Whether a task of trio's calls; ``trio.lowlevel.in_trio_task`` says so from trio 0.29 on alone."""
    trio = sys.modules.get("trio")
    try:
        return trio is not None and trio.lowlevel.current_task() is not None
    except RuntimeError:
        return False


@contextmanager
def _in_time(timeout: float) -> Generator[None]:
    """Time that is over is dnspython's own error, whatever else has gone wrong: dnspython then asks again."""
    deadline = monotonic() + timeout
    try:
        yield
    except (QueryTimeoutError, NoUpstreamError) as error:
        if isinstance(error, NoUpstreamError) and monotonic() < deadline:
            raise
        raise dns.exception.Timeout(timeout=timeout) from error  # type: ignore[no-untyped-call]


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
