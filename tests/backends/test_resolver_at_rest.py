"""A resolver that nobody asks any more wakes its loop for little: the clocks are virtual once the answer has come."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import trio

import dot_io.asyncio
import dot_io.trio
from dot_io.testing import Authority, LoopbackServer
from dot_proto import Upstream, certificates_from, make_query

REST = 7.0
"Seconds: longer than a query has by default, and shorter than a connection without a query stays open."

LEAST = 0.001
"Seconds of a rest that counts: what numbers have been rounded by is no reason to wake up."

ONE_TIMER = 2
"Times: the last query's timer for its server's silence, and the program itself, which is back from its rest."


class Selector(selectors.DefaultSelector):
    """Does not wait while the program rests, and brings nothing: time passes instead."""

    rests: list[float] | None = None
    pass_time: Callable[[float], None]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.rests is None or timeout is None or timeout < LEAST:
            return super().select(timeout)
        self.rests.append(timeout)
        self.pass_time(timeout)
        return []


class Loop(asyncio.SelectorEventLoop):
    def __init__(self, selector: Selector) -> None:
        super().__init__(selector)
        self._ahead = 0.0
        selector.pass_time = self._pass_time

    def time(self) -> float:
        return super().time() + self._ahead

    def _pass_time(self, seconds: float) -> None:
        self._ahead += seconds


class Clock(trio.abc.Clock):
    """The same for trio."""

    def __init__(self) -> None:
        self.rests: list[float] | None = None
        self._ahead = 0.0

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return monotonic() + self._ahead

    def deadline_to_sleep_time(self, deadline: float) -> float:
        seconds = deadline - self.current_time()
        if self.rests is None or seconds < LEAST:
            return seconds
        self.rests.append(seconds)
        self._ahead += seconds
        return 0.0


@pytest.fixture(name="upstream")
def running_upstream(tmp_path: Path) -> Iterator[Upstream]:
    authority = Authority(tmp_path, "at rest")
    with LoopbackServer(authority.issue("dot.test")) as server:
        server.answers["a.example", "A"] = ["192.0.2.7"]
        anchors = certificates_from(authority.root_file.read_bytes())
        yield Upstream(name="dot.test", addresses=[server.host], port=server.port, trust_anchors=anchors)


async def rest(resolver: Any, virtual: Selector | Clock, sleep: Callable[[float], Any]) -> None:
    async with resolver:
        await resolver.query(make_query("a.example"))
        virtual.rests = rests = []
        await sleep(REST)
        virtual.rests = None
        assert len(rests) <= ONE_TIMER
        assert sum(rests) == pytest.approx(REST, abs=0.1)


def test_asyncio(upstream: Upstream) -> None:
    """With a connection open, no timer rings that is over but one."""
    selector = Selector()
    with asyncio.Runner(loop_factory=lambda: Loop(selector)) as runner:
        runner.run(rest(dot_io.asyncio.Resolver([upstream]), selector, asyncio.sleep))


def test_trio(upstream: Upstream) -> None:
    """The same."""
    clock = Clock()
    trio.run(rest, dot_io.trio.Resolver([upstream]), clock, trio.sleep, clock=clock)
