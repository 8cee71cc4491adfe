"""A file that says whom to ask, read; what may stand in it is checked by :mod:`dot_proto.resolver.settings`."""

from __future__ import annotations

import tomllib
from os import PathLike
from pathlib import Path
from typing import Any

from dot_proto import UpstreamError
from dot_proto.resolver.settings import Settings


def read_toml(file: Path) -> dict[str, Any]:
    """What stands in a file; raises :class:`OSError`, and :class:`~dot_proto.UpstreamError` where it is no TOML."""
    try:
        return tomllib.loads(file.read_bytes().decode())
    except ValueError as error:  # it names the line
        raise UpstreamError(f"{file}: no TOML: {error}") from error


def load(path: str | PathLike[str]) -> Settings:
    """Read a file in TOML; a ``ca_file`` in it that is no absolute path is looked for beside it.

    Raises :class:`OSError` if the file cannot be read, and :class:`~dot_proto.UpstreamError` for what is in it: a line
    for each thing that is wrong, with the file and the path of the key.
    """
    file = Path(path)
    data = read_toml(file)
    try:
        return Settings.parse(data, read_file=lambda name: (file.parent / name).read_bytes())
    except UpstreamError as error:
        raise UpstreamError(*(f"{file}: {problem}" for problem in error.problems)) from error
