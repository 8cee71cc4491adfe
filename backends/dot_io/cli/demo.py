"""``dot-proto demo``: a server of our own on loopback, asked rightly, and then with a wrong pin.

Each query is made by the command line that is shown above it: the demonstration runs what a reader would type.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
import tempfile
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Final

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.zone

from ..blocking import Peer, serve
from ..errors import TLSLibraryError
from ..testing.identity import Authority
from ..testing.loopback import loopback_address
from ..tls import ServerContext
from . import query
from ._errors import complain
from .arguments import DemoArguments
from .exit_codes import ExitCode
from .query_arguments import UDP_PAYLOAD
from .query_line import parse_query

NAME: Final = "dns.example.net"
"The server's authentication domain name."

OWNER: Final = "dot-proto demo"
"The organization in every certificate."

ORIGIN: Final = dns.name.from_text("example.com.")

ZONE: Final = """
@     3600 SOA   ns1 hostmaster 2018033101 3600 900 604800 300
@     3600 NS    ns1
@     2347 A     93.184.216.34
@     2347 AAAA  2606:2800:220:1:248:1893:25c8:1946
@     3600 MX    10 mail
@     3600 TXT   "v=spf1 -all"
ns1   3600 A     192.0.2.53
mail  3600 A     192.0.2.25
"""
"What the server knows; the first address and its TTL are those of the provider's example."


def run(arguments: DemoArguments) -> int:
    """Show both queries; returns an :class:`ExitCode`."""
    with tempfile.TemporaryDirectory(prefix="dot-proto-demo-") as folder:
        identity = Authority(Path(folder), OWNER).issue(NAME)
        zone = Zone()
        try:
            context = ServerContext(identity.chain_file)
        except TLSLibraryError as error:
            complain(str(error))
            return ExitCode.HANDSHAKE
        with serve(zone.answer, context, host=loopback_address(), port=0) as server:
            print("A server of our own, with certificates made a moment ago.  Its name and one pin are asked for:\n")
            where = f"@{server.host} -p {server.port} +tls-ca={identity.root_file} +tls-host={NAME}"
            right = _show(f"-d {where} +tls-pin={identity.pin} example.com")
            print("\nThe same with the pin of another key:\n")
            wrong = _show(f"{where} +tls-pin={_another_pin()} example.com")
    # Only now: the server has read all that its clients sent.
    queries = f"{zone.received} {'query' if zone.received == 1 else 'queries'}"
    print(f"\nThe server received {queries} in all: a server that is refused is asked nothing.")
    is_as_promised = (right, wrong, zone.received) == (ExitCode.ANSWER, ExitCode.PIN, 1)
    return ExitCode.ANSWER if is_as_promised else ExitCode.INTERNAL


def _show(line: str) -> int:
    """The command line, what it prints, on stdout and on stderr, and the exit code as a shell tells it."""
    print(f"$ dot-proto query {line}")
    with contextlib.redirect_stderr(sys.stdout):
        code = query.run(parse_query(shlex.split(line)))
    print(f"$ echo $?\n{int(code)}")
    return code


def _another_pin() -> str:
    return b64encode(sha256(b"another key").digest()).decode()


class Zone:
    """An authoritative server for :data:`ZONE`, as a handler for ``serve``; counts what it is asked."""

    def __init__(self) -> None:
        self.received: int = 0
        "Queries received so far."
        self._zone = dns.zone.from_text(ZONE, ORIGIN, relativize=False)

    def answer(self, octets: bytes, peer: Peer) -> bytes:
        """A response in octets; OPT, padding and the rest of EDNS are the engine's affair."""
        self.received += 1
        asked = dns.message.from_wire(octets)
        response = dns.message.make_response(asked, our_payload=UDP_PAYLOAD)
        response.flags |= dns.flags.AA
        [question] = asked.question
        node = self._zone.get_node(question.name)
        found = None if node is None else node.get_rdataset(dns.rdataclass.IN, question.rdtype)
        if node is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
        if found is not None:
            response.answer.append(dns.rrset.from_rdata_list(question.name, found.ttl, list(found)))
        else:
            response.authority.append(self._zone.find_rrset(ORIGIN, dns.rdatatype.SOA))
        return response.to_wire()
