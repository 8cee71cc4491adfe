"""docs/fuzzing.md: its code runs, its claims hold, and its list of modules is complete."""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import HealthCheck, settings

from dot_proto import Deframer, testing
from dot_proto.authentication import judge
from dot_proto.testing import chains, laws

PAGE = Path(__file__).parents[1] / "docs" / "fuzzing.md"
TEXT = PAGE.read_text("utf-8")

BLOCKS: list[str] = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)

EXAMPLES = PAGE.parents[1] / "examples"

CARE = """            self.client.close(now=now, timeout=0)
            self.heed(self.client.handle_timeout(now=now))
"""
"What the page says must not be left out."


@pytest.fixture(autouse=True)
def examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the page finds them."""
    monkeypatch.syspath_prepend(EXAMPLES)


def run(block: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(block, PAGE.name, "exec"), names)
    return names


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_code_runs(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Unchanged, block by block."""
    run(BLOCKS[number])
    assert ("print(" in BLOCKS[number]) is bool(capsys.readouterr().out)


def test_the_framer_takes_ten_lines() -> None:
    """Besides imports and empty ones."""
    lines = [line for line in BLOCKS[0].splitlines() if line and "import" not in line]
    assert len(lines) <= 10


@pytest.mark.parametrize(
    ("excuses", "complaint"),
    [
        ("minimum=0", "mid_message is False, not True"),
        ("tells_truncation=False", "is delivered, and is none|failed is False"),
    ],
)
def test_the_excuses_are_needed(excuses: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        run(BLOCKS[0].replace("minimum=0, tells_truncation=False", excuses))


def test_the_state_machine_finds_the_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that the page describes, in as many steps."""
    source = (EXAMPLES / "reconnecting.py").read_text("utf-8")
    careless = ModuleType("reconnecting")
    exec(source.replace(CARE, ""), vars(careless))
    assert CARE in source
    monkeypatch.setitem(sys.modules, "reconnecting", careless)
    (block,) = (block for block in BLOCKS if "reconnecting" in block)
    names = run(block.removesuffix("run_state_machine_as_test(Machine)\n"))
    search = settings(
        derandomize=True, database=None, max_examples=2000, suppress_health_check=list(HealthCheck), deadline=None
    )
    with pytest.raises(AssertionError) as found:
        names["run_state_machine_as_test"](names["Machine"], settings=search)
    steps = re.findall(r"^state\.(ask|hear)\((.*)\)$", "\n".join(found.value.__notes__), re.MULTILINE)
    assert steps == [("ask", "name='.'"), ("ask", "name='.'"), ("hear", ANY), ("ask", "name='.'")]
    assert steps[2][1].startswith("step=StateKeepalive(query=0, tenths=0")


def test_its_last_words_run() -> None:
    """What is said in passing."""
    assert chains.check_verifier(lambda case: judge(case.policy, case.evidence()).accepted) is None
    assert laws.framer_law(Deframer).hypothesis.fuzz_one_input(bytes(100)) is not None


def test_every_module_is_named() -> None:
    """In the table, and in the package's docstring, and each says what it is."""
    for module in pkgutil.iter_modules(testing.__path__):
        if not module.name.startswith("_") and module.name != "registration":
            assert f"`{module.name}`" in TEXT
            assert f"``{module.name}``" in str(testing.__doc__)
            assert importlib.import_module(f"dot_proto.testing.{module.name}").__doc__


def test_length() -> None:
    """A page that is read to its end."""
    assert len(TEXT.splitlines()) < 120
