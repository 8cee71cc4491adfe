"""The stub resolver: where queries go, what becomes of them, and when connections are opened and given up."""

from __future__ import annotations

import pytest

from dot_proto import (
    Cause,
    ClientConfiguration,
    LocalProtocolError,
    MessageError,
    State,
    TooManyQueriesError,
    make_query,
)
from dot_proto.resolver.configuration import MAX_RETRIES, ResolverConfiguration, Strategy
from dot_proto.resolver.events import (
    FailureReason,
    Phase,
    QueryAnswered,
    ResolverClosed,
    UpstreamDown,
    UpstreamUp,
)
from dot_proto.resolver.machine import StubResolver
from support.interpreted import IS_COMPILED
from support.messages import KEEPALIVE, message, opt, option, response_to, stream_of
from support.resolver import FIRST, SECOND, THIRD, V6, ResolverScene, seeded, upstream

PROBE = "."


def two(**fields):
    return ResolverScene(FIRST, SECOND, **fields)


# Asking


def test_the_first_question_opens_one_connection_and_is_answered():
    scene = ResolverScene()
    query = scene.ask()
    assert scene.dialled() == [FIRST]
    scene.clock.advance(0.25)
    scene.up(0)
    scene.clock.advance(0.25)
    scene.answer(0)
    (event,) = scene.told(QueryAnswered)
    facts = event.facts
    assert (event.query, facts.upstream, facts.address) == (query, scene.resolver.upstreams[0], FIRST)
    assert (facts.connection, facts.queries_before, facts.sends) == (0, 0, 1)
    assert (facts.waited, facts.elapsed) == (0.25, 0.5)
    assert scene.resolver.pending == 0


def test_fifty_first_callers_dial_once():
    """RES-11."""
    scene = ResolverScene()
    for n in range(50):
        scene.ask(f"n{n}.test")
    assert scene.dialled() == [FIRST]
    assert scene.resolver.waiting == 50
    scene.up(0)
    assert len(scene.asked(0)) == 50
    assert scene.resolver.waiting == 0


def test_queries_go_onto_a_connection_that_still_shakes_hands():
    """RES-13: they leave with the end of the handshake, and not before."""
    scene = ResolverScene()
    scene.ask("early.test")
    scene.tcp_up(0)
    scene.ask("late.test")
    assert scene.resolver.waiting == 0
    assert scene.asked(0) == []
    scene.judge(0)
    assert scene.asked(0) == ["early.test", "late.test"]


def test_an_open_connection_is_used_again():
    scene = ResolverScene()
    scene.ask("a.test")
    scene.up(0)
    scene.answer(0)
    scene.ask("b.test")
    scene.answer(0, "b.test")
    assert scene.dialled() == [FIRST]
    assert scene.told(QueryAnswered)[1].facts.queries_before == 1


def test_a_full_connection_makes_queries_wait():
    """RES-12, RES-14, RES-28: no second connection for speed, no second upstream without need."""
    scene = two(connection=ClientConfiguration(max_in_flight=2))
    for name in ("a.test", "b.test", "c.test", "d.test"):
        scene.ask(name)
    scene.up(0)
    assert scene.asked(0) == ["a.test", "b.test"]
    scene.answer(0)
    assert scene.asked(0) == ["b.test", "c.test"]
    scene.answer(0, "b.test")
    assert scene.asked(0) == ["c.test", "d.test"]
    assert scene.dialled() == [FIRST]


def test_a_second_connection_where_it_is_allowed():
    scene = ResolverScene(connection=ClientConfiguration(max_in_flight=1), max_connections=2)
    scene.ask("a.test")
    scene.up(0)
    scene.ask("b.test")
    scene.up(1)
    scene.ask("c.test")
    assert scene.dialled() == [FIRST, FIRST]
    assert (scene.asked(0), scene.asked(1), scene.resolver.waiting) == (["a.test"], ["b.test"], 1)


def test_too_many_wait():
    """RES-14: the error is immediate, memory bounded."""
    scene = ResolverScene(max_waiting=2)
    scene.ask("a.test")
    scene.ask("b.test")
    with pytest.raises(TooManyQueriesError, match="2 queries wait for a connection"):
        scene.ask("c.test")
    scene.up(0)
    scene.ask("c.test")
    assert scene.asked(0) == ["a.test", "b.test", "c.test"]


@pytest.mark.parametrize("is_up", [False, True])
@pytest.mark.parametrize(
    ("octets", "kind"),
    [
        ("example.com", TypeError if IS_COMPILED else LocalProtocolError),  # a compiled engine refuses it by itself
        (b"short", LocalProtocolError),
        (make_query("example.com")[:-4], MessageError),
        (make_query("example.com", "AXFR"), LocalProtocolError),
    ],
)
def test_what_no_connection_would_send_is_refused_at_once(is_up, octets, kind):
    """And nothing is changed by it: neither is anything opened."""
    scene = ResolverScene()
    if is_up:
        scene.ask()
        scene.up(0)
    before = scene.resolver.pending
    dialled = scene.dialled()
    with pytest.raises(kind):
        scene.resolver.send_query(octets, now=scene.now)
    scene.drain()
    assert scene.resolver.pending == before
    assert scene.dialled() == dialled
    assert scene.ask("good.test") == before


def test_wrong_time_and_wrong_handle():
    scene = ResolverScene()
    with pytest.raises(LocalProtocolError, match="timeout must be a number of seconds"):
        scene.resolver.send_query(make_query("a.test"), now=0.0, timeout=-1)
    with pytest.raises(LocalProtocolError, match="0 is no handle"):
        scene.resolver.cancel(0, now=0.0)


# Deadlines


def test_one_deadline_covers_everything():
    """RES-36: waiting, opening and asking together."""
    scene = ResolverScene()
    query = scene.ask(timeout=2.0)
    scene.wait(1.5)
    scene.up(0)
    scene.wait(0.49)
    assert not scene.failures()
    scene.wait(0.02)
    failure = scene.failures()[query]
    assert failure.reason is FailureReason.TIMED_OUT
    assert [attempt.address for attempt in failure.attempts] == [FIRST]
    assert scene.resolver.statistics()[0].timed_out == 1


def test_a_deadline_that_passes_before_anything_has_left():
    scene = ResolverScene()
    waiting, placed = scene.ask("a.test", timeout=0.5), scene.ask("b.test", timeout=1.5)
    scene.wait(1.0)
    scene.tcp_up(0)
    scene.wait(1.0)
    assert {q: f.reason for q, f in scene.failures().items()} == dict.fromkeys(
        [waiting, placed], FailureReason.TIMED_OUT
    )
    assert all(not failure.attempts for failure in scene.failures().values())


def test_an_opening_that_is_not_over_is_named():
    """RES-35: whoever could not be asked in time is told of, and why."""
    lost = upstream(name="dns.example", bootstrap="system")
    scene = ResolverScene(lost, SECOND, upstream(THIRD, V6))

    def reports():
        query = scene.ask(timeout=0.1)
        scene.wait(0.2)
        failures = [report.failure for report in scene.failures()[query].upstreams]
        return [failure and (failure.phase, failure.address) for failure in failures]

    assert reports() == [(Phase.LOOKUP, None), None, None]
    scene.take(scene.resolver.addresses_found(lost, [], 0.0, now=scene.now))
    assert reports() == [(Phase.LOOKUP, None), (Phase.TCP, SECOND), None]
    scene.tcp_up(0)
    assert reports() == [(Phase.LOOKUP, None), (Phase.TLS, SECOND), None]
    scene.fail(0)
    assert reports()[1:] == [(Phase.TLS, SECOND), (Phase.TCP, THIRD)]
    scene.fail(1)
    assert reports()[2] == (Phase.TCP, THIRD)  # and V6 is being dialled


def test_nothing_to_do_is_no_wake_up():
    """An idle resolver wants to be woken for no reason of its own."""
    scene = ResolverScene()
    assert scene.resolver.next_timeout() is None
    scene.ask()
    scene.up(0)
    scene.answer(0)
    scene.wait(5.0)
    assert scene.resolver.next_timeout() is None
    assert scene.resolver.handle_timeout(now=scene.now) == []


# Cancelling


def test_cancelling_in_each_phase():
    """RES-37: the others are not harmed, and an opening that nobody waits for is still used."""
    scene = ResolverScene()
    waiting, other = scene.ask("a.test"), scene.ask("b.test")
    assert scene.cancel(waiting)
    assert not scene.cancel(waiting)
    scene.tcp_up(0)
    early = scene.ask("early.test")
    assert scene.cancel(early)
    scene.judge(0)
    placed = scene.ask("c.test")
    assert scene.cancel(placed)
    assert scene.asked(0) == ["b.test", "c.test"]
    scene.answer(0, "c.test")
    scene.answer(0, "b.test")
    assert scene.answers() == [other]
    assert scene.resolver.pending == 0


def test_an_opening_that_nobody_waits_for_is_not_repeated():
    scene = ResolverScene()
    scene.cancel(scene.ask())
    scene.fail(0)
    scene.wait(100.0)
    assert scene.dialled() == [FIRST]
    assert scene.resolver.next_timeout() is None


# Openings


def test_the_next_address_after_a_while_or_at_once():
    """RES-15: v6 that drops everything costs 250 ms; a refusal costs nothing."""
    scene = ResolverScene(upstream(V6, FIRST, SECOND))
    scene.ask()
    scene.wait(0.24)
    assert scene.dialled() == [V6]
    scene.wait(0.02)
    assert scene.dialled() == [V6, FIRST]
    scene.fail(1)
    assert scene.dialled() == [V6, FIRST, SECOND]
    scene.up(2)
    assert scene.abandoned() == [0]
    assert scene.asked(2) == ["example.com"]


def test_tcp_alone_does_not_win():
    """The kernel of a stopped server accepts TCP: what waits on it is moved to the one that was authenticated."""
    scene = ResolverScene(upstream(FIRST, SECOND))
    query = scene.ask()
    scene.tcp_up(0)
    scene.wait(0.3)
    scene.up(1)
    assert scene.asked(1) == ["example.com"]
    assert scene.abandoned() == [0]
    scene.answer(1)
    assert scene.answers() == [query]
    assert scene.told(QueryAnswered)[0].facts.sends == 1
    # What an abandoned connection still reports changes nothing.
    scene.fail(0)
    scene.feed(0, scene.engines[0].receive_eof(now=scene.now))
    scene.take(scene.resolver.connection_opened(0, scene.engines[0], now=scene.now))
    assert scene.resolver.statistics()[0].failed == 0


def test_an_open_connection_cannot_fail_to_open():
    scene = ResolverScene()
    scene.ask()
    scene.up(0)
    with pytest.raises(LocalProtocolError, match="connection 0 has been opened"):
        scene.fail(0)


def test_the_address_that_worked_last_comes_first():
    scene = ResolverScene(upstream(FIRST, SECOND))
    scene.ask()
    scene.fail(0)
    scene.up(1)
    scene.answer(1)
    scene.end(1)
    scene.ask()
    assert scene.dialled() == [FIRST, SECOND, SECOND]


def test_an_opening_has_three_seconds():
    """RES-16: both where TCP does not come up, and where the handshake does not end."""
    scene = two()
    query = scene.ask()
    scene.tcp_up(0)
    scene.wait(3.01)
    assert scene.abandoned() == [0]
    (down,) = scene.told(UpstreamDown)
    assert (down.failure.phase, down.failure.explanation) == (Phase.TLS, "not open within 3 s")
    assert scene.dialled() == [FIRST, SECOND]
    scene.up(1)
    scene.answer(1)
    assert scene.answers() == [query]
    assert scene.told(QueryAnswered)[0].facts.sends == 1

    scene = ResolverScene()
    scene.ask()
    scene.wait(3.01)
    assert scene.told(UpstreamDown)[0].failure.phase is Phase.TCP


def test_addresses_that_take_too_long_together():
    """All of them are given up, and the upstream is down once."""
    scene = ResolverScene(upstream(FIRST, SECOND))
    scene.ask(timeout=3.5)
    scene.wait(3.3)
    assert scene.abandoned() == [0, 1]
    assert len(scene.told(UpstreamDown)) == 1


def test_a_failure_of_which_the_cause_is_known_is_tried_again_at_once():
    """FR-13 in a resolver: a server that ends handshakes in which a session is offered; once, and not for ever."""
    scene = ResolverScene()
    query = scene.ask()
    scene.tcp_up(0)
    scene.fail(0, "the server has ended the handshake", may_retry=True)
    assert scene.dialled() == [FIRST, FIRST]
    scene.up(1)
    scene.answer(1)
    assert scene.answers() == [query]

    scene = ResolverScene()
    scene.ask()
    for number in range(MAX_RETRIES + 1):
        assert scene.told(UpstreamDown) == []
        scene.fail(number, "the server has ended the handshake", may_retry=True)
    assert len(scene.dialled()) == MAX_RETRIES + 1
    assert len(scene.told(UpstreamDown)) == 1


# Names of upstreams


def test_a_name_is_looked_up_and_kept_for_a_while():
    """RES-8."""
    scene = ResolverScene(upstream(bootstrap="system"))
    (server,) = scene.resolver.upstreams
    query = scene.ask()
    assert (scene.lookups(), scene.dialled()) == (["dot.test"], [])
    scene.take(scene.resolver.addresses_found(server, [FIRST], 3.0, now=scene.now))
    scene.up(0)
    scene.answer(0)
    assert scene.answers() == [query]
    scene.end(0)
    scene.wait(59.0)
    scene.ask()
    assert scene.lookups() == ["dot.test"]
    scene.up(1)
    scene.answer(1)
    scene.end(1)
    scene.wait(2.0)
    scene.ask()
    assert scene.lookups() == ["dot.test"] * 2
    # The old addresses serve while nobody knows better: a wrong one would not be authenticated.
    scene.take(scene.resolver.addresses_found(server, [], 0.0, now=scene.now))
    assert scene.dialled() == [FIRST] * 3
    # Nobody waits for this one: it is kept all the same.
    scene.up(2)
    scene.take(scene.resolver.addresses_found(server, [SECOND], 1e9, now=scene.now))
    scene.answer(2)
    scene.end(2)
    scene.wait(86_399.0)
    scene.ask()
    assert scene.dialled()[-1] == SECOND


def test_a_bootstrap_that_is_dead_is_not_waited_for_each_time():
    """RES-8: while the addresses of before serve, it is asked again after 30 s, and not by every connection."""
    scene = ResolverScene(upstream(bootstrap="system"))
    (server,) = scene.resolver.upstreams
    scene.ask()
    scene.take(scene.resolver.addresses_found(server, [FIRST], 60.0, now=scene.now))
    for number, (rest, lookups) in enumerate([(61.0, 1), (1.0, 2), (25.0, 2), (5.0, 2), (0.0, 3)]):
        scene.up(number)
        scene.answer(number)
        scene.end(number)
        assert len(scene.lookups()) == lookups
        scene.wait(rest)
        scene.ask()
        if len(scene.lookups()) > lookups:
            scene.wait(3.0)  # in vain
    assert len(scene.dialled()) == 6
    assert len(scene.answers()) == 5


def test_a_lookup_that_fails_or_never_ends():
    scene = ResolverScene(upstream(bootstrap="system"), upstream(SECOND))
    (server, _) = scene.resolver.upstreams
    scene.ask()
    scene.take(scene.resolver.addresses_found(server, [], 0.0, now=scene.now))
    (down,) = scene.told(UpstreamDown)
    assert (down.failure.phase, down.failure.address) == (Phase.LOOKUP, None)
    assert down.failure.explanation == "no address was found for its name"
    assert scene.dialled() == [SECOND]

    scene = ResolverScene(upstream(bootstrap="system"))
    scene.ask()
    scene.wait(3.01)
    assert scene.told(UpstreamDown)[0].failure.phase is Phase.LOOKUP


# Authentication


def test_what_is_told_of_a_failure_names_no_account():
    """RES-6: neither in the log, nor in the error, nor in the attempt that is reported."""
    scene = ResolverScene(upstream(FIRST, name="abc123.dns.nextdns.io"))
    query = scene.ask()
    scene.fail(0, "the certificate is not for abc123.dns.nextdns.io")
    (down,) = scene.told(UpstreamDown)
    assert down.failure.explanation == "the certificate is not for ***.dns.nextdns.io"
    scene.wait(5.0)
    assert "abc123" not in repr(scene.failures()[query])


def test_an_impostor_gets_nothing_and_is_left_alone():
    """RES-32: the second answers; two handshakes with the first in an hour, not one a second."""
    scene = two()
    query = scene.ask()
    scene.refuse(0)
    assert scene.sent[0] == []
    (down,) = scene.told(UpstreamDown)
    assert (down.failure.phase, down.next_try - scene.now) == (Phase.AUTHENTICATION, 60.0)
    assert down.failure.verdict is scene.engines[0].verdict
    scene.up(1)
    scene.answer(1)
    assert scene.answers() == [query]
    for _ in range(59):
        scene.wait(1.0)
        scene.ask("again.test")
        scene.answer(1)
    assert scene.dialled() == [FIRST, SECOND]
    scene.wait(1.5)
    scene.ask("again.test")
    assert scene.dialled() == [FIRST, SECOND, FIRST]
    scene.refuse(2)
    assert scene.resolver.statistics()[0].refused == 2


def test_all_refused_is_an_error_at_once():
    """RES-35: and it names each."""
    scene = two()
    query = scene.ask()
    scene.refuse(0)
    scene.refuse(1)
    failure = scene.failures()[query]
    assert failure.reason is FailureReason.NO_UPSTREAM
    assert [report.failure.address for report in failure.upstreams] == [FIRST, SECOND]
    assert [report.failure.phase for report in failure.upstreams] == [Phase.AUTHENTICATION] * 2
    assert all(report.next_try == scene.now + 60.0 for report in failure.upstreams)
    again = scene.ask()
    scene.wait(0.0)
    assert scene.failures()[again].reason is FailureReason.NO_UPSTREAM
    assert scene.dialled() == [FIRST, SECOND]


def test_a_refusal_weighs_more_than_a_failure():
    scene = ResolverScene(upstream(FIRST, SECOND))
    scene.ask()
    scene.refuse(0)
    scene.fail(1)
    assert scene.told(UpstreamDown)[0].failure.phase is Phase.AUTHENTICATION


# Losses


def test_the_end_of_an_idle_connection_is_nobodys_fault():
    """RES-17, RES-26."""
    scene = two()
    scene.ask()
    scene.up(0)
    scene.answer(0)
    scene.end(0, badly=True)
    assert scene.told(UpstreamDown) == []
    query = scene.ask()
    assert scene.dialled() == [FIRST, FIRST]
    scene.up(1)
    scene.answer(1)
    assert scene.answers()[-1] == query


def test_our_own_idle_timeout_is_no_failure_either():
    scene = ResolverScene()
    scene.cancel(scene.ask())
    scene.up(0)
    scene.wait(11.0)
    assert scene.engines[0].state is State.CLOSED
    assert scene.told(UpstreamDown) == []


def test_a_fresh_connection_that_ends_unanswered_is_a_failure():
    scene = two()
    query = scene.ask()
    scene.up(0)
    scene.end(0)
    assert scene.told(UpstreamDown)[0].failure.phase is Phase.END
    scene.up(1)
    scene.answer(1)
    facts = scene.told(QueryAnswered)[0].facts
    assert (scene.answers(), facts.sends, facts.address) == ([query], 2, SECOND)


def test_a_lost_query_is_asked_at_another_upstream_first():
    """RES-25; the others of the connection too, in their order."""
    scene = two()
    scene.ask("a.test")
    scene.up(0)
    scene.answer(0)
    for name in ("b.test", "c.test"):
        scene.ask(name)
    scene.end(0)
    assert scene.dialled() == [FIRST, SECOND]
    fresh = scene.ask("d.test")
    assert scene.dialled() == [FIRST, SECOND, FIRST]
    scene.up(1)
    scene.up(2)
    assert (scene.asked(1), scene.asked(2)) == (["b.test", "c.test"], ["d.test"])
    scene.answer(2)
    assert scene.answers()[-1] == fresh


def test_a_name_that_ends_connections_is_sent_three_times():
    """RES-25: at most three dials, and the others are answered."""
    scene = ResolverScene()
    scene.ask("warm.test")
    scene.up(0)
    scene.answer(0)
    poison = scene.ask("poison.test")
    for number in range(3):
        scene.end(number)
        if number < 2:
            scene.up(number + 1)
            scene.ask("other.test")
            scene.answer(number + 1, "other.test")
    failure = scene.failures()[poison]
    assert failure.reason is FailureReason.LOST
    assert [attempt.explanation for attempt in failure.attempts] == ["the server closed the connection"] * 3
    assert [attempt.cause for attempt in failure.attempts] == [Cause.PEER_CLOSED] * 3
    assert failure.safe_to_resend
    assert len(scene.dialled()) == 3
    assert scene.resolver.statistics()[0].lost == 3


def test_an_update_is_not_sent_twice():
    scene = two()
    scene.ask()
    scene.up(0)
    scene.answer(0)
    update = bytearray(make_query("example.com", "SOA"))
    update[2] = 5 << 3
    query = scene.resolver.send_query(bytes(update), now=scene.now)
    scene.drain()
    scene.end(0)
    assert (scene.failures()[query].reason, scene.failures()[query].safe_to_resend) == (FailureReason.LOST, False)
    assert scene.dialled() == [FIRST]


def test_what_never_left_does_not_count_as_sent():
    """A server that takes connections and ends them costs a query nothing but time."""
    scene = ResolverScene()
    query = scene.ask()
    for number in range(4):
        scene.tcp_up(number)
        scene.end(number)
        scene.wait(0.8)
    scene.up(4)
    scene.answer(4, PROBE)
    assert scene.asked(4) == ["example.com"]
    scene.answer(4)
    assert (scene.answers(), scene.told(QueryAnswered)[0].facts.sends) == ([query], 1)


# Silence


def test_a_silent_server_is_probed_and_given_up():
    """RES-21, RES-23: a second of silence, half a second more, and its queries go elsewhere."""
    scene = two()
    scene.ask("a.test")
    scene.up(0)
    scene.answer(0)
    query = scene.ask("b.test")
    scene.wait(0.49)
    assert scene.asked(0) == ["b.test"]
    scene.wait(0.02)
    assert scene.asked(0) == ["b.test", PROBE]
    other = scene.ask("c.test")
    assert scene.asked(0) == ["b.test", PROBE]
    assert scene.dialled() == [FIRST, SECOND]
    scene.wait(0.5)
    assert scene.told(UpstreamDown)[0].failure.phase is Phase.SILENCE
    scene.up(1)
    assert sorted(scene.asked(1)) == ["b.test", "c.test"]
    scene.answer(1)
    scene.answer(1)
    assert sorted(scene.answers()[1:]) == [query, other]
    assert scene.engines[0].state is State.CLOSED


def test_an_unmeasured_server_has_a_second():
    scene = ResolverScene()
    scene.ask()
    scene.up(0)
    scene.wait(0.99)
    assert scene.asked(0) == ["example.com"]
    scene.wait(0.02)
    assert scene.asked(0) == ["example.com", PROBE]


def test_a_slow_name_is_waited_for():
    """RES-22: asked once, one probe, answered when the answer comes."""
    scene = two()
    query = scene.ask("slow.test")
    scene.up(0)
    scene.wait(1.01)
    scene.answer(0, PROBE)
    scene.wait(0.99)
    scene.answer(0, "slow.test")
    assert scene.answers() == [query]
    assert scene.told(QueryAnswered)[0].facts.sends == 1
    assert scene.resolver.statistics()[0].probes == 1
    assert scene.dialled() == [FIRST]


def test_probes_become_rarer_while_only_they_are_answered():
    scene = ResolverScene()
    scene.ask(timeout=30.0)
    scene.up(0)
    for _ in range(200):
        scene.wait(0.1)
        if PROBE in scene.asked(0):
            scene.answer(0, PROBE)
    assert scene.resolver.statistics()[0].probes == 6  # after about 1, 3, 7, 11, 15 and 19 s
    assert scene.told(UpstreamDown) == []


def test_a_probe_that_is_never_answered_on_a_connection_that_lives():
    """RES-21: a server may drop it, and answer everything else, for hours; the simulation found what came of that."""
    scene = ResolverScene(connection=ClientConfiguration(idle_timeout=1e6, max_idle_timeout=1e6))
    scene.ask("a.test", timeout=9.0)
    scene.up(0)
    scene.wait(1.1)
    assert scene.asked(0) == ["a.test", PROBE]
    scene.answer(0, "a.test")
    scene.wait(3700.0)
    assert scene.resolver.statistics()[0].timed_out == 0
    query = scene.ask("b.test")
    scene.answer(0, "b.test")
    assert query in scene.answers()


def test_a_caller_who_never_waits_long_does_not_hide_a_silent_server():
    scene = two()
    for n in range(20):
        query = scene.ask(f"n{n}.test")
        if n == 0:
            scene.up(0)
        scene.wait(0.1)
        scene.cancel(query)
    assert scene.told(UpstreamDown)[0].failure.phase is Phase.SILENCE
    assert scene.dialled()[:2] == [FIRST, SECOND]


def test_any_message_is_a_sign_of_life():
    scene = ResolverScene()
    scene.ask()
    scene.up(0)
    for _ in range(5):
        scene.wait(0.9)
        scene.receive(0, stream_of([message(id=1, flags=0x8000)]))
    assert scene.asked(0) == ["example.com"]


def test_silence_on_a_connection_that_takes_no_more_queries():
    """Nothing can be asked there; what is owed is waited for as long as a probe would be."""
    scene = two(connection=ClientConfiguration(max_in_flight=1))
    scene.ask("a.test")
    scene.up(0)
    scene.wait(1.6)
    assert scene.asked(0) == ["a.test"]
    assert scene.told(UpstreamDown)[0].failure.phase is Phase.SILENCE
    assert scene.dialled() == [FIRST, SECOND]


# Failed upstreams


def test_a_failed_upstream_is_tried_again_by_a_probe_first():
    """3.3: names only after an answer; half of the names of a mute server would wait otherwise."""
    scene = two()
    scene.ask("a.test")
    scene.fail(0)
    scene.up(1)
    scene.answer(1)
    scene.wait(0.2)
    scene.ask("b.test")
    assert scene.dialled() == [FIRST, SECOND, FIRST]
    assert scene.asked(1) == ["b.test"]
    scene.up(2)
    assert scene.asked(2) == [PROBE]
    scene.ask("c.test")
    assert scene.asked(1) == ["b.test", "c.test"]
    scene.answer(2)
    (up,) = scene.told(UpstreamUp)
    assert up.upstream is scene.resolver.upstreams[0]
    scene.ask("d.test")
    assert scene.asked(2) == ["d.test"]


def test_a_mute_upstream_stays_down():
    scene = two()
    scene.ask("a.test")
    scene.fail(0)
    scene.up(1)
    scene.answer(1)
    scene.wait(0.2)
    scene.ask("b.test")
    scene.up(2)
    scene.answer(1)
    scene.wait(1.6)
    assert scene.resolver.statistics()[0].is_up is False
    assert scene.engines[2].state is State.CLOSED
    assert len(scene.told(UpstreamDown)) == 1


def test_the_only_upstream_comes_back_and_the_query_that_waits_is_answered():
    """RES-35, RES-31."""
    scene = ResolverScene()
    query = scene.ask()
    for number in range(4):
        scene.fail(number)
        scene.wait(1.0)
    assert len(scene.dialled()) == 5
    scene.wait(0.5)
    scene.fail(4)  # the next try is 1 s away, the deadline half a second
    assert scene.failures()[query].reason is FailureReason.NO_UPSTREAM

    scene = ResolverScene()
    query = scene.ask()
    scene.fail(0)
    scene.wait(0.11)
    assert len(scene.dialled()) == 2
    scene.up(1)
    scene.answer(1, PROBE)
    scene.answer(1)
    assert scene.answers() == [query]


def test_an_upstream_that_is_down_with_a_connection_that_lives_is_probed_there():
    scene = ResolverScene(connection=ClientConfiguration(max_in_flight=2), max_connections=2)
    for name in ("a.test", "b.test", "c.test"):
        scene.ask(name)
    scene.up(0)
    scene.up(1)
    assert (scene.asked(0), scene.asked(1)) == (["a.test", "b.test"], ["c.test"])
    scene.answer(1)
    scene.wait(1.6)
    assert scene.engines[0].state is State.CLOSED
    assert scene.told(UpstreamDown)
    scene.wait(0.2)
    assert scene.asked(1) == [PROBE]
    scene.answer(1)
    assert sorted(scene.asked(1)) == ["a.test", "b.test"]


def test_a_new_connection_beside_one_that_drains():
    """The upstream went down while one of its connections owes an answer: that one can tell nothing any more."""
    scene = ResolverScene()
    scene.ask("a.test", timeout=9.0)
    scene.up(0)
    scene.network_changed()
    scene.ask("b.test")
    scene.fail(1)
    scene.wait(0.2)
    assert scene.dialled() == [FIRST, FIRST, FIRST]


# Strategies


def names_at(scene, numbers):
    return [len(scene.asked(number)) for number in numbers]


def test_by_turns():
    scene = ResolverScene(FIRST, SECOND, THIRD, strategy=Strategy.ROUND_ROBIN)
    for n in range(6):
        scene.ask(f"n{n}.test")
    for number in range(3):
        scene.up(number)
    assert scene.dialled() == [FIRST, SECOND, THIRD]
    assert names_at(scene, range(3)) == [2, 2, 2]


def test_at_random():
    scene = ResolverScene(FIRST, SECOND, strategy=Strategy.RANDOM, entropy=seeded(1))
    for n in range(200):
        scene.ask(f"n{n}.test")
    scene.up(0)
    scene.up(1)
    assert all(70 < count < 130 for count in names_at(scene, range(2)))


def test_the_fastest():
    """RES-30: the unknown first, then the one with the shortest time; what is old counts little."""
    scene = two(strategy=Strategy.FASTEST)
    scene.ask("a.test")
    scene.up(0)
    scene.wait(0.4)
    scene.answer(0)
    scene.ask("b.test")
    scene.up(1)
    scene.wait(0.1)
    scene.answer(1)
    assert scene.dialled() == [FIRST, SECOND]
    first, second = scene.resolver.statistics()
    assert (first.smoothed_time, second.smoothed_time) == pytest.approx((0.4, 0.1))
    scene.ask("c.test")
    assert scene.asked(1) == ["c.test"]
    scene.wait(0.1)
    scene.answer(1)
    for _ in range(4):
        scene.wait(180.0)
        scene.ask("d.test")
        number = max(scene.engines) + 1
        if scene.dialled()[-1] == FIRST:
            break
        scene.up(number)
        scene.wait(0.1)
        scene.answer(number)
    assert scene.dialled()[-1] == FIRST


@pytest.mark.parametrize("rcode", [2, 4, 5])
def test_rcodes_that_ask_for_the_next_upstream(rcode):
    """RES-33."""
    scene = two(failover_rcodes=frozenset({2, 4, 5}))
    query = scene.ask()
    scene.up(0)
    scene.answer(0, rcode=rcode)
    scene.up(1)
    scene.answer(1)
    (event,) = scene.told(QueryAnswered)
    assert (event.query, event.message[3] & 15, event.facts.address, event.facts.sends) == (query, 0, SECOND, 2)


def test_if_all_say_so_the_first_answer_counts():
    scene = two(failover_rcodes=frozenset({2, 5}))
    scene.ask()
    scene.up(0)
    scene.answer(0, rcode=5)
    scene.up(1)
    scene.answer(1, rcode=2)
    (event,) = scene.told(QueryAnswered)
    assert (event.message[3] & 15, event.facts.address) == (5, FIRST)

    scene = two(failover_rcodes=frozenset({2}))
    query = scene.ask()
    scene.up(0)
    scene.answer(0, rcode=2)
    scene.wait(6.0)
    assert scene.answers() == [query]


def test_a_name_that_all_servers_fail_for_is_shown_to_three():
    """RES-25, RES-33: the limit of sendings is one for all reasons."""
    scene = ResolverScene(FIRST, SECOND, THIRD, V6, failover_rcodes=frozenset({2}))
    query = scene.ask()
    for number in range(3):
        scene.up(number)
        scene.answer(number, rcode=2)
    assert scene.answers() == [query]
    assert scene.dialled() == [FIRST, SECOND, THIRD]


def test_rcodes_are_answers_otherwise():
    """RES-28, RES-29: SERVFAIL is asked for once, and nobody else is shown the name."""
    scene = two()
    scene.ask()
    scene.up(0)
    scene.answer(0, rcode=2)
    assert scene.told(QueryAnswered)[0].message[3] & 15 == 2
    scene.wait(10.0)
    assert scene.dialled() == [FIRST]
    assert scene.asked(0) == []


def test_a_server_that_says_it_will_close_gets_no_more_queries():
    """RES-19 (RFC 7828, section 3.2.2): what it owes is waited for; the next query goes to another connection."""
    scene = ResolverScene()
    first, second = scene.ask("a.test"), scene.ask("b.test")
    scene.up(0)
    (query, _) = scene.sent[0]
    scene.sent[0].remove(query)
    scene.receive(0, stream_of([response_to(query, additionals=[opt(option(KEEPALIVE, b"\0\0"))])]))
    assert scene.answers() == [first]
    third = scene.ask("c.test")
    assert scene.dialled() == [FIRST, FIRST]
    scene.up(1)
    assert scene.asked(1) == ["c.test"]
    scene.answer(0, "b.test")
    scene.answer(1, "c.test")
    assert scene.answers() == [first, second, third]
    assert scene.resolver.statistics()[0].lost == 0


def test_a_transfer_is_no_query_for_a_resolver():
    """RES-20: its messages would be taken for the zone, and one that was cut off must not be asked for again."""
    scene = ResolverScene()
    for rdtype in ("AXFR", 251):
        with pytest.raises(LocalProtocolError, match="several messages"):
            scene.resolver.send_query(make_query("example.com", rdtype), now=0.0)
    assert scene.resolver.pending == 0


def test_what_is_counted():
    """RES-44: and no name stands in it."""
    scene = two()
    for name in ("a.test", "b.test", "c.test"):
        scene.ask(name)
    scene.up(0)
    scene.answer(0, rcode=3)
    scene.wait(0.25)
    scene.answer(0)
    one = scene.resolver.statistics()[0]
    assert (one.sent, one.resent, one.pending, one.answered, one.rcodes) == (3, 0, 1, 2, {3: 1, 0: 1})
    assert (one.opened, one.failed, one.refused, one.lost, one.timed_out, one.probes) == (1, 0, 0, 0, 0, 0)
    facts = scene.told(QueryAnswered)[1].facts
    assert (facts.age, facts.elapsed, facts.queries_before, facts.sends) == (0.25, 0.25, 1, 1)
    assert facts.verdict.authenticated
    scene.end(0)
    scene.up(1)
    scene.answer(1, "c.test")
    one, other = scene.resolver.statistics()
    assert (one.lost, one.pending, other.sent, other.resent, other.answered) == (1, 0, 1, 1, 1)
    assert "test" not in repr([one.rcodes, other.rcodes])


def test_who_is_waited_for_is_counted():
    """RES-44: now, and at the most; by the upstream that the queries want first, also after a loss."""
    scene = two(connection=ClientConfiguration(max_in_flight=2))

    def waiting():
        return [(one.waiting, one.most_waiting) for one in scene.resolver.statistics()]

    queries = [scene.ask(f"n{n}.test") for n in range(5)]
    assert waiting() == [(5, 5), (0, 0)]
    scene.up(0)
    assert waiting() == [(3, 5), (0, 0)]
    scene.cancel(queries[4])
    assert waiting() == [(2, 5), (0, 0)]
    scene.answer(0)
    scene.end(0)
    assert waiting() == [(1, 5), (2, 2)]
    scene.close(0.0)
    scene.wait(0.0)
    assert waiting() == [(0, 5), (0, 2)]

    scene = ResolverScene()
    scene.ask()
    scene.up(0)
    scene.answer(0)
    scene.ask()
    scene.end(0)
    assert waiting() == [(1, 1)]
    scene.wait(9.0)
    assert waiting() == [(0, 1)]


# The network


def test_another_network():
    """RES-41: what is owed may still come; new questions go to a new connection; sessions are forgotten."""
    scene = two()
    query = scene.ask("a.test")
    scene.up(0)
    scene.network_changed()
    assert scene.forgotten() == 1
    scene.ask("b.test")
    assert scene.dialled() == [FIRST, FIRST]
    scene.answer(0)
    assert scene.answers() == [query]
    assert scene.engines[0].state is State.CLOSED
    scene.up(1)
    assert scene.asked(1) == ["b.test"]


def test_the_address_that_was_good_in_the_old_network_comes_in_its_turn():
    """RES-41."""
    scene = ResolverScene(upstream(V6, FIRST))
    scene.ask()
    scene.fail(0)
    scene.up(1)
    scene.answer(1)
    scene.network_changed()
    scene.ask()
    assert scene.dialled() == [V6, FIRST, V6]


def test_another_network_while_opening_and_while_down():
    scene = two()
    scene.ask()
    scene.refuse(0)
    scene.tcp_up(1)
    scene.network_changed()
    assert scene.abandoned() == [1]
    assert scene.dialled() == [FIRST, SECOND, FIRST]
    assert scene.told(UpstreamUp) == []
    assert scene.resolver.statistics()[0].is_up


def test_what_is_owed_in_the_old_network_is_asked_in_the_new_one_after_a_while():
    scene = ResolverScene()
    scene.ask()
    scene.up(0)
    scene.network_changed()
    scene.wait(1.6)
    assert scene.dialled() == [FIRST, FIRST]


@pytest.mark.parametrize("end", ["silence", "FIN", "RST"])
def test_how_a_connection_of_the_old_network_ends_says_nothing_of_the_server(end):
    """RES-40, RES-41: it stays up, and no second operator is shown what was owed there."""
    scene = two()
    query = scene.ask("a.test")
    scene.up(0)
    scene.network_changed()
    if end == "silence":
        scene.wait(1.6)
    else:
        scene.end(0, badly=end == "RST")
    assert scene.told(UpstreamDown) == []
    assert scene.dialled() == [FIRST, FIRST]
    scene.up(1)
    scene.answer(1)
    assert scene.answers() == [query]
    assert scene.resolver.statistics()[0].resent == 1


@pytest.mark.parametrize("noticed", [0.3, 1.0])
def test_a_silent_server_of_the_old_network_gets_no_probe(noticed):
    """RES-40: it could not answer that either; what it owes is asked anew when the silence calls for an action."""
    scene = two()
    scene.ask()
    scene.up(0)
    scene.clock.advance(noticed)
    scene.network_changed()
    scene.wait(1.01 - noticed)
    assert scene.dialled() == [FIRST, FIRST]
    assert scene.resolver.statistics()[0].probes == 0


# Closing


def test_closing_waits_for_what_is_owed():
    """RES-38."""
    scene = two()
    query = scene.ask()
    scene.up(0)
    scene.close()
    with pytest.raises(LocalProtocolError, match="closed"):
        scene.ask()
    assert scene.told(ResolverClosed) == []
    scene.answer(0)
    assert scene.answers() == [query]
    assert scene.events[-1] == ResolverClosed()
    assert scene.resolver.next_timeout() is None


@pytest.mark.parametrize("leave", [ResolverScene.close, ResolverScene.network_changed])
def test_the_answer_to_a_probe_is_not_waited_for(leave):
    """RES-38, RES-41: it is owed to nobody."""
    scene = ResolverScene()
    query = scene.ask()
    scene.up(0)
    scene.wait(1.1)
    assert scene.asked(0) == ["example.com", PROBE]
    scene.cancel(query)
    leave(scene)
    scene.wait(0.0)
    assert scene.engines[0].state is State.CLOSED


def test_closing_with_nothing_open_twice():
    scene = ResolverScene()
    scene.close()
    scene.wait(0.0)
    scene.close()
    scene.wait(0.0)
    assert scene.events == [ResolverClosed()]


def test_closing_in_each_phase():
    scene = ResolverScene(upstream(FIRST, SECOND))
    dialling = scene.ask()
    scene.tcp_up(0)
    scene.close()
    scene.wait(0.0)
    assert scene.abandoned() == [0]
    assert scene.failures()[dialling].reason is FailureReason.CLOSED
    assert scene.events[-1] == ResolverClosed()

    scene = ResolverScene()
    owed = scene.ask()
    scene.up(0)
    scene.close(0.5)
    scene.wait(0.6)
    assert scene.failures()[owed].reason is FailureReason.CLOSED
    assert scene.events[-1] == ResolverClosed()


# Upstreams


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "upstreams holds 0; a resolver has 1 to 16 of them"),
        ([upstream(f"192.0.2.{n}") for n in range(17)], "upstreams holds 17; a resolver has 1 to 16 of them"),
        ([upstream(FIRST), upstream(FIRST)], r"holds .*192.0.2.1.* twice"),
        ([upstream(FIRST), upstream(SECOND, is_opportunistic=True)], "some upstreams are strict"),
        (["tls://192.0.2.1"], r"number 1 in it is 'tls://192.0.2.1': Upstream.parse\(text\) reads one"),
        ([7], "must be a list of Upstream objects, but number 1 in it is 7"),
        ("tls://192.0.2.1", r"not 'tls://192.0.2.1': Upstream.parse\(text\) reads one"),
        (upstream(FIRST), r"not Upstream: give \[upstream\]"),
    ],
)
def test_upstreams_that_cannot_stand_together(given, words):
    """RES-34 among them."""
    with pytest.raises(LocalProtocolError, match=words):
        StubResolver(given, entropy=bytes)


def test_mixed_profiles_where_they_are_allowed():
    configuration = ResolverConfiguration(allow_mixed=True)
    given = [upstream(FIRST), upstream(SECOND, is_opportunistic=True)]
    assert StubResolver(given, configuration, entropy=bytes).upstreams == tuple(given)


@pytest.mark.parametrize(
    "fields",
    [
        {"strategy": "ordered"},
        {"connection": {}},
        {"max_connections": 0},
        {"max_waiting": 1.5},
        {"max_waiting": True},
        {"patience": -1},
        {"query_timeout": float("nan")},
        {"open_timeout": "3"},
        {"failover_rcodes": frozenset({4096})},
        {"failover_rcodes": frozenset({"SERVFAIL"})},
    ],
)
def test_configurations_that_make_no_sense(fields):
    with pytest.raises(LocalProtocolError, match=next(iter(fields))):
        ResolverConfiguration(**fields)
