"""One record as lines of text: columns, units, folding, and what of it is left out."""

from __future__ import annotations

import re
from typing import Final

from dns.rdata import GenericRdata
from dns.rdatatype import RdataType

from .edns_text import duration, units
from .messages import Question, Record, class_text, generic, type_text
from .query_arguments import Display

NAME_WIDTH: Final = 20
"Columns of an owner name, as in kdig."

FOLD: Final = 40
"Characters of a key or a signature on one line, as in kdig."

_INDENT: Final = "\t\t\t\t"

_KEYS: Final = frozenset({RdataType.DNSKEY, RdataType.CDNSKEY, RdataType.KEY})
_SIGNATURES: Final = frozenset({RdataType.RRSIG, RdataType.SIG})
_HEXADECIMAL: Final = frozenset(
    {RdataType.DS, RdataType.CDS, RdataType.DLV, RdataType.TLSA, RdataType.SMIMEA, RdataType.SSHFP, RdataType.ZONEMD}
)
"Types whose last field is hexadecimal, in capitals as in kdig."

_FOLDED: Final = _HEXADECIMAL | {RdataType.OPENPGPKEY, RdataType.CERT, RdataType.DHCID}
"Types whose last field is long, and may be split anywhere."

_NAMED: Final = frozenset(
    {RdataType.CNAME, RdataType.DNAME, RdataType.NS, RdataType.PTR, RdataType.MX, RdataType.SOA, RdataType.SRV}
    | {RdataType.KX, RdataType.AFSDB, RdataType.RP, RdataType.NSEC, RdataType.RRSIG, RdataType.SVCB, RdataType.HTTPS}
)
"Types whose data have names in them."


def question(asked: Question, display: Display, prefix: str) -> str:
    """A question; ``prefix`` makes a comment of it."""
    kind = f"TYPE{asked.rdtype}" if display.generic else type_text(asked.rdtype)
    columns = [*([""] if display.ttl else []), *([class_text(asked.rdclass)] if display.rrclass else []), kind]
    return "\t".join([f"{prefix}{name(asked.name, display):{NAME_WIDTH}}", *columns])


def record(one: Record, display: Display) -> str:
    """A record, on several lines where that is asked for."""
    kind = f"TYPE{one.rdtype}" if display.generic else type_text(one.rdtype)
    columns = [kind, data(one, display)]
    if display.rrclass:
        columns.insert(0, class_text(one.rdclass))
    if display.ttl or display.ttlunits:
        columns.insert(0, units(one.ttl) if display.ttlunits else str(one.ttl))
    separator = " " if display.multiline else "\t"
    return f"{name(one.name, display):{NAME_WIDTH}}\t{separator.join(columns)}"


def data(one: Record, display: Display) -> str:
    """A record's data alone."""
    if display.generic:
        return generic(one.rdata)
    text = one.text
    if one.data is None or isinstance(one.data, GenericRdata):
        return text
    if one.rdtype in _NAMED:
        text = name(text, display)
    if one.rdtype in _KEYS:
        return _key(text, one.rdata, display)
    if one.rdtype in _SIGNATURES:
        return _signature(text, display)
    if one.rdtype in _HEXADECIMAL:
        before, space, last = text.rpartition(" ")
        text = f"{before}{space}{last.upper()}"
    if not display.multiline:
        return text
    if one.rdtype == RdataType.SOA:
        return _soa(text)
    return _folded(text) if one.rdtype in _FOLDED else text


def _soa(text: str) -> str:
    mname, rname, serial, *times = text.split()
    titles = ("refresh", "retry", "expire", "minimum")
    lines = [f"{serial} ; serial"]
    lines += [f"{one} ; {title} ({duration(int(one))})" for title, one in zip(titles, times, strict=True)]
    return _lines(f"{mname} {rname} (", *lines, ")")


def _key(text: str, rdata: bytes, display: Display) -> str:
    """Flags, protocol, algorithm, and the key or what stands for it."""
    flags, protocol, algorithm, *key = text.split(maxsplit=3)
    tag = key_tag(rdata)
    fields = f"{flags} {protocol} {algorithm}"
    if not display.crypto:
        return f"{fields} [id = {tag}]"
    if not display.multiline or not key:
        return text
    role = "KSK" if int(flags) & 1 else "ZSK"
    size = _key_bits(int(algorithm), rdata[4:])
    return _lines(f"{fields} (", *_split(key[0]), f") ; {role}, {_algorithm(int(algorithm))} ({size}b), id = {tag}")


def _signature(text: str, display: Display) -> str:
    fields = text.split(maxsplit=8)
    if len(fields) < 9:
        return text
    if not display.crypto:
        fields[8] = "[omitted]"
    elif display.multiline:
        return _lines(f"{' '.join(fields[:5])} (", " ".join(fields[5:8]), *_split(fields[8]), ")")
    return " ".join(fields)


def _folded(text: str) -> str:
    before, _, last = text.rpartition(" ")
    return _lines(f"{before} (", *_split(last), ")") if before and len(last) > FOLD else text


def _split(text: str) -> list[str]:
    return [text[at : at + FOLD] for at in range(0, len(text), FOLD)]


def _lines(first: str, *others: str) -> str:
    return f"\n{_INDENT}".join([first, *others])


def key_tag(rdata: bytes) -> int:
    """The tag of a DNSKEY (RFC 4034, appendix B)."""
    if len(rdata) > 3 and rdata[3] == 1:  # RSA/MD5 takes two octets of the modulus
        return int.from_bytes(rdata[-3:-1])
    total = sum(octet if at & 1 else octet << 8 for at, octet in enumerate(rdata))
    return total + (total >> 16) & 0xFFFF


def _key_bits(algorithm: int, key: bytes) -> int:
    """Bits of a key: an elliptic curve's coordinate, or RSA's modulus (RFC 3110, section 2)."""
    if algorithm in (13, 14):
        return len(key) * 4
    if algorithm in (15, 16) or not key:
        return len(key) * 8
    length, start = (key[0], 1) if key[0] else (int.from_bytes(key[1:3]), 3)
    return int.from_bytes(key[start + length :]).bit_length()


def _algorithm(number: int) -> str:
    from dns.dnssectypes import Algorithm

    return Algorithm.to_text(Algorithm.make(number))


def name(text: str, display: Display) -> str:
    """Names in ``text`` as they are to be shown: A-labels, or U-labels where that is asked for and safe."""
    if not display.idn or "xn--" not in text.lower():
        return text
    return re.sub(r"(?i)(?<![\w-])xn--[a-z0-9-]+", lambda found: u_label(found[0]), text)


def u_label(label: str) -> str:
    """A label as people write it (RFC 5890), unless it mixes scripts or runs from right to left: those deceive."""
    try:
        import idna
    except ImportError:
        return label
    try:
        decoded = idna.ulabel(label)
    except (idna.IDNAError, UnicodeError):
        return label
    return decoded if _is_safe(decoded) else label


_TOGETHER: Final = (
    frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "LATIN"}),
    frozenset({"CJK", "HANGUL", "LATIN"}),
    frozenset({"CJK", "BOPOMOFO", "LATIN"}),
)
"Scripts that are written together (Unicode Technical Standard 39, section 5.2: highly restrictive)."


def _is_safe(label: str) -> bool:
    import unicodedata

    if not label.isprintable() or any(unicodedata.bidirectional(one) in ("R", "AL", "AN") for one in label):
        return False
    scripts = {unicodedata.name(one, "?").split()[0] for one in label if one.isalpha()}
    return all(one.isalnum() or one == "-" for one in label) and (
        len(scripts) <= 1 or any(scripts <= together for together in _TOGETHER)
    )
