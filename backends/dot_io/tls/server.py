"""A server's TLS session: ALPN as its RFC asks for, and a wait for the client to close TCP first."""

from __future__ import annotations

import contextlib
import ssl
import time
from typing import ClassVar, Final

from dot_proto import CertificateError, CertificateFacts, Event, ServerConfiguration, ServerConnection
from dot_proto.arguments import check_instance, shown

from ..errors import Failure, HandshakeError
from .audit import ALPN
from .callbacks import raised_for
from .context import ServerContext
from .failures import handshake_error, local_failure
from .hello import NO_APPLICATION_PROTOCOL, offered_alpn
from .session import HANDSHAKE_TIMEOUT, Session

LINGER_TIMEOUT: Final = 1.0
"Seconds that a server which has sent close_notify waits for its client to close first."


class TLSServer(Session):
    """A server's TLS session and the engine inside it: :attr:`connection` takes the responses."""

    _linger_timeout: ClassVar[float] = LINGER_TIMEOUT
    """Closing TCP at once would reset it if the client's octets are still on their way, and could take the last
    answers with it.  So the client closes first, and keeps TIME-WAIT (RFC 7858, section 3.4)."""

    def __init__(
        self,
        context: ServerContext,
        configuration: ServerConfiguration | None = None,
        *,
        now: float,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
        share_records: bool = False,
    ) -> None:
        hint = "give it as ServerContext(ssl_context=...)" if hasattr(context, "wrap_bio") else ""
        check_instance("context", context, ServerContext, hint)
        self.connection: Final = ServerConnection(configuration)
        super().__init__(self.connection, now=now, timeout=handshake_timeout, share=share_records)
        self._context: Final = context
        self._tls = context.wrap(self._incoming, self._outgoing)
        self._has_seen_hello = False

    def _hello_seen(self, now: float) -> list[Event]:
        # OpenSSL answers once it has the whole ClientHello, however many records and reads that came in.
        if self._has_seen_hello or not self._outgoing.pending:
            return []
        self._has_seen_hello = True
        offered = offered_alpn(bytes(self._first_octets))
        if not offered or ALPN.encode() in offered:
            return []
        # Python's ssl would go on without a protocol; RFC 7301, section 3.2, asks for this alert.
        self._outgoing.read()
        self._outgoing.write(NO_APPLICATION_PROTOCOL)
        # Names may be any octets, and as many as fit; what is said of them is short, and stays on one line.
        names = shown(b", ".join(offered).decode("latin-1"))
        error = HandshakeError(f"the client offers {names}, not {ALPN}", Failure.NO_APPLICATION_PROTOCOL)
        return self.connection.fail(error, now=now)

    def _handshake_complete(self, now: float) -> list[Event]:
        completed = self._completed()
        certificate = completed.peer_certificate
        if certificate is None and self._tls.context.verify_mode is ssl.CERT_REQUIRED:
            # As under a pre-shared key (a callback of the context's, Python 3.13): nobody is asked for one then.
            text = "the client has shown no certificate, and the context asks for one"
            return self.connection.fail(HandshakeError(text, Failure.REFUSED), now=now)
        if certificate is not None and not self._vouches_for(certificate, completed.is_resumed):
            text = "the client resumed a session after its certificate, or that of an issuer, had expired"
            return self.connection.fail(HandshakeError(text, Failure.REFUSED), now=now)
        self.connection.begin(now=now)
        return [completed]

    def _vouches_for(self, certificate: bytes, is_resumed: bool) -> bool:
        """Whether the client's chain is valid; OpenSSL has looked at it in a full handshake only.

        A resumed session is to give no more than a full handshake would, which fails once any certificate of the chain
        has expired.  ``ssl`` offers no way to say how long a ticket lasts, nor to refuse one inside the handshake, so
        the session is ended right behind it, before any query is read.  Its client then has to make a full handshake.
        """
        if is_resumed:
            return self._context.client_chains.is_valid(certificate, wall_time=time.time())
        # A chain that this Python does not show, or that we cannot read, is not remembered, and so never resumed.
        with contextlib.suppress(CertificateError):
            self._context.client_chains.remember(list(map(CertificateFacts.of, self._chain("get_verified_chain"))))
        return True

    def _handshake_failed(self, error: ssl.SSLError, now: float) -> list[Event]:
        if isinstance(error, ssl.SSLCertVerificationError):
            text = f"the client's certificate is refused: {error.verify_message} (OpenSSL code {error.verify_code})"
            return self.connection.fail(HandshakeError(text, Failure.REFUSED), now=now)
        if (raised := raised_for(self._tls)) is not None:
            return self.connection.fail(local_failure(raised), now=now)
        return self.connection.fail(handshake_error(error, bytes(self._first_octets)), now=now)

    def _records_read(self, with_data: int, without: int) -> None:
        """A server has no ticket to wait for, and so counts no records."""
