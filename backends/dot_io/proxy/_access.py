"""Who is answered, and where it is listened; no I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from dot_proto import Upstream

from ._policy import DropReason
from .configuration import PORT, Network, ProxyConfiguration

LOOPBACK: Final = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
"Networks of this machine itself (RFC 6890, section 2.2)."

_MAX_KEPT: Final = 4096
"Addresses of clients about which it is kept whether they are answered."


class Access:
    """The networks whose clients are answered: loopback, and those that are named."""

    def __init__(self, allow: tuple[Network, ...]) -> None:
        self._networks = LOOPBACK + allow
        self._is_allowed = lru_cache(_MAX_KEPT)(self._look_up)

    def fault(self, host: str, port: int, own_port: int) -> DropReason | None:
        """Why a client at this address and port is not answered over UDP; ``None``: it is.

        Port 0 cannot be answered, and two servers that send each other messages never end.
        """
        if port == 0 or port == own_port == PORT:
            return DropReason.SOURCE_PORT
        return None if self.allows(host) else DropReason.DENIED

    def allows(self, host: str) -> bool:
        """Whether a client at this address, which may have a zone, is answered."""
        return host == "127.0.0.1" or self._is_allowed(host)

    def is_own(self, host: str) -> bool:
        """Whether it is this machine itself."""
        address = ipaddress.ip_address(host.partition("%")[0])
        return any(address in network for network in LOOPBACK)

    def _look_up(self, host: str) -> bool:
        address = ipaddress.ip_address(host.partition("%")[0])
        return any(address in network for network in self._networks)


def is_wildcard(host: str) -> bool:
    """Whether it stands for every address of the machine."""
    return host in ("0.0.0.0", "::")


def faults(configuration: ProxyConfiguration, upstreams: Iterable[Upstream]) -> list[str]:
    """What must not be: to listen where nobody is allowed to ask, and an upstream that is the proxy itself."""
    found: list[str] = []
    access = Access(())
    listening = [("listen", *place) for place in configuration.listen]
    if configuration.metrics is not None:
        listening.append(("metrics", *configuration.metrics))
    for key, host, port in listening:
        if not configuration.allow and not access.allows(host):
            found.append(
                f"{key}: {host} can be reached by other machines, and none is allowed: name their networks, as "
                'allow = ["192.0.2.0/24"], or listen on 127.0.0.1 and ::1'
            )
        for upstream in upstreams:
            is_own = [
                address == host or (is_wildcard(host) and access.allows(address)) for address in upstream.addresses
            ]
            if port == upstream.port and any(is_own):
                found.append(
                    f"upstream: {upstream} is this proxy itself, which listens there: its queries would come back"
                )
    return found
