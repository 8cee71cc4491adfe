"""The engine as mypyc compiles it (hatch_build.py) beside the same engine interpreted, on its hot paths.

    python compiled.py OTHER_PYTHON

One of this interpreter and the other has the compiled engine installed, the other the sources.  Both run in turn in
every round, each beside its own bare loop, which no compiler touches; what is compared are the multiples of that loop.

What was tried and lost: the framer compiled as well is 15 % slower than interpreted, since slices and ``unpack_from``
stay calls and each number they return is boxed anew; ResponseReceived as a compiled class would save 0.1 us of the
0.6 that receiving takes, for an ``__init__`` by hand in place of a dataclass's; what lies above the engine (TLS, the
pumps) mypyc cannot compile as it is: async generators, dataclasses over classes that are not compiled, and a default
of a float before a keyword-only argument.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from statistics import median

from measure import IS_COMPILED, machine, run

from engine import paths

CROWD = 4096
"Answers in the longest read: fewer than in engine.py, whose figure this is not."

BASE = "bare loop"


def measured(python: str) -> tuple[bool, dict[str, float]]:
    """Whether that interpreter's engine is compiled, and each path's time as a multiple of the bare loop's."""
    ran = subprocess.run([python, __file__, "--child"], capture_output=True, text=True, check=True)
    is_compiled, times = json.loads(ran.stdout)
    return is_compiled, {name: seconds / times[BASE] for name, seconds in times.items() if name != BASE}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("other", nargs="?", metavar="OTHER_PYTHON", help="the interpreter with the other engine")
    parser.add_argument("--rounds", type=int, default=7, help="rounds to take the median of (default 7)")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        print(json.dumps([IS_COMPILED, run(paths(CROWD), rounds=1, quick=False)]))
        return
    if chosen.other is None:
        parser.error("name the interpreter with the other engine")
    forms: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    for _ in range(chosen.rounds):
        for python in (sys.executable, chosen.other):
            is_compiled, multiples = measured(python)
            forms[is_compiled].append(multiples)
    if len(forms[False]) != len(forms[True]):
        sys.exit(f"both engines are {'compiled' if forms[True] else 'interpreted'}: there is nothing to compare")
    machine()
    names = [name for name in forms[True][0] if name in forms[False][0]]
    width = max(map(len, names))
    print(f"\nmultiples of a bare loop\n{'':{width}}  interpreted  compiled  compiled/interpreted")
    for name in names:
        slow, fast = ([one[name] for one in forms[form]] for form in (False, True))
        ratio = median(b / a for a, b in zip(slow, fast, strict=True))
        print(f"{name:{width}}  {median(slow):11.2f}  {median(fast):8.2f}  {ratio:20.2f}")


if __name__ == "__main__":
    main()
