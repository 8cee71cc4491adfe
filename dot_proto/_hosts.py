"""What is a name and what is an address, each in the one form that is compared (RFC 8310, section 8.1)."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from .errors import LocalProtocolError

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
