"""What OpenSSL's errors mean, in words that say what to do.

Numbers and reason names are OpenSSL's stable part; its texts change between releases (the table is measured
with OpenSSL 3.0).
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from typing import Any, Final

from dot_proto import (
    AuthenticationPolicy,
    CertificateError,
    CertificateFacts,
    Fault,
    Reason,
    RemoteProtocolError,
    ValidationFailure,
)

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


def validation_failure(
    error: ssl.SSLCertVerificationError,
    policy: AuthenticationPolicy,
    presented: tuple[bytes, ...],
    built: tuple[bytes, ...],
    store: ssl.SSLContext,
    wall_time: float,
) -> ValidationFailure:
    """The refusal of a chain, with what its certificates tell about it.

    ``built`` is the chain that OpenSSL was looking at, out of those that were sent and those in ``store``; empty where
    this Python does not show it.
    """
    reason = _VERIFY_REASONS.get(error.verify_code, Reason.UNTRUSTED)
    text = error.verify_message.rstrip(".")
    if reason in (Reason.EXPIRED, Reason.NOT_YET_VALID):
        tell = _past_dates if reason is Reason.EXPIRED else CertificateFacts.date_warning
        text = _about_dates(presented, built, store, wall_time, tell) or text
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


def _about_dates(
    presented: tuple[bytes, ...],
    built: tuple[bytes, ...],
    store: ssl.SSLContext,
    wall_time: float,
    tell: Callable[[CertificateFacts, float], str | None],
) -> str | None:
    """Which certificate is out of its dates: of the chain that was built, or else of all that were sent."""
    for der in built or presented:
        try:
            about = tell(CertificateFacts.of(der), wall_time)
        except CertificateError:
            continue
        if about is not None and der in presented:
            return f"certificate #{presented.index(der) + 1} is {about}"
        if about is not None:
            where = "it is in the trust store here, and was not sent by the server"
            return f"the trust anchor {_described(der, store, about)}; {where}"
    return None


def _described(der: bytes, store: ssl.SSLContext, about: str) -> str:
    """A certificate of the store by its subject and the date that it fails by, as far as ssl shows them."""
    for one, described in zip(store.get_ca_certs(binary_form=True), store.get_ca_certs(), strict=True):
        if one == der:
            since = described["notBefore" if about.startswith("valid only") else "notAfter"]
            return f"{_distinguished_name(described['subject'])} is {about} ({since})"
    return f"is {about}"  # one that is no authority's, as a server's own certificate


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


def local_failure(error: Exception) -> HandshakeError:
    """This side has raised inside the handshake: a callback of the context's, or a file of keys that takes no more."""
    failure = HandshakeError(f"the TLS handshake was ended by {_raised(error)}", Failure.LOCAL)
    failure.__cause__ = error
    return failure


def broken_session(error: Exception) -> RemoteProtocolError:
    """What ended a session after its handshake: the peer, as OpenSSL says, or something raised on this side."""
    if isinstance(error, ssl.SSLError):
        return RemoteProtocolError(f"the TLS session broke: {describe(error)}", Fault.TLS)
    failure = RemoteProtocolError(f"the TLS session was ended by {_raised(error)}", Fault.TLS)
    failure.__cause__ = error
    return failure


def _raised(error: Exception) -> str:
    return f"an error on this side, {type(error).__name__}: {error}"


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
