"""The law of a driver's duties finds every fault that is planted in a TLS session."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dot_io.tls._phase import MOVES, Inbound, Phase, Step
from dot_io.tls.session import Session
from dot_proto import Cause, ConnectionClosed, Event
from dot_proto.testing.duties import every_moment
from support.pki import Pki
from support.pki import pki_fixture as pki_fixture
from support.records import ALERT
from support.sessions import KINDS, PLAIN, PLANS, TLS_ENDS, check_ends_of_tls

VERBS = ["receive_data", "receive_eof", "fail", "abort", "handle_timeout"]

Plant = Callable[[pytest.MonkeyPatch], None]


def moves(phase: Phase, step: Step, after: Phase | None) -> Plant:
    """Another cell of the table, or none."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        if after is None:
            monkeypatch.delitem(MOVES, (phase, step))
        else:
            monkeypatch.setitem(MOVES, (phase, step), after)

    return plant


def without_settling(verb: str) -> Plant:
    """This verb does not look at the engine any more."""
    original = getattr(Session, verb)

    def call(self: Any, *arguments: Any, **named: Any) -> list[Event]:
        self._settle = lambda events, now: None
        try:
            return original(self, *arguments, **named)
        finally:
            del self._settle

    return lambda monkeypatch: monkeypatch.setattr(Session, verb, call)


def instead(name: str, replacement: Any) -> Plant:
    return lambda monkeypatch: monkeypatch.setattr(Session, name, replacement)


def failure_forgotten(self: Any, events: list[Event], now: float) -> None:
    self._failure = None


def failure_kept(self: Any, events: list[Event], now: float) -> None:
    """Neither told nor forgotten."""


def finished_with_the_engine(self: Any) -> bool:
    return self._engine.state.name == "CLOSED"


def finished_before_all_is_out(self: Any) -> bool:
    return self._phase is Phase.DONE


def never_finished(self: Any) -> bool:
    return False


def no_deadline_for(what: Callable[[Any], bool]) -> Callable[[Any], float | None]:
    original = Session.next_timeout
    return lambda self: None if what(self) else original(self)


def no_wait_begins(self: Any, events: list[Event], now: float) -> None:
    settle(self, events, now)
    if self._phase is Phase.LINGERING:
        self._deadline = math.inf


settle = Session._settle
receive_eof = Session.receive_eof
receive_data = Session.receive_data
data_to_send = Session.data_to_send
encrypt = Session._encrypt
fail = Session.fail


def inbound_shrinks(self: Any, *, now: float) -> list[Event]:
    events = receive_eof(self, now=now)
    self._inbound = Inbound.CLOSE_NOTIFY
    return events


def abort_as_end_of_stream(self: Any, *, now: float) -> list[Event]:
    return receive_eof(self, now=now)


def abort_as_failure(self: Any, *, now: float) -> list[Event]:
    return fail(self, "closed on this side", now=now)


def without_alerts(self: Any) -> list[bytes]:
    """A fatal alert that is not encrypted: type, version, length, level."""
    return [octets for octets in data_to_send(self) if octets[:1] + octets[5:6] != bytes([ALERT, 2])]


def without_close_notify(self: Any) -> list[bytes]:
    octets = data_to_send(self)
    return [] if self._phase in (Phase.LINGERING, Phase.DONE) else octets


def failure_swallowed(self: Any) -> None:
    encrypt(self)
    self._failure = None


def failure_raised(self: Any) -> None:
    encrypt(self)
    if self._failure is not None:
        raise self._failure


def end_told_twice(self: Any, events: list[Event], now: float) -> None:
    had_told = self._phase is Phase.LINGERING and self._deadline < math.inf
    settle(self, events, now)
    if had_told:
        events.append(ConnectionClosed(Cause.IDLE, None))


def deaf_after_close_notify(self: Any, *, now: float) -> list[Event]:
    return [] if self._inbound is Inbound.CLOSE_NOTIFY else receive_eof(self, now=now)


FAULTS: dict[str, Plant] = {
    **{
        f"move-{phase.name}-{step.name}-{after.name if after else 'none'}": moves(phase, step, after)
        for (phase, step), right in MOVES.items()
        for after in (*Phase, None)
        if after is not right
    },
    **{f"{verb}-does-not-settle": without_settling(verb) for verb in VERBS},
    "failure-forgotten": instead("_tell_failure", failure_forgotten),
    "failure-kept": instead("_tell_failure", failure_kept),
    "failure-swallowed": instead("_encrypt", failure_swallowed),
    "failure-raised": instead("_encrypt", failure_raised),
    "finished-with-the-engine": instead("is_finished", property(finished_with_the_engine)),
    "finished-before-all-is-out": instead("is_finished", property(finished_before_all_is_out)),
    "never-finished": instead("is_finished", property(never_finished)),
    "no-deadline-for-what-is-untold": instead(
        "next_timeout", no_deadline_for(lambda self: self._engine.state.name == "CLOSED" and self._deadline == math.inf)
    ),
    "no-deadline-for-a-failure": instead("next_timeout", no_deadline_for(lambda self: self._failure is not None)),
    "no-deadline-while-lingering": instead(
        "next_timeout", no_deadline_for(lambda self: self._phase is Phase.LINGERING)
    ),
    "no-deadline-in-the-handshake": instead(
        "next_timeout", no_deadline_for(lambda self: self._phase is Phase.HANDSHAKE)
    ),
    "no-deadline-while-open": instead("next_timeout", no_deadline_for(lambda self: self._phase is Phase.OPEN)),
    "no-wait-begins": instead("_settle", no_wait_begins),
    "end-told-twice": instead("_settle", end_told_twice),
    "inbound-shrinks": instead("receive_eof", inbound_shrinks),
    "deaf-after-close-notify": instead("receive_eof", deaf_after_close_notify),
    "abort-as-end-of-stream": instead("abort", abort_as_end_of_stream),
    "abort-as-failure": instead("abort", abort_as_failure),
    "without-alerts": instead("data_to_send", without_alerts),
    "without-close_notify": instead("data_to_send", without_close_notify),
}


def complaints(pki: Pki) -> Iterator[str]:
    """What the law complains of, where nothing is complained of without a fault: see test_tls_duties.py."""
    plain = [(kind, plan) for plan in PLANS.values() for kind in PLAIN.values()]
    others = [(kind, PLANS["plain"]) for kind in KINDS.values()]
    for kind, plan in (*plain[:2], *others, *plain[2:]):
        make = kind.maker(pki)
        for end in TLS_ENDS:
            for at_server in (False, True):
                try:
                    for exchange in every_moment(make, end, at_server=at_server, plan=plan):
                        check_ends_of_tls(exchange)
                except AssertionError as error:
                    yield str(error)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(pki: Pki, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """Otherwise the law would say nothing."""
    FAULTS[fault](monkeypatch)
    assert next(complaints(pki), None), "nothing is found"
