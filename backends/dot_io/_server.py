"""What the servers of all backends share."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from dot_proto import (
    CertificateError,
    CertificateFacts,
    Event,
    LocalProtocolError,
    QueryReceived,
    ServerConfiguration,
)

from ._address import check_port
from ._transport import FLUSH_TIMEOUT
from .tls import HandshakeCompleted, ServerContext, TLSServer

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


AsyncHandler = Callable[[bytes, Peer], bytes | Awaitable[bytes | None] | None]
"From a query's octets to its response's, at once or awaited; ``None`` leaves it unanswered."


@dataclass(frozen=True, slots=True)
class AsyncOptions:
    """What every connection of one asynchronous server shares."""

    handler: AsyncHandler
    context: ServerContext
    configuration: ServerConfiguration | None
    handshake_timeout: float
    share_records: bool

    def new_session(self, now: float) -> TLSServer:
        """A session for a client that came at ``now``, in seconds on the loop's clock."""
        return TLSServer(
            self.context,
            self.configuration,
            now=now,
            handshake_timeout=self.handshake_timeout,
            share_records=self.share_records,
        )


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
    return peer


def check_service(handler: object, context: object) -> None:
    """Refuse what could serve nobody; raises :class:`~dot_proto.LocalProtocolError`."""
    if not callable(handler):
        raise LocalProtocolError(f"handler must be a function of a query and its peer, not {type(handler).__name__}")
    if not isinstance(context, ServerContext):
        raise LocalProtocolError(f"context must be a ServerContext, not {type(context).__name__}")


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 lets the system choose.  Raises :class:`OSError` if it cannot be had."""
    if port != 0:
        check_port(port)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=1024)


def send_timeout(configuration: ServerConfiguration) -> float:
    """Seconds after which a client that takes nothing of what it is sent is cut off.

    While queries wait to be handled no connection is idle; one that does not read is as good as that.
    """
    return max(configuration.idle_timeout + configuration.idle_grace, FLUSH_TIMEOUT)


class ConnectionLimits:
    """How many connections there may be, in all and from one client (RFC 7766, section 6.2.2)."""

    def __init__(self, maximum: int, per_host: int) -> None:
        self._maximum = maximum
        self._per_host = per_host
        self._taken: Counter[str] = Counter()

    @property
    def are_taken(self) -> bool:
        """Whether there is no place for anybody: then the next client waits in the system's queue."""
        return self._taken.total() >= self._maximum

    def take(self, peer: Peer) -> bool:
        """Take a place, if there is one for this client."""
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
