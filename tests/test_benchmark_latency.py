"""The benchmark of latency runs; its figures are not judged here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LATENCY = Path(__file__).parents[1] / "benchmarks" / "latency.py"


def test_every_client_is_measured() -> None:
    """On a new connection and on an open one, each against ssl's own socket."""
    done = subprocess.run([sys.executable, LATENCY, "--smoke"], capture_output=True, text=True, timeout=60, check=True)
    said = done.stdout
    new, _, rest = said.partition("Open connection")
    assert {"SSLSocket", "blocking", "asyncio", "trio", "dnspython"} <= {
        line.split()[0] for line in new.splitlines() if line
    }
    assert "blocking, resumed" in new
    for line in ("blocking over SSLSocket", "resumed over fresh", "open, over SSLSocket"):
        assert f"{line}, aim <= " in rest
