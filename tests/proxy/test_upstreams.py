"""What clients see of upstreams that fail, are refused, or change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import pytest

from dot_io.asyncio import Peer, serve
from dot_io.proxy import Proxy
from dot_io.proxy._policy import DropReason
from dot_io.testing import Authority, LoopbackServer
from dot_io.tls import ServerContext
from dot_proto import LocalProtocolError, Upstream
from proxy.conftest import Setting, ask_tcp, ask_udp, make_query, run, udp, until

QUERY = make_query(use_edns=0)


def ending(response: bytes) -> tuple[dns.rcode.Rcode, list[bytes]]:
    """The RCODE, and the extended errors."""
    parsed = dns.message.from_wire(response)
    return parsed.rcode(), [option.to_wire() for option in parsed.options]


def test_a_refused_upstream_is_sent_nothing(setting: Setting) -> None:
    """P16: SERVFAIL at once, which says why, and no query leaves."""
    another = Upstream(
        name="other.test", addresses=(setting.server.host,), port=setting.server.port, trust_anchors=setting.anchors
    )

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with setting.proxy(another) as proxy:
            before = loop.time()
            found = await ask_udp(proxy.addresses[0], QUERY)
            assert ending(found) == (dns.rcode.SERVFAIL, [b"\0\0dot-proto: authentication"])
            assert loop.time() - before < 1.0

    run(main)
    assert setting.server.queries == []


def test_a_query_waits_for_an_upstream_that_is_away(setting: Setting) -> None:
    """P16, P18: as long as it may, and is answered when the upstream is back."""
    setting.server.handshake_fault = "close"

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with setting.proxy() as proxy, udp(proxy.addresses[0]) as client:
            client.send(QUERY)
            await until(lambda: setting.server.connections >= 2)
            setting.server.handshake_fault = None
            assert ending(await client.receive())[0] == dns.rcode.NOERROR
        setting.server.handshake_fault = "close"
        async with setting.proxy(wait_for_upstream=0.5) as proxy:
            before = loop.time()
            found = await ask_udp(proxy.addresses[0], QUERY)
            assert ending(found) == (dns.rcode.SERVFAIL, [b"\0\x16dot-proto: no upstream can be reached"])
            assert loop.time() - before < 1.5

    run(main)


def test_an_upstream_that_is_silent(setting: Setting) -> None:
    """P16: SERVFAIL when its time is over."""
    setting.server.fault = "silent"

    async def main() -> None:
        async with setting.proxy(wait_for_upstream=0.3) as proxy:
            found = await ask_udp(proxy.addresses[0], QUERY)
            assert ending(found) == (dns.rcode.SERVFAIL, [b"\0\x17dot-proto: no answer from an upstream"])

    run(main)


def test_what_waits_is_bounded(setting: Setting) -> None:
    """P17: the oldest go, unanswered, and whoever comes last is answered when the upstream is back."""
    setting.server.delay = 0.5

    async def main() -> None:
        async with setting.proxy(max_in_flight=50) as proxy, udp(proxy.addresses[0]) as client:
            for number in range(500):
                client.send(make_query(f"n{number}.example", id=number))
                if not number % 100:
                    await asyncio.sleep(0)
            await until(lambda: proxy._counters.dropped[DropReason.OVERLOAD] == 450)
            assert proxy._forwarder.waiting == 50
            found = {int.from_bytes((await client.receive())[:2]) for _ in range(50)}
            assert found == set(range(450, 500))

    run(main)


def test_a_loop_is_bounded(authority: Authority, setting: Setting) -> None:
    """P14: proxy, server, and the proxy again: others are answered, and it ends."""
    identity = authority.issue("dot.test")

    async def main() -> None:
        places: list[tuple[str, int]] = []

        async def handle(message: bytes, peer: Peer) -> bytes:
            if b"loop" not in message:
                response = dns.message.make_response(dns.message.from_wire(message))
                return response.to_wire()
            async with udp(places[0]) as client, asyncio.timeout(2.0):
                return await client.ask(b"\1\1" + message[2:])

        async with serve(handle, ServerContext(identity.chain_file), port=0) as server:
            upstream = Upstream(
                name="dot.test", addresses=("127.0.0.1",), port=server.port, trust_anchors=setting.anchors
            )
            async with setting.proxy(upstream, max_equal=20, wait_for_upstream=1.0) as proxy:
                places.append(proxy.addresses[0])
                async with udp(places[0]) as client:
                    client.send(make_query("loop.example"))
                    await until(lambda: proxy._counters.dropped[DropReason.EQUAL])
                    assert proxy._forwarder.waiting <= 20
                    assert ending(await ask_udp(places[0], QUERY))[0] == dns.rcode.NOERROR
                    assert ending(await client.receive())[0] == dns.rcode.SERVFAIL

    run(main)


@pytest.mark.parametrize(("rcode", "asks_next"), [("NXDOMAIN", False), ("SERVFAIL", False), ("REFUSED", True)])
def test_which_answers_lead_to_the_next_upstream(
    setting: Setting, authority: Authority, rcode: str, asks_next: bool
) -> None:
    """P19."""
    setting.server.answers["b.example", "A"] = rcode
    with LoopbackServer(authority.issue("second.test")) as second:
        second.answers["b.example", "A"] = ["192.0.2.2"]
        another = Upstream(
            name="second.test", addresses=(second.host,), port=second.port, trust_anchors=setting.anchors
        )

        async def main() -> bytes:
            async with setting.proxy(setting.upstream, another) as proxy:
                return await ask_udp(proxy.addresses[0], make_query("b.example"))

        found = ending(run(main))[0]
        assert found == (dns.rcode.NOERROR if asks_next else dns.rcode.from_text(rcode))
        assert len(second.queries) == asks_next


def test_an_upstream_that_nobody_authenticates_vouches_for_nothing(setting: Setting) -> None:
    """P5: AD of an opportunistic upstream is cleared, always."""
    opportunistic = Upstream(addresses=(setting.server.host,), port=setting.server.port, is_opportunistic=True)
    identity = setting.server

    async def main() -> None:
        for upstream, is_kept in ((setting.upstream, True), (opportunistic, False)):
            proxy = setting.proxy(upstream)
            decision = proxy._forwarder._policy.receive(QUERY, over_udp=True)
            response = dns.message.make_response(dns.message.from_wire(QUERY))
            response.flags |= dns.flags.AD
            found = dns.message.from_wire(decision.query.response(response.to_wire()))  # type: ignore[union-attr]
            assert bool(found.flags & dns.flags.AD) == is_kept
            await proxy.close()
            assert identity.queries == []

    run(main)


def test_no_name_and_no_client_in_the_log(setting: Setting, caplog: pytest.LogCaptureFixture) -> None:
    """P30: whatever happens."""
    caplog.set_level(logging.DEBUG)
    setting.server.faults["cut.example"] = "cut"

    async def main() -> None:
        async with setting.proxy(wait_for_upstream=0.3, max_in_flight=1) as proxy:
            [place] = proxy.addresses
            for name in ("cut.example", "a.example", "localhost"):
                await ask_udp(place, make_query(name))
                await ask_tcp(place, make_query(name))
            async with udp(place, "127.0.0.3") as client:
                for _ in range(3):
                    client.send(make_query("secret.example"))
                await client.receive()
            setting.server.handshake_fault = "refuse"

    run(main)
    assert caplog.records
    assert not [each for each in caplog.messages if "example" in each or "127.0.0.3" in each]


# ---------------------------------------------------------------- another configuration


def test_a_reload_under_load_loses_no_query(setting: Setting) -> None:
    """P25: those that wait are answered by the upstreams of before, on the sockets of before."""
    setting.server.delay = 0.05

    async def main() -> None:
        async with setting.proxy() as proxy:
            [place] = proxy.addresses
            stop = asyncio.Event()
            asked = answered = 0

            async def load() -> None:
                nonlocal asked, answered
                while not stop.is_set():
                    asked += 1
                    found = await (ask_udp(place, QUERY) if asked % 2 else ask_tcp(place, QUERY))
                    response = found if isinstance(found, bytes) else found[0]
                    answered += ending(response)[0] == dns.rcode.NOERROR

            async with asyncio.TaskGroup() as group:
                for _ in range(20):
                    group.create_task(load())
                for number in range(10):
                    await until(lambda wanted=asked + 50: asked >= wanted)  # type: ignore[misc]
                    await proxy.reload([setting.upstream], setting.proxy(max_udp_size=512 + number).configuration)
                    assert proxy.addresses == (place,)
                stop.set()
            assert asked == answered
            assert proxy.configuration.max_udp_size == 521
            await until(lambda: not proxy._leaving)

    run(main)
    assert setting.server.connections > 1


def test_a_reload_changes_where_it_listens(setting: Setting) -> None:
    """P25: what is not listed any more is closed, once what was asked there is answered."""
    setting.server.delay = 0.2

    async def main() -> None:
        async with setting.proxy() as proxy, udp(proxy.addresses[0]) as client:
            [before] = proxy.addresses
            client.send(QUERY)
            await until(lambda: setting.server.queries)
            await proxy.reload([setting.upstream], setting.proxy(listen=(("127.0.0.2", 0),)).configuration)
            assert ending(await client.receive())[0] == dns.rcode.NOERROR
            [place] = proxy.addresses
            assert place[0] == "127.0.0.2"
            assert ending(await ask_udp(place, QUERY))[0] == dns.rcode.NOERROR
            with pytest.raises(ConnectionRefusedError):
                await ask_tcp(before, QUERY)

    run(main)


def test_a_reload_that_cannot_be_changes_nothing(setting: Setting) -> None:
    """P25: the old configuration is kept."""

    async def main() -> None:
        async with setting.proxy() as proxy:
            before = proxy.addresses, proxy.configuration, proxy.upstreams
            with pytest.raises(LocalProtocolError, match="upstreams holds 0"):
                await proxy.reload([])
            foreign = setting.proxy(listen=(("192.0.2.1", 0),), allow=["192.0.2.0/24"]).configuration
            with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1 port 0"):
                await proxy.reload([setting.upstream], foreign)
            with pytest.raises(LocalProtocolError, match="configuration must be a ProxyConfiguration"):
                await proxy.reload([setting.upstream], "other")  # type: ignore[arg-type]
            assert (proxy.addresses, proxy.configuration, proxy.upstreams) == before
            assert ending(await ask_udp(proxy.addresses[0], QUERY))[0] == dns.rcode.NOERROR

    run(main)


def test_who_asks_while_it_closes(setting: Setting) -> None:
    """SERVFAIL, which says that another try may do, and not that the query is wrong."""

    async def main() -> None:
        async with setting.proxy() as proxy:
            await proxy._forwarder.abort()
            [response] = await ask_tcp(proxy.addresses[0], QUERY)
            assert ending(response) == (dns.rcode.SERVFAIL, [b"\0\0dot-proto: cannot be asked now"])

    run(main)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda setting: Proxy("quad9"), "upstreams must be a list of Upstream objects"),
        (lambda setting: Proxy(["quad9"]), "upstreams must be a list of Upstream objects, but number 1"),
        (lambda setting: Proxy(setting.upstream), "give \\[upstream\\]"),
        (lambda setting: Proxy([setting.upstream], sockets=[53]), "sockets must be a list of sockets that are bound"),
        (lambda setting: Proxy([setting.upstream], "fast"), "configuration must be a ProxyConfiguration"),
    ],
)
def test_wrong_arguments(setting: Setting, call: Callable[[Setting], Proxy], told: str) -> None:
    with pytest.raises(LocalProtocolError, match=told):
        call(setting)


def test_it_stays_in_its_process(setting: Setting, tmp_path: Path) -> None:
    import pickle

    with pytest.raises(TypeError, match="a Proxy can be neither pickled nor copied"):
        pickle.dumps(setting.proxy())
