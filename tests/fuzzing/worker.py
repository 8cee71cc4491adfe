"""One target under libFuzzer, by atheris: ``python tests/fuzzing/worker.py TARGET [libFuzzer's arguments]``."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

HOME = Path(__file__).resolve().parent


def main() -> None:
    """Only the engine and the TLS layer are instrumented: what others do is no reason to keep an input."""
    name, *options = sys.argv[1:]
    sys.path[0] = str(HOME.parent)  # where this package of the tests, and support, are
    with atheris.instrument_imports(include=["dot_proto", "dot_io"]):
        from fuzzing.targets import TARGETS
    atheris.Setup([sys.argv[0], *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
