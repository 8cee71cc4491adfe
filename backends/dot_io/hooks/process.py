"""Names for the whole process over TLS: whatever calls the functions of the module ``socket``.

>>> from dot_io.hooks.process import encrypted_dns
>>> from dot_proto import Upstream
>>> with encrypted_dns([Upstream.well_known("quad9")]):
...     ...
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any

from dot_proto import DoTError, ResolverConfiguration, Upstream, make_query

from .._addresses import records_in, reverse_name
from .._lookup import StandIn
from ..blocking import Resolver
from ._blocking import Names
from ._getaddrinfo import Host

HOST_NOT_FOUND, TRY_AGAIN = 1, 2
"Codes of :class:`socket.herror` (netdb.h)."


@contextmanager
def encrypted_dns(
    upstreams: Iterable[Upstream], configuration: ResolverConfiguration | None = None, *, search: Iterable[str] = ()
) -> Generator[Resolver]:
    """While the block runs, ``socket.getaddrinfo`` and its kin ask ``upstreams``, in every thread.

    ``gethostbyname``, ``gethostbyname_ex``, ``gethostbyaddr`` and ``getfqdn`` are its kin.  ``search`` are suffixes for
    short names.  Yields the resolver, for its statistics.  Blocks may be nested; each puts back what was there.
    Raises :class:`~dot_proto.LocalProtocolError` for a wrong argument, before anything is replaced.
    """
    names = Names(upstreams, configuration, search=search)
    functions = _Functions(names)
    kept = {name: getattr(socket, name) for name in _REPLACED}
    try:
        for name in _REPLACED:
            setattr(socket, name, StandIn(getattr(functions, name), kept[name]))
        yield names.resolver
    finally:
        for name, function in kept.items():
            setattr(socket, name, function)
        names.close()


_REPLACED = ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr")
"``getfqdn`` calls the last of them."


class _Functions:
    """What takes the places of the functions of the same names."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._system: dict[str, Callable[..., Any]] = {name: getattr(socket, name) for name in _REPLACED}

    def getaddrinfo(
        self, host: Host, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Any]:
        return self._names.getaddrinfo(host, port, family, type, proto, flags)

    def gethostbyname(self, hostname: Any) -> str:
        if hostname in ("", b"", "<broadcast>", b"<broadcast>"):  # addresses that only this function knows
            address: str = self._system["gethostbyname"](hostname)
            return address
        return self._addresses(hostname)[1][0]

    def gethostbyname_ex(self, hostname: Any) -> tuple[str, list[str], list[str]]:
        canonical, addresses = self._addresses(hostname)
        return canonical, [], addresses

    def gethostbyaddr(self, ip_address: Any) -> tuple[str, list[str], list[str]]:
        infos = self._names.getaddrinfo(ip_address, None, type=socket.SOCK_STREAM)
        address = infos[0][4][0]
        if found := self._names.names_of(address):
            return found[0], found[1:], [address]
        try:
            response = self._names.resolver.query(make_query(reverse_name(address), "PTR"))
            names = records_in(response, "PTR").values
        except DoTError as error:
            raise socket.herror(TRY_AGAIN, "Host name lookup failure") from error
        if not names:
            raise socket.herror(HOST_NOT_FOUND, "Unknown host")
        return names[0], list(names[1:]), [address]

    def _addresses(self, hostname: Any) -> tuple[str, list[str]]:
        """The canonical name, and the IPv4 addresses, which are the only ones here."""
        infos = self._names.getaddrinfo(hostname, None, socket.AF_INET, socket.SOCK_STREAM, 0, socket.AI_CANONNAME)
        return infos[0][3], [info[4][0] for info in infos]
