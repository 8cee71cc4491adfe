"""What the engine makes public can leave its process, or says that it cannot (FR-74).

Each public name stands in one of the tables below, with examples of what it names.
"""

from __future__ import annotations

import enum
import pickle
from collections.abc import Iterator

import pytest

import dot_proto
from dot_proto import (
    AuthenticationPolicy,
    Cause,
    CertificateError,
    CertificateFacts,
    ClientConfiguration,
    ClientConnection,
    ConnectionClosed,
    Deframer,
    DiscardReason,
    DoTError,
    Evidence,
    Fault,
    IdInUseError,
    KeepaliveReceived,
    LocalProtocolError,
    MessageDiscarded,
    MessageError,
    PeerAuthenticated,
    PeerRefused,
    Pin,
    PinError,
    PresentedChain,
    QueryLost,
    QueryReceived,
    QueryRejected,
    QueryTimedOut,
    Reason,
    RemoteProtocolError,
    ResolverConfiguration,
    ResponseReceived,
    ServerConfiguration,
    ServerConnection,
    Strategy,
    StubResolver,
    TooManyQueriesError,
    Upstream,
    UpstreamError,
    ValidatedChain,
    ValidationFailure,
    frame,
    judge,
    make_query,
)
from dot_proto.testing._simulation.credentials import certificate
from dot_proto.testing.duties import ENDS
from dot_proto.testing.exchange import Action, Plan
from dot_proto.testing.messages import read
from dot_proto.testing.peers import Answer, Ask, Close, Garbage, Script, Stall
from dot_proto.testing.runner import open_client, run_script
from dot_proto.testing.simulate import SimulationError, simulate
from support.travel import Workers, alike, check_stays, check_travels

LEAF = certificate(bytes(32))
PIN = Pin.of_certificate(LEAF)
STRICT = AuthenticationPolicy.strict("dot.test", pins=[PIN], trust_anchors=[LEAF])
EVIDENCE = Evidence(PresentedChain((LEAF,)), LEAF, ValidatedChain((LEAF,), "dot.test"), wall_time=1.5)
VERDICT = judge(STRICT, EVIDENCE)
FAULTY = RemoteProtocolError("the peer reset the connection", Fault.RESET)
QUERY = make_query("a.test")


def with_note(error: DoTError) -> DoTError:
    error.add_note("a note")
    return error


TRAVELS: dict[str, list[object]] = {
    "AuthenticationPolicy": [STRICT, AuthenticationPolicy.opportunistic(), AuthenticationPolicy.strict(pins=[PIN])],
    "CertificateError": [CertificateError("no certificate"), CertificateError()],
    "CertificateFacts": [CertificateFacts.of(LEAF)],
    "ClientConfiguration": [ClientConfiguration(), ClientConfiguration(max_in_flight=3)],
    "ConnectionClosed": [ConnectionClosed(Cause.TRANSPORT_FAILED, FAULTY), ConnectionClosed(Cause.IDLE, None)],
    "DoTError": [DoTError("words"), DoTError(), DoTError("two", 2), with_note(DoTError("words"))],
    "Evidence": [EVIDENCE, Evidence(failure=ValidationFailure(Reason.NAME, "not for it")), Evidence(resumed=VERDICT)],
    "IdInUseError": [IdInUseError("sign it under another id")],
    "KeepaliveReceived": [KeepaliveReceived(2.5), KeepaliveReceived(None)],
    "LocalProtocolError": [LocalProtocolError("the caller's mistake")],
    "MessageDiscarded": [MessageDiscarded(QUERY, DiscardReason.LATE, 7)],
    "MessageError": [MessageError("no message")],
    "PeerAuthenticated": [PeerAuthenticated(VERDICT)],
    "PeerRefused": [PeerRefused(judge(STRICT, Evidence()))],
    "Pin": [PIN],
    "PinError": [PinError("no pin")],
    "PresentedChain": [PresentedChain((LEAF,))],
    "QueryLost": [QueryLost(1, True, False)],
    "QueryReceived": [QueryReceived(1, QUERY)],
    "QueryRejected": [QueryRejected(QUERY, 4, "an opcode that is not served")],
    "QueryTimedOut": [QueryTimedOut(1, 2.5)],
    "RemoteProtocolError": [FAULTY, with_note(RemoteProtocolError("TLS failed", Fault.TLS))],
    "ResolverConfiguration": [ResolverConfiguration(), ResolverConfiguration(strategy=Strategy.FASTEST)],
    "ResponseReceived": [ResponseReceived(1, QUERY, 0.5, False)],
    "ServerConfiguration": [ServerConfiguration(), ServerConfiguration(max_queries=3)],
    "TooManyQueriesError": [TooManyQueriesError("wait")],
    "Upstream": [
        Upstream.parse("tls://192.0.2.1?pin=62lKu9HsDVbyiPenApnc4sfmSYTHOVfFgL3pyB+cBL4="),
        Upstream.parse("tls://192.0.2.1#dot.test", trust_anchors=[LEAF]),
        Upstream.parse("tls://dot.test", bootstrap="system"),
        Upstream.parse("tls://dot.test", bootstrap=[Upstream.well_known("quad9")]),
    ],
    "UpstreamError": [UpstreamError("no upstream"), UpstreamError("one thing", "another")],
    "ValidatedChain": [ValidatedChain((LEAF,), "dot.test")],
    "ValidationFailure": [ValidationFailure(Reason.EXPIRED, "too old")],
    "Verdict": [VERDICT, judge(AuthenticationPolicy.opportunistic(), EVIDENCE)],
}
"These arrive with all that they hold."

BY_NAME = {
    "MAX_MESSAGE",
    "MIN_MESSAGE",
    "QUERY_BLOCK",
    "RESPONSE_BLOCK",
    "Cause",
    "DiscardReason",
    "Event",
    "Fault",
    "Reason",
    "State",
    "Strategy",
    "certificates_from",
    "frame",
    "judge",
    "make_query",
    "padding_length",
}
"Numbers, functions, enumerations, and the base of all events: the same thing is found on the other side."

WITH_THEIR_STATE = {"Deframer"}
"Compared by what they do."

STAYS: dict[str, object] = {
    "ClientConnection": ClientConnection(STRICT, entropy=bytes),
    "ServerConnection": ServerConnection(),
    "StubResolver": StubResolver([Upstream.parse("tls://192.0.2.1")], entropy=bytes),
}
"One side of one stream, which exists once."

EXAMPLES = [one for ones in TRAVELS.values() for one in ones]
ERRORS = [one for one in EXAMPLES if isinstance(one, DoTError)]


@pytest.fixture(scope="module", name="workers")
def workers_fixture() -> Iterator[Workers]:
    workers = Workers()
    yield workers
    workers.close()


def test_every_public_name_is_in_one_table():
    """FR-74: a name that is added must say whether it travels."""
    tables = [set(TRAVELS), BY_NAME, WITH_THEIR_STATE, set(STAYS)]
    assert set().union(*tables) == set(dot_proto.__all__)
    assert sum(map(len, tables)) == len(dot_proto.__all__)


@pytest.mark.parametrize("name", TRAVELS)
def test_what_travels_arrives_as_it_was(name):
    """FR-74: by every protocol of pickle, and by both copies."""
    for one in TRAVELS[name]:
        assert type(one).__name__ == name
        check_travels(one)


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_what_has_a_name_is_found_by_it(name):
    """FR-74: an enumeration with each of its members."""
    one = getattr(dot_proto, name)
    members = list(one) if isinstance(one, enum.EnumMeta) else []
    for each in [one, *members]:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            back = pickle.loads(pickle.dumps(each, protocol))
            assert back is each or (isinstance(each, int) and back == each)


@pytest.mark.parametrize("name", STAYS)
def test_what_stays_says_so(name):
    """FR-74: a copy of one side of a connection would use its ids and octets a second time."""
    assert type(STAYS[name]).__name__ == name
    check_stays(STAYS[name])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_framer_goes_on_where_it_stood(protocol):
    """FR-74: also inside a message, and after a failure; the two then go on apart."""
    octets = frame(QUERY) + frame(QUERY)
    first = Deframer()
    assert first.feed(octets[:50]) == [QUERY]
    second = pickle.loads(pickle.dumps(first, protocol))
    assert first.feed(octets[50:]) == second.feed(octets[50:]) == [QUERY]
    assert first.feed(octets[:1]) == []
    assert (first.mid_message, second.mid_message) == (True, False)
    first.feed(b"\0")
    assert pickle.loads(pickle.dumps(first, protocol)).failed


def test_errors_of_others_travel_too():
    """FR-74: the class of a caller, whose constructor asks for more than the message."""
    check_travels(Derived(7, reason="more"))


class Derived(RemoteProtocolError):
    """A caller's own error."""

    def __init__(self, number: int, *, reason: str) -> None:
        super().__init__(f"number {number}", Fault.TLS)
        self.number = number
        self.reason = reason


def test_a_failed_simulation_travels():
    """FR-74: the simulator is what one runs in many processes."""
    error = SimulationError("an invariant does not hold", 5, 1.5, ["a step"])
    check_travels(error)


def test_what_the_kit_has_found_travels():
    """FR-74: scripts, what came of them, plans and figures: found in one process, looked at in another."""
    script = Script([Ask("a."), Answer(), Stall(1.0), Garbage(b"no message"), Close()], read_size=1)
    found = [script, run_script(open_client(), script), *ENDS, Plan((Action(ENDS[0], True, 3),)), read(frame(QUERY))]
    for one in [*found, simulate(1)]:
        check_travels(one)


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_a_worker_may_raise_it(workers, error):
    """FR-74: a pool hung for ever, and an executor was broken for all later jobs."""
    for back in workers.raised(error):
        assert alike(back, error)


def test_a_worker_may_return_all_that_travels(workers):
    """FR-74: events, verdicts, policies and configurations, there and back."""
    for back in workers.returned(EXAMPLES):
        assert alike(back, EXAMPLES)
