"""A DNS over TLS server that alone knows some names, and a web server on loopback that they lead to."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dot_io.testing import Authority, LoopbackServer
from dot_proto import Upstream, certificates_from

WORDS = "the right server\n"


class Page(http.server.BaseHTTPRequestHandler):
    """Says its words, and nothing on the terminal."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(WORDS)))
        self.end_headers()
        self.wfile.write(WORDS.encode())

    def log_message(self, *_: object) -> None:
        pass


class Names:
    """What the tests know of both servers."""

    def __init__(self, server: LoopbackServer, upstream: Upstream, web_port: int) -> None:
        self.server = server
        self.upstream = upstream
        self.web_port = web_port
        self.words = WORDS

    def url(self, host: str = "web.example") -> str:
        return f"http://{host}:{self.web_port}/"

    def asked(self) -> list[str]:
        """The names that the DNS server was asked for, each once, in their order; then all is forgotten."""
        names = list(dict.fromkeys(query.name for query in self.server.queries))
        self.server.queries.clear()
        return names


@pytest.fixture(scope="session", name="web_port")
def web_port_fixture() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(name="names")
def names_fixture(tmp_path: Path, web_port: int) -> Iterator[Names]:
    authority = Authority(tmp_path, "hooks")
    with LoopbackServer(authority.issue("dot.test")) as server:
        server.answers["web.example", "A"] = ["127.0.0.1"]
        server.answers["alias.example", "CNAME"] = ["web.example."]
        server.answers["v6.example", "AAAA"] = ["::1"]
        server.answers["short.corp.example", "A"] = ["127.0.0.1"]
        server.answers["7.2.0.192.in-addr.arpa", "PTR"] = ["host.example."]
        anchors = certificates_from(authority.root_file.read_bytes())
        upstream = Upstream(name="dot.test", addresses=[server.host], port=server.port, trust_anchors=anchors)
        yield Names(server, upstream, web_port)
