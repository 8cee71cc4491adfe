"""A client and a server with nothing between them but octets, and a clock that moves only when told to."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from dot_io.errors import AuthenticationError
from dot_io.tls import ClientContext, TLSClient, TLSServer
from dot_proto import (
    AuthenticationPolicy,
    Cause,
    ClientConfiguration,
    ConnectionClosed,
    Event,
    PeerAuthenticated,
    PeerRefused,
    QueryLost,
    QueryReceived,
    Verdict,
    make_query,
)
from support.messages import Clock, pieces, response_to
from support.pki import Identity, Pki
from support.scenes import counting

ADDRESS = ("192.0.2.53", 853)

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

both_versions = pytest.mark.parametrize("version", [TLS12, TLS13], ids=["1.2", "1.3"])

Kind = TypeVar("Kind", bound=Event)


class Peer:
    """OpenSSL by itself, behind the verbs of a session: for what TLSClient and TLSServer would never do."""

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        is_server: bool = False,
        name: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, is_server, name, session)
        self.heard = b""
        "Every octet that came, decrypted."
        self.error: ssl.SSLError | None = None
        "What OpenSSL made of the end, where it was none in order."
        self.has_close_notify = False
        self._is_through = False
        if not is_server:
            self._go_on()

    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        self._incoming.write(data)
        self._go_on()
        return []

    def receive_eof(self, *, now: float) -> list[Event]:
        self._incoming.write_eof()
        self._go_on()
        return []

    def data_to_send(self) -> list[bytes]:
        octets = self._outgoing.read()
        return [octets] if octets else []

    def say(self, plaintext: bytes) -> None:
        self.tls.write(plaintext)

    def close(self) -> None:
        """Leave close_notify."""
        with suppress(ssl.SSLError):
            self.tls.unwrap()

    def _go_on(self) -> None:
        try:
            if not self._is_through:
                self.tls.do_handshake()
                self._is_through = True
            while self.error is None and not self.has_close_notify:
                piece = self.tls.read(65_536)
                self.heard += piece
                self.has_close_notify = not piece
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.has_close_notify = True  # so says OpenSSL where this side has said it too
        except ssl.SSLError as error:
            self.error = error


class Wire:
    """Joins the two; ``size`` octets travel at a time, or all there are."""

    def __init__(self, client: Any, server: Any, *, size: int | None = None, clock: Clock | None = None) -> None:
        self.client, self.server = client, server
        self.clock = clock or Clock()
        self.client_events: list[Event] = []
        self.server_events: list[Event] = []
        self.from_client, self.from_server = b"", b""
        "All that has travelled, as records."
        self._size = size
        self._heard = b""
        self._answered = 0
        if isinstance(server, TLSServer):
            self._overhear(server.connection)

    @property
    def now(self) -> float:
        return self.clock.now

    @property
    def heard(self) -> bytes:
        """Every octet that the server has decrypted."""
        return self.server.heard if isinstance(self.server, Peer) else self._heard

    @property
    def verdict(self) -> Verdict:
        verdict = self.client.connection.verdict
        assert verdict is not None, "the server was not judged yet"
        return verdict

    def flow(self) -> Wire:
        """Let all travel until both are silent."""
        while self.flow_to_server() | self.flow_to_client():
            pass
        return self

    def flow_to_server(self) -> bool:
        octets = b"".join(self.client.data_to_send())
        self.from_client += octets
        for piece in pieces(octets, self._size or 2**20):
            self.server_events += self.server.receive_data(piece, now=self.now)
        return bool(octets)

    def flow_to_client(self) -> bool:
        octets = b"".join(self.server.data_to_send())
        self.from_server += octets
        for piece in pieces(octets, self._size or 2**20):
            self.client_events += self.client.receive_data(piece, now=self.now)
        return bool(octets)

    def ask(self, *names: str) -> list[int]:
        """Ask for A records; returns the handles."""
        return [self.client.connection.send_query(make_query(name), now=self.now) for name in names]

    def answer(self) -> int:
        """Have the server answer what it has not answered yet; returns how many queries that were."""
        queries = [event for event in self.server_events if isinstance(event, QueryReceived)][self._answered :]
        for query in queries:
            self.server.connection.send_response(query.query, response_to(query.message), now=self.now)
        self._answered += len(queries)
        return len(queries)

    def tick(self) -> Wire:
        """Let both look at the clock."""
        self.client_events += self.client.handle_timeout(now=self.now)
        if isinstance(self.server, TLSServer):
            self.server_events += self.server.handle_timeout(now=self.now)
        return self

    def _overhear(self, connection: Any) -> None:
        receive: Callable[..., list[Event]] = connection.receive_data

        def receive_data(data: bytes, *, now: float) -> list[Event]:
            self._heard += data
            return receive(data, now=now)

        connection.receive_data = receive_data


def the(kind: type[Kind], events: Sequence[Event]) -> Kind:
    """The one event of this kind."""
    [found] = [event for event in events if isinstance(event, kind)]
    return found


def raw_server(
    file: Path,
    version: ssl.TLSVersion | None = None,
    *,
    ciphers: str | None = None,
    alpn: Sequence[str] = (),
    tickets: int | None = None,
) -> ssl.SSLContext:
    """A server's context without any of our settings."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if ciphers is not None:
        context.set_ciphers(ciphers)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if tickets is not None:
        context.num_tickets = tickets
    return context


def raw_client(version: ssl.TLSVersion | None = None, *, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """A client's context that trusts everybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def make_client(
    context: ClientContext,
    clock: Clock,
    configuration: ClientConfiguration | None = None,
    *,
    server: tuple[str, int] = ADDRESS,
    share_records: bool = False,
) -> TLSClient:
    return TLSClient(
        context, configuration, server=server, entropy=counting(), now=clock.now, share_records=share_records
    )


def meet(
    pki: Pki, policy: AuthenticationPolicy | ClientContext, chain: Sequence[Identity], version: ssl.TLSVersion
) -> Wire:
    """What comes of it when a client with a query at hand meets a server that sends this chain."""
    context = policy if isinstance(policy, ClientContext) else ClientContext(policy)
    clock = Clock()
    server = Peer(raw_server(pki.file(*chain), version), is_server=True)
    wire = Wire(make_client(context, clock), server, clock=clock)
    wire.ask("secret.example")
    return wire.flow()


def accepted(wire: Wire) -> Verdict:
    """The verdict, after a check that the server was asked."""
    assert the(PeerAuthenticated, wire.client_events).verdict == wire.verdict
    assert wire.verdict.accepted
    assert b"secret" in wire.heard
    return wire.verdict


def refused(wire: Wire) -> Verdict:
    """The verdict, after a check that the server heard nothing, and never will (AUT-1, AUT-2)."""
    verdict = wire.verdict
    assert not verdict.accepted
    assert not verdict.authenticated
    assert the(PeerRefused, wire.client_events).verdict == verdict
    lost, closed = wire.client_events[-2:]
    assert isinstance(lost, QueryLost)
    assert lost.safe_to_resend
    assert not lost.was_sent
    assert isinstance(closed, ConnectionClosed)
    assert closed.cause is Cause.PEER_REFUSED
    assert isinstance(closed.error, AuthenticationError)
    assert closed.error.verdict == verdict
    assert wire.client.is_finished
    wire.clock.advance(3600.0)
    wire.tick().flow()
    assert wire.heard == b""
    assert closed is wire.client_events[-1]
    return verdict
