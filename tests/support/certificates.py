"""Certificates in DER whose parts can be chosen, and broken, one by one; nothing signs them."""

from __future__ import annotations

from base64 import b64decode

SEQUENCE, INTEGER, BIT_STRING = 0x30, 0x02, 0x03

ALGORITHM = bytes.fromhex("300a06082a8648ce3d040302")
"ecdsa-with-SHA256 (RFC 5758, section 3.2)."

KEY = b64decode("MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=")
"An Ed25519 SubjectPublicKeyInfo (RFC 8410, section 10.1)."


def element(tag: int, *parts: bytes) -> bytes:
    """One element in DER."""
    content = b"".join(parts)
    if len(content) < 0x80:
        return bytes((tag, len(content))) + content
    size = (len(content).bit_length() + 7) // 8
    return bytes((tag, 0x80 | size)) + len(content).to_bytes(size) + content


EPOCH = element(0x17, b"700101000000Z")


def made(
    *,
    version: bytes = b"\xa0\x03\x02\x01\x02",
    serial: bytes = b"\x02\x01\x01",
    dates: bytes = element(SEQUENCE, EPOCH, EPOCH),
    name: bytes = b"\x30\x00",
    key: bytes = KEY,
    options: bytes = b"",
    signature: bytes = b"\x03\x02\x00\xff",
    behind: bytes = b"",
) -> bytes:
    """A certificate; ``name`` is both issuer and subject, ``behind`` follows the signature."""
    tbs = element(SEQUENCE, version, serial, ALGORITHM, name, dates, name, key, options)
    return element(SEQUENCE, tbs, ALGORITHM, signature, behind)
