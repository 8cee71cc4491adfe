"""Upstreams in the forms of other programs (RES-3, RES-7)."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dot_proto import Pin, Upstream, UpstreamError
from dot_proto.resolver.importers import from_resolved_conf, from_stamp, from_stubby, from_unbound_conf
from support.upstreams import complaints
from support.vectors import HOME, certificate

ANCHOR = certificate("leaf-p256")
RESOLVED = (HOME / "upstreams" / "resolved.conf").read_text("utf-8")
UNBOUND = (HOME / "upstreams" / "unbound.conf").read_text("utf-8")
TEXT = "62lKu9HsDVbyiPenApnc4sfmSYTHOVfFgL3pyB+cBL4="


def urls(*texts: str) -> tuple[Upstream, ...]:
    return tuple(map(Upstream.parse, texts))


def refusals(read, *arguments, **named) -> tuple[str, ...]:
    """Each thing that is wrong."""
    with pytest.raises(UpstreamError) as refused:
        read(*arguments, **named)
    assert all(problem.isprintable() for problem in refused.value.problems)
    return refused.value.problems


# systemd-resolved.


def test_a_file_of_resolved():
    """RES-3: the interface stands behind the port, and moves to the address; no name, no less is proved."""
    assert from_resolved_conf(RESOLVED) == urls(
        "tls://9.9.9.9#dns.quad9.net",
        "tls://[2620:fe::fe]#dns.quad9.net",
        "tls://192.0.2.1:9953",
        "tls://[fe80::1%eth0]#router.example",
        "tls://[fe80::2%wlan0]:8853",
    )


def test_a_file_of_resolved_as_it_is_shipped():
    """RES-3: everything in it is a comment."""
    shipped = re.sub(r"^DNS=(.|\n)*?wlan0\n", "", RESOLVED, flags=re.MULTILINE)
    why = "there is no DNS= with a server in it (lines that begin with # or ; are comments)"
    for text in (shipped, "", " \n", "DNS=1.1.1.1\nDNS=", "DNS=\\"):
        assert refusals(from_resolved_conf, text) == (why,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.1.1.1#cloudflare-dns.com", ["tls://1.1.1.1#cloudflare-dns.com"]),
        ("1.1.1.1  ::1", ["tls://1.1.1.1", "tls://[::1]"]),
        ("DNS=1.1.1.1", ["tls://1.1.1.1"]),
        ("DNS = 1.1.1.1 1.1.1.1\r\n", ["tls://1.1.1.1"]),
        ("DNS=1.1.1.1\nDNS=\nDNS=9.9.9.9", ["tls://9.9.9.9"]),
        ("DNS=1.1.1.1\nDNS=9.9.9.9", ["tls://1.1.1.1", "tls://9.9.9.9"]),
        ("DNS=1.1.1.1 \\\n 9.9.9.9 \\", ["tls://1.1.1.1", "tls://9.9.9.9"]),
        ("#DNS=1.1.1.1\nDNS=9.9.9.9", ["tls://9.9.9.9"]),
    ],
)
def test_values_of_resolved(text, expected):
    """RES-3: assignments add up, and an empty one begins anew."""
    assert from_resolved_conf(text) == urls(*expected)


def test_what_resolved_would_not_read_either():
    """RES-3: each word that is wrong is told, with its line; names of accounts are not (RES-6)."""
    words = "1.1.1.1:53 a.b 1.1.1.1%eth0 [fe80::1%eth0]:853 9.9.9.9# 2606:4700::1%eth0 1.1.1.1@853 [::1 1.1.1.1#a..b"
    form = "; the form is ADDRESS[:PORT][%INTERFACE][#NAME], where an IPv6 address with a port is in brackets"
    problems = refusals(from_resolved_conf, f"\nDNS=\\\n{words}\nDNS=1.1.1.1#a..abc123.dns.nextdns.io")
    assert all(problem.endswith(form) for problem in problems)
    starts = [
        "line 2: '1.1.1.1:53': port 53 is for cleartext DNS",
        "line 2: 'a.b': 'a.b' is a name, not an IP address",
        "line 2: '1.1.1.1%eth0': no interface is chosen for an IPv4 address here: leave it out",
        "line 2: '[fe80::1%eth0]:853': '[fe80::1%eth0]:853' names a port",
        "line 2: '9.9.9.9': '9.9.9.9': no name behind the #: leave it out to authenticate the address",
        "line 2: '2606:4700::1%eth0': '2606:4700::1%eth0' has a zone, which only a link-local address has",
        "line 2: '1.1.1.1@853': '1.1.1.1@853' is more than an address: give '1.1.1.1', and '853' by itself",
        "line 2: '[::1': '[::1' ",
        "line 2: '1.1.1.1': name: a label has 1 to 63 octets: '' in 'a..b'",
        "line 4: '1.1.1.1': name: a label has 1 to 63 octets: '' in '***.dns.nextdns.io'",
    ]
    assert len(problems) == len(starts)
    for problem, start in zip(problems, starts, strict=True):
        assert problem.startswith(start)


# unbound.


def test_a_file_of_unbound():
    """RES-3: the zone that is asked for, and no other; a name without a port is port 853."""
    assert from_unbound_conf(UNBOUND) == urls(
        "tls://1.1.1.1#cloudflare-dns.com",
        "tls://[2606:4700:4700::1111]#cloudflare-dns.com",
        "tls://9.9.9.9#dns.quad9.net",
        "tls://192.0.2.1:8853",
    )


ZONE = 'forward-zone: name: "a.example." forward-tls-upstream: yes forward-addr: '


@pytest.mark.parametrize(
    "text",
    [
        f"{ZONE} 192.0.2.1@853",
        f"{ZONE.replace('tls', 'ssl')} 192.0.2.1@853#",
        f'server: tls-upstream: yes {ZONE.replace("forward-tls-upstream: yes", "")} "192.0.2.1@853"',
        f"server: ssl-upstream: yes\nserver:\n{ZONE.replace('forward-tls-upstream: yes', '')} 192.0.2.1@853 server:",
    ],
)
def test_zones_that_unbound_asks_over_tls(text):
    """RES-3: by the zone's own word, or the server's; older files say ssl."""
    assert from_unbound_conf(text.removesuffix("#"), zone="A.example") == urls("tls://192.0.2.1")


def test_lines_of_unbound_alone():
    """RES-3: what is in no zone is meant for all names, and over TLS."""
    assert from_unbound_conf("forward-addr: 9.9.9.9@853#a.example\nforward-addr: ::1#b.example  # IPv6") == urls(
        "tls://9.9.9.9#a.example", "tls://[::1]#b.example"
    )


@pytest.mark.parametrize(
    ("text", "zone", "problems"),
    [
        (UNBOUND, "corp.example", ["line 12: unbound asks this zone in the clear: forward-tls-upstream is not yes"]),
        (
            'server: tls-upstream: yes forward-zone: name: "." forward-tls-upstream: no',
            ".",
            ["line 1: unbound asks this zone in the clear: forward-tls-upstream is not yes"],
        ),
        (UNBOUND, "b.example", ["there is no forward-addr: in a forward-zone: with the name 'b.example'"]),
        ("", ".", ["there is no forward-addr: in a forward-zone: with the name '.'"]),
        (
            "forward-zone: forward-addr: 1.1.1.1",
            ".",
            ["there is no forward-addr: in a forward-zone: with the name '.'"],
        ),
        ('server:\n name: "a', ".", ["line 2: a quotation mark is not closed"]),
        (
            f"{ZONE} 1.1.1.1 forward-addr: a.b@853#a.b\nforward-addr: ::1@53 forward-addr: 9.9.9.9@853#",
            "a.example",
            [
                "line 1: '1.1.1.1': without @PORT and #NAME unbound asks port 53: write @853 behind it",
                "line 1: 'a.b' is a name, not an IP address: give the addresses too, or say how they are to be found "
                "(bootstrap)",
                "line 2: port 53 is for cleartext DNS and must not be used (RFC 7858, section 3.1); try 853",
                "line 2: '9.9.9.9': no name behind the #: leave it out to authenticate the address",
            ],
        ),
        (
            f"{ZONE} 1.1.1.1@853\nforward-host: dns.example",
            "a.example",
            ["line 2: forward-host: unbound looks it up in the clear: give forward-addr"],
        ),
    ],
)
def test_what_is_not_read_of_unbound(text, zone, problems):
    """RES-3: what unbound would ask in the clear is not taken for an upstream."""
    assert refusals(from_unbound_conf, text, zone=zone) == tuple(problems)


# stubby.

STUBBY = {
    "resolution_type": "GETDNS_RESOLUTION_STUB",
    "dns_transport_list": ["GETDNS_TRANSPORT_TLS"],
    "tls_authentication": "GETDNS_AUTHENTICATION_REQUIRED",
    "tls_query_padding_blocksize": 128,
    "round_robin_upstreams": 1,
    "idle_timeout": 10000,
    "listen_addresses": ["127.0.0.1", "0::1"],
    "upstream_recursive_servers": [
        {
            "address_data": "145.100.185.15",
            "tls_auth_name": "dnsovertls.sinodun.com",
            "tls_pubkey_pinset": [{"digest": "sha256", "value": TEXT}],
        },
        {"address_data": "2001:610:1:40ba:145:100:185:15", "tls_port": 443, "port": 53},
    ],
}
"What a parser of YAML makes of a file in the form of stubby's example."


def test_a_file_of_stubby():
    """RES-3: the whole file, or the list alone, as it has been parsed."""
    expected = urls(
        f"tls://145.100.185.15?pin={TEXT}#dnsovertls.sinodun.com", "tls://[2001:610:1:40ba:145:100:185:15]:443"
    )
    assert from_stubby(STUBBY) == from_stubby(STUBBY["upstream_recursive_servers"]) == expected
    assert expected[0].pins == (Pin.parse(TEXT),)


def test_what_is_not_read_of_stubby():
    """RES-3: no key is passed over, since it may ask for more."""
    address = {"address_data": "::1"}
    wrong = [
        {"address_dat": "::1"},
        {**address, "tls_min_version": "GETDNS_TLS1_3"},
        {},
        5,
        {"address_data": 5},
        {**address, "tls_auth_name": None},
        {**address, "tls_auth_name": "a..b"},
        {**address, "tls_port": "853"},
        {**address, "tls_port": 53},
        {**address, "tls_pubkey_pinset": []},
        {**address, "tls_pubkey_pinset": None},
        {**address, "tls_pubkey_pinset": [{"digest": "sha1", "value": TEXT}]},
        {**address, "tls_pubkey_pinset": [{"digest": "sha256", "value": TEXT}, TEXT]},
        {**address, "tls_pubkey_pinset": [{"digest": "sha256", "value": TEXT[:-1]}]},
        {**address, "tls_pubkey_pinset": [{"digest": "sha256", "value": 5}]},
        {5: 5},
    ]
    ends = [
        "unknown key 'address_dat'; did you mean address_data?",
        "unknown key 'tls_min_version'; choose from address_data, port, tls_auth_name, tls_port, tls_pubkey_pinset",
        "address_data is missing",
        "a mapping with address_data is wanted, not 5",
        "address_data: an address is a text, not 5",
        "tls_auth_name: name must be text, not None: give it as 'dns.example' or '192.0.2.1'",
        "tls_auth_name: a label has 1 to 63 octets: '' in 'a..b'",
        "tls_port: port must be a number from 1 to 65535, not '853'",
        "tls_port: port 53 is for cleartext DNS and must not be used (RFC 7858, section 3.1); try 853",
        "tls_pubkey_pinset: a list of pins is wanted, not []",
        "tls_pubkey_pinset: a list of pins is wanted, not None",
        "tls_pubkey_pinset[0]: digest: sha256, and value, are wanted, not "
        f"{{'digest': 'sha1', 'value': '{TEXT[:31]}...",
        f"tls_pubkey_pinset[1]: digest: sha256, and value, are wanted, not '{TEXT}'",
        f"tls_pubkey_pinset[0].value: '{TEXT[:12]}'... is no pin: its padding is wrong: a pin ends with exactly one =; "
        f"did you mean {TEXT}?",
        "tls_pubkey_pinset[0].value: a pin is a text in base64, not 5",
        "unknown key 5; choose from address_data, port, tls_auth_name, tls_port, tls_pubkey_pinset",
    ]
    problems = refusals(from_stubby, wrong)
    assert problems == tuple(f"upstream_recursive_servers[{number}]: {end}" for number, end in enumerate(ends))


@pytest.mark.parametrize("data", [None, [], {}, 5, "x", {"upstream_recursive_servers": {}}])
def test_what_is_no_file_of_stubby(data):
    """RES-3: nothing is read as an empty list."""
    why = "upstream_recursive_servers: a list with at least one server is wanted"
    assert refusals(from_stubby, data) == (why,)


def test_no_authentication_is_not_imported():
    """RES-4: opportunistic is asked for by its name, here."""
    (why,) = refusals(from_stubby, {**STUBBY, "tls_authentication": "GETDNS_AUTHENTICATION_NONE"})
    assert why.startswith("tls_authentication: GETDNS_AUTHENTICATION_NONE asks for no authentication")


# DNS stamps.

VECTOR = "sdns://AwYAAAAAAAAACTE5Mi4wLjIuMQAPZG90LmV4YW1wbGUuY29tCwwxOTguNTEuMTAwLjELMjAzLjAuMTEzLjE"
"draft-denis-dns-stamps-01, test vector 3.  Its last part is no VLP, by the draft's own words; it is not needed."


def stamp(address: str, host: str, hashes: bytes = b"\0", protocol: int = 3, more: bytes = b"") -> str:
    """A stamp of the draft's section on DNS over TLS."""
    strings = [bytes([len(text)]) + text.encode() for text in (address, host)]
    octets = bytes([protocol]) + bytes(8) + strings[0] + hashes + strings[1] + more
    return "sdns://" + urlsafe_b64encode(octets).decode().rstrip("=")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (VECTOR, "tls://192.0.2.1#dot.example.com"),
        (VECTOR.replace("sdns", "SDNS"), "tls://192.0.2.1#dot.example.com"),
        (stamp("", "dot.example"), "tls://dot.example"),
        (stamp("", "dot.example:8853"), "tls://dot.example:8853"),
        (stamp(":8853", "dot.example"), "tls://dot.example:8853"),
        (stamp("[2001:db8::1]", "dot.example"), "tls://[2001:db8::1]#dot.example"),
        (stamp("[2001:db8::1]:8853", "dot.example:8853"), "tls://[2001:db8::1]:8853#dot.example"),
        (stamp("192.0.2.1", "192.0.2.1"), "tls://192.0.2.1#192.0.2.1"),
        (stamp("192.0.2.1", "dot.example", b"\x80\x80\0"), "tls://192.0.2.1#dot.example"),
    ],
)
def test_stamps(text, expected):
    """RES-7."""
    assert from_stamp(text) == Upstream.parse(expected)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (5, "a text is wanted, not int"),
        ("tls://1.1.1.1", "a stamp begins with sdns://, not 'tls://1.1.1.'"),
        ("sdns:AwYA", "a stamp begins with sdns://, not 'sdns:AwYA'"),
        ("sdns://é", "behind sdns:// stands base64 of the URL alphabet (RFC 4648, section 5)"),
        ("sdns://A", "behind sdns:// stands base64 of the URL alphabet (RFC 4648, section 5)"),
        ("sdns://", "octet 1 of the stamp: its protocol is missing; DNS over TLS is 3"),
        (stamp("", "n", protocol=2), "octet 1 of the stamp: its protocol is DNS over HTTPS; DNS over TLS is 3"),
        (stamp("", "n", protocol=9), "octet 1 of the stamp: its protocol is not known; DNS over TLS is 3"),
        (stamp("192.0.2.1", "n", b"\x20" + bytes(32)), "the stamp has hashes of certificates, which are no SPKI pins"),
        (
            stamp("192.0.2.1", "n", b"\x80\x20" + bytes(32)),
            "the stamp has hashes of certificates, which are no SPKI pins",
        ),
        (stamp("192.0.2.1:853", "n:8853"), "the stamp has two ports: 853 and 8853"),
        (stamp("192.0.2.1", "n:53"), "port 53 is for cleartext DNS"),
        (stamp("n", "n"), "'n' is a name, not an IP address"),
        (stamp("192.0.2.1", "tls://n"), "name: 'tls://n' has a colon but is no IPv6 address"),
        (stamp("192.0.2.1", "bücher.example"), "A-label form"),
        (stamp("", ""), "name: a name has 1 to 253 octets, not 0"),
    ],
)
def test_stamps_that_are_refused(text, why):
    """RES-7: hashes of certificates cannot be checked, and are not left out in silence."""
    (problem,) = refusals(from_stamp, text)
    assert problem.startswith(why) or why in problem


def test_a_stamp_that_is_cut_off():
    """RES-7: at any octet before the end of the host name."""
    whole = stamp("192.0.2.1", "n", b"\x80\0")
    for length in range(8, len(whole) - 1):
        assert refusals(from_stamp, whole[:length])


# All of them.


def test_trust_anchors_go_into_each():
    """RES-1: those of the other program's are not read."""
    for upstreams in (
        from_resolved_conf(RESOLVED, trust_anchors=iter([ANCHOR])),
        from_unbound_conf(UNBOUND, trust_anchors=[ANCHOR]),
        from_stubby([{"address_data": "::1"}, {"address_data": "::2"}], trust_anchors=(ANCHOR,)),
        [from_stamp(VECTOR, trust_anchors=[ANCHOR])],
    ):
        assert {upstream.trust_anchors for upstream in upstreams} == {(ANCHOR,)}
    assert refusals(from_resolved_conf, RESOLVED, trust_anchors=b"0") == ("trust_anchors: a list is wanted, not bytes",)


@pytest.mark.parametrize("read", [from_resolved_conf, from_unbound_conf, from_stamp])
def test_what_is_no_text(read):
    """RES-3."""
    for value in (None, b"DNS=1.1.1.1", 5):
        assert refusals(read, value) == (f"a text is wanted, not {type(value).__name__}",)
    assert refusals(from_unbound_conf, UNBOUND, zone=None) == ("a text is wanted, not NoneType",)


WORDS = [
    "1.1.1.1",
    "::1",
    "[::1]",
    ":853",
    "@853",
    "#",
    "#n",
    "%eth0",
    " ",
    "\n",
    "\\\n",
    "DNS=",
    "server:",
    "forward-zone:",
]
WORDS += ['name: "."', "forward-addr: ", "forward-tls-upstream: yes", '"', "'", "[Resolve]", "include: x"]


@given(st.text() | st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
@example("1.1.1.1%\x1b DNS=::1%\x1b")
@example('forward-zone: name: . forward-tls-upstream: yes forward-addr: \x1b forward-addr: "::1%\x1b@853"')
def test_any_text_is_read_or_refused(text):
    """RES-3: by nothing but the documented error."""
    for read in (from_resolved_conf, from_unbound_conf, from_stamp):
        assert all(problem.isprintable() for problem in complaints(read, text))


@given(st.binary(max_size=80))
def test_any_stamp_is_read_or_refused(octets):
    """RES-7."""
    for front in (b"", b"\3" + bytes(8)):
        text = "sdns://" + urlsafe_b64encode(front + octets).decode().rstrip("=")
        assert all(problem.isprintable() for problem in complaints(from_stamp, text))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["::1", TEXT, "sha256"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["address_data", "tls_port", "tls_auth_name", "tls_pubkey_pinset", "digest", "value", "x"]),
            inner,
            max_size=3,
        )
    ),
)


@given(st.lists(VALUES, max_size=3) | VALUES)
def test_any_parsed_data_is_read_or_refused(data):
    """RES-3."""
    for whole in (data, {"upstream_recursive_servers": data}):
        assert all(problem.isprintable() for problem in complaints(from_stubby, whole))
