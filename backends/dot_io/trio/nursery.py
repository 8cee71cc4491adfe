"""A nursery whose block may raise what it likes: that comes out as it is, in no exception group."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_plain_nursery() -> AsyncGenerator[trio.Nursery]:
    """As :func:`trio.open_nursery`; what a task of ours raises still comes out in a group, being a fault of ours."""
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except BaseException as error:
                if nursery.cancel_scope.cancel_called:
                    raise  # a fault of ours has cancelled the block, and must come out
                failure = error
    finally:
        if failure is not None:
            raise failure  # raised inside the nursery it would come out in an exception group
