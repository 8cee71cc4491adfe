"""The command line's grammar: that of dig and kdig, as far as it makes sense over TLS.

Words come in any order.  Every ``+x`` may be written ``--x`` too.
Nothing here does I/O: files are named, not opened.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import dns.exception
import dns.name
import dns.rdataclass
import dns.rdatatype

from dot_proto.authentication import AuthenticationPolicy, normalize_name
from dot_proto.errors import LocalProtocolError
from dot_proto.pins import Pin

from ._errors import UsageError
from ._options import PADDING, demo_parser, pin_parser, query_parser

T = TypeVar("T", int, str)

PORT: Final = 853
"The port of DNS over TLS (RFC 7858, section 3.1)."

CLEARTEXT_PORT: Final = 53
"The port that MUST NOT carry TLS (RFC 7858, section 3.1)."

MAX_PADDING: Final = 65_535
"Octets of the longest DNS message over a stream (RFC 1035, section 4.2.2)."


@dataclass(frozen=True, slots=True)
class Server:
    """A server as the command line names it: ``HOST``, ``HOST:PORT``, ``[HOST]:PORT``, each with ``#NAME``."""

    host: str
    "Host name or address, without brackets; an IPv6 address may have a zone id."
    port: int | None
    "``None``: not said."
    name: str | None
    "Authentication domain name; ``None``: not said."


@dataclass(frozen=True, slots=True)
class QueryArguments:
    """What ``dot-proto query`` was asked to do."""

    server: str
    "Host name or address to connect to."
    port: int
    authentication_name: str | None
    "Name or address that the certificate must be for; ``None``: the pins decide alone."
    pins: tuple[Pin, ...]
    ca_file: str | None
    "File of trust anchors in PEM; ``None``: the system's trust store."
    opportunistic: bool
    tls12_only: bool
    timeout: float
    "Seconds for connect, handshake and answer together."
    name: str
    "The name asked for: absolute, in A-labels."
    rdtype: dns.rdatatype.RdataType
    rdclass: dns.rdataclass.RdataClass
    padding: int | None
    "Octets to whose multiples the query is padded (RFC 8467); ``None``: not at all."
    dnssec: bool
    "The DO bit (RFC 3225)."
    short: bool
    json: bool
    debug: bool

    @property
    def validates(self) -> bool:
        """Whether the chain must end at a trust anchor, so that a trust store is needed."""
        return self.authentication_name is not None and not self.opportunistic

    def policy(self, trust_anchors: tuple[bytes, ...] | None = None) -> AuthenticationPolicy:
        """The policy asked for; ``trust_anchors`` is what :attr:`ca_file` holds, as certificates in DER.

        Raises :class:`~dot_proto.LocalProtocolError`.
        """
        if self.opportunistic:
            return AuthenticationPolicy.opportunistic(self.authentication_name, pins=self.pins)
        return AuthenticationPolicy.strict(self.authentication_name, pins=self.pins, trust_anchors=trust_anchors)


@dataclass(frozen=True, slots=True)
class PinArguments:
    """What ``dot-proto pin`` was asked to do."""

    target: str
    "A file's path or a server's word; with ``@`` in front it can only be a server."
    port: int | None
    "From ``-p``; ``None``: not said."
    server_name: str | None
    "What goes into SNI where it is not the server's own name."
    timeout: float
    "Seconds for connect and handshake together."
    json: bool = False

    def server(self) -> Server:
        """The target read as a server's word, with the other options; raises :class:`UsageError`."""
        named = parse_server(self.target.removeprefix("@"))
        name = _one_of("server's name", named.name, _ascii(self.server_name))
        return Server(named.host, _one_of("port", named.port, self.port) or PORT, name)


@dataclass(frozen=True, slots=True)
class DemoArguments:
    """What ``dot-proto demo`` was asked to do: there is nothing to choose."""


def parse_query(words: Sequence[str]) -> QueryArguments:
    """Read the words after ``dot-proto query``; raises :class:`UsageError`."""
    options, rest = query_parser().parse(words)
    servers = [word for word in rest if word.startswith("@")]
    if not servers:
        raise UsageError(
            "no server named: add @SERVER, such as @1.1.1.1 or @9.9.9.9#dns.quad9.net "
            "(there is no default, since resolv.conf names resolvers that speak cleartext)"
        )
    if len(servers) > 1:
        raise UsageError(f"more than one server named: {' '.join(servers)}; ask them one at a time")
    server = parse_server(servers[0].removeprefix("@"))
    name, rdtype, rdclass = _question([word for word in rest if not word.startswith("@")], options.x)
    pins = tuple(map(_pin, options.tls_pin))
    explicit_name = _one_of("authentication name", server.name, _ascii(options.tls_host))
    if options.opportunistic and options.tls_ca is not None:
        raise UsageError("+opportunistic asks whoever answers, +tls-ca only who is trusted: choose one")
    pins_decide = bool(pins) and explicit_name is None and options.tls_ca is None and not options.opportunistic
    arguments = QueryArguments(
        server=server.host,
        port=_one_of("port", server.port, _port(options.p)) or PORT,
        authentication_name=None if pins_decide else explicit_name or server.host,
        pins=pins,
        ca_file=options.tls_ca or None,
        opportunistic=options.opportunistic,
        tls12_only=options.tls12,
        timeout=_seconds(options.timeout),
        name=name,
        rdtype=rdtype,
        rdclass=rdclass,
        padding=_padding(options.padding),
        dnssec=options.dnssec,
        short=options.short,
        json=options.json,
        debug=options.d,
    )
    try:
        arguments.policy()
    except LocalProtocolError as error:
        raise UsageError(f"@{server.host} with these options: {error}") from error
    return arguments


def parse_pin(words: Sequence[str]) -> PinArguments:
    """Read the words after ``dot-proto pin``; raises :class:`UsageError`."""
    options, rest = pin_parser().parse(words)
    if len(rest) != 1:
        raise UsageError(f"name one server or file, not {len(rest)}: dot-proto pin SERVER|FILE")
    return PinArguments(rest[0], _port(options.p), options.tls_host, _seconds(options.timeout), options.json)


def parse_demo(words: Sequence[str]) -> DemoArguments:
    """Read the words after ``dot-proto demo``; raises :class:`UsageError`."""
    _, rest = demo_parser().parse(words)
    if rest:
        raise UsageError(f"{rest[0]!r}: dot-proto demo takes no words")
    return DemoArguments()


def parse_server(text: str) -> Server:
    """Read a server's word (without ``@``); raises :class:`UsageError`.

    As in kdig, figures alone after ``#`` are a port: no host name is made of figures only.
    """
    address, _, mark = text.partition("#")
    host, port = _host_and_port(address)
    if not host:
        raise UsageError(f"@{text}: no host before the port or the name; write @HOST:PORT#NAME")
    host = _host(text, host)
    if mark.isdecimal():
        return Server(host, _one_of("port", port, _port(mark)), None)
    if "#" in text and not mark:
        raise UsageError(f"@{text}: no name after '#'; write the name in the server's certificate")
    return Server(host, port, _ascii(mark) or None)


def _host(text: str, host: str) -> str:
    """``host`` as the system's resolver and the network take it: an address, or a name of A-labels."""
    try:
        host = _ascii(host) or ""
        normalize_name(host)
    except LocalProtocolError as error:
        raise UsageError(f"@{text}: {error}") from error
    return host


def _ascii(name: str | None) -> str | None:
    """A host name in A-labels (IDNA, RFC 5890)."""
    return name if name is None or name.isascii() else _absolute(name).removesuffix(".")


def _host_and_port(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise UsageError(f"@{text}: write an address in brackets as [ADDRESS] or [ADDRESS]:PORT")
        return host, _port(port[1:]) if port else None
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, _port(port)
    if ":" in text:  # more than one colon: an IPv6 address, or nonsense
        try:
            ipaddress.IPv6Address(text)
        except ValueError as error:
            raise UsageError(f"@{text}: {error}; a port goes outside brackets: [ADDRESS]:PORT") from error
    return text, None


def _question(words: list[str], reverse: str | None) -> tuple[str, dns.rdatatype.RdataType, dns.rdataclass.RdataClass]:
    """Name, type and class out of words in any order."""
    names: list[str] = []
    rdtype: dns.rdatatype.RdataType | None = None
    rdclass: dns.rdataclass.RdataClass | None = None
    for word in words:
        if rdtype is None and (as_type := _type(word)) is not None:
            rdtype = as_type
        elif rdclass is None and (as_class := _class(word)) is not None:
            rdclass = as_class
        else:
            names.append(word)
    if rdtype in (dns.rdatatype.AXFR, dns.rdatatype.IXFR):
        raise UsageError("a zone transfer takes many messages; this command asks for one")
    if reverse is not None:
        names.append(_reverse(reverse))
    if len(names) > 1:
        raise UsageError(_too_many(names))
    if not names:
        hint = f"; to ask for the name {words[0]!r}, end it with a dot" if words else ""
        raise UsageError(f"no name to ask for{hint}")
    default = dns.rdatatype.A if reverse is None else dns.rdatatype.PTR
    return (
        _absolute(names[0]),
        default if rdtype is None else rdtype,
        dns.rdataclass.IN if rdclass is None else rdclass,
    )


def _type(word: str) -> dns.rdatatype.RdataType | None:
    try:
        return dns.rdatatype.from_text(word)
    except (dns.exception.DNSException, ValueError):
        return None


def _class(word: str) -> dns.rdataclass.RdataClass | None:
    try:
        return dns.rdataclass.from_text(word)
    except (dns.exception.DNSException, ValueError):
        return None


def _too_many(names: list[str]) -> str:
    for word in names:
        types = [kind.name for kind in dns.rdatatype.RdataType]
        import difflib

        if "." not in word and (close := difflib.get_close_matches(word.upper(), types, n=1)):
            return f"{word!r} is no type or class; did you mean {close[0]}?"
    return f"more than one name to ask for: {' '.join(names)}; one query asks for one name"


def _absolute(word: str) -> str:
    try:
        return dns.name.from_text(word).to_text()
    except (dns.exception.DNSException, UnicodeError) as error:
        raise UsageError(f"{word!r} is no domain name: {error}") from error


def _reverse(address: str) -> str:
    try:
        return ipaddress.ip_address(address).reverse_pointer + "."
    except ValueError as error:
        raise UsageError(f"-x {address}: no IPv4 or IPv6 address") from error


def _port(text: str | None) -> int | None:
    if text is None:
        return None
    if not _is_number(text, 65_535):
        raise UsageError(f"{text!r} is no port: give a number from 1 to 65535")
    if int(text) == CLEARTEXT_PORT:
        raise UsageError(f"port 53 must not carry TLS (RFC 7858, section 3.1): leave the port out to use {PORT}")
    return int(text)


def _is_number(text: str, maximum: int) -> bool:
    """Whether ``text`` is a whole number from 1 to ``maximum``; int() alone refuses very long ones its own way."""
    return text.isdecimal() and len(text) <= len(str(maximum)) and 1 <= int(text) <= maximum


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"+timeout={text}: give seconds, more than 0, such as +timeout=2.5")
    return seconds


def _padding(text: str | None) -> int | None:
    if text is None:
        return None
    if text == "":
        return PADDING
    if not _is_number(text, MAX_PADDING):
        raise UsageError(f"+padding={text}: give octets from 1 to {MAX_PADDING}, or +nopadding")
    return int(text)


def _pin(text: str) -> Pin:
    try:
        return Pin.parse(text)
    except LocalProtocolError as error:
        raise UsageError(f"+tls-pin={text}: {error}") from error


def _one_of(what: str, first: T | None, second: T | None) -> T | None:
    """The one that was said; both may be said if they say the same."""
    if first is not None and second is not None and first != second:
        raise UsageError(f"two different values for the {what}: {first} and {second}; say it once")
    return second if first is None else first
