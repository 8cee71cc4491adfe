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
from support.peers import answer

pytestmark = pytest.mark.interop

CLIENT, PROXY = "127.1.2.3", "127.0.0.1"

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

PROXIES = {"version 1": HAPROXY.replace("send-proxy-v2", "send-proxy"), "version 2": HAPROXY}

WITHOUT = {"haproxy": HAPROXY.replace("send-proxy-v2 check-send-proxy check", ""), "dnsdist": DNSDIST}


class Site:
    """A handler that remembers who asked."""

    def __init__(self) -> None:
        self.hosts: list[str] = []

    def __call__(self, query: bytes, peer: Peer) -> bytes:
        self.hosts.append(peer.host)
        return answer(query)


@pytest.fixture
def site() -> Site:
    return Site()


def ask(proxy: str, port: int, credentials: Credentials, timeout: float = 5.0) -> list[str]:
    """From the client's address: over TLS through HAProxy, over UDP of dnsdist, which asks over TLS in its place."""
    query = dns.message.make_query("one.example", "A")
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


@pytest.mark.parametrize("version", PROXIES)
def test_the_client_is_known_behind_haproxy(
    version: str, api: Backend, site: Site, credentials: Credentials, tmp_path: Path
) -> None:
    """FR-34: by the header that it sends before TLS; its health checks, which send no TLS, do no harm."""
    with (
        api.serving(site, credentials.context, proxy_from=[f"{PROXY}/32"]) as server,
        forwarder("haproxy", tmp_path, credentials, server.port, PROXIES[version]) as port,
    ):
        assert ask("haproxy", port, credentials) == ["192.0.2.1"]
    assert site.hosts == [CLIENT]


@pytest.mark.parametrize("version", PROXIES)
def test_a_proxy_that_is_not_named_is_not_believed(
    version: str, api: Backend, site: Site, credentials: Credentials, tmp_path: Path
) -> None:
    """FR-34: else whoever may come from anywhere could say who he is; his header is no TLS, and he is turned away."""
    with (
        api.serving(site, credentials.context, proxy_from=["192.0.2.0/24"]) as server,
        forwarder("haproxy", tmp_path, credentials, server.port, PROXIES[version]) as port,
        pytest.raises((OSError, EOFError)),
    ):
        ask("haproxy", port, credentials)
    assert site.hosts == []


@pytest.mark.parametrize("named", [PROXY, "192.0.2.1"])
def test_the_header_of_dnsdist_is_inside_tls(
    named: str, api: Backend, site: Site, credentials: Credentials, tmp_path: Path
) -> None:
    """Hence the page leaves it out: whether it is named in proxy_from or not, it gets no answer with it."""
    text = DNSDIST.replace("maxInFlight=100", "maxInFlight=100, useProxyProtocol=true")
    with (
        api.serving(site, credentials.context, proxy_from=[named]) as server,
        forwarder("dnsdist", tmp_path, credentials, server.port, text) as port,
        pytest.raises(dns.exception.Timeout),
    ):
        ask("dnsdist", port, credentials, timeout=1.0)
    assert site.hosts == []
