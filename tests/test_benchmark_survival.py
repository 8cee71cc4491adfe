"""What the resolver survives, in short, without unbound; and that a broken law is seen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="upstreams are processes with signals")

SURVIVAL = Path(__file__).parents[1] / "benchmarks" / "survival.py"

BACKENDS = ["asyncio", "trio", "blocking"]


def survival(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SURVIVAL, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **environment})


def test_every_backend_survives_scripted_servers() -> None:
    """RES-25, RES-32, RES-35, RES-41: they close without an answer, prove to be somebody else, or are left behind."""
    done = survival("--seconds", "2.5", "--only", "closing,all-refused,moved")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    rows = [line.split()[:2] for line in done.stdout.splitlines()]
    assert [
        name for name, asked in (row for row in rows if len(row) == 2) if asked == "500" and name in BACKENDS
    ] == BACKENDS * 3


QUERY = """
import time
import dot_io.asyncio.resolver
from dot_io.errors import QueryTimeoutError
from dot_proto import make_query
Resolver = dot_io.asyncio.resolver.Resolver
query, names = Resolver.query, []
async def planted(self, message, *, timeout=None):
    names.append(message)
    if len(names) == 100:
        {planted}
    return await query(self, message, timeout=timeout)
Resolver.query = planted
"""

PLANTED = {
    "lost: 1, not 0": ("moved", QUERY.format(planted="raise QueryTimeoutError('planted')")),
    "doubled: 1, not 0": ("moved", QUERY.format(planted="await query(self, message)")),
    "slowest: ": ("moved", QUERY.format(planted="time.sleep(1.0)")),
    "sessions resumed: 1, not 0": (
        "moved",
        "import dot_io._resolver\ndot_io._resolver.ResolverBase._forget_sessions = lambda self: None",
    ),
    "octets shown to upstream 1: ": (
        "all-refused",
        """
import dot_io._resolver
from dot_proto import AuthenticationPolicy
context = dot_io._resolver.ClientContext
dot_io._resolver.ClientContext = lambda policy: context(AuthenticationPolicy.opportunistic())
""",
    ),
    "errors that do not name each upstream: ": (
        "all-refused",
        "import dot_io._fate\ndot_io._fate._FAILURES = dict.fromkeys(dot_io._fate._FAILURES, 'x')\n"
        "from dot_proto import Upstream\nUpstream.__str__ = lambda self: str(id(object()))",
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_broken_law_is_seen(fault: str, tmp_path: Path) -> None:
    """Planted in the program that lives on the resolver."""
    scenario, code = PLANTED[fault]
    (tmp_path / "sitecustomize.py").write_text(code, "utf-8")
    seconds = "2.5" if "resumed" in fault else "1"  # the network changes after 2 s
    done = survival("--seconds", seconds, "--backend", "asyncio", "--only", scenario, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (1, "a law is broken\n"), done.stdout
    assert f"BROKEN on asyncio: {fault}" in done.stdout


def test_a_scenario_that_is_not_there() -> None:
    """A clear error, and no traceback."""
    done = survival("--only", "earthquake")
    assert done.returncode == 2
    assert "survival.py: error: --only takes killed, restarted," in done.stderr
