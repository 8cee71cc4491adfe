"""TCP to a host, by the first of its addresses that answers."""

from __future__ import annotations

import math
import select
import socket
import threading
from collections.abc import Iterable

from .._clock import monotonic
from .._dial import FAILURES, Dialling, connect_error, remaining
from .._lookup import Address, Lookup
from .._transport import close, failure_of_connecting, start_connecting
from ..errors import ConnectError


def dial(
    host: str, port: int, deadline: float, *, family: int = socket.AF_UNSPEC, source: tuple[str, int] | None = None
) -> socket.socket:
    """A connected socket that does not block; ``deadline`` is on the monotonic clock, in seconds.

    ``family`` leaves out the addresses of others; ``source`` is the address and port of ours to connect from.
    Raises :class:`~dot_io.errors.ConnectError`.
    """
    found = _look_up(host, port, deadline)
    wanted = [one for one in found if family in (socket.AF_UNSPEC, one[0])]
    dialling = Dialling(host, port, wanted, deadline=deadline)
    attempts: dict[socket.socket, Address] = {}
    try:
        while True:
            while (address := dialling.next_attempt(now=monotonic())) is not None:
                try:
                    sock, is_connected = start_connecting(*address, source=source)
                except FAILURES as error:
                    dialling.failed(address, error)
                else:
                    if is_connected:
                        return sock
                    attempts[sock] = address
            for sock in _wait(attempts, dialling.next_wait(now=monotonic())):
                address = attempts.pop(sock)
                failure = failure_of_connecting(sock)
                if failure is None:
                    return sock
                dialling.failed(address, failure)
    except ConnectError:
        raise
    except OSError as error:  # the system cannot wait for them
        raise connect_error(host, port, error) from error
    finally:
        for sock in attempts:
            close(sock)


def _look_up(host: str, port: int, deadline: float) -> list[tuple[int, Address]]:
    waiting = threading.Lock()
    waiting.acquire()
    with Lookup(host, port, waiting.release) as lookup:
        if not lookup.is_done:
            waiting.acquire(timeout=remaining(deadline, now=monotonic()))
        return lookup.addresses()


def _wait(sockets: Iterable[socket.socket], timeout: float) -> list[socket.socket]:
    """Those that are connected, or have failed, after at most ``timeout`` seconds.

    No selector of the system's that would take a file descriptor: there may be no more of them.
    """
    # Windows and some cooperative threads (eventlet) have no poll().
    if hasattr(select, "poll"):
        poll = select.poll()
        by_number = {sock.fileno(): sock for sock in sockets}
        for number in by_number:
            poll.register(number, select.POLLOUT)
        return [by_number[number] for number, _ in poll.poll(math.ceil(timeout * 1000))]
    _, connected, failed = select.select([], [*sockets], [*sockets], timeout)
    return list({*connected, *failed})
