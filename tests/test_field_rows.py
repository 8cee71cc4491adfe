"""Every row of the field reports has a test, and the table of them can be read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import field_rows

SCRIPT = Path(field_rows.__file__)


def test_every_row_has_a_test() -> None:
    assert set(field_rows.without_test()) <= field_rows.UNDER_WAY


def test_the_table_has_each_row_once() -> None:
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=True)
    rows = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert rows == [f"FR-{row}" for row in field_rows.table()]
    assert done.stdout.count("    no test\n") == len(field_rows.without_test())


def test_a_reader_that_has_read_enough() -> None:
    with subprocess.Popen([sys.executable, SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout is not None
        program.stdout.close()
        _, errors = program.communicate()
    assert (program.returncode, errors) == (0, b"")
