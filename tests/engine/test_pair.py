"""A client and a server back to back: two lines with latency between them, and one clock that jumps.

Nothing sleeps: the clock goes to the earliest of what is to arrive, what either engine waits for, and what the
script has in store.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from dot_proto import (
    Cause,
    ClientConfiguration,
    ClientConnection,
    ConnectionClosed,
    LocalProtocolError,
    QueryLost,
    QueryReceived,
    QueryTimedOut,
    ResponseReceived,
    ServerConfiguration,
    ServerConnection,
    State,
    make_query,
)
from support.messages import TXT, pieces, question_of, record, response_to, unframed
from support.scenes import STRICT, TRUSTED, seeded

BOUND = 1_000.0
"Seconds in which everything is over, whatever happens: the longest script and the longest idle time, and more."


@dataclass
class Plan:
    """What happens to one query."""

    at: float
    "Seconds from the beginning at which it is asked."
    timeout: float = 5.0
    think: float | None = 0.0
    "Seconds that the server takes; ``None``: it never answers."
    outcome: str = "answer"
    "Or ``error``, ``decline``: what the server does then."
    cancel: float | None = None
    "Seconds after asking at which the caller cancels."
    size: int = 10
    "Octets of the answer's text."


@dataclass
class Scenario:
    """A connection's whole life, as far as the engines do not decide it."""

    plans: list[Plan]
    up: float = 0.1
    "Seconds from client to server."
    down: float = 0.1
    "Seconds from server to client."
    piece: int = 1_000
    "Octets that arrive at a time."
    handshake: float = 0.2
    client_closes: float | None = None
    server_closes: float | None = None
    cut_up: int | None = None
    "Octets that come through to the server before the line is cut."
    cut_down: int | None = None
    client: ClientConfiguration = field(default_factory=ClientConfiguration)
    server: ServerConfiguration = field(default_factory=ServerConfiguration)
    seed: int = 0


class Line:
    """One direction: octets go in, and come out later, in pieces, until the line is cut."""

    def __init__(self, latency: float, piece: int, left: int | None) -> None:
        self.latency, self.piece = latency, piece
        self.left = math.inf if left is None else left
        self.is_cut = False
        self.carried = b""
        "All octets put in before the cut."


class Pair:
    """Both engines, the lines between them, and the time."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.now = 1_000.0
        self.client = ClientConnection(STRICT, scenario.client, entropy=seeded(scenario.seed))
        self.server = ServerConnection(scenario.server, now=self.now)
        self.up = Line(scenario.up, scenario.piece, scenario.cut_up)
        self.down = Line(scenario.down, scenario.piece, scenario.cut_down)
        self.agenda: list[tuple[float, int, Callable[[], None]]] = []
        self.serial = count()
        self.handles: dict[int, int] = {}
        "Number of the plan by the client's handle."
        self.received: list[int] = []
        "Numbers of the plans in the order in which their queries reached the server."
        self.answers: dict[int, ResponseReceived] = {}
        self.fates: Counter[int] = Counter()
        self.ends: dict[str, tuple[float, Cause]] = {}
        for number, plan in enumerate(scenario.plans):
            self.later(plan.at, lambda number=number: self.ask(number))
        self.later(scenario.handshake, self.verify)
        if scenario.client_closes is not None:
            self.later(scenario.client_closes, lambda: self.client.close(now=self.now))
        if scenario.server_closes is not None:
            self.later(scenario.server_closes, lambda: self.server.close(now=self.now))

    def later(self, delay: float, act: Callable[[], None]) -> None:
        heapq.heappush(self.agenda, (self.now + delay, next(self.serial), act))

    def run(self) -> None:
        """Until nothing is left to happen, which must be soon."""
        begun = self.now
        for _ in range(100_000):
            self.flush()
            timeouts = [self.client.next_timeout(), self.server.next_timeout()]
            times = [each for each in timeouts if each is not None] + [entry[0] for entry in self.agenda[:1]]
            if not times:
                break
            self.now = max(self.now, min(times))
            assert self.now - begun < BOUND
            while self.agenda and self.agenda[0][0] <= self.now:
                heapq.heappop(self.agenda)[2]()
            self.client_events(self.client.handle_timeout(now=self.now))
            self.server_events(self.server.handle_timeout(now=self.now))
        assert not times

    def flush(self) -> None:
        self.put(self.up, b"".join(self.client.data_to_send()), self.to_server, self.to_client)
        self.put(self.down, b"".join(self.server.data_to_send()), self.to_client, self.to_server)

    def put(self, line: Line, octets: bytes, there: Callable[..., None], back: Callable[..., None]) -> None:
        if line.is_cut:
            return
        through = octets[: int(min(line.left, len(octets)))]
        line.carried += through
        for piece in pieces(through, line.piece):
            self.later(line.latency, lambda piece=piece: there(piece))
        line.left -= len(octets)
        if line.left < 0:
            line.is_cut = True
            self.later(line.latency, lambda: (there(None, orderly=False), back(None, orderly=False)))

    def to_server(self, octets: bytes | None, orderly: bool = True) -> None:
        if octets is None:
            self.server_events(self.server.receive_eof(now=self.now, orderly=orderly))
        else:
            self.server_events(self.server.receive_data(octets, now=self.now))

    def to_client(self, octets: bytes | None, orderly: bool = True) -> None:
        if octets is None or self.client.state is State.UNVERIFIED:
            # A server that is gone before TLS was up: no octet can have come.
            self.client_events(self.client.receive_eof(now=self.now, orderly=orderly))
        else:
            self.client_events(self.client.receive_data(octets, now=self.now))

    def verify(self) -> None:
        if self.client.verdict is None:
            self.client_events(self.client.verify_peer(TRUSTED, now=self.now))

    def ask(self, number: int) -> None:
        plan = self.scenario.plans[number]
        query = make_query(f"q{number}.example", "TXT", message_id=0xFF00 + number)
        try:
            handle = self.client.send_query(query, now=self.now, timeout=plan.timeout)
        except LocalProtocolError:
            return  # closed by then
        self.handles[handle] = number
        if plan.cancel is not None:
            self.later(plan.cancel, lambda: self.cancel(handle))

    def cancel(self, handle: int) -> None:
        self.fates[handle] += self.client.cancel(handle, now=self.now)

    def client_events(self, events: list[Any]) -> None:
        for event in events:
            match event:
                case ResponseReceived():
                    self.fates[event.query] += 1
                    self.answers[self.handles[event.query]] = event
                case QueryTimedOut() | QueryLost():
                    self.fates[event.query] += 1
                case ConnectionClosed():
                    self.end("client", event)
                    self.later(self.up.latency, lambda: self.to_server(None))

    def server_events(self, events: list[Any]) -> None:
        for event in events:
            match event:
                case QueryReceived():
                    number = int(question_of(event.message)[2 : 1 + event.message[12]])
                    self.received.append(number)
                    plan = self.scenario.plans[number]
                    if plan.think is not None:
                        self.later(plan.think, lambda event=event, plan=plan: self.respond(event, plan))
                case ConnectionClosed():
                    self.end("server", event)
                    self.flush()
                    self.later(self.down.latency, lambda: self.to_client(None))

    def respond(self, event: QueryReceived, plan: Plan) -> None:
        if plan.outcome == "decline":
            self.server.decline(event.query, now=self.now)
        elif plan.outcome == "error":
            self.server.send_error(event.query, now=self.now)
        else:
            texts = b"".join(bytes([len(each)]) + each for each in pieces(bytes(plan.size), 255))
            # No OPT: the server's engine sees to padding only where there is one already, and adds it.
            reply = response_to(event.message, record(kind=TXT, data=texts))
            self.server.send_response(event.query, reply, now=self.now)

    def end(self, who: str, event: ConnectionClosed) -> None:
        assert who not in self.ends
        self.ends[who] = self.now, event.cause


def played(scenario: Scenario) -> Pair:
    pair = Pair(scenario)
    pair.run()
    return pair


def assert_sound(pair: Pair) -> None:
    """What holds however the connection went."""
    assert pair.client.state is pair.server.state is State.CLOSED
    assert set(pair.ends) == {"client", "server"}
    assert set(pair.fates) <= set(pair.handles)
    assert all(pair.fates[handle] == 1 for handle in pair.handles)
    assert max(Counter(pair.received).values(), default=0) <= 1
    assert set(pair.received) <= set(pair.handles.values())
    assert set(pair.answers) <= set(pair.received)
    for number, event in pair.answers.items():
        query = make_query(f"q{number}.example", "TXT", message_id=0xFF00 + number)
        assert event.message[:2] == query[:2]
        assert question_of(event.message) == question_of(query)
        assert event.malformation is None
        assert len(event.message) % 468 == 0
    for chunk in whole_frames(pair.up.carried):
        assert len(chunk) % 128 == 0


def whole_frames(stream: bytes) -> list[bytes]:
    """The messages of a stream that may be cut off."""
    chunks = []
    while len(stream) >= 2 and len(stream) >= (end := 2 + int.from_bytes(stream[:2])):
        chunks.append(stream[:end])
        stream = stream[end:]
    return unframed(chunks)


latencies = st.sampled_from([0.0, 0.01, 0.3, 0.9])
moments = st.floats(0.0, 20.0).map(lambda each: round(each, 2))
sizes = st.sampled_from([1, 2, 7, 100, 5_000])

plans = st.builds(
    Plan,
    at=moments,
    timeout=st.sampled_from([0.0, 0.5, 5.0]),
    think=st.none() | st.sampled_from([0.0, 0.1, 0.5, 1.0, 4.9, 6.0]),
    outcome=st.sampled_from(["answer", "answer", "answer", "error", "decline"]),
    cancel=st.none() | st.sampled_from([0.0, 0.2, 1.0]),
    size=st.sampled_from([1, 400, 2_000]),
)
servers = st.builds(
    ServerConfiguration,
    idle_timeout=st.sampled_from([0.0, 0.5, 10.0, 600.0]),
    max_queries=st.none() | st.integers(1, 4),
    max_duration=st.none() | st.just(5.0),
)
scenarios = st.builds(
    Scenario,
    plans=st.lists(plans, max_size=8),
    up=latencies,
    down=latencies,
    piece=sizes,
    handshake=st.sampled_from([0.0, 0.2, 3.0]),
    client_closes=st.none() | moments,
    server_closes=st.none() | moments,
    cut_up=st.none() | st.integers(0, 600),
    cut_down=st.none() | st.integers(0, 2_000),
    server=servers,
    seed=st.integers(0, 3),
)


@given(scenarios)
@settings(max_examples=2 * settings().max_examples)
def test_whatever_happens(scenario):
    """One fate each, the right answers to the right questions, and the end of both in bounded time (CON-6, CON-16)."""
    assert_sound(played(scenario))


@given(scenarios)
@settings(max_examples=settings().max_examples // 4)
def test_whatever_happens_happens_again(scenario):
    """Nothing but the scenario decides."""
    first, second = played(scenario), played(scenario)
    assert (first.up.carried, first.down.carried) == (second.up.carried, second.down.carried)
    assert first.ends == second.ends
    assert repr(first.answers) == repr(second.answers)


prompt = st.builds(
    Plan,
    at=moments,
    timeout=st.just(8.0),
    think=st.sampled_from([0.0, 0.1, 0.5, 1.0, 5.0]),
    outcome=st.sampled_from(["answer", "error"]),
    size=st.sampled_from([1, 400, 2_000]),
)
calm = st.builds(
    Scenario,
    plans=st.lists(prompt, max_size=8).map(lambda rest: [Plan(at=0.0, timeout=8.0), *rest]),
    up=latencies,
    down=latencies,
    piece=sizes,
    server=st.builds(ServerConfiguration, idle_timeout=st.sampled_from([0.5, 3.0, 10.0, 600.0])),
)


@given(calm)
@example(Scenario([Plan(at=0.0)], up=0.9, down=0.9, server=ServerConfiguration(idle_timeout=0.5)))
def test_the_client_goes_first(scenario):
    """Where every query is answered in time, each is, and no idle server ever closes on a client (KAL-4, KAL-14)."""
    pair = played(scenario)
    assert_sound(pair)
    assert set(pair.answers) == set(pair.received) == set(pair.handles.values())
    assert pair.ends["client"][1] is Cause.IDLE
    assert pair.ends["server"][1] is Cause.PEER_CLOSED
    assert pair.ends["client"][0] <= pair.ends["server"][0]


@given(calm, st.sampled_from([1.0, 10.0, 60.0]))
def test_a_server_without_grace(scenario, idle_timeout):
    """Keeps to the very second of its word; the client is gone by then, and no query meets a closing server (KAL-4)."""
    scenario.up = scenario.down = min(0.45, idle_timeout / 25)
    scenario.client = ClientConfiguration(idle_timeout=idle_timeout / 2)
    scenario.server = ServerConfiguration(idle_timeout=idle_timeout, idle_grace=0.0)
    pair = played(scenario)
    assert_sound(pair)
    assert set(pair.answers) == set(pair.handles.values())
    assert pair.ends["client"][1] is Cause.IDLE
    assert pair.ends["server"][1] is Cause.PEER_CLOSED


@given(calm, st.sampled_from([1, 2, 5]))
def test_a_servers_last_call(scenario, limit):
    """It answers what it took, and both part in order; what it did not take is lost and safe to ask again (KAL-5)."""
    scenario.server = ServerConfiguration(max_queries=limit)
    pair = played(scenario)
    assert_sound(pair)
    assert len(pair.received) == min(limit, len(pair.handles))
    assert set(pair.answers) == set(pair.received)


def test_answers_overtake_each_other():
    """The slow one first, the quick ones behind it, answered in the order of their readiness (CON-2, MAT-3, SRV-2)."""
    pair = played(Scenario([Plan(at=0.0, think=think) for think in (3.0, 1.0, 2.0)]))
    assert_sound(pair)
    assert pair.received == [0, 1, 2]
    assert list(pair.answers) == [1, 2, 0]


def test_an_answer_that_comes_too_late():
    """Harms no query behind it (MAT-15)."""
    late, others = Plan(at=0.0, timeout=0.3, think=1.0), [Plan(at=0.4 + number / 10) for number in range(4)]
    pair = played(Scenario([late, *others]))
    assert_sound(pair)
    assert list(pair.answers) == [1, 2, 3, 4]


def test_a_cut_at_every_octet_of_the_answers():
    """Each query has its fate, and what came whole counts (CON-10, FRM-11)."""
    plans = [Plan(at=0.0), Plan(at=0.0, size=500)]
    whole = played(Scenario(plans))
    length = len(whole.down.carried)
    first = 2 + int.from_bytes(whole.down.carried[:2])
    for octets in range(length):
        pair = played(Scenario(plans, cut_down=octets))
        assert_sound(pair)
        assert len(pair.answers) == (octets >= first)
        inside = octets not in (0, first)
        assert pair.ends["client"][1] is (Cause.PEER_FAULT if inside else Cause.TRANSPORT_FAILED)


def test_closing_with_answers_owed():
    """The client closes with two pending: both are answered, then both part in order (CON-16, SRV-3)."""
    pair = played(Scenario([Plan(at=0.0, think=1.0), Plan(at=0.0, think=1.5)], client_closes=0.5))
    assert_sound(pair)
    assert list(pair.answers) == [0, 1]
    assert pair.ends["client"][1] is Cause.LOCAL_CLOSE
    assert pair.ends["server"][1] is Cause.PEER_CLOSED


def test_a_server_that_never_answers_cannot_hold_a_closing_client():
    """(CON-16)."""
    pair = played(Scenario([Plan(at=0.0, think=None)], client_closes=0.5))
    assert_sound(pair)
    assert pair.ends["client"] == (1_002.5, Cause.CLOSE_TIMEOUT)
