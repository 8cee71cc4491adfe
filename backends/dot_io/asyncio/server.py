"""The server: one object for each connection, a task for each query whose handler has to wait.

Theory of operation.  While there are places the loop says when somebody waits to be accepted (``add_reader``,
which the proactor loop of Windows lacks).  Each connection's :class:`~.driver.Driver` hands events to a
:class:`_Connection`, which calls the handler; all responses to one read leave in one write.  A client that asks
more than is answered, or does not read, is not read from until it has been served.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections.abc import AsyncGenerator, Awaitable, Sequence
from functools import partial
from typing import Final

from dot_proto import QueryReceived, ServerConfiguration
from dot_proto.arguments import check_seconds

from .._accepting import ACCEPT_PAUSE, AcceptingServer
from .._address import PORT
from .._connections import LOCAL, ConnectionRecord, ConnectionTable, OnEnd, log
from .._dial import LONGEST_WAIT, remaining
from .._limits import MAX_CONNECTIONS, MAX_CONNECTIONS_PER_HOST, ConnectionLimits
from .._listening import HOST, Listeners, listening
from .._opening import opened
from .._proxy_protocol import Networks
from .._server import (
    CLOSE_TIMEOUT,
    AsyncConnection,
    AsyncHandler,
    Service,
    answering,
)
from .._transport import turn_away
from ..tls import HANDSHAKE_TIMEOUT, ServerContext
from .driver import Driver

CANCEL_TIMEOUT: Final = 1.0
"Seconds that closing a server waits for handlers that were cancelled; one that goes on is left behind."

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
    ended, and must not wait.  Raises :class:`OSError` if an address cannot be had.
    """
    proxies = Networks(proxy_from)
    service = Service(handler, context, configuration, handshake_timeout, share_records, proxies)
    limits = ConnectionLimits(max_connections, max_connections_per_host)
    table = ConnectionTable(limits, on_end, clock=asyncio.get_running_loop().time, proxies=proxies)
    with listening(host, port, sock, reuse_port) as listeners:
        server = Server(service, listeners, table)
    try:
        yield server
    finally:
        await server.close()


class Server(AcceptingServer):
    """A listening server, made by :func:`serve`."""

    def __init__(self, service: Service, listeners: Listeners, table: ConnectionTable) -> None:
        super().__init__(table, listeners)
        self._connections: set[_Connection] = set()
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._closers: set[AsyncConnection[Driver] | None] = set()  # whose handlers wait for the others to end
        self._changed = asyncio.Event()
        self._pause: asyncio.TimerHandle | None = None
        self._deadline = math.inf  # of closing
        self._closed = asyncio.Event()
        self._start_accepting()

    async def serve_forever(self) -> None:
        """Wait until another task closes the server, or until cancelled."""
        await self._closed.wait()

    async def close(self, *, timeout: float = CLOSE_TIMEOUT) -> None:
        """Accept no more, let every connection answer what it was asked, and end within ``timeout`` seconds.

        May be called by any task, a handler's too, and more than once: the earliest end counts.  Where a handler calls
        it, that handler's own connection is not waited for; it ends in order once the handler has answered.
        """
        timeout = min(check_seconds("timeout", timeout), LONGEST_WAIT)
        caller = answering.get()
        self._deadline = min(self._deadline, self._loop.time() + timeout)
        if not self._is_closing:
            self._stop_accepting()
            self._close_listeners()
        for connection in self._connections:
            connection.start_close(self._time_left())
        self._closers.add(caller)
        self._changed.set()
        try:
            while self._others(caller) and (left := self._time_left()):
                await self._until_changed(left)
        finally:
            self._closed.set()
            for connection in self._others(caller):
                connection.driver.abort()
            cancelled_until = self._loop.time() + CANCEL_TIMEOUT
            while self._others(caller) and (left := remaining(cancelled_until, now=self._loop.time())):
                await self._until_changed(left)
            self._closers.discard(caller)
            if self._others(caller):
                log.warning("a handler goes on although it was cancelled, and is left behind")
            self._table.write_what_was_left_out()

    def _time_left(self) -> float:
        return remaining(self._deadline, now=self._loop.time())

    def _others(self, caller: object) -> set[_Connection]:
        """Whose end is to be waited for: a handler that closes the server waits for none that does so too."""
        return self._connections - (self._closers if caller else set())

    async def _until_changed(self, seconds: float) -> None:
        """At most so long, until a connection has ended, or until another task closes the server too."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def _start_accepting(self) -> None:
        self._pause = None
        if self._is_closing or self._table.is_full:
            return
        try:
            for listener in self._listeners:
                self._loop.add_reader(listener, self._accept, listener)
        except Exception as error:  # the system cannot watch them
            self._accept_failed(error)
            self._start_pause(ACCEPT_PAUSE)

    def _stop_accepting(self) -> None:
        for listener in self._listeners:
            self._loop.remove_reader(listener)
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def _start_pause(self, seconds: float) -> None:
        self._stop_accepting()
        self._pause = self._loop.call_later(seconds, self._start_accepting)

    def _accept(self, listener: socket.socket) -> None:
        # Not by sock_accept(): cancelling that can lose the client that has just been accepted.
        if self._table.is_full:
            self._stop_accepting()
        elif pause := self._accept_next(listener):
            self._start_pause(pause)

    def _start_connection(self, sock: socket.socket, record: ConnectionRecord) -> None:
        connection = _Connection(self._service, record, self._loop)
        record.begin(connection.driver.abort)
        connection.start(sock)
        self._connections.add(connection)
        connection.gone.add_done_callback(partial(self._forget, connection))

    def _forget(self, connection: _Connection, _: object) -> None:
        self._connections.discard(connection)
        self._changed.set()
        self._table.end(connection.record)
        if self._pause is None:
            self._start_accepting()


class _Connection(AsyncConnection[Driver]):
    """One client."""

    def __init__(self, service: Service, record: ConnectionRecord, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(service, record, now=loop.time())
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()
        self.driver = Driver(
            loop, self._session, self._process_events, self._handle_queries, send_timeout=service.send_timeout
        )
        self.gone: Final[asyncio.Future[None]] = loop.create_future()
        "Done when the connection has ended, and with it every handler that worked for it."
        self.driver.ended.add_done_callback(self._end_tasks)

    def start(self, sock: socket.socket) -> None:
        """Move octets from here on."""
        starting = self._start(sock)
        try:
            self._keep(self._loop.create_task(starting))
        except BaseException:
            starting.close()
            raise

    async def _start(self, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: self.driver, sock)
        except BaseException as error:
            turn_away(sock)
            self.driver.abandon()
            if not isinstance(error, Exception):
                raise
            self.record.fail(LOCAL, error)

    def _now(self) -> float:
        return self._loop.time()

    def _start_handler(self, event: QueryReceived, response: Awaitable[bytes | None]) -> None:
        self._keep(self._loop.create_task(self._await_handler(event, response)))

    def _is_cancelled(self, error: BaseException) -> bool:
        return isinstance(error, asyncio.CancelledError) and self.driver.ended.done()

    def _keep(self, task: asyncio.Task[None]) -> None:
        """A task is over before its connection is."""
        self._tasks.add(task)
        task.add_done_callback(self._forget_task)

    def _end_tasks(self, _: object) -> None:
        for task in self._tasks:
            task.cancel()
        self._check_gone()

    def _forget_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._check_gone()

    def _check_gone(self) -> None:
        if self.driver.ended.done() and not self._tasks and not self.gone.done():
            self.gone.set_result(None)
