"""The system's table of hosts (hosts(5)), which goes before DNS."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from .._network import zone_of

HOSTS: Final = Path(r"C:\Windows\System32\drivers\etc\hosts" if sys.platform == "win32" else "/etc/hosts")
"Where the system has it."

Entry = tuple[str, str]
"An address, and the canonical name of the line that it is in."


class HostsFile:
    """Read when it is first asked, and again when the file has changed; a file that cannot be read is empty."""

    def __init__(self, path: Path = HOSTS) -> None:
        self._path = path
        self._state: tuple[int, int, int] | None = None
        self._entries: _Entries = {}

    def find(self, name: str, families: Iterable[int]) -> list[Entry]:
        """What is there for a name, without regard to case; ``families`` are AF_INET and AF_INET6, or one of them."""
        entries, key = self._read(), name.lower()
        return [entry for family in families for entry in entries.get((key, family), ())]

    def names_of(self, address: str) -> list[str]:
        """The names of an address, as the system writes it: the canonical one first."""
        found = {
            name: canonical for (name, _), line in self._read().items() for one, canonical in line if one == address
        }
        return list(dict.fromkeys([*found.values(), *found]))

    def _read(self) -> _Entries:
        try:
            status = os.stat(self._path)
            state = status.st_mtime_ns, status.st_size, status.st_ino
            if state != self._state:
                self._entries, self._state = _parse(self._path.read_text("utf-8", "replace")), state
        except OSError:
            return {}
        return self._entries


_Entries = dict[tuple[str, int], list[Entry]]
"By name, in lower case, and family."


def _parse(text: str) -> _Entries:
    entries: _Entries = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        is_wide = ":" in address
        family = socket.AF_INET6 if is_wide else socket.AF_INET
        try:
            socket.inet_pton(family, address.partition("%")[0] if is_wide else address)
            zone_of(address)  # lists that go round the world name interfaces of other systems
        except (OSError, ValueError):
            continue  # as the C library does with what is no address
        for name in names:
            found = entries.setdefault((name.lower().removesuffix("."), family), [])
            if all(address != other for other, _ in found):
                found.append((address, names[0]))
    return entries
