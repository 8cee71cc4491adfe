"""The server: a thread for each connection, with a cap on their number.

Theory of operation.  One thread accepts; each connection's thread pumps octets and runs the handler for one
query after the other, or hands queries to a pool, so that a slow one does not hold up the next (RFC 7766,
section 6.2.1.1).  A client that asks more than is answered, or does not read, is not read from until it has
been served.
"""

from __future__ import annotations

import inspect
import math
import socket
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from dot_proto import Event, LocalProtocolError, QueryReceived, ServerConfiguration, State
from dot_proto.arguments import check_seconds, check_whole, shown

from .._address import PORT
from .._clock import monotonic
from .._dial import LONGEST_WAIT
from .._listening import HOST, Address, addresses_of, listening
from .._server import (
    ACCEPT_PAUSE,
    BATCH,
    CLOSE_TIMEOUT,
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_HOST,
    Arrival,
    ConnectionLimits,
    Peer,
    Service,
    cannot_serve,
    is_any,
    log,
    refuse_response,
    take_in,
)
from .._stays import StaysInProcess
from ..tls import HANDSHAKE_TIMEOUT, ServerContext, TLSServer
from .acceptor import Acceptor
from .driver import Driver

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
    configuration: ServerConfiguration | None = None,
    max_connections: int = MAX_CONNECTIONS,
    max_connections_per_host: int = MAX_CONNECTIONS_PER_HOST,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
    share_records: bool = False,
    workers: int = 0,
) -> Server:
    """Listen, and answer with ``handler``; returns at once, while a thread accepts.

    ``host`` is an address, a name (looked up for IPv4), or a list, with a listening socket for each; ``None`` is every
    address of the machine, of both families.  ``port`` 0 lets the system choose one for each: see
    :attr:`Server.addresses`.  ``sock`` takes their place: one or more TCP sockets that are bound, as systemd's are, and
    are the server's from here on.  ``reuse_port`` lets several processes listen on one port (SO_REUSEPORT).  Limits are
    those of all listening sockets together.

    ``workers`` is the number of threads that handlers run in, for all connections; 0 runs them one after the other in
    the connection's own thread.
    ``handshake_timeout`` is in seconds.  ``share_records`` lets responses share TLS records.  Raises
    :class:`OSError` if an address cannot be had.
    """
    service = Service(handler, context, configuration, handshake_timeout, share_records)
    if is_any(handler, inspect.iscoroutinefunction):
        raise LocalProtocolError(
            "handler must be a plain function, not an async one: there is no loop here to await it in "
            "(dot_io.asyncio and dot_io.trio have one)"
        )
    limits = ConnectionLimits(max_connections, max_connections_per_host)
    check_whole("workers", workers, "number of threads")
    if not 0 <= workers <= MAX_WORKERS:
        raise LocalProtocolError(f"workers is {shown(workers)}; it must be from 0 to {MAX_WORKERS}")
    with listening(host, port, sock, reuse_port) as listeners:
        pool = ThreadPoolExecutor(workers, "dot-handler") if workers else None
        return Server(partial(_Connection, service, pool), listeners, limits, pool)


class Server(StaysInProcess):
    """A listening server, made by :func:`serve`; a context manager that closes it."""

    def __init__(
        self,
        new_connection: Callable[[socket.socket, Arrival], Connection],
        listeners: Sequence[socket.socket],
        limits: ConnectionLimits,
        pool: ThreadPoolExecutor | None = None,
    ) -> None:
        self._new_connection = new_connection
        self._acceptor = Acceptor(listeners)
        self._limits = limits
        self._pool = pool
        self._connections: dict[Connection, threading.Thread] = {}
        self._changed = threading.Condition()
        self._is_closing = threading.Event()
        self.addresses: Final[tuple[Address, ...]] = addresses_of(listeners)
        "The address and port of each listening socket."
        self.host: Final[str] = self.addresses[0][0]
        "The address that is listened on; the first, where there are several."
        self.port: Final[int] = self.addresses[0][1]
        "The port that is listened on; the first, where there are several."
        self._accepting = threading.Thread(target=self._accept, name="dot-accept", daemon=True)
        self._accepting.start()

    def serve_forever(self) -> None:
        """Wait until another thread closes the server, or until interrupted."""
        self._is_closing.wait()

    def close(self, *, timeout: float = CLOSE_TIMEOUT) -> None:
        """Accept no more, let every connection answer what it was asked, and end within ``timeout`` seconds."""
        timeout = min(check_seconds("timeout", timeout), LONGEST_WAIT)
        deadline = monotonic() + timeout
        self._is_closing.set()
        with self._changed:
            self._changed.notify_all()
        self._acceptor.stop()
        self._accepting.join(timeout)
        self._acceptor.close()
        with self._changed:
            connections = list(self._connections.items())
        for connection, _ in connections:
            connection.start_close(timeout)
        for _, thread in connections:
            thread.join(max(deadline - monotonic(), 0.0))
        for connection, thread in connections:
            if thread.is_alive():
                with connection.driver.lock:
                    connection.driver.abort()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            with self._changed:
                while self._limits.are_reached and not self._is_closing.is_set():
                    self._changed.wait()
            try:
                accepted = self._acceptor.accept()
            except OSError as error:
                log.warning("accept failed, trying again: %s", error)
                self._is_closing.wait(ACCEPT_PAUSE)
                continue
            if accepted is None:
                return
            sock, address = accepted
            self._start_connection(sock, Arrival.of(address))

    def _start_connection(self, sock: socket.socket, arrival: Arrival) -> None:
        peer = arrival.peer
        with self._changed:
            if not self._limits.take(peer):
                sock.close()
                return
            try:
                connection = self._new_connection(sock, arrival)
                thread = threading.Thread(target=self._run, args=(connection,), name=f"dot-{peer.port}", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # there can be no more threads
                    connection.driver.close()
                    raise
            except Exception as error:
                cannot_serve(peer, error)
                sock.close()
                self._limits.give_back(peer)
                return
            self._connections[connection] = thread

    def _run(self, connection: Connection) -> None:
        try:
            connection.run()
        except Exception:
            log.exception("the connection of %s ended by a fault of ours", connection.peer.host)
        finally:
            connection.driver.close()
            with self._changed:
                del self._connections[connection]
                self._limits.give_back(connection.peer)
                self._changed.notify_all()


class Connection(ABC):
    """One client, and its thread's work."""

    def __init__(self, sock: socket.socket, peer: Peer, session: TLSServer, *, send_timeout: float = math.inf) -> None:
        self._engine = session.connection
        self.driver = Driver(sock, session, send_timeout=send_timeout)
        self.peer = peer

    @abstractmethod
    def run(self) -> None:
        """Until the connection has ended."""

    def start_close(self, timeout: float) -> None:
        """Ask the connection to end in order within ``timeout`` seconds; called by another thread."""
        with self.driver.lock:
            self._engine.close(now=monotonic(), timeout=timeout)
            self.driver.flush()
        self.driver.wake()


class _Connection(Connection):
    """One client, whose queries a handler answers."""

    def __init__(
        self, service: Service, pool: ThreadPoolExecutor | None, sock: socket.socket, arrival: Arrival
    ) -> None:
        session, self._first_events = service.new_session(arrival, now=monotonic())
        super().__init__(sock, arrival.peer, session, send_timeout=service.send_timeout)
        self._handler = service.handler
        self._pool = pool
        self._queries: deque[QueryReceived] = deque()

    def run(self) -> None:
        self._take(self._first_events)
        while not self.driver.is_finished:
            can_work = bool(self._queries) and not self.driver.is_write_paused
            # Nothing is read while something waits to be handled or to be sent, so that neither can pile up. But a
            # connection that is about to end is always read from: its client's end must be seen.
            is_behind = bool(self._queries) or self.driver.is_write_paused
            self.driver.set_reading((self._engine.wants_data and not is_behind) or self._engine.state is not State.OPEN)
            self._take(self.driver.wait(monotonic() if can_work else None))

    def _take(self, events: list[Event]) -> None:
        self.peer = take_in(events, self._queries, self.peer)
        self._work()

    def _work(self) -> None:
        """Handle some queries, and come back to send what is ready."""
        if self._engine.state is State.CLOSED:
            self._queries.clear()
        if self.driver.is_write_paused:
            return
        until = monotonic() + BATCH_TIME
        for _ in range(min(BATCH, len(self._queries))):
            query = self._queries.popleft()
            if self._pool is None:
                self._answer(query)
            else:
                self._pool.submit(self._answer_and_wake, query)
            if monotonic() > until:
                return

    def _answer_and_wake(self, query: QueryReceived) -> None:
        self._answer(query)
        self.driver.wake()

    def _answer(self, query: QueryReceived) -> None:
        try:
            response = self._handler(query.message, self.peer)
            with self.driver.lock:
                if response is None:
                    self._engine.decline(query.query, now=monotonic())
                else:
                    if not isinstance(response, bytes):
                        refuse_response(response)
                    self._engine.send_response(query.query, response, now=monotonic())
        except Exception:
            log.exception("the handler failed, or its response cannot be sent; answering SERVFAIL")
            with self.driver.lock:
                self._engine.send_error(query.query, now=monotonic())
