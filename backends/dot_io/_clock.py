"""The clock of what waits without a loop: blocking sockets, and the server for tests.

Libraries that freeze time for tests (freezegun) put a clock that stands still in the place of ``time.monotonic``, in
every module that has it.  A deadline then never comes, and whoever waits for an answer waits for ever.  Nobody freezes
time to freeze a network.  So the system's clock is asked here past that name; on an event loop the clock is the loop's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from types import BuiltinFunctionType
from typing import Final

monotonic: Final[Callable[[], float]] = (
    time.monotonic.__call__  # another object than the one that is looked for and replaced
    if isinstance(time.monotonic, BuiltinFunctionType)
    else partial(time.clock_gettime, time.CLOCK_MONOTONIC)  # imported while time stands still; slower
)
"Seconds on a clock that never goes back: that of ``time.monotonic``."
