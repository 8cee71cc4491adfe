"""Checkers of a client and of a server: each call is compared with what was due, and a broken law raises."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .._message import walk
from ..events import (
    ConnectionClosed,
    Event,
    KeepaliveReceived,
    QueryLost,
    QueryReceived,
    QueryRejected,
    QueryTimedOut,
    ResponseReceived,
)
from .messages import AA, CD, QR, TC, message, question_of, read, record, response_to
from .runner import Arrived, Asked, Ended, Refused, Reported, Sent, TraceEntry, Woke

ROUNDING = 1e-6
"Seconds by which a difference of two times may be wrong."


def require(holds: bool, where: str, complaint: str) -> None:
    """Raise :class:`AssertionError` unless the law holds."""
    if not holds:
        raise AssertionError(f"{where}: {complaint}")


def answers(query: bytes, response: bytes) -> bool:
    """Whether a response is one to this query of one question, ids aside (RFC 7766, section 7; RFC 5452, section 9.1).

    Names compare without regard to ASCII case (RFC 4343).  Where there is no question, there is none to compare.
    """
    if not response[2] & 0x80 or response[2] >> 3 & 15 != query[2] >> 3 & 15:
        return False
    count, question = int.from_bytes(response[4:6]), question_of(query)
    if count == 0:
        return True
    theirs = response[12 : 12 + len(question)]
    same_name = theirs[:-4].lower() == question[:-4].lower()
    return count == 1 and same_name and theirs[-4:] == question[-4:]


@dataclass
class ClientChecker:
    """What a client was asked and told, against what it did; :meth:`check` raises where it broke a law.

    - A query is sent once, as it was asked (padding and options of EDNS aside), under an id that no query in
      flight has: one that timed out is in flight until its answer comes (RFC 7766, section 6.2.1).
    - A response is reported if and only if it :func:`answers` the query in flight with its id; under the caller's id,
      and else octet for octet as it came.
    - Each query has one fate: answered, timed out at its deadline and not before, or lost with the connection.
    - Queries are lost, or refused, only where the peer did something wrong, ended, or asked for the end.
    - What events say of a query is so: the seconds that it took, whether it was sent, and that it may be asked again.
    - Where the peer has ended, or has sent a length below 12, the connection ends at once.
    - Behind :class:`~dot_proto.ConnectionClosed` there is nothing.
    """

    unsent: list[Asked] = field(default_factory=list[Asked])
    "Asked, and not seen on the wire."
    in_flight: dict[int, Asked] = field(default_factory=dict[int, Asked])
    "By wire id; those that timed out are among them."
    pending: dict[int, Asked] = field(default_factory=dict[int, Asked])
    "Those without a fate, by handle."
    received: bytes = b""
    "What came of a message that is not whole yet."
    may_end: bool = False
    "Whether the peer has given a reason to end the connection."
    has_ended: bool = False

    def check(self, entry: TraceEntry) -> None:
        """Check the next entry of a trace."""
        where = f"at {entry.at} s"
        for asked in self.pending.values():
            require(entry.at <= asked.at + asked.timeout, where, f"query {asked.handle} has missed its deadline")
        match entry:
            case Asked():
                require(entry.handle not in self.pending, where, f"handle {entry.handle} is used twice")
                self.unsent.append(entry)
                self.pending[entry.handle] = entry
            case Refused():
                require(self.has_ended or self.may_end, where, "a query is refused without a reason")
            case Sent():
                self._send(entry, where)
            case Arrived():
                self._receive(entry, where)
            case Ended():
                self.may_end = True
                self._report(entry, [], where)
                require(self.has_ended, where, "the peer has ended, and the connection has not")
            case Reported():
                self._report(entry, [], where)
            case _:
                raise TypeError(f"{entry!r} is no entry of a trace")
        if isinstance(entry, Woke):
            for asked in self.pending.values():
                late = asked.at + asked.timeout <= entry.at
                require(not late, where, f"query {asked.handle} does not time out")

    def finish(self) -> None:
        """Check that no query is left without a fate; there are no more entries."""
        require(not self.pending, "at the end", f"queries {sorted(self.pending)} have met no fate")

    def _send(self, entry: Sent, where: str) -> None:
        require(not self.has_ended, where, "something is sent behind the end")
        reading = read(entry.octets)
        require(not reading.rest, where, "what is sent ends inside a message")
        for query in reading.messages:
            wire_id = int.from_bytes(query[:2])
            require(wire_id not in self.in_flight, where, f"the id {wire_id} is sent, and is in flight already")
            same = [asked for asked in self.unsent if _is_as_asked(query, asked.message)]
            require(bool(same), where, f"{query!r} is sent, and was not asked")
            self.unsent.remove(same[0])
            self.in_flight[wire_id] = same[0]

    def _receive(self, entry: Arrived, where: str) -> None:
        reading = read(self.received + entry.octets)
        self.received = reading.rest
        self.may_end = self.may_end or reading.failed_at is not None
        due: list[tuple[int, bytes]] = []
        for response in reading.messages:
            wire_id = int.from_bytes(response[:2])
            asked = self.in_flight.get(wire_id)
            if asked is None or not answers(asked.message, response):
                self.may_end = True
                continue
            del self.in_flight[wire_id]
            if asked.handle in self.pending:
                due.append((asked.handle, asked.message[:2] + response[2:]))
        self._report(entry, due, where)
        require(self.has_ended or reading.failed_at is None, where, "behind a length below 12 the connection is open")

    def _report(self, entry: Reported, due: Sequence[tuple[int, bytes]], where: str) -> None:
        waiting = list(due)
        for event in entry.events:
            require(not self.has_ended, where, f"{event} is reported behind the end")
            match event:
                case ResponseReceived():
                    require(bool(waiting), where, f"{event} is reported, and answers nothing")
                    handle, response = waiting.pop(0)
                    require((event.query, event.message) == (handle, response), where, f"{event}, not {response!r}")
                    require(not event.more, where, f"{event}: no more was asked for")
                    self._time(event, entry, self._fate(event, where), where)
                case QueryTimedOut():
                    asked = self._fate(event, where)
                    require(entry.at >= asked.at + asked.timeout, where, f"query {event.query} times out too early")
                    self._time(event, entry, asked, where)
                    self.may_end = True  # a server that does not answer may be given up
                case QueryLost():
                    require(self.may_end, where, f"query {event.query} is lost without a reason")
                    was_sent = self._fate(event, where) not in self.unsent
                    require(event.was_sent is was_sent, where, f"{event}: that is not so")
                    require(event.safe_to_resend, where, f"{event}: what has opcode QUERY may be asked again")
                case KeepaliveReceived():
                    self.may_end = True
                case ConnectionClosed():
                    self.has_ended = True
                    require(not self.pending, where, f"queries {sorted(self.pending)} end without a fate")
                    # A client's own idle timeout is a reason too, but only time brings it.
                    require(self.may_end or isinstance(entry, Woke), where, f"{event}: there is no reason")
                case _:
                    pass
        require(self.has_ended or not waiting, where, f"{len(waiting)} answers are not reported")
        require(self.has_ended or not self.unsent, where, f"{len(self.unsent)} queries are held back")

    def _fate(self, event: ResponseReceived | QueryTimedOut | QueryLost, where: str) -> Asked:
        require(event.query in self.pending, where, f"{event}: the query has its fate already, or was never asked")
        return self.pending.pop(event.query)

    def _time(self, event: ResponseReceived | QueryTimedOut, entry: TraceEntry, asked: Asked, where: str) -> None:
        elapsed = entry.at - asked.at
        require(abs(event.elapsed - elapsed) < ROUNDING, where, f"{event}: it took {elapsed} s")


def _is_as_asked(sent: bytes, asked: bytes) -> bool:
    """Whether flags and question are those that the caller gave."""
    return sent[2:4] == asked[2:4] and question_of(sent) == question_of(asked)


class Server(Protocol):
    """The verbs of :class:`~dot_proto.ServerConnection` that are called."""

    @abstractmethod
    def send_response(self, query: int, message: bytes, *, now: float) -> bool:
        """Answer a query."""

    @abstractmethod
    def data_to_send(self) -> Iterable[bytes]:
        """Framed responses."""

    @abstractmethod
    def receive_data(self, data: bytes, *, now: float) -> Iterable[Event]:
        """Octets from the client."""


@dataclass
class ServerChecker:
    """What a server was sent and told, against what it did; each method raises where it broke a law.

    - :class:`~dot_proto.QueryReceived` comes for each well-formed query, in order, and for no response (QR is 1).
    - What is given to ``send_response`` leaves at once, and once, under the query's id and else as it is, save that OPT
      may be added behind it, with DO as in the query (RFC 3225, section 3).
    - Else nothing is sent but one response to each query that the server says it has rejected.
    - The connection ends only where the client sent something that is no well-formed query.
    """

    server: Server
    fair: frozenset[bytes]
    "The messages that must be delivered: well-formed queries."
    open: list[tuple[int, bytes]] = field(default_factory=list[tuple[int, bytes]])
    "Delivered and not answered: handle and query."
    received: bytes = b""
    "What came of a message that is not whole yet."
    messages: int = 0
    "How many have come."
    may_end: bool = False
    "Whether the client has given a reason to end the connection."
    has_ended: bool = False

    def receive(self, octets: bytes) -> None:
        """The next octets of the client's."""
        reading = read(self.received + octets)
        self.received = reading.rest
        self.messages += len(reading.messages)
        is_foul = reading.failed_at is not None or not self.fair.issuperset(reading.messages)
        self.may_end = self.may_end or is_foul
        where = f"after {self.messages} messages"
        arrived = iter(reading.messages)
        rejected: list[bytes] = []
        for event in self.server.receive_data(octets, now=0.0):
            require(not self.has_ended, where, f"{event} is reported behind the end")
            if isinstance(event, QueryReceived | QueryRejected):
                require(not event.message[2] & 0x80, where, f"{event} is no query")
                require(self._skip_to(event.message, arrived, where), where, f"{event} did not arrive here")
            if isinstance(event, QueryReceived):
                self.open.append((event.query, event.message))
            elif isinstance(event, QueryRejected):
                require(event.message not in self.fair, where, f"{event} is well formed")
                rejected.append(event.message[:2])
            if isinstance(event, ConnectionClosed):
                require(self.may_end, where, f"{event}: there is no reason")
                self.has_ended = True
        self._skip_to(b"", arrived, where)
        sent = self._sent(where)
        require([each[:2] for each in sent] == rejected, where, f"{sent} is sent; rejected are ids {rejected}")

    def answer(self, which: int, rcode: int) -> None:
        """Answer one of the open queries, counted round."""
        handle, query = self.open.pop(which % len(self.open))
        where = f"answering query {handle}"
        id = int.from_bytes(query[:2])
        response = message(id=id, flags=QR | query[3] & CD | rcode)
        if query in self.fair:
            response = response_to(query, record(), rcode=rcode, flags=AA | TC)
        taken = self.server.send_response(handle, response, now=0.0)
        require(taken or self.has_ended, where, "the response is not taken")
        sent = self._sent(where)
        require(len(sent) == taken, where, f"{len(sent)} messages are sent")
        for each in sent:
            as_given = each[:10] == response[:10] and each.startswith(response[12:], 12)
            require(as_given, where, f"{each!r} is sent, not {response!r}")
            asked, added = walk(query).opt, each[len(response) :]
            if asked is not None and added:
                require((added[7] ^ query[asked[0] + 7]) & 0x80 == 0, where, f"{added!r} is sent with a wrong DO")

    def _skip_to(self, wanted: bytes, arrived: Iterable[bytes], where: str) -> bool:
        """Whether this message is among those that have arrived; none before it may be one that is due."""
        for each in arrived:
            if each == wanted:
                return True
            require(each not in self.fair or self.has_ended, where, f"{each!r} is not delivered")
        return False

    def _sent(self, where: str) -> list[bytes]:
        """What is sent now: whole messages, and responses."""
        reading = read(b"".join(self.server.data_to_send()))
        require(not reading.rest, where, "what is sent ends inside a message")
        for each in reading.messages:
            require(bool(each[2] & 0x80), where, f"{each!r} is sent, and is no response")
        return reading.messages
