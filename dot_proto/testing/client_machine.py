"""A client against its model: every command and every verb, in any order, with any answer at any time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from .._state import State
from ..authentication import AuthenticationPolicy, Evidence, Reason, ValidationFailure, Verdict, judge
from ..client import ClientConnection
from ..configuration import ClientConfiguration
from ..errors import IdInUseError, LocalProtocolError, TooManyQueriesError
from ..query import make_query
from .client_model import Answer, ClientModel, Query
from .connection_machine import ConnectionMachine, pick
from .messages import SIG, TSIG, cut_at, message, opt, question_of, record, response_to, stream_of, unframed

LEAF = b"a certificate"
POLICY = AuthenticationPolicy.strict("dot.example")
_EARLIER = Verdict(POLICY, True, True, None, "the chain was valid for dot.example", leaf=LEAF)

EVIDENCE = {
    "trusted": Evidence(leaf=LEAF, resumed=_EARLIER),
    "another": Evidence(leaf=b"another certificate", resumed=_EARLIER),
    "unvalidated": Evidence(failure=ValidationFailure(Reason.UNTRUSTED, "self-signed certificate")),
    "nobody": Evidence(),
}
"What the handshake showed (RFC 8310, section 8); a session resumed, so that no real certificate is needed."

QUESTIONS = ["a.example", "B.example"]
QTYPE, NOT_THE_QTYPE = "HTTPS", b"\0\x61"
"Types 65 and 97, which are one letter in two cases."

ANSWERS = [
    "right",
    "other-case",
    "refused",
    "refused-without-question",
    "without-question",
    "nxdomain-without-question",
    "badvers",
    "badvers-without-question",
    "echo",
    "other-opcode",
    "other-name",
    "other-type",
    "other-id",
]

MISTAKES = ["short", "long", "response", "malformed", "timeout", "cancel", "end", "close", "verify", "octets"]

TIMEOUTS = st.sampled_from([None, 8.0, 20.0, 8.0, 3.0, 1.0, 0.0])
KEEPALIVES = st.sampled_from([None, None, b"\0\xc8", b"\0\x1e", b"\x01\x90", None, b"", b"\0\0"])
"None, 20, 3 and 40 seconds, one that is badly formed, and the last call."
MOSTLY = st.sampled_from([True, True, True, False])
INDEX = st.integers(0, 7)
CUTS = st.lists(st.integers(0, 100), max_size=3)
"Offsets at which what comes is cut into pieces."


def always_seven(size: int) -> bytes:
    """A source of ids that repeats itself, so that an id is used again as soon as the rules allow it."""
    return b"\0\x07" * (size // 2)


class ClientMachine(ConnectionMachine[ClientConnection, ClientModel]):
    """Plays with :class:`~dot_proto.ClientConnection`, or with what a subclass makes in :meth:`make_connection`.

    Run it with ``ClientMachine.TestCase``, or ``hypothesis.stateful.run_state_machine_as_test(ClientMachine)``.
    """

    policy: ClassVar[AuthenticationPolicy] = POLICY
    evidence: ClassVar[Mapping[str, Evidence]] = EVIDENCE
    "Of those whom the policy trusts, and does not; whoever overrides one overrides both, under the same names."
    configurations: ClassVar[Sequence[ClientConfiguration]] = (
        ClientConfiguration(max_in_flight=4, max_unsolicited=1, max_idle_timeout=15.0),
        ClientConfiguration(max_in_flight=2, max_unsolicited=0, max_idle_timeout=15.0, query_timeout=1.5),
        ClientConfiguration(
            max_in_flight=4,
            max_silent_timeouts=2,
            silence_timeout=1.5,
            idle_timeout=1.0,
            keepalive=False,
            padding_block=None,
        ),
        ClientConfiguration(max_in_flight=3, max_queries=6, max_idle_timeout=2.0, idle_timeout=0.0, padding_block=None),
    )
    "One of them is drawn at the beginning."

    def __init__(self) -> None:
        super().__init__()
        self.begin(0, verified=False)

    def make_connection(self, configuration: ClientConfiguration) -> ClientConnection:
        """A fresh connection; override it to play with another implementation, or with a proxy."""
        return ClientConnection(self.policy, configuration, entropy=always_seven)

    def another(self) -> ClientConnection:
        """A fresh connection, made as this one was."""
        return self.make_connection(self.model.configuration)

    @initialize(configuration=st.integers(0, 7), verified=MOSTLY)
    def begin(self, configuration: int, verified: bool) -> None:
        """A new connection."""
        chosen = pick(self.configurations, configuration)
        self.asked: list[Query] = []
        self.start(self.make_connection(chosen), ClientModel(configuration=chosen))
        if verified:
            self.verify_peer("trusted")

    @precondition(lambda self: self.model.has_ended)
    @rule(configuration=st.integers(0, 7), verified=MOSTLY)
    def begin_again(self, configuration: int, verified: bool) -> None:
        """So that few steps are spent on a connection that is over."""
        self.finish()
        self.begin(configuration, verified)

    def seen(self) -> tuple[object, ...]:
        """All that can be seen of a client without changing it."""
        client = self.connection
        places = (client.pending, client.capacity, client.is_open, client.accepts_queries)
        return client.state, client.closing_for, client.verdict, client.next_timeout(), *places

    def takes_octets(self) -> bool:
        """Not before the peer was judged."""
        return self.model.state is not State.UNVERIFIED

    # Commands

    @rule(
        name=st.sampled_from(QUESTIONS),
        opcode=st.sampled_from([0, 0, 0, 5]),
        timeout=TIMEOUTS,
        multiple=st.booleans(),
        held=st.booleans(),
        signature=st.sampled_from([None, None, None, SIG, TSIG]),
    )
    def ask(
        self,
        name: str,
        opcode: int,
        timeout: float | None,
        multiple: bool,
        held: bool,
        signature: int | None = None,
    ) -> None:
        """Ask, and send it at once unless held."""
        send, model, now = self.connection.send_query, self.model, self.now
        query = _with_opcode(make_query(name, QTYPE, message_id=0xC000 + len(self.asked)), opcode)
        if signature == SIG and not self._knows_ids():
            signature = None
        if signature is not None:
            query = _signed(query, signature, 7 + len(self.asked) % 3)
        if not model.is_open:
            self.refused(LocalProtocolError, send, query, now=now, timeout=timeout, multiple=multiple)
            return
        if not model.capacity:
            self.refused(TooManyQueriesError, send, query, now=now, timeout=timeout, multiple=multiple)
            return
        if signature == SIG and int.from_bytes(query[:2]) in model.taken_ids():
            self.refused(IdInUseError, send, query, now=now, timeout=timeout, multiple=multiple)
            return
        handle = self.call(send, query, now=now, timeout=timeout, multiple=multiple)
        self.agree("earlier queries with this handle", [each for each in self.asked if each.handle == handle], [])
        seconds = model.configuration.query_timeout if timeout is None else timeout
        asked = Query(handle, query, multiple, now, seconds, now + seconds)
        asked.is_signed, asked.keeps_id = signature is not None, signature == SIG
        self.asked.append(asked)
        model.ask(asked)
        if not held:
            self.drain()

    @precondition(lambda self: self.asked)
    @rule(which=INDEX)
    def cancel(self, which: int) -> None:
        """Give up a query, which may have its fate already."""
        query = self._likely(which)
        due = self.model.cancel(query, self.now)
        self.agree("cancelled", self.call(self.connection.cancel, query.handle, now=self.now), due)

    @precondition(lambda self: any(each.multiple for each in self.asked))
    @rule(which=INDEX)
    def end_exchange(self, which: int) -> None:
        """Say that the last of several messages has come; or say so of a query of which it cannot be said."""
        query, end = self._likely(which), self.connection.end_exchange
        if self.model.end_exchange(query, self.now):
            self.call(end, query.handle, now=self.now)
        else:
            self.refused(LocalProtocolError, end, query.handle, now=self.now)

    @precondition(lambda self: len(self.asked) > 1)
    @rule(timeout=st.sampled_from([None, 5.0, 1.0, 0.0, math.inf]))
    def close(self, timeout: float | None) -> None:
        """In order; more than once, perhaps."""
        self.model.close(timeout, self.now)
        self.call(self.connection.close, now=self.now, timeout=timeout)

    @precondition(lambda self: self.events)
    @rule(mistake=st.sampled_from(MISTAKES))
    def err(self, mistake: str) -> None:
        """The caller does what cannot be done."""
        client, now, query = self.connection, self.now, make_query("a.example")
        send, refused = client.send_query, self.refused
        match mistake:
            case "short":
                refused(LocalProtocolError, send, query[:11], now=now)
            case "long":
                refused(LocalProtocolError, send, bytes(65_536), now=now)
            case "response":
                refused(LocalProtocolError, send, response_to(query), now=now)
            case "malformed":
                refused(LocalProtocolError, send, query[:-1], now=now)
            case "timeout":
                refused(LocalProtocolError, send, query, now=now, timeout=-1.0)
            case "cancel":
                refused(LocalProtocolError, client.cancel, 1 << 60, now=now)
            case "end":
                refused(LocalProtocolError, client.end_exchange, -1, now=now)
            case "close":
                refused(LocalProtocolError, client.close, now=now, timeout=math.nan)
            case _:
                self._err_about_the_peer(mistake)

    def _err_about_the_peer(self, mistake: str) -> None:
        client, now = self.connection, self.now
        if mistake == "verify" and client.verdict is not None:
            self.refused(LocalProtocolError, client.verify_peer, self.evidence["trusted"], now=now)
        if mistake == "octets" and not self.takes_octets():
            self.refused(LocalProtocolError, client.receive_data, b"\0", now=now)

    # Verbs

    @precondition(lambda self: self.connection.verdict is None)
    @rule(whom=st.sampled_from(["trusted", *EVIDENCE]))
    def verify_peer(self, whom: str) -> None:
        """The handshake is over; also behind the end of the connection."""
        evidence = self.evidence[whom]
        due = self.model.delivered()
        due += self.model.verify(judge(self.policy, evidence), self.now)
        self.check(self.call(self.connection.verify_peer, evidence, now=self.now), due)

    @precondition(lambda self: not all(query.wire_id is not None for query in self.model.pending.values()))
    @rule()
    def drain(self) -> None:
        """What leaves is what may, in the order asked, octet for octet, under ids that nothing in flight has."""
        model = self.model
        messages = unframed(self.call(self.connection.data_to_send))
        leaving = model.leave()
        due = [query.on_the_wire(model.configuration) for query in leaving]
        self.agree("what leaves, without the ids", [sent[2:] for sent in messages], due)
        taken = model.taken_ids()
        for query, sent in zip(leaving, messages, strict=True):
            query.wire_id = int.from_bytes(sent[:2])
            if query.keeps_id:
                self.agree("the id of a query signed by SIG(0)", sent[:2], query.message[:2])
            self.agree(f"queries in flight with the id {query.wire_id}", taken.count(query.wire_id), 0)
            taken.append(query.wire_id)

    @precondition(lambda self: self.asked and self.takes_octets())
    @rule(
        answers=st.lists(
            st.tuples(INDEX, st.sampled_from(["right", "right", "other-case", *ANSWERS]), KEEPALIVES),
            min_size=1,
            max_size=3,
        ),
        cuts=CUTS,
    )
    def receive(self, answers: list[tuple[int, str, bytes | None]], cuts: list[int]) -> None:
        """Some messages at once, cut into pieces; each answers a query, of now or of long ago, well or badly."""
        made = [self.answer(self._likely(which), kind, keepalive) for which, kind, keepalive in answers]
        due = self.model.delivered()
        for answer in made:
            self.model.hear(self.now)
            due += self.model.receive(answer, self.now)
        events = [
            event
            for piece in cut_at(stream_of(answer.octets for answer in made), cuts)
            for event in self.call(self.connection.receive_data, piece, now=self.now)
        ]
        self.check(events, due)

    @precondition(lambda self: any(query.wire_id is not None for query in self.model.pending.values()))
    @rule(which=INDEX, keepalive=KEEPALIVES)
    def receive_one(self, which: int, keepalive: bytes | None) -> None:
        """The usual thing, so that it is usual here too."""
        self.receive([(which % len(self.model.pending), "right", keepalive)], [])

    @rule(
        name=st.sampled_from(QUESTIONS),
        multiple=st.booleans(),
        keepalive=KEEPALIVES,
        seconds=st.sampled_from([0.5, 0.0, 5.0]),
    )
    def exchange(self, name: str, multiple: bool, keepalive: bytes | None, seconds: float) -> None:
        """The usual two things, and between them some time."""
        self.ask(name, 0, 8.0, multiple, held=False)
        self.pass_time(seconds, looks=True)
        if self.model.pending and self.takes_octets():
            self.receive([(len(self.model.pending) - 1, "right", keepalive)], [])

    @precondition(lambda self: self.asked and self.takes_octets())
    @rule(which=INDEX, kind=st.sampled_from(ANSWERS), count=st.integers(2, 4))
    def flood(self, which: int, kind: str, count: int) -> None:
        """The same, again and again."""
        self.receive([(which, kind, None)] * count, [])

    def answer(self, query: Query, kind: str, keepalive: bytes | None) -> Answer:
        """A message about this query."""
        # An answer to what has not left yet can only be a guess at its id.
        wire_id = 7 if query.wire_id is None else query.wire_id
        question, opcode = query.question, query.opcode
        swapped = question[:-4].swapcase() + question[-4:]
        other_type = question[:-4] + NOT_THE_QTYPE + question[-2:]
        match kind:
            case "other-case":
                return Answer(wire_id, swapped, opcode, keepalive=keepalive)
            case "refused":
                return Answer(wire_id, question, opcode, rcode=5, keepalive=keepalive)
            case "refused-without-question":
                return Answer(wire_id, None, opcode, rcode=5, keepalive=keepalive)
            case "without-question":
                return Answer(wire_id, None, opcode, keepalive=keepalive)
            case "nxdomain-without-question":
                return Answer(wire_id, None, opcode, rcode=3, keepalive=keepalive)
            case "badvers":
                return Answer(wire_id, question, opcode, rcode=16, keepalive=keepalive)
            case "badvers-without-question":
                return Answer(wire_id, None, opcode, rcode=16, keepalive=keepalive)
            case "echo":
                return Answer(wire_id, question, opcode, is_response=False)
            case "other-opcode":
                return Answer(wire_id, question, opcode ^ 4, keepalive=keepalive)
            case "other-name":
                return Answer(wire_id, b"\1c" + question[2:], opcode, keepalive=keepalive)
            case "other-type":
                return Answer(wire_id, other_type, opcode, keepalive=keepalive)
            case "other-id":
                return Answer(wire_id ^ 1, question, opcode, keepalive=keepalive)
            case _:
                return Answer(wire_id, question, opcode, keepalive=keepalive)

    def _knows_ids(self) -> bool:
        """Whether all that is in flight has left, now at the latest: only then its ids are known."""
        if self.takes_octets() and None in self.model.taken_ids():
            self.drain()
        return None not in self.model.taken_ids()

    def _likely(self, which: int) -> Query:
        """A query, and rather one of which something is still to come."""
        model = self.model
        return pick([*model.pending.values(), *model.abandoned.values(), *self.asked[-2:]], which)

    # Laws

    @invariant()
    def the_places_are_as_foretold(self) -> None:
        """What is pending, and what would be taken."""
        client, model = self.connection, self.model
        self.agree("pending", client.pending, len(model.pending))
        self.agree("is_open", client.is_open, model.is_open)
        self.agree("capacity", client.capacity, model.capacity)
        self.agree("accepts_queries", client.accepts_queries, model.capacity > 0)


def _with_opcode(query: bytes, opcode: int) -> bytes:
    return query[:2] + bytes([query[2] | opcode << 3]) + query[3:]


def _signed(query: bytes, kind: int, own_id: int) -> bytes:
    """The query with TSIG, or under this id with SIG(0), as its last record; nobody looks at the signature itself."""
    signature = record(b"\0", kind, bytes(18), rdclass=255)
    signed = message(question_of(query), flags=int.from_bytes(query[2:4]), additionals=[opt(), signature])
    return (own_id.to_bytes(2) if kind == SIG else query[:2]) + signed[2:]
