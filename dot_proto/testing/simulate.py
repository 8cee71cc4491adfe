"""Thousands of hours of DNS over TLS in seconds: ``python -m dot_proto.testing.simulate --hours 10000 --seed 1``.

Programs and hosts with our engines, and peers that break every rule, meet on a virtual network with a virtual clock:
latency, calls in any order, cuts, resets, stalls, peers that restart.  At every call of every engine it is checked
that each query has exactly one fate, that no query octet leaves before the verdict, that deadlines are met, and that
ids are never confused; at one call in 64, and at each end, that memory is bounded.

One seed is one run of :data:`RUN_HOURS`, with about five queries an hour, most of them in bursts.  Between these,
connections idle and end.  The command does one run after another and stops at the first that fails: it prints the
seed and the last steps of that run, and the command that repeats it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

from ._simulation.command import Command, Summary
from ._simulation.credentials import Identities
from ._simulation.hostile_peers import HostileClient, HostileHost
from ._simulation.network import Scheduler, SimulationError
from ._simulation.workload import Host, Listener, Network, Program

__all__ = ["RUN_HOURS", "SimulationError", "Summary", "main", "runs", "simulate"]

RUN_HOURS: Final = 100
"Simulated hours of one run; then nobody asks any more, and everything must come to its end."


def simulate(seed: int) -> Summary:
    """Do the run of a seed, 0 or more; raises :class:`SimulationError` where an invariant does not hold."""
    scheduler = Scheduler(seed, RUN_HOURS)
    network, identities = Network(scheduler), Identities()
    hosts: list[Listener] = [Host(scheduler, network) for _ in range(scheduler.number(2, 4))]
    for _ in range(scheduler.number(1, 4)):
        Program(scheduler, network, [*hosts, *hosts, HostileHost(scheduler)], identities)
    for _ in range(scheduler.number(0, 3)):
        HostileClient(scheduler, network, hosts)
    scheduler.run()
    fates = sum(scheduler.counters[fate] for fate in ("answered", "timed out", "cancelled", "lost"))
    scheduler.require(
        fates == scheduler.counters["queries"], "{} fates of {} queries", fates, scheduler.counters["queries"]
    )
    return Summary(RUN_HOURS, scheduler.counters, scheduler.digest())


_COMMAND: Final = Command(
    "simulate",
    "Play simulated hours of DNS over TLS on a virtual network, and check every invariant.",
    RUN_HOURS,
    lambda seed: simulate(seed),
    default_hours=1_000,
)


def runs(hours: float, seed: int) -> Iterator[Summary]:
    """Histories of at least so many hours in all, with the seeds ``seed``, ``seed`` + 1, and so on."""
    return _COMMAND.runs(hours, seed)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns 0, 1 where an invariant does not hold, or 130 when interrupted."""
    return _COMMAND.main(argv)


if __name__ == "__main__":
    sys.exit(main())
