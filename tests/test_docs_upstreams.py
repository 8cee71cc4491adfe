"""docs/upstreams.md: its code runs, and its table, its file and its error are what they are said to be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dot_io.blocking import serve
from dot_proto import Pin, Upstream
from dot_proto.resolver.operators import OPERATORS
from dot_proto.resolver.settings import STRATEGIES, UPSTREAM_KEYS
from support.credentials import Credentials
from support.peers import answer

PAGE = Path(__file__).parents[1] / "docs" / "upstreams.md"
TEXT = PAGE.read_text("utf-8")

BLOCKS: list[str] = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
(FILE,) = re.findall(r"^```toml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return Credentials.make(tmp_path_factory.mktemp("credentials"))


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_code_runs(
    number: int, credentials: Credentials, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unchanged, beside the page's own file, and with a server to ask."""
    asked: list[bytes] = []

    def handler(query: bytes, peer: object) -> bytes:
        asked.append(query)
        return answer(query)

    monkeypatch.chdir(credentials.file.parent)
    Path("resolver.toml").write_text(FILE, "utf-8")
    with serve(handler, credentials.context, port=0) as server:
        names: dict[str, Any] = {"port": server.port, "pem": credentials.root_file.read_bytes()}
        exec(compile(BLOCKS[number], f"{PAGE.name}, block {number + 1}", "exec"), names)
    assert bool(asked) is ("connect(" in BLOCKS[number])
    if printed := capsys.readouterr().out:
        assert re.findall(r"^> (.*)$", TEXT, re.MULTILINE) == [printed.rstrip("\n")]


def test_the_table_is_of_urls_that_can_be_read() -> None:
    """With a pin in the place of BASE64."""
    rows: list[str] = re.findall(r"^\| `(tls://[^`]*)` \|", TEXT, re.MULTILINE)
    assert len(rows) == 7
    for number, row in enumerate(rows):
        upstream = Upstream.parse(row.replace("BASE64", str(Pin(bytes([number]) * 32))))
        assert upstream.is_opportunistic is ("profile" in row)


def test_every_key_operator_and_strategy_is_named() -> None:
    for word in (*UPSTREAM_KEYS, *STRATEGIES):
        assert re.search(rf"\b{word}\b", FILE), word
    assert set(re.findall(r"`([a-z0-9-]+)`", TEXT)) >= set(OPERATORS)


def test_length() -> None:
    """A page that is read to its end."""
    assert len(TEXT.splitlines()) < 140
