"""What ``dot-proto query`` was asked to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import dns.rdataclass
import dns.rdatatype

from dot_proto.authentication import AuthenticationPolicy
from dot_proto.pins import Pin

from ._options import PADDING, TIMEOUT
from .servers import Server, one_of

if TYPE_CHECKING:
    from .keys import Key

UDP_PAYLOAD: Final = 1232
"Octets of the UDP payload size in OPT: of no effect over TLS, but OPT must state one (DNS flag day 2020)."


class Session(NamedTuple):
    """How servers are reached, and which of them are trusted."""

    tls_host: str | None = None
    "Authentication domain name; that of a server's own word goes before."
    pins: tuple[Pin, ...] = ()
    ca_file: str | None = None
    "File of trust anchors in PEM; empty for the system's trust store, asked for; ``None``: not said."
    opportunistic: bool = False
    tls12_only: bool = False
    sni: str | None = None
    "The name to send (RFC 6066, section 3) where it is another than the one that is checked."
    certificate_file: str | None = None
    key_file: str | None = None
    timeout: float = TIMEOUT
    "Seconds for connect, handshake and answer together, and for each further query on the connection."
    ipv4: bool = False
    ipv6: bool = False
    source: tuple[str, int] | None = None
    "Address and port to ask from; port 0: any."

    def authentication_name(self, server: Server) -> str | None:
        """Name or address that the certificate must be for; ``None``: the pins decide alone."""
        name = one_of("authentication name", server.name, self.tls_host)
        pins_decide = bool(self._pins(server)) and name is None and self.ca_file is None and not self.opportunistic
        return None if pins_decide else name or server.host

    def validates(self, server: Server) -> bool:
        """Whether the chain must end at a trust anchor, so that a trust store is needed."""
        return self.authentication_name(server) is not None and not self.opportunistic

    def policy(self, server: Server, trust_anchors: tuple[bytes, ...] | None = None) -> AuthenticationPolicy:
        """The policy asked for; ``trust_anchors`` is what :attr:`ca_file` holds, as certificates in DER.

        Raises :class:`~dot_proto.LocalProtocolError`.
        """
        name, pins = self.authentication_name(server), self._pins(server)
        if self.opportunistic:
            return AuthenticationPolicy.opportunistic(self.sni or name, pins=pins)
        return AuthenticationPolicy.strict(name, pins=pins, trust_anchors=trust_anchors)

    def _pins(self, server: Server) -> tuple[Pin, ...]:
        return (*self.pins, *server.pins)


class Message(NamedTuple):
    """What a query says beside its question."""

    opcode: int = 0
    rd: bool = True
    ad: bool = True
    "RFC 6840, section 5.7: asks a resolver to say whether it has validated the answer."
    cd: bool = False
    aa: bool = False
    tc: bool = False
    ra: bool = False
    z: bool = False
    edns: int | None = 0
    "Version; ``None``: no OPT."
    payload: int = UDP_PAYLOAD
    dnssec: bool = False
    "The DO bit (RFC 3225)."
    ednsflags: int = 0
    "Those beside DO."
    padding: int | None = PADDING
    "Octets to whose multiples the query is padded (RFC 8467); ``None``: not at all."
    nsid: bool = False
    expire: bool = False
    keepalive: bool = False
    subnet: bytes | None = None
    "The data of the option (RFC 7871, section 6)."
    cookie: bytes | None = None
    "The data of the option; empty: to be drawn."
    options: tuple[tuple[int, bytes], ...] = ()
    "Code and data of others."
    key: Key | None = None
    "Signs the query (RFC 8945)."

    def asks_by_edns(self) -> str | None:
        """The first thing asked for that needs OPT (RFC 6891), as it is written; ``None``: there is none."""
        asked = {
            "+dnssec": self.dnssec,
            "+ednsflags": self.ednsflags,
            "+nsid": self.nsid,
            "+expire": self.expire,
            "+keepalive": self.keepalive,
            "+subnet": self.subnet is not None,
            "+cookie": self.cookie is not None,
            "+ednsopt": self.options,
        }
        return next((word for word, is_asked in asked.items() if is_asked), None)


class Display(NamedTuple):
    """What is shown of the answer."""

    debug: bool = False
    short: bool = False
    json: bool = False
    jsonl: bool = False
    header: bool = True
    comments: bool = True
    "The session, and the titles of sections."
    question: bool = True
    answer: bool = True
    authority: bool = True
    additional: bool = True
    opt: bool = True
    tsig: bool = True
    stats: bool = True
    qr: bool = False
    rrclass: bool = True
    ttl: bool = True
    ttlunits: bool = False
    multiline: bool = False
    crypto: bool = True
    generic: bool = False
    idn: bool | None = None
    "``None``: U-labels on a terminal alone."
    color: str = "auto"
    fail: bool = False
    "Whether an RCODE other than NOERROR is a failure."
    ignored: tuple[str, ...] = ()
    "Words that change nothing."


class QueryArguments(NamedTuple):
    """One query of ``dot-proto query``: whom to ask, what, and what to show."""

    servers: tuple[Server, ...]
    "To be tried in this order, each with its port."
    name: str
    "The name asked for: absolute, in A-labels."
    rdtype: dns.rdatatype.RdataType
    rdclass: dns.rdataclass.RdataClass
    session: Session = Session()
    message: Message = Message()
    display: Display = Display()
