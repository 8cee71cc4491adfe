"""The benchmarks of servers run; their figures are not judged here, but that nobody is turned away."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, BENCHMARKS / f"{name}.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_no_newcomer_is_lost_beside_a_crowd() -> None:
    """FR-54: a thousand connections that send nothing, which fill the server."""
    done = run("crowd", "--smoke")
    assert (done.returncode, done.stderr) == (0, "")
    rows = re.findall(r"^ours (\w+) +([\d,]+) +(\d+)  ", done.stdout, re.MULTILINE)
    assert [(backend, lost) for backend, _, lost in rows] == [("asyncio", "0"), ("trio", "0"), ("blocking", "0")]
    assert all(int(newcomers.replace(",", "")) > 5 for _, newcomers, _ in rows), done.stdout


def test_every_server_has_a_rate_of_handshakes() -> None:
    """Full and resumed."""
    done = run("handshakes", "--smoke")
    assert (done.returncode, done.stderr) == (0, "")
    rows = re.findall(r"^([\w ]+?) +[\d.]+ +[\d,]+ +[\d.]+ +[\d,]+$", done.stdout, re.MULTILINE)
    installed = [name for name in ("dnsdist", "unbound") if shutil.which(name, path="/usr/bin:/usr/sbin")]
    assert rows == [*installed, "ours asyncio", "ours trio", "ours blocking"]


@pytest.mark.skipif(shutil.which("dnsperf") is None, reason="needs dnsperf")
def test_one_process_and_two() -> None:
    """Both are measured, and each of the two has had its share."""
    done = run("processes", "--smoke")
    assert (done.returncode, done.stderr) == (0, "")
    rows = re.findall(r"^ +([12]) +[\d,]+ +[\d.]+ +(\d+)%$", done.stdout, re.MULTILINE)
    assert [processes for processes, _ in rows] == ["1", "2"]
    assert int(rows[1][1]) < 90


@pytest.mark.parametrize("name", ["crowd", "handshakes", "processes"])
def test_no_rounds(name: str) -> None:
    """A clear error, and no traceback."""
    done = run(name, "--rounds", "0")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"{name}.py: error: --")
