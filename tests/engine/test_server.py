"""The server's side: queries in, responses out, what the engine answers by itself, and laws (SRV, MAT, FRM)."""

from __future__ import annotations

import math

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dot_proto import (
    Cause,
    ConnectionClosed,
    DiscardReason,
    Event,
    Fault,
    LocalProtocolError,
    MessageDiscarded,
    MessageError,
    QueryReceived,
    QueryRejected,
    RemoteProtocolError,
    ServerConfiguration,
    ServerConnection,
    State,
)
from dot_proto._message import walk
from support.messages import (
    COOKIE,
    QR,
    TC,
    TXT,
    cut_at,
    message,
    opt,
    option,
    pieces,
    question_of,
    record,
    response_to,
    stream_of,
)
from support.serving import ASKING, BARE, IDLE_LIMIT, NOW, PADDED, QUESTION, RESPONSE, WITH_OPT, Server, closed, has_opt
from support.vectors import load, octets


def by_id(case) -> str:
    return case["id"]


# Queries in, responses out.


def test_a_query_and_its_response():
    """The response goes out framed, under the query's id whatever its own was (SRV-1, FRM-1, FRM-2)."""
    server = Server()
    (event,) = server.receive(BARE)
    assert event == QueryReceived(query=0, message=BARE)
    assert server.engine.outstanding == 1
    assert server.answer(event.query, response_to(BARE, record(), id=0))
    assert server.engine.outstanding == 0
    assert server.engine.data_to_send() == [stream_of([response_to(BARE, record())])]
    assert server.engine.data_to_send() == []


def test_two_connections_share_nothing():
    """A response leaves on the connection that its query came on, also when the ids are the same (SRV-1)."""
    first, second = Server(), Server()
    (one,), (other,) = first.ask(BARE), second.ask(BARE)
    assert one == other
    first.answer(one, response_to(BARE))
    assert second.sent() == []
    assert first.sent() == [response_to(BARE)]
    assert second.engine.outstanding == 1


def test_responses_leave_in_the_order_in_which_they_are_ready():
    """Pipelined queries; the slow one holds up nobody (SRV-2)."""
    server = Server()
    slow, fast = message(QUESTION, id=1), message(QUESTION, id=2)
    one, two = server.ask(slow, fast)
    server.answer(two, response_to(fast))
    assert server.sent() == [response_to(fast)]
    server.answer(one, response_to(slow))
    assert server.sent() == [response_to(slow)]


def test_three_queries_and_the_end_of_the_stream_in_one_read():
    """All that was asked is answered, and then the connection ends (SRV-3, CON-12)."""
    server = Server()
    queries = [message(QUESTION, id=number) for number in range(3)]
    handles = server.ask(*queries)
    assert server.engine.receive_eof(now=NOW) == []
    assert server.engine.state is State.DRAINING
    assert server.engine.closing_for is Cause.PEER_FINISHED
    for handle, query in zip(handles, queries, strict=True):
        assert server.answer(handle, response_to(query))
    assert server.sent() == [response_to(query) for query in queries]
    assert server.engine.next_timeout() == NOW
    assert closed(server.timeout()) == (Cause.PEER_FINISHED, None)


def test_tcp_may_end_behind_close_notify():
    """A client that shuts down its side of TCP as well still gets its answers (SRV-3, CON-12)."""
    server = Server()
    (handle,) = server.ask(BARE)
    assert server.engine.receive_eof(now=NOW, orderly=True) == []
    assert server.engine.receive_eof(now=NOW, orderly=False) == []
    assert server.answer(handle, response_to(BARE))
    assert server.sent() == [response_to(BARE)]


def test_one_id_twice():
    """The client's fault, and yet both are answered: a handle tells them apart (SRV-4)."""
    case = next(case for case in load("matching")["sequences"] if case["id"] == "same-id-twice")
    first, second = map(octets, case["queries"])
    server = Server()
    one, two = server.ask(first, second)
    assert one != two
    server.answer(two, response_to(second))
    server.answer(one, response_to(first))
    assert server.sent() == [response_to(second), response_to(first)]


@pytest.mark.parametrize("opcode", range(16))
@pytest.mark.parametrize("query", [BARE, WITH_OPT])
def test_opcodes(query, opcode):
    """QUERY, NOTIFY and UPDATE reach the caller, all others get NOTIMP (SRV-9)."""
    (event,) = Server().receive(query[:2] + bytes([opcode << 3 | 1]) + query[3:])
    if opcode in (0, 4, 5):
        assert isinstance(event, QueryReceived)
    else:
        assert (event.rcode, event.explanation) == (4, f"opcode {opcode} is not implemented")


@pytest.mark.parametrize("opcode", [0, 4, 5])
def test_queries_notifies_and_updates_are_the_callers(opcode):
    """RFC 1996, RFC 2136; the response bears the opcode that its maker gave it."""
    server = Server()
    query = message(QUESTION, id=9, flags=opcode << 11)
    (handle,) = server.ask(query)
    server.answer(handle, response_to(query))
    assert server.sent()[0][2] >> 3 & 15 == opcode


def test_several_messages_answer_one_query():
    """A zone transfer: the query is outstanding until its last message (RFC 5936, section 2.2)."""
    server = Server()
    (handle,) = server.ask(BARE)
    for more in (True, True, False):
        assert server.engine.outstanding == 1
        assert server.answer(handle, response_to(BARE, record()), more=more)
    assert server.engine.outstanding == 0
    assert len(server.sent()) == 3


def test_a_query_that_is_not_answered():
    """decline() frees its place, says nothing, and the idle timer starts."""
    server = Server()
    (handle,) = server.ask(BARE)
    assert server.engine.next_timeout() is None
    server.clock.advance(5)
    server.engine.decline(handle, now=server.clock.now)
    assert server.engine.outstanding == 0
    assert server.sent() == []
    assert server.engine.next_timeout() == server.clock.now + IDLE_LIMIT
    with pytest.raises(LocalProtocolError, match="answered already"):
        server.engine.decline(handle, now=server.clock.now)


def test_responses_of_every_size():
    """65535 octets pass; the payload size in OPT is about UDP: nothing is cut at it (FRM-8, SRV-14, EDN-3)."""
    query = message(QUESTION, additionals=[opt(size=512)])
    for length in (0, 3000, 65_535 - 29 - 11 - 12):
        response = Server().exchange(query, record(kind=TXT, data=bytes(length)), additionals=[opt()])
        assert len(response) == 29 + 12 + length + 11
        assert not int.from_bytes(response[2:4]) & TC


# What the caller may not do.


def mistakes():
    long = bytes(65_536)
    return [
        ("too short", lambda server: server.answer(0, bytes(11)), "12 to 65535 octets, not 11"),
        ("too long", lambda server: server.answer(0, long), "12 to 65535 octets, not 65536"),
        ("a query", lambda server: server.answer(0, BARE), "QR is 0"),
        ("malformed", lambda server: server.answer(0, response_to(BARE) + b"\0"), "the response is malformed"),
        ("cut", lambda server: server.answer(0, response_to(BARE)[:-1]), "the response is malformed"),
        ("two questions", lambda server: server.answer(0, b"\0\0\x80\0\0\2" + bytes(6)), "2 questions"),
        ("unknown", lambda server: server.answer(3, RESPONSE), "3 is no handle"),
        ("negative", lambda server: server.answer(-1, RESPONSE), "-1 is no handle"),
        ("twice", lambda server: server.answer(1, RESPONSE), "query 1 has been answered already"),
        ("error twice", lambda server: server.engine.send_error(1, now=NOW), "query 1 has been answered already"),
        ("error unknown", lambda server: server.engine.send_error(9, now=NOW), "9 is no handle"),
        ("rcode", lambda server: server.engine.send_error(0, now=NOW, rcode=4096), "0 to 4095, not 4096"),
        ("rcode below", lambda server: server.engine.send_error(0, now=NOW, rcode=-1), "0 to 4095, not -1"),
        ("decline twice", lambda server: server.engine.decline(1, now=NOW), "query 1 has been answered already"),
        ("decline unknown", lambda server: server.engine.decline(9, now=NOW), "9 is no handle"),
        (
            "timeout",
            lambda server: server.engine.close(now=NOW, timeout=-1.0),
            "timeout must be a number of seconds, 0 or more, not -1.0",
        ),
        (
            "no number",
            lambda server: server.engine.close(now=NOW, timeout=math.nan),
            "timeout must be a number of seconds, 0 or more, not nan",
        ),
    ]


@pytest.mark.parametrize("draining", [False, True])
@pytest.mark.parametrize(("name", "mistake", "words"), mistakes(), ids=[name for name, *_ in mistakes()])
def test_a_mistake_of_the_callers_changes_nothing(name, mistake, words, draining):
    """Raised at the caller; afterwards all is as before (FRM-9, SRV-14, SRV-15, design promise 3)."""
    server = Server()
    one, two, _ = server.ask(PADDED, BARE, BARE)
    server.answer(two, RESPONSE)
    if draining:
        server.engine.close(now=NOW)
    before = server.seen()
    with pytest.raises(LocalProtocolError, match=words):
        mistake(server)
    assert server.seen() == before
    assert server.sent() == [RESPONSE]
    assert server.answer(one, RESPONSE)
    assert len(server.sent()) == 1


def test_a_malformed_response_is_a_message_error():
    """So that a server can answer SERVFAIL instead."""
    server = Server()
    (handle,) = server.ask(BARE)
    with pytest.raises(MessageError):
        server.answer(handle, RESPONSE + b"\0")
    assert server.engine.send_error(handle, now=NOW)


# What the engine answers by itself.


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("case", load("malformed")["cases"], ids=by_id)
def test_malformed_queries(case, chunked):
    """FORMERR, NOTIMP, BADVERS or silence, and the connection goes on (SRV-5, SRV-6, SRV-7, SRV-9, FRM-4, MAT-21)."""
    server = Server()
    wire = octets(case["wire"])
    chunks = pieces(stream_of([wire]), 1 if chunked else 70_000)
    (event,) = (event for chunk in chunks for event in server.engine.receive_data(chunk, now=NOW))
    sent = server.sent()
    if case["server"] == "ok":
        assert event == QueryReceived(query=0, message=wire)
        assert sent == []
    elif case["server"] == "drop":
        assert event == MessageDiscarded(message=wire, reason=DiscardReason.NOT_A_QUERY, query=None)
        assert sent == []
    else:
        assert isinstance(event, QueryRejected)
        assert event.message == wire
        assert event.explanation
        assert event.rcode == {"formerr": 1, "notimp": 4, "badvers": 16}[case["server"]]
        (reply,), least = sent, octets(case["server_reply"])
        assert walk(reply).problem is None
        assert reply[:4] == least[:4]
        assert question_of(reply) == question_of(least)
        assert has_opt(reply) == has_opt(least)
        parsed = dns.message.from_wire(reply)
        assert parsed.rcode() == event.rcode
        if has_opt(reply):
            assert (parsed.edns, parsed.ednsflags & 0xFFFF) == (0, 0)
    assert server.engine.state is State.OPEN
    assert server.ask(BARE)


@pytest.mark.parametrize("query", [BARE, WITH_OPT])
@pytest.mark.parametrize("flags", [0, 0x0100, 0x07FF])
def test_what_an_error_copies(query, flags):
    """Id, opcode, RD and question; none of the other flags, and no record (SRV-6, SRV-9)."""
    server = Server()
    query = query[:2] + (0x7800 | flags).to_bytes(2) + query[4:]
    (event,) = server.receive(query)
    assert (event.rcode, event.explanation) == (4, "opcode 15 is not implemented")
    (reply,) = server.sent()
    assert reply == message(
        QUESTION,
        id=0x1234,
        flags=QR | 0x7800 | flags & 0x0110 | 4,
        additionals=[opt()] if has_opt(query) else [],
    )


@pytest.mark.parametrize("rcode", [0, 1, 2, 5, 15, 16, 23, 4095])
def test_errors_of_the_callers(rcode):
    """Twelve bits with OPT, four without: what cannot be said is SERVFAIL (EDN-2; RFC 6891, section 6.1.3)."""
    for query, due in ((WITH_OPT, rcode), (BARE, rcode if rcode < 16 else 2)):
        server = Server()
        (handle,) = server.ask(query)
        assert server.engine.send_error(handle, now=NOW, rcode=rcode)
        (reply,) = server.sent()
        seen = dns.message.from_wire(reply)
        assert seen.rcode() == due
        assert question_of(reply) == QUESTION
        assert server.engine.outstanding == 0


def test_an_error_is_servfail_unless_said():
    """RFC 1035, section 4.1.1."""
    server = Server()
    (handle,) = server.ask(BARE)
    assert server.engine.send_error(handle, now=NOW)
    assert server.sent() == [response_to(BARE, rcode=2)]


def test_other_opcodes_may_be_wanted():
    """And those that are not get NOTIMP (SRV-9)."""
    server = Server(opcodes=frozenset({0, 6}))
    assert server.ask(message(QUESTION, flags=6 << 11))
    (event,) = server.receive(message(QUESTION, flags=5 << 11))
    assert event.rcode == 4


def test_dso_is_not_implemented():
    """Its body is not looked at (SRV-9; RFC 8490, section 5.1.1)."""
    (event,) = Server().receive(bytes.fromhex("1234300000000000000000000001000800003a9800003a98"))
    assert event.rcode == 4


def test_a_query_for_a_cookie_alone():
    """No question, and an answer is due nevertheless (MAT-10; RFC 7873, section 5.4; EDN-7)."""
    query = message(additionals=[opt(option(COOKIE, bytes(range(8))))])
    cookie = option(COOKIE, bytes(range(16)))
    response = Server().exchange(query, additionals=[opt(cookie)])
    assert response == response_to(query, additionals=[opt(cookie)])


def test_no_response_is_ever_answered():
    """QR=1: dropped, counted, and no loop can form (SRV-5)."""
    server = Server()
    for _ in range(3):
        assert server.receive(RESPONSE) == [
            MessageDiscarded(message=RESPONSE, reason=DiscardReason.NOT_A_QUERY, query=None)
        ]
    assert server.sent() == []
    assert server.engine.state is State.OPEN


# Laws.


@given(st.lists(st.binary(max_size=40)), st.booleans())
def test_any_octets_end_in_one_end_at_the_most(chunks, orderly):
    """Nothing raises for what a peer sends (design promise 3, FRM-3)."""
    server = Server()
    events = [event for chunk in chunks for event in server.engine.receive_data(chunk, now=NOW)]
    events += server.engine.receive_eof(now=NOW, orderly=orderly)
    ends = [event for event in events if isinstance(event, ConnectionClosed)]
    assert len(ends) == (server.engine.state is State.CLOSED)
    assert not ends or events[-1] is ends[0]


streams = st.lists(
    st.sampled_from([BARE, PADDED, ASKING, RESPONSE, BARE + b"\0", message(), message(QUESTION, flags=0x7800)])
    | st.binary(min_size=12, max_size=40)
    | st.binary(max_size=11),
    max_size=8,
)


@given(streams, st.lists(st.integers(0, 600), max_size=8))
def test_events_and_replies_do_not_depend_on_the_cuts(messages, offsets):
    """FRM-3: the same octets, the same events, the same octets out (design promise 8)."""
    stream = stream_of(messages)
    whole, cut = Server(max_unsolicited=2), Server(max_unsolicited=2)
    events = whole.engine.receive_data(stream, now=NOW)
    pieced = [event for chunk in cut_at(stream, offsets) for event in cut.engine.receive_data(chunk, now=NOW)]
    assert [*map(described, pieced)] == [*map(described, events)]
    assert cut.sent() == whole.sent()
    assert cut.seen() == whole.seen()


def described(event: Event) -> object:
    """An event in a form that compares: two errors never do."""
    return (event.cause, event.error and event.error.fault) if isinstance(event, ConnectionClosed) else event


actions = st.one_of(
    st.tuples(st.just("receive"), st.sampled_from([BARE, PADDED, ASKING, RESPONSE, BARE + b"\0"])),
    st.tuples(st.just("answer"), st.integers(0, 5)),
    st.tuples(st.just("decline"), st.integers(0, 5)),
    st.tuples(st.just("close"), st.sampled_from([0.0, 1.0, 5.0])),
    st.tuples(st.just("eof"), st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.5, 4.0, 13.0])),
    st.tuples(st.just("octets"), st.sampled_from([b"\0", b"\0\x1d", b""])),
)


@given(
    st.lists(actions, max_size=30),
    st.fixed_dictionaries(
        {
            "max_queries": st.sampled_from([None, 3]),
            "max_duration": st.sampled_from([None, 8.0]),
            "close_timeout": st.sampled_from([0.0, 2.0]),
            "max_unsolicited": st.just(2),
            "idle_timeout": st.sampled_from([0.0, 3.0]),
            "idle_grace": st.sampled_from([0.0, 1.0]),
        }
    ),
)
def test_whatever_happens(steps, configuration):
    """One end, nothing after it; each answer sent once; handle_timeout leaves no deadline that has come."""
    server = Server(**configuration)
    events: list[Event] = []
    asked = answered = 0
    for action, argument in steps:
        state = server.engine.state
        match action:
            case "receive":
                events += server.receive(argument)
            case "octets":
                events += server.engine.receive_data(argument, now=server.clock.now)
            case "answer" | "decline":
                open_before = server.engine.outstanding
                try:
                    if action == "answer":
                        answered += server.answer(argument, RESPONSE)
                    else:
                        server.engine.decline(argument, now=server.clock.now)
                except LocalProtocolError:
                    assert server.engine.outstanding == open_before
            case "close":
                server.engine.close(now=server.clock.now, timeout=argument)
            case "eof":
                events += server.engine.receive_eof(now=server.clock.now, orderly=argument)
            case "wait":
                server.clock.advance(argument)
                events += server.timeout()
                deadline = server.engine.next_timeout()
                assert deadline is None or deadline > server.clock.now
        server.assert_spurious()
        asked = sum(isinstance(event, QueryReceived) for event in events)
        assert 0 <= server.engine.outstanding <= asked
        assert server.engine.state.value >= state.value
        ends = [event for event in events if isinstance(event, ConnectionClosed)]
        assert len(ends) <= 1
        assert not ends or (events[-1] is ends[0] and server.engine.state is State.CLOSED)
        if server.engine.state is State.CLOSED:
            assert server.engine.outstanding == 0
    replies = server.sent()
    rejected = sum(isinstance(event, QueryRejected) for event in events)
    assert len(replies) <= answered + rejected
    assert answered <= asked


def test_without_a_configuration():
    """The defaults."""
    assert ServerConnection(now=NOW).configuration == ServerConfiguration()


def test_octets_that_wait_to_be_sent_are_counted() -> None:
    """FR-29: with their length prefixes, until they are handed out, or dropped because the client is gone."""
    server = Server()
    assert server.engine.octets_to_send == 0
    for handle in server.ask(BARE, PADDED):
        server.answer(handle, RESPONSE)
    waiting = server.engine.octets_to_send
    assert waiting == sum(map(len, server.engine.data_to_send())) > 468
    assert server.engine.octets_to_send == 0
    server.ask(BARE)
    server.engine.send_error(2, now=server.clock.now)
    assert server.engine.octets_to_send
    server.engine.fail(RemoteProtocolError("TLS failed", Fault.TLS), now=server.clock.now)
    assert (server.engine.octets_to_send, server.engine.data_to_send()) == (0, [])
