"""A message and its TLS session as one JSON object: the form of RFC 8427, plus the member ``tls``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import dns.flags
import dns.rdatatype

from dot_proto.authentication import CertificateFacts, Verdict

from .answers import rcode_text
from .certificates import date, subject
from .edns_text import EDE, error_name, error_text
from .messages import Edns, Message, Record, class_text, read, type_text
from .presentation import SessionFacts, Times

FLAGS: Final = {
    "AA": dns.flags.AA,
    "TC": dns.flags.TC,
    "RD": dns.flags.RD,
    "RA": dns.flags.RA,
    "AD": dns.flags.AD,
    "CD": dns.flags.CD,
}

COUNTS: Final = ("QDCOUNT", "ANCOUNT", "NSCOUNT", "ARCOUNT")


def document(message: dict[str, Any], when: datetime, tls: dict[str, Any], *, indent: int | None = 2) -> str:
    """All of it as text, on one line where ``indent`` is ``None``; ``when`` knows its time zone."""
    dates = {"dateString": when.isoformat(timespec="seconds"), "dateSeconds": int(when.timestamp())}
    return json.dumps(dates | message | {"tls": tls}, indent=indent)


def asked(name: str, rdtype: int, rdclass: int) -> dict[str, Any]:
    """The members of RFC 8427, section 2.1, that tell a question, where no answer has it."""
    return {
        "QNAME": name,
        "QTYPE": int(rdtype),
        "QTYPEname": type_text(rdtype),
        "QCLASS": int(rdclass),
        "QCLASSname": class_text(rdclass),
    }


def message(octets: bytes) -> tuple[dict[str, Any], str | None]:
    """The members of RFC 8427, sections 2.1 and 2.2, with those for people.

    A record whose data cannot be read by their type has a comment that says why.  A message that cannot be read to
    its end has what was read of it, its octets, and a comment (section 2.5); then the reason is returned too.
    """
    parsed = read(octets)
    header = parsed.header
    members: dict[str, Any] = {
        "msgLength": len(octets),
        "ID": header.id,
        "QR": header.flags >> 15,
        "Opcode": header.opcode,
        **{name: int(bool(header.flags & bit)) for name, bit in FLAGS.items()},
        "RCODE": header.rcode,
        "RCODEname": rcode_text(parsed.rcode),
        **dict(zip(COUNTS, header.counts, strict=True)),
    }
    for question in parsed.questions[:1]:
        members |= asked(question.name, question.rdtype, question.rdclass)
    if errors := _extended_errors(parsed):
        members["EDE"] = errors
    answer, authority, additional = ([_record(one) for one in records] for records in parsed.sections.values())
    sections = {
        "answerRRs": answer,
        "authorityRRs": authority,
        "additionalRRs": additional + [_opt(one) for one in parsed.edns],
    }
    members |= {name: records for name, records in sections.items() if records}
    if parsed.problem is not None:
        members |= {
            "comment": f"the message cannot be read: {parsed.problem}",
            "messageOctetsHEX": _hex(octets),
        }
    elif parsed.warnings:
        members["comment"] = "; ".join(parsed.warnings)
    return members, parsed.problem


def _extended_errors(message: Message) -> list[dict[str, Any]]:
    """RFC 8914; the form of the drafts that follow it: code, purpose and text."""
    found: list[dict[str, Any]] = []
    for edns in message.edns:
        for code, data in edns.options()[0]:
            if code == EDE and len(data) >= 2:
                number = int.from_bytes(data[:2])
                found.append({"INFO-CODE": number, "Purpose": error_name(number), "EXTRA-TEXT": error_text(data)})
    return found


def _record(record: Record) -> dict[str, Any]:
    kind = type_text(record.rdtype)
    members: dict[str, Any] = {
        "NAME": record.name,
        "TYPE": record.rdtype,
        "TYPEname": kind,
        "CLASS": record.rdclass,
        "TTL": record.ttl,
        "CLASSname": class_text(record.rdclass),
    }
    if record.problem is None:
        members[f"rdata{kind}"] = record.text
    else:
        members["comment"] = f"the data cannot be read: {record.problem}"
    return members | _octets(record.rdata)


def _opt(edns: Edns) -> dict[str, Any]:
    """In OPT the class is the UDP payload size, and the data are options (RFC 6891, section 6.1.2)."""
    members = {"NAME": ".", "TYPE": int(dns.rdatatype.OPT), "TYPEname": "OPT", "CLASS": edns.payload, "TTL": edns.ttl}
    return members | _octets(edns.rdata)


def _octets(rdata: bytes) -> dict[str, Any]:
    return {"RDLENGTH": len(rdata)} | ({"RDATAHEX": _hex(rdata)} if rdata else {})


def tls(
    facts: SessionFacts | None, verdict: Verdict | None, times: Times | None, errors: Iterable[str] = ()
) -> dict[str, Any]:
    """Our own member: the session, the verdict, the times in seconds; ``None`` is what was not reached.

    ``errors`` is what went wrong, as it is also said on stderr.
    """
    members: dict[str, Any] = {}
    if facts is not None:
        members |= {
            "version": facts.version,
            "cipher": facts.cipher,
            "group": facts.group,
            "signature": facts.signature,
            "alpn": facts.alpn,
            "resumed": facts.resumed,
        }
    members["verdict"] = None if verdict is None else _verdict(verdict)
    members["times"] = (
        None
        if times is None
        else {"connect": times.connect, "handshake": times.handshake, "answer": times.answer, "total": times.total}
    )
    members["errors"] = list(errors)
    return members


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "accepted": verdict.accepted,
        "authenticated": verdict.authenticated,
        "reason": None if verdict.reason is None else verdict.reason.value,
        "explanation": verdict.explanation,
        "warnings": list(verdict.warnings),
        "matchedPin": None if verdict.matched_pin is None else str(verdict.matched_pin),
        "matchedDepth": verdict.matched_depth,
        "presented": chain(verdict),
        "validated": [certificate(one) for one in verdict.validated],
    }


def chain(verdict: Verdict) -> list[dict[str, Any]]:
    """The certificates as they were sent, leaf first; of one that cannot be read, why, in its place."""
    found = {number: certificate(one) for number, one in verdict.numbered}
    found |= {number: unreadable(why) for number, why in verdict.unreadable}
    return [found[number] for number in sorted(found)]


def unreadable(why: str) -> dict[str, Any]:
    """A certificate that cannot be read, with the members of one that can."""
    return {"subject": None, "pin": None, "notBefore": None, "notAfter": None, "comment": why}


def certificate(one: CertificateFacts) -> dict[str, Any]:
    """One certificate: whose it is, its pin and its dates; ``None`` is a date that cannot be read or shown."""
    return {
        "subject": subject(one.der),
        "pin": str(one.pin),
        "notBefore": _moment(one.not_before),
        "notAfter": _moment(one.not_after),
    }


def _moment(seconds: int | None) -> str | None:
    found = date(seconds)
    return None if found is None else found.isoformat()


def _hex(octets: bytes) -> str:
    return octets.hex().upper()
