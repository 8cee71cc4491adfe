"""docs/resolver.md: its code runs, its tables are those of the code."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from dot_io.testing import Authority, LoopbackServer
from dot_proto import Event, ResolverConfiguration, Strategy, Upstream, certificates_from
from dot_proto.resolver import events
from dot_proto.resolver._health import TRANSITIONS, Health, Sign
from dot_proto.resolver.configuration import MAX_ADDRESSES, MAX_SENDS, MAX_UPSTREAMS

PAGE = Path(__file__).parents[1] / "docs" / "resolver.md"
TEXT = PAGE.read_text("utf-8")

BLOCKS: list[str] = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)

WORDS = {
    "a response": Sign.ANSWERED,
    "nothing works": Sign.FAILED,
    "another server": Sign.REFUSED,
    "another network": Sign.FORGOTTEN,
}
"The page's for each sign."


@pytest.fixture(name="upstreams")
def upstreams_fixture(tmp_path: Path) -> Iterator[list[Upstream]]:
    authority = Authority(tmp_path, "page")
    with LoopbackServer(authority.issue("dot.test")) as server:
        server.answers["example.com", "A"] = ["192.0.2.1"]
        anchors = certificates_from(authority.root_file.read_bytes())
        yield [Upstream(name="dot.test", addresses=[server.host], port=server.port, trust_anchors=anchors)]


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_code_runs(number: int, upstreams: list[Upstream]) -> None:
    found: dict[str, Any] = {"upstreams": upstreams}
    exec(compile(BLOCKS[number], f"{PAGE.name}, block {number + 1}", "exec"), found)
    assert found.get("addresses", ["192.0.2.1"]) == ["192.0.2.1"]


def rows(heading: str) -> list[list[str]]:
    """The first table below a heading, without its two first lines."""
    _, _, below = TEXT.partition(f"\n{heading}\n")
    lines = below[below.index("\n|") :].strip().split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_states_of_an_upstream() -> None:
    head, _, *states = rows("## An upstream")
    for state, *becomes in states:
        for sign, word in zip(head[1:], becomes, strict=True):
            assert TRANSITIONS[Health(state), WORDS[sign]] is Health(word)
    assert len(states) == len(Health)


def test_every_limit_and_its_default() -> None:
    _, _, *table = rows("## Limits and defaults")
    defaults = {
        field.name: f"{field.default:g}"
        for field in dataclasses.fields(ResolverConfiguration)
        if type(field.default) in (int, float)
    }
    assert {name.strip("`"): default for name, default, _ in table} == defaults
    assert all(f"`{strategy.name}`" in TEXT for strategy in Strategy)
    assert f"{MAX_ADDRESSES} addresses at the most, a resolver {MAX_UPSTREAMS} upstreams" in TEXT
    assert MAX_SENDS == 3


def test_every_action_and_event_is_there() -> None:
    told = [
        one for one in vars(events).values() if isinstance(one, type) and issubclass(one, Event) and one is not Event
    ]
    for one in (*told, *get_args(events.Action)):
        assert f"| `{one.__name__}` |" in TEXT


def test_length() -> None:
    """A page that is read to its end."""
    assert len(TEXT.splitlines()) < 180
