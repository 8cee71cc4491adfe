"""The URL of an upstream, read: ``tls://ADDRESS[:PORT][?KEY=VALUE&...][#NAME]``.

No library of URLs is used.  They turn a plus into a space, pass over what they do not understand, and take apart
texts that are none; here each character is accounted for, or named in the error.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from ..errors import LocalProtocolError, PinError, UpstreamError
from ..hosts import PORT, is_address, normalize_name
from ..pins import Pin
from ._advice import is_ipv6, masked, pin_meant, read_address, read_port, shown, unknown
from .operators import OPERATORS

V = TypeVar("V")

SCHEME: Final = "tls"

DOT: Final = "written tls:// here"

SCHEMES: Final = {
    "https": "DNS over HTTPS",
    "doh": "DNS over HTTPS",
    "h2": "DNS over HTTPS",
    "h3": "DNS over HTTP/3",
    "quic": "DNS over QUIC",
    "doq": "DNS over QUIC",
    "udp": "DNS in the clear",
    "tcp": "DNS in the clear",
    "dns": "DNS in the clear",
    "http": "HTTP in the clear",
    "dot": DOT,
    "tcp-tls": DOT,
    "ssl": DOT,
    "dtls": "DNS over DTLS",
}
"What other programs write in front of a host, and what it is."

KEYS: Final = ("address", "bootstrap", "issuer-pin", "pin", "profile")

PROFILES: Final = {"strict": False, "opportunistic": True}
"Usage profiles (RFC 8310, section 5), and whether they are opportunistic."

_NAME_AT_END: Final = "the name for authentication stands at the end, behind #"

MEANT: Final = {
    "pins": "did you mean pin, once for each pin?",
    "spki": "did you mean pin?",
    "sha256": "did you mean pin?",
    "pin_sha256": "did you mean pin?",
    "ip": "did you mean address?",
    "addr": "did you mean address?",
    "port": "the port stands behind the host, as in tls://192.0.2.1:853",
    "name": _NAME_AT_END,
    "host": _NAME_AT_END,
    "hostname": _NAME_AT_END,
    "sni": _NAME_AT_END,
    "servername": _NAME_AT_END,
    "server_name": _NAME_AT_END,
    "tls_auth_name": _NAME_AT_END,
    "auth_name": _NAME_AT_END,
    "ca": "a URL holds no trust anchors: give trust_anchors=certificates_from(octets of the file)",
    "ca_file": "a URL holds no trust anchors: give trust_anchors=certificates_from(octets of the file)",
    "insecure": "who is not to be authenticated is asked for by profile=opportunistic",
    "verify": "who is not to be authenticated is asked for by profile=opportunistic",
}


@dataclass(slots=True)
class Fields:
    """What a URL says."""

    name: str | None = None
    addresses: list[str] = field(default_factory=list)
    port: int = PORT
    pins: list[Pin] = field(default_factory=list)
    issuer_pins: list[Pin] = field(default_factory=list)
    is_opportunistic: bool = False
    bootstrap: list[str] = field(default_factory=list)


class _Mistake(Exception):
    """Something is wrong at a character of the text; ``guesses`` are URLs that may have been meant."""

    def __init__(self, position: int, problem: str, *guesses: str) -> None:
        super().__init__(problem)
        self.position = position
        self.guesses = guesses


def read_url(text: str) -> Fields:
    """What the URL says; raises :class:`~dot_proto.UpstreamError`."""
    if not isinstance(text, str):
        raise UpstreamError(f"an upstream is a text such as tls://192.0.2.1#dns.example, not {type(text).__name__}")
    try:
        return _read(text)
    except _Mistake as mistake:
        guesses = " or ".join(filter(_is_good, dict.fromkeys(mistake.guesses)))
        hint = f"; did you mean {guesses} ?" if guesses else ""
        raise UpstreamError(masked(f"character {mistake.position + 1}: {mistake}{hint}")) from None


def _is_good(guess: str) -> bool:
    """Whether it is a URL that can be read."""
    try:
        _read(guess)
    except _Mistake:
        return False
    return True


def _read(text: str) -> Fields:
    start = _scheme_end(text)
    body, has_name, name = text[start:].partition("#")
    host, has_query, query = body.partition("?")
    fields = Fields()
    _read_host(text, start, host, fields)
    if has_name:
        _read_name(text, start + len(body) + 1, name, fields)
    if has_query:
        at = start + len(host) + 1
        for pair in query.split("&"):
            _read_pair(text, at, pair, fields)
            at += len(pair) + 1
    return fields


# ---------------------------------------------------------------- the scheme


def _scheme_end(text: str) -> int:
    """Where the host begins."""
    strange = re.search(r"[^!-~]", text)
    if strange and strange[0].isspace():
        raise _Mistake(
            strange.start(),
            "white space: remove it (where it was the + of a pin, write + or %2B)",
            "".join(text.split()),
            text.replace(" ", "+"),
        )
    if strange:
        raise _Mistake(strange.start(), f"{strange[0]!r} is not printable ASCII: names come as A-labels (RFC 5891)")
    scheme, found, rest = text.partition("://")
    if not found:
        if text in OPERATORS:
            raise _Mistake(0, f"this is no URL but an operator: Upstream.well_known({text!r})")
        raise _Mistake(0, f"the text does not begin with {SCHEME}://", *_without_scheme(text))
    if scheme.lower() == SCHEME:
        return len(scheme) + 3
    if scheme.lower() == "sdns":
        raise _Mistake(0, "this is a DNS stamp: dot_proto.resolver.importers.from_stamp reads it")
    what = SCHEMES.get(scheme.lower())
    raise _Mistake(
        0,
        f"{shown(scheme)} is {what or 'not known'}; DNS over TLS has {SCHEME}://",
        f"tls://{rest if what in (None, DOT) else _host_and_name(rest)}",
    )


def _host_and_name(rest: str) -> str:
    """What another protocol's URL has in common with ours: its port and its path mean nothing here."""
    front, has_name, name = rest.partition("#")
    host = re.split(r"[/?]", front)[0]
    host = f"[{host}]" if is_ipv6(host) else re.sub(r":[0-9]+$", "", host)
    return f"{host}{has_name}{name}"


def _without_scheme(text: str) -> list[str]:
    """What is meant by a host, an address or another program's form without a scheme."""
    bare = re.sub(r"^(tls:/?|tls//?|@|//)", "", text, flags=re.IGNORECASE)
    return [f"tls://{bare}", *_meant_by_host(bare)]


# ---------------------------------------------------------------- the host and its port


def _read_host(text: str, at: int, host: str, fields: Fields) -> None:
    """The address, or the name, and the port."""
    after = text[at + len(host) :]
    guesses = _meant_by_host(host, after)
    if not host:
        raise _Mistake(at, "a host is missing")
    if (slash := host.find("/")) >= 0:
        without = (f"tls://{host.strip('/')}{after}", f"tls://{host[:slash]}{after}")
        raise _Mistake(at + slash, "DNS over TLS has no path: end the host here", *without)
    if (sign := host.find("@")) >= 0:
        problem = "there are no users: the port stands behind a colon, the name behind #"
        raise _Mistake(at + sign, problem, *guesses)
    if host[0] == "[":
        bare, port = _read_brackets(at, host, after, guesses)
    elif host.count(":") > 1:
        raise _Mistake(at, "an IPv6 address stands in brackets, and a port is given once", *guesses)
    else:
        bare, colon, digits = host.partition(":")
        port = colon + digits
    if port:
        fields.port = _at(at + len(host) - len(port) + 1, read_port, port[1:], *guesses)
    name = _at(at, normalize_name, bare, *guesses)
    if is_address(name):
        fields.addresses.append(_at(at, read_address, bare, *guesses))
    else:
        fields.name = name


def _read_brackets(at: int, host: str, after: str, guesses: list[str]) -> tuple[str, str]:
    """The IPv6 address in brackets, and what stands behind them: nothing, or a colon and a port."""
    bare, closed, port = host[1:].partition("]")
    if not closed:
        raise _Mistake(at, "this bracket is not closed", *guesses)
    if not is_ipv6(bare.partition("%")[0] or bare):
        raise _Mistake(at, f"in brackets stands an IPv6 address, not {shown(bare)}", f"tls://{bare}{port}{after}")
    zone = bare.partition("%")[2]
    if zone.startswith("25") and not zone.isdecimal():
        raise _Mistake(at, "the zone is not %-encoded here", f"tls://{host.replace('%25', '%')}{after}")
    if port and port[0] != ":":
        problem = f"behind the bracket stands :PORT or nothing, not {shown(port)}"
        raise _Mistake(at + len(bare) + 2, problem, *guesses)
    return bare, port


def _meant_by_host(host: str, after: str = "") -> list[str]:
    """URLs that may be meant by what is no host of a URL: forms of other programs, brackets and ports gone wrong.

    Those that cannot be read are left out by whoever shows them.
    """
    before, sign, behind = host.partition("@")
    if sign:
        address, port = (f"[{before}]", behind) if is_ipv6(before) else (before, behind)
        number, _, name = port.partition("#")
        named = f"#{name}" if name else after
        if number.isdecimal():  # unbound, and kdig: ADDRESS@PORT#NAME
            return [f"tls://{address}:{number}{named}"]
        inner = f"[{behind}]" if is_ipv6(behind) else behind
        return [f"tls://{inner}#{before}" if before else f"tls://{inner}{after}"]  # NAME@ADDRESS
    bare, end, tail = host.partition("#")
    after = f"#{tail}{after}" if end else after
    address, _, port = bare.rpartition(":")
    guesses = []
    if "," in bare:
        guesses.append(f"tls://{bare.replace(',', '?address=', 1).replace(',', '&address=')}{after}")
    if is_ipv6(address) and port.isdecimal():
        guesses.append(f"tls://[{address}]:{port}{after}")
    if is_ipv6(bare):
        guesses.append(f"tls://[{bare}]{after}")
    elif port.isdecimal() and re.search(r"[^:]:[0-9]+$", address):  # two ports
        guesses.append(f"tls://{address}{after}")
    if match := re.fullmatch(r"\[(.*)\](:[0-9]+)?%(.*)", bare):  # systemd-resolved: the interface behind the port
        guesses.append(f"tls://[{match[1]}%{match[3]}]{match[2] or ''}{after}")
    elif bare.startswith("[") and "]" not in bare:
        guesses.append(f"tls://{bare}]{after}")
    return guesses


def _read_name(text: str, at: int, name: str, fields: Fields) -> None:
    """The name for authentication, behind ``#``."""
    if (mark := name.find("?")) >= 0:
        front, query = name[:mark], name[mark:]
        raise _Mistake(at + mark, "keys stand before the #", f"{text[: at - 1]}{query}#{front}")
    if (second := name.find("#")) >= 0:
        raise _Mistake(at + second, "a second #: one name is authenticated", text[: at + second])
    if not name:
        raise _Mistake(at - 1, "no name behind the #: leave it out to authenticate the address", text[: at - 1])
    port = re.search(r":[0-9]+$", name)
    guess = f"{text[: at - 1]}{port[0]}#{name[: port.start()]}" if port and not is_ipv6(name) else ""
    normal = _at(at, normalize_name, name, guess)
    if fields.name is not None and fields.name != normal:
        raise _Mistake(
            at,
            "a host name that is looked up is itself what is authenticated: give an address before the #, or one name",
            f"tls://[{normal}]#{fields.name}" if ":" in normal else f"tls://{normal}#{fields.name}",
        )
    fields.name = normal


# ---------------------------------------------------------------- keys and values


def _read_pair(text: str, at: int, pair: str, fields: Fields) -> None:
    """One ``KEY=VALUE``."""
    key, found, raw = pair.partition("=")
    if not pair:
        raise _Mistake(at - 1, "a key is missing behind this character", text[: at - 1] + text[at:])
    if key not in KEYS:
        raise _Mistake(at, unknown("key", key, KEYS, MEANT))
    value_at = at + len(key) + 1
    if not raw:
        raise _Mistake(at, f"the key {key} has no value" if found else f"the key {key} needs = and a value")
    value = _decoded(value_at, raw)

    if key == "address":
        fields.addresses.append(_at(value_at, read_address, value))
    elif key in ("pin", "issuer-pin"):
        try:
            (fields.pins if key == "pin" else fields.issuer_pins).append(Pin.parse(value))
        except PinError as error:
            meant = pin_meant(value)
            mended = f"{text[:value_at]}{meant}{text[value_at + len(raw) :]}"
            raise _Mistake(value_at, str(error), *[mended] * bool(meant)) from None
    elif key == "bootstrap":
        fields.bootstrap.append(value)
    elif value not in PROFILES:
        raise _Mistake(value_at, f"a profile is strict or opportunistic (RFC 8310, section 5), not {shown(value)}")
    elif re.search(r"[?&]profile=", text[:at]):
        raise _Mistake(at, "a second profile: give one")
    else:
        fields.is_opportunistic = PROFILES[value]


def _decoded(at: int, value: str) -> str:
    """Without ``%`` and two digits (RFC 3986, section 2.1); a plus is a plus."""
    if bad := re.search(r"%(?![2-7][0-9A-Fa-f])", value):
        raise _Mistake(at + bad.start(), "behind % stand two hexadecimal digits of an ASCII character")
    return re.sub("%(..)", lambda match: chr(int(match[1], 16)), value)


def _at(position: int, read: Callable[[str], V], value: str, *guesses: str) -> V:
    try:
        return read(value)
    except LocalProtocolError as error:
        raise _Mistake(position, str(error), *guesses) from None
