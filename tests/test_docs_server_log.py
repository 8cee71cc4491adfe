"""docs/server-log.md: the tables have every code, and the numbers are true."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dot_io import _accepting, _connections, _limits, _listening, _reports, _server, _transport
from dot_io.errors import Failure
from dot_proto import Cause, Fault, ServerConfiguration
from support.pki import Pki
from support.pki import pki_fixture as pki_fixture

TEXT = (Path(__file__).parents[1] / "docs" / "server-log.md").read_text("utf-8")


def section(title: str) -> str:
    _, _, text = TEXT.partition(f"\n## {title}\n")
    return text.partition("\n## ")[0]


def code(title: str) -> str:
    (found,) = re.findall(r"^```python\n(.*?)^```$", section(title), re.DOTALL | re.MULTILINE)
    return str(found)


@pytest.fixture
def _files(pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "chain.pem").write_bytes(pki.leaf.pem + pki.intermediate.pem)
    (tmp_path / "key.pem").write_bytes(pki.leaf.key_pem)
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("_files")
def test_a_signal_closes_the_server() -> None:
    """FR-27: the example comes to its end."""
    text = code("How it closes").replace("server.serve_forever()", "os.kill(os.getpid(), signal.SIGTERM)")
    assert "os.kill" in text
    exec(compile("import os\n" + text + "    server.serve_forever()\n", "server.md", "exec"), {"__name__": "operator"})


@pytest.mark.usefixtures("_files")
def test_the_hook_of_the_example(capsys: pytest.CaptureFixture[str]) -> None:
    """FR-24: it prints the failed handshakes."""
    head, _, last = code("What it counts").rpartition("    print(")
    asks = (
        "    import socket, time\n"
        "    socket.create_connection(('127.0.0.1', server.port)).close()\n"
        "    while not server.statistics().failed_handshakes:\n"
        "        time.sleep(0.001)\n"
    )
    exec(compile(f"{head}{asks}    print({last}", "server.md", "exec"), {"__name__": "operator"})
    assert sorted(capsys.readouterr().out.splitlines()) == ["127.0.0.1 end-of-stream", "{'end-of-stream': 1}"]


def test_every_reason_has_a_row() -> None:
    """FR-24: those of handshakes, of peers, and the server's own; no row has a code that there is not."""
    rows = re.findall(r"^\| [a-z,; ]+ \| (`[^|]+`) \|", section("What it logs"), re.MULTILINE)
    codes = [code for cell in rows for code in re.findall(r"`([^`]+)`", cell)]
    own = {
        _connections.NO_ADDRESS,
        _connections.PER_HOST,
        _connections.TOTAL,
        _connections.CLOSING,
        _connections.CROWDED_OUT,
        _connections.LOCAL,
        _connections.INTERNAL,
        Cause.LOCAL_CLOSE.value,
        Cause.CLOSE_TIMEOUT.value,
    }
    faults = {fault.value for fault in Fault if fault is not Fault.PEER_REFUSED}  # a client's alone
    assert sorted(codes) == sorted(own | faults | {failure.value for failure in Failure})


def test_numbers() -> None:
    """FR-29: each limit that the page has."""
    text, configuration = section("What a client may hold"), ServerConfiguration()
    assert f"`max_connections` ({_limits.MAX_CONNECTIONS})" in text
    assert f"`max_connections_per_host` ({_limits.MAX_CONNECTIONS_PER_HOST})" in text
    assert f"the system's queue, of {_listening.BACKLOG:,}" in text
    assert f"`max_outstanding` ({configuration.max_outstanding})" in text
    assert f"`max_queries` ({configuration.max_queries:,})" in text
    assert f"`close_timeout` ({configuration.close_timeout:.0f} s)" in text
    assert f"({configuration.idle_timeout + configuration.idle_grace:.0f} s)" in text
    assert (configuration.max_outstanding_octets, _server.MAX_UNSENT, _server.BATCH_SIZE) == (2**20, 4 * 2**20, 2**16)
    assert configuration.max_duration is None
    assert [*_transport.KEEPALIVE.values()] == [60, 60, 15, 4]
    assert (_reports.BURST, _reports.INTERVAL, _accepting.ACCEPT_PAUSE) == (10, 5.0, 0.1)
