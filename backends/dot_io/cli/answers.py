"""A message as lines of text, in kdig's layout; functions without I/O.

A record or an option that has not the form of its type is shown as octets, with a warning: it takes nothing from the
others.  Where the message's own frames do not hold, a dump of all of it follows what was read.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import dns.flags
import dns.opcode
import dns.rcode

from .edns_text import option
from .messages import SECTIONS, Message, Record, read
from .presentation import DEBUG, Times
from .query_arguments import Display
from .records import data, question, record
from .servers import Server

MAX_DUMP: Final = 512
"Octets of an unreadable message that are shown."

ALL: Final = Display()
"What is shown where nothing is said."


def answer(octets: bytes, display: Display = ALL) -> tuple[list[str], str | None]:
    """Header, EDNS and the sections as far as they can be read, warnings, and why the rest cannot be read."""
    message = read(octets)
    lines = [*_header(message), *_edns(message, display), *_sections(message, display)]
    if not display.header:
        del lines[:2]
    if message.warnings:
        lines += ["", *(f";; WARNING: {warning}" for warning in message.warnings)]
    if message.problem is not None:
        lines += ["", ";; WARNING: the rest of this message cannot be read; the octets of all of it:", *_dump(octets)]
    return lines, message.problem


def _header(message: Message) -> list[str]:
    header = message.header
    flags = dns.flags.to_text(header.flags).lower()
    titles = zip(("QUERY", *SECTIONS), header.counts, strict=True)
    return [
        f";; ->>HEADER<<- opcode: {_opcode(header.opcode)}; status: {rcode_text(message.rcode)}; id: {header.id}",
        f";; Flags: {flags}; {'; '.join(f'{title}: {count}' for title, count in titles)}",
    ]


def _opcode(opcode: int) -> str:
    return dns.opcode.to_text(dns.opcode.Opcode.make(opcode))


def rcode_text(rcode: int) -> str:
    """An RCODE's mnemonic."""
    return dns.rcode.to_text(dns.rcode.Rcode.make(rcode))


def _edns(message: Message, display: Display) -> list[str]:
    if not display.opt:
        return []
    lines: list[str] = []
    # As in kdig: the whole RCODE, but only where EDNS adds bits to it.
    extended = message.rcode if message.rcode > 15 else dns.rcode.NOERROR
    for edns in message.edns:
        flags = dns.flags.edns_to_text(edns.flags).lower()
        lines += [
            *_title("EDNS PSEUDOSECTION", display),
            f"{_comment(display)}Version: {edns.version}; flags: {flags}; UDP size: {edns.payload} B; "
            f"ext-rcode: {rcode_text(extended)}",
        ]
        options, rest = edns.options()
        lines += [f";; {option(code, value)}" for code, value in options]
        if rest:
            lines.append(f";; no whole option: {rest.hex().upper()}")
    return lines


def _sections(message: Message, display: Display) -> list[str]:
    lines: list[str] = []
    if message.questions and display.question:
        lines += _title("QUESTION SECTION", display)
        lines += [question(one, display, _comment(display)) for one in message.questions]
    shown = {"ANSWER": display.answer, "AUTHORITY": display.authority, "ADDITIONAL": display.additional}
    signature: list[Record] = []
    for title, records in message.sections.items():
        if message.tsig is not None and title == "ADDITIONAL":
            *records, last = records
            signature = [last]
        if records and shown[title]:
            lines += [*_title(f"{title} SECTION", display), *(record(one, display) for one in records)]
    if signature and display.tsig:
        lines += [*_title("TSIG PSEUDOSECTION", display), *(f";; {record(one, display)}" for one in signature)]
    return lines


def _title(text: str, display: Display) -> list[str]:
    return ["", f";; {text}:"] if display.comments else []


def _comment(display: Display) -> str:
    """What begins a line that is no record; kdig leaves out the space with the titles."""
    return ";; " if display.comments else ";;"


def _dump(octets: bytes) -> list[str]:
    shown = octets[:MAX_DUMP]
    lines = [f";; {at:04x}  {shown[at : at + 16].hex(' ')}" for at in range(0, len(shown), 16)]
    if len(octets) > len(shown):
        lines.append(f";; and {len(octets) - len(shown)} octets more")
    return lines


def footer(octets: bytes, when: datetime, server: Server, times: Times) -> list[str]:
    """Size, date and time, and the server with the time that all of it took; ``when`` knows its time zone."""
    return _statistics("Received", octets, when, f"From {server.host}@{server.port}(TCP)", times.total)


def sent(octets: bytes, when: datetime, server: Server, display: Display) -> list[str]:
    """The query as it is sent, as kdig's ``+qr`` has it."""
    lines, _ = answer(octets, display)
    if display.stats:
        lines += _statistics("Sent", octets, when, f"To {server.host}@{server.port}(TCP)", None)
    return [*lines, ""] if lines else []


def _statistics(verb: str, octets: bytes, when: datetime, where: str, seconds: float | None) -> list[str]:
    took = "" if seconds is None else f" in {seconds * 1e3:.1f} ms"
    return ["", f";; {verb} {len(octets)} B", f";; Time {when:%Y-%m-%d %H:%M:%S %Z}", f";; {where}{took}"]


def short(octets: bytes, display: Display = ALL) -> tuple[list[str], list[str], str | None]:
    """The answer section's data only, one record a line; warnings; and why the rest cannot be read."""
    message = read(octets)
    return [data(one, display) for one in message.sections["ANSWER"]], message.warnings, message.problem


def explained(octets: bytes, query: bytes) -> list[str]:
    """What AD means, where it was asked for (RFC 6840, sections 5.7 and 5.8) and the answer is a resolver's."""
    flags = int.from_bytes(octets[2:4])
    if flags & dns.flags.AD:
        return [f"{DEBUG}DNSSEC, AD: the server says that it has validated the answer; TLS shows only who says so"]
    if not int.from_bytes(query[2:4]) & dns.flags.AD or flags & dns.flags.AA:
        return []
    return [f"{DEBUG}DNSSEC, no AD: the server does not say that it has validated the answer"]
