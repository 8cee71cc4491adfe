"""Moves octets between one connected socket and one TLS session; decides nothing.

Theory of operation.  The socket never blocks.  Whoever sends tries at once, under the lock, and only what the kernel
does not take is left for later.  So a wait has three parts: :meth:`Driver.prepare` (with the lock held) sends what is
there, looks whether something has come, and says what to wait for; :meth:`Driver.select` waits, without the lock;
:meth:`Driver.act` (with the lock held again) takes in what has come or is due.  A server's thread calls them as one,
:meth:`Driver.wait`; the client puts its own work between them.  The resolver waits for several sockets at once, and
so has a :class:`SocketDriver` for each, and one lock and one poller for all.

The session is always touched with the lock held: an ``SSLObject`` used by two threads at a time aborts the process.
Only one thread waits at a time: of two, the one that has nothing to read might sleep on while the other takes its
answer.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading

from dot_proto import Event

from .._clock import monotonic
from .._dial import remaining
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
from .poller import Poller

Wait = tuple[bool, bool, float]
"""What to wait for: whether octets can be read, whether some can be sent, and until when at the latest, in seconds on
the monotonic clock."""


class SocketDriver:
    """One socket and one session, for whoever waits for the socket; see the module's text for how threads share it.

    ``quickack``: acknowledge what is read at once.  ``send_timeout`` is in seconds: a peer that takes nothing of what
    it is sent for so long is given up.
    """

    def __init__(
        self,
        sock: socket.socket,
        session: TLSClient | TLSServer,
        *,
        quickack: bool = False,
        send_timeout: float = math.inf,
    ) -> None:
        sock.setblocking(False)
        send_at_once(sock)
        self._socket = sock
        self._session = session
        self._quickack = quickack
        self._send_timeout = SendTimeout(send_timeout)
        self._unsent = bytearray()
        self._is_reading_wanted = True
        self._is_broken = False
        self._has_read_all = False

    @property
    def is_write_paused(self) -> bool:
        """Whether the peer reads too slowly for more to be sent."""
        return bool(self._unsent) and not self._is_broken

    @property
    def unsent(self) -> int:
        """Octets that the kernel has not taken yet."""
        return len(self._unsent)

    @property
    def is_finished(self) -> bool:
        """Whether the session has ended, and all its octets are sent or cannot be sent any more."""
        return self._session.is_finished and not self.is_write_paused

    def flush(self) -> list[Event]:
        """Send what the session has to send, as far as the kernel takes it now.  Call with the lock held."""
        events: list[Event] = []
        if self._is_broken:
            self._session.data_to_send()
        else:
            if not self._unsent:
                self._unsent += b"".join(self._session.data_to_send())
            if self._unsent:
                events = self._send()
        if self.is_finished:
            self._shut_down()
        return events

    def take(self) -> list[Event]:
        """Take in what has come, and nothing else.  Call with the lock held."""
        return (self._receive() or []) if self._may_read() else []

    def poll(self) -> list[Event]:
        """Take in what has come, and what is due, without waiting.  Call with the lock held."""
        came = self._receive() if self._may_read() else None
        return (came or []) + self._act_on_time(monotonic()) + self.flush()

    def next_wait(self, deadline: float | None) -> Wait:
        """What to wait for now, at most until ``deadline``."""
        until = self._send_timeout.deadline
        due = self._session.next_timeout()
        if due is not None and due < until:
            until = due
        if deadline is not None and deadline < until:
            until = deadline
        return self._may_read(), self.is_write_paused, until

    def act(self, is_readable: bool) -> list[Event]:
        """Take in what has come and what is due, and send what follows from it.  Call with the lock held."""
        events = (self._receive() if is_readable else None) or []
        return events + self._act_on_time(monotonic()) + self.flush()

    def forget_parents(self) -> None:
        """In a forked child: the socket is not touched again."""
        let_go(self._socket)
        self._is_broken = self._has_read_all = True
        self._unsent = bytearray()  # another thread may have been sending the old one, which is locked then

    def set_reading(self, wanted: bool) -> None:
        """Take octets from the peer, or stop, so that TCP slows the peer down."""
        self._is_reading_wanted = wanted

    def abort(self) -> list[Event]:
        """End TCP at once, whatever is still to be sent; the end is told as ours.  Call with the lock held."""
        events = self._session.abort(now=monotonic())
        self.cut_off()
        return events

    def give_up(self, explanation: str) -> list[Event]:
        """The peer does not do its part: end TCP, whatever is still to be sent.  Call with the lock held."""
        events = self._fail(explanation)
        self._shut_down()
        return events

    def cut_off(self) -> None:
        """Break TCP; no lock is needed, and whoever waits for the socket notices."""
        self._is_broken = True
        self._shut_down()

    def close(self) -> None:
        """Close the socket; call when no thread waits any more."""
        if self._unsent and self._socket.fileno() >= 0:
            reset_on_close(self._socket)
        close(self._socket)

    # Private methods.

    def _may_read(self) -> bool:
        # The end of a stream could be read for ever. And where TLS has to answer what is read (KeyUpdate), and the peer
        # does not take the answers, reading on would pile them up.
        is_taken = not self._unsent or self._session.wants_data
        return self._is_reading_wanted and not self._has_read_all and is_taken

    def _shut_down(self) -> None:
        with contextlib.suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_RDWR)

    def _act_on_time(self, now: float) -> list[Event]:
        events: list[Event] = []
        due = self._session.next_timeout()
        if due is not None and due <= now:
            events += self._session.handle_timeout(now=now)
        if self._send_timeout.is_over(now=now):
            events += self._fail(SendTimeout.EXPLANATION)
        return events

    def _send(self) -> list[Event]:
        try:
            while self._unsent:
                sent = self._socket.send(self._unsent, NO_SIGNAL)
                del self._unsent[:sent]
        except BlockingIOError:
            pass
        except OSError as error:
            return self._break(error.strerror or str(error))
        self._send_timeout.update(len(self._unsent), now=monotonic(), is_last=self._session.has_ended)
        return []

    def _receive(self) -> list[Event] | None:
        """``None``: nothing was there."""
        try:
            data = self._socket.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return None
        except OSError as error:
            return self._break(error.strerror or str(error))
        if data:
            if self._quickack:
                acknowledge_at_once(self._socket)
            return self._session.receive_data(data, now=monotonic())
        if self._has_read_all:
            # EOF was read before.  poll() reports more: TCP is gone in both directions.
            return self._break("the peer has gone")
        self._has_read_all = True
        return self._session.receive_eof(now=monotonic())

    def _break(self, explanation: str) -> list[Event]:
        """TCP has failed.  What came before that still counts, also where it was sending that failed."""
        events: list[Event] = []
        with contextlib.suppress(OSError):
            while data := self._socket.recv(RECEIVE_SIZE):
                events += self._session.receive_data(data, now=monotonic())
        return events + self._fail(explanation)

    def _fail(self, explanation: str) -> list[Event]:
        """Read no more: a peer that does not read may go on to send for ever."""
        self._is_broken = True
        self._send_timeout.update(0, now=monotonic(), is_last=True)
        return self._session.fail(explanation, now=monotonic())


class Driver(SocketDriver):
    """One that can be waited for by itself, by one thread at a time."""

    def __init__(
        self,
        sock: socket.socket,
        session: TLSClient | TLSServer,
        *,
        quickack: bool = False,
        send_timeout: float = math.inf,
    ) -> None:
        super().__init__(sock, session, quickack=quickack, send_timeout=send_timeout)
        self.lock: threading.RLock = threading.RLock()
        self._poller = Poller()
        self._poller.share()

    def wait(self, deadline: float | None = None) -> list[Event]:
        """Until octets have come or can go, the session has a deadline, or ``deadline`` is reached; then act.

        ``deadline`` is on the monotonic clock, in seconds; ``None``: no limit but the session's own.
        """
        with self.lock:
            events = self.prepare()
            if events or self.is_finished:
                return events
            wait = self.next_wait(deadline)
        is_readable = self.select(wait)
        with self.lock:
            return self.act(is_readable)

    def prepare(self) -> list[Event]:
        """Send, and take in what is there already: under load, looking for it costs less than waiting does."""
        try:
            self._poller.share()
        except OSError as error:
            return self._fail(error.strerror or str(error))
        events = self.flush()
        if not events and self._may_read() and not self.is_finished:
            came = self._receive()
            if came is not None:
                events = came + self._act_on_time(monotonic()) + self.flush()
        return events

    def select(self, wait: Wait) -> bool:
        """Wait without the lock; says whether the socket should be read."""
        reading, writing, until = wait
        ready = self._poller.select(((self._socket, reading, writing),), remaining(until, now=monotonic()))
        return ready.get(self._socket, False)

    def wake(self) -> None:
        """Make the thread inside :meth:`select` come back."""
        self._poller.wake()

    def forget_parents(self) -> None:
        """In a forked child: the socket is not touched again, and the lock may have been another thread's."""
        super().forget_parents()
        self.lock = threading.RLock()

    def close(self) -> None:
        """Close the socket; call when no thread waits any more."""
        super().close()
        self._poller.close()
