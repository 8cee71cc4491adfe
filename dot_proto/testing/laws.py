"""Laws that any framer, client or server owes, as checkers that can be pointed at anybody's.

``check_framer(make)`` runs the law and raises :class:`AssertionError` where it is broken; Hypothesis prints the
smallest example found.  ``framer_law(make)`` is the law itself, a Hypothesis test: give it settings, or hand its
``hypothesis.fuzz_one_input`` to a fuzzer that is guided by coverage.

What is right is said here once more, as plainly as can be: by :func:`~dot_proto.testing.messages.read` for the framing,
by :func:`~dot_proto.testing.checkers.answers` for what answers what.  Of the engine's own reading there is only where a
question ends, and the RCODE.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from ..arguments import check_flag, check_function, check_whole, wrong
from . import strategies
from .checkers import ClientChecker, Server, ServerChecker
from .messages import read, stream_of
from .peers import Script, peer_scripts
from .runner import Client, run_script

SHOWN = 100
"Octets of a message that are printed."


class Law(Protocol):
    """A Hypothesis test without arguments."""

    hypothesis: Any
    "Hypothesis's own handle: ``law.hypothesis.fuzz_one_input(octets)`` tries one example made of these octets."

    @abstractmethod
    def __call__(self) -> None:
        """Try as many examples as the settings say; raises :class:`AssertionError` where one breaks the law."""


def law_of(test: Callable[[], None]) -> Law:
    """What ``@given`` returned, with the type of what it is."""
    return cast(Law, test)


def run(law: Law) -> None:
    """Under the settings of the caller's profile, but without a deadline: what a law may cost is not a time."""
    settings(deadline=None)(law)()


# Framers


class Framer(Protocol):
    """Octets of a stream in, whole messages out (RFC 1035, section 4.2.2)."""

    @property
    @abstractmethod
    def failed(self) -> bool:
        """Whether a length was met that is too short for any message."""

    @property
    @abstractmethod
    def mid_message(self) -> bool:
        """Whether an end of the stream here would cut a message."""

    @abstractmethod
    def feed(self, data: bytes) -> Iterable[bytes]:
        """The messages that this completes, without their prefixes."""


def framer_law(make: Callable[[], Framer], *, minimum: int = 12, tells_truncation: bool = True) -> Law:
    """However a stream is cut, and whatever is in it: each message comes out once, whole, as soon as it is complete.

    ``make`` makes a fresh framer.  A length below ``minimum`` octets is a failure, told at its second octet, with
    nothing behind it (0: no length is).  ``tells_truncation=False``: ``mid_message`` is not looked at.
    """
    check_function("make", make, "a function that makes a framer", "give its class, or a lambda")
    check_whole("minimum", minimum, "number of octets")
    check_flag("tells_truncation", tells_truncation)

    @given(_cut_streams())
    def law(chunks: list[bytes]) -> None:
        framer, reading = make(), read(b"".join(chunks), minimum=minimum)
        fed = done = 0
        for chunk in chunks:
            got = [bytes(each) for each in framer.feed(chunk)]
            fed += len(chunk)
            due = reading.messages[done : reading.delivered(fed)]
            complaint = _difference(due, got, done)
            done += len(due)
            failed, mid_message = reading.has_failed(fed), reading.is_mid_message(fed)
            if complaint is None and framer.failed is not failed:
                complaint = f"failed is {framer.failed}, not {failed}"
            if complaint is None and tells_truncation and not failed and framer.mid_message is not mid_message:
                complaint = f"mid_message is {framer.mid_message}, not {mid_message}"
            if complaint is not None:
                raise AssertionError(f"after {fed} of {sum(map(len, chunks))} octets: {complaint}")

    return law_of(law)


def check_framer(make: Callable[[], Framer], *, minimum: int = 12, tells_truncation: bool = True) -> None:
    """Run :func:`framer_law`."""
    run(framer_law(make, minimum=minimum, tells_truncation=tells_truncation))


def _difference(due: list[bytes], got: list[bytes], first: int) -> str | None:
    """What is wrong with the messages delivered now, the first of which has this number; ``None``: nothing."""
    for number, (mine, theirs) in enumerate(zip(due, got, strict=False), first):
        if mine != theirs:
            return f"message {number} is {_shown(theirs)}, not {_shown(mine)}"
    if len(got) > len(due):
        return f"message {first + len(due)} is delivered, and is none"
    if len(got) < len(due):
        return f"message {first + len(got)} is complete, and is not delivered"
    return None


def _shown(message: bytes) -> str:
    """A message, or what it is like where it is long."""
    return repr(message) if len(message) <= SHOWN else f"{message[:SHOWN]!r}... of {len(message)} octets"


def _cut_streams() -> st.SearchStrategy[list[bytes]]:
    damaged = strategies.corrupted_streams().map(lambda drawn: drawn.octets)
    streams = strategies.streams() | damaged | strategies.too_short_streams() | st.binary(max_size=60)
    return streams.flatmap(strategies.chunkings)


# Clients


def client_law(make: Callable[[], Client], *, misbehaving_peers: bool = True) -> Law:
    """Whatever the peer does, every query meets one fate, and only the right answer is one.

    ``make`` makes a client with the verbs of :class:`~dot_proto.ClientConnection` whose peer has been accepted already,
    and which reports this package's events.  What is required is in :class:`~dot_proto.testing.checkers.ClientChecker`.
    """
    check_function("make", make, "a function that makes a client", "give a lambda that makes one")
    check_flag("misbehaving_peers", misbehaving_peers)

    @given(peer_scripts(misbehaves=misbehaving_peers))
    def law(script: Script) -> None:
        checker = ClientChecker()
        for entry in run_script(make(), script):
            checker.check(entry)
        checker.finish()

    return law_of(law)


def check_client(make: Callable[[], Client], *, misbehaving_peers: bool = True) -> None:
    """Run :func:`client_law`."""
    run(client_law(make, misbehaving_peers=misbehaving_peers))


# Servers


def server_law(make: Callable[[], Server]) -> Law:
    """However queries arrive, each that is well formed is delivered once, and gets the one answer that it is given.

    ``make`` makes a server with the verbs of :class:`~dot_proto.ServerConnection`, which reports this package's
    events.  Queries come, and other messages between them; they are answered in any order.  What is required is in
    :class:`~dot_proto.testing.checkers.ServerChecker`.
    """
    check_function("make", make, "a function that makes a server", "give its class, or a lambda")
    cut = st.lists(_labelled_messages(), max_size=6).flatmap(_and_cut)

    @given(cut, st.integers(0, 5), st.integers(0, 5), st.sampled_from([0, 2, 3, 15]))
    def law(drawn: tuple[frozenset[bytes], list[bytes]], backlog: int, which: int, rcode: int) -> None:
        fair, chunks = drawn
        checker = ServerChecker(make(), fair)
        for chunk in chunks:
            checker.receive(chunk)
            while len(checker.open) > backlog:
                checker.answer(which, rcode)
        while checker.open:
            checker.answer(which, rcode)

    return law_of(law)


def check_server(make: Callable[[], Server]) -> None:
    """Run :func:`server_law`."""
    run(server_law(make))


def _labelled_messages() -> st.SearchStrategy[tuple[bool, bytes]]:
    """What a client may send, and whether it is a query that must be delivered."""
    foul = strategies.queries(well_formed=False) | strategies.responses() | strategies.messages()
    return st.tuples(st.just(True), strategies.queries()) | st.tuples(st.just(False), foul)


def _and_cut(labelled: list[tuple[bool, bytes]]) -> st.SearchStrategy[tuple[frozenset[bytes], list[bytes]]]:
    fair = frozenset(each for is_fair, each in labelled if is_fair)
    chunks = strategies.chunkings(stream_of(each for _, each in labelled))
    return chunks.map(lambda chunks: (fair, chunks))


# Readers


Refusals = type[Exception] | tuple[type[Exception], ...]
"What a reader may raise."


def message_reader_law(reader: Callable[[bytes], object], raises: Refusals, *, minimum: int = 12) -> Law:
    """A reader of DNS messages takes each that is well formed; for any other octets it may raise these, and no others.

    It is given ``minimum`` octets and more, as a framer delivers them.  What it returns is not looked at.
    """
    check_whole("minimum", minimum, "number of octets")
    fair = strategies.queries() | strategies.responses()
    damaged = strategies.damaged(fair).filter(lambda octets: len(octets) >= minimum)
    return reader_law(reader, raises, fair, damaged | st.binary(min_size=minimum, max_size=minimum + 60))


def check_message_reader(reader: Callable[[bytes], object], raises: Refusals, *, minimum: int = 12) -> None:
    """Run :func:`message_reader_law`."""
    run(message_reader_law(reader, raises, minimum=minimum))


def reader_law(
    reader: Callable[[bytes], object],
    raises: Refusals,
    fair: st.SearchStrategy[bytes],
    foul: st.SearchStrategy[bytes],
) -> Law:
    """A reader of anything: takes all that is ``fair``, and for what is ``foul`` raises only what it may."""
    check_function("reader", reader, "a function of octets")
    kinds = raises if isinstance(raises, tuple) else (raises,)
    if not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        raise wrong("raises", "a class of exceptions, or several in a tuple", raises)

    @given(st.tuples(st.just(True), fair) | st.tuples(st.just(False), foul))
    def law(drawn: tuple[bool, bytes]) -> None:
        is_fair, octets = drawn
        try:
            reader(octets)
        except raises as error:
            if is_fair:
                raise AssertionError(f"well formed, but {type(error).__name__}: {error}") from error

    return law_of(law)
