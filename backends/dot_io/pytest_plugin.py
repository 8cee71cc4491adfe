"""For pytest: a DNS over TLS server on loopback, for the tests of any program.

Loaded into every pytest run of whoever has this package installed.  So nothing is imported here but what pytest
has imported already, and nothing happens until a test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from dot_proto import ServerConfiguration

    from .testing import Identity, LoopbackServer

DEFAULT_NAME: Final = "dns.example"
"The authentication domain name of a server whose test gives none."


@pytest.fixture
def dot_server(make_dot_server: Callable[[], LoopbackServer]) -> LoopbackServer:
    """A DNS over TLS server on 127.0.0.1 with a fresh certificate: a dot_io.testing.LoopbackServer.

    It knows what ``answers`` says, and misbehaves as ``fault`` and ``handshake_fault`` say.
    """
    return make_dot_server()


@pytest.fixture
def make_dot_server(_dot_identities: Callable[[str], Identity]) -> Iterator[Callable[..., LoopbackServer]]:
    """Makes as many servers as a test needs: ``make_dot_server(name, configuration=...)``, both optional.

    The name is the certificate's; the configuration is a dot_proto.ServerConfiguration.
    """
    from contextlib import ExitStack

    from .testing import LoopbackServer

    with ExitStack() as servers:

        def make(name: str = DEFAULT_NAME, *, configuration: ServerConfiguration | None = None) -> LoopbackServer:
            return servers.enter_context(LoopbackServer(_dot_identities(name), configuration=configuration))

        yield make


@pytest.fixture(scope="session")
def _dot_identities(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Identity]:
    """From a name to its certificate, made once in a session."""
    from functools import cache

    try:
        from .testing import Authority
    except ModuleNotFoundError as error:
        pytest.fail(f"the fixture dot_server needs {error.name}: pip install 'dot-proto[pytest]'", pytrace=False)
    authority = Authority(tmp_path_factory.mktemp("dot"), "dot_server")

    @cache
    def issue(name: str) -> Identity:
        return authority.issue(name, "127.0.0.1", "::1")

    return issue
