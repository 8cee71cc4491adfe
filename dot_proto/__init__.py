"""DNS over TLS (RFC 7858) as a protocol engine that does no I/O.

Start with :class:`ClientConnection` or :class:`ServerConnection`; :func:`make_query` builds a query,
:class:`AuthenticationPolicy` says whom to trust, and :class:`Upstream` whom to ask and where.  The backends in
``dot_io`` show how to drive it.

What an attribute means, with its unit, stands under it in the source and in the reference of the documentation:
``help()`` does not show that.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ._edns import QUERY_BLOCK as QUERY_BLOCK
from ._edns import RESPONSE_BLOCK as RESPONSE_BLOCK
from ._edns import padding_length as padding_length
from ._framing import MAX_MESSAGE as MAX_MESSAGE
from ._framing import MIN_MESSAGE as MIN_MESSAGE
from ._framing import Deframer as Deframer
from ._framing import frame as frame
from ._pem import certificates_from as certificates_from
from ._state import Cause as Cause
from ._state import State as State
from .authentication import AuthenticationPolicy as AuthenticationPolicy
from .authentication import CertificateFacts as CertificateFacts
from .authentication import Evidence as Evidence
from .authentication import PresentedChain as PresentedChain
from .authentication import Reason as Reason
from .authentication import ValidatedChain as ValidatedChain
from .authentication import ValidationFailure as ValidationFailure
from .authentication import Verdict as Verdict
from .authentication import judge as judge
from .client import ClientConnection as ClientConnection
from .configuration import ClientConfiguration as ClientConfiguration
from .configuration import ServerConfiguration as ServerConfiguration
from .errors import CertificateError as CertificateError
from .errors import DoTError as DoTError
from .errors import Fault as Fault
from .errors import IdInUseError as IdInUseError
from .errors import LocalProtocolError as LocalProtocolError
from .errors import MessageError as MessageError
from .errors import PinError as PinError
from .errors import RemoteProtocolError as RemoteProtocolError
from .errors import TooManyQueriesError as TooManyQueriesError
from .errors import UpstreamError as UpstreamError
from .events import ConnectionClosed as ConnectionClosed
from .events import DiscardReason as DiscardReason
from .events import Event as Event
from .events import KeepaliveReceived as KeepaliveReceived
from .events import MessageDiscarded as MessageDiscarded
from .events import PeerAuthenticated as PeerAuthenticated
from .events import PeerRefused as PeerRefused
from .events import QueryLost as QueryLost
from .events import QueryReceived as QueryReceived
from .events import QueryRejected as QueryRejected
from .events import QueryTimedOut as QueryTimedOut
from .events import ResponseReceived as ResponseReceived
from .pins import Pin as Pin
from .query import make_query as make_query
from .server import ServerConnection as ServerConnection

if TYPE_CHECKING:
    from .resolver.configuration import ResolverConfiguration as ResolverConfiguration
    from .resolver.configuration import Strategy as Strategy
    from .resolver.machine import StubResolver as StubResolver
    from .resolver.upstream import Upstream as Upstream

    __version__: str
    "The version that is installed, as PEP 440 has it."

__all__ = [
    "MAX_MESSAGE",
    "MIN_MESSAGE",
    "QUERY_BLOCK",
    "RESPONSE_BLOCK",
    "AuthenticationPolicy",
    "Cause",
    "CertificateError",
    "CertificateFacts",
    "ClientConfiguration",
    "ClientConnection",
    "ConnectionClosed",
    "Deframer",
    "DiscardReason",
    "DoTError",
    "Event",
    "Evidence",
    "Fault",
    "IdInUseError",
    "KeepaliveReceived",
    "LocalProtocolError",
    "MessageDiscarded",
    "MessageError",
    "PeerAuthenticated",
    "PeerRefused",
    "Pin",
    "PinError",
    "PresentedChain",
    "QueryLost",
    "QueryReceived",
    "QueryRejected",
    "QueryTimedOut",
    "Reason",
    "RemoteProtocolError",
    "ResolverConfiguration",
    "ResponseReceived",
    "ServerConfiguration",
    "ServerConnection",
    "State",
    "Strategy",
    "StubResolver",
    "TooManyQueriesError",
    "Upstream",
    "UpstreamError",
    "ValidatedChain",
    "ValidationFailure",
    "Verdict",
    "certificates_from",
    "frame",
    "judge",
    "make_query",
    "padding_length",
]


_OF_RESOLVER = {
    "ResolverConfiguration": "configuration",
    "Strategy": "configuration",
    "StubResolver": "machine",
    "Upstream": "upstream",
}
"By name: the module of ``dot_proto.resolver`` that has it."


def __getattr__(name: str) -> object:
    """What one connection has no need of is imported when it is asked for, and so is what reads the version."""
    if name == "__version__":
        return import_module("importlib.metadata").version("dot-proto")
    if name not in _OF_RESOLVER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f".resolver.{_OF_RESOLVER[name]}", __name__), name)
    globals()[name] = found
    return found
