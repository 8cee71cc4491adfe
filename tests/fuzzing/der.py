"""The DER walker: the octets are a certificate."""

from __future__ import annotations

from hashlib import sha256

import pytest
from cryptography import x509

from dot_proto import (
    AuthenticationPolicy,
    CertificateError,
    CertificateFacts,
    Evidence,
    Pin,
    PresentedChain,
    Reason,
    judge,
)
from dot_proto import _der as der
from support.scenes import LEAF
from support.vectors import certificate

ISSUER = certificate("ca-inter-p256")

STRANGER = AuthenticationPolicy.strict(pins=[Pin(bytes(32))])
"Whom no certificate satisfies."


def target(data: bytes) -> None:
    """Octets are a certificate in one way or in none (AUT-4, AUT-5)."""
    data = whole(data)
    try:
        certificate = der.read_certificate(data)
    except CertificateError:
        is_refused_everywhere(data)
        return
    spki = certificate.spki
    assert der.public_key_of(data) == spki
    assert spki in data
    assert spki.endswith(der.key_bits(spki))
    pin = Pin.of_certificate(data)
    assert pin == Pin.of_public_key(spki) == Pin(sha256(spki).digest())
    has_one_reading(data)
    if der.may_issue(data):
        may_issue_to_others(data)
    is_judged_by_its_key(data, pin)
    agrees_with_cryptography(data, certificate)


def whole(data: bytes) -> bytes:
    """The octets themselves, or, if the first is no SEQUENCE, the changes that they make to a server's or an issuer's.

    A change is an offset of two octets and the octet to put there: few changes to the right octets get further
    into the walk than a fuzzer would come by itself.
    """
    if data[:1] in (b"", b"\x30"):
        return data
    changed = bytearray(ISSUER if data[0] & 1 else LEAF)
    for at in range(1, len(data) - 2, 3):
        changed[int.from_bytes(data[at : at + 2]) % len(changed)] = data[at + 2]
    return bytes(changed)


def is_refused_everywhere(data: bytes) -> None:
    for read in (der.public_key_of, CertificateFacts.of, Pin.of_certificate) if data[:1] == b"\x30" else ():
        with pytest.raises(CertificateError):
            read(data)
    policy = AuthenticationPolicy.strict(pins=[Pin(bytes(32))])
    verdict = judge(policy, Evidence(PresentedChain((data,)), data))
    assert verdict.reason is Reason.BAD_CERTIFICATE
    assert not verdict.accepted


def has_one_reading(data: bytes) -> None:
    for other in (data[:-1], data + b"\0", data[1:]):
        with pytest.raises(CertificateError):
            der.read_certificate(other)


def may_issue_to_others(data: bytes) -> None:
    """Where cryptography can read the extensions, it finds an authority too."""
    try:
        extensions = x509.load_der_x509_certificate(data).extensions
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType):
        return
    assert constraints.ca


def is_judged_by_its_key(data: bytes, pin: Pin) -> None:
    evidence = Evidence(PresentedChain((data,)), data)
    verdict = judge(AuthenticationPolicy.strict(pins=[pin]), evidence)
    assert verdict.accepted
    assert verdict.matched_depth == 0
    refusal = judge(STRANGER, evidence)
    assert refusal.reason is Reason.PIN
    assert str(pin) in refusal.explanation


def agrees_with_cryptography(data: bytes, certificate: der.Certificate) -> None:
    """Where both can read a date, it is one date; and what is signed holds the key."""
    try:
        other = x509.load_der_x509_certificate(data)
        dates = other.not_valid_before_utc, other.not_valid_after_utc
    except (ValueError, x509.InvalidVersion):
        return
    assert certificate.spki in other.tbs_certificate_bytes
    for ours, theirs in zip((certificate.not_before, certificate.not_after), dates, strict=True):
        assert ours is None or ours == theirs.timestamp()
