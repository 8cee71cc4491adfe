"""What the four backends need so that one scenario runs on each: a loop to run it, and a few words of concurrency.

A scenario is ``async def scenario(api, ...)``, written once.  ``api`` is a :class:`Backend`: its ``connect`` and
``serve`` are the backend's own, and ``gather``, ``within``, ``pause`` mean the same everywhere.  A scenario for the
blocking backend runs on asyncio, and each call into the backend in a thread of its own; so the words of asyncio
serve it too, and what is tested is still the blocking code, used by many threads.

The other side of a connection is a server in a thread, on a loop of its own (:meth:`Backend.serving`), or one of the
misbehaving peers.  So every pair of backends can be had, and neither can keep the other waiting.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from types import ModuleType
from typing import Any, ClassVar

import trio
import trio.testing

import dot_io.asyncio
import dot_io.blocking
import dot_io.trio

GIVE_UP = 20.0
"Seconds after which a scenario that hangs has failed."

Scenario = Callable[..., Coroutine[Any, Any, Any]]


class Gate:
    """Holds responses back until it is opened, by any thread."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._opened: concurrent.futures.Future[None] = concurrent.futures.Future()

    def open(self) -> None:
        """Let all responses go that wait, and all that come."""
        if not self._opened.done():
            self._opened.set_result(None)

    def then(self, response: bytes | None) -> Any:
        """What a handler returns to have its response wait for this gate."""
        return self._backend.after(self._opened, response)


class Running:
    """A server in a thread of its own."""

    def __init__(self, server: Any, close: Callable[..., None]) -> None:
        self.host: str = server.host
        self.port: int = server.port
        self.addresses: tuple[tuple[str, int], ...] = server.addresses
        self.statistics: Callable[[], Any] = server.statistics
        self._close = close
        self._is_closed = False

    def close(self, *, timeout: float = 1.0) -> None:
        """Close the server from this thread; its loop ends with it, so that there is no second time."""
        if not self._is_closed:
            self._is_closed = True
            self._close(timeout=timeout)


class Backend(ABC):
    """One backend, and what a scenario needs beside it."""

    name: ClassVar[str]
    package: ClassVar[ModuleType]
    is_async = True
    "Whether callers can be cancelled."

    def __repr__(self) -> str:
        return self.name

    @abstractmethod
    def run(self, scenario: Scenario, *arguments: Any) -> Any:
        """Run ``scenario(self, *arguments)``; fails if it hangs, or leaves a task behind."""

    def connect(self, *arguments: Any, **options: Any) -> AbstractAsyncContextManager[Any]:
        """The backend's own."""
        connection: AbstractAsyncContextManager[Any] = self.package.connect(*arguments, **options)
        return connection

    def serve(self, *arguments: Any, **options: Any) -> AbstractAsyncContextManager[Any]:
        """The backend's own."""
        server: AbstractAsyncContextManager[Any] = self.package.serve(*arguments, **options)
        return server

    def resolver(self, *arguments: Any, **options: Any) -> Any:
        """The backend's own."""
        return self.package.Resolver(*arguments, **options)

    @contextmanager
    def serving(self, handler: Any, context: Any, **options: Any) -> Iterator[Running]:
        """A server of this backend, in a thread with a loop of its own."""
        started: concurrent.futures.Future[Running] = concurrent.futures.Future()

        async def scenario(api: Backend) -> None:
            try:
                async with self.serve(handler, context, **{"port": 0, **options}) as server:
                    started.set_result(Running(server, self.caller(server.close)))
                    await server.serve_forever()
                await self.pause()  # whoever has closed it comes to its end too
            except BaseException as error:
                if started.done():
                    raise
                started.set_exception(error)

        failures: list[BaseException] = []

        def body() -> None:
            try:
                self.run(scenario)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=body, name=f"{self.name} server")
        thread.start()
        try:
            running = started.result()
            try:
                yield running
            finally:
                running.close()
        finally:
            thread.join()
        if failures:
            raise failures[0]

    @abstractmethod
    def caller(self, function: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        """``function`` of the running loop, as one that other threads can call."""

    def gate(self) -> Gate:
        """Something for a handler of this backend's server to wait for."""
        return Gate(self)

    @abstractmethod
    def after(self, future: concurrent.futures.Future[None], response: bytes | None) -> Any:
        """What a handler returns to answer with ``response`` once ``future`` is done."""

    @abstractmethod
    async def gather(self, coroutines: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
        """Run all at a time; their results in the order given, or what they raised."""

    @abstractmethod
    def within(self, seconds: float) -> Any:
        """An async context manager that raises :class:`TimeoutError` if its block takes longer."""

    @abstractmethod
    async def pause(self) -> None:
        """Let all others have their turn, once."""

    @abstractmethod
    def now(self) -> float:
        """The loop's own clock, in seconds."""

    @abstractmethod
    def others(self) -> Any:
        """What else runs on this loop, to be compared."""

    @abstractmethod
    async def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call what blocks."""

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until something that happens in other tasks or threads has come true."""
        while not condition():
            await self.pause()


class Asyncio(Backend):
    """asyncio on its own loop."""

    name = "asyncio"
    package = dot_io.asyncio

    @staticmethod
    def new_loop() -> asyncio.AbstractEventLoop:
        return asyncio.SelectorEventLoop()

    def run(self, scenario: Scenario, *arguments: Any) -> Any:
        problems: list[dict[str, Any]] = []

        async def main() -> Any:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, problem: problems.append(problem))
            loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(256))
            async with asyncio.timeout(GIVE_UP):
                result = await scenario(self, *arguments)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, f"tasks were left behind: {left}"
            return result

        with asyncio.Runner(loop_factory=self.new_loop) as runner:
            result = runner.run(main())
        assert not problems, problems
        return result

    def caller(self, function: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        loop = asyncio.get_running_loop()

        def call(**options: Any) -> None:
            async def body() -> None:
                await function(**options)

            # The loop may end with what was called.
            with contextlib.suppress(concurrent.futures.CancelledError):
                asyncio.run_coroutine_threadsafe(body(), loop).result()

        return call

    async def after(self, future: concurrent.futures.Future[None], response: bytes | None) -> bytes | None:
        loop, opened = asyncio.get_running_loop(), asyncio.Event()

        def wake(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(opened.set)

        future.add_done_callback(wake)
        await opened.wait()
        return response

    async def gather(self, coroutines: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
        results = await asyncio.gather(*coroutines, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, Exception):
                raise result
        return results

    def within(self, seconds: float) -> Any:
        return asyncio.timeout(seconds)

    async def pause(self) -> None:
        await asyncio.sleep(0)

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def others(self) -> Any:
        return asyncio.all_tasks()

    async def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.to_thread(function, *arguments)


class Uvloop(Asyncio):
    """asyncio on uvloop."""

    name = "uvloop"

    @staticmethod
    def new_loop() -> asyncio.AbstractEventLoop:
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        return loop


class EagerAsyncio(Asyncio):
    """asyncio, where a task runs at once, inside ``create_task``, until it has to wait (Python 3.12)."""

    name = "eager"

    @staticmethod
    def new_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.SelectorEventLoop()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop


class Blocking(Asyncio):
    """Blocking sockets: each call in a thread, for which asyncio waits."""

    name = "blocking"
    package = dot_io.blocking
    is_async = False

    @asynccontextmanager
    async def connect(self, *arguments: Any, **options: Any) -> AsyncIterator[_ThreadedClient]:
        client = await asyncio.to_thread(functools.partial(self.package.connect, *arguments, **options))
        try:
            yield _ThreadedClient(client)
        except BaseException as error:
            await asyncio.to_thread(client.__exit__, type(error), error, error.__traceback__)
            raise
        await asyncio.to_thread(client.__exit__, None, None, None)

    def resolver(self, *arguments: Any, **options: Any) -> Any:
        return _ThreadedResolver(self.package.Resolver(*arguments, **options))

    @asynccontextmanager
    async def serve(self, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
        with self.package.serve(*arguments, **options) as server:
            yield server

    @contextmanager
    def serving(self, handler: Any, context: Any, **options: Any) -> Iterator[Running]:
        with self.package.serve(handler, context, **{"port": 0, "workers": 8, **options}) as server:
            running = Running(server, server.close)
            try:
                yield running
            finally:
                running.close()

    def after(self, future: concurrent.futures.Future[None], response: bytes | None) -> Any:
        future.result(GIVE_UP)
        return response


class _Threaded:
    """What blocks is awaited, in a thread; what does not wait is passed through."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)

    async def query(self, message: bytes, **options: Any) -> bytes:
        response: bytes = await asyncio.to_thread(functools.partial(self._wrapped.query, message, **options))
        return response

    async def query_many(self, messages: Iterable[bytes], **options: Any) -> AsyncIterator[tuple[int, Any]]:
        fates = self._wrapped.query_many(messages, **options)
        end = object()
        try:
            while (fate := await asyncio.to_thread(next, fates, end)) is not end:
                yield fate
        finally:
            fates.close()

    async def close(self, **options: Any) -> None:
        await asyncio.to_thread(functools.partial(self._wrapped.close, **options))


class _ThreadedClient(_Threaded):
    """A blocking client."""

    async def first_response(self) -> bytes:
        response: bytes = await asyncio.to_thread(self._wrapped.first_response)
        return response


class _ThreadedResolver(_Threaded):
    """A blocking resolver; a block that is left by an exception leaves it so, too."""

    async def resolve(self, *arguments: Any, **options: Any) -> list[str]:
        addresses: list[str] = await asyncio.to_thread(functools.partial(self._wrapped.resolve, *arguments, **options))
        return addresses

    async def __aenter__(self) -> _ThreadedResolver:
        self._wrapped.__enter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        await asyncio.to_thread(self._wrapped.__exit__, *raised)


class Trio(Backend):
    """trio."""

    name = "trio"
    package = dot_io.trio

    def run(self, scenario: Scenario, *arguments: Any, clock: trio.abc.Clock | None = None) -> Any:
        async def main() -> Any:
            before = trio.lowlevel.current_statistics().tasks_living
            with trio.fail_after(GIVE_UP):
                result = await scenario(self, *arguments)
            await trio.testing.wait_all_tasks_blocked()  # whoever closed a server from outside takes its leave
            left = trio.lowlevel.current_statistics().tasks_living - before
            assert not left, f"{left} tasks were left behind"
            return result

        return trio.run(main, clock=clock)

    def caller(self, function: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        token = trio.lowlevel.current_trio_token()

        def call(**options: Any) -> None:
            with contextlib.suppress(trio.RunFinishedError):
                trio.from_thread.run(functools.partial(function, **options), trio_token=token)

        return call

    async def after(self, future: concurrent.futures.Future[None], response: bytes | None) -> bytes | None:
        token, opened = trio.lowlevel.current_trio_token(), trio.Event()

        def wake(_: object) -> None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(opened.set)

        future.add_done_callback(wake)
        await opened.wait()
        return response

    async def gather(self, coroutines: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
        results: dict[int, Any] = {}

        async def collect(number: int, coroutine: Coroutine[Any, Any, Any]) -> None:
            try:
                results[number] = await coroutine
            except Exception as error:
                results[number] = error

        async with trio.open_nursery() as nursery:
            for number, coroutine in enumerate(coroutines):
                nursery.start_soon(collect, number, coroutine)
        return [results[number] for number in sorted(results)]

    @asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        try:
            with trio.fail_after(seconds):
                yield
        except trio.TooSlowError:
            raise TimeoutError from None

    async def pause(self) -> None:
        await trio.lowlevel.checkpoint()

    def now(self) -> float:
        return trio.current_time()

    def others(self) -> Any:
        return trio.lowlevel.current_statistics().tasks_living

    async def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await trio.to_thread.run_sync(function, *arguments)


BACKENDS: tuple[Backend, ...] = (
    Blocking(),
    Asyncio(),
    *([] if sys.platform == "win32" else [Uvloop()]),
    *([] if sys.version_info < (3, 12) else [EagerAsyncio()]),
    Trio(),
)
ASYNC = tuple(backend for backend in BACKENDS if backend.is_async)
