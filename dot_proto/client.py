"""The client's side of one connection: queries out, responses in, in any order.

Theory of operation.  ``send_query`` prepares a message (padding, keepalive, an id of ours), registers it and
queues it.  Nothing is handed out before :meth:`ClientConnection.verify_peer` has accepted the peer.  Octets
that arrive go through the framer; each whole message either answers a query, or is reported as discarded.
Every query meets one fate: answered, timed out, cancelled, or lost with the connection.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Final

from . import _message
from ._connection import Connection
from ._edns import for_queries, splice_plain
from ._framing import MAX_MESSAGE, MIN_MESSAGE, Octets
from ._keepalive import CODE, ELEVEN, HEAD, StatedTimeout
from ._matching import COMPARED, RESPONSE, START, Exchange, Outstanding, Query, mismatch
from ._plain import OPT_FIXED, plain_question_end
from ._preparation import Prepared, prepare
from ._silence import Silence
from ._state import State, Step
from ._timers import Slot
from .arguments import (
    check_buffer,
    check_flag,
    check_function,
    check_instance,
    check_seconds,
    check_time,
    check_whole,
    shown,
)
from .authentication import AuthenticationPolicy, Evidence, Verdict, judge
from .configuration import ClientConfiguration
from .errors import Fault, IdInUseError, LocalProtocolError, RemoteProtocolError, TooManyQueriesError
from .events import (
    DiscardReason,
    Event,
    MessageDiscarded,
    PeerAuthenticated,
    PeerRefused,
    QueryLost,
    QueryTimedOut,
    ResponseReceived,
)
from .query import not_octets

_ID_AND_START: Final = struct.Struct("!HI")
"As ``START``, but the id as a number."
_PREFIX_AND_ID: Final = struct.Struct("!HH")

# Looked up by their class, the two would be 6 % of send_query in Python 3.11.
_OPEN: Final = State.OPEN
_UNVERIFIED: Final = State.UNVERIFIED

_TRANSFERS: Final = (b"\x00\xfb\x00\x01", b"\x00\xfc\x00\x01")
"How the questions of zone transfers end: type IXFR or AXFR, class IN (RFC 1995; RFC 5936)."


class ClientConnection(Connection):
    """A DNS over TLS client without I/O: one connection, from TCP's to its end.

    ``policy`` says whom to trust; ``entropy`` returns that many octets of cryptographic randomness
    (``os.urandom`` will do) and makes the message ids unpredictable (RFC 5452, section 9.2).

    After every call: send what :meth:`data_to_send` returns, then wait for octets or for :meth:`next_timeout`.
    """

    def __init__(
        self,
        policy: AuthenticationPolicy,
        configuration: ClientConfiguration | None = None,
        *,
        entropy: Callable[[int], bytes],
    ) -> None:
        check_instance("policy", policy, AuthenticationPolicy, 'AuthenticationPolicy.strict("dns.example") is one')
        if configuration is not None:
            check_instance("configuration", configuration, ClientConfiguration)
        check_function("entropy", entropy, "a function that returns so many octets", "os.urandom is one")
        super().__init__(State.UNVERIFIED)
        self.policy: Final = policy
        self.configuration: Final = configuration or ClientConfiguration()
        padding_block = self.configuration.padding_block
        self.takes_parts = True
        "Whether a zone transfer may be asked without ``multiple``, for the first of its messages alone."
        self._added = for_queries(keepalive=self.configuration.keepalive, padding_block=padding_block)
        self._adds = bool(self._added.codes)
        self._outstanding = Outstanding(entropy)
        self._outgoing: dict[int, bytes] = {}
        self._first_unsent = 0
        self._most_overdue = (self.configuration.max_in_flight + 1) // 2
        self._last_handle = self.configuration.max_queries - 1 << 16  # or a little above, by the id in it
        self._silence = Silence(self.configuration)
        self._unsolicited = 0
        self._rests_since = math.inf  # or the last fate of a query, or the verdict
        self._verdict: Verdict | None = None
        self._stated = StatedTimeout()

    @property
    def verdict(self) -> Verdict | None:
        """The judgement of the peer; ``None`` before :meth:`verify_peer`."""
        return self._verdict

    @property
    def is_open(self) -> bool:
        """Whether queries are taken, as far as there are places and ids for them."""
        return self._state is _OPEN or (self._state is _UNVERIFIED and not self._has_asked_all())

    @property
    def accepts_queries(self) -> bool:
        """Whether :meth:`send_query` would take a query now; false also while ids or places are used up."""
        return self.capacity > 0

    @property
    def capacity(self) -> int:
        """How many queries :meth:`send_query` would take now, one after the other."""
        if self._state is not _OPEN and self._state is not _UNVERIFIED:
            return 0
        configuration, outstanding = self.configuration, self._outstanding
        places = configuration.max_in_flight - len(outstanding.pending) - len(outstanding.abandoned)
        left = configuration.max_queries - outstanding.count
        return places if places < left else left

    @property
    def pending(self) -> int:
        """How many queries have no fate yet."""
        return len(self._outstanding.pending)

    # Commands: they queue, and raise LocalProtocolError for the caller's mistakes.

    def send_query(self, message: bytes, *, now: float, timeout: float | None = None, multiple: bool = False) -> int:
        """Ask; returns the handle by which the query's fate will be reported.

        ``message`` is a whole query of 12 to 65535 octets, under any id: it goes out under an id of ours, and
        the response comes back under the caller's.  Only a query signed by SIG(0) goes out as it is, since the
        signature covers the id (RFC 2931, section 3.1).  ``timeout`` is in seconds from ``now``.  ``multiple`` keeps
        the exchange open for more than one response, as a zone transfer needs (RFC 5936, section 2.2), until
        :meth:`end_exchange`; each response then renews the deadline.

        Raises :class:`~dot_proto.LocalProtocolError` for a message that cannot be sent and on a connection that
        takes no more queries, :class:`~dot_proto.TooManyQueriesError` while too many are outstanding, and
        :class:`~dot_proto.IdInUseError` where another query in flight has the id of one signed by SIG(0).
        """
        configuration, outstanding = self.configuration, self._outstanding
        if self._state is not _OPEN and not self.is_open:
            why = f"it is {self._state.name.lower()}"
            if self._state is _UNVERIFIED:
                why = f"it has been asked {configuration.max_queries} (max_queries)"
            raise LocalProtocolError(f"the connection takes no more queries: {why}")
        if len(outstanding.pending) + len(outstanding.abandoned) >= configuration.max_in_flight:
            raise TooManyQueriesError(
                f"{configuration.max_in_flight} queries are outstanding (max_in_flight): wait for one to end"
            )
        if timeout is None:
            timeout = configuration.query_timeout
        elif type(timeout) is not float or not timeout >= 0.0:  # else check_seconds, which would be 3 % of this
            check_seconds("timeout", timeout)
        if not isinstance(message, bytes):
            raise LocalProtocolError(not_octets(message))
        if not MIN_MESSAGE <= len(message) <= MAX_MESSAGE:
            raise LocalProtocolError(f"a DNS message has {MIN_MESSAGE} to {MAX_MESSAGE} octets, not {len(message)}")
        caller_id, start = START.unpack_from(message)
        try:  # as check_time, which would be 4 % of this
            if not now < math.inf:
                check_time("now", now)
        except TypeError:
            check_time("now", now)
        if start & RESPONSE:
            raise LocalProtocolError("the message is a response (QR is 1), not a query")
        question_end, behind_id, has_keepalive = plain_question_end(message), None, configuration.keepalive
        own_id = -1
        if question_end and self._adds:
            behind_id = splice_plain(message, question_end, self._added)
        elif question_end and len(message) <= question_end + OPT_FIXED:
            behind_id = message[2:]
        if behind_id is None:
            prepared = self._prepared(message)
            question_end, behind_id = prepared.question_end, prepared.behind_id
            has_keepalive, own_id = prepared.has_keepalive, prepared.own_id
        expected, question = start & COMPARED | RESPONSE, message[12:question_end]
        if multiple is not False:  # two calls, since one of either class is 8 % slower where this is compiled
            check_flag("multiple", multiple)
            query: Query = Exchange(caller_id, expected, question, now, now + timeout, has_keepalive)
        elif not self.takes_parts and question.endswith(_TRANSFERS):
            raise LocalProtocolError(
                "a zone transfer (AXFR, IXFR) is answered by several messages, and one would be a part of the zone: "
                "send_query(..., multiple=True) takes them all (RFC 5936, section 2.2)"
            )
        else:
            query = Query(caller_id, expected, question, now, now + timeout, has_keepalive)
        wire_id = outstanding.add(query) if own_id < 0 else outstanding.add_under(query, own_id)
        self._outgoing[wire_id] = _PREFIX_AND_ID.pack(len(behind_id) + 2, wire_id) + behind_id
        if len(outstanding.pending) == 1:
            self._timers.stop(Slot.IDLE)  # it runs only while nothing is pending
        handle = query.handle
        if handle >= self._last_handle and self._state is _OPEN:
            self._drain(Step.KEY_LIMIT, math.inf)  # each query that is pending has a deadline of its own
        return handle

    def cancel(self, query: int, *, now: float) -> bool:
        """Give up one query; says whether that was its fate (false: it already had another).

        Where it has been sent, its id stays taken until the late answer comes (RFC 7766, section 6.2.1).
        Raises :class:`~dot_proto.LocalProtocolError` for a handle that was never issued.
        """
        check_time("now", now)
        found = self._find(query)
        if found is None:
            return False
        self._abandon(found)
        if self._was_sent(found) and self._silence.is_too_long(found.asked_at, now):
            self._end(Step.PEER_SILENT, None, self._undelivered)
        self._after_fate(now, self._undelivered)
        self._after_command(now)
        return True

    def end_exchange(self, query: int, *, now: float) -> None:
        """The last message of a ``multiple`` exchange has come: the query is answered, its id free again.

        Raises :class:`~dot_proto.LocalProtocolError` for a query that is not such an exchange, not pending, or not
        answered by any message yet: :meth:`cancel` that one, since the server still owes an answer under its id.
        """
        check_time("now", now)
        found = self._find(query)
        if not isinstance(found, Exchange) or not found.has_answers:
            raise LocalProtocolError(f"query {shown(query)} is no exchange of several messages that is open and begun")
        self._outstanding.release(found)
        self._after_fate(now, self._undelivered)
        self._after_command(now)

    def close(self, *, now: float, timeout: float | None = None) -> None:
        """Take no more queries; the connection ends once the answers still owed have come, or after ``timeout``.

        ``timeout`` is in seconds; 0 gives up what is pending.  Closing twice does nothing, or shortens the wait.
        """
        check_time("now", now)
        timeout = check_seconds("timeout", self.configuration.close_timeout if timeout is None else timeout)
        if self._state is State.UNVERIFIED:
            self._end(Step.LOCAL_CLOSE, None, self._undelivered)
        elif not self._has_ended():
            self._drain(Step.LOCAL_CLOSE, now + timeout)
        self._after_command(now)

    # The verbs of the driver: they report what the peer, the network and the clock do.

    def verify_peer(self, evidence: Evidence, *, now: float) -> list[Event]:
        """Judge the peer by what the TLS handshake showed; the only way to the first query octet.

        Raises :class:`~dot_proto.LocalProtocolError` when the peer was judged already: it must not change.
        """
        check_instance("evidence", evidence, Evidence)
        check_time("now", now)
        if self._verdict is not None:
            raise LocalProtocolError("the peer has been judged already, and an identity does not change")
        events = self._delivered()
        if self._has_ended():
            return events
        self._verdict = verdict = judge(self.policy, evidence)
        if verdict.accepted:
            self._move(Step.PEER_TRUSTED)
            events.append(PeerAuthenticated(verdict))
            self._restart_idle_timer(now)
            if self._has_asked_all():
                self._drain(Step.KEY_LIMIT, math.inf)
                self._end_if_drained(events)
        else:
            events.append(PeerRefused(verdict))
            error = RemoteProtocolError(f"the server is refused: {verdict.explanation}", Fault.PEER_REFUSED)
            self._end(Step.PEER_REFUSED, error, events)
        return events

    def receive_data(self, data: Octets, *, now: float) -> list[Event]:
        """Octets from the peer, as they left TLS, cut anywhere.

        Raises :class:`~dot_proto.LocalProtocolError` before the peer was judged; never for what the octets are.
        """
        if self._state is State.UNVERIFIED:
            raise LocalProtocolError("octets from a peer that was not judged yet: call verify_peer first")
        try:  # as check_time, which would be 4 % of this
            if not now < math.inf:
                check_time("now", now)
        except TypeError:
            check_time("now", now)
        if not isinstance(data, bytes):
            check_buffer("data", data)
        events = self._delivered()
        if self._has_ended():
            return events
        if data:
            silence = self._silence
            silence.heard_at, silence.timeouts = now, 0
        pending, free, first_unsent = self._outstanding.pending, self._outstanding.free, self._first_unsent
        unpack, known = _ID_AND_START.unpack_from, self._stated.option
        for message in self._deframer.feed(data):
            wire_id, start = unpack(message)
            query = pending.get(wire_id)
            if (
                query is None
                or query.handle >= first_unsent
                or start & COMPARED != query.expected
                or not message.startswith(query.question, 12)
            ):
                # Anything but the plain case, which is an answer to a question in the very same octets.
                query = self._match(message, wire_id, events)
                if query is None:
                    if self._has_ended():
                        return events
                    known = self._stated.option
                    continue
            self._unsolicited = 0
            more = False
            if isinstance(query, Exchange) and not _message.is_error(message):
                more = query.has_answers = True
                query.deadline = now + query.timeout
            else:
                del pending[wire_id]
                if free is not None:
                    free.append(wire_id)
            events.append(ResponseReceived(query.handle, query.caller_id + message[2:], now - query.asked_at, more))
            # Does it state an idle timeout that is news? Nearly always no walk is needed to see that (_keepalive).
            if known:
                last = message.rfind(ELEVEN) - 1
                if not message.startswith(known, last) or message.find(HEAD) != last:
                    self._read_keepalive(query, message, events)
                    known = self._stated.option
            elif 11 in message and CODE in message:
                self._read_keepalive(query, message, events)
                known = self._stated.option
            if not pending:
                self._after_fate(now, events)
                if self._state is not _OPEN:
                    return events
        if self._deframer.failed:
            self._end_of_bad_frame(events)
        return events

    def receive_eof(self, *, now: float, orderly: bool = True) -> list[Event]:
        """The peer will send no more.  ``orderly``: it said so by close_notify (RFC 8446, section 6.1)."""
        check_time("now", now)
        check_flag("orderly", orderly)
        events = self._delivered()
        if not self._has_ended():
            error = self._end_of_stream_error(orderly)
            if error is None:
                self._end(Step.PEER_CLOSED, None, events)
            else:
                step = Step.PEER_FAULT if error.fault is Fault.TRUNCATED else Step.TRANSPORT_FAILED
                self._end(step, error, events)
        return events

    def data_to_send(self) -> list[bytes]:
        """Framed queries, one an item; always empty until the peer was accepted, and after the end."""
        if not self._outgoing or self._state not in (State.OPEN, State.DRAINING):
            return []
        chunks = list(self._outgoing.values())
        self._outgoing.clear()
        self._first_unsent = self._outstanding.next_handle()
        return chunks

    # Private methods.

    def _prepared(self, message: bytes) -> Prepared:
        prepared = prepare(message, self._added)
        if prepared.own_id >= 0 and self._outstanding.is_taken(prepared.own_id):
            raise IdInUseError(
                "the query is signed by SIG(0), which covers its id, and another query in flight has the id "
                f"{prepared.own_id}: sign it under another id, or ask again later (RFC 2931, section 3.1)"
            )
        return prepared

    def _find(self, handle: int) -> Query | None:
        check_whole("query", handle, "number, a handle that send_query returned")
        if not self._outstanding.was_issued(handle):
            raise LocalProtocolError(f"query {shown(handle)} is no handle that send_query returned on this connection")
        return self._outstanding.find(handle)

    def _was_sent(self, query: Query) -> bool:
        return query.handle < self._first_unsent

    def _has_asked_all(self) -> bool:
        """Whether as many queries were asked as may under one key of TLS, which cannot be changed from here."""
        return self._outstanding.count >= self.configuration.max_queries

    def _abandon(self, query: Query) -> None:
        """A query is pending no more.  One that has been sent keeps its id until the late answer comes."""
        outstanding = self._outstanding
        if self._was_sent(query):
            outstanding.pending.pop(query.wire_id, None)
            outstanding.abandoned[query.wire_id] = query
            if self._state is _OPEN and self._timers.deadline(Slot.OVERDUE) == math.inf:
                self._timers.set(Slot.OVERDUE, outstanding.overdue_at(self._most_overdue))
        else:
            outstanding.release(query)
            del self._outgoing[query.wire_id]

    # A query that was cancelled does not count before its time: its answer may be on its way.
    def _count_overdue(self, now: float, events: list[Event]) -> None:
        due = self._outstanding.overdue_at(self._most_overdue)  # later than it was, where late answers have come
        if due > now:
            self._timers.set(Slot.OVERDUE, due)
        else:
            self._drain(Step.EXHAUSTED, math.inf)
            self._end_if_drained(events)

    def _match(self, message: bytes, wire_id: int, events: list[Event]) -> Query | None:
        """The pending query that ``message`` answers; otherwise report it as discarded, and count it."""
        query = self._outstanding.pending.get(wire_id) or self._outstanding.abandoned.get(wire_id)
        if query is None or not self._was_sent(query):
            is_response = message[2] & 0x80
            reason = DiscardReason.UNKNOWN_ID if is_response else DiscardReason.NOT_A_RESPONSE
            query = None
        else:
            found = mismatch(query, message)
            if found is None:
                if wire_id in self._outstanding.pending:
                    return query
                self._discard_late(query, message, events)
                return None
            reason = found
        events.append(MessageDiscarded(message, reason, None if query is None else query.handle))
        self._unsolicited += 1
        if self._unsolicited > self.configuration.max_unsolicited:
            self._end_of_unsolicited(self.configuration.max_unsolicited, events)
        return None

    def _discard_late(self, query: Query, message: bytes, events: list[Event]) -> None:
        if isinstance(query, Exchange) and not _message.is_error(message):
            # Nobody says any more which message is the last: the id stays taken, and a question may be missing.
            query.has_answers = True
        else:
            self._outstanding.release(query)
        events.append(MessageDiscarded(message, DiscardReason.LATE, query.handle))
        # It answers nobody, and still it is the server's word on its idle timeout. The idle time does not begin anew:
        # messages of a transfer that nobody waits for could come for ever.
        if CODE in message or self._stated.option:
            self._read_keepalive(query, message, events)
            self._after_fate(self._rests_since, events)

    def _read_keepalive(self, query: Query, message: bytes, events: list[Event]) -> None:
        """Honour what the server says of its idle timeout (RFC 7828, section 3.2.2)."""
        event = self._stated.read(message, was_asked=query.has_keepalive)
        if event is not None:
            events.append(event)
            if event.timeout == 0:
                self._drain(Step.GO_AWAY, math.inf)

    def _restart_idle_timer(self, now: float) -> None:
        """Nothing may be outstanding any more: then the idle timer starts (RFC 7766, section 6.2.3)."""
        self._rests_since = now
        if self._state is State.OPEN and not self._outstanding.pending:
            self._timers.set(Slot.IDLE, now + self._idle_timeout())

    def _idle_timeout(self) -> float:
        return self._stated.idle_timeout(self.configuration)

    def _expire_queries(self, now: float, events: list[Event]) -> None:
        expired, unheard_since = self._outstanding.expire(now), math.inf
        for query in expired:
            if self._was_sent(query) and query.asked_at >= self._silence.heard_at:
                unheard_since = min(unheard_since, query.asked_at)
            self._abandon(query)
            events.append(QueryTimedOut(query.handle, now - query.asked_at))
        if unheard_since < math.inf and self._silence.is_over_the_limit(unheard_since, now):
            self._end(Step.PEER_SILENT, None, events)
            return
        if expired:
            self._after_fate(now, events)

    def _ring(self, slot: Slot, now: float, events: list[Event]) -> None:
        match slot:
            case Slot.IDLE:
                self._end(Step.IDLE, None, events)
            case Slot.OVERDUE:
                self._count_overdue(now, events)
            case _:
                self._end(Step.CLOSE_TIMEOUT, None, events)

    def _next_query_deadline(self) -> float:
        return self._outstanding.earliest_deadline()

    def _nothing_owed(self) -> bool:
        return not self._outstanding.pending

    def _lose_queries(self, step: Step, events: list[Event]) -> None:
        for query in self._outstanding.pending.values():
            was_sent = self._was_sent(query)
            safe = not was_sent or query.opcode == _message.QUERY
            events.append(QueryLost(query.handle, safe, was_sent))
        self._outstanding.clear()
        self._outgoing.clear()
