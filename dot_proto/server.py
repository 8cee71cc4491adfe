"""The server's side of one connection: queries in, responses out, in any order.

Theory of operation.  Each whole query that can be understood becomes a :class:`~dot_proto.QueryReceived`; the
engine answers what cannot (FORMERR, NOTIMP, BADVERS) by itself.  A query is known by the engine's handle, not
by its message id, since a client may use one id twice.  OPT, padding and keepalive of the responses follow
from the query: whoever answers need not think of them.
"""

from __future__ import annotations

import math
import struct
from typing import Final

from . import _message
from ._connection import Connection
from ._edns import Additions, drop_unasked, encode_keepalive, for_responses, splice, splice_plain, without_opt
from ._framing import MAX_MESSAGE, MIN_MESSAGE, Octets
from ._message import Layout
from ._plain import opt_offset, plain_question_end
from ._state import State, Step
from ._timers import Slot
from .arguments import check_buffer, check_flag, check_instance, check_seconds, check_time, check_whole, shown
from .configuration import ServerConfiguration
from .errors import Fault, LocalProtocolError, MessageError, RemoteProtocolError
from .events import DiscardReason, Event, MessageDiscarded, QueryReceived, QueryRejected
from .query import not_octets

# Looked up by its class, it would be 8 % of what a query costs in Python 3.11.
_OPEN: Final = State.OPEN

_PREFIX: Final = struct.Struct("!H")
_OPTION: Final = struct.Struct("!HH")
_PADDING, _KEEPALIVE = _message.OPTION_PADDING, _message.OPTION_KEEPALIVE

_BARE_OPT: Final = b"\x00\x00\x29\x04\xd0"
"Root, type OPT, payload size 1232: what an error of ours says of EDNS (RFC 6891, section 6.1.2)."

_GO: Final = encode_keepalive(0.0)
"Ask nothing more on this connection (RFC 7828, section 3.3.2)."


# What a response must know of its query, as bits of one number, which is a tenth faster than one attribute for each.
_IS_PADDED: Final = 1
_WANTS_DNSSEC: Final = 2
_WANTS_KEEPALIVE: Final = 4
_HAS_OPT: Final = 8
_CD: Final = 16
"Checking disabled, and there it stands in the fourth octet of a message as well (RFC 4035, section 3.2.2)."


class _Query:
    """A query that awaits its response."""

    __slots__ = ("kind", "message")

    def __init__(self, message: bytes, kind: int) -> None:
        self.message = message
        self.kind = kind


def _query(message: bytes, layout: Layout) -> _Query:
    """An option counts here also where it is odd: the error says no less than another answer would."""
    kind = message[3] & _CD
    if layout.opt is not None:
        kind |= _HAS_OPT | message[layout.opt[0] + 7] >> 6 & _WANTS_DNSSEC
        kind |= _IS_PADDED * bool(layout.values(_PADDING))
        kind |= _WANTS_KEEPALIVE * bool(layout.values(_KEEPALIVE))
    return _Query(message, kind)


def _plain_query(message: bytes) -> _Query | None:
    """The same without :func:`walk`, for a query to which there is nothing to object."""
    opt, end = plain_question_end(message), len(message)
    if opt == end:
        return _Query(message, message[3] & _CD)
    if not opt or message[opt + 6]:  # EDNS version
        return None
    kind = message[3] & _CD | _HAS_OPT
    if message[opt + 7] & 0x80:
        kind |= _WANTS_DNSSEC
    offset = opt + 11
    while offset + 4 <= end:
        code, length = _OPTION.unpack_from(message, offset)
        offset += 4 + length
        if code == _PADDING:
            if kind & _IS_PADDED:
                return None
            kind |= _IS_PADDED
        elif code == _KEEPALIVE:
            if length:
                return None
            kind |= _WANTS_KEEPALIVE
    return _Query(message, kind) if offset == end else None


class ServerConnection(Connection):
    """A DNS over TLS server without I/O: one client's connection, from the end of the handshake.

    ``now`` is the time on the caller's clock, in seconds, at which the connection begins: a client that never
    asks is closed like an idle one.  Where the handshake is still to come, leave it out and call :meth:`begin`.

    After every call: send what :meth:`data_to_send` returns, then wait for octets (while :attr:`wants_data`)
    or for :meth:`next_timeout`.
    """

    def __init__(self, configuration: ServerConfiguration | None = None, *, now: float | None = None) -> None:
        if configuration is not None:
            check_instance("configuration", configuration, ServerConfiguration)
        if now is not None:
            check_time("now", now)
        super().__init__(State.OPEN)
        self.configuration: Final = configuration or ServerConfiguration()
        self._added = self._by_kind(None, encode_keepalive(self.configuration.idle_timeout))
        self._added_until = math.inf  # behind that, less than the idle timeout is left of max_duration
        self._queries: dict[int, _Query] = {}
        self._octets = 0  # of the messages in _queries
        self._next_handle = 0
        self._outgoing: list[bytes] = []
        self.octets_to_send: int = 0
        "Octets of responses that :meth:`data_to_send` has not handed out yet; not to be set.  (As a property: 1 %.)"
        self._unsolicited = 0
        self._client_has_finished = False
        if now is not None:
            self.begin(now=now)

    @property
    def outstanding(self) -> int:
        """How many queries await their response."""
        return len(self._queries)

    @property
    def wants_data(self) -> bool:
        """False while as many queries are outstanding as should be: stop reading, and TCP slows the client."""
        configuration = self.configuration
        return (
            self._state is State.OPEN
            and len(self._queries) < configuration.max_outstanding
            and self._octets < configuration.max_outstanding_octets
        )

    def begin(self, *, now: float) -> None:
        """The handshake is over: the times allowed for idling and for the whole connection start ``now``."""
        check_time("now", now)
        if not self._queries:
            self._restart_idle_timer(now)
        if self.configuration.max_duration is not None and not self._has_ended():
            self._timers.set(Slot.DURATION, now + self.configuration.max_duration)
            if self._state is _OPEN:
                self._added_until = now + self.configuration.max_duration - self.configuration.idle_timeout

    # Commands: they queue, and raise LocalProtocolError for the caller's mistakes.

    def send_response(self, query: int, message: bytes, *, now: float, more: bool = False) -> bool:
        """Answer a query; says whether the response will be sent (false: the client has gone).

        ``message`` is a whole response of 12 to 65535 octets under any id; it goes out under the query's.  ``more``:
        further messages answer the same query (RFC 5936, section 2.2).

        The response may be one that another server gave, since what is between neighbours alone is made anew: CD
        (RFC 4035, section 3.2.2) and DO (RFC 3225, section 3) are the query's, the EDNS version is 0, and OPT

        * is there if the query has one, as the last record, and is taken away if not (RFC 6891, section 7);
        * is padded if the query is (RFC 7830, section 4); other Padding goes;
        * states the idle timeout, or what is left of ``max_duration`` if that is less, if the query asks for it
          (RFC 7828, section 3.3.2); while the connection closes, 0 to every query with OPT; other keepalive goes;
        * has no DAU, DHU, N3U, and NSID, client subnet and COOKIE only if the query has them, a cookie only with the
          query's own client cookie;
        * keeps its payload size, the RCODE, and all other options, extended errors among them (RFC 8914, section 3).

        A response that ends in TSIG or SIG(0) is sent as it is but for the id: whoever signs sees to all this before.

        Raises :class:`~dot_proto.LocalProtocolError` for a query unknown or answered already, and for a message
        that is no response or malformed.
        """
        # Not by a method: that would be 2 % of a query.
        found = self._queries.get(query) if type(query) is int else None
        if found is None:
            self._check_handle(query)
        if not isinstance(message, bytes):
            raise LocalProtocolError(not_octets(message, "a response"))
        try:  # as check_time, which would be 4 % of this
            if not now < math.inf:
                check_time("now", now)
        except TypeError:
            check_time("now", now)
        if more is not False:
            check_flag("more", more)
        if not MIN_MESSAGE <= len(message) <= MAX_MESSAGE:
            raise LocalProtocolError(f"a DNS message has {MIN_MESSAGE} to {MAX_MESSAGE} octets, not {len(message)}")
        if not message[2] & 0x80:
            raise LocalProtocolError("the message is a query (QR is 0), not a response")
        if found is None:
            return False
        self._send(found, message, now)
        if not more:
            self._forget(query, now)
        return True

    def send_error(self, query: int, *, now: float, rcode: int = _message.SERVFAIL) -> bool:
        """Answer a query with an RCODE of 0 to 4095 alone; says whether it will be sent, as :meth:`send_response`.

        An RCODE above 15 is SERVFAIL to a client without EDNS (RFC 6891, section 6.1.3).
        """
        check_whole("rcode", rcode, "number")
        check_time("now", now)
        if not 0 <= rcode <= 4095:
            raise LocalProtocolError(f"an RCODE has 12 bits, 0 to 4095, not {rcode} (RFC 6891, section 6.1.3)")
        found = self._queries.get(query) if type(query) is int else None
        if found is None:
            self._check_handle(query)
            return False
        return self.send_response(query, _error(found.message, _message.walk(found.message), rcode), now=now)

    def decline(self, query: int, *, now: float) -> None:
        """Leave a query without an answer, for ever; its client will wait for its own deadline.

        Raises :class:`~dot_proto.LocalProtocolError` for a query unknown or answered already.
        """
        check_time("now", now)
        if type(query) is int and query in self._queries:
            self._forget(query, now)
        else:
            self._check_handle(query)

    def close(self, *, now: float, timeout: float | None = None) -> None:
        """Take no more queries; the connection ends once those received are answered, or after ``timeout`` seconds.

        Responses still to come tell the client to go (RFC 7828, section 3.3.2).  Closing twice does nothing, or
        shortens the wait.
        """
        check_time("now", now)
        timeout = check_seconds("timeout", self.configuration.close_timeout if timeout is None else timeout)
        if not self._has_ended():
            self._drain(Step.LOCAL_CLOSE, now + timeout)
        self._after_command(now)

    # The verbs of the driver: they report what the peer, the network and the clock do.

    def receive_data(self, data: Octets, *, now: float) -> list[Event]:
        """Octets from the client, as they left TLS, cut anywhere.  Never raises for what the octets are."""
        try:  # as check_time, which would be 4 % of this
            if not now < math.inf:
                check_time("now", now)
        except TypeError:
            check_time("now", now)
        if not isinstance(data, bytes):
            check_buffer("data", data)
        events = self._delivered()
        if self._state is not State.OPEN:
            # What is asked now will not be answered, and the client may ask elsewhere.  But whether the stream ends
            # inside a message is still to be told.
            self._deframer.feed(data)
            return events
        for message in self._deframer.feed(data):
            if message[2] & 0x80:
                self._discard(message, events)
            else:
                self._unsolicited = 0
                self._receive_query(message, now, events)
            if self._state is not _OPEN:
                return events
        if self._deframer.failed:
            self._end_of_bad_frame(events)
        return events

    def receive_eof(self, *, now: float, orderly: bool = True) -> list[Event]:
        """The client will send no more.  What it asked in whole messages is still answered, then the end is told.

        ``orderly``: it sent close_notify (RFC 8446, section 6.1).  If it did not, or if the stream ends inside a
        message, the terminal event has the error.  For a client that is known to be gone, whose TCP or TLS has failed,
        call :meth:`fail` instead: nothing is sent to it any more (RFC 7766, section 6.2.4).
        """
        check_time("now", now)
        check_flag("orderly", orderly)
        events = self._delivered()
        if self._has_ended() or self._client_has_finished:
            return events  # TCP ends as well, behind close_notify: that is nothing new
        self._peer_error = error = self._end_of_stream_error(orderly)
        self._client_has_finished = True
        if self._queries:
            self._drain(Step.PEER_FINISHED, now + self.configuration.close_timeout)
        elif error is None:
            self._end(Step.PEER_CLOSED, None, events)
        else:
            step = Step.PEER_FAULT if error.fault is Fault.TRUNCATED else Step.TRANSPORT_FAILED
            self._end(step, error, events)
        return events

    def fail(self, error: RemoteProtocolError, *, now: float) -> list[Event]:
        """TLS or the transport has failed, and the client is gone: nothing is sent any more."""
        if not self._has_ended():
            self._outgoing.clear()  # RFC 7766, section 6.2.4
            self.octets_to_send = 0
        return super().fail(error, now=now)

    def data_to_send(self) -> list[bytes]:
        """Framed responses, one an item.  What was queued before the end is still handed out after it."""
        chunks = self._outgoing
        if chunks:
            self._outgoing = []
            self.octets_to_send = 0
        return chunks

    # Private methods.

    def _receive_query(self, message: bytes, now: float, events: list[Event]) -> None:
        queries, configuration = self._queries, self.configuration
        handle = self._next_handle
        self._next_handle += 1
        if self._next_handle == configuration.max_queries:
            self._go_away(now)
        is_welcome = message[2] >> 3 in configuration.opcodes and len(queries) < configuration.hard_outstanding
        query = _plain_query(message) if is_welcome else None
        if query is None:
            layout = _message.walk(message)
            rcode, explanation = self._refusal(message, layout)
            if explanation:
                self._send(_query(message, layout), _error(message, layout, rcode), now)
                events.append(QueryRejected(message, rcode, explanation))
                if not queries:
                    self._after_fate(now, events)
                return
            query = _query(message, layout)
        if not queries:
            self._timers.stop(Slot.IDLE)  # it runs only while nothing is outstanding
        queries[handle] = query
        self._octets += len(message)
        events.append(QueryReceived(handle, message))

    def _refusal(self, message: bytes, layout: Layout) -> tuple[int, str]:
        """The RCODE and the reason of a query that the engine answers by itself; an empty reason: none."""
        opcode = _message.opcode_of(message)
        # The version comes first: what else such an OPT holds, and what the opcode asks, only that version can tell.
        if layout.opt is not None and not message[layout.opt[0]] and _message.edns_version(message, layout) > 0:
            return _message.BADVERS, "EDNS version above 0 (RFC 6891, section 6.1.3)"
        # Then the opcode: the body of a DSO message (RFC 8490) is no such body as walk() expects.
        if opcode not in self.configuration.opcodes:
            return _message.NOTIMP, f"opcode {opcode} is not implemented"
        if layout.problem is not None:
            return _message.FORMERR, layout.problem
        if odd := _message.oddity(message, layout):
            return _message.FORMERR, odd
        if layout.question_end == 12 and not layout.values(_message.OPTION_COOKIE):
            return _message.FORMERR, "no question, and no cookie either (RFC 7873, section 5.4)"
        if len(self._queries) >= self.configuration.hard_outstanding:
            return _message.SERVFAIL, f"{len(self._queries)} queries are outstanding on this connection"
        return _message.NOERROR, ""

    def _send(self, query: _Query, message: bytes, now: float) -> None:
        kind, behind_id = query.kind, None
        if now > self._added_until:
            self._state_what_is_left(now)
        if not (message[3] ^ kind) & _CD and (opt := opt_offset(message)):
            if kind & _HAS_OPT:
                behind_id = splice_plain(message, opt, self._added[kind])
            elif opt == len(message):
                behind_id = message[2:]
        if behind_id is None:
            behind_id = _rewritten(query, message, self._added[kind])
        length = len(behind_id) + 2
        self._outgoing.append(_PREFIX.pack(length) + query.message[:2] + behind_id)
        self.octets_to_send += length + 2

    def _state_what_is_left(self, now: float) -> None:
        """From here on keepalive says when ``max_duration`` ends the connection, by tenths of a second."""
        end = self._timers.deadline(Slot.DURATION)
        stated = encode_keepalive(max(end - now, 0.0))
        self._added, self._added_until = self._by_kind(None, stated), end - int.from_bytes(stated) / 10

    def _by_kind(self, unasked: bytes | None, asked: bytes) -> tuple[Additions, ...]:
        """What responses get, by the kind of their query, that state these timeouts."""
        blocks = (None, self.configuration.padding_block)
        eight = tuple(
            for_responses(keepalive=keepalive, padding_block=block, wants_dnssec=wants_dnssec)
            for keepalive in (unasked, asked)
            for wants_dnssec in (False, True)
            for block in blocks
        )
        return eight * 4  # the two upper bits do not matter

    def _move(self, step: Step) -> None:
        super()._move(step)
        if self._state is State.DRAINING:
            self._added, self._added_until = self._by_kind(_GO, _GO), math.inf

    def _check_handle(self, handle: int) -> None:
        """A query that is not outstanding must be one whose client has gone, or this is the caller's mistake."""
        check_whole("query", handle, "number, a handle that QueryReceived brought")
        if not 0 <= handle < self._next_handle:
            raise LocalProtocolError(f"query {shown(handle)} is no handle of a query of this connection")
        if not self._has_ended():
            raise LocalProtocolError(f"query {handle} has been answered already")

    def _forget(self, handle: int, now: float) -> None:
        self._octets -= len(self._queries.pop(handle).message)
        if not self._queries:
            self._after_fate(now, self._undelivered)
            self._after_command(now)

    def _discard(self, message: bytes, events: list[Event]) -> None:
        events.append(MessageDiscarded(message, DiscardReason.NOT_A_QUERY, None))
        self._unsolicited += 1
        if self._unsolicited > self.configuration.max_unsolicited:
            self._end_of_unsolicited(self.configuration.max_unsolicited, events)

    def _go_away(self, now: float) -> None:
        if self._state is State.OPEN:
            self._drain(Step.GO_AWAY, now + self.configuration.close_timeout)

    def _restart_idle_timer(self, now: float) -> None:
        """Nothing is outstanding: the idle timer starts, with some grace beyond what clients are told."""
        if self._state is State.OPEN:
            self._timers.set(Slot.IDLE, now + self.configuration.idle_timeout + self.configuration.idle_grace)

    def _expire_queries(self, now: float, events: list[Event]) -> None:
        pass  # how long an answer may take is the handler's affair

    def _ring(self, slot: Slot, now: float, events: list[Event]) -> None:
        match slot:
            case Slot.IDLE:
                self._end(Step.IDLE, None, events)
            case Slot.DURATION:
                self._go_away(now)
                self._end_if_drained(events)
            case _:
                self._end(Step.CLOSE_TIMEOUT, None, events)

    def _next_query_deadline(self) -> float:
        return float("inf")  # how long an answer may take is the handler's affair

    def _nothing_owed(self) -> bool:
        return not self._queries

    def _lose_queries(self, step: Step, events: list[Event]) -> None:
        self._queries.clear()
        self._octets = 0


def _rewritten(query: _Query, message: bytes, added: Additions) -> bytes:
    """A response behind its id, as it goes out; raises :class:`~dot_proto.MessageError` for a malformed one."""
    layout = _message.walk(message)
    if layout.problem is not None:
        raise MessageError(f"the response is malformed: {layout.problem}")
    if layout.is_signed:
        return message[2:]
    if query.kind & _HAS_OPT:
        drop_unasked(layout, query.message)
        message = splice(message, layout, added)
    else:
        message = without_opt(message, layout)
    return message[2:3] + bytes([message[3] & ~_CD | query.kind & _CD]) + message[4:]


def _error(query: bytes, layout: Layout, rcode: int) -> bytes:
    """A response of nothing but an RCODE: id, opcode, RD, CD and DO copied, the question too if it could be read.

    RD: RFC 1035, section 4.1.1; CD: RFC 4035, section 3.2.2; DO: RFC 3225, section 3.
    """
    if rcode > 15 and layout.opt is None:
        rcode = _message.SERVFAIL
    flags = _message.QR | (query[2] & 0x79) << 8 | query[3] & _CD | rcode & 15
    question = query[12 : layout.question_end]
    opt = b""
    if layout.opt is not None:
        wants_dnssec = query[layout.opt[0] + 7] & 0x80
        opt = _BARE_OPT + bytes([rcode >> 4, 0, wants_dnssec, 0, 0, 0])
    header = _message.HEADER.pack(query[0] << 8 | query[1], flags, bool(question), 0, 0, bool(opt))
    return header + question + opt
