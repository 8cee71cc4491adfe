"""Every law holds for the octets that are kept: those that take a target its own ways, and what was found once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fuzzing import client, der, framer, laws, reader, server, texts, tls
from fuzzing.program import STREAM, calls
from fuzzing.targets import HOME, TARGETS, kept_for

KEPT = [pytest.param(name, file, id=f"{name}-{file.name}") for name in TARGETS for file in kept_for(name)]
MODULES = (framer, reader, der, texts, client, server, tls)


@pytest.mark.filterwarnings("ignore:.*serial number which wasn't positive")
@pytest.mark.parametrize(("name", "file"), KEPT)
def test_every_law_holds(name, file):
    """Each finding of the fuzzers stays among them."""
    TARGETS[name](file.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_no_octets_at_all(name):
    """The first that libFuzzer tries."""
    TARGETS[name](b"")


def test_the_corpus_is_small():
    """A few dozen files for every target but the kit's laws, whose octets mean what Hypothesis likes."""
    for name in TARGETS.keys() - laws.TARGETS.keys():
        assert 0 < len(list(HOME.glob(f"corpus/{name}/*"))) <= 16
    assert sum(file.stat().st_size for file in HOME.glob("corpus/*/*")) < 100 * 1024
    assert {file.parent.name for file in HOME.glob("corpus/*/*")} == TARGETS.keys() - laws.TARGETS.keys()


def test_octets_are_read_as_calls():
    """An operand that is missing is 0; a stream that is cut short is what there is of it."""
    verbs = (("one", 1), ("none", 0), ("octets", STREAM), ("two", 2))
    assert list(calls(b"\4\7\1\2\3abc\3\1", verbs)) == [
        ("one", b"\7"),
        ("none", b""),
        ("octets", b"abc"),
        ("two", b"\1\0"),
    ]
    assert list(calls(b"\2\5ab", verbs)) == [("octets", b"ab")]
    assert list(calls(b"\2", verbs)) == [("octets", b"")]


def test_a_replay_needs_no_atheris(tmp_path):
    """What is printed beside a finding can be run as it stands."""
    octets = tmp_path / "octets"
    octets.write_bytes(b"\1\0\0")
    command = [sys.executable, HOME / "run.py", "--replay", "framer", octets]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{octets}: every law holds\n"


def test_without_atheris_it_is_said_what_to_do():
    """Which extra, and for which Pythons there are wheels."""
    hide = "import importlib.util as u, runpy, sys; u.find_spec = lambda name: None; sys.argv[1:] = ['framer']; "
    program = f"{hide}runpy.run_path({str(HOME / 'run.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install -e '.[test,fuzz]'" in done.stderr
    assert "CPython 3.11 to 3.14" in done.stderr


def test_another_target_is_refused():
    """With the names of those that there are."""
    done = subprocess.run([sys.executable, HOME / "run.py", "frame"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no such target: frame; there are framer, reader" in done.stderr
