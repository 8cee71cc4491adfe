"""Whether an object can leave its process: by pickle, by copy, and through the workers of a pool."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.pool import Pool
from typing import Final, NoReturn

import pytest

PROTOCOLS: Final = range(pickle.HIGHEST_PROTOCOL + 1)

TIMEOUT: Final = 60.0
"Seconds for a worker to start and answer; where an answer cannot be pickled, a pool waits for ever."

WAYS: Final[dict[str, Callable[[object], object]]] = {
    **{f"pickle {number}": lambda one, number=number: pickle.loads(pickle.dumps(one, number)) for number in PROTOCOLS},
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def alike(one: object, other: object) -> bool:
    """Equal; exceptions, which compare by identity, in class, arguments and attributes."""
    if type(one) is not type(other):
        return False
    if isinstance(one, BaseException) and isinstance(other, BaseException):
        same_words = str(one) == str(other) and alike(one.args, other.args)
        return same_words and alike(vars(one), vars(other))
    if dataclasses.is_dataclass(one) and not isinstance(one, type):
        names = [field.name for field in dataclasses.fields(one)]
        return all(alike(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    return one == other


def check_travels(one: object) -> None:
    """Every way brings back what was sent."""
    for way, send in WAYS.items():
        back = send(one)
        assert alike(back, one), f"{way}: {back!r}"


def check_stays(one: object) -> None:
    """Every way is refused in words; nothing is sent by halves."""
    for way, send in WAYS.items():
        with pytest.raises(
            TypeError, match=f"{type(one).__name__} can be neither pickled nor copied, since .*: pass on"
        ):
            pytest.fail(f"{way}: {send(one)!r}")


class Workers:
    """One worker of a ``multiprocessing.Pool``, and one of a ``ProcessPoolExecutor``."""

    def __init__(self) -> None:
        context = get_context("spawn")  # a fork would copy the threads' locks of the tests before
        self._pool: Pool = context.Pool(1)
        self._executor = ProcessPoolExecutor(1, mp_context=context)

    def close(self) -> None:
        self._pool.terminate()
        self._pool.join()
        self._executor.shutdown(cancel_futures=True)

    def returned(self, one: object) -> list[object]:
        """What comes back from a function that returns its argument, from each."""
        return [
            self._pool.apply_async(_same, (one,)).get(TIMEOUT),
            self._executor.submit(_same, one).result(TIMEOUT),
        ]

    def raised(self, error: BaseException) -> list[BaseException]:
        """What comes back from a function that raises it, from each."""
        caught: list[BaseException] = []
        for ask in (
            lambda: self._pool.apply_async(_fail, (error,)).get(TIMEOUT),
            lambda: self._executor.submit(_fail, error).result(TIMEOUT),
        ):
            with pytest.raises(type(error)) as info:
                ask()
            caught.append(info.value)
        return caught


def _same(one: object) -> object:
    return one


def _fail(error: BaseException) -> NoReturn:
    raise error
