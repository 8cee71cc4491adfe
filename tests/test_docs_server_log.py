"""docs/server-log.md: the tables have every code, and the numbers are true."""

from __future__ import annotations

import re
from pathlib import Path

from dot_io import _accepting, _connections, _limits, _listening, _reports, _server, _transport
from dot_io.errors import Failure
from dot_proto import Cause, Fault, ServerConfiguration

TEXT = (Path(__file__).parents[1] / "docs" / "server-log.md").read_text("utf-8")


def section(title: str) -> str:
    _, _, text = TEXT.partition(f"\n## {title}\n")
    return text.partition("\n## ")[0]


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
