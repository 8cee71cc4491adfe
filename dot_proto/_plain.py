"""The short way for messages as they nearly always are: one question, no signature, and OPT last if at all.

:func:`~dot_proto._message.walk` understands every message and says what is wrong with it, which would cost more
than all else that is done for a message.  What is here reports nothing, and leaves to :func:`walk` whatever is
not plain; of a plain message both find the same.
"""

from __future__ import annotations

import struct
from typing import Final

from ._message import MAX_NAME, TYPE_OPT, TYPE_SIG, TYPE_TSIG

_COUNTS: Final = struct.Struct("!HHHH")
_TYPE_AND_LENGTH: Final = struct.Struct("!H6xH")
"Type and RDLENGTH of a record, from behind its owner name (RFC 1035, section 4.1.3)."
_OPT: Final = struct.Struct("!BH6xH")
_QUESTION_AND_OPT: Final = b"\0\1\0\0\0\0\0\1"
_QUESTION: Final = b"\0\1\0\0\0\0\0\0"
_OPTION: Final = struct.Struct("!HH")

_SPECIAL: Final = frozenset({TYPE_OPT, TYPE_TSIG, TYPE_SIG})

OPT_FIXED: Final = 11
"Octets of an OPT record without its options (RFC 6891, section 6.1.2)."


def plain_question_end(message: bytes) -> int:
    """The end of the question of a message that has nothing else, or nothing but OPT there; 0 for any other."""
    counts = message[4:12]
    offset = 12
    try:
        while length := message[offset]:
            if length > 63:
                return 0
            offset += 1 + length
        offset += 5
        if counts == _QUESTION_AND_OPT:
            root, kind, length = _OPT.unpack_from(message, offset)
            ends = not root and kind == TYPE_OPT and offset + OPT_FIXED + length == len(message)
        else:
            ends = counts == _QUESTION and offset == len(message)
    except (IndexError, struct.error):
        return 0
    return offset if ends and offset <= 16 + MAX_NAME else 0


def opt_offset(message: bytes) -> int:
    """Where OPT starts in a plain message with any records, which is its end where there is none; 0 for any other.

    The options in OPT are not looked at.
    """
    questions, answers, authorities, additionals = _COUNTS.unpack_from(message, 4)
    if questions != 1:
        return 0
    offset = 12
    try:
        while length := message[offset]:
            if length > 63:
                return 0
            offset += 1 + length
        if offset - 11 > MAX_NAME:
            return 0
        offset += 5
        left = answers + authorities + additionals
        while left:
            start = offset
            owner = message[start]
            if owner == 0:
                offset += 11
            elif owner >= 192 and 12 <= (owner & 63) << 8 | message[start + 1] < start:
                offset += 12
            else:
                return 0
            kind, length = _TYPE_AND_LENGTH.unpack_from(message, offset - 10)
            offset += length
            left -= 1
            if kind in _SPECIAL:
                is_last = additionals and not left and offset == len(message)
                return start if kind == TYPE_OPT and not owner and is_last else 0
    except (IndexError, struct.error):
        return 0
    return offset if offset == len(message) else 0


def options(message: bytes) -> dict[int, bytes] | None:
    """The EDNS options of a plain message by code; ``None`` for any other, and where an option is repeated or cut."""
    found: dict[int, bytes] = {}
    opt, end = opt_offset(message), len(message)
    if opt == end:
        return found
    if not opt:
        return None
    offset = opt + OPT_FIXED
    try:
        while offset < end:
            code, length = _OPTION.unpack_from(message, offset)
            data, offset = offset + 4, offset + 4 + length
            if code in found:
                return None
            found[code] = message[data:offset]
    except struct.error:
        return None
    return found if offset == end else None
