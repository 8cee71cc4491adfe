"""The command's streams and signals: closed, full and broken ones, and Ctrl-C, in processes of their own."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.conftest import Certificates

LIMIT = 20.0
"Seconds that a process may take; none should need two."

NEEDS_FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full on this system")


def shell(line: str, redirections: str) -> tuple[int, str, str]:
    """``dot-proto`` under a shell, with its redirections: exit code, stdout and stderr."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        ["sh", "-c", f"{shlex.quote(sys.executable)} -m dot_io.cli {line} {redirections}"],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env=environment,
    )
    assert "Traceback" not in done.stdout + done.stderr
    assert "Exception ignored" not in done.stderr
    return done.returncode, done.stdout, done.stderr


CLOSED = [">&-", "2>&-", ">&- 2>&-", "<&- >&-", "<&- >&- 2>&-"]
LINES = [
    ("query {at} example.com", 0),
    ("query {at} +short +json example.com", 0),
    ("query -d {at} +tls-pin={wrong} example.com", 23),
    ("query {at} example.com +nonsense", 1),
    ("nonsense", 1),
    ("--help", 0),
    ("query --help", 0),
    ("--version", 0),
]


@pytest.mark.parametrize("redirections", CLOSED)
@pytest.mark.parametrize(("line", "code"), LINES)
def test_closed_streams_change_nothing_else(
    redirections: str, line: str, code: int, at: str, certificates: Certificates
) -> None:
    """FR-46: what is not wanted is not written; the code is the same, and the other stream has its own words alone."""
    line = line.format(at=at, wrong=certificates.other_pin)
    usual = shell(line, "")
    got = shell(line, redirections)
    assert (got[0], usual[0]) == (code, code)
    assert got[1].count("\n") == ("2>&-" in redirections and ">&- 2" not in redirections) * usual[1].count("\n")
    assert got[2] == ("" if "2>&-" in redirections else usual[2])


@NEEDS_FULL
@pytest.mark.parametrize(("line", "code"), LINES)
def test_full_streams(line: str, code: int, at: str, certificates: Certificates) -> None:
    """FR-46: output that is lost is a failure; a complaint that is lost leaves its code."""
    line = line.format(at=at, wrong=certificates.other_pin)
    assert shell(line, "2>/dev/full")[::2] == (code, "")
    got, _, err = shell(line, ">/dev/full")
    if code == 1:
        assert (got, err.count("\n")) == (1, 1)
    else:
        assert (got, err) == (10, "dot-proto: the system refuses: [Errno 28] No space left on device\n")
    assert shell(line, ">/dev/full 2>/dev/full")[0] == (1 if code == 1 else 10)


@pytest.mark.parametrize(("line", "code"), LINES)
def test_readers_that_have_gone(line: str, code: int, at: str, certificates: Certificates) -> None:
    """FR-46: as with "| true"; nobody is told, and the code is that of SIGPIPE where output was lost."""
    line = line.format(at=at, wrong=certificates.other_pin)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    for broken in ("stdout", "stderr"):
        read, write = os.pipe()
        os.close(read)
        with os.fdopen(write, "wb") as gone:
            done = subprocess.run(
                [sys.executable, "-m", "dot_io.cli", *shlex.split(line)],
                stdout=gone if broken == "stdout" else subprocess.PIPE,
                stderr=gone if broken == "stderr" else subprocess.PIPE,
                timeout=LIMIT,
                env=environment,
            )
        if broken == "stdout":
            expected = 1 if code == 1 else 141
            assert (done.returncode, done.stderr.count(b"\n")) == (expected, code == 1)
        else:
            assert done.returncode == code


@pytest.mark.parametrize("delay", [number / 40 for number in range(12)])
def test_interrupted_at_any_moment(delay: float, at: str) -> None:
    """FR-46: 130, or the answer if it was there already; never a traceback."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    # Before this line the interpreter itself is not up. What starts the tests may have had SIGINT ignored.
    start = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    start += "from dot_io.cli import process; print(flush=True); sys.exit(process())"
    with subprocess.Popen(
        [sys.executable, "-c", start, *shlex.split(f"query {at} example.com")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)  # on purpose: the moment is what varies
        for _ in range(3):
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LIMIT)
    assert process.returncode in (0, 130)
    assert err == b""
