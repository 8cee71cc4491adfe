"""A machine that has IPv6 only, as far as sockets can tell."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest


class OnlyIPv6(socket.socket):
    """A socket of IPv4 can be neither bound nor connected: the machine has no such address."""

    def bind(self, address: Any) -> None:
        self._refuse_ipv4()
        super().bind(address)

    def connect(self, address: Any) -> None:
        self._refuse_ipv4()
        super().connect(address)

    def connect_ex(self, address: Any) -> int:
        self._refuse_ipv4()
        return super().connect_ex(address)

    def _refuse_ipv4(self) -> None:
        if self.family == socket.AF_INET:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")


def take_ipv4_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the rest of the test; it is skipped where there is no IPv6 either."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback address (::1)")
    monkeypatch.setattr(socket, "socket", OnlyIPv6)
