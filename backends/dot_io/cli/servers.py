"""A server as the command line names it."""

from __future__ import annotations

import ipaddress
from typing import Final, NamedTuple, TypeVar

from dot_proto.authentication import normalize_name
from dot_proto.errors import LocalProtocolError
from dot_proto.pins import Pin

from ._errors import UsageError
from .questions import absolute

T = TypeVar("T", int, str)

PORT: Final = 853
"The port of DNS over TLS (RFC 7858, section 3.1)."

CLEARTEXT_PORT: Final = 53
"The port that MUST NOT carry TLS (RFC 7858, section 3.1)."

SCHEME: Final = "tls://"
"Of a server's URL, as other stub resolvers write it: ``tls://HOST[:PORT][?pin=BASE64][#NAME]``."


class Server(NamedTuple):
    """``HOST``, ``HOST:PORT``, ``[HOST]:PORT``, ``HOST@PORT``, each with ``#NAME``; or a URL."""

    host: str
    "Host name or address, without brackets; an IPv6 address may have a zone id."
    port: int | None
    "``None``: not said."
    name: str | None
    "Authentication domain name; ``None``: not said."
    pins: tuple[Pin, ...] = ()
    "Of the URL."


def parse_server(text: str) -> Server:
    """Read a server's word (without ``@``); raises :class:`UsageError`.

    As in kdig, figures alone after ``#`` are a port: no host name is made of figures only.
    """
    if text.lower().startswith(SCHEME):
        return _of_url(text)
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
        return Server(host, one_of("port", port, port_number(mark)), None)
    if "#" in text and not mark:
        raise UsageError(f"@{text}: no name after '#'; write the name in the server's certificate")
    return Server(host, port, ascii_name(mark) or None)


def _of_url(text: str) -> Server:
    """In a URL the query comes before the fragment (RFC 3986, section 3), and ``+`` in a pin is no space."""
    rest, _, name = text[len(SCHEME) :].partition("#")
    if "?" in name:
        name, _, query = name.partition("?")
        raise UsageError(f"@{text}: the pins come before the name: @{SCHEME}{rest}?{query}#{name}")
    where, _, query = rest.partition("?")
    if "/" in where.removesuffix("/"):
        raise UsageError(f"@{text}: a server has no path: write @{SCHEME}{where.partition('/')[0]}")
    pins: list[Pin] = []
    for part in query.split("&") if query else ():
        key, _, value = part.partition("=")
        if key != "pin":
            raise UsageError(f"@{text}: {key!r} is no part of a server's URL: {SCHEME}HOST[:PORT][?pin=BASE64][#NAME]")
        pins.append(parse_pin_text("pin", _unquoted(value)))
    named = parse_server(f"{where.removesuffix('/')}{'#' if name else ''}{name}")
    return Server(named.host, named.port, named.name, tuple(pins))


def _unquoted(text: str) -> str:
    if "%" not in text:
        return text
    from urllib.parse import unquote

    return unquote(text)


def parse_pin_text(name: str, text: str) -> Pin:
    """A pin, also in curl's form ``sha256//BASE64``; raises :class:`UsageError`."""
    try:
        return Pin.parse(text.removeprefix("sha256//"))
    except LocalProtocolError as error:
        raise UsageError(f"{name}={text}: {error}") from error


def _host(text: str, host: str) -> str:
    """``host`` as the system's resolver and the network take it: an address, or a name of A-labels."""
    try:
        host = ascii_name(host) or ""
        normalize_name(host)
    except LocalProtocolError as error:
        raise UsageError(f"@{text}: {error}") from error
    return host


def ascii_name(name: str | None) -> str | None:
    """A host name in A-labels (IDNA, RFC 5890)."""
    return name if name is None or name.isascii() else absolute(name).removesuffix(".")


def _host_and_port(text: str) -> tuple[str, int | None]:
    if "@" in text:  # as kdig and this command print a server: HOST@PORT
        host, _, port = text.removesuffix("(TCP)").rpartition("@")
        bare, other = _host_and_port(host)
        return bare, one_of("port", other, port_number(port))
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise UsageError(f"@{text}: write an address in brackets as [ADDRESS] or [ADDRESS]:PORT")
        return host, port_number(port[1:]) if port else None
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port_number(port)
    if ":" in text:  # more than one colon: an IPv6 address, or nonsense
        try:
            ipaddress.IPv6Address(text)
        except ValueError as error:
            raise UsageError(f"@{text}: {error}; a port goes outside brackets: [ADDRESS]:PORT") from error
    return text, None


def port_number(text: str) -> int:
    """A port that may carry TLS; raises :class:`UsageError`."""
    if not is_number(text, 1, 65_535):
        raise UsageError(f"{text!r} is no port: give a number from 1 to 65535")
    if int(text) == CLEARTEXT_PORT:
        raise UsageError(f"port 53 must not carry TLS (RFC 7858, section 3.1): leave the port out to use {PORT}")
    return int(text)


def is_number(text: str, minimum: int, maximum: int) -> bool:
    """Whether ``text`` is such a whole number; int() alone refuses very long ones its own way."""
    return text.isdecimal() and len(text) <= len(str(maximum)) and minimum <= int(text) <= maximum


def one_of(what: str, first: T | None, second: T | None) -> T | None:
    """The one that was said; both may be said if they say the same."""
    if first is not None and second is not None and first != second:
        raise UsageError(f"two different values for the {what}: {first} and {second}; say it once")
    return second if first is None else first
