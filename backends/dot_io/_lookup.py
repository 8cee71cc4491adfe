"""Looking up a host's addresses by the system's resolver, which may hang for as long as it likes.

``getaddrinfo`` cannot be called off.  So it runs in a thread that is left behind when the caller's time is over.  The
threads are our own, for three reasons.  Those of an executor are waited for when the process exits.  uvloop has four of
its own for the whole process, so four lookups that hang would keep all others waiting.  And on every backend the same
names should be looked up in the same way.

They are started by ``_thread`` because nobody waits for such a thread, at exit either, and because it does not count in
``threading.active_count()``: see the blocking driver, which spends descriptors on being woken by other threads.
"""

from __future__ import annotations

import _thread
import errno
import functools
import os
import socket
import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from ._dial import connect_error
from ._fork import forgets_after_fork
from .errors import ConnectTimeoutError

MAX_THREADS: Final = 32
"Lookups that run at a time in one process; others wait for their turn, and no longer than until their deadlines."


class Address(NamedTuple):
    """What :class:`socket.socket` and its ``connect`` want to be told."""

    family: int
    kind: int
    protocol: int
    socket_address: Any

    def __str__(self) -> str:
        return str(self.socket_address[0])


class Lookup:
    """A context manager: one host whose addresses are looked up while the block waits; leaving it gives that up.

    ``tell`` is called, from another thread, when :meth:`addresses` has something to say.  An address needs no lookup:
    then :attr:`is_done` is true at once, and ``tell`` is not called.
    """

    def __init__(self, host: str, port: int, tell: Callable[[], object]) -> None:
        self._host = host
        self._port = port
        self._tell = tell
        self._result: list[Address] | BaseException | None = None

    @property
    def is_done(self) -> bool:
        """Whether there are addresses, or an error."""
        return self._result is not None

    def __enter__(self) -> Lookup:
        if _is_address(self._host):
            self.look_up(socket.AI_NUMERICHOST)
        else:
            try:
                pool.add(self.run)
            except RuntimeError as error:  # no thread can be started
                because = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
                raise connect_error(self._host, self._port, because) from error
        return self

    def __exit__(self, *_: object) -> None:
        pool.discard(self.run)

    def addresses(self) -> list[tuple[int, Address]]:
        """What was found, with the families; call it when the caller waits no longer.

        Raises :class:`~dot_io.errors.ConnectError`, and :class:`~dot_io.errors.ConnectTimeoutError` where it is not
        done.
        """
        if self._result is None:
            raise ConnectTimeoutError(
                f"no TCP connection to {self._host} port {self._port} in time: the lookup of the name takes too long"
            )
        if isinstance(self._result, Exception):  # where getaddrinfo() has been replaced, whatever that raises
            raise connect_error(self._host, self._port, self._result) from self._result
        if isinstance(self._result, BaseException):
            raise self._result
        return [(address.family, address) for address in self._result]

    def look_up(self, flags: int = 0) -> None:
        """Ask the system."""
        try:
            found = self._getaddrinfo()(self._host, self._port, type=socket.SOCK_STREAM, flags=flags)
            self._result = [Address(family, kind, protocol, to) for family, kind, protocol, _, to in found]
        except BaseException as error:
            self._result = error

    def run(self) -> None:
        """In a thread of the pool: ask the system, and tell."""
        self.look_up()
        self._tell()

    def _getaddrinfo(self) -> Callable[..., Any]:
        return socket.getaddrinfo


class SystemLookup(Lookup):
    """Asks the system, also where a function of ours stands in for it, which may wait for this very answer."""

    def _getaddrinfo(self) -> Callable[..., Any]:
        function: Callable[..., Any] = socket.getaddrinfo
        while isinstance(function, StandIn):
            function = function.original
        return function


class StandIn:
    """A function of ours in the place of one of the module ``socket``, until it is taken away."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.original: Final[Callable[..., Any]] = getattr(socket, name)
        self._name = name
        self._function = function
        functools.update_wrapper(self, self.original, updated=())
        setattr(socket, name, self)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """As the original."""
        return self._function(*arguments, **options)

    def take_away(self) -> None:
        """Put back what was there.  Where another one has come on top, that one stays, and finds the original below."""
        self._function = self.original
        while isinstance(top := getattr(socket, self._name), StandIn) and top._function is top.original:
            setattr(socket, self._name, top.original)


class _Pool:
    """Threads that end when there is no more to do."""

    def __init__(self) -> None:
        self.forget_parents()
        forgets_after_fork(self)

    def forget_parents(self) -> None:
        """In a forked child: the threads are the parent's, and one of them may have had the lock."""
        self._lock = threading.Lock()
        self._waiting: dict[Callable[[], None], None] = {}  # in the order of their coming
        self._threads = 0

    def add(self, job: Callable[[], None]) -> None:
        """Have a job done in a thread, in its turn; raises :class:`RuntimeError` where none can be started."""
        with self._lock:
            self._waiting[job] = None
            if self._threads < MAX_THREADS:
                try:
                    _thread.start_new_thread(self._work, ())
                except RuntimeError:
                    if not self._threads:  # nobody else will do it
                        del self._waiting[job]
                        raise
                else:
                    self._threads += 1

    def discard(self, job: Callable[[], None]) -> None:
        """Leave a job undone, where it has not begun."""
        with self._lock:
            self._waiting.pop(job, None)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads -= 1
                    return
                job = next(iter(self._waiting))
                del self._waiting[job]
            job()
            del job  # the next may be long in coming


pool: Final = _Pool()
"For what blocks, and for nobody to wait for."


def _is_address(host: str) -> bool:
    address, _, _ = host.partition("%")  # an IPv6 address may have a zone (RFC 4007, section 11)
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, address)
        except (OSError, ValueError):
            continue
        return True
    return False
