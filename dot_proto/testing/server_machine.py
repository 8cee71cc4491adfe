"""A server against its model: queries of every kind in any cut, answered in any order or not at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from ..configuration import ServerConfiguration
from ..errors import LocalProtocolError
from ..events import QueryReceived
from ..query import encode_name
from ..server import ServerConnection
from .connection_machine import ConnectionMachine, pick
from .messages import (
    ANOTHERS,
    CD,
    ERROR,
    KEEPALIVE,
    PADDING,
    QR,
    RD,
    cut_at,
    message,
    opt,
    option,
    record,
    stream_of,
    unframed,
)
from .server_model import Query, ServerModel

QUESTION = encode_name("a.example") + b"\0\1\0\1"

QUERIES = {
    "bare": Query(0, QUESTION),
    "opt": Query(0, QUESTION, version=0),
    "padded": Query(0, QUESTION, version=0, is_padded=True),
    "keepalive": Query(0, QUESTION, version=0, keepalive=b""),
    "all": Query(0, QUESTION, version=0, is_padded=True, keepalive=b""),
    "notify": Query(0, QUESTION, opcode=4, version=0),
    "dnssec": Query(0, QUESTION, version=0, is_padded=True, keepalive=b"", wants_dnssec=True, copied=RD | CD),
    "checks-disabled": Query(0, QUESTION, copied=CD),
    "opcode": Query(0, QUESTION, opcode=2, version=0, is_padded=True, rcode=4),
    "trailing": Query(0, QUESTION, version=0, trailing=b"\0", rcode=1),
    "version": Query(0, QUESTION, version=1, keepalive=b"", rcode=16),
    "filled-keepalive": Query(0, QUESTION, version=0, keepalive=b"\0\x64", rcode=1),
    "padded-twice": Query(
        0, QUESTION, version=0, others=(option(PADDING),), is_padded=True, keepalive=b"", wants_dnssec=True, rcode=1
    ),
    "keepalive-odd-first": Query(
        0, QUESTION, version=0, others=(option(KEEPALIVE, b"\1"),), is_padded=True, keepalive=b"", rcode=1
    ),
    "no-question": Query(0, rcode=1, copied=RD | CD),
    "response": Query(0, QUESTION, is_query=False),
}
"""What a client sends, under whatever id."""

FAIR = ["bare", "opt", "padded", "keepalive", "all", "notify", "dnssec", "checks-disabled"]
MISTAKES = ["short", "long", "query", "malformed", "unknown", "error", "rcode", "decline", "close"]

GLUE = [record(b"\x02ns\xc0\x0c"), record(b"\xc0\x0c", kind=2, data=b"\x01x\xc0\x0c")]

FORMS: dict[str, tuple[int, list[bytes], list[bytes], bytes]] = {
    "bare": (0, [], [], b""),
    "opt": (0, [opt()], [], b""),
    "another server's": (CD, [ANOTHERS], [], ERROR),
    "another server's before records": (CD, [ANOTHERS, *GLUE], GLUE, ERROR),
}
"What the handler answers with: flags, additional records, those of them that stay, and the options that stay."

KINDS = st.sampled_from(FAIR * 2 + list(QUERIES))
IDS = st.integers(0, 2)
INDEX = st.integers(0, 7)
CUTS = st.lists(st.integers(0, 100), max_size=3)
"Offsets at which what comes is cut into pieces."


class ServerMachine(ConnectionMachine[ServerConnection, ServerModel]):
    """Plays with :class:`~dot_proto.ServerConnection`, or with what a subclass makes in :meth:`make_connection`.

    Run it with ``ServerMachine.TestCase``, or ``hypothesis.stateful.run_state_machine_as_test(ServerMachine)``.
    """

    configurations: ClassVar[Sequence[ServerConfiguration]] = (
        ServerConfiguration(
            max_outstanding=3, hard_outstanding=4, max_unsolicited=1, close_timeout=2.0, padding_block=64
        ),
        ServerConfiguration(max_outstanding_octets=60, max_duration=8.0, idle_timeout=3.0),
        ServerConfiguration(max_queries=6, max_unsolicited=0, idle_timeout=0.7, idle_grace=0.0, padding_block=None),
        ServerConfiguration(
            idle_timeout=0.0, idle_grace=1.0, max_duration=1.0, max_queries=3, max_unsolicited=1, close_timeout=0.0
        ),
        ServerConfiguration(idle_timeout=30.0, max_duration=4.0),
    )
    "One of them is drawn at the beginning."

    def __init__(self) -> None:
        super().__init__()
        self.begin(0)

    def make_connection(self, configuration: ServerConfiguration) -> ServerConnection:
        """A fresh connection, not begun; override it to play with another implementation, or with a proxy."""
        return ServerConnection(configuration)

    def another(self) -> ServerConnection:
        """A fresh connection, made as this one was."""
        return self.make_connection(self.model.configuration)

    @initialize(configuration=INDEX)
    def begin(self, configuration: int) -> None:
        """A new connection, whose handshake is over."""
        chosen = pick(self.configurations, configuration)
        self.received: list[int] = []
        self.start(self.make_connection(chosen), ServerModel(configuration=chosen))
        self.call(self.connection.begin, now=self.now)
        self.model.begin(self.now)

    @precondition(lambda self: self.model.has_ended)
    @rule(configuration=INDEX)
    def begin_again(self, configuration: int) -> None:
        """So that few steps are spent on a connection that is over."""
        self.finish()
        self.begin(configuration)

    def seen(self) -> tuple[object, ...]:
        """All that can be seen of a server without changing it."""
        server = self.connection
        return server.state, server.closing_for, server.next_timeout(), server.outstanding, server.wants_data

    # Verbs

    @rule(
        queries=st.lists(st.tuples(KINDS, IDS), min_size=1, max_size=3),
        cuts=CUTS,
    )
    def receive(self, queries: list[tuple[str, int]], cuts: list[int]) -> None:
        """Some messages at once, cut into pieces; ids may be the same."""
        made = [replace(QUERIES[kind], id=id) for kind, id in queries]
        events = [
            event
            for piece in cut_at(stream_of(query.octets for query in made), cuts)
            for event in self.call(self.connection.receive_data, piece, now=self.now)
        ]
        handles = [event.query for event in events if isinstance(event, QueryReceived)]
        self.agree("handles given out twice", [each for each in handles if each in self.received], [])
        self.agree("different handles", len(set(handles)), len(handles))
        due = self.model.delivered()
        given = iter(handles)
        for query in made:
            due += self.model.receive(query, given, self.now)
        self.check(events, due)
        self.received += handles

    @rule(kind=st.sampled_from(FAIR), id=IDS)
    def receive_one(self, kind: str, id: int) -> None:
        """The usual thing, so that it is usual here too."""
        self.receive([(kind, id)], [])

    @rule(kind=st.sampled_from(["response", *QUERIES, "response"]), id=IDS, count=st.integers(2, 5))
    def flood(self, kind: str, id: int, count: int) -> None:
        """The same, again and again."""
        self.receive([(kind, id)] * count, [])

    @precondition(lambda self: len(self.model.outstanding) > 1)
    @rule()
    def receive_close_notify(self) -> None:
        """The client asks nothing more, and waits for what it has asked (RFC 8446, section 6.1)."""
        self.end("eof", orderly=True)

    @precondition(lambda self: self.model.outgoing)
    @rule()
    def drain(self) -> None:
        """What leaves is what is due, octet for octet."""
        messages = unframed(self.call(self.connection.data_to_send))
        self.agree("what leaves", messages, self.model.leave())

    # Commands

    @precondition(lambda self: self.received)
    @rule(which=INDEX, form=st.sampled_from([*FORMS]), more=st.sampled_from([False, False, True]))
    def respond(self, which: int, form: str, more: bool) -> None:
        """Answer a query, which may have been answered already; under some id, with OPT or without."""
        handle = self._likely(which)
        send, now, serial = self.connection.send_response, self.now, len(self.recording.calls)
        flags, additionals, left, options = FORMS[form]
        response = _response(serial, flags, additionals)
        if handle in self.model.outstanding:
            self.agree("taken", self.call(send, handle, response, now=now, more=more), True)
            self.model.respond(handle, _response(serial, flags, left), more, now, options)
        elif self.model.has_ended:
            self.agree("taken", self.call(send, handle, response, now=now, more=more), False)
        else:
            self.refused(LocalProtocolError, send, handle, response, now=now, more=more)

    @precondition(lambda self: self.received)
    @rule(which=INDEX, rcode=st.sampled_from([2, 5, 0, 16, 23]))
    def send_error(self, which: int, rcode: int) -> None:
        """Answer with an RCODE alone."""
        handle = self._likely(which)
        send, now = self.connection.send_error, self.now
        if handle in self.model.outstanding:
            self.agree("taken", self.call(send, handle, now=now, rcode=rcode), True)
            self.model.send_error(handle, rcode, now)
        elif self.model.has_ended:
            self.agree("taken", self.call(send, handle, now=now, rcode=rcode), False)
        else:
            self.refused(LocalProtocolError, send, handle, now=now, rcode=rcode)

    @precondition(lambda self: self.received)
    @rule(which=INDEX)
    def decline(self, which: int) -> None:
        """Leave a query unanswered."""
        handle = self._likely(which)
        if handle in self.model.outstanding:
            self.call(self.connection.decline, handle, now=self.now)
            self.model.decline(handle, self.now)
        elif self.model.has_ended:
            self.call(self.connection.decline, handle, now=self.now)
        else:
            self.refused(LocalProtocolError, self.connection.decline, handle, now=self.now)

    @precondition(lambda self: len(self.received) > 2)
    @rule(timeout=st.sampled_from([None, 5.0, 1.0, 0.0, math.inf]))
    def close(self, timeout: float | None) -> None:
        """In order; more than once, perhaps."""
        self.model.close(timeout, self.now)
        self.call(self.connection.close, now=self.now, timeout=timeout)

    @rule(mistake=st.sampled_from(MISTAKES), which=INDEX)
    def err(self, mistake: str, which: int) -> None:
        """The caller does what cannot be done."""
        server, now, response = self.connection, self.now, _response(0)
        handle = pick([*self.model.outstanding, 1 << 60], which)
        send, refused = server.send_response, self.refused
        match mistake:
            case "short":
                refused(LocalProtocolError, send, handle, response[:11], now=now)
            case "long":
                refused(LocalProtocolError, send, handle, response + bytes(65_536), now=now)
            case "query":
                refused(LocalProtocolError, send, handle, QUERIES["bare"].octets, now=now)
            case "malformed":
                refused(LocalProtocolError, send, handle, response + b"\0", now=now)
            case "unknown":
                refused(LocalProtocolError, send, -1, response, now=now)
            case "error":
                refused(LocalProtocolError, server.send_error, 1 << 60, now=now)
            case "rcode":
                refused(LocalProtocolError, server.send_error, handle, now=now, rcode=4096)
            case "decline":
                refused(LocalProtocolError, server.decline, 1 << 60, now=now)
            case _:
                refused(LocalProtocolError, server.close, now=now, timeout=math.nan)

    def _likely(self, which: int) -> int:
        """The handle of a query, and rather of one that awaits its answer."""
        return pick([*self.model.outstanding, *self.received[-1:]], which)

    # Laws

    @invariant()
    def the_limits_are_as_foretold(self) -> None:
        """What is outstanding, and whether more is wanted."""
        self.agree("outstanding", self.connection.outstanding, len(self.model.outstanding))
        self.agree("wants_data", self.connection.wants_data, self.model.wants_data)


def _response(serial: int, flags: int = 0, additionals: Sequence[bytes] = ()) -> bytes:
    """Under an id that is no query's, and unlike any other, so that no two can be confused."""
    answers = [record(data=serial.to_bytes(4))]
    return message(QUESTION, id=0x7777, flags=QR | flags, answers=answers, additionals=additionals)
