"""Contexts: client certificates both ways, and contexts that somebody else has made."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from ssl import DER_cert_to_PEM_cert

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from dot_io.errors import Failure, HandshakeError
from dot_io.tls import ClientContext, HandshakeCompleted, ServerContext, TLSServer
from dot_io.tls.audit import IGNORE_UNEXPECTED_EOF
from dot_proto import AuthenticationPolicy, ConnectionClosed, LocalProtocolError, Pin, QueryReceived, Reason, State
from support.pki import NAME, Identity, Pki
from support.pki import pki_fixture as pki_fixture
from support.wire import Clock, Peer, Wire, both_versions, make_client, raw_server, refused, the


def by_name(pki: Pki) -> AuthenticationPolicy:
    return AuthenticationPolicy.strict(NAME, trust_anchors=[pki.root.der])


def mutual(pki: Pki, version: ssl.TLSVersion, *own: Identity) -> Wire:
    """A client that shows ``own``, and a server that asks for a certificate under the root."""
    context = ClientContext(
        by_name(pki), minimum_version=version, maximum_version=version, certificate_file=pki.file(*own) if own else None
    )
    server = ServerContext(pki.file(*pki.honest), client_trust_anchors=[pki.root.der])
    clock = Clock()
    wire = Wire(make_client(context, clock), TLSServer(server, now=clock.now), clock=clock)
    wire.ask("example.com")
    return wire.flow()


@both_versions
def test_a_client_shows_its_certificate(pki: Pki, version: ssl.TLSVersion) -> None:
    """RFC 8310, section 6: the server sees the certificate whose key the client proved, and is asked."""
    wire = mutual(pki, version, pki.client_only, pki.intermediate)
    assert the(HandshakeCompleted, wire.server_events).peer_certificate == pki.client_only.der
    assert the(HandshakeCompleted, wire.client_events).peer_certificate == pki.leaf.der
    assert len([event for event in wire.server_events if isinstance(event, QueryReceived)]) == 1


@both_versions
@pytest.mark.parametrize("kind", ["none", "stranger"])
def test_a_client_without_the_right_certificate_is_not_answered(pki: Pki, version: ssl.TLSVersion, kind: str) -> None:
    """XOT-3: a server that asks for certificates lets nobody else in, under TLS 1.3 after the client's handshake."""
    wire = mutual(pki, version, *([pki.attacker] if kind == "stranger" else []))
    assert not [event for event in wire.server_events if isinstance(event, QueryReceived)]
    assert wire.heard == b""
    assert isinstance(the(ConnectionClosed, wire.server_events).error, HandshakeError)
    assert the(ConnectionClosed, wire.client_events).error is not None


def test_no_certificate_where_none_is_asked_for(pki: Pki) -> None:
    clock = Clock()
    server = TLSServer(ServerContext(pki.file(*pki.honest)), now=clock.now)
    wire = Wire(make_client(ClientContext(by_name(pki)), clock), server, clock=clock).flow()
    assert the(HandshakeCompleted, wire.server_events).peer_certificate is None


def test_a_client_certificate_is_not_shown_to_a_server_that_nothing_validates(pki: Pki) -> None:
    """RFC 8310, section 6: under pins alone an impostor would see it before the pins are compared."""
    with pytest.raises(LocalProtocolError, match="validates the server's chain"):
        ClientContext(AuthenticationPolicy.strict(pins=[pki.leaf.pin]), certificate_file=pki.file(pki.client_only))


def test_a_client_certificate_waits_for_the_second_handshake(pki: Pki) -> None:
    """Under an issuer pin the first handshake validates nothing: only the second one shows the certificate."""
    policy = AuthenticationPolicy.strict(NAME, issuer_pins=[pki.intermediate.pin])
    context = ClientContext(policy, certificate_file=pki.file(pki.client_only, pki.intermediate))
    server = ServerContext(pki.file(*pki.honest), client_trust_anchors=[pki.root.der])
    for one, certificate in ((context, None), (context.with_learnt_anchor(pki.intermediate.der), pki.client_only.der)):
        clock = Clock()
        wire = Wire(make_client(one, clock), TLSServer(server, now=clock.now), clock=clock).flow()
        shown = [event.peer_certificate for event in wire.server_events if isinstance(event, HandshakeCompleted)]
        assert shown == ([certificate] if certificate else [])


def test_the_second_handshake_keeps_the_settings_and_the_sessions(pki: Pki) -> None:
    """TLS-8: what was learnt is kept with the sessions made under it, and with every setting of the first."""
    policy = AuthenticationPolicy.strict(NAME, issuer_pins=[pki.intermediate.pin])
    context = ClientContext(policy, maximum_version=ssl.TLSVersion.TLSv1_2, offer_alpn=False, observe_handshake=True)
    learnt = context.with_learnt_anchor(pki.intermediate.der)
    assert learnt is context.with_learnt_anchor(pki.intermediate.der)
    server = ServerContext(pki.file(*pki.honest))
    for is_resumed in (False, True):
        clock = Clock()
        wire = Wire(make_client(learnt, clock), TLSServer(server, now=clock.now), clock=clock)
        wire.ask("example.com")
        wire.flow()
        wire.answer()
        wire.flow()
        completed = the(HandshakeCompleted, wire.client_events)
        assert (completed.version, completed.alpn, completed.is_resumed) == ("TLSv1.2", None, is_resumed)
        assert is_resumed or completed.group is not None
    with pytest.raises(LocalProtocolError, match="not among the issuer pins"):
        context.with_learnt_anchor(pki.other_root.der)


def given(pki: Pki) -> ssl.SSLContext:
    """A client's context of somebody's that may be used."""
    context = harmless(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False
    context.load_verify_locations(cadata=pki.root.der)
    return context


def harmless(protocol: int) -> ssl.SSLContext:
    """A context without what neither role may have; Debian's Python 3.11 ignores an unexpected end by default."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.options &= ~IGNORE_UNEXPECTED_EOF
    return context


def weaken(**changes: object) -> Callable[[ssl.SSLContext], None]:
    def change(context: ssl.SSLContext) -> None:
        for name, value in changes.items():
            setattr(context, name, value)

    return change


def old_tls(context: ssl.SSLContext) -> None:
    with pytest.deprecated_call():
        context.minimum_version = ssl.TLSVersion.TLSv1_1


def no_verification(context: ssl.SSLContext) -> None:
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE


def renegotiation(context: ssl.SSLContext) -> None:
    context.options &= ~ssl.OP_NO_RENEGOTIATION


def ignored_truncation(context: ssl.SSLContext) -> None:
    context.options |= IGNORE_UNEXPECTED_EOF


LIES = {
    "TLS 1.2": old_tls,
    "renegotiation": renegotiation,
    "truncated": ignored_truncation,
    "CERT_REQUIRED": no_verification,
    "check_hostname is off": weaken(check_hostname=False),
    "Subject": weaken(hostname_checks_common_name=True),
}


@pytest.mark.parametrize("why", LIES)
def test_a_context_that_would_make_the_policy_a_lie(pki: Pki, why: str) -> None:
    """AUT-14, TLS-1, TLS-7, CON-10: refused with the reason, also when it was changed after having been accepted."""
    policy = AuthenticationPolicy.strict(NAME)
    bad = given(pki)
    LIES[why](bad)
    with pytest.raises(LocalProtocolError, match=f"cannot be used as it is(?s:.*){why}"):
        ClientContext(policy, ssl_context=bad)

    changed = given(pki)
    context = ClientContext(policy, ssl_context=changed)
    LIES[why](changed)
    with pytest.raises(LocalProtocolError, match=why):
        make_client(context, Clock())


def test_a_context_may_use_suites_with_certificates_only(pki: Pki) -> None:
    """RFC 9325, section 4: an anonymous suite would leave nobody to compare a pin with."""
    context = given(pki)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ALL:aNULL:@SECLEVEL=0")
    with pytest.raises(LocalProtocolError, match="shows no certificate"):
        ClientContext(AuthenticationPolicy.strict(NAME), ssl_context=context)


def test_a_context_has_its_own_anchors_and_its_own_role(pki: Pki) -> None:
    """A policy's anchors could not be told from the context's; a name needs checking, and no name none."""
    server = harmless(ssl.PROTOCOL_TLS_SERVER)
    by_pin = AuthenticationPolicy.strict(pins=[pki.leaf.pin])
    with pytest.raises(LocalProtocolError, match="trust anchors of its own"):
        ClientContext(by_name(pki), ssl_context=given(pki))
    with pytest.raises(LocalProtocolError, match="server's"):
        ClientContext(by_pin, ssl_context=server)
    with pytest.raises(LocalProtocolError, match="client's"):
        ServerContext(ssl_context=given(pki))
    with pytest.raises(LocalProtocolError, match="validates no name"):
        ClientContext(by_pin, ssl_context=given(pki))
    with pytest.raises(LocalProtocolError, match="not both"):
        ServerContext()
    with pytest.raises(LocalProtocolError, match="not both"):
        ServerContext(pki.file(*pki.honest), ssl_context=server)


def test_contexts_that_were_given_do_their_work(pki: Pki) -> None:
    server = harmless(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pki.file(*pki.honest))
    clock = Clock()
    client = make_client(ClientContext(AuthenticationPolicy.strict(NAME), ssl_context=given(pki)), clock)
    wire = Wire(client, TLSServer(ServerContext(ssl_context=server), now=clock.now), clock=clock).flow()
    assert wire.verdict.authenticated
    assert client.connection.state is State.OPEN


@both_versions
def test_a_context_that_demands_what_the_policy_does_not(pki: Pki, version: ssl.TLSVersion) -> None:
    """AUT-19: opportunistic asks anybody, but not where the caller's own context has ended the handshake."""
    context = given(pki)
    context.check_hostname = False
    context.maximum_version = version
    clock = Clock()
    client = make_client(ClientContext(AuthenticationPolicy.opportunistic(), ssl_context=context), clock)
    wire = Wire(client, TLSServer(ServerContext(pki.file(pki.attacker)), now=clock.now), clock=clock)
    wire.ask("secret.example")
    verdict = refused(wire.flow())
    assert verdict.reason is Reason.UNTRUSTED
    assert wire.heard == b""


FLAGS = {"USE_CHECK_TIME": 0x2, "IGNORE_CRITICAL": 0x10, "ALLOW_PROXY_CERTS": 0x40, "NO_CHECK_TIME": 0x200000}


def uses(pki: Pki, *, later: bool) -> list[tuple[ssl.SSLContext, Callable[[], object]]]:
    """A client's and a server's context of somebody else's, and what uses it: at first, or once more."""
    context, server = given(pki), harmless(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pki.file(*pki.honest))
    server.verify_mode = ssl.CERT_REQUIRED
    by_its_name = AuthenticationPolicy.strict(NAME)
    if later:
        client, served = ClientContext(by_its_name, ssl_context=context), ServerContext(ssl_context=server)
        return [
            (context, lambda: make_client(client, Clock())),
            (server, lambda: TLSServer(served, now=0.0)),
        ]
    return [
        (context, lambda: ClientContext(by_its_name, ssl_context=context)),
        (server, lambda: ServerContext(ssl_context=server)),
    ]


at_any_time = pytest.mark.parametrize("later", [False, True], ids=["at first", "later"])


@pytest.mark.parametrize("flag", FLAGS)
@at_any_time
def test_flags_that_make_validation_a_lie(pki: Pki, flag: str, later: bool) -> None:
    """FR-60, FR-12: refused when given, and for every connection after it was changed, in both roles."""
    for context, use in uses(pki, later=later):
        context.verify_flags |= FLAGS[flag]
        with pytest.raises(LocalProtocolError, match=flag):
            use()


@pytest.mark.parametrize("suites", ["eNULL:@SECLEVEL=0", "ALL:eNULL:@SECLEVEL=0", "aNULL:@SECLEVEL=0"])
@at_any_time
def test_suites_that_protect_nothing(pki: Pki, suites: str, later: bool) -> None:
    """FR-60: queries would be readable on the wire."""
    for context, use in uses(pki, later=later):
        context.set_ciphers(suites)
        with pytest.raises(LocalProtocolError, match=r"bits of strength|shows no certificate"):
            use()


def test_what_should_not_be_allowed_is_told(pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    """FR-60: CBC, static RSA, short keys: in the log, once for each context."""
    context = given(pki)
    context.set_ciphers("ECDHE+AESGCM")
    ClientContext(AuthenticationPolicy.strict(NAME), ssl_context=context)
    assert not caplog.records
    context.set_ciphers("ALL:!aNULL:!eNULL:!PSK:!SRP:@SECLEVEL=1")
    made = ClientContext(AuthenticationPolicy.strict(NAME), ssl_context=context)
    make_client(made, Clock())
    [record] = caplog.records
    assert "CBC" in record.getMessage()
    assert "security level 1" in record.getMessage()


@both_versions
@pytest.mark.parametrize("protocols", [["h2"], ["http/1.1", "dot"]])
def test_no_other_protocol_is_spoken(pki: Pki, version: ssl.TLSVersion, protocols: list[str]) -> None:
    """FR-22: a context of somebody else's agrees on another protocol, and nothing is asked in it."""
    context = given(pki)
    context.maximum_version = version
    clock = Clock()
    made = ClientContext(AuthenticationPolicy.strict(NAME), ssl_context=context)
    context.set_alpn_protocols(protocols)  # only now: before, it would be refused when given
    client = make_client(made, clock)
    server = Peer(raw_server(pki.file(*pki.honest), version, alpn=["h2", "http/1.1", "dot"]), is_server=True)
    wire = Wire(client, server, clock=clock)
    wire.ask("secret.example")
    wire.flow()
    error = the(ConnectionClosed, wire.client_events).error
    assert isinstance(error, HandshakeError)
    assert error.failure is Failure.NO_APPLICATION_PROTOCOL
    assert wire.heard == b""


@both_versions
def test_why_a_clients_certificate_is_refused(pki: Pki, version: ssl.TLSVersion) -> None:
    """FR-72: in OpenSSL's own words, each reason in its own."""
    texts = set()
    for chain, words in (((pki.attacker,), "self-signed"), (pki.honest, "unsuitable certificate purpose")):
        error = the(ConnectionClosed, mutual(pki, version, *chain).server_events).error
        assert isinstance(error, HandshakeError)
        assert error.failure is Failure.REFUSED
        assert words in str(error)
        texts.add(str(error))
    assert len(texts) == 2


@both_versions
@pytest.mark.parametrize("size", [1, 64, 16_384, 1_000_000])
def test_a_large_hello_with_another_protocol_gets_its_alert(pki: Pki, version: ssl.TLSVersion, size: int) -> None:
    """FR-71: a ClientHello above one record, however it is cut: alert 120 (RFC 7301, section 3.2)."""
    name = bytes([200]) + b"h" * 200
    alpn = name * 150
    body = (
        b"\x03\x03" + bytes(32) + b"\0" + b"\x00\x04\x13\x01\xc0\x2b" + b"\x01\0"
        + _vector(
            _extension(16, _vector(alpn)) + _extension(43, b"\x04\x03\x04\x03\x03")
            + _extension(10, _vector(b"\x00\x17")) + _extension(13, _vector(b"\x04\x03"))
            + _extension(51, _vector(b"")) + _extension(11, b"\x01\x00")
        )
    )  # fmt: skip
    hello = b"\x01" + len(body).to_bytes(3) + body
    assert len(hello) > 30_000
    stream = b"".join(
        b"\x16\x03\x01" + len(part).to_bytes(2) + part
        for part in (hello[at : at + 16_000] for at in range(0, len(hello), 16_000))
    )
    server = TLSServer(ServerContext(pki.file(*pki.honest), maximum_version=version), now=0.0)
    events = [
        event for at in range(0, len(stream), size) for event in server.receive_data(stream[at : at + size], now=0.0)
    ]
    error = the(ConnectionClosed, events).error
    assert isinstance(error, HandshakeError)
    assert error.failure is Failure.NO_APPLICATION_PROTOCOL
    assert b"".join(server.data_to_send()) == bytes.fromhex("15030300020278")


def _vector(data: bytes) -> bytes:
    return len(data).to_bytes(2) + data


def _extension(kind: int, data: bytes) -> bytes:
    return kind.to_bytes(2) + _vector(data)


@both_versions
def test_a_certificate_of_more_than_64_kib_cannot_be_kept(pki: Pki, version: ssl.TLSVersion) -> None:
    """FR-17: OpenSSL cannot encode a session that holds it; the pin counts all the same, and nothing raises."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "large.test")]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "large.test")]))
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .serial_number(1)
        .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.9999.1"), bytes(70_000)), critical=False)
    )
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = builder.public_key(key.public_key()).sign(key, hashes.SHA256())
    file = pki.file(pki.leaf).with_name("large.pem")
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    )
    policy = AuthenticationPolicy.strict(pins=[Pin.of_certificate(certificate.public_bytes(Encoding.DER))])
    clock = Clock()
    context = ClientContext(policy)
    wire = Wire(make_client(context, clock), Peer(raw_server(file, version), is_server=True), clock=clock)
    wire.ask("secret.example")
    wire.flow()
    assert wire.verdict.authenticated
    assert b"secret" in wire.heard
    assert not len(context.sessions or ())


@pytest.mark.parametrize(
    ("anchors", "complaint"),
    [
        (lambda der: der, "must be a list of certificates in DER, .*, not bytes"),
        (lambda der: [DER_cert_to_PEM_cert(der)], "must be a list of certificates in DER, .*, but number 1 in it is '"),
        (lambda der: [DER_cert_to_PEM_cert(der).encode()], "must be a list of certificates in DER"),
        (lambda _: "ca.pem", "must be a list of certificates in DER, .*, not 'ca.pem'"),
        (lambda _: 5, "must be a list of certificates in DER, .*, not 5"),
        (lambda _: [], "is empty, so that no chain could ever end; pass None to ask for none"),
        (lambda der: [der, b"\x30\x80"], "certificate 2 of client_trust_anchors cannot be read"),
        (lambda der: [der, der[:-1]], "certificate 2 of client_trust_anchors cannot be read"),
    ],
)
def test_no_anchor_for_clients_is_dropped(
    pki: Pki, anchors: Callable[[bytes], Iterable[bytes]], complaint: str
) -> None:
    """FR-36, FR-45: OpenSSL passed over the second of two, and others raised bare errors."""
    with pytest.raises(LocalProtocolError, match=complaint):
        ServerContext(pki.file(*pki.honest), client_trust_anchors=anchors(pki.root.der))
