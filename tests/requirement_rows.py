"""docs/requirements.md, made of docs/requirements.toml and of the tests: ``python tests/requirement_rows.py``.

A test names what it holds by an id (``MAT-6``).  The data file says for each id where it comes from, and what it asks
for in one sentence; which tests name it is read from their sources.
"""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = Path(__file__).parent
DOCS: Final = HERE.parent / "docs"
PAGE: Final = DOCS / "requirements.md"

HEAD: Final = """\
# Requirements

<!-- Made by `python tests/requirement_rows.py` from requirements.toml and the tests; a test compares. -->

What the tests name by an id: where it comes from, what it asks for, and the modules in `tests/` that name it. "own" is
a rule of this project, for which there is no RFC; "field" is something that was seen to fail in practice.
`grep -rn MAT-6 tests` finds the single tests.
"""


class Row(NamedTuple):
    """One requirement."""

    source: str
    "RFC and section, ``own`` or ``field``."
    sentence: str


class Group(NamedTuple):
    """Requirements of one kind."""

    title: str
    rows: dict[str, Row]


def groups() -> Iterator[Group]:
    """The data file."""
    for table in tomllib.loads((DOCS / "requirements.toml").read_text("utf-8")).values():
        yield Group(table.pop("title"), {each: Row(*row) for each, row in table.items()})


def rows() -> dict[str, Row]:
    """All of them, by id."""
    return {each: row for group in groups() for each, row in group.rows.items()}


def named() -> dict[str, set[str]]:
    """By id: the modules that name it, below ``tests/``."""
    prefixes = "|".join(sorted({each.partition("-")[0] for each in rows()}))
    one = re.compile(rf"\b(?:{prefixes})-\d+[a-z]?\b")
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path in sorted(HERE.rglob("*.py")):
        if path.name not in ("requirement_rows.py", "field_rows.py"):  # whose docstrings have examples
            for each in one.findall(path.read_text("utf-8")):
                found[each].add(str(path.relative_to(HERE).with_suffix("")))
    return found


def page() -> str:
    """The Markdown."""
    tests = named()
    parts = [HEAD]
    for group in groups():
        parts += [f"\n## {group.title}\n\n", "| id | from | what | tests |\n|---|---|---|---|\n"]
        for each, row in group.rows.items():
            if each in tests:
                modules = ", ".join(f"`{module}`" for module in sorted(tests[each]))
                parts.append(f"| {each} | {row.source} | {row.sentence} | {modules} |\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
