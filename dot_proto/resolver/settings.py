"""A list of upstreams in a configuration file.

A file in TOML says this; the same in JSON will do, since what is read here is the data, not the file::

    strategy = "ordered"
    timeout = 5.0

    [[upstream]]
    address = ["192.0.2.1", "2001:db8::1"]
    name = "dns.example"
    pins = ["62lKu9HsDVbyiPenApnc4sfmSYTHOVfFgL3pyB+cBL4="]

    [[upstream]]
    url = "tls://198.51.100.1#other.example"

    [[upstream]]
    operator = "quad9"

What is not known is refused by its name, since a misspelt ``pins`` must not mean that there are none, and everything
that is wrong is told at once.  ``dot_io.settings.load`` reads the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from .._pem import certificates_from
from ..errors import CertificateError, LocalProtocolError, UpstreamError
from ..hosts import check_port, normalize_name
from ._advice import masked, read_address, read_pin, shown, unknown
from ._url import PROFILES
from .operators import OPERATORS
from .upstream import Upstream, check_upstreams, read_bootstrap

V = TypeVar("V")

STRATEGIES: Final = ("ordered", "round-robin", "random", "fastest")
"How one of several upstreams that are up is chosen."

KEYS: Final = ("strategy", "timeout", "upstream")

UPSTREAM_KEYS: Final = (
    "address",
    "bootstrap",
    "ca_file",
    "issuer_pins",
    "name",
    "operator",
    "pins",
    "port",
    "profile",
    "url",
)

_NOBODY: Final[tuple[Upstream, ...] | Literal["system"]] = ()
"Whom to ask for addresses, where nothing is said."

MEANT: Final = {
    "server": "did you mean [[upstream]]?",
    "servers": "did you mean [[upstream]]?",
    "nameserver": "did you mean [[upstream]]?",
    "nameservers": "did you mean [[upstream]]?",
}

UPSTREAM_MEANT: Final = {
    "ip": "did you mean address?",
    "host": "did you mean name, for what is authenticated, or address, for what is dialled?",
    "hostname": "did you mean name?",
    "sni": "did you mean name?",
    "auth_name": "did you mean name?",
    "tls_auth_name": "did you mean name?",
    "spki": "did you mean pins?",
    "pinset": "did you mean pins?",
    "tls_pubkey_pinset": "did you mean pins?",
    "tls_port": "did you mean port?",
    "ca": "did you mean ca_file?",
    "trust_anchors": "did you mean ca_file?",
    "tls_ca_file": "did you mean ca_file?",
    "uri": "did you mean url?",
    "provider": "did you mean operator?",
    "opportunistic": 'did you mean profile = "opportunistic"?',
    "strict": 'did you mean profile = "strict"?',
    "verify": 'who is not to be authenticated is asked for by profile = "opportunistic"',
    "insecure": 'who is not to be authenticated is asked for by profile = "opportunistic"',
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a file says about whom to ask, checked."""

    upstreams: tuple[Upstream, ...]
    "At least one, in the order of the file."

    strategy: str = "ordered"
    "``ordered``, ``round-robin``, ``random`` or ``fastest``."

    timeout: float = 5.0
    "Seconds for a query, all attempts together; as resolv.conf(5)."

    @classmethod
    def parse(cls, data: Mapping[str, Any], *, read_file: Callable[[str], bytes] | None = None) -> Settings:
        """Check what ``tomllib`` or ``json`` has read.

        ``read_file`` returns the octets of a ``ca_file``, DER or PEM; without it that key is refused, since nothing in
        this package does I/O.

        Raises :class:`~dot_proto.UpstreamError` with a line for each thing that is wrong, and the path of its key.
        """
        problems: list[str] = []
        top = _Table("", data, KEYS, MEANT, problems)
        strategy = top.read("strategy", _strategy, "ordered")
        timeout = top.read("timeout", _timeout, 5.0)
        found: list[Upstream] = []
        tables = top.read("upstream", _tables, list[object]())
        if "upstream" not in top.data:
            problems.append("upstream: there is none, so that nobody could be asked: begin one with [[upstream]]")
        for number, table in enumerate(tables):
            found += _read_upstream(
                _Table(f"upstream[{number}]", table, UPSTREAM_KEYS, UPSTREAM_MEANT, problems), read_file
            )
        if isinstance(top.data.get("upstream"), list) and len(found) == len(tables):
            try:
                found = [*check_upstreams(found, "upstream")]
            except UpstreamError as error:
                problems.append(str(error))
        if problems:
            raise UpstreamError(*problems)
        return cls(upstreams=tuple(found), strategy=strategy, timeout=timeout)


class _Table:
    """A table of the file: what is wrong in it is noted with the path of its key, and reading goes on."""

    def __init__(
        self, path: str, data: object, keys: tuple[str, ...], meant: Mapping[str, str], problems: list[str]
    ) -> None:
        self.path = path
        self.is_good = True
        self._problems = problems
        self.data: dict[str, Any] = {}
        if not isinstance(data, Mapping):
            self.note("", f"a table is wanted, not {shown(data)}")
            return
        for key, value in data.items():
            if key in keys:
                self.data[key] = value
            else:
                self.note("", unknown("key", key, keys, meant))

    def note(self, key: str, problem: object) -> None:
        """Something is wrong with a key, or with the table."""
        self.is_good = False
        path, text = ".".join(filter(None, (self.path, key))), str(problem)
        if key and text.startswith((f"{key}[", f"{key}: ")):  # it names the key, and the item of the list, already
            item, _, text = text.removeprefix(key).partition(": ")
            path += item
        self._problems.append(masked(f"{path}: {text}" if path else text))

    def read(self, key: str, read: Callable[[Any], V], default: V) -> V:
        """What the key says, or the default where it says nothing, or nothing that can be read."""
        if key not in self.data:
            return default
        try:
            return read(self.data[key])
        except LocalProtocolError as error:
            self.note(key, error)
            return default

    def read_list(self, key: str, read: Callable[[Any], V]) -> list[V]:
        """The same for each of a list; a value alone stands for a list of one."""
        values = self.data.get(key, [])
        found: list[V] = []
        if not isinstance(values, list):
            values, path = [values], "{key}"
        else:
            path = "{key}[{number}]"
            if key in self.data and not values:
                self.note(key, "the list is empty: leave the key out, or fill it")
        for number, value in enumerate(values):
            try:
                found.append(read(value))
            except LocalProtocolError as error:
                self.note(path.format(key=key, number=number), error)
        return found


def _read_upstream(table: _Table, read_file: Callable[[str], bytes] | None) -> list[Upstream]:
    """The upstream of a table; none where something is wrong with it."""
    whole = next((key for key in ("operator", "url") if key in table.data), None)
    if whole:
        allowed = {whole} if whole == "operator" else {whole, "ca_file", "bootstrap"}
        if more := sorted(table.data.keys() - allowed):
            table.note(whole, f"it says all of this: leave out {', '.join(more)}, or {whole}")
    anchors = table.read("ca_file", lambda name: _trust_anchors(name, read_file), None)
    bootstrap: tuple[Upstream, ...] | Literal["system"] = table.read("bootstrap", _bootstrap, _NOBODY)
    operator = table.read("operator", Upstream.well_known, None)
    url = table.read("url", lambda text: Upstream.parse(text, trust_anchors=anchors, bootstrap=bootstrap), None)
    addresses = table.read_list("address", read_address)
    name = table.read("name", normalize_name, None)
    pins, issuer_pins = table.read_list("pins", read_pin), table.read_list("issuer_pins", read_pin)
    port = table.read("port", _port, 853)
    is_opportunistic = table.read("profile", _profile, False)
    if not table.is_good:
        return []
    try:
        upstream = (
            operator
            or url
            or Upstream(
                name=name,
                addresses=tuple(addresses),
                port=port,
                pins=tuple(pins),
                trust_anchors=anchors,
                issuer_pins=tuple(issuer_pins),
                is_opportunistic=is_opportunistic,
                bootstrap=bootstrap,
            )
        )
    except UpstreamError as error:
        table.note("", error)
        return []
    if not upstream.addresses and not upstream.bootstrap:
        table.note("", 'no address to dial: give address, or say who finds it: bootstrap = ["quad9"], or "system"')
        return []
    return [upstream]


def _strategy(value: object) -> str:
    if value not in STRATEGIES:
        raise UpstreamError(unknown("strategy", value, STRATEGIES))
    return str(value)


def _timeout(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise UpstreamError(f"a number of seconds above 0 is wanted, not {shown(value)}")
    return float(value)


def _tables(value: object) -> list[object]:
    if not isinstance(value, list):
        raise UpstreamError(f"a list of tables is wanted, each begun with [[upstream]], not {shown(value)}")
    return value


def _port(value: object) -> int:
    if isinstance(value, str):
        raise UpstreamError(f"a whole number is wanted, not the text {shown(value)}")
    return check_port(value)  # type: ignore[arg-type]


def _profile(value: object) -> bool:
    if not isinstance(value, str) or value not in PROFILES:
        raise UpstreamError(unknown("profile", value, PROFILES))
    return PROFILES[value]


def _bootstrap(value: object) -> tuple[Upstream, ...] | Literal["system"]:
    texts: list[str] = []
    for text in value if isinstance(value, list) else [value]:
        if not isinstance(text, str):
            raise UpstreamError(f'"system", or a list of URLs and operators is wanted, not {shown(text)}')
        texts.append(Upstream.well_known(text).url if text in OPERATORS else text)
    return read_bootstrap(texts)


def _trust_anchors(name: object, read_file: Callable[[str], bytes] | None) -> tuple[bytes, ...]:
    if not isinstance(name, str):
        raise UpstreamError(f"the name of a file is wanted, not {shown(name)}")
    if read_file is None:
        raise UpstreamError("no file is read here: give read_file=, or use dot_io.settings.load")
    try:
        return tuple(certificates_from(read_file(name)))
    except CertificateError as error:
        raise UpstreamError(f"{shown(name)}: {error}") from None
    except (OSError, ValueError) as error:
        raise UpstreamError(f"{shown(name)} cannot be read: {error}") from error
