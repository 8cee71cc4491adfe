"""From an exception to what an operator is told: an exit code, and a line or two."""

from __future__ import annotations

from typing import Final

from dot_proto import DoTError, Fault, LocalProtocolError, Reason, RemoteProtocolError, Verdict

from ..errors import AuthenticationError, ConnectError, ConnectionLostError, Failure, HandshakeError, TLSLibraryError
from .certificates import alternative_names
from .exit_codes import ExitCode

MAX_NAMES: Final = 8
"Names of a certificate that are shown; some have hundreds."

_NO_REPLY: Final = frozenset({Failure.TIMED_OUT, Failure.END_OF_STREAM})
"Handshakes that failed because nobody answered any more: as any other silence."

_INNOCENT: Final = frozenset({Fault.NO_CLOSE_NOTIFY, Fault.RESET})
"Ends of a connection before the answer that break no rule of the protocol's messages: many servers end so."

_REFUSALS: Final = frozenset(
    {
        "certificate_required",
        "handshake_failure",
        "bad_certificate",
        "no_certificate",
        "unsupported_certificate",
        "certificate_unknown",
        "access_denied",
    }
)
"Alerts by which servers refuse a client without a certificate (RFC 8446, section 6.2); under TLS 1.2 none says so."

_OF_REASON: Final[dict[Reason | None, ExitCode]] = {
    Reason.NO_CERTIFICATE: ExitCode.HANDSHAKE,
    Reason.NAME: ExitCode.NAME,
    Reason.PIN: ExitCode.PIN,
}


def explain(error: DoTError, server: str, port: int) -> tuple[ExitCode, list[str]]:
    """The exit code, and lines that say what happened and what did not."""
    match error:
        case AuthenticationError():
            lines = [f"{server}@{port}: {error}", *_names(error.verdict), "no query was sent"]
            return code_of_refusal(error.verdict.reason), lines
        case ConnectError():
            return ExitCode.NO_REPLY, [str(error)]
        case TLSLibraryError():
            return ExitCode.HANDSHAKE, [str(error)]
        case LocalProtocolError():
            return ExitCode.USAGE, [str(error)]
        case HandshakeError(alert=str(ended_by)):
            return ExitCode.HANDSHAKE, [f"{server}@{port}: {error}", *_advice(ended_by)]
        case HandshakeError():
            code = ExitCode.NO_REPLY if error.failure in _NO_REPLY else ExitCode.HANDSHAKE
        case RemoteProtocolError():  # raised as it is only inside the handshake
            code = ExitCode.NO_REPLY if error.fault in _INNOCENT else ExitCode.HANDSHAKE
        case ConnectionLostError(error=RemoteProtocolError(fault=Fault.TLS) as cause) if alert := _late_alert(cause):
            return ExitCode.HANDSHAKE, [f"{server}@{port}: {error}", *_advice(alert)]
        case ConnectionLostError(error=RemoteProtocolError(fault=fault)) if fault not in _INNOCENT:
            code = ExitCode.PROTOCOL
        case _:
            code = ExitCode.NO_REPLY
    return code, [f"{server}@{port}: {error}"]


def code_of_refusal(reason: Reason | None) -> ExitCode:
    """The code for a refused peer; every reason without one of its own means an untrusted chain."""
    return _OF_REASON.get(reason, ExitCode.UNTRUSTED)


def _late_alert(error: RemoteProtocolError) -> str | None:
    """The alert by which a server refuses a client that holds the handshake to be over.

    In TLS 1.3 the client sends its certificate last, and may go on to send before the server has judged it
    (RFC 8446, section 4.4.2.4): the refusal comes later than in TLS 1.2, and means the same.
    """
    alert = str(error).partition(" alert ")[2].replace(" ", "_")
    return alert if alert in _REFUSALS else None


def _advice(alert: str) -> list[str]:
    """What to do about an alert, where it is known."""
    if alert == "unrecognized_name":
        return ["the server asks for a name (SNI) that it knows: give it with +tls-host=NAME"]
    if alert == "certificate_required":
        return ["the server wants a certificate of its clients, and this command has none: ask its operator"]
    if alert in _REFUSALS:
        return ["so does a server that wants a certificate of its clients: this command has none; ask its operator"]
    return []


def _names(verdict: Verdict) -> list[str]:
    """Whom the certificate is for, where it is for somebody else."""
    own = dict(verdict.numbered).get(1)
    if verdict.reason is not Reason.NAME or own is None:
        return []
    names = alternative_names(own.der)
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return [f"the certificate is for {', '.join(names[:MAX_NAMES]) or 'no name at all'}{more}"]
