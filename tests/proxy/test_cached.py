"""The cache before the upstream: what is asked twice, and what once."""

from __future__ import annotations

from typing import Any

import dns.message
import dns.rcode
import pytest

from proxy.conftest import Setting, ask_tcp, ask_udp, make_query, run


def asked(setting: Setting, *messages: bytes, **settings: Any) -> tuple[int, list[bytes]]:
    """How often the upstream was asked, and what the client got."""

    async def main() -> list[bytes]:
        async with setting.proxy(cache_size=100, **settings) as proxy:
            return [await ask_udp(proxy.addresses[0], message) for message in messages]

    answers = run(main)
    return len(setting.server.queries), answers


def test_a_hit_with_another_case_and_id(setting: Setting) -> None:
    """P6, P20: answered in the asker's letters, under its id."""
    queries = [make_query("a.example", id=1), make_query("A.ExamPle", id=2), make_query("a.example", id=3, use_edns=0)]
    count, answers = asked(setting, queries[0], queries[1])
    assert count == 1
    for query, answer in zip(queries, answers, strict=False):
        assert answer[:2] + answer[12 : len(query)] == query[:2] + query[12:]
        assert dns.message.from_wire(answer).answer[0][0].to_text() == "192.0.2.1"


@pytest.mark.parametrize(
    "options",
    [{"want_dnssec": True}, {"flags": "RD CD"}, {"flags": "RD AD"}, {"flags": 0}, {"use_edns": 0, "options": "nsid"}],
)
def test_who_asks_something_else_is_answered_anew(setting: Setting, options: dict[str, Any]) -> None:
    """P20: DO, CD, AD and RD are part of the question."""
    message = dns.message.make_query("a.example", "A")
    if "flags" in options:
        message.flags = dns.flags.from_text(options["flags"] or "")
    elif "options" in options:
        message.use_edns(0, options=[dns.edns.GenericOption(3, b"")])
    else:
        message.want_dnssec()
    assert asked(setting, make_query(), message.to_wire())[0] == 2


@pytest.mark.parametrize(("rcode", "count"), [("SERVFAIL", 1), ("REFUSED", 2), ("NXDOMAIN", 2)])
def test_failures(setting: Setting, rcode: str, count: int) -> None:
    """P22: SERVFAIL is kept for 2 s; what says nothing of how long is asked each time."""
    setting.server.answers["b.example", "A"] = rcode
    found, answers = asked(setting, make_query("b.example"), make_query("b.example"))
    assert found == count
    assert {dns.message.from_wire(answer).rcode() for answer in answers} == {dns.rcode.from_text(rcode)}


def test_a_large_answer_is_kept_whole(setting: Setting) -> None:
    """P1: cut for UDP from what is kept, and whole over TCP."""

    async def main() -> None:
        async with setting.proxy(cache_size=100) as proxy:
            [place] = proxy.addresses
            message = make_query("big.example", "TXT")
            assert len(await ask_udp(place, message)) < 60
            [whole] = await ask_tcp(place, message)
            assert len(whole) > 4000
            assert (proxy._counters.cache_hits, proxy._counters.cache_misses) == (1, 1)

    run(main)
    assert len(setting.server.queries) == 1


def test_a_reload_keeps_it_and_clearing_empties_it(setting: Setting) -> None:
    """P24."""

    async def main() -> None:
        async with setting.proxy(cache_size=100) as proxy:
            [place] = proxy.addresses
            await ask_udp(place, make_query())
            await proxy.reload([setting.upstream], setting.proxy(cache_size=100, max_udp_size=600).configuration)
            await ask_udp(place, make_query())
            assert len(setting.server.queries) == 1
            proxy.clear_cache()
            await ask_udp(place, make_query())
            assert len(setting.server.queries) == 2
            await proxy.reload([setting.upstream], setting.proxy(cache_size=0).configuration)
            proxy.clear_cache()
            await ask_udp(place, make_query())
            assert len(setting.server.queries) == 3

    run(main)
