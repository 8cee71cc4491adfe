"""Moves octets between one connected socket and one TLS session; decides nothing.

Theory of operation.  The socket never blocks: whoever sends tries at once, under the lock, and only what the
kernel will not take waits for :meth:`Driver.wait`, which polls without the lock.  So several threads may use one
driver, while the session, which no two threads may enter, is always touched under the lock (an ``SSLObject``
used by two threads at a time aborts the process; measured).  One thread waits at a time: of two, the one that
has nothing to read might sleep on while the other takes its answer.
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

from .._transport import FLUSH_TIMEOUT, RECEIVE_SIZE, acknowledge_at_once, reset_on_close, send_at_once
from ..tls import TLSClient, TLSServer

LONGEST_WAIT: Final = 86_400.0
"Seconds to poll for at a time: poll(2) counts milliseconds in 31 bits."


class Driver:
    """One socket and one session; see the module's text for how threads share it."""

    def __init__(
        self,
        sock: socket.socket,
        session: TLSClient | TLSServer,
        *,
        quickack: bool = False,
        send_timeout: float = math.inf,
    ) -> None:
        """``quickack``: acknowledge what is read at once.

        ``send_timeout`` is in seconds: a peer that for so long takes nothing of what is sent is cut off.
        """
        sock.setblocking(False)
        send_at_once(sock)
        self.lock: Final = threading.RLock()
        self.session: Final = session
        self._socket = sock
        self._quickack = quickack
        self._send_timeout = send_timeout
        self._unsent = bytearray()
        self._is_broken = False
        self._has_read_all = False
        self._send_deadline = math.inf
        self.is_finished = False
        "Whether the session has ended and all its octets are sent, or cannot be sent any more."
        self._wakers = socket.socketpair()
        for waker in self._wakers:
            waker.setblocking(False)
        self._poller = select.poll()
        self._poller.register(self._wakers[1], select.POLLIN)

    def flush(self) -> list[Event]:
        """Send what the session has to send, as far as the kernel takes it now.  Call with the lock held."""
        events: list[Event] = []
        chunks = self.session.data_to_send()
        if not self._is_broken:
            self._unsent += b"".join(chunks)
            events = self._send()
        # Looked at only here, since a session that has ended may still have something to say.
        if self.session.is_finished and (self._is_broken or not self._unsent) and not self.is_finished:
            self.is_finished = True
            self.abort()
        return events

    def wake(self) -> None:
        """Make the thread inside :meth:`wait` look at the session again."""
        with contextlib.suppress(OSError):  # closed: nobody waits; or full: it is awake already
            self._wakers[0].send(b"\0")

    def wait(self, deadline: float | None, *, reading: bool = True) -> list[Event]:
        """Until octets have come or can go, the session has a deadline, or ``deadline`` is reached; then act.

        ``deadline`` is on the monotonic clock, in seconds; ``None``: no limit but the session's own.  Without
        ``reading`` no octets are taken from the peer, whom TCP then slows down.
        """
        with self.lock:
            events = self.flush()
            if reading and not self._has_read_all and not events and not self.is_finished:
                # Under load the next octets are there already, and looking for them costs less than waiting does.
                came = self._receive()
                if came is not None:
                    events = came + self._act_on_time() + self.flush()
            if events or self.is_finished:
                return events
            due = self.session.next_timeout()
            writing = self.is_write_paused
            reading = reading and not self._has_read_all  # the end of a stream can be read for ever
        now = monotonic()
        left = min(LONGEST_WAIT, self._send_deadline - now)
        if due is not None:
            left = min(left, due - now)
        if deadline is not None:
            left = min(left, deadline - now)
        is_readable = self._select(reading, writing, max(left, 0.0))
        with self.lock:
            if is_readable:
                events = self._receive() or []
            return events + self._act_on_time() + self.flush()

    def poll(self) -> list[Event]:
        """Take in what has come, and what is due, without waiting.  Call with the lock held."""
        came = None if self._has_read_all else self._receive()
        return (came or []) + self._act_on_time() + self.flush()

    def _act_on_time(self) -> list[Event]:
        events: list[Event] = []
        now = monotonic()
        due = self.session.next_timeout()
        if due is not None and due <= now:
            events += self.session.handle_timeout(now=now)
        if self._send_deadline <= now:
            events += self._broke(TimeoutError("the peer does not read"))
        return events

    @property
    def is_write_paused(self) -> bool:
        """Whether the kernel has not yet taken all that was to be sent."""
        return bool(self._unsent)

    def abort(self) -> None:
        """End TCP at once, whatever is still to be sent; :meth:`wait` will notice."""
        with contextlib.suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket; call when no thread waits any more."""
        if self._unsent and self._socket.fileno() >= 0:
            reset_on_close(self._socket)
        self._socket.close()
        for waker in self._wakers:
            waker.close()

    def _send(self) -> list[Event]:
        was_unsent = len(self._unsent)
        try:
            while self._unsent:
                sent = self._socket.send(self._unsent)
                del self._unsent[:sent]
        except BlockingIOError:
            now = monotonic()
            if self.session.is_finished:
                self._send_deadline = min(self._send_deadline, now + FLUSH_TIMEOUT)
            elif self._send_deadline == math.inf or len(self._unsent) < was_unsent:
                self._send_deadline = now + self._send_timeout
        except OSError as error:
            return self._broke(error)
        else:
            self._send_deadline = math.inf
        return []

    def _receive(self) -> list[Event] | None:
        """``None``: nothing was there."""
        try:
            data = self._socket.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return None
        except OSError as error:
            return self._broke(error)
        if data:
            if self._quickack:
                acknowledge_at_once(self._socket)
            return self.session.receive_data(data, now=monotonic())
        if self._has_read_all:
            # The kernel has more to say than the end that we know of: there is no way to send any more either.
            return self._broke(ConnectionResetError("the peer has gone"))
        self._has_read_all = True
        return self.session.receive_eof(now=monotonic())

    def _broke(self, error: OSError) -> list[Event]:
        """TCP has failed.  What came before that still counts, also where it was sending that failed."""
        self._is_broken = True
        self._send_deadline = math.inf
        events: list[Event] = []
        with contextlib.suppress(OSError):
            while data := self._socket.recv(RECEIVE_SIZE):
                events += self.session.receive_data(data, now=monotonic())
        return events + self.session.fail(error.strerror or str(error), now=monotonic())

    def _select(self, reading: bool, writing: bool, timeout: float) -> bool:
        """Wait, at most ``timeout`` seconds, until the socket can be used or :meth:`wake` is called.

        Says whether the socket should be read: also when it has failed, since reading tells how.
        """
        waker = self._wakers[1]
        self._poller.register(self._socket, (select.POLLIN if reading else 0) | (select.POLLOUT if writing else 0))
        # Rounded up to whole milliseconds: rounding down would spin through the last one.
        ready = dict(self._poller.poll(math.ceil(timeout * 1000)))
        if waker.fileno() in ready:
            waker.recv(4096)
        return bool(ready.get(self._socket.fileno(), 0) & ~select.POLLOUT)
