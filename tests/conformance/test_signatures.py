"""The three packages have the same names with the same arguments, but for ``await``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import ModuleType
from typing import Any

import pytest

import dot_io.asyncio
import dot_io.blocking
import dot_io.trio

PACKAGES = (dot_io.blocking, dot_io.asyncio, dot_io.trio)

ALLOWED = {("blocking", "serve"): {"workers"}}
"Arguments that one package has and the others have not: handlers that block need threads."

CALLS: dict[str, Callable[[ModuleType], Any]] = {
    "connect": lambda package: package.connect,
    "serve": lambda package: package.serve,
    "Client.first_response": lambda package: package.Client.first_response,
    "Client.query": lambda package: package.Client.query,
    "Client.query_many": lambda package: package.Client.query_many,
    "Client.close": lambda package: package.Client.close,
    "Resolver": lambda package: package.Resolver,
    "Resolver.query": lambda package: package.Resolver.query,
    "Resolver.query_many": lambda package: package.Resolver.query_many,
    "Resolver.close": lambda package: package.Resolver.close,
    "Resolver.network_changed": lambda package: package.Resolver.network_changed,
    "Server.close": lambda package: package.Server.close,
    "Server.serve_forever": lambda package: package.Server.serve_forever,
}


def short(package: ModuleType) -> str:
    return package.__name__.removeprefix("dot_io.")


def parameters(package: ModuleType, call: str) -> list[tuple[str, Any, Any, Any]]:
    """Names, kinds, defaults and annotations, in order."""
    allowed = ALLOWED.get((short(package), call), set())
    signature = inspect.signature(CALLS[call](package))
    return [
        (one.name, one.kind, one.default, one.annotation)
        for one in signature.parameters.values()
        if one.name not in allowed
    ]


@pytest.mark.parametrize("call", CALLS)
def test_arguments_are_the_same(call: str) -> None:
    blocking, *others = (parameters(package, call) for package in PACKAGES)
    assert all(other == blocking for other in others)


def test_what_is_allowed_exists() -> None:
    """The list of differences has no entry too many."""
    for (name, call), arguments in ALLOWED.items():
        (package,) = (package for package in PACKAGES if short(package) == name)
        assert arguments <= set(inspect.signature(CALLS[call](package)).parameters)


def test_names_are_the_same() -> None:
    assert len({tuple(package.__all__) for package in PACKAGES}) == 1


@pytest.mark.parametrize("owner", ["Client", "Resolver", "Server", "Peer"])
def test_attributes_are_the_same(owner: str) -> None:
    def public(package: ModuleType) -> set[str]:
        cls = getattr(package, owner)
        annotated = {name for base in cls.__mro__ for name in inspect.get_annotations(base)}
        return {name for name in {*dir(cls), *annotated} if not name.startswith("_")}

    assert len({frozenset(public(package)) for package in PACKAGES}) == 1
    assert all(getattr(package, owner).__doc__ for package in PACKAGES)


def test_outcomes_and_peers_are_the_very_same_types() -> None:
    """One handler, one loop over outcomes, fits all three."""
    assert len({package.Peer for package in PACKAGES}) == 1
    assert len({package.Outcome for package in PACKAGES}) == 1


@pytest.mark.parametrize("call", CALLS)
def test_what_is_awaited(call: str) -> None:
    """Where the blocking package returns, the others are awaited; an iterator is an async iterator there."""
    if call == "connect":
        # What is opened is closed by a context manager; a client on asyncio can also be awaited and kept.
        made = dot_io.asyncio.connect("127.0.0.1")
        assert inspect.isawaitable(made)
        assert isinstance(made, AbstractAsyncContextManager)
        made._is_used = True  # else it warns
        assert inspect.isasyncgenfunction(inspect.unwrap(dot_io.trio.connect))
        return
    blocking, *others = (inspect.unwrap(CALLS[call](package)) for package in PACKAGES)
    if call in ("Resolver", "Resolver.network_changed"):  # nothing to wait for
        assert not any(map(inspect.iscoroutinefunction, others))
        return
    is_generator = inspect.isgeneratorfunction(blocking)
    for other in others:
        if call == "serve":
            assert inspect.isasyncgenfunction(other)  # made a context manager: what it opens, it closes
        elif is_generator:
            assert inspect.isasyncgenfunction(other)
        else:
            assert inspect.iscoroutinefunction(other)
