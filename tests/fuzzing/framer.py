"""The framer: first an octet that says how the stream is cut, then the stream."""

from __future__ import annotations

from dot_proto import Deframer, frame
from fuzzing.program import cut, read


def target(data: bytes) -> None:
    """However the stream is cut, the framer says what a simple reader says, and frames the same again (FRM-1 to 12)."""
    size, stream = data[0] if data else 0, data[1:]
    messages, rest, has_failed = read(stream)
    deframer, received, heard = Deframer(), [], 0
    for piece in cut(stream, size):
        before = deframer.failed
        news = deframer.feed(piece)
        assert not (before and news), "a message behind a fault"
        received += news
        heard += len(piece)
        if not deframer.failed:
            # What is kept is the one message that is incomplete, and not an octet more (FRM-12).
            kept = heard - sum(2 + len(message) for message in received)
            assert len(deframer._tail) == kept
            assert deframer.mid_message == (kept > 0)
    assert received == messages
    assert deframer.failed == has_failed
    assert b"".join(map(frame, received)) + rest == stream
