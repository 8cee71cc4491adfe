"""Every limit and every default, with its unit and its source.

A value that makes no sense is refused when the configuration is made, with
:class:`~dot_proto.LocalProtocolError`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ._edns import MAX_KEEPALIVE, QUERY_BLOCK, RESPONSE_BLOCK
from ._framing import MAX_MESSAGE
from ._message import NOTIFY, QUERY, UPDATE
from .arguments import check_flag, check_seconds, check_whole, collected, is_number, shown
from .errors import LocalProtocolError


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfiguration:
    """How a client behaves on one connection."""

    query_timeout: float = 5.0
    "Seconds until an unanswered query has timed out, unless the query says otherwise; as resolv.conf(5)."

    idle_timeout: float = 10.0
    "Seconds without anything outstanding until the client closes (RFC 7766, section 6.2.3)."

    max_idle_timeout: float = 300.0
    "Seconds: the longest idle timeout of a server's (RFC 7828) that is honoured."

    close_timeout: float = 2.0
    "Seconds that a graceful close waits for answers still owed."

    max_in_flight: int = 1024
    "Queries pending, or abandoned with their ids still taken (RFC 7766, section 6.2.1); 1 to 65536."

    max_queries: int = 1 << 23
    """Queries on one connection; behind the last one it is drained and ends; 1 to 16777216.  One key of TLS is good for
    some 2^24.5 records with AES-GCM (RFC 8446, section 5.5), and Python's ssl cannot change it in mid-connection."""

    max_unsolicited: int = 64
    "Messages in a row that answer nothing; one more ends the connection (RFC 5936, section 2.2.1, says discard)."

    max_silent_timeouts: int | None = 3
    """Queries timed out one after the other, without one octet from the server in between, after which the connection
    is given up; ``None``: never.  Queries that time out together count once.  With the default ``query_timeout`` a
    server is so taken for dead after 15 s of silence, as long as resolv.conf(5) asks three servers."""

    silence_timeout: float = 2.0
    "Seconds that the server must have been silent at the least before that, however short the queries' own time is."

    padding_block: int | None = QUERY_BLOCK
    "Octets: queries are padded to a multiple of this (RFC 8467, section 4.1); ``None``: not padded."

    keepalive: bool = True
    "Whether queries carry an empty edns-tcp-keepalive option (RFC 7828, section 3.2.1)."

    def __post_init__(self) -> None:
        at_least(0.0, query_timeout=self.query_timeout, close_timeout=self.close_timeout)
        at_least(0.0, idle_timeout=self.idle_timeout, max_idle_timeout=self.max_idle_timeout)
        between(1, 65_536, max_in_flight=self.max_in_flight)
        between(1, 1 << 24, max_queries=self.max_queries)
        at_least(0, max_unsolicited=self.max_unsolicited)
        at_least(0.0, silence_timeout=self.silence_timeout)
        at_least(1, max_silent_timeouts=1 if self.max_silent_timeouts is None else self.max_silent_timeouts)
        _block(self.padding_block)
        check_flag("keepalive", self.keepalive)

    @property
    def longest_silence(self) -> float:
        """Seconds without an octet from the server, after which it is dead, though nobody has waited for a time-out.

        A program that cancels what it asks (``asyncio.timeout``) would otherwise go on asking a dead server.  As long
        as :attr:`max_silent_timeouts` queries with their default time; infinity where that is ``None``.
        """
        if self.max_silent_timeouts is None:
            return math.inf
        return max(self.silence_timeout, self.max_silent_timeouts * self.query_timeout)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfiguration:
    """How a server behaves on one connection."""

    idle_timeout: float = 10.0
    """Seconds without a whole query, and without anything outstanding, that a client is told it may stay.

    It is told less where less is left of :attr:`max_duration`."""

    idle_grace: float = 2.0
    "Seconds added before the server itself closes, so that the client closes first (RFC 7828, section 3.3.2)."

    close_timeout: float = 5.0
    "Seconds that a graceful close waits for the responses still owed."

    max_outstanding: int = 1024
    "Queries received and not yet answered; at this many :attr:`ServerConnection.wants_data` turns false."

    max_outstanding_octets: int = 1 << 20
    "Octets of queries received and not yet answered; at this many :attr:`ServerConnection.wants_data` turns false."

    hard_outstanding: int = 8192
    "Queries not yet answered beyond which the engine answers SERVFAIL by itself."

    max_queries: int | None = 1 << 23
    """Queries on one connection until the client is asked to go (RFC 9210, section 4.2); ``None``: any number, perhaps
    more than one key of TLS is good for: see :attr:`ClientConfiguration.max_queries`."""

    max_duration: float | None = None
    "Seconds that a connection may last; ``None``: any length (RFC 9210, section 4.2)."

    max_unsolicited: int = 64
    "Messages in a row that are no queries; one more ends the connection."

    padding_block: int | None = RESPONSE_BLOCK
    "Octets: responses to padded queries are padded to a multiple of this; ``None``: not padded, by handlers neither."

    opcodes: frozenset[int] = frozenset({QUERY, NOTIFY, UPDATE})
    "Opcodes that reach the caller; the engine answers NOTIMP to all others (RFC 1035, section 4.1.1)."

    def __post_init__(self) -> None:
        at_least(0.0, idle_grace=self.idle_grace, close_timeout=self.close_timeout)
        between(0.0, MAX_KEEPALIVE, idle_timeout=self.idle_timeout)
        at_least(1, max_outstanding=self.max_outstanding)
        at_least(1, max_outstanding_octets=self.max_outstanding_octets)
        at_least(self.max_outstanding, hard_outstanding=self.hard_outstanding)
        at_least(1, max_queries=1 if self.max_queries is None else self.max_queries)
        at_least(0.0, max_duration=0.0 if self.max_duration is None else self.max_duration)
        at_least(0, max_unsolicited=self.max_unsolicited)
        _block(self.padding_block)
        opcodes = collected("opcodes", self.opcodes, int, "a set of opcodes, whole numbers from 0 to 15")
        for opcode in opcodes:
            between(0, 15, opcodes=opcode)
        object.__setattr__(self, "opcodes", frozenset(opcodes))


def at_least(minimum: float, **values: float) -> None:
    """Refuse settings, by their names, that are no such numbers or are less."""
    for name, value in values.items():
        _check_number(name, value, minimum)
        if not value >= minimum:
            raise LocalProtocolError(f"{name} is {shown(value)}; it must be at least {minimum}")


def between(minimum: float, maximum: float, **values: float) -> None:
    """Refuse settings, by their names, that are no such numbers or lie outside."""
    for name, value in values.items():
        _check_number(name, value, minimum)
        if not minimum <= value <= maximum:
            raise LocalProtocolError(f"{name} is {shown(value)}; it must be from {minimum} to {maximum}")


def _check_number(name: str, value: float, minimum: float) -> None:
    """Of the same kind as its minimum: a time, which need not be whole, or a count.  Its range is seen to behind."""
    if isinstance(minimum, int):
        check_whole(name, value)
    elif not is_number(value):
        check_seconds(name, value)


def _block(octets: int | None) -> None:
    between(1, MAX_MESSAGE, padding_block=1 if octets is None else octets)
