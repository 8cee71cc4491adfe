"""TCP to a host."""

from __future__ import annotations

import socket

import trio

from .._client import connect_error
from ..errors import ConnectTimeoutError


async def dial(host: str, port: int, deadline: float) -> socket.socket:
    """A connected socket that does not block; ``deadline`` is on trio's clock, in seconds."""
    try:
        with trio.fail_at(deadline):
            stream = await trio.open_tcp_stream(host, port)
    except trio.TooSlowError:
        raise ConnectTimeoutError(f"no TCP connection to {host} port {port} in time") from None
    except (OSError, UnicodeError) as error:  # the latter: no host name at all
        raise connect_error(host, port, error) from error
    return plain_socket(stream.socket)


def plain_socket(sock: trio.socket.SocketType) -> socket.socket:
    """The socket without trio's wrapping, which is left without one."""
    plain = socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())
    plain.setblocking(False)
    return plain
