"""SPKI pins: parse, print, compute, compare (RFC 7858, section 4.2; RFC 7469, section 2.4)."""

from __future__ import annotations

import binascii
import re
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from . import _der
from ._pem import certificates_from, public_key_from, public_key_to_pem
from .arguments import check_octets, collected, complaint
from .errors import PinError

DIGEST_LENGTH: Final = 32
"Octets of a SHA-256 digest (FIPS 180-4)."

TEXT_LENGTH: Final = 44
"Characters of 32 octets in base64, one ``=`` included (RFC 4648, section 4)."

COMMAND: Final = (
    "openssl x509 -in server.pem -noout -pubkey | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary"
    " | openssl base64"
)
"What makes the pin of a certificate in a shell."

OPTION: Final = re.compile(r"[-+]{0,2}tls-pin[= ].*", re.IGNORECASE | re.DOTALL)
"How kdig and our own command are told a pin."

LABELLED: Final = re.compile(r"pin-([a-z0-9-]+)=(.+)|(sha[0-9]+)/(.*)", re.IGNORECASE | re.DOTALL)
"A directive of RFC 7469, section 2.1.1, or the form that browsers and mobile systems write."

WHOLE: Final = re.compile(rf"[A-Za-z0-9+/]{{{TEXT_LENGTH - 1}}}=")
"A pin, up to its trailing bits."

HEX: Final = re.compile(
    rf"(?:0x)?(?:{'|'.join(f'(?:[0-9a-f]{{2}}[: -]?){{{octets}}}' for octets in (20, 32, 48, 64))})\s*", re.IGNORECASE
)
"A digest in hexadecimal digits, as programs write it, of SHA-1, SHA-256, SHA-384 or SHA-512."

FILE: Final = re.compile(r".*[/.](?:pem|crt|cer|der|key|pub)\s*", re.IGNORECASE | re.DOTALL)
"The name of a file, by its ending."

SEPARATOR: Final = re.compile(r"(?<==)([,;\s])\s*\S")
"What stands between the pins of a list."

OUTSIDE_ALPHABET: Final = re.compile(r"[^A-Za-z0-9+/=]")


@dataclass(frozen=True, slots=True)
class Pin:
    """The SHA-256 digest of a SubjectPublicKeyInfo: the name of one key.

    It outlives a certificate that is renewed with the same key.  ``str(pin)`` is the text that
    :meth:`parse` reads.  Raises :class:`~dot_proto.PinError` unless given 32 octets.
    """

    digest: bytes
    "32 octets."

    def __post_init__(self) -> None:
        if type(self.digest) is not bytes:
            raise PinError(complaint("digest", "made of bytes", self.digest, "for text use Pin.parse"))
        if len(self.digest) != DIGEST_LENGTH:
            raise PinError(f"a pin has {DIGEST_LENGTH} octets, not {len(self.digest)}")

    def __str__(self) -> str:
        return binascii.b2a_base64(self.digest, newline=False).decode()

    def __repr__(self) -> str:
        return f"Pin.parse('{self}')"

    @classmethod
    def parse(cls, text: str) -> Pin:
        """Read ``BASE64``, ``sha256/BASE64`` or ``pin-sha256="BASE64"`` (RFC 7858, appendix A).

        Raises :class:`~dot_proto.PinError`, which says what is wrong and what to do.
        """
        if not isinstance(text, str):
            raise PinError(complaint("text", "a pin as text", text, _advice_on(text)))
        try:
            bare = _without_label(text)
            if problem := _complaint(bare):
                raise PinError(problem)
            pin = cls(binascii.a2b_base64(bare))
            if str(pin) != bare:
                raise PinError("trailing bits are not zero, so that one digest would have several texts: copy it again")
        except PinError as error:
            # The first characters tell one pin of a list from another; more could show a key pasted by mistake.
            raise PinError(f"{text[:12]!a}... is no pin: {error}") from None
        return pin

    @classmethod
    def of_certificate(cls, data: bytes) -> Pin:
        """The pin of a certificate in DER, or of the first certificate in PEM text.

        Raises :class:`~dot_proto.CertificateError`.
        """
        return cls(sha256(_der.public_key_of(certificates_from(data)[0])).digest())

    @classmethod
    def of_public_key(cls, data: bytes) -> Pin:
        """The pin of a SubjectPublicKeyInfo in DER, or of a ``PUBLIC KEY`` block in PEM.

        Raises :class:`~dot_proto.CertificateError`.
        """
        return cls(sha256(public_key_from(data)).digest())

    def explain_mismatch(self, configured: Collection[Pin], certificate: bytes) -> str | None:
        """Whether a configured pin is the hash of the wrong part of ``certificate`` (DER), whose pin is this one.

        A sentence that names the part and the right pin, or ``None``.
        """
        configured = collected("configured", configured, Pin, "a list of Pin")
        check_octets("certificate", certificate, "a certificate")
        spki = _der.public_key_of(certificate)
        mistakes = (
            ("the whole certificate", certificate),
            ("the bare key, without its algorithm identifier", _der.key_bits(spki)),
            ("the public key's PEM text", public_key_to_pem(spki)),
        )
        for part, octets in mistakes:
            wrong = Pin(sha256(octets).digest())
            if wrong in configured:
                return f"the configured pin {wrong} is the SHA-256 of {part}; the pin of its public key is {self}"
        return None


def _advice_on(given: object) -> str:
    """What to do with something that is no text."""
    if isinstance(given, Pin):
        return "this is a pin already"
    if isinstance(given, bytes | bytearray | memoryview):
        return f"Pin(digest) takes the {DIGEST_LENGTH} octets themselves, and octets.decode() makes text of base64"
    return "give one pin in base64, as str"


def _without_label(text: str) -> str:
    """The base64 of a pin text, without ``sha256/`` or ``pin-sha256="..."`` around it."""
    if OPTION.fullmatch(text):
        raise PinError("it is an option of a command line: give what follows the = alone")
    if text.lstrip("\ufeff").startswith("-----BEGIN"):
        raise PinError("it is PEM: Pin.of_certificate and Pin.of_public_key take it, as bytes")
    # Base64 may itself begin with "sha256/"; then the length tells.
    if len(text) == TEXT_LENGTH or not (match := LABELLED.fullmatch(text)):
        return text
    directive, quoted, prefix, bare = match.groups()
    algorithm: str = directive or prefix
    if algorithm.lower() != "sha256":
        raise PinError(f"the algorithm {algorithm} is not supported, only sha256 (RFC 7858, section 4.2)")
    if prefix:
        if len(bare) == TEXT_LENGTH + 1 and bare[0] == "/":
            raise PinError("curl writes two slashes here: write sha256/ with one")
        return str(bare)
    if ";" in quoted:
        raise PinError("it is more than one directive: give what stands between a pair of double quotes alone")
    if len(quoted) < 2 or quoted[0] != '"' or quoted[-1] != '"':
        raise PinError(f"syntax: {text[:10]} needs double quotes around its value (RFC 7469, section 2.1)")
    return str(quoted[1:-1])


def _complaint(text: str) -> str | None:
    """What keeps ``text`` from being the base64 of 32 octets, up to its trailing bits."""
    if WHOLE.fullmatch(text):
        return None
    if HEX.fullmatch(text.rpartition("=")[2].strip()):
        return (
            f"it looks like hex, while a pin is base64 with a length of {TEXT_LENGTH} characters; a key's SHA-256, "
            "as in TLSA 3 1 1, is Pin(bytes.fromhex(...)), while the fingerprint of a certificate is no pin; "
            f"a right one is made by: {COMMAND}"
        )
    if "fingerprint" in text.lower():
        return f"the fingerprint of a certificate is no pin; a right one is made by: {COMMAND}"
    if FILE.fullmatch(text):
        return "it looks like the name of a file: Pin.of_certificate and Pin.of_public_key take its octets"
    if text.count("=") > 1 and (separator := SEPARATOR.search(text)):
        return f"{separator[1]!a} is not in the base64 alphabet: give one pin alone"
    if strange := OUTSIDE_ALPHABET.search(text):
        if strange[0].isspace():
            return "white space is not in the base64 alphabet: remove it"
        if strange[0] in "\"'":
            return "quotes are not in the base64 alphabet: leave them out"
        if strange[0] == ":" and text.lower().startswith("sha256:"):
            return "a colon follows sha256: write sha256/ and the base64 of the public key's digest"
        if strange[0] in "-_":
            return "it uses the url-safe alphabet: write + for - and / for _"
        return f"{strange[0]!a} is not in the base64 alphabet"
    digits = text.rstrip("=")
    if "=" in digits:
        return "padding inside the text: give one pin alone"
    if len(digits) != TEXT_LENGTH - 1:
        return (
            f"its length is {len(digits) * 6 // 8} octets, while a SHA-256 digest has {DIGEST_LENGTH}; "
            f"a right pin is made by: {COMMAND}"
        )
    return "its padding is wrong: a pin ends with exactly one ="
