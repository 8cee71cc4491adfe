"""Whether a context can serve anybody: a trial handshake in memory, once for each context that is made.

A server's handshake is made with a client that takes every suite, every version and every protocol; about 2 ms.  Of a
client's there is the ClientHello, which says all that matters here; about 0.1 ms.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Final

from .hello import offered_alpn
from .library import new_context

OTHER_PROTOCOLS: Final = ("h2", "http/1.1", "h3", "doq", "http/1.0")
"Protocols that a context may have been made for, in ALPN (IANA TLS Application-Layer Protocol Negotiation)."

_AFTER_AGREEMENT: Final = frozenset({"PEER_DID_NOT_RETURN_A_CERTIFICATE"})
"How a server's handshake may fail after everything but the client's certificate was agreed on: we show none."

_FLIGHTS: Final = 4
"Turns that a handshake takes at most: two of each side, in TLS 1.2, and one more where the group is asked for anew."


class CannotServe(Exception):
    """A context with which no handshake ever succeeds; the message is OpenSSL's reason name."""


def protocols_offered(context: ssl.SSLContext, server_hostname: str | None) -> list[str]:
    """What a client's context offers by ALPN; raises :class:`CannotServe`, and what callbacks raise."""
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=server_hostname)
    _step(tls)
    return [name.decode("ascii", "backslashreplace") for name in offered_alpn(outgoing.read()) or ()]


def protocol_preferred(context: ssl.SSLContext, alpn: str) -> str | None:
    """What a server's context agrees on with a client that offers ``alpn`` last; raises as the other one does."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = _client(alpn).wrap_bio(to_client, to_server)
    for _ in range(_FLIGHTS):
        # What the client objects to, such as a certificate with a strange key, is its own affair.
        with contextlib.suppress(CannotServe):
            _step(client)
        if _step(server):
            break
    return server.selected_alpn_protocol()


def _client(alpn: str) -> ssl.SSLContext:
    """A client that takes whatever a server has."""
    context = new_context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols([*OTHER_PROTOCOLS, alpn])
    return context


def _step(tls: ssl.SSLObject) -> bool:
    """Go on; returns whether all is agreed on."""
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return False
    except ssl.SSLError as error:
        if error.reason not in _AFTER_AGREEMENT:
            raise CannotServe(error.reason or str(error)) from error
    return True
