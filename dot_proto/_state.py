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
    """What a connection's end, or the graceful close before it, is put down to; stable codes for logs and metrics."""

    PEER_REFUSED = "peer-refused"
    "The verdict refuses the peer."
    LOCAL_CLOSE = "local-close"
    "The caller closes."
    GO_AWAY = "go-away"
    "The server stated an idle timeout of zero (RFC 7828, section 3.2.2), or this side's own limit was reached."
    EXHAUSTED = "exhausted"
    "The server left so many queries unanswered that their ids would soon leave none for others."
    KEY_LIMIT = "key-limit"
    "As many queries were asked as may be under one key of TLS (RFC 8446, section 5.5)."
    PEER_FINISHED = "peer-finished"
    "The client will ask nothing more but is owed answers (RFC 8446, section 6.1)."
    PEER_CLOSED = "peer-closed"
    "The peer ended the connection in order, between two messages."
    PEER_SILENT = "peer-silent"
    "Queries timed out one after the other, and not one octet came from the server meanwhile."
    IDLE = "idle"
    "Nothing was outstanding for the whole idle timeout (RFC 7766, section 6.2.3)."
    CLOSE_TIMEOUT = "close-timeout"
    "What was owed did not come in time."
    PEER_FAULT = "peer-fault"
    "The peer broke the protocol."
    TRANSPORT_FAILED = "transport-failed"
    "TLS or TCP failed, or ended without close_notify."


class Step(enum.Enum):
    """What moves a connection from one state to the next: every cause, and two steps that nobody is told of."""

    PEER_TRUSTED = "peer-trusted"
    "The verdict accepts the peer."
    DRAINED = "drained"
    "Nothing is owed any more: the end is put down to what began the graceful close."
    PEER_REFUSED = Cause.PEER_REFUSED.value
    LOCAL_CLOSE = Cause.LOCAL_CLOSE.value
    GO_AWAY = Cause.GO_AWAY.value
    EXHAUSTED = Cause.EXHAUSTED.value
    KEY_LIMIT = Cause.KEY_LIMIT.value
    PEER_FINISHED = Cause.PEER_FINISHED.value
    PEER_CLOSED = Cause.PEER_CLOSED.value
    PEER_SILENT = Cause.PEER_SILENT.value
    IDLE = Cause.IDLE.value
    CLOSE_TIMEOUT = Cause.CLOSE_TIMEOUT.value
    PEER_FAULT = Cause.PEER_FAULT.value
    TRANSPORT_FAILED = Cause.TRANSPORT_FAILED.value


_FATAL: Final = (Step.PEER_CLOSED, Step.PEER_FAULT, Step.TRANSPORT_FAILED)
_LIVE: Final = (State.UNVERIFIED, State.OPEN, State.DRAINING)

# Every legal move. A pair that is not here is a bug in the engine, not a state to recover from.
# The tests read this table.
TRANSITIONS: Final[dict[tuple[State, Step], State]] = {
    (State.UNVERIFIED, Step.PEER_TRUSTED): State.OPEN,
    # RFC 7858, section 4.2: without a matching pin the session ends before any query is sent.
    (State.UNVERIFIED, Step.PEER_REFUSED): State.CLOSED,
    # What is held was never sent, so there is nothing to wait for.
    (State.UNVERIFIED, Step.LOCAL_CLOSE): State.CLOSED,
    (State.OPEN, Step.LOCAL_CLOSE): State.DRAINING,
    (State.OPEN, Step.GO_AWAY): State.DRAINING,
    (State.OPEN, Step.EXHAUSTED): State.DRAINING,
    (State.OPEN, Step.KEY_LIMIT): State.DRAINING,
    (State.OPEN, Step.PEER_FINISHED): State.DRAINING,
    (State.OPEN, Step.PEER_SILENT): State.CLOSED,
    (State.OPEN, Step.IDLE): State.CLOSED,
    (State.DRAINING, Step.LOCAL_CLOSE): State.DRAINING,
    (State.DRAINING, Step.GO_AWAY): State.DRAINING,
    (State.DRAINING, Step.PEER_FINISHED): State.DRAINING,
    (State.DRAINING, Step.DRAINED): State.CLOSED,
    (State.DRAINING, Step.CLOSE_TIMEOUT): State.CLOSED,
    (State.DRAINING, Step.PEER_SILENT): State.CLOSED,
    **{(state, step): State.CLOSED for state in _LIVE for step in _FATAL},
}
