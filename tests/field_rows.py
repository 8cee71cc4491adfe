"""Which tests hold which row of the field reports: ``python tests/field_rows.py`` prints the table.

A field report is one input, seen to fail in the field or in a trial, that was mended with others of its kind.  Its row
is named (``FR-7``) in the docstring of each test that holds it.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent

ROW: Final = re.compile(r"\bFR-(\d+)\b")

LAST: Final = 86

ROWS: Final = list(range(1, LAST + 1))
"The rows that must have a test."

UNDER_WAY: Final = frozenset[int]()
"Rows that are being mended: they may still be without a test.  To be emptied."


def named() -> Iterator[tuple[int, str]]:
    """Each row that a test or a module of tests names, with the test."""
    for path in sorted(HERE.rglob("test_*.py")):
        text = path.read_text("utf-8")
        tree = ast.parse(text if ROW.search(text) else "")
        for node in (tree, *tree.body):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Module):
                name = getattr(node, "name", "(the whole module)")
                for row in sorted({int(number) for number in ROW.findall(ast.get_docstring(node) or "")}):
                    yield row, f"{path.relative_to(HERE.parent)}::{name}"


@cache
def table() -> dict[int, list[str]]:
    """The rows in order, and the tests of each; those that must have one stand there without one too."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    for row, test in named():
        found[row].append(test)
    return {row: found[row] for row in sorted({*ROWS, *found})}


def without_test() -> list[int]:
    """The rows that must have a test and have none."""
    return [row for row, tests in table().items() if not tests]


def main() -> None:
    """Print each row and its tests."""
    for row, tests in table().items():
        print(f"FR-{row}")
        for test in tests or ["no test"]:
            print(f"    {test}")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # whoever reads has read enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more as it exits
