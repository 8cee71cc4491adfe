"""TCP to a host, one address after the other."""

from __future__ import annotations

import asyncio
import socket

from .._client import connect_error
from ..errors import ConnectTimeoutError


async def dial(host: str, port: int, deadline: float) -> socket.socket:
    """A connected socket that does not block; ``deadline`` is on the loop's clock, in seconds."""
    try:
        async with asyncio.timeout_at(deadline):
            return await _dial(host, port)
    except TimeoutError:
        raise ConnectTimeoutError(f"no TCP connection to {host} port {port} in time") from None
    except (OSError, UnicodeError) as error:  # the latter: no host name at all
        raise connect_error(host, port, error) from error


async def _dial(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for left in range(len(addresses), 0, -1):
        family, kind, protocol, _, address = addresses[-left]
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, address)
        except BaseException as error:
            sock.close()
            if left == 1 or not isinstance(error, OSError):
                raise
        else:
            return sock
    raise OSError("it has no address")
