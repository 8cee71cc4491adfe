"""The phases of a TLS session, what moves it from one to the next, and the one table of moves; for both roles.

The engine has its own states (``dot_proto``'s ``State``), which say what may be asked and answered.  A phase says
what TLS can do at the moment.  The two meet in one place, ``settle`` in ``session.py``.
"""

from __future__ import annotations

import enum
from typing import Final


class Phase(enum.Enum):
    """What TLS can do.  Each phase has at most one deadline, which ends with it."""

    HANDSHAKE = enum.auto()
    "No keys yet: the engine holds its queries.  Deadline: that of the handshake."
    OPEN = enum.auto()
    "Records in both directions.  No deadline: the engine has its own."
    LINGERING = enum.auto()
    "The engine has ended and close_notify is out.  Deadline: how long the peer may take to close TCP first."
    DONE = enum.auto()
    "Everything has been told and there is nothing to wait for."


class Step(enum.Enum):
    """What moves a session from one phase to the next."""

    HANDSHAKE_COMPLETE = enum.auto()
    "OpenSSL has finished the handshake."
    ENGINE_ENDED = enum.auto()
    "The engine is closed: by a command, by a verdict, by its peer, or by a failure."
    WAIT_OVER = enum.auto()
    "The peer has closed TCP, or has taken too long to do so."


class Inbound(enum.IntEnum):
    """What is known of the peer's half of the connection; it only grows."""

    OPEN = 0
    "The peer may send more."
    CLOSE_NOTIFY = 1
    "The peer has said that it sends no more (RFC 8446, section 6.1)."
    EOF = 2
    "TCP has ended, or has failed, or was given up on this side."


# Every legal move.  A pair that is not here is a bug in the session, not a phase to recover from.
MOVES: Final[dict[tuple[Phase, Step], Phase]] = {
    (Phase.HANDSHAKE, Step.HANDSHAKE_COMPLETE): Phase.OPEN,
    # Without keys there is no close_notify.  The alert that says why, if there is one, has been written by OpenSSL.
    (Phase.HANDSHAKE, Step.ENGINE_ENDED): Phase.DONE,
    (Phase.OPEN, Step.ENGINE_ENDED): Phase.LINGERING,
    (Phase.LINGERING, Step.WAIT_OVER): Phase.DONE,
}
