"""What is kept, for how long, and what is said of its age."""

from __future__ import annotations

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dot_io.proxy._cache import OVERHEAD, Cache, lifetime

SOA = "example. {} IN SOA ns.example. mail.example. 1 2 3 4 {}"


def response(
    *answer: str, authority: str = "", rcode: str = "NOERROR", rdtype: str = "A", flags: int = 0, ecs: bool = False
) -> bytes:
    """Of an upstream: records as ``OWNER TTL IN TYPE DATA``."""
    message = dns.message.make_response(dns.message.make_query("a.example", rdtype))
    for section, lines in ((message.answer, answer), (message.authority, [authority] if authority else [])):
        for line in lines:
            owner, ttl, rdclass, kind, data = line.split(" ", 4)
            section.append(dns.rrset.from_text(owner, int(ttl), rdclass, kind, data))
    message.flags |= flags
    options = [dns.edns.GenericOption(8, bytes([0, 1, 24, 24, 192, 0, 2]))] if ecs else []
    message.use_edns(0, 0, 1232, options=[*options, dns.edns.GenericOption(12, bytes(40))])
    message.set_rcode(dns.rcode.from_text(rcode))
    return message.to_wire()


A = "a.example. {} IN A 192.0.2.1"


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (response(A.format(300)), 300),
        (response(A.format(0)), 0),
        (response(A.format(1 << 31)), 0),
        (response(A.format(2_000_000)), 86_400),
        (response("a.example. 60 IN CNAME b.example.", "b.example. 300 IN A 192.0.2.1"), 60),
        (response(A.format(300), authority="example. 20 IN NS ns.example."), 20),
        (response(authority=SOA.format(900, 300)), 300),
        (response(authority=SOA.format(100, 300)), 100),
        (response(authority=SOA.format(90_000, 90_000), rcode="NXDOMAIN"), 10_800),
        (response(rcode="NXDOMAIN"), 0),
        (response(), 0),
        (response(authority="example. 300 IN NS ns.example."), 0),
        (response("a.example. 60 IN CNAME b.example.", authority=SOA.format(900, 300), rcode="NXDOMAIN"), 60),
        (response("a.example. 600 IN CNAME b.example.", authority=SOA.format(900, 300)), 300),
        (response("a.example. 600 IN CNAME b.example."), 0),
        (response(rcode="SERVFAIL"), 2),
        (response(A.format(300), rcode="SERVFAIL"), 2),
        (response(A.format(300), rcode="REFUSED"), 0),
        (response(A.format(300), rcode="BADVERS"), 0),
        (response(A.format(300), flags=dns.flags.TC), 0),
        (response(A.format(300), ecs=True), 0),
        (response(A.format(300))[:-1], 0),
        (response(A.format(300))[:12], 0),
    ],
)
def test_how_long_an_answer_is_kept(answer: bytes, seconds: int) -> None:
    """P20 to P22; and no longer, to the second."""
    assert lifetime(answer) == seconds
    cache = Cache(10, 100_000)
    cache.put(b"key", answer, now=1000.25)
    assert (cache.get(b"key", now=1000.25 + max(seconds, 1) - 0.01) is None) == (seconds == 0)
    assert cache.get(b"key", now=1000.25 + seconds) is None
    assert len(cache) == 0


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=5), st.lists(st.floats(0, 100), max_size=30))
def test_a_ttl_never_rises(ttls: list[int], steps: list[float]) -> None:
    """P20: each goes down with the age, and is at least 1; those of one set are the same."""
    lines = [f"n{number}.example. {ttl} IN TXT x" for number, ttl in enumerate(ttls)]
    answer = response(A.format(4000), *lines)
    cache, now = Cache(10, 100_000), 5.0
    before: dict[str, int] = {}
    cache.put(b"key", answer, now=now)
    for step in steps:
        now += step
        found = cache.get(b"key", now=now)
        assert (found is None) == (now - 5.0 >= min(4000, *ttls))
        if found is None:
            break
        parsed = dns.message.from_wire(found)
        by_name = {rrset.name.to_text(): rrset.ttl for rrset in parsed.answer}
        given = {"a.example.": 4000} | {f"n{number}.example.": ttl for number, ttl in enumerate(ttls)}
        assert all(1 <= ttl <= given[name] - int(now - 5.0) for name, ttl in by_name.items())
        assert all(ttl <= before.get(name, ttl) for name, ttl in by_name.items())
        assert parsed.edns == -1
        before = by_name


def test_the_soa_of_a_negative_answer_says_how_long() -> None:
    """P21: its TTL is the least of TTL and MINIMUM, and goes down likewise."""
    cache = Cache(10, 100_000)
    cache.put(b"key", response(authority=SOA.format(900, 300), rcode="NXDOMAIN"), now=0.0)
    for age, ttl in ((0.0, 300), (0.9, 300), (1.0, 299), (299.9, 1)):
        found = cache.get(b"key", now=age)
        assert found is not None
        parsed = dns.message.from_wire(found)
        assert (parsed.rcode(), parsed.authority[0].ttl) == (dns.rcode.NXDOMAIN, ttl)


@given(
    st.lists(st.tuples(st.sampled_from(["put", "get", "clear"]), st.integers(0, 9), st.integers(0, 400)), max_size=80),
    st.integers(1, 5),
    st.integers(700, 5000),
)
def test_it_is_bounded_and_forgets_the_least_recently_used(
    steps: list[tuple[str, int, int]], max_entries: int, max_octets: int
) -> None:
    """P24: against a plain list."""
    answer = response(A.format(100_000))
    kept = len(answer) - 11 - 44  # without OPT
    cache = Cache(max_entries, max_octets)
    model: list[int] = []
    for action, number, _ in steps:
        key = bytes([number])
        if action == "clear":
            cache.clear()
            model.clear()
        elif action == "put":
            cache.put(key, answer, now=0.0)
            model = [*(each for each in model if each != number), number]
            while len(model) > max_entries or len(model) * (1 + kept + OVERHEAD) > max_octets:
                model.pop(0)
        else:
            assert (cache.get(key, now=0.0) is not None) == (number in model)
            if number in model:
                model = [*(each for each in model if each != number), number]
        assert len(cache) == len(model)


@given(st.binary(min_size=12, max_size=200))
def test_any_octets_do_no_harm(answer: bytes) -> None:
    """P31."""
    assert 0 <= lifetime(answer) <= 86_400
