"""What both sides of a handshake learn and agree on (TLS-5, TLS-6, TLS-18), in whatever pieces it travels."""

from __future__ import annotations

import math
import ssl
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dot_io.tls import ClientContext, HandshakeCompleted, ServerContext, TLSClient, TLSServer
from dot_io.tls.hello import Observer, offered_alpn
from dot_proto import (
    AuthenticationPolicy,
    CertificateError,
    LocalProtocolError,
    PeerAuthenticated,
    QueryReceived,
    ResponseReceived,
)
from support.messages import Clock
from support.pki import NAME, Identity, Pki
from support.pki import pki_fixture as pki_fixture
from support.records import HANDSHAKE, records
from support.scenes import counting
from support.wire import ADDRESS, TLS12, TLS13, Peer, Wire, both_versions, make_client, raw_client, raw_server, the

SUITES = {TLS12: "ECDHE-ECDSA-AES256-GCM-SHA384", TLS13: "TLS_AES_256_GCM_SHA384"}


def strict(pki: Pki, name: str = NAME) -> AuthenticationPolicy:
    return AuthenticationPolicy.strict(name, trust_anchors=[pki.root.der])


def ours(pki: Pki, version: ssl.TLSVersion, *, size: int | None = None, **options: object) -> Wire:
    """Our client and our server, before the first octet."""
    clock = Clock()
    server = TLSServer(ServerContext(pki.file(*pki.honest), maximum_version=version), now=clock.now)
    return Wire(make_client(ClientContext(strict(pki), **options), clock), server, size=size, clock=clock)


def theirs(pki: Pki, context: ClientContext, server: ssl.SSLContext) -> Wire:
    """Our client and a server of OpenSSL's, after the handshake."""
    clock = Clock()
    return Wire(make_client(context, clock), Peer(server, is_server=True), clock=clock).flow()


@both_versions
@pytest.mark.parametrize("size", [1, 2, 3, 5, 17, 1000, None])
def test_the_handshake_in_pieces(pki: Pki, version: ssl.TLSVersion, size: int | None) -> None:
    """FRM-3, FRM-14: records may be cut anywhere; a query waits for the verdict, and is answered."""
    wire = ours(pki, version, size=size)
    [query] = wire.ask("example.com")
    assert wire.flow().answer() == 1
    wire.flow()
    kinds = [type(event) for event in wire.client_events]
    assert kinds[:2] == [HandshakeCompleted, PeerAuthenticated]
    assert the(ResponseReceived, wire.client_events).query == query
    assert [type(event) for event in wire.server_events] == [HandshakeCompleted, QueryReceived]


@both_versions
def test_what_was_agreed_on(pki: Pki, version: ssl.TLSVersion) -> None:
    """TLS-5, TLS-18: both sides report the same; the newest version that both have."""
    wire = ours(pki, version).flow()
    completed = the(HandshakeCompleted, wire.client_events)
    assert completed.version == version.name.replace("_", ".")
    assert completed.cipher == SUITES[version]
    assert completed.alpn == "dot"
    assert not completed.is_resumed
    assert (completed.group, completed.signature) == (None, None)
    at_server = the(HandshakeCompleted, wire.server_events)
    for name in ("version", "cipher", "alpn", "is_resumed"):
        assert getattr(at_server, name) == getattr(completed, name)


@both_versions
@pytest.mark.parametrize(
    ("theirs_alpn", "agreed"), [([], None), (["h2"], None), (["h2", "dot"], "dot")], ids=["none", "other", "dot"]
)
def test_alpn_with_other_servers(pki: Pki, version: ssl.TLSVersion, theirs_alpn: list[str], agreed: str | None) -> None:
    """TLS-5: offered, and not insisted on."""
    server = raw_server(pki.file(*pki.honest), version, alpn=theirs_alpn)
    wire = theirs(pki, ClientContext(strict(pki)), server)
    assert the(HandshakeCompleted, wire.client_events).alpn == agreed
    assert the(PeerAuthenticated, wire.client_events)


@pytest.mark.parametrize(("offer", "offered"), [(True, [b"dot"]), (False, None)])
def test_alpn_can_be_left_out(pki: Pki, offer: bool, offered: list[bytes] | None) -> None:
    """TLS-5: for servers that stumble over it; and our own server goes on without."""
    wire = ours(pki, TLS13, offer_alpn=offer).flow()
    assert offered_alpn(wire.from_client) == offered
    assert the(HandshakeCompleted, wire.client_events).alpn == ("dot" if offer else None)
    assert the(PeerAuthenticated, wire.client_events)


@both_versions
@pytest.mark.parametrize(
    ("policy", "sent"),
    [
        (lambda pki: strict(pki), NAME),
        (lambda pki: strict(pki, "DOT.test."), NAME),
        (lambda pki: strict(pki, "127.0.0.1"), None),
        (lambda pki: strict(pki, "::1"), None),
        (lambda pki: AuthenticationPolicy.strict(pins=[pki.leaf.pin]), None),
        (lambda pki: AuthenticationPolicy.strict(NAME, issuer_pins=[pki.root.pin]), NAME),
        (lambda pki: AuthenticationPolicy.strict("::1", issuer_pins=[pki.root.pin]), None),
        (lambda pki: AuthenticationPolicy.opportunistic("any.test"), "any.test"),
        (lambda pki: AuthenticationPolicy.opportunistic("192.0.2.1"), None),
        (lambda pki: AuthenticationPolicy.opportunistic(), None),
    ],
    ids=["name", "odd-form", "ipv4", "ipv6", "pins", "issuer-pins", "issuer-pins-ip", "opp", "opp-ip", "opp-bare"],
)
def test_what_name_the_server_is_told(pki: Pki, version: ssl.TLSVersion, policy: object, sent: str | None) -> None:
    """TLS-6 (RFC 6066, section 3): the authentication domain name, and never an address."""
    told: list[str | None] = []
    server = raw_server(pki.file(*pki.honest), version)
    server.sni_callback = lambda connection, name, context: told.append(name)
    theirs(pki, ClientContext(policy(pki)), server)
    assert told == [sent]


def test_the_newest_version_is_preferred(pki: Pki) -> None:
    """TLS-18 (RFC 9325, section 3.1.1)."""
    wire = ours(pki, ssl.TLSVersion.MAXIMUM_SUPPORTED).flow()
    assert the(HandshakeCompleted, wire.client_events).version == "TLSv1.3"


@both_versions
@pytest.mark.parametrize(
    ("leaf", "signature"),
    [("leaf", "ECDSA-SECP256R1-SHA256"), ("rsa", "RSA-PSS-RSAE-SHA256"), ("ed25519", "EDDSA-ED25519")],
)
@pytest.mark.parametrize(("curve", "group"), [("X25519", "ECDHE-X25519"), ("secp384r1", "ECDHE-SECP384R1")])
def test_group_and_signature(
    pki: Pki, version: ssl.TLSVersion, leaf: str, signature: str, curve: str, group: str
) -> None:
    """For display; with the second curve TLS 1.3 has to ask for another key share first (RFC 8446, section 4.1.4)."""
    identity: Identity = getattr(pki, leaf)
    server = raw_server(pki.file(identity, pki.intermediate), version)
    if curve != "X25519":  # what both sides prefer; before Python 3.11.4 this name is not known here
        server.set_ecdh_curve(curve)
    wire = theirs(pki, ClientContext(strict(pki), observe_handshake=True), server)
    completed = the(HandshakeCompleted, wire.client_events)
    assert (completed.group, completed.signature) == (group, signature)


@both_versions
def test_an_observer_forgets(pki: Pki, version: ssl.TLSVersion) -> None:
    """One handshake is never shown another's: what is remembered goes with its connection."""
    context = ClientContext(strict(pki), observe_handshake=True)
    wire = theirs(pki, context, raw_server(pki.file(*pki.honest), version))
    observers = context._observers
    assert observers is not None
    assert len(observers) == 1
    del wire
    assert len(observers) == 0


def client_hello(*protocols: str) -> bytes:
    """What OpenSSL sends first."""
    return b"".join(Peer(raw_client(alpn=protocols)).data_to_send())


@pytest.mark.parametrize("protocols", [("dot",), ("h2", "http/1.1"), ("h2", "dot")])
def test_the_protocols_that_a_client_offers(protocols: tuple[str, ...]) -> None:
    """TLS-5: as OpenSSL writes them; of any part of it nothing can be said."""
    hello = client_hello(*protocols)
    assert offered_alpn(hello) == [name.encode() for name in protocols]
    assert offered_alpn(hello + b"more") == [name.encode() for name in protocols]
    assert all(offered_alpn(hello[:end]) is None for end in range(len(hello)))


def test_a_client_hello_without_alpn() -> None:
    assert offered_alpn(client_hello()) is None


@given(st.binary(max_size=300) | st.builds(lambda rest: b"\x16\x03\x01" + rest, st.binary(max_size=300)))
def test_any_octets_are_looked_at_in_peace(octets: bytes) -> None:
    """No octets of a peer's raise anything."""
    assert offered_alpn(octets) is None or octets[0] == HANDSHAKE


@given(st.integers(0, 511), st.integers(0, 255))
def test_a_client_hello_with_one_octet_wrong(offset: int, value: int) -> None:
    """The same, deeper inside: the lengths there are what somebody else says."""
    hello = bytearray(client_hello("h2", "dot"))
    hello[offset % len(hello)] = value
    protocols = offered_alpn(bytes(hello))
    assert protocols is None or all(isinstance(name, bytes) for name in protocols)


@given(st.sampled_from([Observer.server_hello, Observer.server_key_exchange, Observer.certificate_verify]), st.binary())
def test_an_observer_reads_any_octets(read: object, octets: bytes) -> None:
    """What cannot be read ends in the one error that is expected, or shows a number."""
    observer = Observer()
    try:
        read(observer, octets)
    except IndexError:
        return
    for shown in (observer.group, observer.signature):
        assert shown is None or isinstance(shown, str)


@both_versions
@pytest.mark.parametrize("asked", [False, True])
def test_secrets_go_to_a_file_only_when_asked(
    pki: Pki, version: ssl.TLSVersion, asked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS-17: an environment variable is no wish of the caller's; and only the owner may read the file."""
    file = tmp_path / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "environment"))
    context = ClientContext(strict(pki), keylog_file=str(file) if asked else None)
    theirs(pki, context, raw_server(pki.file(*pki.honest), version))
    assert [one.name for one in tmp_path.iterdir()] == (["keys"] if asked else [])
    if asked:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert ("CLIENT_RANDOM" if version is TLS12 else "CLIENT_TRAFFIC_SECRET_0") in file.read_text()


TLS12_SUITES = {
    f"ECDHE-{signature}-{cipher}"
    for signature in ("ECDSA", "RSA")
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
}


def both_contexts(pki: Pki) -> list[ssl.SSLContext]:
    policies = strict(pki), AuthenticationPolicy.strict(pins=[pki.leaf.pin]), AuthenticationPolicy.opportunistic()
    clients = [ClientContext(policy)._context for policy in policies]
    return [*clients, ServerContext(pki.file(*pki.honest))._context]


def test_what_every_context_has_in_common(pki: Pki) -> None:
    """TLS-1, TLS-2, TLS-7, TLS-19, TLS-23, CON-10, AUT-14: each a default of Python's or of a system's otherwise."""
    for context in both_contexts(pki):
        assert context.minimum_version is TLS12
        old = [suite["name"] for suite in context.get_ciphers() if suite["protocol"] != "TLSv1.3"]
        assert set(old) == TLS12_SUITES
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.options & ssl.OP_NO_COMPRESSION
        assert not context.options & getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
        assert not context.post_handshake_auth
    assert not ClientContext(strict(pki))._context.hostname_checks_common_name


@both_versions
def test_nothing_is_compressed(pki: Pki, version: ssl.TLSVersion) -> None:
    """TLS-2."""
    wire = ours(pki, version).flow()
    assert wire.client._tls.compression() is None


def test_versions_below_12_are_refused(pki: Pki) -> None:
    """TLS-1: when the context is made."""
    with pytest.raises(LocalProtocolError, match=r"TLS 1\.2 at least"):
        ClientContext(strict(pki), minimum_version=ssl.TLSVersion.TLSv1_1)
    with pytest.raises(LocalProtocolError, match=r"TLS 1\.2 at least"):
        ServerContext(pki.file(*pki.honest), minimum_version=ssl.TLSVersion.TLSv1_1)


def test_a_server_needs_the_key_of_its_certificate(pki: Pki, tmp_path: Path) -> None:
    """Found when the context is made; key and certificates may be in two files."""
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    key.write_bytes(pki.attacker.key_pem)
    chain.write_bytes(pki.leaf.pem + pki.intermediate.pem)
    with pytest.raises(CertificateError, match="is not that of certificate 1"):
        ServerContext(chain, key)
    with pytest.raises(FileNotFoundError):
        ServerContext(tmp_path / "none.pem")
    key.write_bytes(pki.leaf.key_pem)
    clock = Clock()
    server = TLSServer(ServerContext(chain, key), now=clock.now)
    wire = Wire(make_client(ClientContext(strict(pki)), clock), server, clock=clock).flow()
    assert the(PeerAuthenticated, wire.client_events)
    assert next(records(wire.from_server)).kind == HANDSHAKE


@pytest.mark.parametrize("seconds", [-1.0, math.nan])
def test_a_handshake_timeout_that_is_none(pki: Pki, seconds: float) -> None:
    """CON-18: a comparison with NaN would let the handshake last for ever."""
    with pytest.raises(LocalProtocolError, match="handshake_timeout"):
        TLSServer(ServerContext(pki.file(*pki.honest)), now=0.0, handshake_timeout=seconds)


def test_a_handshake_without_a_limit(pki: Pki) -> None:
    """``next_timeout()`` is a point in time or ``None``, never infinity."""
    client = TLSClient(
        ClientContext(strict(pki)), server=ADDRESS, entropy=counting(), now=0.0, handshake_timeout=math.inf
    )
    assert client.next_timeout() is None
    assert client.handle_timeout(now=1e9) == []
