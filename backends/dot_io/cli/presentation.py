"""The session and the verdict as lines of text, in kdig's layout; the answer is in ``answers``.

Each function returns lines without line ends and does no I/O, so that a transcript is made by printing them in the
order in which things happen.  Where kdig's ``-d`` says nothing (what was validated, ALPN, times) the lines are ours.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import Final, NamedTuple

from dot_proto.authentication import CertificateFacts, Reason, Verdict

from ._errors import printable
from .certificates import subject

DEBUG: Final = ";; DEBUG: "


class SessionFacts(NamedTuple):
    """What a TLS session negotiated, in the names of ``ssl`` and of IANA's registries."""

    version: str
    "Such as ``TLSv1.3``."
    cipher: str
    "Such as ``TLS_AES_256_GCM_SHA384`` (RFC 8446) or OpenSSL's name of a TLS 1.2 suite."
    group: str | None
    "Such as ``secp256r1`` (RFC 8446, section 4.2.7) or GnuTLS's ``ECDHE-SECP256R1``; ``None``: not known."
    signature: str | None
    "Such as ``ecdsa_secp256r1_sha256`` (RFC 8446, section 4.2.3), or that in GnuTLS's form; ``None``: not known."
    alpn: str | None
    "The application protocol that the server chose (RFC 7301): ``dot``, or ``None``."
    resumed: bool
    "Whether an earlier session was resumed (RFC 8446, section 2.2)."


class Times(NamedTuple):
    """How long each step took, in seconds."""

    connect: float
    handshake: float
    answer: float

    @property
    def total(self) -> float:
        """Seconds from the start of the connection to the answer."""
        return self.connect + self.handshake + self.answer


# Before the answer: what ``-d`` shows.


def querying(name: str, rdclass: int, rdtype: int, server: str, port: int) -> list[str]:
    """What is about to be asked of whom."""
    return [
        f"{DEBUG}Querying for owner({name}), class({rdclass}), type({rdtype}), server({server}), port({port}), "
        "protocol(TCP)"
    ]


def imported(count: int, file: str | None) -> list[str]:
    """How many trust anchors there are; ``file`` is ``None`` for the system's trust store."""
    source = f"{count} system certificates" if file is None else f"{count} certificates from '{file}'"
    return [f"{DEBUG}TLS, imported {source}"]


def judgement(verdict: Verdict) -> list[str]:
    """Certificates sent, pins, the judgement, and the validated chain apart."""
    return [*_hierarchy(verdict), *_pin_check(verdict), *_trust(verdict), *_validated(verdict), *_warnings(verdict)]


def _hierarchy(verdict: Verdict) -> list[str]:
    if not verdict.presented and not verdict.unreadable:
        return [f"{DEBUG}TLS, no certificate received"]
    title = "certificate hierarchy of the session resumed:" if verdict.is_resumed else "received certificate hierarchy:"
    shown = {number: _certificate(verdict, number, one) for number, one in verdict.numbered}
    for number, why in verdict.unreadable:
        shown[number] = [f"{DEBUG} #{number}, cannot be read: {printable(why)}"]
    return [f"{DEBUG}TLS, {title}", *chain.from_iterable(shown[number] for number in sorted(shown))]


def _validated(verdict: Verdict) -> list[str]:
    if not verdict.validated:
        return []
    shown = (_certificate(verdict, number, one) for number, one in enumerate(verdict.validated, 1))
    return [f"{DEBUG}TLS, validated certificate chain:", *chain.from_iterable(shown)]


def _certificate(verdict: Verdict, number: int, one: CertificateFacts) -> list[str]:
    return [
        f"{DEBUG} #{number}, {subject(one.der)}",
        f"{DEBUG}     SHA-256 PIN: {one.pin}{_remark(verdict, one)}",
    ]


def _remark(verdict: Verdict, one: CertificateFacts) -> str:
    if one == matched_certificate(verdict):
        return ", MATCH"
    if one in verdict.strays and one.pin in verdict.policy.pins:
        return ", pinned, but was only sent: proves nothing"
    if one in verdict.strays and verdict.validated:
        return ", stray: no part of the validated chain"
    return ""


def matched_certificate(verdict: Verdict) -> CertificateFacts | None:
    """The certificate whose key a pin names, among those that count: never one that was merely sent."""
    if verdict.matched_depth is None:
        return None
    counted = dict(enumerate(verdict.validated, 1)) or dict(verdict.numbered)
    return counted.get(verdict.matched_depth + 1)  # a Python may hide what was sent


def _pin_check(verdict: Verdict) -> list[str]:
    if not verdict.policy.pins:
        return [f"{DEBUG}TLS, skipping certificate PIN check"]
    if verdict.matched_depth is not None:
        where = " of the validated chain" if verdict.validated else ""
        return [f"{DEBUG}TLS, the PIN of certificate #{verdict.matched_depth + 1}{where} matches"]
    if verdict.reason is Reason.PIN:
        return [f"{DEBUG}TLS, no certificate PIN match"]
    return [f"{DEBUG}TLS, certificate PINs not compared"]


def _trust(verdict: Verdict) -> list[str]:
    if verdict.reason is Reason.PIN:
        return [f"{DEBUG}TLS, {printable(verdict.explanation)}"]
    if verdict.reason is not None:
        return [f"{DEBUG}TLS, The certificate is NOT trusted. {printable(verdict.explanation)}"]
    if verdict.validated:
        return [f"{DEBUG}TLS, The certificate is trusted."]
    return [f"{DEBUG}TLS, skipping certificate verification"]


def _warnings(verdict: Verdict) -> list[str]:
    return [f";; WARNING: TLS, {printable(warning)}" for warning in verdict.warnings]


def handshake_details(facts: SessionFacts) -> list[str]:
    """What kdig does not say of a session: ALPN, and whether it was resumed."""
    alpn = f"ALPN {printable(facts.alpn)}" if facts.alpn else "no ALPN"
    return [f"{DEBUG}TLS, {alpn}, {'session resumed' if facts.resumed else 'full handshake'}"]


def session(facts: SessionFacts) -> list[str]:
    """The session line, in GnuTLS's names, which kdig uses; what is not known is left out."""
    parts = [facts.version.replace("TLSv", "TLS")]
    if facts.group is not None:
        parts.append(_group(facts.group))
    if facts.signature is not None:
        parts.append(facts.signature.upper().replace("_", "-"))
    parts.append(_cipher(facts.cipher))
    return [f";; TLS session {'-'.join(f'({part})' for part in parts)}"]


def _group(name: str) -> str:
    upper = name.upper()
    if upper.startswith("FFDHE"):
        return f"DHE-{upper}"
    return f"ECDHE-{upper}" if re.fullmatch(r"SECP\d+R1|X25519|X448|BRAINPOOL\w+", upper) else upper


def _cipher(name: str) -> str:
    found = re.search(r"(CHACHA20)[-_](POLY1305)|(AES|ARIA|CAMELLIA)[-_]?(\d+)[-_](GCM|CCM[-_]?8?)", name)
    return "-".join(part.replace("_", "-") for part in found.groups() if part) if found else name


def durations(times: Times) -> list[str]:
    """Where the time went."""
    return [
        f"{DEBUG}Time: connect {times.connect * 1e3:.1f} ms, handshake {times.handshake * 1e3:.1f} ms, "
        f"answer {times.answer * 1e3:.1f} ms"
    ]
