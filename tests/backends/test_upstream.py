"""What an upstream says is what a server must show (RES-1, RES-4, RES-8, RES-10)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from dot_io.blocking import Client, Server, connect, serve
from dot_io.errors import AuthenticationError
from dot_io.tls import ClientContext, ServerContext, SessionCache
from dot_proto import Reason, Upstream, certificates_from, make_query
from support.credentials import NAME, Credentials
from support.peers import answer

QUERY = make_query("example.com")


@pytest.fixture
def asked() -> list[bytes]:
    """What reached the servers."""
    return []


@pytest.fixture
def server(credentials: Credentials, asked: list[bytes]) -> Iterator[Server]:
    """For NAME, 127.0.0.1 and ::1."""
    yield from serving(credentials.context, asked)


@pytest.fixture
def named(credentials: Credentials, asked: list[bytes], tmp_path: Path) -> Iterator[tuple[Server, bytes]]:
    """For a name alone, with its anchor."""
    authority, file = trustme.CA(), tmp_path / "named.pem"
    authority.issue_cert(NAME).private_key_and_cert_chain_pem.write_to_path(str(file))

    for server in serving(ServerContext(file), asked):
        yield server, certificates_from(authority.cert_pem.bytes())[0]


def serving(context: ServerContext, asked: list[bytes]) -> Iterator[Server]:
    def handler(query: bytes, peer: object) -> bytes:
        asked.append(query)
        return answer(query)

    with serve(handler, context, port=0) as server:
        yield server


def dial(upstream: Upstream, **arguments: object) -> Client:
    """As a resolver does: an address, its port, and what must be proved there."""
    address = upstream.addresses[0]
    return connect(address, upstream.policy_for(address), port=upstream.port, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["tls://127.0.0.1:{port}", "tls://127.0.0.1:{port}#{name}"])
def test_what_is_written_is_asked(server: Server, credentials: Credentials, form: str) -> None:
    """RES-1, RES-4: by the name, and without one by the address."""
    text = form.format(port=server.port, name=NAME)
    with dial(Upstream.parse(text, trust_anchors=[credentials.anchor])) as client:
        assert client.query(QUERY)[:2] == QUERY[:2]


def test_a_pin_in_a_url_is_asked(server: Server, credentials: Credentials) -> None:
    """RES-2: with each character of its base64."""
    with dial(Upstream.parse(f"tls://127.0.0.1:{server.port}?pin={credentials.leaf_pin}")) as client:
        assert client.query(QUERY)[:2] == QUERY[:2]


def test_an_address_is_not_in_a_certificate_for_a_name(named: tuple[Server, bytes], asked: list[bytes]) -> None:
    """RES-4: an upstream without a name and a pin is not one without authentication."""
    server, anchor = named
    with pytest.raises(AuthenticationError) as refused:
        dial(Upstream.parse(f"tls://127.0.0.1:{server.port}", trust_anchors=[anchor]), first_query=QUERY)
    assert refused.value.verdict.reason is Reason.NAME
    assert not asked
    with dial(Upstream.parse(f"tls://127.0.0.1:{server.port}#{NAME}", trust_anchors=[anchor])) as client:
        client.query(QUERY)
    assert len(asked) == 1


@pytest.mark.parametrize(
    "text", ["tls://127.0.0.1:{}", "tls://127.0.0.1:{}?pin=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]
)
def test_a_server_that_proves_nothing_is_asked_nothing(server: Server, asked: list[bytes], text: str) -> None:
    """RES-4: the system does not trust it, and the pin is another's."""
    with pytest.raises(AuthenticationError):
        dial(Upstream.parse(text.format(server.port)), first_query=QUERY)
    assert not asked


def test_an_address_that_a_lie_has_found(named: tuple[Server, bytes], asked: list[bytes]) -> None:
    """RES-8: whatever address a bootstrap finds, the name is what is authenticated."""
    server, anchor = named
    upstream = Upstream.parse(f"tls://other.example:{server.port}", trust_anchors=[anchor], bootstrap="system")
    with pytest.raises(AuthenticationError) as refused:
        connect("127.0.0.1", upstream.policy_for("127.0.0.1"), port=upstream.port, first_query=QUERY)
    assert refused.value.verdict.reason is Reason.NAME
    assert not asked


def test_two_policies_at_one_address_share_no_session(server: Server, credentials: Credentials) -> None:
    """RES-10: one session cache, three upstreams, a full handshake for each; the first one again resumes."""
    cache = SessionCache()
    texts = [f"?pin={credentials.leaf_pin}", f"?pin={credentials.leaf_pin}&pin={credentials.issuer_pin}", f"#{NAME}"]
    upstreams = [Upstream.parse(f"tls://127.0.0.1:{server.port}{texts[0]}")]
    upstreams += [Upstream.parse(f"tls://127.0.0.1:{server.port}{texts[1]}")]
    upstreams += [Upstream.parse(f"tls://127.0.0.1:{server.port}{texts[2]}", trust_anchors=[credentials.anchor])]
    contexts = {upstream: ClientContext(upstream.policy_for("127.0.0.1"), sessions=cache) for upstream in upstreams}
    assert len(contexts) == 3
    resumed = []
    for upstream in (*upstreams, upstreams[0]):
        with connect("127.0.0.1", port=upstream.port, context=contexts[upstream]) as client:
            client.query(QUERY)
            resumed.append(client.verdict.is_resumed)
    assert resumed == [False, False, False, True]
