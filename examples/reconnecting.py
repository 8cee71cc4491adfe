"""A program's own state machine around a connection: where the old one takes no more queries, it opens a new one.

It does no I/O either, so that it can be fuzzed like the engine: docs/fuzzing.md shows how.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dot_proto import ClientConnection, Event, QueryLost, QueryTimedOut, ResponseReceived, make_query


class Stub:
    """Asks by name; every query has one fate, whichever connection it was asked on."""

    def __init__(self, connect: Callable[[], ClientConnection]) -> None:
        self.connect = connect
        self.client = connect()
        self.fates: list[Event] = []

    def ask(self, name: str, *, now: float) -> None:
        """Ask for an A record, on a new connection if need be."""
        if not self.client.accepts_queries:
            self.client.close(now=now, timeout=0)
            self.heed(self.client.handle_timeout(now=now))
            self.client = self.connect()
        self.client.send_query(make_query(name), now=now)

    def heed(self, events: Iterable[Event]) -> None:
        """Note what the client's verbs returned."""
        self.fates += [each for each in events if isinstance(each, ResponseReceived | QueryTimedOut | QueryLost)]
