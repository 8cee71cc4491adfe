"""What people want to read of a certificate: its subject, on one line, safe to print."""

from __future__ import annotations

from cryptography import x509

UNREADABLE = "(subject cannot be read)"
EMPTY = "(no subject)"


def subject(der: bytes) -> str:
    """The subject in the string form of RFC 4514, but in the certificate's own order, as kdig writes it.

    Never raises: what a server sent may be anything.
    """
    try:
        names = x509.load_der_x509_certificate(der).subject.rdns
        return printable(",".join(name.rfc4514_string() for name in names)) or EMPTY
    except (ValueError, x509.InvalidVersion):
        return UNREADABLE


def printable(text: str) -> str:
    """``text`` without anything that a terminal would obey: escaped as Python would."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
