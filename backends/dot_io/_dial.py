"""Which address of a host is tried when: Happy Eyeballs (RFC 8305), without I/O and without a clock.

A host has several addresses, and some of them may not answer: not at all, or only after the kernel has sent SYN again
for two minutes.  To try one after the other would use up the caller's time on the first.  So the next attempt starts
while the ones before it are still on their way, and the first connection that comes up is taken.

A backend does what is asked of it here: it starts an attempt for each address that :meth:`Dialling.next_attempt`
returns, waits for as long as :meth:`Dialling.next_wait` says or until an attempt has ended, and reports those that
failed.  The addresses mean nothing to this module, and all times are on the backend's clock, in seconds.
"""

from __future__ import annotations

import math
import os
import socket
from collections import deque
from collections.abc import Hashable, Iterable
from typing import Final, Generic, TypeVar

from .errors import ConnectError, ConnectTimeoutError

ATTEMPT_DELAY: Final = 0.25
"Seconds from one attempt to the next, while none has failed (RFC 8305, section 8: Connection Attempt Delay)."

SHORTEST_ATTEMPT_DELAY: Final = 0.01
"Seconds; the delay must never be less (RFC 8305, section 5)."

MAX_ATTEMPTS: Final = 32
"Attempts on their way at a time: each takes a file descriptor, and a name may have thousands of addresses."

MAX_NAMED: Final = 4
"Addresses that are named for each reason of failure; of the others only the number is told."

FAILURES: Final = (OSError, TypeError, ValueError, OverflowError)
"How an attempt may fail; the others for an address that is none: the system's lookup can be replaced by anybody's."

LONGEST_WAIT: Final = 86_400.0
"Seconds to wait at a time: poll(2) counts milliseconds in 31 bits."

A = TypeVar("A")


class Dialling(Generic[A]):
    """The attempts to connect to one host; ``addresses`` come with their families, the system's favourite first."""

    def __init__(self, host: str, port: int, addresses: Iterable[tuple[Hashable, A]], *, deadline: float) -> None:
        self._host = host
        self._port = port
        self._waiting = deque(interleaved(addresses))
        self._deadline = deadline
        self._in_progress = 0
        self._next_start = -math.inf
        self._failures: list[tuple[A, Exception]] = []

    def next_attempt(self, *, now: float) -> A | None:
        """The address to try now, if it is time for one; ask again until it is ``None``."""
        if not self._may_start() or now < self._next_start or now >= self._deadline:
            return None
        # Where little time is left, the delay is shorter, so that each address has its turn before the deadline.
        share = (self._deadline - now) / len(self._waiting)
        self._next_start = now + max(min(ATTEMPT_DELAY, share), SHORTEST_ATTEMPT_DELAY)
        self._in_progress += 1
        return self._waiting.popleft()

    def failed(self, address: A, error: Exception) -> None:
        """An attempt has failed, so the next one need not wait (RFC 8305, section 5)."""
        self._failures.append((address, error))
        self._in_progress -= 1
        self._next_start = -math.inf

    def next_wait(self, *, now: float) -> float:
        """Seconds until :meth:`next_attempt` must be asked again, if no attempt ends before.

        Raises :class:`~dot_io.errors.ConnectError` when all addresses have failed, and
        :class:`~dot_io.errors.ConnectTimeoutError` at the deadline.
        """
        if not self._waiting and not self._in_progress:
            raise self._failure()
        if now >= self._deadline:
            because = f": {self._reasons()}" if self._failures else ""
            raise ConnectTimeoutError(f"no TCP connection to {self._host} port {self._port} in time{because}")
        until = min(self._deadline, self._next_start) if self._may_start() else self._deadline
        return remaining(until, now=now)

    def _may_start(self) -> bool:
        return bool(self._waiting) and self._in_progress < MAX_ATTEMPTS

    def _failure(self) -> ConnectError:
        if not self._failures:
            return connect_error(self._host, self._port, OSError("it has no address"))
        error = self._failures[0][1]
        if len(self._failures) == 1:
            failure = connect_error(self._host, self._port, error)
        else:
            failure = ConnectError(f"no TCP connection to {self._host} port {self._port}: {self._reasons()}")
        failure.__cause__ = error
        return failure

    def _reasons(self) -> str:
        """Each reason once, with the addresses that failed for it."""
        addresses: dict[str, list[str]] = {}
        for address, error in self._failures:
            addresses.setdefault(_words(error), []).append(str(address))
        return "; ".join(f"{words} ({_listed(names)})" for words, names in addresses.items())


def interleaved(addresses: Iterable[tuple[Hashable, A]]) -> list[A]:
    """One address of each family in turn, the first one's family first (RFC 8305, section 4)."""
    families: dict[Hashable, deque[A]] = {}
    for family, address in addresses:
        families.setdefault(family, deque()).append(address)
    order: list[A] = []
    while families:
        for family in list(families):
            order.append(families[family].popleft())
            if not families[family]:
                del families[family]
    return order


def remaining(until: float, *, now: float) -> float:
    """Seconds to wait until then, as many as every system's calls can take."""
    return min(max(until - now, 0.0), LONGEST_WAIT)


def connect_error(host: str, port: int, error: Exception) -> ConnectError:
    """No TCP connection, and why, in the same words on every backend: the system's."""
    return ConnectError(f"no TCP connection to {host} port {port}: {_words(error)}")


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        # asyncio puts words of its own in the place of the system's.
        return str(error.strerror) if isinstance(error, socket.gaierror) else os.strerror(error.errno)
    return str(error)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
