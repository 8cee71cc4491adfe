"""Hours of a resolver's life, and faults planted into it that they must find (resolver.md, section 3.5)."""

from __future__ import annotations

import runpy
import sys
from collections import Counter

import pytest

from dot_proto.resolver import _connections, _fates, _health, _selection, _waiting, machine
from dot_proto.testing.resolver import SimulationError, check_resolver, main


@pytest.mark.parametrize("seed", range(16))
def test_a_few_hours(seed):
    """Thirty-two hours in all; ten thousand are a matter of a quarter of an hour."""
    counters = check_resolver(seed)
    assert counters["queries"] > 100
    assert counters["answered"] > counters["queries"] // 10


def test_the_command(capsys, monkeypatch):
    """It says what was done; where something is wrong, how to see it again."""
    assert main(["--hours", "3", "--seed", "5"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("4 hours, seeds 5 to 6; nothing found\n")
    assert "  queries\n" in text
    monkeypatch.setattr(sys, "argv", ["resolver", "--hours", "1", "--seed", "5"])
    monkeypatch.delitem(sys.modules, "dot_proto.testing.resolver")
    # pytest's own finder, which takes every module of a wheel with a plugin in it, cannot do what runpy asks for.
    finders = [finder for finder in sys.meta_path if not type(finder).__module__.startswith("_pytest.")]
    monkeypatch.setattr(sys, "meta_path", finders)
    with pytest.raises(SystemExit) as left:
        runpy.run_module("dot_proto.testing.resolver", run_name="__main__")
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith("2 hours, seeds 5 to 5; nothing found\n")
    tells_answers_twice(monkeypatch)
    assert main(["--hours", "3"]) == 1
    text = capsys.readouterr().out
    assert "FAILED: " in text
    assert "Again: python -m dot_proto.testing.resolver --hours 2 --seed " in text


def test_a_seed_is_one_run():
    assert check_resolver(3) == check_resolver(3)


def asks_too_often(patch):
    patch.setattr(machine, "MAX_SENDS", 5)


def forgets_to_tell_failures(patch):
    patch.setattr(_fates.Fates, "fail", lambda self, query, reason, **_: self.open.pop(query.handle))


def tells_answers_twice(patch):
    plain = machine.StubResolver._received

    def received(self, *arguments):
        plain(self, *arguments)
        self._fates.untold += self._fates.untold[-1:]

    patch.setattr(machine.StubResolver, "_received", received)


def never_waits_before_it_tries_again(patch):
    patch.setattr(_health.UpstreamHealth, "retry_at", lambda self, *, is_waited_for: self._failed_at)


def lets_deadlines_pass(patch):
    patch.setattr(_waiting.Waiting, "earliest_deadline", lambda self: float("inf"))


def prefers_the_last_upstream(patch):
    plain = _selection.Selection.order
    patch.setattr(_selection.Selection, "order", lambda self, now: plain(self, now)[::-1])


def never_gives_up_what_is_silent(patch):
    patch.setattr(_connections.Connections, "_suspect", lambda self, connection, *, now: None)


def opens_without_a_limit(patch):
    patch.setattr(_connections.UpstreamRecord, "may_open", lambda self, most: self.race is None)


def forgets_the_losers_of_a_race(patch):
    plain = _connections.Connections._abandon

    def abandon(self, connection):
        plain(self, connection)
        self.actions.pop()

    patch.setattr(_connections.Connections, "_abandon", abandon)


def loses_what_waited_on_a_loser(patch):
    plain = _connections.Connections.drop

    def drop(self, connection):
        plain(self, connection)
        self.returned.clear()

    patch.setattr(_connections.Connections, "drop", drop)


def takes_refusals_for_failures(patch):
    plain = _connections.Connections.step

    def step(self, record, sign, failure=None, *, now):
        plain(self, record, _health.Sign.FAILED if sign is _health.Sign.REFUSED else sign, failure, now=now)

    patch.setattr(_connections.Connections, "step", step)


@pytest.mark.parametrize(
    "plant",
    [
        asks_too_often,
        forgets_to_tell_failures,
        tells_answers_twice,
        never_waits_before_it_tries_again,
        lets_deadlines_pass,
        prefers_the_last_upstream,
        never_gives_up_what_is_silent,
        opens_without_a_limit,
        forgets_the_losers_of_a_race,
        loses_what_waited_on_a_loser,
        takes_refusals_for_failures,
    ],
)
def test_planted_faults_are_found(plant, monkeypatch):
    plant(monkeypatch)
    with pytest.raises(SimulationError):
        sum(map(check_resolver, range(30)), Counter())
