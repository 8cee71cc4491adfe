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
    ClientConfiguration,
    ClientConnection,
    DiscardReason,
    Event,
    Evidence,
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
from ..._message import OPTION_KEEPALIVE, opcode_of, walk
from .network import Link, World
from .watches import Watch, before_opt, other_options

ADDED: Final = 200
"Octets by which a query may grow, and what else is kept of it: a block of 128 padded, OPT and prefix, the id."


@dataclass(slots=True, repr=False)
class Asked:
    """One query, as the books know it."""

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


class ClientWatch(Watch):
    """A client connection and its books; ``earns_trust``: whether its policy must accept the peer."""

    def __init__(self, world: World, link: Link, client: ClientConnection, *, earns_trust: bool) -> None:
        super().__init__(world, link, link.down, f"client {link.number}", client, client.configuration.max_unsolicited)
        self.client: Final = client
        self._earns_trust = earns_trust
        self._is_trusted = False
        self._held: list[Asked] = []
        self._pending: dict[int, Asked] = {}
        self._abandoned: dict[int, Asked] = {}
        self._sent: list[Asked] = []
        self._taken: dict[int, Asked] = {}
        self._handles: set[int] = set()
        self._stated: float | None = None
        self._statements: list[float | None] = []
        self._told_of_bad_option = False
        self._is_sent_away = False

    def is_pending(self, handle: int) -> bool:
        """Whether a query has no fate yet."""
        return handle in self._pending

    # Commands

    def ask(self, message: bytes, *, timeout: float | None, multiple: bool) -> int | None:
        """Ask; the handle, or ``None`` if the engine refused, as it then had to."""
        world, client, configuration = self.world, self.client, self.client.configuration
        may, is_open = client.accepts_queries, client.is_open
        try:
            handle = client.send_query(message, now=world.now, timeout=timeout, multiple=multiple)
        except LocalProtocolError as error:
            world.note(f"{self.name}: {error}")
            world.require(not may, "{}: a query is refused though there is room", self.name)
            world.require(isinstance(error, TooManyQueriesError) == is_open, "{}: refused as {}", self.name, error)
            world.tally["refused at the caller"] += 1
            self.check()
            return None
        world.require(may, "{}: a query is taken though there is no room", self.name)
        world.require(handle not in self._handles, "{}: handle {} is issued twice", self.name, handle)
        self._handles.add(handle)
        timeout = configuration.query_timeout if timeout is None else timeout
        asked = Asked(len(self._handles), handle, message, multiple, world.now, timeout, world.now + timeout)
        self._pending[handle] = asked
        self._held.append(asked)
        world.tally["queries"] += 1
        world.note(f"{self.name} asks {asked}, {len(message)} octets, timeout {timeout}")
        self.check()
        return handle

    def cancel(self, handle: int) -> None:
        """Give up a query, which may have its fate already."""
        expected = handle in self._pending and self.client.state is not State.CLOSED
        was_its_fate = self.client.cancel(handle, now=self.world.now)
        self.world.require(was_its_fate == expected, "{}: cancel of {} says {}", self.name, handle, was_its_fate)
        if was_its_fate:
            self._abandon(self._fated(handle, "cancelled"))
        self.check()

    def end_exchange(self, handle: int) -> None:
        """The caller has seen the last message of an answer in several."""
        self.client.end_exchange(handle, now=self.world.now)
        self._free(self._fated(handle, "answered"))
        self.check()

    def close(self, timeout: float | None) -> None:
        """Begin a graceful close."""
        self.world.note(f"{self.name} closes, timeout {timeout}")
        self.client.close(now=self.world.now, timeout=timeout)
        self._ends_within(self.client.configuration.close_timeout if timeout is None else timeout)
        self.world.require(not self.client.is_open, "{}: it stays open when closed", self.name)
        self.check()

    # Verbs

    def verify(self, evidence: Evidence) -> list[Event]:
        """The handshake is over."""
        is_judged = self.client.state is State.UNVERIFIED
        events = self.checked(self.client.verify_peer(evidence, now=self.world.now))
        verdicts = [event for event in events if isinstance(event, PeerAuthenticated | PeerRefused)]
        self.world.require(len(verdicts) == is_judged, "{}: {} verdicts", self.name, len(verdicts))
        return events

    def receive(self, octets: bytes) -> list[Event]:
        """Octets from the server."""
        self._unreported += len(octets)
        events = self.client.receive_data(octets, now=self.world.now)
        return self._received(octets, self.link.answers, events)

    def drain(self) -> list[bytes]:
        """What is to be sent: the queries held, all of them and in order, and none before the verdict."""
        world, chunks, held = self.world, self.client.data_to_send(), self._held
        if not chunks:
            is_idle = not held or not self._is_trusted or self.client.state is State.CLOSED
            world.require(is_idle, "{}: {} is held though it may leave", self.name, held)
            return chunks
        world.require(self._is_trusted, "{}: query octets before the verdict, or without one", self.name)
        world.require(len(chunks) == len(held), "{}: {} leave of {}", self.name, len(chunks), held)
        for chunk, asked in zip(chunks, held, strict=True):
            message = chunk[2:]
            world.require(int.from_bytes(chunk[:2]) == len(message), "{}: a wrong length prefix", self.name)
            asked.wire_id, asked.position = int.from_bytes(message[:2]), len(self._sent)
            taken = self._taken.get(asked.wire_id)
            world.require(taken is None, "{}: {} gets id {} of {}", self.name, asked, asked.wire_id, taken)
            self._check_options(asked, message)
            self._taken[asked.wire_id] = asked
            self._sent.append(asked)
            self.link.queries.append(message)
            world.note(f"{self.name} > {asked} under id {asked.wire_id:04x}")
        held.clear()
        return chunks

    def _check_options(self, asked: Asked, message: bytes) -> None:
        """What was added to a query, and that nothing else was done to it."""
        world, configuration = self.world, self.client.configuration
        # Of the counts only that of additionals may grow, by an OPT.
        before, after = walk(asked.message), walk(message)
        same = message[2:10] == asked.message[2:10] and before_opt(message, after) == before_opt(asked.message, before)
        same = same and other_options(after) == other_options(before)
        world.require(same, "{}: {} leaves as {}", self.name, asked, message.hex())
        block = configuration.padding_block or 1
        world.require(len(message) % block == 0, "{}: {} leaves in {} octets", self.name, asked, len(message))
        asked.has_keepalive = after.option(OPTION_KEEPALIVE) == b""
        wrong = asked.has_keepalive != configuration.keepalive
        world.require(not wrong, "{}: {} has keepalive: {}", self.name, asked, asked.has_keepalive)

    # The books

    def _book(self, event: Event) -> None:
        world = self.world
        match event:
            case ResponseReceived():
                self._book_response(event)
            case QueryTimedOut():
                asked = self._fated(event.query, "timed out")
                world.require(asked.deadline <= world.now, "{}: {} times out too early", self.name, asked)
                world.require(event.elapsed == world.now - asked.at, "{}: elapsed {}", self.name, event.elapsed)
                self._abandon(asked)
            case QueryLost():
                asked = self._fated(event.query, "lost")
                was_sent = asked.position is not None
                is_safe = not was_sent or opcode_of(asked.message) == 0
                said = event.was_sent, event.safe_to_resend
                world.require(said == (was_sent, is_safe), "{}: {} is lost, sent and safe: {}", self.name, asked, said)
            case MessageDiscarded():
                self._book_discard(event)
            case KeepaliveReceived():
                world.note(f"{self.name} < idle timeout {event.timeout}")
                heard, self._statements = self._statements[:1], self._statements[1:]
                world.require(heard == [event.timeout], "{}: it was told {}", self.name, heard)
            case _:
                world.require(isinstance(event, PeerAuthenticated | PeerRefused), "{}: {}", self.name, event)
                self._is_trusted = isinstance(event, PeerAuthenticated)
                world.note(f"{self.name}: {type(event).__name__}")
                world.require(self._is_trusted == self._earns_trust, "{}: a wrong verdict: {}", self.name, event)
                self._restart_idle_timer()

    def _book_response(self, event: ResponseReceived) -> None:
        world, message = self.world, event.message
        position = self._next(message)
        if event.query not in self._pending:
            raise world.failure(f"{self.name}: a response to {event.query:#x}, which is not pending")
        asked = self._pending[event.query]
        is_the_one = asked.position is not None and asked.position == position
        world.require(is_the_one, "{}: {} gets what answers query at {}", self.name, asked, position)
        world.require(message[:2] == asked.message[:2], "{}: {} under another id", self.name, asked)
        world.require(event.elapsed == world.now - asked.at, "{}: elapsed {}", self.name, event.elapsed)
        self._read_statement(asked, message)
        more = asked.multiple and message[3] & 15 == 0
        world.require(event.more == more, "{}: {} ends too early or too late", self.name, asked)
        self._unsolicited = 0
        if more:
            asked.deadline = world.now + asked.timeout
        else:
            self._free(self._fated(event.query, "answered"))

    def _book_discard(self, event: MessageDiscarded) -> None:
        """Nothing that answers a query is thrown away, unless it is late; and no flood goes on for ever."""
        world, position = self.world, self._next(event.message)
        world.note(f"{self.name} discards a message: {event.reason.value}")
        world.tally[f"discarded: {event.reason.value}"] += 1
        asked = None if position is None else self._sent[position]
        is_abandoned = asked is not None and asked.handle in self._abandoned
        if event.reason is DiscardReason.LATE and asked is not None:
            world.require(is_abandoned and event.query == asked.handle, "{}: late, for {}", self.name, asked)
            if not asked.multiple or event.message[3] & 15:
                del self._abandoned[asked.handle]
                self._free(asked)
            return
        is_pending = asked is not None and asked.handle in self._pending
        world.require(not is_pending and not is_abandoned, "{}: the answer to {} is thrown away", self.name, asked)
        known = event.query is None or event.query in self._pending or event.query in self._abandoned
        world.require(known, "{}: a discarded message is put down to {}", self.name, event.query)
        self._stray()

    def _read_statement(self, asked: Asked, message: bytes) -> None:
        """What a response says of the server's idle timeout (RFC 7828, section 3.2.2), and whether that is news."""
        if asked.has_keepalive:
            option = walk(message).option(OPTION_KEEPALIVE)
            timeout = None if option is None else int.from_bytes(option) / 10
            if option is not None and len(option) != 2:
                self._statements.extend([] if self._told_of_bad_option else [None])
                self._told_of_bad_option = True
            elif timeout != self._stated:
                self._stated = timeout
                self._is_sent_away |= timeout == 0
                self._statements.append(timeout)

    def _next(self, message: bytes) -> int | None:
        """The position of the query that the next message of the server's answers, if any."""
        answers = self.link.answers
        self.world.require(self._messages < len(answers), "{}: a message that nobody sent", self.name)
        sent, position = answers[self._messages]
        self._reported(message, sent, behind_id=2)
        return position

    def _fated(self, handle: int, fate: str) -> Asked:
        """A query has met its fate, its first and only one."""
        asked = self._pending.pop(handle, None)
        if asked is None:
            raise self.world.failure(f"{self.name}: {handle:#x} is {fate}, and had its fate before")
        if asked.position is None:
            self._held.remove(asked)
        self.world.note(f"{self.name}: {asked} is {fate}")
        self.world.tally[fate] += 1
        self._restart_idle_timer()
        return asked

    def _abandon(self, asked: Asked) -> None:
        if asked.position is not None:
            self._abandoned[asked.handle] = asked

    def _free(self, asked: Asked) -> None:
        del self._taken[asked.wire_id]

    def _restart_idle_timer(self) -> None:
        self._rests_since = None if self._pending else self.world.now

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
        return sum(2 * len(each.message) + ADDED for each in asked)

    def _check_books(self) -> None:
        world, client = self.world, self.client
        taken, limit = len(self._pending) + len(self._abandoned), client.configuration.max_in_flight
        places = limit - taken if client.is_open else 0
        world.require(client.pending == len(self._pending), "{}: pending is {}", self.name, client.pending)
        world.require(client.capacity == places, "{}: capacity is {}, not {}", self.name, client.capacity, places)
        world.require(client.accepts_queries == (places > 0), "{}: accepts_queries is wrong", self.name)
        world.require(taken <= limit, "{}: {} in flight", self.name, taken)
        world.require(not self._statements, "{}: it does not hear {}", self.name, self._statements)
        stays = self._is_sent_away and client.state is State.OPEN
        world.require(not stays, "{}: it stays open though it is told to go", self.name)


def open_client(
    world: World,
    link: Link,
    policy: AuthenticationPolicy,
    configuration: ClientConfiguration,
    *,
    earns_trust: bool,
    ids_repeat: bool,
) -> ClientWatch:
    """A connection under watch; with ``ids_repeat`` one id is drawn again and again, so that it is used when free."""
    first = world.number(0, 0xFFFF).to_bytes(2)

    def entropy(size: int) -> bytes:
        return first * (size // 2) if ids_repeat else shake_128(world.random().hex().encode()).digest(size)

    return ClientWatch(world, link, ClientConnection(policy, configuration, entropy=entropy), earns_trust=earns_trust)
