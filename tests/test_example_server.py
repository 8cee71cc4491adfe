"""``examples/server.py`` runs, as an operator would run it: started, asked, given a new certificate, ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import pytest
import trustme

from dot_io.blocking import connect
from dot_io.errors import AuthenticationError
from dot_proto import AuthenticationPolicy, Pin, ResponseReceived, certificates_from, make_query
from support.programs import free_port

SERVER = Path(__file__).parents[1] / "examples" / "server.py"

NAME = "dot.example"

HOST = "127.0.0.1"

PROCESSES = 2

TIME_LIMIT = 20.0
"Seconds for anything to happen."

TRIES = 16
"Connections: that none of them comes to one of two processes happens once in 65,536 times."

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a process for each core is forked")


class Site:
    """A file with key and chain, which can be renewed, and whom to trust."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.file, self.log = folder / "server.pem", folder / "log"
        self.anchors = certificates_from(self._authority.cert_pem.bytes())
        self.pin = self.renew()

    def renew(self) -> Pin:
        """Put a new key and a new certificate into the file."""
        leaf = self._authority.issue_cert(NAME)
        self.file.write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
        self.pin = Pin.of_certificate(leaf.cert_chain_pems[0].bytes())
        return self.pin

    def policy(self, pin: Pin | None = None) -> AuthenticationPolicy:
        return AuthenticationPolicy.strict(NAME, pins=[pin or self.pin], trust_anchors=self.anchors)

    def logged(self, text: str) -> int:
        """How often the processes have said that."""
        return self.log.read_text("utf-8").count(text)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def until(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + TIME_LIMIT
    while not condition():
        assert time.monotonic() < limit, "it does not happen"
        time.sleep(0.01)


@contextmanager
def running(site: Site, *before: str | Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The example, from when all its processes listen."""
    command = [*before, sys.executable, SERVER, site.file, f"--processes={PROCESSES}"]
    where = [] if before else [f"--host={HOST}", f"--port={port}"]
    with site.log.open("wb") as log:
        process = subprocess.Popen([*command, *where], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until(lambda: process.poll() is not None or site.logged("server: listening on") == PROCESSES)
        assert process.poll() is None, site.log.read_text("utf-8")
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        process.wait(TIME_LIMIT)
        print(site.log.read_text("utf-8"))


def ask(site: Site, port: int, name: str) -> dns.message.Message:
    with connect(HOST, site.policy(), port=port) as client:
        return dns.message.from_wire(client.query(make_query(name)))


def test_it_answers_what_its_zone_holds_and_refuses_the_rest(site: Site) -> None:
    port = free_port()
    with running(site, port=port):
        found = ask(site, port, "www.home.example")
        assert [str(record) for record in found.answer[0]] == ["192.0.2.80"]
        assert found.flags & dns.flags.AA
        missing = ask(site, port, "nothing.home.example")
        assert (missing.rcode(), missing.authority[0].rdtype.name) == (dns.rcode.NXDOMAIN, "SOA")
        assert ask(site, port, "example.com").rcode() == dns.rcode.REFUSED


def test_a_renewed_certificate_is_shown_after_sighup_by_every_process(site: Site) -> None:
    """FR-30: connections that are open go on; a file that cannot be used changes nothing."""
    port, old = free_port(), site.pin
    with running(site, port=port) as process, connect(HOST, site.policy(), port=port) as client:
        site.renew()
        process.send_signal(signal.SIGHUP)
        until(lambda: site.logged("has been read anew") == PROCESSES)
        for _ in range(TRIES):
            ask(site, port, "www.home.example")
        with pytest.raises(AuthenticationError), connect(HOST, site.policy(old), port=port):
            pass
        site.file.write_text("no certificate", "ascii")
        process.send_signal(signal.SIGHUP)
        until(lambda: site.logged("the certificate stays as it was: ") == PROCESSES)
        ask(site, port, "www.home.example")
        assert client.query(make_query("www.home.example"))


def test_sigterm_ends_it_once_what_was_asked_is_answered(site: Site) -> None:
    """Exit status 0, no child left behind, and no query lost."""
    port = free_port()
    with running(site, port=port) as process, connect(HOST, site.policy(), port=port) as client:
        queries = [make_query("www.home.example")] * 500
        fates = client.query_many(queries, max_in_flight=len(queries))
        first = next(fates)
        process.send_signal(signal.SIGTERM)
        answered = [first, *fates]
        assert process.wait(TIME_LIMIT) == 0
    assert len(answered) == len(queries)
    assert all(isinstance(fate, ResponseReceived) for _, fate in answered)


def test_when_one_process_fails_all_end(site: Site) -> None:
    """So that whoever watches the first one starts all of them again."""
    port = free_port()
    with running(site, port=port) as process:
        one = int(site.log.read_text("utf-8").split()[0])
        os.kill(one, signal.SIGKILL)
        assert process.wait(TIME_LIMIT) == 1


@pytest.mark.parametrize("wrong", ["no certificate", None])
def test_a_certificate_that_cannot_be_used_is_said_at_once(site: Site, wrong: str | None) -> None:
    if wrong is None:
        site.file.unlink()
    else:
        site.file.write_text(wrong, "ascii")
    command = [sys.executable, SERVER, site.file, "--processes=1", f"--port={free_port()}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    assert done.returncode == 1
    assert str(site.file) in done.stderr
    assert "Traceback" not in done.stderr


def test_when_the_first_process_is_killed_all_end(site: Site) -> None:
    """Else they would hold the port, with a certificate that nobody renews."""
    port = free_port()
    with running(site, port=port) as process:
        process.kill()
        process.wait(TIME_LIMIT)

        def is_free() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex((HOST, port)) != 0

        until(is_free)


def test_a_reload_that_hangs_does_not_hold_up_the_end(site: Site) -> None:
    """As where the certificate lies on a disk that does not answer; here it is a pipe that nobody writes to."""
    with running(site, port=free_port()) as process:
        site.file.unlink()
        os.mkfifo(site.file)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIME_LIMIT) == 0
