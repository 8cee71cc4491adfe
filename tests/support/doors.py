"""Every argument of every public call, what is wrong for it, and the law that each call keeps.

The law: what is wrong raises :class:`~dot_proto.LocalProtocolError`, never a bare error from somewhere inside.  The
text names the argument, and shows what was given, short and printable, but no octet of it.  Nothing has changed: the
call goes through right behind with what is right.

A table is a dictionary of doors by name: ``engine`` and ``backends`` have one each.
"""

from __future__ import annotations

import enum
import inspect
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import dns.message
import dns.name
import pytest

from dot_proto import LocalProtocolError
from dot_proto.arguments import shown
from support.interpreted import IS_COMPILED

LONGEST: Final = 500
"Characters of a text for a log."


@dataclass(frozen=True)
class Fresh:
    """A wrong argument that is to be made anew, since it can be used once."""

    make: Callable[[], object]
    says: str | None = None


@dataclass(frozen=True)
class Miss:
    """What is nearly right, and what the text says to it."""

    value: object
    says: str


@dataclass(frozen=True)
class Door:
    """One call: how to come by it, what is right for it, and by argument what is wrong."""

    made: Callable[[], Callable[..., object]]
    right: dict[str, object]
    wrong: dict[str, list[object]]


class Enumeration(enum.Enum):
    """Of somebody else's."""

    MEMBER = 1


class Unprintable:
    """Its ``repr`` fails, which is no reason to fail otherwise."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


async def a_coroutine() -> None:
    """Never awaited, and closed by whoever made it."""


MESSAGE: Final = dns.message.make_query("example.com", "A")
SECRET: Final = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF\n"
"A key that was pasted by mistake: no text shows a character of its second line."

ANYTHING: Final[list[object]] = [Enumeration.MEMBER, Enumeration, Unprintable(), object, {}, {"a": 1}, SECRET]
"Wrong for whatever is no container of it."

NO_FLAG: Final[list[object]] = [0, 1, None, "no", "", b"", [], math.nan, *ANYTHING]
NO_SECONDS: Final[list[object]] = [
    "5", b"5", -1, -0.1, math.nan, -math.inf, True, 10**400, timedelta(seconds=5), [5], *ANYTHING,
]  # fmt: skip
NO_TIME: Final[list[object]] = [None, "5", math.nan, math.inf, datetime.now(UTC), timedelta(1), [5], *ANYTHING]
NO_COUNT: Final[list[object]] = ["5", 1.5, 1.0, True, math.nan, math.inf, b"5", -1, [5], *ANYTHING]
NO_OCTETS: Final[list[object]] = [
    None, "example.com", 5, bytearray(12), memoryview(bytes(12)), [1, 2], MESSAGE, Path("query"), *ANYTHING,
]  # fmt: skip
NO_DATA: Final[list[object]] = [None, "example.com", 5, [1, 2], MESSAGE, Path("query"), *ANYTHING]
NO_TEXT: Final[list[object]] = [None, b"example.com", 5, True, ["a"], ("a", 1), Path("a"), *ANYTHING[:-1]]
NO_OBJECT: Final[list[object]] = ["dns.example", "", b"", 5, 0, False, True, [], (), Path("a"), *ANYTHING]
"Wrong for whatever must be of one class."
NO_FUNCTION: Final[list[object]] = [None, "f", b"f", 5, [], *ANYTHING[2:3], *ANYTHING[4:]]

NO_NETWORKS: Final[list[object]] = [
    None, 5, b"10.0.0.0/8", {}, [5], [b"10.0.0.0/8"], [None], *ANYTHING[:-1],
    Miss("10.0.0.0/8", r"must be a list of networks, .* not '10.0.0.0/8': give \['10.0.0.0/8'\]"),
    Miss(["10.0.0.1/8"], "holds '10.0.0.1/8', an address inside a network: give '10.0.0.0/8'"),
    Miss(["2001:db8::1/32"], "an address inside a network: give '2001:db8::/32'"),
    Miss(["10.0.0.0/33"], "holds '10.0.0.0/33', which is no network"),
    Miss(["10.0.0.0/8", "lb.example"], "holds 'lb.example', which is no network"),
    Miss(["10.0.0.0/8\n"], r"holds '10.0.0.0/8\\n', which is no network"),
    Miss(["0.0.0.0/0"], "holds '0.0.0.0/0', so that everybody could say to be anybody"),
    Miss(["::/0"], "holds '::/0', so that everybody could say to be anybody"),
    Miss([""], "holds '', which is no network"),
    Miss(["::ffff:10.0.0.0/104"], "holds '::ffff:10.0.0.0/104', which is of IPv4: give the network of IPv4"),
]  # fmt: skip
"Wrong for ``proxy_from``."


def without_none(values: list[object]) -> list[object]:
    """For what is optional."""
    return [value for value in values if value is not None]


def check(door: Door, argument: str) -> None:
    """Each wrong value is refused by the law, and then all goes on."""
    call = door.made()
    for value in door.wrong[argument]:
        if IS_COMPILED and value is True:
            continue  # a compiled module takes it for 1
        refused(call, {**door.right, argument: value}, argument, value)
    call(**door.right)


def refused(call: Callable[..., object], arguments: dict[str, Any], argument: str, value: object) -> str:
    """The text in which a wrong value of an argument is refused."""
    says: str | None = None
    if isinstance(value, Miss):
        value, says = value.value, value.says
    elif isinstance(value, Fresh):
        value, says = value.make(), value.says
    try:
        call(**{**arguments, argument: value})
    except LocalProtocolError as error:
        keeps_the_law(str(error), argument, value, says)
        return str(error)
    except TypeError:
        if not IS_COMPILED:  # where a compiled module has a check of its own, before ours
            raise
        return ""
    finally:
        if inspect.iscoroutine(value):
            value.close()
    pytest.fail(f"{argument}={shown(value)} was taken")


def keeps_the_law(text: str, argument: str, value: object, says: str | None = None) -> None:
    """Whether a text may stand."""
    assert text.isprintable(), text
    assert len(text) <= LONGEST, text
    assert SECRET[30:60] not in text
    if says is not None:
        assert re.search(says, text), text
        return
    assert re.search(rf"\b{argument}\b", text), f"{argument} is not in {text!r}"
    candidates = [value, *value] if isinstance(value, list | tuple) else [value]
    assert any(shown(each) in text for each in candidates), f"{shown(value)} is not in {text!r}"


def arguments_of(modules: list[ModuleType]) -> Iterator[tuple[str, str]]:
    """Every argument of whatever a module makes public: functions, constructors, methods, and what can be set."""
    for module in modules:
        for name in public(module):
            value = getattr(module, name)
            if isinstance(value, type) and not issubclass(value, enum.Enum):
                yield from _arguments_of_class(f"{module.__name__}.{name}", value)
            elif inspect.isfunction(inspect.unwrap(value)) if callable(value) else False:
                yield from _arguments_of_function(f"{module.__name__}.{name}", value)


def public(module: ModuleType) -> list[str]:
    """The names that a module offers."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [name for name, one in vars(module).items() if getattr(one, "__module__", "") == module.__name__]


def _arguments_of_class(name: str, kind: type) -> Iterator[tuple[str, str]]:
    for attribute in dir(kind):
        if attribute.startswith("_") and attribute not in ("__init__", "__getitem__", "__setitem__", "__delitem__"):
            continue
        found = inspect.getattr_static(kind, attribute)
        if isinstance(found, property):
            if found.fset is not None:
                yield f"{name}.{attribute}", "value"
            continue
        function = getattr(found, "__func__", found)
        if getattr(function, "__module__", "") and str(function.__module__).startswith("dot_"):
            yield from _arguments_of_function(name if attribute == "__init__" else f"{name}.{attribute}", function)


def _arguments_of_function(name: str, function: Callable[..., object]) -> Iterator[tuple[str, str]]:
    for parameter in inspect.signature(function).parameters:
        if parameter not in ("self", "cls"):
            yield name, parameter


def rows(table: dict[str, Door]) -> list[tuple[str, str]]:
    """Each argument of a table, for ``parametrize``."""
    return [(name, argument) for name, door in table.items() for argument in door.wrong]


def name_of_a_name() -> object:
    """What dnspython has for names."""
    return dns.name.from_text("example.com")
