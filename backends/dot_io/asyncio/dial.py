"""TCP to a host, by the first of its addresses that answers."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from .._dial import FAILURES, Dialling, remaining
from .._lookup import Address, Lookup
from .._transport import close


async def dial(host: str, port: int, deadline: float) -> socket.socket:
    """A connected socket that does not block; ``deadline`` is on the loop's clock, in seconds.

    Raises :class:`~dot_io.errors.ConnectError`.
    """
    dialling = Dialling(host, port, await look_up(host, port, deadline), deadline=deadline)
    attempts: dict[asyncio.Task[socket.socket], Address] = {}
    try:
        sock = await _first_connected(dialling, attempts)
    except BaseException:
        await _abandon(attempts)
        raise
    try:
        await _abandon(attempts)
    except BaseException:
        sock.close()
        raise
    return sock


# Neither of the two below uses asyncio.timeout(): where that rings in the very turn in which its block ends in order,
# its cancellation comes out of whatever the task awaits next (Python 3.11).


async def look_up(host: str, port: int, deadline: float, kind: type[Lookup] = Lookup) -> list[tuple[int, Address]]:
    """The addresses of a host, each with its family; raises :class:`~dot_io.errors.ConnectError`."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[None] = loop.create_future()

    def resolve() -> None:
        if not found.done():  # cancelled
            found.set_result(None)

    def tell() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(resolve)

    with kind(host, port, tell) as lookup:
        if not lookup.is_done:
            await asyncio.wait([found], timeout=remaining(deadline, now=loop.time()))
        return lookup.addresses()


async def _first_connected(
    dialling: Dialling[Address], attempts: dict[asyncio.Task[socket.socket], Address]
) -> socket.socket:
    loop = asyncio.get_running_loop()
    while True:
        while (address := dialling.next_attempt(now=loop.time())) is not None:
            attempts[loop.create_task(_connect(address))] = address
        wait = dialling.next_wait(now=loop.time())
        done, _ = await asyncio.wait(attempts, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            address = attempts.pop(task)
            try:
                return task.result()
            except FAILURES as error:
                dialling.failed(address, error)


async def _connect(address: Address) -> socket.socket:
    sock = socket.socket(address.family, address.kind, address.protocol)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address.socket_address)
    except BaseException:
        close(sock)
        raise
    return sock


async def _abandon(attempts: dict[asyncio.Task[socket.socket], Address]) -> None:
    """Cancel what is on its way, and wait until it has let go of its sockets: the loop may still watch them."""
    for task in attempts:
        task.add_done_callback(_close)
        task.cancel()
    if attempts:
        await asyncio.wait(attempts)


def _close(task: asyncio.Task[socket.socket]) -> None:
    """Nobody wants the outcome; also where the task was done before it could be cancelled."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
