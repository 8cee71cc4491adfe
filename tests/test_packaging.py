"""What is shipped: the wheel, the sdist, their metadata, and what importing the engine costs."""

from __future__ import annotations

import configparser
import contextlib
import email
import importlib.metadata
import importlib.util
import json
import modulefinder
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from hashlib import sha256
from pathlib import Path

import pytest
from hatchling import build

import dot_io.cli
import dot_proto.client

ROOT = Path(__file__).parents[1]
PACKAGES = ("dot_proto", "dot_io")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from this tree by the build backend's own hook (PEP 517): no network, no isolation."""
    folder = tmp_path_factory.mktemp("wheel")
    with contextlib.chdir(ROOT):
        return zipfile.ZipFile(folder / build.build_wheel(str(folder)))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The paths inside the sdist, without its top folder."""
    folder = tmp_path_factory.mktemp("sdist")
    with contextlib.chdir(ROOT):
        name = build.build_sdist(str(folder))
    with tarfile.open(folder / name) as archive:
        return {path.partition("/")[2] for path in archive.getnames()}


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    return email.message_from_bytes(wheel.read(in_dist_info(wheel, "METADATA")))


def in_dist_info(wheel: zipfile.ZipFile, name: str) -> str:
    (found,) = (path for path in wheel.namelist() if path.endswith(f".dist-info/{name}"))
    return found


def test_wheel_holds_the_two_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {path.partition("/")[0] for path in wheel.namelist() if ".dist-info/" not in path}
    assert tops == set(PACKAGES)


def test_wheel_holds_every_module(wheel: zipfile.ZipFile) -> None:
    sources = {path.relative_to(ROOT) for path in (ROOT / "dot_proto").rglob("*.py")}
    sources |= {path.relative_to(ROOT / "backends") for path in (ROOT / "backends").rglob("*.py")}
    assert {str(path) for path in sources} == {path for path in wheel.namelist() if path.endswith(".py")}


@pytest.mark.parametrize("package", PACKAGES)
def test_wheel_says_that_it_is_typed(wheel: zipfile.ZipFile, package: str) -> None:
    """PEP 561: one marker in each package."""
    assert f"{package}/py.typed" in wheel.namelist()


def test_wheel_has_the_command_and_the_hooks(wheel: zipfile.ZipFile) -> None:
    """The command, what Hypothesis calls when it is imported, and the plugin for pytest."""
    entry_points = configparser.ConfigParser()
    entry_points.read_string(wheel.read(in_dist_info(wheel, "entry_points.txt")).decode())
    assert {section: dict(entry_points[section]) for section in entry_points.sections()} == {
        "console_scripts": {"dot-proto": "dot_io.cli:process"},
        "hypothesis": {"dot_proto": "dot_proto.testing.registration:register"},
        "pytest11": {"dot_io.pytest_plugin": "dot_io.pytest_plugin"},
    }


def test_wheel_has_the_licence(wheel: zipfile.ZipFile, metadata: Message) -> None:
    """PEP 639: an SPDX expression, and the file."""
    assert metadata["License-Expression"] == "MIT"
    assert wheel.read(in_dist_info(wheel, "licenses/LICENSE")) == (ROOT / "LICENSE").read_bytes()


def test_base_needs_nothing(metadata: Message) -> None:
    """Every requirement belongs to an extra."""
    requirements = metadata.get_all("Requires-Dist", [])
    assert requirements
    assert [text for text in requirements if "extra ==" not in text] == []


def test_the_demonstration_needs_one_extra_alone(metadata: Message) -> None:
    """FR-85: ``[demo]`` alone could not run, because it asks as the command does."""
    extras = {
        extra: {
            text.partition(";")[0].strip()
            for text in metadata.get_all("Requires-Dist", [])
            if f"extra == '{extra}'" in text
        }
        for extra in ("cli", "demo")
    }
    assert extras["cli"] < extras["demo"]


def test_what_uv_leaves_is_no_change() -> None:
    """FR-85: the README names ``uv run``, which writes a lock file into the checkout."""
    assert "/uv.lock" in (ROOT / ".gitignore").read_text("utf-8").splitlines()


def test_a_static_walk_finds_every_module_of_the_command(tmp_path: Path) -> None:
    """FR-77: PyInstaller and its like follow statements of import, inside functions too, and no strings."""
    script = tmp_path / "command.py"
    script.write_text("from dot_io.cli import process\nprocess()\n", encoding="utf-8")
    folder = Path(dot_io.cli.__file__).parents[1]
    finder = modulefinder.ModuleFinder([str(folder.parent), str(Path(dot_proto.__path__[0]).parent)])
    finder.run_script(str(script))
    modules = {f"dot_io.cli.{file.stem}" for file in folder.glob("cli/[a-z_]*.py") if not file.stem.startswith("__")}
    assert modules - set(finder.modules) == set()


def test_the_changelog_has_the_version(metadata: Message) -> None:
    """The newest dated section is that of the version that would be built."""
    dated = re.findall(r"^## (\S+) - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert dated[0] == metadata["Version"]


def test_extras(metadata: Message) -> None:
    hooks = {"aiohttp", "dnspython", "gevent", "niquests", "trio", "twisted"}
    extras = {"cli", "demo", "hypothesis", "pytest", "stubby", "test", "fuzz", "lint", "docs", "release"}
    assert set(metadata.get_all("Provides-Extra", [])) == hooks | extras


@pytest.mark.parametrize(
    "path",
    [
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "RELEASING.md",
        "SECURITY.md",
        "docs/conf.py",
        "pyproject.toml",
        "hatch_build.py",
        "dot_proto/py.typed",
        "backends/dot_io/py.typed",
        "tests/test_packaging.py",
        ".ci/run",
        ".github/workflows/release.yml",
    ],
)
def test_sdist_holds(sdist: set[str], path: str) -> None:
    assert path in sdist


def test_sdist_holds_every_test(sdist: set[str]) -> None:
    """Whoever packages this for a distribution can run the suite."""
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py")} <= sdist


def test_a_build_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sdist builds itself and its wheel anew, octet for octet: whoever doubts what was published can compare."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    built: list[list[bytes]] = []
    source = ROOT
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        with contextlib.chdir(source):
            names = build.build_sdist(str(folder)), build.build_wheel(str(folder))
        built.append([sha256((folder / name).read_bytes()).digest() for name in names])
        with tarfile.open(folder / names[0]) as archive:
            archive.extractall(folder, filter="data")
        source = folder / names[0].removesuffix(".tar.gz")
    assert built[0] == built[1]


def test_bare_interpreter_imports_the_engine_without_io() -> None:
    """The engine does no I/O: none of these is loaded, not even through the standard library."""
    spec = importlib.util.find_spec("dot_proto")
    assert spec is not None
    assert spec.origin is not None
    code = f"import sys; sys.path.append({str(Path(spec.origin).parents[1])!r}); import dot_proto; print(*sys.modules)"
    # -I -S: no site-packages, so that nothing but dot_proto and the standard library can be imported.
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert "dot_proto" in loaded
    assert loaded & {"socket", "ssl", "asyncio", "selectors", "threading", "dot_proto.testing"} == set()


@pytest.mark.parametrize(
    ("module", "needs"),
    [
        ("messages", set[str]()),
        ("registration", {"hypothesis"}),
        ("strategies", {"hypothesis"}),
        ("runner", {"hypothesis"}),
        ("laws", {"hypothesis"}),
        ("machines", {"hypothesis"}),
        ("chains", {"hypothesis", "cryptography"}),
    ],
)
def test_the_kit_imports_nothing_heavier_until_asked(module: str, needs: set[str]) -> None:
    """What each module of the fuzzing kit needs, of all that an extra brings."""
    code = f"import sys, dot_proto.testing.{module}; print(*sys.modules)"
    environment = os.environ | {"HYPOTHESIS_NO_PLUGINS": "1"}  # others' hooks import what they like
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    loaded = {name.partition(".")[0] for name in ran.stdout.split()}
    assert loaded & {"hypothesis", "cryptography", "pytest", "trio", "dns", "twisted", "trustme"} == needs


def test_an_editable_install_is_never_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would go on running what the sources once were."""
    monkeypatch.setenv("HATCH_BUILD_HOOK_ENABLE_CUSTOM", "1")
    with contextlib.chdir(ROOT), pytest.raises(ValueError, match="install without -e"):
        build.build_editable(str(tmp_path))


def test_the_command_says_whether_the_engine_is_compiled(capsys: pytest.CaptureFixture[str]) -> None:
    """The installer chooses between a pure wheel and a compiled one: ``--version`` tells which it was."""
    assert dot_io.cli.main(["--version"]) == 0
    form = "no" if Path(dot_proto.client.__file__).suffix == ".py" else "yes"
    assert capsys.readouterr().out == f"dot-proto {dot_proto.__version__} (compiled: {form})\n"


@pytest.mark.parametrize("package", PACKAGES)
def test_installed_package_is_the_one_under_test(package: str) -> None:
    """Against a wheel, the source tree must not be what is imported."""
    try:
        installed = importlib.metadata.distribution("dot-proto")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("dot-proto is not installed here: pip install -e '.[test]'")
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    is_editable = origin.get("dir_info", {}).get("editable", False)
    expected = ROOT if is_editable else Path(str(installed.locate_file(package)))
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).is_relative_to(expected)
