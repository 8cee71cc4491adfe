"""The server: one object for each connection, a task for each query whose handler has to wait.

Theory of operation.  A task accepts while there are places.  Each connection's :class:`~.wire.Wire` hands events
to a :class:`_Connection`, which calls the handler; all responses to one read leave in one write.  A client that
asks more than is answered, or does not read, is not read from until it has been served.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from dot_proto import Event, QueryReceived, ServerConfiguration, State

from .._address import PORT
from .._server import ACCEPT_PAUSE, CLOSE_TIMEOUT, MAX_CONNECTIONS, MAX_CONNECTIONS_PER_HOST, Peer, Places, listen, log
from ..tls import HANDSHAKE_TIMEOUT, ServerContext, TLSServer
from .wire import Wire

Handler = Callable[[bytes, Peer], bytes | None | Awaitable[bytes | None]]
"From a query's octets to its response's, at once or awaited; ``None`` leaves it unanswered."


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
) -> AsyncIterator[Server]:
    """Listen, and answer with ``handler`` while the block lasts.

    ``port`` 0 lets the system choose one: see :attr:`Server.port`.  ``handshake_timeout`` is in seconds.
    ``share_records`` lets responses share TLS records.  Raises :class:`OSError` if the address cannot be had.
    """
    listener = listen(host, port)
    places = Places(max_connections, max_connections_per_host)
    options = _Options(handler, context, configuration, handshake_timeout, share_records)
    server = Server(options, listener, places)
    try:
        yield server
    finally:
        await server.close()


@dataclass(frozen=True, slots=True)
class _Options:
    """What every connection of one server shares."""

    handler: Handler
    context: ServerContext
    configuration: ServerConfiguration | None
    handshake_timeout: float
    share_records: bool


class Server:
    """A listening server, made by :func:`serve`."""

    def __init__(self, options: _Options, listener: socket.socket, places: Places) -> None:
        listener.setblocking(False)
        self._options = options
        self._listener = listener
        self._places = places
        self._loop = asyncio.get_running_loop()
        self._connections: set[_Connection] = set()
        self._place_is_free = asyncio.Event()
        self._closed = asyncio.Event()
        self.host: Final[str] = listener.getsockname()[0]
        "The address that is listened on."
        self.port: Final[int] = listener.getsockname()[1]
        "The port that is listened on."
        self._acceptor = self._loop.create_task(self._accept())

    async def serve_forever(self) -> None:
        """Wait until another task closes the server, or until cancelled."""
        await self._closed.wait()

    async def close(self, *, timeout: float = CLOSE_TIMEOUT) -> None:
        """Accept no more, let every connection answer what it was asked, and end within ``timeout`` seconds."""
        self._acceptor.cancel()
        await asyncio.wait([self._acceptor])
        self._listener.close()
        for connection in list(self._connections):
            connection.start_close(timeout)
        try:
            async with asyncio.timeout(timeout):
                while self._connections:
                    await asyncio.wait([connection.gone for connection in self._connections])
        except TimeoutError:
            pass
        finally:
            for connection in list(self._connections):
                connection.wire.abort()
            self._closed.set()
        while self._connections:
            await asyncio.wait([connection.gone for connection in self._connections])

    async def _accept(self) -> None:
        while True:
            while self._places.are_taken:
                self._place_is_free.clear()
                await self._place_is_free.wait()
            try:
                sock, address = await self._loop.sock_accept(self._listener)
            except OSError as error:
                log.warning("accept failed, trying again: %s", error)
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            peer = Peer(address[0], address[1])
            if not self._places.take(peer):
                sock.close()
                continue
            connection = _Connection(self._options, peer, self._loop)
            self._connections.add(connection)
            connection.gone.add_done_callback(partial(self._forget, connection))
            try:
                await self._loop.connect_accepted_socket(partial(_same, connection.wire), sock)
            except OSError:  # the client was gone before it was welcomed
                connection.wire.connection_lost(None)

    def _forget(self, connection: _Connection, _: object) -> None:
        self._connections.discard(connection)
        self._places.give_back(connection.peer)
        self._place_is_free.set()


class _Connection:
    """One client."""

    def __init__(self, options: _Options, peer: Peer, loop: asyncio.AbstractEventLoop) -> None:
        self.peer = peer
        session = TLSServer(
            options.context,
            options.configuration,
            now=loop.time(),
            handshake_timeout=options.handshake_timeout,
            share_records=options.share_records,
        )
        self._loop = loop
        self._handler = options.handler
        self._engine = session.connection
        self._tasks: set[asyncio.Task[None]] = set()
        self.wire = Wire(loop, lambda _: (session, self._note), quick=False)
        self.gone = loop.create_task(self._run())

    def start_close(self, timeout: float) -> None:
        """End in order: what was asked is answered within ``timeout`` seconds."""
        self._engine.close(now=self._loop.time(), timeout=timeout)
        self.wire.start_flush()

    async def _run(self) -> None:
        """Until the connection has ended, and with it every handler that still works for it."""
        await self.wire.ended
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _note(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, QueryReceived):
                self._ask_handler(event)
        is_full = self._engine.state is State.OPEN and not self._engine.wants_data
        self.wire.pause_reading(is_full or self.wire.is_write_paused)

    def _ask_handler(self, event: QueryReceived) -> None:
        try:
            response = self._handler(event.message, self.peer)
            if response is None or isinstance(response, bytes):
                self._answer(event, response)
            else:
                task = self._loop.create_task(self._await_handler(event, response))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        except Exception:
            self._fail(event)

    async def _await_handler(self, event: QueryReceived, response: Awaitable[bytes | None]) -> None:
        try:
            self._answer(event, await response)
        except Exception:
            self._fail(event)
        self.wire.start_flush()
        self._note([])

    def _answer(self, event: QueryReceived, response: bytes | None) -> None:
        if response is None:
            self._engine.decline(event.query, now=self._loop.time())
        else:
            self._engine.send_response(event.query, response, now=self._loop.time())

    def _fail(self, event: QueryReceived) -> None:
        log.exception("the handler failed, or its response cannot be sent; answering SERVFAIL")
        with contextlib.suppress(Exception):
            self._engine.send_error(event.query, now=self._loop.time())


def _same(wire: Wire) -> Wire:
    """The protocol factory of a connection that has its protocol already."""
    return wire
