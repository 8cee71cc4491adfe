"""Moves octets between one asyncio transport and one TLS session; decides nothing.

The transport is the plain one: TLS is the session's.  The loop's own TLS would hold 256 KiB for each connection
and would let queries leave before the peer is judged.
"""

from __future__ import annotations

import asyncio
import math
import sys
import threading
from collections.abc import Callable
from typing import Final, cast

from dot_proto import Event

from .._fork import let_go
from .._transport import RECEIVE_SIZE, SendTimeout, acknowledge_at_once, reset_on_close, send_at_once
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

    ``process_events`` gets what the session's verbs return, ``on_writability`` is called when the peer has begun or
    ceased to read too slowly.  ``quickack``: acknowledge what is read at once.  ``send_timeout`` is in seconds: a
    peer that takes nothing of what it is sent for so long is given up.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        session: TLSClient | TLSServer,
        process_events: Callable[[list[Event]], None],
        on_writability: Callable[[], None] = lambda: None,
        *,
        quickack: bool = False,
        send_timeout: float = math.inf,
    ) -> None:
        self._loop = loop
        self._session = session
        self._process_events = process_events
        self._on_writability = on_writability
        self._quickack = quickack
        self._send_timeout = SendTimeout(send_timeout)
        self._buffer = _BUFFERS.get()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._will_flush = False
        self._is_reading_wanted = True
        self.is_write_paused: bool = False
        "Whether the peer reads too slowly for more to be sent."
        self.ended: Final[asyncio.Future[None]] = loop.create_future()
        "Done when the transport is gone."

    @property
    def unsent(self) -> int:
        """Octets that the kernel has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def start_flush(self) -> None:
        """Flush at the end of this turn of the loop: what several tasks ask leaves together."""
        if not self._will_flush:
            self._will_flush = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send what the session has to send, keep the timer, and close when the session has ended."""
        self._will_flush = False
        transport = self._transport
        if transport is None:
            return
        if not transport.is_closing():
            if self.is_write_paused:
                self._watch_sending()
                self._keep_reading()
            elif chunks := self._session.data_to_send():
                transport.write(chunks[0] if len(chunks) == 1 else b"".join(chunks))
            if self._session.is_finished:
                # The transport goes on to send what it holds, as long as the peer goes on to take it.
                self._watch_sending()
                transport.close()
        self._keep_timer()

    def abort(self) -> None:
        """Close at once, whatever is still to be sent; the end is told as ours."""
        self._process_events(self._session.abort(now=self._loop.time()))
        self._cut_off()

    def give_up(self, explanation: str) -> None:
        """The peer does not do its part: close at once, whatever is still to be sent."""
        self._process_events(self._session.fail(explanation, now=self._loop.time()))
        self._cut_off()

    def abandon(self) -> None:
        """Whoever opened the transport was interrupted: uvloop then closes it beneath us, and does not say so."""
        self._transport = None
        self._stop_timer()
        if not self.ended.done():
            self.ended.set_result(None)

    def forget_parents(self) -> None:
        """In a forked child: neither the socket nor the loop, which is the parent's, is touched again."""
        transport, self._transport = self._transport, None
        self._will_flush = True  # so that nothing is scheduled any more, on a loop that may be closed
        if transport is not None:
            let_go(self._socket)
        self._will_flush = True  # so that nothing is asked of the loop any more: it may have ended
        self.abandon()

    def set_reading(self, wanted: bool) -> None:
        """Take octets from the peer, or stop, so that TCP slows the peer down."""
        self._is_reading_wanted = wanted
        self._keep_reading()

    def renew_timer(self) -> None:
        """Move the timer to the next deadline, be it a later one: then nothing wakes up for what is over."""
        if self._transport is not None:
            self._stop_timer()
            self._keep_timer()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP is up."""
        self._transport = cast("asyncio.Transport", transport)
        self._socket = transport.get_extra_info("socket")
        send_at_once(self._socket)
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
        """The transport is gone: it has failed, or this side has closed it."""
        self._transport = None
        self._stop_timer()
        now = self._loop.time()
        try:
            if exc is None:
                self._process_events(self._session.abort(now=now))
            else:
                self._process_events(self._session.fail(getattr(exc, "strerror", None) or str(exc), now=now))
        finally:  # whoever waits for the end must not wait for ever, also where a fault of ours has brought it
            if not self.ended.done():
                self.ended.set_result(None)

    def pause_writing(self) -> None:
        """The peer reads too slowly."""
        self.is_write_paused = True
        self._watch_sending()
        self._keep_timer()
        self._on_writability()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self.is_write_paused = False
        transport = self._transport
        if transport is not None and transport.is_closing():
            self._watch_sending()  # what is left in the transport is watched to its end
        else:
            self._send_timeout.update(0, now=self._loop.time(), is_last=False)
        self._on_writability()
        self.flush()
        self._keep_reading()

    # Private methods.

    def _act(self, events: list[Event]) -> None:
        if events:
            self._process_events(events)
        if not self._will_flush:
            self.flush()

    def _keep_reading(self) -> None:
        # Where TLS has to answer what is read (KeyUpdate), and the peer does not take the answers, reading on would
        # pile them up.
        wanted = self._is_reading_wanted and (not self.is_write_paused or self._session.wants_data)
        transport = self._transport
        if transport is not None and not transport.is_closing() and transport.is_reading() is not wanted:
            (transport.resume_reading if wanted else transport.pause_reading)()

    def _watch_sending(self) -> None:
        assert self._transport is not None
        unsent = self._transport.get_write_buffer_size()
        self._send_timeout.update(unsent, now=self._loop.time(), is_last=self._session.has_ended)

    def _cut_off(self) -> None:
        transport = self._transport
        if transport is not None:
            if transport.get_write_buffer_size():
                reset_on_close(self._socket)
            transport.abort()

    def _keep_timer(self) -> None:
        """One timer for the connection.  It may ring early, and is moved only to an earlier time."""
        deadline = self._send_timeout.deadline
        due = self._session.next_timeout()
        if due is not None and due < deadline:
            deadline = due
        if deadline < self._timer_at:
            self._stop_timer()
            self._timer_at = deadline  # uvloop's handles do not always know
            self._timer = self._loop.call_at(deadline, self._ring)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = math.inf

    def _ring(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        if self._transport is None:
            return
        now = self._loop.time()
        if self._send_timeout.is_over(now=now):
            self._watch_sending()
            if self._send_timeout.is_over(now=now):  # no octet was taken meanwhile
                self.give_up(SendTimeout.EXPLANATION)
                return
        due = self._session.next_timeout()
        if due is not None and due <= now:
            # Where the process was stopped past the deadline, the answer may be in the kernel, and the loop has not
            # looked since.  It looks between this turn and the next, and tells what it saw in the next: so the
            # deadline counts in the turn after that.
            self._loop.call_soon(self._loop.call_soon, self._time_out)
        else:
            self._keep_timer()

    def _time_out(self) -> None:
        self._act(self._session.handle_timeout(now=self._loop.time()))
