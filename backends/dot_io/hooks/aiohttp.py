"""aiohttp's own way to look names up, over TLS.

>>> import aiohttp
>>> from dot_io.asyncio import Resolver as DoTResolver
>>> from dot_io.hooks.aiohttp import Resolver
>>> from dot_proto import Upstream
>>> async def main():
...     async with DoTResolver([Upstream.well_known("quad9")]) as resolver:
...         connector = aiohttp.TCPConnector(resolver=Resolver(resolver))
...         async with aiohttp.ClientSession(connector=connector) as session:
...             ...
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable

from .._extras import needs_extra

with needs_extra("dot_io.hooks.aiohttp", "aiohttp"):
    from aiohttp.abc import AbstractResolver, ResolveResult

from ..asyncio import Resolver as DoTResolver
from ._asking import look_up
from ._getaddrinfo import Rules


class Resolver(AbstractResolver):
    """For :class:`aiohttp.TCPConnector`; ``resolver`` is the caller's to close.

    ``search`` are suffixes for short names.
    """

    def __init__(self, resolver: DoTResolver, *, search: Iterable[str] = ()) -> None:
        self._resolver = resolver
        self._rules = Rules(search=search)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a name; raises :class:`socket.gaierror`, which aiohttp passes on as its own."""
        lookup = self._rules.lookup(host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
        loop = asyncio.get_running_loop()
        infos = await look_up(lookup, self._resolver, lambda call: loop.run_in_executor(None, call))
        return [
            ResolveResult(
                hostname=host,
                host=_with_zone(address),
                port=address[1],
                family=found,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for found, _, proto, _, address in infos
        ]

    async def close(self) -> None:
        """Nothing: whoever made the resolver closes it."""


def _with_zone(address: tuple[str, int] | tuple[str, int, int, int]) -> str:
    host = address[0]
    return f"{host}%{address[3]}" if len(address) == 4 and address[3] and "%" not in host else host
