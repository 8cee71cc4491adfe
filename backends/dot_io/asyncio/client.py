"""The client: one connection that any number of tasks may share."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import AsyncGenerator, Generator, Iterable
from functools import partial
from itertools import islice
from typing import Any

from dot_proto import AuthenticationPolicy, ClientConfiguration, Event, LocalProtocolError
from dot_proto.arguments import check_seconds

from .._address import PORT
from .._client import (
    CLOSE_GRACE,
    CLOSE_TIMEOUT,
    CONNECT_TIMEOUT,
    MAX_IN_FLIGHT,
    ClientBase,
    Outcome,
    Plan,
    another_loop,
    check_many,
    check_query,
    no_first_query,
)
from .._dial import connect_error
from .._opening import Unopened
from .._transport import close
from ..errors import HandshakeError
from ..tls import ClientContext, TLSClient
from .dial import dial
from .driver import Driver


def connect(
    host: str,
    policy: AuthenticationPolicy | None = None,
    *,
    port: int = PORT,
    timeout: float = CONNECT_TIMEOUT,
    configuration: ClientConfiguration | None = None,
    context: ClientContext | None = None,
    share_records: bool = False,
    first_query: bytes | None = None,
) -> Connecting:
    """Connect, shake hands, and check who answers, all within ``timeout`` seconds.

    ``async with connect(...) as client`` closes the client at the block's end: a block that ends in order waits for
    the answers still owed, as :meth:`Client.close` does; one that is left by an exception closes at once.  ``client
    = await connect(...)`` leaves the closing to the caller.

    ``host`` is an address or a name to dial.  Without ``policy`` the server must have a certificate for it that
    the system trusts.  ``context`` carries the policy and TLS settings from one connection to the next, and the
    sessions to resume; it takes the place of ``policy``.  ``first_query`` is a query that leaves with the last octets
    of the handshake, once the server is accepted: see :meth:`Client.first_response`.

    Raises :class:`~dot_io.errors.ConnectError`, :class:`~dot_io.errors.HandshakeError` and its
    :class:`~dot_io.errors.AuthenticationError`; :class:`~dot_proto.LocalProtocolError` for a wrong argument.
    """
    return Connecting(
        Plan.of(
            host,
            policy,
            port=port,
            timeout=timeout,
            configuration=configuration,
            context=context,
            share_records=share_records,
            first_query=first_query,
        )
    )


class Connecting(Unopened):
    """What :func:`connect` returns: a client to be awaited, or to be entered with ``async with``."""

    _call = "dot_io.asyncio.connect()"
    _remedy = "await it, or enter it with 'async with'"

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._client: Client
        self._is_used = False

    def __await__(self) -> Generator[Any, None, Client]:
        self._is_used = True
        return self._connect().__await__()

    async def __aenter__(self) -> Client:
        self._is_used = True
        self._client = await self._connect()
        return self._client

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A block that is left by an exception waits for nothing that is still owed.
        await self._client.close(timeout=CLOSE_TIMEOUT if kind is None else 0.0)

    async def _connect(self) -> Client:
        plan = self._plan.begun(asyncio.get_running_loop().time())
        while True:
            try:
                return await _connect(plan)
            except HandshakeError as error:
                plan = plan.after(error)


async def _connect(plan: Plan) -> Client:
    loop = asyncio.get_running_loop()
    started = loop.time()
    sock = await dial(plan.host, plan.port, plan.deadline)
    try:
        now = loop.time()
        client = Client(plan, plan.new_session(sock, now=now), connect_time=now - started)
        await client._start(sock)
    except OSError as error:  # asyncio sets an option of TCP that some systems refuse where the peer has gone again
        close(sock)
        raise connect_error(plan.host, plan.port, error) from error
    except BaseException:
        close(sock)
        raise
    await client._shake_hands(plan)
    return client


class Client(ClientBase):
    """One connection to a server; tasks may share it.  Made by :func:`connect`.

    It does not reconnect: when the server has closed, calls raise
    :class:`~dot_io.errors.ConnectionLostError`, which says whether to ask again elsewhere is safe.
    """

    def __init__(self, plan: Plan, session: TLSClient, *, connect_time: float) -> None:
        super().__init__(plan, session, connect_time=connect_time)
        self._loop = asyncio.get_running_loop()
        self._driver = Driver(self._loop, session, self._process_events, quickack=True)
        self._is_judged: asyncio.Future[None] = self._loop.create_future()
        self._first: asyncio.Future[Outcome] | None = None

    async def first_response(self) -> bytes:
        """Wait for the response to the query that :func:`connect` was given as ``first_query``.

        It is due within the ``timeout`` of :func:`connect`.  Raises what :meth:`query` raises, and
        :class:`~dot_proto.LocalProtocolError` where there was no such query.
        """
        self._check_loop()
        if self._first is None:
            raise no_first_query()
        await asyncio.wait([self._first])
        return self._response(self._first.result())

    async def query(self, message: bytes, *, timeout: float | None = None) -> bytes:
        """Ask, and wait for the response, which comes back under the query's own id.

        ``timeout`` is in seconds; the configuration's by default.  While too many queries are on their way this
        waits for its turn.  Cancelling the task abandons this query, and nothing else.  Raises
        :class:`~dot_io.errors.QueryTimeoutError`, :class:`~dot_io.errors.ConnectionLostError`,
        :class:`~dot_proto.LocalProtocolError` for a message that is no query.
        """
        self._check_loop()
        check_query(message, timeout)
        if self._queue.capacity <= 0:
            timeout = await self._wait_in_queue(timeout)
        try:
            handle = self._session.connection.send_query(message, now=self._loop.time(), timeout=timeout)
        except LocalProtocolError:
            self._queue.call_next()  # since our turn is not used
            raise
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self._waiters[handle] = partial(_resolve, future)
        self._driver.start_flush()
        try:
            outcome = await future
        except asyncio.CancelledError:
            self._cancel_query(handle, self._loop.time())
            raise
        return self._response(outcome)

    async def query_many(
        self, messages: Iterable[bytes], *, timeout: float | None = None, max_in_flight: int = MAX_IN_FLIGHT
    ) -> AsyncGenerator[tuple[int, Outcome]]:
        """Ask all of ``messages``, at most ``max_in_flight`` at a time, and yield each one's fate as it comes.

        Yields the message's position, from 0, and a :class:`~dot_proto.ResponseReceived`,
        :class:`~dot_proto.QueryTimedOut` or :class:`~dot_proto.QueryLost`.  When the connection ends while some
        messages were not even asked, :class:`~dot_io.errors.ConnectionLostError` is raised after the fates of
        those that were.  Leaving the loop early cancels what is in flight, once the generator is closed.
        """
        self._check_loop()
        check_many(messages, timeout, max_in_flight)
        now = self._loop.time
        positions: dict[int, int] = {}
        fates: deque[Outcome] = deque()
        waiter: asyncio.Future[None] | None = None

        def collect(outcome: Outcome) -> None:
            fates.append(outcome)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

        source = enumerate(messages)
        waiting = deque(islice(source, max_in_flight))
        try:
            while positions or waiting:
                left = timeout if positions or self._queue.capacity > 0 else await self._wait_in_queue(timeout)
                self._ask(waiting, positions, collect, now=now(), timeout=left)
                self._driver.start_flush()
                if not fates:
                    waiter = self._loop.create_future()
                    await waiter
                while fates:
                    outcome = fates.popleft()
                    yield positions.pop(outcome.query), outcome
                waiting.extend(islice(source, max_in_flight - len(positions) - len(waiting)))
        finally:
            self._queue.call_next()  # it may be that our turn is not used
            for handle in positions:
                self._cancel_query(handle, now())

    async def close(self, *, timeout: float = CLOSE_TIMEOUT) -> None:
        """Close in order.  Answers still owed to other tasks are waited for, ``timeout`` seconds long."""
        if self._belongs_to_parent:
            return
        self._check_loop()
        check_seconds("timeout", timeout)
        self._session.connection.close(now=self._loop.time(), timeout=timeout)
        self._driver.flush()
        self._queue.call_next()
        try:
            await asyncio.wait([self._driver.ended], timeout=timeout + CLOSE_GRACE)
        finally:
            await self._abort()

    def _check_loop(self) -> None:
        """Nothing of a client can be touched from another loop, not even by mistake."""
        if self._belongs_to_parent:
            raise self._lost(safe_to_resend=True)
        try:
            is_ours = asyncio.get_running_loop() is self._loop
        except RuntimeError:  # no loop at all
            is_ours = False
        if not is_ours:
            raise another_loop()

    async def _start(self, sock: socket.socket) -> None:
        try:
            await self._loop.create_connection(lambda: self._driver, sock=sock)
        except BaseException:
            self._driver.abandon()
            raise

    async def _shake_hands(self, plan: Plan) -> None:
        started = self._loop.time()
        try:
            if plan.first_query is not None and self._end is None:
                self._first = self._loop.create_future()
                self._ask_first(plan, self._first.set_result, now=started)
            await self._is_judged
            self.handshake_time: float = self._loop.time() - started
            if self._end is not None:
                self._driver.flush()  # the alert that says why
                await asyncio.wait([self._driver.ended])
                raise self._failure()
        except BaseException:
            await self._abort()
            raise
        self._connected(plan)

    def forget_parents(self) -> None:
        """In a forked child: end here what the parent goes on with."""
        self._driver.forget_parents()
        super().forget_parents()

    async def _abort(self) -> None:
        self._driver.abort()
        # Waiting for the future itself would, if cancelled, cancel it for everybody.
        await asyncio.wait([self._driver.ended])

    async def _wait_in_queue(self, timeout: float | None) -> float:
        """Wait until a query can be sent; returns what is left of ``timeout``, in seconds."""
        timeout = self._time_in_queue(timeout)
        deadline = self._loop.time() + timeout
        turn: asyncio.Future[None] = self._loop.create_future()
        ticket = self._queue.enter(partial(turn.set_result, None))
        try:
            await asyncio.wait([turn], timeout=timeout)
        except BaseException:
            self._queue.leave(ticket)
            self._queue.call_next()
            raise
        return self._leave_queue(ticket, timeout, deadline - self._loop.time())

    def _cancel_query(self, handle: int, now: float) -> None:
        super()._cancel_query(handle, now)
        self._driver.start_flush()

    def _process_events(self, events: list[Event]) -> None:
        super()._process_events(events)
        if not self._is_judged.done() and self._handshake_is_over():
            self._is_judged.set_result(None)
        # After the tasks that this wakes: what they ask leaves with it, the first query with the client's Finished.
        self._driver.start_flush()


def _resolve(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not future.done():  # cancelled in this very turn of the loop
        future.set_result(outcome)
