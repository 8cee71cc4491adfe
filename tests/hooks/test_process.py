"""The hook for the whole process, with the real libraries."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import httpx
import pytest
import requests
import trio

from dot_io.blocking import connect
from dot_io.hooks.process import REPLACED, encrypted_dns
from dot_io.testing import Authority, LoopbackServer
from dot_proto import (
    AuthenticationPolicy,
    LocalProtocolError,
    ResolverConfiguration,
    Upstream,
    certificates_from,
    make_query,
)
from hooks.conftest import Names

ORIGINALS = {name: getattr(socket, name) for name in REPLACED}


def by_requests(url: str) -> str:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url).text


def by_urllib(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url) as response:
        text: str = response.read().decode()
        return text


def by_httpx(url: str) -> str:
    with httpx.Client(trust_env=False) as client:
        return client.get(url).text


def by_httpx_on_asyncio(url: str) -> str:
    async def main() -> str:
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.get(url)).text

    return asyncio.run(main())


def by_httpx_on_trio(url: str) -> str:
    async def main() -> str:
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.get(url)).text

    return trio.run(main)


def by_aiohttp(url: str) -> str:
    async def main() -> str:
        connector = aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver())
        async with aiohttp.ClientSession(connector=connector) as session, session.get(url) as response:
            return await response.text()

    return asyncio.run(main())


LIBRARIES: dict[str, Callable[[str], str]] = {
    "requests": by_requests,
    "urllib": by_urllib,
    "httpx": by_httpx,
    "httpx on asyncio": by_httpx_on_asyncio,
    "httpx on trio": by_httpx_on_trio,
    "aiohttp": by_aiohttp,
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("host", "asked"), [("web.example", ["web.example"]), ("localhost", []), ("127.0.0.1", [])])
def test_pages(names: Names, library: str, host: str, asked: list[str]) -> None:
    """Names that only our server knows; what is local is never asked."""
    with encrypted_dns([names.upstream]):
        assert LIBRARIES[library](names.url(host)) == names.words
    assert names.asked() == asked


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_name_that_does_not_exist(names: Names, library: str) -> None:
    with encrypted_dns([names.upstream]), pytest.raises(Exception, match="not known"):
        LIBRARIES[library](names.url("none.example"))
    assert names.asked() == ["none.example"]


@pytest.mark.parametrize("host", ["", b"", "<broadcast>", bytearray(b"<broadcast>"), "a\0b", b"a\0b", None, 7])
@pytest.mark.parametrize("function", ["gethostbyname", "gethostbyname_ex", "gethostbyaddr"])
def test_what_is_no_name_is_as_without_us(names: Names, function: str, host: Any) -> None:
    """The system's functions ask nobody for these."""

    def outcome() -> object:
        try:
            return getattr(socket, function)(host)
        except (OSError, TypeError, ValueError) as error:
            return type(error), str(error)

    before = outcome()
    with encrypted_dns([names.upstream]):
        assert outcome() == before
    assert names.asked() == []


def test_the_kin_of_getaddrinfo(names: Names) -> None:
    """Names to addresses, and back; what only they know stays as it is."""
    with encrypted_dns([names.upstream], search=["corp.example"]) as resolver:
        assert socket.gethostbyname("web.example") == "127.0.0.1"
        assert socket.gethostbyname("short") == "127.0.0.1"
        assert socket.gethostbyname_ex("alias.example") == ("web.example", [], ["127.0.0.1"])
        assert socket.gethostbyname(b"web.example") == "127.0.0.1"
        with pytest.raises(socket.gaierror):
            socket.gethostbyname("v6.example")
        assert socket.gethostbyaddr("192.0.2.7") == ("host.example", [], ["192.0.2.7"])
        assert socket.getfqdn("192.0.2.7") == "host.example"
        assert socket.getnameinfo(("192.0.2.7", 80), 0) == ("host.example", "http")
        assert socket.getnameinfo(("192.0.2.7", 80), socket.NI_NUMERICHOST) == ("192.0.2.7", "http")
        assert socket.getnameinfo(("192.0.2.8", 80), socket.NI_NUMERICSERV) == ("192.0.2.8", "80")
        assert socket.getnameinfo(("192.0.2.7", 53), socket.NI_NAMEREQD | socket.NI_DGRAM) == ("host.example", "domain")
        with pytest.raises(socket.gaierror) as unknown:
            socket.getnameinfo(("192.0.2.8", 80), socket.NI_NAMEREQD)
        assert unknown.value.errno == socket.EAI_NONAME
        with pytest.raises(socket.herror, match="Unknown host"):
            socket.gethostbyaddr("192.0.2.8")
        names.server.answers["9.2.0.192.in-addr.arpa", "PTR"] = "SERVFAIL"
        assert socket.getnameinfo(("192.0.2.9", 80), socket.NI_NUMERICSERV) == ("192.0.2.9", "80")
        with pytest.raises(socket.gaierror) as failed:
            socket.getnameinfo(("192.0.2.9", 80), socket.NI_NAMEREQD)
        assert failed.value.errno == socket.EAI_AGAIN
        with pytest.raises(socket.herror, match="lookup failure"):
            socket.gethostbyaddr("192.0.2.9")
        assert resolver.statistics()[0].answered


def test_a_reverse_name_that_never_comes(names: Names) -> None:
    """It may come another time; where a number will do, it does."""
    names.server.faults["9.2.0.192.in-addr.arpa"] = "silent"
    with encrypted_dns([names.upstream], ResolverConfiguration(query_timeout=0.2)):
        with pytest.raises(socket.herror, match="lookup failure"):
            socket.gethostbyaddr("192.0.2.9")
        assert socket.getnameinfo(("192.0.2.9", 80), 0)[0] == "192.0.2.9"


def test_everything_is_put_back(names: Names) -> None:
    """Also after an exception, and where blocks are nested."""
    with encrypted_dns([names.upstream]):
        outer = {name: getattr(socket, name) for name in REPLACED}
        assert all(outer[name] is not ORIGINALS[name] for name in REPLACED)
        with contextlib.suppress(ZeroDivisionError), encrypted_dns([names.upstream]):
            assert socket.getaddrinfo is not outer["getaddrinfo"]
            raise ZeroDivisionError
        assert {name: getattr(socket, name) for name in REPLACED} == outer
        assert socket.gethostbyname("web.example") == "127.0.0.1"
    assert {name: getattr(socket, name) for name in REPLACED} == ORIGINALS


def test_two_resolvers(names: Names, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The inner block's upstream is asked, and no other; after it the outer block's."""
    authority = Authority(tmp_path_factory.mktemp("inner"), "inner")
    with LoopbackServer(authority.issue("inner.test")) as server:
        server.answers["web.example", "A"] = ["127.0.0.2"]
        anchors = certificates_from(authority.root_file.read_bytes())
        inner = Upstream(name="inner.test", addresses=[server.host], port=server.port, trust_anchors=anchors)
        with encrypted_dns([names.upstream]):
            with encrypted_dns([inner]):
                assert socket.gethostbyname("web.example") == "127.0.0.2"
                assert names.asked() == []
            assert socket.gethostbyname("web.example") == "127.0.0.1"
            assert [query.name for query in server.queries] == ["web.example"]


def test_blocks_that_overlap_leave_nothing_open(names: Names) -> None:
    """In no order a name goes to the system while a block runs; nor does a closed one stay behind."""
    first, second, third = (encrypted_dns([names.upstream]) for _ in range(3))
    for block in (first, second, third):
        block.__enter__()
    for block in (first, third):
        block.__exit__(None, None, None)
        assert socket.gethostbyname("web.example") == "127.0.0.1"
        assert names.asked() == ["web.example"]
    second.__exit__(None, None, None)
    assert {name: getattr(socket, name) for name in REPLACED} == ORIGINALS


def test_wrong_arguments_replace_nothing(names: Names) -> None:
    for wrong in ([], "tls://127.0.0.1", None):
        with pytest.raises(LocalProtocolError, match="upstreams"), encrypted_dns(wrong):  # type: ignore[arg-type]
            pass
    with pytest.raises(LocalProtocolError, match="search"), encrypted_dns([names.upstream], search="corp"):
        pass
    assert {name: getattr(socket, name) for name in REPLACED} == ORIGINALS


def test_threads_see_it_at_once(names: Names) -> None:
    """Those that began before, too; all share one connection."""
    begun, hooked, found = threading.Event(), threading.Event(), list[str]()

    def early() -> None:
        begun.set()
        hooked.wait(10.0)
        found.append(socket.gethostbyname("web.example"))

    thread = threading.Thread(target=early)
    thread.start()
    begun.wait(10.0)
    with encrypted_dns([names.upstream]), ThreadPoolExecutor(16) as threads:
        hooked.set()
        thread.join()
        found += threads.map(socket.gethostbyname, ["web.example"] * 100)
    assert found == ["127.0.0.1"] * 101
    assert names.server.connections == 1


def test_an_upstream_with_a_name_does_not_ask_itself(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    """RES-9: its own name goes to the system's function, though ours has taken its place."""
    seen: list[str] = []

    def system(host: Any, *arguments: Any, **options: Any) -> Any:
        seen.append(host)
        return ORIGINALS["getaddrinfo"]("127.0.0.1", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", system)
    upstream = Upstream(
        name="dot.test",
        port=names.upstream.port,
        trust_anchors=names.upstream.trust_anchors,
        bootstrap="system",
    )
    with encrypted_dns([upstream]), encrypted_dns([upstream]):
        assert socket.gethostbyname("web.example") == "127.0.0.1"
    assert seen == ["dot.test"]
    assert names.asked() == ["web.example"]


def test_a_clients_own_name_is_looked_up_by_it(names: Names) -> None:
    """The whole process is meant: also what dials by name with our own client."""
    names.server.answers["dot.example", "A"] = ["127.0.0.1"]
    with encrypted_dns([names.upstream]):
        policy = AuthenticationPolicy.strict("dot.test", trust_anchors=names.upstream.trust_anchors or ())
        with connect("dot.example", policy, port=names.server.port) as client:
            assert client.query(make_query("web.example"))
    assert names.asked() == ["dot.example", "web.example"]


def test_names_of_multicast_dns_are_the_systems(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    """GAI-8: so that a printer that was found is found."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **_: [("the system's", *given)])
    with encrypted_dns([names.upstream]):
        assert socket.getaddrinfo("printer.local", 631) == [("the system's", "printer.local", 631, 0, 0, 0, 0)]
    assert names.asked() == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_forked_child_goes_on_asking(names: Names) -> None:
    """RES-43: on a connection of its own; the parent's stays."""
    with encrypted_dns([names.upstream]) as resolver:
        assert socket.gethostbyname("web.example")
        child = os.fork()
        if not child:
            code = 1
            try:
                code = 0 if socket.gethostbyname("alias.example") == "127.0.0.1" else 2
                resolver.close()
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert socket.gethostbyname("web.example")
        assert resolver.statistics()[0].opened == 1
    assert names.server.connections == 2
