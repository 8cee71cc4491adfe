"""Private addresses in answers (P13)."""

from __future__ import annotations

import ipaddress

import dns.message
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dot_io.proxy._policy import Forward, Policy
from dot_io.proxy._private import PRIVATE, without_private
from dot_io.proxy.configuration import PrivateAnswers, ProxyConfiguration
from dot_proto import LocalProtocolError
from dot_proto._message import walk

PUBLIC = ["192.0.2.1", "9.9.9.9", "11.0.0.0", "172.32.0.1", "100.128.0.1", "2001:db8::1", "2620:fe::fe", "::2"]
EDGES = [str(network[at]) for network in PRIVATE for at in (0, -1)]

STRIPPING = ProxyConfiguration(private_answers=PrivateAnswers.STRIP, private_names=["plex.example", "Home.Example."])


def answers(name: str, *addresses: str, configuration: ProxyConfiguration = STRIPPING) -> list[str]:
    """What is left of these addresses, behind a CNAME and with records behind them that point to its name."""
    query = dns.message.make_query(name, "A" if ":" not in addresses[0] else "AAAA")
    decision = Policy(configuration).receive(query.to_wire(), over_udp=False)
    assert isinstance(decision, Forward)
    response = dns.message.make_response(query)
    response.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "CNAME", "target.example."))
    for address in addresses:
        rdtype = "AAAA" if ":" in address else "A"
        response.answer.append(dns.rrset.from_text("target.example.", 60, "IN", rdtype, address))
    response.answer.append(dns.rrset.from_text("last.example.", 60, "IN", "MX", "1 mail.last.example."))
    response.authority.append(dns.rrset.from_text("target.example.", 60, "IN", "NS", "ns.last.example."))
    found = dns.message.from_wire(decision.query.response(response.to_wire()))
    assert found.answer[0].rdtype == dns.rdatatype.CNAME
    assert found.answer[-1].to_text() == "last.example. 60 IN MX 1 mail.last.example."
    assert found.authority[0].to_text() == "target.example. 60 IN NS ns.last.example."
    return [str(ipaddress.ip_address(record.address)) for rrset in found.answer[1:-1] for record in rrset]


@pytest.mark.parametrize("address", EDGES)
def test_private_addresses_are_taken_out(address: str) -> None:
    """Both ends of each range, mapped ones too; allowed by default, and by name."""
    assert answers("a.example", address) == []
    assert answers("x.home.example", address) == [address]
    assert answers("PLEX.example", address) == [address]
    assert answers("a.example", address, configuration=ProxyConfiguration()) == [address]


@pytest.mark.parametrize("address", PUBLIC)
def test_others_stay(address: str) -> None:
    assert answers("a.example", address) == [address]


def test_some_of_several() -> None:
    assert answers("a.example", "192.0.2.1", "10.0.0.1", "192.0.2.2", "127.0.0.1") == ["192.0.2.1", "192.0.2.2"]


@given(st.binary(min_size=12, max_size=300))
def test_any_octets_make_nothing_worse(message: bytes) -> None:
    """P31: what could be read still can."""
    if walk(message).problem is None:
        assert walk(without_private(message)).problem is None
    else:
        assert without_private(message) == message


@given(st.lists(st.sampled_from([*PUBLIC, *EDGES]).map(ipaddress.ip_address), min_size=1, max_size=8, unique=True))
def test_what_is_left_is_public(addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> None:
    left = answers("a.example", *map(str, addresses))
    assert sorted(left) == sorted(str(each) for each in addresses if str(each) in PUBLIC)


def test_a_name_that_is_none() -> None:
    with pytest.raises(LocalProtocolError, match=r"private_names: .* has an empty label"):
        ProxyConfiguration(private_names=["a..b"])
