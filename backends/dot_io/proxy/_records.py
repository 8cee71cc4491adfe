"""The records of a response, one after the other; no I/O."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from dot_proto._message import skip_name

ANSWER, AUTHORITY, ADDITIONAL = 1, 2, 3
"Sections, by their places in the header (RFC 1035, section 4.1.1)."

_FIXED: Final = struct.Struct("!HHIH")
"Type, class, TTL and length of a record (RFC 1035, section 4.1.3)."

_TYPE_AND_CLASS: Final = 4
"Octets, in front of the TTL."


class Record(NamedTuple):
    """One record, and where it lies."""

    section: int
    type: int
    rdclass: int
    ttl: int
    start: int
    "Offset of its name."
    ttl_offset: int
    data: int
    "Offset of its data."
    end: int
    "Offset behind its data."


def records(message: bytes, question_end: int) -> Iterator[Record]:
    """All records of a message that ``walk`` has found whole; ``question_end`` is where its question ends."""
    offset = question_end
    for section in (ANSWER, AUTHORITY, ADDITIONAL):
        for _ in range(int.from_bytes(message[4 + 2 * section : 6 + 2 * section])):
            start, fixed = offset, skip_name(message, offset)
            rdtype, rdclass, ttl, length = _FIXED.unpack_from(message, fixed)
            data = fixed + _FIXED.size
            offset = data + length
            yield Record(section, rdtype, rdclass, ttl, start, fixed + _TYPE_AND_CLASS, data, offset)
