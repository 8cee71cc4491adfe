"""A query in octets, exactly as the arguments say: the connection adds nothing, so that ``+qr`` can show it."""

from __future__ import annotations

import os
import struct
from typing import Final

import dns.flags
import dns.name

from dot_proto import MAX_MESSAGE
from dot_proto._edns import padding_length
from dot_proto._message import HEADER, TYPE_OPT
from dot_proto._plain import OPT_FIXED

from ._errors import UsageError
from ._options import RANDOM_COOKIE
from .edns_text import COOKIE, ECS, EXPIRE, KEEPALIVE, NSID, PADDING
from .query_arguments import Message, QueryArguments
from .values import CLIENT_COOKIE

Z: Final = 0x40
"The bit of the header that is reserved (RFC 1035, section 4.1.1)."

_OPTION: Final = struct.Struct("!HH")


def build(arguments: QueryArguments) -> bytes:
    """The query, padded, and signed where there is a key; under an id that nobody can foresee.

    Raises :class:`UsageError` for one that is too long.
    """
    message = arguments.message
    question = dns.name.from_text(arguments.name).to_wire() or b""
    question += struct.pack("!HH", arguments.rdtype, arguments.rdclass)
    number = int.from_bytes(os.urandom(2))
    header = HEADER.pack(number, _flags(message), 1, 0, 0, 0 if message.edns is None else 1)
    if message.key is None:
        return header + question + _opt(message, len(header) + len(question), 0)
    from . import tsig  # here alone: few queries are signed

    signature = len(tsig.signature_of(header + question, message.key))
    unsigned = header + question + _opt(message, len(header) + len(question), signature)
    return tsig.sign(unsigned, message.key)


def _flags(message: Message) -> int:
    bits = {
        dns.flags.AA: message.aa,
        dns.flags.TC: message.tc,
        dns.flags.RD: message.rd,
        dns.flags.RA: message.ra,
        Z: message.z,
        dns.flags.AD: message.ad,
        dns.flags.CD: message.cd,
    }
    return message.opcode << 11 | sum(int(bit) for bit, is_set in bits.items() if is_set)


def _opt(message: Message, before: int, after: int) -> bytes:
    """OPT; ``before`` and ``after`` it the message has so many octets, which padding counts (RFC 8467, section 4)."""
    if message.edns is None:
        return b""
    flags = message.ednsflags | (dns.flags.DO if message.dnssec else 0)
    options = _options(message)
    size = before + OPT_FIXED + sum(_OPTION.size + len(value) for _, value in options) + after
    if size > MAX_MESSAGE:
        raise UsageError(f"the options make a query of {size} octets; a message has {MAX_MESSAGE} at most")
    data = b"".join(_OPTION.pack(code, len(value)) + value for code, value in options)
    if message.padding is not None:
        length = padding_length(size, message.padding)
        if length is not None:
            data += _OPTION.pack(PADDING, length) + bytes(length)
    return struct.pack("!BHHBBHH", 0, TYPE_OPT, message.payload, 0, message.edns, flags, len(data)) + data


def _options(message: Message) -> list[tuple[int, bytes]]:
    options: list[tuple[int, bytes]] = []
    if message.nsid:
        options.append((NSID, b""))
    if message.subnet is not None:
        options.append((ECS, message.subnet))
    if message.expire:
        options.append((EXPIRE, b""))
    if message.cookie is not None:
        drawn = os.urandom(CLIENT_COOKIE) if message.cookie == RANDOM_COOKIE else message.cookie
        options.append((COOKIE, drawn))
    if message.keepalive:
        options.append((KEEPALIVE, b""))
    return [*options, *message.options]
