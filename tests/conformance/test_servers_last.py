"""Nothing that a client, a handler or the system does ends a server, makes it deaf, or goes unsaid."""

from __future__ import annotations

import asyncio
import errno
import importlib
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import trio

import dot_io._accepting
from conformance.adapters import ASYNC, BACKENDS, Backend, Blocking, Running
from conformance.identities import Identities
from conformance.test_servers import QUERY, _stays, _until, is_served
from dot_io.blocking import ConnectionEnd, ConnectionPhase, Peer
from dot_io.tls import ServerContext
from dot_proto import make_query
from support.messages import record, response_to
from support.peers import RawClient, answer, happens, name_in

SERVFAIL = 2

WAYS = [(backend, {"workers": workers}) for backend in BACKENDS if not backend.is_async for workers in (0, 4)]
WAYS += [(backend, {}) for backend in ASYNC]
IDS = ["-".join(map(str, [api, *options.values()])) for api, options in WAYS]
"Each backend, and the blocking one with workers and without."


@pytest.fixture(autouse=True)
def _lines_of_every_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dot_io")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.name == "dot_io"]


class Once:
    """Something that goes wrong for the first client only."""

    def __init__(self) -> None:
        self.is_over = False
        self.is_armed = True

    def happens(self) -> bool:
        if not self.is_armed:
            return False
        self.is_armed, self.is_over = False, True
        return True


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


def replacing(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, other: Callable[..., Any]) -> None:
    """The first call of a function goes to ``other``, and all others where they should."""
    once, real = Once(), getattr(owner, name)

    def call(*arguments: Any, **options: Any) -> Any:
        return (other if once.happens() else real)(*arguments, **options)

    monkeypatch.setattr(owner, name, call)


def accepted(monkeypatch: pytest.MonkeyPatch, change: Callable[[socket.socket, Any], tuple[Any, Any]]) -> None:
    """What the first ``accept()`` returns is changed; it is the system's, on every backend."""
    once, real = Once(), socket.socket.accept

    def accept(self: socket.socket) -> tuple[Any, Any]:
        sock, address = real(self)
        return change(sock, address) if once.happens() else (sock, address)

    monkeypatch.setattr(socket.socket, "accept", accept)


def with_failing(method: str, error: Exception) -> Callable[[socket.socket, Any], tuple[Any, Any]]:
    """An accepted socket one of whose methods raises."""

    def change(sock: socket.socket, address: Any) -> tuple[Any, Any]:
        kind = type("Failing", (socket.socket,), {method: raising(error)})
        return kind(sock.family, sock.type, sock.proto, fileno=sock.detach()), address

    return change


def _first_task_cannot_start(patch: pytest.MonkeyPatch) -> None:
    """Of those that begin a connection."""
    once, real = Once(), asyncio.BaseEventLoop.create_task

    def create_task(self: Any, coroutine: Any, **options: Any) -> Any:
        if coroutine.__qualname__ == "_Connection._start" and once.happens():
            raise RuntimeError("no more tasks")
        return real(self, coroutine, **options)

    patch.setattr(asyncio.BaseEventLoop, "create_task", create_task)


async def _cannot_connect(*_: object) -> None:
    raise OSError(errno.ENOMEM, "Cannot allocate memory")


NO_DESCRIPTORS = OSError(errno.EMFILE, "Too many open files")
ODD = RuntimeError("something odd")
ALL = "blocking asyncio uvloop eager trio"

FAULTS: dict[str, tuple[str, str, Callable[[pytest.MonkeyPatch], None]]] = {
    "no address": ("accept: no-address", ALL, lambda patch: accepted(patch, lambda sock, _: (sock, None))),
    "empty address": ("accept: no-address", ALL, lambda patch: accepted(patch, lambda sock, _: (sock, ()))),
    "address of numbers": ("accept: no-address", ALL, lambda patch: accepted(patch, lambda sock, _: (sock, (1, 2)))),
    "address of no network": ("accept: local", ALL, lambda patch: accepted(patch, lambda sock, _: (sock, ("a:b", 2)))),
    "setblocking": ("accept: local", ALL, lambda patch: accepted(patch, with_failing("setblocking", ODD))),
    "setsockopt": ("accept: local", ALL, lambda patch: accepted(patch, with_failing("setsockopt", ODD))),
    "session": ("accept: local", ALL, lambda patch: replacing(patch, ServerContext, "wrap", raising(ODD))),
    "ssl": ("accept: local", ALL, lambda patch: replacing(patch, ServerContext, "wrap", raising(ssl.SSLError(1, "x")))),
    "socketpair": (
        "accept: local",
        "blocking",
        lambda patch: replacing(patch, socket, "socketpair", raising(NO_DESCRIPTORS)),
    ),
    "thread": (
        "handshake: local",
        "blocking",
        lambda patch: replacing(patch, threading.Thread, "start", raising(RuntimeError("can't start new thread"))),
    ),
    "task": ("handshake: local", "asyncio", _first_task_cannot_start),
    "transport": (
        "handshake: local",
        "asyncio eager",
        lambda patch: replacing(patch, asyncio.BaseEventLoop, "connect_accepted_socket", _cannot_connect),
    ),
}
"What goes wrong for one client between ``accept()`` and the handshake: what is logged, and on which backends."


@pytest.mark.parametrize(
    ("api", "fault"),
    [
        (backend, fault)
        for fault, (_, names, _) in FAULTS.items()
        for backend in BACKENDS
        if backend.name in names.split()
    ],
    ids=repr,
)
def test_each_step_of_taking_in_a_client_may_fail(
    api: Backend, identities: Identities, fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """FR-19, FR-21, FR-24: that client is told by the end of TCP, one line says so, and the next is served."""
    line, _, arrange = FAULTS[fault]
    ends: list[ConnectionEnd] = []
    with api.serving(answer, identities.server, max_connections=1, on_end=ends.append) as server:
        with monkeypatch.context() as patch:
            arrange(patch)
            with socket.socket() as first:
                first.settimeout(5.0)
                first.connect(("127.0.0.1", server.port))
                with suppress(ConnectionResetError):
                    assert first.recv(100) == b""
                _until(lambda: ends)
        with RawClient(server.port) as second:
            assert is_served(second)
        statistics = server.statistics()
        phase, _, reason = line.partition(": ")
        failures = statistics.refused if phase == "accept" else statistics.failed_handshakes
        assert (statistics.accepted, statistics.handshakes, failures) == (2, 1, {reason: 1})
    assert [each.phase for each in ends] == [ConnectionPhase(phase), ConnectionPhase.OPEN]
    assert ends[0].reason == reason
    (said, *rest) = lines(caplog)
    assert f": {line}: " in said
    assert "127.0.0.1 port" in said or fault.startswith(("no", "empty")) or "address" in fault
    assert not rest


@pytest.mark.parametrize(
    "error",
    [
        NO_DESCRIPTORS,
        OSError(errno.ENOBUFS, "No buffer space available"),
        OSError(errno.ECONNABORTED, "Software caused connection abort"),
        OSError(errno.EPERM, "Operation not permitted"),
        OSError("no number"),
        ValueError("odd"),
        InterruptedError(),
    ],
    ids=repr,
)
def test_accept_may_raise_whatever_it_likes(
    api: Backend, identities: Identities, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FR-19: the server is not deaf afterwards, nor does it wait where only this client has failed."""
    monkeypatch.setattr(dot_io._accepting, "ACCEPT_PAUSE", 0.01)
    failed = threading.Event()

    def accept(_: socket.socket) -> Any:
        failed.set()
        raise error

    with api.serving(answer, identities.server) as server:
        replacing(monkeypatch, socket.socket, "accept", accept)
        with RawClient(server.port) as client:
            happens(failed)
            assert is_served(client)


@pytest.mark.parametrize("async_api", [one for one in ASYNC if one.name != "uvloop"], ids=repr)  # its calls are in C
def test_a_loop_that_cannot_watch_is_asked_again(
    async_api: Backend, identities: Identities, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """FR-19: epoll has no room when the server begins to watch its socket again."""
    monkeypatch.setattr(f"dot_io.{async_api.package.__name__[7:]}.server.ACCEPT_PAUSE", 0.01)
    error = OSError(errno.ENOSPC, "No space left on device")
    with async_api.serving(answer, identities.server, max_connections=1) as server:
        with RawClient(server.port) as first:
            assert is_served(first)
            if async_api.name == "trio":
                replacing(monkeypatch, trio.lowlevel, "wait_readable", raising(error))
            else:
                with socket.create_connection(("127.0.0.1", server.port)):  # so that the server ceases to watch
                    assert is_served(first)
                replacing(monkeypatch, asyncio.SelectorEventLoop, "add_reader", raising(error))
        with RawClient(server.port) as second:
            assert is_served(second)
    assert async_api.name == "trio" or "accept failed, trying again: [Errno 28] No space left on device" in lines(
        caplog
    )


class Odd(BaseException):
    """No :class:`Exception`."""


RAISED: list[BaseException] = [
    ValueError("wrong"),
    SystemExit(3),
    KeyboardInterrupt(),
    asyncio.CancelledError(),
    GeneratorExit(),
    Odd(),
    StopIteration(),
    ExceptionGroup("several", [ValueError("wrong")]),
    BaseExceptionGroup("several", [SystemExit(3)]),
]


@contextmanager
def serving_one_that_fails(
    api: Backend, identities: Identities, fail: Callable[[], Any], **options: Any
) -> Iterator[Running]:
    def handler(query: bytes, _: Peer) -> Any:
        return fail() if name_in(query) == "bad" else answer(query)

    with api.serving(handler, identities.server, **options) as server:
        yield server


def check_one_failure(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    with RawClient(server.port) as client, RawClient(server.port) as other:
        client.send(make_query("bad.example"))
        assert client.message()[3] & 15 == SERVFAIL
        assert is_served(client)
        assert is_served(other)
        assert [one.levelname for one in caplog.records if one.name == "dot_io"] == ["ERROR"]
        statistics = server.statistics()
        assert (statistics.queries, statistics.responses, statistics.servfails) == (3, 2, 1)
    _until(lambda: not server.statistics().open)


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_a_handler_may_raise_anything(
    api: Backend, identities: Identities, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """FR-20: it is this query's failure alone, which is answered and logged."""
    with serving_one_that_fails(api, identities, raising(error)) as server:
        check_one_failure(server, caplog)


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_a_handler_in_its_connections_thread_may_raise_anything(
    identities: Identities, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """FR-20: the same without workers."""
    with serving_one_that_fails(Blocking(), identities, raising(error), workers=0) as server:
        check_one_failure(server, caplog)


@pytest.mark.parametrize("waits", [False, True], ids=["at-once", "later"])
@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_a_handler_that_is_awaited_may_raise_anything(
    async_api: Backend, identities: Identities, error: BaseException, waits: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """FR-20: in a task of its own it ends neither the connection nor the server."""

    async def fail() -> bytes:
        if waits:
            await async_api.pause()
        raise error

    with serving_one_that_fails(async_api, identities, fail) as server:
        check_one_failure(server, caplog)


def test_no_thread_for_a_worker(
    identities: Identities, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """FR-20: a query for which no thread can be started is answered SERVFAIL, the next has another chance."""
    with Blocking().serving(answer, identities.server, workers=1) as server, RawClient(server.port) as client:
        with monkeypatch.context() as patch:
            replacing(patch, threading.Thread, "start", raising(RuntimeError("can't start new thread")))
            client.send(QUERY)
            assert client.message()[3] & 15 == SERVFAIL
        assert is_served(client)
        assert [one.levelname for one in caplog.records if one.name == "dot_io"] == ["ERROR"]


# What is said.


def _closes(sock: socket.socket) -> None:
    sock.close()


def _speaks_http(sock: socket.socket) -> None:
    sock.sendall(b"GET / HTTP/1.0\r\n\r\n")


def _sends_half(sock: socket.socket) -> None:
    sock.sendall(b"\x16\x03\x01\x02\x00\x01")


def _resets(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


def _offers_another_protocol(sock: socket.socket) -> None:
    _shake(sock, lambda context: context.set_alpn_protocols(["h2"]))


def _trusts_nobody(sock: socket.socket) -> None:
    def refuse(context: ssl.SSLContext) -> None:
        context.verify_mode = ssl.CERT_REQUIRED

    _shake(sock, refuse)


def _has_no_cipher_in_common(sock: socket.socket) -> None:
    def choose(context: ssl.SSLContext) -> None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")  # the server's key is an ECDSA one

    _shake(sock, choose)


def _shake(sock: socket.socket, settle: Callable[[ssl.SSLContext], None]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    settle(context)
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        context.wrap_socket(sock)


FAILED_HANDSHAKES: dict[str, Callable[[socket.socket], None]] = {
    "end-of-stream": _closes,
    "end-of-stream (reset)": _resets,
    "not-tls": _speaks_http,
    "timed-out": _sends_half,
    "no-application-protocol": _offers_another_protocol,
    "alert": _trusts_nobody,
    "other": _has_no_cipher_in_common,
}


@pytest.mark.parametrize("reason", FAILED_HANDSHAKES)
def test_a_failed_handshake_is_one_line(
    api: Backend, identities: Identities, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """FR-24: peer, phase and reason at INFO; the same is counted, and told to the hook."""
    ends: list[ConnectionEnd] = []
    options = {"handshake_timeout": 0.1} if reason == "timed-out" else {}
    with api.serving(answer, identities.server, on_end=ends.append, **options) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5.0) as sock:
            port = sock.getsockname()[1]
            FAILED_HANDSHAKES[reason](sock)
            _until(lambda: ends)
        code = reason.partition(" ")[0]
        statistics = server.statistics()
        assert (statistics.failed_handshakes, statistics.handshakes) == ({code: 1}, 0)
        assert (statistics.handshaking, statistics.open) == (0, 0)
    (end,) = ends
    assert (end.peer, end.phase, end.reason) == (Peer("127.0.0.1", port), ConnectionPhase.HANDSHAKE, code)
    assert end.error is not None
    assert end.queries == 0
    assert 0.0 <= end.seconds < 5.0
    (one,) = (one for one in caplog.records if one.name == "dot_io")
    assert one.getMessage() == f"127.0.0.1 port {port}: handshake: {code}: {end.error}"
    assert one.levelno == logging.INFO


def test_what_a_client_sends_makes_no_line_of_its_own(
    api: Backend, identities: Identities, caplog: pytest.LogCaptureFixture
) -> None:
    """FR-24: the names of its protocols stand in the log, and whatever is in them stays on the same line."""
    forged = "x\n192.0.2.1 port 1: open: tls: forged\x1b[2J"
    with api.serving(answer, identities.server) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5.0) as sock:
            _shake(sock, lambda context: context.set_alpn_protocols([forged]))
        _until(lambda: lines(caplog))
    (line,) = lines(caplog)
    assert line.isprintable()
    assert "the client offers 'x\\n192.0.2.1 port 1" in line


def test_what_a_connection_has_done_is_told_when_it_ends(
    api: Backend, identities: Identities, caplog: pytest.LogCaptureFixture
) -> None:
    """FR-24: one that ends in order is no line in the log, and has no reason."""
    ends: list[ConnectionEnd] = []
    with api.serving(answer, identities.server, on_end=ends.append) as server:
        with RawClient(server.port) as client:
            client.send(QUERY, QUERY, bytes(12))
            assert [client.message() for _ in range(3)]
            statistics = server.statistics()
            assert (statistics.queries, statistics.responses, statistics.rejected) == (2, 2, 1)
            assert (statistics.handshakes, statistics.open, statistics.handshaking) == (1, 1, 0)
            client.send(close_notify=True)
            client.finish()
            _until(lambda: ends)
        after = server.statistics()
        assert (after.queries, after.responses, after.rejected, after.open) == (2, 2, 1, 0)
    (end,) = ends
    assert (end.phase, end.reason, end.error, end.queries) == (ConnectionPhase.OPEN, None, None, 2)
    assert not lines(caplog)


def test_how_an_open_connection_fails(api: Backend, identities: Identities, caplog: pytest.LogCaptureFixture) -> None:
    """FR-24: by a reset at INFO; without close_notify, as many clients end, only at DEBUG."""
    ends: list[ConnectionEnd] = []
    with api.serving(answer, identities.server, on_end=ends.append) as server:
        for number, end in enumerate((RawClient.reset, lambda client: client.socket.close())):
            client = RawClient(server.port)
            assert is_served(client)
            end(client)
            _until(lambda: len(ends) == number + 1)  # noqa: B023
        assert server.statistics().failed_connections == {"reset": 1, "no-close-notify": 1}
    (line,) = lines(caplog)
    assert ": open: reset: " in line


def test_a_hook_that_fails_harms_nobody(api: Backend, identities: Identities, caplog: pytest.LogCaptureFixture) -> None:
    """FR-24: whatever it raises; that is logged."""
    errors = [ValueError("wrong"), SystemExit(1), KeyboardInterrupt(), Odd(), asyncio.CancelledError()]
    left = list(errors)

    def on_end(_: ConnectionEnd) -> None:
        if left:
            raise left.pop()

    with api.serving(answer, identities.server, on_end=on_end, max_connections=1) as server:
        for _ in errors:
            with RawClient(server.port) as client:
                assert is_served(client)
                client.send(close_notify=True)
        _until(lambda: not left)
        with RawClient(server.port) as client:
            assert is_served(client)
        assert lines(caplog) == ["on_end failed"] * len(errors)


def test_a_flood_of_failures_is_no_flood_of_lines(
    api: Backend, identities: Identities, caplog: pytest.LogCaptureFixture
) -> None:
    """FR-24: so many lines of a kind, and how many were left out; another kind is not hidden by them."""
    ends: list[ConnectionEnd] = []
    with api.serving(answer, identities.server, on_end=ends.append) as server:
        for _ in range(35):
            socket.create_connection(("127.0.0.1", server.port)).close()
        _until(lambda: len(ends) == 35)
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            _speaks_http(sock)
            _until(lambda: len(ends) == 36)
        assert server.statistics().failed_handshakes == {"end-of-stream": 35, "not-tls": 1}
    said = lines(caplog)
    assert len([line for line in said if ": handshake: end-of-stream: " in line]) == 10
    assert len([line for line in said if ": handshake: not-tls: " in line]) == 1
    assert "handshake: end-of-stream: 25 more since the last line" in said


def test_resumed_sessions_are_counted(api: Backend, identities: Identities) -> None:
    """FR-24: as handshakes that were completed, and apart."""

    async def scenario(api: Backend) -> None:
        async with api.serve(answer, identities.server, port=0) as server:
            for _ in range(2):
                async with api.connect("127.0.0.1", identities.policy, port=server.port) as client:
                    await client.query(QUERY)
            statistics = server.statistics()
            assert (statistics.handshakes, statistics.resumed) in ((2, 0), (2, 1))

    api.run(scenario)


# What a client may hold.


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="the system does not say")
def test_a_client_that_vanishes_is_noticed(
    api: Backend, identities: Identities, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FR-29: TCP keepalive on each accepted socket, so that a place is not held for ever beside a busy handler."""
    options: dict[tuple[int, int], Any] = {}
    real = socket.socket.setsockopt

    def setsockopt(self: socket.socket, level: int, option: int, value: Any) -> None:
        options[level, option] = value
        real(self, level, option, value)

    monkeypatch.setattr(socket.socket, "setsockopt", setsockopt)
    with api.serving(answer, identities.server) as server:
        options.clear()
        with RawClient(server.port) as client:
            assert is_served(client)
    assert options[socket.SOL_SOCKET, socket.SO_KEEPALIVE] == 1
    tcp = {
        name: options[socket.IPPROTO_TCP, getattr(socket, f"TCP_{name}")]
        for name in ("KEEPIDLE", "KEEPINTVL", "KEEPCNT")
    }
    assert tcp == {"KEEPIDLE": 60, "KEEPINTVL": 15, "KEEPCNT": 4}


def test_answers_that_nobody_reads_are_bounded(api: Backend, identities: Identities) -> None:
    """FR-29: of handlers that all answer while the client does not read; it is cut off, and others are served."""
    gate = api.gate()
    asked, size, count = [], 60_000, 400
    ends: list[ConnectionEnd] = []

    def handler(query: bytes, _: Peer) -> Any:
        if name_in(query) == "example":
            asked.append(query)
            return gate.then(response_to(query, record(data=bytes(size))))
        return answer(query)

    workers = {} if api.is_async else {"workers": count}
    with (
        api.serving(handler, identities.server, on_end=ends.append, **workers) as server,
        RawClient(server.port, receive_buffer=4096) as client,
    ):
        client.send(*[QUERY] * count)
        _until(lambda: len(asked) == count)
        gate.open()
        _until(lambda: ends)
        with RawClient(server.port) as other:
            other.send(make_query("other.example"))
            assert name_in(other.message()) == "other"
    assert ends[0].reason == "reset"
    assert str(ends[0].error) == "more than 4194304 octets of responses wait for the peer to read"


@pytest.mark.parametrize(("api", "options"), WAYS, ids=IDS)
def test_what_is_computed_for_a_client_that_does_not_read(
    api: Backend, options: dict[str, Any], identities: Identities, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FR-29: three times 64 KiB beside what the kernel holds (docs/server-log.md), and one response for each worker."""
    module = importlib.import_module(f"{api.package.__name__}.driver")
    held, handled = [0], []
    flush = module.Driver.flush

    def watched(driver: Any) -> Any:
        held.append(driver._session.connection.octets_to_send + driver.unsent)
        events = flush(driver)
        held.append(driver._session.connection.octets_to_send + driver.unsent)
        return events

    def handler(query: bytes, _: Peer) -> bytes:
        handled.append(query)
        return response_to(query, record(data=bytes(60_000)))

    monkeypatch.setattr(module.Driver, "flush", watched)
    with (
        api.serving(handler, identities.server, **options) as server,
        RawClient(server.port, receive_buffer=4096) as client,
    ):
        client.send(*[QUERY] * 500)
        _stays(lambda: len(handled))
        assert len(handled) < 500
        client.reset()
    workers = options.get("workers", 0)
    assert 60_000 < max(held) <= (3 + workers) * 65_536


def test_a_client_hello_without_end(api: Backend, identities: Identities) -> None:
    """FR-29: what OpenSSL takes of one is bounded; the client is cut off, though it is in time."""
    ends: list[ConnectionEnd] = []
    hello = b"\x01\xff\xff\xff" + bytes(16_000)  # 16 MiB are announced
    with api.serving(answer, identities.server, on_end=ends.append) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5.0) as sock:
            with suppress(OSError):
                for _ in range(20):
                    sock.sendall(b"\x16\x03\x01" + len(hello).to_bytes(2) + hello)
            _until(lambda: ends)
        assert (ends[0].phase, ends[0].reason) == (ConnectionPhase.HANDSHAKE, "other")


@pytest.mark.parametrize(
    ("async_api", "waits"),
    [(api, waits) for api in ASYNC for waits in (False, True) if waits or api.name != "uvloop"],
    ids=lambda value: "later" if value is True else "at-once" if value is False else repr(value),
)
def test_ctrl_c_in_a_handler_ends_the_program(async_api: Backend, identities: Identities, waits: bool) -> None:
    """FR-20: in the main thread it comes out as it is; uvloop keeps what leaves a protocol's callback."""

    async def later() -> bytes:
        await async_api.pause()
        raise KeyboardInterrupt

    def handler(query: bytes, _: Peer) -> Any:
        if waits:
            return later()
        raise KeyboardInterrupt

    def ask(port: int) -> None:
        with suppress(OSError, EOFError), RawClient(port) as client:
            client.send(QUERY)
            client.message()

    async def scenario(api: Backend) -> None:
        async with api.serve(handler, identities.server, port=0) as server:
            asking.append(threading.Thread(target=ask, args=(server.port,)))
            asking[0].start()
            await server.serve_forever()

    asking: list[threading.Thread] = []
    with pytest.raises(KeyboardInterrupt):
        async_api.run(scenario)
    asking[0].join()


def test_a_share_records_option_says_whom_it_harms() -> None:
    """FR-57: stubby and dnsdist take only the first response of each record."""
    import dot_io.asyncio
    import dot_io.blocking
    import dot_io.trio

    for package in (dot_io.blocking, dot_io.asyncio, dot_io.trio):
        words = package.serve.__doc__ or ""
        assert "share_records" in words
        assert "stubby" in words
        assert "dnsdist" in words


# Crowds.


@contextmanager
def silent(port: int, hosts: list[str]) -> Iterator[list[socket.socket]]:
    """Clients that connect, from these addresses, and say nothing."""
    socks: list[socket.socket] = []
    try:
        for host in hosts:
            sock = socket.socket()
            socks.append(sock)
            sock.settimeout(5.0)
            sock.bind((host, 0))
            sock.connect(("127.0.0.1", port))
        yield socks
    finally:
        for sock in socks:
            sock.close()


def test_the_oldest_unfinished_handshake_makes_room(
    api: Backend, identities: Identities, caplog: pytest.LogCaptureFixture
) -> None:
    """FR-54: one place is needed, and so one of those that only wait is closed, the first that came."""
    ends: list[ConnectionEnd] = []
    with (
        api.serving(answer, identities.server, max_connections=4, on_end=ends.append) as server,
        RawClient(server.port) as first,
        silent(server.port, ["127.0.0.1"] * 3) as socks,
    ):
        assert is_served(first)
        _until(lambda: server.statistics().handshaking == 3)
        with RawClient(server.port) as newcomer:
            assert is_served(newcomer)
            assert socks[0].recv(1) == b""
            assert is_served(first)
            assert (server.statistics().open, server.statistics().handshaking) == (2, 2)
            port = socks[0].getsockname()[1]
            (end,) = ends
            assert (end.peer, end.phase, end.reason) == (
                Peer("127.0.0.1", port),
                ConnectionPhase.HANDSHAKE,
                "crowded-out",
            )
    assert any(f"port {port}: handshake: crowded-out: " in line for line in lines(caplog))


def test_the_oldest_unfinished_handshake_gives_its_descriptor(
    api: Backend, identities: Identities, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FR-54: there may be fewer descriptors than places; newcomers do not wait until a handshake is out of time."""
    ends: list[ConnectionEnd] = []
    with (
        api.serving(answer, identities.server, on_end=ends.append) as server,
        silent(server.port, ["127.0.0.1"] * 3) as socks,
    ):
        _until(lambda: server.statistics().handshaking == 3)
        replacing(monkeypatch, socket.socket, "accept", raising(NO_DESCRIPTORS))
        with RawClient(server.port) as newcomer:
            assert is_served(newcomer)
            assert socks[0].recv(1) == b""
            assert [end.reason for end in ends] == ["crowded-out"]


def test_a_complete_handshake_makes_no_room(api: Backend, identities: Identities) -> None:
    """FR-54: where all places have one, the newcomer waits, as ever, until one is free."""
    with (
        api.serving(answer, identities.server, max_connections=2) as server,
        RawClient(server.port) as first,
        RawClient(server.port) as second,
    ):
        assert is_served(first)
        assert is_served(second)
        with socket.create_connection(("127.0.0.1", server.port)) as third:
            third.settimeout(0.2)
            with pytest.raises(TimeoutError):
                third.recv(1)
            assert is_served(first)
            assert is_served(second)


def test_no_newcomer_is_lost_in_a_crowd(api: Backend, identities: Identities) -> None:
    """FR-54: five times as many that never send as there are places, from many addresses, and they come again."""
    hosts = [f"127.0.{number // 200}.{number % 200 + 1}" for number in range(100)]
    with api.serving(answer, identities.server, max_connections=20, max_connections_per_host=3) as server:
        with silent(server.port, hosts) as socks:
            _until(lambda: server.statistics().accepted == len(hosts))
            for number in range(10):
                with RawClient(server.port) as newcomer:
                    assert is_served(newcomer)
                with silent(server.port, hosts[number : number + 5]):
                    pass
            assert sum(sock.recv(1) == b"" for sock in socks[:80]) == 80
        _until(lambda: not server.statistics().handshaking)
        statistics = server.statistics()
        assert statistics.handshakes == 10
        assert not statistics.refused
        assert statistics.failed_handshakes["crowded-out"] >= 80
