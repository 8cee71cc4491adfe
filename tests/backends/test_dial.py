"""Which address is tried when (RFC 8305), and which error tells of it; no socket, and time is a number."""

from __future__ import annotations

import errno
import math
import socket
from itertools import pairwise, zip_longest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dot_io._dial import (
    ATTEMPT_DELAY,
    LONGEST_WAIT,
    MAX_ATTEMPTS,
    MAX_NAMED,
    SHORTEST_ATTEMPT_DELAY,
    Dialling,
    connect_error,
    interleaved,
)
from dot_io.errors import ConnectError, ConnectTimeoutError

REFUSED = OSError(errno.ECONNREFUSED, "asyncio's own words")


def dialling(*addresses: str, deadline: float = 100.0) -> Dialling[str]:
    return Dialling("dns.example", 853, [("any", address) for address in addresses], deadline=deadline)


@given(st.lists(st.tuples(st.sampled_from("46"), st.integers())))
def test_families_take_turns_and_each_keeps_its_order(addresses: list[tuple[str, int]]) -> None:
    """RFC 8305, section 4: the first family is that of the first address."""
    order = interleaved(addresses)
    assert sorted(order) == sorted(address for _, address in addresses)
    first = addresses[0][0] if addresses else ""
    preferred = [address for family, address in addresses if family == first]
    others = [address for family, address in addresses if family != first]
    turns = [address for pair in zip_longest(preferred, others) for address in pair if address is not None]
    assert order == turns


def test_the_next_attempt_starts_after_the_delay() -> None:
    """FR-7, and RFC 8305, section 5."""
    it = dialling("a", "b", "c")
    assert it.next_attempt(now=0.0) == "a"
    assert it.next_attempt(now=0.0) is None
    assert it.next_wait(now=0.0) == ATTEMPT_DELAY
    assert it.next_attempt(now=ATTEMPT_DELAY - 0.001) is None
    assert it.next_attempt(now=ATTEMPT_DELAY) == "b"
    assert it.next_attempt(now=ATTEMPT_DELAY) is None
    assert it.next_wait(now=ATTEMPT_DELAY) == ATTEMPT_DELAY


def test_the_next_attempt_starts_at_once_when_one_has_failed() -> None:
    it = dialling("a", "b")
    assert it.next_attempt(now=0.0) == "a"
    it.failed("a", REFUSED)
    assert it.next_wait(now=0.0) == 0.0
    assert it.next_attempt(now=0.0) == "b"


def test_the_last_attempt_has_all_the_time_that_is_left() -> None:
    it = dialling("a")
    it.next_attempt(now=0.0)
    assert it.next_wait(now=1.0) == 99.0


def test_no_wait_is_longer_than_a_system_can_count() -> None:
    it = dialling("a", deadline=math.inf)
    it.next_attempt(now=0.0)
    assert it.next_wait(now=0.0) == LONGEST_WAIT


def test_the_delay_is_shorter_where_the_deadline_comes_before_the_last_address() -> None:
    it = dialling("a", "b", "c", "d", deadline=0.4)
    started = [now / 100 for now in range(40) if it.next_attempt(now=now / 100) is not None]
    assert started == pytest.approx([0.0, 0.1, 0.2, 0.3], abs=0.02)


def test_the_delay_is_never_less_than_the_least() -> None:
    """RFC 8305, section 5: at least 10 milliseconds."""
    it = dialling(*"abcdefghij", deadline=0.02)
    assert it.next_attempt(now=0.0) == "a"
    assert it.next_wait(now=0.0) == SHORTEST_ATTEMPT_DELAY


def test_the_deadline_comes_before_any_attempt() -> None:
    it = dialling("a", deadline=1.0)
    assert it.next_attempt(now=1.0) is None
    with pytest.raises(ConnectTimeoutError, match=r"^no TCP connection to dns.example port 853 in time$"):
        it.next_wait(now=1.0)


def test_what_failed_before_the_deadline_is_told() -> None:
    it = dialling("a", "b", deadline=1.0)
    it.next_attempt(now=0.0)
    it.failed("a", REFUSED)
    it.next_attempt(now=0.0)
    with pytest.raises(ConnectTimeoutError, match=r"in time: Connection refused \(a\)$"):
        it.next_wait(now=1.0)


def test_no_address() -> None:
    with pytest.raises(ConnectError, match=r"^no TCP connection to dns.example port 853: it has no address$"):
        dialling().next_wait(now=0.0)


def test_one_address_that_failed_is_told_in_the_systems_words() -> None:
    it = dialling("a")
    it.next_attempt(now=0.0)
    it.failed("a", REFUSED)
    with pytest.raises(ConnectError, match=r"^no TCP connection to dns.example port 853: Connection refused$") as error:
        it.next_wait(now=0.0)
    assert error.value.__cause__ is REFUSED
    assert not isinstance(error.value, TimeoutError)


def test_addresses_that_failed_are_named_with_their_reasons() -> None:
    it = dialling("a", "b", "c")
    for error in (REFUSED, OSError(errno.ENETUNREACH, ""), REFUSED):
        address = it.next_attempt(now=0.0)
        assert address is not None
        it.failed(address, error)
    with pytest.raises(ConnectError, match=r": Connection refused \(a, c\); Network is unreachable \(b\)$"):
        it.next_wait(now=0.0)


def test_of_many_addresses_a_few_are_named() -> None:
    addresses = [str(number) for number in range(1000)]
    it = dialling(*addresses)
    while (address := it.next_attempt(now=0.0)) is not None:
        it.failed(address, REFUSED)
    with pytest.raises(ConnectError, match=f" and {1000 - MAX_NAMED} more") as error:
        it.next_wait(now=0.0)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (UnicodeError("label too long"), "label too long"),
        (REFUSED, "Connection refused"),
    ],
)
def test_the_words_are_the_systems(error: Exception, words: str) -> None:
    assert str(connect_error("dns.example", 853, error)) == f"no TCP connection to dns.example port 853: {words}"


class Attempt:
    """One on its way; it fails at a time, or never."""

    def __init__(self, started: float, lasts: float | None) -> None:
        self.fails = math.inf if lasts is None else started + lasts


@given(
    st.lists(st.one_of(st.none(), st.floats(0.0, 2.0)), max_size=80),
    st.floats(0.01, 30.0),
)
def test_any_attempts(lasts: list[float | None], deadline: float) -> None:
    """Every address has one attempt at most, in order; a driver that does what it is told never spins, and ends."""
    it = Dialling("dns.example", 853, [(0, number) for number in range(len(lasts))], deadline=deadline)
    now, order, started, failed = 0.0, list[int](), list[float](), list[float]()
    attempts: dict[int, Attempt] = {}
    for _ in range(4 * len(lasts) + 4):
        while (number := it.next_attempt(now=now)) is not None:
            assert now < deadline
            attempts[number] = Attempt(now, lasts[number])
            order.append(number)
            started.append(now)
        assert len(attempts) <= MAX_ATTEMPTS
        try:
            wait = it.next_wait(now=now)
        except ConnectTimeoutError:
            assert now >= deadline
            break
        except ConnectError:
            assert not attempts
            assert len(order) == len(lasts)
            break
        assert wait > 0.0 or now in failed
        ends = min([one.fails for one in attempts.values()], default=math.inf)
        now = min(now + wait, max(ends, now))
        for number in [number for number, one in attempts.items() if one.fails <= now]:
            del attempts[number]
            it.failed(number, REFUSED)
            failed.append(now)
    else:
        raise AssertionError("it does not come to an end")
    assert order == list(range(len(order)))
    for before, after in pairwise(started):
        assert after - before >= SHORTEST_ATTEMPT_DELAY - 1e-9 or any(before <= time <= after for time in failed)
