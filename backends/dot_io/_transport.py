"""What the transports of all backends share: sizes, limits, and two socket options."""

from __future__ import annotations

import socket
import struct
from typing import Final, Protocol

RECEIVE_SIZE: Final = 65_536
"Octets read at a time: four TLS records; larger reads gain nothing (measured)."

FLUSH_TIMEOUT: Final = 1.0
"Seconds that a session which has ended may take to send its last octets; then a peer that does not read is cut off."

DOES_NOT_READ: Final = "the peer does not read what it is sent"
"Why a connection is given up whose peer takes nothing any more."

_LINGER_NOT: Final = struct.pack("ii", 1, 0)
"struct linger: switched on, for 0 seconds."

_QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None)
"Linux only."


class _HasOptions(Protocol):
    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None: ...


def send_at_once(sock: _HasOptions) -> None:
    """Switch Nagle's algorithm off: small messages do not wait for acknowledgements (RFC 7858, section 3.4)."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def acknowledge_at_once(sock: _HasOptions) -> None:
    """Acknowledge what has been read now: a server with Nagle's algorithm on holds answers back 40 ms otherwise.

    The kernel forgets the option, so it is set again after each read.
    """
    if _QUICKACK is not None:
        sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)


def reset_on_close(sock: _HasOptions) -> None:
    """Let closing reset TCP, since not all was sent.

    Otherwise the kernel would go on offering what it holds, megabytes perhaps, to a peer that does not read.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
