"""Days of running, in short: memory, descriptors, threads, tasks stay as they are, connection after connection."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dot_io.tls.cache import loses_sessions

SOAK = Path(__file__).parents[1] / "benchmarks" / "soak.py"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

LOSES = loses_sessions(sys.implementation.name, tuple(sys.version_info[:3]))


def soak(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SOAK, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, env={**os.environ, **environment})


@pytest.mark.parametrize("backend", ["blocking", "asyncio", "uvloop", "trio"])
def test_nothing_grows_with_the_number_of_connections(backend: str) -> None:
    """FR-86: in both roles, good connections and bad; the bounds are soak.py's, which says why.

    A Python that loses memory for each session says so once, and then keeps no more of them.
    """
    done = soak("--quick", "--backend", backend)
    if done.returncode:  # a short run is at the mercy of the allocator: what grows with the connections grows again
        done = soak("--quick", "--backend", backend)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    _, _, _, _, client, server = (line.split() for line in done.stdout.splitlines())
    assert client[:3] == [backend, "client", "400"]
    assert server[:3] == [backend, "server", "400"]
    assert (client[10:12], server[10:12]) == ([str(int(LOSES)), "yes"], ["0", "yes"])


PLANTED = {
    "objects": """
import dot_io._client
kept, init = [], dot_io._client.ClientBase.__init__
def keep(self, *arguments, **options):
    init(self, *arguments, **options)
    kept.append([options])
dot_io._client.ClientBase.__init__ = keep
""",
    "malloc": """
import math, dot_io.tls.cache
dot_io.tls.cache._reads = dot_io.tls.cache.SessionReads(math.inf)
""",
}


@pytest.mark.parametrize(
    "what",
    [
        "objects",
        pytest.param("malloc", marks=pytest.mark.skipif(not LOSES, reason="this Python frees what it reads")),
    ],
)
def test_what_grows_is_seen(what: str, tmp_path: Path) -> None:
    """FR-86: planted in the process that is watched; the last is the loss itself, without our bound."""
    (tmp_path / "sitecustomize.py").write_text(PLANTED[what], "utf-8")
    done = soak("--quick", "--backend", "blocking", "--role", "client", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (1, "something has grown with the number of connections\n"), done.stdout
    assert f"{what} +" in done.stdout.splitlines()[-1]


def test_no_connections() -> None:
    """A clear error, and no traceback."""
    done = soak("--connections", "0")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        2,
        "soak.py: error: --connections is 0; it must be at least 1",
    )


def test_it_goes_on_for_the_minutes_that_it_is_told() -> None:
    """Portions of connections, until the time is over."""
    done = soak("--minutes", "0.02", "--role", "server", "--backend", "asyncio")
    assert done.returncode == 0, done.stdout
    connections = int(done.stdout.splitlines()[-1].split()[2].replace(",", ""))
    assert connections >= 400
    assert connections % 400 == 0
    wrong = soak("--minutes", "-1")
    assert (wrong.returncode, wrong.stderr.splitlines()[-1]) == (
        2,
        "soak.py: error: --minutes is -1.0; it must be a number from 0 on",
    )
