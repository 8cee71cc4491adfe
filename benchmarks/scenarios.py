"""What survival.py has happen: the servers of each scenario, what becomes of them, and the law that must hold."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
from answering import HOST
from loopback import Site
from soak import dropping_syns
from upstreams import DISCARD, Conduct, Scripted, SlowNames, Unbound, Upstream, answers, unused_port

BACK = 0.3
"Seconds until a server that was killed is started again."

DIALS = 2
DIALS_WITHIN = 10.0
"At most so many dials within so many seconds at a server that is refused."


@dataclass(frozen=True)
class Law:
    """What must hold.  ``None``: nothing is promised."""

    lost: int | None = 0
    "Queries without an answer."
    slowest: float | None = None
    "Seconds to an answer, or to an error."
    doubled: int | None = None
    "Names that servers have seen more than once."
    all_fail: bool = False
    "Whether each query must end with an error that names each upstream."
    lost_are_dropped: bool = False
    "Whether only those may be lost that a server has left unanswered."
    refused: tuple[int, ...] = ()
    "Which upstreams are shown no octet, and are dialled rarely."
    unused: tuple[int, ...] = ()
    "Which upstreams are asked nothing, since another one works."
    resumed: int | None = None
    "Connections on which a session of before is resumed."

    def __str__(self) -> str:
        said = {
            f"{self.lost} lost": self.lost is not None and not self.all_fail,
            "each query gets an error that names every upstream": self.all_fail,
            "no query is lost but those that the server left unanswered": self.lost_are_dropped,
            f"slowest below {self.slowest:g} s" if self.slowest else "": self.slowest,
            f"{self.doubled} doubled": self.doubled is not None,
            f"0 octets of queries shown to the impostor, at most {DIALS} dials in {DIALS_WITHIN:g} s": self.refused,
            "nobody else is asked": self.unused,
            f"{self.resumed} sessions resumed": self.resumed is not None,
        }
        return "; ".join(words for words, holds in said.items() if holds)


class Stage:
    """The servers of one run, and what is to happen to them."""

    def __init__(self, site: Site, folder: Path, stack: ExitStack, seconds: float) -> None:
        self._site, self._folder, self.stack = site, folder, stack
        self.seconds = seconds
        self.upstreams: list[Upstream] = []
        self.dropped = 0
        self.job: dict[str, Any] = {}
        "Fields of the job that are not the default's."
        self._happenings: list[tuple[float, Callable[[], object]]] = []

    def at(self, seconds: float, what: Callable[[], object]) -> None:
        """Have it happen, so many seconds after the first query."""
        self._happenings.append((seconds, what))

    def times(self, every: float) -> Iterator[float]:
        """From half of ``every`` on, as long as what comes of it can still be seen."""
        at = every / 2
        while at < self.seconds - 1.0:
            yield at
            at += every

    def unbound(self, *, is_up: bool = True, discard: int = DISCARD) -> Unbound:
        home, slow_port = self._folder / str(len(self.upstreams)), SlowNames(self.stack).port
        server = Unbound(home, self._site.chain, slow_port, self.stack, discard=discard)
        if is_up:
            server.start_and_wait()
        self.upstreams.append(server)
        return server

    def scripted(self, conduct: Conduct = answers) -> Scripted:
        server = Scripted(self._site.chain, self.stack, conduct)
        self.upstreams.append(server)
        return server

    def impostor(self) -> Scripted:
        """Its certificate is by an authority that nobody trusts."""
        chain = self._folder / f"impostor{len(self.upstreams)}.pem"
        trustme.CA().issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(chain))
        server = Scripted(chain, self.stack)
        self.upstreams.append(server)
        return server

    def nobody(self, port: int) -> None:
        """An upstream that is a port alone."""
        self.upstreams.append(Nobody(port))

    def act(self, began: float, until: threading.Event) -> None:
        """Let happen what is to happen, until the program has ended."""
        for at, what in sorted(self._happenings, key=lambda happening: happening[0]):
            if until.wait(max(0.0, began + at - time.monotonic())):
                return
            what()


@dataclass
class Nobody:
    """A port without a server."""

    port: int
    name: str = HOST

    def asked(self) -> Counter[str]:
        return Counter()


Arrange = Callable[[Stage], None]


def killed(stage: Stage) -> None:
    servers = [stage.unbound(), stage.unbound()]
    for number, at in enumerate(stage.times(2.5)):
        victim = servers[number % 2]
        stage.at(at, lambda victim=victim: victim.send(signal.SIGKILL))
        stage.at(at + BACK, victim.start)


def restarted(stage: Stage) -> None:
    server = stage.unbound()
    for at in stage.times(5.0):
        stage.at(at, lambda: server.send(signal.SIGTERM))
        stage.at(at + BACK, server.start)


def stopped(stage: Stage) -> None:
    first, _ = stage.unbound(), stage.unbound()
    for at in stage.times(min(10.0, stage.seconds / 2)):
        stage.at(at, lambda: first.send(signal.SIGSTOP))
        stage.at(at + 3.0, lambda: first.send(signal.SIGCONT))


def slow(stage: Stage) -> None:
    stage.unbound(discard=10_000)
    stage.unbound()
    stage.job = {"has_slow_names": True}


def discarded(stage: Stage) -> None:
    stage.unbound()
    stage.job = {"has_slow_names": True}


def impostor(stage: Stage) -> None:
    stage.impostor()
    stage.unbound()


def closing(stage: Stage) -> None:
    stage.scripted(lambda number: "close" if number == 20 else "answer")


def dropping(stage: Stage) -> None:
    def conduct(number: int) -> str:
        if number % 7:
            return "answer"
        stage.dropped += 1
        return "drop"

    stage.scripted(conduct)


def forked(stage: Stage) -> None:
    stage.unbound(discard=10_000)
    stage.job = {"fork_every": 5.0}


def absent(stage: Stage) -> None:
    server = stage.unbound(is_up=False)
    stage.at(2.0, server.start)


def all_refused(stage: Stage) -> None:
    stage.impostor()
    stage.impostor()


def unreachable(stage: Stage) -> None:
    stage.nobody(unused_port())
    stage.nobody(stage.stack.enter_context(dropping_syns()))
    stage.job = {"timeout": 1.0}


def moved(stage: Stage) -> None:
    stage.scripted()
    stage.job = {"change_every": 2.0}


def suspended(stage: Stage) -> None:
    server, every = stage.scripted(), 5.0
    for at in stage.times(every):
        stage.at(at, server.forget)
    stage.job = {"sleep_every": every}


@dataclass(frozen=True)
class Scenario:
    """Something that happens, and what must hold then."""

    arrange: Arrange
    what: str
    law: Law

    @property
    def name(self) -> str:
        return self.arrange.__name__.replace("_", "-")


SCENARIOS = [
    Scenario(killed, "of two upstreams one is killed every 2.5 s, and is back after 0.3 s", Law(slowest=0.1)),
    Scenario(restarted, "the only upstream is restarted every 5 s, and is back after 0.3 s", Law()),
    Scenario(stopped, "the first of two upstreams is stopped (SIGSTOP) for 3 s, every 10 s", Law(slowest=2.0)),
    Scenario(slow, "a name takes 2 s, every 3 s", Law(doubled=0, unused=(1,))),
    Scenario(discarded, "a name takes 2 s, and unbound closes after 1.9 s instead of answering", Law()),
    Scenario(impostor, "the first of two upstreams has a wrong certificate", Law(slowest=1.0, doubled=0, refused=(0,))),
    Scenario(
        closing, "the only upstream closes at each connection's 20th query, and does not answer it", Law(slowest=0.5)
    ),
    Scenario(
        dropping,
        "the only upstream leaves each seventh query unanswered",
        Law(lost=None, lost_are_dropped=True, slowest=5.1),
    ),
    Scenario(
        forked,
        "the program forks every 5 s, while a query is pending; each child asks too, and is answered",
        Law(doubled=0),
    ),
    Scenario(absent, "the only upstream is not there at first, and up after 2 s", Law(slowest=3.5)),
    Scenario(
        all_refused,
        "both upstreams have a wrong certificate",
        Law(lost=None, all_fail=True, slowest=0.1, refused=(0, 1)),
    ),
    Scenario(
        unreachable,
        "of two upstreams one refuses TCP, the other is silent; queries have 1 s",
        Law(lost=None, all_fail=True, slowest=1.2),
    ),
    Scenario(moved, "the network changes every 2 s", Law(slowest=0.1, doubled=0, resumed=0)),
    Scenario(
        suspended,
        "the machine sleeps for an hour every 5 s, by a clock that jumps; its connections lead nowhere then",
        Law(slowest=2.0, resumed=0),
    ),
]
