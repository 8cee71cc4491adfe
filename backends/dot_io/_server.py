"""What the servers of all backends share."""

from __future__ import annotations

import contextlib
import inspect
import ipaddress
import logging
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, NoReturn, Protocol, TypeVar

from dot_proto import (
    CertificateError,
    CertificateFacts,
    ConnectionClosed,
    Event,
    LocalProtocolError,
    QueryReceived,
    ServerConfiguration,
    State,
)
from dot_proto.arguments import (
    check_flag,
    check_instance,
    check_seconds,
    check_text,
    check_whole,
    shown,
    wrong,
)
from dot_proto.query import not_octets

from ._transport import FLUSH_TIMEOUT
from .tls import ClientContext, HandshakeCompleted, ServerContext, TLSServer

log: Final = logging.getLogger("dot_io")

MAX_CONNECTIONS: Final = 1000
"Connections at a time, unless told otherwise (RFC 9210, section 4.2, gives no number but for large servers)."

MAX_CONNECTIONS_PER_HOST: Final = 50
"Connections from one address at a time, unless told otherwise; RFC 9210, section 4.2, starts from 25 or more."

ACCEPT_PAUSE: Final = 0.1
"Seconds to wait after accept() has failed, for instance for want of file descriptors."

BATCH: Final = 64
"Queries handled before what is ready is sent; so the answers to a client that does not read are bounded too."

CLOSE_TIMEOUT: Final = 5.0
"Seconds that closing a server waits for responses still owed, unless told otherwise."


@dataclass(frozen=True, slots=True)
class Peer:
    """Who asks, as far as the transport knows."""

    host: str
    "The client's address."
    port: int
    "The client's port."
    certificate: CertificateFacts | None = None
    "The client's certificate, which its chain vouches for; ``None`` where the context asks for none."

    def __post_init__(self) -> None:
        check_text("host", self.host, "an address as text")
        check_whole("port", self.port)
        if self.certificate is not None:
            check_instance("certificate", self.certificate, CertificateFacts)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A client between ``accept()`` and its TLS session: who it is, and what it has sent already.

    Everything that must be known before a session is made goes through here: limits count this peer, logs and
    handlers name it, and the session is given these octets before any other.  What stands before TLS on the wire,
    such as the PROXY protocol, changes the two and nothing else.
    """

    peer: Peer
    "The client, not what stands between it and us."
    first_octets: bytes = b""
    "Octets of TLS that were read together with what came before TLS."

    @classmethod
    def of(cls, address: tuple[Any, ...]) -> Arrival:
        """The client as the socket's address names it; one of IPv4 on a socket of both families is still of IPv4."""
        return cls(Peer(plain_address(address[0]), address[1]))


def plain_address(host: str) -> str:
    """An IPv4 address that was mapped into IPv6 (RFC 4291, section 2.5.5.2) as what it is; any other as it stands."""
    return host[7:] if host.startswith("::ffff:") and "." in host else host


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

    def __post_init__(self) -> None:
        _check_handler(self.handler)
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

    def new_session(self, arrival: Arrival, *, now: float) -> tuple[TLSServer, list[Event]]:
        """The session of a client that came at ``now``, and what its first octets led to."""
        session = TLSServer(
            self.context,
            self.configuration,
            now=now,
            handshake_timeout=self.handshake_timeout,
            share_records=self.share_records,
        )
        events = session.receive_data(arrival.first_octets, now=now) if arrival.first_octets else []
        return session, events


class _Driver(Protocol):
    """What a connection asks of its driver."""

    @property
    def is_write_paused(self) -> bool: ...
    def flush(self) -> None: ...
    def start_flush(self) -> None: ...
    def set_reading(self, wanted: bool, /) -> None: ...


DriverType = TypeVar("DriverType", bound=_Driver)


class AsyncConnection(ABC, Generic[DriverType]):
    """One client of an asynchronous server: its queries go to the handler, and the answers back."""

    driver: DriverType

    def __init__(self, service: Service, arrival: Arrival, *, now: float) -> None:
        self.peer = arrival.peer
        self._session, self._first_events = service.new_session(arrival, now=now)
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

    def start_close(self, timeout: float) -> None:
        """End in order: what was asked is answered within ``timeout`` seconds."""
        self._engine.close(now=self._now(), timeout=timeout)
        self.driver.start_flush()

    def _process_events(self, events: list[Event]) -> None:
        self.peer = take_in(events, self._queries, self.peer)
        self._handle_queries()

    def _handle_queries(self) -> None:
        """Give queries to the handler as long as their answers can leave; then read on, or let the client wait."""
        if self._is_handling:
            # An eager task (Python 3.12) is over before the call that started it returns, and flushing may call back
            # too.  The call that is under way goes on here.
            return
        queries = self._queries
        self._is_handling = True
        try:
            while queries and not self.driver.is_write_paused and self._engine.state is not State.CLOSED:
                now = self._now()
                for _ in range(min(BATCH, len(queries))):
                    self._ask_handler(queries.popleft(), now)
                if queries:
                    self.driver.flush()
        finally:
            self._is_handling = False
        if self._engine.state is State.CLOSED:
            queries.clear()
        is_full = bool(queries) or (self._engine.state is State.OPEN and not self._engine.wants_data)
        self.driver.set_reading(not (is_full or self.driver.is_write_paused))

    def _ask_handler(self, event: QueryReceived, now: float) -> None:
        try:
            response = self._handler(event.message, self.peer)
            if response is None or isinstance(response, bytes) or not hasattr(response, "__await__"):
                self._answer(event, response, now)
            else:
                self._start_handler(event, response)
        except Exception:
            self._fail(event)

    async def _await_handler(self, event: QueryReceived, response: Awaitable[bytes | None]) -> None:
        try:
            answer = await response
            self._answer(event, answer, self._now())
        except Exception:
            self._fail(event)
        self._handler_is_over()

    def _handler_is_over(self) -> None:
        self.driver.start_flush()
        self._handle_queries()

    def _answer(self, event: QueryReceived, response: bytes | None, now: float) -> None:
        if response is None:
            self._engine.decline(event.query, now=now)
        else:
            if not isinstance(response, bytes):
                refuse_response(response)
            self._engine.send_response(event.query, response, now=now)

    def _fail(self, event: QueryReceived) -> None:
        log.exception("the handler failed, or its response cannot be sent; answering SERVFAIL")
        with contextlib.suppress(Exception):
            self._engine.send_error(event.query, now=self._now())


def take_in(events: Iterable[Event], queries: deque[QueryReceived], peer: Peer) -> Peer:
    """Queue what is asked; returns the peer, with its certificate once the handshake has shown it."""
    for event in events:
        if isinstance(event, QueryReceived):
            queries.append(event)
        elif isinstance(event, HandshakeCompleted) and event.peer_certificate is not None:
            try:
                peer = replace(peer, certificate=CertificateFacts.of(event.peer_certificate))
            except CertificateError as error:
                log.warning("the certificate of %s is taken for none: %s", peer.host, error)
        elif isinstance(event, ConnectionClosed) and event.error is not None and event.error.__cause__ is not None:
            log.error("the connection of %s: %s", peer.host, event.error, exc_info=event.error.__cause__)
    return peer


def cannot_serve(peer: Peer, error: Exception) -> None:
    """Say that a client was turned away; whatever it is, the next one may have better luck."""
    log.warning("%s cannot be served: %s", peer.host, error, exc_info=error.__cause__)


def _check_handler(handler: object) -> None:
    """Refuse what could answer nobody, as each query would show, one after the other."""
    wanted = "a function of a query and its peer"
    if not callable(handler) or isinstance(handler, type):
        raise wrong("handler", wanted, handler)
    if is_any(handler, inspect.isgeneratorfunction, inspect.isasyncgenfunction):
        raise LocalProtocolError(f"handler must be {wanted} that returns octets, not one that yields")
    try:
        inspect.signature(handler).bind(b"", None)
    except ValueError:  # it does not say
        pass
    except TypeError as error:
        raise LocalProtocolError(f"handler must be {wanted}, and this one cannot be called so: {error}") from None


def refuse_response(response: object) -> NoReturn:
    """What a handler should not return; a compiled engine would say so in other words."""
    raise LocalProtocolError(not_octets(response, "a response"))


def is_any(function: object, *kinds: Callable[[object], bool]) -> bool:
    """Whether a function, or an object that is called as one, is of one of the kinds that ``inspect`` knows."""
    return any(is_kind(each) for is_kind in kinds for each in (function, getattr(function, "__call__", None)))  # noqa: B004


class ConnectionLimits:
    """How many connections there may be, in all and from one client (RFC 7766, section 6.2.2)."""

    def __init__(self, maximum: int, per_host: int) -> None:
        for name, value in (("max_connections", maximum), ("max_connections_per_host", per_host)):
            check_whole(name, value, "number of connections")
            if value < 1:
                raise LocalProtocolError(f"{name} is {shown(value)}; it must be at least 1")
        self._maximum = maximum
        self._per_host = per_host
        self._taken: Counter[str] = Counter()

    @property
    def are_reached(self) -> bool:
        """Whether nobody else is served: then the next client waits in the system's queue."""
        return self._taken.total() >= self._maximum

    def take(self, peer: Peer) -> bool:
        """Count one more connection, if this client may have one."""
        network = _network(peer.host)
        if self._taken[network] >= self._per_host:
            log.info("%s has %d connections already: refused", network, self._per_host)
            return False
        self._taken[network] += 1
        return True

    def give_back(self, peer: Peer) -> None:
        """A connection has ended."""
        network = _network(peer.host)
        self._taken[network] -= 1
        if not self._taken[network]:
            del self._taken[network]


def _network(host: str) -> str:
    """Who counts as one client: an IPv4 address, or an IPv6 /64, which is what one subscriber has (RFC 6177)."""
    if ":" not in host:
        return host
    return str(ipaddress.ip_network((host.partition("%")[0], 64), strict=False))
