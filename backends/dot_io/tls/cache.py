"""TLS sessions to resume, bounded, each used once.

OpenSSL checks nothing again when a session is resumed: neither the name nor the chain nor the pins (measured).
So a session is kept only together with the verdict under which it was made, only after an acceptance, and for the
context under which it was made, and so for one policy (RFC 8446, section 4.6.1).
"""

from __future__ import annotations

import math
import ssl
import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from dot_proto import CertificateFacts, LocalProtocolError, Verdict
from dot_proto.arguments import check_instance, check_time, check_whole, shown, wrong
from dot_proto.authentication import validity_of

from .._fork import forgets_after_fork
from .._stays import StaysInProcess

MAX_LIFETIME: Final = 7 * 86_400.0
"Seconds: no ticket is kept longer (RFC 8446, section 4.6.1)."


@dataclass(frozen=True, slots=True)
class _Entry:
    session: ssl.SSLSession
    verdict: Verdict
    begin: float
    "POSIX seconds."
    end: float
    "POSIX seconds; no part of the time in which the session may be offered."


MAX_CLIENT_CHAINS: Final = 20_480
"As many as OpenSSL keeps sessions of a server (SSL_SESSION_CACHE_MAX_SIZE_DEFAULT): 4 MB when full."

MAX_LEAKING_READS: Final = 256
"""Sessions read in a process on a Python that loses each of them: 1.6 MB at 6.3 KiB each (measured with a chain of two
P-256 certificates on CPython 3.11.7, 3.12.1 and 3.13.0)."""


def loses_sessions(implementation: str, version: tuple[int, ...]) -> bool:
    """Whether reading ``SSLObject.session`` loses memory: it makes a copy that is never freed (python/cpython#116810).

    Mended in CPython 3.12.8 and 3.13.1; 3.11 takes security fixes only, and has it for good.
    """
    return implementation == "cpython" and (version < (3, 12, 8) or (3, 13) <= version < (3, 13, 1))


class SessionReads:
    """How often sessions were read in this process, where that is limited."""

    def __init__(self, limit: float) -> None:
        self._left = limit
        self._lock = threading.Lock()
        forgets_after_fork(self)

    def forget_parents(self) -> None:
        """In a forked child: what the parent has lost is lost here too; the lock may have been another thread's."""
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Whether one more may be read; the log tells of the last one."""
        with self._lock:
            self._left -= 1
            left = self._left
        if left == -1:  # without the lock: a handler of the log may ask by a connection of its own
            import logging  # which a program that asks one query has no need of

            logging.getLogger("dot_io").warning(
                "this process has kept %d TLS sessions to resume, and keeps no more: this Python (%s) loses memory "
                "for each. Connections go on with full handshakes. Python 3.12.8 and 3.13.1 have this mended.",
                MAX_LEAKING_READS,
                sys.version.partition(" ")[0],
            )
        return left >= 0


_reads = SessionReads(
    MAX_LEAKING_READS if loses_sessions(sys.implementation.name, tuple(sys.version_info[:3])) else math.inf
)


def session_of(tls: ssl.SSLObject) -> ssl.SSLSession | None:
    """The session to resume later; ``None`` too where reading it would lose more memory than it is worth.

    A session holds the peer's certificate, and OpenSSL cannot encode one with a certificate of 64 KiB and more.
    """
    try:
        return tls.session if _reads.take() else None
    except ValueError:
        return None


class SessionCache(StaysInProcess):
    """Sessions by context and server; ``server`` is the address and port that was dialled.

    Contexts may share a cache, never a session; threads may share it too.  Holds sessions of ``max_servers``
    servers, at most ``per_server`` each; the oldest give way.
    """

    def __init__(self, *, max_servers: int = 64, per_server: int = 2) -> None:
        for name, value in (("max_servers", max_servers), ("per_server", per_server)):
            check_whole(name, value)
            if value < 1:
                raise LocalProtocolError(
                    f"{name} is {shown(value)}; it must be at least 1: ClientContext(policy, sessions=False) keeps none"
                )
        self._max_servers = max_servers
        self._per_server = per_server
        self._entries: OrderedDict[tuple[object, tuple[str, int]], list[_Entry]] = OrderedDict()
        self._lock = threading.Lock()  # connections of one context are often in several threads
        forgets_after_fork(self)

    def __len__(self) -> int:
        with self._lock:
            return sum(map(len, self._entries.values()))

    def store(
        self, context: object, server: tuple[str, int], session: ssl.SSLSession, verdict: Verdict, *, wall_time: float
    ) -> None:
        """Keep a session as long as its ticket and each certificate of the validated chain last, 7 days at most.

        A full handshake would be refused once an intermediate or the anchor has expired, although the server's own
        certificate has not; a resumed session must give no more than that.  ``wall_time`` is in POSIX seconds:
        certificates and tickets end by the calendar, and a monotonic clock may stand still while a machine sleeps.
        """
        _check_key(context, server)
        if not hasattr(session, "ticket_lifetime_hint"):  # what stands for one will do
            raise wrong("session", "an SSLSession", session)
        check_instance("verdict", verdict, Verdict)
        check_time("wall_time", wall_time)
        # A ticket's lifetime is counted from its own time: under TLS 1.2 a resumed session has still its first one.
        lifetime = min(session.ticket_lifetime_hint, MAX_LIFETIME)
        begin, end = validity_of(verdict.validated)
        begin, end = max(begin, session.time), min(end, session.time + lifetime)
        if not begin <= wall_time < end or not verdict.accepted:
            return
        key = context, server
        with self._lock:
            entries = self._entries.setdefault(key, [])
            self._entries.move_to_end(key)
            entries.append(_Entry(session, verdict, begin, end))
            del entries[: -self._per_server]
            if len(self._entries) > self._max_servers:
                self._entries.popitem(last=False)

    def take(
        self, context: object, server: tuple[str, int], *, wall_time: float
    ) -> tuple[ssl.SSLSession, Verdict] | None:
        """The newest session for this server, which is forgotten by this: a ticket is used once (RFC 8446, C.4)."""
        _check_key(context, server)
        check_time("wall_time", wall_time)
        with self._lock:
            entries = self._entries.get((context, server), [])
            while entries:
                entry = entries.pop()
                if entry.begin <= wall_time < entry.end:
                    return entry.session, entry.verdict
            self._entries.pop((context, server), None)
        return None

    def forget_server(self, context: object, server: tuple[str, int]) -> None:
        """Drop the sessions of one server, which does not want them resumed."""
        _check_key(context, server)
        with self._lock:
            self._entries.pop((context, server), None)

    def forget_parents(self) -> None:
        """In a forked child: no ticket is used by two processes.  The lock may have been held by another thread."""
        self._lock = threading.Lock()
        self._entries.clear()

    def forget(self) -> None:
        """Drop everything, as after a change of network: a ticket would link the two (RFC 8446, C.4)."""
        with self._lock:
            self._entries.clear()


def check_server(server: object) -> None:
    """The address and port that is dialled: what sessions are kept by, so the same server must have the same one."""
    if not (isinstance(server, tuple) and list(map(type, server)) == [str, int]):
        raise wrong("server", 'an address and a port, such as ("192.0.2.1", 853)', server)


def _check_key(context: object, server: object) -> None:
    if type(context).__hash__ is None or isinstance(context, type):
        raise wrong("context", "what the session was made under", context)
    check_server(server)


class ClientChains:
    """Until when the chains of a server's clients are valid, so that no resumed session outlives its chain.

    A session that is resumed holds the client's own certificate and nothing of its issuers.  So what a full handshake
    has validated is remembered here, by that certificate.  A chain that is not known, since too many came after it,
    is taken for one that has ended: its client has to make a full handshake.
    """

    def __init__(self, *, maximum: int = MAX_CLIENT_CHAINS) -> None:
        self._maximum = maximum
        self._validity: OrderedDict[bytes, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()  # connections of one context are often in several threads
        forgets_after_fork(self)

    def forget_parents(self) -> None:
        """In a forked child: the lock may have been another thread's."""
        self._lock = threading.Lock()

    def remember(self, chain: Sequence[CertificateFacts]) -> None:
        """A full handshake has validated this chain, from the client's certificate to its anchor."""
        if not chain:
            return
        key, validity = sha256(chain[0].der).digest(), validity_of(chain)
        with self._lock:
            self._validity.pop(key, None)
            self._validity[key] = validity
            if len(self._validity) > self._maximum:
                self._validity.popitem(last=False)

    def is_valid(self, leaf: bytes, *, wall_time: float) -> bool:
        """Whether the chain behind this certificate (DER) is valid at ``wall_time``, in POSIX seconds."""
        with self._lock:
            begin, end = self._validity.get(sha256(leaf).digest(), (math.inf, -math.inf))
        return begin <= wall_time < end
