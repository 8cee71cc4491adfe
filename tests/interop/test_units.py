"""systemd and the example of a server: the unit files are sound and strict, the sockets that it is given are taken."""

from __future__ import annotations

import sys
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from dot_io.blocking import connect
from dot_proto import make_query
from support.credentials import Credentials
from support.programs import free_port, require, run, running

pytestmark = pytest.mark.interop

EXAMPLES = Path(__file__).parents[2] / "examples"

PYTHON = "/opt/dot/bin/python"
"Where the unit file has it."

MOST_EXPOSED = "15"
'Tenths, of ten: what systemd-analyze calls "OK" begins below 2.0.'


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The unit files, with a Python that is there."""
    files = []
    for name in ("dot.service", "dot.socket"):
        text = (EXAMPLES / name).read_text("utf-8")
        assert name == "dot.socket" or f"ExecStart={PYTHON} " in text
        files.append(tmp_path / name)
        files[-1].write_text(text.replace(PYTHON, sys.executable), "utf-8")
    return files


def test_the_unit_files_are_sound(units: list[Path]) -> None:
    done = run(require("systemd-analyze", "systemd"), "verify", "--man=no", *units)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_service_may_do_little(units: list[Path]) -> None:
    """No capability, no file to write, no system call that it does not need."""
    options = ["--offline=yes", "--no-pager", f"--threshold={MOST_EXPOSED}"]
    done = run(require("systemd-analyze", "systemd"), "security", *options, units[0])
    assert done.returncode == 0, done.stdout


def test_it_answers_on_the_sockets_that_systemd_has_bound(credentials: Credentials, tmp_path: Path) -> None:
    """FR-33: all of them, in each process; no socket of its own is opened."""
    ports, log = (free_port(), free_port()), tmp_path / "log"
    listening = [word for port in ports for word in ("-l", f"127.0.0.1:{port}")]
    command = [require("systemd-socket-activate", "systemd"), *listening, sys.executable, EXAMPLES / "server.py"]
    with running([*command, credentials.file, "--processes=2"], ports[0], log):
        for port in ports:
            with connect("127.0.0.1", credentials.policy, port=port) as client:
                response = dns.message.from_wire(client.query(make_query("example.com")))
            assert response.rcode() == dns.rcode.REFUSED
    assert log.read_text("utf-8").count("server: listening on 127.0.0.1 port") == 2
