"""OPT, padding, keepalive and extended errors in the server's responses (PAD, KAL, EDN; SRV-8, SRV-16, SRV-21)."""

from __future__ import annotations

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dot_proto import MessageDiscarded, MessageError, QueryReceived, QueryRejected, ServerConnection, make_query
from dot_proto._message import walk
from dot_proto._plain import opt_offset
from support.messages import (
    COOKIE,
    EDE,
    KEEPALIVE,
    PADDING,
    TXT,
    message,
    opt,
    option,
    record,
    response_to,
    stream_of,
    unframed,
)
from support.serving import ASKING, BARE, GO, NOW, PADDED, QUESTION, TEN_SECONDS, WITH_OPT, Server, has_opt, options_of
from support.vectors import load, octets


def by_id(case) -> str:
    return case["id"]


# OPT, padding, keepalive, extended errors.


@pytest.mark.parametrize("additionals", [[], [opt()], [opt(option(EDE, b"\x00\x15"))], [record(), opt()]])
@pytest.mark.parametrize("query", [BARE, WITH_OPT, PADDED, ASKING])
def test_opt_if_and_only_if_asked_with_opt(query, additionals):
    """Whoever makes the response need not care (SRV-8, KAL-7, PAD-4, EDN-4)."""
    response = Server().exchange(query, record(), additionals=additionals)
    assert has_opt(response) == has_opt(query)
    assert walk(response).problem is None
    assert dns.message.from_wire(response).answer


@pytest.mark.parametrize("case", load("padding")["server_rules"], ids=by_id)
def test_who_gets_padding(case):
    """Who padded his query, even with nothing, and nobody else (PAD-3, PAD-4)."""
    query = octets(case["query"])
    for additionals in ([], [opt()]):
        response = Server().exchange(query, record(), additionals=additionals)
        assert has_opt(response) == case["response_may_have_opt"]
        if case["response_padded"] == "must":
            assert len(response) == 468
            assert PADDING in options_of(response)
        else:
            assert PADDING not in options_of(response)


def test_the_response_of_the_transcript():
    """56 octets, 4 of the option and 408 of padding make 468 (PAD-3)."""
    case = next(case for case in load("padding")["cases"] if case["id"] == "r-answer")
    server = Server()
    (handle,) = server.ask(PADDED)
    assert server.answer(handle, octets(case["in"]))
    (response,) = server.sent()
    assert response[2:] == octets(case["out"])[2:]


@pytest.mark.parametrize("rcode", range(24))
def test_errors_are_padded_too(rcode):
    """Each RCODE: a length tells nothing (SRV-21; RFC 7830, section 4)."""
    server = Server()
    (handle,) = server.ask(PADDED)
    assert server.engine.send_error(handle, now=NOW, rcode=rcode)
    (reply,) = server.sent()
    assert len(reply) == 468
    assert dns.message.from_wire(reply).rcode() == rcode


@pytest.mark.parametrize(
    "query",
    [
        message(QUESTION, flags=15 << 11, additionals=[opt(option(PADDING, bytes(9)))]),
        message(QUESTION, additionals=[opt(option(PADDING, bytes(9)), version=1)]),
        message(QUESTION, additionals=[opt(option(PADDING, bytes(9)), option(KEEPALIVE, TEN_SECONDS))]),
        message(QUESTION, additionals=[opt(option(PADDING, bytes(9)))]) + b"\0",
    ],
)
def test_our_own_errors_are_padded_too(query):
    """NOTIMP, BADVERS, FORMERR (SRV-21)."""
    server = Server()
    (event,) = server.receive(query)
    assert isinstance(event, QueryRejected)
    (reply,) = server.sent()
    assert len(reply) == 468


def test_padding_beyond_the_payload_size():
    """The client's 1232 octets are about UDP (PAD-14)."""
    padded = Server().exchange(PADDED, record(data=bytes(1300 - 29 - 12)))
    assert len(padded) == 1404


@pytest.mark.parametrize(("block", "length"), [(None, 56), (1, 60), (128, 128), (512, 512), (4096, 4096)])
def test_another_padding_policy(block, length):
    """None is a choice, not the default (PAD-17)."""
    response = Server(padding_block=block).exchange(PADDED, record(), additionals=[opt()])
    assert len(response) == length


def test_padding_of_the_callers_is_replaced():
    """At most one option (PAD-7, PAD-10)."""
    response = Server().exchange(
        PADDED, record(), additionals=[opt(option(PADDING, b"\xff" * 99), option(EDE, b"\0\0"))]
    )
    assert len(response) == 468
    assert list(options_of(response)) == [EDE, PADDING]


def test_extended_errors_go_with_opt():
    """With OPT as they are, and without OPT not at all (SRV-16, EDN-6)."""
    error = option(EDE, b"\x00\x15no such thing")
    assert options_of(Server().exchange(WITH_OPT, additionals=[opt(error)]))[EDE] == b"\x00\x15no such thing"
    assert Server().exchange(BARE, additionals=[opt(error)]) == response_to(BARE)


def test_an_extended_rcode_without_opt_is_servfail():
    """Its lower four bits alone would be another RCODE: 16 would be success (EDN-2; RFC 6891, section 6.1.3)."""
    assert Server().exchange(BARE, additionals=[opt(rcode=1)]) == response_to(BARE, rcode=2)
    assert dns.message.from_wire(Server().exchange(WITH_OPT, additionals=[opt(rcode=1)])).rcode() == 16


def test_unknown_flags_and_options_of_a_query():
    """Ignored, in any order (EDN-1)."""
    query = message(QUESTION, additionals=[opt(option(65_001, b"x"), option(PADDING), option(0), flags=0x7FFF)])
    response = Server().exchange(query, record())
    assert len(response) == 468
    assert list(options_of(response)) == [PADDING]


def test_a_signed_response_is_not_touched():
    """But for the id, which its signature does not cover (PAD-11; RFC 8945, section 4.3.2)."""
    signature = record(b"\0", 250, bytes(30), rdclass=255)
    for additionals in ([signature], [opt(), signature]):
        response = Server().exchange(PADDED, record(), additionals=additionals)
        assert response == response_to(PADDED, record(), additionals=additionals)


FROM_CLIENTS = [case for case in load("keepalive")["cases"] if (case["sender"], case["transport"]) == ("client", "tls")]


@pytest.mark.parametrize("case", FROM_CLIENTS, ids=by_id)
def test_keepalive_from_clients(case):
    """Empty is right, anything else FORMERR with OPT (KAL-1, KAL-9)."""
    server = Server()
    (event,) = server.receive(octets(case["message"]))
    if case["outcome"] == "accept":
        assert isinstance(event, QueryReceived)
    else:
        assert case["outcome"] == "formerr"
        assert event.rcode == 1
        assert has_opt(server.sent()[0])


def test_keepalive_is_stated_to_whoever_asks():
    """The timeout in force, whatever the response said; unasked none (KAL-3, KAL-7)."""
    assert options_of(Server().exchange(ASKING)) == {KEEPALIVE: TEN_SECONDS}
    wrong = opt(option(KEEPALIVE, b"\xff\xff"))
    assert options_of(Server(idle_timeout=0.3).exchange(ASKING, additionals=[wrong])) == {KEEPALIVE: b"\x00\x03"}
    assert options_of(Server(idle_timeout=0).exchange(ASKING)) == {KEEPALIVE: GO}
    assert options_of(Server().exchange(WITH_OPT)) == {}
    assert not has_opt(Server().exchange(BARE))


def test_keepalive_and_padding_together():
    """Padding last, and the length right (PAD-8)."""
    query = message(QUESTION, additionals=[opt(option(PADDING), option(KEEPALIVE))])
    response = Server().exchange(query, record())
    assert list(options_of(response)) == [KEEPALIVE, PADDING]
    assert len(response) == 468


@pytest.mark.parametrize("query", [BARE, WITH_OPT, PADDED, ASKING])
def test_a_server_that_closes_says_go(query):
    """Timeout 0 to whoever has OPT, asked for or not (KAL-8, CON-16)."""
    server = Server()
    (handle,) = server.ask(query)
    server.engine.close(now=NOW)
    server.answer(handle, response_to(query, record()))
    (response,) = server.sent()
    assert options_of(response).get(KEEPALIVE) == (GO if has_opt(query) else None)


# The short way for plain messages, and the long way for the rest.

mutations = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4)


@given(
    st.sampled_from([BARE, WITH_OPT, PADDED, ASKING, make_query("."), message(additionals=[opt(option(COOKIE))])]),
    mutations,
    st.binary(max_size=2),
)
def test_a_query_is_taken_if_nothing_is_wrong_with_it(query, changes, behind):
    """Whatever the octets: the engine's action follows from the whole walk of the message (SRV-5 to SRV-9, KAL-9)."""
    wire = bytearray(query + behind)
    for offset, value in changes:
        wire[offset % len(wire)] = value
    wire = bytes(wire)
    layout = walk(wire)
    server = Server()
    (event,) = server.receive(wire)
    if wire[2] & 0x80:
        assert isinstance(event, MessageDiscarded)
        return
    keepalive, cookie = layout.option(KEEPALIVE), layout.option(COOKIE)
    # FR-63: the version comes first, if an OPT could be found at all.
    if layout.opt is not None and not wire[layout.opt[0]] and wire[layout.opt[0] + 6]:
        due = 16
    elif wire[2] >> 3 not in (0, 4, 5):
        due = 4
    elif layout.problem is not None or keepalive or (wire[4:6] == b"\0\0" and cookie is None):
        due = 1
    else:
        assert event == QueryReceived(query=0, message=wire)
        response = response_to(wire, additionals=[record(b"\0")])
        assert server.answer(event.query, response)
        (sent,) = server.sent()
        assert has_opt(sent) == (layout.opt is not None)
        assert (PADDING in options_of(sent)) == (layout.option(PADDING) is not None)
        assert (KEEPALIVE in options_of(sent)) == (keepalive is not None)
        return
    assert isinstance(event, QueryRejected)
    assert event.rcode == due


@given(st.sampled_from([BARE, WITH_OPT, PADDED, ASKING]), mutations, st.booleans())
def test_a_response_leaves_only_well_formed(query, changes, with_opt):
    """However it was made: refused, or sent with OPT, padding and length as they must be (SRV-8, PAD-3)."""
    wire = bytearray(response_to(query, record(), record(b"\0", TXT, b"\x01x"), additionals=[opt()] * with_opt))
    for offset, value in changes:
        wire[offset % len(wire)] = value
    wire[2] |= 0x80
    response, layout, server = bytes(wire), walk(bytes(wire)), Server()
    (handle,) = server.ask(query)
    if layout.problem is not None:
        with pytest.raises(MessageError):
            server.answer(handle, response)
        return
    assert server.answer(handle, response)
    (sent,) = server.sent()
    after = walk(sent)
    assert sent[:2] == query[:2]
    assert after.problem is None
    free = not layout.is_signed and (layout.opt is None or layout.opt[1] == len(response))
    if free:
        assert has_opt(sent) == has_opt(query)
        assert (len(sent) == 468) == (query == PADDED)
    else:
        assert sent[2:] == response[2:]


FLAGS_OF = {"RD": 0x0100, "CD": 0x0010, "both": 0x0110, "neither": 0}


@pytest.mark.parametrize("flags", FLAGS_OF)
@pytest.mark.parametrize("wants_dnssec", [False, True])
@pytest.mark.parametrize("rcode", [1, 2, 4, 16])
def test_what_is_copied_into_an_error_of_our_own(flags, wants_dnssec, rcode):
    """FR-62: RD, CD (RFC 4035, section 3.2.2) and DO (RFC 3225, section 3), whatever the error."""
    connection = ServerConnection(now=0.0)
    last = opt(flags=0x8000 * wants_dnssec, version=int(rcode == 16))
    asked = message(QUESTION, flags=FLAGS_OF[flags] | (6 << 11 if rcode == 4 else 0), additionals=[last]) + (
        b"\0" if rcode == 1 else b""
    )
    events = connection.receive_data(stream_of([asked]), now=0.0)
    if rcode == 2:
        connection.send_error(events[0].query, now=0.0)
    [response] = unframed(connection.data_to_send())
    layout = walk(response)
    assert layout.opt is not None
    start = layout.opt[0]
    assert (response[start + 5] << 4 | response[3] & 15) == rcode
    assert int.from_bytes(response[2:4]) & 0x0110 == FLAGS_OF[flags]
    assert response[start + 7] == 0x80 * wants_dnssec


@pytest.mark.parametrize("opcode", [0, 6, 15])
@pytest.mark.parametrize("options", [b"", b"\xff", b"\0\x0c\xff\xff", b"\0\x0c\0\0" * 2])
def test_the_version_comes_before_all_else(opcode, options):
    """FR-63: what an OPT of another version holds, nobody knows (RFC 6891, section 6.1.3)."""
    connection = ServerConnection(now=0.0)
    asked = message(QUESTION, flags=opcode << 11, additionals=[opt(options, version=1)])
    [event] = connection.receive_data(stream_of([asked]), now=0.0)
    assert event.rcode == 16


@pytest.mark.parametrize("target", range(12))
def test_no_name_starts_in_the_header(target):
    """FR-68: in the question, in an owner's name, and in the short way through a message."""
    pointer = bytes([0xC0, target])
    connection = ServerConnection(now=0.0)
    bad = message(pointer + b"\0\1\0\1"), message(QUESTION, answers=[record(pointer)])
    events = connection.receive_data(stream_of(bad), now=0.0)
    assert [event.rcode for event in events] == [1, 1]
    assert all("into the header" in event.explanation for event in events)
    assert opt_offset(bad[1]) == 0
