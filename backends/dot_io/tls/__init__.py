"""TLS without I/O: records in, records out; the only package that imports ``ssl``.

``audit``    what a context that somebody else has made must not say; ``trial`` whether it can serve anybody
``library``  OpenSSL as the site has configured it, and where it can do nothing
``context``  what is agreed on before a connection: policy, versions, certificates, sessions to resume
``pair``     a certificate chain and its key, from files, and what is wrong with them
``session``  one connection, in either role: it speaks the verbs of the engine; ``_phase`` has its table
``client``   :class:`TLSClient`: evidence for the verdict, sessions to resume
``server``   :class:`TLSServer`: ALPN, and who closes first
``callbacks`` what a callback of the context given has raised
``failures`` what OpenSSL's errors mean
``cache``    sessions to resume, each used once
``hello``    the few octets of the handshake that Python's ssl does not show
"""

from ssl import TLSVersion as TLSVersion

from .cache import SessionCache as SessionCache
from .client import TLSClient as TLSClient
from .context import ClientContext as ClientContext
from .context import ServerContext as ServerContext
from .server import TLSServer as TLSServer
from .session import HANDSHAKE_TIMEOUT as HANDSHAKE_TIMEOUT
from .session import HandshakeCompleted as HandshakeCompleted

__all__ = [
    "HANDSHAKE_TIMEOUT",
    "ClientContext",
    "HandshakeCompleted",
    "ServerContext",
    "SessionCache",
    "TLSClient",
    "TLSServer",
    "TLSVersion",
]
