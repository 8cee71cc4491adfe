"""The client against a model made of plain dictionaries, which foretells every event of every step.

The model knows nothing of octets: the test makes those, and tells the model what they mean.  Ids are drawn by a
source that always says 7, so that an id is used again as soon as the rules allow it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dot_proto import (
    AuthenticationPolicy,
    ClientConfiguration,
    ClientConnection,
    LocalProtocolError,
    RemoteProtocolError,
    TooManyQueriesError,
    make_query,
)
from dot_proto import Fault as F
from support.messages import KEEPALIVE, opt, option, pieces, response_to, stream_of, unframed
from support.scenes import IMPOSTOR, STRICT, TRUSTED, always

MAX_IN_FLIGHT, MAX_STRAYS = 4, 3
IDLE, CLOSE = 10.0, 2.0
FIRST_ID = 7

RCODES = {"right": 0, "refused": 5, "empty-refused": 5}
"What each answer that may count says; ``empty``: without a question, which an error excuses (RFC 7766, section 7)."

WRONG = {
    "echo": "not-a-response",
    "opcode": "opcode-mismatch",
    "other-name": "question-mismatch",
    "empty": "question-missing",
}

NAMES = ["a.example", "b.example"]
TIMEOUTS = st.sampled_from([8.0, 20.0, 3.0, 1.0, 0.0])
KEEPALIVES = st.sampled_from([None, None, None, 200, 30, "", 0])
KINDS = st.sampled_from(["right"] * 6 + ["refused", "empty-refused", *WRONG, "wrong-id"])


@dataclass
class Asked:
    """One query, as the model sees it."""

    handle: int
    wire_id: int
    name: str
    opcode: int
    multiple: bool
    at: float
    timeout: float
    deadline: float
    sent: bool = False
    begun: bool = False


@dataclass
class Model:
    """What a client owes, said as simply as can be; each method returns the events that are due."""

    state: str = "unverified"
    pending: dict[int, Asked] = field(default_factory=dict)
    abandoned: dict[int, Asked] = field(default_factory=dict)
    strays: int = 0
    stated: float | None = None
    reported: bool = False
    idle_at: float = math.inf
    close_at: float = math.inf
    cause: str | None = None
    waiting: list[tuple[object, ...]] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        return self.state in ("unverified", "open")

    @property
    def is_full(self) -> bool:
        return len(self.pending) + len(self.abandoned) >= MAX_IN_FLIGHT

    def next_id(self) -> int:
        wire_id = FIRST_ID
        while wire_id in self.pending or wire_id in self.abandoned:
            wire_id += 1
        return wire_id

    def deadline(self) -> float:
        if self.waiting:
            return -math.inf
        return min([each.deadline for each in self.pending.values()] + [self.idle_at, self.close_at])

    def deliver(self, events):
        """What commands have left comes first."""
        waiting, self.waiting = self.waiting, []
        return waiting + events

    def end(self, cause, fault=None):
        lost = [("lost", each.handle, not each.sent or each.opcode == 0, each.sent) for each in self.pending.values()]
        self.state = "closed"
        self.pending, self.abandoned = {}, {}
        self.idle_at = self.close_at = math.inf
        return [*lost, ("closed", cause, fault)]

    def rest(self, now):
        """What follows from a fate: the idle time begins, or a graceful close is over."""
        if self.pending:
            return []
        if self.state == "draining":
            return self.end(self.cause)
        if self.state == "open":
            patience = IDLE
            if self.stated is not None:
                patience = self.stated - min(1.0, self.stated / 10)
            self.idle_at = now + patience
        return []

    def drain(self, cause, deadline):
        self.state = "draining"
        self.cause = self.cause or cause
        self.idle_at = math.inf
        self.close_at = min(self.close_at, deadline)

    def give_up(self, asked):
        del self.pending[asked.wire_id]
        if asked.sent:
            self.abandoned[asked.wire_id] = asked

    def verify(self, trusted, now):
        if self.state == "closed":
            return []
        if not trusted:
            return [("refused",), *self.end("peer-refused", "peer-refused")]
        self.state = "open"
        return [("authenticated",), *self.rest(now)]

    def receive(self, wire_id, kind, meant, keepalive, now):
        """One message of the server's, which is an answer of this kind to the query that it is meant for."""
        if self.state == "closed":
            return []
        asked = self.pending.get(wire_id) or self.abandoned.get(wire_id)
        if asked is None or not asked.sent:
            return self.stray("not-a-response" if kind == "echo" else "unknown-id", None)
        wrong = WRONG.get(kind)
        if wrong == "question-missing" and (asked.begun or asked.opcode != 0):
            wrong = None  # a continuation (RFC 5936, section 2.2.1), or an update (RFC 2136, section 3.8)
        if kind not in ("echo", "empty", "empty-refused") and wrong != "opcode-mismatch":
            if meant.opcode != asked.opcode:
                wrong = "opcode-mismatch"
            elif meant.name != asked.name:
                wrong = "question-mismatch"
        elif kind.startswith("empty") and meant.opcode != asked.opcode:
            wrong = "opcode-mismatch"
        if wrong is not None:
            return self.stray(wrong, asked.handle)
        is_last = not asked.multiple or RCODES.get(kind, 0) != 0
        asked.begun = asked.multiple and (asked.begun or not is_last)
        if wire_id in self.abandoned:
            if is_last:
                del self.abandoned[wire_id]
            return [("discarded", "late", asked.handle)]
        self.strays = 0
        if is_last:
            del self.pending[wire_id]
        else:
            asked.deadline = now + asked.timeout
        events = [("answered", asked.handle, now - asked.at, not is_last)]
        events += self.hear(keepalive, now)
        return events + self.rest(now)

    def hear(self, keepalive, now):
        """The server's word on its idle timeout (RFC 7828), in tenths of a second; "" is badly formed."""
        if keepalive == "":
            news, self.reported = not self.reported, True
            return [("keepalive", None)] * news
        stated = None if keepalive is None else keepalive / 10
        news, self.stated = stated != self.stated, stated
        if stated == 0:
            self.drain("last-call", math.inf)
        return [("keepalive", stated)] * news

    def stray(self, reason, handle):
        self.strays += 1
        events = [("discarded", reason, handle)]
        if self.strays > MAX_STRAYS:
            events += self.end("peer-fault", "too-many-strays")
        return events

    def tick(self, now):
        if self.state == "closed":
            return []
        due = sorted((each.deadline, each.handle) for each in self.pending.values() if each.deadline <= now)
        events = []
        for _, handle in due:
            asked = next(each for each in self.pending.values() if each.handle == handle)
            self.give_up(asked)
            events.append(("timed-out", handle, now - asked.at))
        if due:
            events += self.rest(now)
        if self.idle_at <= now:
            events += self.end("idle")
        elif self.close_at <= now:
            events += self.end("close-timeout")
        return events

    def close(self, deadline):
        if self.state == "unverified":
            self.waiting += self.end("local-close")
        elif self.state != "closed":
            self.drain("local-close", deadline)
            self.waiting += self.rest(0.0)

    def fail(self, cause, fault):
        return [] if self.state == "closed" else self.end(cause, fault)


def plain(event):
    """An event of the engine's in the model's words."""
    match type(event).__name__:
        case "PeerAuthenticated":
            return ("authenticated",)
        case "PeerRefused":
            return ("refused",)
        case "ResponseReceived":
            return ("answered", event.query, event.elapsed, event.more)
        case "QueryTimedOut":
            return ("timed-out", event.query, event.elapsed)
        case "QueryLost":
            return ("lost", event.query, event.safe_to_resend, event.was_sent)
        case "MessageDiscarded":
            return ("discarded", event.reason.value, event.query)
        case "KeepaliveReceived":
            return ("keepalive", event.timeout)
        case "ConnectionClosed":
            return ("closed", event.cause.value, event.error and event.error.fault.value)
    raise AssertionError(event)


class Client(RuleBasedStateMachine):
    """Every command and every verb, in any order, with any answer at any time."""

    policy: AuthenticationPolicy = STRICT

    def __init__(self) -> None:
        super().__init__()
        self.begin()

    def begin(self) -> None:
        configuration = ClientConfiguration(
            max_in_flight=MAX_IN_FLIGHT, max_strays=MAX_STRAYS, idle_timeout=IDLE, close_timeout=CLOSE
        )
        self.client = ClientConnection(self.policy, configuration, entropy=always(FIRST_ID))
        self.model = Model()
        self.now: float = 100.0
        self.asked: list[Asked] = []
        self.fates: dict[int, list[str]] = {}
        self.log: list[tuple[object, ...]] = []

    def check(self, events, foretold) -> None:
        """The events are the foretold ones; keep the books on fates."""
        got = [plain(event) for event in events]
        assert got == foretold
        self.log += got
        for kind, *details in got:
            if kind in ("lost", "timed-out") or (kind == "answered" and not details[-1]):
                self.fates[details[0]].append(kind)

    @initialize(verified=st.booleans())
    def begin_verified(self, verified):
        if verified:
            self.verify_peer(True)

    @precondition(lambda self: self.model.state == "closed")
    @rule()
    def begin_again(self):
        """So that few steps are spent on a connection that is over."""
        self.finish()
        self.begin()
        self.verify_peer(True)

    # Commands

    @rule(
        held=st.booleans(),
        name=st.sampled_from(NAMES),
        opcode=st.sampled_from([0, 0, 0, 5]),
        timeout=TIMEOUTS,
        multiple=st.booleans(),
    )
    def ask(self, held, name, opcode, timeout, multiple):
        number = len(self.asked)
        query = make_query(name, "SOA", message_id=0xC000 + number)
        query = query[:2] + bytes([query[2] | opcode << 3]) + query[3:]

        def send() -> int:
            return self.client.send_query(query, now=self.now, timeout=timeout, multiple=multiple)

        if not self.model.is_open:
            with pytest.raises(LocalProtocolError, match="takes no more queries"):
                send()
        elif self.model.is_full:
            with pytest.raises(TooManyQueriesError):
                send()
        else:
            wire_id = self.model.next_id()
            asked = Asked(send(), wire_id, name, opcode, multiple, self.now, timeout, self.now + timeout)
            assert asked.handle not in self.fates
            self.fates[asked.handle] = []
            self.asked.append(asked)
            self.model.pending[wire_id] = asked
            self.model.idle_at = math.inf
            if not held:
                self.drain()

    @precondition(lambda self: self.model.pending)
    @rule(data=st.data())
    def cancel(self, data):
        asked = data.draw(st.sampled_from([*self.model.pending.values(), self.asked[0]]))
        is_pending = self.model.pending.get(asked.wire_id) is asked
        assert self.client.cancel(asked.handle, now=self.now) == is_pending
        if is_pending:
            self.fates[asked.handle].append("cancelled")
            self.model.give_up(asked)
            self.model.waiting += self.model.rest(self.now)

    @precondition(lambda self: any(each.begun for each in self.model.pending.values()))
    @rule(data=st.data())
    def end_exchange(self, data):
        asked = data.draw(st.sampled_from([*self.model.pending.values(), self.asked[0]]))
        if self.model.pending.get(asked.wire_id) is asked and asked.multiple and asked.begun:
            self.client.end_exchange(asked.handle, now=self.now)
            self.fates[asked.handle].append("ended")
            del self.model.pending[asked.wire_id]
            self.model.waiting += self.model.rest(self.now)
        else:
            with pytest.raises(LocalProtocolError, match="no exchange"):
                self.client.end_exchange(asked.handle, now=self.now)

    @precondition(lambda self: len(self.asked) > 2)
    @rule(timeout=st.sampled_from([None, 5.0, 1.0, 0.0]))
    def close(self, timeout):
        self.client.close(now=self.now, timeout=timeout)
        self.model.close(self.now + (CLOSE if timeout is None else timeout))

    # Verbs

    @precondition(lambda self: self.client.verdict is None)
    @rule(trusted=st.sampled_from([True, True, True, False]))
    def verify_peer(self, trusted):
        foretold = self.model.verify(trusted, self.now) if not self.model.waiting else []
        events = self.client.verify_peer(TRUSTED if trusted else IMPOSTOR, now=self.now)
        self.check(events, self.model.deliver(foretold))

    @precondition(lambda self: not all(each.sent for each in self.model.pending.values()))
    @rule()
    def drain(self):
        """What leaves is what is pending and was not sent, in the order asked, under the ids foretold."""
        leaving = []
        if self.model.state in ("open", "draining"):
            leaving = [each for each in self.model.pending.values() if not each.sent]
        messages = unframed(self.client.data_to_send())
        assert [int.from_bytes(each[:2]) for each in messages] == [each.wire_id for each in leaving]
        for message, asked in zip(messages, leaving, strict=True):
            question = make_query(asked.name, "SOA")[12:-11]
            assert message[12 : 12 + len(question)] == question
            assert message[2] >> 3 & 15 == asked.opcode
            assert len(message) % 128 == 0
            asked.sent = True

    @precondition(lambda self: self.asked and self.model.state != "unverified")
    @rule(data=st.data(), count=st.integers(1, 3), size=st.sampled_from([1, 2, 7, 1000]))
    def receive(self, data, count, size):
        """Some messages at once, cut into pieces; each answers a query, of now or of long ago, well or badly."""
        model = self.model
        likely = [*model.pending.values(), *model.abandoned.values(), *self.asked[-2:]]
        octets, foretold = b"", []
        for _ in range(count):
            meant, kind, keepalive = data.draw(st.sampled_from(likely)), data.draw(KINDS), data.draw(KEEPALIVES)
            wire_id = meant.wire_id
            if kind == "wrong-id":
                kind, wire_id = "right", data.draw(st.integers(FIRST_ID, FIRST_ID + MAX_IN_FLIGHT))
            octets += stream_of([self.answer(meant, wire_id, kind, keepalive)])
            foretold += model.receive(wire_id, kind, meant, keepalive, self.now)
        foretold = model.deliver(foretold)
        events = []
        for piece in pieces(octets, size):
            events += self.client.receive_data(piece, now=self.now)
        self.check(events, foretold)

    @precondition(lambda self: any(each.sent for each in self.model.pending.values()))
    @rule(data=st.data(), keepalive=KEEPALIVES)
    def answer_one(self, data, keepalive):
        """The usual thing, so that it is usual here too."""
        meant = data.draw(st.sampled_from([each for each in self.model.pending.values() if each.sent]))
        foretold = self.model.receive(meant.wire_id, "right", meant, keepalive, self.now)
        message = self.answer(meant, meant.wire_id, "right", keepalive)
        events = self.client.receive_data(stream_of([message]), now=self.now)
        self.check(events, self.model.deliver(foretold))

    def answer(self, meant, wire_id, kind, keepalive) -> bytes:
        query = make_query(meant.name if kind != "other-name" else "c.example", "SOA", message_id=wire_id)
        opcode = meant.opcode if kind != "opcode" else 2
        query = query[:2] + bytes([query[2] | opcode << 3]) + query[3:]
        if kind == "echo":
            return query
        extra = []
        if keepalive is not None:
            extra = [opt(option(KEEPALIVE, b"" if keepalive == "" else keepalive.to_bytes(2)))]
        response = response_to(query, rcode=RCODES.get(kind, 0), additionals=extra)
        if not kind.startswith("empty"):
            return response
        return response[:4] + b"\0\0" + response[6:12] + response[len(query) - 11 :]

    def tick(self):
        self.check(self.client.handle_timeout(now=self.now), self.model.deliver(self.model.tick(self.now)))
        deadline = self.client.next_timeout()
        assert deadline is None or deadline > self.now

    @precondition(lambda self: self.model.pending or len(self.asked) > 3)
    @rule()
    def sleep(self):
        """To the next deadline, as a driver does; then act on it."""
        deadline = self.client.next_timeout()
        if deadline is not None:
            self.now = max(self.now, deadline)
        self.tick()

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.5, 0.0]), looks=st.booleans())
    def pass_time(self, seconds, looks):
        """The driver looks at the clock, or is busy elsewhere."""
        self.now += seconds
        if looks:
            self.tick()

    @precondition(lambda self: len(self.asked) > 3)
    @rule(end=st.sampled_from(["orderly", "abrupt", "cut", "cut-orderly", "reset", "short-frame"]))
    def end(self, end):
        client, now = self.client, self.now
        if end.startswith(("cut", "short")) and self.model.state == "unverified":
            return
        waiting = self.model.deliver([])
        match end:
            case "orderly":
                foretold = self.model.fail("peer-closed", None)
                events = client.receive_eof(now=now)
            case "abrupt":
                foretold = self.model.fail("transport-failed", "no-close-notify")
                events = client.receive_eof(now=now, orderly=False)
            case "reset":
                foretold = self.model.fail("transport-failed", "reset")
                events = client.fail(RemoteProtocolError("reset", F.RESET), now=now)
            case "short-frame":
                foretold = self.model.fail("peer-fault", "short-frame")
                events = client.receive_data(b"\0\x0b", now=now)
            case _:
                foretold = self.model.fail("peer-fault", "truncated")
                events = client.receive_data(b"\0\x20" + bytes(5), now=now)
                events += client.receive_eof(now=now, orderly=end == "cut-orderly")
        self.check(events, waiting + foretold)

    # Laws

    @invariant()
    def what_can_be_seen_agrees(self):
        client, model = self.client, self.model
        assert client.state.name.lower() == model.state
        assert client.pending == len(model.pending)
        assert client.is_open == model.is_open
        assert client.accepts_queries == (model.is_open and not model.is_full)
        assert client.places == (MAX_IN_FLIGHT - len(model.pending) - len(model.abandoned) if model.is_open else 0)

    @invariant()
    def the_next_timeout_is_never_late(self):
        """And never missing, nor there without anything to wait for."""
        deadline, due = self.client.next_timeout(), self.model.deadline()
        assert (deadline is None) == (due == math.inf)
        assert deadline is None or due == math.inf or deadline <= max(due, self.now)

    @invariant()
    def the_end_is_the_end(self):
        """One terminal event at the most, and it is the last of all."""
        assert all(kind != "closed" for kind, *_ in self.log[:-1])

    @invariant()
    def no_two_fates(self):
        assert all(len(fates) <= 1 for fates in self.fates.values())

    def teardown(self):
        self.finish()

    def finish(self):
        """Every query that was accepted has exactly one fate when the connection is over."""
        events = self.client.fail(RemoteProtocolError("reset", F.RESET), now=self.now)
        self.check(events, self.model.deliver(self.model.fail("transport-failed", "reset")))
        assert self.log[-1][0] == "closed"
        assert all(len(fates) == 1 for fates in self.fates.values())
        self.the_end_is_the_end()


TestClient = Client.TestCase
TestClient.settings = settings(max_examples=2 * settings().max_examples)
