"""Wrong arguments are named before anything is dialled or listened to, in the same words everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dns.message
import pytest

from conformance.adapters import Backend
from conformance.identities import Identities
from dot_proto import AuthenticationPolicy, LocalProtocolError, make_query
from support.peers import answer

POLICY = AuthenticationPolicy.opportunistic()
QUERY = make_query("example.com")


@pytest.mark.parametrize(
    ("host", "options", "complaint"),
    [
        (None, {}, "host must be an address or a name, as text, not NoneType"),
        (b"127.0.0.1", {}, "host must be an address or a name, as text, not bytes"),
        ("a" * 64 + ".example", {"policy": POLICY}, "a label has 1 to 63 octets"),
        ("127.0.0.1:853", {"policy": POLICY}, "names a port: give '127.0.0.1' as the host and port=853"),
        ("[::1]:853", {}, r"names a port: give '\[::1\]' as the host and port=853"),
        ("dns.example:8853", {}, "give 'dns.example' as the host and port=8853"),
        ("tls://dns.example", {}, "is a URL: give the host alone"),
        ("127.0.0.010", {"policy": POLICY}, "ends in a number but is no IP address"),
        ("127.0.0.1.", {"policy": POLICY}, "ends in a number but is no IP address: .* without a final dot"),
        ("::1%lo", {"policy": POLICY}, "has a zone, which only a link-local address has"),
        ("fe80::1%25eth0", {"policy": POLICY}, "has a zone of no form: write %eth0"),
        ("fe80::1%a\n", {"policy": POLICY}, r"^'fe80::1%a\\n' has a zone of no form"),
        ("127.0.0.1\0.example", {"policy": POLICY}, r"^'1\\x00' in '127.0.0.1\\x00.example' is no label"),
        ("\uff11.0.0.1", {"policy": POLICY}, r"^'\\uff11.0.0.1' is not ASCII: write digits in ASCII"),
        ("127.0.0.1", {"timeout": "5"}, "timeout must be a number of seconds, 0 or more, not '5'"),
        ("127.0.0.1", {"timeout": -1}, "timeout must be a number of seconds, 0 or more, not -1"),
        ("127.0.0.1", {"timeout": float("nan")}, "timeout must be a number of seconds, 0 or more, not nan"),
        ("127.0.0.1", {"timeout": None}, "timeout must be a number of seconds, 0 or more, not None"),
        ("127.0.0.1", {"configuration": {}}, "configuration must be a ClientConfiguration, not dict"),
        ("127.0.0.1", {"first_query": "example.com"}, r"not text: make_query\('example.com'\) makes one"),
        ("127.0.0.1", {"policy": "dns.example"}, "policy must be an AuthenticationPolicy, not str"),
        ("127.0.0.1", {"context": POLICY}, "context must be a ClientContext, not AuthenticationPolicy"),
        ("127.0.0.1", {"policy": POLICY, "port": "853"}, "a port is a number, not str"),
        ("127.0.0.1", {"policy": POLICY, "port": 0}, "a port is 1 to 65535, not 0"),
        ("127.0.0.1", {"policy": POLICY, "port": 53}, "port 53 is for cleartext DNS"),
    ],
)
def test_of_connect(api: Backend, host: Any, options: dict[str, Any], complaint: str) -> None:
    """FR-45, FR-50, FR-56: before anything is dialled."""

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


@pytest.mark.parametrize(
    ("message", "options", "complaint"),
    [
        ("example.com", {}, r"not text: make_query\('example.com'\) makes one"),
        (dns.message.make_query("example.com", "A"), {}, r"not QueryMessage: call its to_wire\(\)"),
        (bytearray(QUERY), {}, r"octets \(bytes\), not bytearray"),
        (None, {}, "not NoneType"),
        (QUERY[:11], {}, "12 to 65535 octets, not 11"),
        (make_query("example.com", "AXFR"), {}, "a zone transfer .* is answered by several messages"),
        (make_query("example.com", 251), {}, "a zone transfer .* is answered by several messages"),
        (QUERY, {"timeout": "5"}, "timeout must be a number of seconds, 0 or more, not '5'"),
        (QUERY, {"timeout": -1}, "timeout must be .* not -1"),
        (QUERY, {"timeout": float("nan")}, "timeout must be .* not nan"),
        (QUERY, {"timeout": True}, "timeout must be .* not True"),
    ],
)
def test_of_query(api: Backend, identities: Identities, message: Any, options: dict[str, Any], complaint: str) -> None:
    """FR-45, FR-56, FR-5: in the same words everywhere, and the client goes on."""

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            with pytest.raises(LocalProtocolError, match=complaint):
                await client.query(message, **options)
            with pytest.raises(LocalProtocolError, match=complaint):
                async for _ in client.query_many([message], **options):
                    pass
            assert await client.query(QUERY)

    with api.serving(answer, identities.server) as server:
        api.run(scenario, server.port)
