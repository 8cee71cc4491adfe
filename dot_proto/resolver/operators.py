"""Public resolvers that speak DNS over TLS, by name: data, and nothing else.

Written down on 2026-11-27, without a live look at the operators' own pages, which are named and which decide.
Addresses and names change seldom, but they do: look there before you rely on them for years.  There are no pins, since
these operators promise none.  To be in the list is no recommendation.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Operator(NamedTuple):
    """One service of one operator."""

    name: str
    "The name for authentication (RFC 8310, section 8.1)."
    addresses: tuple[str, ...]
    "Both families, the operator's first address first."
    source: str
    "The operator's own page about these."
    date: str
    "When they were written down, as YYYY-MM-DD."


_CLOUDFLARE: Final = "https://developers.cloudflare.com/1.1.1.1/infrastructure/network-operators/"
_GOOGLE: Final = "https://developers.google.com/speed/public-dns/docs/dns-over-tls"
_QUAD9: Final = "https://quad9.net/service/service-addresses-and-features/"
_DATE: Final = "2026-11-27"

OPERATORS: Final = {
    "cloudflare": Operator(
        "cloudflare-dns.com",
        ("1.1.1.1", "1.0.0.1", "2606:4700:4700::1111", "2606:4700:4700::1001"),
        _CLOUDFLARE,
        _DATE,
    ),
    "cloudflare-security": Operator(
        "security.cloudflare-dns.com",
        ("1.1.1.2", "1.0.0.2", "2606:4700:4700::1112", "2606:4700:4700::1002"),
        _CLOUDFLARE,
        _DATE,
    ),
    "cloudflare-family": Operator(
        "family.cloudflare-dns.com",
        ("1.1.1.3", "1.0.0.3", "2606:4700:4700::1113", "2606:4700:4700::1003"),
        _CLOUDFLARE,
        _DATE,
    ),
    "google": Operator(
        "dns.google",
        ("8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844"),
        _GOOGLE,
        _DATE,
    ),
    "quad9": Operator(
        "dns.quad9.net",
        ("9.9.9.9", "149.112.112.112", "2620:fe::fe", "2620:fe::9"),
        _QUAD9,
        _DATE,
    ),
    "quad9-unfiltered": Operator(
        "dns10.quad9.net",
        ("9.9.9.10", "149.112.112.10", "2620:fe::10", "2620:fe::fe:10"),
        _QUAD9,
        _DATE,
    ),
    "quad9-ecs": Operator(
        "dns11.quad9.net",
        ("9.9.9.11", "149.112.112.11", "2620:fe::11", "2620:fe::fe:11"),
        _QUAD9,
        _DATE,
    ),
}
"""What :meth:`~dot_proto.Upstream.well_known` knows.

``cloudflare-security`` refuses names of malware, ``cloudflare-family`` those of adult content too; ``quad9`` refuses
names of malware, ``quad9-unfiltered`` none, and ``quad9-ecs`` tells name servers the network of who asks (RFC 7871).
"""

ACCOUNT_DOMAINS: Final = (
    "dns.nextdns.io",
    "dns1.nextdns.io",
    "dns2.nextdns.io",
    "dns.controld.com",
    "d.adguard-dns.com",
    "cloudflare-gateway.com",
    "max.rethinkdns.com",
)
"""Domains under which operators give each customer, and some each device, a name of its own.

That name is left out of logs.  The network sees it all the same: it is in SNI, which is not encrypted (RFC 6066,
section 3)."""
