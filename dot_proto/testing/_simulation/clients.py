"""A client connection with every invariant checked at every call.

Exactly one fate for each query; no query octet before the verdict, nor without one; ids never confused and none used
twice; deadlines met; memory bounded; and every message that the server sent reported once, in order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from hashlib import shake_128
from typing import Final

from ... import (
    AuthenticationPolicy,
    Cause,
    ClientConfiguration,
    ClientConnection,
    DiscardReason,
    Event,
    Evidence,
    IdInUseError,
    KeepaliveReceived,
    LocalProtocolError,
    MessageDiscarded,
    PeerAuthenticated,
    PeerRefused,
    QueryLost,
    QueryTimedOut,
    ResponseReceived,
    State,
    TooManyQueriesError,
)
from ..._message import OPTION_KEEPALIVE, opcode_of, rcode, walk
from .checked import CheckedConnection, before_opt, other_options
from .network import Link, Scheduler

ADDED: Final = 200
"Octets by which a query may grow, and what else is kept of it: a block of 128 padded, OPT and prefix, the id."

STALE: Final = 192
"""Octets and entries: 64 deadlines, of three entries each, of queries that were answered.  Beside them may stand twice
what was pending, and what is, until the earliest of these deadlines comes."""


@dataclass(slots=True, repr=False)
class Asked:
    """One query, as the records know it."""

    number: int
    "Counts the queries of a connection; for the record."
    handle: int
    message: bytes
    multiple: bool
    at: float
    timeout: float
    deadline: float
    position: int | None = None
    "Which of the messages that left it is; ``None``: it is held."
    wire_id: int = 0
    has_keepalive: bool = False
    "Whether it left with a keepalive option (RFC 7828, section 3.2.1)."

    def __repr__(self) -> str:
        return f"query {self.number}"


class CheckedClient(CheckedConnection):
    """A client connection whose calls are checked; ``earns_trust``: whether its policy must accept the peer."""

    def __init__(self, scheduler: Scheduler, link: Link, client: ClientConnection, *, earns_trust: bool) -> None:
        super().__init__(
            scheduler, link, link.down, f"client {link.number}", client, client.configuration.max_unsolicited
        )
        self.client: Final = client
        self._earns_trust = earns_trust
        self._is_trusted = False
        self._held: list[Asked] = []
        self._pending: dict[int, Asked] = {}
        self._abandoned: dict[int, Asked] = {}
        self._most_taken = 0
        self._sent: list[Asked] = []
        self._taken: dict[int, Asked] = {}
        self._handles: set[int] = set()
        self._stated: float | None = None
        self._statements: list[float | None] = []
        self._told_of_bad_option = False
        self._is_sent_away = False
        self._heard_at = -math.inf
        self._timed_out_unheard = 0
        self._most_overdue = 0

    def is_pending(self, handle: int) -> bool:
        """Whether a query has no fate yet."""
        return handle in self._pending

    # Commands

    def ask(self, message: bytes, *, timeout: float | None, multiple: bool) -> int | None:
        """Ask; the handle, or ``None`` if the engine refused, as it then had to."""
        scheduler, client, configuration = self.scheduler, self.client, self.client.configuration
        may, is_open = client.accepts_queries, client.is_open
        try:
            handle = client.send_query(message, now=scheduler.now, timeout=timeout, multiple=multiple)
        except LocalProtocolError as error:
            scheduler.note(f"{self.name}: {error}")
            if isinstance(error, IdInUseError):
                # What has not left yet has an id that nobody has seen.
                is_taken = self._held or int.from_bytes(message[:2]) in self._taken
                scheduler.require(bool(is_taken), "{}: refused as {}", self.name, error)
                scheduler.require(walk(message).has_sig0, "{}: refused, and not signed: {}", self.name, error)
                scheduler.counters["refused for its id"] += 1
                self.check()
                return None
            scheduler.require(not may, "{}: a query is refused though there is room", self.name)
            scheduler.require(isinstance(error, TooManyQueriesError) == is_open, "{}: refused as {}", self.name, error)
            scheduler.counters["refused at the caller"] += 1
            self.check()
            return None
        scheduler.require(may, "{}: a query is taken though there is no room", self.name)
        scheduler.require(handle not in self._handles, "{}: handle {} is issued twice", self.name, handle)
        self._handles.add(handle)
        timeout = configuration.query_timeout if timeout is None else timeout
        asked = Asked(len(self._handles), handle, message, multiple, scheduler.now, timeout, scheduler.now + timeout)
        self._pending[handle] = asked
        self._held.append(asked)
        scheduler.counters["queries"] += 1
        scheduler.note(f"{self.name} asks {asked}, {len(message)} octets, timeout {timeout}")
        self.check()
        return handle

    def cancel(self, handle: int) -> None:
        """Give up a query, which may have its fate already."""
        expected = handle in self._pending and self.client.state is not State.CLOSED
        was_its_fate = self.client.cancel(handle, now=self.scheduler.now)
        self.scheduler.require(was_its_fate == expected, "{}: cancel of {} says {}", self.name, handle, was_its_fate)
        if was_its_fate:
            self._abandon(self._fated(handle, "cancelled"))
        self.check()

    def end_exchange(self, handle: int) -> None:
        """The caller has seen the last message of an answer in several."""
        self.client.end_exchange(handle, now=self.scheduler.now)
        self._free(self._fated(handle, "answered"))
        self.check()

    def close(self, timeout: float | None) -> None:
        """Begin a graceful close."""
        self.scheduler.note(f"{self.name} closes, timeout {timeout}")
        self.client.close(now=self.scheduler.now, timeout=timeout)
        self._ends_within(self.client.configuration.close_timeout if timeout is None else timeout)
        self.scheduler.require(not self.client.is_open, "{}: it stays open when closed", self.name)
        self.check()

    # Verbs

    def verify(self, evidence: Evidence) -> list[Event]:
        """The handshake is over."""
        is_judged = self.client.state is State.UNVERIFIED
        events = self.checked(self.client.verify_peer(evidence, now=self.scheduler.now))
        verdicts = [event for event in events if isinstance(event, PeerAuthenticated | PeerRefused)]
        self.scheduler.require(len(verdicts) == is_judged, "{}: {} verdicts", self.name, len(verdicts))
        return events

    def receive(self, octets: bytes) -> list[Event]:
        """Octets from the server."""
        self._unreported += len(octets)
        self._heard_at, self._timed_out_unheard = self.scheduler.now, 0
        events = self.client.receive_data(octets, now=self.scheduler.now)
        return self._received(octets, self.link.answers, events)

    def drain(self) -> list[bytes]:
        """What is to be sent: the queries held, all of them and in order, and none before the verdict."""
        scheduler, chunks, held = self.scheduler, self.client.data_to_send(), self._held
        if not chunks:
            is_idle = not held or not self._is_trusted or self.client.state is State.CLOSED
            scheduler.require(is_idle, "{}: {} is held though it may leave", self.name, held)
            return chunks
        scheduler.require(self._is_trusted, "{}: query octets before the verdict, or without one", self.name)
        scheduler.require(len(chunks) == len(held), "{}: {} leave of {}", self.name, len(chunks), held)
        for chunk, asked in zip(chunks, held, strict=True):
            message = chunk[2:]
            scheduler.require(int.from_bytes(chunk[:2]) == len(message), "{}: a wrong length prefix", self.name)
            asked.wire_id, asked.position = int.from_bytes(message[:2]), len(self._sent)
            taken = self._taken.get(asked.wire_id)
            scheduler.require(taken is None, "{}: {} gets id {} of {}", self.name, asked, asked.wire_id, taken)
            self._check_options(asked, message)
            self._taken[asked.wire_id] = asked
            self._sent.append(asked)
            self.link.queries.append(message)
            scheduler.note(f"{self.name} > {asked} under id {asked.wire_id:04x}")
        held.clear()
        return chunks

    def _check_options(self, asked: Asked, message: bytes) -> None:
        """What was added to a query, and that nothing else was done to it."""
        scheduler, configuration = self.scheduler, self.client.configuration
        # Of the counts only that of additionals may grow, by an OPT.
        before, after = walk(asked.message), walk(message)
        same = message[2:10] == asked.message[2:10] and before_opt(message, after) == before_opt(asked.message, before)
        same = same and other_options(after) == other_options(before)
        scheduler.require(same, "{}: {} leaves as {}", self.name, asked, message.hex())
        if before.has_sig0:
            scheduler.require(message == asked.message, "{}: {}, signed, leaves as {}", self.name, asked, message.hex())
            return
        block = configuration.padding_block or 1
        scheduler.require(len(message) % block == 0, "{}: {} leaves in {} octets", self.name, asked, len(message))
        asked.has_keepalive = after.option(OPTION_KEEPALIVE) == b""
        wrong = asked.has_keepalive != configuration.keepalive
        scheduler.require(not wrong, "{}: {} has keepalive: {}", self.name, asked, asked.has_keepalive)

    # The checks

    def _check_event(self, event: Event) -> None:
        scheduler = self.scheduler
        match event:
            case ResponseReceived():
                self._check_response(event)
            case QueryTimedOut():
                asked = self._fated(event.query, "timed out")
                self._timed_out_unheard += asked.position is not None and asked.at >= self._heard_at
                scheduler.require(asked.deadline <= scheduler.now, "{}: {} times out too early", self.name, asked)
                scheduler.require(event.elapsed == scheduler.now - asked.at, "{}: elapsed {}", self.name, event.elapsed)
                self._abandon(asked)
            case QueryLost():
                asked = self._fated(event.query, "lost")
                was_sent = asked.position is not None
                is_safe = not was_sent or opcode_of(asked.message) == 0
                said = event.was_sent, event.safe_to_resend
                scheduler.require(
                    said == (was_sent, is_safe), "{}: {} is lost, sent and safe: {}", self.name, asked, said
                )
            case MessageDiscarded():
                self._check_discard(event)
            case KeepaliveReceived():
                scheduler.note(f"{self.name} < idle timeout {event.timeout}")
                heard, self._statements = self._statements[:1], self._statements[1:]
                scheduler.require(heard == [event.timeout], "{}: it was told {}", self.name, heard)
            case _:
                scheduler.require(isinstance(event, PeerAuthenticated | PeerRefused), "{}: {}", self.name, event)
                self._is_trusted = isinstance(event, PeerAuthenticated)
                scheduler.note(f"{self.name}: {type(event).__name__}")
                scheduler.require(self._is_trusted == self._earns_trust, "{}: a wrong verdict: {}", self.name, event)
                self._restart_idle_timer()

    def _check_response(self, event: ResponseReceived) -> None:
        scheduler, message = self.scheduler, event.message
        position = self._next(message)
        if event.query not in self._pending:
            raise scheduler.failure(f"{self.name}: a response to {event.query:#x}, which is not pending")
        asked = self._pending[event.query]
        is_the_one = asked.position is not None and asked.position == position
        scheduler.require(is_the_one, "{}: {} gets what answers query at {}", self.name, asked, position)
        scheduler.require(message[:2] == asked.message[:2], "{}: {} under another id", self.name, asked)
        scheduler.require(event.elapsed == scheduler.now - asked.at, "{}: elapsed {}", self.name, event.elapsed)
        self._read_statement(asked, message)
        more = asked.multiple and rcode(message) == 0
        scheduler.require(event.more == more, "{}: {} ends too early or too late", self.name, asked)
        self._unsolicited = 0
        if more:
            asked.deadline = scheduler.now + asked.timeout
        else:
            self._free(self._fated(event.query, "answered"))

    def _check_discard(self, event: MessageDiscarded) -> None:
        """Nothing that answers a query is thrown away, unless it is late; and no flood goes on for ever."""
        scheduler, position = self.scheduler, self._next(event.message)
        scheduler.note(f"{self.name} discards a message: {event.reason.value}")
        scheduler.counters[f"discarded: {event.reason.value}"] += 1
        asked = None if position is None else self._sent[position]
        is_abandoned = asked is not None and asked.handle in self._abandoned
        if event.reason is DiscardReason.LATE and asked is not None:
            scheduler.require(is_abandoned and event.query == asked.handle, "{}: late, for {}", self.name, asked)
            self._read_statement(asked, event.message)
            if not asked.multiple or rcode(event.message):
                del self._abandoned[asked.handle]
                self._free(asked)
            return
        is_pending = asked is not None and asked.handle in self._pending
        scheduler.require(not is_pending and not is_abandoned, "{}: the answer to {} is thrown away", self.name, asked)
        known = event.query is None or event.query in self._pending or event.query in self._abandoned
        scheduler.require(known, "{}: a discarded message is put down to {}", self.name, event.query)
        self._count_unsolicited()

    def _read_statement(self, asked: Asked, message: bytes) -> None:
        """What a response says of the server's idle timeout (RFC 7828, section 3.2.2), and whether that is news."""
        options = walk(message).values(OPTION_KEEPALIVE)
        timeout = min((int.from_bytes(data) / 10 for data in options if len(data) == 2), default=None)
        if timeout is None and not asked.has_keepalive and (not options or self._stated is not None):
            return  # it was not asked, so that it says nothing means nothing
        if options and timeout is None:
            self._statements.extend([] if self._told_of_bad_option else [None])
            self._told_of_bad_option = True
        elif timeout != self._stated:
            self._stated = timeout
            self._is_sent_away |= timeout == 0
            self._statements.append(timeout)

    def _next(self, message: bytes) -> int | None:
        """The position of the query that the next message of the server's answers, if any."""
        answers = self.link.answers
        self.scheduler.require(self._messages < len(answers), "{}: a message that nobody sent", self.name)
        sent, position = answers[self._messages]
        self._reported(message, sent, behind_id=2)
        return position

    def _fated(self, handle: int, fate: str) -> Asked:
        """A query has met its fate, its first and only one."""
        asked = self._pending.pop(handle, None)
        if asked is None:
            raise self.scheduler.failure(f"{self.name}: {handle:#x} is {fate}, and had its fate before")
        if asked.position is None:
            self._held.remove(asked)
        self.scheduler.note(f"{self.name}: {asked} is {fate}")
        self.scheduler.counters[fate] += 1
        self._restart_idle_timer()
        return asked

    def _abandon(self, asked: Asked) -> None:
        if asked.position is not None:
            self._abandoned[asked.handle] = asked

    def _free(self, asked: Asked) -> None:
        del self._taken[asked.wire_id]

    def _restart_idle_timer(self) -> None:
        self._rests_since = None if self._pending else self.scheduler.now

    def _check_giving_up(self, cause: Cause) -> None:
        configuration = self.client.configuration
        self._count_overdue()
        is_exhausted = cause is not Cause.EXHAUSTED or 2 * self._most_overdue >= configuration.max_in_flight
        self.scheduler.require(is_exhausted, "{}: exhausted by {} queries", self.name, self._most_overdue)
        due = configuration.max_silent_timeouts or 0
        is_worn = cause is not Cause.KEY_LIMIT or len(self._handles) >= configuration.max_queries
        self.scheduler.require(is_worn, "{}: the keys' end after {} queries", self.name, len(self._handles))
        is_dead = self.scheduler.now - self._heard_at >= configuration.longest_silence
        is_silent = cause is not Cause.PEER_SILENT or self._timed_out_unheard >= due or is_dead
        self.scheduler.require(is_silent, "{}: silent after {} time-outs", self.name, self._timed_out_unheard)

    def _count_overdue(self) -> None:
        """A graceful close for want of ids goes on when late answers have given some back."""
        overdue = sum(asked.deadline <= self.scheduler.now for asked in self._abandoned.values())
        self._most_overdue = max(self._most_overdue, overdue)

    def _hears(self) -> bool:
        return self.client.state is not State.CLOSED

    def _may_call_last(self) -> bool:
        return self._is_sent_away

    def _owed(self) -> list[Asked]:
        return list(self._pending.values())

    def _condition(self) -> tuple[object, ...]:
        client = self.client
        return client.state, client.pending, client.capacity, client.closing_for, client.next_timeout()

    def _earliest(self) -> float:
        earliest = min((asked.deadline for asked in self._pending.values()), default=math.inf)
        if self.client.state is State.DRAINING:
            return min(earliest, self._ends_by)
        if self.client.state is State.OPEN and not self._pending and self._rests_since is not None:
            return self._may_idle_until(self._rests_since)[1]
        return earliest

    def _may_idle_until(self, since: float) -> tuple[float, float]:
        configuration, stated = self.client.configuration, self._stated
        if stated is None:
            return since + configuration.idle_timeout, since + configuration.idle_timeout
        capped = min(stated, configuration.max_idle_timeout)
        # It must be closed before the server's time is up (RFC 7828, section 3.2.2), but not long before.
        return since + 0.9 * capped - 1e-6, since + capped

    def _allowed_weight(self) -> int:
        asked = [] if self.ended else [*self._pending.values(), *self._abandoned.values()]
        queued = 0 if self.ended else STALE + 9 * self._most_taken
        return sum(2 * len(each.message) + ADDED for each in asked) + queued

    def _check_state(self) -> None:
        scheduler, client = self.scheduler, self.client
        self._count_overdue()
        taken, limit = len(self._pending) + len(self._abandoned), client.configuration.max_in_flight
        self._most_taken = max(self._most_taken, taken)
        left = client.configuration.max_queries - len(self._handles)
        places = min(limit - taken, left) if client.is_open else 0
        scheduler.require(client.pending == len(self._pending), "{}: pending is {}", self.name, client.pending)
        scheduler.require(client.capacity == places, "{}: capacity is {}, not {}", self.name, client.capacity, places)
        scheduler.require(client.accepts_queries == (places > 0), "{}: accepts_queries is wrong", self.name)
        scheduler.require(taken <= limit, "{}: {} in flight", self.name, taken)
        scheduler.require(not self._statements, "{}: it does not hear {}", self.name, self._statements)
        scheduler.require(left > 0 or client.state is not State.OPEN, "{}: it stays open with worn keys", self.name)
        stays = self._is_sent_away and client.state is State.OPEN
        scheduler.require(not stays, "{}: it stays open though it is told to go", self.name)


def open_client(
    scheduler: Scheduler,
    link: Link,
    policy: AuthenticationPolicy,
    configuration: ClientConfiguration,
    *,
    earns_trust: bool,
    ids_repeat: bool,
) -> CheckedClient:
    """A connection whose calls are checked; ``ids_repeat``: one id is drawn each time, so that it is used when free."""
    first = scheduler.number(0, 0xFFFF).to_bytes(2)

    def entropy(size: int) -> bytes:
        return first * (size // 2) if ids_repeat else shake_128(scheduler.random().hex().encode()).digest(size)

    return CheckedClient(
        scheduler, link, ClientConnection(policy, configuration, entropy=entropy), earns_trust=earns_trust
    )
