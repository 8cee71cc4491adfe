"""The comparison with peers runs: every row that its peers allow is there, and the picture."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="other processes' CPU clocks are read as Linux has them"
)

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "peers.py"

TIME_LIMIT = 120.0
"Seconds; it takes about 5 on two cores that have nothing else to do."

PROGRAMS = ("dnsperf", "kdig", "getdns_query", "unbound", "dnsdist", "kresd", "named")

SVG = "{http://www.w3.org/2000/svg}"


def has(name: str) -> bool:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin", "/sbin"])
    return shutil.which(name, path=path) is not None


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("peers") / "peers.svg"


@pytest.fixture(scope="module")
def output(picture: Path) -> str:
    done = run("--smoke", "--svg", picture)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def lines(output: str, name: str) -> list[str]:
    """What stands behind each row of that name."""
    return [line[len(name) :] for line in output.splitlines() if line.startswith(f"{name}  ")]


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_has_its_version_shown_or_is_named_as_absent(output: str, program: str) -> None:
    assert bool(re.search(rf"\b{program} \d", output)) is has(program)
    assert (f"{program} is not installed" in output) is not has(program)


def test_it_says_what_is_not_measured(output: str) -> None:
    assert "not measured: " in output


@pytest.mark.parametrize("in_flight", [64, 256])
@pytest.mark.parametrize("drive", ["blocking", "asyncio", "trio"])
def test_clients_have_a_row_for_either_way_to_cut_records(output: str, drive: str, in_flight: int) -> None:
    assert len(lines(output, f"{drive} query_many {in_flight}")) >= 2


@pytest.mark.parametrize("drive", ["asyncio", "trio"])
def test_awaited_queries_have_an_aim_and_a_verdict(output: str, drive: str) -> None:
    rows = lines(output, f"{drive} query 64")
    assert len(rows) == 2
    assert all(re.search(r"<=\d", row) for row in rows)
    if has("dnsperf"):
        assert all(re.search(r" (yes|NO|not ) ?", row) for row in rows)


@pytest.mark.parametrize("row", ["dnspython reused", "dnspython fresh", "blocking query_many 64, padded"])
def test_what_needs_no_program_is_measured(output: str, row: str) -> None:
    [figures] = lines(output, row)
    assert re.search(r"\d\.\d\d|\d,\d", figures)


@pytest.mark.parametrize("server", ["ours blocking", "ours asyncio", "ours trio"])
def test_servers_of_ours_have_their_memory_judged(output: str, server: str) -> None:
    assert re.search(r"<=24  (yes|NO)", lines(output, server)[-1])


def test_picture_is_svg_with_a_bar_for_each_of_our_servers(output: str, picture: Path) -> None:
    assert output
    root = ElementTree.parse(picture).getroot()
    assert root.tag == f"{SVG}svg"
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"ours blocking", "ours asyncio", "ours trio"} <= set(texts)
    widths = [float(bar.attrib["width"]) for bar in root.iter(f"{SVG}rect")]
    assert all(0 < width <= float(root.attrib["width"]) for width in widths)


def test_parts_that_are_unknown_are_refused() -> None:
    done = run("--smoke", "--only=latency")
    assert done.returncode == 2
    assert "--only takes client, await" in done.stderr
