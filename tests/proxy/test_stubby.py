"""``stubby.yml`` as a proxy's settings: nothing is asked in the clear, and nothing asks for less (P26)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dot_io.cli import main
from dot_io.proxy.settings import ProxySettings
from dot_io.proxy.stubby import LEFT_OUT, READ, REFUSED, settings_from_stubby
from dot_proto import Strategy, UpstreamError

FILE = """\
resolution_type: GETDNS_RESOLUTION_STUB
dns_transport_list:
  - GETDNS_TRANSPORT_TLS
tls_authentication: GETDNS_AUTHENTICATION_REQUIRED
tls_query_padding_blocksize: 128
edns_client_subnet_private : 1
round_robin_upstreams: 1
idle_timeout: 10000
timeout: 3000
limit_outstanding_queries: 200
listen_addresses:
  - 127.0.0.1@5353
  - 0::1
dnssec: GETDNS_EXTENSION_FALSE
upstream_recursive_servers:
  - address_data: 192.0.2.15
    tls_auth_name: "dns.example"
    tls_pubkey_pinset:
      - digest: "sha256"
        value: 62lKu9HsDVbyiPenApnc4sfmSYTHOVfFgL3pyB+cBL4=
  - address_data: 2001:db8::15
    tls_auth_name: "dns.example"
    tls_port: 8853
"""
"The form of Debian's, with every key that is read."


def data(**changes: Any) -> dict[str, Any]:
    return yaml.safe_load(FILE) | changes


def test_what_it_says_is_kept() -> None:
    """P26."""
    settings, warnings = settings_from_stubby(data())
    read = ProxySettings.parse(settings, read_file=lambda name: b"")
    first, second = read.upstreams
    assert (first.name, first.addresses, len(first.pins)) == ("dns.example", ("192.0.2.15",), 1)
    assert (second.addresses, second.port, second.is_opportunistic) == (("2001:db8::15",), 8853, False)
    configuration = read.configuration
    assert configuration.listen == (("127.0.0.1", 5353), ("::1", 53))
    assert (configuration.wait_for_upstream, configuration.max_in_flight) == (3.0, 200)
    assert (configuration.client_subnet.value, configuration.resolver.strategy) == ("zero", Strategy.ROUND_ROBIN)
    assert [warning.partition(" ")[0] for warning in warnings] == [key for key in data() if key in LEFT_OUT]


@pytest.mark.parametrize(
    "changes",
    [
        {"tls_authentication": "GETDNS_AUTHENTICATION_NONE"},
        {"tls_authentication": None},
        {"dns_transport_list": ["GETDNS_TRANSPORT_TLS", "GETDNS_TRANSPORT_UDP"]},
    ],
)
def test_what_authenticates_nobody_is_opportunistic_with_a_warning(changes: dict[str, Any]) -> None:
    """P26: and never cleartext."""
    settings, warnings = settings_from_stubby(data(**changes))
    assert warnings[-1].startswith("upstreams need not authenticate themselves here")
    read = ProxySettings.parse(settings, read_file=lambda name: b"")
    assert all(upstream.is_opportunistic for upstream in read.upstreams)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"dnssec": "GETDNS_EXTENSION_TRUE"}, "dnssec: answers are not validated here"),
        ({"tls_ca_path": "/etc/ssl/certs"}, "tls_ca_path: a folder of trust anchors is not read"),
        ({"round_robin_upstream": 1}, "unknown key 'round_robin_upstream'; did you mean round_robin_upstreams?"),
        ({"timeout": "5s"}, "timeout: a whole number is wanted, not '5s'"),
        ({"listen_addresses": "127.0.0.1"}, "listen_addresses: a list of ADDRESS or ADDRESS@PORT is wanted"),
        ({"upstream_recursive_servers": []}, "upstream_recursive_servers: a list with at least one server"),
        (
            {"upstream_recursive_servers": [{"address_data": "192.0.2.1", "tls_pubkey_pinset": [{"digest": "sha1"}]}]},
            "upstream_recursive_servers[0]: tls_pubkey_pinset[0]: digest: sha256, and value, are wanted",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused(changes: dict[str, Any], problem: str) -> None:
    """P26: a bad pin, and what would ask for less without it."""
    with pytest.raises(UpstreamError) as raised:
        settings_from_stubby(data(**changes))
    [found] = raised.value.problems
    assert found.startswith(problem)


def test_every_key_is_of_one_kind() -> None:
    assert not set(READ) & set(LEFT_OUT) | set(READ) & set(REFUSED) | set(LEFT_OUT) & set(REFUSED)
    with pytest.raises(UpstreamError, match="a file of keys is wanted"):
        settings_from_stubby("text")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints the file that says the same in TOML; flags beat it; what is wrong is told with the file."""
    file = tmp_path / "stubby.yml"
    file.write_text(FILE)
    assert main(["proxy", "--from-stubby", str(file), "--listen", "127.0.0.1:5454", "--print-config"]) == 0
    out, err = capsys.readouterr()
    assert 'listen = ["127.0.0.1:5454"]' in out
    assert out.count("[[upstream]]") == 2
    assert err.startswith(f"dot-proto: {file}: resolution_type is left out: ")
    file.write_text(FILE + "timeuot: 4\n")
    assert main(["proxy", "--from-stubby", str(file), "--check"]) == 1
    assert capsys.readouterr().err == f"dot-proto: {file}: unknown key 'timeuot'; did you mean timeout?\n"
    file.write_text("a: [")
    assert main(["proxy", "--from-stubby", str(file), "--check"]) == 1
    assert f"dot-proto: {file}: no YAML: " in capsys.readouterr().err
    assert main(["proxy", "--from-stubby", str(file), "--config", "x", "--check"]) == 1


def test_without_pyyaml_it_says_what_to_install(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['yaml'] = None\n"
        "import builtins\n"
        "from dot_io.cli import main\n"
        f"sys.exit(main(['proxy', '--from-stubby', {str(tmp_path)!r}, '--check']))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "the package 'yaml' is needed here and is not installed: pip install 'dot-proto[stubby]'" in ended.stderr
