"""The resolver on trio: what only its cancel scopes can do."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trio

import dot_io.trio.resolver
from dot_io.errors import NoUpstreamError
from dot_io.testing import Authority, LoopbackServer
from dot_io.trio import Resolver
from dot_proto import Upstream, certificates_from, make_query


def test_a_dial_that_is_not_needed_in_the_turn_in_which_it_comes_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RES-15: the loser of a race is dropped, also where its cancellation would come at the next turn only."""
    authority = Authority(tmp_path, "trio")
    dial = dot_io.trio.resolver.dial
    resolvers: list[Resolver] = []

    async def dialled(host: str, port: int, deadline: float) -> socket.socket:
        sock = await dial(host, port, deadline)
        for scope in resolvers[0]._dials.values():
            scope.cancel()
        return sock

    monkeypatch.setattr(dot_io.trio.resolver, "dial", dialled)

    async def main() -> None:
        async with Resolver([upstream]) as resolver:
            resolvers.append(resolver)
            with pytest.raises(NoUpstreamError):
                await resolver.query(make_query("a.example"), timeout=0.1)
            assert not resolver._drivers

    with LoopbackServer(authority.issue("dot.test")) as server:
        anchors = certificates_from(authority.root_file.read_bytes())
        upstream = Upstream(name="dot.test", addresses=[server.host], port=server.port, trust_anchors=anchors)
        trio.run(main)
        assert server.queries == []
