"""What the kit's strategies promise: what they draw is of the kind they say, and shrinks to what reads well."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, TypeVar

import dns.message
import dns.name
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from dot_proto import (
    AuthenticationPolicy,
    ClientConfiguration,
    MessageError,
    Pin,
    ServerConfiguration,
    Upstream,
    make_query,
)
from dot_proto._message import opcode_of, question_end, walk
from dot_proto.query import encode_name
from dot_proto.testing import registration, strategies
from dot_proto.testing.messages import message, opt, question_of, record, response_to, stream_of

Drawn = TypeVar("Drawn")

SURE = settings(
    derandomize=True,
    database=None,
    max_examples=2000,
    phases=[Phase.generate, Phase.shrink],
    report_multiple_bugs=False,
)
"The same search every time."


def simplest(strategy: st.SearchStrategy[Drawn], having: Any = lambda drawn: True) -> Drawn:
    return find(strategy, having, settings=SURE)


@given(strategies.names())
def test_names_are_names(name: str):
    """Each can be asked for, and comes back from dnspython as it was."""
    assert dns.name.from_wire(encode_name(name), 0)[0].to_text() == name


@given(strategies.wire_names())
def test_wire_names_are_names(name: bytes):
    """Each can be read to its end, by dnspython too."""
    assert dns.name.from_wire(name, 0)[1] == len(name) <= 255


@given(strategies.questions())
def test_questions_can_be_read(question: bytes):
    """Name, type, class, nothing behind."""
    assert question_end(message(question)) == 12 + len(question)


@given(strategies.queries())
def test_queries_are_well_formed(query: bytes):
    """No octet of them is objected to, and dnspython reads them."""
    assert walk(query).problem is None
    assert query[2] & 0x80 == 0
    assert opcode_of(query) == 0
    assert len(dns.message.from_wire(query).question) == 1


@given(strategies.queries(names=st.just("dot.test."), opcodes=[5], well_formed=False))
def test_queries_can_be_told_what_to_be(query: bytes):
    """Name and opcode as asked, QR 0; what OPT and the flags are is open."""
    assert question_of(query).startswith(encode_name("dot.test"))
    assert query[2] & 0xA8 == 0x28


@given(strategies.opt_records())
def test_opt_records_are_well_formed(drawn: bytes):
    """Walked to the end, and no option twice."""
    layout = walk(message(additionals=[drawn]))
    assert layout.problem is None
    codes = [code for code, _ in layout.options]
    assert len(codes) == len(set(codes))


def test_opt_records_can_be_broken():
    """An option whose length lies, a version that nobody knows, an option that only servers may send."""
    loose = strategies.opt_records(well_formed=False)
    assert simplest(loose, lambda drawn: walk(message(additionals=[drawn])).problem is not None)
    assert simplest(loose, lambda drawn: drawn[6] == 255)[6] == 255
    assert simplest(loose, lambda drawn: drawn[11:15] == b"\0\x0b\0\2")


@given(st.data())
def test_responses_answer_their_query(data: st.DataObject):
    """Id, question and opcode are the query's; records are walked to the end."""
    query = data.draw(strategies.queries())
    response = data.draw(strategies.responses_to(query))
    assert response[:2] == query[:2]
    assert response[2] & 0xF9 == query[2] & 0x79 | 0x80
    assert question_of(response) == question_of(query)
    assert walk(response).problem is None


@given(strategies.responses())
def test_responses_are_responses(response: bytes):
    """QR is 1."""
    assert response[2] & 0x80


@given(strategies.messages())
def test_messages_can_be_framed(drawn: bytes):
    """12 to 65535 octets (FRM-7, FRM-8)."""
    assert 12 <= len(drawn) <= 65_535


@given(strategies.streams(strategies.queries()).flatmap(lambda it: st.tuples(st.just(it), strategies.chunkings(it))))
def test_chunks_are_the_stream(drawn: tuple[bytes, list[bytes]]):
    """Nothing is added, lost or moved by a cut."""
    stream, chunks = drawn
    assert b"".join(chunks) == stream


STREAM = stream_of([make_query("a"), make_query("b")])


@pytest.mark.parametrize(
    "wanted",
    [
        [STREAM],
        [STREAM[at : at + 1] for at in range(len(STREAM))],
        [STREAM[:1], STREAM[1:33], STREAM[33:]],
        [STREAM[:40], STREAM[40:]],
    ],
    ids=["everything at once", "one octet at a time", "inside each length", "anywhere"],
)
def test_every_kind_of_cut_is_drawn(wanted: list[bytes]):
    """Also the one between the two octets of a length (FRM-3)."""
    assert simplest(strategies.chunkings(STREAM), lambda chunks: chunks == wanted) == wanted


@given(strategies.chunkings(stream_of([bytes(65_535)])))
def test_a_long_stream_is_not_dripped(chunks: list[bytes]):
    """65537 pieces of one octet would take too long."""
    assert len(chunks) <= 1 + 65_537 // 64


def test_prefixes_are_found_to_the_last_that_is_whole():
    """In a stream that is cut inside a length too."""
    assert strategies.prefixes_in(STREAM + b"\0") == strategies.prefixes_in(STREAM) == [0, 32]


DAMAGE = ["length of message", "ends after", "ids of messages", "questions of messages", "flipped", "behind the end"]


@pytest.mark.parametrize("word", DAMAGE)
def test_every_kind_of_damage_is_drawn(word: str):
    """And each says what it is."""
    assert word in simplest(strategies.corrupted_streams(), lambda drawn: word in drawn.damage).damage


@given(st.data())
def test_damage_damages(data: st.DataObject):
    """Never the stream that it was made from; a bit that flips, and what is swapped, keep every length."""
    query = make_query("a")
    drawn = data.draw(strategies.corrupted_streams(st.just(query)))
    assert drawn.octets != stream_of([query] * (len(drawn.octets) // 32)) or drawn.damage.startswith("ends after")
    if "flipped" in drawn.damage or "swapped" in drawn.damage:
        assert len(drawn.octets) % 32 == 0
        assert strategies.prefixes_in(drawn.octets) == list(range(0, len(drawn.octets), 32))


@given(strategies.damaged(st.just(b"whole")))
def test_what_is_damaged_is_not_what_it_was(octets: bytes):
    """Cut, changed, or longer."""
    assert octets != b"whole"


@pytest.mark.parametrize("wanted", [b"", b"wh", b"7hole", b"whole\0"])
def test_every_kind_of_damage_to_octets_is_drawn(wanted: bytes):
    """An end at any place, a bit that flips, something behind."""
    damaged = strategies.damaged(st.just(b"whole"))
    assert simplest(damaged, lambda octets: octets == wanted) == wanted


def test_swaps_exchange_and_change_nothing_else():
    """Ids, questions of different lengths; not what is the same anyway, nor questions that cannot be read."""
    one, other = message(question_of(make_query("a")), id=1), message(question_of(make_query("long.name")), id=2)
    (_, ids), (_, questions) = strategies.swaps([one, other])
    assert ids == [b"\0\2" + one[2:], b"\0\1" + other[2:]]
    assert questions == [one[:12] + other[12:], other[:12] + one[12:]]
    assert strategies.swaps([one, one]) == []
    longest = bytes(65_535)
    assert [what for what, _ in strategies.swaps([one, longest])] == ["ids of messages 0 and 1 swapped"]
    unreadable = b"\0\1" + other[2:-1]
    assert strategies.swaps([one, unreadable]) == []
    with pytest.raises(MessageError):
        question_end(unreadable)


def test_flip_counts_from_the_highest_bit():
    """As RFC 1035 draws them."""
    assert strategies.flip(b"\0\0", 0) == b"\x80\0"
    assert strategies.flip(b"\0\0", 15) == b"\0\1"


SIMPLEST = {
    "names": (strategies.names(), "."),
    "wire_names": (strategies.wire_names(), b"\0"),
    "questions": (strategies.questions(), b"\0\0\1\0\1"),
    "message_ids": (strategies.message_ids(), 0),
    "edns_options": (strategies.edns_options(), b"\0\x0b\0\0"),
    "opt_records": (strategies.opt_records(), opt()),
    "queries": (strategies.queries(), make_query("a", message_id=0)[:11] + b"\0" + b"\0\0\1\0\1"),
    "records": (strategies.records(), record()),
    "responses": (strategies.responses(), response_to(message(b"\0\0\1\0\1", flags=0x0100))),
    "streams": (strategies.streams(), b""),
    "chunkings": (strategies.chunkings(STREAM), [STREAM]),
    "pins": (strategies.pins(), Pin(bytes(32))),
    "policies": (strategies.policies(), AuthenticationPolicy.strict("a.example")),
    "upstreams": (strategies.upstreams(), Upstream(addresses=("192.0.2.1",))),
}


@pytest.mark.parametrize("name", SIMPLEST)
def test_what_it_shrinks_to(name: str):
    """Something that is read at a glance."""
    strategy, expected = SIMPLEST[name]
    assert simplest(strategy) == expected


def test_corruption_shrinks_to_one_short_message():
    """Not to eight of 65535 octets."""
    drawn = simplest(strategies.corrupted_streams(), lambda drawn: "flipped" in drawn.damage)
    assert drawn == strategies.CorruptedStream("bit 0 of message 0 flipped", b"\0\x0c\x80" + bytes(11))


@given(strategies.client_configurations(), strategies.server_configurations())
def test_configurations_are_accepted(client: ClientConfiguration, server: ServerConfiguration):
    """Every one that is drawn is one that makes sense."""
    assert client.max_in_flight >= 1
    assert server.hard_outstanding >= server.max_outstanding


@pytest.mark.parametrize("kind", [Pin, AuthenticationPolicy, Upstream, ClientConfiguration, ServerConfiguration])
def test_from_type_knows_our_types(kind: type):
    """Through the hook of the entry point, which may be called again."""
    registration.register()
    assert isinstance(simplest(st.from_type(kind)), kind)


def test_the_hook_imports_no_strategy():
    """Hypothesis calls it in every process that imports Hypothesis: it must cost next to nothing."""
    code = (
        "import sys, hypothesis; before = set(sys.modules)\n"
        "from dot_proto.testing.registration import register; register()\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)\n"
        "print(*(name for name in sys.modules if name.startswith('dot_proto.testing.')))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    packages, modules = ran.stdout.splitlines()
    assert set(packages.split()) <= {"dot_proto", "hypothesis"}
    assert modules.split() == ["dot_proto.testing.registration"]
