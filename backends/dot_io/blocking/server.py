"""The server: a thread for each connection, with a cap on their number.

Theory of operation.  One thread accepts; each connection's thread pumps octets and runs the handler for one
query after the other, or hands queries to a pool, so that a slow one does not hold up the next (RFC 7766,
section 6.2.1.1).  A client that asks more than is answered is not read from until it has been.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import Final

from dot_proto import Event, QueryReceived, ServerConfiguration, State

from .._address import PORT, check_port
from ..tls import ServerContext, TLSServer
from .pump import Pump

_log: Final = logging.getLogger("dot_io")

ACCEPT_PAUSE: Final = 0.1
"Seconds to wait after accept() has failed, for instance for want of file descriptors."

HANDSHAKE_TIMEOUT: Final = 5.0
"Seconds that a client may take to shake hands."


@dataclass(frozen=True, slots=True)
class Peer:
    """Who asks, as far as the transport knows."""

    host: str
    "The client's address."
    port: int
    "The client's port."


Handler = Callable[[bytes, Peer], bytes | None]
"From a query's octets to its response's; ``None`` leaves it unanswered.  Ids, padding and OPT are seen to."


def serve(
    handler: Handler,
    context: ServerContext,
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    configuration: ServerConfiguration | None = None,
    max_connections: int = 150,
    max_connections_per_host: int = 50,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
    workers: int = 0,
) -> Server:
    """Listen, and answer with ``handler``; returns at once, while a thread accepts.

    ``port`` 0 lets the system choose one: see :attr:`Server.port`.  ``workers`` is the number of threads that
    handlers run in, for all connections; 0 runs them one after the other in the connection's own thread.
    ``handshake_timeout`` is in seconds.  Raises :class:`OSError` if the address cannot be had.
    """
    if port != 0:
        check_port(port)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=128)
    return Server(
        handler,
        context,
        listener,
        configuration=configuration,
        max_connections=max_connections,
        max_connections_per_host=max_connections_per_host,
        handshake_timeout=handshake_timeout,
        workers=workers,
    )


class Server:
    """A listening server, made by :func:`serve`; a context manager that closes it."""

    def __init__(
        self,
        handler: Handler,
        context: ServerContext,
        listener: socket.socket,
        *,
        configuration: ServerConfiguration | None,
        max_connections: int,
        max_connections_per_host: int,
        handshake_timeout: float,
        workers: int,
    ) -> None:
        self._handler = handler
        self._context = context
        self._listener = listener
        self._configuration = configuration
        self._max_per_host = max_connections_per_host
        self._handshake_timeout = handshake_timeout
        self._places = threading.BoundedSemaphore(max_connections)
        self._lock = threading.Lock()
        self._connections: dict[_Connection, threading.Thread] = {}
        self._per_host: Counter[str] = Counter()
        self._is_closing = threading.Event()
        self._pool = ThreadPoolExecutor(workers, "dot-handler") if workers else None
        self.host: Final[str] = listener.getsockname()[0]
        "The address that is listened on."
        self.port: Final[int] = listener.getsockname()[1]
        "The port that is listened on."
        self._acceptor = threading.Thread(target=self._accept, name="dot-accept", daemon=True)
        self._acceptor.start()

    def serve_forever(self) -> None:
        """Wait until another thread closes the server, or until interrupted."""
        self._is_closing.wait()

    def close(self, *, timeout: float = 5.0) -> None:
        """Accept no more, let every connection answer what it was asked, and end within ``timeout`` seconds."""
        self._is_closing.set()
        # Closing a socket does not wake a thread inside accept(); shutting it down does.
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # not everywhere allowed on a listening socket: then a connection wakes it
        self._listener.close()
        self._acceptor.join(timeout)
        deadline = monotonic() + timeout
        with self._lock:
            connections = list(self._connections.items())
        for connection, _ in connections:
            connection.close(timeout)
        for _, thread in connections:
            thread.join(max(0.0, deadline - monotonic()) + 0.1)
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._is_closing.is_set():
            self._places.acquire()
            try:
                sock, address = self._listener.accept()
            except OSError as error:
                self._places.release()
                if not self._is_closing.is_set():
                    _log.warning("accept failed, trying again: %s", error)
                    self._is_closing.wait(ACCEPT_PAUSE)
                continue
            self._welcome(sock, Peer(address[0], address[1]))

    def _welcome(self, sock: socket.socket, peer: Peer) -> None:
        with self._lock:
            if self._per_host[peer.host] >= self._max_per_host:
                _log.info("%s has %d connections already: refused", peer.host, self._max_per_host)
                sock.close()
                self._places.release()
                return
            self._per_host[peer.host] += 1
            session = TLSServer(
                self._context, self._configuration, now=monotonic(), handshake_timeout=self._handshake_timeout
            )
            connection = _Connection(Pump(sock, session, is_wakeable=True), session, peer, self._handler, self._pool)
            thread = threading.Thread(target=self._run, args=(connection,), name=f"dot-{peer.port}", daemon=True)
            self._connections[connection] = thread
        thread.start()

    def _run(self, connection: _Connection) -> None:
        try:
            connection.run()
        except Exception:
            _log.exception("the connection of %s ended by a fault of ours", connection.peer.host)
        finally:
            connection.pump.close()
            with self._lock:
                del self._connections[connection]
                self._per_host[connection.peer.host] -= 1
                if not self._per_host[connection.peer.host]:
                    del self._per_host[connection.peer.host]
            self._places.release()


class _Connection:
    """One client."""

    def __init__(
        self, pump: Pump, session: TLSServer, peer: Peer, handler: Handler, pool: ThreadPoolExecutor | None
    ) -> None:
        self.pump = pump
        self.peer = peer
        self._engine = session.connection
        self._handler = handler
        self._pool = pool

    def run(self) -> None:
        """Until the connection has ended."""
        while not self.pump.is_finished:
            is_full = self._engine.state is State.OPEN and not self._engine.wants_data
            for event in self.pump.wait(None, reading=not is_full):
                self._act_on(event)

    def close(self, timeout: float) -> None:
        """Ask the connection to end in order; called by another thread."""
        with self.pump.lock:
            self._engine.close(now=monotonic(), timeout=timeout)
        self.pump.wake()

    def _act_on(self, event: Event) -> None:
        if not isinstance(event, QueryReceived):
            return
        if self._pool is None:
            self._answer(event, is_own_thread=True)
        else:
            self._pool.submit(self._answer, event, is_own_thread=False)

    def _answer(self, event: QueryReceived, *, is_own_thread: bool) -> None:
        try:
            response = self._handler(event.message, self.peer)
            with self.pump.lock:
                if response is None:
                    self._engine.decline(event.query, now=monotonic())
                else:
                    self._engine.send_response(event.query, response, now=monotonic())
        except Exception:
            _log.exception("the handler failed, or its response cannot be sent; answering SERVFAIL")
            with self.pump.lock:
                self._engine.send_error(event.query, now=monotonic())
        if not is_own_thread:
            self.pump.wake()
