"""OPT, put right in a finished message: edns-tcp-keepalive, padding, flags, and whatever is listed here next.

OPT goes last, wherever it stood, so that it can grow (RFC 6891, section 6.1.1, lets it stand anywhere among the
additional records).  A message that ends in TSIG or SIG(0) is signed over its whole length (RFC 8945, section 4.3.2;
RFC 2931, section 3.1): it is left alone.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

from ._framing import MAX_MESSAGE
from ._message import (
    OPTION_COOKIE,
    OPTION_DAU,
    OPTION_ECS,
    OPTION_KEEPALIVE,
    OPTION_N3U,
    OPTION_NSID,
    OPTION_PADDING,
    SERVFAIL,
    Layout,
    walk,
)
from ._plain import OPT_FIXED
from ._removal import without
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

_OPT_START: Final = struct.pack("!BHHB", 0, 41, UDP_PAYLOAD_SIZE, 0)
"OPT up to its version: root, type, payload size, extended RCODE 0."
_NO_FLAGS: Final = bytes(3)
"Version 0, flags 0 (RFC 6891, section 6.1.3)."
_DO: Final = b"\0\x80\0"
"Version 0, and DO (RFC 3225, section 3) alone of the flags."
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
    """What is made of OPT in messages of one kind: the options listed, in their order, and padding behind them.

    A listed option replaces those of the same code; those of the codes in ``dropped`` go without a successor.
    ``padding_block`` is in octets; ``None`` adds no padding.  ``flags`` are version and flags, three octets; ``None``
    leaves those that are there.  Make them by :func:`additions`, once for a connection and not once for a message.
    """

    __slots__ = ("codes", "flags", "options", "padding_block", "ready", "replaced", "start")

    def __init__(
        self,
        options: tuple[tuple[int, bytes], ...],
        padding_block: int | None,
        dropped: frozenset[int] = frozenset(),
        flags: bytes | None = None,
    ) -> None:
        self.options: Final = options
        self.padding_block: Final = padding_block
        self.flags: Final = flags or b""
        self.start: Final = _OPT_START + (_NO_FLAGS if flags is None else b"")
        "An OPT of ours, up to what :meth:`end` returns."
        self.replaced: Final = -2 - len(self.flags)
        "From where on a bare OPT is replaced by what :meth:`end` returns."
        codes = [code for code, _ in options]
        if padding_block is not None:
            codes.append(OPTION_PADDING)
        self.codes: Final = dropped.union(codes)
        "The codes of options that do not stay."
        self.ready: Final[dict[int, bytes]] = {}
        "What :meth:`end` has returned, by size."

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

    def end(self, size: int) -> bytes:
        """Flags, if they are ours, RDLENGTH and options of an OPT that has no others, for ``size`` octets up to there.

        Look into :attr:`ready` first: few sizes occur (benchmarks/engine.py, row "client sends, OPT").
        """
        if len(self.ready) >= _MAX_SIZES:
            self.ready.clear()
        data = self.octets(size)
        made = self.ready[size] = self.flags + _HALF.pack(len(data)) + data
        return made


_MAX_SIZES: Final = 512
"Sizes of messages whose options are kept ready, for each kind of messages."


@lru_cache(maxsize=64)
def additions(
    options: tuple[tuple[int, bytes], ...],
    padding_block: int | None,
    dropped: frozenset[int] = frozenset(),
    flags: bytes | None = None,
) -> Additions:
    """One object for all connections with the same settings: what one has made ready serves the others."""
    return Additions(options, padding_block, dropped, flags)


def for_queries(*, keepalive: bool, padding_block: int | None) -> Additions:
    """What a client adds to its queries.  A further option goes here, and nowhere else."""
    options: list[tuple[int, bytes]] = []
    if keepalive:
        options.append((OPTION_KEEPALIVE, b""))  # a client states nothing (RFC 7828, section 3.2.1)
    return additions(tuple(options), padding_block)


# OPT is hop by hop (RFC 6891, section 6.1.1), and a response may come from another server whose OPT is still in it.
# Keepalive and padding are of one connection. What algorithms a client understands, only a client says (RFC 6975).

_NEIGHBOURS: Final = frozenset({OPTION_KEEPALIVE, OPTION_PADDING, *range(OPTION_DAU, OPTION_N3U + 1)})
"What another server's options say about its own connection with whoever asked it."

_ONLY_IF_ASKED: Final = frozenset({OPTION_NSID, OPTION_ECS, OPTION_COOKIE})
"What no server may send unasked (RFC 5001, section 2.2; RFC 7871; RFC 7873)."

_CLIENT_COOKIE: Final = 8
"Octets of the client's part of a cookie (RFC 7873, section 4)."


def for_responses(*, keepalive: bytes | None, padding_block: int | None, wants_dnssec: bool) -> Additions:
    """What a server makes of a response's OPT: padding to a padded query, ``keepalive`` where a timeout is stated.

    ``wants_dnssec`` is DO of the query, which is copied (RFC 3225, section 3).
    """
    options: tuple[tuple[int, bytes], ...] = () if keepalive is None else ((OPTION_KEEPALIVE, keepalive),)
    return additions(options, padding_block, _NEIGHBOURS, _DO if wants_dnssec else _NO_FLAGS)


def drop_unasked(response: Layout, query: bytes) -> None:
    """Leave out of a response's options those that answer none of the query's.

    So an upstream's cookie does not reach a client that sent none, or another: the client's part of it is another's.
    """
    if _ONLY_IF_ASKED.isdisjoint([code for code, _ in response.options]):
        return
    asked = walk(query)
    cookies = [data[:_CLIENT_COOKIE] for data in asked.values(OPTION_COOKIE)]
    codes = {code for code, _ in asked.options}
    response.options = [
        (code, data)
        for code, data in response.options
        if code not in _ONLY_IF_ASKED or (data[:_CLIENT_COOKIE] in cookies if code == OPTION_COOKIE else code in codes)
    ]


def splice(message: bytes, layout: Layout, added: Additions) -> bytes:
    """The message with these options.

    OPT is added where there is none, and goes last; an option that is there already is replaced.  Padding is the last
    option (RFC 8467, section 3).  Near 65535 octets what does not fit is left out.

    Raises :class:`~dot_proto.MessageError` where OPT stands before a record whose names cannot be read.
    """
    if layout.is_signed:
        return message
    data = b""
    if layout.opt is None:
        if len(message) + OPT_FIXED > MAX_MESSAGE:
            return message
        head, start = message[:10] + _additionals(message, 1) + message[12:], added.start
    else:
        opt = layout.opt[0]
        head, start = without(message, *layout.opt), message[opt : opt + OPT_FIXED + added.replaced]
        kept = [option for option in layout.options if option[0] not in added.codes]
        data = b"".join([_TWO_HALVES.pack(code, len(value)) + value for code, value in kept])
    data += added.octets(len(head) + OPT_FIXED + len(data))
    return head + start + added.flags + _HALF.pack(len(data)) + data


def splice_plain(message: bytes, opt: int, added: Additions) -> bytes | None:
    """What :func:`splice` returns, less the id, for a plain message (``_plain``) with OPT at the offset ``opt``.

    A message without OPT has its length there.  ``None``: OPT holds options already, or there is no room for it.
    """
    end = len(message)
    if end == opt + 11:
        return message[2 : added.replaced] + (added.ready.get(end) or added.end(end))
    if end == opt <= MAX_MESSAGE - 11:
        head = message[2:10] + _additionals(message, 1) + message[12:] + added.start
        return head + (added.ready.get(end + 11) or added.end(end + 11))
    return None


def without_opt(message: bytes, layout: Layout) -> bytes:
    """The message without its OPT, for a client that sent none (RFC 6891, section 7), wherever it stands.

    A signed message is returned as it is.  An RCODE above 15 has no place but in OPT (RFC 6891, section 6.1.3), and
    becomes SERVFAIL.  Raises :class:`~dot_proto.MessageError` where OPT stands before a record whose names cannot be
    read.
    """
    if layout.opt is None or layout.is_signed:
        return message
    last_of_flags = message[3]
    if message[layout.opt[0] + 5]:
        last_of_flags = last_of_flags & 0xF0 | SERVFAIL
    bare = without(message, *layout.opt)
    return bare[:3] + bytes([last_of_flags]) + bare[4:10] + _additionals(message, -1) + bare[12:]


def _additionals(message: bytes, count: int) -> bytes:
    """The count of additional records, so many added (RFC 1035, section 4.1.1)."""
    return _HALF.pack((message[10] << 8 | message[11]) + count)


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


def least_keepalive(options: list[bytes]) -> bytes | None:
    """Which of a server's keepalive options counts, in whatever order they stand; ``None``: none has two octets.

    RFC 7828 does not foresee two.  Who goes at the earlier of two times keeps both.
    """
    return min((data for data in options if len(data) == 2), default=None)
