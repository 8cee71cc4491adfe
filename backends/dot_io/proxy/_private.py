"""Private addresses in answers, taken out: a name of somebody else's must not lead a browser into this network.

That is DNS rebinding.  Only the answer section counts, since nobody follows the others.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Final

from dot_proto import MessageError
from dot_proto._message import skip_name, walk
from dot_proto._removal import without
from dot_proto.query import CLASS_IN, TYPES

_IPV4: Final = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8"),
    *("169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"),
)

PRIVATE: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        *_IPV4,
        *("::/128", "::1/128", "fc00::/7", "fe80::/10"),
        *(f"::ffff:{network.partition('/')[0]}/{96 + int(network.partition('/')[2])}" for network in _IPV4),
    )
)
"Networks of this machine or this site (RFC 6890, section 2.2), also as IPv4 in IPv6 (RFC 4291, section 2.5.5.2)."

_FIXED: Final = struct.Struct("!HHIH")
"Type, class, TTL and length of a record (RFC 1035, section 4.1.3)."

_LENGTHS: Final = {TYPES["A"]: 4, TYPES["AAAA"]: 16}
"Octets of an address, by type."


def is_under(question: bytes, names: frozenset[bytes]) -> bool:
    """Whether the name of a question on the wire is one of these names, in lower case, or below one."""
    name, offset = question[:-4].lower(), 0
    while name[offset]:
        if name[offset:] in names:
            return True
        offset += 1 + name[offset]
    return False


def without_private(message: bytes) -> bytes:
    """A response without its answers that are private addresses.

    One that is signed or cannot be read stays as it is, and is for others to judge.
    """
    layout = walk(message)
    if layout.problem is not None or layout.is_signed:
        return message
    found: list[tuple[int, int]] = []
    offset, answers = layout.question_end, message[6] << 8 | message[7]
    for _ in range(answers):
        start, fixed = offset, skip_name(message, offset)
        rdtype, rdclass, _, length = _FIXED.unpack_from(message, fixed)
        data, offset = fixed + _FIXED.size, fixed + _FIXED.size + length
        if rdclass == CLASS_IN and length == _LENGTHS.get(rdtype) and _is_private(message[data:offset]):
            found.append((start, offset))
    try:
        for start, end in reversed(found):
            message = without(message, start, end)
    except MessageError:  # a name leads into one of them: then nothing of the answer can be had without it
        return message[:6] + bytes(6) + message[12 : layout.question_end]
    return message[:6] + (answers - len(found)).to_bytes(2) + message[8:]


def _is_private(octets: bytes) -> bool:
    address = ipaddress.ip_address(octets)
    return any(address in network for network in PRIVATE)
