"""The resolver on blocking sockets: what threads share, and what signals do to them."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest

import dot_io.blocking.resolver
from dot_io import _fork
from dot_io.blocking import Resolver
from dot_io.errors import ConnectionLostError, NoUpstreamError
from dot_io.testing import Authority, LoopbackServer
from dot_proto import LocalProtocolError, ResolverConfiguration, Upstream, certificates_from, make_query
from dot_proto.resolver.events import QueryAnswered, QueryFailed
from support.interpreted import interpreted

NAME = "dot.test"
QUERY = make_query("a.example")
GIVE_UP = 20.0
"Seconds after which what hangs has failed."


@pytest.fixture(name="authority")
def authority_fixture(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "resolver")


@pytest.fixture(name="server")
def server_fixture(authority: Authority) -> Iterator[LoopbackServer]:
    with LoopbackServer(authority.issue(NAME)) as server:
        for letter in "abc":
            server.answers[f"{letter}.example", "A"] = ["192.0.2.7"]
        yield server


@pytest.fixture(name="upstream")
def upstream_fixture(authority: Authority, server: LoopbackServer) -> Upstream:
    anchors = certificates_from(authority.root_file.read_bytes())
    return Upstream(name=NAME, addresses=[server.host], port=server.port, trust_anchors=anchors)


def test_threads_share_one_connection(server: LoopbackServer, upstream: Upstream) -> None:
    """RES-11: and each has its own answers."""

    def ask(letter: str) -> set[bytes]:
        query = make_query(f"{letter}.example")
        return {resolver.query(query)[12:14] for _ in range(50)}

    with Resolver([upstream]) as resolver, ThreadPoolExecutor(24) as threads:
        names = list(threads.map(ask, "abc" * 8))
        assert names == [{b"\1a"}, {b"\1b"}, {b"\1c"}] * 8
        assert resolver.statistics()[0].answered == 24 * 50
    assert server.connections == 1


def test_a_query_that_waits_is_no_obstacle_to_another_upstreams(
    authority: Authority, server: LoopbackServer, upstream: Upstream
) -> None:
    """The thread that moves octets waits for a slow answer; what another asks is sent, and answered, meanwhile."""
    server.delays["b.example"] = 1.0
    with Resolver([upstream]) as resolver, ThreadPoolExecutor(1) as threads:
        slow = threads.submit(resolver.query, make_query("b.example"))
        server.wait_for_queries(1)
        for _ in range(20):
            assert resolver.query(QUERY)
        assert not slow.done()
        assert slow.result()


def test_a_deadline_that_is_earlier_than_the_movers_is_kept(server: LoopbackServer, upstream: Upstream) -> None:
    """RES-36: each thread has its own."""
    server.delays["b.example"] = 1.0
    with Resolver([upstream]) as resolver, ThreadPoolExecutor(2) as threads:
        slow = threads.submit(resolver.query, make_query("b.example"))
        server.wait_for_queries(1)
        fates = dict(resolver.query_many([make_query("b.example")], timeout=0.1))
        assert isinstance(fates[0], QueryFailed)
        assert not slow.done()
        assert slow.result()


def test_where_no_descriptor_is_left_to_be_woken_by(
    upstream: Upstream, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it looks around often, and threads still have their answers."""

    def none_left() -> None:
        raise OSError(24, "Too many open files")

    server.delays["b.example"] = 0.3
    with Resolver([upstream]) as resolver, ThreadPoolExecutor(8) as threads:
        monkeypatch.setattr(resolver._poller, "share", none_left)
        queries = [make_query(f"{letter}.example") for letter in "ab" * 10]
        assert all(threads.map(resolver.query, queries))


@interpreted
def test_an_interruption_amid_its_work_breaks_off_what_is_open(
    upstream: Upstream, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waited hears of it; the resolver goes on, since it can open another connection."""
    server.delays["b.example"] = 5.0
    with Resolver([upstream]) as resolver, ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(resolver.query, make_query("b.example")) for _ in range(2)]
        server.wait_for_queries(2)
        with monkeypatch.context() as patch:
            patch.setattr(resolver._machine, "send_query", _interrupted)
            with pytest.raises(KeyboardInterrupt):
                resolver.query(QUERY)
        for one in waiting:
            with pytest.raises(ConnectionLostError) as caught:
                one.result(GIVE_UP)
            assert not caught.value.safe_to_resend
        assert resolver.query(QUERY)
        assert server.connections == 2
    with pytest.raises(Exception, match="closed"):
        resolver.query(QUERY)


def _interrupted(*_: object, **__: object) -> int:
    raise KeyboardInterrupt


@interpreted
def test_an_interruption_while_many_are_asked(
    upstream: Upstream, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each position has one fate, though handles begin anew."""
    server.delays["b.example"] = 0.3
    queries = [make_query(f"{letter}.example") for letter in "b" * 5 + "a" * 200]
    with Resolver([upstream]) as resolver, ThreadPoolExecutor(1) as threads:
        many = threads.submit(lambda: [*resolver.query_many(queries, max_in_flight=5)])
        server.wait_for_queries(5)
        with monkeypatch.context() as patch:
            patch.setattr(resolver._machine, "send_query", _interrupted)
            with pytest.raises(KeyboardInterrupt):
                resolver.query(QUERY)
        positions = [position for position, _ in many.result(GIVE_UP)]
        assert sorted(positions) == list(range(205))


def test_a_closed_one_stays_closed_after_an_interruption(upstream: Upstream) -> None:
    resolver = Resolver([upstream])
    assert resolver.query(QUERY)
    resolver.close()
    resolver._break_off()
    with pytest.raises(Exception, match="closed"):
        resolver.query(QUERY)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_child_forked_while_a_name_is_looked_up(
    upstream: Upstream, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RES-43: the thread that looks is not there, and the lock that it held is nobody's to give back."""
    server.faults[NAME] = "silent"
    named = Upstream(name=NAME, port=upstream.port, trust_anchors=upstream.trust_anchors, bootstrap=[upstream])
    held, given_back = threading.Event(), threading.Event()

    def hold(lock: threading.RLock) -> None:
        with lock:
            held.set()
            given_back.wait(GIVE_UP)

    with Resolver([named], ResolverConfiguration(open_timeout=1.0)) as resolver, ThreadPoolExecutor(2) as threads:
        pending = threads.submit(resolver.query, QUERY, timeout=1.0)
        server.wait_for_queries(1)
        (inner,) = resolver._bootstraps.values()
        threads.submit(hold, inner._lock)
        assert held.wait(GIVE_UP)
        monkeypatch.setattr(_fork, "_registered", WeakSet([resolver]))  # the order of them all is nobody's
        child = os.fork()
        if not child:
            os._exit(0 if not resolver._searches and not resolver._connections else 1)
        given_back.set()
        killer = threading.Timer(GIVE_UP, os.kill, (child, signal.SIGKILL))
        killer.start()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        killer.cancel()
        with pytest.raises(NoUpstreamError):
            pending.result(GIVE_UP)


def test_leaving_early_cancels(upstream: Upstream, server: LoopbackServer) -> None:
    """RES-37: what is in flight, and nothing else."""
    with Resolver([upstream]) as resolver:
        for position, fate in resolver.query_many([QUERY] * 100, max_in_flight=10):
            assert isinstance(fate, QueryAnswered)
            if position == 3:
                break
        assert resolver._machine.pending == 0
        assert resolver.query(QUERY)
    assert server.connections == 1


def test_an_address_that_cannot_even_be_tried(
    upstream: Upstream, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where there is no IPv6: the next address is tried at once, and where there is none, the upstream is down."""
    two = dataclasses.replace(upstream, addresses=["::1", *upstream.addresses])
    alone = dataclasses.replace(upstream, addresses=["::1"])

    def start_connecting(family: int, *rest: Any) -> Any:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return original(family, *rest)

    original = dot_io.blocking.resolver.start_connecting
    monkeypatch.setattr(dot_io.blocking.resolver, "start_connecting", start_connecting)
    with Resolver([two]) as resolver:
        assert resolver.query(QUERY)
    with Resolver([alone]) as resolver, pytest.raises(NoUpstreamError, match="Address family not supported"):
        resolver.query(QUERY, timeout=0.3)


def test_a_lookup_that_hangs_is_given_up(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """RES-8, RES-36: within the query's time; its thread is left behind, and harms nobody when it comes back."""
    released = threading.Event()

    def hangs(*_: Any, **__: Any) -> Any:
        released.wait(GIVE_UP)
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    named = Upstream(name=NAME, port=upstream.port, trust_anchors=upstream.trust_anchors, bootstrap="system")
    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    with Resolver([named], ResolverConfiguration(open_timeout=0.2)) as resolver:
        fates = dict(resolver.query_many([QUERY], timeout=0.5))
        assert isinstance(fates[0], QueryFailed)
    released.set()


BOMBARDED = """
import signal, sys, threading, time, random
from dot_io.blocking import Resolver
from dot_io.errors import ConnectionLostError
from dot_proto import Upstream, make_query
sys.unraisablehook = lambda _: None  # a signal inside a weakref's callback: Python prints it and goes on
upstream = Upstream(addresses=["127.0.0.1"], port=int(sys.argv[1]), is_opportunistic=True)
choose, query = random.Random(int(sys.argv[2])), make_query("a.example")
answered, interrupted, others, stopping = 0, 0, 0, False
resolver = Resolver([upstream])
def ask():
    global others
    while not stopping:
        try:
            resolver.query(query, timeout=5.0)
            others += 1
        except ConnectionLostError:
            pass
threads = [threading.Thread(target=ask, daemon=True) for _ in range(2)]
def ring(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, ring)
for thread in threads:
    thread.start()
end = time.monotonic() + 4.0
while time.monotonic() < end:
    try:
        signal.setitimer(signal.ITIMER_REAL, choose.uniform(0.0002, 0.004), 0.05)
        while True:
            resolver.query(query, timeout=5.0)
            answered += 1
    except KeyboardInterrupt:
        interrupted += 1
    except ConnectionLostError:
        pass
signal.setitimer(signal.ITIMER_REAL, 0)
assert resolver.query(query), "it does not stay up"
stopping = True
began = time.monotonic()
for thread in threads:
    thread.join(10.0)
    assert not thread.is_alive(), "a thread hangs"
resolver.close()
assert time.monotonic() - began < 8.0, "closing took its time"
assert interrupted > 30 and answered and others, (interrupted, answered, others)
print("fine")
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers")
@pytest.mark.parametrize("seed", range(2))
def test_interruptions_hang_nobody(seed: int, server: LoopbackServer) -> None:
    """FR-48: hundreds of KeyboardInterrupts at any instruction, with two threads more at the same resolver."""
    done = subprocess.run(
        [sys.executable, "-c", BOMBARDED, str(server.port), str(seed)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


def test_a_child_forked_while_another_thread_sends(upstream: Upstream) -> None:
    """RES-43: what is being sent is locked in the child for good; it must not keep the child from letting go."""
    with Resolver([upstream]) as resolver:
        assert resolver.query(QUERY)
        (connection,) = resolver._connections.values()
        lock = resolver._lock
        with memoryview(connection.driver._unsent):
            resolver.forget_parents()  # as in a child
        assert resolver._lock is not lock
        assert resolver.query(QUERY)


def test_a_handler_of_the_log_may_ask(authority: Authority, server: LoopbackServer, upstream: Upstream) -> None:
    """As one does that sends records to a host by its name: it is called when nothing of ours is under way."""
    other = dataclasses.replace(upstream, name="other.test")
    answers: list[bytes] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            answers.append(resolver.query(QUERY))

    handler = Handler()
    log = logging.getLogger("dot_io")
    log.addHandler(handler)
    try:
        with Resolver([other, upstream]) as resolver:
            assert resolver.query(QUERY)
            assert resolver.statistics()[0].refused == 1
    finally:
        log.removeHandler(handler)
    assert len(answers) == 1


def test_a_generator_that_the_collector_ends_amid_our_work(upstream: Upstream, server: LoopbackServer) -> None:
    """It is no thread that was interrupted: nothing is broken off, and its queries are cancelled a little later."""
    server.delays["b.example"] = 5.0
    with Resolver([upstream]) as resolver:
        abandoned = resolver.query_many([QUERY, make_query("b.example")])
        next(abandoned)
        assert resolver._machine.pending == 1
        machine = resolver._machine
        with resolver._lock, resolver._work:
            abandoned.close()  # as the collector does it, wherever it comes
        assert resolver.query(QUERY)
        assert resolver._machine is machine
        assert machine.pending == 0
        assert server.connections == 1


def test_a_call_from_inside_is_told_so(upstream: Upstream, server: LoopbackServer) -> None:
    """A signal handler comes between any two instructions: it cannot wait for what it has interrupted."""
    with Resolver([upstream]) as resolver:
        assert resolver.query(QUERY)
        with resolver._lock, resolver._work, pytest.raises(LocalProtocolError, match="amid a call of the same thread"):
            resolver.query(QUERY)
        assert resolver.query(QUERY)
        assert server.connections == 1
