"""The one table of moves: what is in it is legal, and nothing else is (design promise 8, CON-6, CON-16)."""

from __future__ import annotations

from itertools import product

import pytest

from dot_proto import Cause, State
from dot_proto._state import TRANSITIONS
from dot_proto.server import ServerConnection

ALL = list(product(State, Cause))
LIVE = [state for state in State if state is not State.CLOSED]
FATAL = [Cause.PEER_CLOSED, Cause.PEER_FAULT, Cause.TRANSPORT_FAILED]

# Written a second time, row by row, so that a change of the table must be meant.
EXPECTED = {
    State.UNVERIFIED: {
        State.OPEN: {Cause.PEER_TRUSTED},
        State.CLOSED: {Cause.PEER_REFUSED, Cause.LOCAL_CLOSE, *FATAL},
    },
    State.OPEN: {
        State.DRAINING: {Cause.LOCAL_CLOSE, Cause.GO_AWAY, Cause.PEER_FINISHED},
        State.CLOSED: {Cause.IDLE, *FATAL},
    },
    State.DRAINING: {
        State.DRAINING: {Cause.LOCAL_CLOSE, Cause.GO_AWAY, Cause.PEER_FINISHED},
        State.CLOSED: {Cause.DRAINED, Cause.CLOSE_TIMEOUT, *FATAL},
    },
    State.CLOSED: {},
}


def named(value: object) -> str:
    return value.name if isinstance(value, State | Cause) else repr(value)


def test_the_table():
    """Both readings of it agree."""
    table = {
        (state, cause): after
        for state, moves in EXPECTED.items()
        for after, causes in moves.items()
        for cause in causes
    }
    assert table == TRANSITIONS


@pytest.mark.parametrize(("state", "cause"), ALL, ids=named)
def test_every_pair_is_a_move_or_a_bug(state, cause):
    """A pair that is not in the table is a bug in the engine, and shows itself as such."""
    connection = ServerConnection(now=0.0)
    connection._state = state
    if (state, cause) in TRANSITIONS:
        connection._move(cause)
        assert connection.state is TRANSITIONS[state, cause]
    else:
        with pytest.raises(KeyError):
            connection._move(cause)
        assert connection.state is state


@pytest.mark.parametrize("state", LIVE, ids=named)
@pytest.mark.parametrize("cause", FATAL, ids=named)
def test_the_peer_can_end_every_state(state, cause):
    """Servers may close at any time; clients must survive it (CON-6; RFC 7858, section 3.4)."""
    assert TRANSITIONS[state, cause] is State.CLOSED


def test_there_is_no_way_back():
    """Trust comes once, from draining nothing but the end, and after the end nothing."""
    for (before, _), after in TRANSITIONS.items():
        assert before.value <= after.value
        assert before is not State.CLOSED


def test_only_trust_opens():
    """No query octet without a verdict (AUT-1)."""
    into_open = {pair for pair, after in TRANSITIONS.items() if after is State.OPEN}
    assert into_open == {(State.UNVERIFIED, Cause.PEER_TRUSTED)}


@pytest.mark.parametrize("state", LIVE, ids=named)
def test_every_state_has_an_end(state):
    """CON-6."""
    assert State.CLOSED in {after for (before, _), after in TRANSITIONS.items() if before is state}


@pytest.mark.parametrize("cause", Cause, ids=named)
def test_every_cause_moves_something(cause):
    """None is left over, and its code is its name, for logs."""
    assert any(each is cause for _, each in TRANSITIONS)
    assert cause.value == cause.name.lower().replace("_", "-")
