"""Whether a server has fallen silent: queries time out one after the other, and not one octet comes meanwhile.

A caller may always cancel before its query times out (``asyncio.timeout``), and must hear of a dead server too: so
cancelled queries count by the time that has passed since the first of them left.
"""

from __future__ import annotations

import math

from .configuration import ClientConfiguration


class Silence:
    """Counts time-outs since octets last came; whoever receives octets sets :attr:`heard_at` and :attr:`timeouts`."""

    __slots__ = ("_cancelled_since", "_least", "_longest", "_most", "_since", "heard_at", "timeouts")

    def __init__(self, configuration: ClientConfiguration) -> None:
        self._most = configuration.max_silent_timeouts
        self._least = configuration.silence_timeout
        self._longest = configuration.longest_silence
        self._since = math.inf
        self._cancelled_since = -math.inf
        self.heard_at = -math.inf
        "When octets last came, or a time-out was counted: a query asked before that says nothing of the time since."
        self.timeouts = 0
        "Counted since octets last came; queries that time out together count once."

    def is_over_the_limit(self, asked_at: float, now: float) -> bool:
        """Count a time-out of queries, the earliest of them asked at ``asked_at``; says whether it is one too many."""
        self.heard_at = now
        self.timeouts += 1
        if self.timeouts == 1:
            self._since = asked_at
        return self._most is not None and self.timeouts >= self._most and now - self._since >= self._least

    def is_too_long(self, asked_at: float, now: float) -> bool:
        """Note that a query asked at ``asked_at`` was cancelled; says whether there was silence for too long."""
        if asked_at < self.heard_at:
            return False
        if self._cancelled_since <= self.heard_at:  # else others have been cancelled since the server was heard
            self._cancelled_since = asked_at
        return now - self._cancelled_since >= self._longest
