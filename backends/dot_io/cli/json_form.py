"""A message and its TLS session as one JSON object: the form of RFC 8427, plus the member ``tls``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import dns.flags
import dns.message
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from dot_proto.authentication import CertificateFacts, Verdict

from ._errors import printable
from .certificates import subject
from .presentation import Header, SessionFacts, Times, parse

FLAGS: Final = {
    "AA": dns.flags.AA,
    "TC": dns.flags.TC,
    "RD": dns.flags.RD,
    "RA": dns.flags.RA,
    "AD": dns.flags.AD,
    "CD": dns.flags.CD,
}

COUNTS: Final = ("QDCOUNT", "ANCOUNT", "NSCOUNT", "ARCOUNT")


def document(message: dict[str, Any], when: datetime, tls: dict[str, Any]) -> str:
    """All of it as text; ``message`` is empty where no answer came, and ``when`` knows its time zone."""
    dates = {"dateString": when.isoformat(timespec="seconds"), "dateSeconds": int(when.timestamp())}
    return json.dumps(dates | message | {"tls": tls}, indent=2)


def message(octets: bytes) -> tuple[dict[str, Any], str | None]:
    """The members of RFC 8427, sections 2.1 and 2.2, with those for people.

    A message that cannot be read has its header, its octets, and a comment that says why (section 2.5); then
    the reason is returned too.
    """
    header = Header.of(octets)
    members: dict[str, Any] = {
        "msgLength": len(octets),
        "ID": header.id,
        "QR": header.flags >> 15,
        "Opcode": header.opcode,
        **{name: int(bool(header.flags & bit)) for name, bit in FLAGS.items()},
        "RCODE": header.rcode,
        **dict(zip(COUNTS, header.counts, strict=True)),
    }
    try:
        return members | _body(parse(octets)), None
    except Exception as error:  # Unreadable, or whatever dnspython raises where it cannot present a record
        reason = printable(str(error))
    return members | {"comment": f"the message cannot be read: {reason}", "messageOctetsHEX": _hex(octets)}, reason


def _body(parsed: dns.message.Message) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for question in parsed.question[:1]:
        members |= {
            "QNAME": question.name.to_text(),
            "QTYPE": int(question.rdtype),
            "QTYPEname": dns.rdatatype.to_text(question.rdtype),
            "QCLASS": int(question.rdclass),
            "QCLASSname": dns.rdataclass.to_text(question.rdclass),
        }
    sections = {
        "answerRRs": _records(parsed.answer),
        "authorityRRs": _records(parsed.authority),
        "additionalRRs": _records(parsed.additional) + _records([parsed.opt] if parsed.opt else []),
    }
    return members | {name: records for name, records in sections.items() if records}


def _records(section: Iterable[dns.rrset.RRset]) -> list[dict[str, Any]]:
    return [_record(record, rdata) for record in section for rdata in record]


def _record(record: dns.rrset.RRset, rdata: Any) -> dict[str, Any]:
    octets: bytes = rdata.to_wire()
    kind = dns.rdatatype.to_text(record.rdtype)
    members: dict[str, Any] = {
        "NAME": record.name.to_text(),
        "TYPE": int(record.rdtype),
        "TYPEname": kind,
        "CLASS": int(record.rdclass),
        "TTL": int(record.ttl),
    }
    # In OPT the class is the UDP payload size, and the data are options (RFC 6891, section 6.1.2).
    if record.rdtype != dns.rdatatype.OPT:
        members |= {"CLASSname": dns.rdataclass.to_text(record.rdclass), f"rdata{kind}": rdata.to_text()}
    members["RDLENGTH"] = len(octets)
    if octets:
        members["RDATAHEX"] = _hex(octets)
    return members


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
        "presented": [certificate(one) for one in verdict.presented],
        "validated": [certificate(one) for one in verdict.validated],
    }


def certificate(one: CertificateFacts) -> dict[str, Any]:
    """One certificate: whose it is, its pin and its dates."""
    return {
        "subject": subject(one.der),
        "pin": str(one.pin),
        "notBefore": _date(one.not_before),
        "notAfter": _date(one.not_after),
    }


def _date(seconds: int | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def _hex(octets: bytes) -> str:
    return octets.hex().upper()
