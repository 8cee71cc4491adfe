"""Names, addresses and ports as people write them, read in one way for the whole package.

What is dialled, what the certificate is compared with, and what a configuration says must never be two readings of
one text: a name, an address and a port are read here and nowhere else.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from .errors import LocalProtocolError

PORT: Final = 853
"DNS over TLS (RFC 7858, section 3.1)."

MAX_NAME_LENGTH: Final = 253
"Octets of a domain name in text, without the final dot (RFC 1035, section 2.3.4: 255 on the wire)."

MAX_LABEL_LENGTH: Final = 63
"Octets of one label (RFC 1035, section 2.3.4)."


def normalize_name(name: str) -> str:
    """An authentication domain name or address in the one form that is compared (RFC 8310, section 8.1).

    Lower case, without the final dot; an address without brackets and zone id, in its shortest form.
    Raises :class:`~dot_proto.LocalProtocolError`; an internationalised name must come as A-labels.
    """
    if not isinstance(name, str):
        raise LocalProtocolError(f"a name must be text, not {type(name).__name__}")
    bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        pass
    else:
        return str(address).partition("%")[0]
    dotless = name.removesuffix(".")
    if not dotless.isascii():
        raise LocalProtocolError(f"{name!r} is not ASCII: give the A-label form (IDNA, RFC 5891)")
    if not 1 <= len(dotless) <= MAX_NAME_LENGTH:
        raise LocalProtocolError(f"a name has 1 to {MAX_NAME_LENGTH} octets, not {len(dotless)}: {name!r}")
    for label in dotless.split("."):
        if not 1 <= len(label) <= MAX_LABEL_LENGTH:
            raise LocalProtocolError(f"a label has 1 to {MAX_LABEL_LENGTH} octets: {label!r} in {name!r}")
        if not label.replace("-", "").replace("_", "").isalnum():
            raise LocalProtocolError(f"{label!r} in {name!r} is no label of a host name")
    if _NUMBER.fullmatch(dotless.rpartition(".")[2]):
        # Some programs read 127.0.0.010 as 127.0.0.8, some as 127.0.0.10, and a certificate may be for it as a name.
        # RFC 8310 knows names and addresses and nothing between them, so what is read in three ways is refused.
        raise LocalProtocolError(
            f"{name!r} ends in a number but is no IP address: write an IPv4 address as four decimal numbers "
            "from 0 to 255, without leading zeros"
        )
    return dotless.lower()


_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
"A last label that some reader of addresses takes for a number, in whatever base (RFC 1123, section 2.1)."


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
        raise LocalProtocolError(f"{text!r} is a name, and no IP address")
    ip = ipaddress.ip_address(address)
    if ip.is_unspecified or ip.is_multicast or address == "255.255.255.255":
        raise LocalProtocolError(f"{text!r} is the address of no one server")
    _, has_zone, zone = text.strip("[]").partition("%")
    if not has_zone:
        return address
    if not _ZONE.fullmatch(zone):
        raise LocalProtocolError(f"{zone!r} in {text!r} is no name or number of a network interface")
    if not ip.is_link_local:
        raise LocalProtocolError(f"{text!r}: only a link-local address has a zone (RFC 4007): leave out %{zone}")
    return f"{address}%{zone}"


_ZONE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
"An interface, by the name or the number that systems have for it."


def check_port(port: int) -> int:
    """A port that DNS over TLS may use; raises :class:`~dot_proto.LocalProtocolError` otherwise."""
    if not isinstance(port, int) or isinstance(port, bool):
        raise LocalProtocolError(f"a port is a number, not {type(port).__name__}")
    if port == 53:
        raise LocalProtocolError("port 53 is for cleartext DNS and must not be used (RFC 7858, section 3.1); try 853")
    if not 0 < port < 65_536:
        raise LocalProtocolError(f"a port is 1 to 65535, not {port}")
    return port
