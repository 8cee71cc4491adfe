"""The client: one connection that any number of tasks may share."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from itertools import islice

import outcome as results
import trio

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
from ..errors import HandshakeError
from ..tls import ClientContext, TLSClient
from .dial import dial
from .driver import Driver
from .nursery import open_plain_nursery, protected_opened


@protected_opened
async def connect(
    host: str,
    policy: AuthenticationPolicy | None = None,
    *,
    port: int = PORT,
    timeout: float = CONNECT_TIMEOUT,
    configuration: ClientConfiguration | None = None,
    context: ClientContext | None = None,
    share_records: bool = False,
    first_query: bytes | None = None,
) -> AsyncGenerator[Client]:
    """Connect, shake hands, and check who answers, all within ``timeout`` seconds; close at the block's end.

    A block that ends in order waits for the answers still owed, as :meth:`Client.close` does; one that is left by an
    exception closes at once.

    ``host`` is an address or a name to dial.  Without ``policy`` the server must have a certificate for it that
    the system trusts.  ``context`` carries the policy and TLS settings from one connection to the next, and the
    sessions to resume; it takes the place of ``policy``.  ``first_query`` is a query that leaves with the last octets
    of the handshake, once the server is accepted: see :meth:`Client.first_response`.

    Raises :class:`~dot_io.errors.ConnectError`, :class:`~dot_io.errors.HandshakeError` and its
    :class:`~dot_io.errors.AuthenticationError`; :class:`~dot_proto.LocalProtocolError` for a wrong argument.
    What the block raises leaves it as it is, in no exception group.
    """
    plan = Plan.of(
        host,
        policy,
        port=port,
        timeout=timeout,
        configuration=configuration,
        context=context,
        share_records=share_records,
        first_query=first_query,
    ).begun(trio.current_time())
    async with open_plain_nursery() as nursery:
        client = await _connect_as_often_as_needed(nursery, plan)
        try:
            yield client
        except BaseException:
            with trio.CancelScope(shield=True):
                await client.close(timeout=0.0)  # nobody waits for what is still owed
            raise
        with trio.CancelScope(shield=True):
            await client.close()


async def _connect_as_often_as_needed(nursery: trio.Nursery, plan: Plan) -> Client:
    while True:
        try:
            return await _connect(nursery, plan)
        except HandshakeError as error:
            plan = plan.after(error)


async def _connect(nursery: trio.Nursery, plan: Plan) -> Client:
    started = trio.current_time()
    sock = await dial(plan.host, plan.port, plan.deadline)
    try:
        now = trio.current_time()
        client = Client(plan, sock, plan.new_session(sock, now=now), connect_time=now - started)
    except BaseException:
        sock.close()
        raise
    nursery.start_soon(client._driver.run)
    await client._shake_hands(plan)
    return client


class Client(ClientBase):
    """One connection to a server; tasks may share it.  Made by :func:`connect`.

    It does not reconnect: when the server has closed, calls raise
    :class:`~dot_io.errors.ConnectionLostError`, which says whether to ask again elsewhere is safe.
    """

    def __init__(self, plan: Plan, sock: socket.socket, session: TLSClient, *, connect_time: float) -> None:
        super().__init__(plan, session, connect_time=connect_time)
        self._token = trio.lowlevel.current_trio_token()
        self._driver = Driver(sock, session, self._process_events, quickack=True)
        self._is_judged = trio.Event()
        self._first: list[Outcome] | None = None
        self._first_is_known = trio.Event()

    @trio.lowlevel.enable_ki_protection
    async def first_response(self) -> bytes:
        """Wait for the response to the query that :func:`connect` was given as ``first_query``.

        It is due within the ``timeout`` of :func:`connect`.  Raises what :meth:`query` raises, and
        :class:`~dot_proto.LocalProtocolError` where there was no such query.
        """
        self._check_loop()
        if self._first is None:
            raise no_first_query()
        await self._first_is_known.wait()
        return self._response(self._first[0])

    @trio.lowlevel.enable_ki_protection
    async def query(self, message: bytes, *, timeout: float | None = None) -> bytes:
        """Ask, and wait for the response, which comes back under the query's own id.

        ``timeout`` is in seconds; the configuration's by default.  While too many queries are on their way this
        waits for its turn.  Cancelling abandons this query, and nothing else.  Raises
        :class:`~dot_io.errors.QueryTimeoutError`, :class:`~dot_io.errors.ConnectionLostError`,
        :class:`~dot_proto.LocalProtocolError` for a message that is no query.
        """
        self._check_loop()
        check_query(message, timeout)
        if self._queue.capacity <= 0:
            timeout = await self._wait_in_queue(timeout)
        try:
            handle = self._session.connection.send_query(message, now=trio.current_time(), timeout=timeout)
        except LocalProtocolError:
            self._queue.call_next()  # since our turn is not used
            raise
        task = trio.lowlevel.current_task()
        self._waiters[handle] = lambda fate: trio.lowlevel.reschedule(task, results.Value(fate))
        self._driver.start_flush()

        def abandon(_: object) -> trio.lowlevel.Abort:
            self._cancel_query(handle, trio.current_time())
            return trio.lowlevel.Abort.SUCCEEDED

        fate: Outcome = await trio.lowlevel.wait_task_rescheduled(abandon)
        return self._response(fate)

    @trio.lowlevel.enable_ki_protection
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
        positions: dict[int, int] = {}
        fates: deque[Outcome] = deque()
        waiter = trio.lowlevel.ParkingLot()

        def collect(fate: Outcome) -> None:
            if not fates:  # else whoever waited has been called already; to look costs a tenth of a query
                waiter.unpark()
            fates.append(fate)

        source = enumerate(messages)
        waiting = deque(islice(source, max_in_flight))
        try:
            while positions or waiting:
                left = timeout if positions or self._queue.capacity > 0 else await self._wait_in_queue(timeout)
                self._ask(waiting, positions, collect, now=trio.current_time(), timeout=left)
                self._driver.flush()
                if not fates:
                    await waiter.park()
                while fates:
                    fate = fates.popleft()
                    yield positions.pop(fate.query), fate
                waiting.extend(islice(source, max_in_flight - len(positions) - len(waiting)))
        finally:
            self._queue.call_next()  # it may be that our turn is not used
            for handle in positions:
                self._cancel_query(handle, trio.current_time())

    @trio.lowlevel.enable_ki_protection
    async def close(self, *, timeout: float = CLOSE_TIMEOUT) -> None:
        """Close in order.  Answers still owed to other tasks are waited for, ``timeout`` seconds long."""
        if self._belongs_to_parent:
            return
        self._check_loop()
        check_seconds("timeout", timeout)
        self._session.connection.close(now=trio.current_time(), timeout=timeout)
        self._driver.flush()
        self._queue.call_next()
        try:
            with trio.move_on_after(timeout + CLOSE_GRACE):
                await self._driver.ended.wait()
        finally:
            self._driver.abort()
        await self._driver.ended.wait()

    async def _shake_hands(self, plan: Plan) -> None:
        started = trio.current_time()
        try:
            if plan.first_query is not None:
                self._first = []
                self._ask_first(plan, self._first_met_its_fate, now=started)
            await self._is_judged.wait()
        except BaseException:
            self._driver.abort()
            raise
        self.handshake_time: float = trio.current_time() - started
        self._driver.start_flush()  # behind the caller, whose first query leaves with our Finished
        if self._end is not None:
            await self._driver.ended.wait()  # the alert that says why has left by then
            raise self._failure()
        self._connected(plan)

    def forget_parents(self) -> None:
        """In a forked child: end here what the parent goes on with."""
        self._driver.forget_parents()
        super().forget_parents()

    def _check_loop(self) -> None:
        """Nothing of a client can be touched from another run, not even by mistake."""
        if self._belongs_to_parent:
            raise self._lost(safe_to_resend=True)
        try:
            is_ours = trio.lowlevel.current_trio_token() is self._token
        except RuntimeError:  # no trio at all
            is_ours = False
        if not is_ours:
            raise another_loop()

    def _first_met_its_fate(self, fate: Outcome) -> None:
        assert self._first is not None
        self._first.append(fate)
        self._first_is_known.set()

    async def _wait_in_queue(self, timeout: float | None) -> float:
        """Wait until a query can be sent; returns what is left of ``timeout``, in seconds."""
        timeout = self._time_in_queue(timeout)
        deadline = trio.current_time() + timeout
        turn = trio.Event()
        ticket = self._queue.enter(turn.set)
        try:
            with trio.move_on_at(deadline):
                await turn.wait()
        except BaseException:
            self._queue.leave(ticket)
            self._queue.call_next()
            raise
        return self._leave_queue(ticket, timeout, deadline - trio.current_time())

    def _cancel_query(self, handle: int, now: float) -> None:
        super()._cancel_query(handle, now)
        self._driver.start_flush()

    def _process_events(self, events: list[Event]) -> None:
        super()._process_events(events)
        if not self._is_judged.is_set() and self._handshake_is_over():
            self._is_judged.set()
            if self._end is None:
                self._driver.defer_flush()
