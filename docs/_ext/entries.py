"""What autodoc is told of a module whose ``__all__`` says what is public; needs nothing but Python."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Final

MODULES: Final = (
    "dot_proto",
    "dot_io.blocking",
    "dot_io.asyncio",
    "dot_io.trio",
    "dot_io.tls",
    "dot_io.testing",
)
"The modules whose ``__all__`` is what callers import; of the others all of a module is public."


def entries(name: str, first: str) -> Iterator[str]:
    """A directive for each name of a module, as lines of reStructuredText.

    What a module shares with the one that is called ``first`` is indexed there alone.
    """
    module = importlib.import_module(name)
    yield f".. currentmodule:: {name}"
    for public in module.__all__:
        value = getattr(module, public)
        kind = "class" if inspect.isclass(value) else "function" if inspect.isfunction(value) else "data"
        yield ""
        yield f".. auto{kind}:: {name}.{public}"
        if kind == "data":
            yield "   :no-value:"
        elif name != first and not value.__module__.startswith(f"{name}."):
            yield "   :no-index:"
