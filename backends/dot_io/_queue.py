"""Callers that wait until a query can be sent, for every backend; pure: it neither waits nor knows what waiting is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from dot_proto import ClientConnection


class Ticket:
    """One caller's turn in a :class:`QueryQueue`."""

    __slots__ = ("is_called", "wake")

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wake = wake
        self.is_called = False
        "Whether it is this caller's turn: there is capacity for its query, or there will be none ever again."


class QueryQueue:
    """First come, first served.

    A connection takes so many queries at a time (``ClientConnection.capacity``).  When capacity becomes free, the
    first in the queue is called.  Between the call and the moment in which that caller runs, others run; what was
    promised to the caller is not theirs, so it is counted apart until the caller leaves the queue.
    """

    __slots__ = ("_connection", "_promised", "_waiting")

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._waiting: deque[Ticket] = deque()
        self._promised = 0

    @property
    def capacity(self) -> int:
        """How many queries a caller may send now without pushing in."""
        return self._connection.capacity - self._promised

    def enter(self, wake: Callable[[], None]) -> Ticket:
        """Wait behind all others; ``wake`` is called once, when it is this caller's turn."""
        ticket = Ticket(wake)
        self._waiting.append(ticket)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """The caller goes on, or gives up; once for each ticket."""
        if ticket.is_called:
            self._promised -= 1
        else:
            self._waiting.remove(ticket)

    def call_next(self) -> None:
        """Call as many as there is capacity for; everybody, where there will be none ever again.

        Due whenever a query has met its fate, and whenever a caller has left without using what it was promised.
        """
        while self._waiting and (self.capacity > 0 or not self._connection.is_open):
            ticket = self._waiting.popleft()
            ticket.is_called = True
            self._promised += 1
            ticket.wake()
