"""A plain query built without any dependency, as dnspython builds it."""

from __future__ import annotations

import string

import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dot_proto import MessageError, make_query
from dot_proto.query import TYPES, encode_name
from support.messages import question_of

LABELS = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=63)
NAMES = st.lists(LABELS, min_size=1, max_size=8).map(".".join)


def parsed(wire: bytes) -> dns.message.Message:
    return dns.message.from_wire(wire)


@given(NAMES, st.sampled_from(sorted(TYPES)) | st.integers(0, 65_535), st.booleans(), st.booleans(), st.booleans())
def test_as_dnspython_makes_it(name, rdtype, recursion_desired, dnssec_ok, absolute):
    """Name, type, flags and EDNS, octet for octet (RFC 1035, section 4.1; RFC 6891, section 6.1)."""
    assume(len(name) <= 253)
    theirs = dns.message.make_query(
        name, rdtype, use_edns=0, want_dnssec=dnssec_ok, payload=1232, id=7, flags=dns.flags.RD * recursion_desired
    )
    name += "." * absolute
    ours = make_query(name, rdtype, message_id=7, recursion_desired=recursion_desired, dnssec_ok=dnssec_ok)
    assert ours == theirs.to_wire()
    again = parsed(ours)
    assert again == theirs
    assert (again.edns, again.payload, again.ednsflags) == (0, 1232, dns.flags.DO * dnssec_ok)


@pytest.mark.parametrize("mnemonic", sorted(TYPES))
def test_the_types(mnemonic):
    """Each mnemonic is IANA's, in any case."""
    assert TYPES[mnemonic] == dns.rdatatype.from_text(mnemonic)
    number = TYPES[mnemonic].to_bytes(2)
    for text in (mnemonic, mnemonic.lower(), f"TYPE{TYPES[mnemonic]}"):
        assert question_of(make_query("a.example", text))[-4:-2] == number


@pytest.mark.parametrize(("text", "number"), [("TYPE0", 0), ("type65280", 65_280), ("TYPE65535", 65_535)])
def test_types_without_a_name(text, number):
    """RFC 3597, section 5."""
    assert make_query("a.example", text) == make_query("a.example", number)


@pytest.mark.parametrize("text", ["", "TYPE", "TYPE-1", "TYPE 1", "TYPEA", "TYPE1A", "TYPE\u0661", "1", "NSAP-PTRR"])
def test_what_is_no_type(text):
    """The error repeats what was given."""
    with pytest.raises(MessageError, match="is no type known here"):
        make_query("a.example", text)


@pytest.mark.parametrize("value", [-1, 65_536])
@pytest.mark.parametrize("what", ["rdtype", "rdclass", "message_id"])
def test_numbers_have_sixteen_bits(what, value):
    """And the error says which number it is."""
    with pytest.raises(MessageError, match=f"{what} is {value}; it has 16 bits"):
        make_query("a.example", **{what: value})


def test_a_type_above_sixteen_bits():
    """Written out, too."""
    with pytest.raises(MessageError, match="rdtype is 65536"):
        make_query("a.example", "TYPE65536")


@pytest.mark.parametrize("value", [0, 3, 65_535])
def test_class_and_id(value):
    """Sixteen bits each, both ends included."""
    wire = make_query("a.example", rdclass=value, message_id=value)
    assert wire[:2] == value.to_bytes(2)
    assert question_of(wire)[-2:] == value.to_bytes(2)


def test_what_is_usual():
    """Type A, class IN, RD set, DO not, one OPT, and the id is left to the connection."""
    wire = make_query("example.com")
    assert wire == bytes.fromhex(
        "0000 0100 0001 0000 0000 0001 07 6578616d706c65 03 636f6d 00 0001 0001 00 0029 04d0 00000000 0000"
    )


def test_the_root():
    """One octet."""
    assert encode_name(".") == b"\0"


@given(NAMES)
def test_names_as_dnspython_reads_them(name):
    """Case is kept (RFC 4343, section 4)."""
    assume(len(name) <= 253)
    assert encode_name(name) == encode_name(name + ".") == dns.name.from_text(name).to_wire()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "has an empty label"),
        ("..", "has an empty label"),
        ("a..b", "has an empty label"),
        (".a", "has an empty label"),
        ("a..", "has an empty label"),
        ("a" * 64, "a label has at most 63 octets, not 64"),
        (".".join(["a" * 63] * 4), "a name has at most 255 octets on the wire, not 257"),
        (".".join(["a" * 63] * 3 + ["a" * 62]), "a name has at most 255 octets on the wire, not 256"),
        ("m\u00fcller.example", "is not ASCII: give the A-label form"),
        ("a\\.b.example", "escapes are not read here"),
    ],
)
def test_what_is_no_name(name, words):
    """RFC 1035, section 2.3.4; the error says what to do."""
    with pytest.raises(MessageError, match=words):
        make_query(name)


def test_the_longest_names():
    """63 octets a label, 255 a name: the longest query has 282 octets."""
    name = ".".join(["a" * 63] * 3 + ["a" * 61])
    assert len(encode_name(name)) == 255
    assert len(make_query(name)) == 12 + 255 + 4 + 11
