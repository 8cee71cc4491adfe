"""``public-module``: every name of a module's ``__all__``, from the docstrings; new ones come by themselves."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from entries import entries
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FIRST = "dot_io.blocking"
"Which of the three backends has the classes that they share in the index."


class PublicModule(SphinxDirective):
    """The directive."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """What autodoc makes of the entries."""
        return self.parse_text_to_nodes("\n".join(entries(self.arguments[0], FIRST)))


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("public-module", PublicModule)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
