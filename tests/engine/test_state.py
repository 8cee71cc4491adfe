"""The one table of moves: what is in it is legal, and nothing else is (design promise 8, CON-6, CON-16)."""

from __future__ import annotations

from itertools import product

import pytest

from dot_proto import Cause, State
from dot_proto._state import TRANSITIONS, Step
from dot_proto.server import ServerConnection

ALL = list(product(State, Step))
LIVE = [state for state in State if state is not State.CLOSED]
FATAL = [Step.PEER_CLOSED, Step.PEER_FAULT, Step.TRANSPORT_FAILED]

# Written a second time, row by row, so that a change of the table must be meant.
EXPECTED = {
    State.UNVERIFIED: {
        State.OPEN: {Step.PEER_TRUSTED},
        State.CLOSED: {Step.PEER_REFUSED, Step.LOCAL_CLOSE, *FATAL},
    },
    State.OPEN: {
        State.DRAINING: {Step.LOCAL_CLOSE, Step.GO_AWAY, Step.EXHAUSTED, Step.KEY_LIMIT, Step.PEER_FINISHED},
        State.CLOSED: {Step.IDLE, Step.PEER_SILENT, *FATAL},
    },
    State.DRAINING: {
        State.DRAINING: {Step.LOCAL_CLOSE, Step.GO_AWAY, Step.PEER_FINISHED},
        State.CLOSED: {Step.DRAINED, Step.CLOSE_TIMEOUT, Step.PEER_SILENT, *FATAL},
    },
    State.CLOSED: {},
}


def named(value: object) -> str:
    return value.name if isinstance(value, State | Step) else repr(value)


def test_the_table():
    """Both readings of it agree."""
    table = {
        (state, step): after for state, moves in EXPECTED.items() for after, steps in moves.items() for step in steps
    }
    assert table == TRANSITIONS


@pytest.mark.parametrize(("state", "step"), ALL, ids=named)
def test_every_pair_is_a_move_or_a_bug(state, step):
    """A pair that is not in the table is a bug in the engine, and shows itself as such."""
    connection = ServerConnection(now=0.0)
    connection._state = state
    if (state, step) in TRANSITIONS:
        connection._move(step)
        assert connection.state is TRANSITIONS[state, step]
    else:
        with pytest.raises(KeyError):
            connection._move(step)
        assert connection.state is state


@pytest.mark.parametrize("state", LIVE, ids=named)
@pytest.mark.parametrize("step", FATAL, ids=named)
def test_the_peer_can_end_every_state(state, step):
    """Servers may close at any time; clients must survive it (CON-6; RFC 7858, section 3.4)."""
    assert TRANSITIONS[state, step] is State.CLOSED


def test_there_is_no_way_back():
    """Trust comes once, from draining nothing but the end, and after the end nothing."""
    for (before, _), after in TRANSITIONS.items():
        assert before.value <= after.value
        assert before is not State.CLOSED


def test_only_trust_opens():
    """No query octet without a verdict (AUT-1)."""
    into_open = {pair for pair, after in TRANSITIONS.items() if after is State.OPEN}
    assert into_open == {(State.UNVERIFIED, Step.PEER_TRUSTED)}


@pytest.mark.parametrize("state", LIVE, ids=named)
def test_every_state_has_an_end(state):
    """CON-6."""
    assert State.CLOSED in {after for (before, _), after in TRANSITIONS.items() if before is state}


@pytest.mark.parametrize("step", Step, ids=named)
def test_every_step_moves_something(step):
    """None is left over, and its code is its name."""
    assert any(each is step for _, each in TRANSITIONS)
    assert step.value == step.name.lower().replace("_", "-")


def test_what_is_told():
    """Every step but two can be the reason of an end or of a graceful close, under the same code."""
    assert {cause.value for cause in Cause} == {step.value for step in Step} - {"peer-trusted", "drained"}
    assert [cause.value for cause in Cause] == [cause.name.lower().replace("_", "-") for cause in Cause]
