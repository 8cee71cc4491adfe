"""A client: the octets are a program of calls, played on two clients, one of which gets the stream in small pieces."""

from __future__ import annotations

from collections import Counter

from dot_proto import (
    ClientConfiguration,
    ClientConnection,
    ConnectionClosed,
    Event,
    Evidence,
    Fault,
    KeepaliveReceived,
    LocalProtocolError,
    MessageDiscarded,
    PeerAuthenticated,
    QueryLost,
    QueryTimedOut,
    RemoteProtocolError,
    ResponseReceived,
    State,
    make_query,
)
from dot_proto import _message as dns_message
from dot_proto.testing.messages import (
    AXFR,
    COOKIE,
    KEEPALIVE,
    PADDING,
    SIG,
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
from support.scenes import IMPOSTOR, STRICT, TRUSTED, always, condition, seeded

VERBS = (
    ("ask", 3),  # which query, timeout, whether for more than one answer
    ("drain", 0),
    ("answer", 2),  # which query that has left, how
    ("spoil", 3),  # as "answer", and rightly, but for one octet: where, and what
    ("octets", STREAM),
    ("verify", 1),  # by whom
    ("tick", 1),  # seconds
    ("alarm", 0),  # the clock goes on to next_timeout
    ("cancel", 1),
    ("end_exchange", 1),
    ("close", 1),  # timeout
    ("eof", 1),  # whether orderly
    ("fail", 0),
)

PLAIN = make_query("a.example")
SIGNED = message(PLAIN[12:-11], id=0xFFFE, additionals=[opt(), record(b"\0", SIG, bytes(18), rdclass=255)])
"By SIG(0), under the id that is drawn too where the source repeats itself."

QUERIES = (
    PLAIN,
    make_query("b.example", "AAAA")[:-11][:11] + b"\0" + make_query("b.example", "AAAA")[12:-11],
    make_query("C.example", AXFR),
    message(b"\1z\0\0\6\0\1", id=3, flags=0x2800),  # an update (RFC 2136)
    message(PLAIN[12:-11], id=4, additionals=[opt(option(COOKIE, bytes(8)), option(PADDING, bytes(3)))]),
    message(id=5, additionals=[opt(option(COOKIE, bytes(8)))]),
    message(PLAIN[12:-11], additionals=[opt(option(KEEPALIVE)), record(b"\0", TSIG, bytes(9))]),
    SIGNED,
    PLAIN + b"\0",
    response_to(PLAIN),
    bytes(11),
)
"Of every kind; the last three are mistakes."

FAIR = QUERIES[:-3]

ANSWERS = (
    response_to,
    lambda query: response_to(query, record()),
    lambda query: response_to(query, rcode=5),
    lambda query: response_to(query, additionals=[opt(option(KEEPALIVE, b"\0\0"))]),
    lambda query: response_to(query, additionals=[opt(option(KEEPALIVE, b"\0\x1e"))]),
    lambda query: response_to(query, additionals=[opt(option(KEEPALIVE, b"\1"))]),
    lambda query: message(id=int.from_bytes(query[:2]), flags=0x8000),
    lambda query: message(id=int.from_bytes(query[:2]), flags=0x8005),
    lambda query: response_to(query, id=int.from_bytes(query[:2]) ^ 0x4000),
    lambda query: response_to(make_query("other.example"), id=int.from_bytes(query[:2])),
    lambda query: response_to(query).swapcase(),
    lambda query: response_to(query) + b"\0",
    lambda query: query,
)
"What servers say to a query, rightly or not."

USUAL = (("ask", b"\0\0\0"), ("ask", b"\2\4\1"), ("verify", b"\0"), ("drain", b""))
"What half of the programs begin with: few others would come as far."

TIMEOUTS = (None, 0.0, 1.0, 3.0, 30.0, -1.0, float("nan"))
EVIDENCE = (TRUSTED, IMPOSTOR, Evidence())

FAULTLESS = frozenset({"drain", "tick", "alarm", "eof", "fail"})
"Calls that are never a mistake of the caller's."


def target(data: bytes) -> None:
    """The promises of the engine: one fate, silence before the verdict, the same events however the stream is cut."""
    setting, size, program = data[0] if data else 0, data[1] if data[1:] else 0, data[2:]
    whole, in_pieces = Player(setting, 0), Player(setting, 1 + size % 32)
    for verb, operands in (*(USUAL if setting & 16 else ()), *calls(program, VERBS)):
        assert whole.play(verb, operands) == in_pieces.play(verb, operands)
    whole.finish()


class Player:
    """Carries out calls, and holds the client to its promises at each."""

    def __init__(self, setting: int, size: int) -> None:
        configuration = ClientConfiguration(
            max_in_flight=4,
            max_unsolicited=3,
            max_queries=6 if setting & 32 else 1 << 23,
            idle_timeout=6.0,
            query_timeout=3.0,
            padding_block=(None, 128, 468, 1)[setting & 3],
            keepalive=bool(setting & 4),
        )
        entropy = seeded(setting) if setting & 8 else always(0xFFFE)
        self.client = ClientConnection(STRICT, configuration, entropy=entropy)
        self.now = 50.0
        self.size = size
        self.asked: dict[int, tuple[bytes, float, float, bool]] = {}
        "Query, time, deadline, and whether for more than one answer; by handle."
        self.unsent: list[int] = []
        self.sent: dict[int, bytes] = {}
        "What has left, by handle."
        self.fates: Counter[int] = Counter()
        self.heard = b""
        self.reported: list[bytes] = []
        "What events say of the messages that came, less the ids."
        self.stated: float | None = None
        "The server's idle timeout, as it was told last."
        self.has_ended = False
        self.is_trusted = False

    def play(self, verb: str, operands: bytes) -> object:
        """What comes of the call, in a form that compares."""
        before = condition(self.client)
        try:
            outcome = getattr(self, verb)(*((operands,) if verb == "octets" else operands))
        except LocalProtocolError as error:
            self.was_mistaken(verb, operands, before)
            return repr(error)
        if isinstance(outcome, list):
            self.observe(outcome)
            outcome = in_words(outcome)
        if self.client.state is State.OPEN:
            assert self.client.next_timeout() is not None, "nobody would ever close it"
        return outcome, condition(self.client)[:-2], self.client.next_timeout()

    def finish(self) -> None:
        """Whatever has happened, this is the end, and every query has had its one fate."""
        self.play("fail", b"")
        self.play("tick", b"\xff")
        assert self.has_ended
        assert all(self.fates[handle] == 1 for handle in self.asked)
        assert self.client.pending == 0
        assert self.client.next_timeout() is None
        assert self.client.data_to_send() == []

    # The calls.

    def ask(self, which: int, timeout: int, multiple: int) -> int:
        query, seconds, has_place = picked(QUERIES, which), picked(TIMEOUTS, timeout), self.client.accepts_queries
        assert has_place == (self.client.capacity > 0)
        handle = self.client.send_query(query, now=self.now, timeout=seconds, multiple=bool(multiple & 1))
        assert query in FAIR
        assert has_place
        assert not self.asked or handle > max(self.asked)
        deadline = self.now + (3.0 if seconds is None else seconds)
        self.asked[handle] = query, self.now, deadline, bool(multiple & 1)
        self.unsent.append(handle)
        assert len(self.unsent) <= 4
        return handle

    def drain(self) -> str:
        messages = unframed(self.client.data_to_send())
        assert not messages or (self.is_trusted and not self.has_ended), "a query left where none may"
        if self.is_trusted and not self.has_ended:
            assert len(messages) == len(self.unsent)
            for handle, wire in zip(self.unsent, messages, strict=True):
                self.is_prepared(self.asked[handle][0], wire)
            self.sent.update(zip(self.unsent, messages, strict=True))
            self.unsent.clear()
        return repr(messages)

    def answer(self, which: int, how: int) -> list[Event]:
        return self.octets(stream_of([picked(ANSWERS, how)(self.wire(which))]))

    def spoil(self, which: int, where: int, what: int) -> list[Event]:
        octets = bytearray(response_to(self.wire(which), record()))
        octets[where % len(octets)] = what
        return self.octets(stream_of([octets]))

    def octets(self, stream: bytes) -> list[Event]:
        events = [event for piece in cut(stream, self.size) for event in self.client.receive_data(piece, now=self.now)]
        self.heard += stream
        return events

    def verify(self, whom: int) -> list[Event]:
        return self.client.verify_peer(picked(EVIDENCE, whom), now=self.now)

    def tick(self, time: int) -> list[Event]:
        self.now += seconds(time)
        events = self.client.handle_timeout(now=self.now)
        deadline = self.client.next_timeout()
        assert deadline is None or deadline > self.now, "a driver would spin"
        told = {event.query for event in events if isinstance(event, QueryTimedOut | QueryLost)}
        for handle, (_, _, due, multiple) in self.asked.items():
            assert due > self.now or multiple or handle in told or self.fates[handle], "late"
        return events

    def alarm(self) -> list[Event]:
        self.now = max(self.now, self.client.next_timeout() or 0.0)
        return self.tick(0)

    def cancel(self, which: int) -> bool:
        handle = self.handle(which)
        done = self.client.cancel(handle, now=self.now)
        assert handle in self.asked
        # A close may have given it a fate already, which the next verb will report.
        assert done or self.fates[handle] or self.client.state is State.CLOSED
        self.gone(handle, done)
        return done

    def end_exchange(self, which: int) -> None:
        handle = self.handle(which)
        self.client.end_exchange(handle, now=self.now)
        self.gone(handle, True)

    def close(self, timeout: int) -> None:
        self.client.close(now=self.now, timeout=picked(TIMEOUTS, timeout))

    def eof(self, orderly: int) -> list[Event]:
        return self.client.receive_eof(now=self.now, orderly=bool(orderly & 1))

    def fail(self) -> list[Event]:
        return self.client.fail(RemoteProtocolError("reset", Fault.RESET), now=self.now)

    # The promises.

    def was_mistaken(self, verb: str, operands: bytes, before: tuple[object, ...]) -> None:
        assert verb not in FAULTLESS
        if verb == "ask" and picked(QUERIES, operands[0]) in FAIR and picked(TIMEOUTS, operands[1]) in TIMEOUTS[:5]:
            assert not self.client.accepts_queries or picked(QUERIES, operands[0]) is SIGNED
        assert verb not in ("octets", "answer", "spoil") or self.client.state is State.UNVERIFIED
        assert condition(self.client) == before, "a mistake changed something"

    def observe(self, events: list[Event]) -> None:
        for event in events:
            assert not self.has_ended, "an event behind the terminal one"
            match event:
                case PeerAuthenticated():
                    self.is_trusted = True
                case ResponseReceived():
                    self.is_an_answer(event)
                    self.reported.append(event.message[2:])
                    self.gone(event.query, not event.more)
                case MessageDiscarded():
                    self.reported.append(event.message[2:])
                case QueryTimedOut():
                    assert self.asked[event.query][2] <= self.now
                    self.gone(event.query, True)
                case QueryLost():
                    assert event.was_sent == (event.query in self.sent)
                    opcode = dns_message.opcode_of(self.asked[event.query][0])
                    assert event.safe_to_resend == (not event.was_sent or opcode == 0)
                    self.gone(event.query, True)
                case KeepaliveReceived():
                    assert event.timeout != self.stated or event.timeout is None, "no news"
                    assert event.timeout != 0 or not self.client.is_open
                    self.stated = event.timeout
                case ConnectionClosed():
                    self.has_ended = True
        reading = read(self.heard)
        due = [each[2:] for each in reading.messages]
        assert self.reported == due[: len(self.reported)], "lost, or out of order (FRM-10)"
        if not self.has_ended:
            assert len(self.reported) == len(reading.messages)
            assert reading.failed_at is None

    def is_an_answer(self, event: ResponseReceived) -> None:
        """MAT-4 to MAT-17."""
        query, asked_at, _, multiple = self.asked[event.query]
        assert event.query in self.sent
        assert not self.fates[event.query]
        assert event.elapsed == self.now - asked_at
        assert multiple or not event.more
        assert event.message[:2] == query[:2]
        assert event.message[2] & 0xF8 == query[2] & 0xF8 | 0x80
        end = dns_message.question_end(query)
        if event.message[4:6] == b"\0\1":
            assert event.message[12 : end - 4].lower() == query[12 : end - 4].lower()
            assert event.message[end - 4 : end] == query[end - 4 : end]

    def is_prepared(self, query: bytes, wire: bytes) -> None:
        """The query as it leaves: its header and question, and padded unless it is signed (PAD-1, KAL-1)."""
        layout, end = dns_message.walk(wire), dns_message.question_end(query)
        assert layout.problem is None
        assert wire[2:10] == query[2:10]
        assert wire[12:end] == query[12:end]
        configuration = self.client.configuration
        if layout.is_signed:
            assert wire[2:] == query[2:]
            assert wire == query or not layout.has_sig0
        elif configuration.padding_block is not None:
            assert len(wire) % configuration.padding_block == 0
            assert layout.options[-1][0] == PADDING
        if configuration.keepalive and not layout.is_signed:
            assert layout.option(KEEPALIVE) == b""

    def gone(self, handle: int, is_a_fate: bool) -> None:
        self.fates[handle] += is_a_fate
        assert self.fates[handle] <= 1
        if is_a_fate and handle in self.unsent:
            self.unsent.remove(handle)

    def handle(self, which: int) -> int:
        return picked(list(self.asked), which) if self.asked else which

    def wire(self, which: int) -> bytes:
        return picked(list(self.sent.values()), which) if self.sent else PLAIN
