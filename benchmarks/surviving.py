"""A program that lives on a resolver, in a process of its own: it asks at a steady pace, and tells what came of it.

    python surviving.py {asyncio,trio,blocking}

Standard input is a :class:`Job` in a line of JSON, and a line at which to begin; standard output is a line once all is
ready, and a :class:`Report` in the last.

A query is timed from the moment when it was due, not from when the program came to ask it: a resolver that keeps its
program from running is not excused for that.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import trio
from answering import HOST, ZONE
from upstreams import SLOW, SLOW_ZONE

import dot_io.asyncio
import dot_io.blocking
import dot_io.trio
from dot_io._network import NetworkWatch
from dot_proto import DoTError, Upstream, certificates_from, make_query

BACKENDS = ("asyncio", "trio", "blocking")

RATE = 200.0
"Queries a second."

SLOW_EVERY = 3.0
"Seconds, where names that take long are asked for."

THREADS = 1200
"Callers that may wait at a time, where each needs a thread: more than five seconds' worth."


@dataclass(frozen=True)
class Job:
    """What to do."""

    upstreams: list[tuple[int, str]]
    "The port of each, and the name that it is to prove."
    anchor: str
    "The file of the certificate authority's certificate."
    seconds: float
    timeout: float = 5.0
    "Of each query, in seconds."
    has_slow_names: bool = False
    fork_every: float = 0.0
    "Seconds; 0: not at all.  A name that takes long is pending then."
    change_every: float = 0.0
    "Seconds from one network to the next; 0: it stays the same."
    sleep_every: float = 0.0
    "Seconds from one suspension of the machine to the next, each for an hour; 0: it is awake."


@dataclass
class Report:
    """What came of it."""

    asked: int = 0
    answered: int = 0
    slowest: float = 0.0
    "Seconds to an answer, or to an error; for a name that takes long, beyond what it takes."
    unnamed: int = 0
    "Errors that do not name every upstream."
    errors: dict[str, int] = field(default_factory=dict)
    "By type."
    children: int = 0
    answered_children: int = 0
    dials: list[int] = field(default_factory=list)
    "Of each upstream, by the resolver's own count: openings that went well, and that failed."
    probes: list[int] = field(default_factory=list)
    lost_connections: list[int] = field(default_factory=list)


Timeline = Iterator[tuple[float, str]]
"When what is due, in seconds from the start, in order: a name to ask for, ``fork``, ``change`` or ``sleep``."


def timeline(job: Job) -> Timeline:
    def every(seconds: float, what: Callable[[int], str], first: float = 0.0) -> Timeline:
        for number in count():
            due = first + number * seconds
            if due >= job.seconds:
                return
            yield due, what(number)

    parts = [every(1 / RATE, lambda number: f"{number:05}.{ZONE}")]
    if job.has_slow_names or job.fork_every:
        parts.append(every(job.fork_every or SLOW_EVERY, lambda number: f"{number:05}.{SLOW_ZONE}", 0.5))
    if job.fork_every:
        parts.append(every(job.fork_every, lambda _: "fork", 1.0))
    if job.change_every:
        parts.append(every(job.change_every, lambda _: "change", job.change_every))
    if job.sleep_every:
        parts.append(every(job.sleep_every, lambda _: "sleep", job.sleep_every / 2))
    return heapq.merge(*parts)


class Run:
    """One program, whatever loop it has."""

    def __init__(self, job: Job, kind: str) -> None:
        (anchor,) = certificates_from(Path(job.anchor).read_bytes())
        self.upstreams = [
            Upstream(name=name, addresses=(HOST,), port=port, trust_anchors=(anchor,)) for port, name in job.upstreams
        ]
        self.job = job
        self.report = Report()
        self.children: list[int] = []
        self.resolver: Any = {
            "asyncio": dot_io.asyncio.Resolver,
            "trio": dot_io.trio.Resolver,
            "blocking": dot_io.blocking.Resolver,
        }[kind](self.upstreams)
        self._slept = 0.0
        if job.sleep_every:  # no process can have the kernel's clock for itself
            self.resolver._network = NetworkWatch(lambda: self._slept)
        self._lock = threading.Lock()
        self.began = 0.0

    def begin(self) -> None:
        print("ready", flush=True)
        sys.stdin.readline()
        self.began = time.monotonic()

    def wait_for(self, due: float) -> float:
        """Seconds to sleep."""
        return max(0.0, self.began + due - time.monotonic())

    def came(self, due: float, name: str, response: bytes | None, error: DoTError | None) -> None:
        """A query has its fate."""
        elapsed = time.monotonic() - self.began - due - (SLOW if name.endswith(SLOW_ZONE) else 0.0)
        report = self.report
        with self._lock:
            report.slowest = max(report.slowest, elapsed)
            if response is not None and response[3] & 15 == 0 and response[6:8] != b"\0\0":
                report.answered += 1
                return
            kind = "response without an answer" if error is None else type(error).__name__
            report.errors[kind] = report.errors.get(kind, 0) + 1
            is_named = all(f"{upstream}: " in str(error) for upstream in self.upstreams)
            report.unnamed += not is_named

    def sleep(self) -> None:
        """An hour passes on the clock that runs on while the machine is suspended."""
        self._slept += 3600.0

    def fork(self, ask: Callable[[bytes], bool]) -> None:
        """A child asks on its own; it has a thread of its own for that, where no loop runs yet."""
        child = os.fork()
        if child:
            self.children.append(child)
            return
        answered: list[bool] = []
        with suppress(BaseException):
            query = make_query(f"child{os.getpid()}.{ZONE}")
            thread = threading.Thread(target=lambda: answered.append(ask(query)))
            thread.start()
            thread.join(self.job.timeout)
        os._exit(0 if answered == [True] else 1)

    def end(self) -> None:
        report = self.report
        report.children = len(self.children)
        report.answered_children = sum(os.waitpid(child, 0)[1] == 0 for child in self.children)
        for counters in self.resolver.statistics():
            report.dials.append(counters.opened + counters.failed)
            report.probes.append(counters.probes)
            report.lost_connections.append(counters.lost)
        print(json.dumps(asdict(report)), flush=True)


async def ask(run: Run, due: float, name: str) -> None:
    response, error = None, None
    try:
        response = await run.resolver.query(make_query(name), timeout=run.job.timeout)
    except DoTError as caught:
        error = caught
    run.came(due, name, response, error)


async def ask_in_child(run: Run, query: bytes) -> bool:
    async with run.resolver:
        return bool(await run.resolver.query(query))


async def on_asyncio(run: Run) -> None:
    async with run.resolver, asyncio.TaskGroup() as group:
        run.begin()
        for due, what in timeline(run.job):
            if (seconds := run.wait_for(due)) > 0:
                await asyncio.sleep(seconds)
            if what == "fork":
                run.fork(lambda query: asyncio.run(ask_in_child(run, query)))
            elif what == "change":
                run.resolver.network_changed()
            elif what == "sleep":
                run.sleep()
            else:
                run.report.asked += 1
                group.create_task(ask(run, due, what))


async def on_trio(run: Run) -> None:
    async with run.resolver, trio.open_nursery() as nursery:
        run.begin()
        for due, what in timeline(run.job):
            if (seconds := run.wait_for(due)) > 0:
                await trio.sleep(seconds)
            if what == "fork":
                run.fork(lambda query: trio.run(ask_in_child, run, query))
            elif what == "change":
                run.resolver.network_changed()
            elif what == "sleep":
                run.sleep()
            else:
                run.report.asked += 1
                nursery.start_soon(ask, run, due, what)


def on_threads(run: Run) -> None:
    def ask_blocking(due: float, name: str) -> None:
        response, error = None, None
        try:
            response = run.resolver.query(make_query(name), timeout=run.job.timeout)
        except DoTError as caught:
            error = caught
        run.came(due, name, response, error)

    with run.resolver, ThreadPoolExecutor(THREADS) as pool:
        run.begin()
        for due, what in timeline(run.job):
            if (seconds := run.wait_for(due)) > 0:
                time.sleep(seconds)
            if what == "fork":
                run.fork(lambda query: bool(run.resolver.query(query)))
            elif what == "change":
                run.resolver.network_changed()
            elif what == "sleep":
                run.sleep()
            else:
                run.report.asked += 1
                pool.submit(ask_blocking, due, what)


def main() -> None:
    kind = sys.argv[1]
    logging.getLogger("dot_io").setLevel(logging.CRITICAL)  # upstreams that go down are what this is about
    job = json.loads(sys.stdin.readline())
    run = Run(Job(**job), kind)
    if kind == "asyncio":
        asyncio.run(on_asyncio(run))
    elif kind == "trio":
        trio.run(on_trio, run)
    else:
        on_threads(run)
    run.end()


if __name__ == "__main__":
    main()
