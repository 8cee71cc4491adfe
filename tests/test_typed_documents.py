"""``typed_documents.py``, which CI runs with the type checkers, takes every program, and names where each stands."""

from __future__ import annotations

from pathlib import Path

import typed_documents


def test_every_program_is_taken(tmp_path: Path) -> None:
    """FR-75: also of a document that is added; each on its own lines."""
    names = typed_documents.write(tmp_path)
    for document in typed_documents.documents():
        source = str(document.relative_to(typed_documents.HOME))
        lines = document.read_text("utf-8").split("\n")
        programs = [(tmp_path / name).read_text("utf-8") for name, found in names.items() if found == source]
        assert len(programs) == lines.count("```python")
        for program in programs:
            shown = [(number, line) for number, line in enumerate(program.split("\n")) if line][1:]
            assert shown
            assert all(lines[number] == line for number, line in shown)
    sources = set(names.values())
    assert {"README.md", "docs/backends.md", "docs/pytest.md", "docs/fuzzing.md", "examples/own_loop.py"} <= sources


def test_the_documents_show_what_was_refused() -> None:
    """FR-75: a generator was declared as an iterator, which has no ``aclose``."""
    assert "aclosing(client.query_many(" in (typed_documents.HOME / "docs" / "backends.md").read_text("utf-8")


def test_what_a_checker_says_is_said_of_the_document(tmp_path: Path) -> None:
    """FR-75: by its name and its line, on both systems of names that the checkers have."""
    file = f"{tmp_path}/readme_md_9.py"
    said = f"{file}:12: error: no\n  {file}:13:4 - error: no\nother_readme_md_9.py:1\n"
    words = typed_documents.in_words_of(said, {"readme_md_9.py": "README.md"}, tmp_path)
    assert words == "README.md:12: error: no\n  README.md:13:4 - error: no\nother_readme_md_9.py:1\n"
