"""In which order the addresses of a name are to be tried (RFC 6724), and which families have a route at all.

Both ask the kernel which address a packet would leave from, and send none.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Final

from .._clock import monotonic
from .._network import source_of

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_PROBES: Final = 16
"Addresses of one name that are probed; 8 us each.  Those beyond keep their order, behind the others."

ROUTES_KEPT: Final = 10.0
"Seconds that it is remembered whether a family has a route."

PREFIX: Final = 64
"Bits of an IPv6 address before its interface identifier (RFC 4291, section 2.5.1): nearness ends there."

_SOMEWHERE: Final = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"An address that only a default route leads to (RFC 5737; RFC 3849)."

_POLICY: Final = [
    (ipaddress.ip_network(prefix), precedence, label)
    for prefix, precedence, label in (
        ("::1/128", 50, 0),
        ("::ffff:0:0/96", 35, 4),
        ("::/96", 1, 3),
        ("2001::/32", 5, 5),
        ("2002::/16", 30, 2),
        ("3ffe::/16", 1, 12),
        ("fec0::/10", 1, 11),
        ("fc00::/7", 3, 13),
        ("::/0", 40, 1),
    )
]
"Prefix, precedence and label (RFC 6724, section 2.1); the first that fits is the longest."

_LINK_LOCAL, _SITE_LOCAL, _GLOBAL = 2, 5, 14
"Scopes (RFC 6724, section 3.1)."


class Routes:
    """Which families have a route, remembered for a while; ``clock`` is in seconds."""

    def __init__(
        self, source_of: Callable[[str], str | None] = source_of, clock: Callable[[], float] = monotonic
    ) -> None:
        self._source_of = source_of
        self._clock = clock
        self._known_until = -1.0
        self._families: frozenset[int] = frozenset()

    def families(self) -> frozenset[int]:
        """Those of AF_INET and AF_INET6 that lead somewhere."""
        now = self._clock()
        if now >= self._known_until:
            self._families = frozenset(f for f, address in _SOMEWHERE.items() if self._source_of(address) is not None)
            self._known_until = now + ROUTES_KEPT
        return self._families

    def ordered(self, addresses: Sequence[str]) -> list[str]:
        """Best first; addresses that are equally good keep their order."""
        if len(addresses) < 2:
            return list(addresses)
        tried = addresses[:MAX_PROBES]
        return [*sorted(tried, key=lambda address: _rank(address, self._source_of(address))), *addresses[MAX_PROBES:]]


def _rank(address: str, source: str | None) -> tuple[bool, bool, bool, int, int, int]:
    """Less is better; each place is a rule of RFC 6724, section 6.

    Rules 3, 4 and 7 need what only the kernel knows of its own addresses.  Rule 9 is for IPv6 alone: among IPv4
    addresses it would send everybody to the same of several servers.
    """
    to = _parsed(address)
    precedence, label = _policy(to)
    if source is None:
        return True, True, True, -precedence, _scope(to), 0
    origin = _parsed(source)
    common = 0
    if to.version == origin.version == 6:
        common = min(128 - (int(to) ^ int(origin)).bit_length(), PREFIX)
    return (
        False,  # rule 1: there is a way
        _scope(to) != _scope(origin),  # rule 2
        label != _policy(origin)[1],  # rule 5
        -precedence,  # rule 6
        _scope(to),  # rule 8
        -common,  # rule 9
    )


def _policy(address: IPAddress) -> tuple[int, int]:
    wide = address if isinstance(address, ipaddress.IPv6Address) else _mapped(address)
    return next((precedence, label) for prefix, precedence, label in _POLICY if wide in prefix)


def _mapped(address: ipaddress.IPv4Address) -> ipaddress.IPv6Address:
    return ipaddress.IPv6Address(0xFFFF << 32 | int(address))


def _scope(address: IPAddress) -> int:
    if address.is_loopback or address.is_link_local:  # for IPv4 too (RFC 6724, section 3.2)
        return _LINK_LOCAL
    if isinstance(address, ipaddress.IPv6Address) and address.is_site_local:
        return _SITE_LOCAL
    return _GLOBAL


def _parsed(address: str) -> IPAddress:
    return ipaddress.ip_address(address.partition("%")[0])
