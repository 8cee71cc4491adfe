"""Which version this is."""

from __future__ import annotations


def version() -> str:
    """The version of the package as it is installed."""
    import importlib.metadata

    try:
        return importlib.metadata.version("dot-proto")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed: run from its source)"
