"""A server: the octets are a program of calls, played on two servers, one of which gets the stream in small pieces."""

from __future__ import annotations

from dot_proto import (
    ConnectionClosed,
    Event,
    Fault,
    LocalProtocolError,
    MessageDiscarded,
    QueryReceived,
    QueryRejected,
    RemoteProtocolError,
    ServerConfiguration,
    ServerConnection,
    State,
    make_query,
)
from dot_proto import _message as dns_message
from dot_proto.testing.messages import (
    ANOTHERS,
    CD,
    COOKIE,
    DO,
    EDE,
    KEEPALIVE,
    PADDING,
    TSIG,
    message,
    opt,
    option,
    read,
    record,
    response_to,
    stream_of,
    unframed,
)
from fuzzing.program import STREAM, calls, cut, in_words, picked, seconds

VERBS = (
    ("query", 2),  # which, and its id
    ("spoil", 3),  # which, but for one octet: where, and what
    ("octets", STREAM),
    ("respond", 3),  # to which, how, whether more follows
    ("error", 3),  # to which, RCODE
    ("decline", 1),
    ("drain", 0),
    ("tick", 1),  # seconds
    ("alarm", 0),  # the clock goes on to next_timeout
    ("begin", 0),
    ("close", 1),  # timeout
    ("eof", 1),  # whether orderly
    ("fail", 0),
)

PLAIN = make_query("a.example")
QUESTION = PLAIN[12:-11]
QUERIES = (
    PLAIN,
    message(QUESTION, flags=0x0100),
    message(QUESTION, additionals=[opt(option(PADDING, bytes(20)), option(KEEPALIVE))]),
    message(QUESTION, additionals=[opt(option(PADDING, bytes(2)), option(PADDING, bytes(2)))]),
    message(QUESTION, additionals=[opt(option(KEEPALIVE, b"\0\1"))]),
    message(QUESTION, flags=CD, additionals=[opt(option(KEEPALIVE), option(PADDING), flags=DO)]),
    message(QUESTION, additionals=[opt(version=1)]),
    message(QUESTION, additionals=[opt(), opt()]),
    message(QUESTION, additionals=[opt(option(PADDING)), record(b"\0", TSIG, bytes(9))]),
    message(additionals=[opt(option(COOKIE, bytes(8)))]),
    message(QUESTION, flags=0x2800),
    message(flags=0x3000),
    message(QUESTION, flags=0x8000),
    message(QUESTION)[:-1],
)
"Of every kind; several are refused."

RESPONSES = (
    response_to,
    lambda query: response_to(query, record()),
    lambda query: response_to(query, additionals=[opt(option(EDE, bytes(2)), option(PADDING, bytes(7)))]),
    lambda query: response_to(query, additionals=[ANOTHERS]),
    lambda query: response_to(query, additionals=[ANOTHERS, record(b"\2ns\xc0\x0c"), record()]),
    lambda query: response_to(query, additionals=[opt(rcode=1)]),
    lambda query: response_to(query, additionals=[opt(), record(b"\0", TSIG, bytes(9))]),
    lambda query: response_to(query, record(data=bytes(60_000))),
    lambda query: response_to(query, record(data=bytes(65_535 - 12 - 12 - len(query) + 12))),
    lambda query: response_to(query) + b"\0",
    lambda query: query,
    lambda query: b"",
)
"What handlers answer, rightly or not."

IDLE, DURATION = 6.0, 20.0
"Seconds: how long the client may stay, and for how long at the most."

GO = frozenset({b"\0\0"})
"That the client should ask nothing more (RFC 7828, section 3.3.2)."

TIMEOUTS = (None, 0.0, 1.0, 30.0, -1.0, float("nan"))
FAULTLESS = frozenset({"query", "spoil", "octets", "drain", "tick", "alarm", "begin", "eof", "fail"})
"Calls that are never a mistake of the caller's."


def target(data: bytes) -> None:
    """One word on each message, responses that fit their queries, the same events however the stream is cut."""
    setting, size, program = data[0] if data else 0, data[1] if data[1:] else 0, data[2:]
    whole, in_pieces = Player(setting, 0), Player(setting, 1 + size % 32)
    for verb, operands in calls(program, VERBS):
        assert whole.play(verb, operands) == in_pieces.play(verb, operands)
    whole.finish()


class Player:
    """Carries out calls, and holds the server to its promises at each."""

    def __init__(self, setting: int, size: int) -> None:
        self.server = ServerConnection(
            ServerConfiguration(
                idle_timeout=IDLE,
                max_outstanding=3,
                hard_outstanding=4,
                max_unsolicited=3,
                max_queries=(None, 1, 8, 20)[setting & 3],
                max_duration=(None, DURATION)[setting >> 2 & 1],
                padding_block=(None, 468, 128, 1)[setting >> 3 & 3],
            ),
            now=50.0 if setting & 32 else None,
        )
        self.has_begun = bool(setting & 32)
        self.now = self.began_at = 50.0
        self.size = size
        self.queries: dict[int, bytes] = {}
        "Every query received, by handle."
        self.open: set[int] = set()
        self.due: list[tuple[bytes, frozenset[bytes | None]]] = []
        "Queries whose response must leave, in order, and what it may say of the idle timeout."
        self.unsolicited = 0
        self.heard = b""
        self.reported: list[bytes] = []
        self.has_ended = False

    def play(self, verb: str, operands: bytes) -> object:
        """What comes of the call, in a form that compares."""
        before = self.condition()
        try:
            outcome = getattr(self, verb)(*((operands,) if verb == "octets" else operands))
        except LocalProtocolError as error:
            self.was_mistaken(verb, before)
            return repr(error)
        if isinstance(outcome, list):
            self.observe(outcome)
            outcome = in_words(outcome)
        assert self.server.outstanding == len(self.open) or self.server.state is State.CLOSED
        assert self.server.wants_data == (self.server.state is State.OPEN and len(self.open) < 3)
        if self.has_begun and self.server.state is State.OPEN and not self.open:
            assert self.server.next_timeout() is not None, "nobody would ever close it"
        return outcome, self.condition()

    def condition(self) -> tuple[object, ...]:
        server = self.server
        return server.state, server.outstanding, server.wants_data, server.closing_for, server.next_timeout()

    def finish(self) -> None:
        self.play("drain", b"")
        self.play("fail", b"")
        self.play("tick", b"\xff")
        assert self.has_ended
        assert self.server.outstanding == 0
        assert self.server.next_timeout() is None
        assert self.server.data_to_send() == []

    # The calls.

    def query(self, which: int, id: int) -> list[Event]:
        return self.octets(stream_of([bytes([0, id]) + picked(QUERIES, which)[2:]]))

    def spoil(self, which: int, where: int, what: int) -> list[Event]:
        octets = bytearray(picked(QUERIES, which))
        octets[where % len(octets)] = what
        return self.octets(stream_of([octets]))

    def octets(self, stream: bytes) -> list[Event]:
        was_open = self.server.state is State.OPEN
        events = [event for piece in cut(stream, self.size) for event in self.server.receive_data(piece, now=self.now)]
        if was_open:
            self.heard += stream
        return events

    def respond(self, which: int, how: int, more: int) -> bool:
        handle, state = self.handle(which), self.server.state
        response = picked(RESPONSES, how)(self.queries.get(handle, PLAIN))
        sent = self.server.send_response(handle, response, now=self.now, more=bool(more & 1))
        assert sent == (state is not State.CLOSED)
        return self.answered(handle, sent, is_open=state is State.OPEN, is_last=not more & 1)

    def error(self, which: int, high: int, low: int) -> bool:
        handle, rcode, state = self.handle(which), high % 32 << 8 | low, self.server.state
        sent = self.server.send_error(handle, now=self.now, rcode=rcode)
        assert rcode <= 4095
        assert sent == (state is not State.CLOSED)
        return self.answered(handle, sent, is_open=state is State.OPEN, is_last=True)

    def answered(self, handle: int, sent: bool, *, is_open: bool, is_last: bool) -> bool:
        if sent:
            assert handle in self.open
            self.due.append((self.queries[handle], self.stay() if is_open else GO))
            if is_last:
                self.open.remove(handle)
        return sent

    def decline(self, which: int) -> None:
        handle = self.handle(which)
        self.server.decline(handle, now=self.now)
        self.open.discard(handle)

    def drain(self) -> str:
        messages = unframed(self.server.data_to_send())
        assert len(messages) == len(self.due)
        for (query, timeouts), response in zip(self.due, messages, strict=True):
            self.fits(query, response, timeouts)
        self.due.clear()
        return repr(messages)

    def tick(self, time: int) -> list[Event]:
        self.now += seconds(time)
        events = self.server.handle_timeout(now=self.now)
        deadline = self.server.next_timeout()
        assert deadline is None or deadline > self.now, "a driver would spin"
        return events

    def alarm(self) -> list[Event]:
        self.now = max(self.now, self.server.next_timeout() or 0.0)
        return self.tick(0)

    def begin(self) -> None:
        self.server.begin(now=self.now)
        self.has_begun, self.began_at = True, self.now

    def close(self, timeout: int) -> None:
        self.server.close(now=self.now, timeout=picked(TIMEOUTS, timeout))
        assert self.server.state is (State.DRAINING if self.open else State.CLOSED)

    def eof(self, orderly: int) -> list[Event]:
        return self.server.receive_eof(now=self.now, orderly=bool(orderly & 1))

    def fail(self) -> list[Event]:
        if self.server.state is not State.CLOSED:
            self.due.clear()  # nobody is there to hear it (RFC 7766, section 6.2.4)
        return self.server.fail(RemoteProtocolError("reset", Fault.RESET), now=self.now)

    # The promises.

    def was_mistaken(self, verb: str, before: tuple[object, ...]) -> None:
        assert verb not in FAULTLESS
        assert self.condition() == before, "a mistake changed something"

    def observe(self, events: list[Event]) -> None:
        for event in events:
            assert not self.has_ended, "an event behind the terminal one"
            match event:
                case QueryReceived():
                    assert not self.queries or event.query > max(self.queries)
                    assert dns_message.malformation(event.message) is None
                    assert dns_message.opcode_of(event.message) in (0, 4, 5)
                    self.queries[event.query] = event.message
                    self.open.add(event.query)
                    self.reported.append(event.message)
                    assert len(self.open) <= 4
                    self.unsolicited = 0
                case QueryRejected():
                    # An error may be the last that the client is let ask, or not.
                    self.due.append((event.message, self.stay() | GO))
                    self.unsolicited = 0
                    self.reported.append(event.message)
                case MessageDiscarded():
                    assert event.message[2] & 0x80
                    self.reported.append(event.message)
                    self.unsolicited += 1
                case ConnectionClosed():
                    self.has_ended = True
                    self.open.clear()
                    fault = event.error and event.error.fault
                    assert (self.unsolicited > 3) == (fault is Fault.TOO_MANY_UNSOLICITED)
        reading = read(self.heard)
        assert self.reported == reading.messages[: len(self.reported)], "lost, or out of order (FRM-10)"
        assert self.unsolicited <= 3 or self.has_ended
        if self.server.state is State.OPEN:
            assert len(self.reported) == len(reading.messages)
            assert reading.failed_at is None

    def fits(self, query: bytes, response: bytes, timeouts: frozenset[bytes | None]) -> None:
        """What leaves for a query (SRV-6 to SRV-8, PAD-6, KAL-7)."""
        layout, asked = dns_message.walk(response), dns_message.walk(query)
        assert layout.problem is None
        assert response[:2] == query[:2]
        assert response[2] & 0x80
        if layout.is_signed or asked.problem is not None or len(response) > 65_000:
            return  # left as it is; an error without EDNS; or no room for all
        assert (layout.opt is None) == (asked.opt is None)
        if asked.opt is not None:
            block, is_padded = self.server.configuration.padding_block, bool(asked.values(PADDING))
            assert (PADDING in dict(layout.options)) == (block is not None and is_padded)
            if block is not None and is_padded:
                assert len(response) % block == 0
            if not asked.values(KEEPALIVE) and timeouts != GO:
                timeouts = timeouts & GO | {None}  # told to nobody who does not ask, but that he must go
            assert layout.option(KEEPALIVE) in timeouts
            assert layout.opt is not None
            theirs = query[asked.opt[0] + 7] & 0x80
            assert response[layout.opt[0] + 6 : layout.opt[0] + 9] == bytes([0, theirs, 0])
            assert (response[3] ^ query[3]) & CD == 0

    def stay(self) -> frozenset[bytes | None]:
        """What is said of the idle timeout now: no more than is left (RFC 7828, section 3.1)."""
        stated = IDLE
        if self.has_begun and self.server.configuration.max_duration is not None:
            stated = max(min(IDLE, self.began_at + DURATION - self.now), 0.0)
        return frozenset({int(stated / 0.1 + 1e-6).to_bytes(2)})

    def handle(self, which: int) -> int:
        return picked(list(self.queries), which) if self.queries else which
