"""Who may be asked: the evidence of a handshake, and the verdict on it under a policy.

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
opportunistic that tries       always: first tried as a strict policy in a handshake of its own; where that is
its name                       refused, a second handshake asks whoever answers, and its verdict says why
=============================  ==========================================================================

A pin is never compared with a certificate that was merely *sent*.  Anyone can append a stranger's public
certificate to his own chain; RFC 7469, section 2.6, says to ignore what is no part of the validated chain.
So the two kinds of chain are two types, and :func:`judge` looks for pins in one of them only.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ._facts import CertificateFacts as CertificateFacts
from ._facts import facts_of as facts_of
from ._facts import validity_of as validity_of
from ._policy import AuthenticationPolicy as AuthenticationPolicy
from ._policy import checked_anchors as checked_anchors
from .arguments import check_instance, check_octets, check_text, check_time, collected
from .errors import CertificateError
from .hosts import MAX_LABEL_LENGTH as MAX_LABEL_LENGTH
from .hosts import MAX_NAME_LENGTH as MAX_NAME_LENGTH
from .hosts import is_address as is_address
from .hosts import normalize_name as normalize_name
from .pins import Pin


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
    "A certificate that counts is not DER, or not X.509, or has no dates to go by."
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
    tried: Verdict | None = None
    "The refusal of the handshake before, which tried the name of an opportunistic policy; ``None``: there was none."
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
        if self.tried is not None:
            check_instance("tried", self.tried, Verdict)
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
    "What was sent, leaf first; certificates that cannot be read are left out: see :attr:`numbered`."
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
    unreadable: tuple[tuple[int, str], ...] = ()
    "Certificates sent that cannot be read: the number of each in the chain, from 1, and why."

    @property
    def numbered(self) -> tuple[tuple[int, CertificateFacts], ...]:
        """Each of :attr:`presented` with its number in the chain as it was sent; 1 is the server's own."""
        unreadable = {number for number, _ in self.unreadable}
        count = len(self.presented) + len(unreadable)
        return tuple(zip([one for one in range(1, count + 1) if one not in unreadable], self.presented, strict=True))

    @property
    def strays(self) -> tuple[CertificateFacts, ...]:
        """Certificates that were sent but are no part of what counted."""
        counted = self.validated or tuple(one for number, one in self.numbered if number == 1)
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
# whoever answers, and its verdict says that nobody was authenticated.  Where such a policy tries a name, two handshakes
# are judged, each by itself: the first under the strict policy that it is without its leniency, the second, if there
# is one, under itself; the reason of the first refusal is then the reason why nobody was authenticated.


def judge(policy: AuthenticationPolicy, evidence: Evidence) -> Verdict:
    """The verdict on a peer; a pure function of its arguments."""
    check_instance("policy", policy, AuthenticationPolicy)
    check_instance("evidence", evidence, Evidence)
    if evidence.resumed is None:
        numbered, unreadable = _read(evidence.presented.certificates)
        verdict = _judge_full(policy, evidence, numbered, _warnings_about(unreadable))
    else:
        verdict = _judge_resumed(policy, evidence, evidence.resumed)
        unreadable = verdict.unreadable
    if policy.is_opportunistic and evidence.tried is not None:
        verdict = _told_of_the_try(verdict, evidence.tried)
    # Where validation was required and failed there is no TLS session, and so nobody to ask, whatever the policy.
    asks_anybody = policy.is_opportunistic and evidence.failure is None
    return replace(verdict, leaf=evidence.leaf, accepted=verdict.accepted or asks_anybody, unreadable=unreadable)


def _told_of_the_try(verdict: Verdict, tried: Verdict) -> Verdict:
    """A pin that matches is not enough where a name was tried: who has both matches both (RFC 8310, section 6.4)."""
    about_pin = "" if verdict.matched_pin is None else f"; pin {verdict.matched_pin} matches the server's own key"
    explanation = f"asked without authentication, since it was tried and failed: {tried.explanation}{about_pin}"
    return replace(verdict, authenticated=False, reason=tried.reason, explanation=explanation)


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
    warnings = (*policy.warnings, *_warnings_about(earlier.unreadable), *_date_warnings(leaf, evidence))
    told_anew = replace(earlier, is_resumed=True, warnings=warnings)
    if evidence.wall_time is None:
        return told_anew
    # The session was to be offered no longer than the validated chain lasts; this is the second lock.
    for number, one in enumerate(earlier.validated, 1):
        which = f"certificate #{number} of the chain that the resumed TLS session rests on"
        if one.not_before is None or one.not_after is None:
            reason, explanation = Reason.BAD_CERTIFICATE, f"{which} has a date that cannot be read"
        elif about := one.date_warning(evidence.wall_time):
            reason = Reason.EXPIRED if about.startswith("expired") else Reason.NOT_YET_VALID
            explanation = f"{which} is {about}"
        else:
            continue
        return replace(told_anew, accepted=False, authenticated=False, reason=reason, explanation=explanation)
    return told_anew


def _judge_full(
    policy: AuthenticationPolicy, evidence: Evidence, numbered: dict[int, CertificateFacts], about_sent: list[str]
) -> Verdict:
    presented = tuple(numbered.values())
    warnings = [*policy.warnings, *about_sent]

    def refuse(reason: Reason, explanation: str, anchor: bytes | None = None) -> Verdict:
        return Verdict(policy, False, False, reason, explanation, presented, warnings=tuple(warnings), anchor=anchor)

    if evidence.failure is not None:
        return refuse(evidence.failure.reason, evidence.failure.explanation)
    if evidence.leaf is None:
        return refuse(Reason.NO_CERTIFICATE, "the server presented no certificate")
    counting: tuple[bytes, ...] = (evidence.leaf,)
    if policy.validates:
        chain = evidence.validated
        if chain is None or chain.name != policy.name or chain.certificates[:1] != counting:
            return refuse(Reason.UNTRUSTED, f"the chain was not validated for {policy.name}")
        counting = chain.certificates
    facts, unreadable = _read(counting)
    if unreadable:
        number, why = unreadable[0]
        which = "the server's certificate" if number == 1 else f"certificate #{number} of the validated chain"
        return refuse(Reason.BAD_CERTIFICATE, f"{which} cannot be read: {why}")
    counted = tuple(facts.values())
    warnings += _date_warnings(evidence.leaf, evidence)

    if policy.issuer_pins and not policy.is_opportunistic:
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
        count = len(evidence.presented.certificates)
        return refuse(Reason.PIN, f"none of the {count} certificates sent is the pinned issuer's")

    validated = counted if policy.validates else ()
    if not policy.pins:
        asked = "its name was not tried" if policy.tries_name else "nothing was asked of the server"
        explanation = f"the chain is valid for {policy.name}" if validated else asked
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
    refusal = refuse(Reason.PIN, _pin_mismatch(policy, counted, numbered))
    return replace(refusal, validated=validated)


def _no_issuer(one: CertificateFacts, wall_time: float | None) -> str | None:
    """Why a certificate that holds the pinned key is not taken for the issuer's, or ``None``.

    A pin names a key.  Anybody may put that key into a certificate of his own making, with longer dates or fewer limits
    than the issuer's real one has, and append it.  So only a certificate that may issue certificates, and may do so
    now, is learnt; its own limits then hold for the chain.  What it says of itself beyond that is not proved by the
    pin: where the issuer's certificate is at hand, ``trust_anchors`` is the safer choice.
    """
    if not one.may_issue:
        return "may not issue certificates, or says so in no way that can be read (RFC 5280, section 4.2.1)"
    if one.not_before is None or one.not_after is None:
        return "has dates that cannot be read (RFC 5280, section 4.1.2.5)"
    about = None if wall_time is None else one.date_warning(wall_time)
    return None if about is None else f"is {about}"


def _pin_mismatch(
    policy: AuthenticationPolicy, counted: tuple[CertificateFacts, ...], numbered: dict[int, CertificateFacts]
) -> str:
    seen = ", ".join(str(one.pin) for one in counted)
    text = f"no pin matches; the server's {'chain has' if policy.validates else 'key has'} {seen}"
    for number, one in numbered.items():
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
    if evidence.wall_time is None:
        return []
    try:
        facts = facts_of(leaf)
    except CertificateError:
        return []
    warnings = [
        f"the server's certificate has a {name} that cannot be read"
        for name, date in (("notBefore", facts.not_before), ("notAfter", facts.not_after))
        if date is None
    ]
    about = facts.date_warning(evidence.wall_time)
    return warnings if about is None else [*warnings, f"the server's certificate is {about}"]


def _read(certificates: tuple[bytes, ...]) -> tuple[dict[int, CertificateFacts], tuple[tuple[int, str], ...]]:
    """The certificates that can be read, by number from 1; and the numbers of the others, with the reasons."""
    facts: dict[int, CertificateFacts] = {}
    unreadable: list[tuple[int, str]] = []
    for number, der in enumerate(certificates, 1):
        try:
            facts[number] = facts_of(der)
        except CertificateError as error:
            unreadable.append((number, str(error)))
    return facts, tuple(unreadable)


def _warnings_about(unreadable: tuple[tuple[int, str], ...]) -> list[str]:
    """One warning, however many certificates a server sends that nobody can read."""
    if not unreadable:
        return []
    (number, why), *others = unreadable
    more = f"; nor can {len(others)} more" if others else ""
    return [f"certificate #{number} of those sent cannot be read: {why}{more}"]
