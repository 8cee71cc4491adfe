"""Whether the machine is in another network than before: it was suspended, or has another address.

Connections of before then lead nowhere, though nothing says so: TCP would send again for a quarter of an hour.  Both
signs are cheap to look for, so that nobody has to tell us.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from typing import Final

from ._clock import monotonic

SUSPENDED: Final = 1.0
"Seconds that the calendar may be ahead of the monotonic clock; beyond, the machine has slept."

RESTED: Final = 30.0
"Seconds without a query, after which the addresses are compared before the next one."


def _gap_by_boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) - monotonic()


def _gap_by_calendar() -> float:
    return time.time() - monotonic()


clock_gap: Final = _gap_by_boottime if hasattr(time, "CLOCK_BOOTTIME") else _gap_by_calendar
"""How far the monotonic clock is behind one that runs on while the machine is suspended, in seconds.

Linux has such a clock; elsewhere the calendar has to do, and a clock that is set counts as a sleep."""


def source_of(address: str) -> str | None:
    """The address from which a packet to ``address`` would leave; ``None``: there is no way there.

    To connect a UDP socket sends nothing: the kernel only chooses.
    """
    plain = address.partition("%")[0]
    family = socket.AF_INET6 if ":" in plain else socket.AF_INET
    with contextlib.suppress(OSError, ValueError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((plain, 9, 0, zone_of(address)) if family == socket.AF_INET6 else (plain, 9))
        source: str = probe.getsockname()[0]
        return source
    return None


def zone_of(address: str) -> int:
    """The number of the interface behind ``%``, 0 without one; raises :class:`OSError` where there is none such."""
    zone = address.partition("%")[2]
    if not zone:
        return 0
    return int(zone) if zone.isdecimal() else socket.if_nametoindex(zone)


class NetworkWatch:
    """Of one resolver; ``gap`` and ``source_of`` are the system's, but in tests."""

    def __init__(
        self,
        gap: Callable[[], float] = clock_gap,
        source_of: Callable[[str], str | None] = source_of,
    ) -> None:
        self._gap = gap
        self._source_of = source_of
        self._known_gap = gap()
        self._ways: dict[int, tuple[str, str | None]] = {}
        """By connection: the server's address, and the one of ours that a packet would have left from.

        Whether TCP has that one too is no matter: where packets of TCP and UDP go different ways, it never has."""

    def opened(self, connection: int, address: str) -> None:
        """A connection has come up."""
        self._ways[connection] = address, self._source_of(address)

    def ended(self, connection: int) -> None:
        """It is no more."""
        self._ways.pop(connection, None)

    def has_slept(self) -> bool:
        """Whether the machine was suspended since this was last asked; 0.3 us."""
        gap = self._gap()
        has_slept = not -SUSPENDED < gap - self._known_gap < SUSPENDED
        self._known_gap = gap
        return has_slept

    def has_moved(self) -> bool:
        """Whether the kernel would reach a server from another address than when it was dialled; 10 us for each.

        Where there is no way at all now, nothing is known: the network may come back as it was.
        """
        for address, ours in self._ways.values():
            source = self._source_of(address)
            if None not in (source, ours) and source != ours:
                self._ways.clear()  # all of them are given up
                return True
        return False
