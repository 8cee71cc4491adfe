"""The benchmarks that need no network still run; what they measure is not judged here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("name", "rows", "figures"),
    [
        ("framing", ["bare loop", "Deframer, 16 KiB reads", "dnspython, 16 KiB reads"], 5),
        ("engine", ["bare loop", "client receives, OPT"], 7),
    ],
)
def test_a_quick_run_prints_its_tables(name: str, rows: list[str], figures: int):
    ran = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / f"{name}.py", "--quick"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert re.search(r"^\w+ \d+\.\d+\.\d+\S*, engine (interpreted|compiled), \d+ CPUs$", ran.stdout, re.MULTILINE)
    for row in rows:
        assert re.search(rf"^{re.escape(row)} +\d+\.\d{{3}} +\d+\.\d\d$", ran.stdout, re.MULTILINE)
    assert len(re.findall(r" [<>]= *\d+\.\d\d +\d+\.\d\d  (?:yes|NO)$", ran.stdout, re.MULTILINE)) == figures


def test_two_engines_of_one_form_are_not_compared():
    """Both forms side by side are for a machine with a compiler; what is always to be had is one form twice."""
    ran = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "compiled.py", "--rounds", "1", sys.executable],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == "both engines are interpreted: there is nothing to compare\n"


def test_memory_is_watched():
    """Promise 7: nothing is kept of queries that have met their fate."""
    ran = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "memory.py", "--quick"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(re.findall(r"^ +[\d,]+ queries +[\d,]+ KiB +[+-]\d+$", ran.stdout, re.MULTILINE)) == 20
