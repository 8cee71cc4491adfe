"""A thousand connections that send nothing, and beside them a client that has a question: how long it waits.

    pip install -e '.[test]'
    python benchmarks/crowd.py            # our servers and dnsdist, two minutes
    python benchmarks/crowd.py --quick    # 20 seconds

The crowd is as large as the number of connections that our servers take at most by default, comes from 320 addresses
of 127.0.0.0/8, and opens each connection again that the server ends.  A newcomer connects from an address of its own,
shakes hands in full, asks, reads the answer and closes; then comes the next.  Each server has the crowd for itself, in
each round once.  A newcomer is lost who has no answer after five seconds, or meets an error.  "Alone" is the median
without the crowd.  Crowd and newcomers have one core, the server has another.

Where the figures mislead.  dnsdist holds as many connections as come.  Ours are full, and end one that has not finished
its handshake for each that comes: newcomers wait for the crowd that comes back, too.
"""

from __future__ import annotations

import argparse
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import programs
from answering import HOST, NAMES
from idle import allow_descriptors
from loopback import HERE, Site
from measure import machine

from dot_proto import frame, make_query

OURS = ("asyncio", "trio", "blocking")

CONNECTIONS, ADDRESSES = 1000, 320

LIMITS = {"max_connections": CONNECTIONS, "max_connections_per_host": 50}
"What ``serve`` has by default, and the other benchmarks do without."

PATIENCE = 5.0
"Seconds until a newcomer is lost."

SETTLE = 0.5
"Seconds for a server to take the crowd in."

AIM = 3.0
"Times dnsdist's median, in the same run."


@dataclass
class Waits:
    """What newcomers met at one server."""

    alone: list[float] = field(default_factory=list[float])
    "Seconds until the answer, without the crowd."
    beside: list[float] = field(default_factory=list[float])
    "The same, beside the crowd."
    lost: int = 0
    renewed: int = 0
    "How often the crowd has come back."

    @property
    def median(self) -> float:
        """Milliseconds; for ever where all are lost."""
        return median(self.beside) * 1000 if self.beside else float("inf")


class Newcomer:
    """Comes, asks, and goes."""

    def __init__(self, ca: Path) -> None:
        self._context = ssl.create_default_context(cafile=ca)
        self._query = frame(make_query(NAMES[0]))

    def visit(self, port: int) -> float | None:
        """Seconds until the answer; ``None`` where there is none."""
        began = time.perf_counter()
        try:
            with (
                socket.create_connection((HOST, port), timeout=PATIENCE) as tcp,
                self._context.wrap_socket(tcp, server_hostname=HOST) as sock,
            ):
                sock.sendall(self._query)
                is_answered = len(sock.recv(4096)) > len(self._query)
        except OSError:
            return None
        return time.perf_counter() - began if is_answered else None

    def visits(self, port: int, seconds: float) -> Iterator[float | None]:
        """One after the other, for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            yield self.visit(port)


@contextmanager
def crowd(site: Site, port: int) -> Iterator[subprocess.Popen[str]]:
    """The crowd at that port."""
    command = [sys.executable, str(HERE / "crowding.py"), str(port), str(CONNECTIONS), str(ADDRESSES)]
    with site.on_core(0):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:  # whose end closes its input, at which it ends
        said(process)
        time.sleep(SETTLE)
        yield process


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline() or sys.exit("the crowd has ended")


def measure(site: Site, port: int, seconds: float, waits: Waits) -> None:
    """One round of one server."""
    newcomer = Newcomer(site.ca)
    waits.alone += [wait for wait in newcomer.visits(port, seconds / 5) if wait is not None]
    with crowd(site, port) as process:
        for wait in newcomer.visits(port, seconds):
            if wait is None:
                waits.lost += 1
            else:
                waits.beside.append(wait)
        print(file=process.stdin, flush=True)
        waits.renewed += int(said(process))


def report(found: dict[str, Waits]) -> None:
    print("\nserver          newcomers   lost   alone ms  median ms    99 % ms   of dnsdist   crowd renewed")
    base = found["dnsdist"].median if "dnsdist" in found else None
    for name, waits in found.items():
        slow = sorted(waits.beside)[len(waits.beside) * 99 // 100] * 1000 if waits.beside else float("inf")
        ratio = f"{waits.median / base:.2f}" if base else "-"
        print(
            f"{name:14}  {len(waits.beside) + waits.lost:9,}  {waits.lost:5}  {median(waits.alone) * 1000:9.2f}  "
            f"{waits.median:9.2f}  {slow:9.2f}  {ratio:>11}  {waits.renewed:14,}"
        )
    ours = {name: waits for name, waits in found.items() if name != "dnsdist"}
    print(f"none of ours is lost: {'NO' if any(waits.lost for waits in ours.values()) else 'yes'}")
    if base:
        is_reached = all(waits.median <= AIM * base for waits in ours.values())
        print(f"our medians within {AIM:.0f} times dnsdist's: {'yes' if is_reached else 'NO'}")
    else:
        print("dnsdist is not installed: nothing to compare with")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="of each server in each round (default 3)")
    parser.add_argument("--rounds", type=int, default=8, help="default 8")
    parser.add_argument("--quick", action="store_true", help="one round of 4 seconds")
    parser.add_argument("--smoke", action="store_true", help="half a second: shows that it runs, and no figures")
    chosen = parser.parse_args()
    seconds, rounds = (0.5, 1) if chosen.smoke else (4.0, 1) if chosen.quick else (chosen.seconds, chosen.rounds)
    if not seconds > 0 or rounds < 1:
        parser.error("--seconds and --rounds must be more than 0")
    allow_descriptors(4 * CONNECTIONS)
    machine()
    found: dict[str, Waits] = defaultdict(Waits)
    with ExitStack() as stack:
        site = Site(Path(stack.enter_context(tempfile.TemporaryDirectory())), stack)
        servers = [programs.start(site, stack, "dnsdist")] if programs.find("dnsdist") else []
        servers += [programs.start_ours(site, stack, kind, **LIMITS) for kind in OURS]
        with site.on_core(0):
            for _ in range(rounds):
                for server in servers:
                    measure(site, server.port, seconds, found[server.name])
    report(found)
    if any(waits.lost for name, waits in found.items() if name != "dnsdist"):
        sys.exit("a newcomer was lost")


if __name__ == "__main__":
    main()
