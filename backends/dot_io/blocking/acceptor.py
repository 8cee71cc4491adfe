"""Accepts from several listening sockets, in one thread that another can stop."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Sequence
from typing import Any

from .._dial import LONGEST_WAIT
from .poller import Poller


class Acceptor:
    """The listening sockets of one server.

    Raises :class:`OSError` for want of the descriptors by which it is stopped.  It is not stopped by ``shutdown()`` of
    a socket: that would end the listening of every process that shares it, as systemd does.
    """

    def __init__(self, listeners: Sequence[socket.socket]) -> None:
        for one in listeners:
            one.setblocking(False)  # whom we are told of may be another process's by now
        self._listeners = listeners
        self._ready: deque[socket.socket] = deque()
        self._is_stopped = False
        self._poller = Poller()
        self._poller.allow_waking()

    def accept(self) -> tuple[socket.socket, Any] | None:
        """Wait for a client, of each listening socket in turn; ``None`` once stopped.  Raises :class:`OSError`."""
        while not self._is_stopped:
            while self._ready:
                try:
                    return self._ready.popleft().accept()
                except (BlockingIOError, InterruptedError):
                    continue
            self._ready.extend(self._poller.select([(one, True, False) for one in self._listeners], LONGEST_WAIT))
        return None

    def stop(self) -> None:
        """Make :meth:`accept` come back, in whatever thread it is."""
        self._is_stopped = True
        self._poller.wake()

    def close(self) -> None:
        """Close all; call when no thread waits any more."""
        for one in self._listeners:
            one.close()
        self._poller.close()
