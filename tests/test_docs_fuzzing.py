"""docs/fuzzing.md: its code runs, its claims hold, and its list of modules is complete."""

from __future__ import annotations

import importlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from dot_proto import Deframer, testing
from dot_proto.authentication import judge
from dot_proto.resolver._fates import Fates
from dot_proto.testing import chains, laws

PAGE = Path(__file__).parents[1] / "docs" / "fuzzing.md"
TEXT = PAGE.read_text("utf-8")

BLOCKS: list[str] = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


@pytest.fixture(autouse=True)
def certificate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A server's certificate, where the page finds it."""
    monkeypatch.chdir(tmp_path)
    server = chains.authority(at=datetime.now(UTC)).server()
    Path("server.pem").write_bytes(server.key_pem + server.pem)


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


@pytest.mark.parametrize(("forgets", "examples"), [(False, 60), (True, 300)])
def test_the_machine_finds_a_query_that_is_forgotten(
    forgets: bool, examples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing where nothing is wrong."""
    (block,) = (block for block in BLOCKS if "StubResolver" in block)
    machine = run(block.removesuffix("run_state_machine_as_test(Machine)\n"))["Machine"]
    search = settings(derandomize=True, database=None, max_examples=examples, phases=[Phase.generate], deadline=None)
    if forgets:
        monkeypatch.setattr(Fates, "fail", lambda self, query, *_, **__: self.open.pop(query.handle))
        with pytest.raises(AssertionError):
            run_state_machine_as_test(machine, settings=search)
    else:
        run_state_machine_as_test(machine, settings=search)


def test_its_last_words_run() -> None:
    """What is said in passing."""
    assert chains.check_verifier(lambda case: judge(case.policy, case.evidence()).accepted) is None
    assert laws.framer_law(Deframer).hypothesis.fuzz_one_input(bytes(100)) is not None


def test_the_modules_are_there() -> None:
    """Those of the table, and each says what it is; the package's docstring names the same."""
    (table,) = re.findall(r"^\|---\|---\|\n(.*?)\n\n", TEXT, re.DOTALL | re.MULTILINE)
    named = set(re.findall(r"`(\w+)`", "\n".join(row.split(" | ")[0] for row in table.splitlines())))
    assert named
    assert named <= set(re.findall(r"``(\w+)``", str(testing.__doc__)))
    for name in named:
        assert importlib.import_module(f"dot_proto.testing.{name}").__doc__


def test_length() -> None:
    """A page that is read to its end."""
    assert len(TEXT.splitlines()) < 200
