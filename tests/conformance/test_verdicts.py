"""Verdicts that take more than one handshake: anchors of one name tried apart, and names tried opportunistically."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from conformance.adapters import Backend
from dot_io._attempt import MAX_ANCHORS_TRIED
from dot_io.errors import AuthenticationError
from dot_io.tls import ClientContext
from dot_proto import AuthenticationPolicy, LocalProtocolError, Reason, make_query
from support.peers import GIVE_UP, Caller, answer, name_in
from support.pki import DAY, NAME, Identity, Pki, issue
from support.pki import pki_fixture as pki_fixture
from support.records import offers_session

QUERY = make_query("example.com")

strict, opportunistic = AuthenticationPolicy.strict, AuthenticationPolicy.opportunistic


class Server:
    """Answers; :attr:`chain` is its present identity, and may change from one connection to the next."""

    def __init__(self, pki: Pki, *chain: Identity, host: str = "127.0.0.1") -> None:
        self._pki = pki
        self._contexts: dict[tuple[Identity, ...], ssl.SSLContext] = {}
        self._listener = socket.create_server((host, 0))
        self.chain = chain
        self.port: int = self._listener.getsockname()[1]
        self.resumes = True
        "Whether it does not end handshakes in which a session is offered."
        self.offered: list[bool] = []
        "Of each connection: whether an earlier session was offered."

    def context(self) -> ssl.SSLContext:
        context = self._contexts.get(self.chain)
        if context is None:
            self._contexts[self.chain] = context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._pki.file(*self.chain))
        return context

    def run(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                with sock, suppress(OSError, EOFError):
                    sock.settimeout(GIVE_UP)
                    self.offered.append(offers_session(sock.recv(65_536, socket.MSG_PEEK)))
                    if self.offered[-1] and not self.resumes:
                        continue
                    with self.context().wrap_socket(sock, server_side=True) as wrapped:
                        caller = Caller(wrapped)
                        while True:
                            caller.send(answer(caller.query()))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @contextmanager
    def running(self) -> Iterator[None]:
        """In a thread, until the block's end."""
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield
        finally:
            self.close()
            thread.join()


@contextmanager
def serving(pki: Pki, *chain: Identity) -> Iterator[Server]:
    server = Server(pki, *chain)
    with server.running():
        yield server


def bare(identity: Identity, signer: Identity) -> Identity:
    """The same certificate without key identifiers, signed by ``signer``; who has no other name than his namesake."""
    old = identity.certificate
    builder = x509.CertificateBuilder(
        old.issuer, old.subject, old.public_key(), old.serial_number, old.not_valid_before_utc, old.not_valid_after_utc
    )
    for extension in old.extensions:
        if not isinstance(extension.value, x509.SubjectKeyIdentifier | x509.AuthorityKeyIdentifier):
            builder = builder.add_extension(extension.value, extension.critical)
    return Identity(builder.sign(signer.key, hashes.SHA256()), identity.key)  # type: ignore[arg-type]


def authority(name: str = "root.test", issuer: Identity | None = None) -> Identity:
    one = issue(name, issuer, is_ca=True)
    return bare(one, issuer or one)


def leaf_of(issuer: Identity, **options: Any) -> Identity:
    return bare(issue(NAME, issuer, **options), issuer)


def asked(api: Backend, server: Server, context: ClientContext) -> Any:
    """The verdict, where a query was answered; and the one sent ahead."""

    async def scenario(api: Backend) -> Any:
        options: dict[str, Any] = {"context": context, "port": server.port, "first_query": make_query("first.example")}
        async with api.connect("127.0.0.1", **options) as client:
            assert name_in(await client.first_response()) == "first"
            assert name_in(await client.query(QUERY)) == "example"
            return client.verdict

    return api.run(scenario)


def refused(api: Backend, server: Server, context: ClientContext) -> Any:
    with pytest.raises(AuthenticationError) as caught:
        asked(api, server, context)
    assert not caught.value.verdict.accepted
    return caught.value.verdict


# Several anchors.


@pytest.mark.parametrize("signer", [0, 1])
@pytest.mark.parametrize("order", [1, -1])
def test_each_of_two_anchors_of_one_name_counts(api: Backend, pki: Pki, signer: int, order: int) -> None:
    """FR-40: an authority has changed its key; its certificates have no key identifiers.  The right one is kept."""
    anchors = [authority(), authority()]
    context = ClientContext(strict(NAME, trust_anchors=[one.der for one in anchors][::order]))
    with serving(pki, leaf_of(anchors[signer])) as server:
        verdict = asked(api, server, context)
        assert verdict.authenticated
        assert verdict.validated[-1].der == anchors[signer].der
        assert len(server.offered) <= 3
        tries = len(server.offered)
        for _ in range(2):
            assert asked(api, server, context).authenticated
        assert server.offered[tries:] == [True, True]
        server.chain = (leaf_of(anchors[signer], names=["other.test"]),)
        tries = len(server.offered)
        assert refused(api, server, context).reason is Reason.NAME
        assert len(server.offered) - tries == 2  # the first of which has offered a session
        server.chain = (leaf_of(anchors[1 - signer]),)
        verdict = asked(api, server, context)
        assert verdict.authenticated
        assert verdict.validated[-1].der == anchors[1 - signer].der


def test_an_anchor_that_has_the_name_of_a_sent_intermediate_hides_no_other(api: Backend, pki: Pki) -> None:
    """FR-40: OpenSSL takes the anchor first, and not the certificate that was sent, whose root is an anchor too."""
    root, former = authority("root.test"), authority("intermediate.test")
    intermediate = authority("intermediate.test", root)
    context = ClientContext(strict(NAME, trust_anchors=[former.der, root.der]))
    with serving(pki, leaf_of(intermediate), intermediate) as server:
        verdict = asked(api, server, context)
    assert verdict.authenticated
    assert [one.der for one in verdict.validated[1:]] == [intermediate.der, root.der]


def test_an_expired_anchor_beside_the_right_one_is_not_blamed(api: Backend, pki: Pki) -> None:
    """FR-40: of three anchors of one name one is expired, one has another key."""
    right = authority()
    expired = bare(issue("root.test", is_ca=True, begins=-30 * DAY, ends=-DAY), right)
    context = ClientContext(strict(NAME, trust_anchors=[expired.der, authority().der, right.der]))
    with serving(pki, leaf_of(right)) as server:
        assert asked(api, server, context).authenticated


def test_names_are_compared_as_openssl_compares_them(api: Backend, pki: Pki) -> None:
    """FR-40: whatever their case (RFC 5280, section 7.1); else an anchor would be left out."""
    old, new = authority("Root.test"), authority("root.test")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ROOT.TEST")])
    key = new.key
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 5, *validity(new))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())  # type: ignore[arg-type]
    )
    anchors = [old.der, certificate.public_bytes(Encoding.DER)]
    for order in (1, -1):
        context = ClientContext(strict(NAME, trust_anchors=anchors[::order]))
        with serving(pki, leaf_of(new)) as server:
            assert asked(api, server, context).authenticated


def validity(identity: Identity) -> tuple[datetime, datetime]:
    return identity.certificate.not_valid_before_utc, identity.certificate.not_valid_after_utc


@pytest.mark.parametrize("count", [2, 12])
def test_anchors_that_have_signed_nothing_let_nobody_in(api: Backend, pki: Pki, count: int) -> None:
    """FR-40: fail closed, after a bounded number of handshakes."""
    stranger = authority()
    context = ClientContext(strict(NAME, trust_anchors=[authority().der for _ in range(count)]))
    with serving(pki, leaf_of(stranger)) as server:
        verdict = refused(api, server, context)
        assert verdict.reason is Reason.UNTRUSTED
        assert len(server.offered) == 1 + min(count, MAX_ANCHORS_TRIED)


def test_no_anchor_is_tried_where_that_changes_nothing(api: Backend, pki: Pki) -> None:
    """FR-40: a certificate for another name, or of an issuer whose name no anchor has, costs one handshake."""
    one, other = authority(), authority()
    context = ClientContext(strict(NAME, trust_anchors=[one.der, other.der]))
    with serving(pki, leaf_of(other, names=["other.test"])) as server:
        assert refused(api, server, context).reason is Reason.NAME
        server.chain = (leaf_of(authority("stranger.test")),)
        assert refused(api, server, context).reason is Reason.UNTRUSTED
        assert len(server.offered) == 2


# Opportunistic policies that try a name.


def test_a_name_that_is_right_costs_nothing(api: Backend, pki: Pki) -> None:
    """FR-67: one handshake, and the verdict says that the server was authenticated."""
    context = ClientContext(opportunistic(NAME, tries_name=True, trust_anchors=[pki.root.der]))
    with serving(pki, *pki.honest) as server:
        verdict = asked(api, server, context)
        assert (verdict.authenticated, verdict.reason) == (True, None)
        assert asked(api, server, context).is_resumed
        assert server.offered == [False, True]


TRIED = {
    "untrusted": ("attacker", {}, Reason.UNTRUSTED, 2),
    "wrong name": ("wrong_name intermediate", {}, Reason.NAME, 2),
    "expired": ("expired intermediate", {}, Reason.EXPIRED, 2),
    "wrong pin": ("leaf intermediate", {"pins": "attacker"}, Reason.PIN, 2),
    "right pin, untrusted": ("attacker", {"pins": "attacker"}, Reason.UNTRUSTED, 2),
    "wrong issuer pin": ("leaf intermediate", {"issuer_pins": "attacker"}, Reason.PIN, 2),
    "issuer pin, forged": ("attacker intermediate", {"issuer_pins": "intermediate"}, Reason.UNTRUSTED, 3),
}


@pytest.mark.parametrize("case", TRIED)
def test_a_name_that_is_wrong_is_reported_and_asked_all_the_same(api: Backend, pki: Pki, case: str) -> None:
    """FR-67: any authentication information is tried (RFC 8310, section 6.5), each time; the verdict says why not."""
    chain, credentials, reason, handshakes = TRIED[case]
    options: dict[str, Any] = {kind: [getattr(pki, name).pin] for kind, name in credentials.items()}
    if "issuer_pins" not in options:
        options["trust_anchors"] = [pki.root.der]
    policy = opportunistic(NAME, tries_name=True, **options)
    context = ClientContext(policy)
    with serving(pki, *[getattr(pki, name) for name in chain.split()]) as server:
        for connection in (1, 2):
            verdict = asked(api, server, context)
            assert (verdict.accepted, verdict.authenticated, verdict.reason) == (True, False, reason)
            assert verdict.explanation.startswith("asked without authentication, since it was tried and failed: ")
            assert verdict.policy == policy
            assert len(server.offered) == connection * handshakes
        # Only the handshake that asks anybody resumes what such a one has left.
        assert server.offered[:handshakes] == [False] * handshakes
        assert server.offered[handshakes:] == [*[False] * (handshakes - 1), True]


def test_no_session_crosses_from_one_handshake_to_the_other(api: Backend, pki: Pki) -> None:
    """FR-67, FR-58: neither makes a session without authentication an authenticated one, nor the other way round."""
    context = ClientContext(opportunistic(NAME, tries_name=True, trust_anchors=[pki.root.der]))
    with serving(pki, pki.attacker) as server:
        assert not asked(api, server, context).authenticated
        server.chain = pki.honest
        assert asked(api, server, context).authenticated
        server.chain = (pki.attacker,)
        assert not asked(api, server, context).authenticated
        server.chain = pki.honest
        verdict = asked(api, server, context)
        assert verdict.authenticated
        assert not verdict.is_resumed


@pytest.mark.parametrize("chain", ["attacker", "leaf intermediate"])
def test_a_server_that_resumes_nothing_is_dialled_once_more(api: Backend, pki: Pki, chain: str) -> None:
    """FR-13, FR-67: in whichever of the handshakes it ends the one that offers a session, the verdict is the same."""
    context = ClientContext(opportunistic(NAME, tries_name=True, trust_anchors=[pki.root.der]))
    with serving(pki, *[getattr(pki, name) for name in chain.split()]) as server:
        first = asked(api, server, context)
        server.resumes = False
        tries = len(server.offered)
        again = asked(api, server, context)
        assert (again.authenticated, again.reason) == (first.authenticated, first.reason)
        assert first.authenticated is (chain != "attacker")
        assert not again.is_resumed
        assert server.offered[tries:] == [*[False] * (tries - 1), True, False]


def test_one_forget_is_enough_for_all_handshakes(api: Backend, pki: Pki) -> None:
    """FR-67: after a change of network no ticket of any of them links the two (RFC 8446, C.4)."""
    context = ClientContext(opportunistic(NAME, tries_name=True, trust_anchors=[pki.root.der]))
    with serving(pki, *pki.honest) as server:
        asked(api, server, context)
        server.chain = (pki.attacker,)
        asked(api, server, context)
        assert context.sessions is not None
        context.sessions.forget()
        server.chain = pki.honest
        asked(api, server, context)
        assert not any(server.offered[:1] + server.offered[3:])


def test_what_a_policy_that_tries_its_name_cannot_have(pki: Pki) -> None:
    """FR-67: a client certificate would be shown before a pin is compared; one context cannot do both."""
    policy = opportunistic(NAME, tries_name=True)
    with pytest.raises(LocalProtocolError, match="client certificate needs a policy that validates"):
        ClientContext(policy, certificate_file=pki.file(pki.client_only))
    with pytest.raises(LocalProtocolError, match="needs two contexts"):
        ClientContext(policy, ssl_context=ssl.create_default_context())
