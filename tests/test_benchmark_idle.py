"""The benchmark of idle connections runs; its figures are not judged here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

IDLE = Path(__file__).parents[1] / "benchmarks" / "idle.py"


def test_all_are_held_and_answered() -> None:
    """On each loop; it would end with an error otherwise."""
    done = subprocess.run([sys.executable, IDLE, "--smoke"], capture_output=True, text=True, timeout=60, check=True)
    said = re.findall(r"^(\w+) +20 connections .* 0 lost in 0 s of rest; 20 answered in", done.stdout, re.MULTILINE)
    assert (said, done.stderr) == (["asyncio", "trio", "blocking"], "")


def test_too_few_for_a_slope() -> None:
    """A clear error, and no traceback."""
    done = subprocess.run([sys.executable, IDLE, "--connections", "9"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        2,
        "idle.py: error: --connections is 9; a slope needs at least 10",
    )
