"""Virtual time and a virtual network: a heap of what is to happen, and lines that are late, cut up or cut off.

Theory of operation.  The scheduler holds one heap of calls.  The clock jumps from one to the next, so that idle hours
cost nothing; calls that are due at the same time come in an order drawn at random.  Every time is a multiple of 1/64 s,
which floats hold and add up exactly.  Chance has one source, of which only ``random()`` is used: Python promises that
it yields the same numbers for a seed in every version (module ``random``, "Notes on Reproducibility").
"""

from __future__ import annotations

import enum
import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from heapq import heappop, heappush
from random import Random
from typing import Final, TypeVar

T = TypeVar("T")

TICKS: Final = 64
"Of these has a second: the grain of virtual time, fine enough for any network and exact in binary."

START: Final = 1_024.0
"Seconds on the virtual clock at which a run begins; not 0, so that no deadline agrees by accident."

AFTERWARDS: Final = 10_800.0
"Seconds in which everything is over once nothing new begins: the longest idle time of a host is 6553.5."

TRACE_LINES: Final = 400
"Lines of the record that are kept to be printed; the digest is of all lines."

READ_SIZE: Final = 65_536
"Octets that are read at a time: what the backends read."

TCP_ROOM: Final = 16_384
"Octets that a line takes before its reader has read them: as little as socket buffers start with, so that it is felt."


class SimulationError(AssertionError):
    """An invariant does not hold, or the engine raised where it must not."""

    def __init__(self, text: str, seed: int, hours: float, trace: list[str]) -> None:
        super().__init__(f"seed {seed}, after {hours:.3f} hours: {text}")
        self.text = text
        "What is wrong."
        self.seed = seed
        "With which the run can be had again."
        self.hours = hours
        "Simulated hours from the beginning of the run."
        self.trace = trace
        "The last things that happened, in order: the time in seconds, who, and what."

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.text, self.seed, self.hours, self.trace)


class Scheduler:
    """The clock, the heap, chance, and the record of one run."""

    def __init__(self, seed: int, hours: float) -> None:
        self.seed: Final = seed
        self.now = START
        self._horizon = START + hours * 3_600.0
        self.counters: Counter[str] = Counter()
        "How often things happened, by what a summary calls them."
        self.engines = 0
        "How many connections have not ended yet, at either end."
        self.random: Final = Random(seed).random
        self._agenda: list[tuple[float, float, int, Callable[..., object], tuple[object, ...]]] = []
        self._scheduled = 0
        self._trace: deque[str] = deque(maxlen=TRACE_LINES)
        self._digest = blake2b(digest_size=16)

    # Time

    def call_later(self, delay: float, act: Callable[..., object], *arguments: object) -> None:
        """Have ``act`` called in so many seconds."""
        self.call_at(self.now + delay, act, *arguments)

    def call_at(self, time: float, act: Callable[..., object], *arguments: object) -> None:
        """Have ``act`` called at a time: up to 1/64 s late, as real timers are late, and never in the past."""
        time = max(self.now, math.ceil(time * TICKS) / TICKS)
        # The serial number comes last: whether an act can be compared with another must never matter.
        heappush(self._agenda, (time, self.random(), self._scheduled, act, arguments))
        self._scheduled += 1

    def call_randomly(self, mean: float, act: Callable[..., object]) -> None:
        """Have ``act`` called once in ``mean`` seconds, at any time alike; but not when the run nears its end."""
        time = self.now - math.log(1.0 - self.random()) * mean
        if time < self._horizon:
            self.call_at(time, act)

    def run(self) -> None:
        """Let happen all that is to happen; it must be over soon after nothing new begins, and no engine be left."""
        agenda, bound = self._agenda, self._horizon + AFTERWARDS
        try:
            while agenda:
                self.now, _, _, act, arguments = heappop(agenda)
                self.require(self.now <= bound, "something is never over")
                act(*arguments)
        except SimulationError:
            raise
        except Exception as error:
            raise self.failure(f"{type(error).__name__} was raised: {error}") from error
        self.require(not self.engines, "{} connections never end", self.engines)

    # Chance

    def chance(self, probability: float) -> bool:
        """True that often."""
        return self.random() < probability

    def pick(self, choices: Sequence[T]) -> T:
        """One of them, each as likely."""
        return choices[int(self.random() * len(choices))]

    def number(self, least: int, most: int) -> int:
        """A whole number, both ends included."""
        return least + int(self.random() * (most - least + 1))

    def seconds(self, least: float, most: float) -> float:
        """A time span on the grain."""
        return int((least + self.random() * (most - least)) * TICKS) / TICKS

    # The record

    def note(self, text: str) -> None:
        """Put one line into the record."""
        line = f"{self.now:.6f} {text}"
        self._trace.append(line)
        self._digest.update(line.encode())

    def note_octets(self, octets: bytes) -> None:
        """Have the digest depend on octets too, which would make the record unreadable."""
        self._digest.update(octets)

    def digest(self) -> str:
        """The digest of all that happened so far, in hexadecimal."""
        return self._digest.hexdigest()

    def require(self, holds: bool, text: str, *details: object) -> None:
        """Raise :class:`SimulationError` unless an invariant holds; ``details`` go into the braces of ``text``."""
        if not holds:
            raise self.failure(text.format(*details))

    def failure(self, text: str) -> SimulationError:
        """The error that says so, with seed and trace."""
        return SimulationError(text, self.seed, (self.now - START) / 3600, list(self._trace))


class End(enum.Enum):
    """How a direction of a connection ends."""

    ORDERLY = "close_notify"
    "TLS close_notify: the peer has no more to say (RFC 8446, section 6.1)."
    ABRUPT = "FIN alone"
    "TCP ended without close_notify."
    RESET = "reset"
    "A TCP reset; what was on its way is lost."


class Segmentation(enum.Enum):
    """How octets arrive, compared with how they were sent."""

    AS_SENT = enum.auto()
    "One read for each write."
    JOINED = enum.auto()
    "All that has arrived at once."
    CUT = enum.auto()
    "In a few pieces, at once."
    OCTETS = enum.auto()
    "In very many pieces, the last ones of one octet, at once."
    TRICKLE = enum.auto()
    "In pieces, with seconds between them."


@dataclass(frozen=True, slots=True)
class LinkConditions:
    """What a line is like."""

    least: float
    "Seconds of latency at the least."
    most: float
    "Seconds of latency, but for stalls."
    stalls: float
    "How often the line stands still for a while, as a probability for each write."
    segmentation: Segmentation
    "How octets arrive."


class Pipe:
    """One direction of a connection: what is sent arrives in order, later, and in other pieces."""

    def __init__(self, scheduler: Scheduler, conditions: LinkConditions) -> None:
        self.receive: Callable[[bytes | End], None] = _nobody
        "Set by the reader: what to do with octets, and with the end."
        self.has_room: Callable[[], None] = _no_reason
        "Set by a writer that waits: called when the line is full no more."
        self.unread = 0
        "Octets sent and not read yet."
        self.ends_badly = False
        "Whether the last octets sent are a length that no message has: nothing behind them means anything."
        self._scheduler = scheduler
        self._conditions = conditions
        self._arriving: deque[tuple[float, bytes | End]] = deque()
        self._last = 0.0
        self._is_dead = False
        self._is_paused = False

    @property
    def is_full(self) -> bool:
        """Whether the reader is so far behind that TCP would make the writer wait."""
        return self.unread > TCP_ROOM

    def send(self, item: bytes | End) -> None:
        """Octets, or the end."""
        if self._is_dead:
            return
        scheduler, conditions = self._scheduler, self._conditions
        arrival = scheduler.now + scheduler.seconds(conditions.least, conditions.most)
        if scheduler.chance(conditions.stalls):
            arrival += scheduler.seconds(1.0, 40.0)
        self._last = max(self._last, arrival)
        if isinstance(item, bytes):
            self.unread += len(item)
            scheduler.note_octets(item)
        self._arriving.append((self._last, item))
        scheduler.call_at(self._last, self._flow)

    def kill(self, end: End | None = None) -> None:
        """What is on its way is lost, and nothing is sent any more; ``end`` is all that the reader still learns."""
        if self._is_dead:
            return
        self._arriving.clear()
        self.unread = 0
        if end is not None:
            self.send(end)
        self._is_dead = True

    def pause(self, is_paused: bool) -> None:
        """Whether the reader does not read for now."""
        if self._is_paused and not is_paused:
            self._scheduler.call_later(0.0, self._flow)
        self._is_paused = is_paused

    def _flow(self) -> None:
        arriving, now = self._arriving, self._scheduler.now
        while arriving and arriving[0][0] <= now and not self._is_paused:
            _, item = arriving.popleft()
            if isinstance(item, bytes):
                item, was_full = self._piece(item), self.is_full
                self.unread -= len(item)
                if was_full and not self.is_full:
                    self._scheduler.call_later(0.0, self.has_room)
            self.receive(item)

    def _piece(self, octets: bytes) -> bytes:
        """What the reader gets of octets that have arrived; the rest is put back."""
        scheduler, arriving, segmentation = self._scheduler, self._arriving, self._conditions.segmentation
        size, arrival = READ_SIZE, scheduler.now
        if segmentation is Segmentation.JOINED:
            octets += b"".join(self._arrived())
        elif segmentation is Segmentation.OCTETS:
            size = 1 + len(octets) // 4  # several at first: each one alone would cost more than all else
        elif segmentation is Segmentation.CUT:
            size = scheduler.number(1, 2 * len(octets))
        elif segmentation is Segmentation.TRICKLE:
            size, arrival = scheduler.number(1, len(octets)), arrival + scheduler.seconds(0.5, 4.0)
        if size < len(octets):
            arriving.appendleft((arrival, octets[size:]))
            if arrival > scheduler.now:
                scheduler.call_at(arrival, self._flow)
        return octets[:size]

    def _arrived(self) -> list[bytes]:
        arriving, arrived = self._arriving, list[bytes]()
        while arriving and arriving[0][0] <= self._scheduler.now and isinstance(item := arriving[0][1], bytes):
            arriving.popleft()
            arrived.append(item)
        return arrived


class Link:
    """A connection of a client to a server, and the truth about what was said on it."""

    def __init__(self, scheduler: Scheduler, number: int, up: LinkConditions, down: LinkConditions) -> None:
        self.number: Final = number
        self.up: Final = Pipe(scheduler, up)
        "From the client to the server."
        self.down: Final = Pipe(scheduler, down)
        "From the server to the client."
        self.queries: Final[list[bytes]] = []
        "The messages that the client framed, in order, as they are on the wire."
        self.answers: Final[list[tuple[bytes, int | None]]] = []
        """The messages that the server framed, in order, each with the position in :attr:`queries` of the query that
        it answers; ``None``: it answers nothing, and must never be taken for an answer."""
        self.is_foul = False
        "Whether somebody broke the protocol or the line: only then may an engine see a fault."
        self.is_broken = False
        "Whether the line is broken, in one direction or both, so that no handshake can succeed."
        self._scheduler = scheduler

    def reset(self) -> None:
        """TCP resets the connection: both sides learn it, whatever was on its way."""
        self._spoil("reset")
        self.up.kill(End.RESET)
        self.down.kill(End.RESET)

    def cut(self) -> None:
        """From now on nothing comes through, and nobody is told."""
        self.cut_up()
        self.cut_down()

    def cut_up(self) -> None:
        """Nothing comes through to the server any more."""
        self._spoil("cut towards the server")
        self.up.kill()

    def cut_down(self) -> None:
        """Nothing comes through to the client any more."""
        self._spoil("cut towards the client")
        self.down.kill()

    def _spoil(self, how: str) -> None:
        self.is_foul = self.is_broken = True
        self._scheduler.note(f"link {self.number} {how}")


def _nobody(item: bytes | End) -> None:
    """Nobody reads it."""


def _no_reason() -> None:
    """Nobody waits."""
