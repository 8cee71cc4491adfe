"""The kit's framer law, pointed at two framers that are not ours; docs/fuzzing.md reports what it finds here."""

from __future__ import annotations

import re
from collections.abc import Coroutine
from typing import Any

import dns.asyncquery
import dns.exception
import dns.message
import pytest
from hypothesis import HealthCheck, settings
from twisted.internet.error import ConnectionDone
from twisted.protocols.basic import Int16StringReceiver
from twisted.python.failure import Failure

from dot_proto import Deframer, make_query
from dot_proto.testing.laws import Law, framer_law, message_reader_law
from dot_proto.testing.messages import stream_of

SEARCH = settings(derandomize=True, database=None, suppress_health_check=list(HealthCheck))

MESSAGES = [bytes(12), bytes(range(40))]


class Socket:
    """What dnspython reads from: octets come when the test brings them, and are handed out as they came."""

    def __init__(self) -> None:
        self.reads: list[bytes] = []
        self.has_ended = False

    async def recv(self, size: int, timeout: float | None) -> bytes:
        while not self.reads and not self.has_ended:
            await Arrival()
        if not self.reads:
            return b""
        octets = self.reads.pop(0)
        if octets[size:]:
            self.reads.insert(0, octets[size:])
        return octets[:size]


class Arrival:
    """To be awaited: gives control back until more has come."""

    def __await__(self) -> Any:
        yield


class Dnspython:
    """``dns.asyncquery.receive_tcp`` over a socket that is none, called again for each message."""

    failed = False
    mid_message = False

    def __init__(self) -> None:
        self.socket = Socket()
        self.messages: list[bytes] = []
        self.reading: Coroutine[Any, Any, None] = self.read()
        self.reading.send(None)

    async def read(self) -> None:
        while True:
            message, _ = await dns.asyncquery.receive_tcp(self.socket)  # type: ignore[arg-type]
            self.messages.append(message)  # type: ignore[arg-type]  # octets: see framing_alone

    def feed(self, data: bytes) -> list[bytes]:
        if data:
            self.socket.reads.append(data)
        self.messages = []
        self.reading.send(None)
        return self.messages

    def end(self) -> str:
        """What is said of the stream's end."""
        self.socket.has_ended = True
        with pytest.raises(EOFError) as error:
            self.reading.send(None)
        return repr(error.value)


@pytest.fixture
def framing_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The framing of dnspython without its parser, which takes DNS messages only."""
    monkeypatch.setattr(dns.message, "from_wire", lambda wire, **options: wire)


class Twisted(Int16StringReceiver):
    """Twisted's receiver, which calls back for each message."""

    failed = False
    mid_message = False

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def stringReceived(self, string: bytes) -> None:
        self.messages.append(string)

    def feed(self, data: bytes) -> list[bytes]:
        self.messages = []
        self.dataReceived(data)
        return self.messages

    def end(self) -> str:
        """What is said of the stream's end: nothing, whatever has come before."""
        self.connectionLost(Failure(ConnectionDone()))
        return ""


def finding(law: Law) -> str:
    with pytest.raises(AssertionError) as found:
        SEARCH(law)()
    return str(found.value)


both = pytest.mark.parametrize("framer", [Dnspython, Twisted])


@both
@pytest.mark.usefixtures("framing_alone")
def test_messages_come_out_whole_however_they_are_cut(framer: type[Dnspython | Twisted]) -> None:
    """What each promises, it keeps (FRM-3, FRM-8)."""
    settings(SEARCH, max_examples=500)(framer_law(framer, minimum=0, tells_truncation=False))()


@both
@pytest.mark.usefixtures("framing_alone")
def test_neither_knows_the_shortest_message(framer: type[Dnspython | Twisted]) -> None:
    """A length below 12 is delivered, or waited for, as any other (FRM-5, FRM-6)."""
    assert re.search(
        "failed is False, not True|is delivered, and is none", finding(framer_law(framer, tells_truncation=False))
    )


@both
@pytest.mark.usefixtures("framing_alone")
@pytest.mark.parametrize("rest", [b"", b"\0", b"\0\x0c", b"\0\x0cabc"], ids=["whole", "length", "prefix", "message"])
def test_neither_tells_a_truncation(framer: type[Dnspython | Twisted], rest: bytes) -> None:
    """The end inside a message looks like the end between two (FRM-11)."""
    whole, cut = framer(), framer()
    assert whole.feed(stream_of(MESSAGES)) == cut.feed(stream_of(MESSAGES) + rest) == MESSAGES
    assert whole.end() == cut.end()


def test_ours_does() -> None:
    """The same two faults, told."""
    framer = Deframer()
    assert framer.feed(stream_of(MESSAGES) + b"\0") == MESSAGES
    assert framer.mid_message
    framer.feed(b"\0")
    assert framer.failed


def test_dnspython_parses_what_it_frames() -> None:
    """With its parser in place, such a message is an error of the parser's; called again, it reads the next."""
    framer, query = Dnspython(), make_query("a.example", message_id=7)
    with pytest.raises(dns.message.ShortHeader):
        framer.feed(stream_of([b"", query]))
    framer.reading = framer.read()
    assert [message.id for message in framer.feed(b"")] == [7]  # type: ignore[attr-defined]


def test_dnspython_reads_messages_by_the_law() -> None:
    """All that is well formed, and for other octets it raises its own errors alone."""
    settings(SEARCH, max_examples=500)(message_reader_law(dns.message.from_wire, dns.exception.DNSException))()
