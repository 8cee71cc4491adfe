"""The policy: what a server must prove before it is asked anything (RFC 8310, sections 5 and 6.6)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from . import _der
from ._facts import CertificateFacts
from .arguments import check_flag, check_octets, collected
from .errors import CertificateError, LocalProtocolError
from .hosts import is_address, normalize_name
from .pins import Pin


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

    tries_name: bool = False
    "Of an opportunistic policy: try to authenticate the name first, in a handshake of its own (RFC 8310, section 6.5)."

    def __post_init__(self) -> None:
        if self.name is not None:
            object.__setattr__(self, "name", normalize_name(self.name))
        object.__setattr__(self, "pins", _pins("pins", self.pins))
        object.__setattr__(self, "issuer_pins", _pins("issuer_pins", self.issuer_pins))
        object.__setattr__(self, "trust_anchors", _anchors(self.trust_anchors))
        check_flag("is_opportunistic", self.is_opportunistic)
        check_flag("tries_name", self.tries_name)
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
    def opportunistic(
        cls,
        name: str | None = None,
        *,
        pins: tuple[Pin, ...] | list[Pin] = (),
        tries_name: bool = False,
        trust_anchors: tuple[bytes, ...] | list[bytes] | None = None,
        issuer_pins: tuple[Pin, ...] | list[Pin] = (),
    ) -> AuthenticationPolicy:
        """The opportunistic usage profile: never the default, always asked for by this name.

        ``pins`` are compared with the server's own key, and the verdict reports the result.  ``name`` goes into SNI
        only, unless ``tries_name`` is set: then it is first tried as a strict policy would, with all that is given, and
        the verdict reports what came of that (RFC 8310, section 6.5).  A TLS library cannot find a chain wrong and go
        on, so where the server is *not* authenticated this costs a second connection, each time; where it is, nothing.

        Raises :class:`~dot_proto.LocalProtocolError` for what could not be tried, as a name that is not given.
        """
        anchors, issuers = _anchors(trust_anchors), _pins("issuer_pins", issuer_pins)
        return cls(name, _pins("pins", pins), anchors, issuers, is_opportunistic=True, tries_name=tries_name)

    def _refuse_the_impossible(self) -> None:
        if self.trust_anchors is not None:
            checked_anchors("trust_anchors", self.trust_anchors, without="for the system's trust store")
        if self.tries_name and not self.is_opportunistic:
            raise LocalProtocolError("tries_name is for opportunistic policies: a strict one asks nobody else")
        if self.tries_name and self.name is None:
            raise LocalProtocolError("tries_name without a name: give the server's name too")
        if self.is_opportunistic and not self.tries_name:
            if self.trust_anchors is not None or self.issuer_pins:
                raise LocalProtocolError(
                    "an opportunistic policy validates no chain: set tries_name, or leave out trust_anchors and "
                    "issuer_pins"
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
    def tried_first(self) -> AuthenticationPolicy | None:
        """The strict policy that is tried first where this opportunistic one has a name to try."""
        return replace(self, is_opportunistic=False, tries_name=False) if self.tries_name else None

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

        Raises :class:`~dot_proto.LocalProtocolError` if no issuer pin names the certificate's key, and if it may not
        issue certificates (RFC 5280, section 4.2.1).
        """
        check_octets("certificate", certificate, "a certificate's DER")
        facts = CertificateFacts.of(certificate)
        if facts.pin not in self.issuer_pins:
            raise LocalProtocolError("this certificate's key is not among the issuer pins")
        if not facts.may_issue:
            raise LocalProtocolError("this certificate may not issue others, so that it cannot end a chain")
        return replace(self, trust_anchors=(certificate,), issuer_pins=())


def _pins(what: str, pins: Iterable[Pin]) -> tuple[Pin, ...]:
    """Each pin once.  One given as text would match nothing, and say so to nobody."""
    return tuple(dict.fromkeys(collected(what, pins, Pin, "a list of Pin", "Pin.parse(text) makes one of base64")))


def checked_anchors(what: str, anchors: Iterable[bytes], *, without: str) -> tuple[bytes, ...]:
    """Certificates in DER that end a chain, at least one, all of which can be read; ``without``: what ``None`` is for.

    Raises :class:`~dot_proto.LocalProtocolError`, also as :class:`~dot_proto.CertificateError`.  OpenSSL would pass
    over some that it cannot read.
    """
    found = _listed(what, anchors)
    if not found:
        raise LocalProtocolError(f"{what} is empty, so that no chain could ever end; pass None {without}")
    for number, certificate in enumerate(found, 1):
        try:
            _der.read_certificate(certificate)
        except CertificateError as error:
            raise CertificateError(f"certificate {number} of {what} cannot be read: {error}") from None
    return found


def _anchors(anchors: Iterable[bytes] | None) -> tuple[bytes, ...] | None:
    return None if anchors is None else _listed("trust_anchors", anchors)


def _listed(what: str, anchors: Iterable[bytes]) -> tuple[bytes, ...]:
    wanted = "a list of certificates in DER, as certificates_from(octets_of_a_pem_file) gives it"
    found = collected(what, anchors, bytes, wanted)
    for number, one in enumerate(found, 1):
        if b"-----BEGIN " in one[:64]:
            raise LocalProtocolError(f"{what} must be {wanted}, but number {number} in it is PEM")
    return found
