"""Build a plain query without any dependency; everything richer is dnspython's job."""

from __future__ import annotations

from typing import Final

from ._edns import UDP_PAYLOAD_SIZE
from ._message import HEADER, MAX_NAME, RD, TYPE_OPT
from .arguments import check_flag, complaint, shown
from .errors import MessageError

CLASS_IN: Final = 1
"The Internet class (RFC 1035, section 3.2.4)."

MAX_LABEL: Final = 63
"Octets of a label (RFC 1035, section 2.3.4)."

TYPES: Final[dict[str, int]] = {
    "A": 1,
    "NS": 2,
    "CNAME": 5,
    "SOA": 6,
    "PTR": 12,
    "MX": 15,
    "TXT": 16,
    "AAAA": 28,
    "SRV": 33,
    "NAPTR": 35,
    "DS": 43,
    "SSHFP": 44,
    "RRSIG": 46,
    "NSEC": 47,
    "DNSKEY": 48,
    "TLSA": 52,
    "SVCB": 64,
    "HTTPS": 65,
    "AXFR": 252,
    "ANY": 255,
    "CAA": 257,
}
"The types that have a name here (IANA, Resource Record Types); any other goes by its number."


def make_query(
    name: str,
    rdtype: str | int = "A",
    *,
    rdclass: int = CLASS_IN,
    message_id: int = 0,
    recursion_desired: bool = True,
    dnssec_ok: bool = False,
) -> bytes:
    """A query of one question, with OPT; 12 to about 290 octets.

    ``name`` is ASCII, with or without the final dot: an internationalised name must come as A-labels (RFC 5891),
    and escapes (RFC 1035, section 5.1) are not read.  ``rdtype`` is a mnemonic of
    :data:`dot_proto.query.TYPES`, ``TYPE65280`` (RFC 3597, section 5), or a number.  The id may stay 0: the
    connection draws its own.

    Raises :class:`~dot_proto.MessageError`, which says what is wrong with the name, the type or a number.
    """
    check_flag("recursion_desired", recursion_desired)
    check_flag("dnssec_ok", dnssec_ok)
    flags = RD if recursion_desired else 0
    header = HEADER.pack(_number("message_id", message_id), flags, 1, 0, 0, 1)
    question = encode_name(name) + _type_number(rdtype).to_bytes(2) + _number("rdclass", rdclass).to_bytes(2)
    ttl = 0x8000 if dnssec_ok else 0  # version 0, and the DO bit (RFC 6891, section 6.1.4)
    opt = b"\0" + TYPE_OPT.to_bytes(2) + UDP_PAYLOAD_SIZE.to_bytes(2) + ttl.to_bytes(4) + b"\0\0"
    return header + question + opt


def encode_name(name: str) -> bytes:
    """A domain name on the wire, uncompressed (RFC 1035, section 3.1); raises :class:`~dot_proto.MessageError`."""
    if not isinstance(name, str):
        hint = "give its to_text()" if hasattr(name, "to_text") else ""
        raise MessageError(complaint("name", "a domain name as text", name, hint))
    if not name.isascii():
        raise MessageError(f"{shown(name)} is not ASCII: give the A-label form (IDNA, RFC 5891)")
    if "\\" in name:
        raise MessageError(f"{shown(name)}: escapes are not read here; let dnspython make such a query")
    labels = name.removesuffix(".").split(".") if name != "." else []
    octets = bytearray()
    for label in labels:
        if not label:
            raise MessageError(f"{shown(name)} has an empty label")
        if len(label) > MAX_LABEL:
            raise MessageError(f"a label has at most {MAX_LABEL} octets, not {len(label)}: {shown(label)}")
        octets.append(len(label))
        octets += label.encode("ascii")
    octets.append(0)
    if len(octets) > MAX_NAME:
        raise MessageError(f"a name has at most {MAX_NAME} octets on the wire, not {len(octets)}: {shown(name)}")
    return bytes(octets)


def _type_number(rdtype: str | int) -> int:
    if not isinstance(rdtype, str):
        return _number("rdtype", rdtype)
    mnemonic = rdtype.upper()
    number = TYPES.get(mnemonic)
    if number is not None:
        return number
    digits = mnemonic.removeprefix("TYPE")
    if mnemonic != digits and digits.isdecimal() and digits.isascii():
        return _number("rdtype", int(digits))
    raise MessageError(
        f"rdtype {shown(rdtype)} is no type known here; give its number, for instance TYPE65280 (RFC 3597)"
    )


def _number(what: str, value: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise MessageError(complaint(what, "a whole number, 0 to 65535", value))
    if not 0 <= value <= 0xFFFF:
        raise MessageError(f"{what} is {shown(value)}; it has 16 bits, 0 to 65535")
    return value


def not_octets(message: object, what: str = "a query") -> str:
    """What is wrong with a message that is not ``bytes``, and what to do."""
    if isinstance(message, str) and what == "a query":
        return f"a query must be a DNS message in octets, not text: make_query({shown(message)}) makes one"
    hint = "call its to_wire()" if hasattr(message, "to_wire") else ""
    if isinstance(message, (bytearray, memoryview)):
        hint = "give bytes(...) of it"
    return complaint(what, "a DNS message in octets (bytes)", message, hint)
