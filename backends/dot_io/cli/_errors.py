"""What the command tells its user when things go wrong; importable without any optional package."""

from __future__ import annotations

import sys


class UsageError(Exception):
    """The command line says something that cannot be done; the message says what, where, and what to do."""


def complain(*lines: str) -> None:
    """Lines on stderr, after all that was written to stdout before them."""
    sys.stdout.flush()
    for line in lines:
        print(f"dot-proto: {printable(line)}", file=sys.stderr)


def printable(text: str) -> str:
    """``text`` without anything that a terminal would obey: escaped as Python would."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
