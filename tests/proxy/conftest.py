"""A proxy on loopback before a server of ours, and clients that ask in the clear."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import dns.message
import pytest

from dot_io.proxy import Proxy, ProxyConfiguration
from dot_io.testing import Authority, LoopbackServer
from dot_proto import Deframer, Upstream, certificates_from, frame

T = TypeVar("T")

PATIENCE = 20.0
"Seconds after which a test has failed."


class Setting:
    """A server, which is the upstream, and what a proxy before it needs."""

    def __init__(self, server: LoopbackServer) -> None:
        self.server = server
        self.anchors = tuple(certificates_from(server.ca_file.read_bytes()))
        self.upstream = Upstream(
            name=server.name, addresses=(server.host,), port=server.port, trust_anchors=self.anchors
        )
        self.configuration = ProxyConfiguration(listen=(("127.0.0.1", 0),))

    def proxy(self, *upstreams: Upstream, **settings: Any) -> Proxy:
        """One that asks the server, unless told otherwise."""
        return Proxy(upstreams or [self.upstream], replace(self.configuration, **settings))


class Client:
    """One client's UDP socket."""

    def __init__(self, place: tuple[str, int], own: str = "127.0.0.1") -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in place[0] else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind((own, 0))
        self.socket.connect(place)

    def send(self, message: bytes) -> None:
        self.socket.send(message)

    async def receive(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.socket, 65_535)

    async def ask(self, message: bytes) -> bytes:
        self.send(message)
        return await self.receive()

    async def is_silent(self, probe: bytes) -> bool:
        """Whether nothing came before the answer to a query that has one."""
        return (await self.ask(probe))[:2] == probe[:2]


@asynccontextmanager
async def udp(place: tuple[str, int], own: str = "127.0.0.1") -> AsyncIterator[Client]:
    client = Client(place, own)
    try:
        yield client
    finally:
        client.socket.close()


async def ask_udp(place: tuple[str, int], message: bytes) -> bytes:
    async with udp(place) as client:
        return await client.ask(message)


async def ask_tcp(place: tuple[str, int], *messages: bytes, cut: int = 65_537) -> list[bytes]:
    """All messages on one connection, sent in pieces of ``cut`` octets; as many responses, in the order of coming."""
    reader, writer = await asyncio.open_connection(*place)
    octets = b"".join(map(frame, messages))
    for start in range(0, len(octets), cut):
        writer.write(octets[start : start + cut])
        await asyncio.sleep(0)
    deframer, found = Deframer(), list[bytes]()
    while len(found) < len(messages) and (data := await reader.read(65_536)):
        found += deframer.feed(data)
    writer.close()
    await writer.wait_closed()
    return found


def make_query(name: str = "a.example", rdtype: str = "A", *, id: int = 0x1234, **options: Any) -> bytes:
    return dns.message.make_query(name, rdtype, id=id, **options).to_wire()


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(PATIENCE):
            return await main()

    return asyncio.run(bounded())


async def until(condition: Callable[[], object], step: Callable[[], Awaitable[object]] | None = None) -> None:
    """Until something is so; the test's own patience bounds it."""
    while not condition():
        await asyncio.sleep(0.005)
        if step is not None:
            await step()


@pytest.fixture(name="authority", scope="session")
def authority_fixture(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "proxy")


@pytest.fixture(name="setting")
def setting_fixture(authority: Authority) -> Iterator[Setting]:
    with LoopbackServer(authority.issue("dot.test")) as server:
        server.answers["a.example", "A"] = ["192.0.2.1"]
        server.answers["big.example", "TXT"] = [f'"{number:04}{"x" * 250}"' for number in range(16)]
        server.answers["huge.example", "TXT"] = [f'"{number:04}{"x" * 250}"' for number in range(220)]
        yield Setting(server)
