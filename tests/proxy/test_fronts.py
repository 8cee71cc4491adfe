"""The proxy on loopback: UDP and TCP clients, before a server of ours."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from random import Random

import dns.flags
import dns.message
import dns.rcode
import pytest

from dot_io.proxy import Proxy, ProxyConfiguration, _proxy
from dot_io.proxy._udp import open_udp
from dot_proto import LocalProtocolError, Upstream, frame
from proxy.conftest import Setting, ask_tcp, ask_udp, make_query, run, udp, until

QUERY = make_query()


def addresses(response: bytes) -> list[str]:
    return [record.to_text() for rrset in dns.message.from_wire(response).answer for record in rrset]


def test_udp_and_tcp_are_answered(setting: Setting) -> None:
    """P1 to P3: under the client's id, on one connection to the upstream."""

    async def main() -> None:
        async with setting.proxy() as proxy:
            [place] = proxy.addresses
            assert addresses(await ask_udp(place, QUERY)) == ["192.0.2.1"]
            [response] = await ask_tcp(place, QUERY)
            assert (response[:2], addresses(response)) == (QUERY[:2], ["192.0.2.1"])

    run(main)
    assert setting.server.connections == 1


def test_each_client_gets_its_own(setting: Setting) -> None:
    """P3: 200 clients with one id, and one client with 200 questions of one id."""
    for number in range(200):
        setting.server.answers[f"n{number}.example", "A"] = [f"192.0.2.{number}"]

    async def main() -> None:
        async with setting.proxy() as proxy:
            [place] = proxy.addresses
            questions = [make_query(f"n{number}.example", id=1) for number in range(200)]
            responses = await asyncio.gather(*[ask_udp(place, question) for question in questions])
            assert [addresses(each) for each in responses] == [[f"192.0.2.{number}"] for number in range(200)]
            async with udp(place) as client:
                for question in questions:
                    client.send(question)
                found = {dns.message.from_wire(await client.receive()).question[0].to_text() for _ in questions}
                assert len(found) == 200

    run(main)
    ids = {each.message[:2] for each in setting.server.queries}
    assert len(ids) > 300  # drawn at random


@pytest.mark.parametrize("payload", [None, 512, 1232, 8000, 65_535])
def test_large_answers_are_cut_over_udp_and_whole_over_tcp(setting: Setting, payload: int | None) -> None:
    """P1, P8: rows of P.1 with 4 KB and 60 KB."""

    async def main() -> None:
        async with setting.proxy() as proxy:
            [place] = proxy.addresses
            for name, size in (("big.example", 4_000), ("huge.example", 55_000)):
                question = make_query(name, "TXT", **({} if payload is None else {"use_edns": 0, "payload": payload}))
                response = await ask_udp(place, question)
                assert len(response) < 60
                parsed = dns.message.from_wire(response)
                assert parsed.flags & dns.flags.TC
                assert parsed.edns == (-1 if payload is None else 0)
                [whole] = await ask_tcp(place, question)
                assert len(whole) > size
                assert not dns.message.from_wire(whole).flags & dns.flags.TC

    run(main)


@pytest.mark.parametrize("cut", [1, 2, 3, 65_537])
def test_a_stream_is_answered_however_it_is_cut(setting: Setting, cut: int) -> None:
    """P8: three pipelined, the first of which is answered last."""
    setting.server.delays["slow.example"] = 0.2
    setting.server.answers["slow.example", "A"] = ["192.0.2.2"]

    async def main() -> list[bytes]:
        async with setting.proxy() as proxy:
            messages = [make_query("slow.example", id=1), make_query(id=2), make_query("localhost", id=3)]
            return await ask_tcp(proxy.addresses[0], *messages, cut=cut)

    responses = run(main)
    assert sorted(responses)[0] == responses[-1]
    assert {addresses(each)[0] for each in responses} == {"192.0.2.1", "192.0.2.2", "127.0.0.1"}


def test_more_queries_than_a_connection_may_have_wait(setting: Setting) -> None:
    """P8: they are answered all the same."""

    async def main() -> list[bytes]:
        async with setting.proxy(max_queries_per_connection=3) as proxy:
            return await ask_tcp(proxy.addresses[0], *[make_query(id=number) for number in range(100)])

    assert {int.from_bytes(each[:2]) for each in run(main)} == set(range(100))


def test_a_client_that_has_said_all_still_reads(setting: Setting) -> None:
    """P8: half-closed, and then closed when all is answered."""
    setting.server.delay = 0.1

    async def main() -> bytes:
        async with setting.proxy() as proxy:
            reader, writer = await asyncio.open_connection(*proxy.addresses[0])
            writer.write(frame(QUERY))
            writer.write_eof()
            octets = await reader.read()
            writer.close()
            return octets

    assert addresses(run(main)[2:]) == ["192.0.2.1"]


def test_an_idle_client_is_closed(setting: Setting) -> None:
    """P8: after the idle timeout, and no earlier."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with setting.proxy(tcp_idle_timeout=0.3) as proxy:
            before = loop.time()
            reader, writer = await asyncio.open_connection(*proxy.addresses[0])
            assert await reader.read() == b""
            assert loop.time() - before >= 0.3
            writer.close()

    run(main)


def test_a_thousand_idle_clients_do_not_matter(setting: Setting) -> None:
    """P8: and the one above the limit is not served."""

    async def main() -> None:
        async with setting.proxy(max_connections=300) as proxy:
            [place] = proxy.addresses
            clients = [await asyncio.open_connection(*place) for _ in range(300)]
            await until(lambda: len(proxy._clients) == 300)
            assert addresses(await ask_udp(place, QUERY)) == ["192.0.2.1"]
            reader, writer = await asyncio.open_connection(*place)
            assert await reader.read() == b""
            for _, each in [*clients, (reader, writer)]:
                each.close()
            await until(lambda: len(proxy._clients) == 0)
            assert len(await ask_tcp(place, QUERY)) == 1

    run(main)


def test_a_client_that_never_reads_is_cut_off(setting: Setting) -> None:
    """P8: within the idle timeout after the last progress; what it asks is not answered without end."""

    async def main() -> None:
        async with setting.proxy(tcp_idle_timeout=0.4) as proxy:
            loop = asyncio.get_running_loop()
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await loop.sock_connect(sock, proxy.addresses[0])
            await loop.sock_sendall(sock, frame(make_query("huge.example", "TXT")) * 600)
            await until(lambda: len(proxy._clients) == 1)
            await until(lambda: len(proxy._clients) == 0)
            sock.close()
            assert addresses(await ask_udp(proxy.addresses[0], QUERY)) == ["192.0.2.1"]

    run(main)
    assert len(setting.server.queries) < 500


@pytest.mark.parametrize("octets", [b"\0\0", b"\0\x0b" + bytes(11), b"GET / HTTP/1.1\r\n\r\n" * 2000])
def test_what_is_no_dns_on_tcp(setting: Setting, octets: bytes) -> None:
    """P31: the connection ends, and others are answered."""

    async def main() -> None:
        async with setting.proxy(tcp_idle_timeout=0.3) as proxy:
            reader, writer = await asyncio.open_connection(*proxy.addresses[0])
            writer.write(octets)
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
            assert addresses(await ask_udp(proxy.addresses[0], QUERY)) == ["192.0.2.1"]

    run(main)


def test_what_is_not_answered_over_udp(setting: Setting) -> None:
    """P7: silence, and a count."""

    async def main() -> None:
        async with setting.proxy() as proxy:
            async with udp(proxy.addresses[0]) as client:
                for message in (b"", QUERY[:11], QUERY[:2] + b"\x81" + QUERY[3:]):
                    client.send(message)
                assert await client.is_silent(make_query("localhost", id=7))
            assert proxy._counters.dropped.total() == 3

    run(main)


def test_who_is_denied_hears_nothing(setting: Setting) -> None:
    """P9: over UDP silence, over TCP no service; networks that are allowed are answered."""

    async def main() -> None:
        async with setting.proxy(listen=[("0.0.0.0", 0)], allow=["192.0.2.0/24"]) as proxy:
            _, port = proxy.addresses[0]
            proxy._access._networks = proxy._access._networks[2:]  # as if 127.0.0.2 were somebody else
            async with udp(("127.0.0.1", port), "127.0.0.2") as denied, udp(("127.0.0.1", port)) as client:
                denied.send(QUERY)
                assert addresses(await client.ask(QUERY)) == ["192.0.2.1"]
                with pytest.raises(BlockingIOError):
                    denied.socket.recv(1)

    run(main)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_nothing_listens_on_a_foreign_address(setting: Setting, host: str) -> None:
    """P9: refused before anything is bound."""
    with pytest.raises(LocalProtocolError, match=f"^listen: {host} can be reached by other machines"):
        setting.proxy(listen=[(host, 0)])


@pytest.mark.parametrize("own", ["127.0.0.1", "127.0.0.2", "127.9.9.9"])
def test_a_wildcard_listener_answers_from_the_address_asked(setting: Setting, own: str) -> None:
    """P15: or a connected client would never see it."""

    async def main() -> None:
        async with setting.proxy(listen=[("0.0.0.0", 0)], allow=["192.0.2.0/24"]) as proxy:
            _, port = proxy.addresses[0]
            assert addresses(await ask_udp((own, port), QUERY)) == ["192.0.2.1"]

    run(main)


@pytest.mark.parametrize("host", ["::1", "::"])
def test_ipv6(setting: Setting, host: str) -> None:
    """P15."""

    async def main() -> None:
        async with setting.proxy(listen=[(host, 0), ("127.0.0.1", 0)], allow=["2001:db8::/32"]) as proxy:
            _, port = proxy.addresses[0]
            async with udp(("::1", port), "::1") as client:
                assert addresses(await client.ask(QUERY)) == ["192.0.2.1"]
            assert len(await ask_tcp(("::1", port), QUERY)) == 1

    run(main)


def test_no_datagram_is_fragmented(setting: Setting) -> None:
    """P1: by us, or on the way (ip(7))."""

    async def main() -> None:
        async with setting.proxy() as proxy:
            sock = proxy._listeners["127.0.0.1", 0].udp_socket
            assert sock.getsockopt(socket.IPPROTO_IP, 10) == 3

    run(main)


def test_an_upstream_that_is_the_proxy_itself() -> None:
    """P14."""
    upstream = Upstream(addresses=("127.0.0.1",), port=8853)
    for host in ("127.0.0.1", "0.0.0.0"):
        configuration = ProxyConfiguration(listen=((host, 8853),), allow=["192.0.2.0/24"])
        with pytest.raises(LocalProtocolError, match="is this proxy itself"):
            Proxy([upstream], configuration)


def test_an_address_that_is_taken(setting: Setting) -> None:
    """Nothing is left open, and the error names it."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            proxy = setting.proxy(listen=[("127.0.0.1", 0), ("127.0.0.1", port)])
            with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {port}: Address already in use"):
                await proxy.__aenter__()
            with socket.socket(type=socket.SOCK_DGRAM) as free:
                free.bind(("127.0.0.1", port))
            await proxy.close()

    run(main)


def test_a_reset_by_a_client_harms_nobody(setting: Setting) -> None:
    """P31: with its answer on the way."""
    setting.server.delay = 0.1

    async def main() -> None:
        async with setting.proxy() as proxy:
            [place] = proxy.addresses
            sock = socket.create_connection(place)
            sock.sendall(frame(QUERY))
            await until(lambda: setting.server.queries)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
            assert addresses(await ask_udp(place, QUERY)) == ["192.0.2.1"]

    run(main)


def test_a_connection_that_is_closed_while_the_proxy_ends(setting: Setting) -> None:
    """Answers that are owed are sent before it ends."""
    setting.server.delay = 0.2

    async def main() -> None:
        proxy = setting.proxy()
        await proxy.__aenter__()
        async with udp(proxy.addresses[0]) as client:
            client.send(QUERY)
            await until(lambda: setting.server.queries)
            await proxy.close()
            response = dns.message.from_wire(await client.receive())
            assert response.rcode() == dns.rcode.NOERROR

    run(main)


def test_a_machine_without_ipv6(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """P9: of both loopback addresses it listens on the one that there is; what is named alone must be had."""

    def lacking(host: str, port: int) -> socket.socket:
        if ":" in host:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return open_udp(host, port)

    monkeypatch.setattr(_proxy, "open_udp", lacking)

    async def main() -> None:
        async with setting.proxy(listen=[("127.0.0.1", 0), ("::1", 0)]) as proxy:
            [place] = proxy.addresses
            assert addresses(await ask_udp(place, QUERY)) == ["192.0.2.1"]
        with pytest.raises(OSError, match="cannot listen on ::1 port 0: Cannot assign"):
            await setting.proxy(listen=[("::1", 0)]).__aenter__()

    run(main)


def test_random_octets_harm_nobody(setting: Setting) -> None:
    """P31: 2,000 datagrams and 50 connections, of octets from a fixed seed; descriptors stay as they were."""
    random = Random(31)

    async def main() -> None:
        async with setting.proxy(tcp_idle_timeout=0.2) as proxy:
            [place] = proxy.addresses
            assert addresses(await ask_udp(place, QUERY)) == ["192.0.2.1"]
            before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
            async with udp(place) as client:
                for number in range(2000):
                    start = QUERY[: random.randrange(len(QUERY))] if number % 2 else b""
                    client.send(start + random.randbytes(random.randrange(600)))
                    if not number % 100:
                        assert addresses(await ask_udp(place, QUERY)) == ["192.0.2.1"]
            for _ in range(50):
                _, writer = await asyncio.open_connection(*place)
                writer.write(random.randbytes(2000))
                writer.close()
            await until(lambda: len(proxy._clients) == 0)
            assert addresses(await ask_udp(place, QUERY)) == ["192.0.2.1"]
            await until(lambda: proxy._forwarder.waiting == 0)
            if before is not None:
                await until(lambda: len(os.listdir("/proc/self/fd")) <= before)

    run(main)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_sockets_that_are_given(setting: Setting, kind: socket.SocketKind) -> None:
    """P27: in the place of ``listen``; and P9: others must be allowed there too."""

    async def main() -> None:
        given = socket.socket(type=kind)
        given.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            given.listen()
        async with Proxy([setting.upstream], setting.configuration, sockets=[given]) as proxy:
            [place] = proxy.addresses
            assert place == given.getsockname()
            [answer] = await ask_tcp(place, QUERY) if kind is socket.SOCK_STREAM else [await ask_udp(place, QUERY)]
            assert addresses(answer) == ["192.0.2.1"]
            await proxy.reload([setting.upstream], setting.configuration)
            assert proxy.addresses == (place,)
        assert given.fileno() == -1
        with socket.socket(type=kind) as foreign:
            foreign.bind(("0.0.0.0", 0))
            with pytest.raises(LocalProtocolError, match=r"0\.0\.0\.0 can be reached by other machines"):
                Proxy([setting.upstream], setting.configuration, sockets=[foreign])

    run(main)
