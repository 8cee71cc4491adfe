"""One connection's TLS: the same five verbs as the engine, with TLS records where the engine has messages.

Theory of operation.  ``receive_data`` takes records, lets OpenSSL decrypt them, and feeds the engine once with
all that came out; ``data_to_send`` takes the engine's messages and returns records.  At the end of a client's
handshake the evidence goes to the engine at once, and only its verdict opens the way for queries: the engine
holds them, so no order of calls can send one early.  A session is not safe to be used by two threads at a time.

Why every verb ends in ``_settle``.  A session joins two machines, OpenSSL's and the engine's, and the engine can
end without the session: its commands (``connection.close()``, ``connection.cancel()``, ``send_response()``) are
called past us.  Whoever drives the session only sees our verbs, and must hear three things of every end: each
query's fate, one ``ConnectionClosed``, and that there is nothing left to do.  So no verb asks *why* the engine
ended.  Each does its own work and then looks at the engine once.  If the engine is closed, what it still has to
report is fetched, what it still has to send is encrypted, close_notify is written behind it, and the phase moves
(``_phase.py`` has the table).  Then it does not matter whether the end came from a command, a verdict, a
deadline, the peer or the network, nor in which phase it came.

Three rules follow, and make the session safe to drive with nothing but the published duties:

* What waits to be told makes ``next_timeout()`` say "now", and ``is_finished`` is false until it has been told.
* ``data_to_send()`` has no clock, so it never starts a wait and never returns events.  If OpenSSL fails inside it,
  the failure is kept, and the next verb, which is due at once, tells it.
* A phase has one deadline, which ends with the phase.  The verb that tells the end also starts the wait for the
  peer to close TCP first, because a verb has a clock.
"""

from __future__ import annotations

import contextlib
import math
import ssl
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from dot_proto import ClientConnection, Event, Fault, RemoteProtocolError, ServerConnection, State
from dot_proto.arguments import check_buffer, check_flag, check_seconds, check_text, check_time

from .._stays import StaysInProcess
from ..errors import Failure, HandshakeError
from ._phase import MOVES, Inbound, Phase, Step
from .audit import ALPN
from .failures import broken_session, local_failure
from .hello import MAX_CLIENT_HELLO, RecordCounter

READ_SIZE: Final = 16_384
"Octets asked of OpenSSL at a time: one record (RFC 8446, section 5.1); asking for more only allocates more."

MAX_WITHOUT_DATA: Final = 32_768
"""Octets of records in a row that bring nothing to the engine; more end the connection.

A record of the greatest length, which may come in single octets, is half of that (RFC 8446, section 5.2); the rest
is for tickets and changes of keys.  A change of keys has 27 octets, costs the receiver more CPU time than the sender,
and may ask for another in return.  BoringSSL ends at 32 in a row (kMaxKeyUpdates); OpenSSL ends at 32 empty records
(MAX_EMPTY_RECORDS), but at no number of changes of keys.
"""

MAX_REPLIES: Final = 4_096
"Octets that TLS itself may have to send (150 changes of keys) before the driver should read no more."

HANDSHAKE_TIMEOUT: Final = 5.0
"Seconds for the handshake, unless told otherwise."

_ENCODING_DER: Final = 2
"What ``_ssl`` calls ENCODING_DER."

# Looked up here once: every verb compares with these.
_CLOSED: Final = State.CLOSED
_OPEN: Final = Phase.OPEN
_PEER_SENDS: Final = Inbound.OPEN


@dataclass(frozen=True, slots=True)
class HandshakeCompleted(Event):
    """The TLS handshake is through; the verdict follows in the same list."""

    version: str
    "As OpenSSL says it: ``TLSv1.3``."
    cipher: str
    "The cipher suite's name, as OpenSSL says it."
    alpn: str | None
    "The protocol agreed on, ``dot`` or none."
    is_resumed: bool
    "Whether an earlier session was resumed (RFC 8446, section 2.2)."
    group: str | None
    "Key exchange group; known only where the context observes handshakes."
    signature: str | None
    "Signature scheme; known only where the context observes handshakes."
    peer_certificate: bytes | None = field(repr=False)
    "The certificate whose key the peer proved, in DER; ``None`` where none was asked for."


class Session(StaysInProcess, ABC):
    """What both roles share."""

    _linger_timeout: ClassVar[float]
    "Seconds that the peer may take to close TCP first, once close_notify is out; 0: it is not waited for."

    def __init__(self, engine: ClientConnection | ServerConnection, *, now: float, timeout: float, share: bool) -> None:
        check_time("now", now)
        check_seconds("handshake_timeout", timeout)
        check_flag("share_records", share)
        self._engine: Final = engine
        self._incoming: Final = ssl.MemoryBIO()
        self._outgoing: Final = ssl.MemoryBIO()
        self._tls: ssl.SSLObject
        self._share_records: Final = share
        self._phase = Phase.HANDSHAKE
        self._deadline = now + timeout  # the phase's; infinity where it has none
        self._inbound = Inbound.OPEN
        self._failure: RemoteProtocolError | None = None  # met where there was no clock, and still to be told
        self._first_octets = bytearray()  # of the peer's side of the handshake
        self._without_data = 0  # octets of records, since the last that brought something to the engine
        self._records: RecordCounter | None = None  # while a ticket may come, see ``_records_read``
        self._now = now  # of the last verb

    @property
    def is_finished(self) -> bool:
        """Whether everything was told and all was handed out: there is nothing left to do but to close TCP."""
        return self._phase is Phase.DONE and not self._outgoing.pending

    @property
    def has_ended(self) -> bool:
        """Whether the connection is closed: what is still handed out is the last of it."""
        return self._engine.state is _CLOSED

    @property
    def wants_data(self) -> bool:
        """False while TLS itself has too much to send: read no more until ``data_to_send()`` has been called.

        That is so only where the driver leaves it uncalled because TCP takes nothing.  A peer that asks for reply after
        reply and reads none of them is then slowed down by TCP, instead of filling our memory.  What the engine has
        to send does not count, because a peer may wait for us to read before it reads itself.
        """
        return self._phase is not _OPEN or self._outgoing.pending <= MAX_REPLIES

    # The verbs of a driver.

    def data_to_send(self) -> list[bytes]:
        """TLS records to send, in order; one DNS message a record unless records are shared."""
        if self._phase is _OPEN:
            self._encrypt()
        octets = self._outgoing.read()
        return [octets] if octets else []

    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        """Octets from TCP, cut anywhere."""
        try:
            is_time = now < math.inf
        except TypeError:
            is_time = False
        if not is_time:  # as check_time, which costs more
            check_time("now", now)
        if not isinstance(data, bytes):
            check_buffer("data", data)
        self._now = now
        events: list[Event] = []
        if self._failure is not None:
            self._tell_failure(events, now)
        engine = self._engine
        # What comes after close_notify is ignored (RFC 8446, section 6.1).
        if self._inbound is _PEER_SENDS and engine.state is not _CLOSED:
            self._incoming.write(data)
            if self._phase is _OPEN:
                self._read(data, events, now)
            else:
                if len(self._first_octets) < MAX_CLIENT_HELLO:
                    self._first_octets += data
                self._shake_hands(events, now)
        if engine.state is _CLOSED:
            self._settle(events, now)
        return events

    def receive_eof(self, *, now: float) -> list[Event]:
        """TCP has ended.  Without close_notify before it, that is no orderly end (RFC 8446, section 6.1)."""
        check_time("now", now)
        self._now = now
        events: list[Event] = []
        self._tell_failure(events, now)
        before, self._inbound = self._inbound, Inbound.EOF
        if self._phase is Phase.HANDSHAKE:
            error = HandshakeError("the peer closed the connection inside the handshake", Failure.END_OF_STREAM)
            events += self._engine.fail(error, now=now)
        elif before is not Inbound.EOF:
            events += self._engine.receive_eof(now=now, orderly=before is Inbound.CLOSE_NOTIFY)
        self._settle(events, now)
        return events

    def fail(self, explanation: str, *, now: float) -> list[Event]:
        """The transport has failed: a reset, an unreachable network, a peer that does not read."""
        check_text("explanation", explanation)
        check_time("now", now)
        self._now = now
        events: list[Event] = []
        self._tell_failure(events, now)
        self._inbound = Inbound.EOF
        error = RemoteProtocolError(explanation, Fault.RESET)
        if self._phase is Phase.HANDSHAKE:
            error = HandshakeError(f"TCP failed inside the handshake: {explanation}", Failure.END_OF_STREAM)
        events += self._engine.fail(error, now=now)
        self._settle(events, now)
        return events

    def abort(self, *, now: float) -> list[Event]:
        """This side gives up TCP at once: nothing more is sent, and the end is told as ours, not as the peer's."""
        check_time("now", now)
        self._now = now
        events: list[Event] = []
        self._tell_failure(events, now)
        self._inbound = Inbound.EOF
        self._engine.close(now=now, timeout=0.0)
        events += self._engine.handle_timeout(now=now)
        self._settle(events, now)
        return events

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is to be called; ``None``: never.  A time that has passed means: at once."""
        engine, has_failed = self._engine, self._failure is not None
        if self._phase is _OPEN and not has_failed and engine.state is not _CLOSED:
            return engine.next_timeout()
        if self._phase is Phase.DONE:
            return None
        # Lingering without a deadline: the end was met by data_to_send(), which has no clock to start the wait with.
        if has_failed or (engine.state is _CLOSED and (self._phase is Phase.HANDSHAKE or self._deadline == math.inf)):
            return self._now
        deadline = engine.next_timeout()
        earliest = self._deadline if deadline is None else min(deadline, self._deadline)
        return None if earliest == math.inf else earliest

    def handle_timeout(self, *, now: float) -> list[Event]:
        """Act on the deadlines that have come; does nothing when there are none."""
        check_time("now", now)
        self._now = now
        events: list[Event] = []
        self._tell_failure(events, now)
        if self._phase is Phase.HANDSHAKE and self._deadline <= now:
            error = HandshakeError("the TLS handshake took too long", Failure.TIMED_OUT)
            events += self._engine.fail(error, now=now)
        else:
            events += self._engine.handle_timeout(now=now)
        self._settle(events, now)
        return events

    # In what the two roles differ.

    @abstractmethod
    def _hello_seen(self, now: float) -> list[Event]:
        """OpenSSL has worked on what came; a server may refuse the ClientHello here, and returns how that ended."""

    @abstractmethod
    def _handshake_complete(self, now: float) -> list[Event]:
        """The handshake is through."""

    @abstractmethod
    def _handshake_failed(self, error: ssl.SSLError, now: float) -> list[Event]:
        """OpenSSL has ended the handshake, and has left its alert among the octets to send."""

    @abstractmethod
    def _records_read(self, with_data: int, without: int) -> None:
        """So many records were decrypted while ``_records`` counts them, with and without application data."""

    # Private methods.

    def _move(self, step: Step) -> None:
        self._phase = MOVES[self._phase, step]
        self._deadline = math.inf
        self._first_octets.clear()

    def _tell_failure(self, events: list[Event], now: float) -> None:
        if self._failure is not None:
            events += self._engine.fail(self._failure, now=now)
            self._failure = None

    def _settle(self, events: list[Event], now: float) -> None:
        """Follow the engine's end; the module's text says why every verb ends here."""
        engine = self._engine
        if engine.state is not _CLOSED or self._phase is Phase.DONE:
            return
        events += engine.handle_timeout(now=now)  # what a command has left to be reported
        if self._phase is Phase.HANDSHAKE:
            self._move(Step.ENGINE_ENDED)
            return
        if self._phase is _OPEN:
            self._encrypt()
        if self._deadline == math.inf:
            self._deadline = now + self._linger_timeout
        if self._inbound is Inbound.EOF or self._deadline <= now:
            self._move(Step.WAIT_OVER)

    def _shake_hands(self, events: list[Event], now: float) -> None:
        """Go on with the handshake, and read what has come behind it."""
        is_complete = False
        try:
            self._tls.do_handshake()
            is_complete = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            events += self._handshake_failed(error, now)
            return
        except Exception as error:  # a callback of a context that somebody else has made
            events += self._engine.fail(local_failure(error), now=now)
            return
        events += self._hello_seen(now)
        protocol = self._tls.selected_alpn_protocol() if is_complete else None
        if protocol not in (None, ALPN):
            # A context that somebody else has made may agree on anything; we speak nothing else.
            text = f"the protocol agreed on by ALPN is {protocol}, not {ALPN}"
            events += self._engine.fail(HandshakeError(text, Failure.NO_APPLICATION_PROTOCOL), now=now)
        elif is_complete and self._engine.state is not _CLOSED:
            self._move(Step.HANDSHAKE_COMPLETE)
            events += self._handshake_complete(now)
            self._read(b"", events, now)

    def _read(self, data: bytes, events: list[Event], now: float) -> None:
        """Decrypt all that has come, ``data`` among it, and feed the engine once."""
        read, pieces, ended = self._tls.read, [], False
        failure: Exception | None = None
        counter = self._records
        whole = 0 if counter is None else self._count(counter)
        try:
            while self._incoming.pending:
                piece = read(READ_SIZE)
                if not piece:
                    ended = True
                    break
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        except Exception as error:
            failure = error
        if pieces:
            self._without_data = 0
            events += self._feed(pieces[0] if len(pieces) == 1 else b"".join(pieces), now)
        elif failure is None and not ended:
            self._without_data += len(data)
            if self._without_data > MAX_WITHOUT_DATA:
                text = f"the peer has sent {self._without_data} octets of TLS records in a row that hold no data"
                events += self._engine.fail(RemoteProtocolError(text, Fault.TLS), now=now)
        if failure is not None:
            events += self._engine.fail(broken_session(failure), now=now)
        elif ended:
            self._inbound = Inbound.CLOSE_NOTIFY
            events += self._engine.receive_eof(now=now, orderly=True)
        if counter is not None:
            self._records_read(len(pieces), whole - len(pieces))

    def _feed(self, data: bytes, now: float) -> list[Event]:
        """What was decrypted goes to the engine."""
        return self._engine.receive_data(data, now=now)

    def _count(self, counter: RecordCounter) -> int:
        """How many records became whole by what waits to be decrypted."""
        octets = self._incoming.read()
        self._incoming.write(octets)
        return counter.feed(octets)

    def _encrypt(self) -> None:
        """Turn the engine's messages into records, and leave close_notify behind the last of them.

        Why ``unwrap()`` is called once, and its error is no error.  We want close_notify to leave, and not to wait
        for the peer's own: RFC 8446, section 6.1, does not ask for that, and a peer that is gone would hold us for
        ever.  OpenSSL's shutdown does just this when it is called once.  Python's ``unwrap()`` calls it a second
        time, which can only say "want read", since the peer has had no time to answer.  So "want read" means: done.
        Any other error means that the keys are gone already, or that data of the peer's is left that nobody will
        read; then too there is nothing more to do.
        """
        chunks = self._engine.data_to_send()
        try:
            if chunks:
                if self._share_records:
                    chunks = [b"".join(chunks)]
                for chunk in chunks:
                    self._tls.write(chunk)
        except Exception as error:
            if self._engine.state is not _CLOSED:  # else the end has another reason, which is told already
                self._failure = broken_session(error)
        if self._engine.state is _CLOSED:
            self._move(Step.ENGINE_ENDED)
            with contextlib.suppress(Exception):  # what callbacks raise among them: the end is told by now
                self._tls.unwrap()

    def _chain(self, getter: str) -> tuple[bytes, ...]:
        """The peer's chain in DER, leaf first; empty where this Python does not show it, and after a resumption.

        Public from Python 3.13; before that the object behind has the same methods, which return objects.
        """
        source: Any = self._tls if hasattr(self._tls, getter) else getattr(self._tls, "_sslobj", None)
        method = getattr(source, getter, None)
        certificates = (method() if method is not None else None) or ()
        return tuple(one if isinstance(one, bytes) else one.public_bytes(_ENCODING_DER) for one in certificates)

    def _completed(self, group: str | None = None, signature: str | None = None) -> HandshakeCompleted:
        cipher = self._tls.cipher()
        return HandshakeCompleted(
            version=self._tls.version() or "",
            cipher=cipher[0] if cipher else "",
            alpn=self._tls.selected_alpn_protocol(),
            is_resumed=bool(self._tls.session_reused),
            group=group,
            signature=signature,
            peer_certificate=self._tls.getpeercert(binary_form=True),
        )
