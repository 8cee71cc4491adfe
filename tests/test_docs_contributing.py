"""CONTRIBUTING.md, SECURITY.md, RELEASING.md: their commands are those of CI or run here, and their paths exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "RELEASING.md")]
TEXT = PAGES[0].read_text("utf-8")
CI = (ROOT / ".ci" / "run").read_text("utf-8")

COMMANDS = re.findall(r"^\$ (.*)$", TEXT, re.MULTILINE)

HERE = re.compile(r"^\.venv/bin/python (-m pytest .*tests/engine/.*|benchmarks/\S+ --help)$")
"Commands that are run by a test, with the interpreter that runs it: they take seconds."


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_named_exists(page: Path) -> None:
    """Files, folders, links and modules that are run with ``-m``."""
    text = page.read_text("utf-8")
    paths = set(re.findall(r"`((?:dot_proto|backends|tests|benchmarks|examples|docs|\.ci)/[\w./]*)", text))
    paths |= {target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target}
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
    for module in re.findall(r"python -m (dot_proto[\w.]*)", text):
        assert (ROOT / Path(*module.split("."))).with_suffix(".py").exists()


@pytest.mark.parametrize("command", [command for command in COMMANDS if HERE.match(command)])
def test_commands_run(command: str) -> None:
    words = [sys.executable, *shlex.split(command)[1:]]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no tests ran" not in done.stdout


@pytest.mark.parametrize("command", [command for command in COMMANDS if not HERE.match(command)])
def test_the_others_are_those_of_ci(command: str) -> None:
    """What takes longer is run by ``.ci/run``, in the same words."""
    if command.startswith(".venv/bin/pip install -e "):
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
        assert set(re.findall(r"\w+", command.partition("[")[2])) <= set(extras)
    elif command.startswith("python3 -m venv"):
        assert command in (ROOT / "README.md").read_text("utf-8")
    else:
        assert command in CI or command in (ROOT / "README.md").read_text("utf-8")


def test_the_map_is_short() -> None:
    _, _, house = TEXT.partition("\n## Map of the house\n")
    assert house.partition("\n## ")[0].count("\n| ") <= 20


def test_every_suite_is_in_the_table() -> None:
    """Whoever changes something finds the tests for it."""
    suites = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("test_*.py"))}
    assert suites - {"fuzzing", "interop"} <= set(re.findall(r"tests/(\w+)", TEXT))
