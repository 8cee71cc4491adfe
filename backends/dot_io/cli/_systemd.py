"""What systemd hands to a service, and is told of one of type notify (sd_notify(3)); nothing where it does not ask."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import Final

FIRST_DESCRIPTOR: Final = 3
"Of those that systemd hands over (sd_listen_fds(3))."


def listening_sockets() -> list[socket.socket]:
    """The sockets that systemd has opened for this process (systemd.socket(5)), if it has."""
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
        return []
    count = os.environ.pop("LISTEN_FDS", "")
    return [socket.socket(fileno=FIRST_DESCRIPTOR + number) for number in range(int(count) if count.isdecimal() else 0)]


class Notifier:
    """Sends states to the socket that NOTIFY_SOCKET names; what cannot be sent at once is not sent."""

    def __init__(self) -> None:
        self._address: Final = os.environ.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        period = os.environ.get("WATCHDOG_USEC", "")
        is_for_us = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_period: Final = int(period) / 2_000_000 if period.isdecimal() and is_for_us else None
        "Seconds between two calls of :meth:`alive`, half of what systemd waits; ``None``: it waits for none."

    def ready(self) -> None:
        """It serves, for the first time or again."""
        self._send("READY=1")

    def reloading(self) -> None:
        """It reads its configuration anew; :meth:`ready` follows."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def alive(self) -> None:
        """It still does its work; systemd ends who does not say so."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """It ends."""
        self._send("STOPPING=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(state.encode(), self._address)
