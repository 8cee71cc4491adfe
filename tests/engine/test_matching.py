"""Ids, the table of outstanding queries, and the question whether a message is the answer (MAT-1 to MAT-18)."""

from __future__ import annotations

import math
from collections import Counter
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, precondition, rule

from dot_proto import DiscardReason, LocalProtocolError, make_query
from dot_proto._matching import _TRIES, COMPARED, IDS, RESPONSE, START, Exchange, Outstanding, Query, mismatch
from dot_proto._message import question_end
from support.interpreted import interpreted
from support.messages import QR, just_before, message, opt, question_of, record, response_to
from support.vectors import load, octets

CASES = load("matching")["cases"]
QUERY = make_query("example.com", message_id=0xBEEF)


def by_id(case) -> str:
    return case["id"]


def always(wire_id: int):
    """A source of one id only."""
    return lambda size: wire_id.to_bytes(2) * (size // 2)


def counting(size: int) -> bytes:
    """The ids 0, 1, 2, ... up to 255, over and over."""
    return b"".join(number.to_bytes(2) for number in range(size // 2))


def added(
    table: Outstanding,
    query: bytes = QUERY,
    *,
    now: float = 0.0,
    timeout: float = 5.0,
    is_multiple: bool = False,
    own: int = -1,
) -> Query:
    caller_id, start = START.unpack_from(query)
    expected, question = start & COMPARED | RESPONSE, query[12 : question_end(query)]
    kind = Exchange if is_multiple else Query
    made = kind(caller_id, expected, question, now, now + timeout, has_keepalive=False)
    assert (table.add(made) if own < 0 else table.add_under(made, own)) == made.wire_id
    assert table.find(made.handle) is made
    return made


# Ids.


def test_ids_come_from_the_source():
    """In its order, and id 0 like any other (MAT-16; RFC 5452, section 9.2)."""
    table = Outstanding(counting)
    assert [added(table).wire_id for _ in range(256)] == list(range(256))


def test_an_id_that_is_taken_is_not_drawn_again():
    """A source that returns 7 for ever: 7, 8, 9 (MAT-1)."""
    table = Outstanding(always(7))
    assert [added(table).wire_id for _ in range(3)] == [7, 8, 9]


def test_ids_go_around():
    """65535 is followed by 0 (MAT-1)."""
    table = Outstanding(always(65_535))
    assert [added(table).wire_id for _ in range(3)] == [65_535, 0, 1]


def test_an_abandoned_id_is_not_drawn():
    """Its answer may still come (MAT-2)."""
    table = Outstanding(always(7))
    given_up = added(table)
    del table.pending[7]
    table.abandoned[7] = given_up
    assert added(table).wire_id == 8
    del table.abandoned[7]
    assert added(table).wire_id == 7


@pytest.mark.parametrize("source", [always(7), counting, Random(7).randbytes])
def test_every_id_can_be_taken(source):
    """65536 queries, each under an id of its own, and the last one gets the last id (MAT-18)."""
    table = Outstanding(source)
    queries = [added(table) for _ in range(IDS)]
    assert {query.wire_id for query in queries} == set(range(IDS))
    assert len(table) == IDS
    table.release(queries[12_345])
    assert added(table).wire_id == queries[12_345].wire_id


class Counted(dict[int, Query]):
    """Counts how often somebody looks whether an id is in it."""

    looks = 0

    def __contains__(self, wire_id: object) -> bool:
        self.looks += 1
        return super().__contains__(wire_id)


def crowded(taken: int, source) -> Outstanding:
    """A table with so many queries."""
    table = Outstanding(source)
    for _ in range(taken):
        added(table)
    return table


@interpreted
@pytest.mark.parametrize("taken", [0, 1000, 30_000, 60_000, 65_000, 65_500, 65_535])
def test_to_find_a_free_id_takes_bounded_work(taken):
    """FR-69: a query is asked and answered, over and over, however many others are in flight."""
    table = crowded(taken, Random(69).randbytes)
    table.release(added(table))  # what makes the list, if it is needed, is done once for a connection
    table.pending = Counted(table.pending)
    for _ in range(200):
        before = table.pending.looks
        table.release(added(table))
        assert table.pending.looks - before <= _TRIES + 2
    assert len(table) == taken


@interpreted
@pytest.mark.parametrize("stretch", [range(100), range(1000, 34_000), range(65_000, 65_536)])
def test_a_server_cannot_make_the_search_long(stretch):
    """FR-69: it sees the ids, and leaves all in one stretch unanswered; each is looked at once, at the most."""
    table = Outstanding(always(stretch[0]))
    for wire_id in stretch:
        table.abandoned[wire_id] = asked()
    table.abandoned = Counted(table.abandoned)
    found = [added(table) for _ in range(200)]
    assert len({query.wire_id for query in found} | set(stretch)) == 200 + len(stretch)
    assert table.abandoned.looks <= IDS + 200 * (_TRIES + 2)


def test_ids_in_a_crowd_are_random():
    """FR-69: any that is free, with about the same likelihood, whatever was free before (MAT-16)."""
    table = crowded(65_000, Random(1).randbytes)
    free = sorted(set(range(IDS)) - set(table.pending))
    drawn = Counter[int]()
    for _ in range(100 * len(free)):
        query = added(table)
        drawn[query.wire_id] += 1
        table.release(query)
    assert set(drawn) == set(free)
    # A hundred times each on the average, and a deviation of ten: six of them are never exceeded by chance.
    assert 40 <= min(drawn.values()) <= max(drawn.values()) <= 160


def test_a_crowd_has_no_memory():
    """FR-69: two connections whose sources differ only now give out other ids; the same sources, the same (MAT-16)."""

    def ids(seed: int) -> list[int]:
        table = crowded(65_400, Random(1).randbytes)
        table._draw = Random(seed).randbytes
        return [added(table).wire_id for _ in range(100)]

    assert ids(1) == ids(1)
    assert ids(1) != ids(2)
    assert sorted(ids(1)) != ids(1)


@pytest.mark.parametrize("octets", [b"", bytes(3), bytes(5)])
def test_a_source_that_fails_in_a_crowd(octets):
    """MAT-16: nothing is registered, and nothing is lost; a source that is well again serves."""
    for taken in (65_000, 65_535):
        table = crowded(taken, Random(3).randbytes)
        table._drawn = []
        assert table.free is not None
        free, table._draw = sorted(table.free), lambda size: octets
        with pytest.raises(LocalProtocolError, match=f"entropy returned {len(octets)} octets where 4"):
            added(table)
        assert sorted(table.free) == free
        assert len(table) == taken
        table._draw = Random(4).randbytes
        assert added(table).wire_id in free


@pytest.mark.parametrize("taken", [0, 100, 65_400])
def test_an_id_that_must_be_kept(taken):
    """FR-61: it is given if it is free, and to nobody else then."""
    table = crowded(taken, Random(5).randbytes)
    own = next(wire_id for wire_id in range(IDS - 1, 0, -1) if not table.is_taken(wire_id))
    query = asked()
    assert table.add_under(query, own) == own == query.wire_id
    assert table.is_taken(own)
    assert table.find(query.handle) is query
    others = {added(table).wire_id for _ in range(IDS - taken - 1)}
    assert len(table) == IDS
    assert own not in others


@pytest.mark.parametrize("octets", [b"", bytes(511), bytes(513)])
def test_a_source_that_returns_too_little(octets):
    """Ids that can be guessed are not made up instead (MAT-16); nothing was registered."""
    table = Outstanding(lambda size: octets)
    with pytest.raises(LocalProtocolError, match=f"entropy returned {len(octets)} octets where 512"):
        added(table)
    assert len(table) == 0


def test_one_draw_serves_many_queries():
    """A call of the source costs more than all else that is done for a query."""
    draws = []
    table = Outstanding(lambda size: draws.append(size) or counting(size))
    for _ in range(257):
        table.release(added(table))
    assert draws == [512, 512]


# Handles.


def test_handles_are_never_used_again():
    """Not even when the id is (MAT-13)."""
    table = Outstanding(always(7))
    first = added(table)
    del table.pending[7]
    second = added(table)
    assert first.wire_id == second.wire_id == 7
    assert first.handle != second.handle
    assert table.find(first.handle) is None
    assert table.find(second.handle) is second


def test_which_handles_were_issued():
    """So that a mistake is told from an old handle."""
    table = Outstanding(always(0xFFFF))
    assert not table.was_issued(0)
    handle = added(table).handle
    assert table.was_issued(handle)
    assert not table.was_issued(-1)
    assert not table.was_issued(table.next_handle())
    assert not table.was_issued(handle + IDS)  # under any id, the query behind this one has not been asked
    assert table.find(-1) is None
    del table.pending[0xFFFF]
    assert table.was_issued(handle)
    assert table.find(handle) is None


def test_the_next_handle_divides_old_from_new():
    """By it the engine knows which queries have been handed out (CON-8)."""
    table = Outstanding(always(0xFFFF))
    for _ in range(3):
        limit = table.next_handle()
        assert all(query.handle < limit for query in table.pending.values())
        assert added(table).handle >= limit


# Deadlines.


def test_no_deadline_without_queries():
    """Nothing pending, nothing due."""
    table = Outstanding(counting)
    assert table.earliest_deadline() == math.inf
    assert table.expire(math.inf) == []


def test_queries_expire_at_their_tick_earliest_first():
    """Not one float before; two at one time in the order in which they were asked."""
    table = Outstanding(counting)
    late, early, also_early = (added(table, timeout=timeout) for timeout in (9, 3, 3))
    assert table.earliest_deadline() == 3
    assert table.expire(just_before(3)) == []
    assert table.expire(3) == [early, also_early]
    assert table.earliest_deadline() == 9
    assert list(table.pending.values()) == [late]
    assert table.expire(100) == [late]
    assert table.earliest_deadline() == math.inf


def test_the_deadline_is_never_late():
    """An answer leaves the earlier bound standing; the next look corrects it."""
    table = Outstanding(counting)
    first, second = added(table, timeout=3), added(table, timeout=9)
    del table.pending[first.wire_id]
    assert table.earliest_deadline() <= 9
    assert table.expire(3) == []
    assert table.earliest_deadline() == 9
    assert table.expire(9) == [second]


def test_an_answer_to_the_last_query_leaves_no_deadline():
    """Nobody is woken for nothing."""
    table = Outstanding(counting)
    del table.pending[added(table).wire_id]
    assert table.earliest_deadline() == math.inf


def test_no_query_is_looked_at_before_the_first_is_due():
    """However many are pending, a glance at the clock costs the same (FRM-12)."""

    class Unseen(dict):
        def values(self):
            raise AssertionError("the queries are looked at")

    table = Outstanding(counting)
    table.pending = Unseen()
    added(table, timeout=3)
    added(table, timeout=9)
    assert table.expire(just_before(3)) == []
    with pytest.raises(AssertionError):
        table.expire(3)


class Walked(dict[int, Query]):
    """Counts the queries that somebody walks over, from the last to the first."""

    walked = 0

    def values(self):
        return self

    def __reversed__(self):
        for wire_id in [*super().__reversed__()]:
            self.walked += 1
            yield self[wire_id]


@interpreted
@pytest.mark.parametrize("others", [0, 10, 10_000])
def test_to_time_out_takes_bounded_work(others):
    """FR-69: however many others are pending, each is looked at once in its life, when something times out."""
    table = Outstanding(Random(6).randbytes)
    table.pending = Walked()
    for number in range(others):
        added(table, timeout=1e6 + number)
    for number in range(1000):
        asked = added(table, now=float(number), timeout=0.5)
        assert table.expire(number + 0.5) == [asked]
        assert table.earliest_deadline() == (1e6 if others else math.inf)
    assert table.pending.walked <= others + 2 * 1000


def test_deadlines_of_answered_queries_are_forgotten():
    """FR-69: also those that are far: what is kept of them is bounded by what is pending."""
    table = Outstanding(Random(7).randbytes)
    left = added(table, timeout=1e6)
    for number in range(2000):
        far, near = added(table, timeout=1e9), added(table, now=float(number), timeout=0.0)
        assert table.expire(float(number)) == [near]
        table.release(far)
        assert len(table._queue) <= 200
        assert table.earliest_deadline() == 1e6
    assert table.expire(1e6) == [left]


@given(
    st.lists(
        st.tuples(st.sampled_from(["ask", "ask", "renew", "answer", "wait"]), st.integers(0, 9), st.floats(0, 3)),
        max_size=60,
    )
)
def test_deadlines_are_kept_as_by_sorting(steps):
    """FR-69: the queries that are due, in the order of their deadlines, whatever was renewed or answered meanwhile."""
    table, now = Outstanding(always(1)), 10.0
    for what, number, seconds in steps:
        pending = list(table.pending.values())
        if what == "ask":
            added(table, now=now, timeout=seconds, is_multiple=number > 4)
        elif what == "wait":
            now += seconds
        elif pending:
            query = pending[number % len(pending)]
            if what == "answer":
                table.release(query)
            elif isinstance(query, Exchange):
                query.deadline = now + query.timeout
        due = sorted((query.deadline, query.handle) for query in table.pending.values() if query.deadline <= now)
        assert [(query.deadline, query.handle) for query in table.expire(now)] == due
        assert (
            now < table.earliest_deadline() <= min((each.deadline for each in table.pending.values()), default=math.inf)
        )


@pytest.mark.parametrize("timeout", [0.0, math.inf])
def test_timeouts_of_nothing_and_for_ever(timeout):
    """Due at once, or never."""
    table = Outstanding(counting)
    query = added(table, now=7.0, timeout=timeout)
    assert table.earliest_deadline() == 7.0 + timeout
    assert table.expire(1e300) == ([query] if timeout == 0 else [])


class Tables(RuleBasedStateMachine):
    """The table against a plain set of ids, whatever comes in which order (MAT-1, MAT-2, MAT-13)."""

    queries = Bundle("queries")

    def __init__(self) -> None:
        super().__init__()
        self.table = Outstanding(lambda size: b"\0\1\0\0" * (size // 4))
        self.now = 0.0
        self.taken: set[int] = set()
        self.issued: set[int] = set()
        self.deadlines: dict[int, float] = {}

    @rule(target=queries, timeout=st.sampled_from([0.5, 1.0, 3.0, math.inf]), own=st.integers(-1, 4))
    def ask(self, timeout, own):
        assert self.table.is_taken(own) == (own in self.taken)
        if own in self.taken:
            own = -1
        query = added(self.table, now=self.now, timeout=timeout, own=own)
        assert own in (-1, query.wire_id)
        assert query.wire_id not in self.taken
        assert query.handle not in self.issued
        self.taken.add(query.wire_id)
        self.issued.add(query.handle)
        self.deadlines[query.handle] = self.now + timeout
        return query

    @rule(query=queries)
    def answer(self, query):
        if self.table.find(query.handle) is query:
            self.table.release(query)
            del self.deadlines[query.handle]
            self.taken.discard(query.wire_id)

    @rule(target=queries, step=st.sampled_from([0.0, 0.5, 1.0]))
    def wait(self, step):
        self.now += step
        due = self.table.expire(self.now)
        for query in due:
            assert self.deadlines.pop(query.handle) <= self.now
            self.table.abandoned[query.wire_id] = query
        assert all(deadline > self.now for deadline in self.deadlines.values())
        return multiple(*due)

    @precondition(lambda self: self.table.abandoned)
    @rule(data=st.data())
    def late_answer(self, data):
        wire_id = data.draw(st.sampled_from(sorted(self.table.abandoned)))
        self.table.release(self.table.abandoned[wire_id])
        self.taken.discard(wire_id)

    @invariant()
    def agrees(self):
        assert {*self.table.pending, *self.table.abandoned} == self.taken
        assert len(self.table) == len(self.taken)
        if self.table.free is not None:
            assert sorted(self.table.free) == sorted(set(range(IDS)) - self.taken)
        assert self.table.earliest_deadline() <= min(self.deadlines.values(), default=math.inf)
        assert all(self.table.was_issued(handle) for handle in self.issued)


TestTables = Tables.TestCase


class CrowdedTables(Tables):
    """The same with its free ids in a list from the beginning, as if there had been a crowd (FR-69)."""

    def __init__(self) -> None:
        super().__init__()
        self.table.free = list(range(IDS))


TestCrowdedTables = CrowdedTables.TestCase
TestCrowdedTables.settings = settings(max_examples=8)  # for each step, 65536 ids are compared


# What a query remembers.


@pytest.mark.parametrize("opcode", [0, 4, 5, 15])
def test_what_is_remembered_of_a_query(opcode):
    """Its opcode and question, and when it was asked; RD is nothing to compare (MAT-12)."""
    wire = message(question_of(QUERY), id=0xBEEF, flags=opcode << 11 | 0x0100)
    query = added(Outstanding(always(7)), wire, now=2.0, timeout=3.0)
    assert query.wire_id == 7
    assert query.opcode == opcode
    assert query.question == question_of(QUERY)
    assert query.question_count == 1
    assert query.caller_id == wire[:2]
    assert (query.asked_at, query.deadline) == (2.0, 5.0)
    assert not query.has_keepalive


def test_what_is_remembered_of_an_exchange():
    """Also how long each of its messages may take (RFC 5936, section 2.2)."""
    query = added(Outstanding(always(7)), now=2.0, timeout=3.0, is_multiple=True)
    assert isinstance(query, Exchange)
    assert (query.timeout, query.deadline, query.has_answers) == (3.0, 5.0, False)


@pytest.mark.parametrize("opcode", range(16))
@pytest.mark.parametrize("others", [0, 0x07FF])
@pytest.mark.parametrize("question", [question_of(QUERY), b""])
def test_the_start_of_a_response(question, others, opcode):
    """QR, opcode and question count in one number, so that the usual response is known by one comparison (MAT-12)."""
    wire = message(question, flags=opcode << 11 | others)
    query = asked(wire)
    assert query.question == question
    for response, same in [
        (message(question, flags=QR | opcode << 11 | others), True),
        (message(question, flags=opcode << 11 | others), False),
        (message(question, flags=QR | (opcode ^ 1) << 11), False),
        (message(b"" if question else question_of(QUERY), flags=QR | opcode << 11), False),
    ]:
        assert (int.from_bytes(response[2:6]) & COMPARED == query.expected) == same


# Is this the answer?


def asked(query: bytes = QUERY) -> Query:
    return added(Outstanding(counting), query)


VERDICTS = {
    "match": None,
    "not-a-response": DiscardReason.NOT_A_RESPONSE,
    "opcode-mismatch": DiscardReason.OPCODE_MISMATCH,
    "question-mismatch": DiscardReason.QUESTION_MISMATCH,
    "question-missing": DiscardReason.QUESTION_MISSING,
    "malformed:name-truncated": DiscardReason.QUESTION_MISMATCH,
}


@pytest.mark.parametrize("case", [case for case in CASES if case["verdict"] != "unknown-id"], ids=by_id)
def test_the_verdicts(case):
    """As RFC 7766, section 7, and RFC 5452, section 9.1, were read elsewhere (MAT-5 to MAT-12, MAT-19, MAT-20)."""
    query = added(Outstanding(counting), octets(case["query"]), is_multiple=case["id"].startswith("axfr"))
    if isinstance(query, Exchange):
        query.has_answers = case["continuation"]
    assert mismatch(query, octets(case["response"])) is VERDICTS[case["verdict"]]


@pytest.mark.parametrize("rcode", range(16))
@pytest.mark.parametrize("opcode", [0, 4, 5])
def test_a_response_without_a_question(opcode, rcode):
    """FR-6: whatever it says, the question is compared where there is one (RFC 7766, section 7; MAT-9, MAT-10)."""
    query = asked(message(question_of(QUERY), flags=opcode << 11))
    assert mismatch(query, message(flags=QR | opcode << 11 | rcode)) is None
    assert mismatch(query, message(flags=QR | opcode << 11 | rcode, answers=[record(b"\0")])) is None
    for other in (message(flags=opcode << 11 | rcode), message(flags=QR | (opcode ^ 1) << 11 | rcode)):
        assert mismatch(query, other) in (DiscardReason.NOT_A_RESPONSE, DiscardReason.OPCODE_MISMATCH)


def test_the_first_message_of_an_exchange_has_its_question():
    """Those behind it may leave it out (MAT-10, XOT-4; RFC 5936, section 2.2.1), and errors may."""
    exchange = added(Outstanding(counting), is_multiple=True)
    assert isinstance(exchange, Exchange)
    assert mismatch(exchange, message(flags=QR)) is DiscardReason.QUESTION_MISSING
    for rcode in range(1, 16):
        assert mismatch(exchange, message(flags=QR | rcode)) is None
    exchange.has_answers = True
    assert mismatch(exchange, message(flags=QR)) is None


@pytest.mark.parametrize("wire", [QUERY[:-11], message(question_of(QUERY), flags=5 << 11), message()])
def test_which_exchanges_need_a_question(wire):
    """Those of opcode QUERY that have one themselves (MAT-10)."""
    exchange = added(Outstanding(counting), wire, is_multiple=True)
    needs_one = exchange.opcode == 0 and exchange.question_count == 1
    response = message(flags=QR | exchange.opcode << 11)
    assert mismatch(exchange, response) is (DiscardReason.QUESTION_MISSING if needs_one else None)


@pytest.mark.parametrize(("upper", "lower", "excused"), [(0, 0, False), (0, 3, True), (1, 0, True), (1, 3, True)])
def test_the_rcode_has_twelve_bits(upper, lower, excused):
    """FR-66: BADVERS is an error although its lower four bits say NOERROR (EDN-2, MAT-9)."""
    response = message(flags=QR | lower, additionals=[opt(rcode=upper)])
    exchange = added(Outstanding(counting), is_multiple=True)
    assert mismatch(exchange, response) is (None if excused else DiscardReason.QUESTION_MISSING)


@pytest.mark.parametrize("count", [2, 256, 257, 65_535])
def test_several_questions(count):
    """Never an answer (MAT-21; RFC 9619)."""
    response = response_to(QUERY)
    response = response[:4] + count.to_bytes(2) + response[6:]
    assert mismatch(asked(), response) is DiscardReason.QUESTION_MISMATCH


def test_letters_in_the_type_are_no_letters():
    """HTTPS is 65, an A; type 97 is an a: no case is folded in numbers (MAT-5, MAT-6)."""
    assert mismatch(asked(make_query("a.example", 65)), response_to(make_query("a.example", 97))) is not None
    upper, lower = (make_query("a.example", rdclass=rdclass) for rdclass in (0x4141, 0x6161))
    assert mismatch(asked(upper), response_to(lower)) is DiscardReason.QUESTION_MISMATCH


def test_no_other_octet_is_folded():
    """@ and `, [ and {: neighbours of letters that differ in the same bit (MAT-6; RFC 4343, section 3)."""
    for one in range(256):
        for other in {one, one ^ 0x20}:
            query, response = (message(bytes([1, octet, 0, 0, 1, 0, 1]), flags=0) for octet in (one, other))
            same = one == other or bytes([one]).isalpha()
            assert (mismatch(asked(query), response_to(response)) is None) == same


@given(st.binary(min_size=12, max_size=60), st.booleans())
def test_any_octets_have_a_verdict(wire, is_response):
    """Never raises; what passes has QR and the opcode, and the question unless it was left out (MAT-8, MAT-19)."""
    wire = wire[:2] + bytes([wire[2] & 0x07 | 0x80 * is_response]) + wire[3:]
    if mismatch(asked(), wire) is None:
        assert is_response
        assert wire[4:6] == b"\0\0" or question_of(wire).lower() == question_of(QUERY)


@given(st.integers(0, 200), st.integers(0, 255))
def test_one_octet_decides(offset, value):
    """A changed octet of the question, in anything but the case of a letter, makes it another one (MAT-5, MAT-6)."""
    response = bytearray(response_to(QUERY, record()))
    start, end = 12, 12 + len(question_of(QUERY))
    offset = start + offset % (end - start)
    before, response[offset] = response[offset], value
    wire = bytes(response)
    is_name = offset < end - 4
    same = value == before or (is_name and chr(before).isalpha() and bytes([before]).lower() == bytes([value]).lower())
    assert mismatch(asked(), wire) is (None if same else DiscardReason.QUESTION_MISMATCH)


@given(st.sampled_from([case for case in CASES if case["verdict"] == "match"]), st.integers(0, 100))
def test_a_response_cut_in_its_question(case, length):
    """Whatever is left of a question is not the question (MAT-19)."""
    query, response = octets(case["query"]), octets(case["response"])
    end = question_end(response)
    assume(end > 12)
    assert mismatch(asked(query), response[: 12 + length % (end - 12)]) is DiscardReason.QUESTION_MISMATCH
