"""The kit's peers: what each step sends, what scripts are drawn, and what becomes of a client that meets them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import Phase, find, given, settings

from dot_proto import (
    Cause,
    ClientConfiguration,
    ConnectionClosed,
    DiscardReason,
    Fault,
    KeepaliveReceived,
    MessageDiscarded,
    QueryLost,
    QueryTimedOut,
    ResponseReceived,
    make_query,
)
from dot_proto.testing import peers
from dot_proto.testing.messages import KEEPALIVE, message, opt, option, response_to, stream_of
from dot_proto.testing.peers import (
    Abort,
    Answer,
    AnswerWithoutQuestion,
    Ask,
    Close,
    CutAnswer,
    Echo,
    Garbage,
    Reset,
    Script,
    ShortLength,
    Stall,
    StateKeepalive,
    Step,
    WrongId,
    WrongOpcode,
    WrongQuestion,
    bad_steps,
    good_steps,
    peer_scripts,
)
from dot_proto.testing.runner import Arrived, Asked, Ended, Refused, Reported, Sent, Woke, open_client, run_script

FIRST, SECOND = make_query("a", message_id=1), make_query("b", message_id=0xFFFF)

SENDS = {
    Ask(): b"",
    Stall(): b"",
    Close(): b"",
    Answer(): stream_of([response_to(FIRST)]),
    Answer(1, rcode=5): stream_of([response_to(SECOND, rcode=5)]),
    Answer(2): stream_of([response_to(FIRST)]),
    AnswerWithoutQuestion(rcode=2): stream_of([message(id=1, flags=0x8002)]),
    StateKeepalive(tenths=300): stream_of([response_to(FIRST, additionals=[opt(option(KEEPALIVE, b"\1\x2c"))])]),
    StateKeepalive(tenths=None): stream_of([response_to(FIRST, additionals=[opt(option(KEEPALIVE))])]),
    WrongId(): stream_of([response_to(FIRST, id=2)]),
    WrongId(1, by=2): stream_of([response_to(SECOND, id=1)]),
    WrongQuestion(): stream_of([response_to(make_query("wrong"), id=1)]),
    WrongOpcode(): stream_of([b"\0\1\xa1" + response_to(FIRST)[3:]]),
    Echo(1): stream_of([SECOND]),
    CutAnswer(size=1): b"\0",
    CutAnswer(size=1000): stream_of([response_to(FIRST)])[:-1],
    ShortLength(11): b"\0\x0b",
    Garbage(b"x"): b"x",
}


@pytest.mark.parametrize("step", SENDS, ids=repr)
def test_what_a_step_sends(step: Step):
    """Having received two queries."""
    assert step.octets([FIRST, SECOND]) == SENDS[step]


@pytest.mark.parametrize("step", SENDS, ids=repr)
def test_what_a_step_sends_to_who_asked_nothing(step: Step):
    """Nothing about a query; a fault in the framing needs none."""
    assert step.octets([]) == (SENDS[step] if isinstance(step, ShortLength | Garbage) else b"")


@pytest.mark.parametrize("step", SENDS, ids=repr)
def test_a_step_reads_as_it_is_written(step: Step):
    """What Hypothesis prints can be pasted into a test."""
    assert eval(repr(step), vars(peers)) == step


# What is drawn


@given(peer_scripts())
def test_scripts_begin_with_a_query(script: Script):
    """Without one little happens."""
    assert isinstance(script.steps[0], Ask)


@given(peer_scripts(misbehaves=False))
def test_good_peers_do_nothing_wrong(script: Script):
    """They may be slow, answer twice and refuse."""
    assert all(isinstance(step, Ask | Answer | Stall) for step in script.steps)


@pytest.mark.parametrize("kind", {type(step) for step in SENDS} | {Abort, Reset}, ids=lambda kind: kind.__name__)
def test_every_step_is_drawn(kind: type[Step]):
    """By one of the two strategies."""
    found = find(good_steps() | bad_steps(), lambda step: type(step) is kind, settings=SURE)
    assert type(found) is kind


SURE = settings(
    derandomize=True,
    database=None,
    max_examples=2000,
    phases=[Phase.generate, Phase.shrink],
    report_multiple_bugs=False,
)


def test_a_script_shrinks_to_the_steps_that_matter():
    """As short as the story is."""

    def loses_a_query(script: Script) -> bool:
        return any(isinstance(event, QueryLost) for event in reported(script))

    script = find(peer_scripts(), loses_a_query, settings=SURE)
    assert script in [Script((Ask(), ShortLength())), Script((Ask(), Close()))]


# What is played


def reported(script: Script, **configuration: Any) -> list[Any]:
    client = open_client(ClientConfiguration(**configuration))
    return [event for entry in run_script(client, script) if isinstance(entry, Reported) for event in entry.events]


def brief(script: Script) -> list[object]:
    """The events, by what matters in each."""
    short: list[object] = []
    for event in reported(script, idle_timeout=100.0):
        match event:
            case ResponseReceived():
                short.append(("answered", event.rcode))
            case MessageDiscarded():
                short.append(event.reason)
            case ConnectionClosed():
                short.append(event.error.fault if event.error else event.cause)
            case KeepaliveReceived():
                short.append(("keepalive", event.timeout))
            case _:
                short.append(type(event))
    return short


STORIES = {
    "answered": ([Answer()], [("answered", 0)]),
    "refused": ([Answer(rcode=5)], [("answered", 5)]),
    "twice": ([Answer(), Answer()], [("answered", 0), DiscardReason.UNKNOWN_ID]),
    "late": ([Stall(6.0), Answer()], [QueryTimedOut, DiscardReason.LATE]),
    "wrong id": ([WrongId()], [DiscardReason.UNKNOWN_ID, QueryTimedOut]),
    "wrong question": ([WrongQuestion(), Answer()], [DiscardReason.QUESTION_MISMATCH, ("answered", 0)]),
    "wrong opcode": ([WrongOpcode()], [DiscardReason.OPCODE_MISMATCH, QueryTimedOut]),
    "echo": ([Echo()], [DiscardReason.NOT_A_RESPONSE, QueryTimedOut]),
    "no question": ([AnswerWithoutQuestion()], [("answered", 0)]),
    "no question, an error": ([AnswerWithoutQuestion(rcode=2)], [("answered", 2)]),
    "keepalive": ([StateKeepalive(tenths=10)], [("answered", 0), ("keepalive", 1.0), Cause.IDLE]),
    "no more queries": ([StateKeepalive()], [("answered", 0), ("keepalive", 0.0), Cause.GO_AWAY]),
    "bad keepalive": ([StateKeepalive(tenths=None)], [("answered", 0), ("keepalive", None)]),
    "cut answer": ([CutAnswer(size=3), Close()], [QueryLost, Fault.TRUNCATED]),
    "short length": ([ShortLength()], [QueryLost, Fault.SHORT_FRAME]),
    "garbage": ([Garbage(b"\0\0")], [QueryLost, Fault.SHORT_FRAME]),
    "close": ([Close(), Answer(), Abort()], [QueryLost, Cause.PEER_CLOSED]),
    "abort": ([Abort()], [QueryLost, Fault.NO_CLOSE_NOTIFY]),
    "reset": ([Reset()], [QueryLost, Fault.RESET]),
    "nothing": ([], [QueryTimedOut]),
}


@pytest.mark.parametrize("coalesced", [False, True], ids=["step by step", "at once"])
@pytest.mark.parametrize("read_size", [16_384, 1])
@pytest.mark.parametrize("story", STORIES)
def test_what_becomes_of_a_client(story: str, read_size: int, coalesced: bool):
    """However the octets arrive."""
    steps, expected = STORIES[story]
    assert brief(Script((Ask(), *steps), read_size, coalesced)) == expected


def test_moments():
    """Every call of the client, in order, and when."""
    script = Script((Ask("a."), Answer(), Answer(), Close(), Ask()), read_size=30, coalesced=True)
    trace = run_script(open_client(), script, start=5.0)
    assert [type(entry) for entry in trace] == [Asked, Sent, Arrived, Arrived, Ended, Refused, Woke]
    assert {entry.at for entry in trace} == {5.0, 10.0}
    assert trace[-1] == Woke(10.0, [], None)
    asked = trace[0]
    assert isinstance(asked, Asked)
    assert (asked.message, asked.timeout) == (make_query("a.", message_id=0xBEEF), 5.0)


def test_ids_go_round():
    """From any first id."""
    trace = run_script(open_client(first_id=0xFFFF), Script((Ask(), Ask())))
    assert [entry.octets[2:4] for entry in trace if isinstance(entry, Sent)] == [b"\xff\xff", b"\0\0"]


def test_time_passes_only_as_far_as_it_is_told():
    """Timers run on the way: at 1000 s asked for one second, at 1001 timed out, at 1010 idle for nine."""
    client = open_client(ClientConfiguration(idle_timeout=9.0))
    trace = run_script(client, Script((Ask(timeout=1.0), Stall(60.0))))
    woken = [(entry.at, type(entry.events[0])) for entry in trace if isinstance(entry, Woke) and entry.events]
    assert woken == [(1001.0, QueryTimedOut), (1010.0, ConnectionClosed)]
    assert trace[-1].at == 1060.0
