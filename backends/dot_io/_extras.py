"""Which extra to install, where a package is missing that only some need."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def needs_extra(module: str, extra: str) -> Generator[None]:
    """Around imports: a package that is not there is named, with what ``module`` is to be installed with."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith(("dot_io", "dot_proto")):
            raise
        text = f"{module} needs {error.name.partition('.')[0]}: pip install 'dot-proto[{extra}]'"
        raise ModuleNotFoundError(text, name=error.name) from error
