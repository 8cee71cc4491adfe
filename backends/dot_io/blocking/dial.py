"""TCP to a host, one address after the other."""

from __future__ import annotations

import socket
from time import monotonic

from .._client import connect_error
from ..errors import ConnectTimeoutError
from .driver import LONGEST_WAIT

SHORTEST_DIAL = 0.001
"Seconds; a timeout of 0 would mean that a socket does not wait at all."


def dial(host: str, port: int, deadline: float) -> socket.socket:
    """A connected socket; ``deadline`` is on the monotonic clock, in seconds."""
    try:
        return _dial(host, port, deadline)
    except TimeoutError:
        raise ConnectTimeoutError(f"no TCP connection to {host} port {port} in time") from None
    except (OSError, UnicodeError) as error:  # the latter: no host name at all
        raise connect_error(host, port, error) from error


def _dial(host: str, port: int, deadline: float) -> socket.socket:
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for left in range(len(addresses), 0, -1):
        family, kind, protocol, _, address = addresses[-left]
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(min(max((deadline - monotonic()) / left, SHORTEST_DIAL), LONGEST_WAIT))
        try:
            sock.connect(address)
        except BaseException as error:
            sock.close()
            if left == 1 or not isinstance(error, OSError):
                raise
        else:
            return sock
    raise OSError("it has no address")
