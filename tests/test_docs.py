"""docs/backends.md: its code runs, and its limits are those of the code."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import dns.message
import pytest

from dot_io._client import CLOSE_GRACE
from dot_io._transport import FLUSH_TIMEOUT
from dot_io.blocking import Client, Server, connect, serve
from dot_io.tls.server import LINGER_TIMEOUT
from dot_proto import ClientConfiguration, ServerConfiguration
from support.credentials import Credentials
from support.peers import answer

PAGE = Path(__file__).parents[1] / "docs" / "backends.md"
TEXT = PAGE.read_text("utf-8")

BLOCKS: list[str] = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)

FIXED = {"CLOSE_GRACE": CLOSE_GRACE, "FLUSH_TIMEOUT": FLUSH_TIMEOUT, "LINGER_TIMEOUT": LINGER_TIMEOUT}


def limits() -> dict[str, str]:
    """Every number in the interface, by the name under which it is set, and its default."""
    found: dict[str, Any] = dict(FIXED)
    for configuration in (ClientConfiguration, ServerConfiguration):
        for field in dataclasses.fields(configuration):
            if re.match("int|float", str(field.type)):
                found[f"{configuration.__name__}.{field.name}"] = field.default
    for function in (connect, Client.query_many, Client.close, serve, Server.close):
        for name, parameter in inspect.signature(function).parameters.items():
            if type(parameter.default) in (int, float):
                found[f"{function.__qualname__}({name})"] = parameter.default
    return {name: str(default) for name, default in found.items()}


def test_the_table_has_every_limit_and_its_default() -> None:
    _, _, tables = TEXT.partition("\n## Limits and defaults\n")
    rows: list[tuple[str, str]] = re.findall(r"\| `([^`]+)`[^|]* \| ([\w.]+)", tables)
    assert dict(rows) == limits()


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return Credentials.make(tmp_path_factory.mktemp("credentials"))


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_code_runs(number: int, credentials: Credentials, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unchanged, with a server to ask, and a certificate for one's own."""
    asked: list[bytes] = []

    def handler(query: bytes, peer: object) -> bytes:
        asked.append(query)
        return answer(query)

    monkeypatch.chdir(credentials.file.parent)
    with serve(handler, credentials.context, port=0) as server:
        names: dict[str, Any] = {"policy": credentials.policy, "port": server.port}
        exec(compile(BLOCKS[number], f"{PAGE.name}, block {number + 1}", "exec"), names)
    assert bool(asked) is ("serve" not in names), "each block asks this server, or one of its own"
    if "response" in names:
        assert str(dns.message.from_wire(names["response"]).question[0]) == "example.com. IN A"


def test_length() -> None:
    """A page that is read to its end."""
    assert len(TEXT.splitlines()) < 160
