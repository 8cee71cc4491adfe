"""What the servers of all backends share."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar

from dot_proto import Event, QueryReceived, ServerConfiguration, State
from dot_proto.arguments import check_flag, check_instance, check_seconds

from ._connections import ConnectionRecord, raise_if_ctrl_c
from ._functions import check_handler, refuse_response
from ._peer import Peer
from ._proxied import ProxiedTLSServer
from ._proxy_protocol import Networks
from ._transport import FLUSH_TIMEOUT
from .tls import ClientContext, ServerContext, TLSServer

BATCH: Final = 64
"Queries handled before what is ready is sent."

BATCH_SIZE: Final = 65_536
"Octets of responses after which what is ready is sent: four TLS records, or one response of the greatest length."

MAX_UNSENT: Final = 1 << 22
"""Octets of responses that may wait for a client which does not read; more end its connection.

64 responses of the greatest length, or 4096 octets for each query that may be outstanding.  Handlers that are not
awaited never get there, since none is called while the client does not read.
"""

TOO_MUCH_UNSENT: Final = f"more than {MAX_UNSENT} octets of responses wait for the peer to read"

CLOSE_TIMEOUT: Final = 5.0
"Seconds that closing a server waits for responses still owed, unless told otherwise."


AsyncHandler = Callable[[bytes, Peer], bytes | Awaitable[bytes | None] | None]
"""From a query's octets to its response's, at once or awaited; ``None`` leaves it unanswered.  See
``ServerConnection.send_response``."""


class _HandlerOf(Protocol):
    def __call__(self, query: bytes, peer: Peer, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Service:
    """What every connection of one server shares."""

    handler: _HandlerOf
    context: ServerContext
    configuration: ServerConfiguration | None
    handshake_timeout: float
    share_records: bool
    proxies: Networks

    def __post_init__(self) -> None:
        check_handler(self.handler)
        hint = "" if isinstance(self.context, ClientContext) else "ServerContext(certificate_file) is one"
        check_instance("context", self.context, ServerContext, hint)
        if self.configuration is not None:
            check_instance("configuration", self.configuration, ServerConfiguration)
        check_seconds("handshake_timeout", self.handshake_timeout)
        check_flag("share_records", self.share_records)

    @property
    def send_timeout(self) -> float:
        """Seconds after which a client that takes nothing of what it is sent is given up: as for an idle one.

        While queries wait to be handled no connection is idle, so a client that does not read would never be.
        """
        configuration = self.configuration or ServerConfiguration()
        return max(configuration.idle_timeout + configuration.idle_grace, FLUSH_TIMEOUT)

    def new_session(self, record: ConnectionRecord, *, now: float) -> TLSServer:
        """The session of a client that has come at ``now``, or of a load balancer that is to name one."""
        is_proxied = record.peer.host in self.proxies
        return (partial(ProxiedTLSServer, admit=record.admit) if is_proxied else TLSServer)(
            self.context,
            self.configuration,
            now=now,
            handshake_timeout=self.handshake_timeout,
            share_records=self.share_records,
        )


class _Driver(Protocol):
    """What a connection asks of its driver."""

    @property
    def is_write_paused(self) -> bool: ...
    @property
    def unsent(self) -> int: ...
    def flush(self) -> None: ...
    def start_flush(self) -> None: ...
    def set_reading(self, wanted: bool, /) -> None: ...
    def give_up(self, explanation: str, /) -> None: ...


DriverType = TypeVar("DriverType", bound=_Driver)


class AsyncConnection(ABC, Generic[DriverType]):
    """One client of an asynchronous server: its queries go to the handler, and the answers back."""

    driver: DriverType

    def __init__(self, service: Service, record: ConnectionRecord, *, now: float) -> None:
        self.record: Final = record
        self._session = service.new_session(record, now=now)
        self._engine = self._session.connection
        self._handler = service.handler
        self._queries: deque[QueryReceived] = deque()
        self._is_handling = False

    @abstractmethod
    def _now(self) -> float:
        """The time on the loop's clock, in seconds."""

    @abstractmethod
    def _start_handler(self, event: QueryReceived, response: Awaitable[bytes | None]) -> None:
        """Have a task call :meth:`_await_handler`."""

    @abstractmethod
    def _is_cancelled(self, error: BaseException) -> bool:
        """Whether this is how the loop ends a handler, since its connection has ended."""

    def start_close(self, timeout: float) -> None:
        """End in order: what was asked is answered within ``timeout`` seconds."""
        self._engine.close(now=self._now(), timeout=timeout)
        self.driver.start_flush()

    def _process_events(self, events: list[Event]) -> None:
        self.record.take_in(events, self._queries)
        self._handle_queries()

    def _handle_queries(self) -> None:
        """Give queries to the handler as long as their answers can leave; then read on, or let the client wait."""
        if self._is_handling:
            # An eager task (Python 3.12) is over before the call that started it returns, and flushing may call back
            # too.  The call that is under way goes on here.
            return
        queries, engine = self._queries, self._engine
        self._is_handling = True
        try:
            while queries and not self.driver.is_write_paused and engine.state is not State.CLOSED:
                now, peer, responses = self._now(), self.record.peer, 0
                for _ in range(min(BATCH, len(queries))):
                    responses += self._ask_handler(queries.popleft(), peer, now)
                    if engine.octets_to_send > BATCH_SIZE:
                        break
                self.record.responses += responses
                if queries:
                    self.driver.flush()
        finally:
            self._is_handling = False
        if engine.state is State.CLOSED:
            queries.clear()
        is_full = bool(queries) or (engine.state is State.OPEN and not engine.wants_data)
        self.driver.set_reading(not (is_full or self.driver.is_write_paused))

    def _ask_handler(self, event: QueryReceived, peer: Peer, now: float) -> bool:
        """Whether there is a response by now."""
        try:
            response = self._handler(event.message, peer)
            if isinstance(response, bytes):  # not by _answer(): one call less is 2 % of a query
                self._engine.send_response(event.query, response, now=now)
                return True
            if not hasattr(response, "__await__"):
                return self._answer(event, response, now)
            self._start_handler(event, response)
        except BaseException as error:  # whatever it is, it is this query's alone
            self._fail(event, error)
        return False

    async def _await_handler(self, event: QueryReceived, response: Awaitable[bytes | None]) -> None:
        answering.set(self)
        try:
            answer = await response
            self.record.responses += self._answer(event, answer, self._now())
        except BaseException as error:
            if self._is_cancelled(error):
                raise
            self._fail(event, error)
        if self._engine.octets_to_send > BATCH_SIZE:
            self._limit_unsent()
        self.driver.start_flush()
        self._handle_queries()

    def _answer(self, event: QueryReceived, response: bytes | None, now: float) -> bool:
        if response is None:
            self._engine.decline(event.query, now=now)
            return False
        if not isinstance(response, bytes):
            refuse_response(response)
        self._engine.send_response(event.query, response, now=now)
        return True

    def _fail(self, event: QueryReceived, error: BaseException) -> None:
        self.record.handler_failed(error)
        with contextlib.suppress(Exception):
            self._engine.send_error(event.query, now=self._now())
        raise_if_ctrl_c(error)

    def _limit_unsent(self) -> None:
        """Answers that were awaited come also while the client does not read."""
        if not self.driver.is_write_paused:
            self.driver.flush()
        elif self._engine.octets_to_send + self.driver.unsent > MAX_UNSENT:
            self.driver.give_up(TOO_MUCH_UNSENT)


answering: Final[ContextVar[AsyncConnection[Any] | None]] = ContextVar("answering", default=None)
"Whose query the running task answers: a handler that closes its server cannot wait for its own connection to end."
