"""Connections to the servers of a command line: queries go out together, and answers come back in the line's order."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from time import monotonic
from typing import Final, NamedTuple, Protocol

from dot_proto import (
    AuthenticationPolicy,
    Cause,
    CertificateError,
    ClientConfiguration,
    ClientConnection,
    DoTError,
    LocalProtocolError,
    QueryTimedOut,
    ResponseReceived,
    Verdict,
    certificates_from,
)

from .._client import Plan, describe_discards
from ..blocking.client import Client, connect_by
from ..errors import AuthenticationError, ConnectionLostError, QueryTimeoutError, TLSLibraryError
from ..tls import ClientContext, HandshakeCompleted, TLSVersion
from ._errors import UsageError
from .certificates import octets_of
from .presentation import SessionFacts, Times
from .query_arguments import Session
from .servers import Server

KEYLOG: Final = "SSLKEYLOGFILE"
"The environment variable that names a file for key material, for a packet analyser; only the command obeys it."

# What leaves is what the arguments say: padding is in it already, and keepalive where it is asked for.
_CONFIGURATION: Final = ClientConfiguration(padding_block=None, keepalive=False)

_LOST: Final = "the connection ended before the answer came, and the server may have acted on the query"


class Watcher(Protocol):
    """Is told of a connection as it comes about, before any answer."""

    def begin(self, server: Server, context: ClientContext) -> None:
        """A server is about to be connected to."""

    def judge(self, verdict: Verdict) -> None:
        """It was judged."""

    def connect(self, facts: SessionFacts) -> None:
        """It was accepted."""

    def give_up(self, server: Server, error: DoTError) -> None:
        """It did not answer, and the next one is tried."""


class Answer(NamedTuple):
    """What came of one query."""

    server: Server
    octets: bytes
    times: Times
    facts: SessionFacts
    verdict: Verdict
    discarded: str
    "What else the server has sent on the connection, in words."
    is_first: bool
    "Whether it came first on its connection."


Outcome = Answer | DoTError
"What came of a query: an error where the server did not answer it."


class Asker:
    """Asks the first of some servers that answers, over one connection after another; a context manager."""

    def __init__(self, servers: tuple[Server, ...], session: Session) -> None:
        """Raises :class:`UsageError` for files that cannot be used."""
        self._servers = servers
        self._session = session
        anchors = _anchors(session.ca_file) if session.ca_file else None
        self._contexts: list[ClientContext] = []
        self._failure: TLSLibraryError | None = None
        try:
            self._contexts += [_context(server, session, anchors) for server in servers]
        except TLSLibraryError as error:  # told as what came of a query, in the form that was asked for
            self._failure = error
        self._client: Client | None = None
        self.server: Server = servers[0]
        "The one that was asked last."
        self._facts: SessionFacts | None = None

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._client is not None:
            self._client.__exit__(kind, *_)

    def ask(self, queries: Mapping[int, bytes], watchers: Mapping[int, Watcher]) -> Iterator[tuple[int, Outcome]]:
        """Ask all queries; yield what came of each by its number, as it comes.

        Raises :class:`~dot_proto.DoTError` where no server can be asked.  A connection that ends before all is
        answered is followed by another, whose first query must be answered.
        """
        if self._failure is not None:
            raise self._failure
        left = dict(queries)
        while left:
            if self._client is None:
                number = next(iter(left))
                yield number, self._first(left.pop(number), watchers[number])
            for number, outcome in self._others(left):
                del left[number]
                yield number, outcome
            if left or (self._client is not None and self._client.is_closed):
                self._drop()

    def _others(self, queries: Mapping[int, bytes]) -> Iterator[tuple[int, Outcome]]:
        """Over the connection that there is; what may be asked again on another one is passed over."""
        client, numbers = self._client, list(queries)
        assert client is not None, "the first query has come before"
        try:
            for position, outcome in client.query_many(list(queries.values()), timeout=self._session.timeout):
                number = numbers[position]
                if isinstance(outcome, ResponseReceived):
                    yield number, self._answer(outcome.message, Times(0.0, 0.0, outcome.elapsed), is_first=False)
                elif isinstance(outcome, QueryTimedOut):
                    yield number, QueryTimeoutError(f"no answer within {outcome.elapsed:.1f} s")
                elif not outcome.safe_to_resend:
                    yield number, ConnectionLostError(_LOST, cause=Cause.PEER_CLOSED, safe_to_resend=False)
        except ConnectionLostError:
            return

    def _first(self, query: bytes, watcher: Watcher) -> Outcome:
        """Connect to the first server that answers; one that is refused ends the search."""
        for server, context in zip(self._servers, self._contexts, strict=True):
            self.server = server
            try:
                return self._connect(server, context, query, watcher)
            except (AuthenticationError, LocalProtocolError):
                self._drop()
                raise
            except DoTError as error:
                if server is not self._servers[-1]:
                    self._drop()
                    watcher.give_up(server, error)
                elif isinstance(error, QueryTimeoutError):
                    return error
                else:
                    self._drop()
                    raise
        raise AssertionError("there is a server")

    def _connect(self, server: Server, context: ClientContext, query: bytes, watcher: Watcher) -> Answer:
        watcher.begin(server, context)
        session = self._session
        plan = Plan.of(
            server.host,
            None,
            port=server.port or 0,
            timeout=session.timeout,
            configuration=_CONFIGURATION,
            context=context,
            share_records=False,
            first_query=query,
        )
        self._client = client = connect_by(replace(plan, family=_family(session), source=session.source))
        assert client.handshake is not None, "connect() returns only after the handshake"
        self._facts = _facts(client.handshake)
        watcher.judge(client.verdict)
        watcher.connect(self._facts)
        connected_at = monotonic()
        octets = client.first_response()
        times = Times(client.connect_time, client.handshake_time, monotonic() - connected_at)
        return self._answer(octets, times, is_first=True)

    def _answer(self, octets: bytes, times: Times, *, is_first: bool) -> Answer:
        client, facts = self._client, self._facts
        assert client is not None, "an answer comes over a connection"
        assert facts is not None, "and after its handshake"
        discarded = describe_discards(client.discarded)
        return Answer(self.server, octets, times, facts, client.verdict, discarded, is_first)

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close(timeout=0.0)


def check_query_octets(octets: bytes) -> None:
    """Refuse what the engine would refuse on a connection; raises :class:`~dot_proto.LocalProtocolError`."""
    engine = ClientConnection(AuthenticationPolicy.opportunistic(), _CONFIGURATION, entropy=bytes)
    engine.send_query(octets, now=0.0)


def _family(session: Session) -> int:
    if session.source is not None:
        return socket.AF_INET if ipaddress.ip_address(session.source[0]).version == 4 else socket.AF_INET6
    if session.ipv4 or session.ipv6:
        return socket.AF_INET if session.ipv4 else socket.AF_INET6
    return socket.AF_UNSPEC


def _context(server: Server, session: Session, anchors: tuple[bytes, ...] | None) -> ClientContext:
    keylog_file = os.environ.get(KEYLOG) or None
    only = TLSVersion.TLSv1_2 if session.tls12_only else None
    try:
        return ClientContext(
            session.policy(server, anchors),
            minimum_version=only,
            maximum_version=only,
            sessions=False,
            keylog_file=keylog_file,
            observe_handshake=True,
            certificate_file=session.certificate_file,
            key_file=session.key_file,
        )
    except CertificateError as error:
        text = str(error)
        is_own = text.startswith(("certificate_file", "key_file"))
        raise UsageError(_in_words_of_the_line(text) if is_own else f"+tls-ca={session.ca_file}: {error}") from error
    except LocalProtocolError as error:
        raise UsageError(_in_words_of_the_line(str(error))) from error
    except OSError as error:
        words = error.strerror or str(error)
        argument, colon, what = words.partition(": ")
        if colon and argument in _OPTIONS:
            raise UsageError(f"{_OPTIONS[argument]}={error.filename}: {what}") from error
        raise UsageError(f"{KEYLOG}={keylog_file}: {words}") from error


_OPTIONS: Final = {
    "certificate_file": "+tls-certfile",
    "key_file": "+tls-keyfile",
    "give password=, or the key decrypted": "give it decrypted (openssl pkey -in FILE -out NEW)",
}
"Words of :class:`~dot_io.tls.ClientContext`, and those of the command."


def _in_words_of_the_line(text: str) -> str:
    for word, option in _OPTIONS.items():
        text = text.replace(word, option)
    return text


def _anchors(file: str) -> tuple[bytes, ...]:
    try:
        return tuple(certificates_from(octets_of(file)))
    except UsageError as error:
        raise UsageError(f"+tls-ca={error}") from error
    except CertificateError as error:
        raise UsageError(f"+tls-ca={file}: {error}") from error


def _facts(handshake: HandshakeCompleted) -> SessionFacts:
    return SessionFacts(
        version=handshake.version,
        cipher=handshake.cipher,
        group=handshake.group,
        signature=handshake.signature,
        alpn=handshake.alpn,
        resumed=handshake.is_resumed,
    )
