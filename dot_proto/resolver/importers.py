"""Upstreams in the forms of other programs, read strictly: one function for each form.

===============================  =====================================================================
:func:`from_resolved_conf`       systemd-resolved, ``DNS=`` of resolved.conf(5)
:func:`from_unbound_conf`        unbound, ``forward-addr:`` of unbound.conf(5)
:func:`from_stubby`              stubby, ``upstream_recursive_servers`` of stubby.yml, already parsed
:func:`from_stamp`               a DNS stamp of type 3 (draft-denis-dns-stamps)
===============================  =====================================================================

Each address becomes an upstream of its own, in the order of the source.  Who is to be asked is read, and nothing else:
how the program chooses among them, and its own trust anchors, are not.  ``trust_anchors`` is for those; without it
the system's trust store counts.  Where such a program would ask without authentication, or in the clear, we do not:
without a name and without a pin the certificate must be for the address.

All raise :class:`~dot_proto.UpstreamError`, with a line for each thing that is wrong.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from ..errors import LocalProtocolError, UpstreamError
from ..hosts import PORT, check_port, normalize_name
from ..pins import Pin
from ._advice import masked, read_address, read_pin, read_port, shown, unknown
from .upstream import Upstream, checked, listed

Anchors = tuple[bytes, ...] | None
"Trust anchors in DER."


def from_resolved_conf(text: str, *, trust_anchors: Iterable[bytes] | None = None) -> tuple[Upstream, ...]:
    """The servers of ``DNS=``: a file's text, or the value alone, ``ADDRESS[:PORT][%INTERFACE][#NAME] ...``.

    An assignment adds to those before it, and an empty one takes them away, as in systemd.  Without a port it is 853.
    """
    anchors = _anchors(trust_anchors)
    found = _words_of_resolved(text) if "=" in _text(text) else list(_words(1, text))
    if not found:
        raise UpstreamError("there is no DNS= with a server in it (lines that begin with # or ; are comments)")
    return _each(found, lambda word: _from_resolved(word, anchors))


def from_unbound_conf(
    text: str, *, zone: str = ".", trust_anchors: Iterable[bytes] | None = None
) -> tuple[Upstream, ...]:
    """The servers of one ``forward-zone:``, from a file's text: ``forward-addr: ADDRESS[@PORT][#NAME]``.

    Only a zone with ``forward-tls-upstream: yes``, or a file with ``tls-upstream: yes``, is asked over TLS by unbound.
    ``include:`` is not followed.  Lines with ``forward-addr:`` alone, in no zone, will do too.
    """
    anchors = _anchors(trust_anchors)
    zone, clauses = _text(zone), _clauses(_text(text))
    all_over_tls = any(
        statement[1:] in {("tls-upstream", "yes"), ("ssl-upstream", "yes")}
        for clause in clauses
        if clause.kind == "server"
        for statement in clause.statements
    )
    if len(clauses) > 1:
        clauses = [clause for clause in clauses if clause.kind == "forward-zone" and clause.is_named(zone)]
        for clause in clauses:
            over_tls = clause.value("forward-tls-upstream", "forward-ssl-upstream")
            if over_tls != "yes" and not (all_over_tls and over_tls is None):
                raise UpstreamError(
                    f"line {clause.line}: unbound asks this zone in the clear: forward-tls-upstream is not yes"
                )
    found: list[tuple[int, str]] = []
    for line, key, value in (statement for clause in clauses for statement in clause.statements):
        if key == "forward-host":
            raise UpstreamError(f"line {line}: forward-host: unbound looks it up in the clear: give forward-addr")
        if key == "forward-addr":
            found.append((line, value))
    if not found:
        raise UpstreamError(f"there is no forward-addr: in a forward-zone: with the name {zone!r}")
    return _each(found, lambda word: _from_unbound(word, anchors))


def from_stubby(data: object, *, trust_anchors: Iterable[bytes] | None = None) -> tuple[Upstream, ...]:
    """The servers of ``upstream_recursive_servers``: what a parser of YAML made of the file, or of that list."""
    anchors = _anchors(trust_anchors)
    servers = data.get("upstream_recursive_servers") if isinstance(data, Mapping) else data
    if not isinstance(servers, list) or not servers:
        raise UpstreamError("upstream_recursive_servers: a list with at least one server is wanted")
    if isinstance(data, Mapping) and data.get("tls_authentication") == "GETDNS_AUTHENTICATION_NONE":
        raise UpstreamError(
            "tls_authentication: GETDNS_AUTHENTICATION_NONE asks for no authentication, and is not imported: make it "
            "GETDNS_AUTHENTICATION_REQUIRED, or write upstreams with profile=opportunistic"
        )
    return _each(enumerate(servers), lambda server: _from_stubby(server, anchors), "upstream_recursive_servers[{}]: {}")


def from_stamp(text: str, *, trust_anchors: Iterable[bytes] | None = None) -> Upstream:
    """The server of a stamp ``sdns://...`` for DNS over TLS.

    A stamp with certificate hashes is refused: they are no SPKI pins (RFC 7858, section 4.2), and to leave them out
    would ask for less.  What follows the host name is passed over: resolvers that would be asked in the clear.
    """
    scheme, found, body = _text(text).partition("://")
    if not found or scheme.lower() != "sdns":
        raise UpstreamError(f"a stamp begins with sdns://, not {shown(text[:12])}")
    try:
        octets = a2b_base64(body.replace("-", "+").replace("_", "/") + "=" * (-len(body) % 4), strict_mode=True)
    except ValueError as error:
        raise UpstreamError(
            f"behind sdns:// stands base64 of the URL alphabet (RFC 4648, section 5): {error}"
        ) from None
    if octets[:1] != b"\x03":
        kind = STAMPS.get(octets[0], "not known") if octets else "missing"
        raise UpstreamError(f"octet 1 of the stamp: its protocol is {kind}; DNS over TLS is 3")
    address, at = _string(octets, 9, "address")
    while True:
        more = octets[at : at + 1] >= b"\x80"
        hash_, at = _string(octets, at, "certificate hash", 0x7F)
        if hash_:
            raise UpstreamError(
                "the stamp has hashes of certificates, which are no SPKI pins (RFC 7858, section 4.2), and cannot be "
                "checked: write tls://ADDRESS?pin=...#NAME with the pin of the key"
            )
        if not more:
            break
    host, _ = _string(octets, at, "host name")
    return _from_stamp(address.decode("latin-1"), host.decode("latin-1"), _anchors(trust_anchors))


# ---------------------------------------------------------------- what is common


def _text(text: object) -> str:
    if not isinstance(text, str):
        raise UpstreamError(f"a text is wanted, not {type(text).__name__}")
    return text


def _anchors(anchors: Iterable[bytes] | None) -> Anchors:
    return None if anchors is None else listed("trust_anchors", anchors)


def _each(
    words: Iterable[tuple[int, Any]], read: Callable[[Any], Upstream], place: str = "line {}: {}"
) -> tuple[Upstream, ...]:
    """Every upstream once; raises one error for all that cannot be read."""
    found: dict[Upstream, None] = {}
    problems: list[str] = []
    for number, word in words:
        try:
            found[read(word)] = None
        except LocalProtocolError as error:
            problems.append(masked(place.format(number, error)))
    if problems:
        raise UpstreamError(*problems)
    return tuple(found)


def _words(line: int, text: str) -> Iterator[tuple[int, str]]:
    return ((line, word) for word in text.split())


def _upstream(address: str, port: int, has_name: str, name: str, anchors: Anchors) -> Upstream:
    if has_name and not name:
        raise UpstreamError(f"{shown(address)}: no name behind the #: leave it out to authenticate the address")
    return Upstream(
        name=name or None,
        addresses=(address,),
        port=port,
        trust_anchors=anchors,
    )


# ---------------------------------------------------------------- systemd-resolved


def _words_of_resolved(text: str) -> list[tuple[int, str]]:
    """The words of all ``DNS=``, each with its line."""
    found: list[tuple[int, str]] = []
    for number, line in _lines_of_systemd(text):
        key, _, value = line.partition("=")
        if key.strip() == "DNS":
            if not value.strip():
                found.clear()
            found += _words(number, value)
    return found


def _lines_of_systemd(text: str) -> Iterator[tuple[int, str]]:
    """Lines without comments; one that ends in a backslash goes on in the next (systemd.syntax(7))."""
    start = 0
    before: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.lstrip()[:1] in ("#", ";"):
            continue
        start = start if before else number
        if line.rstrip().endswith("\\"):
            before.append(line.rstrip()[:-1])
        else:
            yield start, " ".join([*before, line])
            before = []
    yield start, " ".join(before)


def _from_resolved(word: str, anchors: Anchors) -> Upstream:
    front, has_name, name = word.partition("#")
    host, has_interface, interface = front.partition("%")
    bracketed = re.fullmatch(r"\[([^\]]+)\](?::(.*))?", host)
    if bracketed:
        address, port = bracketed[1], bracketed[2]
    elif host.count(":") == 1:
        address, _, port = host.partition(":")
    else:
        address, port = host, None
    try:
        if has_interface:
            if ":" not in address:
                raise UpstreamError("no interface is chosen for an IPv4 address here: leave it out")
            address = f"{address}%{interface}"
        return _upstream(read_address(address), PORT if port is None else read_port(port), has_name, name, anchors)
    except LocalProtocolError as error:
        form = "ADDRESS[:PORT][%INTERFACE][#NAME], where an IPv6 address with a port is in brackets"
        raise UpstreamError(f"{shown(front)}: {error}; the form is {form}") from None


# ---------------------------------------------------------------- unbound


class _Clause:
    """A part of unbound.conf: ``server:``, ``forward-zone:``, ..., and the statements in it."""

    def __init__(self, line: int, kind: str) -> None:
        self.line = line
        self.kind = kind
        self.statements: list[tuple[int, str, str]] = []

    def value(self, *keys: str) -> str | None:
        """What was said last for one of the keys, which are spellings of one."""
        return next((value for _, key, value in reversed(self.statements) if key in keys), None)

    def is_named(self, zone: str) -> bool:
        """Whether it is for this zone."""
        name = self.value("name")
        return name is not None and name.lower().rstrip(".") == zone.lower().rstrip(".")


_TOKEN: Final = re.compile(r"#[^\n]*|\"([^\"\n]*)\"|'([^'\n]*)'|([^\s#\"']\S*)|\n|(\S)")
"A comment, a word with quotes or without, the end of a line, or what cannot be there."

_KEY: Final = re.compile(r"[a-z][a-z0-9-]*:")


def _clauses(text: str) -> list[_Clause]:
    """The parts of the file, in order; statements before the first one belong to a part without a name."""
    tokens: list[tuple[int, str, bool]] = []
    line = 1
    for match in _TOKEN.finditer(text):
        if match[0] == "\n":
            line += 1
        elif match[4]:
            raise UpstreamError(f"line {line}: a quotation mark is not closed")
        elif match[0][0] != "#":
            tokens.append((line, match[match.lastindex or 0], bool(match[3] and _KEY.fullmatch(match[3]))))
    clauses = [_Clause(1, "")]
    for (line, word, is_key), (_, following, is_clause) in zip(tokens, [*tokens[1:], (0, "", True)], strict=False):
        if is_key and is_clause:
            clauses.append(_Clause(line, word[:-1]))
        elif is_key:
            clauses[-1].statements.append((line, word[:-1], following))
    return clauses


def _from_unbound(word: str, anchors: Anchors) -> Upstream:
    front, has_name, name = word.partition("#")
    address, has_port, port = front.partition("@")
    if not has_port and not has_name:
        raise UpstreamError(f"{shown(front)}: without @PORT and #NAME unbound asks port 53: write @{PORT} behind it")
    return _upstream(read_address(address), read_port(port) if has_port else PORT, has_name, name, anchors)


# ---------------------------------------------------------------- stubby

STUBBY_KEYS: Final = ("address_data", "port", "tls_auth_name", "tls_port", "tls_pubkey_pinset")
"Those of a server; ``port`` is for the clear and is not needed."


def _from_stubby(server: object, anchors: Anchors) -> Upstream:
    if not isinstance(server, Mapping):
        raise UpstreamError(f"a mapping with address_data is wanted, not {shown(server)}")
    for key in server:
        if key not in STUBBY_KEYS:
            raise UpstreamError(unknown("key", key, STUBBY_KEYS))
    if "address_data" not in server:
        raise UpstreamError("address_data is missing")
    pins = server.get("tls_pubkey_pinset", ())
    if pins != () and not (isinstance(pins, list) and pins):
        raise UpstreamError(f"tls_pubkey_pinset: a list of pins is wanted, not {shown(pins)}")
    return Upstream(
        name=checked("tls_auth_name", normalize_name, server["tls_auth_name"]) if "tls_auth_name" in server else None,
        addresses=(checked("address_data", read_address, server["address_data"]),),
        port=checked("tls_port", check_port, server.get("tls_port", PORT)),
        pins=tuple(_pin_of_stubby(number, pin) for number, pin in enumerate(pins)),
        trust_anchors=anchors,
    )


def _pin_of_stubby(number: int, pin: object) -> Pin:
    if not isinstance(pin, Mapping) or set(pin) != {"digest", "value"} or pin["digest"] != "sha256":
        raise UpstreamError(f"tls_pubkey_pinset[{number}]: digest: sha256, and value, are wanted, not {shown(pin)}")
    try:
        return read_pin(pin["value"])
    except UpstreamError as error:
        raise UpstreamError(f"tls_pubkey_pinset[{number}].value: {error}") from None


# ---------------------------------------------------------------- DNS stamps

STAMPS: Final = {
    0x00: "DNS in the clear",
    0x01: "DNSCrypt",
    0x02: "DNS over HTTPS",
    0x04: "DNS over QUIC",
    0x05: "Oblivious DoH",
    0x81: "a DNSCrypt relay",
    0x85: "an Oblivious DoH relay",
}
"Protocols of stamps other than DNS over TLS, by their first octet."


def _string(octets: bytes, at: int, what: str, mask: int = 0xFF) -> tuple[bytes, int]:
    """A string behind an octet with its length, and where it ends."""
    length = octets[at] & mask if at < len(octets) else 0
    end = at + 1 + length
    if end > len(octets):
        raise UpstreamError(f"octet {at + 1} of the stamp: it ends inside the {what}")
    return octets[at + 1 : end], end


def _from_stamp(where: str, host: str, anchors: Anchors) -> Upstream:
    """``where`` is an address, ``:PORT``, both, or nothing; ``host`` is a name with or without a port."""
    address, address_port = _split_port(where)
    name, host_port = _split_port(host)
    ports = {read_port(port) for port in (address_port, host_port) if port}
    if len(ports) > 1:
        raise UpstreamError(f"the stamp has two ports: {address_port} and {host_port}")
    return Upstream(
        name=name,
        addresses=(read_address(address),) if address else (),
        port=ports.pop() if ports else PORT,
        trust_anchors=anchors,
    )


def _split_port(text: str) -> tuple[str, str]:
    """A host and its port, either of which may be empty; an IPv6 address is in brackets."""
    if match := re.fullmatch(r"(\[.*\]|[^:]*):([0-9]+)", text):
        return match[1], match[2]
    return text, ""
