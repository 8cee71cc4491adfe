"""The programs in the documents and the examples, under mypy --strict and pyright: ``python tests/typed_documents.py``.

Whoever copies a program into a project that is checked must not be told that our types are wrong.  Each block of Python
in the Markdown becomes a file of its own, in which it stands on the lines on which it stands in the document, so that
what a checker says of it can be looked up there.  All are checked by one process of each checker: starting one takes
longer than what it does here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

HOME: Final = Path(__file__).parents[1]

BLOCK: Final = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)

GIVEN: Final = (
    "import dot_proto; policy = dot_proto.AuthenticationPolicy.opportunistic(); port = 853; "
    'certificate_file = "server.pem"; pem = b""; upstreams = [dot_proto.Upstream.well_known("quad9")]; url = ""'
)
"What the documents say that a block is given; it stands on the line of the fence, or above."

UNTYPED: Final = re.compile(r"^from (twisted[\w.]*|gevent|niquests) import ([\w, ]+)$", re.MULTILINE)
"""Twisted declares by zope.interface, which only a plugin of mypy's reads; gevent has no types, and niquests cannot be
installed beside requests.  Without types nothing of them is complained of."""

MYPY: Final = ("--strict", "--allow-subclassing-any", "--python-version=3.11", "--no-error-summary", "--config-file=")

PYRIGHT: Final = '{{"extraPaths": [{paths}], "typeCheckingMode": "strict", "pythonVersion": "3.11", {off}}}'

NOT_OURS: Final = ("UnknownArgumentType", "UnknownMemberType", "UnknownVariableType", "MissingTypeStubs")
"What is unknown is of other people's packages, whose types are partial; those of ours are checked for it elsewhere."


def documents() -> list[Path]:
    """All Markdown that is ours."""
    folders = ("docs", "docs/[a-z]*", "examples", "benchmarks")
    return sorted(document for folder in ("", *folders) for document in HOME.glob(f"{folder}/*.md".lstrip("/")))


def blocks(document: Path) -> Iterator[tuple[int, str]]:
    """The blocks of Python, each with the line on which it begins."""
    text = document.read_text("utf-8")
    for found in BLOCK.finditer(text):
        yield text.count("\n", 0, found.start(1)) + 1, found[1]


def write(folder: Path) -> dict[str, str]:
    """Put every program into ``folder``; returns by the names of the files what they were taken from."""
    names: dict[str, str] = {}
    for document in documents():
        for line, block in blocks(document):
            source = str(document.relative_to(HOME))
            file = folder / f"{re.sub(r'[^a-z]', '_', source.lower())}_{line}.py"
            file.write_text(GIVEN + "\n" * (line - 1) + block, "utf-8")
            names[file.name] = source
    for example in HOME.glob("examples/*.py"):
        shutil.copy(example, folder)
        names[example.name] = f"examples/{example.name}"
    write_stubs(folder)
    return names


def write_stubs(folder: Path) -> None:
    """Of what has no types of its own, and is imported: each name is anything."""
    stubs: defaultdict[str, set[str]] = defaultdict(set)
    for file in folder.glob("*.py"):
        for module, names in UNTYPED.findall(file.read_text("utf-8")):
            stubs[module] |= set(names.split(", "))
    for module, names in stubs.items():
        package = folder.joinpath("typings", *module.split("."))
        package.mkdir(parents=True, exist_ok=True)
        for parent in package.parents[: module.count(".")]:
            (parent / "__init__.pyi").touch()
        lines = ["from typing import Any"]
        lines += [f"class {name}(Any): ..." if name[0].isupper() else f"{name}: Any" for name in sorted(names)]
        (package / "__init__.pyi").write_text("\n".join(lines), "utf-8")


def commands(folder: Path) -> list[list[str]]:
    """The checkers, as they are to be called in ``folder``."""
    paths = ", ".join(f'"{path}"' for path in (HOME, HOME / "backends"))
    off = ", ".join(f'"report{name}": false' for name in NOT_OURS)
    (folder / "pyrightconfig.json").write_text(PYRIGHT.format(paths=paths, off=off), "utf-8")
    programs = sorted(path.name for path in folder.glob("*.py"))
    return [
        [sys.executable, "-m", "mypy", *MYPY, *programs],
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable],
    ]


def in_words_of(output: str, names: dict[str, str], folder: Path) -> str:
    """What a checker has said, with the documents for the files."""
    output = output.replace(f"{folder}{os.sep}", "")
    for name, source in names.items():
        output = re.sub(rf"^(\s*){re.escape(name)}\b", rf"\1{source}", output, flags=re.MULTILINE)
    return output


def main() -> int:
    """Run both; 0 where both are content."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home).resolve()
        names = write(folder)
        environment = {
            **os.environ,
            "MYPYPATH": f"{folder / 'typings'}{os.pathsep}{HOME}{os.pathsep}{HOME / 'backends'}",
        }
        code = 0
        for command in commands(folder):
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
            print(f"{command[2]}: {len(names)} programs")
            if done.returncode:
                code = 1
                print(in_words_of(done.stdout + done.stderr, names, folder), end="")
        return code


if __name__ == "__main__":
    sys.exit(main())
