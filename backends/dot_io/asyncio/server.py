"""The server: one object for each connection, a task for each query whose handler has to wait.

Theory of operation.  While there are places the loop says when somebody waits to be accepted (``add_reader``,
which the proactor loop of Windows lacks).  Each connection's :class:`~.driver.Driver` hands events to a
:class:`_Connection`, which calls the handler; all responses to one read leave in one write.  A client that asks
more than is answered, or does not read, is not read from until it has been served.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Sequence
from functools import partial
from typing import Final

from dot_proto import QueryReceived, ServerConfiguration
from dot_proto.arguments import check_seconds

from .._address import PORT
from .._listening import HOST, Address, addresses_of, listening
from .._opening import opened
from .._server import (
    ACCEPT_PAUSE,
    CLOSE_TIMEOUT,
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_HOST,
    Arrival,
    AsyncConnection,
    AsyncHandler,
    ConnectionLimits,
    Peer,
    Service,
    cannot_serve,
    log,
)
from .._stays import StaysInProcess
from ..tls import HANDSHAKE_TIMEOUT, ServerContext
from .driver import Driver

Handler = AsyncHandler


@opened
async def serve(
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
) -> AsyncGenerator[Server]:
    """Listen, and answer with ``handler`` while the block lasts.

    ``host`` is an address, a name (looked up for IPv4), or a list, with a listening socket for each; ``None`` is every
    address of the machine, of both families.  ``port`` 0 lets the system choose one for each: see
    :attr:`Server.addresses`.  ``sock`` takes their place: one or more TCP sockets that are bound, as systemd's are, and
    are the server's from here on.  ``reuse_port`` lets several processes listen on one port (SO_REUSEPORT).  Limits are
    those of all listening sockets together.

    ``handshake_timeout`` is in seconds.  ``share_records`` lets responses share TLS records.  Raises :class:`OSError`
    if an address cannot be had.
    """
    service = Service(handler, context, configuration, handshake_timeout, share_records)
    limits = ConnectionLimits(max_connections, max_connections_per_host)
    with listening(host, port, sock, reuse_port) as listeners:
        server = Server(service, listeners, limits)
    try:
        yield server
    finally:
        await server.close()


class Server(StaysInProcess):
    """A listening server, made by :func:`serve`."""

    def __init__(self, service: Service, listeners: Sequence[socket.socket], limits: ConnectionLimits) -> None:
        for listener in listeners:
            listener.setblocking(False)
        self._service = service
        self._listeners = listeners
        self._is_closed = False
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._connections: set[_Connection] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._closed = asyncio.Event()
        self.addresses: Final[tuple[Address, ...]] = addresses_of(listeners)
        "The address and port of each listening socket."
        self.host: Final[str] = self.addresses[0][0]
        "The address that is listened on; the first, where there are several."
        self.port: Final[int] = self.addresses[0][1]
        "The port that is listened on; the first, where there are several."
        self._start_accepting()

    async def serve_forever(self) -> None:
        """Wait until another task closes the server, or until cancelled."""
        await self._closed.wait()

    async def close(self, *, timeout: float = CLOSE_TIMEOUT) -> None:
        """Accept no more, let every connection answer what it was asked, and end within ``timeout`` seconds."""
        deadline = self._loop.time() + check_seconds("timeout", timeout)
        if not self._is_closed:
            self._is_closed = True
            self._stop_accepting()
            for listener in self._listeners:
                listener.close()
        try:
            while self._starting:
                await asyncio.wait(self._starting)
            for connection in self._connections:
                connection.start_close(timeout)
            while self._connections and (left := deadline - self._loop.time()) > 0:
                await asyncio.wait([connection.gone for connection in self._connections], timeout=left)
        finally:
            for connection in self._connections:
                connection.driver.abort()
            self._closed.set()
            while self._connections:
                await asyncio.wait([connection.gone for connection in self._connections])

    def _start_accepting(self) -> None:
        self._pause = None
        if not self._is_closed and not self._limits.are_reached:
            for listener in self._listeners:
                self._loop.add_reader(listener, self._accept, listener)

    def _stop_accepting(self) -> None:
        for listener in self._listeners:
            self._loop.remove_reader(listener)
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def _accept(self, listener: socket.socket) -> None:
        # Not by sock_accept(): cancelling that can lose the client that has just been accepted.
        try:
            sock, address = listener.accept()
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            log.warning("accept failed, trying again: %s", error)
            self._stop_accepting()
            self._pause = self._loop.call_later(ACCEPT_PAUSE, self._start_accepting)
            return
        sock.setblocking(False)
        arrival = Arrival.of(address)
        if not self._limits.take(arrival.peer):
            sock.close()
            return
        if self._limits.are_reached:
            self._stop_accepting()
        starting = self._loop.create_task(self._start_connection(sock, arrival))
        self._starting.add(starting)
        starting.add_done_callback(self._starting.discard)

    async def _start_connection(self, sock: socket.socket, arrival: Arrival) -> None:
        try:
            connection = _Connection(self._service, arrival, self._loop)
            await connection.start(sock)
        except Exception as error:
            if isinstance(error, OSError):  # the client was gone before it was served
                log.info("%s cannot be served: %s", arrival.peer.host, error)
            else:
                cannot_serve(arrival.peer, error)
            sock.close()
            self._give_back(arrival.peer)
        else:
            self._connections.add(connection)
            connection.gone.add_done_callback(partial(self._forget, connection))

    def _forget(self, connection: _Connection, _: object) -> None:
        self._connections.discard(connection)
        self._give_back(connection.peer)

    def _give_back(self, peer: Peer) -> None:
        self._limits.give_back(peer)
        if self._pause is None:
            self._start_accepting()


class _Connection(AsyncConnection[Driver]):
    """One client."""

    def __init__(self, service: Service, arrival: Arrival, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(service, arrival, now=loop.time())
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()
        self.driver = Driver(
            loop, self._session, self._process_events, self._handle_queries, send_timeout=service.send_timeout
        )
        self.gone: Final[asyncio.Future[None]] = loop.create_future()
        "Done when the connection has ended, and with it every handler that worked for it."
        self.driver.ended.add_done_callback(self._end_handlers)

    async def start(self, sock: socket.socket) -> None:
        """Move octets from here on."""
        await self._loop.connect_accepted_socket(lambda: self.driver, sock)
        self._process_events(self._first_events)

    def _now(self) -> float:
        return self._loop.time()

    def _start_handler(self, event: QueryReceived, response: Awaitable[bytes | None]) -> None:
        task = self._loop.create_task(self._await_handler(event, response))
        self._tasks.add(task)
        task.add_done_callback(self._forget_handler)

    async def _await_handler(self, event: QueryReceived, response: Awaitable[bytes | None]) -> None:
        try:
            await super()._await_handler(event, response)
        except asyncio.CancelledError:
            if self.driver.ended.done():
                raise
            self._fail(event)  # something that it waited for was cancelled
            self._handler_is_over()

    def _end_handlers(self, _: object) -> None:
        for task in self._tasks:
            task.cancel()
        self._check_gone()

    def _forget_handler(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._check_gone()

    def _check_gone(self) -> None:
        if self.driver.ended.done() and not self._tasks and not self.gone.done():
            self.gone.set_result(None)
