"""Hours of a stub resolver's life in seconds: ``python -m dot_proto.testing.resolver --hours 10000 --seed 1``.

Upstreams die, heal, fall silent, answer late, or are impostors; the machine is in another network now and then; callers
ask in bursts, and give up.

At each step it is checked that every query has one fate and by its deadline, that no octet reaches a server that was
not authenticated, that no name leaves more than three times, and that connections and dials stay within their limits;
at the end of a run, when every upstream works again, that the next query is answered soon, and nothing is left.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

from ..resolver.configuration import MAX_SENDS, ResolverConfiguration, Strategy
from ..resolver.upstream import Upstream
from ._simulation.credentials import certificate
from ._simulation.network import Scheduler, SimulationError
from ._simulation.resolver_driver import NAME, Driver
from ._simulation.upstreams import Conduct, Handshake, Reachability, Server

__all__ = ["HOURS", "SimulationError", "check_resolver", "main"]

HOURS: Final = 2.0
"Simulated hours of one run, before everything heals."

_MOST_DIALS: Final = 100
"Vain dials of one address in any minute: the delay grows from 0.1 s to 1 s while queries wait, less half as jitter."


def check_resolver(seed: int) -> Counter[str]:
    """Do the run of a seed, 0 or more; returns how often things happened.

    Raises :class:`SimulationError` where an invariant does not hold; the same seed does the same run.
    """
    scheduler = Scheduler(seed, HOURS)
    life = _Life(scheduler)
    scheduler.run()
    life.driver.check_end()
    counters = scheduler.counters
    fates = (
        counters["answered"]
        + counters["cancelled"]
        + sum(counters[reason] for reason in ("timed-out", "no-upstream", "lost", "closed"))
    )
    scheduler.require(fates == counters["queries"], "{} fates of {} queries", fates, counters["queries"])
    for server in life.servers.values():
        most = max(server.seen.values(), default=0)
        counters["most sends"] = max(counters["most sends"], most)
    sends = sum((server.seen for server in life.servers.values()), Counter[bytes]())
    scheduler.require(max(sends.values(), default=0) <= MAX_SENDS, "a name left more than {} times", MAX_SENDS)
    for server in life.servers.values():
        dials = list(server.dials.values())
        for first, last in zip(dials, dials[_MOST_DIALS:], strict=False):
            scheduler.require(last - first > 60.0, "{} vain dials of one address in a minute", _MOST_DIALS)
    return counters


class _Life:
    """Upstreams, a program that asks, and what befalls them."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        leaf = certificate(bytes(32))
        self.servers = {address: Server(scheduler, address) for address in self._addresses()}
        addresses = list(self.servers)
        upstreams = [Upstream(name=NAME, addresses=(addresses[0],))]
        if len(addresses) > 1:
            upstreams.append(Upstream(name=NAME, addresses=tuple(addresses[1:]), port=8853))
        self._sound = scheduler.chance(0.3)
        if not self._sound and scheduler.chance(0.2):
            upstreams[0] = Upstream(name=NAME, bootstrap="system")
        configuration = ResolverConfiguration(
            strategy=Strategy.ORDERED if self._sound else scheduler.pick(list(Strategy)),
            max_connections=scheduler.pick((1, 1, 1, 2)),
            max_waiting=scheduler.pick((1000, 20)),
        )
        self.driver = Driver(scheduler, leaf, self.servers, upstreams, configuration, all_answered=self._sound)
        self._is_over = False
        scheduler.call_randomly(10.0, partial(self._unless_over, self._burst))
        scheduler.call_randomly(60.0, partial(self._unless_over, self._change))
        scheduler.call_randomly(1800.0, self._move)
        scheduler.call_later(HOURS * 3600, self._heal)

    def _addresses(self) -> list[str]:
        return ["192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2"][: self._scheduler.number(1, 4)]

    def _unless_over(self, act: Callable[[], None]) -> None:
        if not self._is_over:
            act()

    def _burst(self) -> None:
        scheduler = self._scheduler
        for _ in range(scheduler.pick((1, 1, 2, 5, 40))):
            scheduler.call_later(scheduler.seconds(0.0, scheduler.pick((0.0, 3.0))), self._ask)
        scheduler.call_randomly(scheduler.pick((0.5, 10.0, 60.0)), partial(self._unless_over, self._burst))

    def _ask(self) -> None:
        scheduler = self._scheduler
        handle = self.driver.ask(scheduler.pick((5.0, 5.0, 5.0, 0.5, 20.0)))
        if handle is not None and scheduler.chance(0.1):
            scheduler.call_later(scheduler.seconds(0.0, 2.0), self.driver.cancel, handle)

    def _change(self) -> None:
        scheduler = self._scheduler
        servers = list(self.servers.values())[self._sound :]
        if not servers:
            return
        server = scheduler.pick(servers)
        if scheduler.chance(0.5):
            server.kill(badly=scheduler.chance(0.5))
        server.conduct = scheduler.pick(
            (
                Conduct(),
                Conduct(slow=0.2),
                Conduct(),
                Conduct(reachability=Reachability.REFUSES),
                Conduct(reachability=Reachability.DROPS),
                Conduct(handshake=Handshake.STALLS, is_mute=True),
                Conduct(handshake=Handshake.FAILS),
                Conduct(handshake=Handshake.IMPOSTOR),
                Conduct(is_mute=True),
                Conduct(lost=0.15),
                Conduct(closes_after=scheduler.number(1, 20), closes_badly=scheduler.chance(0.5)),
            )
        )
        scheduler.note(f"{server.address}: {server.conduct}")
        scheduler.call_randomly(scheduler.pick((3.0, 60.0, 300.0)), partial(self._unless_over, self._change))

    def _move(self) -> None:
        self.driver.network_changed()
        self._scheduler.call_randomly(1800.0, self._move)

    def _heal(self) -> None:
        """Everything works again, and the machine is in another network, so that no refusal of before counts."""
        self._is_over = True
        for server in self.servers.values():
            server.conduct = Conduct()
        self._scheduler.call_later(30.0, self._last_question)

    def _last_question(self) -> None:
        self.driver.network_changed()
        before = self._scheduler.counters["answered"]
        self.driver.ask(20.0)
        self._scheduler.call_later(21.0, self._end, before)

    def _end(self, before: int) -> None:
        others = list(self.servers.values())[1:]
        if self._sound:
            shown = sum(server.seen.total() for server in others)
            self._scheduler.require(not shown, "{} names were shown to the second upstream without need", shown)
        self._scheduler.require(
            self._scheduler.counters["answered"] > before, "all works again, and a query is not answered"
        )
        self.driver.close(2.0)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns 0, or 1 where an invariant does not hold."""
    parser = argparse.ArgumentParser(
        prog="python -m dot_proto.testing.resolver", description="Simulate a stub resolver among upstreams that fail."
    )
    parser.add_argument("--hours", type=float, default=100.0, help="simulated hours (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first run; the others follow (default %(default)s)")
    arguments = parser.parse_args(argv)
    count = math.ceil(arguments.hours / HOURS)
    counters = Counter[str]()
    for seed in range(arguments.seed, arguments.seed + count):
        try:
            found = check_resolver(seed)
        except SimulationError as error:
            print(f"FAILED: {error}\nAgain: python -m dot_proto.testing.resolver --hours {HOURS:g} --seed {seed}")
            return 1
        most = max(counters["most sends"], found.pop("most sends"))
        counters += found
        counters["most sends"] = most
    print(f"{count * HOURS:,.0f} hours, seeds {arguments.seed} to {arguments.seed + count - 1}; nothing found")
    print("\n".join(f"{number:12,}  {what}" for what, number in sorted(counters.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
