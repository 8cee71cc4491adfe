"""Servers on loopback that record what they are asked, or misbehave; certificates; and the command, run in process."""

from __future__ import annotations

import shlex
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import dns.flags
import dns.message
import dns.rrset
import pytest
import trustme

from dot_io.blocking import Peer, serve
from dot_io.cli import main
from dot_io.tls import ServerContext
from dot_proto import Pin

NAME = "dns.example.net"

Behaviour = Callable[[ssl.SSLSocket, bytes], None]
"What a misbehaving server does once it has shaken hands and read a query (with its length prefix)."


class Result(NamedTuple):
    """How the command ended."""

    code: int
    out: str
    err: str


Run = Callable[[str], Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """``dot-proto`` in this process, by its command line; whatever happens, nobody sees a traceback."""

    def command(line: str) -> Result:
        code = main(shlex.split(line))
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        # A line or two for each of two queries, a third for the names of a certificate, one for what was not asked.
        assert err.count("\n") <= 7
        return Result(code, out, err)

    return command


class Certificates:
    """A root, an intermediate and leaves, in files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.authority = trustme.CA(organization_name="test", organization_unit_name="root")
        self.intermediate = trustme.CA(self.authority, 0, "test", "intermediate")
        stranger = trustme.CA()
        self.root, self.other_root = folder / "root.pem", folder / "other.pem"
        self.root.write_bytes(self.authority.cert_pem.bytes())
        self.other_root.write_bytes(stranger.cert_pem.bytes())
        self.issuer_pin = Pin.of_certificate(self.intermediate.cert_pem.bytes())
        self.other_pin = Pin.of_certificate(stranger.cert_pem.bytes())
        self.chain, self.pin = self.issue(NAME, "127.0.0.1", "localhost")

    def issue(self, *names: str, until: datetime | None = None) -> tuple[Path, Pin]:
        """A new leaf for these names: the file of key and chain, and the pin."""
        since = None if until is None else datetime(2000, 1, 1, tzinfo=UTC)
        leaf = self.intermediate.issue_cert(
            *names,
            common_name=names[0],
            organization_name="test",
            organization_unit_name="server",
            not_before=since,
            not_after=until,
        )
        pin = Pin.of_certificate(leaf.cert_chain_pems[0].bytes())
        file = self._folder / f"{pin.digest.hex()}.pem"
        file.write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
        return file, pin


class Site:
    """A server that records the queries it receives; ``respond`` may be replaced."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.respond: Callable[[dns.message.Message], bytes | None] = an_address
        self.port = 0

    def answer(self, octets: bytes, peer: Peer) -> bytes | None:
        self.asked.append(octets)
        return self.respond(dns.message.from_wire(octets))

    @property
    def queries(self) -> list[dns.message.Message]:
        """What was received, parsed."""
        return [dns.message.from_wire(octets) for octets in self.asked]


def an_address(query: dns.message.Message) -> bytes:
    """The provider's example: one address."""
    response = dns.message.make_response(query, recursion_available=True, our_payload=1536)
    response.answer.append(dns.rrset.from_text(query.question[0].name, 2347, "IN", "A", "93.184.216.34"))
    return response.to_wire()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def site(certificates: Certificates) -> Iterator[Site]:
    """A well-behaved server."""
    made = Site()
    with serve(made.answer, ServerContext(certificates.chain), port=0) as server:
        made.port = server.port
        yield made


@pytest.fixture
def at(site: Site, certificates: Certificates) -> str:
    """How to reach the site, and whom to trust: options of ``dot-proto query``."""
    return f"@127.0.0.1 -p {site.port} +tls-ca={certificates.root} +tls-host={NAME}"


@pytest.fixture
def site_with(certificates: Certificates) -> Iterator[Callable[[Path], Site]]:
    """A well-behaved server with another certificate."""
    with ExitStack() as servers:

        def start(chain: Path) -> Site:
            made = Site()
            made.port = servers.enter_context(serve(made.answer, ServerContext(chain), port=0)).port
            return made

        yield start


class Rogue:
    """A server on plain sockets; it takes one connection, and leaves it to ``behave``."""

    def __init__(self, behave: Callable[[socket.socket], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._behave = behave
        self._is_over = threading.Event()
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError), self._listener:
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(10.0)
                self._behave(connection)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10.0)
        assert not self._thread.is_alive()


@pytest.fixture
def rogue() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """Starts a server that does what it is told with the bare connection; gives its port."""
    with ExitStack() as servers:

        def start(behave: Callable[[socket.socket], None]) -> int:
            server = Rogue(behave)
            servers.callback(server.close)
            return server.port

        yield start


@pytest.fixture
def tls_rogue(
    rogue: Callable[[Callable[[socket.socket], None]], int], certificates: Certificates
) -> Callable[..., int]:
    """Starts a server that shakes hands, reads one query, and then does what it is told; gives its port."""

    def start(behave: Behaviour, **settings: object) -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.chain)
        for name, value in settings.items():
            setattr(context, name, value)

        def serve_one(connection: socket.socket) -> None:
            with context.wrap_socket(connection, server_side=True) as tls:
                behave(tls, tls.recv(65_537))

        return rogue(serve_one)

    return start
