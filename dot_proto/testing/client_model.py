"""What a client owes, foretold with nothing but lists and dictionaries (design: the promises of the engine)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from .._state import Cause, State
from ..authentication import Verdict
from ..configuration import ClientConfiguration
from ..errors import Fault
from ..events import (
    DiscardReason,
    Event,
    KeepaliveReceived,
    MessageDiscarded,
    PeerAuthenticated,
    PeerRefused,
    QueryLost,
    QueryTimedOut,
    ResponseReceived,
)
from .connection_machine import Model
from .messages import KEEPALIVE, PADDING, QR, message, opt, option, question_of

QUERY = 0
"An opcode (RFC 1035, section 4.1.1)."


@dataclass
class Query:
    """One query, from ``send_query`` on."""

    handle: int
    message: bytes
    "As the caller gave it: one question, a bare OPT, and perhaps a signature behind it."
    multiple: bool
    asked_at: float
    timeout: float
    deadline: float
    wire_id: int | None = None
    "Once it has left; the connection's own choice."
    begun: bool = False
    "Whether the first of several messages has come."
    is_signed: bool = False
    "Whether nothing behind the id may change (RFC 8945, section 4.3.2; RFC 2931, section 3.1)."
    keeps_id: bool = False
    "Whether the id may not change either."

    @property
    def opcode(self) -> int:
        """0 to 15."""
        return self.message[2] >> 3 & 15

    @property
    def question(self) -> bytes:
        """The question's octets."""
        return question_of(self.message)

    def on_the_wire(self, configuration: ClientConfiguration) -> bytes:
        """What leaves, but for the id: the same with keepalive and padding (RFC 7828, RFC 8467)."""
        if self.is_signed:
            return self.message[2:]
        bare, block = self.message[2:-11], configuration.padding_block
        options = [option(KEEPALIVE)] if configuration.keepalive else []
        if block is not None:
            size = 2 + len(bare) + len(opt(*options, option(PADDING)))
            options.append(option(PADDING, bytes(-size % block)))
        return bare + opt(*options)


@dataclass(frozen=True)
class Answer:
    """One message of the server's, in the terms in which it is judged."""

    wire_id: int
    question: bytes | None
    "``None``: the section is empty."
    opcode: int = QUERY
    rcode: int = 0
    "0 to 4095: what is above 15 is in OPT (RFC 6891, section 6.1.3)."
    is_response: bool = True
    keepalive: bytes | None = None
    "The option's data; ``None``: no option."

    @property
    def octets(self) -> bytes:
        """The message."""
        flags = QR * self.is_response | self.opcode << 11 | self.rcode & 15
        options = [] if self.keepalive is None else [option(KEEPALIVE, self.keepalive)]
        opts = [opt(*options, rcode=self.rcode >> 4)] if options or self.rcode > 15 else []
        return message(self.question or b"", id=self.wire_id, flags=flags, additionals=opts)

    def objection(self, query: Query) -> DiscardReason | None:
        """Why it is no answer to this query, whose id it bears (RFC 5452, section 9.1; RFC 7766, section 7)."""
        if not self.is_response:
            return DiscardReason.NOT_A_RESPONSE
        if self.opcode != query.opcode:
            return DiscardReason.OPCODE_MISMATCH
        if self.question is None:
            needs_one = query.multiple and not query.begun and query.opcode == QUERY and self.rcode == 0
            return DiscardReason.QUESTION_MISSING if needs_one else None
        same_name = self.question[:-4].lower() == query.question[:-4].lower()
        same_type_and_class = self.question[-4:] == query.question[-4:]
        return None if same_name and same_type_and_class else DiscardReason.QUESTION_MISMATCH


@dataclass
class ClientModel(Model):
    """The client; queries are known by their handles."""

    configuration: ClientConfiguration = field(default_factory=ClientConfiguration)
    state: State = State.UNVERIFIED
    pending: dict[int, Query] = field(default_factory=dict[int, Query])
    "Without a fate, in the order in which they were asked."
    abandoned: dict[int, Query] = field(default_factory=dict[int, Query])
    "Sent, and given up: the id stays taken until the late answer comes (RFC 7766, section 6.2.1)."
    unsolicited: int = 0
    rests_since: float = math.inf
    "When the idle time began last."
    stated: float | None = None
    "Seconds: the server's idle timeout, as it stated it last."
    has_reported_bad_keepalive: bool = False
    heard_at: float = -math.inf
    "When octets last came, or a silent time-out was counted."
    cancelled_since: float = -math.inf
    "When the first query was asked that was cancelled since, and is still unanswered."
    silences: list[float] = field(default_factory=list[float])
    "When the queries were asked whose time-outs were counted since."
    count: int = 0
    "How many queries were ever accepted."
    overdue_at: float = math.inf
    "When the engine counts the queries that are unanswered past their time."

    @property
    def is_open(self) -> bool:
        """Whether queries are taken, if there is a place."""
        return self.state in (State.UNVERIFIED, State.OPEN) and self.count < self.configuration.max_queries

    @property
    def capacity(self) -> int:
        """How many queries would be taken."""
        places = self.configuration.max_in_flight - len(self.pending) - len(self.abandoned)
        return min(places, self.configuration.max_queries - self.count) if self.is_open else 0

    def taken_ids(self) -> list[int | None]:
        """The ids of what is in flight; ``None`` for a query that has not left."""
        return [query.wire_id for query in (*self.pending.values(), *self.abandoned.values())]

    def is_owed(self) -> bool:
        """Answers are."""
        return bool(self.pending)

    def deadlines(self) -> list[float]:
        """Those of the queries."""
        return [*(query.deadline for query in self.pending.values()), self.overdue_at]

    def forget(self, cause: Cause) -> list[Event]:
        """Each query without a fate is lost; what never left, and what is idempotent, is safe to ask again."""
        lost: list[Event] = []
        for query in self.pending.values():
            was_sent = query.wire_id is not None
            lost.append(
                QueryLost(query=query.handle, safe_to_resend=query.opcode == QUERY or not was_sent, was_sent=was_sent)
            )
        self.pending, self.abandoned, self.overdue_at = {}, {}, math.inf
        return lost

    def drain(self, cause: Cause, deadline: float) -> None:
        """Whether ids run short does not matter any more."""
        super().drain(cause, deadline)
        self.overdue_at = math.inf

    # Commands

    def ask(self, query: Query) -> None:
        """It is accepted, under the handle it has."""
        self.pending[query.handle] = query
        self.idle_at: float = math.inf
        self.count += 1
        if self.state is State.OPEN:
            self._leave_after_the_last()

    def cancel(self, query: Query, now: float) -> bool:
        """Whether that is its fate."""
        if query.handle not in self.pending:
            return False
        is_unheard = query.wire_id is not None and query.asked_at >= self.heard_at
        self._give_up(query)
        if is_unheard:
            if self.cancelled_since <= self.heard_at:
                self.cancelled_since = query.asked_at
            if now - self.cancelled_since >= self.configuration.longest_silence:
                self.waiting.extend(self.end(Cause.PEER_SILENT))
                return True
        self.waiting.extend(self._restart_idle_timer(now))
        return True

    def end_exchange(self, query: Query, now: float) -> bool:
        """Whether it may be ended; then its id is free."""
        if query.handle not in self.pending or not query.begun:
            return False
        del self.pending[query.handle]
        self.waiting.extend(self._restart_idle_timer(now))
        return True

    def close(self, timeout: float | None, now: float) -> None:
        """What was not sent will not be answered; for the rest there is some time."""
        if self.state is State.UNVERIFIED:
            self.waiting.extend(self.end(Cause.LOCAL_CLOSE))
        elif not self.has_ended:
            self.drain(Cause.LOCAL_CLOSE, now + (self.configuration.close_timeout if timeout is None else timeout))
            self.waiting.extend(self.drained())

    # Verbs

    def verify(self, verdict: Verdict, now: float) -> list[Event]:
        """The peer is judged."""
        if self.has_ended:
            return []
        if not verdict.accepted:
            return [PeerRefused(verdict=verdict), *self.end(Cause.PEER_REFUSED, Fault.PEER_REFUSED)]
        self.state = State.OPEN
        self._leave_after_the_last()
        return [PeerAuthenticated(verdict=verdict), *self._restart_idle_timer(now)]

    def leave(self) -> list[Query]:
        """The queries that may leave now, in the order in which they were asked: none before the verdict."""
        if self.state is State.UNVERIFIED:
            return []
        return [query for query in self.pending.values() if query.wire_id is None]

    def hear(self, now: float) -> None:
        """Octets come, whatever they are."""
        self.heard_at, self.silences = now, []

    def receive(self, answer: Answer, now: float) -> list[Event]:
        """One message of the server's."""
        if self.has_ended:
            return []
        in_flight = [*self.pending.values(), *self.abandoned.values()]
        query = next((query for query in in_flight if query.wire_id == answer.wire_id), None)
        if query is None:
            unknown = DiscardReason.UNKNOWN_ID if answer.is_response else DiscardReason.NOT_A_RESPONSE
            return self._discard_unsolicited(answer, unknown, None)
        objection = answer.objection(query)
        if objection is not None:
            return self._discard_unsolicited(answer, objection, query.handle)
        more = query.multiple and answer.rcode == 0
        query.begun = more
        if query.handle in self.abandoned:
            if not more:
                del self.abandoned[query.handle]
            late = MessageDiscarded(message=answer.octets, reason=DiscardReason.LATE, query=query.handle)
            heard = self._hear(query, answer.keepalive)
            if self.idle_at < math.inf:  # the time is another then, and it has begun when it had
                self.idle_at = self.rests_since + self._idle_timeout()
            return [late, *heard, *self.drained()]
        self.unsolicited = 0
        if more:
            query.deadline = now + query.timeout
        else:
            del self.pending[query.handle]
        under_its_own_id = query.message[:2] + answer.octets[2:]
        answered = ResponseReceived(
            query=query.handle, message=under_its_own_id, elapsed=now - query.asked_at, more=more
        )
        return [answered, *self._hear(query, answer.keepalive), *self._restart_idle_timer(now)]

    def tick(self, now: float) -> list[Event]:
        """What is due is done, the queries first, the earliest of them before all."""
        due = sorted((query.deadline, query.handle) for query in self.pending.values() if query.deadline <= now)
        events: list[Event] = []
        unheard: list[float] = []
        for _, handle in due:
            query = self.pending[handle]
            if query.wire_id is not None and query.asked_at >= self.heard_at:
                unheard.append(query.asked_at)
            self._give_up(query)
            events.append(QueryTimedOut(query=handle, elapsed=now - query.asked_at))
        if unheard:
            self.heard_at = now
            self.silences.append(min(unheard))
            most = self.configuration.max_silent_timeouts or math.inf
            if len(self.silences) >= most and now - self.silences[0] >= self.configuration.silence_timeout:
                return events + self.end(Cause.PEER_SILENT)
        if due:
            events += self._restart_idle_timer(now)
        if self.idle_at <= now:
            events += self.end(Cause.IDLE)
        if self.overdue_at <= now and not self.has_ended:
            self.overdue_at = self._counts_overdue_at()
            if self.overdue_at <= now:
                self.drain(Cause.EXHAUSTED, math.inf)
                events += self.drained()
        if self.close_at <= now:
            events += self.end(Cause.CLOSE_TIMEOUT)
        return events

    def eof(self, orderly: bool, now: float) -> list[Event]:
        """Nothing will be answered any more (RFC 7766, section 6.2.4)."""
        if orderly:
            return self.end(Cause.PEER_CLOSED)
        return self.end(Cause.TRANSPORT_FAILED, Fault.NO_CLOSE_NOTIFY)

    def bad_frame(self) -> list[Event]:
        """The server is broken."""
        return self.end(Cause.PEER_FAULT, Fault.SHORT_FRAME)

    def cut_off(self, orderly: bool, now: float) -> list[Event]:
        """That is told, however politely it ended."""
        return self.end(Cause.PEER_FAULT, Fault.TRUNCATED)

    # Consequences

    def _leave_after_the_last(self) -> None:
        """As many queries as may be under one key of TLS (RFC 8446, section 5.5)."""
        if self.count >= self.configuration.max_queries:
            self.drain(Cause.KEY_LIMIT, math.inf)

    def _give_up(self, query: Query) -> None:
        del self.pending[query.handle]
        if query.wire_id is not None:
            self.abandoned[query.handle] = query
            if self.state is State.OPEN and self.overdue_at == math.inf:
                self.overdue_at = self._counts_overdue_at()

    def _counts_overdue_at(self) -> float:
        """When half of what may be in flight will be unanswered past its time."""
        deadlines = sorted(query.deadline for query in self.abandoned.values())
        return next(iter(deadlines[(self.configuration.max_in_flight + 1) // 2 - 1 :]), math.inf)

    def _restart_idle_timer(self, now: float) -> list[Event]:
        """What follows from a fate: the idle time begins, or a graceful close is over."""
        if self.state is State.OPEN and not self.pending:
            self.rests_since, self.idle_at = now, now + self._idle_timeout()
        return self.drained()

    def _idle_timeout(self) -> float:
        if self.stated is None:
            return self.configuration.idle_timeout
        capped = min(self.stated, self.configuration.max_idle_timeout)
        return capped - min(1.0, capped / 10)  # the client goes first (RFC 7828, section 3.2.2)

    def _hear(self, query: Query, keepalive: bytes | None) -> list[Event]:
        """The server's word on its idle timeout: obeyed whenever it comes, missed only if it was asked (RFC 7828)."""
        says_so = keepalive is not None and len(keepalive) == 2
        was_asked = self.configuration.keepalive and not query.is_signed
        if not was_asked and not says_so and (keepalive is None or self.stated is not None):
            return []
        if keepalive is not None and len(keepalive) != 2:
            is_news, self.has_reported_bad_keepalive = not self.has_reported_bad_keepalive, True
            return [KeepaliveReceived(timeout=None)] * is_news
        stated = None if keepalive is None else int.from_bytes(keepalive) / 10
        is_news, self.stated = stated != self.stated, stated
        if stated == 0:
            self.drain(Cause.GO_AWAY, math.inf)
        return [KeepaliveReceived(timeout=stated)] * is_news

    def _discard_unsolicited(self, answer: Answer, reason: DiscardReason, handle: int | None) -> list[Event]:
        self.unsolicited += 1
        events: list[Event] = [MessageDiscarded(message=answer.octets, reason=reason, query=handle)]
        if self.unsolicited > self.configuration.max_unsolicited:
            events += self.end(Cause.PEER_FAULT, Fault.TOO_MANY_UNSOLICITED)
        return events
