"""Moves octets between one asyncio transport and one TLS session; decides nothing.

The transport is the plain one: TLS is the session's.  The loop's own TLS would hold 256 KiB for each connection
and would let queries leave before the peer is judged.
"""

from __future__ import annotations

import asyncio
import math
import socket
import sys
import threading
from collections.abc import Callable
from typing import Final, cast

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


class _Buffers(threading.local):
    """A selector loop fills a buffer and has it emptied in one go: all connections of one thread can share one."""

    def __init__(self) -> None:
        self.shared = memoryview(bytearray(RECEIVE_SIZE))

    def get(self) -> memoryview:
        # The proactor loop of Windows fills it later.
        return memoryview(bytearray(RECEIVE_SIZE)) if sys.platform == "win32" else self.shared


_BUFFERS: Final = _Buffers()


class Driver(asyncio.BufferedProtocol):
    """One transport and one session.

    ``begin`` is called when TCP is up, and returns the session and the function that takes its events.
    ``quickack``: acknowledge what is read at once.  ``send_timeout`` is in seconds: a peer that takes
    nothing of what is sent for so long is cut off.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        begin: Callable[[Driver], tuple[TLSClient | TLSServer, Callable[[list[Event]], None]]],
        *,
        quickack: bool = False,
        send_timeout: float = math.inf,
    ) -> None:
        self._loop = loop
        self._begin = begin
        self._quickack = quickack
        self._send_timeout = send_timeout
        self._progress_timer: asyncio.TimerHandle | None = None
        self._buffer = _BUFFERS.get()
        self._session: TLSClient | TLSServer
        self._process_events: Callable[[list[Event]], None]
        self._transport: asyncio.Transport
        self._socket: socket.socket
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._will_flush = False
        self.is_write_paused = False
        "Whether the peer reads too slowly for more to be sent."
        self.ended: Final[asyncio.Future[None]] = loop.create_future()
        "Done when the transport is gone."

    def start_flush(self) -> None:
        """Flush at the end of this turn of the loop: what several tasks ask leaves together."""
        if not self._will_flush:
            self._will_flush = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send what the session has to send, keep its timer, and close when it has ended."""
        self._will_flush = False
        transport = self._transport
        if transport.is_closing() or self.ended.done():
            return
        chunks = self._session.data_to_send()
        if chunks:
            transport.write(chunks[0] if len(chunks) == 1 else b"".join(chunks))
        if self._session.is_finished:
            transport.close()
            self._set_timer(self._loop.time() + FLUSH_TIMEOUT, self.abort)
        else:
            self._keep_timer()

    def abandon(self) -> None:
        """Whoever opened this was interrupted: uvloop closes the transport then, and does not say so."""
        self._stop_timers()
        if not self.ended.done():
            self.ended.set_result(None)

    def abort(self) -> None:
        """Close at once, whatever is still to be sent."""
        if self._transport.get_write_buffer_size():
            reset_on_close(self._socket)
        self._transport.abort()

    def pause_reading(self, paused: bool) -> None:
        """Stop or go on taking octets from the peer, whom TCP then slows down."""
        transport = self._transport
        if not transport.is_closing() and transport.is_reading() is paused:
            (transport.pause_reading if paused else transport.resume_reading)()

    def peer_name(self) -> tuple[str, int]:
        """The peer's address and port."""
        name = self._transport.get_extra_info("peername")
        return (name[0], name[1]) if name else ("", 0)

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP is up."""
        self._transport = cast("asyncio.Transport", transport)
        self._socket = transport.get_extra_info("socket")
        send_at_once(self._socket)
        self._session, self._process_events = self._begin(self)
        self.flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to put the next octets."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Octets have come."""
        if self._quickack:
            acknowledge_at_once(self._socket)
        self._act(self._session.receive_data(bytes(self._buffer[:nbytes]), now=self._loop.time()))

    def eof_received(self) -> bool:
        """TCP ends; we close by ourselves, after what is left to be sent."""
        self._act(self._session.receive_eof(now=self._loop.time()))
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone, by whichever side."""
        self._stop_timers()
        now = self._loop.time()
        try:
            if exc is None:
                self._process_events(self._session.receive_eof(now=now))
            else:
                self._process_events(self._session.fail(getattr(exc, "strerror", None) or str(exc), now=now))
        finally:  # whoever waits for the end must not wait for ever, also where a fault of ours has brought it
            if not self.ended.done():
                self.ended.set_result(None)

    def pause_writing(self) -> None:
        """The peer reads too slowly."""
        self.is_write_paused = True
        if self._send_timeout < math.inf:
            self._await_progress(self._transport.get_write_buffer_size())
        self._process_events([])

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self.is_write_paused = False
        self._stop_progress_timer()
        self._process_events([])
        self.flush()

    def _await_progress(self, unsent: int) -> None:
        self._progress_timer = self._loop.call_later(self._send_timeout, self._check_progress, unsent)

    def _check_progress(self, before: int) -> None:
        unsent = self._transport.get_write_buffer_size()
        if unsent < before:
            self._await_progress(unsent)
        else:
            self._process_events(self._session.fail(DOES_NOT_READ, now=self._loop.time()))
            self.abort()

    def _stop_timers(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._stop_progress_timer()

    def _stop_progress_timer(self) -> None:
        if self._progress_timer is not None:
            self._progress_timer.cancel()
            self._progress_timer = None

    def _act(self, events: list[Event]) -> None:
        if events:
            self._process_events(events)
        if not self._will_flush:
            self.flush()

    def _keep_timer(self) -> None:
        """One timer for the connection.  It may ring early, and is moved only to an earlier time."""
        deadline = self._session.next_timeout()
        if deadline is None or (self._timer is not None and self._timer_at <= deadline):
            return
        self._set_timer(deadline, self._ring)

    def _set_timer(self, deadline: float, act: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline  # uvloop's handles do not always know
        self._timer = self._loop.call_at(deadline, act)

    def _ring(self) -> None:
        self._timer = None
        self._act(self._session.handle_timeout(now=self._loop.time()))
