"""Upstreams for the simulated resolver: servers that die, heal, fall silent, are impostors, or close when they like."""

from __future__ import annotations

import enum
import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from ..._state import State
from ...events import QueryReceived
from ...server import ServerConnection
from .network import End, Link, LinkConditions, Scheduler, Segmentation

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
    """How a server behaves just now.  What is said of names goes by the last digit of their first label."""

    reachability: Reachability = Reachability.ACCEPTS
    handshake: Handshake = Handshake.GOOD
    segmentation: Segmentation = Segmentation.AS_SENT
    "How its octets arrive on new connections: at once, or in drips."
    stalls: float = 0.0
    "How often new connections stand still for a while, as a probability for each write."
    is_mute: bool = False
    "Takes octets and answers nothing, on old connections too."
    slow: bytes = b""
    "Names that take 1 to 4 seconds."
    lost: bytes = b""
    "Names that are never answered."
    failing: bytes = b""
    "Names that are answered with SERVFAIL."
    says_go_after: int | None = None
    "Answers on one connection, after which keepalive is 0 (RFC 7828, section 3.2.2), and it ends with nothing owed."
    ends_after: int | None = None
    "Answers on one connection, after which it is ended whatever is owed."
    end: End = End.ORDERLY
    "How."


@dataclass(slots=True)
class Server:
    """One address of an upstream."""

    scheduler: Scheduler
    address: str
    conduct: Conduct = field(default_factory=Conduct)
    peers: list[ServerSide] = field(default_factory=list)
    dials: deque[float] = field(default_factory=deque[float])
    "When it was dialled, since an answer came from it."
    refused_at: float = -math.inf
    "When it was last refused, unless it has been accepted since, or the network is another one."
    has_forgotten_sessions: bool = False
    "Whether the next handshake fails, because the client offers a session of before a restart."

    def link(self, number: int) -> Link:
        """A new connection to it."""
        conduct = self.conduct
        down = LinkConditions(0.0, 0.05, conduct.stalls, conduct.segmentation)
        return Link(self.scheduler, number, LinkConditions(0.0, 0.05, 0.0, Segmentation.AS_SENT), down)

    def kill(self, how: End | None) -> None:
        """The process ends: every connection with it; without a word, where ``how`` is ``None``."""
        for peer in list(self.peers):
            peer.end(how)

    def restart(self) -> None:
        """The process ends, and is back in a moment."""
        self.kill(End.RESET)
        self.has_forgotten_sessions = True
        self.conduct = Conduct(reachability=Reachability.REFUSES)
        self.scheduler.call_later(self.scheduler.seconds(0.1, 5.0), self.heal)

    def heal(self) -> None:
        """It works again."""
        self.conduct = Conduct()


class ServerSide:
    """The server's end of one TCP connection."""

    def __init__(self, server: Server, link: Link) -> None:
        self._server = server
        self._link = link
        self._scheduler = server.scheduler
        self._engine = ServerConnection()
        self._answers = 0
        self._has_ended = False
        self.is_genuine = server.conduct.handshake is Handshake.GOOD
        "What it proved in its handshake."
        server.peers.append(self)
        link.up.receive = self._receive

    def end(self, how: End | None) -> None:
        """Close, in order or not; or fall silent for good, as behind a NAT that has forgotten the connection."""
        self._forget()
        if how is None:
            return
        if how is End.RESET:
            self._link.reset()
        else:
            self._link.down.send(how)

    def _receive(self, item: bytes | End) -> None:
        """Octets of the client's have arrived, or its end."""
        if self._has_ended:
            return
        if isinstance(item, End):
            self._forget()
        elif not self._server.conduct.is_mute:
            scheduler = self._scheduler
            for event in self._engine.receive_data(item, now=scheduler.now):
                scheduler.require(isinstance(event, QueryReceived), "a server objects to what it was sent: {}", event)
                assert isinstance(event, QueryReceived)
                self._asked(event)
            self._flush()

    def _asked(self, event: QueryReceived) -> None:
        scheduler, conduct = self._scheduler, self._server.conduct
        name = name_of(event.message)
        digit = name[name[0]]  # of the probe: its only octet, which is no digit
        if digit not in conduct.lost:
            delay = scheduler.seconds(1.0, 4.0) if digit in conduct.slow else scheduler.seconds(0.0, 0.05)
            rcode = 2 * (digit in conduct.failing)
            scheduler.call_later(delay, self._answer, event.query, event.message, rcode)

    def _answer(self, query: int, message: bytes, rcode: int) -> None:
        conduct = self._server.conduct
        if self._has_ended or conduct.is_mute:
            return
        question = message[12 : message.index(b"\0", 12) + 5]
        header = message[:2] + bytes([message[2] | 0x80, rcode]) + b"\0\1\0\0\0\0\0\0"
        self._answers += 1
        if self._answers == conduct.says_go_after:
            self._engine.close(now=self._scheduler.now)
        self._engine.send_response(query, header + question, now=self._scheduler.now)
        self._server.dials.clear()
        self._flush()
        if self._answers == conduct.ends_after:
            self.end(conduct.end)
        elif self._engine.state is State.CLOSED:
            self.end(End.ORDERLY)

    def _flush(self) -> None:
        for octets in self._engine.data_to_send():
            self._link.down.send(octets)

    def _forget(self) -> None:
        self._has_ended = True
        self._server.peers.remove(self)


def name_of(message: bytes) -> bytes:
    """The name in the question, as it stands on the wire."""
    return message[12 : message.index(b"\0", 12) + 1]
