"""Which version this is."""

from __future__ import annotations


def version() -> str:
    """The version of the package as it is installed."""
    import importlib.metadata

    try:
        return importlib.metadata.version("dot-proto")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed: run from its source)"


def is_compiled() -> bool:
    """Whether the engine is machine code: the same name is then an extension module."""
    from importlib.machinery import EXTENSION_SUFFIXES

    import dot_proto.client

    return dot_proto.client.__file__.endswith(tuple(EXTENSION_SUFFIXES))
