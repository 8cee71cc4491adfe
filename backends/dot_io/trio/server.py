"""The server: a nursery for each connection, and in it a task for each query whose handler has to wait.

Theory of operation.  A task accepts while there are places.  Each connection's :class:`~.driver.Driver` hands events
to a :class:`_Connection`, which calls the handler; all responses to one read leave in one write.  A client that
asks more than is answered, or does not read, is not read from until it has been served.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import Final

import trio

from dot_proto import QueryReceived, ServerConfiguration
from dot_proto.arguments import check_seconds

from .._address import PORT
from .._listening import HOST, Address, addresses_of, listening
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
    if an address cannot be had.  What the block raises leaves it as it is, in no exception group.
    """
    service = Service(handler, context, configuration, handshake_timeout, share_records)
    limits = ConnectionLimits(max_connections, max_connections_per_host)
    with listening(host, port, sock, reuse_port) as listeners:
        async with open_plain_nursery() as nursery:
            server = Server(nursery, service, listeners, limits)
            try:
                yield server
            finally:
                with trio.CancelScope(shield=True):
                    await server.close()


class Server(StaysInProcess):
    """A listening server, made by :func:`serve`."""

    def __init__(
        self, nursery: trio.Nursery, service: Service, listeners: Sequence[socket.socket], limits: ConnectionLimits
    ) -> None:
        self._nursery = nursery
        self._service = service
        self._listeners = [trio.socket.from_stdlib_socket(listener) for listener in listeners]
        self._limits = limits
        self._connections: set[_Connection] = set()
        self._changed = trio.lowlevel.ParkingLot()
        self._accepting = trio.CancelScope(shield=True)
        self._closed = trio.Event()
        self.addresses: Final[tuple[Address, ...]] = addresses_of(listeners)
        "The address and port of each listening socket."
        self.host: Final[str] = self.addresses[0][0]
        "The address that is listened on; the first, where there are several."
        self.port: Final[int] = self.addresses[0][1]
        "The port that is listened on; the first, where there are several."
        nursery.start_soon(self._accept_all)

    @trio.lowlevel.enable_ki_protection
    async def serve_forever(self) -> None:
        """Wait until another task closes the server, or until cancelled."""
        await self._closed.wait()

    @trio.lowlevel.enable_ki_protection
    async def close(self, *, timeout: float = CLOSE_TIMEOUT) -> None:
        """Accept no more, let every connection answer what it was asked, and end within ``timeout`` seconds."""
        check_seconds("timeout", timeout)
        self._accepting.cancel()
        for listener in self._listeners:
            listener.close()
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
    async def _accept_all(self) -> None:
        with self._accepting:
            async with trio.open_nursery() as nursery:
                for listener in self._listeners:
                    nursery.start_soon(self._accept, listener)

    @trio.lowlevel.enable_ki_protection
    async def _accept(self, listener: trio.socket.SocketType) -> None:
        while True:
            while self._limits.are_reached:
                await self._changed.park()
            await trio.lowlevel.checkpoint_if_cancelled()  # by close(), which closes what would be waited for
            await trio.lowlevel.wait_readable(listener)
            if self._limits.are_reached:  # by a client of another listening socket
                continue
            try:
                sock, address = await listener.accept()
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
