"""The server: a nursery for each connection, and in it a task for each query whose handler has to wait.

Theory of operation.  A task accepts while there are places.  Each connection's :class:`~.driver.Driver` hands events
to a :class:`_Connection`, which calls the handler; all responses to one read leave in one write.  A client that
asks more than is answered, or does not read, is not read from until it has been served.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Awaitable
from typing import Final

import trio

from dot_proto import QueryReceived, ServerConfiguration
from dot_proto.arguments import check_seconds

from .._address import PORT
from .._server import (
    ACCEPT_PAUSE,
    CLOSE_TIMEOUT,
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_HOST,
    Arrival,
    AsyncConnection,
    AsyncHandler,
    ConnectionLimits,
    Service,
    cannot_serve,
    listen,
    log,
)
from .._stays import StaysInProcess
from ..tls import HANDSHAKE_TIMEOUT, ServerContext
from .dial import plain_socket
from .driver import Driver
from .nursery import open_plain_nursery, protected_opened

Handler = AsyncHandler


@protected_opened
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
    service = Service(handler, context, configuration, handshake_timeout, share_records)
    limits = ConnectionLimits(max_connections, max_connections_per_host)
    listening = listen(host, port)
    listening.setblocking(False)
    async with open_plain_nursery() as nursery:
        server = Server(
            nursery,
            service,
            trio.socket.from_stdlib_socket(listening),
            limits,
        )
        try:
            yield server
        finally:
            with trio.CancelScope(shield=True):
                await server.close()


class Server(StaysInProcess):
    """A listening server, made by :func:`serve`."""

    def __init__(
        self, nursery: trio.Nursery, service: Service, listener: trio.socket.SocketType, limits: ConnectionLimits
    ) -> None:
        self._nursery = nursery
        self._service = service
        self._listener = listener
        self._limits = limits
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

    @trio.lowlevel.enable_ki_protection
    async def serve_forever(self) -> None:
        """Wait until another task closes the server, or until cancelled."""
        await self._closed.wait()

    @trio.lowlevel.enable_ki_protection
    async def close(self, *, timeout: float = CLOSE_TIMEOUT) -> None:
        """Accept no more, let every connection answer what it was asked, and end within ``timeout`` seconds."""
        check_seconds("timeout", timeout)
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

    @trio.lowlevel.enable_ki_protection
    async def _accept(self) -> None:
        with self._accepting:
            while True:
                while self._limits.are_reached:
                    await self._changed.park()
                try:
                    sock, address = await self._listener.accept()
                except OSError as error:
                    log.warning("accept failed, trying again: %s", error)
                    await trio.sleep(ACCEPT_PAUSE)
                    continue
                arrival = Arrival.of(address)
                if not self._limits.take(arrival.peer):
                    sock.close()
                    continue
                plain = plain_socket(sock)
                try:
                    connection = _Connection(self._service, arrival, plain)
                except Exception as error:
                    cannot_serve(arrival.peer, error)
                    plain.close()
                    self._limits.give_back(arrival.peer)
                    continue
                self._connections.add(connection)
                self._nursery.start_soon(self._run, connection)

    @trio.lowlevel.enable_ki_protection
    async def _run(self, connection: _Connection) -> None:
        try:
            with trio.CancelScope(shield=True):
                await connection.run()
        except Exception:
            log.exception("the connection of %s ended by a fault of ours", connection.peer.host)
        finally:
            self._connections.discard(connection)
            self._limits.give_back(connection.peer)
            self._changed.unpark_all()


class _Connection(AsyncConnection[Driver]):
    """One client."""

    def __init__(self, service: Service, arrival: Arrival, sock: socket.socket) -> None:
        super().__init__(service, arrival, now=trio.current_time())
        self._nursery: trio.Nursery
        self.driver = Driver(
            sock, self._session, self._process_events, self._handle_queries, send_timeout=service.send_timeout
        )

    async def run(self) -> None:
        """Until the connection has ended, and with it every handler that still works for it."""
        async with trio.open_nursery() as self._nursery:
            self._process_events(self._first_events)
            await self.driver.run()
            self._nursery.cancel_scope.cancel()

    def _now(self) -> float:
        return trio.current_time()

    def _start_handler(self, event: QueryReceived, response: Awaitable[bytes | None]) -> None:
        self._nursery.start_soon(self._await_handler, event, response)

    @trio.lowlevel.enable_ki_protection  # Ctrl-C is the main task's: from here it would wait for this client to go
    async def _await_handler(self, event: QueryReceived, response: Awaitable[bytes | None]) -> None:
        await super()._await_handler(event, response)
