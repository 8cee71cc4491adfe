"""What a proxy counts.  No name and no client stands in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ._policy import DropReason


@dataclass(slots=True)
class Counters:
    """Counts from the proxy's beginning; plain numbers, since they are kept for every query."""

    over_udp: int = 0
    "Messages that came over UDP."
    over_tcp: int = 0
    "Messages that came over TCP."
    rcodes: Counter[int] = field(default_factory=Counter)
    "Responses by the RCODE in their header."
    dropped: Counter[DropReason] = field(default_factory=Counter)
    "Messages without a response, by reason."
    cache_hits: int = 0
    "Queries that were answered by what was kept."
    cache_misses: int = 0
    "Queries for which nothing was kept, though it may be."
    truncated: int = 0
    "Responses with TC."
