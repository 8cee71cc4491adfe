"""Files as people have them, DER or PEM (RFC 7468), to DER octets.

Octets that begin with 0x30 are DER and are never searched for PEM: a certificate from the network may carry
somebody else's certificate as text in an extension.
"""

from __future__ import annotations

import binascii
from typing import Final

from . import _der
from .arguments import complaint
from .errors import CertificateError

DER_START: Final = b"\x30"
"The tag of a SEQUENCE, with which both a certificate and a public key begin."


def certificates_from(data: bytes) -> list[bytes]:
    """The certificates, in DER, of one DER certificate or of PEM text that holds one or more.

    Other blocks and text between blocks are passed over (RFC 7468, section 2), but a private key is refused.
    Raises :class:`~dot_proto.CertificateError`.
    """
    _check_octets(data)
    certificates = [data] if data.startswith(DER_START) else _decode(data, "CERTIFICATE")
    for der in certificates:
        _der.public_key_of(der)
    return certificates


def public_key_from(data: bytes) -> bytes:
    """The SubjectPublicKeyInfo, in DER, of DER octets or of the first ``PUBLIC KEY`` block of PEM text.

    Raises :class:`~dot_proto.CertificateError`.
    """
    _check_octets(data)
    der = data if data.startswith(DER_START) else _decode(data, "PUBLIC KEY")[0]
    _der.key_bits(der)
    return der


def public_key_to_pem(spki: bytes) -> bytes:
    """A SubjectPublicKeyInfo as every tool writes it: lines of 64 characters (RFC 7468, sections 2 and 13)."""
    text = binascii.b2a_base64(spki, newline=False)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return b"\n".join([b"-----BEGIN PUBLIC KEY-----", *lines, b"-----END PUBLIC KEY-----", b""])


def _check_octets(data: object) -> None:
    if not isinstance(data, bytes):
        hint = "read the file: Path(...).read_bytes()" if hasattr(data, "__fspath__") else ""
        if isinstance(data, str):
            hint = "text in PEM has encode(), and a file that it names read_bytes()"
        raise CertificateError(complaint("data", "DER or PEM in octets (bytes)", data, hint))


def _decode(data: bytes, wanted: str) -> list[bytes]:
    """The content of the PEM blocks with the label ``wanted``; at least one."""
    blocks = _blocks(data)
    if not blocks:
        raise CertificateError("neither DER, which begins with 0x30, nor PEM, which has a line -----BEGIN ...-----")
    labels = [label for label, _ in blocks]
    for label in labels:
        if label.endswith("PRIVATE KEY"):
            raise CertificateError(f"there is a private key in it ({label}): give the {wanted} block alone")
    try:
        found = [binascii.a2b_base64(body, strict_mode=True) for label, body in blocks if label == wanted]
    except binascii.Error as error:
        raise CertificateError(f"the {wanted} block is not base64: {error}") from None
    if not found:
        raise CertificateError(f"no {wanted} block, only {', '.join(labels)}")
    return found


def _blocks(data: bytes) -> list[tuple[str, bytes]]:
    """The labels and the base64 text of all PEM blocks."""
    blocks: list[tuple[str, bytes]] = []
    label: bytes | None = None
    body: list[bytes] = []
    for line in map(bytes.strip, data.splitlines()):
        if line.startswith(b"-----BEGIN ") and line.endswith(b"-----"):
            if label is not None:
                raise CertificateError(f"a PEM block begins before {_text(label)} has ended")
            label, body = line[11:-5], []
        elif label is None:
            continue  # text between blocks
        elif line == b"-----END %s-----" % label:
            blocks.append((_text(label), b"".join(body)))
            label = None
        else:
            body.append(line)
    if label is not None:
        raise CertificateError(f"the PEM block {_text(label)} has no end")
    return blocks


def _text(label: bytes) -> str:
    return label.decode("ascii", "backslashreplace")
