"""How the command ends: one code for each thing that an operator would do something different about."""

from __future__ import annotations

import enum

from dot_proto.authentication import Reason


class ExitCode(enum.IntEnum):
    """What the process returns to the shell; stable."""

    ANSWER = 0
    "An answer came, whatever its RCODE: NXDOMAIN is an answer."
    USAGE = 1
    "The command line asks for something that cannot be done, or an optional package is missing."
    NO_REPLY = 9
    "Refused, unreachable, timed out or closed before the answer."
    INTERNAL = 10
    "A defect of this program."
    HANDSHAKE = 20
    "TLS could not be set up: the peer speaks no TLS, no common version, an alert, no certificate."
    UNTRUSTED = 21
    "The chain does not validate: unknown issuer, dates, usage, a broken link."
    NAME = 22
    "The certificate is for another name (RFC 8310, section 8.1)."
    PIN = 23
    "No pin matches (RFC 7858, section 4.2)."
    PROTOCOL = 24
    "The server broke the protocol after the handshake, or its answer cannot be read."

    @classmethod
    def of_refusal(cls, reason: Reason | None) -> ExitCode:
        """The code for a refused peer; every reason without one of its own means an untrusted chain."""
        return _OF_REASON.get(reason, cls.UNTRUSTED)


_OF_REASON: dict[Reason | None, ExitCode] = {
    Reason.NO_CERTIFICATE: ExitCode.HANDSHAKE,
    Reason.NAME: ExitCode.NAME,
    Reason.PIN: ExitCode.PIN,
}
