"""The client's connection: asking, ids, and the verdict before which nothing leaves.

MAT-1, MAT-2, MAT-16 to MAT-18, MAT-22, CON-1, CON-2, AUT-1, AUT-2, AUT-19, AUT-21, PAD-1, PAD-2, PAD-8 to PAD-11,
PAD-13, PAD-17, FRM-1, FRM-2, FRM-8, FRM-9.  What a response must be is in ``test_client_matching``, what EDNS says
to the client in ``test_client_edns``, deadlines and ends in ``test_client_lifetime``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from itertools import pairwise

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given
from hypothesis import strategies as st

from dot_proto import (
    AuthenticationPolicy,
    Cause,
    ClientConfiguration,
    ClientConnection,
    DiscardReason,
    Evidence,
    Fault,
    IdInUseError,
    LocalProtocolError,
    MessageDiscarded,
    MessageError,
    PeerAuthenticated,
    PeerRefused,
    QueryLost,
    QueryTimedOut,
    Reason,
    ResponseReceived,
    State,
    TooManyQueriesError,
    ValidationFailure,
    make_query,
)
from support.interpreted import IS_COMPILED
from support.messages import (
    COOKIE,
    KEEPALIVE,
    NS,
    PADDING,
    RD,
    SIG,
    SOA,
    TSIG,
    A,
    message,
    opt,
    option,
    question_of,
    record,
    response_to,
    unframed,
)
from support.scenes import IMPOSTOR, STRICT, TRUSTED, Scene, always, closed, condition, counting, outcome, seeded
from support.vectors import load, octets

QUERY = make_query("example.com", message_id=0xBEEF)
UPDATE = b"\xbe\xef\x28\x00" + make_query("example.com", "SOA")[4:]

BARE = {"padding_block": None, "keepalive": False}
"A configuration under which a query leaves as it came, but for its id."


def id_of(each: bytes) -> int:
    return int.from_bytes(each[:2])


# Asking


def test_a_query_leaves_padded_and_framed():
    """The prefix counts the message alone, which is padded to 128 octets with OPT last (FRM-1, PAD-1, PAD-2)."""
    scene = Scene()
    scene.client.send_query(QUERY, now=scene.now)
    (chunk,) = scene.client.data_to_send()
    wire = chunk[2:]
    assert chunk[:2] == b"\x00\x80"
    assert len(wire) == 128
    assert wire[2:10] == QUERY[2:10]
    assert question_of(wire) == question_of(QUERY)
    padded = opt(option(KEEPALIVE), option(PADDING, bytes(128 - len(QUERY) - 8)))
    assert wire[12 + len(question_of(QUERY)) :] == padded


def test_prefix_and_message_leave_in_one_chunk():
    """Three queries before one drain are three chunks, each a whole frame, in the order asked (FRM-2, CON-2)."""
    scene = Scene()
    names = ["one.example", "two.example", "three.example"]
    for name in names:
        scene.client.send_query(make_query(name), now=scene.now)
    chunks = scene.client.data_to_send()
    assert [question_of(each) for each in unframed(chunks)] == [question_of(make_query(name)) for name in names]
    assert scene.client.data_to_send() == []


def test_pipelining_waits_for_no_answer():
    """The second query leaves while the first is unanswered (CON-2)."""
    scene = Scene()
    first, _ = scene.ask("one.example")
    second, wire = scene.ask("two.example")
    assert scene.client.pending == 2
    assert outcome(scene.receive(response_to(wire))) == [second]
    assert scene.client.pending == 1
    assert first != second


@pytest.mark.parametrize("block", [None, 64, 512])
def test_the_block_is_a_setting(block):
    """Other policies than 128 can be had, none included (PAD-17)."""
    _, wire = Scene(padding_block=block, keepalive=False).ask(QUERY)
    assert len(wire) == len(QUERY) if block is None else len(wire) % block == 0


def test_nothing_is_added_where_nothing_is_asked_for():
    """Without padding and keepalive only the id changes (PAD-17)."""
    for query in (QUERY, message(question_of(QUERY))):
        _, wire = Scene(**BARE).ask(query)
        assert wire[2:] == query[2:]


@pytest.mark.parametrize("options", [(), (option(PADDING, bytes(3)),), (option(COOKIE, bytes(8)), option(KEEPALIVE))])
def test_the_callers_options_are_kept(options):
    """Padding and keepalive are replaced, not doubled; whatever else is there stays in front (PAD-8, PAD-10, EDN-7)."""
    query = message(question_of(QUERY), additionals=[opt(*options)])
    _, wire = Scene().ask(query)
    end = 12 + len(question_of(QUERY))
    kept = b"".join(each for each in options if each[:2] == b"\0\x0a")
    start = wire[end + 11 :]
    assert start.startswith(kept + option(KEEPALIVE) + b"\0\x0c")
    assert wire.count(option(KEEPALIVE)) == 1
    assert len(wire) == 128


def test_a_query_without_opt_gets_one():
    """It carries padding and keepalive, and asks for nothing else (PAD-9, EDN-1)."""
    query = message(question_of(QUERY), id=1)
    _, wire = Scene().ask(query)
    assert struct.unpack_from("!4H", wire, 4) == (1, 0, 0, 1)
    opt_start = 12 + len(question_of(QUERY))
    assert wire[opt_start : opt_start + 9] == bytes.fromhex("00 0029 04d0 00 00 0000")
    assert len(wire) == 128


@pytest.mark.parametrize("settings", [{}, BARE], ids=["padding", "bare"])
def test_a_signed_query_changes_in_its_id_alone(settings):
    """TSIG covers the whole message but the id, which it carries itself (MAT-22, PAD-11)."""
    signed = message(question_of(QUERY), id=0xBEEF, additionals=[opt(), record(b"\0", TSIG, bytes(30), rdclass=255)])
    scene = Scene(**settings)
    handle, wire = scene.ask(signed)
    assert wire[2:] == signed[2:]
    reply = response_to(wire, additionals=[record(b"\0", TSIG, bytes(31), rdclass=255)])
    (answer,) = scene.receive(reply)
    assert answer == ResponseReceived(query=handle, message=b"\xbe\xef" + reply[2:], elapsed=0.0, more=False)


SIG0 = next(octets(case["in"]) for case in load("padding")["cases"] if case["id"] == "sig0-last")
"A query signed by SIG(0), under the id 0x1234."


def signed(
    own_id: int, *, records: Sequence[bytes] = (opt(),), behind: Sequence[bytes] = (), signature: bytes = bytes(18)
) -> bytes:
    """A query signed by SIG(0), as far as anybody can see who does not know the key."""
    additionals = [*records, record(b"\0", SIG, signature, rdclass=255), *behind]
    return message(question_of(QUERY), id=own_id, flags=RD, additionals=additionals)


@pytest.mark.parametrize("settings", [{}, BARE, {"padding_block": 468}], ids=["padding", "bare", "468"])
@pytest.mark.parametrize(
    "query",
    [
        SIG0,
        signed(0),
        signed(0xFFFF, records=[]),
        signed(7, records=[opt(option(KEEPALIVE), option(PADDING, bytes(9)))]),
        signed(7, records=[record(b"\0")]),
        signed(7, records=[], behind=[opt()]),
        UPDATE[:11] + b"\2" + UPDATE[12:] + record(b"\0", SIG, bytes(18), rdclass=255),
        signed(7, behind=[record(b"\0", SIG, bytes(18))]),
        signed(7, behind=[record(b"\0", TSIG, bytes(30), rdclass=255)]),
    ],
    ids=["vector", "id-0", "no-opt", "own-options", "another-record", "opt-behind", "update", "two", "and-tsig"],
)
def test_a_query_signed_by_sig0_leaves_as_it_is(query, settings):
    """FR-61: its signature covers the header, and so the id (RFC 2931, section 3.1); its answer counts as any other."""
    scene = Scene(entropy=always(7), **settings)
    handle, wire = scene.ask(query)
    assert wire == query
    reply = response_to(wire, additionals=[record(b"\0", SIG, bytes(18), rdclass=255)])
    assert scene.receive(reply) == [ResponseReceived(query=handle, message=reply, elapsed=0.0, more=False)]


def rdata_of_sig0(signature: bytes) -> bytes:
    """Of a SIG(0) by Ed25519 (15): type covered, labels, TTL, two dates, key tag; the signer; the signature."""
    return struct.pack("!HBBIIIH", 0, 15, 0, 0, 2_000_000_000, 1_700_000_000, 1) + b"\3key\4test\0" + signature


def verifies(wire: bytes, key: ed25519.Ed25519PublicKey) -> bool:
    """Whether a message signed by SIG(0) is as it was signed (RFC 2931, section 3.1).

    What is signed is the RDATA without the signature, and the message as it was before the record was added.
    """
    rdata = rdata_of_sig0(wire[-64:])
    start = len(wire) - len(record(b"\0", SIG, rdata, rdclass=255))
    assert wire.endswith(rdata)
    unsigned = wire[:10] + (int.from_bytes(wire[10:12]) - 1).to_bytes(2) + wire[12:start]
    try:
        key.verify(wire[-64:], rdata[:-64] + unsigned)
    except InvalidSignature:
        return False
    return True


@pytest.mark.parametrize("settings", [{}, BARE], ids=["padding", "bare"])
def test_a_true_signature_still_verifies(settings):
    """FR-61: whoever gets it can verify it; under any other id, or padded, nobody could (RFC 2931, section 3.1)."""
    key = ed25519.Ed25519PrivateKey.generate()
    unsigned = UPDATE[:2] + QUERY[2:]
    signature = key.sign(rdata_of_sig0(b"") + unsigned)
    query = unsigned[:11] + b"\2" + unsigned[12:] + record(b"\0", SIG, rdata_of_sig0(signature), rdclass=255)
    scene = Scene(**settings)
    handle, wire = scene.ask(query)
    assert verifies(wire, key.public_key())
    assert not verifies(b"\0\0" + wire[2:], key.public_key())
    assert outcome(scene.receive(response_to(wire))) == [handle]


@pytest.mark.parametrize("fate", ["pending", "held", "abandoned"])
def test_an_id_in_use_is_not_given_to_a_query_signed_by_sig0(fate):
    """FR-61, MAT-1, MAT-2: refused, nothing is changed, and it is taken as soon as the id is free."""
    scene = Scene(entropy=always(7))
    handle = scene.client.send_query(QUERY, now=scene.now)
    wire = None if fate == "held" else scene.sent()[0]
    if fate == "abandoned":
        scene.client.cancel(handle, now=scene.now)
    before = condition(scene.client)
    with pytest.raises(IdInUseError, match=r"signed by SIG\(0\).* has the id 7: sign it under another id"):
        scene.client.send_query(signed(7), now=scene.now)
    assert condition(scene.client) == before
    other = scene.client.send_query(signed(8), now=scene.now)
    if wire is None:
        scene.client.cancel(handle, now=scene.now)
    assert scene.sent() == [signed(8)]
    if wire is not None:
        scene.receive(response_to(wire))
    third, again = scene.ask(signed(7))
    assert again == signed(7)
    assert outcome(scene.receive(response_to(again), response_to(signed(8)))) == [third, other]


def test_nobody_draws_the_id_of_a_query_signed_by_sig0():
    """FR-61, MAT-1: neither while it is pending nor when it was given up."""
    scene = Scene(entropy=always(7))
    handle, _ = scene.ask(signed(7))
    assert id_of(scene.ask()[1]) == 8
    scene.client.cancel(handle, now=scene.now)
    assert id_of(scene.ask("b.example")[1]) == 9
    scene.receive(response_to(signed(7)))
    assert id_of(scene.ask("c.example")[1]) == 7


def test_a_transfer_signed_by_sig0():
    """FR-61: it is no other than other exchanges (XOT-10)."""
    scene = Scene(entropy=always(7))
    handle, wire = scene.ask(signed(7), multiple=True)
    assert wire == signed(7)
    events = scene.receive(response_to(wire), response_to(wire))
    assert [(event.query, event.more, event.message[:2]) for event in events] == [(handle, True, b"\0\7")] * 2


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["signed", "plain", "answer", "cancel"]), st.binary(max_size=40)),
        max_size=20,
    ),
    st.sampled_from([None, 128, 468]),
    st.booleans(),
)
def test_no_octet_of_a_query_signed_by_sig0_changes(steps, padding_block, keepalive):
    """FR-61: whatever else is asked, answered and given up; and no id is in flight twice (MAT-1)."""
    scene = Scene(entropy=always(1), padding_block=padding_block, keepalive=keepalive)
    in_flight: dict[bytes, tuple[int, bytes]] = {}
    for number, what, rdata in steps:
        if what in ("signed", "plain"):
            query = signed(number, signature=b"\0\0" + rdata) if what == "signed" else QUERY
            try:
                handle, wire = scene.ask(query)
            except IdInUseError:
                assert query[:2] in in_flight
                continue
            assert wire == query if what == "signed" else wire != query
            assert wire[:2] not in in_flight
            in_flight[wire[:2]] = handle, wire
        elif in_flight:
            own_id = sorted(in_flight)[number % len(in_flight)]
            handle, wire = in_flight[own_id]
            if what == "answer":
                (event,) = scene.receive(response_to(wire))
                assert event.query == handle
                del in_flight[own_id]
            else:
                scene.client.cancel(handle, now=scene.now)


def test_the_callers_id_comes_back():
    """In octets 0 and 1, and nothing else is touched (MAT-17)."""
    scene = Scene(entropy=always(0x1234))
    handle, wire = scene.ask(QUERY)
    assert wire[:2] == b"\x12\x34"
    scene.clock.advance(0.25)
    reply = response_to(wire, record())
    assert scene.receive(reply) == [
        ResponseReceived(query=handle, message=b"\xbe\xef" + reply[2:], elapsed=0.25, more=False)
    ]


class Parsed:
    """As dnspython's messages are."""

    def to_wire(self) -> bytes:
        return QUERY


MISTAKES = {
    "no-octets": (b"", {}, LocalProtocolError, "12 to 65535 octets, not 0"),
    "short": (QUERY[:11], {}, LocalProtocolError, "12 to 65535 octets, not 11"),
    "long": (bytes(65536), {}, LocalProtocolError, "12 to 65535 octets, not 65536"),
    "response": (response_to(QUERY), {}, LocalProtocolError, "QR is 1"),
    "malformed": (QUERY[:-1], {}, MessageError, "the query is malformed"),
    "two-questions": (QUERY[:4] + b"\0\2" + QUERY[6:], {}, MessageError, "2 questions"),
    "trailing-octet": (QUERY + b"\0", {}, MessageError, "octets behind the last record"),
    "negative-timeout": (QUERY, {"timeout": -1.0}, LocalProtocolError, "timeout must be .* not -1.0"),
    "no-number": (QUERY, {"timeout": math.nan}, LocalProtocolError, "timeout must be .* not nan"),
}

if not IS_COMPILED:  # a compiled engine refuses wrong types by itself, with TypeError
    MISTAKES |= {
        "text": ("example.com", {}, LocalProtocolError, "make_query"),
        "object": (object(), {}, LocalProtocolError, r"octets \(bytes\), not object"),
        "parsed": (Parsed(), {}, LocalProtocolError, "to_wire"),
        "timeout-as-text": (QUERY, {"timeout": "5"}, LocalProtocolError, "not '5'"),
        "timeout-as-truth": (QUERY, {"timeout": True}, LocalProtocolError, "not True"),
    }


@pytest.mark.parametrize("verified", [False, True])
@pytest.mark.parametrize("settings", [{}, BARE], ids=["padding", "bare"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_changes_nothing(mistake, settings, verified):
    """The caller hears of it; the next query works, under the id that would have been next (FRM-9)."""
    query, arguments, kind, text = MISTAKES[mistake]
    scene = Scene(entropy=counting(5), verified=verified, **settings)
    before = condition(scene.client)
    with pytest.raises(kind, match=text):
        scene.client.send_query(query, now=scene.now, **arguments)
    assert condition(scene.client) == before
    handle = scene.client.send_query(QUERY, now=scene.now)
    if not verified:
        scene.client.verify_peer(TRUSTED, now=scene.now)
    (wire,) = scene.sent()
    assert wire[:2] == b"\0\5"
    assert outcome(scene.receive(response_to(wire))) == [handle]


def test_the_longest_query():
    """65535 octets pass, and are not padded beyond (FRM-8, PAD-13)."""
    start = message(question_of(QUERY), additionals=[opt(option(65_001))])
    longest = message(question_of(QUERY), additionals=[opt(option(65_001, bytes(65_535 - len(start))))])
    assert len(longest) == 65_535
    _, wire = Scene().ask(longest)
    assert wire[2:] == longest[2:]


def test_the_defaults():
    """A configuration is optional, and so is nothing else."""
    client = ClientConnection(STRICT, entropy=always(0))
    assert client.configuration == ClientConfiguration()
    assert client.policy is STRICT
    assert client.is_open
    assert client.accepts_queries


def test_a_hundred_queries_over_one_connection():
    """Reuse is the rule, and no answer makes the client close (CON-1)."""
    scene = Scene()
    for number in range(100):
        handle, wire = scene.ask(f"n{number}.example")
        assert outcome(scene.receive(response_to(wire, record(kind=A), record(kind=NS), record(kind=SOA)))) == [handle]
    assert scene.client.state is State.OPEN


# Ids


def test_an_id_in_use_is_not_drawn_again():
    """A source that always says 7: the second query gets another id, and 7 is free after its answer (MAT-1)."""
    scene = Scene(entropy=always(7))
    first, wire = scene.ask("one.example")
    _, other = scene.ask("two.example")
    assert (id_of(wire), id_of(other)) == (7, 8)
    assert outcome(scene.receive(response_to(wire))) == [first]
    assert id_of(scene.ask("three.example")[1]) == 7


def test_ids_go_round():
    """Behind 65535 comes 0, an id like any other (MAT-16)."""
    scene = Scene(entropy=always(0xFFFF))
    assert [id_of(scene.ask()[1]) for _ in range(3)] == [0xFFFF, 0, 1]


@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_an_abandoned_id_stays_taken(how):
    """For the server it is still in flight; its late answer frees it (MAT-2)."""
    scene = Scene(entropy=always(7))
    handle, wire = scene.ask("one.example", timeout=1.0)
    if how == "cancel":
        assert scene.client.cancel(handle, now=scene.now)
    else:
        scene.clock.advance(1.0)
        assert scene.tick() == [QueryTimedOut(query=handle, elapsed=1.0)]
    assert id_of(scene.ask("two.example")[1]) == 8
    late = response_to(wire)
    assert scene.receive(late) == [MessageDiscarded(message=late, reason=DiscardReason.LATE, query=handle)]
    assert id_of(scene.ask("three.example")[1]) == 7


@pytest.mark.parametrize("how", ["timeout", "cancel"])
@pytest.mark.parametrize("verified", [False, True])
def test_what_never_left_holds_no_id(how, verified):
    """A query abandoned before it was handed out does not leave any more, and its id is free (MAT-2)."""
    scene = Scene(entropy=always(7), verified=verified)
    handle = scene.client.send_query(QUERY, now=scene.now, timeout=1.0)
    if how == "cancel":
        assert scene.client.cancel(handle, now=scene.now)
    else:
        scene.clock.advance(1.0)
        assert scene.tick() == [QueryTimedOut(query=handle, elapsed=1.0)]
    if not verified:
        scene.client.verify_peer(TRUSTED, now=scene.now)
    assert scene.sent() == []
    assert id_of(scene.ask()[1]) == 7


def test_all_ids_taken():
    """65536 outstanding: the next is refused at the caller, never given a taken id; one answer makes room (MAT-18)."""
    scene = Scene(max_in_flight=65_536, entropy=counting(0x8000), **BARE)
    handles = [scene.client.send_query(QUERY, now=scene.now, timeout=60.0) for _ in range(65_536)]
    wires = scene.sent()
    assert len({id_of(wire) for wire in wires}) == 65_536
    for handle in handles[:9]:
        assert scene.client.cancel(handle, now=scene.now)
    assert not scene.client.accepts_queries
    assert scene.client.is_open
    with pytest.raises(TooManyQueriesError, match="65536"):
        scene.client.send_query(QUERY, now=scene.now)
    assert scene.sent() == []
    assert outcome(scene.receive(response_to(wires[-1]))) == [handles[-1]]
    assert scene.client.accepts_queries
    assert id_of(scene.ask()[1]) == id_of(wires[-1])
    for wire in wires[-9:-1]:  # from now on the free ids are listed
        assert len(scene.receive(response_to(wire))) == 1
        assert id_of(scene.ask()[1]) == id_of(wire)


def test_abandoned_queries_count_as_in_flight():
    """``max_in_flight`` bounds the pending and the abandoned together; a late answer makes room (MAT-2, MAT-18)."""
    scene = Scene(max_in_flight=2)
    assert scene.client.capacity == 2
    handle, wire = scene.ask()
    scene.client.cancel(handle, now=scene.now)
    assert scene.client.capacity == 1
    scene.ask()
    assert scene.client.capacity == 0
    before = condition(scene.client)
    with pytest.raises(TooManyQueriesError, match="2 queries are outstanding"):
        scene.client.send_query(QUERY, now=scene.now)
    assert condition(scene.client) == before
    scene.receive(response_to(wire))
    assert scene.client.capacity == 1
    scene.ask()


def test_ids_come_from_the_source_of_randomness():
    """One seed, one sequence; another seed, another; the whole range is used (MAT-16)."""

    def drawn(seed):
        scene = Scene(entropy=seeded(seed))
        return [id_of(scene.ask()[1]) for _ in range(600)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert min(drawn(1)) < 0x400
    assert max(drawn(1)) > 0xFC00
    assert any(b - a > 1 for a, b in pairwise(drawn(1)))


@pytest.mark.parametrize("size", [0, 1, 511, 513])
def test_a_source_of_the_wrong_length_is_the_callers_mistake(size):
    """Too little would repeat ids; nothing is asked, and a source that works again is used (MAT-16)."""
    answers = [bytes(size)]
    scene = Scene(entropy=lambda octets: answers.pop() if answers else b"\0\7" * (octets // 2))
    before = condition(scene.client)
    with pytest.raises(LocalProtocolError, match=f"entropy returned {size} octets where 512 were asked for"):
        scene.client.send_query(QUERY, now=scene.now)
    assert condition(scene.client) == before
    assert scene.sent() == []
    assert id_of(scene.ask()[1]) == 7


# The verdict


def test_no_octet_before_the_verdict():
    """Queries asked early are held, and leave with the acceptance, in order (AUT-1)."""
    scene = Scene(verified=False)
    handles = [scene.client.send_query(make_query(name), now=scene.now) for name in ("a.example", "b.example")]
    assert scene.client.state is State.UNVERIFIED
    assert scene.client.verdict is None
    assert scene.client.pending == 2
    assert scene.client.data_to_send() == []
    (event,) = scene.client.verify_peer(TRUSTED, now=scene.now)
    assert event == PeerAuthenticated(verdict=scene.client.verdict)
    assert event.verdict.authenticated
    assert scene.client.state is State.OPEN
    wires = scene.sent()
    assert outcome(scene.receive(*map(response_to, wires))) == handles


REFUSALS = {
    "not-validated": (IMPOSTOR, Reason.UNTRUSTED),
    "nothing": (Evidence(), Reason.NO_CERTIFICATE),
    "expired": (Evidence(failure=ValidationFailure(Reason.EXPIRED, "too old")), Reason.EXPIRED),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refused_peer_is_asked_nothing_ever(case):
    """Held queries are lost, safe to resend, in the list that says why (AUT-1, AUT-2, AUT-21)."""
    evidence, reason = REFUSALS[case]
    scene = Scene(verified=False)
    handles = [scene.client.send_query(query, now=scene.now) for query in (QUERY, UPDATE)]
    events = scene.client.verify_peer(evidence, now=scene.now)
    lost = [QueryLost(query=handle, safe_to_resend=True, was_sent=False) for handle in handles]
    refused = PeerRefused(verdict=scene.client.verdict)
    assert outcome(events) == [refused, *lost, closed(Cause.PEER_REFUSED, Fault.PEER_REFUSED)]
    assert refused.verdict.reason is reason
    assert not refused.verdict.accepted
    assert refused.verdict.explanation in str(events[-1].error)
    assert scene.client.data_to_send() == []
    assert not scene.client.is_open
    with pytest.raises(LocalProtocolError, match="takes no more queries"):
        scene.client.send_query(QUERY, now=scene.now)
    assert scene.client.next_timeout() is None


def test_opportunistic_asks_whoever_answers():
    """Queries leave, and the verdict says that nobody was authenticated (AUT-19)."""
    scene = Scene(policy=AuthenticationPolicy.opportunistic(), verified=False)
    handle = scene.client.send_query(QUERY, now=scene.now)
    (event,) = scene.client.verify_peer(Evidence(), now=scene.now)
    assert isinstance(event, PeerAuthenticated)
    assert not event.verdict.authenticated
    (wire,) = scene.sent()
    assert outcome(scene.receive(response_to(wire))) == [handle]


@pytest.mark.parametrize("evidence", [TRUSTED, IMPOSTOR], ids=["accepted", "refused"])
def test_a_peer_is_judged_once(evidence):
    """An identity does not change in the middle of a connection (TLS-7)."""
    scene = Scene(verified=False)
    scene.client.verify_peer(evidence, now=scene.now)
    before = condition(scene.client)
    with pytest.raises(LocalProtocolError, match="judged already"):
        scene.client.verify_peer(TRUSTED, now=scene.now)
    assert condition(scene.client) == before


def test_octets_before_the_verdict_are_the_drivers_mistake():
    """Nothing is read from a peer that may be anybody (AUT-1)."""
    scene = Scene(verified=False)
    before = condition(scene.client)
    with pytest.raises(LocalProtocolError, match="verify_peer"):
        scene.receive(response_to(QUERY))
    assert condition(scene.client) == before


def test_a_verdict_after_the_end_is_not_asked_for():
    """The connection was given up during the handshake: nothing is judged, what waits is delivered."""
    scene = Scene(verified=False)
    scene.client.close(now=scene.now)
    assert outcome(scene.client.verify_peer(TRUSTED, now=scene.now)) == [closed(Cause.LOCAL_CLOSE)]
    assert scene.client.verdict is None
    assert scene.client.verify_peer(TRUSTED, now=scene.now) == []
    assert scene.client.data_to_send() == []


@pytest.mark.parametrize("rdtype", [251, 252])
def test_a_part_of_a_transfer_is_taken_only_where_it_is_wanted(rdtype):
    """FR-5: the first of its messages looks like a whole answer (RFC 5936, section 2.2; RFC 1995)."""
    scene, transfer = Scene(), make_query("example.com", rdtype)
    assert scene.ask(transfer)
    scene.client.takes_parts = False
    with pytest.raises(LocalProtocolError, match="answered by several messages"):
        scene.ask(transfer)
    assert scene.ask(transfer, multiple=True)
