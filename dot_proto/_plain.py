"""The short way for messages as they nearly always are: one question, no signature, and OPT last if at all.

:func:`~dot_proto._message.walk` understands every message and says what is wrong with it; that costs as much as all
else that is done for a query.  What is here takes a fifth of it, reports nothing, and leaves whatever is not
plain to :func:`walk`: it never finds anything that :func:`walk` would not find (benchmarks/engine.py).
"""

from __future__ import annotations

import struct
from typing import Final

from ._message import MAX_NAME, TYPE_OPT, TYPE_SIG, TYPE_TSIG

_COUNTS: Final = struct.Struct("!HHHH")
_TYPE_AND_LENGTH: Final = struct.Struct("!H6xH")
_OPTION: Final = struct.Struct("!HH")

_SPECIAL: Final = frozenset({TYPE_OPT, TYPE_TSIG, TYPE_SIG})

LAST_NAME_END: Final = 12 + MAX_NAME - 1
"The furthest offset of the octet that ends the name in the question."


def outline(message: bytes) -> tuple[int, int] | None:
    """Offsets of the end of the question and of OPT, which is at the message's end if there is none.

    ``None`` for a message that is not plain, of which nothing has been found out.  The options in OPT are not
    looked at.
    """
    questions, answers, authorities, additionals = _COUNTS.unpack_from(message, 4)
    if questions != 1:
        return None
    offset = 12
    try:
        while 0 < (length := message[offset]) < 64:
            offset += 1 + length
        if length or offset > LAST_NAME_END:
            return None
        question_end = start = offset = offset + 5
        for left in range(answers + authorities + additionals, 0, -1):
            start = offset
            owner = message[start]
            if owner >= 192:
                if (owner & 63) << 8 | message[start + 1] >= start:
                    return None
                offset += 1
            elif owner:
                return None
            kind, length = _TYPE_AND_LENGTH.unpack_from(message, offset + 1)
            offset += 11 + length
            if kind in _SPECIAL:
                if kind != TYPE_OPT or owner or left > 1 or not additionals or offset != len(message):
                    return None
                return question_end, start
    except (IndexError, struct.error):
        return None
    return (question_end, offset) if offset == len(message) else None


def options(message: bytes, opt: int) -> dict[int, bytes] | None:
    """The EDNS options by code, of an OPT that :func:`outline` has found; ``None`` unless all is well with them."""
    found: dict[int, bytes] = {}
    end = len(message)
    opt += 11
    while opt < end:
        if opt + 4 > end:
            return None
        code, length = _OPTION.unpack_from(message, opt)
        data, opt = opt + 4, opt + 4 + length
        if code in found or opt > end:
            return None
        found[code] = message[data:opt]
    return found
