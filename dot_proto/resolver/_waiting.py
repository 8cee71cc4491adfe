"""The queries that wait for a place, in the order in which they were asked, by what they wait for."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ._records import ResolverQuery, UpstreamRecord

Wish = tuple[tuple[UpstreamRecord, ...], UpstreamRecord | None]
"The order in which a query wants the upstreams, and the one that it wants last."


class Waiting:
    """Queries with the same wish wait in one line, so that a whole line is placed, or left, at once."""

    __slots__ = ("_earliest", "_size", "lines")

    def __init__(self) -> None:
        self.lines: dict[Wish, dict[int, ResolverQuery]] = {}
        self._size = 0
        self._earliest = math.inf

    def __len__(self) -> int:
        return self._size

    def has_line(self, query: ResolverQuery) -> bool:
        """Whether others with the same wish wait already."""
        return (query.order, query.avoided) in self.lines

    def add(self, query: ResolverQuery) -> None:
        """A query joins its line at the end."""
        wish = query.order, query.avoided
        self.lines.setdefault(wish, {})[query.handle] = query
        self._count(wish, 1)
        self._earliest = min(self._earliest, query.deadline)

    def put_back(self, queries: Iterable[ResolverQuery]) -> None:
        """Queries that had a place join their lines again, in front: they have waited for longer."""
        by_wish: dict[Wish, dict[int, ResolverQuery]] = {}
        for query in queries:
            wish = query.order, query.avoided
            by_wish.setdefault(wish, {})[query.handle] = query
            self._count(wish, 1)
            self._earliest = min(self._earliest, query.deadline)
        for wish, line in by_wish.items():
            self.lines[wish] = line | self.lines.get(wish, {})

    def discard(self, query: ResolverQuery) -> bool:
        """A query waits no more; says whether it did."""
        wish = query.order, query.avoided
        line = self.lines.get(wish)
        if line is None or line.pop(query.handle, None) is None:
            return False
        self._count(wish, -1)
        if not line:
            del self.lines[wish]
        return True

    def expired(self, now: float) -> list[ResolverQuery]:
        """The queries whose deadline has come; they wait no more."""
        due = [query for line in self.lines.values() for query in line.values() if query.deadline <= now]
        for query in due:
            self.discard(query)
        self._earliest = min(
            (query.deadline for line in self.lines.values() for query in line.values()), default=math.inf
        )
        return due

    def clear(self) -> list[ResolverQuery]:
        """All queries; none of them waits any more."""
        every = [query for line in self.lines.values() for query in line.values()]
        for query in every:
            self.discard(query)
        self._earliest = math.inf
        return every

    def earliest_deadline(self) -> float:
        """A time no later than the earliest deadline; infinity where nobody waits."""
        return self._earliest if self._size else math.inf

    def _count(self, wish: Wish, change: int) -> None:
        order, avoided = wish
        first = next((record for record in order if record is not avoided), avoided)
        assert first is not None, "there is one upstream at least"
        first.waiting += change
        first.most_waiting = max(first.most_waiting, first.waiting)
        self._size += change
