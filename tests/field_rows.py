"""Which tests hold which row of the field reports: ``python tests/field_rows.py`` prints the table.

A field report is one input, seen to fail in the field or in a trial, that was mended with others of its kind.  Its row
is named (``FR-7``) in the docstring of each test that holds it.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
ROW = re.compile(r"\bFR-(\d+)\b")


def named() -> Iterator[tuple[int, str]]:
    """Each row that a test or a module of tests names, with the test."""
    for path in sorted(HERE.rglob("test_*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Module):
                name = getattr(node, "name", "(the whole module)")
                for row in sorted({int(number) for number in ROW.findall(ast.get_docstring(node) or "")}):
                    yield row, f"{path.relative_to(HERE.parent)}::{name}"


def table() -> dict[int, list[str]]:
    """The rows in order, and the tests of each."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    for row, test in named():
        found[row].append(test)
    return dict(sorted(found.items()))


if __name__ == "__main__":
    for number, tests in table().items():
        print(f"FR-{number}")
        for test in tests:
            print(f"    {test}")
