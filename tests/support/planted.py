"""How a planted bug is searched for: the same examples every time, and a bound on how many."""

from __future__ import annotations

from hypothesis import Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from dot_proto.testing.connection_machine import ConnectionMachine

ROUNDS = 25
"Searches at the most, each from another seed: one that goes astray is soon given up."

SEARCH = settings(
    max_examples=40,
    stateful_step_count=50,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
)


def find_bug(machine: type[ConnectionMachine]) -> str:
    """What the machine complains of; an empty string: nothing."""
    for number in range(ROUNDS):
        try:
            run_state_machine_as_test(seed(number)(machine), settings=SEARCH)
        except AssertionError as error:
            return str(error)
    return ""
