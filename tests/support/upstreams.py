"""What is wrong with texts and files about upstreams, if anything."""

from __future__ import annotations

from collections.abc import Callable

from dot_proto import UpstreamError


def complaints(read: Callable[..., object], *arguments: object, **named: object) -> tuple[str, ...]:
    """Each thing that is wrong; nothing where all of it can be read.  Other errors are not expected."""
    try:
        read(*arguments, **named)
    except UpstreamError as error:
        return error.problems
    return ()
