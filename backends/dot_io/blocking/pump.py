"""Moves octets between one connected socket and one TLS session; decides nothing.

Theory of operation.  The socket never blocks: whoever sends tries at once, under the lock, and only what the
kernel will not take waits for :meth:`Pump.wait`, which polls without the lock.  So several threads may use one
pump, while the session, which no two threads may enter, is always touched under the lock (an ``SSLObject``
used by two threads at a time aborts the process; measured).
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import threading
from time import monotonic
from typing import Final

from dot_proto import Event

from ..tls import TLSClient, TLSServer

RECEIVE_SIZE: Final = 65_536
"Octets asked of the socket at a time: four records; larger reads gain nothing (benchmarks)."

_QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None)
"Linux: acknowledge at once.  A server that leaves Nagle's algorithm on holds answers back 40 ms otherwise."


class Pump:
    """One socket and one session; see the module's text for how threads share it."""

    def __init__(
        self, sock: socket.socket, session: TLSClient | TLSServer, *, quick: bool = False, is_wakeable: bool = False
    ) -> None:
        """``quick``: acknowledge what is read at once.  ``is_wakeable``: :meth:`wake` will be used."""
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lock: Final = threading.RLock()
        self.session: Final = session
        self._socket = sock
        self._unsent = bytearray()
        self._is_broken = False
        self._acknowledges_at_once = quick and _QUICKACK is not None
        self._wakers: tuple[socket.socket, ...] = socket.socketpair() if is_wakeable else ()

    def flush(self) -> list[Event]:
        """Send what the session has to send, as far as the kernel takes it now.  Call with the lock held."""
        events: list[Event] = []
        chunks = self.session.data_to_send()
        if self._is_broken:
            return events
        self._unsent += b"".join(chunks)
        try:
            while self._unsent:
                sent = self._socket.send(self._unsent)
                del self._unsent[:sent]
        except BlockingIOError:
            pass
        except OSError as error:
            events += self._broke(error)
        return events

    def wake(self) -> None:
        """Make the thread inside :meth:`wait` look at the session again."""
        if self._wakers:
            with contextlib.suppress(OSError):  # closed meanwhile: then nobody waits
                self._wakers[0].send(b"\0")

    def wait(self, deadline: float | None, *, reading: bool = True) -> list[Event]:
        """Until octets have come or can go, the session has a deadline, or ``deadline`` is reached; then act.

        ``deadline`` is on the monotonic clock, in seconds; ``None``: no limit but the session's own.  Without
        ``reading`` no octets are taken from the peer, whom TCP then slows down.
        """
        with self.lock:
            events = self.flush()
            if events or self.is_finished:
                return events
            timeout = self.session.next_timeout()
            writing = self.has_unsent
        times = [one for one in (timeout, deadline) if one is not None]
        left = max(0.0, min(times) - monotonic()) if times else None
        is_readable = _poll(self._socket, self._wakers[1] if self._wakers else None, reading, writing, left)
        with self.lock:
            if is_readable:
                events += self._receive()
            now = monotonic()
            due = self.session.next_timeout()
            if due is not None and due <= now:
                events += self.session.handle_timeout(now=now)
            return events + self.flush()

    @property
    def has_unsent(self) -> bool:
        """Whether the kernel has not yet taken all that was to be sent."""
        return bool(self._unsent)

    @property
    def is_finished(self) -> bool:
        """Whether the session has ended and all its octets are sent, or cannot be sent any more."""
        return self.session.is_finished and (self._is_broken or not self._unsent)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        for waker in self._wakers:
            waker.close()

    def _receive(self) -> list[Event]:
        try:
            data = self._socket.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return []
        except OSError as error:
            return self._broke(error)
        if not data:
            return self.session.receive_eof(now=monotonic())
        if self._acknowledges_at_once and _QUICKACK is not None:
            self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        return self.session.receive_data(data, now=monotonic())

    def _broke(self, error: OSError) -> list[Event]:
        self._is_broken = True
        return self.session.fail(error.strerror or str(error), now=monotonic())


def _poll(
    sock: socket.socket, waker: socket.socket | None, reading: bool, writing: bool, timeout: float | None
) -> bool:
    """Wait, at most ``timeout`` seconds, until the socket can be used or the waker says so.

    Says whether the socket should be read: also when it has failed, since reading tells how.
    """
    poller = select.poll()
    poller.register(sock, (select.POLLIN if reading else 0) | (select.POLLOUT if writing else 0))
    if waker is not None:
        poller.register(waker, select.POLLIN)
    # Rounded up to whole milliseconds: rounding down would spin through the last one.
    ready = dict(poller.poll(None if timeout is None else math.ceil(timeout * 1000)))
    if waker is not None and waker.fileno() in ready:
        waker.recv(4096)
    return bool(ready.get(sock.fileno(), 0) & ~select.POLLOUT)
