"""The hook of dnspython, with its own resolvers."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.message
import dns.query
import dns.resolver
import dns.tsig
import dns.tsigkeyring
import pytest
import trio

from dot_io.errors import NoUpstreamError
from dot_io.hooks.dnspython import Nameserver, nameserver
from dot_proto import LocalProtocolError, Upstream
from hooks.conftest import Names


def configured(kind: Any, *servers: Any, lifetime: float = 5.0) -> Any:
    resolver = kind(configure=False)
    resolver.nameservers = list(servers)
    resolver.lifetime = lifetime
    return resolver


def test_a_resolver_that_blocks(names: Names) -> None:
    """Names, failures, and one connection for all that threads ask."""
    ours = nameserver([names.upstream])
    resolver = configured(dns.resolver.Resolver, ours)
    answer = resolver.resolve("alias.example", "A")
    assert [record.address for record in answer] == ["127.0.0.1"]
    assert answer.nameserver == names.server.host
    with pytest.raises(dns.resolver.NXDOMAIN):
        resolver.resolve("none.example")
    with pytest.raises(dns.resolver.NoAnswer):
        resolver.resolve("web.example", "MX")
    with ThreadPoolExecutor(16) as threads:
        assert len(list(threads.map(resolver.resolve, ["web.example"] * 64))) == 64
    assert names.server.connections == 1
    assert str(ours).startswith("DoT:tls://127.0.0.1")
    ours.close()


RUNNERS: dict[str, Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]] = {
    "asyncio": lambda main: asyncio.run(main()),
    "trio": trio.run,
}


@pytest.mark.parametrize("order", [["asyncio", "trio"], ["trio", "asyncio"]])
def test_a_resolver_that_is_awaited(names: Names, order: list[str]) -> None:
    """One nameserver on one loop after the other: dnspython goes on naming the first; what runs now counts."""
    ours = nameserver([names.upstream])

    async def main() -> None:
        resolver = configured(dns.asyncresolver.Resolver, ours)
        for _ in range(3):
            answer = await resolver.resolve("web.example", "A")
            assert [record.address for record in answer] == ["127.0.0.1"]
        with pytest.raises(dns.resolver.NXDOMAIN):
            await resolver.resolve("none.example")

    for name in order * 2:
        RUNNERS[name](main)
    assert names.server.connections == 4
    assert not ours._on_asyncio
    assert not ours._on_trio
    ours.close()


def test_a_loop_that_nobody_shuts_down(names: Names) -> None:
    """It is closed by hand; a pending task, or an open socket, would be a warning, and so an error."""
    ours = nameserver([names.upstream])

    async def main() -> None:
        await ours.aclose()  # nothing is open yet
        for _ in range(2):
            assert await configured(dns.asyncresolver.Resolver, ours).resolve("web.example", "A")
            await ours.aclose()
            assert not ours._on_asyncio

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    ours.close()
    gc.collect()
    assert names.server.connections == 2


@pytest.mark.parametrize("runner", RUNNERS)
def test_many_first_questions_share_a_connection(names: Names, runner: str) -> None:
    ours = nameserver([names.upstream])

    async def main() -> None:
        resolver = configured(dns.asyncresolver.Resolver, ours)

        async def ask() -> None:
            assert await resolver.resolve("web.example", "A")

        if runner == "trio":
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(ask)
        else:
            await asyncio.gather(*[ask() for _ in range(20)])

    RUNNERS[runner](main)
    assert names.server.connections == 1
    ours.close()


def test_tasks_ask_until_they_end(names: Names) -> None:
    """``asyncio.run`` cancels all tasks at its end; one that asks a last question then has its answer."""
    ours = nameserver([names.upstream])
    found: list[str] = []

    async def last_question(resolver: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            found.extend(record.address for record in await resolver.resolve("alias.example", "A"))

    async def main() -> asyncio.Task[None]:
        resolver = configured(dns.asyncresolver.Resolver, ours)
        await resolver.resolve("web.example", "A")
        task = asyncio.create_task(last_question(resolver))
        await asyncio.sleep(0)
        return task

    assert asyncio.run(main()).cancelled()
    assert found == ["127.0.0.1"]
    assert names.server.connections == 1
    ours.close()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_loops_that_are_closed_and_not_shut_down(names: Names) -> None:
    """Their connections go, with Python's warning, when the next loop asks: they do not pile up."""
    ours = nameserver([names.upstream])

    async def main() -> None:
        assert await configured(dns.asyncresolver.Resolver, ours).resolve("web.example", "A")

    for _ in range(3):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        assert list(ours._on_asyncio) == [loop]
    asyncio.run(main())
    assert not ours._on_asyncio
    ours.close()
    gc.collect()


@pytest.mark.parametrize("runner", [None, *RUNNERS])
def test_time_that_is_over_is_dnspythons_own_error(names: Names, runner: str | None) -> None:
    names.server.fault = "silent"
    ours = nameserver([names.upstream])
    request = dns.message.make_query("web.example", "A")

    async def main() -> None:
        with pytest.raises(dns.exception.Timeout):
            await ours.async_query(request, 0.1, None, 0, True, None)

    if runner is None:
        with pytest.raises(dns.exception.Timeout):
            ours.query(request, 0.1, None, 0)
    else:
        RUNNERS[runner](main)
    ours.close()


def test_time_that_is_over_while_dialling(names: Names) -> None:
    """The same, though the resolver knows what went wrong: else dnspython asks this nameserver no more."""
    ours = nameserver([names.upstream])
    request = dns.message.make_query("web.example", "A")
    names.server.handshake_fault = "close"
    with pytest.raises(NoUpstreamError):
        ours.query(request, 0.01, None, 0)
    names.server.handshake_fault = "silent"
    with pytest.raises(dns.exception.Timeout) as caught:
        ours.query(request, 0.5, None, 0)
    assert isinstance(caught.value.__cause__, NoUpstreamError)
    ours.close()


def test_the_next_nameserver_is_asked(names: Names) -> None:
    """An upstream that is not the one that it should be has no answers; dnspython goes on as with its own."""
    wrong = Upstream(name="other.test", addresses=[names.server.host], port=names.server.port)
    refused, ours = nameserver([wrong]), nameserver([names.upstream])
    with pytest.raises(NoUpstreamError):
        refused.query(dns.message.make_query("web.example", "A"), 1.0, None, 0)
    resolver = configured(dns.resolver.Resolver, refused, ours)
    assert [record.address for record in resolver.resolve("web.example")] == ["127.0.0.1"]
    assert len(names.server.queries) == 1
    refused.close()
    ours.close()


def test_a_response_to_something_else_is_refused(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    """As dnspython's own functions do."""
    ours = nameserver([names.upstream])
    other = dns.message.make_response(dns.message.make_query("other.example", "A")).to_wire()
    monkeypatch.setattr(ours._resolver, "query", lambda *_, **__: other)
    with pytest.raises(dns.query.BadResponse):
        ours.query(dns.message.make_query("web.example", "A"), 1.0, None, 0)
    monkeypatch.undo()
    ours.close()


def test_signatures_are_checked(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    """TSIG (RFC 8945): the key of the request, and its MAC, are what the response is checked with."""
    key = dns.tsigkeyring.from_text({"key.example.": "c2VjcmV0IHNlY3JldCBzZWNyZXQ="})
    ours = nameserver([names.upstream])
    request = dns.message.make_query("web.example", "A")
    request.use_tsig(key)

    def signed(keyring: Any) -> Any:
        def query(octets: bytes, *, timeout: float) -> bytes:
            asked = dns.message.from_wire(octets, keyring=key)
            response = dns.message.make_response(asked)
            response.use_tsig(keyring, original_id=response.id)
            response.request_mac = asked.mac
            return response.to_wire()

        return query

    monkeypatch.setattr(ours._resolver, "query", signed(key))
    assert ours.query(request, 1.0, None, 0).had_tsig
    other = dns.tsigkeyring.from_text({"key.example.": "b3RoZXIgb3RoZXIgb3RoZXIgb3Q="})
    monkeypatch.setattr(ours._resolver, "query", signed(other))
    with pytest.raises(dns.tsig.BadSignature):
        ours.query(request, 1.0, None, 0)
    monkeypatch.undo()
    ours.close()


def test_what_is_dropped_leaves_nothing_open(names: Names) -> None:
    """A socket that nobody closed would be a warning, and so an error."""
    assert configured(dns.resolver.Resolver, nameserver([names.upstream])).resolve("web.example")
    gc.collect()


def test_wrong_arguments() -> None:
    for wrong in ([], "tls://127.0.0.1", None):
        with pytest.raises(LocalProtocolError, match="upstreams"):
            nameserver(wrong)  # type: ignore[arg-type]
    assert isinstance(nameserver([Upstream.well_known("quad9")]), Nameserver)
