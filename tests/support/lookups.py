"""The system's resolver, when it does not answer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dot_io import _lookup
from support.peers import GIVE_UP


@contextmanager
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Lookups of names hang until the end of the block; yields the names."""
    over, asked = threading.Event(), list[str]()

    def getaddrinfo(host: str, *_: object, **__: object) -> Any:
        asked.append(host)
        over.wait(GIVE_UP)
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        yield asked
    finally:
        over.set()
        monkeypatch.undo()
        while _lookup.pool._threads:
            time.sleep(0.001)
