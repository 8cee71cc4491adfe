"""The documentation site: ``python -m sphinx -W -n -b html docs docs/_build``; needs the extra ``docs``, no network."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.highlighting import lexers

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent), str(HERE.parent / "backends")]

project = "dot_proto"
author = "the dot_proto authors"
project_copyright = author
release = importlib.metadata.version("dot-proto")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "public_names",
    "public_module",
    "state_tables",
    "command_help",
    "log_table",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"dot_proto {release}"
html_show_sphinx = False
html_copy_source = False

myst_heading_anchors = 4

autodoc_default_options = {
    "members": True,
    # What a class has from a base of ours is part of it; what it has from Python's own classes is known.
    "inherited-members": "object, int, tuple, Enum, IntEnum, StrEnum, Exception, OSError, ValueError, Protocol, ABC",
}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
# It cannot be installed beside requests, which Sphinx needs.
autodoc_mock_imports = ["niquests"]
maximum_signature_line_length = 100
nitpicky = True

lexers["haproxy"] = TextLexer()  # Pygments does not know its form
