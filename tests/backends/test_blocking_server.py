"""The blocking server over real sockets, against clients good and bad."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

import dot_io._accepting
import dot_io._server
import dot_io._transport
import dot_io.blocking.server
from dot_io.blocking import Client, Peer, Server, connect, serve
from dot_io.blocking.driver import Driver
from dot_io.errors import ConnectionLostError, Failure, HandshakeError, QueryTimeoutError
from dot_io.tls import TLSServer
from dot_proto import Cause, Event, LocalProtocolError, ResponseReceived, ServerConfiguration, State, make_query
from support.credentials import NAME, Credentials
from support.messages import KEEPALIVE, opt, option, query_of_length, record, response_to, stream_of
from support.peers import GIVE_UP, RESET, RawClient, answer, happens, name_in

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

SHORT = 0.05
"Seconds for what is meant to run out."

SOON = 2.0
"Seconds within which what should come at once must come, on a slow machine too."

SERVFAIL = 2


@contextmanager
def within(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


def client_of(server: Server, credentials: Credentials, **options: Any) -> Client:
    return connect("127.0.0.1", credentials.policy, port=server.port, **options)


def is_alive(server: Server, credentials: Credentials) -> bool:
    """Whether a good client is served, and soon."""
    with within(SOON), client_of(server, credentials) as client:
        return client.query(make_query(NAME))[3] & 15 == 0


def bare_query(name: str, message_id: int = 0) -> bytes:
    """A query without OPT, so that the response is as long as it was made."""
    query = make_query(name, message_id=message_id)
    return query[:10] + bytes(2) + query[12:-11]


class Held:
    """A handler that answers names starting with ``slow`` only when released."""

    def __init__(self) -> None:
        self.is_asked = threading.Event()
        self.release = threading.Event()

    def __call__(self, query: bytes, peer: Peer) -> bytes:
        if name_in(query).startswith("slow"):
            self.is_asked.set()
            happens(self.release)
        return answer(query)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When each wait began, of all connections: a loop that spins fills it by the thousand."""
    begun: list[float] = []
    wait = Driver.wait

    def noted(self: Driver, *arguments: Any, **options: Any) -> Any:
        begun.append(time.monotonic())
        return wait(self, *arguments, **options)

    monkeypatch.setattr(Driver, "wait", noted)
    return begun


# Answering.


def test_many_connections(credentials: Credentials) -> None:
    """SRV-1: twenty clients at a time with one message id; each gets its own answers, and the handler knows whose."""
    peers: set[tuple[str, int]] = set()

    def handler(query: bytes, peer: Peer) -> bytes:
        peers.add((peer.host, peer.port))
        return answer(query)

    with serve(handler, credentials.context, port=0) as server, ExitStack() as stack:
        clients = [stack.enter_context(RawClient(server.port)) for _ in range(20)]
        for turn in range(3):
            for number, client in enumerate(clients):
                client.send(make_query(f"c{number}-{turn}.example", message_id=7))
            for number, client in enumerate(clients):
                response = client.message()
                assert (response[:2], name_in(response)) == (b"\0\7", f"c{number}-{turn}")
        assert peers == {client.socket.getsockname() for client in clients}


def test_a_slow_query_does_not_hold_up_the_next(credentials: Credentials) -> None:
    """SRV-2: with workers the fast answer overtakes."""
    held = Held()
    with serve(held, credentials.context, port=0, workers=2) as server, client_of(server, credentials) as client:
        order = []
        for position, outcome in client.query_many([make_query("slow.example"), make_query("fast.example")]):
            assert isinstance(outcome, ResponseReceived)
            order.append(position)
            held.release.set()
    assert order == [1, 0]


def test_without_workers_a_slow_query_holds_up_its_own_connection_alone(credentials: Credentials) -> None:
    held = Held()
    with (
        serve(held, credentials.context, port=0) as server,
        client_of(server, credentials) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        slow = pool.submit(client.query, make_query("slow.example"))
        happens(held.is_asked)
        assert is_alive(server, credentials)
        held.release.set()
        assert name_in(slow.result()) == "slow"


def test_without_workers_an_answer_does_not_wait_for_the_whole_batch(
    credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SRV-2: queries that came in one read are answered one by one where their handlers take time."""
    monkeypatch.setattr(dot_io.blocking.server, "BATCH_TIME", 0.0)
    held = Held()
    with serve(held, credentials.context, port=0) as server, RawClient(server.port) as client:
        client.send(make_query("fast.example"), make_query("slow.example"))
        assert name_in(client.message()) == "fast"
        held.release.set()
        assert name_in(client.message()) == "slow"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "response",
    [
        pytest.param(lambda query: 1 / 0, id="exception"),
        pytest.param(lambda query: query, id="a query"),
        pytest.param(lambda query: b"", id="empty"),
        pytest.param(lambda query: answer(query) + b"x" * 65_536, id="oversized"),
        pytest.param(lambda query: answer(query)[:-1], id="malformed"),
        pytest.param(lambda query: "text", id="text"),
    ],
)
def test_a_handler_that_fails_is_servfail(
    credentials: Credentials, workers: int, response: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """SRV-14, FRM-9: the client is told, the log has the cause, and the connection goes on."""

    def handler(query: bytes, peer: Peer) -> Any:
        return answer(query) if name_in(query) == "good" else response(query)

    with (
        serve(handler, credentials.context, port=0, workers=workers) as server,
        client_of(server, credentials) as client,
    ):
        assert client.query(make_query("bad.example"))[3] & 15 == SERVFAIL
        assert client.query(make_query("good.example"))[3] & 15 == 0
    assert [one.levelname for one in caplog.records if one.name == "dot_io"] == ["ERROR"]


def test_none_leaves_a_query_unanswered(credentials: Credentials) -> None:
    def handler(query: bytes, peer: Peer) -> bytes | None:
        return None if name_in(query) == "nothing" else answer(query)

    with serve(handler, credentials.context, port=0) as server, client_of(server, credentials) as client:
        with pytest.raises(QueryTimeoutError):
            client.query(make_query("nothing.example"), timeout=SHORT)
        assert client.query(make_query("something.example"))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("workers", [0, 3])
def test_what_was_asked_before_the_clients_end_is_answered(
    credentials: Credentials, version: ssl.TLSVersion, workers: int, waits: list[float]
) -> None:
    """SRV-3, CON-12: three queries, close_notify and FIN in one go; three answers and close_notify come back.

    The handlers answer only after FIN has come, which the server must not take for a reason to stop, nor read
    over and over.
    """
    held = Held()
    with (
        serve(held, credentials.context, port=0, workers=workers) as server,
        RawClient(server.port, maximum_version=version) as client,
    ):
        client.send(*(make_query(f"slow-{number}.example") for number in range(3)), close_notify=True)
        client.socket.shutdown(socket.SHUT_WR)
        happens(held.is_asked)
        assert not held.release.wait(SHORT), "the server has time to see FIN"
        held.release.set()
        assert sorted(name_in(client.message()) for _ in range(3)) == ["slow-0", "slow-1", "slow-2"]
        assert client.ends_in_order()
    assert len(waits) < 50


def test_nothing_is_sent_to_a_client_that_is_gone(credentials: Credentials, caplog: pytest.LogCaptureFixture) -> None:
    """CON-14: it is no failure either."""
    held = Held()
    with serve(held, credentials.context, port=0, workers=1) as server:
        with RawClient(server.port) as client:
            client.send(make_query("slow.example"))
            happens(held.is_asked)
            client.reset()
        held.release.set()
        assert is_alive(server, credentials)
    assert not caplog.records


@pytest.mark.usefixtures("needs_ipv6")
def test_ipv6(credentials: Credentials) -> None:
    with serve(answer, credentials.context, host="::1", port=0) as server:
        assert server.host == "::1"
        with connect("::1", credentials.policy, port=server.port) as client:
            assert client.query(make_query(NAME))


def test_what_cannot_be_listened_on_is_said_at_once(credentials: Credentials) -> None:
    """TLS-3: nor is port 53."""
    with serve(answer, credentials.context, port=0) as server, pytest.raises(OSError, match="in use"):
        serve(answer, credentials.context, port=server.port)
    with pytest.raises(LocalProtocolError, match="port 53"):
        serve(answer, credentials.context, port=53)


# Bad company.


def test_garbage_and_cleartext_get_no_dns_octet_and_end_nothing(credentials: Credentials) -> None:
    """FRM-16, TLS-4, SRV-17: a TLS alert or nothing comes back, and the next client is served."""
    nonsense = [
        stream_of([make_query(NAME)]),
        b"GET /dns-query HTTP/1.1\r\nHost: dot.example\r\n\r\n",
        os.urandom(1000),
        bytes.fromhex("1603010005") + b"hello",
        b"\x16",
    ]
    asked: list[bytes] = []
    with serve(lambda query, _: asked.append(query), credentials.context, port=0, handshake_timeout=0.2) as server:
        for octets in nonsense:
            with socket.create_connection(("127.0.0.1", server.port), timeout=GIVE_UP) as sock:
                sock.sendall(octets)
                back = b"".join(iter(lambda sock=sock: _received(sock), b""))
            assert back == b"" or (back[0] == 21 and len(back) == 7), back
    assert not asked


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65_536)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("how", ["reset", "close", "silence"])
def test_connections_that_come_to_nothing_end_nothing(credentials: Credentials, how: str) -> None:
    """SRV-17, SRV-12: a hundred of them; those that only wait are sent away when their time is up."""
    with (
        serve(answer, credentials.context, port=0, handshake_timeout=0.2, max_connections_per_host=200) as server,
        ExitStack() as stack,
    ):
        socks = []
        for _ in range(100):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=GIVE_UP))
            socks.append(sock)
            if how == "silence":
                continue
            sock.sendall(bytes.fromhex("1603010200010001fc"))  # the beginning of a ClientHello
            if how == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.close()
        assert is_alive(server, credentials)
        if how == "silence":
            for sock in socks:
                assert sock.recv(1) == b""


def test_want_of_file_descriptors_is_waited_out(
    credentials: Credentials, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """SRV-17: accept() fails with EMFILE, twice, and the server goes on after a pause."""
    left, real = [1, 2], socket.socket.accept

    def accept(self: socket.socket) -> Any:
        if left:
            left.pop()
            raise OSError(errno.EMFILE, "Too many open files")
        return real(self)

    monkeypatch.setattr(socket.socket, "accept", accept)
    monkeypatch.setattr(dot_io._accepting, "ACCEPT_PAUSE", 0.01)
    with serve(answer, credentials.context, port=0) as server:
        assert is_alive(server, credentials)
    assert [one.levelname for one in caplog.records] == ["WARNING"] * 2


@pytest.mark.parametrize("want", ["descriptors", "threads"])
def test_a_client_for_whom_something_is_wanting_is_sent_away(
    credentials: Credentials, want: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """SRV-17: its place is free again, and the next client is served."""
    with serve(answer, credentials.context, port=0, max_connections=1) as server:
        with monkeypatch.context() as patch:
            if want == "descriptors":
                patch.setattr(socket, "socketpair", _fail(OSError(errno.EMFILE, "Too many open files")))
            else:
                patch.setattr(threading.Thread, "start", _fail(RuntimeError("can't start new thread")))
            with socket.create_connection(("127.0.0.1", server.port), timeout=GIVE_UP) as sock:
                assert sock.recv(1) == b""
        assert is_alive(server, credentials)
    assert [one.levelname for one in caplog.records] == ["WARNING"]


def _fail(error: Exception) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_more_clients_than_places(credentials: Credentials) -> None:
    """SRV-12: the third waits in the system's queue until one of two has gone."""
    with serve(answer, credentials.context, port=0, max_connections=2) as server:
        with client_of(server, credentials) as first, client_of(server, credentials) as second:
            assert first.query(make_query(NAME))  # so that the server, too, has seen the handshakes' end
            assert second.query(make_query(NAME))
            with pytest.raises(HandshakeError) as failure:
                client_of(server, credentials, timeout=SHORT)
            assert failure.value.failure is Failure.TIMED_OUT
            assert first.query(make_query(NAME))
            assert second.query(make_query(NAME))
        assert is_alive(server, credentials)


def test_more_clients_from_one_host_than_allowed(credentials: Credentials) -> None:
    """SRV-12: they are sent away at once, and the others are not harmed."""
    with (
        serve(answer, credentials.context, port=0, max_connections_per_host=1) as server,
        client_of(server, credentials) as first,
    ):
        with within(SOON), pytest.raises(HandshakeError) as failure:
            client_of(server, credentials)
        assert failure.value.failure is Failure.END_OF_STREAM
        assert first.query(make_query(NAME))


@pytest.mark.parametrize("workers", [0, 4])
def test_a_client_that_does_not_read_is_not_read_from(
    credentials: Credentials, workers: int, waits: list[float]
) -> None:
    """CON-20: 10 000 queries, their answers never read: the server stops at what the kernel buffers.

    Queries and answers of 2 KB are 20 MB in all, each way; Linux buffers 4 MB to send and 6 MB to receive at most.
    """
    asked: list[int] = []

    def handler(query: bytes, peer: Peer) -> bytes:
        asked.append(1)
        return response_to(query, record(kind=65_280, data=bytes(2000)))

    with (
        serve(handler, credentials.context, port=0, workers=workers) as server,
        RawClient(server.port, receive_buffer=4096) as client,
    ):
        client.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.send(*[query_of_length(2000)] * 10_000)
        assert len(asked) < 5000
        assert len(waits) < 1000
        assert is_alive(server, credentials)
        client.reset()


def test_what_the_engine_answers_is_not_piled_up_either(
    credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CON-20: malformed queries, whose errors no handler makes, from a client that never reads."""
    unsent: list[int] = []
    flush = Driver.flush

    def watched(driver: Driver) -> list[Event]:
        events = flush(driver)
        unsent.append(len(driver._unsent))
        return events

    monkeypatch.setattr(Driver, "flush", watched)
    with serve(answer, credentials.context, port=0) as server, RawClient(server.port, receive_buffer=4096) as client:
        client.socket.settimeout(2.5)
        with pytest.raises(TimeoutError):
            client.send(*[bytes(12)] * 1_000_000)
        client.reset()
    assert max(unsent) < 1 << 20


def test_a_client_that_asks_too_much_is_not_read_from(credentials: Credentials) -> None:
    """CON-20: 20 MB of queries wait for a handler that is busy: no more than allowed are taken in."""
    held = Held()
    with (
        serve(
            held, credentials.context, port=0, workers=1, configuration=ServerConfiguration(max_outstanding=8)
        ) as server,
        RawClient(server.port) as client,
    ):
        client.send(make_query("slow.example"))
        happens(held.is_asked)
        client.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.send(*[query_of_length(2000)] * 10_000)
        client.reset()
        held.release.set()
        assert is_alive(server, credentials)


def test_a_client_that_never_reads_does_not_keep_its_place(
    credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CON-20, SRV-17: it is idle, is sent close_notify, which it does not read either, and is cut off."""
    for module in (dot_io._transport, dot_io._server):
        monkeypatch.setattr(module, "FLUSH_TIMEOUT", SHORT)
    monkeypatch.setattr(TLSServer, "_linger_timeout", SHORT)
    configuration = ServerConfiguration(idle_timeout=0.4, idle_grace=0.0)
    big = record(kind=65_280, data=bytes(60_000))

    def handler(query: bytes, peer: Peer) -> bytes:
        return response_to(query, big) if name_in(query) == "big" else answer(query)

    with (
        serve(handler, credentials.context, port=0, configuration=configuration, max_connections=1) as server,
        RawClient(server.port, receive_buffer=4096) as client,
    ):
        client.send(*[bare_query("big.example")] * 200)  # 12 MB
        assert is_alive(server, credentials)


# Closing.


def test_an_idle_client_is_sent_close_notify(credentials: Credentials) -> None:
    """SRV-10, SRV-13: in order."""
    configuration = ServerConfiguration(idle_timeout=SHORT, idle_grace=0.0)
    with (
        serve(answer, credentials.context, port=0, configuration=configuration) as server,
        RawClient(server.port) as client,
        within(SOON),
    ):
        client.send(make_query(NAME))
        assert client.message()
        assert client.ends_in_order()


@contextmanager
def closing(server: Server, **options: Any) -> Iterator[Any]:
    """While another thread closes the server, and every connection has been told."""
    with ThreadPoolExecutor(1) as pool:
        closed = pool.submit(server.close, **options)
        server.serve_forever()  # returns once closing has begun
        while not _are_all_closing(server):
            time.sleep(0.001)
        yield closed


def _are_all_closing(server: Server) -> bool:
    with server._changed:
        return all(connection._engine.state is not State.OPEN for connection in server._connections)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_server_that_closes_answers_what_it_was_asked(
    credentials: Credentials, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CON-16, KAL-8: answers owed are delivered, and tell the client to go; idle clients are sent close_notify.

    CON-23: the server ends once its clients have, and not when it has waited for them long enough.
    """
    monkeypatch.setattr(TLSServer, "_linger_timeout", GIVE_UP)
    held = Held()
    with (
        serve(held, credentials.context, port=0, workers=workers) as server,
        RawClient(server.port) as client,
        RawClient(server.port) as idle,
    ):
        client.send(make_query("slow-1.example"), make_query("slow-2.example"))
        happens(held.is_asked)
        with closing(server) as closed:
            assert idle.ends_in_order()
            assert idle.finish() == b""
            held.release.set()
            for _ in range(2):
                response = client.message()
                assert name_in(response).startswith("slow")
                assert option(KEEPALIVE, b"\0\0") in response
            assert client.ends_in_order()
            assert client.finish() == b""
            with within(SOON):
                closed.result()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port))


def test_answers_of_a_server_that_closes_say_so(credentials: Credentials) -> None:
    """KAL-8: a client that understands keepalive asks no more here."""
    held = Held()
    with (
        serve(held, credentials.context, port=0) as server,
        client_of(server, credentials) as client,
        RawClient(server.port) as idle,
        ThreadPoolExecutor(1) as pool,
    ):
        response = pool.submit(client.query, make_query("slow.example"))
        happens(held.is_asked)
        with closing(server) as closed:
            assert idle.ends_in_order()
            assert idle.finish() == b""
            held.release.set()
            assert response.result()
            closed.result()
        with pytest.raises(ConnectionLostError) as lost:
            client.query(make_query(NAME))
        assert lost.value.safe_to_resend
        assert lost.value.cause is Cause.GO_AWAY


def test_a_client_reads_earlier_answers_though_it_asked_once_more(credentials: Credentials) -> None:
    """CON-23: a query crosses the server's close_notify.  TCP is not reset, which could take the answers with it."""
    with serve(answer, credentials.context, port=0) as server, RawClient(server.port) as client:
        client.send(make_query("one.example"))
        assert name_in(client.message()) == "one"
        client.send(make_query("two.example"))
        with closing(server) as closed:
            client.send(make_query("three.example"))
            answers = []
            try:
                while True:
                    answers.append(name_in(client.message()))
            except EOFError:
                pass
            client.send(make_query("four.example"))
            assert client.finish() == b""
            closed.result()
        assert answers in (["two"], ["two", "three"], [])


def test_closing_does_not_wait_for_a_place(credentials: Credentials, monkeypatch: pytest.MonkeyPatch) -> None:
    """All places are taken, so that nobody accepts; closing is as quick as ever."""
    monkeypatch.setattr(TLSServer, "_linger_timeout", SHORT)
    with (
        serve(answer, credentials.context, port=0, max_connections=1) as server,
        client_of(server, credentials) as client,
    ):
        assert client.query(make_query(NAME))
        with pytest.raises(HandshakeError):
            client_of(server, credentials, timeout=SHORT)
        with within(SOON):
            server.close()


def test_closing_is_bounded_where_a_handler_hangs(credentials: Credentials) -> None:
    """CON-16: the client is cut off, and the handler's thread ends when the handler does."""
    held = Held()
    with serve(held, credentials.context, port=0) as server, RawClient(server.port) as client:
        client.send(make_query("slow.example"))
        happens(held.is_asked)
        with within(SOON):
            server.close(timeout=SHORT)
            assert client.finish()  # session tickets
        held.release.set()


def test_closing_is_bounded_where_a_client_stays(credentials: Credentials) -> None:
    """CON-11: it has been sent close_notify, and does not go."""
    with serve(answer, credentials.context, port=0) as server, RawClient(server.port) as client:
        client.send(make_query(NAME))
        assert client.message()
        with within(SOON):
            server.close(timeout=SHORT)
        assert client.ends_in_order()


def test_closing_twice_does_no_harm(credentials: Credentials) -> None:
    server = serve(answer, credentials.context, port=0, workers=1)
    assert is_alive(server, credentials)
    server.close()
    server.close()
    server.serve_forever()


def test_hundreds_of_queries_with_workers(credentials: Credentials) -> None:
    """SRV-2: whatever the order, every query has its own answer, small ones and large ones."""
    messages = [make_query(f"host-{number}.example") for number in range(500)]
    messages[::50] = [query_of_length(60_000)] * 10

    def handler(query: bytes, peer: Peer) -> bytes:
        return response_to(query, additionals=[opt()])

    with (
        serve(handler, credentials.context, port=0, workers=8) as server,
        client_of(server, credentials) as client,
    ):
        outcomes = dict(client.query_many(messages))
    assert len(outcomes) == 500
    for position, outcome in outcomes.items():
        assert isinstance(outcome, ResponseReceived)
        assert name_in(outcome.message) == name_in(messages[position])
