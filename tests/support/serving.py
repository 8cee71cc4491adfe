"""A server's engine, its clock, and a client that the test plays."""

from __future__ import annotations

from dot_proto import Cause, ConnectionClosed, Event, Fault, ServerConfiguration, ServerConnection
from dot_proto._message import walk
from support.messages import (
    KEEPALIVE,
    PADDING,
    Clock,
    just_before,
    message,
    opt,
    option,
    response_to,
    stream_of,
    unframed,
)

QUESTION = b"\x07example\x03com\x00\x00\x01\x00\x01"
BARE = message(QUESTION, id=0x1234, flags=0x0100)
WITH_OPT = message(QUESTION, id=0x1234, flags=0x0100, additionals=[opt()])
PADDED = message(QUESTION, id=0x1234, flags=0x0100, additionals=[opt(option(PADDING, bytes(40)))])
ASKING = message(QUESTION, id=0x1234, flags=0x0100, additionals=[opt(option(KEEPALIVE))])
RESPONSE = response_to(BARE)

NOW, TEN_SECONDS, GO = 1000.0, b"\x00\x64", b"\x00\x00"
IDLE_LIMIT = 12.0
"Seconds: idle_timeout and idle_grace of the default configuration."


class Server:
    """One connection and its clock."""

    def __init__(self, **configuration: object) -> None:
        self.clock = Clock(NOW)
        self.engine = ServerConnection(ServerConfiguration(**configuration), now=NOW)

    def receive(self, *messages: bytes) -> list[Event]:
        return self.engine.receive_data(stream_of(messages), now=self.clock.now)

    def ask(self, *messages: bytes) -> list[int]:
        """The handles of these queries, each of which must be accepted."""
        events = self.receive(*messages)
        assert [event.message for event in events] == list(messages)
        return [event.query for event in events]

    def answer(self, handle: int, response: bytes, **more: bool) -> bool:
        return self.engine.send_response(handle, response, now=self.clock.now, **more)

    def sent(self) -> list[bytes]:
        return unframed(self.engine.data_to_send())

    def timeout(self) -> list[Event]:
        return self.engine.handle_timeout(now=self.clock.now)

    def exchange(self, query: bytes, *answers: bytes, additionals=()) -> bytes:
        """What goes out for a query that is answered with these records."""
        (handle,) = self.ask(query)
        assert self.answer(handle, response_to(query, *answers, additionals=additionals))
        (response,) = self.sent()
        return response

    def seen(self) -> tuple[object, ...]:
        """All that can be seen from outside without changing it."""
        engine = self.engine
        return engine.state, engine.outstanding, engine.wants_data, engine.next_timeout(), engine.closing_for

    def assert_spurious(self) -> None:
        """handle_timeout one tick before the deadline does nothing."""
        deadline, before = self.engine.next_timeout(), self.seen()
        if deadline is not None and deadline > self.clock.now:
            assert self.engine.handle_timeout(now=just_before(deadline)) == []
        elif deadline is None:
            assert self.engine.handle_timeout(now=1e9) == []
        assert self.seen() == before


def closed(events: list[Event]) -> tuple[Cause, Fault | None]:
    """The terminal event, which must be the last and the only one of its kind."""
    *others, last = events
    assert isinstance(last, ConnectionClosed)
    assert not any(isinstance(event, ConnectionClosed) for event in others)
    return last.cause, last.error and last.error.fault


def options_of(response: bytes) -> dict[int, bytes]:
    layout = walk(response)
    assert layout.problem is None
    return dict(layout.options)


def has_opt(response: bytes) -> bool:
    return walk(response).opt is not None
