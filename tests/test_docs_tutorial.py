"""docs/tutorial: each program prints what the page says, and the transcript is what the demonstration prints.

``python tests/test_docs_tutorial.py`` writes the transcript anew.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from dot_io.cli import main
from dot_io.cli.exit_codes import ExitCode

FOLDER = Path(__file__).parents[1] / "docs" / "tutorial"
PAGES = ["first-answer", "first-pin", "first-server"]
FIRST = FOLDER / "first-answer.md"

TRANSCRIPT = re.compile(r"(<!-- transcript.*-->\n```text\n)(.*?)(```\n<!-- /transcript -->)", re.DOTALL)

PROGRAM = re.compile(r"^```python\n(.*?)^```\n\nIt prints:\n\n```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)

VOLATILE = {
    r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{43}=": "PIN",
    r"/\S*/dot-proto-demo-[^/]*/": "FOLDER/",
    r"(?<=127\.0\.0\.1@)\d+|(?<=-p )\d+|(?<=port\()\d+": "PORT",
    r"(?<=; id: )\d+": "ID",
    r"\d+\.\d ms": "TIME",
    r"(?<=^;; Time ).*": "DATE",
    r"(?<=^;; TLS session ).*": "SESSION",
}
"What differs from run to run; the session's parts differ with OpenSSL's version."


def neutral(transcript: str) -> list[str]:
    """The lines without what differs from run to run."""
    for pattern, name in VOLATILE.items():
        transcript = re.sub(pattern, name, transcript, flags=re.MULTILINE)
    return transcript.splitlines()


def demonstration() -> str:
    """What ``dot-proto demo`` prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["demo"]) == ExitCode.ANSWER
    return out.getvalue()


def shown() -> str:
    """The transcript in the page."""
    found = TRANSCRIPT.search(FIRST.read_text("utf-8"))
    assert found is not None
    return found[2]


def test_transcript_is_what_the_demonstration_prints() -> None:
    assert neutral(shown()) == neutral(demonstration())


@pytest.mark.parametrize(
    "part",
    [
        "received certificate hierarchy:",
        "SHA-256 PIN: ",
        ", MATCH\n",
        "The certificate is trusted.",
        ";; TLS session (TLS1.3)-(",
        ";; PADDING: 408 B",
        "93.184.216.34",
        ";; Received 468 B",
        "handshake ",
        "the server is refused: no pin matches",
        "The server received 1 query in all",
    ],
)
def test_transcript_shows_all_that_matters(part: str) -> None:
    """Hierarchy, pins, verdict, session, padding, answer, size, times, and the refusal."""
    assert part in shown()


@pytest.mark.parametrize("page", PAGES)
def test_each_step_ends_in_something_seen(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every program is followed by what it prints, and prints that."""
    text = (FOLDER / f"{page}.md").read_text("utf-8")
    programs = PROGRAM.findall(text)
    assert len(programs) == text.count("```python\n") == 1
    for program, prints in programs:
        names: dict[str, Any] = {}
        exec(compile(program, f"{page}.md", "exec"), names)
        assert capsys.readouterr().out == prints


def test_the_steps_are_in_order() -> None:
    index = (FOLDER / "index.md").read_text("utf-8")
    assert re.findall(r"\]\(([\w-]+)\.md\)", index) == PAGES
    for page, following in itertools.pairwise(PAGES):
        assert f"]({following}.md).\n" in (FOLDER / f"{page}.md").read_text("utf-8")


if __name__ == "__main__":
    text = FIRST.read_text("utf-8")
    FIRST.write_text(TRANSCRIPT.sub(lambda found: found[1] + demonstration() + found[3], text), "utf-8")
