"""A fault of ours inside a callback is reported to the loop, and nobody waits for ever because of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import dot_io.tls.session
from dot_io.asyncio import connect, serve
from dot_io.errors import HandshakeError
from support.credentials import Credentials


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
