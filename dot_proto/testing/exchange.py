"""Two sessions, two drivers that keep a driver's duties and do nothing else, and TCP between them without a socket.

A driver has four duties.  After any call it sends what ``data_to_send()`` returns.  Then it waits for octets, or for
``next_timeout()``.  It tells the session what came.  It stops when the session ``is_finished``.  A session is TLS and
an engine, with the verbs of :class:`Session`.  Time is a number.

A :class:`Plan` says what happens on top of that: who ends the connection, how, and at which moment.
:class:`Exchange` plays it, and raises :class:`AssertionError` where one of these laws is broken:

- No verb raises.
- Each query has one fate: answered, timed out, cancelled, or lost.
- Each side hears one :class:`~dot_proto.ConnectionClosed`, and nothing after it.
- Both sides finish.  Where one waits, it waits for the other or for its own clock, and never for nothing.
- After ``handle_timeout(now)`` the next deadline is later than ``now``: no driver runs in circles.
- Where the end has been told and all was sent, the session is finished, or has a deadline that is still to come.
- Where TCP has gone and the end has been told, the session is finished: nobody is left to wait for.
- ``is_finished`` is not true while there is something to send, and stays true once it is.
- A verb called without need changes nothing.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ..events import ConnectionClosed, Event, QueryLost, QueryReceived, QueryTimedOut, ResponseReceived
from ..query import make_query
from .messages import response_to

START: Final = 1000.0
"Seconds on the clock at the beginning; away from 0, so that no deadline agrees by accident."

LIMIT: Final = 1000
"Turns after which an exchange is said to have no end; one of a few queries takes about twenty."


class Session(Protocol):
    """What a driver needs of a session, and ``connection``, the engine inside it, which takes the commands."""

    @property
    def connection(self) -> Any:
        """With the commands of :class:`~dot_proto.ClientConnection` or :class:`~dot_proto.ServerConnection`."""

    @property
    @abstractmethod
    def is_finished(self) -> bool:
        """Whether everything was told and all was handed out: the driver closes TCP, and stops."""

    @abstractmethod
    def data_to_send(self) -> list[bytes]:
        """Octets for TCP, in order."""

    @abstractmethod
    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        """Octets have come from TCP."""

    @abstractmethod
    def receive_eof(self, *, now: float) -> list[Event]:
        """The peer has closed TCP."""

    @abstractmethod
    def fail(self, explanation: str, *, now: float) -> list[Event]:
        """TCP has failed."""

    @abstractmethod
    def abort(self, *, now: float) -> list[Event]:
        """This side gives up TCP."""

    @abstractmethod
    def next_timeout(self) -> float | None:
        """When to call :meth:`handle_timeout`."""

    @abstractmethod
    def handle_timeout(self, *, now: float) -> list[Event]:
        """Act on what is due."""


Pair = tuple[Session, Session]
"A client's session and a server's, which are to be joined."


@dataclass(frozen=True)
class End:
    """One way in which a connection may end, or be harmed."""

    name: str
    happen: Callable[[Endpoint], None]
    "Does it, to one side."
    is_harm: bool = True
    "Whether an error is a true report of it: false for what either side may do in order."

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Action:
    """An end, at a moment."""

    end: End
    at_server: bool
    "Which side it happens to."
    turn: int
    "How many turns have passed by then: deliveries of all that is on its way to one side, and jumps of the clock."
    octets: int = 0
    "How many octets of that turn's delivery have arrived by then."


@dataclass(frozen=True)
class Plan:
    """What is asked and answered, how octets travel, and what happens to the connection."""

    actions: tuple[Action, ...] = ()
    asks: tuple[int, ...] = (0, 0, 0)
    "A query is asked at each of these turns, if the client takes any by then."
    answered: int = 1
    "How many queries the server answers at once; the others when nothing else happens any more."
    size: int | None = None
    "Octets of one read; ``None``: all there are."
    server_first: bool = False
    "Which side's driver is the first to read, where both have something to read."
    asks_first: bool = False
    "Whether drivers look at ``is_finished`` before they send, too."
    prompt: bool = True
    "Whether a deadline that has come is acted on before the next read, rather than after all reads."
    resets: bool = False
    "Whether TCP is reset, and what was on its way is lost, where octets arrive at a side that has closed."
    needless: bool = False
    "Whether verbs are called without need, after every call."


class Endpoint:
    """One side: its session, the driver that keeps its duties, and what the application has heard."""

    def __init__(self, name: str, session: Session, exchange: Exchange) -> None:
        self.name = name
        self.session = session
        self.exchange = exchange
        self.other: Endpoint
        self.incoming: bytes = b""
        "Octets on their way to it."
        self.tcp_end = ""
        "The verb by which it is to hear of TCP's end, once what is on its way has arrived; empty: TCP goes on."
        self.is_damaged = False
        "Whether the next octet that arrives is another than was sent."
        self.is_gone: bool = False
        "Whether TCP has ended, for this side's reading at least."
        self.is_closed: bool = False
        "Whether the driver has stopped, and has closed TCP."
        self.events: list[Event] = []
        self.pending: set[int] = set()
        "Queries asked that have met no fate."
        self.unanswered: list[QueryReceived] = []
        self.closed: ConnectionClosed | None = None
        self._called_at = START

    def call(self, verb: str, *arguments: object) -> None:
        """Call a verb, hear what it returns, and keep the duties that follow."""
        self._call(verb, *arguments)
        self.drive()

    def command(self, name: str, *arguments: object, **named: object) -> Any:
        """Give the engine a command, past the session; raises :class:`~dot_proto.LocalProtocolError` as that does."""
        self.exchange.trace.append(f"{self.name}.connection.{name}{_shown(arguments)}")
        result = getattr(self.session.connection, name)(*arguments, now=self.exchange.now, **named)
        self.drive()
        return result

    def drive(self) -> None:
        """Send what there is to send, stop if all is over, and act on what is due at once."""
        if self.is_closed:
            return
        self._send()
        while self.exchange.plan.prompt and not self.is_closed and self.is_due():
            self.wake()
        if not self.is_closed and self.closed is not None:
            at = self.session.next_timeout()
            is_waiting = at is not None and at > self._called_at
            self.require(is_waiting, "has told the end, is not finished, and has nothing to wait for")
            self.require(not self.is_gone, "has told the end, and waits for a peer that has gone")
        if self.exchange.plan.needless and (self.is_closed or not self.is_due()):
            self._call_needlessly()

    def wake(self) -> None:
        """Call ``handle_timeout()``."""
        self._call("handle_timeout")
        self.require(not self.is_due(), "was woken, and asks to be woken at once: a busy loop")
        self._send()

    def is_due(self) -> bool:
        """Whether ``next_timeout()`` has come."""
        at = self.session.next_timeout()
        return at is not None and at <= self.exchange.now

    def lose_tcp(self) -> None:
        """Nothing arrives any more."""
        self.incoming, self.is_gone = b"", True

    def require(self, holds: bool, complaint: str) -> None:
        """Raise :class:`AssertionError` unless the law holds."""
        if not holds:
            raise AssertionError(f"the {self.name} {complaint} (turn {self.exchange.turn}, {self.exchange.now} s)")

    def finish(self) -> None:
        """The exchange is over: what must be so by now, and what a finished session does when it is called."""
        self.require(self.closed is not None, "is finished, and no ConnectionClosed was told")
        self.require(not self.pending, f"is finished, and queries {sorted(self.pending)} have met no fate")
        self.exchange.now += 3600.0
        self._call_needlessly()

    def _call(self, verb: str, *arguments: object) -> None:
        exchange = self.exchange
        self._called_at = exchange.now
        events: list[Event] = self._invoke(verb, *arguments, now=exchange.now)
        exchange.trace.append(f"{exchange.now}: {self.name}.{verb}{_shown(arguments)} -> {_told(events)}")
        for event in events:
            self._hear(event)

    def _invoke(self, verb: str, *arguments: object, **named: object) -> Any:
        try:
            return getattr(self.session, verb)(*arguments, **named)
        except Exception as error:
            raise AssertionError(f"the {self.name}'s {verb} raises {error!r}") from error

    def _hear(self, event: Event) -> None:
        self.require(self.closed is None, f"is told {_told([event])} after its ConnectionClosed")
        self.events.append(event)
        if isinstance(event, QueryReceived):
            self.unanswered.append(event)
        elif isinstance(event, ConnectionClosed):
            self.closed = event
            self.unanswered.clear()
        elif isinstance(event, QueryLost | QueryTimedOut | ResponseReceived):
            self.require(event.query in self.pending, f"is told {_told([event])} of no pending query")
            self.pending.remove(event.query)

    def _send(self) -> None:
        session = self.session
        was_finished = self.exchange.plan.asks_first and session.is_finished
        octets = b"".join(self._invoke("data_to_send"))
        self.require(not (was_finished and octets), "is finished, and has octets to send")
        if octets:
            self.exchange.trace.append(f"{self.name} sends {len(octets)} octets")
            self.exchange.carry(octets, self.other)
        if session.is_finished:
            self.is_closed = True
            self.other.tcp_end = self.other.tcp_end or "receive_eof"
            if self.incoming:
                self.exchange.carry(self.incoming, self)
        else:
            self.require(not was_finished, "was finished, and is not any more")

    def _call_needlessly(self) -> None:
        """Each verb that has nothing to tell the session."""
        session = self.session
        before = session.is_finished, session.next_timeout()
        self.require(not self.is_closed or before == (True, None), f"has finished, and says {before}")
        verbs: list[tuple[str, tuple[object, ...]]] = [("handle_timeout", ()), ("receive_data", (b"",))]
        if self.is_gone or self.is_closed:
            verbs.append(("receive_eof", ()))
        if self.is_closed:
            verbs += [("receive_data", (b"late",)), ("fail", ("late",)), ("abort", ())]
        for verb, arguments in verbs:
            heard = len(self.events)
            self._call(verb, *arguments)
            self.require(len(self.events) == heard, f"tells something when {verb} is called without need")
            self.require(not self._invoke("data_to_send"), f"sends something when {verb} is called without need")
            after = session.is_finished, session.next_timeout()
            self.require(after == before, f"says {after}, and said {before} before {verb} was called without need")


class Exchange:
    """One pair of sessions under one plan; :meth:`play` raises :class:`AssertionError` where the law is broken."""

    def __init__(self, pair: Pair, plan: Plan) -> None:
        self.plan = plan
        self.now: float = START
        self.turn: int = 0
        self.is_silent = False
        "Whether TCP delivers nothing any more, and does not say so."
        self.trace: list[str] = []
        "Every call, for whoever looks for the reason."
        self.client: Endpoint = Endpoint("client", pair[0], self)
        self.server: Endpoint = Endpoint("server", pair[1], self)
        self.client.other, self.server.other = self.server, self.client
        self._actions = sorted(plan.actions, key=lambda action: (action.turn, action.octets))
        self._to_answer = plan.answered

    def play(self) -> Exchange:
        """From the first octet until both drivers have stopped."""
        try:
            self._play()
        except AssertionError as error:
            error.add_note("\n".join([f"{self.plan}", *self.trace]))
            raise
        return self

    def wake(self) -> bool:
        """Let time pass until the next deadline, and wake whoever is due; says whether there is one."""
        sides = [side for side in (self.client, self.server) if not side.is_closed]
        times = [at for side in sides if (at := side.session.next_timeout()) is not None]
        if times:
            self.now = max(self.now, min(times))
            for side in sides:
                if side.is_due():
                    side.wake()
                    side.drive()
        return bool(times)

    def carry(self, octets: bytes, to: Endpoint) -> None:
        """Put octets on their way."""
        if to.is_closed:
            if self.plan.resets and to.other.tcp_end != "fail":
                to.other.incoming, to.other.tcp_end, to.other.is_gone = b"", "fail", False
        elif not (to.is_gone or to.tcp_end or self.is_silent):
            to.incoming += octets

    def _play(self) -> None:
        self.client.drive()
        self.server.drive()
        while not (self.client.is_closed and self.server.is_closed):
            for _ in range(self.plan.asks.count(self.turn)):
                self._ask()
            self._act(0)
            if not (self.client.is_closed and self.server.is_closed):
                self._take_turn()
            self.turn += 1
            if self.turn > LIMIT:
                raise AssertionError(f"there is no end after {LIMIT} turns")
        self.client.finish()
        self.server.finish()

    def _take_turn(self) -> None:
        order = (self.server, self.client) if self.plan.server_first else (self.client, self.server)
        for side in order:
            if side.incoming and not side.is_closed:
                self._deliver(side)
                return
        for side in order:
            if side.tcp_end and not (side.is_gone or side.is_closed or self.is_silent):
                self._end_tcp(side)
                return
        if self.server.unanswered:
            self._answer()
        elif not self.wake():
            raise AssertionError("nothing is on its way, and no side that is left has a deadline: they wait for ever")

    def _deliver(self, side: Endpoint) -> None:
        """All that is on its way to this side, in reads that end where an action is planned."""
        left, done = len(side.incoming), 0
        while left > 0 and side.incoming and not side.is_closed:
            moments = [action.octets - done for action in self._actions[:1] if action.turn == self.turn]
            size = min(left, self.plan.size or left, *(moment for moment in moments if moment > 0))
            octets, side.incoming = side.incoming[:size], side.incoming[size:]
            left, done = left - size, done + size
            if side.is_damaged:
                side.is_damaged = False
                octets = octets[:-1] + bytes([octets[-1] ^ 1])
            side.call("receive_data", octets)
            while self._to_answer and self.server.unanswered:
                self._to_answer -= 1
                self._answer()
            self._act(done)

    def _end_tcp(self, side: Endpoint) -> None:
        side.is_gone = True
        side.call(side.tcp_end, *(["Connection reset by peer"] if side.tcp_end == "fail" else []))

    def _act(self, octets: int) -> None:
        while self._actions and (self._actions[0].turn, self._actions[0].octets) <= (self.turn, octets):
            action = self._actions.pop(0)
            side = self.server if action.at_server else self.client
            if not side.is_closed:
                self.trace.append(f"{self.now}: {action.end} at the {side.name}")
                action.end.happen(side)
                side.drive()

    def _ask(self) -> None:
        if self.client.closed is None and self.client.session.connection.accepts_queries:
            query = make_query(f"{len(self.client.pending)}.example")
            self.client.pending.add(self.client.session.connection.send_query(query, now=self.now))
            self.client.drive()

    def _answer(self) -> None:
        query = self.server.unanswered.pop(0)
        self.server.command("send_response", query.query, response_to(query.message))


def _shown(arguments: tuple[object, ...]) -> str:
    """Arguments for a trace: how many octets, rather than which."""
    shown = [f"{len(one)} octets" if isinstance(one, bytes) else repr(one) for one in arguments]
    return f"({', '.join(shown)})"


def _told(events: list[Event]) -> list[str]:
    """Events for a trace: of which query, and how the end came."""
    return [f"{type(event).__name__}({getattr(event, 'query', '')}{getattr(event, 'cause', '')})" for event in events]
