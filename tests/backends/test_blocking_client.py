"""The blocking client over real sockets, against servers that follow a script."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from dot_io.blocking import Client, Peer, connect, serve
from dot_io.blocking.driver import Driver, Wait
from dot_io.errors import (
    AuthenticationError,
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    Failure,
    HandshakeError,
    QueryTimeoutError,
)
from dot_io.tls import ClientContext
from dot_proto import (
    AuthenticationPolicy,
    Cause,
    ClientConfiguration,
    Fault,
    LocalProtocolError,
    Pin,
    QueryLost,
    QueryTimedOut,
    Reason,
    ResponseReceived,
    make_query,
)
from support.credentials import NAME, Credentials
from support.messages import KEEPALIVE, opt, option, query_of_length, response_to
from support.peers import GIVE_UP, Caller, Script, answer, happens, name_in, scripted, unanswering

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

SHORT = 0.05
"Seconds for what is meant to run out."

SOON = 2.0
"Seconds within which what should come at once must come, on a slow machine too."

UPDATE = bytes.fromhex("0000 2800 0001 0000 0000 0000 076578616d706c65 00 0006 0001")
"An UPDATE of nothing in the zone example. (RFC 2136, section 2)."

STRICT = AuthenticationPolicy.strict


def queries(count: int) -> list[bytes]:
    return [make_query(f"host-{number}.example", message_id=number) for number in range(count)]


@contextmanager
def connected(script: Script, credentials: Credentials, **options: Any) -> Iterator[Client]:
    """A client of a server that follows ``script``."""
    with (
        scripted(script, credentials.file) as server,
        connect("127.0.0.1", credentials.policy, port=server.port, **options) as client,
    ):
        yield client


@contextmanager
def within(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


@contextmanager
def in_thread(function: Callable[..., Any], *arguments: Any, **options: Any) -> Iterator[Future[Any]]:
    """What the function returns or raises; it has ended when the block has."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(function, *arguments, **options)


def answer_all(caller: Caller) -> None:
    while True:
        caller.send(answer(caller.query()))


# Whom to trust.


def policies_that_accept(credentials: Credentials) -> dict[str, AuthenticationPolicy]:
    anchors, pins = [credentials.anchor], [credentials.leaf_pin]
    return {
        "name": STRICT(NAME, trust_anchors=anchors),
        "address": STRICT("127.0.0.1", trust_anchors=anchors),
        "leaf pin": STRICT(pins=pins),
        "backup pin and leaf pin": STRICT(pins=[Pin(bytes(32)), *pins]),
        "name and leaf pin": STRICT(NAME, trust_anchors=anchors, pins=pins),
        "name and issuer's pin": STRICT(NAME, trust_anchors=anchors, pins=[credentials.issuer_pin]),
        "name and issuer pin by hash": STRICT(NAME, issuer_pins=[credentials.issuer_pin]),
    }


def policies_that_refuse(credentials: Credentials) -> dict[str, tuple[AuthenticationPolicy, Reason]]:
    anchors, nobody = [credentials.anchor], Pin(bytes(32))
    return {
        "wrong name": (STRICT("other.example", trust_anchors=anchors), Reason.NAME),
        "wrong address": (STRICT("127.0.0.2", trust_anchors=anchors), Reason.NAME),
        "another root": (STRICT(NAME, trust_anchors=[credentials.stranger]), Reason.UNTRUSTED),
        "the system's roots": (STRICT(NAME), Reason.UNTRUSTED),
        "wrong pin": (STRICT(pins=[nobody]), Reason.PIN),
        "issuer's pin alone": (STRICT(pins=[credentials.issuer_pin]), Reason.PIN),
        "right name, wrong pin": (STRICT(NAME, trust_anchors=anchors, pins=[nobody]), Reason.PIN),
        "right pin, wrong name": (STRICT("o.example", trust_anchors=anchors, pins=[credentials.leaf_pin]), Reason.NAME),
        "wrong issuer pin by hash": (STRICT(NAME, issuer_pins=[nobody]), Reason.PIN),
        "issuer pin by hash, wrong name": (STRICT("o.example", issuer_pins=[credentials.issuer_pin]), Reason.NAME),
    }


def test_a_server_that_proves_what_the_policy_asks_is_asked(credentials: Credentials) -> None:
    """AUT-9, AUT-12, AUT-13, AUT-16: each kind of policy, and the verdict says so."""
    with scripted(answer_all, credentials.file) as server:
        for what, policy in policies_that_accept(credentials).items():
            with connect("127.0.0.1", policy, port=server.port) as client:
                assert client.verdict.authenticated, what
                query = make_query(NAME, message_id=0xBEEF)
                assert client.query(query)[:2] == b"\xbe\xef", what


def test_a_server_that_does_not_is_sent_no_query_octet(credentials: Credentials) -> None:
    """AUT-1, AUT-10: the refusal has its reason; what TLS carries to the server until the end is nothing."""
    seen: list[bytes] = []
    with scripted(lambda caller: seen.append(caller.rest()), credentials.file) as server:
        for what, (policy, reason) in policies_that_refuse(credentials).items():
            with pytest.raises(AuthenticationError) as refusal:
                connect("127.0.0.1", policy, port=server.port)
            assert (what, refusal.value.verdict.reason) == (what, reason)
            assert refusal.value.failure is Failure.REFUSED
    assert b"".join(seen) == b""


def test_without_a_policy_the_address_is_authenticated(credentials: Credentials) -> None:
    """AUT-3: strict is the default (RFC 8310, section 5), against the system's trust store."""
    with scripted(Caller.rest, credentials.file) as server, pytest.raises(AuthenticationError) as refusal:
        connect("127.0.0.1", port=server.port)
    assert refusal.value.verdict.policy == STRICT("127.0.0.1")
    assert refusal.value.verdict.reason is Reason.UNTRUSTED


def test_an_issuer_known_by_hash_takes_two_handshakes(credentials: Credentials) -> None:
    """AUT-12: the first learns the issuer's certificate, the second proves it; queries go to the second alone."""
    asked: list[bytes] = []

    def script(caller: Caller) -> None:
        while True:
            asked.append(caller.query())
            caller.send(answer(asked[-1]))

    policy = STRICT(NAME, issuer_pins=[credentials.issuer_pin])
    with scripted(script, credentials.file) as server, connect("127.0.0.1", policy, port=server.port) as client:
        assert len(client.verdict.validated) == 2
        client.query(make_query(NAME))
    assert (server.accepted, server.handshakes) == (2, 2)
    assert len(asked) == 1


def test_opportunistic_asks_anyway_and_says_what_is_wrong(credentials: Credentials) -> None:
    """AUT-19: only when asked for by name; a known pin is compared, and the verdict has the result."""
    policy = AuthenticationPolicy.opportunistic(pins=[Pin(bytes(32))])
    with (
        scripted(answer_all, credentials.file) as server,
        connect("127.0.0.1", policy, port=server.port) as client,
    ):
        assert client.query(make_query(NAME))
        assert client.verdict.accepted
        assert not client.verdict.authenticated
        assert client.verdict.reason is Reason.PIN


@pytest.mark.usefixtures("needs_ipv6")
def test_ipv6(credentials: Credentials) -> None:
    """AUT-16: an IPv6 address is dialled, and matched with the certificate's iPAddress."""
    peers: list[str] = []

    def handler(query: bytes, peer: Peer) -> bytes:
        peers.append(peer.host)
        return answer(query)

    policy = STRICT("::1", trust_anchors=[credentials.anchor])
    with (
        serve(handler, credentials.context, host="::1", port=0) as server,
        connect("::1", policy, port=server.port) as client,
    ):
        client.query(make_query(NAME))
    assert peers == ["::1"]


def test_sessions_are_resumed_from_one_connection_to_the_next(credentials: Credentials) -> None:
    """TLS-8, TLS-9: the second connection under one context resumes, and inherits the verdict."""
    context = ClientContext(credentials.policy)
    resumed = []
    with serve(answer, credentials.context, port=0) as server:
        for _ in range(3):
            with connect("127.0.0.1", port=server.port, context=context) as client:
                client.query(make_query(NAME))
                assert client.handshake is not None
                assert client.verdict.authenticated
                resumed.append((client.handshake.is_resumed, client.verdict.is_resumed))
    assert resumed == [(False, False), (True, True), (True, True)]


def test_policy_and_context_must_not_disagree(credentials: Credentials) -> None:
    context = ClientContext(credentials.policy)
    with pytest.raises(LocalProtocolError, match="differ"):
        connect("127.0.0.1", STRICT("other.example"), context=context)


# Connecting.


def test_port_53_is_refused() -> None:
    """TLS-3: it is for cleartext (RFC 7858, section 3.1), and nothing is sent there."""
    with pytest.raises(LocalProtocolError, match="port 53"):
        connect("127.0.0.1", port=53)


@pytest.mark.parametrize("port", [0, -1, 65_536])
def test_what_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(LocalProtocolError, match=str(port)):
        connect("127.0.0.1", port=port)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectError, match="refused"):
        connect("127.0.0.1", port=port)


def test_a_host_that_cannot_be_looked_up() -> None:
    """A label of 70 octets is no label (RFC 1035, section 2.3.4)."""
    with pytest.raises(LocalProtocolError, match="a label has 1 to 63 octets"):
        connect("a" * 70 + ".example", STRICT(pins=[Pin(bytes(32))]))


def test_one_deadline_covers_tcp() -> None:
    """CON-18: no answer to SYN."""
    with unanswering() as port, within(SOON), pytest.raises(ConnectTimeoutError):
        connect("127.0.0.1", port=port, timeout=SHORT)


def test_one_deadline_covers_all_addresses(credentials: Credentials, monkeypatch: pytest.MonkeyPatch) -> None:
    """CON-18: of four addresses that do not answer each has its share of the time, and none a time of its own."""
    timeouts: list[float] = []
    with unanswering() as dead, scripted(answer_all, credentials.file) as server:
        addresses = [("127.0.0.1", dead)] * 4
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 0, "", a) for a in addresses]
        )
        started = time.monotonic()
        with pytest.raises(ConnectTimeoutError):
            connect(NAME, credentials.policy, timeout=0.2)
        timeouts.append(time.monotonic() - started)
        assert 0.2 <= timeouts[0] < 0.6
        addresses[3] = ("127.0.0.1", server.port)
        with connect(NAME, credentials.policy, timeout=0.5) as client:
            assert client.query(make_query(NAME))


def test_one_deadline_covers_tcp_and_the_handshake(credentials: Credentials) -> None:
    """CON-18: a peer that accepts and says nothing."""
    with scripted(Caller.rest, None) as server, within(SOON), pytest.raises(HandshakeError) as failure:
        connect("127.0.0.1", credentials.policy, port=server.port, timeout=SHORT)
    assert failure.value.failure is Failure.TIMED_OUT


def test_a_deadline_may_be_as_far_as_one_likes(credentials: Credentials) -> None:
    """poll(2) counts milliseconds in 31 bits, sockets in 63 bits of nanoseconds; neither is the caller's affair."""
    with (
        scripted(answer_all, credentials.file) as server,
        connect("127.0.0.1", credentials.policy, port=server.port, timeout=float("inf")) as client,
    ):
        for timeout in (1e9, 1e300, float("inf")):
            assert client.query(make_query(NAME), timeout=timeout)


def reset_within_the_handshake(caller: Caller) -> None:
    caller.socket.recv(1)
    caller.reset()


@pytest.mark.parametrize(
    ("script", "failure"),
    [
        (lambda caller: caller.socket.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Failure.NOT_TLS),
        (lambda caller: caller.socket.recv(65_536), Failure.END_OF_STREAM),
        (reset_within_the_handshake, Failure.END_OF_STREAM),
        (lambda caller: caller.socket.sendall(bytes.fromhex("15 0303 0002 02 28")), Failure.ALERT),
    ],
    ids=["http", "end", "reset", "alert"],
)
def test_a_handshake_that_fails_is_a_failed_connection(
    credentials: Credentials, script: Script, failure: Failure
) -> None:
    """CON-24, TLS-14: before any query it is the connection that fails, and the error says how."""
    with scripted(script, None) as server, pytest.raises(HandshakeError) as error:
        connect("127.0.0.1", credentials.policy, port=server.port)
    assert error.value.failure is failure


def test_small_messages_do_not_wait(credentials: Credentials) -> None:
    """CON-19: TCP_NODELAY."""
    with connected(answer_all, credentials) as client:
        assert client._driver._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# Asking.


def test_the_response_bears_the_callers_id_and_nothing_else_changes(credentials: Credentials) -> None:
    """MAT-17, FRM-8: the largest message there is."""
    responses: list[bytes] = []

    def script(caller: Caller) -> None:
        query = caller.query()
        assert query[:2] != b"\xbe\xef" or caller.query()[:2] != b"\xbe\xef", "the id is not the caller's"
        bare = response_to(query)
        responses.append(response_to(query, additionals=[opt(option(65_001, bytes(65_535 - len(bare) - 15)))]))
        caller.send(responses[0])
        caller.rest()

    with connected(script, credentials) as client:
        response = client.query(make_query(NAME, message_id=0xBEEF))
    assert len(response) == 65_535
    assert response == b"\xbe\xef" + responses[0][2:]


def test_a_late_answer_harms_nobody(credentials: Credentials) -> None:
    """MAT-15: it comes after its query has timed out, and four more queries on the connection are answered."""
    timed_out = threading.Event()

    def script(caller: Caller) -> None:
        late = caller.query()
        happens(timed_out)
        caller.send(answer(late))
        answer_all(caller)

    with connected(script, credentials) as client:
        with within(SOON), pytest.raises(QueryTimeoutError):
            client.query(make_query("late.example"), timeout=SHORT)
        timed_out.set()
        for query in queries(4):
            assert name_in(client.query(query)) == name_in(query)


def test_a_timeout_is_the_configurations_unless_said(credentials: Credentials) -> None:
    configuration = ClientConfiguration(query_timeout=SHORT)
    with connected(Caller.rest, credentials, configuration=configuration) as client:
        with within(SOON), pytest.raises(QueryTimeoutError):
            client.query(make_query(NAME))
        [(position, outcome)] = client.query_many([make_query(NAME)])
        assert position == 0
        assert isinstance(outcome, QueryTimedOut)
        assert outcome.elapsed >= SHORT


def test_queries_do_not_wait_for_answers_and_answers_come_in_any_order(credentials: Credentials) -> None:
    """CON-2, MAT-3: the server answers only after the third query has arrived, and the last one first."""

    def script(caller: Caller) -> None:
        for query in reversed(caller.queries(3)):
            caller.send(answer(query))
        caller.rest()

    with connected(script, credentials) as client:
        outcomes = list(client.query_many(queries(3)))
    assert [position for position, _ in outcomes] == [2, 1, 0]
    for position, outcome in outcomes:
        assert isinstance(outcome, ResponseReceived)
        assert name_in(outcome.message) == f"host-{position}"


def test_no_more_are_in_flight_than_allowed(credentials: Credentials) -> None:
    """``max_in_flight`` 3: after three the server hears nothing, until it answers one."""

    def script(caller: Caller) -> None:
        waiting = caller.queries(3)
        for _ in range(5):
            assert caller.is_silent(0.02)
            caller.send(answer(waiting.pop(0)))
            waiting.append(caller.query())
        caller.send(*map(answer, waiting))
        caller.rest()

    with connected(script, credentials) as client:
        positions = [position for position, _ in client.query_many(queries(8), max_in_flight=3)]
    assert positions == list(range(8))


def test_at_least_one_must_be_allowed(credentials: Credentials) -> None:
    with connected(answer_all, credentials) as client, pytest.raises(LocalProtocolError, match="max_in_flight"):
        list(client.query_many(queries(1), max_in_flight=0))


def test_leaving_the_loop_cancels_what_is_in_flight(credentials: Credentials) -> None:
    """CON-17: nothing is owed any more, so closing waits for nothing; before that, others are served."""
    left = threading.Event()

    def script(caller: Caller) -> None:
        first, *others = caller.queries(3)
        caller.send(answer(first))
        happens(left)
        caller.send(answer(caller.query()), answer(others[0]))  # the other one is never answered
        caller.rest()

    with connected(script, credentials) as client:
        for position, _ in client.query_many(queries(3)):
            assert position == 0
            break
        left.set()
        assert name_in(client.query(make_query("after.example"))) == "after"
        with within(SOON):
            client.close(timeout=GIVE_UP)


def test_what_the_iterable_raises_passes_through(credentials: Credentials) -> None:
    """The queries that it gave before are cancelled, and the connection goes on."""

    def source() -> Iterator[bytes]:
        yield make_query("one.example")
        raise ZeroDivisionError

    with connected(answer_all, credentials) as client:
        with pytest.raises(ZeroDivisionError):
            list(client.query_many(source()))
        assert name_in(client.query(make_query("two.example"))) == "two"


def test_a_message_that_is_no_query_is_refused_and_changes_nothing(credentials: Credentials) -> None:
    """FRM-9."""
    with connected(answer_all, credentials) as client:
        for nonsense in (b"", bytes(11), bytes(65_536), answer(make_query(NAME))):
            with pytest.raises(LocalProtocolError):
                client.query(nonsense)
        assert client.query(make_query(NAME))


# How it ends.


def ends_with_close_notify(caller: Caller) -> None:
    caller.send_close_notify()
    caller.socket.close()


def ends_inside_a_message(caller: Caller) -> None:
    caller.socket.sendall(b"\x00\x40half")
    ends_with_close_notify(caller)


@pytest.mark.parametrize(
    ("ending", "cause", "fault"),
    [
        (ends_with_close_notify, Cause.PEER_CLOSED, None),
        (ends_inside_a_message, Cause.PEER_FAULT, Fault.TRUNCATED),
        (lambda caller: caller.socket.close(), Cause.TRANSPORT_FAILED, Fault.NO_CLOSE_NOTIFY),
        (Caller.reset, Cause.TRANSPORT_FAILED, Fault.RESET),
    ],
    ids=["close_notify", "truncated", "bare FIN", "RST"],
)
def test_a_connection_lost_in_the_middle(
    credentials: Credentials, ending: Script, cause: Cause, fault: Fault | None
) -> None:
    """CON-6, CON-7, CON-10: each query that was sent has its fate; then one error for those that never were."""

    def script(caller: Caller) -> None:
        first, *_ = caller.queries(3)
        caller.send(answer(first))
        caller.query()
        ending(caller)

    fates: list[Any] = []
    with connected(script, credentials) as client:
        with pytest.raises(ConnectionLostError) as lost:
            fates.extend(client.query_many(queries(6), max_in_flight=3))
        assert client.is_closed
        with pytest.raises(ConnectionLostError):
            client.query(make_query(NAME))
    (position, outcome), *rest = fates
    assert (position, type(outcome)) == (0, ResponseReceived)
    assert sorted(position for position, _ in rest) == [1, 2, 3]
    assert all(isinstance(outcome, QueryLost) and outcome.safe_to_resend for _, outcome in rest)
    assert lost.value.cause is cause
    assert (lost.value.error and lost.value.error.fault) == fault
    assert lost.value.safe_to_resend


def test_a_lost_update_may_have_been_done(credentials: Credentials) -> None:
    """CON-7: only what is idempotent may be sent again without a thought."""

    def script(caller: Caller) -> None:
        caller.queries(2)
        ends_with_close_notify(caller)

    with connected(script, credentials) as client:
        fates = dict(client.query_many([UPDATE, make_query(NAME)]))
        assert [fates[position].safe_to_resend for position in (0, 1)] == [False, True]
    with connected(lambda caller: caller.query(), credentials) as client:
        with pytest.raises(ConnectionLostError) as lost:
            client.query(UPDATE)
        assert not lost.value.safe_to_resend


def test_what_came_before_a_reset_still_counts(credentials: Credentials) -> None:
    """CON-6: it is sending that fails first, while an answer is waiting to be read."""
    gone = threading.Event()

    def script(caller: Caller) -> None:
        first, second = caller.queries(2)
        caller.send(answer(first))
        happens(read)
        caller.send(answer(second))
        caller.reset()
        gone.set()

    read = threading.Event()
    with connected(script, credentials) as client:
        outcomes = client.query_many(queries(3), max_in_flight=2)
        assert next(outcomes)[0] == 0
        read.set()
        happens(gone)
        fates = dict(outcomes)
    assert isinstance(fates[1], ResponseReceived)
    assert isinstance(fates[2], QueryLost)


def test_a_server_may_close_an_idle_connection(credentials: Credentials) -> None:
    """CON-6: what has come by the time of the next query is noticed, and the query is not sent into the void."""
    answered, closed = threading.Event(), threading.Event()
    heard: list[bytes] = []

    def script(caller: Caller) -> None:
        caller.send(answer(caller.query()))
        happens(answered)
        caller.send_close_notify()
        closed.set()
        heard.append(caller.rest())

    with connected(script, credentials) as client:
        client.query(make_query(NAME))
        answered.set()
        happens(closed)
        assert not client.is_closed, "nobody has looked"
        with pytest.raises(ConnectionLostError) as lost:
            client.query(UPDATE)
        assert lost.value.cause is Cause.PEER_CLOSED
        assert lost.value.safe_to_resend, "it was never sent"
    assert heard == [b""]


def test_a_server_may_close_just_as_it_is_asked(credentials: Credentials) -> None:
    """CON-6: the query crosses the server's close_notify."""

    def script(caller: Caller) -> None:
        caller.send(answer(caller.query()))
        caller.query()
        ends_with_close_notify(caller)

    with connected(script, credentials) as client:
        client.query(make_query(NAME))
        with within(SOON), pytest.raises(ConnectionLostError) as lost:
            client.query(make_query(NAME))
        assert lost.value.safe_to_resend


def test_keepalive_zero_ends_the_asking_but_not_the_answers(credentials: Credentials) -> None:
    """KAL-5: answers owed still come; what was not asked is safe to ask elsewhere."""

    def script(caller: Caller) -> None:
        first, second = caller.queries(2)
        caller.send(response_to(first, additionals=[opt(option(KEEPALIVE, b"\0\0"))]))
        assert caller.is_silent(0.02)
        caller.send(answer(second))
        caller.rest()

    fates: list[Any] = []
    with connected(script, credentials) as client:
        with pytest.raises(ConnectionLostError) as lost:
            fates.extend(client.query_many(queries(4), max_in_flight=2))
        assert [(position, type(fate)) for position, fate in fates] == [(0, ResponseReceived), (1, ResponseReceived)]
        assert lost.value.cause is Cause.GO_AWAY
        assert lost.value.safe_to_resend


def test_keepalive_zero_is_no_mistake_of_the_next_caller(credentials: Credentials) -> None:
    """KAL-5: another thread asks while answers are still owed."""
    told = threading.Event()

    def script(caller: Caller) -> None:
        first, second = caller.queries(2)
        caller.send(response_to(first, additionals=[opt(option(KEEPALIVE, b"\0\0"))]))
        happens(told)
        caller.send(answer(second))
        caller.rest()

    with connected(script, credentials) as client:
        outcomes = client.query_many(queries(2))
        next(outcomes)
        with pytest.raises(ConnectionLostError) as lost:
            client.query(UPDATE)
        told.set()
        assert lost.value.cause is Cause.GO_AWAY
        assert lost.value.safe_to_resend
        assert next(outcomes)[0] == 1


def test_a_connection_that_has_ended_is_not_kept_until_it_is_closed(credentials: Credentials) -> None:
    """KAL-5: nothing is owed, so the server gets close_notify and FIN, whatever the program does next."""
    gone = threading.Event()

    def script(caller: Caller) -> None:
        caller.send(response_to(caller.query(), additionals=[opt(option(KEEPALIVE, b"\0\0"))]))
        assert caller.rest() == b""
        assert isinstance(caller.socket, ssl.SSLSocket)
        with caller.socket.unwrap() as tcp:
            assert tcp.recv(1) == b""
        gone.set()

    with connected(script, credentials) as client:
        client.query(make_query(NAME))
        happens(gone)
        assert client.is_closed


def test_an_idle_client_sends_close_notify(credentials: Credentials) -> None:
    """CON-4: nobody watches an idle connection, but the next call notices that its time is up."""
    overdue = threading.Event()

    def script(caller: Caller) -> None:
        caller.send(answer(caller.query()))
        assert caller.is_silent(2 * SHORT)
        overdue.set()
        caller.rest()

    with connected(script, credentials, configuration=ClientConfiguration(idle_timeout=SHORT)) as client:
        client.query(make_query(NAME))
        happens(overdue)
        with pytest.raises(ConnectionLostError) as lost:
            client.query(make_query(NAME))
        assert lost.value.cause is Cause.IDLE


def test_closing_sends_close_notify(credentials: Credentials) -> None:
    """CON-11: close_notify, then FIN; closing twice does no harm, and asking after it is an error of its own."""
    orderly: list[bool] = []

    def script(caller: Caller) -> None:
        caller.send(answer(caller.query()))
        assert isinstance(caller.socket, ssl.SSLSocket)
        caller.socket.suppress_ragged_eofs = False
        orderly.append(caller.socket.recv(1) == b"")  # raises SSLEOFError where close_notify is missing

    with connected(script, credentials) as client:
        client.query(make_query(NAME))
        client.close()
        client.close()
        assert client.is_closed
        with pytest.raises(ConnectionLostError) as lost:
            client.query(make_query(NAME))
        assert lost.value.cause is Cause.LOCAL_CLOSE
    assert orderly == [True]


def test_closing_is_bounded_where_the_server_never_answers(credentials: Credentials) -> None:
    """CON-11, CON-16: another thread's query is given up when time is up, and not at its own deadline."""
    asked = threading.Event()

    def script(caller: Caller) -> None:
        caller.query()
        asked.set()
        caller.rest()

    with (
        connected(script, credentials) as client,
        in_thread(client.query, make_query(NAME), timeout=GIVE_UP) as response,
    ):
        happens(asked)
        with within(SOON):
            client.close(timeout=SHORT)
            with pytest.raises(ConnectionLostError) as lost:
                response.result()
        assert lost.value.cause is Cause.CLOSE_TIMEOUT


def test_closing_is_bounded_where_the_server_never_reads(credentials: Credentials) -> None:
    """CON-11: not even close_notify can leave."""
    begun, over = threading.Event(), threading.Event()

    def script(caller: Caller) -> None:
        caller.query()
        begun.set()
        happens(over)

    with scripted(script, credentials.file, receive_buffer=4096) as server:
        client = connect("127.0.0.1", credentials.policy, port=server.port)
        big = [query_of_length(65_000)] * 100  # 6.5 MB; Linux buffers 4 MB at most
        with in_thread(list, client.query_many(big, max_in_flight=100, timeout=GIVE_UP)) as outcomes:
            happens(begun)
            with within(SOON):
                client.close(timeout=SHORT)
                fates = outcomes.result()
        over.set()
    assert len(fates) == 100
    assert all(isinstance(fate, QueryLost) for _, fate in fates)


# Many threads.


def test_fifty_threads_share_one_connection(credentials: Credentials) -> None:
    """CON-1, CON-3: one connection, one handshake; each thread gets its own answers."""

    def script(caller: Caller) -> None:
        for _ in range(10):  # the first answers come only after all threads have asked
            for query in reversed(caller.queries(50)):
                caller.send(answer(query))
        caller.rest()

    def ask(number: int) -> list[str]:
        return [name_in(client.query(make_query(f"t{number}-{turn}.example"))) for turn in range(10)]

    with (
        scripted(script, credentials.file) as server,
        connect("127.0.0.1", credentials.policy, port=server.port) as client,
        ThreadPoolExecutor(50) as pool,
    ):
        for number, names in enumerate(pool.map(ask, range(50))):
            assert names == [f"t{number}-{turn}" for turn in range(10)]
    assert (server.accepted, server.handshakes) == (1, 1)


def test_a_thread_with_a_shorter_timeout_is_timed_out_on_time(credentials: Credentials) -> None:
    """CON-17: another thread waits for the socket, and for longer; neither keeps the other."""
    asked, timed_out = threading.Event(), threading.Event()

    def script(caller: Caller) -> None:
        query = caller.query()
        asked.set()
        caller.query()
        happens(timed_out)
        caller.send(answer(query))
        caller.rest()

    with (
        connected(script, credentials) as client,
        in_thread(client.query, make_query("patient.example"), timeout=GIVE_UP) as patient,
    ):
        happens(asked)
        with within(SOON), pytest.raises(QueryTimeoutError):
            client.query(make_query("hasty.example"), timeout=SHORT)
        timed_out.set()
        assert name_in(patient.result()) == "patient"


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system sends no signals to threads")
def test_an_exception_in_the_thread_that_waits_is_its_own(
    credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CON-17: a signal's handler raises inside the wait; the other thread goes on by itself."""
    select, selecting = Driver.select, threading.Event()

    def noticed(driver: Driver, wait: Wait) -> bool:
        if threading.get_ident() == main:
            selecting.set()
        return select(driver, wait)

    monkeypatch.setattr(Driver, "select", noticed)

    class Interrupted(Exception):
        pass

    def interrupt(*_: object) -> None:
        if not raised:
            raised.append(True)
            raise Interrupted

    raised: list[bool] = []
    main, waiting, interrupted = threading.get_ident(), threading.Event(), threading.Event()

    def script(caller: Caller) -> None:
        caller.query()
        waiting.set()
        other = caller.query()
        happens(selecting)
        # A signal that comes just before the system call is noticed only when another one ends the call.
        while not interrupted.wait(0.05):
            signal.pthread_kill(main, signal.SIGUSR1)
        caller.send(answer(other))
        caller.rest()

    def ask_later() -> bytes:
        happens(waiting)
        return client.query(make_query("other.example"))

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with connected(script, credentials) as client, in_thread(ask_later) as other:
            selecting.clear()
            with pytest.raises(Interrupted):
                client.query(make_query(NAME))
            interrupted.set()
            with within(SOON):
                assert name_in(other.result()) == "other"
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_full_connection_makes_queries_wait(credentials: Credentials) -> None:
    """MAT-18: a query waits for a place until its own deadline, and then has never been sent."""
    full, release = threading.Event(), threading.Event()
    heard: list[str] = []

    def script(caller: Caller) -> None:
        for number in itertools.count():
            query = caller.query()
            heard.append(name_in(query))
            if number == 0:
                full.set()
                happens(release)
            caller.send(answer(query))

    with (
        connected(script, credentials, configuration=ClientConfiguration(max_in_flight=1)) as client,
        in_thread(client.query, make_query("first.example"), timeout=GIVE_UP) as first,
    ):
        happens(full)
        with within(SOON), pytest.raises(QueryTimeoutError, match="no capacity"):
            client.query(make_query("hasty.example"), timeout=SHORT)
        with in_thread(client.query, make_query("second.example"), timeout=GIVE_UP) as second:
            release.set()
            assert name_in(second.result()) == "second"
        assert name_in(first.result()) == "first"
        assert heard == ["first", "second"]


@pytest.mark.parametrize("crowd", [1, 3])
def test_answers_flow_while_queries_cannot_leave(credentials: Credentials, crowd: int) -> None:
    """CON-20: the server stops reading, but what it answers is taken; when it reads on, nothing has been lost."""
    read_on = threading.Event()

    def script(caller: Caller) -> None:
        caller.send(*map(answer, caller.queries(3)))
        happens(read_on)
        answer_all(caller)

    def ask(number: int) -> list[int]:
        positions = []
        big = [query_of_length(65_000)] * 100  # 6.5 MB; Linux buffers 4 MB at most
        for position, outcome in client.query_many(big, timeout=GIVE_UP, max_in_flight=100):
            assert isinstance(outcome, ResponseReceived)
            positions.append(position)
            if next(answers) == 3:
                read_on.set()
        return positions

    answers = itertools.count(1)
    with (
        scripted(script, credentials.file, receive_buffer=4096) as server,
        connect("127.0.0.1", credentials.policy, port=server.port) as client,
        ThreadPoolExecutor(crowd) as pool,
    ):
        for positions in pool.map(ask, range(crowd)):
            assert sorted(positions) == list(range(100))


def test_the_thread_that_waits_learns_that_there_is_more_to_send(credentials: Credentials) -> None:
    """CON-20: one thread waits for an answer alone, when another one's queries do not all leave at once."""
    asked = threading.Event()

    def script(caller: Caller) -> None:
        first = caller.query()
        asked.set()
        caller.send(*map(answer, [*caller.queries(100), first]))
        caller.rest()

    with (
        scripted(script, credentials.file, receive_buffer=4096) as server,
        connect("127.0.0.1", credentials.policy, port=server.port) as client,
        in_thread(client.query, make_query("first.example"), timeout=GIVE_UP) as first,
    ):
        happens(asked)
        big = [query_of_length(65_000)] * 100  # 6.5 MB; Linux buffers 4 MB at most
        outcomes = [outcome for _, outcome in client.query_many(big, timeout=GIVE_UP / 2, max_in_flight=100)]
        assert [type(outcome) for outcome in outcomes] == [ResponseReceived] * 100
        assert name_in(first.result()) == "first"


def test_when_the_thread_that_moves_octets_goes_another_one_takes_over(credentials: Credentials) -> None:
    """MAT-2, MAT-18: two threads wait for their turn, and the one that moves octets for both gives up."""
    given_up = threading.Event()

    def script(caller: Caller) -> None:
        query = caller.query()
        happens(given_up)
        caller.send(answer(query))
        answer_all(caller)

    with connected(script, credentials, configuration=ClientConfiguration(max_in_flight=1)) as client:
        client._session.connection.send_query(make_query("nobody-waits.example"), now=time.monotonic(), timeout=GIVE_UP)
        with in_thread(client.query, make_query("hasty.example"), timeout=0.3) as hasty:
            while not (client._mover or hasty.done()):
                pass
            with in_thread(client.query, make_query("patient.example"), timeout=GIVE_UP) as patient:
                with pytest.raises(QueryTimeoutError, match="no capacity"):
                    hasty.result()
                given_up.set()
                with within(SOON):
                    assert name_in(patient.result()) == "patient"


def test_no_descriptor_is_inherited(credentials: Credentials) -> None:
    """A program that is started meanwhile does not hold the connection open (PEP 446)."""
    with connected(answer_all, credentials) as client:
        driver = client._driver
        driver._poller.share()
        assert not any(os.get_inheritable(one.fileno()) for one in (driver._socket, *driver._poller._wakers))
