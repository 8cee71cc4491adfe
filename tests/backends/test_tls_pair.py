"""Certificate and key from files: what is wrong is named with its cure, nobody is asked, and both can be renewed."""

from __future__ import annotations

import logging
import os
import pty
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates

import dot_io.tls.context as context_module
from dot_io.tls import ClientContext, HandshakeCompleted, ServerContext, TLSServer
from dot_proto import AuthenticationPolicy, CertificateError, LocalProtocolError, QueryReceived
from support.pki import NAME, Identity, Pki, issue
from support.pki import pki_fixture as pki_fixture
from support.wire import Clock, Wire, both_versions, make_client, the

PASSWORD = "a pass phrase of ours"

Make = Callable[[Path, Path | None], object]


def as_server(chain: Path, key: Path | None) -> object:
    return ServerContext(chain, key)


def as_client(chain: Path, key: Path | None) -> object:
    return ClientContext(AuthenticationPolicy.strict(NAME), certificate_file=chain, key_file=key)


in_both_roles = pytest.mark.parametrize("make", [as_server, as_client], ids=["server", "client"])


def locked(pki: Pki, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    """The leaf's key, encrypted."""
    return pki.leaf.key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(PASSWORD.encode()))


def der_key(pki: Pki) -> bytes:
    return pki.leaf.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def pkcs12(pki: Pki) -> bytes:
    return serialize_key_and_certificates(None, pki.leaf.key, pki.leaf.certificate, None, NoEncryption())


WRONG: dict[str, tuple[Callable[[Pki], bytes], Callable[[Pki], bytes] | None, str]] = {
    "empty": (lambda _: b"\n", None, r"certificate_file '.*chain.pem': it is empty$"),
    "no PEM": (lambda _: b"Dear Sir", None, r"certificate_file '.*': it is not PEM, which has lines -----BEGIN"),
    "DER": (
        lambda pki: pki.leaf.der, None,
        r"certificate_file '.*': it is DER, not PEM: write it with openssl x509 -inform DER -in FILE -out NEW$",
    ),
    "PKCS #12": (pkcs12, None, r"certificate_file '.*': it is PKCS #12, not PEM: write it with openssl pkcs12"),
    "no key": (
        lambda pki: pki.leaf.pem, None, r"certificate_file '.*': there is no private key in it: give key_file=$",
    ),
    "a key alone": (
        lambda pki: pki.leaf.key_pem, None,
        r"certificate_file '.*': there is no certificate in it, but 'PRIVATE KEY'$",
    ),
    "the other way round": (
        lambda pki: pki.leaf.key_pem, lambda pki: pki.leaf.pem,
        r"certificate_file '.*': there is a private key in it, and the certificate in key_file: .* other way round$",
    ),
    "a request": (
        lambda pki: pki.leaf.key_pem + b"-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n",
        None,
        r"no certificate in it, but 'PRIVATE KEY', 'CERTIFICATE REQUEST'$",
    ),
    "another key": (
        lambda pki: pki.leaf.pem + pki.intermediate.pem, lambda pki: pki.attacker.key_pem,
        r"certificate_file '.*': the private key in key_file '.*key.pem' is not that of certificate 1: give the key",
    ),
    "another key in one file": (
        lambda pki: pki.attacker.key_pem + pki.leaf.pem, None,
        r"certificate_file '.*': the private key in it is not that of certificate 1",
    ),
    "a key of another kind": (
        lambda pki: pki.leaf.pem, lambda pki: pki.rsa.key_pem, r"is not that of certificate 1: give the key",
    ),
    "issuer first": (
        lambda pki: pki.intermediate.pem + pki.leaf.pem, lambda pki: pki.leaf.key_pem,
        r"certificate_file '.*': the leaf must come first, and certificate 1 is the issuer of certificate 2: order",
    ),
    "root first": (
        lambda pki: pki.root.pem + pki.intermediate.pem + pki.leaf.pem, lambda pki: pki.leaf.key_pem,
        r"the leaf must come first, and certificate 1 is the issuer of certificate 2",
    ),
    "issuer alone": (
        lambda pki: pki.intermediate.pem, lambda pki: pki.leaf.key_pem,
        r"which is an issuer's: the leaf must come first \(certbot: fullchain.pem, not chain.pem\)$",
    ),
    "half a certificate": (
        lambda pki: pki.leaf.key_pem + pki.leaf.pem.replace(b"MII", b"M!!", 1), None,
        r"certificate_file '.*': line 2 is not base64: copy CERTIFICATE of line 1 again$",
    ),
    "an empty key": (lambda pki: pki.leaf.pem, lambda _: b"", r"key_file '.*key.pem': it is empty$"),
    "a key in DER": (
        lambda pki: pki.leaf.pem, der_key,
        r"key_file '.*': it is DER, not PEM: write it with openssl pkey -inform DER -in FILE -out NEW$",
    ),
    "a certificate for a key": (
        lambda pki: pki.leaf.pem, lambda pki: pki.leaf.pem,
        r"key_file '.*': there is no private key in it, but 'CERTIFICATE'$",
    ),
    "half a key": (
        lambda pki: pki.leaf.pem, lambda pki: pki.leaf.key_pem[:60] + b"\n-----END PRIVATE KEY-----\n",
        r"certificate_file '.*', key_file '.*': OpenSSL cannot use it: ",
    ),
}  # fmt: skip


@in_both_roles
@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_named_with_its_cure(pki: Pki, tmp_path: Path, wrong: str, make: Make) -> None:
    """FR-32: OpenSSL names no file, and says "key values mismatch" to a chain in the wrong order."""
    chain_of, key_of, words = WRONG[wrong]
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(chain_of(pki))
    if key_of is not None:
        key.write_bytes(key_of(pki))
    with pytest.raises(CertificateError, match=words) as caught:
        make(chain, key if key_of is not None else None)
    assert isinstance(caught.value.__cause__, OSError)  # what OpenSSL said
    assert str(caught.value).isprintable()


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(mine)


@pytest.fixture(name="open_folder")
def open_folder_fixture() -> Iterator[Path]:
    """One that everybody may look into, as pytest's are not."""
    with TemporaryDirectory() as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        yield folder


@in_both_roles
@pytest.mark.parametrize("which", ["certificate_file", "key_file"])
def test_a_file_that_cannot_be_read(pki: Pki, open_folder: Path, which: str, make: Make) -> None:
    """FR-32: missing, a folder, another's: as OSError, with the file and the argument."""
    chain, key = open_folder / "chain.pem", open_folder / "key.pem"
    chain.write_bytes(pki.leaf.pem)
    key.write_bytes(pki.leaf.key_pem)
    for one in (chain, key):
        one.chmod(0o644)
    file = chain if which == "certificate_file" else key
    with as_nobody():
        make(chain, key)  # so it is the file that is closed to others, and not a folder above it
    file.chmod(0)
    with as_nobody(), pytest.raises(PermissionError, match=f"{which}: this process may not read it: ") as denied:
        make(chain, key)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=f"{which}: there is no such file: ") as missing:
        make(chain, key)
    file.mkdir()
    with pytest.raises(IsADirectoryError, match=f"{which}: it is a folder; name the file in it: ") as folder:
        make(chain, key)
    file.rmdir()
    file.symlink_to(file)
    with pytest.raises(OSError, match=f"{which}: Too many levels of symbolic links: ") as loop:
        make(chain, key)
    assert {error.value.filename for error in (denied, missing, folder, loop)} == {str(file)}


@pytest.mark.parametrize(
    ("dates", "words"), [("expired", "expired 3 days ago"), ("not_yet_valid", "valid only in 5 d")]
)
def test_a_date_that_is_wrong_is_told_in_the_log(
    pki: Pki, dates: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """FR-32: a server goes on, since its clients may go by a pin, or an old certificate is better than none."""
    file = pki.file(getattr(pki, dates), pki.intermediate)
    with caplog.at_level(logging.WARNING, "dot_io"):
        ServerContext(file)
    [line] = caplog.messages
    assert line.startswith(f"certificate_file {str(file)!r}: certificate 1: {words}")
    caplog.clear()
    ServerContext(pki.file(*pki.honest))
    assert not caplog.messages


def test_files_that_can_be_read_once(pki: Pki) -> None:
    """As a shell's <(...): they are read once, and no second time for their dates, or to say what is wrong."""
    with pipes(pki.leaf.pem, pki.leaf.key_pem) as files:
        ServerContext(*files)
    with pipes(pki.leaf.pem, pki.attacker.key_pem) as files:
        words = f"certificate_file '{files[0]}', key_file '{files[1]}': OpenSSL cannot use it: "
        with pytest.raises(CertificateError, match=words):
            ServerContext(*files)


@contextmanager
def pipes(*contents: bytes) -> Iterator[list[str]]:
    """The names of pipes that hold these octets."""
    ends = [os.pipe() for _ in contents]
    try:
        for (_, writer), octets in zip(ends, contents, strict=True):
            os.write(writer, octets)
            os.close(writer)
        yield [f"/dev/fd/{reader}" for reader, _ in ends]
    finally:
        for reader, _ in ends:
            os.close(reader)


# Keys that are encrypted.


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL], ids=["PKCS8", "traditional"])
@pytest.mark.parametrize("in_one_file", [True, False])
def test_a_key_with_a_password(pki: Pki, tmp_path: Path, form: PrivateFormat, in_one_file: bool) -> None:
    """FR-31: as text or octets; without it, and with another, an error that names the file, and no word of it."""
    chain, key = tmp_path / "chain.pem", None if in_one_file else tmp_path / "key.pem"
    chain.write_bytes(pki.leaf.pem + (locked(pki, form) if in_one_file else b""))
    if key is not None:
        key.write_bytes(locked(pki, form))
    policy = AuthenticationPolicy.strict(NAME)
    where = f"key_file {str(key)!r}" if key else f"certificate_file {str(chain)!r}"
    for right in (PASSWORD, PASSWORD.encode()):
        ServerContext(chain, key, password=right)
        ClientContext(policy, certificate_file=chain, key_file=key, password=right)
    cure = f"{where}: the private key is encrypted: give password=, or the key decrypted"
    with pytest.raises(LocalProtocolError) as caught:
        ServerContext(chain, key)
    assert str(caught.value) == cure
    with pytest.raises(LocalProtocolError) as caught:
        as_client(chain, key)
    assert str(caught.value) == cure
    with pytest.raises(CertificateError) as caught:
        ServerContext(chain, key, password="another of ours")
    assert str(caught.value).startswith(f"{where}: the private key cannot be decrypted: the password is another")
    assert "another of ours" not in str(caught.value)


def test_nobody_is_asked_on_the_terminal(pki: Pki, tmp_path: Path) -> None:
    """FR-31: OpenSSL's own callback would print "Enter PEM pass phrase:" there, and wait."""
    file = tmp_path / "chain.pem"
    file.write_bytes(pki.leaf.pem + locked(pki))
    ours, theirs = pty.openpty()
    code = (
        "import os, sys, fcntl, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "from dot_io.tls import ServerContext\n"
        "try: ServerContext(sys.argv[1])\n"
        "except Exception as error: print(error)\n"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, file], stdin=theirs, stdout=theirs, stderr=theirs, timeout=20, check=True
        )
        said = os.read(ours, 4096).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0
    assert said.count("\n") == 1
    assert said.strip().endswith("the private key is encrypted: give password=, or the key decrypted")


# Renewal.


def shown_to(context: ServerContext, client: ClientContext) -> tuple[bytes | None, bool]:
    """The certificate that a client sees, and whether its session was resumed; it asks and is answered."""
    clock = Clock()
    wire = Wire(make_client(client, clock), TLSServer(context, now=clock.now), clock=clock)
    wire.ask("example.com")
    wire.flow()
    wire.answer()
    wire.flow()
    completed = the(HandshakeCompleted, wire.client_events)
    return completed.peer_certificate, completed.is_resumed


@pytest.fixture(name="files")
def files_fixture(pki: Pki, tmp_path: Path) -> tuple[Path, Path]:
    """The chain and the key of the honest server."""
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(pki.leaf.pem + pki.intermediate.pem)
    key.write_bytes(pki.leaf.key_pem)
    return chain, key


@both_versions
def test_a_renewed_certificate(pki: Pki, files: tuple[Path, Path], version: ssl.TLSVersion) -> None:
    """FR-30: shown to all who come; a client that could resume makes one full handshake, and then resumes again."""
    chain, key = files
    context = ServerContext(chain, key, maximum_version=version)
    client = ClientContext(AuthenticationPolicy.strict(NAME, trust_anchors=[pki.root.der]))
    assert shown_to(context, client) == (pki.leaf.der, False)
    assert shown_to(context, client) == (pki.leaf.der, True)
    chain.write_bytes(pki.rsa.pem + pki.intermediate.pem)
    key.write_bytes(pki.rsa.key_pem)
    context.reload()
    assert shown_to(context, client) == (pki.rsa.der, False)
    assert shown_to(context, client) == (pki.rsa.der, True)


@both_versions
def test_open_connections_live_on(pki: Pki, files: tuple[Path, Path], version: ssl.TLSVersion) -> None:
    """FR-30: those inside the handshake too."""
    chain, key = files
    context = ServerContext(chain, key, maximum_version=version)
    policy = AuthenticationPolicy.strict(NAME, trust_anchors=[pki.root.der])
    clock = Clock()
    wires = [
        Wire(make_client(ClientContext(policy), clock), TLSServer(context, now=clock.now), clock=clock)
        for _ in range(2)
    ]
    wires[0].flow()
    chain.write_bytes(pki.rsa.pem + pki.intermediate.pem)
    key.write_bytes(pki.rsa.key_pem)
    context.reload()
    for wire in wires:
        wire.ask("example.com")
        wire.flow()
        assert len([event for event in wire.server_events if isinstance(event, QueryReceived)]) == 1
        assert the(HandshakeCompleted, wire.client_events).peer_certificate == pki.leaf.der


def test_a_pair_that_is_wrong_changes_nothing(pki: Pki, files: tuple[Path, Path]) -> None:
    """FR-30: half of a renewal, as between two writes; the next call finds both."""
    chain, key = files
    context = ServerContext(chain, key)
    client = ClientContext(AuthenticationPolicy.strict(NAME, trust_anchors=[pki.root.der]), sessions=False)
    chain.write_bytes(pki.rsa.pem + pki.intermediate.pem)
    with pytest.raises(CertificateError, match="is not that of certificate 1"):
        context.reload()
    assert shown_to(context, client) == (pki.leaf.der, False)
    key.unlink()
    with pytest.raises(FileNotFoundError, match="key_file: there is no such file"):
        context.reload()
    assert shown_to(context, client) == (pki.leaf.der, False)
    key.write_bytes(pki.rsa.key_pem)
    context.reload()
    assert shown_to(context, client) == (pki.rsa.der, False)


def test_all_settings_stay(pki: Pki, tmp_path: Path) -> None:
    """FR-30: the password, versions, whose clients are let in, and what is known of their chains."""
    file = tmp_path / "chain.pem"
    file.write_bytes(locked(pki) + pki.leaf.pem + pki.intermediate.pem)
    context = ServerContext(
        file, password=PASSWORD, maximum_version=ssl.TLSVersion.TLSv1_2, client_trust_anchors=iter([pki.root.der])
    )
    chains = context.client_chains
    context.reload()
    assert context.client_chains is chains
    policy = AuthenticationPolicy.strict(NAME, trust_anchors=[pki.root.der])
    own = pki.file(pki.client_only, pki.intermediate)
    client = ClientContext(policy, certificate_file=own)
    for is_resumed in (False, True):
        assert shown_to(context, client) == (pki.leaf.der, is_resumed)
        context_in_use = context.wrap(ssl.MemoryBIO(), ssl.MemoryBIO()).context
        assert context_in_use.maximum_version is ssl.TLSVersion.TLSv1_2
        assert context_in_use.verify_mode is ssl.CERT_REQUIRED


def test_a_signal_amid_a_reload(pki: Pki, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """FR-30: its handler reloads too, in the same thread; what was read last counts."""
    chain, key = files
    context = ServerContext(chain, key)
    client = ClientContext(AuthenticationPolicy.strict(NAME, trust_anchors=[pki.root.der]), sessions=False)
    load = context_module.load_pair
    calls: list[str] = []

    def load_and_signal(*arguments: Any) -> None:
        load(*arguments)
        calls.append("load")
        if len(calls) == 1:
            chain.write_bytes(pki.rsa.pem + pki.intermediate.pem)
            key.write_bytes(pki.rsa.key_pem)
            os.kill(os.getpid(), signal.SIGUSR1)

    monkeypatch.setattr(context_module, "load_pair", load_and_signal)
    before = signal.signal(signal.SIGUSR1, lambda *_: context.reload())
    try:
        context.reload()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(calls) == 2
    assert shown_to(context, client) == (pki.rsa.der, False)


def test_a_context_given_is_not_ours_to_reload(pki: Pki) -> None:
    """FR-30: which files it came from is not known."""

    def new_context(*chain: Identity) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.options |= ssl.OP_NO_RENEGOTIATION
        made.set_alpn_protocols(["dot"])
        made.load_cert_chain(pki.file(*chain))
        return made

    newest = [new_context(*pki.honest)]
    given = newest[0]
    given.sni_callback = lambda tls, *_: setattr(tls, "context", newest[0])
    context = ServerContext(ssl_context=given)
    with pytest.raises(LocalProtocolError, match="the ssl_context is yours: let its sni_callback choose"):
        context.reload()
    client = ClientContext(AuthenticationPolicy.strict(NAME, trust_anchors=[pki.root.der]), sessions=False)
    assert shown_to(context, client) == (pki.leaf.der, False)
    renewed = issue(NAME, pki.intermediate)
    newest[0] = new_context(renewed, pki.intermediate)
    assert shown_to(context, client) == (renewed.der, False)


def test_threads_reload_while_others_shake_hands(pki: Pki, files: tuple[Path, Path]) -> None:
    """FR-30: each handshake sees one whole pair."""
    context = ServerContext(*files)
    client = ClientContext(AuthenticationPolicy.strict(NAME, trust_anchors=[pki.root.der]), sessions=False)
    failures: list[BaseException] = []

    def reload() -> None:
        try:
            for _ in range(20):
                context.reload()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=reload) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        assert shown_to(context, client) == (pki.leaf.der, False)
    for thread in threads:
        thread.join()
    assert not failures
