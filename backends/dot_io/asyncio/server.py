"""The server: one object for each connection, a task for each query whose handler has to wait.

Theory of operation.  While there are places the loop says when somebody waits to be accepted (``add_reader``,
which the proactor loop of Windows lacks).  Each connection's :class:`~.driver.Driver` hands events to a
:class:`_Connection`, which calls the handler; all responses to one read leave in one write.  A client that asks
more than is answered, or does not read, is not read from until it has been served.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from dot_proto import Event, QueryReceived, ServerConfiguration, State

from .._address import PORT
from .._server import (
    ACCEPT_PAUSE,
    BATCH,
    CLOSE_TIMEOUT,
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_HOST,
    AsyncHandler,
    AsyncOptions,
    ConnectionLimits,
    Peer,
    check_service,
    listen,
    log,
    send_timeout,
    take_in,
)
from ..tls import HANDSHAKE_TIMEOUT, ServerContext
from .driver import Driver

Handler = AsyncHandler


@asynccontextmanager
async def serve(
    handler: Handler,
    context: ServerContext,
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    configuration: ServerConfiguration | None = None,
    max_connections: int = MAX_CONNECTIONS,
    max_connections_per_host: int = MAX_CONNECTIONS_PER_HOST,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
    share_records: bool = False,
) -> AsyncGenerator[Server]:
    """Listen, and answer with ``handler`` while the block lasts.

    ``port`` 0 lets the system choose one: see :attr:`Server.port`.  ``handshake_timeout`` is in seconds.
    ``share_records`` lets responses share TLS records.  Raises :class:`OSError` if the address cannot be had.
    """
    check_service(handler, context)
    listener = listen(host, port)
    places = ConnectionLimits(max_connections, max_connections_per_host)
    options = AsyncOptions(handler, context, configuration, handshake_timeout, share_records)
    server = Server(options, listener, places)
    try:
        yield server
    finally:
        await server.close()


class Server:
    """A listening server, made by :func:`serve`."""

    def __init__(self, options: AsyncOptions, listener: socket.socket, places: ConnectionLimits) -> None:
        listener.setblocking(False)
        self._options = options
        self._listener = listener
        self._places = places
        self._loop = asyncio.get_running_loop()
        self._connections: set[_Connection] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._closed = asyncio.Event()
        self.host: Final[str] = listener.getsockname()[0]
        "The address that is listened on."
        self.port: Final[int] = listener.getsockname()[1]
        "The port that is listened on."
        self._start_accepting()

    async def serve_forever(self) -> None:
        """Wait until another task closes the server, or until cancelled."""
        await self._closed.wait()

    async def close(self, *, timeout: float = CLOSE_TIMEOUT) -> None:
        """Accept no more, let every connection answer what it was asked, and end within ``timeout`` seconds."""
        deadline = self._loop.time() + timeout
        if self._listener.fileno() != -1:
            self._stop_accepting()
            self._listener.close()
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
        if self._listener.fileno() != -1 and not self._places.are_taken:
            self._loop.add_reader(self._listener, self._accept)

    def _stop_accepting(self) -> None:
        self._loop.remove_reader(self._listener)
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def _accept(self) -> None:
        # Not by sock_accept(): cancelling that can lose the client that has just been accepted.
        try:
            sock, address = self._listener.accept()
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            log.warning("accept failed, trying again: %s", error)
            self._stop_accepting()
            self._pause = self._loop.call_later(ACCEPT_PAUSE, self._start_accepting)
            return
        sock.setblocking(False)
        peer = Peer(address[0], address[1])
        if not self._places.take(peer):
            sock.close()
            return
        if self._places.are_taken:
            self._stop_accepting()
        starting = self._loop.create_task(self._start_connection(sock, peer))
        self._starting.add(starting)
        starting.add_done_callback(self._starting.discard)

    async def _start_connection(self, sock: socket.socket, peer: Peer) -> None:
        connection = _Connection(self._options, peer, self._loop)
        try:
            await self._loop.connect_accepted_socket(lambda: connection.driver, sock)
        except OSError as error:  # the client was gone before it was welcomed
            log.info("%s cannot be served: %s", peer.host, error)
            sock.close()
            self._give_back(peer)
        else:
            self._connections.add(connection)
            connection.gone.add_done_callback(partial(self._forget, connection))

    def _forget(self, connection: _Connection, _: object) -> None:
        self._connections.discard(connection)
        self._give_back(connection.peer)

    def _give_back(self, peer: Peer) -> None:
        self._places.give_back(peer)
        if self._pause is None:
            self._start_accepting()


class _Connection:
    """One client."""

    def __init__(self, options: AsyncOptions, peer: Peer, loop: asyncio.AbstractEventLoop) -> None:
        self.peer = peer
        session = options.new_session(loop.time())
        self._loop = loop
        self._handler = options.handler
        self._engine = session.connection
        self._queries: deque[QueryReceived] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self.driver = Driver(
            loop, lambda _: (session, self._process_events), send_timeout=send_timeout(self._engine.configuration)
        )
        self.gone: Final[asyncio.Future[None]] = loop.create_future()
        "Done when the connection has ended, and with it every handler that worked for it."
        self.driver.ended.add_done_callback(self._end_handlers)

    def start_close(self, timeout: float) -> None:
        """End in order: what was asked is answered within ``timeout`` seconds."""
        self._engine.close(now=self._loop.time(), timeout=timeout)
        self.driver.start_flush()

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

    def _process_events(self, events: list[Event]) -> None:
        queries = self._queries
        self.peer = take_in(events, queries, self.peer)
        if self._engine.state is State.CLOSED:
            queries.clear()
        while queries and not self.driver.is_write_paused:
            now = self._loop.time()
            for _ in range(min(BATCH, len(queries))):
                self._ask_handler(queries.popleft(), now)
            if queries:
                self.driver.flush()
        is_full = bool(queries) or (self._engine.state is State.OPEN and not self._engine.wants_data)
        self.driver.pause_reading(is_full or self.driver.is_write_paused)

    def _ask_handler(self, event: QueryReceived, now: float) -> None:
        try:
            response = self._handler(event.message, self.peer)
            if response is None or isinstance(response, bytes):
                self._answer(event, response, now)
            else:
                task = self._loop.create_task(self._await_handler(event, response))
                self._tasks.add(task)
                task.add_done_callback(self._forget_handler)
        except Exception:
            self._fail(event)

    async def _await_handler(self, event: QueryReceived, response: Awaitable[bytes | None]) -> None:
        try:
            answer = await response
            self._answer(event, answer, self._loop.time())
        except asyncio.CancelledError:
            if self.driver.ended.done():
                raise
            self._fail(event)  # something that it waited for was cancelled
        except Exception:
            self._fail(event)
        self.driver.start_flush()
        self._process_events([])

    def _answer(self, event: QueryReceived, response: bytes | None, now: float) -> None:
        if response is None:
            self._engine.decline(event.query, now=now)
        else:
            self._engine.send_response(event.query, response, now=now)

    def _fail(self, event: QueryReceived) -> None:
        log.exception("the handler failed, or its response cannot be sent; answering SERVFAIL")
        with contextlib.suppress(Exception):
            self._engine.send_error(event.query, now=self._loop.time())
