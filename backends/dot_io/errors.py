"""What the backends raise, and what a failed handshake carries."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from dot_proto import Cause, DoTError, Fault, RemoteProtocolError, Verdict
from dot_proto.arguments import check_flag, check_instance, check_whole

if TYPE_CHECKING:  # a program without a resolver imports nothing of it
    from dot_proto.resolver.events import UpstreamReport


class Failure(enum.Enum):
    """How a TLS handshake failed; stable codes."""

    NOT_TLS = "not-tls"
    "The peer answered, but not with TLS."
    ALERT = "alert"
    "The peer ended the handshake with an alert (RFC 8446, section 6.2)."
    NO_COMMON_VERSION = "no-common-version"
    "No TLS version suits both sides; below 1.2 none will do (RFC 8310, section 9)."
    NO_APPLICATION_PROTOCOL = "no-application-protocol"
    "The client offers protocols by ALPN, and DNS over TLS is not among them (RFC 7301, section 3.2)."
    END_OF_STREAM = "end-of-stream"
    "The peer closed the connection inside the handshake."
    TIMED_OUT = "timed-out"
    "The handshake took too long."
    REFUSED = "refused"
    "The peer's certificate was refused: see the verdict."
    LOCAL = "local"
    "This side has raised inside the handshake, as a callback of the context given may: see the error's ``__cause__``."
    PROXY = "proxy"
    "A load balancer, which is to send a header of the PROXY protocol before TLS, has sent something else."
    OTHER = "other"
    "Whatever else the TLS library objects to."


class TLSLibraryError(DoTError):
    """OpenSSL can do nothing here, whatever it is asked for; the message names its configuration file (OPENSSL_CONF).

    So it is where no provider offers any cipher, as in a FIPS configuration without the provider's module.
    """


class HandshakeError(RemoteProtocolError):
    """No TLS session came about."""

    def __init__(self, message: str, failure: Failure, *, alert: str | None = None) -> None:
        check_instance("failure", failure, Failure)
        super().__init__(message, Fault.TLS)
        self.failure = failure
        self.alert = alert
        "The alert's name as in RFC 8446, section 6 (``unknown_ca``), where there was one."
        self.session_was_offered = False
        "Whether an earlier session was offered to be resumed (RFC 8446, section 2.2)."


class AuthenticationError(HandshakeError):
    """The server is not the one that the policy asks for; it was sent no query octet."""

    def __init__(self, verdict: Verdict) -> None:
        check_instance("verdict", verdict, Verdict)
        super().__init__(f"the server is refused: {verdict.explanation}", Failure.REFUSED)
        self.fault = Fault.PEER_REFUSED
        self.verdict = verdict
        "Why; ``verdict.reason`` is a stable code."


class ConnectError(DoTError, ConnectionError):
    """No TCP connection: refused, unreachable, no such host."""


class ConnectTimeoutError(ConnectError, TimeoutError):
    """No TCP connection within the time that was given."""


class QueryTimeoutError(DoTError, TimeoutError):
    """No answer within the time that was given; the connection goes on."""


class ConnectionLostError(DoTError, ConnectionError):
    """The connection ended, and with it this query (RFC 7766, section 6.2.4)."""

    def __init__(
        self, message: str, *, cause: Cause, error: RemoteProtocolError | None = None, safe_to_resend: bool = True
    ) -> None:
        check_instance("cause", cause, Cause)
        if error is not None:
            check_instance("error", error, RemoteProtocolError)
        check_flag("safe_to_resend", safe_to_resend)
        super().__init__(message)
        self.cause = cause
        "What ended the connection."
        self.error = error
        "The peer's fault, where it was one."
        self.safe_to_resend = safe_to_resend
        "Whether the query may be sent again without doing anything twice."


class NoUpstreamError(DoTError, ConnectionError):
    """No upstream can be asked within the query's time: each is down, or is not the one that it should be."""

    def __init__(self, message: str, upstreams: tuple[UpstreamReport, ...]) -> None:
        check_instance("upstreams", upstreams, tuple)
        super().__init__(message)
        self.upstreams = upstreams
        "Each upstream, what went wrong with it last, and when it is tried again."


class NoAddressError(DoTError):
    """The server has answered, and there is no address in what it says."""

    def __init__(self, message: str, *, rcode: int) -> None:
        check_whole("rcode", rcode)
        super().__init__(message)
        self.rcode = rcode
        "The RCODE, of 12 bits: 3 where the name does not exist, 0 where it has no address of the types asked for."
