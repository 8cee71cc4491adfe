"""What becomes of a client's message and of an upstream's response: rows of the table P.1, and laws."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dot_io.proxy._names import NAMES
from dot_io.proxy._policy import Drop, DropReason, Forward, Policy, Reply
from dot_io.proxy._responses import NETWORK_ERROR
from dot_io.proxy.configuration import AnyQueries, ClientSubnet, ProxyConfiguration, SpecialNames
from dot_proto import make_query
from dot_proto._edns import for_queries, splice
from dot_proto._message import walk

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "proxy.json").read_text("utf-8"))

PADDING, KEEPALIVE, COOKIE, NSID, ECS, EDE = 12, 11, 10, 3, 8, 15

POLICY = Policy(ProxyConfiguration())


def octets(text: str | list[list[Any]]) -> bytes:
    """Of a vector: hexadecimal, or pieces of it that are repeated."""
    return bytes.fromhex(text if isinstance(text, str) else "".join(piece * times for piece, times in text))


def query(
    name: str = "a.example",
    rdtype: str = "A",
    *,
    payload: int | None = None,
    options: dict[int, bytes] | None = None,
    **more: Any,
) -> bytes:
    """A client's; ``payload``: with OPT of this size."""
    message = dns.message.make_query(name, rdtype, id=0x1234)
    if payload is not None:
        listed = [dns.edns.GenericOption(code, data) for code, data in (options or {}).items()]
        message.use_edns(0, more.get("ednsflags", 0), payload, options=listed)
    message.flags |= more.get("flags", 0)
    return message.to_wire()


def forwarded(message: bytes, *, over_udp: bool = True, policy: Policy = POLICY) -> Forward:
    decision = policy.receive(message, over_udp=over_udp)
    assert isinstance(decision, Forward)
    return decision


def replied(message: bytes, *, over_udp: bool = True, policy: Policy = POLICY) -> dns.message.Message:
    decision = policy.receive(message, over_udp=over_udp)
    assert isinstance(decision, Reply)
    return dns.message.from_wire(decision.message)


def upstream_answer(asked: bytes, size: int = 0, *, options: dict[int, bytes] | None = None) -> bytes:
    """A response of an upstream, padded, with TXT records of ``size`` octets of text."""
    response = dns.message.make_response(dns.message.from_wire(asked), recursion_available=True)
    question = response.question[0]
    for start in range(0, size, 200):
        text = "x" * min(200, size - start)
        found = response.find_rrset(response.answer, question.name, question.rdclass, dns.rdatatype.TXT, create=True)
        found.add(dns.rdata.from_text("IN", "TXT", f'"{start:05}{text}"'), 300)
    listed = [dns.edns.GenericOption(code, data) for code, data in (options or {PADDING: bytes(64)}).items()]
    response.use_edns(0, 0, 1232, options=listed)
    return response.to_wire(max_size=65_535)


def answered(message: bytes, size: int = 0, *, over_udp: bool = True, policy: Policy = POLICY, **more: Any) -> bytes:
    """What the client gets for its query from an upstream that has this answer."""
    forward = forwarded(message, over_udp=over_udp, policy=policy)
    return forward.query.response(upstream_answer(forward.message, size, **more))


# ---------------------------------------------------------------- what is sent upstream


@pytest.mark.parametrize("vector", VECTORS["to_upstream"], ids=lambda vector: str(vector["id"]))
def test_an_upstream_gets_the_query_with_our_opt(vector: dict[str, Any]) -> None:
    """P2, P3: what the policy and the engine make of it together; cookies are dropped, whatever the vector says."""
    wanted = octets(vector["upstream_query"])
    if vector["id"] == "cookie-pass":
        wanted = octets(next(each["upstream_query"] for each in VECTORS["to_upstream"] if each["id"] == "cookie-drop"))
    if vector["id"] == "opt-not-last":  # OPT of ours goes last
        assert dns.message.from_wire(wanted).question == dns.message.from_wire(octets(vector["client_query"])).question
        return
    asked = forwarded(octets(vector["client_query"])).message
    options = vector["options"]
    added = for_queries(keepalive=options.get("keepalive", False), padding_block=options.get("block", 128))
    sent = splice(asked, walk(asked), added) if added.codes else asked
    assert vector["upstream_id"].to_bytes(2) + sent[2:] == wanted


def test_no_octet_of_the_clients_id_goes_upstream() -> None:
    """P3."""
    assert forwarded(query()).message[:2] == b"\0\0"


def test_padding_keepalive_cookies_and_unknown_options_are_dropped() -> None:
    """P2."""
    options = {PADDING: b"\0\0", KEEPALIVE: b"", COOKIE: bytes(8), 65_001: b"x", NSID: b""}
    asked = dns.message.from_wire(forwarded(query(payload=1232, options=options)).message)
    assert [option.otype for option in asked.options] == [NSID]


@pytest.mark.parametrize(
    ("subnet", "sent", "passes"),
    [
        (ClientSubnet.DROP, bytes([0, 1, 24, 0, 192, 0, 2]), None),
        (ClientSubnet.DROP, bytes([0, 2, 0, 0]), bytes([0, 2, 0, 0])),
        (ClientSubnet.FORWARD, bytes([0, 1, 24, 0, 192, 0, 2]), bytes([0, 1, 24, 0, 192, 0, 2])),
        (ClientSubnet.ZERO, None, bytes([0, 1, 0, 0])),
        (ClientSubnet.ZERO, bytes([0, 1, 24, 0, 192, 0, 2]), bytes([0, 1, 0, 0])),
        (ClientSubnet.ZERO, bytes([0, 2, 0, 0]), bytes([0, 2, 0, 0])),
    ],
)
@pytest.mark.parametrize("has_opt", [True, False])
def test_the_clients_network(subnet: ClientSubnet, sent: bytes | None, passes: bytes | None, has_opt: bool) -> None:
    """P2; a prefix of length 0 stays."""
    if sent is not None and not has_opt:
        return
    policy = Policy(ProxyConfiguration(client_subnet=subnet))
    options = {} if sent is None else {ECS: sent}
    forward = forwarded(query(payload=1232 if has_opt else None, options=options), policy=policy)
    asked = dns.message.from_wire(forward.message)
    assert [option.to_wire() for option in asked.options] == ([] if passes is None else [passes])
    response = forward.query.response(upstream_answer(forward.message, options={ECS: bytes([0, 1, 0, 0])}))
    is_told = sent is not None and (sent[2] == 0 or subnet is ClientSubnet.FORWARD)
    assert [option.otype for option in dns.message.from_wire(response).options] == [ECS] * is_told


@given(st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()), st.booleans(), st.booleans())
def test_flags_pass_both_ways(bits: tuple[bool, ...], has_ad: bool, clears_ad: bool) -> None:
    """P5: AD, CD and RD go up as they come, and DO, and the upstream's AD comes back unless it counts for nothing."""
    ad, cd, do, rd = bits
    flags = ad * dns.flags.AD | cd * dns.flags.CD
    message = bytearray(query(payload=1232, flags=flags, ednsflags=dns.flags.DO if do else 0))
    message[2] = rd
    forward = forwarded(bytes(message), policy=Policy(ProxyConfiguration(), clears_ad=clears_ad))
    asked = dns.message.from_wire(forward.message)
    assert (asked.flags, bool(asked.ednsflags & dns.flags.DO)) == (flags | rd * dns.flags.RD, do)
    answer = bytearray(upstream_answer(forward.message))
    answer[3] |= has_ad * 0x20
    response = dns.message.from_wire(forward.query.response(bytes(answer)))
    assert bool(response.flags & dns.flags.AD) == (has_ad and not clears_ad)
    assert bool(response.ednsflags & dns.flags.DO) == do


# ---------------------------------------------------------------- what a client gets


@pytest.mark.parametrize("vector", VECTORS["to_downstream"], ids=lambda vector: str(vector["id"]))
def test_a_client_gets_the_response_with_our_opt(vector: dict[str, Any]) -> None:
    """P1, P2, P3."""
    policy = Policy(ProxyConfiguration(max_udp_size=4096 if vector["id"] == "fits-4096" else 1232))
    asked = octets(vector["client_query"])
    forward = forwarded(asked, over_udp=vector.get("udp", True), policy=policy)
    if "upstream_response" in vector:
        response = octets(vector["upstream_response"])
    else:
        message = dns.message.make_response(dns.message.from_wire(forward.message))
        message.use_edns(0)
        message.set_rcode(vector["upstream_rcode"])
        message.flags |= dns.flags.RA
        response = message.to_wire()
    assert forward.query.response(response) == octets(vector["client_response"])


SIZES = [0, 100, 511, 512, 513, 1231, 1232, 1233, 4096, 65_535]


@pytest.mark.parametrize("size", [0, *range(380, 470, 5), *range(1080, 1200, 5), 4000, 60_000])
def test_no_answer_over_udp_is_longer_than_allowed(size: int) -> None:
    """P1: at most what the client says, at least 512, at most 1232; cut ones carry no records."""
    answer = upstream_answer(query(rdtype="TXT"), size)
    for payload in [None, *SIZES]:
        allowed = 512 if payload is None else min(max(payload, 512), 1232)
        message = query(rdtype="TXT", payload=payload)
        response = forwarded(message).query.response(answer)
        whole = forwarded(message, over_udp=False).query.response(answer)
        assert len(response) <= allowed
        parsed = dns.message.from_wire(response)
        assert bool(parsed.flags & dns.flags.TC) == (len(whole) > allowed)
        if len(whole) > allowed:
            assert (parsed.answer, parsed.authority, parsed.additional) == ([], [], [])
            assert parsed.question == dns.message.from_wire(message).question
        else:
            assert response == whole
        assert (parsed.edns, parsed.options) == (-1 if payload is None else 0, ())


def test_an_answer_over_tcp_that_leaves_no_room_goes_without_opt() -> None:
    """P.3."""
    forward = forwarded(query(rdtype="TXT", payload=1232), over_udp=False)
    bare = upstream_answer(forward.message, 60_000)
    bare = forward.query.response(bare)[:-11]  # without OPT
    bare = bare[:10] + b"\0\0" + bare[12:]
    data = bytes(65_530 - len(bare) - 12)
    full = bare[:10] + b"\0\1" + bare[12:] + b"\xc0\x0c\xff\0\0\1\0\0\0\0" + len(data).to_bytes(2) + data
    assert forward.query.response(full) == full[:2] + full[2:]
    assert len(full) == 65_530


def test_ede_passes_and_nsid_if_asked() -> None:
    """P2."""
    options = {EDE: b"\0\x16", NSID: b"id", PADDING: bytes(9), KEEPALIVE: b"\0\x64", COOKIE: bytes(16), 65_001: b"x"}
    response = dns.message.from_wire(answered(query(payload=1232), options=options))
    assert [option.otype for option in response.options] == [EDE]
    response = dns.message.from_wire(answered(query(payload=1232, options={NSID: b""}), options=options))
    assert sorted(option.otype for option in response.options) == [NSID, EDE]


@pytest.mark.parametrize(("over_udp", "options"), [(True, []), (False, [KEEPALIVE])])
def test_keepalive_is_answered_over_tcp_only(over_udp: bool, options: list[int]) -> None:
    """P8, and RFC 7828, section 3.2.1; its value is the idle timeout in units of 100 ms."""
    response = dns.message.from_wire(answered(query(payload=1232, options={KEEPALIVE: b""}), over_udp=over_udp))
    assert [option.otype for option in response.options] == options
    assert [option.to_wire() for option in response.options] == [(100).to_bytes(2) for _ in options]


@given(st.lists(st.booleans(), min_size=9, max_size=9))
def test_the_question_comes_back_in_the_clients_letters(upper: list[bool]) -> None:
    """P6, also where an upstream changes their case."""
    name = "".join(one.upper() if up else one for one, up in zip("a.example", upper, strict=True))
    message = query(name)
    forward = forwarded(message)
    assert forward.message[12:] == message[12:]
    answer = upstream_answer(forward.message)
    lower = answer[:12] + answer[12 : len(message)].lower() + answer[len(message) :]
    assert forward.query.response(lower)[12:] == message[12:]


def test_a_signed_query_and_its_response_pass_but_for_the_id() -> None:
    """P.3: nobody but those who share the key may change it (RFC 8945, section 5.5)."""
    vector = next(each for each in VECTORS["to_upstream"] if each["id"] == "tsig")
    message = octets(vector["client_query"])
    forward = forwarded(message)
    assert forward.message == message
    response = bytearray(message)
    response[2] |= 0x80
    assert forward.query.response(b"\xbe\xef" + response[2:]) == message[:2] + response[2:]
    padded = bytearray(upstream_answer(query(rdtype="TXT"), 2000))
    assert len(forward.query.response(bytes(padded))) <= 512 + 720


def test_what_upstream_says_of_size_is_never_cleared() -> None:
    """P1: TC of an upstream stays (RFC 5625, section 4.4)."""
    for over_udp in (True, False):
        forward = forwarded(query(), over_udp=over_udp)
        answer = bytearray(upstream_answer(forward.message))
        answer[2] |= 2
        assert forward.query.response(bytes(answer))[2] & 2


def test_a_malformed_answer_is_servfail() -> None:
    """What cannot be read is not passed on."""
    forward = forwarded(query(payload=1232))
    response = dns.message.from_wire(forward.query.response(upstream_answer(forward.message)[:-70]))
    assert response.rcode() == dns.rcode.SERVFAIL
    assert [option.otype for option in response.options] == [EDE]


@pytest.mark.parametrize("payload", [None, 1232])
def test_failures_say_why_to_whom_can_be_told(payload: int | None) -> None:
    """P16: own OPT only, with an extended error."""
    failure = dns.message.from_wire(forwarded(query(payload=payload)).query.failure(NETWORK_ERROR, "dot-proto: text"))
    assert (failure.id, failure.rcode(), failure.edns) == (0x1234, dns.rcode.SERVFAIL, -1 if payload is None else 0)
    assert [option.to_wire() for option in failure.options] == [b"\0\x17dot-proto: text"] * (payload is not None)


# ---------------------------------------------------------------- what is answered here, or not at all


@pytest.mark.parametrize("over_udp", [True, False])
def test_what_is_not_answered(over_udp: bool) -> None:
    """P7: less than a header, and responses."""
    for length in range(12):
        assert POLICY.receive(query()[:length], over_udp=over_udp) == Drop(DropReason.SHORT)
    assert POLICY.receive(upstream_answer(query()), over_udp=over_udp) == Drop(DropReason.RESPONSE)


@pytest.mark.parametrize(
    ("message", "rcode"),
    [
        (query()[:4] + b"\0\0" + query()[6:12], dns.rcode.FORMERR),
        (query()[:4] + b"\0\2" + query()[6:] + query()[12:], dns.rcode.FORMERR),
        (query()[:-3], dns.rcode.FORMERR),
        (query() + b"x", dns.rcode.FORMERR),
        *[(query()[:2] + bytes([code << 3]) + query()[3:], dns.rcode.NOTIMP) for code in range(1, 16)],
        (query(rdtype="AXFR"), dns.rcode.NOTIMP),
        (query(rdtype="IXFR"), dns.rcode.NOTIMP),
    ],
)
def test_what_is_no_query_as_it_should_be(message: bytes, rcode: int) -> None:
    """P7."""
    decision = POLICY.receive(message, over_udp=True)
    assert isinstance(decision, Reply)
    assert decision.message[:2] == message[:2]
    assert decision.message[2] & 0xF8 == 0x80 | message[2] & 0x78
    assert decision.message[3] & 15 == rcode
    assert len(decision.message) <= len(message) + 11


def test_an_edns_version_that_is_not_known() -> None:
    """P.1: BADVERS, in an OPT of ours."""
    message = bytearray(query(payload=1232))
    message[-5] = 1
    response = replied(bytes(message))
    assert (response.rcode(), response.edns, response.answer) == (dns.rcode.BADVERS, 0, [])
    message = bytearray(query(payload=1232, options={COOKIE: bytes(8)}))
    message[-17] = 1
    assert replied(bytes(message)).rcode() == dns.rcode.BADVERS


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("below", ["", "x.", "A.b."])
@pytest.mark.parametrize("rdtype", ["A", "SVCB", "SOA"])
def test_special_names_reach_no_upstream(name: str, below: str, rdtype: str) -> None:
    """P10: with SOA, so that it is kept for a while (RFC 2308), or with an address of this machine."""
    response = replied(query(f"{below}{name.upper()}", rdtype, payload=1232))
    if name == "localhost" and rdtype == "A":
        assert [str(record) for record in response.answer[0]] == ["127.0.0.1"]
        return
    assert response.answer == []
    [soa] = response.authority
    assert soa.name == dns.name.from_text(name)
    assert soa.rdtype == dns.rdatatype.SOA
    exists = name in ("localhost", "resolver.arpa") or (not below and name.endswith(".arpa"))
    assert response.rcode() == (dns.rcode.NOERROR if exists else dns.rcode.NXDOMAIN)
    forwarded(query(f"{below}{name}", rdtype), policy=Policy(ProxyConfiguration(special_names=SpecialNames.FORWARD)))


def test_localhost_has_both_addresses() -> None:
    """P10."""
    found = [replied(query("localhost", rdtype)).answer[0][0].to_text() for rdtype in ("A", "AAAA")]
    assert found == ["127.0.0.1", "::1"]


@pytest.mark.parametrize(
    "name", ["example.com", "localhost.example", "nottest", "onion.example", "11.in-addr.arpa", "."]
)
def test_other_names_are_asked(name: str) -> None:
    """P10: nothing besides."""
    forwarded(query(name))


def test_the_private_reverse_zones() -> None:
    """P10, as RFC 6303 lists them and no public address."""
    for text in ("10.1.2.3", "172.16.0.1", "172.31.255.1", "192.168.1.1", "127.0.0.1", "100.64.0.1", "169.254.1.1"):
        replied(query(ipaddress.ip_address(text).reverse_pointer, "PTR"))
    for text in ("::1", "::", "fd00::1", "fe80::1", "febf::1", "2001:db8::1"):
        replied(query(ipaddress.ip_address(text).reverse_pointer, "PTR"))
    for text in ("172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1", "9.9.9.9", "2606::1", "::2"):
        forwarded(query(ipaddress.ip_address(text).reverse_pointer, "PTR"))


@pytest.mark.parametrize(
    ("setting", "udp", "tcp"),
    [("forward", None, None), ("hinfo", dns.rcode.NOERROR, None), ("refuse", dns.rcode.REFUSED, dns.rcode.REFUSED)],
)
def test_any(setting: str, udp: int | None, tcp: int | None) -> None:
    """P12."""
    policy = Policy(ProxyConfiguration(any=AnyQueries(setting)))
    for over_udp, rcode in ((True, udp), (False, tcp)):
        message = query(rdtype="ANY")
        if rcode is None:
            forwarded(message, over_udp=over_udp, policy=policy)
            continue
        response = replied(message, over_udp=over_udp, policy=policy)
        assert response.rcode() == rcode
        assert [rrset.to_text() for rrset in response.answer] == (
            ['a.example. 3600 IN HINFO "RFC8482" ""'] if rcode == dns.rcode.NOERROR else []
        )


# ---------------------------------------------------------------- laws


@given(
    st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: make_query("a.example")[:12] + tail),
    st.booleans(),
)
def test_any_octets_are_dropped_answered_or_asked(message: bytes, over_udp: bool) -> None:
    """P31: never an exception; an answer is a response under the client's id, and no longer than 512 octets."""
    decision = POLICY.receive(message, over_udp=over_udp)
    if isinstance(decision, Reply):
        assert decision.message[:2] == message[:2]
        assert decision.message[2] & 0x80
        assert len(decision.message) <= 512
    elif isinstance(decision, Forward):
        assert walk(decision.message).problem is None


@given(st.binary(min_size=12, max_size=300), st.sampled_from([None, 512, 1232]), st.booleans())
def test_any_octets_of_an_upstream_make_a_response(answer: bytes, payload: int | None, over_udp: bool) -> None:
    """A response whatever an upstream says, which is itself no malformed one."""
    forward = forwarded(query(payload=payload), over_udp=over_udp)
    response = forward.query.response(answer)
    assert response[:2] == b"\x12\x34"
    assert walk(response).problem is None
