"""Files as people have them, DER or PEM (RFC 7468), to DER octets.

Octets that begin with 0x30 are DER and are never searched for PEM: a certificate from the network may carry
somebody else's certificate as text in an extension.

Nothing that may be a certificate is passed over.  A trust anchor that is dropped in silence lets a server be refused
for no visible reason, and a pin that is dropped is not shown to whoever compares pins.  So text between blocks is
passed over (RFC 7468, section 2) unless it looks like a part of a block, and every block must be what was asked for.
Whatever else there is raises an error with its line.  No octets of a block are quoted: they may be a private key's.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass, field
from typing import Final

from . import _der
from .arguments import complaint
from .errors import CertificateError

DER_START: Final = b"\x30"
"The tag of a SEQUENCE, with which both a certificate and a public key begin."

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
"What some editors write before UTF-8; files that were joined have it in the middle too."

CERTIFICATE: Final = ("CERTIFICATE", "X509 CERTIFICATE")
"Labels of a certificate: RFC 7468, section 5.1, and what older programs write."

PUBLIC_KEY: Final = ("PUBLIC KEY",)
"RFC 7468, section 13."

ADVICE: Final = {
    "TRUSTED CERTIFICATE": "its trust settings would be lost; write it without them: openssl x509 -in FILE -out NEW",
    "PKCS7": "take the certificates out of it: openssl pkcs7 -in FILE -print_certs -out NEW",
    "CMS": "take the certificates out of it: openssl pkcs7 -in FILE -print_certs -out NEW",
    "X509 CRL": "revocation lists are not looked at; remove it",
    "CERTIFICATE REQUEST": "a request is not signed by anybody else; give the certificate that was issued for it",
    "RSA PUBLIC KEY": "write it in the common form: openssl rsa -RSAPublicKey_in -in FILE -pubout -out NEW",
    "PUBLIC KEY": "give it in a file of its own",
    "CERTIFICATE": "give it in a file of its own",
}
"What to do about a block that was not asked for, by its label."

CONTAINERS: Final = {
    b"\x02\x01\x03\x30": "it looks like PKCS #12; take the certificates out: openssl pkcs12 -in FILE -nokeys -out NEW",
    b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02": (
        "it looks like PKCS #7; take the certificates out: openssl pkcs7 -inform DER -in FILE -print_certs -out NEW"
    ),
}
"What to do about DER that is no certificate, by what it has near its start."

MARKER: Final = re.compile(rb"-----(BEGIN|END) ([^-]{0,64})-----")

NEARLY: Final = re.compile(rb"[-\s]*(?:BEGIN|END)\b[ _A-Z0-9]*-+\s*", re.IGNORECASE)
"A line that is a marker but for its dashes, spaces or capitals."

INSIDE: Final = re.compile(rb"--[ \t]*(?:BEGIN|END)\b", re.IGNORECASE)
"A marker somewhere in a line, as where two lines were joined."

DASHES: Final = re.compile(rb"\xe2\x80[\x90-\x95]|\xe2\x88\x92|\xef\xb9[\x98\xa3]|\xef\xbc\x8d|[\x96\x97]")
"What word processors make of hyphens, in UTF-8 and in Windows code pages."

BARE: Final = re.compile(rb"MI[A-Za-z0-9+/]{46}")
"How the base64 of DER with more than 127 octets begins, too long to be a pin."

BASE64: Final = re.compile(rb"[A-Za-z0-9+/]*={0,2}")


@dataclass(slots=True)
class _Block:
    label: str
    number: int
    "The number of its first line."
    lines: list[bytes] = field(default_factory=list)


def certificates_from(data: bytes) -> list[bytes]:
    """The certificates, in DER, of one DER certificate or of PEM text that holds one or more.

    A byte order mark and text between blocks are passed over, as OpenSSL does (RFC 7468, section 2).  Any other block,
    a damaged one, and what looks like a part of one are refused, with the line, so that none is missing from the list.
    Raises :class:`~dot_proto.CertificateError`.
    """
    if _is_der(data):
        try:
            _der.public_key_of(data)
        except CertificateError as error:
            raise CertificateError(f"{error}{_advice_on_der(data)}") from None
        return [data]
    found: list[bytes] = []
    for block in _blocks(data, CERTIFICATE):
        der = _decoded(block)
        try:
            _der.public_key_of(der)
        except CertificateError as error:
            raise CertificateError(f"the certificate in line {block.number} cannot be read: {error}") from None
        found.append(der)
    return found


def public_key_from(data: bytes) -> bytes:
    """The SubjectPublicKeyInfo, in DER, of DER octets or of PEM text with one ``PUBLIC KEY`` block and no other.

    Raises :class:`~dot_proto.CertificateError`.
    """
    if _is_der(data):
        _der.key_bits(data)
        return data
    block, *others = _blocks(data, PUBLIC_KEY)
    if others:
        raise CertificateError(f"there is a second public key in line {others[0].number}: give one alone")
    der = _decoded(block)
    try:
        _der.key_bits(der)
    except CertificateError as error:
        raise CertificateError(f"the public key in line {block.number} cannot be read: {error}") from None
    return der


def public_key_to_pem(spki: bytes) -> bytes:
    """A SubjectPublicKeyInfo as every tool writes it: lines of 64 characters (RFC 7468, sections 2 and 13)."""
    text = binascii.b2a_base64(spki, newline=False)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return b"\n".join([b"-----BEGIN PUBLIC KEY-----", *lines, b"-----END PUBLIC KEY-----", b""])


def _is_der(data: bytes) -> bool:
    if not isinstance(data, bytes):
        hint = "give Path(file).read_bytes(), or text.encode() where PEM is at hand as text"
        raise CertificateError(complaint("data", "DER or PEM in octets (bytes)", data, hint))
    return data.startswith(DER_START)


def _advice_on_der(data: bytes) -> str:
    for mark, advice in CONTAINERS.items():
        if mark in data[:32]:
            return f"; {advice}"
    if b"-----BEGIN " in data:
        return "; if this is text: it begins with the digit 0, as DER does; remove what stands before -----BEGIN"
    return ""


def _blocks(data: bytes, wanted: tuple[str, ...]) -> list[_Block]:
    """The PEM blocks, at least one, all with a label of ``wanted``."""
    blocks = _split(data)
    if not blocks:
        raise CertificateError("neither DER, which begins with 0x30, nor PEM, which has a line -----BEGIN ...-----")
    # This first: whatever else is wrong, a private key does not belong where it may be read by others.
    for block in blocks:
        if block.label.endswith("PRIVATE KEY"):
            raise CertificateError(
                f"there is a private key in it ({block.label}), from line {block.number} on: "
                f"give the {wanted[0]} block alone"
            )
    for block in blocks:
        if block.label not in wanted:
            advice = ADVICE.get(block.label, "remove it")
            raise CertificateError(f"line {block.number} begins {block.label}, not {wanted[0]}: {advice}")
    return blocks


def _split(data: bytes) -> list[_Block]:
    """All PEM blocks, whatever their labels; every line is looked at once."""
    if (at := data.find(b"\0-\0")) >= 0:
        raise CertificateError(f"{_line_at(data, at)} is UTF-16 or UTF-32: save the file as ASCII or UTF-8")
    blocks: list[_Block] = []
    block: _Block | None = None
    for number, whole in enumerate(data.splitlines(), 1):
        line = whole.removeprefix(BYTE_ORDER_MARK).strip()
        if match := MARKER.fullmatch(line):
            label = repr(match[2])[2:-1]  # a stranger's octets go into messages
            if match[1] == b"BEGIN":
                if block is not None:
                    raise CertificateError(
                        f"line {number} begins {label} before {block.label} of line {block.number} has ended: "
                        "a part is missing; copy it again"
                    )
                block = _Block(label, number)
                continue
            if block is None:
                raise CertificateError(f"line {number} ends {label}, which has no beginning: copy it again")
            if label != block.label:
                raise CertificateError(
                    f"line {number} ends {label}, but {block.label} began in line {block.number}: copy it again"
                )
            blocks.append(block)
            block = None
        elif _is_nearly_a_marker(line):
            raise CertificateError(
                f"line {number} is nearly a line of PEM: such a line is -----BEGIN LABEL----- or -----END LABEL-----, "
                "with five hyphens on both sides, in capitals, and nothing else"
            )
        elif block is not None:
            block.lines.append(line)
        elif BARE.search(line):
            raise CertificateError(
                f"line {number} looks like base64 of a certificate or key outside a block: put it between lines of "
                "-----BEGIN LABEL----- and -----END LABEL-----"
            )
    if block is not None:
        raise CertificateError(f"{block.label} of line {block.number} has no end: copy it again")
    return blocks


def _is_nearly_a_marker(line: bytes) -> bool:
    if not line.isascii():
        line = DASHES.sub(b"-", line)
    return b"-" in line and (NEARLY.fullmatch(line) is not None or INSIDE.search(line) is not None)


def _decoded(block: _Block) -> bytes:
    """The octets of a block."""
    for number, line in enumerate(block.lines, block.number + 1):
        if BASE64.fullmatch(line):
            continue
        if b":" in line:
            raise CertificateError(f"line {number} is a header, which {block.label} may not have: remove it (RFC 7468)")
        raise CertificateError(f"line {number} is not base64: copy {block.label} of line {block.number} again")
    try:
        return binascii.a2b_base64(b"".join(block.lines), strict_mode=True)
    except binascii.Error as error:
        raise CertificateError(
            f"{block.label} of line {block.number} is not base64 to its end ({error}): copy it again"
        ) from None


def _line_at(data: bytes, at: int) -> str:
    return f"line {len(data[:at].splitlines()) or 1}"
