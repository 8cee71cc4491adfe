"""A fault of ours inside a callback is reported to the loop, and nobody waits for ever because of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import dot_io.tls.session
import dot_proto.client
from dot_io.asyncio import connect, serve
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
                monkeypatch.setattr(dot_io.tls.session.TLSServer, verb, broken)
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
            monkeypatch.setattr(dot_proto.client, "KeepaliveReceived", broken)
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
