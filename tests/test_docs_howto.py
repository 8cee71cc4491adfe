"""docs/howto and docs/explanation: every program runs, and every test that is named exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dot_io.testing import Authority, LoopbackServer
from dot_proto import AuthenticationPolicy, Upstream, certificates_from

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)

TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def programs() -> Iterator[Any]:
    """Each block of Python in the two folders."""
    for page in sorted([*DOCS.glob("howto/*.md"), *DOCS.glob("explanation/*.md")]):
        for number, block in enumerate(BLOCK.findall(page.read_text("utf-8")), 1):
            yield pytest.param(block, id=f"{page.stem}-{number}")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LoopbackServer]:
    with LoopbackServer(Authority(tmp_path, "page").issue("dot.test", "127.0.0.1")) as server:
        server.answers["example.com", "A"] = ["192.0.2.1"]
        yield server


@pytest.mark.parametrize("block", list(programs()))
def test_code_runs(block: str, server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unchanged, with upstreams, a policy and a port to ask."""
    monkeypatch.chdir(tmp_path)
    anchors = certificates_from((tmp_path / "root.pem").read_bytes())
    given = {
        "upstreams": [Upstream(name="dot.test", addresses=[server.host], port=server.port, trust_anchors=anchors)],
        "policy": AuthenticationPolicy.strict("dot.test", trust_anchors=anchors),
        "port": server.port,
    }
    names: dict[str, Any] = dict(given)
    exec(compile(block, "block", "exec"), names)
    assert names.get("addresses", ["192.0.2.1"]) == ["192.0.2.1"]
    assert names.get("rcode", 3) == 3
    if "keylog_file" in block:
        assert "CLIENT_HANDSHAKE_TRAFFIC_SECRET" in (tmp_path / "keys.log").read_text("utf-8")


def functions(path: str) -> set[str]:
    """The tests of a file."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *DOCS.glob("**/[a-z]*.md")]), ids=lambda page: page.stem)
def test_every_test_that_is_named_exists(page: Path) -> None:
    for path, name in TEST.findall(page.read_text("utf-8")):
        assert not name or name in functions(path), f"{path}::{name}"


def test_every_row_of_the_threat_model_says_what_holds_it() -> None:
    text = (DOCS / "explanation" / "threats.md").read_text("utf-8")
    first, second = re.findall(r"(?:^\| \d+ \|.*\n)+", text, re.MULTILINE)
    numbers = [re.findall(r"^\| (\d+) \|", table, re.MULTILINE) for table in (first, second)]
    assert numbers[0] == numbers[1] == [str(number + 1) for number in range(len(numbers[0]))]
    for row in second.splitlines():
        assert TEST.search(row) or "| nothing: " in row


def test_every_claim_of_the_readme_has_its_proof() -> None:
    """Each point of "What is promised" stands in the page of claims in the same words, with a test beside it."""
    _, _, promised = (ROOT / "README.md").read_text("utf-8").partition("\n## What is promised\n")
    promises = [
        " ".join(point.split())
        for point in re.findall(r"^- (.*?)(?=^- |^$)", promised.partition("\n## ")[0] + "\n", re.DOTALL | re.MULTILINE)
    ]
    rows = re.findall(
        r"^\| ([^|]+) \| ([^|]+) \|$", (DOCS / "explanation" / "claims.md").read_text("utf-8"), re.MULTILINE
    )
    claims = {claim: proof for claim, proof in rows if claim not in ("claim", "---")}
    assert len(promises) > 4
    assert [promise for promise in promises if promise not in claims] == []
    assert [claim for claim, proof in claims.items() if not (TEST.search(proof) or "benchmarks/" in proof)] == []
