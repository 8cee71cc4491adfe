"""docs/proxy.md: its code runs, its commands can be typed, its file is what the command prints, its table is right."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import pytest

from dot_io.cli import main
from dot_io.cli.proxy_line import parse_proxy
from dot_io.proxy import ProxyConfiguration
from dot_io.proxy._policy import Drop, Forward, Policy, Reply
from dot_proto import Upstream

PAGE = Path(__file__).parents[1] / "docs" / "proxy.md"
TEXT = PAGE.read_text("utf-8")

COMMANDS: list[str] = re.findall(r"^\$ (?:sudo )?dot-proto proxy (.*)$", TEXT, re.MULTILINE)


def test_the_file_is_what_the_command_prints() -> None:
    [block] = re.findall(r"^```toml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["proxy", "--upstream", "quad9", "--print-config"]) == 0
    assert block == out.getvalue()


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_can_be_typed(command: str) -> None:
    assert parse_proxy(shlex.split(command)).settings["upstream"]


def test_the_code_runs() -> None:
    [block] = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    found: dict[str, Any] = {"upstreams": [Upstream.well_known("quad9")]}
    exec(compile(block.replace("3600", "0.01"), PAGE.name, "exec"), found)
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(TimeoutError):
        asyncio.run(found["main"]())
    assert re.fullmatch(r"\(\('127\.0\.0\.1', \d+\),\)\n", out.getvalue())


def test_names_that_are_answered_here() -> None:
    policy = Policy(ProxyConfiguration())
    [row] = re.findall(r"^\| (`x\.invalid`.*?), private reverse zones \| NXDOMAIN", TEXT, re.MULTILINE)
    for name in re.findall(r"`(.*?)`", row):
        decision = policy.receive(dns.message.make_query(name, "A").to_wire(), over_udp=True)
        assert isinstance(decision, Reply)
        assert dns.message.from_wire(decision.message).rcode() == dns.rcode.NXDOMAIN


def test_other_rows() -> None:
    """Those that a message alone decides; ``tests/proxy`` has all of them."""
    policy, asked = Policy(ProxyConfiguration()), dns.message.make_query("a.example", "A").to_wire()
    assert isinstance(policy.receive(asked, over_udp=True), Forward)
    assert isinstance(policy.receive(asked[:11], over_udp=True), Drop)
    assert "BADVERS" in TEXT


def test_defaults_that_the_page_states() -> None:
    configuration = ProxyConfiguration()
    assert f"at most {configuration.max_udp_size}" in TEXT
    assert f"no upstream answers in {configuration.wait_for_upstream:g} s" in TEXT
    assert f"At most {configuration.max_equal} equal questions" in TEXT
