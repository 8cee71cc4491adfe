"""A DNS message read record by record, as far as it can be read.

dnspython reads a message as a whole and refuses the whole for one option or one record that it does not like.
Here the frames are read first (RFC 1035, section 4.1), and then each record's data by themselves: data that cannot
be read by their type are shown as RFC 3597, section 5, has those of an unknown type, and options stay octets
(RFC 6891, section 6.1.2).  Nothing here raises: the octets are a stranger's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import dns.exception
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from ._errors import printable

SECTIONS: Final = ("ANSWER", "AUTHORITY", "ADDITIONAL")
"In the order of the message (RFC 1035, section 4.1)."


def type_text(number: int) -> str:
    """A type's mnemonic, or ``TYPE65280`` (RFC 3597, section 5)."""
    return dns.rdatatype.to_text(dns.rdatatype.RdataType.make(number))


def class_text(number: int) -> str:
    """A class's mnemonic, or ``CLASS255`` as above."""
    return dns.rdataclass.to_text(dns.rdataclass.RdataClass.make(number))


class Header(NamedTuple):
    """The twelve octets before the question (RFC 1035, section 4.1.1)."""

    id: int
    flags: int
    counts: tuple[int, int, int, int]
    "Questions, answers, authority and additional records."

    @classmethod
    def of(cls, octets: bytes) -> Header:
        """Read a message of at least 12 octets."""
        fields = struct.unpack_from("!6H", octets)
        return cls(fields[0], fields[1], fields[2:6])

    @property
    def opcode(self) -> int:
        """Bits 1 to 4 of the flags."""
        return dns.opcode.from_flags(self.flags)

    @property
    def rcode(self) -> int:
        """The low four bits; EDNS has the others (RFC 6891, section 6.1.3)."""
        return dns.rcode.from_flags(self.flags, 0)


class Question(NamedTuple):
    """What was asked (RFC 1035, section 4.1.2)."""

    name: str
    rdtype: int
    rdclass: int


class Record(NamedTuple):
    """One resource record (RFC 1035, section 4.1.3), ready to be shown."""

    name: str
    rdtype: int
    rdclass: int
    ttl: int
    rdata: bytes
    "On the wire; names in it are not compressed where the data could be read."
    text: str
    "The data's presentation form; that of RFC 3597, section 5, where they cannot be read by their type."
    problem: str | None
    "Why the data cannot be read by their type."
    data: dns.rdata.Rdata | None = None
    "As dnspython reads them; ``None`` where it cannot."


class Signature(NamedTuple):
    """Where the TSIG record of a message is (RFC 8945, section 5.1)."""

    owner: str
    "The key's name."
    start: int
    "Offset of the record; all before it is signed."
    rdata_start: int
    length: int
    "Octets of its data."


class Edns(NamedTuple):
    """An OPT record (RFC 6891, section 6.1.2)."""

    payload: int
    "UDP payload size in octets."
    ttl: int
    "Extended RCODE, version and flags."
    rdata: bytes

    @property
    def version(self) -> int:
        """Of EDNS."""
        return self.ttl >> 16 & 0xFF

    @property
    def flags(self) -> int:
        """DO and those not assigned."""
        return self.ttl & 0xFFFF

    def options(self) -> tuple[list[tuple[int, bytes]], bytes]:
        """Code and data of each option, and the octets at the end that are no whole option."""
        options: list[tuple[int, bytes]] = []
        rest = self.rdata
        while len(rest) >= 4:
            code, length = struct.unpack_from("!HH", rest)
            if len(rest) < 4 + length:
                break
            options.append((code, rest[4 : 4 + length]))
            rest = rest[4 + length :]
        return options, rest


@dataclass(slots=True)
class Message:
    """What could be read of a message."""

    header: Header
    questions: list[Question] = field(default_factory=list[Question])
    sections: dict[str, list[Record]] = field(default_factory=lambda: {title: list[Record]() for title in SECTIONS})
    edns: list[Edns] = field(default_factory=list[Edns])
    "Every OPT record of the additional section: more than one is a fault (RFC 6891, section 6.1.1)."
    tsig: Signature | None = None
    "Of a message that ends in a TSIG record, which is among the additional records too."
    problem: str | None = None
    "Why the message cannot be read to its end."

    @property
    def rcode(self) -> int:
        """With the upper bits, which EDNS has (RFC 6891, section 6.1.3)."""
        extended = self.edns[0].ttl >> 24 << 4 if self.edns else 0
        return self.header.rcode | extended

    @property
    def warnings(self) -> list[str]:
        """What is wrong although the frames hold: which record it is, and why."""
        found = [
            f"the data of record {number} of the {title} section "
            f"({type_text(record.rdtype)}) cannot be read: {record.problem}"
            for title, records in self.sections.items()
            for number, record in enumerate(records, 1)
            if record.problem is not None
        ]
        found += [
            f"the options end with {len(rest)} octets that are no whole option"
            for rest in (edns.options()[1] for edns in self.edns)
            if rest
        ]
        if len(self.edns) > 1:
            found.append(f"{len(self.edns)} OPT records, where there may be one (RFC 6891, section 6.1.1)")
        return found


def read(octets: bytes) -> Message:
    """Read a message of at least 12 octets."""
    message = Message(Header.of(octets))
    questions, *records = message.header.counts
    at = 12
    where = "the question"
    try:
        for number in range(1, questions + 1):
            where = f"question {number}"
            name, at = _name(octets, at)
            rdtype, rdclass = struct.unpack_from("!HH", octets, at)
            at += 4
            message.questions.append(Question(name, rdtype, rdclass))
        for title, count in zip(SECTIONS, records, strict=True):
            for number in range(1, count + 1):
                where = f"record {number} of the {title} section"
                at = _read_record(octets, at, title, message)
    except Exception as error:  # struct.error for a short message, and whatever dnspython raises for a name
        # dnspython's own class, not one of its subclasses, where the message ends inside a name.
        is_short = isinstance(error, struct.error) or type(error) is dns.exception.FormError
        reason = "the message ends inside it" if is_short else _reason(error)
        message.problem = f"{where}, at octet {at}: {reason}"
    else:
        if at < len(octets):
            message.problem = f"{len(octets) - at} octets follow the last record"
    return message


def _read_record(octets: bytes, at: int, title: str, message: Message) -> int:
    start = at
    name, at = _name(octets, at)
    rdtype, rdclass, ttl, length = struct.unpack_from("!HHIH", octets, at)
    at += 10
    end: int = at + length
    if end > len(octets):
        raise struct.error
    raw = octets[at:end]
    if rdtype == dns.rdatatype.OPT and title == "ADDITIONAL":
        message.edns.append(Edns(rdclass, ttl, raw))
        return end
    if rdtype == dns.rdatatype.TSIG and title == "ADDITIONAL" and end == len(octets):
        message.tsig = Signature(name, start, at, length)
    message.sections[title].append(Record(name, rdtype, rdclass, ttl, *_rdata(octets, at, rdtype, rdclass, raw)))
    return end


def _rdata(
    octets: bytes, at: int, rdtype: int, rdclass: int, raw: bytes
) -> tuple[bytes, str, str | None, dns.rdata.Rdata | None]:
    """Data on the wire, their presentation form, why they cannot be read by their type, and as they were read."""
    try:
        kind, group = dns.rdatatype.RdataType.make(rdtype), dns.rdataclass.RdataClass.make(rdclass)
        rdata = dns.rdata.from_wire(group, kind, octets, at, len(raw))
        return rdata.to_wire() or b"", printable(rdata.to_text(chunksize=0)), None, rdata
    except Exception as error:  # dnspython raises whatever its parsers raise
        return raw, generic(raw), _reason(error), None


def generic(data: bytes) -> str:
    """Data of an unknown type (RFC 3597, section 5)."""
    return f"\\# {len(data)} {data.hex().upper()}".rstrip()


def _name(octets: bytes, at: int) -> tuple[str, int]:
    name, length = dns.name.from_wire(octets, at)
    return printable(name.to_text()), at + length


def _reason(error: Exception) -> str:
    return printable(str(error)) or type(error).__name__
