"""The simulator: it finds what is planted, a seed plays again, and it finds nothing in the engine as it is."""

from __future__ import annotations

import io
import os
import random
import re
import runpy
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import dot_proto
from dot_proto import (
    Cause,
    ClientConnection,
    ConnectionClosed,
    DiscardReason,
    MessageDiscarded,
    QueryLost,
    QueryTimedOut,
    ResponseReceived,
    ServerConnection,
    make_query,
)
from dot_proto._matching import Outstanding
from dot_proto._state import Step
from dot_proto.testing import simulate as command
from dot_proto.testing._simulation.hostile_peers import HostileHost, HostileServer
from dot_proto.testing._simulation.network import (
    AFTERWARDS,
    READ_SIZE,
    START,
    TCP_ROOM,
    End,
    Link,
    LinkConditions,
    Pipe,
    Scheduler,
    Segmentation,
)
from dot_proto.testing._simulation.workload import Host, Network
from dot_proto.testing.simulate import RUN_HOURS, SimulationError, Summary, main, runs, simulate
from support.interpreted import interpreted
from support.planted import find_failure, plant_everybody_is_trusted, plant_octets_before_the_verdict

HOME = Path(dot_proto.__file__).parent

FIXED_SEEDS = range(12)
"""The budget of every test run, 1200 simulated hours. All that can happen in the simulator happens in these."""

FRESH_SEED = random.SystemRandom().randrange(1_000_000)
"The first seed of two more runs; another one each time the tests run."


# The engine as it is


@pytest.fixture(scope="module", name="budget")
def budget_fixture() -> list[Summary]:
    """The fixed runs, each done once."""
    return [simulate(seed) for seed in FIXED_SEEDS]


def test_nothing_is_found(budget):
    """Each invariant holds at each call, in the same runs each time."""
    assert [summary.hours for summary in budget] == [RUN_HOURS] * len(FIXED_SEEDS)


def test_what_was_found_once():
    """A client that had ended kept the deadlines of queries that were over (seed 215488)."""
    assert simulate(215_488).hours == RUN_HOURS


@pytest.mark.parametrize("seed", [FRESH_SEED, FRESH_SEED + 1])
def test_nothing_is_found_in_fresh_runs(seed):
    """Other seeds each time: the name of the test has the seed, and so has the error."""
    assert simulate(seed).hours == RUN_HOURS


@pytest.mark.parametrize("habit", ["_keepalive", "_in_parts", "_flood", "_leave"])
def test_nothing_is_found_where_rogues_have_one_habit(monkeypatch, habit):
    """Each message of theirs says something odd of the idle timeout, answers nothing, or is their last."""
    monkeypatch.setattr(HostileServer, "_answer", getattr(HostileServer, habit))
    assert simulate(1).counters["queries"]


def test_the_hours_are_not_empty(budget):
    """There are queries in every run; in all of them each fate is met, and each end, and most of them often."""
    assert min(summary.counters["queries"] for summary in budget) > 0
    counters = sum((summary.counters for summary in budget), Counter())
    assert counters["queries"] > 3 * len(budget) * RUN_HOURS
    for fate in ("answered", "timed out", "cancelled", "lost", "resent", "refused at the caller", "declined"):
        assert counters[fate] >= 20, fate
    causes = set(Cause)
    met = {cause for cause in causes if any(what.startswith(cause.value) for what in counters)}
    assert met == causes
    reasons = set(DiscardReason) - {DiscardReason.NOT_A_QUERY}
    assert {reason for reason in reasons if counters[f"discarded: {reason.value}"]} == reasons


def test_a_seed_is_a_run(budget):
    """The same seed, the same digest of all that happens; another seed, another one."""
    assert simulate(3) == budget[3]
    assert len({summary.digest for summary in budget}) == len(budget)


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_a_seed_is_a_run_in_any_process(budget, hash_seed):
    """Nothing depends on an address or on ``hash()``, which differs between processes."""
    code = "from dot_proto.testing.simulate import simulate; print(simulate(0).digest)"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(HOME.parent)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == budget[0].digest


def test_runs_follow_each_other(monkeypatch, budget):
    """Whole ones, until the hours are full."""
    monkeypatch.setattr(command, "simulate", budget.__getitem__)
    assert list(runs(RUN_HOURS + 1, 2)) == budget[2:4]


# Planted bugs


def plant_swapped_answers(patch):
    """Two answers of one read change places."""
    honest = ClientConnection.receive_data

    def receive_data(self, data, *, now):
        events = honest(self, data, now=now)
        answers = [event for event in events if isinstance(event, ResponseReceived)]
        if len(answers) > 1:
            answers[0].query, answers[1].query = answers[1].query, answers[0].query
        return events

    patch.setattr(ClientConnection, "receive_data", receive_data)


def plant_forgotten_query(patch):
    """At the end of the stream one query is not told of."""
    honest = ClientConnection.receive_eof

    def receive_eof(self, *, now, orderly=True):
        events = honest(self, now=now, orderly=orderly)
        return events[1:] if len(events) > 1 else events

    patch.setattr(ClientConnection, "receive_eof", receive_eof)


def plant_two_fates(patch):
    """A query that has timed out is lost as well."""
    honest = ClientConnection.handle_timeout

    def handle_timeout(self, *, now):
        events = honest(self, now=now)
        twice = [
            QueryLost(query=event.query, safe_to_resend=True, was_sent=True)
            for event in events
            if isinstance(event, QueryTimedOut)
        ]
        return [*events, *twice]

    patch.setattr(ClientConnection, "handle_timeout", handle_timeout)


def plant_answered_twice(patch):
    """An answer that comes twice is delivered twice."""
    honest, answers = ClientConnection.receive_data, {}

    def receive_data(self, data, *, now):
        events = honest(self, data, now=now)
        for number, event in enumerate(events):
            match event:
                case ResponseReceived():
                    answers[self, event.message[12:]] = event
                case MessageDiscarded():
                    events[number] = answers.get((self, event.message[12:]), event)
        return events

    patch.setattr(ClientConnection, "receive_data", receive_data)


def plant_timeouts_ignored(patch):
    """A query's deadline comes, and nothing is done."""
    patch.setattr(Outstanding, "expire", lambda self, now: [])


def plant_timeouts_unsaid(patch):
    """The driver is not told of the queries' deadlines."""
    patch.setattr(ClientConnection, "_next_query_deadline", lambda self: float("inf"))


def plant_early_timeouts(patch):
    """Queries time out one second before their time."""
    honest = Outstanding.expire
    patch.setattr(Outstanding, "expire", lambda self, now: honest(self, now + 1.0))


def plant_restless_timer(patch):
    """To look at the clock moves the idle time."""
    honest = ClientConnection.handle_timeout

    def handle_timeout(self, *, now):
        events = honest(self, now=now)
        self._restart_idle_timer(now)
        return events

    patch.setattr(ClientConnection, "handle_timeout", handle_timeout)


def plant_id_used_twice(patch):
    """The id of a query given up is drawn again before its answer came."""

    def add(self, query):
        wire_id = self._draw_id()
        while wire_id in self.pending:
            wire_id = (wire_id + 1) % 65_536
        query.handle = self.count << 16 | wire_id
        self.count += 1
        self.pending[wire_id] = query
        self._earliest = min(self._earliest, query.deadline)
        return wire_id

    patch.setattr(Outstanding, "add", add)


def plant_id_free_at_once(patch):
    """A query given up is forgotten, and its id is free."""
    honest = ClientConnection._abandon

    def abandon(self, query):
        honest(self, query)
        self._outstanding.abandoned.pop(query.wire_id, None)

    patch.setattr(ClientConnection, "_abandon", abandon)


def plant_id_never_freed(patch):
    """A late answer does not free the id."""

    def discard_late(self, query, message, events):
        events.append(MessageDiscarded(message=message, reason=DiscardReason.LATE, query=query.handle))

    patch.setattr(ClientConnection, "_discard_late", discard_late)


def plant_changed_id(patch):
    """FR-61: a query signed by SIG(0) gets an id of ours."""
    patch.setattr(Outstanding, "add_under", lambda self, query, wire_id: self.add(query))


def plant_endless_keys(patch):
    """KEY-1: any number of queries is taken."""
    patch.setattr(ClientConnection, "_has_asked_all", lambda self: False)
    honest = ClientConnection._drain
    patch.setattr(
        ClientConnection,
        "_drain",
        lambda self, step, deadline: step is Step.KEY_LIMIT or honest(self, step, deadline),
    )


def plant_growing_buffer(patch):
    """All octets are kept for ever, by a server."""
    honest = ServerConnection.receive_data

    def receive_data(self, data, *, now):
        self.__dict__.setdefault("_log", bytearray()).extend(data)
        return honest(self, data, now=now)

    patch.setattr(ServerConnection, "receive_data", receive_data)


def plant_growing_table(patch):
    """A client remembers the questions of all answers."""
    honest = ClientConnection.receive_data

    def receive_data(self, data, *, now):
        events = honest(self, data, now=now)
        self.__dict__.setdefault("_seen", {}).update((repr(event), [repr(event).encode()]) for event in events)
        return events

    patch.setattr(ClientConnection, "receive_data", receive_data)


def plant_anything_matches(patch):
    """Any message under a pending id answers the query."""
    patch.setattr(dot_proto.client, "mismatch", lambda query, message: None)


def plant_nothing_matches(patch):
    """An answer in upper case, or an error without question, is thrown away."""
    patch.setattr(dot_proto.client, "mismatch", lambda query, message: DiscardReason.QUESTION_MISMATCH)


def plant_question_insisted_on(patch):
    """FR-6: an answer without a question is thrown away."""
    honest = dot_proto.client.mismatch
    patch.setattr(
        dot_proto.client,
        "mismatch",
        lambda query, message: honest(query, message) if message[5] else DiscardReason.QUESTION_MISSING,
    )


def plant_rcode_of_four_bits(patch):
    """FR-66: an extended RCODE does not end a zone transfer."""
    patch.setattr(dot_proto._message, "is_error", lambda message: message[3] & 15 != 0)


def plant_error(patch):
    """The engine raises when an answer comes late."""

    def discard_late(self, query, message, events):
        raise KeyError(query.handle)

    patch.setattr(ClientConnection, "_discard_late", discard_late)


def plant_life_after_death(patch):
    """A client that has ended goes on reporting."""
    honest = ClientConnection.receive_eof

    def receive_eof(self, *, now, orderly=True):
        return honest(self, now=now, orderly=orderly) or [ConnectionClosed(cause=Cause.PEER_CLOSED, error=None)]

    patch.setattr(ClientConnection, "receive_eof", receive_eof)


def plant_responses_out_of_order(patch):
    """A server sends the last response first, under the id of the first."""
    honest = ServerConnection.data_to_send
    patch.setattr(ServerConnection, "data_to_send", lambda self: honest(self)[::-1])


def plant_lost_response(patch):
    """A server does not send the second of two responses."""
    honest = ServerConnection.data_to_send
    patch.setattr(ServerConnection, "data_to_send", lambda self: honest(self)[:1])


def plant_no_idle_server(patch):
    """A server never closes an idle connection."""
    patch.setattr(ServerConnection, "_restart_idle_timer", lambda self, now: None)


def plant_shared_handles(patch):
    """A server's handles begin at 1."""
    honest = ServerConnection.__init__

    def init(self, configuration=None, *, now=None):
        honest(self, configuration, now=now)
        self._next_handle = 1

    patch.setattr(ServerConnection, "__init__", init)


def plant_damaged_records(patch):
    """A server changes the last octet of what it is given to send."""
    honest = ServerConnection._send

    def send(self, query, message, now):
        damaged = message[:40] + bytes([message[40] ^ 1]) + message[41:]
        honest(self, query, damaged if message[7] else message, now)

    patch.setattr(ServerConnection, "_send", send)


def plant_dropped_options(patch):
    """A client drops the caller's own EDNS options where it adds its own."""
    honest = dot_proto._preparation.splice

    def splice(message, layout, added):
        layout.options = []
        return honest(message, layout, added)

    patch.setattr(dot_proto._preparation, "splice", splice)


PLANTS = {
    plant_changed_id: "signed, leaves as",
    plant_endless_keys: "a query is refused|capacity is|it stays open with worn keys",
    plant_damaged_records: "is sent as",
    plant_dropped_options: "leaves as",
    plant_swapped_answers: "gets what answers query at",
    plant_forgotten_query: "have no fate",
    plant_two_fates: "had its fate before",
    plant_answered_twice: "which is not pending",
    plant_timeouts_ignored: "not after this call",
    plant_timeouts_unsaid: "sleep past a deadline",
    plant_early_timeouts: "a spurious handle_timeout|times out too early",
    plant_restless_timer: "a spurious handle_timeout changes it",
    plant_id_used_twice: "gets id .* of query",
    plant_id_free_at_once: "capacity is",
    plant_id_never_freed: "capacity is",
    plant_octets_before_the_verdict: "octets before the verdict",
    plant_everybody_is_trusted: "a wrong verdict: PeerAuthenticated",
    plant_growing_buffer: "it holds",
    plant_growing_table: "it holds",
    plant_anything_matches: "gets what answers query at None",
    plant_nothing_matches: "is thrown away",
    plant_question_insisted_on: "is thrown away",
    plant_rcode_of_four_bits: "ends too early or too late",
    plant_error: "KeyError was raised",
    plant_life_after_death: "behind the terminal event",
    plant_responses_out_of_order: "has id or QR wrong",
    plant_lost_response: "responses leave of",
    plant_no_idle_server: "sleep past a deadline",
    plant_shared_handles: "handle 1 to query at",
}


@interpreted
@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__.removeprefix("plant_"))
def test_a_planted_bug_is_found(monkeypatch, plant):
    """Within the fixed budget, and with the words that say what is wrong; the seed finds it again."""
    plant(monkeypatch)
    error = find_failure(simulate, FIXED_SEEDS, PLANTS[plant])
    with pytest.raises(SimulationError) as again:
        simulate(error.seed)
    assert str(again.value) == str(error)
    assert again.value.trace == error.trace


# The command


class Terminal(io.StringIO):
    """Looks like one."""

    def isatty(self) -> bool:
        return True


def test_the_command_says_what_it_did(monkeypatch, capsys, budget):
    """Hours, seeds, queries, and how often everything happened: the same for the same seed; nothing on stderr."""
    monkeypatch.setattr(command, "simulate", budget.__getitem__)
    assert main(["--hours", "150", "--seed", "2"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    first, *rest = out.splitlines()
    counters = budget[2].counters + budget[3].counters
    assert first == f"200 hours, seeds 2 to 3, {counters['queries']:,} queries; nothing found"
    assert {line.split(maxsplit=1)[1]: int(line.split()[0].replace(",", "")) for line in rest} == counters


def test_without_a_seed_a_fresh_one_is_taken_and_said(monkeypatch, capsys, budget):
    """So that nothing that chance has found is lost."""
    seeds: list[int] = []
    monkeypatch.setattr(command, "simulate", lambda seed: seeds.append(seed) or budget[0])
    for _ in range(3):
        assert main(["--hours", "0.5"]) == 0
        assert f"seeds {seeds[-1]} to {seeds[-1]}," in capsys.readouterr().out
    assert len(set(seeds)) > 1


def test_a_failure_is_printed_with_its_trace_and_can_be_had_again(monkeypatch, capsys):
    """The command in the last line, as it stands, prints the very same."""
    plant_swapped_answers(monkeypatch)
    error = find_failure(simulate, FIXED_SEEDS, "")
    assert main(["--hours", "2000", "--seed", "0", "--trace", "7"]) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"FAILED: seed {error.seed}, after {error.hours:.3f} hours: {error.text}\n")
    assert "\n".join(f"  {line}" for line in error.trace[-7:]) in out
    assert error.trace[-8] not in out
    words = out.splitlines()[-1].removeprefix("Again: python -m dot_proto.testing.simulate ").split()
    assert main([*words, "--trace", "7"]) == 1
    assert capsys.readouterr().out == out


@interpreted
def test_an_error_of_the_engine_is_printed_with_its_place(monkeypatch, capsys):
    """What was raised, and where."""
    plant_error(monkeypatch)
    assert main(["--hours", "1000", "--seed", "0"]) == 1
    out = capsys.readouterr().out
    assert "KeyError was raised" in out
    assert re.search(rf"^Raised by discard_late, {re.escape(__file__)}:\d+$", out, re.MULTILINE)


def test_interrupted(monkeypatch, capsys, budget):
    """Ctrl-C: what was done so far, no traceback, and the code that shells expect."""
    turns = iter(budget[:2])

    def play(seed):
        for summary in turns:
            return summary
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "simulate", play)
    assert main(["--hours", "1000", "--seed", "0"]) == 130
    out, err = capsys.readouterr()
    assert out.startswith("interrupted: 200 hours, seeds 0 to 1, ")
    assert err == ""


def test_progress_on_a_terminal(monkeypatch, capsys, budget):
    """One line, written over, and gone at the end; elsewhere there is none."""
    monkeypatch.setattr(command, "simulate", budget.__getitem__)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert main(["--hours", "200", "--seed", "0"]) == 0
    lines = sys.stderr.getvalue().split("\r\x1b[K")
    assert [line[:6] for line in lines] == ["", " 50 % ", "100 % ", ""]
    assert "100 hours, seeds 0 to 0, " in lines[1]
    assert "\n" not in sys.stderr.getvalue()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--hours", "0"], "argument --hours: '0' is no number of hours above 0"),
        (["--hours", "-1"], "argument --hours: '-1' is no number of hours above 0"),
        (["--hours", "nan"], "argument --hours: 'nan' is no number of hours above 0"),
        (["--hours", "inf"], "argument --hours: 'inf' is no number of hours above 0"),
        (["--hours", "many"], "argument --hours: 'many' is no number of hours above 0"),
        (["--seed", "-1"], "argument --seed: '-1' is not a whole number of 0 or more"),
        (["--seed", "1.5"], "argument --seed: '1.5' is not a whole number of 0 or more"),
        (["--seed", "\u0663"], "argument --seed: '\u0663' is not a whole number of 0 or more"),
        (["--trace", "x"], "argument --trace: 'x' is not a whole number of 0 or more"),
        (["--trace", "401"], "argument --trace: a run keeps its last 400 steps: 401 cannot be shown"),
        (["--days", "3"], "unrecognized arguments: --days 3"),
    ],
)
def test_bad_arguments(capsys, words, complaint):
    """A clear error, and 2 as every command."""
    with pytest.raises(SystemExit) as exit:
        main(words)
    assert exit.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: {complaint}\n")


def test_help(capsys):
    """Says what the defaults are."""
    with pytest.raises(SystemExit) as exit:
        main(["--help"])
    assert exit.value.code == 0
    assert "default 1000" in capsys.readouterr().out


def test_run_as_a_module(monkeypatch, capsys):
    """``python -m dot_proto.testing.simulate``."""
    monkeypatch.delitem(sys.modules, "dot_proto.testing.simulate")
    monkeypatch.setattr(sys, "argv", ["simulate", "--hours", "1", "--seed", "3"])
    # pytest's own finder, which takes every module of a wheel with a plugin in it, cannot do what runpy asks for.
    finders = [finder for finder in sys.meta_path if not type(finder).__module__.startswith("_pytest.")]
    monkeypatch.setattr(sys, "meta_path", finders)
    with pytest.raises(SystemExit) as exit:
        runpy.run_module("dot_proto.testing.simulate", run_name="__main__")
    assert exit.value.code == 0
    assert capsys.readouterr().out.startswith("100 hours, seeds 3 to 3, ")


# The scheduler


def test_time_has_a_grain_and_never_goes_back():
    """Calls come in the order of their times, up to 1/64 s late and never early."""
    scheduler = Scheduler(5, 1.0)
    times: list[tuple[float, object]] = []

    def act(name: object) -> None:
        times.append((scheduler.now - START, name))

    scheduler.call_later(2.0, act, "two")
    scheduler.call_later(1.001, act, "a little more than one")
    scheduler.call_later(0.0, act, "now")
    scheduler.call_later(1.5, scheduler.call_at, START, act, "too late")
    scheduler.run()
    assert times == [(0.0, "now"), (1.015625, "a little more than one"), (1.5, "too late"), (2.0, "two")]


def test_what_is_due_at_one_time_comes_in_random_order():
    """Every order is met, and each seed has its own."""
    orders = set()
    for seed in range(40):
        scheduler, order = Scheduler(seed, 1.0), list[int]()
        for number in range(3):
            scheduler.call_later(1.0, order.append, number)
        scheduler.run()
        orders.add(tuple(order))
    assert len(orders) == 6


def test_something_that_is_never_over_is_a_failure():
    """Once nothing new begins, everything must come to its end."""
    scheduler = Scheduler(1, 1.0)

    def again() -> None:
        scheduler.call_later(10.0, again)

    again()
    with pytest.raises(
        SimulationError, match=rf"after {1 + AFTERWARDS / 3_600:.0f}\.\d+ hours: something is never over"
    ):
        scheduler.run()


def test_now_and_then_ends_with_the_run():
    """Once an hour on the average, as long as the run lasts."""
    scheduler, times = Scheduler(7, 1_000.0), []

    def act() -> None:
        times.append(scheduler.now)
        scheduler.call_randomly(3_600.0, act)

    act()
    scheduler.run()
    assert 900 < len(times) < 1_100
    assert times[-1] < START + 1_000 * 3_600


def line(
    segmentation: Segmentation = Segmentation.AS_SENT, latency: float = 0.0
) -> tuple[Scheduler, Pipe, list[object]]:
    """A pipe, and what comes out of it with the times."""
    scheduler = Scheduler(5, 1.0)
    pipe, got = Pipe(scheduler, LinkConditions(latency, latency, 0.0, segmentation)), []
    pipe.receive = lambda item: got.append((scheduler.now - START, item))
    return scheduler, pipe, got


@pytest.mark.parametrize("segmentation", Segmentation)
def test_a_line_loses_nothing_and_changes_no_order(segmentation):
    """However it cuts what it carries."""
    scheduler, pipe, got = line(segmentation, latency=0.25)
    sent = [bytes([number]) * size for number, size in enumerate([1, 700, 3, READ_SIZE + 10, 50])]
    for octets in sent:
        pipe.send(octets)
    pipe.send(End.ORDERLY)
    assert pipe.unread == sum(map(len, sent))
    scheduler.run()
    *pieces, (_, end) = got
    assert b"".join(item for _, item in pieces) == b"".join(sent)
    assert end is End.ORDERLY
    assert pipe.unread == 0
    assert all(time >= 0.25 and 0 < len(item) <= READ_SIZE for time, item in pieces)
    assert (len({time for time, _ in pieces}) > 1) == (segmentation is Segmentation.TRICKLE)


def test_a_killed_line_loses_what_is_on_its_way():
    """The reader learns of a reset, once, and of nothing else; of a cut it learns nothing."""
    scheduler, pipe, got = line(latency=1.0)
    pipe.send(b"lost")
    pipe.kill(End.RESET)
    pipe.kill(End.RESET)
    pipe.send(b"never")
    scheduler.run()
    assert got == [(1.0, End.RESET)]
    scheduler, pipe, got = line(latency=1.0)
    pipe.send(b"lost")
    pipe.kill()
    pipe.send(b"never")
    scheduler.run()
    assert got == []


def test_a_reader_that_pauses_makes_the_writer_wait():
    """What has arrived waits; once it is read, whoever waited for room is told."""
    scheduler, pipe, got = line()
    told = []
    pipe.has_room = lambda: told.append(scheduler.now - START)
    pipe.pause(True)
    pipe.send(bytes(TCP_ROOM))
    pipe.send(b"more")
    scheduler.call_later(2.0, pipe.pause, False)
    scheduler.call_later(1.0, lambda: got.append(pipe.is_full))
    scheduler.run()
    assert got == [True, (2.0, bytes(TCP_ROOM)), (2.0, b"more")]
    assert told == [2.0]


def test_without_a_reader_nothing_happens():
    """Whoever could have read it has gone."""
    scheduler = Scheduler(1, 1.0)
    link = Link(
        scheduler,
        0,
        LinkConditions(0.0, 0.0, 1.0, Segmentation.AS_SENT),
        LinkConditions(0.0, 0.0, 0.0, Segmentation.AS_SENT),
    )
    link.up.send(b"octets")
    link.down.send(bytes(TCP_ROOM + 1))
    scheduler.run()
    assert link.up.unread == link.down.unread == 0
    assert scheduler.now > START, "a line that stalls"
    assert not link.is_broken
    link.cut()
    assert link.is_broken
    assert link.is_foul


class Caller:
    """A client that only remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def verify(self) -> None:
        self.told.append("verified")

    def fail(self, text: str) -> None:
        self.told.append(text)


@pytest.mark.parametrize("kind", ["host", "hostile"])
@pytest.mark.parametrize(("is_cut", "told"), [(False, ["verified"]), (True, [])])
def test_no_handshake_over_a_broken_line(kind, is_cut, told):
    """The client learns of it by its own clock alone."""
    scheduler, caller, calm = Scheduler(1, 1.0), Caller(), LinkConditions(0.0, 0.0, 0.0, Segmentation.AS_SENT)
    link = Link(scheduler, 0, calm, calm)
    server = Host(scheduler, Network(scheduler)) if kind == "host" else HostileHost(scheduler)
    server.accept(link, caller)
    if is_cut:
        link.cut()
    scheduler.run()
    assert caller.told == told


@pytest.mark.parametrize(
    ("kind", "positions", "questions"), [("AXFR", [None, 0, 0, 0, 0], [0, 1, 0, 0, 0]), ("A", [0], [1])]
)
def test_a_rogue_transfers_a_zone_in_parts(kind, positions, questions):
    """All of them under the query's id, the later ones without a question, and one of these too early."""
    scheduler, calm = Scheduler(1, 1.0), LinkConditions(0.0, 0.0, 0.0, Segmentation.AS_SENT)
    link, query = Link(scheduler, 0, calm, calm), make_query("a.example", kind, message_id=77)
    HostileServer(scheduler, link)._in_parts(query, 0)
    scheduler.run()
    assert [position for _, position in link.answers] == positions
    assert {said[:2] for said, _ in link.answers} == {query[:2]}
    assert [said[5] for said, _ in link.answers] == questions
