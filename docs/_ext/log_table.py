"""``log-lines``: a table of what the package writes to its log, read from the sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from log_lines import log_lines
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from state_tables import table

import dot_io


class LogLines(SphinxDirective):
    """The directive."""

    def run(self) -> list[nodes.Node]:
        """Level and text of each line, without those that are the same elsewhere."""
        lines = log_lines(Path(dot_io.__file__).parent)
        return [table(["level", "text"], [[*line] for line in sorted({(line.level, line.text) for line in lines})])]


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("log-lines", LogLines)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
