"""The benchmark of the backends runs: every row and both verdicts are there, whatever the figures."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "backends.py"

TIME_LIMIT = 120.0
"Seconds; it takes about 5 on two cores that have nothing else to do."

LOOPS = ["asyncio", "trio", *(["uvloop"] if importlib.util.find_spec("uvloop") else [])]

FIGURE = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)


@pytest.fixture(scope="module")
def output() -> str:
    done = run("--smoke")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def rows(output: str, name: str) -> list[list[str]]:
    """The figures of each row of that name."""
    return [FIGURE.findall(line[len(name) :]) for line in output.splitlines() if line.startswith(f"{name}  ")]


@pytest.mark.parametrize("drive", ["blocking", *LOOPS])
def test_every_backend_has_a_row_for_either_way_to_cut_records(output: str, drive: str) -> None:
    figures = rows(output, f"{drive} query_many")
    assert [len(row) for row in figures] == [len(figures[0])] * 2
    assert len(figures[0]) >= 4  # CPU time with 1 and 64 in flight, of the fastest, queries a second


@pytest.mark.parametrize("drive", LOOPS)
def test_every_loop_has_a_row_for_awaited_queries(output: str, drive: str) -> None:
    assert len(rows(output, f"{drive} query")) == 2


@pytest.mark.parametrize("peer", ["dnspython fresh", "dnspython reused", "blocking fresh, full", "blocking query"])
def test_peers_and_what_compares_with_them_are_there(output: str, peer: str) -> None:
    [figures] = rows(output, peer)
    assert float(figures[1]) > 0


def test_dnsperf_is_measured_or_named_as_absent(output: str) -> None:
    assert bool(rows(output, "dnsperf -q 100")) is bool(shutil.which("dnsperf"))
    assert ("dnsperf is not installed" in output) is not bool(shutil.which("dnsperf"))


@pytest.mark.parametrize("call", ["query_many", "query"])
@pytest.mark.parametrize("records", ["one record each", "shared records"])
def test_verdict_names_the_dearest_backend_and_the_limit(output: str, call: str, records: str) -> None:
    assert re.search(rf"^64 in flight, {call}, {records}: \w+ over \w+ +<= 1\.60 +[\d.]+  (yes|NO)$", output, re.M)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc, where memory is read")
@pytest.mark.parametrize("server", ["asyncio-tls", "asyncio", "trio", "blocking"])
def test_every_server_has_its_memory_measured(output: str, server: str) -> None:
    assert len(rows(output, server)) == 1


def test_servers_that_are_unknown_are_refused() -> None:
    done = run("--smoke", "--servers=bind")
    assert done.returncode == 2
    assert "--servers takes ours and unbound" in done.stderr
