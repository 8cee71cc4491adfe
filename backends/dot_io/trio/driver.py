"""Moves octets between one socket and one TLS session; decides nothing.

Why the socket is a plain one.  trio's own sockets, and its streams, try before they wait and pass a checkpoint in
each call.  That was a quarter of the time of a query (benchmarks/backends.py, rows of trio).  So the socket never
blocks, and this module calls trio only where it really has to wait.

Who reads.  One task, ``run``, waits until the socket can be read, or until the session's next deadline.  A cancel
scope is what makes such a wait end, and to make one costs as much as waiting and reading do.  So one scope is kept
for many reads.  Others move its deadline to an earlier time when the session gets an earlier deadline; they never
move it to a later time, since a wait that ends early only costs a look.  To make the reader look again at once, the
scope is cancelled, and the reader makes a new one.

Who sends.  Whoever has something to send calls ``flush``, which sends at once, as far as the kernel takes it.  Two
things are left to a second task, ``_write``: what the kernel did not take, and what several tasks ask in one turn of
the loop (``start_flush``), so that it leaves in one write.  There is one case more.  When the handshake completes,
the task that waits for it will ask its first query in the next turn, and this query should leave together with
the last octets of the handshake.  The reader must not send those octets before, and the writer cannot be called
either, since trio runs the tasks of one turn in random order.  So ``defer_flush`` tells the reader to leave its
flush to the task that was woken, and that task calls ``start_flush``.

Why both tasks are shielded.  A caller's cancellation must never tear a record in two.  The tasks end when the session
has ended, or when ``abort`` ends them.  Ctrl-C is kept from them for the same reason: trio then raises
KeyboardInterrupt in the program's main task, where it comes out as it is.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable
from typing import Final

import trio

from dot_proto import Event

from .._fork import let_go
from .._transport import (
    NO_SIGNAL,
    RECEIVE_SIZE,
    SendTimeout,
    acknowledge_at_once,
    close,
    reset_on_close,
    send_at_once,
)
from ..tls import TLSClient, TLSServer


class Driver:
    """One socket, which must not block, and one session.

    ``process_events`` gets what the session's verbs return, ``on_writability`` is called when the peer has ceased to
    read too slowly.  ``quickack``: acknowledge what is read at once.  ``send_timeout`` is in seconds: a peer that
    takes nothing of what it is sent for so long is given up.
    """

    def __init__(
        self,
        sock: socket.socket,
        session: TLSClient | TLSServer,
        process_events: Callable[[list[Event]], None],
        on_writability: Callable[[], None] = lambda: None,
        *,
        quickack: bool = False,
        send_timeout: float = math.inf,
    ) -> None:
        send_at_once(sock)
        self._socket = sock
        self._session = session
        self._process_events = process_events
        self._on_writability = on_writability
        self._quickack = quickack
        self._send_timeout = SendTimeout(send_timeout)
        self._everything = trio.CancelScope(shield=True)
        self._waiting: trio.CancelScope | None = None  # the reader's, for octets
        self._pushing: trio.CancelScope | None = None  # the writer's, for room
        self._idle_writer = trio.lowlevel.ParkingLot()
        self._unsent = b""
        self._is_reading_wanted = True
        self._is_flush_deferred = False
        self._will_flush = False
        self._has_read_all = False
        self._failure: str | None = None
        self.ended: Final = trio.Event()
        "Set when the socket is closed."

    @property
    def is_write_paused(self) -> bool:
        """Whether the peer reads too slowly for more to be sent."""
        return bool(self._unsent)

    @property
    def unsent(self) -> int:
        """Octets that the kernel has not taken yet."""
        return len(self._unsent)

    @trio.lowlevel.enable_ki_protection
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
            close(self._socket)
            try:
                self._process_events(self._session.abort(now=trio.current_time()))
            finally:
                self.ended.set()

    def start_flush(self) -> None:
        """Flush once every task that runs in this turn has run: what they ask leaves together."""
        if self._unsent:
            self.flush()  # which sends nothing, but keeps the timer
        elif not self._will_flush:
            self._will_flush = True
            self._idle_writer.unpark()

    def defer_flush(self) -> None:
        """Called from ``process_events``: whoever that wakes calls :meth:`start_flush`, and the reader does not."""
        self._is_flush_deferred = True

    def flush(self) -> None:
        """Send what the session has to send, as far as the kernel takes it, and keep the timers."""
        self._will_flush = False
        if not self._unsent:
            self._unsent = b"".join(self._session.data_to_send())
            self._send()
            if self._unsent:
                self._idle_writer.unpark()
        if self._unsent:
            self._watch_sending()
        if self._waiting is not None:
            if self._is_over():
                self._waiting.cancel()
            elif (deadline := self._next_deadline()) < self._waiting.deadline:  # it may ring early
                self._waiting.deadline = deadline

    def abort(self) -> None:
        """Close at once, whatever is still to be sent; the end is told as ours."""
        self._process_events(self._session.abort(now=trio.current_time()))
        self._everything.cancel()

    def give_up(self, explanation: str) -> None:
        """The peer does not do its part: close at once, whatever is still to be sent."""
        self._process_events(self._session.fail(explanation, now=trio.current_time()))
        self._everything.cancel()

    def forget_parents(self) -> None:
        """In a forked child: neither the socket nor the run, which is the parent's, is touched again."""
        let_go(self._socket)
        self._unsent = b""
        self._has_read_all = True
        self.ended.set()

    def set_reading(self, wanted: bool) -> None:
        """Take octets from the peer, or stop, so that TCP slows the peer down."""
        if wanted and not self._is_reading_wanted and self._waiting is not None:
            self._waiting.cancel()
        self._is_reading_wanted = wanted

    def renew_timer(self) -> None:
        """Move the timer to the next deadline, be it a later one: then nothing wakes up for what is over."""
        if self._waiting is not None:
            self._waiting.deadline = self._next_deadline()

    # Private methods.

    def _is_over(self) -> bool:
        return not self._unsent and self._session.is_finished

    def _next_deadline(self) -> float:
        deadline = self._session.next_timeout()
        return math.inf if deadline is None else deadline

    async def _read(self) -> None:
        data: bytes | None = None
        while not self._is_over():
            with trio.CancelScope() as self._waiting:
                self._act(data)  # its flush() gives the scope its deadline
                while not self._is_over():
                    if not self._may_read():
                        await trio.sleep_forever()
                    if self._failure is None:
                        try:
                            await trio.lowlevel.wait_readable(self._socket)
                        except OSError as error:  # the system cannot watch it; what is there already still counts
                            self._fail(error)
                    self._act(self._receive())
            self._waiting = None
            # Where the process was stopped past a deadline, trio ends the wait without another look at the socket,
            # and the answer may be there.
            data = self._receive() if self._may_read() else None

    def _may_read(self) -> bool:
        # The end of a stream could be read for ever; where sending has failed, what has come still counts. And where
        # TLS has to answer what is read (KeyUpdate), and the peer does not take the answers, they would pile up.
        is_taken = not self._unsent or self._session.wants_data
        return not self._has_read_all and (self._failure is not None or (self._is_reading_wanted and is_taken))

    def _act(self, data: bytes | None) -> None:
        """Take in what came, octets, the end, or a point in time, and send what follows from it."""
        events = self._take(data, now=trio.current_time())
        if events:
            self._process_events(events)
        if self._is_flush_deferred:
            self._is_flush_deferred = False
        else:
            self.flush()

    def _receive(self) -> bytes | None:
        """What is there; ``None`` where after all there is nothing, and the end where TCP has failed otherwise."""
        try:
            return self._socket.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return None if self._failure is None else b""
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

    @trio.lowlevel.enable_ki_protection
    async def _write(self) -> None:
        """Flush when asked to, and send what the kernel did not take, until the session has ended."""
        while not self._is_over():
            if not self._unsent:
                if not self._will_flush:
                    await self._idle_writer.park()
                self.flush()
                continue
            with trio.CancelScope(deadline=self._send_timeout.deadline) as self._pushing:
                await self._until_writable()
            self._pushing = None
            self._send()
            self._watch_sending()
            if self._send_timeout.is_over(now=trio.current_time()):
                self.give_up(SendTimeout.EXPLANATION)
            elif not self._unsent:
                self._on_writability()
                self.flush()
                if self._waiting is not None:
                    self._waiting.cancel()  # it may be that nothing was read while nothing was taken

    async def _until_writable(self) -> None:
        try:
            await trio.lowlevel.wait_writable(self._socket)
        except OSError as error:
            self._unsent = b""
            self._fail(error)

    def _send(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent, NO_SIGNAL) :]
        except BlockingIOError:
            pass
        except OSError as error:
            self._unsent = b""
            self._fail(error)

    def _watch_sending(self) -> None:
        is_last = self._session.has_ended
        self._send_timeout.update(len(self._unsent), now=trio.current_time(), is_last=is_last)
        if self._pushing is not None and self._send_timeout.deadline < self._pushing.deadline:
            self._pushing.deadline = self._send_timeout.deadline

    def _fail(self, error: OSError) -> None:
        """TCP has failed; the reader will tell, behind what has come before."""
        if self._failure is None:
            self._failure = error.strerror or str(error)
            if self._waiting is not None:
                self._waiting.cancel()
