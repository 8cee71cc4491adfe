"""The kit's chains, and OpenSSL's word on each: the verdict due is the one that a real handshake brings."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

import pytest

from dot_proto.testing.chains import ChainCase, chain_cases
from support.pki import Pki
from support.pki import pki_fixture as pki_fixture
from support.wire import accepted, meet, refused

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)

SENT = [(number, case) for number in range(3) for case in chain_cases(number, TODAY) if case.sent]
"A TLS server cannot send no certificate."


@pytest.mark.parametrize(("number", "case"), SENT, ids=lambda it: it.shape if isinstance(it, ChainCase) else str(it))
def test_the_verdict_due(pki: Pki, number: int, case: ChainCase) -> None:
    """AUT-6 to AUT-18: accepted or refused, for the reason given, by the pin at this depth, over this chain."""
    wire = meet(pki, case.policy, case.sent, ssl.TLSVersion.TLSv1_3)
    verdict = accepted(wire) if case.accepted else refused(wire)
    assert verdict.reason is case.reason
    assert verdict.matched_depth == case.depth
    assert verdict.authenticated is (case.reason is None and case.shape != "opportunistic")
    if not case.fails_in_tls:
        assert [one.der for one in verdict.validated] == [one.der for one in case.validated]
