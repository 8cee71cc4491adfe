"""As much of HTTP as it takes to show a page to whoever may see it."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Callable
from typing import Final, cast

MAX_HEAD: Final = 8192
"Octets of a request; none of those that have a reason to come has more."

TIMEOUT: Final = 5.0
"Seconds that a client has to ask and to read."

_HOST: Final = re.compile(rb"\r\nhost:[ \t]*([^\r\n]*?)[ \t]*\r\n", re.IGNORECASE)

Page = Callable[[], tuple[str, str]]
"The type of its content, and the content."


class HTTPConnection(asyncio.Protocol):
    """One request and its answer.

    A ``Host`` that is a name, but for ``localhost``, is refused: otherwise a page of somebody else's, whose name leads
    here, could read ours (DNS rebinding).
    """

    def __init__(self, pages: dict[str, Page], allows: Callable[[str], bool]) -> None:
        self._pages = pages
        self._allows = allows
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody has come."""
        self._transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(TIMEOUT, self._transport.abort)
        peer = transport.get_extra_info("peername")
        if not peer or not self._allows(peer[0]):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Octets of the request."""
        if self._transport.is_closing():
            return
        self._head += data
        if b"\r\n\r\n" in self._head:
            self._answer()
        elif len(self._head) > MAX_HEAD:
            self._send("431 Request Header Fields Too Large", "text/plain", "too long\n")

    def _answer(self) -> None:
        method, _, rest = self._head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0].decode("latin-1")
        found = _HOST.search(self._head)
        page = self._pages.get(path)
        if found is None or not _is_ours(found[1].decode("latin-1")):
            self._send("421 Misdirected Request", "text/plain", "ask by address, or as localhost\n")
        elif method != b"GET":
            self._send("405 Method Not Allowed", "text/plain", "GET alone\n")
        elif page is None:
            self._send("404 Not Found", "text/plain", f"there is {', '.join(self._pages)}\n")
        else:
            self._send("200 OK", *page())

    def _send(self, status: str, content_type: str, text: str) -> None:
        body = text.encode()
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
            "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
        )
        self._transport.write(head.encode() + body)
        self._transport.close()


def _is_ours(host: str) -> bool:
    """Whether a ``Host`` is an address, or localhost, with or without a port."""
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^][:]+))(?::[0-9]{1,5})?", host)
    if found is None:
        return False
    if found[2] and found[2].lower() == "localhost":
        return True
    try:
        ipaddress.ip_address(found[1] or found[2])
    except ValueError:
        return False
    return True
