"""A record taken out of a message, without harm to the records behind it.

These move to the front, and with them the names that a compression pointer may lead to (RFC 1035, section 4.1.4).  So
the pointers that lead behind the record are set anew: each keeps its two octets, so nothing moves a second time.  They
stand in owner names, and in the data of those types in which names may be compressed (RFC 3597, section 4).
"""

from __future__ import annotations

import struct
from typing import Final

from ._message import skip_name
from .errors import MessageError

_RECORD: Final = struct.Struct("!HHIH")
_POINTER: Final = struct.Struct("!H")

_NAPTR: Final = 35

_NAMES: Final[dict[int, tuple[int, int]]] = {
    2: (0, 1),  # NS
    3: (0, 1),  # MD
    4: (0, 1),  # MF
    5: (0, 1),  # CNAME
    6: (0, 2),  # SOA
    7: (0, 1),  # MB
    8: (0, 1),  # MG
    9: (0, 1),  # MR
    12: (0, 1),  # PTR
    14: (0, 2),  # MINFO
    15: (2, 1),  # MX
    17: (0, 2),  # RP
    18: (2, 1),  # AFSDB
    21: (2, 1),  # RT
    24: (18, 1),  # SIG
    26: (2, 2),  # PX
    30: (0, 1),  # NXT
    33: (6, 1),  # SRV
    _NAPTR: (4, 1),  # and three texts before the name
}
"By RR type: where in the data names begin, and how many there are."


def without(message: bytes, start: int, end: int) -> bytes:
    """The message without the record from ``start`` to ``end``; the counts in the header stay as they are.

    The message has been walked.  Raises :class:`~dot_proto.MessageError` where a name behind the record cannot be read,
    or leads into it.
    """
    if end == len(message):
        return message[:start]
    kept = bytearray(message)
    offset = end
    while offset < len(message):
        owner_end = _move_pointer(kept, message, offset, start, end)
        kind, _, _, length = _RECORD.unpack_from(message, owner_end)
        data = owner_end + _RECORD.size
        offset = data + length
        if kind in _NAMES and length:
            skipped, names = _NAMES[kind]
            name = data + skipped
            if kind == _NAPTR:
                for _ in range(3):
                    name += 1 + (message[name] if name < offset else 0)
            for _ in range(names):
                name = _move_pointer(kept, message, name, start, end)
            if name > offset:
                raise MessageError(f"octet {data}: a name goes on behind the data of its record")
    del kept[start:end]
    return bytes(kept)


def _move_pointer(kept: bytearray, message: bytes, offset: int, start: int, end: int) -> int:
    """Set anew the pointer in which the name at ``offset`` ends, if there is one; returns the offset behind it."""
    behind = skip_name(message, offset)
    while 0 < message[offset] < 64:
        offset += 1 + message[offset]
    if message[offset]:
        (pointer,) = _POINTER.unpack_from(message, offset)
        target = pointer & 0x3FFF
        if target >= end:
            _POINTER.pack_into(kept, offset, pointer - (end - start))
        elif target >= start:
            raise MessageError(f"octet {offset}: a compression pointer into OPT")
    return behind
