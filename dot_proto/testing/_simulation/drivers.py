"""Drivers: what a backend does for an engine, on virtual lines and by a virtual clock.

The whole duty of a driver: after any call send what is to be sent; then wait for octets or for the deadline.  One that
is sluggish looks at its deadlines late; one that is restless looks when nothing is due.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ... import Cause, Event, Evidence, Fault, QueryLost, QueryReceived, ResponseReceived, State
from .checked import CheckedConnection
from .clients import CheckedClient
from .network import End, Pipe
from .servers import CheckedServer

HANDSHAKE_TIME: Final = 10.0
"Seconds that a driver gives the handshake; whatever it waits for then has its fate."


@dataclass(frozen=True, slots=True)
class DriverOptions:
    """How a driver goes about its work."""

    lag: float = 0.0
    "Seconds by which it looks at its deadlines too late."
    is_restless: bool = False
    "Whether it often calls ``handle_timeout`` when nothing is due."
    joins: bool = True
    "Whether all that is to be sent goes out in one write."


class Driver(ABC):
    """One engine at one end of a link."""

    def __init__(self, connection: CheckedConnection, out: Pipe, come_in: Pipe, options: DriverOptions) -> None:
        self.scheduler: Final = connection.scheduler
        self.connection: Final = connection
        self._out = out
        self._in = come_in
        self._options = options
        self._wakes_at = math.inf
        self._has_left = False
        come_in.receive = self._arrive

    @abstractmethod
    def _drain(self) -> list[bytes]:
        """What the engine has to send."""

    @abstractmethod
    def _receive(self, octets: bytes) -> list[Event]:
        """Octets have arrived."""

    @abstractmethod
    def _handle(self, events: list[Event]) -> None:
        """What the program makes of the events."""

    def settle(self, events: list[Event] | None = None) -> None:
        """After any call: hand its events to the program, send what is to be sent, and set the alarm."""
        if events:
            self._handle(events)
        self._send(self._drain())
        while self.connection.is_due and not self._options.lag:
            self._handle(self.connection.tick())
            self._send(self._drain())
        if self._options.is_restless and self.scheduler.chance(0.5):
            self.connection.nudge()
        if self.connection.ended is None:
            self._set_alarm()
        elif not self._has_left:
            self._has_left = True
            self._out.send(End.ABRUPT if self.connection.ended is Cause.TRANSPORT_FAILED else End.ORDERLY)

    def _send(self, chunks: list[bytes]) -> None:
        for chunk in [b"".join(chunks)] if self._options.joins and chunks else chunks:
            self._out.send(chunk)

    def _set_alarm(self) -> None:
        deadline = self.connection.deadline + self._options.lag
        if deadline < self._wakes_at and deadline < math.inf:
            self._wakes_at = deadline
            self.scheduler.call_at(deadline, self._wake)

    def _wake(self) -> None:
        self._wakes_at = math.inf
        self.settle(self.connection.tick() if self.connection.is_due else None)

    def _arrive(self, item: bytes | End) -> None:
        match item:
            case bytes():
                events = self._receive(item)
            case End.RESET:
                events = self.connection.fail("reset", Fault.RESET)
            case _:
                events = self.connection.receive_end(orderly=item is End.ORDERLY)
        self.settle(events)


class ClientDriver(Driver):
    """A client at its end of a link; ``answered`` is called for each answer, ``lost`` for each query lost."""

    def __init__(self, connection: CheckedClient, evidence: Evidence, options: DriverOptions) -> None:
        super().__init__(connection, connection.link.up, connection.link.down, options)
        self.client: Final = connection
        self.answered: Callable[[ResponseReceived], None] = _ignore
        self.lost: Callable[[QueryLost], None] = _ignore
        self._evidence = evidence
        self.scheduler.call_later(HANDSHAKE_TIME, self._give_up)
        self.settle()

    @property
    def is_open(self) -> bool:
        """Whether the engine says that it takes queries."""
        return self.client.client.is_open

    def verify(self) -> None:
        """The handshake is over; an engine that has ended meanwhile takes no notice."""
        self.settle(self.client.verify(self._evidence))

    def fail(self, text: str) -> None:
        """There is no connection, or no TLS."""
        self.connection.link.is_foul = True
        self.settle(self.connection.fail(text, Fault.TLS))

    def _give_up(self) -> None:
        if self.client.client.state is State.UNVERIFIED:
            self.fail("handshake timed out")

    def _drain(self) -> list[bytes]:
        return self.client.drain()

    def _receive(self, octets: bytes) -> list[Event]:
        return self.client.receive(octets)

    def _handle(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case ResponseReceived():
                    self.answered(event)
                case QueryLost():
                    self.lost(event)
                case _:
                    pass


class ServerDriver(Driver):
    """A server at its end of a link; ``asked`` is called for each query."""

    def __init__(
        self, connection: CheckedServer, options: DriverOptions, asked: Callable[[ServerDriver, QueryReceived], None]
    ) -> None:
        super().__init__(connection, connection.link.down, connection.link.up, options)
        self.server: Final = connection
        self._asked = asked
        self._has_begun = False
        self._out.has_room = self.settle
        self.scheduler.call_later(HANDSHAKE_TIME, self._give_up)

    def begin(self) -> None:
        """The handshake is over."""
        self._has_begun = True
        self.server.begin()
        self.settle()

    def settle(self, events: list[Event] | None = None) -> None:
        """As every driver; besides, a client that asks too much, or reads too little, is not read from."""
        super().settle(events)
        server = self.server.server
        is_behind = self._out.is_full or not server.wants_data
        self._in.pause(server.state is State.OPEN and is_behind)

    def _give_up(self) -> None:
        if not self._has_begun and self.connection.ended is None:
            self.connection.link.is_foul = True
            self.settle(self.connection.fail("handshake timed out", Fault.TLS))

    def _drain(self) -> list[bytes]:
        return self.server.drain()

    def _receive(self, octets: bytes) -> list[Event]:
        return self.server.receive(octets)

    def _handle(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, QueryReceived):
                self._asked(self, event)


def _ignore(event: object) -> None:
    """Nobody asked to be told."""
