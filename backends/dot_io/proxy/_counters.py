"""What a proxy counts, as plain numbers, since they are kept for every query.  No name and no client stands in it."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from ._policy import DropReason

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"Seconds: the upper ends of the histogram's buckets."


@dataclass(slots=True)
class Counters:
    """Counts from the proxy's beginning."""

    over_udp: Counter[int] = field(default_factory=Counter)
    "Queries that came over UDP, by type; 0: without a question.  What is dropped unread stands below."
    over_tcp: Counter[int] = field(default_factory=Counter)
    "The same over TCP."
    rcodes: Counter[int] = field(default_factory=Counter)
    "Responses by the RCODE in their header."
    dropped: Counter[DropReason] = field(default_factory=Counter)
    "Messages and connections that were not answered, by reason."
    cache_hits: int = 0
    "Queries that were answered by what was kept."
    cache_misses: int = 0
    "Queries for which nothing was kept, though it may be."
    truncated: int = 0
    "Responses with TC."
    durations: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    "Queries that an upstream was asked, by the bucket of their time; the last is for all that took longer."
    seconds: float = 0.0
    "Their time together."

    def took(self, seconds: float) -> None:
        """An upstream was asked, and its answer, or the failure, came after so many seconds."""
        self.durations[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds
