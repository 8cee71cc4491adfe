"""What becomes of queries: each has one fate, and the resolver's events tell it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .._state import Cause
from ..events import ConnectionClosed, Event
from ._records import ResolverQuery, UpstreamConnection, UpstreamRecord
from .events import AnswerFacts, Attempt, FailureReason, QueryAnswered, QueryFailed

_ENDS: Final = {
    Cause.PEER_CLOSED: "the server closed the connection",
    Cause.PEER_SILENT: "the server has fallen silent",
    Cause.CLOSE_TIMEOUT: "the connection was given up",
    Cause.EXHAUSTED: "the server has left too many queries unanswered",
}
"For people: ends without anybody's fault, before an answer."


class Fates:
    """The queries that have none yet, and the events that nobody has been told yet."""

    __slots__ = ("_records", "is_closing", "open", "untold")

    def __init__(self, records: Iterable[UpstreamRecord]) -> None:
        self._records = tuple(records)
        self.open: dict[int, ResolverQuery] = {}
        "By handle."
        self.untold: list[Event] = []
        self.is_closing = False
        "Whether the resolver was closed: then it asks nobody again."

    def answer(self, query: ResolverQuery, answered: QueryAnswered) -> None:
        """A response has come that is the query's."""
        del self.open[query.handle]
        self.untold.append(answered)

    def fail(self, query: ResolverQuery, reason: FailureReason, *, safe_to_resend: bool = True) -> None:
        """No answer, but for one whose RCODE has asked for another upstream: that one is better than none."""
        del self.open[query.handle]
        if query.first_answer is not None:
            self.untold.append(query.first_answer)
            return
        reports = tuple(record.report() for record in self._records)
        self.untold.append(QueryFailed(query.handle, reason, safe_to_resend, query.attempts, reports))


def answer_of(
    query: ResolverQuery, connection: UpstreamConnection, message: bytes, before: int, *, now: float
) -> QueryAnswered:
    """A response, and how it came about; ``before`` is how many answers the connection had given."""
    assert connection.verdict is not None, "the server was authenticated before it was asked"
    facts = AnswerFacts(
        connection.record.upstream,
        connection.address,
        connection.number,
        before,
        query.sends,
        query.placed_at - query.asked_at,
        now - query.asked_at,
        now - connection.opened_at,
        connection.verdict,
    )
    return QueryAnswered(query.handle, message, facts)


def note_attempt(
    query: ResolverQuery, connection: UpstreamConnection, explanation: str, cause: Cause | None = None
) -> None:
    """A sending of the query has brought no answer."""
    query.attempts += (Attempt(connection.record.upstream, connection.address, explanation, cause),)


def words_of(end: ConnectionClosed) -> str:
    """Why a connection has ended, for people."""
    return _ENDS.get(end.cause, end.cause.value) if end.error is None else str(end.error)
