"""A server that closes answers what was asked, tells newcomers, and ends in time, whoever closes it and how often."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

import dot_io.asyncio
import dot_io.blocking
from conformance.adapters import Backend
from conformance.identities import Identities
from conformance.test_servers import QUERY, _until, is_served
from conformance.test_servers_last import IDS, WAYS
from dot_io.blocking import ConnectionEnd, ConnectionPhase
from dot_proto import ServerConfiguration, make_query
from support.peers import RawClient, answer, happens, name_in

SOON = 2.0
"Seconds within which what should come at once must come, on a slow machine too."

EVERY_WAY = pytest.mark.parametrize(("api", "options"), WAYS, ids=IDS)


class Closing:
    """A handler that closes its own server when a name asks for it, and answers behind it."""

    def __init__(self, api: Backend) -> None:
        self._api = api
        self.server: Any = None
        self.asked = 0
        self.gate = api.gate()
        "Opened when as many have asked as are to close at a time."
        self.closed: list[float] = []
        "How many seconds each close took."

    def __call__(self, query: bytes, _: object) -> Any:
        if name_in(query) != "close":
            return answer(query)
        self.asked += 1
        return self._close_and_answer(query) if self._api.is_async else self._close(query)

    async def _close_and_answer(self, query: bytes) -> bytes:
        await self.gate.then(None)
        began = time.monotonic()
        await self.server.close(timeout=5.0)
        self.closed.append(time.monotonic() - began)
        return answer(query)

    def _close(self, query: bytes) -> bytes:
        self.gate.then(None)
        began = time.monotonic()
        self.server.close(timeout=5.0)
        self.closed.append(time.monotonic() - began)
        return answer(query)


@EVERY_WAY
@pytest.mark.parametrize("count", [1, 3])
def test_handlers_close_their_own_server(
    api: Backend, options: dict[str, Any], count: int, identities: Identities
) -> None:
    """FR-27: each ends soon and answers its client, several at a time too; idle clients are told to go."""
    handler = Closing(api)

    async def scenario(api: Backend) -> None:
        async with api.serve(handler, identities.server, port=0, **options) as server:
            handler.server = server
            clients = [await api.in_thread(RawClient, server.port) for _ in range(count + 1)]
            idle, *others = clients
            for client in others:
                client.send(make_query("close.example"))
            await api.in_thread(_until, lambda: handler.asked == count)
            handler.gate.open()
            for client in others:
                assert name_in(await api.in_thread(client.message)) == "close"
                assert await api.in_thread(client.ends_in_order)
                client.socket.close()
            assert await api.in_thread(idle.ends_in_order)
            idle.socket.close()
            began = time.monotonic()
        assert time.monotonic() - began < SOON
        with pytest.raises(ConnectionRefusedError):
            await api.in_thread(socket.create_connection, ("127.0.0.1", server.port))

    api.run(scenario)
    assert len(handler.closed) == count
    assert max(handler.closed) < SOON


@EVERY_WAY
def test_who_waits_to_be_accepted_is_told(api: Backend, options: dict[str, Any], identities: Identities) -> None:
    """FR-26: eight clients come as closing begins, half of them with a ClientHello: none hangs, nor does closing."""

    async def scenario(api: Backend) -> None:
        async with api.serve(answer, identities.server, port=0, **options) as server:
            socks = []
            for number in range(8):
                sock = socket.create_connection(("127.0.0.1", server.port), timeout=5.0)
                if number % 2:
                    sock.sendall(b"\x16\x03\x01\x02\x00\x01")
                socks.append(sock)
            began = time.monotonic()
        assert time.monotonic() - began < SOON
        for sock in socks:
            with suppress(ConnectionResetError):
                assert await api.in_thread(sock.recv, 100) == b""
            sock.close()

    api.run(scenario)


@EVERY_WAY
def test_closing_twice_and_by_several_at_a_time(api: Backend, options: dict[str, Any], identities: Identities) -> None:
    """FR-27: the earliest end counts for all, and once closed it stays closed."""
    gate, asked = api.gate(), threading.Event()

    def handler(query: bytes, _: object) -> Any:
        asked.set()
        return gate.then(answer(query))

    async def scenario(api: Backend) -> None:
        async def close(server: Any, seconds: float) -> None:
            if api.is_async:
                await server.close(timeout=seconds)
            else:
                await api.in_thread(partial(server.close, timeout=seconds))

        async with api.serve(handler, identities.server, port=0, **options) as server:
            client = await api.in_thread(RawClient, server.port)
            client.send(QUERY)
            await api.in_thread(happens, asked)
            began = time.monotonic()
            await api.gather([close(server, seconds) for seconds in (10.0, 0.2, 10.0)])
            assert 0.15 < time.monotonic() - began < SOON
            await close(server, 10.0)
            assert time.monotonic() - began < SOON
            client.socket.close()
            gate.open()

    api.run(scenario)


@pytest.mark.parametrize("phase", [ConnectionPhase.ACCEPT, ConnectionPhase.HANDSHAKE])
def test_a_hook_may_close_the_server(identities: Identities, phase: ConnectionPhase) -> None:
    """FR-27: it runs in the thread that accepts, or in that of a connection, neither of which waits for itself."""
    closed: list[tuple[ConnectionPhase, float]] = []

    def on_end(end: ConnectionEnd) -> None:
        if not closed:
            closed.append((end.phase, time.monotonic()))
            server.close(timeout=10.0)

    per_host = 1 if phase is ConnectionPhase.ACCEPT else 2
    with (
        dot_io.blocking.serve(
            answer, identities.server, port=0, max_connections_per_host=per_host, on_end=on_end
        ) as server,
        RawClient(server.port) as client,
    ):
        assert is_served(client)
        socket.create_connection(("127.0.0.1", server.port)).close()
        server.serve_forever()
        assert client.ends_in_order()
    ((where, when),) = closed
    assert where is phase
    assert time.monotonic() - when < SOON


def test_a_handler_that_ignores_its_cancellation(identities: Identities, caplog: pytest.LogCaptureFixture) -> None:
    """FR-52: on asyncio it is left behind, and that is said; closing ends a second after its time."""
    released, asked = asyncio.Event(), asyncio.Event()

    async def handler(query: bytes, _: object) -> bytes:
        asked.set()
        while not released.is_set():
            with suppress(asyncio.CancelledError):
                await released.wait()
        return answer(query)

    async def main() -> float:
        async with dot_io.asyncio.serve(handler, identities.server, port=0) as server:
            client = await asyncio.to_thread(RawClient, server.port)
            client.send(QUERY)
            await asked.wait()
            began = time.monotonic()
            await server.close(timeout=0.1)
            took = time.monotonic() - began
            released.set()
            client.socket.close()
        return took

    assert 1.0 < asyncio.run(main()) < 1.0 + SOON
    assert [one.getMessage() for one in caplog.records] == [
        "a handler goes on although it was cancelled, and is left behind"
    ]


@pytest.mark.parametrize(("api", "options"), WAYS[1:], ids=IDS[1:])
def test_max_duration_ends_a_connection_whose_handler_does_not(
    api: Backend, options: dict[str, Any], identities: Identities
) -> None:
    """FR-29: after max_duration and close_timeout the place is free, whatever the handler does.

    Not where it runs in the connection's own thread, which has to come back for that.
    """
    gate = api.gate()
    ends: list[ConnectionEnd] = []
    configuration = ServerConfiguration(max_duration=0.1, close_timeout=0.1)

    def handler(query: bytes, _: object) -> Any:
        return gate.then(answer(query))

    with (
        api.serving(handler, identities.server, configuration=configuration, on_end=ends.append, **options) as server,
        RawClient(server.port) as client,
    ):
        client.send(QUERY)
        began = time.monotonic()
        assert client.ends_in_order()
        client.socket.close()
        _until(lambda: ends)
        assert time.monotonic() - began < SOON
        assert ends[0].reason == "close-timeout"
        gate.open()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
@EVERY_WAY
def test_a_forked_child_that_closes_ends_nothing_of_its_parents(
    api: Backend, options: dict[str, Any], identities: Identities
) -> None:
    """FR-27: neither a connection, whose records it would count a second time, nor the accepting of others."""

    async def scenario(api: Backend) -> None:
        async with api.serve(answer, identities.server, port=0, **options) as server:
            client = await api.in_thread(RawClient, server.port)
            assert await api.in_thread(is_served, client)
            child = os.fork()
            if not child:
                status = 1
                try:
                    closing = server.close(timeout=0.5)
                    if api.is_async:
                        await closing
                    status = server.statistics().open
                finally:
                    os._exit(status)
            _, status = await api.in_thread(os.waitpid, child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            assert await api.in_thread(is_served, client)
            newcomer = await api.in_thread(RawClient, server.port)
            assert await api.in_thread(is_served, newcomer)
            client.socket.close()
            newcomer.socket.close()

    api.run(scenario)


PROGRAM = """
    import asyncio, os, signal, sys, threading, time
    import {package} as package
    from dot_io.tls import ServerContext

    context, how, options = ServerContext(sys.argv[1]), sys.argv[2], {options}

    def never(query, peer):
        print("asked", flush=True)
        threading.Event().wait()
"""

BLOCKING = (
    PROGRAM
    + """
    server = package.serve(never, context, port=0, **options)
    print(server.port, flush=True)
    if how == "signal":
        signal.signal(signal.SIGTERM, lambda *_: server.close(timeout=0.3))
        server.serve_forever()
    elif how == "close":
        sys.stdin.readline()
        server.close(timeout=0.3)
    else:
        sys.stdin.readline()
"""
)

ON_ASYNCIO = (
    PROGRAM
    + """
    async def later(query, peer):
        print("asked", flush=True)
        await asyncio.Event().wait()

    async def main():
        async with package.serve(later, context, port=0) as server:
            closing = []
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(
                signal.SIGTERM, lambda: closing.append(loop.create_task(server.close(timeout=0.3)))
            )
            print(server.port, flush=True)
            await server.serve_forever()
            await closing[0]

    asyncio.run(main())
"""
)

ON_TRIO = (
    PROGRAM
    + """
    import trio

    async def later(query, peer):
        print("asked", flush=True)
        await trio.sleep_forever()

    async def main():
        async with package.serve(later, context, port=0) as server:
            print(server.port, flush=True)
            with trio.open_signal_receiver(signal.SIGTERM) as signals:
                async for _ in signals:
                    await server.close(timeout=0.3)
                    break

    trio.run(main)
"""
)

PROGRAMS = [
    ("dot_io.blocking", BLOCKING, {"workers": 0}, "close"),
    ("dot_io.blocking", BLOCKING, {"workers": 2}, "close"),
    ("dot_io.blocking", BLOCKING, {"workers": 0}, "signal"),
    ("dot_io.blocking", BLOCKING, {"workers": 2}, "signal"),
    ("dot_io.blocking", BLOCKING, {"workers": 2}, "exit"),
    ("dot_io.asyncio", ON_ASYNCIO, {}, "signal"),
    ("dot_io.trio", ON_TRIO, {}, "signal"),
]


@pytest.mark.parametrize(("package", "text", "options", "how"), PROGRAMS)
def test_a_handler_that_never_returns_keeps_no_process(
    identities: Identities, package: str, text: str, options: dict[str, int], how: str
) -> None:
    """FR-52: closed in order, by a signal's handler, or not at all, the process ends, and says nothing."""
    program = textwrap.dedent(text).replace("{package}", package).replace("{options}", str(options))
    command = [sys.executable, "-W", "error", "-c", program, str(identities.certificate_file), how]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            with RawClient(int(process.stdout.readline())) as client:
                client.send(QUERY)
                assert process.stdout.readline() == "asked\n"
                began = time.monotonic()
                if how == "signal":
                    process.send_signal(signal.SIGTERM)
                _, said = process.communicate("\n", timeout=10.0)
        finally:
            process.kill()
    assert (process.returncode, said) == (0, "")
    assert time.monotonic() - began < 5.0
