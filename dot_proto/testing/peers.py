"""Scripts of what a server does, well or badly, step by step.

A *script* is a list of steps.  Nearly all are the peer's; :class:`Ask` is the client's only one.
:func:`dot_proto.testing.runner.run_script` puts a client through a script; a server of one's own that is to misbehave
on a real socket sends what :meth:`Step.octets` returns.

Steps compose: an answer that comes late is ``Stall(6.0), Answer(0)``, one that comes twice ``Answer(0), Answer(0)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from hypothesis import strategies as st

from ..arguments import check_flag, check_whole, collected, wrong
from ..query import make_query
from . import strategies
from .messages import KEEPALIVE, message, opt, option, response_to, stream_of

# Steps


@dataclass(frozen=True)
class Step:
    """One thing that happens on a connection."""

    def octets(self, queries: Sequence[bytes]) -> bytes:
        """What the peer sends, framed, having received these queries; nothing unless said."""
        return b""


@dataclass(frozen=True)
class Ask(Step):
    """The client asks for an A record."""

    name: str = "."
    timeout: float = 5.0
    "Seconds."


@dataclass(frozen=True)
class AboutAQuery(Step):
    """The peer sends something about a query that it has received; nothing while it has received none."""

    query: int = 0
    "Which: 0 is the first, answered or not, and -1 the last; counted round where there are fewer."

    def octets(self, queries: Sequence[bytes]) -> bytes:
        """One message behind its length, unless a step says otherwise."""
        return stream_of([self.about(queries[self.query % len(queries)])]) if queries else b""

    def about(self, query: bytes) -> bytes:
        """The message that is sent; the right response unless a step says otherwise."""
        return response_to(query)


@dataclass(frozen=True)
class Answer(AboutAQuery):
    """The right id, the right question, and this RCODE."""

    rcode: int = 0

    def about(self, query: bytes) -> bytes:
        """A response without records."""
        return response_to(query, rcode=self.rcode)


@dataclass(frozen=True)
class AnswerWithoutQuestion(AboutAQuery):
    """A response whose question section is empty, so that its id alone decides (RFC 7766, section 7)."""

    rcode: int = 0

    def about(self, query: bytes) -> bytes:
        """A bare header."""
        return message(id=int.from_bytes(query[:2]), flags=0x8000 | self.rcode)


@dataclass(frozen=True)
class StateKeepalive(AboutAQuery):
    """The right response, with an idle timeout in it (RFC 7828)."""

    tenths: int | None = 0
    "Tenths of a second, 0 to 65535; 0: ask nothing more; ``None``: badly formed."

    def about(self, query: bytes) -> bytes:
        """A response with OPT."""
        data = b"" if self.tenths is None else self.tenths.to_bytes(2)
        return response_to(query, additionals=[opt(option(KEEPALIVE, data))])


@dataclass(frozen=True)
class WrongId(AboutAQuery):
    """The right response under another id."""

    by: int = 1
    "How much is added to the id."

    def about(self, query: bytes) -> bytes:
        """A response to nobody, or to somebody else."""
        return response_to(query, id=int.from_bytes(query[:2]) + self.by & 0xFFFF)


@dataclass(frozen=True)
class WrongQuestion(AboutAQuery):
    """The right id, and the answer to something else."""

    name: str = "wrong."

    def about(self, query: bytes) -> bytes:
        """A response to a question that nobody asked."""
        return response_to(make_query(self.name), id=int.from_bytes(query[:2]))


@dataclass(frozen=True)
class WrongOpcode(AboutAQuery):
    """The right id and question under opcode NOTIFY."""

    def about(self, query: bytes) -> bytes:
        """A response to another kind of request."""
        return response_to(query[:2] + bytes([query[2] & 0x87 | 4 << 3]) + query[3:])


@dataclass(frozen=True)
class Echo(AboutAQuery):
    """The query itself comes back, QR still 0."""

    def about(self, query: bytes) -> bytes:
        """What was received."""
        return query


@dataclass(frozen=True)
class CutAnswer(AboutAQuery):
    """The right response, but the rest of it never comes: what follows is read as its rest."""

    size: int = 1
    "Octets that come, the two of the length included; at most all but one."

    def octets(self, queries: Sequence[bytes]) -> bytes:
        """The beginning of a framed response."""
        return super().octets(queries)[:-1][: self.size]


@dataclass(frozen=True)
class ShortLength(Step):
    """A length that no DNS message can have."""

    length: int = 0
    "0 to 11."

    def octets(self, queries: Sequence[bytes]) -> bytes:
        """Two octets."""
        return self.length.to_bytes(2)


@dataclass(frozen=True)
class Garbage(Step):
    """Any octets, unframed."""

    data: bytes = b"\0"

    def octets(self, queries: Sequence[bytes]) -> bytes:
        """As they are."""
        return self.data


@dataclass(frozen=True)
class Stall(Step):
    """Nothing happens for a while; the client's timers run."""

    seconds: float = 6.0


@dataclass(frozen=True)
class End(Step):
    """The peer is gone; steps of its own that follow send nothing."""


@dataclass(frozen=True)
class Close(End):
    """It says so, by close_notify."""


@dataclass(frozen=True)
class Abort(End):
    """TCP ends without close_notify (RFC 8446, section 6.1)."""


@dataclass(frozen=True)
class Reset(End):
    """TCP is reset."""


@dataclass(frozen=True)
class Script:
    """Steps, and how what the peer sends arrives."""

    steps: tuple[Step, ...]
    read_size: int = 16_384
    "Octets of each read."
    coalesced: bool = False
    "Whether what steps of the peer send in a row arrives as one; else each step's octets come alone."

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", collected("steps", self.steps, Step, "steps in a tuple"))
        check_whole("read_size", self.read_size, "number of octets")
        if self.read_size < 1:
            raise wrong("read_size", "at least 1", self.read_size)
        check_flag("coalesced", self.coalesced)


# Strategies


def good_steps() -> st.SearchStrategy[Step]:
    """What happens where the peer does nothing wrong; it may be slow, answer out of order, and refuse."""
    names = st.sampled_from([".", "a.", "b."]) | strategies.names()
    asks = st.builds(Ask, names, st.sampled_from([5.0, 1.0, 0.0, 60.0]))
    return asks | st.builds(Answer, _which(), _rcodes()) | st.builds(Stall, _spans())


def foul_steps() -> st.SearchStrategy[Step]:
    """One thing that a peer should not do, or that a client is seldom tested with; the connection may survive it."""
    return st.one_of(
        st.builds(WrongId, _which(), st.integers(1, 0xFFFF)),
        st.builds(WrongQuestion, _which()),
        st.builds(WrongOpcode, _which()),
        st.builds(Echo, _which()),
        st.builds(AnswerWithoutQuestion, _which(), _rcodes()),
        st.builds(StateKeepalive, _which(), st.sampled_from([0, 1, 100, 65_535, None])),
    )


def bad_steps() -> st.SearchStrategy[Step]:
    """Those, and what ends the connection or its framing."""
    damaged = strategies.corrupted_streams(strategies.queries()).map(lambda stream: stream.octets)
    return st.one_of(
        foul_steps(),
        st.builds(CutAnswer, _which(), st.integers(1, 40)),
        st.builds(ShortLength, st.integers(0, 11)),
        st.builds(Garbage, st.binary(min_size=1, max_size=40) | damaged),
        st.sampled_from([Close(), Abort(), Reset()]),
    )


def exchanges() -> st.SearchStrategy[list[Step]]:
    """One query to five, and the right answers in any order, perhaps after a while."""
    orders = st.sampled_from([1, 2, 3, 5]).flatmap(lambda count: st.permutations(range(-count, 0)))
    pauses = st.sampled_from([[], [Stall(0.5)], [Stall(4.0)]])
    return st.builds(_exchange, orders, pauses, _rcodes())


def _exchange(order: list[int], pause: list[Stall], rcode: int) -> list[Step]:
    return [*(Ask(f"{-each}.") for each in sorted(order)), *pause, *(Answer(each, rcode) for each in order)]


def peer_scripts(*, misbehaves: bool = True) -> st.SearchStrategy[Script]:
    """Scripts that begin with a query; with ``misbehaves=False`` the peer of each is a good one."""
    bearable = good_steps() | foul_steps() if misbehaves else good_steps()
    parts = st.lists(exchanges() | bearable.map(lambda step: [step]), max_size=8)
    # What ends a connection comes late, or most of a script would be for nothing.
    rest = st.lists(good_steps() | bad_steps() if misbehaves else good_steps(), max_size=6)
    ends: st.SearchStrategy[list[Step]] = st.sampled_from([[], [Close()], [Abort()], [Reset()]] if misbehaves else [[]])
    return st.builds(
        Script,
        steps=st.builds(_put_together, parts, rest, ends),
        read_size=st.sampled_from([16_384, 16_384, 16_384, 1, 2, 3, 100]),
        coalesced=st.booleans(),
    )


def _put_together(parts: list[list[Step]], rest: list[Step], end: list[Step]) -> tuple[Step, ...]:
    return (Ask(), *chain.from_iterable(parts), *rest, *end)


def _which() -> st.SearchStrategy[int]:
    return st.sampled_from([0, -1]) | st.integers(0, 5)


def _rcodes() -> st.SearchStrategy[int]:
    return st.sampled_from([0, 0, 2, 3, 5])


def _spans() -> st.SearchStrategy[float]:
    """Seconds: on, below and above what queries and idle connections are given."""
    return st.sampled_from([0.5, 1.0, 5.0, 6.0, 10.0, 61.0]) | st.floats(0, 100)
