"""What a connection reports: what it means for the queries on it, and for its upstream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .._state import Cause
from ..arguments import check_instance
from ..events import (
    ConnectionClosed,
    Event,
    PeerAuthenticated,
    PeerRefused,
    QueryLost,
    QueryTimedOut,
    ResponseReceived,
)
from ._connections import Connections
from ._fates import Fates, answer_of, note_attempt, words_of
from ._health import Sign
from ._records import ResolverQuery, UpstreamConnection
from ._waiting import Waiting
from .configuration import MAX_SENDS, ResolverConfiguration
from .events import FailureReason, Phase, UpstreamFailure

_PEERS_DOING: Final = frozenset({Cause.PEER_CLOSED, Cause.PEER_FAULT, Cause.PEER_SILENT, Cause.TRANSPORT_FAILED})
"Ends that are the server's or the network's; the others are this side's, or were agreed on."


class Receiving:
    """Takes in the events of connections: queries are answered, fail, or wait again."""

    __slots__ = ("_configuration", "_connections", "_fates", "_waiting")

    def __init__(
        self, configuration: ResolverConfiguration, connections: Connections, waiting: Waiting, fates: Fates
    ) -> None:
        self._configuration = configuration
        self._connections = connections
        self._waiting = waiting
        self._fates = fates

    def take_in(self, connection: UpstreamConnection, events: Sequence[Event], now: float) -> None:
        """What a verb of a connection's session has returned."""
        lost: list[ResolverQuery] = []
        for event in events:
            if isinstance(event, ResponseReceived):
                self._received(connection, event, now)
            elif isinstance(event, QueryLost):
                self._lost(connection, event, _end_in(events), lost, now)
            elif isinstance(event, QueryTimedOut):
                self._timed_out(connection, event)
            elif isinstance(event, PeerAuthenticated):
                self._connections.authenticated(connection, event.verdict, now=now)
            elif isinstance(event, PeerRefused):
                self._connections.refused(connection, event.verdict, now=now)
            elif isinstance(event, ConnectionClosed):
                self._ended(connection, event, now)
            else:
                check_instance("events", event, Event, "they are what a verb of the session has returned")
                connection.heard(now=now)  # a message that answers nothing is a sign of life too
        if lost:
            self._waiting.put_back(lost)

    def _received(self, connection: UpstreamConnection, event: ResponseReceived, now: float) -> None:
        record = connection.record
        query = connection.placed.pop(event.query, None)
        before = connection.answers
        connection.answers += 1
        connection.heard(now=now)
        if not record.health.is_up:
            self._connections.step(record, Sign.ANSWERED, now=now)
        if query is None:
            return  # it was the probe
        connection.probes_in_a_row = 0
        record.measured(event.elapsed, now=now)
        record.answered += 1
        rcode = event.message[3] & 15
        record.rcodes[rcode] = record.rcodes.get(rcode, 0) + 1
        answered = answer_of(query, connection, event.message, before, now=now)
        if self._configuration.failover_rcodes and event.rcode in self._configuration.failover_rcodes:
            answered = query.first_answer = query.first_answer or answered
            if self._turn_to_another(query, connection, f"answered with RCODE {event.rcode}"):
                return
        self._fates.answer(query, answered)

    def _timed_out(self, connection: UpstreamConnection, event: QueryTimedOut) -> None:
        query = connection.placed.pop(event.query, None)
        if query is None:
            return  # it was a probe that the server has dropped, on a connection that lives by other answers
        connection.record.timed_out += 1
        if connection.verdict is not None:  # else it has never left
            note_attempt(query, connection, f"no answer within {event.elapsed:.1f} s")
        self._fates.fail(query, FailureReason.TIMED_OUT)

    def _lost(
        self,
        connection: UpstreamConnection,
        event: QueryLost,
        end: ConnectionClosed | None,
        lost: list[ResolverQuery],
        now: float,
    ) -> None:
        query = connection.placed.pop(event.query, None)
        if query is None:
            return  # it was the probe, or it is asked elsewhere already
        if not event.was_sent:
            query.sends -= 1
            lost.append(query)
            return
        assert end is not None, "queries are lost at a connection's end alone"
        connection.record.lost += 1
        note_attempt(query, connection, words_of(end), end.cause)
        if self._fates.is_closing:
            self._fates.fail(query, FailureReason.CLOSED, safe_to_resend=event.safe_to_resend)
        elif event.safe_to_resend and query.sends < MAX_SENDS and query.deadline > now:
            if not connection.is_left:  # else nobody else needs to be shown the name
                query.avoided = connection.record
            lost.append(query)
        else:
            self._fates.fail(query, FailureReason.LOST, safe_to_resend=event.safe_to_resend)

    def _ended(self, connection: UpstreamConnection, event: ConnectionClosed, now: float) -> None:
        """A connection has ended.  Its queries have been reported before."""
        if connection.number not in self._connections.by_number:
            return  # refused: that has been dealt with
        text = words_of(event)
        if connection.verdict is None:
            self._connections.failed(connection, UpstreamFailure(Phase.TLS, connection.address, text), now=now)
            return
        self._connections.drop(connection)
        if connection.answers == 0 and event.cause in _PEERS_DOING:
            # The end of a connection that has answered is no sign against its upstream: servers close those that
            # rest. One that takes a connection and ends it unanswered is no server to go on with.
            self._connections.blame(connection, Phase.END, text, now=now)

    def _turn_to_another(self, query: ResolverQuery, connection: UpstreamConnection, explanation: str) -> bool:
        """Ask the next upstream of the query's order; says whether there is one that may be asked."""
        note_attempt(query, connection, explanation)
        rest = tuple(one for one in query.order if one is not connection.record and one.health.is_up)
        if not rest or query.sends >= MAX_SENDS:
            return False
        query.order, query.avoided = rest, None
        self._waiting.add(query)
        return True


def _end_in(events: Sequence[Event]) -> ConnectionClosed | None:
    """The connection's end, which comes last where it comes; it says why the queries before it were lost."""
    last = events[-1] if events else None
    return last if isinstance(last, ConnectionClosed) else None
