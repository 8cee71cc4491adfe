"""The resolver's simulation: it finds what is planted, a seed plays again, and the resolver keeps every law."""

from __future__ import annotations

import random
import runpy
import sys
from collections import Counter

import pytest

from dot_proto import ClientConnection
from dot_proto.resolver import _connections, _fates, _health, _placing, _receiving, _selection, _waiting, machine
from dot_proto.resolver.events import ForgetSessions, ResolverClosed
from dot_proto.testing import resolver as command
from dot_proto.testing.resolver import RUN_HOURS, SimulationError, check_resolver, main
from support.interpreted import interpreted
from support.planted import find_failure, plant_everybody_is_trusted, plant_octets_before_the_verdict

FIXED_SEEDS = range(24)
"The budget of every test run, 48 simulated hours.  All that can happen in the simulation happens in these."

FRESH_SEED = random.SystemRandom().randrange(1_000_000)
"The first seed of two more runs; another one each time the tests run."


@pytest.fixture(scope="module", name="budget")
def budget_fixture():
    """The fixed runs, each done once."""
    return [check_resolver(seed) for seed in FIXED_SEEDS]


def test_nothing_is_found(budget):
    """Every law holds at each step, in the same runs each time; RES-36, with 10,000 hours, is a matter of minutes."""
    assert [summary.hours for summary in budget] == [RUN_HOURS] * len(FIXED_SEEDS)


@pytest.mark.parametrize("seed", [FRESH_SEED, FRESH_SEED + 1])
def test_nothing_is_found_in_fresh_runs(seed):
    """Other seeds each time: the name of the test has the seed, and so has the error."""
    assert check_resolver(seed).hours == RUN_HOURS


def test_the_hours_are_not_empty(budget):
    """There are queries in every run, most of them are answered, and all that can happen happens often."""
    assert min(summary.counters["queries"] for summary in budget) > 100
    counters = sum((summary.counters for summary in budget), Counter())
    assert counters["answered"] > counters["queries"] * 0.8
    for fate in ("cancelled", "timed-out", "no-upstream", "lost", "closed", "turned away"):
        assert counters[fate] >= 10, fate
    for event in ("UpstreamDown", "UpstreamUp", "dials", "lookups", "lookups that failed", "sleeps"):
        assert counters[event] >= 10, event


def test_a_seed_is_one_run(budget):
    """The same seed, the same digest of all that happens; another seed, another one."""
    assert check_resolver(3) == budget[3]
    assert len({summary.digest for summary in budget}) == len(budget)


# Planted mistakes


def asks_four_times(patch):
    """RES-20: a query leaves once more."""
    patch.setattr(_receiving, "MAX_SENDS", 9)


def resends_what_is_not_safe(patch):
    """RFC 7766, section 6.2.4: an UPDATE is asked again."""
    plain = _receiving.Receiving._lost

    def lost(self, connection, event, *arguments):
        event.safe_to_resend = True
        plain(self, connection, event, *arguments)

    patch.setattr(_receiving.Receiving, "_lost", lost)


def forgets_queries_at_the_end_of_a_connection(patch):
    """RES-36: a query that was lost has no fate."""
    patch.setattr(
        _receiving.Receiving, "_lost", lambda self, connection, event, *_: connection.placed.pop(event.query, None)
    )


def forgets_to_tell_failures(patch):
    """RES-36: a query that has failed has no fate."""
    patch.setattr(_fates.Fates, "fail", lambda self, query, reason, **_: self.open.pop(query.handle))


def tells_answers_twice(patch):
    """RES-36: a query has two fates."""
    plain = _receiving.Receiving._received

    def received(self, *arguments):
        plain(self, *arguments)
        self._fates.untold += self._fates.untold[-1:]

    patch.setattr(_receiving.Receiving, "_received", received)


def swaps_answers(patch):
    """An answer is told of the query asked before."""
    plain = _fates.Fates.answer

    def answer(self, query, answered):
        other = self.open.get(query.handle - 1, query)
        answered.query = other.handle
        plain(self, other, answered)

    patch.setattr(_fates.Fates, "answer", answer)


def miscounts_what_has_not_left(patch):
    """RES-44: a query that has not left on a connection is taken for one that has."""
    plain = _connections.Connections.drop

    def drop(self, connection):
        queries = list(connection.placed.values())
        plain(self, connection)
        for query in queries:
            query.sends += 1

    patch.setattr(_connections.Connections, "drop", drop)


def forgets_cancelled_queries_on_connections(patch):
    """RES-37: a query that was cancelled during the handshake leaves all the same."""
    patch.setattr(ClientConnection, "cancel", lambda self, query, *, now: True)


def never_waits_before_it_tries_again(patch):
    """RES-31: no delay after a failure."""
    patch.setattr(_health.UpstreamHealth, "retry_at", lambda self, *, is_waited_for: self._failed_at)


def never_tries_again(patch):
    """RES-31: an upstream that is down stays down."""
    patch.setattr(_health.UpstreamHealth, "retry_at", lambda self, *, is_waited_for: float("inf"))


def takes_refusals_for_failures(patch):
    """RES-32: a server that was not authenticated is judged again soon."""
    plain = _connections.Connections.step

    def step(self, record, sign, failure=None, *, now):
        plain(self, record, _health.Sign.FAILED if sign is _health.Sign.REFUSED else sign, failure, now=now)

    patch.setattr(_connections.Connections, "step", step)


def lets_deadlines_pass(patch):
    """RES-36: who waits, waits for ever."""
    patch.setattr(_waiting.Waiting, "earliest_deadline", lambda self: float("inf"))


def prefers_the_last_upstream(patch):
    """RES-30: the order is turned round."""
    plain = _selection.Selection.order
    patch.setattr(_selection.Selection, "order", lambda self, now: plain(self, now)[::-1])


def asks_two_upstreams_in_turns(patch):
    """RES-30: a query goes to the second upstream whenever the first has no place."""
    plain = _selection.Selection.choose

    def choose(self, order, now):
        found = plain(self, order, now)
        others = (record.takes() for record in order if record.health.is_up)
        return found or next((connection for connection in others if connection is not None), None)

    patch.setattr(_selection.Selection, "choose", choose)


def blames_upstreams_for_another_network(patch):
    """RES-41: the silence of a connection that was left behind takes its upstream down."""

    def blame(self, connection, phase, text, *, now):
        failure = _connections.UpstreamFailure(phase, connection.address, text)
        self.step(connection.record, _health.Sign.FAILED, failure, now=now)

    patch.setattr(_connections.Connections, "blame", blame)


def keeps_sessions(patch):
    """RES-41: sessions are offered in another network."""
    plain = machine.StubResolver.duties

    def duties(self):
        actions, unflushed, due = plain(self)
        return [action for action in actions if not isinstance(action, ForgetSessions)], unflushed, due

    patch.setattr(machine.StubResolver, "duties", duties)


def never_gives_up_what_is_silent(patch):
    """RES-21: a connection is waited for, for ever."""
    patch.setattr(_connections.UpstreamConnection, "silence_at", lambda self, patience: float("inf"))


def opens_without_a_limit(patch):
    """RES-11: another connection for whoever finds no place."""
    patch.setattr(_connections.UpstreamRecord, "may_open", lambda self, most: self.race is None)


def opens_without_need(patch):
    """RES-17: a connection that has ended is opened again, though nobody asks."""
    plain = _connections.Connections.drop

    def drop(self, connection):
        plain(self, connection)
        if connection.record.race is None and connection.verdict is not None:
            self.begin(connection.record, now=connection.opened_at)

    patch.setattr(_connections.Connections, "drop", drop)


def forgets_the_losers_of_a_race(patch):
    """RES-15: a connection that is not needed is not abandoned."""
    plain = _connections.Connections._abandon

    def abandon(self, connection):
        plain(self, connection)
        self.actions.pop()

    patch.setattr(_connections.Connections, "_abandon", abandon)


def loses_what_waited_on_a_loser(patch):
    """RES-15: queries on a connection that is not needed are not asked elsewhere."""
    plain = _connections.Connections.drop

    def drop(self, connection):
        plain(self, connection)
        self.returned.clear()

    patch.setattr(_connections.Connections, "drop", drop)


def ends_too_early(patch):
    """RES-38: the last event comes before the last connection has ended."""
    plain = machine.StubResolver.close

    def close(self, **times):
        plain(self, **times)
        if not self._has_ended:
            self._has_ended = True
            self._fates.untold.append(ResolverClosed())

    patch.setattr(machine.StubResolver, "close", close)


def never_ends(patch):
    """RES-38: nobody hears that all is over."""
    plain = machine.StubResolver._settle

    def settle(self, now):
        plain(self, now)
        self._fates.untold = [event for event in self._fates.untold if not isinstance(event, ResolverClosed)]

    patch.setattr(machine.StubResolver, "_settle", settle)


def wants_to_be_woken_at_once(patch):
    """Design, section 3: after ``handle_timeout(now)`` the next deadline is later than ``now``."""
    plain = _connections.Connections.handle_timeout

    def handle_timeout(self, records, *, now):
        plain(self, records, now=now)
        self.ring_at(now)

    patch.setattr(_connections.Connections, "handle_timeout", handle_timeout)


def raises(patch):
    """An error in the machine itself."""

    def place_waiting(self, now):
        raise KeyError("planted")

    patch.setattr(_placing.Placing, "place_waiting", place_waiting)


PLANTS = {
    asks_four_times: "leaves more than 3 times",
    resends_what_is_not_safe: "leaves twice, and is not safe to resend",
    plant_octets_before_the_verdict: "an octet leaves before the verdict",
    plant_everybody_is_trusted: "an octet is shown to a server that was not authenticated",
    forgets_queries_at_the_end_of_a_connection: "queries have no fate",
    forgets_to_tell_failures: "queries have no fate",
    tells_answers_twice: "a second fate, or that of no query",
    swaps_answers: "answers another",
    miscounts_what_has_not_left: "an answer after . sendings says .",
    forgets_cancelled_queries_on_connections: "is asked for, though its query has had its fate",
    never_waits_before_it_tries_again: "vain dials of one address",
    never_tries_again: "all works again, and a query is not answered",
    takes_refusals_for_failures: "a server that was refused is judged again",
    lets_deadlines_pass: "after its deadline",
    prefers_the_last_upstream: "is shown to a second upstream while the first works",
    asks_two_upstreams_in_turns: "is shown to a second upstream while the first works",
    blames_upstreams_for_another_network: "the first upstream works, and is said to be down",
    keeps_sessions: "with the TLS sessions of another network",
    never_gives_up_what_is_silent: "all works again, and a query is answered .* too late|and a query is not answered",
    opens_without_a_limit: "connections of one upstream",
    opens_without_need: "a connection is opened, and nobody asks",
    forgets_the_losers_of_a_race: "connections of one upstream|connections are left",
    loses_what_waited_on_a_loser: "queries have no fate",
    ends_too_early: "an event after the last",
    never_ends: "the resolver never ends",
    wants_to_be_woken_at_once: "due again at once",
    raises: "KeyError was raised",
}
"Each mistake, and the words of the law that it breaks."


@interpreted
@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_planted_mistake_is_found(monkeypatch, plant):
    """Within the fixed budget, and with the words that say what is wrong; the seed finds it again."""
    plant(monkeypatch)
    error = find_failure(check_resolver, FIXED_SEEDS, PLANTS[plant])
    with pytest.raises(SimulationError) as again:
        check_resolver(error.seed)
    assert str(again.value) == str(error)
    assert again.value.trace == error.trace


# The command


def test_the_command(capsys, monkeypatch, budget):
    """It says what was done; where something is wrong, how to see it again."""
    monkeypatch.setattr(command, "check_resolver", budget.__getitem__)
    assert main(["--hours", "3", "--seed", "5"]) == 0
    text = capsys.readouterr().out
    queries = budget[5].counters["queries"] + budget[6].counters["queries"]
    assert text.startswith(f"4 hours, seeds 5 to 6, {queries:,} queries; nothing found\n")

    def fails(seed):
        raise SimulationError("something is wrong", seed, 1.0, ["a step"])

    monkeypatch.setattr(command, "check_resolver", fails)
    assert main(["--hours", "3", "--seed", "7"]) == 1
    text = capsys.readouterr().out
    assert text.startswith("FAILED: seed 7, after 1.000 hours: something is wrong\n")
    assert text.endswith("\nAgain: python -m dot_proto.testing.resolver --hours 2 --seed 7\n")


def test_as_a_module(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["resolver", "--hours", "1", "--seed", "5"])
    monkeypatch.delitem(sys.modules, "dot_proto.testing.resolver")
    # pytest's own finder, which takes every module of a wheel with a plugin in it, cannot do what runpy asks for.
    finders = [finder for finder in sys.meta_path if not type(finder).__module__.startswith("_pytest.")]
    monkeypatch.setattr(sys, "meta_path", finders)
    with pytest.raises(SystemExit) as left:
        runpy.run_module("dot_proto.testing.resolver", run_name="__main__")
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith("2 hours, seeds 5 to 5, ")
