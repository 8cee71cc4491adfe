"""Who may be asked: usage profiles, the policy, the evidence, and the verdict.

The truth table (RFC 8310, sections 5 and 6.6; RFC 7858, section 4.2 and appendix A):

=============================  ==========================================================================
policy                         accepted when
=============================  ==========================================================================
name                           the TLS library validated the chain for the name
pins                           the leaf certificate's SPKI is pinned: the handshake proved that key, no other
name and pins                  the chain validates for the name and one certificate *of that chain* is pinned
name and trust anchors         as "name", with these certificates as the only anchors
name and issuer pins           two handshakes: the first only learns the pinned certificate, the second must
                               validate up to it for the name
opportunistic                  always; the verdict says whether anybody was authenticated
=============================  ==========================================================================

A pin is never compared with a certificate that was merely *sent*.  Anyone can append a stranger's public
certificate to his own chain; RFC 7469, section 2.6, says to ignore what is no part of the validated chain.
So the two kinds of chain are two types, and :func:`judge` looks for pins in one of them only.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from . import _der
from ._facts import CertificateFacts as CertificateFacts
from ._facts import facts_of
from ._facts import validity_of as validity_of
from .arguments import check_flag, check_instance, check_octets, check_text, check_time, collected, shown
from .errors import CertificateError, LocalProtocolError
from .pins import Pin

MAX_NAME_LENGTH: Final = 253
"Octets of a domain name in text, without the final dot (RFC 1035, section 2.3.4: 255 on the wire)."

MAX_LABEL_LENGTH: Final = 63
"Octets of one label (RFC 1035, section 2.3.4)."


@dataclass(frozen=True, slots=True)
class AuthenticationPolicy:
    """What a server must prove before it is asked anything.

    Prefer the constructors :meth:`strict` and :meth:`opportunistic`.  Raises
    :class:`~dot_proto.LocalProtocolError` for a policy that could authenticate nobody (RFC 8310, section 6.6).
    """

    name: str | None = None
    "Authentication domain name, as an A-label, or an IP address (matched against iPAddress SANs only)."

    pins: tuple[Pin, ...] = ()
    "SPKI pins; any match suffices (RFC 7858, section 4.2)."

    trust_anchors: tuple[bytes, ...] | None = field(default=None, repr=False)
    "Certificates in DER that end a chain, each an anchor by itself; ``None``: the system's trust store."

    issuer_pins: tuple[Pin, ...] = ()
    "Pins of an issuer whose certificate is not at hand: learnt from the peer, then used as the only anchor."

    is_opportunistic: bool = False
    "Encrypt, and ask whoever answers (RFC 8310, section 5)."

    def __post_init__(self) -> None:
        if self.name is not None:
            object.__setattr__(self, "name", normalize_name(self.name))
        object.__setattr__(self, "pins", _pins("pins", self.pins))
        object.__setattr__(self, "issuer_pins", _pins("issuer_pins", self.issuer_pins))
        object.__setattr__(self, "trust_anchors", _anchors(self.trust_anchors))
        check_flag("is_opportunistic", self.is_opportunistic)
        self._refuse_the_impossible()

    @classmethod
    def strict(
        cls,
        name: str | None = None,
        *,
        pins: tuple[Pin, ...] | list[Pin] = (),
        trust_anchors: tuple[bytes, ...] | list[bytes] | None = None,
        issuer_pins: tuple[Pin, ...] | list[Pin] = (),
    ) -> AuthenticationPolicy:
        """The strict usage profile: authenticated, or not asked (RFC 8310, section 5).

        ``name`` is the name or address that the certificate must be for.  ``pins`` without it are compared with the
        server's own key; with it, also with those of the issuers in the validated chain.  ``trust_anchors`` are
        certificates in DER, as :func:`~dot_proto.certificates_from` reads them; the system's by default.
        ``issuer_pins`` are those of an issuer whose certificate is not at hand.

        Raises :class:`~dot_proto.LocalProtocolError` for a policy that could authenticate nobody (RFC 8310, section
        6.6), :class:`~dot_proto.CertificateError` for anchors that are no certificates.
        """
        return cls(name, _pins("pins", pins), _anchors(trust_anchors), _pins("issuer_pins", issuer_pins))

    @classmethod
    def opportunistic(cls, name: str | None = None, *, pins: tuple[Pin, ...] | list[Pin] = ()) -> AuthenticationPolicy:
        """The opportunistic usage profile: never the default, always asked for by this name.

        ``name`` goes into SNI only.  ``pins`` are compared with the leaf, and the verdict reports the result.
        """
        return cls(name, _pins("pins", pins), is_opportunistic=True)

    def _refuse_the_impossible(self) -> None:
        if self.trust_anchors is not None and not self.trust_anchors:
            raise LocalProtocolError(
                "trust_anchors is empty, so that no chain could ever end; pass None for the system's trust store"
            )
        if self.is_opportunistic:
            if self.trust_anchors is not None or self.issuer_pins:
                raise LocalProtocolError(
                    "an opportunistic policy validates no chain: leave out trust_anchors and issuer_pins"
                )
            return
        if self.name is None:
            if self.issuer_pins or self.trust_anchors is not None:
                raise LocalProtocolError(
                    "an issuer alone would let in every customer of that issuer: give the server's name too"
                )
            if not self.pins:
                raise LocalProtocolError(
                    "a strict policy needs a name or a pin to authenticate with (RFC 8310, section 6.6)"
                )
        if self.issuer_pins and self.trust_anchors is not None:
            raise LocalProtocolError("issuer_pins learn the trust anchor, trust_anchors give it: choose one")

    @property
    def validates(self) -> bool:
        """Whether the TLS library must validate the chain for :attr:`name` (PKIX, RFC 5280)."""
        return self.name is not None and not self.is_opportunistic and not self.issuer_pins

    @property
    def server_name(self) -> str | None:
        """What goes into SNI: the name, but never an address (RFC 6066, section 3)."""
        return None if self.name is None or is_address(self.name) else self.name

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should reconsider."""
        if len(self.pins) == 1:
            return ("only one pin: deploy a backup pin too (RFC 7858, section 4.2)",)
        return ()

    def with_learnt_anchor(self, certificate: bytes) -> AuthenticationPolicy:
        """The policy of the second handshake: the pinned certificate, now at hand, is the only anchor.

        Raises :class:`~dot_proto.LocalProtocolError` if no issuer pin names the certificate's key.
        """
        check_octets("certificate", certificate, "a certificate, DER or PEM,")
        if Pin.of_certificate(certificate) not in self.issuer_pins:
            raise LocalProtocolError("this certificate's key is not among the issuer pins")
        return replace(self, trust_anchors=(certificate,), issuer_pins=())


def _chain(certificates: Iterable[bytes]) -> tuple[bytes, ...]:
    return collected("certificates", certificates, bytes, "a list of certificates in DER, leaf first")


@dataclass(frozen=True, slots=True)
class PresentedChain:
    """Certificates that were merely sent, leaf first, in DER.  For display; never compared with a pin."""

    certificates: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "certificates", _chain(self.certificates))


@dataclass(frozen=True, slots=True)
class ValidatedChain:
    """Certificates that the TLS library validated for ``name`` (signatures, dates, usage), leaf first, in DER.

    Only a handshake that ran with certificate verification *required* may make one: what a library calls
    "verified chain" after any other handshake can hold a forged signature.
    """

    certificates: tuple[bytes, ...]
    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "certificates", _chain(self.certificates))
        check_text("name", self.name, "the name that the chain was validated for, as text")


class Reason(enum.Enum):
    """Why a peer was refused; stable codes."""

    NO_CERTIFICATE = "no-certificate"
    "No certificate at all: no match can come of that (RFC 7858, section 4.2)."
    BAD_CERTIFICATE = "bad-certificate"
    "The leaf is not DER, or not X.509."
    PIN = "pin"
    "None of the certificates that count has a pinned key."
    UNTRUSTED = "untrusted"
    "The chain does not end at a trust anchor, or a link of it is broken."
    NAME = "name"
    "The certificate is not for the authentication domain name (RFC 8310, section 8.1)."
    EXPIRED = "expired"
    "A certificate of the chain is past its notAfter."
    NOT_YET_VALID = "not-yet-valid"
    "A certificate of the chain is before its notBefore."
    USAGE = "usage"
    "The certificate is not for servers (RFC 5280, section 4.2.1.12)."
    ANCHOR_LEARNT = "anchor-learnt"
    "Not a failure of the peer: the issuer's certificate is now known, and a second handshake must prove it."
    OTHER_POLICY = "other-policy"
    "A session was resumed that had been made under another policy (RFC 8446, section 4.6.1)."


@dataclass(frozen=True, slots=True)
class ValidationFailure:
    """The TLS library's own refusal of a chain."""

    reason: Reason
    explanation: str

    def __post_init__(self) -> None:
        check_instance("reason", self.reason, Reason)
        check_text("explanation", self.explanation)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one handshake showed; made by the TLS layer, judged by the engine."""

    presented: PresentedChain = PresentedChain()
    "For display only."
    leaf: bytes | None = None
    "The certificate whose private key the handshake proved, in DER."
    validated: ValidatedChain | None = None
    "``None`` unless verification was required and succeeded."
    failure: ValidationFailure | None = None
    "Set when verification was required and failed: the handshake ended there."
    resumed: Verdict | None = None
    "The verdict under which the resumed session was made; ``None`` after a full handshake."
    wall_time: float | None = None
    "POSIX seconds, to tell about dates; ``None``: say nothing about them."

    def __post_init__(self) -> None:
        check_instance("presented", self.presented, PresentedChain)
        if self.leaf is not None:
            check_octets("leaf", self.leaf, "a certificate, or None, as DER")
        if self.validated is not None:
            check_instance("validated", self.validated, ValidatedChain)
        if self.failure is not None:
            check_instance("failure", self.failure, ValidationFailure)
        if self.resumed is not None:
            check_instance("resumed", self.resumed, Verdict)
        if self.wall_time is not None:
            check_time("wall_time", self.wall_time)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of one peer under one policy; made to be logged."""

    policy: AuthenticationPolicy
    accepted: bool
    "Whether queries may be sent."
    authenticated: bool
    "Whether the peer proved to be who the policy names; under strict the same as :attr:`accepted`."
    reason: Reason | None
    "Why not authenticated; ``None`` where authenticated, and where an opportunistic policy asks for nothing."
    explanation: str
    "One sentence for people."
    presented: tuple[CertificateFacts, ...] = ()
    "What was sent, leaf first; unreadable certificates are left out."
    validated: tuple[CertificateFacts, ...] = ()
    "The validated chain, leaf first; empty where nothing was validated."
    matched_pin: Pin | None = None
    matched_depth: int | None = None
    "Where the pin matched: 0 is the leaf, 1 its issuer, and so on up the validated chain."
    warnings: tuple[str, ...] = ()
    leaf: bytes | None = field(default=None, repr=False)
    "The certificate whose key the handshake proved, in DER."
    is_resumed: bool = False
    "Whether this verdict was inherited from the session that was resumed."
    anchor: bytes | None = field(default=None, repr=False)
    "With :attr:`Reason.ANCHOR_LEARNT`: the certificate, in DER, that the second handshake takes as anchor."

    @property
    def strays(self) -> tuple[CertificateFacts, ...]:
        """Certificates that were sent but are no part of what counted."""
        counted = self.validated or self.presented[:1]
        return tuple(one for one in self.presented if one not in counted)


# How the peer is judged, and why so.
#
# A handshake proves one thing: the server has the private key of the *leaf* certificate.  Everything else that it
# sends is only sent.  Anybody can append certificates of other people to his own, so that a well-known resolver's
# certificate in the list says nothing about who sent the list.  Some clients look for a pin in that list, and accept
# anybody who has read the resolver's certificate once.  So three things are kept apart here, and each has its name:
#
# * ``evidence.presented`` is what was sent.  It is shown to people, and compared with a pin in one case alone, below.
# * ``evidence.leaf`` is the certificate whose key was proved.
# * ``evidence.validated`` is a chain that the TLS library has built and checked, signature by signature, from the leaf
#   to a trust anchor, for a name.  It counts only if that was *this policy's* name, and if it begins with *this* leaf.
#
# A policy with a name asks for a validated chain; pins beside it are compared with every certificate of that chain,
# because each of them has vouched for the next.  A policy with pins alone compares them with the leaf and with nothing
# else: there is no chain that anybody has checked.
#
# The one case in which a sent certificate is looked at is an issuer that is known by its pin alone.  Then the first
# handshake cannot end in an acceptance.  It can only teach a certificate that holds the pinned key, which a second
# handshake takes for its only trust anchor; if nobody with that key has signed the chain, that handshake fails.
#
# A resumed session is judged by the verdict of the one that it resumes, since OpenSSL checks nothing again.  That
# verdict must have been an acceptance, under the same policy and of the same leaf, and its chain must still be valid.
#
# Whatever cannot be read, is missing, or does not fit is a refusal: there is no path through this function that
# accepts for want of a reason to refuse.  Only the opportunistic profile, which must be asked for by its name, asks
# whoever answers, and its verdict says that nobody was authenticated.


def judge(policy: AuthenticationPolicy, evidence: Evidence) -> Verdict:
    """The verdict on a peer; a pure function of its arguments."""
    check_instance("policy", policy, AuthenticationPolicy)
    check_instance("evidence", evidence, Evidence)
    if evidence.resumed is None:
        verdict = _judge_full(policy, evidence)
    else:
        verdict = _judge_resumed(policy, evidence, evidence.resumed)
    # Where validation was required and failed there is no TLS session, and so nobody to ask, whatever the policy.
    asks_anybody = policy.is_opportunistic and evidence.failure is None
    return replace(verdict, leaf=evidence.leaf, accepted=verdict.accepted or asks_anybody)


def _judge_resumed(policy: AuthenticationPolicy, evidence: Evidence, earlier: Verdict) -> Verdict:
    # A TLS library checks nothing again on resumption, so the earlier verdict is all there is: it must have
    # been an acceptance, under this very policy, of this very leaf.
    leaf = evidence.leaf
    if leaf is None or not (earlier.accepted and earlier.policy == policy and leaf == earlier.leaf):
        return Verdict(
            policy,
            accepted=False,
            authenticated=False,
            reason=Reason.OTHER_POLICY,
            explanation="the resumed TLS session was made under another policy or with another certificate",
        )
    told_anew = replace(earlier, is_resumed=True, warnings=(*policy.warnings, *_date_warnings(leaf, evidence)))
    if evidence.wall_time is None:
        return told_anew
    # The session was to be offered no longer than the validated chain lasts; this is the second lock.
    for number, one in enumerate(earlier.validated, 1):
        if about := one.date_warning(evidence.wall_time):
            return replace(
                told_anew,
                accepted=False,
                authenticated=False,
                reason=Reason.EXPIRED if about.startswith("expired") else Reason.NOT_YET_VALID,
                explanation=f"certificate #{number} of the chain that the resumed TLS session rests on is {about}",
            )
    return told_anew


def _judge_full(policy: AuthenticationPolicy, evidence: Evidence) -> Verdict:
    presented = tuple(_readable(evidence.presented.certificates))
    warnings = list(policy.warnings)

    def refuse(reason: Reason, explanation: str, anchor: bytes | None = None) -> Verdict:
        return Verdict(policy, False, False, reason, explanation, presented, warnings=tuple(warnings), anchor=anchor)

    if evidence.failure is not None:
        return refuse(evidence.failure.reason, evidence.failure.explanation)
    if evidence.leaf is None:
        return refuse(Reason.NO_CERTIFICATE, "the server presented no certificate")
    counted: tuple[CertificateFacts, ...]
    try:
        counted = (facts_of(evidence.leaf),)
        if policy.validates:
            chain = evidence.validated
            if chain is None or chain.name != policy.name or chain.certificates[:1] != (evidence.leaf,):
                return refuse(Reason.UNTRUSTED, f"the chain was not validated for {policy.name}")
            counted = tuple(map(facts_of, chain.certificates))
    except CertificateError as error:
        return refuse(Reason.BAD_CERTIFICATE, f"a certificate cannot be read: {error}")
    warnings += _date_warnings(evidence.leaf, evidence)

    if policy.issuer_pins:
        objections: list[str] = []
        for one in presented:
            if one.pin in policy.issuer_pins:
                objection = _no_issuer(one, evidence.wall_time)
                if objection is None:
                    return refuse(
                        Reason.ANCHOR_LEARNT, "the pinned issuer's certificate is known now; validate up to it", one.der
                    )
                objections.append(objection)
        if objections:
            return refuse(Reason.PIN, f"the certificate sent with the pinned issuer's key {objections[0]}")
        return refuse(Reason.PIN, f"none of the {len(presented)} certificates sent is the pinned issuer's")

    validated = counted if policy.validates else ()
    if not policy.pins:
        explanation = f"the chain is valid for {policy.name}" if validated else "nothing was asked of the server"
        return Verdict(policy, True, bool(validated), None, explanation, presented, validated, warnings=tuple(warnings))
    for depth, one in enumerate(counted):
        if one.pin in policy.pins:
            return Verdict(
                policy,
                accepted=True,
                authenticated=True,
                reason=None,
                explanation=f"pin {one.pin} matches certificate {depth + 1} of {len(counted)}",
                presented=presented,
                validated=validated,
                matched_pin=one.pin,
                matched_depth=depth,
                warnings=tuple(warnings),
            )
    refusal = refuse(Reason.PIN, _pin_mismatch(policy, counted, presented))
    return replace(refusal, validated=validated)


def _no_issuer(one: CertificateFacts, wall_time: float | None) -> str | None:
    """Why a certificate that holds the pinned key is not taken for the issuer's, or ``None``.

    A pin names a key.  Anybody may put that key into a certificate of his own making, with longer dates or fewer limits
    than the issuer's real one has, and append it.  So only a certificate that may issue certificates, and may do so
    now, is learnt; its own limits then hold for the chain.  What it says of itself beyond that is not proved by the
    pin: where the issuer's certificate is at hand, ``trust_anchors`` is the safer choice.
    """
    if not one.may_issue:
        return "may not issue certificates (RFC 5280, sections 4.2.1.3 and 4.2.1.9)"
    about = None if wall_time is None else one.date_warning(wall_time)
    return None if about is None else f"is {about}"


def _pin_mismatch(
    policy: AuthenticationPolicy, counted: tuple[CertificateFacts, ...], presented: tuple[CertificateFacts, ...]
) -> str:
    seen = ", ".join(str(one.pin) for one in counted)
    text = f"no pin matches; the server's {'chain has' if policy.validates else 'key has'} {seen}"
    for number, one in enumerate(presented, 1):
        if one.pin in policy.pins:
            return (
                f"{text}; the pin belongs to certificate #{number}, which was sent but proves nothing: "
                "to pin an issuer give a name too, with issuer_pins or trust_anchors"
            )
    for one in counted:
        if hint := one.pin.explain_mismatch(policy.pins, one.der):
            return f"{text}; {hint}"
    return text


def _date_warnings(leaf: bytes, evidence: Evidence) -> list[str]:
    """What is wrong with the dates of the server's own certificate; where a policy asks only for a key, a warning."""
    try:
        about = None if evidence.wall_time is None else facts_of(leaf).date_warning(evidence.wall_time)
    except CertificateError:
        return []
    return [] if about is None else [f"the server's certificate is {about}"]


def _readable(certificates: tuple[bytes, ...]) -> list[CertificateFacts]:
    facts: list[CertificateFacts] = []
    for der in certificates:
        try:
            facts.append(facts_of(der))
        except CertificateError:
            continue  # shown nowhere, counted nowhere: a stray that cannot be read harms nobody
    return facts


def _pins(what: str, pins: Iterable[Pin]) -> tuple[Pin, ...]:
    """Each pin once.  One given as text would match nothing, and say so to nobody."""
    return tuple(dict.fromkeys(collected(what, pins, Pin, "a list of Pin", "Pin.parse(text) makes one of base64")))


def _anchors(anchors: Iterable[bytes] | None) -> tuple[bytes, ...] | None:
    if anchors is None:
        return None
    return check_anchors("trust_anchors", anchors)


def check_anchors(what: str, anchors: Iterable[bytes]) -> tuple[bytes, ...]:
    """Certificates in DER, each of which can be read; raises :class:`~dot_proto.LocalProtocolError`."""
    wanted = "a list of certificates in DER, as certificates_from(octets_of_a_pem_file) returns it"
    found = collected(what, anchors, bytes, wanted)
    for number, certificate in enumerate(found):
        if certificate.startswith(b"-----"):
            raise LocalProtocolError(f"{what} must be {wanted}, but number {number} in it is PEM")
        try:
            _der.read_certificate(certificate)
        except CertificateError as error:
            raise CertificateError(
                f"{what} must be {wanted}, but number {number} in it cannot be read: {error}"
            ) from None
    return found


def normalize_name(name: str) -> str:
    """An authentication domain name or address in the one form that is compared (RFC 8310, section 8.1).

    Lower case, without the final dot; an address without brackets and zone id, in its shortest form.
    Raises :class:`~dot_proto.LocalProtocolError`; an internationalised name must come as A-labels.
    """
    if not isinstance(name, str):
        raise LocalProtocolError(f"a name must be text, not {shown(name)}")
    bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        pass
    else:
        return str(address).partition("%")[0]
    dotless = name.removesuffix(".")
    if not dotless.isascii():
        raise LocalProtocolError(f"{shown(name)} is not ASCII: give the A-label form (IDNA, RFC 5891)")
    if not 1 <= len(dotless) <= MAX_NAME_LENGTH:
        raise LocalProtocolError(f"a name has 1 to {MAX_NAME_LENGTH} octets, not {len(dotless)}: {shown(name)}")
    for label in dotless.split("."):
        if not 1 <= len(label) <= MAX_LABEL_LENGTH:
            raise LocalProtocolError(f"a label has 1 to {MAX_LABEL_LENGTH} octets: {shown(label)} in {shown(name)}")
        if not label.replace("-", "").replace("_", "").isalnum():
            raise LocalProtocolError(f"{shown(label)} in {shown(name)} is no label of a host name")
    if _NUMBER.fullmatch(dotless.rpartition(".")[2]):
        # Some programs read 127.0.0.010 as 127.0.0.8, some as 127.0.0.10, and a certificate may be for it as a name.
        # RFC 8310 knows names and addresses and nothing between them, so what is read in three ways is refused.
        raise LocalProtocolError(
            f"{shown(name)} ends in a number but is no IP address: write an IPv4 address as four decimal numbers "
            "from 0 to 255, without leading zeros"
        )
    return dotless.lower()


_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
"A last label that some reader of addresses takes for a number, in whatever base (RFC 1123, section 2.1)."


def is_address(name: str) -> bool:
    """Whether a normalized name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
