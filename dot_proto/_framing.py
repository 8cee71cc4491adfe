"""The two-octet length prefix (RFC 1035, section 4.2.2; RFC 7766, section 8).

A cursor runs over the caller's own octets and slices messages out of them; only an incomplete message is
copied, into a tail.  Deleting the front of a buffer for each message, or adding to a ``bytes`` object, was
measured: the one costs half the speed, the other is quadratic (benchmarks/framing.py keeps the comparison).
"""

from __future__ import annotations

import struct
from typing import Final

from .arguments import check_buffer, wrong
from .errors import LocalProtocolError

MIN_MESSAGE: Final = 12
"Octets: a header, and no DNS message is shorter (RFC 1035, section 4.1.1)."

MAX_MESSAGE: Final = 65_535
"Octets: what a 16-bit length can say (RFC 1035, section 4.2.2)."

_PREFIX: Final = struct.Struct("!H")

Octets = bytes | bytearray | memoryview
"What a read brings; a buffer may be used again once the call is over."


def frame(message: bytes) -> bytes:
    """One message behind its length prefix; the length does not count the prefix itself.

    Raises :class:`~dot_proto.LocalProtocolError` unless the message has 12 to 65535 octets.
    """
    if not isinstance(message, bytes):
        hint = "call its to_wire()" if hasattr(message, "to_wire") else ""
        raise wrong("message", "a DNS message in octets (bytes)", message, hint)
    length = len(message)
    if not MIN_MESSAGE <= length <= MAX_MESSAGE:
        raise LocalProtocolError(f"a DNS message has {MIN_MESSAGE} to {MAX_MESSAGE} octets, not {length}")
    return _PREFIX.pack(length) + message


class Deframer:
    """Octets of a stream in, whole DNS messages out, however the stream is cut.

    Holds at most one incomplete message (65537 octets with its prefix), besides what it was last fed.
    """

    __slots__ = ("_failed", "_needed", "_tail")

    def __init__(self) -> None:
        self._tail = bytearray()
        self._needed = 2  # octets that the tail must hold before looking at it again is worth while
        self._failed = False

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (bytes(self._tail), self._needed, self._failed)

    @property
    def failed(self) -> bool:
        """Whether a length below 12 was met: nothing behind it means anything any more."""
        return self._failed

    @property
    def mid_message(self) -> bool:
        """Whether the stream stands inside a prefix or a message: its end here would be a truncation."""
        return bool(self._tail)

    def feed(self, data: Octets) -> list[bytes]:
        """The messages that ``data`` completes, without their prefixes, in order.

        Once :attr:`failed` is set there are none, and whatever is fed is ignored.
        """
        if not isinstance(data, bytes):
            check_buffer("data", data)
            data = bytes(data)
        if self._failed:
            return []
        if self._tail:
            self._tail += data
            if len(self._tail) < self._needed:
                return []
            octets = bytes(self._tail)
            self._tail = bytearray()
        else:
            octets = data
        messages: list[bytes] = []
        unpack, append = _PREFIX.unpack_from, messages.append
        start, end, needed = 2, len(octets), 2
        while start <= end:
            (length,) = unpack(octets, start - 2)
            if length < MIN_MESSAGE:
                self._failed = True
                return messages
            stop = start + length
            if stop > end:
                needed = 2 + length
                break
            append(octets[start:stop])
            start = stop + 2
        if start - 2 < end:
            self._tail += octets[start - 2 :]
            self._needed = needed
        return messages


def _restored(tail: bytes, needed: int, failed: bool) -> Deframer:
    """A framer that stands where another stood: what pickle and copy call."""
    deframer = Deframer()
    deframer._tail += tail
    deframer._needed, deframer._failed = needed, failed
    return deframer
