"""The functions of the module ``socket`` that know names, over a resolver that the threads of a program share."""

from __future__ import annotations

import _socket
import socket
from collections.abc import Callable, Iterable
from typing import Any, Final

from dot_proto import DoTError, ResolverConfiguration, Upstream, make_query
from dot_proto._message import NOERROR, NXDOMAIN

from .._addresses import records_in, reverse_name
from ..blocking import Resolver
from ._asking import look_up_blocking
from ._getaddrinfo import AGAIN, NO_NAME, PATIENT, AddressInfo, Host, Rules, failure

HOST_NOT_FOUND, TRY_AGAIN = 1, 2
"Codes of :class:`socket.herror` (netdb.h)."

_WORDS: Final = {HOST_NOT_FOUND: "Unknown host", TRY_AGAIN: "Host name lookup failure"}
"As the C library has them."

Names = tuple[str, list[str], list[str]]
"The canonical name, the other names, and the addresses."


class Functions:
    """Each as the function of its name in :mod:`socket`, for any number of threads, until it is closed.

    ``search`` are suffixes for short names.  ``system`` is the ``getaddrinfo`` that is stood in for: names that are not
    for DNS are asked of it.  Raises :class:`~dot_proto.LocalProtocolError` for a wrong argument.
    """

    def __init__(
        self,
        upstreams: Iterable[Upstream],
        configuration: ResolverConfiguration | None = None,
        *,
        search: Iterable[str] = (),
        system: Callable[..., Any],
    ) -> None:
        self.rules: Final = Rules(search=search)
        self._system: Final = system
        self.resolver: Final = Resolver(upstreams, PATIENT if configuration is None else configuration)

    def close(self) -> None:
        """Close the resolver."""
        self.resolver.close()

    def getaddrinfo(
        self, host: Host, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[AddressInfo]:
        lookup = self.rules.lookup(host, port, family, type, proto, flags)
        return look_up_blocking(lookup, self.resolver, self._system)

    def gethostbyname(self, hostname: Any) -> str:
        if _is_no_name(hostname):
            return _socket.gethostbyname(hostname)
        return self.gethostbyname_ex(hostname)[2][0]

    def gethostbyname_ex(self, hostname: Any) -> Names:
        if _is_no_name(hostname):
            return _socket.gethostbyname_ex(hostname)
        kind, flags = socket.SOCK_STREAM, socket.AI_CANONNAME
        infos = self.getaddrinfo(hostname, None, socket.AF_INET, kind, 0, flags)
        return infos[0][3], [], [info[4][0] for info in infos]

    def gethostbyaddr(self, ip_address: Any) -> Names:
        if _is_no_name(ip_address):
            return _socket.gethostbyaddr(ip_address)
        address = self.getaddrinfo(ip_address, None, type=socket.SOCK_STREAM)[0][4][0]
        name, *others = self._names_of(address)
        return name, others, [address]

    def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        if flags & socket.NI_NUMERICHOST:
            return _socket.getnameinfo(sockaddr, flags)
        # Together with NI_NAMEREQD the number would be refused.
        host, service = _socket.getnameinfo(sockaddr, flags & ~socket.NI_NAMEREQD | socket.NI_NUMERICHOST)
        try:
            return self._names_of(host)[0], service
        except socket.herror as error:
            if flags & socket.NI_NAMEREQD:
                raise failure(AGAIN if error.errno == TRY_AGAIN else NO_NAME, error) from error
            return host, service

    def _names_of(self, address: str) -> list[str]:
        """One or more, the canonical one first; raises :class:`socket.herror`."""
        if names := self.rules.hosts.names_of(address):
            return names
        try:
            found = records_in(self.resolver.query(make_query(reverse_name(address), "PTR")), "PTR")
        except DoTError as error:
            raise _no_names(TRY_AGAIN) from error
        if not found.values:
            raise _no_names(HOST_NOT_FOUND if found.rcode in (NOERROR, NXDOMAIN) else TRY_AGAIN)
        return list(found.values)


def _is_no_name(host: object) -> bool:
    """Whether the system's function asks nobody for it: it has an answer, or an error, of its own."""
    if isinstance(host, str):
        return host in ("", "<broadcast>") or "\0" in host
    if isinstance(host, bytes | bytearray):
        return host in (b"", b"<broadcast>") or 0 in host
    return True


def _no_names(code: int) -> socket.herror:
    return socket.herror(code, _WORDS[code])
