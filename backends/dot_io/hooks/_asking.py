"""A lookup's questions, asked of a resolver; on every loop in one way."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from dot_proto import DoTError

from .._fate import Fate, outcome
from ._getaddrinfo import AddressInfo, Lookup


class BlockingResolver(Protocol):
    """``dot_io.blocking.Resolver``."""

    def query_many(self, messages: Iterable[bytes], /) -> Generator[tuple[int, Fate]]:
        """Ask all, and yield each one's fate."""
        ...


class AsyncResolver(Protocol):
    """``dot_io.asyncio.Resolver`` or ``dot_io.trio.Resolver``."""

    def query_many(self, messages: Iterable[bytes], /) -> AsyncGenerator[tuple[int, Fate]]:
        """Ask all, and yield each one's fate."""
        ...


InThread = Callable[[Callable[[], None]], Awaitable[object]]
"Calls what blocks in a thread."


async def look_up(lookup: Lookup, resolver: AsyncResolver, in_thread: InThread) -> list[AddressInfo]:
    """Have a lookup come to its end; raises :class:`socket.gaierror`."""
    while lookup.questions:
        responses: dict[int, bytes | DoTError] = {}
        try:
            async with aclosing(resolver.query_many(lookup.questions)) as fates:
                async for position, fate in fates:
                    responses[position] = outcome(fate)
        except DoTError as error:
            responses = dict.fromkeys(range(len(lookup.questions)), error)
        lookup.answer(_in_order(responses))
    if lookup.asks_system:
        await in_thread(lambda: lookup.ask_system(socket.getaddrinfo))
    return lookup.result()


def look_up_blocking(lookup: Lookup, resolver: BlockingResolver, system: Callable[..., Any]) -> list[AddressInfo]:
    """The same where waiting blocks; ``system`` is the ``getaddrinfo`` that is stood in for."""
    while lookup.questions:
        try:
            responses = {position: outcome(fate) for position, fate in resolver.query_many(lookup.questions)}
        except DoTError as error:
            responses = dict.fromkeys(range(len(lookup.questions)), error)
        lookup.answer(_in_order(responses))
    if lookup.asks_system:
        lookup.ask_system(system)
    return lookup.result()


def _in_order(responses: Mapping[int, bytes | DoTError]) -> Sequence[bytes | DoTError]:
    return [responses[position] for position in sorted(responses)]
