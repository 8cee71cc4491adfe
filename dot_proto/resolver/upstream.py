"""What an upstream is: whom to ask, where, and what it must prove.

The address that is dialled and the name that is authenticated are two things (RFC 8310, section 6).  What a server
must prove follows from what is given, and nothing that is left out makes it less:

=============================  ==========================================================================
given                          the server must show
=============================  ==========================================================================
a name                         a certificate for the name
pins                           one of the keys as its own
a name and pins                both
neither                        a certificate for the address that is dialled, as systemd-resolved has it
``is_opportunistic``           nothing (RFC 8310, section 5)
=============================  ==========================================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

from ..authentication import AuthenticationPolicy
from ..errors import LocalProtocolError, UpstreamError
from ..hosts import PORT, check_port, is_address, normalize_address, normalize_name
from ..pins import Pin
from ._advice import masked, read_address, unknown
from ._url import Fields, read_url
from .operators import OPERATORS

V = TypeVar("V")

MAX_ADDRESSES: Final = 16
"Addresses of one upstream."

MAX_UPSTREAMS: Final = 16
"Upstreams of one resolver, and those that may be asked for the addresses of another."


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Upstream:
    """A server to ask over TLS, or several addresses of one: whom, where, and what it must prove.

    Two upstreams are equal if all that is below is equal, and an upstream is hashable: connections and sessions that
    are kept by upstream are never shared by two that only have an address in common.  ``str()`` and ``repr()`` are
    for logs: without the names that operators give to accounts, and without the octets of trust anchors.

    Lists are taken for tuples, and addresses and names in each of their forms.  Raises
    :class:`~dot_proto.UpstreamError` for what could not be dialled or could authenticate nobody.
    """

    name: str | None = None
    "Authentication domain name, as an A-label, or an IP address; ``None``: pins, or else the address, authenticate."

    addresses: tuple[str, ...] = ()
    "IP addresses to dial, the best one first, 16 at the most; empty: to be found by the name (see ``bootstrap``)."

    port: int = PORT
    "TCP port, of each address."

    pins: tuple[Pin, ...] = ()
    "SPKI pins; any match suffices (RFC 7858, section 4.2)."

    trust_anchors: tuple[bytes, ...] | None = None
    "Certificates in DER, as in :class:`~dot_proto.AuthenticationPolicy`; ``None``: the system's trust store."

    issuer_pins: tuple[Pin, ...] = ()
    "Pins of an issuer whose certificate is not at hand, as in :class:`~dot_proto.AuthenticationPolicy`."

    is_opportunistic: bool = False
    "The usage profile (RFC 8310, section 5): encrypt, and ask whoever answers."

    bootstrap: tuple[Upstream, ...] | Literal["system"] = ()
    """Whom to ask for the addresses of ``name``, where none are given: upstreams that have addresses and are strict, or
    the system's resolver, which asks in the clear; empty: nobody.  Whatever the answer, the name is authenticated."""

    _policy: AuthenticationPolicy = field(init=False, compare=False)
    "Of the first address, and of all others unless the address is what is authenticated."

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        if self.name is not None:
            set_field(self, "name", checked("name", normalize_name, self.name))
        set_field(self, "addresses", _addresses(self.addresses))
        checked("port", check_port, self.port)
        if not isinstance(self.is_opportunistic, bool):
            raise UpstreamError(f"is_opportunistic: True or False, not {type(self.is_opportunistic).__name__}")
        set_field(self, "bootstrap", _bootstrap(self.bootstrap))
        self._refuse_the_unreachable()
        try:
            policy = self._policy_of(self.addresses[0] if self.addresses else "")
        except LocalProtocolError as error:
            raise UpstreamError(str(error)) from None
        for name in ("pins", "issuer_pins", "trust_anchors"):
            set_field(self, name, getattr(policy, name))
        set_field(self, "_policy", policy)

    def _refuse_the_unreachable(self) -> None:
        if self.addresses:
            if self.bootstrap:
                raise UpstreamError(
                    "bootstrap: it finds the addresses of a name, and addresses are given: leave it out"
                )
        elif self.name is None:
            raise UpstreamError("addresses: neither an address to dial nor a name to find one by: give one of them")
        elif is_address(self.name):
            raise UpstreamError(
                f"name: {self.name!r} is an address and says what to authenticate; give addresses=[...] to dial too"
            )

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        trust_anchors: Iterable[bytes] | None = None,
        bootstrap: Iterable[Upstream] | Literal["system"] = (),
    ) -> Upstream:
        """Read ``tls://ADDRESS[:PORT][?KEY=VALUE&...][#NAME]`` or ``tls://NAME[:PORT][?KEY=VALUE&...]``.

        An IPv6 address is in brackets.  The keys are ``pin`` and ``issuer-pin`` (base64, where ``+`` is a plus),
        ``address`` (one more), ``bootstrap`` (``system``, or the URL of an upstream, ``%``-encoded), which may come
        more than once, and ``profile`` (``strict`` or ``opportunistic``).  Trust anchors have no text, so that they
        are an argument.

        Raises :class:`~dot_proto.UpstreamError`: what is wrong, at which character, and what was meant.
        """
        fields = read_url(text)
        if fields.bootstrap and bootstrap:
            raise UpstreamError("bootstrap is in the URL and in the argument: give one of them")
        anchors = None if trust_anchors is None else listed("trust_anchors", trust_anchors)
        return cls._of(fields, anchors, read_bootstrap(fields.bootstrap) if fields.bootstrap else _bootstrap(bootstrap))

    @classmethod
    def _of(
        cls,
        fields: Fields,
        trust_anchors: tuple[bytes, ...] | None = None,
        bootstrap: tuple[Upstream, ...] | Literal["system"] = (),
    ) -> Upstream:
        return cls(
            name=fields.name,
            addresses=tuple(fields.addresses),
            port=fields.port,
            pins=tuple(fields.pins),
            trust_anchors=trust_anchors,
            issuer_pins=tuple(fields.issuer_pins),
            is_opportunistic=fields.is_opportunistic,
            bootstrap=bootstrap,
        )

    @classmethod
    def well_known(cls, operator: str) -> Upstream:
        """A public resolver by its operator's name: ``cloudflare``, ``google``, ``quad9``, and their variants.

        Addresses, names, sources and date stand in ``dot_proto/resolver/operators.py``.  Raises
        :class:`~dot_proto.UpstreamError` for a name that is not there.
        """
        if not isinstance(operator, str) or operator not in OPERATORS:
            raise UpstreamError(unknown("operator", operator, OPERATORS))
        entry = OPERATORS[operator]
        return cls(name=entry.name, addresses=entry.addresses)

    def policy_for(self, address: str) -> AuthenticationPolicy:
        """What the server must prove that was dialled at ``address``, one of :attr:`addresses` or one that was found.

        The address matters only where neither a name nor a pin is given.
        """
        return self._policy_of(address) if self._is_known_by_address else self._policy

    @property
    def _is_known_by_address(self) -> bool:
        return self.name is None and not self.pins and not self.is_opportunistic

    def _policy_of(self, address: str) -> AuthenticationPolicy:
        name = normalize_address(address).partition("%")[0] if self._is_known_by_address else self.name
        return AuthenticationPolicy(name, self.pins, self.trust_anchors, self.issuer_pins, self.is_opportunistic)

    @property
    def url(self) -> str:
        """The text that :meth:`parse` reads as an equal upstream, but for trust anchors, which no text holds.

        It has the whole name, which with some operators tells who the customer is: for logs take ``str()``.
        """
        return self._written(masks=False)

    def __str__(self) -> str:
        return self._written(masks=True)

    def _written(self, *, masks: bool) -> str:
        name = masked(self.name) if masks and self.name else self.name
        host, *more = self.addresses or (name,)
        keys = [("address", address) for address in more]
        keys += [("pin", str(pin)) for pin in self.pins]
        keys += [("issuer-pin", str(pin)) for pin in self.issuer_pins]
        keys += [("profile", "opportunistic")] * self.is_opportunistic
        if self.bootstrap == "system":
            keys.append(("bootstrap", "system"))
        else:
            keys += [("bootstrap", upstream._written(masks=masks)) for upstream in self.bootstrap]
        return "".join(
            (
                f"tls://[{host}]" if host and ":" in host else f"tls://{host}",
                f":{self.port}" if self.port != PORT else "",
                "?" if keys else "",
                "&".join(f"{key}={_quoted(value)}" for key, value in keys),
                f"#{name}" if self.addresses and name else "",
            )
        )

    def __repr__(self) -> str:
        anchors = self.trust_anchors
        more = "" if anchors is None else f", trust_anchors=[{len(anchors)} of them]"
        return f"Upstream.parse({str(self)!r}{more})"


def _quoted(value: str) -> str:
    """A value of a URL's key; what base64, addresses and names are made of stays as it is (RFC 3986, section 3.4)."""
    return re.sub(r"[^A-Za-z0-9._~:/+=*-]", lambda match: f"%{ord(match[0]):02X}", value)


def check_upstreams(upstreams: object, what: str = "upstreams") -> tuple[Upstream, ...]:
    """A list of upstreams to choose from, in order.

    Raises :class:`~dot_proto.UpstreamError` for an empty list, more than 16, one that stands there twice, and for
    opportunistic ones beside strict ones: a query must not step down in security (RFC 8310, section 5.1).
    """
    found: dict[Upstream, int] = {}
    for number, upstream in enumerate(listed(what, upstreams)):
        if not isinstance(upstream, Upstream):
            hint = ": Upstream.parse reads one" if isinstance(upstream, str) else ""
            raise UpstreamError(f"{what}[{number}]: an Upstream is wanted, not {type(upstream).__name__}{hint}")
        if upstream in found:
            raise UpstreamError(f"{what}[{number}]: the same as {what}[{found[upstream]}]")
        found[upstream] = number
    if not found:
        raise UpstreamError(f"{what}: the list is empty, so that nobody could be asked")
    if len(found) > MAX_UPSTREAMS:
        raise UpstreamError(f"{what}: {len(found)} are too many: {MAX_UPSTREAMS} at the most")
    if len({upstream.is_opportunistic for upstream in found}) > 1:
        raise UpstreamError(
            f"{what}: some are strict and some opportunistic, so that queries could end up at an unauthenticated "
            "server (RFC 8310, section 5.1): use one profile"
        )
    return tuple(found)


def read_bootstrap(texts: Iterable[str]) -> tuple[Upstream, ...] | Literal["system"]:
    """Whom to ask for addresses, by ``system`` alone, or URLs; raises :class:`~dot_proto.UpstreamError`."""
    written = list(texts)
    if written == ["system"]:
        return "system"
    if "system" in written:
        raise UpstreamError("bootstrap: 'system' stands alone, or not at all")
    upstreams: list[Upstream] = []
    for number, text in enumerate(written):
        try:
            fields = read_url(text)
            if fields.bootstrap:
                raise UpstreamError("it has a bootstrap itself, and would have to be looked up")
            upstreams.append(Upstream._of(fields))
        except UpstreamError as error:
            raise UpstreamError(f"bootstrap[{number}]: {error}") from None
    return _bootstrap(upstreams)


def checked(key: str, read: Callable[[V], V], value: V) -> V:
    """What is read, with the key in the error.

    The first error is left out of tracebacks: it says the same, with names that are kept from logs.
    """
    try:
        return read(value)
    except LocalProtocolError as error:
        raise UpstreamError(masked(f"{key}: {error}")) from None


def listed(key: str, values: object) -> tuple[Any, ...]:
    """A list as a tuple; raises :class:`~dot_proto.UpstreamError` for what is none."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise UpstreamError(f"{key}: a list is wanted, not {type(values).__name__}")
    return tuple(values)


def _addresses(addresses: object) -> tuple[str, ...]:
    """Each address once, in the form that is dialled."""
    found: dict[str, None] = {}
    for number, text in enumerate(listed("addresses", addresses)):
        try:
            found[read_address(text)] = None
        except UpstreamError as error:
            raise UpstreamError(f"addresses[{number}]: {error}") from None
    if len(found) > MAX_ADDRESSES:
        raise UpstreamError(f"addresses: {len(found)} are too many for one upstream: {MAX_ADDRESSES} at the most")
    return tuple(found)


def _bootstrap(bootstrap: object) -> tuple[Upstream, ...] | Literal["system"]:
    if bootstrap == "system":
        return "system"
    upstreams: dict[Upstream, None] = {}
    for number, upstream in enumerate(listed("bootstrap", bootstrap)):
        if not isinstance(upstream, Upstream):
            raise UpstreamError(f"bootstrap[{number}]: an Upstream is wanted, not {type(upstream).__name__}")
        if not upstream.addresses:
            raise UpstreamError(f"bootstrap[{number}]: it has no address, and would have to be looked up itself")
        if upstream.is_opportunistic:
            raise UpstreamError(
                f"bootstrap[{number}]: it is opportunistic, so that anybody could answer: strict is due"
            )
        upstreams[upstream] = None
    if len(upstreams) > MAX_UPSTREAMS:
        raise UpstreamError(f"bootstrap: {len(upstreams)} upstreams are too many: {MAX_UPSTREAMS} at the most")
    return tuple(upstreams)
