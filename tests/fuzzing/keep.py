"""Choose what to keep of the inputs that fuzzing has found: ``python tests/fuzzing/keep.py [TARGET ...]``.

Few small files that, between them, take a target all the ways that all of them do: by pairs of lines run one after
the other in the engine and in the TLS layer.  The choice replaces ``corpus/TARGET``.
"""

from __future__ import annotations

import sys
from pathlib import Path

HOME = Path(__file__).resolve().parent
ROOT = HOME.parent.parent
sys.path[0] = str(HOME.parent)  # where this package of the tests, and support, are

from fuzzing.laws import TARGETS as LAWS  # noqa: E402
from fuzzing.targets import TARGETS, kept_for  # noqa: E402

MAX_FILES, MAX_SIZE = 16, 2048
"Files for each target, and octets of a file: enough for nearly all ways, and small enough for a repository."

WATCHED = (str(ROOT / "dot_proto"), str(ROOT / "backends"))


def ways_of(name: str, octets: bytes) -> frozenset[tuple[object, int, int]]:
    """The pairs of lines that these octets run through; raises what the target raises."""
    ways: set[tuple[object, int, int]] = set()

    def enter(frame, event, argument):
        if not frame.f_code.co_filename.startswith(WATCHED):
            return None
        last = 0

        def step(frame, event, argument):
            nonlocal last
            if event == "line":
                ways.add((frame.f_code, last, frame.f_lineno))
                last = frame.f_lineno
            return step

        return step

    sys.settrace(enter)
    try:
        TARGETS[name](octets)
    finally:
        sys.settrace(None)
    return frozenset(ways)


def chosen(name: str) -> list[bytes]:
    """Each of the files goes the most ways that those before it do not; the shorter one of equals."""
    files = {file.read_bytes() for file in [*kept_for(name), *ROOT.glob(f".fuzzing/corpus/{name}/*")]}
    candidates = {octets: ways_of(name, octets) for octets in sorted(files, key=len) if len(octets) <= MAX_SIZE}
    every = frozenset().union(*candidates.values())
    gone: frozenset[tuple[object, int, int]] = frozenset()
    kept: list[bytes] = []
    while gone != every and len(kept) < MAX_FILES:
        kept.append(max(candidates, key=lambda octets: len(candidates[octets] - gone)))
        gone |= candidates[kept[-1]]
    print(f"{name}: {len(kept)} of {len(files)} files, {sum(map(len, kept))} octets, {len(gone)} of {len(every)} ways")
    return kept


def main() -> None:
    """The command."""
    for name in sys.argv[1:] or [name for name in TARGETS if name not in LAWS]:
        kept = chosen(name)
        directory = HOME / "corpus" / name
        directory.mkdir(parents=True, exist_ok=True)
        for file in directory.iterdir():
            file.unlink()
        for number, octets in enumerate(kept, 1):
            (directory / f"{number:02}").write_bytes(octets)


if __name__ == "__main__":
    main()
