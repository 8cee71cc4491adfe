"""TSIG keys (RFC 8945), from the command line or from a file as BIND writes them."""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass, field
from typing import Final

from ._errors import UsageError
from .questions import absolute

ALGORITHMS: Final = {
    "hmac-md5": "hmac-md5.sig-alg.reg.int.",
    **{f"hmac-{name}": f"hmac-{name}." for name in ("sha1", "sha224", "sha256", "sha384", "sha512")},
}
"Names in the option and in the message (RFC 8945, section 6)."

MAX_FILE: Final = 65_536
"Octets of a key's file that are read."


@dataclass(frozen=True, slots=True)
class Key:
    """A secret that we share with a server."""

    name: str
    "A domain name, absolute."
    algorithm: str
    "A domain name, as the message has it."
    secret: bytes = field(repr=False)
    is_public: bool = field(default=False, compare=False)
    "Whether it stood on the command line, which every user of the machine may read."


def of_text(option: str, value: str) -> Key:
    """``[ALGORITHM:]NAME:BASE64``; HMAC-SHA256 where none is named."""
    parts = value.split(":")
    if len(parts) not in (2, 3):
        raise UsageError(f"{option}: write [ALGORITHM:]NAME:BASE64, such as hmac-sha256:key.example:c2VjcmV0")
    return _key(option, *(["hmac-sha256", *parts] if len(parts) == 2 else parts), is_public=True)


def of_file(option: str, file: str) -> Key:
    """A file with ``key "NAME" { algorithm NAME; secret "BASE64"; };``, or with a line as of ``-y``."""
    try:
        with open(file, encoding="ascii") as opened:
            content = opened.read(MAX_FILE)
    except (OSError, ValueError) as error:
        raise UsageError(f"{option} {file}: {getattr(error, 'strerror', None) or 'no text in ASCII'}") from error
    name = re.search(r'\bkey\s+"?([^\s"{]+)"?\s*\{', content)
    algorithm = re.search(r'\balgorithm\s+"?([\w.-]+)"?\s*;', content)
    secret = re.search(r'\bsecret\s+"?([\w+/=]+)"?\s*;', content)
    if name and algorithm and secret:
        return _key(f"{option} {file}", algorithm[1], name[1], secret[1], is_public=False)
    parts = content.strip().split(":")
    if len(parts) == 3 and "\n" not in content.strip():
        return _key(f"{option} {file}", *parts, is_public=False)
    raise UsageError(f'{option} {file}: no key; BIND writes key "NAME" {{ algorithm hmac-sha256; secret "BASE64"; }};')


def _key(where: str, algorithm: str, name: str, secret: str, *, is_public: bool) -> Key:
    known = ALGORITHMS.get(algorithm.lower().rstrip("."))
    if known is None:
        raise UsageError(f"{where}: {algorithm!r} is no algorithm of TSIG; one of {', '.join(ALGORITHMS)}")
    try:
        octets = binascii.a2b_base64(secret, strict_mode=True)
    except binascii.Error:
        raise UsageError(f"{where}: the secret of {name!r} is not Base64") from None
    if not octets:
        raise UsageError(f"{where}: the secret of {name!r} is empty")
    return Key(absolute(name), known, octets, is_public)
