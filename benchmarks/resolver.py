"""What a resolver costs: beside one connection of ours, beside dnspython's resolver, and while it rests.

    pip install -e '.[test]'
    python benchmarks/resolver.py --quick    # a minute
    python benchmarks/resolver.py            # more rounds: five minutes
    python benchmarks/resolver.py --only client,dnspython

Needs unbound, which has a core of its own, and answers from local data.  Everything is TLS 1.3 on loopback; every name
exists.  All rows of a part run in one process, once in each round and one behind the other; what is shown is the median
over the rounds, and a ratio is the median of the rounds' ratios.  Figures are CPU time, user and system, of the client.

``client``: :class:`Resolver` beside :class:`Client`, on one connection that is open.  ``query 32`` is awaited by 32
tasks at a time; ``query_many`` has 64 in flight.  ``cold`` is everything from nothing to an answer and back: the
context, TCP, a full handshake, one query, and the end.
``dnspython``: its resolver with its own :class:`DoTNameserver`, which dials for each query, beside our resolver, which
keeps its connection, and beside its resolver over our nameserver (``dot_io.hooks.dnspython``).  The "default store" is
Debian's with our authority added: all the authorities of the world, which dnspython reads for each query.  "One CA"
is our authority alone.
``getaddrinfo``: the function of the standard library, in wall time: over the hook for the whole process, and as glibc
has it, over UDP to the same unbound.  It needs root, since glibc asks port 53 of what /etc/resolv.conf names.
``idle``: voluntary context switches of a program that has a resolver and does nothing: what wakes up has to sleep
again.  With a connection open the last query's timer for its server's silence is left to ring, once: to move a timer
for each query would cost more.  Then there is nothing until the connection has idled.

Where the figures mislead.  dnspython parses what it gets where ours hands out octets; for a resolver of its own over
UDP, without any TLS, it needs what the row says.  Other load on the two cores shows in everything.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import ssl
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import programs
import resolver_rows
import trio
from answering import NAMES
from loopback import Site
from measure import machine
from resolver_rows import Budget, Place, Row
from resting import BACKENDS, wake_ups
from stub import Lookups
from upstreams import SlowNames, Unbound, unused_port

import dot_io.asyncio
import dot_io.trio

PARTS = ("client", "dnspython", "getaddrinfo", "idle")

FULL = Budget(25, 640, 20, 32, 6.0)
QUICK = Budget(5, 320, 10, 16, 3.0)
SMOKE = Budget(1, 64, 2, 4, 1.0)

STORE = Path("/etc/ssl/certs/ca-certificates.crt")
"Debian's."

LAST_TIMERS = 1
"That ring after the last query; see above."

STUB_ADDRESS = "127.0.0.77"
"Of loopback, where glibc asks unbound; whatever else this machine runs listens at others."


@dataclass(frozen=True)
class Aim:
    """What a ratio of two rows is to be."""

    row: str
    base: str
    at_most: float | None = None
    at_least: float | None = None

    def __str__(self) -> str:
        return f"<={self.at_most:g}" if self.at_most else f">={self.at_least:g}" if self.at_least else ""

    def verdict(self, ratio: float) -> str:
        if self.at_most:
            return "yes" if ratio <= self.at_most else "NO"
        if self.at_least:
            return "yes" if ratio >= self.at_least else "NO"
        return ""


BLOCKING_AIMS = [
    Aim("Resolver.query", "Client.query", at_most=1.15),
    Aim("Resolver.query_many", "Client.query_many", at_most=1.1),
    Aim("Resolver, cold", "Client, cold", at_most=1.05),
]

LOOP_AIMS = [*BLOCKING_AIMS, Aim("Resolver.query 32", "Client.query 32", at_most=1.25)]

DNSPYTHON_AIMS = [
    Aim("dnspython, default store", "Resolver, default store", at_least=300),
    Aim("dnspython, one CA", "Resolver, one CA", at_least=35),
    Aim("dnspython, default store", "dnspython over ours, default store", at_least=80),
    Aim("dnspython, one CA", "dnspython over ours, one CA", at_least=8),
    Aim("dnspython over UDP", "dnspython over ours, one CA"),
]

CONCURRENT_AIMS = [
    Aim("dnspython, one CA", "Resolver, one CA", at_least=80),
    Aim("dnspython, one CA", "dnspython over ours, one CA", at_least=8),
]

STUB_AIMS = [Aim("the hook", "glibc over UDP", at_most=2)]

Samples = dict[str, list[float]]
"Seconds a query, one for each round."


async def measure(rows: list[Row], rounds: int) -> Samples:
    """Each row once in each round; the first round is a warm-up."""
    samples: Samples = {row.name: [] for row in rows}
    for number in range(rounds + 1):
        for row in rows:
            gc.collect()
            began = time.process_time()
            await row.work()
            spent = time.process_time() - began
            if number:
                samples[row.name].append(spent / row.units)
    return samples


def show(title: str, samples: Samples, aims: Iterable[Aim], *, unit: str = "us CPU a query") -> None:
    print(f"\n{title}")
    width = max([len(name) for name in samples] + [len(f"{aim.row} / {aim.base}") for aim in aims])
    for name, values in samples.items():
        print(f"  {name:{width}}  {median(values) * 1e6:11,.1f} {unit}")
    for aim in aims:
        ratio = median(a / b for a, b in zip(samples[aim.row], samples[aim.base], strict=True))
        print(f"  {f'{aim.row} / {aim.base}':{width}}  {ratio:11.2f}  {aim!s:>7}  {aim.verdict(ratio)}".rstrip())
    sys.stdout.flush()


def beside_client(place: Place, budget: Budget) -> None:
    async def on(backend: Any) -> Samples:
        async with AsyncExitStack() as stack:
            return await measure(await resolver_rows.beside_client(backend, place, budget, stack), budget.rounds)

    with ExitStack() as stack:
        rows = resolver_rows.beside_blocking_client(place, budget, stack)
        show("Beside one connection, blocking", run_now(measure(rows, budget.rounds)), BLOCKING_AIMS)
    show("Beside one connection, asyncio", asyncio.run(on(dot_io.asyncio)), LOOP_AIMS)
    show("Beside one connection, trio", trio.run(on, dot_io.trio), LOOP_AIMS)


def beside_dnspython(place: Place, budget: Budget) -> None:
    async def concurrently() -> Samples:
        async with AsyncExitStack() as stack:
            rows = await resolver_rows.beside_dnspython_concurrently(place, budget, stack)
            return await measure(rows, budget.rounds)

    bundle = place.site.folder / "store.pem"
    bundle.write_text((STORE.read_text() if STORE.exists() else "") + place.site.ca.read_text())
    os.environ["SSL_CERT_FILE"] = str(bundle)  # OpenSSL's, for both
    roots = len(ssl.create_default_context().get_ca_certs())
    with ExitStack() as stack:
        rows = resolver_rows.beside_dnspython(place, budget, stack)
        samples = run_now(measure(rows, budget.rounds))
    show(f"Beside dnspython, one at a time; the default store has {roots} authorities", samples, DNSPYTHON_AIMS)
    show("Beside dnspython, 32 at a time on asyncio", asyncio.run(concurrently()), CONCURRENT_AIMS)


def beside_glibc(place: Place, budget: Budget) -> None:
    if os.geteuid() != 0:
        print("\nBeside glibc: left out, since only root can give a process another /etc/resolv.conf")
        return
    samples: Samples = {"glibc over UDP": [], "the hook": []}
    with Lookups(place.port, place.site.ca, STUB_ADDRESS) as lookups:
        for number in range(budget.rounds + 1):
            for name, values in samples.items():
                spent = lookups.time(NAMES[: budget.queries // 4], by_hook=name == "the hook")
                if number:
                    values.append(spent)
    show("getaddrinfo, A and AAAA, beside glibc's stub", samples, STUB_AIMS, unit="us a call, wall time")


def resting(place: Place, budget: Budget) -> None:
    print(
        f"\nAt rest for {budget.rest:g} s: times that the program woke up; with a connection {LAST_TIMERS} is allowed"
    )
    for backend in BACKENDS:
        closed, opened = wake_ups(backend, place.port, place.site.ca, budget.rest)
        verdict = "yes" if closed == 0 and opened <= LAST_TIMERS else "NO"
        print(f"  {backend:8}  {closed} with no connection, {opened} with one open  {verdict}", flush=True)


def run_now(coroutine: Coroutine[Any, Any, Samples]) -> Samples:
    """Of one that awaits nothing but what blocks."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        samples: Samples = end.value
        return samples
    raise AssertionError("it has awaited something")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--smoke", action="store_true", help="shows that it runs, and no figures")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    chosen = parser.parse_args()
    parts = chosen.only.split(",")
    if not set(parts) <= set(PARTS):
        parser.error(f"--only takes {', '.join(PARTS)}, with commas between")
    budget = SMOKE if chosen.smoke else QUICK if chosen.quick else FULL
    machine()
    print(f"{programs.version('unbound')}; medians of {budget.rounds} rounds of {budget.queries} queries")
    tables = {"client": beside_client, "dnspython": beside_dnspython, "getaddrinfo": beside_glibc, "idle": resting}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        site = Site(folder, stack)
        plain = STUB_ADDRESS, 53 if os.geteuid() == 0 else unused_port()
        server = Unbound(folder / "unbound", site.chain, SlowNames(stack).port, stack, plain="{}@{}".format(*plain))
        with site.on_core(1):
            server.start_and_wait()
        with site.on_core(0):
            for part in parts:
                tables[part](Place(site, server.port, plain), budget)


if __name__ == "__main__":
    main()
