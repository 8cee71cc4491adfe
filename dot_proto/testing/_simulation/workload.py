"""Programs that ask and hosts that answer, with our engines; and the network on which they meet.

What they do is drawn at random within habits, and the habits of a run are drawn at its beginning.  So one run is all
resets, and the next is calm and full of zone transfers.  If habits were drawn anew each time, all runs would be alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from ... import ClientConfiguration, QueryLost, QueryReceived, ResponseReceived, ServerConfiguration, make_query
from ..messages import (
    ANOTHERS,
    AXFR,
    RD,
    SIG,
    TXT,
    message,
    opt,
    query_of_length,
    question_of,
    record,
    response_to,
)
from .clients import open_client
from .credentials import Identities, Meeting
from .drivers import ClientDriver, DriverOptions, ServerDriver
from .network import Link, LinkConditions, Scheduler, Segmentation
from .servers import CheckedServer

SHARED_NAME: Final = "same.example"
"What many ask at the same time; every other name is asked once in a run, so that no duplicate can pass for new."

LAST: Final = b" last"
"In the text of an answer: nothing more will come."

SIGNATURE: Final = record(b"\0", SIG, bytes(18), rdclass=255)
"The end of a query signed by SIG(0), as far as anybody looks at it (RFC 2931, section 3)."

TRIES: Final = 2
"How often a query is asked that is lost and safe to resend."

ANSWER_TIMEOUT: Final = 60.0
"Seconds after which a host gives up a query that it cannot answer."


class Dialler(Protocol):
    """A client at its end of a link, as a host sees it."""

    def verify(self) -> None:
        """The handshake is over."""

    def fail(self, text: str) -> None:
        """There will be none."""


class Listener(Protocol):
    """A server, as a client sees it."""

    def accept(self, link: Link, client: Dialler) -> None:
        """A client has dialled."""


class Network:
    """Where links come from, each with its conditions and perhaps its mishap."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._links = 0
        self._mishaps = scheduler.pick([0.0, 0.05, 0.3])
        self._latencies: list[tuple[float, float]] = [(0.0, 0.0), (0.02, 0.05), (0.1, 0.1), (0.02, 1.0), (0.5, 2.0)]
        usual = [Segmentation.AS_SENT, Segmentation.JOINED, Segmentation.CUT]
        self._segmentations = scheduler.pick([[Segmentation.AS_SENT], usual, [*usual, *usual, *Segmentation]])
        self._stalls = scheduler.pick([0.0, 0.0, 0.02])
        self._options = [
            DriverOptions(),
            DriverOptions(joins=False),
            DriverOptions(lag=scheduler.pick([0.25, 3.0])),
            DriverOptions(is_restless=True),
        ]

    def link(self) -> Link:
        """A new link."""
        scheduler = self._scheduler
        link = Link(scheduler, self._links, self._conditions(), self._conditions())
        self._links += 1
        scheduler.counters["connections"] += 1
        if scheduler.chance(self._mishaps):
            mishap = scheduler.pick([link.reset, link.cut, link.cut_up, link.cut_down])
            scheduler.call_later(scheduler.seconds(0.0, scheduler.pick([2.0, 20.0, 200.0])), mishap)
        return link

    def options(self) -> DriverOptions:
        """How a driver on it goes about its work."""
        return self._scheduler.pick(self._options)

    def _conditions(self) -> LinkConditions:
        scheduler = self._scheduler
        return LinkConditions(*scheduler.pick(self._latencies), self._stalls, scheduler.pick(self._segmentations))


class Host:
    """A server's machine: it answers after some thought, goes down, and comes up again."""

    def __init__(self, scheduler: Scheduler, network: Network) -> None:
        self._scheduler = scheduler
        self._network = network
        self._is_up = True
        self._drivers: list[ServerDriver] = []
        self._thoughts = scheduler.pick([[0.0], [0.0, 0.02, 0.5], [0.0, 0.0, 1.0, 8.0, 40.0]])
        self._uptime = scheduler.pick([18_000.0, 90_000.0, 360_000.0])
        max_outstanding = scheduler.pick([1_024, 1_024, 4])
        self._configuration = ServerConfiguration(
            idle_timeout=scheduler.pick([10.0, 10.0, 10.0, 30.0, 30.0, 2.0, 0.25, 0.0, 6_553.5]),
            idle_grace=scheduler.pick([2.0, 2.0, 0.0]),
            close_timeout=scheduler.pick([5.0, 0.5, 30.0]),
            max_outstanding=max_outstanding,
            max_outstanding_octets=scheduler.pick([1 << 20, 1 << 20, 2_000]),
            hard_outstanding=scheduler.pick([8_192, 2 * max_outstanding, max_outstanding]),
            max_queries=scheduler.pick([None, None, None, 20, 1]),
            max_duration=scheduler.pick([None, None, 600.0, 30.0]),
            max_unsolicited=scheduler.pick([64, 3]),
            padding_block=scheduler.pick([468, 468, None]),
        )
        scheduler.call_randomly(self._uptime, self._go_down)

    def accept(self, link: Link, client: Dialler) -> None:
        """A client has dialled; a host that is down refuses, or says nothing at all."""
        scheduler = self._scheduler
        if not self._is_up:
            if scheduler.chance(0.5):
                client.fail("connection refused")
            return
        driver = ServerDriver(CheckedServer(scheduler, link, self._configuration), self._network.options(), self._asked)
        self._drivers = [*(each for each in self._drivers if each.connection.ended is None), driver]
        scheduler.call_later(scheduler.seconds(0.0, 0.5), self._shake_hands, driver, client)
        if scheduler.chance(0.05):
            scheduler.call_later(scheduler.seconds(0.0, 60.0), self._close, driver)

    def _shake_hands(self, driver: ServerDriver, client: Dialler) -> None:
        if driver.connection.link.is_broken or driver.connection.ended is not None:
            return
        if self._scheduler.chance(0.03):
            client.fail("alert: handshake_failure")
            return
        client.verify()
        driver.begin()

    def _asked(self, driver: ServerDriver, event: QueryReceived) -> None:
        scheduler, query = self._scheduler, event.message
        thought = scheduler.pick(self._thoughts)
        if scheduler.chance(0.03):
            scheduler.call_later(ANSWER_TIMEOUT, self._decline, driver, event.query)
        elif int.from_bytes(question_of(query)[-4:-2]) == AXFR:
            scheduler.call_later(thought, self._transfer, driver, event, scheduler.number(0, 4))
        else:
            scheduler.call_later(thought, self._answer, driver, event)

    def _answer(self, driver: ServerDriver, event: QueryReceived) -> None:
        if self._scheduler.chance(0.1):
            driver.server.refuse(event.query, self._scheduler.pick([2, 5, 16]))
        else:
            driver.server.respond(event.query, self._response(driver, event, LAST))
        driver.settle()

    def _transfer(self, driver: ServerDriver, event: QueryReceived, left: int) -> None:
        """A response in several messages (RFC 5936, section 2.2); any may be an error, and is the last then."""
        if self._scheduler.chance(0.1):
            driver.server.refuse(event.query, self._scheduler.pick([5, 16]))
        elif (
            driver.server.respond(event.query, self._response(driver, event, b"" if left else LAST), more=left > 0)
            and left
        ):
            self._scheduler.call_later(self._scheduler.seconds(0.0, 2.0), self._transfer, driver, event, left - 1)
        driver.settle()

    def _response(self, driver: ServerDriver, event: QueryReceived, word: bytes) -> bytes:
        """A response that says to which query of which connection it belongs, so that no two are alike."""
        text = b"link %d query %d%b" % (driver.connection.link.number, event.query, word)
        filler = self._scheduler.pick([0, 0, 100, 1_000])
        if self._scheduler.chance(0.005):
            filler = 60_000
        opts = self._scheduler.pick([[], [], [opt()], [ANOTHERS]])
        return response_to(event.message, record(kind=TXT, data=text + bytes(filler)), additionals=opts)

    def _decline(self, driver: ServerDriver, handle: int) -> None:
        driver.server.decline(handle)
        driver.settle()

    def _close(self, driver: ServerDriver) -> None:
        driver.server.close(self._scheduler.pick([None, 0.0, 1.0, 30.0]))
        driver.settle()

    def _go_down(self) -> None:
        scheduler, drivers = self._scheduler, self._drivers
        scheduler.note("a host goes down")
        scheduler.counters["restarts"] += 1
        self._is_up, self._drivers = False, []
        go = scheduler.pick([self._close, _crash, _vanish])
        for driver in drivers:
            go(driver)
        scheduler.call_later(scheduler.seconds(0.0, scheduler.pick([300.0, 7_000.0])), self._come_up)

    def _come_up(self) -> None:
        self._is_up = True
        self._scheduler.call_randomly(self._uptime, self._go_down)


@dataclass(frozen=True, slots=True)
class Question:
    """What a program wants to know."""

    message: bytes
    timeout: float | None
    multiple: bool
    tries: int = 1


class Program:
    """A client's machine: it asks in bursts, on one connection at a time, and again what was lost and is safe."""

    def __init__(
        self, scheduler: Scheduler, network: Network, hosts: Sequence[Listener], identities: Identities
    ) -> None:
        self._scheduler = scheduler
        self._network = network
        self._hosts = hosts
        self._identities = identities
        self._driver: ClientDriver | None = None
        self._asked: dict[tuple[int, int], Question] = {}
        self._names = 0
        self._number = scheduler.number(0, 99_999)
        self._pause = scheduler.pick([7_200.0, 14_400.0, 43_200.0])
        self._cancels = scheduler.pick([0.0, 0.02, 0.3])
        self._doubts = scheduler.pick([0.0, 0.05, 0.5])
        self._ids_repeat = scheduler.chance(0.5)
        self._configuration = ClientConfiguration(
            query_timeout=scheduler.pick([5.0, 5.0, 5.0, 1.0, 30.0]),
            idle_timeout=scheduler.pick([10.0, 10.0, 10.0, 60.0, 2.0, 0.0]),
            max_idle_timeout=scheduler.pick([300.0, 5.0]),
            close_timeout=scheduler.pick([2.0, 0.0, 30.0]),
            max_in_flight=scheduler.pick([1_024, 1_024, 16, 4, 1]),
            max_queries=scheduler.pick([*[1 << 23] * 6, 20, 3]),
            max_unsolicited=scheduler.pick([64, 64, 3, 0]),
            padding_block=scheduler.pick([128, 128, None]),
            keepalive=scheduler.pick([True, True, False]),
        )
        scheduler.call_randomly(self._pause, self._burst)

    def _burst(self) -> None:
        """Some questions: one, a flurry, or one now and then around the times at which idle connections end."""
        scheduler = self._scheduler
        gaps, most = scheduler.pick([([0.0], 1), ([0.0, 0.0, 0.02, 0.2], 24), ([0.5, 2.0, 5.0, 9.0, 10.0, 12.0], 12)])
        delay = 0.0
        for _ in range(scheduler.number(1, most)):
            scheduler.call_later(delay, self._ask, self._question())
            delay += scheduler.pick(gaps)
        scheduler.call_randomly(self._pause, self._burst)

    def _question(self) -> Question:
        scheduler, message_id = self._scheduler, self._scheduler.number(0, 3)
        timeout = scheduler.pick([0.0, 0.25, 1.0, 45.0]) if scheduler.chance(0.2) else None
        self._names += 1
        name = f"u{self._names}.p{self._number}.example"
        if scheduler.chance(0.1):
            return Question(make_query(name, "AXFR", message_id=message_id), timeout, multiple=True)
        if scheduler.chance(0.2):
            name = SHARED_NAME
        query = make_query(name, message_id=message_id)
        if scheduler.chance(0.1):
            query = message(question_of(query), id=message_id, flags=RD)
        elif scheduler.chance(0.05):
            query = query[:2] + b"\x28" + query[3:]  # UPDATE (RFC 2136, section 3.1)
        elif scheduler.chance(0.05):
            query = message(question_of(query), id=message_id, flags=RD, additionals=[opt(), SIGNATURE])
        elif scheduler.chance(0.02):
            query = query_of_length(scheduler.number(100, 2_000))
        return Question(query, timeout, multiple=False)

    def _ask(self, question: Question) -> None:
        scheduler, driver = self._scheduler, self._driver
        if driver is None or (not driver.is_open and not scheduler.chance(0.1)):
            driver = self._driver = self._dial()
        handle = driver.client.ask(question.message, timeout=question.timeout, multiple=question.multiple)
        if handle is not None:
            self._asked[driver.connection.link.number, handle] = question
            if scheduler.chance(self._cancels):
                scheduler.call_later(scheduler.seconds(0.0, 8.0), self._cancel, driver, handle)
        driver.settle()

    def _dial(self) -> ClientDriver:
        scheduler, link = self._scheduler, self._network.link()
        meeting: Meeting = scheduler.pick(
            self._identities.doubtful if scheduler.chance(self._doubts) else self._identities.honest
        )
        connection = open_client(
            scheduler,
            link,
            meeting.policy,
            self._configuration,
            earns_trust=meeting.earns_trust,
            ids_repeat=self._ids_repeat,
        )
        driver = ClientDriver(connection, meeting.evidence, self._network.options())
        link.is_foul = link.is_foul or not meeting.earns_trust
        driver.answered, driver.lost = partial(self._answered, driver), partial(self._lost, driver)
        scheduler.call_later(scheduler.seconds(0.0, 0.2), scheduler.pick(self._hosts).accept, link, driver)
        if scheduler.chance(0.1):
            scheduler.call_later(scheduler.seconds(0.0, 60.0), self._close, driver)
        return driver

    def _answered(self, driver: ClientDriver, event: ResponseReceived) -> None:
        if event.more and LAST in event.message and driver.client.is_pending(event.query):
            driver.client.end_exchange(event.query)

    def _lost(self, driver: ClientDriver, event: QueryLost) -> None:
        question = self._asked[driver.connection.link.number, event.query]
        if event.safe_to_resend and question.tries < TRIES:
            self._scheduler.counters["resent"] += 1
            again = Question(question.message, question.timeout, question.multiple, question.tries + 1)
            self._scheduler.call_later(0.0, self._ask, again)

    def _cancel(self, driver: ClientDriver, handle: int) -> None:
        driver.client.cancel(handle)
        driver.settle()

    def _close(self, driver: ClientDriver) -> None:
        driver.client.close(self._scheduler.pick([None, 0.0, 1.0, 30.0]))
        driver.settle()


def _crash(driver: ServerDriver) -> None:
    driver.connection.link.reset()


def _vanish(driver: ServerDriver) -> None:
    driver.connection.link.cut()
