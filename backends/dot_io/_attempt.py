"""Which handshakes it takes to reach a verdict, where one does not do; each is a TCP connection of its own.

Nothing was sent in a handshake that has failed, so that to dial once more is safe.  There are four reasons for it:

* An issuer is pinned by its hash.  The first handshake only learns the issuer's certificate, the second validates.
* A server ends handshakes in which a session is offered, instead of falling back to a full one.  It would do so each
  time, for as long as we have a ticket of its.
* Several trust anchors are given, and more than one of them may have issued the chain.  OpenSSL takes the first that
  has the issuer's name, and does not look at another where the signature shows that it was the wrong one: as where an
  authority has changed its key, and its certificates have no key identifiers.  So each of these anchors is tried by
  itself, and the one that was right is remembered: the next connection begins with it.
* An opportunistic policy tries a name first.  ssl cannot find a chain wrong and go on, so that whoever answers is asked
  in another handshake, which validates nothing.

Every handshake has a context, and so a cache key, of its own: what was agreed on in one is resumed in no other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from dot_proto import Reason, Verdict
from dot_proto.authentication import facts_of

from .errors import AuthenticationError, Failure, HandshakeError
from .tls import ClientContext

MAX_ANCHORS_TRIED: Final = 8
"Trust anchors of one connection that are tried by themselves; as many handshakes more, at the worst."


@dataclass(frozen=True, slots=True)
class Attempt:
    """One handshake, and those that may follow it."""

    context: ClientContext
    "Of this handshake."
    tried: Verdict | None = None
    "The refusal after which this one asks whoever answers."
    _later: tuple[ClientContext, ...] = ()
    "After a refusal, in this order."
    _fallback: ClientContext | None = None
    "After all these: the opportunistic policy's own."
    _refusal: AuthenticationError | None = None
    "Of those so far: the one that tells most."

    @classmethod
    def first(cls, context: ClientContext) -> Attempt:
        """The handshake to begin with."""
        tried_first = context.policy.tried_first
        strict = context if tried_first is None else context.under(tried_first)
        fallback = None if strict is context else context
        anchored = strict.with_last_anchor()
        return cls(strict, _fallback=fallback) if anchored is None else cls(anchored, None, (strict,), fallback)

    def after(self, error: HandshakeError, server: tuple[str, int]) -> Attempt:
        """What to do after a failure at ``server``, an address and a port; raises the error where nothing is left."""
        context = self.context
        if isinstance(error, AuthenticationError) and error.verdict.reason is Reason.ANCHOR_LEARNT:
            assert error.verdict.anchor is not None
            return replace(self, context=context.with_learnt_anchor(error.verdict.anchor))
        if error.session_was_offered and error.failure not in (Failure.TIMED_OUT, Failure.LOCAL):
            assert context.sessions is not None
            context.sessions.forget_server(context, server)
            return self
        if not isinstance(error, AuthenticationError):
            raise error
        # A name is compared after a chain was found, so that no other anchor would change it.
        later = () if error.verdict.reason is Reason.NAME else (*_apart(context, error.verdict), *self._later)
        refusal = error
        if self._refusal is not None and error.verdict.reason is Reason.UNTRUSTED:
            refusal = self._refusal  # of two anchors the wrong one says nothing about the server
        if later:
            return replace(self, context=later[0], _later=later[1:], _refusal=refusal)
        if self._fallback is not None:
            return Attempt(self._fallback, refusal.verdict)
        raise refusal


def _apart(context: ClientContext, refused: Verdict) -> list[ClientContext]:
    """A context for each anchor that may have issued something of the chain that was refused, if there are several."""
    anchors = context.policy.trust_anchors or ()
    if len(anchors) < 2:
        return []
    # An anchor ends a chain as an issuer of what was sent, or by being sent itself; where this Python does not show
    # what was sent, any may.  The last ones first: OpenSSL has taken the first, and who changes a key adds the new one.
    names = {name.translate(_LOOSELY) for one in refused.presented for name in (one.issuer, one.subject)}
    candidates = [one for one in reversed(anchors) if not names or facts_of(one).subject.translate(_LOOSELY) in names]
    if len(candidates) < 2:
        return []
    return [context.with_anchor(one) for one in candidates[:MAX_ANCHORS_TRIED]]


_LOOSELY: Final = bytes.maketrans(b"\x13\x14\x16ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"\x0c\x0c\x0cabcdefghijklmnopqrstuvwxyz")
"""OpenSSL takes names for equal that differ in case, or in the type of their text (PrintableString, TeletexString,
IA5String, UTF8String).  So does this, and takes some more for equal: what comes of that is a handshake in vain."""
