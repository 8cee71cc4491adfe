"""One opening of an upstream: its addresses, each dialled a little after the last, until one is authenticated.

TCP alone decides nothing: the kernel of a stopped server still accepts it.  So an address has won when the server
there has been authenticated, and the others are abandoned; no query has left on them (RFC 8305, section 5).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from .configuration import MAX_ADDRESSES
from .events import UpstreamFailure


def in_order(addresses: Iterable[str], last_good: str | None) -> tuple[str, ...]:
    """The order in which addresses are tried: the one that worked last, then both families by turns.

    The family of the first address given is the one that begins (RFC 8305, section 4).
    """
    distinct = list(dict.fromkeys(addresses))[:MAX_ADDRESSES]
    families: dict[bool, deque[str]] = {}
    for address in distinct:
        families.setdefault(":" in address, deque()).append(address)
    ordered: list[str] = []
    while any(families.values()):
        ordered += [family.popleft() for family in families.values() if family]
    if last_good in distinct:
        assert last_good is not None
        ordered.remove(last_good)
        ordered.insert(0, last_good)
    return tuple(ordered)


class Race:
    """The addresses still to be tried, and the connections that are being opened, by their numbers."""

    __slots__ = ("failure", "lookup_until", "next_at", "racers", "remaining", "retries", "was_refused")

    def __init__(self) -> None:
        self.remaining = deque[str]()
        self.racers: set[int] = set()
        self.next_at = math.inf
        "When the next address is due, though the last has neither failed nor won."
        self.lookup_until = math.inf
        "When the lookup of the upstream's name has taken too long; infinity: none is under way."
        self.failure: UpstreamFailure | None = None
        "What to tell if all fail: a refusal, or else the last failure."
        self.was_refused = False
        self.retries = 0
        "Addresses that were dialled once more, since it was known why they had failed."

    def note(self, failure: UpstreamFailure, *, refused: bool) -> None:
        """An address has failed."""
        if refused or not self.was_refused:
            self.failure = failure
        self.was_refused = self.was_refused or refused
