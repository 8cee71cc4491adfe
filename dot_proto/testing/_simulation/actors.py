"""Programs that ask and hosts that answer, with our engines; and the network on which they meet.

What they do is drawn by lot within habits, and the habits of a history are drawn at its beginning: one history is all
resets, the next is calm and full of zone transfers.  (Drawn anew each time, everything would be lukewarm.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from ... import ClientConfiguration, QueryLost, QueryReceived, ResponseReceived, ServerConfiguration, make_query
from ..messages import AXFR, RD, TXT, message, query_of_length, question_of, record, response_to
from .clients import open_client
from .credentials import Identities, Meeting
from .ends import ClientEnd, Manners, ServerEnd
from .network import Link, Shape, Weather, World
from .servers import ServerWatch

SHARED_NAME: Final = "same.example"
"What many ask at the same time; every other name is asked once in a history, so that no duplicate can pass for new."

LAST: Final = b" last"
"In the text of an answer: nothing more will come."

TRIES: Final = 2
"How often a query is asked that is lost and safe to resend (CON-9)."

PATIENCE: Final = 60.0
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
    """Where links come from, each with its weather and perhaps its mishap."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._links = 0
        self._mishaps = world.pick([0.0, 0.05, 0.3])
        self._latencies: list[tuple[float, float]] = [(0.0, 0.0), (0.02, 0.05), (0.1, 0.1), (0.02, 1.0), (0.5, 2.0)]
        usual = [Shape.AS_SENT, Shape.JOINED, Shape.CUT]
        self._shapes = world.pick([[Shape.AS_SENT], usual, [*usual, *usual, *Shape]])
        self._stalls = world.pick([0.0, 0.0, 0.02])
        self._manners = [
            Manners(),
            Manners(joins=False),
            Manners(lag=world.pick([0.25, 3.0])),
            Manners(is_restless=True),
        ]

    def link(self) -> Link:
        """A new link."""
        world = self._world
        link = Link(world, self._links, self._weather(), self._weather())
        self._links += 1
        world.tally["connections"] += 1
        if world.chance(self._mishaps):
            mishap = world.pick([link.reset, link.cut, link.cut_up, link.cut_down])
            world.later(world.seconds(0.0, world.pick([2.0, 20.0, 200.0])), mishap)
        return link

    def manners(self) -> Manners:
        """How a driver on it goes about its work."""
        return self._world.pick(self._manners)

    def _weather(self) -> Weather:
        world = self._world
        return Weather(*world.pick(self._latencies), self._stalls, world.pick(self._shapes))


class Host:
    """A server's machine: it answers after some thought, goes down, and comes up again."""

    def __init__(self, world: World, network: Network) -> None:
        self._world = world
        self._network = network
        self._is_up = True
        self._ends: list[ServerEnd] = []
        self._thoughts = world.pick([[0.0], [0.0, 0.02, 0.5], [0.0, 0.0, 1.0, 8.0, 40.0]])
        self._uptime = world.pick([18_000.0, 90_000.0, 360_000.0])
        max_outstanding = world.pick([1_024, 1_024, 4])
        self._configuration = ServerConfiguration(
            idle_timeout=world.pick([10.0, 10.0, 10.0, 30.0, 30.0, 2.0, 0.25, 0.0, 6_553.5]),
            idle_grace=world.pick([2.0, 2.0, 0.0]),
            close_timeout=world.pick([5.0, 0.5, 30.0]),
            max_outstanding=max_outstanding,
            max_outstanding_octets=world.pick([1 << 20, 1 << 20, 2_000]),
            hard_outstanding=world.pick([8_192, 2 * max_outstanding, max_outstanding]),
            max_queries=world.pick([None, None, None, 20, 1]),
            max_duration=world.pick([None, None, 600.0, 30.0]),
            max_unsolicited=world.pick([64, 3]),
            padding_block=world.pick([468, 468, None]),
        )
        world.now_and_then(self._uptime, self._go_down)

    def accept(self, link: Link, client: Dialler) -> None:
        """A client has dialled; a host that is down refuses, or says nothing at all."""
        world = self._world
        if not self._is_up:
            if world.chance(0.5):
                client.fail("connection refused")
            return
        end = ServerEnd(ServerWatch(world, link, self._configuration), self._network.manners(), self._asked)
        self._ends = [*(each for each in self._ends if each.watch.ended is None), end]
        world.later(world.seconds(0.0, 0.5), self._shake_hands, end, client)
        if world.chance(0.05):
            world.later(world.seconds(0.0, 60.0), self._close, end)

    def _shake_hands(self, end: ServerEnd, client: Dialler) -> None:
        if end.watch.link.is_broken or end.watch.ended is not None:
            return
        if self._world.chance(0.03):
            client.fail("alert: handshake_failure")
            return
        client.verify()
        end.begin()

    def _asked(self, end: ServerEnd, event: QueryReceived) -> None:
        world, query = self._world, event.message
        thought = world.pick(self._thoughts)
        if world.chance(0.03):
            world.later(PATIENCE, self._decline, end, event.query)
        elif int.from_bytes(question_of(query)[-4:-2]) == AXFR:
            world.later(thought, self._transfer, end, event, world.number(0, 4))
        else:
            world.later(thought, self._answer, end, event)

    def _answer(self, end: ServerEnd, event: QueryReceived) -> None:
        if self._world.chance(0.1):
            end.server.refuse(event.query, self._world.pick([2, 5, 16]))
        else:
            end.server.respond(event.query, self._response(end, event, LAST))
        end.settle()

    def _transfer(self, end: ServerEnd, event: QueryReceived, left: int) -> None:
        """A response in several messages (RFC 5936, section 2.2)."""
        if end.server.respond(event.query, self._response(end, event, b"" if left else LAST), more=left > 0) and left:
            self._world.later(self._world.seconds(0.0, 2.0), self._transfer, end, event, left - 1)
        end.settle()

    def _response(self, end: ServerEnd, event: QueryReceived, word: bytes) -> bytes:
        """A response that says to which query of which connection it belongs, so that no two are alike."""
        text = b"link %d query %d%b" % (end.watch.link.number, event.query, word)
        filler = self._world.pick([0, 0, 100, 1_000])
        if self._world.chance(0.005):
            filler = 60_000
        return response_to(event.message, record(kind=TXT, data=text + bytes(filler)))

    def _decline(self, end: ServerEnd, handle: int) -> None:
        end.server.decline(handle)
        end.settle()

    def _close(self, end: ServerEnd) -> None:
        end.server.close(self._world.pick([None, 0.0, 1.0, 30.0]))
        end.settle()

    def _go_down(self) -> None:
        world, ends = self._world, self._ends
        world.note("a host goes down")
        world.tally["restarts"] += 1
        self._is_up, self._ends = False, []
        go = world.pick([self._close, _crash, _vanish])
        for end in ends:
            go(end)
        world.later(world.seconds(0.0, world.pick([300.0, 7_000.0])), self._come_up)

    def _come_up(self) -> None:
        self._is_up = True
        self._world.now_and_then(self._uptime, self._go_down)


@dataclass(frozen=True, slots=True)
class Question:
    """What a program wants to know."""

    message: bytes
    timeout: float | None
    multiple: bool
    tries: int = 1


class Program:
    """A client's machine: it asks in bursts, on one connection at a time, and again what was lost and is safe."""

    def __init__(self, world: World, network: Network, hosts: Sequence[Listener], identities: Identities) -> None:
        self._world = world
        self._network = network
        self._hosts = hosts
        self._identities = identities
        self._end: ClientEnd | None = None
        self._asked: dict[tuple[int, int], Question] = {}
        self._names = 0
        self._number = world.number(0, 99_999)
        self._pause = world.pick([7_200.0, 14_400.0, 43_200.0])
        self._cancels = world.pick([0.0, 0.02, 0.3])
        self._doubts = world.pick([0.0, 0.05, 0.5])
        self._ids_repeat = world.chance(0.5)
        self._configuration = ClientConfiguration(
            query_timeout=world.pick([5.0, 5.0, 5.0, 1.0, 30.0]),
            idle_timeout=world.pick([10.0, 10.0, 10.0, 60.0, 2.0, 0.0]),
            max_idle_timeout=world.pick([300.0, 5.0]),
            close_timeout=world.pick([2.0, 0.0, 30.0]),
            max_in_flight=world.pick([1_024, 1_024, 16, 4, 1]),
            max_unsolicited=world.pick([64, 64, 3, 0]),
            padding_block=world.pick([128, 128, None]),
            keepalive=world.pick([True, True, False]),
        )
        world.now_and_then(self._pause, self._burst)

    def _burst(self) -> None:
        """Some questions: one, a flurry, or one now and then around the times at which idle connections end."""
        world = self._world
        gaps, most = world.pick([([0.0], 1), ([0.0, 0.0, 0.02, 0.2], 24), ([0.5, 2.0, 5.0, 9.0, 10.0, 12.0], 12)])
        delay = 0.0
        for _ in range(world.number(1, most)):
            world.later(delay, self._ask, self._question())
            delay += world.pick(gaps)
        world.now_and_then(self._pause, self._burst)

    def _question(self) -> Question:
        world, message_id = self._world, self._world.number(0, 3)
        timeout = world.pick([0.0, 0.25, 1.0, 45.0]) if world.chance(0.2) else None
        self._names += 1
        name = f"u{self._names}.p{self._number}.example"
        if world.chance(0.05):
            return Question(make_query(name, "AXFR", message_id=message_id), timeout, multiple=True)
        if world.chance(0.2):
            name = SHARED_NAME
        query = make_query(name, message_id=message_id)
        if world.chance(0.1):
            query = message(question_of(query), id=message_id, flags=RD)
        elif world.chance(0.05):
            query = query[:2] + b"\x28" + query[3:]  # UPDATE (RFC 2136, section 3.1)
        elif world.chance(0.02):
            query = query_of_length(world.number(100, 2_000))
        return Question(query, timeout, multiple=False)

    def _ask(self, question: Question) -> None:
        world, end = self._world, self._end
        if end is None or (not end.is_open and not world.chance(0.1)):
            end = self._end = self._dial()
        handle = end.client.ask(question.message, timeout=question.timeout, multiple=question.multiple)
        if handle is not None:
            self._asked[end.watch.link.number, handle] = question
            if world.chance(self._cancels):
                world.later(world.seconds(0.0, 8.0), self._cancel, end, handle)
        end.settle()

    def _dial(self) -> ClientEnd:
        world, link = self._world, self._network.link()
        meeting: Meeting = world.pick(
            self._identities.doubtful if world.chance(self._doubts) else self._identities.honest
        )
        watch = open_client(
            world,
            link,
            meeting.policy,
            self._configuration,
            earns_trust=meeting.earns_trust,
            ids_repeat=self._ids_repeat,
        )
        end = ClientEnd(watch, meeting.evidence, self._network.manners())
        link.is_foul = link.is_foul or not meeting.earns_trust
        end.answered, end.lost = partial(self._answered, end), partial(self._lost, end)
        world.later(world.seconds(0.0, 0.2), world.pick(self._hosts).accept, link, end)
        if world.chance(0.1):
            world.later(world.seconds(0.0, 60.0), self._close, end)
        return end

    def _answered(self, end: ClientEnd, event: ResponseReceived) -> None:
        if event.more and LAST in event.message and end.client.is_pending(event.query):
            end.client.end_exchange(event.query)

    def _lost(self, end: ClientEnd, event: QueryLost) -> None:
        question = self._asked[end.watch.link.number, event.query]
        if event.safe_to_resend and question.tries < TRIES:
            self._world.tally["resent"] += 1
            again = Question(question.message, question.timeout, question.multiple, question.tries + 1)
            self._world.later(0.0, self._ask, again)

    def _cancel(self, end: ClientEnd, handle: int) -> None:
        end.client.cancel(handle)
        end.settle()

    def _close(self, end: ClientEnd) -> None:
        end.client.close(self._world.pick([None, 0.0, 1.0, 30.0]))
        end.settle()


def _crash(end: ServerEnd) -> None:
    end.watch.link.reset()


def _vanish(end: ServerEnd) -> None:
    end.watch.link.cut()
