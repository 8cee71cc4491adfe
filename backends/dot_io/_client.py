"""What the clients of all backends share: how arguments are read, and what becomes of events."""

from __future__ import annotations

import math
import os
import socket
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from dot_proto import (
    AuthenticationPolicy,
    Cause,
    ClientConfiguration,
    ClientConnection,
    ConnectionClosed,
    DiscardReason,
    Event,
    LocalProtocolError,
    MessageDiscarded,
    QueryLost,
    QueryTimedOut,
    ResponseReceived,
    Verdict,
)
from dot_proto.arguments import check_flag, check_instance, check_seconds, check_whole, shown, wrong
from dot_proto.query import not_octets

from ._address import check_host, check_port, default_policy
from ._attempt import Attempt
from ._fork import forgets_after_fork
from ._queue import QueryQueue, Ticket
from ._stays import StaysInProcess
from ._transport import give_up_unacknowledged
from .errors import (
    ConnectionLostError,
    HandshakeError,
    QueryTimeoutError,
)
from .tls import ClientContext, HandshakeCompleted, TLSClient

CONNECT_TIMEOUT: Final = 5.0
"Seconds for name lookup, TCP and TLS together, unless told otherwise."

CLOSE_TIMEOUT: Final = 2.0
"Seconds that closing waits for answers still owed, unless told otherwise."

CLOSE_GRACE: Final = 0.5
"Seconds more for close_notify itself to leave, where a peer does not read."

MAX_IN_FLIGHT: Final = 64
"Queries of one ``query_many`` on their way at a time, unless told otherwise; more gains little (benchmarks)."

_ORDERLY_ENDS: Final = {
    Cause.PEER_CLOSED: "the server closed the connection",
    Cause.GO_AWAY: "the server takes no more queries on this connection (keepalive timeout 0)",
    Cause.EXHAUSTED: "the server has left too many queries unanswered on this connection",
    Cause.KEY_LIMIT: "the connection has been asked as much as its TLS keys are good for (max_queries)",
    Cause.PEER_SILENT: "the server has fallen silent: queries timed out one after the other, and nothing came from it",
    Cause.IDLE: "the connection was closed after its idle timeout",
    Cause.LOCAL_CLOSE: "the connection was closed on this side",
    Cause.CLOSE_TIMEOUT: "the connection was closed before the answer came",
}
"For people: ends without anybody's fault."

_DISCARDS: Final = {
    DiscardReason.UNKNOWN_ID: "with an id that no query has",
    DiscardReason.NOT_A_RESPONSE: "that is a query and no response (QR 0)",
    DiscardReason.NOT_A_QUERY: "that is a response and no query (QR 1)",
    DiscardReason.OPCODE_MISMATCH: "with another opcode than the query's",
    DiscardReason.QUESTION_MISMATCH: "with another question than the query's",
    DiscardReason.QUESTION_MISSING: "without a question",
    DiscardReason.LATE: "too late for its query",
}
"For people: the messages that answer nothing, after 'a message'."

Outcome = ResponseReceived | QueryTimedOut | QueryLost
"The fate of a query."

_FATES: Final = (ResponseReceived, QueryTimedOut, QueryLost)
"As a tuple: to make the union anew for each event would be 4 % of a query."

Waiter = Callable[[Outcome], None]
"What is told a query's fate."


@dataclass(frozen=True, slots=True)
class Plan:
    """What ``connect()`` is to do, on any backend."""

    host: str
    port: int
    attempt: Attempt
    configuration: ClientConfiguration | None
    share_records: bool
    first_query: bytes | None
    timeout: float
    "Seconds for the name's lookup, TCP, TLS and the first query's answer together."
    deadline: float = math.inf
    "On the backend's clock, in seconds; known once it is begun."
    family: int = socket.AF_UNSPEC
    "Of the addresses to connect to; any by default."
    source: tuple[str, int] | None = None
    "Our own address and port; the system's choice by default."

    @classmethod
    def of(
        cls,
        host: str,
        policy: AuthenticationPolicy | None,
        *,
        port: int,
        timeout: float,
        configuration: ClientConfiguration | None,
        context: ClientContext | None,
        share_records: bool,
        first_query: bytes | None,
    ) -> Plan:
        """What the arguments of ``connect()`` ask for; raises :class:`~dot_proto.LocalProtocolError`."""
        check_port(port)
        dialled = check_host(host)
        check_seconds("timeout", timeout)
        check_flag("share_records", share_records)
        if configuration is not None:
            check_instance("configuration", configuration, ClientConfiguration)
        if policy is not None:
            check_instance("policy", policy, AuthenticationPolicy, 'AuthenticationPolicy.strict("dns.example") is one')
        if context is not None:
            is_ssl = hasattr(context, "wrap_bio")
            hint = "give it as ClientContext(policy, ssl_context=...)" if is_ssl else "ClientContext(policy) is one"
            check_instance("context", context, ClientContext, hint)
        if context is None:
            context = ClientContext(policy or default_policy(host))
        elif policy is not None and policy != context.policy:
            raise LocalProtocolError("policy and context.policy differ: give one of them")
        if first_query is not None:
            check_first_query(first_query, context.policy, configuration)
        return cls(dialled, port, Attempt.first(context), configuration, share_records, first_query, timeout)

    def begun(self, now: float) -> Plan:
        """The same, with its deadline."""
        return replace(self, deadline=now + self.timeout)

    def new_session(self, sock: socket.socket, *, now: float) -> TLSClient:
        """The session of a TCP connection that came up ``now``."""
        give_up_unacknowledged(sock, (self.configuration or ClientConfiguration()).longest_silence)
        return TLSClient(
            self.attempt.context,
            self.configuration,
            server=(self.host, self.port),
            entropy=os.urandom,
            now=now,
            handshake_timeout=max(self.deadline - now, 0.0),
            share_records=self.share_records,
            tried=self.attempt.tried,
        )

    def after(self, error: HandshakeError) -> Plan:
        """What to do after a failed handshake that asks for another one; raises the error after any other."""
        return replace(self, attempt=self.attempt.after(error, (self.host, self.port)))


class ClientBase(StaysInProcess):
    """The part of a client that does not wait."""

    _is_in_use = False  # whoever called connect() has it, and must close it

    def __init__(self, plan: Plan, session: TLSClient, *, connect_time: float) -> None:
        self._session: Final = session
        session.connection.takes_parts = False  # whoever waits for one response would take a part for the zone
        self._server: Final = plan.host, plan.port
        self._queue: Final = QueryQueue(session.connection)
        self._waiters: dict[int, Waiter] = {}
        self._end: ConnectionClosed | None = None
        self._belongs_to_parent = False
        self.discarded: Final = dict[DiscardReason, int]()
        "How many messages of the server answered no query and were discarded, by reason (RFC 5452, section 9.1)."
        self.handshake: HandshakeCompleted | None = None
        "The TLS session's facts."
        self.connect_time: Final = connect_time
        "Seconds that name lookup and TCP took."
        self.handshake_time: float = 0.0
        "Seconds that TLS took."
        forgets_after_fork(self)

    @property
    def verdict(self) -> Verdict:
        """How the server was authenticated."""
        verdict = self._session.connection.verdict
        assert verdict is not None, "connect() returns only after the verdict"
        return verdict

    @property
    def is_closed(self) -> bool:
        """Whether the connection has ended, as far as is known without looking at the socket."""
        return self._end is not None

    def __del__(self) -> None:
        if self._is_in_use and self._end is None:
            warnings.warn(f"{self!r} was dropped without being closed", ResourceWarning, source=self, stacklevel=2)
            self._drop()

    def __repr__(self) -> str:
        (host, port), state = self._server, "closed" if self.is_closed else "open"
        return f"<{type(self).__module__}.{type(self).__qualname__} of {host} port {port}, {state}>"

    def _drop(self) -> None:
        """Nobody has this client any more, and nobody has closed it."""

    def forget_parents(self) -> None:
        """In a forked child: end here what the parent goes on with, without a word on the wire."""
        self._belongs_to_parent = True
        self._process_events(self._session.abort(now=0.0))

    def _connected(self, plan: Plan) -> None:
        """The server was accepted, and the caller gets this client."""
        plan.attempt.context.was_accepted()
        self._is_in_use = True

    def _handshake_is_over(self) -> bool:
        return self._end is not None or self._session.connection.verdict is not None

    def _process_events(self, events: list[Event]) -> None:
        """Take in what a verb has returned: each query's waiter gets its fate, and the next in the queue are called."""
        for event in events:
            if isinstance(event, _FATES):
                waiter = self._waiters.get(event.query)
                if waiter is not None:
                    waiter(event)
                    # Not before: an interruption in between must not leave somebody waiting whom nobody knows.
                    self._waiters.pop(event.query, None)
            elif isinstance(event, ConnectionClosed):
                self._end = event
                self._lose_waiters()
            elif isinstance(event, HandshakeCompleted):
                self.handshake = event
            elif isinstance(event, MessageDiscarded):
                self.discarded[event.reason] = self.discarded.get(event.reason, 0) + 1
        self._queue.call_next()

    def _lose_waiters(self) -> None:
        """After the end: the engine has given every query its fate by now.

        Where a fault or an interruption has kept a fate from coming here, its caller must not wait for ever; whether
        the query was answered, nobody knows.
        """
        while self._waiters:
            handle, waiter = self._waiters.popitem()
            waiter(QueryLost(query=handle, safe_to_resend=False, was_sent=True))

    def _ask(
        self,
        waiting: deque[tuple[int, bytes]],
        positions: dict[int, int],
        waiter: Waiter,
        *,
        now: float,
        timeout: float | None,
    ) -> None:
        """Send as many of ``waiting`` as there is capacity for, and add their ``positions`` by handle."""
        send_query, waiters = self._session.connection.send_query, self._waiters
        for _ in range(min(self._queue.capacity, len(waiting))):
            position, message = waiting.popleft()
            if not isinstance(message, bytes):  # a compiled engine would say so in other words
                raise LocalProtocolError(not_octets(message))
            handle = send_query(message, now=now, timeout=timeout)
            positions[handle] = position
            waiters[handle] = waiter

    def _ask_first(self, plan: Plan, waiter: Waiter, *, now: float) -> None:
        """Send a query before the server is judged: the engine holds it until then."""
        assert plan.first_query is not None
        timeout = max(plan.deadline - now, 0.0)
        handle = self._session.connection.send_query(plan.first_query, now=now, timeout=timeout)
        self._waiters[handle] = waiter

    def _cancel_query(self, handle: int, now: float) -> None:
        """A caller does not wait any more: its query is cancelled, and nothing else is touched."""
        self._waiters.pop(handle, None)
        self._session.connection.cancel(handle, now=now)
        self._queue.call_next()

    def _time_in_queue(self, timeout: float | None) -> float:
        """Seconds that a query may wait for its turn and for its answer; raises where its turn can never come."""
        connection = self._session.connection
        if not connection.is_open:
            raise self._lost(safe_to_resend=True)
        return connection.configuration.query_timeout if timeout is None else timeout

    def _leave_queue(self, ticket: Ticket, timeout: float, left: float) -> float:
        """The caller's turn has come, or ``timeout`` seconds are over; returns what is left of them."""
        self._queue.leave(ticket)
        if not ticket.is_called:
            raise QueryTimeoutError(f"no capacity for the query within {timeout:.1f} s")
        if not self._session.connection.is_open:
            raise self._lost(safe_to_resend=True)
        return max(left, 0.0)

    def _response(self, outcome: Outcome) -> bytes:
        """The response's octets, or the exception that the fate amounts to."""
        if isinstance(outcome, ResponseReceived):
            return outcome.message
        if isinstance(outcome, QueryTimedOut):
            seen = describe_discards(self.discarded)
            raise QueryTimeoutError(f"no answer within {outcome.elapsed:.1f} s{seen and '; on this connection '}{seen}")
        raise self._lost(safe_to_resend=outcome.safe_to_resend)

    def _failure(self) -> Exception:
        """Why :func:`connect` has failed; call only when the connection has ended."""
        assert self._end is not None
        error = self._end.error
        if not isinstance(error, HandshakeError):
            # The server may have accepted the handshake and closed behind it, as for want of a client's certificate.
            return self._lost(safe_to_resend=True)
        error.session_was_offered = self._session.offers_session
        return error

    def _lost(self, *, safe_to_resend: bool) -> ConnectionLostError:
        """Why the connection takes no more queries, as an exception."""
        error = None if self._end is None else self._end.error
        cause = self._session.connection.closing_for or Cause.LOCAL_CLOSE if self._end is None else self._end.cause
        because = _ORDERLY_ENDS.get(cause, cause.value) if error is None else str(error)
        if self._belongs_to_parent:
            because = "this process was forked after connecting: the connection belongs to its parent; connect again"
        return ConnectionLostError(because, cause=cause, error=error, safe_to_resend=safe_to_resend)


def describe_discards(discarded: Mapping[DiscardReason, int]) -> str:
    """What was discarded and why, in one line; empty where nothing was."""
    if not discarded:
        return ""
    parts = (
        f"{'a message' if count == 1 else f'{count} messages, each'} {_DISCARDS[reason]}"
        for reason, count in discarded.items()
    )
    return f"discarded from the server: {', and '.join(parts)}"


def no_first_query() -> LocalProtocolError:
    """What ``first_response()`` raises where there is nothing to wait for."""
    return LocalProtocolError("connect() was given no first query")


def check_query(message: bytes, timeout: float | None = None) -> None:
    """Refuse what is no query in octets, before anything is done for it; the engine looks closer."""
    if timeout is not None:
        check_seconds("timeout", timeout)
    if not isinstance(message, bytes):
        raise LocalProtocolError(not_octets(message))


def check_first_query(message: bytes, policy: AuthenticationPolicy, configuration: ClientConfiguration | None) -> None:
    """Refuse before anything is dialled what the engine would refuse behind: it is asked, on no connection."""
    if not isinstance(message, bytes):
        raise LocalProtocolError(f"first_query: {not_octets(message)}")
    engine = ClientConnection(policy, configuration, entropy=bytes)
    engine.takes_parts = False
    try:
        engine.send_query(message, now=0.0)
    except LocalProtocolError as error:
        raise LocalProtocolError(f"first_query: {error}") from None


def another_loop() -> LocalProtocolError:
    """What is raised where a client is used on a loop that is not its own."""
    return LocalProtocolError(
        "this client was connected on another event loop and can be used on that one alone: connect one here"
    )


def check_many(messages: object, timeout: float | None, max_in_flight: int) -> None:
    """Refuse what could never ask anything; raises :class:`~dot_proto.LocalProtocolError`."""
    if timeout is not None:
        check_seconds("timeout", timeout)
    check_whole("max_in_flight", max_in_flight, "number of queries")
    if not 1 <= max_in_flight <= sys.maxsize:
        raise LocalProtocolError(f"max_in_flight is {shown(max_in_flight)}; it must be at least 1, and a small number")
    if not isinstance(messages, Iterable) or isinstance(messages, (str, bytes, bytearray, memoryview, Mapping, type)):
        hint = "for one message, give [message]" if isinstance(messages, bytes) else ""
        if hasattr(messages, "__aiter__"):
            hint = "collect it first: [each async for each in messages]"
        raise wrong("messages", "an iterable of DNS messages in octets", messages, hint)
