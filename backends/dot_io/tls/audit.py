"""Whether a context that somebody else has made lets the policy mean what it says.

A context can be changed at any time, so it is looked at again for every connection.
"""

from __future__ import annotations

import ssl
from typing import Final

from dot_proto import AuthenticationPolicy, LocalProtocolError

IGNORE_UNEXPECTED_EOF: Final = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
"With this option a truncation would pass for an orderly end (RFC 8446, section 6.1)."

_ANONYMOUS: Final = "auth-null"
"What OpenSSL calls suites in which nobody proves anything."

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


def _audit(context: ssl.SSLContext) -> None:
    """Refuse what neither role can do with; raises :class:`~dot_proto.LocalProtocolError` with the reason."""
    if context.minimum_version < ssl.TLSVersion.TLSv1_2:
        raise _refusal("minimum_version is below TLS 1.2 (RFC 8310, section 9)", "set it to TLSVersion.TLSv1_2")
    if not context.options & ssl.OP_NO_RENEGOTIATION:
        raise _refusal("a peer could change its identity by renegotiation", "add ssl.OP_NO_RENEGOTIATION to options")
    if context.options & IGNORE_UNEXPECTED_EOF:
        raise _refusal("a truncated stream would pass for a whole one", "clear ssl.OP_IGNORE_UNEXPECTED_EOF")
    if context.verify_mode is not ssl.CERT_NONE:
        for bit, why in _FLAGS.items():
            if context.verify_flags & bit:
                raise _refusal(why, f"clear the bit {bit:#x} in verify_flags")
    _audit_suites(context)


def audit_client(context: ssl.SSLContext, policy: AuthenticationPolicy) -> None:
    """Refuse a client's context that would make the policy a lie; raises :class:`~dot_proto.LocalProtocolError`."""
    _audit(context)
    if context.protocol is ssl.PROTOCOL_TLS_SERVER:
        raise _refusal("it is a server's", "make it with ssl.PROTOCOL_TLS_CLIENT")
    if policy.trust_anchors is not None or policy.issuer_pins:
        raise _refusal("it has trust anchors of its own", "leave trust_anchors and issuer_pins out of the policy")
    if not policy.validates:
        if context.check_hostname:
            raise _refusal("check_hostname is on, but the policy validates no name", "switch it off")
    elif context.verify_mode is not ssl.CERT_REQUIRED:
        raise _refusal(f"the policy asks for {policy.name}, but verify_mode is not CERT_REQUIRED", "set it")
    elif not context.check_hostname:
        raise _refusal(f"the policy asks for {policy.name}, but check_hostname is off", "switch it on")
    elif context.hostname_checks_common_name:
        raise _refusal("the Subject would be looked at (RFC 8310, section 8.1)", "clear hostname_checks_common_name")


def audit_server(context: ssl.SSLContext) -> None:
    """Refuse a server's context that breaks a rule; raises :class:`~dot_proto.LocalProtocolError`."""
    _audit(context)
    if context.protocol is ssl.PROTOCOL_TLS_CLIENT:
        raise _refusal("it is a client's", "make it with ssl.PROTOCOL_TLS_SERVER")


def _audit_suites(context: ssl.SSLContext) -> None:
    """Refuse suites that show no certificate or encrypt nothing; raises :class:`~dot_proto.LocalProtocolError`.

    Suites of pre-shared keys, which Debian's OpenSSL lists, are not offered by a client without such a key; and a
    server that shows no certificate, for whatever reason, is refused by the verdict.
    """
    for suite in context.get_ciphers():
        if suite.get("auth") == _ANONYMOUS:
            raise _refusal(f"the suite {suite['name']} shows no certificate", "leave it out of set_ciphers()")
        if suite["strength_bits"] < _LEAST_BITS:
            raise _refusal(
                f"the suite {suite['name']} encrypts with {suite['strength_bits']} bits of strength",
                "leave it out of set_ciphers()",
            )


def warn_of_weakness(context: ssl.SSLContext) -> None:
    """Tell in the log what is allowed and should not be (RFC 9325), once, when a context is given."""
    weak = [
        suite["name"]
        for suite in context.get_ciphers()
        if suite.get("kea") == _STATIC_RSA or not suite.get("aead", True)
    ]
    complaints: list[str] = []
    if weak:
        complaints.append(
            f"suites without forward secrecy or with CBC ({', '.join(weak[:3])}, ...): "
            "set_ciphers('ECDHE+AESGCM:ECDHE+CHACHA20') leaves them out (RFC 9325, section 4.2)"
        )
    if context.security_level < 2:
        complaints.append(
            f"security level {context.security_level}, so RSA below 2048 bits or SHA-1: "
            "add @SECLEVEL=2 to set_ciphers() (RFC 9325, section 4.5)"
        )
    if complaints:
        import logging  # which a program that gives no context has no need of

        logging.getLogger("dot_io").warning("the ssl.SSLContext given allows %s", "; and ".join(complaints))


def _refusal(why: str, remedy: str) -> LocalProtocolError:
    return LocalProtocolError(f"this ssl.SSLContext cannot be used: {why}; {remedy}")
