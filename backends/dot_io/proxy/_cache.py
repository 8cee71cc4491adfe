"""Answers that are kept for as long as they say; no I/O, and time is a number.

What is kept is the upstream's response without its OPT.  Each TTL in it goes down with its age.  Records of one type in
one section get the least of their TTLs, so that those of one set have the same (RFC 2181, section 5.2): a TTL is never
raised.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from typing import Final, NamedTuple

from dot_proto import MessageError
from dot_proto._message import HEADER, NOERROR, NXDOMAIN, OPTION_ECS, SERVFAIL, TYPE_OPT, walk
from dot_proto._removal import without
from dot_proto.query import TYPES

from ._records import ANSWER, AUTHORITY, records

MAX_TTL: Final = 86_400
"Seconds that an answer is kept at the most."

MAX_NEGATIVE_TTL: Final = 10_800
"Seconds that it is kept at the most that there is nothing (RFC 2308, section 5)."

SERVFAIL_TTL: Final = 2
"Seconds that a failure is kept: at least 1, and no more than 5 (RFC 9520, section 3.2)."

OVERHEAD: Final = 500
"Octets that an entry costs beside its octets on CPython 3.11, roughly."

_TTL: Final = struct.Struct("!I")


class _Entry(NamedTuple):
    message: bytes
    ttls: tuple[tuple[int, int], ...]
    "Offset and seconds of each TTL."
    kept_at: float
    lifetime: int


class Cache:
    """Responses by whatever the caller takes for one question; the least recently used ones go first."""

    def __init__(self, max_entries: int, max_octets: int) -> None:
        self.size: Final = (max_entries, max_octets)
        "Entries and octets at the most."
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._octets = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, *, now: float) -> bytes | None:
        """The response, with TTLs of at least 1, or ``None``."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        age = int(now - entry.kept_at)
        if age >= entry.lifetime:
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        if not age:
            return entry.message
        message = bytearray(entry.message)
        for offset, ttl in entry.ttls:
            _TTL.pack_into(message, offset, ttl - age)
        return bytes(message)

    def put(self, key: bytes, response: bytes, *, now: float) -> None:
        """Keep a response, if it may be kept."""
        made = _entry(response, now)
        if made is None:
            return
        if key in self._entries:
            self._remove(key)
        self._entries[key] = made
        self._octets += _cost(key, made)
        max_entries, max_octets = self.size
        while len(self._entries) > max_entries or self._octets > max_octets:
            self._remove(next(iter(self._entries)))

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
        self._octets = 0

    def _remove(self, key: bytes) -> None:
        self._octets -= _cost(key, self._entries.pop(key))


def _cost(key: bytes, entry: _Entry) -> int:
    return len(key) + len(entry.message) + OVERHEAD


def lifetime(response: bytes) -> int:
    """Seconds that a response may be kept; 0: not at all."""
    entry = _entry(response, 0.0)
    return 0 if entry is None else entry.lifetime


def _entry(response: bytes, now: float) -> _Entry | None:
    """What is kept of a response; ``None`` for one that must not be."""
    layout = walk(response)
    rcode, is_cut = response[3] & 15, response[2] & 2
    if layout.problem is not None or layout.is_signed or layout.question_end == HEADER.size or is_cut:
        return None
    if rcode not in (NOERROR, NXDOMAIN, SERVFAIL):
        return None
    message = response
    if layout.opt is not None:
        # An extended RCODE, or an answer for one network alone (RFC 7871, section 7.3).
        if response[layout.opt[0] + 5] or any(data[3:4] != b"\0" for data in layout.values(OPTION_ECS)):
            return None
        try:
            message = without(response, *layout.opt)
        except MessageError:
            return None
        count = int.from_bytes(message[10:12]) - 1
        message = message[:10] + count.to_bytes(2) + message[12:]
    if rcode == SERVFAIL:
        return _Entry(message[:6] + bytes(6) + message[12 : layout.question_end], (), now, SERVFAIL_TTL)
    ttls = _ttls(message, layout.question_end, rcode)
    if not ttls:
        return None
    least = min(ttls.values())
    if least == 0:
        return None
    kept = bytearray(message)
    for offset, ttl in ttls.items():
        _TTL.pack_into(kept, offset, ttl)
    return _Entry(bytes(kept), tuple(ttls.items()), now, least)


def _ttls(message: bytes, question_end: int, rcode: int) -> dict[int, int]:
    """The TTLs as they are kept, by their offsets; none where nothing says how long."""
    kept = [each for each in records(message, question_end) if each.type != TYPE_OPT]
    rdtype = int.from_bytes(message[question_end - 4 : question_end - 2])
    is_positive = rcode == NOERROR and any(each.section == ANSWER and each.type == rdtype for each in kept)
    least: dict[tuple[int, int], int] = {}
    for each in kept:
        ttl = min(each.ttl, MAX_TTL) if each.ttl < 1 << 31 else 0  # RFC 2181, section 8
        if not is_positive:
            ttl = min(ttl, MAX_NEGATIVE_TTL)
            if each.section == AUTHORITY and each.type == TYPES["SOA"]:
                ttl = min(ttl, *_TTL.unpack_from(message, each.end - 4))  # MINIMUM (RFC 2308, section 5)
        kind = each.section, each.type
        least[kind] = min(least.get(kind, ttl), ttl)
    if not is_positive and (AUTHORITY, TYPES["SOA"]) not in least:
        return {}
    return {each.ttl_offset: least[each.section, each.type] for each in kept}
