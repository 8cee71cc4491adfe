"""What became of a query that a resolver was asked: the response, or the exception that says why there is none."""

from __future__ import annotations

from typing import Final

from dot_proto import Cause, DoTError
from dot_proto.resolver.events import FailureReason, QueryAnswered, QueryFailed

from .errors import ConnectionLostError, NoUpstreamError, QueryTimeoutError

Fate = QueryAnswered | QueryFailed
"What became of a query."

_FAILURES: Final = {
    FailureReason.TIMED_OUT: "no answer within the query's time",
    FailureReason.NO_UPSTREAM: "no upstream can be asked in the query's time",
    FailureReason.LOST: "the connection ended before the answer came",
    FailureReason.CLOSED: "the resolver was closed before the answer came",
}
"For people."


def outcome(fate: Fate) -> bytes | DoTError:
    """The response's octets, or the exception that the fate amounts to, not raised."""
    try:
        return response(fate)
    except DoTError as error:
        return error


def response(fate: Fate) -> bytes:
    """The response's octets, or the exception that the fate amounts to."""
    if isinstance(fate, QueryAnswered):
        return fate.message
    reasons = [f"{attempt.address}: {attempt.explanation}" for attempt in fate.attempts]
    reasons += [
        f"{report.upstream}: {report.failure.explanation}" for report in fate.upstreams if report.failure is not None
    ]
    reason = fate.reason
    if reason is FailureReason.TIMED_OUT and not fate.attempts and all(report.failure for report in fate.upstreams):
        reason = FailureReason.NO_UPSTREAM  # its time was over before anybody could be asked
    text = "; ".join([_FAILURES[reason], *reasons])
    if reason is FailureReason.TIMED_OUT:
        raise QueryTimeoutError(text)
    if reason is FailureReason.NO_UPSTREAM:
        raise NoUpstreamError(text, fate.upstreams)
    causes = [attempt.cause for attempt in fate.attempts if attempt.cause is not None]
    cause = causes[-1] if causes else Cause.LOCAL_CLOSE
    raise ConnectionLostError(text, cause=cause, safe_to_resend=fate.safe_to_resend)
