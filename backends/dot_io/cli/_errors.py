"""What the command tells its user when things go wrong, and its streams; importable without any optional package."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import ClassVar, TextIO

from .exit_codes import ExitCode


class UsageError(Exception):
    """The command line says something that cannot be done; the message says what, where, and what to do."""

    code: ClassVar[ExitCode] = ExitCode.USAGE


class BatchFileError(UsageError):
    """The file of ``-f`` cannot be read."""

    code: ClassVar[ExitCode] = ExitCode.BATCH_FILE


def complain(*lines: str) -> None:
    """Lines on stderr, after all that was written to stdout before them; raises for stdout alone.

    Where stderr takes nothing, there is nobody to tell: the exit code still says what happened.
    """
    sys.stdout.flush()
    try:
        for line in lines:
            print(f"dot-proto: {printable(line)}", file=sys.stderr)
        sys.stderr.flush()
    except OSError:
        discard(sys.stderr)


def printable(text: str) -> str:
    """``text`` without anything that a terminal would obey: escaped as Python would."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def prepare_streams() -> None:
    """Make stdout and stderr ready for anybody's letters; one that the shell has closed becomes the null device.

    The null device takes the number of the closed descriptor.  Otherwise the next file or socket would get it, and
    whatever writes to "stdout" or "stderr" by its number would write into that.
    """
    if sys.stdout is None:
        sys.stdout = _null(1)
    if sys.stderr is None:
        sys.stderr = _null(2)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a locale without the letters of somebody's name


def _null(number: int) -> TextIO:
    found = os.open(os.devnull, os.O_RDWR)
    if found != number:  # a lower one was closed too; or this one was not closed, but could not be written
        os.dup2(found, number)
        if found > 2:
            os.close(found)
    return open(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False)


def discard(stream: TextIO) -> None:
    """What could not be written must not be tried again when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
