"""What a forked child does with its parent's connections: it lets go of them without a word.

A child shares its parent's sockets, and has a copy of each TLS session.  If both used such a session, each would
count its own records, and the server would see one number twice: it would end the connection ("bad record mac").
Even a child that only exits would send close_notify on its way out, and end the parent's connection too.

So in a child every client is ended in memory alone, its file descriptor no longer means the connection, and no session
to resume is shared: two processes that resume by one ticket could be told to be one (RFC 8446, C.4).
"""

from __future__ import annotations

import _socket
import contextlib
import os
import socket
from typing import Protocol
from weakref import WeakSet


class _Forkable(Protocol):
    def forget_parents(self) -> None: ...


_registered: WeakSet[_Forkable] = WeakSet()


def forgets_after_fork(one: _Forkable) -> None:
    """Have ``forget_parents`` called in every child that this process forks, as long as the object lives."""
    _registered.add(one)


def let_go(sock: socket.socket) -> None:
    """Make the descriptor mean nothing, and keep its number: whoever closes it later closes nobody else's.

    What takes its place is a socket that is not connected.  It is closed first, so that one can be had where there are
    no descriptors left; and a socket, other than /dev/null, can be had in every chroot.  All of it is ``_socket``'s:
    ``os.close`` of gevent closes later, when the number is another's.
    """
    number = sock.fileno()
    if number < 0:
        return
    with contextlib.suppress(OSError):
        _socket.close(number)
        nothing = _socket.socket().detach()  # the lowest number that is free
        if nothing != number:
            os.dup2(nothing, number, inheritable=False)
            _socket.close(nothing)


def _forget_parents() -> None:
    failures: list[Exception] = []
    for one in list(_registered):
        try:
            one.forget_parents()
        except Exception as error:  # whatever it is, no other may go on to use what is its parent's
            failures.append(error)
    if failures:
        raise failures[0]  # which Python prints


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents)
