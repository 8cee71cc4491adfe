"""What OpenSSL's errors mean, in words that say what to do.

Numbers and reason names are OpenSSL's stable part; its texts change between releases (the table is measured
with OpenSSL 3.0).
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from typing import Any, Final

from dot_proto import AuthenticationPolicy, CertificateError, CertificateFacts, Reason, ValidationFailure

from ..errors import Failure, HandshakeError

_VERIFY_REASONS: Final = {
    9: Reason.NOT_YET_VALID,
    10: Reason.EXPIRED,
    26: Reason.USAGE,
    62: Reason.NAME,
    64: Reason.NAME,
}
"By X509_V_ERR code; every other code means that the chain is not trusted."

_NOT_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_TOO_SMALL"}
)

_VERSION: Final = frozenset({"UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE", "VERSION_TOO_LOW", "WRONG_SSL_VERSION"})

_RECORD_TYPES: Final = range(20, 25)
"The first octet of a TLS record (RFC 8446, section 5.1)."

_FATAL_ALERT: Final = re.compile(rb"\x15..\x00\x02\x02(.)", re.DOTALL)
"A record with one fatal alert, in the clear (RFC 8446, sections 5.1 and 6)."

_UNMARKED_ALERTS: Final = frozenset(
    {
        "unsupported extension",
        "certificate unobtainable",
        "unrecognized name",
        "bad certificate status response",
        "bad certificate hash value",
    }
)
"Alerts that OpenSSL reports without the word alert (RFC 6066, section 9)."

_AROUND: Final = re.compile(r"^\[SSL[^]]*\] | \(_ssl\.c:\d+\)$")
"What Python's ssl puts around OpenSSL's words."


_DateReader = Callable[[CertificateFacts, float], str | None]
"What is wrong with a certificate's dates at a wall time, or ``None``."


def validation_failure(
    error: ssl.SSLCertVerificationError,
    policy: AuthenticationPolicy,
    presented: tuple[bytes, ...],
    store: ssl.SSLContext,
    wall_time: float,
) -> ValidationFailure:
    """The refusal of a chain, with what the certificates that were sent, and those in ``store``, tell about it."""
    reason = _VERIFY_REASONS.get(error.verify_code, Reason.UNTRUSTED)
    text = error.verify_message.rstrip(".")
    if reason in (Reason.EXPIRED, Reason.NOT_YET_VALID):
        about = _past_dates if reason is Reason.EXPIRED else CertificateFacts.date_warning
        text = _about_dates(presented, wall_time, about) or _about_anchors(store, wall_time, about) or text
    elif reason is Reason.NAME:
        text = f"the certificate is not for {policy.name}"
    elif reason is Reason.USAGE:
        text = "the certificate is not for servers (its extended key usage)"
    else:
        text = f"the chain does not lead to a trust anchor: {text} (OpenSSL code {error.verify_code})"
    return ValidationFailure(reason, text)


def _past_dates(facts: CertificateFacts, wall_time: float) -> str | None:
    """What is wrong with the dates of a certificate that OpenSSL takes for expired.

    The last second belongs to the certificate's time (RFC 5280, section 4.1.2.5); OpenSSL, though, refuses as soon as
    it begins, and which certificate it refused can still be told.
    """
    is_in_last_second = facts.not_after is not None and facts.not_after <= wall_time < facts.not_after + 1
    return "in its last second, which OpenSSL counts as expired" if is_in_last_second else facts.date_warning(wall_time)


def _about_dates(presented: tuple[bytes, ...], wall_time: float, tell: _DateReader) -> str | None:
    for number, der in enumerate(presented, 1):
        try:
            about = tell(CertificateFacts.of(der), wall_time)
        except CertificateError:
            continue
        if about is not None:
            return f"certificate #{number} is {about}"
    return None


def _about_anchors(store: ssl.SSLContext, wall_time: float, tell: _DateReader) -> str | None:
    """Which trust anchor is out of its dates, where no certificate that was sent is.

    A chain is made of certificates that were sent and of trust anchors, so that one of these must be.
    """
    found: list[str] = []
    for der, described in zip(store.get_ca_certs(binary_form=True), store.get_ca_certs(), strict=True):
        try:
            facts = CertificateFacts.of(der)
        except CertificateError:
            continue
        if about := tell(facts, wall_time):
            since = described["notBefore" if about.startswith("valid only") else "notAfter"]
            found.append(f"{_distinguished_name(described['subject'])} is {about} ({since})")
    if not found:
        return None
    one = "the trust anchor" if len(found) == 1 else f"one of {len(found)} trust anchors out of their dates, such as"
    return f"{one} {found[0]}; it is in the trust store here, and was not sent by the server"


def _distinguished_name(subject: Any) -> str:
    """A name as ssl gives it, a tuple of tuples of pairs, in one line."""
    return ", ".join(f"{kind}={value}" for part in subject for kind, value in part) or "without a subject"


def handshake_error(error: ssl.SSLError, first_octets: bytes) -> HandshakeError:
    """A failed handshake; ``first_octets`` is how the peer began."""
    reason = (error.reason or "").upper()
    if reason in _NOT_TLS or (first_octets and first_octets[0] not in _RECORD_TYPES):
        return HandshakeError(f"the peer does not speak TLS{_looks_like(first_octets)}", Failure.NOT_TLS)
    if isinstance(error, ssl.SSLZeroReturnError):
        return HandshakeError("the peer ended the TLS session inside the handshake", Failure.END_OF_STREAM)
    if alert := _alert(error, first_octets):
        if alert == "protocol_version":
            return HandshakeError(
                "the peer has no TLS version in common with us: alert protocol_version",
                Failure.NO_COMMON_VERSION,
                alert=alert,
            )
        return HandshakeError(f"the peer ended the handshake with the alert {alert}", Failure.ALERT, alert=alert)
    if reason in _VERSION:
        return HandshakeError("the peer has no TLS version in common with us (1.2 and 1.3)", Failure.NO_COMMON_VERSION)
    return HandshakeError(f"the TLS handshake failed: {describe(error)}", Failure.OTHER)


def describe(error: ssl.SSLError) -> str:
    """OpenSSL's words without the source file and line."""
    # Python has no name for some reasons that OpenSSL knows, and OpenSSL has none for some alerts.
    return error.reason.lower().replace("_", " ") if error.reason else _AROUND.sub("", str(error))


def _alert(error: ssl.SSLError, first_octets: bytes) -> str | None:
    """The name of the alert that ended the handshake, if one did; one without a name is called by its number."""
    words = describe(error)
    name = words.partition(" alert ")[2] or words.removeprefix("tlsv1 ")
    if " alert " in words or name in _UNMARKED_ALERTS:
        return name.replace(" ", "_").replace("cancelled", "canceled")
    in_the_clear = _FATAL_ALERT.match(first_octets)
    return None if in_the_clear is None else str(in_the_clear[1][0])


def _looks_like(octets: bytes) -> str:
    if octets.startswith((b"HTTP/", b"GET ", b"<")):
        return " but, it seems, HTTP"
    if octets.startswith(b"SSH-"):
        return " but SSH"
    if octets.startswith(b"220"):
        return " but, it seems, SMTP or FTP"
    if len(octets) > 14 and octets[4] & 0x80 and int.from_bytes(octets[:2]) <= len(octets) - 2:
        return " but, it seems, DNS over plain TCP"
    return f" (it began with {octets[:8].hex(' ')})" if octets else ""
