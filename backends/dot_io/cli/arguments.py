"""The command line's grammar: that of dig and kdig, as far as it makes sense over TLS.

Words come in any order.  Every ``+x`` may be written ``--x`` too.
Nothing here does I/O: files are named, not opened.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import dns.rdataclass
import dns.rdatatype

from dot_proto.authentication import AuthenticationPolicy, normalize_name
from dot_proto.errors import LocalProtocolError
from dot_proto.pins import Pin

from ._errors import UsageError
from ._options import PADDING, demo_parser, pin_parser, query_parser
from .questions import Question, absolute, class_of, questions, type_of

T = TypeVar("T", int, str)

WITH_VALUE: Final = frozenset({"-p", "-x", "--tls-host", "--tls-hostname", "--tls-pin", "--timeout", "--time"})
"Options that take the next word as their value."

FILE_SUFFIXES: Final = (".pem", ".der", ".crt", ".cer", ".key", ".pub")
"Endings by which a word that could also be a name is taken for a file."

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
    more: tuple[Question, ...] = ()
    "Questions to be asked after the first, in their order."

    def each(self) -> list[QueryArguments]:
        """One for each question."""
        first = replace(self, more=())
        return [
            first,
            *(replace(first, name=one.name, rdtype=one.rdtype, rdclass=one.rdclass) for one in self.more),
        ]

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
        name = _one_of("server's name", named.name, self.server_name)
        return Server(named.host, _one_of("port", named.port, self.port) or PORT, name)


@dataclass(frozen=True, slots=True)
class DemoArguments:
    """What ``dot-proto demo`` was asked to do: there is nothing to choose."""


def parse_query(words: Sequence[str]) -> QueryArguments:
    """Read the words after ``dot-proto query``; raises :class:`UsageError`."""
    options, rest = query_parser().parse(_attach_values(words))
    servers = [word for word in rest if word.startswith("@")]
    if not servers:
        raise UsageError(
            "no server named: add @SERVER, such as @1.1.1.1 or @9.9.9.9#dns.quad9.net "
            "(there is no default, since resolv.conf names resolvers that speak cleartext)"
        )
    if len(servers) > 1:
        raise UsageError(f"more than one server named: {' '.join(servers)}; ask them one at a time")
    server = parse_server(servers[0].removeprefix("@"))
    port, timeout, padding = _port(options.p), _seconds(options.timeout), _padding(options.padding)
    first, *more = questions([word for word in rest if not word.startswith("@")], options.x)
    pins = tuple(map(_pin, options.tls_pin))
    explicit_name = _one_of("authentication name", server.name, _host_option(options.tls_host))
    if options.opportunistic and options.tls_ca is not None:
        raise UsageError("+opportunistic asks whoever answers, +tls-ca only who is trusted: choose one")
    pins_decide = bool(pins) and explicit_name is None and options.tls_ca is None and not options.opportunistic
    arguments = QueryArguments(
        server=server.host,
        port=_one_of("port", server.port, port) or PORT,
        authentication_name=None if pins_decide else explicit_name or server.host,
        pins=pins,
        ca_file=options.tls_ca or None,
        opportunistic=options.opportunistic,
        tls12_only=options.tls12,
        timeout=timeout,
        name=first.name,
        rdtype=first.rdtype,
        rdclass=first.rdclass,
        more=tuple(more),
        padding=padding,
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
    return PinArguments(
        rest[0], _port(options.p), _host_option(options.tls_host), _seconds(options.timeout), options.json
    )


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
    if "://" in text:
        raise UsageError(
            f"@{text}: write @HOST or @HOST:PORT, without {text.partition('://')[0]}:// and without a path"
        )
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


def _host_option(name: str | None) -> str | None:
    if name == "":
        raise UsageError("+tls-host= without a name; write the name in the server's certificate")
    return _ascii(name)


def _ascii(name: str | None) -> str | None:
    """A host name in A-labels (IDNA, RFC 5890)."""
    return name if name is None or name.isascii() else absolute(name).removesuffix(".")


def _host_and_port(text: str) -> tuple[str, int | None]:
    if "@" in text:  # as kdig and this command print a server: HOST@PORT
        host, _, port = text.removesuffix("(TCP)").rpartition("@")
        bare, other = _host_and_port(host)
        return bare, _one_of("port", other, _port(port))
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


def _attach_values(words: Sequence[str]) -> list[str]:
    """The words, with the value of ``--tls-ca FILE`` and ``--padding N`` attached: it is optional, so it may be a name.

    A path, or a number, is the value.  A plain word after ``--tls-ca`` is the file where something else is the name.
    """
    attached: list[str] = []
    rest = list(words)
    names = [word for before, word in zip(["", *words], words, strict=False) if _is_name(before, word)]
    while rest:
        word = rest.pop(0)
        flag = word.replace("+", "--", 1) if word.startswith("+") else word
        if rest and (
            (flag == "--padding" and rest[0].isdecimal())
            or (flag == "--tls-ca" and _is_file(rest[0], names, rest[1] if len(rest) > 1 else ""))
        ):
            word = f"{word}={rest.pop(0)}"
        attached.append(word)
    return attached


def _is_name(before: str, word: str) -> bool:
    """Whether a word can only be a name, or the value of an option that need not have one."""
    return (
        before.replace("+", "--", 1) not in WITH_VALUE
        and not word.startswith(("+", "-", "@"))
        and type_of(word) is None
        and class_of(word) is None
    )


def _is_file(word: str, names: list[str], following: str) -> bool:
    if word.startswith(("+", "-", "@")):
        return False
    if "/" in word or word.lower().endswith(FILE_SUFFIXES):
        return True
    return word in names and len(names) > 1 and type_of(following) is None


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
