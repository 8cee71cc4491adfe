"""TLS sessions to resume, bounded, each used once.

OpenSSL checks nothing again when a session is resumed: neither the name nor the chain nor the pins (measured).
So a session is kept only together with the verdict under which it was made, only after an acceptance, and for the
context under which it was made, and so for one policy (RFC 8446, section 4.6.1).
"""

from __future__ import annotations

import ssl
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from dot_proto import Verdict

from .._fork import forgets_after_fork

MAX_LIFETIME: Final = 7 * 86_400.0
"Seconds: no ticket is kept longer (RFC 8446, section 4.6.1)."


@dataclass(frozen=True, slots=True)
class _Entry:
    session: ssl.SSLSession
    verdict: Verdict
    expires_at: float


class SessionCache:
    """Sessions by context and server; ``server`` is the address and port that was dialled.

    Contexts may share a cache, never a session; threads may share it too.  Holds sessions of ``max_servers``
    servers, at most ``per_server`` each; the oldest give way.
    """

    def __init__(self, *, max_servers: int = 64, per_server: int = 2) -> None:
        self._max_servers = max_servers
        self._per_server = per_server
        self._entries: OrderedDict[tuple[object, tuple[str, int]], list[_Entry]] = OrderedDict()
        self._lock = threading.Lock()  # connections of one context are often in several threads
        forgets_after_fork(self)

    def __len__(self) -> int:
        with self._lock:
            return sum(map(len, self._entries.values()))

    def store(
        self,
        context: object,
        server: tuple[str, int],
        session: ssl.SSLSession,
        verdict: Verdict,
        *,
        now: float,
        wall_time: float,
    ) -> None:
        """Keep a session for its ticket's lifetime, 7 days, or the leaf's notAfter, whichever is shortest.

        ``now`` is monotonic, ``wall_time`` POSIX seconds.  A lifetime of 0 keeps nothing.
        """
        # Counted from the ticket's own time: under TLS 1.2 a resumed session has still the ticket of the first.
        expires_at = session.time + min(session.ticket_lifetime_hint, MAX_LIFETIME)
        if verdict.validated and (end := verdict.validated[0].not_after) is not None:
            expires_at = min(expires_at, end)
        if expires_at <= wall_time or not verdict.accepted:
            return
        key = context, server
        with self._lock:
            entries = self._entries.setdefault(key, [])
            self._entries.move_to_end(key)
            entries.append(_Entry(session, verdict, now + expires_at - wall_time))
            del entries[: -self._per_server]
            if len(self._entries) > self._max_servers:
                self._entries.popitem(last=False)

    def take(self, context: object, server: tuple[str, int], *, now: float) -> tuple[ssl.SSLSession, Verdict] | None:
        """The newest session for this server, which is forgotten by this: a ticket is used once (RFC 8446, C.4)."""
        with self._lock:
            entries = self._entries.get((context, server), [])
            while entries:
                entry = entries.pop()
                if entry.expires_at > now:
                    return entry.session, entry.verdict
            self._entries.pop((context, server), None)
        return None

    def forget_server(self, context: object, server: tuple[str, int]) -> None:
        """Drop the sessions of one server, which does not want them resumed."""
        with self._lock:
            self._entries.pop((context, server), None)

    def forget_parents(self) -> None:
        """In a forked child: no ticket is used by two processes.  The lock may have been held by another thread."""
        self._lock = threading.Lock()
        self._entries.clear()

    def forget(self) -> None:
        """Drop everything, as after a change of network: a ticket would link the two (RFC 8446, C.4)."""
        with self._lock:
            self._entries.clear()
