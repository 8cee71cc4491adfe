"""Sessions that are resumed: OpenSSL checks nothing again, so that we must (TLS-8, TLS-9, TLS-11, TLS-21, TLS-22)."""

from __future__ import annotations

import ssl
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from dot_io.tls import ClientContext, HandshakeCompleted, SessionCache
from dot_proto import AuthenticationPolicy, CertificateFacts, PeerAuthenticated, Pin, Reason, Verdict
from support.messages import Clock
from support.pki import NAME, Identity, Pki
from support.pki import pki_fixture as pki_fixture
from support.wire import (
    ADDRESS,
    TLS12,
    TLS13,
    Peer,
    Wire,
    accepted,
    both_versions,
    make_client,
    raw_server,
    refused,
    the,
)

DAY = 86_400.0


def strict(pki: Pki, *pins: Pin) -> AuthenticationPolicy:
    return AuthenticationPolicy.strict(NAME, trust_anchors=[pki.root.der], pins=pins)


def started(context: ClientContext, server: ssl.SSLContext, address: tuple[str, int] = ADDRESS) -> Wire:
    """A connection on which nothing has travelled yet."""
    clock = Clock()
    wire = Wire(make_client(context, clock, server=address), Peer(server, is_server=True), clock=clock)
    wire.ask("secret.example")
    return wire


def connect(context: ClientContext, server: ssl.SSLContext, address: tuple[str, int] = ADDRESS) -> Wire:
    """One connection, with a query; the same ``server`` knows its own tickets again."""
    return started(context, server, address).flow()


def is_resumed(wire: Wire) -> bool:
    """Whether OpenSSL has resumed a session, whatever we make of it; both say the same, where there is a verdict."""
    resumed = the(HandshakeCompleted, wire.client_events).is_resumed
    assert resumed == wire.server.tls.session_reused
    return resumed


@pytest.fixture
def cache() -> SessionCache:
    return SessionCache()


def policies(pki: Pki) -> dict[str, AuthenticationPolicy]:
    return {
        "name": strict(pki),
        "both": strict(pki, pki.intermediate.pin),
        "pin": AuthenticationPolicy.strict(pins=[pki.leaf.pin]),
        "opportunistic": AuthenticationPolicy.opportunistic(NAME),
    }


@both_versions
@pytest.mark.parametrize("policy", ["name", "both", "pin", "opportunistic"])
def test_a_resumed_session_inherits_its_verdict(
    pki: Pki, version: ssl.TLSVersion, policy: str, cache: SessionCache
) -> None:
    """TLS-8, TLS-9, AUT-21: no chain is shown again, and the verdict is the one of the session's first handshake."""
    context = ClientContext(policies(pki)[policy], sessions=cache)
    server = raw_server(pki.file(*pki.honest), version)
    first = connect(context, server)
    assert not is_resumed(first)
    assert not accepted(first).is_resumed
    for _ in range(3):
        wire = connect(context, server)
        assert is_resumed(wire)
        verdict = accepted(wire)
        assert verdict.is_resumed
        for name in ("authenticated", "validated", "presented", "matched_pin", "matched_depth", "leaf", "warnings"):
            assert getattr(verdict, name) == getattr(first.verdict, name)


@both_versions
def test_a_ticket_is_taken_when_it_comes_and_used_once(pki: Pki, version: ssl.TLSVersion, cache: SessionCache) -> None:
    """TLS-11 (RFC 8446, C.4): under TLS 1.3 it comes behind the handshake."""
    context = ClientContext(strict(pki), sessions=cache)
    server = raw_server(pki.file(*pki.honest), version)
    wire = started(context, server)
    while not any(isinstance(event, PeerAuthenticated) for event in wire.client_events):
        assert len(cache) == 0
        wire.flow_to_server()
        wire.flow_to_client()
    assert len(cache) == (version is TLS12)
    wire.flow()
    assert len(cache) == 1
    second = started(context, server)
    assert len(cache) == 0
    third = started(context, server)
    assert is_resumed(second.flow())
    assert not is_resumed(third.flow())


@both_versions
def test_a_server_without_tickets(pki: Pki, version: ssl.TLSVersion, cache: SessionCache) -> None:
    """Then every handshake is a whole one."""
    context = ClientContext(strict(pki), sessions=cache)
    server = raw_server(pki.file(*pki.honest), version, tickets=0)
    if version is TLS12:
        server.options |= ssl.OP_NO_TICKET
    for _ in range(2):
        wire = connect(context, server)
        accepted(wire)
        assert not is_resumed(wire)
        assert len(cache) == 0


@both_versions
def test_resumption_can_be_switched_off(pki: Pki, version: ssl.TLSVersion) -> None:
    """TLS-22: each resumption tells the server that it has seen this client before."""
    context = ClientContext(strict(pki), sessions=False)
    assert context.sessions is None
    server = raw_server(pki.file(*pki.honest), version)
    for _ in range(2):
        wire = connect(context, server)
        accepted(wire)
        assert not is_resumed(wire)


@pytest.mark.parametrize("sessions", [None, True])
def test_a_context_has_a_cache_of_its_own(pki: Pki, sessions: bool | None) -> None:
    one, other = (ClientContext(strict(pki), sessions=sessions) for _ in range(2))
    assert isinstance(one.sessions, SessionCache)
    assert one.sessions is not other.sessions


@both_versions
def test_a_ticket_is_for_one_address(pki: Pki, version: ssl.TLSVersion, cache: SessionCache) -> None:
    """TLS-9: address and port."""
    context = ClientContext(strict(pki), sessions=cache)
    server = raw_server(pki.file(*pki.honest), version)
    connect(context, server)
    for elsewhere in (("192.0.2.54", 853), ("192.0.2.53", 8853)):
        assert not is_resumed(connect(context, server, elsewhere))
    assert len(cache) == 3
    assert is_resumed(connect(context, server))


@both_versions
def test_a_change_of_network(pki: Pki, version: ssl.TLSVersion, cache: SessionCache) -> None:
    """TLS-22: what would link the two is forgotten."""
    context = ClientContext(strict(pki), sessions=cache)
    server = raw_server(pki.file(*pki.honest), version)
    connect(context, server)
    cache.forget()
    assert len(cache) == 0
    assert not is_resumed(connect(context, server))


@both_versions
def test_a_refused_server_leaves_no_session(pki: Pki, version: ssl.TLSVersion, cache: SessionCache) -> None:
    """TLS-9."""
    context = ClientContext(AuthenticationPolicy.strict(pins=[pki.leaf.pin]), sessions=cache)
    server = raw_server(pki.file(pki.attacker), version)
    for _ in range(2):
        refused(connect(context, server))
        assert len(cache) == 0


@both_versions
@pytest.mark.parametrize("first", ["name", "pin", "both", "opportunistic"])
@pytest.mark.parametrize("second", ["name", "pin", "both", "opportunistic"])
def test_contexts_that_share_a_cache_share_no_session(
    pki: Pki, version: ssl.TLSVersion, first: str, second: str, cache: SessionCache
) -> None:
    """TLS-9: not even under equal policies, since OpenSSL resumes under the context of the session alone."""
    one, other = (ClientContext(policies(pki)[name], sessions=cache) for name in (first, second))
    server = raw_server(pki.file(*pki.honest), version)
    connect(one, server)
    wire = connect(other, server)
    accepted(wire)
    assert not is_resumed(wire)
    assert is_resumed(connect(one, server))
    assert is_resumed(connect(other, server))


@both_versions
def test_an_impostor_met_without_verification(pki: Pki, version: ssl.TLSVersion, cache: SessionCache) -> None:
    """TLS-9: his session, welcome under the opportunistic profile, opens no door of the strict one's."""
    server = raw_server(pki.file(pki.attacker, pki.leaf, pki.intermediate), version)
    accepted(connect(ClientContext(AuthenticationPolicy.opportunistic(NAME), sessions=cache), server))
    for policy in (strict(pki), AuthenticationPolicy.strict(pins=[pki.leaf.pin]), strict(pki, pki.leaf.pin)):
        wire = connect(ClientContext(policy, sessions=cache), server)
        assert not wire.server.tls.session_reused
        assert refused(wire).reason in (Reason.UNTRUSTED, Reason.PIN)


def impostors_session(context: ClientContext, server: ssl.SSLContext) -> Any:
    """A session with the impostor, made under the very ``ssl.SSLContext`` of a strict policy, by tampering with it."""
    inside = context._context
    inside.check_hostname, inside.verify_mode = False, ssl.CERT_NONE
    wire = Wire(Peer(inside, name=NAME), Peer(server, is_server=True)).flow()
    inside.verify_mode, inside.check_hostname = ssl.CERT_REQUIRED, True
    return wire.client.tls.session


@both_versions
@pytest.mark.parametrize("verdict_of", ["opportunistic", "honest-server"])
def test_a_session_under_another_verdict(
    pki: Pki, version: ssl.TLSVersion, verdict_of: str, cache: SessionCache
) -> None:
    """TLS-9: where all else has failed OpenSSL does resume, and the engine refuses: the verdict is not of this
    policy, or not of this certificate.
    """
    context = ClientContext(strict(pki), sessions=cache)
    server = raw_server(pki.file(pki.attacker), version)
    if verdict_of == "opportunistic":
        earlier = accepted(connect(ClientContext(AuthenticationPolicy.opportunistic()), server))
    else:
        earlier = accepted(connect(context, raw_server(pki.file(*pki.honest), version)))
        cache.forget()
    session = impostors_session(context, server)
    cache.store(context, ADDRESS, session, earlier, now=1000.0, wall_time=session.time)
    wire = connect(context, server)
    assert is_resumed(wire), "OpenSSL has refused by itself: this test proves nothing any more"
    verdict = refused(wire)
    assert verdict.reason is Reason.OTHER_POLICY
    assert len(cache) == 0
    assert refused(connect(context, server)).reason is Reason.UNTRUSTED


@both_versions
def test_pins_that_have_changed(pki: Pki, version: ssl.TLSVersion, cache: SessionCache) -> None:
    """TLS-9: a pin that was taken out counts no more, tickets or not."""
    server = raw_server(pki.file(*pki.honest), version)
    accepted(connect(ClientContext(strict(pki, pki.leaf.pin), sessions=cache), server))
    wire = connect(ClientContext(strict(pki, pki.customer.pin), sessions=cache), server)
    assert refused(wire).reason is Reason.PIN
    assert not is_resumed(wire)


# The cache by itself.

CONTEXT = object()


def session(*, lifetime: int = 7200, made_at: float = 0.0) -> Any:
    """As much of a session as the cache looks at."""
    return SimpleNamespace(ticket_lifetime_hint=lifetime, time=made_at)


def verdict(pki: Pki, *, accepted: bool = True, leaf: Identity | None = None, by_pin: bool = False) -> Verdict:
    policy = AuthenticationPolicy.strict(pins=[pki.leaf.pin]) if by_pin else strict(pki)
    chain = (CertificateFacts.of((leaf or pki.leaf).der),)
    return Verdict(policy, accepted, accepted, None, "", presented=chain, validated=() if by_pin else chain)


def lasts(cache: SessionCache, seconds: float) -> bool:
    """Whether what was stored at 1000 can be had until just before so many seconds later, and no longer."""
    entries = [entry for entries in cache._entries.values() for entry in entries]
    assert [entry.expires_at for entry in entries] == [1000.0 + seconds]
    return cache.take(CONTEXT, ADDRESS, now=1000.0 + seconds) is None


def test_a_ticket_is_kept_for_its_lifetime(pki: Pki, cache: SessionCache) -> None:
    """TLS-21 (RFC 8446, section 4.6.1)."""
    cache.store(CONTEXT, ADDRESS, session(), verdict(pki), now=1000.0, wall_time=0.0)
    assert lasts(cache, 7200.0)


def test_a_ticket_is_kept_for_seven_days_at_most(pki: Pki, cache: SessionCache) -> None:
    """TLS-21: whatever the server says."""
    cache.store(CONTEXT, ADDRESS, session(lifetime=2**32 - 1), verdict(pki, by_pin=True), now=1000.0, wall_time=0.0)
    assert lasts(cache, 7 * DAY)


@pytest.mark.parametrize(("lifetime", "made_at"), [(0, 0.0), (60, -60.0), (60, -61.0)])
def test_a_ticket_without_a_future_is_not_kept(pki: Pki, lifetime: int, made_at: float, cache: SessionCache) -> None:
    """TLS-21: a lifetime of zero means at once."""
    fresh = session(lifetime=lifetime, made_at=made_at)
    cache.store(CONTEXT, ADDRESS, fresh, verdict(pki), now=1000.0, wall_time=0.0)
    assert len(cache) == 0


def test_the_lifetime_counts_from_the_tickets_own_time(pki: Pki, cache: SessionCache) -> None:
    """TLS-21: under TLS 1.2 a resumed session has still its first ticket, which must not last for ever so."""
    cache.store(CONTEXT, ADDRESS, session(made_at=-7000.0), verdict(pki), now=1000.0, wall_time=0.0)
    assert lasts(cache, 200.0)


def test_a_ticket_does_not_outlive_the_certificate(pki: Pki, cache: SessionCache) -> None:
    """TLS-21 (RFC 8446, section 4.6.1): of which a policy by pins does not ask."""
    end = verdict(pki).validated[0].not_after
    assert end is not None
    made = session(lifetime=7200, made_at=end - 100.0)
    cache.store(CONTEXT, ADDRESS, made, verdict(pki), now=1000.0, wall_time=end - 100.0)
    assert lasts(cache, 100.0)
    cache.store(CONTEXT, ADDRESS, made, verdict(pki, by_pin=True), now=1000.0, wall_time=end - 100.0)
    assert lasts(cache, 7200.0)


def test_threads_may_share_a_cache(pki: Pki) -> None:
    """TLS-8: one thread takes the last session of a server while another stores one, or drops the oldest server."""
    cache, made, trusted = SessionCache(max_servers=1), session(), verdict(pki)
    server_of = [(f"192.0.2.{number}", 853) for number in range(3)]

    def reconnect(first: int) -> None:
        for number in range(first, first + 3000):
            cache.store(CONTEXT, server_of[number % 3], made, trusted, now=0.0, wall_time=0.0)
            cache.take(CONTEXT, server_of[number % 3], now=0.0)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # seconds: without a lock this fails every time that it was tried
    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(reconnect, range(4)))
    finally:
        sys.setswitchinterval(interval)


def test_a_refusal_is_not_kept(pki: Pki, cache: SessionCache) -> None:
    """TLS-9."""
    cache.store(CONTEXT, ADDRESS, session(), verdict(pki, accepted=False), now=1000.0, wall_time=0.0)
    assert len(cache) == 0


def test_the_newest_ticket_first(pki: Pki) -> None:
    """TLS-11: so many are kept of each server, and each is had once."""
    cache = SessionCache(per_server=2)
    made = [session(), session(), session()]
    for one in made:
        cache.store(CONTEXT, ADDRESS, one, verdict(pki), now=1000.0, wall_time=0.0)
    taken = [cache.take(CONTEXT, ADDRESS, now=1000.0) for _ in range(3)]
    assert [found and found[0] for found in taken] == [made[2], made[1], None]


def test_the_servers_not_met_for_longest_give_way(pki: Pki) -> None:
    """However many servers there are, memory has an end."""
    cache = SessionCache(max_servers=2)
    for port in (1, 2, 1, 3):
        cache.store(CONTEXT, ("192.0.2.53", port), session(), verdict(pki), now=1000.0, wall_time=0.0)
    found = {port: cache.take(CONTEXT, ("192.0.2.53", port), now=1000.0) is not None for port in (1, 2, 3)}
    assert found == {1: True, 2: False, 3: True}


def test_a_session_is_only_for_its_context(pki: Pki, cache: SessionCache) -> None:
    """TLS-9."""
    cache.store(CONTEXT, ADDRESS, session(), verdict(pki), now=1000.0, wall_time=0.0)
    assert cache.take(object(), ADDRESS, now=1000.0) is None
    assert cache.take(CONTEXT, ADDRESS, now=1000.0) is not None


def test_the_lifetime_that_openssl_reports(pki: Pki, cache: SessionCache) -> None:
    """TLS-21: the cache's idea of a session is OpenSSL's: the ticket's lifetime, and the time at which it came."""
    context = ClientContext(strict(pki), sessions=cache)
    connect(context, raw_server(pki.file(*pki.honest), TLS13))
    [[entry]] = cache._entries.values()
    assert entry.session.ticket_lifetime_hint == 7200
    assert 0.0 <= 1000.0 + 7200.0 - entry.expires_at < 60.0
