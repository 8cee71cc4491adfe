"""Fuzz: each target for a given time, by atheris, and a table of what came of it.

    python tests/fuzzing/run.py --seconds 60 [TARGET ...]
    python tests/fuzzing/run.py --replay TARGET FILE ...

Needs the extras ``fuzz`` and ``test``; a replay needs ``test`` alone.  What was found, and the inputs that took a
target new ways, are left in ``.fuzzing``, and the next run begins with them; ``keep.py`` chooses what to keep for good.
A finding, once its cause is gone, goes to ``findings/TARGET`` under a name of its own: ``test_corpus.py`` replays it.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

HOME = Path(__file__).resolve().parent
sys.path[0] = str(HOME.parent)  # where this package of the tests, and support, are

from fuzzing.targets import TARGETS  # noqa: E402

STATUS = re.compile(r"^#(\d+)\s+\w+\s+cov: (\d+) ft: (\d+) corp: (\d+)", re.MULTILINE)
"What libFuzzer prints now and then: executions, covered branches, features, files of the corpus."

MAX_LENGTH = 4096
"Octets of an input: enough for every law but those about the length of 65535, which the other tests have."

NO_ATHERIS = """\
atheris is not installed: pip install -e '.[test,fuzz]'.  There are wheels for Linux on x86-64 and CPython 3.11 to 3.14;
elsewhere it is built with a clang that has libFuzzer.  --replay needs none of it."""


@dataclass
class Outcome:
    """What one run of a target gave."""

    name: str
    seconds: float
    "Of CPU time."
    executions: int
    coverage: int
    features: int
    corpus: int
    findings: list[Path]
    log: Path
    "All that the worker said."
    failure: str
    "The worker's last words, where it failed without a finding."


def fuzz(name: str, seconds: int, work: Path) -> Outcome:
    """Run a target; libFuzzer ends at the first finding."""
    grown, findings = work / "corpus" / name, work / "findings" / name
    kept = HOME / "corpus" / name
    for directory in (grown, findings):
        directory.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={MAX_LENGTH}",
        "-timeout=10",  # seconds for one input; the slowest takes milliseconds
        "-rss_limit_mb=1024",
        f"-artifact_prefix={findings}/",
    ]
    command = [sys.executable, "-W", "ignore", HOME / "worker.py", name, *options, grown, *[kept] * kept.is_dir()]
    known, log = set(findings.iterdir()), work / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    words = log.read_text(errors="replace")
    last = STATUS.findall(words)[-1:] or [(0, 0, 0, 0)]
    news = sorted(set(findings.iterdir()) - known)
    failure = "\n".join(words.splitlines()[-5:]) if process.returncode and not news else ""
    return Outcome(name, usage.ru_utime + usage.ru_stime, *map(int, *last), news, log, failure)


def replay(name: str, files: Sequence[Path]) -> None:
    """Give a target these octets, without atheris; what it raises is seen."""
    for file in files:
        TARGETS[name](file.read_bytes())
        print(f"{file}: every law holds")


def report(outcomes: Sequence[Outcome]) -> int:
    """Print the table; returns the exit code."""
    row = "{:<11}{:>12}{:>12}{:>10}{:>10}{:>8}{:>10}".format
    print(row("target", "CPU seconds", "executions", "branches", "features", "corpus", "findings"))
    for each in outcomes:
        counts = each.executions, each.coverage, each.features, each.corpus, len(each.findings)
        print(row(each.name, f"{each.seconds:.0f}", *counts))
    for each in outcomes:
        for finding in each.findings:
            print(f"\n{finding}, found as {each.log} says; to see it again:")
            print(f"    {sys.executable} {HOME / 'run.py'} --replay {each.name} {finding}")
        if each.failure:
            print(f"\n{each.name} did not run to its end:\n{each.failure}")
    return int(any(each.findings or each.failure for each in outcomes))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time, a process each (default: 1)")
    parser.add_argument("--work", type=Path, default=HOME.parent.parent / ".fuzzing", help="where it all is left")
    parser.add_argument("--replay", action="store_true", help="one TARGET, and FILEs of octets for it")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all unless said")
    arguments = parser.parse_args()
    names = arguments.targets[:1] if arguments.replay else arguments.targets
    if strange := set(names) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(strange))}; there are {', '.join(TARGETS)}")
    if arguments.replay:
        if len(arguments.targets) < 2:
            parser.error("--replay takes a target and at least one file")
        replay(names[0], list(map(Path, arguments.targets[1:])))
        return 0
    if find_spec("atheris") is None:
        print(NO_ATHERIS, file=sys.stderr)
        return 1
    with ThreadPoolExecutor(arguments.jobs) as pool:
        return report(list(pool.map(lambda name: fuzz(name, arguments.seconds, arguments.work), names or TARGETS)))


if __name__ == "__main__":
    sys.exit(main())
