"""Behind load balancers that speak the PROXY protocol: who the client is, in limits, in logs, and for the handler."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from conformance.adapters import Backend
from conformance.identities import Identities
from conformance.test_servers import QUERY, is_served
from support.peers import RESET, RawClient, answer

HERE = ["127.0.0.1"]
"Whom the tests connect from."

LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"


def header(host: str, port: int = 40_000) -> bytes:
    """Version 1."""
    kind = "TCP6 {} 2001:db8::1" if ":" in host else "TCP4 {} 198.51.100.1"
    return f"PROXY {kind.format(host)} {port} 853\r\n".encode()


def binary(host: str, port: int = 40_000) -> bytes:
    """Version 2, with a TLV behind the addresses."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    octets = socket.inet_pton(family, host)
    rest = octets + bytes(len(octets)) + port.to_bytes(2) + b"\x03\x55" + b"\x05\0\x02id"
    return b"\r\n\r\n\0\r\nQUIT\n\x21" + (b"\x21" if ":" in host else b"\x11") + len(rest).to_bytes(2) + rest


def client_of(port: int, host: str, make: Callable[[str], bytes] = header) -> RawClient:
    return RawClient(port, first_octets=make(host))


def is_turned_away(port: int, octets: bytes) -> bool:
    """Whether the connection ends, soon and without an answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=5.0) as sock:
        try:
            sock.sendall(octets)
            return sock.recv(100) == b""
        except ConnectionError:
            return True


@contextmanager
def ends_of(api: Backend, identities: Identities, **options: Any) -> Iterator[tuple[Any, list[Any], list[Any]]]:
    """A server that believes us, the peers that its handler was told, and how connections have ended."""
    peers: list[Any] = []
    ends: list[Any] = []

    def handler(query: bytes, peer: Any) -> bytes:
        peers.append(peer)
        return answer(query)

    settings = {"proxy_from": HERE, "on_end": ends.append, **options}
    with api.serving(handler, identities.server, **settings) as server:
        yield server, peers, ends


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("make", [header, binary])
@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::7"])
def test_the_handler_is_told_the_client(
    api: Backend, identities: Identities, make: Callable[[str], bytes], host: str
) -> None:
    """FR-34: its address and port; and so is whoever counts the ends."""
    with ends_of(api, identities) as (server, peers, ends):
        with client_of(server.port, host, make) as client:
            assert is_served(client)
        until(lambda: ends)
    assert [(peer.host, peer.port) for peer in peers] == [(host, 40_000)]
    assert [(end.peer.host, end.peer.port) for end in ends] == [(host, 40_000)]


@pytest.mark.parametrize("make", [header, binary])
def test_a_header_inside_tls(api: Backend, identities: Identities, make: Callable[[str], bytes]) -> None:
    """FR-34: as dnsdist sends it; the place is the client's from then on."""
    with ends_of(api, identities, max_connections_per_host=2) as (server, peers, ends), ExitStack() as stack:
        for number in range(4):
            client = stack.enter_context(RawClient(server.port))
            client.tls.write(make("192.0.2.7"))
            if number < 2:
                assert is_served(client)
            else:
                client.send(QUERY)
                with pytest.raises(EOFError):
                    client.message()
                client.socket.close()
        until(lambda: len(ends) == 2)
    assert [(peer.host, peer.port) for peer in peers] == [("192.0.2.7", 40_000)] * 2
    assert {(end.peer.host, end.reason) for end in ends[:2]} == {("192.0.2.7", "max-connections-per-host")}


def test_no_header_at_all(api: Backend, identities: Identities) -> None:
    """FR-34: TLS comes through, and no query is answered."""
    with ends_of(api, identities) as (server, peers, ends), RawClient(server.port) as client:
        client.send(QUERY)
        with pytest.raises(EOFError):
            client.message()
        client.socket.close()
        until(lambda: ends)
    assert not peers
    assert [(end.peer.host, end.reason) for end in ends] == [("127.0.0.1", "proxy")]


def test_a_header_that_comes_in_pieces_holds_up_nobody(api: Backend, identities: Identities) -> None:
    """FR-34: others are accepted meanwhile."""
    with ends_of(api, identities) as (server, peers, _), socket.socket() as slow:
        slow.connect(("127.0.0.1", server.port))
        for octet in header("192.0.2.7")[:-1]:
            slow.sendall(bytes([octet]))
        with client_of(server.port, "192.0.2.8") as client:
            assert is_served(client)
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    assert [peer.host for peer in peers] == ["192.0.2.8"]


@pytest.mark.parametrize(
    "octets",
    [b"\x15\x03\x01\x00\x02\x02", b"PROXY TCP4 a b c d\r\n", bytes(5000), b"\r\n\r\n\0\r\nQ-"],
)
def test_what_is_no_header_is_turned_away(
    api: Backend, identities: Identities, octets: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """FR-34: at once, and told in the log, with the load balancer's address."""
    with caplog.at_level(logging.INFO, "dot_io"), ends_of(api, identities) as (server, _, ends):
        began = time.monotonic()
        assert is_turned_away(server.port, octets)
        until(lambda: ends)
        assert time.monotonic() - began < 4.0
    assert [(end.peer.host, end.reason) for end in ends] == [("127.0.0.1", "proxy")]
    assert [line for line in caplog.messages if "127.0.0.1" in line and "PROXY" in line]


def test_a_header_that_does_not_come(api: Backend, identities: Identities) -> None:
    """FR-34: within handshake_timeout, in which TLS is too."""
    with ends_of(api, identities, handshake_timeout=0.1) as (server, _, ends):
        assert is_turned_away(server.port, header("192.0.2.7")[:-1])
        assert is_turned_away(server.port, header("192.0.2.7"))
        until(lambda: len(ends) == 2)
    assert [(end.peer.host, end.reason) for end in ends] == [("127.0.0.1", "timed-out"), ("192.0.2.7", "timed-out")]


def test_a_header_from_anybody_else_is_no_tls(api: Backend, identities: Identities) -> None:
    """FR-34: the one who connects is the client, whatever it says."""
    with ends_of(api, identities, proxy_from=["127.0.0.2", "10.0.0.0/8", "::1"]) as (server, peers, ends):
        assert is_turned_away(server.port, header("192.0.2.7"))
        until(lambda: ends)
        with RawClient(server.port) as client:
            assert is_served(client)
    assert [(end.peer.host, end.reason) for end in ends[:1]] == [("127.0.0.1", "not-tls")]
    assert [peer.host for peer in peers] == ["127.0.0.1"]


def test_the_place_is_the_clients(api: Backend, identities: Identities) -> None:
    """FR-34: one connection too many of a client is turned away, however many others its load balancer passes on."""
    with ends_of(api, identities, max_connections_per_host=2) as (server, _, ends), ExitStack() as stack:
        for number in range(5):
            assert is_served(stack.enter_context(client_of(server.port, f"192.0.2.{number}")))
        first = stack.enter_context(client_of(server.port, "192.0.2.77"))
        assert is_served(first)
        assert is_served(stack.enter_context(client_of(server.port, "192.0.2.77")))
        for _ in range(3):
            assert is_turned_away(server.port, header("192.0.2.77"))
        until(lambda: len(ends) == 3)
        assert {(end.peer.host, end.reason) for end in ends} == {("192.0.2.77", "max-connections-per-host")}
        assert is_served(first)
        first.reset()
        until(lambda: len(ends) == 4)
        assert is_served(stack.enter_context(client_of(server.port, "192.0.2.77")))


def test_a_client_in_a_network_of_load_balancers(api: Backend, identities: Identities) -> None:
    """FR-34: it is limited as any other, also with an address that would make it a load balancer."""
    with ends_of(api, identities, max_connections_per_host=1) as (server, _, _), ExitStack() as stack:
        assert is_served(stack.enter_context(client_of(server.port, "127.0.0.1")))
        assert is_turned_away(server.port, header("127.0.0.1"))


@pytest.mark.parametrize("octets", [LOCAL, b"PROXY UNKNOWN\r\n"])
def test_a_load_balancer_of_its_own_accord(api: Backend, identities: Identities, octets: bytes) -> None:
    """FR-34: as in a health check; the load balancer is the client, and may be so often."""
    with ends_of(api, identities, max_connections_per_host=1) as (server, peers, _), ExitStack() as stack:
        for _ in range(3):
            assert is_served(stack.enter_context(RawClient(server.port, first_octets=octets)))
    assert [peer.host for peer in peers] == ["127.0.0.1"] * 3


def test_before_the_header_a_connection_has_a_place(api: Backend, identities: Identities) -> None:
    """FR-34: of all places; where there is none, the oldest without a handshake makes room."""
    with ends_of(api, identities, max_connections=2) as (server, _, ends), ExitStack() as stack:
        for _ in range(2):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            sock.sendall(header("192.0.2.9")[:20])
        assert is_served(stack.enter_context(client_of(server.port, "192.0.2.7")))
        assert is_served(stack.enter_context(client_of(server.port, "192.0.2.8")))
        until(lambda: len(ends) == 2)
        assert {(end.peer.host, end.reason) for end in ends} == {("127.0.0.1", "crowded-out")}


def test_closing_does_not_wait_for_a_header(api: Backend, identities: Identities) -> None:
    """FR-34: as for a handshake."""
    with ends_of(api, identities) as (server, _, ends), socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(header("192.0.2.7")[:20])
        with client_of(server.port, "192.0.2.8") as client:
            assert is_served(client)
        began = time.monotonic()
        server.close(timeout=2.0)
        assert time.monotonic() - began < 1.5
    until(lambda: len(ends) == 2)
