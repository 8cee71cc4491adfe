"""What drivers share and decide nothing about: when a peer that does not read is given up, and whose turn it is."""

from __future__ import annotations

import errno
import math
import random
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dot_io._limits import ConnectionLimits
from dot_io._peer import Peer, peer_of
from dot_io._queue import QueryQueue, Ticket
from dot_io._transport import FLUSH_TIMEOUT, SendTimeout, give_up_unacknowledged
from dot_proto import (
    AuthenticationPolicy,
    ClientConfiguration,
    ClientConnection,
    LocalProtocolError,
    make_query,
)
from support.scenes import counting

QUERY = make_query("example.com")


def test_a_kernel_without_the_user_timeout_is_no_failure() -> None:
    """FR-3: kernels that stand in for Linux name the option and refuse it; elsewhere it has no name at all."""

    class Socket:
        def setsockopt(self, *_: object) -> None:
            raise OSError(errno.ENOPROTOOPT, "Protocol not available")

    give_up_unacknowledged(Socket(), 15.0)


def test_a_peer_that_reads_is_never_given_up() -> None:
    timeout = SendTimeout(3.0)
    timeout.update(0, now=1.0, is_last=False)
    assert timeout.deadline == math.inf
    assert not timeout.is_over(now=1e9)


def test_a_peer_has_the_whole_time_from_the_last_octet_that_it_took() -> None:
    timeout = SendTimeout(3.0)
    timeout.update(100, now=1.0, is_last=False)
    timeout.update(100, now=2.0, is_last=False)
    assert timeout.deadline == 4.0
    timeout.update(99, now=3.5, is_last=False)
    assert timeout.deadline == 6.5
    assert not timeout.is_over(now=6.4)
    assert timeout.is_over(now=6.5)
    timeout.update(0, now=6.5, is_last=False)
    assert timeout.deadline == math.inf


@pytest.mark.parametrize("seconds", [0.5, 3.0, math.inf])
def test_the_last_octets_are_not_waited_for_longer(seconds: float) -> None:
    timeout = SendTimeout(seconds)
    timeout.update(100, now=1.0, is_last=False)
    timeout.update(100, now=2.0, is_last=True)
    assert timeout.deadline == min(1.0 + seconds, 2.0 + FLUSH_TIMEOUT)
    timeout.update(50, now=2.5, is_last=True)
    assert timeout.deadline == 2.5 + min(seconds, FLUSH_TIMEOUT)


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0.0, 2.0), st.booleans()), max_size=30))
def test_no_peer_is_given_up_that_has_just_taken_something(steps: list[tuple[int, float, bool]]) -> None:
    """Whatever happens: after progress there is time, and without unsent octets there is no end to it."""
    timeout, now, before = SendTimeout(1.5), 0.0, 0
    for unsent, later, is_last in steps:
        now += later
        timeout.update(unsent, now=now, is_last=is_last)
        if unsent < before or not unsent:
            assert timeout.deadline > now
        before = unsent


class Callers:
    """Callers of one connection, which may have ``capacity`` queries on their way."""

    def __init__(self, capacity: int) -> None:
        configuration = ClientConfiguration(max_in_flight=capacity)
        self.connection = ClientConnection(AuthenticationPolicy.opportunistic(), configuration, entropy=counting())
        self.queue = QueryQueue(self.connection)
        self.called: list[int] = []

    def enter(self, name: int) -> Ticket:
        return self.queue.enter(lambda: self.called.append(name))

    def send(self) -> int:
        return self.connection.send_query(QUERY, now=0.0)


def test_callers_are_called_in_the_order_in_which_they_came() -> None:
    callers = Callers(1)
    query = callers.send()
    tickets = [callers.enter(number) for number in range(3)]
    callers.queue.call_next()
    assert callers.called == []
    callers.connection.cancel(query, now=0.0)
    callers.queue.call_next()
    callers.queue.call_next()
    assert callers.called == [0]
    assert [ticket.is_called for ticket in tickets] == [True, False, False]


def test_nobody_pushes_in_between_the_call_and_the_query() -> None:
    callers = Callers(1)
    query = callers.send()
    ticket = callers.enter(0)
    callers.connection.cancel(query, now=0.0)
    assert callers.queue.capacity == 1
    callers.queue.call_next()
    assert callers.queue.capacity == 0
    callers.queue.leave(ticket)
    assert callers.queue.capacity == 1


def test_a_caller_that_gives_up_makes_room_for_the_next() -> None:
    callers = Callers(1)
    query = callers.send()
    first, second, third = (callers.enter(number) for number in range(3))
    callers.queue.leave(second)
    callers.connection.cancel(query, now=0.0)
    callers.queue.call_next()
    callers.queue.leave(first)
    callers.queue.call_next()
    assert callers.called == [0, 2]
    assert third.is_called


def test_everybody_is_called_when_the_connection_has_ended() -> None:
    callers = Callers(1)
    callers.send()
    tickets = [callers.enter(number) for number in range(3)]
    callers.connection.close(now=0.0)
    callers.queue.call_next()
    assert callers.called == [0, 1, 2]
    assert all(ticket.is_called for ticket in tickets)


@given(st.integers(0, 2**32), st.integers(1, 4))
def test_turns_are_fair_and_none_is_lost(seed: int, capacity: int) -> None:
    """Against a plain model: in whatever order callers come, run, give up, and queries end."""
    choose, callers = random.Random(seed), Callers(capacity)
    waiting: deque[tuple[int, Ticket]] = deque()
    pending: list[int] = []
    came: list[int] = []
    for number in range(60):
        match choose.randrange(4):
            case 0:
                waiting.append((number, callers.enter(number)))
                came.append(number)
            case 1 if waiting:
                index = choose.randrange(len(waiting))
                name, ticket = waiting[index]
                del waiting[index]
                callers.queue.leave(ticket)
                if not ticket.is_called:
                    came.remove(name)
            case 2 if called := [one for one in waiting if one[1].is_called]:
                waiting.remove(called[0])
                callers.queue.leave(called[0][1])
                pending.append(callers.send())
            case 3 if pending:
                callers.connection.cancel(pending.pop(choose.randrange(len(pending))), now=0.0)
            case _:
                pass
        callers.queue.call_next()
        promised = sum(ticket.is_called for _, ticket in waiting)
        assert len(pending) + promised <= capacity
        assert promised + len(pending) == capacity or all(ticket.is_called for _, ticket in waiting)
        assert callers.called == [name for name in came if name in callers.called]


@pytest.mark.parametrize(
    ("address", "host"),
    [
        (("192.0.2.1", 4711), "192.0.2.1"),
        (("2001:db8::1", 4711, 0, 0), "2001:db8::1"),
        (("::ffff:192.0.2.1", 4711, 0, 0), "192.0.2.1"),
        (("::ffff:0:1", 4711, 0, 0), "::ffff:0:1"),
        (("fe80::1%eth0", 4711, 0, 2), "fe80::1%eth0"),
    ],
)
def test_a_client_is_who_its_socket_says(address: tuple[Any, ...], host: str) -> None:
    """FR-33: one of IPv4 is that also on a socket of both families."""
    assert peer_of(address) == Peer(host, 4711)


def test_limits_count_the_client() -> None:
    limits = ConnectionLimits(maximum=2, per_host=1)
    assert limits.take(Peer("192.0.2.1", 4711))
    assert not limits.take(Peer("192.0.2.1", 4712))
    assert limits.take(Peer("2001:db8::1", 4713))
    assert limits.are_reached


def test_limits_do_not_count_a_load_balancer_as_one_client() -> None:
    """FR-34: as long as it has not said whose connection it is."""
    limits = ConnectionLimits(maximum=3, per_host=1)
    peer = Peer("192.0.2.1", 4711)
    assert limits.take(peer, is_proxy=True)
    assert limits.take(peer, is_proxy=True)
    assert not limits.take(peer)
    assert not limits.are_reached
    assert limits.take(Peer("192.0.2.2", 4711))
    assert limits.are_reached
    limits.give_back(peer)
    limits.give_back(peer)
    assert limits.take(peer)


def test_a_connection_that_takes_no_more_queries_says_so() -> None:
    callers = Callers(1)
    callers.connection.close(now=0.0)
    with pytest.raises(LocalProtocolError):
        callers.send()
