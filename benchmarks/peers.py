"""Ours beside the tools and servers that people use, on this machine: CPU time, queries a second, memory.

    pip install -e '.[test]'
    python benchmarks/peers.py --quick                   # under 90 seconds
    python benchmarks/peers.py --svg peers.svg           # every server, more rounds, and the picture
    python benchmarks/peers.py --only server,memory

Peers that are not on the PATH (nor in /usr/sbin and the like) are skipped, and named: dnsperf, kdig, getdns_query,
unbound, dnsdist, kresd, named.  Everything is TLS on loopback, on ports that were free; every process is ended.

What is compared with what.  One TLS 1.3 connection to the same server; the client has one core and the server
another.  ``client`` and ``await``: microseconds of CPU, user and system, that the client spends on a query, against
dnsperf with its default of 100 in flight.  Octets go in and come out, ids and questions are checked.  Like dnsperf's,
our queries have no EDNS and no padding, save one row that is our default.  ``query_many`` is one call for all;
``query`` is awaited, with its deadline, by as many tasks as are in flight.  ``others``: dnspython, kdig and
getdns_query against our pipelined blocking client.  ``speed``: queries a second against dnsperf, with our defaults and
with what is fastest.  ``server``: the CPU time that servers spend on a query of dnsperf's, ours with a handler that
returns ready octets.  ``memory``: the slope of the resident set between few and many idle connections, each of which
has had one answer.

All rows run once in each round, in new processes; a ratio is taken within its round, and the median over the rounds
is shown.  Our clients and dnspython read their own CPU clock around the queries; the other tools are measured by the
slope between a short and a long run.  Only ratios mean anything, and only within one run.

Where the figures mislead.  dnsperf keeps statistics and time stamps of every query, and its two threads share one
core.  dnspython parses what it gets, has one query in flight and so wakes for each; kdig also prints.  A client's CPU
time depends on how many answers are at hand when it wakes, so a slower server makes every pipelining client look
better.  kresd, dnsdist, unbound and BIND run a resolver's or a zone's whole path where our handler patches an id: that
row says what the DNS over TLS part costs in Python, not that a resolver would.  Unbound 1.17 and BIND 9.18 leave Nagle
on, which is all of their row in ``speed``; newer unbound does not.  Memory includes what an allocator keeps.  Other
load on the two cores shows in everything.

Not measured here: latency (latency.py) and start-up; a network with a round trip, or loss; TLS 1.2; several
connections or threads; 10,000 idle connections (idle.py); tools that are not listed, of which flamethrower, which also
lets queries share records, spends less than dnsperf; a server that does nothing at all.  With one, in C and thrown
away, the client is always what is waited for: the blocking client then took 1.23 of dnsperf's CPU time with 64 in
flight, 1.02 with 256, 1.10 and 0.84 with shared records.

Tried and lost, with prototypes and on other servers; x is dnsperf's CPU time on one connection.

- trio's SSLStream: 2.4x where own memory buffers need 0.8x.  asyncio's own TLS: level in CPU, 9 times the memory per
  connection.  uvloop's: 0.6x or 3.6x by luck of the heap, since reads of 256 KiB can end in mmap and munmap for each
  record.  Hence TLS over own buffers in every backend, read 16 KiB at a time.
- A deadline for each query with ``asyncio.timeout``: 2.0x instead of 1.1x.  Hence one timer for a connection.
- asyncio's streams with ``readexactly``: 1.1x instead of 0.6x; ``data_received`` instead of ``BufferedProtocol``: a
  third more with 16 in flight.  One ``ssl.SSLSocket``, ``settimeout`` and its poll for each call: 1.1x.
- A write for each query: 35 times the encryption of 64 queries in one record, and a system call each.
- Without TCP_QUICKACK after each read: 0.5x of dnsperf's queries a second on unbound 1.17 instead of 38x, 0.9x on
  BIND 9.18 instead of 3x; acknowledging at once costs no CPU time that shows.
- Topping up only once a quarter or half of the places are free, for larger batches: level, or a tenth slower, since
  the server falls asleep, and to wake it costs more than the system calls that are saved.
- SO_RCVLOWAT, so that a dozen answers or more come at a wake: a tenth less CPU time, but half the queries a
  second or less, and up to a millisecond more for an answer that few others follow.
- Acknowledging with TCP_QUICKACK only where nothing is sent anyhow: no gain that shows.
- ``_sslobj.read`` of ssl's private parts: 4 % of a read.  Reads of 1 KiB to 64 KiB from TLS: all the same.
- A server of asyncio's streams with one write for each answer: 6 times the CPU time of all answers in one write.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import programs
from answering import HOST, NAMES
from asking import Job
from loopback import HERE, Site
from measure import machine, resident
from peer_report import Report
from peer_rows import (
    DNSPERF,
    FULL,
    HAS_UVLOOP,
    LOOPS,
    PARTS,
    PEERS,
    QUICK,
    SMOKE,
    STALLING,
    Budget,
    Row,
    Sample,
    Samples,
    rows,
)
from picture import draw
from programs import Server, Spent

from dot_proto import frame, make_query


def measure(site: Site, servers: Iterable[Server], parts: Iterable[str], budget: Budget) -> Iterator[Sample]:
    """One round."""
    with Asker(site) as asker:
        for server in servers:
            todo = list(dict.fromkeys(row for part in parts for row in rows(part, server.name, budget)))
            drives: dict[tuple[str, bool], list[Row]] = defaultdict(list)
            for row in todo:
                if row.drive not in programs.CLIENTS:
                    drives[row.drive, row.is_default].append(row)
                elif programs.find(row.drive):
                    is_slow = row != DNSPERF or server.name in STALLING
                    many = budget.single if is_slow else budget.queries
                    yield server.name, row, programs.slope(site, server, row.drive, many // 10, many)
            for (drive, is_default), several in drives.items():
                costs = asker.ask(drive, server.port, is_default, [_job(row, budget) for row in several])
                yield from ((server.name, row, spent) for row, spent in zip(several, costs, strict=True))


class Asker:
    """A process that imports once, and forks for each list of jobs."""

    def __init__(self, site: Site) -> None:
        command = [sys.executable, str(HERE / "plain.py"), "asking", str(site.ca)]
        with site.on_core(0):
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, drive: str, port: int, has_edns: bool, jobs: list[Job]) -> list[Spent]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([drive, port, has_edns, [asdict(job) for job in jobs]]), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{drive} failed on port {port}")
        return [Spent(cost["cpu"], cost["wall"]) for cost in json.loads(line)]

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:  # closes its pipes, at which it ends, and waits
            pass


def _job(row: Row, budget: Budget) -> Job:
    count = budget.queries if row.in_flight > 1 else budget.fresh if row.call == "fresh" else budget.single
    return Job(row.call, row.in_flight, row.share, count, is_bare=not row.is_default)


def measure_memory(site: Site, servers: Iterable[Server], few: int, many: int) -> dict[str, float]:
    """KiB of each server's resident set for one more idle connection."""
    context = ssl.create_default_context(cafile=site.ca)
    query = frame(make_query(NAMES[0]))
    figures = {}
    for server in servers:
        sizes = {}
        with ExitStack() as connections:
            for number in range(1, many + 1):
                sock = socket.create_connection((HOST, server.port))
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                wrapped = connections.enter_context(context.wrap_socket(sock, server_hostname=HOST))
                wrapped.sendall(query)
                if len(wrapped.recv(4096)) < 2:
                    sys.exit(f"{server.name} does not answer")
                if number in (few, many):
                    sizes[number] = resident(server.pid)
        figures[server.name] = (sizes[many] - sizes[few]) / (many - few)
    return figures


# The command.


def show_versions(site: Site) -> None:
    """What the figures depend on, and what is missing."""
    machine()
    packages = ["trio", "dnspython", *(["uvloop"] if HAS_UVLOOP else [])]
    found = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    print(", ".join([*found, ssl.OPENSSL_VERSION, f"{platform.system()} {platform.release()}"]))
    print(", ".join(programs.version(name) for name in programs.VERSION if programs.find(name)))
    absent = [name for name in programs.VERSION if not programs.find(name)] + ([] if HAS_UVLOOP else ["uvloop"])
    for name in absent:
        print(f"{name} is not installed: its rows are missing")
    print("client and server each on a core of its own" if site.cores else "client and server on no core of their own")
    print("not measured: latency, start-up, any network but loopback, TLS 1.2, several connections or threads")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer queries, rounds and servers; under 90 seconds")
    parser.add_argument("--smoke", action="store_true", help="shows that it runs, and no figures")
    parser.add_argument("--svg", metavar="FILE", type=Path, help="draw a picture")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    chosen = parser.parse_args()
    parts = chosen.only.split(",")
    if not set(parts) <= set(PARTS):
        parser.error(f"--only takes {', '.join(PARTS)}, with commas between")
    if sys.platform != "linux":
        sys.exit("peers.py reads other processes' CPU clocks and memory, which it can on Linux only")
    budget = SMOKE if chosen.smoke else QUICK if chosen.quick else FULL
    _allow_descriptors(3 * budget.idle[1] + 200)  # our blocking server has three for each connection
    with ExitStack() as stack:
        site = Site(Path(stack.enter_context(tempfile.TemporaryDirectory())), stack)
        show_versions(site)
        print(f"medians of {budget.rounds} interleaved rounds; {budget.queries} queries a case", flush=True)
        report = Report(*run(site, stack, parts, budget), budget)
    tables = {
        "client": report.client,
        "await": report.await_,
        "others": report.others,
        "speed": report.speed,
        "server": report.server,
        "memory": report.show_memory,
    }
    for part, table in tables.items():
        if part in parts:
            table()
    if chosen.svg:
        chosen.svg.write_text(draw("dot_proto beside its peers", report.panels))


def run(site: Site, stack: ExitStack, parts: list[str], budget: Budget) -> tuple[Samples, dict[str, float]]:
    """Start every server, and measure what is wanted."""
    servers = [programs.start(site, stack, name) for name in PEERS if programs.find(name)]
    servers += [programs.start_ours(site, stack, kind) for kind in ("blocking", *LOOPS, "asyncio-shared")]
    # Memory first, while no allocator keeps what others gave back.
    memory = measure_memory(site, servers, *budget.idle) if "memory" in parts else {}
    samples: Samples = defaultdict(list)
    for _ in range(budget.rounds):
        for name, row, spent in measure(site, servers, parts, budget):
            samples[name, row].append(spent)
    return samples, memory


def _allow_descriptors(wanted: int) -> None:
    """Servers inherit the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))


if __name__ == "__main__":
    main()
