"""The proxy: listeners, which take what clients ask, and a forwarder, which has it answered."""

from __future__ import annotations

import asyncio
import errno
import importlib.metadata
import os
import socket
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, Self

from dot_proto import LocalProtocolError, Upstream
from dot_proto.arguments import check_instance, check_seconds, collected
from dot_proto.resolver.events import UpstreamStatistics

from .._listening import open_listener
from .._stays import StaysInProcess
from ._access import Access, faults
from ._cache import Cache
from ._counters import Counters
from ._forwarder import Answerer, Forwarder
from ._http import HTTPConnection
from ._metrics import CONTENT_TYPE, exposition
from ._tcp import TCPClients, TCPConnection
from ._udp import UDPListener, open_udp
from .configuration import ProxyConfiguration

CLOSE_TIMEOUT: Final = 5.0
"Seconds that closing waits for answers still owed, unless told otherwise."

PORT_TRIES: Final = 16
"Ports that are tried where the system chooses one for UDP, and TCP is to have the same."

Place = tuple[str, int]
"An address and a port."


class Proxy(StaysInProcess):
    """Answers DNS clients over UDP and TCP, and asks upstreams over TLS; an asynchronous context manager.

    >>> async with Proxy([Upstream.well_known("quad9")]) as proxy:
    ...     await proxy.serve_forever()

    It connects to an upstream when the first query comes, so that it may start before the network is there.

    ``sockets`` are bound already, and listening if they are TCP's, as systemd hands them over; they stand in the place
    of the configuration's ``listen``, whatever that says later, and are the proxy's to close.

    Raises :class:`~dot_proto.LocalProtocolError` for upstreams that cannot stand together, for one that is this proxy
    itself, and for a listening address that others reach, where no others are allowed; and, when it is entered,
    :class:`OSError` for an address that cannot be had.
    """

    def __init__(
        self,
        upstreams: Iterable[Upstream],
        configuration: ProxyConfiguration | None = None,
        *,
        sockets: Iterable[socket.socket] = (),
    ) -> None:
        self._given = _listeners_of(sockets)
        self._counters = Counters()
        self._forwarder, self._access = self._made(upstreams, configuration, None)
        self._listeners: dict[Place, _Listener] = {}
        self._clients = TCPClients(lambda: self._access, self._receive_tcp, self._counters)
        self._metrics: tuple[Place, asyncio.Server] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._closed = asyncio.Event()

    @property
    def configuration(self) -> ProxyConfiguration:
        """How it behaves."""
        return self._forwarder.configuration

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """Who is asked."""
        return self._forwarder.upstreams

    @property
    def addresses(self) -> tuple[Place, ...]:
        """Where it listens: each address with its port, in the order of the configuration."""
        return tuple(self._listeners[place].place for place in self.configuration.listen if place in self._listeners)

    @property
    def metrics_address(self) -> Place | None:
        """Where the counters are shown."""
        return self._metrics and self._metrics[1].sockets[0].getsockname()[:2]

    def metrics(self) -> str:
        """The counters, as Prometheus reads them."""
        return exposition(
            self._counters,
            self.statistics(),
            in_flight=self._forwarder.waiting,
            connections=len(self._clients),
            version=_version(),
        )

    def statistics(self) -> tuple[UpstreamStatistics, ...]:
        """The counters of each upstream, from when it was configured; they hold no name that was asked for."""
        return self._forwarder.statistics()

    async def reload(self, upstreams: Iterable[Upstream], configuration: ProxyConfiguration | None = None) -> None:
        """Go on with other upstreams and another configuration; no query is lost.

        Queries that wait are answered by the upstreams of before.  Raises what the class raises, and :class:`OSError`;
        then all is as before.
        """
        before = self._forwarder, self._access
        self._forwarder, self._access = self._made(upstreams, configuration, self._forwarder.cache)
        try:
            unlisted = await self._listen()
        except BaseException:
            self._forwarder, self._access = before
            raise
        task = asyncio.get_running_loop().create_task(_leave(before[0], unlisted))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def clear_cache(self) -> None:
        """Forget all answers that are kept."""
        if self._forwarder.cache is not None:
            self._forwarder.cache.clear()

    async def serve_forever(self) -> None:
        """Wait until another task closes the proxy, or until cancelled."""
        await self._closed.wait()

    async def close(self, *, timeout: float = CLOSE_TIMEOUT) -> None:
        """Listen no more, and end within ``timeout`` seconds; until then answers still owed are sent."""
        check_seconds("timeout", timeout)
        listeners = list(self._listeners.values())
        task = asyncio.get_running_loop().create_task(_leave(self._forwarder, listeners))
        self._leaving.add(task)
        try:
            for listener in listeners:
                listener.stop()
            await asyncio.wait(self._leaving, timeout=timeout)
        finally:
            for task in self._leaving:
                task.cancel()
            await asyncio.wait(self._leaving)
            self._clients.abort()
            if self._metrics is not None:
                self._metrics[1].close()
            self._closed.set()

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A block that is left by an exception waits for nothing that is still owed.
        await self.close(timeout=CLOSE_TIMEOUT if kind is None else 0.0)

    # Private methods.

    def _made(
        self, upstreams: Iterable[Upstream], configuration: ProxyConfiguration | None, cache: Cache | None
    ) -> tuple[Forwarder, Access]:
        """``cache`` is that of before, which is kept where its size stays."""
        if configuration is None:
            configuration = ProxyConfiguration()
        check_instance("configuration", configuration, ProxyConfiguration)
        if self._given:
            configuration = replace(configuration, listen=tuple(self._given))
        size = configuration.cache_size, configuration.cache_octets
        if cache is None or cache.size != size:
            cache = Cache(*size) if configuration.cache_size else None
        forwarder = Forwarder(upstreams, configuration, self._counters, cache)
        if found := faults(configuration, forwarder.upstreams):
            raise LocalProtocolError("; ".join(found))
        return forwarder, Access(configuration.allow)

    async def _listen(self) -> list[_Listener]:
        """Open what is listed and not open yet; returns those that are not listed any more, which are stopped."""
        loop = asyncio.get_running_loop()
        opened: dict[Place, _Listener] = {}
        page: socket.socket | None = None
        wanted, shown = self.configuration.metrics, self._metrics
        try:
            if wanted is not None and (shown is None or shown[0] != wanted):
                page = _open_page(*wanted)
            for place in self.configuration.listen:
                if place in self._listeners:
                    continue
                if place in self._given:
                    opened[place] = self._given[place]
                elif sockets := _open(*place, may_lack=len(self.configuration.listen) > 1):
                    opened[place] = _Listener(*sockets)
        except BaseException:
            for listener in opened.values():
                listener.close()
            if page is not None:
                page.close()
            raise
        for listener in opened.values():
            if listener.udp_socket is not None:
                listener.udp = UDPListener(
                    loop, listener.udp_socket, lambda: self._access, self._receive_udp, self._counters
                )
            if listener.tcp_socket is not None:
                listener.tcp = await loop.create_server(self._new_connection, sock=listener.tcp_socket)
        self._listeners |= opened
        if shown is not None and shown[0] != wanted:
            shown[1].close()
            self._metrics = None
        if wanted is not None and page is not None:
            self._metrics = wanted, await loop.create_server(self._new_reader, sock=page)
        unlisted = [self._listeners.pop(place) for place in self._listeners.keys() - set(self.configuration.listen)]
        for listener in unlisted:
            listener.stop()
        return unlisted

    def _new_connection(self) -> TCPConnection:
        return TCPConnection(asyncio.get_running_loop(), self._clients, self.configuration)

    def _new_reader(self) -> HTTPConnection:
        return HTTPConnection(
            {"/metrics": lambda: (CONTENT_TYPE, self.metrics())}, lambda host: self._access.allows(host)
        )

    def _receive_udp(self, message: bytes, answer: Answerer) -> None:
        self._forwarder.receive(message, answer, over_udp=True)

    def _receive_tcp(self, message: bytes, answer: Answerer) -> None:
        self._forwarder.receive(message, answer, over_udp=False)


class _Listener:
    """The sockets of one address and port, for UDP, for TCP, or for both."""

    def __init__(self, udp_socket: socket.socket | None, tcp_socket: socket.socket | None) -> None:
        self.udp_socket = udp_socket
        self.tcp_socket = tcp_socket
        self.udp: UDPListener | None = None
        "What reads the one."
        self.tcp: asyncio.Server | None = None
        "What accepts from the other."

    @property
    def place(self) -> Place:
        """Where it listens."""
        sock = self.udp_socket or self.tcp_socket
        assert sock is not None
        host, port = sock.getsockname()[:2]
        return host, port

    def stop(self) -> None:
        """Take no more queries and no more connections; what was asked is still answered."""
        if self.udp is not None:
            self.udp.stop()
        if self.tcp is not None:
            self.tcp.close()

    def close(self) -> None:
        """Close the sockets; connections of clients stay."""
        for sock in (self.udp_socket, self.tcp_socket):
            if sock is not None:
                sock.close()


def _listeners_of(sockets: Iterable[socket.socket]) -> dict[Place, _Listener]:
    """Sockets that are bound already, by where; raises :class:`~dot_proto.LocalProtocolError` for other ones."""
    found: dict[Place, _Listener] = {}
    for sock in collected("sockets", sockets, socket.socket, "a list of sockets that are bound"):
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            raise LocalProtocolError(f"sockets: one of the family {sock.family!r} carries no DNS")
        place: Place = sock.getsockname()[:2]
        listener = found.setdefault(place, _Listener(None, None))
        if sock.type == socket.SOCK_DGRAM:
            listener.udp_socket = sock
        else:
            listener.tcp_socket = sock
    return found


async def _leave(forwarder: Forwarder, listeners: list[_Listener]) -> None:
    """End what is used no more: not before all that was asked has its answer, unless cancelled."""
    try:
        await forwarder.close()
    finally:
        for listener in listeners:
            listener.close()
        await forwarder.abort()


def _open(host: str, port: int, *, may_lack: bool) -> tuple[socket.socket, socket.socket] | None:
    """Sockets for UDP and TCP with the same port, which the system chooses where it is 0.  Raises :class:`OSError`.

    ``may_lack``: ``None`` for ::1 on a machine without IPv6.
    """
    for attempt in range(PORT_TRIES):
        try:
            udp = open_udp(host, port)
            try:
                return udp, open_listener(host, udp.getsockname()[1])
            except BaseException:
                udp.close()
                raise
        except OSError as error:
            if may_lack and host == "::1" and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                return None
            if port or error.errno != errno.EADDRINUSE or attempt == PORT_TRIES - 1:
                raise _cannot_listen(host, port, error) from error
    raise AssertionError("the last attempt returns or raises")


def _open_page(host: str, port: int) -> socket.socket:
    """A socket for the counters.  Raises :class:`OSError`."""
    try:
        return open_listener(host, port)
    except OSError as error:
        raise _cannot_listen(host, port, error) from error


def _cannot_listen(host: str, port: int, error: OSError) -> OSError:
    why = os.strerror(error.errno) if error.errno else str(error)
    return OSError(error.errno, f"cannot listen on {host} port {port}: {why}")


def _version() -> str:
    try:
        return importlib.metadata.version("dot-proto")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
