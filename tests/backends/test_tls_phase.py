"""The table of phases: what is in it is legal, and nothing else is; a deadline ends with its phase."""

from __future__ import annotations

import math
from itertools import pairwise, product
from typing import Any

import pytest

from dot_io.tls import TLSClient, TLSServer
from dot_io.tls._phase import MOVES, Inbound, Phase, Step
from dot_io.tls.server import LINGER_TIMEOUT
from dot_io.tls.session import HANDSHAKE_TIMEOUT
from dot_proto.testing.duties import CLOSE, SILENCE, every_moment
from dot_proto.testing.exchange import START, Action, Exchange, Plan
from support.pki import Pki
from support.pki import pki_fixture as pki_fixture
from support.sessions import PLAIN, TLS_ENDS, Kind

# Written a second time, row by row, so that a change of the table must be meant.
EXPECTED = {
    Phase.HANDSHAKE: {Step.HANDSHAKE_COMPLETE: Phase.OPEN, Step.ENGINE_ENDED: Phase.DONE},
    Phase.OPEN: {Step.ENGINE_ENDED: Phase.LINGERING},
    Phase.LINGERING: {Step.WAIT_OVER: Phase.DONE},
    Phase.DONE: {},
}


def named(value: object) -> str:
    return value.name if isinstance(value, Phase | Step) else repr(value)


def server(pki: Pki) -> TLSServer:
    return Kind().maker(pki)(START)[1]  # type: ignore[return-value]


def test_the_table() -> None:
    """Both readings of it agree."""
    assert {(phase, step): after for phase, moves in EXPECTED.items() for step, after in moves.items()} == MOVES


@pytest.mark.parametrize(("phase", "step"), list(product(Phase, Step)), ids=named)
def test_every_pair_is_a_move_or_a_bug(pki: Pki, phase: Phase, step: Step) -> None:
    """A pair that is not in the table is a bug in the session, and shows itself as such."""
    session = server(pki)
    session._phase = phase
    if (phase, step) in MOVES:
        session._move(step)
        assert session._phase is MOVES[phase, step]
    else:
        with pytest.raises(KeyError):
            session._move(step)
        assert session._phase is phase


@pytest.mark.parametrize(("phase", "step"), list(MOVES), ids=named)
def test_a_deadline_ends_with_its_phase(pki: Pki, phase: Phase, step: Step) -> None:
    """No move leaves the deadline of the phase before it behind."""
    session = server(pki)
    session._phase, session._deadline = phase, START + 1.0
    session._move(step)
    assert session._deadline == math.inf


def test_there_is_no_way_back() -> None:
    """Phases follow one another, and each leads to the last."""
    order = list(Phase)
    assert all(order.index(before) < order.index(after) for (before, _), after in MOVES.items())
    assert {before for before, _ in MOVES} == {*Phase} - {Phase.DONE}


def test_every_step_moves_something() -> None:
    assert {step for _, step in MOVES} == {*Step}


def test_the_deadline_of_each_phase(pki: Pki) -> None:
    """That of the handshake, then none but the engine's, then how long the client may take to close TCP."""
    client, session = Kind().maker(pki)(START)
    exchange = Exchange((client, session), Plan((Action(CLOSE, True, 6), Action(SILENCE, True, 7)), asks=()))
    seen: dict[Phase, set[float]] = {}

    def watch(*_: object) -> None:
        seen.setdefault(session._phase, set()).add(session._deadline - exchange.now)

    watch()
    for verb in ("receive_data", "handle_timeout"):
        watched(session, verb, watch)
    exchange.play()
    assert seen == {
        Phase.HANDSHAKE: {HANDSHAKE_TIMEOUT},
        Phase.OPEN: {math.inf},
        Phase.LINGERING: {LINGER_TIMEOUT},
        Phase.DONE: {math.inf},
    }


@pytest.mark.parametrize("kind", PLAIN)
def test_what_is_known_of_the_peer_only_grows(pki: Pki, kind: str) -> None:
    """An end in order is never taken back, and the end of TCP is the last thing that is learnt."""
    make = PLAIN[kind].maker(pki, client=Noted, server=NotedServer)
    seen: set[tuple[Inbound, ...]] = set()
    for end in TLS_ENDS:
        for at_server in (False, True):
            for exchange in every_moment(make, end, at_server=at_server, plan=Plan(needless=True)):
                for side in (exchange.client, exchange.server):
                    learnt = side.session.learnt  # type: ignore[attr-defined]
                    assert all(before < after for before, after in pairwise(learnt))
                    seen.add(tuple(learnt))
    assert (Inbound.OPEN, Inbound.CLOSE_NOTIFY, Inbound.EOF) in seen
    assert (Inbound.OPEN, Inbound.EOF) in seen


class Noting:
    """Notes what is learnt of the peer."""

    learnt: list[Inbound]

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_inbound":
            self.__dict__.setdefault("learnt", [])
            if self.learnt[-1:] != [value]:
                self.learnt.append(value)
        super().__setattr__(name, value)


class Noted(Noting, TLSClient):
    pass


class NotedServer(Noting, TLSServer):
    pass


def watched(session: Any, verb: str, watch: Any) -> None:
    """Have a look after each call of the verb."""
    original = getattr(session, verb)

    def call(*arguments: object, **named: object) -> object:
        result = original(*arguments, **named)
        watch()
        return result

    setattr(session, verb, call)
