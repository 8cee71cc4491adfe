"""Where a server listens: several addresses, both families, sockets that somebody else has bound, ports shared."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from conformance.adapters import Backend
from conformance.identities import Identities
from conformance.test_servers import is_served
from dot_io._listening import listening
from dot_proto import LocalProtocolError
from support.peers import GIVE_UP, RawClient, answer


@pytest.fixture(name="ipv6")
def ipv6_fixture() -> None:
    """Skips the test on a machine without IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback address (::1)")


def client_of(address: tuple[str, int]) -> RawClient:
    return RawClient(address[1], host=address[0])


def test_every_address_of_the_machine(api: Backend, identities: Identities, ipv6: None) -> None:
    """FR-33: both families, by a socket for each."""
    with api.serving(answer, identities.server, host=None) as server:
        assert [host for host, _ in server.addresses] == ["0.0.0.0", "::"]
        assert (server.host, server.port) == server.addresses[0]
        for (_, port), host in zip(server.addresses, ("127.0.0.1", "::1"), strict=True):
            with client_of((host, port)) as client:
                assert is_served(client)


def test_a_machine_with_one_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """FR-33: what the kernel does not know is no address of the machine."""

    class OnlyIPv4(socket.socket):
        def __init__(self, family: int = -1, *arguments: Any, **options: Any) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, *arguments, **options)

    monkeypatch.setattr(socket, "socket", OnlyIPv4)
    with listening(None, 0, None, False) as listeners:
        [(host, port)] = listeners.addresses
        assert host == "0.0.0.0"
        socket.create_connection(("127.0.0.1", port)).close()
        for one in listeners.sockets:
            one.close()


def test_several_addresses_share_the_limits(api: Backend, identities: Identities) -> None:
    """FR-33: one place for clients of both; who comes by the other address waits until it is free."""
    hosts = ["127.0.0.1", "127.0.0.2"]
    with api.serving(answer, identities.server, host=hosts, max_connections=1) as server, ThreadPoolExecutor() as pool:
        assert [host for host, _ in server.addresses] == hosts
        for here, there in (server.addresses, server.addresses[::-1]):
            with client_of(here) as first:
                assert is_served(first)
                second = pool.submit(client_of, there)
                assert is_served(first)
                with pytest.raises(TimeoutError):
                    second.result(0.05)
                first.reset()
                with second.result(GIVE_UP) as client:
                    assert is_served(client)


def test_one_address_that_cannot_be_had(api: Backend, identities: Identities) -> None:
    """FR-33: the error names it, and none of the others stays open."""

    async def scenario(api: Backend, port: int) -> None:
        with pytest.raises(OSError, match=rf"in use .*'127\.0\.0\.1', {port}"):
            async with api.serve(answer, identities.server, host=["127.0.0.2", "127.0.0.1"], port=port):
                pytest.fail("it listens")
        socket.create_server(("127.0.0.2", port)).close()

    with socket.create_server(("127.0.0.1", 0)) as taken:
        api.run(scenario, taken.getsockname()[1])


# Sockets of somebody else's.


@pytest.mark.parametrize("timeout", [None, 0.0, 0.01], ids=repr)
@pytest.mark.parametrize("is_listening", [True, False])
def test_a_socket_given(api: Backend, identities: Identities, is_listening: bool, timeout: float | None) -> None:
    """FR-33: bound already; it is the server's from then on, which closes it."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    if is_listening:
        sock.listen(5)
    sock.settimeout(timeout)
    address = sock.getsockname()
    with api.serving(answer, identities.server, **given(sock=sock)) as server:
        assert server.addresses == (address,)
        with client_of(address) as client:
            assert is_served(client)
    assert sock.fileno() == -1


def given(**options: Any) -> dict[str, Any]:
    """The helper would give a port of its own."""
    return {"port": 853, **options}


def test_several_sockets_given(api: Backend, identities: Identities) -> None:
    """FR-33: of the server together."""
    sockets = [socket.create_server((host, 0)) for host in ("127.0.0.1", "127.0.0.2")]
    with api.serving(answer, identities.server, **given(sock=tuple(sockets))) as server, ExitStack() as stack:
        assert server.addresses == tuple(sock.getsockname() for sock in sockets)
        for address in server.addresses:
            assert is_served(stack.enter_context(client_of(address)))
    assert {sock.fileno() for sock in sockets} == {-1}


def test_who_else_has_the_socket_goes_on_listening(api: Backend, identities: Identities) -> None:
    """FR-33: systemd keeps it over a restart of the service, and other processes may accept from it too."""
    with socket.create_server(("127.0.0.1", 0)) as kept:
        with (
            api.serving(answer, identities.server, **given(sock=kept.dup())) as server,
            RawClient(server.port) as client,
        ):
            assert is_served(client)
        with socket.create_connection(kept.getsockname()):
            kept.settimeout(5.0)
            accepted, _ = kept.accept()
            accepted.close()


def test_who_waits_at_a_shared_socket_is_left_to_others(api: Backend, identities: Identities) -> None:
    """FR-33: who has connected while the service restarts is served by the next process."""
    with socket.create_server(("127.0.0.1", 0)) as kept, socket.socket() as waiting:
        with (
            api.serving(answer, identities.server, max_connections=1, **given(sock=kept.dup())) as server,
            RawClient(server.port) as client,
        ):
            assert is_served(client)
            waiting.connect(kept.getsockname())
            server.close()
        kept.settimeout(5.0)
        accepted, _ = kept.accept()
        with accepted:
            assert accepted.getpeername() == waiting.getsockname()


def test_a_client_of_ipv4_on_a_socket_of_both_families(api: Backend, identities: Identities, ipv6: None) -> None:
    """FR-33: it is known by its own address, not as one of ::ffff:0:0/64, where all of IPv4 would share one limit."""
    hosts = []

    def handler(query: bytes, peer: Any) -> bytes:
        hosts.append(peer.host)
        return answer(query)

    sock = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    with api.serving(handler, identities.server, **given(sock=sock)) as server, RawClient(server.port) as client:
        assert is_served(client)
    assert hosts == ["127.0.0.1"]


@contextmanager
def connected() -> Iterator[socket.socket]:
    """A socket that was accepted from one that listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        sock, _ = listener.accept()
        with sock:
            yield sock


@contextmanager
def wrapped() -> Iterator[socket.socket]:
    """A listening socket that speaks TLS."""
    with ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_socket(socket.create_server(("127.0.0.1", 0))) as sock:
        yield sock


@contextmanager
def closed() -> Iterator[socket.socket]:
    sock = socket.socket()
    sock.close()
    yield sock


@contextmanager
def datagrams() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


@contextmanager
def unix() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("\0dot_io")
        sock.listen()
        yield sock


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (closed, "number 1 is one that is closed"),
        (socket.socket, r"number 1 is one that is not bound: bind\(\) it"),
        (connected, "number 1 is one that is connected: give the one that it was accepted from"),
        (wrapped, "number 1 is one that speaks TLS, which is our part: give it unwrapped"),
        (datagrams, "number 1 is one of AF_INET and SOCK_DGRAM: clients are told apart by their addresses"),
        (unix, "number 1 is one of AF_UNIX and SOCK_STREAM: clients are told apart by their addresses"),
    ],
)
def test_a_socket_that_will_not_do(api: Backend, identities: Identities, make: Callable[[], Any], words: str) -> None:
    """FR-33: it is told why, and stays its owner's, as do those beside it."""

    async def scenario(api: Backend) -> None:
        with make() as wrong, socket.socket() as right:
            right.bind(("127.0.0.1", 0))
            before = wrong.fileno()
            for sock, text in ((wrong, words), ([right, wrong], words.replace("number 1", "number 2"))):
                with pytest.raises(LocalProtocolError, match=rf"^sock must be a listening socket .*, not .*: {text}"):
                    async with api.serve(answer, identities.server, sock=sock):
                        pytest.fail("it serves")
            assert wrong.fileno() == before
            assert not right.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)

    api.run(scenario)


@pytest.mark.parametrize(
    "options", [{"host": None}, {"host": "127.0.0.2"}, {"port": 0}, {"reuse_port": True}], ids=repr
)
def test_a_socket_and_an_address(api: Backend, identities: Identities, options: dict[str, Any]) -> None:
    """FR-33: one of them would be passed over."""

    async def scenario(api: Backend) -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            with pytest.raises(LocalProtocolError, match="sock takes the place of host, port and reuse_port"):
                async with api.serve(answer, identities.server, sock=sock, **options):
                    pytest.fail("it serves")
            assert sock.fileno() != -1
            with pytest.raises(LocalProtocolError, match="number 2 is one that stands in it twice"):
                async with api.serve(answer, identities.server, sock=[sock, sock]):
                    pytest.fail("it serves")

    api.run(scenario)


# A port of several processes.


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="this system lets no two sockets share a port")
def test_two_servers_on_one_port(api: Backend, identities: Identities) -> None:
    """FR-33: the system shares clients out among them; who did not ask for it cannot get in."""
    served = {1: 0, 2: 0}

    def handler(number: int) -> Callable[..., bytes]:
        def counted(query: bytes, peer: object) -> bytes:
            served[number] += 1
            return answer(query)

        return counted

    async def third(api: Backend, port: int) -> None:
        with pytest.raises(OSError, match="in use"):
            async with api.serve(answer, identities.server, port=port):
                pytest.fail("it serves")

    with (
        api.serving(handler(1), identities.server, reuse_port=True) as first,
        api.serving(handler(2), identities.server, reuse_port=True, port=first.port),
    ):
        for _ in range(60):  # one of them gets all by a chance of 2 ** -59
            with RawClient(first.port) as client:
                assert is_served(client)
            if all(served.values()):
                break
        assert all(served.values())
        api.run(third, first.port)


def test_a_system_without_shared_ports(api: Backend, identities: Identities, monkeypatch: pytest.MonkeyPatch) -> None:
    """FR-33: as Windows."""
    monkeypatch.delattr(socket, "SO_REUSEPORT", raising=False)

    async def scenario(api: Backend) -> None:
        with pytest.raises(LocalProtocolError, match="reuse_port must be False here: this system has no SO_REUSEPORT"):
            async with api.serve(answer, identities.server, port=0, reuse_port=True):
                pytest.fail("it serves")

    api.run(scenario)
