"""What ``dot-proto query`` sends: octets compared with kdig's, EDNS options, TSIG, addresses, certificates, SNI."""

from __future__ import annotations

import shlex
import shutil
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import dns.message
import dns.name
import dns.rcode
import dns.rrset
import dns.tsig
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

from cli.conftest import NAME, Certificates, Run, Site
from dot_io.blocking import Peer, serve
from dot_io.cli._errors import UsageError
from dot_io.cli.exit_codes import ExitCode
from dot_io.cli.keys import Key
from dot_io.cli.queries import build
from dot_io.cli.query_line import parse_query
from dot_io.tls import ServerContext

LIMIT = 20.0
"Seconds that kdig may take; it needs a twentieth of one."

NEEDS_KDIG = pytest.mark.skipif(shutil.which("kdig") is None, reason="kdig is not installed")

SAME = [
    "a.test",
    "a.test AAAA",
    "CH TXT version.bind",
    "-x 192.0.2.1",
    ". NS",
    "a.test +dnssec",
    "a.test +cdflag",
    "a.test +noadflag",
    "a.test +norecurse",
    "a.test +aaflag +tcflag +raflag +zflag",
    "a.test +nsid",
    "a.test +subnet=192.0.2.77/24",
    "a.test +subnet=2001:db8::/56",
    "a.test +subnet=192.0.2.77/31",
    "a.test +cookie=0011223344556677",
    "a.test +cookie=00112233445566778899aabbccddeeff",
    "a.test +noedns",
    "a.test +dnssec +nsid +cdflag",
    "a.test +alignment=64",
    "a.test +alignment=200",
    "a.test TYPE65280",
    "xn--bcher-kva.test MX",
    "bücher.test MX",
]
"Lines whose query has the same octets from kdig and from us, but for the id; kdig states a payload of 4096 octets."


@NEEDS_KDIG
@pytest.mark.parametrize("line", SAME)
def test_octets_are_those_of_kdig(line: str, run: Run, at: str, site: Site) -> None:
    """Q11."""
    size = "" if "+noedns" in line else "+bufsize=1232"
    subprocess.run(["kdig", *shlex.split(f"{at} {size} +retry=0 {line}")], capture_output=True, timeout=LIMIT)
    run(f"query {at} {size} {line}")
    theirs, ours = site.asked
    assert ours[2:] == theirs[2:]


@NEEDS_KDIG
@pytest.mark.parametrize(
    "line",
    [
        "a.test +expire",
        "a.test +ednsopt=65001:beef",
        "a.test +ednsopt=65001",
        "a.test +ednsopt=65001:00 +ednsopt=65002:ff",
        "a.test +nsid +expire +dnssec",
    ],
)
def test_octets_are_those_of_kdig_without_padding(line: str, run: Run, at: str, site: Site) -> None:
    """kdig's padding does not count the options that it puts behind it; RFC 8467, section 3, has padding last."""
    words = f"{at} +bufsize=1232 +nopadding {line}"
    subprocess.run(["kdig", *shlex.split(f"{words} +retry=0")], capture_output=True, timeout=LIMIT)
    run(f"query {words}")
    theirs, ours = site.asked
    assert ours[2:] == theirs[2:]


@pytest.mark.parametrize(
    ("words", "code", "data"),
    [
        ("+nsid", 3, b""),
        ("+subnet=192.0.2.255/25", 8, b"\0\1\x19\0\xc0\0\2\x80"),
        ("+subnet=0/0", 8, b"\0\1\0\0"),
        ("+subnet=0", 8, b"\0\1\0\0"),
        ("+subnet=2001:db8::/32", 8, b"\0\2\x20\0\x20\1\x0d\xb8"),
        ("+expire", 9, b""),
        ("+cookie=0011223344556677", 10, bytes.fromhex("0011223344556677")),
        ("+keepalive", 11, b""),
        ("+ednsopt=dau:0d0f", 5, b"\x0d\x0f"),
        ("+ednsopt=65001", 65001, b""),
        ("+ednsopt=65535:00", 65535, b"\0"),
    ],
)
def test_option(words: str, code: int, data: bytes) -> None:
    """Q11: RFC 5001, 7871, 7314, 7873, 7828 and any other."""
    [asked] = parse_query(["@s", "+nopadding", *words.split(), "a.test"])
    octets = build(asked)
    assert octets[-4 - len(data) :] == struct.pack("!HH", code, len(data)) + data
    assert dns.message.from_wire(octets).options[0].otype == code


def test_cookies_are_drawn_anew() -> None:
    """RFC 7873, section 4.1."""
    [asked] = parse_query(["@s", "+nopadding", "+cookie", "a.test"])
    assert len({build(asked)[-8:] for _ in range(4)}) == 4


@pytest.mark.parametrize("block", [1, 17, 64, 128, 468, 65535])
@pytest.mark.parametrize("words", ["", "+cookie +nsid", "-y k:c2VjcmV0", "-y hmac-sha512:k.test:c2VjcmV0"])
def test_padding_counts_all_that_is_sent(block: int, words: str) -> None:
    """RFC 8467, section 4.1, the signature included."""
    [asked] = parse_query(["@s", f"+padding={block}", *words.split(), "a.test"])
    octets = build(asked)
    assert len(octets) % block == 0 or len(octets) == 65_535
    dns.message.from_wire(octets, keyring=False)


@pytest.mark.parametrize("octets", [65_000, 65_480, 65_485, 65_490, 65_530, 65_536, 70_000])
def test_a_query_that_is_too_long(octets: int) -> None:
    """Told, and padding is left out where it has no room."""
    [asked] = parse_query(["@s", f"+ednsopt=65001:{'00' * octets}", "a.test"])
    if octets > 65_490:
        with pytest.raises(UsageError, match="a message has 65535 at most"):
            build(asked)
    else:
        assert octets < len(build(asked)) <= 65_535


# TSIG.

KEY = dns.tsig.Key("k.test.", b"secret", "hmac-sha256")
WORDS = "-y k.test:c2VjcmV0"


class Signing:
    """A server that takes signed queries alone (RFC 8945, section 5.2), and signs what it answers."""

    def __init__(self) -> None:
        self.port = 0
        self.key: dns.tsig.Key | None = KEY
        self.change: Callable[[bytes], bytes] = bytes
        "What becomes of the response."
        self.seen: list[dns.rcode.Rcode] = []

    def answer(self, octets: bytes, peer: Peer) -> bytes:
        query = dns.message.from_wire(octets, keyring={KEY.name: KEY})
        self.seen.append(query.tsig_error)
        response = dns.message.make_response(query)
        response.answer.append(dns.rrset.from_text("a.test.", 60, "IN", "A", "192.0.2.1"))
        response.tsig = None
        if self.key is not None:
            response.use_tsig(self.key)
        return self.change(response.to_wire())


@pytest.fixture
def signing(certificates: Certificates) -> Iterator[Signing]:
    made = Signing()
    with serve(made.answer, ServerContext(certificates.chain), port=0) as server:
        made.port = server.port
        yield made


@pytest.fixture
def where(signing: Signing, certificates: Certificates) -> str:
    return f"@127.0.0.1 -p {signing.port} +tls-ca={certificates.root} +tls-host={NAME}"


def test_tsig(run: Run, signing: Signing, where: str) -> None:
    """Q12: the query is signed, and the answer's signature is checked; the key on the line is warned of."""
    code, out, err = run(f"query {where} {WORDS} a.test")
    assert (code, signing.seen) == (ExitCode.ANSWER, [0])
    assert "\n;; TSIG PSEUDOSECTION:\n;; k.test." in out
    assert err == (
        "dot-proto: warning: whoever lists the processes of this machine sees the key of -y; -k FILE hides it\n"
    )


def test_tsig_by_a_file(run: Run, signing: Signing, where: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text('key "k.test" { algorithm hmac-sha256; secret "c2VjcmV0"; };')
    assert run(f"query {where} -k {file} +short a.test b.test") == (0, "192.0.2.1\n192.0.2.1\n", "")


def _with_another_address(response: bytes) -> bytes:
    return response.replace(b"\xc0\0\2\1", b"\xc0\0\2\2")


@pytest.mark.parametrize(
    ("change", "key", "says"),
    [
        (bytes, None, "the answer is not signed"),
        (_with_another_address, KEY, "signature"),
        (bytes, dns.tsig.Key("k.test.", b"another", "hmac-sha256"), "signature"),
        (bytes, dns.tsig.Key("other.test.", b"secret", "hmac-sha256"), "key"),
    ],
)
def test_answer_with_a_wrong_signature(
    change: Callable[[bytes], bytes], key: dns.tsig.Key | None, says: str, run: Run, signing: Signing, where: str
) -> None:
    """Q12: shown, since TLS vouches for the server; but never with code 0."""
    signing.change, signing.key = change, key
    code, out, err = run(f"query {where} {WORDS} +short a.test")
    assert code == ExitCode.PROTOCOL == 24
    assert out.startswith("192.0.2.")
    last = err.splitlines()[-1]
    assert last.startswith("dot-proto: TSIG: ")
    assert says in last


def test_clocks_that_differ(run: Run, signing: Signing, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """BADTIME (RFC 8945, section 5.2.3)."""
    import time

    now = time.time()

    def later(response: bytes) -> bytes:
        monkeypatch.setattr("dot_io.cli.tsig.time.time", lambda: now + 3600)
        return response

    signing.change = later
    code, _, err = run(f"query {where} {WORDS} a.test")
    assert code == ExitCode.PROTOCOL
    assert "time" in err.splitlines()[-1]


def test_secret_is_shown_nowhere() -> None:
    assert "c2VjcmV0" not in repr(Key("k.", "hmac-sha256.", b"c2VjcmV0"))


# Addresses.


@pytest.fixture
def peers(certificates: Certificates) -> Iterator[tuple[int, list[Peer]]]:
    """A server on both families, and who asked it."""
    seen: list[Peer] = []

    def answer(octets: bytes, peer: Peer) -> bytes:
        seen.append(peer)
        return dns.message.make_response(dns.message.from_wire(octets)).to_wire()

    with ExitStack() as stack:
        first = stack.enter_context(serve(answer, ServerContext(certificates.chain), port=0))
        yield first.port, seen


def test_address_of_ours(run: Run, peers: tuple[int, list[Peer]], certificates: Certificates) -> None:
    """Q12: ``-b``, with a port and without."""
    port, seen = peers
    where = f"-p {port} +tls-ca={certificates.root}"
    assert run(f"query @127.0.0.1 {where} -b 127.0.0.3 a.test").code == 0
    assert seen[0].host == "127.0.0.3"
    with socket.create_server(("127.0.0.4", 0)) as taken:
        free = taken.getsockname()[1]
    assert run(f"query @127.0.0.1 {where} -b 127.0.0.4#{free} a.test").code == 0
    assert (seen[1].host, seen[1].port) == ("127.0.0.4", free)


def test_address_that_is_not_ours(run: Run) -> None:
    code, out, err = run("query @127.0.0.1 -p 1 -b 192.0.2.1 a.test")
    assert (code, out) == (ExitCode.NO_REPLY, "")
    assert "Cannot assign requested address" in err


@pytest.mark.parametrize("word", ["-4", "-6"])
def test_family(
    word: str, run: Run, peers: tuple[int, list[Peer]], certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Q12: addresses of the other family are left out, and none is left for -6 here."""
    port, seen = peers

    def both(host: str, port: int, *_: object, **__: object) -> list[object]:
        kind = socket.SOCK_STREAM, socket.IPPROTO_TCP
        return [
            (socket.AF_INET, *kind, "", ("127.0.0.1", port)),
            *([(socket.AF_INET6, *kind, "", ("100::1", port, 0, 0))] if word == "-4" else []),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    code, _, err = run(f"query {word} @localhost -p {port} +tls-ca={certificates.root} a.test")
    if word == "-4":
        assert (code, len(seen)) == (0, 1)
    else:
        assert code == ExitCode.NO_REPLY
        assert "it has no address" in err


# Our own certificate, and SNI.


def test_client_certificate(run: Run, certificates: Certificates, tmp_path: Path) -> None:
    """Q12: certificate and key in one file or in two."""
    client, _ = certificates.issue("client.test")
    pem = client.read_bytes()
    key = load_pem_private_key(pem, None)
    assert key is not None
    end = pem.index(b"-----BEGIN CERTIFICATE")
    key_file, chain_file = tmp_path / "key.pem", tmp_path / "chain.pem"
    key_file.write_bytes(pem[:end])
    chain_file.write_bytes(pem[end:])
    anchor = load_pem_x509_certificate(certificates.root.read_bytes())
    seen: list[bytes] = []

    def answer(octets: bytes, peer: Peer) -> bytes:
        seen.append(octets)
        return dns.message.make_response(dns.message.from_wire(octets)).to_wire()

    from cryptography.hazmat.primitives.serialization import Encoding

    context = ServerContext(certificates.chain, client_trust_anchors=[anchor.public_bytes(Encoding.DER)])
    with serve(answer, context, port=0) as server:
        where = f"@127.0.0.1 -p {server.port} +tls-ca={certificates.root} +tls-host={NAME}"
        assert run(f"query {where} +tls-certfile={client} a.test").code == 0
        assert run(f"query {where} +tls-certfile={chain_file} +tls-keyfile={key_file} a.test").code == 0
        assert run(f"query {where} a.test").code == ExitCode.HANDSHAKE
    assert len(seen) == 2
    other, _ = certificates.issue("other.test")
    code, _, err = run(f"query {where} +tls-certfile={chain_file} +tls-keyfile={other} a.test")
    assert code == ExitCode.USAGE
    assert err.startswith(f"dot-proto: +tls-certfile '{chain_file}': the private key in +tls-keyfile '{other}' is not ")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (f"+tls-host={NAME}", NAME),
        (f"+tls-host={NAME} +tls-sni={NAME}", NAME),
        ("", None),
        ("+opportunistic +tls-sni=sni.test", "sni.test"),
    ],
)
def test_server_name_indication(
    words: str, name: str | None, run: Run, tls_rogue: Callable[..., int], certificates: Certificates
) -> None:
    """Q12: the name that is checked, or another one where none is checked (RFC 6066, section 3)."""
    names: list[str | None] = []
    done = threading.Event()

    def note(_: object, name: str | None, __: object) -> None:
        names.append(name)

    def behave(tls: ssl.SSLSocket, asked: bytes) -> None:
        response = dns.message.make_response(dns.message.from_wire(asked[2:])).to_wire()
        tls.sendall(len(response).to_bytes(2) + response)
        done.wait(LIMIT)

    port = tls_rogue(behave, sni_callback=note)
    anchors = "" if "+opportunistic" in words else f"+tls-ca={certificates.root}"
    try:
        assert run(f"query @127.0.0.1 -p {port} {anchors} {words} a.test").code == 0
    finally:
        done.set()
    assert names == [name]
