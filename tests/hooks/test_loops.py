"""The hooks of event loops, with the real libraries: what they reach, and what the DNS server was asked for."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
import anyio
import httpx
import pytest
import trio

import dot_io.asyncio
import dot_io.trio
from dot_io.hooks.aiohttp import Resolver as AiohttpResolver
from dot_io.hooks.event_loop import new_event_loop
from dot_io.hooks.trio import HostnameResolver
from dot_proto import LocalProtocolError
from hooks.conftest import Names

Get = Callable[[Names, str], Coroutine[Any, Any, str]]
"Fetches the page of a host."


def on_loop(names: Names, main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    with asyncio.Runner(loop_factory=lambda: new_event_loop([names.upstream], search=["corp.example"])) as runner:
        return runner.run(main())


async def by_streams(names: Names, host: str) -> str:
    reader, writer = await asyncio.open_connection(host, names.web_port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    page = await reader.read()
    writer.close()
    await writer.wait_closed()
    return page.decode().rpartition("\r\n\r\n")[2]


async def by_httpx(names: Names, host: str) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(names.url(host))).text


async def by_anyio(names: Names, host: str) -> str:
    async with await anyio.connect_tcp(host, names.web_port) as stream:
        await stream.send(b"GET / HTTP/1.0\r\n\r\n")
        page = b""
        async for octets in stream:
            page += octets
    return page.decode().rpartition("\r\n\r\n")[2]


async def by_aiohttp(names: Names, host: str) -> str:
    connector = aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver())
    async with aiohttp.ClientSession(connector=connector) as session, session.get(names.url(host)) as response:
        return await response.text()


ON_ASYNCIO: dict[str, Get] = {
    "streams": by_streams, "httpx": by_httpx, "anyio": by_anyio, "aiohttp on its loop": by_aiohttp
}  # fmt: skip


@pytest.mark.parametrize("library", ON_ASYNCIO)
@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("web.example", ["web.example"]),
        ("alias.example", ["alias.example"]),
        ("WEB.example", ["web.example"]),
        ("short", ["short.corp.example"]),
        ("localhost", []),
        ("127.0.0.1", []),
    ],
)
def test_pages_by_an_event_loop(names: Names, library: str, host: str, asked: list[str]) -> None:
    """GAI-2, GAI-8 among them: names that only our server knows; what is local is never asked."""

    async def main() -> str:
        return await ON_ASYNCIO[library](names, host)

    assert on_loop(names, main) == names.words
    assert [name.lower() for name in names.asked()] == asked


@pytest.mark.parametrize("library", ON_ASYNCIO)
def test_a_name_that_does_not_exist(names: Names, library: str) -> None:
    """Each library says so in its own way; all of them are, or come from, ``gaierror``."""

    async def main() -> None:
        with pytest.raises((OSError, httpx.ConnectError)) as caught:
            await ON_ASYNCIO[library](names, "none.example")
        assert "not known" in f"{caught.value!r} {caught.value.__cause__!r}"

    on_loop(names, main)
    assert names.asked() == ["none.example", "none.example.corp.example"]


def test_what_a_loop_is_asked_for(names: Names) -> None:
    """Octets, flags of servers, and the kinds of sockets; one connection for all, closed with the loop."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert await loop.getaddrinfo(b"web.example", 80, type=socket.SOCK_STREAM) == [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))
        ]
        assert await loop.getaddrinfo("v6.example", "http") == socket.getaddrinfo("::1", "http")
        assert await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST) == ("127.0.0.1", "http")
        server = await asyncio.start_server(lambda *_: None, "localhost", 0)
        server.close()
        await server.wait_closed()

    on_loop(names, main)
    assert names.asked() == ["web.example", "v6.example"]
    assert names.server.connections == 1


def test_thousands_of_names_at_once_wait_for_their_turn(names: Names) -> None:
    """As with the C library: nobody is turned away, though the connection is not even open yet."""

    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        lookups = (loop.getaddrinfo("web.example", 80, type=socket.SOCK_STREAM) for _ in range(2000))
        return await asyncio.gather(*lookups)

    assert all(found[0][4] == ("127.0.0.1", 80) for found in on_loop(names, main))
    assert names.server.connections == 1


def test_a_loop_that_asks_nothing_opens_nothing(names: Names) -> None:
    """And closes without having run; twice does no harm."""

    async def main() -> None:
        await asyncio.sleep(0)

    on_loop(names, main)
    loop = new_event_loop([names.upstream])
    loop.close()
    loop.close()
    assert names.server.connections == 0


def test_a_loop_that_is_closed_by_hand_closes_its_connections(names: Names) -> None:
    """An unclosed socket would be a warning, and so an error."""
    loop = new_event_loop([names.upstream])
    assert loop.run_until_complete(loop.getaddrinfo("web.example", 80, type=socket.SOCK_STREAM))
    loop.close()


def test_a_loop_is_closed_from_within_another(names: Names) -> None:
    """As any loop can be, where nothing is open."""

    async def main() -> None:
        loop = new_event_loop([names.upstream])
        loop.close()
        assert loop.is_closed()

    asyncio.run(main())


def test_wrong_arguments_of_a_loop(names: Names) -> None:
    for wrong in ([], "tls://127.0.0.1", None):
        with pytest.raises(LocalProtocolError, match="upstreams"):
            new_event_loop(wrong)  # type: ignore[arg-type]
    with pytest.raises(LocalProtocolError, match="search"):
        new_event_loop([names.upstream], search=["a b"])


@pytest.mark.parametrize(("host", "asked"), [("web.example", ["web.example"]), ("localhost", []), ("127.0.0.1", [])])
def test_aiohttp_with_a_resolver_of_its_own(names: Names, host: str, asked: list[str]) -> None:
    """aiohttp's own interface, which works with aiodns installed too."""

    async def main() -> str:
        async with dot_io.asyncio.Resolver([names.upstream]) as resolver:
            connector = aiohttp.TCPConnector(resolver=AiohttpResolver(resolver))
            async with aiohttp.ClientSession(connector=connector) as session, session.get(names.url(host)) as response:
                return await response.text()

    assert asyncio.run(main()) == names.words
    assert names.asked() == asked


def test_what_aiohttp_is_told(names: Names) -> None:
    """The form that it wants, families, and failures as its own."""

    async def main() -> None:
        async with dot_io.asyncio.Resolver([names.upstream]) as resolver:
            ours = AiohttpResolver(resolver, search=["corp.example"])
            for host in ("web.example", "short"):
                (found,) = await ours.resolve(host, 8080)
                assert found == {
                    "hostname": host, "host": "127.0.0.1", "port": 8080, "family": socket.AF_INET, "proto": 6,
                    "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                }  # fmt: skip
            (found,) = await ours.resolve("v6.example", 8080, socket.AF_UNSPEC)
            assert (found["host"], found["family"]) == ("::1", socket.AF_INET6)
            connector = aiohttp.TCPConnector(resolver=ours)
            async with aiohttp.ClientSession(connector=connector) as session:
                with pytest.raises(aiohttp.ClientConnectorDNSError, match="not known"):
                    await session.get("http://none.example/")
            await ours.close()
            assert await ours.resolve("web.example")  # it is its owner's to close

    asyncio.run(main())


async def by_trio(names: Names, host: str) -> str:
    stream = await trio.open_tcp_stream(host, names.web_port)
    async with stream:
        await stream.send_all(b"GET / HTTP/1.0\r\n\r\n")
        page = b"".join([octets async for octets in stream])
    return page.decode().rpartition("\r\n\r\n")[2]


ON_TRIO: dict[str, Get] = {"trio": by_trio, "httpx": by_httpx, "anyio": by_anyio}


def on_trio(names: Names, main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    async def run() -> Any:
        async with dot_io.trio.Resolver([names.upstream]) as resolver:
            before = trio.socket.set_custom_hostname_resolver(HostnameResolver(resolver))
            assert before is None
            return await main()

    return trio.run(run)


@pytest.mark.parametrize("library", ON_TRIO)
@pytest.mark.parametrize(
    ("host", "asked"),
    [("web.example", ["web.example"]), ("alias.example", ["alias.example"]), ("localhost", []), ("127.0.0.1", [])],
)
def test_pages_by_trio(names: Names, library: str, host: str, asked: list[str]) -> None:
    async def main() -> str:
        return await ON_TRIO[library](names, host)

    assert on_trio(names, main) == names.words
    assert names.asked() == asked


def test_what_trio_is_told(names: Names) -> None:
    """Octets come in; failures come out as ``gaierror``; getnameinfo stays the system's."""

    async def main() -> None:
        found = await trio.socket.getaddrinfo(b"web.example", 80, type=socket.SOCK_STREAM)
        assert found == [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]
        with pytest.raises(socket.gaierror, match="not known"):
            await trio.socket.getaddrinfo("none.example", 80)
        assert await trio.socket.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST) == ("127.0.0.1", "http")

    on_trio(names, main)
    assert names.asked() == ["web.example", "none.example"]
