"""Certificate chains, honest and not, with the verdict that is due.  Needs the package ``cryptography``.

Who is in them: an *authority* (a root, and none to two intermediates under it), its customers, and an *attacker*,
who has keys of his own and every certificate that is public.  Keys, signatures and dates follow from what is asked
for (Ed25519, RFC 8032), so that a chain is the same octets each time; none of the keys is a secret.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from ..arguments import check_function, check_instance
from ..authentication import (
    AuthenticationPolicy,
    Evidence,
    PresentedChain,
    Reason,
    ValidatedChain,
    ValidationFailure,
)
from ..pins import Pin
from .laws import Law, Refusals, law_of, reader_law, run
from .strategies import damaged

NAME: Final = "dot.test"
"Whom the policies name."

AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
"The time at which the chains are looked at, unless another is given."

DAY: Final = timedelta(days=1)

SERVER: Final = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT: Final = ExtendedKeyUsageOID.CLIENT_AUTH

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True)
class Identity:
    """A certificate, and the private key of the one in it."""

    certificate: x509.Certificate
    key: Key

    @property
    def der(self) -> bytes:
        """The certificate in DER."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        """The certificate in PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The private key in PEM, not encrypted."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def pin(self) -> Pin:
        """The SPKI pin."""
        return Pin.of_certificate(self.der)


def key_of(owner: str) -> ed25519.Ed25519PrivateKey:
    """A key that follows from its owner's name: no secret."""
    return ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(owner.encode()).digest())


def issue(
    subject: str,
    issuer: Identity | None = None,
    *,
    signed_by: Identity | None = None,
    key: Key | None = None,
    names: Sequence[str] = (NAME, "127.0.0.1", "::1"),
    is_ca: bool = False,
    usage: x509.ObjectIdentifier = SERVER,
    at: datetime = AT,
    begins: timedelta = -DAY,
    ends: timedelta = 30 * DAY,
) -> Identity:
    """A certificate for ``subject`` (the CN), from ``begins`` to ``ends`` after ``at``; without issuer self-signed.

    The key is the subject's own unless given.  ``signed_by`` forges: the certificate names ``issuer`` in full, down
    to the key identifier, but another signed.
    """
    key = key or key_of(subject)
    own_identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    issuer_name, issuer_identifier = _name(subject), own_identifier
    if issuer is not None:
        issuer_name = issuer.certificate.subject
        issuer_identifier = x509.SubjectKeyIdentifier.from_public_key(issuer.key.public_key())
    facts = (subject, issuer_name, own_identifier.digest, issuer_identifier.digest, names, is_ca, at, begins, ends)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(hashlib.sha256(repr(facts).encode()).digest()[:8]) | 1)
        .not_valid_before(at + begins)
        .not_valid_after(at + ends)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(own_identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_identifier), critical=False
        )
    )
    if not is_ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_san(one) for one in names]), critical=False)
    signer = signed_by or issuer
    signing_key = key if signer is None else signer.key
    algorithm = None if isinstance(signing_key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Identity(builder.sign(signing_key, algorithm), key)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _san(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@dataclass(frozen=True)
class Authority:
    """Who may be trusted, and for how long."""

    chain: tuple[Identity, ...]
    "Its own certificates, the issuer of servers first, the root last."
    at: datetime

    @property
    def issuer(self) -> Identity:
        """Who signs servers' certificates."""
        return self.chain[0]

    @property
    def root(self) -> Identity:
        """Who signs himself."""
        return self.chain[-1]

    def server(self, subject: str = NAME, **more: object) -> Identity:
        """A certificate for a server, as :func:`issue` makes it."""
        return issue(subject, self.issuer, at=self.at, **more)  # type: ignore[arg-type]


@cache
def authority(name: str = "root.test", *, intermediates: int = 1, at: datetime = AT) -> Authority:
    """An authority with so many intermediates between its root and the servers."""
    chain: tuple[Identity, ...] = (issue(name, is_ca=True, at=at),)
    for level in range(intermediates):
        chain = (issue(f"{level}.{name}", chain[0], is_ca=True, at=at), *chain)
    return Authority(chain, at)


@dataclass(frozen=True)
class ChainCase:
    """What a server sends, what is asked of it, and the verdict due."""

    shape: str
    "In words."
    policy: AuthenticationPolicy
    sent: tuple[Identity, ...]
    "Leaf first; the server has the leaf's key.  Where it is empty, no certificate was sent."
    reason: Reason | None = None
    "Why it is not authenticated; ``None``: it is, or nothing was asked."
    depth: int | None = None
    "Where the pin matches: 0 is the leaf."
    validated: tuple[Identity, ...] = ()
    "The chain that a TLS library validates, if it was told to, and does."

    @property
    def accepted(self) -> bool:
        """Whether the server may be asked."""
        return self.policy.is_opportunistic or self.reason is None

    @property
    def fails_in_tls(self) -> bool:
        """Whether the TLS library itself refuses the chain, having been told to validate it."""
        return self.policy.validates and not self.validated

    def evidence(self) -> Evidence:
        """What a TLS library has to say of it, for :func:`dot_proto.authentication.judge`."""
        presented = tuple(one.der for one in self.sent)
        if self.fails_in_tls and self.reason is not None:
            return Evidence(PresentedChain(presented), failure=ValidationFailure(self.reason, self.shape))
        chain = tuple(one.der for one in self.validated)
        validated = ValidatedChain(chain, NAME) if chain else None
        return Evidence(PresentedChain(presented), presented[0] if presented else None, validated)


def _cases(ours: Authority) -> list[ChainCase]:
    """Every shape under this authority; design and reasons are those of the table in ``authentication``."""
    at = ours.at
    leaf, issuer, root = ours.server(), ours.issuer, ours.root
    honest = (leaf, *ours.chain[:-1])
    whole = (leaf, *ours.chain)
    attacker = issue(NAME, key=key_of("attacker"), at=at)
    customer = ours.server("customer.test", names=["customer.test"])
    strangers = (customer, *ours.chain[:-1])
    forged = issue(NAME, issuer, signed_by=attacker, key=attacker.key, at=at)
    rogue = issue("rogue.test", is_ca=True, at=at)
    rogue_issuer = issue(_common_name(issuer), rogue, key=key_of("rogue issuer"), is_ca=True, at=at)
    under_rogue = issue(NAME, rogue_issuer, key=attacker.key, at=at)
    backup = Pin(bytes(32))

    def strict(*pins: Pin) -> AuthenticationPolicy:
        return AuthenticationPolicy.strict(NAME, pins=pins, trust_anchors=[root.der])

    def pinned(*pins: Pin) -> AuthenticationPolicy:
        return AuthenticationPolicy.strict(pins=pins)

    def up_to(anchor: Identity) -> AuthenticationPolicy:
        return AuthenticationPolicy.strict(NAME, trust_anchors=[anchor.der])

    def by_issuer(*pins: Pin) -> AuthenticationPolicy:
        return AuthenticationPolicy.strict(NAME, issuer_pins=pins)

    def bad(shape: str, leaf: Identity, reason: Reason) -> ChainCase:
        return ChainCase(f"name: {shape}", strict(), (leaf, *ours.chain[:-1]), reason)

    learnt = by_issuer(issuer.pin).with_learnt_anchor(issuer.der)
    opportunistic = AuthenticationPolicy.opportunistic
    return [
        ChainCase("name: the honest chain", strict(), honest, validated=whole),
        ChainCase("name: the root is sent too", strict(), whole, validated=whole),
        bad("for another name", ours.server("other.test", names=["other.test"]), Reason.NAME),
        bad("for an address alone", ours.server(names=["192.0.2.1"]), Reason.NAME),
        bad("named in the subject alone", ours.server(names=[]), Reason.NAME),
        bad("expired", ours.server(begins=-30 * DAY, ends=-3 * DAY), Reason.EXPIRED),
        bad("not yet valid", ours.server(begins=3 * DAY), Reason.NOT_YET_VALID),
        bad("for clients", ours.server(usage=CLIENT), Reason.USAGE),
        bad("self-signed", attacker, Reason.UNTRUSTED),
        bad("names the true issuer, who did not sign it", forged, Reason.UNTRUSTED),
        ChainCase("name: the authority's own certificate alone", strict(), (root,), Reason.NAME),
        ChainCase(
            "name: signed by a customer, who is no authority",
            strict(),
            (issue(NAME, customer, key=attacker.key, at=at), *strangers),
            Reason.UNTRUSTED,
        ),
        *(
            ChainCase(f"name: certificate {gone} is missing", strict(), honest[:gone], Reason.UNTRUSTED)
            for gone in range(1, len(honest))
        ),
        ChainCase("name: another authority", strict(), (under_rogue, rogue_issuer, rogue), Reason.UNTRUSTED),
        *(
            ChainCase(f"name and pin: number {depth} of the chain", strict(one.pin, backup), honest, None, depth, whole)
            for depth, one in enumerate(whole)
        ),
        ChainCase("name and pin: nobody's", strict(backup), honest, Reason.PIN, validated=whole),
        ChainCase(
            "name and pin: a stranger's, whose certificate is appended",
            strict(customer.pin),
            (*honest, customer),
            Reason.PIN,
            validated=whole,
        ),
        ChainCase("name and pin: the pin is right, the name is not", strict(customer.pin), strangers, Reason.NAME),
        ChainCase("pin: the leaf", pinned(leaf.pin), honest, depth=0),
        ChainCase("pin: the leaf, self-signed", pinned(backup, attacker.pin), (attacker,), depth=0),
        ChainCase("pin: the issuer, which proves nothing", pinned(issuer.pin), honest, Reason.PIN),
        ChainCase("pin: the true chain behind an attacker's own", pinned(leaf.pin), (attacker, *honest), Reason.PIN),
        ChainCase("pin: no certificate", pinned(leaf.pin), (), Reason.NO_CERTIFICATE),
        ChainCase("issuer and name", up_to(issuer), honest, validated=whole[:2]),
        ChainCase("issuer and name: a customer's", up_to(issuer), (customer,), Reason.NAME),
        ChainCase("issuer and name: its namesake", up_to(issuer), (under_rogue, rogue_issuer), Reason.UNTRUSTED),
        ChainCase("issuer pin: sent", by_issuer(issuer.pin), (leaf, *ours.chain), Reason.ANCHOR_LEARNT),
        ChainCase("issuer pin: not sent", by_issuer(issuer.pin), (leaf,), Reason.PIN),
        ChainCase("issuer pin learnt", learnt, (leaf, *ours.chain), validated=whole[:2]),
        ChainCase("issuer pin learnt: appended by an attacker", learnt, (forged, issuer), Reason.UNTRUSTED),
        ChainCase("opportunistic", opportunistic(), (attacker,)),
        ChainCase("opportunistic, pin: the leaf", opportunistic(pins=[attacker.pin]), (attacker,), depth=0),
        ChainCase("opportunistic, pin: nobody's", opportunistic(pins=[backup]), (attacker,), Reason.PIN),
    ]


def _common_name(identity: Identity) -> str:
    return str(identity.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


@cache
def chain_cases(intermediates: int = 1, at: datetime = AT) -> tuple[ChainCase, ...]:
    """Every shape, under an authority of so many intermediates; valid at the time ``at``."""
    return tuple(_cases(authority(intermediates=intermediates, at=at)))


def chain_case(shape: str, *, intermediates: int = 1, at: datetime = AT) -> ChainCase:
    """The one of this shape; raises :class:`KeyError` where there is none."""
    return {case.shape: case for case in chain_cases(intermediates, at)}[shape]


def cases(at: datetime = AT) -> st.SearchStrategy[ChainCase]:
    """Any shape, under an authority of none to two intermediates; shown as the call that makes it."""

    def under(intermediates: int) -> st.SearchStrategy[ChainCase]:
        shapes = [case.shape for case in chain_cases(intermediates, at)]
        return st.builds(chain_case, st.sampled_from(shapes), intermediates=st.just(intermediates), at=st.just(at))

    return st.integers(0, 2).flatmap(under)


def verifier_law(accepts: Callable[[ChainCase], bool], *, at: datetime = AT) -> Law:
    """A server may be asked if and only if it is who the policy says (RFC 8310, sections 5 and 8; RFC 7858, 4.2).

    ``accepts`` says whether it would ask the server of a case, whose ``policy`` and ``sent`` it looks at.
    """
    check_function("accepts", accepts, "a function of a case")
    check_instance("at", at, datetime)

    @given(cases(at))
    def law(case: ChainCase) -> None:
        accepted = accepts(case)
        if accepted is not case.accepted:
            raise AssertionError(f"{case.shape}: {'accepted' if accepted else 'refused'}, due is {case.reason}")

    return law_of(law)


def check_verifier(accepts: Callable[[ChainCase], bool], *, at: datetime = AT) -> None:
    """Run :func:`verifier_law`."""
    run(verifier_law(accepts, at=at))


def certificate_reader_law(public_key_of: Callable[[bytes], bytes], raises: Refusals, *, at: datetime = AT) -> Law:
    """A reader of certificates finds the SubjectPublicKeyInfo, and for octets that are none raises only these.

    That the key is the right one is asked of whole certificates alone.
    """
    check_function("public_key_of", public_key_of, "a function of a certificate's octets")
    check_instance("at", at, datetime)
    whole = [one.certificate for case in chain_cases(1, at) for one in case.sent]
    keys = {one.public_bytes(Encoding.DER): _spki(one) for one in whole}

    def reader(der: bytes) -> None:
        found = public_key_of(der)
        if der in keys and found != keys[der]:
            raise AssertionError(f"the key found is {found.hex()}, not {keys[der].hex()}")

    some = st.integers(0, len(whole) - 1).map(lambda number: whole[number].public_bytes(Encoding.DER))
    return reader_law(reader, raises, some, damaged(some) | st.binary(max_size=60))


def check_certificate_reader(public_key_of: Callable[[bytes], bytes], raises: Refusals, *, at: datetime = AT) -> None:
    """Run :func:`certificate_reader_law`."""
    run(certificate_reader_law(public_key_of, raises, at=at))


def _spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
