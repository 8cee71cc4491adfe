"""What a server owes, foretold with nothing but lists and dictionaries (design: the promises of the engine)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from .._state import Cause, State
from ..configuration import ServerConfiguration
from ..errors import Fault
from ..events import DiscardReason, Event, MessageDiscarded, QueryReceived, QueryRejected
from .connection_machine import Model
from .messages import CD, DO, KEEPALIVE, PADDING, QR, RD, message, opt, option

SERVFAIL = 2
"RCODE (RFC 1035, section 4.1.1)."


@dataclass(frozen=True)
class Query:
    """One message of the client's, in the terms in which it is judged and answered."""

    id: int
    question: bytes = b""
    opcode: int = 0
    is_query: bool = True
    version: int | None = None
    "Of EDNS; ``None``: no OPT."
    is_padded: bool = False
    keepalive: bytes | None = None
    "The option's data; ``None``: no option."
    others: tuple[bytes, ...] = ()
    "Further options, before the others."
    copied: int = RD
    "Those flags of the header that are copied into a response of the engine's own."
    wants_dnssec: bool = False
    "DO in OPT (RFC 3225, section 3)."
    trailing: bytes = b""
    "Octets that belong to no record."
    rcode: int = 0
    "What the engine must answer by itself; 0: nothing, it is the caller's to answer."

    @property
    def octets(self) -> bytes:
        """The message."""
        options = [*self.others] if self.keepalive is None else [*self.others, option(KEEPALIVE, self.keepalive)]
        options += [option(PADDING, bytes(20))] * self.is_padded
        opts = [] if self.version is None else [opt(*options, version=self.version, flags=DO * self.wants_dnssec)]
        flags = QR * (not self.is_query) | self.opcode << 11 | self.copied
        return message(self.question, id=self.id, flags=flags, additionals=opts) + self.trailing


@dataclass
class ServerModel(Model):
    """The server; the queries that await an answer are known by their handles."""

    configuration: ServerConfiguration = field(default_factory=ServerConfiguration)
    state: State = State.OPEN
    outstanding: dict[int, Query] = field(default_factory=dict[int, Query])
    outgoing: list[bytes] = field(default_factory=list[bytes])
    "Responses, octet for octet, that have not left."
    queries: int = 0
    "How many have come."
    unsolicited: int = 0
    duration_at: float = math.inf
    client_has_finished: bool = False
    framing_has_failed: bool = False
    "While closing nothing is read, but for whether it ends inside a message."

    @property
    def wants_data(self) -> bool:
        """Whether the client should send more."""
        octets = sum(len(query.octets) for query in self.outstanding.values())
        few = len(self.outstanding) < self.configuration.max_outstanding
        return self.state is State.OPEN and few and octets < self.configuration.max_outstanding_octets

    def is_owed(self) -> bool:
        """Responses are."""
        return bool(self.outstanding)

    def deadlines(self) -> list[float]:
        """How long the connection may last."""
        return [self.duration_at]

    def forget(self, cause: Cause) -> list[Event]:
        """Nothing is owed any more; what has been answered still leaves."""
        self.outstanding = {}
        self.duration_at = math.inf
        return []

    # Commands

    def begin(self, now: float) -> None:
        """The handshake is over."""
        self._restart_idle_timer(now)
        if self.configuration.max_duration is not None:
            self.duration_at = now + self.configuration.max_duration

    def respond(self, handle: int, response: bytes, more: bool, now: float, kept: bytes = b"") -> None:
        """The response to a query that is outstanding, without OPT, and the options of the handler's that stay."""
        query = self.outstanding[handle]
        self.outgoing.append(self._as_sent(query, response, now, kept=kept))
        if not more:
            self.decline(handle, now)

    def send_error(self, handle: int, rcode: int, now: float) -> None:
        """A response of an RCODE and nothing else to a query that is outstanding."""
        self.outgoing.append(self._error(self.outstanding[handle], rcode, now))
        self.decline(handle, now)

    def decline(self, handle: int, now: float) -> None:
        """A query that is outstanding will not be answered any further."""
        del self.outstanding[handle]
        if not self.outstanding:
            self._restart_idle_timer(now)
            self.waiting.extend(self.drained())

    def close(self, timeout: float | None, now: float) -> None:
        """No more queries; those received are answered."""
        if not self.has_ended:
            self.drain(Cause.LOCAL_CLOSE, now + (self.configuration.close_timeout if timeout is None else timeout))
            self.waiting.extend(self.drained())

    # Verbs

    def receive(self, query: Query, handles: Iterator[int], now: float) -> list[Event]:
        """One message of the client's; ``handles`` are those that the connection gives out."""
        if self.state is not State.OPEN:
            return []
        if not query.is_query:
            return self._discard_unsolicited(query)
        self.unsolicited = 0
        self.queries += 1
        if self.queries == self.configuration.max_queries:
            self.drain(Cause.GO_AWAY, now + self.configuration.close_timeout)
        rcode = query.rcode
        if not rcode and len(self.outstanding) >= self.configuration.hard_outstanding:
            rcode = SERVFAIL
        if rcode:
            self.outgoing.append(self._error(query, rcode, now))
            if not self.outstanding:
                self._restart_idle_timer(now)
            return [QueryRejected(message=query.octets, rcode=rcode, explanation="foretold"), *self.drained()]
        handle = next(handles, -1)
        self.outstanding[handle] = query
        self.idle_at: float = math.inf
        return [QueryReceived(query=handle, message=query.octets)]

    def leave(self) -> list[bytes]:
        """The responses that may leave now."""
        leaving, self.outgoing = self.outgoing, []
        return leaving

    def tick(self, now: float) -> list[Event]:
        """What is due is done."""
        events: list[Event] = []
        if self.idle_at <= now:
            events += self.end(Cause.IDLE)
        if self.duration_at <= now:
            self.duration_at = math.inf
            if self.state is State.OPEN:
                self.drain(Cause.GO_AWAY, now + self.configuration.close_timeout)
            events += self.drained()
        if self.close_at <= now:
            events += self.end(Cause.CLOSE_TIMEOUT)
        return events

    def eof(self, orderly: bool, now: float) -> list[Event]:
        """The client will ask no more; it still gets what it is owed, and then it is told if that was not in order."""
        if self.client_has_finished:
            return []
        if orderly:
            return self._finish(Cause.PEER_CLOSED, None, now)
        return self._finish(Cause.TRANSPORT_FAILED, Fault.NO_CLOSE_NOTIFY, now)

    def bad_frame(self) -> list[Event]:
        """The client is broken."""
        self.framing_has_failed = True
        return self.end(Cause.PEER_FAULT, Fault.SHORT_FRAME) if self.state is State.OPEN else []

    def cut_off(self, orderly: bool, now: float) -> list[Event]:
        """That is told, however politely it ended; unless nothing means anything any more."""
        if self.client_has_finished or self.framing_has_failed:
            return self.eof(orderly, now)
        return self._finish(Cause.PEER_FAULT, Fault.TRUNCATED, now)

    def break_off(self) -> list[Event]:
        """Nothing is sent to a client that is gone (RFC 7766, section 6.2.4)."""
        if not self.has_ended:
            self.outgoing = []
        return super().break_off()

    # Consequences

    def _restart_idle_timer(self, now: float) -> None:
        """Nothing is outstanding: the idle time begins, some grace added (RFC 7828, section 3.3.2)."""
        if self.state is State.OPEN:
            self.idle_at = now + self.configuration.idle_timeout + self.configuration.idle_grace

    def _finish(self, cause: Cause, fault: Fault | None, now: float) -> list[Event]:
        """The end, for this cause where nothing is owed."""
        if self.outstanding:
            self.client_has_finished = True
            self.fault: Fault | None = fault
            self.drain(Cause.PEER_FINISHED, now + self.configuration.close_timeout)
            return []
        return self.end(cause, fault)

    def _error(self, query: Query, rcode: int, now: float) -> bytes:
        """Id, opcode, RD, CD and question copied; an RCODE above 15 needs OPT (RFC 6891, section 6.1.3)."""
        has_opt = query.version is not None
        if rcode > 15 and not has_opt:
            rcode = SERVFAIL
        response = message(query.question, flags=QR | query.opcode << 11 | query.copied | rcode & 15)
        return self._as_sent(query, response, now, rcode >> 4)

    def _as_sent(self, query: Query, bare: bytes, now: float, extended_rcode: int = 0, kept: bytes = b"") -> bytes:
        """The query's id, CD and DO; OPT as the query had it: keepalive if it asked or is to go, padding if padded."""
        response = query.id.to_bytes(2) + bare[2:3] + bytes([bare[3] & ~CD | query.copied & CD]) + bare[4:]
        if query.version is None:
            return response
        response = response[:10] + (int.from_bytes(response[10:12]) + 1).to_bytes(2) + response[12:]
        options = [kept]
        if self.state is not State.OPEN:
            options.append(option(KEEPALIVE, b"\0\0"))
        elif query.keepalive is not None:
            seconds = min(self.configuration.idle_timeout, max(self.duration_at - now, 0.0))
            options.append(option(KEEPALIVE, int(seconds * 10 + 1e-5).to_bytes(2)))
        if query.is_padded and self.configuration.padding_block is not None:
            size = len(response) + len(opt(*options, option(PADDING)))
            options.append(option(PADDING, bytes(-size % self.configuration.padding_block)))
        return response + opt(*options, rcode=extended_rcode, flags=DO * query.wants_dnssec)

    def _discard_unsolicited(self, query: Query) -> list[Event]:
        self.unsolicited += 1
        events: list[Event] = [MessageDiscarded(message=query.octets, reason=DiscardReason.NOT_A_QUERY, query=None)]
        if self.unsolicited > self.configuration.max_unsolicited:
            events += self.end(Cause.PEER_FAULT, Fault.TOO_MANY_UNSOLICITED)
        return events
