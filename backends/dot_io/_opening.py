"""What an asynchronous ``connect()`` or ``serve()`` returns; whoever forgets that nothing is open yet, hears it.

``with`` for ``async with``, an ``await`` that was left out, a method of what is still to be opened: Python's own words
for each of them name a class that nobody has heard of, or there are none.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

from dot_proto import LocalProtocolError

P = ParamSpec("P")
T = TypeVar("T")


class Unopened:
    """Tells what to do to whoever takes it for what it opens."""

    _is_used = True  # what was interrupted amid its making has nothing to say
    _call: str
    "What has made it, by its full name."
    _remedy: str
    "How to open it."

    def __del__(self) -> None:
        if not self._is_used:
            text = f"{self._call} opened nothing, since it was never awaited: {self._remedy}"
            warnings.warn(text, RuntimeWarning, source=self, stacklevel=2)

    # To type checkers these do not exist, so that they say the same before the program runs.
    if not TYPE_CHECKING:

        def __enter__(self) -> NoReturn:
            self._is_used = True  # one complaint is enough
            raise LocalProtocolError(
                f"{self._call} is asynchronous: {self._remedy}; dot_io.blocking has one for 'with'"
            )

        def __exit__(self, *_: object) -> None:
            """Never reached."""

        def __getattr__(self, name: str) -> NoReturn:
            self._is_used = True
            call = object.__getattribute__(self, "_call")
            raise AttributeError(f"{call} has opened nothing yet, and so has no {name!r}")


class Opening(Unopened, AbstractAsyncContextManager[T]):
    """What can only be entered, since it must be left."""

    _remedy = "enter it with 'async with' (an AsyncExitStack keeps it open)"

    def __init__(self, call: str, manager: AbstractAsyncContextManager[T]) -> None:
        self._call = call
        self._manager = manager
        self._is_used = False

    async def __aenter__(self) -> T:
        self._is_used = True
        return await self._manager.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._manager.__aexit__(kind, error, traceback)

    if not TYPE_CHECKING:

        def __await__(self) -> Any:
            self._is_used = True
            raise LocalProtocolError(f"{self._call} cannot be awaited: {self._remedy}")


def opened(
    function: Callable[P, AsyncGenerator[T]],
    make_manager: Callable[
        [Callable[P, AsyncGenerator[T]]], Callable[P, AbstractAsyncContextManager[T]]
    ] = asynccontextmanager,
    opening: type[Opening[T]] = Opening,
) -> Callable[P, AbstractAsyncContextManager[T]]:
    """As :func:`contextlib.asynccontextmanager`, with words for those who forget to enter."""
    manager = make_manager(function)
    call = f"{function.__module__.rpartition('.')[0]}.{function.__name__}()"

    @wraps(function)
    def make(*arguments: P.args, **options: P.kwargs) -> AbstractAsyncContextManager[T]:
        return opening(call, manager(*arguments, **options))

    return make
