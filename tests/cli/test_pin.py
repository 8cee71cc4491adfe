"""``dot-proto pin``: pins of servers and of files, ready for ``+tls-pin=``."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

from cli.conftest import NAME, Certificates, Run, Site
from dot_io.cli.certificates import MAX_FILE
from dot_io.cli.exit_codes import ExitCode
from dot_proto import Pin


def _pins(out: str) -> list[str]:
    """All lines but the comments."""
    return [line for line in out.splitlines() if not line.startswith(";;")]


@pytest.mark.parametrize("word", ["127.0.0.1", "@127.0.0.1"])
def test_server(word: str, run: Run, site: Site, certificates: Certificates) -> None:
    """Leaf first; nobody is trusted and nothing is asked; the output says what it is worth."""
    code, out, err = run(f"pin -p {site.port} {word}")
    assert (code, err) == (0, "")
    assert _pins(out) == [f"+tls-pin={certificates.pin}", f"+tls-pin={certificates.issuer_pin}"]
    assert f";; sent by 127.0.0.1@{site.port}, which was asked nothing.  This proves nothing by itself" in out
    assert re.search(
        rf"^;; #1, .*CN={NAME} \(until \d{{4}}-\d\d-\d\d\): .*may stand alone\n\+tls-pin=", out, re.MULTILINE
    )
    assert re.search(
        r"^;; #2, O=test,OU=intermediate .*only with a name, \+tls-host=NAME\n\+tls-pin=", out, re.MULTILINE
    )
    assert site.asked == []


def test_output_is_what_query_takes(run: Run, site: Site) -> None:
    """The first pin alone lets the server be asked."""
    pin = _pins(run(f"pin @127.0.0.1:{site.port}").out)[0]
    assert run(f"query @127.0.0.1 -p {site.port} {pin} +short example.com") == (0, "93.184.216.34\n", "")


@pytest.mark.parametrize("words", ["@localhost:{port}", "localhost -p {port}", "@127.0.0.1#localhost -p {port}"])
def test_words_for_a_server(words: str, run: Run, site: Site) -> None:
    assert len(_pins(run(f"pin {words.format(port=site.port)}").out)) == 2


def test_name_that_is_asked_for(run: Run, tls_server_names: tuple[int, list[str | None]]) -> None:
    """SNI is the name, and none for an address (RFC 6066, section 3)."""
    port, names = tls_server_names
    for words in ("@127.0.0.1", f"@127.0.0.1#{NAME}", f"@127.0.0.1 +tls-host={NAME}"):
        run(f"pin {words} -p {port}")
    assert names == [None, NAME, NAME]


@pytest.fixture
def tls_server_names(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, site: Site
) -> tuple[int, list[str | None]]:
    """A server's port, and the names that its clients send."""
    from dot_io.tls import ClientContext

    names: list[str | None] = []
    wrap = ClientContext.wrap

    def recording(context: ClientContext, *arguments: object, **keywords: object) -> object:
        tls = wrap(context, *arguments, **keywords)  # type: ignore[arg-type]
        names.append(tls.server_hostname)
        return tls

    monkeypatch.setattr(ClientContext, "wrap", recording)
    return site.port, names


def test_server_as_json(run: Run, site: Site, certificates: Certificates) -> None:
    document = json.loads(run(f"pin @127.0.0.1:{site.port} --json").out)
    assert document["source"] == f"@127.0.0.1:{site.port}"
    assert [key["pin"] for key in document["keys"]] == [str(certificates.pin), str(certificates.issuer_pin)]
    assert document["keys"][0]["subject"].endswith(f"CN={NAME}")


def test_nobody_listens(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    code, out, err = run(f"pin @127.0.0.1 -p {port}")
    assert (code, out) == (ExitCode.NO_REPLY, "")
    assert err.count("\n") == 1


def _leaf(certificates: Certificates) -> bytes:
    """The leaf's certificate in PEM, without key and issuer."""
    text = certificates.chain.read_bytes()
    at = text.index(b"-----BEGIN CERTIFICATE-----")
    return text[at : text.index(b"-----END CERTIFICATE-----") + 26]


def test_file_of_certificates(run: Run, certificates: Certificates, tmp_path: Path) -> None:
    """PEM with more than one certificate, as servers keep them."""
    file = tmp_path / "chain.pem"
    file.write_bytes(_leaf(certificates) + certificates.intermediate.cert_pem.bytes())
    code, out, err = run(f"pin {file}")
    assert (code, err) == (0, "")
    assert out.startswith(f";; {file}: 2 certificates\n;; A server's own pin may stand alone; an issuer's counts only")
    assert re.search(rf"\n;; #1, .*CN={NAME} \(until \d{{4}}-\d\d-\d\d\)\n", out), "a file does not say whose it is"
    assert _pins(out) == [f"+tls-pin={certificates.pin}", f"+tls-pin={certificates.issuer_pin}"]


def test_file_with_a_byte_order_mark(run: Run, certificates: Certificates, tmp_path: Path) -> None:
    """FR-36: the first of two certificates vanished, with exit code 0."""
    file = tmp_path / "chain.pem"
    for text in (
        b"\xef\xbb\xbf" + _leaf(certificates) + certificates.intermediate.cert_pem.bytes(),
        _leaf(certificates) + b"\r\n\xef\xbb\xbf" + certificates.intermediate.cert_pem.bytes(),
    ):
        file.write_bytes(text)
        code, out, err = run(f"pin {file}")
        assert (code, err) == (0, "")
        assert _pins(out) == [f"+tls-pin={certificates.pin}", f"+tls-pin={certificates.issuer_pin}"]


def test_file_that_is_not_read_to_its_end(run: Run, site: Site, certificates: Certificates, tmp_path: Path) -> None:
    """FR-36: what is not read is an error, for pins and for trust anchors, with the line; no pin is shown."""
    file = tmp_path / "chain.pem"
    leaf = _leaf(certificates).rstrip() + b"\n"
    number = leaf.count(b"\n") + 1
    issuer = certificates.intermediate.cert_pem.bytes()
    for text, says in (
        (leaf + issuer.replace(b"-----BEGIN", b"----BEGIN"), f"line {number} is nearly a line of PEM"),
        (leaf.rstrip() + issuer, f"line {number - 1} is nearly a line of PEM"),
        (leaf + issuer.decode().encode("utf-16"), f"line {number} is UTF-16"),
        (leaf + b"text\n" * (MAX_FILE // 5), "more than 16 MiB"),
    ):
        file.write_bytes(text)
        for words in (f"pin {file}", f"query @127.0.0.1 -p {site.port} +tls-ca={file} example.com"):
            code, out, err = run(words)
            assert (code, out) == (ExitCode.USAGE, "")
            assert says in err
    assert site.asked == []


def test_file_of_two_public_keys(run: Run, certificates: Certificates, tmp_path: Path) -> None:
    """FR-36: one of two backup keys would be missing."""
    key = load_pem_private_key(certificates.chain.read_bytes(), None).public_key()
    file = tmp_path / "backup.pub"
    file.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) * 2)
    code, out, err = run(f"pin {file}")
    assert (code, out) == (ExitCode.USAGE, "")
    assert "there is a second public key in line 5" in err


def test_file_in_der(run: Run, certificates: Certificates, tmp_path: Path) -> None:
    file = tmp_path / "leaf.der"
    file.write_bytes(load_pem_x509_certificate(_leaf(certificates)).public_bytes(Encoding.DER))
    assert _pins(run(f"pin {file}").out) == [f"+tls-pin={certificates.pin}"]


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_file_of_a_public_key(encoding: Encoding, run: Run, certificates: Certificates, tmp_path: Path) -> None:
    """A backup key has no certificate yet."""
    key = load_pem_private_key(certificates.chain.read_bytes(), None).public_key()
    file = tmp_path / "backup.key"
    file.write_bytes(key.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo))
    code, out, _ = run(f"pin {file}")
    assert code == 0
    assert _pins(out) == [f"+tls-pin={certificates.pin}"]
    assert json.loads(run(f"pin --json {file}").out)["keys"] == [{"pin": str(certificates.pin)}]


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "neither DER"), (b"\x30\x00", "offset"), (b"-----BEGIN CERTIFICATE-----\n", "has no end")],
)
def test_file_that_holds_neither(content: bytes, says: str, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "some.pem"
    file.write_bytes(content)
    code, out, err = run(f"pin {file}")
    assert (code, out) == (ExitCode.USAGE, "")
    assert err.startswith(f"dot-proto: {file}: ")
    assert says in err


def test_private_key_is_not_read(run: Run, certificates: Certificates) -> None:
    code, _, err = run(f"pin {certificates.chain}")
    assert code == ExitCode.USAGE
    assert "there is a private key in it" in err


@pytest.mark.parametrize("word", ["nowhere.pem", "./nowhere"])
def test_no_such_file(word: str, run: Run) -> None:
    """A word that looks like a file is not looked up in the DNS."""
    code, _, err = run(f"pin {word}")
    assert code == ExitCode.USAGE
    assert "no such file" in err


@pytest.mark.parametrize("words", ["@127.0.0.1 +tls-host=a..b", "@127.0.0.1#a +tls-host=b", "@127.0.0.1:53"])
def test_words_that_cannot_be(words: str, run: Run) -> None:
    assert run(f"pin {words}").code == ExitCode.USAGE


def test_pin_is_of_the_key(run: Run, certificates: Certificates, tmp_path: Path) -> None:
    """PIN: as the command of RFC 7858, appendix A, makes it: SHA-256 of the SubjectPublicKeyInfo."""
    file = tmp_path / "leaf.pem"
    file.write_bytes(_leaf(certificates))
    key = load_pem_x509_certificate(file.read_bytes()).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert _pins(run(f"pin {file}").out) == [f"+tls-pin={Pin.of_public_key(spki)}"]
