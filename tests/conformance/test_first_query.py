"""The first query: it leaves with the client's Finished, once the server is accepted, and is due with the handshake."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from conformance.adapters import ASYNC, Backend
from conformance.identities import Identities
from conformance.test_deadlines import takes
from dot_io.errors import AuthenticationError, HandshakeError, QueryTimeoutError
from dot_proto import AuthenticationPolicy, LocalProtocolError, make_query
from support.messages import stream_of
from support.peers import GIVE_UP, Caller, answer, scripted

QUERY = make_query("first.example")
HANDSHAKE, APPLICATION = 22, 23
"Content types of TLS records; all that is encrypted in TLS 1.3 is APPLICATION (RFC 8446, section 5.2)."
TRIES = 5
"Two writes may reach the server as one, but not so often."


class _Flights:
    """A TLS server that answers one query for each client, and notes the records of each read."""

    def __init__(self, certificate_file: Path, version: ssl.TLSVersion) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = self._context.maximum_version = version
        self._context.load_cert_chain(certificate_file)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.flights: list[list[list[int]]] = []
        "For each client, for each read, the content types of the records in it."

    def run(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                with sock, suppress(ConnectionError):  # it need not wait for our close_notify
                    self._serve(sock)

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(GIVE_UP)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._context.wrap_bio(incoming, outgoing, server_side=True)
        self.flights.append([])
        while data := sock.recv(65_536):
            self.flights[-1].append(list(_content_types(data)))
            incoming.write(data)
            with suppress(ssl.SSLWantReadError):
                tls.do_handshake()
                if stream := tls.read(65_536):
                    tls.write(stream_of([answer(stream[2:])]))
                else:
                    tls.unwrap()
            sock.sendall(outgoing.read())

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _content_types(records: bytes) -> Iterator[int]:
    while records:
        yield records[0]
        records = records[5 + int.from_bytes(records[3:5]) :]


@contextmanager
def noting_flights(identities: Identities, version: ssl.TLSVersion) -> Iterator[_Flights]:
    server = _Flights(identities.certificate_file, version)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


@pytest.mark.parametrize(
    ("version", "second"),
    [
        # TLS 1.3: change_cipher_spec for old middleboxes, Finished, the query.
        (ssl.TLSVersion.TLSv1_3, [20, APPLICATION, APPLICATION]),
        # TLS 1.2: the query follows the server's Finished, one round later.
        (ssl.TLSVersion.TLSv1_2, [HANDSHAKE, 20, HANDSHAKE]),
    ],
    ids=["1.3", "1.2"],
)
def test_it_leaves_with_finished(
    api: Backend, identities: Identities, version: ssl.TLSVersion, second: list[int]
) -> None:
    """RFC 7858, section 3.3: nothing is gained by waiting; in TLS 1.3 one write has both."""

    async def scenario(api: Backend) -> None:
        for _ in range(TRIES):
            async with api.connect("127.0.0.1", identities.policy, port=server.port, first_query=QUERY) as client:
                assert await client.first_response() == answer(QUERY)
                assert await client.first_response() == answer(QUERY)

    with noting_flights(identities, version) as server:
        api.run(scenario)
        assert [flights[1] for flights in server.flights] == [second] * TRIES


@pytest.mark.parametrize("api", ASYNC, ids=repr)
def test_a_query_right_behind_connect_does_so_too(api: Backend, identities: Identities) -> None:
    """Where a loop runs, what the caller asks in the same turn needs no argument of connect()'s."""

    async def scenario(api: Backend) -> None:
        for _ in range(TRIES):
            async with api.connect("127.0.0.1", identities.policy, port=server.port) as client:
                await client.query(QUERY)

    with noting_flights(identities, ssl.TLSVersion.TLSv1_3) as server:
        api.run(scenario)
        assert [flights[1] for flights in server.flights] == [[20, APPLICATION, APPLICATION]] * TRIES


def test_finished_does_not_wait_for_a_query(api: Backend, identities: Identities) -> None:
    """A connection made in advance is whole on both sides, or the server would give it up."""

    async def scenario(api: Backend) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=server.port):
            await api.until(lambda: server.handshakes == 1)

    with scripted(Caller.rest, identities.certificate_file) as server:
        api.run(scenario)


def test_a_refused_server_does_not_see_it(api: Backend, identities: Identities) -> None:
    """Promise 4; AUT: not one octet of the query, though it was there before the verdict."""
    policy = AuthenticationPolicy.strict(pins=[identities.stranger_pin])

    async def scenario(api: Backend) -> None:
        with pytest.raises(AuthenticationError):
            async with api.connect("127.0.0.1", policy, port=server.port, first_query=QUERY):
                pass

    received: list[bytes] = []
    with scripted(lambda caller: received.append(caller.rest()), identities.certificate_file) as server:
        api.run(scenario)
    assert not any(received)


def test_it_is_due_with_the_handshake(api: Backend, identities: Identities) -> None:
    """CON-18: one deadline for the connection, the handshake and the answer."""

    async def scenario(api: Backend) -> None:
        with takes(api, 0.2):
            async with api.connect(
                "127.0.0.1", identities.policy, port=server.port, timeout=0.2, first_query=QUERY
            ) as client:
                with pytest.raises(QueryTimeoutError):
                    await client.first_response()

    with scripted(Caller.rest, identities.certificate_file) as server:
        api.run(scenario)


def test_a_handshake_that_fails_takes_it_along(api: Backend, identities: Identities) -> None:
    """connect() says why, as ever."""

    def hang_up(caller: Caller) -> None:
        caller.socket.recv(1)
        caller.reset()

    async def scenario(api: Backend) -> None:
        with pytest.raises(HandshakeError):
            async with api.connect("127.0.0.1", identities.policy, port=server.port, first_query=QUERY):
                pass

    with scripted(hang_up, None) as server:
        api.run(scenario)


def test_what_is_no_query_is_refused(api: Backend, identities: Identities) -> None:
    """LocalProtocolError, and the connection is closed."""

    async def scenario(api: Backend) -> None:
        with pytest.raises(LocalProtocolError, match="response"):
            async with api.connect("127.0.0.1", identities.policy, port=server.port, first_query=answer(QUERY)):
                pass

    with scripted(Caller.rest, None) as server:
        api.run(scenario)


def test_there_may_be_none(api: Backend, identities: Identities) -> None:
    """Waiting for the response to nothing is a mistake, and is called one."""

    async def scenario(api: Backend) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=server.port) as client:
            with pytest.raises(LocalProtocolError, match="no first query"):
                await client.first_response()

    with scripted(Caller.rest, identities.certificate_file) as server:
        api.run(scenario)
