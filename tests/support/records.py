"""TLS records: taken apart, and made without OpenSSL's consent in a session whose secrets a key log tells.

What OpenSSL refuses to send (a word after close_notify, a wish to renegotiate, an empty record) is made here from
RFC 5246 and RFC 8446.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, DATA = 20, 21, 22, 23
"Types of records (RFC 8446, section 5.1)."

CLOSE_NOTIFY = b"\x01\x00"
HELLO_REQUEST = b"\x00\x00\x00\x00"

SUITE = "ECDHE-ECDSA-AES128-GCM-SHA256"
"What :class:`Forger` knows how to protect under TLS 1.2; under 1.3 it knows AES-GCM of either length."


@dataclass(frozen=True)
class Record:
    """One record as it travels."""

    kind: int
    body: bytes


def records(stream: bytes) -> Iterator[Record]:
    """The records of a stream that ends with a whole one."""
    offset = 0
    while offset < len(stream):
        kind, length = struct.unpack_from("!B2xH", stream, offset)
        body = stream[offset + 5 : offset + 5 + length]
        assert len(body) == length, "the stream ends inside a record"
        yield Record(kind, body)
        offset += 5 + length


def data_lengths(stream: bytes) -> list[int]:
    """How many octets of plaintext each record with data has: exact under TLS 1.2 with AES-GCM."""
    return [len(record.body) - 24 for record in records(stream) if record.kind == DATA]


class Forger:
    """Speaks in the name of one side of a session, behind the back of its OpenSSL.

    ``wire`` is all that has travelled so far; ``said`` how many records of data that side has sent by then.  A server
    must have sent no tickets.
    """

    def __init__(self, keylog: Path, wire: bytes, *, is_server: bool, said: int = 0) -> None:
        lines = (line.split() for line in keylog.read_text().splitlines() if not line.startswith("#"))
        secrets = {label: bytes.fromhex(secret) for label, _, secret in lines}
        self._secret = secrets.get("SERVER_TRAFFIC_SECRET_0" if is_server else "CLIENT_TRAFFIC_SECRET_0", b"")
        self._sequence = said
        if not self._secret:
            self._sequence += 1  # under TLS 1.2 the first one is Finished
            self._key, self._salt = _keys_12(secrets["CLIENT_RANDOM"], wire, is_server)

    def record(self, kind: int, plaintext: bytes) -> bytes:
        """The next record."""
        sequence, self._sequence = self._sequence, self._sequence + 1
        if self._secret:
            return _seal_13(self._secret, sequence, kind, plaintext)
        # RFC 5246, section 6.2.3.3, and RFC 5288, section 3.
        number = struct.pack("!Q", sequence)
        bound = number + struct.pack("!BHH", kind, 0x0303, len(plaintext))
        sealed = number + AESGCM(self._key).encrypt(self._salt + number, plaintext, bound)
        return struct.pack("!BHH", kind, 0x0303, len(sealed)) + sealed

    def update_key(self, *, is_reply_wanted: bool = True) -> bytes:
        """A record that changes the key, and asks the peer to change his too (TLS 1.3; RFC 8446, section 4.6.3)."""
        update = self.record(HANDSHAKE, b"\x18\x00\x00\x01" + bytes([is_reply_wanted]))
        self._secret, self._sequence = _expand(self._secret, b"traffic upd", len(self._secret)), 0
        return update


def _keys_12(master: bytes, wire: bytes, is_server: bool) -> tuple[bytes, bytes]:
    """Key and implicit nonce (RFC 5246, section 6.3)."""
    # The version tells a hello from an encrypted Finished, which may start with any octet.
    hellos = [one.body for one in records(wire) if one.kind == HANDSHAKE and one.body[4:6] == b"\3\3"]
    client_random = next(body[6:38] for body in hellos if body[0] == 1)
    server_random = next(body[6:38] for body in hellos if body[0] == 2)
    seed = b"key expansion" + server_random + client_random
    block, link = b"", seed
    while len(block) < 40:
        link = hmac.digest(master, link, hashlib.sha256)
        block += hmac.digest(master, link + seed, hashlib.sha256)
    return (block[16:32], block[36:40]) if is_server else (block[:16], block[32:36])


def _seal_13(secret: bytes, sequence: int, kind: int, plaintext: bytes) -> bytes:
    """RFC 8446, sections 5.2, 5.3 and 7.3, for AES-GCM."""
    key = _expand(secret, b"key", {32: 16, 48: 32}[len(secret)])
    nonce = (int.from_bytes(_expand(secret, b"iv", 12)) ^ sequence).to_bytes(12)
    header = struct.pack("!BHH", DATA, 0x0303, len(plaintext) + 1 + 16)
    return header + AESGCM(key).encrypt(nonce, plaintext + bytes([kind]), header)


def _expand(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label without context, for no more than one block (RFC 8446, section 7.1)."""
    name = b"tls13 " + label
    info = struct.pack("!HB", length, len(name)) + name + b"\0"
    return hmac.digest(secret, info + b"\x01", {32: "sha256", 48: "sha384"}[len(secret)])[:length]


def offers_session(hello: bytes) -> bool:
    """Whether the last extension of a ClientHello, in a record of its own, is pre_shared_key (RFC 8446, 4.2.11)."""
    at = 5 + 4 + 2 + 32  # record and handshake headers, version, random
    for octets in (1, 2, 1):  # session id, cipher suites, compression methods
        at += octets + int.from_bytes(hello[at : at + octets])
    at += 2
    kind = -1
    while at < len(hello):
        kind = int.from_bytes(hello[at : at + 2])
        at += 4 + int.from_bytes(hello[at + 2 : at + 4])
    return kind == 41
