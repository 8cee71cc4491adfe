"""Another program's configuration: ``stubby.yml``, read as the settings of a proxy that asks for no less.

What a setting of stubby's asks of an upstream is kept or refused, never left out.  What has no counterpart and makes
nothing weaker is left out with a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from dot_proto import LocalProtocolError, UpstreamError
from dot_proto.arguments import shown
from dot_proto.resolver._advice import unknown
from dot_proto.resolver.importers import from_stubby

from .configuration import PORT
from .settings import written_place

TLS_ALONE: Final = ["GETDNS_TRANSPORT_TLS"]

LEFT_OUT: Final = {
    "resolution_type": "this is a stub resolver, as stubby is",
    "idle_timeout": "connections to upstreams stay 10 s, or as long as the upstream says (RFC 7828)",
    "tls_query_padding_blocksize": "queries are padded to multiples of 128 octets (RFC 8467)",
    "tls_connection_retries": "an upstream that is away is tried again for as long as queries come",
    "tls_backoff_time": "an upstream that is away is tried again for as long as queries come",
    "tls_min_version": "TLS 1.2 is the least here; openssl.cnf (MinProtocol) makes it more",
    "tls_max_version": "TLS 1.3 is always offered; openssl.cnf (MaxProtocol) makes it less",
    "tls_cipher_list": "openssl.cnf (CipherString) chooses",
    "tls_ciphersuites": "openssl.cnf (Ciphersuites) chooses",
    "appdata_dir": "nothing is kept on disk",
    "log_level": "logs go to stderr",
    "trust_anchors_backoff_time": "nothing is validated here",
}
"By key: why it has no counterpart."

REFUSED: Final = {
    "tls_ca_path": "a folder of trust anchors is not read: name a file by tls_ca_file",
    "dnssec": "answers are not validated here: ask an upstream that does, and leave it out",
    "dnssec_return_status": "answers are not validated here: ask an upstream that does, and leave it out",
    "dnssec_trust_anchors": "answers are not validated here: ask an upstream that does, and leave it out",
}
"By key: what its importing would lose."

READ: Final = (
    "dns_transport_list",
    "tls_authentication",
    "edns_client_subnet_private",
    "round_robin_upstreams",
    "timeout",
    "limit_outstanding_queries",
    "tls_ca_file",
    "listen_addresses",
    "upstream_recursive_servers",
)

_OFF: Final = (0, "GETDNS_EXTENSION_FALSE")


def settings_from_stubby(data: object) -> tuple[dict[str, Any], list[str]]:
    """What a parser of YAML made of the file, as ``ProxySettings.parse`` reads it; and warnings.

    Raises :class:`~dot_proto.UpstreamError` with a line for each thing that is wrong, which begins with its key.
    """
    if not isinstance(data, Mapping):
        raise UpstreamError(f"a file of keys is wanted, as stubby.yml, not {shown(data)}")
    problems: list[str] = []
    warnings: list[str] = []
    for key, value in data.items():
        if key in LEFT_OUT:
            warnings.append(f"{key} is left out: {LEFT_OUT[key]}")
        elif key in REFUSED and value not in _OFF:
            problems.append(f"{key}: {REFUSED[key]}")
        elif key not in READ and key not in REFUSED:
            problems.append(unknown("key", key, (*READ, *LEFT_OUT, *REFUSED)))
    settings: dict[str, Any] = {}
    for key, read in _READERS.items():
        if key in data:
            try:
                settings |= read(data[key])
            except LocalProtocolError as error:
                problems.append(f"{key}: {error}")
    try:
        settings["upstream"] = _upstreams(data, warnings)
    except UpstreamError as error:
        problems += error.problems
    if problems:
        raise UpstreamError(*problems)
    return settings, warnings


def _upstreams(data: Mapping[Any, Any], warnings: list[str]) -> list[dict[str, str]]:
    upstreams = from_stubby({"upstream_recursive_servers": data.get("upstream_recursive_servers")})
    transports = data.get("dns_transport_list", TLS_ALONE)
    is_strict = data.get("tls_authentication") == "GETDNS_AUTHENTICATION_REQUIRED"
    if not is_strict or transports != TLS_ALONE:
        warnings.append(
            "upstreams need not authenticate themselves here, as in stubby (tls_authentication is not "
            "GETDNS_AUTHENTICATION_REQUIRED, or dns_transport_list is not TLS alone); none is asked in the clear"
        )
        upstreams = tuple(replace(upstream, is_opportunistic=True, pins=()) for upstream in upstreams)
    anchors = {"ca_file": data["tls_ca_file"]} if "tls_ca_file" in data else {}
    return [{"url": upstream.url} | anchors for upstream in upstreams]


def _listen(value: object) -> dict[str, Any]:
    if not isinstance(value, list):
        raise UpstreamError(f"a list of ADDRESS or ADDRESS@PORT is wanted, not {shown(value)}")
    places: list[str] = []
    for each in value:
        host, _, port = str(each).partition("@")
        places.append(written_place("::1" if host == "0::1" else host, int(port) if port.isdecimal() else PORT))
    return {"listen": places}


def _milliseconds(value: object) -> dict[str, Any]:
    return {"wait_for_upstream": _whole(value) / 1000}


def _limit(value: object) -> dict[str, Any]:
    return {"max_in_flight": _whole(value)} if value else {}  # 0 is no limit there


def _whole(value: object) -> int:
    if type(value) is not int or value < 0:
        raise UpstreamError(f"a whole number is wanted, not {shown(value)}")
    return value


_READERS: Final[Mapping[str, Callable[[object], dict[str, Any]]]] = {
    "listen_addresses": _listen,
    "round_robin_upstreams": lambda value: {"strategy": "round-robin" if _whole(value) else "ordered"},
    "edns_client_subnet_private": lambda value: {"client_subnet": "zero" if _whole(value) else "drop"},
    "timeout": _milliseconds,
    "limit_outstanding_queries": _limit,
}
