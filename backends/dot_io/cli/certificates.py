"""What people want to read of a certificate: subject and names, on one line, safe to print; and files of them.

cryptography is imported when a certificate is to be read, not before: it takes longer than a query.
"""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from ._errors import UsageError, printable

if TYPE_CHECKING:
    from cryptography import x509

MAX_FILE: Final = 16 * 1024 * 1024
"Octets of a file that are read; a whole trust store has a quarter of a megabyte."

UNREADABLE: Final = "(subject cannot be read)"
EMPTY: Final = "(no subject)"

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"To which seconds are added: datetime.fromtimestamp() takes only what the platform's own time does."


def octets_of(file: str) -> bytes:
    """What a file of certificates holds; raises :class:`UsageError` where it cannot be read to its end."""
    try:
        with open(file, "rb") as opened:
            data = opened.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:  # the latter: no name of a file can hold a NUL
        raise UsageError(f"{file}: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > MAX_FILE:
        raise UsageError(f"{file}: more than {MAX_FILE >> 20} MiB, which is no file of certificates")
    return data


def subject(der: bytes) -> str:
    """The subject in the string form of RFC 4514, but in the certificate's own order, as kdig writes it.

    Never raises: what a server sent may be anything.
    """
    try:
        names = _load(der).subject.rdns
        return printable(",".join(name.rfc4514_string() for name in names)) or EMPTY
    except Exception:  # whatever the library raises, the octets are a stranger's
        return UNREADABLE


def alternative_names(der: bytes) -> list[str]:
    """The DNS names and addresses that the certificate is for (RFC 5280, section 4.2.1.6); never raises."""
    from cryptography import x509

    try:
        extension = _load(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = extension.value.get_values_for_type(x509.DNSName)
        return [printable(str(one)) for one in [*names, *extension.value.get_values_for_type(x509.IPAddress)]]
    except Exception:  # as above; also where there is no such extension
        return []


def date(seconds: int | None) -> datetime | None:
    """A date of a certificate; ``None`` where it cannot be read, or is none of the years 1 to 9999; never raises."""
    try:
        return None if seconds is None else EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return None


def _load(der: bytes) -> x509.Certificate:
    from cryptography import x509

    with warnings.catch_warnings():
        # What is odd about a stranger's certificate is no affair of whoever reads the output.
        warnings.simplefilter("ignore")
        return x509.load_der_x509_certificate(der)
