"""The exceptions of the engine.

Two kinds, told apart by who made the mistake.  :class:`LocalProtocolError` is raised at the caller and
changes nothing.  :class:`RemoteProtocolError` is never raised by the engine: what a peer does wrong ends the
connection, and the error travels inside :class:`~dot_proto.ConnectionClosed`.

All can be pickled and copied with their attributes, and so be raised in the workers of a process pool.
"""

from __future__ import annotations

import enum


class DoTError(Exception):
    """Base of every exception of this package."""

    def __reduce__(self) -> tuple[object, ...]:
        # By default pickle calls the class with ``args``.  That is the message alone, and some classes ask for more.
        return _restored, (type(self), self.args), self.__dict__


def _restored(kind: type[DoTError], args: tuple[object, ...]) -> DoTError:
    """An exception without its attributes, which pickle sets afterwards."""
    error = kind.__new__(kind, *args)
    error.args = args  # OSError sets them in __init__, where a class has one of its own
    return error


class LocalProtocolError(DoTError):
    """The caller asked for something that DNS over TLS does not allow; nothing has changed."""


class TooManyQueriesError(LocalProtocolError):
    """As many queries are outstanding as the configuration allows: wait until one has ended."""


class IdInUseError(LocalProtocolError):
    """A query signed by SIG(0) must keep its id, and another query in flight on the connection has it.

    Sign it under another id, ask on another connection, or wait until that query is over (RFC 2931, section 3.1).
    """


class PinError(LocalProtocolError, ValueError):
    """A text or an octet string is no SPKI pin (RFC 7858, section 4.2); the message says why."""


class CertificateError(LocalProtocolError, ValueError):
    """Octets are no certificate or public key in DER (or PEM, where that is accepted)."""


class MessageError(LocalProtocolError, ValueError):
    """Octets are no DNS message, or a name is no DNS name (RFC 1035, section 2.3.4)."""


class UpstreamError(LocalProtocolError, ValueError):
    """A text or a configuration names no upstream that could be asked; the message says what, where, and what to do.

    Where several things are wrong, the message has a line for each.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        "Each of them, with the place: a character, a line, or a key path such as ``upstream[0].pins[1]``."


class Fault(enum.Enum):
    """What a peer did wrong; stable codes for logs and metrics."""

    SHORT_FRAME = "short-frame"
    "A length prefix below 12: no DNS message is shorter than its header (RFC 1035, section 4.1.1)."
    TRUNCATED = "truncated"
    "The stream ended inside a message (RFC 8446, section 6.1)."
    NO_CLOSE_NOTIFY = "no-close-notify"
    "TCP ended between messages but without TLS close_notify (RFC 8446, section 6.1)."
    TOO_MANY_UNSOLICITED = "too-many-unsolicited"
    "More messages that belong to no query than the limit allows."
    PEER_REFUSED = "peer-refused"
    "The peer is not who the authentication policy asks for (RFC 8310, section 5)."
    TLS = "tls"
    "The TLS layer failed; the message says how."
    RESET = "reset"
    "The transport broke: a TCP reset, an unreachable network."


class RemoteProtocolError(DoTError):
    """The peer, or the network, broke the protocol.

    Never raised by the engine; carried by :class:`~dot_proto.ConnectionClosed`.  Backends raise it, or a
    subclass, where a call of theirs can only fail.
    """

    def __init__(self, message: str, fault: Fault) -> None:
        if not isinstance(fault, Fault):  # not by the guards of others, which import this module
            raise LocalProtocolError(f"fault must be a Fault, not {fault!r:.40}")
        super().__init__(message)
        self.fault = fault
