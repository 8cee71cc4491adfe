"""What the tests with real peers share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conformance.adapters import BACKENDS, Backend
from interop import servers
from support.credentials import Credentials


@pytest.fixture(scope="session")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return Credentials.make(tmp_path_factory.mktemp("credentials"))


@pytest.fixture(params=BACKENDS, ids=repr)
def api(request: pytest.FixtureRequest) -> Backend:
    """The backend under test."""
    backend: Backend = request.param
    return backend


@pytest.fixture(scope="session")
def unbound(credentials: Credentials, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Unbound's port."""
    with servers.unbound(tmp_path_factory.mktemp("unbound"), credentials) as port:
        yield port


@pytest.fixture(scope="session")
def nsd_ports(credentials: Credentials, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    with servers.nsd(tmp_path_factory.mktemp("nsd"), credentials) as ports:
        yield ports


@pytest.fixture(scope="session")
def nsd(nsd_ports: tuple[int, int]) -> int:
    """NSD's port."""
    return nsd_ports[0]


@pytest.fixture(scope="session")
def dnsdist(
    credentials: Credentials, nsd_ports: tuple[int, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """The port of dnsdist, which asks NSD."""
    with servers.dnsdist(tmp_path_factory.mktemp("dnsdist"), credentials, nsd_ports[1]) as port:
        yield port
