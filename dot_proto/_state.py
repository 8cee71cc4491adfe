"""The states of a connection, what moves it, and the one table of moves; for both roles."""

from __future__ import annotations

import enum
from typing import Final


class State(enum.Enum):
    """Where a connection stands."""

    UNVERIFIED = enum.auto()
    "TLS may be up, the peer is not trusted yet: queries are held, nothing is sent."
    OPEN = enum.auto()
    "Queries and responses flow."
    DRAINING = enum.auto()
    "No new queries; what is owed is still sent or awaited (RFC 7766, section 6.2.4)."
    CLOSED = enum.auto()
    "The end: nothing is sent or received any more."


class Cause(enum.Enum):
    """What moves a connection from one state to the next."""

    PEER_TRUSTED = "peer-trusted"
    "The verdict accepts the peer."
    PEER_REFUSED = "peer-refused"
    "The verdict refuses the peer."
    LOCAL_CLOSE = "local-close"
    "The caller closes."
    GO_AWAY = "go-away"
    "The server stated an idle timeout of zero (RFC 7828, section 3.2.2), or this side's own limit was reached."
    PEER_FINISHED = "peer-finished"
    "The client will ask nothing more but is owed answers (RFC 8446, section 6.1)."
    PEER_CLOSED = "peer-closed"
    "The peer ended the connection in order, between two messages."
    IDLE = "idle"
    "Nothing was outstanding for the whole idle timeout (RFC 7766, section 6.2.3)."
    DRAINED = "drained"
    "Nothing is owed any more."
    CLOSE_TIMEOUT = "close-timeout"
    "What was owed did not come in time."
    PEER_FAULT = "peer-fault"
    "The peer broke the protocol."
    TRANSPORT_FAILED = "transport-failed"
    "TLS or TCP failed, or ended without close_notify."


_FATAL: Final = (Cause.PEER_CLOSED, Cause.PEER_FAULT, Cause.TRANSPORT_FAILED)

# Every legal move. A pair that is not here is a bug in the engine, not a state to recover from.
# The tests read this table.
TRANSITIONS: Final[dict[tuple[State, Cause], State]] = {
    (State.UNVERIFIED, Cause.PEER_TRUSTED): State.OPEN,
    # RFC 7858, section 4.2: without a matching pin the session ends before any query is sent.
    (State.UNVERIFIED, Cause.PEER_REFUSED): State.CLOSED,
    # What is held was never sent, so there is nothing to wait for.
    (State.UNVERIFIED, Cause.LOCAL_CLOSE): State.CLOSED,
    (State.OPEN, Cause.LOCAL_CLOSE): State.DRAINING,
    (State.OPEN, Cause.GO_AWAY): State.DRAINING,
    (State.OPEN, Cause.PEER_FINISHED): State.DRAINING,
    (State.OPEN, Cause.IDLE): State.CLOSED,
    (State.DRAINING, Cause.LOCAL_CLOSE): State.DRAINING,
    (State.DRAINING, Cause.GO_AWAY): State.DRAINING,
    (State.DRAINING, Cause.PEER_FINISHED): State.DRAINING,
    (State.DRAINING, Cause.DRAINED): State.CLOSED,
    (State.DRAINING, Cause.CLOSE_TIMEOUT): State.CLOSED,
    **{(state, cause): State.CLOSED for state in (State.UNVERIFIED, State.OPEN, State.DRAINING) for cause in _FATAL},
}
