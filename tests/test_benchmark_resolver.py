"""The benchmark of the resolver's costs runs; its figures are not judged here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.programs import require

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

RESOLVER = Path(__file__).parents[1] / "benchmarks" / "resolver.py"


def resolver(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, RESOLVER, *arguments], capture_output=True, text=True, timeout=120)


def test_each_aim_has_its_figure() -> None:
    """Two backends with four each and one with three, beside dnspython, and at rest."""
    require("unbound", "unbound")
    done = resolver("--smoke", "--only", "client,dnspython,idle")
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r" [<>]=\d[\d.]*  (yes|NO)$", done.stdout, re.MULTILINE)) == 3 + 4 + 4 + 4 + 2
    assert re.findall(
        r"^  (\w+) +\d+ with no connection, \d+ with one open  (?:yes|NO)$", done.stdout, re.MULTILINE
    ) == [
        "asyncio",
        "trio",
        "blocking",
    ]


def test_a_part_that_is_not_there() -> None:
    """A clear error, and no traceback."""
    done = resolver("--only", "blood")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("resolver.py: error: --only takes client, dnspython,")
