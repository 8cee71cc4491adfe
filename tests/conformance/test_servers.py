"""The server role against clients that ask too much, stay too long, do not read, or do not speak TLS at all."""

from __future__ import annotations

import os
import resource
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from conformance.adapters import Backend
from conformance.identities import Identities
from dot_io._limits import ConnectionLimits
from dot_io._peer import Peer
from dot_io._server import BATCH
from dot_proto import ServerConfiguration, make_query
from support.messages import (
    ANOTHERS,
    CD,
    DO,
    ERROR,
    KEEPALIVE,
    PADDING,
    QR,
    RD,
    message,
    opt,
    option,
    query_of_length,
    question_of,
    record,
    response_to,
    stream_of,
)
from support.peers import GIVE_UP, RawClient, answer, happens, name_in

QUERY = make_query("example.com")

OPT_START = b"\0\0\x29\x04\xd0"
"Root, type OPT, 1232 octets of payload."


def is_served(client: RawClient) -> bool:
    client.send(QUERY)
    return name_in(client.message()) == "example"


@contextmanager
def connecting(port: int) -> Iterator[Callable[[], RawClient]]:
    """A client that connects in a thread of its own; the function waits for it."""
    clients: list[RawClient] = []
    thread = threading.Thread(target=lambda: clients.append(RawClient(port)))
    thread.start()

    def connected() -> RawClient:
        thread.join()
        return clients[0]

    try:
        yield connected
    finally:
        thread.join()
        for client in clients:
            client.socket.close()


def test_more_clients_than_places(api: Backend, identities: Identities) -> None:
    """SRV (RFC 9210, section 4.2): the next client waits until one has left, and is then served."""
    with api.serving(answer, identities.server, max_connections=2) as server:
        with RawClient(server.port) as first, RawClient(server.port) as second:
            assert is_served(first)
            assert is_served(second)
            with connecting(server.port) as third:
                assert is_served(second)
                first.reset()
                assert is_served(third())
        with RawClient(server.port) as fourth:
            assert is_served(fourth)


def test_more_clients_from_one_host_than_allowed(api: Backend, identities: Identities) -> None:
    """SRV (RFC 9210, section 4.2): the next is sent away at once; a place that is given back can be had."""
    with (
        api.serving(answer, identities.server, max_connections_per_host=2) as server,
        RawClient(server.port) as first,
        RawClient(server.port) as second,
    ):
        for _ in range(3):
            assert not _is_served_once(server.port)
        assert is_served(second)
        first.reset()
        _until(lambda: _is_served_once(server.port))


def _is_served_once(port: int) -> bool:
    """Whether a client that connects is served, and not sent away."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5.0) as sock:
        return _is_answered(sock)
    return False


def _is_answered(sock: socket.socket) -> bool:
    """Whether TLS and one query come through on a connected socket, which is closed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(sock) as tls:
        tls.sendall(stream_of([QUERY]))
        return len(tls.recv(2)) > 0


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < deadline


def test_who_counts_as_one_host() -> None:
    """SRV: an IPv4 address, and an IPv6 network of 64 bits, which one client has for itself (RFC 6177)."""
    places = ConnectionLimits(maximum=10, per_host=1)
    assert places.take(Peer("192.0.2.1", 1))
    assert not places.take(Peer("192.0.2.1", 2))
    assert places.take(Peer("192.0.2.2", 3))
    assert places.take(Peer("2001:db8::1", 4))
    assert not places.take(Peer("2001:db8::ffff", 5))
    assert places.take(Peer("2001:db8:0:1::1", 6))
    assert places.take(Peer("fe80::1%eth0", 7))
    places.give_back(Peer("2001:db8::ffff", 5))
    assert places.take(Peer("2001:db8::2", 8))


def test_a_client_that_asks_more_than_is_answered(api: Backend, identities: Identities) -> None:
    """SRV: it is not read from, but for what one read brings; once it is answered the rest follows."""
    gate, asked = api.gate(), []

    def handler(query: bytes, peer: object) -> Any:
        asked.append(query)
        return gate.then(answer(query))

    long = query_of_length(30_000)
    configuration = ServerConfiguration(max_outstanding=4)
    with (
        api.serving(handler, identities.server, configuration=configuration) as server,
        RawClient(server.port) as client,
        _sending(client, *[long] * 100),
    ):
        _until(lambda: len(asked) >= 4)
        assert _stays(lambda: len(asked)) <= 4 + 2 * 65_536 // 30_000 + 1
        gate.open()
        assert [name_in(client.message()) for _ in range(100)] == ["example"] * 100


@contextmanager
def _sending(client: RawClient, *messages: bytes) -> Iterator[None]:
    """A thread sends these messages, as far as the server takes them; they are encrypted before, by one thread."""
    client.tls.write(stream_of(messages))
    octets = client._outgoing.read()
    thread = threading.Thread(target=client.socket.sendall, args=(octets,))
    thread.start()
    yield
    thread.join()


def _stays(value: Callable[[], int]) -> int:
    """The value, once it has not changed for a while."""
    last, since = value(), time.monotonic()
    while time.monotonic() - since < 0.1:
        if value() != last:
            last, since = value(), time.monotonic()
    return last


def test_the_last_query_of_a_connection(api: Backend, identities: Identities) -> None:
    """SRV (RFC 9210, section 4.2): after ``max_queries`` the client is told to go (RFC 7828), and in order."""
    configuration = ServerConfiguration(max_queries=3)

    def handler(query: bytes, peer: object) -> bytes:
        return response_to(query, additionals=[opt()])

    with (
        api.serving(handler, identities.server, configuration=configuration) as server,
        RawClient(server.port) as client,
    ):
        client.send(QUERY, QUERY, QUERY, QUERY)
        assert [option(KEEPALIVE, bytes(2)) in client.message() for _ in range(3)][-1]
        assert client.ends_in_order()


@pytest.mark.parametrize(
    "configuration",
    [ServerConfiguration(idle_timeout=0.1, idle_grace=0.05), ServerConfiguration(max_duration=0.15)],
    ids=["idle", "duration"],
)
def test_a_client_that_stays(api: Backend, identities: Identities, configuration: ServerConfiguration) -> None:
    """SRV (RFC 7766, section 6.2.3): its time is up, and it is told so by close_notify."""
    with (
        api.serving(answer, identities.server, configuration=configuration) as server,
        RawClient(server.port) as client,
    ):
        assert is_served(client)
        began = time.monotonic()
        assert client.ends_in_order()
        assert time.monotonic() - began < 2.0


def test_a_client_that_does_not_shake_hands(api: Backend, identities: Identities) -> None:
    """SRV: it has ``handshake_timeout`` seconds, whether it says nothing or half of it."""
    with api.serving(answer, identities.server, handshake_timeout=0.1) as server:
        for start in (b"", b"\x16\x03\x01\x02\x00\x01"):
            with socket.create_connection(("127.0.0.1", server.port), timeout=5.0) as sock:
                sock.sendall(start)
                assert sock.recv(100) == b""
        with RawClient(server.port) as client:
            assert is_served(client)


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.0\r\n\r\n", b"\0\x1d" + QUERY, bytes(5000), b"\xff" * 5000])
def test_garbage_instead_of_tls(
    api: Backend, identities: Identities, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """SRV: no DNS octet is answered in the clear, nothing is logged as our fault, and the next client is served."""
    with api.serving(answer, identities.server) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5.0) as sock:
            sock.sendall(garbage)
            heard = b""
            with suppress(ConnectionResetError):
                while data := sock.recv(4096):
                    heard += data
        assert len(heard) <= 7  # an alert at most (RFC 8446, section 6)
        with RawClient(server.port) as client:
            assert is_served(client)
    assert not caplog.records


@pytest.mark.parametrize("stage", ["before", "inside", "after"])
def test_a_client_that_resets(
    api: Backend, identities: Identities, stage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """SRV: before the handshake, inside it, after a query; the next one is served."""
    with api.serving(answer, identities.server) as server:
        for _ in range(3):
            if stage == "after":
                client = RawClient(server.port)
                client.send(QUERY)
                client.reset()
            else:
                sock = socket.create_connection(("127.0.0.1", server.port))
                sock.sendall(b"\x16\x03\x01" if stage == "inside" else b"")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                sock.close()
        with RawClient(server.port) as last:
            assert is_served(last)
    assert not caplog.records


def test_a_client_that_does_not_read(api: Backend, identities: Identities) -> None:
    """SRV: it costs a bounded amount of memory: what it does not read is not even computed."""
    handled = 0
    size = 60_000

    def handler(query: bytes, peer: object) -> bytes:
        nonlocal handled
        handled += 1
        return response_to(query, record(data=bytes(size)))

    configuration = ServerConfiguration(idle_timeout=0.3, idle_grace=0.0, close_timeout=0.1)
    # With workers, as with handlers that are awaited, the bound is max_outstanding.
    options = {} if api.is_async else {"workers": 0}
    with api.serving(handler, identities.server, configuration=configuration, **options) as server:
        with RawClient(server.port, receive_buffer=4096) as client:
            client.tls.write(stream_of([QUERY] * 3000))
            octets = client._outgoing.read()
            client.socket.settimeout(0.0)
            sent = 0
            with suppress(OSError):  # as far as it goes: by then neither side reads
                while sent < len(octets):
                    if not select.select([], [client.socket], [], 0.3)[1]:
                        break
                    sent += client.socket.send(octets[sent:])
            # A batch, what the kernel holds for a connection (4 MiB on Linux), and what waits in our own buffers.
            assert _stays(lambda: handled) <= 2 * BATCH + 8 * 2**20 // size
            # It does not keep its place for ever either: TCP ends while it still does not read.
            _until(lambda: _has_ended(client.socket))
        with RawClient(server.port) as other:
            other.send(QUERY)
            assert len(other.message()) > size


def _has_ended(sock: socket.socket) -> bool:
    """Whether the server has ended TCP, as can be seen without reading a single octet."""
    poller = select.poll()
    poller.register(sock, select.POLLRDHUP)
    return bool(poller.poll(0))


def test_a_slow_reader_is_served_in_the_end(api: Backend, identities: Identities) -> None:
    """SRV: every answer arrives, in whatever pieces the client takes them."""

    def handler(query: bytes, peer: object) -> bytes:
        return response_to(query, record(data=bytes(60_000)))

    with (
        api.serving(handler, identities.server) as server,
        RawClient(server.port, receive_buffer=4096) as client,
        _sending(client, *[QUERY] * 300),
    ):
        assert [len(client.message()) > 60_000 for _ in range(300)] == [True] * 300


@pytest.mark.parametrize(("count", "crossing"), [(64, 1), (128, 0)])
def test_a_server_that_closes_sends_what_it_owes(
    api: Backend, identities: Identities, count: int, crossing: int
) -> None:
    """SRV: also to a client that has not read yet, and that asks once more before it hears of the close."""
    handled = 0

    def handler(query: bytes, peer: object) -> bytes:
        nonlocal handled
        handled += 1
        return response_to(query, record(data=bytes(60_000)))

    with (
        api.serving(handler, identities.server) as server,
        RawClient(server.port, receive_buffer=16_384) as client,
    ):
        client.send(*[QUERY] * count)
        _stays(lambda: handled)
        closer = threading.Thread(target=lambda: server.close(timeout=GIVE_UP))
        closer.start()
        _until(lambda: _is_refused(server.port))
        client.send(*[QUERY] * crossing)
        assert [len(client.message()) > 60_000 for _ in range(count)] == [True] * count
        client.socket.close()
        closer.join()


def _is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # the listener is closed in this very moment
        return False
    return False


def test_answers_leave_at_once_while_a_handler_still_waits(api: Backend, identities: Identities) -> None:
    """SRV (RFC 7766, section 6.2.1.1): what is ready is sent, also where it was computed once the kernel had room."""
    large = 2 * BATCH  # more than the kernel takes
    count = large + 10
    gate = api.gate()
    asked = 0

    def handler(query: bytes, peer: object) -> Any:
        nonlocal asked
        asked += 1
        if asked == count:
            return gate.then(answer(query))
        return response_to(query, record(data=bytes(60_000))) if asked <= large else answer(query)

    # As soon as one query is outstanding nothing more is read, so that no other read makes the answers leave.
    configuration = ServerConfiguration(max_outstanding=1)
    options = {} if api.is_async else {"workers": 1}
    with (
        api.serving(handler, identities.server, configuration=configuration, **options) as server,
        RawClient(server.port, receive_buffer=4096) as client,
    ):
        client.send(*[QUERY] * count)
        assert _stays(lambda: asked) <= large or not api.is_async
        client.socket.settimeout(2.0)  # seconds; nothing else happens on the connection for longer
        assert all(client.message() for _ in range(count - 1))
        gate.open()
        assert client.message()


@pytest.mark.parametrize("every", [1, 2, 3])
def test_an_async_handler_that_does_not_always_wait(
    async_api: Backend, identities: Identities, caplog: pytest.LogCaptureFixture, every: int
) -> None:
    """FR-76: an eager task may have answered before ``create_task`` returns; 500 queries come in one write."""
    served = list[str]()

    async def handler(query: bytes, peer: Peer) -> bytes:
        if len(served) % every:
            await async_api.pause()
        served.append(name_in(query))
        if served[-1] == "n250":
            raise ValueError("one of them fails")
        return answer(query)

    names = [f"n{number}" for number in range(500)]
    with async_api.serving(handler, identities.server) as server, RawClient(server.port) as client:
        client.send(*[make_query(f"{name}.example") for name in names])
        answers = [client.message() for _ in names]
        assert is_served(client)
    assert sorted(name_in(message) for message in answers) == sorted(names)
    assert [name_in(message) for message in answers if message[3] & 15] == ["n250"]
    assert [record.getMessage().split(":")[0] for record in caplog.records if record.name == "dot_io"] == [
        "the handler failed, or its response cannot be sent; answering SERVFAIL"
    ]


def test_a_client_that_has_finished_asking_is_still_answered(api: Backend, identities: Identities) -> None:
    """RFC 8446, section 6.1: close_notify ends one direction; and waiting for the handler costs no work."""
    gate, asked = api.gate(), threading.Event()

    def handler(query: bytes, peer: object) -> Any:
        asked.set()
        return gate.then(answer(query)) if name_in(query) == "slow" else answer(query)

    with api.serving(handler, identities.server) as server, RawClient(server.port) as client:
        assert is_served(client)  # with which the TLS tickets have been read too
        asked.clear()
        client.send(make_query("slow.example"), close_notify=True)
        client.socket.shutdown(socket.SHUT_WR)
        happens(asked)
        before = time.process_time()
        assert not select.select([client.socket], [], [], 0.2)[0]
        assert time.process_time() - before < 0.1, "the end of the stream is read over and over again"
        gate.open()
        assert name_in(client.message()) == "slow"
        assert client.ends_in_order()


@pytest.mark.parametrize("waits", [False, True], ids=["at-once", "slow"])
@pytest.mark.parametrize("rest", [b"", b"\0", b"\0\x20" + bytes(31)], ids=["whole", "half-a-length", "half-a-message"])
@pytest.mark.parametrize("end", ["close_notify", "FIN", "close_notify and FIN"])
def test_what_came_whole_is_answered_however_the_client_ends(
    api: Backend, identities: Identities, end: str, rest: bytes, waits: bool
) -> None:
    """FR-28, FR-70: five queries and the end in one write; unbound and NSD answer all five."""
    gate, names = api.gate(), [f"n{number}" for number in range(5)]

    def handler(query: bytes, peer: object) -> Any:
        return gate.then(answer(query)) if waits else answer(query)

    with api.serving(handler, identities.server) as server, RawClient(server.port) as client:
        queries = [make_query(f"{name}.example") for name in names]
        client.send(*queries, rest=rest, close_notify="close_notify" in end)
        if "FIN" in end:
            client.socket.shutdown(socket.SHUT_WR)
        if waits:
            time.sleep(0.05)  # the server has time to see how the client ends
            gate.open()
        assert sorted(name_in(client.message()) for _ in names) == names
        assert client.ends_in_order()


def test_what_an_upstream_says_stays_there(api: Backend, identities: Identities) -> None:
    """FR-62, FR-65: a handler hands on another server's response, and the client hears of this connection alone."""

    def handler(query: bytes, peer: object) -> bytes:
        return response_to(query, record(), additionals=[ANOTHERS, record()])

    question = question_of(QUERY)
    asks = message(question, flags=RD | CD, additionals=[opt(option(PADDING), option(KEEPALIVE), flags=DO)])
    configuration = ServerConfiguration(max_duration=8.0)
    with (
        api.serving(handler, identities.server, configuration=configuration) as server,
        RawClient(server.port) as client,
    ):
        client.send(asks)
        theirs = client.message()
        client.send(message(question))
        bare = client.message()
    start = theirs.index(OPT_START)
    assert theirs[start + 5 : start + 9] == b"\0\0\x80\0"
    assert theirs[start + 11 :].startswith(ERROR + b"\0\x0b\0\2\0")
    assert theirs[start + 11 + len(ERROR) + 5] in range(70, 81)
    assert theirs[3] & CD
    assert len(theirs) == 468
    assert bare == message(question, flags=QR, answers=[record()], additionals=[record()])


@pytest.mark.parametrize("handler_ends", [True, False], ids=["in-time", "too-late"])
def test_closing_waits_for_a_slow_handler(
    api: Backend, identities: Identities, handler_ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SRV: as long as was said, and no longer; the client is told the one or the other."""
    gate, asked = api.gate(), threading.Event()

    def handler(query: bytes, peer: object) -> Any:
        asked.set()
        return gate.then(answer(query))

    with api.serving(handler, identities.server) as server, RawClient(server.port) as client:
        client.send(QUERY)
        happens(asked)
        began = time.monotonic()
        closer = threading.Thread(target=lambda: server.close(timeout=5.0 if handler_ends else 0.2))
        closer.start()
        _until(lambda: not _is_accepted(server.port))
        if handler_ends:
            gate.open()
            assert name_in(client.message()) == "example"
        with suppress(ConnectionResetError, ssl.SSLError):
            assert client.ends_in_order()
        client.socket.close()
        if not handler_ends:
            assert time.monotonic() - began >= 0.15
        gate.open()
        closer.join()
        assert time.monotonic() - began < 2.0


def _is_accepted(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the lowest free descriptor is found in /proc")
def test_want_of_file_descriptors(api: Backend, identities: Identities, caplog: pytest.LogCaptureFixture) -> None:
    """SRV-17: it is reported, and waited out; who is there stays, and the next is served."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with (
        api.serving(answer, identities.server) as server,
        RawClient(server.port) as before,
        socket.socket() as waiting,
    ):
        waiting.settimeout(5.0)
        assert is_served(before)  # else its handshake may be unfinished at the server, and gives its descriptor
        free = os.dup(waiting.fileno())
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            waiting.connect(("127.0.0.1", server.port))
            _until(lambda: any("Too many open files" in one.getMessage() for one in caplog.records))
            assert is_served(before)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        # A thread inside accept() has its descriptor by then, fails only later, and sends the client away.
        assert not api.is_async or _is_answered(waiting)
        assert _is_served_once(server.port)
    assert len(caplog.records) < 30, "a failing accept() must not spin"


def test_an_address_that_cannot_be_had(api: Backend, identities: Identities) -> None:
    """API: :class:`OSError`, at once."""

    async def scenario(api: Backend, port: int) -> None:
        with pytest.raises(OSError, match="in use"):
            async with api.serve(answer, identities.server, port=port):
                pass

    with socket.create_server(("127.0.0.1", 0)) as taken:
        api.run(scenario, taken.getsockname()[1])


def test_many_clients(api: Backend, identities: Identities) -> None:
    """SRV: each is answered on its own connection, while others come and go."""
    peers = set()

    def handler(query: bytes, peer: Any) -> bytes:
        peers.add(peer.port)
        return answer(query)

    with api.serving(handler, identities.server) as server:
        clients = [RawClient(server.port) for _ in range(40)]
        for client in clients:
            client.send(QUERY, QUERY)
        for client in clients:
            assert name_in(client.message()) == name_in(client.message()) == "example"
            client.socket.close()
    assert len(peers) == 40
