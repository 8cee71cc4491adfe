"""The functions that a server is given, looked at before it begins."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import NoReturn

from dot_proto import LocalProtocolError
from dot_proto.arguments import wrong
from dot_proto.query import not_octets


def check_handler(handler: object) -> None:
    """Refuse what could answer nobody, as each query would show, one after the other."""
    wanted = "a function of a query and its peer"
    _check_function("handler", wanted, handler)
    if is_any(handler, inspect.isgeneratorfunction, inspect.isasyncgenfunction):
        raise LocalProtocolError(f"handler must be {wanted} that returns octets, not one that yields")
    _check_call("handler", wanted, handler, b"", None)


def check_on_end(on_end: object) -> None:
    """Refuse what could report nothing."""
    wanted = "a function of a ConnectionEnd"
    _check_function("on_end", wanted, on_end)
    if is_any(on_end, inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction):
        raise LocalProtocolError(f"on_end must be {wanted} that does all it does at once: nobody would await it")
    _check_call("on_end", wanted, on_end, None)


def refuse_response(response: object) -> NoReturn:
    """What a handler should not return; a compiled engine would say so in other words."""
    raise LocalProtocolError(not_octets(response, "a response"))


def is_any(function: object, *kinds: Callable[[object], bool]) -> bool:
    """Whether a function, or an object that is called as one, is of one of the kinds that ``inspect`` knows."""
    return any(is_kind(each) for is_kind in kinds for each in (function, getattr(function, "__call__", None)))  # noqa: B004


def _check_function(name: str, wanted: str, function: object) -> None:
    if not callable(function) or isinstance(function, type):
        raise wrong(name, wanted, function)


def _check_call(name: str, wanted: str, function: object, *arguments: object) -> None:
    try:
        inspect.signature(function).bind(*arguments)  # type: ignore[arg-type]
    except ValueError:  # it does not say
        pass
    except TypeError as error:
        raise LocalProtocolError(f"{name} must be {wanted}, and this one cannot be called so: {error}") from None
