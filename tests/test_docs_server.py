"""docs/server.md: its code does what it says, its files are there, and its figures are those of the code.

What it tells HAProxy and dnsdist is told them in ``interop/test_proxies.py``; what it says of the example is done with
it in ``test_example_server.py``.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dot_io._server import CLOSE_TIMEOUT
from dot_io.tls import ClientContext, HandshakeCompleted, ServerContext, TLSServer
from dot_proto import AuthenticationPolicy, ServerConfiguration
from support.pki import NAME, Pki
from support.pki import pki_fixture as pki_fixture
from support.wire import Clock, Wire, make_client, the

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "server.md"
TEXT = PAGE.read_text("utf-8")


def block(section: str, number: int) -> str:
    """The code of a section."""
    text = re.split(r"^## ", TEXT, flags=re.MULTILINE)
    [found] = [part for part in text if part.startswith(f"{section}\n")]
    return re.findall(r"^```python\n(.*?)^```$", found, re.DOTALL | re.MULTILINE)[number]


def run(section: str, number: int) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "operator"}
    exec(compile(block(section, number), f"{PAGE.name}, {section}", "exec"), names)
    return names


@pytest.fixture(autouse=True)
def _files(pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "chain.pem").write_bytes(pki.leaf.pem + pki.intermediate.pem)
    (tmp_path / "key.pem").write_bytes(pki.leaf.key_pem)
    for name, leaf in (("ecdsa", pki.leaf), ("rsa", pki.rsa)):
        (tmp_path / f"{name}.pem").write_bytes(leaf.key_pem + leaf.pem + pki.intermediate.pem)
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


def shown(pki: Pki, context: ServerContext, *, suites: str = "", name: str = NAME) -> bytes | None:
    """The certificate that a client gets, which knows TLS 1.2 alone where it has suites of its own."""
    policy = AuthenticationPolicy.opportunistic(name)
    client = ClientContext(policy, maximum_version=ssl.TLSVersion.TLSv1_2 if suites else None)
    if suites:
        client._context.set_ciphers(suites)
    clock = Clock()
    wire = Wire(make_client(client, clock), TLSServer(context, now=clock.now), clock=clock)
    return the(HandshakeCompleted, wire.flow().client_events).peer_certificate


def test_a_signal_renews_the_certificate(pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """FR-30: as certbot's hook does it; what is half renewed is told in the log, and waits for the next signal."""
    context = run("Certificates", 0)["context"]
    assert shown(pki, context) == pki.leaf.der
    (tmp_path / "chain.pem").write_bytes(pki.rsa.pem + pki.intermediate.pem)
    os.kill(os.getpid(), signal.SIGHUP)
    assert shown(pki, context) == pki.leaf.der
    assert [record.getMessage() for record in caplog.records] == ["the certificate stays as it was"]
    (tmp_path / "key.pem").write_bytes(pki.rsa.key_pem)
    os.kill(os.getpid(), signal.SIGHUP)
    assert shown(pki, context) == pki.rsa.der


def test_two_certificates(pki: Pki) -> None:
    """FR-35: each client gets the one that it can check."""
    context = run("Certificates", 1)["two_certificates"]
    assert shown(pki, context, suites="ECDHE-RSA-AES128-GCM-SHA256") == pki.rsa.der
    assert shown(pki, context, suites="ECDHE-ECDSA-AES128-GCM-SHA256") == pki.leaf.der
    assert shown(pki, context) == pki.leaf.der


@pytest.mark.parametrize(
    ("name", "kind"), [(NAME, "leaf"), ("other.example", "rsa"), ("unknown.example", "leaf"), ("192.0.2.1", "leaf")]
)
def test_certificates_by_name(pki: Pki, name: str, kind: str) -> None:
    """FR-35: by SNI; whoever sends no name, as for an address, gets the first."""
    assert shown(pki, run("Certificates", 1)["certificates_by_name"], name=name) == getattr(pki, kind).der


def test_a_load_balancer(pki: Pki) -> None:
    """FR-34: from the networks of the example, and from nobody else."""
    with run("Behind a load balancer", 0)["server"] as server:
        proxies = server._table._proxies
        assert [host in proxies for host in ("10.1.2.3", "2001:db8::1", "127.0.0.1")] == [True, True, False]


@pytest.mark.parametrize("count", [1, 2])
def test_sockets_of_systemd(count: int) -> None:
    """FR-33: LISTEN_FDS sockets from descriptor 3 on (sd_listen_fds(3)), for the process LISTEN_PID alone."""
    code = (
        "import json, os\n"
        "os.environ['LISTEN_PID'] = str(os.getpid())\n"
        f"exec({block('Sockets', 0)!r})\n"
        "mine = [sock.getsockname() for sock in sockets]\n"
        "os.environ['LISTEN_PID'] = '1'\n"
        f"exec({block('Sockets', 0)!r})\n"
        "print(json.dumps([mine, sockets]), flush=True)\n"
        "os._exit(0)\n"
    )
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    numbers = [sock.fileno() for sock in sockets]
    # As systemd hands them over: from number 3 on, and no others.
    program = (
        "import os, sys\n"
        f"kept = [os.dup(number) for number in {numbers}]\n"
        "high = [os.dup2(number, 100 + at) for at, number in enumerate(kept)]\n"
        "[os.dup2(number, 3 + at) for at, number in enumerate(high)]\n"
        f"os.environ['LISTEN_FDS'] = '{count}'\n"
        f"os.execv(sys.executable, [sys.executable, '-c', {code!r}])\n"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], pass_fds=numbers, capture_output=True, text=True, check=True
        )
        mine, others = json.loads(done.stdout)
        assert [tuple(address) for address in mine] == [sock.getsockname() for sock in sockets]
        assert others == []
    finally:
        for sock in sockets:
            sock.close()


def test_what_it_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", TEXT):
        assert (PAGE.parent / target).exists(), target


def test_its_figures_are_those_of_the_code() -> None:
    idle = ServerConfiguration().idle_timeout + ServerConfiguration().idle_grace
    assert f"the {idle:.0f} seconds after which an\nidle client" in TEXT
    assert f"at most {CLOSE_TIMEOUT:.0f} seconds\n  (`Server.close(timeout)`)" in TEXT
    assert len((ROOT / "examples" / "server.py").read_text("utf-8").splitlines()) < 175


def test_length() -> None:
    """A page that is read to its end."""
    assert len(TEXT.splitlines()) < 250
