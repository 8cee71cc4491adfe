"""The kit's laws hold for the engine, and find every bug that is planted."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from dot_proto import (
    ClientConfiguration,
    ConnectionClosed,
    DiscardReason,
    Event,
    KeepaliveReceived,
    MessageDiscarded,
    MessageError,
    QueryLost,
    QueryReceived,
    QueryRejected,
    QueryTimedOut,
    RemoteProtocolError,
    ResponseReceived,
    ServerConnection,
    make_query,
)
from dot_proto._framing import Deframer
from dot_proto._message import question_end, walk
from dot_proto._state import Cause
from dot_proto.testing.checkers import ClientChecker, ServerChecker, answers
from dot_proto.testing.laws import (
    Law,
    check_client,
    check_framer,
    check_message_reader,
    check_server,
    client_law,
    framer_law,
    message_reader_law,
    server_law,
)
from dot_proto.testing.messages import message, read, response_to, stream_of, unframed
from dot_proto.testing.peers import Close
from dot_proto.testing.runner import Arrived, Asked, Ended, Refused, Sent, TraceEntry, Woke, open_client

SEARCH = settings(
    derandomize=True,
    database=None,
    max_examples=1000,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
"The same search every time; what it finds need not be made small."


pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")
"What was not made small may hold a message of 65535 octets."


def broken(law: Law) -> str:
    """How a law is broken; fails where no example breaks it."""
    with pytest.raises(AssertionError) as found:
        SEARCH(law)()
    return str(found.value)


# Framers


def test_the_framer():
    """Any cut of any stream, good and damaged (FRM-3, FRM-5, FRM-6, FRM-10, FRM-11)."""
    check_framer(Deframer)


def test_the_law_can_be_fuzzed_from_outside():
    """By octets, which a fuzzer chooses."""
    law = framer_law(Deframer)
    assert law.hypothesis.fuzz_one_input(bytes(400)) is not None


class Reader:
    """A framer without faults, made of the reference; bugs are planted in those that inherit."""

    minimum = 12
    failed = mid_message = False

    def __init__(self) -> None:
        self.stream = b""
        self.seen = 0

    def feed(self, data: bytes) -> list[bytes]:
        self.stream += data
        reading = read(self.stream, minimum=self.minimum)
        self.failed = reading.failed_at is not None
        self.mid_message = not self.failed and reading.is_mid_message(len(self.stream))
        new, self.seen = reading.messages[self.seen :], len(reading.messages)
        return new


class OneMore(Reader):
    """Counts the length's own two octets."""

    def feed(self, data: bytes) -> list[bytes]:
        return [b"\0" + each for each in super().feed(data)]


class ForgetsTheCutInsideALength(Reader):
    """Throws away one octet that comes alone at the start of a message."""

    def feed(self, data: bytes) -> list[bytes]:
        if not self.mid_message and len(data) == 1:
            return []
        return super().feed(data)


class OneMessageARead(Reader):
    """Returns the first of several messages, and loses the others."""

    def feed(self, data: bytes) -> list[bytes]:
        return super().feed(data)[:1]


class Drops(Reader):
    """Loses each third message."""

    def feed(self, data: bytes) -> list[bytes]:
        first = self.seen
        return [each for number, each in enumerate(super().feed(data), first) if number % 3 != 2]


class Late(Reader):
    """Delivers a message when the next octets come."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        due, self.held = self.held, super().feed(data)
        return due


class TakesShortOnes(Reader):
    """Thinks that a message may have eleven octets."""

    minimum = 11


class FailsSilently(Reader):
    """Never says that it has failed."""

    failed = property(lambda self: False, lambda self, value: None)  # type: ignore[assignment]


class HidesTruncation(Reader):
    """Never says that it stands inside a message."""

    mid_message = property(lambda self: False, lambda self, value: None)  # type: ignore[assignment]


class Repeats(Reader):
    """Delivers the last message again when an empty read comes."""

    def feed(self, data: bytes) -> list[bytes]:
        return super().feed(data) if data else read(self.stream).messages[-1:]


class FailsLate(Reader):
    """Fails once the short message is complete, and not at its length."""

    def feed(self, data: bytes) -> list[bytes]:
        new = super().feed(data)
        reading = read(self.stream)
        at = reading.failed_at
        if at is not None and len(self.stream) < at + int.from_bytes(self.stream[at - 2 : at]):
            self.failed = False
        return new


class GoesOn(Reader):
    """Tells the failure, and delivers what comes behind it all the same."""

    def feed(self, data: bytes) -> list[bytes]:
        super().feed(data)
        everything = read(self.stream, minimum=0).messages
        new, self.all_seen = everything[getattr(self, "all_seen", 0) :], len(everything)
        return [each for each in new if len(each) >= 12]


BAD_FRAMERS = {
    FailsLate: "failed is False, not True",
    GoesOn: "is delivered, and is none",
    OneMore: "message 0 is",
    ForgetsTheCutInsideALength: "message",
    OneMessageARead: "is complete, and is not delivered",
    Drops: "is complete, and is not delivered|message 2 is",
    Late: "is complete, and is not delivered",
    TakesShortOnes: "is delivered, and is none|failed is False, not True",
    FailsSilently: "failed is False, not True",
    HidesTruncation: "mid_message is False, not True",
    Repeats: "is delivered, and is none",
}


@pytest.mark.parametrize("framer", BAD_FRAMERS, ids=lambda framer: framer.__name__)
def test_bugs_of_framers_are_found(framer: Callable[[], Any]):
    """Each breaks the law, and the law says how."""
    assert re.search(BAD_FRAMERS[framer], broken(framer_law(framer)))


def test_framers_may_be_excused():
    """Who knows no shortest message, or does not tell a truncation, can be checked for all else."""

    class Lenient(HidesTruncation):
        minimum = 0

    check_framer(Lenient, minimum=0, tells_truncation=False)


# Clients


def test_the_client():
    """Whatever the server does (design promises 3 and 5; MAT-1 to MAT-12)."""
    check_client(open_client)


def test_the_client_among_friends():
    """A server that does nothing wrong is never left with queries open."""
    check_client(open_client, misbehaving_peers=False)


def test_the_client_at_its_limits():
    """Limits of zero or nearly so: it may end the connection, and still loses no query silently."""
    configuration = ClientConfiguration(max_unsolicited=0, idle_timeout=0.5, padding_block=None, keepalive=False)
    check_client(lambda: open_client(configuration, first_id=0xFFFF))


class Wrapper:
    """Our client, behind somebody who spoils it."""

    def __init__(self) -> None:
        self.client = open_client()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        return [each for event in self.client.receive_data(data, now=now) for each in self.changed(event)]

    def changed(self, event: Event) -> list[Event]:
        return [event]


class AnswersTwice(Wrapper):
    """Reports each answer twice."""

    def changed(self, event: Event) -> list[Event]:
        return [event, event] if isinstance(event, ResponseReceived) else [event]


class LosesAnswers(Wrapper):
    """Swallows answers that say SERVFAIL."""

    def changed(self, event: Event) -> list[Event]:
        return [] if isinstance(event, ResponseReceived) and event.rcode == 2 else [event]


class MixesIds(Wrapper):
    """Reports each answer for the first query."""

    def changed(self, event: Event) -> list[Event]:
        return (
            [ResponseReceived(query=0, message=event.message, elapsed=0.0, more=False)]
            if isinstance(event, ResponseReceived)
            else [event]
        )


class KeepsTheWireId(Wrapper):
    """Forgets to put the caller's id back."""

    def changed(self, event: Event) -> list[Event]:
        if isinstance(event, ResponseReceived):
            return [
                ResponseReceived(
                    query=event.query, message=b"\0\0" + event.message[2:], elapsed=event.elapsed, more=False
                )
            ]
        return [event]


class TrustsTheId(Wrapper):
    """Takes whatever bears the id for the answer."""

    def changed(self, event: Event) -> list[Event]:
        query = getattr(event, "query", None)
        if query is None or isinstance(event, ResponseReceived | QueryLost):
            return [event]
        return [ResponseReceived(query=query, message=b"\xbe\xef" + event.message[2:], elapsed=0.0, more=False)]  # type: ignore[attr-defined]


class InsistsOnAQuestion(Wrapper):
    """FR-6: takes an answer without a question for none."""

    def changed(self, event: Event) -> list[Event]:
        if isinstance(event, ResponseReceived) and not event.message[5]:
            return [MessageDiscarded(message=event.message, reason=DiscardReason.QUESTION_MISSING, query=event.query)]
        return [event]


class EndsAtOneUnsolicited(Wrapper):
    """Ends without a word on the queries that are open."""

    def changed(self, event: Event) -> list[Event]:
        return [] if isinstance(event, QueryLost) else [event]


class GivesUp(Wrapper):
    """Ends the connection with the first answer."""

    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        events = self.client.receive_data(data, now=now)
        return events + (self.client.receive_eof(now=now) if events else [])


class TalksAfterTheEnd(Wrapper):
    """Reports its end twice."""

    def receive_eof(self, *, now: float, orderly: bool) -> list[Event]:
        return self.client.receive_eof(now=now, orderly=orderly) * 2


class Oversleeps(Wrapper):
    """Wants to be woken a second after the deadline."""

    def next_timeout(self) -> float | None:
        deadline = self.client.next_timeout()
        return None if deadline is None else deadline + 1

    def handle_timeout(self, *, now: float) -> list[Event]:
        return self.client.handle_timeout(now=now - 1)


class NeverSleeps(Wrapper):
    """Wants to be woken at once, for ever."""

    def next_timeout(self) -> float | None:
        return 0.0


class ForgetsTime(Wrapper):
    """Does not act on deadlines."""

    def next_timeout(self) -> float | None:
        return None

    def handle_timeout(self, *, now: float) -> list[Event]:
        return []


class Hasty(Wrapper):
    """Halves the time that a query is given."""

    def send_query(self, message: bytes, *, now: float, timeout: float) -> int:
        return self.client.send_query(message, now=now, timeout=timeout / 2)


class OneId(Wrapper):
    """Sends every query under one id."""

    def data_to_send(self) -> list[bytes]:
        return [each[:2] + b"\0\7" + each[4:] for each in self.client.data_to_send()]


class AsksForSomethingElse(Wrapper):
    """Changes the question on the way."""

    def data_to_send(self) -> list[bytes]:
        return [each.replace(b"\0\1\0\1", b"\0\2\0\1") for each in self.client.data_to_send()]


class SendsTwice(Wrapper):
    """Writes everything twice."""

    def data_to_send(self) -> list[bytes]:
        return self.client.data_to_send() * 2


class SendsHalf(Wrapper):
    """Forgets the last octet."""

    def data_to_send(self) -> list[bytes]:
        return [each[:-1] for each in self.client.data_to_send()]


class NeverSends(Wrapper):
    """Holds queries back."""

    def data_to_send(self) -> list[bytes]:
        return []


class Refuses(Wrapper):
    """Takes one query in all."""

    def __init__(self) -> None:
        self.client = open_client(ClientConfiguration(max_in_flight=1))


class OneHandle(Wrapper):
    """Gives every query the same handle."""

    def send_query(self, message: bytes, *, now: float, timeout: float) -> int:
        return self.client.send_query(message, now=now, timeout=timeout) & 0


class EndsSoon(Wrapper):
    """Ends once nothing is pending."""

    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        events = self.client.receive_data(data, now=now)
        if events and not self.client.pending:
            self.client.close(now=now)
            events += self.client.handle_timeout(now=now)
        return events


class StaysOpen(Wrapper):
    """Takes no notice of the peer's end."""

    def receive_eof(self, *, now: float, orderly: bool) -> list[Event]:
        return []


class SurvivesAReset(Wrapper):
    """Takes no notice of TCP's failure."""

    def fail(self, error: RemoteProtocolError, *, now: float) -> list[Event]:
        return []


class BearsShortLengths(Wrapper):
    """Throws away what cannot be read, and does not end."""

    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        events = super().receive_data(data, now=now)
        closed = [event for event in events if isinstance(event, ConnectionClosed)]
        return events if not closed or closed[0].cause is not Cause.PEER_FAULT else []


class NeverKnowsWhatWasSent(Wrapper):
    """Says of all that is lost that it never left."""

    def receive_eof(self, *, now: float, orderly: bool) -> list[Event]:
        events = self.client.receive_eof(now=now, orderly=orderly)
        return [
            QueryLost(query=each.query, safe_to_resend=True, was_sent=False) if isinstance(each, QueryLost) else each
            for each in events
        ]


class RefusesASecondTry(Wrapper):
    """Says of all that is lost that it must not be asked again."""

    def receive_eof(self, *, now: float, orderly: bool) -> list[Event]:
        events = self.client.receive_eof(now=now, orderly=orderly)
        return [
            QueryLost(query=each.query, safe_to_resend=False, was_sent=True) if isinstance(each, QueryLost) else each
            for each in events
        ]


class HasNoClock(Wrapper):
    """Says of each answer that it took no time."""

    def changed(self, event: Event) -> list[Event]:
        if isinstance(event, ResponseReceived):
            return [ResponseReceived(query=event.query, message=event.message, elapsed=0.0, more=event.more)]
        return [event]


class WantsMore(Wrapper):
    """Says of each answer that more will come."""

    def changed(self, event: Event) -> list[Event]:
        if isinstance(event, ResponseReceived):
            return [ResponseReceived(query=event.query, message=event.message, elapsed=event.elapsed, more=True)]
        return [event]


class OneEventARead(Wrapper):
    """Returns the first event of each read, and loses the others."""

    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        events = self.client.receive_data(data, now=now)
        return events if any(isinstance(event, ConnectionClosed) for event in events) else events[:1]


class InOrder(Wrapper):
    """Takes answers in the order of the questions only."""

    def __init__(self) -> None:
        super().__init__()
        self.last = -1

    def changed(self, event: Event) -> list[Event]:
        if isinstance(event, ResponseReceived):
            if event.query < self.last:
                return []
            self.last = event.query
        return [event]


BAD_CLIENTS = {
    StaysOpen: "the peer has ended, and the connection has not",
    SurvivesAReset: "the peer has ended, and the connection has not",
    BearsShortLengths: "behind a length below 12 the connection is open|end without a fate",
    NeverKnowsWhatWasSent: "was_sent=False.*that is not so",
    RefusesASecondTry: "may be asked again",
    HasNoClock: "elapsed=0.0.*it took",
    WantsMore: "no more was asked for",
    OneEventARead: "answers are not reported|missed its deadline",
    InOrder: "answers are not reported|ResponseReceived.* not b",
    AnswersTwice: "and answers nothing",
    LosesAnswers: "1 answers are not reported",
    MixesIds: r"ResponseReceived\(query=0",
    KeepsTheWireId: r"ResponseReceived\(query=\d+, message=b'\\x00\\x00",
    InsistsOnAQuestion: r"answers are not reported",
    TrustsTheId: "and answers nothing",
    EndsAtOneUnsolicited: "end without a fate",
    GivesUp: "is lost without a reason|there is no reason",
    EndsSoon: "there is no reason",
    TalksAfterTheEnd: "behind the end",
    Oversleeps: "has missed its deadline|does not time out",
    NeverSleeps: "a busy loop",
    ForgetsTime: "does not time out",
    Hasty: "times out too early",
    OneId: "is in flight already",
    AsksForSomethingElse: "and was not asked",
    SendsTwice: "is in flight already",
    SendsHalf: "inside a message",
    NeverSends: "are held back",
    Refuses: "refused without a reason",
    OneHandle: "is used twice",
}


@pytest.mark.parametrize("client", BAD_CLIENTS, ids=lambda client: client.__name__)
def test_bugs_of_clients_are_found(client: Callable[[], Any]):
    """Each breaks the law, and the law says how."""
    assert re.search(BAD_CLIENTS[client], broken(client_law(client)))


# Servers


def test_the_server():
    """However queries come, and in whatever order they are answered (SRV-2 to SRV-8)."""
    check_server(ServerConnection)


class ServerWrapper:
    """Our server, behind somebody who spoils it."""

    def __init__(self) -> None:
        self.server = ServerConnection()

    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        return self.server.receive_data(data, now=now)

    def send_response(self, query: int, message: bytes, *, now: float) -> bool:
        return self.server.send_response(query, message, now=now)

    def data_to_send(self) -> list[bytes]:
        return self.server.data_to_send()


class Skips(ServerWrapper):
    """Delivers the first query of each read."""

    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        return super().receive_data(data, now=now)[:1]


class DeliversTwice(ServerWrapper):
    """Delivers each query twice."""

    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        return [each for each in super().receive_data(data, now=now) for _ in range(2)]


class RejectsAll(ServerWrapper):
    """Finds something wrong with every query."""

    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        events = super().receive_data(data, now=now)
        return [
            QueryRejected(message=each.message, rcode=1, explanation="") if isinstance(each, QueryReceived) else each
            for each in events
        ]


class DeliversResponses(ServerWrapper):
    """Takes responses for queries."""

    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        events = super().receive_data(data, now=now)
        return [
            QueryReceived(query=0, message=each.message) if isinstance(each, MessageDiscarded) else each
            for each in events
        ]


class GoesOn(ServerWrapper):
    """Goes on behind its end."""

    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        return [ConnectionClosed(cause=Cause.PEER_CLOSED, error=None), *super().receive_data(data, now=now)]


class LosesResponses(ServerWrapper):
    """Sends nothing."""

    def data_to_send(self) -> list[bytes]:
        return []


class RespondsTwice(ServerWrapper):
    """Sends everything twice."""

    def data_to_send(self) -> list[bytes]:
        return super().data_to_send() * 2


class CutsResponses(ServerWrapper):
    """Forgets the last octet."""

    def data_to_send(self) -> list[bytes]:
        return [each[:-1] for each in super().data_to_send()]


class RespondsUnderOneId(ServerWrapper):
    """Sends every response under the id 7."""

    def data_to_send(self) -> list[bytes]:
        return [each[:2] + b"\0\7" + each[4:] for each in super().data_to_send()]


class LosesDnssecOk(ServerWrapper):
    """Says DO to nobody (FR-62)."""

    def __init__(self) -> None:
        super().__init__()
        plain, stating = self.server._added[:2], self.server._added[4:6]
        self.server._added = (plain * 2 + stating * 2) * 4


class RespondsWithQueries(ServerWrapper):
    """Sends responses with QR 0."""

    def data_to_send(self) -> list[bytes]:
        return [each[:4] + bytes([each[4] & 0x7F]) + each[5:] for each in super().data_to_send()]


class TakesNothing(ServerWrapper):
    """Says that the client has gone."""

    def send_response(self, query: int, message: bytes, *, now: float) -> bool:
        return False


class HangsUp(ServerWrapper):
    """Ends with the first query."""

    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        events = super().receive_data(data, now=now)
        if events:
            self.server.close(now=now, timeout=0)
            events += self.server.handle_timeout(now=now)
        return events


class LosesRecords(ServerWrapper):
    """Sends the header and the question alone."""

    def send_response(self, query: int, message: bytes, *, now: float) -> bool:
        bare = message[:6] + bytes(6) + message[12 : question_end(message)]
        return self.server.send_response(query, bare, now=now)


class LosesFlags(ServerWrapper):
    """Forgets AA and TC."""

    def send_response(self, query: int, message: bytes, *, now: float) -> bool:
        return self.server.send_response(query, message[:2] + bytes([message[2] & 0xF9]) + message[3:], now=now)


BAD_SERVERS = {
    HangsUp: "there is no reason",
    LosesRecords: "is sent, not",
    LosesFlags: "is sent, not",
    LosesDnssecOk: "a wrong DO",
    Skips: "is not delivered|rejected are",
    DeliversTwice: "did not arrive here",
    RejectsAll: "is well formed",
    DeliversResponses: "is no query",
    GoesOn: "there is no reason|behind the end",
    LosesResponses: "0 messages are sent",
    RespondsTwice: "2 messages are sent",
    CutsResponses: "inside a message",
    RespondsUnderOneId: "is sent, not",
    RespondsWithQueries: "and is no response",
    TakesNothing: "is not taken",
}


@pytest.mark.parametrize("server", BAD_SERVERS, ids=lambda server: server.__name__)
def test_bugs_of_servers_are_found(server: Callable[[], Any]):
    """Each breaks the law, and the law says how."""
    assert re.search(BAD_SERVERS[server], broken(server_law(server)))


# Readers


def test_the_reader_of_messages():
    """Whatever the octets are, it reports and does not raise."""
    check_message_reader(walk, ())


def test_the_reader_of_questions():
    """It raises what it says, and does so in this search."""
    SEARCH(message_reader_law(question_end, MessageError))()


def forgets_the_bound(octets: bytes) -> int:
    """Reads the first name's length without a look at the end."""
    return octets[12]


def takes_no_edns(octets: bytes) -> None:
    """Knows no additional section."""
    if octets[10:12] != b"\0\0":
        raise MessageError("additional records")


def test_bugs_of_readers_are_found():
    """One raises what it did not announce, one refuses what is well formed; none is blamed for what it may."""
    with pytest.raises(IndexError):
        SEARCH(message_reader_law(forgets_the_bound, MessageError))()
    assert "well formed, but MessageError: additional" in broken(message_reader_law(takes_no_edns, MessageError))
    check_message_reader(forgets_the_bound, (), minimum=13)


# What the laws are made of


QUERY = make_query("a.example", message_id=7)

ANSWERS = {
    "right": (response_to(QUERY), True),
    "other id": (response_to(QUERY, id=8), True),
    "other case": (response_to(make_query("A.EXAMPLE")), True),
    "other name": (response_to(make_query("b.example")), False),
    "longer name": (response_to(make_query("a.a.example")), False),
    "other type": (response_to(make_query("a.example", "AAAA")), False),
    "type in another case": (response_to(make_query("a.example", 33)), False),
    "query": (QUERY, False),
    "other opcode": (response_to(make_query("a.example")[:2] + b"\x28" + QUERY[3:]), False),
    "no question, SERVFAIL": (message(flags=0x8002), True),
    "no question, NOERROR": (message(flags=0x8000), True),
    "no question, NXDOMAIN": (message(flags=0x8003), True),
    "no question, other opcode": (message(flags=0xA800), False),
    "two questions": (message(QUERY[12:-11] * 2, flags=0x8000).replace(b"\0\1", b"\0\2", 1), False),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_answers(name: str):
    """The reference agrees with the rules (MAT-5 to MAT-12)."""
    response, right = ANSWERS[name]
    assert answers(QUERY, response) is right


def test_case_is_of_letters_in_the_name_alone():
    """Type 65 is no type 97 (RFC 4343)."""
    assert not answers(make_query("a.example", 65), response_to(make_query("a.example", 97)))


STREAM = stream_of([bytes(12), bytes(13)])


@pytest.mark.parametrize(
    ("octets", "delivered", "failed", "mid_message"),
    [
        (0, 0, False, False),
        (1, 0, False, True),
        (13, 0, False, True),
        (14, 1, False, False),
        (15, 1, False, True),
        (29, 2, False, False),
        (30, 2, False, True),
        (31, 2, True, True),
    ],
)
def test_read(octets: int, delivered: int, failed: bool, mid_message: bool):
    """The reference framer, at every place that matters (FRM-3, FRM-5, FRM-11)."""
    reading = read(STREAM + b"\0\x0b" + bytes(11) + STREAM)
    assert reading.messages == [bytes(12), bytes(13)]
    assert reading.delivered(octets) == delivered
    assert reading.has_failed(octets) is failed
    assert reading.is_mid_message(octets) is mid_message
    assert read(STREAM).failed_at is None


def test_unframed_looks_at_the_length():
    """One message an item, behind its own length; else it says so."""
    assert unframed([stream_of([QUERY]), stream_of([bytes(12)])]) == [QUERY, bytes(12)]
    with pytest.raises(AssertionError, match="a length prefix of 12 before 13 octets"):
        unframed([b"\0\x0c" + bytes(13)])


def entered(*trace: TraceEntry) -> ClientChecker:
    checker = ClientChecker()
    for entry in trace:
        checker.check(entry)
    return checker


ASKED = Asked(0.0, 1, QUERY, 5.0)
SENT = Sent(0.0, stream_of([QUERY]))


def test_a_client_checker_can_be_used_by_hand():
    """For a client that is driven by something else than a script."""
    event = ResponseReceived(query=1, message=response_to(QUERY), elapsed=1.0, more=False)
    entered(ASKED, SENT, Arrived(1.0, [event], stream_of([response_to(QUERY)]))).finish()


def test_late_and_unsolicited_messages_are_checked():
    """A late answer frees its id; whatever else is no answer is a reason to end, and no more."""
    late = [MessageDiscarded(message=response_to(QUERY), reason=DiscardReason.LATE, query=1)]
    end = [ConnectionClosed(cause=Cause.PEER_FAULT, error=None)]
    checker = entered(
        ASKED,
        SENT,
        Woke(5.0, [QueryTimedOut(query=1, elapsed=5.0)], None),
        Arrived(6.0, [], stream_of([response_to(make_query("b.example"), id=7)])),
        Arrived(6.0, late, stream_of([response_to(QUERY), message(id=9, flags=0x8000)])),
        Arrived(6.0, end, b"\0\0"),
        Refused(6.0),
    )
    checker.finish()
    assert checker.may_end
    assert checker.has_ended
    assert checker.in_flight == {}


FAIR = make_query("a.example", message_id=1)
FOUL = FAIR[:-1]


class ScriptedServer:
    """A server that does as it is told."""

    def __init__(self, *events: Event, sends: list[bytes] | None = None) -> None:
        self.events = list(events)
        self.outgoing = [] if sends is None else [stream_of(sends)]

    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        return self.events

    def send_response(self, query: int, message: bytes, *, now: float) -> bool:
        self.outgoing = [stream_of([message])]
        return True

    def data_to_send(self) -> list[bytes]:
        sent, self.outgoing = self.outgoing, []
        return sent


def test_a_server_checker_can_be_used_by_hand():
    """A query that must be delivered, one that need not, one that is rejected, a response, the end."""
    unsolicited = response_to(FAIR)
    server = ScriptedServer(
        MessageDiscarded(message=unsolicited, reason=DiscardReason.NOT_A_QUERY, query=None),
        QueryReceived(query=5, message=FAIR),
        QueryRejected(message=FOUL, rcode=1, explanation=""),
        QueryReceived(query=6, message=FOUL),
        ConnectionClosed(cause=Cause.PEER_FAULT, error=None),
        sends=[message(id=1, flags=0x8001)],
    )
    checker = ServerChecker(server, frozenset([FAIR]))
    checker.receive(stream_of([unsolicited, FAIR, FOUL, FOUL, FAIR]))
    assert checker.open == [(5, FAIR), (6, FOUL)]
    checker.answer(1, 2)
    checker.answer(0, 0)
    assert checker.open == []
    assert checker.has_ended


def test_a_query_that_is_not_delivered():
    """Though it is well formed."""
    with pytest.raises(AssertionError, match="is not delivered"):
        ServerChecker(ScriptedServer(), frozenset([FAIR])).receive(stream_of([FAIR]))


def test_a_query_without_a_fate():
    """Not even at the end."""
    with pytest.raises(AssertionError, match=r"queries \[1\] have met no fate"):
        entered(ASKED, SENT).finish()


def test_a_fate_of_nobody():
    """A handle that was never given out."""
    with pytest.raises(AssertionError, match="was never asked"):
        entered(ASKED, SENT, Woke(1.0, [QueryTimedOut(query=2, elapsed=1.0)], None))


def test_a_server_that_wants_no_more():
    """Having stated the idle timeout 0 it may be asked nothing (RFC 7828, section 3.2.2)."""
    entered(Arrived(0.0, [KeepaliveReceived(timeout=0.0)], b""), Refused(0.0)).finish()


def test_sending_behind_the_end():
    """Not an octet."""
    with pytest.raises(AssertionError, match="something is sent behind the end"):
        entered(
            ASKED,
            Ended(
                0.0,
                [
                    QueryLost(query=1, safe_to_resend=True, was_sent=False),
                    ConnectionClosed(cause=Cause.PEER_CLOSED, error=None),
                ],
                Close(),
            ),
            SENT,
        )


def test_an_entry_of_no_kind():
    """A mistake of the caller's."""
    with pytest.raises(TypeError, match="is no entry"):
        entered(TraceEntry(0.0))
