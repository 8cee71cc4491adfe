"""The addresses of a name, out of DNS messages: what is asked for them, and what responses say; no I/O.

It reads A, AAAA, PTR and CNAME and nothing else, and needs no library: this is on the way of every connection that a
program opens by name.  For all other types there is dnspython.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from dot_proto import DoTError, LocalProtocolError, MessageError, make_query
from dot_proto._message import HEADER, NOERROR, NXDOMAIN, QR, question_end, rcode, skip_name
from dot_proto.arguments import collected, shown
from dot_proto.query import CLASS_IN, TYPES

from .errors import NoAddressError

MAX_CNAMES: Final = 16
"CNAME records that are followed from a name to its addresses."

MAX_POINTERS: Final = 127
"Compression pointers that are followed in one name, which has no more labels than that (RFC 1035, section 2.3.4)."

FAMILIES: Final = {"A": socket.AF_INET, "AAAA": socket.AF_INET6}
"By the type of the records: the family of the addresses in them."

_RECORD: Final = struct.Struct("!HHIH")
"Type, class, TTL and length of the data (RFC 1035, section 4.1.3)."

_SIZES: Final = {"A": 4, "AAAA": 16}
"Octets (RFC 1035, section 3.4.1; RFC 3596, section 2.2)."

_FAILURES: Final = {NOERROR: "it has none", NXDOMAIN: "the name does not exist"}
"For people, by RCODE."


@dataclass(frozen=True, slots=True)
class Records:
    """What a response says of a name: the records of one type at the end of its chain of CNAME records."""

    rcode: int
    "The RCODE of 12 bits."
    name: str
    "The last name of the chain, in lower case and without the final dot: the canonical one."
    values: tuple[str, ...]
    "Addresses, or names; none where there are no such records."
    ttl: int
    "Seconds that all of it may be kept: the smallest TTL on the way; 0 where there are no records."


def records_in(response: bytes, rdtype: str) -> Records:
    """Read the answer section of a response to a query for ``rdtype``: A, AAAA or PTR.

    Only that section counts, only the Internet class, and only records whose owner is the name that was asked for, or
    one that it is an alias of; none of a response that reports an error.  Names are compared without case.  Raises
    :class:`~dot_proto.MessageError`.
    """
    if len(response) < HEADER.size or not response[2] << 8 & QR:
        raise MessageError("this is no response")
    behind_question = question_end(response)
    if behind_question == HEADER.size:
        raise MessageError("the response does not repeat the question (RFC 1035, section 4.1.2)")
    names = _Names(response)
    name, ttl = names.at(HEADER.size), 2**31
    aliases, values = _answers(response, names, behind_question, rdtype)
    for _ in range(MAX_CNAMES):
        if name in values or name not in aliases:
            break
        name, alias_ttl = aliases[name]
        ttl = min(ttl, alias_ttl)
    code = rcode(response)
    found = values.get(name, {}) if code == NOERROR else {}
    return Records(code, name, tuple(found), min([ttl, *found.values()]) if found else 0)


class AddressQueries:
    """The queries for the addresses of a name, and what comes of them.

    ``types`` are "A" and "AAAA", in the order in which the addresses are wanted.  Raises
    :class:`~dot_proto.LocalProtocolError` and its :class:`~dot_proto.MessageError` for what cannot be asked.
    """

    def __init__(self, name: str, types: Iterable[str] = ("A", "AAAA")) -> None:
        self._name = name
        self._types = collected("types", types, str, 'a list of "A" and "AAAA"')
        for rdtype in self._types:
            if rdtype not in FAMILIES:
                raise LocalProtocolError(f'types must be a list of "A" and "AAAA", but {shown(rdtype)} is in it')
        if not self._types:
            raise LocalProtocolError('types is empty; give "A", "AAAA" or both')
        self.messages: Final = [make_query(name, rdtype) for rdtype in self._types]
        "To be asked, all together."

    def read(self, responses: Mapping[int, bytes | DoTError]) -> tuple[list[str], float]:
        """The addresses, and the seconds that they may be kept; ``responses`` are by the position of their messages.

        Where one type has addresses, the failure of the other does not count.  Raises what has failed, and
        :class:`~dot_io.errors.NoAddressError`.
        """
        addresses: list[str] = []
        ttls: list[int] = []
        failure: DoTError | None = None
        code = NOERROR
        for position, rdtype in enumerate(self._types):
            response = responses[position]
            try:
                if isinstance(response, DoTError):
                    raise response
                found = records_in(response, rdtype)
            except DoTError as error:
                failure = failure or error
                continue
            addresses += found.values
            ttls += [found.ttl] if found.values else []
            code = code or found.rcode
        if addresses:
            return addresses, float(min(ttls))
        if failure is not None and code == NOERROR:
            raise failure
        because = _FAILURES.get(code, f"the server answered with RCODE {code}")
        raise NoAddressError(f"no address of {shown(self._name)}: {because}", rcode=code)


def reverse_name(address: str) -> str:
    """The name that has the names of an address (RFC 1035, section 3.5; RFC 3596, section 2.5)."""
    import ipaddress

    return ipaddress.ip_address(address.partition("%")[0]).reverse_pointer


_Values = dict[str, dict[str, int]]


def _answers(response: bytes, names: _Names, offset: int, rdtype: str) -> tuple[dict[str, tuple[str, int]], _Values]:
    """By owner: the name of which it is an alias, and its records, each with their TTLs."""
    aliases: dict[str, tuple[str, int]] = {}
    values: _Values = {}
    for _ in range(response[6] << 8 | response[7]):
        owner, start = offset, skip_name(response, offset)
        if start + _RECORD.size > len(response):
            raise MessageError(f"octet {owner}: the message ends inside a record")
        kind, rdclass, ttl, length = _RECORD.unpack_from(response, start)
        data, offset = start + _RECORD.size, start + _RECORD.size + length
        if offset > len(response):
            raise MessageError(f"octet {owner}: the message ends inside the data of a record")
        if rdclass != CLASS_IN or kind not in (TYPES[rdtype], TYPES["CNAME"]):
            continue
        if ttl >> 31:
            ttl = 0  # RFC 2181, section 8
        if kind == TYPES["CNAME"]:
            aliases.setdefault(names.at(owner), (names.filling(data, offset), ttl))
        else:
            value = names.filling(data, offset) if rdtype == "PTR" else _address(response[data:offset], rdtype)
            values.setdefault(names.at(owner), {}).setdefault(value, ttl)
    return aliases, values


def _address(data: bytes, rdtype: str) -> str:
    if len(data) != _SIZES[rdtype]:
        raise MessageError(f"an address of {len(data)} octets in a record of type {rdtype}")
    return socket.inet_ntop(FAMILIES[rdtype], data)


class _Names:
    """The names in a message, each read once: a long message has room for thousands that begin at one offset.

    A name is in lower case, with no final dot; what is no letter, digit, hyphen or underscore is written as RFC 1035,
    section 5.1, has it.
    """

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._known: dict[int, tuple[str, int, int]] = {}
        "By offset: the text, its octets on the wire without the last one, and the pointers that lead through it."

    def at(self, offset: int) -> str:
        """The name at an offset where ``skip_name`` has been, or goes before."""
        return self._read(offset, MAX_POINTERS)[0]

    def filling(self, offset: int, end: int) -> str:
        """The name that is all the data of a record."""
        if skip_name(self._message, offset) != end:
            raise MessageError(f"octet {offset}: the name does not fill the data of its record")
        return self.at(offset)

    def _read(self, start: int, pointers_left: int) -> tuple[str, int, int]:
        known = self._known.get(start)
        if known is not None:
            return known
        message, offset, labels, size, pointers = self._message, start, list[str](), 0, 0
        while 0 < (length := message[offset]) < 64:
            labels.append("".join(map(_CHARACTERS.__getitem__, message[offset + 1 : offset + 1 + length])))
            size += 1 + length
            offset += 1 + length
        if length:
            # Pointers lead backwards, so this ends; but there is room for thousands of pointers to pointers.
            rest, octets, pointers = "", 0, MAX_POINTERS
            if pointers_left:
                target = (length & 63) << 8 | message[offset + 1]
                skip_name(message, target)
                rest, octets, pointers = self._read(target, pointers_left - 1)
            pointers += 1
            if pointers > MAX_POINTERS:
                raise MessageError(f"octet {offset}: a name of more than {MAX_POINTERS} compression pointers")
            size += octets
            labels += [rest] if rest else []
        if size > 254:
            raise MessageError(f"octet {start}: a name of more than 255 octets")
        known = self._known[start] = ".".join(labels), size, pointers
        return known


def _character(octet: int) -> str:
    character = chr(octet).lower() if octet < 128 else ""
    return character if character.isalnum() or character in ("-", "_") else f"\\{octet:03d}"


_CHARACTERS: Final = tuple(map(_character, range(256)))
"By octet; made once, since names are half of what reading a response takes."
