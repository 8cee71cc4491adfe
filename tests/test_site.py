"""The documentation site: its reference has every public name, and what is drawn is what the code does.

Whether it can be built, every reference in it included, is a stage of ``.ci/run``: Sphinx needs longer than a test may.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import states
from entries import MODULES, entries
from log_lines import LogLine, log_lines

import dot_io
import dot_io.cli
from dot_io.cli.exit_codes import ExitCode

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
REFERENCE = sorted((DOCS / "reference").glob("*.rst"))

WHOLE = [
    "dot_io.errors",
    "dot_io.hooks",
    *(f"dot_io.hooks.{file.stem}" for file in Path(dot_io.__file__).parent.glob("hooks/[a-z]*.py")),
    *(f"dot_proto.testing.{name}" for name in ("laws", "strategies", "machines", "chains", "simulate", "resolver")),
    "dot_proto.testing.messages",
    "dot_proto.resolver.events",
    "dot_proto.resolver.importers",
    "dot_io.pytest_plugin",
    "dot_io.settings",
]
"Modules that stand in the reference as they are."

TABLES = {
    "explanation/engine.md": "dot_proto._state:TRANSITIONS",
    "explanation/session.md": "dot_io.tls._phase:MOVES",
    "explanation/resolver.md": "dot_proto.resolver._health:TRANSITIONS",
}

DIRECTIVE = re.compile(r"^\.\. auto(\w+):: ([\w.]+)$", re.MULTILINE)


def directives() -> set[tuple[str, str]]:
    """Kind and name of everything that the reference takes from the docstrings."""
    texts = [page.read_text("utf-8") for page in REFERENCE]
    modules = re.findall(r"^\.\. public-module:: ([\w.]+)$", "\n".join(texts), re.MULTILINE)
    texts += ["\n".join(entries(module, "dot_io.blocking")) for module in modules]
    return {found for text in texts for found in DIRECTIVE.findall(text)}


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_stands_in_the_reference(module: str) -> None:
    names = {name for kind, name in directives()}
    exported = {f"{module}.{name}" for name in importlib.import_module(module).__all__}
    assert exported - names == set() or ("module", module) in directives()


@pytest.mark.parametrize("module", WHOLE)
def test_every_public_module_stands_in_the_reference(module: str) -> None:
    assert ("module", module) in directives()


def test_the_reference_names_nothing_that_is_not_there() -> None:
    for kind, name in directives():
        if importlib.util.find_spec(name.rpartition(".")[0]) is None or kind == "module":
            assert importlib.util.find_spec(name) is not None
        else:
            module, _, attribute = name.rpartition(".")
            assert hasattr(importlib.import_module(module), attribute), name


@pytest.mark.parametrize(("page", "table"), TABLES.items())
def test_a_drawing_has_each_move_once(page: str, table: str) -> None:
    """Of the table of the code, and of nothing else: every move on one arrow, every state in a box."""
    assert f"```{{state-table}} {table}\n```" in (DOCS / page).read_text("utf-8")
    moves = states.load(table)
    found = states.arrows(moves)
    assert {(origin, step): end for (origin, end), steps in found.items() for step in steps} == dict(moves)
    assert sum(map(len, found.values())) == len(moves)
    texts = [
        text.text for text in ElementTree.fromstring(states.picture(moves)).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert texts[: -len(found)] == [states.label(state) for state in states.states_of(moves)]
    assert texts[-len(found) :] == [str(number + 1) for number in range(len(found))]
    assert {state for move in found for state in move} == set(states.states_of(moves)), (
        "each state can be come to, or left"
    )


def test_no_log_line_is_missed() -> None:
    """Whatever calls a logger does so in a form from which the table of log lines is made."""
    folder = Path(dot_io.__file__).parent
    call = re.compile(r"\b(?:log|getLogger\([^)]*\))\.(?:debug|info|warning|error|exception)\(|\(logging\.[A-Z]+,")
    calls = sum(len(call.findall(file.read_text("utf-8"))) for file in folder.rglob("*.py"))
    found = list(log_lines(folder))
    assert len(found) == calls > 0
    assert {line.level for line in found} == {"debug", "info", "warning", "error"}
    assert LogLine("info", "upstream %s is up again", folder / "_resolver.py") in found


def test_the_page_of_the_command_has_every_variable() -> None:
    """Each variable of the environment that our sources name."""
    page = (DOCS / "reference" / "command.rst").read_text("utf-8")
    sources = [file.read_text("utf-8") for file in Path(dot_io.__file__).parent.rglob("*.py")]
    named = {
        name
        for source in sources
        for name in re.findall(r'^[A-Z]+: Final = "([A-Z]+(?:_[A-Z]+)+|[A-Z]+FILE)"$', source, re.M)
    }
    assert {dot_io.cli.TRACEBACK, "SSLKEYLOGFILE", "OPENSSL_CONF"} <= named
    assert [name for name in sorted(named) if f"``{name}``" not in page] == []


def test_every_exit_code_is_explained() -> None:
    """The page takes them from the enumeration, in which each has its words."""
    (body,) = [node for node in ast.walk(ast.parse(inspect.getsource(ExitCode))) if isinstance(node, ast.ClassDef)]
    words = [node for node in body.body[1:] if isinstance(node, ast.Expr)]
    assert len(words) == len(ExitCode)


def test_every_page_is_in_a_table_of_contents() -> None:
    """Each page can be come to from the index; Sphinx complains of those that cannot, but a test says so sooner."""
    pages = {page.relative_to(DOCS).with_suffix("") for folder in ("", "*/") for page in DOCS.glob(f"{folder}*.md")}
    pages |= {page.relative_to(DOCS).with_suffix("") for page in REFERENCE}
    listed = {Path("index")}
    for page in DOCS.rglob("*.md"):
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE):
            for entry in re.findall(r"^(?:[^:\n].*<)?([\w./-]+)>?$", block, re.MULTILINE):
                listed.add((page.parent / entry).resolve().relative_to(DOCS))
    assert pages == listed
