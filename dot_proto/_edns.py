"""EDNS options, spliced into a finished message: edns-tcp-keepalive, padding, and whatever is listed here next.

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
from .arguments import wrong
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
    for name, value, least in (("length", length, 0), ("block", block, 1)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise wrong(name, f"a whole number of octets, {least} or more", value)
    with_option = length + OPTION_HEADER
    if with_option > MAX_MESSAGE:
        return None
    return min(-(-with_option // block) * block, MAX_MESSAGE) - with_option


class Additions:
    """The EDNS options that messages of one kind get: those listed, in their order, and padding behind them.

    A listed option replaces one of the same code.  ``padding_block`` is in octets; ``None`` leaves padding as it is.
    Make them by :func:`additions`, once for a connection and not once for a message.
    """

    __slots__ = ("_rdata", "codes", "options", "padding_block")

    def __init__(self, options: tuple[tuple[int, bytes], ...], padding_block: int | None) -> None:
        self.options: Final = options
        self.padding_block: Final = padding_block
        codes = [code for code, _ in options]
        if padding_block is not None:
            codes.append(OPTION_PADDING)
        self.codes: Final = frozenset(codes)
        "The codes of options that are replaced."
        self._rdata: dict[int, bytes] = {}

    def octets(self, size: int) -> bytes:
        """The options that a message of ``size`` octets gets, its own OPT counted; what does not fit is left out."""
        data = b""
        for code, value in self.options:
            if size + len(data) + OPTION_HEADER + len(value) <= MAX_MESSAGE:
                data += _TWO_HALVES.pack(code, len(value)) + value
        if self.padding_block is not None:
            padding = padding_length(size + len(data), self.padding_block)
            if padding is not None:
                data += _TWO_HALVES.pack(OPTION_PADDING, padding) + bytes(padding)
        return data

    def rdata(self, size: int) -> bytes:
        """RDLENGTH and options of an OPT that has no others, for a message of ``size`` octets up to there.

        Kept once made, since few sizes occur (benchmarks/engine.py, row "send a query").
        """
        ready = self._rdata.get(size)
        if ready is None:
            if len(self._rdata) >= _MAX_SIZES:
                self._rdata.clear()
            data = self.octets(size)
            ready = self._rdata[size] = _HALF.pack(len(data)) + data
        return ready


_MAX_SIZES: Final = 512
"Sizes of messages whose options are kept ready, for each kind of messages."


@lru_cache(maxsize=64)
def additions(options: tuple[tuple[int, bytes], ...], padding_block: int | None) -> Additions:
    """One object for all connections with the same settings: what one has made ready serves the others."""
    return Additions(options, padding_block)


def for_queries(*, keepalive: bool, padding_block: int | None) -> Additions:
    """What a client adds to its queries.  A further option goes here, and nowhere else."""
    options: list[tuple[int, bytes]] = []
    if keepalive:
        options.append((OPTION_KEEPALIVE, b""))  # a client states nothing (RFC 7828, section 3.2.1)
    return additions(tuple(options), padding_block)


def for_responses(*, keepalive: bytes | None, padding_block: int | None) -> Additions:
    """What a server adds to a response: padding to a padded query, ``keepalive`` where a timeout is to be stated."""
    options: list[tuple[int, bytes]] = []
    if keepalive is not None:
        options.append((OPTION_KEEPALIVE, keepalive))
    return additions(tuple(options), padding_block)


def splice(message: bytes, layout: Layout, added: Additions) -> bytes:
    """The message with these options.

    OPT is added where there is none, and an option that is there already is replaced; padding goes last (RFC 8467,
    section 3).  Near 65535 octets what does not fit is left out.
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
        kept = [option for option in kept if option[0] not in added.codes]
    data = b"".join([_TWO_HALVES.pack(code, len(value)) + value for code, value in kept])
    data += added.octets(start + 11 + len(data))
    return head + fixed + _HALF.pack(len(data)) + data


def splice_plain(message: bytes, opt: int, added: Additions) -> bytes | None:
    """What :func:`splice` returns, less the id, for a plain message (``_plain``) with OPT at the offset ``opt``.

    A message without OPT has its length there.  ``None``: OPT holds options already, or there is no room for it.
    """
    end = len(message)
    if end == opt + 11:
        return message[2:-2] + added.rdata(end)
    if end == opt <= MAX_MESSAGE - 11:
        additionals = (message[10] << 8 | message[11]) + 1
        head = message[2:10] + _HALF.pack(additionals) + message[12:]
        return head + _OPT_FIXED + added.rdata(end + 11)
    return None


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
