"""How an event class is made: plain slots at run time, frozen to type checkers.

A frozen dataclass sets each attribute through ``object.__setattr__``; that costs 1.3 to 1.5 times as much on
the receive path (benchmarks/engine.py measures it).  So the class is an ordinary slotted dataclass, and
only the type checker is told that it is frozen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def event(cls: type[T]) -> type[T]:
    """Turn a class with annotations into a slotted event."""
    return dataclass(slots=True)(cls)
