"""A client's TLS session: evidence for the verdict at the end of the handshake, and tickets to resume it later.

No verdict is made here.  The evidence says what OpenSSL validated, what the server merely sent, and what a resumed
session inherits; :func:`dot_proto.authentication.judge` compares it with the policy.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from typing import ClassVar, Final

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
from dot_proto.arguments import check_instance

from ..errors import AuthenticationError
from .cache import check_server, session_of
from .context import ClientContext
from .failures import handshake_error, local_failure, validation_failure
from .hello import RecordCounter, promises_ticket
from .session import HANDSHAKE_TIMEOUT, Session


class TLSClient(Session):
    """A client's TLS session and the engine inside it: :attr:`connection` takes the queries.

    ``server`` is the address and port that is dialled, the key under which a session to resume is looked for.
    ``handshake_timeout`` is in seconds from ``now``.  ``share_records`` lets queries share TLS records, which
    saves time; some servers then answer only the first until more octets come (NSD, Knot DNS).  ``tried`` is the
    refusal of the session before, which tried the name of an opportunistic policy (``context.policy.tried_first``).
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
        tried: Verdict | None = None,
    ) -> None:
        hint = "give it as ClientContext(policy, ssl_context=...)" if hasattr(context, "wrap_bio") else ""
        check_instance("context", context, ClientContext, hint)
        check_server(server)
        self.connection: Final = ClientConnection(context.policy, configuration, entropy=entropy)
        super().__init__(self.connection, now=now, timeout=handshake_timeout, share=share_records)
        self._context = context
        self._server = server
        if tried is not None:
            check_instance("tried", tried, Verdict)
        self._tried = tried
        self.was_tried: Final = tried is not None
        "Whether the name of an opportunistic policy was tried before, and in vain."
        self._session: ssl.SSLSession | None = None
        "The session to resume, where there is one."
        self._earlier_verdict: Verdict | None = None
        self._is_ticket_promised = False
        self._is_chain_hidden = False
        if context.sessions is not None and (cached := context.sessions.take(context, server, wall_time=time.time())):
            self._session, self._earlier_verdict = cached
        self.offers_session: Final = self._session is not None
        "Whether an earlier session is offered to be resumed (RFC 8446, section 2.2)."
        self._tls = context.wrap(self._incoming, self._outgoing, self._session)
        try:
            self._tls.do_handshake()  # leaves the ClientHello
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._failure = handshake_error(error, b"")
        except Exception as error:
            self._failure = local_failure(error)

    def _hello_seen(self, now: float) -> list[Event]:
        if self._context.sessions is not None:
            self._is_ticket_promised = promises_ticket(bytes(self._first_octets))
        return []

    def _handshake_complete(self, now: float) -> list[Event]:
        seen = self._context.observer_of(self._tls)
        completed = self._completed(*(() if seen is None else (seen.group, seen.signature)))
        events = [completed, *self._judge(self._evidence(), now)]
        # Where this Python does not show the validated chain, nobody knows when the first of its certificates expires.
        if self._context.sessions is not None and self._is_open and not self._is_chain_hidden:
            self._await_ticket()
        return events

    @property
    def _is_open(self) -> bool:
        return self.connection.state in (State.OPEN, State.DRAINING)

    def _await_ticket(self) -> None:
        """Keep what a later connection may resume, as soon as it is there.

        Each look at ``SSLObject.session`` copies the whole session, and some Pythons never free the copy (see
        ``cache.py``).  So nothing is looked at before the server has sent a ticket.  Under TLS 1.2 the ServerHello
        promises one, and it is there when the handshake is over.  Under TLS 1.3 it comes later, in a record of its own
        that holds no application data: so records are counted until there is one more than pieces of data.  Servers
        send tickets before their first answer; with the first answer the wait is over.
        """
        if self._tls.version() == "TLSv1.3":
            self._records = RecordCounter()
        elif self._is_ticket_promised:
            self._keep(session_of(self._tls))
        elif self._tls.session_reused:
            self._keep(self._session)  # the server has given no new ticket: the old one is good until its end

    def _records_read(self, with_data: int, without: int) -> None:
        if without > 0 and self._is_open:
            self._keep(session_of(self._tls))
        if with_data or without:
            self._records = None

    def _keep(self, session: ssl.SSLSession | None) -> None:
        sessions, verdict = self._context.sessions, self.connection.verdict
        if session is not None and session.has_ticket and sessions is not None and verdict is not None:
            sessions.store(self._context, self._server, session, verdict, wall_time=time.time())

    def _handshake_failed(self, error: ssl.SSLError, now: float) -> list[Event]:
        if not isinstance(error, ssl.SSLCertVerificationError):
            return self._engine.fail(handshake_error(error, bytes(self._first_octets)), now=now)
        presented = self._chain("get_unverified_chain")
        built = self._chain("get_verified_chain")  # what OpenSSL was looking at: shown to people, counted nowhere
        failure = validation_failure(error, self._context.policy, presented, built, self._tls.context, time.time())
        return self._judge(Evidence(PresentedChain(presented), failure=failure, wall_time=time.time()), now)

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
            chain = self._chain("get_verified_chain")
            self._is_chain_hidden = not chain
            validated = ValidatedChain(chain or (leaf,), policy.name)
        presented = PresentedChain(self._chain("get_unverified_chain"))
        return Evidence(presented, leaf, validated, resumed=resumed, tried=self._tried, wall_time=time.time())
