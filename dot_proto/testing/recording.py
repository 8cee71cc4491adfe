"""Calls on a connection, written down: to be read, and to be made again on another connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar, cast

from ..errors import LocalProtocolError
from ..events import ConnectionClosed, QueryRejected

P = ParamSpec("P")
T = TypeVar("T")


def described(outcome: object) -> object:
    """What a call returned or raised, in a form that compares: of an error its code, not its identity or its words."""
    match outcome:
        case list():
            return [described(each) for each in cast("list[object]", outcome)]
        case ConnectionClosed():
            return "ConnectionClosed", outcome.cause, outcome.error and outcome.error.fault
        case QueryRejected():
            return "QueryRejected", outcome.message, outcome.rcode
        case LocalProtocolError():
            return type(outcome)
        case _:
            return outcome


@dataclass(frozen=True)
class Call:
    """One call, and what came of it."""

    name: str
    "Of the method."
    positional: tuple[object, ...]
    named: dict[str, object]
    outcome: object
    "What it returned or raised, as :func:`described` says it."
    is_mistake: bool
    "Whether it raised :class:`~dot_proto.LocalProtocolError`."

    def __str__(self) -> str:
        """The call in Python, its outcome as a comment."""
        arguments = [*map(repr, self.positional), *(f"{name}={value!r}" for name, value in self.named.items())]
        return f"connection.{self.name}({', '.join(arguments)})  # {self.outcome!r}"


@dataclass
class Recording:
    """The calls on one connection, in order; as text a script in Python."""

    calls: list[Call] = field(default_factory=list[Call])

    def __str__(self) -> str:
        """One call a line."""
        return "\n".join(map(str, self.calls))

    def call(self, method: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call and write it down; returns or raises what it does."""
        try:
            result = method(*args, **kwargs)
        except LocalProtocolError as error:
            self.calls.append(Call(method.__name__, args, kwargs, described(error), True))
            raise
        self.calls.append(Call(method.__name__, args, kwargs, described(result), False))
        return result

    def replay(self, connection: object, *, mistakes: bool = True) -> None:
        """Make the calls again; raises :class:`AssertionError` at the first that does not come out as it did.

        ``mistakes=False`` leaves out those that raised :class:`~dot_proto.LocalProtocolError`, since they must have
        changed nothing.
        """
        for number, call in enumerate(self.calls):
            if call.is_mistake and not mistakes:
                continue
            try:
                outcome = getattr(connection, call.name)(*call.positional, **call.named)
            except LocalProtocolError as error:
                outcome = error
            if described(outcome) != call.outcome:
                without = "" if mistakes else ", the mistakes left out"
                raise AssertionError(f"replayed{without}, call {number} brings {outcome!r}: {call}")
