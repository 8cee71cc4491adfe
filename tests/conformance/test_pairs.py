"""Our client against our server, for every pair of backends: what both sides promise when nobody misbehaves."""

from __future__ import annotations

import ssl
from time import monotonic
from typing import Any

import pytest

from conformance.adapters import Backend, Running
from conformance.identities import NAME, Identities
from dot_io.errors import AuthenticationError, ConnectionLostError, QueryTimeoutError
from dot_io.tls import ClientContext
from dot_proto import (
    MAX_MESSAGE,
    QUERY_BLOCK,
    RESPONSE_BLOCK,
    AuthenticationPolicy,
    Cause,
    ClientConfiguration,
    Pin,
    Reason,
    ResponseReceived,
    ServerConfiguration,
    ServerConnection,
    make_query,
)
from support.messages import KEEPALIVE, PADDING, opt, option, query_of_length, record, response_to

SERVFAIL = 2


def answer(query: bytes, peer: object) -> bytes:
    """A handler: one record, the query's id and question."""
    return response_to(query, record(data=bytes([192, 0, 2, 1])))


def queries(count: int) -> list[bytes]:
    return [make_query(f"host-{number}.example") for number in range(count)]


def name_in(message: bytes) -> bytes:
    """The first label of the question."""
    return message[13 : 13 + message[12]]


def test_a_query_is_answered(api: Backend, other: Backend, identities: Identities) -> None:
    """One query, one answer, under the query's own id; and the TLS session is what both sides agreed on."""

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            query = make_query("example.com", message_id=4711)
            response = await client.query(query)
            assert response[:2] == query[:2]
            assert response[2] & 0x80
            assert name_in(response) == b"example"
            assert client.verdict.authenticated
            assert client.handshake.version == "TLSv1.3"
            assert client.handshake.alpn == "dot"
            assert not client.is_closed
            assert client.connect_time >= 0
            assert client.handshake_time >= 0  # uvloop's clock has milliseconds
        assert client.is_closed

    with other.serving(answer, identities.server) as server:
        api.run(scenario, server.port)


def test_five_hundred_queries_share_the_connection(api: Backend, other: Backend, identities: Identities) -> None:
    """Pipelining (RFC 7766, section 6.2.1.1): each position gets the answer to its own question."""
    peers = set()

    def handler(query: bytes, peer: Any) -> bytes:
        peers.add(peer)
        return answer(query, peer)

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            asked = queries(500)
            fates = {position: fate async for position, fate in client.query_many(asked)}
        assert sorted(fates) == list(range(500))
        for position, fate in fates.items():
            assert isinstance(fate, ResponseReceived)
            assert name_in(fate.message) == name_in(asked[position])

    with other.serving(handler, identities.server) as server:
        api.run(scenario, server.port)
    assert len(peers) == 1


def test_answers_come_in_any_order(api: Backend, other: Backend, identities: Identities) -> None:
    """A slow query does not hold up the next one (RFC 7766, section 6.2.1.1), nor is its answer mistaken."""
    gate = other.gate()
    order: list[bytes] = []

    def handler(query: bytes, peer: Any) -> Any:
        return gate.then(answer(query, peer)) if name_in(query) == b"slow" else answer(query, peer)

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:

            async def ask(name: bytes) -> bytes:
                response: bytes = await client.query(make_query(f"{name.decode()}.example"))
                order.append(name_in(response))
                if name == b"quick":
                    gate.open()
                return name_in(response)

            assert await api.gather([ask(b"slow"), ask(b"quick")]) == [b"slow", b"quick"]

    with other.serving(handler, identities.server) as server:
        api.run(scenario, server.port)
    assert order == [b"quick", b"slow"]


def test_the_longest_message(api: Backend, other: Backend, identities: Identities) -> None:
    """65535 octets each way (RFC 1035, section 4.2.2): what a 16-bit length can say."""
    seen: list[int] = []
    filler = query_of_length(MAX_MESSAGE)

    def handler(query: bytes, peer: object) -> bytes:
        seen.append(len(query))
        bare = response_to(query, record(data=b""))
        return response_to(query, record(kind=10, data=bytes(MAX_MESSAGE - len(bare))))

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            assert len(await client.query(filler)) == MAX_MESSAGE

    with other.serving(handler, identities.server) as server:
        api.run(scenario, server.port)
    assert seen == [MAX_MESSAGE]


@pytest.mark.parametrize("block", [QUERY_BLOCK, None])
def test_padding(api: Backend, other: Backend, identities: Identities, block: int | None) -> None:
    """Queries fill blocks of 128 octets, and responses blocks of 468 iff the query was padded (RFC 8467)."""
    lengths: list[int] = []

    def handler(query: bytes, peer: Any) -> bytes:
        lengths.append(len(query))
        return response_to(query, additionals=[opt()])

    async def scenario(api: Backend, port: int) -> bytes:
        configuration = ClientConfiguration(padding_block=block)
        async with api.connect("127.0.0.1", identities.policy, port=port, configuration=configuration) as client:
            response: bytes = await client.query(make_query("example.com"))
            return response

    with other.serving(handler, identities.server) as server:
        response = api.run(scenario, server.port)
    if block is None:
        assert lengths[0] < QUERY_BLOCK
        assert option(PADDING)[:2] not in response[40:]
    else:
        assert lengths == [QUERY_BLOCK]
        assert len(response) == RESPONSE_BLOCK


def test_the_server_states_its_idle_timeout(api: Backend, other: Backend, identities: Identities) -> None:
    """A client that asks for it is told how long it may stay (RFC 7828, section 3.3.1)."""

    async def scenario(api: Backend, port: int) -> bytes:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            response: bytes = await client.query(make_query("example.com"))
            return response

    def handler(query: bytes, peer: Any) -> bytes:
        return response_to(query, additionals=[opt()])

    with other.serving(handler, identities.server, configuration=ServerConfiguration(idle_timeout=12.3)) as server:
        assert option(KEEPALIVE, (123).to_bytes(2)) in api.run(scenario, server.port)


def test_an_idle_client_closes_before_the_server(api: Backend, other: Backend, identities: Identities) -> None:
    """What the server states counts for the client, which goes first (RFC 7828, section 3.2.2)."""

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            await client.query(make_query("example.com"))
            due = client._session.next_timeout()
            # Nobody watches an idle blocking connection, but the next call notices.
            await api.until(lambda: client.is_closed or not (api.is_async or monotonic() < due))
            with pytest.raises(ConnectionLostError) as lost:
                await client.query(make_query("example.com"))
            assert lost.value.cause is Cause.IDLE
            assert lost.value.safe_to_resend

    def handler(query: bytes, peer: Any) -> bytes:
        return response_to(query, additionals=[opt()])

    with other.serving(handler, identities.server, configuration=ServerConfiguration(idle_timeout=0.1)) as server:
        api.run(scenario, server.port)


def test_a_session_is_resumed(api: Backend, other: Backend, identities: Identities) -> None:
    """The second connection of a context resumes the first one's session, and its verdict (RFC 8446, section 2.2)."""
    context = identities.context()

    async def scenario(api: Backend, port: int) -> list[bool]:
        resumed = []
        for _ in range(2):
            async with api.connect("127.0.0.1", port=port, context=context) as client:
                await client.query(make_query("example.com"))
                assert client.verdict.authenticated
                resumed.append(client.handshake.is_resumed)
        return resumed

    with other.serving(answer, identities.server) as server:
        assert api.run(scenario, server.port) == [False, True]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_one_version_of_tls_suffices(
    api: Backend, other: Backend, identities: Identities, version: ssl.TLSVersion
) -> None:
    """TLS 1.2 alone and TLS 1.3 alone, each stated by one side only (RFC 8310, section 9)."""

    async def scenario(api: Backend, port: int) -> str:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            await client.query(make_query("example.com"))
            return str(client.handshake.version)

    context = identities.server_context(minimum_version=version, maximum_version=version)
    with other.serving(answer, context) as server:
        assert api.run(scenario, server.port) == version.name.replace("_", ".")


def accepted(identities: Identities) -> dict[str, AuthenticationPolicy]:
    strict, anchors, pins = AuthenticationPolicy.strict, [identities.anchor], [identities.leaf_pin]
    return {
        "name": strict(NAME, trust_anchors=anchors),
        "address": strict("127.0.0.1", trust_anchors=anchors),
        "pin": strict(pins=pins),
        "name and pin": strict(NAME, trust_anchors=anchors, pins=pins),
        "name and the issuer's pin in the chain": strict(NAME, trust_anchors=anchors, pins=[identities.issuer_pin]),
        "name and issuer pin, without a certificate": strict(NAME, issuer_pins=[identities.issuer_pin]),
    }


def refused(identities: Identities) -> dict[str, tuple[AuthenticationPolicy, Reason]]:
    strict, anchors = AuthenticationPolicy.strict, [identities.anchor]
    nobody = Pin(bytes(32))
    return {
        "wrong name": (strict("other.example", trust_anchors=anchors), Reason.NAME),
        "wrong pin": (strict(pins=[nobody]), Reason.PIN),
        "wrong pin beside the right name": (strict(NAME, trust_anchors=anchors, pins=[nobody]), Reason.PIN),
        "the issuer's pin where only the leaf counts": (strict(pins=[identities.issuer_pin]), Reason.PIN),
        "another authority": (strict(NAME, trust_anchors=[identities.stranger]), Reason.UNTRUSTED),
        "the system's trust store": (strict(NAME), Reason.UNTRUSTED),
        "wrong issuer pin": (strict(NAME, issuer_pins=[identities.stranger_pin]), Reason.PIN),
        "issuer pin, wrong name": (strict("other.example", issuer_pins=[identities.issuer_pin]), Reason.NAME),
    }


def test_policies_that_accept(api: Backend, other: Backend, identities: Identities) -> None:
    """AUT-1, AUT-4: each way to authenticate a server lets the right one in."""

    async def scenario(api: Backend, port: int) -> None:
        for policy in accepted(identities).values():
            async with api.connect("127.0.0.1", policy, port=port) as client:
                assert client.verdict.authenticated
                await client.query(make_query("example.com"))

    with other.serving(answer, identities.server) as server:
        api.run(scenario, server.port)


def test_policies_that_refuse(api: Backend, other: Backend, identities: Identities) -> None:
    """AUT-7: a refusal is raised with its reason, and the server has seen no query."""
    seen: list[bytes] = []

    def handler(query: bytes, peer: object) -> bytes:
        seen.append(query)
        return answer(query, peer)

    async def scenario(api: Backend, port: int) -> None:
        for what, (policy, reason) in refused(identities).items():
            with pytest.raises(AuthenticationError) as refusal:
                async with api.connect("127.0.0.1", policy, port=port) as client:
                    await client.query(make_query("example.com"))
            assert refusal.value.verdict.reason is reason, what

    with other.serving(handler, identities.server) as server:
        api.run(scenario, server.port)
    assert seen == []


def test_opportunistic_asks_whoever_answers_and_says_so(api: Backend, other: Backend, identities: Identities) -> None:
    """AUT-3: accepted, not authenticated (RFC 8310, section 5)."""

    async def scenario(api: Backend, port: int) -> None:
        context = ClientContext(AuthenticationPolicy.opportunistic())
        async with api.connect("127.0.0.1", port=port, context=context) as client:
            assert await client.query(make_query("example.com"))
            assert client.verdict.accepted
            assert not client.verdict.authenticated

    with other.serving(answer, identities.server) as server:
        api.run(scenario, server.port)


def test_ipv6(api: Backend, other: Backend, identities: Identities) -> None:
    """The same over IPv6, authenticated by the address that is dialled."""

    async def scenario(api: Backend, port: int) -> str:
        policy = AuthenticationPolicy.strict("::1", trust_anchors=[identities.anchor])
        async with api.connect("::1", policy, port=port) as client:
            await client.query(make_query("example.com"))
        return "done"

    hosts: set[str] = set()

    def handler(query: bytes, peer: Any) -> bytes:
        hosts.add(peer.host)
        return answer(query, peer)

    with other.serving(handler, identities.server, host="::1") as server:
        assert server.host == "::1"
        assert api.run(scenario, server.port) == "done"
    assert hosts == {"::1"}


class Broken(Exception):
    """What a handler raises."""


@pytest.mark.parametrize("later", [False, True], ids=["at-once", "later"])
def test_a_handler_that_fails_is_servfail(
    api: Backend, other: Backend, identities: Identities, later: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """SRV: the client is told, the log has the cause, and the connection goes on."""
    gate = other.gate()
    gate.open()

    def handler(query: bytes, peer: object) -> Any:
        if name_in(query) == b"good":
            return answer(query, peer)
        if later:
            return gate.then(b"this is no response")
        raise Broken

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            response = await client.query(make_query("bad.example"))
            assert response[3] & 15 == SERVFAIL
            assert name_in(response) == b"bad"
            assert (await client.query(make_query("good.example")))[3] & 15 == 0

    with other.serving(handler, identities.server) as server:
        api.run(scenario, server.port)
    assert [record.levelname for record in caplog.records if record.name == "dot_io"] == ["ERROR"]


def test_a_handler_may_leave_a_query_unanswered(api: Backend, other: Backend, identities: Identities) -> None:
    """``None``: the client waits for its own deadline, and the connection goes on."""

    def handler(query: bytes, peer: object) -> bytes | None:
        return None if name_in(query) == b"nothing" else answer(query, peer)

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            with pytest.raises(QueryTimeoutError):
                await client.query(make_query("nothing.example"), timeout=0.05)
            assert name_in(await client.query(make_query("something.example"))) == b"something"

    with other.serving(handler, identities.server) as server:
        api.run(scenario, server.port)


def test_closing_the_client_waits_for_answers_owed(api: Backend, other: Backend, identities: Identities) -> None:
    """RFC 7766, section 6.2.4: closing takes no new query, and those under way get their answers."""
    gate, asked = other.gate(), []

    def handler(query: bytes, peer: object) -> Any:
        asked.append(query)
        return gate.then(answer(query, peer))

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:

            async def close() -> None:
                await api.until(lambda: len(asked) == 3)
                gate_opens = api.in_thread(gate.open)
                await api.gather([client.close(), gate_opens])

            *responses, _ = await api.gather([*map(client.query, queries(3)), close()])
            assert list(map(name_in, responses)) == [b"host-0", b"host-1", b"host-2"]
            with pytest.raises(ConnectionLostError) as lost:
                await client.query(make_query("example.com"))
            assert lost.value.cause is Cause.LOCAL_CLOSE

    with other.serving(handler, identities.server) as server:
        api.run(scenario, server.port)


def test_closing_the_server_answers_what_it_was_asked(
    api: Backend, other: Backend, identities: Identities, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 7828, section 3.3.2: the answers still owed come, and tell the client to go."""
    gate, asked = other.gate(), []
    close = ServerConnection.close

    def closing(connection: ServerConnection, **arguments: Any) -> None:
        close(connection, **arguments)
        gate.open()

    monkeypatch.setattr(ServerConnection, "close", closing)

    def handler(query: bytes, peer: object) -> Any:
        asked.append(query)
        return gate.then(response_to(query, additionals=[opt()]))

    async def scenario(api: Backend, server: Running) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=server.port) as client:

            async def close() -> None:
                await api.until(lambda: len(asked) == 3)
                await api.in_thread(server.close)

            *responses, _ = await api.gather([*map(client.query, queries(3)), close()])
            assert list(map(name_in, responses)) == [b"host-0", b"host-1", b"host-2"]
            assert all(option(KEEPALIVE, bytes(2)) in response for response in responses)

    with other.serving(handler, identities.server) as server:
        api.run(scenario, server)
