"""Every public name has a type that all type checkers agree on: ``python tests/typed_names.py``.

What pyright counts is the typing council's measure of a library's types.  It finds a package by the interpreter that is
first on PATH.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

UNTYPED: Final = "dot_io.hooks.niquests"
"Its base classes are those of niquests, which cannot be installed beside requests: what is not there has no types."


def untyped(package: str) -> Iterator[str]:
    """The public names of a package whose type is not known, or is ambiguous."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "pyright", "--verifytypes", package, "--ignoreexternal", "--outputjson"]
    done = subprocess.run(command, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)["typeCompleteness"]
    if not report["symbols"]:
        raise RuntimeError(f"pyright finds no names in {package}: {done.stdout}")
    for symbol in report["symbols"]:
        is_whole = symbol["isTypeKnown"] and not symbol["isTypeAmbiguous"]
        if not is_whole and not symbol["name"].startswith(f"{UNTYPED}."):
            yield symbol["name"]


def main() -> int:
    """Print what is not typed; 0 where that is nothing."""
    found = [name for package in ("dot_proto", "dot_io") for name in untyped(package)]
    print(*found, f"{len(found)} public names without a type", sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
