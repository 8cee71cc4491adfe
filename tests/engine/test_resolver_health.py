"""When an upstream may be asked, and when one that failed is tried again (RES-30 to RES-32)."""

from __future__ import annotations

from itertools import product

import pytest

from dot_proto.resolver._health import TRANSITIONS, Health, Sign, UpstreamHealth
from dot_proto.resolver._race import in_order
from dot_proto.resolver.configuration import MAX_ADDRESSES, ResolverConfiguration
from dot_proto.resolver.events import Phase, UpstreamFailure

FAILURE = UpstreamFailure(Phase.TCP, "192.0.2.1", "connection refused")

# Written a second time, sign by sign, so that a change of the table must be meant.
EXPECTED = {
    Sign.ANSWERED: dict.fromkeys(Health, Health.UP),
    Sign.FAILED: {Health.UP: Health.DOWN, Health.DOWN: Health.DOWN, Health.REFUSED: Health.REFUSED},
    Sign.REFUSED: dict.fromkeys(Health, Health.REFUSED),
    Sign.FORGOTTEN: dict.fromkeys(Health, Health.UP),
}


def health(jitter=1.0, **fields):
    return UpstreamHealth(ResolverConfiguration(**fields), lambda: jitter)


def test_the_table_is_complete():
    table = {(before, sign): after for sign, moves in EXPECTED.items() for before, after in moves.items()}
    assert table == TRANSITIONS
    assert set(table) == set(product(Health, Sign))


def test_the_delay_doubles_up_to_its_limit_and_begins_anew():
    """RES-31: 0.1 s x 2^n, at most 30 s; one answer resets it."""
    one, now, delays = health(), 100.0, []
    for _ in range(12):
        one.step(Sign.FAILED, now=now, failure=FAILURE)
        delays.append(one.retry_at(is_waited_for=False) - now)
    assert delays == pytest.approx([0.1 * 2**n for n in range(9)] + [30.0] * 3)
    one.step(Sign.ANSWERED, now=now)
    assert one.failure is None
    one.step(Sign.FAILED, now=now, failure=FAILURE)
    assert one.retry_at(is_waited_for=False) - now == pytest.approx(0.1)


def test_the_delay_is_at_most_a_second_while_somebody_waits():
    one = health()
    for _ in range(9):
        one.step(Sign.FAILED, now=0.0, failure=FAILURE)
    assert one.retry_at(is_waited_for=True) == 1.0
    assert one.retry_at(is_waited_for=False) == pytest.approx(25.6)


@pytest.mark.parametrize("jitter", [0.5, 1.499])
def test_the_delay_is_drawn_around_its_length(jitter):
    one = health(jitter)
    one.step(Sign.FAILED, now=0.0, failure=FAILURE)
    assert one.retry_at(is_waited_for=False) == pytest.approx(0.1 * jitter)


def test_a_refused_server_is_left_alone_for_long_also_while_somebody_waits():
    """RES-32: 60 s x 2^n, at most an hour; being out of reach in between is no way to more handshakes."""
    one, delays = health(), []
    one.step(Sign.FAILED, now=0.0, failure=FAILURE)
    for sign in [Sign.REFUSED, Sign.REFUSED, Sign.FAILED, *[Sign.REFUSED] * 5]:
        one.step(sign, now=0.0, failure=FAILURE)
        assert one.state is Health.REFUSED
        delays.append(one.retry_at(is_waited_for=True))
    assert delays == [60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3600.0, 3600.0]


def test_a_thousand_failures_overflow_nothing():
    one = health()
    for _ in range(2000):
        one.step(Sign.FAILED, now=0.0, failure=FAILURE)
    assert one.retry_at(is_waited_for=False) == 30.0


def test_a_step_says_whether_something_changed():
    one = health()
    assert not one.step(Sign.ANSWERED, now=0.0)
    assert one.step(Sign.FAILED, now=0.0, failure=FAILURE)
    assert not one.step(Sign.FAILED, now=0.0, failure=FAILURE)
    assert one.step(Sign.REFUSED, now=0.0, failure=FAILURE)
    assert one.failure is FAILURE
    assert one.step(Sign.ANSWERED, now=0.0)
    assert one.is_up


@pytest.mark.parametrize(
    ("addresses", "last_good", "expected"),
    [
        ([], None, ()),
        (["1", "2", "3"], None, ("1", "2", "3")),
        ([":a", ":b", "1", "2", "3"], None, (":a", "1", ":b", "2", "3")),
        (["1", "2", ":a"], None, ("1", ":a", "2")),
        (["1", "2", ":a"], ":a", (":a", "1", "2")),
        (["1", "2", ":a"], "9", ("1", ":a", "2")),
        (["1", "1", "2"], None, ("1", "2")),
    ],
)
def test_addresses_take_turns_by_family(addresses, last_good, expected):
    """RES-15, RFC 8305, section 4."""
    assert in_order(addresses, last_good) == expected


def test_addresses_are_bounded():
    assert len(in_order([str(n) for n in range(100)], None)) == MAX_ADDRESSES
