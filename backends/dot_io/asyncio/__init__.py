"""DNS over TLS on asyncio, and on uvloop.

>>> from dot_io.asyncio import connect
>>> from dot_proto import make_query
>>> async def main():
...     async with connect("1.1.1.1") as client:
...         return await client.query(make_query("example.com", "AAAA"))
"""

from .._client import Outcome as Outcome
from .._peer import Peer as Peer
from .._reports import ConnectionEnd as ConnectionEnd
from .._reports import ConnectionPhase as ConnectionPhase
from .._reports import ServerStatistics as ServerStatistics
from .client import Client as Client
from .client import connect as connect
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
