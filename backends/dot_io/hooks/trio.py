"""trio's own way to look names up, over TLS.

>>> import trio
>>> from dot_io.hooks.trio import HostnameResolver
>>> from dot_io.trio import Resolver
>>> from dot_proto import Upstream
>>> async def main():
...     async with Resolver([Upstream.well_known("quad9")]) as resolver:
...         trio.socket.set_custom_hostname_resolver(HostnameResolver(resolver))
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .._extras import needs_extra

with needs_extra("dot_io.hooks.trio", "trio"):
    import trio

from ..trio import Resolver
from ._asking import look_up
from ._getaddrinfo import AddressInfo, Host, Rules


class HostnameResolver(trio.abc.HostnameResolver):
    """For :func:`trio.socket.set_custom_hostname_resolver`, once in each run; ``resolver`` is the caller's to close.

    ``search`` are suffixes for short names.
    """

    def __init__(self, resolver: Resolver, *, search: Iterable[str] = ()) -> None:
        self._resolver = resolver
        self._rules = Rules(search=search)

    async def getaddrinfo(
        self, host: Host, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[AddressInfo]:
        """As :func:`socket.getaddrinfo`; raises :class:`socket.gaierror`."""
        lookup = self._rules.lookup(host, port, family, type, proto, flags)
        await trio.lowlevel.checkpoint()
        return await look_up(lookup, self._resolver, trio.to_thread.run_sync)

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        """As :func:`socket.getnameinfo`, which is the system's."""
        import socket

        return await trio.to_thread.run_sync(socket.getnameinfo, sockaddr, flags)
