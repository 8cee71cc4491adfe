"""How the servers of all backends take in a client: whatever fails here fails for this client alone."""

from __future__ import annotations

import errno
import logging
import socket
from abc import abstractmethod
from typing import Any, Final

from ._connections import CLOSING, LOCAL, NO_ADDRESS, ConnectionRecord, ConnectionTable
from ._fork import forgets_after_fork, let_go
from ._listening import BACKLOG, Address, Listeners
from ._peer import Peer, peer_of
from ._reports import ServerStatistics
from ._stays import StaysInProcess
from ._transport import close, notice_vanished, turn_away

ACCEPT_PAUSE: Final = 0.1
"Seconds to wait after accept() has failed, for instance for want of file descriptors."

ROOM_PAUSE: Final = 0.001
"Seconds that it takes at most until the descriptor of a handshake is free that was made to give way."

_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_NO_FAULT_HERE: Final = frozenset(
    {
        errno.ECONNABORTED,
        errno.EPROTO,
        errno.EPERM,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.EHOSTDOWN,
    }
)
"What accept() says of a client that has gone, or that a firewall keeps out: the next may be there already (accept(2))."


class AcceptingServer(StaysInProcess):
    """A server's way in.  Not for use by several threads at a time."""

    def __init__(self, table: ConnectionTable, listeners: Listeners) -> None:
        for listener in listeners.sockets:
            listener.setblocking(False)
        self._table = table
        self._listeners = listeners.sockets
        self._are_shared = listeners.are_shared
        self._is_closing = False
        self.addresses: Final[tuple[Address, ...]] = listeners.addresses
        "The address and port of each listening socket."
        self.host: Final[str] = self.addresses[0][0]
        "The address that is listened on; the first, where there are several."
        self.port: Final[int] = self.addresses[0][1]
        "The port that is listened on; the first, where there are several."
        self._connections: set[Any] = set()
        forgets_after_fork(self)

    def statistics(self) -> ServerStatistics:
        """What was counted since the server began, and how many connections there are now."""
        return self._table.statistics()

    def forget_parents(self) -> None:
        """In a forked child: clients and listening sockets are the parent's, and nothing is sent to anybody."""
        self._is_closing = True
        for listener in self._listeners:
            let_go(listener)
        for connection in self._connections:
            connection.driver.forget_parents()
        self._connections.clear()
        self._table.forget_parents()

    @abstractmethod
    def _start_connection(self, sock: socket.socket, record: ConnectionRecord) -> None:
        """Have TLS begin; may raise whatever it meets, and then leaves nothing behind but the socket."""

    def _accept_next(self, listener: socket.socket) -> float | None:
        """Take in the next client; never raises for what this meets.

        Returns how many seconds to wait before the next call, or ``None`` where no client waits.
        """
        try:
            sock, address = listener.accept()
        except (BlockingIOError, InterruptedError):
            return None
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _NO_FAULT_HERE:
                self._table.refuse(None, NO_ADDRESS, error)
                return 0.0
            self._accept_failed(error)
            return ROOM_PAUSE if _is_shortage(error) and self._table.make_room() else ACCEPT_PAUSE
        self._take_in(sock, address)
        return 0.0

    def _accept_failed(self, error: Exception) -> None:
        self._table.write(logging.WARNING, "accept", f"accept failed, trying again: {error}")

    def _close_listeners(self) -> None:
        """Turn away those who wait in the system's queues, whom closing alone would leave to a reset, and close.

        Those who wait at a socket that others have too, as systemd has it over a restart, are left to them.
        """
        self._is_closing = True
        for listener in self._listeners:
            for _ in range(0 if self._are_shared else BACKLOG):
                if self._accept_next(listener) != 0.0:
                    break
            close(listener)

    def _take_in(self, sock: socket.socket, address: Any) -> None:
        try:
            peer = peer_of(address)
        except Exception as error:  # macOS gives none for a client that has gone at once
            turn_away(sock)
            self._table.refuse(None, NO_ADDRESS, error)
        else:
            self._admit(sock, peer)

    def _admit(self, sock: socket.socket, peer: Peer) -> None:
        """Serve a client that is known, if it may come."""
        record = None
        try:
            if self._is_closing:
                self._table.refuse(peer, CLOSING)
            elif (record := self._table.enter(peer)) is not None:
                sock.setblocking(False)
                notice_vanished(sock)
                self._start_connection(sock, record)
                return
        except Exception as error:
            if record is None:
                self._table.refuse(peer, LOCAL, error)
            else:
                record.fail(LOCAL, error)
                self._table.end(record)
                if _is_shortage(error):  # a thread takes descriptors of its own
                    self._table.make_room(peer)
        turn_away(sock)


def _is_shortage(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in _SHORTAGES
