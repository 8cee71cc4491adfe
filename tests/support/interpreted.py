"""For the few tests that look inside the engine, which its compiled form (hatch_build.py) does not allow."""

from __future__ import annotations

import pytest

import dot_proto.client

IS_COMPILED = not dot_proto.client.__file__.endswith(".py")

interpreted = pytest.mark.skipif(
    IS_COMPILED, reason="compiled: its classes take no subclasses, no patches and no docstrings, and no line is traced"
)
