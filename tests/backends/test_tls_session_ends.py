"""A resumed session gives no more than a full handshake would: it ends with the chain that it rests on."""

from __future__ import annotations

import itertools
import ssl
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from dot_io.errors import HandshakeError
from dot_io.tls import ClientContext, HandshakeCompleted, ServerContext, TLSServer
from dot_io.tls.cache import ClientChains
from dot_proto import AuthenticationPolicy, CertificateFacts, ConnectionClosed, Pin, QueryReceived, Reason
from support.messages import Clock
from support.pki import CLIENT, NAME, Identity, Pki, issue
from support.pki import pki_fixture as pki_fixture
from support.wire import Peer, Wire, accepted, both_versions, make_client, raw_client, raw_server, refused, the

HOUR = timedelta(hours=1)
LATER = 2 * 3600.0 + 30.0
"Seconds from now at which what ends after an hour has ended."


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the calendar that our own code sees, by so many seconds; OpenSSL's and the monotonic clock stand still."""

    def move(seconds: float) -> None:
        now = time.time() + seconds
        monkeypatch.setattr("time.time", lambda: now)

    return move


def chain_that_ends(which: str, usage: object = None) -> tuple[Identity, Identity, Identity]:
    """Leaf, intermediate, root, one of which ends in an hour."""

    def ends(who: str) -> timedelta:
        return HOUR if who == which else 30 * 24 * HOUR

    root = issue("root.test", is_ca=True, ends=ends("anchor"))
    intermediate = issue("intermediate.test", root, is_ca=True, ends=ends("intermediate"))
    leaf = issue(NAME, intermediate, ends=ends("leaf"), **({} if usage is None else {"usage": usage}))
    return leaf, intermediate, root


each_certificate = pytest.mark.parametrize("which", ["leaf", "intermediate", "anchor"])


def connect(context: ClientContext, server: ssl.SSLContext) -> Wire:
    clock = Clock()
    wire = Wire(make_client(context, clock), Peer(server, is_server=True), clock=clock)
    wire.ask("secret.example")
    return wire.flow()


def is_resumed(wire: Wire) -> bool:
    return the(HandshakeCompleted, wire.client_events).is_resumed


# Clients.


@both_versions
@pytest.mark.parametrize(
    ("by", "which"),
    [
        *itertools.product(["root", "pins"], ["leaf", "intermediate", "anchor"]),
        *itertools.product(["intermediate"], ["leaf", "intermediate"]),
    ],
)
def test_no_ticket_is_offered_past_the_end_of_the_validated_chain(
    pki: Pki, version: ssl.TLSVersion, which: str, by: str, at: Callable[[float], None]
) -> None:
    """FR-58, FR-59: once leaf, intermediate or anchor has expired, whatever the monotonic clock says."""
    leaf, intermediate, root = chain_that_ends(which)
    anchor = intermediate if by == "intermediate" else root
    pins = [Pin.of_certificate(intermediate.der)] if by == "pins" else []
    context = ClientContext(AuthenticationPolicy.strict(NAME, trust_anchors=[anchor.der], pins=pins))
    server = raw_server(pki.file(leaf, intermediate), version)
    assert not is_resumed(connect(context, server))
    at(0.0)
    assert is_resumed(connect(context, server))
    at(LATER)
    wire = connect(context, server)
    assert not is_resumed(wire)
    accepted(wire)  # OpenSSL's calendar has not moved: a full handshake was made, and decides


@both_versions
@each_certificate
def test_no_ticket_is_offered_before_the_chain_is_valid(
    pki: Pki, version: ssl.TLSVersion, which: str, at: Callable[[float], None]
) -> None:
    """FR-59: the calendar was set back by a year."""
    leaf, intermediate, root = chain_that_ends(which)
    context = ClientContext(AuthenticationPolicy.strict(NAME, trust_anchors=[root.der]))
    server = raw_server(pki.file(leaf, intermediate), version)
    connect(context, server)
    at(-365 * 86_400.0)
    assert not is_resumed(connect(context, server))


@both_versions
@each_certificate
def test_the_second_lock(pki: Pki, version: ssl.TLSVersion, which: str, at: Callable[[float], None]) -> None:
    """FR-58: where a ticket was offered in time, and the chain ends before the verdict, the verdict refuses."""
    leaf, intermediate, root = chain_that_ends(which)
    context = ClientContext(AuthenticationPolicy.strict(NAME, trust_anchors=[root.der]))
    server = raw_server(pki.file(leaf, intermediate), version)
    connect(context, server)
    clock = Clock()
    wire = Wire(make_client(context, clock), Peer(server, is_server=True), clock=clock)
    wire.ask("secret.example")
    at(LATER)
    verdict = refused(wire.flow())
    assert is_resumed(wire)
    assert verdict.reason is Reason.EXPIRED
    number = ["leaf", "intermediate", "anchor"].index(which) + 1
    assert f"certificate #{number} of the chain" in verdict.explanation
    assert "expired 1 hour ago" in verdict.explanation


@both_versions
def test_dates_are_told_anew(pki: Pki, version: ssl.TLSVersion, at: Callable[[float], None]) -> None:
    """FR-58: under pins an expired certificate is a warning, in a resumed session too, as of its own verdict."""
    leaf = chain_that_ends("leaf")[0]
    context = ClientContext(AuthenticationPolicy.strict(pins=[leaf.pin, pki.leaf.pin]))
    server = raw_server(pki.file(leaf), version)
    assert accepted(connect(context, server)).warnings == ()
    at(3600.0 - 10.0)
    for expected in ((), ("the server's certificate is expired 30 minutes ago",)):
        wire = connect(context, server)
        assert is_resumed(wire)
        assert accepted(wire).warnings == expected
        at(3600.0 + 1810.0 - 3590.0)


# Servers that ask for certificates.


class Meeting:
    """A client with a certificate, OpenSSL by itself, which comes twice to one server and resumes if it can."""

    def __init__(self, pki: Pki, version: ssl.TLSVersion, chain: tuple[Identity, ...], context: ServerContext) -> None:
        self._context = context
        self._client = raw_client(version)
        self._client.load_cert_chain(pki.file(*chain[:2]))
        self._session: ssl.SSLSession | None = None

    def come(self) -> Wire:
        clock = Clock()
        client = Peer(self._client, session=self._session)
        wire = Wire(client, TLSServer(self._context, now=clock.now), clock=clock)
        wire.flow()
        if client.error is None and not client.has_close_notify:
            client.say(b"\0\x0c" + bytes(12))
            wire.flow()
        self._session = client.tls.session or self._session
        return wire


def asked(wire: Wire) -> bool:
    """Whether the server was asked anything."""
    return any(isinstance(event, QueryReceived) or wire.heard for event in wire.server_events)


def server_for(pki: Pki, root: Identity, kind: str) -> ServerContext:
    if kind == "ours":
        return ServerContext(pki.file(*pki.honest), client_trust_anchors=[root.der])
    given = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    given.minimum_version = ssl.TLSVersion.TLSv1_2
    given.options |= ssl.OP_NO_RENEGOTIATION
    given.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    given.set_ciphers("ECDHE+AESGCM")
    given.load_cert_chain(pki.file(*pki.honest))
    given.verify_mode = ssl.CERT_OPTIONAL
    given.load_verify_locations(cadata=root.der)
    return ServerContext(ssl_context=given)


@both_versions
@each_certificate
@pytest.mark.parametrize("kind", ["ours", "given"])
def test_a_client_does_not_resume_past_the_end_of_its_chain(
    pki: Pki, version: ssl.TLSVersion, which: str, kind: str, at: Callable[[float], None]
) -> None:
    """FR-25: its own certificate, an intermediate's or the anchor's; it is not asked, and a full handshake is due."""
    chain = chain_that_ends(which, CLIENT)
    meeting = Meeting(pki, version, chain, server_for(pki, chain[2], kind))
    assert asked(meeting.come())
    at(0.0)
    wire = meeting.come()
    assert asked(wire)
    may_resume = kind == "given" or version is ssl.TLSVersion.TLSv1_2
    assert bool(wire.server._tls.session_reused) is may_resume
    at(LATER)
    wire = meeting.come()
    if may_resume:
        assert wire.server._tls.session_reused
        assert not asked(wire)
        error = the(ConnectionClosed, wire.server_events).error
        assert isinstance(error, HandshakeError)
        assert "had expired" in str(error)
    else:
        assert not wire.server._tls.session_reused  # OpenSSL looks at the chain, and its calendar has not moved
    at(-LATER)
    wire = meeting.come()
    assert asked(wire)


def test_chains_of_clients_are_bounded(pki: Pki) -> None:
    """FR-25: the one that was met longest ago is forgotten, and taken for one that has ended."""
    chains = ClientChains(maximum=2)
    first, second, third = (CertificateFacts.of(one.der) for one in (pki.leaf, pki.intermediate, pki.root))
    now = time.time()
    for one in (first, second, first, third):
        chains.remember([one])
    assert [chains.is_valid(one.der, wall_time=now) for one in (first, second, third)] == [True, False, True]
    chains.remember([])
    assert not chains.is_valid(pki.customer.der, wall_time=now)


@pytest.mark.parametrize("shown", ["hidden", "unreadable"])
def test_a_chain_that_is_not_known_is_not_resumed(pki: Pki, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """FR-25: on a Python that does not show it, or where we cannot read it, each connection is a full handshake."""
    chain = chain_that_ends("none", CLIENT)
    monkeypatch.setattr(TLSServer, "_chain", lambda *_: () if shown == "hidden" else (b"0",))
    meeting = Meeting(pki, ssl.TLSVersion.TLSv1_2, chain, server_for(pki, chain[2], "ours"))
    assert asked(meeting.come())
    assert not asked(meeting.come())
