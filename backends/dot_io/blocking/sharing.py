"""How any number of threads share what moves octets for all of them.

Theory of operation.  A thread that waits for an answer either moves octets for everybody, as the *mover*, and sorts
what comes, or, if there is a mover already, waits for that thread as a *follower*.  Whoever is not the mover and
changes what the mover should wait for (a query more, an earlier deadline, the end) wakes it.  A mover that has what it
wanted leaves, and wakes the followers, one of which takes its place.

What must hold when threads are interrupted.  Ctrl-C, or any exception that a signal handler raises, can come between
any two instructions of the main thread.  Three kinds of places are told apart:

* While a thread waits (``select``, or for a follower's lock) it holds no lock and has nothing of a session's in its
  hands.  An interruption there is the caller's alone: its query is cancelled, the connection goes on.
* While a thread works on a session, records may have been encrypted and not yet sent, and the engine may have been
  told half of something.  TLS counts its records, so the loss of one breaks the stream for good.  Such work is done
  inside ``with self._lock, self._work``.  ``_work`` notices an exception that is none of ours, and also that a
  former thread never came out in order: then what was worked on is broken off, and every waiting caller hears of it.
* The lock itself is taken by ``with`` alone.  ``threading.RLock`` takes and gives it back in C, where no interruption
  comes between taking it and being sure to give it back.  ``threading.Condition`` is written in Python and has such
  places; therefore followers wait for a plain lock of their own, outside of ours.

A mover that is interrupted twice could fail to give its role back.  So a follower never waits longer than
``FOLLOWER_WAIT`` without a look at the sockets of its own: answers then come late, but nobody waits for ever.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar
from weakref import WeakMethod

from dot_proto import DoTError, LocalProtocolError

from .._clock import monotonic

FOLLOWER_WAIT: Final = 1.0
"Seconds that a thread relies on the thread that moves octets for it; see the module's text."

W = TypeVar("W")
"What to wait for."

R = TypeVar("R")
"What a wait has brought."


class SharedByThreads(ABC, Generic[W, R]):
    """What threads share; a subclass says what there is to move, and what to wait for."""

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._work = Work(self._break_off)
        self._mover: object = None  # the call that moves octets for all
        self._followers: list[threading.Lock] = []  # locks that are held, to be released when something has happened

    # What a subclass has to say.  All are called with the lock held, but for _select().

    @abstractmethod
    def _prepare(self) -> None:
        """As the mover: send what is to be sent."""

    @abstractmethod
    def _hand_over(self) -> None:
        """As a follower: send what can be sent now, and leave the rest to the mover."""

    @abstractmethod
    def _next_wait(self, deadline: float | None) -> W:
        """What to wait for, at most until ``deadline``."""

    @abstractmethod
    def _select(self, wait: W) -> R:
        """Wait, without the lock."""

    @abstractmethod
    def _act(self, brought: R) -> bool:
        """Take in what has come and what is due; says whether anything has happened."""

    @abstractmethod
    def _look(self) -> None:
        """As a follower that has waited long enough: take in what has come and what is due."""

    @abstractmethod
    def _next_timeout(self) -> float | None:
        """When something is due, on the monotonic clock; ``None``: never."""

    @abstractmethod
    def _wake_mover(self) -> None:
        """Make the mover come back from its wait."""

    @abstractmethod
    def _break_off(self) -> None:
        """A thread was interrupted amid its work: what is left of it cannot be trusted."""

    # For a subclass.

    def _wait_until(self, is_over: Callable[[], object], deadline: float | None = None) -> None:
        """Move octets for everybody, or wait for the thread that does, until something is so or ``deadline`` is past.

        ``is_over`` is asked with the lock held.
        """
        me = object()
        try:
            while True:
                wait: W | None = None
                follower, follows_until = None, 0.0
                with self._lock, self._work:
                    if self._mover is None:
                        self._mover = me
                    if self._mover is me:
                        self._prepare()
                    else:
                        self._hand_over()
                    if is_over() or (deadline is not None and deadline <= monotonic()):
                        return
                    if self._mover is me:
                        wait = self._next_wait(deadline)
                    else:
                        follower, follows_until = self._follow(), self._follows_until(deadline)
                if wait is not None:
                    brought = self._select(wait)
                    with self._lock, self._work:
                        if self._act(brought) and is_over():
                            return
                elif follower is not None and not follower.acquire(timeout=max(follows_until - monotonic(), 0.0)):
                    # Our deadline may be earlier than the one that the mover waits for.
                    with self._lock, self._work:
                        self._look()
        finally:
            with self._lock:
                if self._mover is me:
                    self._mover = None
                    if self._followers:
                        self._wake_followers()  # one of them must move octets now

    def _wait_for_movers(self) -> None:
        """Until no thread uses the sockets any more, so that they can be closed; all threads have been told to go."""
        deadline = monotonic() + FOLLOWER_WAIT
        while monotonic() < deadline:
            with self._lock:
                if self._mover is None:
                    return
                self._wake_mover()
                follower = self._follow()
            follower.acquire(timeout=0.01)

    def _wake_all(self) -> None:
        """Make all threads look again; call with the lock held."""
        self._wake_followers()
        if self._mover is not None:
            self._wake_mover()

    def _wake_followers(self) -> None:
        followers, self._followers = self._followers, []
        for follower in followers:
            follower.release()

    def _forget_threads(self, lock: threading.RLock) -> None:
        """In a forked child: no other thread of the parent's lives here, and one of them may have had the lock."""
        self._lock = lock
        self._mover = None
        self._followers.clear()

    # Private methods.

    def _follow(self) -> threading.Lock:
        """A lock that is held until something has happened."""
        lock = threading.Lock()
        lock.acquire()
        self._followers.append(lock)
        return lock

    def _follows_until(self, deadline: float | None) -> float:
        """How long a follower relies on the mover, on the monotonic clock."""
        times = (monotonic() + FOLLOWER_WAIT, self._next_timeout(), deadline)
        return min(one for one in times if one is not None)


class NestedCallError(LocalProtocolError):
    """A call from inside our own work in the same thread, which must come to its end first."""

    def __init__(self) -> None:
        super().__init__(
            "called amid a call of the same thread, by a signal handler or a finalizer: call it from another thread"
        )


class Work:
    """Guards what is worked on, inside the lock; see the module's text."""

    __slots__ = ("_break_off", "_is_under_way")

    def __init__(self, break_off: Callable[[], None]) -> None:
        self._break_off = WeakMethod(break_off)  # no circle: what is dropped is to be noticed at once
        self._is_under_way = False

    def __enter__(self) -> None:
        if self._is_under_way:
            if self._is_nested():
                raise NestedCallError
            self._give_up()  # a former thread never came to its end
        self._is_under_way = True

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and not issubclass(kind, DoTError):
            self._give_up()
        self._is_under_way = False

    def _is_nested(self) -> bool:
        """Whether this thread is at work further out: then it has the lock once more than we have taken it here."""
        break_off = self._break_off()
        if break_off is None:
            return False
        lock: Any = getattr(break_off, "__self__")._lock  # noqa: B009
        lock.release()
        try:
            is_ours_still: bool = lock._is_owned()
            return is_ours_still
        finally:
            lock.acquire()

    def _give_up(self) -> None:
        break_off = self._break_off()
        if break_off is not None:
            break_off()
