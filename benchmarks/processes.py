"""One process of a server and two, on the same port: queries a second, and CPU time for each.

    pip install -e '.[test]'
    python benchmarks/processes.py            # a minute; needs dnsperf
    python benchmarks/processes.py --quick

The server is examples/server.py, whose handler is dnspython and a small zone: a handler as people write them, which
costs far more than DNS over TLS does.  dnsperf asks over 64 connections, which the kernel deals out to the processes by
SO_REUSEPORT.  Microseconds are CPU time of all processes, user and system, handshakes included.  "Busiest" is the share
of the process that had the most to do, which bounds what is gained.  Both rows run once in each round; the medians over
the rounds are shown, and the ratio is the median of the rounds' ratios.

Where the figures mislead.  dnsperf needs a core too, for some microseconds a query: where there are two cores in all,
two processes and dnsperf share them, and the gain is smaller than with cores to spare.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import programs
from answering import HOST
from loopback import HERE, Site, free_port, stop
from measure import machine
from programs import Server

EXAMPLE = HERE.parent / "examples" / "server.py"

CLIENTS = 64
"Connections."

START = 10.0
"Seconds for all processes to listen."

AIM = 1.8
"Times the queries a second of one process that two answer."


@dataclass(frozen=True)
class Figure:
    """What one run of dnsperf has shown."""

    rate: float
    "Queries a second."
    cpu: float
    "Microseconds of all processes for a query."
    busiest: float
    "Share of CPU time of the process with the most."


def start(site: Site, stack: ExitStack, processes: int) -> list[Server]:
    """The example with so many processes, once each of them listens."""
    port = free_port()
    where = ["--host", HOST, "--port", str(port), "--processes", str(processes)]
    log = stack.enter_context((site.folder / f"log-{processes}").open("w+"))
    process = subprocess.Popen([sys.executable, EXAMPLE, site.chain, *where], stderr=log)
    stack.callback(stop, process)
    until = time.monotonic() + START
    while Path(log.name).read_text().count("listening") < processes:
        if process.poll() is not None or time.monotonic() > until:
            sys.exit(f"the example does not start:\n{Path(log.name).read_text()}")
        time.sleep(0.02)
    pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [Server("example", port, int(pid)) for pid in pids]


def ask(servers: list[Server], names: Path, seconds: float) -> Figure:
    """Load the processes with queries for so long."""
    options = ["-m", "dot", "-s", HOST, "-T", "1", "-c", str(CLIENTS), "-q", "512", "-l", f"{seconds:g}"]
    before = [server.cpu() for server in servers]
    done = subprocess.run(
        [programs.find("dnsperf") or "dnsperf", *options, "-p", str(servers[0].port), "-d", names],
        capture_output=True,
        text=True,
        check=False,
    )
    spent = [server.cpu() - one for server, one in zip(servers, before, strict=True)]
    found = re.search(r"completed: *(\d+) \(100\.00%\)", done.stdout)
    took = re.search(r"Run time \(s\): *([\d.]+)", done.stdout)
    if done.returncode != 0 or found is None or took is None:
        sys.exit(f"dnsperf did not get all its answers:\n{done.stdout}{done.stderr}")
    queries = int(found[1])
    return Figure(queries / float(took[1]), sum(spent) / queries * 1e6, max(spent) / sum(spent))


def report(found: dict[int, list[Figure]]) -> None:
    print("\nprocesses  queries/s  us/query   busiest")
    for processes, figures in found.items():
        rate, cpu, busiest = (median(getattr(one, name) for one in figures) for name in ("rate", "cpu", "busiest"))
        print(f"{processes:9}  {rate:9,.0f}  {cpu:8.1f}  {busiest:7.0%}")
    pairs = list(zip(found[1], found[2], strict=True))
    gain = median(two.rate / one.rate for one, two in pairs)
    ceiling = median(one.cpu / two.cpu / two.busiest for one, two in pairs)
    print(f"two answer {gain:.2f} times what one does, aim >= {AIM}: {'yes' if gain >= AIM else 'NO'}")
    print(f"by their CPU time alone, with cores to spare: {ceiling:.2f} times")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=6.0, help="of each run (default 6)")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--quick", action="store_true", help="one round of 2 seconds")
    parser.add_argument("--smoke", action="store_true", help="a second: shows that it runs, and no figures")
    chosen = parser.parse_args()
    seconds, rounds = (1.0, 1) if chosen.smoke else (2.0, 1) if chosen.quick else (chosen.seconds, chosen.rounds)
    if not seconds > 0 or rounds < 1:
        parser.error("--seconds and --rounds must be more than 0")
    if programs.find("dnsperf") is None:
        sys.exit("dnsperf is not installed; on Debian: apt-get install dnsperf")
    machine()
    print(f"{programs.version('dnsperf')}, {len(os.sched_getaffinity(0))} cores for all")
    found: dict[int, list[Figure]] = defaultdict(list)
    with ExitStack() as stack:
        site = Site(Path(stack.enter_context(tempfile.TemporaryDirectory())), stack)
        names = site.folder / "names"
        names.write_text("www.home.example A\nwww.home.example AAAA\nnothing.home.example A\n" * 1000)
        for _ in range(rounds):
            for processes in (1, 2):
                with ExitStack() as one:
                    found[processes].append(ask(start(site, one, processes), names, seconds))
    report(found)


if __name__ == "__main__":
    main()
