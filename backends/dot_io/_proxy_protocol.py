"""The PROXY protocol, versions 1 and 2: what a load balancer says before TLS of the client that it passes on.

The specification is haproxy's (doc/proxy-protocol.txt), sections 2.1 and 2.2.  Whoever may send such a header may say
that it is anybody, so a server reads one only from networks that it was told of, and there it insists on one.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Final

from dot_proto import LocalProtocolError
from dot_proto.arguments import collected, shown

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

TEXT_START: Final = b"PROXY "
"How version 1 begins."

MAX_TEXT: Final = 107
"Octets of a line of version 1, CR and LF among them (section 2.1)."

BINARY_START: Final = b"\r\n\r\n\0\r\nQUIT\n"
"How version 2 begins."

MAX_BINARY: Final = 4096
"""Octets of a header of version 2 that are taken.

Addresses have 232 at most; the rest is for what load balancers add (TLVs), such as names in a client's certificate.
haproxy takes headers up to its buffer of 16,384 octets, dnsdist up to 512 (``setProxyProtocolMaximumPayloadSize``)."""

_LINE: Final = re.compile(rb"PROXY TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4})")

_FIXED: Final = struct.Struct("!12sBBH")
"Signature; version and command; family and protocol; how many octets follow."

_LOCAL, _PROXY = 0x20, 0x21
"Version 2, and the command."

_ADDRESSES: Final = {
    0x00: (0, 0),
    0x11: (4, 12),
    0x12: (4, 12),
    0x21: (16, 36),
    0x22: (16, 36),
    0x31: (0, 216),
    0x32: (0, 216),
}
"""By family and protocol: octets of an address, 0 where it is none of a host; and of both addresses with their ports.

UDP is among them, because dnsdist passes on over TLS what it was asked over UDP."""


_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
"Addresses of IPv4 (RFC 4291, section 2.5.5.2), which are compared as what they are."


class ProxyHeaderError(Exception):
    """Octets are no header of the PROXY protocol; the message says why, and quotes nothing."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """One header."""

    client: tuple[str, int] | None
    "Address and port of the client; ``None``: the sender itself, as in a health check, or one whom it cannot name."
    length: int
    "Octets of the header; what follows them is the client's."


def parse_header(octets: bytes | bytearray) -> ProxyHeader | None:
    """The header at the start of a stream; ``None``: it goes on after these octets.

    Raises :class:`ProxyHeaderError` as soon as it can be none.
    """
    if octets.startswith(BINARY_START):
        return _binary(octets)
    if octets.startswith(TEXT_START):
        return _text(octets)
    if BINARY_START.startswith(octets) or TEXT_START.startswith(octets):
        return None
    raise ProxyHeaderError("no header of the PROXY protocol, which load balancers of proxy_from must send first")


def _binary(octets: bytes | bytearray) -> ProxyHeader | None:
    if len(octets) < _FIXED.size:
        return None
    _, command, family, more = _FIXED.unpack_from(octets)
    length = _FIXED.size + more
    if length > MAX_BINARY:
        raise ProxyHeaderError(f"a PROXY header of {length} octets, more than {MAX_BINARY}")
    if command not in (_LOCAL, _PROXY):
        raise ProxyHeaderError(f"a PROXY header of version {command >> 4}, command {command & 15}")
    if command == _LOCAL:
        family = 0  # what it says is ignored
    if family not in _ADDRESSES:
        raise ProxyHeaderError(f"a PROXY header of address family {family >> 4}, protocol {family & 15}")
    size, needed = _ADDRESSES[family]
    if more < needed:
        raise ProxyHeaderError(f"a PROXY header with {more} octets of addresses, which need {needed}")
    if len(octets) < length:
        return None
    if not size:
        return ProxyHeader(None, length)
    source = bytes(octets[_FIXED.size : _FIXED.size + size])
    port = int.from_bytes(octets[_FIXED.size + 2 * size :][:2])
    return ProxyHeader((_plain(ipaddress.ip_address(source)), port), length)


def _text(octets: bytes | bytearray) -> ProxyHeader | None:
    end = octets.find(b"\r\n", 0, MAX_TEXT)
    if end < 0:
        if len(octets) >= MAX_TEXT:
            raise ProxyHeaderError(f"a PROXY line that does not end within {MAX_TEXT} octets")
        return None
    line = bytes(octets[:end])
    if line == b"PROXY UNKNOWN" or line.startswith(b"PROXY UNKNOWN "):
        return ProxyHeader(None, end + 2)
    fields = _LINE.fullmatch(line)
    try:
        if fields is None or max(int(fields[4]), int(fields[5])) > 65_535:
            raise ValueError
        kind = ipaddress.IPv4Address if fields[1] == b"4" else ipaddress.IPv6Address
        source, _ = kind(fields[2].decode()), kind(fields[3].decode())
    except ValueError:
        raise ProxyHeaderError("a PROXY line other than: TCP4 or TCP6, two addresses, two ports") from None
    return ProxyHeader((_plain(source), int(fields[4])), end + 2)


def _plain(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """One of IPv4 that was mapped into IPv6 (RFC 4291, section 2.5.5.2) is the client that it is."""
    return str(getattr(address, "ipv4_mapped", None) or address)


class Networks(Container[str]):
    """Addresses of load balancers, as ``proxy_from`` names them; no others may say who a client is."""

    def __init__(self, given: Iterable[str]) -> None:
        what = 'a list of networks, such as ["10.0.0.0/8"]'
        hint = f"give [{given!r}]" if isinstance(given, str) and len(given) < 20 else ""
        self._networks = [_network(each) for each in collected("proxy_from", given, str, what, hint)]

    def __contains__(self, host: object) -> bool:
        """Whether an address is in one of them."""
        if not self._networks or not isinstance(host, str):
            return False
        address = ipaddress.ip_address(host.partition("%")[0])
        return any(address in network for network in self._networks)


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        pass
    else:
        if network.prefixlen == 0:
            raise LocalProtocolError(
                f"proxy_from holds {shown(text)}, so that everybody could say to be anybody: name the load balancers"
            )
        if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
            raise LocalProtocolError(f"proxy_from holds {shown(text)}, which is of IPv4: give the network of IPv4")
        return network
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise LocalProtocolError(
            f'proxy_from holds {shown(text)}, which is no network: "10.0.0.0/8" and "2001:db8::1" are some'
        ) from None
    raise LocalProtocolError(f"proxy_from holds {shown(text)}, an address inside a network: give {shown(str(meant))}")
