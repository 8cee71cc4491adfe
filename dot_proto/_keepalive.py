"""What a server says of its idle timeout (RFC 7828), and how long a client rests for it.

It is read from OPT and from nothing else, but most messages need no walk to OPT.  An option that states a timeout
begins with four octets, of which the second is 11.  Where the first such four stand at the last octet 11 of the
message, they stand there once; and if the value that is known follows them, nothing new is stated: either this is the
option, or there is none.  In any other case only a walk can tell what the octets stand in.  (To search for one octet
costs the same in 60 octets and in 400 of padding, which to search for four does not: benchmarks/engine.py, row "OPT
with keepalive".)
"""

from __future__ import annotations

from typing import Final

from ._edns import decode_keepalive, least_keepalive
from ._message import OPTION_KEEPALIVE, walk
from ._plain import options
from .configuration import ClientConfiguration
from .events import KeepaliveReceived

ELEVEN: Final = b"\x0b"
"The second octet of the option's code."

CODE: Final = b"\x00" + ELEVEN
"The option's code in octets: a message without them needs no look at its options."

HEAD: Final = CODE + b"\x00\x02"
"The option's code and length in octets (RFC 7828, section 3.1)."


class StatedTimeout:
    """A server's idle timeout, as it has stated it last."""

    __slots__ = ("_reported_bad", "option", "seconds")

    def __init__(self) -> None:
        self.seconds: float | None = None
        "``None``: none is stated."
        self.option = b""
        "The octets that said so, with code and length; empty where nothing did."
        self._reported_bad = False

    def read(self, message: bytes, *, was_asked: bool) -> KeepaliveReceived | None:
        """Take in what a response says, the latest word counting (RFC 7828, section 3.2.2); returns what is news.

        Whoever receives the option obeys it, also where the query did not carry it.  That it is missing says
        something only where ``was_asked``: the query did.
        """
        if not was_asked and HEAD not in message and self.option:
            return None
        code, found = OPTION_KEEPALIVE, options(message)
        stated = walk(message).values(code) if found is None else [found[code]] if code in found else []
        if not stated and not was_asked:
            return None
        data = least_keepalive(stated)
        seconds = None if data is None else decode_keepalive(data)
        if stated and data is None:
            is_news, self._reported_bad = not self._reported_bad, True
            return KeepaliveReceived(None) if is_news else None
        self.option = b"" if data is None else HEAD + data
        if seconds == self.seconds:
            return None
        self.seconds = seconds
        return KeepaliveReceived(seconds)

    def idle_timeout(self, configuration: ClientConfiguration) -> float:
        """Seconds without anything outstanding after which the client closes."""
        if self.seconds is None:
            return configuration.idle_timeout
        capped = min(self.seconds, configuration.max_idle_timeout)
        # The client closes *before* the server's time is up (RFC 7828, section 3.2.2); otherwise a query sent at
        # the last moment meets a closing server.
        return capped - min(1.0, capped / 10)
