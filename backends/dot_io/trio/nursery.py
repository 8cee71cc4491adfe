"""Context managers for trio that Ctrl-C leaves whole: a nursery, and those that :func:`connect` and :func:`serve` make.

trio tells of Ctrl-C in one of two ways.  In code that is not protected it raises KeyboardInterrupt at once, between
any two instructions.  Otherwise it waits, and raises it in the program's main task, where that waits for something.
Of the first kind nothing of ours can be: a session, an engine or a nursery that is left halfway is of no use any
more, and may keep its program from ending.  So what a caller calls is protected, and so is what leads there: the
machinery of :func:`contextlib.asynccontextmanager` is not, and it runs before and after each of our blocks.

The second kind comes where we wait, as a cancellation does.  One place is left where it would come out in an
exception group: while a nursery waits for its tasks.  There it is taken out of the group.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import ParamSpec, TypeVar

import trio

from .._opening import Opening, opened

P = ParamSpec("P")
T = TypeVar("T")


class _Protected(AbstractAsyncContextManager[T]):
    def __init__(self, manager: AbstractAsyncContextManager[T]) -> None:
        self._manager = manager

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> T:
        return await self._manager.__aenter__()

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._manager.__aexit__(kind, error, traceback)


def protected_context_manager(
    function: Callable[P, AsyncGenerator[T]],
) -> Callable[P, AbstractAsyncContextManager[T]]:
    """As :func:`contextlib.asynccontextmanager`; all but the block is protected from Ctrl-C."""
    manager = asynccontextmanager(function)

    @functools.wraps(function)
    def make(*arguments: P.args, **options: P.kwargs) -> AbstractAsyncContextManager[T]:
        return _Protected(manager(*arguments, **options))

    return make


class _ProtectedOpening(Opening[T]):
    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> T:
        return await super().__aenter__()

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await super().__aexit__(kind, error, traceback)


def protected_opened(function: Callable[P, AsyncGenerator[T]]) -> Callable[P, AbstractAsyncContextManager[T]]:
    """As :func:`protected_context_manager`, with words for those who forget to enter."""
    return opened(function, protected_context_manager, _ProtectedOpening)


@protected_context_manager
async def open_plain_nursery() -> AsyncGenerator[trio.Nursery]:
    """As :func:`trio.open_nursery`, but what the block raises comes out as it is, and so does Ctrl-C.

    What a task of ours raises still comes out in a group, being a fault of ours; or is told as the context of what the
    block raises.
    """
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except BaseException as error:
                # A task that has raised, a cancellation from outside too, has cancelled the nursery.  The cancellation
                # that the block raises then is the nursery's own, which takes it back.
                if nursery.cancel_scope.cancel_called and not isinstance(error, Exception):
                    raise
                failure = error  # raised inside the nursery it would come out in an exception group
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        interruption, others = group.split(KeyboardInterrupt)
        if interruption is not None:
            raise _one_of(interruption) from others
        if failure is None:
            raise
        if group.split(trio.Cancelled)[1] is not None:
            raise failure  # noqa: B904  the group is its context
    if failure is not None:
        raise failure


def _one_of(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
