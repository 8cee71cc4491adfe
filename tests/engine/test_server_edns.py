"""OPT, padding, keepalive and extended errors in the server's responses (PAD, KAL, EDN; SRV-8, SRV-16, SRV-21)."""

from __future__ import annotations

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dot_proto import (
    MessageDiscarded,
    MessageError,
    QueryReceived,
    QueryRejected,
    ServerConfiguration,
    ServerConnection,
    make_query,
)
from dot_proto._message import oddity, walk
from dot_proto._plain import opt_offset
from support.messages import (
    CD,
    COOKIE,
    DAU,
    DO,
    ECS,
    EDE,
    KEEPALIVE,
    NSID,
    PADDING,
    RD,
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
    # FR-63: the version comes first, if an OPT could be found at all.
    if layout.opt is not None and not wire[layout.opt[0]] and wire[layout.opt[0] + 6]:
        due = 16
    elif wire[2] >> 3 not in (0, 4, 5):
        due = 4
    elif layout.problem is not None or oddity(wire, layout) or (wire[4:6] == b"\0\0" and not layout.values(COOKIE)):
        due = 1
    else:
        assert event == QueryReceived(query=0, message=wire)
        response = response_to(wire, additionals=[record(b"\0")])
        assert server.answer(event.query, response)
        (sent,) = server.sent()
        assert has_opt(sent) == (layout.opt is not None)
        assert (PADDING in options_of(sent)) == (layout.option(PADDING) is not None)
        assert (KEEPALIVE in options_of(sent)) == bool(layout.values(KEEPALIVE))
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
    if not layout.is_signed:
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


@pytest.mark.parametrize("given", [None, opt(), opt(flags=DO), opt(flags=0xFFFF, version=3), opt(option(EDE, b"\0\0"))])
@pytest.mark.parametrize("theirs", [0, CD])
@pytest.mark.parametrize("wants_dnssec", [False, True])
@pytest.mark.parametrize("ours", [0, CD])
def test_do_and_cd_are_the_querys(given, theirs, wants_dnssec, ours):
    """FR-62: whatever the handler has made of them, the other flags of OPT are 0 and its version too (EDN-1)."""
    query = message(QUESTION, flags=RD | ours, additionals=[opt(option(PADDING), flags=0x7FFF | DO * wants_dnssec)])
    server = Server()
    (handle,) = server.ask(query)
    assert server.answer(handle, message(QUESTION, flags=0x8180 | theirs, additionals=[given] * (given is not None)))
    (sent,) = server.sent()
    assert int.from_bytes(sent[2:4]) == 0x8180 | ours
    assert len(sent) == 468
    start = walk(sent).opt[0]
    assert sent[start + 5 : start + 9] == bytes([0, 0, 0x80 * wants_dnssec, 0])


def test_cd_without_edns():
    """FR-62: also with no OPT anywhere."""
    for ours, theirs in ((0, CD), (CD, 0), (CD, CD)):
        server = Server()
        (handle,) = server.ask(message(QUESTION, flags=RD | ours))
        server.answer(handle, message(QUESTION, flags=0x8180 | theirs))
        assert server.sent() == [message(QUESTION, flags=0x8180 | ours)]


# Responses that another server gave, FR-65.

CLIENT_COOKIE, SERVER_COOKIE = b"\1\2\3\4\5\6\7\x08", bytes(range(8, 24))
ERROR = option(EDE, b"\0\x16upstream is down")
THEIRS = [
    option(PADDING, bytes(300)),
    option(KEEPALIVE, b"\xff\xff"),
    option(COOKIE, CLIENT_COOKIE + SERVER_COOKIE),
    option(DAU, b"\x08\x0d"),
    option(6, b"\2"),
    option(7, b"\1"),
    ERROR,
    option(NSID, b"ns7"),
    option(ECS, b"\0\1\x18\x18\xc0\0\2"),
    option(65_001, b"own"),
]
BEHIND = [record(b"\x02ns\xc0\x0c"), record(kind=2, data=b"\x01x\xc0\x0c")]


@pytest.mark.parametrize("additionals", [[opt(*THEIRS)], [opt(*THEIRS), *BEHIND], [*BEHIND, opt(*THEIRS)]])
@pytest.mark.parametrize("asked", [[], [PADDING], [KEEPALIVE], [PADDING, KEEPALIVE]])
def test_what_another_server_said_of_its_connection(additionals, asked):
    """FR-65: goes; what is said is of this connection, and what is not between neighbours alone stays."""
    query = message(QUESTION, additionals=[opt(*map(option, asked))])
    sent = Server().exchange(query, record(), additionals=additionals)
    due = {EDE: ERROR[4:], 65_001: b"own"}
    if KEEPALIVE in asked:
        due[KEEPALIVE] = TEN_SECONDS
    found = options_of(sent)
    assert (found.pop(PADDING, None) is not None) == (PADDING in asked) == (len(sent) == 468)
    assert found == due
    assert len(dns.message.from_wire(sent).additional) == 2 * (len(additionals) > 1)


@pytest.mark.parametrize("additionals", [[opt(*THEIRS)], [opt(*THEIRS), *BEHIND], [*BEHIND, opt(*THEIRS)]])
def test_a_client_without_opt_gets_none(additionals):
    """FR-65: wherever it stands (SRV-8; RFC 6891, section 7)."""
    sent = Server().exchange(BARE, record(), additionals=additionals)
    assert sent == response_to(BARE, record(), additionals=BEHIND if len(additionals) > 1 else [])


def test_a_client_without_opt_gets_no_rcode_of_twelve_bits():
    """FR-65: from an OPT that is not last either (EDN-2)."""
    sent = Server().exchange(BARE, additionals=[opt(rcode=1), *BEHIND])
    assert sent == response_to(BARE, rcode=2, additionals=BEHIND)


@pytest.mark.parametrize(
    "signer", [record(b"\0", 250, bytes(30), rdclass=255), record(b"\0", 24, bytes(40), rdclass=255)]
)
@pytest.mark.parametrize("query", [BARE, PADDED, ASKING])
def test_a_signed_response_of_another_server(signer, query):
    """FR-65: the signature covers OPT and the flags, and so it wins over all else (PAD-11)."""
    for additionals in ([opt(*THEIRS, flags=DO), signer], [opt(*THEIRS), record(), signer]):
        server = Server()
        (handle,) = server.ask(query)
        given = message(QUESTION, flags=0x8180 | CD, additionals=additionals)
        assert server.answer(handle, given)
        assert server.sent() == [query[:2] + given[2:]]


@pytest.mark.parametrize(
    ("asked", "stays"),
    [
        ([], []),
        ([option(COOKIE, CLIENT_COOKIE)], [COOKIE]),
        ([option(COOKIE, CLIENT_COOKIE + bytes(8))], [COOKIE]),
        ([option(COOKIE, bytes(8))], []),
        ([option(NSID)], [NSID]),
        ([option(ECS, bytes(4)), option(NSID)], [NSID, ECS]),
        ([option(DAU, b"\x08")], []),
    ],
)
def test_what_only_the_asked_may_send(asked, stays):
    """FR-65: NSID, client subnet; and a cookie only behind the client's own half (RFC 5001, 7871, 7873)."""
    query = message(QUESTION, additionals=[opt(*asked)])
    sent = Server().exchange(query, additionals=[opt(*THEIRS)])
    assert [code for code in options_of(sent) if code in (NSID, DAU, ECS, COOKIE)] == sorted(
        stays, key=[COOKIE, NSID, ECS].index
    )


@pytest.mark.parametrize(("passed", "tenths"), [(0, 100), (49.9, 100), (50, 100), (50.05, 99), (57, 30), (59.95, 0)])
def test_no_more_is_stated_than_is_left(passed, tenths):
    """FR-65: a connection that will end is not said to stay (KAL-7)."""
    server = Server(max_duration=60)
    server.clock.advance(passed)
    (handle,) = server.ask(ASKING)
    server.answer(handle, response_to(ASKING, additionals=[opt(*THEIRS)]))
    server.engine.receive_data(stream_of([ASKING[:2] + b"\x79" + ASKING[3:]]), now=server.clock.now)
    for sent in server.sent():
        assert options_of(sent)[KEEPALIVE] == tenths.to_bytes(2)


def test_a_duration_that_is_over_is_none_at_all():
    """FR-65: before the clock was looked at."""
    server = Server(max_duration=3)
    (handle,) = server.ask(ASKING)
    server.clock.advance(4)
    server.answer(handle, response_to(ASKING))
    assert options_of(server.sent()[0]) == {KEEPALIVE: GO}


def test_a_close_before_the_handshake_is_over():
    """FR-65: what is left then does not matter: the client should go."""
    connection = ServerConnection(ServerConfiguration(max_duration=60))
    [event] = connection.receive_data(stream_of([ASKING]), now=NOW)
    connection.close(now=NOW)
    connection.begin(now=NOW)
    connection.send_response(event.query, response_to(ASKING), now=NOW + 1)
    [sent] = unframed(connection.data_to_send())
    assert options_of(sent) == {KEEPALIVE: GO}


# Odd options of a query, FR-73.

ODD = {
    "padding twice": option(PADDING) * 2,
    "keepalive filled": option(KEEPALIVE, TEN_SECONDS),
    "keepalive filled and empty": option(KEEPALIVE) + option(KEEPALIVE, b"\0"),
    "keepalive empty and filled": option(KEEPALIVE, b"\0") + option(KEEPALIVE),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("is_first", [True, False])
def test_an_odd_option_of_a_query(odd, is_first):
    """FR-73: FORMERR in either order (RFC 6891, section 7), which is padded and states the timeout like any answer."""
    others = [option(EDE, b"\0\0"), option(KEEPALIVE) if "padding" in odd else option(PADDING)]
    options = [ODD[odd], *others] if is_first else [*others, ODD[odd]]
    server = Server()
    (event,) = server.receive(message(QUESTION, additionals=[opt(*options, flags=DO)]))
    assert event.rcode == 1
    (sent,) = server.sent()
    assert len(sent) == 468
    assert options_of(sent)[KEEPALIVE] == TEN_SECONDS


def test_keepalive_twice_in_a_query():
    """FR-73: RFC 7828 does not forbid it, and both say the same."""
    sent = Server().exchange(
        message(QUESTION, additionals=[opt(option(KEEPALIVE), option(PADDING), option(KEEPALIVE))])
    )
    assert list(options_of(sent)) == [KEEPALIVE, PADDING]


@pytest.mark.parametrize("odd", [option(PADDING) * 2, option(KEEPALIVE, bytes(3)), option(KEEPALIVE, GO) * 2])
@pytest.mark.parametrize("query", [BARE, WITH_OPT, PADDED, ASKING])
def test_an_odd_option_of_another_servers(odd, query):
    """FR-73: it is replaced or goes, and is no reason to leave the client without its answer."""
    sent = Server().exchange(query, additionals=[opt(odd, ERROR)])
    assert sent == Server().exchange(query, additionals=[opt(ERROR)])


UNREADABLE = {
    "two questions": message(QUESTION * 2, additionals=[opt(option(PADDING), option(KEEPALIVE), flags=DO)]),
    "octets behind": message(QUESTION, additionals=[opt(option(PADDING), option(KEEPALIVE), flags=DO)]) + b"\0",
    "second OPT": message(QUESTION, additionals=[opt(option(PADDING), option(KEEPALIVE), flags=DO), opt()]),
    "a record behind that is cut": message(
        QUESTION, additionals=[opt(option(PADDING), option(KEEPALIVE), flags=DO), record()]
    )[:-1],
}


@pytest.mark.parametrize("query", UNREADABLE)
def test_a_malformed_query_with_edns_gets_edns_back(query):
    """FR-62: as far as OPT can be found (RFC 6891, section 6.1.1; RFC 9619)."""
    octets = UNREADABLE[query]
    if query == "two questions":
        octets = octets[:5] + b"\2" + octets[6:]
    server = Server()
    (event,) = server.receive(octets)
    assert event.rcode == 1
    (sent,) = server.sent()
    assert len(sent) == 468
    assert options_of(sent)[KEEPALIVE] == TEN_SECONDS
    assert dns.message.from_wire(sent).ednsflags == DO


def test_two_questions_and_nothing_behind_them():
    """RFC 9619: also where the second is cut."""
    for cut in range(1, len(QUESTION) + 1):
        octets = message(QUESTION * 2)
        (event,) = Server().receive(octets[:5] + b"\2" + octets[6 : len(octets) - cut])
        assert (event.rcode, event.explanation) == (1, "2 questions in one message (RFC 9619)")


def test_the_size_that_a_client_takes_by_udp_does_not_matter():
    """EDN-3: a longer response is sent whole, and TC is not set (RFC 6891, section 6.2.3)."""
    query = message(QUESTION, additionals=[opt(size=512)])
    sent = Server().exchange(query, record(data=bytes(3000)))
    assert len(sent) > 3000
    assert not sent[2] & 2
