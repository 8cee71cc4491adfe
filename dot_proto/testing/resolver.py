"""Hours of a stub resolver's life in seconds: ``python -m dot_proto.testing.resolver --hours 10000 --seed 1``.

Upstreams die and restart, are out of reach, fall silent, answer late, in drips or not at all, close when they like, or
are impostors; their addresses change.  The machine sleeps, moves to another network, and learns of it late.  Callers
ask in bursts, give up, ask for what must not be done twice, and close.

At each step the laws in ``_simulation/resolver_laws.py`` are checked: every query has one fate and by its deadline, no
octet reaches a server that was not authenticated, no name leaves more than three times, nor goes to a second upstream
while the first works, dials and connections stay within their limits, and nothing is left at the end.  When all
upstreams work again, the next query is answered soon.

One seed is one run of :data:`RUN_HOURS`.  The command does one run after another, and stops at the first that fails.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Final

from ..configuration import ClientConfiguration
from ..resolver.configuration import ResolverConfiguration, Strategy
from ..resolver.upstream import Upstream
from ._simulation.command import Command, Summary
from ._simulation.network import End, Scheduler, Segmentation, SimulationError
from ._simulation.resolver_driver import NAME, Driver
from ._simulation.upstreams import Conduct, Handshake, Reachability, Server

__all__ = ["RUN_HOURS", "SimulationError", "Summary", "check_resolver", "main"]

RUN_HOURS: Final = 2
"Simulated hours of one run; then everything heals, and must come to its end."

_CALM: Final = 25.0
"Seconds in which all upstreams work, now and then: longer than any query has."


def check_resolver(seed: int) -> Summary:
    """Do the run of a seed, 0 or more; raises :class:`SimulationError` where a law does not hold."""
    scheduler = Scheduler(seed, RUN_HOURS)
    life = _Life(scheduler)
    scheduler.run()
    life.driver.check_end()
    counters = scheduler.counters
    fates = sum(counters[fate] for fate in ("answered", "cancelled", "timed-out", "no-upstream", "lost", "closed"))
    scheduler.require(fates == counters["queries"], "{} fates of {} queries", fates, counters["queries"])
    return Summary(RUN_HOURS, counters, scheduler.digest())


class _Life:
    """Upstreams, a program that asks, and what befalls them.

    In some runs the first upstream works all the time: then it is the only one that is asked, and always answers.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._first_works = scheduler.chance(0.3)
        servers = self._upstreams()
        self._servers = [server for them in servers.values() for server in them]
        self._unreliable = self._servers[self._first_works :]
        self.driver = Driver(scheduler, servers, self._configuration(), first_works=self._first_works)
        self._is_calm = self._is_over = False
        self._call_randomly(10.0, self._burst)
        self._call_randomly(60.0, self._change)
        self._call_randomly(1800.0, self._move)
        self._call_randomly(3600.0, self._sleep)
        self._call_randomly(1800.0, self._grow_calm)
        if scheduler.chance(0.1):
            self._call_randomly(3600.0, self._close)
        scheduler.call_later(RUN_HOURS * 3600, self._end)

    def _upstreams(self) -> dict[Upstream, list[Server]]:
        scheduler = self._scheduler
        first = [Server(scheduler, "192.0.2.1")]
        others = [Server(scheduler, address) for address in ("2001:db8::1", "192.0.2.2", "2001:db8::2")]
        others = others[: scheduler.number(0, 3)]
        upstream = Upstream(name=NAME, addresses=(first[0].address,))
        if not self._first_works and scheduler.chance(0.2):
            first += [Server(scheduler, "192.0.2.3"), Server(scheduler, "2001:db8::3")]
            upstream = Upstream(name=NAME, bootstrap="system")
        upstreams = {upstream: first}
        if others:
            addresses = tuple(server.address for server in others)
            upstreams[Upstream(name=NAME, addresses=addresses, is_opportunistic=scheduler.chance(0.1))] = others
        return upstreams

    def _configuration(self) -> ResolverConfiguration:
        scheduler = self._scheduler
        waiting, in_flight = (1000, 100) if self._first_works else scheduler.pick(((1000, 100), (20, 100), (20, 4)))
        return ResolverConfiguration(
            strategy=Strategy.ORDERED if self._first_works or scheduler.chance(0.5) else scheduler.pick(list(Strategy)),
            max_connections=scheduler.pick((1, 1, 1, 2)),
            max_waiting=waiting,
            failover_rcodes=scheduler.pick((frozenset(), frozenset({2}))),
            allow_mixed=True,
            connection=ClientConfiguration(max_in_flight=in_flight),
        )

    def _call_randomly(self, mean: float, act: Callable[[], None]) -> None:
        """Have it done once in so many seconds; what falls into a calm, is done later."""
        self._scheduler.call_randomly(mean, partial(self._unless_calm, mean, act))

    def _unless_calm(self, mean: float, act: Callable[[], None]) -> None:
        if self._is_calm:
            self._call_randomly(mean, act)
        else:
            act()

    # What a program does.

    def _burst(self) -> None:
        scheduler = self._scheduler
        span, count = scheduler.pick((0.0, 3.0)), scheduler.pick((1, 1, 2, 5, 40))
        for _ in range(0 if self.driver.is_asleep else count):
            self.driver.call_later(scheduler.seconds(0.0, span), self._ask)
        self._call_randomly(scheduler.pick((0.5, 10.0, 60.0)), self._burst)

    def _ask(self) -> None:
        chance = self._scheduler.chance
        timeout = self._scheduler.pick((5.0, 5.0, 5.0, 0.5, 20.0))
        self.driver.ask(timeout, is_safe=not chance(0.05), is_cancelled=chance(0.1))

    def _close(self) -> None:
        """The program closes the resolver in the midst of asking; where that is before the end, a second time there."""
        self._ask_some()
        self.driver.call_later(
            self._scheduler.pick((0.0, 0.1)), partial(self.driver.close, self._scheduler.pick((0.0, 2.0, 30.0)))
        )

    def _ask_some(self) -> None:
        for _ in range(5):
            self.driver.call_later(0.0, self._ask)

    # What upstreams do.

    def _change(self) -> None:
        scheduler = self._scheduler
        if self._unreliable:
            server = scheduler.pick(self._unreliable)
            if scheduler.chance(0.5):
                server.kill(scheduler.pick((*End, None)))
            if scheduler.chance(0.2):
                server.restart()
            else:
                server.conduct = self._conduct()
            scheduler.note(f"{server.address}: {server.conduct}")
        self._call_randomly(scheduler.pick((3.0, 60.0, 300.0)), self._change)

    def _conduct(self) -> Conduct:
        scheduler = self._scheduler
        return scheduler.pick(
            (
                Conduct(),
                Conduct(),
                Conduct(reachability=Reachability.REFUSES),
                Conduct(reachability=Reachability.DROPS),
                Conduct(handshake=Handshake.STALLS, is_mute=True),
                Conduct(handshake=Handshake.FAILS),
                Conduct(handshake=Handshake.IMPOSTOR),
                Conduct(is_mute=True),
                Conduct(slow=b"37"),
                Conduct(lost=b"9"),
                Conduct(failing=b"15"),
                Conduct(segmentation=scheduler.pick(list(Segmentation)), stalls=0.02),
                Conduct(says_go_after=scheduler.number(1, 20)),
                Conduct(ends_after=scheduler.number(1, 20), end=scheduler.pick(list(End))),
            )
        )

    # What the machine lives through.

    def _move(self) -> None:
        """It moves to another network, while its programs ask."""
        self._ask_some()
        self.driver.call_later(0.25, self._change_network)
        self._call_randomly(1800.0, self._move)

    def _change_network(self) -> None:
        """It has another address, or has it still; and learns at once, or later, that the network is another one."""
        scheduler, driver = self._scheduler, self.driver
        self._ask()
        if scheduler.chance(0.5):
            driver.lose_address()
        if self._first_works or scheduler.chance(0.5):
            driver.network_changed()
        else:
            driver.call_later(scheduler.seconds(0.0, 10.0), driver.network_changed)

    def _sleep(self) -> None:
        scheduler = self._scheduler
        self.driver.sleep()
        wake = partial(self.driver.wake, clock_stood_still=scheduler.chance(0.5))
        scheduler.call_later(scheduler.pick((2.0, 60.0, 1200.0)), wake)
        scheduler.call_later(1200.0, self._call_randomly, 3600.0, self._sleep)

    def _grow_calm(self) -> None:
        """All upstreams work, and the next query is answered soon, though the connections of before may be dead."""
        scheduler = self._scheduler
        if self.driver.is_asleep and not self._is_over:
            self._call_randomly(1800.0, self._grow_calm)
            return
        self._is_calm = True
        for server in self._servers:
            if server in self._unreliable and scheduler.chance(0.5):
                server.kill(None)
            server.heal()
        self.driver.call_later(0.0, self._ask_in_calm)
        scheduler.call_later(_CALM, self._grow_restless)

    def _ask_in_calm(self) -> None:
        if self._scheduler.chance(0.5):
            self.driver.network_changed()
        self.driver.ask(20.0, all_works=True)

    def _grow_restless(self) -> None:
        self._is_calm = False
        self._call_randomly(1800.0, self._grow_calm)

    def _end(self) -> None:
        """Everything works again, and comes to its end; what was on its way may take its time."""
        self._is_over = True
        self._grow_calm()
        self._scheduler.call_later(1300.0, self._close)


_COMMAND: Final = Command(
    "resolver",
    "Simulate a stub resolver among upstreams that fail, and check every law.",
    RUN_HOURS,
    lambda seed: check_resolver(seed),
    default_hours=100,
)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns 0, 1 where a law does not hold, or 130 when interrupted."""
    return _COMMAND.main(argv)


if __name__ == "__main__":
    sys.exit(main())
