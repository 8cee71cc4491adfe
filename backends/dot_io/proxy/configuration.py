"""Every limit and every default of the proxy, with its unit and its source."""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from dot_proto import LocalProtocolError, MessageError, ResolverConfiguration
from dot_proto._edns import KEEPALIVE_UNIT, MAX_KEEPALIVE
from dot_proto.arguments import check_flag, check_instance, collected, shown
from dot_proto.configuration import at_least, between
from dot_proto.query import encode_name

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

REFUSED: Final = 5
"RCODE (RFC 1035, section 4.1.1)."

PORT: Final = 53
"DNS (RFC 1035, section 4.2)."

MIN_UDP_SIZE: Final = 512
"Octets: what every client takes over UDP (RFC 1035, section 2.3.4; RFC 6891, section 6.2.3)."


class SpecialNames(enum.Enum):
    """What becomes of names that mean nothing to a public resolver (RFC 6761, section 6)."""

    LOCAL = "local"
    "They are answered here, and no upstream learns of them."
    FORWARD = "forward"
    "They are asked like any other name."


class AnyQueries(enum.Enum):
    """What becomes of queries for the type ANY (RFC 8482)."""

    FORWARD = "forward"
    "They are asked like any other type."
    HINFO = "hinfo"
    "Over UDP one HINFO record answers them (RFC 8482, section 4.2), since the answer would be large; TCP: forwarded."
    REFUSE = "refuse"
    "They are refused, over UDP and TCP."


class PrivateAnswers(enum.Enum):
    """What becomes of private addresses in answers, by which somebody else's name leads into this network."""

    ALLOW = "allow"
    "They pass: home routers and media servers have names with such addresses."
    STRIP = "strip"
    "They are taken out of the answer."


class ClientSubnet(enum.Enum):
    """What an upstream is told of a client's network (RFC 7871).  A prefix of length 0, which tells nothing, passes."""

    DROP = "drop"
    "Nothing."
    ZERO = "zero"
    "Nothing, and that it is to tell nothing to others: a prefix of length 0 goes with every query."
    FORWARD = "forward"
    "What the client says."


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfiguration:
    """How a proxy treats its clients; raises :class:`~dot_proto.LocalProtocolError` for what cannot be."""

    listen: tuple[tuple[str, int], ...] = (("127.0.0.1", PORT), ("::1", PORT))
    "Addresses and ports, each for UDP and TCP; port 0 lets the system choose one."

    allow: tuple[Network, ...] = ()
    """Networks whose clients are answered, beside this machine's own; texts such as "192.0.2.0/24" are taken too.
    Without any, the proxy listens on loopback only."""

    special_names: SpecialNames = SpecialNames.LOCAL
    "What becomes of localhost, of names under invalid, onion and the like, and of private reverse zones."

    any: AnyQueries = AnyQueries.HINFO
    "What becomes of queries for the type ANY."

    client_subnet: ClientSubnet = ClientSubnet.DROP
    "What an upstream is told of a client's network."

    private_answers: PrivateAnswers = PrivateAnswers.ALLOW
    "What becomes of private addresses in answers (DNS rebinding)."

    private_names: tuple[str, ...] = ()
    "Names that may have private addresses all the same, and all names below them."

    nsid: bool = True
    "Whether a client may ask for the upstream's identifier (RFC 5001)."

    trust_ad: bool = True
    "Whether AD of an upstream's answer reaches the client (RFC 4035, section 3.2.3); never from opportunistic ones."

    max_udp_size: int = 1232
    "Octets of an answer over UDP at the most: what passes everywhere unfragmented (DNS flag day 2020)."

    wait_for_upstream: float = 4.0
    "Seconds for a query's answer, opening connections and asking again included; stub resolvers wait 5 s."

    max_in_flight: int = 5000
    "Queries that wait for answers; one more, and the oldest is dropped."

    max_in_flight_octets: int = 8 * 2**20
    "Octets of these, together."

    max_equal: int = 100
    "Queries for one name, type and class that wait for answers: a forwarding loop makes more, and they are dropped."

    tcp_idle_timeout: float = 10.0
    "Seconds that a TCP connection stays without a query, and that a client may take to read (RFC 7766, section 6.2.3)."

    max_connections: int = 1000
    "TCP connections of clients, all listeners together."

    max_connections_per_host: int = 50
    "TCP connections from one address (RFC 9210, section 4.2, starts from 25 or more)."

    max_queries_per_connection: int = 100
    "Queries of one TCP connection that wait for answers; then it is not read from until there are fewer."

    cache_size: int = 0
    "Answers that are kept for as long as they say (RFC 2181, section 8; RFC 2308); 0: none."

    cache_octets: int = 16 * 2**20
    "Octets of these, together."

    metrics: tuple[str, int] | None = None
    "Address and port on which the counters are shown, as Prometheus reads them; ``None``: nowhere."

    resolver: ResolverConfiguration = field(
        default_factory=lambda: ResolverConfiguration(failover_rcodes=frozenset({REFUSED}), max_delay_while_waiting=0.5)
    )
    """How upstreams are asked.  One that refuses is followed by the next, and one that is away is tried again every
    half second while queries wait.  How long a query may take, and how many may wait, is said above."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "listen", _places("listen", self.listen))
        if self.metrics is not None:
            _places("metrics", [self.metrics])
        networks = collected("allow", self.allow, object, "a list of networks, as ADDRESS/LENGTH")
        object.__setattr__(self, "allow", tuple(map(_network, networks)))
        check_instance("special_names", self.special_names, SpecialNames, "SpecialNames.LOCAL is one")
        check_instance("any", self.any, AnyQueries, "AnyQueries.HINFO is one")
        check_instance("client_subnet", self.client_subnet, ClientSubnet, "ClientSubnet.DROP is one")
        check_instance("private_answers", self.private_answers, PrivateAnswers, "PrivateAnswers.ALLOW is one")
        object.__setattr__(self, "private_names", _names(self.private_names))
        check_flag("nsid", self.nsid)
        check_flag("trust_ad", self.trust_ad)
        between(MIN_UDP_SIZE, 65_535, max_udp_size=self.max_udp_size)
        between(KEEPALIVE_UNIT, MAX_KEEPALIVE, tcp_idle_timeout=self.tcp_idle_timeout)
        at_least(0.0, wait_for_upstream=self.wait_for_upstream)
        check_instance("resolver", self.resolver, ResolverConfiguration)
        at_least(0, cache_size=self.cache_size)
        for name in _COUNTS:
            at_least(1, **{name: getattr(self, name)})


_COUNTS: Final = (
    "max_in_flight",
    "max_in_flight_octets",
    "max_equal",
    "cache_octets",
    "max_connections",
    "max_connections_per_host",
    "max_queries_per_connection",
)


def _places(name: str, given: Iterable[Any]) -> tuple[tuple[str, int], ...]:
    what = 'a list of addresses with ports, as [("127.0.0.1", 53)]'
    places: dict[tuple[str, int], None] = {}
    found: tuple[tuple[Any, ...], ...] = collected(name, given, tuple, what)
    for place in found:
        if len(place) != 2 or not isinstance(place[0], str):
            raise LocalProtocolError(f"{name} must be {what}, not {place!r}")
        host, port = place
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise LocalProtocolError(f"{name}: {shown(host)} is no IP address") from None
        between(0, 65_535, port=port)
        places[host, port] = None
    if not places:
        raise LocalProtocolError(f"{name}: the list is empty, so that nobody could ask")
    return tuple(places)


def _names(given: Iterable[str]) -> tuple[str, ...]:
    names = collected("private_names", given, str, "a list of domain names")
    for name in names:
        try:
            encode_name(name)
        except MessageError as error:
            raise LocalProtocolError(f"private_names: {error}") from None
    return names


def _network(given: object) -> Network:
    if isinstance(given, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return given
    try:
        if not isinstance(given, str):
            raise ValueError("a text is wanted")
        return ipaddress.ip_network(given)
    except ValueError as error:
        raise LocalProtocolError(
            f"allow: {shown(given)} is no network, as 192.0.2.0/24 or 2001:db8::/32: {error}"
        ) from None
