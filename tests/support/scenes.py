"""A client, its clock, and the octets between it and a server that the test plays."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable

from dot_proto import (
    AuthenticationPolicy,
    Cause,
    ClientConfiguration,
    ClientConnection,
    ConnectionClosed,
    Event,
    Evidence,
    Fault,
    PresentedChain,
    ResponseReceived,
    ValidatedChain,
    make_query,
)
from support.messages import Clock, stream_of, unframed
from support.vectors import certificate

LEAF = certificate("leaf-p256")

STRICT = AuthenticationPolicy.strict("dot.test")
"The policy of every scene unless said."

TRUSTED = Evidence(PresentedChain((LEAF,)), LEAF, ValidatedChain((LEAF,), "dot.test"))
"A handshake that proves what :data:`STRICT` asks for."

IMPOSTOR = Evidence(PresentedChain((LEAF,)), LEAF)
"The same certificate, which nobody validated."

Entropy = Callable[[int], bytes]


def always(wire_id: int) -> Entropy:
    """A source of ids without any randomness: the id drawn is the next free one from here."""
    return lambda size: wire_id.to_bytes(2) * (size // 2)


def counting(start: int = 0) -> Entropy:
    """A source of the ids ``start``, ``start`` + 1, ... around the whole range, so that each is drawn once."""
    ids = itertools.cycle(range(0x10000))
    next(itertools.islice(ids, start, start), None)
    return lambda size: b"".join(each.to_bytes(2) for each in itertools.islice(ids, size // 2))


def seeded(seed: int) -> Entropy:
    """A source that looks random and can be had again."""
    return random.Random(seed).randbytes


class Scene:
    """One client connection; ``configuration`` are the fields of a :class:`ClientConfiguration`."""

    def __init__(
        self,
        *,
        entropy: Entropy | None = None,
        policy: AuthenticationPolicy = STRICT,
        verified: bool = True,
        **configuration: object,
    ) -> None:
        self.clock = Clock()
        self.client = ClientConnection(
            policy, ClientConfiguration(**configuration), entropy=entropy or counting(0x1000)
        )
        if verified:
            self.client.verify_peer(TRUSTED, now=self.now)

    @property
    def now(self) -> float:
        return self.clock.now

    def ask(
        self, query: bytes | str = "example.com", *, timeout: float | None = None, multiple: bool = False
    ) -> tuple[int, bytes]:
        """Ask, and send all that is held; returns the handle and the query as it is on the wire."""
        message = make_query(query, message_id=0xBEEF) if isinstance(query, str) else query
        handle = self.client.send_query(message, now=self.now, timeout=timeout, multiple=multiple)
        return handle, self.sent()[-1]

    def sent(self) -> list[bytes]:
        """The queries that leave now, without their prefixes."""
        return unframed(self.client.data_to_send())

    def receive(self, *messages: bytes) -> list[Event]:
        """The server sends these in one go."""
        return self.client.receive_data(stream_of(messages), now=self.now)

    def tick(self) -> list[Event]:
        """What the clock brings, when the driver looks at it right now."""
        return self.client.handle_timeout(now=self.now)

    def wait(self) -> list[Event]:
        """Sleep until the client's next deadline."""
        deadline = self.client.next_timeout()
        assert deadline is not None
        self.clock.now = max(self.now, deadline)
        return self.tick()


def closed(cause: Cause, fault: Fault | None = None) -> tuple[Cause, Fault | None]:
    """What :func:`outcome` makes of the terminal event."""
    return cause, fault


def outcome(events: Iterable[Event]) -> list[object]:
    """Events in a form that compares, and reads well where it does not: answers as handles, the end as its cause."""
    short: list[object] = []
    for event in events:
        match event:
            case ResponseReceived():
                short.append(event.query)
            case ConnectionClosed():
                short.append((event.cause, event.error and event.error.fault))
            case _:
                short.append(event)
    return short


def condition(client: ClientConnection) -> tuple[object, ...]:
    """All that a caller can see of a connection without changing it."""
    return (
        client.state,
        client.pending,
        client.is_open,
        client.accepts_queries,
        client.capacity,
        client.closing_for,
        client.verdict,
        client.next_timeout(),
    )
