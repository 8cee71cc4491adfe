"""A client's query, as far as its response depends on it, and the responses that it may get; no I/O."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

from dot_proto import MessageError
from dot_proto._edns import UDP_PAYLOAD_SIZE
from dot_proto._message import HEADER, QR, SERVFAIL, walk
from dot_proto._plain import OPT_FIXED, opt_offset
from dot_proto._removal import without

from ._private import without_private

OPTION_EDE: Final = 15
"EDNS option Extended DNS Error (RFC 8914, section 2)."

OTHER_ERROR: Final = 0
"EDE (RFC 8914, section 4.1)."
NO_REACHABLE_AUTHORITY: Final = 22
"EDE (RFC 8914, section 4.23)."
NETWORK_ERROR: Final = 23
"EDE (RFC 8914, section 4.24)."

EVERYBODYS: Final = frozenset({OPTION_EDE})
"Options of an upstream's response that every client with OPT gets."

AA: Final = 0x0400
TC: Final = 0x0200
RA: Final = 0x0080
AD: Final = 0x0020
"Flags in the header (RFC 1035, section 4.1.1; RFC 4035, section 3.2.3)."

_REPEATED: Final = 0x7910
"What a response repeats of a query's flags: opcode, RD and CD (RFC 1035, section 4.1.1; RFC 4035, section 3.2.2)."

DO: Final = 0x8000
"The flag in OPT (RFC 3225, section 3)."

_OPTION: Final = struct.Struct("!HH")
_OPT: Final = struct.Struct("!BHHBBHH")
"OPT without options: root, type, payload size, extended RCODE, version, flags, length (RFC 6891, section 6.1.2)."


def option(code: int, data: bytes) -> bytes:
    """An EDNS option on the wire (RFC 6891, section 6.1.2)."""
    return _OPTION.pack(code, len(data)) + data


@lru_cache(maxsize=64)
def opt_record(extended_rcode: int, flags: int, options: bytes) -> bytes:
    """An OPT record of ours; few different ones occur."""
    return _OPT.pack(0, 41, UDP_PAYLOAD_SIZE, extended_rcode, 0, flags, len(options)) + options


class ClientQuery:
    """What a client asked, and how its response must look."""

    __slots__ = (
        "_clears_ad",
        "_flags",
        "_limit",
        "_message_id",
        "_over_udp",
        "has_opt",
        "opt_flags",
        "options",
        "passing",
        "question",
        "strips_private",
    )

    def __init__(
        self,
        message: bytes,
        question_end: int,
        *,
        over_udp: bool,
        limit: int,
        has_opt: bool,
        is_dnssec_ok: bool,
        clears_ad: bool,
    ) -> None:
        self._message_id = message[:2]
        self._flags = message[2] << 8 | message[3]
        self._over_udp = over_udp
        self._limit = limit  # octets of the response at the most
        self._clears_ad = clears_ad
        self.passing = EVERYBODYS
        "Codes of the options of an upstream's response that this client gets."
        self.options = b""
        "Options that it gets from us, on the wire."
        self.strips_private = False
        "Whether private addresses are taken out of the answer."
        self.has_opt: Final = has_opt
        "Whether the client speaks EDNS."
        self.opt_flags: Final = DO if is_dnssec_ok else 0
        "The flags of OPT, which a response repeats (RFC 3225, section 3)."
        self.question: Final = message[12:question_end]
        "Name, type and class, in the client's own letters; empty where there is no question."

    @property
    def rdtype(self) -> int:
        """The type that is asked for; 0 without a question."""
        return int.from_bytes(self.question[-4:-2])

    @property
    def rdclass(self) -> int:
        """The class that is asked for; call only where there is a question."""
        return self.question[-2] << 8 | self.question[-1]

    def error(self, rcode: int, *, options: bytes = b"") -> bytes:
        """A response with an RCODE of 12 bits and no records; one above 15 can only be said in OPT."""
        return self._made(RA, rcode, options=options)

    def failure(self, code: int, text: str) -> bytes:
        """SERVFAIL, and why: an extended error of ours (RFC 8914), for a client that speaks EDNS."""
        return self.error(SERVFAIL, options=option(OPTION_EDE, code.to_bytes(2) + text.encode()))

    def local(self, rcode: int, *, answer: bytes = b"", authority: bytes = b"") -> bytes:
        """A response of our own authority, with at most one record in each section."""
        return self._made(AA | RA, rcode, answer, authority)

    def response(self, message: bytes) -> bytes:
        """An upstream's response, as this client gets it."""
        if self.strips_private:
            message = without_private(message)
        end, data = len(message), b""
        start = opt_offset(message)
        extended_rcode = had_opt = 0
        if start == end:
            body = message
        elif start:
            body, data, extended_rcode, had_opt = message[:start], message[start + OPT_FIXED :], message[start + 5], 1
        else:
            layout = walk(message)
            if layout.problem is not None:
                return self.failure(OTHER_ERROR, "dot-proto: the upstream's answer is malformed")
            if layout.is_signed:
                return self._signed(message)
            body = message
            if layout.opt is not None:
                start, end = layout.opt
                data, extended_rcode, had_opt = message[start + OPT_FIXED : end], message[start + 5], 1
                try:
                    body = without(message, start, end)
                except MessageError:
                    return self.failure(OTHER_ERROR, "dot-proto: the upstream's answer is malformed")
        return self._fitted(body, data, extended_rcode, had_opt)

    # Private methods.

    def _made(self, flags: int, rcode: int, answer: bytes = b"", authority: bytes = b"", options: bytes = b"") -> bytes:
        opt = opt_record(rcode >> 4, self.opt_flags, self.options + options) if self.has_opt else b""
        flags |= QR | self._flags & _REPEATED | rcode & 15
        counts = bool(self.question), bool(answer), bool(authority), bool(opt)
        return self._message_id + HEADER.pack(0, flags, *counts)[2:] + self.question + answer + authority + opt

    def _fitted(self, body: bytes, data: bytes, extended_rcode: int, had_opt: int) -> bytes:
        """A response without its OPT, which had the options ``data``, with an OPT for this client."""
        _, flags, questions, answers, authorities, additionals = HEADER.unpack_from(body)
        if self._clears_ad:
            flags &= ~AD
        opt = b""
        if self.has_opt:
            opt = opt_record(extended_rcode, self.opt_flags, self.options + (self._kept(data) if data else b""))
        elif extended_rcode:
            flags = flags & ~15 | SERVFAIL  # it has no place but in OPT (RFC 6891, section 6.1.3)
        if len(body) + len(opt) > self._limit:
            if self._over_udp:
                return self._cut(flags, extended_rcode)
            opt = b""  # 65535 octets hold no more
        counts = questions, answers, authorities, additionals - had_opt + bool(opt)
        header = self._message_id + HEADER.pack(0, flags, *counts)[2:]
        end = 12 + len(self.question)
        asked = body[12:end]
        if asked != self.question and asked.lower() == self.question.lower():
            return header + self.question + body[end:] + opt  # in the client's own letters
        return header + body[12:] + opt

    def _signed(self, message: bytes) -> bytes:
        """A response that is signed: no octet but the id may change (RFC 8945, section 5.5)."""
        if len(message) > self._limit and self._over_udp:
            return self._cut(message[2] << 8 | message[3], 0)
        return self._message_id + message[2:]

    def _cut(self, flags: int, extended_rcode: int) -> bytes:
        """The response without its records, and TC, so that the client asks over TCP (RFC 2181, section 9)."""
        opt = opt_record(extended_rcode, self.opt_flags, b"") if self.has_opt else b""
        header = self._message_id + HEADER.pack(0, flags | TC, 1, 0, 0, bool(opt))[2:]
        return header + self.question + opt

    def _kept(self, data: bytes) -> bytes:
        """Of an upstream's options, on the wire, those that this client gets; what is behind a cut one is left out."""
        kept, offset, end = b"", 0, len(data)
        while offset + _OPTION.size <= end:
            code, length = _OPTION.unpack_from(data, offset)
            start, offset = offset, offset + _OPTION.size + length
            if code in self.passing and offset <= end:
                kept += data[start:offset]
        return kept
