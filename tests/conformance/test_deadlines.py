"""One deadline covers all that a call has to do; whatever stalls, the call ends on time and says what was late."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import trio.testing

from conformance.adapters import Backend, Trio
from conformance.identities import NAME, Identities
from dot_io.errors import (
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    Failure,
    HandshakeError,
    QueryTimeoutError,
)
from dot_proto import AuthenticationPolicy, ClientConfiguration, make_query
from support.messages import query_of_length
from support.peers import GIVE_UP, Caller, answer, happens, name_in, scripted, unanswering

SLACK = 2.0
"Seconds that a loaded machine may be late; every deadline here is far shorter than what it must not be taken for."


@contextmanager
def takes(api: Backend, seconds: float) -> Iterator[None]:
    """The block takes so long: no less, and not much more."""
    began = api.now()
    yield
    assert seconds - 0.005 <= api.now() - began < seconds + SLACK


def test_dialling(api: Backend, identities: Identities) -> None:
    """CON: nobody answers the SYN."""

    async def scenario(api: Backend, port: int) -> None:
        with takes(api, 0.2), pytest.raises(ConnectTimeoutError, match=f"127.0.0.1 port {port}"):
            async with api.connect("127.0.0.1", identities.policy, port=port, timeout=0.2):
                pass

    with unanswering() as port:
        api.run(scenario, port)


@pytest.mark.parametrize("host", ["name-that-does-not-exist.invalid", "127.0.0.1"])
def test_nobody_there(api: Backend, identities: Identities, host: str) -> None:
    """CON: a name that is none, a port where nobody listens."""

    async def scenario(api: Backend, port: int) -> None:
        with pytest.raises(ConnectError, match=f"{host} port {port}") as error:
            async with api.connect(host, identities.policy, port=port):
                pass
        assert not isinstance(error.value, TimeoutError)

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        api.run(scenario, bound.getsockname()[1])


def test_shaking_hands(api: Backend, identities: Identities) -> None:
    """CON: the server accepts, and never says a word of TLS."""
    over = threading.Event()

    async def scenario(api: Backend, port: int) -> None:
        with takes(api, 0.2), pytest.raises(HandshakeError) as error:
            async with api.connect("127.0.0.1", identities.policy, port=port, timeout=0.2):
                pass
        assert error.value.failure is Failure.TIMED_OUT
        over.set()

    with scripted(lambda _: happens(over), None) as server:
        api.run(scenario, server.port)


@pytest.mark.parametrize("why", ["issuer pin", "opportunistic"])
def test_both_handshakes_share_the_deadline(api: Backend, identities: Identities, why: str) -> None:
    """AUT, FR-67: the first teaches the issuer's certificate, or tries a name in vain; the second stalls, and has what
    is left of the time."""
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for handler in (serve_properly, lambda _: happens(over)):
            sock, _ = listener.accept()
            with sock:
                handler(sock)

    def serve_properly(sock: socket.socket) -> None:
        with suppress(OSError), identities.plain_context().wrap_socket(sock, server_side=True) as tls:
            tls.recv(1)  # the client leaves

    async def scenario(api: Backend, port: int) -> None:
        if why == "issuer pin":
            policy = AuthenticationPolicy.strict(NAME, issuer_pins=[identities.issuer_pin])
        else:
            anchors = [identities.anchor]
            policy = AuthenticationPolicy.opportunistic("other.example", tries_name=True, trust_anchors=anchors)
        with takes(api, 0.3), pytest.raises(HandshakeError) as error:
            async with api.connect("127.0.0.1", policy, port=port, timeout=0.3):
                pass
        assert error.value.failure is Failure.TIMED_OUT
        over.set()

    thread = threading.Thread(target=serve)
    thread.start()
    with listener:
        api.run(scenario, listener.getsockname()[1])
        thread.join()


def test_asking(api: Backend, identities: Identities) -> None:
    """QRY: the server never answers; the connection goes on."""

    def script(caller: Caller) -> None:
        caller.query()
        caller.send(answer(caller.query()))
        caller.rest()

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            with takes(api, 0.1), pytest.raises(QueryTimeoutError):
                await client.query(make_query("silence.example"), timeout=0.1)
            assert name_in(await client.query(make_query("speech.example"))) == "speech"

    with scripted(script, identities.certificate_file) as server:
        api.run(scenario, server.port)


def test_asking_a_server_that_does_not_read(api: Backend, identities: Identities) -> None:
    """QRY: a query that cannot even be sent is late on time, and not when those before it are."""

    def script(caller: Caller) -> None:
        is_over.wait(GIVE_UP)

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:

            async def fill() -> None:
                many = [query_of_length(60_000)] * 400  # far more than two kernels hold
                async for _ in client.query_many(many, timeout=20.0, max_in_flight=400):
                    pass

            async def ask() -> None:
                await api.until(lambda: client._session.connection.pending == 400)
                await api.in_thread(time.sleep, 0.1)  # until all that can be sent has been
                with takes(api, 0.2), pytest.raises(QueryTimeoutError):
                    await client.query(make_query("late.example"), timeout=0.2)
                await client.close(timeout=0.0)

            await api.gather([fill(), ask()])
            is_over.set()

    is_over = threading.Event()
    with scripted(script, identities.certificate_file, receive_buffer=4096) as server:
        api.run(scenario, server.port)


def test_waiting_for_a_place_and_asking_share_the_deadline(api: Backend, identities: Identities) -> None:
    """QRY: time spent in the queue is not given twice."""

    def script(caller: Caller) -> None:
        caller.rest()

    async def scenario(api: Backend, port: int) -> None:
        configuration = ClientConfiguration(max_in_flight=1, query_timeout=0.2)
        async with api.connect("127.0.0.1", identities.policy, port=port, configuration=configuration) as client:
            with takes(api, 0.2):
                fates = await api.gather(client.query(make_query("full.example")) for _ in range(5))
            # One query that is unanswered past its time is all that may be in flight here, which ends the connection.
            assert {type(fate) for fate in fates} <= {QueryTimeoutError, ConnectionLostError}
            assert QueryTimeoutError in {type(fate) for fate in fates}

    with scripted(script, identities.certificate_file) as server:
        api.run(scenario, server.port)


def test_closing(api: Backend, identities: Identities) -> None:
    """CON: answers still owed are waited for, and no longer than was said."""

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:

            async def close() -> None:
                await api.until(lambda: client._session.connection.pending)
                with takes(api, 0.15):
                    await client.close(timeout=0.15)

            fate, _ = await api.gather([client.query(make_query("owed.example")), close()])
            assert isinstance(fate, ConnectionError)

    with scripted(lambda caller: caller.rest(), identities.certificate_file) as server:
        api.run(scenario, server.port)


@pytest.mark.parametrize("seconds", [5.0, 86_400.0])
def test_exactly_on_time(identities: Identities, seconds: float) -> None:
    """QRY: where time is virtual a deadline can be met to the last digit, and a day is over at once."""

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            began = api.now()
            with pytest.raises(QueryTimeoutError):
                await client.query(make_query("silence.example"), timeout=seconds)
            assert api.now() - began == pytest.approx(seconds, abs=1e-6)
            began = api.now()
            await client.close()
            assert api.now() == pytest.approx(began)

    clock = trio.testing.MockClock(autojump_threshold=0.05)
    with scripted(lambda caller: caller.rest(), identities.certificate_file) as server:
        trio.run(scenario, Trio(), server.port, clock=clock)


def test_an_idle_day_ends_after_ten_seconds(identities: Identities) -> None:
    """CON-7 (RFC 7766, section 6.2.3): the idle timer, in virtual time."""

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            await client.query(make_query("example.com"))
            began = api.now()
            await client._driver.ended.wait()
            assert api.now() - began == pytest.approx(ClientConfiguration().idle_timeout, abs=1e-6)

    def script(caller: Caller) -> None:
        caller.send(answer(caller.query()))
        caller.rest()

    clock = trio.testing.MockClock(autojump_threshold=0.05)
    with scripted(script, identities.certificate_file) as server:
        trio.run(scenario, Trio(), server.port, clock=clock)
