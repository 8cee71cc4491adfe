"""Wrong arguments are named before anything is dialled or listened to, in the same words everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conformance.adapters import Backend
from conformance.identities import Identities
from dot_proto import AuthenticationPolicy, LocalProtocolError
from support.peers import answer

POLICY = AuthenticationPolicy.opportunistic()


@pytest.mark.parametrize(
    ("host", "options", "complaint"),
    [
        (None, {}, "host must be an address or a name, as text, not NoneType"),
        (b"127.0.0.1", {}, "host must be an address or a name, as text, not bytes"),
        ("127.0.0.1", {"policy": "dns.example"}, "policy must be an AuthenticationPolicy, not str"),
        ("127.0.0.1", {"context": POLICY}, "context must be a ClientContext, not AuthenticationPolicy"),
        ("127.0.0.1", {"policy": POLICY, "port": "853"}, "a port is a number, not str"),
        ("127.0.0.1", {"policy": POLICY, "port": 0}, "a port is 1 to 65535, not 0"),
        ("127.0.0.1", {"policy": POLICY, "port": 53}, "port 53 is for cleartext DNS"),
    ],
)
def test_of_connect(api: Backend, host: Any, options: dict[str, Any], complaint: str) -> None:
    async def scenario(api: Backend) -> None:
        with pytest.raises(LocalProtocolError, match=complaint):
            async with api.connect(host, **options):
                pass

    api.run(scenario)


def test_of_serve(api: Backend, identities: Identities) -> None:
    async def scenario(api: Backend) -> None:
        with pytest.raises(
            LocalProtocolError, match="handler must be a function of a query and its peer, not NoneType"
        ):
            async with api.serve(None, identities.server, port=0):
                pass
        path: Path = identities.certificate_file
        with pytest.raises(LocalProtocolError, match="context must be a ServerContext, not "):
            async with api.serve(answer, path, port=0):
                pass

    api.run(scenario)


def test_a_handshake_prints_no_certificate(api: Backend, identities: Identities) -> None:
    """What is easily logged stays short."""

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            assert client.handshake.peer_certificate is not None
            assert len(repr(client.handshake)) < 250

    with api.serving(answer, identities.server) as server:
        api.run(scenario, server.port)
