"""The framer against a plain loop that only splits, dnspython's, Twisted's, and the designs that lost.

The base is the least that any framer in Python does: a ``struct.unpack_from`` cursor over octets that hold
whole messages only, collecting slices.

dnspython reads a length and then a message from its socket, here a stand-in that has all octets in memory; what is
measured is its private ``dns.query._net_read``, since ``receive_tcp`` parses as well.  Twisted's is
``Int16StringReceiver``.

Tried and rejected, and kept here as rows of the table:

* ``del buffer[:n]`` for each message: linear, since CPython moves the start of a bytearray and copies nothing,
  but each message is copied twice (out of the buffer, then into ``bytes``).
* ``buffer += data`` and ``buffer = buffer[end:]`` on ``bytes``: level with the best while a read holds few messages,
  quadratic as soon as it holds many, or as a long message comes in small pieces.

Tried, and not worth its lines: a short cut for a read that is exactly one message.  It halves the framer's share of
such a read, a third of a microsecond beside the system call and the decryption that brought it, and all other
reads pay for the test.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import dns.query
from measure import Case, Target, arguments, machine, report, run, verdicts
from twisted.protocols.basic import Int16StringReceiver

from dot_proto import Deframer, frame

READ = 16 * 1024
"Octets of one read: the most that a TLS record holds (RFC 8446, section 5.1)."

PREFIX = struct.Struct("!H")

Feed = Callable[[bytes], list[bytes]]


class DelFront:
    """Rejected: one bytearray, whose front is deleted for each message."""

    def __init__(self) -> None:
        self.buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        messages: list[bytes] = []
        self.buffer += data
        while len(self.buffer) >= 2:
            (length,) = PREFIX.unpack_from(self.buffer)
            if len(self.buffer) < 2 + length:
                break
            messages.append(bytes(self.buffer[2 : 2 + length]))
            del self.buffer[: 2 + length]
        return messages


class AddBytes:
    """Rejected: a ``bytes`` object that grows with each read and is cut anew for each message."""

    def __init__(self) -> None:
        self.buffer = b""

    def feed(self, data: bytes) -> list[bytes]:
        messages: list[bytes] = []
        self.buffer += data
        while len(self.buffer) >= 2:
            (length,) = PREFIX.unpack_from(self.buffer)
            if len(self.buffer) < 2 + length:
                break
            messages.append(self.buffer[2 : 2 + length])
            self.buffer = self.buffer[2 + length :]
        return messages


class InMemory:
    """A socket that has a read's octets already."""

    def __init__(self) -> None:
        self.data = b""
        self.cursor = 0

    def recv(self, count: int) -> bytes:
        start = self.cursor
        self.cursor = min(start + count, len(self.data))
        return self.data[start : self.cursor]


class Dnspython:
    """Its way to take messages from a socket."""

    def __init__(self) -> None:
        self.socket: Any = InMemory()

    def feed(self, data: bytes) -> list[bytes]:
        """The messages of a read that holds whole ones."""
        messages: list[bytes] = []
        sock, read = self.socket, dns.query._net_read
        sock.data, sock.cursor = data, 0
        while sock.cursor < len(data):
            (length,) = PREFIX.unpack(read(sock, 2, None))
            messages.append(read(sock, length, None))
        return messages


class Twisted(Int16StringReceiver):
    """Collects what Twisted's receiver delivers."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def stringReceived(self, string: bytes) -> None:
        self.messages.append(string)

    def feed(self, data: bytes) -> list[bytes]:
        self.messages = []
        self.dataReceived(data)
        return self.messages


def split(data: bytes) -> list[bytes]:
    """The base: whole messages only, and nothing is checked."""
    messages: list[bytes] = []
    unpack, append = PREFIX.unpack_from, messages.append
    cursor, end = 0, len(data)
    while cursor < end:
        (length,) = unpack(data, cursor)
        stop = cursor + 2 + length
        append(data[cursor + 2 : stop])
        cursor = stop
    return messages


def case(name: str, feed: Callable[[], Feed], reads: list[bytes], units: int) -> Case:
    """Feed the reads in turn; a sample begins with a new framer."""

    def prepare() -> Callable[[], object]:
        target = feed()

        def work() -> None:
            for data in reads:
                target(data)

        return work

    return Case(name, prepare, units)


def cut(stream: bytes, size: int) -> list[bytes]:
    return [stream[start : start + size] for start in range(0, len(stream), size)]


def main() -> None:
    chosen = arguments(__doc__)
    machine()
    framed = frame(bytes(60))
    whole_reads = cut(framed * 4096, READ // len(framed) * len(framed))
    any_reads = cut(framed * 4096, READ)
    sixteen, crowd = framed * 16, framed * 65_536
    designs: list[tuple[str, Callable[[], Feed]]] = [
        ("Deframer", lambda: Deframer().feed),
        ("del buffer[:n]", lambda: DelFront().feed),
        ("bytes +=", lambda: AddBytes().feed),
    ]
    by_message = [case("bare loop", lambda: split, whole_reads, 4096)]
    by_message += [case(f"{name}, 16 KiB reads", feed, any_reads, 4096) for name, feed in designs]
    by_message += [
        case("dnspython, 16 KiB reads", lambda: Dnspython().feed, whole_reads, 4096),
        case("Twisted, 16 KiB reads", lambda: Twisted().feed, any_reads, 4096),
    ]
    by_message += [case(f"{name}, one message a read", feed, [framed] * 4096, 4096) for name, feed in designs]
    by_message += [case(f"{name}, 16 in a read", feed, [sixteen] * 64, 1024) for name, feed in designs]
    # The quadratic one would take minutes for 65536, so it shows what it is with 8192.
    by_message += [case(f"{name}, 65536 in one read", feed, [crowd], 65_536) for name, feed in designs[:2]]
    by_message += [case("bytes +=, 8192 in one read", designs[2][1], [framed * 8192], 8192)]
    by_octet = [
        case(f"{name}, {size} octets in 1-octet reads", feed, cut(frame(bytes(size)), 1), size)
        for size in (4096, 65_535)
        for name, feed in designs
    ]
    per_message = run(by_message, rounds=chosen.rounds, quick=chosen.quick)
    per_octet = run(by_octet, rounds=chosen.rounds, quick=chosen.quick)
    report("60-octet messages", per_message, base="bare loop")
    report(
        "One message in 1-octet reads",
        per_octet,
        base="Deframer, 4096 octets in 1-octet reads",
        unit="octet",
    )
    verdicts(
        [
            Target("speed of the bare loop, 16 KiB reads", "Deframer, 16 KiB reads", "bare loop", 0.6, inverted=True),
            Target("speed of dnspython's", "Deframer, 16 KiB reads", "dnspython, 16 KiB reads", 4.5, inverted=True),
            Target("speed of Twisted's", "Deframer, 16 KiB reads", "Twisted, 16 KiB reads", 2.0, inverted=True),
            Target(
                "cost per message, 65536 in a read over 16",
                "Deframer, 65536 in one read",
                "Deframer, 16 in a read",
                1.3,
            ),
            Target(
                "cost per octet in 1-octet reads, 65535 octets over 4096",
                "Deframer, 65535 octets in 1-octet reads",
                "Deframer, 4096 octets in 1-octet reads",
                1.3,
            ),
        ],
        per_message | per_octet,
    )


if __name__ == "__main__":
    main()
