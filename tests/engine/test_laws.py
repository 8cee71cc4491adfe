"""Laws that hold for any octets and any order of calls: the promises of the engine, one by one.

A *call* is a tuple: a name, and what it needs.  :class:`Player` carries calls out on a fresh client and keeps
records; a caller's mistake is an outcome like any other.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dot_proto import (
    ClientConfiguration,
    ClientConnection,
    ConnectionClosed,
    DiscardReason,
    Evidence,
    Fault,
    LocalProtocolError,
    QueryLost,
    QueryTimedOut,
    RemoteProtocolError,
    ResponseReceived,
    ServerConnection,
    make_query,
)
from support.messages import KEEPALIVE, cut_at, message, opt, option, response_to, stream_of, unframed
from support.scenes import IMPOSTOR, STRICT, TRUSTED, Entropy, Scene, always, seeded

NAMES = ("a.example", "b.example", "c.example")
CONFIGURATION = ClientConfiguration(max_in_flight=5, max_unsolicited=4, idle_timeout=6.0, query_timeout=3.0)

some_cuts = st.lists(st.integers(0, 700), max_size=12)
some_octets = st.one_of(
    st.binary(max_size=40),
    st.binary(min_size=12, max_size=60).map(lambda each: stream_of([each])),
    st.builds(
        lambda name, wire_id, flags: stream_of([message(make_query(name)[12:-11], id=wire_id, flags=flags)]),
        st.sampled_from(NAMES),
        st.integers(0, 5),
        st.sampled_from([0x0000, 0x8000, 0x8003, 0x8005, 0x2800, 0xA800]),
    ),
)

KINDS = ("right", "refused", "no-question", "other-question", "other-id", "echo", "zero", "tenth", "malformed")


def answer(wire: bytes, kind: str) -> bytes:
    """One message of a server's about a query."""
    match kind:
        case "refused":
            return response_to(wire, rcode=5)
        case "no-question":
            return message(id=int.from_bytes(wire[:2]), flags=0x8000)
        case "other-question":
            return response_to(make_query("other.example"), id=int.from_bytes(wire[:2]))
        case "other-id":
            return response_to(wire, id=int.from_bytes(wire[:2]) ^ 0x4000)
        case "echo":
            return wire
        case "zero":
            return response_to(wire, additionals=[opt(option(KEEPALIVE, b"\0\0"))])
        case "tenth":
            return response_to(wire, additionals=[opt(option(KEEPALIVE, b"\0\1"))])
        case "malformed":
            return response_to(wire) + b"\0"
    return response_to(wire)


SECONDS = st.sampled_from([3.0, 7.0, 1.0, 0.5, 0.05, 0.0])
INDEX = st.integers(0, 7)

WORK = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(NAMES), st.sampled_from([0, 0, 0, 5]), SECONDS, st.booleans()),
    st.tuples(st.just("drain")),
    st.tuples(st.just("answer"), INDEX, st.sampled_from(KINDS)),
    st.tuples(st.just("answer"), INDEX, st.just("right")),
    st.tuples(st.just("cancel"), INDEX),
    st.tuples(st.just("end-exchange"), INDEX),
    st.tuples(st.just("tick"), st.sampled_from([0.0, 0.05, 0.5, 1.0])),
)
CALL = st.one_of(
    WORK,
    st.tuples(st.just("verify"), st.sampled_from(["trusted", "trusted", "impostor", "nobody"])),
    st.tuples(st.just("octets"), some_octets),
    st.tuples(st.just("tick"), SECONDS),
    st.tuples(st.just("close"), SECONDS),
    st.tuples(st.just("eof"), st.booleans()),
    st.tuples(st.just("fail")),
)

USUAL = [("verify", "trusted"), ("ask", "a.example", 0, 3.0, False), ("drain",)]
"What most connections begin with; without it few random orders come far."

some_calls = st.one_of(
    st.lists(CALL, max_size=30),
    st.builds(
        lambda work, rest: USUAL + work + rest,
        st.lists(WORK, min_size=15, max_size=40),
        st.lists(CALL, max_size=8),
    ),
)


class Player:
    """Carries out calls on a client, and keeps what came of them."""

    def __init__(self, entropy: Entropy | None = None) -> None:
        self.client = ClientConnection(STRICT, CONFIGURATION, entropy=entropy or seeded(1))
        self.now = 50.0
        self.handles: list[int] = []
        self.wires: list[bytes] = []
        self.events: list[Any] = []
        self.fates: Counter[int] = Counter()
        self.transcript: list[str] = []
        self.mistakes: list[Any] = []

    def play(self, calls) -> None:
        for call in calls:
            try:
                result = self.carry_out(*call)
            except LocalProtocolError as error:
                result = error
                self.mistakes.append(call)
            self.transcript.append(f"{call}: {result!r}")

    def carry_out(self, name: str, *details: Any) -> object:
        client, now = self.client, self.now
        match name, details:
            case "ask", (asked, opcode, timeout, multiple):
                query = make_query(asked, message_id=len(self.handles))
                query = query[:2] + bytes([query[2] | opcode << 3]) + query[3:]
                self.handles.append(client.send_query(query, now=now, timeout=timeout, multiple=multiple))
                return self.handles[-1]
            case "drain", _:
                messages = unframed(client.data_to_send())
                self.wires += messages
                return messages
            case "answer", (index, kind):
                return self.keep(client.receive_data(stream_of([answer(self.wire(index), kind)]), now=now))
            case "octets", (octets,):
                return self.keep(client.receive_data(octets, now=now))
            case "verify", (whom,):
                evidence = {"trusted": TRUSTED, "impostor": IMPOSTOR, "nobody": Evidence()}[whom]
                return self.keep(client.verify_peer(evidence, now=now))
            case "cancel", (index,):
                handle = self.handle(index)
                cancelled = client.cancel(handle, now=now)
                self.fates[handle] += cancelled
                return cancelled
            case "end-exchange", (index,):
                handle = self.handle(index)
                client.end_exchange(handle, now=now)
                self.fates[handle] += 1
                return None
            case "tick", (seconds,):
                self.now += seconds
                return self.keep(client.handle_timeout(now=self.now))
            case "close", (timeout,):
                return client.close(now=now, timeout=timeout)
            case "eof", (orderly,):
                return self.keep(client.receive_eof(now=now, orderly=orderly))
        return self.keep(client.fail(RemoteProtocolError("reset", Fault.RESET), now=now))

    def handle(self, index: int) -> int:
        return self.handles[-1 - index % len(self.handles)] if self.handles else 0

    def wire(self, index: int) -> bytes:
        """A query that has left, the last ones first."""
        return self.wires[-1 - index % len(self.wires)] if self.wires else make_query("a.example")

    def keep(self, events):
        for event in events:
            match event:
                case ResponseReceived(more=False) | QueryTimedOut() | QueryLost():
                    self.fates[event.query] += 1
        self.events += events
        return events


def assert_ends_once(events) -> None:
    """At most one terminal event, and nothing behind it."""
    assert not any(isinstance(event, ConnectionClosed) for event in events[:-1])


# How the stream is cut


def delivered(connection, chunks) -> list[str]:
    return [repr(event) for chunk in chunks for event in connection.receive_data(chunk, now=60.0)]


@given(st.lists(st.tuples(INDEX, st.sampled_from(KINDS)), max_size=12), st.binary(max_size=30), some_cuts)
def test_a_clients_events_do_not_depend_on_the_cuts(answers, rest, offsets):
    """Right answers, wrong ones, and whatever comes behind them (FRM-3, FRM-10)."""

    def asked() -> tuple[ClientConnection, list[bytes]]:
        scene = Scene(entropy=seeded(3), max_unsolicited=4)
        for number in range(6):
            scene.client.send_query(make_query(NAMES[number % 3]), now=scene.now, multiple=number == 5)
        wires = scene.sent()
        scene.client.cancel(scene.ask()[0], now=scene.now)
        return scene.client, wires

    client, wires = asked()
    stream = stream_of(answer(wires[index % len(wires)], kind) for index, kind in answers) + rest
    whole = delivered(client, [stream])
    other, _ = asked()
    assert delivered(other, cut_at(stream, offsets)) == whole
    assert repr(other.receive_eof(now=61.0)) == repr(client.receive_eof(now=61.0))


@given(st.lists(some_octets, max_size=8), some_cuts)
def test_a_servers_events_do_not_depend_on_the_cuts(chunks, offsets):
    """Nor do the octets with which it answers by itself (FRM-3)."""
    stream = b"".join(chunks)
    one, other = ServerConnection(now=0.0), ServerConnection(now=0.0)
    assert delivered(one, [stream]) == delivered(other, cut_at(stream, offsets))
    assert one.data_to_send() == other.data_to_send()
    assert repr(one.receive_eof(now=61.0)) == repr(other.receive_eof(now=61.0))


# Any octets


@given(st.lists(some_octets, max_size=12), st.booleans())
def test_no_octets_upset_a_client(chunks, orderly):
    """Nothing raises; one terminal event, the last of all; the query has its fate (FRM-11, MAT-19)."""
    player = Player()
    player.play([("verify", "trusted"), ("ask", "a.example", 5, 3.0, True), ("drain",)])
    player.play([("octets", chunk) for chunk in chunks])
    player.play([("eof", orderly), *[("octets", chunk) for chunk in chunks], ("tick", 7.0), ("fail",)])
    assert player.mistakes == []
    assert isinstance(player.events[-1], ConnectionClosed)
    assert_ends_once(player.events)
    assert player.fates == {player.handles[0]: 1}


@given(st.lists(some_octets, max_size=12), st.booleans())
def test_no_octets_upset_a_server(chunks, orderly):
    """Nothing raises; one terminal event, the last of all (FRM-11, SRV-6)."""
    server = ServerConnection(now=0.0)
    events = [event for chunk in chunks for event in server.receive_data(chunk, now=1.0)]
    events += server.receive_eof(now=2.0, orderly=orderly)
    events += [event for chunk in chunks for event in server.receive_data(chunk, now=3.0)]
    events += server.handle_timeout(now=1e6)
    assert isinstance(events[-1], ConnectionClosed)
    assert_ends_once(events)
    assert server.next_timeout() is None


# Any order of calls


@given(some_calls)
def test_each_accepted_query_has_one_fate(calls):
    """Whatever is called in whatever order; the terminal event is the last of all."""
    player = Player()
    player.play(calls)
    assert all(count == 1 for count in player.fates.values() if count)
    player.play([("fail",), ("tick", 1e6)])
    assert all(player.fates[handle] == 1 for handle in player.handles)
    assert isinstance(player.events[-1], ConnectionClosed)
    assert_ends_once(player.events)
    assert player.client.next_timeout() is None


@given(some_calls, st.integers(0, 3))
def test_a_record_of_calls_replays(calls, seed):
    """The same calls, the same events and octets: nothing comes from a clock or from chance of the engine's own."""
    first, second = Player(seeded(seed)), Player(seeded(seed))
    first.play(calls)
    second.play(calls)
    assert first.transcript == second.transcript
    assert first.wires == second.wires
    assert repr(first.events) == repr(second.events)


@given(some_calls)
@example([("ask", "a.example", 0, 3.0, False), ("verify", "trusted"), ("drain",)])
@example([("ask", "a.example", 0, 3.0, False), ("verify", "impostor"), ("drain",)])
@settings(max_examples=2 * settings().max_examples)
def test_no_octet_before_an_accepting_verdict(calls):
    """Nor ever after a refusal: drained before and behind every call (AUT-1, AUT-2)."""
    player = Player()
    for call in calls:
        for step in (("drain",), call, ("drain",)):
            sent = len(player.wires)
            player.play([step])
            verdict = player.client.verdict
            assert len(player.wires) == sent or (verdict is not None and verdict.accepted)


@given(some_calls)
def test_after_a_tick_the_next_deadline_is_in_the_future(calls):
    """Or there is none; so that no driver ever spins."""
    player = Player()
    for call in calls:
        player.play([call, ("tick", 0.0)])
        deadline = player.client.next_timeout()
        assert deadline is None or deadline > player.now


@given(some_calls)
def test_what_is_in_flight_is_bounded_and_has_ids_of_its_own(calls):
    """What left and has no answer yet, given up or not, is ``max_in_flight`` at the most, each under its own id.

    The source of ids repeats itself, so that an id is drawn again as soon as it is free (MAT-1, MAT-2, MAT-18).
    """
    player = Player(entropy=always(7))
    in_flight: set[bytes] = set()
    for call in calls:
        if call[0] in ("octets", "end-exchange") or (call[0] == "ask" and call[-1]):
            continue  # one answer each, so that the answer frees the id
        sent, known = len(player.wires), len(player.events)
        player.play([call, ("drain",)])
        if any(is_the_answer(event) for event in player.events[known:]):
            in_flight.remove(player.wire(call[1])[:2])
        for wire in player.wires[sent:]:
            assert wire[:2] not in in_flight
            in_flight.add(wire[:2])
        assert len(in_flight) <= CONFIGURATION.max_in_flight


def is_the_answer(event) -> bool:
    """Whether it came in time or late."""
    return isinstance(event, ResponseReceived) or getattr(event, "reason", None) is DiscardReason.LATE


@given(some_calls, st.sampled_from(["query", "cancel", "end", "timeout", "close"]))
def test_a_mistake_changes_nothing(calls, mistake):
    """The calls that follow it come out as if it had not been made."""
    clean, erring = Player(), Player()
    for call in calls:
        with pytest.raises(LocalProtocolError):
            blunder(erring, mistake)
        clean.play([call])
        erring.play([call])
    assert erring.transcript == clean.transcript
    assert erring.client.next_timeout() == clean.client.next_timeout()


def blunder(player: Player, mistake: str) -> None:
    client, now = player.client, player.now
    match mistake:
        case "query":
            client.send_query(bytes(11), now=now)
        case "cancel":
            client.cancel(1 << 60, now=now)
        case "end":
            client.end_exchange(1 << 60, now=now)
        case "timeout":
            client.send_query(make_query("a.example"), now=now, timeout=-1.0)
        case _:
            client.close(now=now, timeout=-1.0)
