"""Peers that break every rule, without our engines: what they send is octets.

They keep to the truth in one thing: of each message they frame they say whether it answers a query, and which.  What
answers nothing differs from every answer in something that the client must look at: QR, opcode, question.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ... import frame, make_query
from ..messages import AXFR, CD, KEEPALIVE, PADDING, QR, RD, TXT, message, opt, option, question_of, record, response_to
from .network import End, Link, Scheduler
from .workload import Dialler, Listener, Network

FORGED: Final = make_query("forged.example")
"What nobody asks."

SHARED: Final = b"\x04same\x07example\0"
"The name on the wire of what many ask."

NAIL: Final = make_query("nail.example")
"What hostile clients ask; also in other forms."


class HostileHost:
    """A server that authenticates itself as it should, and then behaves badly in some ways drawn at random."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def accept(self, link: Link, client: Dialler) -> None:
        """A client has dialled."""
        link.is_foul = True
        hostile = HostileServer(self._scheduler, link)
        self._scheduler.call_later(self._scheduler.seconds(0.0, 0.5), self._shake_hands, link, client, hostile)

    def _shake_hands(self, link: Link, client: Dialler, hostile: HostileServer) -> None:
        if not link.is_broken:
            client.verify()
            hostile.begin()


class HostileServer:
    """One connection of it."""

    def __init__(self, scheduler: Scheduler, link: Link) -> None:
        self._scheduler = scheduler
        self._link = link
        self._octets = b""
        self._position = 0
        self._is_silent = False
        link.up.receive = self._arrive
        wrong: list[Callable[[bytes, int], None]] = [
            self._twice,
            self._late,
            self._other_question,
            self._other_id,
            self._echo,
            self._other_opcode,
            self._no_question,
            self._bare_error,
            self._malformed,
            self._in_parts,
            self._keepalive,
            self._nothing,
            self._flood,
            self._rubbish,
            self._half,
            self._leave,
        ]
        self._habits = [self._answer, *(scheduler.pick(wrong) for _ in range(4))]

    def begin(self) -> None:
        """The handshake is over: now and then it speaks unasked."""
        if self._scheduler.chance(0.1):
            self._say(response_to(FORGED))

    def _arrive(self, item: bytes | End) -> None:
        if isinstance(item, End):
            self._end(End.ORDERLY)
            return
        self._octets += item
        while len(self._octets) >= 2 and len(self._octets) >= 2 + int.from_bytes(self._octets[:2]):
            length = 2 + int.from_bytes(self._octets[:2])
            query, self._octets = self._octets[2:length], self._octets[length:]
            self._scheduler.pick(self._habits)(query, self._position)
            self._position += 1

    def _say(self, said: bytes, position: int | None = None, times: int = 1) -> None:
        if not self._is_silent:
            note = f"hostile server {self._link.number} > {times} x {len(said)} octets, answer to {position}"
            self._scheduler.note(note)
            self._link.answers.extend([(said, position)] * times)
            self._link.down.send(frame(said) * times)

    def _send(self, octets: bytes) -> None:
        """Octets that are no whole message; nothing can come behind them."""
        if not self._is_silent:
            self._scheduler.note(f"hostile server {self._link.number} > {octets[:8].hex()}...")
            self._link.down.ends_badly = len(octets) >= 2 and octets[:2] < b"\0\x0c"
            self._link.down.send(octets)
            self._is_silent = True

    def _end(self, end: End) -> None:
        if not self._is_silent:
            self._link.down.send(end)
            self._is_silent = True

    def _right(self, query: bytes, position: int) -> bytes:
        text = b"link %d query %d" % (self._link.number, position)
        return response_to(query, record(kind=TXT, data=text))

    def _answer(self, query: bytes, position: int) -> None:
        self._say(self._right(query, position), position)

    def _twice(self, query: bytes, position: int) -> None:
        self._answer(query, position)
        if SHARED not in query:
            # Under an id used again, what many ask would be a right answer to another of them.
            self._scheduler.call_later(self._scheduler.seconds(0.0, 3.0), self._answer, query, position)

    def _late(self, query: bytes, position: int) -> None:
        self._scheduler.call_later(self._scheduler.seconds(0.0, 40.0), self._answer, query, position)

    def _other_question(self, query: bytes, position: int) -> None:
        self._say(response_to(FORGED, id=int.from_bytes(query[:2])))

    def _other_id(self, query: bytes, position: int) -> None:
        self._say(response_to(FORGED, id=int.from_bytes(query[:2]) ^ 1))

    def _echo(self, query: bytes, position: int) -> None:
        self._say(query)

    def _other_opcode(self, query: bytes, position: int) -> None:
        right = self._right(query, position)
        self._say(right[:2] + bytes([right[2] ^ 0x10]) + right[3:])

    def _no_question(self, query: bytes, position: int) -> None:
        """The id decides (RFC 7766, section 7), save for the first message of a zone transfer."""
        opcode, is_transfer = int.from_bytes(query[2:4]) & 0x7800, question_of(query)[-4:-2] == AXFR.to_bytes(2)
        bare = message(id=int.from_bytes(query[:2]), flags=QR | opcode | self._scheduler.pick([0, 3]))
        is_answer = opcode or bare[3] or not is_transfer
        self._say(bare, position if is_answer else None)

    def _bare_error(self, query: bytes, position: int) -> None:
        """An error needs no question, and its RCODE has 12 bits: REFUSED, or BADVERS, of which four bits are 0."""
        opcode, is_extended = int.from_bytes(query[2:4]) & 0x7800, self._scheduler.chance(0.5)
        rcode, opts = (0, [opt(rcode=1)]) if is_extended else (5, [])
        self._say(message(id=int.from_bytes(query[:2]), flags=QR | opcode | rcode, additionals=opts), position)

    def _malformed(self, query: bytes, position: int) -> None:
        """Broken behind the question, and still the answer: no better one will come."""
        self._say(self._right(query, position) + bytes(self._scheduler.number(1, 9)), position)

    def _in_parts(self, query: bytes, position: int) -> None:
        """A zone transfer whose later messages have no question (RFC 5936, section 2.2.1), and which never ends.

        One of them comes before the first, as if it were left over from a transfer before.
        """
        is_transfer = question_of(query)[-4:-2] == AXFR.to_bytes(2)
        part = message(id=int.from_bytes(query[:2]), flags=QR, answers=[record(b"\0", TXT, b"part")])
        if is_transfer:
            self._say(part)
        self._say(self._right(query, position), position)
        if is_transfer:
            for _ in range(3):
                self._scheduler.call_later(self._scheduler.seconds(0.0, 9.0), self._say, part, position)

    def _keepalive(self, query: bytes, position: int) -> None:
        timeout = self._scheduler.pick([b"", b"\1", b"\1\2\3", b"\0\0", b"\0\1", b"\0\x14", b"\xff\xff"])
        odd = self._scheduler.pick([b"", option(PADDING) * 2, option(KEEPALIVE, b"\7"), option(KEEPALIVE, b"\0\x32")])
        options = self._scheduler.pick([[option(KEEPALIVE, timeout), odd], [odd, option(KEEPALIVE, timeout)]])
        self._say(response_to(query, additionals=[opt(*options)]), position)

    def _nothing(self, query: bytes, position: int) -> None:
        self._scheduler.note(f"hostile server {self._link.number} says nothing")

    def _flood(self, query: bytes, position: int) -> None:
        self._say(response_to(FORGED), times=self._scheduler.number(1, 100))

    def _rubbish(self, query: bytes, position: int) -> None:
        self._send(self._scheduler.pick([b"\0\0", b"\0\x0b" + bytes(11), b"HTTP/1.1 400 Bad Request\r\n\r\n"]))

    def _half(self, query: bytes, position: int) -> None:
        octets = frame(self._right(query, position))
        self._send(octets[: self._scheduler.number(1, len(octets) - 1)])
        self._link.down.send(self._scheduler.pick([End.ORDERLY, End.ABRUPT]))

    def _leave(self, query: bytes, position: int) -> None:
        if self._scheduler.chance(0.3):
            self._link.reset()
        self._end(self._scheduler.pick([End.ORDERLY, End.ABRUPT]))


class HostileClient:
    """A client that dials now and then, says a few things, and leaves in one way or another."""

    def __init__(self, scheduler: Scheduler, network: Network, hosts: list[Listener]) -> None:
        self._scheduler = scheduler
        self._network = network
        self._hosts = hosts
        self._pause = scheduler.pick([10_000.0, 50_000.0])
        scheduler.call_randomly(self._pause, self._dial)

    def _dial(self) -> None:
        scheduler, link = self._scheduler, self._network.link()
        link.is_foul = True
        scheduler.call_later(0.0, scheduler.pick(self._hosts).accept, link, HostileConnection(scheduler, link))
        scheduler.call_randomly(self._pause, self._dial)


class HostileConnection:
    """One connection of it."""

    def __init__(self, scheduler: Scheduler, link: Link) -> None:
        self._scheduler = scheduler
        self._link = link
        self._is_silent = False

    def fail(self, text: str) -> None:
        """No connection: so be it."""
        self._scheduler.note(f"hostile client {self._link.number}: {text}")

    def verify(self) -> None:
        """The handshake is over."""
        scheduler = self._scheduler
        acts: list[Callable[[], None]] = [
            self._ask,
            self._ask_much,
            self._say_something,
            self._say_something,
            self._flood,
            self._rubbish,
            self._stop_reading,
            self._leave,
        ]
        delay = 0.0
        for _ in range(scheduler.number(0, 6)):
            scheduler.call_later(delay, scheduler.pick(acts))
            delay += scheduler.seconds(0.0, 6.0)
        if scheduler.chance(0.7):
            scheduler.call_later(delay, self._leave)

    def _say(self, said: bytes, times: int = 1) -> None:
        if not self._is_silent:
            self._scheduler.note(f"hostile client {self._link.number} > {times} x {len(said)} octets")
            self._link.queries.extend([said] * times)
            self._link.up.send(frame(said) * times)

    def _ask(self) -> None:
        self._say(NAIL)

    def _ask_much(self) -> None:
        """Sends all queries under one id; the server must answer each."""
        self._say(NAIL, times=self._scheduler.number(2, 40))

    def _say_something(self) -> None:
        scheduler, question = self._scheduler, question_of(NAIL)
        octets = scheduler.random().hex().encode()  # 12 or more of them, of no meaning
        self._say(
            scheduler.pick(
                [
                    response_to(NAIL),
                    NAIL + b"\0",
                    NAIL[:-1],
                    bytes(12),
                    b"\0\0" + octets,
                    b"\0\1\x30" + NAIL[3:],  # opcode 6, DSO (RFC 8490)
                    NAIL[:5] + b"\2" + NAIL[6:],  # two questions, it says (RFC 9619)
                    message(question, flags=RD),
                    message(question, additionals=[opt(version=1)]),
                    message(question, additionals=[opt(option(KEEPALIVE, b"\0\1"))]),
                    message(question, additionals=[opt(), opt()]),
                    message(question, additionals=[opt(option(PADDING), option(PADDING), option(KEEPALIVE))]),
                    message(question, flags=CD, additionals=[opt(option(KEEPALIVE), option(PADDING), flags=0xFFFF)]),
                ]
            )
        )

    def _flood(self) -> None:
        self._say(response_to(NAIL), times=self._scheduler.number(1, 100))

    def _rubbish(self) -> None:
        self._send(self._scheduler.pick([b"\0\0", b"\0\x0b" + bytes(11), b"GET / HTTP/1.1\r\n\r\n", b"\0"]))

    def _send(self, octets: bytes) -> None:
        if not self._is_silent:
            self._scheduler.note(f"hostile client {self._link.number} > {octets[:8].hex()}...")
            self._link.up.ends_badly = len(octets) >= 2 and octets[:2] < b"\0\x0c"
            self._link.up.send(octets)
            self._is_silent = True

    def _stop_reading(self) -> None:
        self._link.down.pause(True)

    def _leave(self) -> None:
        if self._scheduler.chance(0.2):
            self._link.reset()
        self._is_silent = True
        self._link.up.send(self._scheduler.pick([End.ORDERLY, End.ABRUPT]))
