"""Laws that any framer, client or server owes, as checkers that can be pointed at anybody's.

``check_framer(make)`` runs the law and raises :class:`AssertionError` where it is broken; Hypothesis prints the
smallest example found.  ``framer_law(make)`` is the law itself, a Hypothesis test: give it settings, or hand its
``hypothesis.fuzz_one_input`` to a fuzzer that is guided by coverage.

What is right is said here once more, as plainly as can be and with nothing of the engine's own reading: by
:func:`~dot_proto.testing.messages.read` for the framing, by
:func:`~dot_proto.testing.books.answers` for what answers what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast

from hypothesis import given, note
from hypothesis import strategies as st

from . import strategies
from .books import ClientBook, Server, ServerBook, require
from .messages import read, stream_of
from .peers import Script, peer_scripts
from .playing import Client, play


class Law(Protocol):
    """A Hypothesis test without arguments."""

    hypothesis: Any
    "Hypothesis's own handle: ``law.hypothesis.fuzz_one_input(octets)`` tries one example made of these octets."

    def __call__(self) -> None:
        """Try as many examples as the settings say; raises :class:`AssertionError` where one breaks the law."""
        ...


# Framers


class Framer(Protocol):
    """Octets of a stream in, whole messages out (RFC 1035, section 4.2.2)."""

    @property
    def failed(self) -> bool:
        """Whether a length was met that is too short for any message."""
        ...

    @property
    def mid_message(self) -> bool:
        """Whether an end of the stream here would cut a message."""
        ...

    def feed(self, data: bytes) -> Iterable[bytes]:
        """The messages that this completes, without their prefixes."""
        ...


def framer_law(make: Callable[[], Framer], *, minimum: int = 12, tells_truncation: bool = True) -> Law:
    """However a stream is cut, and whatever is in it: each message comes out once, whole, as soon as it is complete.

    ``make`` makes a fresh framer.  A length below ``minimum`` octets is a failure, told at its second octet, with
    nothing behind it (0: no length is).  ``tells_truncation=False``: ``mid_message`` is not looked at.
    """

    @given(_cut_streams())
    def law(chunks: list[bytes]) -> None:
        framer, reading = make(), read(b"".join(chunks), minimum=minimum)
        got: list[bytes] = []
        fed = 0
        for chunk in chunks:
            fed += len(chunk)
            got += map(bytes, framer.feed(chunk))
            where = f"after {fed} of {sum(map(len, chunks))} octets"
            due = reading.messages[: reading.delivered(fed)]
            require(len(got) <= len(due), where, f"message {len(due)} is delivered, and is none")
            require(len(got) >= len(due), where, f"message {len(got)} is complete, and is not delivered")
            for number, (mine, theirs) in enumerate(zip(due, got, strict=True)):
                require(mine == theirs, where, f"message {number} is {theirs!r}, not {mine!r}")
            failed, mid_message = reading.has_failed(fed), reading.is_mid_message(fed)
            require(framer.failed is failed, where, f"failed is {framer.failed}, not {failed}")
            if tells_truncation and not failed:
                told = framer.mid_message
                require(told is mid_message, where, f"mid_message is {told}, not {mid_message}")

    return cast(Law, law)


def check_framer(make: Callable[[], Framer], *, minimum: int = 12, tells_truncation: bool = True) -> None:
    """Run :func:`framer_law`."""
    framer_law(make, minimum=minimum, tells_truncation=tells_truncation)()


def _cut_streams() -> st.SearchStrategy[list[bytes]]:
    damaged = strategies.corrupted_streams().map(lambda drawn: drawn.octets)
    return (strategies.streams() | damaged | st.binary(max_size=60)).flatmap(strategies.chunkings)


# Clients


def client_law(make: Callable[[], Client], *, misbehaving_peers: bool = True) -> Law:
    """Whatever the peer does, every query meets one fate, and only the right answer is one.

    ``make`` makes a client with the verbs of :class:`~dot_proto.ClientConnection` whose peer has been accepted already,
    and which reports this package's events.  What is required is in :class:`~dot_proto.testing.books.ClientBook`.
    """

    @given(peer_scripts(misbehaves=misbehaving_peers))
    def law(script: Script) -> None:
        book = ClientBook()
        for moment in play(make(), script):
            note(str(moment))
            book.enter(moment)
        book.close()

    return cast(Law, law)


def check_client(make: Callable[[], Client], *, misbehaving_peers: bool = True) -> None:
    """Run :func:`client_law`."""
    client_law(make, misbehaving_peers=misbehaving_peers)()


# Servers


def server_law(make: Callable[[], Server]) -> Law:
    """However queries arrive, each that is well formed is delivered once, and gets the one answer that it is given.

    ``make`` makes a server with the verbs of :class:`~dot_proto.ServerConnection`, which reports this package's
    events.  Queries come, and other messages between them; they are answered in any order.  What is required is in
    :class:`~dot_proto.testing.books.ServerBook`.
    """
    cut = st.lists(_labelled_messages(), max_size=6).flatmap(_and_cut)

    @given(cut, st.integers(0, 5), st.integers(0, 5), st.sampled_from([0, 2, 3, 15]))
    def law(drawn: tuple[frozenset[bytes], list[bytes]], backlog: int, which: int, rcode: int) -> None:
        fair, chunks = drawn
        book = ServerBook(make(), fair)
        for chunk in chunks:
            book.receive(chunk)
            while len(book.open) > backlog:
                book.answer(which, rcode)
        while book.open:
            book.answer(which, rcode)

    return cast(Law, law)


def check_server(make: Callable[[], Server]) -> None:
    """Run :func:`server_law`."""
    server_law(make)()


def _labelled_messages() -> st.SearchStrategy[tuple[bool, bytes]]:
    """What a client may send, and whether it is a query that must be delivered."""
    foul = strategies.queries(well_formed=False) | strategies.responses() | strategies.messages()
    return st.tuples(st.just(True), strategies.queries()) | st.tuples(st.just(False), foul)


def _and_cut(labelled: list[tuple[bool, bytes]]) -> st.SearchStrategy[tuple[frozenset[bytes], list[bytes]]]:
    fair = frozenset(each for is_fair, each in labelled if is_fair)
    chunks = strategies.chunkings(stream_of(each for _, each in labelled))
    return chunks.map(lambda chunks: (fair, chunks))
