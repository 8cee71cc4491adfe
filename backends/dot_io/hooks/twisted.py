"""Twisted's own way to look names up, over TLS.

>>> from twisted.internet import reactor
>>> from dot_io.hooks.twisted import NameResolver
>>> from dot_proto import Upstream
>>> names = NameResolver(reactor, [Upstream.well_known("quad9")])
>>> before = reactor.installNameResolver(names)
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

from dot_proto import ResolverConfiguration, Upstream

from .._extras import needs_extra

with needs_extra("dot_io.hooks.twisted", "twisted"):
    from twisted.internet.address import IPv4Address, IPv6Address
    from twisted.internet.interfaces import IHostnameResolver, IHostResolution
    from twisted.internet.threads import deferToThreadPool
    from twisted.logger import Logger
    from twisted.python.failure import Failure
    from zope.interface import implementer

from ._blocking import Functions

log: Final = Logger("dot_io")

_FAMILIES: Final = {IPv4Address: socket.AF_INET, IPv6Address: socket.AF_INET6}
_KINDS: Final = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}


@implementer(IHostResolution)
class _Resolution:
    """One name that is looked up."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_cancelled: bool = False

    def cancel(self) -> None:
        """Nobody waits any more; the lookup itself ends by its time."""
        self.is_cancelled = True


@implementer(IHostnameResolver)
class NameResolver:
    """For ``reactor.installNameResolver()``: lookups wait in the reactor's own threads, and share one resolver.

    ``search`` are suffixes for short names.  It is closed with the reactor.  Raises
    :class:`~dot_proto.LocalProtocolError` for a wrong argument.
    """

    def __init__(
        self,
        reactor: Any,
        upstreams: Iterable[Upstream],
        configuration: ResolverConfiguration | None = None,
        *,
        search: Iterable[str] = (),
    ) -> None:
        self._reactor = reactor
        self._functions = Functions(upstreams, configuration, search=search, system=socket.getaddrinfo)
        reactor.addSystemEventTrigger("during", "shutdown", self._functions.close)

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[Any] | None = None,
        transportSemantics: Literal["TCP", "UDP"] = "TCP",
    ) -> _Resolution:
        """As :class:`twisted.internet.interfaces.IHostnameResolver` has it: a name that is not found has no address."""
        resolution = _Resolution(hostName)
        wanted = {_FAMILIES[one] for one in addressTypes or _FAMILIES if one in _FAMILIES}
        family = wanted.pop() if len(wanted) == 1 else socket.AF_UNSPEC
        kind = _KINDS[transportSemantics]
        resolutionReceiver.resolutionBegan(resolution)

        def found(infos: Sequence[Any]) -> None:
            for one, _, _, _, address in infos:
                if not resolution.is_cancelled:
                    form = IPv4Address if one == socket.AF_INET else IPv6Address
                    resolutionReceiver.addressResolved(form(transportSemantics, *address))
            if not resolution.is_cancelled:
                resolutionReceiver.resolutionComplete()

        def look_up() -> Sequence[Any]:
            try:
                return self._functions.getaddrinfo(hostName, portNumber, family, kind)
            except (socket.gaierror, TypeError):
                return []

        def failed(failure: Failure) -> Sequence[Any]:
            log.failure("a name could not be looked up", failure)
            return []

        lookup = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), look_up)
        lookup.addErrback(failed).addCallback(found)
        return resolution
