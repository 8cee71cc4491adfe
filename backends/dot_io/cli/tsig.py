"""Queries signed and answers checked by TSIG (RFC 8945), with dnspython's code."""

from __future__ import annotations

import struct
import time
from typing import Final

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TSIG
import dns.tsig

from ._errors import printable
from .keys import Key
from .messages import Message

FUDGE: Final = 300
"Seconds by which the two clocks may differ (RFC 8945, section 10)."


def sign(message: bytes, key: Key) -> bytes:
    """The message with a TSIG record at its end."""
    count = struct.unpack_from("!H", message, 10)[0] + 1
    return message[:10] + struct.pack("!H", count) + message[12:] + signature_of(message, key)


def signature_of(message: bytes, key: Key) -> bytes:
    """The TSIG record, whose length depends on the key alone."""
    number = struct.unpack_from("!H", message)[0]
    now = int(time.time())
    algorithm = dns.name.from_text(key.algorithm)
    template = dns.rdtypes.ANY.TSIG.TSIG(  # type: ignore[no-untyped-call]
        dns.rdataclass.ANY, dns.rdatatype.TSIG, algorithm, now, FUDGE, b"", number, 0, b""
    )
    signed = dns.tsig.sign(message, _key(key), template, now, b"")  # type: ignore[no-untyped-call]
    rdata = signed[0].to_wire() or b""
    owner = dns.name.from_text(key.name).to_wire() or b""
    return owner + struct.pack("!HHIH", dns.rdatatype.TSIG, dns.rdataclass.ANY, 0, len(rdata)) + rdata


def problem(octets: bytes, message: Message, key: Key, query: bytes, asked: Message) -> str | None:
    """What is wrong with an answer's TSIG, in words; ``message`` is the answer and ``asked`` the query, as read."""
    if message.tsig is None:
        return "the answer is not signed"
    mac = _rdata(query, asked).mac
    try:
        dns.tsig.validate(  # type: ignore[no-untyped-call]
            octets,
            _key(key),
            dns.name.from_text(message.tsig.owner),
            _rdata(octets, message),
            int(time.time()),
            mac,
            message.tsig.start,
        )
    except dns.exception.DNSException as error:
        text = printable(str(error)) or type(error).__name__
        return text[:1].lower() + text[1:].rstrip(".")
    except Exception as error:  # whatever a parser of dnspython's raises
        return f"it cannot be read: {printable(str(error)) or type(error).__name__}"
    return None


def _key(key: Key) -> dns.tsig.Key:
    return dns.tsig.Key(key.name, key.secret, key.algorithm)


def _rdata(octets: bytes, message: Message) -> dns.rdtypes.ANY.TSIG.TSIG:
    assert message.tsig is not None, "the caller has looked"
    found = message.tsig
    rdata = dns.rdata.from_wire(dns.rdataclass.ANY, dns.rdatatype.TSIG, octets, found.rdata_start, found.length)
    assert isinstance(rdata, dns.rdtypes.ANY.TSIG.TSIG)
    return rdata
