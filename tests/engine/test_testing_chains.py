"""The kit's chains: the engine judges each as is due; tests/backends/test_tls_chains.py asks OpenSSL."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import settings

from dot_proto import AuthenticationPolicy, CertificateError, Pin, Reason
from dot_proto._der import public_key_of
from dot_proto.authentication import judge
from dot_proto.testing.chains import (
    AT,
    DAY,
    ChainCase,
    authority,
    certificate_reader_law,
    chain_case,
    chain_cases,
    check_certificate_reader,
    check_verifier,
    issue,
    verifier_law,
)

EVERY = [(number, case) for number in range(3) for case in chain_cases(number)]

every_case = pytest.mark.parametrize(
    ("number", "case"), EVERY, ids=lambda it: it.shape if isinstance(it, ChainCase) else str(it)
)


@every_case
def test_the_engine_judges_as_is_due(number: int, case: ChainCase):
    """Every row of the truth table, and every attack on it (AUT-6 to AUT-18)."""
    verdict = judge(case.policy, case.evidence())
    assert (verdict.accepted, verdict.reason, verdict.matched_depth) == (case.accepted, case.reason, case.depth)


@pytest.mark.parametrize("row", ["name:", "name and pin:", "pin:", "issuer and name", "issuer pin learnt"])
def test_every_row_has_both_kinds(row: str):
    """An honest server, and one that is refused."""
    assert {case.accepted for _, case in EVERY if case.shape.startswith(row)} == {True, False}


def test_shapes_are_told_apart():
    """Each has a name of its own."""
    for number in range(3):
        shapes = [case.shape for case in chain_cases(number)]
        assert len(shapes) == len(set(shapes))


def test_a_chain_is_the_same_octets_each_time():
    """Also when it is made afresh: failures can be had again."""
    first, second = (authority.__wrapped__(intermediates=2) for _ in range(2))
    assert [one.der for one in first.chain] == [one.der for one in second.chain]
    assert first.server().der == second.server().der


def test_a_case_can_be_had_again():
    """By what Hypothesis shows of it."""
    assert chain_case("name: expired", intermediates=2).reason is Reason.EXPIRED
    with pytest.raises(KeyError, match="name: nothing"):
        chain_case("name: nothing")


def test_serial_numbers_differ():
    """Two certificates of one issuer are two (RFC 5280, section 4.1.2.2)."""
    ours = authority()
    servers = [ours.server(), ours.server("b.test"), ours.server(ends=DAY), issue("dot.test", ours.issuer, is_ca=True)]
    assert len({one.certificate.serial_number for one in servers}) == len(servers)


def test_a_key_of_another_kind():
    """A key may be brought along; what it signs has a digest of its own."""
    root = issue("root.test", is_ca=True, key=ec.generate_private_key(ec.SECP256R1()))
    leaf = issue("dot.test", root)
    leaf.certificate.verify_directly_issued_by(root.certificate)
    assert leaf.pem.startswith(b"-----BEGIN CERTIFICATE-----")
    assert leaf.key_pem.startswith(b"-----BEGIN PRIVATE KEY-----")
    assert leaf.pin == Pin.of_certificate(leaf.pem)


def test_the_engine_keeps_the_law():
    """Through the checker that anybody can use."""
    check_verifier(lambda case: judge(case.policy, case.evidence()).accepted)


def honest(case: ChainCase) -> bool:
    return judge(case.policy, case.evidence()).accepted


def any_pin_of_what_is_sent(case: ChainCase) -> bool:
    """What several well-known clients do: a pin is looked for among all that was sent."""
    return honest(case) or any(one.pin in case.policy.pins for one in case.sent)


def pin_is_enough(case: ChainCase) -> bool:
    """A pin that matches the leaf makes the name needless."""
    return honest(case) or bool(case.sent and case.sent[0].pin in case.policy.pins)


def names_are_not_compared(case: ChainCase) -> bool:
    return honest(case) or case.reason is Reason.NAME


def dates_are_not_read(case: ChainCase) -> bool:
    return honest(case) or case.reason is Reason.EXPIRED


def refuses_everybody(case: ChainCase) -> bool:
    return False


@pytest.mark.parametrize(
    ("verifier", "shape"),
    [
        (any_pin_of_what_is_sent, "pin"),
        (pin_is_enough, "the name is not: accepted"),
        (names_are_not_compared, "accepted, due is Reason.NAME"),
        (dates_are_not_read, "expired: accepted"),
        (refuses_everybody, "refused, due is None"),
    ],
)
def test_bugs_of_verifiers_are_found(verifier, shape):
    """Each breaks the law, and the law names the shape."""
    law = settings(derandomize=True, database=None, max_examples=1000)(verifier_law(verifier))
    with pytest.raises(AssertionError, match=shape):
        law()


def test_the_reader_of_certificates():
    """The engine's finds the key, and refuses what is none (AUT-6)."""
    check_certificate_reader(public_key_of, CertificateError)


def the_issuers_name(der: bytes) -> bytes:
    """Takes the wrong element."""
    return public_key_of(der)[:0]


def hopes_for_the_best(der: bytes) -> bytes:
    """Looks for an Ed25519 key by its first octets (RFC 8410, section 4)."""
    start = der.index(bytes.fromhex("302a300506032b6570"))
    return der[start : start + 44]


@pytest.mark.parametrize(
    ("reader", "error", "complaint"),
    [(the_issuers_name, AssertionError, "the key found is"), (hopes_for_the_best, ValueError, "not found")],
)
def test_bugs_of_readers_are_found(reader, error, complaint):
    """A wrong key, and an error that was not announced."""
    law = settings(derandomize=True, database=None, max_examples=1000)(certificate_reader_law(reader, CertificateError))
    with pytest.raises(error, match=complaint):
        law()


def test_the_time_is_the_callers():
    """Chains of any day; those of the same day are made once."""
    later = AT + 400 * DAY
    assert chain_cases(1, later) is chain_cases(1, later)
    assert chain_cases(1, later)[0].sent[0].certificate.not_valid_before_utc == later - DAY
    assert isinstance(chain_cases(1, later)[0].policy, AuthenticationPolicy)
