"""What both roles share: the state, the framer, the timers, and how a connection ends.

Commands only queue.  Where one of them brings something to report (a close with nothing left to wait for),
the events wait, and ``next_timeout()`` says "now": the driver's next call delivers them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NoReturn

from ._framing import Deframer
from ._state import TRANSITIONS, Cause, State, Step
from ._timers import Slot, Timers
from .arguments import check_instance, check_time
from .errors import Fault, RemoteProtocolError
from .events import ConnectionClosed, Event


class Connection(ABC):
    """The common part of :class:`~dot_proto.ClientConnection` and :class:`~dot_proto.ServerConnection`."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._deframer = Deframer()
        self._timers = Timers()
        self._undelivered: list[Event] = []
        self._undelivered_since = math.inf
        self._draining_for: Cause | None = None
        self._peer_error: RemoteProtocolError | None = None  # how the peer began a graceful close, if not in order

    def __reduce__(self) -> NoReturn:
        """Neither pickled nor copied: the ids and the octets on the wire exist once."""
        raise TypeError(
            f"a {type(self).__name__} can be neither pickled nor copied, since there is one peer and one stream: "
            "pass on its configuration, policy and events instead"
        )

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return self._state

    @property
    def closing_for(self) -> Cause | None:
        """Why a graceful close was begun; ``None`` where there was none (then see the terminal event)."""
        return self._draining_for

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is to be called, on the caller's clock in seconds; ``None``: never.

        A time that has passed means: at once.  It may be a little early (the query that it was for has been
        answered meanwhile), never late.
        """
        deadline = min(self._timers.earliest(), self._undelivered_since, self._next_query_deadline())
        return None if deadline == math.inf else deadline

    def handle_timeout(self, *, now: float) -> list[Event]:
        """Act on the deadlines that have come; does nothing when there are none."""
        check_time("now", now)
        events = self._delivered()
        if not self._has_ended():
            self._expire_queries(now, events)
            if self._timers.earliest() <= now:
                for slot in Slot:  # what a slot's ringing arms or disarms is behind it in this order
                    if self._timers.is_due(slot, now):
                        self._timers.stop(slot)
                        self._ring(slot, now, events)
        return events

    def fail(self, error: RemoteProtocolError, *, now: float) -> list[Event]:
        """TLS or the transport has failed: every query gets its fate, and the connection is closed."""
        check_instance("error", error, RemoteProtocolError, "RemoteProtocolError(text, Fault.TLS) is one")
        check_time("now", now)
        events = self._delivered()
        if not self._has_ended():
            self._end(Step.TRANSPORT_FAILED, error, events)
        return events

    @abstractmethod
    def _next_query_deadline(self) -> float:
        """The earliest deadline of a query, or infinity."""

    @abstractmethod
    def _expire_queries(self, now: float, events: list[Event]) -> None:
        """Give the queries their fate whose own deadline has come."""

    @abstractmethod
    def _ring(self, slot: Slot, now: float, events: list[Event]) -> None:
        """A slot's time has come; it is armed no more."""

    @abstractmethod
    def _nothing_owed(self) -> bool:
        """Whether a graceful close has nothing to wait for."""

    @abstractmethod
    def _lose_queries(self, step: Step, events: list[Event]) -> None:
        """The connection has ended: give every query that has none its fate."""

    def _delivered(self) -> list[Event]:
        """The events that commands have left, now that a verb delivers them; the start of every verb's list."""
        events, self._undelivered = self._undelivered, []
        self._undelivered_since = math.inf
        return events

    def _has_ended(self) -> bool:
        return self._state is State.CLOSED

    def _move(self, step: Step) -> None:
        self._state = TRANSITIONS[self._state, step]

    def _drain(self, step: Step, deadline: float) -> None:
        """No new queries from here on; the end will be put down to the first cause that asked for it."""
        self._move(step)
        self._draining_for = self._draining_for or Cause(step.value)
        self._timers.stop(Slot.IDLE)
        self._timers.stop(Slot.OVERDUE)
        self._timers.set(Slot.CLOSE, min(deadline, self._timers.deadline(Slot.CLOSE)))

    @abstractmethod
    def _restart_idle_timer(self, now: float) -> None:
        """Where nothing is outstanding, the connection rests from ``now``."""

    def _after_fate(self, now: float, events: list[Event]) -> None:
        """A query has met its fate.  What that leads to is decided here alone, and in this order.

        First the idle timer, which runs while nothing is outstanding.  Then the end, where this was the last thing
        that a graceful close has waited for; it stops the timer again.
        """
        self._restart_idle_timer(now)
        self._end_if_drained(events)

    def _after_command(self, now: float) -> None:
        """A command may have left nothing to wait for: then the next verb, which is due now, delivers the end."""
        self._end_if_drained(self._undelivered)
        if self._undelivered:
            self._undelivered_since = now

    def _end_if_drained(self, events: list[Event]) -> None:
        if self._state is State.DRAINING and self._nothing_owed():
            self._end(Step.DRAINED, None, events)

    def _end(self, step: Step, error: RemoteProtocolError | None, events: list[Event]) -> None:
        self._move(step)
        self._lose_queries(step, events)
        self._timers.clear()
        if step is Step.DRAINED:
            assert self._draining_for is not None, "only a graceful close drains"
            cause = self._draining_for
        else:
            cause = Cause(step.value)
        events.append(ConnectionClosed(cause, error or self._peer_error))

    def _end_of_stream_error(self, orderly: bool) -> RemoteProtocolError | None:
        """What the end of the stream, right here, says about the peer (RFC 8446, section 6.1)."""
        if self._deframer.mid_message:
            return RemoteProtocolError("the stream ended inside a message", Fault.TRUNCATED)
        if not orderly:
            return RemoteProtocolError("the peer closed TCP without TLS close_notify", Fault.NO_CLOSE_NOTIFY)
        return None

    def _end_of_bad_frame(self, events: list[Event]) -> None:
        error = RemoteProtocolError("a length prefix below 12, the size of a DNS header", Fault.SHORT_FRAME)
        self._end(Step.PEER_FAULT, error, events)

    def _end_of_unsolicited(self, limit: int, events: list[Event]) -> None:
        text = f"more than {limit} messages in a row that belong to nothing"
        error = RemoteProtocolError(text, Fault.TOO_MANY_UNSOLICITED)
        self._end(Step.PEER_FAULT, error, events)
