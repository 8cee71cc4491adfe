"""The simulator: it finds what is planted, it can be played again, and it finds nothing in the engine as it is."""

from __future__ import annotations

import ast
import io
import os
import random
import re
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import dot_proto
from dot_proto import (
    ClientConnection,
    ConnectionClosed,
    Deframer,
    MessageDiscarded,
    QueryLost,
    QueryReceived,
    QueryTimedOut,
    ResponseReceived,
    ServerConnection,
    State,
)
from dot_proto import client as client_module
from dot_proto._matching import Outstanding
from dot_proto.testing import simulate as simulate_module
from dot_proto.testing.simulate import HISTORY_HOURS, SimulationError, histories, main, simulate

HOME = Path(dot_proto.__file__).parent

FIXED_SEEDS = range(12)
"""The budget of every run: 1200 simulated hours.  Whatever can happen in the simulator happens in these."""

FRESH = random.SystemRandom().randrange(1_000_000)
"Where two more histories begin, others in every run."


@pytest.mark.parametrize("seed", FIXED_SEEDS)
def test_nothing_is_found(seed):
    """The same histories in every run: each invariant holds at each call."""
    summary = simulate(seed)
    assert summary.hours == HISTORY_HOURS
    assert summary.tally["queries"]


@pytest.mark.parametrize("seed", [FRESH, FRESH + 1])
def test_nothing_is_found_in_fresh_histories(seed):
    """Others in each run; the seed of a failure is in its message."""
    simulate(seed)


def test_the_hours_are_not_empty():
    """In the fixed budget everything happens that a connection can meet, and most of it often."""
    total = sum((simulate(seed).tally for seed in FIXED_SEEDS[1:]), simulate(FIXED_SEEDS[0]).tally)
    print(total)
