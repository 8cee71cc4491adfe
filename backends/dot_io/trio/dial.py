"""TCP to a host, by the first of its addresses that answers."""

from __future__ import annotations

import contextlib
import socket

import trio

from .._dial import FAILURES, Dialling
from .._lookup import Address, Lookup
from .._transport import close, failure_of_connecting, start_connecting
from .nursery import open_plain_nursery


async def dial(host: str, port: int, deadline: float) -> socket.socket:
    """A connected socket that does not block; ``deadline`` is on trio's clock, in seconds.

    Raises :class:`~dot_io.errors.ConnectError`.
    """
    dialling = Dialling(host, port, await look_up(host, port, deadline), deadline=deadline)
    attempts = _Attempts(dialling)
    try:
        async with open_plain_nursery() as nursery:
            await attempts.until_one_is_connected(nursery)
            nursery.cancel_scope.cancel()
        return attempts.connected.pop()
    finally:
        for sock in attempts.connected:
            sock.close()


async def look_up(host: str, port: int, deadline: float, kind: type[Lookup] = Lookup) -> list[tuple[int, Address]]:
    """The addresses of a host, each with its family; raises :class:`~dot_io.errors.ConnectError`."""
    token, found = trio.lowlevel.current_trio_token(), trio.Event()

    def tell() -> None:
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(found.set)

    with kind(host, port, tell) as lookup:
        if not lookup.is_done:
            with trio.move_on_at(deadline):
                await found.wait()
        return lookup.addresses()


class _Attempts:
    """Tasks that connect, one for each address."""

    def __init__(self, dialling: Dialling[Address]) -> None:
        self._dialling = dialling
        self._ended = trio.lowlevel.ParkingLot()
        self.connected: list[socket.socket] = []
        "More than one where two came up in the same turn."

    async def until_one_is_connected(self, nursery: trio.Nursery) -> None:
        while not self.connected:
            while (address := self._dialling.next_attempt(now=trio.current_time())) is not None:
                nursery.start_soon(self._connect, address)
            with trio.move_on_after(self._dialling.next_wait(now=trio.current_time())):
                await self._ended.park()

    @trio.lowlevel.enable_ki_protection  # Ctrl-C is the caller's: from here it would come out in an exception group
    async def _connect(self, address: Address) -> None:
        try:
            sock, is_connected = start_connecting(*address)
            if not is_connected:
                await self._until_connected(sock)
        except FAILURES as error:
            self._dialling.failed(address, error)
        else:
            self.connected.append(sock)
        self._ended.unpark_all()

    async def _until_connected(self, sock: socket.socket) -> None:
        try:
            await trio.lowlevel.wait_writable(sock)
        except BaseException:
            close(sock)
            raise
        failure = failure_of_connecting(sock)
        if failure is not None:
            raise failure


def plain_socket(sock: trio.socket.SocketType) -> socket.socket:
    """The socket without trio's wrapping, which is left without one."""
    plain = socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())
    plain.setblocking(False)
    return plain
