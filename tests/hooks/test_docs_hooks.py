"""docs/hooks.md: its code runs, and asks our server; its rules are those of the code."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest

from dot_io._addresses import MAX_CNAMES
from dot_io.hooks._getaddrinfo import NEVER_ASKED, PATIENT
from dot_proto import ResolverConfiguration
from hooks.conftest import Names
from hooks.test_programs import PREAMBLE, run

PAGE = Path(__file__).parents[2] / "docs" / "hooks.md"
TEXT = PAGE.read_text("utf-8")

BLOCKS: dict[str, str] = dict(re.findall(r"^## ([^\n]*)\n\n```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE))
"By their headings; each section begins with one."

PROGRAMS = ("gevent", "Twisted")
"These want a process of their own."


def test_every_block_is_under_a_heading() -> None:
    assert len(BLOCKS) == TEXT.count("```python")
    assert set(PROGRAMS) < set(BLOCKS)


@pytest.mark.parametrize("title", sorted(set(BLOCKS) - set(PROGRAMS)))
def test_code_runs(title: str, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unchanged, with a name that only our server knows, and no proxy on the way."""
    if title == "niquests":
        pytest.importorskip("niquests", reason="niquests takes the place of urllib3, and has a venv of its own")
    monkeypatch.setenv("NO_PROXY", "*")
    found: dict[str, Any] = {"upstreams": [names.upstream], "url": names.url()}
    exec(compile(BLOCKS[title], f"{PAGE.name}, {title}", "exec"), found)
    if title == "dnspython":
        assert found["address"].address == "127.0.0.1"
    else:
        assert found["page"] == names.words
    assert names.asked() == ["web.example"]


@pytest.mark.parametrize("title", PROGRAMS)
def test_programs_run(title: str, names: Names) -> None:
    """The same."""
    given = 'url = f"http://web.example:{web_port}/"\n'
    first = "monkey.patch_all()\n"
    patch, program = (first, BLOCKS[title].partition(first)[2]) if title == "gevent" else ("", BLOCKS[title])
    last = "print(page)\n" if title == "gevent" else ""
    run(names, f"from gevent import get_hub, monkey\n{patch}{PREAMBLE}{given}{program}{last}", says=f"{names.words}\n")
    assert names.asked() == ["web.example"]


def test_what_is_said_of_names() -> None:
    _, _, rules = TEXT.partition("\n## How a name is looked up\n")
    assert f"{MAX_CNAMES} CNAME records" in rules
    assert f"below {' and '.join(f'`{name}`' for name in NEVER_ASKED)} |" in rules
    assert f"Up to {PATIENT.max_waiting:,} queries wait" in rules
    assert f"`ResolverConfiguration.max_waiting`, {ResolverConfiguration().max_waiting} by default" in rules
    for code in re.findall(r"^\| `(EAI_\w+)` \|", rules, re.MULTILINE):
        assert hasattr(socket, code)


def test_length() -> None:
    """A page that is read to its end."""
    assert len(TEXT.splitlines()) < 220
