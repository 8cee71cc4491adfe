"""The client: one connection that any number of threads may share.

Theory of operation.  A thread that waits for an answer either waits for the socket, and sorts what comes for
everybody, or, if another thread does so already, waits for that thread.  Whoever changes what that other thread
should wait for wakes it.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from time import monotonic
from typing import Final

from dot_proto import AuthenticationPolicy, ClientConfiguration, Event

from .._address import PORT
from .._client import (
    CLOSE_GRACE,
    CLOSE_TIMEOUT,
    CONNECT_TIMEOUT,
    MAX_IN_FLIGHT,
    ClientBase,
    Outcome,
    check_in_flight,
    connect_error,
    context_for,
    context_with_learnt_anchor,
    no_first_query,
)
from ..errors import ConnectTimeoutError, HandshakeError, QueryTimeoutError
from ..tls import ClientContext, TLSClient
from .driver import LONGEST_WAIT, Driver

SHORTEST_DIAL: Final = 0.001
"Seconds; a timeout of 0 would mean that a socket does not wait at all."


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

    ``host`` is an address or a name to dial; looking up a name takes as long as the system's resolver does.
    Without ``policy`` the server must have a certificate for ``host`` that the system trusts.  ``context``
    carries the policy and TLS settings from one connection to the next, and the sessions to resume; it takes the
    place of ``policy``.  ``first_query`` is a query that leaves with the last octets of the handshake, once the
    server is accepted: see :meth:`Client.first_response`.

    Raises :class:`~dot_io.errors.ConnectError`, :class:`~dot_io.errors.HandshakeError` and its
    :class:`~dot_io.errors.AuthenticationError`; :class:`~dot_proto.LocalProtocolError` for a wrong argument.
    """
    context = context_for(host, port, policy, context)
    deadline = monotonic() + timeout
    try:
        return _connect(host, port, context, configuration, deadline, share_records, first_query)
    except HandshakeError as error:
        learnt = context_with_learnt_anchor(error, context)
        if learnt is None:
            raise
    return _connect(host, port, learnt, configuration, deadline, share_records, first_query)


def _connect(
    host: str,
    port: int,
    context: ClientContext,
    configuration: ClientConfiguration | None,
    deadline: float,
    share_records: bool,
    first_query: bytes | None,
) -> Client:
    started = monotonic()
    try:
        sock = _dial(host, port, deadline)
    except TimeoutError:
        raise ConnectTimeoutError(f"no TCP connection to {host} port {port} in time") from None
    except (OSError, UnicodeError) as error:  # the latter: no host name at all
        raise connect_error(host, port, error) from error
    try:
        now = monotonic()
        session = TLSClient(
            context,
            configuration,
            server=(host, port),
            entropy=os.urandom,
            now=now,
            handshake_timeout=max(deadline - now, 0.0),
            share_records=share_records,
        )
        return Client(sock, session, connect_time=now - started, first_query=first_query, timeout=deadline - now)
    except BaseException:
        sock.close()
        raise


def _dial(host: str, port: int, deadline: float) -> socket.socket:
    """TCP to the first address of ``host`` that takes it; each address has its share of the time that is left."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for left in range(len(addresses), 0, -1):
        family, kind, protocol, _, address = addresses[-left]
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(min(max((deadline - monotonic()) / left, SHORTEST_DIAL), LONGEST_WAIT))
        try:
            sock.connect(address)
        except BaseException as error:
            sock.close()
            if left == 1 or not isinstance(error, OSError):
                raise
        else:
            return sock
    raise OSError("it has no address")


class Client(ClientBase):
    """One connection to a server; threads may share it.  Made by :func:`connect`; a context manager.

    It does not reconnect: when the server has closed, calls raise
    :class:`~dot_io.errors.ConnectionLostError`, which says whether to ask again elsewhere is safe.
    """

    def __init__(
        self, sock: socket.socket, session: TLSClient, *, connect_time: float, first_query: bytes | None, timeout: float
    ) -> None:
        super().__init__(session, connect_time=connect_time)
        self._driver = Driver(sock, session, quickack=True)
        self._changed = threading.Condition(self._driver.lock)
        self._someone_waits = False
        self._first: deque[Outcome] | None = None
        try:
            if first_query is not None:
                self._first = deque()
                self._ask_first(first_query, self._first.append, now=monotonic(), timeout=timeout)
            self._shake_hands()
        except BaseException:
            self._driver.close()
            raise

    def first_response(self) -> bytes:
        """Wait for the response to the query that :func:`connect` was given as ``first_query``.

        It is due within the ``timeout`` of :func:`connect`.  Raises what :meth:`query` raises, and
        :class:`~dot_proto.LocalProtocolError` where there was no such query.
        """
        if self._first is None:
            raise no_first_query()
        self._wait_for_fate(self._first)
        return self._response(self._first[0])

    def query(self, message: bytes, *, timeout: float | None = None) -> bytes:
        """Ask, and wait for the response, which comes back under the query's own id.

        ``timeout`` is in seconds; the configuration's by default.  While too many queries are on their way this
        waits for a place.  Raises :class:`~dot_io.errors.QueryTimeoutError`,
        :class:`~dot_io.errors.ConnectionLostError`, :class:`~dot_proto.LocalProtocolError` for a message that is
        no query.
        """
        fates: deque[Outcome] = deque()
        with self._changed:
            self._poll_once()
            if not self._may_ask():
                timeout = self._wait_for_place(timeout)
            handle = self._session.connection.send_query(message, now=monotonic(), timeout=timeout)
            self._waiters[handle] = fates.append
        try:
            self._wait_for_fate(fates)
        except BaseException:
            self._cancel([handle])
            raise
        return self._response(fates[0])

    def query_many(
        self, messages: Iterable[bytes], *, timeout: float | None = None, max_in_flight: int = MAX_IN_FLIGHT
    ) -> Iterator[tuple[int, Outcome]]:
        """Ask all of ``messages``, at most ``max_in_flight`` at a time, and yield each one's fate as it comes.

        Yields the message's position, from 0, and a :class:`~dot_proto.ResponseReceived`,
        :class:`~dot_proto.QueryTimedOut` or :class:`~dot_proto.QueryLost`.  When the connection ends while some
        messages were not even asked, :class:`~dot_io.errors.ConnectionLostError` is raised after the fates of
        those that were.  Leaving the loop early cancels what is in flight.
        """
        check_in_flight(max_in_flight)
        positions: dict[int, int] = {}
        fates: deque[Outcome] = deque()
        source = enumerate(messages)
        waiting = deque(islice(source, max_in_flight))
        self._poll_once()
        try:
            while positions or waiting:
                with self._changed:
                    left = timeout if positions or self._may_ask() else self._wait_for_place(timeout)
                    places = self._session.connection.capacity
                    self._ask(waiting, places, positions, fates.append, now=monotonic(), timeout=left)
                self._wait_for_fate(fates)
                while fates:
                    outcome = fates.popleft()
                    yield positions.pop(outcome.query), outcome
                waiting.extend(islice(source, max_in_flight - len(positions) - len(waiting)))
        finally:
            if positions:
                self._cancel(positions)

    def close(self, *, timeout: float = CLOSE_TIMEOUT) -> None:
        """Say goodbye and close.  Answers still owed to other threads are waited for, ``timeout`` seconds long."""
        deadline = monotonic() + timeout + CLOSE_GRACE
        with self._changed:
            self._session.connection.close(now=monotonic(), timeout=timeout)
            try:
                self._process_events(self._session.handle_timeout(now=monotonic()))
                self._process_events(self._driver.flush())
                self._wake_all()
                while not self._driver.is_finished and monotonic() < deadline:
                    self._wait_for_news(deadline)
                while self._someone_waits:
                    self._wake_all()
                    self._changed.wait()
            finally:
                self._driver.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _shake_hands(self) -> None:
        started = monotonic()
        with self._changed:
            while not self._handshake_is_over():
                self._wait_for_news(None)
        self.handshake_time = monotonic() - started
        if self._end is not None:
            raise self._failure()

    def _may_ask(self) -> bool:
        return self._session.connection.accepts_queries

    def _wait_for_place(self, timeout: float | None) -> float:
        """Wait until a query can be sent; returns what is left of ``timeout``, in seconds."""
        connection = self._session.connection
        if timeout is None:
            timeout = connection.configuration.query_timeout
        deadline = monotonic() + timeout
        while not self._may_ask():
            if not connection.is_open:
                raise self._lost(safe_to_resend=True)
            if not monotonic() < deadline:
                raise QueryTimeoutError(f"no place for the query within {timeout:.1f} s")
            self._wait_for_news(deadline)
        return max(deadline - monotonic(), 0.0)

    def _cancel(self, handles: Iterable[int]) -> None:
        with self._changed:
            for handle in handles:
                self._cancel_query(handle, monotonic())
            self._wake_all()  # there may be places for other threads' queries, and nothing more to wait for

    def _poll_once(self) -> None:
        """Notice what happened while nobody waited: a server may have closed an idle connection."""
        with self._changed:
            if not self._someone_waits and self._end is None:
                self._process_events(self._driver.poll())

    def _wait_for_fate(self, fates: deque[Outcome]) -> None:
        """Send what is queued, and wait until at least one query has met its fate."""
        with self._changed:
            self._process_events(self._driver.flush())
            if self._driver.is_write_paused and self._someone_waits:
                self._driver.wake()  # to wait until the kernel takes it
            while not fates:
                self._wait_for_news(None)

    def _wait_for_news(self, deadline: float | None) -> None:
        """Wait for the socket on behalf of all threads, or for the thread that does; call with the lock held once."""
        if self._someone_waits:
            # Our deadline may be earlier than the one that the other thread waits for.
            due = self._session.next_timeout()
            times = [one for one in (due, deadline) if one is not None]
            self._changed.wait(min(max(min(times) - monotonic(), 0.0), LONGEST_WAIT) if times else None)
            self._process_events(self._session.handle_timeout(now=monotonic()))
            return
        self._someone_waits = True
        self._changed.release()
        try:
            events = self._driver.wait(deadline)
        finally:
            self._changed.acquire()
            self._someone_waits = False
            self._changed.notify_all()  # somebody else must wait for the socket now
        self._process_events(events)

    def _process_events(self, events: list[Event]) -> None:
        super()._process_events(events)
        if events:
            self._wake_all()

    def _wake_all(self) -> None:
        """Make all threads look again."""
        self._changed.notify_all()
        if self._someone_waits:
            self._driver.wake()
