"""``command-help``: what the command's own parsers say, one section for each subcommand."""

from __future__ import annotations

import contextlib
import io
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from dot_io.cli import COMMANDS, main


def help_of(command: str) -> str:
    """What ``dot-proto COMMAND --help`` prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main([command, "--help"])
    return out.getvalue()


class CommandHelp(SphinxDirective):
    """The directive."""

    def run(self) -> list[nodes.Node]:
        """A title and a block for each subcommand."""
        found: list[nodes.Node] = []
        for command in COMMANDS:
            title = f"dot-proto {command}"
            section = nodes.section("", nodes.title(text=title), ids=[nodes.make_id(title)], names=[title])
            section += nodes.literal_block("", help_of(command), language="text")
            found.append(section)
        return found


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
