"""Moves octets between one socket and one TLS session; decides nothing.

Theory of operation.  One task reads and keeps the session's timer: its wait for octets ends at the session's next
deadline, which others may move.  Whoever flushes sends at once, and only what the kernel does not take is left to
a second task, which also sends, once for all, what several tasks ask in one turn.  Both run under a shield, so that
a caller's cancellation never tears a record in two; :meth:`Driver.abort` ends them.

The socket is a plain one that never blocks: trio's own, and its streams, try before they wait and pass a checkpoint
in each call, which was a quarter of the time of a query (benchmarks/backends.py).
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable
from typing import Final

import trio

from dot_proto import Event, State

from .._transport import (
    DOES_NOT_READ,
    FLUSH_TIMEOUT,
    RECEIVE_SIZE,
    acknowledge_at_once,
    reset_on_close,
    send_at_once,
)
from ..tls import TLSClient, TLSServer


def plain_socket(sock: trio.socket.SocketType) -> socket.socket:
    """The socket without trio's wrapping, which is left without one."""
    plain = socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())
    plain.setblocking(False)
    return plain


class Driver:
    """One socket and one session.  ``process_events`` gets the events; ``quickack``: acknowledge what is read at once.

    ``send_timeout`` is in seconds: a peer that for so long takes nothing of what is sent is cut off.
    """

    def __init__(
        self,
        sock: socket.socket,
        session: TLSClient | TLSServer,
        process_events: Callable[[list[Event]], None],
        *,
        quickack: bool = False,
        send_timeout: float = math.inf,
    ) -> None:
        send_at_once(sock)
        self._socket = sock
        self._session = session
        self._process_events = process_events
        self._quickack = quickack
        self._send_timeout = send_timeout
        self._everything = trio.CancelScope(shield=True)
        self._waiting: trio.CancelScope | None = None  # for octets to read
        self._pushing: trio.CancelScope | None = None  # for room to write
        self._idle_writer = trio.lowlevel.ParkingLot()
        self._unsent = b""
        self._is_reading_paused = False
        self._is_flush_left = False
        self._will_flush = False
        self._has_read_all = False
        self._failure: str | None = None
        self.ended: Final = trio.Event()
        "Set when the socket is closed."

    @property
    def is_write_paused(self) -> bool:
        """Whether there is something that the kernel has not taken yet: with a peer that does not read, for long."""
        return bool(self._unsent)

    async def run(self) -> None:
        """Move octets until the session has ended; then close the socket."""
        try:
            with self._everything:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    await self._read()
                    self._idle_writer.unpark()
        finally:
            if self._unsent:
                reset_on_close(self._socket)
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
            try:
                self._process_events(self._session.receive_eof(now=trio.current_time()))
            finally:
                self.ended.set()

    def start_flush(self) -> None:
        """Flush once every task that runs in this turn has run: what they ask leaves together."""
        if self._unsent:
            self.flush()  # which sends nothing, but keeps the timer
        elif not self._will_flush:  # to wake the writer again would be 5 % of a query
            self._will_flush = True
            self._idle_writer.unpark()

    def leave_flush(self) -> None:
        """Called from ``process_events``, which promises :meth:`start_flush` in the next turn.

        So the reader does not send first.

        Waking the writer from ``process_events`` would not do: trio runs the tasks of one turn in random order.
        """
        self._is_flush_left = True

    def flush(self) -> None:
        """Send what the session has to send, as far as the kernel takes it, and keep the session's timer."""
        self._will_flush = False
        if not self._unsent:
            self._unsent = b"".join(self._session.data_to_send())
            self._send()
            if self._unsent:
                self._idle_writer.unpark()
        if self._unsent and self._pushing is not None:
            self._pushing.deadline = min(self._pushing.deadline, trio.current_time() + self._allowed())
        if self._waiting is not None:
            if self._is_over():
                self._waiting.cancel()
            elif (deadline := self._next_deadline()) < self._waiting.deadline:  # it may ring early
                self._waiting.deadline = deadline

    def abort(self) -> None:
        """Close at once, whatever is still to be sent."""
        self._everything.cancel()

    def pause_reading(self, paused: bool) -> None:
        """Stop or go on taking octets from the peer, whom TCP then slows down."""
        if self._is_reading_paused and not paused and self._waiting is not None:
            self._waiting.cancel()
        self._is_reading_paused = paused

    def _is_over(self) -> bool:
        # While octets are unsent the session is not drained, and may not have said goodbye yet.
        return not self._unsent and self._session.is_finished

    def _allowed(self) -> float:
        """Seconds in which a peer must take something of what it is sent; what comes last is not waited for long."""
        return FLUSH_TIMEOUT if self._session.connection.state is State.CLOSED else self._send_timeout

    def _next_deadline(self) -> float:
        deadline = self._session.next_timeout()
        return math.inf if deadline is None else deadline

    async def _read(self) -> None:
        while not self._is_over():
            # A scope costs as much as to wait and to read do; so one is kept until it is cancelled or due.
            with trio.CancelScope() as self._waiting:
                self._act(None)  # its flush() gives the scope its deadline
                while not self._is_over():
                    if not self._may_read():
                        await trio.sleep_forever()
                    await trio.lowlevel.wait_readable(self._socket)
                    self._act(self._receive())
            self._waiting = None

    def _may_read(self) -> bool:
        # The end of a stream could be read for ever; where sending has failed, what has come still counts.
        return not self._has_read_all and (self._failure is not None or not self._is_reading_paused)

    def _act(self, data: bytes | None) -> None:
        """Take in what came, octets, the end, or a point in time, and send what follows from it."""
        events = self._take(data, now=trio.current_time())
        if events:
            self._process_events(events)
        if self._is_flush_left:
            self._is_flush_left = False
        else:
            self.flush()

    def _receive(self) -> bytes | None:
        """What is there; ``None`` where after all there is nothing."""
        try:
            return self._socket.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return None
        except OSError as error:
            self._fail(error)
            return b""

    def _take(self, data: bytes | None, *, now: float) -> list[Event]:
        """Hand to the session what came: octets, the end, or a point in time."""
        if data:
            if self._quickack:
                acknowledge_at_once(self._socket)
            return self._session.receive_data(data, now=now)
        self._has_read_all = self._has_read_all or data is not None
        if self._failure is not None and self._has_read_all:
            return self._session.fail(self._failure, now=now)
        return self._session.handle_timeout(now=now) if data is None else self._session.receive_eof(now=now)

    async def _write(self) -> None:
        """Flush when asked to, and send what the kernel did not take, until the session has ended."""
        while not self._is_over():
            if not self._unsent:
                if not self._will_flush:
                    await self._idle_writer.park()
                self.flush()
                continue
            with trio.CancelScope(deadline=trio.current_time() + self._allowed()) as self._pushing:
                await trio.lowlevel.wait_writable(self._socket)
            is_stuck, self._pushing = self._pushing.cancelled_caught, None
            if is_stuck:
                self._process_events(self._session.fail(DOES_NOT_READ, now=trio.current_time()))
                self.abort()
                return
            self._send()
            if not self._unsent:
                self._process_events([])
                self.flush()

    def _send(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError as error:
            self._unsent = b""
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        """TCP has failed; the reader will tell, behind what has come before."""
        if self._failure is None:
            self._failure = error.strerror or str(error)
            if self._waiting is not None:
                self._waiting.cancel()
