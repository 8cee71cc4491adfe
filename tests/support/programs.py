"""Other people's programs as peers: found on this machine, started, watched, ended."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

REQUIRE = "DOT_PROTO_REQUIRE_PEERS"
"Set to 1, this variable turns a missing program from a skipped test into a failed one."

READY_TIMEOUT = 20.0
"Seconds that a server may take until it accepts connections."

RUN_TIMEOUT = 60.0
"Seconds that a client may take to do its work."


def require(name: str, package: str) -> str:
    """The path of a program; without it the test is skipped, or fails where all peers are required."""
    path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))
    if path is None:
        sentence = f"{name} is not installed; on Debian: apt-get install {package}"
        if os.environ.get(REQUIRE) == "1":
            pytest.fail(f"{sentence} ({REQUIRE} is 1)")
        pytest.skip(sentence)
    return path


def free_port() -> int:
    """A port that nobody uses just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running(command: Sequence[str | Path], port: int, log: Path) -> Iterator[None]:
    """The server while it runs, from when it accepts connections; pytest shows its log on failure."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            _wait_until_ready(process, port, log)
            yield
        finally:
            process.terminate()
            try:
                process.wait(RUN_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            print(f"{command[0]} said:\n{_text(log)}")


def run(*command: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A client's whole run; what it says is printed, and pytest shows it on failure."""
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=RUN_TIMEOUT, check=False, env=env
    )
    print(f"$ {' '.join(map(str, command))}\n{done.stdout}{done.stderr}[exit status {done.returncode}]")
    return done


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            pass
        else:
            return
        try:
            process.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(f"the server ended at once, with exit status {process.returncode}:\n{_text(log)}")
    pytest.fail(f"the server does not accept connections on port {port}:\n{_text(log)}")


def _text(log: Path) -> str:
    return log.read_text(errors="replace")
