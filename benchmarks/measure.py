"""Interleaved rounds in one process, medians, and the table that every benchmark prints.

Only ratios between rows of one run mean anything: a shared machine is twice as fast or slow a minute later.  So
every case runs once in every round, for a few milliseconds, right behind the base, by whose time its own is divided;
and what is reported is the median of these ratios.  The garbage collector stays on, as it is for users, and
starts every sample with nothing to collect.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import get_clock_info, perf_counter, process_time

import dot_proto.client

CLOCK = process_time if get_clock_info("process_time").resolution < 1e-6 else perf_counter
"Seconds: of CPU time, which other processes do not lengthen, where that is counted finely enough (not on Windows)."

IS_COMPILED = not dot_proto.client.__file__.endswith(".py")
"Whether the engine's hot modules are machine code (hatch_build.py)."


@dataclass(frozen=True)
class Case:
    """One way to do a piece of work; ``prepare`` is not timed and returns the work, which is."""

    name: str
    prepare: Callable[[], Callable[[], object]]
    units: int
    "How many messages (or octets) one piece of work handles."


@dataclass(frozen=True)
class Target:
    """A figure to reach: the ``numerator``'s time per unit over the ``denominator``'s."""

    what: str
    numerator: str
    denominator: str
    limit: float
    "The ratio must not be above this."
    inverted: bool = False
    "Whether the figure is a speed (the denominator's time over the numerator's), which must not be below."


def arguments(description: str | None) -> argparse.Namespace:
    """``--rounds`` and ``--quick``, which every benchmark has."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="rounds to take the median of (default 15)")
    parser.add_argument("--quick", action="store_true", help="one short round: shows that it runs, and no figures")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.rounds = 1
    return chosen


def run(cases: list[Case], *, rounds: int, quick: bool) -> dict[str, float]:
    """Seconds per unit of each case, by name; the first case is the base."""
    least = 0.0 if quick else 0.004  # seconds of timed work in a sample, far above the clock's resolution
    base, *others = cases
    bases: list[float] = []
    ratios: dict[str, list[float]] = {case.name: [] for case in others}
    for _ in range(rounds):
        for case in others:
            bases.append(_sample(base, least))
            ratios[case.name].append(_sample(case, least) / bases[-1])
    return {base.name: median(bases)} | {name: median(bases) * median(values) for name, values in ratios.items()}


def _sample(case: Case, least: float) -> float:
    gc.collect()
    elapsed, done = 0.0, 0
    while not done or elapsed < least:
        work = case.prepare()
        start = CLOCK()
        work()
        elapsed += CLOCK() - start
        done += case.units
    return elapsed / done


def report(title: str, results: dict[str, float], *, base: str, unit: str = "message") -> None:
    """Print each case's time per unit and its ratio to ``base``."""
    width = max(map(len, results))
    print(f"\n{title}\n{'':{width}}  {'us/' + unit:>10}  {'of base':>8}")
    for name, seconds in results.items():
        print(f"{name:{width}}  {seconds * 1e6:10.3f}  {seconds / results[base]:8.2f}")


def verdicts(targets: list[Target], results: dict[str, float]) -> None:
    """Print what is to be reached beside what was got."""
    width = max(len(target.what) for target in targets)
    print(f"\n{'figure':{width}}  {'reach':>7}  {'got':>6}")
    for target in targets:
        ratio = results[target.numerator] / results[target.denominator]
        if target.inverted:
            reached, got, sign = 1 / ratio >= target.limit, 1 / ratio, ">="
        else:
            reached, got, sign = ratio <= target.limit, ratio, "<="
        print(f"{target.what:{width}}  {sign}{target.limit:5.2f}  {got:6.2f}  {'yes' if reached else 'NO'}")


def machine() -> None:
    """Print what the figures depend on."""
    engine = "compiled" if IS_COMPILED else "interpreted"
    print(f"{platform.python_implementation()} {platform.python_version()}, engine {engine}, {os.cpu_count()} CPUs")


def resident(pid: int | str = "self") -> float:
    """KiB of a process's memory that are in use (Linux)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024
