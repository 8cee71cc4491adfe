"""Runs a client through a script of :mod:`dot_proto.testing.peers`, without socket and clock: time is a number.

The runner calls ``handle_timeout`` exactly when the client asks for it.  It returns a trace, a list of entries: the
laws check it, and so can a test of your own.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from ..arguments import check_instance, check_time, check_whole, wrong
from ..authentication import AuthenticationPolicy, Evidence
from ..client import ClientConnection
from ..configuration import ClientConfiguration
from ..errors import Fault, LocalProtocolError, RemoteProtocolError
from ..events import Event
from ..query import make_query
from .messages import pieces, read
from .peers import Ask, Close, End, Reset, Script, Stall, Step


class Client(Protocol):
    """The verbs of :class:`~dot_proto.ClientConnection` that are called; the peer has been accepted already."""

    @abstractmethod
    def send_query(self, message: bytes, *, now: float, timeout: float) -> int:
        """Ask; returns a handle."""

    @abstractmethod
    def data_to_send(self) -> Iterable[bytes]:
        """Framed queries."""

    @abstractmethod
    def receive_data(self, data: bytes, *, now: float) -> Iterable[Event]:
        """Octets from the peer."""

    @abstractmethod
    def receive_eof(self, *, now: float, orderly: bool) -> Iterable[Event]:
        """The peer will send no more."""

    @abstractmethod
    def fail(self, error: RemoteProtocolError, *, now: float) -> Iterable[Event]:
        """The transport broke."""

    @abstractmethod
    def next_timeout(self) -> float | None:
        """When to call :meth:`handle_timeout`."""

    @abstractmethod
    def handle_timeout(self, *, now: float) -> Iterable[Event]:
        """Act on what is due."""


def open_client(configuration: ClientConfiguration | None = None, *, first_id: int = 0) -> ClientConnection:
    """Our own client, its peer accepted (by the opportunistic policy); ids are drawn in order from ``first_id``."""
    check_whole("first_id", first_id)
    ids = itertools.count(first_id)

    def entropy(size: int) -> bytes:
        return b"".join((next(ids) & 0xFFFF).to_bytes(2) for _ in range(size // 2))

    client = ClientConnection(AuthenticationPolicy.opportunistic(), configuration, entropy=entropy)
    client.verify_peer(Evidence(), now=0.0)
    return client


@dataclass(frozen=True)
class TraceEntry:
    """One call of a method of the client, and its result."""

    at: float
    "Seconds on the runner's clock."


@dataclass(frozen=True)
class Asked(TraceEntry):
    """The client took a query."""

    handle: int
    message: bytes
    timeout: float


@dataclass(frozen=True)
class Refused(TraceEntry):
    """The client took no more queries: it raised :class:`~dot_proto.LocalProtocolError`."""


@dataclass(frozen=True)
class Sent(TraceEntry):
    """What the client had to send."""

    octets: bytes


@dataclass(frozen=True)
class Reported(TraceEntry):
    """A call that returned events."""

    events: list[Event]


@dataclass(frozen=True)
class Arrived(Reported):
    """A read of the peer's octets."""

    octets: bytes


@dataclass(frozen=True)
class Ended(Reported):
    """The peer's end was reported."""

    how: End


@dataclass(frozen=True)
class Woke(Reported):
    """The client's timer was served."""

    next_timeout: float | None
    "What the client said afterwards."


def run_script(client: Client, script: Script, *, start: float = 1000.0) -> list[TraceEntry]:
    """Run the client through a script, from ``start`` seconds until the last query's deadline has passed.

    A driver does no more than this: it drains what is to be sent after every call, and wakes the client when
    it asks to be.
    """
    if isinstance(client, type) or not hasattr(client, "send_query"):
        raise wrong("client", "a client with the verbs of ClientConnection", client, "open_client() makes one")
    check_instance("script", script, Script, "Script((step, ...)) is one")
    check_time("start", start)
    runner = _Runner(client, script, start)
    for step in script.steps:
        runner.carry_out(step)
    runner.finish()
    return runner.trace


class _Runner:
    def __init__(self, client: Client, script: Script, now: float) -> None:
        self.trace: list[TraceEntry] = []
        self._client = client
        self._script = script
        self._now = now
        self._last_deadline = now
        self._sent = b""
        self._held = b""
        self._is_peer_there = True

    def carry_out(self, step: Step) -> None:
        if self._is_peer_there:
            self._held += step.octets(read(self._sent).messages)
        if not self._script.coalesced or isinstance(step, Ask | Stall | End):
            self._deliver()
        if isinstance(step, Ask):
            self._ask(step)
        elif isinstance(step, Stall):
            self._pass(self._now + step.seconds)
        elif isinstance(step, End) and self._is_peer_there:
            self._end(step)
        self._pass(self._now)

    def finish(self) -> None:
        """Let every deadline come, and wake the client once more for nothing."""
        self._deliver()
        self._pass(max(self._now, self._last_deadline))
        self._wake()

    def _ask(self, step: Ask) -> None:
        query = make_query(step.name, message_id=0xBEEF)
        try:
            handle = self._client.send_query(query, now=self._now, timeout=step.timeout)
        except LocalProtocolError:
            self.trace.append(Refused(self._now))
        else:
            self.trace.append(Asked(self._now, handle, query, step.timeout))
            self._last_deadline = max(self._last_deadline, self._now + step.timeout)
            self._drain()

    def _deliver(self) -> None:
        for octets in pieces(self._held, self._script.read_size):
            events = list(self._client.receive_data(octets, now=self._now))
            self.trace.append(Arrived(self._now, events, octets))
            self._drain()
        self._held = b""

    def _end(self, step: End) -> None:
        self._is_peer_there = False
        if isinstance(step, Reset):
            error = RemoteProtocolError("the peer reset the connection", Fault.RESET)
            events = self._client.fail(error, now=self._now)
        else:
            events = self._client.receive_eof(now=self._now, orderly=isinstance(step, Close))
        self.trace.append(Ended(self._now, list(events), step))
        self._drain()

    def _pass(self, until: float) -> None:
        """Let time pass, and serve the timer on the way."""
        while (deadline := self._client.next_timeout()) is not None and deadline <= until:
            self._now = max(self._now, deadline)
            self._wake()
            after = self._client.next_timeout()
            if after is not None and after <= self._now:
                raise AssertionError(f"woken at {self._now}, the client asks to be woken at {after}: a busy loop")
        self._now = until

    def _wake(self) -> None:
        events = list(self._client.handle_timeout(now=self._now))
        self.trace.append(Woke(self._now, events, self._client.next_timeout()))
        self._drain()

    def _drain(self) -> None:
        octets = b"".join(self._client.data_to_send())
        if octets:
            self._sent += octets
            self.trace.append(Sent(self._now, octets))
