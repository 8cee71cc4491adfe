"""DNS over TLS on blocking sockets, for programs without an event loop.

>>> from dot_io.blocking import connect
>>> from dot_proto import make_query
>>> with connect("1.1.1.1") as client:  # doctest: +SKIP
...     response = client.query(make_query("example.com", "AAAA"))
"""

from typing import TYPE_CHECKING, Any

from .._client import Outcome as Outcome
from .client import Client as Client
from .client import connect as connect

if TYPE_CHECKING:
    from .._peer import Peer as Peer
    from .._reports import ConnectionEnd as ConnectionEnd
    from .._reports import ConnectionPhase as ConnectionPhase
    from .._reports import ServerStatistics as ServerStatistics
    from .resolver import Resolver as Resolver
    from .server import Handler as Handler
    from .server import Server as Server
    from .server import serve as serve

__all__ = [
    "Client",
    "ConnectionEnd",
    "ConnectionPhase",
    "Handler",
    "Outcome",
    "Peer",
    "Resolver",
    "Server",
    "ServerStatistics",
    "connect",
    "serve",
]


def __getattr__(name: str) -> Any:
    """The resolver and the server, imported when they are asked for: without them a command starts 10 % sooner."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import resolver, server

    return getattr(resolver if name == "Resolver" else server, name)
