"""``getaddrinfo`` for programs that block: a resolver that their threads share, and the rules."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Any, Final

from dot_proto import ResolverConfiguration, Upstream

from ..blocking import Resolver
from ._asking import look_up_blocking
from ._getaddrinfo import AddressInfo, Host, Rules


class Names:
    """Looks names up for any number of threads, until it is closed.

    ``search`` are suffixes for short names.  Raises :class:`~dot_proto.LocalProtocolError` for a wrong argument.
    """

    def __init__(
        self,
        upstreams: Iterable[Upstream],
        configuration: ResolverConfiguration | None = None,
        *,
        search: Iterable[str] = (),
    ) -> None:
        self._rules: Final = Rules(search=search)
        self.resolver: Final = Resolver(upstreams, configuration)
        self.system: Final[Callable[..., Any]] = socket.getaddrinfo
        "What it stands in for, and what looks up the names that are not for DNS."

    def getaddrinfo(
        self, host: Host, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[AddressInfo]:
        """As :func:`socket.getaddrinfo`; raises :class:`socket.gaierror`."""
        lookup = self._rules.lookup(host, port, family, type, proto, flags)
        return look_up_blocking(lookup, self.resolver, self.system)

    def names_of(self, address: str) -> list[str]:
        """The names of an address in the table of hosts: the canonical one first."""
        return self._rules.hosts.names_of(address)

    def close(self) -> None:
        """Close the resolver."""
        self.resolver.close()
