"""Ids that may not change, and how many queries one connection takes, on every backend."""

from __future__ import annotations

from typing import Any

import pytest

from conformance.adapters import Backend
from conformance.identities import Identities
from dot_io.errors import ConnectionLostError
from dot_proto import Cause, ClientConfiguration, IdInUseError, make_query
from support.messages import SIG, message, opt, question_of, record, response_to
from support.peers import answer

SIGNATURE = record(b"\0", SIG, bytes(18), rdclass=255)
"SIG(0), as far as anybody can see who does not know the key."

SIGNED = message(question_of(make_query("example.com")), id=0xBEEF, flags=0x0100, additionals=[opt(), SIGNATURE])
"A query."


def signed_answer(query: bytes) -> bytes:
    """To this query."""
    return response_to(query, record(), additionals=[opt(), SIGNATURE])


def is_answered(query: bytes, response: bytes) -> bool:
    """Whether the response has the query's id, its question and the record that :func:`answer` makes."""
    return response[:10] == answer(query)[:10] and response.startswith(answer(query)[12:], 12)


def test_a_query_signed_by_sig0(api: Backend, identities: Identities) -> None:
    """FR-61: the server gets it octet for octet, and what it says comes back as it is (RFC 2931, section 3.1)."""
    seen: list[bytes] = []

    def handler(query: bytes, peer: object) -> bytes:
        seen.append(query)
        return signed_answer(query)

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            for _ in range(2):
                assert await client.query(SIGNED) == signed_answer(SIGNED)

    with api.serving(handler, identities.server) as server:
        api.run(scenario, server.port)
    assert seen == [SIGNED, SIGNED]


def test_a_query_signed_by_sig0_whose_id_is_in_use(api: Backend, identities: Identities) -> None:
    """FR-61: it is refused, with words for the caller, and harms nobody; the other one goes on."""

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            results = await api.gather([outcome(client), outcome(client)])
            refused = [each for each in results if isinstance(each, IdInUseError)]
            answered = [each for each in results if each == signed_answer(SIGNED)]
            # Where the first is answered before the second is asked, both are.
            assert len(refused) + len(answered) == 2
            assert answered
            assert await client.query(SIGNED) == signed_answer(SIGNED)

    with api.serving(lambda query, peer: signed_answer(query), identities.server) as server:
        api.run(scenario, server.port)


async def outcome(client: Any) -> Any:
    try:
        return await client.query(SIGNED)
    except IdInUseError as error:
        return error


@pytest.mark.parametrize("share", [1, 64])
def test_as_many_queries_as_a_key_is_good_for(api: Backend, identities: Identities, share: int) -> None:
    """KEY-1: those that were taken are answered, the others are not sent; and the connection has ended in order."""
    queries = [make_query(f"n{number}.example") for number in range(5)]
    seen: list[bytes] = []
    answered: dict[int, bytes] = {}

    def handler(query: bytes, peer: object) -> bytes:
        seen.append(question_of(query))
        return answer(query)

    async def collect(client: Any) -> None:
        async for position, fate in client.query_many(queries, max_in_flight=share):
            answered.update({position: fate.message})

    async def scenario(api: Backend, port: int) -> None:
        configuration = ClientConfiguration(max_queries=3)
        async with api.connect("127.0.0.1", identities.policy, port=port, configuration=configuration) as client:
            for _ in range(2):
                with pytest.raises(ConnectionLostError, match="its TLS keys are good for") as raised:
                    await collect(client)
                lost = raised.value
                assert (lost.cause, lost.error, lost.safe_to_resend) == (Cause.KEY_LIMIT, None, True)
            assert client.is_closed

    with api.serving(handler, identities.server) as server:
        api.run(scenario, server.port)
    assert sorted(answered) == [0, 1, 2]
    assert all(is_answered(queries[position], response) for position, response in answered.items())
    assert sorted(seen) == sorted(map(question_of, queries[:3]))


def test_the_first_query_may_be_the_last(api: Backend, identities: Identities) -> None:
    """KEY-1: asked with ``connect()``, before the verdict."""
    query = make_query("example.com")

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect(
            "127.0.0.1",
            identities.policy,
            port=port,
            configuration=ClientConfiguration(max_queries=1),
            first_query=query,
        ) as client:
            assert is_answered(query, await client.first_response())
            with pytest.raises(ConnectionLostError) as raised:
                await client.query(query)
            assert raised.value.cause is Cause.KEY_LIMIT

    with api.serving(lambda query, peer: answer(query), identities.server) as server:
        api.run(scenario, server.port)
