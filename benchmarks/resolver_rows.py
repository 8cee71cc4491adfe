"""What resolver.py measures: ways to ask, each a piece of work that can be repeated on what is open already."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import dns.asyncresolver
import dns.nameserver
import dns.resolver
import trio
from answering import HOST, NAMES
from loopback import Site

import dot_io.asyncio
import dot_io.blocking
import dot_io.trio
from dot_io.hooks.dnspython import nameserver
from dot_io.tls import ClientContext
from dot_proto import AuthenticationPolicy, Upstream, certificates_from, make_query

CONCURRENT, MANY = 32, 64
"Queries in flight: of tasks that each await one, and of one call for all."


@dataclass(frozen=True)
class Budget:
    """How much is done in a round."""

    rounds: int
    queries: int
    cold: int
    dnspython: int
    "Queries of dnspython's over connections that it opens for each; a quarter of them with the default store."
    rest: float
    "Seconds."


@dataclass(frozen=True)
class Row:
    """One way to ask."""

    name: str
    units: int
    "Queries of one piece of work."
    work: Callable[[], Awaitable[object]]


class Place:
    """Where unbound is, and how it is authenticated."""

    def __init__(self, site: Site, port: int, plain: tuple[str, int]) -> None:
        self.site, self.port, self.plain = site, port, plain
        self._anchors = certificates_from(site.ca.read_bytes())

    def context(self) -> ClientContext:
        return ClientContext(AuthenticationPolicy.strict(HOST, trust_anchors=self._anchors))

    def upstream(self, *, has_default_store: bool = False) -> Upstream:
        anchors = None if has_default_store else tuple(self._anchors)
        return Upstream(name=HOST, addresses=(HOST,), port=self.port, trust_anchors=anchors)

    def dnspython(self, verify: bool | str) -> dns.nameserver.Nameserver:
        return dns.nameserver.DoTNameserver(HOST, self.port, HOST, verify)


def queries(count: int) -> list[bytes]:
    """As many queries, over all names in turn."""
    return [make_query(name) for name in islice(cycle(NAMES), count)]


def beside_blocking_client(place: Place, budget: Budget, stack: ExitStack) -> list[Row]:
    client = stack.enter_context(dot_io.blocking.connect(HOST, port=place.port, context=place.context()))
    resolver = stack.enter_context(dot_io.blocking.Resolver([place.upstream()]))
    asked = queries(budget.queries)

    async def each(one: Any) -> None:
        for message in asked:
            one.query(message)

    async def many(one: Any) -> None:
        for _ in one.query_many(asked, max_in_flight=MANY):
            pass

    async def cold(open_one: Callable[[], Any]) -> None:
        for message in asked[: budget.cold]:
            with open_one() as one:
                one.query(message)

    return [
        Row("Client.query", len(asked), lambda: each(client)),
        Row("Resolver.query", len(asked), lambda: each(resolver)),
        Row("Client.query_many", len(asked), lambda: many(client)),
        Row("Resolver.query_many", len(asked), lambda: many(resolver)),
        Row(
            "Client, cold",
            budget.cold,
            lambda: cold(lambda: dot_io.blocking.connect(HOST, port=place.port, context=place.context())),
        ),
        Row("Resolver, cold", budget.cold, lambda: cold(lambda: dot_io.blocking.Resolver([place.upstream()]))),
    ]


async def beside_client(backend: Any, place: Place, budget: Budget, stack: AsyncExitStack) -> list[Row]:
    """On asyncio and trio."""

    def connect() -> Any:
        return backend.connect(HOST, port=place.port, context=place.context())

    client = await stack.enter_async_context(connect())
    resolver = await stack.enter_async_context(backend.Resolver([place.upstream()]))
    asked = queries(budget.queries)

    async def many(one: Any) -> None:
        async for _ in one.query_many(asked, max_in_flight=MANY):
            pass

    async def cold(open_one: Callable[[], Any]) -> None:
        for message in asked[: budget.cold]:
            async with open_one() as one:
                await one.query(message)

    return [
        Row("Client.query", len(asked), lambda: each(client.query, asked)),
        Row("Resolver.query", len(asked), lambda: each(resolver.query, asked)),
        Row("Client.query 32", len(asked), lambda: concurrently(client.query, asked)),
        Row("Resolver.query 32", len(asked), lambda: concurrently(resolver.query, asked)),
        Row("Client.query_many", len(asked), lambda: many(client)),
        Row("Resolver.query_many", len(asked), lambda: many(resolver)),
        Row("Client, cold", budget.cold, lambda: cold(connect)),
        Row("Resolver, cold", budget.cold, lambda: cold(lambda: backend.Resolver([place.upstream()]))),
    ]


async def each(ask: Callable[[Any], Awaitable[object]], asked: Iterable[Any]) -> None:
    for one in asked:
        await ask(one)


async def concurrently(ask: Callable[[Any], Awaitable[object]], asked: Iterable[Any]) -> None:
    source = iter(asked)  # shared: each task takes the next
    if in_trio():
        async with trio.open_nursery() as nursery:
            for _ in range(CONCURRENT):
                nursery.start_soon(each, ask, source)
    else:
        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENT):
                group.create_task(each(ask, source))


def in_trio() -> bool:
    return trio.lowlevel.in_trio_run()


def beside_dnspython(place: Place, budget: Budget, stack: ExitStack) -> list[Row]:
    """One at a time."""
    asked = queries(budget.queries)
    of_world, of_ours = place.upstream(has_default_store=True), place.upstream()

    def ours(name: str, upstream: Upstream) -> Row:
        resolver = stack.enter_context(dot_io.blocking.Resolver([upstream]))

        async def work() -> None:
            for message in asked:
                resolver.query(message)

        return Row(name, len(asked), work)

    def theirs(name: str, server: dns.nameserver.Nameserver, count: int) -> Row:
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = [server]

        async def work() -> None:
            for host in NAMES[:count]:
                resolver.resolve(host, "A")

        return Row(name, count, work)

    def hooked(name: str, upstream: Upstream) -> Row:
        server = nameserver([upstream])
        stack.callback(server.close)
        return theirs(name, server, budget.queries)

    return [
        ours("Resolver, default store", of_world),
        theirs("dnspython, default store", place.dnspython(verify=True), budget.dnspython // 4),
        hooked("dnspython over ours, default store", of_world),
        ours("Resolver, one CA", of_ours),
        theirs("dnspython, one CA", place.dnspython(str(place.site.ca)), budget.dnspython),
        hooked("dnspython over ours, one CA", of_ours),
        theirs("dnspython over UDP", dns.nameserver.Do53Nameserver(*place.plain), budget.queries),
    ]


async def beside_dnspython_concurrently(place: Place, budget: Budget, stack: AsyncExitStack) -> list[Row]:
    """On asyncio, 32 at a time."""
    resolver = await stack.enter_async_context(dot_io.asyncio.Resolver([place.upstream()]))
    theirs, hooked = dns.asyncresolver.Resolver(configure=False), dns.asyncresolver.Resolver(configure=False)
    theirs.nameservers = [place.dnspython(str(place.site.ca))]
    server = nameserver([place.upstream()])
    stack.callback(server.close)
    hooked.nameservers = [server]
    asked, few, many = queries(budget.queries), NAMES[: 2 * budget.dnspython], NAMES[: budget.queries]
    return [
        Row("Resolver, one CA", len(asked), lambda: concurrently(resolver.query, asked)),
        Row("dnspython, one CA", len(few), lambda: concurrently(theirs.resolve, few)),
        Row("dnspython over ours, one CA", len(many), lambda: concurrently(hooked.resolve, many)),
    ]
