"""What EDNS says to a client: how long it may stay, and what it may ignore (KAL-1 to KAL-13, EDN-1 to EDN-6)."""

from __future__ import annotations

import itertools

import pytest

from dot_proto import (
    Cause,
    DiscardReason,
    KeepaliveReceived,
    LocalProtocolError,
    MessageError,
    QueryTimedOut,
    ResponseReceived,
    State,
    make_query,
)
from support.messages import (
    COOKIE,
    EDE,
    KEEPALIVE,
    PADDING,
    QR,
    TSIG,
    TXT,
    just_before,
    message,
    opt,
    option,
    question_of,
    record,
    response_to,
)
from support.scenes import Scene, always, closed, outcome
from support.vectors import load, octets

SERVERS_WORDS = [
    case for case in load("keepalive")["cases"] if case["sender"] == "server" and case["transport"] == "tls"
]

QUERY = make_query("example.com", message_id=0xBEEF)


def by_id(case) -> str:
    return case["id"]


def saying(wire: bytes, *options: bytes) -> bytes:
    """The response to a query, with these options."""
    return response_to(wire, additionals=[opt(*options)])


def timeout_of(tenths: int) -> bytes:
    return option(KEEPALIVE, tenths.to_bytes(2))


def margin(seconds: float) -> float:
    """How long before the server's time is up the client goes: 10 %, and 1 s at the most (KAL-4)."""
    return min(1.0, seconds / 10)


@pytest.mark.parametrize("case", SERVERS_WORDS, ids=by_id)
def test_vectors(case):
    """Every word of a server's, and when the client closes for it (KAL-3 to KAL-5, KAL-9, KAL-13)."""
    scene = Scene(idle_timeout=7.0, max_idle_timeout=300.0)
    handle, wire = scene.ask(QUERY)
    reply = octets(case["message"])
    answer, *rest = scene.receive(wire[:2] + reply[2:])
    assert answer == ResponseReceived(query=handle, message=QUERY[:2] + reply[2:], elapsed=0.0, more=False)
    if case["outcome"] == "close-soon":
        assert outcome(rest) == [KeepaliveReceived(timeout=0.0), closed(Cause.GO_AWAY)]
        return
    if case["outcome"] == "set":
        seconds = min(case["seconds"], 300.0)
        expected = seconds - margin(seconds)
    else:
        assert case["outcome"] == "ignore"
        expected = 7.0
    assert rest == [KeepaliveReceived(timeout=case["seconds"])]
    assert scene.client.next_timeout() == pytest.approx(scene.now + expected, abs=1e-6)
    assert outcome(scene.wait()) == [closed(Cause.IDLE)]


def test_a_clients_option_is_empty():
    """And is in each query, so that the server can say something new at any time (KAL-1, KAL-10)."""
    scene = Scene()
    for _ in range(2):
        _, wire = scene.ask()
        end = 12 + len(question_of(wire))
        assert wire[end + 11 :].startswith(bytes.fromhex("000b0000"))


def test_the_latest_word_counts():
    """10 s, then 3 s: the client goes before the 3 s after its last answer are over (KAL-4)."""
    scene = Scene()
    for tenths in (100, 30):
        _, wire = scene.ask()
        scene.clock.advance(0.5)
        assert scene.receive(saying(wire, timeout_of(tenths)))[1:] == [KeepaliveReceived(timeout=tenths / 10)]
    due = scene.client.next_timeout()
    assert due == pytest.approx(scene.now + 2.7)
    assert scene.client.handle_timeout(now=just_before(due)) == []
    assert outcome(scene.client.handle_timeout(now=due)) == [closed(Cause.IDLE)]


@pytest.mark.parametrize(("tenths", "seconds"), [(1, 0.09), (50, 4.5), (100, 9.0), (200, 19.0), (2999, 298.9)])
def test_the_client_goes_first(tenths, seconds):
    """Before the timeout expires (RFC 7828, section 3.2.2), by 10 % or by a second (KAL-4)."""
    scene = Scene()
    _, wire = scene.ask()
    scene.receive(saying(wire, timeout_of(tenths)))
    assert scene.client.next_timeout() == pytest.approx(scene.now + seconds)


def test_a_word_that_is_repeated_is_no_news():
    """One event for each change; the timer runs from the last answer all the same."""
    scene = Scene()
    _, wire = scene.ask()
    assert len(scene.receive(saying(wire, timeout_of(100)))) == 2
    _, wire = scene.ask()
    scene.clock.advance(2.0)
    assert len(scene.receive(saying(wire, timeout_of(100)))) == 1
    assert scene.client.next_timeout() == scene.now + 9.0


def test_a_word_with_answers_still_owed():
    """Is honoured when the last of them is in: nothing is idle before (KAL-4, CON-5)."""
    scene = Scene()
    _, first = scene.ask(timeout=60.0)
    _, second = scene.ask(timeout=60.0)
    deadline = scene.now + 60.0
    scene.receive(saying(first, timeout_of(30)))
    assert scene.client.next_timeout() == deadline
    scene.clock.advance(10.0)
    scene.receive(saying(second, timeout_of(30)))
    assert scene.client.next_timeout() == pytest.approx(scene.now + 2.7)


def test_zero_means_ask_nothing_more():
    """What is owed is still delivered, what is held still leaves, a new query is refused (KAL-5)."""
    scene = Scene()
    first, wire = scene.ask()
    second = scene.client.send_query(QUERY, now=scene.now, timeout=4.0)
    assert outcome(scene.receive(saying(wire, timeout_of(0)))) == [first, KeepaliveReceived(timeout=0.0)]
    assert scene.client.state is State.DRAINING
    assert scene.client.closing_for is Cause.GO_AWAY
    with pytest.raises(LocalProtocolError, match="draining"):
        scene.client.send_query(QUERY, now=scene.now)
    (other,) = scene.sent()
    assert outcome(scene.receive(saying(other, timeout_of(100)))) == [
        second,
        KeepaliveReceived(timeout=10.0),
        closed(Cause.GO_AWAY),
    ]


def test_zero_waits_for_no_answer_longer_than_its_query_does():
    """The deadline of the last query is the connection's (KAL-5)."""
    scene = Scene(close_timeout=1.0)
    _, wire = scene.ask()
    other, _ = scene.ask(timeout=4.0)
    scene.receive(saying(wire, timeout_of(0)))
    due = scene.now + 4.0
    assert scene.client.next_timeout() == due
    assert outcome(scene.client.handle_timeout(now=due)) == [
        QueryTimedOut(query=other, elapsed=4.0),
        closed(Cause.GO_AWAY),
    ]


def test_the_first_reason_to_go_is_the_one_reported():
    """Zero, and then the caller closes too; the close bounds the wait (KAL-5, CON-16)."""
    scene = Scene(close_timeout=1.0)
    _, wire = scene.ask()
    last, other = scene.ask()
    scene.receive(saying(wire, timeout_of(0)))
    scene.client.close(now=scene.now)
    assert scene.client.next_timeout() == scene.now + 1.0
    assert scene.client.closing_for is Cause.GO_AWAY
    assert outcome(scene.receive(saying(other, timeout_of(100)))) == [
        last,
        KeepaliveReceived(timeout=10.0),
        closed(Cause.GO_AWAY),
    ]


def test_a_close_stays_a_close_when_the_server_wants_to_go_too():
    """The other way round: first the caller, then zero (KAL-5, CON-16)."""
    scene = Scene()
    _, wire = scene.ask()
    last, other = scene.ask()
    scene.client.close(now=scene.now)
    scene.receive(saying(wire, timeout_of(0)))
    assert scene.client.closing_for is Cause.LOCAL_CLOSE
    assert outcome(scene.receive(saying(other, timeout_of(0)))) == [last, closed(Cause.LOCAL_CLOSE)]


def test_zero_within_a_transfer():
    """Finish it, start nothing new (XOT-7, XOT-13)."""
    scene = Scene()
    transfer, wire = scene.ask(make_query("example.com", "AXFR"), multiple=True)
    assert outcome(scene.receive(saying(wire), saying(wire, timeout_of(0)), saying(wire))) == [
        transfer,
        transfer,
        KeepaliveReceived(timeout=0.0),
        transfer,
        KeepaliveReceived(timeout=None),
    ]
    assert scene.client.state is State.DRAINING
    scene.client.end_exchange(transfer, now=scene.now)
    assert outcome(scene.tick()) == [closed(Cause.GO_AWAY)]


@pytest.mark.parametrize("silent", [response_to, saying], ids=["no-opt", "no-option"])
def test_an_answer_without_the_option_takes_the_word_back(silent):
    """The client's own limit holds again (KAL-6, EDN-4)."""
    scene = Scene(idle_timeout=5.0)
    _, wire = scene.ask()
    scene.receive(saying(wire, timeout_of(100)))
    handle, wire = scene.ask()
    assert outcome(scene.receive(silent(wire))) == [handle, KeepaliveReceived(timeout=None)]
    assert scene.client.next_timeout() == scene.now + 5.0
    handle, wire = scene.ask()
    assert outcome(scene.receive(silent(wire))) == [handle]


def test_an_answer_to_a_query_without_the_option_need_not_state_anything():
    """A signed query could not carry ours: its answer's silence means nothing (KAL-6)."""
    signed = message(question_of(QUERY), additionals=[opt(), record(b"\0", TSIG, bytes(30), rdclass=255)])
    scene = Scene()
    _, wire = scene.ask()
    scene.receive(saying(wire, timeout_of(100)))
    handle, wire = scene.ask(signed)
    assert outcome(scene.receive(saying(wire))) == [handle]
    assert scene.client.next_timeout() == scene.now + 9.0


@pytest.mark.parametrize("units", [0, 30])
def test_whoever_receives_the_option_obeys_it(units):
    """FR-64: also where the query did not carry it (RFC 7828, sections 3.2.2 and 3.3.2), first or later."""
    for first in ((), (timeout_of(100),)):
        scene = Scene(keepalive=False, padding_block=None)
        for options in (first, (timeout_of(units),)):
            handle, wire = scene.ask(message(question_of(QUERY), additionals=[opt()]))
            news = [KeepaliveReceived(timeout=10.0)] if options == first else [KeepaliveReceived(timeout=units / 10)]
            end = [] if units or options == first else [closed(Cause.GO_AWAY)]
            assert outcome(scene.receive(saying(wire, *options))) == [handle, *(news if options else []), *end]
        if units:
            assert scene.client.next_timeout() == pytest.approx(scene.now + 2.7)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("keepalive", [False, True])
def test_who_asked_for_it_does_not_matter(own, keepalive):
    """The caller's own option, ours, or none (KAL-6)."""
    query = message(question_of(QUERY), additionals=[opt(*([option(KEEPALIVE)] * own))])
    scene = Scene(idle_timeout=5.0, keepalive=keepalive, padding_block=None)
    _, wire = scene.ask(query)
    scene.receive(saying(wire, timeout_of(100)))
    assert scene.client.next_timeout() == scene.now + 9.0


HEAD = b"\x00\x0b\x00\x02"


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("known", [None, 100])
@pytest.mark.parametrize("stated", [None, 0, 30, 100])
@pytest.mark.parametrize("decoys", [[], [100], [100, 100], [0], [30, 0], [b"\x00\x0b"], [b"\x00\x0b\x00"]])
def test_the_timeout_is_read_from_opt_and_from_nothing_else(asks, known, stated, decoys):
    """FR-4: whatever the records before OPT hold, the option's own octets with any value among it."""
    scene = Scene(keepalive=asks)
    if known is not None:
        _, wire = scene.ask()
        scene.receive(saying(wire, timeout_of(known)))
    handle, wire = scene.ask()
    texts = [one if isinstance(one, bytes) else HEAD + one.to_bytes(2) for one in decoys]
    answers = [record(b"\xc0\x0c", TXT, bytes([len(text)]) + text) for text in texts]
    last = opt(*([] if stated is None else [timeout_of(stated)]))
    response = response_to(wire, *answers, additionals=[last])
    # A record that holds the last word once hides that the server did not repeat it: the word stays, no other comes.
    is_hidden = stated is None and decoys == [known]
    # Nor does it mean anything that a server which was not asked states nothing.
    is_news = stated != known and not is_hidden and (asks or stated is not None)
    news = [KeepaliveReceived(timeout=None if stated is None else stated / 10)] * is_news
    end = [closed(Cause.GO_AWAY)] if stated == 0 else []
    assert outcome(scene.receive(response)) == [handle, *news, *end]


def test_a_query_too_long_for_the_option_did_not_ask():
    """Near 65535 octets there is no room for an OPT of ours; what the answer states counts all the same (PAD-13)."""
    start = message(question_of(QUERY), additionals=[record(data=b"")])
    longest = message(question_of(QUERY), additionals=[record(data=bytes(65_535 - len(start)))])
    scene = Scene(idle_timeout=5.0)
    handle, wire = scene.ask(longest)
    assert wire[2:] == longest[2:]
    assert outcome(scene.receive(saying(wire, timeout_of(100)))) == [handle, KeepaliveReceived(timeout=10.0)]
    assert scene.client.next_timeout() == scene.now + 9.0


@pytest.mark.parametrize("data", [b"", b"\x64", b"\x00\x64\x00"])
def test_a_badly_formed_option_is_ignored_and_reported_once(data):
    """The answer is kept, and so is the server's earlier word (KAL-9)."""
    scene = Scene()
    handle, wire = scene.ask()
    scene.receive(saying(wire, timeout_of(200)))
    for news in ([KeepaliveReceived(timeout=None)], []):
        handle, wire = scene.ask()
        assert outcome(scene.receive(saying(wire, option(KEEPALIVE, data)))) == [handle, *news]
        assert scene.client.next_timeout() == scene.now + 19.0


TWO = {
    "two": ([timeout_of(100), timeout_of(30)], 3.0),
    "two that say the same": ([timeout_of(30), timeout_of(30)], 3.0),
    "one of them to go": ([timeout_of(0), timeout_of(100)], 0.0),
    "one too long": ([timeout_of(30), option(KEEPALIVE, bytes(3))], 3.0),
    "one too short": ([timeout_of(30), option(KEEPALIVE, b"\x01")], 3.0),
    "one empty": ([timeout_of(30), option(KEEPALIVE)], 3.0),
    "behind two Paddings": ([timeout_of(30), option(PADDING, b"\x0b"), option(PADDING)], 3.0),
    "both odd": ([option(KEEPALIVE), option(KEEPALIVE, bytes(3))], None),
}


@pytest.mark.parametrize("known", [None, 30, 200])
@pytest.mark.parametrize("others", [[], [option(EDE, b"\0\x0b\0\x0b\0\2")], [option(65_001, b"\x0b")]])
@pytest.mark.parametrize("options", TWO)
def test_an_odd_option_hides_no_other(options, others, known):
    """FR-73: whatever stands beside it, and in whatever order, the client does the same (KAL-4, KAL-9)."""
    stated, due = TWO[options]
    for order in itertools.permutations([*stated, *others]):
        scene = Scene(idle_timeout=7.0)
        if known is not None:
            scene.receive(saying(scene.ask()[1], timeout_of(known)))
        handle, wire = scene.ask()
        news = [KeepaliveReceived(timeout=due)] * (due is None or known is None or due != known / 10)
        end = [closed(Cause.GO_AWAY)] if due == 0.0 else []
        assert outcome(scene.receive(saying(wire, *order))) == [handle, *news, *end]
        if not end:
            seconds = due if due is not None else None if known is None else known / 10
            expected = 7.0 if seconds is None else seconds - margin(seconds)
            assert scene.client.next_timeout() == pytest.approx(scene.now + expected)


@pytest.mark.parametrize("odd", [option(PADDING) * 2, option(KEEPALIVE, timeout_of(1)[4:])])
@pytest.mark.parametrize("settings", [{}, {"padding_block": None, "keepalive": False}])
def test_an_odd_option_of_the_callers(odd, settings):
    """FR-73: the server would refuse it, and so does the engine, whatever it adds itself."""
    scene = Scene(**settings)
    for options in ([odd, option(65_001)], [option(65_001), odd]):
        with pytest.raises(MessageError, match="the query is malformed"):
            scene.ask(message(question_of(QUERY), additionals=[opt(*options)]))
    assert scene.client.pending == 0


@pytest.mark.parametrize("cap", [0.0, 60.0])
def test_a_huge_timeout_is_capped(cap):
    """By local policy (KAL-13); the event says what the server said."""
    scene = Scene(max_idle_timeout=cap)
    _, wire = scene.ask()
    assert scene.receive(saying(wire, timeout_of(65_535)))[1:] == [KeepaliveReceived(timeout=6553.5)]
    assert scene.client.next_timeout() == scene.now + cap - margin(cap)


def test_the_octets_of_the_option_elsewhere_are_no_option():
    """An address of 0.11.0.2 in an answer is no timeout."""
    scene = Scene(idle_timeout=5.0)
    handle, wire = scene.ask()
    assert outcome(scene.receive(response_to(wire, record(data=b"\0\x0b\0\2")))) == [handle]
    assert scene.client.next_timeout() == scene.now + 5.0


def test_an_option_in_what_is_unsolicited_is_not_believed():
    """It answers nothing that was asked."""
    scene = Scene(idle_timeout=5.0)
    _, wire = scene.ask()
    assert len(scene.receive(response_to(wire))) == 1
    unsolicited = saying(wire[:1] + bytes([wire[1] ^ 1]) + wire[2:], timeout_of(0))
    assert len(scene.receive(saying(wire, timeout_of(0)), unsolicited)) == 2
    assert scene.client.state is State.OPEN
    assert scene.client.next_timeout() == scene.now + 5.0


def test_a_late_answer_says_how_long_the_server_waits():
    """FR-64: whoever receives the option honours it (RFC 7828, section 3.2.2); the idle time has begun before it."""
    scene = Scene(idle_timeout=5.0)
    queries = [scene.ask() for _ in range(3)]
    for handle, _ in queries:
        scene.client.cancel(handle, now=scene.now)
    began = scene.now
    scene.clock.advance(1.0)
    late, stated = scene.receive(saying(queries[0][1], timeout_of(200)))
    assert (late.reason, stated) == (DiscardReason.LATE, KeepaliveReceived(20.0))
    assert scene.client.next_timeout() == began + 20.0 - margin(20.0)
    assert len(scene.receive(saying(queries[1][1], timeout_of(200)))) == 1
    scene.clock.advance(1.0)
    assert scene.receive(saying(queries[2][1]))[1:] == [KeepaliveReceived(None)]
    assert scene.client.next_timeout() == began + 5.0


@pytest.mark.parametrize("is_pending", [False, True])
def test_a_late_answer_may_be_the_last_call(is_pending):
    """FR-64: no more queries from there on, and the end when those that are pending have their fates (KAL-5)."""
    scene = Scene()
    given_up, wire = scene.ask()
    scene.client.cancel(given_up, now=scene.now)
    pending = [scene.ask("b.example")] if is_pending else []
    late, stated, *end = scene.receive(saying(wire, timeout_of(0)))
    assert (late.reason, stated) == (DiscardReason.LATE, KeepaliveReceived(0.0))
    assert not scene.client.is_open
    if is_pending:
        assert end == []
        end = scene.receive(response_to(pending[0][1]))[1:]
    assert outcome(end) in ([closed(Cause.GO_AWAY)], [KeepaliveReceived(None), closed(Cause.GO_AWAY)])


def test_what_a_late_answer_says_counts_for_those_behind_it():
    """FR-64: in one read: the same value as before it is news again."""
    scene = Scene()
    (_, first), (given_up, second), (_, third) = scene.ask(), scene.ask("b.example"), scene.ask("c.example")
    scene.client.cancel(given_up, now=scene.now)
    events = scene.receive(
        *(saying(wire, timeout_of(tenths)) for wire, tenths in ((first, 50), (second, 70), (third, 50)))
    )
    assert [event.timeout for event in events if isinstance(event, KeepaliveReceived)] == [5.0, 7.0, 5.0]


ODDITIES = {
    "flags": opt(flags=0x7FFF),
    "version": opt(version=1),
    "payload size": opt(size=0),
    "unknown option": opt(option(65_001, b"?")),
    "any order": opt(option(PADDING, b"\xff" * 9), option(COOKIE, bytes(24)), option(65_001)),
    "extended errors": opt(
        option(EDE, b"\0\x15not supported\0"), option(EDE, b"\0\x16\xff\xfe"), option(EDE, b"\0\x17")
    ),
    "cut extended errors": opt(option(EDE), option(EDE, b"\0")),
}


@pytest.mark.parametrize("oddity", ODDITIES)
def test_what_a_client_ignores(oddity):
    """The answer stands whatever else is in its OPT (EDN-1, EDN-6, PAD-6)."""
    scene = Scene()
    handle, wire = scene.ask()
    reply = response_to(wire, record(), additionals=[ODDITIES[oddity]])
    (event,) = scene.receive(reply)
    assert event == ResponseReceived(query=handle, message=b"\xbe\xef" + reply[2:], elapsed=0.0, more=False)
    assert event.malformation is None


@pytest.mark.parametrize("rcode", range(0, 4096, 37))
def test_an_rcode_has_twelve_bits(rcode):
    """FR-66: of a response without a question too, which its id makes an answer (EDN-2, MAT-9)."""
    scene = Scene()
    handle, wire = scene.ask()
    additionals = [opt(rcode=rcode >> 4)]
    reply = message(id=int.from_bytes(wire[:2]), flags=QR | rcode & 15, additionals=additionals)
    (event,) = scene.receive(reply)
    assert isinstance(event, ResponseReceived)
    assert (event.query, event.rcode) == (handle, rcode)


@pytest.mark.parametrize("additional", [[], [opt()]], ids=["none", "unasked"])
def test_opt_need_not_be_mirrored(additional):
    """An answer without OPT to a query with one, and one with OPT to a query without (EDN-4)."""
    for settings, query in (({}, QUERY), ({"padding_block": None, "keepalive": False}, message(question_of(QUERY)))):
        scene = Scene(entropy=always(7), **settings)
        handle, wire = scene.ask(query)
        assert outcome(scene.receive(response_to(wire, additionals=additional))) == [handle]
