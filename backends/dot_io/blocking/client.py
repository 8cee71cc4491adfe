"""The client: one connection that any number of threads may share.

Theory of operation.  A thread that waits for an answer either waits for the socket, and sorts what comes for
everybody, or, if another thread does so already, waits for that thread.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import Final

from dot_proto import (
    AuthenticationPolicy,
    ClientConfiguration,
    ConnectionClosed,
    Event,
    LocalProtocolError,
    PeerRefused,
    QueryLost,
    QueryTimedOut,
    Reason,
    ResponseReceived,
    TooManyQueriesError,
    Verdict,
)

from .._address import PORT, check_port, default_policy
from ..errors import ConnectError, ConnectionLostError, ConnectTimeoutError, HandshakeError, QueryTimeoutError
from ..tls import ClientContext, HandshakeCompleted, TLSClient
from .pump import Pump

CONNECT_TIMEOUT: Final = 5.0
"Seconds for TCP and TLS together, unless told otherwise."

CLOSE_GRACE: Final = 0.5
"Seconds for the goodbye itself to leave, where a peer does not read."

Outcome = ResponseReceived | QueryTimedOut | QueryLost
"The fate of a query."


def connect(
    host: str,
    policy: AuthenticationPolicy | None = None,
    *,
    port: int = PORT,
    timeout: float = CONNECT_TIMEOUT,
    configuration: ClientConfiguration | None = None,
    context: ClientContext | None = None,
    share_records: bool = False,
) -> Client:
    """Connect, shake hands, and check who answers, all within ``timeout`` seconds.

    ``host`` is an address or a name to dial.  Without ``policy`` the server must have a certificate for it that
    the system trusts.  ``context`` carries the policy and TLS settings from one connection to the next, and the
    sessions to resume; it takes the place of ``policy``.

    Raises :class:`~dot_io.errors.ConnectError`, :class:`~dot_io.errors.HandshakeError` and its
    :class:`~dot_io.errors.AuthenticationError`; :class:`~dot_proto.LocalProtocolError` for a wrong argument.
    """
    check_port(port)
    if context is None:
        context = ClientContext(policy or default_policy(host))
    elif policy is not None and policy != context.policy:
        raise LocalProtocolError("policy and context.policy differ: give one of them")
    deadline = monotonic() + timeout
    try:
        return _connect(host, port, context, configuration, deadline, share_records)
    except HandshakeError as error:
        verdict: Verdict | None = getattr(error, "verdict", None)
        if verdict is None or verdict.reason is not Reason.ANCHOR_LEARNT or verdict.anchor is None:
            raise
        # The issuer was known by its pin alone; now its certificate is at hand, and must bear the chain.
        learnt = ClientContext(context.policy.with_learnt_anchor(verdict.anchor))
        return _connect(host, port, learnt, configuration, deadline, share_records)


def _connect(
    host: str,
    port: int,
    context: ClientContext,
    configuration: ClientConfiguration | None,
    deadline: float,
    share_records: bool,
) -> Client:
    started = monotonic()
    try:
        sock = socket.create_connection((host, port), timeout=max(deadline - started, 0.001))
    except TimeoutError:
        raise ConnectTimeoutError(f"no TCP connection to {host} port {port} in time") from None
    except OSError as error:
        raise ConnectError(f"no TCP connection to {host} port {port}: {error.strerror or error}") from error
    try:
        now = monotonic()
        session = TLSClient(
            context,
            configuration,
            server=(host, port),
            entropy=os.urandom,
            now=now,
            handshake_timeout=deadline - now,
            share_records=share_records,
        )
        client = Client(sock, session, connect_time=now - started)
        client._shake_hands()
    except BaseException:
        sock.close()
        raise
    return client


class Client:
    """One connection to a server; threads may share it.  Made by :func:`connect`; a context manager.

    It does not reconnect: when the server has closed, calls raise
    :class:`~dot_io.errors.ConnectionLostError`, which says whether to ask again elsewhere is safe.
    """

    def __init__(self, sock: socket.socket, session: TLSClient, *, connect_time: float) -> None:
        self._pump = Pump(sock, session, quick=True)
        self._session = session
        self._fates: dict[int, Outcome | None] = {}
        self._changed = threading.Condition(self._pump.lock)
        self._someone_waits = False
        self._end: ConnectionClosed | None = None
        self.handshake: HandshakeCompleted | None = None
        "The TLS session's facts."
        self.connect_time: Final = connect_time
        "Seconds that TCP took."
        self.handshake_time = 0.0
        "Seconds that TLS took."

    @property
    def verdict(self) -> Verdict:
        """How the server was authenticated."""
        verdict = self._session.connection.verdict
        assert verdict is not None, "connect() returns only after the verdict"
        return verdict

    @property
    def is_closed(self) -> bool:
        """Whether the connection has ended, as far as is known without looking at the socket."""
        return self._end is not None

    def query(self, message: bytes, *, timeout: float | None = None) -> bytes:
        """Ask, and wait for the response, which comes back under the query's own id.

        ``timeout`` is in seconds; the configuration's by default.  Raises
        :class:`~dot_io.errors.QueryTimeoutError`, :class:`~dot_io.errors.ConnectionLostError`,
        :class:`~dot_proto.LocalProtocolError` for a message that is no query.
        """
        [(_, outcome)] = self.query_many([message], timeout=timeout)
        if isinstance(outcome, ResponseReceived):
            return outcome.message
        if isinstance(outcome, QueryTimedOut):
            raise QueryTimeoutError(f"no answer within {outcome.elapsed:.1f} s")
        raise self._lost(outcome.safe_to_resend)

    def query_many(
        self, messages: Iterable[bytes], *, timeout: float | None = None, max_in_flight: int = 64
    ) -> Iterator[tuple[int, Outcome]]:
        """Ask all of ``messages``, at most ``max_in_flight`` at a time, and yield each one's fate as it comes.

        Yields the message's position, from 0, and a :class:`~dot_proto.ResponseReceived`,
        :class:`~dot_proto.QueryTimedOut` or :class:`~dot_proto.QueryLost`.  When the connection ends while some
        messages were not even asked, :class:`~dot_io.errors.ConnectionLostError` is raised after the fates of
        those that were.  Leaving the loop early cancels what is in flight.
        """
        if max_in_flight < 1:
            raise LocalProtocolError(f"max_in_flight is {max_in_flight}; it must be at least 1")
        positions: dict[int, int] = {}
        source = enumerate(messages)
        waiting = next(source, None)
        self._look()
        try:
            while positions or waiting is not None:
                while waiting is not None and len(positions) < max_in_flight:
                    handle = self._ask(waiting[1], timeout, may_wait=bool(positions))
                    if handle is None:
                        break
                    positions[handle] = waiting[0]
                    waiting = next(source, None)
                for outcome in self._outcomes(positions):
                    yield positions.pop(outcome.query), outcome
        finally:
            self._cancel(positions)

    def close(self, *, timeout: float = 2.0) -> None:
        """Say goodbye and close.  Answers still owed to other threads are waited for, ``timeout`` seconds long."""
        deadline = monotonic() + timeout
        with self._pump.lock:
            self._session.connection.close(now=monotonic(), timeout=timeout)
        while not self._pump.is_finished and monotonic() < deadline + CLOSE_GRACE:
            self._step(deadline + CLOSE_GRACE)
        self._pump.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _shake_hands(self) -> None:
        started = monotonic()
        while self._session.connection.verdict is None and self._end is None:
            self._step(None)
        self.handshake_time = monotonic() - started
        if self._end is not None:
            raise self._end.error or self._lost(safe_to_resend=True)

    def _ask(self, message: bytes, timeout: float | None, *, may_wait: bool) -> int | None:
        """Queue one query; ``None`` while others use up all places and one of ours will be free again."""
        with self._pump.lock:
            if self._end is not None:
                if may_wait:
                    return None
                raise self._lost(safe_to_resend=True)
            try:
                handle = self._session.connection.send_query(message, now=monotonic(), timeout=timeout)
            except TooManyQueriesError:
                if may_wait:
                    return None
                raise
            self._fates[handle] = None
            return handle

    def _look(self) -> None:
        """Notice what happened while nobody waited: a server may have closed an idle connection."""
        with self._pump.lock:
            if not self._someone_waits and self._end is None:
                self._note(self._pump.wait(monotonic()))

    def _outcomes(self, mine: dict[int, int]) -> list[Outcome]:
        """Wait until at least one of the queries ``mine`` has met its fate."""
        with self._changed:
            self._note(self._pump.flush())
            while True:
                found = [fate for handle in mine if (fate := self._fates[handle]) is not None]
                if found:
                    for fate in found:
                        del self._fates[fate.query]
                    return found
                if self._someone_waits and not self._pump.has_unsent:
                    # One thread waits for the socket and sorts what comes for all. Our own deadline may be
                    # earlier than the one it waits for.
                    self._changed.wait(self._left())
                    self._note(self._session.handle_timeout(now=monotonic()))
                else:
                    self._step_for_all()

    def _step_for_all(self) -> None:
        """Wait for the socket without the lock, on behalf of every thread; call with the lock held once."""
        self._someone_waits = True
        self._changed.release()
        try:
            events = self._pump.wait(None)
        finally:
            self._changed.acquire()
            self._someone_waits = False
            self._changed.notify_all()  # somebody else must wait for the socket now
        self._note(events)

    def _step(self, deadline: float | None) -> None:
        events = self._pump.wait(deadline)
        with self._changed:
            self._note(events)

    def _left(self) -> float | None:
        due = self._session.next_timeout()
        return None if due is None else max(due - monotonic(), 0.0)

    def _note(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, ResponseReceived | QueryTimedOut | QueryLost):
                if event.query in self._fates:
                    self._fates[event.query] = event
            elif isinstance(event, ConnectionClosed):
                self._end = event
            elif isinstance(event, HandshakeCompleted):
                self.handshake = event
        if events:
            self._changed.notify_all()

    def _cancel(self, positions: dict[int, int]) -> None:
        with self._pump.lock:
            for handle in positions:
                self._fates.pop(handle, None)
                self._session.connection.cancel(handle, now=monotonic())

    def _lost(self, safe_to_resend: bool) -> ConnectionLostError:
        assert self._end is not None
        error = self._end.error
        because = str(error) if error is not None else f"the connection has ended ({self._end.cause.value})"
        return ConnectionLostError(because, cause=self._end.cause, error=error, safe_to_resend=safe_to_resend)
