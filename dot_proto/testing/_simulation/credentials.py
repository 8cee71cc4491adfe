"""Policies, what servers show in a handshake, and whether the one is enough for the other.

The certificates are made octet by octet (RFC 5280, section 4.1) and signed by nobody: that a chain has been validated
is what the TLS library says, and here the simulation says it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ... import AuthenticationPolicy, Evidence, Pin, PresentedChain, Reason, ValidatedChain, ValidationFailure

NAME: Final = "dot.example"
"Whom the honest server's certificate is for."


def certificate(key: bytes) -> bytes:
    """The least that is a certificate in DER, for a key of at most 64 octets."""
    algorithm = _element(0x30, bytes.fromhex("06032b6570"))  # Ed25519 (RFC 8410, section 3)
    name = _element(0x30, b"")
    validity = _element(0x30, _element(0x17, b"260101000000Z") + _element(0x17, b"270101000000Z"))
    public_key = _element(0x30, algorithm + _element(0x03, b"\0" + key))
    fields = bytes.fromhex("a003020102 020101") + algorithm + name + validity + name + public_key
    return _element(0x30, _element(0x30, fields) + algorithm + _element(0x03, b"\0\0"))


def _element(tag: int, content: bytes) -> bytes:
    """One element of DER, of less than 256 octets (X.690, section 8.1)."""
    length = bytes([len(content)]) if len(content) < 0x80 else bytes([0x81, len(content)])
    return bytes([tag]) + length + content


@dataclass(frozen=True, slots=True)
class Meeting:
    """A policy meets a server."""

    policy: AuthenticationPolicy
    evidence: Evidence
    earns_trust: bool
    "What the verdict must be, said here without asking the engine (RFC 8310, sections 5 and 6.6)."


class Identities:
    """What servers may show: the honest one's certificate, an impostor's, none, or a chain that fails."""

    def __init__(self) -> None:
        leaf, other = certificate(bytes(32)), certificate(bytes([7]) * 32)
        by_name = AuthenticationPolicy.strict(NAME)
        by_pin = AuthenticationPolicy.strict(pins=[Pin.of_certificate(leaf)])
        anybody = AuthenticationPolicy.opportunistic()
        proved = Evidence(PresentedChain((leaf,)), leaf, ValidatedChain((leaf,), NAME))
        shown = Evidence(PresentedChain((leaf,)), leaf)
        # The honest certificate is sent along, which proves nothing (RFC 7469, section 2.6).
        forged = Evidence(PresentedChain((other, leaf)), other)
        failed = Evidence(failure=ValidationFailure(Reason.UNTRUSTED, "unable to get local issuer certificate"))
        self.honest: Final = [
            Meeting(by_name, proved, True),
            Meeting(by_pin, shown, True),
            Meeting(anybody, shown, True),
        ]
        "The server is who it should be."
        self.doubtful: Final = [
            Meeting(by_name, failed, False),
            Meeting(by_name, forged, False),
            Meeting(by_name, Evidence(), False),
            Meeting(by_pin, forged, False),
            Meeting(by_pin, Evidence(), False),
            Meeting(anybody, forged, True),
            Meeting(anybody, Evidence(), True),
        ]
        "It is not, and is asked nothing unless anybody would do."
