"""The queries that wait for answers, within limits of number and size; no I/O, no clock."""

from __future__ import annotations

from typing import Generic, TypeVar

from .configuration import ProxyConfiguration

T = TypeVar("T")


class InFlight(Generic[T]):
    """Queries by handle, the oldest first.

    Whatever an upstream does, what waits for it is bounded by ``max_in_flight`` and ``max_in_flight_octets``.
    A loop, where an upstream or somebody behind it asks this proxy, is bounded by ``max_equal``: each round of it is a
    new query with a new deadline, so that no deadline ends it.
    """

    def __init__(self, configuration: ProxyConfiguration) -> None:
        self._configuration = configuration
        self._waiting: dict[int, tuple[T, bytes, int]] = {}
        self._equal: dict[bytes, int] = {}
        self._octets = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def takes(self, key: bytes) -> bool:
        """Whether one more query with this question may wait: name, type and class, in lower case."""
        return self._equal.get(key, 0) < self._configuration.max_equal

    def add(self, handle: int, query: T, key: bytes, octets: int) -> None:
        """A query waits, which has ``octets`` octets; see :meth:`surplus` then."""
        self._equal[key] = self._equal.get(key, 0) + 1
        self._octets += octets
        self._waiting[handle] = query, key, octets

    def surplus(self) -> int | None:
        """The handle of the oldest query, where more wait than may; :meth:`remove` it, and look again."""
        configuration = self._configuration
        if len(self._waiting) > configuration.max_in_flight or self._octets > configuration.max_in_flight_octets:
            return next(iter(self._waiting))
        return None

    def remove(self, handle: int) -> T | None:
        """A query waits no more; ``None`` where it did not."""
        found = self._waiting.pop(handle, None)
        if found is None:
            return None
        query, key, octets = found
        self._octets -= octets
        self._equal[key] -= 1
        if not self._equal[key]:
            del self._equal[key]
        return query
