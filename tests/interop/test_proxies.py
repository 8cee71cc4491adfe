"""Other people's proxies in front of our servers, with and without the PROXY protocol: HAProxy, dnsdist."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import pytest

from conformance.adapters import Backend
from dot_io.blocking import Peer
from interop.forwarders import DNSDIST_HEAD, forwarder
from support.credentials import NAME, Credentials
from support.peers import answer, name_in

pytestmark = pytest.mark.interop

CLIENT, PROXY = "127.1.2.3", "127.0.0.1"

NAME_ASKED = "one"

PAGE = (Path(__file__).parents[2] / "docs" / "server.md").read_text("utf-8")


def configuration(language: str) -> str:
    """What the page tells a proxy, with addresses and files of this machine."""
    [text] = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    for shown, meant in {
        "10.0.0.2:853": "127.0.0.1:$upstream",
        ":853": "127.0.0.1:$port",
        "/etc/dnsdist/root.pem": "$root",
        "dns.example.net": "$name",
    }.items():
        text = text.replace(shown, meant)
    return text


HAPROXY, DNSDIST = configuration("haproxy"), DNSDIST_HEAD + configuration("lua")

PROXIES = {
    "HAProxy, version 1": ("haproxy", HAPROXY.replace("send-proxy-v2", "send-proxy")),
    "HAProxy, version 2": ("haproxy", HAPROXY),
    "dnsdist": ("dnsdist", DNSDIST),
}

WITHOUT = {
    "haproxy": HAPROXY.replace("send-proxy-v2 check-send-proxy check", ""),
    "dnsdist": DNSDIST.replace(", useProxyProtocol=true", ""),
}


class Site:
    """A handler that remembers who asked."""

    def __init__(self) -> None:
        self.hosts: list[str] = []

    def __call__(self, query: bytes, peer: Peer) -> bytes:
        if name_in(query) == NAME_ASKED:  # and not a health check of dnsdist's
            self.hosts.append(peer.host)
        return answer(query)


@pytest.fixture
def site() -> Site:
    return Site()


def ask(proxy: str, port: int, credentials: Credentials, timeout: float = 5.0) -> list[str]:
    """From the client's address: over TLS through HAProxy, over UDP of dnsdist, which asks over TLS in its place."""
    query = dns.message.make_query(f"{NAME_ASKED}.example", "A")
    where = {"where": PROXY, "port": port, "source": CLIENT, "timeout": timeout}
    if proxy == "dnsdist":
        response = dns.query.udp(query, **where)
    else:
        context = ssl.create_default_context(cafile=str(credentials.root_file))
        response = dns.query.tls(query, ssl_context=context, server_hostname=NAME, **where)
    return [record.to_text() for records in response.answer for record in records]


@pytest.mark.parametrize("name", WITHOUT)
def test_without_the_proxy_protocol_the_proxy_is_the_client(
    name: str, api: Backend, site: Site, credentials: Credentials, tmp_path: Path
) -> None:
    """HAProxy hands octets on, and TLS is between the client and us; dnsdist has a session of its own."""
    with (
        api.serving(site, credentials.context) as server,
        forwarder(name, tmp_path, credentials, server.port, WITHOUT[name]) as port,
    ):
        assert ask(name, port, credentials) == ["192.0.2.1"]
    assert set(site.hosts) == {PROXY}


@pytest.mark.parametrize("what", PROXIES)
def test_the_client_is_known_behind_a_proxy(
    what: str, api: Backend, site: Site, credentials: Credentials, tmp_path: Path
) -> None:
    """FR-34: by the header that is sent before TLS, or first inside it; health checks do no harm."""
    name, text = PROXIES[what]
    with (
        api.serving(site, credentials.context, proxy_from=[PROXY]) as server,
        forwarder(name, tmp_path, credentials, server.port, text) as port,
    ):
        assert ask(name, port, credentials) == ["192.0.2.1"]
    assert set(site.hosts) == {CLIENT}


@pytest.mark.parametrize("what", PROXIES)
def test_a_proxy_that_is_not_named_is_not_believed(
    what: str, api: Backend, site: Site, credentials: Credentials, tmp_path: Path
) -> None:
    """FR-34: else whoever may come from anywhere could say who he is; his header is no TLS, and he is turned away."""
    name, text = PROXIES[what]
    with (
        api.serving(site, credentials.context, proxy_from=["192.0.2.0/24"]) as server,
        forwarder(name, tmp_path, credentials, server.port, text) as port,
        pytest.raises((dns.exception.Timeout, OSError, EOFError)),
    ):
        ask(name, port, credentials, timeout=1.0)
    assert site.hosts == []
