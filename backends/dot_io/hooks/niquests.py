"""The way of niquests, and of urllib3-future below it, to look names up, over TLS.

>>> import niquests  # doctest: +SKIP
>>> from dot_io.hooks.niquests import Resolver  # doctest: +SKIP
>>> from dot_proto import Upstream
>>> resolver = Resolver([Upstream.well_known("quad9")])  # doctest: +SKIP
>>> with niquests.Session(resolver=resolver) as session:  # doctest: +SKIP
...     ...
"""

# pyright: reportMissingImports=false
# It is not among what is installed for type checkers: see tests/hooks/test_niquests.py.

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from typing import Any, Self

from dot_proto import ResolverConfiguration, Upstream

from .._extras import needs_extra

with needs_extra("dot_io.hooks.niquests", "niquests"):
    # Its own urllib3, which may have taken the place of the one that most programs have, or stand beside that.
    from niquests.packages.urllib3.contrib.resolver import BaseResolver, ProtocolResolver
    from niquests.packages.urllib3.contrib.resolver._async import AsyncBaseResolver

import dot_io.asyncio

from ._asking import look_up
from ._blocking import Functions
from ._getaddrinfo import PATIENT, AddressInfo, Host, Rules


class Resolver(BaseResolver):  # type: ignore[misc]
    """For ``niquests.Session(resolver=...)``; threads share it, and :meth:`close` is the caller's to call.

    ``search`` are suffixes for short names.  Raises :class:`~dot_proto.LocalProtocolError` for a wrong argument.
    """

    implementation = "dot_io"
    protocol = ProtocolResolver.CUSTOM

    def __init__(
        self,
        upstreams: Iterable[Upstream],
        configuration: ResolverConfiguration | None = None,
        *,
        search: Iterable[str] = (),
    ) -> None:
        super().__init__(None)
        self._functions = Functions(upstreams, configuration, search=search, system=socket.getaddrinfo)
        self._is_open = True

    def recycle(self) -> Self:
        """Another one that asks the same; this one must have been closed."""
        check_closed(self)
        resolver = self._functions.resolver
        return type(self)(resolver.upstreams, resolver.configuration, search=self._functions.rules.search)

    def close(self) -> None:
        """Close what is open."""
        self._is_open = False
        self._functions.close()

    def is_available(self) -> bool:
        """Whether it has not been closed."""
        return self._is_open

    def getaddrinfo(
        self,
        host: Host,
        port: Any,
        family: int,
        type: int,
        proto: int = 0,
        flags: int = 0,
        *,
        quic_upgrade_via_dns_rr: bool = False,
    ) -> list[AddressInfo]:
        """As :func:`socket.getaddrinfo`; HTTPS records, which would lead to QUIC, are not asked for."""
        return self._functions.getaddrinfo(host, port, family, type, proto, flags)


class AsyncResolver(AsyncBaseResolver):  # type: ignore[misc]
    """For ``niquests.AsyncSession(resolver=...)`` on asyncio; otherwise as :class:`Resolver`."""

    implementation = "dot_io"
    protocol = ProtocolResolver.CUSTOM

    def __init__(
        self,
        upstreams: Iterable[Upstream],
        configuration: ResolverConfiguration | None = None,
        *,
        search: Iterable[str] = (),
    ) -> None:
        super().__init__(None)
        self._rules = Rules(search=search)
        self._resolver = dot_io.asyncio.Resolver(upstreams, PATIENT if configuration is None else configuration)
        self._is_open = True

    def recycle(self) -> Self:
        """Another one that asks the same; this one must have been closed."""
        check_closed(self)
        return type(self)(self._resolver.upstreams, self._resolver.configuration, search=self._rules.search)

    async def close(self) -> None:
        """Close what is open."""
        self._is_open = False
        await self._resolver.close()

    def is_available(self) -> bool:
        """Whether it has not been closed."""
        return self._is_open

    async def getaddrinfo(
        self,
        host: Host,
        port: Any,
        family: int,
        type: int,
        proto: int = 0,
        flags: int = 0,
        *,
        quic_upgrade_via_dns_rr: bool = False,
    ) -> list[AddressInfo]:
        """As :func:`socket.getaddrinfo`; HTTPS records, which would lead to QUIC, are not asked for."""
        loop = asyncio.get_running_loop()
        lookup = self._rules.lookup(host, port, family, type, proto, flags)
        return await look_up(lookup, self._resolver, lambda call: loop.run_in_executor(None, call))


def check_closed(resolver: Resolver | AsyncResolver) -> None:
    """Raises :class:`RuntimeError`, as those of niquests do, while it is open."""
    if resolver.is_available():
        raise RuntimeError("a resolver that is not closed needs no other one in its place")
