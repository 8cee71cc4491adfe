"""The process that soak.py watches: a client, or a server, of one backend, which tells what it holds.

    python soaking.py client {blocking,asyncio,uvloop,trio} ANCHOR.pem PORTS
    python soaking.py server {blocking,asyncio,uvloop,trio} CHAIN.pem SECONDS

A line on standard input is a command: so many rounds for a client (``warm`` for those that fill its bounds), ``look``
for a server.  The answer is one line of JSON, a :class:`Holding`; a server's first line is its port.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import logging
import os
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio
from answering import HOST, NAMES, answer
from measure import resident

import dot_io.asyncio
import dot_io.blocking
import dot_io.trio
from dot_io.tls import ClientContext, ServerContext
from dot_proto import AuthenticationPolicy, DoTError, Pin, ServerConfiguration, certificates_from, make_query

BACKENDS = ("blocking", "asyncio", "uvloop", "trio")

SHORT = 0.05
"Seconds, where a deadline is to pass."

LONG = 30.0
"Seconds, where none should."

SETTLE = 6.0
"Seconds that the last connections of a round may take to go."

KEPT = 320
"Connections that keep a session, to warm up: more than a process keeps on a Python that loses memory for each."

NAME = NAMES[0]


@dataclass(frozen=True)
class Holding:
    """What a process holds, once garbage has been collected."""

    python: float
    "KiB of Python's objects (tracemalloc)."
    malloc: float
    "KiB in use of what malloc() has given out: OpenSSL's too (mallinfo2, glibc 2.33); 0 elsewhere."
    resident: float
    "KiB, after malloc_trim()."
    objects: int
    "Those that the garbage collector follows."
    descriptors: int
    threads: int
    tasks: int
    warnings: int
    "Lines that the package has logged at WARNING and above, since the process began."


_FIELDS = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")


class _MallInfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS]


class Watch:
    """Looks at the process that it is in."""

    def __init__(self, tasks: Callable[[], int] = lambda: 0) -> None:
        self._tasks = tasks
        self._warnings: list[str] = []
        handler = logging.Handler(logging.WARNING)
        handler.emit = lambda record: self._warnings.append(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger("dot_io").addHandler(handler)
        logging.getLogger("dot_io").propagate = False
        libc = ctypes.CDLL(None)
        self._trim = getattr(libc, "malloc_trim", None)
        self._info = getattr(libc, "mallinfo2", None)
        if self._info is not None:
            self._info.restype = _MallInfo2
        tracemalloc.start()

    @property
    def descriptors(self) -> int:
        return len(os.listdir("/proc/self/fd"))

    def look(self) -> Holding:
        for _ in range(3):  # what a finalizer lets go of is found by the next
            gc.collect()
        if self._trim is not None:
            self._trim(0)
        info = None if self._info is None else self._info()
        return Holding(
            tracemalloc.get_traced_memory()[0] / 1024,
            0.0 if info is None else (info.uordblks + info.hblkhd) / 1024,
            resident(),
            len(gc.get_objects()),
            self.descriptors,
            len(os.listdir("/proc/self/task")),
            self._tasks(),
            len(self._warnings),
        )


def say(what: Any) -> None:
    print(json.dumps(what), flush=True)


# Clients.


@dataclass(frozen=True)
class Visit:
    """One connection, or an attempt at one, and what must come of it."""

    peer: str
    "Whose port is dialled."
    comes: str = "answered"
    "The error's name, where there is to be one; several, where a loaded machine may not come so far in time."
    context: str = "fresh"
    timeout: float = LONG
    query_timeout: float = LONG
    cancelled_after: float | None = None
    "Seconds; where callers cannot be cancelled, the timeout is as long."
    host: str = HOST


KEEPS = Visit("good", context="kept")

ROUND = (
    KEEPS,
    KEEPS,
    KEEPS,
    Visit("good"),
    Visit("good", host="localhost"),
    Visit("good", "AuthenticationError", "wrong-pin"),
    Visit("good", "AuthenticationError", "wrong-name"),
    Visit("nobody", "ConnectError"),
    Visit("no-tls", "HandshakeError"),
    Visit("resets-handshake", "HandshakeError"),
    Visit("resets-query", "ConnectionLostError"),
    Visit("closes-query", "ConnectionLostError"),
    Visit("silent", "HandshakeError ConnectTimeoutError", timeout=SHORT),
    Visit("mute", "QueryTimeoutError", query_timeout=SHORT),
    Visit("drops-syn", "ConnectTimeoutError", timeout=SHORT),
    Visit("drops-syn", "ConnectTimeoutError", cancelled_after=SHORT),
    Visit("silent", "HandshakeError ConnectTimeoutError", cancelled_after=SHORT),
    Visit("mute", "QueryTimeoutError HandshakeError ConnectTimeoutError", cancelled_after=SHORT),
    Visit("good", "ConnectTimeoutError", timeout=0.0),
    KEEPS,
)
"All of them are under way at a time."


class Guests:
    """Contexts and ports for visits."""

    def __init__(self, anchor: Path, ports: dict[str, int]) -> None:
        trusted = {"trust_anchors": certificates_from(anchor.read_bytes())}
        right, wrong = (AuthenticationPolicy.strict(name, **trusted) for name in (HOST, "dns.example"))
        self._ports = ports
        self._contexts = {
            "kept": ClientContext(right),
            "fresh": ClientContext(right, sessions=False),
            "wrong-name": ClientContext(wrong),
            "wrong-pin": ClientContext(AuthenticationPolicy.strict(pins=[Pin(bytes(32))])),
        }

    def arguments(self, visit: Visit, **options: Any) -> dict[str, Any]:
        port, context = self._ports[visit.peer], self._contexts[visit.context]
        return {"host": visit.host, "port": port, "context": context, "timeout": visit.timeout} | options

    def check(self, visit: Visit, error: Exception | None) -> None:
        came = "answered" if error is None else type(error).__name__
        if came not in visit.comes.split():
            raise AssertionError(f"{visit}: {came} ({error})")


async def visit_async(guests: Guests, connect: Callable[..., Any], visit: Visit) -> None:
    failure: DoTError | None = None
    try:
        async with connect(**guests.arguments(visit)) as client:
            await client.query(make_query(NAME), timeout=visit.query_timeout)
    except DoTError as error:
        failure = error
    guests.check(visit, failure)


async def visit_asyncio(guests: Guests, visit: Visit) -> None:
    if visit.cancelled_after is None:
        await visit_async(guests, dot_io.asyncio.connect, visit)
        return
    task = asyncio.ensure_future(visit_async(guests, dot_io.asyncio.connect, visit))
    await asyncio.wait([task], timeout=visit.cancelled_after)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled(), visit


async def visit_trio(guests: Guests, visit: Visit) -> None:
    if visit.cancelled_after is None:
        await visit_async(guests, dot_io.trio.connect, visit)
        return
    with trio.move_on_after(visit.cancelled_after) as scope:
        await visit_async(guests, dot_io.trio.connect, visit)
    assert scope.cancelled_caught, visit


def visit_blocking(guests: Guests, visit: Visit) -> None:
    failure: DoTError | None = None
    limit = visit.cancelled_after
    try:
        with dot_io.blocking.connect(**guests.arguments(visit, timeout=limit or visit.timeout)) as client:
            client.query(make_query(NAME), timeout=limit or visit.query_timeout)
    except DoTError as error:
        failure = error
    guests.check(visit, failure)


Visiting = Callable[[list[Visit]], Coroutine[Any, Any, None]]

Rest = Callable[[float], Awaitable[None]]
"For so many seconds."


async def settle(watch: Watch, descriptors: int | None, rest: Rest) -> int:
    """Wait until no more descriptors are open than there were after the last command; returns how many there are."""
    until = time.monotonic() + SETTLE
    while descriptors is not None and watch.descriptors > descriptors and time.monotonic() < until:
        await rest(0.01)
    await rest(SHORT)
    return watch.descriptors


async def obey_client(watch: Watch, visit_all: Visiting, rest: Rest) -> None:
    """Between two commands nothing is under way, so the loop may stand still."""
    descriptors: int | None = None
    for command in sys.stdin:
        if command == "warm\n":
            for _ in range(KEPT // 10):
                await visit_all([KEEPS] * 10)
        else:
            for _ in range(int(command)):
                await visit_all(list(ROUND))
        descriptors = await settle(watch, descriptors, rest)
        say(asdict(watch.look()))


async def client_on_asyncio(guests: Guests) -> None:
    async def visit_all(visits: list[Visit]) -> None:
        await asyncio.gather(*(visit_asyncio(guests, one) for one in visits))

    await obey_client(Watch(lambda: len(asyncio.all_tasks())), visit_all, asyncio.sleep)


async def rest_on_trio(seconds: float) -> None:
    """Rest, and have trio drop the deadlines that are over: it keeps a thousand of them, with their scopes."""
    for _ in range(1500):
        with trio.CancelScope(deadline=trio.current_time() + 3600.0):
            pass
    await trio.sleep(seconds)


async def client_on_trio(guests: Guests) -> None:
    async def visit_all(visits: list[Visit]) -> None:
        async with trio.open_nursery() as nursery:
            for one in visits:
                nursery.start_soon(visit_trio, guests, one)

    await obey_client(Watch(lambda: trio.lowlevel.current_statistics().tasks_living), visit_all, rest_on_trio)


async def rest_on_threads(seconds: float) -> None:
    time.sleep(seconds)


def client_on_threads(guests: Guests) -> None:
    async def visit_all(visits: list[Visit]) -> None:
        list(pool.map(partial(visit_blocking, guests), visits))

    with ThreadPoolExecutor(len(ROUND)) as pool:
        list(pool.map(time.sleep, [SHORT] * len(ROUND)))  # so that all threads are there from the start
        run_now(obey_client(Watch(), visit_all, rest_on_threads))


# Servers.


def options(wait: float) -> dict[str, Any]:
    """Of a server that waits so many seconds for a client's handshake, and for a query."""
    return {
        "port": 0,
        "configuration": ServerConfiguration(idle_timeout=wait / 2, idle_grace=wait / 2),
        "handshake_timeout": wait,
        "max_connections_per_host": 1000,
    }


def handle(query: bytes, _: object) -> bytes:
    if NAMES[1].partition(".")[0].encode() in query:
        raise ValueError("a handler that fails")
    return answer(query)


async def obey_server(watch: Watch, server: Any, line: Callable[[], Awaitable[str]], rest: Rest) -> None:
    logging.getLogger("dot_io").setLevel(logging.CRITICAL)  # the handler's failures are ours
    say(server.port)
    descriptors: int | None = None
    while await line():
        descriptors = await settle(watch, descriptors, rest)
        say(asdict(watch.look()))


async def server_on_asyncio(context: ServerContext, wait: float) -> None:
    async with dot_io.asyncio.serve(handle, context, **options(wait)) as server:
        watch = Watch(lambda: len(asyncio.all_tasks()))
        await obey_server(watch, server, partial(asyncio.to_thread, sys.stdin.readline), asyncio.sleep)


async def server_on_trio(context: ServerContext, wait: float) -> None:
    async with dot_io.trio.serve(handle, context, **options(wait)) as server:
        watch = Watch(lambda: trio.lowlevel.current_statistics().tasks_living)
        await obey_server(watch, server, partial(trio.to_thread.run_sync, sys.stdin.readline), rest_on_trio)


def server_on_threads(context: ServerContext, wait: float) -> None:
    async def line() -> str:
        return sys.stdin.readline()

    with dot_io.blocking.serve(handle, context, **options(wait)) as server:
        run_now(obey_server(Watch(), server, line, rest_on_threads))


def run_now(coroutine: Coroutine[Any, Any, None]) -> None:
    """Of one that awaits nothing but what blocks."""
    with suppress(StopIteration):
        coroutine.send(None)


def run_loop(kind: str, main: Coroutine[Any, Any, None]) -> None:
    if kind == "uvloop":
        import uvloop

        uvloop.run(main)
    else:
        asyncio.run(main)


def run() -> None:
    role, kind, file, *more = sys.argv[1:]
    if role == "client":
        guests = Guests(Path(file), json.loads(more[0]))
        if kind == "blocking":
            client_on_threads(guests)
        elif kind == "trio":
            trio.run(client_on_trio, guests)
        else:
            run_loop(kind, client_on_asyncio(guests))
    else:
        context, wait = ServerContext(file), float(more[0])
        if kind == "blocking":
            server_on_threads(context, wait)
        elif kind == "trio":
            trio.run(server_on_trio, context, wait)
        else:
            run_loop(kind, server_on_asyncio(context, wait))


if __name__ == "__main__":
    run()
