"""What a site says in openssl.cnf, and an OpenSSL that can do nothing; OpenSSL reads the file once in a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.pki import Pki
from support.pki import pki_fixture as pki_fixture

HEAD = """
# as the crypto policies of distributions have it
openssl_conf = openssl_init  # by this name alone
where = {folder}

[openssl_init]
ssl_conf = ssl_module

[ ssl_module ]
system_default = crypto_policy

[crypto_policy]
"""

NOTHING = """
openssl_conf = openssl_init
[openssl_init]
providers = providers
alg_section = algorithms
[providers]
base = base
[base]
activate = 1
[algorithms]
default_properties = fips=yes
"""
"A FIPS configuration without the provider's module."

MAKE = """
import json, sys
from dot_io.errors import TLSLibraryError
from dot_io.tls import ClientContext, ServerContext, TLSVersion
from dot_proto import AuthenticationPolicy, LocalProtocolError

asked = {name: TLSVersion[value] for name, value in json.loads(sys.argv[2]).items()}
told = []
for make in (
    lambda: ClientContext(AuthenticationPolicy.opportunistic(), **asked), lambda: ServerContext(sys.argv[1], **asked)
):
    try:
        context = make()._context
    except (TLSLibraryError, LocalProtocolError) as error:
        told.append(f"{type(error).__name__}: {error}")
    else:
        told.append([
            context.minimum_version.name, context.maximum_version.name, context.security_level,
            [suite["name"] for suite in context.get_ciphers()],
        ])
print(json.dumps(told))
"""


def run(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env={**os.environ, "OPENSSL_CONF": str(site)}
    )


def made(pki: Pki, site: Path, **asked: str) -> list[Any]:
    """What a client's and a server's context come to."""
    done = run(site, "-c", MAKE, str(pki.file(*pki.honest)), json.dumps(asked))
    assert done.returncode == 0, done.stderr
    told: list[Any] = json.loads(done.stdout)
    return told


@pytest.fixture(name="site")
def site_fixture(tmp_path: Path) -> Path:
    return tmp_path / "openssl.cnf"


AES = ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"]
MAX = "MAXIMUM_SUPPORTED"


@pytest.mark.parametrize(
    ("settings", "least", "greatest", "level"),
    [
        ("MinProtocol = TLSv1.3", "TLSv1_3", MAX, 2),
        ("TLS.MinProtocol = TLSv1.3\nDTLS.MinProtocol = DTLSv1.2", "TLSv1_3", MAX, 2),
        ("minprotocol = 'TLSv1.3'", "TLSv1_3", MAX, 2),
        ("MinProtocol = TLS\\\nv1.3", "TLSv1_3", MAX, 2),
        ("least = TLSv1.3\nMinProtocol = ${crypto_policy::least}", "TLSv1_3", MAX, 2),
        ("MinProtocol = TLSv1", "TLSv1_2", MAX, 2),
        ("MaxProtocol = TLSv1.2", "TLSv1_2", "TLSv1_2", 2),
        ("CipherString = DEFAULT:@SECLEVEL=3", "TLSv1_2", MAX, 3),
        ("CipherString = DEFAULT:@SECLEVEL=0", "TLSv1_2", MAX, 2),
        ("CipherString = AES256-SHA", "TLSv1_3", MAX, 2),
        ("CipherString = NONSENSE", "TLSv1_3", MAX, 2),
        ("NoSuchCommand = 1", "TLSv1_2", MAX, 2),
    ],
)
def test_the_stricter_of_the_sites_and_ours(
    pki: Pki, site: Path, settings: str, least: str, greatest: str, level: int
) -> None:
    """FR-78: versions and security level, client and server."""
    site.write_text(HEAD + settings)
    for one in made(pki, site):
        assert one[:3] == [least, greatest, level]


def test_suites_that_both_allow(pki: Pki, site: Path) -> None:
    """FR-78: of TLS 1.2 and of TLS 1.3; ours leave out CBC and static RSA, whatever the site allows."""
    site.write_text(f"{HEAD}CipherString = kEECDH+AES256:kRSA\nCiphersuites = TLS_AES_256_GCM_SHA384")
    for one in made(pki, site):
        assert one[3] == ["TLS_AES_256_GCM_SHA384", *AES]


@pytest.mark.parametrize("how", [".include = {file}", ".include {file}", ".include = {folder}", ".include = $where"])
def test_files_that_are_included(pki: Pki, site: Path, how: str) -> None:
    """FR-78: as Fedora and RHEL do; what is included belongs to the section where it stands."""
    folder = site.with_name("back-ends")
    folder.mkdir()
    (folder / "opensslcnf.conf").write_text("TLS.MinProtocol = TLSv1.3\n[other]\nMinProtocol = TLSv1\n")
    text = HEAD.replace("{folder}", str(folder)) + how.format(file=folder / "opensslcnf.conf", folder=folder)
    site.write_text(text)
    assert [one[0] for one in made(pki, site)] == ["TLSv1_3", "TLSv1_3"]


def test_a_file_that_includes_itself(pki: Pki, site: Path) -> None:
    site.write_text(f"{HEAD}MinProtocol = TLSv1.3\n.include = {site}\n")
    assert len(made(pki, site)) == 2


def test_what_the_caller_asks_for_by_name(pki: Pki, site: Path) -> None:
    """FR-78: versions that are given are the caller's; where that leaves none, it is said."""
    site.write_text(f"{HEAD}MinProtocol = TLSv1.3")
    for one in made(pki, site, minimum_version="TLSv1_2", maximum_version="TLSv1_2"):
        assert one[:2] == ["TLSv1_2", "TLSv1_2"]
    for one in made(pki, site, maximum_version="TLSv1_2"):
        assert one.startswith("LocalProtocolError: no TLS version is left")
    site.write_text(f"{HEAD}MaxProtocol = TLSv1.1")
    for one in made(pki, site):
        assert one.startswith("TLSLibraryError: OpenSSL ")
        assert f"OPENSSL_CONF={site}" in one


@pytest.mark.parametrize("text", ["", "[openssl_init", "openssl_conf = nowhere\n", "\0\xff[x]=y", None])
def test_files_that_say_nothing(pki: Pki, site: Path, text: str | None) -> None:
    """OpenSSL goes on without them, and so do we."""
    if text is not None:
        site.write_text(text)
    for one in made(pki, site):
        assert one[:3] == ["TLSv1_2", MAX, 2]


def test_an_openssl_without_ciphers(pki: Pki, site: Path) -> None:
    """FR-84: an error of ours names the configuration, in both roles."""
    site.write_text(NOTHING)
    for one in made(pki, site):
        assert one.startswith("TLSLibraryError: OpenSSL ")
        assert "library has no ciphers" in one
        assert f"OPENSSL_CONF={site}" in one


@pytest.mark.parametrize("words", [(), ("+json",), ("+tls-ca",)], ids=["text", "json", "tls-ca"])
def test_the_command_without_ciphers(pki: Pki, site: Path, words: tuple[str, ...]) -> None:
    """FR-84: one clear line, which blames neither the network nor the trust anchors."""
    site.write_text(NOTHING)
    anchor = site.with_name("ca.pem")
    anchor.write_bytes(pki.root.pem)
    more = [f"+tls-ca={anchor}" if word == "+tls-ca" else word for word in words]
    done = run(site, "-m", "dot_io.cli", "query", "@127.0.0.1", "-p", "1", "+tls-host=dot.test", *more, "example.com")
    assert done.returncode == 20
    [line] = done.stderr.splitlines()
    assert line.startswith("dot-proto: OpenSSL ")
    assert f"OPENSSL_CONF={site}" in line
    assert "tls-ca" not in line
    assert ("OPENSSL_CONF" in done.stdout) is (words == ("+json",))
