"""What surrounds a resolver: servers that close while nobody waits, its bootstrap, its process, its log."""

from __future__ import annotations

import logging
import re
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

import pytest

from conformance.adapters import Backend
from conformance.test_interruptions import in_child, needs_fork
from conformance.test_resolver import (
    NAME,
    QUERY,
    SHORT,
    Machine,
    Servers,
    failure,
    is_answer,
    named,
    unused_port,
)
from conformance.test_resolver import servers_fixture as servers_fixture
from conformance.test_verdicts import Server
from dot_io._resolver import MAX_LOOKUPS
from dot_io.errors import ConnectionLostError, NoUpstreamError
from dot_proto import ClientConfiguration, make_query
from dot_proto.resolver.configuration import ResolverConfiguration, Strategy
from dot_proto.resolver.upstream import Upstream
from support.lookups import hanging
from support.messages import question_of
from support.peers import GIVE_UP, Caller, answer, happens, scripted
from support.pki import NAME as PKI_NAME
from support.pki import Pki
from support.pki import pki_fixture as pki_fixture

BY_TURNS = ResolverConfiguration(strategy=Strategy.ROUND_ROBIN, connection=ClientConfiguration(idle_timeout=0.0))
"For connections that are closed as soon as they have answered."

forks = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")


def plain(resolver: Any) -> Any:
    """The backend's own, where it is wrapped."""
    return getattr(resolver, "_wrapped", resolver)


# The server, while nobody waits


ENDS: dict[str, Callable[[Caller], object]] = {
    "close_notify": Caller.send_close_notify,
    "FIN": lambda caller: caller.socket.shutdown(socket.SHUT_RDWR),
    "RST": Caller.reset,
}


@pytest.mark.parametrize("end", ENDS)
def test_a_server_that_closed_while_nobody_waited_costs_no_query(api: Backend, servers: Servers, end: str) -> None:
    """RES-18: it is noticed before a query goes out there, so that none is lost, and none is sent twice."""
    asked, ended = threading.Semaphore(0), threading.Semaphore(0)

    def script(caller: Caller) -> None:
        caller.send(answer(caller.query()))
        assert asked.acquire(timeout=GIVE_UP)
        ENDS[end](caller)
        ended.release()

    async def scenario(api: Backend, port: int) -> None:
        upstream = Upstream(addresses=["127.0.0.1"], port=port, is_opportunistic=True)
        async with api.resolver([upstream]) as one:
            for _ in range(3):
                assert await one.query(QUERY)
                asked.release()
                assert await api.in_thread(partial(ended.acquire, timeout=GIVE_UP))
                if api.is_async:  # its loop reads; where queries block, the next one looks
                    await api.until(lambda: not one.statistics()[0].connections)
            (counted,) = one.statistics()
            assert (counted.sent, counted.resent, counted.lost, counted.opened) == (3, 0, 0, 3)
            assert (counted.failed, counted.is_up) == (0, True)

    with scripted(script, servers.identity_file) as server:
        api.run(scenario, server.port)


# Tickets


def test_a_ticket_is_offered_to_the_address_and_policy_of_before_alone(api: Backend, pki: Pki) -> None:
    """RES-10, RES-42: in one resolver, where the server would take it at each of its addresses."""
    server = Server(pki, *pki.honest, host="")
    addresses = ["127.0.0.1", "127.0.0.2"]
    upstream_of = partial(Upstream, name=PKI_NAME, trust_anchors=[pki.root.der], port=server.port)
    by_name, by_pin_too = upstream_of(addresses=addresses), upstream_of(addresses=addresses, pins=[pki.leaf.pin])

    async def scenario(api: Backend) -> None:
        async with api.resolver([by_name, by_pin_too], BY_TURNS) as one:
            for address in (*addresses, *addresses):
                for record in plain(one)._machine._records:
                    record.last_good = address  # it is dialled first
                    assert await one.query(QUERY)
                    if api.is_async:
                        await api.until(lambda: not any(each.connections for each in one.statistics()))
            assert [each.opened for each in one.statistics()] == [4, 4]

    with server.running():
        api.run(scenario)
    assert server.offered == [False] * 4 + [True] * 4


# The bootstrap


def test_a_bootstrap_that_never_answers_one_of_both_types(api: Backend, servers: Servers) -> None:
    """RES-8: there are servers that drop AAAA; what has come for A is enough, before the lookup is given up."""
    server = servers.start(host="127.0.0.1")

    def drops_aaaa(caller: Caller) -> None:
        for query in caller.queries(2):
            if question_of(query)[-4:-2] == b"\0\1":
                caller.send(address_of_loopback(query))
        caller.rest()

    async def scenario(api: Backend, port: int) -> None:
        bootstrap = servers.at("127.0.0.1", port)
        upstream = servers.at("", server.port, addresses=(), bootstrap=[bootstrap])
        async with api.resolver([upstream], ResolverConfiguration(open_timeout=0.8)) as one:
            assert is_answer(await one.query(QUERY))
            assert one.statistics()[0].failed == 0

    with scripted(drops_aaaa, servers.identity_file) as bootstrap:
        api.run(scenario, bootstrap.port)


def address_of_loopback(query: bytes) -> bytes:
    return answer(query)[:-4] + socket.inet_aton("127.0.0.1")


def test_a_bootstrap_that_is_gone_leaves_the_address_of_before(api: Backend, servers: Servers) -> None:
    """RES-8: it serves, past its TTL, while the lookup fails."""
    server, bootstrap = servers.start(host="127.0.0.1"), servers.start()
    bootstrap.answers[NAME, "A"] = ["127.0.0.1"]

    async def scenario(api: Backend) -> None:
        async with api.resolver([named(servers, server, bootstrap)], SHORT) as one:
            assert is_answer(await one.query(QUERY))
            bootstrap.close()
            for _ in range(2):
                one.network_changed()
                if bootstrap.connections == 1:
                    plain(one)._machine._records[0].addresses_until = 0.0  # a day goes by
                assert is_answer(await one.query(QUERY))
            assert one.statistics()[0].failed == 0

    api.run(scenario)
    assert server.connections == 3


def test_a_bootstrap_where_no_query_may_wait(api: Backend, servers: Servers) -> None:
    """RES-8: A and AAAA wait for its connection together, whatever the limit for the caller's queries is."""
    server, bootstrap = servers.start(host="127.0.0.1"), servers.start()
    bootstrap.answers[NAME, "A"] = ["127.0.0.1"]

    async def scenario(api: Backend) -> None:
        async with api.resolver([named(servers, server, bootstrap)], ResolverConfiguration(max_waiting=1)) as one:
            assert is_answer(await one.query(QUERY))

    api.run(scenario)


def test_what_is_learnt_of_a_bootstrap_is_kept(api: Backend, servers: Servers) -> None:
    """RES-8, RES-32: an impostor there has one handshake, and not one a lookup; another network is another chance."""
    impostor = servers.start("other.test")
    upstreams = [
        servers.at("", 853, name=name, addresses=(), bootstrap=servers.of(impostor)) for name in ("a.test", "b.test")
    ]

    async def scenario(api: Backend) -> None:
        async with api.resolver(upstreams) as one:
            for networks in (1, 2):
                for _ in range(2):
                    assert isinstance(await failure(one.query(QUERY, timeout=0.5)), NoUpstreamError)
                assert impostor.connections == networks
                one.network_changed()

    api.run(scenario)


def test_networks_that_change_in_turns_leave_no_lookups_behind(
    api: Backend, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RES-39: a lookup that hangs is not waited for in the next network; but there is not one for each change."""
    upstream = servers.at("", 853, addresses=(), bootstrap="system")

    async def scenario(api: Backend) -> None:
        async with api.resolver([upstream]) as one:
            for _ in range(12):
                assert isinstance(await failure(one.query(QUERY, timeout=0.02)), NoUpstreamError)
                one.network_changed()

    with hanging(monkeypatch) as asked:
        api.run(scenario)
        assert asked == [NAME] * MAX_LOOKUPS


def test_a_lookup_that_fails_leaves_the_next_one_to_tell(
    api: Backend, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RES-39: that of the old network fails, while that of the new one is under way."""
    server = servers.start(host="127.0.0.1")
    upstream = servers.at("", server.port, addresses=(), bootstrap="system")
    has_asked, asked = threading.Event(), list[str]()

    def getaddrinfo(host: str, *_: object, **__: object) -> Any:
        asked.append(host)
        if len(asked) == 1:
            has_asked.wait(GIVE_UP)
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        has_asked.set()
        time.sleep(0.05)  # until the other one has failed
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", server.port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def scenario(api: Backend) -> None:
        async with api.resolver([upstream]) as one:
            assert isinstance(await failure(one.query(QUERY, timeout=0.02)), NoUpstreamError)
            one.network_changed()
            assert is_answer(await one.query(QUERY))
            assert one.statistics()[0].failed == 0

    api.run(scenario)
    assert asked == [NAME, NAME, "127.0.0.1"]


def test_closing_amid_a_lookup(api: Backend, servers: Servers) -> None:
    """RES-8, RES-38: the connection to the bootstrap ends with it, at once, and so does the query that waits."""
    asked, ended = threading.Event(), threading.Event()

    def script(caller: Caller) -> None:
        caller.queries(2)
        asked.set()
        caller.rest()
        ended.set()

    async def scenario(api: Backend, port: int) -> None:
        upstream = servers.at("", 853, addresses=(), bootstrap=[servers.at("127.0.0.1", port)])
        async with api.resolver([upstream]) as one:

            async def close() -> None:
                await api.until(asked.is_set)
                began = monotonic()
                await one.close()
                await api.until(ended.is_set)
                assert monotonic() - began < 1.0

            result, closed = await api.gather([one.query(QUERY), close()])
            assert isinstance(result, ConnectionLostError)
            assert closed is None

    with scripted(script, servers.identity_file) as bootstrap:
        api.run(scenario, bootstrap.port)


# The process


@needs_fork
@forks
def test_parent_and_child_are_both_answered(api: Backend, servers: Servers) -> None:
    """RES-43: the parent on its connection, with a query pending there; the child on one of its own, unresumed."""
    server = servers.start()
    server.delays["b.example"] = 0.5

    async def scenario(api: Backend) -> None:
        async with api.resolver(servers.of(server)) as one:
            answered: list[bool] = []

            async def ask() -> None:
                async with one:
                    assert not one.statistics()[0].opened
                    answered.append(is_answer(await one.query(QUERY)))
                    assert one.statistics()[0].opened == 1

            def child() -> int:
                thread = threading.Thread(target=api.run, args=[lambda _: ask()])  # no loop runs there
                thread.start()
                thread.join(GIVE_UP)
                return 0 if answered == [True] else 2

            async def fork() -> None:
                await api.until(lambda: server.queries)
                assert in_child(child) == 0

            pending, forked = await api.gather([one.query(make_query("b.example")), fork()])
            assert forked is None
            assert is_answer(pending)
            assert is_answer(await one.query(QUERY))
            assert one.statistics()[0].opened == 1

    api.run(scenario)
    assert server.connections == 2


@needs_fork
@forks
def test_a_child_forked_amid_a_lookup_leaves_it_alone(api: Backend, servers: Servers) -> None:
    """RES-8, RES-43: the connection to the bootstrap is the parent's too."""
    server, forked = servers.start(host="127.0.0.1"), threading.Event()

    def script(caller: Caller) -> None:
        queries = caller.queries(2)
        happens(forked)
        caller.send(*map(address_of_loopback, queries))
        caller.rest()

    async def scenario(api: Backend, port: int) -> None:
        upstream = servers.at("", server.port, addresses=(), bootstrap=[servers.at("127.0.0.1", port)])

        async def ask() -> None:
            async with api.resolver([upstream]) as one:
                assert is_answer(await one.query(QUERY))
                assert one.statistics()[0].failed == 0

        async def fork() -> None:
            await api.until(lambda: bootstrap.handshakes == 8)
            assert in_child(lambda: 0) == 0
            forked.set()

        # The order in which they are told is nobody's.
        assert await api.gather([*(ask() for _ in range(8)), fork()]) == [None] * 9

    with scripted(script, servers.identity_file) as bootstrap:
        api.run(scenario, bootstrap.port)


# The network


def test_a_change_is_noticed_while_the_silence_lasts_and_nobody_is_blamed(async_api: Backend, servers: Servers) -> None:
    """RES-39, RES-40: what is owed is asked anew at the same server; the second one is shown nothing."""
    first, second = servers.start(), servers.start()

    async def scenario(api: Backend, change: Callable[[Machine], None]) -> None:
        async with api.resolver(servers.of(first, second), SHORT) as one:
            machine = Machine(one)
            assert is_answer(await one.query(QUERY))
            first.fault = "silent"
            change(machine)

            async def heal() -> None:
                before = first.connections
                await api.until(lambda: first.connections > before)
                first.fault = None

            response, healed = await api.gather([one.query(QUERY), heal()])
            assert healed is None
            assert is_answer(response)
            assert one.statistics()[0].is_up

    async_api.run(scenario, lambda machine: setattr(machine, "asleep", 3600.0))
    async_api.run(scenario, lambda machine: setattr(machine, "source", "127.0.0.9"))
    assert second.connections == 0


# The log


def test_the_log_of_a_day(api: Backend, servers: Servers, caplog: pytest.LogCaptureFixture) -> None:
    """RES-44, RES-6: opened, closed and why, down until when, up; no name that was asked for, and no account."""
    caplog.set_level(logging.DEBUG, "dot_io")
    account = "abc123.dns.nextdns.io"
    server, bootstrap, impostor = servers.start(account), servers.start(), servers.start("other.test")
    server.faults["b.example"] = "close"

    async def scenario(api: Backend) -> None:
        async with api.resolver(servers.of(server, name=account), SHORT) as one:
            assert is_answer(await one.query(QUERY))
            await failure(one.query(make_query("b.example")))
        unreachable = [
            servers.at("127.0.0.1", unused_port(), name=account),
            servers.at("", 853, name=account, addresses=(), bootstrap=servers.of(bootstrap)),
            *servers.of(impostor, name=account),
        ]
        async with api.resolver(unreachable, SHORT) as one:
            error = await failure(one.query(QUERY, timeout=0.3))
            assert isinstance(error, NoUpstreamError)
            assert "abc123" not in str(error)

    api.run(scenario)
    text = caplog.text
    assert len(re.findall(r"upstream tls://127\S+#\*\*\*.dns.nextdns.io: connection \d is open", text)) == 3
    assert len(re.findall(r"connection \d has ended \(peer-closed\); queries without an answer: 1", text)) == 3
    assert re.search(r"upstream tls://127\S+#\*\*\*.dns.nextdns.io is up again", text)
    for phase in ("end", "tcp", "lookup", "authentication"):
        assert re.search(rf"is down \({phase}\): .*; next try in \d+\.\d s", text)
    for name in ("a.example", "b.example", "abc123"):
        assert name not in text
