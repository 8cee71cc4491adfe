"""For pytest: a DNS over TLS server on loopback, for the tests of any program.

Loaded into every pytest run of whoever has this package installed.  So nothing is imported here but what pytest
has imported already, and nothing happens until a test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from dot_proto import ServerConfiguration

    from .testing import Identity, LoopbackServer

DEFAULT_NAME: Final = "dns.example"
"The authentication domain name of a server whose test gives none."


@pytest.fixture
def dot_server(make_dot_server: Callable[[], LoopbackServer]) -> LoopbackServer:
    """A DNS over TLS server on loopback with a fresh certificate: a dot_io.testing.LoopbackServer.

    It knows what ``answers`` says, and misbehaves as ``fault`` and ``handshake_fault`` say.
    """
    return make_dot_server()


@pytest.fixture
def make_dot_server(_new_dot_server: Callable[..., LoopbackServer]) -> Iterator[Callable[..., LoopbackServer]]:
    """Makes as many servers as a test needs: ``make_dot_server(name, host=..., configuration=...)``, all optional.

    The name is the certificate's; the host is 127.0.0.1, or ::1 where there is IPv6 only; the configuration is a
    dot_proto.ServerConfiguration.  The servers are closed when the test ends.
    """
    with _closing_all(_new_dot_server) as make:
        yield make


@pytest.fixture(scope="session")
def dot_server_factory(_new_dot_server: Callable[..., LoopbackServer]) -> Iterator[Callable[..., LoopbackServer]]:
    """The same as make_dot_server, for fixtures of a class, a module or the session.

    The servers are closed when the session ends, or earlier: each is a context manager.
    """
    with _closing_all(_new_dot_server) as make:
        yield make


@contextmanager
def _closing_all(new: Callable[..., LoopbackServer]) -> Generator[Callable[..., LoopbackServer], None, None]:
    with ExitStack() as servers:
        yield lambda *args, **kwargs: servers.enter_context(new(*args, **kwargs))


@pytest.fixture(scope="session")
def _new_dot_server(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., LoopbackServer]:
    """Makes a server, which its caller closes.  The certificate for a name is made once in a session."""
    from dot_proto.arguments import check_text

    try:
        from .testing import Authority, LoopbackServer
    except ModuleNotFoundError as error:
        pytest.fail(f"the fixture dot_server needs {error.name}: pip install 'dot-proto[pytest]'", pytrace=False)
    authority = Authority(tmp_path_factory.mktemp("dot"), "dot_server")

    @cache
    def issue(name: str) -> Identity:
        return authority.issue(name, "127.0.0.1", "::1")

    def new(
        name: str = DEFAULT_NAME, *, host: str | None = None, configuration: ServerConfiguration | None = None
    ) -> LoopbackServer:
        check_text("name", name, "a name or an address, as text")
        return LoopbackServer(issue(name), host=host, configuration=configuration)

    return new
