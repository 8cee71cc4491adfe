"""An event loop of asyncio that looks names up over TLS: for everything that asks its loop.

>>> import asyncio
>>> from dot_io.hooks.event_loop import new_event_loop
>>> from dot_proto import Upstream
>>> def factory():
...     return new_event_loop([Upstream.well_known("quad9")])
>>> with asyncio.Runner(loop_factory=factory) as runner:  # doctest: +SKIP
...     runner.run(main())
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from typing import Any

from dot_proto import ResolverConfiguration, Upstream

from ..asyncio import Resolver
from ._asking import look_up
from ._getaddrinfo import PATIENT, AddressInfo, Host, Rules

if sys.platform == "win32":
    _Loop = asyncio.ProactorEventLoop
else:
    _Loop = asyncio.SelectorEventLoop


def new_event_loop(
    upstreams: Iterable[Upstream], configuration: ResolverConfiguration | None = None, *, search: Iterable[str] = ()
) -> asyncio.AbstractEventLoop:
    """A loop whose ``getaddrinfo`` asks ``upstreams``.

    ``search`` are suffixes for short names.  The resolver is closed with the loop.  Raises
    :class:`~dot_proto.LocalProtocolError` for a wrong argument.
    """
    return EventLoop(Resolver(upstreams, PATIENT if configuration is None else configuration), Rules(search=search))


class EventLoop(_Loop):
    """Made by :func:`new_event_loop`."""

    def __init__(self, resolver: Resolver, rules: Rules) -> None:
        super().__init__()
        self._resolver = resolver
        self._rules = rules
        self._has_asked = False

    async def getaddrinfo(
        self, host: Host, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[AddressInfo]:
        """As :func:`socket.getaddrinfo`; raises :class:`socket.gaierror`."""
        lookup = self._rules.lookup(host, port, family, type, proto, flags)
        self._has_asked = self._has_asked or bool(lookup.questions)
        return await look_up(lookup, self._resolver, lambda call: self.run_in_executor(None, call))

    async def shutdown_asyncgens(self) -> None:
        """The last that runs on a loop, by custom: the resolver is closed in order."""
        await self._end(timeout=1.0)
        await super().shutdown_asyncgens()

    def close(self) -> None:
        """Close the loop, and the resolver where nobody has done so yet, and no other loop runs in this thread."""
        can_run = not self.is_closed() and not self.is_running() and asyncio._get_running_loop() is None
        try:
            if can_run and self._has_asked:
                self.run_until_complete(self._end(timeout=0.0))
        finally:
            super().close()

    async def _end(self, *, timeout: float) -> None:
        if self._has_asked:
            self._has_asked = False
            await self._resolver.close(timeout=timeout)
