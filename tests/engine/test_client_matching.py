"""Which message answers which query, one answer or several (MAT-3 to MAT-15, MAT-19 to MAT-23, XOT-4, XOT-11)."""

from __future__ import annotations

import pytest

from dot_proto import (
    Cause,
    DiscardReason,
    Fault,
    LocalProtocolError,
    MessageDiscarded,
    QueryLost,
    QueryTimedOut,
    ResponseReceived,
    make_query,
)
from dot_proto.query import encode_name
from support.messages import AA, AXFR, COOKIE, QR, SOA, TC, message, opt, option, question_of, record, response_to
from support.scenes import Scene, always, closed, outcome, seeded
from support.vectors import load, octets

MATCHING = load("matching")
SEQUENCES = [each for each in MATCHING["sequences"] if each.get("role") != "server"]
MALFORMED = load("malformed")["cases"]

NOTHING_ADDED = {"padding_block": None, "keepalive": False}


def by_id(case) -> str:
    return case["id"]


def under(wire_id: bytes, each: bytes) -> bytes:
    """The message under another id."""
    return wire_id[:2] + each[2:]


def translated(response: bytes, query: bytes, wire: bytes) -> bytes:
    """A response of a vector, as far from the id on the wire as it was from the id in the vector."""
    distance = int.from_bytes(response[:2]) ^ int.from_bytes(query[:2])
    return under((int.from_bytes(wire[:2]) ^ distance).to_bytes(2), response)


VERDICTS = {
    "unknown-id": DiscardReason.UNKNOWN_ID,
    "not-a-response": DiscardReason.NOT_A_RESPONSE,
    "opcode-mismatch": DiscardReason.OPCODE_MISMATCH,
    "question-mismatch": DiscardReason.QUESTION_MISMATCH,
    "question-missing": DiscardReason.QUESTION_MISSING,
    "malformed:name-truncated": DiscardReason.QUESTION_MISMATCH,
}


@pytest.mark.parametrize("settings", [{}, NOTHING_ADDED], ids=["padding", "bare"])
@pytest.mark.parametrize("case", MATCHING["cases"], ids=by_id)
def test_vectors(case, settings):
    """Every case of ``matching.json`` on a connection of its own (MAT-4 to MAT-12, MAT-20)."""
    query, response = octets(case["query"]), octets(case["response"])
    scene = Scene(**settings)
    is_transfer = case["id"].startswith("axfr")
    handle, wire = scene.ask(query, multiple=is_transfer)
    if case["continuation"]:
        assert outcome(scene.receive(response_to(wire, flags=AA))) == [handle]
    arrived = translated(response, query, wire)
    events = scene.receive(arrived)
    if case["verdict"] == "match":
        assert events == [
            ResponseReceived(
                query=handle, message=under(query, response), elapsed=0.0, more=case["id"].startswith("axfr")
            )
        ]
    else:
        reason = VERDICTS[case["verdict"]]
        about = None if reason is DiscardReason.UNKNOWN_ID else handle
        assert events == [MessageDiscarded(message=arrived, reason=reason, query=about)]
        assert outcome(scene.receive(response_to(wire))) == [handle]


@pytest.mark.parametrize("case", SEQUENCES, ids=by_id)
def test_sequences(case):
    """Several messages on one connection; the ids delivered are the caller's (MAT-3, MAT-8, MAT-13, MAT-14, MAT-17)."""
    scene = Scene(entropy=always(0xFFFE))
    wires = {query[:2]: scene.ask(query)[1] for query in map(octets, case["queries"])}
    responses = [octets(each) for each in case["responses"]]
    events = scene.receive(*(under(wires.get(each[:2], each), each) for each in responses))
    delivered = [int.from_bytes(each.message[:2]) for each in events if isinstance(each, ResponseReceived)]
    assert delivered == case["delivered"]
    assert len(events) - len(delivered) == case.get("discarded", 0)


ASKED = make_query("example.com", message_id=0x1234)
NAMED_255 = octets(next(case["wire"] for case in MALFORMED if case["id"] == "name-of-255"))

NOT_OURS = {
    "question-missing": DiscardReason.QUESTION_MISMATCH,
    "name-cut": DiscardReason.QUESTION_MISMATCH,
    "name-without-root": DiscardReason.QUESTION_MISMATCH,
    "qtype-cut": DiscardReason.QUESTION_MISMATCH,
    "label-type-01": DiscardReason.QUESTION_MISMATCH,
    "label-type-10": DiscardReason.QUESTION_MISMATCH,
    "pointer-to-itself": DiscardReason.QUESTION_MISMATCH,
    "pointer-forward": DiscardReason.QUESTION_MISMATCH,
    "pointer-loop-of-two": DiscardReason.QUESTION_MISMATCH,
    "pointer-cut": DiscardReason.QUESTION_MISMATCH,
    "pointer-into-header": DiscardReason.QUESTION_MISMATCH,
    "name-of-256": DiscardReason.QUESTION_MISMATCH,
    "two-questions": DiscardReason.QUESTION_MISMATCH,
    "opcode-6": DiscardReason.OPCODE_MISMATCH,
    "opcode-15": DiscardReason.OPCODE_MISMATCH,
}
"Whatever is wrong in header or question: it may be nobody's answer."


@pytest.mark.parametrize("case", MALFORMED, ids=by_id)
def test_a_malformed_response(case):
    """No crash (MAT-19); with id and question right it is delivered at once, and says what is wrong (MAT-21).

    Within TLS nobody but the server can have sent it, so that no better answer will come: waiting would only hide
    the server's fault behind a timeout.
    """
    wire_form = octets(case["wire"])
    asked = ASKED if case["id"] != "name-of-255" else message(question_of(NAMED_255))
    scene = Scene()
    handle, wire = scene.ask(asked)
    arrived = wire[:2] + bytes([wire_form[2] | 0x80]) + wire_form[3:]
    (event,) = scene.receive(arrived)
    if case["id"] in NOT_OURS:
        assert event == MessageDiscarded(message=arrived, reason=NOT_OURS[case["id"]], query=handle)
        assert outcome(scene.receive(response_to(wire))) == [handle]
    else:
        assert event == ResponseReceived(query=handle, message=under(asked, arrived), elapsed=0.0, more=False)
        assert (event.malformation is None) == (case["error"] is None)


# Names, types, classes


def test_any_case_of_ascii_is_the_same_name():
    """Also where servers normalise it; the response is delivered as the server wrote it (MAT-6, MAT-7)."""
    for asked, written in (("ExAmPlE.CoM", "example.com"), ("example.com", "EXAMPLE.COM"), ("a-z0.xY", "A-Z0.Xy")):
        scene = Scene()
        handle, wire = scene.ask(asked)
        reply = message(encode_name(written) + b"\0\1\0\1", id=int.from_bytes(wire[:2]), flags=QR)
        assert scene.receive(reply) == [
            ResponseReceived(query=handle, message=b"\xbe\xef" + reply[2:], elapsed=0.0, more=False)
        ]


OTHERS = {
    "type 65 (HTTPS) is not type 97": (b"\1a\0" + b"\x00\x41\x00\x01", b"\1a\0" + b"\x00\x61\x00\x01"),
    "type 97 is not type 65 (HTTPS)": (b"\1a\0" + b"\x00\x61\x00\x01", b"\1a\0" + b"\x00\x41\x00\x01"),
    "type 16705 is not type 24929": (b"\1a\0" + b"\x41\x41\x00\x01", b"\1a\0" + b"\x61\x61\x00\x01"),
    "class 65 is not class 97": (b"\1a\0" + b"\x00\x01\x00\x41", b"\1a\0" + b"\x00\x01\x00\x61"),
    "at is not backtick": (b"\1@\0" + b"\x00\x01\x00\x01", b"\1`\0" + b"\x00\x01\x00\x01"),
    "bracket is not brace": (b"\1[\0" + b"\x00\x01\x00\x01", b"\1{\0" + b"\x00\x01\x00\x01"),
    "longer": (b"\1a\0" + b"\x00\x01\x00\x01", b"\1a\1a\0" + b"\x00\x01\x00\x01"),
    "shorter": (b"\1a\1a\0" + b"\x00\x01\x00\x01", b"\1a\0" + b"\x00\x01\x00\x01"),
    "the root is not a name": (b"\0" + b"\x00\x01\x00\x01", b"\1a\0" + b"\x00\x01\x00\x01"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_is_another_question(case):
    """Folding case octet by octet would make some of these the same (MAT-5, MAT-6)."""
    asked, answered = OTHERS[case]
    scene = Scene()
    handle, wire = scene.ask(message(asked))
    arrived = message(answered, id=int.from_bytes(wire[:2]), flags=QR)
    assert scene.receive(arrived) == [
        MessageDiscarded(message=arrived, reason=DiscardReason.QUESTION_MISMATCH, query=handle)
    ]


@pytest.mark.parametrize("octet", range(256))
def test_every_octet_of_a_name(octet):
    """A letter is the same in two cases, and every other octet only itself (MAT-6)."""
    scene = Scene()
    handle, wire = scene.ask(message(b"\1" + bytes([octet]) + b"\0\0\1\0\1"))
    other = octet ^ 0x20
    arrived = message(b"\1" + bytes([other]) + b"\0\0\1\0\1", id=int.from_bytes(wire[:2]), flags=QR)
    (event,) = scene.receive(arrived)
    assert isinstance(event, ResponseReceived) == (chr(octet).isascii() and chr(octet).isalpha())
    assert event.query == handle


# Duplicates, unsolicited messages, late answers


def test_a_duplicate_answers_nothing_newer():
    """Not even the next query under the same id: its question is another (MAT-13)."""
    scene = Scene(entropy=always(7))
    first, wire = scene.ask("one.example")
    reply = response_to(wire)
    events = scene.receive(reply, reply)
    assert outcome(events) == [first, MessageDiscarded(message=reply, reason=DiscardReason.UNKNOWN_ID, query=None)]
    second, wire = scene.ask("two.example")
    assert wire[:2] == reply[:2]
    assert scene.receive(reply) == [
        MessageDiscarded(message=reply, reason=DiscardReason.QUESTION_MISMATCH, query=second)
    ]
    assert outcome(scene.receive(response_to(wire))) == [second]


def test_a_query_that_was_not_handed_out_cannot_be_answered():
    """A server that guesses the id answers nothing; the query still leaves, and its answer counts (MAT-14)."""
    scene = Scene(entropy=always(7))
    handle = scene.client.send_query(ASKED, now=scene.now)
    guess = response_to(ASKED, id=7)
    assert scene.receive(guess) == [MessageDiscarded(message=guess, reason=DiscardReason.UNKNOWN_ID, query=None)]
    (wire,) = scene.sent()
    assert outcome(scene.receive(response_to(wire))) == [handle]


def test_a_message_before_any_query():
    """Discarded, and the connection lives (MAT-14, DSO-1)."""
    scene = Scene()
    unsolicited, request = response_to(ASKED), message(id=0, flags=6 << 11)
    assert scene.receive(unsolicited, request) == [
        MessageDiscarded(message=unsolicited, reason=DiscardReason.UNKNOWN_ID, query=None),
        MessageDiscarded(message=request, reason=DiscardReason.NOT_A_RESPONSE, query=None),
    ]
    scene.ask()


@pytest.mark.parametrize("limit", [0, 1, 64])
def test_the_limit_on_unsolicited_messages(limit):
    """So many in a row are borne, one more ends the connection, and nothing behind it is read (MAT-14)."""
    scene = Scene(max_unsolicited=limit)
    handle, wire = scene.ask()
    unsolicited = response_to(wire, id=int.from_bytes(wire[:2]) ^ 1)
    thrown_away = MessageDiscarded(message=unsolicited, reason=DiscardReason.UNKNOWN_ID, query=None)
    assert scene.receive(*[unsolicited] * limit) == [thrown_away] * limit
    assert outcome(scene.receive(unsolicited, response_to(wire))) == [
        thrown_away,
        QueryLost(query=handle, safe_to_resend=True, was_sent=True),
        closed(Cause.PEER_FAULT, Fault.TOO_MANY_UNSOLICITED),
    ]


def test_an_answer_ends_the_row():
    """Unsolicited messages are counted from the last answer on (MAT-14)."""
    scene = Scene(max_unsolicited=2)
    for _ in range(5):
        handle, wire = scene.ask()
        unsolicited = response_to(wire, id=int.from_bytes(wire[:2]) ^ 0x8000)
        assert outcome(scene.receive(unsolicited, unsolicited, response_to(wire)))[2:] == [handle]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda wire: response_to(make_query("other.example"), id=int.from_bytes(wire[:2])),
        lambda wire: wire,
        lambda wire: wire[:2] + b"\xa8" + response_to(wire)[3:],
    ],
    ids=["question", "echo", "opcode"],
)
def test_every_mismatch_is_unsolicited(wrong):
    """A server that only ever says the wrong thing is left (MAT-8, MAT-11, MAT-12, MAT-14)."""
    scene = Scene(max_unsolicited=3)
    _, wire = scene.ask()
    events = scene.receive(*[wrong(wire)] * 9)
    assert outcome(events)[-1] == closed(Cause.PEER_FAULT, Fault.TOO_MANY_UNSOLICITED)
    assert sum(isinstance(event, MessageDiscarded) for event in events) == 4


def test_a_late_answer_harms_nobody():
    """One second late; the next four queries are answered as if nothing had been (MAT-15)."""
    scene = Scene()
    slow, late_wire = scene.ask("slow.example", timeout=0.3)
    scene.clock.advance(0.3)
    assert scene.tick() == [QueryTimedOut(query=slow, elapsed=pytest.approx(0.3))]
    asked = [scene.ask(f"n{number}.example") for number in range(4)]
    scene.clock.advance(0.7)
    late = response_to(late_wire)
    events = scene.receive(response_to(asked[0][1]), late, *(response_to(wire) for _, wire in asked[1:]))
    handles = [handle for handle, _ in asked]
    assert outcome(events) == [
        handles[0],
        MessageDiscarded(message=late, reason=DiscardReason.LATE, query=slow),
        *handles[1:],
    ]


def test_late_answers_are_not_unsolicited():
    """Any number of them: each was asked for (MAT-15)."""
    scene = Scene(max_unsolicited=0)
    asked = [scene.ask(f"n{number}.example", timeout=1.0) for number in range(5)]
    scene.clock.advance(1.0)
    scene.tick()
    events = scene.receive(*(response_to(wire) for _, wire in asked))
    assert [event.reason for event in events] == [DiscardReason.LATE] * 5
    scene.ask()


def test_a_wrong_answer_to_an_abandoned_query_leaves_its_id_taken():
    """Only the right one frees it (MAT-2, MAT-8)."""
    scene = Scene(entropy=always(7))
    handle, wire = scene.ask()
    scene.client.cancel(handle, now=scene.now)
    wrong = response_to(make_query("other.example"), id=7)
    assert scene.receive(wrong) == [
        MessageDiscarded(message=wrong, reason=DiscardReason.QUESTION_MISMATCH, query=handle)
    ]
    assert scene.ask("two.example")[1][:2] == b"\0\x08"
    assert scene.receive(response_to(wire))[0].reason is DiscardReason.LATE
    assert scene.ask("three.example")[1][:2] == b"\0\7"


def test_truncation_inside_tls_is_delivered_as_it_is():
    """TC=1 changes no transport: the answer is there, and nothing is asked again (MAT-20)."""
    scene = Scene()
    handle, wire = scene.ask()
    reply = response_to(wire, flags=TC)
    assert scene.receive(reply) == [
        ResponseReceived(query=handle, message=b"\xbe\xef" + reply[2:], elapsed=0.0, more=False)
    ]
    assert scene.sent() == []


def test_a_query_without_a_question():
    """Cookies alone (RFC 7873, section 5.4): answered by a response without a question, and by no other (MAT-10)."""
    scene = Scene()
    handle, wire = scene.ask(message(additionals=[opt(option(COOKIE, bytes(8)))]))
    wrong = response_to(ASKED, id=int.from_bytes(wire[:2]))
    assert scene.receive(wrong) == [
        MessageDiscarded(message=wrong, reason=DiscardReason.QUESTION_MISMATCH, query=handle)
    ]
    reply = message(id=int.from_bytes(wire[:2]), flags=QR, additionals=[opt(option(COOKIE, bytes(16)))])
    assert scene.receive(reply) == [
        ResponseReceived(query=handle, message=b"\0\0" + reply[2:], elapsed=0.0, more=False)
    ]


# Responses without a question


@pytest.mark.parametrize("rcode", [0, 3, 2, 5, 15])
@pytest.mark.parametrize("settings", [{}, NOTHING_ADDED], ids=["padding", "bare"])
def test_a_response_without_a_question_is_the_answer(settings, rcode):
    """FR-6: a large public resolver sends NXDOMAIN without it, and the id decides (RFC 7766, section 7; MAT-9)."""
    scene = Scene(max_unsolicited=0, **settings)
    handle, wire = scene.ask()
    reply = message(id=int.from_bytes(wire[:2]), flags=QR | rcode, authorities=[record(b"\0", SOA)])
    assert scene.receive(reply) == [
        ResponseReceived(query=handle, message=b"\xbe\xef" + reply[2:], elapsed=0.0, more=False)
    ]
    assert scene.client.pending == 0


def test_without_a_question_the_id_decides_between_queries():
    """FR-6: in any order, one among others that have their questions (MAT-3)."""
    scene = Scene()
    asked = [scene.ask(f"n{number}.example") for number in range(4)]
    replies = [message(id=int.from_bytes(wire[:2]), flags=QR | 3) for _, wire in asked]
    replies[1] = response_to(asked[1][1])
    assert outcome(scene.receive(*reversed(replies))) == [handle for handle, _ in reversed(asked)]


def test_a_late_response_without_a_question():
    """FR-6: it frees the id, and answers nobody; a second one is unknown (MAT-2, MAT-13, MAT-15)."""
    scene = Scene(entropy=always(7))
    _, wire = scene.ask(timeout=1.0)
    scene.clock.advance(1.0)
    scene.tick()
    bare = message(id=int.from_bytes(wire[:2]), flags=QR)
    other, other_wire = scene.ask("two.example")
    assert other_wire[:2] == b"\0\x08"
    assert [event.reason for event in scene.receive(bare, bare)] == [DiscardReason.LATE, DiscardReason.UNKNOWN_ID]
    assert scene.ask("three.example")[1][:2] == b"\0\7"
    assert outcome(scene.receive(response_to(other_wire))) == [other]


def test_a_guess_without_a_question_answers_nothing_unsent():
    """FR-6: not even where it guesses the id (MAT-14)."""
    scene = Scene(entropy=always(7))
    handle = scene.client.send_query(ASKED, now=scene.now)
    guess = message(id=7, flags=QR | 3)
    assert scene.receive(guess) == [MessageDiscarded(message=guess, reason=DiscardReason.UNKNOWN_ID, query=None)]
    (wire,) = scene.sent()
    assert outcome(scene.receive(response_to(wire))) == [handle]


def test_what_is_left_of_a_transfer_begins_no_other():
    """FR-6: its id is free since the caller took it for over; what still comes has no question (RFC 5936, 2.2.1)."""
    scene = Scene(entropy=always(7))
    transfer, wire = scene.ask(TRANSFER, multiple=True)
    first, rest = parts(wire, 2)
    scene.receive(first)
    scene.client.end_exchange(transfer, now=scene.now)
    second, wire = scene.ask(TRANSFER, multiple=True)
    assert wire[:2] == rest[:2]
    assert scene.receive(rest) == [MessageDiscarded(message=rest, reason=DiscardReason.QUESTION_MISSING, query=second)]
    assert outcome(scene.receive(first, rest)) == [second, second]


# Exchanges of several messages


TRANSFER = message(encode_name("example.com") + AXFR.to_bytes(2) + b"\0\1", id=0xBEEF)


def parts(wire: bytes, count: int) -> list[bytes]:
    """A transfer in so many messages: the first bears the question, the others none (RFC 5936, section 2.2.1)."""
    wire_id = int.from_bytes(wire[:2])
    rest = [message(id=wire_id, flags=QR | AA, answers=[record(b"\0", SOA)]) for _ in range(count - 1)]
    return [response_to(wire, record(kind=SOA), flags=AA), *rest]


def test_a_transfer_among_other_queries():
    """One id, several messages, other answers in between; the end is the caller's word (XOT-4, MAT-23)."""
    scene = Scene(entropy=always(7))
    transfer, wire = scene.ask(TRANSFER, multiple=True)
    other, other_wire = scene.ask("two.example")
    first, second, third = parts(wire, 3)
    events = scene.receive(first, second, response_to(other_wire), third)
    assert outcome(events) == [transfer, transfer, other, transfer]
    assert [event.more for event in events] == [True, True, False, True]
    assert {event.message[:2] for event in events} == {b"\xbe\xef"}
    assert scene.client.pending == 1
    assert scene.ask("three.example")[1][:2] == b"\0\x08"
    scene.client.end_exchange(transfer, now=scene.now)
    assert scene.client.pending == 1
    assert scene.ask("four.example")[1][:2] == b"\0\7"
    for handle in (transfer, other):
        with pytest.raises(LocalProtocolError, match="no exchange"):
            scene.client.end_exchange(handle, now=scene.now)


def test_only_an_exchange_can_be_ended():
    """A query with one answer ends by itself, or is cancelled."""
    scene = Scene()
    handle, wire = scene.ask()
    with pytest.raises(LocalProtocolError, match="no exchange"):
        scene.client.end_exchange(handle, now=scene.now)
    assert outcome(scene.receive(response_to(wire))) == [handle]


def test_an_exchange_that_has_not_begun_cannot_be_ended():
    """MAT-2, MAT-23: its id would be free while the server still owes an answer; cancelling keeps it taken."""
    scene = Scene(entropy=always(7))
    transfer, _ = scene.ask(TRANSFER, multiple=True)
    with pytest.raises(LocalProtocolError, match="begun"):
        scene.client.end_exchange(transfer, now=scene.now)
    assert scene.client.cancel(transfer, now=scene.now)
    assert scene.ask("two.example")[1][:2] == b"\0\x08"


def test_the_first_message_of_a_transfer_needs_its_question():
    """(MAT-9, MAT-10)."""
    scene = Scene()
    transfer, wire = scene.ask(TRANSFER, multiple=True)
    first, continuation = parts(wire, 2)
    assert scene.receive(continuation)[0].reason is DiscardReason.QUESTION_MISSING
    assert outcome(scene.receive(first, continuation)) == [transfer, transfer]


ERRORS = {
    "REFUSED": {"rcode": 5},
    "NXDOMAIN": {"rcode": 3},
    "BADVERS": {"additionals": [opt(rcode=1)]},
    "BADVERS behind an address that looks like OPT": {
        "additionals": [record(data=b"\0\0\x29\0"), opt(option(COOKIE, bytes(8)), rcode=1)]
    },
    "BADCOOKIE": {"rcode": 7, "additionals": [opt(rcode=1)]},
    "the highest": {"rcode": 15, "additionals": [opt(rcode=255)]},
}


@pytest.mark.parametrize("received", [0, 2])
@pytest.mark.parametrize("error", ERRORS)
def test_an_error_ends_a_transfer(error, received):
    """FR-66: with the first message or later, in 12 bits; the id is free at once (MAT-23; RFC 6891, 6.1.3)."""
    scene = Scene(entropy=always(7))
    transfer, wire = scene.ask(TRANSFER, multiple=True)
    scene.receive(*parts(wire, 2)[:received])
    refusal = response_to(wire, **ERRORS[error])
    (event,) = scene.receive(refusal)
    assert event == ResponseReceived(query=transfer, message=b"\xbe\xef" + refusal[2:], elapsed=0.0, more=False)
    assert scene.client.pending == 0
    assert scene.ask()[1][:2] == b"\0\7"


NO_ERRORS = {
    "OPT": [opt()],
    "an address that looks like OPT with an RCODE": [record(data=b"\0\0\x29\1"), record(data=b"\1\1\1\1"), opt()],
    "an option that does": [opt(option(COOKIE, b"\0\0\x29\1\1\1\1\1"))],
    "the same at the very end": [record(data=b"\0\0\0\x29")],
    "an OPT that cannot be read": [opt(rcode=1)[:-1]],
    "an OPT of another owner than the root": [b"\1\0" + opt(rcode=1)],
}


@pytest.mark.parametrize("additionals", NO_ERRORS)
def test_what_only_looks_like_an_error_ends_no_transfer(additionals):
    """FR-66: the upper bits are read from OPT and from nothing else."""
    scene = Scene()
    transfer, wire = scene.ask(TRANSFER, multiple=True)
    _, rest = parts(wire, 2)
    arrived = response_to(wire, additionals=NO_ERRORS[additionals])
    (event,) = scene.receive(arrived)
    assert (event.query, event.more, event.rcode) == (transfer, True, 0)
    assert outcome(scene.receive(rest)) == [transfer]


def test_each_message_of_a_transfer_renews_its_deadline():
    """A long transfer is no slow one; a stalled one times out."""
    scene = Scene()
    transfer, wire = scene.ask(TRANSFER, timeout=2.0, multiple=True)
    for part in parts(wire, 5):
        scene.clock.advance(1.5)
        assert scene.tick() == []
        assert outcome(scene.receive(part)) == [transfer]
    deadline = scene.now + 2.0
    events = []
    while not events:
        events = scene.wait()
    assert scene.now == deadline
    assert events == [QueryTimedOut(query=transfer, elapsed=9.5)]


@pytest.mark.parametrize("received", [0, 2])
def test_an_abandoned_transfer_harms_nobody(received):
    """Only closing the connection stops it (RFC 5936, section 4.1.1): what still comes is late, and not unsolicited.

    No message says that it is the last, so that the id stays taken (MAT-2, MAT-15, XOT-11).
    """
    scene = Scene(entropy=always(7), max_unsolicited=1)
    transfer, wire = scene.ask(TRANSFER, multiple=True)
    messages = parts(wire, 6)
    scene.receive(*messages[:received])
    assert scene.client.cancel(transfer, now=scene.now)
    late = [MessageDiscarded(message=each, reason=DiscardReason.LATE, query=transfer) for each in messages[received:]]
    assert scene.receive(*messages[received:]) == late
    other, other_wire = scene.ask()
    assert other_wire[:2] == b"\0\x08"
    assert outcome(scene.receive(response_to(other_wire))) == [other]


def test_a_transfer_cut_off_is_not_complete():
    """However much of it has come (XOT-11)."""
    scene = Scene()
    transfer, wire = scene.ask(TRANSFER, multiple=True)
    scene.receive(*parts(wire, 2))
    assert outcome(scene.client.receive_eof(now=scene.now)) == [
        QueryLost(query=transfer, safe_to_resend=True, was_sent=True),
        closed(Cause.PEER_CLOSED),
    ]


def test_the_end_of_an_exchange_is_the_last_thing_owed():
    """A graceful close waits for it, and for nothing else (CON-16)."""
    scene = Scene()
    transfer, wire = scene.ask(TRANSFER, multiple=True)
    scene.client.close(now=scene.now)
    assert outcome(scene.receive(*parts(wire, 2))) == [transfer, transfer]
    scene.client.end_exchange(transfer, now=scene.now)
    assert scene.client.next_timeout() == scene.now
    assert outcome(scene.tick()) == [closed(Cause.LOCAL_CLOSE)]


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_is_the_last_message_of_an_abandoned_transfer(error):
    """FR-66: it frees the id, as it would have ended the exchange (MAT-2, MAT-23)."""
    scene = Scene(entropy=always(7))
    transfer, wire = scene.ask(TRANSFER, timeout=1.0, multiple=True)
    scene.clock.advance(1.0)
    scene.tick()
    refusal = response_to(wire, **ERRORS[error])
    assert scene.receive(refusal) == [MessageDiscarded(message=refusal, reason=DiscardReason.LATE, query=transfer)]
    assert scene.ask()[1][:2] == b"\0\7"


# A crowd: nearly every id is taken


def test_each_way_in_which_an_id_becomes_free_in_a_crowd():
    """FR-69: answered, late, an error, the end of an exchange, never sent; what is free is given out, nothing twice."""
    scene = Scene(max_in_flight=65_536, entropy=seeded(69), **NOTHING_ADDED)
    crowd = [scene.client.send_query(ASKED, now=scene.now, timeout=60.0) for _ in range(65_530)]
    taken = {wire[:2] for wire in scene.sent()}
    assert len(taken) == 65_530
    for _ in range(20):
        free = {number.to_bytes(2) for number in range(65_536)} - taken
        (answered, one), (late, two), (refused, three), (begun, four) = (
            scene.ask(multiple=multiple) for multiple in (False, False, True, True)
        )
        assert {one[:2], two[:2], three[:2], four[:2]} < free
        scene.client.cancel(late, now=scene.now)
        events = scene.receive(response_to(one), response_to(two), response_to(three, rcode=5), response_to(four))
        assert [event.query for event in events] == [answered, late, refused, begun]
        scene.client.end_exchange(begun, now=scene.now)
        held = [scene.client.send_query(ASKED, now=scene.now) for _ in range(6)]
        assert not scene.client.accepts_queries
        for handle in held:
            scene.client.cancel(handle, now=scene.now)
        assert scene.client.capacity == 6
    last = [scene.ask()[1][:2] for _ in range(6)]
    assert {*last} | taken == {number.to_bytes(2) for number in range(65_536)}
    assert scene.client.pending == len(crowd) + 6
