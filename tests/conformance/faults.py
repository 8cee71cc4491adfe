"""The fault matrix: what servers do wrong, and what becomes of those who ask them.

This table is what the tests hold all backends to, and docs/faults.md is made from it:
``cd tests && python -m conformance.faults``.
"""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from conformance import misbehaviour as peer
from dot_io.errors import (
    AuthenticationError,
    ConnectError,
    ConnectionLostError,
    Failure,
    HandshakeError,
    QueryTimeoutError,
)
from dot_proto import Cause, DoTError, Reason
from dot_proto import Fault as Code
from support.peers import Caller, Script, scripted

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"

UPDATE = 5
"The opcode (RFC 2136, section 1.3)."


@dataclass(frozen=True)
class Fate:
    """What becomes of one query, or of :func:`connect` itself; without an error: answered."""

    error: type[DoTError] | None = None
    code: Cause | Failure | Reason | None = None
    "``cause`` of a lost connection, ``failure`` of a handshake, ``verdict.reason`` of a refusal."
    fault: Code | None = None
    "What the peer did wrong, where the protocol has a name for it."
    is_safe: bool | None = None
    "``safe_to_resend``."
    says: str = ""
    "The text for people; times, pins and ports are written as letters."

    @property
    def word(self) -> str:
        """One word or two for it."""
        if self.error is ConnectionLostError:
            return "lost"
        return {None: "answered", QueryTimeoutError: "timed out"}.get(self.error, "no connection")


@dataclass(frozen=True)
class Tls:
    """The TLS of a misbehaving server."""

    chain: str = "leaf intermediate"
    "Who is in the certificate chain, by the names of :class:`support.pki.Pki`."
    version: ssl.TLSVersion | None = None
    "The only one it has."
    stalls: bool = False
    "Whether it sends nothing behind its ServerHello."

    def context(self, file: Path) -> ssl.SSLContext:
        """Without any of our settings."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        if self.version is not None:
            context.minimum_version = context.maximum_version = self.version
        return context


@dataclass(frozen=True)
class Fault:
    """One server's conduct, and what must come of it on every backend."""

    id: str
    does: str
    "In words."
    conduct: Script | None
    "``None``: nobody listens."
    *fates: tuple[Fate, ...]


