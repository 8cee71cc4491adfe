"""References to a name lead to where the reference has it, not to the private module in which it is written.

A signature says ``dot_proto.pins.Pin``, since that is where the class is; callers import it from ``dot_proto``, and so
the site has it there.  Names of other packages stay plain text: their inventories are on the network, and this site is
built without one.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Final, TypeVar

from docutils import nodes
from entries import MODULES
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

OURS: Final = ("dot_proto", "dot_io")


def public_names() -> dict[str, list[str]]:
    """Under where an object is defined: the names under which callers import it."""
    found: dict[str, list[str]] = {}
    for module in map(importlib.import_module, MODULES):
        for name in module.__all__:
            # Asking for a name also brings those that are imported when they are asked for, so that autodoc sees them.
            defined = getattr(module, name)
            home = getattr(defined, "__module__", "")
            if home.partition(".")[0] in OURS:
                places = found.setdefault(f"{home}.{getattr(defined, '__qualname__', name)}", [])
                places.append(f"{module.__name__}.{name}")
    return found


class References:
    """Resolves what Sphinx has not found."""

    def __init__(self) -> None:
        self._public = public_names()

    def __call__(
        self, app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
    ) -> nodes.Node | None:
        """A link to the public name, plain text for what is not ours, nothing (which is an error) for a wrong name."""
        if node.get("refdomain") != "py":
            return None
        target: str = node["reftarget"]
        scope: str = node.get("py:module") or ""
        candidates = [target, f"{scope}.{target}", *self._elsewhere(target, scope)]
        for name in candidates:
            if found := self._link(app, env, node, name, content):
                return found
        return content if target.partition(".")[0] not in OURS or is_unlisted(target) else None

    def _elsewhere(self, target: str, scope: str) -> list[str]:
        """The public names of a thing, or of the class that it belongs to, those of the module at hand first."""
        found: list[str] = []
        for home, places in self._public.items():
            for written in (home, home.rpartition(".")[2]):
                if target == written or target.startswith(f"{written}."):
                    found += [place + target[len(written) :] for place in places]
        return sorted(found, key=lambda name: not name.startswith(f"{scope}."))

    def _link(
        self, app: Sphinx, env: BuildEnvironment, node: pending_xref, name: str, content: nodes.TextElement
    ) -> nodes.Node | None:
        matches = env.domains.python_domain.find_obj(env, "", "", name, None)
        if len(matches) != 1:
            return None
        _, entry = matches[0]
        return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content, name)


def is_unlisted(target: str) -> bool:
    """Whether that is a class, a type variable or a module of ours that the reference leaves out."""
    if any(part.startswith("_") for part in target.split(".")):
        return True
    module, _, name = target.rpartition(".")
    try:
        return isinstance(getattr(importlib.import_module(module), name, None), ModuleType | type | TypeVar)
    except (ImportError, ValueError):
        return False


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("missing-reference", References())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
