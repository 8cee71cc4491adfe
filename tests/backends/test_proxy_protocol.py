"""The PROXY protocol as octets: every form of it, cut anywhere, and everything that it is not."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dot_io._proxy_protocol import (
    BINARY_START,
    MAX_BINARY,
    MAX_TEXT,
    Networks,
    ProxyHeader,
    ProxyHeaderError,
    parse_header,
)
from support.doors import NO_NETWORKS, refused

IPV4 = socket.inet_aton("192.0.2.7") + socket.inet_aton("198.51.100.1") + struct.pack("!HH", 40_000, 853)
IPV6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + struct.pack("!HH", 40_000, 853)
)
MAPPED = socket.inet_pton(socket.AF_INET6, "::ffff:192.0.2.7") * 2 + struct.pack("!HH", 40_000, 853)
TLVS = b"\x05\x00\x04\x01\x02\x03\x04" + b"\x20\x00\x05" + bytes(5)


def binary(family: int, rest: bytes, *, command: int = 0x21) -> bytes:
    return BINARY_START + bytes([command, family]) + len(rest).to_bytes(2) + rest


GOOD: dict[str, tuple[bytes, tuple[str, int] | None]] = {
    "TCP4": (b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 853\r\n", ("192.0.2.7", 40_000)),
    "TCP4, the longest": (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", ("255.255.255.255", 65_535)),
    "TCP6": (b"PROXY TCP6 2001:db8::7 2001:DB8:0:0:0:0:0:1 0 853\r\n", ("2001:db8::7", 0)),
    "TCP6, mapped": (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 40000 853\r\n", ("192.0.2.7", 40_000)),
    "UNKNOWN": (b"PROXY UNKNOWN\r\n", None),
    "UNKNOWN, the longest": (b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n", None),
    "version 2, TCP over IPv4": (binary(0x11, IPV4), ("192.0.2.7", 40_000)),
    "version 2, UDP over IPv4": (binary(0x12, IPV4), ("192.0.2.7", 40_000)),
    "version 2, TCP over IPv6": (binary(0x21, IPV6), ("2001:db8::7", 40_000)),
    "version 2, UDP over IPv6": (binary(0x22, IPV6), ("2001:db8::7", 40_000)),
    "version 2, mapped": (binary(0x21, MAPPED), ("192.0.2.7", 40_000)),
    "version 2 with TLVs": (binary(0x11, IPV4 + TLVS), ("192.0.2.7", 40_000)),
    "version 2, the longest": (binary(0x11, IPV4 + bytes(MAX_BINARY - 28)), ("192.0.2.7", 40_000)),
    "LOCAL": (binary(0, b"", command=0x20), None),
    "LOCAL with what is ignored": (binary(0x11, b"abc", command=0x20), None),
    "LOCAL of no known family": (binary(0xFF, TLVS, command=0x20), None),
    "UNSPEC": (binary(0, TLVS), None),
    "Unix stream": (binary(0x31, bytes(216) + TLVS), None),
    "Unix datagram": (binary(0x32, bytes(216)), None),
}
BAD: dict[str, tuple[bytes, str]] = {
    "TLS": (b"\x16\x03\x01\x02\x00", "no header of the PROXY protocol"),
    "HTTP": (b"GET / HTTP/1.1\r\n", "no header of the PROXY protocol"),
    "small letters": (b"proxy TCP4 192.0.2.7 198.51.100.1 40000 853\r\n", "no header of the PROXY protocol"),
    "two spaces": (b"PROXY  TCP4 192.0.2.7 198.51.100.1 40000 853\r\n", "a PROXY line other than"),
    "UDP4": (b"PROXY UDP4 192.0.2.7 198.51.100.1 40000 853\r\n", "a PROXY line other than"),
    "UNKNOWN and more": (b"PROXY UNKNOWNS\r\n", "a PROXY line other than"),
    "another family": (b"PROXY TCP4 2001:db8::7 2001:db8::1 40000 853\r\n", "a PROXY line other than"),
    "and the other": (b"PROXY TCP6 192.0.2.7 198.51.100.1 40000 853\r\n", "a PROXY line other than"),
    "octal": (b"PROXY TCP4 192.0.2.07 198.51.100.1 40000 853\r\n", "a PROXY line other than"),
    "a zone": (b"PROXY TCP6 fe80::1%1 ::1 40000 853\r\n", "a PROXY line other than"),
    "no destination": (b"PROXY TCP4 192.0.2.7 198.51.100 40000 853\r\n", "a PROXY line other than"),
    "a port too high": (b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 853\r\n", "a PROXY line other than"),
    "the other too": (b"PROXY TCP4 192.0.2.7 198.51.100.1 853 99999\r\n", "a PROXY line other than"),
    "a port with a zero": (b"PROXY TCP4 192.0.2.7 198.51.100.1 0853 853\r\n", "a PROXY line other than"),
    "no port": (b"PROXY TCP4 192.0.2.7 198.51.100.1 853\r\n", "a PROXY line other than"),
    "five fields": (b"PROXY TCP4 192.0.2.7 198.51.100.1 853 853 1\r\n", "a PROXY line other than"),
    "no ASCII": (b"PROXY TCP4 192.0.2.7 198.51.100.1 853 \xd9\xa3\r\n", "a PROXY line other than"),
    "LF alone": (b"PROXY TCP4 192.0.2.7 198.51.100.1 853 853\n" + bytes(70), "not end within 107 octets"),
    "too long": (b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n", "not end within 107 octets"),
    "version 1 in binary": (binary(0x11, IPV4, command=0x11), "of version 1, command 1"),
    "version 3": (binary(0x11, IPV4, command=0x31), "of version 3, command 1"),
    "command 2": (binary(0x11, IPV4, command=0x22), "of version 2, command 2"),
    "family 4": (binary(0x41, IPV4), "of address family 4, protocol 1"),
    "IPv4 without protocol": (binary(0x10, IPV4), "of address family 1, protocol 0"),
    "protocol 3": (binary(0x13, IPV4), "of address family 1, protocol 3"),
    "half an address": (binary(0x11, IPV4[:11]), "with 11 octets of addresses, which need 12"),
    "IPv4 for IPv6": (binary(0x21, IPV4), "with 12 octets of addresses, which need 36"),
    "Unix, cut": (binary(0x31, bytes(215)), "with 215 octets of addresses, which need 216"),
    "too long in binary": (binary(0x11, bytes(MAX_BINARY - 15)), "of 4097 octets, more than 4096"),
    "the longest length": (binary(0, b"", command=0x20)[:14] + b"\xff\xff", "of 65551 octets, more than 4096"),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_header_is_read(case: str) -> None:
    """FR-34: with what follows left alone; before its last octet nothing is said."""
    octets, client = GOOD[case]
    assert parse_header(octets + b"\x16\x03\x01rest") == ProxyHeader(client, len(octets))
    assert all(parse_header(octets[:end]) is None for end in range(len(octets)))


@pytest.mark.parametrize("case", BAD)
def test_what_is_none_is_refused(case: str) -> None:
    """FR-34: for good, and in the same words however much has come; no octet of it is quoted."""
    octets, words = BAD[case]
    with pytest.raises(ProxyHeaderError, match=words) as whole:
        parse_header(octets)
    assert str(whole.value).isprintable()
    texts = set()
    for end in range(len(octets)):
        try:
            assert parse_header(octets[:end]) is None
            assert not texts
        except ProxyHeaderError as error:
            texts.add(str(error))
    assert texts <= {str(whole.value)}


headers = st.one_of(
    st.sampled_from([octets for octets, _ in [*GOOD.values(), *BAD.values()]]),
    st.binary(max_size=300),
    st.binary(max_size=300).map(lambda octets: BINARY_START + octets),
    st.binary(max_size=300).map(lambda octets: BINARY_START + b"\x21\x11\0" + octets),
    st.binary(max_size=120).map(lambda octets: b"PROXY " + octets),
    st.text("PROXYUNKTCP46 0123456789.:af\r\n", max_size=120).map(lambda text: b"PROXY TCP4 " + text.encode()),
)


def fate(octets: bytes) -> ProxyHeader | str | None:
    try:
        return parse_header(octets)
    except ProxyHeaderError as error:
        return str(error)


@given(headers, st.binary(max_size=40))
@example(b"", b"")
def test_no_octets_raise_anything_else_and_no_cut_changes_the_answer(octets: bytes, more: bytes) -> None:
    """FR-34: the first answer stands, whatever comes behind; and it comes within 4096 octets."""
    first = next((found for end in range(len(octets) + 1) if (found := fate(octets[:end])) is not None), None)
    assert fate(octets) == first
    if first is not None:
        assert fate(octets + more) == first
    else:
        assert len(octets) < MAX_BINARY
    if isinstance(first, ProxyHeader):
        assert first.length <= (MAX_BINARY if octets.startswith(BINARY_START) else MAX_TEXT)
        assert fate(bytearray(octets)) == first


# From whom.


@pytest.mark.parametrize(
    ("host", "is_inside"),
    [
        ("10.0.0.1", True), ("10.255.255.255", True), ("11.0.0.0", False), ("192.0.2.1", True), ("192.0.2.2", False),
        ("2001:db8::1", True), ("2001:db8:0:1::1", False), ("fe80::1%eth0", True), ("::ffff:10.0.0.1", False),
    ],
)  # fmt: skip
def test_networks(host: str, is_inside: bool) -> None:
    """FR-34: of both families; a single address is a network too."""
    networks = Networks(["10.0.0.0/8", "192.0.2.1", "2001:db8::/64", "fe80::/10"])
    assert (host in networks) is is_inside
    assert host not in Networks(())
    assert host.encode() not in networks


@pytest.mark.parametrize("wrong", NO_NETWORKS)
def test_what_names_no_networks(wrong: Any) -> None:
    """FR-34, FR-45: near misses are told apart, since a load balancer that is left out gets no client through."""
    refused(lambda proxy_from: Networks(proxy_from), {}, "proxy_from", wrong)
