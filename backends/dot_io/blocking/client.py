"""The client: one connection that any number of threads may share; ``sharing`` has how."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Generator, Iterable
from contextlib import suppress
from itertools import islice

from dot_proto import AuthenticationPolicy, Cause, ClientConfiguration, ConnectionClosed, Event
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
from .sharing import NestedCallError, SharedByThreads


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
    )
    return connect_by(plan)


def connect_by(plan: Plan) -> Client:
    """:func:`connect` by a plan, which may say more than its arguments."""
    plan = plan.begun(monotonic())
    while True:
        try:
            return _connect(plan)
        except HandshakeError as error:
            plan = plan.after(error)


def _connect(plan: Plan) -> Client:
    started = monotonic()
    sock = dial(plan.host, plan.port, plan.deadline, family=plan.family, source=plan.source)
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


class Client(ClientBase, SharedByThreads[Wait, bool]):
    """One connection to a server; threads may share it.  Made by :func:`connect`; a context manager.

    It does not reconnect: when the server has closed, calls raise
    :class:`~dot_io.errors.ConnectionLostError`, which says whether to ask again elsewhere is safe.
    """

    def __init__(self, plan: Plan, sock: socket.socket, session: TLSClient, *, connect_time: float) -> None:
        ClientBase.__init__(self, plan, session, connect_time=connect_time)
        self._driver = Driver(sock, session, quickack=True)
        SharedByThreads.__init__(self, self._driver.lock)
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
        """In a forked child: end here what the parent goes on with."""
        self._driver.forget_parents()
        self._forget_threads(self._driver.lock)
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
        self.handshake_time: float = monotonic() - started
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
        # The garbage collector may end a generator amid our own work: then its queries end by their time.
        with suppress(NestedCallError), self._lock, self._work:
            for handle in handles:
                self._cancel_query(handle, monotonic())
            self._wake_all()  # it may be others' turn, and there is less to wait for

    # What the threads that share it move, and wait for.

    def _prepare(self) -> None:
        if events := self._driver.prepare():
            self._process_events(events)

    def _hand_over(self) -> None:
        self._process_events(self._driver.flush())
        if self._driver.is_write_paused:
            self._driver.wake()  # to wait until the kernel takes more

    def _next_wait(self, deadline: float | None) -> Wait:
        return self._driver.next_wait(deadline)

    def _select(self, wait: Wait) -> bool:
        return self._driver.select(wait)

    def _act(self, brought: bool) -> bool:
        events = self._driver.act(brought)
        if events:
            self._process_events(events)
        return bool(events)

    def _look(self) -> None:
        self._process_events(self._driver.poll())

    def _next_timeout(self) -> float | None:
        return self._session.next_timeout()

    def _wake_mover(self) -> None:
        self._driver.wake()

    def _process_events(self, events: list[Event]) -> None:
        super()._process_events(events)
        if events and self._followers:
            self._wake_followers()

    def _break_off(self) -> None:
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
