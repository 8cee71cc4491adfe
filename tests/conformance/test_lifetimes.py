"""What ``async with`` promises: the block's own exception comes out as it is, and all that was opened is closed.

That nothing is left behind (tasks, threads, descriptors) is checked after every scenario, by ``conftest.py``.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import trio

from conformance.adapters import ASYNC, Backend
from conformance.identities import Identities
from dot_io.errors import ConnectionLostError
from dot_io.tls import TLSClient
from dot_proto import Cause, make_query
from support.peers import Caller, RawClient, answer, happens, name_in, scripted


class Trouble(Exception):
    """Raised by the block."""


class Abort(BaseException):
    """Raised by the block, and no :class:`Exception`."""


def answering(caller: Caller) -> None:
    while True:
        caller.send(answer(caller.query()))


@pytest.mark.parametrize("kind", [Trouble, Abort, ConnectionLostError, ExceptionGroup])
def test_what_the_block_of_connect_raises_leaves_as_it_is(
    api: Backend, identities: Identities, kind: type[BaseException]
) -> None:
    """API: the same object, in no group."""
    trouble = _made(kind)

    async def scenario(api: Backend, port: int) -> None:
        clients = []

        async def block() -> None:
            async with api.connect("127.0.0.1", identities.policy, port=port) as client:
                clients.append(client)
                await client.query(make_query("example.com"))
                raise trouble

        with pytest.raises(kind) as raised:
            await block()
        assert raised.value is trouble
        assert clients[0].is_closed

    with scripted(answering, identities.certificate_file) as server:
        api.run(scenario, server.port)


@pytest.mark.parametrize("kind", [Trouble, Abort, ExceptionGroup])
def test_what_the_block_of_serve_raises_leaves_as_it_is(
    api: Backend, identities: Identities, kind: type[BaseException]
) -> None:
    """API: the same object, in no group; the clients are sent close_notify."""
    trouble = _made(kind)

    async def scenario(api: Backend) -> None:
        clients = []

        async def block() -> None:
            async with api.serve(answer, identities.server, port=0) as server:
                client = await api.in_thread(RawClient, server.port)
                clients.append(client)
                client.send(make_query("example.com"))
                assert name_in(await api.in_thread(client.message)) == "example"
                raise trouble

        with pytest.raises(kind) as raised:
            await block()
        assert raised.value is trouble
        with clients[0] as client:
            assert await api.in_thread(client.ends_in_order)

    api.run(scenario)


def _made(kind: type[BaseException]) -> BaseException:
    if kind is ConnectionLostError:
        return ConnectionLostError("another connection's", cause=Cause.IDLE)
    return ExceptionGroup("the block's own", [Trouble()]) if kind is ExceptionGroup else kind()


@pytest.mark.parametrize("role", ["connect", "serve"])
@pytest.mark.parametrize("trouble", [None, Trouble()], ids=["alone", "and-raises"])
def test_a_block_that_is_cancelled(
    async_api: Backend, identities: Identities, role: str, trouble: Trouble | None
) -> None:
    """API: a cancellation comes out as such, and what is raised while it unwinds counts for itself."""

    async def scenario(api: Backend, port: int) -> None:
        entered = []

        async def body() -> None:
            opened = (
                api.serve(answer, identities.server, port=0)
                if role == "serve"
                else api.connect("127.0.0.1", identities.policy, port=port)
            )
            async with opened:
                entered.append(True)
                try:
                    await _forever(api)
                finally:
                    if trouble is not None:
                        raise trouble

        assert await _cancelled(api, body, entered) is trouble

    with scripted(answering, identities.certificate_file) as server:
        async_api.run(scenario, server.port)


async def _forever(api: Backend) -> None:
    if api.name == "trio":
        await trio.sleep_forever()
    await asyncio.get_running_loop().create_future()


async def _cancelled(api: Backend, body: Callable[[], Any], entered: list[bool]) -> BaseException | None:
    """Cancel ``body`` from outside once it has entered its block; what came out of it but the cancellation."""
    if api.name != "trio":
        task = asyncio.ensure_future(body())
        await api.until(lambda: entered)
        task.cancel()
        await asyncio.wait([task])
        return None if task.cancelled() else task.exception()

    async def cancel() -> None:
        await api.until(lambda: entered)
        scope.cancel()

    problem = None
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        nursery.start_soon(cancel)
        with scope:
            try:
                await body()
            except Exception as error:
                problem = error
    assert scope.cancelled_caught is (problem is None)
    return problem


@pytest.mark.parametrize("api", [one for one in ASYNC if one.name == "trio"], ids=repr)
def test_a_fault_of_ours_is_not_mistaken_for_a_cancellation(
    api: Backend, identities: Identities, monkeypatch: pytest.MonkeyPatch
) -> None:
    """API: should the task behind a connection break, its exception comes out, although the block was cancelled."""

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            await client.query(make_query("example.com"))
            monkeypatch.setattr(TLSClient, "receive_data", lambda *_, **__: 1 / 0)
            broken.set()
            await _forever(api)

    broken = threading.Event()

    def script(caller: Caller) -> None:
        query = caller.query()
        caller.send(answer(query))
        happens(broken)
        caller.send(answer(query))
        caller.rest()

    with scripted(script, identities.certificate_file) as server, pytest.raises(ExceptionGroup) as group:
        api.run(scenario, server.port)
    assert group.group_contains(ZeroDivisionError)


def test_closing_twice_and_from_two_tasks(api: Backend, identities: Identities) -> None:
    """API: closing what is closed does nothing; of two who close, both wait for the end."""

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            await client.query(make_query("example.com"))
            assert await api.gather([client.close(), client.close()]) == [None, None]
            assert client.is_closed
            await client.close()
            with pytest.raises(ConnectionLostError) as lost:
                await client.query(make_query("example.com"))
            assert lost.value.cause is Cause.LOCAL_CLOSE
            with pytest.raises(ConnectionLostError):
                async for _ in client.query_many([make_query("example.com")]):
                    pass

    with scripted(answering, identities.certificate_file) as server:
        api.run(scenario, server.port)


def test_a_server_that_one_task_closes_and_another_waits_for(async_api: Backend, identities: Identities) -> None:
    """API: ``serve_forever`` returns once somebody closes the server; closing twice does nothing."""

    async def scenario(api: Backend) -> None:
        async with api.serve(answer, identities.server, port=0) as server:
            assert server.host == "127.0.0.1"
            client = await api.in_thread(RawClient, server.port)
            results = await api.gather([server.serve_forever(), server.serve_forever(), server.close(), server.close()])
            assert results == [None] * 4
            with client:
                assert await api.in_thread(client.ends_in_order)

    async_api.run(scenario)


def test_client_and_server_on_one_loop(async_api: Backend, identities: Identities) -> None:
    """API: both roles in one program, as a forwarder has them."""

    async def scenario(api: Backend) -> None:
        async with (
            api.serve(answer, identities.server, port=0) as server,
            api.connect("127.0.0.1", identities.policy, port=server.port) as client,
        ):

            async def forward(query: bytes, peer: object) -> bytes:
                response: bytes = await client.query(query)
                return response

            async with (
                api.serve(forward, identities.server, port=0) as front,
                api.connect("127.0.0.1", identities.policy, port=front.port) as caller,
            ):
                responses = await api.gather(caller.query(make_query(f"host-{number}.example")) for number in range(50))
        assert [name_in(response) for response in responses] == [f"host-{number}" for number in range(50)]

    async_api.run(scenario)


def test_clients_and_servers_in_several_threads(api: Backend, identities: Identities) -> None:
    """API: loops in threads of one process share nothing, not even a buffer."""
    names = [f"{letter}-{number}.example" for letter in "abcdefgh" * 25 for number in range(5)]

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            queries = [make_query(name) for name in names]
            async for position, fate in client.query_many(queries):
                assert name_in(fate.message) == names[position].partition(".")[0]

    with api.serving(answer, identities.server) as server, ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(api.run, scenario, server.port) for _ in range(4)]:
            done.result()
