"""Ten thousand idle connections: our server holds them, and then answers them all at once.

    pip install -e '.[test]'
    python benchmarks/idle.py            # each backend, two minutes
    python benchmarks/idle.py --quick    # a thousand connections, seconds

The server runs in a process of its own, on a core of its own; the clients are ours on asyncio, all in this process.
Each connection has had one answer before it rests, as resolvers' connections have.  KiB are those of the server's
resident set, by the slope from a tenth of the connections to all.  The rest is longer than the idle timeout that a
server has by default, which is raised for this; a connection that was lost meanwhile, or gets no answer afterwards,
ends the run with an error.

Where the figures mislead.  The time to answer all is mostly the clients', who share this process's core.  A server with
so many clients needs more file descriptors than most systems allow a process at first: the limit is raised as far as
the system lets it be; a server on threads holds what that is enough for.  The aim is for loops: a thread has a stack.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import resource
import sys
import tempfile
import time
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

from answering import HOST, NAMES
from loopback import Site
from measure import machine, resident

from dot_io.asyncio import Client, connect
from dot_io.tls import ClientContext
from dot_proto import AuthenticationPolicy, ClientConfiguration, certificates_from, make_query

FOR_EACH = {"asyncio": 1, "trio": 1, "blocking": 3}
"""File descriptors of a server's connection: a thread that waits has a pair of sockets, by which it is woken."""

AT_A_TIME = 200
"Handshakes under way at once, well below the listener's backlog."

DESCRIPTORS = 500
"Beside those."

CONFIGURATION = ClientConfiguration(idle_timeout=600.0, max_idle_timeout=600.0, query_timeout=60.0)
"Seconds: it is not the clients who close; and the last of so many answers takes its time."

AIM = 24.0
"KiB for each idle connection on a loop."


async def hold(site: Site, kind: str, count: int, rest: float) -> None:
    """Connect, rest, ask; print what it took."""
    port, process = site.server(kind)
    policy = AuthenticationPolicy.strict(HOST, trust_anchors=certificates_from(site.ca.read_bytes()))
    context = ClientContext(policy, sessions=False)
    clients: list[Client] = []
    async with AsyncExitStack() as stack:

        async def open_one(number: int) -> None:
            options = {"context": context, "configuration": CONFIGURATION, "timeout": 60.0}
            connection = connect(HOST, port=port, first_query=make_query(NAMES[number % len(NAMES)]), **options)
            client = await stack.enter_async_context(connection)
            await client.first_response()
            clients.append(client)

        async def open_up_to(number: int) -> float:
            while len(clients) < number:
                group = range(len(clients), min(number, len(clients) + AT_A_TIME))
                await asyncio.gather(*map(open_one, group))
            return resident(process.pid)

        few = count // 10
        began = time.monotonic()
        size = await open_up_to(few)
        each = (await open_up_to(count) - size) / (count - few)
        opened = time.monotonic()
        await asyncio.sleep(rest)
        lost = sum(client.is_closed for client in clients)
        asked = time.monotonic()
        answers = await asyncio.gather(
            *(client.query(make_query(NAMES[0])) for client in clients), return_exceptions=True
        )
        answered = sum(isinstance(one, bytes) for one in answers)
        took = time.monotonic() - asked
    verdict = f" (aim <= {AIM:.0f}: {'yes' if each <= AIM else 'NO'})" if kind != "blocking" else ""
    said = [
        f"{kind:8} {count:6,} connections opened in {opened - began:.1f} s",
        f"{each:.1f} KiB each{verdict}",
        f"{lost} lost in {rest:.0f} s of rest",
        f"{answered:,} answered in {took:.2f} s",
    ]
    print("; ".join(said), flush=True)
    if lost or answered < count:
        sys.exit(f"{kind}: not every connection was held and answered")


def allow_descriptors(count: int) -> None:
    """Raise the limit, for this process and those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if count > most_descriptors():
        sys.exit(f"{count} file descriptors are needed and {hard} allowed: see --connections, or ulimit -Hn")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def most_descriptors() -> float:
    """How many a process may have here, once the limit is raised."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return math.inf if hard == resource.RLIM_INFINITY else hard


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--connections", type=int, default=10_000, help="how many (default 10000)")
    parser.add_argument("--rest", type=float, default=15.0, help="seconds without a query (default 15)")
    parser.add_argument("--smoke", action="store_true", help="20 connections: shows that it runs, and no figures")
    parser.add_argument("--quick", action="store_true", help="1000 connections, one second of rest")
    chosen = parser.parse_args()
    count, rest = (20, 0.0) if chosen.smoke else (1000, 1.0) if chosen.quick else (chosen.connections, chosen.rest)
    if count < 10:
        parser.error(f"--connections is {count}; a slope needs at least 10")
    machine()
    for kind in FOR_EACH:
        held = int(min(count, (most_descriptors() - DESCRIPTORS) // FOR_EACH[kind]))
        allow_descriptors(held * FOR_EACH[kind] + DESCRIPTORS)
        with ExitStack() as stack:
            site = Site(Path(stack.enter_context(tempfile.TemporaryDirectory())), stack)
            with site.on_core(0):
                asyncio.run(hold(site, kind, held, rest))


if __name__ == "__main__":
    main()
