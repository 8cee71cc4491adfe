"""Moves octets between one trio stream and one TLS session; decides nothing.

Theory of operation.  One task reads and keeps the session's timer: its wait for octets ends at the session's next
deadline, which others may move.  One task writes: whatever was queued while it slept, or sent, leaves in one go.
Both run under a shield, so that a caller's cancellation never tears a record in two; :meth:`Wire.abort` ends them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import trio

from dot_proto import Event

from .._transport import (
    DOES_NOT_READ,
    FLUSH_TIMEOUT,
    RECEIVE_SIZE,
    acknowledge_at_once,
    reset_on_close,
    send_at_once,
)
from ..tls import TLSClient, TLSServer


class Wire:
    """One stream and one session.  ``note`` gets the events; ``quick``: acknowledge what is read at once.

    ``patience`` is in seconds: a peer that for so long takes nothing of what is sent is cut off.
    """

    def __init__(
        self,
        stream: trio.SocketStream,
        session: TLSClient | TLSServer,
        note: Callable[[list[Event]], None],
        *,
        quick: bool = False,
        patience: float = math.inf,
    ) -> None:
        send_at_once(stream)
        self._stream = stream
        self._session = session
        self._note = note
        self._is_quick = quick
        self._patience = patience
        self._everything = trio.CancelScope(shield=True)
        self._waiting: trio.CancelScope | None = None
        self._idle_writer = trio.lowlevel.ParkingLot()
        self._unsent: list[bytes] = []
        self._is_reading_paused = False
        self._has_read_all = False
        self._failure: str | None = None
        self.is_sending = False
        "Whether octets are on their way to the kernel: with a peer that does not read, for long."
        self.ended: Final = trio.Event()
        "Set when the stream is closed."

    async def run(self) -> None:
        """Move octets until the session has ended; then close the stream."""
        try:
            with self._everything:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    await self._read()
                    self._idle_writer.unpark()
                    self._everything.deadline = trio.current_time() + FLUSH_TIMEOUT
        finally:
            if self.is_sending or self._unsent:
                reset_on_close(self._stream)
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self._stream)
            try:
                self._note(self._session.receive_eof(now=trio.current_time()))
            finally:
                self.ended.set()

    def flush(self) -> None:
        """Have the writer send what the session has to send, and the reader keep the session's timer."""
        if self._idle_writer:
            self._idle_writer.unpark()  # it keeps the timer too, once for all that is asked before its turn
        elif self.is_sending:
            self._keep_timer()

    def _keep_timer(self) -> None:
        if self._waiting is not None:
            self._waiting.deadline = self._next_deadline()

    def has_unsent(self) -> bool:
        """Whether there is something that the kernel has not taken yet."""
        self._collect()
        return self.is_sending or bool(self._unsent)

    def abort(self) -> None:
        """Close at once, whatever is still to be sent."""
        self._everything.cancel()

    def pause_reading(self, paused: bool) -> None:
        """Stop or go on taking octets from the peer, whom TCP then slows down."""
        if self._is_reading_paused and not paused and self._waiting is not None:
            self._waiting.cancel()
        self._is_reading_paused = paused

    def _next_deadline(self) -> float:
        deadline = self._session.next_timeout()
        return math.inf if deadline is None else deadline

    def _collect(self) -> None:
        self._unsent += self._session.data_to_send()

    def _is_finished(self) -> bool:
        """Whether the session has ended; what it still has to say, a goodbye, is taken from it first."""
        self._collect()
        return self._session.is_finished

    async def _read(self) -> None:
        while not self._is_finished():
            data: bytes | bytearray | None = None
            # The end of a stream could be read for ever; where sending has failed, what has come still counts.
            may_read = not self._has_read_all and (self._failure is not None or not self._is_reading_paused)
            try:
                with trio.CancelScope(deadline=self._next_deadline()) as self._waiting:
                    if not may_read:
                        await trio.sleep_forever()
                    data = await self._stream.receive_some(RECEIVE_SIZE)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self._failure = self._failure or _words(error)
                data = b""
            events = self._take(data, now=trio.current_time())
            if events:
                self._note(events)
            self._idle_writer.unpark()

    def _take(self, data: bytes | bytearray | None, *, now: float) -> list[Event]:
        """Hand to the session what came: octets, the end, or a point in time."""
        if data:
            if self._is_quick:
                acknowledge_at_once(self._stream)
            return self._session.receive_data(bytes(data), now=now)
        self._has_read_all = self._has_read_all or data is not None
        if self._failure is not None and self._has_read_all:
            return self._session.fail(self._failure, now=now)
        return self._session.handle_timeout(now=now) if data is None else self._session.receive_eof(now=now)

    async def _write(self) -> None:
        """Send until the session has ended and nothing is left to be sent."""
        while True:
            is_finished = self._is_finished()
            if self._unsent:
                chunks, self._unsent = self._unsent, []
                self.is_sending = True
                try:
                    await self._send(b"".join(chunks))
                except OSError as error:
                    self._failure = error.strerror or str(error)
                    break
                except trio.TooSlowError:
                    self._note(self._session.fail(DOES_NOT_READ, now=trio.current_time()))
                    self.abort()
                    return
                self.is_sending = False
                self._note([])
            elif is_finished:
                break
            else:
                await self._idle_writer.park()
                self._keep_timer()
        if self._waiting is not None:
            self._waiting.cancel()

    async def _send(self, octets: bytes) -> None:
        sent = 0
        with memoryview(octets) as view:
            while sent < len(octets):
                with trio.fail_after(self._patience):
                    sent += await self._stream.socket.send(view[sent:])


def _words(error: Exception) -> str:
    """What broke, in the system's words where they are known."""
    cause = error.__cause__
    return (isinstance(cause, OSError) and cause.strerror) or str(cause or error) or "the connection is broken"
