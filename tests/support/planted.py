"""How a planted bug is searched for: the same examples every time, and a bound on how many."""

from __future__ import annotations

from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from dot_proto.testing.connection_machine import ConnectionMachine

SEARCH = settings(
    max_examples=1000,
    stateful_step_count=50,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
)


def find_bug(machine: type[ConnectionMachine], search: settings = SEARCH) -> str:
    """What the machine complains of; an empty string: nothing."""
    try:
        run_state_machine_as_test(machine, settings=search)
    except AssertionError as error:
        return str(error)
    return ""
