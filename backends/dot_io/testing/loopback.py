"""Which loopback address this machine has."""

from __future__ import annotations

import errno
import socket

_ABSENT = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
"The address is not there; or the kernel knows no IPv4 at all."


def loopback_address() -> str:
    """127.0.0.1, or ::1 on a machine that has IPv6 only."""
    try:
        with socket.socket(socket.AF_INET) as sock:
            sock.bind(("127.0.0.1", 0))
    except OSError as error:
        if error.errno in _ABSENT:
            return "::1"
        raise
    return "127.0.0.1"
