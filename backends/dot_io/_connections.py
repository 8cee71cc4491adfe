"""The connections of one server: who may come, how far each has come, and what is said of its end.

The number of connections is limited, in all and for one client.  Where all places are taken, the oldest connection
whose handshake is not complete makes room for a newcomer: otherwise clients that connect and say nothing would keep
all others out.  It is the oldest of the newcomer's own address, if there is one: otherwise a client that connects again
and again would crowd out all others before they are through.  Where every handshake is complete, the newcomer waits in
the system's queue.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from dot_proto import (
    Cause,
    CertificateError,
    CertificateFacts,
    ConnectionClosed,
    Event,
    Fault,
    QueryReceived,
    QueryRejected,
)

from ._functions import check_on_end
from ._limits import ConnectionLimits, client_of
from ._peer import Peer
from ._reports import ConnectionEnd, ConnectionPhase, LineLimit, ServerStatistics
from .errors import Failure, HandshakeError
from .tls import HandshakeCompleted

log: Final = logging.getLogger("dot_io")

OnEnd = Callable[[ConnectionEnd], object]
"Called once for each connection that has ended."

NO_ADDRESS: Final = "no-address"
PER_HOST: Final = "max-connections-per-host"
TOTAL: Final = "max-connections"
CLOSING: Final = "closing"
CROWDED_OUT: Final = "crowded-out"
LOCAL: Final = Failure.LOCAL.value
INTERNAL: Final = "internal"

_WORDS: Final = {
    PER_HOST: "this client has as many connections as one may have",
    TOTAL: "there are as many connections as there may be",
    CLOSING: "the server is closing",
    CROWDED_OUT: "all places, or descriptors, are taken, and this handshake was the oldest that is not complete",
    Cause.LOCAL_CLOSE.value: "the server is closing",
    Cause.CLOSE_TIMEOUT.value: "what was owed was not ready in time",
}


class ConnectionRecord:
    """What is known of one connection while it lasts."""

    __slots__ = (
        "_table",
        "began",
        "client",
        "error",
        "give_way",
        "has_place",
        "peer",
        "phase",
        "queries",
        "reason",
        "rejected",
        "responses",
        "servfails",
    )

    def __init__(self, table: ConnectionTable, peer: Peer, began: float) -> None:
        self._table = table
        self.peer: Peer = peer
        self.client: str = client_of(peer.host)
        self.began: float = began
        self.phase: ConnectionPhase = ConnectionPhase.ACCEPT
        self.has_place: bool = True
        self.give_way: Callable[[], object] | None = None  # until the connection is there, to be cut off
        self.reason: str | None = None
        self.error: Exception | None = None
        self.queries: int = 0
        self.responses: int = 0  # the handler's; counted once a batch
        self.servfails: int = 0
        self.rejected: int = 0

    def begin(self, give_way: Callable[[], object]) -> None:
        """The handshake begins; ``give_way`` ends the connection at once."""
        self.phase = ConnectionPhase.HANDSHAKE
        self.give_way = give_way

    def admit(self, host: str, port: int) -> bool:
        """A load balancer has named its client; whether there is a place for it."""
        return self._table.admit(self, replace(self.peer, host=host, port=port))

    def take_in(self, events: Iterable[Event], queries: deque[QueryReceived]) -> None:
        """Queue what is asked, and note the rest."""
        before = len(queries)
        for event in events:
            if isinstance(event, QueryReceived):
                queries.append(event)
            elif isinstance(event, QueryRejected):
                self.rejected += 1
            elif isinstance(event, HandshakeCompleted):
                self._table.handshake_completed(self, is_resumed=event.is_resumed)
                if event.peer_certificate is not None:
                    self._show(event.peer_certificate)
            elif isinstance(event, ConnectionClosed):
                self._close(event)
        self.queries += len(queries) - before

    def fail(self, reason: str, error: Exception | None = None) -> None:
        """Why the connection fails; what is known first counts."""
        if self.reason is None:
            self.reason, self.error = reason, error

    def handler_failed(self, error: BaseException) -> None:
        """A query is answered with SERVFAIL."""
        self.servfails += 1
        text = "the handler failed, or its response cannot be sent; answering SERVFAIL"
        self._table.write(logging.ERROR, "handler", text, error)

    def _show(self, certificate: bytes) -> None:
        try:
            self.peer = replace(self.peer, certificate=CertificateFacts.of(certificate))
        except CertificateError as error:
            text = f"the certificate of {described(self.peer)} is taken for none: {error}"
            self._table.write(logging.WARNING, "certificate", text)

    def _close(self, event: ConnectionClosed) -> None:
        error = event.error
        if isinstance(error, HandshakeError):
            self.fail(error.failure.value, error)
        elif error is not None:
            self.fail(error.fault.value, error)
        elif self.phase is not ConnectionPhase.OPEN or event.cause is Cause.CLOSE_TIMEOUT:
            self.fail(event.cause.value)


class ConnectionTable:
    """All connections of one server.  ``clock`` gives seconds; ``proxies`` are load balancers, who are no clients."""

    def __init__(
        self,
        limits: ConnectionLimits,
        on_end: OnEnd | None = None,
        *,
        clock: Callable[[], float],
        proxies: Container[str] = (),
    ) -> None:
        if on_end is not None:
            check_on_end(on_end)
        self._limits = limits
        self._proxies = proxies
        self._on_end = on_end
        self._clock = clock
        self._lock = threading.RLock()  # a signal's handler may close, or count, while its thread does so
        self._records: set[ConnectionRecord] = set()
        self._unfinished: dict[ConnectionRecord, None] = {}  # handshakes, the oldest first
        self._lines = LineLimit()
        self._accepted = 0
        self._completed = 0
        self._resumed = 0
        self._queries = 0
        self._responses = 0
        self._servfails = 0
        self._rejected = 0
        self._failures: dict[ConnectionPhase, Counter[str]] = {phase: Counter() for phase in ConnectionPhase}

    @property
    def is_full(self) -> bool:
        """Whether the next client has to wait: no place is free, and no connection can give way."""
        return self._limits.are_reached and not self._unfinished

    def enter(self, peer: Peer) -> ConnectionRecord | None:
        """A client has come; ``None``: it is to be turned away, and that is told already."""
        record = giving_way = None
        refusal = ""
        with self._lock:
            is_full = self._limits.are_reached
            if is_full and not self._unfinished:
                refusal = TOTAL
            elif not self._limits.take(peer, is_proxy=peer.host in self._proxies):
                refusal = PER_HOST
            else:
                self._accepted += 1
                giving_way = self._one_leaves(peer) if is_full else None
                record = ConnectionRecord(self, peer, self._clock())
                self._records.add(record)
                self._unfinished[record] = None
        if record is None:
            self.refuse(peer, refusal)
        _cut_off(giving_way)
        return record

    def make_room(self, newcomer: Peer | None = None) -> bool:
        """The oldest unfinished handshake goes, of the newcomer's own if it is known; whether there was one."""
        with self._lock:
            giving_way = self._one_leaves(newcomer)
        _cut_off(giving_way)
        return giving_way is not None

    def admit(self, record: ConnectionRecord, client: Peer) -> bool:
        """The place of a load balancer becomes that of its client, if this one may have it."""
        with self._lock:
            if record.has_place:
                self._limits.give_back(record.peer)
                record.has_place = self._limits.take(client)
            record.peer, record.client = client, client_of(client.host)
        if not record.has_place:
            record.fail(PER_HOST)
        return record.has_place

    def refuse(self, peer: Peer | None, reason: str, error: Exception | None = None) -> None:
        """A client is turned away before there was a connection."""
        with self._lock:
            self._accepted += 1
        self._tell(ConnectionEnd(peer, ConnectionPhase.ACCEPT, reason, error, 0, 0.0))

    def handshake_completed(self, record: ConnectionRecord, *, is_resumed: bool) -> None:
        """It does not give way to others any more."""
        record.phase = ConnectionPhase.OPEN
        with self._lock:
            self._unfinished.pop(record, None)
            self._completed += 1
            self._resumed += is_resumed

    def end(self, record: ConnectionRecord) -> None:
        """A connection has ended; its place is free."""
        with self._lock:
            self._records.discard(record)
            self._leave_place(record)
            self._queries += record.queries
            self._responses += record.responses
            self._servfails += record.servfails
            self._rejected += record.rejected
            seconds = self._clock() - record.began
        self._tell(ConnectionEnd(record.peer, record.phase, record.reason, record.error, record.queries, seconds))

    def statistics(self) -> ServerStatistics:
        """What was counted so far."""
        with self._lock:
            now = self._records
            return ServerStatistics(
                accepted=self._accepted,
                refused=dict(self._failures[ConnectionPhase.ACCEPT]),
                handshakes=self._completed,
                resumed=self._resumed,
                failed_handshakes=dict(self._failures[ConnectionPhase.HANDSHAKE]),
                failed_connections=dict(self._failures[ConnectionPhase.OPEN]),
                queries=self._queries + sum(record.queries for record in now),
                responses=self._responses + sum(record.responses for record in now),
                servfails=self._servfails + sum(record.servfails for record in now),
                rejected=self._rejected + sum(record.rejected for record in now),
                handshaking=sum(record.phase is not ConnectionPhase.OPEN for record in now),
                open=sum(record.phase is ConnectionPhase.OPEN for record in now),
            )

    def write(self, level: int, kind: str, text: str, error: BaseException | None = None) -> None:
        """One line for the log, unless too many of its kind came of late; with the traceback of ``error``."""
        with self._lock:
            left_out = self._lines.allows(kind, now=self._clock())
        if left_out is not None:
            more = f" (and {left_out} more like this since the last line)" if left_out else ""
            with suppress(Exception):  # of a filter, or of a handler of the log, which are the program's own
                log.log(level, "%s%s", text, more, exc_info=error)

    def write_what_was_left_out(self) -> None:
        """No more lines will come."""
        with self._lock:
            left_out = self._lines.left_out()
            self._lines = LineLimit()
        for kind, count in left_out.items():
            with suppress(Exception):
                log.info("%s: %d more since the last line", kind, count)

    def forget_parents(self) -> None:
        """In a forked child: nothing ends here, and another thread may have had the lock."""
        self._lock = threading.RLock()
        self._records.clear()
        self._unfinished.clear()

    # Private methods.

    def _one_leaves(self, newcomer: Peer | None = None) -> ConnectionRecord | None:
        """The oldest unfinished handshake of the newcomer's own, or else of all, leaves its place."""
        client = None if newcomer is None else client_of(newcomer.host)
        its_own = (record for record in self._unfinished if record.client == client)
        leaving = next(its_own, None) or next(iter(self._unfinished), None)
        if leaving is not None:
            self._leave_place(leaving)
        return leaving

    def _leave_place(self, record: ConnectionRecord) -> None:
        self._unfinished.pop(record, None)
        if record.has_place:
            record.has_place = False
            self._limits.give_back(record.peer)

    def _tell(self, end: ConnectionEnd) -> None:
        """Count, log, and call the hook; whatever that raises harms nobody."""
        if end.reason is not None:
            with self._lock:
                self._failures[end.phase][end.reason] += 1
            kind = f"{end.phase.value}: {end.reason}"
            # Words may hold what the client has sent, as the names of its protocols, and must stay on one line.
            words = _WORDS.get(end.reason, "") if end.error is None else str(end.error) or type(end.error).__name__
            cause = end.error if end.error is None or end.reason == INTERNAL else end.error.__cause__
            self.write(_level(end, cause), kind, f"{described(end.peer)}: {kind}: {_printable(words)}", cause)
        if self._on_end is not None:
            try:
                self._on_end(end)
            except BaseException as error:
                raise_if_ctrl_c(error)
                self.write(logging.ERROR, "on_end", "on_end failed", error)


def raise_if_ctrl_c(error: BaseException) -> None:
    """Ctrl-C comes in the main thread, in whatever runs there, and is to end the program."""
    if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        raise error


def described(peer: Peer | None) -> str:
    """A client, as logs name it."""
    return "a client without an address" if peer is None else f"{peer.host} port {peer.port}"


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]


def _cut_off(record: ConnectionRecord | None) -> None:
    if record is not None:
        record.fail(CROWDED_OUT)
        if record.give_way is not None:
            record.give_way()


def _level(end: ConnectionEnd, cause: BaseException | None) -> int:
    if cause is not None:
        return logging.ERROR
    if end.reason == LOCAL:
        return logging.WARNING
    return logging.DEBUG if end.reason == Fault.NO_CLOSE_NOTIFY.value else logging.INFO
