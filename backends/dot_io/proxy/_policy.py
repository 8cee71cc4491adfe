"""What becomes of a client's message, and of an upstream's response: no I/O, no clock.

OPT is hop by hop (RFC 6891, section 6.1.1): the client's is read, and both the upstream's query and the client's answer
get one that is made here.  Of the options in it those pass that are listed here, and no others.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

from dot_proto import MAX_MESSAGE, MessageError
from dot_proto._edns import encode_keepalive
from dot_proto._event import event
from dot_proto._message import (
    BADVERS,
    FORMERR,
    HEADER,
    NOERROR,
    NOTIMP,
    OPTION_ECS,
    OPTION_KEEPALIVE,
    OPTION_NSID,
    QUERY,
    edns_version,
    opcode_of,
    walk,
)
from dot_proto._plain import OPT_FIXED, plain_question_end
from dot_proto._removal import without
from dot_proto.query import TYPES, encode_name

from ._names import local_answer, record
from ._private import is_under
from ._responses import EVERYBODYS, ClientQuery, opt_record, option
from .configuration import (
    MIN_UDP_SIZE,
    REFUSED,
    AnyQueries,
    ClientSubnet,
    PrivateAnswers,
    ProxyConfiguration,
    SpecialNames,
)

_TRANSFERS: Final = frozenset({251, TYPES["AXFR"]})
"IXFR and AXFR: answered by several messages, and by servers that know the client."

_HINFO: Final = 13
"The type of the record that answers ANY (RFC 8482, section 4.2)."

_HINFO_DATA: Final = b"\7RFC8482\0"

_HINFO_TTL: Final = 3600
"Seconds: as long as a host's usual records."

_NO_SUBNET: Final = option(OPTION_ECS, bytes([0, 1, 0, 0]))
"The prefix of length 0 (RFC 7871, section 7.1.2), said of IPv4."


class DropReason(enum.Enum):
    """Why a message was not answered; stable codes for metrics."""

    SHORT = "short"
    "It is shorter than a header."
    RESPONSE = "response"
    "It is a response: who answers one begins a game that does not end."
    SOURCE_PORT = "source-port"
    "It came from port 0, or from a server's port to a server's port."
    DENIED = "denied"
    "Its client is in none of the networks that are answered."
    EQUAL = "equal"
    "As many equal questions wait as may."
    OVERLOAD = "overload"
    "It was the oldest of more queries than may wait."
    CONNECTION = "connection"
    "A TCP connection more than may be, or one from a client that is in none of the networks."
    NOT_SENT = "not-sent"
    "The system did not take the answer."


@event
class Drop:
    """Say nothing."""

    reason: DropReason
    "Why."


@event
class Reply:
    """Answer this, without asking anybody."""

    message: bytes
    "The response, as it is sent to the client."
    query: ClientQuery
    "What the client asked."


@event
class Forward:
    """Ask an upstream."""

    message: bytes
    "The query for the upstream; its id is drawn by the engine."
    query: ClientQuery
    "What the client asked; it makes the response."
    may_be_kept: bool
    "Whether others who ask the same may get the same answer."


Decision = Drop | Reply | Forward
"What becomes of a client's message."


class Policy:
    """Decides on each message of a client; ``clears_ad``: an upstream's word that it has validated counts nothing."""

    def __init__(self, configuration: ProxyConfiguration, *, clears_ad: bool = False) -> None:
        self._configuration = configuration
        self._clears_ad = clears_ad or not configuration.trust_ad
        self._is_local = configuration.special_names is SpecialNames.LOCAL
        self._strips_private = configuration.private_answers is PrivateAnswers.STRIP
        self._private_names = frozenset(encode_name(name).lower() for name in configuration.private_names)
        self._keepalive = option(OPTION_KEEPALIVE, encode_keepalive(configuration.tcp_idle_timeout))

    def receive(self, message: bytes, *, over_udp: bool) -> Decision:
        """What becomes of a client's message, of any octets."""
        if len(message) < HEADER.size:
            return Drop(DropReason.SHORT)
        if message[2] & 0x80:
            return Drop(DropReason.RESPONSE)
        end = plain_question_end(message)
        if end and len(message) <= end + OPT_FIXED and not message[2] & 0x78:
            # As nearly all queries are: a question alone, or OPT without options behind it.
            query = self._client_query(message, end, message[end:], over_udp=over_udp)
            if query.has_opt and message[end + 6]:
                return Reply(query.error(BADVERS), query)
            return self._local(query, over_udp=over_udp) or Forward(self._asked(message[:end], query, ()), query, True)
        return self._receive_other(message, over_udp=over_udp)

    def _receive_other(self, message: bytes, *, over_udp: bool) -> Decision:
        """A message with options, with other records, or with something wrong."""
        layout = walk(message)
        opt = b"" if layout.opt is None else message[layout.opt[0] : layout.opt[1]]
        query = self._client_query(message, layout.question_end, opt, over_udp=over_udp)
        query.passing, query.options = self._options(layout.options, over_udp=over_udp)
        if opcode_of(message) != QUERY:
            return Reply(query.error(NOTIMP), query)
        if layout.problem is not None or not query.question:
            return Reply(query.error(FORMERR), query)
        if layout.opt is not None and edns_version(message, layout):
            return Reply(query.error(BADVERS), query)
        if (local := self._local(query, over_udp=over_udp)) is not None:
            return local
        if layout.is_signed:
            return Forward(message, query, False)
        try:
            bare = message if layout.opt is None else without(message, *layout.opt)
        except MessageError:  # a name behind OPT that cannot be read
            return Reply(query.error(FORMERR), query)
        passing = self._passing(layout.options)
        return Forward(self._asked(bare, query, passing), query, not passing and len(bare) == layout.question_end)

    def _client_query(self, message: bytes, end: int, opt: bytes, *, over_udp: bool) -> ClientQuery:
        """A query without options; ``opt`` is the OPT record of the message, or nothing."""
        if not over_udp:
            limit = MAX_MESSAGE
        elif not opt:
            limit = MIN_UDP_SIZE
        else:
            limit = min(max(opt[3] << 8 | opt[4], MIN_UDP_SIZE), self._configuration.max_udp_size)
        is_dnssec_ok = bool(opt) and opt[7] >= 0x80
        return ClientQuery(
            message,
            end,
            over_udp=over_udp,
            limit=limit,
            has_opt=bool(opt),
            is_dnssec_ok=is_dnssec_ok,
            clears_ad=self._clears_ad,
        )

    def _options(self, options: Sequence[tuple[int, bytes]], *, over_udp: bool) -> tuple[frozenset[int], bytes]:
        """What the client's options make of its response: options of the upstream's that it gets, and those of ours."""
        codes = [code for code, _ in options]
        # Keepalive is of TCP alone (RFC 7828, section 3.2.1).
        own = self._keepalive if OPTION_KEEPALIVE in codes and not over_udp else b""
        return EVERYBODYS.union([code for code, _ in self._passing(options)]), own

    def _local(self, query: ClientQuery, *, over_udp: bool) -> Reply | None:
        """The answer to what is not for upstreams; ``None``: an upstream is to be asked."""
        rdtype, any_queries = query.rdtype, self._configuration.any
        if self._is_local and (local := local_answer(query.question)):
            return Reply(query.local(local.rcode, answer=local.answer, authority=local.authority), query)
        if rdtype in _TRANSFERS:
            return Reply(query.error(NOTIMP), query)
        if rdtype == TYPES["ANY"]:
            if any_queries is AnyQueries.REFUSE:
                return Reply(query.error(REFUSED), query)
            if any_queries is AnyQueries.HINFO and over_udp:
                return Reply(query.local(NOERROR, answer=record(_HINFO, query.rdclass, _HINFO_TTL, _HINFO_DATA)), query)
        if self._strips_private and not is_under(query.question, self._private_names):
            query.strips_private = True
        return None

    def _asked(self, bare: bytes, query: ClientQuery, passing: Sequence[tuple[int, bytes]]) -> bytes:
        """The query for an upstream: with an id of 0, which says nothing of the client's, and with OPT of ours.

        ``bare`` is the client's without its OPT, which is still counted in the header.
        """
        options = b"".join([option(code, data) for code, data in passing])
        if self._configuration.client_subnet is ClientSubnet.ZERO and OPTION_ECS not in dict(passing):
            options += _NO_SUBNET
        header = bare[2:12]
        if not query.has_opt:
            if not options:
                return b"\0\0" + bare[2:]
            header = bare[2:10] + ((bare[10] << 8 | bare[11]) + 1).to_bytes(2)
        return b"\0\0" + header + bare[12:] + opt_record(0, query.opt_flags, options)

    def _passing(self, options: Sequence[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """The client's options that an upstream gets, and whose answers the client gets."""
        return [each for each in options if self._passes(*each)]

    def _passes(self, code: int, data: bytes) -> bool:
        if code == OPTION_NSID:
            return self._configuration.nsid
        if code == OPTION_ECS:
            # A prefix of length 0 asks that nothing be told (RFC 7871, section 7.1.2): to leave it out would not ask.
            asks_for_nothing = len(data) == 4 and data[2:] == b"\0\0"
            return asks_for_nothing or self._configuration.client_subnet is ClientSubnet.FORWARD
        return False
