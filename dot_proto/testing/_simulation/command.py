"""The command of a simulation: runs of consecutive seeds, one after another, until one fails."""

from __future__ import annotations

import argparse
import math
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import SystemRandom
from time import monotonic
from typing import Final, TextIO

from .network import START, TRACE_LINES, SimulationError

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


@dataclass(frozen=True, slots=True)
class Command:
    """``python -m dot_proto.testing.MODULE``: what is simulated, and how it is told."""

    module: str
    description: str
    run_hours: int
    "Simulated hours of one run."
    simulate: Callable[[int], Summary]
    "The run of a seed; raises :class:`SimulationError` where an invariant does not hold."
    default_hours: int

    def runs(self, hours: float, seed: int) -> Iterator[Summary]:
        """Runs of at least so many hours in all, with the seeds ``seed``, ``seed`` + 1, and so on."""
        done = 0.0
        while done < hours:
            summary = self.simulate(seed)
            yield summary
            done, seed = done + summary.hours, seed + 1

    def main(self, argv: list[str] | None) -> int:
        """Run the command; returns 0, 1 where an invariant does not hold, or 130 when interrupted."""
        arguments = self._parser().parse_args(argv)
        seed = SystemRandom().randrange(FRESH_SEEDS) if arguments.seed is None else arguments.seed
        progress = _Progress(arguments.hours, self.run_hours, seed, sys.stderr)
        try:
            for summary in self.runs(arguments.hours, seed):
                progress.add(summary)
        except SimulationError as error:
            progress.clear()
            self._report(error, arguments.trace)
            return 1
        except KeyboardInterrupt:
            progress.clear()
            print(f"interrupted: {progress.text()}; nothing found")
            return INTERRUPTED
        progress.clear()
        counts = (f"{count:12,}  {what}" for what, count in sorted(progress.total.counters.items()))
        print("\n".join([f"{progress.text()}; nothing found", *counts]))
        return 0

    @property
    def _name(self) -> str:
        return f"python -m dot_proto.testing.{self.module}"

    def _report(self, error: SimulationError, steps: int) -> None:
        lines = [f"FAILED: {error}", "", f"The last steps, with the time in seconds (it began at {START:g}):"]
        lines += [f"  {step}" for step in error.trace[-steps:]]
        if error.__cause__ is not None:
            place = traceback.extract_tb(error.__cause__.__traceback__)[-1]
            lines += ["", f"Raised by {place.name}, {place.filename}:{place.lineno}"]
        lines += ["", f"Again: {self._name} --hours {self.run_hours} --seed {error.seed}"]
        print("\n".join(lines))

    def _parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(prog=self._name, description=self.description)
        parser.add_argument(
            "--hours",
            type=_hours,
            default=float(self.default_hours),
            help=f"default {self.default_hours}; made up to whole runs of {self.run_hours}",
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


class _Progress:
    """How far it is, told on a terminal in a line that is written over."""

    def __init__(self, hours: float, run_hours: int, seed: int, terminal: TextIO) -> None:
        self.total = Summary()
        self._hours = hours
        self._run_hours = run_hours
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
        last = self._seed + max(0, int(self.total.hours / self._run_hours) - 1)
        queries = self.total.counters["queries"]
        return f"{self.total.hours:,.0f} hours, seeds {self._seed} to {last}, {queries:,} queries"

    def _show(self, line: str) -> None:
        if self._terminal is not None:
            self._terminal.write(f"\r\x1b[K{line}")  # to the line's start, and clear it (ECMA-48)
            self._terminal.flush()


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
