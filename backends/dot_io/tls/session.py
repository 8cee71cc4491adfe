"""One connection's TLS: the same five verbs as the engine, with TLS records where the engine has messages.

Theory of operation.  ``receive_data`` takes records, lets OpenSSL decrypt them, and feeds the engine once with
all that came out; ``data_to_send`` takes the engine's messages and returns records.  At the end of a client's
handshake the evidence goes to the engine at once, and only its verdict opens the way for queries: the engine
holds them, so no order of calls can send one early.  A session is not safe to be used by two threads at a time.
"""

from __future__ import annotations

import contextlib
import math
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from dot_proto import (
    ClientConfiguration,
    ClientConnection,
    ConnectionClosed,
    Event,
    Evidence,
    Fault,
    LocalProtocolError,
    PresentedChain,
    RemoteProtocolError,
    ServerConfiguration,
    ServerConnection,
    State,
    ValidatedChain,
    Verdict,
)

from ..errors import AuthenticationError, Failure, HandshakeError
from .context import ALPN, ClientContext, ServerContext
from .failures import describe, handshake_error, validation_failure
from .hello import MAX_CLIENT_HELLO, NO_APPLICATION_PROTOCOL, offered_alpn

READ_SIZE: Final = 16_384
"Octets asked of OpenSSL at a time: one record (RFC 8446, section 5.1); asking for more only allocates more."

HANDSHAKE_TIMEOUT: Final = 5.0
"Seconds for the handshake, unless told otherwise."

LINGER_TIMEOUT: Final = 1.0
"Seconds that a server which has sent close_notify waits for its client to close first."

_ENCODING_DER: Final = 2
"What ``_ssl`` calls ENCODING_DER."


@dataclass(frozen=True, slots=True)
class HandshakeCompleted(Event):
    """The TLS handshake is through; the verdict follows in the same list."""

    version: str
    "As OpenSSL says it: ``TLSv1.3``."
    cipher: str
    "The cipher suite's name, as OpenSSL says it."
    alpn: str | None
    "The protocol agreed on, ``dot`` or none."
    is_resumed: bool
    "Whether an earlier session was resumed (RFC 8446, section 2.2)."
    group: str | None
    "Key exchange group; known only where the context observes handshakes."
    signature: str | None
    "Signature scheme; known only where the context observes handshakes."
    peer_certificate: bytes | None = field(repr=False)
    "The certificate whose key the peer proved, in DER; ``None`` where none was asked for."


class _Session:
    """What both roles share."""

    def __init__(self, engine: ClientConnection | ServerConnection, *, now: float, timeout: float, share: bool) -> None:
        if not timeout >= 0:
            raise LocalProtocolError(f"handshake_timeout is {timeout} seconds; it must be 0 or more")
        self._engine = engine
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._first_octets = b""
        self._handshake_deadline: float | None = now + timeout  # infinity while there is no limit
        self._share_records = share
        self._alert = b""
        self._has_said_goodbye = False
        self._has_close_notify = False
        self._peer_has_finished = False
        self._undelivered: list[Event] = []
        self._now = now
        self._tls: ssl.SSLObject

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to do but to close TCP; ask after :meth:`data_to_send` has been drained."""
        return self._engine.state is State.CLOSED and self._is_past_linger()

    def _is_past_linger(self) -> bool:
        return True

    def data_to_send(self) -> list[bytes]:
        """TLS records to send, in order; one DNS message a record unless records are shared."""
        chunks = self._engine.data_to_send()
        if self._handshake_deadline is None:
            try:
                if chunks:
                    if self._share_records:
                        chunks = [b"".join(chunks)]
                    for chunk in chunks:
                        self._tls.write(chunk)
                if self._engine.state is State.CLOSED and not self._has_said_goodbye:
                    self._say_goodbye()
            except ssl.SSLError as error:
                self._undelivered += self._engine.fail(_broken(error), now=self._now)
        octets = self._outgoing.read() + self._alert
        self._alert = b""
        return [octets] if octets else []

    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        """Octets from TCP, cut anywhere."""
        self._now = now
        events = self._delivered()
        if self._engine.state is State.CLOSED:
            return events + self._engine.handle_timeout(now=now)  # what a command has left to be reported
        if self._has_close_notify:
            return events  # what comes after it is ignored (RFC 8446, section 6.1)
        self._incoming.write(data)
        if self._handshake_deadline is not None:
            if len(self._first_octets) < MAX_CLIENT_HELLO:
                self._first_octets += data
            if not self._shake_hands(now, events):
                return events
        self._read(now, events)
        return events

    def receive_eof(self, *, now: float) -> list[Event]:
        """TCP has ended.  Without close_notify before it, that is no orderly end (RFC 8446, section 6.1)."""
        self._now = now
        events = self._delivered()
        self._peer_has_finished = True
        if self._engine.state is State.CLOSED:
            return events + self._engine.handle_timeout(now=now)
        if self._handshake_deadline is not None:
            error = HandshakeError("the peer closed the connection inside the handshake", Failure.END_OF_STREAM)
            events += self._engine.fail(error, now=now)
        else:
            events += self._engine.receive_eof(now=now, orderly=self._has_close_notify)
        return events

    def fail(self, explanation: str, *, now: float) -> list[Event]:
        """The transport has failed: a reset, an unreachable network."""
        self._peer_has_finished = True
        error = RemoteProtocolError(explanation, Fault.RESET)
        if self._handshake_deadline is not None:
            error = HandshakeError(f"TCP failed inside the handshake: {explanation}", Failure.END_OF_STREAM)
        return self._delivered() + self._engine.fail(error, now=now)

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is to be called; ``None``: never.  A time that has passed means: at once."""
        if self._undelivered:
            return self._now
        deadline = self._engine.next_timeout()
        if self._handshake_deadline is None or self._engine.state is State.CLOSED:
            return deadline
        earliest = self._handshake_deadline if deadline is None else min(deadline, self._handshake_deadline)
        return None if earliest == math.inf else earliest

    def handle_timeout(self, *, now: float) -> list[Event]:
        """Act on the deadlines that have come; does nothing when there are none."""
        self._now = now
        events = self._delivered()
        if self._handshake_deadline is not None and self._handshake_deadline <= now:
            error = HandshakeError("the TLS handshake took too long", Failure.TIMED_OUT)
            events += self._engine.fail(error, now=now)
            self._handshake_deadline = None
            self._has_said_goodbye = True
        else:
            events += self._engine.handle_timeout(now=now)
        return events

    def _delivered(self) -> list[Event]:
        events, self._undelivered = self._undelivered, []
        return events

    def _shake_hands(self, now: float, events: list[Event]) -> bool:
        """Go on with the handshake; says whether it is through."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            self._handshake_failed(error, now, events)
            return False
        self._handshake_deadline = None
        self._first_octets = b""
        return True

    def _handshake_failed(self, error: ssl.SSLError, now: float, events: list[Event]) -> None:
        self._handshake_deadline = None
        self._has_said_goodbye = True  # OpenSSL has left its alert, and no more can be said
        if self._engine.state is not State.CLOSED:
            events += self._engine.fail(handshake_error(error, self._first_octets), now=now)

    def _read(self, now: float, events: list[Event]) -> None:
        """Decrypt all there is, and feed the engine once."""
        read, pieces, ended, failure = self._tls.read, [], False, None
        try:
            while self._incoming.pending:
                piece = read(READ_SIZE)
                if not piece:
                    ended = True
                    break
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            failure = error
        if pieces:
            events += self._engine.receive_data(pieces[0] if len(pieces) == 1 else b"".join(pieces), now=now)
        if failure is not None:
            events += self._engine.fail(_broken(failure), now=now)
        elif ended:
            self._has_close_notify = True
            events += self._engine.receive_eof(now=now, orderly=True)

    def _say_goodbye(self) -> None:
        """Leave close_notify; the peer's own is not waited for (RFC 8446, section 6.1)."""
        self._has_said_goodbye = True
        # "Want read" is an error too, and so is data of the peer's that nobody will read any more.
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()

    def _completed(self, group: str | None = None, signature: str | None = None) -> HandshakeCompleted:
        cipher = self._tls.cipher()
        return HandshakeCompleted(
            version=self._tls.version() or "",
            cipher=cipher[0] if cipher else "",
            alpn=self._tls.selected_alpn_protocol(),
            is_resumed=bool(self._tls.session_reused),
            group=group,
            signature=signature,
            peer_certificate=self._tls.getpeercert(binary_form=True),
        )


class TLSClient(_Session):
    """A client's TLS session and the engine inside it: :attr:`connection` takes the queries.

    ``server`` is the address and port that is dialled, the key under which a session to resume is looked for.
    ``handshake_timeout`` is in seconds from ``now``.  ``share_records`` lets queries share TLS records, which
    saves time; some servers then answer only the first until more octets come (NSD, Knot DNS).
    """

    def __init__(
        self,
        context: ClientContext,
        configuration: ClientConfiguration | None = None,
        *,
        server: tuple[str, int],
        entropy: Callable[[int], bytes],
        now: float,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
        share_records: bool = False,
    ) -> None:
        self.connection: Final = ClientConnection(context.policy, configuration, entropy=entropy)
        super().__init__(self.connection, now=now, timeout=handshake_timeout, share=share_records)
        self._context = context
        self._server = server
        session: ssl.SSLSession | None = None
        self._earlier_verdict: Verdict | None = None
        if context.sessions is not None and (cached := context.sessions.take(context, server, now=now)):
            session, self._earlier_verdict = cached
        self._tls = context.wrap(self._incoming, self._outgoing, session)
        self._wants_ticket = context.sessions is not None
        self._shake_hands(now, self._undelivered)  # leaves the ClientHello

    def _shake_hands(self, now: float, events: list[Event]) -> bool:
        if not super()._shake_hands(now, events):
            return False
        seen = self._context.observer_of(self._tls)
        events.append(self._completed(*(() if seen is None else (seen.group, seen.signature))))
        self._judge(self._evidence(), now, events)
        return True

    def _judge(self, evidence: Evidence, now: float, events: list[Event]) -> None:
        for one in self.connection.verify_peer(evidence, now=now):
            if isinstance(one, ConnectionClosed) and (verdict := self.connection.verdict) is not None:
                one = ConnectionClosed(one.cause, AuthenticationError(verdict))
            events.append(one)

    def _evidence(self) -> Evidence:
        leaf = self._tls.getpeercert(binary_form=True)
        resumed = self._earlier_verdict if self._tls.session_reused else None
        validated = None
        # Only a whole handshake under CERT_REQUIRED validates; the context demanded it from the start, so what
        # OpenSSL calls the verified chain is one.  Where a Python does not show it, the leaf alone counts.
        policy = self._context.policy
        if policy.validates and policy.name is not None and leaf is not None and not self._tls.session_reused:
            validated = ValidatedChain(_chain(self._tls, "get_verified_chain") or (leaf,), policy.name)
        presented = PresentedChain(_chain(self._tls, "get_unverified_chain"))
        return Evidence(presented, leaf, validated, resumed=resumed, wall_time=time.time())

    def _handshake_failed(self, error: ssl.SSLError, now: float, events: list[Event]) -> None:
        if not isinstance(error, ssl.SSLCertVerificationError):
            super()._handshake_failed(error, now, events)
            return
        self._handshake_deadline = None
        self._has_said_goodbye = True
        presented = _chain(self._tls, "get_unverified_chain")
        failure = validation_failure(error, self._context.policy, presented, time.time())
        self._judge(Evidence(PresentedChain(presented), failure=failure, wall_time=time.time()), now, events)

    def _read(self, now: float, events: list[Event]) -> None:
        super()._read(now, events)
        # A TLS 1.3 ticket comes after the handshake, with the first octets that are read.
        if self._wants_ticket and self.connection.state in (State.OPEN, State.DRAINING):
            self._keep_session(now)

    def _keep_session(self, now: float) -> None:
        session, sessions, verdict = self._tls.session, self._context.sessions, self.connection.verdict
        if session is not None and session.has_ticket and sessions is not None and verdict is not None:
            self._wants_ticket = False
            sessions.store(self._context, self._server, session, verdict, now=now, wall_time=time.time())


class TLSServer(_Session):
    """A server's TLS session and the engine inside it: :attr:`connection` takes the responses."""

    def __init__(
        self,
        context: ServerContext,
        configuration: ServerConfiguration | None = None,
        *,
        now: float,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
        share_records: bool = False,
    ) -> None:
        self.connection: Final = ServerConnection(configuration)
        super().__init__(self.connection, now=now, timeout=handshake_timeout, share=share_records)
        self._tls = context.wrap(self._incoming, self._outgoing)
        self._linger_deadline: float | None = None
        self._has_answered_hello = False

    def _shake_hands(self, now: float, events: list[Event]) -> bool:
        is_through = super()._shake_hands(now, events)
        # OpenSSL answers once it has the whole ClientHello, however many records and reads that came in.
        if not self._has_answered_hello and self._outgoing.pending and self.connection.state is not State.CLOSED:
            self._has_answered_hello = True
            offered = offered_alpn(self._first_octets)
            if offered and ALPN.encode() not in offered:
                self._refuse_protocols(offered, now, events)
                return False
        if is_through:
            self.connection.begin(now=now)
            events.append(self._completed())
        return is_through

    def _refuse_protocols(self, offered: list[bytes], now: float, events: list[Event]) -> None:
        # Python's ssl would go on without a protocol; RFC 7301, section 3.2, asks for this alert.
        self._outgoing.read()
        self._alert = NO_APPLICATION_PROTOCOL
        self._handshake_deadline = None
        self._has_said_goodbye = True
        names = ", ".join(name.decode("ascii", "backslashreplace") for name in offered)
        error = HandshakeError(f"the client offers {names}, not {ALPN}", Failure.NO_APPLICATION_PROTOCOL)
        events += self.connection.fail(error, now=now)

    def _say_goodbye(self) -> None:
        super()._say_goodbye()
        if not self._peer_has_finished:
            # Closing TCP now would reset it if the client's octets are still on their way, and could take the
            # last answers with it; the client closes first, and keeps TIME-WAIT (RFC 7858, section 3.4).
            # Where a command has ended the connection, its time is what the engine still has to report.
            since = self.connection.next_timeout()
            self._linger_deadline = LINGER_TIMEOUT + (self._now if since is None else since)

    def _is_past_linger(self) -> bool:
        return self._linger_deadline is None or self._peer_has_finished

    def next_timeout(self) -> float | None:
        """As for the client; also the end of the wait for the client's close."""
        deadline = super().next_timeout()
        if self._linger_deadline is None or self._peer_has_finished:
            return deadline
        return self._linger_deadline if deadline is None else min(deadline, self._linger_deadline)

    def handle_timeout(self, *, now: float) -> list[Event]:
        """As for the client; also ends the wait for the client's close."""
        if self._linger_deadline is not None and self._linger_deadline <= now:
            self._peer_has_finished = True
        return super().handle_timeout(now=now)


def _chain(tls: ssl.SSLObject, getter: str) -> tuple[bytes, ...]:
    """A chain in DER, leaf first; empty where this Python does not show it, and after a resumption.

    Public from Python 3.13; before that the object behind has the same methods, which return objects.
    """
    source: Any = tls if hasattr(tls, getter) else getattr(tls, "_sslobj", None)
    method = getattr(source, getter, None)
    certificates = (method() if method is not None else None) or ()
    return tuple(one if isinstance(one, bytes) else one.public_bytes(_ENCODING_DER) for one in certificates)


def _broken(error: ssl.SSLError) -> RemoteProtocolError:
    return RemoteProtocolError(f"the TLS session broke: {describe(error)}", Fault.TLS)
