"""DNS messages built octet by octet, right or wrong, and streams of them cut into pieces; needs nothing but Python.

:func:`message` writes what it is told to, so that a message can be wrong in one place only.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from .._message import question_end
from ..query import make_query

QR, AA, TC, RD, RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
"Bits of the flags (RFC 1035, section 4.1.1)."

AD, CD = 0x0020, 0x0010
"Bits of the flags (RFC 4035, sections 3.1.6 and 3.2.2)."

DO = 0x8000
"A bit of OPT's flags (RFC 3225, section 3)."

NS, A, SOA, TXT, AAAA, SIG, OPT, TSIG, AXFR = 2, 1, 6, 16, 28, 24, 41, 250, 252
"RR types (IANA)."

NSID, DAU, ECS, COOKIE, KEEPALIVE, PADDING, EDE = 3, 5, 8, 10, 11, 12, 15
"Codes of EDNS options (IANA)."


def option(code: int, data: bytes = b"") -> bytes:
    """One EDNS option (RFC 6891, section 6.1.2)."""
    return struct.pack("!HH", code, len(data)) + data


def opt(*options: bytes, size: int = 1232, rcode: int = 0, version: int = 0, flags: int = 0) -> bytes:
    """An OPT record; ``rcode`` is the upper eight bits (RFC 6891, section 6.1.3)."""
    data = b"".join(options)
    return struct.pack("!BHHBBHH", 0, OPT, size, rcode, version, flags, len(data)) + data


ERROR = option(EDE, b"\0\x16")
"An extended error, No Reachable Authority (RFC 8914, section 4.23), which goes from end to end."

ANOTHERS = opt(
    option(PADDING, bytes(300)),
    option(KEEPALIVE, b"\xff\xff"),
    option(KEEPALIVE, b"\0"),
    ERROR,
    option(COOKIE, bytes(16)),
    option(DAU, b"\x08"),
    option(PADDING),
    version=1,
    flags=0xFFFF,
)
"OPT of another server, which knows nothing of the query that its response is to answer; all but the error must go."


def record(
    owner: bytes = b"\xc0\x0c", kind: int = A, data: bytes = bytes(4), *, ttl: int = 0, rdclass: int = 1
) -> bytes:
    """One record; the owner, in wire form, is the name in the question unless said."""
    return owner + struct.pack("!HHIH", kind, rdclass, ttl, len(data)) + data


def question(name: bytes, kind: int = A, rdclass: int = 1) -> bytes:
    """The octets of a question; the name is in wire form (RFC 1035, section 4.1.2)."""
    return name + struct.pack("!HH", kind, rdclass)


def message(
    question: bytes = b"",
    *,
    id: int = 0,
    flags: int = 0,
    answers: Iterable[bytes] = (),
    authorities: Iterable[bytes] = (),
    additionals: Iterable[bytes] = (),
) -> bytes:
    """A message of no question or one, with the counts that its records call for."""
    sections = [list(answers), list(authorities), list(additionals)]
    header = struct.pack("!HHHHHH", id, flags, bool(question), *map(len, sections))
    return header + question + b"".join(each for section in sections for each in section)


def question_of(query: bytes) -> bytes:
    """The octets of the question section."""
    return query[12 : question_end(query)]


def response_to(
    query: bytes,
    *answers: bytes,
    rcode: int = 0,
    additionals: Iterable[bytes] = (),
    flags: int = 0,
    id: int | None = None,
) -> bytes:
    """The response under the query's own id, with its opcode, RD, CD and question; ``flags`` are added."""
    theirs = int.from_bytes(query[:2]) if id is None else id
    copied = int.from_bytes(query[2:4]) & (0x7800 | RD | CD)
    return message(
        question_of(query), id=theirs, flags=QR | copied | flags | rcode, answers=answers, additionals=additionals
    )


def query_of_length(length: int) -> bytes:
    """A well-formed query of so many octets, 44 or more, that ends in OPT: an unknown option fills it."""
    bare = make_query("example.com")[:-11]
    return bare + opt(option(65_001, bytes(length - len(bare) - 15)))


def stream_of(messages: Iterable[bytes]) -> bytes:
    """The messages behind their length prefixes."""
    return b"".join(struct.pack("!H", len(each)) + each for each in messages)


@dataclass(frozen=True)
class Reading:
    """What a stream says, octet for octet; made by :func:`read`."""

    messages: list[bytes]
    "The whole messages, without their prefixes."
    ends: list[int]
    "Where each ends: the octets that must have come before it can be delivered."
    failed_at: int | None
    "The octets after which the framing has failed; ``None``: it has not."
    rest: bytes
    "What is behind the last whole message."

    def delivered(self, octets: int) -> int:
        """How many messages are whole after so many octets of the stream."""
        return sum(end <= octets for end in self.ends)

    def has_failed(self, octets: int) -> bool:
        """Whether a length that cannot be has come within so many octets."""
        return self.failed_at is not None and self.failed_at <= octets

    def is_mid_message(self, octets: int) -> bool:
        """Whether an end after so many octets is a truncation."""
        return octets > max([0, *(end for end in self.ends if end <= octets)])


def read(stream: bytes, *, minimum: int = 12) -> Reading:
    """What any framer must make of these octets, by RFC 1035, section 4.2.2, and nothing else.

    A length below ``minimum`` octets is a fault, behind which there are no messages.
    """
    messages: list[bytes] = []
    ends: list[int] = []
    failed_at = None
    offset = 0
    while failed_at is None and offset + 2 <= len(stream):
        length = int.from_bytes(stream[offset : offset + 2])
        end = offset + 2 + length
        if length < minimum:
            failed_at = offset + 2
        elif end > len(stream):
            break
        else:
            messages.append(stream[offset + 2 : end])
            ends.append(end)
            offset = end
    return Reading(messages, ends, failed_at, stream[offset:])


def unframed(chunks: Iterable[bytes]) -> list[bytes]:
    """What ``data_to_send`` returned, each without its prefix; raises :class:`AssertionError` for a wrong one."""
    messages: list[bytes] = []
    for chunk in chunks:
        if int.from_bytes(chunk[:2]) != len(chunk) - 2:
            raise AssertionError(f"a length prefix of {int.from_bytes(chunk[:2])} before {len(chunk) - 2} octets")
        messages.append(chunk[2:])
    return messages


def pieces(stream: bytes, size: int) -> Iterator[bytes]:
    """The stream in pieces of ``size`` octets."""
    return (stream[start : start + size] for start in range(0, len(stream), size))


def cut_at(stream: bytes, offsets: Iterable[int]) -> list[bytes]:
    """The stream cut at these offsets; pieces may be empty."""
    bounds = [0, *sorted(min(offset, len(stream)) for offset in offsets), len(stream)]
    return [stream[start:end] for start, end in pairwise(bounds)]
