"""Names, addresses and ports as people write them, read in one way for the whole package.

What is dialled, what the certificate is compared with, and what a configuration says must never be two readings of
one text: a name, an address and a port are read here and nowhere else.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from .arguments import wrong
from .errors import LocalProtocolError

PORT: Final = 853
"DNS over TLS (RFC 7858, section 3.1)."

MAX_NAME_LENGTH: Final = 253
"Octets of a domain name in text, without the final dot (RFC 1035, section 2.3.4: 255 on the wire)."

MAX_LABEL_LENGTH: Final = 63
"Octets of one label (RFC 1035, section 2.3.4)."


ZONE: Final = re.compile(r"0|[1-9][0-9]{0,9}|(?!25[^0-9]|[0-9]+\Z)[A-Za-z0-9._~-]{1,64}")
"""A zone: a number in decimal, or the name of an interface (RFC 4007, section 11.2) in the letters of RFC 6874.

What begins with 25 and is no number comes from a URI, where %25 stands for the percent sign alone.
"""

SHOWN: Final = 80
"Characters of a text that are shown."

_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
"A last label that some reader of addresses takes for a number, in whatever base (RFC 1123, section 2.1)."


def normalize_name(name: str) -> str:
    """An authentication domain name or address in the one form that is compared (RFC 8310, section 8.1).

    Lower case, without the final dot; an address without brackets and zone, in its shortest form.

    Raises :class:`~dot_proto.LocalProtocolError` for what is neither, and for what other programs read in another way;
    an internationalised name must come as A-labels.
    """
    if not isinstance(name, str):
        raise wrong("name", "text", name, "give it as 'dns.example' or '192.0.2.1'")
    address = _address(name)
    if address is not None:
        return str(address)
    dotless = name.removesuffix(".")
    shown = _shown(name)
    if not dotless.isascii():
        raise LocalProtocolError(
            f"{shown} is not ASCII: write digits in ASCII, and a name in its A-label form (xn--..., IDNA, RFC 5891)"
        )
    if ":" in dotless:
        raise LocalProtocolError(
            f"{shown} has a colon but is no IPv6 address: give a port apart, and of a URL the host alone"
        )
    if not 1 <= len(dotless) <= MAX_NAME_LENGTH:
        raise LocalProtocolError(f"a name has 1 to {MAX_NAME_LENGTH} octets, not {len(dotless)}: {shown}")
    for label in dotless.split("."):
        if not 1 <= len(label) <= MAX_LABEL_LENGTH:
            raise LocalProtocolError(f"a label has 1 to {MAX_LABEL_LENGTH} octets: {_shown(label)} in {shown}")
        if not label.replace("-", "").replace("_", "").isalnum():
            raise LocalProtocolError(
                f"{_shown(label)} in {shown} is no label of a host name: letters, digits, hyphens and underscores alone"
            )
    if _NUMBER.fullmatch(dotless.rpartition(".")[2]):
        # Some programs read 127.0.0.010 as 127.0.0.8, some as 127.0.0.10, and a certificate may be for it as a name.
        # RFC 8310 knows names and addresses and nothing between them, so what is read in three ways is refused.
        raise LocalProtocolError(
            f"{shown} ends in a number but is no IP address: write an IPv4 address as four decimal numbers "
            f"from 0 to 255, without leading zeros{' and without a final dot' if name.endswith('.') else ''}"
        )
    return dotless.lower()


def is_address(name: str) -> bool:
    """Whether a normalized name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def normalize_address(text: str) -> str:
    """An IP address in the one form that is dialled: the shortest, without brackets, with its zone (RFC 4007).

    Raises :class:`~dot_proto.LocalProtocolError` for anything else, a name too.
    """
    address = normalize_name(text)
    if not is_address(address):
        raise LocalProtocolError(f"{_shown(text)} is a name, and no IP address")
    ip = ipaddress.ip_address(address)
    if ip.is_unspecified or ip.is_multicast or address == "255.255.255.255":
        raise LocalProtocolError(f"{_shown(text)} is the address of no one server")
    _, percent, zone = text.strip("[]").partition("%")
    return address + percent + zone


def check_port(port: int) -> int:
    """A port that DNS over TLS may use; raises :class:`~dot_proto.LocalProtocolError` otherwise."""
    if not isinstance(port, int) or isinstance(port, bool):
        raise wrong("port", "a number from 1 to 65535", port)
    if port == 53:
        raise LocalProtocolError("port 53 is for cleartext DNS and must not be used (RFC 7858, section 3.1); try 853")
    if not 0 < port < 65_536:
        raise wrong("port", "a number from 1 to 65535", port)
    return port


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that ``text`` is, without its zone, or ``None``."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    digits, percent, zone = bare.partition("%")
    try:
        address = ipaddress.ip_address(digits)
    except ValueError:
        return None
    if percent and not (isinstance(address, ipaddress.IPv6Address) and address.is_link_local):
        raise LocalProtocolError(
            f"{_shown(text)} has a zone, which only a link-local address has (fe80::/10, RFC 4007): leave it out"
        )
    if percent and not ZONE.fullmatch(zone):
        raise LocalProtocolError(
            f"{_shown(text)} has a zone of no form: write %eth0, or %2 for the interface with this number"
        )
    return address


def _shown(text: str) -> str:
    """``text`` in ASCII and in quotes: no control character of it, nor a letter that looks like another."""
    return ascii(text[:SHOWN]) + ("..." if len(text) > SHOWN else "")
