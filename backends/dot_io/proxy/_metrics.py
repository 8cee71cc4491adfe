"""The counters as Prometheus reads them: its text format, version 0.0.4; no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final

from dot_proto.query import TYPES
from dot_proto.resolver.events import UpstreamStatistics

from ._counters import BUCKETS, Counters

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

QTYPES: Final = {
    TYPES[name]: name
    for name in ("A", "AAAA", "ANY", "CNAME", "DNSKEY", "DS", "HTTPS", "MX", "NS", "PTR", "SRV", "TXT")
}
"Types that are told apart: clients must not be able to make any number of labels."

RCODES: Final = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")
"By number (RFC 1035, section 4.1.1); others are told by it."

Samples = Mapping[str, int]
"Values by their labels, as they are written."


def exposition(
    counters: Counters, upstreams: Sequence[UpstreamStatistics], *, in_flight: int, connections: int, version: str
) -> str:
    """All of it; ``in_flight`` are queries that wait for answers, ``connections`` those of TCP clients."""
    rcodes = {_labels(rcode=_rcode(number)): count for number, count in counters.rcodes.items()}
    dropped = {_labels(reason=reason.value): count for reason, count in counters.dropped.items()}
    sent, opened, is_open, is_up, failed = {}, {}, {}, {}, {}
    for one in upstreams:
        name = str(one.upstream)
        labels = _labels(upstream=name)
        sent[labels], opened[labels], is_open[labels], is_up[labels] = one.sent, one.opened, one.connections, one.is_up
        for reason, count in (("opening", one.failed), ("refused", one.refused), ("lost", one.lost)):
            failed[_labels(upstream=name, reason=reason)] = count
    return "".join(
        [
            _counter("queries", "Queries of clients", _queries(counters)),
            _counter("responses", "Responses to clients", rcodes),
            _counter("dropped", "Messages and connections of clients without an answer", dropped),
            _counter("truncated", "Responses with TC", {"": counters.truncated}),
            _counter("cache_hits", "Queries that were answered by what was kept", {"": counters.cache_hits}),
            _counter("cache_misses", "Queries for which nothing was kept", {"": counters.cache_misses}),
            _counter("upstream_queries", "Queries sent to an upstream", sent),
            _counter("upstream_failures", "Connections that failed, were refused, or lost queries", failed),
            _counter("upstream_handshakes", "Connections that were authenticated", opened),
            _gauge("upstream_connections", "Connections that are open or being opened", is_open),
            _gauge("upstream_up", "1 where the upstream may be asked", is_up),
            _gauge("client_connections", "TCP connections of clients", {"": connections}),
            _gauge("in_flight", "Queries that wait for answers", {"": in_flight}),
            _gauge("build_info", "The version that runs", {_labels(version=version): 1}),
            _durations(counters),
        ]
    )


def _queries(counters: Counters) -> Samples:
    found = Counter[str]()
    for transport, by_type in (("udp", counters.over_udp), ("tcp", counters.over_tcp)):
        for number, count in by_type.items():
            found[_labels(transport=transport, qtype=QTYPES.get(number, "other"))] += count
    return found


def _durations(counters: Counters) -> str:
    """A histogram; each bucket counts all that took less, too."""
    name = "query_duration_seconds"
    *sums, count = accumulate(counters.durations)
    samples = {f"_bucket{_labels(le=str(end))}": total for end, total in zip(BUCKETS, sums, strict=True)}
    samples |= {f"_bucket{_labels(le='+Inf')}": count, "_count": count}
    text = _metric(name, "histogram", "From a query's coming to its response, where an upstream was asked", samples)
    return f"{text}dot_proto_{name}_sum {counters.seconds!r}\n"


def _counter(name: str, text: str, samples: Samples) -> str:
    return _metric(f"{name}_total", "counter", text, samples)


def _gauge(name: str, text: str, samples: Samples) -> str:
    return _metric(name, "gauge", text, samples)


def _metric(name: str, kind: str, text: str, samples: Samples) -> str:
    head = f"# HELP dot_proto_{name} {text}.\n# TYPE dot_proto_{name} {kind}\n"
    return head + "".join(f"dot_proto_{name}{labels} {value:d}\n" for labels, value in samples.items())


def _rcode(number: int) -> str:
    return RCODES[number] if number < len(RCODES) else str(number)


def _labels(**values: str) -> str:
    pairs = (f'{name}="{_escaped(value)}"' for name, value in values.items())
    return f"{{{','.join(pairs)}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
