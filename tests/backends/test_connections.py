"""The connections of a server, without a socket: who may come, who gives way, what is counted and said."""

from __future__ import annotations

import logging
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dot_io._connections import ConnectionRecord, ConnectionTable
from dot_io._limits import ConnectionLimits
from dot_io._peer import Peer
from dot_io._reports import ConnectionEnd
from dot_io.errors import Failure, HandshakeError

MAXIMUM, PER_HOST = 4, 2


class Scene:
    """A table, its clock, and connections that end when they are made to give way."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ends: list[ConnectionEnd] = []
        limits = ConnectionLimits(MAXIMUM, PER_HOST)
        self.table = ConnectionTable(limits, self.ends.append, clock=lambda: self.now)
        self.unfinished: list[ConnectionRecord] = []
        self.open: list[ConnectionRecord] = []

    def enter(self, host: str) -> ConnectionRecord | None:
        record = self.table.enter(Peer(host, 1))
        if record is not None:
            record.begin(lambda: self.end(record))
            self.unfinished.append(record)
        return record

    def complete(self, record: ConnectionRecord) -> None:
        self.table.handshake_completed(record, is_resumed=False)
        self.unfinished.remove(record)
        self.open.append(record)

    def end(self, record: ConnectionRecord) -> None:
        (self.unfinished if record in self.unfinished else self.open).remove(record)
        self.table.end(record)


@given(st.lists(st.tuples(st.sampled_from("ccceo"), st.integers(0, 6)), max_size=40))
def test_laws_of_the_table(steps: list[tuple[str, int]]) -> None:
    """FR-54: never more than there may be; only a handshake gives way, and only where no place is free.

    It is the oldest of the newcomer's own, or else the oldest of all.
    """
    scene = Scene()
    for step, number in steps:
        host = f"192.0.2.{number}"
        of_host = Counter(record.peer.host for record in scene.unfinished + scene.open)[host]
        if step == "c":
            before, count = list(scene.unfinished), len(scene.unfinished) + len(scene.open)
            was_full, ended = scene.table.is_full, len(scene.ends)
            assert was_full == (count == MAXIMUM and not before)
            record = scene.enter(host)
            assert (record is not None) == (not was_full and of_host < PER_HOST)
            if record is not None:
                went = [each for each in before if each not in scene.unfinished]
                its_own = [each for each in before if each.peer.host == host]
                assert went == ((its_own + before)[:1] if count == MAXIMUM else [])
                assert [end.reason for end in scene.ends[ended:]] == ["crowded-out"] * len(went)
            else:
                assert scene.ends[-1].reason == ("max-connections" if was_full else "max-connections-per-host")
        elif step == "o" and scene.unfinished:
            scene.complete(scene.unfinished[number % len(scene.unfinished)])
        elif step == "e" and scene.unfinished + scene.open:
            everybody = scene.unfinished + scene.open
            scene.end(everybody[number % len(everybody)])
        statistics = scene.table.statistics()
        assert (statistics.handshaking, statistics.open) == (len(scene.unfinished), len(scene.open))
        assert statistics.handshaking + statistics.open <= MAXIMUM
        assert statistics.accepted == len(scene.ends) + statistics.handshaking + statistics.open
    for record in scene.unfinished + scene.open:
        scene.end(record)
    assert not scene.table.is_full
    assert all(scene.enter(f"192.0.2.{number}") for number in range(MAXIMUM))


def test_what_was_left_out_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """FR-24: ten lines of a kind in five seconds; the next one after them says how many there were besides."""
    caplog.set_level(logging.INFO, "dot_io")
    scene = Scene()
    for now, count in ((0.0, 12), (4.9, 1), (5.0, 2)):
        scene.now = now
        for _ in range(count):
            record = scene.enter("192.0.2.1")
            assert record is not None
            record.fail("not-tls", HandshakeError("the peer does not speak TLS", Failure.NOT_TLS))
            scene.end(record)
    said = [one.getMessage() for one in caplog.records]
    line = "192.0.2.1 port 1: handshake: not-tls: the peer does not speak TLS"
    assert said == [line] * 10 + [f"{line} (and 3 more like this since the last line)", line]
    scene.table.write_what_was_left_out()
    assert len(caplog.records) == 12


def test_the_first_reason_counts() -> None:
    """FR-24: what follows from a failure is no failure of its own."""
    scene = Scene()
    record = scene.enter("192.0.2.1")
    assert record is not None
    record.fail("crowded-out")
    record.fail("local-close", ValueError("later"))
    scene.now = 2.5
    scene.end(record)
    (end,) = scene.ends
    assert (end.reason, end.error, end.seconds) == ("crowded-out", None, 2.5)
