"""What the invariants of both roles have in common: the clock's, the end's, and memory's.

A checked connection stands between a driver and an engine.  It passes each call on, and keeps records of its own in
plain dictionaries.  What the engine reports must follow from what the link says was sent, and what the engine says of
itself must agree with the records.
"""

from __future__ import annotations

import enum
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence, Sized
from typing import Final

from ... import (
    AuthenticationPolicy,
    Cause,
    ClientConfiguration,
    ClientConnection,
    ConnectionClosed,
    Event,
    Evidence,
    Fault,
    RemoteProtocolError,
    ServerConfiguration,
    ServerConnection,
    State,
    Verdict,
)
from ..._edns import Additions
from ..._message import HEADER, OPTION_KEEPALIVE, OPTION_PADDING, Layout
from .network import Link, Pipe, Scheduler

MAX_INCOMPLETE: Final = 65_537
"Octets: the longest message that is not complete yet, with its prefix."

OVERHEAD: Final = 300
"Entries: the 256 ids drawn in advance, the timers, and a few octets of keepalive."

WEIGHED: Final = 1 / 64
"How often a connection is weighed, which costs more than all other checks, and always at its end."

CAUSES: Final = {
    Fault.SHORT_FRAME: Cause.PEER_FAULT,
    Fault.TRUNCATED: Cause.PEER_FAULT,
    Fault.TOO_MANY_UNSOLICITED: Cause.PEER_FAULT,
    Fault.NO_CLOSE_NOTIFY: Cause.TRANSPORT_FAILED,
    Fault.PEER_REFUSED: Cause.PEER_REFUSED,
    Fault.TLS: Cause.TRANSPORT_FAILED,
    Fault.RESET: Cause.TRANSPORT_FAILED,
}
"The ends that come with an error, and with which."

GRACEFUL: Final = frozenset({Cause.CLOSE_TIMEOUT, Cause.GO_AWAY, Cause.LOCAL_CLOSE, Cause.PEER_FINISHED})
"The ends that come with the error with which the peer has finished before; all others are orderly ones."

_PLAIN: Final = (int, float, bool, type(None))
"What weighs nothing: its place is counted where it is held."

_SAID_ELSEWHERE: Final = (
    Additions,
    AuthenticationPolicy,
    ClientConfiguration,
    Evidence,
    ServerConfiguration,
    Verdict,
    enum.Enum,
)
"What a connection refers to and does not fill by itself: some of it is shared by all."


class CheckedConnection(ABC):
    """One connection, each of whose calls is checked."""

    def __init__(
        self,
        scheduler: Scheduler,
        link: Link,
        heard: Pipe,
        name: str,
        connection: ClientConnection | ServerConnection,
        max_unsolicited: int,
    ) -> None:
        self.ended: Cause | None = None
        "The cause in the terminal event, once that has been delivered."
        self.deadline = math.inf
        "When the engine wants to be called, as it said after the last call; infinity: never."
        self.scheduler: Final = scheduler
        self.link: Final = link
        self.name: Final = name
        scheduler.engines += 1
        self._heard = heard
        self._connection = connection
        self._max_unsolicited = max_unsolicited
        self._unsolicited = 0
        self._fault: Fault | None = None
        self._has_finished = False  # the peer
        self._may_have: tuple[Fault | None, ...] = (None,)  # what the end may tell of how it did
        self._messages = 0  # reported
        self._unreported = 0  # octets fed, less those of the messages reported
        self._ends_by = math.inf
        self._rests_since: float | None = None

    # The verbs that are the same for both roles.

    def receive_end(self, *, orderly: bool) -> list[Event]:
        """The stream has ended."""
        scheduler, hears = self.scheduler, self._hears()
        scheduler.note(f"{self.name} < {'close_notify' if orderly else 'FIN'}")
        fault = Fault.TRUNCATED if self._unreported else None if orderly else Fault.NO_CLOSE_NOTIFY
        if not self._has_finished and self._connection.state is not State.CLOSED:
            # What comes while nothing is read is not counted by messages: then it may end inside one, or between two.
            self._may_have = (fault,) if hears else (fault, None if orderly else Fault.NO_CLOSE_NOTIFY)
            self._has_finished = True
        events = self.checked(self._connection.receive_eof(now=scheduler.now, orderly=orderly))
        scheduler.require(not self._hears(), "{}: it waits for more behind the end of the stream", self.name)
        if hears and self.ended is not None:
            scheduler.require(self._fault == fault, "{}: the fault is {}, not {}", self.name, self._fault, fault)
        return events

    def fail(self, text: str, fault: Fault) -> list[Event]:
        """TLS or TCP has failed."""
        self.scheduler.note(f"{self.name} < {text}")
        events = self.checked(self._connection.fail(RemoteProtocolError(text, fault), now=self.scheduler.now))
        self.scheduler.require(self.ended is not None, "{}: it goes on though the transport has failed", self.name)
        return events

    def tick(self) -> list[Event]:
        """Call ``handle_timeout``.  Afterwards nothing may be due any more: the next deadline is in the future."""
        scheduler = self.scheduler
        events = self.checked(self._connection.handle_timeout(now=scheduler.now))
        scheduler.require(
            self.deadline > scheduler.now, "{}: due at {}, which is not after this call", self.name, self.deadline
        )
        scheduler.require(self._earliest() > scheduler.now, "{}: a deadline is not met", self.name)
        return events

    def nudge(self) -> None:
        """Look at the clock though nothing is due: nothing may come of it."""
        before = self._condition()
        events = self._connection.handle_timeout(now=self.scheduler.now)
        self.scheduler.require(not events, "{}: a spurious handle_timeout reports {}", self.name, events)
        self.scheduler.require(self._condition() == before, "{}: a spurious handle_timeout changes it", self.name)

    @property
    def is_due(self) -> bool:
        """Whether the engine wants to be called now."""
        return self.deadline <= self.scheduler.now

    # The checks.

    @abstractmethod
    def _check_event(self, event: Event) -> None:
        """Compare one event with the records, and add it to them; :meth:`_check_end` does so for the terminal event."""

    @abstractmethod
    def _hears(self) -> bool:
        """Whether the connection still reports what the peer says."""

    @abstractmethod
    def _may_call_last(self) -> bool:
        """Whether there is a reason to end the connection once what is owed has come (RFC 7828, section 3.2.2)."""

    @abstractmethod
    def _owed(self) -> Sequence[object]:
        """The queries that have no fate yet, or no response."""

    @abstractmethod
    def _condition(self) -> tuple[object, ...]:
        """What a caller can see of the connection."""

    @abstractmethod
    def _earliest(self) -> float:
        """The latest time at which the engine must be called next, or infinity."""

    @abstractmethod
    def _allowed_weight(self) -> int:
        """What the connection may hold, beside one incomplete message and the overhead."""

    @abstractmethod
    def _check_state(self) -> None:
        """Compare what the engine says of itself with the records; not called once it has ended."""

    def checked(self, events: list[Event]) -> list[Event]:
        """Check the events of one call, and return them."""
        scheduler = self.scheduler
        for event in events:
            scheduler.require(self.ended is None, "{}: {} behind the terminal event", self.name, event)
            if isinstance(event, ConnectionClosed):
                self._check_end(event)
            else:
                self._check_event(event)
        self.check()
        if scheduler.chance(WEIGHED) or (self.ended is not None and events):
            self._check_weight()
        return events

    def check(self) -> None:
        """Compare what the engine says of itself with the records, after any call."""
        scheduler, timeout, is_closed = (
            self.scheduler,
            self._connection.next_timeout(),
            self._connection.state is State.CLOSED,
        )
        self.deadline = deadline = math.inf if timeout is None else timeout
        if self.ended is not None:
            scheduler.require(is_closed and deadline == math.inf, "{}: it has ended and goes on", self.name)
        elif is_closed:
            # A command has ended it: the events are still to be delivered, by the next call, which is due.
            scheduler.require(deadline <= scheduler.now, "{}: it has ended without telling", self.name)
        else:
            self._check_state()
            scheduler.require(deadline <= self._earliest(), "{}: it wants to sleep past a deadline", self.name)
            is_waiting = self._connection.state is not State.DRAINING or self._owed()
            scheduler.require(bool(is_waiting), "{}: it drains, and nothing is owed", self.name)

    def _check_end(self, event: ConnectionClosed) -> None:
        scheduler, self.ended = self.scheduler, event.cause
        scheduler.engines -= 1
        self._fault = None if event.error is None else event.error.fault
        fault = "" if self._fault is None else f" ({self._fault.value})"
        scheduler.note(f"{self.name} ended: {event.cause.value}{fault}")
        scheduler.counters[f"{event.cause.value}{fault}"] += 1
        scheduler.require(not self._owed(), "{}: it ended, and {} have no fate", self.name, self._owed())
        is_fault = event.cause in CAUSES.values() or self._fault is not None
        if event.cause in GRACEFUL:
            fits = self._fault in self._may_have
        else:
            fits = CAUSES[self._fault] is event.cause if self._fault is not None else not is_fault
        scheduler.require(fits, "{}: the cause is {} and the fault {}", self.name, event.cause, self._fault)
        scheduler.require(self.link.is_foul or not is_fault, "{}: a fault that nobody committed", self.name)
        called = event.cause is not Cause.GO_AWAY or self._may_call_last()
        scheduler.require(called, "{}: it goes away without a reason", self.name)
        self._check_giving_up(event.cause)
        rested = self._rests_since is not None and self._may_idle_until(self._rests_since)[0] <= scheduler.now
        scheduler.require(event.cause is not Cause.IDLE or rested, "{}: idle before its time", self.name)
        waited = event.cause is not Cause.CLOSE_TIMEOUT or self._ends_by <= scheduler.now
        scheduler.require(waited, "{}: a graceful close is cut short", self.name)
        flooded = self._fault is not Fault.TOO_MANY_UNSOLICITED or self._unsolicited > self._max_unsolicited
        scheduler.require(
            flooded, "{}: it reports too many unsolicited messages, after {}", self.name, self._unsolicited
        )

    def _check_giving_up(self, cause: Cause) -> None:
        """A peer that does not answer is given up for a reason; servers have none."""
        is_given_up = cause in (Cause.EXHAUSTED, Cause.KEY_LIMIT, Cause.PEER_SILENT)
        self.scheduler.require(not is_given_up, "{}: it gives its client up: {}", self.name, cause)

    @abstractmethod
    def _may_idle_until(self, since: float) -> tuple[float, float]:
        """Not before the first time, and not after the second, an idle connection is closed."""

    def _ends_within(self, seconds: float) -> None:
        """A graceful close has begun, or its wait is shortened."""
        self._ends_by = min(self._ends_by, self.scheduler.now + seconds)

    def _reported(self, got: bytes, sent: bytes, behind_id: int = 0) -> None:
        """A message was reported: it must be the next one that was sent, octet for octet."""
        same = got[behind_id:] == sent[behind_id:]
        self.scheduler.require(same, "{}: {} was sent, and {} is reported", self.name, sent.hex(), got.hex())
        self._messages += 1
        self._unreported -= 2 + len(got)

    def _count_unsolicited(self) -> None:
        """One more message is unsolicited.  Their number in a row has a limit."""
        self._unsolicited += 1
        endured = self._unsolicited <= self._max_unsolicited + 1
        self.scheduler.require(endured, "{}: {} unsolicited messages in a row", self.name, self._unsolicited)

    def _received(self, octets: bytes, sent: Sized, events: list[Event]) -> list[Event]:
        """Octets were received: whole messages were reported, and what can be no message has ended it."""
        self.checked(events)
        is_bad = self._heard.ends_badly and self._messages == len(sent) and self._unreported >= 2
        self.scheduler.require(not (is_bad and self._hears()), "{}: a bad frame does not end it", self.name)
        return events

    def _check_weight(self) -> None:
        allowed = min(max(self._unreported, 0), MAX_INCOMPLETE) + OVERHEAD + self._allowed_weight()
        weight = weight_of(self._connection)
        self.scheduler.require(weight <= allowed, "{}: it holds {} octets of {}", self.name, weight, allowed)


def before_opt(message: bytes, layout: Layout) -> bytes:
    """What stands between the header and OPT, which padding and keepalive must leave as it is."""
    return message[HEADER.size : len(message) if layout.opt is None else layout.opt[0]]


def other_options(layout: Layout) -> list[tuple[int, bytes]]:
    """The options but for padding and keepalive, which are the engine's to add and to replace."""
    return [option for option in layout.options if option[0] not in (OPTION_PADDING, OPTION_KEEPALIVE)]


def weight_of(thing: object) -> int:
    """Octets and entries in whatever a connection fills: buffers, queues and tables, private ones included.

    What is looked at is every attribute of the connection, and of whatever of ours it is made of.
    """
    kind = type(thing)
    if kind in _PLAIN:
        return 0
    if isinstance(thing, (bytes, bytearray)):
        return len(thing)
    if isinstance(thing, dict):
        return len(thing) + sum(map(weight_of, thing.values()))
    if isinstance(thing, (list, tuple, set, deque)):
        return len(thing) + sum(weight_of(each) for each in thing if type(each) is not int)
    if not kind.__module__.startswith("dot_proto.") or isinstance(thing, _SAID_ELSEWHERE):
        return 0
    slots = [getattr(thing, name) for each in kind.__mro__ for name in getattr(each, "__slots__", ())]
    return sum(map(weight_of, [*slots, *getattr(thing, "__dict__", {}).values()]))
