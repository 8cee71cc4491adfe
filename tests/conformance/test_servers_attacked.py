"""What an attacker of a server tries: to keep others out, to write the log, to make the counters lie."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from contextlib import ExitStack, suppress
from typing import Any

import pytest
import trio

import dot_io.blocking
from conformance.adapters import Backend, Blocking, Trio
from conformance.identities import Identities
from conformance.test_servers import QUERY, _until, is_served
from conformance.test_servers_close import SOON, WAYS
from conformance.test_servers_last import NO_DESCRIPTORS, lines, raising, replacing, silent
from dot_io._connections import ConnectionTable
from dot_io._limits import ConnectionLimits
from dot_io.blocking import ConnectionEnd, ConnectionPhase, Peer
from dot_proto import ServerConfiguration, make_query
from support.messages import record, response_to
from support.peers import GIVE_UP, RawClient, answer, happens, name_in


@pytest.mark.parametrize("host", ["127.0.0.9", "127.0.0.1"])
def test_who_connects_again_and_again_crowds_out_itself(api: Backend, identities: Identities, host: str) -> None:
    """FR-54: one address, with as many connections as it likes, ends no handshake of another's, be it ever so slow."""
    client, server_side = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    tls = context.wrap_bio(client, server_side)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    with (
        api.serving(answer, identities.server, max_connections=4) as server,
        RawClient(server.port) as first,
        ExitStack() as stack,
    ):
        assert is_served(first)
        (slow,) = stack.enter_context(silent(server.port, ["127.0.0.2"]))
        _until(lambda: server.statistics().handshaking == 1)
        for number in range(10):
            stack.enter_context(silent(server.port, [host]))
            _until(lambda: server.statistics().accepted == number + 3)  # noqa: B023
        _until(lambda: server.statistics().failed_handshakes == {"crowded-out": 8})
        slow.sendall(server_side.read())
        client.write(slow.recv(65_536))
        while server.statistics().open < 2:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                client.write(slow.recv(65_536))
            else:
                slow.sendall(server_side.read())
                _until(lambda: server.statistics().open == 2)


def test_the_protocols_of_a_client_write_no_log(
    api: Backend, identities: Identities, caplog: pytest.LogCaptureFixture
) -> None:
    """FR-24: their names may be any octets, and 15,000 of them: one short line, without what steers a terminal."""
    caplog.set_level(logging.INFO, "dot_io")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    ends: list[ConnectionEnd] = []
    with api.serving(answer, identities.server, on_end=ends.append) as server:
        for protocols in (["h2\n127.0.0.1 port 1: open: forged\x1b[2J"], ["x" * 250] * 60):
            context.set_alpn_protocols(protocols)
            with socket.create_connection(("127.0.0.1", server.port)) as sock, pytest.raises(ssl.SSLError):
                context.wrap_socket(sock)
        _until(lambda: len(ends) == 2)
    assert len(lines(caplog)) == 2
    for line in lines(caplog):
        assert line.isprintable()
        assert len(line) < 200


def test_counters_never_go_back(api: Backend, identities: Identities) -> None:
    """FR-24: also while queries are left unanswered, or fail, one after the other in one read."""
    counted: list[int] = []

    def handler(query: bytes, _: Peer) -> bytes | None:
        counted.append(server.statistics().responses)
        name = name_in(query)
        if name == "fails":
            raise ValueError("wrong")
        return answer(query) if name == "example" else None

    queries = [make_query(name) for name in ("example.com", "none.example", "fails.example")] * 5
    with api.serving(handler, identities.server) as server, RawClient(server.port) as client:
        client.send(*queries)
        _until(lambda: len(counted) == len(queries))
        _until(lambda: server.statistics().responses == 5)
    assert counted == sorted(counted)
    assert counted[0] == 0


def test_a_signal_may_come_while_its_thread_counts() -> None:
    """FR-52: a signal's handler that closes, or asks for the statistics, then waits for no lock of its own thread."""

    def clock() -> float:  # is asked with the lock held: a signal could come there
        table.statistics()
        table.write_what_was_left_out()
        return 0.0

    table = ConnectionTable(ConnectionLimits(1, 1), clock=clock)
    thread = threading.Thread(target=table.enter, args=(Peer("127.0.0.1", 1),), daemon=True)
    thread.start()
    thread.join(5.0)
    assert not thread.is_alive()


def test_a_log_that_raises_harms_nobody(api: Backend, identities: Identities) -> None:
    """FR-52: a filter of the program's is asked for each line, and may fail."""

    def fail(_: logging.LogRecord) -> bool:
        raise ValueError("wrong")

    log = logging.getLogger("dot_io")
    log.addFilter(fail)
    try:
        with api.serving(answer, identities.server, max_connections=1) as server:
            for _ in range(12):  # so that some are left out, and told when the server closes
                socket.create_connection(("127.0.0.1", server.port)).close()
            with RawClient(server.port) as client:
                assert is_served(client)
    finally:
        log.removeFilter(fail)


def test_a_handler_with_a_nursery_is_cancelled_without_a_word(
    identities: Identities, caplog: pytest.LogCaptureFixture
) -> None:
    """FR-20: trio then raises a group of cancellations; that the client has gone is no failure of the handler's."""
    asked: list[bytes] = []

    async def handler(query: bytes, _: Peer) -> Any:
        async with trio.open_nursery() as nursery:
            asked.append(query)
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(trio.sleep_forever)

    with Trio().serving(handler, identities.server) as server:
        client = RawClient(server.port)
        client.send(QUERY)
        _until(lambda: asked)
        client.reset()
        _until(lambda: not server.statistics().open)
        assert server.statistics().servfails == 0
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]


@pytest.mark.parametrize(("api", "options"), WAYS, ids=[f"{api}-{options}" for api, options in WAYS])
def test_who_does_not_read_cannot_go_on_to_send(api: Backend, options: dict[str, Any], identities: Identities) -> None:
    """FR-29: once its time is over nothing of it is read any more, however much it sends."""
    ends: list[ConnectionEnd] = []
    configuration = ServerConfiguration(idle_timeout=0.5, idle_grace=0.0)
    options = {**options, "configuration": configuration, "on_end": ends.append}

    def handler(query: bytes, _: Peer) -> bytes:
        return response_to(query, record(data=bytes(20_000)))

    with (
        api.serving(handler, identities.server, **options) as server,
        RawClient(server.port, receive_buffer=4096) as client,
    ):
        client.socket.settimeout(GIVE_UP)

        def flood() -> None:
            with suppress(OSError):
                while not stop.is_set():
                    client.send(*[QUERY] * 1000)

        stop, thread = threading.Event(), threading.Thread(target=flood)
        thread.start()
        try:
            _until(lambda: ends)
        finally:
            stop.set()
            thread.join()
    assert ends[0].reason == "reset"
    assert str(ends[0].error) == "the peer does not read what it is sent"


@pytest.mark.parametrize("workers", [0, 4])
def test_on_end_closes_while_a_handler_does(identities: Identities, workers: int) -> None:
    """FR-52: the hook of a client that was refused runs where others are accepted; neither waits for the other."""
    is_asked, is_refused, took = threading.Event(), threading.Event(), []

    def close() -> None:
        began = time.monotonic()
        server.close(timeout=GIVE_UP)
        took.append(time.monotonic() - began)

    def on_end(end: ConnectionEnd) -> None:
        if end.phase is ConnectionPhase.ACCEPT:
            is_refused.set()
            close()

    def handler(query: bytes, _: Peer) -> bytes:
        is_asked.set()
        happens(is_refused)
        close()
        return answer(query)

    server = dot_io.blocking.serve(
        handler, identities.server, port=0, max_connections_per_host=1, on_end=on_end, workers=workers
    )
    with server, RawClient(server.port) as client:
        client.send(QUERY)
        happens(is_asked)
        socket.create_connection(("127.0.0.1", server.port)).close()
        assert name_in(client.message()) == "example"
        assert client.ends_in_order()
        client.socket.close()
        _until(lambda: len(took) == 2)
    assert max(took) < SOON


def test_who_says_nothing_holds_no_descriptors_that_a_newcomer_needs(
    identities: Identities, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FR-54: a thread of the blocking server takes two of its own; without them the oldest handshake makes room."""
    made, make = list[int](), socket.socketpair

    def counted(*arguments: Any) -> tuple[socket.socket, socket.socket]:
        pair = make(*arguments)
        made.append(len(made))
        return pair

    monkeypatch.setattr(socket, "socketpair", counted)
    with Blocking().serving(answer, identities.server) as server, silent(server.port, ["127.0.0.1"]) as (first,):
        _until(lambda: len(made) == 2)  # those of the thread that accepts, and those of the first client's
        with monkeypatch.context() as patch:
            replacing(patch, socket, "socketpair", raising(NO_DESCRIPTORS))
            with silent(server.port, ["127.0.0.1"]) as (second,):
                assert second.recv(1) == b""
                assert first.recv(1) == b""
        with RawClient(server.port) as newcomer:
            assert is_served(newcomer)
        _until(lambda: server.statistics().failed_handshakes == {"crowded-out": 1})
        assert server.statistics().refused == {"local": 1}
