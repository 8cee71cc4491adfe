"""A law for sessions: a driver that keeps its duties, and does nothing else, hears how every connection ends.

:mod:`~dot_proto.testing.exchange` says what the duties are, and what is required.  ``duties_law(pairs)`` draws the
pair of sessions, who ends the connection, how and at which moment, and how octets are cut.  ``every_moment`` plays one
end at each moment of one exchange, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from ..arguments import check_flag, check_function, check_instance, collected
from .exchange import START, Action, End, Endpoint, Exchange, Pair, Plan
from .laws import Law, law_of, run

Make = Callable[[float], Pair]
"Makes a fresh pair of sessions; is given the time, in seconds."


def duties_law(
    pairs: st.SearchStrategy[Make],
    ends: Sequence[End] | None = None,
    *,
    also: Callable[[Exchange], None] = lambda exchange: None,
) -> Law:
    """However a connection ends, a driver that keeps its duties hears every fate and one end, and finishes.

    ``pairs`` draws who makes the two sessions, ``ends`` are the ways to end (:data:`ENDS`, unless said).  ``also``
    looks at an exchange that is over, for what these sessions owe beside that.
    """
    check_instance("pairs", pairs, st.SearchStrategy, "just(make) of hypothesis.strategies draws the one that you have")
    if ends is not None:
        ends = collected("ends", ends, End, "a list of End")
    check_function("also", also, "a function of an exchange that is over")

    @given(pairs, plans(ends))
    def law(make: Make, plan: Plan) -> None:
        also(Exchange(make(START), plan).play())

    return law_of(law)


def check_duties(
    pairs: st.SearchStrategy[Make],
    ends: Sequence[End] | None = None,
    *,
    also: Callable[[Exchange], None] = lambda exchange: None,
) -> None:
    """Run :func:`duties_law`."""
    run(duties_law(pairs, ends, also=also))


def every_moment(
    make: Make, end: End, *, at_server: bool, plan: Plan | None = None, octets: Iterable[int] = (0,)
) -> Iterator[Exchange]:
    """One end at each moment of one exchange: before each turn, and after so many octets of it; yields each exchange.

    What else happens is the ``plan``'s.  Raises :class:`AssertionError` where the law is broken.
    """
    check_function("make", make, "a function of the time that makes two sessions")
    check_instance("end", end, End, "ENDS has some")
    check_flag("at_server", at_server)
    if plan is not None:
        check_instance("plan", plan, Plan)
    plan = plan or Plan()
    for offset in octets:
        turn = turns = 0
        while turn <= turns:
            action = Action(end, at_server, turn, offset)
            exchange = Exchange(make(START), replace(plan, actions=(*plan.actions, action))).play()
            yield exchange
            turn, turns = turn + 1, exchange.turn


def plans(ends: Sequence[End] | None = None) -> st.SearchStrategy[Plan]:
    """Exchanges of a few queries that end at any moment, in up to three ways, one after the other."""
    few = st.integers(0, 5)
    turns = few | st.integers(0, 25)
    actions = st.builds(Action, st.sampled_from(ends or ENDS), st.booleans(), turns, few | st.integers(0, 3000))
    return st.builds(
        Plan,
        st.lists(actions, max_size=3).map(tuple),
        st.lists(st.just(0) | turns, max_size=6).map(tuple),
        few,
        st.sampled_from([None, None, 1, 2, 7]) | st.integers(1, 500),
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    )


def _close(side: Endpoint) -> None:
    side.command("close")


def _close_at_once(side: Endpoint) -> None:
    side.command("close", timeout=0.0)


def _cancel(side: Endpoint) -> None:
    connection, now = side.session.connection, side.exchange.now
    side.pending -= {query for query in side.pending if connection.cancel(query, now=now)}
    while side.unanswered:
        connection.decline(side.unanswered.pop().query, now=now)


def _abort(side: Endpoint) -> None:
    had_told = side.closed is not None or side.is_due()
    side.lose_tcp()
    side.call("abort")
    side.require(side.is_closed, "was aborted, and has not finished")
    at_fault = side.closed is not None and side.closed.error
    side.require(had_told or not at_fault, f"was aborted here, and says that it is the peer's fault: {at_fault}")


def _fail(side: Endpoint) -> None:
    side.lose_tcp()
    side.other.incoming, side.other.tcp_end = b"", "fail"
    side.call("fail", "Connection reset by peer")


def _end_of_stream(side: Endpoint) -> None:
    side.lose_tcp()
    side.call("receive_eof")


def _silence(side: Endpoint) -> None:
    side.exchange.is_silent = True
    side.incoming = side.other.incoming = b""


def _damage(side: Endpoint) -> None:
    side.is_damaged = True


def _noise(side: Endpoint) -> None:
    side.incoming = bytes(14) + side.incoming


def _deadline(side: Endpoint) -> None:
    side.exchange.wake()


def _sleep(side: Endpoint) -> None:
    side.exchange.now += 3600.0


CLOSE: Final = End("close", _close, is_harm=False)
"""The application closes, and gives what is owed its time."""
CLOSE_AT_ONCE: Final = End("close at once", _close_at_once, is_harm=False)
"""The application closes with a timeout of 0."""
CANCEL: Final = End("cancel all", _cancel, is_harm=False)
"""The client cancels every query, or the server declines every one that it has received."""
DEADLINE: Final = End("the next deadline", _deadline, is_harm=False)
"""The next deadline of either side comes before what is on its way."""
SLEEP: Final = End("an hour asleep", _sleep, is_harm=False)
"""Both drivers are not called for an hour."""
ABORT: Final = End("abort", _abort)
"""The application gives up TCP."""
FAIL: Final = End("fail", _fail)
"""TCP fails; the other side hears of it too."""
END_OF_STREAM: Final = End("end of stream", _end_of_stream)
"""TCP ends towards this side, and what was on its way is lost."""
SILENCE: Final = End("silence", _silence)
"""Nothing arrives at either side any more, and nobody says so."""
DAMAGE: Final = End("damage", _damage)
"""The last octet of the next read is not what was sent."""
NOISE: Final = End("noise", _noise)
"""Octets arrive that nobody sent."""

ENDS: Final = (
    CLOSE,
    CLOSE_AT_ONCE,
    CANCEL,
    DEADLINE,
    SLEEP,
    ABORT,
    FAIL,
    END_OF_STREAM,
    SILENCE,
    DAMAGE,
    NOISE,
)
"Every way to end a connection that needs to know nothing of what is inside the session."
