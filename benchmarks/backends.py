"""CPU time per query of our clients, of dnspython and of dnsperf; memory per idle connection of our servers.

What is compared.  The CPU time, user and system, that the client's process spends on a query after the handshake,
over one TLS 1.3 connection on loopback, with 1, 16, 64 and 256 queries in flight: ``query_many`` (one call for all)
in every backend, and ``query`` awaited once for each query by that many tasks.  Each with the default of one record
a query, and with ``share_records``.  Beside them dnsperf with 100 in flight, and dnspython, which has one in flight
at a time, on a fresh connection each and on one that is reused (both with one shared SSLContext).  All ask the same
server, which is given its own core, and whose handler returns ready octets; unbound with local data is a second one.
Every case runs once in every round, in a process that is new in each round, and the medians are reported.

What makes the comparison uneven, and for whom.  Our queries are padded to 128 octets and our answers to 468, as RFC
8467 says; dnsperf's and dnspython's are bare, so one row asks bare queries too.  dnspython parses what it gets, and
has to build what it sends; ours and dnsperf take and give octets.  A client's cost depends on how many answers are
at hand when it wakes: a slower server makes a slower client look better, which is why ratios count only within one
table, and why queries a second stand beside them.  dnsperf is measured by the slope between a short and a long run,
all others inside their process.  Other load on the two cores shows in every figure, and in queries a second most.

What is not measured.  Latency; anything but loopback (no round trip, no loss); the blocking client shared by threads;
dnspython's asynchronous functions; TLS 1.2; the servers' CPU time.

Tried and lost.  Measured with prototypes, before there were backends: the loop's own TLS (asyncio, level in CPU and
nine times the memory; uvloop, up to five times the CPU, by luck of the heap) and trio's SSLStream (three times the
CPU).  That luck is why each round has new processes.  With these backends: fewer system calls, for with 64 in
flight each of them needs one read and one write for about 60 queries already.

The memory of an idle connection is the slope of the server's resident set between few and many connections of one
client, each of which has had one answer.  Beside our servers: a protocol on asyncio's own TLS.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import platform
import re
import resource
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

from asking import Job
from loopback import HERE, Figure, Site, dnsperf, measure_memory, unbound_path
from measure import Target, machine, verdicts

LIMIT = 1.6
"No backend may cost more than this many times the cheapest one, with :data:`JUDGED` in flight."

JUDGED = 64

WIDTH = 24
"Of the tables' first column."

HAS_UVLOOP = importlib.util.find_spec("uvloop") is not None


@dataclass(frozen=True)
class Budget:
    """How much is done."""

    rounds: int
    queries: int
    "Queries of a job with several in flight; those with one in flight, and dnspython's, are a tenth."
    in_flight: tuple[int, ...]
    fresh: int
    "Connections of a job that makes one for each query."
    idle: tuple[int, int]
    "Idle connections: few, and many."


FULL = Budget(rounds=5, queries=10_000, in_flight=(1, 16, 64, 256), fresh=100, idle=(200, 1000))
QUICK = Budget(rounds=3, queries=5_000, in_flight=(1, 16, 64, 256), fresh=40, idle=(200, 600))
SMOKE = Budget(rounds=1, queries=200, in_flight=(1, 64), fresh=2, idle=(4, 8))


@dataclass(frozen=True)
class Row:
    """One way to ask; what distinguishes a row of the tables."""

    drive: str
    call: str
    share: bool = False
    is_bare: bool = False

    @property
    def name(self) -> str:
        return f"{self.drive} {self.call}{', bare' if self.is_bare else ''}"


Key = tuple[Row, int]
"A row and how many are in flight."

DNSPERF_ROW = Row("dnsperf", "-q 100")


# CPU time of clients.


def rows() -> list[Row]:
    """Every way to ask with our clients, several in flight."""
    loops = ["asyncio", *(["uvloop"] if HAS_UVLOOP else []), "trio"]
    made = []
    for share in (False, True):
        made += [Row(drive, "query_many", share) for drive in ("blocking", *loops)]
        made += [Row(drive, "query", share) for drive in loops]
    return made


def jobs(budget: Budget) -> dict[str, list[tuple[Key, Job]]]:
    """What each drive does in a round."""
    todo: dict[str, list[tuple[Key, Job]]] = defaultdict(list)
    for row in rows():
        for number in budget.in_flight:
            count = budget.queries if number > 1 else budget.queries // 10
            todo[row.drive].append(((row, number), Job(row.call, number, row.share, count)))
    bare = Row("blocking", "query_many", is_bare=True)
    todo["blocking"].append(((bare, JUDGED), Job("query_many", JUDGED, False, budget.queries, is_bare=True)))
    for drive, call, count in (
        ("blocking", "query", budget.queries // 10),
        ("blocking", "fresh, full", budget.fresh),
        ("blocking", "fresh, resumed", budget.fresh),
        ("dnspython", "fresh", budget.fresh),
        ("dnspython", "reused", budget.queries // 10),
    ):
        todo[drive].append(((Row(drive, call), 1), Job(call, 1, False, count)))
    return todo


def measure_clients(site: Site, port: int, budget: Budget) -> dict[Key, Figure]:
    """Medians over the rounds."""
    samples: dict[Key, list[Figure]] = defaultdict(list)
    for _ in range(budget.rounds):
        for drive, todo in jobs(budget).items():
            command = [sys.executable, str(HERE / "asking.py"), drive, str(port), str(site.ca)]
            with site.on_core(0):
                asked = json.dumps([asdict(job) for _, job in todo])
                done = subprocess.run(command, input=asked, stdout=subprocess.PIPE, text=True, check=True)
            for (key, _), cost in zip(todo, json.loads(done.stdout), strict=True):
                samples[key].append(Figure(cost["cpu"] * 1e6, cost["wall"] * 1e6))
        if shutil.which("dnsperf"):
            samples[DNSPERF_ROW, JUDGED].append(dnsperf(site, port, budget.queries))
    return {
        key: Figure(median(one.cpu for one in figures), median(one.wall for one in figures))
        for key, figures in samples.items()
    }


# Tables.


def show_clients(server: str, results: dict[Key, Figure], budget: Budget) -> None:
    """Our clients with several in flight, a table for each way to cut records; then what stands beside them."""
    base = results[DNSPERF_ROW, JUDGED].cpu if (DNSPERF_ROW, JUDGED) in results else None
    for share in (False, True):
        how = "queries may share TLS records" if share else "one TLS record a query, the default"
        show_ours(f"Server {server}; {how}", [row for row in rows() if row.share is share], results, budget, base)
    print(f"\nServer {server}; beside them")
    print(f"{'':{WIDTH}}  {'in flight':>9}  {'CPU us/query':>12}  {'x dnsperf':>9}  {'queries/s':>9}")
    ours = set(rows())
    for (row, number), figure in results.items():
        if row not in ours:
            in_flight = 100 if row == DNSPERF_ROW else number
            ratio = f"{figure.cpu / base:9.2f}" if base else f"{'-':>9}"
            print(f"{row.name:{WIDTH}}  {in_flight:9}  {figure.cpu:12.2f}  {ratio}  {1e6 / figure.wall:9,.0f}")
    judge(results)


def show_ours(title: str, shown: list[Row], results: dict[Key, Figure], budget: Budget, base: float | None) -> None:
    """Each way to ask: microseconds and ratios to dnsperf by the number in flight."""
    columns = "".join(f"{number:8}" for number in budget.in_flight)
    size = len(columns)
    print(f"\n{title}")
    print(f"{'':{WIDTH}}  {'CPU us/query, in flight:':>{size}}  {'x dnsperf -q 100':>{size}}  x fastest  queries/s")
    print(f"{'':{WIDTH}}  {columns}  {columns}  {JUDGED:9}  {JUDGED:9}")
    fastest = min(results[row, JUDGED].cpu for row in shown)
    for row in shown:
        figures = [results[row, number].cpu for number in budget.in_flight]
        costs = "".join(f"{one:8.2f}" for one in figures)
        ratios = "".join(f"{one / base:8.2f}" if base else f"{'-':>8}" for one in figures)
        judged = results[row, JUDGED]
        print(f"{row.name:{WIDTH}}  {costs}  {ratios}  {judged.cpu / fastest:9.2f}  {1e6 / judged.wall:9,.0f}")


def judge(results: dict[Key, Figure]) -> None:
    """Whether any backend costs too much beside the cheapest one that is asked in the same way."""
    targets = []
    names: dict[str, float] = {}
    for share in (False, True):
        for call in ("query_many", "query"):
            kind = f"{JUDGED} in flight, {call}, {'shared records' if share else 'one record each'}"
            same = {row.drive: results[row, JUDGED].cpu for row in rows() if (row.share, row.call) == (share, call)}
            names |= {f"{kind}, {drive}": cpu for drive, cpu in same.items()}
            dearest, cheapest = max(same, key=same.__getitem__), min(same, key=same.__getitem__)
            what = f"{kind}: {dearest} over {cheapest}"
            targets.append(Target(what, f"{kind}, {dearest}", f"{kind}, {cheapest}", LIMIT))
    verdicts(targets, names)


def show_memory(site: Site, budget: Budget) -> None:
    """Each server's cost, and its ratio to asyncio's own TLS."""
    if not Path("/proc/self/statm").exists():
        print("\nMemory of servers: not measured, for there is no /proc here")
        return
    few, many = budget.idle
    # Our blocking server has three descriptors for each connection; servers inherit the limit.
    wanted = 3 * many + 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    few, many = few * allowed // wanted, many * allowed // wanted
    sizes = {kind: measure_memory(site, kind, few, many) for kind in ("asyncio-tls", "asyncio", "trio", "blocking")}
    print(f"\nIdle connections to a server, {few} to {many}\n{'':{WIDTH}}  {'KiB each':>9}  x asyncio-tls")
    for kind, size in sizes.items():
        print(f"{kind:{WIDTH}}  {size:9.1f}  {size / sizes['asyncio-tls']:13.2f}")


def show_versions(site: Site, servers: list[str]) -> None:
    """What the figures depend on, and what is missing."""
    machine()
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("trio", "dnspython")]
    versions += [ssl.OPENSSL_VERSION, f"{platform.system()} {platform.release()}"]
    absent = []
    if HAS_UVLOOP:
        versions.append(f"uvloop {importlib.metadata.version('uvloop')}")
    else:
        absent.append("uvloop")
    if shutil.which("dnsperf"):
        said = subprocess.run(["dnsperf", "-h"], capture_output=True, text=True, check=False)
        found = re.search(r"Version (\S+)", said.stdout + said.stderr)
        versions.append(f"dnsperf {found[1] if found else '(version unknown)'}")
    else:
        absent.append("dnsperf")
    if "unbound" in servers:
        said = subprocess.run([unbound_path(), "-V"], capture_output=True, text=True, check=True)
        versions.append(said.stdout.partition("\n")[0].replace("Version", "unbound"))
    print(", ".join(versions))
    for name in absent:
        print(f"{name} is not installed: its rows are missing")
    print("client and server each on a core of its own" if site.cores else "client and server on no core of their own")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, help="rounds to take the median of (default 5; 3 with --quick)")
    parser.add_argument("--quick", action="store_true", help="fewer rounds of fewer queries: rough figures")
    parser.add_argument("--smoke", action="store_true", help="shows that it runs, and no figures")
    parser.add_argument(
        "--servers", default="", help="ours, unbound, or both with a comma (default: both where there is unbound)"
    )
    chosen = parser.parse_args()
    budget = SMOKE if chosen.smoke else QUICK if chosen.quick else FULL
    if chosen.rounds:
        budget = replace(budget, rounds=chosen.rounds)
    usual = "ours" if chosen.smoke or chosen.quick or not unbound_path() else "ours,unbound"
    servers = (chosen.servers or usual).split(",")
    if not set(servers) <= {"ours", "unbound"}:
        parser.error("--servers takes ours and unbound")
    with ExitStack() as stack:
        site = Site(Path(stack.enter_context(tempfile.TemporaryDirectory())), stack)
        show_versions(site, servers)
        print(f"medians of {budget.rounds} interleaved rounds, {budget.queries} queries a case")
        for server in servers:
            port = site.unbound() if server == "unbound" else site.server("asyncio")[0]
            show_clients(server, measure_clients(site, port, budget), budget)
        show_memory(site, budget)


if __name__ == "__main__":
    main()
