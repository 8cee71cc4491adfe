"""Thousands of hours of DNS over TLS in seconds: ``python -m dot_proto.testing.simulate --hours 10000 --seed 1``.

Programs and hosts with our engines, and peers that break every rule, meet on a virtual network with a virtual clock:
latency, calls in any order, cuts, resets, stalls, peers that restart.  At every call of every engine it is checked
that each query has exactly one fate, that no query octet leaves before the verdict, that deadlines are met, and that
ids are never confused; at one call in 64, and at each end, that memory is bounded.

One seed is one history of :data:`HISTORY_HOURS`, with about five queries an hour, most of them in bursts: between these
connections idle, and end.  A history that fails ends the run: its seed and its last steps are printed, with the
command that plays it again.
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

from ._simulation.actors import Host, Listener, Network, Program
from ._simulation.credentials import Identities
from ._simulation.network import START, TRACE_LINES, SimulationError, World
from ._simulation.rogues import RogueClient, RogueHost

__all__ = ["HISTORY_HOURS", "SimulationError", "Summary", "histories", "main", "simulate"]

HISTORY_HOURS: Final = 100
"Simulated hours of one history; then nobody asks any more, and everything must come to its end."

FRESH_SEEDS: Final = 1_000_000
"A seed that is not given is drawn below this; the seeds of one run follow each other."

COLUMNS: Final = 79
"Characters of the progress line: one that a narrow terminal wraps could not be written over."

INTERRUPTED: Final = 130
"What a shell reports for a process ended by SIGINT: 128 + 2."


@dataclass(slots=True)
class Summary:
    """What one history, or several, came to."""

    hours: float = 0.0
    "Simulated."
    tally: Counter[str] = field(default_factory=Counter[str])
    "How often things happened: queries, connections, fates, ends, and others."
    digest: str = ""
    "Of all that happened, in hexadecimal; the same seed gives the same one. Of several, the last one's."

    def __add__(self, other: Summary) -> Summary:
        return Summary(self.hours + other.hours, self.tally + other.tally, other.digest)


def simulate(seed: int) -> Summary:
    """Play the history of a seed, 0 or more; raises :class:`SimulationError` where an invariant does not hold."""
    world = World(seed, HISTORY_HOURS)
    network, identities = Network(world), Identities()
    hosts: list[Listener] = [Host(world, network) for _ in range(world.number(2, 4))]
    for _ in range(world.number(1, 4)):
        Program(world, network, [*hosts, *hosts, RogueHost(world)], identities)
    for _ in range(world.number(0, 3)):
        RogueClient(world, network, hosts)
    world.run()
    fates = sum(world.tally[fate] for fate in ("answered", "timed out", "cancelled", "lost"))
    world.require(fates == world.tally["queries"], "{} fates of {} queries", fates, world.tally["queries"])
    return Summary(HISTORY_HOURS, world.tally, world.digest())


def histories(hours: float, seed: int) -> Iterator[Summary]:
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
    run = _Run(arguments.hours, seed, sys.stderr)
    try:
        for summary in histories(arguments.hours, seed):
            run.add(summary)
    except SimulationError as error:
        run.clear()
        _report(error, arguments.trace)
        return 1
    except KeyboardInterrupt:
        run.clear()
        print(f"interrupted: {run.text()}; nothing found")
        return INTERRUPTED
    run.clear()
    counts = (f"{count:12,}  {what}" for what, count in sorted(run.total.tally.items()))
    print("\n".join([f"{run.text()}; nothing found", *counts]))
    return 0


class _Run:
    """How far it is, told on a terminal in a line that is written over."""

    def __init__(self, hours: float, seed: int, terminal: TextIO) -> None:
        self.total = Summary()
        self._hours = hours
        self._seed = seed
        self._terminal = terminal if terminal.isatty() else None
        self._began = monotonic()

    def add(self, summary: Summary) -> None:
        """One more history is over."""
        self.total = self.total + summary
        percent = 100 * self.total.hours / max(self._hours, self.total.hours)
        seconds = max(monotonic() - self._began, 0.001)
        rate = f"{self.total.hours / seconds:,.0f} h/s, {self.total.tally['queries'] / seconds:,.0f} queries/s"
        self._show(f"{percent:3.0f} %  {self.text()}, {rate}"[:COLUMNS])

    def clear(self) -> None:
        """Make room for what is to stay."""
        self._show("")

    def text(self) -> str:
        """What was done so far; the same for the same seed."""
        last = self._seed + max(0, int(self.total.hours / HISTORY_HOURS) - 1)
        queries = self.total.tally["queries"]
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
    lines += ["", f"Again: python -m dot_proto.testing.simulate --hours {HISTORY_HOURS} --seed {error.seed}"]
    print("\n".join(lines))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dot_proto.testing.simulate",
        description="Play simulated hours of DNS over TLS on a virtual network, and check every invariant.",
    )
    parser.add_argument(
        "--hours", type=_hours, default=1_000.0, help=f"default 1000; made up to whole histories of {HISTORY_HOURS}"
    )
    parser.add_argument("--seed", type=_whole, help="of the first history; by default a fresh one, which is printed")
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
        raise argparse.ArgumentTypeError(f"a history keeps its last {TRACE_LINES} steps: {lines} cannot be shown")
    return lines


if __name__ == "__main__":
    sys.exit(main())
