"""Octets read as a program of calls, so that a fuzzer which knows only octets can write one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dot_proto import Event
from dot_proto.testing.messages import pieces

STREAM = -1
"In place of a number of operands: a length octet, and so many octets."


def calls(program: bytes, verbs: Sequence[tuple[str, int]]) -> Iterator[tuple[str, bytes]]:
    """The calls, each a verb and its operands of an octet each; where the program ends early, operands are 0."""
    at = 0
    while at < len(program):
        verb, count = verbs[program[at] % len(verbs)]
        at += 1
        if count == STREAM:
            count = program[at] if at < len(program) else 0
            at += 1
            yield verb, program[at : at + count]
        else:
            yield verb, program[at : at + count].ljust(count, b"\0")
        at += count


def cut(stream: bytes, size: int) -> list[bytes]:
    """The stream in pieces of ``size`` octets, or whole where that is 0; always one piece at least."""
    return list(pieces(stream, size or len(stream))) if stream else [b""]


def picked(choices: Sequence, number: int):
    """The choice that a number means; every number means one."""
    return choices[number % len(choices)]


def seconds(octet: int) -> float:
    """0 to 127.5 seconds."""
    return octet / 2


def in_words(events: Sequence[Event]) -> list[str]:
    """Events in a form that compares."""
    return [repr(event) for event in events]
