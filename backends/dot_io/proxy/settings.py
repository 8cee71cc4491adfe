"""A proxy's configuration file, in TOML: read, checked as a whole, and written with every default.

What is not known is refused, since a misspelt ``allow`` must not mean that nobody is, and everything that is wrong is
told at once.  The keys of an ``[[upstream]]`` are those of :mod:`dot_proto.resolver.settings`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Final

from dot_proto import LocalProtocolError, Strategy, Upstream, UpstreamError
from dot_proto.arguments import shown
from dot_proto.resolver._advice import unknown
from dot_proto.resolver.settings import Settings

from ..settings import read_toml
from ._access import faults
from .configuration import AnyQueries, ClientSubnet, PrivateAnswers, ProxyConfiguration, SpecialNames

COMMENTS: Final = {
    "listen": "addresses and ports, each for UDP and TCP",
    "allow": "networks that are answered beside this machine; needed to listen elsewhere than on loopback",
    "metrics": "address and port on which Prometheus reads the counters, /metrics; empty: nowhere",
    "strategy": "which upstream is asked first: ordered, round-robin, random or fastest",
    "special_names": "localhost, invalid, onion, private reverse zones and the like: local or forward",
    "any": "queries for the type ANY: hinfo (RFC 8482, over UDP), forward or refuse",
    "client_subnet": "what an upstream is told of a client's network (RFC 7871): drop, zero or forward",
    "private_answers": "private addresses in answers, by which a foreign name leads into this network: allow or strip",
    "private_names": "names that may have private addresses all the same, with all below them",
    "nsid": "whether a client may ask for the upstream's identifier (RFC 5001)",
    "trust_ad": "whether AD of an upstream reaches the client; never from opportunistic ones",
    "max_udp_size": "octets of an answer over UDP",
    "wait_for_upstream": "seconds for a query's answer, connecting and asking again included",
    "max_in_flight": "queries that wait for answers; then the oldest is dropped",
    "max_in_flight_octets": "octets of these together",
    "max_equal": "equal questions that wait for answers, which bounds a forwarding loop",
    "cache_size": "answers that are kept for as long as they say; 0 keeps none",
    "cache_octets": "octets of these together",
    "tcp_idle_timeout": "seconds that a TCP connection stays without a query",
    "max_connections": "TCP connections of clients",
    "max_connections_per_host": "TCP connections from one address; this machine's own count only in the line above",
    "max_queries_per_connection": "queries of one TCP connection that wait for answers",
}
"By key: what it says, with its unit; in the order in which they are written."

KEYS: Final = (*COMMENTS, "upstream")

MEANT: Final = {
    "listen_addresses": "did you mean listen?",
    "port": "the port stands behind the address, as in listen",
    "acl": "did you mean allow?",
    "timeout": "did you mean wait_for_upstream?",
    "server": "did you mean [[upstream]]?",
    "servers": "did you mean [[upstream]]?",
    "upstreams": "did you mean [[upstream]]?",
    "nameserver": "did you mean [[upstream]]?",
    "forward": "all names go to the upstreams: begin one with [[upstream]]",
}

_ENUMS: Final[Mapping[str, type[enum.Enum]]] = {
    "special_names": SpecialNames,
    "any": AnyQueries,
    "client_subnet": ClientSubnet,
    "private_answers": PrivateAnswers,
    "strategy": Strategy,
}

_PLACE: Final = re.compile(r"\[([^][]+)\]:([0-9]{1,5})|([^][:]+):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """What a file or a command line says about a proxy, checked."""

    upstreams: tuple[Upstream, ...]
    "At least one."

    configuration: ProxyConfiguration
    "How it behaves."

    tables: tuple[Mapping[str, Any], ...]
    "The upstreams as they are written, for :meth:`to_toml`: trust anchors come from a file, whose name stands there."

    @classmethod
    def parse(cls, data: Mapping[str, Any], *, read_file: Callable[[str], bytes]) -> ProxySettings:
        """Check what ``tomllib`` has read; ``read_file`` returns the octets of a ``ca_file``.

        Raises :class:`~dot_proto.UpstreamError` with a line for each thing that is wrong, which begins with its key.
        """
        problems = [unknown("key", key, KEYS, MEANT) for key in data if key not in KEYS]
        given: dict[str, Any] = {}
        for key in data.keys() & COMMENTS.keys():
            try:
                given[key] = _read(key, data[key])
            except LocalProtocolError as error:
                problems.append(str(error))
        strategy = given.pop("strategy", Strategy.ORDERED)
        upstreams: tuple[Upstream, ...] = ()
        try:
            asked = {"upstream": data["upstream"]} if "upstream" in data else {}
            upstreams = Settings.parse(asked, read_file=read_file).upstreams
        except UpstreamError as error:
            problems += error.problems
        configuration = ProxyConfiguration(**given)
        problems += faults(configuration, upstreams)
        if problems:
            raise UpstreamError(*sorted(problems, key=lambda problem: _place_in_file(problem, data)))
        resolver = replace(configuration.resolver, strategy=strategy)
        return cls(upstreams, replace(configuration, resolver=resolver), tuple(data["upstream"]))

    def to_toml(self) -> str:
        """The file that says the same, with every key; :func:`load` reads it back."""
        lines = [f"{key} = {_written(self._value(key))}  # {comment}" for key, comment in COMMENTS.items()]
        for table in self.tables:
            lines += ["", "[[upstream]]", *(f"{key} = {_written(value)}" for key, value in table.items())]
        return "\n".join(lines) + "\n"

    def _value(self, key: str) -> Any:
        configuration = self.configuration
        if key == "listen":
            return [written_place(*place) for place in configuration.listen]
        if key == "metrics":
            return written_place(*configuration.metrics) if configuration.metrics else ""
        if key == "allow":
            return [str(network) for network in configuration.allow]
        if key == "strategy":
            return configuration.resolver.strategy.value
        value = getattr(configuration, key)
        if isinstance(value, tuple):
            return list(value)
        return value.value if isinstance(value, enum.Enum) else value


def load(path: str | PathLike[str], more: Mapping[str, Any] | None = None) -> ProxySettings:
    """Read a file; what ``more`` says beats what stands in it.  A ``ca_file`` is looked for beside the file.

    Raises :class:`OSError` if the file cannot be read, and :class:`~dot_proto.UpstreamError` for what is in it: a line
    for each thing that is wrong, with the file, and the line or the key.
    """
    file = Path(path)
    data = read_toml(file)
    from_elsewhere = more or {}
    try:
        return ProxySettings.parse({**data, **from_elsewhere}, read_file=lambda name: (file.parent / name).read_bytes())
    except UpstreamError as error:
        raise UpstreamError(
            *(problem if _key_of(problem) in from_elsewhere else f"{file}: {problem}" for problem in error.problems)
        ) from error


def written_place(host: str, port: int) -> str:
    """An address and a port as text."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _read(key: str, value: Any) -> Any:
    """The value of a key as :class:`ProxyConfiguration` has it; raises an error that begins with the key."""
    if key == "listen":
        value = _places(value)
    elif key == "metrics":
        value = None if value == "" else _place(key, value)
    elif key in _ENUMS:
        choices = {each.value: each for each in _ENUMS[key]}
        if not isinstance(value, str) or value not in choices:
            raise UpstreamError(f"{key}: {unknown('value', value, choices)}")
        return choices[value]
    elif key in ("wait_for_upstream", "tcp_idle_timeout") and type(value) is int:
        value = float(value)
    try:
        return getattr(ProxyConfiguration(**{key: value}), key)
    except LocalProtocolError as error:
        text = str(error)
        raise UpstreamError(
            text if text.startswith(f"{key}:") else f"{key}: {text.removeprefix(key).lstrip()}"
        ) from None


def _places(value: Any) -> list[tuple[str, int]]:
    if not isinstance(value, list):
        raise UpstreamError(f'listen: a list is wanted, as ["127.0.0.1:53", "[::1]:53"], not {shown(value)}')
    return [_place("listen", text) for text in value]


def _place(key: str, text: Any) -> tuple[str, int]:
    found = _PLACE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise UpstreamError(f"{key}: {shown(text)} is no address with a port, as 127.0.0.1:53 or [::1]:53")
    return found[1] or found[3], int(found[2] or found[4])


def _written(value: Any) -> str:
    """A value in TOML: a text, a number, a truth value, or a list of these."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, str):
        return '"' + "".join(_escaped(one) for one in value) + '"'
    return repr(value)


def _escaped(one: str) -> str:
    if one in '"\\':
        return f"\\{one}"
    return one if one.isprintable() else f"\\U{ord(one):08X}"


def _key_of(problem: str) -> str:
    """The key with which a problem begins."""
    found = re.match(r"[a-z_]+", problem)
    return found[0] if found else ""


def _place_in_file(problem: str, data: Mapping[str, Any]) -> int:
    """Where a problem's key stands; those of unknown keys come first."""
    keys = list(data)
    return keys.index(_key_of(problem)) if _key_of(problem) in keys else -1
