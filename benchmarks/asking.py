"""A client in its own process: asks as it is told, and prints what each job cost it.

    python asking.py DRIVE PORT CA.pem < jobs.json

Each job has a connection of its own and a warm-up on it; then the process's CPU time, user and system, is read
before and after the queries: imports, handshake and close do not count, except where a connection for each query
is what is measured.
"""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from typing import Any

import dns.message
import dns.query
import trio
from answering import HOST, NAMES

import dot_io.asyncio
import dot_io.blocking
import dot_io.trio
from dot_io.tls import ClientContext
from dot_proto import AuthenticationPolicy, ClientConfiguration, ResponseReceived, make_query

WARM_UP = 20
"A job is preceded by its queries over this many."


@dataclass(frozen=True)
class Job:
    """So many queries, asked in one way."""

    call: str
    "``query_many``: one call for all; ``query``: each awaited by itself, by as many tasks as are in flight."
    in_flight: int
    share: bool
    "Whether queries may share TLS records."
    count: int
    is_bare: bool = False
    "Whether queries go out without padding and keepalive, as those of dnsperf do."


@dataclass(frozen=True)
class Cost:
    """What a job took, in seconds a query."""

    cpu: float
    wall: float


Ask = Callable[[list[bytes]], Awaitable[int]]
"Asks all queries, and returns how many were answered."


class Stopwatch:
    """CPU and wall time of the block inside."""

    def __enter__(self) -> Stopwatch:
        gc.collect()
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu, self.wall = time.process_time() - self._cpu, time.perf_counter() - self._wall


def queries(count: int) -> list[bytes]:
    """As many queries, over all names in turn."""
    made = [make_query(name) for name in NAMES[:count]]
    return list(islice(cycle(made), count))


def options(job: Job) -> dict[str, Any]:
    bare = ClientConfiguration(padding_block=None, keepalive=False)
    return {"share_records": job.share, "configuration": bare if job.is_bare else None}


def cost(watch: Stopwatch, answered: int, job: Job) -> Cost:
    if answered != job.count:
        raise SystemExit(f"{job}: {job.count - answered} queries were not answered")
    return Cost(watch.cpu / job.count, watch.wall / job.count)


async def timed(job: Job, ask: Ask) -> Cost:
    await ask(queries(max(job.in_flight, job.count // WARM_UP)))
    asked = queries(job.count)
    with Stopwatch() as watch:
        answered = await ask(asked)
    return cost(watch, answered, job)


# Our clients.


def on_blocking(job: Job, port: int, context: ClientContext) -> Cost:
    if job.call.startswith("fresh"):
        return on_fresh_connections(job, port, context)

    def ask(asked: list[bytes]) -> int:
        if job.call == "query":
            return sum(1 for message in asked if client.query(message))
        outcomes = client.query_many(asked, max_in_flight=job.in_flight)
        return sum(isinstance(outcome, ResponseReceived) for _, outcome in outcomes)

    with dot_io.blocking.connect(HOST, port=port, context=context, **options(job)) as client:
        ask(queries(max(job.in_flight, job.count // WARM_UP)))
        asked = queries(job.count)
        with Stopwatch() as watch:
            answered = ask(asked)
        return cost(watch, answered, job)


def on_fresh_connections(job: Job, port: int, context: ClientContext) -> Cost:
    if job.call == "fresh, full":
        context = ClientContext(context.policy, sessions=False)
    answered = 0
    with dot_io.blocking.connect(HOST, port=port, context=context) as client:
        client.query(make_query(NAMES[0]))
    with Stopwatch() as watch:
        for message in queries(job.count):
            with dot_io.blocking.connect(HOST, port=port, context=context) as client:
                answered += bool(client.query(message))
    return cost(watch, answered, job)


async def on_asyncio(job: Job, port: int, context: ClientContext) -> Cost:
    async def many(asked: list[bytes]) -> int:
        outcomes = client.query_many(asked, max_in_flight=job.in_flight)
        return sum([isinstance(outcome, ResponseReceived) async for _, outcome in outcomes])

    async def each(asked: list[bytes]) -> int:
        source, answered = iter(asked), 0

        async def work() -> None:
            nonlocal answered
            for message in source:
                await client.query(message)
                answered += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(job.in_flight):
                group.create_task(work())
        return answered

    async with dot_io.asyncio.connect(HOST, port=port, context=context, **options(job)) as client:
        return await timed(job, many if job.call == "query_many" else each)


async def on_trio(job: Job, port: int, context: ClientContext) -> Cost:
    async def many(asked: list[bytes]) -> int:
        outcomes = client.query_many(asked, max_in_flight=job.in_flight)
        return sum([isinstance(outcome, ResponseReceived) async for _, outcome in outcomes])

    async def each(asked: list[bytes]) -> int:
        source, answered = iter(asked), 0

        async def work() -> None:
            nonlocal answered
            for message in source:
                await client.query(message)
                answered += 1

        async with trio.open_nursery() as nursery:
            for _ in range(job.in_flight):
                nursery.start_soon(work)
        return answered

    async with dot_io.trio.connect(HOST, port=port, context=context, **options(job)) as client:
        return await timed(job, many if job.call == "query_many" else each)


# dnspython, with one SSLContext for all, since making one costs it 20 ms.


def on_dnspython(job: Job, port: int, ca: str) -> Cost:
    context = ssl.create_default_context(cafile=ca)
    asked = [dns.message.make_query(name, "A") for name in islice(cycle(NAMES), job.count)]
    answered = 0
    if job.call == "fresh":
        dns.query.tls(asked[0], HOST, port=port, ssl_context=context, server_hostname=HOST)
        with Stopwatch() as watch:
            for message in asked:
                response = dns.query.tls(message, HOST, port=port, ssl_context=context, server_hostname=HOST)
                answered += bool(response.answer)
        return cost(watch, answered, job)
    with context.wrap_socket(socket.create_connection((HOST, port)), server_hostname=HOST) as sock:
        sock.setblocking(False)  # as dnspython wants it
        dns.query.tls(asked[0], HOST, sock=sock)
        with Stopwatch() as watch:
            for message in asked:
                answered += bool(dns.query.tls(message, HOST, sock=sock).answer)
        return cost(watch, answered, job)


def main() -> None:
    drive, port, ca = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    with open(ca, encoding="ascii") as file:
        policy = AuthenticationPolicy.strict(HOST, trust_anchors=[ssl.PEM_cert_to_DER_cert(file.read())])
    context = ClientContext(policy)
    costs = []
    for line in json.load(sys.stdin):
        job = Job(**line)
        if drive == "blocking":
            one = on_blocking(job, port, context)
        elif drive == "asyncio":
            one = asyncio.run(on_asyncio(job, port, context))
        elif drive == "uvloop":
            import uvloop

            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                one = runner.run(on_asyncio(job, port, context))
        elif drive == "trio":
            one = trio.run(on_trio, job, port, context)
        else:
            one = on_dnspython(job, port, ca)
        costs.append(asdict(one))
    json.dump(costs, sys.stdout)


if __name__ == "__main__":
    main()
