"""Fork, signals, a stopped process, another loop: what becomes of connections when their process is disturbed."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import dot_io.asyncio
import dot_io.blocking
import dot_io.trio
from conformance.adapters import ASYNC, Backend
from conformance.identities import Identities
from dot_io.errors import ConnectionLostError
from dot_io.tls import ClientContext
from dot_proto import DoTError, LocalProtocolError, make_query
from support.messages import query_of_length
from support.peers import GIVE_UP, Caller, answer, name_in, scripted
from support.records import offers_session

QUERY = make_query("example.com")

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")


def answering(caller: Caller) -> None:
    while True:
        caller.send(answer(caller.query()))


def in_child(body: Any) -> int:
    """The exit status of a forked child that runs ``body``; it leaves without any of Python's own farewells."""
    child = os.fork()
    if not child:
        code = 70
        try:
            code = body()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_forked_child_leaves_them_alone_whatever_became_of_others(api: Backend, identities: Identities) -> None:
    """FR-11: clients that somebody has kept, of a loop that has ended, hinder nothing, and nothing is printed."""
    context = ClientContext(identities.policy)
    kept: list[Any] = []
    printed: list[object] = []

    async def earlier(api: Backend, port: int) -> None:
        for _ in range(8):  # the order in which they are told is nobody's
            async with api.connect("127.0.0.1", context=context, port=port) as client:
                kept.append(client)

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", context=context, port=port) as client:
            await client.query(QUERY)
            plain = getattr(client, "_wrapped", client)
            assert in_child(lambda: 0 if plain.is_closed and not printed else 1) == 0
            await client.query(QUERY)

    with scripted(answering, identities.certificate_file) as server, pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "unraisablehook", printed.append)
        api.run(earlier, server.port)
        api.run(scenario, server.port)
    assert len(kept) == 8


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_forked_child_leaves_its_parents_connection_alone(api: Backend, identities: Identities) -> None:
    """FR-11: the child is refused, closes, and exits; the parent goes on with the same connection."""
    context = ClientContext(identities.policy)

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", context=context, port=port) as client:
            await client.query(QUERY)
            tickets = len(context.sessions or ())
            assert tickets

            def body() -> int:
                plain = getattr(client, "_wrapped", client)
                assert plain.is_closed
                assert not len(context.sessions or ())
                call = plain.query(QUERY)
                try:
                    call.send(None)
                except ConnectionLostError as error:
                    return 0 if "forked" in str(error) and error.safe_to_resend else 2
                return 1

            if api.is_async:
                assert in_child(body) == 0
            else:

                def ask_and_close() -> int:
                    try:
                        client._wrapped.query(QUERY)
                    except ConnectionLostError as error:
                        client._wrapped.close()
                        return 0 if "forked" in str(error) else 2
                    return 1

                assert in_child(ask_and_close) == 0
            assert len(context.sessions or ()) == tickets
            for name in ("one", "two", "three"):
                assert name_in(await client.query(make_query(f"{name}.example"))) == name

    with scripted(answering, identities.certificate_file) as server:
        api.run(scenario, server.port)
    assert server.accepted == 1


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_child_that_only_exits_says_nothing(identities: Identities) -> None:
    """FR-11: not even through the ``with`` block that it leaves by SystemExit."""
    with scripted(answering, identities.certificate_file) as server:
        client = dot_io.blocking.connect("127.0.0.1", identities.policy, port=server.port)

        def leave() -> int:
            with suppress(SystemExit), client:
                sys.exit(0)
            return 0

        with client:
            client.query(QUERY)
            assert in_child(leave) == 0
            assert name_in(client.query(make_query("after.example"))) == "after"
    assert server.accepted == 1


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_client_whose_loop_has_ended_keeps_no_other_from_being_forgotten(identities: Identities) -> None:
    """FR-11: it was never closed, and lives on; the child lets go of it without its loop, and of the others too."""

    async def leave_open(port: int) -> Any:
        return await dot_io.asyncio.connect("127.0.0.1", identities.policy, port=port)

    with scripted(lambda caller: caller.rest(), identities.certificate_file) as server:
        clients = [asyncio.run(leave_open(server.port)) for _ in range(3)]

        def body() -> int:
            for client in clients:
                client.forget_parents()  # as the hook has done; what it raises is only printed
            return 0 if all(client.is_closed for client in clients) else 1

        try:
            assert in_child(body) == 0
        finally:
            for client in clients:  # whose loop can close nothing any more
                client._is_in_use = False
                transport = client._driver._transport
                transport._sock.close()
                transport._sock = None


PROGRAM = """
import signal, socket, sys
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
from dot_io.errors import ConnectionLostError
from dot_proto import AuthenticationPolicy, make_query
port = int(sys.argv[1])
policy = AuthenticationPolicy.opportunistic()
def expect(error):
    assert isinstance(error, ConnectionLostError), error
    print("survived")
if sys.argv[2] == "blocking":
    from dot_io.blocking import connect
    try:
        with connect("127.0.0.1", policy, port=port) as client:
            client.query(make_query("example.com"))
    except ConnectionLostError as error:
        expect(error)
elif sys.argv[2] == "trio":
    import trio
    from dot_io.trio import connect
    async def main():
        async with connect("127.0.0.1", policy, port=port) as client:
            await client.query(make_query("example.com"))
    try:
        trio.run(main)
    except ConnectionLostError as error:
        expect(error)
else:
    import asyncio
    from dot_io.asyncio import connect
    async def main():
        async with connect("127.0.0.1", policy, port=port) as client:
            await client.query(make_query("example.com"))
    try:
        asyncio.run(main())
    except ConnectionLostError as error:
        expect(error)
"""


@pytest.mark.parametrize("flavour", ["blocking", "asyncio", "trio"])
def test_a_reset_is_an_error_and_no_signal(flavour: str, identities: Identities) -> None:
    """FR-9: with SIGPIPE at its default, a server that resets TCP must not end the process."""

    def script(caller: Caller) -> None:
        caller.query()
        caller.reset()

    with scripted(script, identities.certificate_file) as server:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(server.port), flavour],
            capture_output=True,
            text=True,
            timeout=GIVE_UP,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "survived\n", "")


def test_a_process_that_was_stopped_past_its_deadline_takes_the_answer(identities: Identities) -> None:
    """FR-10: the answer came while the process was stopped (SIGSTOP, or a suspended machine); it is in the kernel."""
    asked, go_on = threading.Event(), threading.Event()

    def script(caller: Caller) -> None:
        query = caller.query()
        asked.set()
        assert go_on.wait(GIVE_UP)
        caller.send(answer(query))
        caller.rest()

    for flavour in ("blocking", "asyncio", "uvloop", "trio"):
        asked.clear()
        go_on.clear()
        with scripted(script, identities.certificate_file) as server:
            program = subprocess.Popen(
                [sys.executable, "-c", STOPPED, str(server.port), flavour], stdout=subprocess.PIPE, text=True
            )
            try:
                assert asked.wait(GIVE_UP)
                time.sleep(0.05)  # until it waits
                program.send_signal(signal.SIGSTOP)
                go_on.set()
                time.sleep(0.5)  # past its deadline of 0.4 s
                program.send_signal(signal.SIGCONT)
                output, _ = program.communicate(timeout=GIVE_UP)
            finally:
                program.kill()
                program.wait()
        assert (flavour, output) == (flavour, "answered\n")


STOPPED = """
import asyncio, sys
from dot_io.errors import QueryTimeoutError
from dot_proto import AuthenticationPolicy, make_query
port, flavour = int(sys.argv[1]), sys.argv[2]
policy, query = AuthenticationPolicy.opportunistic(), make_query("example.com")
async def ask(connect):
    async with connect("127.0.0.1", policy, port=port) as client:
        try:
            await client.query(query, timeout=0.4)
            print("answered")
        except QueryTimeoutError:
            print("timed out")
if flavour == "blocking":
    from dot_io.blocking import connect
    with connect("127.0.0.1", policy, port=port) as client:
        try:
            client.query(query, timeout=0.4)
            print("answered")
        except QueryTimeoutError:
            print("timed out")
elif flavour == "trio":
    import trio
    from dot_io.trio import connect
    trio.run(ask, connect)
else:
    from dot_io.asyncio import connect
    if flavour == "uvloop":
        import uvloop
        uvloop.run(ask(connect))
    else:
        asyncio.run(ask(connect))
"""


@pytest.mark.parametrize("api", ASYNC, ids=repr)
def test_a_client_on_another_loop_is_refused_at_the_door(api: Backend, identities: Identities) -> None:
    """FR-79: nothing leaves, nothing changes, and the loop that the client belongs to goes on with it."""

    async def misuse(api: Backend, client: Any) -> None:
        for call in (
            lambda: client.query(QUERY),
            lambda: client.close(),
            lambda: client.first_response(),
            lambda: client.query_many([QUERY]).__anext__(),
        ):
            with pytest.raises(LocalProtocolError, match="another event loop"):
                await call()

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            await api.in_thread(api.run, misuse, client)
            assert client._session.connection.pending == 0
            assert name_in(await client.query(make_query("after.example"))) == "after"

    with scripted(answering, identities.certificate_file) as server:
        api.run(scenario, server.port)


def test_a_server_that_ends_handshakes_with_an_offered_session_is_dialled_without(
    api: Backend, identities: Identities
) -> None:
    """FR-13: nothing was sent, so to dial once more is safe; and the next connection does not meet it again."""
    context = ClientContext(identities.policy)

    async def scenario(api: Backend, port: int) -> None:
        for _ in range(3):
            async with api.connect("127.0.0.1", context=context, port=port) as client:
                assert not client.handshake.is_resumed
                assert name_in(await client.query(QUERY)) == "example"

    with unwilling_to_resume(identities.certificate_file) as (port, accepted):
        api.run(scenario, port)
        assert accepted == ["served", "ended", "served", "ended", "served"]


@contextmanager
def unwilling_to_resume(certificate_file: Path) -> Iterator[tuple[int, list[str]]]:
    """A server that closes TCP when a ClientHello offers a session (its pre_shared_key extension, RFC 8446, 4.2.11)."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate_file)
    accepted: list[str] = []

    def serve_one(sock: socket.socket) -> None:
        with sock:
            sock.settimeout(GIVE_UP)
            hello = sock.recv(65_536, socket.MSG_PEEK)
            if offers_session(hello):
                accepted.append("ended")
                return
            accepted.append("served")
            with suppress(OSError, EOFError), tls.wrap_socket(sock, server_side=True) as wrapped:
                answering(Caller(wrapped))

    def run() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve_one, args=(sock,), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], accepted
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_a_client_on_asyncio_can_be_awaited_and_kept(identities: Identities) -> None:
    """FR-82: in a notebook, a lifespan, or a class that opens in one place and closes in another."""

    async def scenario(port: int) -> None:
        client = await dot_io.asyncio.connect("127.0.0.1", identities.policy, port=port)
        assert name_in(await client.query(QUERY)) == "example"
        await client.close()
        assert client.is_closed

    with scripted(answering, identities.certificate_file) as server:
        asyncio.run(scenario(server.port))


def test_a_client_that_is_dropped_open_says_so(identities: Identities) -> None:
    """FR-82: as any other object that holds a connection."""

    async def scenario(port: int) -> Any:
        return await dot_io.asyncio.connect("127.0.0.1", identities.policy, port=port)

    def drop() -> None:
        asyncio.run(scenario(server.port))
        gc.collect()

    with scripted(lambda caller: caller.rest(), identities.certificate_file) as server:
        with pytest.warns(ResourceWarning, match=f"blocking.* of 127.0.0.1 port {server.port}, open.* was dropped"):
            dot_io.blocking.connect("127.0.0.1", identities.policy, port=server.port)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            drop()
        assert any("asyncio" in str(one.message) and "was dropped" in str(one.message) for one in seen)


def test_a_block_that_is_left_by_an_exception_waits_for_nothing(api: Backend, identities: Identities) -> None:
    """FR-55: other tasks have queries out, and the server answers none of them."""

    async def scenario(api: Backend, port: int) -> None:
        began = api.now()

        async def leave() -> None:
            async with api.connect("127.0.0.1", identities.policy, port=port) as client:
                clients.append(client)
                await api.until(lambda: client._session.connection.pending)
                raise ZeroDivisionError

        async def ask() -> Any:
            await api.until(lambda: clients)
            try:
                await clients[0].query(QUERY, timeout=GIVE_UP)
            except DoTError as error:
                return error

        left, lost = await api.gather([swallowing(leave()), ask()])
        assert left is ZeroDivisionError
        assert isinstance(lost, ConnectionLostError)
        assert lost.safe_to_resend
        assert api.now() - began < 1.0

    clients: list[Any] = []
    with scripted(lambda caller: caller.rest(), identities.certificate_file) as server:
        api.run(scenario, server.port)


async def swallowing(coroutine: Any) -> Any:
    try:
        await coroutine
    except ZeroDivisionError as error:
        return type(error)


def test_a_server_that_stops_reading_delays_no_fate(api: Backend, identities: Identities) -> None:
    """FR-18: the transport is paused; each query of ``query_many`` hears its fate by its deadline, and close ends."""
    over = threading.Event()

    async def scenario(api: Backend, port: int) -> None:
        messages = [query_of_length(65_000)] * 150
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            began = api.now()
            fates = [fate async for _, fate in client.query_many(messages, timeout=0.5, max_in_flight=100)]
            assert {type(fate).__name__ for fate in fates} == {"QueryTimedOut"}
            assert len(fates) == 150
            assert api.now() - began < 5.0
            began = api.now()
        assert api.now() - began < 4.0
        over.set()

    with scripted(lambda _: over.wait(GIVE_UP), identities.certificate_file, receive_buffer=4096) as server:
        api.run(scenario, server.port)


BOMBARDED = """
import random, signal, sys, threading, time
from dot_io.blocking import connect
from dot_io.errors import ConnectionLostError
from dot_proto import AuthenticationPolicy, make_query
sys.unraisablehook = lambda _: None  # a signal inside a weakref's callback: Python prints it and goes on
port, seed = int(sys.argv[1]), int(sys.argv[2])
policy, query = AuthenticationPolicy.opportunistic(), make_query("example.com")
choose = random.Random(seed)
answered, connections, interrupted, others = 0, 0, 0, 0
client, stopping = None, False
def ask():
    global others
    while not stopping:
        try:
            if client is not None:
                client.query(query, timeout=5.0)
                others += 1
        except ConnectionLostError:
            pass
threads = [threading.Thread(target=ask, daemon=True) for _ in range(2)]
def arm():
    signal.setitimer(signal.ITIMER_REAL, choose.uniform(0.0002, 0.004), 0.05)
def ring(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, ring)
client = connect("127.0.0.1", policy, port=port)
for thread in threads:
    thread.start()
end = time.monotonic() + 4.0
while time.monotonic() < end:
    try:
        if client.is_closed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            client.close()
            client = connect("127.0.0.1", policy, port=port)
            connections += 1
        arm()
        while True:
            client.query(query, timeout=5.0)
            answered += 1
    except KeyboardInterrupt:
        interrupted += 1
    except ConnectionLostError:
        pass
signal.setitimer(signal.ITIMER_REAL, 0)
stopping = True
began = time.monotonic()
client.close()
for thread in threads:
    thread.join(10.0)
    assert not thread.is_alive(), "a thread hangs"
assert time.monotonic() - began < 8.0, "closing took its time"
assert interrupted > 100 and answered and others, (interrupted, answered, others, connections)
print("fine")
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers")
@pytest.mark.parametrize("seed", range(2))
def test_interruptions_hang_nobody(seed: int, identities: Identities) -> None:
    """FR-48: hundreds of KeyboardInterrupts at any instruction, with two threads more on the same client."""

    def script(caller: Caller) -> None:
        with suppress(OSError, EOFError):
            answering(caller)

    with scripted(script, identities.certificate_file) as server:
        done = subprocess.run(
            [sys.executable, "-c", BOMBARDED, str(server.port), str(seed)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


KI = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs in the background
import trio
from dot_io.trio import connect
from dot_proto import AuthenticationPolicy, make_query
port = int(sys.argv[1])
policy, query = AuthenticationPolicy.opportunistic(), make_query("example.com")
async def main():
    async with connect("127.0.0.1", policy, port=port) as client:
        print("ready", flush=True)
        while True:
            await client.query(query)
try:
    trio.run(main)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_ctrl_c_comes_out_of_trio_as_itself(identities: Identities) -> None:
    """FR-49: a plain KeyboardInterrupt in each of 12 runs, in no exception group."""

    def script(caller: Caller) -> None:
        with suppress(OSError, EOFError):
            answering(caller)

    with scripted(script, identities.certificate_file) as server:
        programs = list[subprocess.Popen[str]]()
        try:
            for number in range(12):
                program = subprocess.Popen(
                    [sys.executable, "-c", KI, str(server.port)],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                programs.append(program)
                assert program.stdout is not None
                assert program.stdout.readline() == "ready\n"
                time.sleep(0.003 * number)
                program.send_signal(signal.SIGINT)
            for program in programs:
                _, errors = program.communicate(timeout=GIVE_UP)
                assert not errors, errors
                assert program.returncode == 130
        finally:
            for program in programs:
                program.kill()
                program.communicate()
