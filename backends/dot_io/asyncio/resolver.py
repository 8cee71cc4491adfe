"""The resolver: upstreams that are dialled as they are needed, for any number of tasks of one loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from functools import partial
from itertools import islice
from typing import Self

from dot_proto import DoTError, Event, LocalProtocolError
from dot_proto.arguments import check_seconds
from dot_proto.resolver.configuration import ResolverConfiguration
from dot_proto.resolver.events import FindAddresses, OpenConnection
from dot_proto.resolver.upstream import Upstream

from .._awaited import AwaitedResolver
from .._client import CLOSE_GRACE, CLOSE_TIMEOUT, MAX_IN_FLIGHT, another_loop, check_many
from .._fate import Fate, response
from .._lookup import Address, SystemLookup
from ..tls import TLSClient
from .dial import dial, look_up
from .driver import Driver


class Resolver(AwaitedResolver):
    """A stub resolver that stays up: it dials when it is asked, and again when connections end.

    Tasks of one event loop may share it.  ``async with`` closes it at the block's end.  Raises
    :class:`~dot_proto.LocalProtocolError` for upstreams that cannot stand together.
    """

    def __init__(
        self,
        upstreams: Iterable[Upstream],
        configuration: ResolverConfiguration | None = None,
        *,
        share_records: bool = False,
    ) -> None:
        super().__init__(upstreams, configuration, share_records=share_records)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._lookups: set[asyncio.Task[None]] = set()
        self._drivers: dict[int, Driver] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def query(self, message: bytes, *, timeout: float | None = None) -> bytes:
        """Ask, and wait for the response, which comes back under the query's own id.

        ``timeout`` is in seconds, and covers waiting, dialling, asking, and asking again; the configuration's by
        default.  Cancelling the task abandons this query, and nothing else.

        Raises :class:`~dot_io.errors.QueryTimeoutError`; :class:`~dot_io.errors.NoUpstreamError` where nobody can be
        asked in time; :class:`~dot_io.errors.ConnectionLostError` where connections ended and the query may not be
        sent again; :class:`~dot_proto.LocalProtocolError` for a message that is no query, and after :meth:`close`.
        """
        future: asyncio.Future[Fate] = self._running_loop().create_future()
        handle = self._ask(message, timeout, partial(_resolve, future))
        self._do()
        try:
            fate = await future
        except BaseException:
            self._cancel(handle)
            raise
        return response(fate)

    async def query_many(
        self, messages: Iterable[bytes], *, timeout: float | None = None, max_in_flight: int = MAX_IN_FLIGHT
    ) -> AsyncGenerator[tuple[int, Fate]]:
        """Ask all of ``messages``, at most ``max_in_flight`` at a time, and yield each one's fate as it comes.

        Yields the message's position, from 0, and a :class:`~dot_proto.resolver.events.QueryAnswered` or
        :class:`~dot_proto.resolver.events.QueryFailed`.  Leaving the loop early cancels what is in flight, once the
        generator is closed.
        """
        check_many(messages, timeout, max_in_flight)
        loop = self._running_loop()
        positions: dict[int, int] = {}
        fates: deque[Fate] = deque()
        waiter: asyncio.Future[None] | None = None

        def collect(fate: Fate) -> None:
            fates.append(fate)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

        source = enumerate(messages)
        try:
            while True:
                for position, message in islice(source, max_in_flight - len(positions)):
                    positions[self._ask(message, timeout, collect)] = position
                self._do()
                if not positions:
                    return
                if not fates:
                    waiter = loop.create_future()
                    await waiter
                while fates:
                    fate = fates.popleft()
                    yield positions.pop(fate.query), fate
        finally:
            for handle in positions:
                self._cancel(handle)

    def network_changed(self) -> None:
        """Say that the machine is in another network: connections are opened anew, sessions and failures forgotten."""
        self._running_loop()
        self._leave_network()

    async def close(self, *, timeout: float = CLOSE_TIMEOUT) -> None:
        """Close in order.  Answers still owed to other tasks are waited for, ``timeout`` seconds long."""
        check_seconds("timeout", timeout)
        self._running_loop()
        self._machine.close(now=self._now(), timeout=timeout)
        self._do()
        try:
            if self._drivers:
                await asyncio.wait([driver.ended for driver in self._drivers.values()], timeout=timeout + CLOSE_GRACE)
        finally:
            tasks = [*self._tasks.values(), *self._lookups]
            for task in tasks:
                task.cancel()
            for driver in list(self._drivers.values()):
                driver.abort()
            ends = [driver.ended for driver in self._drivers.values()]
            if tasks or ends:
                await asyncio.wait([*tasks, *ends])
            await self._close_bootstraps()
            self._ring()
            self._stop_timer()

    async def __aenter__(self) -> Self:
        self._running_loop()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A block that is left by an exception waits for nothing that is still owed.
        await self.close(timeout=CLOSE_TIMEOUT if kind is None else 0.0)

    def __enter__(self) -> Self:
        raise LocalProtocolError("this Resolver is asyncio's: use 'async with', or dot_io.blocking")

    def __exit__(self, *_: object) -> None:
        """Never reached."""

    def forget_parents(self) -> None:
        """In a forked child: begin anew, on a loop of its own."""
        for driver in self._drivers.values():
            driver.forget_parents()
        self._loop, self._timer = None, None
        self._tasks, self._lookups, self._drivers = {}, set(), {}
        super().forget_parents()

    # Private methods.

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop, self._now = loop, loop.time
        if self._loop is not loop:
            raise another_loop()
        return loop

    def _open(self, action: OpenConnection) -> None:
        assert self._loop is not None
        task = self._loop.create_task(self._dial(action))
        self._tasks[action.connection] = task
        task.add_done_callback(lambda _: self._tasks.pop(action.connection, None))

    async def _dial(self, action: OpenConnection) -> None:
        loop, number = self._running_loop(), action.connection
        deadline = loop.time() + self._machine.configuration.open_timeout
        try:
            sock = await dial(action.address, action.upstream.port, deadline)
        except DoTError as error:
            self._failed(action, error)
            return
        try:
            session = self._new_session(action, sock)
            driver = Driver(loop, session, partial(self._process, action, session), quickack=True)
            self._drivers[number] = driver
            driver.ended.add_done_callback(lambda _: self._drivers.pop(number, None))
            self._opened(action, session)
            await loop.create_connection(lambda: driver, sock=sock)
        except DoTError as error:
            sock.close()
            self._failed(action, error)
        except BaseException:
            sock.close()
            if number in self._drivers:
                self._drivers[number].abandon()
            raise

    def _abandon(self, number: int) -> None:
        task, driver = self._tasks.get(number), self._drivers.get(number)
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        if driver is not None:
            driver.abort()

    def _find(self, action: FindAddresses) -> None:
        assert self._loop is not None
        task = self._loop.create_task(self._look_up(action))
        self._lookups.add(task)
        task.add_done_callback(self._lookups.discard)

    async def _ask_system(self, name: str, port: int, deadline: float) -> list[tuple[int, Address]]:
        return await look_up(name, port, deadline, SystemLookup)

    def _process(self, action: OpenConnection, session: TLSClient, events: list[Event]) -> None:
        super()._process(action, session, events)
        driver = self._drivers.get(action.connection)
        if driver is not None:
            driver.start_flush()  # after the tasks that this wakes: what they ask leaves with it

    def _flush(self, number: int) -> None:
        self._drivers[number].start_flush()

    def _set_timer(self, due: float) -> None:
        assert self._loop is not None
        self._stop_timer()
        self._timer = self._loop.call_at(due, self._wake)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _wake(self) -> None:
        self._timer = None
        self._ring()
        for driver in self._drivers.values():
            driver.renew_timer()


def _resolve(future: asyncio.Future[Fate], fate: Fate) -> None:
    if not future.done():  # cancelled in this very turn of the loop
        future.set_result(fate)
