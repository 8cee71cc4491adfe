"""Cancel a coroutine at its k-th suspension, and no other: the way to prove that each await may be the last.

There are two moments.  *Waiting*: what is awaited has not come yet.  *Arriving*: it has just come, but the coroutine
has not been told; a cancellation then loses what nobody else holds, a socket or a place in a queue.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Coroutine, Generator
from itertools import count
from typing import Any

import trio

from conformance.adapters import Backend


class Moment(enum.Enum):
    """When in a suspension the cancellation comes."""

    WAITING = "waiting"
    ARRIVING = "arriving"


async def at_each_suspension(
    api: Backend, make: Callable[[], Coroutine[Any, Any, Any]], moment: Moment, afterwards: Callable[[], Any]
) -> int:
    """Run ``make()`` again and again, cancelled at its first suspension, its second, and so on to its end.

    ``afterwards`` is awaited after each run.  Returns how many suspensions there were.
    """
    interrupt = _interrupt_trio if api.name == "trio" else _interrupt_asyncio
    for number in count(1):
        has_come = await interrupt(make(), number, moment)
        await afterwards()
        if not has_come:
            return number - 1
    raise AssertionError


async def _interrupt_asyncio(coroutine: Coroutine[Any, Any, Any], number: int, moment: Moment) -> bool:
    """Cancel at suspension ``number``; says whether it came to that."""
    counted = _Counted(coroutine, number, moment)
    task = asyncio.ensure_future(counted.run())
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return counted.number >= number


class _Counted:
    """An awaitable that passes on what its coroutine awaits, and counts."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at: int, moment: Moment) -> None:
        self._coroutine = coroutine
        self._at = at
        self._moment = moment
        self.number = 0

    async def run(self) -> Any:
        return await self

    def __await__(self) -> Generator[Any, Any, Any]:
        resume: Callable[[Any], Any] = self._coroutine.send
        value: Any = None
        while True:
            try:
                future = resume(value)
            except StopIteration as end:
                return end.value
            self.number += 1
            if self.number == self._at:
                self._cancel_around(future)
            try:
                resume, value = self._coroutine.send, (yield future)
            except BaseException as error:
                resume, value = self._coroutine.throw, error

    def _cancel_around(self, future: asyncio.Future[Any] | None) -> None:
        task = asyncio.current_task()
        assert task is not None
        if future is None or self._moment is Moment.WAITING:
            asyncio.get_running_loop().call_soon(task.cancel)
        else:
            future.add_done_callback(lambda _: task.cancel())  # before the one that resumes the task


async def _interrupt_trio(coroutine: Coroutine[Any, Any, Any], number: int, moment: Moment) -> bool:
    """Cancel at suspension ``number``; says whether it came to that."""
    counter = _Counter(number, moment)

    async def victim() -> None:
        counter.task = trio.lowlevel.current_task()
        with counter.scope:
            await coroutine

    trio.lowlevel.add_instrument(counter)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(victim)
    finally:
        trio.lowlevel.remove_instrument(counter)
    return counter.number >= number


class _Counter(trio.abc.Instrument):
    """Counts the suspensions of one task, and cancels a scope around one of them."""

    def __init__(self, at: int, moment: Moment) -> None:
        self.task: trio.lowlevel.Task | None = None
        self.scope = trio.CancelScope()
        self.number = 0
        self._at = at
        self._moment = moment

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.number += 1
            if self.number == self._at and self._moment is Moment.WAITING:
                self.scope.cancel()

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        if task is self.task and self.number == self._at and self._moment is Moment.ARRIVING:
            self.scope.cancel()
