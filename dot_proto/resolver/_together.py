"""Which upstreams one resolver may have beside each other."""

from __future__ import annotations

from collections.abc import Iterable

from ..arguments import collected, wrong
from ..errors import LocalProtocolError
from .configuration import MAX_UPSTREAMS, ResolverConfiguration
from .upstream import Upstream


def checked_upstreams(upstreams: Iterable[Upstream], configuration: ResolverConfiguration) -> tuple[Upstream, ...]:
    """The upstreams of a resolver, if they can stand together; raises :class:`~dot_proto.LocalProtocolError`."""
    one: object = upstreams
    hint = "Upstream.parse(text) reads one"
    if isinstance(one, Upstream):
        raise wrong("upstreams", "a list of Upstream objects", one, "give [upstream]")
    found = collected("upstreams", upstreams, Upstream, "a list of Upstream objects", hint)
    if not 1 <= len(found) <= MAX_UPSTREAMS:
        raise LocalProtocolError(f"upstreams holds {len(found)}; a resolver has 1 to {MAX_UPSTREAMS} of them")
    if len(set(found)) < len(found):
        raise LocalProtocolError(f"upstreams holds {next(one for one in found if found.count(one) > 1)} twice")
    kinds = {one.is_opportunistic for one in found}
    if len(kinds) > 1 and not configuration.allow_mixed:
        raise LocalProtocolError(
            "some upstreams are strict and some opportunistic: a query for the former would go to a server that nobody "
            "has authenticated when those are down; leave the opportunistic ones out, or say allow_mixed=True"
        )
    return found
