"""A server on loopback that knows what a test tells it, and does wrong what a test asks for.

Theory of operation.  TLS, framing and the matching of answers to queries are those of :mod:`dot_io.blocking`'s
server; only what serves one client is of our own.  A query waits until it is due, so that one name may be slow
while others are answered.  Then the engine sends the answer, or a fault goes around the engine: into TLS for what
is wrong with messages, into TCP for what is wrong with TLS.
"""

from __future__ import annotations

import heapq
import math
import socket
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype

from dot_proto import (
    MAX_MESSAGE,
    AuthenticationPolicy,
    Fault,
    Pin,
    QueryReceived,
    RemoteProtocolError,
    ServerConfiguration,
    State,
    certificates_from,
)
from dot_proto.arguments import check_instance, check_seconds, check_whole, shown

from .._address import check_host
from .._clock import monotonic
from .._connections import ConnectionRecord, ConnectionTable
from .._dial import LONGEST_WAIT
from .._limits import ConnectionLimits
from .._listening import listening
from .._stays import StaysInProcess
from .._transport import reset_on_close
from ..blocking.server import Connection, Server
from ..tls import HandshakeCompleted, ServerContext, TLSServer
from .answers import Answers, ByName, name_of, text_of
from .faults import ALERT, GARBAGE, HTTP, RECORD, HandshakeFault, QueryFault, parse
from .identity import Identity
from .loopback import loopback_address
from .mistakes import SettingError

WAIT_TIMEOUT: Final = 5.0
"Seconds that a test waits for a query, unless told otherwise."

MAX_CONNECTIONS: Final = 1000
"Connections at a time, all from this machine; more wait in the system's queue."

ANOTHER_NAME: Final = name_of("another.question.invalid")
"What a wrong question asks for; nobody has a name under ``invalid`` (RFC 6761, section 6.4)."


@dataclass(frozen=True, slots=True)
class ReceivedQuery:
    """What a client has asked."""

    name: str
    "In lower case, without the last dot; the root is ``.``, and so is a query without a question."
    rdtype: str
    "Such as ``AAAA``; without a question it is ``NONE``."
    message: bytes
    "The query as it came, without its length prefix."
    connection: int
    "On which connection, in the order of their being accepted, from 1."


class LoopbackServer(StaysInProcess):
    """A DNS over TLS server for tests, listening from the start; a context manager that closes it.

    Whatever is set counts for queries that come later (``handshake_fault``: for connections that come later), and
    may be set while the server runs.  ``host`` is an address of this machine; ``None`` is 127.0.0.1, or ::1 where there
    is IPv6 only.
    """

    # What is misspelt raises, or a test would pass without its fault.
    __slots__ = (
        "__weakref__",
        "_changed",
        "_close_after",
        "_configuration",
        "_context",
        "_delay",
        "_fault",
        "_handshake_fault",
        "_server",
        "answers",
        "ca_file",
        "connections",
        "delays",
        "faults",
        "handshakes",
        "name",
        "pin",
        "queries",
    )

    def __init__(
        self, identity: Identity, *, host: str | None = None, configuration: ServerConfiguration | None = None
    ) -> None:
        check_instance("identity", identity, Identity, "Authority(folder, owner).issue(name) makes one")
        if configuration is not None:
            check_instance("configuration", configuration, ServerConfiguration)
        self.name: Final = identity.name
        "The authentication domain name, which the certificate is for."
        self.ca_file: Final[Path] = identity.root_file
        "The certificate, in PEM, that the server's chain leads to."
        self.pin: Final[Pin] = identity.pin
        "The pin of the server's own key; ``str(pin)`` is its text in Base64."
        self.answers: Final = Answers()
        "What is answered, by name and type."
        self.queries: Final[list[ReceivedQuery]] = []
        "What was asked, in the order of its coming."
        self.connections: int = 0
        "TCP connections accepted so far."
        self.handshakes: int = 0
        "TLS handshakes that came through so far."
        self.faults: Final[ByName[QueryFault | None]] = ByName(lambda value: parse(QueryFault, value))
        "Faults by name, before :attr:`fault`; ``None`` exempts a name from that."
        self.delays: Final[ByName[float]] = ByName(_seconds)
        "Delays by name, in seconds, before :attr:`delay`."
        self._fault: QueryFault | None = None
        self._handshake_fault: HandshakeFault | None = None
        self._delay = 0.0
        self._close_after: int | None = None
        self._changed = threading.Condition()
        self._context = ServerContext(identity.chain_file)
        self._configuration = configuration
        table = ConnectionTable(ConnectionLimits(MAX_CONNECTIONS, MAX_CONNECTIONS), clock=monotonic)
        host = loopback_address() if host is None else check_host(host)
        with listening(host, 0, None, False) as listeners:
            self._server = Server(self._accept, listeners, table)

    @property
    def host(self) -> str:
        """The address that is listened on."""
        return self._server.host

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._server.port

    @property
    def address(self) -> tuple[str, int]:
        """Both, as sockets take them."""
        return self.host, self.port

    @property
    def policy(self) -> AuthenticationPolicy:
        """For clients of ours: this server's name, and its authority alone."""
        return AuthenticationPolicy.strict(self.name, trust_anchors=certificates_from(self.ca_file.read_bytes()))

    @property
    def fault(self) -> QueryFault | None:
        """What becomes of every query, but for those in :attr:`faults`; set as a :class:`QueryFault` or its text."""
        return self._fault

    @fault.setter
    def fault(self, value: str | None) -> None:
        self._fault = parse(QueryFault, value)

    @property
    def handshake_fault(self) -> HandshakeFault | None:
        """What becomes of every handshake; set as a :class:`HandshakeFault` or its text."""
        return self._handshake_fault

    @handshake_fault.setter
    def handshake_fault(self, value: str | None) -> None:
        self._handshake_fault = parse(HandshakeFault, value)

    @property
    def delay(self) -> float:
        """Seconds that every query waits for its answer or fault, but for those in :attr:`delays`.

        A client must take answers in any order (RFC 7766, section 7), and may only time out what is late.
        """
        return self._delay

    @delay.setter
    def delay(self, value: float) -> None:
        self._delay = _seconds(value)

    @property
    def close_after(self) -> int | None:
        """Answers on one connection until it is closed, with close_notify; ``None``: any number.

        Queries that were on their way are lost, and a client may ask them again on a new connection.
        """
        return self._close_after

    @close_after.setter
    def close_after(self, value: int | None) -> None:
        if value is not None and (type(value) is not int or value < 1):
            raise SettingError(
                f"close_after is {shown(value)}; it must be at least 1, or None (for no answer: the fault close)"
            )
        self._close_after = value

    def wait_for_queries(self, count: int, *, timeout: float = WAIT_TIMEOUT) -> list[ReceivedQuery]:
        """The first ``count`` queries, as soon as they have come; :class:`TimeoutError` after ``timeout`` seconds."""
        check_whole("count", count, "number of queries")
        timeout = min(check_seconds("timeout", timeout), LONGEST_WAIT)
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.queries) >= count, timeout):
                raise TimeoutError(f"{len(self.queries)} queries have come within {timeout} s, not {count}")
            return self.queries[:count]

    def close(self) -> None:
        """End every connection at once, in order but without the answers still owed, and accept no more."""
        self._server.close()

    def __enter__(self) -> LoopbackServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self, sock: socket.socket, record: ConnectionRecord) -> Connection:
        with self._changed:
            self.connections += 1
            number = self.connections
        session = _Session(self._context, self._configuration, now=monotonic(), handshake_timeout=math.inf)
        return _Connection(self, sock, record, session, number)

    def _note_handshake(self) -> None:
        """A handshake came through."""
        with self._changed:
            self.handshakes += 1

    def _note_query(self, query: ReceivedQuery) -> None:
        """A query came."""
        with self._changed:
            self.queries.append(query)
            self._changed.notify_all()


class _Session(TLSServer):
    """TLS that can be written to past the engine."""

    def write(self, octets: bytes) -> None:
        """These octets as one record of application data, whatever they are."""
        self._tls.write(octets)


class _Connection(Connection):
    """One client."""

    def __init__(
        self, owner: LoopbackServer, sock: socket.socket, record: ConnectionRecord, session: _Session, number: int
    ) -> None:
        super().__init__(sock, record, session)
        self._owner = owner
        self._socket = sock
        self._session = session
        self._number = number
        self._handshake_fault = owner.handshake_fault
        self._waiting: list[tuple[float, int, QueryReceived, dns.message.Message | None]] = []
        self._ids: set[bytes] = set()
        self._answered = 0
        self._is_ours = self._handshake_fault is not None  # the socket, which the driver then leaves alone
        self._last_words: bytes | None = None

    def run(self) -> None:
        if self._handshake_fault is not None:
            self._spoil_handshake(self._handshake_fault)
        while not (self.driver.is_finished or self._is_ours):
            # Where it is about to end, it is read from in any case: the client's end must be seen.
            self.driver.set_reading(self._engine.wants_data or self._engine.state is not State.OPEN)
            events = self._wait(self._waiting[0][0] if self._waiting else None)
            if any(isinstance(event, HandshakeCompleted) for event in events):
                self._owner._note_handshake()
            queries: deque[QueryReceived] = deque()
            self.record.take_in(events, queries)
            for query in queries:
                self._take(query)
            with self.driver.lock:
                while self._waiting and self._waiting[0][0] <= monotonic() and self._engine.state is not State.CLOSED:
                    _, _, query, parsed = heapq.heappop(self._waiting)
                    self._act(query, parsed)
            if self._engine.state is State.CLOSED:
                self._waiting.clear()
        if self._last_words is not None:
            self._end_tcp(self._last_words)

    def start_close(self, timeout: float) -> None:
        """Leave close_notify and end; nothing that is owed is waited for, since it may be owed for ever."""
        with self.driver.lock:
            if not self._is_ours:
                self._hang_up()
                self.driver.flush()
        self.driver.cut_off()
        self.driver.wake()

    def _take(self, query: QueryReceived) -> None:
        name, rdtype, parsed = ".", "NONE", None
        with suppress(dns.exception.DNSException):
            parsed = dns.message.from_wire(query.message, question_only=True)
            if parsed.question:
                name, rdtype = text_of(parsed.question[0].name), dns.rdatatype.to_text(parsed.question[0].rdtype)
        self._ids.add(query.message[:2])
        due = monotonic() + self._owner.delays.get(name, self._owner.delay)
        # The handle keeps those in order that are due at the same time.
        heapq.heappush(self._waiting, (due, query.query, query, parsed))
        self._owner._note_query(ReceivedQuery(name, rdtype, query.message, self._number))

    def _act(self, query: QueryReceived, parsed: dns.message.Message | None) -> None:
        if parsed is None:
            self._engine.send_error(query.query, now=monotonic(), rcode=dns.rcode.FORMERR)
            return
        name = text_of(parsed.question[0].name) if parsed.question else "."
        response = self._owner.answers.respond(parsed)
        fault = self._owner.faults.get(name, self._owner.fault)
        if fault is None:
            self._answer(query, response)
        elif fault is not QueryFault.SILENT:  # whose query stays outstanding, so that the connection is never idle
            self.driver.flush()  # what has been answered leaves before
            self._misbehave(fault, query, response)

    def _answer(self, query: QueryReceived, response: dns.message.Message) -> None:
        self._respond(query, response)
        self._answered += 1
        if self._answered == self._owner.close_after:
            self.driver.flush()  # the engine drops what is still to be sent when it fails
            self._hang_up()

    def _respond(self, query: QueryReceived, response: dns.message.Message) -> None:
        self._engine.send_response(query.query, response.to_wire(max_size=MAX_MESSAGE), now=monotonic())

    def _framed(self, query: QueryReceived, response: dns.message.Message) -> bytes:
        """The response as it would be sent, so that nothing is wrong with it but what the fault makes of it."""
        for earlier in self._engine.data_to_send():
            self._session.write(earlier)
        self._respond(query, response)
        (framed,) = self._engine.data_to_send()
        return framed

    def _misbehave(self, fault: QueryFault, query: QueryReceived, response: dns.message.Message) -> None:
        match fault:
            case QueryFault.WRONG_ID:
                wrong = next(number for number in range(65_536) if number.to_bytes(2) not in self._ids)
                framed = self._framed(query, response)
                self._session.write(framed[:2] + wrong.to_bytes(2) + framed[4:])
            case QueryFault.WRONG_QUESTION:
                for question in response.question:
                    question.name = ANOTHER_NAME
                self._session.write(self._framed(query, response))
            case QueryFault.GARBAGE:
                self._session.write(GARBAGE)
                self._engine.decline(query.query, now=monotonic())
            case QueryFault.TRUNCATED:
                self._session.write(self._framed(query, response)[:-1])
                self._hang_up()
            case QueryFault.CLOSE:
                self._hang_up()
            case QueryFault.CUT:
                self._take_over(b"")
            case QueryFault.BAD_RECORD:
                self._take_over(RECORD)
            case _:
                self._take_over(None)

    def _spoil_handshake(self, fault: HandshakeFault) -> None:
        self._socket.setblocking(True)
        with suppress(OSError):
            if not self._socket.recv(65_536):  # the ClientHello
                return
            match fault:
                case HandshakeFault.SILENT:
                    self._read_to_the_end()
                case HandshakeFault.REFUSE:
                    self._take_over(ALERT)
                case HandshakeFault.CLOSE:
                    self._take_over(b"")
                case HandshakeFault.NOT_TLS:
                    self._take_over(HTTP)
                case _:
                    self._take_over(None)

    def _hang_up(self) -> None:
        """End the connection with close_notify, whatever is still owed."""
        self._engine.fail(RemoteProtocolError("the test asked for it", Fault.RESET), now=monotonic())

    def _take_over(self, last_words: bytes | None) -> None:
        """End TCP instead of TLS: with these octets and FIN, or, with ``None``, by a reset."""
        self._is_ours = True
        self._last_words = last_words
        if last_words is None:
            reset_on_close(self._socket)

    def _end_tcp(self, last_words: bytes) -> None:
        self._socket.setblocking(True)
        with suppress(OSError):
            self._socket.sendall(last_words)
            self._socket.shutdown(socket.SHUT_WR)
            self._read_to_the_end()

    def _read_to_the_end(self) -> None:
        """Until the client ends, or the server is closed: to close with octets on their way would reset TCP."""
        while self._socket.recv(65_536):
            pass


def _seconds(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise SettingError(
            f"a delay of {shown(value)} seconds; it must be 0 or more, and a number (for ever: the fault silent)"
        )
    return value
