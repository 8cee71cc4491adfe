"""DNS over TLS on blocking sockets, for programs without an event loop.

>>> from dot_io.blocking import connect
>>> from dot_proto import make_query
>>> with connect("1.1.1.1") as client:  # doctest: +SKIP
...     response = client.query(make_query("example.com", "AAAA"))
"""

from .._client import Outcome as Outcome
from .._server import Peer as Peer
from .client import Client as Client
from .client import connect as connect
from .server import Handler as Handler
from .server import Server as Server
from .server import serve as serve

__all__ = ["Client", "Handler", "Outcome", "Peer", "Server", "connect", "serve"]
