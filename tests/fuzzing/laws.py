"""The kit's own laws: the octets are what Hypothesis makes an example of.

What octets mean is Hypothesis's affair, and may change with its version: for these targets no corpus is kept.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import settings

from dot_proto import Deframer, ServerConnection
from dot_proto.testing.laws import Law, client_law, framer_law, server_law
from dot_proto.testing.runner import open_client


def _through(law: Law) -> Callable[[bytes], object]:
    """A target that tries one example; what breaks the law is raised."""
    return settings(database=None)(law).hypothesis.fuzz_one_input


TARGETS = {
    "framer-law": _through(framer_law(Deframer)),
    "client-law": _through(client_law(open_client)),
    "server-law": _through(server_law(lambda: ServerConnection(now=0.0))),
}
