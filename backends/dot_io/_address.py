"""Where to connect to, checked before anything is sent."""

from __future__ import annotations

from dot_proto import AuthenticationPolicy, LocalProtocolError
from dot_proto.authentication import normalize_name
from dot_proto.hosts import PORT as PORT
from dot_proto.hosts import check_port as check_port


def check_host(host: str) -> str:
    """A host in the form in which it is dialled; raises :class:`~dot_proto.LocalProtocolError` for what is none.

    It is read as an authentication domain name is, so that what is dialled and what the certificate is compared with
    are never two readings of one text.  An address loses its brackets and keeps its zone.
    """
    if not isinstance(host, str):
        raise LocalProtocolError(f"host must be an address or a name, as text, not {type(host).__name__}")
    if "://" in host:
        raise LocalProtocolError(f"{host!r} is a URL: give the host alone, and port= where it is not 853")
    address, colon, port = host.rpartition(":")
    if colon and port.isdecimal() and (address.endswith("]") or ":" not in address):
        raise LocalProtocolError(f"{host!r} names a port: give {address!r} as the host and port={port}")
    normalize_name(host)
    return host[1:-1] if host.startswith("[") else host


def default_policy(host: str) -> AuthenticationPolicy:
    """Strict, by the name or address that is dialled, against the system's trust store (RFC 8310, section 5)."""
    return AuthenticationPolicy.strict(host)


def check_timeout(seconds: float, name: str = "timeout") -> float:
    """A time that something may take, in seconds; raises :class:`~dot_proto.LocalProtocolError` for what is none."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        raise LocalProtocolError(f"{name} must be a number of seconds, 0 or more, not {seconds!r}")
    return seconds
