"""What the machines for both roles share: a connection, the model that foretells it, a clock, and a recording."""

from __future__ import annotations

import math
import sys
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, ParamSpec, Protocol, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from .._state import Cause, State
from ..errors import Fault, LocalProtocolError, RemoteProtocolError
from ..events import ConnectionClosed, Event
from .recording import Recording, described

P = ParamSpec("P")
T = TypeVar("T")

ENDS = {"reset": b"", "eof": b"", "bad length": b"\0\x0b", "in a length": b"\0", "in a message": b"\0\x20" + bytes(31)}
"How a connection ends from outside, and the last octets that come."

WORN = 4
"Events before a connection may be ended from outside: most should live long enough to come to something."


def pick(choices: Sequence[T], which: int) -> T:
    """One of them, counted round."""
    return choices[which % len(choices)]


def error_of(fault: Fault | None) -> RemoteProtocolError | None:
    """An error with this code; its words are not compared."""
    return None if fault is None else RemoteProtocolError("foretold", fault)


@dataclass
class Model:
    """What both roles owe, said as simply as can be; each method returns the events that are due."""

    state: State
    waiting: list[Event] = field(default_factory=list[Event])
    "What commands have brought, for the next verb to deliver."
    closing_for: Cause | None = None
    "The first reason for a graceful close."
    fault: Fault | None = None
    "What was wrong with how the peer finished; the end tells it."
    idle_at: float = math.inf
    close_at: float = math.inf

    @abstractmethod
    def is_owed(self) -> bool:
        """Whether a graceful close has something to wait for."""

    @abstractmethod
    def deadlines(self) -> list[float]:
        """When something is due, the idle time and the end of a graceful close left out."""

    @abstractmethod
    def forget(self, cause: Cause) -> list[Event]:
        """The connection ends; what becomes of what was owed."""

    @abstractmethod
    def tick(self, now: float) -> list[Event]:
        """The driver looks at the clock."""

    @abstractmethod
    def eof(self, orderly: bool, now: float) -> list[Event]:
        """The stream ends between two messages."""

    @abstractmethod
    def bad_frame(self) -> list[Event]:
        """A length comes that no message has."""

    @abstractmethod
    def cut_off(self, orderly: bool, now: float) -> list[Event]:
        """The stream ends inside a message."""

    def break_off(self) -> list[Event]:
        """TLS or TCP fails."""
        return self.end(Cause.TRANSPORT_FAILED, Fault.RESET)

    @property
    def has_ended(self) -> bool:
        """Whether all is over, told or not."""
        return self.state is State.CLOSED

    def deadline(self) -> float:
        """When the driver must call at the latest; infinity: never."""
        return -math.inf if self.waiting else min([*self.deadlines(), self.idle_at, self.close_at])

    def delivered(self) -> list[Event]:
        """What commands have left; it comes before all else."""
        waiting, self.waiting = self.waiting, []
        return waiting

    def drain(self, cause: Cause, deadline: float) -> None:
        """A graceful close begins, or another reason for it comes."""
        self.state = State.DRAINING
        self.closing_for = self.closing_for or cause
        self.idle_at = math.inf
        self.close_at = min(self.close_at, deadline)

    def drained(self) -> list[Event]:
        """A graceful close is over as soon as nothing is owed."""
        if self.state is State.DRAINING and not self.is_owed():
            assert self.closing_for is not None
            return self.end(self.closing_for)
        return []

    def end(self, cause: Cause, fault: Fault | None = None) -> list[Event]:
        """The terminal event; nothing if it was there already."""
        if self.has_ended:
            return []
        self.state = State.CLOSED
        self.idle_at = self.close_at = math.inf
        return [*self.forget(cause), ConnectionClosed(cause=cause, error=error_of(fault or self.fault))]


class Verbs(Protocol):
    """The five verbs, and what can be seen of either role."""

    @property
    @abstractmethod
    def state(self) -> State:
        """Where the connection stands."""

    @property
    @abstractmethod
    def closing_for(self) -> Cause | None:
        """Why a graceful close was begun."""

    @abstractmethod
    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        """Octets from the peer."""

    @abstractmethod
    def receive_eof(self, *, now: float, orderly: bool = True) -> list[Event]:
        """The peer will send no more."""

    @abstractmethod
    def data_to_send(self) -> list[bytes]:
        """Framed messages."""

    @abstractmethod
    def next_timeout(self) -> float | None:
        """When to call :meth:`handle_timeout`."""

    @abstractmethod
    def handle_timeout(self, *, now: float) -> list[Event]:
        """Act on what is due."""

    @abstractmethod
    def fail(self, error: RemoteProtocolError, *, now: float) -> list[Event]:
        """The transport broke."""


ConnectionT = TypeVar("ConnectionT", bound=Verbs)
ModelT = TypeVar("ModelT", bound=Model)


class ConnectionMachine(RuleBasedStateMachine, Generic[ConnectionT, ModelT]):
    """Time, and every way in which a connection ends; what is particular to a role is in its subclass.

    All that a rule needs are plain values, so that the steps that Hypothesis prints can be pasted and run.  Where a
    law is broken, the :class:`AssertionError` bears the calls that led to it as a note.
    """

    connection: ConnectionT
    model: ModelT
    now: float
    recording: Recording
    events: list[Event]

    def start(self, connection: ConnectionT, model: ModelT) -> None:
        """From here on this connection is played with."""
        self.connection, self.model = connection, model
        self.now = 100.0
        self.recording = Recording()
        self.events = []

    @abstractmethod
    def another(self) -> ConnectionT:
        """A fresh connection, made as :attr:`connection` was."""

    @abstractmethod
    def seen(self) -> tuple[object, ...]:
        """All that can be seen of the connection without changing it."""

    @abstractmethod
    def drain(self) -> None:
        """Compare what leaves with what is due."""

    def takes_octets(self) -> bool:
        """Whether octets may come."""
        return True

    def agree(self, what: str, got: object, due: object) -> None:
        """Raise :class:`AssertionError` unless the connection does what the model says."""
        got, due = described(got), described(due)
        if got != due:
            raise self._complaint(f"{what}: {got!r}; due is {due!r}")

    def call(self, method: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """A call in which the caller makes no mistake; whatever the peer does, it must not raise."""
        try:
            return self.recording.call(method, *args, **kwargs)
        except Exception as error:
            raise self._complaint(f"{method.__name__} raises {error!r}") from error

    def _complaint(self, text: str) -> AssertionError:
        complaint = AssertionError(text)
        complaint.add_note(f"The calls on the connection, and what came of each:\n{self.recording}")
        return complaint

    def check(self, events: Sequence[Event], due: Sequence[Event]) -> None:
        """These are the events that are due."""
        self.agree("events", list(events), list(due))
        self.events += events

    def refused(
        self, expected: type[LocalProtocolError], method: Callable[P, object], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """The call raises, and changes nothing that can be seen; what cannot is found out by the replay."""
        before = self.seen()
        try:
            outcome = self.recording.call(method, *args, **kwargs)
        except expected as error:
            outcome = error
        self.agree("the caller's mistake is told", isinstance(outcome, expected), True)
        self.agree("what can be seen after a mistake", self.seen(), before)

    # Time

    def tick(self) -> None:
        """The driver looks at the clock."""
        due = self.model.delivered()
        due += self.model.tick(self.now)
        self.check(self.call(self.connection.handle_timeout, now=self.now), due)
        deadline = self.connection.next_timeout()
        self.agree("the next deadline is in the future", deadline is None or deadline > self.now, True)

    @rule()
    def sleep(self) -> None:
        """To the next deadline, as a driver does."""
        self.now = max(self.now, self.connection.next_timeout() or self.now)
        self.tick()

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.5, 0.0]), looks=st.booleans())
    def pass_time(self, seconds: float, looks: bool) -> None:
        """The driver looks at the clock, needlessly perhaps, or it is busy elsewhere."""
        self.now += seconds
        if looks:
            self.tick()

    # Ends

    @precondition(lambda self: len(self.events) >= WORN)
    @rule(how=st.sampled_from(["eof", *ENDS]), orderly=st.booleans())
    def end(self, how: str, orderly: bool) -> None:
        """What the network or the peer does to end it all; ``orderly``: with close_notify."""
        connection, now, call = self.connection, self.now, self.call
        due = self.model.delivered()
        events: list[Event] = []
        match how:
            case "reset":
                events += call(connection.fail, RemoteProtocolError("reset", Fault.RESET), now=now)
                due += self.model.break_off()
            case "eof":
                events += call(connection.receive_eof, now=now, orderly=orderly)
                due += self.model.eof(orderly, now)
            case _ if not self.takes_octets():
                events += call(connection.handle_timeout, now=now)
                due += self.model.tick(now)
            case "bad length":
                events += call(connection.receive_data, ENDS[how], now=now)
                due += self.model.bad_frame()
            case _:
                events += call(connection.receive_data, ENDS[how], now=now)
                events += call(connection.receive_eof, now=now, orderly=orderly)
                due += self.model.cut_off(orderly, now)
        self.check(events, due)

    # Laws

    @invariant()
    def what_can_be_seen_is_as_foretold(self) -> None:
        """The states are the model's."""
        self.agree("state", self.connection.state, self.model.state)
        self.agree("closing_for", self.connection.closing_for, self.model.closing_for)

    @invariant()
    def the_next_timeout_is_never_late(self) -> None:
        """Nor missing, nor there without anything to wait for; it may be early."""
        deadline, due = self.connection.next_timeout(), self.model.deadline()
        self.agree("whether there is a deadline", deadline is not None, due < math.inf)
        self.agree(f"{deadline} is no later than {due}", (deadline or 0.0) <= max(due, self.now), True)

    @invariant()
    def the_end_is_the_end(self) -> None:
        """One terminal event at the most, and it is the last of all."""
        self.agree("ends before the end", [each for each in self.events[:-1] if isinstance(each, ConnectionClosed)], [])

    def finish(self) -> None:
        """The connection is brought to its end; then the calls are replayed, with their mistakes and without."""
        self.drain()
        self.end("reset", False)
        self.agree("the last event is terminal", isinstance(self.events[-1], ConnectionClosed), True)
        self.drain()
        self.recording.replay(self.another())
        self.recording.replay(self.another(), mistakes=False)

    def teardown(self) -> None:
        """What Hypothesis calls behind the last step; where that broke a law, another would only hide which."""
        if sys.exception() is None:
            self.finish()
