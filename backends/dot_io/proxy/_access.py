"""Who is answered, and where it is listened; no I/O."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final

from dot_proto import LocalProtocolError

from ._policy import DropReason
from .configuration import PORT, Network

LOOPBACK: Final = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
"Networks of this machine itself (RFC 6890, section 2.2)."

_MAX_KEPT: Final = 4096
"Addresses of clients about which it is kept whether they are answered."


class Access:
    """The networks whose clients are answered: loopback, and those that are named."""

    def __init__(self, allow: tuple[Network, ...]) -> None:
        self._networks = LOOPBACK + allow
        self._is_allowed = lru_cache(_MAX_KEPT)(self._look_up)

    def fault(self, host: str, port: int, own_port: int) -> DropReason | None:
        """Why a client at this address and port is not answered over UDP; ``None``: it is.

        Port 0 cannot be answered, and two servers that send each other messages never end.
        """
        if port == 0 or port == own_port == PORT:
            return DropReason.SOURCE_PORT
        return None if self.allows(host) else DropReason.DENIED

    def allows(self, host: str) -> bool:
        """Whether a client at this address, which may have a zone, is answered."""
        return host == "127.0.0.1" or self._is_allowed(host)

    def is_own(self, host: str) -> bool:
        """Whether it is this machine itself."""
        address = ipaddress.ip_address(host.partition("%")[0])
        return any(address in network for network in LOOPBACK)

    def check_listening(self, host: str) -> None:
        """Raise :class:`~dot_proto.LocalProtocolError` for an address that others reach, where none are allowed."""
        if len(self._networks) == len(LOOPBACK) and not self.allows(host):
            raise LocalProtocolError(
                f"{host} can be reached by other machines, and none is allowed: name their networks, as allow = "
                '["192.0.2.0/24"], or listen on 127.0.0.1 and ::1'
            )

    def _look_up(self, host: str) -> bool:
        address = ipaddress.ip_address(host.partition("%")[0])
        return any(address in network for network in self._networks)
