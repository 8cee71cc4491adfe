"""Our clients, on every backend, against other people's servers: Unbound, NSD, dnsdist."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import dot_io.blocking
from conformance.adapters import Backend
from dot_io.errors import AuthenticationError
from dot_io.tls import ClientContext
from dot_proto import AuthenticationPolicy, Pin, QueryTimedOut, Reason, ResponseReceived, make_query
from interop.servers import FEW_HOSTS, HOSTS, STRINGS, answers
from support.credentials import NAME, Credentials
from support.messages import TC

pytestmark = pytest.mark.interop

STRICT = AuthenticationPolicy.strict

NXDOMAIN = 3

CONNECTIONS = 10

STALL, QUERY_TIMEOUT = 0.3, 5.0
"Seconds: a query is given up where a stall is expected, and where none is."

TRIES = 20
"A server that stalls every second time gets through these once in a million."


@pytest.fixture(params=["unbound", "nsd", "dnsdist"])
def port(request: pytest.FixtureRequest) -> int:
    """Where the server listens."""
    number: int = request.getfixturevalue(request.param)
    return number


def ask(hosts: range) -> list[bytes]:
    return [make_query(f"h{host}.lab.test") for host in hosts]


def test_it_proves_who_it_is_and_answers(api: Backend, port: int, credentials: Credentials) -> None:
    """RFC 8310, sections 6 and 8: by each kind of credential."""
    anchors = [credentials.anchor]
    policies = {
        "CA and name": STRICT(NAME, trust_anchors=anchors),
        "CA and address": STRICT("127.0.0.1", trust_anchors=anchors),
        "leaf pin": STRICT(pins=[credentials.leaf_pin]),
        "CA, name and issuer's pin": STRICT(NAME, trust_anchors=anchors, pins=[credentials.issuer_pin]),
        "name and issuer pin by hash": STRICT(NAME, issuer_pins=[credentials.issuer_pin]),
    }

    async def scenario(api: Backend) -> None:
        for what, policy in policies.items():
            async with api.connect("127.0.0.1", policy, port=port) as client:
                assert client.verdict.authenticated, what
                assert answers(1, await client.query(make_query("h1.lab.test"))), what

    api.run(scenario)


def test_it_is_refused_by_whoever_asks_for_another(api: Backend, port: int, credentials: Credentials) -> None:
    """AUT-1: the reasons are those of the same refusals by our own server."""
    anchors = [credentials.anchor]
    refused = [
        (STRICT("other.example", trust_anchors=anchors), Reason.NAME),
        (STRICT("127.0.0.2", trust_anchors=anchors), Reason.NAME),
        (STRICT(NAME, trust_anchors=[credentials.stranger]), Reason.UNTRUSTED),
        (STRICT(pins=[Pin(bytes(32))]), Reason.PIN),
        (STRICT(NAME, trust_anchors=anchors, pins=[Pin(bytes(32))]), Reason.PIN),
    ]

    async def scenario(api: Backend) -> None:
        for policy, reason in refused:
            with pytest.raises(AuthenticationError) as refusal:
                async with api.connect("127.0.0.1", policy, port=port):
                    pass
            assert refusal.value.verdict.reason is reason

    api.run(scenario)


def test_a_session_is_resumed(api: Backend, port: int, credentials: Credentials) -> None:
    """TLS-8: each server's tickets are good for another connection."""
    context = ClientContext(credentials.policy)

    async def scenario(api: Backend) -> list[bool]:
        resumed = []
        for _ in range(2):
            async with api.connect("127.0.0.1", port=port, context=context) as client:
                await client.query(make_query("h1.lab.test"))
                resumed.append(client.handshake.is_resumed)
        return resumed

    assert api.run(scenario) == [False, True]


def test_an_answer_of_four_kilobytes_is_whole(api: Backend, port: int, credentials: Credentials) -> None:
    """EDN-3: the UDP payload size of 1232 octets that the query states is of no account here."""

    async def scenario(api: Backend) -> bytes:
        async with api.connect("127.0.0.1", credentials.policy, port=port) as client:
            response: bytes = await client.query(make_query("large.lab.test", "TXT"))
            return response

    response = api.run(scenario)
    assert all(string.encode() in response for string in STRINGS)
    assert not int.from_bytes(response[2:4]) & TC


def test_a_name_that_does_not_exist(api: Backend, port: int, credentials: Credentials) -> None:
    async def scenario(api: Backend) -> bytes:
        async with api.connect("127.0.0.1", credentials.policy, port=port) as client:
            response: bytes = await client.query(make_query("nothing.lab.test"))
            return response

    assert api.run(scenario)[3] & 15 == NXDOMAIN


def test_five_hundred_queries_are_on_their_way_at_a_time(api: Backend, port: int, credentials: Credentials) -> None:
    """CON-2, FRM-14: pipelined on one connection; no server stalls, and each answer belongs to its question."""

    async def scenario(api: Backend) -> dict[int, Any]:
        async with api.connect("127.0.0.1", credentials.policy, port=port) as client:
            fates = client.query_many(ask(range(FEW_HOSTS)), max_in_flight=FEW_HOSTS)
            return {position: fate async for position, fate in fates}

    fates = api.run(scenario)
    assert len(fates) == FEW_HOSTS
    for position, fate in fates.items():
        assert isinstance(fate, ResponseReceived)
        assert answers(position, fate.message)


def test_five_hundred_callers_share_one_connection(api: Backend, port: int, credentials: Credentials) -> None:
    """CON-1, FRM-14: what they ask in one turn of the loop leaves in one write, and still no server stalls."""

    async def scenario(api: Backend) -> list[Any]:
        async with api.connect("127.0.0.1", credentials.policy, port=port) as client:
            return await api.gather(map(client.query, ask(range(FEW_HOSTS))))

    for position, response in enumerate(api.run(scenario)):
        assert isinstance(response, bytes)
        assert answers(position, response)


def stalls(
    api: Backend, port: int, credentials: Credentials, *, share_records: bool, count: int = 8, timeout: float
) -> bool:
    """Ask so many in one write, in one TLS record or a record each: whether the server leaves any unanswered."""

    async def scenario(api: Backend) -> dict[int, Any]:
        async with api.connect("127.0.0.1", credentials.policy, port=port, share_records=share_records) as client:
            fates = client.query_many(ask(range(count)), max_in_flight=count, timeout=timeout)
            return {position: fate async for position, fate in fates}

    fates = api.run(scenario)
    assert len(fates) == count
    assert isinstance(fates[0], ResponseReceived)
    for position, fate in fates.items():
        assert isinstance(fate, QueryTimedOut) or answers(position, fate.message)
    return any(isinstance(fate, QueryTimedOut) for fate in fates.values())


@pytest.mark.parametrize("server", ["nsd", "dnsdist"])
def test_queries_that_share_a_record_make_a_server_stall(
    api: Backend, server: str, credentials: Credentials, request: pytest.FixtureRequest
) -> None:
    """FRM-14: why sharing is no default, and that without it nothing stalls.

    These servers answer the first query, then wait for TCP, while the others lie decrypted in their TLS library:
    NSD each time; dnsdist about every second time, unless what it asks in turn answers at once.
    """
    port: int = request.getfixturevalue(server)
    assert not any(stalls(api, port, credentials, share_records=False, timeout=QUERY_TIMEOUT) for _ in range(TRIES))
    if not any(stalls(api, port, credentials, share_records=True, timeout=STALL) for _ in range(TRIES)):
        pytest.skip(f"in {TRIES} tries {server} did not stall: this version copes")


def test_queries_may_share_a_record_where_the_server_copes(
    api: Backend, unbound: int, credentials: Credentials
) -> None:
    """FRM-14: Unbound does."""
    assert not stalls(api, unbound, credentials, share_records=True, count=FEW_HOSTS, timeout=QUERY_TIMEOUT)


def test_a_hundred_thousand_queries(api: Backend, nsd: int, credentials: Credentials) -> None:
    """CON-2: over ten connections at a time, every name another; nothing is lost and nothing is mismatched."""
    context = ClientContext(credentials.policy)
    shares = [range(first, HOSTS, CONNECTIONS) for first in range(CONNECTIONS)]

    def is_right(host: int, fate: Any) -> bool:
        return isinstance(fate, ResponseReceived) and answers(host, fate.message)

    def by_thread(hosts: range) -> int:
        with dot_io.blocking.connect("127.0.0.1", port=nsd, context=context) as client:
            return sum(is_right(hosts[position], fate) for position, fate in client.query_many(ask(hosts)))

    async def by_task(hosts: range) -> int:
        async with api.connect("127.0.0.1", port=nsd, context=context) as client:
            return sum([is_right(hosts[position], fate) async for position, fate in client.query_many(ask(hosts))])

    async def scenario(api: Backend) -> list[Any]:
        return await api.gather(map(by_task, shares))

    if api.is_async:
        right = api.run(scenario)
    else:  # a thread for each answer, as other scenarios have it, would be slow
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            right = list(pool.map(by_thread, shares))
    assert right == [HOSTS // CONNECTIONS] * CONNECTIONS
