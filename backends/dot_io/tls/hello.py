"""The few octets of TLS that Python's ssl does not show: ALPN offered, tickets, group and signature in use.

For display and for one courtesy to clients; no verdict ever rests on it.  Everything here reads what a peer
sent, so every function returns ``None`` where the octets are not what they should be.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

NO_APPLICATION_PROTOCOL: Final = bytes.fromhex("15030300020278")
"A record with the fatal alert 120 (RFC 7301, section 3.2), in the clear as before any key is agreed on."

MAX_CLIENT_HELLO: Final = 131_396 + 4 + 5 * 9
"""Octets looked at: the largest ClientHello that OpenSSL takes (CLIENT_HELLO_MAX_LENGTH), its own header, and those of
the nine records of 16,384 octets that it comes in at least (RFC 8446, section 5.1).  One that fills more, because it
comes in more records, is OpenSSL's affair alone."""

GROUPS: Final = {
    23: "ECDHE-SECP256R1",
    24: "ECDHE-SECP384R1",
    25: "ECDHE-SECP521R1",
    29: "ECDHE-X25519",
    30: "ECDHE-X448",
    256: "DHE-FFDHE2048",
    257: "DHE-FFDHE3072",
    4588: "X25519MLKEM768",
}
"Named groups (RFC 8446, section 4.2.7; IANA TLS Supported Groups)."

SIGNATURES: Final = {
    0x0401: "RSA-SHA256",
    0x0501: "RSA-SHA384",
    0x0601: "RSA-SHA512",
    0x0403: "ECDSA-SECP256R1-SHA256",
    0x0503: "ECDSA-SECP384R1-SHA384",
    0x0603: "ECDSA-SECP521R1-SHA512",
    0x0804: "RSA-PSS-RSAE-SHA256",
    0x0805: "RSA-PSS-RSAE-SHA384",
    0x0806: "RSA-PSS-RSAE-SHA512",
    0x0807: "EDDSA-ED25519",
    0x0808: "EDDSA-ED448",
    0x0809: "RSA-PSS-SHA256",
    0x080A: "RSA-PSS-SHA384",
    0x080B: "RSA-PSS-SHA512",
}
"Signature schemes (RFC 8446, section 4.2.3)."

_EXTENSION_ALPN: Final = 16
_EXTENSION_TICKET: Final = 35
_EXTENSION_KEY_SHARE: Final = 51


class _Reader:
    """A cursor over octets; reading past the end raises ``IndexError``, which the callers here expect."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        piece = self._data[self._at : self._at + count]
        if len(piece) < count:
            raise IndexError
        self._at += count
        return piece

    def number(self, octets: int) -> int:
        return int.from_bytes(self.take(octets))

    def vector(self, length_octets: int) -> bytes:
        return self.take(self.number(length_octets))

    def __bool__(self) -> bool:
        return self._at < len(self._data)


def _extension(hello: _Reader, wanted: int) -> bytes | None:
    extensions = _Reader(hello.vector(2))
    while extensions:
        kind, data = extensions.number(2), extensions.vector(2)
        if kind == wanted:
            return data
    return None


def _first_message(stream: _Reader) -> bytes:
    """The first handshake message, with its header, out of the records that hold it."""
    message = bytearray()
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4]):
        if stream.number(1) != 22:
            raise IndexError
        stream.take(2)
        message += stream.vector(2)
    return bytes(message)


def offered_alpn(stream: bytes) -> list[bytes] | None:
    """The protocols that a ClientHello at the start of ``stream`` offers; ``None``: none, or cannot be read.

    The ClientHello may come in any number of records (RFC 8446, section 5.1).
    """
    try:
        hello = _Reader(_first_message(_Reader(stream)))
        if hello.number(1) != 1:
            return None
        hello = _Reader(hello.vector(3))
        hello.take(34)
        hello.vector(1)
        hello.vector(2)
        hello.vector(1)
        data = _extension(hello, _EXTENSION_ALPN)
        if data is None:
            return None
        names = _Reader(_Reader(data).vector(2))
        protocols = []
        while names:
            protocols.append(names.vector(1))
    except IndexError:
        return None
    return protocols


def promises_ticket(stream: bytes) -> bool:
    """Whether the ServerHello at the start of ``stream`` announces a ticket (TLS 1.2; RFC 5077, section 3.2)."""
    try:
        hello = _Reader(_first_message(_Reader(stream)))
        if hello.number(1) != 2:
            return False
        hello = _Reader(hello.vector(3))
        hello.take(34)
        hello.vector(1)
        hello.take(3)
        return _extension(hello, _EXTENSION_TICKET) is not None
    except IndexError:
        return False


class RecordCounter:
    """Counts the records of type application_data in a stream of records that is cut anywhere.

    Under TLS 1.3 everything behind the handshake is in such records, tickets too (RFC 8446, section 5.2).
    """

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, octets: bytes) -> int:
        """How many of them are whole with these octets."""
        self._rest += octets
        at = count = 0
        while len(self._rest) - at >= 5:
            end = at + 5 + int.from_bytes(self._rest[at + 3 : at + 5])
            if end > len(self._rest):
                break
            count += self._rest[at] == 23
            at = end
        del self._rest[:at]
        return count


class Observer:
    """What one handshake showed of key exchange and signature."""

    def __init__(self) -> None:
        self.group: str | None = None
        self.signature: str | None = None

    def server_hello(self, data: bytes) -> None:
        """TLS 1.3: the group is in the key share (RFC 8446, section 4.2.8)."""
        hello = _Reader(data[4:])
        hello.take(34)
        hello.vector(1)
        hello.take(3)
        share = _extension(hello, _EXTENSION_KEY_SHARE)
        if share is not None:
            self.group = _name(GROUPS, _Reader(share).number(2))

    def server_key_exchange(self, data: bytes) -> None:
        """TLS 1.2: a named curve, the point, and the signature's scheme (RFC 8422, section 5.4)."""
        exchange = _Reader(data[4:])
        if exchange.number(1) == 3:
            self.group = _name(GROUPS, exchange.number(2))
            exchange.vector(1)
            self.signature = _name(SIGNATURES, exchange.number(2))

    def certificate_verify(self, data: bytes) -> None:
        """TLS 1.3: the scheme comes first (RFC 8446, section 4.4.3)."""
        self.signature = _name(SIGNATURES, _Reader(data[4:]).number(2))


def _name(names: dict[int, str], number: int) -> str:
    return names.get(number, f"0x{number:04X}")


_READERS: Final[dict[int, Callable[[Observer, bytes], None]]] = {
    2: Observer.server_hello,
    12: Observer.server_key_exchange,
    15: Observer.certificate_verify,
}
"By handshake message type (RFC 8446, section 4)."


def observe(context: ssl.SSLContext) -> WeakKeyDictionary[Any, Observer]:
    """Have every handshake under ``context`` observed; returns the observers by ``SSLObject``.

    CPython has a hook for this, without documentation, and it slows every record down: for the command's
    ``-d`` alone.  Where the hook is missing nothing is observed, and nothing else changes.
    """
    observers: WeakKeyDictionary[Any, Observer] = WeakKeyDictionary()

    def look(connection: Any, direction: str, version: int, content: int, kind: int, data: bytes) -> None:
        reader = _READERS.get(kind) if content == 22 and direction == "read" else None
        if reader is not None:
            try:
                reader(observers.setdefault(connection, Observer()), data)
            except IndexError:
                return  # not as the RFC has it: then it is not shown

    if hasattr(context, "_msg_callback"):
        cast("Any", context)._msg_callback = look
    return observers
