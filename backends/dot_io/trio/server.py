"""The server: a nursery for each connection, and in it a task for each query whose handler has to wait.

Theory of operation.  A task accepts while there are places.  Each connection's :class:`~.driver.Driver` hands events
to a :class:`_Connection`, which calls the handler; all responses to one read leave in one write.  A client that
asks more than is answered, or does not read, is not read from until it has been served.
"""

from __future__ import annotations

import math
import socket
from collections.abc import AsyncGenerator, Awaitable, Sequence

import trio

from dot_proto import QueryReceived, ServerConfiguration
from dot_proto.arguments import check_seconds

from .._accepting import ACCEPT_PAUSE, AcceptingServer
from .._address import PORT
from .._connections import INTERNAL, ConnectionRecord, ConnectionTable, OnEnd
from .._dial import remaining
from .._limits import MAX_CONNECTIONS, MAX_CONNECTIONS_PER_HOST, ConnectionLimits
from .._listening import HOST, Listeners, listening
from .._proxy_protocol import Networks
from .._server import (
    CLOSE_TIMEOUT,
    AsyncConnection,
    AsyncHandler,
    Service,
    answering,
)
from ..tls import HANDSHAKE_TIMEOUT, ServerContext
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
    proxy_from: Sequence[str] = (),
    configuration: ServerConfiguration | None = None,
    max_connections: int = MAX_CONNECTIONS,
    max_connections_per_host: int = MAX_CONNECTIONS_PER_HOST,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
    share_records: bool = False,
    on_end: OnEnd | None = None,
) -> AsyncGenerator[Server]:
    """Listen, and answer with ``handler`` while the block lasts.

    ``host`` is an address, a name (looked up for IPv4), or a list, with a listening socket for each; ``None`` is every
    address of the machine, of both families.  ``port`` 0 lets the system choose one for each: see
    :attr:`Server.addresses`.  ``sock`` takes their place: one or more TCP sockets that are bound, as systemd's are, and
    are the server's from here on.  ``reuse_port`` lets several processes listen on one port (SO_REUSEPORT).  Limits are
    those of all listening sockets together.  ``proxy_from`` are the networks of load balancers, such as "10.0.0.0/8":
    from there a header of the PROXY protocol (version 1 or 2) must come before TLS, and says who the client is.

    ``handshake_timeout`` is in seconds.  ``share_records`` lets responses share TLS records, which saves octets; but
    stubby 1.6 and dnsdist 1.7 then read only some of the responses.  ``on_end`` is called for each connection that has
    ended, and must not wait.  Raises :class:`OSError` if an address cannot be had.  What the block
    raises leaves it as it is, in no exception group.
    """
    proxies = Networks(proxy_from)
    service = Service(handler, context, configuration, handshake_timeout, share_records, proxies)
    limits = ConnectionLimits(max_connections, max_connections_per_host)
    table = ConnectionTable(limits, on_end, clock=trio.current_time, proxies=proxies)
    with listening(host, port, sock, reuse_port) as listeners:
        async with open_plain_nursery() as nursery:
            server = Server(nursery, service, listeners, table)
            try:
                yield server
            finally:
                with trio.CancelScope(shield=True):
                    await server.close()


class Server(AcceptingServer):
    """A listening server, made by :func:`serve`."""

    def __init__(self, nursery: trio.Nursery, service: Service, listeners: Listeners, table: ConnectionTable) -> None:
        super().__init__(table, listeners)
        self._connections: set[_Connection] = set()
        self._nursery = nursery
        self._service = service
        self._closers: set[AsyncConnection[Driver] | None] = set()  # whose handlers wait for the others to end
        self._changed = trio.lowlevel.ParkingLot()
        self._accepting = trio.CancelScope(shield=True)
        self._deadline = math.inf  # of closing
        self._closed = trio.Event()
        nursery.start_soon(self._accept)

    @trio.lowlevel.enable_ki_protection
    async def serve_forever(self) -> None:
        """Wait until another task closes the server, or until cancelled."""
        await self._closed.wait()

    @trio.lowlevel.enable_ki_protection
    async def close(self, *, timeout: float = CLOSE_TIMEOUT) -> None:
        """Accept no more, let every connection answer what it was asked, and end within ``timeout`` seconds.

        May be called by any task, a handler's too, and more than once: the earliest end counts.  Where a handler calls
        it, that handler's own connection is not waited for; it ends in order once the handler has answered.
        """
        caller = answering.get()
        self._deadline = min(self._deadline, trio.current_time() + check_seconds("timeout", timeout))
        if not self._is_closing:
            self._accepting.cancel()
            self._close_listeners()
        for connection in self._connections:
            connection.start_close(remaining(self._deadline, now=trio.current_time()))
        self._closers.add(caller)
        self._changed.unpark_all()
        try:
            with trio.move_on_at(self._deadline):
                await self._until_gone(caller)
        finally:
            self._closed.set()
            for connection in self._others(caller):
                connection.driver.abort()
        try:
            await self._until_gone(caller)
        finally:
            self._closers.discard(caller)
            self._table.write_what_was_left_out()

    def _others(self, caller: object) -> set[_Connection]:
        """Whose end is to be waited for: a handler that closes the server waits for none that does so too."""
        return self._connections - (self._closers if caller else set())

    async def _until_gone(self, caller: object) -> None:
        while self._others(caller):
            await self._changed.park()

    @trio.lowlevel.enable_ki_protection
    async def _accept(self) -> None:
        with self._accepting:
            async with trio.open_nursery() as nursery:
                for listener in self._listeners:
                    nursery.start_soon(self._accept_from, listener)

    @trio.lowlevel.enable_ki_protection
    async def _accept_from(self, listener: socket.socket) -> None:
        while not self._is_closing:
            while self._table.is_full:
                await self._changed.park()
            pause: float | None = ACCEPT_PAUSE
            try:
                await trio.lowlevel.wait_readable(listener)
            except Exception as error:  # the system cannot watch it
                self._accept_failed(error)
            else:
                if not self._table.is_full:  # by a client of another listening socket
                    pause = self._accept_next(listener)
            if pause:
                await trio.sleep(pause)

    def _start_connection(self, sock: socket.socket, record: ConnectionRecord) -> None:
        connection = _Connection(self._service, record, sock)
        record.begin(connection.driver.abort)
        self._connections.add(connection)
        self._nursery.start_soon(self._run, connection)

    @trio.lowlevel.enable_ki_protection
    async def _run(self, connection: _Connection) -> None:
        try:
            with trio.CancelScope(shield=True):
                await connection.run()
        except Exception as error:
            connection.record.fail(INTERNAL, error)
        finally:
            self._connections.discard(connection)
            self._changed.unpark_all()
            self._table.end(connection.record)


class _Connection(AsyncConnection[Driver]):
    """One client."""

    def __init__(self, service: Service, record: ConnectionRecord, sock: socket.socket) -> None:
        super().__init__(service, record, now=trio.current_time())
        self._nursery: trio.Nursery
        self.driver = Driver(
            sock, self._session, self._process_events, self._handle_queries, send_timeout=service.send_timeout
        )

    async def run(self) -> None:
        """Until the connection has ended, and with it every handler that still works for it."""
        async with trio.open_nursery() as self._nursery:
            await self.driver.run()
            self._nursery.cancel_scope.cancel()

    def _now(self) -> float:
        return trio.current_time()

    def _start_handler(self, event: QueryReceived, response: Awaitable[bytes | None]) -> None:
        self._nursery.start_soon(self._await_handler, event, response)

    def _is_cancelled(self, error: BaseException) -> bool:
        if isinstance(error, BaseExceptionGroup):  # as a nursery of the handler's raises it
            return error.split(trio.Cancelled)[1] is None
        return isinstance(error, trio.Cancelled)

    @trio.lowlevel.enable_ki_protection  # Ctrl-C is the main task's: from here it would wait for this client to go
    async def _await_handler(self, event: QueryReceived, response: Awaitable[bytes | None]) -> None:
        await super()._await_handler(event, response)
