"""A server connection with every invariant checked at every call.

Every message that the client sent is reported once, in order, or answered by the engine itself; every response leaves
once, in order, under its query's id; deadlines met; memory bounded.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

from ... import (
    Cause,
    ConnectionClosed,
    Event,
    Fault,
    MessageDiscarded,
    QueryReceived,
    QueryRejected,
    ServerConfiguration,
    ServerConnection,
    State,
)
from ..._message import (
    HEADER,
    OPTION_COOKIE,
    OPTION_KEEPALIVE,
    OPTION_PADDING,
    Layout,
    edns_version,
    oddity,
    opcode_of,
    walk,
)
from ..messages import CD
from .checked import CheckedConnection, before_opt
from .network import Link, Scheduler

NEARLY_FULL: Final = 65_520
"Octets up to which a response can be padded to a whole block of 468 (RFC 8467, section 4.1)."

LOSING: Final = frozenset({Cause.CLOSE_TIMEOUT, Cause.PEER_FAULT, Cause.TRANSPORT_FAILED})
"The only ends at which queries may be left without an answer."

OPT_FLAGS: Final = slice(6, 9)
"Version and flags in an OPT record (RFC 6891, section 6.1.3)."

PADDED: Final = 500
"Octets by which an error of the engine's own may be longer than its query: a block of 468, and its prefix."


@dataclass(slots=True, repr=False)
class Received:
    """One query, as the records know it."""

    handle: int
    message: bytes
    position: int
    "Which of the messages that the client framed it is."
    flags: bytes | None
    "Version 0, and DO of the flags: what OPT of the response must have; ``None``: there is to be none."
    is_padded: bool
    wants_keepalive: bool

    @classmethod
    def of(cls, handle: int, message: bytes, position: int) -> Received:
        """The query in these octets."""
        layout = walk(message)
        flags = None if layout.opt is None else bytes([0, message[layout.opt[0] + 7] & 0x80, 0])
        is_padded, wants_keepalive = (bool(layout.values(code)) for code in (OPTION_PADDING, OPTION_KEEPALIVE))
        return cls(handle, message, position, flags, is_padded, wants_keepalive)

    def __repr__(self) -> str:
        return f"query at {self.position}"


class CheckedServer(CheckedConnection):
    """A server connection whose calls are checked."""

    def __init__(self, scheduler: Scheduler, link: Link, configuration: ServerConfiguration) -> None:
        self.server: Final = ServerConnection(configuration)
        super().__init__(scheduler, link, link.up, f"server {link.number}", self.server, configuration.max_unsolicited)
        self._outstanding: dict[int, Received] = {}
        self._replies: deque[tuple[Received, bytes | None, bytes]] = deque()
        "To what, what is said of the idle timeout, and what the handler gave; empty for an error of the engine's."
        self._handles = 0
        self._began_at = math.inf

    # Commands

    def begin(self) -> None:
        """The handshake is over."""
        self.server.begin(now=self.scheduler.now)
        self._began_at = self._rests_since = self.scheduler.now
        self.check()

    def respond(self, handle: int, message: bytes, *, more: bool = False) -> bool:
        """Answer a query; says whether the response will be sent."""
        statement = self._statement(handle)
        sent = self.server.send_response(handle, message, now=self.scheduler.now, more=more)
        return self._replied(handle, sent, statement, message, more=more)

    def refuse(self, handle: int, rcode: int) -> bool:
        """Answer a query with an error."""
        statement = self._statement(handle)
        sent = self.server.send_error(handle, now=self.scheduler.now, rcode=rcode)
        return self._replied(handle, sent, statement)

    def decline(self, handle: int) -> None:
        """Leave a query without an answer."""
        self.server.decline(handle, now=self.scheduler.now)
        self._outstanding.pop(handle, None)
        self.scheduler.counters["declined"] += 1
        self._restart_idle_timer()
        self.check()

    def close(self, timeout: float | None) -> None:
        """Begin a graceful close."""
        self.scheduler.note(f"{self.name} closes, timeout {timeout}")
        self.server.close(now=self.scheduler.now, timeout=timeout)
        self._ends_within(self.server.configuration.close_timeout if timeout is None else timeout)
        self.scheduler.require(not self._hears(), "{}: it stays open when closed", self.name)
        self.check()

    # Verbs

    def receive(self, octets: bytes) -> list[Event]:
        """Octets from the client."""
        self._unreported += len(octets)
        events = self.server.receive_data(octets, now=self.scheduler.now)
        return self._received(octets, self.link.queries, events)

    def receive_end(self, *, orderly: bool) -> list[Event]:
        """The client will ask nothing more; it is still answered, for a while."""
        self._ends_within(self.server.configuration.close_timeout)
        return super().receive_end(orderly=orderly)

    def fail(self, text: str, fault: Fault) -> list[Event]:
        """TLS or TCP has failed: nothing is sent to a client that is gone."""
        if self.ended is None:
            self._replies.clear()
        return super().fail(text, fault)

    def drain(self) -> list[bytes]:
        """What is to be sent: the responses queued, each once and in order, fit for its query."""
        scheduler, chunks, replies = self.scheduler, self.server.data_to_send(), self._replies
        due = len(replies)
        scheduler.require(len(chunks) == due, "{}: {} responses leave of {}", self.name, len(chunks), due)
        for chunk in chunks:
            (query, statement, given), message = replies.popleft(), chunk[2:]
            scheduler.require(int.from_bytes(chunk[:2]) == len(message), "{}: a wrong length prefix", self.name)
            fits = message[:2] == query.message[:2] and message[2] >> 7 == 1
            scheduler.require(fits, "{}: the response to {} has id or QR wrong", self.name, query)
            layout = walk(message)
            if given:
                same_body = before_opt(message, layout) == before_opt(given, walk(given))
                kept = message[2] == given[2] and (message[3] ^ given[3]) & ~CD == 0 and message[4:10] == given[4:10]
                kept = kept and same_body
                scheduler.require(kept, "{}: {!r} is sent as {!r}", self.name, given, message)
            block = self.server.configuration.padding_block
            if block is not None and query.is_padded and len(message) <= NEARLY_FULL:
                scheduler.require(len(message) % block == 0, "{}: {} octets are not padded", self.name, len(message))
            scheduler.require((message[3] ^ query.message[3]) & CD == 0, "{}: CD to {} is wrong", self.name, query)
            flags = None if layout.opt is None else message[layout.opt[0] :][OPT_FLAGS]
            scheduler.require(flags == query.flags, "{}: OPT to {} is wrong", self.name, query)
            said = layout.option(OPTION_KEEPALIVE)
            scheduler.require(said == statement, "{}: it states {}, not {}", self.name, said, statement)
            self.link.answers.append((message, query.position))
            scheduler.note(f"{self.name} > response to {query}, {len(message)} octets")
        replies.clear()
        return chunks

    # The checks

    def _check_event(self, event: Event) -> None:
        scheduler, queries = self.scheduler, self.link.queries
        scheduler.require(self._messages < len(queries), "{}: {} of a message that nobody sent", self.name, event)
        sent, position = queries[self._messages], self._messages
        match event:
            case QueryReceived() | QueryRejected():
                self._reported(event.message, sent)
                query = Received.of(self._handles, sent, position)
                self._handles += 1
                self._unsolicited = 0
                is_rejected = isinstance(event, QueryRejected)
                scheduler.require(is_rejected == self._objects_to(sent, walk(sent)), "{}: {}", self.name, event)
                if isinstance(event, QueryReceived):
                    scheduler.require(event.query == query.handle, "{}: handle {} to {}", self.name, event.query, query)
                    scheduler.note(f"{self.name} < {query}, id {sent[:2].hex()}")
                    self._outstanding[event.query] = query
                else:
                    scheduler.note(f"{self.name} rejects {query}: {event.explanation}")
                    scheduler.counters["rejected by the engine"] += 1
                    self._replies.append((query, self._statement_to(query, is_last=self._has_asked_enough()), b""))
                self._restart_idle_timer()
            case _:
                scheduler.require(isinstance(event, MessageDiscarded) and sent[2] >> 7 == 1, "{}: {}", self.name, event)
                scheduler.note(f"{self.name} discards a message")
                self._reported(sent, sent)
                self._count_unsolicited()

    def _check_end(self, event: ConnectionClosed) -> None:
        if event.cause in LOSING:
            self._outstanding.clear()  # nobody is left to answer to (RFC 7766, section 6.2.4)
        super()._check_end(event)

    def _replied(
        self, handle: int, sent: bool, statement: bytes | None, given: bytes = b"", *, more: bool = False
    ) -> bool:
        is_owed = handle in self._outstanding
        self.scheduler.require(sent == is_owed, "{}: an answer to handle {} is sent: {}", self.name, handle, sent)
        if sent:
            self._replies.append((self._outstanding[handle], statement, given))
            if not more:
                del self._outstanding[handle]
                self._restart_idle_timer()
        self.check()
        return sent

    def _objects_to(self, message: bytes, layout: Layout) -> bool:
        """Whether the engine must answer a query by itself: what it cannot know, cannot read, or has no place for."""
        return (
            opcode_of(message) not in self.server.configuration.opcodes
            or layout.problem is not None
            or (layout.opt is not None and edns_version(message, layout) > 0)
            or oddity(message, layout) is not None
            or (layout.question_end == HEADER.size and not layout.values(OPTION_COOKIE))
            or len(self._outstanding) >= self.server.configuration.hard_outstanding
        )

    def _statement(self, handle: int) -> bytes | None:
        """What a response must say of the idle timeout if it is sent now."""
        query = self._outstanding.get(handle)
        return None if query is None else self._statement_to(query, is_last=self.server.state is not State.OPEN)

    def _statement_to(self, query: Received, *, is_last: bool) -> bytes | None:
        """None without OPT; that the client should go, when it should (RFC 7828, section 3.3.2)."""
        if query.flags is None or not (is_last or query.wants_keepalive):
            return None
        configuration, seconds = self.server.configuration, 0.0
        if not is_last:
            lasts = math.inf if configuration.max_duration is None else configuration.max_duration
            left = self._began_at + lasts - self.scheduler.now
            seconds = max(min(configuration.idle_timeout, left), 0.0)
        return int(seconds / 0.1 + 1e-6).to_bytes(2)

    def _has_asked_enough(self) -> bool:
        limit = self.server.configuration.max_queries
        return limit is not None and self._handles >= limit

    def _hears(self) -> bool:
        return self.server.state is State.OPEN

    def _restart_idle_timer(self) -> None:
        self._rests_since = None if self._outstanding else self.scheduler.now

    def _may_call_last(self) -> bool:
        duration = self.server.configuration.max_duration
        lasts_too_long = duration is not None and self._began_at + duration <= self.scheduler.now
        return self._has_asked_enough() or lasts_too_long

    def _owed(self) -> list[Received]:
        return list(self._outstanding.values())

    def _condition(self) -> tuple[object, ...]:
        server = self.server
        return server.state, server.outstanding, server.wants_data, server.closing_for, server.next_timeout()

    def _earliest(self) -> float:
        configuration, earliest = self.server.configuration, math.inf
        if self.server.state is State.DRAINING:
            return self._ends_by
        if self.server.state is State.OPEN:
            if configuration.max_duration is not None:
                earliest = self._began_at + configuration.max_duration
            if self._rests_since is not None:
                earliest = min(earliest, self._may_idle_until(self._rests_since)[1])
        return earliest

    def _may_idle_until(self, since: float) -> tuple[float, float]:
        until = since + self.server.configuration.idle_timeout + self.server.configuration.idle_grace
        return until, until

    def _allowed_weight(self) -> int:
        return sum(
            len(each.message) + PADDED for each in [*self._outstanding.values(), *(reply[0] for reply in self._replies)]
        )

    def _check_state(self) -> None:
        scheduler, server, configuration = self.scheduler, self.server, self.server.configuration
        count = server.outstanding
        if server.state is State.DRAINING and self._ends_by == math.inf:
            self._ends_within(configuration.close_timeout)  # the client has finished, or a limit was reached
        scheduler.require(count == len(self._outstanding), "{}: {} are outstanding", self.name, count)
        scheduler.require(count <= configuration.hard_outstanding, "{}: {} are outstanding", self.name, count)
        octets = sum(len(query.message) for query in self._outstanding.values())
        has_room = count < configuration.max_outstanding and octets < configuration.max_outstanding_octets
        wants_data = has_room and server.state is State.OPEN
        scheduler.require(server.wants_data == wants_data, "{}: wants_data is {}", self.name, server.wants_data)
        too_many = self._has_asked_enough() and server.state is State.OPEN
        scheduler.require(not too_many, "{}: {} queries, and open", self.name, self._handles)
