"""Tables of states as the code has them, drawn as SVG; needs nothing but Python."""

from __future__ import annotations

import enum
import html
import importlib
from collections.abc import Mapping
from typing import Final

Moves = Mapping[tuple[enum.Enum, enum.Enum], enum.Enum]

WIDTH: Final = 130
"Of a state's box, in pixels; the other lengths are in proportion."
HEIGHT: Final = 40
GAP: Final = 90
RISE: Final = 34
"How much higher an arrow's top is for each state that it passes."
LOOP: Final = 0.7
"How many states an arrow from a state to itself passes, as far as its height goes."
MARGIN: Final = 24
"For the number of the outermost arrow."


def load(source: str) -> Moves:
    """The table that ``module:NAME`` says."""
    module, _, name = source.partition(":")
    moves: Moves = getattr(importlib.import_module(module), name)
    return moves


def states_of(moves: Moves) -> list[enum.Enum]:
    """The states in the order in which they are defined."""
    (state, _), *_ = moves
    return list(type(state))


def arrows(moves: Moves) -> dict[tuple[enum.Enum, enum.Enum], list[enum.Enum]]:
    """By origin and destination: the steps, in the order in which they are defined."""
    found: dict[tuple[enum.Enum, enum.Enum], list[enum.Enum]] = {}
    for state in states_of(moves):
        for becomes in states_of(moves):
            steps = [step for (origin, step), end in moves.items() if origin is state and end is becomes]
            if steps:
                found[state, becomes] = sorted(steps, key=list(type(steps[0])).index)
    return found


def label(member: enum.Enum) -> str:
    """A state or step as the site writes it."""
    return member.name.lower().replace("_", " ")


def picture(moves: Moves) -> str:
    """An SVG: the states in a row, arrows to later states above them, to earlier ones and to itself below."""
    states = states_of(moves)
    found = arrows(moves)
    leaps = [states.index(end) - states.index(origin) for origin, end in found]
    top = max(leaps) * RISE + MARGIN
    below = max(-leap if leap else LOOP for leap in leaps if leap <= 0) * RISE + MARGIN if min(leaps) <= 0 else 2.0
    width, height = len(states) * (WIDTH + GAP) - GAP + 2, top + HEIGHT + below
    parts = [
        f'<svg class="states" viewBox="0 0 {width} {height}" role="img" xmlns="http://www.w3.org/2000/svg" '
        f'style="max-width:{width}px;width:100%" fill="none" stroke="currentColor" font-size="13">',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="currentColor" stroke="none"/></marker></defs>',
    ]
    for number, state in enumerate(states):
        x = 1 + number * (WIDTH + GAP)
        parts.append(f'<rect x="{x}" y="{top}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>')
        parts.append(
            f'<text x="{x + WIDTH / 2}" y="{top + HEIGHT / 2 + 5}" text-anchor="middle" fill="currentColor" '
            f'stroke="none">{html.escape(label(state))}</text>'
        )
    for number, (origin, end) in enumerate(found, 1):
        parts.append(_arrow(number, states.index(origin), states.index(end), top))
    return "".join([*parts, "</svg>"])


def _arrow(number: int, origin: int, end: int, top: int) -> str:
    """One arrow, with the number under which its steps are listed."""
    steps = end - origin
    forward = steps > 0
    y = top if forward else top + HEIGHT
    height = (abs(steps) or LOOP) * RISE * (-1 if forward else 1)
    shift = 12 if steps else 22
    x1 = 1 + origin * (WIDTH + GAP) + WIDTH / 2 + (shift if forward or not steps else -shift)
    x2 = 1 + end * (WIDTH + GAP) + WIDTH / 2 + (-shift if forward or not steps else shift)
    middle = (x1 + x2) / 2
    return (
        f'<path d="M{x1} {y}C{x1} {y + height * 1.2} {x2} {y + height * 1.2} {x2} {y}" marker-end="url(#head)"/>'
        f'<text x="{middle}" y="{y + height * 0.9 + (-4 if forward else 14)}" text-anchor="middle" '
        f'fill="currentColor" stroke="none">{number}</text>'
    )
