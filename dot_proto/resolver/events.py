"""What the resolver reports (events), what it asks its driver to do (actions), and what it tells of itself."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from .._event import event
from .._state import Cause
from ..authentication import Verdict
from ..events import Event
from ._advice import masked
from .upstream import Upstream


class Phase(enum.Enum):
    """How far an upstream had come when it failed."""

    LOOKUP = "lookup"
    "The addresses of its name were looked up."
    TCP = "tcp"
    "TCP was dialled."
    TLS = "tls"
    "The TLS handshake was under way."
    AUTHENTICATION = "authentication"
    "The server was compared with the policy, and refused."
    SILENCE = "silence"
    "The server had been authenticated, and did not answer any more."
    END = "end"
    "The connection ended before the first answer."


@dataclass(frozen=True, slots=True)
class UpstreamFailure:
    """What went wrong with an upstream."""

    phase: Phase
    "How far it had come."
    address: str | None
    "The address that was tried; ``None`` where there was none."
    explanation: str
    "A sentence for people.  It holds no name that was asked for, and no name of an account with an operator."
    verdict: Verdict | None = None
    "How the server was judged, where it was refused."

    def __post_init__(self) -> None:
        object.__setattr__(self, "explanation", masked(self.explanation))


@dataclass(frozen=True, slots=True)
class UpstreamReport:
    """Where an upstream stood when a query failed."""

    upstream: Upstream
    "Which one."
    failure: UpstreamFailure | None
    "What went wrong last; ``None``: nothing, as far as is known."
    next_try: float | None
    "When it may be tried again, on the caller's clock in seconds; ``None``: at any time."


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sending of a query that brought no answer."""

    upstream: Upstream
    "Who was asked."
    address: str
    "Where."
    explanation: str
    "Why no answer came."
    cause: Cause | None = None
    "What ended the connection, where it has ended."


@event
class AnswerFacts:
    """How an answer came about."""

    upstream: Upstream
    "Who answered."
    address: str
    "Where."
    connection: int
    "The number of the connection, as in :class:`OpenConnection`."
    queries_before: int
    "How many answers had come on this connection before."
    sends: int
    "How many times the query has left; 1 where all went well."
    waited: float
    "Seconds from ``send_query`` until the query was last handed to a connection."
    elapsed: float
    "Seconds from ``send_query`` to the answer."
    age: float
    "Seconds that the connection had been there, dialling included."
    verdict: Verdict
    "How the server was authenticated, and whether by a TLS session of before."


class FailureReason(enum.Enum):
    """Why a query has no answer; stable codes for logs and metrics."""

    TIMED_OUT = "timed-out"
    "Its deadline has passed."
    NO_UPSTREAM = "no-upstream"
    "No upstream can be asked within its time: each is down, or was refused."
    LOST = "lost"
    "Connections ended before the answer came, and it may not be sent again."
    CLOSED = "closed"
    "The resolver was closed."


@event
class QueryAnswered(Event):
    """A query has been answered."""

    query: int
    "What :meth:`StubResolver.send_query` returned."
    message: bytes
    "The response under the caller's own message id; 12 to 65535 octets."
    facts: AnswerFacts
    "How it came about."


@event
class QueryFailed(Event):
    """A query has no answer, and will have none."""

    query: int
    "What :meth:`StubResolver.send_query` returned."
    reason: FailureReason
    "Why."
    safe_to_resend: bool
    "Whether it may be asked again without doing anything twice (RFC 7766, section 6.2.4)."
    attempts: tuple[Attempt, ...]
    "Where it was sent, and what became of it; at most three."
    upstreams: tuple[UpstreamReport, ...]
    "Where each upstream stood."


@event
class UpstreamDown(Event):
    """An upstream is asked no more for a while."""

    upstream: Upstream
    "Which one."
    failure: UpstreamFailure
    "Why."
    next_try: float
    "When it may be tried again, on the caller's clock in seconds."


@event
class UpstreamUp(Event):
    """An upstream that was down answers again."""

    upstream: Upstream
    "Which one."


@event
class ResolverClosed(Event):
    """The terminal event: every query has had its fate, every connection has ended."""


@event
class OpenConnection:
    """Dial ``address``, shake hands, and report by ``connection_opened`` or ``connection_failed``."""

    connection: int
    "Its number; no other connection of this resolver has it."
    upstream: Upstream
    "Whose server it is, and on which port."
    address: str
    "An IP address, with a zone where it needs one.  What must be shown there: ``upstream.policy_for(address)``."


@event
class AbandonConnection:
    """End this connection at once, without a word on the wire: nothing has been asked on it.  Nothing is reported."""

    connection: int
    "Its number."


@event
class FindAddresses:
    """Look up the addresses of an upstream's name, and report by ``addresses_found``."""

    upstream: Upstream
    "Whose; its ``bootstrap`` says whom to ask."


@event
class ForgetSessions:
    """Forget every TLS session: in another network it would tell who we are (RFC 8446, appendix C.4)."""


Action = OpenConnection | AbandonConnection | FindAddresses | ForgetSessions
"What the driver is to do."


@dataclass(frozen=True, slots=True)
class UpstreamStatistics:
    """Counters of one upstream, from the resolver's beginning.  No name stands in them."""

    upstream: Upstream
    "Which one."
    is_up: bool
    "Whether it may be asked."
    connections: int
    "Connections that are open, or being opened, now."
    opened: int
    "Connections that were authenticated."
    failed: int
    "Openings that failed, all their addresses together."
    refused: int
    "Servers that were not authenticated."
    lost: int
    "Connections that ended while queries waited for answers."
    sent: int
    "Queries handed to a connection, each time counted."
    resent: int
    "Those of them that had left before, on a connection that ended."
    pending: int
    "Queries on its connections now."
    waiting: int
    "Queries that wait for a place now, and want this upstream before any other."
    most_waiting: int
    "How many of these there were at the most, at any time."
    answered: int
    "Queries answered."
    rcodes: Mapping[int, int]
    "Of these, how many by the RCODE in the response's header."
    timed_out: int
    "Queries whose deadline passed on a connection."
    probes: int
    "Signs of life asked for."
    smoothed_time: float | None
    "Seconds from asking to answer, of late; ``None``: not measured yet."
