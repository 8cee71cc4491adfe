"""Padding and edns-tcp-keepalive, spliced into a finished message.

A message that ends in TSIG or SIG(0) is signed over its whole length (RFC 8945, section 4.3.2): it is left
alone.  So is one whose OPT is not its last record: growing it would move the records behind, and the
compression pointers that name them (RFC 6891 lets OPT stand anywhere; hardly anybody makes use of it).
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

from ._framing import MAX_MESSAGE
from ._message import OPTION_KEEPALIVE, OPTION_PADDING, SERVFAIL, Layout
from .errors import LocalProtocolError

QUERY_BLOCK: Final = 128
"Octets: queries are padded to a multiple of this (RFC 8467, section 4.1)."

RESPONSE_BLOCK: Final = 468
"Octets: responses to padded queries are padded to a multiple of this (RFC 8467, section 4.1)."

KEEPALIVE_UNIT: Final = 0.1
"Seconds: what edns-tcp-keepalive counts in (RFC 7828, section 3.1)."

MAX_KEEPALIVE: Final = 0xFFFF * KEEPALIVE_UNIT
"Seconds: the longest timeout that the option can state (RFC 7828, section 3.1)."

UDP_PAYLOAD_SIZE: Final = 1232
"Octets: what an OPT of ours states; about UDP alone, so any usual value will do (RFC 6891, section 6.2.3)."

OPTION_HEADER: Final = 4
"Octets of an option's code and length (RFC 6891, section 6.1.2)."

_OPT_FIXED: Final = struct.pack("!BHHI", 0, 41, UDP_PAYLOAD_SIZE, 0)
"OPT up to its RDLENGTH: root, type, payload size, extended RCODE 0, version 0, flags 0."
_HALF: Final = struct.Struct("!H")
_TWO_HALVES: Final = struct.Struct("!HH")


def padding_length(length: int, block: int) -> int | None:
    """Octets of padding that bring a message of ``length`` octets to a multiple of ``block``.

    Counts the option's own four octets (RFC 7830, section 3), and not the length prefix (RFC 8467, section 3).
    The last block ends at 65535 octets; ``None``: there is no room even for an empty option.
    """
    with_option = length + OPTION_HEADER
    if with_option > MAX_MESSAGE:
        return None
    return min(-(-with_option // block) * block, MAX_MESSAGE) - with_option


def splice(message: bytes, layout: Layout, *, keepalive: bytes | None, block: int | None) -> bytes:
    """The message with a keepalive option holding ``keepalive`` and padded to ``block`` octets.

    ``None`` leaves either as it is.  OPT is added where there is none, and an option that is there already is
    replaced; padding goes last (RFC 8467, section 3).  Near 65535 octets what does not fit is left out.
    """
    if layout.is_signed:
        return message
    kept = layout.options
    if layout.opt is None:
        start, fixed = len(message), _OPT_FIXED
        additionals = (message[10] << 8 | message[11]) + 1
        if start + 11 > MAX_MESSAGE:
            return message
        head = message[:10] + _HALF.pack(additionals) + message[12:]
    else:
        start, end = layout.opt
        if end != len(message):
            return message
        head, fixed = message[:start], message[start : start + 9]
        dropped = {OPTION_PADDING if block is not None else None, OPTION_KEEPALIVE if keepalive is not None else None}
        kept = [option for option in kept if option[0] not in dropped]
    data = b"".join([_TWO_HALVES.pack(code, len(value)) + value for code, value in kept])
    data += _added(start + 11 + len(data), keepalive, block)
    return head + fixed + _HALF.pack(len(data)) + data


def splice_plain(message: bytes, opt: int, keepalive: bytes | None, block: int | None) -> bytes | None:
    """What :func:`splice` returns, less the id, for a plain message (``_plain``) with OPT at the offset ``opt``.

    A message without OPT has its length there.  ``None``: OPT holds options already, or there is no room for it.
    """
    end = len(message)
    if end == opt + 11:
        return message[2:-2] + _bare_rdata(end, keepalive, block)
    if end == opt <= MAX_MESSAGE - 11:
        additionals = (message[10] << 8 | message[11]) + 1
        head = message[2:10] + _HALF.pack(additionals) + message[12:]
        return head + _OPT_FIXED + _bare_rdata(end + 11, keepalive, block)
    return None


@lru_cache(maxsize=512)
def _bare_rdata(size: int, keepalive: bytes | None, block: int | None) -> bytes:
    # Depends on little but the message's length, and few lengths are ever met: ready octets save send_query 30 %.
    data = _added(size, keepalive, block)
    return _HALF.pack(len(data)) + data


def _added(size: int, keepalive: bytes | None, block: int | None) -> bytes:
    """The options that a message of ``size`` octets gets."""
    data = b""
    if keepalive is not None and size + OPTION_HEADER + len(keepalive) <= MAX_MESSAGE:
        data = _TWO_HALVES.pack(OPTION_KEEPALIVE, len(keepalive)) + keepalive
    if block is not None and (padding := padding_length(size + len(data), block)) is not None:
        data += _TWO_HALVES.pack(OPTION_PADDING, padding) + bytes(padding)
    return data


def without_opt(message: bytes, layout: Layout) -> bytes:
    """The message without its OPT, for a client that sent none (RFC 6891, section 7).

    A signed message, and one whose OPT is not its last record, are returned as they are.  An RCODE above 15 has no
    place but in OPT (RFC 6891, section 6.1.3), and becomes SERVFAIL.
    """
    # Behind the OPT of a signed message stands its signature.
    if layout.opt is None or layout.opt[1] != len(message):
        return message
    start = layout.opt[0]
    if message[start + 5]:
        message = message[:3] + bytes([message[3] & 0xF0 | SERVFAIL]) + message[4:]
    additionals = (message[10] << 8 | message[11]) - 1
    return message[:10] + _HALF.pack(additionals) + message[12:start]


def encode_keepalive(seconds: float) -> bytes:
    """A timeout as the option's data, rounded down to 0.1 s (RFC 7828, section 3.1)."""
    if not 0 <= seconds <= MAX_KEEPALIVE:
        raise LocalProtocolError(f"a keepalive timeout is 0 to {MAX_KEEPALIVE:.1f} seconds, not {seconds}")
    # The small addend undoes what binary fractions lose: 0.3 / 0.1 is a little below 3.
    return _HALF.pack(int(seconds / KEEPALIVE_UNIT + 1e-6))


def decode_keepalive(data: bytes) -> float | None:
    """A server's timeout in seconds; ``None`` for data of any other length than two octets."""
    if len(data) != 2:
        return None
    return (data[0] << 8 | data[1]) / 10
