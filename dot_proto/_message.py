"""The little of a DNS message that the protocol needs: header, sole question, and where OPT and a signature lie.

Names are skipped, never decoded: compression pointers must point backwards and are not followed, so nothing
here recurses or loops, and work is linear in octets.
"""

from __future__ import annotations

import struct
from typing import Final

from .errors import MessageError

HEADER: Final = struct.Struct("!HHHHHH")
"Id, flags, and the four counts (RFC 1035, section 4.1.1)."

QR: Final = 0x8000
"The flag that tells a response from a query (RFC 1035, section 4.1.1)."
RD: Final = 0x0100
"Recursion desired (RFC 1035, section 4.1.1)."
OPCODE_MASK: Final = 0x7800
"Where the four bits of the opcode lie in the flags (RFC 1035, section 4.1.1)."

QUERY: Final = 0
"Opcode of a standard query (RFC 1035, section 4.1.1)."
NOTIFY: Final = 4
"Opcode (RFC 1996, section 3.1)."
UPDATE: Final = 5
"Opcode (RFC 2136, section 1.3)."

NOERROR: Final = 0
"RCODE (RFC 1035, section 4.1.1)."
FORMERR: Final = 1
"RCODE (RFC 1035, section 4.1.1)."
SERVFAIL: Final = 2
"RCODE (RFC 1035, section 4.1.1)."
NXDOMAIN: Final = 3
"RCODE (RFC 1035, section 4.1.1)."
NOTIMP: Final = 4
"RCODE (RFC 1035, section 4.1.1)."
BADVERS: Final = 16
"Extended RCODE (RFC 6891, section 6.1.3)."

TYPE_SIG: Final = 24
"SIG, and with type covered 0 the signature of a transaction (RFC 2931, section 3)."
TYPE_OPT: Final = 41
"EDNS (RFC 6891, section 6.1.1)."
TYPE_TSIG: Final = 250
"Transaction signature (RFC 8945, section 4.2)."

OPTION_NSID: Final = 3
"EDNS option (RFC 5001, section 2.3)."
OPTION_DAU: Final = 5
"EDNS option (RFC 6975, section 3); DHU and N3U, 6 and 7, are alike."
OPTION_N3U: Final = 7
"EDNS option (RFC 6975, section 3)."
OPTION_ECS: Final = 8
"EDNS option edns-client-subnet (RFC 7871, section 6)."
OPTION_COOKIE: Final = 10
"EDNS option (RFC 7873, section 4)."
OPTION_KEEPALIVE: Final = 11
"EDNS option edns-tcp-keepalive (RFC 7828, section 3.1)."
OPTION_PADDING: Final = 12
"EDNS option (RFC 7830, section 3)."

MAX_NAME: Final = 255
"Octets of a name on the wire (RFC 1035, section 2.3.4)."

_OPT_START: Final = b"\0" + TYPE_OPT.to_bytes(2)
"How every OPT record begins: the root as its owner, and its type (RFC 6891, section 6.1.2)."

_RECORD: Final = struct.Struct("!HHIH")
_OPTION: Final = struct.Struct("!HH")


def opcode_of(message: bytes) -> int:
    """The opcode, 0 to 15."""
    return message[2] >> 3 & 15


def skip_name(message: bytes, offset: int) -> int:
    """The offset behind the name that starts at ``offset``; raises :class:`~dot_proto.MessageError`."""
    start, end = offset, len(message)
    while offset < end:
        length = message[offset]
        if length == 0:
            if offset + 1 - start > MAX_NAME:
                break
            return offset + 1
        if length < 64:
            offset += 1 + length
        elif length < 192:
            raise MessageError(f"octet {offset}: label type {length >> 6:02b} is not in use (RFC 6891, section 5)")
        elif offset + 2 > end or offset - start >= MAX_NAME:
            break
        elif (target := (length & 63) << 8 | message[offset + 1]) >= start:
            raise MessageError(f"octet {offset}: a compression pointer must point backwards")
        elif target < HEADER.size:
            # No name starts there (RFC 1035, section 4.1.4), and what it says would change with the id and the counts.
            raise MessageError(f"octet {offset}: a compression pointer into the header")
        else:
            return offset + 2
    if offset - start >= MAX_NAME:
        raise MessageError(f"octet {start}: a name of more than {MAX_NAME} octets")
    raise MessageError(f"octet {start}: the message ends inside a name")


def question_end(message: bytes) -> int:
    """The offset behind the question section of none or one question.

    Raises :class:`~dot_proto.MessageError`, also for more than one question (RFC 9619, section 4).
    """
    count = message[4] << 8 | message[5]
    if count == 0:
        return 12
    if count > 1:
        raise MessageError(f"{count} questions in one message (RFC 9619)")
    offset = skip_name(message, 12) + 4
    if offset > len(message):
        raise MessageError("the message ends inside the question")
    return offset


class Layout:
    """Where things lie in one message.  With :attr:`problem` set, what was found up to there."""

    __slots__ = ("has_sig0", "is_signed", "opt", "options", "problem", "question_end")

    def __init__(self) -> None:
        self.problem: str | None = None
        "What is malformed, or ``None``."
        self.question_end = 12
        "Offset behind the question section."
        self.opt: tuple[int, int] | None = None
        "Offsets of the OPT record (RFC 6891, section 6.1.1): of its owner name and behind its RDATA."
        self.options: list[tuple[int, bytes]] = []
        "EDNS options in order: code and data; where OPT ends inside an option, those before it."
        self.is_signed = False
        "Whether the last record is TSIG, or SIG(0) is among the additional ones: then no octet but the id may change."
        self.has_sig0 = False
        """Whether SIG(0) is among the additional records: then the id may not change either.  A signature covers the
        header (RFC 2931, section 3.1), and only TSIG has the original id in it (RFC 8945, section 4.2)."""

    def values(self, code: int) -> list[bytes]:
        """The data of each option with this code, in order."""
        return [data for other, data in self.options if other == code]

    def option(self, code: int) -> bytes | None:
        """The data of the only option with this code; ``None`` where there is none, and where there are several."""
        found = self.values(code)
        return found[0] if len(found) == 1 else None


def walk(message: bytes) -> Layout:
    """Find question, OPT and signature; never raises for any 12 octets or more."""
    layout = Layout()
    try:
        _walk(message, layout)
    except MessageError as error:
        layout.problem = layout.problem or str(error)
    return layout


def rcode(message: bytes) -> int:
    """The RCODE of 12 bits: four of the header, eight of OPT where there is one (RFC 6891, section 6.1.3)."""
    if not _may_be_extended(message):
        return message[3] & 15
    layout = walk(message)
    # Where the owner is not the root, as it must be, the eight bits lie elsewhere, and nobody can rely on them.
    has_more = layout.opt is not None and not message[layout.opt[0]]
    extended = message[layout.opt[0] + 5] if layout.opt is not None and has_more else 0
    return extended << 4 | message[3] & 15


def is_error(message: bytes) -> bool:
    """Whether the RCODE of 12 bits is anything but NOERROR."""
    return bool(message[3] & 15) or (_may_be_extended(message) and rcode(message) != NOERROR)


def _may_be_extended(message: bytes) -> bool:
    """Whether OPT may hold upper bits of the RCODE, without a walk over the records of nearly all messages.

    A message of a transfer has hundreds of records, and OPT behind them.  Wherever the octets with which an OPT begins
    occur, in OPT itself or in other data, the upper bits would stand three octets behind; only where these are not 0,
    it matters which of the two it is.
    """
    end = len(message) - 5
    start = message.find(_OPT_START, HEADER.size)
    while 0 <= start < end:
        if message[start + 5]:
            return True
        start = message.find(_OPT_START, start + 1)
    return False


def malformation(message: bytes) -> str | None:
    """What is malformed in a message, or odd in its options; ``None``: nothing."""
    layout = walk(message)
    return layout.problem or oddity(message, layout)


# What is malformed ends the walk. What is odd in an option does not, since its length says where the next one begins:
# it hides no other, in whatever order they stand, and is judged apart. A query is refused for it (RFC 6891, section
# 7); a response is taken, and the odd option does not count. Where an option of ours goes, it replaces all of its code.


def oddity(message: bytes, layout: Layout) -> str | None:
    """What is odd in the options that the engine reads, or ``None``.

    Keepalive is empty in a query and has two octets in a response (RFC 7828, sections 3.1 and 3.2.1); Padding stands
    there once (RFC 7830, section 3).
    """
    timeouts, is_response = layout.values(OPTION_KEEPALIVE), message[2] & 0x80
    if not is_response and any(timeouts):
        return "a client's keepalive option must be empty (RFC 7828, section 3.2.1)"
    if is_response and any(len(data) != 2 for data in timeouts):
        return "a server's keepalive option must have two octets (RFC 7828, section 3.1)"
    if len(layout.values(OPTION_PADDING)) > 1:
        return "a second Padding option (RFC 7830, section 3)"
    return None


def _walk(message: bytes, layout: Layout) -> None:
    questions = message[4] << 8 | message[5]
    if questions > 1:
        # OPT is looked for all the same: whoever sends one gets one back (RFC 6891, section 6.1.1).
        layout.problem = f"{questions} questions in one message (RFC 9619)"
        offset = HEADER.size
        for _ in range(questions):
            offset = skip_name(message, offset) + 4
    else:
        offset = layout.question_end = question_end(message)
    answers, authorities, additionals = struct.unpack_from("!HHH", message, 6)
    body = answers + authorities
    last = body + additionals
    for number in range(1, last + 1):
        start = offset
        owner_end = skip_name(message, offset)
        offset = owner_end + _RECORD.size
        if offset > len(message):
            raise MessageError(f"octet {start}: the message ends inside a record")
        kind, _, _, length = _RECORD.unpack_from(message, owner_end)
        data, offset = offset, offset + length
        if offset > len(message):
            raise MessageError(f"octet {start}: the message ends inside the data of a record")
        if kind == TYPE_OPT:
            if number <= body:
                raise MessageError(f"octet {start}: OPT outside the additional section (RFC 6891, section 6.1.1)")
            if layout.opt is not None:
                raise MessageError(f"octet {start}: a second OPT record (RFC 6891, section 6.1.1)")
            layout.opt = start, offset
            if owner_end != start + 1:
                raise MessageError(f"octet {start}: the owner of OPT is not the root (RFC 6891, section 6.1.2)")
            _options(message, data, offset, layout.options)
        elif kind == TYPE_TSIG:
            if number != last:
                raise MessageError(f"octet {start}: TSIG is not the last record (RFC 8945, section 5.1)")
            layout.is_signed = True
        elif kind == TYPE_SIG and number > body and length > 1 and message[data : data + 2] == b"\0\0":
            # It belongs at the end; but behind it may be TSIG, a second one, or what should not be there.
            layout.is_signed = layout.has_sig0 = True
    if offset != len(message):
        raise MessageError(f"octet {offset}: octets behind the last record")


def _options(message: bytes, offset: int, end: int, options: list[tuple[int, bytes]]) -> None:
    while offset < end:
        if offset + _OPTION.size > end:
            raise MessageError(f"octet {offset}: OPT ends inside an option (RFC 6891, section 6.1.2)")
        code, length = _OPTION.unpack_from(message, offset)
        data, offset = offset + _OPTION.size, offset + _OPTION.size + length
        if offset > end:
            raise MessageError(f"octet {data}: OPT ends inside an option (RFC 6891, section 6.1.2)")
        options.append((code, message[data:offset]))


def edns_version(message: bytes, layout: Layout) -> int:
    """The version in OPT (RFC 6891, section 6.1.3); call only where there is one."""
    assert layout.opt is not None
    return message[layout.opt[0] + 6]
