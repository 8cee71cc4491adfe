"""The server: a thread for each connection, with a cap on their number.

Theory of operation.  One thread accepts; each connection's thread pumps octets and runs the handler for one
query after the other, or hands queries to a pool, so that a slow one does not hold up the next (RFC 7766,
section 6.2.1.1).  A client that asks more than is answered, or does not read, is not read from until it has
been served.

Every thread is a daemon, so that a handler which never returns does not keep the process alive.
"""

from __future__ import annotations

import inspect
import math
import socket
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Final

from dot_proto import Event, LocalProtocolError, QueryReceived, ServerConfiguration, State
from dot_proto.arguments import check_seconds, check_whole, shown

from .._accepting import ACCEPT_PAUSE, AcceptingServer
from .._address import PORT
from .._clock import monotonic
from .._connections import INTERNAL, ConnectionRecord, ConnectionTable, OnEnd
from .._dial import LONGEST_WAIT, remaining
from .._functions import is_any, refuse_response
from .._limits import MAX_CONNECTIONS, MAX_CONNECTIONS_PER_HOST, ConnectionLimits
from .._listening import HOST, Listeners, listening
from .._peer import Peer
from .._proxy_protocol import Networks
from .._reports import ConnectionEnd as ConnectionEnd
from .._reports import ConnectionPhase as ConnectionPhase
from .._reports import ServerStatistics as ServerStatistics
from .._server import (
    BATCH,
    BATCH_SIZE,
    CLOSE_TIMEOUT,
    MAX_UNSENT,
    TOO_MUCH_UNSENT,
    Service,
)
from ..tls import HANDSHAKE_TIMEOUT, ServerContext, TLSServer
from .driver import Driver
from .poller import Poller
from .workers import Workers

BATCH_TIME: Final = 0.002
"Seconds after which what is ready is sent all the same; sending costs a hundredth of that."

MAX_WORKERS: Final = 10_000
"Threads; a number beyond is a mistake."

Handler = Callable[[bytes, Peer], bytes | None]
"From a query's octets to its response's; ``None`` leaves it unanswered.  See ``ServerConnection.send_response``."


def serve(
    handler: Handler,
    context: ServerContext,
    *,
    host: str | Sequence[str] | None = HOST,
    port: int = PORT,
    sock: socket.socket | Sequence[socket.socket] | None = None,
    reuse_port: bool = False,
    proxy_from: Sequence[str] = (),
    configuration: ServerConfiguration | None = None,
    max_connections: int = MAX_CONNECTIONS,
    max_connections_per_host: int = MAX_CONNECTIONS_PER_HOST,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
    share_records: bool = False,
    on_end: OnEnd | None = None,
    workers: int = 0,
) -> Server:
    """Listen, and answer with ``handler``; returns at once, while a thread accepts.

    ``host`` is an address, a name (looked up for IPv4), or a list, with a listening socket for each; ``None`` is every
    address of the machine, of both families.  ``port`` 0 lets the system choose one for each: see
    :attr:`Server.addresses`.  ``sock`` takes their place: one or more TCP sockets that are bound, as systemd's are, and
    are the server's from here on.  ``reuse_port`` lets several processes listen on one port (SO_REUSEPORT).  Limits are
    those of all listening sockets together.  ``proxy_from`` are the networks of load balancers, such as "10.0.0.0/8":
    from there a header of the PROXY protocol (version 1 or 2) must come before TLS, and says who the client is.

    ``workers`` is the number of threads that handlers run in, for all connections; 0 runs them one after the other in
    the connection's own thread.  ``handshake_timeout`` is in seconds.  ``share_records`` lets responses share TLS
    records, which saves octets; but stubby 1.6 and dnsdist 1.7 then read only some of the responses.  ``on_end`` is
    called for each connection that has ended, in any thread of the server.  Raises :class:`OSError` if an address
    cannot be had.
    """
    proxies = Networks(proxy_from)
    service = Service(handler, context, configuration, handshake_timeout, share_records, proxies)
    if is_any(handler, inspect.iscoroutinefunction):
        raise LocalProtocolError(
            "handler must be a plain function, not an async one: there is no loop here to await it in "
            "(dot_io.asyncio and dot_io.trio have one)"
        )
    limits = ConnectionLimits(max_connections, max_connections_per_host)
    table = ConnectionTable(limits, on_end, clock=monotonic, proxies=proxies)
    check_whole("workers", workers, "number of threads")
    if not 0 <= workers <= MAX_WORKERS:
        raise LocalProtocolError(f"workers is {shown(workers)}; it must be from 0 to {MAX_WORKERS}")
    pool = Workers(workers) if workers else None
    with listening(host, port, sock, reuse_port) as listeners:
        return Server(partial(_Connection, service, pool), listeners, table, pool)


class Server(AcceptingServer):
    """A listening server, made by :func:`serve`; a context manager that closes it."""

    def __init__(
        self,
        new_connection: Callable[[socket.socket, ConnectionRecord], Connection],
        listeners: Listeners,
        table: ConnectionTable,
        pool: Workers | None = None,
    ) -> None:
        super().__init__(table, listeners)
        self._new_connection = new_connection
        self._pool = pool
        self._connections: set[Connection] = set()
        self._closers: set[Connection | threading.Thread | None] = set()  # who wait for the others to end
        self._changed = threading.Condition()
        self._deadline = math.inf  # of closing
        # Once closing has begun it holds one item.  A signal's handler may put it at any moment, as it may not set an
        # Event that its own thread is about to wait for.
        self._begun: SimpleQueue[None] = SimpleQueue()
        self._poller = Poller()
        self._poller.allow_waking()
        self._acceptor = threading.Thread(target=self._accept, name="dot-accept", daemon=True)
        try:
            self._acceptor.start()
        except RuntimeError:  # there can be no more threads
            self._poller.close()
            raise

    def serve_forever(self) -> None:
        """Wait until another thread or a signal's handler closes the server, or until interrupted."""
        self._begun.put(self._begun.get())

    def close(self, *, timeout: float = CLOSE_TIMEOUT) -> None:
        """Accept no more, let every connection answer what it was asked, and end within ``timeout`` seconds.

        May be called by any thread, a handler's too, and more than once: the earliest end counts.  Where a handler
        calls it, that handler's own connection is not waited for; it ends in order once the handler has answered.
        """
        timeout = min(check_seconds("timeout", timeout), LONGEST_WAIT)
        is_acceptor = threading.current_thread() is self._acceptor  # as it is where on_end closes
        caller = self._acceptor if is_acceptor else _this_thread.connection
        self._deadline = min(self._deadline, monotonic() + timeout)
        self._is_closing = True
        self._begun.put(None)
        with self._changed:
            self._closers.add(caller)
            self._changed.notify_all()
        self._poller.wake()
        if not is_acceptor:
            self._acceptor.join(max(self._time_left(), ACCEPT_PAUSE))
        with self._changed:
            connections = list(self._connections)
        for connection in connections:
            connection.start_close(self._time_left())
        with self._changed:
            while (late := self._others(caller)) and (left := self._time_left()):
                self._changed.wait(left)
            self._closers.discard(caller)
        for connection in late:
            connection.abort()
        with self._changed:
            self._end_if_closed()

    def forget_parents(self) -> None:
        """In a forked child: nothing of the server is touched again, and another thread may have had the lock."""
        self._changed = threading.Condition()
        self._poller = Poller()
        self._begun.put(None)
        super().forget_parents()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Private methods.

    def _time_left(self) -> float:
        return remaining(self._deadline, now=monotonic())

    def _others(self, caller: Connection | threading.Thread | None) -> set[Connection]:
        """Whose end is to be waited for: a handler that closes the server waits for none that does so too."""
        return self._connections - (self._closers if caller else set())

    def _end_if_closed(self) -> None:
        """Nobody is left who could ask, or have anything said of him; call it with the lock held."""
        if self._is_closing and not self._connections:
            if self._pool is not None:
                self._pool.close()
            self._table.write_what_was_left_out()

    def _accept(self) -> None:
        watched = [(listener, True, False) for listener in self._listeners]
        while not self._is_closing:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closing or not self._table.is_full)
            for listener in self._poller.select(watched, LONGEST_WAIT):
                if self._is_closing or self._table.is_full:
                    break
                if pause := self._accept_next(listener):
                    with self._changed:
                        self._changed.wait_for(lambda: self._is_closing, pause)
        self._close_listeners()
        self._poller.close()

    def _start_connection(self, sock: socket.socket, record: ConnectionRecord) -> None:
        connection = self._new_connection(sock, record)
        record.begin(connection.driver.cut_off)
        name = f"dot-{record.peer.port}"
        thread = threading.Thread(target=self._run, args=(connection,), name=name, daemon=True)
        with self._changed:
            self._connections.add(connection)
            try:
                thread.start()
            except BaseException:  # there can be no more threads
                self._connections.discard(connection)
                connection.driver.close()
                raise

    def _run(self, connection: Connection) -> None:
        _this_thread.connection = connection
        try:
            connection.run()
        except Exception as error:
            connection.record.fail(INTERNAL, error)
        finally:
            connection.driver.close()
            self._table.end(connection.record)
            with self._changed:
                self._connections.discard(connection)
                self._end_if_closed()
                self._changed.notify_all()


class _ThisThread(threading.local):
    connection: Connection | None = None
    "The one whose handler this thread runs, or has run."


_this_thread: Final = _ThisThread()


class Connection(ABC):
    """One client, and its thread's work."""

    def __init__(
        self, sock: socket.socket, record: ConnectionRecord, session: TLSServer, *, send_timeout: float = math.inf
    ) -> None:
        self._engine = session.connection
        self.driver: Driver = Driver(sock, session, send_timeout=send_timeout)
        self.record: Final = record
        self._left_by_others: list[Event] = []  # by threads that sent or ended something

    @abstractmethod
    def run(self) -> None:
        """Until the connection has ended."""

    def start_close(self, timeout: float) -> None:
        """Ask the connection to end in order within ``timeout`` seconds; called by another thread."""
        with self.driver.lock:
            self._engine.close(now=monotonic(), timeout=timeout)
            self._left_by_others += self.driver.flush()
        self.driver.wake()

    def abort(self) -> None:
        """End the connection at once; called by another thread."""
        with self.driver.lock:
            self._left_by_others += self.driver.abort()

    def _wait(self, deadline: float | None) -> list[Event]:
        events = self.driver.wait(deadline)
        if self._left_by_others:
            with self.driver.lock:
                events, self._left_by_others = self._left_by_others + events, []
        return events


class _Connection(Connection):
    """One client, whose queries a handler answers."""

    def __init__(self, service: Service, pool: Workers | None, sock: socket.socket, record: ConnectionRecord) -> None:
        session = service.new_session(record, now=monotonic())
        super().__init__(sock, record, session, send_timeout=service.send_timeout)
        self._handler = service.handler
        self._pool = pool
        self._queries: deque[QueryReceived] = deque()

    def run(self) -> None:
        while not self.driver.is_finished:
            can_work = bool(self._queries) and not self.driver.is_write_paused
            # Nothing is read while something waits to be handled or to be sent, so that neither can pile up. But a
            # connection that is about to end is always read from: its client's end must be seen.
            is_behind = bool(self._queries) or self.driver.is_write_paused
            self.driver.set_reading((self._engine.wants_data and not is_behind) or self._engine.state is not State.OPEN)
            self._take(self._wait(monotonic() if can_work else None))
        self._take(self._left_by_others)

    def _take(self, events: list[Event]) -> None:
        self.record.take_in(events, self._queries)
        self._work()

    def _work(self) -> None:
        """Handle some queries, and come back to send what is ready."""
        if self._engine.state is State.CLOSED:
            self._queries.clear()
        if self.driver.is_write_paused:
            return
        pool, responses = self._pool, 0
        until = monotonic() + BATCH_TIME
        for _ in range(min(BATCH, len(self._queries))):
            query = self._queries.popleft()
            if pool is None:
                responses += self._answer(query)
            else:
                self._submit(pool, query)
            if monotonic() > until or self._engine.octets_to_send > BATCH_SIZE:
                break
        if responses:  # else other threads may be counting
            self.record.responses += responses

    def _submit(self, pool: Workers, query: QueryReceived) -> None:
        try:
            pool.submit(partial(self._answer_and_wake, query))
        except RuntimeError as error:  # there can be no more threads
            self._fail(query, error)
            self._is_handled(0)

    def _answer_and_wake(self, query: QueryReceived) -> None:
        _this_thread.connection = self
        if self._engine.state is State.CLOSED:
            return
        if self.driver.is_write_paused:  # since it was submitted; its answer would only wait
            self._queries.appendleft(query)
        else:
            self._is_handled(self._answer(query))
        self.driver.wake()

    def _answer(self, query: QueryReceived) -> bool:
        """Whether the handler has given a response."""
        try:
            response = self._handler(query.message, self.record.peer)
            with self.driver.lock:
                if response is None:
                    self._engine.decline(query.query, now=monotonic())
                    return False
                if not isinstance(response, bytes):
                    refuse_response(response)
                self._engine.send_response(query.query, response, now=monotonic())
                return True
        except BaseException as error:  # whatever it is, it is this query's alone; Ctrl-C comes in another thread
            self._fail(query, error)
            return False

    def _fail(self, query: QueryReceived, error: BaseException) -> None:
        self.record.handler_failed(error)
        with self.driver.lock, suppress(Exception):
            self._engine.send_error(query.query, now=monotonic())

    def _is_handled(self, responses: int) -> None:
        """A query of the pool's; answers of other threads come also while the client does not read."""
        with self.driver.lock:
            self.record.responses += responses
            octets = self._engine.octets_to_send
            if octets > BATCH_SIZE and not self.driver.is_write_paused:
                self._left_by_others += self.driver.flush()
            elif octets + self.driver.unsent > MAX_UNSENT:
                self._left_by_others += self.driver.give_up(TOO_MUCH_UNSENT)
