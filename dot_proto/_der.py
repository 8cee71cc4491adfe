"""Certificate octets in, SubjectPublicKeyInfo octets out, and nothing more (RFC 5280, section 4.1).

Theory of operation.  A certificate is a tree of elements: a tag, a length, and so many octets.  The walk goes
from offset to offset, each field with the tag that it must have, and decodes nothing: what goes into a pin is a
slice of the octets that came.  (A library that decodes a key and encodes it again makes another pin of a
compressed point or of RSA-PSS parameters.)  Offsets only grow, so that bounds need no check at each field: it is
enough that an element's last field ends where the element does, and the outermost one where the octets do.

The walk is stricter than it must be.  What it accepts has one reading only, so that no other parser can be made
to see another key in the same octets.  It never looks into names, extensions and signatures.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from .errors import CertificateError

INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
SEQUENCE: Final = 0x30

VERSION_TAG: Final = 0xA0
VERSIONS: Final = (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x01")
"v3 and v2 as they stand in a certificate.  v1 is the default, and DER leaves a default out (X.690, section 11.5)."

OPTIONS: Final = (0x81, 0x82, 0xA3)
"issuerUniqueID, subjectUniqueID and extensions: behind the key, in this order, each at most once."

INHERITED_PARAMETERS: Final = frozenset(
    (
        bytes.fromhex("3009 0607 2a8648ce380401"),  # id-dsa, no parameters (RFC 3279, section 2.3.2)
        bytes.fromhex("3009 0607 2a8648ce3d0201"),  # id-ecPublicKey, no parameters
        bytes.fromhex("300b 0607 2a8648ce3d0201 0500"),  # id-ecPublicKey, implicitCurve (RFC 5480, section 2.1.1)
    )
)
"AlgorithmIdentifiers that leave a part of the key to the issuer's certificate."

TIME: Final = re.compile(rb"(?:\x17\x0d|\x18\x0f(\d\d))(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z")
"UTCTime and GeneralizedTime, with their tags and lengths, in the one form that RFC 5280 allows each."


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the protocol looks at in a certificate; the octets are slices of the certificate's own."""

    spki: bytes
    "The SubjectPublicKeyInfo, tag and length included: what a pin is the hash of."
    issuer: bytes
    "The issuer's Name, tag and length included."
    subject: bytes
    "The subject's Name, tag and length included."
    not_before: int | None
    "POSIX seconds, or ``None`` where the date has no form of RFC 5280, section 4.1.2.5."
    not_after: int | None
    "POSIX seconds, or ``None`` as above."


def read_certificate(der: bytes) -> Certificate:
    """Read one certificate in DER; raises :class:`~dot_proto.CertificateError`."""
    issuer, validity, subject, spki, end = _fields_of(der)
    not_before = _enter(der, validity, SEQUENCE, "validity")[0]
    not_after = min(not_before + 2 + der[not_before + 1], subject)
    return Certificate(
        spki=der[spki:end],
        issuer=der[issuer:validity],
        subject=der[subject:spki],
        not_before=_seconds(der[not_before:not_after]),
        not_after=_seconds(der[not_after:subject]),
    )


def public_key_of(der: bytes) -> bytes:
    """The SubjectPublicKeyInfo octets of a certificate in DER; raises :class:`~dot_proto.CertificateError`."""
    _, _, _, spki, end = _fields_of(der)
    return der[spki:end]


def key_bits(spki: bytes) -> bytes:
    """The bare key of a SubjectPublicKeyInfo: the content of its BIT STRING (RFC 5280, section 4.1.2.7).

    Raises :class:`~dot_proto.CertificateError` if the octets are anything but one whole SubjectPublicKeyInfo.
    """
    try:
        bits, end = _key_of(spki, 0)
    except IndexError:
        raise _cut_off(spki) from None
    if end != len(spki):
        raise _trailing("SubjectPublicKeyInfo", end)
    return spki[bits:]


BASIC_CONSTRAINTS: Final = bytes.fromhex("0603551d13")
KEY_USAGE: Final = bytes.fromhex("0603551d0f")
NAME_CONSTRAINTS: Final = bytes.fromhex("0603551d1e")
EXTENSIONS_TAG: Final = 0xA3
OCTET_STRING: Final = 0x04
BOOLEAN: Final = 0x01
IS_AUTHORITY: Final = b"\x01\x01\xff"
"``cA``, as it stands in basic constraints (RFC 5280, section 4.2.1.9)."
KEY_CERT_SIGN: Final = 0x04
"Bit 5 of KeyUsage, in its first octet (RFC 5280, section 4.2.1.3)."
SUBTREES: Final = (0xA0, 0xA1)
"permittedSubtrees and excludedSubtrees (RFC 5280, section 4.2.1.10)."
TEXT_NAMES: Final = (0x81, 0x82, 0x86)
"rfc822Name, dNSName and uniformResourceIdentifier: ASCII (RFC 5280, section 4.2.1.6)."
ADDRESS_NAME: Final = 0x87
"iPAddress; in name constraints an address and its mask."


def may_issue(der: bytes) -> bool:
    """Whether a certificate says ``cA`` in its basic constraints, and lets its key sign certificates.

    Without a key usage the key may be used for anything (RFC 5280, section 4.2.1.3).  Whatever cannot be read means no:
    its basic constraints with the length of the path, its key usage, its name constraints, and an extension that is
    there twice.  ``der`` is a certificate that :func:`read_certificate` has read.
    """
    try:
        found = _extensions(der)
        usage, limits = found.get(KEY_USAGE), found.get(NAME_CONSTRAINTS)
        return (
            _is_authority(found.get(BASIC_CONSTRAINTS, b""))
            and (usage is None or _may_sign(usage))
            and (limits is None or _are_limits(limits))
        )
    except (IndexError, CertificateError):
        return False


def _extensions(der: bytes) -> dict[bytes, bytes]:
    """The content of each extension by its identifier, tag and length included; only v3 has extensions."""
    tbs, _ = _enter(der, 0, SEQUENCE, "Certificate")
    version, _ = _enter(der, tbs, SEQUENCE, "tbsCertificate")
    if not der.startswith(VERSIONS[0], version):
        return {}
    *_, at = _fields_of(der)
    for tag in OPTIONS[:2]:
        if der[at] == tag:
            at = _skip(der, at, tag, "an optional field")
    start, outer_end = _enter(der, at, EXTENSIONS_TAG, "extensions")
    at, end = _enter(der, start, SEQUENCE, "Extensions")
    if end != outer_end:
        raise _trailing("Extensions", end)
    found: dict[bytes, bytes] = {}
    while at < end:
        name, at_end = _enter(der, at, SEQUENCE, "Extension")
        value = _skip(der, name, 0x06, "extnID")
        kind = der[name:value]
        if der[value] == BOOLEAN:
            value = _skip(der, value, BOOLEAN, "critical")
        content, content_end = _enter(der, value, OCTET_STRING, "extnValue")
        if content_end != at_end or kind in found:
            raise CertificateError(f"Extension at offset {at} has something behind it, or is there twice")
        found[kind], at = der[content:content_end], at_end
    if at != end:
        raise _trailing("Extension", at)
    return found


def _is_authority(constraints: bytes) -> bool:
    """Whether BasicConstraints have ``cA``, and a length of the path that can be read, or none."""
    at, end = _enter(constraints, 0, SEQUENCE, "BasicConstraints")
    if end != len(constraints) or not constraints.startswith(IS_AUTHORITY, at):
        return False
    at += len(IS_AUTHORITY)
    if at == end:
        return True
    number, number_end = _enter(constraints, at, INTEGER, "pathLenConstraint")
    digits = constraints[number:number_end]
    is_minimal = digits[0] != 0 or len(digits) == 1 or digits[1] >= 0x80
    return number_end == end and digits[0] < 0x80 and is_minimal


def _may_sign(usage: bytes) -> bool:
    """Whether a KeyUsage that can be read has ``keyCertSign``."""
    bits, end = _enter(usage, 0, BIT_STRING, "KeyUsage")
    unused = usage[bits]
    is_whole = end == len(usage) and bits + 1 < end and unused < 8 and not usage[-1] & ((1 << unused) - 1)
    return is_whole and bool(usage[bits + 1] & KEY_CERT_SIGN)


def _are_limits(limits: bytes) -> bool:
    """Whether NameConstraints can be read."""
    at, end = _enter(limits, 0, SEQUENCE, "NameConstraints")
    if end != len(limits) or at == end:
        return False
    for tag in SUBTREES:
        if at < end and limits[at] == tag:
            tree, at = _enter(limits, at, tag, "GeneralSubtrees")
            if tree == at:
                return False
            while tree < at:
                base, tree_end = _enter(limits, tree, SEQUENCE, "GeneralSubtree")
                kind = limits[base]
                start, name_end = _enter(limits, base, kind, "base")
                # RFC 5280 has no minimum but 0, which is left out, and no maximum.
                if name_end != tree_end or not _is_base(kind, limits[start:name_end]):
                    return False
                tree = tree_end
            if tree != at:
                return False
    return at == end


def _is_base(kind: int, name: bytes) -> bool:
    """Whether a GeneralName of this tag may be the base of a subtree."""
    if kind == ADDRESS_NAME:
        return len(name) in (8, 32)
    return name.isascii() if kind in TEXT_NAMES else kind & 0xC0 == 0x80 and kind & 0x1F <= 8


def _fields_of(der: bytes) -> tuple[int, int, int, int, int]:
    """Where issuer, validity, subject and subjectPublicKeyInfo start, and where the last one ends."""
    try:
        tbs, end = _enter(der, 0, SEQUENCE, "Certificate")
        serial, tbs_end = _enter(der, tbs, SEQUENCE, "tbsCertificate")
        if der[serial] == VERSION_TAG:
            if der[serial : serial + 5] not in VERSIONS:
                raise CertificateError(f"version at offset {serial} is neither v2 nor v3 in DER")
            serial += 5
        signature = _skip(der, serial, INTEGER, "serialNumber")
        if der[serial + 1] == 0:
            raise CertificateError(f"serialNumber at offset {serial} is empty")
        issuer = _skip(der, signature, SEQUENCE, "signature")
        validity = _skip(der, issuer, SEQUENCE, "issuer")
        subject = _skip(der, validity, SEQUENCE, "validity")
        spki = _skip(der, subject, SEQUENCE, "subject")
        _, spki_end = _key_of(der, spki)
        at = spki_end
        for tag in OPTIONS:
            if der[at] == tag:
                at = _skip(der, at, tag, "an optional field")
        if at != tbs_end:
            raise CertificateError(f"tbsCertificate does not end at offset {at}: unknown field, or out of order")
        at = _skip(der, at, SEQUENCE, "signatureAlgorithm")
        at = _skip(der, at, BIT_STRING, "signatureValue")
        if at != end:
            raise _trailing("signatureValue", at)
    except IndexError:
        raise _cut_off(der) from None
    if end != len(der):
        raise _trailing("Certificate", end)
    return issuer, validity, subject, spki, spki_end


def _key_of(der: bytes, at: int) -> tuple[int, int]:
    """Where the bare key starts and ends in the SubjectPublicKeyInfo at ``at``."""
    algorithm, end = _enter(der, at, SEQUENCE, "SubjectPublicKeyInfo")
    key = _skip(der, algorithm, SEQUENCE, "algorithm")
    bits, key_end = _enter(der, key, BIT_STRING, "subjectPublicKey")
    if key_end != end:
        raise CertificateError(f"subjectPublicKey at offset {key} does not end with its SubjectPublicKeyInfo")
    if end - bits < 2 or der[bits] != 0:
        raise CertificateError(f"subjectPublicKey at offset {key} is empty or has unused bits")
    if der[algorithm:key] in INHERITED_PARAMETERS:
        raise CertificateError(
            f"the key at offset {at} is incomplete, since it inherits parameters from its issuer: "
            "it cannot be pinned (RFC 7469, section 2.4)"
        )
    return bits + 1, end


def _skip(der: bytes, at: int, tag: int, name: str) -> int:
    """Where the element at ``at``, which must have this tag, ends."""
    if der[at] == tag and (length := der[at + 1]) < 0x80:
        return at + 2 + length
    return _enter(der, at, tag, name)[1]


def _enter(der: bytes, at: int, tag: int, name: str) -> tuple[int, int]:
    """Where the content of the element at ``at``, which must have this tag, starts and ends."""
    if der[at] != tag:
        raise CertificateError(f"{name} expected at offset {at}: tag 0x{tag:02x}, not 0x{der[at]:02x}")
    length = der[at + 1]
    if length < 0x80:
        return at + 2, at + 2 + length
    # Three octets are enough: TLS counts a certificate in 24 bits (RFC 8446, section 4.4.2).
    if length == 0x81:
        start, least, length = at + 3, 0x80, der[at + 2]
    elif length == 0x82:
        start, least, length = at + 4, 0x100, der[at + 2] << 8 | der[at + 3]
    elif length == 0x83:
        start, least, length = at + 5, 0x10000, der[at + 2] << 16 | der[at + 3] << 8 | der[at + 4]
    else:
        raise CertificateError(f"{name} at offset {at} has an indefinite length, or one of more than 3 octets")
    if length < least:
        raise CertificateError(f"{name} at offset {at} has a length that is not minimal: not DER")
    return start, start + length


def _cut_off(der: bytes) -> CertificateError:
    return CertificateError(f"cut off at offset {len(der)}")


def _trailing(name: str, at: int) -> CertificateError:
    return CertificateError(f"{name} does not end where it should, at offset {at}")


def _seconds(time: bytes) -> int | None:
    """POSIX seconds of a Time, or ``None`` (RFC 5280, section 4.1.2.5)."""
    if not (match := TIME.fullmatch(time)):
        return None
    century, year, month, day, hour, minute, second = (int(part or 0) for part in match.groups())
    if match[1] is None:
        century = 19 if year >= 50 else 20  # RFC 5280, section 4.1.2.5.1
    year += 100 * century
    if year == 0:  # which no calendar of other programs has, and no clock ever shows
        return None
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not (1 <= month <= 12 and hour < 24 and minute < 60 and second < 60):
        return None
    if not 1 <= day <= (31, 28 + is_leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]:
        return None
    # Years that begin in March: the leap day comes last, and five months have 153 days wherever they begin.
    year, month = (year, month - 3) if month > 2 else (year - 1, month + 9)
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day - 1
    return ((days - EPOCH_DAYS) * 24 + hour) * 3600 + minute * 60 + second


EPOCH_DAYS: Final = 719_468
"Days from 1 March of the year 0 to 1 January 1970 (Gregorian calendar)."
