"""Whether a server has fallen silent: queries time out one after the other, and not one octet comes meanwhile."""

from __future__ import annotations

import math

from .configuration import ClientConfiguration


class Silence:
    """Counts time-outs since octets last came; whoever receives octets sets :attr:`heard_at` and :attr:`timeouts`."""

    __slots__ = ("_least", "_most", "_since", "heard_at", "timeouts")

    def __init__(self, configuration: ClientConfiguration) -> None:
        self._most = configuration.max_silent_timeouts
        self._least = configuration.silence_timeout
        self._since = math.inf
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
