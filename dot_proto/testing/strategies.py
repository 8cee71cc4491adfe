"""Hypothesis strategies for what DNS over TLS carries: names, messages, streams, their cuts and their damage.

Messages are ``bytes`` as they are on the wire, without a length prefix unless said.  What is drawn shrinks to
what reads well: the root name, type A, id 0, no EDNS, few messages, one piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from hypothesis import strategies as st

from .._framing import MAX_MESSAGE
from .._message import question_end
from ..authentication import AuthenticationPolicy
from ..configuration import ClientConfiguration, ServerConfiguration
from ..errors import MessageError
from ..pins import DIGEST_LENGTH, Pin
from ..query import MAX_LABEL, TYPES, encode_name
from ..resolver.upstream import Upstream
from .messages import (
    COOKIE,
    EDE,
    KEEPALIVE,
    PADDING,
    QR,
    RD,
    TXT,
    A,
    cut_at,
    message,
    opt,
    option,
    pieces,
    question,
    record,
    response_to,
    stream_of,
)

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
"What labels are made of in text; they shrink to zeros."

MAX_TEXT = 253
"Octets of a name in text, without the final dot (RFC 1035, section 2.3.4: 255 on the wire)."

_TYPES = sorted(TYPES.values())


# Names and questions


def labels() -> st.SearchStrategy[str]:
    """Labels of 1 to 63 letters, digits, hyphens and underscores; most are short."""
    short = st.text(LETTERS, min_size=1, max_size=8)
    return short | st.text(LETTERS, min_size=1, max_size=MAX_LABEL)


def names() -> st.SearchStrategy[str]:
    """Names in text, absolute, as :func:`~dot_proto.make_query` takes them: the root to 253 octets."""
    some_labels = st.lists(labels(), max_size=8).map(lambda labels: ".".join([*labels, ""]) or ".")
    return some_labels.filter(lambda name: len(name) <= MAX_TEXT + 1) | st.integers(64, MAX_TEXT).map(long_name)


def long_name(length: int) -> str:
    """A name of so many octets in text, without the final dot, whose labels are as long as can be."""
    name = ("a" * MAX_LABEL + ".") * 4
    cut = name[:length]
    return (cut[1:] + "a" if cut.endswith(".") else cut) + "."


def wire_names() -> st.SearchStrategy[bytes]:
    """Names on the wire, uncompressed, whose labels may hold any octet (RFC 2181, section 11)."""
    any_octets = st.lists(st.binary(min_size=1, max_size=MAX_LABEL), max_size=3)
    encoded = any_octets.map(lambda labels: b"".join(bytes([len(label)]) + label for label in [*labels, b""]))
    return names().map(encode_name) | encoded


def questions(names: st.SearchStrategy[bytes] | None = None) -> st.SearchStrategy[bytes]:
    """The octets of a question: name, type and class (RFC 1035, section 4.1.2)."""
    kinds = st.sampled_from(_TYPES) | st.integers(0, 0xFFFF)
    classes = st.sampled_from([1, 3, 255])
    return st.builds(question, wire_names() if names is None else names, kinds, classes)


def message_ids() -> st.SearchStrategy[int]:
    """Ids of messages, 0 to 65535; small ones are likely, so that some meet."""
    return st.integers(0, 3) | st.integers(0, 0xFFFF)


# EDNS


def edns_options(*, well_formed: bool = True) -> st.SearchStrategy[bytes]:
    """One EDNS option as a query may carry it; else also a server's, unknown ones, and lengths that lie."""
    fair = [
        st.just(option(KEEPALIVE)),
        st.integers(0, 64).map(lambda size: option(PADDING, bytes(size))),
        st.binary(min_size=8, max_size=8).map(lambda cookie: option(COOKIE, cookie)),
        st.builds(option, st.integers(0xFDE9, 0xFFFE), st.binary(max_size=16)),
    ]
    foul = [
        st.binary(max_size=4).map(lambda data: option(KEEPALIVE, data)),
        st.binary(min_size=2, max_size=8).map(lambda data: option(EDE, data)),
        st.builds(option, st.integers(0, 0xFFFF), st.binary(max_size=16)),
        st.binary(min_size=1, max_size=6),
    ]
    return st.one_of(fair if well_formed else [*fair, *foul])


def opt_records(*, well_formed: bool = True) -> st.SearchStrategy[bytes]:
    """OPT records of up to three options (RFC 6891, section 6.1.2), each kind once if they are well formed."""
    options = st.lists(
        edns_options(well_formed=well_formed),
        max_size=3,
        unique_by=(lambda each: each[:2]) if well_formed else None,
    )
    versions = st.just(0) if well_formed else st.sampled_from([0, 0, 1, 255])
    sizes, flags = st.sampled_from([1232, 512, 4096, 0, 65_535]), st.sampled_from([0, 0x8000])
    return st.builds(opt_record, options=options, size=sizes, version=versions, flags=flags)


def opt_record(options: Sequence[bytes], size: int, version: int, flags: int) -> bytes:
    """What :func:`~dot_proto.testing.messages.opt` makes, by arguments that Hypothesis can print."""
    return opt(*options, size=size, version=version, flags=flags)


# Messages


def queries(
    *, names: st.SearchStrategy[str] | None = None, opcodes: Sequence[int] = (0,), well_formed: bool = True
) -> st.SearchStrategy[bytes]:
    """Queries of one question, with OPT or without; unless ``well_formed``, OPT and flags may be anything."""
    bits = st.sampled_from([RD, 0]) if well_formed else st.integers(0, QR - 1)
    flags = st.tuples(bits, st.sampled_from(opcodes)).map(lambda both: both[0] & 0x87FF | both[1] << 11)
    return st.builds(
        message,
        questions(None if names is None else names.map(encode_name)),
        id=message_ids(),
        flags=flags,
        additionals=st.lists(opt_records(well_formed=well_formed), max_size=1),
    )


def records() -> st.SearchStrategy[bytes]:
    """A record for the name of the question: A or TXT, or of a type for private use with any content (RFC 6895)."""
    addresses = st.binary(min_size=4, max_size=4).map(lambda data: record(kind=A, data=data))
    texts = st.binary(max_size=40).map(lambda text: record(kind=TXT, data=bytes([len(text)]) + text))
    anything = st.builds(record, kind=st.integers(65_280, 65_534), data=st.binary(max_size=60))
    return addresses | texts | anything


def responses_to(query: bytes) -> st.SearchStrategy[bytes]:
    """Right responses to this query: its id, its question, a few records, any RCODE below 16."""
    return _responses(st.just(query))


def responses() -> st.SearchStrategy[bytes]:
    """Right responses, each to some query."""
    return _responses(queries())


def _responses(queries: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.builds(
        response,
        queries,
        rcode=st.sampled_from([0, 3, 2, 5]) | st.integers(0, 15),
        answers=st.lists(records(), max_size=3),
        additionals=st.lists(opt_records(), max_size=1),
    )


def response(query: bytes, rcode: int, answers: Sequence[bytes], additionals: Sequence[bytes]) -> bytes:
    """What :func:`~dot_proto.testing.messages.response_to` makes, by arguments that Hypothesis can print."""
    return response_to(query, *answers, rcode=rcode, additionals=additionals)


def messages() -> st.SearchStrategy[bytes]:
    """What a framer must carry: 12 octets and more, DNS or not, and now and then as long as a prefix can say."""
    long = st.sampled_from([255, 256, 511, 512, 4096, 16_384, 40_000, 65_535]).map(
        lambda size: bytes(12) + b"\xff" * (size - 12)
    )
    return st.binary(min_size=12, max_size=40) | queries() | long


# Streams, and how they are cut


def streams(of: st.SearchStrategy[bytes] | None = None) -> st.SearchStrategy[bytes]:
    """Up to twelve messages, each behind its length prefix (RFC 7766, section 8)."""
    return st.lists(messages() if of is None else of, max_size=12).map(stream_of)


def prefixes_in(stream: bytes) -> list[int]:
    """The offsets at which a length prefix begins."""
    found: list[int] = []
    offset = 0
    while offset + 2 <= len(stream):
        found.append(offset)
        offset += 2 + int.from_bytes(stream[offset : offset + 2])
    return found


@st.composite
def chunkings(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """Ways in which TCP and TLS may cut a stream; the pieces, put together, are the stream.

    Everything at once; at any offsets, so that pieces may be empty; inside each length prefix; in pieces of
    one size; one octet at a time, where the stream has no more than 2000 octets, so that it does not take long.
    """
    cut = draw(st.sampled_from(["nowhere", "anywhere", "inside each length", "evenly"]))
    if cut == "nowhere":
        return [stream]
    if cut == "anywhere":
        offsets = draw(st.lists(st.integers(0, len(stream)), max_size=12))
        return cut_at(stream, offsets + draw(st.sampled_from([[], [len(stream)], offsets])))
    if cut == "inside each length":
        return cut_at(stream, [offset + 1 for offset in prefixes_in(stream)])
    sizes = [1, 2, 3, 7, 64, 16_384] if len(stream) <= 2000 else [64, 1000, 16_384]
    return list(pieces(stream, draw(st.sampled_from(sizes))))


# Damage


@dataclass(frozen=True)
class CorruptedStream:
    """A stream, and what was done to it; :func:`dot_proto.testing.messages.read` says what a framer must make of it."""

    damage: str
    "In words."
    octets: bytes
    "What arrives."


@st.composite
def corrupted_streams(draw: st.DrawFn, of: st.SearchStrategy[bytes] | None = None) -> CorruptedStream:
    """Streams of one message and more, damaged in one place.

    A length that lies; one below the header's 12, put in between; an end in the middle; two ids or two questions that
    changed places; a bit that flipped inside a message, so that the framing stays right; octets behind the end.
    """
    sent = draw(st.lists(messages() if of is None else of, min_size=1, max_size=6))
    whole, swapped = stream_of(sent), swaps(sent)
    which = draw(st.integers(0, len(sent) - 1))
    damage = draw(st.sampled_from(["lie", "cut", "flip", "more", "short", *(["swap"] if swapped else [])]))
    if damage == "lie":
        lengths = st.sampled_from([0, 1, 11, 12]) | st.integers(0, 0xFFFF)
        length = draw(lengths.filter(lambda length: length != len(sent[which])))
        at = len(stream_of(sent[:which]))
        octets = whole[:at] + length.to_bytes(2) + whole[at + 2 :]
        return CorruptedStream(f"length of message {which}: {length}, not {len(sent[which])}", octets)
    if damage == "cut":
        size = draw(st.integers(0, len(whole) - 1))
        return CorruptedStream(f"ends after {size} of {len(whole)} octets", whole[:size])
    if damage == "flip":
        bit = draw(st.integers(0, 8 * len(sent[which]) - 1))
        damaged = [*sent[:which], flip(sent[which], bit), *sent[which + 1 :]]
        return CorruptedStream(f"bit {bit} of message {which} flipped", stream_of(damaged))
    if damage == "more":
        rest = draw(st.binary(min_size=1, max_size=13))
        return CorruptedStream(f"{len(rest)} octets behind the end", whole + rest)
    if damage == "short":
        length, behind = draw(_too_short(stream_of(sent[which:])))
        return CorruptedStream(f"before message {which}: length {length}", stream_of(sent[:which]) + behind)
    number = draw(st.integers(0, len(swapped) - 1))
    return CorruptedStream(swapped[number][0], stream_of(swapped[number][1]))


def too_short_streams(of: st.SearchStrategy[bytes] | None = None) -> st.SearchStrategy[bytes]:
    """Streams that hold a length below the header's 12, which ends their framing at its second octet.

    The octets that it speaks of are there or not, and so is what might come behind them.
    """
    parts = st.tuples(streams(of), streams(of).flatmap(_too_short))
    return parts.map(lambda both: both[0] + both[1][1])


def _too_short(following: bytes) -> st.SearchStrategy[tuple[int, bytes]]:
    """A length below 12, and itself with what may come behind it."""
    lengths = st.sampled_from([11, 0]) | st.integers(0, 11)
    return lengths.flatmap(
        lambda length: st.sampled_from([b"", bytes(length), following, bytes(length) + following]).map(
            lambda behind: (length, length.to_bytes(2) + behind)
        )
    )


def flip(octets: bytes, bit: int) -> bytes:
    """The octets with one bit changed, counted from the first octet's highest."""
    at = bit // 8
    return octets[:at] + bytes([octets[at] ^ 0x80 >> bit % 8]) + octets[at + 1 :]


@st.composite
def damaged(draw: st.DrawFn, of: st.SearchStrategy[bytes]) -> bytes:
    """One of these octet strings, of one octet and more, cut, or with up to four bits flipped, or with more behind."""
    whole = draw(of)
    damage = draw(st.sampled_from(["cut", "flip", "more"]))
    if damage == "cut":
        return whole[: draw(st.integers(0, len(whole) - 1))]
    if damage == "more":
        return whole + draw(st.binary(min_size=1, max_size=13))
    for bit in draw(st.lists(st.integers(0, 8 * len(whole) - 1), min_size=1, max_size=4, unique=True)):
        whole = flip(whole, bit)
    return whole


def swaps(messages: Sequence[bytes]) -> list[tuple[str, list[bytes]]]:
    """Every way to exchange the ids, or the questions, of two messages where that changes anything; in words too."""
    found: list[tuple[str, list[bytes]]] = []
    for (one, first), (other, second) in combinations(enumerate(messages), 2):
        for what, (begin, ends) in {"ids": (0, (2, 2)), "questions": (12, _question_ends(first, second))}.items():
            mine, theirs = first[begin : ends[0]], second[begin : ends[1]]
            swapped = list(messages)
            swapped[one] = first[:begin] + theirs + first[ends[0] :]
            swapped[other] = second[:begin] + mine + second[ends[1] :]
            if mine != theirs and max(map(len, swapped)) <= MAX_MESSAGE:
                found.append((f"{what} of messages {one} and {other} swapped", swapped))
    return found


def _question_ends(first: bytes, second: bytes) -> tuple[int, int]:
    """Where the two questions end; where one cannot be read there is nothing to exchange."""
    try:
        return question_end(first), question_end(second)
    except MessageError:
        return 12, 12


# Values of the engine's own


def pins() -> st.SearchStrategy[Pin]:
    """SPKI pins, of nobody's key (RFC 7858, section 4.2)."""
    return st.binary(min_size=DIGEST_LENGTH, max_size=DIGEST_LENGTH).map(Pin)


def policies() -> st.SearchStrategy[AuthenticationPolicy]:
    """Policies that could authenticate somebody (RFC 8310, section 5): by name, by pin, by both, or opportunistic."""
    hosts = st.sampled_from(["a.example", "192.0.2.1", "2001:db8::1"])
    some_pins = st.lists(pins(), min_size=1, max_size=2).map(tuple)
    return st.one_of(
        st.builds(AuthenticationPolicy, hosts),
        st.builds(AuthenticationPolicy, pins=some_pins),
        st.builds(AuthenticationPolicy, hosts, pins=some_pins),
        st.builds(AuthenticationPolicy, hosts, issuer_pins=some_pins),
        st.builds(
            AuthenticationPolicy, st.none() | hosts, pins=st.just(()) | some_pins, is_opportunistic=st.just(True)
        ),
        st.builds(AuthenticationPolicy.opportunistic, hosts, pins=st.just(()) | some_pins, tries_name=st.just(True)),
    )


def upstreams() -> st.SearchStrategy[Upstream]:
    """Upstreams that could be asked: with addresses, or with a name and perhaps somebody who finds them."""
    names = st.sampled_from(["a.example", "abc123.dns.nextdns.io"])
    addresses = st.sampled_from(["192.0.2.1", "2001:db8::1", "fe80::1%eth0", "192.0.2.2"])
    some_pins = st.lists(pins(), max_size=2).map(tuple)
    ports = st.just(853) | st.integers(1, 65_535).filter(lambda port: port != 53)
    whom = {"port": ports, "pins": some_pins}
    some_addresses = st.lists(addresses, min_size=1, max_size=3).map(tuple)
    dialled = st.one_of(
        st.builds(Upstream, name=st.none() | names | st.just("192.0.2.9"), addresses=some_addresses, **whom),
        st.builds(Upstream, name=names, addresses=some_addresses, issuer_pins=some_pins),
    )
    bootstrap = st.just(()) | st.just("system") | st.lists(dialled, min_size=1, max_size=2).map(tuple)
    return st.one_of(
        dialled,
        st.builds(Upstream, addresses=some_addresses, is_opportunistic=st.just(True), **whom),
        st.builds(Upstream, name=names, bootstrap=bootstrap, **whom),
    )


def client_configurations() -> st.SearchStrategy[ClientConfiguration]:
    """Configurations of a client, small limits more often than not, so that they are met."""
    return st.builds(
        ClientConfiguration,
        query_timeout=_seconds(),
        idle_timeout=_seconds(),
        max_idle_timeout=_seconds(),
        close_timeout=_seconds(),
        max_in_flight=st.integers(1, 8) | st.integers(1, 65_536),
        max_queries=st.integers(1, 100) | st.integers(1, 1 << 24),
        max_unsolicited=st.integers(0, 64),
        padding_block=_blocks(),
        keepalive=st.booleans(),
    )


def server_configurations() -> st.SearchStrategy[ServerConfiguration]:
    """Configurations of a server, small limits more often than not, so that they are met."""
    return st.builds(
        ServerConfiguration,
        max_outstanding=st.integers(1, 8) | st.integers(1, 8192),
        hard_outstanding=st.integers(8192, 8200),
        idle_timeout=_seconds(),
        idle_grace=_seconds(),
        close_timeout=_seconds(),
        max_outstanding_octets=st.sampled_from([1 << 20, 1, 100]),
        max_queries=st.none() | st.integers(1, 100),
        max_duration=st.none() | _seconds(),
        max_unsolicited=st.integers(0, 64),
        padding_block=_blocks(),
        opcodes=st.frozensets(st.integers(0, 15)),
    )


def _seconds() -> st.SearchStrategy[float]:
    return st.sampled_from([5.0, 1.0, 0.0]) | st.floats(0, 6553.5)


def _blocks() -> st.SearchStrategy[int | None]:
    return st.sampled_from([None, 128, 468, 1]) | st.integers(1, 65_535)
