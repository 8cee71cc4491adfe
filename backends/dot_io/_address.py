"""Where to connect to, checked before anything is sent."""

from __future__ import annotations

from dot_proto import AuthenticationPolicy, LocalProtocolError
from dot_proto.arguments import shown, wrong
from dot_proto.authentication import normalize_name
from dot_proto.hosts import PORT as PORT
from dot_proto.hosts import check_port as check_port


def check_host(host: str) -> str:
    """A host in the form in which it is dialled; raises :class:`~dot_proto.LocalProtocolError` for what is none.

    It is read as an authentication domain name is, so that what is dialled and what the certificate is compared with
    are never two readings of one text.  An address loses its brackets and keeps its zone.
    """
    if not isinstance(host, str):
        hint = "give str() of it" if hasattr(host, "is_loopback") else ""
        if isinstance(host, tuple | list):
            hint = "give the port apart, as port="
        raise wrong("host", "an address or a name, as text", host, hint)
    if "://" in host:
        raise LocalProtocolError(f"{shown(host)} is a URL: give the host alone, and port= where it is not 853")
    address, colon, port = host.rpartition(":")
    if colon and port.isdecimal() and (address.endswith("]") or ":" not in address):
        raise LocalProtocolError(f"{shown(host)} names a port: give {shown(address)} as the host and port={port[:5]}")
    normalize_name(host)
    return host[1:-1] if host.startswith("[") else host


def default_policy(host: str) -> AuthenticationPolicy:
    """Strict, by the name or address that is dialled, against the system's trust store (RFC 8310, section 5)."""
    return AuthenticationPolicy.strict(host)
