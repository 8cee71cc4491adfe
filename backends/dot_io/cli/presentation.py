"""From data to lines of text, in kdig's layout.

Each function returns lines without line ends and does no I/O, so that a transcript is made by printing them in the
order in which things happen.  Where kdig's ``-d`` says nothing (what was validated, ALPN, times) the lines are ours.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from dot_proto.authentication import CertificateFacts, Reason, Verdict

from ._errors import printable
from .certificates import subject

NAME_WIDTH: Final = 20
"Columns of an owner name, as in kdig."

MAX_DUMP: Final = 512
"Octets of an unreadable message that are shown."

DEBUG: Final = ";; DEBUG: "


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What a TLS session negotiated, in the names of ``ssl`` and of IANA's registries."""

    version: str
    "Such as ``TLSv1.3``."
    cipher: str
    "Such as ``TLS_AES_256_GCM_SHA384`` (RFC 8446) or OpenSSL's name of a TLS 1.2 suite."
    group: str | None
    "Such as ``secp256r1`` (RFC 8446, section 4.2.7) or GnuTLS's ``ECDHE-SECP256R1``; ``None``: not known."
    signature: str | None
    "Such as ``ecdsa_secp256r1_sha256`` (RFC 8446, section 4.2.3), or that in GnuTLS's form; ``None``: not known."
    alpn: str | None
    "The application protocol that the server chose (RFC 7301): ``dot``, or ``None``."
    resumed: bool
    "Whether an earlier session was resumed (RFC 8446, section 2.2)."


@dataclass(frozen=True, slots=True)
class Times:
    """How long each step took, in seconds."""

    connect: float
    handshake: float
    answer: float

    @property
    def total(self) -> float:
        """Seconds from the start of the connection to the answer."""
        return self.connect + self.handshake + self.answer


class Unreadable(Exception):
    """An answer that dnspython cannot parse or present."""


# Before the answer: what ``-d`` shows.


def querying(name: str, rdclass: int, rdtype: int, server: str, port: int) -> list[str]:
    """What is about to be asked of whom."""
    return [
        f"{DEBUG}Querying for owner({name}), class({rdclass}), type({rdtype}), server({server}), port({port}), "
        "protocol(TCP)"
    ]


def imported(count: int, file: str | None) -> list[str]:
    """How many trust anchors there are; ``file`` is ``None`` for the system's trust store."""
    source = f"{count} system certificates" if file is None else f"{count} certificates from '{file}'"
    return [f"{DEBUG}TLS, imported {source}"]


def judgement(verdict: Verdict) -> list[str]:
    """Certificates sent, pins, the judgement, and the validated chain apart."""
    return [*_hierarchy(verdict), *_pin_check(verdict), *_trust(verdict), *_validated(verdict), *_warnings(verdict)]


def _hierarchy(verdict: Verdict) -> list[str]:
    if not verdict.presented:
        return [f"{DEBUG}TLS, no certificate received"]
    title = "certificate hierarchy of the session resumed:" if verdict.is_resumed else "received certificate hierarchy:"
    return [f"{DEBUG}TLS, {title}", *_certificates(verdict, verdict.presented)]


def _validated(verdict: Verdict) -> list[str]:
    if not verdict.validated:
        return []
    return [f"{DEBUG}TLS, validated certificate chain:", *_certificates(verdict, verdict.validated)]


def _certificates(verdict: Verdict, certificates: Iterable[CertificateFacts]) -> list[str]:
    lines: list[str] = []
    for number, one in enumerate(certificates, 1):
        lines.append(f"{DEBUG} #{number}, {subject(one.der)}")
        lines.append(f"{DEBUG}     SHA-256 PIN: {one.pin}{_remark(verdict, one)}")
    return lines


def _remark(verdict: Verdict, one: CertificateFacts) -> str:
    if one == matched_certificate(verdict):
        return ", MATCH"
    if one in verdict.strays and one.pin in verdict.policy.pins:
        return ", pinned, but was only sent: proves nothing"
    if one in verdict.strays and verdict.validated:
        return ", stray: no part of the validated chain"
    return ""


def matched_certificate(verdict: Verdict) -> CertificateFacts | None:
    """The certificate whose key a pin names, among those that count: never one that was merely sent."""
    if verdict.matched_depth is None:
        return None
    return (verdict.validated or verdict.presented)[verdict.matched_depth]


def _pin_check(verdict: Verdict) -> list[str]:
    if not verdict.policy.pins:
        return [f"{DEBUG}TLS, skipping certificate PIN check"]
    if verdict.matched_depth is not None:
        chain = " of the validated chain" if verdict.validated else ""
        return [f"{DEBUG}TLS, the PIN of certificate #{verdict.matched_depth + 1}{chain} matches"]
    if verdict.reason is Reason.PIN:
        return [f"{DEBUG}TLS, no certificate PIN match"]
    return [f"{DEBUG}TLS, certificate PINs not compared"]


def _trust(verdict: Verdict) -> list[str]:
    if verdict.reason is Reason.PIN:
        return [f"{DEBUG}TLS, {printable(verdict.explanation)}"]
    if verdict.reason is not None:
        return [f"{DEBUG}TLS, The certificate is NOT trusted. {printable(verdict.explanation)}"]
    if verdict.validated:
        return [f"{DEBUG}TLS, The certificate is trusted."]
    return [f"{DEBUG}TLS, skipping certificate verification"]


def _warnings(verdict: Verdict) -> list[str]:
    return [f";; WARNING: TLS, {printable(warning)}" for warning in verdict.warnings]


def handshake_details(facts: SessionFacts) -> list[str]:
    """What kdig does not say of a session: ALPN, and whether it was resumed."""
    alpn = f"ALPN {printable(facts.alpn)}" if facts.alpn else "no ALPN"
    return [f"{DEBUG}TLS, {alpn}, {'session resumed' if facts.resumed else 'full handshake'}"]


def session(facts: SessionFacts) -> list[str]:
    """The session line, in GnuTLS's names, which kdig uses; what is not known is left out."""
    parts = [facts.version.replace("TLSv", "TLS")]
    if facts.group is not None:
        parts.append(_group(facts.group))
    if facts.signature is not None:
        parts.append(facts.signature.upper().replace("_", "-"))
    parts.append(_cipher(facts.cipher))
    return [f";; TLS session {'-'.join(f'({part})' for part in parts)}"]


def _group(name: str) -> str:
    upper = name.upper()
    if upper.startswith("FFDHE"):
        return f"DHE-{upper}"
    return f"ECDHE-{upper}" if re.fullmatch(r"SECP\d+R1|X25519|X448|BRAINPOOL\w+", upper) else upper


def _cipher(name: str) -> str:
    found = re.search(r"(CHACHA20)[-_](POLY1305)|(AES|ARIA|CAMELLIA)[-_]?(\d+)[-_](GCM|CCM[-_]?8?)", name)
    return "-".join(part.replace("_", "-") for part in found.groups() if part) if found else name


def durations(times: Times) -> list[str]:
    """Where the time went."""
    return [
        f"{DEBUG}Time: connect {times.connect * 1e3:.1f} ms, handshake {times.handshake * 1e3:.1f} ms, "
        f"answer {times.answer * 1e3:.1f} ms"
    ]


# The answer.


@dataclass(frozen=True, slots=True)
class Header:
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


def parse(octets: bytes) -> dns.message.Message:
    """The message with one RRset per record, so that order and repetition stay; raises :class:`Unreadable`."""
    try:
        return dns.message.from_wire(octets, one_rr_per_rrset=True)
    except Exception as error:  # dnspython raises whatever its parsers raise, and the octets are a stranger's
        raise Unreadable(printable(f"{type(error).__name__}: {error}")) from error


def answer(octets: bytes) -> tuple[list[str], str | None]:
    """Header, EDNS and the four sections; where dnspython cannot read them, header and a dump, and the reason."""
    try:
        message = parse(octets)
        return [*_header(octets, message.rcode()), *_edns(message), *_sections(message)], None
    except Unreadable as error:
        reason = str(error)
    lines = [
        *_header(octets, Header.of(octets).rcode),
        "",
        ";; WARNING: the rest of this message cannot be read; its octets:",
        *_dump(octets),
    ]
    return lines, reason


def _header(octets: bytes, rcode: int) -> list[str]:
    header = Header.of(octets)
    flags = dns.flags.to_text(header.flags).lower()
    titles = zip(("QUERY", "ANSWER", "AUTHORITY", "ADDITIONAL"), header.counts, strict=True)
    return [
        f";; ->>HEADER<<- opcode: {_opcode(header.opcode)}; status: {_rcode(rcode)}; id: {header.id}",
        f";; Flags: {flags}; {'; '.join(f'{title}: {count}' for title, count in titles)}",
    ]


def _opcode(opcode: int) -> str:
    return dns.opcode.to_text(dns.opcode.Opcode.make(opcode))


def _rcode(rcode: int) -> str:
    return dns.rcode.to_text(dns.rcode.Rcode.make(rcode))


def _edns(message: dns.message.Message) -> list[str]:
    if message.edns < 0:
        return []
    flags = dns.flags.edns_to_text(message.ednsflags & 0xFFFF).lower()
    # As in kdig: the whole RCODE, but only where EDNS adds bits to it.
    extended = message.rcode() if message.rcode() > 15 else dns.rcode.NOERROR
    return [
        "",
        ";; EDNS PSEUDOSECTION:",
        f";; Version: {message.edns}; flags: {flags}; UDP size: {message.payload} B; ext-rcode: {_rcode(extended)}",
        *(f";; {printable(_option(option))}" for option in message.options),
    ]


def _option(option: dns.edns.Option) -> str:
    data = option.to_wire() or b""
    match option.otype:
        case dns.edns.OptionType.PADDING:
            return f"PADDING: {len(data)} B"
        case dns.edns.OptionType.KEEPALIVE if len(data) == 2:  # in tenths of a second (RFC 7828, section 3.1)
            return f"KEEPALIVE: {int.from_bytes(data) / 10:.1f} s"
        case dns.edns.OptionType.KEEPALIVE if not data:
            return "KEEPALIVE: no timeout stated"
        case dns.edns.OptionType.NSID:
            return f'NSID: {data.hex().upper()} "{data.decode("ascii", "backslashreplace")}"'
        case dns.edns.OptionType.EDE | dns.edns.OptionType.COOKIE | dns.edns.OptionType.ECS:
            title, _, rest = option.to_text().partition(" ")
            return f"{title}: {rest}"
        case other:
            return f"OPTION {int(other)}: {data.hex().upper()}"


def _sections(message: dns.message.Message) -> list[str]:
    lines: list[str] = []
    if message.question:
        lines += ["", ";; QUESTION SECTION:", *map(_question, message.question)]
    for title, section in (
        ("ANSWER", message.answer),
        ("AUTHORITY", message.authority),
        ("ADDITIONAL", message.additional),
    ):
        if section:
            lines += ["", f";; {title} SECTION:", *_each_record(section, _record)]
    return lines


def _question(question: dns.rrset.RRset) -> str:
    return f";; {question.name.to_text():{NAME_WIDTH}}\t\t{_class(question)}\t{_type(question)}"


def _record(record: dns.rrset.RRset, rdata: str) -> str:
    return f"{record.name.to_text():{NAME_WIDTH}}\t{record.ttl}\t{_class(record)}\t{_type(record)}\t{rdata}"


def _each_record(section: Iterable[dns.rrset.RRset], line: Callable[[dns.rrset.RRset, str], str]) -> list[str]:
    """One line a record; raises :class:`Unreadable` where dnspython cannot present one."""
    try:
        return [line(record, printable(rdata.to_text())) for record in section for rdata in record]
    except Exception as error:  # as in parse()
        raise Unreadable(printable(f"{type(error).__name__}: {error}")) from error


def _class(record: dns.rrset.RRset) -> str:
    return dns.rdataclass.to_text(record.rdclass)


def _type(record: dns.rrset.RRset) -> str:
    return dns.rdatatype.to_text(record.rdtype)


def _dump(octets: bytes) -> list[str]:
    shown = octets[:MAX_DUMP]
    lines = [f";; {at:04x}  {shown[at : at + 16].hex(' ')}" for at in range(0, len(shown), 16)]
    if len(octets) > len(shown):
        lines.append(f";; and {len(octets) - len(shown)} octets more")
    return lines


def footer(octets: bytes, when: datetime, server: str, port: int, times: Times) -> list[str]:
    """Size, date and time, and the server with the time that all of it took; ``when`` knows its time zone."""
    return [
        "",
        f";; Received {len(octets)} B",
        f";; Time {when:%Y-%m-%d %H:%M:%S %Z}",
        f";; From {server}@{port}(TCP) in {times.total * 1e3:.1f} ms",
    ]


def short(octets: bytes) -> list[str]:
    """The answer section's data only, one record a line; raises :class:`Unreadable`."""
    return _each_record(parse(octets).answer, lambda _, rdata: rdata)
