"""What an attacker can send, and that it earns him no octet of a query: every refusal checks that the server heard
nothing (AUT-1).  Each chain here gets past some client that is in use.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence

import pytest

from dot_io.errors import Failure, HandshakeError
from dot_io.tls import ClientContext
from dot_proto import (
    AuthenticationPolicy,
    Cause,
    ConnectionClosed,
    LocalProtocolError,
    PeerRefused,
    QueryLost,
    Reason,
    Verdict,
)
from support.messages import Clock
from support.pki import NAME, Identity, Pki
from support.pki import pki_fixture as pki_fixture
from support.wire import TLS12, Peer, Wire, accepted, both_versions, make_client, meet, raw_client, refused, the

Chain = Sequence[Identity]


def identities(pki: Pki, names: str) -> list[Identity]:
    return [getattr(pki, name) for name in names.split()]


def by_anchor(name: str, *anchors: Identity, pins: Chain = ()) -> AuthenticationPolicy:
    return AuthenticationPolicy.strict(name, trust_anchors=[one.der for one in anchors], pins=[one.pin for one in pins])


def by_pin(*pins: Identity) -> AuthenticationPolicy:
    return AuthenticationPolicy.strict(pins=[one.pin for one in pins])


def by_issuer_pin(*pins: Identity, name: str = NAME) -> AuthenticationPolicy:
    return AuthenticationPolicy.strict(name, issuer_pins=[one.pin for one in pins])


def learn(pki: Pki, policy: AuthenticationPolicy, chain: Chain, version: ssl.TLSVersion) -> Wire:
    """The two handshakes of an issuer pin; the attacker has made the first one teach something."""
    verdict = refused(meet(pki, policy, chain, version))
    assert verdict.reason is Reason.ANCHOR_LEARNT
    assert verdict.anchor is not None
    return meet(pki, policy.with_learnt_anchor(verdict.anchor), chain, version)


def teaches_nothing(wire: Wire) -> None:
    """FR-51: the pinned key is in a certificate that may not issue any, so there is no second handshake."""
    verdict = refused(wire)
    assert verdict.reason is Reason.PIN
    assert "may not issue certificates" in verdict.explanation
    assert verdict.anchor is None


def code(verdict: Verdict) -> int:
    """OpenSSL's number of a broken chain."""
    assert verdict.reason is Reason.UNTRUSTED
    return int(verdict.explanation.rpartition("code ")[2].rstrip(")"))


APPENDED = [
    "attacker leaf",
    "attacker leaf intermediate",
    "attacker leaf intermediate root",
    "attacker intermediate",
    "attacker intermediate root",
    "attacker root",
]
"The attacker's own certificate with the true ones behind it, which are public."


@both_versions
@pytest.mark.parametrize("names", APPENDED)
def test_a_pin_of_a_certificate_that_was_only_sent(pki: Pki, version: ssl.TLSVersion, names: str) -> None:
    """AUT-11, AUT-12 (RFC 7469, section 2.6): only the key that the handshake proved can match, and the mismatch
    says to whom the pin belongs.
    """
    chain = identities(pki, names)
    for number, pinned in enumerate(chain[1:], 2):
        verdict = refused(meet(pki, by_pin(pinned), chain, version))
        assert verdict.reason is Reason.PIN
        assert f"the pin belongs to certificate #{number}, which was sent but proves nothing" in verdict.explanation
        assert str(pki.attacker.pin) in verdict.explanation
        assert [one.der for one in verdict.strays] == [one.der for one in chain[1:]]


@both_versions
@pytest.mark.parametrize("names", APPENDED)
def test_appended_certificates_make_no_chain(pki: Pki, version: ssl.TLSVersion, names: str) -> None:
    """AUT-11: by name, by name and pin, and by an anchor in hand."""
    chain = identities(pki, names)
    for policy in (
        by_anchor(NAME, pki.root),
        by_anchor(NAME, pki.root, pins=chain),
        by_anchor(NAME, pki.intermediate),
        by_anchor(NAME, pki.leaf),
    ):
        assert code(refused(meet(pki, policy, chain, version))) == 18


@both_versions
@pytest.mark.parametrize("names", APPENDED)
def test_appended_certificates_teach_an_anchor_that_proves_nothing(
    pki: Pki, version: ssl.TLSVersion, names: str
) -> None:
    """AUT-12: the second handshake must validate up to the pinned certificate, and cannot."""
    chain = identities(pki, names)
    for pinned in chain[1:]:
        if pinned is pki.leaf:
            teaches_nothing(meet(pki, by_issuer_pin(pinned), chain, version))
        else:
            assert code(refused(learn(pki, by_issuer_pin(pinned), chain, version))) == 18


FORGED = "forged intermediate root"


@both_versions
def test_without_verification_a_forged_chain_passes_for_verified(pki: Pki, version: ssl.TLSVersion) -> None:
    """Why no pin may be looked for there: OpenSSL builds by names and key identifiers, signatures or not."""
    wire = meet(pki, by_pin(pki.attacker), identities(pki, FORGED), version)
    tls = wire.client._tls
    chain = tls.get_verified_chain() if hasattr(tls, "get_verified_chain") else tls._sslobj.get_verified_chain()
    assert len(chain) == 3, "the certificates of this test no longer deceive OpenSSL: it would prove nothing"


@both_versions
@pytest.mark.parametrize("pinned", ["intermediate", "root"])
def test_a_forged_issuer(pki: Pki, version: ssl.TLSVersion, pinned: str) -> None:
    """AUT-11, AUT-12: names and key identifiers of the true intermediate, signed by the attacker."""
    chain = identities(pki, FORGED)
    issuer: Identity = getattr(pki, pinned)
    assert refused(meet(pki, by_pin(issuer), chain, version)).reason is Reason.PIN
    for policy in (by_anchor(NAME, pki.root), by_anchor(NAME, pki.root, pins=[issuer]), by_anchor(NAME, issuer)):
        assert code(refused(meet(pki, policy, chain, version))) == 7
    assert code(refused(learn(pki, by_issuer_pin(issuer), chain, version))) == 7


@both_versions
def test_another_trusted_authority_with_the_pinned_leaf_appended(pki: Pki, version: ssl.TLSVersion) -> None:
    """AUT-11, AUT-13: the chain is valid for the name, but the pinned certificate is no part of it."""
    both = pki.root, pki.other_root
    chain = identities(pki, "other_leaf leaf intermediate root")
    accepted(meet(pki, by_anchor(NAME, *both), chain, version))
    for pinned in (pki.leaf, pki.intermediate, pki.root):
        verdict = refused(meet(pki, by_anchor(NAME, *both, pins=[pinned]), chain, version))
        assert verdict.reason is Reason.PIN
        assert "proves nothing" in verdict.explanation
        assert [one.der for one in verdict.validated] == [pki.other_leaf.der, pki.other_root.der]


@both_versions
def test_another_customer_of_the_same_authority(pki: Pki, version: ssl.TLSVersion) -> None:
    """AUT-28: his chain is as good as ours but for the name, so that an issuer's pin without a name is none."""
    chain = identities(pki, "customer leaf intermediate")
    for policy in (
        by_anchor(NAME, pki.root),
        by_anchor(NAME, pki.root, pins=[pki.intermediate]),
        by_anchor(NAME, pki.intermediate),
    ):
        assert refused(meet(pki, policy, chain, version)).reason is Reason.NAME
    assert refused(learn(pki, by_issuer_pin(pki.intermediate), chain, version)).reason is Reason.NAME
    assert refused(meet(pki, by_pin(pki.intermediate, pki.leaf), chain, version)).reason is Reason.PIN
    accepted(learn(pki, by_issuer_pin(pki.intermediate, name="customer.test"), chain, version))


def test_an_issuer_without_a_name_is_no_policy(pki: Pki) -> None:
    """AUT-28: refused before there is a connection."""
    for issuer in ({"trust_anchors": [pki.root.der]}, {"issuer_pins": [pki.root.pin]}):
        with pytest.raises(LocalProtocolError, match="every customer"):
            AuthenticationPolicy.strict(**issuer)


@both_versions
def test_a_leaf_as_issuer(pki: Pki, version: ssl.TLSVersion) -> None:
    """AUT-12: who has a certificate is no authority yet, whether he signed himself or was made to seem so."""
    for names in ("under_leaf leaf intermediate root", "under_leaf leaf"):
        chain = identities(pki, names)
        assert refused(meet(pki, by_pin(pki.leaf), chain, version)).reason is Reason.PIN
        anchored = by_anchor(NAME, pki.root), by_anchor(NAME, pki.leaf)
        for policy in (*anchored, by_anchor(NAME, pki.root, pins=[pki.leaf])):
            assert code(refused(meet(pki, policy, chain, version))) in (7, 20, 24, 32, 79)
        teaches_nothing(meet(pki, by_issuer_pin(pki.leaf), chain, version))


@both_versions
def test_a_customer_who_signs(pki: Pki, version: ssl.TLSVersion) -> None:
    """AUT-12: every signature holds here; the issuer is no authority (RFC 5280, section 4.2.1.9)."""
    chain = identities(pki, "under_customer customer intermediate")
    anchored = by_anchor(NAME, pki.root), by_anchor(NAME, pki.customer)
    for policy in (*anchored, by_anchor(NAME, pki.root, pins=[pki.customer])):
        assert code(refused(meet(pki, policy, chain, version))) == 79
    teaches_nothing(meet(pki, by_issuer_pin(pki.customer), chain, version))


@both_versions
def test_an_authority_of_the_same_name(pki: Pki, version: ssl.TLSVersion) -> None:
    """AUT-12: every name is right and every signature holds, under a root that nobody trusts."""
    for names in ("under_rogue rogue_intermediate intermediate root", "under_rogue intermediate root"):
        chain = identities(pki, names)
        assert refused(meet(pki, by_pin(pki.intermediate, pki.root), chain, version)).reason is Reason.PIN
        for policy in (by_anchor(NAME, pki.root, pins=[pki.root]), by_anchor(NAME, pki.intermediate)):
            assert code(refused(meet(pki, policy, chain, version))) in (7, 20, 30)
        for pinned in (pki.intermediate, pki.root):
            assert code(refused(learn(pki, by_issuer_pin(pinned), chain, version))) in (7, 20, 30)


@both_versions
@pytest.mark.parametrize(
    ("pinned", "names"),
    [
        ("intermediate", "under_respun respun_intermediate"),
        ("leaf", "under_respun_leaf respun_leaf"),
        ("intermediate", "under_respun respun_intermediate intermediate root"),
    ],
)
def test_a_pinned_key_in_a_certificate_of_the_attackers(
    pki: Pki, version: ssl.TLSVersion, pinned: str, names: str
) -> None:
    """AUT-12: the pin names the key, so that this certificate is learnt; the key itself he still does not have."""
    chain = identities(pki, names)
    owner: Identity = getattr(pki, pinned)
    assert chain[1].pin == owner.pin
    assert code(refused(learn(pki, by_issuer_pin(owner), chain, version))) == 7
    assert refused(meet(pki, by_pin(owner), chain, version)).reason is Reason.PIN
    assert refused(meet(pki, by_anchor(NAME, pki.root, pins=[owner]), chain, version)).reason is Reason.UNTRUSTED


@both_versions
def test_the_alert_of_a_refused_chain_leaves(pki: Pki, version: ssl.TLSVersion) -> None:
    """TLS-14 (RFC 8446, section 6.2): the server is told why, also when no more will be sent."""
    wire = meet(pki, by_anchor(NAME, pki.root), [pki.attacker], version)
    refused(wire)
    assert wire.server.error is not None
    assert wire.server.error.reason == "TLSV1_ALERT_UNKNOWN_CA"


ANONYMOUS = "aNULL:!ADH:@SECLEVEL=0"
"ECDH without any certificate; no security level but 0 allows it."


def anonymous_server() -> Peer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = TLS12
    context.set_ciphers(ANONYMOUS)
    return Peer(context, is_server=True)


POLICIES = {
    "name": lambda pki: by_anchor(NAME, pki.root),
    "name-and-pin": lambda pki: by_anchor(NAME, pki.root, pins=[pki.leaf]),
    "pin": lambda pki: by_pin(pki.leaf),
    "issuer-pin": lambda pki: by_issuer_pin(pki.root),
}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_server_without_a_certificate(pki: Pki, policy: str) -> None:
    """AUT-21, TLS-19: no suite without a certificate is ever offered."""
    clock = Clock()
    wire = Wire(make_client(ClientContext(POLICIES[policy](pki)), clock), anonymous_server(), clock=clock)
    wire.ask("secret.example")
    wire.flow()
    closed = the(ConnectionClosed, wire.client_events)
    assert isinstance(closed.error, HandshakeError)
    assert (closed.error.failure, closed.error.alert) == (Failure.ALERT, "handshake_failure")
    assert closed.cause is Cause.TRANSPORT_FAILED
    assert the(QueryLost, wire.client_events).safe_to_resend
    assert wire.heard == b""


@pytest.mark.parametrize("policy", POLICIES)
def test_no_certificate_matches_no_policy(pki: Pki, policy: str) -> None:
    """AUT-21: the second line of defence, after somebody has tampered with the first."""
    context = ClientContext(POLICIES[policy](pki))
    context._context.set_ciphers(ANONYMOUS)
    clock = Clock()
    wire = Wire(make_client(context, clock), anonymous_server(), clock=clock)
    wire.ask("secret.example")
    assert refused(wire.flow()).reason is Reason.NO_CERTIFICATE


def test_the_anonymous_server_is_one(pki: Pki) -> None:
    """It does serve whoever asks for it, so that the tests above can fail."""
    context = raw_client(TLS12)
    context.set_ciphers(ANONYMOUS)
    wire = Wire(Peer(context), anonymous_server())
    wire.flow()
    wire.client.say(b"in the clear to anybody")
    wire.flow()
    assert wire.heard == b"in the clear to anybody"


@both_versions
def test_no_order_of_calls_sends_a_query_early(pki: Pki, version: ssl.TLSVersion) -> None:
    """AUT-1: asking, draining and waiting between any two flights of the handshake leaves the queries held."""
    wire = meet(pki, by_anchor(NAME, pki.root), [pki.leaf, pki.intermediate], version)
    accepted(wire)
    clock = Clock()
    server = Peer(wire.server.tls.context, is_server=True)
    wire = Wire(make_client(ClientContext(by_anchor("wrong.test", pki.root)), clock), server, size=1, clock=clock)
    while not any(isinstance(event, PeerRefused) for event in wire.client_events):
        wire.ask("secret.example")
        clock.advance(0.001)
        wire.tick()
        assert wire.flow_to_server() | wire.flow_to_client()
        assert wire.heard == b""
    wire.flow()
    assert wire.heard == b""
