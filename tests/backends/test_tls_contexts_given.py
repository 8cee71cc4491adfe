"""Contexts that somebody else has made: what mends them, whom they can serve, and what their callbacks raise."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import truststore

from dot_io.errors import Failure, HandshakeError
from dot_io.tls import ClientContext, ServerContext, TLSServer
from dot_proto import (
    AuthenticationPolicy,
    CertificateError,
    ConnectionClosed,
    LocalProtocolError,
    QueryReceived,
    RemoteProtocolError,
)
from support.messages import Clock
from support.pki import NAME, Pki
from support.pki import pki_fixture as pki_fixture
from support.wire import TLS12, TLS13, Peer, Wire, both_versions, make_client, raw_client, raw_server, the

STRICT = AuthenticationPolicy.strict(NAME)

COMPLAINT = re.compile(r"this ssl\.SSLContext cannot be used as it is; what mends it:\n(.*)", re.DOTALL)


def mend(error: LocalProtocolError, **names: Any) -> dict[str, Any]:
    """Do what the message says: its lines are Python."""
    found = COMPLAINT.fullmatch(str(error))
    assert found is not None, str(error)
    lines = [line.strip() for line in found[1].splitlines()]
    assert all(" # " in line for line in lines), "each with its reason"
    exec("\n".join(lines), {"ssl": ssl, "AuthenticationPolicy": AuthenticationPolicy, **names}, names)
    return names


CLIENTS: dict[str, Callable[[], ssl.SSLContext]] = {
    "create_default_context": ssl.create_default_context,
    "truststore": lambda: truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
}


@pytest.mark.parametrize("kind", CLIENTS)
def test_what_programs_have_is_mended_in_one_go(pki: Pki, kind: str) -> None:
    """FR-83: all complaints at once, each with the line that mends it; then it does its work."""
    context = CLIENTS[kind]()
    with pytest.raises(LocalProtocolError) as caught:
        ClientContext(STRICT, ssl_context=context)
    assert "OP_NO_RENEGOTIATION" in str(caught.value)
    assert "hostname_checks_common_name" in str(caught.value)
    mend(caught.value, context=context)
    context.load_verify_locations(cadata=pki.root.der)
    made = ClientContext(STRICT, ssl_context=context)
    assert made.count_trust_anchors() >= 0
    clock = Clock()
    for chain, is_right in ((pki.honest, True), ((pki.wrong_name, pki.intermediate), False)):
        server = TLSServer(ServerContext(pki.file(*chain)), now=clock.now)
        wire = Wire(make_client(made, clock), server, clock=clock).flow()
        assert wire.verdict.authenticated is is_right


def test_everything_that_is_wrong_is_told_at_once(pki: Pki) -> None:
    """FR-83, FR-60: in both roles; and the lines, done as they stand, mend it."""
    context = ssl.create_default_context()
    context.set_ciphers("ALL:aNULL:eNULL:PSK:@SECLEVEL=0")
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.verify_flags |= 0x200010
    context.check_hostname = False
    context.verify_mode = ssl.CERT_OPTIONAL
    policy = AuthenticationPolicy.strict(NAME, pins=[pki.leaf.pin], trust_anchors=[pki.root.der])
    with pytest.raises(LocalProtocolError) as caught:
        ClientContext(policy, ssl_context=context)
    for words in (
        "CERT_REQUIRED", "check_hostname", "Subject", "renegotiation", "NO_CHECK_TIME", "IGNORE_CRITICAL",
        "shows no certificate", "bits of strength", "h2, http/1.1", "anchors of its own",
    ):  # fmt: skip
        assert words in str(caught.value)
    names = mend(caught.value, context=context, policy=policy)
    assert names["policy"].pins == policy.pins
    ClientContext(names["policy"], ssl_context=context)

    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    theirs.set_alpn_protocols(["h2"])
    theirs.minimum_version, theirs.maximum_version = TLS13, TLS12
    with pytest.raises(LocalProtocolError) as caught:
        ServerContext(ssl_context=theirs)
    mend(caught.value, context=theirs)
    with pytest.raises(LocalProtocolError) as caught:  # of the rest nothing could be seen without any version
        ServerContext(ssl_context=theirs)
    mend(caught.value, context=theirs, certificate_file=pki.file(*pki.honest))
    with pytest.raises(LocalProtocolError, match=r"(?s)set_alpn_protocols\(\['dot'\]\).*it would speak h2") as caught:
        ServerContext(ssl_context=theirs)
    mend(caught.value, context=theirs)
    ServerContext(ssl_context=theirs)


@pytest.mark.parametrize("suites", ["PSK", "ECDHE+AESGCM:PSK", "SRP:ECDHE+AESGCM"])
def test_suites_of_shared_secrets(pki: Pki, suites: str) -> None:
    """FR-60: a client with a shared key would be let in without the certificate that is asked for."""
    for context, use in (
        (mended_client(pki), lambda context: ClientContext(STRICT, ssl_context=context)),
        (mended_server(pki), lambda context: ServerContext(ssl_context=context)),
    ):
        use(context)
        context.set_ciphers(suites)
        with pytest.raises(LocalProtocolError, match="shows no certificate"):
            use(context)


def mended_client(pki: Pki) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=pki.root.der)
    context.hostname_checks_common_name = False
    return _mended(context)


def mended_server(pki: Pki) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.file(*pki.honest))
    return _mended(context)


def _mended(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = TLS12
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    context.set_ciphers("ECDHE+AESGCM")
    return context


def no_certificate(context: ssl.SSLContext, pki: Pki) -> ssl.SSLContext:
    return _mended(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))


def other_key(context: ssl.SSLContext, pki: Pki) -> ssl.SSLContext:
    context.maximum_version = TLS12
    context.set_ciphers("aRSA+AESGCM")  # the key is an elliptic curve's
    return context


def no_version(context: ssl.SSLContext, pki: Pki) -> ssl.SSLContext:
    context.minimum_version, context.maximum_version = TLS13, TLS12
    return context


def switched_off(context: ssl.SSLContext, pki: Pki) -> ssl.SSLContext:
    context.maximum_version = TLS12
    with pytest.deprecated_call():
        context.options |= ssl.OP_NO_TLSv1_2
    return context


def other_protocol(context: ssl.SSLContext, pki: Pki) -> ssl.SSLContext:
    context.set_alpn_protocols(["h2", "dot"])
    return context


@pytest.mark.parametrize("spoil", [no_certificate, other_key, no_version, switched_off, other_protocol])
@pytest.mark.parametrize("wants", [ssl.CERT_NONE, ssl.CERT_REQUIRED], ids=["tls", "mtls"])
def test_a_server_that_could_serve_nobody(
    pki: Pki, spoil: Callable[[ssl.SSLContext, Pki], ssl.SSLContext], wants: ssl.VerifyMode
) -> None:
    """FR-22: a trial handshake tells, when it is made; without the fault it is taken."""
    whole = mended_server(pki)
    whole.verify_mode = wants
    whole.set_alpn_protocols(["dot"])
    ServerContext(ssl_context=whole)
    spoilt = spoil(mended_server(pki), pki)
    spoilt.verify_mode = wants
    with pytest.raises(LocalProtocolError, match="what mends it"):
        ServerContext(ssl_context=spoilt)


@pytest.mark.parametrize("spoil", [no_version, switched_off, other_protocol])
def test_a_client_that_could_ask_nobody(pki: Pki, spoil: Callable[[ssl.SSLContext, Pki], ssl.SSLContext]) -> None:
    """FR-22: its ClientHello tells."""
    with pytest.raises(LocalProtocolError, match="what mends it"):
        ClientContext(STRICT, ssl_context=spoil(mended_client(pki), pki))


def test_our_own_contexts_are_tried_too(pki: Pki) -> None:
    """FR-22: versions that leave none are refused when the context is made, in both roles."""
    for make in (
        lambda **versions: ClientContext(STRICT, **versions),
        lambda **versions: ServerContext(pki.file(*pki.honest), **versions),
    ):
        for versions in (
            {"minimum_version": TLS13, "maximum_version": TLS12},
            {"maximum_version": ssl.TLSVersion.TLSv1_1},
        ):
            with pytest.raises(LocalProtocolError, match="no TLS version is left"):
                make(**versions)
        with pytest.raises(LocalProtocolError, match=r"TLS 1\.2 at least"):
            make(minimum_version=ssl.TLSVersion.TLSv1_1)


@pytest.mark.parametrize("wrong", ["context", 5, ssl.SSLContext])
def test_what_is_no_context(wrong: Any) -> None:
    for use in (lambda: ClientContext(STRICT, ssl_context=wrong), lambda: ServerContext(ssl_context=wrong)):
        with pytest.raises(LocalProtocolError):
            use()


def test_anchors_are_the_only_ones_also_where_truststore_is_injected(pki: Pki) -> None:
    """Injected, it would add the system's anchors to those that a policy gives; then we refuse, in both roles."""
    truststore.inject_into_ssl()
    try:
        ClientContext(STRICT)
        for use in (
            lambda: ClientContext(AuthenticationPolicy.strict(NAME, trust_anchors=[pki.root.der])),
            lambda: ServerContext(pki.file(*pki.honest), client_trust_anchors=[pki.root.der]),
        ):
            with pytest.raises(LocalProtocolError, match=r"truststore.*trusts others too"):
                use()
    finally:
        truststore.extract_from_ssl()


ANCHORS: dict[str, tuple[Callable[[Pki], Any], type[Exception], str]] = {
    "empty": (lambda pki: [], LocalProtocolError, "client_trust_anchors.* is empty"),
    "pem": (lambda pki: pki.root.pem, LocalProtocolError, "certificates_from"),
    "pem in a list": (lambda pki: [pki.root.pem], LocalProtocolError, "certificates_from"),
    "der alone": (lambda pki: pki.root.der, LocalProtocolError, "list of certificates in DER"),
    "path": (lambda pki: pki.file(*pki.honest), LocalProtocolError, "certificates_from"),
    "text": (lambda pki: "ca.pem", LocalProtocolError, "certificates_from"),
    "paths": (lambda pki: [Path("ca.pem")], LocalProtocolError, "certificates_from"),
    "number": (lambda pki: 5, LocalProtocolError, "certificates_from"),
    "garbage": (lambda pki: [b"no certificate"], CertificateError, "Certificate expected"),
}


@pytest.mark.parametrize("kind", ANCHORS)
def test_the_anchors_of_clients(pki: Pki, kind: str) -> None:
    """FR-23: the same door as for the anchors of servers."""
    wrong, error, words = ANCHORS[kind]
    with pytest.raises(error, match=words) as caught:
        ServerContext(pki.file(*pki.honest), client_trust_anchors=wrong(pki))
    with pytest.raises(error) as of_client:
        AuthenticationPolicy.strict(NAME, trust_anchors=wrong(pki))
    assert type(caught.value) is type(of_client.value)


def test_a_file_that_is_not_there_is_named(pki: Pki, tmp_path: Path) -> None:
    """FR-84: ssl leaves its name out."""
    gone = tmp_path / "gone.pem"
    with pytest.raises(FileNotFoundError, match=r"gone\.pem"):
        ServerContext(gone)
    with pytest.raises(FileNotFoundError, match=r"gone\.pem"):
        ServerContext(pki.file(*pki.honest), gone)


@both_versions
def test_nobody_comes_in_without_the_certificate_that_is_asked_for(pki: Pki, version: ssl.TLSVersion) -> None:
    """FR-60: whatever let the handshake pass, as a pre-shared key would; here the question came too late."""
    theirs = mended_server(pki)
    server = TLSServer(ServerContext(ssl_context=theirs), now=0.0)
    theirs.verify_mode = ssl.CERT_REQUIRED
    clock = Clock()
    wire = Wire(Peer(raw_client(version)), server, clock=clock).flow()
    error = the(ConnectionClosed, wire.server_events).error
    assert isinstance(error, HandshakeError)
    assert error.failure is Failure.REFUSED
    assert "shown no certificate" in str(error)


# The page.

PAGE = Path(__file__).parents[2] / "docs" / "tls.md"

BLOCKS: list[str] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("words", ["ssl.create_default_context()", "truststore.SSLContext", "load_cert_chain"])
def test_the_page_shows_how(pki: Pki, words: str) -> None:
    """FR-83: what the page shows is taken as it stands, on each Python."""
    [block] = [one for one in BLOCKS if words in one]
    names: dict[str, Any] = {"certificate_file": pki.file(*pki.honest)}
    exec(block, names)
    assert isinstance(names["context"], ClientContext | ServerContext)


# Callbacks.


class Fault(Exception):
    """What somebody's callback raises."""


def raising(*_: object) -> None:
    raise Fault("of a callback")


@both_versions
@pytest.mark.parametrize("role", ["client", "server"])
def test_what_a_callback_raises_in_the_handshake(pki: Pki, version: ssl.TLSVersion, role: str) -> None:
    """FR-12: it is the cause of the error that ends the handshake, and no query is lost for another reason."""
    ours, theirs = mended_client(pki), mended_server(pki)
    theirs.maximum_version = version
    client_context = ClientContext(STRICT, ssl_context=ours)
    server_context = ServerContext(ssl_context=theirs)
    changed: Any = ours if role == "client" else theirs
    changed._msg_callback = raising
    clock = Clock()
    wire = Wire(make_client(client_context, clock), TLSServer(server_context, now=clock.now), clock=clock)
    wire.ask("secret.example")
    wire.flow().tick()
    error = the(ConnectionClosed, wire.client_events if role == "client" else wire.server_events).error
    assert isinstance(error, HandshakeError)
    assert error.failure is Failure.LOCAL
    assert isinstance(error.__cause__, Fault)
    assert "Fault: of a callback" in str(error)
    assert not [event for event in wire.server_events if isinstance(event, QueryReceived)]


@both_versions
@pytest.mark.parametrize("role", ["client", "server"])
def test_what_a_callback_raises_later(pki: Pki, version: ssl.TLSVersion, role: str) -> None:
    """FR-12: an open session ends with it as the cause, and close_notify or not, nothing else is raised."""
    ours, theirs = mended_client(pki), mended_server(pki)
    theirs.maximum_version = version
    is_time: list[bool] = []
    changed: Any = ours if role == "client" else theirs
    changed._msg_callback = lambda *_: raising() if is_time else None
    clock = Clock()
    client = make_client(ClientContext(STRICT, ssl_context=ours), clock)
    wire = Wire(client, TLSServer(ServerContext(ssl_context=theirs), now=clock.now), clock=clock).flow()
    assert wire.verdict.authenticated
    is_time.append(True)
    wire.ask("secret.example")
    wire.flow().tick()
    error = the(ConnectionClosed, wire.client_events if role == "client" else wire.server_events).error
    assert isinstance(error, RemoteProtocolError)
    assert isinstance(error.__cause__, Fault)


@both_versions
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_a_callback_for_sni_raises(pki: Pki, version: ssl.TLSVersion) -> None:
    """FR-12: CPython prints it and goes on; here it is the cause too."""
    theirs = mended_server(pki)
    theirs.sni_callback = raising
    context = ServerContext(ssl_context=theirs)
    for _ in range(2):
        clock = Clock()
        client = Peer(raw_client(version), name=NAME)
        wire = Wire(client, TLSServer(context, now=clock.now), clock=clock)
        wire.flow()
        error = the(ConnectionClosed, wire.server_events).error
        assert isinstance(error, HandshakeError)
        assert isinstance(error.__cause__, Fault)
    asked: list[str | None] = []
    theirs.sni_callback = lambda tls, name, context: asked.append(name)
    clock = Clock()
    wire = Wire(Peer(raw_client(version), name=NAME), TLSServer(context, now=clock.now), clock=clock).flow()
    assert asked == [NAME]
    assert not [event for event in wire.server_events if isinstance(event, ConnectionClosed)]


def test_callbacks_that_raise_before_there_is_a_connection(pki: Pki) -> None:
    """FR-12: where it is given, and where it is used."""

    class Raising(ssl.SSLContext):
        def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
            raise Fault("of a subclass")

    for use in (
        lambda: ClientContext(STRICT, ssl_context=_mended_subclass(Raising(ssl.PROTOCOL_TLS_CLIENT))),
        lambda: ServerContext(ssl_context=_mended(Raising(ssl.PROTOCOL_TLS_SERVER))),
    ):
        with pytest.raises(LocalProtocolError, match="it raises Fault: of a subclass") as caught:
            use()
        assert isinstance(caught.value.__cause__, Fault)
    ours: Any = mended_client(pki)
    context = ClientContext(STRICT, ssl_context=ours)
    ours.__class__ = Raising
    with pytest.raises(LocalProtocolError, match="it raises Fault") as caught:
        make_client(context, Clock())
    assert isinstance(caught.value.__cause__, Fault)


def _mended_subclass(context: ssl.SSLContext) -> ssl.SSLContext:
    context.hostname_checks_common_name = False
    return _mended(context)


@both_versions
def test_a_key_log_that_cannot_be_written(pki: Pki, version: ssl.TLSVersion) -> None:
    """FR-12: whatever is raised on this side inside OpenSSL ends the handshake in order."""
    ours: Any = mended_client(pki)
    context = ClientContext(STRICT, ssl_context=ours)
    clock = Clock()
    client = make_client(context, clock)

    def full() -> None:
        raise OSError(28, "No space left on device")

    client._tls.do_handshake = full  # type: ignore[method-assign]
    wire = Wire(client, Peer(raw_server(pki.file(*pki.honest), version), is_server=True), clock=clock)
    wire.ask("secret.example")
    wire.flow()
    error = the(ConnectionClosed, wire.client_events).error
    assert isinstance(error, HandshakeError)
    assert isinstance(error.__cause__, OSError)
    assert wire.heard == b""
