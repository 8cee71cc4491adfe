"""Whether a context that somebody else has made lets the policy mean what it says.

A context can be changed at any time, so it is looked at again for every connection.  What it offers by ALPN cannot be
read from it (ssl has no getter), so that is tried once, when it is given; later the protocol that a handshake has
agreed on is looked at.

All that is wrong is told at once, each with the line of Python that mends it.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from typing import Any, Final

from dot_proto import AuthenticationPolicy, DoTError, LocalProtocolError

from . import trial

ALPN: Final = "dot"
"The protocol's name in ALPN (RFC 7858; IANA TLS Application-Layer Protocol Negotiation Protocol IDs)."

TLS12_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"Forward secrecy and AEAD alone (RFC 9325, section 4.2); leaves out static RSA, CBC, anonymous and PSK suites."

IGNORE_UNEXPECTED_EOF: Final = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
"With this option a truncation would pass for an orderly end (RFC 8446, section 6.1)."

_WITHOUT_CERTIFICATE: Final = frozenset({"auth-null", "auth-psk", "auth-srp", "kx-srp"})
"What OpenSSL calls suites in which nobody shows a certificate: anonymous ones, those of shared keys and passwords."

_STATIC_RSA: Final = "kx-rsa"
"What OpenSSL calls suites without forward secrecy."

_FLAGS: Final = {
    0x2: "a time of its own choice would be taken for now (X509_V_FLAG_USE_CHECK_TIME)",
    0x10: "extensions that must be understood would be ignored (X509_V_FLAG_IGNORE_CRITICAL)",
    0x40: "anybody with a certificate could issue others (X509_V_FLAG_ALLOW_PROXY_CERTS)",
    0x20_0000: "expired certificates would be accepted (X509_V_FLAG_NO_CHECK_TIME)",
}
"Flags of verification that make it a lie, by bit (OpenSSL's x509_vfy.h); Python has no names for them."

_LEAST_BITS: Final = 112
"Bits of strength below which a suite protects nothing (NIST SP 800-131A; NULL suites have none)."

_MAX_NAMED: Final = 3
"Suites that are named; the others are counted."

_SET_CIPHERS: Final = f"context.set_ciphers('{TLS12_CIPHERS}:@SECLEVEL=2')"
_SET_ALPN: Final = f"context.set_alpn_protocols(['{ALPN}'])"
_SET_MAXIMUM: Final = "context.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED"

Complaint = tuple[str, str]
"The line that mends it, and what is wrong."


def audit_client(context: ssl.SSLContext, policy: AuthenticationPolicy) -> None:
    """Refuse a client's context that would make the policy a lie; raises :class:`~dot_proto.LocalProtocolError`."""
    _refuse([*_of_client(context, policy)])


def audit_server(context: ssl.SSLContext) -> None:
    """Refuse a server's context that breaks a rule; raises :class:`~dot_proto.LocalProtocolError`."""
    _refuse([*_of_server(context)])


def audit_new_client(context: ssl.SSLContext, policy: AuthenticationPolicy, server_hostname: str | None) -> None:
    """As :func:`audit_client`, for a context that was not met before; weaknesses go to the log."""
    _check_kind(context)
    complaints = [*_of_client(context, policy)]
    if not _is_server(context) and (policy.validates or not context.check_hostname):
        complaints += _of_trial(lambda: trial.protocols_offered(context, server_hostname))
    _refuse(complaints)
    _warn_of_weakness(context)


def audit_new_server(context: ssl.SSLContext) -> None:
    """As :func:`audit_server`, for a context that was not met before; weaknesses go to the log."""
    _check_kind(context)
    complaints = [*_of_server(context)]
    # A callback for SNI may choose another certificate for each name: only its owner knows for which ones.
    if not _is_client(context) and context.sni_callback is None:
        complaints += _of_trial(lambda: [trial.protocol_preferred(context, ALPN) or ALPN])
    _refuse(complaints)
    _warn_of_weakness(context)


def _check_kind(context: object) -> None:
    # By what it can do: while truststore is injected, contexts of the standard library are no ssl.SSLContext.
    if isinstance(context, type) or not hasattr(context, "wrap_bio"):
        raise LocalProtocolError(f"ssl_context must be an ssl.SSLContext, not {type(context).__name__}")


def _is_client(context: ssl.SSLContext) -> bool:
    return context.protocol is ssl.PROTOCOL_TLS_CLIENT


def _is_server(context: ssl.SSLContext) -> bool:
    return context.protocol is ssl.PROTOCOL_TLS_SERVER


def _of_client(context: ssl.SSLContext, policy: AuthenticationPolicy) -> Iterator[Complaint]:
    if _is_server(context):
        yield "context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)", "it is a server's"
    yield from _of_both(context)
    if policy.trust_anchors is not None or policy.issuer_pins:
        pins = ", pins=policy.pins" if policy.pins else ""
        yield (
            f"policy = AuthenticationPolicy.strict({policy.name!r}{pins})",
            "the context has trust anchors of its own: leave trust_anchors and issuer_pins out of the policy",
        )
    if not policy.validates:
        if context.check_hostname:
            yield "context.check_hostname = False", "check_hostname is on, but the policy validates no name"
        return
    if context.verify_mode is not ssl.CERT_REQUIRED:
        yield (
            "context.verify_mode = ssl.CERT_REQUIRED",
            f"the policy asks for {policy.name}, but verify_mode is not CERT_REQUIRED",
        )
    if not context.check_hostname:
        yield "context.check_hostname = True", f"the policy asks for {policy.name}, but check_hostname is off"
    if context.hostname_checks_common_name:
        yield (
            "context.hostname_checks_common_name = False",
            "the Subject would be looked at, and names are in subjectAltName alone (RFC 8310, section 8.1)",
        )


def _of_server(context: ssl.SSLContext) -> Iterator[Complaint]:
    if _is_client(context):
        yield "context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)", "it is a client's"
    yield from _of_both(context)


def _of_both(context: ssl.SSLContext) -> Iterator[Complaint]:
    """What neither role can do with."""
    lowest, highest = context.minimum_version, context.maximum_version
    # A context of one version alone (PROTOCOL_TLSv1_2, deprecated) has no range.
    if lowest < ssl.TLSVersion.TLSv1_2 and context.protocol is not ssl.PROTOCOL_TLSv1_2:
        yield (
            "context.minimum_version = ssl.TLSVersion.TLSv1_2",
            "minimum_version is below TLS 1.2 (RFC 8310, section 9)",
        )
    if highest is not ssl.TLSVersion.MAXIMUM_SUPPORTED and highest < max(lowest, ssl.TLSVersion.TLSv1_2):
        yield _SET_MAXIMUM, f"no TLS version is left: maximum_version is {highest.name}"
    if not context.options & ssl.OP_NO_RENEGOTIATION:
        yield "context.options |= ssl.OP_NO_RENEGOTIATION", "a peer could change its identity by renegotiation"
    if context.options & IGNORE_UNEXPECTED_EOF:
        yield "context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF", "a truncated stream would pass for a whole one"
    if context.verify_mode is not ssl.CERT_NONE:
        for bit, why in _FLAGS.items():
            if context.verify_flags & bit:
                yield f"context.verify_flags &= ~{bit:#x}", why
    yield from _of_suites(context)


def _of_suites(context: ssl.SSLContext) -> Iterator[Complaint]:
    """Suites that show no certificate or encrypt nothing.

    Those of pre-shared keys are among the defaults of Debian's OpenSSL.  A server with a callback for such keys
    would let in a client whose certificate it asks for and never sees.
    """
    suites = context.get_ciphers()
    if bare := [suite["name"] for suite in suites if _shows_no_certificate(suite)]:
        yield _SET_CIPHERS, f"without a certificate nobody proves who he is: {_named(bare)} shows no certificate"
    if weak := [suite["name"] for suite in suites if suite["strength_bits"] < _LEAST_BITS]:
        yield _SET_CIPHERS, f"queries could be read on the wire: {_named(weak)} has no {_LEAST_BITS} bits of strength"


def _shows_no_certificate(suite: Any) -> bool:
    auth, exchange = suite.get("auth", ""), suite.get("kea", "")
    return auth in _WITHOUT_CERTIFICATE or exchange in _WITHOUT_CERTIFICATE or exchange.endswith("psk")


def _named(suites: list[str]) -> str:
    more = f" and {len(suites) - _MAX_NAMED} more" if len(suites) > _MAX_NAMED else ""
    return f"{', '.join(suites[:_MAX_NAMED])}{more}"


def _of_trial(protocols: Callable[[], list[str]]) -> list[Complaint]:
    """What a trial handshake shows; ``protocols`` makes it, and returns the names in ALPN.

    Raises :class:`~dot_proto.LocalProtocolError` with the cause for what the context's callbacks raise.
    """
    try:
        others = [name for name in protocols() if name != ALPN]
    except trial.CannotServe as error:
        return [_no_service(str(error))]
    except DoTError:
        raise
    except Exception as error:
        raise callback_error(error) from error
    if others:
        return [(_SET_ALPN, f"it would speak {', '.join(others)} by ALPN, and DNS over TLS is {ALPN}")]
    return []


def callback_error(error: Exception) -> LocalProtocolError:
    """A callback of the context's, or a method of its class, has raised before there was a connection."""
    return LocalProtocolError(f"this ssl.SSLContext cannot be used: it raises {type(error).__name__}: {error}")


def _no_service(reason: str) -> Complaint:
    """What mends a context with which no handshake succeeds, by OpenSSL's reason."""
    says = f"no handshake can succeed, OpenSSL says {reason.lower().replace('_', ' ')!r}"
    if reason == "NO_PROTOCOLS_AVAILABLE":
        return "context.options &= ~(ssl.OP_NO_TLSv1_2 | ssl.OP_NO_TLSv1_3)", says
    if reason in ("NO_SHARED_CIPHER", "UNSUPPORTED_PROTOCOL"):  # the second where it allows TLS 1.3 alone
        return "context.load_cert_chain(certificate_file)", f"{says}: no certificate, or no suite for its key"
    return _SET_CIPHERS, says


def _refuse(complaints: list[Complaint]) -> None:
    if complaints:
        reasons: dict[str, list[str]] = {}  # by line, in order
        for line, why in complaints:
            reasons.setdefault(line, []).append(why)
        lines = "\n".join(f"    {line}  # {'; '.join(why)}" for line, why in reasons.items())
        raise LocalProtocolError(f"this ssl.SSLContext cannot be used as it is; what mends it:\n{lines}")


def _warn_of_weakness(context: ssl.SSLContext) -> None:
    """Tell in the log what is allowed and should not be (RFC 9325)."""
    weak = [
        suite["name"]
        for suite in context.get_ciphers()
        if suite.get("kea") == _STATIC_RSA or not suite.get("aead", True)
    ]
    complaints: list[str] = []
    if weak:
        complaints.append(
            f"suites without forward secrecy or with CBC ({_named(weak)}): "
            f"set_ciphers('{TLS12_CIPHERS}') leaves them out (RFC 9325, section 4.2)"
        )
    if context.security_level < 2:
        complaints.append(
            f"security level {context.security_level}, so RSA below 2048 bits or SHA-1: "
            "add @SECLEVEL=2 to set_ciphers() (RFC 9325, section 4.5)"
        )
    if complaints:
        import logging  # which a program that gives no context has no need of

        logging.getLogger("dot_io").warning("the ssl.SSLContext given allows %s", "; and ".join(complaints))
