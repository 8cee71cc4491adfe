"""docs/server.md: its commands and files are there, and its figures are those of the code.

What it tells HAProxy and dnsdist is told them in ``tests/interop/test_proxies.py``; what it says of the example is done
with it in ``tests/test_example_server.py``.
"""

from __future__ import annotations

import re
from pathlib import Path

from dot_io._server import CLOSE_TIMEOUT
from dot_proto import ServerConfiguration

ROOT = Path(__file__).parents[1]

TEXT = (ROOT / "docs" / "server.md").read_text("utf-8")


def test_what_it_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", TEXT):
        assert (ROOT / "docs" / target).exists(), target


def test_its_figures_are_those_of_the_code() -> None:
    idle = ServerConfiguration().idle_timeout + ServerConfiguration().idle_grace
    assert f"longer than the {idle:.0f} seconds after which an idle client" in TEXT
    assert f"at most {CLOSE_TIMEOUT:.0f} seconds\n  (`Server.close(timeout)`)" in TEXT
    assert len((ROOT / "examples" / "server.py").read_text("utf-8").splitlines()) < 160


def test_length() -> None:
    """A page that is read to its end."""
    assert len(TEXT.splitlines()) < 250
