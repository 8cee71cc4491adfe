"""``state-table``: a table of states as the code has it, drawn and written out.

``.. state-table:: dot_proto._state:TRANSITIONS`` draws the states, with a numbered arrow for each pair that has a move,
and lists the steps of each arrow.  The picture is inline SVG: nothing but Sphinx is needed to build the site.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from states import arrows, label, load, picture


class StateTable(SphinxDirective):
    """The directive."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The picture, and below it the table of its arrows."""
        moves = load(self.arguments[0])
        rows = [
            [str(number), label(origin), label(end), ", ".join(map(label, steps))]
            for number, ((origin, end), steps) in enumerate(arrows(moves).items(), 1)
        ]
        return [
            nodes.raw("", picture(moves), format="html"),
            table(["", "from", "to", "by"], rows),
        ]


def table(head: list[str], rows: list[list[str]]) -> nodes.table:
    """A table of plain cells."""
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in head), cols=len(head))
    group += nodes.thead("", _row(head))
    group += nodes.tbody("", *map(_row, rows))
    return nodes.table("", group)


def _row(cells: list[str]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph(text=cell)) for cell in cells))


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("state-table", StateTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
