"""The cache of sessions to resume, by itself, and when a session is read at all."""

from __future__ import annotations

import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from dot_io.tls import ClientContext, SessionCache
from dot_io.tls.cache import SessionReads, loses_sessions
from dot_proto import AuthenticationPolicy, CertificateFacts, Verdict
from support.messages import Clock
from support.pki import NAME, Pki
from support.pki import pki_fixture as pki_fixture
from support.wire import ADDRESS, TLS12, TLS13, Peer, Wire, both_versions, make_client, raw_server

DAY = 86_400.0
NOW = int(time.time())

CONTEXT = object()


@pytest.fixture
def cache() -> SessionCache:
    return SessionCache()


CONTEXT = object()


def session(*, lifetime: int = 7200, age: float = 0.0) -> Any:
    """As much of a session as the cache looks at; its ticket came ``age`` seconds before NOW."""
    return SimpleNamespace(ticket_lifetime_hint=lifetime, time=NOW - age)


def facts(pki: Pki) -> tuple[CertificateFacts, ...]:
    return tuple(CertificateFacts.of(one.der) for one in (pki.leaf, pki.intermediate, pki.root))


def verdict(pki: Pki, *, accepted: bool = True, by_pin: bool = False) -> Verdict:
    policy = AuthenticationPolicy.strict(pins=[pki.leaf.pin])
    return Verdict(policy, accepted, accepted, None, "", presented=facts(pki), validated=() if by_pin else facts(pki))


def span(cache: SessionCache) -> tuple[float, float]:
    """From when until when what was stored may be had, after NOW."""
    [entry] = [entry for entries in cache._entries.values() for entry in entries]
    return entry.begin - NOW, entry.end - NOW


def test_a_ticket_is_kept_for_its_lifetime(pki: Pki) -> None:
    """To the second (RFC 8446, section 4.6.1)."""
    for seconds, is_there in ((7199.9, True), (7200.0, False), (-0.1, False)):
        cache = SessionCache()
        cache.store(CONTEXT, ADDRESS, session(), verdict(pki), wall_time=NOW)
        assert span(cache) == (0.0, 7200.0)
        assert (cache.take(CONTEXT, ADDRESS, wall_time=NOW + seconds) is not None) is is_there


def test_a_ticket_is_kept_for_seven_days_at_most(pki: Pki, cache: SessionCache) -> None:
    """Whatever the server says."""
    cache.store(CONTEXT, ADDRESS, session(lifetime=2**32 - 1), verdict(pki, by_pin=True), wall_time=NOW)
    assert span(cache) == (0.0, 7 * DAY)


@pytest.mark.parametrize(("lifetime", "age"), [(0, 0.0), (60, 60.0), (60, 61.0), (60, -1.0)])
def test_a_ticket_without_a_future_is_not_kept(pki: Pki, lifetime: int, age: float, cache: SessionCache) -> None:
    """A lifetime of zero means at once; a ticket from the future means that the clock was set back."""
    cache.store(CONTEXT, ADDRESS, session(lifetime=lifetime, age=age), verdict(pki), wall_time=NOW)
    assert len(cache) == 0


def test_the_lifetime_counts_from_the_tickets_own_time(pki: Pki, cache: SessionCache) -> None:
    """Under TLS 1.2 a resumed session has still its first ticket, which must not last for ever so."""
    cache.store(CONTEXT, ADDRESS, session(age=7000.0), verdict(pki), wall_time=NOW)
    assert span(cache) == (-7000.0, 200.0)


@pytest.mark.parametrize("shortest", [0, 1, 2])
def test_a_ticket_ends_with_the_first_certificate_of_the_validated_chain(
    pki: Pki, shortest: int, cache: SessionCache
) -> None:
    """FR-58: the server's own, an intermediate's, or the anchor's, whichever ends first; dates are all that count."""
    chain = tuple(
        replace(one, not_after=NOW + 5000 + (0 if at == shortest else 60)) for at, one in enumerate(facts(pki))
    )
    cache.store(CONTEXT, ADDRESS, session(), replace(verdict(pki), validated=chain), wall_time=NOW)
    assert span(cache) == (0.0, 5000.0)


@pytest.mark.parametrize("latest", [0, 1, 2])
def test_a_ticket_is_not_offered_before_its_chain_is_valid(pki: Pki, latest: int, cache: SessionCache) -> None:
    """FR-59: the clock can be set back; then a full handshake would be refused too."""
    chain = tuple(replace(one, not_before=NOW - 60 * (at != latest)) for at, one in enumerate(facts(pki)))
    made = session(age=100.0)
    cache.store(CONTEXT, ADDRESS, made, replace(verdict(pki), validated=chain), wall_time=NOW)
    assert span(cache) == (0.0, 7100.0)
    assert cache.take(CONTEXT, ADDRESS, wall_time=NOW - 1) is None


@pytest.mark.parametrize("date", ["not_before", "not_after"])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_chain_whose_end_cannot_be_read_is_not_resumed(pki: Pki, date: str, at: int, cache: SessionCache) -> None:
    """FR-58: nobody knows when it would be refused."""
    chain = list(facts(pki))
    chain[at] = replace(chain[at], **{date: None})
    cache.store(CONTEXT, ADDRESS, session(), replace(verdict(pki), validated=tuple(chain)), wall_time=NOW)
    assert len(cache) == 0


def test_a_policy_by_pins_does_not_ask_for_dates(pki: Pki, cache: SessionCache) -> None:
    """What nobody has validated has no end."""
    end = float(facts(pki)[0].not_after or 0)
    cache.store(CONTEXT, ADDRESS, session(age=NOW - end + 100.0), verdict(pki, by_pin=True), wall_time=end - 100.0)
    assert cache.take(CONTEXT, ADDRESS, wall_time=end + 100.0) is not None


def test_threads_may_share_a_cache(pki: Pki) -> None:
    """TLS-8: one thread takes the last session of a server while another stores one, or drops the oldest server."""
    cache, made, trusted = SessionCache(max_servers=1), session(), verdict(pki)
    server_of = [(f"192.0.2.{number}", 853) for number in range(3)]

    def reconnect(first: int) -> None:
        for number in range(first, first + 3000):
            cache.store(CONTEXT, server_of[number % 3], made, trusted, wall_time=NOW)
            cache.take(CONTEXT, server_of[number % 3], wall_time=NOW)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # seconds: without a lock this fails every time that it was tried
    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(reconnect, range(4)))
    finally:
        sys.setswitchinterval(interval)


def test_a_refusal_is_not_kept(pki: Pki, cache: SessionCache) -> None:
    """TLS-9."""
    cache.store(CONTEXT, ADDRESS, session(), verdict(pki, accepted=False), wall_time=NOW)
    assert len(cache) == 0


def test_the_newest_ticket_first(pki: Pki) -> None:
    """TLS-11: so many are kept of each server, and each is had once."""
    cache = SessionCache(per_server=2)
    made = [session(), session(), session()]
    for one in made:
        cache.store(CONTEXT, ADDRESS, one, verdict(pki), wall_time=NOW)
    taken = [cache.take(CONTEXT, ADDRESS, wall_time=NOW + 1) for _ in range(3)]
    assert [found and found[0] for found in taken] == [made[2], made[1], None]


def test_the_servers_not_met_for_longest_give_way(pki: Pki) -> None:
    """However many servers there are, memory has an end."""
    cache = SessionCache(max_servers=2)
    for port in (1, 2, 1, 3):
        cache.store(CONTEXT, ("192.0.2.53", port), session(), verdict(pki), wall_time=NOW)
    found = {port: cache.take(CONTEXT, ("192.0.2.53", port), wall_time=NOW + 1) is not None for port in (1, 2, 3)}
    assert found == {1: True, 2: False, 3: True}


def test_a_session_is_only_for_its_context(pki: Pki, cache: SessionCache) -> None:
    """TLS-9."""
    cache.store(CONTEXT, ADDRESS, session(), verdict(pki), wall_time=NOW)
    assert cache.take(object(), ADDRESS, wall_time=NOW + 1) is None
    assert cache.take(CONTEXT, ADDRESS, wall_time=NOW + 1) is not None


def test_the_lifetime_that_openssl_reports(pki: Pki, cache: SessionCache) -> None:
    """The cache's idea of a session is OpenSSL's: the ticket's lifetime, and the time at which it came."""
    clock = Clock()
    context = ClientContext(AuthenticationPolicy.strict(pins=[pki.leaf.pin]), sessions=cache)
    wire = Wire(
        make_client(context, clock), Peer(raw_server(pki.file(*pki.honest), TLS13), is_server=True), clock=clock
    )
    wire.flow()
    begin, end = span(cache)
    assert end - begin == 7200.0
    assert -1.0 <= begin <= time.time() - NOW


# Sessions are read seldom, since on some Pythons each reading loses memory.


@pytest.mark.parametrize(
    ("implementation", "version", "loses"),
    [
        ("cpython", (3, 11, 2), True),
        ("cpython", (3, 11, 14), True),
        ("cpython", (3, 12, 0), True),
        ("cpython", (3, 12, 7), True),
        ("cpython", (3, 12, 8), False),
        ("cpython", (3, 13, 0), True),
        ("cpython", (3, 13, 1), False),
        ("cpython", (3, 14, 0), False),
        ("pypy", (3, 11, 13), False),
    ],
)
def test_pythons_that_lose_memory(implementation: str, version: tuple[int, ...], loses: bool) -> None:
    """FR-86: python/cpython#116810, as its record and our measurements have it."""
    assert loses_sessions(implementation, version) is loses


def connected(context: ClientContext, server: ssl.SSLContext, *, data: bytes = b"") -> Wire:
    """A connection that is open, after all that the server sends by itself, and ``data``."""
    clock = Clock()
    wire = Wire(make_client(context, clock), Peer(server, is_server=True), clock=clock).flow()
    if data:
        wire.server.say(data)
        wire.flow()
    return wire


@both_versions
def test_sessions_are_kept_up_to_the_limit(
    pki: Pki, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """FR-86: one reading for each session that is kept; then full handshakes, and one line in the log."""
    reads = SessionReads(3)
    monkeypatch.setattr("dot_io.tls.cache._reads", reads)
    context = ClientContext(AuthenticationPolicy.strict(pins=[pki.leaf.pin]))
    server = raw_server(pki.file(*pki.honest), version)
    resumed = [bool(connected(context, server).client._tls.session_reused) for _ in range(8)]
    # Under TLS 1.2 a session that was resumed brings no new ticket: what is at hand is kept again, unread.
    assert resumed == ([False] + 7 * [True] if version is TLS12 else [False, True, True, True, *4 * [False]])
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == (version is TLS13)
    assert all("loses memory" in line for line in lines)


def looks_at_sessions(monkeypatch: pytest.MonkeyPatch) -> list[ssl.SSLObject]:
    """Who is asked for a session, in order."""
    asked = []

    def session_of(tls: ssl.SSLObject) -> ssl.SSLSession | None:
        asked.append(tls)
        return tls.session

    monkeypatch.setattr("dot_io.tls.client.session_of", session_of)
    return asked


FRAME = b"\0\x0c" + bytes(12)
"A whole message, which answers nothing."


@both_versions
@pytest.mark.parametrize("size", [1, 7, None])
def test_a_session_is_looked_at_once_and_kept(
    pki: Pki, version: ssl.TLSVersion, size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FR-86: however the octets are cut, and whatever comes afterwards."""
    asked = looks_at_sessions(monkeypatch)
    context = ClientContext(AuthenticationPolicy.strict(pins=[pki.leaf.pin]))
    assert context.sessions is not None
    clock = Clock()
    peer = Peer(raw_server(pki.file(*pki.honest), version), is_server=True)
    wire = Wire(make_client(context, clock), peer, size=size, clock=clock).flow()
    for _ in range(3):
        peer.say(FRAME)
        wire.flow()
    assert len(asked) == len(context.sessions) == 1


@both_versions
def test_a_server_without_tickets_is_not_looked_at(
    pki: Pki, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FR-86: a reading that brings no session to keep would be lost memory for nothing."""
    asked = looks_at_sessions(monkeypatch)
    server = raw_server(pki.file(*pki.honest), version, tickets=0)
    server.options |= ssl.OP_NO_TICKET if version is TLS12 else 0
    for _ in range(2):
        connected(ClientContext(AuthenticationPolicy.strict(pins=[pki.leaf.pin])), server, data=FRAME)
    assert asked == []


@both_versions
@pytest.mark.parametrize("why", ["refused", "sessions=False", "chain-hidden"])
def test_a_session_that_would_not_be_kept_is_not_looked_at(
    pki: Pki, version: ssl.TLSVersion, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FR-86, FR-58: nor one whose end is not known, where a Python does not show what was validated."""
    asked = looks_at_sessions(monkeypatch)
    monkeypatch.setattr("dot_io.tls.client.TLSClient._chain", lambda *_: ())
    policy = AuthenticationPolicy.strict(NAME, trust_anchors=[pki.root.der])
    if why == "refused":
        policy = AuthenticationPolicy.strict(pins=[pki.attacker.pin])
    wire = connected(
        ClientContext(policy, sessions=why != "sessions=False"), raw_server(pki.file(*pki.honest), version)
    )
    assert wire.verdict.accepted is (why != "refused")
    assert asked == []
