"""Threads that handlers run in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue


class Workers:
    """At most so many threads, each started when there is nobody else to do a job.

    ``concurrent.futures`` waits for its threads when the process ends, so a handler that never returns would keep it
    alive.  These are daemons.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._spare = 0  # threads without a job; below zero: jobs without a thread

    def submit(self, job: Callable[[], None]) -> None:
        """Have a job done, which must not raise; :class:`RuntimeError` where there is no thread and can be none."""
        with self._lock:
            if self._spare <= 0 and self._threads < self._maximum:
                try:
                    threading.Thread(target=self._work, name="dot-handler", daemon=True).start()
                except RuntimeError:
                    if not self._threads:
                        raise
                else:
                    self._threads += 1
                    self._spare += 1
            self._spare -= 1
            self._jobs.put(job)

    def close(self) -> None:
        """Let each thread end when it has done what was submitted before."""
        with self._lock:
            for _ in range(self._threads):
                self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # the next may be long in coming
            with self._lock:
                self._spare += 1
