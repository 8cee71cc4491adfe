"""Whether an argument is what it should be: the guards that every public call shares, here and in the backends.

A wrong argument raises :class:`~dot_proto.LocalProtocolError`, or the subclass that the call documents, before anything
has been done for it.  The text names the argument, says what it must be, and shows what was given.  It may end up in a
log, so what was given is shown short and escaped, and of octets only the number: they may be a key.

Nothing is converted, because what looks alike often is not: a text is a sequence of letters, ``True`` is 1.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from typing import Final, TypeGuard, TypeVar

from .errors import LocalProtocolError

LONGEST_SHOWN: Final = 40
"Characters of a text that is shown whole: fewer than a key of 32 octets has in base64."

SHOWN_OF_LONGER: Final = 24
"Characters that are shown of a longer text: less than the first line of a private key in PEM."

T = TypeVar("T")


def shown(value: object) -> str:
    """What was given, for people, on one line."""
    if isinstance(value, str):
        if len(value) <= LONGEST_SHOWN:
            return str.__repr__(value)
        return f"{str.__repr__(value[:SHOWN_OF_LONGER])}... ({len(value)} characters)"
    if isinstance(value, bytes | bytearray):
        return f"{type(value).__name__} ({len(value)} octets)"
    if type(value) is int and value.bit_length() > 64:
        return f"an int of {value.bit_length()} bits"
    if value is None or type(value) in (bool, int, float):
        return repr(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return type(value).__name__


def wrong(name: str, wanted: str, value: object, hint: str = "") -> LocalProtocolError:
    """The exception for an argument that is none; ``hint`` says what to do, where that is known."""
    return LocalProtocolError(complaint(name, wanted, value, hint))


def complaint(name: str, wanted: str, value: object, hint: str = "") -> str:
    """Its text, for the subclasses."""
    return f"{name} must be {wanted}, not {shown(value)}{hint and ': '}{hint}"


def check_instance(name: str, value: object, kind: type, hint: str = "") -> None:
    """An object of a class, not the class itself, and nothing that could be made into one."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIO" else "a"
        raise wrong(name, f"{article} {kind.__name__}", value, hint)


def check_flag(name: str, value: object) -> None:
    """``True`` or ``False``: a text such as "no" would be true."""
    if value is not True and value is not False:
        raise wrong(name, "True or False", value)


def check_seconds(name: str, value: float) -> float:
    """A length of time: 0 or more, infinity among them."""
    if type(value) is float and value >= 0.0:  # as nearly all are, once for each query; no NaN is
        return value
    if not is_number(value) or value < 0:
        hint = f"give {name}.total_seconds()" if hasattr(value, "total_seconds") else ""
        raise wrong(name, "a number of seconds, 0 or more", value, hint)
    return value


def is_number(value: object) -> TypeGuard[float]:
    """Whether something is a number that a time can be: no NaN, and no whole number beyond what a float can say."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max or abs(value) == math.inf


def check_time(name: str, value: float) -> float:
    """A point in time, in seconds on some clock: any number that is finite."""
    if not is_number(value) or abs(value) == math.inf:
        raise wrong(name, "a time in seconds, on a clock such as time.monotonic()", value)
    return value


def check_whole(name: str, value: object, what: str = "number") -> None:
    """A whole number of any size; ``True`` is none."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong(name, f"a whole {what}", value)


def check_octets(name: str, value: object, what: str, hint: str = "") -> None:
    """``bytes``."""
    if not isinstance(value, bytes):
        raise wrong(name, f"{what} in octets (bytes)", value, hint)


def check_buffer(name: str, value: object) -> None:
    """Octets of a stream, in whatever holds some; no arrays and no lists of numbers."""
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise wrong(name, "octets (bytes, bytearray or memoryview)", value)


def check_text(name: str, value: object, what: str = "text", hint: str = "") -> None:
    """``str``."""
    if not isinstance(value, str):
        raise wrong(name, what, value, hint)


def check_function(name: str, value: object, what: str, hint: str = "") -> None:
    """Something that can be called; what it takes and returns shows when it is."""
    if not callable(value):
        raise wrong(name, what, value, hint)


def collected(name: str, value: Iterable[T], kind: type, what: str, hint: str = "") -> tuple[T, ...]:
    """All that an iterable gives, which may be gone through only once; each must be of a class.

    A text, octets and a dictionary are iterables too, but of letters, numbers and keys: never what was meant.
    """
    given: object = value
    if not isinstance(given, Iterable) or isinstance(given, (str, bytes, bytearray, memoryview, Mapping, type)):
        raise wrong(name, what, value, hint)
    found = tuple(value)
    for at, one in enumerate(found, 1):
        if not isinstance(one, kind) or isinstance(one, bool):
            raise LocalProtocolError(
                f"{name} must be {what}, but number {at} in it is {shown(one)}{hint and ': '}{hint}"
            )
    return found
