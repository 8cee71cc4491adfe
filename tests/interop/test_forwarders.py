"""Other people's resolvers ask our servers: Stubby, Unbound, Knot Resolver, dnsdist."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import dns.message
import pytest

from conformance.adapters import BACKENDS, Backend, Running
from dot_io.blocking import Peer
from interop.forwarders import forwarder
from support.credentials import Credentials
from support.peers import answer, name_in

pytestmark = pytest.mark.interop

NAMES = [f"host-{number}" for number in range(60)]

RESOLVERS = ["stubby", "unbound", "kresd", "dnsdist"]

TIMEOUT = 5.0
"Seconds for the next answer, on a loaded machine."

TRIES = 10
"Rounds of all names, of which one loses something."


class Site:
    """A handler that remembers who asked what."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.peers: set[tuple[str, int]] = set()

    def __call__(self, query: bytes, peer: Peer) -> bytes:
        self.asked.append(name_in(query).lower())  # Knot Resolver mixes upper and lower case
        self.peers.add((peer.host, peer.port))
        return answer(query)


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def server(api: Backend, site: Site, credentials: Credentials) -> Iterator[Running]:
    with api.serving(site, credentials.context) as running:
        yield running


def ask(port: int, *names: str, timeout: float = TIMEOUT) -> set[str]:
    """Over UDP, all at a time, as a resolver's clients do: which names got the answer that our server gives."""
    answered: set[str] = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        for number, name in enumerate(names):
            sock.send(dns.message.make_query(f"{name}.example", "A", id=number).to_wire())
        with suppress(TimeoutError):
            for _ in names:
                sock.settimeout(timeout)
                response = dns.message.from_wire(sock.recv(4096))
                if [record.to_text() for records in response.answer for record in records] == ["192.0.2.1"]:
                    answered.add(names[response.id])
    return answered


@pytest.mark.parametrize("name", RESOLVERS)
def test_a_resolver_that_asks_us_gets_every_answer(
    name: str, server: Running, site: Site, credentials: Credentials, tmp_path: Path
) -> None:
    """SRV-2: over connections that are used again (RFC 7766, section 6.2.1); it trusts our name and our root."""
    with forwarder(name, tmp_path, credentials, server.port) as port:
        assert ask(port, "first") == {"first"}
        assert ask(port, *NAMES) == set(NAMES)
    assert set(site.asked) >= {"first", *NAMES}
    assert len(site.peers) < len(NAMES) / 2


@pytest.mark.parametrize("name", RESOLVERS)
def test_a_resolver_that_does_not_trust_us_asks_nothing(
    name: str, site: Site, credentials: Credentials, tmp_path: Path
) -> None:
    """RFC 8310, section 5: it wants a certificate under another root, and our server sees no query."""
    distrusting = replace(credentials, root_file=credentials.stranger_file)
    with (
        BACKENDS[1].serving(site, credentials.context) as server,
        forwarder(name, tmp_path, distrusting, server.port) as port,
    ):
        assert not ask(port, "first", timeout=1.0)
    assert site.asked == []


@pytest.mark.parametrize("name", ["stubby", "dnsdist"])
def test_responses_that_share_a_record_are_lost_on_some(
    name: str, api: Backend, site: Site, credentials: Credentials, tmp_path: Path
) -> None:
    """FR-57: why sharing is no default.

    These read one message, then wait for TCP, while the others lie decrypted in their TLS library.
    """
    with (
        api.serving(site, credentials.context, share_records=True) as server,
        forwarder(name, tmp_path, credentials, server.port) as port,
    ):
        assert ask(port, "first")
        if all(len(ask(port, *NAMES, timeout=0.5)) == len(NAMES) for _ in range(TRIES)):
            pytest.skip(f"in {TRIES} tries {name} lost nothing: this version copes")
