"""Waits for sockets, or for another thread."""

from __future__ import annotations

import contextlib
import math
import select
import socket
import threading
from collections.abc import Sequence
from typing import Final

from .._transport import close

Watched = tuple[socket.socket, bool, bool]
"A socket, whether it is watched for octets to read, and whether for room to send."


_EVENTS: Final = {
    (reading, writing): (select.POLLIN if reading else 0) | (select.POLLOUT if writing else 0)
    for reading in (False, True)
    for writing in (False, True)
    if hasattr(select, "poll")
}
"By what a socket is watched for."


class Poller:
    """Waits for sockets, or for another thread.

    The other thread's way in takes two file descriptors.  While this is the program's only thread, nobody can come
    that way, so no descriptor is spent on it.
    """

    def __init__(self) -> None:
        self._wakers: tuple[socket.socket, socket.socket] | None = None
        # Windows and some cooperative threads (eventlet) have no poll().
        self._poll = select.poll() if hasattr(select, "poll") else None

    def share(self) -> None:
        """Prepare to be woken, where there are threads that could; raises :class:`OSError` for want of descriptors."""
        if self._wakers is None and threading.active_count() > 1:
            self.allow_waking()

    def allow_waking(self) -> None:
        """Prepare to be woken, also by threads that :mod:`threading` does not count; raises :class:`OSError`."""
        if self._wakers is None:
            wakers = socket.socketpair()
            for end in wakers:
                end.setblocking(False)
            if self._poll is not None:
                self._poll.register(wakers[1], select.POLLIN)
            self._wakers = wakers

    def wake(self) -> None:
        """Make the thread inside :meth:`select` come back."""
        wakers = self._wakers
        if wakers is not None:
            with contextlib.suppress(OSError):  # closed: nobody waits; or full: it is awake already
                wakers[0].send(b"\0")

    def forget(self, sock: socket.socket) -> None:
        """Watch a socket no more; call it before the socket is closed, and its number becomes another's."""
        if self._poll is not None:
            with contextlib.suppress(KeyError, ValueError):  # never watched; closed already
                self._poll.unregister(sock)

    def close(self) -> None:
        """Close what other threads come in by; nobody waits any more."""
        for end in self._wakers or ():
            close(end)

    def select(self, watched: Sequence[Watched], timeout: float) -> dict[socket.socket, bool]:
        """Wait, at most ``timeout`` seconds, until a socket can be used or :meth:`wake` is called.

        Returns those that can be used, and whether they should be read: also where they have failed, since reading
        tells how.
        """
        try:
            return self._select(watched, timeout)
        except (OSError, ValueError):  # a descriptor was closed beneath us, or the system cannot wait
            return {sock: True for sock, _, _ in watched}

    def _select(self, watched: Sequence[Watched], timeout: float) -> dict[socket.socket, bool]:
        waker = None if self._wakers is None else self._wakers[1]
        is_woken = False
        if self._poll is not None:
            by_number: dict[int, socket.socket] = {}
            for sock, reading, writing in watched:
                # The number of now: while we wait, the socket may be closed, and its number become another's.
                by_number[number := sock.fileno()] = sock
                self._poll.register(number, _EVENTS[reading, writing])
            ready: dict[socket.socket, bool] = {}
            # Rounded up to whole milliseconds: rounding down would spin through the last one.
            for number, events in self._poll.poll(math.ceil(timeout * 1000)):
                if number in by_number:
                    ready[by_number[number]] = events != select.POLLOUT
                elif waker is not None and number == waker.fileno():
                    is_woken = True
                else:  # it was closed by another thread while we began to wait
                    with contextlib.suppress(KeyError):
                        self._poll.unregister(number)
        else:
            readers = [sock for sock, reading, _ in watched if reading]
            readable, writable, failed = select.select(
                readers if waker is None else [*readers, waker],
                [sock for sock, _, writing in watched if writing],
                [sock for sock, _, _ in watched],
                timeout,
            )
            is_woken = waker in readable
            ready = dict.fromkeys(writable, False) | dict.fromkeys([*readable, *failed], True)
        if is_woken and waker is not None:
            ready.pop(waker, None)
            try:
                waker.recv(4096)
            except OSError:
                self._forget_wakers()
        return ready

    def _forget_wakers(self) -> None:
        """They were closed beneath us, so their numbers may be others' by now; :meth:`share` makes new ones."""
        wakers, self._wakers = self._wakers, None
        for end in wakers or ():
            number = end.detach()
            if self._poll is not None:
                with contextlib.suppress(KeyError):
                    self._poll.unregister(number)
