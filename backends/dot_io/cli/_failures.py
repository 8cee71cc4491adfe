"""From an exception to what an operator is told: an exit code, and a line or two."""

from __future__ import annotations

from typing import Final

from dot_proto import DoTError, Fault, LocalProtocolError, Reason, RemoteProtocolError, Verdict

from ..errors import AuthenticationError, ConnectError, ConnectionLostError, Failure, HandshakeError
from .certificates import alternative_names
from .exit_codes import ExitCode

MAX_NAMES: Final = 8
"Names of a certificate that are shown; some have hundreds."

_NO_REPLY: Final = frozenset({Failure.TIMED_OUT, Failure.END_OF_STREAM})
"Handshakes that failed because nobody answered any more: as any other silence."

_INNOCENT: Final = frozenset({Fault.NO_CLOSE_NOTIFY, Fault.RESET})
"Ends of a connection before the answer that break no rule of the protocol's messages: many servers end so."


def explain(error: DoTError, server: str, port: int) -> tuple[ExitCode, list[str]]:
    """The exit code, and lines that say what happened and what did not."""
    match error:
        case AuthenticationError():
            lines = [f"{server}@{port}: {error}", *_names(error.verdict), "no query was sent"]
            return ExitCode.of_refusal(error.verdict.reason), lines
        case ConnectError():
            return ExitCode.NO_REPLY, [str(error)]
        case LocalProtocolError():
            return ExitCode.USAGE, [str(error)]
        case HandshakeError():
            code = ExitCode.NO_REPLY if error.failure in _NO_REPLY else ExitCode.HANDSHAKE
        case RemoteProtocolError():  # raised as it is only inside the handshake
            code = ExitCode.NO_REPLY if error.fault in _INNOCENT else ExitCode.HANDSHAKE
        case ConnectionLostError(error=RemoteProtocolError(fault=fault)) if fault not in _INNOCENT:
            code = ExitCode.PROTOCOL
        case _:
            code = ExitCode.NO_REPLY
    return code, [f"{server}@{port}: {error}"]


def _names(verdict: Verdict) -> list[str]:
    """Whom the certificate is for, where it is for somebody else."""
    if verdict.reason is not Reason.NAME or not verdict.presented:
        return []
    names = alternative_names(verdict.presented[0].der)
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return [f"the certificate is for {', '.join(names[:MAX_NAMES]) or 'no name at all'}{more}"]
