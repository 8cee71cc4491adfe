"""How many connections a server may have."""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import Final

from dot_proto import LocalProtocolError
from dot_proto.arguments import check_whole, shown

from ._peer import Peer

MAX_CONNECTIONS: Final = 1000
"Connections at a time, unless told otherwise (RFC 9210, section 4.2, gives no number but for large servers)."

MAX_CONNECTIONS_PER_HOST: Final = 50
"Connections from one address at a time, unless told otherwise; RFC 9210, section 4.2, starts from 25 or more."


class ConnectionLimits:
    """How many connections there may be, in all and from one client (RFC 7766, section 6.2.2)."""

    def __init__(self, maximum: int, per_host: int) -> None:
        for name, value in (("max_connections", maximum), ("max_connections_per_host", per_host)):
            check_whole(name, value, "number of connections")
            if value < 1:
                raise LocalProtocolError(f"{name} is {shown(value)}; it must be at least 1")
        self._maximum = maximum
        self._per_host = per_host
        self._total = 0
        self._taken: Counter[str] = Counter()

    @property
    def are_reached(self) -> bool:
        """Whether there are as many connections as there may be."""
        return self._total >= self._maximum

    def take(self, peer: Peer, *, is_proxy: bool = False) -> bool:
        """Count one more connection, if this client may have one; a load balancer may, since its clients are many."""
        client = client_of(peer.host)
        if self._taken[client] >= self._per_host and not is_proxy:
            return False
        self._taken[client] += 1
        self._total += 1
        return True

    def give_back(self, peer: Peer) -> None:
        """A connection has ended."""
        client = client_of(peer.host)
        self._taken[client] -= 1
        self._total -= 1
        if not self._taken[client]:
            del self._taken[client]


def client_of(host: str) -> str:
    """Who counts as one client: an IPv4 address, or an IPv6 /64, which is what one subscriber has (RFC 6177)."""
    if ":" not in host:
        return host
    return str(ipaddress.ip_network((host.partition("%")[0], 64), strict=False))
