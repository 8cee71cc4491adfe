"""One connection, many callers: none waits for another's answer, and none is told that there are too many."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from conformance.adapters import Backend
from conformance.identities import Identities
from dot_io.errors import ConnectionLostError, QueryTimeoutError
from dot_proto import Cause, ClientConfiguration, LocalProtocolError, QueryLost, QueryTimedOut, make_query
from support.messages import query_of_length
from support.peers import Caller, answer, happens, name_in, scripted


def queries(count: int) -> list[bytes]:
    return [make_query(f"host-{number}.example") for number in range(count)]


def answering(caller: Caller) -> None:
    while True:
        caller.send(answer(caller.query()))


def test_two_hundred_callers_share_one_connection(api: Backend, identities: Identities) -> None:
    """CON-1: one TCP connection, one handshake; every caller gets the answer to its own question."""

    def script(caller: Caller) -> None:
        asked = caller.queries(200)
        caller.send(*map(answer, reversed(asked)))
        caller.rest()

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            responses = await api.gather(map(client.query, queries(200)))
            assert [name_in(response) for response in responses] == [f"host-{number}" for number in range(200)]

    with scripted(script, identities.certificate_file) as server:
        api.run(scenario, server.port)
    assert server.accepted == server.handshakes == 1


@pytest.mark.parametrize("many", [False, True], ids=["query", "query_many"])
def test_a_full_connection_makes_callers_wait(api: Backend, identities: Identities, many: bool) -> None:
    """CON-5: no more than ``max_in_flight`` are ever on their way, and every caller is served in the end."""
    most = 0

    def script(caller: Caller) -> None:
        nonlocal most
        waiting: list[bytes] = []
        for _ in range(40):
            if len(waiting) == 4:
                caller.send(answer(waiting.pop(0)))
            waiting.append(caller.query())
            most = max(most, len(waiting))
        caller.send(*map(answer, waiting))
        caller.rest()

    async def scenario(api: Backend, port: int) -> None:
        configuration = ClientConfiguration(max_in_flight=4)
        async with api.connect("127.0.0.1", identities.policy, port=port, configuration=configuration) as client:
            if many:
                responses = [None] * 40
                async for position, fate in client.query_many(queries(40)):
                    responses[position] = fate.message
            else:
                responses = await api.gather(map(client.query, queries(40)))
            assert [name_in(response) for response in responses] == [f"host-{number}" for number in range(40)]

    with scripted(script, identities.certificate_file) as server:
        api.run(scenario, server.port)
    assert most == 4


def test_a_refused_message_leaves_its_place_to_the_next(api: Backend, identities: Identities) -> None:
    """CON: a caller whose turn has come, and who asks what cannot be asked, keeps nobody waiting."""
    full = threading.Event()

    def script(caller: Caller) -> None:
        first = caller.query()
        happens(full)
        caller.send(answer(first))
        answering(caller)

    async def scenario(api: Backend, port: int) -> None:
        configuration = ClientConfiguration(max_in_flight=1)
        async with api.connect("127.0.0.1", identities.policy, port=port, configuration=configuration) as client:
            first, *others = queries(4)

            async def fill() -> None:
                await api.until(lambda: client._session.connection.pending)
                await api.gather(
                    [*(client.query(b"no message") for _ in range(3)), *map(client.query, others), opens()]
                )

            async def opens() -> None:
                for _ in range(10):
                    await api.pause()
                full.set()

            response, _ = await api.gather([client.query(first), fill()])
            assert name_in(response) == "host-0"

    with scripted(script, identities.certificate_file) as server:
        api.run(scenario, server.port)


@pytest.mark.parametrize("how", ["by the server", "by another caller"])
def test_all_who_wait_for_a_place_are_told_of_the_end(api: Backend, identities: Identities, how: str) -> None:
    """CON-6: not only the first of them, and not after their own deadlines."""
    waiting = threading.Event()

    def script(caller: Caller) -> None:
        caller.query()
        happens(waiting)
        if how == "by the server":
            caller.send_close_notify()
        caller.rest()

    async def scenario(api: Backend, port: int) -> None:
        configuration = ClientConfiguration(max_in_flight=1, query_timeout=15.0)
        async with api.connect("127.0.0.1", identities.policy, port=port, configuration=configuration) as client:

            async def end() -> None:
                await api.until(lambda: client._session.connection.pending)
                for _ in range(10):
                    await api.pause()
                waiting.set()
                if how == "by another caller":
                    await client.close(timeout=0.0)

            async with api.within(5.0):
                *fates, _ = await api.gather([*map(client.query, queries(20)), end()])
            assert [type(fate) for fate in fates] == [ConnectionLostError] * 20
            assert all(fate.safe_to_resend for fate in fates)

    with scripted(script, identities.certificate_file) as server:
        api.run(scenario, server.port)


def is_stuck(client: Any) -> bool:
    """Whether more is to be sent than the kernel takes."""
    return bool(client._driver.is_write_paused)


LONG = query_of_length(65_000)


def test_a_server_that_is_slow_to_read(api: Backend, identities: Identities) -> None:
    """CON-5: queries wait for their turn, however slowly the server reads; none fails."""
    stuck = threading.Event()

    def script(caller: Caller) -> None:
        happens(stuck)
        answering(caller)

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:

            async def release() -> None:
                await api.until(lambda: is_stuck(client))
                stuck.set()

            *responses, _ = await api.gather([*(client.query(LONG, timeout=15.0) for _ in range(150)), release()])
            assert {name_in(response) for response in responses} == {"example"}

    with scripted(script, identities.certificate_file, receive_buffer=4096) as server:
        api.run(scenario, server.port)


def test_a_server_that_never_reads(api: Backend, identities: Identities, monkeypatch: pytest.MonkeyPatch) -> None:
    """CON-5: each caller's deadline holds, and so does the one of closing."""
    over = threading.Event()
    monkeypatch.setattr("dot_io._transport.FLUSH_TIMEOUT", 0.1)

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            began = api.now()
            fates = await api.gather(client.query(LONG, timeout=0.3) for _ in range(150))
            assert [type(fate) for fate in fates] == [QueryTimeoutError] * 150
            assert 0.29 < api.now() - began < 3.0
            assert is_stuck(client)
            assert not client.is_closed
            began = api.now()
        assert api.now() - began < 2.0
        over.set()

    with scripted(lambda _: happens(over), identities.certificate_file, receive_buffer=4096) as server:
        api.run(scenario, server.port)


def test_each_caller_has_its_own_deadline(api: Backend, identities: Identities) -> None:
    """QRY: those with a short timeout end first, whoever asked first; the others get their answers."""
    timed_out = threading.Event()

    def script(caller: Caller) -> None:
        asked = caller.queries(4)
        happens(timed_out)
        caller.send(*map(answer, asked))
        answering(caller)

    async def scenario(api: Backend, port: int) -> None:
        order: list[float] = []
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:

            async def ask(query: bytes, timeout: float) -> bytes:
                try:
                    response: bytes = await client.query(query, timeout=timeout)
                except QueryTimeoutError:
                    order.append(timeout)
                    if len(order) == 3:
                        timed_out.set()
                    raise
                return response

            timeouts = [0.15, 15.0, 0.05, 0.1]
            fates = await api.gather(map(ask, queries(4), timeouts))
            assert order == [0.05, 0.1, 0.15]
            assert name_in(fates.pop(1)) == "host-1"
            assert [type(fate) for fate in fates] == [QueryTimeoutError] * 3
            # The late answers have come by now, and are nobody's.
            assert name_in(await client.query(make_query("next.example"))) == "next"

    with scripted(script, identities.certificate_file) as server:
        api.run(scenario, server.port)


def test_a_half_answered_frame_survives_a_timeout(api: Backend, identities: Identities) -> None:
    """CON-3: the other half is the late answer's, and what comes behind it is matched right."""
    timed_out = threading.Event()

    def script(caller: Caller) -> None:
        response = answer(caller.query())
        framed = len(response).to_bytes(2) + response
        caller.socket.sendall(framed[:20])
        happens(timed_out)
        second = caller.query()
        caller.socket.sendall(framed[20:])
        caller.send(answer(second))
        answering(caller)

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            with pytest.raises(QueryTimeoutError):
                await client.query(make_query("first.example"), timeout=0.1)
            timed_out.set()
            assert name_in(await client.query(make_query("second.example"))) == "second"
            assert name_in(await client.query(make_query("third.example"))) == "third"

    with scripted(script, identities.certificate_file) as server:
        api.run(scenario, server.port)


def test_query_many_reports_each_fate(api: Backend, identities: Identities) -> None:
    """QRY: answered, timed out, lost; and what was not even asked is said by an exception, after them."""

    def script(caller: Caller) -> None:
        asked = caller.queries(3)
        caller.send(answer(asked[0]))
        caller.query()
        caller.send_close_notify()
        caller.rest()

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            fates = {}

            async def ask() -> None:
                async for position, fate in client.query_many(queries(9), max_in_flight=3):
                    fates[position] = fate  # noqa: PERF403 - some come before the exception

            with pytest.raises(ConnectionLostError) as lost:
                await ask()
            assert sorted(fates) == [0, 1, 2, 3]
            assert [type(fates[position]) for position in (1, 2, 3)] == [QueryLost] * 3
            assert lost.value.cause is Cause.PEER_CLOSED
            assert lost.value.safe_to_resend

    with scripted(script, identities.certificate_file) as server:
        api.run(scenario, server.port)


def test_query_many_goes_on_after_a_timeout(api: Backend, identities: Identities) -> None:
    """QRY: a query that times out makes way for the next."""

    def script(caller: Caller) -> None:
        while True:
            query = caller.query()
            if name_in(query) != "host-1":
                caller.send(answer(query))

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            fates = {at: fate async for at, fate in client.query_many(queries(4), timeout=0.1, max_in_flight=1)}
            assert sorted(fates) == [0, 1, 2, 3]
            assert [position for position, fate in fates.items() if isinstance(fate, QueryTimedOut)] == [1]

    with scripted(script, identities.certificate_file) as server:
        api.run(scenario, server.port)


@pytest.mark.parametrize("message", [b"", b"\0" * 11, answer(make_query("a.example")), make_query("a.example")[:-1]])
def test_what_is_no_query_is_refused_and_changes_nothing(api: Backend, identities: Identities, message: bytes) -> None:
    """QRY: the caller's mistake is the caller's alone."""

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            with pytest.raises(LocalProtocolError):
                await client.query(message)
            with pytest.raises(LocalProtocolError):
                async for _ in client.query_many([make_query("first.example"), message]):
                    pass
            with pytest.raises(LocalProtocolError):
                async for _ in client.query_many([], max_in_flight=0):
                    pass
            assert name_in(await client.query(make_query("next.example"))) == "next"

    with scripted(answering, identities.certificate_file) as server:
        api.run(scenario, server.port)
    assert server.accepted == 1


def test_what_came_before_a_reset_still_counts(api: Backend, identities: Identities) -> None:
    """CON-6: the answer is there before the connection breaks."""
    answered = threading.Event()

    def script(caller: Caller) -> None:
        (first,) = (query for query in caller.queries(2) if name_in(query) == "host-0")
        caller.send(answer(first))
        happens(answered)
        caller.reset()

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:

            async def ask(query: bytes) -> bytes:
                response: bytes = await client.query(query)
                answered.set()
                return response

            first, second = await api.gather(map(ask, queries(2)))
            assert name_in(first) == "host-0"
            assert isinstance(second, ConnectionLostError)
            assert second.cause is Cause.TRANSPORT_FAILED
            assert second.error is not None

    with scripted(script, identities.certificate_file) as server:
        api.run(scenario, server.port)
