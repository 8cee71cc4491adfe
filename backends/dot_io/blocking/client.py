"""The client: one connection that any number of threads may share.

Theory of operation.  A thread that waits for an answer either moves octets for everybody, as the *mover*, and sorts
what comes, or, if there is a mover already, waits for that thread as a *follower*.  Whoever is not the mover and
changes what the mover should wait for (a query more, an earlier deadline, the end) wakes it.  A mover that has what it
wanted leaves, and wakes the followers, one of which takes its place.

What must hold when threads are interrupted.  Ctrl-C, or any exception that a signal handler raises, can come between
any two instructions of the main thread.  Three kinds of places are told apart:

* While a thread waits (``select``, or for a follower's lock) it holds no lock and has nothing of the session's in its
  hands.  An interruption there is the caller's alone: its query is cancelled, the connection goes on.
* While a thread works on the session, records may have been encrypted and not yet sent, and the engine may have been
  told half of something.  TLS counts its records, so the loss of one breaks the stream for good.  Such work is done
  inside ``with self._lock, self._work``.  ``_work`` notices an exception that is none of ours, and also that a
  former thread never came out in order: then the connection is broken off, and every waiting caller hears of it.
* The lock itself is taken by ``with`` alone.  ``threading.RLock`` takes and gives it back in C, where no interruption
  comes between taking it and being sure to give it back.  ``threading.Condition`` is written in Python and has such
  places; therefore followers wait for a plain lock of their own, outside of ours.

A mover that is interrupted twice could fail to give its role back.  So a follower never waits longer than
``FOLLOWER_WAIT`` without a look at the socket of its own: answers then come late, but nobody waits for ever.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from itertools import islice
from typing import Final
from weakref import WeakMethod

from dot_proto import AuthenticationPolicy, Cause, ClientConfiguration, ConnectionClosed, DoTError, Event
from dot_proto.arguments import check_seconds

from .._address import PORT
from .._client import (
    CLOSE_GRACE,
    CLOSE_TIMEOUT,
    CONNECT_TIMEOUT,
    MAX_IN_FLIGHT,
    ClientBase,
    Outcome,
    Plan,
    Waiter,
    check_many,
    check_query,
    no_first_query,
)
from .._clock import monotonic
from .._dial import connect_error
from ..errors import HandshakeError
from ..tls import ClientContext, TLSClient
from .dial import dial
from .driver import Driver, Wait

FOLLOWER_WAIT: Final = 1.0
"Seconds that a thread relies on the thread that moves octets for it; see the module's text."


def connect(
    host: str,
    policy: AuthenticationPolicy | None = None,
    *,
    port: int = PORT,
    timeout: float = CONNECT_TIMEOUT,
    configuration: ClientConfiguration | None = None,
    context: ClientContext | None = None,
    share_records: bool = False,
    first_query: bytes | None = None,
) -> Client:
    """Connect, shake hands, and check who answers, all within ``timeout`` seconds.

    ``host`` is an address or a name to dial.  Without ``policy`` the server must have a certificate for it that
    the system trusts.  ``context`` carries the policy and TLS settings from one connection to the next, and the
    sessions to resume; it takes the place of ``policy``.  ``first_query`` is a query that leaves with the last octets
    of the handshake, once the server is accepted: see :meth:`Client.first_response`.

    Raises :class:`~dot_io.errors.ConnectError`, :class:`~dot_io.errors.HandshakeError` and its
    :class:`~dot_io.errors.AuthenticationError`; :class:`~dot_proto.LocalProtocolError` for a wrong argument.
    """
    plan = Plan.of(
        host,
        policy,
        port=port,
        timeout=timeout,
        configuration=configuration,
        context=context,
        share_records=share_records,
        first_query=first_query,
    ).begun(monotonic())
    while True:
        try:
            return _connect(plan)
        except HandshakeError as error:
            plan = plan.after(error)


def _connect(plan: Plan) -> Client:
    started = monotonic()
    sock = dial(plan.host, plan.port, plan.deadline)
    try:
        now = monotonic()
        client = Client(plan, sock, plan.new_session(sock, now=now), connect_time=now - started)
    except OSError as error:  # no descriptors are left for a client that threads share
        sock.close()
        raise connect_error(plan.host, plan.port, error) from error
    except BaseException:
        sock.close()
        raise
    client._shake_hands(plan)
    return client


class Client(ClientBase):
    """One connection to a server; threads may share it.  Made by :func:`connect`; a context manager.

    It does not reconnect: when the server has closed, calls raise
    :class:`~dot_io.errors.ConnectionLostError`, which says whether to ask again elsewhere is safe.
    """

    def __init__(self, plan: Plan, sock: socket.socket, session: TLSClient, *, connect_time: float) -> None:
        super().__init__(plan, session, connect_time=connect_time)
        self._driver = Driver(sock, session, quickack=True)
        self._lock = self._driver.lock
        self._work = _Work(self._break_off)
        self._mover: object = None  # the call that moves octets for all
        self._followers: list[threading.Lock] = []  # locks that are held, to be released when something has happened
        self._first: deque[Outcome] | None = None

    def first_response(self) -> bytes:
        """Wait for the response to the query that :func:`connect` was given as ``first_query``.

        It is due within the ``timeout`` of :func:`connect`.  Raises what :meth:`query` raises, and
        :class:`~dot_proto.LocalProtocolError` where there was no such query.
        """
        if self._first is None:
            raise no_first_query()
        first = self._first
        self._wait_until(lambda: bool(first))
        return self._response(first[0])

    def query(self, message: bytes, *, timeout: float | None = None) -> bytes:
        """Ask, and wait for the response, which comes back under the query's own id.

        ``timeout`` is in seconds; the configuration's by default.  While too many queries are on their way this
        waits for its turn.  Raises :class:`~dot_io.errors.QueryTimeoutError`,
        :class:`~dot_io.errors.ConnectionLostError`, :class:`~dot_proto.LocalProtocolError` for a message that is
        no query.
        """
        check_query(message, timeout)
        fates: deque[Outcome] = deque()
        positions: dict[int, int] = {}
        try:
            with self._lock, self._work:
                self._notice()
                if self._queue.capacity > 0:
                    handle = self._session.connection.send_query(message, now=monotonic(), timeout=timeout)
                    positions[handle] = 0
                    self._waiters[handle] = fates.append
            if not positions:
                self._wait_and_send(deque([(0, message)]), positions, fates.append, timeout)
            self._wait_until(fates.__len__)
        except BaseException:
            self._cancel(positions)
            raise
        return self._response(fates[0])

    def query_many(
        self, messages: Iterable[bytes], *, timeout: float | None = None, max_in_flight: int = MAX_IN_FLIGHT
    ) -> Generator[tuple[int, Outcome]]:
        """Ask all of ``messages``, at most ``max_in_flight`` at a time, and yield each one's fate as it comes.

        Yields the message's position, from 0, and a :class:`~dot_proto.ResponseReceived`,
        :class:`~dot_proto.QueryTimedOut` or :class:`~dot_proto.QueryLost`.  When the connection ends while some
        messages were not even asked, :class:`~dot_io.errors.ConnectionLostError` is raised after the fates of
        those that were.  Leaving the loop early cancels what is in flight.
        """
        check_many(messages, timeout, max_in_flight)
        positions: dict[int, int] = {}
        fates: deque[Outcome] = deque()
        source = enumerate(messages)
        waiting = deque(islice(source, max_in_flight))
        with self._lock, self._work:
            self._notice()
        try:
            while positions or waiting:
                with self._lock, self._work:
                    self._ask(waiting, positions, fates.append, now=monotonic(), timeout=timeout)
                if not positions:
                    self._wait_and_send(waiting, positions, fates.append, timeout)
                self._wait_until(fates.__len__)
                while fates:
                    outcome = fates.popleft()
                    position = positions.pop(outcome.query, None)
                    if position is not None:  # else an interruption has had its fate told twice
                        yield position, outcome
                waiting.extend(islice(source, max_in_flight - len(positions) - len(waiting)))
        finally:
            if positions:
                self._cancel(positions)

    def close(self, *, timeout: float = CLOSE_TIMEOUT) -> None:
        """Close in order.  Answers still owed to other threads are waited for, ``timeout`` seconds long."""
        deadline = monotonic() + check_seconds("timeout", timeout) + CLOSE_GRACE
        try:
            with self._lock, self._work:
                self._session.connection.close(now=monotonic(), timeout=timeout)
                self._process_events(self._driver.poll())
                self._wake_all()
            self._wait_until(lambda: self._driver.is_finished, deadline)
        finally:
            with self._lock, self._work:
                self._process_events(self._driver.abort())
                self._wake_all()
            self._wait_for_movers()
            self._driver.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A block that is left by an exception waits for nothing that is still owed.
        self.close(timeout=CLOSE_TIMEOUT if kind is None else 0.0)

    def _drop(self) -> None:
        self._driver.close()

    def forget_parents(self) -> None:
        """In a forked child: end here what the parent goes on with.  No other thread of the parent's lives here."""
        self._driver.forget_parents()
        self._lock = self._driver.lock
        self._mover = None
        self._followers.clear()
        super().forget_parents()

    def _shake_hands(self, plan: Plan) -> None:
        started = monotonic()
        try:
            if plan.first_query is not None:
                self._first = deque()
                with self._lock, self._work:
                    self._ask_first(plan, self._first.append, now=started)
            self._wait_until(self._handshake_is_over)
        except BaseException:
            self._driver.close()
            raise
        self.handshake_time = monotonic() - started
        if self._end is not None:
            self._driver.close()
            raise self._failure()
        self._connected(plan)

    def _notice(self) -> None:
        """Take in what happened while nobody waited: a server may have closed an idle connection."""
        if self._mover is None and self._end is None and (events := self._driver.poll()):
            self._process_events(events)

    def _wait_and_send(
        self, waiting: deque[tuple[int, bytes]], positions: dict[int, int], waiter: Waiter, timeout: float | None
    ) -> None:
        """There is no capacity for any of ``waiting``: wait for our turn, and send as many as there is then."""
        with self._lock, self._work:
            timeout = self._time_in_queue(timeout)
            ticket, is_in_queue = self._queue.enter(self._wake_all), True
        deadline = monotonic() + timeout
        try:
            self._wait_until(lambda: ticket.is_called, deadline)
            with self._lock, self._work:
                is_in_queue = False
                left = self._leave_queue(ticket, timeout, deadline - monotonic())
                self._ask(waiting, positions, waiter, now=monotonic(), timeout=left)
        finally:
            with self._lock, self._work:
                if is_in_queue:
                    self._queue.leave(ticket)
                self._queue.call_next()  # it may be that our turn is not used

    def _cancel(self, handles: Iterable[int]) -> None:
        with self._lock, self._work:
            for handle in handles:
                self._cancel_query(handle, monotonic())
            self._wake_all()  # it may be others' turn, and there is less to wait for

    def _wait_until(self, is_over: Callable[[], object], deadline: float | None = None) -> None:
        """Move octets for everybody, or wait for the thread that does, until something is so or ``deadline`` is past.

        ``is_over`` is asked with the lock held.
        """
        me, driver = object(), self._driver
        try:
            while True:
                wait: Wait | None = None
                follower, follows_until = None, 0.0
                with self._lock, self._work:
                    if self._mover is None:
                        self._mover = me
                    if self._mover is me:
                        if events := driver.prepare():
                            self._process_events(events)
                    else:
                        self._process_events(driver.flush())
                        if driver.is_write_paused:
                            driver.wake()  # to wait until the kernel takes more
                    if is_over() or (deadline is not None and deadline <= monotonic()):
                        return
                    if self._mover is me:
                        wait = driver.next_wait(deadline)
                    else:
                        follower, follows_until = self._follow(), self._follows_until(deadline)
                if wait is not None:
                    is_readable = driver.select(wait)
                    with self._lock, self._work:
                        if events := driver.act(is_readable):
                            self._process_events(events)
                            if is_over():
                                return
                elif follower is not None and not follower.acquire(timeout=max(follows_until - monotonic(), 0.0)):
                    # Our deadline may be earlier than the one that the mover waits for.
                    with self._lock, self._work:
                        self._process_events(driver.poll())
        finally:
            with self._lock:
                if self._mover is me:
                    self._mover = None
                    if self._followers:
                        self._wake_followers()  # one of them must move octets now

    def _follows_until(self, deadline: float | None) -> float:
        """How long a follower relies on the mover, on the monotonic clock."""
        times = (monotonic() + FOLLOWER_WAIT, self._session.next_timeout(), deadline)
        return min(one for one in times if one is not None)

    def _follow(self) -> threading.Lock:
        """A lock that is held until something has happened."""
        lock = threading.Lock()
        lock.acquire()
        self._followers.append(lock)
        return lock

    def _wait_for_movers(self) -> None:
        """Until no thread uses the socket any more, so that it can be closed; all threads have been told to go."""
        deadline = monotonic() + FOLLOWER_WAIT
        while monotonic() < deadline:
            with self._lock:
                if self._mover is None:
                    return
                self._driver.wake()
                follower = self._follow()
            follower.acquire(timeout=0.01)

    def _process_events(self, events: list[Event]) -> None:
        super()._process_events(events)
        if events and self._followers:
            self._wake_followers()

    def _wake_all(self) -> None:
        """Make all threads look again; call with the lock held."""
        self._wake_followers()
        if self._mover is not None:
            self._driver.wake()

    def _wake_followers(self) -> None:
        followers, self._followers = self._followers, []
        for follower in followers:
            follower.release()

    def _break_off(self) -> None:
        """A thread was interrupted amid its work on the session: what is left of it cannot be trusted."""
        self._driver.cut_off()
        try:
            events = self._driver.abort()
        except Exception:  # whatever an engine says that was left halfway
            events = []
        self._process_events(events)
        if self._end is None:
            self._end = ConnectionClosed(cause=Cause.LOCAL_CLOSE, error=None)
        self._lose_waiters()
        self._queue.call_next()
        self._wake_all()


class _Work:
    """Guards work on the session, inside the lock; see the module's text."""

    __slots__ = ("_break_off", "_is_under_way")

    def __init__(self, break_off: Callable[[], None]) -> None:
        self._break_off = WeakMethod(break_off)  # no circle: a client that is dropped is to be noticed at once
        self._is_under_way = False

    def __enter__(self) -> None:
        if self._is_under_way:  # a former thread never came to its end
            self._end_connection()
        self._is_under_way = True

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and not issubclass(kind, DoTError):
            self._end_connection()
        self._is_under_way = False

    def _end_connection(self) -> None:
        break_off = self._break_off()
        if break_off is not None:
            break_off()
