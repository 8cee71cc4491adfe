"""Names that are answered here, because no public resolver knows them, or none should learn of them.

Names are on the wire and in lower case: a label's length is below 64, so it is no letter, and ``lower()`` leaves it.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Final

from dot_proto._message import NOERROR, NXDOMAIN
from dot_proto.query import CLASS_IN, TYPES, encode_name


class Kind(enum.Enum):
    """What is said of a name and of those below it."""

    NO_NAME = "no-name"
    "It does not exist, and nothing below it."
    EMPTY_ZONE = "empty-zone"
    "It exists and has no data; nothing below it exists (RFC 6303, section 3)."
    NO_DATA = "no-data"
    "It and all below it have no data."
    LOOPBACK = "loopback"
    "It and all below it have the addresses of this machine itself (RFC 6761, section 6.3)."


_PRIVATE_REVERSE: Final = (
    *("10", "168.192", *(f"{second}.172" for second in range(16, 32))),  # RFC 1918
    *(f"{second}.100" for second in range(64, 128)),  # RFC 6598, RFC 7793
    *("0", "127", "254.169", "2.0.192", "100.51.198", "113.0.203", "255.255.255.255"),  # RFC 6303, section 4.2
)
"Below in-addr.arpa."

_PRIVATE_REVERSE_6: Final = (
    *(".".join("0" * 32), ".".join("1" + "0" * 31)),  # RFC 6303, section 4.3
    *("d.f", "8.e.f", "9.e.f", "a.e.f", "b.e.f", "8.b.d.0.1.0.0.2"),  # RFC 6303, sections 4.4 to 4.6
)
"Below ip6.arpa."

NAMES: Final = {
    "localhost": Kind.LOOPBACK,  # RFC 6761, section 6.3
    "invalid": Kind.NO_NAME,  # RFC 6761, section 6.4
    "test": Kind.NO_NAME,  # RFC 6761, section 6.2
    "onion": Kind.NO_NAME,  # RFC 7686, section 2
    "local": Kind.NO_NAME,  # RFC 6762, section 22.1
    "alt": Kind.NO_NAME,  # RFC 9476, section 3
    "home.arpa": Kind.EMPTY_ZONE,  # RFC 8375, section 4
    "resolver.arpa": Kind.NO_DATA,  # RFC 9462, section 6.4
    **{f"{name}.in-addr.arpa": Kind.EMPTY_ZONE for name in _PRIVATE_REVERSE},
    **{f"{name}.ip6.arpa": Kind.EMPTY_ZONE for name in _PRIVATE_REVERSE_6},
}
"By name, as text."

_ON_THE_WIRE: Final = {encode_name(name): kind for name, kind in NAMES.items()}

_ADDRESSES: Final = {TYPES["A"]: bytes([127, 0, 0, 1]), TYPES["AAAA"]: bytes(15) + b"\1"}
"Of localhost, by type."

TTL: Final = 10_800
"Seconds (RFC 6303, section 3)."

_RECORD: Final = struct.Struct("!HHHIH")
"A compression pointer as the owner, type, class, TTL, length of the data (RFC 1035, section 4.1.3)."

_POINTER: Final = 0xC000
"The upper bits of a compression pointer (RFC 1035, section 4.1.4)."


@dataclass(frozen=True, slots=True)
class LocalAnswer:
    """What is said here of a name."""

    rcode: int
    "NOERROR or NXDOMAIN."
    answer: bytes = b""
    "One record for the answer section, or none."
    authority: bytes = b""
    "One record for the authority section, or none."


def local_answer(question: bytes) -> LocalAnswer | None:
    """The answer to a question on the wire (name, type, class) that begins at octet 12; ``None``: it is not for us.

    The records lead by compression pointers into the question.
    """
    name = question[:-4].lower()
    offset = 0
    while name[offset]:
        kind = _ON_THE_WIRE.get(name[offset:])
        if kind is not None:
            return _answer(kind, offset, int.from_bytes(question[-4:-2]), int.from_bytes(question[-2:]))
        offset += 1 + name[offset]
    return None


def _answer(kind: Kind, offset: int, rdtype: int, rdclass: int) -> LocalAnswer:
    if kind is Kind.LOOPBACK and rdclass == CLASS_IN and rdtype in _ADDRESSES:
        return LocalAnswer(NOERROR, answer=record(rdtype, rdclass, TTL, _ADDRESSES[rdtype]))
    exists = kind in (Kind.LOOPBACK, Kind.NO_DATA) or (kind is Kind.EMPTY_ZONE and offset == 0)
    return LocalAnswer(NOERROR if exists else NXDOMAIN, authority=_soa(offset, rdclass))


def record(rdtype: int, rdclass: int, ttl: int, data: bytes, *, offset: int = 0) -> bytes:
    """A record whose owner is the question's name, from its octet ``offset`` on."""
    return _RECORD.pack(_POINTER | 12 + offset, rdtype, rdclass, ttl, len(data)) + data


def _soa(offset: int, rdclass: int) -> bytes:
    """The start of authority of such a zone, as RFC 6303, section 3, has it; how long to keep that nothing is there."""
    zone = (_POINTER | 12 + offset).to_bytes(2)
    data = zone + encode_name("nobody.invalid") + struct.pack("!IIIII", 1, 3600, 1200, 604_800, TTL)
    return record(TYPES["SOA"], rdclass, TTL, data, offset=offset)
