"""The nursery of trio's connections and resolvers: what comes out of it, and how."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from dot_io.trio.nursery import open_plain_nursery


async def fail() -> None:
    raise KeyError


def test_what_the_block_raises_comes_out_as_it_is_though_the_tasks_were_cancelled_first() -> None:
    """As where a resolver is closed in the turn in which its lookup fails.

    What cancels from outside reaches the tasks before the block: then they have cancelled the nursery when it raises.
    """

    async def main() -> None:
        with trio.CancelScope() as scope:
            try:
                async with open_plain_nursery() as nursery:
                    nursery.start_soon(trio.sleep_forever)
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
                    with trio.CancelScope(shield=True):
                        await trio.testing.wait_all_tasks_blocked()
                    raise ZeroDivisionError
            except ZeroDivisionError:
                return
        raise AssertionError

    trio.run(main)


def test_a_cancellation_from_outside_ends_at_its_scope() -> None:
    async def main() -> None:
        with trio.CancelScope() as scope:
            async with open_plain_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught

    trio.run(main)


def test_a_fault_of_a_task_comes_out_in_a_group() -> None:
    async def main() -> None:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(fail)
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        trio.run(main)
    assert [type(each) for each in caught.value.exceptions] == [KeyError]


def test_a_fault_of_a_task_is_the_context_of_what_the_block_raises() -> None:
    async def main() -> None:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(fail)
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        trio.run(main)
    assert isinstance(caught.value.__context__, ExceptionGroup)
    assert caught.value.__context__.subgroup(KeyError) is not None
