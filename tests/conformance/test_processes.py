"""Processes that stop, fork or end amid a connection: neighbours of test_interruptions.py."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dot_io.blocking
from conformance.adapters import Backend
from conformance.identities import Identities
from conformance.misbehaviour import serve
from conformance.test_interruptions import in_child, needs_fork
from dot_io.tls.cache import ClientChains, SessionReads
from dot_proto import make_query
from support.peers import GIVE_UP, Caller, name_in, scripted

FLAVOURS = ("blocking", "asyncio", "uvloop", "trio")

QUERY = make_query("example.com")

forks = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")

STOPPED = """
import asyncio, sys
from dot_proto import AuthenticationPolicy, DoTError, make_query
port, flavour = int(sys.argv[1]), sys.argv[2]
policy, query = AuthenticationPolicy.opportunistic(), make_query("example.com")
async def ask(connect):
    async with connect("127.0.0.1", policy, port=port, timeout=0.4) as client:
        print("connected", flush=True)
try:
    if flavour == "blocking":
        from dot_io.blocking import connect
        with connect("127.0.0.1", policy, port=port, timeout=0.4) as client:
            print("connected", flush=True)
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
except DoTError as error:
    print(error)
"""


def test_a_process_that_was_stopped_amid_its_handshake(identities: Identities) -> None:
    """FR-10: the server's whole flight came past the deadline and lies in the kernel: it is taken."""
    hellos, go_on = threading.Semaphore(0), threading.Event()
    context = identities.plain_context()

    def script(caller: Caller) -> None:
        caller.socket.recv(1, socket.MSG_PEEK)  # the ClientHello has come
        hellos.release()
        assert go_on.wait(GIVE_UP)
        with context.wrap_socket(caller.socket, server_side=True) as wrapped:
            Caller(wrapped).rest()

    with scripted(script, None) as server:
        programs = list[subprocess.Popen[str]]()
        for flavour in FLAVOURS:
            command = [sys.executable, "-c", STOPPED, str(server.port), flavour]
            programs.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            assert hellos.acquire(timeout=GIVE_UP)
            programs[-1].send_signal(signal.SIGSTOP)  # at once: it has 0.4 s from the start of its dialling
        go_on.set()
        time.sleep(0.6)  # past the deadline of 0.4 s
        for program in programs:
            program.send_signal(signal.SIGCONT)
        said = [program.communicate(timeout=GIVE_UP)[0] for program in programs]
    assert dict(zip(FLAVOURS, said, strict=True)) == dict.fromkeys(FLAVOURS, "connected\n")


@needs_fork
@forks
def test_a_child_forked_amid_a_handshake_leaves_it_alone(api: Backend, identities: Identities) -> None:
    """FR-11: nobody in the child has that client; the parent's handshake goes on."""
    forked = threading.Event()
    context = identities.plain_context()

    def script(caller: Caller) -> None:
        caller.socket.recv(1, socket.MSG_PEEK)
        assert in_child(lambda: 0) == 0  # from a thread, with clients amid their handshakes
        forked.set()
        with context.wrap_socket(caller.socket, server_side=True) as wrapped:
            serve(Caller(wrapped))

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            assert forked.is_set()
            assert name_in(await client.query(QUERY)) == "example"

    with scripted(script, None) as server:
        api.run(scenario, server.port)


WITHOUT_DESCRIPTORS = """
import os, resource, sys
from dot_io.blocking import connect
from dot_io.errors import ConnectionLostError
from dot_proto import AuthenticationPolicy, make_query
query = make_query("example.com")
with connect("127.0.0.1", AuthenticationPolicy.opportunistic(), port=int(sys.argv[1])) as client:
    client.query(query)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # no more than are open
    child = os.fork()
    if not child:
        try:
            client.query(query)
        except ConnectionLostError:
            client.close()
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    client.query(query)
"""


@needs_fork
def test_a_child_without_descriptors_leaves_its_parents_connection_alone(identities: Identities) -> None:
    """FR-11: it lets go of the connection all the same; shutting its copy down would end the parent's."""
    with scripted(serve, identities.certificate_file) as server:
        command = [sys.executable, "-c", WITHOUT_DESCRIPTORS, str(server.port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIVE_UP, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert server.accepted == 1


@needs_fork
@forks
@pytest.mark.parametrize("make", [lambda: SessionReads(3), ClientChains], ids=["session-reads", "client-chains"])
def test_a_child_meets_no_lock_of_its_parents_threads(make: Callable[[], Any]) -> None:
    """FR-11: another thread had it at the moment of the fork, and does not live in the child."""
    one = make()

    def child() -> int:
        if isinstance(one, SessionReads):
            return 0 if one.take() else 1
        return 1 if one.is_valid(b"", wall_time=0.0) else 0

    with one._lock:
        signal.alarm(int(GIVE_UP))
        try:
            assert in_child(child) == 0
        finally:
            signal.alarm(0)


EXITS = """
import asyncio, atexit, sys, threading, time
from dot_proto import AuthenticationPolicy, DoTError, make_query
port, how = int(sys.argv[1]), sys.argv[2]
policy, query = AuthenticationPolicy.opportunistic(), make_query("example.com")
import dot_io.blocking
if how == "open":
    client = dot_io.blocking.connect("127.0.0.1", policy, port=port)
    client.query(query)
elif how == "asking":
    client = dot_io.blocking.connect("127.0.0.1", policy, port=port)
    def ask():
        while True:
            client.query(query)
    threading.Thread(target=ask, daemon=True).start()
    time.sleep(0.1)
elif how == "atexit":
    def ask():
        with dot_io.blocking.connect("127.0.0.1", policy, port=port) as client:
            client.query(query)
        try:
            dot_io.blocking.connect("localhost", policy, port=1, timeout=1.0)
        except DoTError:
            pass
    atexit.register(ask)
elif how == "circle":
    class Owner:
        pass
    owner = Owner()
    owner.client = dot_io.blocking.connect("127.0.0.1", policy, port=port)
    owner.itself = owner
elif how == "loop":
    import dot_io.asyncio
    async def main():
        client = await dot_io.asyncio.connect("127.0.0.1", policy, port=port)
        await client.query(query)
        return client
    client = asyncio.run(main())
print("done", flush=True)
"""


@pytest.mark.parametrize("how", ["open", "asking", "atexit", "circle", "loop"])
def test_a_process_that_ends_with_clients_open(how: str, identities: Identities) -> None:
    """Ends at once, with exit status 0, and without a word on standard error."""

    def script(caller: Caller) -> None:
        try:
            serve(caller)
        except OSError:  # the process has ended
            raise EOFError from None

    with scripted(script, identities.certificate_file) as server:
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-W", "ignore::ResourceWarning", "-c", EXITS, str(server.port), how],
            capture_output=True,
            text=True,
            timeout=GIVE_UP,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    assert time.monotonic() - began < GIVE_UP / 2


class Rang(Exception):
    """Raised by the handler of a signal."""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers")
@pytest.mark.parametrize("wait", ["handshake", "first_response", "query", "query_many", "queue", "close"])
def test_a_signals_handler_raises_in_each_wait(wait: str, identities: Identities) -> None:
    """FR-48: what it raises comes out as it is, at once; the client can be closed, and nothing is left."""

    def ring(*_: object) -> None:
        raise Rang

    def arm() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.05)

    def body(port: int) -> None:
        options: dict[str, Any] = {"first_query": QUERY} if wait == "first_response" else {}
        if wait == "handshake":
            arm()
        with dot_io.blocking.connect("127.0.0.1", identities.policy, port=port, timeout=GIVE_UP, **options) as client:
            if wait == "queue":
                for _ in range(client._queue.capacity):
                    client._session.connection.send_query(QUERY, now=time.monotonic(), timeout=GIVE_UP)
            elif wait == "close":
                client._session.connection.send_query(QUERY, now=time.monotonic(), timeout=GIVE_UP)
            arm()
            match wait:
                case "first_response":
                    client.first_response()
                case "query_many":
                    list(client.query_many([QUERY] * 3, timeout=GIVE_UP))
                case "close":
                    client.close(timeout=GIVE_UP)
                case _:
                    client.query(QUERY, timeout=GIVE_UP)

    certificate: Path | None = None if wait == "handshake" else identities.certificate_file
    before = signal.signal(signal.SIGALRM, ring)
    try:
        began = time.monotonic()
        with scripted(lambda caller: caller.rest(), certificate) as server, pytest.raises(Rang):
            body(server.port)
        assert time.monotonic() - began < GIVE_UP / 2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
