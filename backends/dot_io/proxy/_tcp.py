"""TCP: clients that ask on a stream, several queries at a time, answered as the answers come (RFC 7766)."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, cast

from dot_proto import Deframer, frame

from ._access import Access
from ._counters import Counters
from ._policy import DropReason
from ._udp import Receiver
from .configuration import ProxyConfiguration

LOOKS: Final = 4
"How many times in the idle timeout it is looked at whether a slow client has read something."


class TCPClients:
    """The TCP connections of all listeners, which share their limits."""

    def __init__(self, access: Callable[[], Access], receive: Receiver, counters: Counters) -> None:
        self.access: Final = access
        "Who is answered now."
        self.receive: Final = receive
        self.counters: Final = counters
        self._connections: dict[TCPConnection, str] = {}
        self._by_host: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: TCPConnection, host: str, configuration: ProxyConfiguration) -> bool:
        """Count a new connection, if its client may have one; this machine's own are bounded together with all."""
        access = self.access()
        is_full = len(self._connections) >= configuration.max_connections
        has_enough = self._by_host[host] >= configuration.max_connections_per_host and not access.is_own(host)
        if is_full or has_enough or not access.allows(host):
            self.counters.dropped[DropReason.CONNECTION] += 1
            return False
        self._connections[connection] = host
        self._by_host[host] += 1
        return True

    def remove(self, connection: TCPConnection) -> None:
        """It has ended."""
        host = self._connections.pop(connection, None)
        if host is not None:
            self._by_host[host] -= 1
            if not self._by_host[host]:
                del self._by_host[host]

    def abort(self) -> None:
        """End all of them at once."""
        for connection in list(self._connections):
            connection.abort()


class TCPConnection(asyncio.Protocol):
    """One client."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clients: TCPClients, configuration: ProxyConfiguration) -> None:
        self._loop = loop
        self._clients = clients
        self._configuration = configuration
        self._deframer = Deframer()
        self._queries: deque[bytes] = deque()
        "What was read and is not being answered yet: no more than one read brings."
        self._outstanding = 0
        self._has_eof = False
        self._is_write_paused = False
        self._will_process = False
        self._written = self._taken = 0
        "Octets handed to the transport, and those of them that the client's system has taken."
        self._active_at = loop.time()
        "When the last query came, the last response was made, or the client took something of what it is sent."
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if not peer or not self._clients.add(self, peer[0], self._configuration):
            self._transport.abort()
            return
        self._timer = self._loop.call_later(self._configuration.tcp_idle_timeout, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._has_eof = True
        self._queries.clear()
        self._clients.remove(self)
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Octets of queries."""
        self._queries += self._deframer.feed(data)
        if self._deframer.failed:  # nothing behind it can be understood
            self._transport.abort()
            return
        self._process()

    def eof_received(self) -> bool:
        """The client asks no more, and may still read."""
        self._has_eof = True
        return bool(self._outstanding or self._queries)

    def pause_writing(self) -> None:
        """The client reads slowly: what it asks waits."""
        self._is_write_paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._is_write_paused = False
        self._process()

    # Ours.

    def abort(self) -> None:
        """End it at once."""
        self._transport.abort()

    def _process(self) -> None:
        """Have as many queries answered as may be, and read more if more may be."""
        self._will_process = False
        configuration = self._configuration
        while self._queries and self._outstanding < configuration.max_queries_per_connection:
            if self._is_write_paused or self._transport.is_closing():
                break
            self._outstanding += 1
            self._active_at = self._loop.time()
            self._clients.receive(self._queries.popleft(), self._answer)
        if self._transport.is_closing():
            return
        if self._queries or self._is_write_paused:
            self._transport.pause_reading()
        elif self._has_eof and not self._outstanding:
            self._transport.close()
        else:
            self._transport.resume_reading()

    def _answer(self, message: bytes | None) -> None:
        """A response, or ``None`` where there is none."""
        self._outstanding -= 1
        if self._transport.is_closing():
            return
        if message is not None:
            self._active_at = self._loop.time()
            self._written += 2 + len(message)
            self._transport.write(frame(message))
        if not self._will_process and (self._queries or self._has_eof):
            self._will_process = True
            self._loop.call_soon(self._process)

    def _look(self) -> None:
        """Whether the client has been idle for too long, or has not read."""
        now, timeout = self._loop.time(), self._configuration.tcp_idle_timeout
        unsent = self._transport.get_write_buffer_size()
        taken = self._written - unsent
        if taken > self._taken:
            self._taken, self._active_at = taken, now
        wait = self._active_at + timeout - now
        if unsent:
            if wait <= 0:
                self._transport.abort()
                return
            wait = min(wait, timeout / LOOKS)
        elif self._outstanding:
            wait = timeout
        elif wait <= 0:
            self._transport.close()
            return
        self._timer = self._loop.call_later(wait, self._look)
