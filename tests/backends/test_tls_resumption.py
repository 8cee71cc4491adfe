"""Sessions that are resumed: OpenSSL checks nothing again, so that we must (TLS-8, TLS-9, TLS-11, TLS-21, TLS-22)."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from dot_io.tls import ClientContext, HandshakeCompleted, SessionCache
from dot_proto import AuthenticationPolicy, PeerAuthenticated, Pin, Reason
from support.messages import Clock
from support.pki import NAME, Pki
from support.pki import pki_fixture as pki_fixture
from support.wire import (
    ADDRESS,
    TLS12,
    Peer,
    Wire,
    accepted,
    both_versions,
    make_client,
    raw_server,
    refused,
    the,
)


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
    cache.store(context, ADDRESS, session, earlier, wall_time=session.time)
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
