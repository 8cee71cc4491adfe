"""What ``dot-proto pin`` and ``dot-proto demo`` were asked to do, read from their words; nothing here does I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ._errors import UsageError
from ._options import TIMEOUT, Options
from .servers import PORT, Server, one_of, parse_server
from .tables import DEMO, PIN


@dataclass(frozen=True, slots=True)
class PinArguments:
    """What ``dot-proto pin`` was asked to do."""

    target: str
    "A file's path or a server's word; with ``@`` in front it can only be a server."
    port: int | None
    "From ``-p``; ``None``: not said."
    server_name: str | None
    "What goes into SNI where it is not the server's own name."
    timeout: float
    "Seconds for connect and handshake together."
    json: bool = False

    def server(self) -> Server:
        """The target read as a server's word, with the other options; raises :class:`UsageError`."""
        named = parse_server(self.target.removeprefix("@"))
        name = one_of("server's name", named.name, self.server_name)
        return Server(named.host, one_of("port", named.port, self.port) or PORT, name)


@dataclass(frozen=True, slots=True)
class DemoArguments:
    """What ``dot-proto demo`` was asked to do: there is nothing to choose."""


def parse_pin(words: Sequence[str]) -> PinArguments:
    """Read the words after ``dot-proto pin``; raises :class:`UsageError`."""
    settings, rest = _settings(PIN, words)
    if len(rest) != 1:
        raise UsageError(f"name one server or file, not {len(rest)}: dot-proto pin SERVER|FILE")
    defaults: dict[str, Any] = {"port": None, "server_name": None, "timeout": TIMEOUT}
    return PinArguments(rest[0], **(defaults | settings))


def parse_demo(words: Sequence[str]) -> DemoArguments:
    """Read the words after ``dot-proto demo``; raises :class:`UsageError`."""
    _, rest = _settings(DEMO, words)
    if rest:
        raise UsageError(f"{rest[0]!r}: dot-proto demo takes no words")
    return DemoArguments()


def _settings(options: Options, words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    settings: dict[str, Any] = {}
    rest: list[str] = []
    for word in options.parse(words):
        if word.option is None:
            rest.append(word.text)
        else:
            word.option.apply(settings, word.value, negated=word.is_negated)
    return settings, rest
