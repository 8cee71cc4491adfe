"""Private addresses in answers, taken out: a name of somebody else's must not lead a browser into this network.

That is DNS rebinding.  Only the answer section counts, since nobody follows the others.
"""

from __future__ import annotations

import ipaddress
import itertools
from typing import Final

from dot_proto import MessageError
from dot_proto._message import walk
from dot_proto._removal import without
from dot_proto.query import CLASS_IN, TYPES

from ._records import ANSWER, Record, records

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
    answers = itertools.takewhile(lambda each: each.section == ANSWER, records(message, layout.question_end))
    found = [each for each in answers if _is_private_address(each, message)]
    left = int.from_bytes(message[6:8]) - len(found)
    try:
        for each in reversed(found):
            message = without(message, each.start, each.end)
    except MessageError:  # a name leads into one of them: then nothing of the answer can be had without it
        return message[:6] + bytes(6) + message[12 : layout.question_end]
    return message[:6] + left.to_bytes(2) + message[8:]


def _is_private_address(record: Record, message: bytes) -> bool:
    if record.rdclass != CLASS_IN or record.end - record.data != _LENGTHS.get(record.type):
        return False
    address = ipaddress.ip_address(message[record.data : record.end])
    return any(address in network for network in PRIVATE)
