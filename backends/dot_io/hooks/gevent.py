"""gevent's own way to look names up, over TLS; for a program that calls ``gevent.monkey.patch_all()`` first of all.

>>> import gevent  # doctest: +SKIP
>>> from dot_io.hooks.gevent import Resolver  # doctest: +SKIP
>>> from dot_proto import Upstream
>>> gevent.get_hub().resolver = Resolver([Upstream.well_known("quad9")])  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dot_proto import LocalProtocolError, ResolverConfiguration, Upstream, UpstreamError

from .._extras import needs_extra

with needs_extra("dot_io.hooks.gevent", "gevent"):
    from gevent.monkey import is_module_patched
    from gevent.resolver import AbstractResolver
    from gevent.resolver.thread import Resolver as ThreadResolver

from ._blocking import Functions, Names


class Resolver(AbstractResolver):  # type: ignore[misc]
    """For ``gevent.get_hub().resolver``; greenlets share it, and :meth:`close` is the caller's to call.

    ``search`` are suffixes for short names.  Raises :class:`~dot_proto.LocalProtocolError` for a wrong argument, and
    where gevent has not patched what the blocking backend waits with: it would stop every greenlet.
    """

    def __init__(
        self,
        upstreams: Iterable[Upstream],
        configuration: ResolverConfiguration | None = None,
        *,
        search: Iterable[str] = (),
    ) -> None:
        unpatched = [name for name in ("socket", "select", "threading") if not is_module_patched(name)]
        if unpatched:
            raise LocalProtocolError(
                f"gevent has not patched {', '.join(unpatched)}: call gevent.monkey.patch_all() first of all"
            )
        self._functions = Functions(upstreams, configuration, search=search, system=ThreadResolver().getaddrinfo)
        for number, one in enumerate(self._functions.resolver.upstreams):
            if not one.addresses and one.bootstrap == "system":
                text = "give addresses, or upstreams as its bootstrap: its name would be looked up here, by itself"
                raise UpstreamError(f"upstreams[{number}]: {text}")

    def close(self) -> None:
        """Close what is open."""
        self._functions.close()

    def _getaddrinfo(self, host_bytes: bytes, port: Any, family: int, socktype: int, proto: int, flags: int) -> Any:
        return self._functions.getaddrinfo(host_bytes, port, family, socktype, proto, flags)

    def _gethostbyaddr(self, ip_address_bytes: bytes) -> Names:
        return self._functions.gethostbyaddr(ip_address_bytes)

    def _getnameinfo(self, address_bytes: bytes, port: int, sockaddr: Any, flags: int) -> tuple[str, str]:
        return self._functions.getnameinfo(sockaddr, flags)
