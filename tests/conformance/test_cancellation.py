"""A caller that is cancelled abandons its own query, and nothing else, wherever the cancellation meets it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from conformance.adapters import ASYNC, Backend, Blocking
from conformance.identities import Identities
from conformance.interruption import Moment, at_each_suspension
from dot_io.blocking.driver import Driver, Wait
from dot_io.errors import ConnectionLostError
from dot_proto import Cause, ClientConfiguration, make_query
from support.peers import GIVE_UP, Caller, answer, name_in, scripted

both_moments = pytest.mark.parametrize("moment", Moment, ids=lambda moment: moment.value)


def answering(caller: Caller) -> None:
    """A script: answer whatever is asked."""
    while True:
        caller.send(answer(caller.query()))


async def check(client: Any, *names: str) -> None:
    """The connection serves everybody else as if nothing had happened."""
    for name in names:
        assert name_in(await client.query(make_query(f"{name}.example"))) == name
    assert not client.is_closed


@both_moments
@pytest.mark.parametrize("places", [1, 1024], ids=["no-place-is-free", "places-are-free"])
def test_a_query_cancelled_at_each_await(
    async_api: Backend, identities: Identities, moment: Moment, places: int
) -> None:
    """CON: with others waiting for the same place, in front and behind; all on one connection."""

    async def scenario(api: Backend, port: int) -> int:
        configuration = ClientConfiguration(max_in_flight=places)
        async with api.connect("127.0.0.1", identities.policy, port=port, configuration=configuration) as client:
            before = [client.query(make_query("before.example")) for _ in range(20)]

            async def victim() -> None:
                assert name_in(await client.query(make_query("victim.example"))) == "victim"

            async def afterwards() -> None:
                await check(client, "after")

            # Each round has its neighbours, for as long as the victim is there.
            async def neighbours() -> None:
                for _ in range(20):
                    await check(client, "neighbour")

            results = await api.gather(
                [at_each_suspension(api, victim, moment, afterwards), neighbours(), neighbours(), *before]
            )
            assert [result for result in results if isinstance(result, Exception)] == []
            suspensions: int = results[0]
            return suspensions

    with scripted(answering, identities.certificate_file) as server:
        assert async_api.run(scenario, server.port) >= 1
    assert server.accepted == 1


@both_moments
def test_query_many_cancelled_at_each_await(async_api: Backend, identities: Identities, moment: Moment) -> None:
    """CON: all of its queries are given up, and none of the neighbours'."""

    async def scenario(api: Backend, port: int) -> int:
        configuration = ClientConfiguration(max_in_flight=4)
        async with api.connect("127.0.0.1", identities.policy, port=port, configuration=configuration) as client:

            async def victim() -> None:
                asked = [make_query(f"victim-{number}.example") for number in range(6)]
                async for position, fate in client.query_many(asked, max_in_flight=3):
                    assert name_in(fate.message) == f"victim-{position}"

            async def afterwards() -> None:
                await check(client, "after")

            async def neighbour() -> None:
                await check(client, *["neighbour"] * 20)

            results = await api.gather([at_each_suspension(api, victim, moment, afterwards), neighbour()])
            assert isinstance(results[0], int), results
            assert results[1] is None, results
            # Nothing is left of the victims: as many queries as ever can be on their way.
            await check(client, *["last"] * 8)
            return results[0]

    with scripted(answering, identities.certificate_file) as server:
        assert async_api.run(scenario, server.port) >= 2
    assert server.accepted == 1


@both_moments
def test_connect_cancelled_at_each_await(async_api: Backend, identities: Identities, moment: Moment) -> None:
    """CON: wherever it stops (dialling, shaking hands, asking, closing), TCP ends, and no task is left."""
    ended = []

    def script(caller: Caller) -> None:
        try:
            with suppress(OSError):  # the client leaves without a word
                answering(caller)
        finally:
            ended.append(caller)

    async def scenario(api: Backend, port: int) -> int:
        async def victim() -> None:
            async with api.connect("127.0.0.1", identities.policy, port=port) as client:
                await client.query(make_query("victim.example"))

        async def afterwards() -> None:
            assert api.others() == before, "a task was left behind"

        before = api.others()
        suspensions = await at_each_suspension(api, victim, moment, afterwards)
        # All the connections that came to a handshake have ended, while this loop still runs.
        await api.until(lambda: len(ended) == server.handshakes)
        return suspensions

    with scripted(script, identities.certificate_file) as server:
        assert async_api.run(scenario, server.port) >= 3
    assert server.accepted >= 2


@both_moments
def test_close_cancelled_at_each_await(async_api: Backend, identities: Identities, moment: Moment) -> None:
    """CON: a cancelled close is a close all the same, also for whoever closes at the same time."""
    ended = []

    def script(caller: Caller) -> None:
        try:
            caller.rest()
        finally:
            ended.append(caller)

    async def scenario(api: Backend, port: int) -> int:
        async def victim() -> None:
            async with api.connect("127.0.0.1", identities.policy, port=port) as client:
                clients.append(client)

                async def owed() -> None:
                    with pytest.raises(Exception):  # noqa: B017, PT011 - whichever way it ends
                        await client.query(make_query("never.example"))

                await api.gather([owed(), client.close(timeout=0.02), client.close(timeout=0.02)])

        async def afterwards() -> None:
            assert all(client.is_closed for client in clients)

        clients: list[Any] = []
        suspensions = await at_each_suspension(api, victim, moment, afterwards)
        await api.until(lambda: len(ended) == server.handshakes)
        return suspensions

    with scripted(script, identities.certificate_file) as server:
        assert async_api.run(scenario, server.port) >= 3


@pytest.mark.parametrize("api", ASYNC, ids=repr)
def test_a_place_that_is_given_up_unsent_is_the_next_ones(api: Backend, identities: Identities) -> None:
    """CON: no event tells of a query that never left; still the next in the queue must hear of its place."""

    async def scenario(api: Backend, port: int) -> None:
        configuration = ClientConfiguration(max_in_flight=1)
        async with api.connect("127.0.0.1", identities.policy, port=port, configuration=configuration) as client:
            handle = client._session.connection.send_query(make_query("unsent.example"), now=api.now())

            async def give_up() -> None:
                client._cancel_query(handle, api.now())

            response, _ = await api.gather([client.query(make_query("next.example"), timeout=5.0), give_up()])
            assert name_in(response) == "next"

    with scripted(answering, identities.certificate_file) as server:
        api.run(scenario, server.port)


def test_leaving_query_many_early(api: Backend, identities: Identities) -> None:
    """CON: breaking out of the loop gives up what is in flight, once the generator is closed."""

    async def scenario(api: Backend, port: int) -> None:
        configuration = ClientConfiguration(max_in_flight=4)
        async with api.connect("127.0.0.1", identities.policy, port=port, configuration=configuration) as client:
            fates = client.query_many([make_query(f"early-{number}.example") for number in range(20)])
            async for _, fate in fates:
                assert name_in(fate.message).startswith("early-")
                break
            await fates.aclose()
            assert client._session.connection.pending == 0
            await check(client, *["late"] * 8)

    with scripted(answering, identities.certificate_file) as server:
        api.run(scenario, server.port)
    assert server.accepted == 1


def test_an_interrupt_while_waiting_is_the_callers_alone(
    identities: Identities, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CON: Ctrl-C in a thread that waits for the socket abandons that thread's query; the next one goes on."""
    select, interrupted = Driver.select, []

    def answering_the_others(caller: Caller) -> None:
        while True:
            query = caller.query()
            if name_in(query) != "victim":  # an answer that is there already is not waited for
                caller.send(answer(query))

    def interrupt(driver: Driver, wait: Wait) -> bool:
        if not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        return select(driver, wait)

    with (
        scripted(answering_the_others, identities.certificate_file) as server,
        Blocking.package.connect("127.0.0.1", identities.policy, port=server.port) as client,
    ):
        monkeypatch.setattr(Driver, "select", interrupt)
        with pytest.raises(KeyboardInterrupt):
            list(client.query_many([make_query("victim.example")] * 3))
        assert interrupted
        assert client._session.connection.pending == 0
        assert name_in(client.query(make_query("next.example"))) == "next"
    assert server.accepted == 1


@pytest.mark.parametrize("api", ASYNC, ids=repr)
def test_what_this_side_aborts_is_told_as_ours(api: Backend, identities: Identities) -> None:
    """The task inside ``close()`` is cancelled: the peer is not accused of having left close_notify out."""

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:

            async def ask() -> Any:
                with pytest.raises(ConnectionLostError) as lost:
                    await client.query(make_query("never.example"), timeout=GIVE_UP)
                return lost.value

            async def close() -> None:
                await api.until(lambda: client._session.connection.pending)
                with pytest.raises(TimeoutError):
                    async with api.within(0.1):
                        await client.close(timeout=GIVE_UP)

            lost, _ = await api.gather([ask(), close()])
            assert (lost.cause, lost.error, lost.safe_to_resend) == (Cause.CLOSE_TIMEOUT, None, True)
            assert str(lost) == "the connection was closed before the answer came"

    with scripted(lambda caller: caller.rest(), identities.certificate_file) as server:
        api.run(scenario, server.port)
