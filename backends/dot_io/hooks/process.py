"""Names for the whole process over TLS: whatever calls the functions of the module ``socket``.

>>> from dot_io.hooks.process import encrypted_dns
>>> from dot_proto import Upstream
>>> with encrypted_dns([Upstream.well_known("quad9")]):
...     ...
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Final

from dot_proto import ResolverConfiguration, Upstream

from .._lookup import StandIn
from ..blocking import Resolver
from ._blocking import Functions

REPLACED: Final = ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo")
"Of the module ``socket``; its ``getfqdn`` and ``create_connection`` call them."


@contextmanager
def encrypted_dns(
    upstreams: Iterable[Upstream], configuration: ResolverConfiguration | None = None, *, search: Iterable[str] = ()
) -> Generator[Resolver]:
    """While the block runs, ``socket.getaddrinfo`` and its kin ask ``upstreams``, in every thread.

    ``search`` are suffixes for short names.  Yields the resolver, for its statistics.  Blocks may be nested; each puts
    back what was there.  Raises :class:`~dot_proto.LocalProtocolError` for a wrong argument, before anything is
    replaced.
    """
    functions = Functions(upstreams, configuration, search=search, system=socket.getaddrinfo)
    stand_ins: list[StandIn] = []
    try:
        for name in REPLACED:
            with _replacing:
                stand_ins.append(StandIn(name, getattr(functions, name)))
        yield functions.resolver
    finally:
        for stand_in in stand_ins:
            with _replacing:
                stand_in.take_away()
        functions.close()


_replacing: Final = threading.Lock()
"Blocks of several threads may begin and end at any time."
