"""Other people's clients against our servers, on every backend: kdig, dnspython, dnsperf."""

from __future__ import annotations

import re
import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest

from conformance.adapters import BACKENDS, Running
from dot_io.blocking import Peer
from dot_proto import RESPONSE_BLOCK, Pin
from support.credentials import NAME, Credentials
from support.messages import TXT, record, response_to
from support.peers import answer, name_in
from support.programs import require, run

pytestmark = pytest.mark.interop

NXDOMAIN, SERVFAIL = 3, 2


class Site:
    """A handler that remembers who asked what."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.peers: set[Peer] = set()

    def __call__(self, query: bytes, peer: Peer) -> bytes:
        name = name_in(query)
        self.asked.append(name)
        self.peers.add(peer)
        if name == "nothing":
            return response_to(query, rcode=NXDOMAIN)
        if name == "large":
            return response_to(query, record(kind=TXT, data=(b"\xff" + b"x" * 255) * 240))
        if name == "failure":
            raise ZeroDivisionError
        return answer(query)


@pytest.fixture
def site() -> Site:
    return Site()


BLOCKING, *_ = BACKENDS
SERVERS = {**{repr(backend): (backend, {}) for backend in BACKENDS}, "blocking, no workers": (BLOCKING, {"workers": 0})}


@pytest.fixture(params=SERVERS)
def server(credentials: Credentials, site: Site, request: pytest.FixtureRequest) -> Iterator[Running]:
    backend, options = SERVERS[request.param]
    with backend.serving(site, credentials.context, **options) as running:
        yield running


@pytest.fixture
def kdig(server: Running) -> list[str]:
    """The command up to the server; one try, so that what is counted is what was asked."""
    return [require("kdig", "knot-dnsutils"), "-d", "@127.0.0.1", "-p", str(server.port), "+retry=0", "+timeout=5"]


def test_kdig_authenticates_us_by_name(kdig: list[str], credentials: Credentials) -> None:
    """The answer is padded to 468 octets, since kdig pads over TLS (RFC 8467, section 4.1)."""
    done = run(*kdig, f"+tls-ca={credentials.root_file}", f"+tls-hostname={NAME}", "one.example")
    assert done.returncode == 0
    assert "The certificate is trusted" in done.stdout
    assert str(credentials.leaf_pin) in done.stdout
    assert "status: NOERROR" in done.stdout
    assert re.search(r"PADDING: \d+ B", done.stdout)
    assert f"Received {RESPONSE_BLOCK} B" in done.stdout
    assert "192.0.2.1" in done.stdout


def test_kdig_authenticates_us_by_pin(kdig: list[str], credentials: Credentials) -> None:
    done = run(*kdig, f"+tls-pin={credentials.leaf_pin}", "one.example")
    assert done.returncode == 0
    assert "status: NOERROR" in done.stdout


@pytest.mark.parametrize("mistake", ["name", "pin"])
def test_kdig_refuses_us_for_another(kdig: list[str], site: Site, credentials: Credentials, mistake: str) -> None:
    trust = f"+tls-pin={Pin(bytes(32))}" if mistake == "pin" else "+tls-hostname=other.example"
    assert run(*kdig, f"+tls-ca={credentials.root_file}", trust, "one.example").returncode != 0
    assert site.asked == []


def test_padding_follows_the_query(kdig: list[str], credentials: Credentials) -> None:
    """PAD-3, PAD-4: also when kdig pads to a size of its own; not at all when it does not pad."""
    trust = f"+tls-pin={credentials.leaf_pin}"
    assert f"Received {RESPONSE_BLOCK} B" in run(*kdig, trust, "+padding=300", "one.example").stdout
    unpadded = run(*kdig, trust, "+nopadding", "+edns", "one.example").stdout
    assert "PADDING" not in unpadded
    assert f"Received {RESPONSE_BLOCK} B" not in unpadded
    assert "EDNS PSEUDOSECTION" in unpadded


def test_every_status_reaches_kdig(kdig: list[str], credentials: Credentials) -> None:
    trust = f"+tls-pin={credentials.leaf_pin}"
    assert "status: NXDOMAIN" in run(*kdig, trust, "nothing.example").stdout
    assert "status: SERVFAIL" in run(*kdig, trust, "failure.example").stdout
    large = run(*kdig, trust, "large.example", "TXT").stdout
    received = re.search(r"Received (\d+) B", large)
    assert received is not None
    assert int(received[1]) > 61_000
    assert int(received[1]) % RESPONSE_BLOCK == 0


def test_kdig_keeps_one_connection_open(kdig: list[str], site: Site, credentials: Credentials) -> None:
    """CON-1: three names, one client port."""
    names = ["one.example", "two.example", "three.example"]
    done = run(*kdig, f"+tls-pin={credentials.leaf_pin}", "+keepopen", *names)
    assert done.stdout.count("status: NOERROR") == 3
    assert site.asked == ["one", "two", "three"]
    assert len(site.peers) == 1


def test_dnspython_asks_us(server: Running, site: Site, credentials: Credentials) -> None:
    """With a verifying context and padding; then several queries over one connection of its own."""
    context = ssl.create_default_context(cafile=str(credentials.root_file))
    where = {"where": "127.0.0.1", "port": server.port, "timeout": 5.0}
    query = dns.message.make_query("one.example", "A", use_edns=0, pad=128)
    response = dns.query.tls(query, ssl_context=context, server_hostname=NAME, **where)
    assert response.answer[0].to_text() == "one.example. 0 IN A 192.0.2.1"
    assert len(response.wire or b"") == RESPONSE_BLOCK
    with (
        socket.create_connection(("127.0.0.1", server.port)) as tcp,
        context.wrap_socket(tcp, server_hostname=NAME) as sock,
    ):
        for name in ("two", "nothing", "failure"):
            response = dns.query.tls(dns.message.make_query(f"{name}.example", "A"), sock=sock, **where)
            assert response.rcode() == {"two": 0, "nothing": dns.rcode.NXDOMAIN, "failure": dns.rcode.SERVFAIL}[name]
    assert site.asked == ["one", "two", "nothing", "failure"]


def test_dnspython_refuses_us_for_another(server: Running, site: Site, credentials: Credentials) -> None:
    context = ssl.create_default_context(cafile=str(credentials.stranger_file))
    with pytest.raises(ssl.SSLCertVerificationError):
        dns.query.tls(
            dns.message.make_query("one.example", "A"),
            "127.0.0.1",
            port=server.port,
            timeout=5.0,
            ssl_context=context,
            server_hostname=NAME,
        )
    assert site.asked == []


def test_dnsperf_loses_nothing_of_a_hundred_thousand(server: Running, site: Site, tmp_path: Path) -> None:
    """SRV-2: pipelined over ten connections; each name is asked once, and what it completed is what we answered."""
    dnsperf = require("dnsperf", "dnsperf")
    names = [f"host-{number}" for number in range(100_000)]
    file = tmp_path / "names"
    file.write_text("".join(f"{name}.example A\n" for name in names))
    where = ["-m", "dot", "-s", "127.0.0.1", "-p", str(server.port)]
    done = run(dnsperf, *where, "-d", file, "-n", "1", "-c", "10", "-q", "1000")
    assert done.returncode == 0
    assert counted("sent", done.stdout) == counted("completed", done.stdout) == len(names)
    assert counted("lost", done.stdout) == 0
    assert f"NOERROR {len(names)} (100.00%)" in done.stdout
    assert Counter(site.asked) == Counter(names)
    assert len(site.peers) == 10


def counted(what: str, report: str) -> int:
    """A number out of dnsperf's statistics."""
    found = re.search(rf"Queries {what}: +(\d+)", report)
    assert found is not None
    return int(found[1])
