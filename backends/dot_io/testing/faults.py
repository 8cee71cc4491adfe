"""What the server does wrong on request, and what a client should make of it."""

from __future__ import annotations

import enum
from typing import Final, TypeVar

from dot_proto.arguments import shown

from .mistakes import SettingError


class QueryFault(enum.StrEnum):
    """What becomes of a query instead of its answer."""

    SILENT = "silent"
    "Nothing is sent, and the connection stays open: the query must time out, and only that query."
    WRONG_ID = "wrong-id"
    "The answer comes under an id that was never asked under: it must not be taken, and the query must time out."
    WRONG_QUESTION = "wrong-question"
    "The answer comes with another question above it: it must not be taken, and the query must time out."
    GARBAGE = "garbage"
    "A frame of 7 octets that are no DNS message: the client must give the connection up, and not crash."
    TRUNCATED = "truncated"
    "The answer comes without its last octet, and then close_notify: the client must report that the connection ended."
    CLOSE = "close"
    "close_notify comes instead: the connection ended in order, and the query may be asked again on a new one."
    CUT = "cut"
    "TCP ends without close_notify, which anybody on the path could do: nothing that is incomplete may be used."
    RESET = "reset"
    "TCP is reset: as CUT, and reading or writing fails."
    BAD_RECORD = "bad-record"
    "A TLS record that cannot be decrypted: the client must give the connection up as tampered with."


class HandshakeFault(enum.StrEnum):
    """What answers a ClientHello instead of a handshake; no client may ask anything on such a connection."""

    SILENT = "silent"
    "Nothing: the client's own time limit must end its wait."
    REFUSE = "refuse"
    "The fatal alert handshake_failure: the client should tell it from a network failure."
    CLOSE = "close"
    "TCP ends."
    RESET = "reset"
    "TCP is reset."
    NOT_TLS = "not-tls"
    "HTTP in the clear, as from a port of another service."


ALERT: Final = b"\x15\x03\x03\x00\x02\x02\x28"
"A record of type alert: fatal, handshake_failure (RFC 8446, sections 5.1 and 6)."

HTTP: Final = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"

RECORD: Final = b"\x17\x03\x03\x00\x20" + bytes(32)
"A record of application data that no key has made (RFC 8446, section 5.2)."

GARBAGE: Final = b"\x00\x07garbage"
"A length prefix below 12, and so many octets (RFC 1035, sections 4.1.1 and 4.2.2)."

_Fault = TypeVar("_Fault", QueryFault, HandshakeFault)


def parse(kind: type[_Fault], value: str | None) -> _Fault | None:
    """A fault, given as such or by its value; raises :class:`SettingError` for what is none."""
    try:
        return None if value is None else kind(value)
    except ValueError:
        raise SettingError(f"{shown(value)} is no {kind.__name__}; those are {', '.join(kind)}") from None
