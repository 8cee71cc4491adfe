"""The table of what is asked of a loop: wrong arguments are refused before anything is opened, in the same words.

FR-45, FR-56; ``support.doors`` has the law, ``tests/backends/test_doors.py`` the table of all that needs no loop.
"""

from __future__ import annotations

import inspect
import math
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

import dot_io.asyncio
import dot_io.blocking
import dot_io.trio
from conformance.adapters import BACKENDS, Backend
from conformance.identities import NAME, Identities
from dot_io.tls import ClientContext, ServerContext
from dot_proto import (
    AuthenticationPolicy,
    ClientConfiguration,
    LocalProtocolError,
    ResolverConfiguration,
    ResponseReceived,
    ServerConfiguration,
    Upstream,
    make_query,
)
from support.doors import (
    ANYTHING,
    MESSAGE,
    NO_COUNT,
    NO_FLAG,
    NO_FUNCTION,
    NO_NETWORKS,
    NO_OBJECT,
    NO_OCTETS,
    NO_SECONDS,
    NO_TEXT,
    Fresh,
    Miss,
    a_coroutine,
    arguments_of,
    keeps_the_law,
)
from support.peers import answer

POLICY = AuthenticationPolicy.opportunistic()
QUERY = make_query("example.com")
RESPONSE = answer(QUERY)
NO_PORT: list[object] = ["853", None, 853.0, True, False, 65_536, -1, [853], b"853", 10**30, Miss(53, "port 53 is for")]
NO_HOST: list[object] = [
    *NO_TEXT[1:], ("127.0.0.1", 853), ["127.0.0.1"],
    Miss("127.0.0.1:853", "'127.0.0.1:853' names a port: give '127.0.0.1' as the host and port=853"),
    Miss("[::1]:853", r"names a port: give '\[::1\]' as the host and port=853"),
    Miss("dns.example:8853", "give 'dns.example' as the host and port=8853"),
    Miss("tls://dns.example", "is a URL: give the host alone"), Miss("127.0.0.010", "is no IP address"),
    Miss("a b", "'a b' is no label"), Miss("a\n.example", r"'a\\n' in"), Miss("a" * 64 + ".example", "1 to 63 octets"),
]  # fmt: skip
NO_QUERY: list[object] = [
    *[Miss(each, "a query must be a DNS message in octets") for each in NO_OCTETS],
    Miss("example.com", r"not text: make_query\('example.com'\) makes one"),
    Miss(MESSAGE, r"not QueryMessage: call its to_wire\(\)"),
    Miss(QUERY[:11], "12 to 65535 octets, not 11"),
    Miss(RESPONSE, "is a response"),
    Miss(make_query("example.com", "AXFR"), "a zone transfer .* is answered by several messages"),
    Miss(make_query("example.com", 251), "a zone transfer .* is answered by several messages"),
    Miss(bytes(12) + b"x", "malformed"),
]


def handler_of_one(query: bytes) -> bytes:
    """Who asks is missing."""
    return answer(query)


async def answer_later(query: bytes, peer: object) -> bytes:
    """What only a loop can await."""
    return answer(query)


class AnswersLater:
    """The same as an object."""

    async def __call__(self, query: bytes, peer: object) -> bytes:
        return answer(query)


async def handler_that_yields(query: bytes, peer: object) -> AsyncIterator[bytes]:
    """A generator."""
    yield answer(query)


async def report_later(end: object) -> None:
    """What nobody awaits."""


class Handler:
    """The class, where an object of it is due."""

    def __init__(self, query: bytes, peer: object) -> None:
        raise AssertionError("nobody asks")


CONNECT: dict[str, list[object]] = {
    "host": [None, *NO_HOST],
    "policy": [AuthenticationPolicy, ClientConfiguration(), *NO_OBJECT],
    "port": [*NO_PORT, 0],
    "timeout": [*NO_SECONDS, None],
    "configuration": [ServerConfiguration(), ClientConfiguration, POLICY, *NO_OBJECT],
    "context": [POLICY, ClientContext, *NO_OBJECT],
    "share_records": NO_FLAG,
    "first_query": [
        *[Miss(each.value, f"first_query: .*{each.says}") for each in NO_QUERY if isinstance(each, Miss) and each.value]
    ],
}
SERVE: dict[str, list[object]] = {
    "handler": [
        *[one for one in NO_FUNCTION if one is not None], None, Handler, Fresh(a_coroutine),
        Miss(handler_of_one, "handler must be a function of a query and its peer, .*too many positional"),
        Miss(handler_that_yields, "handler must be .* that returns octets, not one that yields"),
    ],
    "context": [None, ServerContext, Path("server.pem"), *NO_OBJECT],
    "host": [
        *[each for each in NO_HOST if each not in (None, ["a"], ["127.0.0.1"])],
        {"127.0.0.1": 853}, [None], [b"a"], [["::1"]],
        Miss([], "host is an empty list: give None for every address of the machine"),
        Miss(["127.0.0.1", "::1", "127.0.0.1"], "host holds '127.0.0.1' twice"), Miss(["::1", "[::1]"], "'::1' twice"),
        Miss(["127.0.0.1:853"], "'127.0.0.1:853' names a port"),
        Miss(("127.0.0.1", 853), "number 2 in it is 853: give the port apart, as port="),
    ],
    "port": NO_PORT,
    "sock": [
        5, "127.0.0.1", {}, [None], [5], ["127.0.0.1"], socket.socket, *ANYTHING[:-1],
        Miss([], "sock is an empty list: give a listening socket, or host and port instead"),
    ],
    "reuse_port": NO_FLAG,
    "proxy_from": NO_NETWORKS,
    "configuration": [ClientConfiguration(), ServerConfiguration, *NO_OBJECT],
    "max_connections": [*NO_COUNT, None, 0],
    "max_connections_per_host": [*NO_COUNT, None, 0],
    "handshake_timeout": [*NO_SECONDS, None],
    "share_records": NO_FLAG,
    "on_end": [
        *[one for one in NO_FUNCTION if one is not None], Handler, Fresh(a_coroutine),
        Miss(answer_later, "on_end must be .* at once: nobody would await it"),
        Miss(report_later, "on_end must be .* at once: nobody would await it"),
        Miss(lambda: None, "on_end must be a function of a ConnectionEnd, .*too many positional"),
    ],
}  # fmt: skip
ON_BLOCKING: dict[str, list[object]] = {
    "workers": [*NO_COUNT, None, 10**9],
    "handler": [
        Miss(answer_later, "handler must be a plain function, not an async one"),
        Miss(AnswersLater(), "not an async one"),
    ],
}
"What one package has and the others have not."

QUERY_ONE: dict[str, list[object]] = {"message": NO_QUERY, "timeout": NO_SECONDS}
QUERY_MANY: dict[str, list[object]] = {
    "messages": [
        None, 5, "example.com", QUERY, bytearray(QUERY), memoryview(QUERY), MESSAGE, {1: QUERY}, list,
        Fresh(a_coroutine), Fresh(lambda: handler_that_yields(QUERY, None)),
        *[Miss([each.value], each.says) for each in NO_QUERY if isinstance(each, Miss)],
    ],
    "timeout": NO_SECONDS,
    "max_in_flight": [*NO_COUNT, None, 0, 10**30],
}  # fmt: skip
RESOLVE: dict[str, list[object]] = {
    "name": NO_TEXT,
    "types": [
        None, 5, "A", b"A", {"A": 1}, ["A", "MX"], ["a"], [b"A"], [1], *ANYTHING[:-1],
        Miss([], "types is empty"),
        Miss(["A", "TXT"], 'types must be a list of "A" and "AAAA", but .TXT. is in it'),
    ],
    "timeout": NO_SECONDS,
}  # fmt: skip
CLOSE: dict[str, list[object]] = {"timeout": [*NO_SECONDS, None]}
UPSTREAM = Upstream.parse("tls://192.0.2.1#dot.test")
RESOLVER: dict[str, list[object]] = {
    "upstreams": [
        None, 5, "tls://192.0.2.1", b"tls://192.0.2.1", {"a": UPSTREAM}, ["tls://192.0.2.1"], [None], [POLICY],
        Upstream, [Upstream], *ANYTHING[:-1],
        Miss(UPSTREAM, r"not Upstream: give \[upstream\]"),
        Miss([], "upstreams holds 0; a resolver has 1 to 16"),
        Miss([UPSTREAM] * 2, r"upstreams holds tls://192.0.2.1.* twice"),
        Miss([UPSTREAM, Upstream(addresses=["192.0.2.2"], is_opportunistic=True)], "some upstreams are strict"),
        Miss([Upstream(name="dot.test")], r"upstreams\[0\]: no address to dial"),
    ],
    "configuration": [ClientConfiguration(), ResolverConfiguration, POLICY, *NO_OBJECT],
    "share_records": NO_FLAG,
}  # fmt: skip

_words: dict[tuple[str, str, int], str] = {}
"What the first backend has said."


async def refuse(call: Callable[..., Any], name: str, argument: str, values: list[object]) -> None:
    """Each value is refused by the law, and in the words of the first backend."""
    for number, wrong in enumerate(values):
        value, says = wrong, None
        if isinstance(wrong, Miss):
            value, says = wrong.value, wrong.says
        elif isinstance(wrong, Fresh):
            value, says = wrong.make(), wrong.says
        with pytest.raises(LocalProtocolError) as caught:
            await call(**{argument: value})
        if inspect.iscoroutine(value):
            value.close()
        text = str(caught.value)
        keeps_the_law(text, argument, value, says)
        assert text == _words.setdefault((name, argument, number), text)


def all_arguments(module: Any, *names: str) -> set[tuple[str, str]]:
    found = {(door.removeprefix(f"{module.__name__}."), argument) for door, argument in arguments_of([module])}
    return {(door, argument) for door, argument in found if door in names}


def test_every_argument_has_a_row() -> None:
    """FR-45: of connect(), serve() and what they give."""
    doors = {
        "connect": CONNECT,
        "serve": SERVE,
        "Client.query": QUERY_ONE,
        "Client.query_many": QUERY_MANY,
        "Client.close": CLOSE,
        "Server.close": CLOSE,
        "Resolver": RESOLVER,
        "Resolver.query": QUERY_ONE,
        "Resolver.query_many": QUERY_MANY,
        "Resolver.resolve": RESOLVE,
        "Resolver.close": CLOSE,
    }
    table = {(door, argument) for door, arguments in doors.items() for argument in arguments}
    for module in (dot_io.blocking, dot_io.asyncio, dot_io.trio):
        more = {("serve", "workers")} if module is dot_io.blocking else set()
        methods = {door for door, _ in arguments_of([module]) if is_method(door)}
        names = {method.removeprefix(f"{module.__name__}.") for method in methods}
        assert all_arguments(module, "connect", "serve", "Resolver", *names) == table | more


def is_method(door: str) -> bool:
    """Whether a door is a method of what a call gives."""
    return any(f".{made}." in door for made in ("Client", "Server", "Resolver"))


@pytest.mark.parametrize("argument", CONNECT)
def test_of_connect(api: Backend, identities: Identities, argument: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """FR-45, FR-56: before the name is looked up, and before a socket is made."""
    name = api.package.__name__

    async def scenario(api: Backend, port: int) -> None:
        right = {"host": "127.0.0.1", "policy": identities.policy, "port": port}
        if argument == "context":
            del right["policy"]

        async def connect(**wrong: Any) -> None:
            async with api.connect(**{**right, **wrong}):
                pytest.fail(f"{argument}={wrong[argument]!r} was taken")

        def dialled(*_: object) -> None:
            pytest.fail("it was dialled")

        with monkeypatch.context() as patch:
            patch.setattr(f"{name}.client.dial", dialled)
            await refuse(connect, "connect", argument, CONNECT[argument])
        async with api.connect(**{"policy": identities.policy, **right}) as client:
            assert await client.query(QUERY)

    with api.serving(answer, identities.server) as server:
        api.run(scenario, server.port)


@pytest.mark.parametrize("argument", SERVE)
def test_of_serve(api: Backend, identities: Identities, argument: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """FR-21, FR-45, FR-56: before a port is taken; a handler that could answer nobody is refused at once."""
    check_serve(api, identities, "serve", argument, SERVE[argument], monkeypatch)


@pytest.mark.parametrize("api", [each for each in BACKENDS if each.package is dot_io.blocking], ids=repr)
@pytest.mark.parametrize("argument", ON_BLOCKING)
def test_of_serve_on_blocking_sockets(
    api: Backend, identities: Identities, argument: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FR-45: handlers that block need threads, and what is awaited needs a loop."""
    check_serve(api, identities, "serve on blocking sockets", argument, ON_BLOCKING[argument], monkeypatch)


def check_serve(
    api: Backend,
    identities: Identities,
    name: str,
    argument: str,
    values: list[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing listens before all is right."""

    async def scenario(api: Backend) -> None:
        right = {"handler": answer, "context": identities.server, "port": 0}

        async def serve(**wrong: Any) -> None:
            async with api.serve(**{**right, **wrong}):
                pytest.fail(f"{argument}={wrong[argument]!r} was taken")

        def listening(*_: object, **options: object) -> None:
            pytest.fail("it was listened")

        with monkeypatch.context() as patch:
            patch.setattr("socket.create_server", listening)
            await refuse(serve, name, argument, values)
        async with api.serve(**right):
            pass

    api.run(scenario)


@pytest.mark.parametrize("argument", QUERY_ONE)
def test_of_query(api: Backend, identities: Identities, argument: str) -> None:
    """FR-45, FR-56, FR-5: nothing is asked, and the client goes on."""
    asked: list[bytes] = []

    def handler(query: bytes, peer: object) -> bytes:
        asked.append(query)
        return answer(query)

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:

            async def query(message: Any = QUERY, **wrong: Any) -> None:
                await client.query(message, **wrong)

            await refuse(query, "query", argument, QUERY_ONE[argument])
            assert await client.query(QUERY, timeout=math.inf)

    with api.serving(handler, identities.server) as server:
        api.run(scenario, server.port)
    assert len(asked) == 1


@pytest.mark.parametrize("argument", QUERY_MANY)
def test_of_query_many(api: Backend, identities: Identities, argument: str) -> None:
    """FR-45, FR-56: a text is a sequence of letters, and a message one of numbers; a generator is gone through once."""

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:

            async def query_many(messages: Any = (QUERY,), **wrong: Any) -> None:
                async for _ in client.query_many(messages, **wrong):
                    pass

            await refuse(query_many, "query_many", argument, QUERY_MANY[argument])
            messages = iter([QUERY, QUERY, QUERY])
            fates = [fate async for _, fate in client.query_many(messages, max_in_flight=2)]
            assert [type(fate) for fate in fates] == [ResponseReceived] * 3
            assert [fate async for fate in client.query_many(messages)] == []  # it was gone through before

    with api.serving(answer, identities.server) as server:
        api.run(scenario, server.port)


@pytest.mark.parametrize("argument", RESOLVER)
def test_of_a_resolver(api: Backend, argument: str) -> None:
    """FR-45, FR-56: before anything is dialled."""

    async def scenario(api: Backend) -> None:
        async def make(upstreams: Any = (UPSTREAM,), **wrong: Any) -> None:
            api.resolver(upstreams, **wrong)

        await refuse(make, "Resolver", argument, RESOLVER[argument])
        await make()

    api.run(scenario)


@pytest.mark.parametrize("argument", QUERY_MANY)
def test_of_a_resolver_that_is_asked(api: Backend, identities: Identities, argument: str) -> None:
    """FR-45, FR-56: in the words of a client; nothing is dialled, and the resolver goes on."""

    async def scenario(api: Backend, port: int) -> None:
        upstream = Upstream(name=NAME, addresses=["127.0.0.1"], port=port, trust_anchors=[identities.anchor])
        async with api.resolver([upstream]) as resolver:

            async def query_many(messages: Any = (QUERY,), **wrong: Any) -> None:
                async for _ in resolver.query_many(messages, **wrong):
                    pass

            async def query(message: Any = QUERY, **wrong: Any) -> None:
                await resolver.query(message, **wrong)

            await refuse(query_many, "query_many", argument, QUERY_MANY[argument])
            if argument in ("messages", "timeout"):
                name = argument.replace("messages", "message")
                await refuse(query, "query", name, QUERY_ONE[name])
            assert resolver.statistics()[0].opened == 0
            assert await resolver.query(QUERY, timeout=math.inf)
            await refuse(resolver.close, "Client.close", "timeout", CLOSE["timeout"])
            assert await resolver.query(QUERY)
            await resolver.close(timeout=math.inf)

    with api.serving(answer, identities.server) as server:
        api.run(scenario, server.port)


@pytest.mark.parametrize("argument", RESOLVE)
def test_of_a_resolver_that_looks_up_a_name(api: Backend, identities: Identities, argument: str) -> None:
    """FR-45, FR-56: nothing is dialled."""

    async def scenario(api: Backend) -> None:
        async with api.resolver([UPSTREAM]) as resolver:

            async def resolve(name: Any = "example.com", **wrong: Any) -> None:
                await resolver.resolve(name, **wrong)

            await refuse(resolve, "resolve", argument, RESOLVE[argument])
            assert resolver.statistics()[0].opened == 0

    api.run(scenario)


def test_of_both_ways_to_close(api: Backend, identities: Identities) -> None:
    """FR-56: and both take a time without end."""

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            await refuse(client.close, "Client.close", "timeout", CLOSE["timeout"])
            assert await client.query(QUERY)
            await client.close(timeout=math.inf)
        async with api.serve(answer, identities.server, port=0) as server:

            async def close(**wrong: Any) -> None:
                closed = server.close(**wrong)
                if inspect.isawaitable(closed):
                    await closed

            await refuse(close, "Server.close", "timeout", CLOSE["timeout"])
            async with api.connect("127.0.0.1", identities.policy, port=server.port) as client:
                assert await client.query(QUERY)
            await close(timeout=math.inf)

    with api.serving(answer, identities.server) as server:
        api.run(scenario, server.port)


@pytest.mark.parametrize("options", [{"timeout": math.inf}, {"timeout": 5}, {"share_records": True}], ids=repr)
def test_what_is_right_is_taken(api: Backend, identities: Identities, options: dict[str, Any]) -> None:
    """No more is refused than must be."""

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port, **options) as client:
            assert await client.query(QUERY)

    with api.serving(answer, identities.server, host="localhost", max_connections=1, share_records=True) as server:
        api.run(scenario, server.port)


@pytest.mark.parametrize("response", ["text", MESSAGE, bytearray(RESPONSE), 5, QUERY], ids=repr)
def test_what_a_handler_returns_is_named_in_the_log(
    api: Backend, identities: Identities, response: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """FR-45: not that it cannot be awaited; the client has SERVFAIL at once."""

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            assert (await client.query(QUERY))[3] & 15 == 2

    with api.serving(lambda query, peer: response, identities.server) as server:
        api.run(scenario, server.port)
    [record] = [one for one in caplog.records if "the handler failed" in one.getMessage()]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LocalProtocolError)


def test_a_policy_beside_a_context_must_be_the_same(api: Backend, identities: Identities) -> None:
    """FR-45: which of them counts would be a guess."""

    async def scenario(api: Backend) -> None:
        with pytest.raises(LocalProtocolError, match=r"policy and context.policy differ: give one of them"):
            async with api.connect("127.0.0.1", POLICY, context=identities.context()):
                pass

    api.run(scenario)


OPENED: dict[str, Callable[[ServerContext], Any]] = {
    "dot_io.asyncio.connect": lambda context: dot_io.asyncio.connect("127.0.0.1", POLICY),
    "dot_io.asyncio.serve": lambda context: dot_io.asyncio.serve(answer, context, port=0),
    "dot_io.trio.connect": lambda context: dot_io.trio.connect("127.0.0.1", POLICY),
    "dot_io.trio.serve": lambda context: dot_io.trio.serve(answer, context, port=0),
}


@pytest.mark.parametrize("call", OPENED)
def test_with_where_async_with_is_due(identities: Identities, call: str) -> None:
    """FR-45, FR-82: it was "'_AsyncGeneratorContextManager' object does not support the context manager protocol"."""
    words = rf"{call}\(\) is asynchronous: .*'async with'.*; dot_io.blocking has one for 'with'"
    with pytest.raises(LocalProtocolError, match=words), OPENED[call](identities.server):
        pass


@pytest.mark.parametrize("call", OPENED)
def test_what_is_never_opened_warns(identities: Identities, call: str) -> None:
    """FR-82: nothing was connected, and nobody said so."""
    with pytest.warns(RuntimeWarning, match=rf"{call}\(\) opened nothing, since it was never awaited: .*'async with'"):
        OPENED[call](identities.server)


@pytest.mark.parametrize("call", OPENED)
def test_what_is_not_opened_yet_is_no_client(identities: Identities, call: str) -> None:
    """FR-82: the second use of a forgotten ``await``."""
    made = OPENED[call](identities.server)
    with pytest.raises(AttributeError, match=rf"{call}\(\) has opened nothing yet, and so has no 'query'"):
        made.query(QUERY)


@pytest.mark.parametrize("call", [each for each in OPENED if each != "dot_io.asyncio.connect"])
def test_await_where_async_with_is_due(identities: Identities, call: str) -> None:
    """FR-82: what it opens must be closed; a client on asyncio alone can be left to its owner."""

    async def main() -> None:
        with pytest.raises(LocalProtocolError, match=rf"{call}\(\) cannot be awaited: .*AsyncExitStack keeps it"):
            await OPENED[call](identities.server)

    trio.run(main)


def test_a_handshake_prints_no_certificate(api: Backend, identities: Identities) -> None:
    """What is easily logged stays short."""

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            assert client.handshake.peer_certificate is not None
            assert len(repr(client.handshake)) < 250

    with api.serving(answer, identities.server) as server:
        api.run(scenario, server.port)
