"""Padding and keepalive, spliced into finished messages (PAD-1 to PAD-14, KAL-1 to KAL-4, SRV-8, EDN-1)."""

from __future__ import annotations

import math

import dns.edns
import dns.message
import dns.tsig
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import dot_proto.client
from dot_proto import (
    MAX_MESSAGE,
    MIN_MESSAGE,
    QUERY_BLOCK,
    RESPONSE_BLOCK,
    LocalProtocolError,
    MessageError,
    padding_length,
)
from dot_proto._edns import (
    MAX_KEEPALIVE,
    Additions,
    additions,
    decode_keepalive,
    encode_keepalive,
    least_keepalive,
    splice,
    splice_plain,
    without_opt,
)
from dot_proto._message import malformation, walk
from support.interpreted import interpreted
from support.messages import (
    COOKIE,
    EDE,
    KEEPALIVE,
    PADDING,
    QR,
    SIG,
    TXT,
    message,
    opt,
    option,
    query_of_length,
    record,
)
from support.scenes import Scene
from support.vectors import load, octets

VECTORS = load("padding")
QUESTION = b"\x07example\x03com\x00\x00\x01\x00\x01"
TEN_SECONDS = b"\x00\x64"
NSID = 3


def by_id(case) -> str:
    return case["id"]


def spliced(wire: bytes, keepalive: bytes | None = None, block: int | None = None) -> bytes:
    return splice(wire, walk(wire), added(keepalive, block))


def added(keepalive: bytes | None = None, block: int | None = None) -> Additions:
    return additions(() if keepalive is None else ((KEEPALIVE, keepalive),), block)


def options_of(wire: bytes) -> list[tuple[int, bytes]]:
    return walk(wire).options


# How much padding.


@pytest.mark.parametrize("block", [1, 7, 32, QUERY_BLOCK, RESPONSE_BLOCK, 4096, 65_534, MAX_MESSAGE])
def test_padding_of_every_length(block):
    """The next multiple that holds the option's own four octets, cut at 65535 (PAD-1, PAD-2, PAD-5, PAD-13, PAD-17)."""
    multiple = 0
    for length in range(MIN_MESSAGE, MAX_MESSAGE + 1):
        while multiple < length + 4:
            multiple += block
        padding = padding_length(length, block)
        if length > 65_531:
            assert padding is None
        else:
            assert padding == min(multiple, 65_535) - length - 4


@pytest.mark.parametrize("block", VECTORS["length_table"])
def test_the_table_of_lengths(block):
    """As another reading of RFC 8467 computed it (PAD-5, PAD-13)."""
    assert [[length, padding_length(length, int(block))] for length, _ in VECTORS["length_table"][block]] == VECTORS[
        "length_table"
    ][block]


def test_the_usual_blocks():
    """RFC 8467, section 4.1."""
    assert (QUERY_BLOCK, RESPONSE_BLOCK) == (128, 468)


# Splicing.


@pytest.mark.parametrize("case", VECTORS["cases"], ids=by_id)
def test_padded_messages(case):
    """Octet for octet; an OPT that is not last goes last (PAD-1 to PAD-13)."""
    wire = octets(case["in"])
    padded = spliced(wire, block=case["block"])
    assert len(padded) == case["out_length"]
    assert padded == octets(case["out"])


@pytest.mark.parametrize("block", [QUERY_BLOCK, RESPONSE_BLOCK, 100])
@given(data=st.data())
def test_every_length_is_met(block, data):
    """Where there is room the length is a multiple, and near the limit all that there is (PAD-5, PAD-13)."""
    near = st.builds(lambda times, off: times * block + off, st.integers(1, 65_535 // block), st.integers(-6, 2))
    length = data.draw(st.integers(44, MAX_MESSAGE) | near)
    assume(44 <= length <= MAX_MESSAGE)
    wire = query_of_length(length)
    assert len(wire) == length
    padded = spliced(wire, block=block)
    padding = padding_length(length, block)
    assert len(padded) == (length if padding is None else length + 4 + padding)
    assert len(padded) % block == 0 or len(padded) == MAX_MESSAGE or padding is None
    assert malformation(padded) is None


parts = st.fixed_dictionaries(
    {
        "answers": st.lists(st.sampled_from([record(), record(b"\x01x\xc0\x0c", TXT, b"\x02hi")]), max_size=4),
        "options": st.none()
        | st.lists(
            st.tuples(st.sampled_from([COOKIE, EDE, KEEPALIVE, PADDING, 65_001]), st.binary(min_size=8, max_size=24)),
            max_size=4,
            unique_by=lambda option: option[0],
        ),
        "flags": st.sampled_from([0, 0x8000, 0x7FFF]),
        "size": st.sampled_from([512, 1232, 65_535]),
    }
)


def built(answers, options, flags, size) -> bytes:
    additionals = [] if options is None else [opt(*(option(*each) for each in options), flags=flags, size=size)]
    return message(QUESTION, id=0xBEEF, flags=0x8180, answers=answers, additionals=additionals)


@given(parts, st.sampled_from([None, b"", TEN_SECONDS]), st.sampled_from([None, 128, 468]))
def test_nothing_else_changes(parts, keepalive, block):
    """Records, other options, flags and payload size stay; padding is last (PAD-6, PAD-8 to PAD-10, PAD-14, EDN-1)."""
    wire = built(**parts)
    made = spliced(wire, keepalive, block)
    before, after = walk(wire), walk(made)
    assert after.problem is None
    assert after.opt is not None
    ours = {KEEPALIVE: keepalive, PADDING: block}
    kept = [each for each in before.options if ours.get(each[0]) is None]
    added = [(KEEPALIVE, keepalive)] if keepalive is not None else []
    if block is None:
        assert after.options == kept + added
    else:
        assert len(made) % block == 0
        assert after.options[:-1] == kept + added
        code, zeros = after.options[-1]
        assert code == PADDING
        assert not any(zeros)
    start = after.opt[0]
    assert made[:10] + made[12:start] == wire[:10] + wire[12:start]
    if parts["options"] is None:
        assert made[start : start + 9] == opt()[:9]
    else:
        assert made[: start + 9] == wire[: start + 9]


@given(parts, st.sampled_from([None, b"", TEN_SECONDS]), st.sampled_from([None, 128, 468]))
def test_another_reader_sees_the_same(parts, keepalive, block):
    """dnspython reads the message before and after, and finds only our options different (EDN-1)."""
    parts["options"] = parts["options"] and [
        (code, data) for code, data in parts["options"] if code in (65_001, PADDING)
    ]
    wire = built(**parts)
    before, after = (dns.message.from_wire(each) for each in (wire, spliced(wire, keepalive, block)))
    assert after.question == before.question
    assert after.answer == before.answer
    assert (after.id, after.flags) == (before.id, before.flags)
    assert after.edns == 0
    assert [each.to_wire() for each in after.options if each.otype == 65_001] == [
        each.to_wire() for each in before.options if each.otype == 65_001
    ]
    if keepalive is not None:
        assert [each.to_wire() for each in after.options if each.otype == KEEPALIVE] == [keepalive]
    if before.edns >= 0:
        assert (after.ednsflags, after.payload) == (before.ednsflags, before.payload)


@given(parts, st.sampled_from([None, b"", TEN_SECONDS]), st.sampled_from([None, 128, 468]))
def test_once_is_enough(parts, keepalive, block):
    """Options that are there are replaced, not doubled: a second splice changes nothing (PAD-7, PAD-10)."""
    once = spliced(built(**parts), keepalive, block)
    assert spliced(once, keepalive, block) == once


@pytest.mark.parametrize("keepalive", [b"", TEN_SECONDS])
@pytest.mark.parametrize("length", range(65_520, MAX_MESSAGE + 1))
def test_near_the_limit_what_does_not_fit_is_left_out(length, keepalive):
    """Keepalive first, then padding with what is left, and never a message that is too long (PAD-13, KAL-1)."""
    made = spliced(query_of_length(length), keepalive, QUERY_BLOCK)
    assert walk(made).problem is None
    room = MAX_MESSAGE - length
    codes = [code for code, _ in options_of(made)[1:]]
    if room >= 8 + len(keepalive):
        assert codes == [KEEPALIVE, PADDING]
        assert len(made) == MAX_MESSAGE
    elif room >= 4 + len(keepalive):
        assert codes == [KEEPALIVE]
        assert len(made) == length + 4 + len(keepalive)
    elif room >= 4:
        assert codes == [PADDING]
        assert len(made) == MAX_MESSAGE
    else:
        assert codes == []
        assert len(made) == length


@pytest.mark.parametrize("room", range(12))
def test_an_opt_that_does_not_fit_is_not_added(room):
    """11 octets for OPT itself; with fewer the message goes as it is (PAD-9, PAD-13)."""
    data = bytes(MAX_MESSAGE - room - len(message(QUESTION, answers=[record(data=b"")])))
    wire = message(QUESTION, answers=[record(data=data)])
    made = spliced(wire, b"", QUERY_BLOCK)
    assert made == wire if room < 11 else walk(made).opt == (len(wire), len(wire) + 11)


@pytest.mark.parametrize("count", [0, 1, 255, 256, 300])
def test_opt_counts_as_an_additional_record(count):
    """Sixteen bits of count, and the other sections' counts stay (PAD-9)."""
    sections = {"answers": [record()] * 2, "authorities": [record()] * 3}
    wire = message(QUESTION, additionals=[record()] * count, **sections)
    expected = message(QUESTION, additionals=[*[record()] * count, opt(option(KEEPALIVE))], **sections)
    assert spliced(wire, b"") == expected
    assert splice_plain(wire, len(wire), added(b"")) == expected[2:]


def test_neither_asked_for():
    """None leaves both options as they are."""
    wire = message(QUESTION, additionals=[opt(option(PADDING, b"\xff"), option(KEEPALIVE, TEN_SECONDS))])
    assert spliced(wire) == wire


@given(parts, st.sampled_from([None, b"", TEN_SECONDS]), st.sampled_from([None, 128, 468]))
def test_the_short_way_gives_the_same_octets(parts, keepalive, block):
    """For a message that has no option yet; of any other it says so (PAD-1, PAD-3, KAL-1)."""
    wire = built(**parts)
    layout = walk(wire)
    start = len(wire) if layout.opt is None else layout.opt[0]
    made = splice_plain(wire, start, added(keepalive, block))
    assert made == (None if layout.options else spliced(wire, keepalive, block)[2:])


@pytest.mark.parametrize("room", range(24))
@pytest.mark.parametrize("additionals", [[], [opt()]])
def test_the_short_way_near_the_limit(room, additionals):
    """It leaves out the same (PAD-13)."""
    fixed = len(message(QUESTION, answers=[record(data=b"")], additionals=additionals))
    wire = message(QUESTION, answers=[record(data=bytes(MAX_MESSAGE - room - fixed))], additionals=additionals)
    made = splice_plain(wire, len(wire) - len(b"".join(additionals)), added(b"", QUERY_BLOCK))
    assert (wire if made is None else wire[:2] + made) == spliced(wire, b"", QUERY_BLOCK)
    assert (made is None) == (not additionals and room < 11)


# Signed messages.


def signed_by_tsig(*, padded: bool) -> tuple[bytes, dns.tsig.Key]:
    key = dns.tsig.Key("key.test.", b"0" * 32, dns.tsig.HMAC_SHA256)
    query = dns.message.make_query("example.com", "A", use_edns=0 if padded else -1, pad=128 if padded else 0)
    query.use_tsig(key)
    return query.to_wire(), key


@pytest.mark.parametrize("padded", [True, False])
def test_a_message_with_tsig_still_verifies(padded):
    """It is signed over its whole length: padding is its maker's business (PAD-11; RFC 8945, section 4.3.2)."""
    wire, key = signed_by_tsig(padded=padded)
    assert walk(wire).problem is None
    made = spliced(wire, b"", QUERY_BLOCK)
    assert made == wire
    assert dns.message.from_wire(made, keyring=key).had_tsig
    changed = bytearray(wire)
    changed[13] ^= 1
    with pytest.raises(dns.tsig.BadSignature):
        dns.message.from_wire(bytes(changed), keyring=key)


@pytest.mark.parametrize("additionals", [[], [opt()]])
def test_a_message_with_sig0(additionals):
    """Type covered 0, at the end (PAD-11; RFC 2931, section 3)."""
    # Type covered, algorithm, labels, TTL, two dates, key tag; then the signer and the signature itself.
    data = bytes.fromhex("0000 0f 00 00000000 00000000 00000000 0001") + b"\x03key\x04test\x00" + bytes(64)
    signature = record(b"\0", SIG, data, rdclass=255)
    wire = message(QUESTION, additionals=[*additionals, signature])
    assert dns.message.from_wire(wire).additional[-1][0].type_covered == 0
    assert spliced(wire, b"", QUERY_BLOCK) == wire
    assert without_opt(wire, walk(wire)) == wire


def test_a_signature_over_records_is_no_signature_of_the_message():
    """SIG over another type does not forbid to pad (RFC 2535, section 4.1)."""
    wire = message(QUESTION, additionals=[record(b"\0", SIG, b"\0\x01" + bytes(20))])
    assert len(spliced(wire, block=QUERY_BLOCK)) == 128


BEHIND = {
    "owner in the question": [record(b"\x01x\xc0\x0c")],
    "owner behind OPT": [record(b"\x02ns\xc0\x0c"), record(b"\xc0\x34"), record(b"\x01y\xc0\x34")],
    "NS": [record(b"\x02ns\xc0\x0c"), record(kind=2, data=b"\xc0\x34")],
    "SOA": [record(b"\x02ns\xc0\x0c"), record(kind=6, data=b"\xc0\x34\x01z\xc0\x34" + bytes(20))],
    "MX": [record(b"\x02ns\xc0\x0c"), record(kind=15, data=b"\0\1\1a\xc0\x34")],
    "SRV": [record(b"\x02ns\xc0\x0c"), record(kind=33, data=bytes(6) + b"\xc0\x34")],
    "NAPTR": [record(b"\x02ns\xc0\x0c"), record(kind=35, data=bytes(4) + b"\1U\3SIP\0\xc0\x34")],
    "TXT is no name": [record(b"\x02ns\xc0\x0c"), record(kind=TXT, data=b"\2\xc0\x34")],
    "no pointer, but an octet like one": [record(b"\x01\xc0\0"), record(b"\x02ns\xc0\x0c")],
}
"Records behind OPT; some point at a name that stands at 0x34, right behind OPT."


@pytest.mark.parametrize("behind", BEHIND)
def test_opt_before_other_records(behind):
    """FR-65: it goes last, or away, and every name behind it is the same as before (PAD-12; RFC 3597, section 4)."""
    wire = message(QUESTION, flags=QR, additionals=[opt(option(EDE, bytes(8))), *BEHIND[behind]])
    assert walk(wire).opt == (0x1D, 0x34)
    padded, bare = spliced(wire, TEN_SECONDS, QUERY_BLOCK), without_opt(wire, walk(wire))
    due = sorted(map(str, dns.message.from_wire(wire).additional))
    for made in (padded, bare):
        assert walk(made).problem is None
        assert sorted(map(str, dns.message.from_wire(made).additional)) == due
    assert walk(bare).opt is None
    assert [code for code, _ in options_of(padded)] == [EDE, KEEPALIVE, PADDING]
    assert len(padded) == 128
    assert spliced(padded, TEN_SECONDS, QUERY_BLOCK) == padded


def test_a_record_behind_opt_that_has_no_data():
    """So it is in an update that deletes (RFC 2136, section 2.5.2): there is no name in it."""
    rest = [record(kind=2, data=b"", rdclass=255), record()]
    wire = message(QUESTION, additionals=[opt(), *rest])
    assert without_opt(wire, walk(wire)) == message(QUESTION, additionals=rest)


@pytest.mark.parametrize(
    "behind",
    [
        record(b"\xc0\x1d"),
        record(kind=2, data=b"\xc0\x1e"),
        record(kind=2, data=b"\x05a"),
        record(kind=2, data=b"\x01a"),
        record(kind=15, data=b"\0"),
        record(kind=6, data=b"\xc0\x0c"),
        record(kind=35, data=bytes(4) + b"\xff"),
        record(kind=35, data=bytes(2)),
    ],
)
def test_a_name_behind_opt_that_cannot_be_moved(behind):
    """It leads into OPT, or does not end with its record: the message is malformed, and nothing is made of it."""
    wire = message(QUESTION, additionals=[opt(option(EDE, bytes(8))), behind, record(b"\0")])
    assert walk(wire).problem is None
    for change in (spliced, lambda each: without_opt(each, walk(each))):
        with pytest.raises(MessageError):
            change(wire)


@given(parts, st.lists(st.sampled_from(range(4)), max_size=6), st.integers(0, 6))
def test_opt_anywhere(parts, kinds, place):
    """FR-65: taken away from wherever it stands, the rest is what it is in a message that never had it."""
    names = [b"\x01%d\xc0\x0c" % number for number in range(len(kinds))]
    place = min(place, len(kinds))

    def build(opts):
        additionals, offset = [], len(message(QUESTION))
        owners = []
        for number, kind in enumerate(kinds):
            if number == place and opts:
                additionals += opts
                offset += len(opts[0])
            pointer = (0xC000 | owners[kind % len(owners)]).to_bytes(2) if owners and kind else b""
            made = record(b"\x01y" + pointer, 2, pointer) if pointer else record(names[number])
            owners.append(offset)
            additionals.append(made)
            offset += len(made)
        return message(QUESTION, flags=QR, additionals=additionals + opts * (place == len(kinds)))

    made = opt(*(option(*each) for each in parts["options"] or []))
    wire = build([made])
    assert without_opt(wire, walk(wire)) == build([])


# Taking OPT away.


@pytest.mark.parametrize(("rcode", "due"), [(0, 0), (3, 3), (16, 2), (23, 2), (4095, 2)])
def test_without_opt_the_rcode_has_four_bits(rcode, due):
    """What they cannot say is SERVFAIL; BADVERS would look like success (EDN-2; RFC 6891, section 6.1.3)."""
    wire = message(QUESTION, flags=0x81B0 | rcode & 15, additionals=[opt(rcode=rcode >> 4)])
    assert without_opt(wire, walk(wire)) == message(QUESTION, flags=0x81B0 | due)


@given(parts)
def test_without_opt(parts):
    """Whatever had an OPT looks as if it never had one (SRV-8; RFC 6891, section 7)."""
    wire = built(**parts)
    parts["options"] = None
    assert without_opt(wire, walk(wire)) == built(**parts)


def test_opt_leaves_the_other_additional_records():
    """Only the last record goes, and the count with it (SRV-8)."""
    wire = message(QUESTION, additionals=[record()] * 300 + [opt(option(EDE, b"\0\x15"))])
    assert without_opt(wire, walk(wire)) == message(QUESTION, additionals=[record()] * 300)


# Keepalive.


@pytest.mark.parametrize(
    ("seconds", "data"),
    [
        (0, "0000"),
        (0.1, "0001"),
        (0.3, "0003"),
        (0.7, "0007"),
        (10.0, "0064"),
        (6553.5, "ffff"),
        (0.19, "0001"),
        (0.09, "0000"),
    ],
)
def test_keepalive_counts_tenths(seconds, data):
    """Rounded down: a server must not promise more than it holds (KAL-3, KAL-7)."""
    assert encode_keepalive(seconds).hex() == data


@given(st.integers(0, 65_535))
@example(65_535)
def test_keepalive_there_and_back(tenths):
    """Every value of the option (KAL-3)."""
    assert encode_keepalive(decode_keepalive(tenths.to_bytes(2))) == tenths.to_bytes(2)
    assert encode_keepalive(tenths / 10) == tenths.to_bytes(2)
    assert decode_keepalive(tenths.to_bytes(2)) == tenths / 10


@given(st.floats(0, MAX_KEEPALIVE))
def test_keepalive_is_not_more_than_asked(seconds):
    """KAL-7."""
    stated = decode_keepalive(encode_keepalive(seconds))
    assert seconds - 0.1 <= stated <= seconds + 1e-6


@pytest.mark.parametrize("seconds", [-0.1, 6553.6, math.inf, math.nan])
def test_keepalive_out_of_range(seconds):
    """16 bits of tenths of a second (RFC 7828, section 3.1)."""
    with pytest.raises(LocalProtocolError, match=r"0 to 6553\.5 seconds"):
        encode_keepalive(seconds)


@pytest.mark.parametrize("case", load("keepalive")["cases"], ids=by_id)
def test_keepalive_vectors(case):
    """FR-73: the least counts; any length but two is no timeout (KAL-3, KAL-4, KAL-9)."""
    values = walk(octets(case["message"])).values(KEEPALIVE)
    if case["sender"] == "server":
        for order in (values, values[::-1]):
            data = least_keepalive(order)
            stated = None if data is None else decode_keepalive(data)
            assert stated == (case["seconds"] if case["transport"] == "tls" else 10.0)
    else:
        assert (values == [b""]) == (case["outcome"] in ("accept", "ignore"))


@pytest.mark.parametrize("length", [0, 1, 3, 4])
def test_keepalive_of_another_length(length):
    """KAL-9."""
    assert decode_keepalive(bytes(length)) is None


# A further option.


@interpreted
def test_a_third_option_is_one_entry_more_in_the_list(monkeypatch):
    """The engine carries whatever is listed, on both ways through a message: here NSID (RFC 5001)."""
    monkeypatch.setattr(
        dot_proto.client, "for_queries", lambda **_: additions(((NSID, b""), (KEEPALIVE, b"")), QUERY_BLOCK)
    )
    scene = Scene()
    for wire in (message(QUESTION), message(QUESTION, additionals=[opt(option(COOKIE, bytes(8)))])):
        scene.client.send_query(wire, now=scene.now)
    first, second = (walk(sent[2:]) for sent in scene.client.data_to_send())
    assert [code for code, _ in first.options] == [NSID, KEEPALIVE, PADDING]
    assert [code for code, _ in second.options] == [COOKIE, NSID, KEEPALIVE, PADDING]
    assert not first.problem
    assert not second.problem


@given(st.integers(12, MAX_MESSAGE), st.lists(st.tuples(st.integers(100, 200), st.binary(max_size=40)), max_size=4))
def test_listed_options_keep_their_order_and_leave_out_what_has_no_room(size, options):
    """Each either stands there whole or not at all, and padding goes last."""
    added = Additions(tuple(options), QUERY_BLOCK)
    data = added.octets(size)
    assert size + len(data) <= MAX_MESSAGE
    assert added.end(size) == len(data).to_bytes(2) + data
    *listed, (last, _) = walk(message(QUESTION, additionals=[opt(data)])).options or [(PADDING, b"")]
    assert last == PADDING or MAX_MESSAGE - size < 200
    assert listed == options or MAX_MESSAGE - size < 200


def test_what_is_kept_ready_is_bounded():
    """Whoever sends messages of every size has 512 of them at a time."""
    added = Additions(((KEEPALIVE, b""),), QUERY_BLOCK)
    for size in range(12, 2000):
        assert added.end(size) == added.end(size)
        assert len(added.ready) <= 512
