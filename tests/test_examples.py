"""The examples run, as a reader would run them: as programs, against a server on this machine."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from dot_io.blocking import Peer, serve
from dot_io.tls import ServerContext
from dot_proto import Pin

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = ["one.example", "two.example", "nothing.example"]
NAME = "dot.example"
TIME_LIMIT = 10.0
"Seconds for one run; a client that nobody closes would stay for 12, the server's idle timeout and grace."

needs_twisted = pytest.mark.skipif(
    importlib.util.find_spec("twisted") is None, reason="Twisted is not installed: pip install 'twisted>=24'"
)
both = pytest.mark.parametrize("example", ["own_loop.py", pytest.param("twisted_client.py", marks=needs_twisted)])


class Site:
    """A server that answers all names but ``nothing.example`` with NOERROR, and never ``silent.example``."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        certificate = authority.issue_cert(NAME, "127.0.0.1")
        self.ca, self.chain = folder / "ca.pem", folder / "chain.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        certificate.private_key_and_cert_chain_pem.write_to_path(str(self.chain))
        self.pin = str(Pin.of_certificate(certificate.cert_chain_pems[0].bytes()))
        self.wrong_pin = str(Pin.of_certificate(authority.cert_pem.bytes()))
        self.asked: list[bytes] = []
        self.port = 0

    def answer(self, message: bytes, peer: Peer) -> bytes | None:
        """The query, turned into a response."""
        self.asked.append(message)
        rcode = 3 if b"\x07nothing" in message else 0
        return None if b"\x06silent" in message else message[:2] + bytes([0x81, 0x80 | rcode]) + message[4:]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    with serve(made.answer, ServerContext(made.chain), port=0) as server:
        made.port = server.port
        yield made


def run(example: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, EXAMPLES / example, "127.0.0.1", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)


@both
def test_example_prints_every_answer(example: str, site: Site) -> None:
    """Padded responses (RFC 8467, section 4.1: 468 octets) to several queries on one connection (RFC 7766, 6.2.1.1)."""
    done = run(example, *NAMES, f"--port={site.port}", f"--ca={site.ca}", f"--name={NAME}", f"--pin={site.pin}")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == [
        "nothing.example: 468 octets, rcode 3",
        "one.example: 468 octets, rcode 0",
        "two.example: 468 octets, rcode 0",
    ]
    assert len(site.asked) == len(NAMES)


@both
@pytest.mark.parametrize("how", ["pin", "address"])
def test_example_authenticates_by_a_pin_alone_or_by_the_address(example: str, how: str, site: Site) -> None:
    """With neither name nor pin, the certificate must be for the address that is dialled (RFC 8310, section 5)."""
    trust = f"--pin={site.pin}" if how == "pin" else f"--ca={site.ca}"
    done = run(example, *NAMES, f"--port={site.port}", trust)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(NAMES)


@both
def test_example_asks_nothing_of_a_server_that_is_refused(example: str, site: Site) -> None:
    """AUT: no query octet leaves before the peer is authenticated, whoever drives the engine (RFC 7858, 4.2)."""
    done = run(example, *NAMES, f"--port={site.port}", f"--pin={site.wrong_pin}")
    assert done.returncode == 1
    assert "refused" in done.stderr
    assert sorted(done.stdout.splitlines()) == sorted(f"{name}: no answer" for name in NAMES)
    assert site.asked == []


@both
def test_example_gives_up_on_time_and_takes_the_other_answers(example: str, site: Site) -> None:
    """The driver's timer works: a query that is never answered ends by its own deadline, and then all is over."""
    names = ["one.example", "silent.example"]
    done = run(example, *names, f"--port={site.port}", f"--pin={site.pin}", "--timeout=0.3")
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["one.example: 468 octets, rcode 0", "silent.example: no answer"]
    assert done.stderr == ""


@both
def test_example_says_why_there_is_no_connection(example: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = run(example, *NAMES, f"--port={port}")
    assert done.returncode == 1
    assert "refused" in done.stderr
    assert "Traceback" not in done.stderr


@both
@pytest.mark.parametrize("wrong", [["--pin=short"], ["--ca=/nowhere/ca.pem"], ["--name=*"]])
def test_example_refuses_a_command_line_that_makes_no_sense(example: str, wrong: list[str]) -> None:
    done = run(example, *NAMES, *wrong)
    assert done.returncode == 2
    assert "usage:" in done.stderr
