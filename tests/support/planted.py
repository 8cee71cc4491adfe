"""How a planted bug is searched for: the same examples every time, and a bound on how many."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from hypothesis import Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

import dot_proto.client
from dot_proto import ClientConnection, State
from dot_proto.testing.connection_machine import ConnectionMachine
from dot_proto.testing.simulate import SimulationError

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


def find_failure(check: Callable[[int], object], seeds: Iterable[int], words: str) -> SimulationError:
    """The first failure of a simulation that says so; others may come before, for most bugs break many laws."""
    others = list[str]()
    for number in seeds:
        try:
            check(number)
        except SimulationError as error:
            if re.search(words, error.text):
                return error
            others.append(error.text)
    pytest.fail(f"not found; but {others}")


def plant_octets_before_the_verdict(patch: pytest.MonkeyPatch) -> None:
    """What is held leaves as soon as it is asked for."""
    honest = ClientConnection.data_to_send

    def data_to_send(self: ClientConnection) -> list[bytes]:
        return list(self._outgoing.values()) if self.state is State.UNVERIFIED else honest(self)

    patch.setattr(ClientConnection, "data_to_send", data_to_send)


def plant_everybody_is_trusted(patch: pytest.MonkeyPatch) -> None:
    """The verdict accepts whoever answers."""
    honest = dot_proto.client.judge
    patch.setattr(dot_proto.client, "judge", lambda *each: replace(honest(*each), accepted=True))
