"""A client's TLS session: evidence for the verdict at the end of the handshake, and tickets to resume it later.

No verdict is made here.  The evidence says what OpenSSL validated, what the server merely sent, and what a resumed
session inherits; :func:`dot_proto.authentication.judge` compares it with the policy.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from typing import Any, ClassVar, Final

from dot_proto import (
    ClientConfiguration,
    ClientConnection,
    ConnectionClosed,
    Event,
    Evidence,
    PresentedChain,
    State,
    ValidatedChain,
    Verdict,
)

from ..errors import AuthenticationError
from .context import ClientContext
from .failures import handshake_error, validation_failure
from .session import HANDSHAKE_TIMEOUT, Session

_ENCODING_DER: Final = 2
"What ``_ssl`` calls ENCODING_DER."


class TLSClient(Session):
    """A client's TLS session and the engine inside it: :attr:`connection` takes the queries.

    ``server`` is the address and port that is dialled, the key under which a session to resume is looked for.
    ``handshake_timeout`` is in seconds from ``now``.  ``share_records`` lets queries share TLS records, which
    saves time; some servers then answer only the first until more octets come (NSD, Knot DNS).
    """

    _linger_timeout: ClassVar[float] = 0.0
    "A client closes TCP first, and keeps TIME-WAIT (RFC 7858, section 3.4)."

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
        self.offers_session: Final = session is not None
        "Whether an earlier session is offered to be resumed (RFC 8446, section 2.2)."
        self._tls = context.wrap(self._incoming, self._outgoing, session)
        self._may_get_ticket = context.sessions is not None
        try:
            self._tls.do_handshake()  # leaves the ClientHello
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._failure = handshake_error(error, b"")

    def _hello_seen(self, now: float) -> list[Event]:
        return []

    def _handshake_complete(self, now: float) -> list[Event]:
        seen = self._context.observer_of(self._tls)
        completed = self._completed(*(() if seen is None else (seen.group, seen.signature)))
        return [completed, *self._judge(self._evidence(), now)]

    def _handshake_failed(self, error: ssl.SSLError, now: float) -> list[Event]:
        if not isinstance(error, ssl.SSLCertVerificationError):
            return self._engine.fail(handshake_error(error, self._first_octets), now=now)
        presented = _chain(self._tls, "get_unverified_chain")
        failure = validation_failure(error, self._context.policy, presented, time.time())
        return self._judge(Evidence(PresentedChain(presented), failure=failure, wall_time=time.time()), now)

    def _keep_ticket(self, now: float) -> None:
        # A TLS 1.3 ticket comes after the handshake, with the first octets that are read.
        if self.connection.state not in (State.OPEN, State.DRAINING):
            return
        session, sessions, verdict = self._tls.session, self._context.sessions, self.connection.verdict
        if session is not None and session.has_ticket and sessions is not None and verdict is not None:
            self._may_get_ticket = False
            sessions.store(self._context, self._server, session, verdict, now=now, wall_time=time.time())

    def _judge(self, evidence: Evidence, now: float) -> list[Event]:
        events = self.connection.verify_peer(evidence, now=now)
        verdict = self.connection.verdict
        assert verdict is not None, "verify_peer has just been called"
        return [
            ConnectionClosed(cause=one.cause, error=AuthenticationError(verdict))
            if isinstance(one, ConnectionClosed)
            else one
            for one in events
        ]

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


def _chain(tls: ssl.SSLObject, getter: str) -> tuple[bytes, ...]:
    """A chain in DER, leaf first; empty where this Python does not show it, and after a resumption.

    Public from Python 3.13; before that the object behind has the same methods, which return objects.
    """
    source: Any = tls if hasattr(tls, getter) else getattr(tls, "_sslobj", None)
    method = getattr(source, getter, None)
    certificates = (method() if method is not None else None) or ()
    return tuple(one if isinstance(one, bytes) else one.public_bytes(_ENCODING_DER) for one in certificates)
