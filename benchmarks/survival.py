"""What a resolver survives: upstreams that are killed, stopped, refuse, close, fall silent, at 200 queries a second.

    pip install -e '.[test]'
    python benchmarks/survival.py                        # a quarter of an hour: a minute for each scenario
    python benchmarks/survival.py --short                # under three minutes
    python benchmarks/survival.py --only killed,stopped --backend trio
    python benchmarks/survival.py --write docs/survival.md

Needs unbound.  Each scenario has a law, and a law that is broken ends the run with an error.  A program (surviving.py)
asks for another name each time, at a steady pace, on one resolver that has its defaults; the scenario happens to the
upstreams meanwhile.  The backends run at the same time, each with upstreams of its own.

"Asked", "answered" and "lost" are the program's count.  "Doubled" are names that the servers have seen more than once,
all of them together, by unbound's query log and by the scripted servers' own count: a query whose connection ended is
asked again, and that is right where its first server may have died with it.  "Slowest" is the time from the moment when
a query was due to its fate, errors included; for a name that takes two seconds, what came on top.  "Late" is how long
this machine kept another process waiting that did nothing but sleep for 5 ms at a time: a law's time is the machine's
lateness longer.  "Dials" and "probes" are the resolver's own count, upstream by upstream; "seen" is what each upstream
has been asked, probes left out.

Where the figures mislead.  Loopback has no round trip and loses nothing, and a process that was killed has its TCP
connections reset by its kernel: a machine that loses power is as silent as the one that is stopped here.  A change of
network is told to the resolver here, while the machine stays where it is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import programs
from loopback import HERE, Site
from measure import machine
from scenarios import DIALS, DIALS_WITHIN, SCENARIOS, Scenario, Stage
from surviving import BACKENDS, Job, Report
from upstreams import Scripted

SECONDS, SHORT = 60.0, 8.0
"Of each scenario."

STANDSTILL, TRIES = 0.3, 3
"Seconds of lateness beyond which a scenario that went wrong is run again, and how often in all: servers were late too."

OVERTIME = 30.0
"Seconds that a program may take longer than it was told, before it is given up."

BEGIN, END = "<!-- figures: made by benchmarks/survival.py --write -->", "<!-- /figures -->"
"Between these the figures stand in a document."


@dataclass(frozen=True)
class Outcome:
    """What came of one scenario on one backend."""

    scenario: Scenario
    backend: str
    report: Report
    late: float
    seen: list[int]
    "Queries for names that each upstream has seen."
    doubled: int
    dropped: int
    octets: list[int]
    most_dials: list[int]
    resumed: int

    @property
    def lost(self) -> int:
        return self.report.asked - self.report.answered

    def faults(self) -> Iterator[str]:
        """What breaks the law."""
        law, report = self.scenario.law, self.report
        allowed: dict[str, tuple[int, int | None]] = {
            "lost": (self.lost, self.dropped if law.lost_are_dropped else law.lost),
            "doubled": (self.doubled, law.doubled),
            "answered": (report.answered, 0 if law.all_fail else None),
            "errors that do not name each upstream": (report.unnamed, 0 if law.all_fail else None),
            "sessions resumed": (self.resumed, law.resumed),
            "children without an answer": (report.children - report.answered_children, 0),
        }
        for number in law.refused:
            allowed[f"octets shown to upstream {number + 1}"] = self.octets[number], 0
            allowed[f"dials of upstream {number + 1} in {DIALS_WITHIN:g} s"] = self.most_dials[number], DIALS
        for number in law.unused:
            allowed[f"queries shown to upstream {number + 1}"] = self.seen[number], 0
        yield from (
            f"{what}: {got}, not {most}" for what, (got, most) in allowed.items() if most is not None and got > most
        )
        if law.slowest is not None and report.slowest > law.slowest + self.late:
            yield f"slowest: {report.slowest:.3f} s, not {law.slowest:g} s and {self.late:.3f} s of the machine's"
        if not report.asked:
            yield "nothing was asked"


class Lateness:
    """How long this machine lets a process wait that wants to run."""

    def __enter__(self) -> Lateness:
        self._process = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        said = self._process.communicate()[0]
        self.seconds = float(said.split()[-1])


SLEEPER = """
import time

worst = 0.0
print(worst, flush=True)
while True:
    began = time.monotonic()
    time.sleep(0.005)
    if (late := time.monotonic() - began - 0.005) > worst:
        worst = late
        print(worst, flush=True)
"""


def run(scenario: Scenario, backend: str, seconds: float) -> Outcome:
    """One scenario on one backend; again, where the machine stood still and a law was broken."""
    for _ in range(TRIES - 1):
        outcome = run_once(scenario, backend, seconds)
        if outcome.late < STANDSTILL or not any(outcome.faults()):
            return outcome
    return run_once(scenario, backend, seconds)


def run_once(scenario: Scenario, backend: str, seconds: float) -> Outcome:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        site = Site(folder, stack)
        stage = Stage(site, folder, stack, seconds)
        scenario.arrange(stage)
        upstreams = [(server.port, server.name) for server in stage.upstreams]
        job = Job(upstreams, str(site.ca), seconds, **stage.job)
        lateness = Lateness()
        with lateness:
            report = live(backend, job, stage)
        scripted = [server if isinstance(server, Scripted) else None for server in stage.upstreams]
        asked = [server.asked() for server in stage.upstreams]
        for counter in asked:
            del counter[""]  # the root: probes
        return Outcome(
            scenario,
            backend,
            report,
            lateness.seconds,
            [counter.total() for counter in asked],
            sum(count > 1 for count in sum(asked, Counter[str]()).values()),
            stage.dropped,
            [server.octets if server else 0 for server in scripted],
            [server.most_dials(DIALS_WITHIN) if server else 0 for server in scripted],
            sum(server.resumed for server in scripted if server),
        )


def live(backend: str, job: Job, stage: Stage) -> Report:
    """Have a program live through it."""
    command = [sys.executable, str(HERE / "surviving.py"), backend]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    timer = threading.Timer(job.seconds + OVERTIME, process.kill)
    is_over = threading.Event()
    with process:
        timer.start()
        assert process.stdin is not None
        assert process.stdout is not None
        print(json.dumps(asdict(job)), file=process.stdin, flush=True)
        said = process.stdout.readline()
        print("begin", file=process.stdin, flush=True)
        acting = threading.Thread(target=stage.act, args=(time.monotonic(), is_over))
        acting.start()
        said = process.stdout.readline()
        is_over.set()
        acting.join()
        timer.cancel()
    if process.returncode != 0:
        sys.exit(f"the program on {backend} has ended with {process.returncode}, and lost its queries")
    return Report(**json.loads(said))


# The table.

COLUMNS = "backend asked answered lost doubled slowest late dials probes seen"


def cells(outcome: Outcome) -> list[str]:
    report = outcome.report

    def by_upstream(numbers: Sequence[int]) -> str:
        return " + ".join(f"{number:,}" for number in numbers)

    return [
        outcome.backend,
        f"{report.asked:,}",
        f"{report.answered:,}",
        f"{outcome.lost:,}",
        f"{outcome.doubled:,}",
        f"{report.slowest:.3f} s",
        f"{outcome.late:.3f} s",
        by_upstream(report.dials),
        by_upstream(report.probes),
        by_upstream(outcome.seen),
    ]


def show(scenario: Scenario, outcomes: list[Outcome]) -> None:
    table = [COLUMNS.split(), *map(cells, outcomes)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    print(f"\n{scenario.name}: {scenario.what}\n  law: {scenario.law}")
    for line in table:
        print("  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)))
    for outcome in outcomes:
        errors = ", ".join(f"{count:,} {name}" for name, count in outcome.report.errors.items())
        if errors:
            print(f"  {outcome.backend}: {errors}")
        for fault in outcome.faults():
            print(f"  BROKEN on {outcome.backend}: {fault}")
    sys.stdout.flush()


def markdown(results: list[tuple[Scenario, list[Outcome]]]) -> str:
    """The same for a document: what happens and what must hold, then the figures."""
    lines = ["| scenario | what happens | what must hold |", "|---|---|---|"]
    lines += [f"| `{scenario.name}` | {scenario.what} | {scenario.law} |" for scenario, _ in results]
    lines += ["", f"| scenario | {' | '.join(COLUMNS.split())} |", f"|---{'|---' * len(COLUMNS.split())}|"]
    for scenario, outcomes in results:
        lines += [f"| `{scenario.name}` | {' | '.join(cells(outcome))} |" for outcome in outcomes]
    return "\n".join(lines)


def write(document: Path, text: str) -> None:
    """Put the figures in their place."""
    before, found, rest = document.read_text().partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not (found and found_end):
        sys.exit(f"{document} has no place for the figures: a line {BEGIN}, and a line {END}")
    document.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")


def main() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--short", action="store_true", help=f"{SHORT:g} seconds for each scenario, not {SECONDS:g}")
    parser.add_argument("--seconds", type=float, help="for each scenario")
    parser.add_argument("--only", default=",".join(names), help=f"some of {','.join(names)}")
    parser.add_argument("--backend", choices=BACKENDS, action="append", help="only this one; may be given again")
    parser.add_argument("--write", metavar="FILE", type=Path, help="put the figures into a document")
    chosen = parser.parse_args()
    wanted = chosen.only.split(",")
    if not set(wanted) <= set(names):
        parser.error(f"--only takes {', '.join(names)}, with commas between")
    seconds = chosen.seconds or (SHORT if chosen.short else SECONDS)
    backends = chosen.backend or BACKENDS
    machine()
    print(f"{programs.version('unbound')}; {seconds:g} s for each scenario; {', '.join(backends)} at the same time")
    results = []
    with ThreadPoolExecutor(len(backends)) as pool:
        for scenario in SCENARIOS:
            if scenario.name in wanted:
                outcomes = list(pool.map(run, [scenario] * len(backends), backends, [seconds] * len(backends)))
                show(scenario, outcomes)
                results.append((scenario, outcomes))
    if chosen.write:
        write(chosen.write, markdown(results))
    if any(fault for _, outcomes in results for outcome in outcomes for fault in outcome.faults()):
        sys.exit("a law is broken")


if __name__ == "__main__":
    main()
