"""What the engine reads of a message: names skipped, OPT and signatures found (MAT-19, MAT-21, SRV-6, SRV-7, EDN-1)."""

from __future__ import annotations

import itertools

import dns.edns
import dns.exception
import dns.message
import dns.name
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from dot_proto import MessageError, make_query
from dot_proto._message import (
    MAX_NAME,
    edns_version,
    is_error,
    malformation,
    oddity,
    opcode_of,
    question_end,
    rcode,
    skip_name,
    walk,
)
from support.messages import COOKIE, KEEPALIVE, OPT, PADDING, QR, SIG, TSIG, TXT, A, message, opt, option, record
from support.vectors import load, octets

MALFORMED = load("malformed")["cases"]
WELL_FORMED = [
    *(octets(case["query"]) for case in load("matching")["cases"]),
    *(octets(case["in"]) for case in load("padding")["cases"] if len(octets(case["in"])) < 5000),
]

QUESTION = b"\x07example\x03com\x00\x00\x01\x00\x01"
SIGNATURE = bytes(18)
"RDATA of SIG(0), which covers type 0 (RFC 2931, section 3)."


def by_id(case) -> str:
    return case["id"]


# Names.


def name_end(octets: bytes, offset: int = 0) -> int | None:
    """Where dnspython sees the end of a name, or ``None`` where it sees none."""
    try:
        _, used = dns.name.from_wire(octets, offset)
    except dns.exception.DNSException:
        return None
    return offset + used


def skipped(octets: bytes, offset: int = 0) -> int | None:
    try:
        return skip_name(octets, offset)
    except MessageError:
        return None


labels = st.lists(st.binary(min_size=1, max_size=63), max_size=6)


@given(labels, st.binary(max_size=20), st.binary(max_size=20))
def test_a_name_ends_behind_its_root(parts, before, behind):
    """Labels of any octets, anywhere (RFC 1035, section 3.1)."""
    name = b"".join(bytes([len(part)]) + part for part in parts) + b"\0"
    assume(len(name) <= MAX_NAME)
    assert skip_name(before + name + behind, len(before)) == len(before) + len(name)


def test_a_pointer_does_not_excuse_a_long_name():
    """Labels of 255 octets leave no room for whatever the pointer leads to, not even the root (RFC 1035, 2.3.4)."""
    assert skip_name(bytes(13) + b"\x01a" * 127 + b"\xc0\x0c", 13) == 13 + 254 + 2
    with pytest.raises(MessageError, match="octet 13: a name of more than 255 octets"):
        skip_name(bytes(13) + b"\x01a" * 126 + b"\x02aa" + b"\xc0\x0c", 13)


@given(labels, st.integers(0, 300), st.binary(max_size=5))
def test_a_name_ends_behind_its_pointer(parts, target, behind):
    """FR-68: a pointer must point before the name and behind the header, and is not followed (RFC 1035, 4.1.4)."""
    start = 200
    name = b"".join(bytes([len(part)]) + part for part in parts)
    assume(len(name) < MAX_NAME)
    octets = bytes(start) + name + (0xC000 | target).to_bytes(2) + behind
    if 12 <= target < start:
        assert skip_name(octets, start) == start + len(name) + 2
    else:
        with pytest.raises(MessageError, match=r"must point backwards|into the header"):
            skip_name(octets, start)


@given(st.binary(max_size=80) | st.lists(st.sampled_from([0, 1, 2, 63, 64, 128, 191, 192, 193, 97])).map(bytes))
@example(b"\xc0")
@example(b"\x3f" + bytes(62))
def test_names_without_pointers_agree_with_another_reader(octets):
    """Well-formed for the one, well-formed for the other, and as long (MAT-19)."""
    end = skipped(octets)
    assert end == name_end(octets)
    assert end is None or end <= len(octets)


@given(st.data())
def test_names_with_pointers_agree_with_another_reader(data):
    """What dnspython reads we skip; what it refuses and we skip can only be wrong behind the pointer (MAT-19)."""
    values = st.sampled_from([0, 0, 1, 2, 3, 97, 0xC0, 0xC0, 0xC1, *range(8, 24)])
    octets = bytes(12) + data.draw(st.lists(values, min_size=1, max_size=40).map(bytes))
    offset = data.draw(st.integers(12, len(octets) - 1))
    ours, theirs = skipped(octets, offset), name_end(octets, offset)
    if theirs is not None and ours is None:
        assert int.from_bytes(octets[theirs - 2 : theirs]) & 0x3FFF < 12  # FR-68: dnspython reads the header as names
    elif theirs is not None:
        assert ours == theirs
    elif ours is not None:
        target = int.from_bytes(octets[ours - 2 : ours]) & 0x3FFF
        assert octets[ours - 2] >= 0xC0
        assert name_end(octets[:offset], target) is None  # dnspython: what is pointed to must not overlap the name


def test_what_a_pointer_leads_to_is_not_looked_at():
    """Where we differ from dnspython: nothing is followed, so no work grows beyond the octets (FRM-12)."""
    into_the_middle = bytes(12) + b"\x41\xc0\x0c"
    assert skip_name(into_the_middle, 13) == 15
    assert name_end(into_the_middle, 13) is None


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (b"", "octet 0: the message ends inside a name"),
        (b"\x01", "octet 0: the message ends inside a name"),
        (b"\x01a", "octet 0: the message ends inside a name"),
        (b"\x05abc\x00", "octet 0: the message ends inside a name"),
        (b"\xc0", "octet 0: the message ends inside a name"),
        (b"\x41\x00", "octet 0: label type 01 is not in use"),
        (b"\x01a\x80\x00", "octet 2: label type 10 is not in use"),
        (b"\xc0\x00", "octet 0: a compression pointer must point backwards"),
        (b"\x01a\xc0\x00", "octet 2: a compression pointer must point backwards"),
        (b"\x01a" * 127 + b"\x01a\x00", "octet 0: a name of more than 255 octets"),
        (b"\x01a" * 128, "octet 0: a name of more than 255 octets"),
        (b"\x01a" * 126 + b"\x02aa\x00", "octet 0: a name of more than 255 octets"),
    ],
)
def test_what_is_no_name(octets, words):
    """The message says where and why (MAT-19)."""
    with pytest.raises(MessageError, match=words):
        skip_name(octets, 0)


@pytest.mark.parametrize("octet", range(64, 192))
def test_labels_of_a_type_that_is_not_in_use(octet):
    """The two upper bits 01 and 10 (RFC 6891, section 5); whatever follows is not read."""
    for behind in (b"", b"\0", bytes(200)):
        with pytest.raises(MessageError, match="octet 5: label type"):
            skip_name(bytes(5) + bytes([octet]) + behind, 5)


def test_the_longest_name():
    """255 octets with its root (RFC 1035, section 2.3.4)."""
    assert skip_name(b"\x01a" * 127 + b"\x00", 0) == MAX_NAME


@pytest.mark.parametrize("start", [0, 12, 300, 16_000])
def test_a_name_of_255_octets_anywhere(start):
    """The limit counts from where the name starts (RFC 1035, section 2.3.4)."""
    name = b"\x01a" * 127
    assert skip_name(bytes(start) + name + b"\0", start) == start + MAX_NAME
    with pytest.raises(MessageError, match="more than 255"):
        skip_name(bytes(start) + b"\x02aa" + name[2:] + b"\0", start)


# The question.


def test_the_end_of_the_question():
    """None is allowed, as in a query for a cookie; two are not (RFC 9619; MAT-10, MAT-21)."""
    assert question_end(message()) == 12
    assert question_end(message(QUESTION)) == 12 + len(QUESTION)
    assert question_end(message(QUESTION, answers=[record()])) == 12 + len(QUESTION)


@pytest.mark.parametrize("count", [2, 256, 257, 65_535])
def test_more_than_one_question(count):
    """Malformed, in queries and responses, whichever octet of the count says so (MAT-21)."""
    wire = bytes(4) + count.to_bytes(2) + bytes(6) + QUESTION * 2
    with pytest.raises(MessageError, match=f"{count} questions"):
        question_end(wire)


@pytest.mark.parametrize("missing", [1, 2, 3, 4])
def test_a_question_that_is_cut(missing):
    """MAT-19."""
    with pytest.raises(MessageError, match="ends inside the question"):
        question_end(message(QUESTION)[:-missing])


# The whole message.

PROBLEMS = {
    "name-truncated": "the message ends inside a name",
    "question-truncated": "the message ends inside the question",
    "label-type": "label type",
    "pointer-not-backward": "a compression pointer must point backwards",
    "name-too-long": "a name of more than 255 octets",
    "qdcount": "2 questions in one message",
    "record-truncated": "the message ends inside a record",
    "rdata-truncated": "the message ends inside the data of a record",
    "trailing-octets": "octets behind the last record",
    "pointer-into-header": "a compression pointer into the header",
    "opt-twice": "a second OPT record",
    "opt-section": "OPT outside the additional section",
    "opt-owner": "the owner of OPT is not the root",
    "option-truncated": "OPT ends inside an option",
    "padding-twice": "a second Padding option",
    "tsig-not-last": "TSIG is not the last record",
}


@pytest.mark.parametrize("case", MALFORMED, ids=by_id)
def test_what_is_malformed(case):
    """The same verdict as an independent reading of the RFCs, and for the same reason (MAT-19, SRV-6, SRV-7)."""
    problem = malformation(octets(case["wire"]))
    if case["error"] is None:
        assert problem is None
    else:
        assert problem is not None
        assert PROBLEMS[case["error"]] in problem


@pytest.mark.parametrize("wire", WELL_FORMED, ids=lambda wire: f"{len(wire)} octets")
def test_what_is_well_formed(wire):
    """Queries of the vectors, signed ones and an OPT in the middle included (EDN-1)."""
    assert malformation(wire) is None


@given(st.binary(min_size=12, max_size=200))
def test_any_octets(wire):
    """Never raises; whatever was found lies inside the message (MAT-19)."""
    layout = walk(wire)
    assert 12 <= layout.question_end <= len(wire)
    if layout.opt is not None:
        start, end = layout.opt
        assert 12 <= start < end <= len(wire)


@given(st.sampled_from(WELL_FORMED), st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_octet(wire, offset, value):
    """Whatever dnspython still reads we read too, but for what it is known to let through (MAT-19, MAT-21, PAD-7)."""
    changed = bytearray(wire)
    changed[offset % len(wire)] = value
    problem = malformation(bytes(changed))
    try:
        dns.message.from_wire(bytes(changed))
    except Exception:
        return
    assert problem is None or any(each in problem for each in ("questions in one message", "Padding", "keepalive"))


@given(st.sampled_from(WELL_FORMED), st.integers(0, 10_000))
def test_a_cut_message_is_malformed(wire, length):
    """No message is the beginning of another (MAT-19)."""
    cut = wire[: 12 + length % max(1, len(wire) - 12)]
    assume(len(cut) < len(wire))
    assert malformation(cut) is not None


@given(st.sampled_from(WELL_FORMED), st.binary(min_size=1, max_size=20))
def test_octets_behind_a_message(wire, rest):
    """RFC 1035, section 4.1: the counts say how long a message is."""
    assert malformation(wire + rest) == f"octet {len(wire)}: octets behind the last record"


def test_counts_cost_no_work():
    """65535 records announced three times over, none there: refused at the first (FRM-12)."""
    wire = message(QUESTION)[:6] + b"\xff" * 6 + QUESTION
    assert walk(wire).problem == f"octet {len(wire)}: the message ends inside a name"


def test_what_is_found_before_the_problem():
    """The question of a broken query can be copied into its FORMERR (SRV-6)."""
    wire = message(QUESTION, additionals=[opt(option(COOKIE, bytes(8))), opt()])
    layout = walk(wire)
    assert layout.problem is not None
    assert layout.question_end == 12 + len(QUESTION)
    assert layout.opt is not None
    assert layout.options == [(COOKIE, bytes(8))]
    assert walk(message(QUESTION)[:-1]).question_end == 12


# OPT.


def test_where_opt_lies():
    """Anywhere in the additional section (RFC 6891, section 6.1.1; PAD-12)."""
    before, behind = record(kind=TXT, data=b"\x01a"), record(b"\0", A)
    record_opt = opt(option(KEEPALIVE), option(PADDING, bytes(7)))
    wire = message(QUESTION, answers=[record()], additionals=[before, record_opt, behind])
    layout = walk(wire)
    assert layout.problem is None
    assert layout.opt is not None
    start, end = layout.opt
    assert wire[start:end] == record_opt
    assert wire[end:] == behind
    assert layout.options == [(KEEPALIVE, b""), (PADDING, bytes(7))]
    assert layout.option(KEEPALIVE) == b""
    assert layout.option(PADDING) == bytes(7)
    assert layout.option(COOKIE) is None


def test_no_opt():
    """EDN-4."""
    layout = walk(message(QUESTION))
    assert layout.opt is None
    assert layout.options == []
    assert layout.option(PADDING) is None


def test_opt_with_unknown_flags_and_options():
    """Ignored, in any order, and kept (EDN-1)."""
    layout = walk(message(QUESTION, additionals=[opt(option(65_001, b"hi"), option(0), flags=0x7FFF, rcode=255)]))
    assert layout.problem is None
    assert layout.options == [(65_001, b"hi"), (0, b"")]


@pytest.mark.parametrize("section", ["answers", "authorities"])
def test_opt_in_another_section(section):
    """RFC 6891, section 6.1.1."""
    problem = malformation(message(QUESTION, additionals=[record()], **{section: [opt()]}))
    assert problem is not None
    assert "OPT outside the additional section" in problem


def test_opt_owned_by_a_pointer_to_a_root():
    """The owner must be the root itself, in one octet (RFC 6891, section 6.1.2)."""
    pointer_to_zero = b"\xc0\x04"
    assert malformation(message(QUESTION, additionals=[record(pointer_to_zero, OPT, b"")])) is not None


@pytest.mark.parametrize("data", [b"\0", b"\0\x0a", b"\0\x0a\0", b"\0\x0a\0\x01", b"\0\x0a\0\x01\xff\0"])
def test_an_option_that_is_cut(data):
    """SRV-7."""
    problem = malformation(message(QUESTION, additionals=[record(b"\0", OPT, data)]))
    assert problem is not None
    assert "OPT ends inside an option" in problem


@pytest.mark.parametrize("odd", [option(PADDING) * 2, option(KEEPALIVE, b"\1"), option(KEEPALIVE, bytes(3))])
@pytest.mark.parametrize("flags", [0, QR])
@pytest.mark.parametrize("is_first", [True, False])
def test_an_odd_option_hides_no_other(odd, flags, is_first):
    """FR-73: it is said what is odd, and the others are there, in whatever order they stand."""
    good = [option(COOKIE, bytes(8)), option(65_001, b"hi")]
    wire = message(QUESTION, flags=flags, additionals=[opt(*([odd, *good] if is_first else [*good, odd]))])
    layout = walk(wire)
    assert layout.problem is None
    assert layout.option(COOKIE) == bytes(8)
    assert layout.option(65_001) == b"hi"
    assert oddity(wire, layout) == malformation(wire)
    assert ("Padding" if odd.startswith(option(PADDING)) else "keepalive") in oddity(wire, layout)


def test_keepalive_is_odd_by_its_length():
    """FR-73: which length is right depends on who speaks (KAL-1, KAL-9)."""
    for flags, length in itertools.product((0, QR), range(4)):
        wire = message(QUESTION, flags=flags, additionals=[opt(option(KEEPALIVE, bytes(length)))])
        assert (oddity(wire, walk(wire)) is None) == (length == (2 if flags else 0))


def test_options_before_the_one_that_is_cut():
    """FR-73: where an option says more octets than OPT has, the record can be read up to there."""
    layout = walk(message(QUESTION, additionals=[opt(option(KEEPALIVE), option(COOKIE, bytes(8)), b"\0\x0f\0\x09")]))
    assert layout.problem is not None
    assert layout.options == [(KEEPALIVE, b""), (COOKIE, bytes(8))]


def test_one_option_of_two():
    """None of them is the only one, and both are there."""
    layout = walk(message(QUESTION, additionals=[opt(option(KEEPALIVE, b"\0\x64"), option(KEEPALIVE, b"\0\x1e"))]))
    assert layout.problem is None
    assert layout.option(KEEPALIVE) is None
    assert layout.values(KEEPALIVE) == [b"\0\x64", b"\0\x1e"]


@pytest.mark.parametrize("version", [0, 1, 255])
def test_the_version_of_edns(version):
    """RFC 6891, section 6.1.3 (SRV-7)."""
    wire = message(QUESTION, additionals=[record(), opt(version=version, rcode=7, flags=0x8000)])
    assert edns_version(wire, walk(wire)) == version


# Signatures.


@pytest.mark.parametrize(
    ("additionals", "signed"),
    [
        ([], False),
        ([opt()], False),
        ([record(kind=TSIG, rdclass=255)], True),
        ([opt(), record(kind=TSIG, rdclass=255)], True),
        ([record(b"\0", SIG, SIGNATURE)], True),
        ([opt(), record(b"\0", SIG, SIGNATURE)], True),
        ([record(b"\0", SIG, b"\0\x01" + SIGNATURE)], False),
        ([record(b"\0", SIG, b"\x01\0" + SIGNATURE)], False),
        ([record(b"\0", SIG, b"")], False),
        ([record(b"\0", SIG, b"\0"), record(b"\0")], False),
        ([record(b"\0", SIG, SIGNATURE), opt()], True),
        ([record(b"\0", SIG, SIGNATURE), record(kind=TSIG, rdclass=255)], True),
    ],
)
def test_a_signed_message(additionals, signed):
    """TSIG last, or an additional SIG that covers type 0 (RFC 8945, section 5.1; RFC 2931, section 3; PAD-11)."""
    layout = walk(message(QUESTION, additionals=additionals))
    assert layout.problem is None
    assert layout.is_signed is signed


@pytest.mark.parametrize(
    ("sections", "has_sig0"),
    [
        ({"additionals": [record(b"\0", SIG, SIGNATURE)]}, True),
        ({"additionals": [record(b"\0", SIG, SIGNATURE), record(b"\0", SIG, SIGNATURE)]}, True),
        ({"additionals": [record(b"\0", SIG, SIGNATURE), opt()]}, True),
        ({"additionals": [record(b"\0", SIG, SIGNATURE), record(kind=TSIG, rdclass=255)]}, True),
        ({"additionals": [record(kind=TSIG, rdclass=255)]}, False),
        ({"additionals": [record(b"\0", SIG, b"\0\1" + SIGNATURE)]}, False),
        ({"answers": [record(b"\0", SIG, SIGNATURE)]}, False),
        ({"authorities": [record(b"\0", SIG, SIGNATURE)], "additionals": [opt()]}, False),
    ],
)
def test_a_message_that_keeps_its_id(sections, has_sig0):
    """FR-61: SIG(0) covers the header, also with something behind it; TSIG has the original id in it."""
    assert walk(message(QUESTION, **sections)).has_sig0 is has_sig0


@pytest.mark.parametrize(
    "sections",
    [
        {"additionals": [record(kind=TSIG, rdclass=255), opt()]},
        {"additionals": [record(kind=TSIG, rdclass=255), record(kind=TSIG, rdclass=255)]},
        {"answers": [record(kind=TSIG, rdclass=255)], "additionals": [record()]},
    ],
)
def test_tsig_before_another_record(sections):
    """RFC 8945, section 5.1: FORMERR."""
    problem = malformation(message(QUESTION, **sections))
    assert problem is not None
    assert "TSIG is not the last record" in problem


# Against another reader.


@given(st.integers(0, 15), st.integers(0, 0xFFFF).map(lambda flags: flags & 0x87FF))
def test_the_opcode(opcode, others):
    """Four bits in the middle of the flags (RFC 1035, section 4.1.1)."""
    assert opcode_of(message(QUESTION, flags=opcode << 11 | others)) == opcode


@given(
    st.lists(st.sampled_from(["a.example. 60 IN A 192.0.2.1", "example. 60 IN MX 10 mx.example.", "x. 0 IN TXT hi"])),
    st.booleans(),
    st.lists(st.sampled_from([(COOKIE, bytes(8)), (PADDING, bytes(9)), (65_001, b"x")]), unique=True),
)
def test_messages_made_by_dnspython(records, with_edns, options):
    """Well-formed, compressed as they are, and their options as they were put in (EDN-1)."""
    text = "id 1\nopcode QUERY\nrcode NOERROR\nflags QR\n;QUESTION\nexample. IN ANY\n;ANSWER\n" + "\n".join(records)
    made = dns.message.from_text(text)
    if with_edns:
        made.use_edns(0, options=[dns.edns.GenericOption(code, data) for code, data in options])
    wire = made.to_wire()
    layout = walk(wire)
    assert layout.problem is None
    assert (layout.opt is not None) == with_edns
    assert layout.options == (options if with_edns else [])
    assert layout.question_end == 12 + len(b"\x07example\x00") + 4


def test_a_query_of_ours():
    """The parts of the message are where make_query put them."""
    wire = make_query("example.com", "AAAA")
    layout = walk(wire)
    assert layout.problem is None
    assert layout.opt == (29, 40)
    assert layout.question_end == 29


# The RCODE


@pytest.mark.parametrize("number", [0, 1, 15, 16, 23, 255, 256, 4095])
def test_an_rcode_has_twelve_bits(number):
    """FR-66: four in the header, eight in OPT, wherever among the additional records it stands (RFC 6891, 6.1.3)."""
    extended = opt(option(COOKIE, bytes(8)), rcode=number >> 4)
    for additionals in ([extended], [record(), extended], [extended, record()], [extended, record(b"\0", TSIG)]):
        wire = message(QUESTION, flags=number & 15, answers=[record(), record()], additionals=additionals)
        assert rcode(wire) == number
        assert is_error(wire) == (number != 0)


@pytest.mark.parametrize("owner", [b"\1\0", b"\xc0\x0c", b"\3abc\0"])
def test_the_rcode_of_an_opt_with_an_owner(owner):
    """FR-66: such an OPT is malformed, and says nothing; what stands where the bits would be is no RCODE."""
    wire = message(QUESTION, flags=3, additionals=[owner + opt(rcode=7, size=0xFFFF)[1:]])
    assert malformation(wire) is not None
    assert rcode(wire) == 3


@given(st.lists(st.sampled_from([b"\0\0\x29", b"\0", b"\1", b"\xff", opt(), opt(rcode=1), record()]), max_size=12))
def test_an_error_is_an_rcode_that_is_not_0(pieces):
    """FR-66: the short way finds what the walk finds, in any octets, well formed or not."""
    for wire in (
        bytes(11) + b"\3" + b"".join(pieces),
        message(additionals=pieces),
        message(QUESTION, answers=[record(kind=TXT, data=b"".join(pieces))], additionals=[opt(), *pieces]),
        message(QUESTION, answers=[record(kind=TXT, data=b"".join(pieces))], additionals=[opt(rcode=9)]),
    ):
        assert is_error(wire) == (rcode(wire) != 0)
