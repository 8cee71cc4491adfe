"""The resolver, each scenario once on every backend: it stays up where connections and upstreams do not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import dns.message
import pytest

from conformance.adapters import Backend
from conformance.test_verdicts import serving
from dot_io._network import NetworkWatch
from dot_io.errors import ConnectionLostError, NoAddressError, NoUpstreamError, QueryTimeoutError
from dot_io.testing import Authority, LoopbackServer
from dot_proto import (
    ClientConfiguration,
    DoTError,
    LocalProtocolError,
    Pin,
    TooManyQueriesError,
    UpstreamError,
    make_query,
)
from dot_proto.resolver.configuration import ResolverConfiguration
from dot_proto.resolver.events import Phase, QueryAnswered
from dot_proto.resolver.upstream import Upstream
from support.pki import NAME as PKI_NAME
from support.pki import Pki
from support.pki import pki_fixture as pki_fixture

NAME = "dot.test"
QUERY = make_query("a.example")
SHORT = ResolverConfiguration(open_timeout=0.5, patience=0.2, probe_timeout=0.1)
"For what would take seconds otherwise."


class Servers:
    """Servers on loopback, all under one authority, and closed at the end."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._authority = Authority(folder, "conformance")
        self._stack = stack

    def start(self, name: str = NAME, **options: Any) -> LoopbackServer:
        server = self._stack.enter_context(LoopbackServer(self._authority.issue(name), **options))
        for letter in "abc":
            server.answers[f"{letter}.example", "A"] = ["192.0.2.7"]
        return server

    def of(self, *servers: LoopbackServer, **fields: Any) -> list[Upstream]:
        """An upstream for each."""
        return [self.at(server.host, server.port, **fields) for server in servers]

    def at(self, host: str, port: int, **fields: Any) -> Upstream:
        anchors = None if "issuer_pins" in fields else [self._root]
        return Upstream(**{"name": NAME, "addresses": (host,), "port": port, "trust_anchors": anchors, **fields})

    @property
    def identity_file(self) -> Path:
        """Key and certificate of a server by the name of :data:`NAME`, for one that follows a script."""
        return self._authority.issue(NAME).chain_file

    @property
    def _root(self) -> bytes:
        from dot_proto import certificates_from

        return certificates_from(self._authority.root_file.read_bytes())[0]

    @property
    def issuer_pin(self) -> Pin:
        return Pin.of_certificate(self._root)


@pytest.fixture(name="servers")
def servers_fixture(tmp_path: Path) -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(tmp_path, stack)


def is_answer(response: bytes) -> bool:
    return len(dns.message.from_wire(response).answer) == 1


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


async def failure(coroutine: Any) -> DoTError:
    with pytest.raises(DoTError) as caught:
        await coroutine
    return caught.value


def test_the_first_question_and_many_more(api: Backend, servers: Servers) -> None:
    """RES-11: fifty first callers share one connection, and so do a thousand queries behind them."""
    server = servers.start()

    async def scenario(api: Backend) -> None:
        async with api.resolver(servers.of(server)) as one:
            assert all(is_answer(each) for each in await api.gather(one.query(QUERY) for _ in range(50)))
            fates = {position: fate async for position, fate in one.query_many([QUERY] * 1000)}
            assert sorted(fates) == list(range(1000))
            assert all(isinstance(fate, QueryAnswered) for fate in fates.values())
            (statistics,) = one.statistics()
            assert (statistics.answered, statistics.opened, statistics.is_up) == (1050, 1, True)

    api.run(scenario)
    assert server.connections == 1


@pytest.mark.parametrize("fault", ["close", "cut", "reset", "bad-record", "garbage"])
def test_a_connection_that_ends_is_dialled_again(api: Backend, servers: Servers, fault: str) -> None:
    """RES-17, RES-25, RES-27: a query that ends one connection is asked on another; three times at the most."""
    server = servers.start()
    server.faults["b.example"] = fault

    async def scenario(api: Backend) -> None:
        async with api.resolver(servers.of(server), SHORT) as one:
            for _ in range(3):
                assert is_answer(await one.query(QUERY))
                server.close_after = 1
                assert is_answer(await one.query(QUERY))
                server.close_after = None
            error = await failure(one.query(make_query("b.example")))
            assert isinstance(error, ConnectionLostError)
            assert error.safe_to_resend
            assert is_answer(await one.query(QUERY))

    api.run(scenario)
    assert len([query for query in server.queries if query.name == "b.example"]) == 3


def test_the_kernel_gives_a_vanished_server_up_too(
    api: Backend, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RES-24: by TCP_USER_TIMEOUT, no later than the longest silence that is borne."""
    given: list[float] = []
    monkeypatch.setattr("dot_io._resolver.give_up_unacknowledged", lambda sock, seconds: given.append(seconds))
    server = servers.start()

    async def scenario(api: Backend) -> None:
        async with api.resolver(servers.of(server), SHORT) as one:
            assert is_answer(await one.query(QUERY))

    api.run(scenario)
    assert given == [2 * SHORT.patience + SHORT.probe_timeout]


def test_tickets_are_used_where_they_were_made_and_nowhere_else(api: Backend, pki: Pki) -> None:
    """RES-41, RES-42: on the next connection to that address; in another network, nothing of before is offered."""
    upstream_of = partial(Upstream, name=PKI_NAME, trust_anchors=[pki.root.der])
    at_once = ResolverConfiguration(connection=ClientConfiguration(idle_timeout=0.0))

    async def scenario(api: Backend, port: int) -> None:
        upstream = upstream_of(addresses=["127.0.0.1"], port=port)
        async with api.resolver([upstream], at_once) as one:
            for moves in (False, True, False):
                assert await one.query(QUERY)
                if api.is_async:  # where queries block, nobody acts in between
                    await api.until(lambda: not one.statistics()[0].connections)
                if moves:
                    one.network_changed()
        other = upstream_of(addresses=["127.0.0.1"], port=port, pins=[pki.leaf.pin])
        async with api.resolver([other], at_once) as one:  # another policy, and another resolver
            assert await one.query(QUERY)

    with serving(pki, *pki.honest) as server:
        api.run(scenario, server.port)
    assert server.offered == [False, True, False, False]


def test_the_second_upstream_answers_where_the_first_is_not_there(api: Backend, servers: Servers) -> None:
    """RES-30: and the first is asked again once it is back."""
    server = servers.start()
    upstreams = [servers.at("127.0.0.1", unused_port()), *servers.of(server)]

    async def scenario(api: Backend) -> None:
        async with api.resolver(upstreams) as one:
            assert is_answer(await one.query(QUERY))
            down, up = one.statistics()
            assert (down.is_up, down.failed, up.answered) == (False, 1, 1)

    api.run(scenario)


def test_an_impostor_is_shown_nothing(api: Backend, servers: Servers) -> None:
    """RES-32: its certificate is for another name; the second answers, and no octet reached the first."""
    impostor, server = servers.start("other.test"), servers.start()

    async def scenario(api: Backend) -> None:
        async with api.resolver(servers.of(impostor, server)) as one:
            for _ in range(20):
                assert is_answer(await one.query(QUERY))
            assert one.statistics()[0].refused == 1

    api.run(scenario)
    assert (impostor.queries, impostor.connections) == ([], 1)


def test_all_refused_is_an_error_at_once_that_names_each(api: Backend, servers: Servers) -> None:
    """RES-35."""
    impostors = [servers.start("other.test"), servers.start("third.test")]

    async def scenario(api: Backend) -> None:
        async with api.resolver(servers.of(*impostors)) as one:
            error = await failure(one.query(QUERY))
            assert isinstance(error, NoUpstreamError)
            assert [report.failure.phase for report in error.upstreams] == [Phase.AUTHENTICATION] * 2
            assert str(error).count("the certificate is not for dot.test") == 2
            began = monotonic()
            assert isinstance(await failure(one.query(QUERY)), NoUpstreamError)
            assert monotonic() - began < 1.0

    api.run(scenario)


def test_nobody_there_is_an_error_by_the_deadline(api: Backend, servers: Servers) -> None:
    """RES-35: as soon as no try is left in the query's time."""
    upstream = servers.at("127.0.0.1", unused_port())

    async def scenario(api: Backend) -> None:
        async with api.resolver([upstream]) as one:
            began = monotonic()
            error = await failure(one.query(QUERY, timeout=0.7))
            assert isinstance(error, NoUpstreamError)
            assert "no TCP connection to 127.0.0.1" in str(error)
            assert monotonic() - began < 2.0

    api.run(scenario)


def test_an_upstream_that_comes_up_answers_the_query_that_waits(api: Backend, servers: Servers) -> None:
    """RES-35."""
    port = unused_port()

    async def scenario(api: Backend) -> None:
        async with api.resolver([servers.at("127.0.0.1", port)]) as one:

            async def come_up() -> None:
                await api.until(lambda: one.statistics()[0].failed >= 2)
                listening.append(socket.create_server(("127.0.0.1", port)))
                forward(listening[0], server)

            results = await api.gather([one.query(QUERY), come_up()])
            assert is_answer(results[0])

    server, listening = servers.start(), list[socket.socket]()
    api.run(scenario)
    listening[0].close()


def forward(listener: socket.socket, server: LoopbackServer) -> None:
    """Move octets between whoever comes and ``server``, in threads that end with the sockets."""
    import threading

    def move(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while octets := source.recv(65_536):
                target.sendall(octets)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with suppress(OSError):
            client, _ = listener.accept()
            with client, socket.create_connection((server.host, server.port)) as upstream:
                threads = [
                    threading.Thread(target=move, args=pair) for pair in ((client, upstream), (upstream, client))
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()

    threading.Thread(target=accept).start()


@pytest.mark.parametrize("fault", ["silent", "refuse", "close", "reset", "not-tls"])
def test_a_handshake_that_fails_is_the_upstreams_failure(api: Backend, servers: Servers, fault: str) -> None:
    """RES-16: within its time, and the second answers."""
    first, second = servers.start(), servers.start()
    first.handshake_fault = fault

    async def scenario(api: Backend) -> None:
        async with api.resolver(servers.of(first, second), SHORT) as one:
            assert is_answer(await one.query(QUERY))
            assert not one.statistics()[0].is_up

    api.run(scenario)


def test_a_server_that_falls_silent_is_given_up(api: Backend, servers: Servers) -> None:
    """RES-21: its queries are asked elsewhere, long before their time is over."""
    first, second = servers.start(), servers.start()

    async def scenario(api: Backend) -> None:
        async with api.resolver(servers.of(first, second), SHORT) as one:
            assert is_answer(await one.query(QUERY))
            first.fault = "silent"
            began = monotonic()
            assert is_answer(await one.query(QUERY))
            assert monotonic() - began < 2.0
            assert one.statistics()[0].probes == 1
            assert one.statistics()[0].is_up is False

    api.run(scenario)


def test_a_slow_name_is_waited_for(api: Backend, servers: Servers) -> None:
    """RES-22: asked once; the probe is answered meanwhile."""
    server = servers.start()
    server.delays["b.example"] = 0.6

    async def scenario(api: Backend) -> None:
        async with api.resolver(servers.of(server), SHORT) as one:
            assert is_answer(await one.query(make_query("b.example")))

    api.run(scenario)
    assert len([query for query in server.queries if query.name == "b.example"]) == 1
    assert server.connections == 1


def test_an_address_that_refuses_costs_nothing(api: Backend, servers: Servers) -> None:
    """RES-15: the next one is dialled at once; here all have the one port."""
    server = servers.start(host="127.0.0.1")
    upstream = servers.at("127.0.0.1", server.port, addresses=("127.0.0.2", "127.0.0.1"))

    async def scenario(api: Backend) -> None:
        async with api.resolver([upstream]) as one:
            assert is_answer(await one.query(QUERY))
            assert one.statistics()[0].failed == 0

    api.run(scenario)


def test_an_issuer_that_is_pinned_is_learnt_once(api: Backend, servers: Servers) -> None:
    """Two handshakes for the first connection, one for the second."""
    server = servers.start()
    upstream = servers.at(server.host, server.port, issuer_pins=[servers.issuer_pin])

    async def scenario(api: Backend) -> None:
        async with api.resolver([upstream]) as one:
            error = await failure(one.query(QUERY))  # the server does not send its root, so that it cannot be learnt
            assert isinstance(error, NoUpstreamError)

    api.run(scenario)


def test_pins_alone_and_anybody(api: Backend, servers: Servers) -> None:
    server = servers.start()
    pinned = servers.at(server.host, server.port, name=None, trust_anchors=None, pins=[server.pin])
    anybody = servers.at(server.host, server.port, name=None, trust_anchors=None, is_opportunistic=True)

    async def scenario(api: Backend) -> None:
        for upstream in (pinned, anybody):
            async with api.resolver([upstream]) as one:
                assert is_answer(await one.query(QUERY))

    api.run(scenario)


def test_the_system_finds_the_address_of_a_name(api: Backend, servers: Servers) -> None:
    """RES-8: where it is asked for by word."""
    server = servers.start("localhost", host="127.0.0.1")
    upstream = servers.at("", server.port, name="localhost", addresses=(), bootstrap="system")

    async def scenario(api: Backend) -> None:
        async with api.resolver([upstream]) as one:
            assert is_answer(await one.query(QUERY))

    api.run(scenario)


def test_the_addresses_of_a_name_in_one_line(api: Backend, servers: Servers) -> None:
    """The first real question; a name that does not exist is told from one without addresses."""
    server = servers.start()
    server.answers["a.example", "AAAA"] = ["2001:db8::7"]
    server.answers["www.example", "CNAME"] = ["a.example."]
    server.answers["c.example", "A"] = "SERVFAIL"
    server.faults["b.example"] = "silent"

    async def scenario(api: Backend) -> None:
        async with api.resolver(servers.of(server)) as one:
            assert await one.resolve("a.example") == ["192.0.2.7", "2001:db8::7"]
            assert await one.resolve("WWW.example.", ["AAAA", "A"]) == ["2001:db8::7", "192.0.2.7"]
            assert await one.resolve("www.example", ["AAAA"]) == ["2001:db8::7"]
            for name, types, rcode in (
                ("none.example", ["A"], 3),
                ("b.example", ["MX"], None),
                ("c.example", ["A"], 2),
            ):
                error = await failure(one.resolve(name, types))
                if rcode is None:
                    assert isinstance(error, LocalProtocolError)
                else:
                    assert isinstance(error, NoAddressError)
                    assert error.rcode == rcode
            assert isinstance(await failure(one.resolve("b.example", timeout=0.1)), QueryTimeoutError)
            assert isinstance(await failure(one.resolve("a b")), DoTError)

    api.run(scenario)


def test_another_network(api: Backend, servers: Servers) -> None:
    """RES-41: what is owed still comes, the next question has a connection of its own, and no session is resumed."""
    server = servers.start()
    server.delays["b.example"] = 0.2

    async def scenario(api: Backend) -> None:
        async with api.resolver(servers.of(server)) as one:
            await one.query(QUERY)

            async def move() -> None:
                await api.until(lambda: len(server.queries) == 2)
                one.network_changed()
                assert is_answer(await one.query(QUERY))

            owed, _ = await api.gather([one.query(make_query("b.example")), move()])
            assert is_answer(owed)

    api.run(scenario)
    assert server.connections == 2


class Machine:
    """What a resolver sees of its machine's clocks and addresses, to be changed by the test."""

    def __init__(self, resolver: Any) -> None:
        self.resolver = getattr(resolver, "_wrapped", resolver)
        self.asleep = 0.0
        self.source: str | None = "127.0.0.1"
        self.resolver._network = NetworkWatch(lambda: self.asleep, lambda address: self.source)

    def rest(self) -> None:
        """More than 30 s go by without a query."""
        self.resolver._asked_at -= 31.0


def test_after_an_hour_of_sleep_nothing_of_before_counts(api: Backend, servers: Servers) -> None:
    """RES-39: a clock that runs on while the machine sleeps is ahead; a little of it is no sleep."""
    server = servers.start()

    async def scenario(api: Backend) -> None:
        async with api.resolver(servers.of(server)) as one:
            machine = Machine(one)
            for asleep, connections in ((0.0, 1), (0.9, 1), (3600.0, 2), (3600.0, 2), (0.0, 3)):
                machine.asleep = asleep
                assert is_answer(await one.query(QUERY))
                assert server.connections == connections
            assert one.statistics()[0].lost == 0

    api.run(scenario)


def test_another_address_of_ours_after_a_rest(api: Backend, servers: Servers) -> None:
    """RES-40: compared before the first query after 30 s; where there is no way at all, nothing is known."""
    server = servers.start()

    async def scenario(api: Backend) -> None:
        async with api.resolver(servers.of(server)) as one:
            machine = Machine(one)
            assert is_answer(await one.query(QUERY))
            for source, rests, connections in (
                ("127.0.0.1", True, 1),
                (None, True, 1),
                ("127.0.0.9", False, 1),
                ("127.0.0.9", True, 2),
            ):
                machine.source = source
                if rests:
                    machine.rest()
                assert is_answer(await one.query(QUERY))
                assert server.connections == connections

    api.run(scenario)


def test_another_address_of_ours_while_a_server_is_silent(api: Backend, servers: Servers) -> None:
    """RES-40: then it is not the server: the query is asked again, long before the server would be given up."""
    server = servers.start()
    server.faults["b.example"] = "silent"

    async def scenario(api: Backend) -> None:
        async with api.resolver(servers.of(server), SHORT) as one:
            machine = Machine(one)
            assert is_answer(await one.query(QUERY))
            machine.source = "127.0.0.9"
            await failure(one.query(make_query("b.example"), timeout=0.8))
            assert one.statistics()[0].is_up

    api.run(scenario)
    assert server.connections >= 2


def test_cancelling_harms_nobody(async_api: Backend, servers: Servers) -> None:
    """RES-37: while dialling, and while an answer is owed."""
    server = servers.start()
    server.delays["b.example"] = 0.3

    async def scenario(api: Backend) -> None:
        async with api.resolver(servers.of(server)) as one:
            for name in ("a.example", "b.example"):

                async def impatient(query: bytes) -> None:
                    with pytest.raises(TimeoutError):
                        async with api.within(0.0):
                            await one.query(query)

                query = make_query(name)
                _, response = await api.gather([impatient(query), one.query(query)])
                assert is_answer(response)

    async_api.run(scenario)
    assert server.connections == 1


@pytest.mark.parametrize("moment", ["unused", "dialling", "shaking hands", "owed", "idle"])
def test_closing_in_each_phase(api: Backend, servers: Servers, moment: str) -> None:
    """RES-38: nothing is left behind, which the fixtures of all scenarios look for; twice does no harm."""
    server = servers.start()
    server.delays["b.example"] = 0.2
    if moment == "shaking hands":
        server.handshake_fault = "silent"

    async def scenario(api: Backend) -> None:
        one = api.resolver(servers.of(server))
        async with one:
            if moment == "idle":
                assert is_answer(await one.query(QUERY))
            elif moment != "unused":

                async def close() -> None:
                    if moment == "owed":
                        await api.until(lambda: server.queries)
                    elif moment == "shaking hands":
                        await api.until(lambda: server.connections)
                    else:
                        await api.until(lambda: one.statistics()[0].connections)
                    await one.close()

                result, _ = await api.gather([one.query(make_query("b.example")), close()])
                if moment == "owed":
                    assert is_answer(result)
                elif api.is_async or moment != "dialling":  # a thread may be through with it by then
                    assert isinstance(result, ConnectionLostError)
            await one.close()
            error = await failure(one.query(QUERY))
            assert isinstance(error, LocalProtocolError)
            assert "closed" in str(error)

    api.run(scenario)


def test_what_the_block_raises_comes_out_as_it_is(api: Backend, servers: Servers) -> None:
    """At once, though an answer is owed, and in no exception group."""
    server = servers.start()
    server.delays["b.example"] = 5.0

    async def scenario(api: Backend) -> None:
        async def fail() -> None:
            async with api.resolver(servers.of(server)) as one:
                await one.query(QUERY)
                await failure(one.query(make_query("b.example"), timeout=0.1))
                raise ZeroDivisionError

        began = monotonic()
        with pytest.raises(ZeroDivisionError):
            await fail()
        assert monotonic() - began < 1.0

    api.run(scenario)


def test_too_many_wait(api: Backend, servers: Servers) -> None:
    """RES-14: those beyond the limit hear it at once, the others by their deadline."""
    upstream, configuration = servers.at("127.0.0.1", unused_port()), ResolverConfiguration(max_waiting=5)

    async def scenario(api: Backend) -> None:
        async with api.resolver([upstream], configuration) as one:
            results = await api.gather(one.query(QUERY, timeout=1.0) for _ in range(9))
            assert sum(isinstance(result, TooManyQueriesError) for result in results) == 4
            assert sum(isinstance(result, NoUpstreamError) for result in results) == 5

    api.run(scenario)


def test_wrong_uses_are_told(api: Backend, servers: Servers) -> None:
    """What was given, and what to do; nothing is dialled."""
    server = servers.start()

    async def scenario(api: Backend) -> None:
        for given in ([], ["tls://127.0.0.1"], servers.of(server) * 2):
            with pytest.raises(LocalProtocolError):
                api.resolver(given)
        with pytest.raises(LocalProtocolError, match="configuration must be a ResolverConfiguration"):
            api.resolver(servers.of(server), {})
        async with api.resolver(servers.of(server)) as one:
            for arguments in (("a.example",), (QUERY[:-3],)):
                with pytest.raises(LocalProtocolError):
                    await one.query(*arguments)
            with pytest.raises(LocalProtocolError, match="timeout"):
                await one.query(QUERY, timeout=-1)
        if api.is_async:
            with pytest.raises(LocalProtocolError, match="use 'async with'"), one:
                pass

    api.run(scenario)
    assert server.connections == 0


def test_nobody_is_asked_in_the_clear_unless_it_was_agreed_to(api: Backend) -> None:
    """The address of a name is looked up by those who were named for it, and by no other."""
    with pytest.raises(UpstreamError, match="no address to dial"):
        api.resolver([Upstream(name=NAME)])


def named(servers: Servers, server: LoopbackServer, *bootstrap: LoopbackServer) -> Upstream:
    """An upstream without addresses, and who is asked for them."""
    return servers.at("", server.port, addresses=(), bootstrap=servers.of(*bootstrap))


@pytest.mark.parametrize("first", [["127.0.0.1"], ["127.0.0.2", "127.0.0.1"]])
def test_other_upstreams_find_the_address_of_a_name(
    api: Backend, servers: Servers, first: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """RES-8, RES-9: over TLS, once for as long as the answer may be kept; the system is never asked."""
    server, bootstrap = servers.start(host="127.0.0.1"), servers.start(host="127.0.0.1")
    bootstrap.answers[NAME, "A"] = first
    upstream = named(servers, server, bootstrap)
    original = socket.getaddrinfo

    def never(host: str, *arguments: Any, **options: Any) -> Any:
        assert host != NAME
        return original(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", never)

    async def scenario(api: Backend) -> None:
        async with api.resolver([upstream]) as one:
            for _ in range(3):
                assert is_answer(await one.query(QUERY))
                one.network_changed()

    api.run(scenario)
    assert sorted({query.name for query in bootstrap.queries}) == [NAME]
    assert len(bootstrap.queries) == 2
    assert {query.name for query in server.queries} == {"a.example"}


def test_a_bootstrap_that_lies_gains_nothing(api: Backend, servers: Servers) -> None:
    """RES-8: whatever address it gives, the server there must be the one of that name."""
    honest, liar, impostor = servers.start(), servers.start(host="127.0.0.1"), servers.start("other.test")
    liar.answers[NAME, "A"] = [impostor.host]
    upstream = servers.at("", impostor.port, addresses=(), bootstrap=servers.of(liar))

    async def scenario(api: Backend) -> None:
        async with api.resolver([upstream, *servers.of(honest)]) as one:
            assert is_answer(await one.query(QUERY))
            assert one.statistics()[0].refused == 1

    api.run(scenario)
    assert impostor.queries == []


@pytest.mark.parametrize("fault", ["no name", "impostor", "silent", "not there"])
def test_a_bootstrap_that_fails_is_the_reason_that_is_told(api: Backend, servers: Servers, fault: str) -> None:
    """RES-8, RES-35, RES-36: within the query's time; the error says what went wrong at the bootstrap."""
    server, bootstrap = servers.start(), servers.start("other.test" if fault == "impostor" else NAME)
    upstream = named(servers, server, bootstrap)
    if fault == "silent":
        bootstrap.fault = "silent"
    if fault == "not there":
        upstream = servers.at("", 853, addresses=(), bootstrap=[servers.at("127.0.0.1", unused_port())])

    async def scenario(api: Backend) -> None:
        async with api.resolver([upstream], SHORT) as one:
            began = monotonic()
            error = await failure(one.query(QUERY, timeout=0.8))
            assert isinstance(error, NoUpstreamError)
            assert "no address was found for its name: " in str(error)
            assert monotonic() - began < 4.0

    api.run(scenario)
    assert server.connections == 0


def test_another_loop_is_told_so(async_api: Backend, servers: Servers) -> None:
    """As a client on another loop."""
    server, kept = servers.start(), list[Any]()

    async def here(api: Backend) -> None:
        one = api.resolver(servers.of(server))
        kept.append(one)
        async with one:
            await one.query(QUERY)

    async def there(api: Backend) -> None:
        with pytest.raises(LocalProtocolError, match="another event loop"):
            await kept[0].query(QUERY)

    async_api.run(here)
    async_api.run(there)
