"""docs/hooks.md: its code runs, and asks our server; its rules are those of the code."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest

from dot_io._addresses import MAX_CNAMES
from dot_io.hooks._getaddrinfo import NEVER_ASKED
from hooks.conftest import Names

PAGE = Path(__file__).parents[2] / "docs" / "hooks.md"
TEXT = PAGE.read_text("utf-8")

BLOCKS: list[str] = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_code_runs(number: int, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unchanged, with a name that only our server knows, and no proxy on the way."""
    monkeypatch.setenv("NO_PROXY", "*")
    found: dict[str, Any] = {"upstreams": [names.upstream], "url": names.url()}
    exec(compile(BLOCKS[number], f"{PAGE.name}, block {number + 1}", "exec"), found)
    assert found["page"] == names.words
    assert names.asked() == ["web.example"]


def test_what_is_said_of_names() -> None:
    _, _, rules = TEXT.partition("\n## How a name is looked up\n")
    assert f"{MAX_CNAMES} CNAME records" in rules
    assert f"below {' and '.join(f'`{name}`' for name in NEVER_ASKED)} |" in rules
    for code in re.findall(r"^\| `(EAI_\w+)` \|", rules, re.MULTILINE):
        assert hasattr(socket, code)


def test_length() -> None:
    """A page that is read to its end."""
    assert len(TEXT.splitlines()) < 160
