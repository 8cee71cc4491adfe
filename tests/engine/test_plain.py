"""The short way for plain messages finds what the long one finds, or nothing (MAT-19, EDN-1)."""

from __future__ import annotations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from dot_proto import MAX_MESSAGE, make_query
from dot_proto._edns import additions, splice, splice_plain
from dot_proto._message import walk
from dot_proto._plain import opt_offset, options, plain_question_end
from support.messages import COOKIE, KEEPALIVE, PADDING, SIG, TSIG, TXT, A, message, opt, option, record

QUESTION = b"\x07example\x03com\x00\x00\x01\x00\x01"
LONGEST = (b"\x3f" + bytes(63)) * 3 + b"\x3d" + bytes(61) + b"\x00"
"A name of 255 octets (RFC 1035, section 2.3.4)."

# Small alphabets: otherwise hardly any message would be nearly right.
names = st.sampled_from(
    [b"\0", b"\x03com\0", b"\x01a\x01b\0", b"\xc0\x0c", b"\xc0\x00", b"\xff\xff", b"\x80", b"\x40", b"\xc0", LONGEST]
)
optional = st.lists(st.builds(option, st.sampled_from([KEEPALIVE, PADDING, COOKIE]), st.binary(max_size=3)), max_size=3)
opts = optional.map(lambda some: opt(*some))
records = st.builds(record, names, st.sampled_from([A, A, TXT, SIG, TSIG]), st.sampled_from([b"", bytes(4), bytes(18)]))
anything = st.lists(records | opts, max_size=2)
built = st.builds(
    message,
    st.builds(bytes.__add__, names | st.just(b"\x07example\0"), st.just(b"\0\1\0\1")) | st.just(b""),
    answers=anything,
    authorities=anything,
    additionals=anything,
)


@st.composite
def nearly_right(draw: st.DrawFn) -> bytes:
    """Messages with an octet changed, and cut, or neither."""
    made = bytearray(draw(built))
    if draw(st.booleans()):
        made[draw(st.integers(2, len(made) - 1))] = draw(st.sampled_from([0, 1, 2, 41, 64, 192, 255]))
    return bytes(made[: draw(st.just(len(made)) | st.integers(12, len(made)))])


@given(nearly_right())
@example(make_query("example.com"))
def test_what_is_found_is_what_walk_finds(octets: bytes):
    layout = walk(octets)
    is_plain = layout.problem is None and not layout.is_signed
    if question_end := plain_question_end(octets):
        assert octets[4:10] == b"\0\1\0\0\0\0"
        # Options are not looked at; what may be wrong is one of them.
        assert is_plain or options(octets) is None
        assert layout.question_end == question_end
        assert question_end == opt_offset(octets)
    if opt_start := opt_offset(octets):
        assert is_plain or options(octets) is None
        assert opt_start == (len(octets) if layout.opt is None else layout.opt[0])
        assert layout.opt is None or layout.opt[1] == len(octets)
    if (found := options(octets)) is not None:
        assert is_plain
        assert found == dict(layout.options)


@pytest.mark.parametrize(
    ("octets", "question_end", "opt_start"),
    [
        pytest.param(message(QUESTION), 29, 29, id="question-alone"),
        pytest.param(message(QUESTION, additionals=[opt()]), 29, 29, id="opt"),
        pytest.param(message(LONGEST + b"\0\1\0\1", additionals=[opt()]), 271, 271, id="longest-name"),
        pytest.param(message(QUESTION, answers=[record()] * 2), 0, 61, id="answers"),
        pytest.param(message(QUESTION, answers=[record()], additionals=[opt()]), 0, 45, id="answer-and-opt"),
        pytest.param(message(QUESTION, authorities=[record(b"\0")], additionals=[opt()]), 0, 44, id="root-and-opt"),
    ],
)
def test_plain_messages_take_the_short_way(octets: bytes, question_end: int, opt_start: int):
    assert (plain_question_end(octets), opt_offset(octets)) == (question_end, opt_start)
    assert options(octets) == {}


PLAIN = message(QUESTION, answers=[record()], additionals=[opt()])


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(message(additionals=[opt()]), id="no-question"),
        pytest.param(message(b"\x07ex\xc0\x0c" + QUESTION), id="pointer-in-question"),
        pytest.param(message(b"\x01a" + LONGEST + b"\0\1\0\1"), id="name-of-257"),
        pytest.param(message(QUESTION, answers=[record(b"\x01a\0")]), id="owner-in-labels"),
        pytest.param(message(QUESTION, answers=[record(b"\xc0\xff")]), id="pointer-forward"),
        pytest.param(message(QUESTION, answers=[opt()]), id="opt-among-answers"),
        pytest.param(message(QUESTION, additionals=[opt(), record()]), id="opt-not-last"),
        pytest.param(message(QUESTION, additionals=[b"\xc0\x00" + opt()[1:]]), id="opt-not-of-root"),
        pytest.param(message(QUESTION, additionals=[record(b"\0", TSIG)]), id="tsig"),
        pytest.param(message(QUESTION, additionals=[record(b"\0", SIG, bytes(18))]), id="sig0"),
        pytest.param(message(QUESTION, additionals=[opt()]) + b"\0", id="octet-behind"),
        pytest.param(message(QUESTION, answers=[record()]) + b"\0", id="octet-behind-answer"),
        *(pytest.param(PLAIN[:length], id=f"cut-to-{length}") for length in range(12, len(PLAIN))),
    ],
)
def test_other_messages_take_the_long_way(octets: bytes):
    assert (plain_question_end(octets), opt_offset(octets), options(octets)) == (0, 0, None)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (option(KEEPALIVE) + option(PADDING, bytes(3)), {KEEPALIVE: b"", PADDING: bytes(3)}),
        (option(PADDING) + option(COOKIE) + option(PADDING), None),
        (b"\0\x0b\0", None),
        (b"\0\x0b\0\1", None),
    ],
)
def test_options(data: bytes, found: dict[int, bytes] | None):
    assert options(message(QUESTION, answers=[record()], additionals=[opt(data)])) == found


@given(
    st.sampled_from([b"", opt(), opt(flags=0x8000), opt(option(COOKIE))]),
    st.sampled_from([None, b"", b"\x02\x58"]),
    st.sampled_from([None, 1, 128, 468, MAX_MESSAGE]),
    st.integers(0, 100) | st.integers(MAX_MESSAGE - 100, MAX_MESSAGE),
)
def test_the_same_is_spliced_on_either_way(edns: bytes, keepalive: bytes | None, block: int | None, size: int):
    """EDN-1, also where there is no room for everything: up to 65535 octets."""
    rest = size - len(message(QUESTION, answers=[record(data=b"")])) - len(edns)
    assume(rest >= 0)
    octets = message(QUESTION, answers=[record(data=bytes(rest))], additionals=[edns] if edns else [])
    added = additions(() if keepalive is None else ((KEEPALIVE, keepalive),), block)
    spliced = splice_plain(octets, opt_offset(octets), added)
    if spliced is None:
        assert len(edns) > 11 or (not edns and size > MAX_MESSAGE - 11)
    else:
        assert spliced == splice(octets, walk(octets), added)[2:]
