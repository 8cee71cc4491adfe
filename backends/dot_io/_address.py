"""Where to connect to, checked before anything is sent."""

from __future__ import annotations

from typing import Final

from dot_proto import AuthenticationPolicy, LocalProtocolError

PORT: Final = 853
"DNS over TLS (RFC 7858, section 3.1)."


def check_port(port: int) -> int:
    """A port that DNS over TLS may use; raises :class:`~dot_proto.LocalProtocolError` otherwise."""
    if not isinstance(port, int):
        raise LocalProtocolError(f"a port is a number, not {type(port).__name__}")
    if port == 53:
        raise LocalProtocolError("port 53 is for cleartext DNS and must not be used (RFC 7858, section 3.1); try 853")
    if not 0 < port < 65_536:
        raise LocalProtocolError(f"a port is 1 to 65535, not {port}")
    return port


def default_policy(host: str) -> AuthenticationPolicy:
    """Strict, by the name or address that is dialled, against the system's trust store (RFC 8310, section 5)."""
    return AuthenticationPolicy.strict(host)
