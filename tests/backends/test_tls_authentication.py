"""Who is accepted under which policy, and why an honest mistake is refused (RFC 8310, sections 5 to 8)."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from dot_io.errors import TLSLibraryError
from dot_io.tls import ClientContext
from dot_proto import AuthenticationPolicy, CertificateFacts, Pin, Reason
from support.pki import NAME, Identity, Pki, issue
from support.pki import pki_fixture as pki_fixture
from support.wire import Wire, accepted, both_versions, meet, refused

DAY = timedelta(days=1)

BACKUP = Pin(bytes(32))


def by_name(pki: Pki, name: str = NAME, **more: object) -> AuthenticationPolicy:
    return AuthenticationPolicy.strict(name, trust_anchors=[pki.root.der], **more)


def learn(pki: Pki, policy: AuthenticationPolicy, chain: tuple[Identity, ...], version: ssl.TLSVersion) -> Wire:
    """The two handshakes of an issuer pin whose certificate is not at hand; the first teaches the anchor."""
    first = meet(pki, policy, chain, version)
    verdict = refused(first)
    assert verdict.reason is Reason.ANCHOR_LEARNT
    assert verdict.anchor is not None
    return meet(pki, policy.with_learnt_anchor(verdict.anchor), chain, version)


@both_versions
def test_a_chain_that_is_valid_for_the_name(pki: Pki, version: ssl.TLSVersion) -> None:
    """AUT-13, AUT-20: the whole path counts, leaf first; what was sent is told apart from it."""
    verdict = accepted(meet(pki, by_name(pki), pki.honest, version))
    assert verdict.authenticated
    assert [one.der for one in verdict.validated] == [pki.leaf.der, pki.intermediate.der, pki.root.der]
    assert [one.der for one in verdict.presented] == [pki.leaf.der, pki.intermediate.der]
    assert verdict.leaf == pki.leaf.der


@both_versions
@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
@pytest.mark.parametrize("pinned", [False, True], ids=["name", "pin"])
def test_any_kind_of_key(pki: Pki, version: ssl.TLSVersion, kind: str, pinned: bool) -> None:
    """AUT-6."""
    leaf: Identity = getattr(pki, kind)
    policy = AuthenticationPolicy.strict(pins=[leaf.pin]) if pinned else by_name(pki)
    accepted(meet(pki, policy, (leaf, pki.intermediate), version))


@both_versions
def test_the_systems_trust_store(pki: Pki, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    """AUT-13: without trust_anchors a chain ends there, and nowhere else."""
    policy = AuthenticationPolicy.strict(NAME)
    monkeypatch.setenv("SSL_CERT_FILE", str(pki.file(pki.root)))
    monkeypatch.setenv("SSL_CERT_DIR", "/nonexistent")
    accepted(meet(pki, policy, pki.honest, version))
    monkeypatch.setenv("SSL_CERT_FILE", str(pki.file(pki.other_root)))
    assert refused(meet(pki, policy, pki.honest, version)).reason is Reason.UNTRUSTED


@pytest.mark.parametrize("named", ["", "nothing.pem", "."])
def test_a_trust_store_that_is_not_there(named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """FR-85: OpenSSL says nothing where SSL_CERT_FILE names no file; who brings anchors or pins needs none."""
    file = str(tmp_path / named) if named else ""
    monkeypatch.setenv("SSL_CERT_FILE", file)
    with pytest.raises(TLSLibraryError, match=re.escape(f"SSL_CERT_FILE={file} names no file")):
        ClientContext(AuthenticationPolicy.strict(NAME))
    ClientContext(AuthenticationPolicy.opportunistic())
    ClientContext(AuthenticationPolicy.strict(pins=[Pin(bytes(32))]))


@both_versions
@pytest.mark.parametrize("name", ["127.0.0.1", "::1", "[::1]", "DOT.Test."])
@pytest.mark.parametrize("pinned", [False, True], ids=["anchors", "pins-too"])
def test_a_name_in_any_of_its_forms(pki: Pki, version: ssl.TLSVersion, name: str, pinned: bool) -> None:
    """AUT-16: an address is compared with the addresses in the certificate; names without regard to case."""
    pins = [pki.leaf.pin] if pinned else []
    assert accepted(meet(pki, by_name(pki, name, pins=pins), pki.honest, version)).authenticated


@pytest.mark.parametrize(("name", "is_good"), [("a.dot.test", True), ("dot.test", False), ("a.b.dot.test", False)])
def test_a_wildcard_covers_one_label(pki: Pki, name: str, is_good: bool) -> None:
    """AUT-15."""
    wire = meet(pki, by_name(pki, name), (pki.wildcard, pki.intermediate), ssl.TLSVersion.TLSv1_3)
    if is_good:
        accepted(wire)
    else:
        assert refused(wire).reason is Reason.NAME


@both_versions
@pytest.mark.parametrize(
    ("leaf", "reason", "words"),
    [
        ("expired", Reason.EXPIRED, "certificate #1 is expired 3 days ago"),
        ("not_yet_valid", Reason.NOT_YET_VALID, "certificate #1 is valid only in 5 days"),
        ("wrong_name", Reason.NAME, "not for dot.test"),
        ("cn_only", Reason.NAME, "not for dot.test"),
        ("ip_only", Reason.NAME, "not for dot.test"),
        ("client_only", Reason.USAGE, "not for servers"),
        ("self_signed", Reason.UNTRUSTED, "code 18"),
    ],
)
def test_what_a_policy_by_name_refuses(
    pki: Pki, version: ssl.TLSVersion, leaf: str, reason: Reason, words: str
) -> None:
    """AUT-14, AUT-17, AUT-18: each with its own code, and dates with how far they are off."""
    identity: Identity = getattr(pki, leaf)
    wire = meet(pki, by_name(pki), (identity, pki.intermediate), version)
    verdict = refused(wire)
    assert verdict.reason is reason
    assert words in verdict.explanation
    assert [one.der for one in verdict.presented] == [identity.der, pki.intermediate.der]


@pytest.mark.parametrize("is_anchor", [False, True], ids=["leaf", "anchor"])
def test_the_last_second_of_a_certificate(pki: Pki, is_anchor: bool) -> None:
    """AUT-31: it is inside (RFC 5280, section 4.1.2.5), but OpenSSL refuses as soon as it begins; our words say so."""
    for _ in range(5):  # where this process is held up for too long
        ends = timedelta(seconds=2)
        last = issue("last.test", is_ca=True, ends=ends) if is_anchor else issue(NAME, pki.intermediate, ends=ends)
        chain = (issue(NAME, last),) if is_anchor else (last, pki.intermediate)
        anchor = last if is_anchor else pki.root
        not_after = CertificateFacts.of(last.der).not_after
        assert not_after is not None
        policy = AuthenticationPolicy.strict(NAME, trust_anchors=[anchor.der])
        before, during, behind = (met_at(pki, policy, chain, not_after + offset) for offset in (-0.6, 0.1, 1.05))
        if before[1] < not_after and during[1] < not_after + 1 and behind[1] < not_after + 2:
            break
    assert accepted(before[0]).warnings == ()
    for (wire, _), words in (
        (during, "in its last second, which OpenSSL counts as expired"),
        (behind, "expired 1 s ago"),
    ):
        verdict = refused(wire)
        assert verdict.reason is Reason.EXPIRED
        assert words in verdict.explanation
        assert ("the trust anchor commonName=last.test" if is_anchor else "certificate #1 is") in verdict.explanation


def met_at(pki: Pki, policy: AuthenticationPolicy, chain: tuple[Identity, ...], moment: float) -> tuple[Wire, float]:
    """A handshake not before this moment, in POSIX seconds; and when it was over."""
    time.sleep(max(moment - time.time(), 0.0))
    wire = meet(pki, policy, chain, ssl.TLSVersion.TLSv1_3)
    return wire, time.time()


@both_versions
@pytest.mark.parametrize(
    ("name", "leaf"), [("127.0.0.2", "leaf"), ("::2", "ip_only"), ("192.0.2.2", "wrong_name"), ("other.test", "leaf")]
)
def test_other_names_and_addresses(pki: Pki, version: ssl.TLSVersion, name: str, leaf: str) -> None:
    """AUT-16: OpenSSL has a code of its own for addresses."""
    verdict = refused(meet(pki, by_name(pki, name), (getattr(pki, leaf), pki.intermediate), version))
    assert verdict.reason is Reason.NAME
    assert verdict.explanation == f"the certificate is not for {name}"


@both_versions
def test_chains_that_lead_nowhere(pki: Pki, version: ssl.TLSVersion) -> None:
    """An unknown issuer, a root that nobody trusts, and an intermediate past its time, each told apart."""
    missing = refused(meet(pki, by_name(pki), (pki.leaf,), version))
    assert (missing.reason, "code 20" in missing.explanation) == (Reason.UNTRUSTED, True)
    stranger = AuthenticationPolicy.strict(NAME, trust_anchors=[pki.other_root.der])
    unknown = refused(meet(pki, stranger, (*pki.honest, pki.root), version))
    assert (unknown.reason, "code 19" in unknown.explanation) == (Reason.UNTRUSTED, True)
    old = refused(meet(pki, by_name(pki), (pki.under_expired, pki.expired_intermediate), version))
    assert (old.reason, old.explanation) == (Reason.EXPIRED, "certificate #2 is expired 2 days ago")


def test_the_date_of_a_certificate_that_was_not_sent(pki: Pki) -> None:
    """FR-41: an anchor past its time is refused too (RFC 5280, section 6.1), and named: the server cannot mend it."""
    policy = AuthenticationPolicy.strict(NAME, trust_anchors=[pki.expired_intermediate.der])
    verdict = refused(meet(pki, policy, (pki.under_expired,), ssl.TLSVersion.TLSv1_3))
    assert verdict.reason is Reason.EXPIRED
    assert re.fullmatch(
        r"the trust anchor \S.* is expired 2 days ago \(.* GMT\); "
        "it is in the trust store here, and was not sent by the server",
        verdict.explanation,
    )


@both_versions
@pytest.mark.parametrize("sends", ["leaf", "chain"])
def test_of_many_expired_trust_anchors_the_one_in_the_path_is_named(
    pki: Pki, version: ssl.TLSVersion, sends: str
) -> None:
    """FR-41: others are out of their dates too, one of them under the same name and with another key."""
    old: dict[str, Any] = {"is_ca": True, "begins": -30 * DAY}
    root = issue("old-root.test", ends=-3 * DAY - timedelta(hours=1), **old)
    intermediate = issue("between.test", root, is_ca=True)
    leaf = issue(NAME, root) if sends == "leaf" else issue(NAME, intermediate)
    others = [issue("old-root.test", ends=-9 * DAY, **old), issue("another.test", ends=-8 * DAY, **old)]
    policy = AuthenticationPolicy.strict(NAME, trust_anchors=[one.der for one in (*others, root, *others[::-1])])
    verdict = refused(meet(pki, policy, (leaf,) if sends == "leaf" else (leaf, intermediate), version))
    assert verdict.reason is Reason.EXPIRED
    assert re.match(r"the trust anchor \S*=old-root\.test is expired 3 days ago \(", verdict.explanation)


@both_versions
@pytest.mark.parametrize("anchor", ["root", "intermediate", "leaf"])
def test_every_trust_anchor_ends_a_chain_by_itself(pki: Pki, version: ssl.TLSVersion, anchor: str) -> None:
    """AUT-12: also one that another has signed."""
    policy = AuthenticationPolicy.strict(NAME, trust_anchors=[getattr(pki, anchor).der])
    assert accepted(meet(pki, policy, pki.honest, version)).authenticated


@both_versions
@pytest.mark.parametrize("leaf", ["leaf", "expired", "not_yet_valid", "wrong_name", "cn_only", "self_signed"])
def test_a_pin_of_the_leaf_alone(pki: Pki, version: ssl.TLSVersion, leaf: str) -> None:
    """AUT-9, AUT-12, AUT-17: a pin names a key; dates are a warning, names are not looked at."""
    identity: Identity = getattr(pki, leaf)
    policy = AuthenticationPolicy.strict(pins=[BACKUP, identity.pin])
    verdict = accepted(meet(pki, policy, (identity,), version))
    assert verdict.authenticated
    assert (verdict.matched_pin, verdict.matched_depth) == (identity.pin, 0)
    assert bool(verdict.warnings) == (leaf in ("expired", "not_yet_valid"))


@both_versions
def test_another_key_than_the_pinned_one(pki: Pki, version: ssl.TLSVersion) -> None:
    """AUT-10: the verdict shows the pin that was seen."""
    policy = AuthenticationPolicy.strict(pins=[BACKUP, pki.customer.pin])
    wire = meet(pki, policy, pki.honest, version)
    verdict = refused(wire)
    assert verdict.reason is Reason.PIN
    assert str(pki.leaf.pin) in verdict.explanation
    assert wire.server.has_close_notify


@both_versions
@pytest.mark.parametrize(("pinned", "depth"), [("leaf", 0), ("intermediate", 1), ("root", 2)])
@pytest.mark.parametrize("sends_root", [False, True])
def test_a_name_and_a_pin(pki: Pki, version: ssl.TLSVersion, pinned: str, depth: int, sends_root: bool) -> None:
    """AUT-11, AUT-13, AUT-20: any certificate of the validated chain, the root from the trust store included."""
    pin = getattr(pki, pinned).pin
    chain = (*pki.honest, pki.root) if sends_root else pki.honest
    verdict = accepted(meet(pki, by_name(pki, pins=[BACKUP, pin]), chain, version))
    assert (verdict.matched_pin, verdict.matched_depth) == (pin, depth)
    assert len(verdict.validated) == 3


@both_versions
@pytest.mark.parametrize("leaf", ["expired", "wrong_name", "self_signed"])
def test_a_pin_does_not_excuse_a_bad_chain(pki: Pki, version: ssl.TLSVersion, leaf: str) -> None:
    """AUT-13, AUT-17: with a name and pins both must hold."""
    identity: Identity = getattr(pki, leaf)
    refused(meet(pki, by_name(pki, pins=[identity.pin]), (identity, pki.intermediate), version))


@both_versions
def test_a_good_chain_does_not_excuse_a_wrong_pin(pki: Pki, version: ssl.TLSVersion) -> None:
    """AUT-13: and all pins of the chain are shown."""
    verdict = refused(meet(pki, by_name(pki, pins=[BACKUP]), pki.honest, version))
    assert verdict.reason is Reason.PIN
    for one in (pki.leaf, pki.intermediate, pki.root):
        assert str(one.pin) in verdict.explanation


@both_versions
@pytest.mark.parametrize("pinned", ["intermediate", "root"])
def test_an_issuer_pin_without_its_certificate(pki: Pki, version: ssl.TLSVersion, pinned: str) -> None:
    """AUT-12 (RFC 7858, appendix A): learnt from the first handshake, proved by the second."""
    policy = AuthenticationPolicy.strict(NAME, issuer_pins=[BACKUP, getattr(pki, pinned).pin])
    verdict = accepted(learn(pki, policy, (*pki.honest, pki.root), version))
    assert verdict.authenticated
    assert verdict.policy.trust_anchors == (getattr(pki, pinned).der,)


@both_versions
def test_an_issuer_pin_that_nobody_shows(pki: Pki, version: ssl.TLSVersion) -> None:
    """AUT-12: then there is nothing to learn, and no second handshake."""
    policy = AuthenticationPolicy.strict(NAME, issuer_pins=[BACKUP])
    verdict = refused(meet(pki, policy, pki.honest, version))
    assert (verdict.reason, verdict.anchor) == (Reason.PIN, None)


@both_versions
def test_a_revived_issuer(pki: Pki, version: ssl.TLSVersion) -> None:
    """FR-51, and what is left of it: an expired issuer is not learnt.  But whoever appends a certificate of his own
    making, with the same key and younger, is believed, since the key is all that the pin names.
    """
    policy = AuthenticationPolicy.strict(NAME, issuer_pins=[pki.expired_intermediate.pin])
    chain = (pki.under_expired, pki.expired_intermediate)
    verdict = refused(meet(pki, policy, chain, version))
    assert verdict.reason is Reason.PIN
    assert "is expired" in verdict.explanation
    accepted(learn(pki, policy, (pki.under_expired, pki.revived_intermediate), version))


def limited(pki: Pki, *, excluded: str | None = None, path_length: int | None = None) -> Identity:
    """An intermediate with limits, under the root of the same name and key as the one without."""
    base = pki.intermediate
    builder = (
        x509.CertificateBuilder(base.certificate.issuer, base.certificate.subject, base.key.public_key())
        .serial_number(2)
        .not_valid_before(base.certificate.not_valid_before_utc)
        .not_valid_after(base.certificate.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    )
    if excluded is not None:
        limits = x509.NameConstraints(None, [x509.DNSName(excluded)])
        builder = builder.add_extension(limits, critical=True)
    return Identity(builder.sign(pki.root.key, hashes.SHA384()), base.key)


@both_versions
def test_the_limits_of_a_learnt_issuer_hold(pki: Pki, version: ssl.TLSVersion) -> None:
    """FR-51: what its certificate excludes is excluded, and how far it may delegate counts, though it is the anchor."""
    policy = AuthenticationPolicy.strict(NAME, issuer_pins=[pki.intermediate.pin])
    accepted(learn(pki, policy, (pki.leaf, limited(pki, excluded="elsewhere.test")), version))
    verdict = refused(learn(pki, policy, (pki.leaf, limited(pki, excluded=NAME)), version))
    assert verdict.reason is Reason.UNTRUSTED
    assert "excluded subtree" in verdict.explanation
    below = issue("below.test", pki.intermediate, is_ca=True)
    leaf = issue(NAME, below)
    accepted(learn(pki, policy, (leaf, below, limited(pki, path_length=1)), version))
    verdict = refused(learn(pki, policy, (leaf, below, limited(pki, path_length=0)), version))
    assert verdict.reason is Reason.UNTRUSTED
    assert "path length" in verdict.explanation


@both_versions
@pytest.mark.parametrize("name", [None, NAME, "192.0.2.53"])
def test_the_opportunistic_profile_asks_anybody(pki: Pki, version: ssl.TLSVersion, name: str | None) -> None:
    """AUT-19: and says that nobody was authenticated."""
    verdict = accepted(meet(pki, AuthenticationPolicy.opportunistic(name), (pki.attacker,), version))
    assert not verdict.authenticated
    assert verdict.reason is None


@both_versions
def test_the_opportunistic_profile_tries_its_pins(pki: Pki, version: ssl.TLSVersion) -> None:
    """AUT-19 (RFC 8310, section 6.5): the result is reported, and stops nothing."""
    policy = AuthenticationPolicy.opportunistic(pins=[pki.leaf.pin])
    assert accepted(meet(pki, policy, pki.honest, version)).authenticated
    verdict = accepted(meet(pki, policy, (pki.attacker,), version))
    assert not verdict.authenticated
    assert verdict.reason is Reason.PIN


@pytest.mark.parametrize(
    "make",
    [
        lambda pki: AuthenticationPolicy.strict(pins=[pki.leaf.pin]),
        lambda pki: AuthenticationPolicy.strict(NAME, issuer_pins=[pki.root.pin]),
        lambda pki: AuthenticationPolicy.opportunistic(NAME),
    ],
    ids=["pins", "issuer-pins", "opportunistic"],
)
def test_what_was_not_validated_is_never_called_so(pki: Pki, make: Callable[[Pki], AuthenticationPolicy]) -> None:
    """AUT-11: OpenSSL shows a "verified chain" without verification too; it must not get into a verdict."""
    wire = meet(pki, ClientContext(make(pki)), (*pki.honest, pki.root), ssl.TLSVersion.TLSv1_3)
    assert wire.verdict.validated == ()
    assert len(wire.verdict.presented) == 3
