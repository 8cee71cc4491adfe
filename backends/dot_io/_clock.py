"""The clock of what waits without a loop: blocking sockets, and the server for tests.

Libraries that freeze time for tests (freezegun) put a clock that stands still in the place of ``time.monotonic``, in
every module that has it.  A deadline then never comes, and whoever waits for an answer waits for ever.  Nobody freezes
time to freeze a network.  So the system's clock is asked here past that name; on an event loop the clock is the loop's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

monotonic: Final[Callable[[], float]] = (
    partial(time.clock_gettime, time.CLOCK_MONOTONIC) if hasattr(time, "clock_gettime") else time.monotonic
)
"Seconds on a clock that never goes back; on Linux the same as ``time.monotonic``."
