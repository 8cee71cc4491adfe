"""The server: a nursery for each connection, and in it a task for each query whose handler has to wait.

Theory of operation.  A task accepts while there are places.  Each connection's :class:`~.driver.Driver` hands events
to a :class:`_Connection`, which calls the handler; all responses to one read leave in one write.  A client that
asks more than is answered, or does not read, is not read from until it has been served.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from typing import Final

import trio

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
from .driver import Driver, plain_socket
from .nursery import open_plain_nursery

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
    What the block raises leaves it as it is, in no exception group.
    """
    check_service(handler, context)
    listening = listen(host, port)
    listening.setblocking(False)
    options = AsyncOptions(handler, context, configuration, handshake_timeout, share_records)
    async with open_plain_nursery() as nursery:
        server = Server(
            nursery,
            options,
            trio.socket.from_stdlib_socket(listening),
            ConnectionLimits(max_connections, max_connections_per_host),
        )
        try:
            yield server
        finally:
            with trio.CancelScope(shield=True):
                await server.close()


class Server:
    """A listening server, made by :func:`serve`."""

    def __init__(
        self, nursery: trio.Nursery, options: AsyncOptions, listener: trio.socket.SocketType, places: ConnectionLimits
    ) -> None:
        self._nursery = nursery
        self._options = options
        self._listener = listener
        self._places = places
        self._connections: set[_Connection] = set()
        self._changed = trio.lowlevel.ParkingLot()
        self._accepting = trio.CancelScope(shield=True)
        self._closed = trio.Event()
        name = listener.getsockname()
        self.host: Final[str] = name[0]
        "The address that is listened on."
        self.port: Final[int] = name[1]
        "The port that is listened on."
        nursery.start_soon(self._accept)

    async def serve_forever(self) -> None:
        """Wait until another task closes the server, or until cancelled."""
        await self._closed.wait()

    async def close(self, *, timeout: float = CLOSE_TIMEOUT) -> None:
        """Accept no more, let every connection answer what it was asked, and end within ``timeout`` seconds."""
        self._accepting.cancel()
        self._listener.close()
        for connection in self._connections:
            connection.start_close(timeout)
        try:
            with trio.move_on_after(timeout):
                await self._all_gone()
        finally:
            for connection in self._connections:
                connection.driver.abort()
            self._closed.set()
        await self._all_gone()

    async def _all_gone(self) -> None:
        while self._connections:
            await self._changed.park()

    async def _accept(self) -> None:
        with self._accepting:
            while True:
                while self._places.are_taken:
                    await self._changed.park()
                try:
                    sock, address = await self._listener.accept()
                except OSError as error:
                    log.warning("accept failed, trying again: %s", error)
                    await trio.sleep(ACCEPT_PAUSE)
                    continue
                peer = Peer(address[0], address[1])
                if not self._places.take(peer):
                    sock.close()
                    continue
                connection = _Connection(self._options, plain_socket(sock), peer)
                self._connections.add(connection)
                self._nursery.start_soon(self._run, connection)

    async def _run(self, connection: _Connection) -> None:
        try:
            with trio.CancelScope(shield=True):
                await connection.run()
        except Exception:
            log.exception("the connection of %s ended by a fault of ours", connection.peer.host)
        finally:
            self._connections.discard(connection)
            self._places.give_back(connection.peer)
            self._changed.unpark_all()


class _Connection:
    """One client."""

    def __init__(self, options: AsyncOptions, sock: socket.socket, peer: Peer) -> None:
        self.peer = peer
        session = options.new_session(trio.current_time())
        self._handler = options.handler
        self._engine = session.connection
        self._queries: deque[QueryReceived] = deque()
        self._nursery: trio.Nursery
        self.driver = Driver(sock, session, self._process_events, send_timeout=send_timeout(self._engine.configuration))

    def start_close(self, timeout: float) -> None:
        """End in order: what was asked is answered within ``timeout`` seconds."""
        self._engine.close(now=trio.current_time(), timeout=timeout)
        self.driver.flush()

    async def run(self) -> None:
        """Until the connection has ended, and with it every handler that still works for it."""
        async with trio.open_nursery() as self._nursery:
            await self.driver.run()
            self._nursery.cancel_scope.cancel()

    def _process_events(self, events: list[Event]) -> None:
        queries = self._queries
        self.peer = take_in(events, queries, self.peer)
        if self._engine.state is State.CLOSED:
            queries.clear()
        while queries and not self.driver.is_write_paused:
            now = trio.current_time()
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
                self._nursery.start_soon(self._await_handler, event, response)
        except Exception:
            self._fail(event)

    async def _await_handler(self, event: QueryReceived, response: Awaitable[bytes | None]) -> None:
        try:
            answer = await response
            self._answer(event, answer, trio.current_time())
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
            self._engine.send_error(event.query, now=trio.current_time())
