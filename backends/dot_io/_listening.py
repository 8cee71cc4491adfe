"""Listening sockets of a server: made for its addresses, or taken from whoever has made them, all or none."""

from __future__ import annotations

import socket
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from dot_proto import LocalProtocolError
from dot_proto.arguments import check_flag, collected, shown, wrong

from ._address import PORT, check_host, check_port

HOST: Final = "127.0.0.1"
"Where a server listens, unless told otherwise: no other machine can reach it."

BACKLOG: Final = 1024
"Connections that wait to be accepted, at most; the system may have a lower limit (Linux: net.core.somaxconn)."

EVERY_ADDRESS: Final = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}
"What is bound for all addresses of a family."

Address = tuple[str, int]
"An address and a port."


@dataclass(frozen=True, slots=True)
class Listeners:
    """The listening sockets of one server."""

    sockets: Sequence[socket.socket]
    "At least one."
    are_shared: bool
    "Whether somebody else may have them too, and go on listening."

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where they listen."""
        return tuple(one.getsockname()[:2] for one in self.sockets)


@contextmanager
def listening(
    host: str | Sequence[str] | None,
    port: int,
    sock: socket.socket | Sequence[socket.socket] | None,
    reuse_port: bool,
) -> Generator[Listeners]:
    """Listening sockets, which the block hands on; where it fails, all of them are closed.

    Everything is judged before the first is opened.  Raises :class:`OSError`, with the address, if one cannot be had.
    """
    check_flag("reuse_port", reuse_port)
    if sock is not None:
        sockets = _checked(sock)
        if (host, port, reuse_port) != (HOST, PORT, False):
            raise LocalProtocolError(
                "sock takes the place of host, port and reuse_port, and what it is bound to stays: give sock alone"
            )
        with ExitStack() as stack:
            for one in sockets:
                stack.enter_context(one)
                if not _is_listening(one):
                    one.listen(BACKLOG)
            yield Listeners(sockets, are_shared=True)
            stack.pop_all()
        return
    if type(port) is not int or port != 0:  # 0 lets the system choose
        check_port(port)
    hosts = _hosts(host)
    if reuse_port and not hasattr(socket, "SO_REUSEPORT"):
        raise LocalProtocolError("reuse_port must be False here: this system has no SO_REUSEPORT")
    with ExitStack() as stack:
        opened = [stack.enter_context(open_listener(each, port, reuse_port=reuse_port)) for each in hosts]
        yield Listeners(opened, are_shared=False)
        stack.pop_all()


def open_listener(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A listening socket; raises :class:`OSError` if it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET  # of IPv6 alone, so that both families can be had
    return socket.create_server((host, port), family=family, backlog=BACKLOG, reuse_port=reuse_port)


def _hosts(host: str | Sequence[str] | None) -> list[str]:
    if host is None:
        return [address for family, address in EVERY_ADDRESS.items() if _has(family)]
    what = "an address or a name, as text, or a list of them, or None for every address of the machine"
    given = (host,) if isinstance(host, str) else collected("host", host, str, what, "give the port apart, as port=")
    # An empty one is every IPv4 address of the machine, as sockets have it.
    hosts = [check_host(each) if each else each for each in given]
    if not hosts:
        raise LocalProtocolError("host is an empty list: give None for every address of the machine")
    for number, each in enumerate(hosts):
        if each in hosts[:number]:
            raise LocalProtocolError(f"host holds {shown(each)} twice")
    return hosts


def _has(family: int) -> bool:
    """Whether the machine knows a family at all; without IPv6 there is nothing to listen on."""
    try:
        socket.socket(family).close()
    except OSError:
        return False
    return True


def _checked(given: socket.socket | Sequence[socket.socket]) -> list[socket.socket]:
    """Sockets from which TCP connections can be accepted, or could be after ``listen()``."""
    what = "a listening socket (socket.socket) or a list of them"
    sockets = [given] if isinstance(given, socket.socket) else collected("sock", given, socket.socket, what)
    if not sockets:
        raise LocalProtocolError("sock is an empty list: give a listening socket, or host and port instead")
    for number, one in enumerate(sockets):
        problem = _problem(one)
        if problem is None and one.fileno() in [other.fileno() for other in sockets[:number]]:
            problem = "that stands in it twice"
        if problem is not None:
            raise wrong("sock", what, one, f"number {number + 1} is one {problem}")
    return list(sockets)


def _problem(sock: socket.socket) -> str | None:
    """Why nobody could be accepted, or nobody be told from others; ``None``: nothing."""
    if sock.fileno() == -1:
        return "that is closed"
    if hasattr(sock, "do_handshake"):  # an ssl.SSLSocket
        return "that speaks TLS, which is our part: give it unwrapped"
    if sock.family not in EVERY_ADDRESS or sock.type != socket.SOCK_STREAM:
        family, kind = (getattr(each, "name", each) for each in (sock.family, sock.type))
        return f"of {family} and {kind}: clients are told apart by their addresses, of TCP over IPv4 or IPv6"
    if sock.getsockname()[1] == 0:
        return "that is not bound: bind() it"
    with suppress(OSError):
        sock.getpeername()
        return "that is connected: give the one that it was accepted from"
    return None


def _is_listening(sock: socket.socket) -> bool:
    with suppress(AttributeError, OSError):  # a system that does not say lets listen() be called again
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    return False
