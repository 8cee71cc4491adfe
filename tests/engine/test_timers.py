"""Deadlines in slots: the earliest wins, and a time that has come is due at that very tick."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dot_proto._timers import Slot, Timers
from support.messages import just_before

slots = st.sampled_from(Slot)
times = st.floats(allow_nan=False)


def test_nothing_is_armed_at_first():
    """No deadline is infinitely far away, never due."""
    timers = Timers()
    assert timers.earliest() == math.inf
    for slot in Slot:
        assert timers.deadline(slot) == math.inf
        assert not timers.is_due(slot, 1e300)


@given(st.lists(st.tuples(slots, times)))
def test_the_earliest_of_the_last_settings_wins(settings):
    """Setting a slot moves it; each slot holds one deadline."""
    timers = Timers()
    for slot, deadline in settings:
        timers.set(slot, deadline)
    last = dict(settings)
    assert timers.earliest() == min(last.values(), default=math.inf)
    assert {slot: timers.deadline(slot) for slot in Slot} == {slot: last.get(slot, math.inf) for slot in Slot}


@given(slots, st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300))
def test_due_at_the_tick(slot, deadline):
    """Not one float before the deadline, and at it and ever after."""
    timers = Timers()
    timers.set(slot, deadline)
    assert not timers.is_due(slot, just_before(deadline))
    assert timers.is_due(slot, deadline)
    assert timers.is_due(slot, math.nextafter(deadline, math.inf))
    assert not any(timers.is_due(other, deadline) for other in Slot if other is not slot)


def test_stopping():
    """One slot, and it may be stopped already."""
    timers = Timers()
    timers.set(Slot.IDLE, 1.0)
    timers.set(Slot.CLOSE, 2.0)
    timers.stop(Slot.IDLE)
    timers.stop(Slot.IDLE)
    assert timers.deadline(Slot.IDLE) == math.inf
    assert timers.earliest() == 2.0


def test_clearing():
    """Every slot."""
    timers = Timers()
    for slot in Slot:
        timers.set(slot, 1.0)
    timers.clear()
    assert timers.earliest() == math.inf


@pytest.mark.parametrize("armed", [True, False])
def test_infinity_disarms(armed):
    """A deadline that never comes is no deadline."""
    timers = Timers()
    if armed:
        timers.set(Slot.IDLE, 1.0)
    timers.set(Slot.IDLE, math.inf)
    assert timers.earliest() == math.inf
    assert timers.deadline(Slot.IDLE) == math.inf
