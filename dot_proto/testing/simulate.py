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

import argparse
import math
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import SystemRandom
from time import monotonic
from typing import Final, TextIO

from ._simulation.credentials import Identities
from ._simulation.hostile_peers import HostileClient, HostileHost
from ._simulation.network import START, TRACE_LINES, Scheduler, SimulationError
from ._simulation.workload import Host, Listener, Network, Program

__all__ = ["RUN_HOURS", "SimulationError", "Summary", "main", "runs", "simulate"]

RUN_HOURS: Final = 100
"Simulated hours of one run; then nobody asks any more, and everything must come to its end."

FRESH_SEEDS: Final = 1_000_000
"A seed that is not given is drawn below this; the runs of one command have consecutive seeds."

COLUMNS: Final = 79
"Characters of the progress line: one that a narrow terminal wraps could not be written over."

INTERRUPTED: Final = 130
"What a shell reports for a process ended by SIGINT: 128 + 2."


@dataclass
class Summary:
    """The result of one run, or of several."""

    hours: float = 0.0
    "Simulated."
    counters: Counter[str] = field(default_factory=Counter[str])
    "How often things happened: queries, connections, fates, ends, and others."
    digest: str = ""
    "Of all that happened, in hexadecimal; the same seed gives the same one. Of several, the last one's."

    def __add__(self, other: Summary) -> Summary:
        return Summary(self.hours + other.hours, self.counters + other.counters, other.digest)


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


def runs(hours: float, seed: int) -> Iterator[Summary]:
    """Histories of at least so many hours in all, with the seeds ``seed``, ``seed`` + 1, and so on."""
    done = 0.0
    while done < hours:
        summary = simulate(seed)
        yield summary
        done, seed = done + summary.hours, seed + 1


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns 0, 1 where an invariant does not hold, or 130 when interrupted."""
    arguments = _parser().parse_args(argv)
    seed = SystemRandom().randrange(FRESH_SEEDS) if arguments.seed is None else arguments.seed
    progress = _Progress(arguments.hours, seed, sys.stderr)
    try:
        for summary in runs(arguments.hours, seed):
            progress.add(summary)
    except SimulationError as error:
        progress.clear()
        _report(error, arguments.trace)
        return 1
    except KeyboardInterrupt:
        progress.clear()
        print(f"interrupted: {progress.text()}; nothing found")
        return INTERRUPTED
    progress.clear()
    counts = (f"{count:12,}  {what}" for what, count in sorted(progress.total.counters.items()))
    print("\n".join([f"{progress.text()}; nothing found", *counts]))
    return 0


class _Progress:
    """How far it is, told on a terminal in a line that is written over."""

    def __init__(self, hours: float, seed: int, terminal: TextIO) -> None:
        self.total = Summary()
        self._hours = hours
        self._seed = seed
        self._terminal = terminal if terminal.isatty() else None
        self._began = monotonic()

    def add(self, summary: Summary) -> None:
        """One more run is over."""
        self.total = self.total + summary
        percent = 100 * self.total.hours / max(self._hours, self.total.hours)
        seconds = max(monotonic() - self._began, 0.001)
        rate = f"{self.total.hours / seconds:,.0f} h/s, {self.total.counters['queries'] / seconds:,.0f} queries/s"
        self._show(f"{percent:3.0f} %  {self.text()}, {rate}"[:COLUMNS])

    def clear(self) -> None:
        """Make room for what is to stay."""
        self._show("")

    def text(self) -> str:
        """What was done so far; the same for the same seed."""
        last = self._seed + max(0, int(self.total.hours / RUN_HOURS) - 1)
        queries = self.total.counters["queries"]
        return f"{self.total.hours:,.0f} hours, seeds {self._seed} to {last}, {queries:,} queries"

    def _show(self, line: str) -> None:
        if self._terminal is not None:
            self._terminal.write(f"\r\x1b[K{line}")  # to the line's start, and clear it (ECMA-48)
            self._terminal.flush()


def _report(error: SimulationError, steps: int) -> None:
    lines = [f"FAILED: {error}", "", f"The last steps, with the time in seconds (it began at {START:g}):"]
    lines += [f"  {step}" for step in error.trace[-steps:]]
    if error.__cause__ is not None:
        place = traceback.extract_tb(error.__cause__.__traceback__)[-1]
        lines += ["", f"Raised by {place.name}, {place.filename}:{place.lineno}"]
    lines += ["", f"Again: python -m dot_proto.testing.simulate --hours {RUN_HOURS} --seed {error.seed}"]
    print("\n".join(lines))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dot_proto.testing.simulate",
        description="Play simulated hours of DNS over TLS on a virtual network, and check every invariant.",
    )
    parser.add_argument(
        "--hours", type=_hours, default=1_000.0, help=f"default 1000; made up to whole runs of {RUN_HOURS}"
    )
    parser.add_argument("--seed", type=_whole, help="of the first run; by default a fresh one, which is printed")
    parser.add_argument(
        "--trace",
        type=_lines,
        default=60,
        metavar="LINES",
        help=f"steps printed of a failure; default 60, at most {TRACE_LINES}",
    )
    return parser


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not 0 < hours < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of hours above 0")
    return hours


def _whole(text: str) -> int:
    if not (text.isdecimal() and text.isascii()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def _lines(text: str) -> int:
    if (lines := _whole(text)) > TRACE_LINES:
        raise argparse.ArgumentTypeError(f"a run keeps its last {TRACE_LINES} steps: {lines} cannot be shown")
    return lines


if __name__ == "__main__":
    sys.exit(main())
