"""The hook of niquests.  It brings a urllib3 of its own, so these tests run only where it is installed."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from dot_proto import LocalProtocolError
from hooks.conftest import Names

niquests = pytest.importorskip("niquests", reason="niquests takes the place of urllib3, and has a venv of its own")
from dot_io.hooks.niquests import AsyncResolver, Resolver  # noqa: E402

PAGES = [("web.example", ["web.example"]), ("alias.example", ["alias.example"]), ("localhost", []), ("127.0.0.1", [])]


@pytest.mark.parametrize(("host", "asked"), PAGES)
def test_pages(names: Names, host: str, asked: list[str]) -> None:
    with closing(Resolver([names.upstream])) as resolver, niquests.Session(resolver=resolver) as session:
        session.trust_env = False
        assert session.get(names.url(host)).text == names.words
    assert names.asked() == asked


@pytest.mark.parametrize(("host", "asked"), PAGES)
def test_pages_that_are_awaited(names: Names, host: str, asked: list[str]) -> None:
    async def main() -> str:
        resolver = AsyncResolver([names.upstream])
        async with niquests.AsyncSession(resolver=resolver) as session:
            session.trust_env = False
            text: str = (await session.get(names.url(host))).text
        await resolver.close()
        return text

    assert asyncio.run(main()) == names.words
    assert names.asked() == asked


def test_a_name_that_does_not_exist(names: Names) -> None:
    with closing(Resolver([names.upstream])) as resolver, niquests.Session(resolver=resolver) as session:
        session.trust_env = False
        with pytest.raises(niquests.exceptions.ConnectionError):
            session.get("http://none.example/")
    assert names.asked() == ["none.example"]


@pytest.mark.parametrize("kind", [Resolver, AsyncResolver])
def test_wrong_arguments(names: Names, kind: type[Resolver | AsyncResolver]) -> None:
    """A text is no list, though it can be iterated over."""
    with pytest.raises(LocalProtocolError, match="search"):
        kind([names.upstream], search="corp")
    with pytest.raises(LocalProtocolError, match="upstreams"):
        kind([])


def test_what_it_is_asked_for(names: Names) -> None:
    """Threads share one connection; a resolver that was closed can be made anew, as sessions do it."""
    resolver = Resolver([names.upstream], search=["corp.example"])
    with ThreadPoolExecutor(8) as threads:
        found = list(
            threads.map(
                lambda name: resolver.getaddrinfo(name, 80, 0, socket.SOCK_STREAM), ["short", b"web.example"] * 16
            )
        )
    assert found == [[(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]] * 32
    assert names.server.connections == 1
    assert resolver.is_available()
    with pytest.raises(RuntimeError, match="not closed"):
        resolver.recycle()
    resolver.close()
    assert not resolver.is_available()
    again = resolver.recycle()
    assert again.getaddrinfo("short", 80, socket.AF_INET, socket.SOCK_STREAM)
    again.close()


def test_what_it_is_asked_for_where_it_is_awaited(names: Names) -> None:
    async def main() -> None:
        resolver = AsyncResolver([names.upstream], search=["corp.example"])
        found = await resolver.getaddrinfo("short", 80, 0, socket.SOCK_STREAM)
        assert found == [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]
        with pytest.raises(RuntimeError, match="not closed"):
            resolver.recycle()
        await resolver.close()
        again = resolver.recycle()
        assert await again.getaddrinfo("short", 80, 0, socket.SOCK_STREAM)
        await again.close()

    asyncio.run(main())
