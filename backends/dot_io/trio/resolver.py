"""The resolver: upstreams that are dialled as they are needed, for any number of tasks of one run."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Self

import outcome as results
import trio

from dot_proto import DoTError, LocalProtocolError
from dot_proto.arguments import check_seconds
from dot_proto.resolver.configuration import ResolverConfiguration
from dot_proto.resolver.events import FindAddresses, OpenConnection
from dot_proto.resolver.upstream import Upstream

from .._awaited import AwaitedResolver
from .._client import CLOSE_GRACE, CLOSE_TIMEOUT, MAX_IN_FLIGHT, another_loop, check_many
from .._fate import Fate, response
from .._lookup import Address, SystemLookup
from .dial import dial, look_up
from .driver import Driver
from .nursery import open_plain_nursery


class Resolver(AwaitedResolver):
    """A stub resolver that stays up: it dials when it is asked, and again when connections end.

    Works inside ``async with`` alone, since its tasks need a nursery; tasks of one run may share it.  Raises
    :class:`~dot_proto.LocalProtocolError` for upstreams that cannot stand together.
    """

    _now = staticmethod(trio.current_time)

    def __init__(
        self,
        upstreams: Iterable[Upstream],
        configuration: ResolverConfiguration | None = None,
        *,
        share_records: bool = False,
    ) -> None:
        super().__init__(upstreams, configuration, share_records=share_records)
        self._token: trio.lowlevel.TrioToken | None = None
        self._stack: AsyncExitStack
        self._nursery: trio.Nursery
        self._dials: dict[int, trio.CancelScope] = {}
        self._drivers: dict[int, Driver] = {}
        self._sleep = trio.CancelScope()
        self._others: set[trio.CancelScope] = set()
        """Of the tasks that are no connection's.

        The nursery is not cancelled as a whole: what the block raises would come out in an exception group."""

    async def query(self, message: bytes, *, timeout: float | None = None) -> bytes:
        """Ask, and wait for the response, which comes back under the query's own id.

        ``timeout`` is in seconds, and covers waiting, dialling, asking, and asking again; the configuration's by
        default.  Cancelling abandons this query, and nothing else.

        Raises :class:`~dot_io.errors.QueryTimeoutError`; :class:`~dot_io.errors.NoUpstreamError` where nobody can be
        asked in time; :class:`~dot_io.errors.ConnectionLostError` where connections ended and the query may not be
        sent again; :class:`~dot_proto.LocalProtocolError` for a message that is no query, and after :meth:`close`.
        """
        self._check_run()
        task = trio.lowlevel.current_task()
        handle = self._ask(message, timeout, lambda fate: trio.lowlevel.reschedule(task, results.Value(fate)))
        self._do()

        def abandon(_: object) -> trio.lowlevel.Abort:
            self._cancel(handle)
            return trio.lowlevel.Abort.SUCCEEDED

        return response(await trio.lowlevel.wait_task_rescheduled(abandon))

    async def query_many(
        self, messages: Iterable[bytes], *, timeout: float | None = None, max_in_flight: int = MAX_IN_FLIGHT
    ) -> AsyncGenerator[tuple[int, Fate]]:
        """Ask all of ``messages``, at most ``max_in_flight`` at a time, and yield each one's fate as it comes.

        Yields the message's position, from 0, and a :class:`~dot_proto.resolver.events.QueryAnswered` or
        :class:`~dot_proto.resolver.events.QueryFailed`.  Leaving the loop early cancels what is in flight, once the
        generator is closed.
        """
        check_many(messages, timeout, max_in_flight)
        self._check_run()
        positions: dict[int, int] = {}
        fates: deque[Fate] = deque()
        waiter = trio.lowlevel.ParkingLot()

        def collect(fate: Fate) -> None:
            if not fates:  # else whoever waited has been called already
                waiter.unpark()
            fates.append(fate)

        source = enumerate(messages)
        try:
            while True:
                for position, message in islice(source, max_in_flight - len(positions)):
                    positions[self._ask(message, timeout, collect)] = position
                self._do()
                if not positions:
                    return
                if not fates:
                    await waiter.park()
                while fates:
                    fate = fates.popleft()
                    yield positions.pop(fate.query), fate
        finally:
            for handle in positions:
                self._cancel(handle)

    def network_changed(self) -> None:
        """Say that the machine is in another network: connections are opened anew, sessions and failures forgotten."""
        self._check_run()
        self._leave_network()

    async def close(self, *, timeout: float = CLOSE_TIMEOUT) -> None:
        """Close in order.  Answers still owed to other tasks are waited for, ``timeout`` seconds long."""
        check_seconds("timeout", timeout)
        self._check_run()
        self._machine.close(now=self._now(), timeout=timeout)
        self._do()
        try:
            with trio.move_on_after(timeout + CLOSE_GRACE):
                for driver in list(self._drivers.values()):
                    await driver.ended.wait()
        finally:
            for scope in [*self._dials.values(), *self._others]:
                scope.cancel()
            for driver in list(self._drivers.values()):
                driver.abort()
        for driver in list(self._drivers.values()):
            await driver.ended.wait()
        await self._close_bootstraps()
        self._ring()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._run_in(await stack.enter_async_context(open_plain_nursery()))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        # A block that is left by an exception waits for nothing that is still owed.
        with trio.CancelScope(shield=True):
            await self.close(timeout=CLOSE_TIMEOUT if kind is None else 0.0)
        return await self._stack.__aexit__(kind, error, traceback)

    def __enter__(self) -> Self:
        raise LocalProtocolError("this Resolver is trio's: use 'async with', or dot_io.blocking")

    def __exit__(self, *_: object) -> None:
        """Never reached."""

    def forget_parents(self) -> None:
        """In a forked child: begin anew, in a run of its own."""
        for driver in self._drivers.values():
            driver.forget_parents()
        self._token, self._dials, self._drivers = None, {}, {}
        super().forget_parents()

    # Private methods.

    def _run_in(self, nursery: trio.Nursery) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._nursery = nursery
        self._start(self._keep_time)

    def _bootstrap_of(self, upstream: Upstream) -> Self:
        bootstrap = super()._bootstrap_of(upstream)
        if bootstrap._token is None:
            bootstrap._run_in(self._nursery)
        return bootstrap

    def _check_run(self) -> None:
        token = trio.lowlevel.current_trio_token()
        if self._token is None:
            raise LocalProtocolError("this Resolver has not been entered: use 'async with'")
        if token is not self._token:
            raise another_loop()

    def _open(self, action: OpenConnection) -> None:
        self._dials[action.connection] = trio.CancelScope()
        self._nursery.start_soon(self._dial, action)

    @trio.lowlevel.enable_ki_protection
    async def _dial(self, action: OpenConnection) -> None:
        number = action.connection
        try:
            with self._dials[number]:
                await self._dialled(action)
        except DoTError as error:
            self._failed(action, error)
        finally:
            del self._dials[number]
        driver = self._drivers.get(number)
        if driver is not None:
            try:
                await driver.run()
            finally:
                del self._drivers[number]

    async def _dialled(self, action: OpenConnection) -> None:
        deadline = self._now() + self._machine.configuration.open_timeout
        sock = await dial(action.address, action.upstream.port, deadline)
        if self._dials[action.connection].cancel_called:  # in the very turn in which TCP came up
            sock.close()
            return
        try:
            session = self._new_session(action, sock)
            driver = Driver(sock, session, partial(self._process, action, session), quickack=True)
        except BaseException:
            sock.close()
            raise
        self._drivers[action.connection] = driver
        self._opened(action, session)

    def _abandon(self, number: int) -> None:
        if number in self._dials:
            self._dials[number].cancel()
        if number in self._drivers:
            self._drivers[number].abort()

    def _find(self, action: FindAddresses) -> None:
        self._start(self._look_up, action)

    def _start(self, function: Callable[..., Awaitable[None]], *arguments: object) -> None:
        # The scope is there at once, so that a task is cancelled also where it has not begun yet.
        scope = trio.CancelScope()
        self._others.add(scope)
        self._nursery.start_soon(self._cancellably, scope, function, *arguments)

    @trio.lowlevel.enable_ki_protection
    async def _cancellably(
        self, scope: trio.CancelScope, function: Callable[..., Awaitable[None]], *arguments: object
    ) -> None:
        try:
            with scope:
                await function(*arguments)
        finally:
            self._others.discard(scope)

    async def _ask_system(self, name: str, port: int, deadline: float) -> list[tuple[int, Address]]:
        return await look_up(name, port, deadline, SystemLookup)

    def _flush(self, number: int) -> None:
        self._drivers[number].start_flush()

    def _set_timer(self, due: float) -> None:
        self._sleep.deadline = due

    @trio.lowlevel.enable_ki_protection
    async def _keep_time(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._timer_at) as self._sleep:
                await trio.sleep_forever()
            self._ring()
            for driver in self._drivers.values():
                driver.renew_timer()
