"""The length prefix, however the stream is cut (FRM-1, FRM-3 to FRM-12, FRM-15)."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dot_proto import MAX_MESSAGE, MIN_MESSAGE, Deframer, LocalProtocolError, _framing, frame
from support.interpreted import interpreted
from support.messages import cut_at, pieces, stream_of
from support.vectors import load, octets

VECTORS = load("framing")
CASES = VECTORS["cases"]
SHORT = [case for case in CASES if len(octets(case["stream"])) <= 300]

some_messages = st.lists(st.binary(min_size=MIN_MESSAGE, max_size=60), max_size=5)
some_cuts = st.lists(st.integers(0, 400), max_size=8)


def by_id(case) -> str:
    return case["id"]


def fed(chunks) -> tuple[list[bytes], Deframer]:
    """All messages of a stream given in chunks, and the deframer as it then stands."""
    deframer = Deframer()
    return [message for chunk in chunks for message in deframer.feed(chunk)], deframer


def check(case: dict[str, Any], chunks) -> None:
    messages, deframer = fed(chunks)
    assert messages == [octets(message) for message in case["messages"]]
    assert deframer.failed == (case["error"] == "short-frame")
    if case["end_of_stream"]:
        assert deframer.mid_message == (case["error"] == "truncated")


@pytest.mark.parametrize("case", CASES, ids=by_id)
def test_at_once(case):
    """Many messages in one read, good ones before a bad one (FRM-3, FRM-5 to FRM-8, FRM-10, FRM-11)."""
    check(case, [octets(case["stream"])])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("case", CASES, ids=by_id)
def test_in_pieces(case, size):
    """One octet at a time, and other small reads (FRM-3, FRM-4)."""
    check(case, pieces(octets(case["stream"]), size))


@pytest.mark.parametrize("case", SHORT, ids=by_id)
def test_every_cut_in_two(case):
    """Between the octets of the prefix, behind it, inside the message (FRM-3)."""
    stream = octets(case["stream"])
    for offset in range(len(stream) + 1):
        check(case, cut_at(stream, [offset]))


@pytest.mark.parametrize("case", CASES, ids=by_id)
@given(offsets=st.lists(st.integers(0, 65_540), max_size=6))
def test_any_cut(case, offsets):
    """The messages do not depend on the cuts (FRM-3)."""
    check(case, cut_at(octets(case["stream"]), offsets))


@given(some_messages, some_cuts)
def test_frames_come_back_however_they_are_cut(messages, offsets):
    """What was framed comes out, in order (FRM-1, FRM-3)."""
    stream = b"".join(map(frame, messages))
    assert stream == stream_of(messages)
    got, deframer = fed(cut_at(stream, offsets))
    assert got == messages
    assert not deframer.mid_message
    assert not deframer.failed


@given(some_messages, st.binary(max_size=100), some_cuts)
def test_what_follows_changes_no_message(messages, rest, offsets):
    """A message that is whole is delivered as it is, whatever comes behind it (FRM-10)."""
    got, _ = fed(cut_at(stream_of(messages) + rest, offsets))
    assert got[: len(messages)] == messages


@given(st.lists(st.binary(max_size=50)))
def test_any_octets(chunks):
    """Nothing raises; what is held is never more than one message that has begun (FRM-12)."""
    messages, deframer = fed(chunks)
    assert all(len(message) >= MIN_MESSAGE for message in messages)
    parsed = len(stream_of(messages))
    left = b"".join(chunks)[parsed:]
    assert deframer.failed == (len(left) >= 2 and int.from_bytes(left[:2]) < MIN_MESSAGE)
    if not deframer.failed:
        assert deframer.mid_message == bool(left)
        assert len(left) < 2 or len(left) - 2 < int.from_bytes(left[:2])


def test_every_length_comes_back():
    """12 to 65535 octets, both ends included (FRM-1, FRM-7, FRM-8)."""
    longest = bytes(MAX_MESSAGE)
    for length in range(MIN_MESSAGE, MAX_MESSAGE + 1):
        deframer = Deframer()
        assert deframer.feed(frame(longest[:length])) == [longest[:length]]
        assert not deframer.mid_message


@pytest.mark.parametrize("case", VECTORS["refuse_at_caller"], ids=by_id)
def test_no_other_length_is_framed(case):
    """The caller's mistake, said as such (FRM-9)."""
    message = octets(case["message"])
    with pytest.raises(LocalProtocolError, match=f"12 to 65535 octets, not {len(message)}$"):
        frame(message)


@pytest.mark.parametrize("length", range(MIN_MESSAGE))
def test_a_short_length_is_an_error_at_its_second_octet(length):
    """The body of what cannot be a message is never waited for (FRM-5, FRM-6)."""
    deframer = Deframer()
    assert deframer.feed(b"\0") == []
    assert not deframer.failed
    assert deframer.feed(bytes([length])) == []
    assert deframer.failed


def test_nothing_is_read_behind_a_bad_length():
    """After the fault nothing is parsed, not even later (FRM-10)."""
    good = bytes(range(12))
    deframer = Deframer()
    assert deframer.feed(frame(good) + b"\0\0" + frame(good)) == [good]
    assert deframer.feed(frame(good)) == []
    assert deframer.failed


@pytest.mark.parametrize("hello", [b"GET / HTTP/1.1\r\n\r\n", bytes.fromhex("160301020001fc0303")])
def test_another_protocol_is_waited_for_at_the_bound(hello):
    """HTTP or TLS looks like a long message that never ends: only time or the end of the stream tells (FRM-15)."""
    messages, deframer = fed(pieces(hello, 5))
    assert messages == []
    assert deframer.mid_message
    assert not deframer.failed


@pytest.mark.parametrize("size", [9, 36], ids=["in-pieces", "at-once"])
@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_a_buffer_that_is_used_again(kind, size):
    """Messages are bytes of their own, also when the caller's buffer is reused for the next read (FRM-3)."""
    first, second = bytes(range(12)), bytes(range(20, 40))
    stream = stream_of([first, second])
    deframer = Deframer()
    got = []
    buffer = bytearray(size)
    for piece in pieces(stream, size):
        buffer[: len(piece)] = piece
        got += deframer.feed(kind(buffer)[: len(piece)])
        buffer[:] = bytes(size)
    assert got == [first, second]
    assert all(type(message) is bytes for message in got)


class Copies(bytearray):
    """A buffer that counts the octets moved when it grows at its end or loses its front."""

    moved = 0

    def __iadd__(self, more):
        Copies.moved += len(more)
        return super().__iadd__(more)

    def __delitem__(self, key):
        super().__delitem__(key)
        Copies.moved += len(self)


def lines_run(call) -> int:
    """How many lines of the framer a call runs: work, without a clock."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        count += event == "line"
        return trace if frame.f_globals["__name__"] == _framing.__name__ else None

    outer = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(outer)
    return count


@interpreted
@pytest.mark.parametrize("size", [1, 13, 1000])
@pytest.mark.parametrize("length", [1000, MAX_MESSAGE])
def test_work_is_linear_in_octets(monkeypatch, length, size):
    """The longest message in the smallest reads costs no more for each octet than a short one (FRM-12)."""
    monkeypatch.setattr(_framing, "bytearray", Copies, raising=False)
    monkeypatch.setattr(Copies, "moved", 0)
    deframer = Deframer()
    reads = list(pieces(frame(bytes(length)), size))
    steps = lines_run(lambda: [deframer.feed(read) for read in reads])
    assert not deframer.mid_message
    assert steps <= 12 * len(reads) + 50
    assert length <= Copies.moved <= 2 * length


@interpreted
def test_work_is_linear_in_messages():
    """So does a read full of the smallest messages (FRM-12)."""
    for count in (10, 100, 1000):
        stream = frame(bytes(12)) * count
        assert lines_run(lambda stream=stream: Deframer().feed(stream)) <= 12 * count + 50
