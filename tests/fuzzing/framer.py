"""The framer: first an octet that says how the stream is cut, then the stream."""

from __future__ import annotations

from dot_proto import Deframer, frame
from dot_proto.testing.messages import read
from fuzzing.program import cut


def target(data: bytes) -> None:
    """However the stream is cut, the framer says what the plain reading says, and frames it again (FRM-1 to FRM-12)."""
    size, stream = data[0] if data else 0, data[1:]
    reading, deframer = read(stream), Deframer()
    received: list[bytes] = []
    heard = 0
    for piece in cut(stream, size):
        received += deframer.feed(piece)
        heard += len(piece)
        assert len(received) == reading.delivered(heard)
        assert deframer.failed == reading.has_failed(heard)
        if not deframer.failed:
            # What is kept is the one message that is incomplete, and not an octet more (FRM-12).
            kept = heard - sum(2 + len(message) for message in received)
            assert len(deframer._tail) == kept
            assert deframer.mid_message == (kept > 0)
    assert received == reading.messages
    assert stream.startswith(b"".join(map(frame, received)))
