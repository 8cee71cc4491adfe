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

from .._transport import FLUSH_TIMEOUT, RECEIVE_SIZE, acknowledge_at_once, send_at_once
from ..tls import TLSClient, TLSServer


class Wire:
    """One stream and one session.  ``note`` gets the events; ``quick``: acknowledge what is read at once."""

    def __init__(
        self,
        stream: trio.SocketStream,
        session: TLSClient | TLSServer,
        note: Callable[[list[Event]], None],
        *,
        quick: bool,
    ) -> None:
        send_at_once(stream)
        self._stream = stream
        self._session = session
        self._note = note
        self._is_quick = quick
        self._everything = trio.CancelScope(shield=True)
        self._waiting: trio.CancelScope | None = None
        self._idle_writer = trio.lowlevel.ParkingLot()
        self._is_reading_paused = False
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
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self._stream)
            self._note(self._session.receive_eof(now=trio.current_time()))
            self.ended.set()

    def flush(self) -> None:
        """Have the writer send what the session has to send, and the reader keep the session's timer."""
        self._idle_writer.unpark()
        if self._waiting is not None:
            self._waiting.deadline = self._next_deadline()

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

    async def _read(self) -> None:
        while not self._session.is_finished:
            data: bytes | bytearray | None = None
            try:
                with trio.CancelScope(deadline=self._next_deadline()) as self._waiting:
                    if self._is_reading_paused:
                        await trio.sleep_forever()
                    data = await self._stream.receive_some(RECEIVE_SIZE)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self._note(self._session.fail(_words(error), now=trio.current_time()))
                break
            now = trio.current_time()
            if data is None:
                events = self._session.handle_timeout(now=now)
            elif data:
                if self._is_quick:
                    acknowledge_at_once(self._stream)
                events = self._session.receive_data(bytes(data), now=now)
            else:
                events = self._session.receive_eof(now=now)
            if events:
                self._note(events)
            self._idle_writer.unpark()

    async def _write(self) -> None:
        """Send until the session has ended and nothing is left to be sent."""
        while True:
            chunks = self._session.data_to_send()
            if chunks:
                self.is_sending = True
                try:
                    await self._stream.send_all(b"".join(chunks))
                except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                    self._note(self._session.fail(_words(error), now=trio.current_time()))
                    self._everything.cancel()
                    return
                self.is_sending = False
                self._note([])
            elif self._session.is_finished:
                if self._waiting is not None:
                    self._waiting.cancel()
                return
            else:
                await self._idle_writer.park()


def _words(error: Exception) -> str:
    """What broke, in the system's words where they are known."""
    cause = error.__cause__
    return (isinstance(cause, OSError) and cause.strerror) or str(cause or error) or "the connection is broken"
