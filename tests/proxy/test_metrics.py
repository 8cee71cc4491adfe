"""The counters: their text, what they say of what was asked, and who may read them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dot_io.proxy._http import MAX_HEAD
from proxy.conftest import Setting, ask_tcp, ask_udp, make_query, run, udp


def samples(text: str) -> Iterator[tuple[str, frozenset[tuple[str, str]], float]]:
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            yield sample.name, frozenset(sample.labels.items()), sample.value


def read(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """By name without the prefix and labels."""
    return {(name.removeprefix("dot_proto_"), labels): value for name, labels, value in samples(text)}


async def fetch(place: tuple[str, int], request: bytes) -> tuple[bytes, bytes]:
    """Status line and body."""
    reader, writer = await asyncio.open_connection(*place)
    writer.write(request)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head.partition(b"\r\n")[0], body


def request(path: str = "/metrics", host: str = "127.0.0.1:9153", method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nUser-Agent: x\r\nHost: {host}\r\n\r\n".encode()


def test_sums_agree_with_what_was_sent(setting: Setting) -> None:
    """P29: read by Prometheus's own parser."""

    async def main() -> str:
        async with setting.proxy(cache_size=10, metrics=("127.0.0.1", 0)) as proxy:
            [place] = proxy.addresses
            for message in (make_query(), make_query(), make_query("big.example", "TXT"), make_query("x.test", "LOC")):
                await ask_udp(place, message)
            await ask_tcp(place, make_query("localhost", "AAAA"))
            async with udp(place) as client:
                client.send(b"short")
                await client.ask(make_query("localhost"))
            assert proxy.metrics_address is not None
            status, body = await fetch(proxy.metrics_address, request())
            assert status == b"HTTP/1.1 200 OK"
            return body.decode()

    text = run(main)
    found = read(text)
    plain = {(name, frozenset()): value for name, value in (
        ("truncated_total", 1), ("cache_hits_total", 1), ("cache_misses_total", 2), ("in_flight", 0),
        ("query_duration_seconds_count", 2), ("client_connections", 0),
    )}  # fmt: skip
    labelled = {
        ("queries_total", frozenset({("transport", "udp"), ("qtype", "A")})): 3,
        ("queries_total", frozenset({("transport", "udp"), ("qtype", "TXT")})): 1,
        ("queries_total", frozenset({("transport", "udp"), ("qtype", "other")})): 1,
        ("queries_total", frozenset({("transport", "tcp"), ("qtype", "AAAA")})): 1,
        ("responses_total", frozenset({("rcode", "NOERROR")})): 5,
        ("responses_total", frozenset({("rcode", "NXDOMAIN")})): 1,
        ("dropped_total", frozenset({("reason", "short")})): 1,
        ("upstream_queries_total", frozenset({("upstream", str(setting.upstream))})): 2,
        ("upstream_handshakes_total", frozenset({("upstream", str(setting.upstream))})): 1,
        ("upstream_connections", frozenset({("upstream", str(setting.upstream))})): 1,
    }
    for key, value in (plain | labelled).items():
        assert found[key] == value, key
    assert 0 < found["query_duration_seconds_sum", frozenset()] < 10
    buckets = [value for (name, _), value in found.items() if name == "query_duration_seconds_bucket"]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 2
    assert "example" not in text
    assert all(name.startswith("dot_proto_") for name, _, _ in samples(text))


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (request(host="localhost"), b"200"),
        (request(host="[::1]:9153"), b"200"),
        (request(host="attacker.example"), b"421"),
        (request(host="127.0.0.1.attacker.example"), b"421"),
        (request(host="127.0.0.1@attacker.example"), b"421"),
        (b"GET /metrics HTTP/1.1\r\n\r\n", b"421"),
        (request("/"), b"404"),
        (request(method="POST"), b"405"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * MAX_HEAD, b"431"),
        (bytes(100) + b"\r\n\r\n", b"421"),
    ],
)
def test_who_may_read_them(setting: Setting, asked: bytes, status: bytes) -> None:
    """P29: no page of somebody else's, whose name leads here (DNS rebinding)."""

    async def main() -> None:
        async with setting.proxy(metrics=("127.0.0.1", 0)) as proxy:
            assert proxy.metrics_address is not None
            line, _ = await fetch(proxy.metrics_address, asked)
            assert line.split()[1] == status

    run(main)


def test_a_reload_moves_them(setting: Setting) -> None:
    """P25."""

    async def main() -> None:
        async with setting.proxy() as proxy:
            assert proxy.metrics_address is None
            with_metrics = setting.proxy(metrics=("127.0.0.1", 0)).configuration
            await proxy.reload([setting.upstream], with_metrics)
            before = proxy.metrics_address
            assert before is not None
            await proxy.reload([setting.upstream], with_metrics)
            assert proxy.metrics_address == before
            await proxy.reload([setting.upstream], setting.configuration)
            assert proxy.metrics_address is None
            with pytest.raises(ConnectionRefusedError):
                await fetch(before, request())
            with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1 port 9153"):
                await proxy.reload(
                    [setting.upstream],
                    setting.proxy(metrics=("192.0.2.1", 9153), allow=["192.0.2.0/24"]).configuration,
                )
            assert len(await ask_udp(proxy.addresses[0], make_query())) > 12

    run(main)
