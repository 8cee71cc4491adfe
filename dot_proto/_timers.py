"""Deadlines in named slots; the earliest wins.  One timer serves a whole connection."""

from __future__ import annotations

import enum
import math


class Slot(enum.Enum):
    """What a deadline is for; where several are due at one time, they ring in this order."""

    IDLE = enum.auto()
    "Nothing has been outstanding for too long (RFC 7766, section 6.2.3)."
    DURATION = enum.auto()
    "The connection has lived for as long as it may (RFC 9210, section 4.2)."
    OVERDUE = enum.auto()
    "So many queries will be unanswered past their time that a client's ids run short."
    CLOSE = enum.auto()
    "A graceful close has waited long enough, or has nothing left to wait for."


class Timers:
    """Points in time on the caller's clock, one for each slot at the most."""

    __slots__ = ("_deadlines",)

    def __init__(self) -> None:
        self._deadlines: dict[Slot, float] = {}

    def set(self, slot: Slot, deadline: float) -> None:
        """Arm a slot, or move it."""
        if deadline < math.inf:
            self._deadlines[slot] = deadline
        else:
            self._deadlines.pop(slot, None)

    def stop(self, slot: Slot) -> None:
        """Disarm a slot; one that is not armed stays so."""
        self._deadlines.pop(slot, None)

    def clear(self) -> None:
        """Disarm every slot."""
        self._deadlines.clear()

    def earliest(self) -> float:
        """The next deadline, or infinity."""
        return min(self._deadlines.values(), default=math.inf)

    def deadline(self, slot: Slot) -> float:
        """When the slot is due, or infinity."""
        return self._deadlines.get(slot, math.inf)

    def is_due(self, slot: Slot, now: float) -> bool:
        """Whether the slot is armed and its time has come."""
        return self.deadline(slot) <= now
