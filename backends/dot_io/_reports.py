"""What a server says of its connections: how each has ended, what was counted, and how many lines a log may get."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ._peer import Peer

BURST: Final = 10
"Lines of one kind within :data:`INTERVAL`; Linux limits its own log by the same two numbers (printk_ratelimit)."

INTERVAL: Final = 5.0
"Seconds."


class ConnectionPhase(enum.Enum):
    """How far a connection has come."""

    ACCEPT = "accept"
    "TCP is up, and nothing of TLS was spoken."
    HANDSHAKE = "handshake"
    "The TLS handshake has begun: no query is taken before it is complete."
    OPEN = "open"
    "The handshake is complete."


@dataclass(frozen=True, slots=True)
class ConnectionEnd:
    """How one connection of a server has ended; one that was refused, too."""

    peer: Peer | None
    "The client; ``None`` where the system could not say who it was."
    phase: ConnectionPhase
    "How far the connection had come."
    reason: str | None
    "Why it failed, as a stable code (docs/server-log.md has them all); ``None`` where it ended in order."
    error: Exception | None
    "What was met, where there is more to say than the code does."
    queries: int
    "Queries that were received."
    seconds: float
    "How long the connection has lasted."


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatistics:
    """What one server has counted since it began, and how many connections it has now."""

    accepted: int
    "TCP connections that were accepted, those that were refused among them."
    refused: Mapping[str, int]
    "Connections that ended in the phase accept, by the reason."
    handshakes: int
    "TLS handshakes that were completed."
    resumed: int
    "Those of them that resumed an earlier session (RFC 8446, section 2.2)."
    failed_handshakes: Mapping[str, int]
    "Connections that ended in the phase handshake, by the reason."
    failed_connections: Mapping[str, int]
    "Connections that failed after the handshake, by the reason."
    queries: int
    "Queries that were given to the handler, or wait to be."
    responses: int
    "Responses that the handler gave."
    servfails: int
    "Queries answered with SERVFAIL because the handler failed, or because its response could not be sent."
    rejected: int
    "Queries that the server answered with an error by itself, such as malformed ones."
    handshaking: int
    "Connections now whose handshake is not complete."
    open: int
    "Connections now whose handshake is complete."


class LineLimit:
    """So many lines of each kind may be logged, that a flood fills no disk; what was left out is counted."""

    def __init__(self) -> None:
        self._lines: dict[str, tuple[float, int]] = {}  # since when is counted, and how many lines came since

    def allows(self, kind: str, *, now: float) -> int | None:
        """``None``: not now.  Otherwise the line may be written, and so many of its kind were left out before it."""
        since, count = self._lines.get(kind, (now, 0))
        suppressed = 0
        if now - since >= INTERVAL:
            since, count, suppressed = now, 0, max(count - BURST, 0)
        self._lines[kind] = since, count + 1
        return suppressed if count < BURST else None

    def left_out(self) -> dict[str, int]:
        """What was left out and not told, by kind."""
        return {kind: count - BURST for kind, (_, count) in self._lines.items() if count > BURST}
