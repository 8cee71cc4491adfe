"""What the package offers: a sorted list of names, each of which says what it is."""

from __future__ import annotations

import ast
import enum
import importlib
import importlib.metadata
import inspect
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import dot_proto
from dot_proto import Event
from support.interpreted import interpreted

HOME = Path(dot_proto.__file__).parent
INIT = ast.parse((HOME / "__init__.py").read_text("utf-8"))
MODULES = sorted(path for path in [*HOME.glob("*.py"), *HOME.glob("resolver/*.py")] if path != HOME / "__init__.py")
PUBLIC = {name: getattr(dot_proto, name) for name in dot_proto.__all__}
CLASSES = {name: value for name, value in PUBLIC.items() if isinstance(value, type)}
FUNCTIONS = {name: value for name, value in PUBLIC.items() if inspect.isfunction(value)}

FORBIDDEN = {
    "asyncio",
    "logging",
    "os",
    "random",
    "secrets",
    "select",
    "selectors",
    "socket",
    "ssl",
    "threading",
    "time",
}
"No I/O, no clock, no randomness: whoever embeds the engine brings his own."


def class_body(kind: type) -> list[ast.stmt]:
    """The statements of a class, as they are written."""
    tree = ast.parse(inspect.getsource(importlib.import_module(kind.__module__)))
    return next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind.__name__)


def documented(body: list[ast.stmt]) -> dict[str, str | None]:
    """Attributes assigned or annotated in a class or module, and the string that follows each."""
    found: dict[str, str | None] = {}
    for statement, following in pairwise([*body, ast.Pass()]):
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                match following:
                    case ast.Expr(value=ast.Constant(value=str(text))):
                        found[name] = text
                    case _:
                        found[name] = None
    return found


def test_all_is_sorted():
    """As ruff sorts it: constants, classes, functions."""

    def rank(name: str) -> tuple[int, str]:
        return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)

    assert dot_proto.__all__ == sorted(dot_proto.__all__, key=rank)
    assert len(dot_proto.__all__) == len(set(dot_proto.__all__))


def test_all_is_what_is_exported():
    """``from .x import Y as Y``, in no other form, and each Y is in the literal list; or for type checkers the same."""
    exported = []
    later = [statement for statement in INIT.body if isinstance(statement, ast.If)]
    for statement in [*INIT.body, *(inner for block in later for inner in block.body)]:
        match statement:
            case ast.ImportFrom(module=str(), names=[ast.alias(name=name, asname=alias)], level=1):
                assert name == alias
                exported.append(name)
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                assert ast.literal_eval(value) == dot_proto.__all__
            case (
                ast.Expr(value=ast.Constant(value=str())) | ast.AnnAssign(target=ast.Name(id="__version__"), value=None)
            ):
                pass
            case ast.ImportFrom(module="typing", names=[ast.alias(name="TYPE_CHECKING", asname=None)], level=0):
                pass
            case ast.ImportFrom(module="importlib", names=[ast.alias(name="import_module", asname=None)], level=0):
                pass
            case ast.Assign(targets=[ast.Name(id="_OF_RESOLVER")], value=value):
                assert set(ast.literal_eval(value)) < set(dot_proto.__all__)
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=[]) | ast.FunctionDef(name="__getattr__"):
                pass
            case _:
                pytest.fail(f"{ast.unparse(statement)} is neither a re-export nor the list")
    assert sorted(exported) == sorted(dot_proto.__all__)


def test_what_is_imported_when_asked_for_is_what_type_checkers_see(monkeypatch):
    """The upstreams, which one connection has no need of, are no part of what ``import dot_proto`` costs."""
    code = (
        "import sys, dot_proto, dot_io.blocking; print([name for name in sys.modules if 'dot_proto.resolver' in name])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=HOME.parent, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
    monkeypatch.setattr("typing.TYPE_CHECKING", True)
    names = {"__name__": "dot_proto", "__package__": "dot_proto"}
    exec(compile((HOME / "__init__.py").read_text("utf-8"), str(HOME / "__init__.py"), "exec"), names)
    assert set(dot_proto.__all__) <= set(names)
    monkeypatch.delitem(vars(dot_proto), "Upstream")
    assert dot_proto.Upstream is names["Upstream"]
    with pytest.raises(AttributeError, match="module 'dot_proto' has no attribute 'Upstreem'"):
        dot_proto.Upstreem  # noqa: B018


def test_every_event_and_every_error_is_public():
    """Whoever gets one can name it."""
    for module, base in (("events", Event), ("errors", dot_proto.DoTError)):
        for name, value in vars(importlib.import_module(f"dot_proto.{module}")).items():
            if isinstance(value, type) and issubclass(value, base):
                assert PUBLIC.get(name) is value


def test_every_type_of_a_field_is_public():
    """A type in a public signature is public itself."""
    for kind in CLASSES.values():
        for annotation in vars(kind).get("__annotations__", {}).values():
            for word in ast.walk(ast.parse(annotation, mode="eval")):
                if isinstance(word, ast.Name) and word.id in vars(sys.modules[kind.__module__]):
                    value = vars(sys.modules[kind.__module__])[word.id]
                    if getattr(value, "__module__", "").startswith("dot_proto"):
                        assert word.id in PUBLIC, f"{word.id} in {kind.__name__}"


@interpreted
@pytest.mark.parametrize("name", [*CLASSES, *FUNCTIONS])
def test_a_docstring_of_its_own(name):
    """Inherited words, or those that dataclasses make up, do not count."""
    value = PUBLIC[name]
    text = vars(value).get("__doc__") if isinstance(value, type) else value.__doc__
    assert text
    assert not text.startswith(f"{name}(")
    assert text.strip().split("\n")[0].endswith((".", ":", ","))


@pytest.mark.parametrize("name", CLASSES)
def test_every_public_method_has_a_docstring(name):
    """Properties and class methods too."""
    for attribute, value in vars(CLASSES[name]).items():
        function = getattr(value, "fget", None) or getattr(value, "__func__", value)
        if inspect.isfunction(function) and not attribute.startswith("_"):
            assert function.__doc__, f"{name}.{attribute}"


@pytest.mark.parametrize("name", [name for name, kind in CLASSES.items() if issubclass(kind, Event | enum.Enum)])
def test_every_attribute_of_an_event_says_what_it_is(name):
    """In the string behind it: fields of events, members of enumerations."""
    attributes = documented(class_body(CLASSES[name]))
    attributes.pop("__slots__", None)
    for attribute, text in attributes.items():
        assert text, f"{name}.{attribute}"
        assert text.endswith((".", ")")), f"{name}.{attribute}: {text}"
    if issubclass(CLASSES[name], Event) and CLASSES[name] is not Event:
        assert attributes


@pytest.mark.parametrize("name", [name for name, kind in CLASSES.items() if name.endswith("Configuration")])
def test_every_value_of_a_configuration_says_what_it_is(name):
    """With its unit and its source."""
    assert all(documented(class_body(CLASSES[name])).values())


@pytest.mark.parametrize("name", [name for name in PUBLIC if name.isupper()])
def test_every_public_number_has_its_unit(name):
    """A number never stands alone."""
    texts = [documented(ast.parse(path.read_text("utf-8")).body).get(name) for path in MODULES]
    (text,) = filter(None, texts)
    assert text.startswith("Octets")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_every_module_says_what_it_is_for(path):
    """A theory of operation at its top."""
    assert ast.get_docstring(ast.parse(path.read_text("utf-8")))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_the_engine_does_no_io(path):
    """Nothing is imported that could reach the world, and nothing that is not in the standard library."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.Import(names=names):
                imported = {alias.name.partition(".")[0] for alias in names}
            case ast.ImportFrom(module=str(module), level=0):
                imported = {module.partition(".")[0]}
            case _:
                continue
        assert not imported & FORBIDDEN
        assert imported <= sys.stdlib_module_names


def test_importing_the_engine_imports_no_io():
    """Not by a detour either: an embedded interpreter without sockets can use it."""
    code = "import sys; before = set(sys.modules); import dot_proto; print(*sorted(set(sys.modules) - before))"
    run = subprocess.run([sys.executable, "-c", code], cwd=HOME.parent, capture_output=True, text=True, check=True)
    imported = set(run.stdout.split())
    assert "dot_proto" in imported
    assert not imported & FORBIDDEN


@pytest.mark.parametrize("name", [name for name, kind in CLASSES.items() if issubclass(kind, Event)])
def test_events_are_small(name):
    """Plain slots: no dictionary for each event, and no attribute by mistake."""
    assert "__slots__" in vars(CLASSES[name])
    assert "__dict__" not in dir(CLASSES[name])


def test_types_are_shipped():
    """PEP 561."""
    assert (HOME / "py.typed").is_file()


def test_the_version_is_that_of_the_distribution():
    assert dot_proto.__version__ == importlib.metadata.version("dot-proto")


def test_the_version_costs_nothing_until_it_is_asked_for():
    """What reads metadata imports ``email`` and more, in vain for a program that never asks."""
    code = f"import sys; sys.path.append({str(HOME.parent)!r}); import dot_proto; print('email' in sys.modules)"
    # -S: no site-packages, some of which are imported when Python starts.
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
