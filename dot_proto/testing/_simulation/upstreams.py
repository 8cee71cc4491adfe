"""Upstreams for the simulated resolver: servers that die, heal, fall silent, are impostors, or close when they like."""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ...errors import Fault, RemoteProtocolError
from ...events import Event, QueryReceived
from ...server import ServerConnection
from .network import Scheduler

PROBE: Final = b"\0"
"The name of a probe: the root."


class Reachability(enum.Enum):
    """What becomes of dialling."""

    ACCEPTS = enum.auto()
    REFUSES = enum.auto()
    "TCP is reset."
    DROPS = enum.auto()
    "Nothing comes back."


class Handshake(enum.Enum):
    """What becomes of TLS."""

    GOOD = enum.auto()
    IMPOSTOR = enum.auto()
    "The certificate is another one."
    STALLS = enum.auto()
    "Nothing comes back: so behaves a stopped process, whose kernel accepts TCP."
    FAILS = enum.auto()
    "It ends by an alert."


@dataclass(slots=True)
class Conduct:
    """How a server behaves just now."""

    reachability: Reachability = Reachability.ACCEPTS
    handshake: Handshake = Handshake.GOOD
    is_mute: bool = False
    "Takes octets and answers nothing, on old connections too."
    closes_after: int | None = None
    "Answers on one connection, after which it is ended."
    closes_badly: bool = False
    "By a reset; in order otherwise."
    slow: float = 0.0
    "The part of the names that take 1 to 4 seconds."
    lost: float = 0.0
    "The part of the queries that are dropped silently."


@dataclass(slots=True)
class Server:
    """One address of an upstream."""

    scheduler: Scheduler
    address: str
    conduct: Conduct = field(default_factory=Conduct)
    peers: list[ServerSide] = field(default_factory=list)
    dials: dict[int, float] = field(default_factory=dict)
    "When it was dialled in vain, by the number of the connection; one that has brought an answer is left out."
    refused_at: float = -math.inf
    "When it was last refused, unless it has been accepted since, or the network is another one."
    seen: Counter[bytes] = field(default_factory=Counter[bytes])
    "The names that it was asked for, on the wire, and how often."

    def kill(self, *, badly: bool) -> None:
        """The process ends: every connection with it."""
        for peer in list(self.peers):
            peer.end(badly=badly)


class ServerSide:
    """The server's end of one TCP connection."""

    def __init__(
        self, server: Server, number: int, deliver: Callable[[bytes | RemoteProtocolError | None], None]
    ) -> None:
        self._server = server
        self._number = number
        self._scheduler = server.scheduler
        self._deliver = deliver
        self._engine = ServerConnection()
        self._answers = 0
        self._has_ended = False
        self.is_genuine = server.conduct.handshake is Handshake.GOOD
        "What it proved in its handshake."
        server.peers.append(self)

    def receive(self, octets: bytes) -> None:
        """Octets of the client's have arrived."""
        scheduler = self._scheduler
        scheduler.require(self.is_genuine, "an octet was shown to a server that was not authenticated")
        if not self._has_ended and not self._server.conduct.is_mute:
            self._act(self._engine.receive_data(octets, now=scheduler.now))

    def client_has_ended(self) -> None:
        """The client has closed, or is gone."""
        self._forget()

    def end(self, *, badly: bool) -> None:
        """Close, in order or by a reset."""
        self._deliver(RemoteProtocolError("reset", Fault.RESET) if badly else None)
        self._forget()

    def _forget(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._server.peers.remove(self)

    def _act(self, events: list[Event]) -> None:
        scheduler, conduct = self._scheduler, self._server.conduct
        for event in events:
            scheduler.require(isinstance(event, QueryReceived), "a server objects to what it was sent: {}", event)
            assert isinstance(event, QueryReceived)
            name = event.message[12 : event.message.index(b"\0", 12) + 1]
            self._server.seen[name] += name != PROBE
            if scheduler.chance(conduct.lost):
                continue
            is_slow = name != PROBE and scheduler.chance(conduct.slow)
            seconds = scheduler.seconds(1.0, 4.0) if is_slow else scheduler.seconds(0.0, 0.05)
            scheduler.call_later(seconds, self._answer, event.query, event.message)
        self._flush()

    def _answer(self, query: int, message: bytes) -> None:
        conduct = self._server.conduct
        if self._has_ended or conduct.is_mute:
            return
        question = message[12 : message.index(b"\0", 12) + 5]
        header = message[:2] + bytes([message[2] | 0x80, 0]) + b"\0\1\0\0\0\0\0\0"
        self._engine.send_response(query, header + question, now=self._scheduler.now)
        self._answers += 1
        self._server.dials.pop(self._number, None)
        self._flush()
        if conduct.closes_after is not None and self._answers >= conduct.closes_after:
            self.end(badly=conduct.closes_badly)

    def _flush(self) -> None:
        octets = b"".join(self._engine.data_to_send())
        if octets and not self._has_ended:
            self._deliver(octets)
