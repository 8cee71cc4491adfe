"""A fault of ours inside a callback is reported to the loop, and nobody waits for ever because of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvloop

import dot_io.tls
import dot_proto.client
from dot_io.asyncio import connect, serve
from dot_io.asyncio.driver import Driver
from dot_io.errors import ConnectionLostError, HandshakeError
from dot_proto import make_query
from support.credentials import Credentials
from support.peers import answer


@pytest.mark.parametrize("verbs", [["receive_data"], ["receive_data", "fail", "receive_eof"]], ids=["one", "all"])
def test_a_fault_of_ours_hangs_nobody(
    verbs: list[str], credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 5 in spirit: the client learns of the end, and the server can be closed."""

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a fault of ours")

    problems: list[Any] = []

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem["exception"]))
        async with (
            asyncio.timeout(10.0),
            serve(lambda query, peer: query, credentials.context, port=0) as server,
        ):
            for verb in verbs:
                monkeypatch.setattr(dot_io.tls.TLSServer, verb, broken)
            with pytest.raises(HandshakeError):
                async with connect("127.0.0.1", credentials.policy, port=server.port):
                    pass

    asyncio.run(scenario())
    assert {str(problem) for problem in problems} == {"a fault of ours"}


@pytest.mark.parametrize("many", [False, True], ids=["query", "query_many"])
def test_a_fault_of_the_engine_leaves_no_caller_waiting(
    many: bool, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 5: the answer had been taken from the engine's table when it failed, so that no event tells of it."""

    def broken(*_: Any) -> Any:
        raise RuntimeError("a fault of ours")

    problems: list[Any] = []

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem["exception"]))
        async with (
            asyncio.timeout(10.0),
            serve(answer, credentials.context, port=0) as server,
            connect("127.0.0.1", credentials.policy, port=server.port) as client,
        ):
            monkeypatch.setattr(dot_proto._keepalive, "KeepaliveReceived", broken)
            query = make_query("example.com")
            if many:
                [(position, fate)] = [one async for one in client.query_many([query])]
                assert (position, fate.safe_to_resend) == (0, False)
            else:
                with pytest.raises(ConnectionLostError) as lost:
                    await client.query(query)
                assert not lost.value.safe_to_resend

    asyncio.run(scenario())
    assert {str(problem) for problem in problems} == {"a fault of ours"}


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_caller_interrupted_as_tcp_comes_up_leaves_nothing_running(
    new_loop: Any, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CON: uvloop then closes the transport beneath the protocol, and neither says so nor has ``is_closing()`` know."""
    drivers: list[Driver] = []
    problems: list[Any] = []
    connection_made = Driver.connection_made

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))

        async def victim() -> None:
            async with connect("127.0.0.1", credentials.policy, port=server.port):
                raise AssertionError("the caller was interrupted before")

        def interrupted(driver: Driver, transport: Any) -> None:
            connection_made(driver, transport)
            if not drivers and transport.get_extra_info("peername")[1] == server.port:
                drivers.append(driver)
                task.cancel()

        monkeypatch.setattr(Driver, "connection_made", interrupted)
        async with asyncio.timeout(10.0), serve(answer, credentials.context, port=0) as server:
            task = asyncio.ensure_future(victim())
            with pytest.raises(asyncio.CancelledError):
                await task
            [driver] = drivers
            await asyncio.wait([driver.ended])
            assert driver._timer is None
            driver._ring()  # as a timer would that was already due

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scenario())
    assert not problems
