"""What the transports of all backends share: sizes, when a peer that does not read is given up, socket options."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import struct
from typing import Any, Final, Protocol

RECEIVE_SIZE: Final = 65_536
"Octets read at a time: four TLS records; larger reads gain nothing (benchmarks/backends.py)."

KEEPALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPALIVE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""TCP keepalive of a server's connections (RFC 1122, section 4.2.3.6): after 60 seconds of silence a probe each 15
seconds, and the end after the fourth without an answer.  So a client that has vanished holds its place for two minutes.
macOS calls the first number TCP_KEEPALIVE."""

FLUSH_TIMEOUT: Final = 1.0
"Seconds without progress after which the last octets of a session that has ended are given up."

NO_SIGNAL: Final = getattr(socket, "MSG_NOSIGNAL", 0)
"Flag of send(): a connection that has gone is an error, and no SIGPIPE, whatever the program does with signals."

_LINGER_NOT: Final = struct.pack("ii", 1, 0)
"struct linger: switched on, for 0 seconds."

_QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None)
"Linux only."

_USER_TIMEOUT: Final = getattr(socket, "TCP_USER_TIMEOUT", None)
"Linux only (RFC 5482 has the idea; the option of that name in TCP itself is not sent)."

_MAX_USER_TIMEOUT: Final = 2**31 - 1
"Milliseconds; the kernel's own type."


class SendTimeout:
    """When a peer that takes nothing of what it is sent is given up; decided here for every backend.

    A driver calls :meth:`update` whenever it has tried to send, and :meth:`is_over` when :attr:`deadline` has come.
    The peer has ``seconds`` to take something.  Every octet that the kernel takes starts the time anew, so a slow
    peer is no dead one.  What a session sends last is not worth a long wait: then :data:`FLUSH_TIMEOUT` counts.
    """

    EXPLANATION: Final = "the peer does not read what it is sent"
    "The text of the failure that follows."

    def __init__(self, seconds: float = math.inf) -> None:
        self._seconds = seconds
        self._unsent = 0
        self.deadline = math.inf
        "On the driver's clock, in seconds; infinity while nothing is unsent."

    def update(self, unsent: int, *, now: float, is_last: bool) -> None:
        """``unsent`` octets have not been taken by the kernel; ``is_last``: nothing will follow them.

        Octets are added only while none are unsent, so fewer than before always means progress.
        """
        before, self._unsent = self._unsent, unsent
        if not unsent:
            self.deadline = math.inf
            return
        if not before or unsent < before:
            self.deadline = now + self._seconds
        if is_last:
            self.deadline = min(self.deadline, now + FLUSH_TIMEOUT)

    def is_over(self, *, now: float) -> bool:
        """Whether the peer is to be given up now."""
        return self.deadline <= now


def start_connecting(
    family: int, kind: int, protocol: int, address: Any, *, source: tuple[str, int] | None = None
) -> tuple[socket.socket, bool]:
    """A socket that does not block, and whether it is connected already; the attempt ends when it can be written to.

    ``source`` is the address and port of ours to connect from.  Raises :class:`OSError`, as for a family that this
    kernel does not have.
    """
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        if source is not None:
            sock.bind(source)
        sock.connect(address)
    except (BlockingIOError, InterruptedError):  # either way the kernel goes on with it
        return sock, False
    except BaseException:
        sock.close()
        raise
    return sock, True


def failure_of_connecting(sock: socket.socket) -> OSError | None:
    """How an attempt has ended; the socket of one that failed is closed."""
    try:
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except OSError as error:
        close(sock)
        return error
    if not number:
        return None
    sock.close()
    return OSError(number, os.strerror(number))


def close(sock: socket.socket) -> None:
    """Close a socket, also one whose descriptor somebody has closed beneath it (as programs that become daemons do)."""
    with contextlib.suppress(OSError):
        sock.close()


def turn_away(sock: socket.socket) -> None:
    """Close a connection that is not to be served, in order: to close with octets unread would reset TCP."""
    with contextlib.suppress(Exception):
        sock.setblocking(False)
        sock.shutdown(socket.SHUT_WR)
        sock.recv(RECEIVE_SIZE)
    close(sock)


class _HasOptions(Protocol):
    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None: ...


# Each of the following is a wish.  Some systems refuse it where the peer has reset TCP already (EINVAL on macOS): that
# is told by what is read or sent next, in its place, and behind what came before it.


def send_at_once(sock: _HasOptions) -> None:
    """Switch Nagle's algorithm off: small messages do not wait for acknowledgements (RFC 7858, section 3.4)."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def acknowledge_at_once(sock: _HasOptions) -> None:
    """Acknowledge what has been read now: a server with Nagle's algorithm on holds answers back 40 ms otherwise.

    The kernel forgets the option, so it is set again after each read.
    """
    if _QUICKACK is not None:
        try:  # contextlib.suppress() would cost more than the call
            sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        except OSError:
            return


def notice_vanished(sock: _HasOptions) -> None:
    """Let TCP fail where the peer has gone without a word, also while nothing is sent: see :data:`KEEPALIVE`."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        option = getattr(socket, name, None)
        if option is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, option, value)


def give_up_unacknowledged(sock: _HasOptions, seconds: float) -> None:
    """Let TCP fail once something sent has not been acknowledged for so long.

    Otherwise the kernel sends it again and again to a peer that has vanished, for a quarter of an hour, and holds the
    socket for as long after it was closed.  Infinity leaves the kernel's own time; so does a system without the option.
    """
    if _USER_TIMEOUT is not None and seconds < math.inf:
        milliseconds = min(max(math.ceil(seconds * 1000), 1), _MAX_USER_TIMEOUT)  # 0 would be the kernel's own
        with contextlib.suppress(OSError):  # a kernel that stands in for Linux, and lacks it
            sock.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, milliseconds)


def reset_on_close(sock: _HasOptions) -> None:
    """Let closing reset TCP, since not all was sent.

    Otherwise the kernel would go on offering what it holds, megabytes perhaps, to a peer that does not read.
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
