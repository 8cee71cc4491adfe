"""What the protocol looks at in a certificate, and what becomes of it with time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from . import _der
from .arguments import check_instance, check_octets, check_time, check_whole, complaint
from .errors import CertificateError
from .pins import Pin


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """One certificate, as far as the protocol looks into it."""

    der: bytes = field(repr=False)
    "The certificate's octets."
    pin: Pin
    "SHA-256 of its SubjectPublicKeyInfo (RFC 7858, section 4.2)."
    not_before: int | None
    "POSIX seconds, or ``None`` where the date cannot be read."
    not_after: int | None
    "POSIX seconds, or ``None`` where the date cannot be read."

    def __post_init__(self) -> None:
        check_octets("der", self.der, "a certificate", "CertificateFacts.of reads one")
        check_instance("pin", self.pin, Pin)
        for name in ("not_before", "not_after"):
            if (date := getattr(self, name)) is not None:
                check_whole(name, date, "number of POSIX seconds, or None")

    @classmethod
    def of(cls, der: bytes) -> CertificateFacts:
        """Read one certificate; raises :class:`~dot_proto.CertificateError`."""
        if not isinstance(der, bytes) or der.startswith(b"-----"):
            hint = "certificates_from(octets_of_a_pem_file) reads some"
            raise CertificateError(complaint("der", "a certificate's octets (bytes) in DER", der, hint))
        certificate = _der.read_certificate(der)
        return cls(der, Pin.of_public_key(certificate.spki), certificate.not_before, certificate.not_after)

    @property
    def issuer(self) -> bytes:
        """The issuer's Name in DER (RFC 5280, section 4.1.2.4)."""
        return _der.read_certificate(self.der).issuer

    @property
    def subject(self) -> bytes:
        """The subject's Name in DER (RFC 5280, section 4.1.2.6)."""
        return _der.read_certificate(self.der).subject

    @property
    def may_issue(self) -> bool:
        """Whether it is a certification authority's and its key may sign certificates (RFC 5280, section 4.2.1)."""
        return _der.may_issue(self.der)

    def date_warning(self, wall_time: float) -> str | None:
        """What is wrong with the dates at ``wall_time`` (POSIX seconds), or ``None``; unreadable ones say nothing.

        Both ends are inside, and a date names a whole second (RFC 5280, section 4.1.2.5).  OpenSSL (3.0) refuses in the
        second of ``notAfter`` already, so that a full handshake may fail one second before this says so.
        """
        check_time("wall_time", wall_time)
        if self.not_after is not None and wall_time >= self.not_after + 1:
            return f"expired {_span(wall_time - self.not_after)} ago"
        if self.not_before is not None and wall_time < self.not_before:
            return f"valid only in {_span(math.ceil(self.not_before - wall_time))}"
        return None


# A server shows the same few certificates at each handshake, and most of them twice, as sent and as validated: to
# read them each time would be 6 % of a connection up to its first answer. A TLS library limits how long each may be.
facts_of: Final = lru_cache(maxsize=32)(CertificateFacts.of)


def validity_of(chain: Iterable[CertificateFacts]) -> tuple[float, float]:
    """From when until when every certificate of a chain is valid, in POSIX seconds.

    The end is where the last second of one of them begins: it is inside (RFC 5280, section 4.1.2.5), but OpenSSL
    refuses from there on, and what is kept of a validated chain must give no more than a full handshake would.
    A chain with a date that cannot be read is never valid: its end is not known, so nothing may be kept until then.
    A chain of no certificates is valid at any time, since nobody has asked for one.
    """
    begin, end = -math.inf, math.inf
    for one in chain:
        if one.not_before is None or one.not_after is None:
            return math.inf, -math.inf
        begin, end = max(begin, one.not_before), min(end, one.not_after)
    return begin, end


def _span(seconds: float) -> str:
    """A length of time for people, in its largest fitting unit."""
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{seconds:.0f} s"
