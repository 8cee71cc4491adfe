"""The addresses of an upstream that has a name alone, looked for while other threads go on.

Such a thread never touches the resolver that it looks for.  It keeps what it has found, and tells; whoever moves octets
comes for it.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

from dot_proto import DoTError, LocalProtocolError

from .._lookup import SystemLookup

Found = tuple[list[str], float]
"Addresses, and the seconds that they may be kept."


class Search(ABC):
    """One that is under way."""

    @abstractmethod
    def result(self) -> Found:
        """What was found; raises :class:`~dot_proto.DoTError`."""

    @abstractmethod
    def close(self) -> None:
        """Nobody comes for the result any more."""


class SystemSearch(Search):
    """Asks the system, which may take as long as it likes."""

    def __init__(self, name: str, port: int, tell: Callable[[], None]) -> None:
        self._lookup = SystemLookup(name, port, tell)
        self._lookup.__enter__()

    def result(self) -> Found:
        """What the system has found."""
        return [str(address) for _, address in self._lookup.addresses()], 0.0

    def close(self) -> None:
        """A thread that waits for the system is left behind."""
        self._lookup.__exit__()


class UpstreamSearch(Search):
    """Asks other upstreams: ``find`` does, and ends when the resolver that it belongs to is closed."""

    def __init__(self, find: Callable[[], Found], tell: Callable[[], None]) -> None:
        self._find = find
        self._tell = tell
        self._result: Found | DoTError = LocalProtocolError("closed before the answer came")
        self._thread = threading.Thread(target=self._run, name="dot-bootstrap", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            raise DoTError(str(error)) from error

    def result(self) -> Found:
        """What the upstreams have answered."""
        self._thread.join()
        if isinstance(self._result, DoTError):
            raise self._result
        return self._result

    def close(self) -> None:
        """Wait for the thread: the resolver has been closed before, so that it has nothing to wait for."""
        self._thread.join()

    def _run(self) -> None:
        try:
            self._result = self._find()
        except DoTError as error:
            self._result = error
        self._tell()
