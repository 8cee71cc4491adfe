"""What a package writes to its log, read from its sources; needs nothing but Python."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LEVELS: Final = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}
"By method of a logger; ``exception`` adds a traceback."


@dataclass(frozen=True, slots=True)
class LogLine:
    """One call of a logger."""

    level: str
    text: str
    "With the places that ``%s`` and ``%d`` leave for values."
    file: Path


def log_lines(folder: Path) -> Iterator[LogLine]:
    """Each call of a logger, or of what takes a level and a text for one, in all modules of ``folder``."""
    for file in sorted(folder.rglob("*.py")):
        tree = ast.parse(file.read_text("utf-8"))
        for node in ast.walk(tree):
            match node:
                case ast.Call(ast.Attribute(logger, method), [text, *_]) if method in LEVELS and is_logger(logger):
                    yield LogLine(LEVELS[method], text_of(text, tree), file)
                case ast.Call(_, [ast.Attribute(ast.Name("logging"), level), text, *_]):
                    yield LogLine(level.lower(), text_of(text, tree), file)


def is_logger(node: ast.expr) -> bool:
    """Whether that is ``log``, or ``logging.getLogger(...)``."""
    written = ast.unparse(node)
    return written == "log" or written.startswith("logging.getLogger(")


def text_of(node: ast.expr, tree: ast.Module) -> str:
    """A literal, or the one that was put under that name last."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    name = ast.unparse(node)
    texts = {
        each.lineno: str(each.value.value)
        for each in ast.walk(tree)
        if isinstance(each, ast.Assign)
        and ast.unparse(each.targets[0]) == name
        and isinstance(each.value, ast.Constant)
    }
    return texts[max(line for line in texts if line < node.lineno)]
