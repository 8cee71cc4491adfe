"""Every event that the engine reports, for both roles.

The receive and timeout verbs return a list of these, in the order in which things happened.  The last event
of a connection's life is always one :class:`ConnectionClosed`; nothing comes after it.
"""

from __future__ import annotations

import enum

from . import _message
from ._event import event
from ._state import Cause
from .authentication import Verdict
from .errors import RemoteProtocolError


class Event:
    """Base of all events."""

    __slots__: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[object, ...]:
        # An event is made of its fields.  Without this the protocols 0 and 1 of pickle refuse a class with slots.
        return type(self), tuple(getattr(self, name) for name in self.__slots__)


@event
class PeerAuthenticated(Event):
    """The peer may be asked: held queries leave with the next ``data_to_send()``.

    Under the opportunistic profile the peer may be nobody in particular: see ``verdict.authenticated``.
    """

    verdict: Verdict
    "What was compared with what (RFC 7858, section 4.2; RFC 8310, section 8)."


@event
class PeerRefused(Event):
    """The peer is not the one that the policy asks for.  No query octet was sent, and none will be."""

    verdict: Verdict
    "Why: ``verdict.reason`` is a stable code, ``verdict.explanation`` a sentence."


@event
class ResponseReceived(Event):
    """One of our queries has been answered.

    Responses arrive in any order (RFC 7766, section 7): pair them by ``query``, never by position.
    """

    query: int
    "What :meth:`ClientConnection.send_query` returned."

    message: bytes
    "The DNS message without its length prefix, under the caller's own message id; 12 to 65535 octets."

    elapsed: float
    "Seconds from ``send_query`` to here, on the caller's own clock."

    more: bool
    "Whether the exchange stays open for further messages under the same id (RFC 5936, section 2.2)."

    @property
    def rcode(self) -> int:
        """The RCODE of 12 bits, 0 to 4095 (RFC 6891, section 6.1.3); computed when asked for."""
        return _message.rcode(self.message)

    @property
    def malformation(self) -> str | None:
        """What is wrong behind the question, or ``None``; computed when asked for.

        A response whose id and question are right is delivered at once, also when its records cannot be
        walked: inside TLS nobody else can have sent it, so no better answer will come (RFC 5452, section 9.1).
        """
        return _message.malformation(self.message)


@event
class QueryTimedOut(Event):
    """A query's own deadline has passed.  Its id stays taken until the late answer or the connection's end."""

    query: int
    "What :meth:`ClientConnection.send_query` returned."

    elapsed: float
    "Seconds from ``send_query`` to here."


@event
class QueryLost(Event):
    """The connection ended before the answer came (RFC 7766, section 6.2.4)."""

    query: int
    "What :meth:`ClientConnection.send_query` returned."

    safe_to_resend: bool
    "True for opcode QUERY, which is idempotent, and for whatever never left this engine."

    was_sent: bool
    "Whether the query had been handed out by ``data_to_send()``."


class DiscardReason(enum.Enum):
    """Why a message was not delivered (RFC 5452, section 9.1; RFC 7766, section 7)."""

    UNKNOWN_ID = "unknown-id"
    "No query with this id is pending: unsolicited, or a duplicate of an answer already delivered."
    NOT_A_RESPONSE = "not-a-response"
    "QR is 0 in a message from a server."
    NOT_A_QUERY = "not-a-query"
    "QR is 1 in a message from a client; never answered, so that no loop can form."
    OPCODE_MISMATCH = "opcode-mismatch"
    "The opcode is not that of the query (RFC 1035, section 4.1.1)."
    QUESTION_MISMATCH = "question-mismatch"
    "Name (without regard to ASCII case), type or class differ, or the question cannot be read."
    QUESTION_MISSING = "question-missing"
    "An empty question section in the first of several messages, and no error (RFC 5936, section 2.2.1)."
    LATE = "late"
    "The right answer to a query that had timed out or been cancelled; its id is free again."


@event
class MessageDiscarded(Event):
    """A whole message came that answers nothing (or, at a server, that must not be answered)."""

    message: bytes
    "The message as it came, without its length prefix."

    reason: DiscardReason
    "Why."

    query: int | None
    "The query whose id it bore, where there is one."


@event
class KeepaliveReceived(Event):
    """The server stated its idle timeout, or changed it (RFC 7828).  The engine already honours it."""

    timeout: float | None
    "Seconds; 0.0: ask nothing more on this connection; ``None``: no longer stated, or badly formed."


@event
class QueryReceived(Event):
    """A client asks (server role).  Answer with :meth:`ServerConnection.send_response`, in any order."""

    query: int
    "The engine's own handle: two queries may bear one message id."

    message: bytes
    "The DNS message without its length prefix; its header, question and records have been walked."


@event
class QueryRejected(Event):
    """The engine has answered a query by itself, with an error (server role)."""

    message: bytes
    "The query as it came."

    rcode: int
    "The RCODE sent: FORMERR 1, SERVFAIL 2, NOTIMP 4, BADVERS 16."

    explanation: str
    "What was wrong with the query."


@event
class ConnectionClosed(Event):
    """The terminal event: every query has had its fate, and nothing more will be received."""

    cause: Cause
    "What ended the connection."

    error: RemoteProtocolError | None
    "The peer's or the network's fault; ``None`` when the end was an orderly one."
