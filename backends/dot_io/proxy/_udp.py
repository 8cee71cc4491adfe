"""UDP: datagrams in and out of one socket.

asyncio's own datagram protocol reads one datagram in each turn of the loop, which costs almost five times as much
as to read until there are no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ._access import Access, is_wildcard
from ._counters import Counters
from ._policy import DropReason

Address = tuple[Any, ...]

MAX_DATAGRAM: Final = 65_535
"Octets."

BATCH: Final = 256
"Datagrams that are read before all else that waits has its turn."

RECEIVE_BUFFER: Final = 1 << 20
"Octets that the system is asked to hold for us: what comes while 50 ms are spent elsewhere, at 40,000 queries/s."

_LINUX: Final = sys.platform == "linux"

_MTU_DISCOVER: Final = {socket.AF_INET: (socket.IPPROTO_IP, 10), socket.AF_INET6: (socket.IPPROTO_IPV6, 23)}
"IP_MTU_DISCOVER and IPV6_MTU_DISCOVER of Linux (ip(7)), which the module socket does not name."

_PROBE: Final = 3
"IP_PMTUDISC_PROBE: fragments are forbidden, and what routers say of the path is not believed (ip(7))."

_IP_PKTINFO: Final = getattr(socket, "IP_PKTINFO", 8 if _LINUX else None)
"By which the system tells, and is told, the address of ours that a datagram came to (ip(7))."

_PKTINFO: Final = struct.Struct("I4s4s")
"struct in_pktinfo: interface, address of ours, address in the datagram."

_PKTINFO_SPACE: Final = 64
"Octets for one such message, IPv4 or IPv6, with its header."

Receiver = Callable[[bytes, Callable[[bytes | None], None]], None]
"Takes a message, and what sends the response."


def open_udp(host: str, port: int) -> socket.socket:
    """A socket for datagrams at this address; raises :class:`OSError` if it cannot be had."""
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    )[0]
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _prepare(sock: socket.socket, *, has_many_addresses: bool) -> None:
    """Make ready a socket that is bound, by whomever."""
    sock.setblocking(False)
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    if _LINUX:
        with contextlib.suppress(OSError):
            sock.setsockopt(*_MTU_DISCOVER[socket.AddressFamily(sock.family)], _PROBE)
    if has_many_addresses:
        _ask_for_addresses(sock)


def _ask_for_addresses(sock: socket.socket) -> None:
    """Have the system tell to which address each datagram came, so that the answer comes from there."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    elif _IP_PKTINFO is not None:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


class UDPListener:
    """Reads a socket for as long as it is open, and answers."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        access: Callable[[], Access],
        receive: Receiver,
        counters: Counters,
    ) -> None:
        """``access`` returns who is answered now: the configuration may change."""
        self._loop = loop
        self._socket = sock
        self._access = access
        self._receive = receive
        self._counters = counters
        host, self._port = sock.getsockname()[:2]
        self._has_many_addresses = is_wildcard(host)
        _prepare(sock, has_many_addresses=self._has_many_addresses)
        self._has_stopped = False
        loop.add_reader(sock, self._read)

    def stop(self) -> None:
        """Read no more; answers that are still owed are sent."""
        if not self._has_stopped:
            self._has_stopped = True
            self._loop.remove_reader(self._socket)

    def _read(self) -> None:
        """Read until there is no more, or enough for one turn of the loop."""
        access, receive = self._access(), self._receive
        read = self._read_with_address if self._has_many_addresses else self._read_one
        for _ in range(BATCH):
            try:
                message, address, answer = read()
            except BlockingIOError:
                return
            except OSError:  # what became of an answer: no concern of ours
                continue
            fault = access.fault(address[0], address[1], self._port)
            if fault is not None:
                self._counters.dropped[fault] += 1
                continue
            receive(message, answer)

    def _read_one(self) -> tuple[bytes, Address, Callable[[bytes | None], None]]:
        message, address = self._socket.recvfrom(MAX_DATAGRAM)
        return message, address, partial(self._send, address)

    def _read_with_address(self) -> tuple[bytes, Address, Callable[[bytes | None], None]]:
        message, told, _, address = self._socket.recvmsg(MAX_DATAGRAM, _PKTINFO_SPACE)
        return message, address, partial(self._send_from, [_own_address(*each) for each in told], address)

    def _send(self, address: Address, message: bytes | None) -> None:
        if message is not None:
            try:
                self._socket.sendto(message, address)
            except OSError:
                self._counters.dropped[DropReason.NOT_SENT] += 1

    def _send_from(self, told: list[tuple[int, int, bytes]], address: Address, message: bytes | None) -> None:
        if message is not None:
            try:
                self._socket.sendmsg([message], told, 0, address)
            except OSError:
                self._counters.dropped[DropReason.NOT_SENT] += 1


def _own_address(level: int, kind: int, data: bytes) -> tuple[int, int, bytes]:
    """What the system told of a datagram, as it is to be told of the answer: the same address of ours."""
    if level == socket.IPPROTO_IP and len(data) == _PKTINFO.size:
        _, own, _ = _PKTINFO.unpack(data)
        data = _PKTINFO.pack(0, own, bytes(4))  # by whatever interface leads there
    return level, kind, data
