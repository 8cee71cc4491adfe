"""A stub resolver, its clock, and servers that the test plays by hand."""

from __future__ import annotations

import random
from collections.abc import Callable

from dot_proto import ClientConnection, Event, Evidence, Fault, RemoteProtocolError, make_query
from dot_proto.resolver.configuration import ResolverConfiguration
from dot_proto.resolver.events import (
    AbandonConnection,
    Action,
    FindAddresses,
    ForgetSessions,
    OpenConnection,
    QueryAnswered,
    QueryFailed,
)
from dot_proto.resolver.machine import StubResolver
from dot_proto.resolver.upstream import Upstream
from support.messages import Clock, response_to, stream_of, unframed
from support.scenes import IMPOSTOR, TRUSTED, counting

FIRST, SECOND, THIRD = "192.0.2.1", "192.0.2.2", "192.0.2.3"
V6 = "2001:db8::1"


def upstream(*addresses: str, **fields: object) -> Upstream:
    """One of these addresses, authenticated by the name of :data:`support.scenes.STRICT`."""
    return Upstream(addresses=addresses, **{"name": "dot.test", **fields})


class ResolverScene:
    """A resolver over one upstream for each address given; ``fields`` are those of its configuration."""

    def __init__(
        self, *upstreams: Upstream | str, entropy: Callable[[int], bytes] | None = None, **fields: object
    ) -> None:
        self.clock = Clock()
        given = [upstream(one) if isinstance(one, str) else one for one in upstreams or (FIRST,)]
        # An octet of 0x80 is a jitter of 1: delays are what the configuration says.
        self.resolver = StubResolver(
            given, ResolverConfiguration(**fields), entropy=entropy or (lambda size: b"\x80" + bytes(size - 1))
        )
        self.engines: dict[int, ClientConnection] = {}
        self.sent: dict[int, list[bytes]] = {}
        self.events: list[Event] = []
        self.actions: list[Action] = []

    @property
    def now(self) -> float:
        return self.clock.now

    # What a program does.

    def ask(self, name: str = "example.com", *, timeout: float | None = None) -> int:
        handle = self.resolver.send_query(make_query(name), now=self.now, timeout=timeout)
        self.drain()
        return handle

    def cancel(self, handle: int) -> bool:
        was_fate = self.resolver.cancel(handle, now=self.now)
        self.drain()
        return was_fate

    def close(self, timeout: float | None = None) -> None:
        self.resolver.close(now=self.now, timeout=timeout)
        self.drain()

    def network_changed(self) -> None:
        self.resolver.network_changed(now=self.now)
        self.drain()

    # What happens.

    def wait(self, seconds: float) -> None:
        """Let time pass, with every timer in its turn."""
        end = self.now + seconds
        while True:
            dues = [(self.resolver.next_timeout(), None)]
            dues += [(engine.next_timeout(), number) for number, engine in self.engines.items()]
            due, number = min(
                ((due, number) for due, number in dues if due is not None),
                default=(end + 1, None),
                key=lambda pair: pair[0],
            )
            if due > end:
                break
            self.clock.now = max(self.now, due)
            if number is None:
                self.take(self.resolver.handle_timeout(now=self.now))
            else:
                self.feed(number, self.engines[number].handle_timeout(now=self.now))
        self.clock.now = end

    def tcp_up(self, number: int) -> None:
        action = next(a for a in self.actions if isinstance(a, OpenConnection) and a.connection == number)
        policy = action.upstream.policy_for(action.address)
        engine = ClientConnection(policy, self.resolver.configuration.connection, entropy=counting(0x1000))
        self.engines[number] = engine
        self.take(self.resolver.connection_opened(number, engine, now=self.now))

    def judge(self, number: int, evidence: Evidence = TRUSTED) -> None:
        self.feed(number, self.engines[number].verify_peer(evidence, now=self.now))

    def up(self, number: int) -> None:
        """The connection comes up, and its server is authenticated."""
        self.tcp_up(number)
        self.judge(number)

    def refuse(self, number: int) -> None:
        """The connection comes up, and whoever is there is somebody else."""
        self.tcp_up(number)
        self.judge(number, IMPOSTOR)

    def fail(self, number: int, explanation: str = "connection refused", *, may_retry: bool = False) -> None:
        self.take(self.resolver.connection_failed(number, explanation, now=self.now, may_retry=may_retry))

    def end(self, number: int, *, badly: bool = False) -> None:
        """The server closes, in order or by a reset."""
        engine = self.engines[number]
        if badly:
            self.feed(number, engine.fail(RemoteProtocolError("reset by peer", Fault.RESET), now=self.now))
        else:
            self.feed(number, engine.receive_eof(now=self.now))

    def answer(self, number: int, name: str | None = None, *, rcode: int = 0) -> None:
        """The server answers the oldest query for ``name`` that it has, or the oldest of all."""
        queries = self.sent.setdefault(number, [])
        found = next(q for q in queries if name is None or name_in(q) == name)
        queries.remove(found)
        response = bytearray(response_to(found))
        response[3] = response[3] & 0xF0 | rcode
        self.receive(number, stream_of([bytes(response)]))

    def receive(self, number: int, octets: bytes) -> None:
        self.feed(number, self.engines[number].receive_data(octets, now=self.now))

    def feed(self, number: int, events: list[Event]) -> None:
        self.take(self.resolver.receive_events(number, events, now=self.now))
        self.flush(number)

    # What comes of it.

    def take(self, events: list[Event]) -> None:
        self.events += events
        self.drain()

    def drain(self) -> None:
        actions, unflushed, due = self.resolver.duties()
        assert due == self.resolver.next_timeout()
        self.actions += actions
        for number in unflushed:
            self.flush(number)

    def flush(self, number: int) -> None:
        self.sent.setdefault(number, []).extend(unframed(self.engines[number].data_to_send()))

    def asked(self, number: int) -> list[str]:
        """The names that the server of a connection has, and has not answered."""
        return [name_in(query) for query in self.sent.get(number, [])]

    def dialled(self) -> list[str]:
        return [action.address for action in self.actions if isinstance(action, OpenConnection)]

    def abandoned(self) -> list[int]:
        return [action.connection for action in self.actions if isinstance(action, AbandonConnection)]

    def lookups(self) -> list[str]:
        return [action.upstream.name or "" for action in self.actions if isinstance(action, FindAddresses)]

    def forgotten(self) -> int:
        return sum(isinstance(action, ForgetSessions) for action in self.actions)

    def told(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    def answers(self) -> list[int]:
        return [event.query for event in self.events if isinstance(event, QueryAnswered)]

    def failures(self) -> dict[int, QueryFailed]:
        return {event.query: event for event in self.events if isinstance(event, QueryFailed)}


def name_in(query: bytes) -> str:
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += query[at] + 1
    return ".".join(labels) or "."


def seeded(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes
