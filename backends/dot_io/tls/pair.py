"""A certificate chain and its private key, from files in PEM.

OpenSSL names no file, and has the same few words for very different mistakes: a chain with the issuer first is "key
values mismatch", as a key of another certificate is.  So what it refuses is read again here, and the error says which
file, what is wrong with it, and what to do.  What it takes is taken: only dates are looked at, and they are no error,
because a server with an expired certificate still serves clients that go by its pin.
"""

from __future__ import annotations

import errno
import os
import re
import ssl
import time
from typing import Final

from dot_proto import CertificateError, CertificateFacts, LocalProtocolError, certificates_from
from dot_proto.arguments import shown, wrong

from .failures import describe

Name = str | os.PathLike[str]

MAX_PASSWORD: Final = 1024
"Octets, as Python's ssl has it (PEM_BUFSIZE of OpenSSL)."

MAX_FILE: Final = 1 << 20
"Octets that are read of a file to say what is wrong with it: hundreds of certificates."

_LABEL: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,64})-----")

_CERTIFICATE: Final = re.compile(rb"-----BEGIN ((?:X509 )?CERTIFICATE)-----.*?-----END \1-----", re.DOTALL)

_MISMATCH: Final = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})
"Reasons of OpenSSL; the last where the key is of another kind than each certificate (measured with OpenSSL 3.0)."

_CURES: Final = {
    errno.ENOENT: "there is no such file",
    errno.EISDIR: "it is a folder; name the file in it",
    errno.EACCES: "this process may not read it",
}


def check_password(password: object, certificate_file: Name | None, ssl_context: ssl.SSLContext | None) -> None:
    """A text or octets that OpenSSL can take; no word of it gets into an error."""
    if password is None:
        return
    if not isinstance(password, str | bytes):
        hint = "give what it returns" if callable(password) else ""
        raise wrong("password", "a text or octets (str or bytes)", password, hint)
    try:
        length = len(password.encode() if isinstance(password, str) else password)
    except UnicodeEncodeError:
        raise LocalProtocolError("password holds what UTF-8 cannot: give it as bytes") from None
    if not 0 < length <= MAX_PASSWORD:
        raise LocalProtocolError(f"password has {length} octets; it must have 1 to {MAX_PASSWORD}")
    if ssl_context is not None:
        raise LocalProtocolError("password or an ssl_context that has the key; not both")
    if certificate_file is None:
        raise LocalProtocolError("password is given without a certificate_file: give both")


def load_pair(
    context: ssl.SSLContext, certificate_file: Name, key_file: Name | None, password: str | bytes | None
) -> None:
    """Give a context its chain and key; nobody is ever asked for a password on the terminal.

    Raises :class:`~dot_proto.CertificateError` for what is in the files, :class:`OSError` where they cannot be read,
    and :class:`~dot_proto.LocalProtocolError` where a password is missing.
    """
    chain = _File("certificate_file", certificate_file)
    key = None if key_file is None else _File("key_file", key_file)

    def ask_nobody() -> str:
        raise LocalProtocolError(f"{key or chain}: the private key is encrypted: give password=, or the key decrypted")

    try:
        context.load_cert_chain(certificate_file, key_file, ask_nobody if password is None else password)
    except OSError as error:
        raise CertificateError(_explained(chain, key, error)) from error
    _warn_of_dates(chain)


class _File:
    """One file; as text it is what an error begins with."""

    def __init__(self, argument: str, name: Name) -> None:
        self._argument = argument
        self._name = os.fspath(name)
        self.data = b""

    def __str__(self) -> str:
        return f"{self._argument} {self._name!r}"

    def read(self) -> None:
        """Raises :class:`OSError` with the file and the cure; a pipe is left alone."""
        if self.is_pipe:
            return
        try:
            with open(self._name, "rb") as stream:
                self.data = stream.read(MAX_FILE)
        except OSError as error:
            cure = _CURES.get(error.errno or 0, error.strerror)
            raise OSError(error.errno, f"{self._argument}: {cure}", self._name) from None

    @property
    def is_pipe(self) -> bool:
        """Whether it cannot be read a second time: that could wait for ever."""
        return os.path.exists(self._name) and not os.path.isfile(self._name) and not os.path.isdir(self._name)

    @property
    def labels(self) -> list[str]:
        """What PEM blocks begin in it."""
        return [label.decode() for label in _LABEL.findall(self.data)]

    @property
    def has_key(self) -> bool:
        """Whether a private key begins in it, encrypted or not."""
        return any(label.endswith("PRIVATE KEY") for label in self.labels)

    @property
    def has_locked_key(self) -> bool:
        """Whether a private key in it is encrypted (RFC 5958; RFC 1421, section 4.6.1.1)."""
        return "ENCRYPTED PRIVATE KEY" in self.labels or b"Proc-Type: 4,ENCRYPTED" in self.data

    def certificates(self) -> list[CertificateFacts]:
        """In the order of the file; raises :class:`~dot_proto.CertificateError` for one that is damaged."""
        blocks = [match[0] for match in _CERTIFICATE.finditer(self.data)]
        return [CertificateFacts.of(der) for der in certificates_from(b"\n".join(blocks))] if blocks else []


def _explained(chain: _File, key: _File | None, error: OSError) -> str:
    """What is wrong with the files; ``key`` is ``None`` where the chain's has it.  Raises :class:`OSError`."""
    files = [(chain, "x509")] if key is None else [(chain, "x509"), (key, "pkey")]
    for one, _ in files:
        one.read()
    words = describe(error) if isinstance(error, ssl.SSLError) else error.strerror
    in_its_words = f"{', '.join(str(one) for one, _ in files)}: OpenSSL cannot use it: {words}"
    if any(one.is_pipe for one, _ in files):
        return in_its_words
    for one, tool in files:
        if not one.labels:
            return f"{one}: {_without_pem(one.data, tool)}"
    try:
        certificates = chain.certificates()
    except CertificateError as damage:
        return f"{chain}: {damage}"
    if not certificates:
        return f"{chain}: {_without_certificate(chain, key)}"
    where = key or chain
    if not where.has_key:
        if key is None:
            return f"{chain}: there is no private key in it: give key_file="
        return f"{key}: there is no private key in it, but {_listed(key.labels)}"
    if isinstance(error, ssl.SSLError) and error.reason in _MISMATCH:
        return _mismatch(chain, where, certificates)
    if where.has_locked_key:
        return f"{where}: the private key cannot be decrypted: the password is another, or the file is damaged"
    return in_its_words


def _without_pem(data: bytes, tool: str) -> str:
    if not data.strip():
        return "it is empty"
    if data.startswith(b"\x30"):
        if b"\x02\x01\x03\x30" in data[:32]:
            return "it is PKCS #12, not PEM: write it with openssl pkcs12 -in FILE -nodes -out NEW"
        return f"it is DER, not PEM: write it with openssl {tool} -inform DER -in FILE -out NEW"
    return "it is not PEM, which has lines -----BEGIN ...-----"


def _without_certificate(chain: _File, key: _File | None) -> str:
    if key is not None and chain.has_key and _CERTIFICATE.search(key.data):
        return "there is a private key in it, and the certificate in key_file: give them the other way round"
    return f"there is no certificate in it, but {_listed(chain.labels)}"


def _mismatch(chain: _File, key: _File, certificates: list[CertificateFacts]) -> str:
    first, *others = certificates
    for number, one in enumerate(others, 2):
        if first.may_issue and one.issuer == first.subject != one.subject:
            return (
                f"{chain}: the leaf must come first, and certificate 1 is the issuer of certificate {number}: "
                "order them leaf, its issuer, and so on"
            )
    if first.may_issue and not others:
        return (
            f"{chain}: the private key is not that of the certificate in it, which is an issuer's: the leaf must come "
            "first (certbot: fullchain.pem, not chain.pem)"
        )
    where = "the private key in it" if key is chain else f"the private key in {key}"
    return f"{chain}: {where} is not that of certificate 1: give the key that this certificate was issued for"


def _listed(labels: list[str]) -> str:
    return ", ".join(map(shown, dict.fromkeys(labels)))


def _warn_of_dates(chain: _File) -> None:
    try:
        chain.read()
        certificates = chain.certificates()
    except (OSError, CertificateError):  # OpenSSL has taken it
        return
    for number, one in enumerate(certificates, 1):
        if (warning := one.date_warning(time.time())) is not None:
            import logging  # which a program that asks one query has no need of

            logging.getLogger("dot_io").warning("%s: certificate %d: %s", chain, number, warning)
