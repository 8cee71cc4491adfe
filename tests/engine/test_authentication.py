"""Usage profiles, the policy, the verdict (AUT-1 to AUT-28, TLS-9)."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import FrozenInstanceError, fields, replace
from ipaddress import ip_address
from itertools import permutations
from pathlib import Path
from socket import AF_INET6, inet_aton, inet_ntoa, inet_pton

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dot_proto._der import read_certificate
from dot_proto.authentication import (
    AuthenticationPolicy,
    CertificateFacts,
    Evidence,
    PresentedChain,
    Reason,
    ValidatedChain,
    ValidationFailure,
    Verdict,
    is_address,
    judge,
    normalize_name,
    validity_of,
)
from dot_proto.errors import CertificateError, LocalProtocolError
from dot_proto.pins import Pin
from support.certificates import SEQUENCE, element, made
from support.vectors import certificate, load, octets

VECTORS = load("pins")
NOW = VECTORS["assumed_now"]
CHAINS = VECTORS["chains"]
NAMED = [case for case in CHAINS if case["policy"]["name"]]
NAMES = [case["id"] for case in VECTORS["certificates"]]

LEAF, ISSUER, ROOT = (certificate(name) for name in ("leaf-p256", "ca-inter-p256", "ca-root-p384"))
OTHER, ATTACKER = certificate("leaf-rsa2048"), certificate("attacker-self")
LEAF_PIN, ISSUER_PIN, OTHER_PIN = map(Pin.of_certificate, (LEAF, ISSUER, OTHER))
BACKUP_PIN = Pin.of_certificate(certificate("backup-p256"))

STRICT_NAME = AuthenticationPolicy.strict("dot.test")
STRICT_PINS = AuthenticationPolicy.strict(pins=[LEAF_PIN, BACKUP_PIN])
STRICT_BOTH = AuthenticationPolicy.strict("dot.test", pins=[ISSUER_PIN, BACKUP_PIN])


def by_id(case) -> str:
    return case["id"]


def shown(*sent: bytes, validated_for: str | None = None, wall_time: float | None = None) -> Evidence:
    """A full handshake with these certificates, leaf first; all of them validated if for a name."""
    chain = None if validated_for is None else ValidatedChain(sent, validated_for)
    return Evidence(PresentedChain(sent), sent[0], chain, wall_time=wall_time)


# The chains of the vectors: each was sent through a real handshake, and what the TLS library said stands beside it.

REASONS = {
    "untrusted": {Reason.UNTRUSTED},
    "name": {Reason.NAME},
    "dates": {Reason.EXPIRED, Reason.NOT_YET_VALID},
    "usage": {Reason.USAGE},
    "pin": {Reason.PIN},
    "no-certificate": {Reason.NO_CERTIFICATE},
    None: {None},
}


def policy_of(case) -> AuthenticationPolicy:
    wanted = case["policy"]
    anchors = [certificate(name) for name in wanted["trust_anchors"]] or None
    return AuthenticationPolicy.strict(wanted["name"], pins=list(map(Pin.parse, wanted["pins"])), trust_anchors=anchors)


def path_of(case) -> tuple[bytes, ...]:
    """The path that the TLS library built: from the leaf, issuer by issuer, as long as openssl found it."""
    at_hand = [certificate(name) for name in case["sent"] + case["policy"]["trust_anchors"]]
    path = at_hand[:1]
    while len(path) < case["openssl_chain_length"]:
        issuer = read_certificate(path[-1]).issuer
        path.append(next(one for one in at_hand if read_certificate(one).subject == issuer))
    return tuple(path)


def failure_of(case) -> ValidationFailure:
    message = case["python_ssl"]["message"]
    reasons = {"certificate has expired": Reason.EXPIRED, "certificate is not yet valid": Reason.NOT_YET_VALID}
    (reason,) = [reasons[message]] if message in reasons else REASONS[case["reason"]]
    return ValidationFailure(reason, message)


def evidence_of(case, policy: AuthenticationPolicy) -> Evidence:
    sent = tuple(map(certificate, case["sent"]))
    evidence = Evidence(PresentedChain(sent), next(iter(sent), None), wall_time=NOW)
    if policy.name is None:
        return evidence
    if case["openssl_chain_length"] is None:
        return replace(evidence, failure=failure_of(case))
    return replace(evidence, validated=ValidatedChain(path_of(case), policy.name))


def assert_due(verdict: Verdict, case) -> None:
    assert verdict.accepted is verdict.authenticated is case["accept"]
    assert verdict.reason in REASONS[case["reason"]]
    assert verdict.matched_depth == case["matched_depth"]
    assert any("the server's certificate is" in one for one in verdict.warnings) is (case["warning"] == "dates")


@pytest.mark.parametrize("case", CHAINS, ids=by_id)
def test_chains(case):
    """The truth table over every chain of the vectors (AUT-4, 6, 9, 11 to 18, 21)."""
    policy = policy_of(case)
    evidence = evidence_of(case, policy)
    verdict = judge(policy, evidence)
    assert_due(verdict, case)
    if case["matched_depth"] is not None:
        path = path_of(case) if policy.name else evidence.presented.certificates
        assert verdict.matched_pin == Pin.of_certificate(path[case["matched_depth"]])


@pytest.mark.parametrize("case", [case for case in CHAINS if len(case["sent"]) > 1], ids=by_id)
def test_what_else_was_sent_changes_nothing(case):
    """Neither more certificates, nor fewer, nor another order: they prove nothing (AUT-11; RFC 7469, section 2.6)."""
    policy = policy_of(case)
    evidence = evidence_of(case, policy)
    everything = tuple(map(certificate, NAMES))
    for sent in ((), everything, everything[::-1], *permutations(evidence.presented.certificates)):
        assert_due(judge(policy, replace(evidence, presented=PresentedChain(sent))), case)


@pytest.mark.parametrize("case", NAMED, ids=by_id)
def test_nothing_is_accepted_that_was_not_validated(case):
    """A policy with a name never looks at a chain that was merely sent (AUT-1, AUT-11, AUT-13)."""
    policy = policy_of(case)
    evidence = replace(evidence_of(case, policy), failure=None)
    for chain in (
        None,
        ValidatedChain((), "dot.test"),
        ValidatedChain(tuple(map(certificate, case["sent"])), "another.test"),
        ValidatedChain((ISSUER, LEAF), policy.name),
    ):
        verdict = judge(policy, replace(evidence, validated=chain))
        assert not verdict.accepted
        assert verdict.reason is Reason.UNTRUSTED
        assert str(policy.name) in verdict.explanation


# The policy: what could authenticate nobody is refused before any connection.


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: AuthenticationPolicy(), "needs a name or a pin"),
        (lambda: AuthenticationPolicy.strict(), "needs a name or a pin"),
        (lambda: AuthenticationPolicy.strict(pins=[]), "needs a name or a pin"),
        (lambda: AuthenticationPolicy.strict("dot.test", trust_anchors=[]), "no chain could ever end"),
        (lambda: AuthenticationPolicy.strict(trust_anchors=[ROOT]), "give the server's name too"),
        (lambda: AuthenticationPolicy.strict(pins=[LEAF_PIN], trust_anchors=[ROOT]), "give the server's name too"),
        (lambda: AuthenticationPolicy.strict(issuer_pins=[ISSUER_PIN]), "every customer of that issuer"),
        (
            lambda: AuthenticationPolicy.strict("dot.test", issuer_pins=[ISSUER_PIN], trust_anchors=[ROOT]),
            "issuer_pins learn the trust anchor, trust_anchors give it",
        ),
        (lambda: AuthenticationPolicy("dot.test", trust_anchors=(ROOT,), is_opportunistic=True), "validates no chain"),
        (lambda: AuthenticationPolicy(issuer_pins=(ISSUER_PIN,), is_opportunistic=True), "validates no chain"),
        (lambda: AuthenticationPolicy("dot.test", tries_name=True), "tries_name is for opportunistic policies"),
        (lambda: AuthenticationPolicy.opportunistic(tries_name=True), "tries_name without a name"),
        (
            lambda: AuthenticationPolicy.opportunistic(
                "dot.test", tries_name=True, trust_anchors=[ROOT], issuer_pins=[ISSUER_PIN]
            ),
            "issuer_pins learn the trust anchor, trust_anchors give it",
        ),
        (lambda: AuthenticationPolicy.opportunistic("dot.test", tries_name="no"), "tries_name must be True or False"),
        (lambda: AuthenticationPolicy.strict("no..dots"), "a label has 1 to 63 octets"),
    ],
)
def test_an_impossible_policy_is_refused(make, why):
    """Refused where it is made (AUT-3, AUT-12, AUT-28; RFC 8310, section 6.6)."""
    with pytest.raises(LocalProtocolError, match=why):
        make()


def test_a_trust_anchor_must_be_a_certificate():
    """Else the failure would come with the first connection (AUT-23)."""
    with pytest.raises(CertificateError):
        AuthenticationPolicy.strict("dot.test", trust_anchors=[ROOT[:-1]])


def test_a_policy_is_a_value():
    """It is the key of the session cache (TLS-9): lists become tuples, the name its one form, pins lose repetitions."""
    one = AuthenticationPolicy.strict(
        "DOT.Test.", pins=[LEAF_PIN, BACKUP_PIN, LEAF_PIN], trust_anchors=[ROOT], issuer_pins=[]
    )
    other = AuthenticationPolicy("dot.test", (LEAF_PIN, BACKUP_PIN), (ROOT,))
    assert one == other
    assert hash(one) == hash(other)
    assert AuthenticationPolicy("dot.test", trust_anchors=[ROOT]).trust_anchors == (ROOT,)  # type: ignore[arg-type]
    assert AuthenticationPolicy.strict("a.test", issuer_pins=[ISSUER_PIN] * 2).issuer_pins == (ISSUER_PIN,)
    with pytest.raises(FrozenInstanceError):
        one.name = "other.test"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("policy", "validates"),
    [
        (STRICT_NAME, True),
        (STRICT_BOTH, True),
        (AuthenticationPolicy.strict("dot.test", trust_anchors=[ISSUER]), True),
        (STRICT_PINS, False),
        (AuthenticationPolicy.strict("dot.test", issuer_pins=[ISSUER_PIN]), False),
        (AuthenticationPolicy.opportunistic("dot.test"), False),
        (AuthenticationPolicy.opportunistic(), False),
    ],
)
def test_which_policies_need_validation(policy, validates):
    """The TLS layer asks this to choose whether verification is required (AUT-12, AUT-13)."""
    assert policy.validates is validates


@pytest.mark.parametrize(
    ("name", "server_name"), [("dot.test", "dot.test"), ("192.0.2.1", None), ("[2001:db8::1]", None), (None, None)]
)
def test_an_address_is_never_sent_as_server_name(name, server_name):
    """SNI holds names only (TLS-6; RFC 6066, section 3)."""
    assert AuthenticationPolicy.opportunistic(name).server_name == server_name


def test_a_single_pin_draws_a_warning():
    """Deploy a backup pin (AUT-9; RFC 7858, section 4.2)."""
    alone = AuthenticationPolicy.strict(pins=[LEAF_PIN])
    (warning,) = alone.warnings
    assert "backup pin" in warning
    assert judge(alone, shown(LEAF)).warnings == judge(alone, shown(OTHER)).warnings == (warning,)
    assert STRICT_PINS.warnings == STRICT_NAME.warnings == judge(STRICT_PINS, shown(LEAF)).warnings == ()


# Names.


@pytest.mark.parametrize(
    ("given_name", "normal"),
    [
        ("dot.test", "dot.test"),
        ("DOT.Test.", "dot.test"),
        ("localhost", "localhost"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("_dot.a-b.test", "_dot.a-b.test"),
        ("192.0.2.1", "192.0.2.1"),
        ("[192.0.2.1]", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%eth0]", "fe80::1"),
        ("a" * 63 + ".test", "a" * 63 + ".test"),
        (".".join(["a" * 49] * 5) + ".abc", ".".join(["a" * 49] * 5) + ".abc"),
        (".".join(["a" * 49] * 5) + ".abc.", ".".join(["a" * 49] * 5) + ".abc"),
    ],
)
def test_a_name_has_one_form(given_name, normal):
    """What is compared with a SAN, and what goes into SNI and into the cache key (AUT-14, AUT-16)."""
    assert normalize_name(given_name) == normal
    assert normalize_name(normal) == normal


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "1 to 253 octets, not 0"),
        (".", "1 to 253 octets, not 0"),
        ("..", "a label has 1 to 63 octets"),
        (".test", "a label has 1 to 63 octets"),
        ("dot..test", "a label has 1 to 63 octets"),
        ("a" * 64 + ".test", "a label has 1 to 63 octets"),
        (".".join(["a" * 50] * 5), "1 to 253 octets, not 254"),
        ("bücher.example", "A-label"),
        ("dot.test\0", "no label of a host name"),
        ("dot test", "no label of a host name"),
        ("*.dot.test", "no label of a host name"),
        ("dot.test:853", "has a colon but is no IPv6 address: give a port apart"),
        ("https://dot.test/", "has a colon but is no IPv6 address: give a port apart, and of a URL the host alone"),
        ("[dot.test]", "no label of a host name"),
        ("[2001:db8::1", "has a colon but is no IPv6 address"),
        ("2001:db8::1]", "has a colon but is no IPv6 address"),
        ("2001:db8::g", "has a colon but is no IPv6 address"),
        ("-.test", "no label of a host name"),
    ],
)
def test_what_is_no_name_is_refused(name, why):
    """Before any connection (AUT-3; RFC 1035, section 2.3.4)."""
    with pytest.raises(LocalProtocolError, match=why):
        normalize_name(name)


@given(st.text(max_size=80) | st.text("aZ0-_.[]:%\0é", max_size=80))
def test_any_text_has_one_form_or_is_refused(name):
    """Normalising twice changes nothing."""
    try:
        normal = normalize_name(name)
    except LocalProtocolError:
        return
    assert normalize_name(normal) == normal
    assert normal.isascii()
    assert normal == normal.lower()


def test_addresses_are_told_from_names():
    """An address matches iPAddress SANs only, a name dNSName SANs only (AUT-16)."""
    assert is_address("192.0.2.1")
    assert is_address("2001:db8::1")
    assert not is_address("dot.test")
    assert not is_address("192.0.2.1.test")


# Full handshakes.


def test_no_certificate_is_no_match():
    """Under every strict policy; never "nothing there, so nothing wrong" (AUT-21)."""
    for policy in (
        STRICT_NAME,
        STRICT_PINS,
        STRICT_BOTH,
        AuthenticationPolicy.strict("a.test", issuer_pins=[LEAF_PIN]),
    ):
        verdict = judge(policy, Evidence(PresentedChain((LEAF,))))
        assert not verdict.accepted
        assert verdict.reason is Reason.NO_CERTIFICATE


@pytest.mark.parametrize("case", VECTORS["bad_der"], ids=by_id)
def test_a_leaf_that_cannot_be_read_is_refused(case):
    """A verdict, no exception (AUT-23)."""
    verdict = judge(STRICT_PINS, shown(octets(case["hex"])))
    assert not verdict.accepted
    assert verdict.reason is Reason.BAD_CERTIFICATE
    assert "cannot be read" in verdict.explanation
    assert verdict.presented == ()


def test_an_issuer_that_cannot_be_read_is_refused():
    """Also above the leaf of a validated chain (AUT-23)."""
    verdict = judge(STRICT_NAME, shown(LEAF, b"\x30", validated_for="dot.test"))
    assert verdict.reason is Reason.BAD_CERTIFICATE
    assert verdict.explanation == "certificate #2 of the validated chain cannot be read: cut off at offset 1"


def test_a_stray_that_cannot_be_read_harms_nobody():
    """FR-37: it counts for nothing; a warning tells its number in the chain, and the others keep theirs."""
    verdict = judge(STRICT_PINS, shown(LEAF, b"\x30", ISSUER))
    assert verdict.accepted
    assert [one.der for one in verdict.presented] == [LEAF, ISSUER]
    assert [(number, one.der) for number, one in verdict.numbered] == [(1, LEAF), (3, ISSUER)]
    assert verdict.unreadable == ((2, "cut off at offset 1"),)
    assert verdict.warnings == ("certificate #2 of those sent cannot be read: cut off at offset 1",)
    assert [one.der for one in verdict.strays] == [ISSUER]


@pytest.mark.parametrize("policy", [STRICT_NAME, STRICT_PINS, STRICT_BOTH, AuthenticationPolicy.opportunistic()])
def test_a_stray_that_cannot_be_read_changes_no_judgement(policy):
    """FR-37: whatever the policy, and on resumption too."""
    evidence = shown(LEAF, ISSUER, ROOT, validated_for="dot.test")
    without = judge(policy, evidence)
    verdict = judge(policy, replace(evidence, presented=PresentedChain((LEAF, ISSUER, b"\x30\x80", ROOT))))
    assert without.accepted
    assert replace(verdict, warnings=without.warnings, unreadable=()) == without
    assert verdict.warnings[len(without.warnings) :] == (
        "certificate #3 of those sent cannot be read: "
        "Certificate at offset 0 has an indefinite length, or one of more than 3 octets",
    )
    resumed = judge(policy, Evidence(leaf=LEAF, resumed=verdict))
    assert (resumed.accepted, resumed.warnings, resumed.unreadable) == (True, verdict.warnings, verdict.unreadable)


def test_many_certificates_that_cannot_be_read_are_one_warning():
    """FR-37: a server chooses how many it sends, and no log grows by it."""
    verdict = judge(STRICT_PINS, shown(LEAF, *[b"\x30"] * 500))
    assert verdict.warnings == ("certificate #2 of those sent cannot be read: cut off at offset 1; nor can 499 more",)
    assert verdict.numbered == ((1, CertificateFacts.of(LEAF)),)


def test_an_issuer_is_not_taken_for_a_leaf_that_cannot_be_read():
    """FR-37: the first that can be read is not the server's own, and keeps its number."""
    for policy in (STRICT_PINS, AuthenticationPolicy.opportunistic()):
        verdict = judge(policy, shown(b"\x30", ISSUER))
        assert verdict.reason is Reason.BAD_CERTIFICATE
        assert verdict.explanation == "the server's certificate cannot be read: cut off at offset 1"
        assert verdict.numbered == ((2, CertificateFacts.of(ISSUER)),)
        assert [one.der for one in verdict.strays] == [ISSUER]


def test_the_number_of_a_pinned_stray_is_that_in_the_chain():
    """FR-37: also behind one that cannot be read."""
    policy = AuthenticationPolicy.strict(pins=[ISSUER_PIN, BACKUP_PIN])
    assert (
        "the pin belongs to certificate #3, which was sent" in judge(policy, shown(LEAF, b"\x30", ISSUER)).explanation
    )
    verdict = judge(LEARNING, shown(LEAF, b"\x30", ROOT))
    assert "none of the 3 certificates sent is the pinned issuer's" in verdict.explanation
    assert judge(LEARNING, shown(LEAF, b"\x30", ISSUER)).anchor == ISSUER


def test_the_verdict_names_pin_and_depth():
    """What an operator logs (AUT-20)."""
    verdict = judge(STRICT_BOTH, shown(LEAF, ISSUER, ROOT, validated_for="dot.test"))
    assert (verdict.matched_pin, verdict.matched_depth) == (ISSUER_PIN, 1)
    assert verdict.explanation == f"pin {ISSUER_PIN} matches certificate 2 of 3"
    assert [one.der for one in verdict.validated] == [LEAF, ISSUER, ROOT]
    assert verdict.leaf == LEAF


def test_a_name_without_pins():
    """Validation for the name is all that was asked (AUT-1)."""
    verdict = judge(STRICT_NAME, shown(LEAF, ISSUER, validated_for="dot.test"))
    assert verdict.accepted
    assert verdict.authenticated
    assert verdict.reason is None
    assert verdict.explanation == "the chain is valid for dot.test"
    assert verdict.matched_pin is verdict.matched_depth is None


def test_the_library_s_refusal_is_passed_on():
    """Its reason and its words (AUT-14, AUT-17, AUT-18); no pin outweighs it (AUT-13)."""
    evidence = replace(
        shown(LEAF, ISSUER, validated_for="dot.test"), failure=ValidationFailure(Reason.NAME, "mismatch")
    )
    verdict = judge(STRICT_BOTH, evidence)
    assert not verdict.accepted
    assert (verdict.reason, verdict.explanation) == (Reason.NAME, "mismatch")


def test_a_mismatch_shows_what_the_server_has():
    """The pins seen, so that a rotation can be told from an attack (AUT-20)."""
    verdict = judge(STRICT_PINS, shown(OTHER, ISSUER))
    assert verdict.explanation == f"no pin matches; the server's key has {OTHER_PIN}"
    named = judge(
        AuthenticationPolicy.strict("dot.test", pins=[OTHER_PIN]), shown(LEAF, ISSUER, validated_for="dot.test")
    )
    assert named.explanation == f"no pin matches; the server's chain has {LEAF_PIN}, {ISSUER_PIN}"
    assert [one.der for one in named.validated] == [LEAF, ISSUER]


def test_a_pin_of_a_certificate_that_was_merely_sent_gives_a_hint():
    """Refused, and told how an issuer is pinned (AUT-11, AUT-12)."""
    verdict = judge(AuthenticationPolicy.strict(pins=[ISSUER_PIN]), shown(ATTACKER, LEAF, ISSUER))
    assert not verdict.accepted
    assert "the pin belongs to certificate #3, which was sent but proves nothing" in verdict.explanation
    assert "issuer_pins or trust_anchors" in verdict.explanation


@pytest.mark.parametrize("mistake", ["of_certificate_der", "of_bare_key_bits", "of_public_key_pem"])
def test_a_pin_of_the_wrong_part_gives_a_hint(mistake):
    """Refused, and told the right pin (AUT-4)."""
    (case,) = [case for case in VECTORS["certificates"] if case["id"] == "leaf-p256"]
    wrong = Pin.parse(case["not_the_pin"][mistake])
    verdict = judge(AuthenticationPolicy.strict(pins=[wrong]), shown(LEAF))
    assert not verdict.accepted
    assert f"the configured pin {wrong} is the SHA-256 of" in verdict.explanation
    assert f"the pin of its public key is {LEAF_PIN}" in verdict.explanation


def test_strays_are_what_was_sent_for_nothing():
    """Of the leaf alone under pins, of the validated chain under a name (AUT-11)."""
    pinned = judge(STRICT_PINS, shown(LEAF, ISSUER, ROOT))
    assert [one.der for one in pinned.strays] == [ISSUER, ROOT]
    evidence = replace(shown(LEAF, ISSUER, validated_for="dot.test"), presented=PresentedChain((LEAF, OTHER, ISSUER)))
    assert [one.der for one in judge(STRICT_NAME, evidence).strays] == [OTHER]
    assert judge(STRICT_PINS, Evidence()).strays == ()


# Dates.


@pytest.mark.parametrize(
    ("offset", "warning"),
    [
        (1, "expired 1 s ago"),
        (59, "expired 59 s ago"),
        (60, "expired 1 minute ago"),
        (119, "expired 1 minute ago"),
        (120, "expired 2 minutes ago"),
        (3_599, "expired 59 minutes ago"),
        (3_600, "expired 1 hour ago"),
        (7_200, "expired 2 hours ago"),
        (86_399, "expired 23 hours ago"),
        (86_400, "expired 1 day ago"),
        (400 * 86_400, "expired 400 days ago"),
        (0.9, None),
        (0, None),
        (-1, None),
    ],
)
def test_expired(offset, warning):
    """notAfter itself is still inside (RFC 5280, section 4.1.2.5); under pins a warning only (AUT-17)."""
    facts = CertificateFacts.of(LEAF)
    assert facts.date_warning(facts.not_after + offset) == warning
    verdict = judge(STRICT_PINS, shown(LEAF, wall_time=facts.not_after + offset))
    assert verdict.accepted
    assert verdict.warnings == (() if warning is None else (f"the server's certificate is {warning}",))


@pytest.mark.parametrize(
    ("offset", "warning"), [(0, None), (-1, "valid only in 1 s"), (-86_400 * 3, "valid only in 3 days")]
)
def test_not_yet_valid(offset, warning):
    """notBefore itself is inside (AUT-17)."""
    facts = CertificateFacts.of(LEAF)
    assert facts.date_warning(facts.not_before + offset) == warning


@pytest.mark.parametrize(
    ("begin", "end", "names"),
    [
        (b"", b"", ["notBefore", "notAfter"]),
        (element(0x17, b"200101000000Z"), b"", ["notAfter"]),
        (element(0x17, b"20010100000Z"), element(0x17, b"491231235959Z"), ["notBefore"]),
        (element(0x18, b"00000101000000Z"), element(0x18, b"99991231235959Z"), ["notBefore"]),
        (element(0x17, b"200101000000Z"), element(0x18, b"00001231235959Z"), ["notAfter"]),
        (element(0x17, b"200101000000Z"), element(0x18, b"99991231235959Z"), []),
    ],
)
def test_dates_that_cannot_be_read_are_warnings(begin, end, names):
    """FR-37: the pin does not depend on them (AUT-17), and neither does a verdict without a clock."""
    der = made(dates=element(SEQUENCE, begin, end))
    policy = AuthenticationPolicy.strict(pins=[Pin.of_certificate(der), BACKUP_PIN])
    verdict = judge(policy, shown(der, wall_time=NOW))
    assert verdict.accepted
    assert verdict.warnings == tuple(f"the server's certificate has a {name} that cannot be read" for name in names)
    assert judge(policy, shown(der)).warnings == ()
    assert judge(STRICT_PINS, shown(certificate("leaf-p256-expired"))).warnings == ()


def test_the_dates_of_issuers_are_the_tls_librarys_affair():
    """It has validated them; what is told here is about the server's own certificate (AUT-17)."""
    chain = shown(LEAF, certificate("leaf-p256-expired"), validated_for="dot.test", wall_time=NOW)
    assert judge(STRICT_NAME, chain).warnings == ()


def test_a_refusal_keeps_the_warning_about_dates():
    """An expired certificate with another key may be one forgotten server (AUT-17)."""
    verdict = judge(STRICT_PINS, shown(certificate("self-p256-expired"), wall_time=NOW))
    assert verdict.reason is Reason.PIN
    assert len(verdict.warnings) == 1


# Issuer pins: two handshakes.

LEARNING = AuthenticationPolicy.strict("dot.test", pins=[LEAF_PIN], issuer_pins=[OTHER_PIN, ISSUER_PIN])


@pytest.mark.parametrize("sent", [(LEAF, ISSUER), (LEAF, ROOT, ISSUER), (ATTACKER, ISSUER)])
def test_the_first_handshake_only_learns(sent):
    """It accepts nobody, whoever sent the pinned certificate: that proves nothing yet (AUT-11, AUT-12)."""
    for validated_for in (None, "dot.test"):
        verdict = judge(LEARNING, shown(*sent, validated_for=validated_for))
        assert not verdict.accepted
        assert verdict.reason is Reason.ANCHOR_LEARNT
        assert verdict.anchor == ISSUER


def test_nothing_to_learn():
    """The pinned issuer's certificate did not come (AUT-12)."""
    verdict = judge(LEARNING, shown(LEAF, ROOT))
    assert not verdict.accepted
    assert (verdict.reason, verdict.anchor) == (Reason.PIN, None)
    assert "none of the 2 certificates sent" in verdict.explanation


def test_a_pinned_key_that_may_not_issue_teaches_nothing():
    """FR-51: the server's own certificate holds the pinned key; and an issuer that has expired is none any more."""
    policy = AuthenticationPolicy.strict("dot.test", issuer_pins=[LEAF_PIN])
    verdict = judge(policy, shown(LEAF, ISSUER))
    assert (verdict.reason, verdict.anchor) == (Reason.PIN, None)
    assert "may not issue certificates" in verdict.explanation
    end = CertificateFacts.of(ISSUER).not_after
    assert end is not None
    for wall_time, reason in ((float(end), Reason.ANCHOR_LEARNT), (end + 86_400.0, Reason.PIN)):
        verdict = judge(LEARNING, replace(shown(LEAF, ISSUER), wall_time=wall_time))
        assert verdict.reason is reason
    assert "is expired" in verdict.explanation


def issuer_with(*extensions: bytes, begin: bytes = b"200101000000Z", end: bytes = b"491231235959Z") -> bytes:
    """A certificate from one date to another, in which these are all extensions."""
    dates = element(SEQUENCE, element(0x17, begin), element(0x17, end))
    return made(dates=dates, options=element(0xA3, element(SEQUENCE, *extensions)))


def extension(number: int, value: bytes) -> bytes:
    return element(SEQUENCE, b"\x06\x03\x55\x1d" + bytes([number]), b"\x01\x01\xff", element(0x04, value))


CA, SIGNS = extension(19, b"\x30\x03\x01\x01\xff"), extension(15, b"\x03\x02\x01\x06")


@pytest.mark.parametrize(
    ("issuer", "objection"),
    [
        (issuer_with(CA, SIGNS), None),
        (issuer_with(CA), None),
        (issuer_with(SIGNS), "may not issue"),
        (issuer_with(CA, extension(15, b"\x03\x02\x05\xa0")), "may not issue"),
        (issuer_with(extension(19, b"\x30\x06\x01\x01\xff\x02\x01\xff"), SIGNS), "may not issue"),
        (issuer_with(CA, SIGNS, extension(30, b"\x30\x00")), "may not issue"),
        (issuer_with(CA, SIGNS, end=b"491331235959Z"), "has dates that cannot be read"),
        (issuer_with(CA, SIGNS, begin=b"20010100000Z"), "has dates that cannot be read"),
        (issuer_with(CA, SIGNS, end=b"210101000000Z"), "is expired"),
        (issuer_with(CA, SIGNS, begin=b"491231000000Z"), "is valid only in"),
        (made(version=b""), "may not issue"),
    ],
    ids=[
        "signs", "no-usage", "no-ca", "signs-not", "negative-path", "empty-name-limits", "end-unreadable",
        "begin-unreadable", "expired", "not-yet", "v1",
    ],
)  # fmt: skip
def test_only_an_issuer_that_is_valid_now_is_learnt(issuer, objection):
    """FR-51: limits and dates that cannot be read are no limits to rely on, with and without a clock."""
    policy = AuthenticationPolicy.strict("dot.test", issuer_pins=[Pin.of_certificate(issuer)])
    verdict = judge(policy, shown(LEAF, issuer, wall_time=NOW))
    if objection is None:
        assert (verdict.reason, verdict.anchor) == (Reason.ANCHOR_LEARNT, issuer)
        return
    assert (verdict.reason, verdict.anchor) == (Reason.PIN, None)
    assert objection in verdict.explanation
    if "is " not in objection:
        assert judge(policy, shown(LEAF, issuer)).reason is Reason.PIN
    # One that may issue, with the same key, is learnt in spite of it.
    assert judge(policy, shown(LEAF, issuer, issuer_with(CA), wall_time=NOW)).anchor == issuer_with(CA)


@pytest.mark.parametrize("given", [ISSUER.hex(), bytearray(ISSUER), None, Path("ca.der")])
def test_the_facts_of_a_certificate_are_those_of_bytes(given):
    """FR-45: what was given, and what makes certificates of a file."""
    with pytest.raises(
        CertificateError, match=r"der must be .* in DER, not .*: certificates_from\(octets_of_a_pem_file\)"
    ):
        CertificateFacts.of(given)
    with pytest.raises(LocalProtocolError, match="certificate must be a certificate's DER in octets"):
        LEARNING.with_learnt_anchor(given)


def test_what_may_not_issue_becomes_no_anchor():
    """FR-51: nor where somebody else has chosen it."""
    policy = AuthenticationPolicy.strict("dot.test", issuer_pins=[LEAF_PIN])
    with pytest.raises(LocalProtocolError, match="may not issue others"):
        policy.with_learnt_anchor(LEAF)


def test_the_second_handshake_validates_up_to_the_learnt_anchor():
    """Same name, same pins, the learnt certificate as the only anchor (AUT-12)."""
    second = LEARNING.with_learnt_anchor(ISSUER)
    assert second == AuthenticationPolicy.strict("dot.test", pins=[LEAF_PIN], trust_anchors=[ISSUER])
    assert second.validates
    assert judge(second, shown(LEAF, ISSUER, validated_for="dot.test")).accepted
    assert judge(second, shown(LEAF, ISSUER)).reason is Reason.UNTRUSTED


@pytest.mark.parametrize("policy", [LEARNING, STRICT_NAME, STRICT_PINS])
def test_only_a_pinned_certificate_becomes_an_anchor(policy):
    """The peer chooses what it sends, so that the key is compared again (AUT-12)."""
    with pytest.raises(LocalProtocolError, match="not among the issuer pins"):
        policy.with_learnt_anchor(ROOT)


# Opportunistic.


@pytest.mark.parametrize(
    "evidence",
    [
        Evidence(),
        shown(LEAF),
        shown(ATTACKER, LEAF),
        shown(b"\x30"),
        shown(certificate("leaf-p256-expired"), wall_time=NOW),
        Evidence(resumed=judge(STRICT_PINS, shown(LEAF)), leaf=OTHER),
    ],
)
@pytest.mark.parametrize("pins", [(), (OTHER_PIN,)])
def test_opportunistic_asks_whoever_answers(evidence, pins):
    """Always accepted, never called authenticated without a proof (AUT-19; RFC 8310, section 5)."""
    verdict = judge(AuthenticationPolicy.opportunistic("dot.test", pins=pins), evidence)
    assert verdict.accepted
    assert not verdict.authenticated


@pytest.mark.parametrize("pins", [(), (LEAF_PIN,)])
def test_opportunistic_asks_nobody_where_the_handshake_has_failed(pins):
    """A failed validation ends the handshake: to accept it would report a peer that is not there (AUT-19)."""
    evidence = Evidence(leaf=LEAF, failure=ValidationFailure(Reason.UNTRUSTED, "self-signed certificate"))
    verdict = judge(AuthenticationPolicy.opportunistic(pins=pins), evidence)
    assert (verdict.accepted, verdict.authenticated, verdict.reason) == (False, False, Reason.UNTRUSTED)


def test_opportunistic_asks_for_nothing():
    """No credentials, no reason to speak of."""
    verdict = judge(AuthenticationPolicy.opportunistic(), shown(LEAF))
    assert (verdict.reason, verdict.explanation) == (None, "nothing was asked of the server")


def test_opportunistic_tries_its_credentials():
    """Known pins are compared with the leaf, and the result is reported (AUT-19; RFC 8310, section 6.5)."""
    policy = AuthenticationPolicy.opportunistic(pins=[LEAF_PIN, BACKUP_PIN])
    right, wrong = judge(policy, shown(LEAF)), judge(policy, shown(ATTACKER, LEAF))
    assert (right.accepted, right.authenticated, right.matched_depth) == (True, True, 0)
    assert (wrong.accepted, wrong.authenticated, wrong.reason) == (True, False, Reason.PIN)


def test_opportunistic_tries_its_name_first():
    """FR-67: as the strict policy that it is without its leniency; the context that asks anybody validates nothing."""
    policy = AuthenticationPolicy.opportunistic(
        "dot.test", pins=[LEAF_PIN], tries_name=True, issuer_pins=[ISSUER_PIN, BACKUP_PIN]
    )
    assert policy.tried_first == AuthenticationPolicy.strict(
        "dot.test", pins=[LEAF_PIN], issuer_pins=[ISSUER_PIN, BACKUP_PIN]
    )
    assert not policy.validates
    assert AuthenticationPolicy.opportunistic("dot.test").tried_first is None
    assert AuthenticationPolicy.strict("dot.test").tried_first is None


TRYING = AuthenticationPolicy.opportunistic("dot.test", tries_name=True, pins=[LEAF_PIN, BACKUP_PIN])
REFUSAL = judge(TRYING.tried_first, Evidence(failure=ValidationFailure(Reason.EXPIRED, "certificate #1 is expired")))


@pytest.mark.parametrize("leaf", [LEAF, ATTACKER])
def test_what_came_of_the_try_is_the_reason(leaf):
    """FR-67: also where a pin matches: who has a name and a pin must match both (RFC 8310, section 6.4)."""
    verdict = judge(TRYING, replace(shown(leaf), tried=REFUSAL))
    assert (verdict.accepted, verdict.authenticated, verdict.reason) == (True, False, Reason.EXPIRED)
    assert "tried and failed: certificate #1 is expired" in verdict.explanation
    assert ("matches the server's own key" in verdict.explanation) is (leaf is LEAF)


def test_what_came_of_the_try_counts_for_a_resumed_session_too():
    """FR-67: each connection tries anew, whatever the session that is then resumed was made under."""
    policy = AuthenticationPolicy.opportunistic("dot.test", tries_name=True)
    earlier = judge(policy, replace(shown(LEAF), tried=REFUSAL))
    later = replace(REFUSAL, reason=Reason.NAME, explanation="the certificate is not for dot.test")
    verdict = judge(policy, replace(shown(LEAF), resumed=earlier, tried=later))
    assert (verdict.is_resumed, verdict.accepted, verdict.reason) == (True, True, Reason.NAME)


def test_a_name_that_nobody_has_tried_is_said():
    """FR-67: a session that was made without the handshake before; nothing is claimed."""
    verdict = judge(AuthenticationPolicy.opportunistic("dot.test", tries_name=True), shown(LEAF))
    assert (verdict.authenticated, verdict.explanation) == (False, "its name was not tried")


@pytest.mark.parametrize("policy", [STRICT_NAME, STRICT_PINS, LEARNING])
def test_a_failed_try_loosens_no_strict_policy(policy):
    """FR-67: only an opportunistic policy has one; elsewhere it changes nothing."""
    evidence = shown(ATTACKER)
    assert judge(policy, replace(evidence, tried=REFUSAL)) == judge(policy, evidence)
    assert not judge(policy, replace(evidence, tried=REFUSAL)).accepted


def test_strict_is_the_default():
    """Opportunistic has to be asked for by name (AUT-2)."""
    assert not AuthenticationPolicy("dot.test").is_opportunistic
    assert not AuthenticationPolicy.strict("dot.test").is_opportunistic
    assert AuthenticationPolicy.opportunistic().is_opportunistic


# Resumption: the TLS library checks nothing again.

RESUMABLE = [
    (STRICT_NAME, shown(LEAF, ISSUER, validated_for="dot.test")),
    (STRICT_BOTH, shown(LEAF, ISSUER, validated_for="dot.test")),
    (STRICT_PINS, shown(LEAF, ISSUER)),
    (STRICT_PINS, replace(shown(LEAF), presented=PresentedChain())),
    (AuthenticationPolicy.opportunistic(), shown(b"\x30", ISSUER)),
]


@pytest.mark.parametrize(("policy", "evidence"), RESUMABLE)
def test_a_resumed_session_inherits_its_verdict(policy, evidence):
    """The handshake shows no chain, so the earlier verdict is all there is; again and again (TLS-9, AUT-21)."""
    earlier = judge(policy, evidence)
    assert not earlier.is_resumed
    resumed = judge(policy, Evidence(leaf=evidence.leaf, resumed=earlier))
    assert resumed.is_resumed
    assert resumed == replace(earlier, is_resumed=True)
    assert judge(policy, Evidence(leaf=evidence.leaf, resumed=resumed)) == resumed


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize(
    ("date", "offset", "reason"), [("not_after", 1, Reason.EXPIRED), ("not_before", -1, Reason.NOT_YET_VALID)]
)
def test_a_resumed_session_ends_with_its_chain(at, date, offset, reason):
    """FR-58, FR-59: with the leaf, an intermediate or the anchor, to the second, and begins with it too."""
    earlier = judge(STRICT_NAME, shown(LEAF, ISSUER, ROOT, validated_for="dot.test"))
    # Every other certificate is valid for ever, so that one date decides.
    for_ever = [replace(one, not_before=0, not_after=2**40) for one in earlier.validated]
    for_ever[at] = replace(for_ever[at], **{date: NOW})
    earlier = replace(earlier, validated=tuple(for_ever))
    inside = judge(STRICT_NAME, Evidence(leaf=LEAF, resumed=earlier, wall_time=NOW))
    assert inside.accepted
    assert inside.is_resumed
    outside = judge(STRICT_NAME, Evidence(leaf=LEAF, resumed=earlier, wall_time=NOW + offset))
    assert (outside.accepted, outside.authenticated, outside.reason) == (False, False, reason)
    assert f"certificate #{at + 1} of the chain that the resumed TLS session rests on is" in outside.explanation


def test_a_resumed_verdict_tells_dates_anew():
    """FR-58: a warning is as of the verdict that it stands in, and comes and goes with time."""
    end = CertificateFacts.of(LEAF).not_after
    earlier = judge(STRICT_PINS, shown(LEAF, wall_time=end + 60))
    assert earlier.warnings == ("the server's certificate is expired 1 minute ago",)
    for wall_time, warnings in (
        (end + 3600, ("the server's certificate is expired 1 hour ago",)),
        (end, ()),
        (None, ()),
    ):
        verdict = judge(STRICT_PINS, Evidence(leaf=LEAF, resumed=earlier, wall_time=wall_time))
        assert verdict.accepted
        assert verdict.warnings == warnings


def test_a_resumed_session_that_asked_for_nothing_has_no_dates():
    """Nor is a leaf that cannot be read a reason to fail."""
    policy = AuthenticationPolicy.opportunistic()
    earlier = judge(policy, shown(b"\x30"))
    again = judge(policy, Evidence(leaf=b"\x30", resumed=earlier, wall_time=NOW))
    assert again.accepted
    assert again.warnings == earlier.warnings


@pytest.mark.parametrize("date", ["not_before", "not_after"])
def test_a_resumed_session_does_not_rest_on_a_date_that_cannot_be_read(date):
    """FR-37, FR-58: there is no telling whether the chain is valid still, so that the session is refused."""
    earlier = judge(STRICT_NAME, shown(LEAF, ISSUER, validated_for="dot.test"))
    earlier = replace(earlier, validated=(earlier.validated[0], replace(earlier.validated[1], **{date: None})))
    verdict = judge(STRICT_NAME, Evidence(leaf=LEAF, resumed=earlier, wall_time=NOW))
    assert (verdict.accepted, verdict.authenticated, verdict.reason) == (False, False, Reason.BAD_CERTIFICATE)
    assert "certificate #2 of the chain that the resumed TLS session rests on has a date" in verdict.explanation


@pytest.mark.parametrize(
    ("date", "after", "about"),
    [
        ("not_after", 0, None),
        ("not_after", 0.999, None),
        ("not_after", 1, "expired 1 s ago"),
        ("not_after", 59.6, "expired 60 s ago"),
        ("not_after", 86_400 * 365, "expired 365 days ago"),
        ("not_before", 0, None),
        ("not_before", -0.001, "valid only in 1 s"),
        ("not_before", -61, "valid only in 1 minute"),
    ],
)
def test_both_dates_are_inside_to_the_second(date, after, about):
    """FR-59: by wall time; notAfter names a whole second and is the last (RFC 5280, section 4.1.2.5)."""
    facts = replace(CertificateFacts.of(LEAF), **{"not_before": 0, "not_after": 2**40, date: NOW})
    assert facts.date_warning(NOW + after) == about


def test_when_a_chain_is_valid():
    """From the last beginning to the first end (RFC 5280, section 6.1.3); a date that cannot be read is no time."""
    facts = CertificateFacts.of(LEAF)
    chain = [replace(facts, not_before=begin, not_after=end) for begin, end in ((1, 30), (3, 20), (2, 40))]
    assert validity_of(chain) == (3, 20)
    assert validity_of([]) == (-math.inf, math.inf)
    for date in ("not_before", "not_after"):
        assert validity_of([*chain, replace(facts, **{date: None})]) == (math.inf, -math.inf)


@pytest.mark.parametrize(
    ("policy", "leaf", "earlier"),
    [
        (STRICT_PINS, OTHER, judge(STRICT_PINS, shown(LEAF))),
        (STRICT_PINS, None, judge(STRICT_PINS, shown(LEAF))),
        (STRICT_PINS, ATTACKER, judge(STRICT_PINS, shown(ATTACKER))),
        (STRICT_PINS, None, judge(STRICT_PINS, Evidence())),
        (STRICT_PINS, LEAF, judge(AuthenticationPolicy.strict(pins=[LEAF_PIN]), shown(LEAF))),
        (STRICT_NAME, LEAF, judge(STRICT_PINS, shown(LEAF))),
        (STRICT_NAME, LEAF, judge(AuthenticationPolicy.opportunistic("dot.test"), shown(LEAF))),
        (
            STRICT_NAME,
            LEAF,
            judge(AuthenticationPolicy.strict("a.test"), shown(LEAF, ISSUER, validated_for="a.test")),
        ),
    ],
    ids=[
        "other-leaf", "no-leaf", "was-refused", "was-nobody", "other-pins", "pins-then-name",
        "opportunistic-then-strict", "other-name",
    ],
)  # fmt: skip
def test_a_session_of_another_policy_or_peer_is_refused(policy, leaf, earlier):
    """Name, pins and profile are part of what a ticket stands for (TLS-9; RFC 8446, section 4.6.1)."""
    verdict = judge(policy, Evidence(leaf=leaf, resumed=earlier))
    assert not verdict.accepted
    assert not verdict.authenticated
    assert verdict.reason is Reason.OTHER_POLICY


def test_nobody_inherits_from_nobody():
    """Two handshakes without a certificate prove nothing of each other (TLS-9)."""
    policy = AuthenticationPolicy.opportunistic()
    earlier = replace(judge(policy, shown(LEAF)), leaf=None)
    verdict = judge(policy, Evidence(resumed=earlier))
    assert verdict.reason is Reason.OTHER_POLICY
    assert not verdict.is_resumed


VALUES = [
    STRICT_PINS,
    PresentedChain((LEAF,)),
    ValidatedChain((LEAF,), "dot.test"),
    ValidationFailure(Reason.NAME, ""),
    CertificateFacts.of(LEAF),
    shown(LEAF),
    judge(STRICT_PINS, shown(LEAF)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_nothing_changes_behind_a_verdict(value):
    """What was judged, by what, and how, stays as it was: a log can trust it (AUT-1)."""
    for field in fields(value):
        with pytest.raises(FrozenInstanceError):
            setattr(value, field.name, None)


def test_a_log_is_not_filled_with_certificates():
    """A verdict is made to be logged, with its policy and the certificates as pins and dates (AUT-20)."""
    policy = AuthenticationPolicy.strict("dot.test", trust_anchors=[ISSUER])
    verdict = judge(policy, shown(LEAF, ISSUER, validated_for="dot.test"))
    learning = judge(LEARNING, shown(LEAF, ISSUER))
    assert learning.anchor == ISSUER
    for der in (LEAF, ISSUER):
        assert repr(der)[2:20] not in f"{verdict!r} {learning!r}"


@given(st.data())
def test_strict_accepts_only_what_it_authenticates(data):
    """Over any evidence made of any certificates: accepted means authenticated, and refused has a reason (AUT-1)."""
    ders = st.sampled_from([*map(certificate, NAMES[:8]), ATTACKER, b"", b"\x30"])
    chains = st.lists(ders, max_size=3).map(tuple)
    policy = data.draw(st.sampled_from([STRICT_NAME, STRICT_PINS, STRICT_BOTH, LEARNING]))
    evidence = data.draw(
        st.builds(
            Evidence,
            st.builds(PresentedChain, chains),
            st.none() | ders,
            st.none() | st.builds(ValidatedChain, chains, st.sampled_from(["dot.test", "a.test"])),
            wall_time=st.none() | st.just(float(NOW)),
        )
    )
    verdict = judge(policy, evidence)
    assert verdict.accepted is verdict.authenticated is (verdict.reason is None)
    if verdict.accepted and policy.validates:
        assert evidence.validated is not None
        assert evidence.validated.certificates[0] == evidence.leaf
    if verdict.accepted and policy.pins:
        counted = evidence.validated.certificates if policy.validates else (evidence.leaf,)
        assert verdict.matched_pin == Pin.of_certificate(counted[verdict.matched_depth])
        assert verdict.matched_pin in policy.pins


@pytest.mark.parametrize(
    "make",
    [
        lambda: AuthenticationPolicy.strict(pins=["yrm7yQNrvJKP6mB1i0X9M1ctXw2J+ULXlrGhRACblC0="]),
        lambda: AuthenticationPolicy.strict(pins="yrm7yQNrvJKP6mB1i0X9M1ctXw2J+ULXlrGhRACblC0="),
        lambda: AuthenticationPolicy.strict(pins=Pin(bytes(32))),
        lambda: AuthenticationPolicy.strict("a.example", issuer_pins=["text"]),
        lambda: AuthenticationPolicy.opportunistic(pins=["text"]),
        lambda: AuthenticationPolicy(pins=("text",)),
    ],
)
def test_a_pin_is_no_text(make):
    """PIN-6 in spirit: a pin that could match nothing is refused, with the way to make one, and not taken along."""
    with pytest.raises(LocalProtocolError, match=r"pins must be a list of Pin, .*: Pin.parse\(text\)"):
        make()


@pytest.mark.parametrize(
    ("pins", "kind"),
    [
        (None, "None"),
        (5, "5"),
        (LEAF_PIN, "Pin"),
        (str(LEAF_PIN), r"'.{24}'\.\.\. \(44 characters\)"),
        (LEAF_PIN.digest, r"bytes \(32 octets\)"),
        ([LEAF_PIN.digest], r"bytes \(32 octets\)"),
        ([[LEAF_PIN]], "list"),
        ([LEAF_PIN, str(LEAF_PIN), None], r"'.{24}'\.\.\. \(44 characters\)"),
        ((LEAF_PIN, LEAF), "bytes"),
        ({str(LEAF_PIN): LEAF_PIN}, "dict"),
    ],
)
def test_what_was_given_for_pins_is_said(pins, kind):
    """FR-45: but not the whole of a text that may be a key."""
    for make in (
        lambda: AuthenticationPolicy.strict(pins=pins),
        lambda: AuthenticationPolicy.strict("a.example", issuer_pins=pins),
        lambda: AuthenticationPolicy.opportunistic(pins=pins),
        lambda: AuthenticationPolicy(pins=pins),
    ):
        with pytest.raises(
            LocalProtocolError, match=f"pins must be a list of Pin, (not|but number . in it is) {kind}"
        ) as refused:
            make()
        assert str(LEAF_PIN) not in str(refused.value)


@pytest.mark.parametrize("flag", ["no", "", 1, 0, None, LEAF_PIN])
def test_who_asks_for_opportunistic_says_so_in_one_way(flag):
    """FR-45: every text is true, "no" too, and under this profile anybody is asked."""
    with pytest.raises(LocalProtocolError, match="is_opportunistic must be True or False, not"):
        AuthenticationPolicy("a.example", is_opportunistic=flag)


def test_the_trust_anchor_that_cannot_be_read_is_said():
    """FR-45: its number in the list."""
    with pytest.raises(CertificateError, match="certificate 2 of trust_anchors cannot be read: Certificate at"):
        AuthenticationPolicy.strict("a.example", trust_anchors=[ISSUER, b"\x30\x80", LEAF])


PEM = [ISSUER, b"\xef\xbb\xbf-----BEGIN CERTIFICATE-----\n"]


@pytest.mark.parametrize(
    "anchors",
    ["/etc/ca.pem", ["/etc/ca.pem"], b"0\x82", PEM, 5, Path("ca"), [ISSUER, None], [bytearray(ISSUER)], {"a": ISSUER}],
)
def test_a_trust_anchor_is_der(anchors):
    """What is easily mistaken for one is refused, with the function that reads them."""
    with pytest.raises(LocalProtocolError, match=r"certificates in DER, as certificates_from"):
        AuthenticationPolicy.strict("a.example", trust_anchors=anchors)


@pytest.mark.parametrize("name", [b"a.example", 5, ip_address("192.0.2.1"), ["a.example"], True])
def test_a_name_is_text(name):
    """FR-45: what is at hand instead is named, and the form that is wanted."""
    why = "name must be text, not .*: give it as 'dns.example' or '192.0.2.1'"
    with pytest.raises(LocalProtocolError, match=why):
        AuthenticationPolicy.strict(name)


def test_pins_and_anchors_may_come_from_any_iterable():
    """Each once, in order."""
    pins = [Pin(bytes(32)), Pin(bytes(31) + b"1"), Pin(bytes(32))]
    assert AuthenticationPolicy.strict(pins=iter(pins)).pins == tuple(pins[:2])


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.010",
        "0x7f.1",
        "127.1",
        "1",
        "0x",
        "0X7F000001",
        "2130706433",
        "1.2.3.4.",
        "256.1.1.1",
        "a.b.0x1f",
        "a.1.",
        "127.0.0.1.",
        "127.0.0.1.2",
        "00000177.1",
        "example.007",
        "example.0X",
    ],
)
def test_what_is_almost_an_address_is_refused(text):
    """FR-50: programs read such a text in different ways, as an address or as a name (RFC 8310, section 8.1)."""
    with pytest.raises(LocalProtocolError, match="ends in a number but is no IP address"):
        normalize_name(text)


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1%lo", "a\nb", "a\0b", "[a.example]", "[127.0.0.1", "a b", "\u202ea.example", "a\n",
        "127.0.0.1\n", "[1.2.3]",
        "127.0.0.1\0", "::1\n", " ::1", "[::1]\n", "[[::1]]", "[]", "::ffff:127.0.0.010", "\uff11.0.0.1",
        "\u0661.\u0661.\u0661.\u0661", "127\u30020\u30020\u30021", "\u2460.example", "a\u00adb.example",
        "a\u200db.example", "\ud800.example", "a.example\x1b[31m", "\x9b31m", "a..example", ".example", "a.example..",
        "a" * 64 + ".example",
        "a" * 999, "1." * 999, "\x1b" * 999,
    ],
)  # fmt: skip
def test_what_is_no_host_is_shown_escaped(text):
    """FR-50: no control character of a configuration's reaches a terminal, nor a digit that only looks like one."""
    with pytest.raises(LocalProtocolError) as refused:
        normalize_name(text)
    assert str(refused.value).isascii()
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize(
    "zone",
    [
        "", "25eth0", "25%32", "%eth0", "a%b", "eth0\n", "\neth0", "\0", "eth 0", "eth0/64", "eth0]", "[eth0",
        "\x1b[31m", "\u0661", "\uff11", "\u202e", "010", "00", "12345678901", "+1", "0x1\n", "a" * 65,
    ],
)  # fmt: skip
def test_a_zone_has_one_form(zone):
    """FR-50: of odd forms some programs read an interface, some a URI's escape, and some nothing at all (RFC 4007)."""
    for text in (f"fe80::1%{zone}", f"[fe80::1%{zone}]"):
        with pytest.raises(LocalProtocolError, match="zone of no form: write %eth0, or %2") as refused:
            normalize_name(text)
        assert str(refused.value).isascii()
        assert str(refused.value).isprintable()


@pytest.mark.parametrize("zone", ["eth0", "wlp2s0.100", "br-lan_1", "lo", "0", "2", "25", "251", "4294967295", "~"])
def test_a_zone_is_no_part_of_an_address(zone):
    """FR-50: a name or a number of an interface, of this machine alone."""
    assert normalize_name(f"fe80::1%{zone}") == normalize_name(f"[fe80::1%{zone}]") == "fe80::1"


@pytest.mark.parametrize(
    "address", ["::1", "2001:db8::1", "fd00::1", "ff02::1", "127.0.0.1", "169.254.1.1", "::ffff:1.2.3.4"]
)
def test_only_a_link_local_address_has_a_zone(address):
    """FR-50: the system's resolver dials none of these with a zone, so that there is nothing to compare."""
    for text in (f"{address}%lo", f"[{address}%lo]"):
        with pytest.raises(LocalProtocolError, match="has a zone, which only a link-local address has"):
            normalize_name(text)


@given(st.text("0123456789abcdefxX.:%[]-", max_size=24))
@example("127.0.0.010")
@example("0x7f.1")
@example("::ffff:127.0.0.1")
def test_an_address_has_one_reading(text):
    """FR-50: where the C library reads an address, however loosely, it is this one, or the text is refused."""
    try:
        name = normalize_name(text)
    except LocalProtocolError:
        return
    with suppress(OSError):
        assert inet_ntoa(inet_aton(text.strip("[]"))) == name
    with suppress(OSError):
        assert ip_address(inet_pton(AF_INET6, text.strip("[]").partition("%")[0])) == ip_address(name)
    assert is_address(name) == (":" in name or name.replace(".", "").isdecimal())


@pytest.mark.parametrize(
    ("text", "normal"), [("[::1]", "::1"), ("fe80::1%eth0", "fe80::1"), ("xn--1.de", "xn--1.de"), ("1a.2b", "1a.2b")]
)
def test_what_looks_like_a_number_and_is_none(text, normal):
    """FR-50: the last label alone decides, and a zone is no part of who is authenticated."""
    assert normalize_name(text) == normal
