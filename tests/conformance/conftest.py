"""What every scenario is given, and what every scenario must not leave behind."""

from __future__ import annotations

import gc
import math
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from conformance.adapters import ASYNC, BACKENDS, Backend
from conformance.identities import Identities, make_identities
from dot_io.tls.cache import SessionReads

DESCRIPTORS = Path("/proc/self/fd")


@pytest.fixture(params=BACKENDS, ids=repr)
def api(request: pytest.FixtureRequest) -> Backend:
    """The backend under test."""
    backend: Backend = request.param
    return backend


@pytest.fixture(params=ASYNC, ids=repr)
def async_api(request: pytest.FixtureRequest) -> Backend:
    """The backend under test, one whose callers can be cancelled."""
    backend: Backend = request.param
    return backend


@pytest.fixture(params=BACKENDS, ids=repr)
def other(request: pytest.FixtureRequest) -> Backend:
    """The backend of the server that the client under test asks."""
    backend: Backend = request.param
    return backend


@pytest.fixture(scope="session")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    """Certificates: made once."""
    made = make_identities(tmp_path_factory.mktemp("identities"), trustme)
    for backend in BACKENDS:
        backend.run(_nothing)  # uvloop opens two descriptors at its first use, once for all
    gc.collect()
    gc.freeze()  # what exists by now is no garbage of any scenario: without it each collection costs 50 ms
    return made


@pytest.fixture(autouse=True)
def _sessions_without_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a Python that loses memory for each session, a process keeps few of them; one test run makes thousands."""
    monkeypatch.setattr("dot_io.tls.cache._reads", SessionReads(math.inf))


@pytest.fixture(autouse=True)
def _short_linger_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server waits less long for a client that has close_notify and does not close."""
    monkeypatch.setattr("dot_io.tls.TLSServer._linger_timeout", 0.1)


@pytest.fixture(autouse=True)
def nothing_is_left_behind(identities: Identities) -> Iterator[None]:
    """No thread and no file descriptor outlives its scenario; an unclosed socket is a warning, and so an error."""
    gc.collect()
    threads, descriptors = set(threading.enumerate()), _descriptors()
    yield
    deadline = time.monotonic() + 3.0
    for thread in set(threading.enumerate()) - threads:
        if not thread.name.startswith("Trio thread "):  # trio keeps its idle workers for 10 seconds
            thread.join(max(deadline - time.monotonic(), 0.0))
            assert not thread.is_alive(), f"{thread.name} is still there"
    gc.collect()
    assert _descriptors() == descriptors, "file descriptors were left open"


async def _nothing(api: Backend) -> None:
    await api.pause()


def _descriptors() -> int:
    return len(os.listdir(DESCRIPTORS)) if DESCRIPTORS.exists() else 0
