"""What the tests of the blocking backend share: a server's credentials, and a check for leaks."""

from __future__ import annotations

import gc
import math
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dot_io.tls.cache import SessionReads
from support.credentials import Credentials
from support.peers import GIVE_UP

DESCRIPTORS = Path("/proc/self/fd")


@pytest.fixture(autouse=True)
def _sessions_without_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a Python that loses memory for each session, a process keeps few of them; one test run makes thousands."""
    monkeypatch.setattr("dot_io.tls.cache._reads", SessionReads(math.inf))


@pytest.fixture(scope="session")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    made = Credentials.make(tmp_path_factory.mktemp("credentials"))
    gc.collect()
    gc.freeze()  # what exists by now is no garbage of any test: without it each collection costs 50 ms
    return made


@pytest.fixture
def leaves_nothing_behind(credentials: Credentials) -> Iterator[None]:
    """No thread and no file descriptor outlives the test."""
    gc.collect()
    threads, descriptors = set(threading.enumerate()), _count_descriptors()
    yield
    for thread in set(threading.enumerate()) - threads:
        thread.join(GIVE_UP)
        assert not thread.is_alive(), f"{thread.name} is still there"
    gc.collect()
    assert _count_descriptors() == descriptors, "file descriptors were left open"


def _count_descriptors() -> int:
    return len(os.listdir(DESCRIPTORS)) if DESCRIPTORS.exists() else 0


@pytest.fixture
def needs_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback address (::1)")
