"""What an upstream is, and its URL (RES-1, RES-2, RES-4 to RES-6, RES-8 to RES-10)."""

from __future__ import annotations

import datetime
import ipaddress
import re
import traceback
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dot_proto import AuthenticationPolicy, LocalProtocolError, Pin, Upstream, UpstreamError
from dot_proto.hosts import check_port, is_address, normalize_address, normalize_name
from dot_proto.resolver.importers import from_resolved_conf, from_stubby
from dot_proto.resolver.operators import ACCOUNT_DOMAINS, OPERATORS
from dot_proto.resolver.settings import Settings
from dot_proto.resolver.upstream import check_upstreams
from dot_proto.testing import strategies
from support.upstreams import complaints
from support.vectors import certificate

TEXT = "62lKu9HsDVbyiPenApnc4sfmSYTHOVfFgL3pyB+cBL4="
OTHER_TEXT = "foxZRnIh9gZpWnl+zEiKa0EJ2rdCGroMWm02gaxSc9Q="
PIN, OTHER = Pin.parse(TEXT), Pin.parse(OTHER_TEXT)
ANCHOR = certificate("leaf-p256")
QUAD9 = Upstream.well_known("quad9")
SYSTEM = "system"


def refusal(text: object, **arguments: object) -> str:
    """Why a URL is refused."""
    with pytest.raises(UpstreamError) as refused:
        Upstream.parse(text, **arguments)  # type: ignore[arg-type]
    return str(refused.value)


GOOD = {
    "tls://1.1.1.1#cloudflare-dns.com": Upstream(name="cloudflare-dns.com", addresses=("1.1.1.1",)),
    "tls://[2606:4700::1111]:853#n": Upstream(name="n", addresses=("2606:4700::1111",)),
    "tls://127.0.0.1:8853#dot.test": Upstream(name="dot.test", addresses=("127.0.0.1",), port=8853),
    f"tls://1.1.1.1?pin={TEXT}&pin={OTHER_TEXT}": Upstream(addresses=("1.1.1.1",), pins=(PIN, OTHER)),
    f"tls://1.1.1.1?pin=sha256/{TEXT}": Upstream(addresses=("1.1.1.1",), pins=(PIN,)),
    f"tls://1.1.1.1?pin={TEXT.replace('+', '%2B').replace('=', '%3d')}": Upstream(addresses=("1.1.1.1",), pins=(PIN,)),
    f"tls://1.1.1.1?issuer-pin={TEXT}#n": Upstream(name="n", addresses=("1.1.1.1",), issuer_pins=(PIN,)),
    "tls://dns.example": Upstream(name="dns.example"),
    "tls://DNS.example.:8853#dns.EXAMPLE": Upstream(name="dns.example", port=8853),
    "TLS://9.9.9.9": Upstream(addresses=("9.9.9.9",)),
    "tls://9.9.9.9?address=::1&address=9.9.9.9#n": Upstream(name="n", addresses=("9.9.9.9", "::1")),
    "tls://n?address=9.9.9.9": Upstream(name="n", addresses=("9.9.9.9",)),
    "tls://[fe80::1%eth0]#n": Upstream(name="n", addresses=("fe80::1%eth0",)),
    "tls://[fe80::1%25]#n": Upstream(name="n", addresses=("fe80::1%25",)),
    "tls://192.0.2.1#::1": Upstream(name="::1", addresses=("192.0.2.1",)),
    "tls://192.0.2.1?profile=strict": Upstream(addresses=("192.0.2.1",)),
    "tls://192.0.2.1?profile=opportunistic": Upstream(addresses=("192.0.2.1",), is_opportunistic=True),
    "tls://n?bootstrap=system": Upstream(name="n", bootstrap="system"),
    f"tls://n?bootstrap=tls://9.9.9.9%23b&bootstrap=tls://[::1]%3Fpin%3D{TEXT}": Upstream(
        name="n",
        bootstrap=(Upstream(name="b", addresses=("9.9.9.9",)), Upstream(addresses=("::1",), pins=(PIN,))),
    ),
}


@pytest.mark.parametrize("text", GOOD)
def test_what_people_write_is_read(text):
    """RES-2: address and name are two things; a plus of base64 stays a plus; a zone stays with its address."""
    upstream = Upstream.parse(text)
    assert upstream == GOOD[text]
    assert hash(upstream) == hash(GOOD[text])
    assert Upstream.parse(upstream.url) == upstream


TLS4, TLS6 = "tls://1.1.1.1", "tls://[2606:4700::1111]"
NO_SCHEME = "character 1: the text does not begin with tls://"
HEX = PIN.digest.hex()

BAD = {
    "": NO_SCHEME,
    "tls": f"{NO_SCHEME}; did you mean tls://tls ?",
    "1.1.1.1": f"{NO_SCHEME}; did you mean {TLS4} ?",
    "@1.1.1.1": f"{NO_SCHEME}; did you mean {TLS4} ?",
    "tls:1.1.1.1": f"{NO_SCHEME}; did you mean {TLS4} ?",
    "tls:/1.1.1.1": f"{NO_SCHEME}; did you mean {TLS4} ?",
    "1.1.1.1:853#n": f"{NO_SCHEME}; did you mean {TLS4}:853#n ?",
    "1.1.1.1@853#n": f"{NO_SCHEME}; did you mean {TLS4}:853#n ?",
    "1.1.1.1@853": f"{NO_SCHEME}; did you mean {TLS4}:853 ?",
    "2606:4700::1111": f"{NO_SCHEME}; did you mean {TLS6} ?",
    "2606:4700::1111#n": f"{NO_SCHEME}; did you mean {TLS6}#n ?",
    "2606:4700::1111@853#n": f"{NO_SCHEME}; did you mean {TLS6}:853#n ?",
    "[2606:4700::1111]:853#n": f"{NO_SCHEME}; did you mean {TLS6}:853#n ?",
    "[fe80::1]:853%eth0#n": f"{NO_SCHEME}; did you mean tls://[fe80::1%eth0]:853#n ?",
    "dns.quad9.net": f"{NO_SCHEME}; did you mean tls://dns.quad9.net ?",
    "1.1.1.1,1.0.0.1,::1#n": f"{NO_SCHEME}; did you mean {TLS4}?address=1.0.0.1&address=::1#n ?",
    "tls//1.1.1.1": f"{NO_SCHEME}; did you mean {TLS4} ?",
    "quad9": "character 1: this is no URL but an operator: Upstream.well_known('quad9')",
    "https://dns.quad9.net/dns-query": "character 1: 'https' is DNS over HTTPS; DNS over TLS has tls://; did you mean "
    "tls://dns.quad9.net ?",
    "https://1.1.1.1:443/dns-query": f"did you mean {TLS4} ?",
    "https://[2606:4700::1111]:443/dns-query": f"did you mean {TLS6} ?",
    "udp://2606:4700::1111": f"'udp' is DNS in the clear; DNS over TLS has tls://; did you mean {TLS6} ?",
    "h3://1.1.1.1": f"'h3' is DNS over HTTP/3; DNS over TLS has tls://; did you mean {TLS4} ?",
    "quic://1.1.1.1": f"'quic' is DNS over QUIC; DNS over TLS has tls://; did you mean {TLS4} ?",
    "dot://1.1.1.1": f"'dot' is written tls:// here; DNS over TLS has tls://; did you mean {TLS4} ?",
    "dot://1.1.1.1:8853#n": f"did you mean {TLS4}:8853#n ?",
    "udp://1.1.1.1:53#n": f"did you mean {TLS4}#n ?",
    "gopher://1.1.1.1": f"'gopher' is not known; DNS over TLS has tls://; did you mean {TLS4} ?",
    "://": "character 1: '' is not known; DNS over TLS has tls://",
    "sdns://AwYA": "character 1: this is a DNS stamp: dot_proto.resolver.importers.from_stamp reads it",
    f"{TLS4} ": "character 14: white space: remove it (where it was the + of a pin, write + or %2B); did you mean "
    f"{TLS4} ?",
    f"{TLS4} #n": f"character 14: white space: remove it (where it was the + of a pin, write + or %2B); did you mean "
    f"{TLS4}#n ?",
    f"{TLS4}\n": f"did you mean {TLS4} ?",
    f"{TLS4}?pin={TEXT.replace('+', ' ')}": f"character 57: white space: remove it (where it was the + of a pin, write "
    f"+ or %2B); did you mean {TLS4}?pin={TEXT} ?",
    "tls://faß.de": "character 9: 'ß' is not printable ASCII: names come as A-labels (RFC 5891)",
    "tls://1.1.1.1\0": "character 14: '\\x00' is not printable ASCII",
    "tls://": "character 7: a host is missing",
    "tls://#n": "character 7: a host is missing",
    "tls://?pin=x": "character 7: a host is missing",
    "tls://:853": "character 7: a name has 1 to 253 octets, not 0",
    "tls://1.1.1.1/": f"character 14: DNS over TLS has no path: end the host here; did you mean {TLS4} ?",
    "tls:///1.1.1.1": f"character 7: DNS over TLS has no path: end the host here; did you mean {TLS4} ?",
    "tls://1.1.1.1/dns-query#n": f"character 14: DNS over TLS has no path: end the host here; did you mean {TLS4}#n ?",
    "tls://1.1.1.1@853#n": "character 14: there are no users: the port stands behind a colon, the name behind #; did "
    f"you mean {TLS4}:853#n ?",
    "tls://n@1.1.1.1": f"did you mean {TLS4}#n ?",
    "tls://n@2606:4700::1111": f"did you mean {TLS6}#n ?",
    "tls://@1.1.1.1": f"did you mean {TLS4} ?",
    "tls://1.1.1.1:853:853#n": "character 7: an IPv6 address stands in brackets, and a port is given once; did "
    f"you mean {TLS4}:853#n ?",
    "tls://n:853:853": "did you mean tls://n:853 ?",
    "tls://[2606:4700::1111]:853:853": f"character 25: a port is a number, not '853:853'; did you mean {TLS6}:853 ?",
    "tls://2606:4700::1111#n": f"did you mean {TLS6}#n ?",
    "tls://2606:4700::1111:853#n": f"did you mean {TLS6}:853#n or tls://[2606:4700::1111:853]#n ?",
    "tls://1:2:3:4:5:6:7:8:853": "did you mean tls://[1:2:3:4:5:6:7:8]:853 ?",
    "tls://[2606:4700::1111": f"character 7: this bracket is not closed; did you mean {TLS6} ?",
    "tls://[1.1.1.1]:853": f"character 7: in brackets stands an IPv6 address, not '1.1.1.1'; did you mean {TLS4}:853 ?",
    "tls://[]": "character 7: in brackets stands an IPv6 address, not ''",
    "tls://[::1]853": "character 12: behind the bracket stands :PORT or nothing, not '853'",
    "tls://[fe80::1%25eth0]#n": "character 7: the zone is not %-encoded here; did you mean tls://[fe80::1%eth0]#n ?",
    "tls://[fe80::1]%eth0": "character 16: behind the bracket stands :PORT or nothing, not '%eth0'; did you mean "
    "tls://[fe80::1%eth0] ?",
    "tls://[fe80::1]:853%eth0": "character 17: a port is a number, not '853%eth0'; did you mean "
    "tls://[fe80::1%eth0]:853 ?",
    "tls://[2001:db8::1%eth0]": "character 7: '2001:db8::1%eth0' has a zone, which only a link-local address has",
    "tls://[fe80::1%e$h]": "character 7: 'fe80::1%e$h' has a zone of no form: write %eth0, or %2",
    "tls://1.1.1.1:": "character 15: a port is a number, not ''",
    "tls://1.1.1.1:dot": "character 15: a port is a number, not 'dot'",
    "tls://1.1.1.1:53": "character 15: port 53 is for cleartext DNS and must not be used",
    "tls://1.1.1.1:0": "character 15: port must be a number from 1 to 65535, not 0",
    f"tls://1.1.1.1:{'9' * 5000}": "character 15: port must be a number from 1 to 65535, not 999999",
    "tls://127.0.0.010": "character 7: '127.0.0.010' ends in a number but is no IP address",
    "tls://0.0.0.0": "character 7: '0.0.0.0' is the address of no one server",
    "tls://a_b..c": "character 7: a label has 1 to 63 octets",
    "tls://1.1.1.1#": "character 14: no name behind the #: leave it out to authenticate the address; did you "
    f"mean {TLS4} ?",
    "tls://1.1.1.1#a#b": f"character 16: a second #: one name is authenticated; did you mean {TLS4}#a ?",
    "tls://1.1.1.1#n:853": "character 15: 'n:853' has a colon but is no IPv6 address: give a port apart",
    "tls://1.1.1.1#a b": "character 16: white space",
    f"tls://1.1.1.1#n?pin={TEXT}": f"character 16: keys stand before the #; did you mean {TLS4}?pin={TEXT}#n ?",
    "tls://a.example#b.example": "character 17: a host name that is looked up is itself what is authenticated",
    "tls://a.example#1.1.1.1": f"or one name; did you mean {TLS4}#a.example ?",
    "tls://a.example#2606:4700::1111": f"or one name; did you mean {TLS6}#a.example ?",
    "tls://1.1.1.1,1.0.0.1": f"did you mean {TLS4}?address=1.0.0.1 ?",
    f"{TLS4}?": f"character 14: a key is missing behind this character; did you mean {TLS4} ?",
    f"{TLS4}?pin={TEXT}&": f"character 63: a key is missing behind this character; did you mean {TLS4}?pin={TEXT} ?",
    f"{TLS4}?pin": "character 15: the key pin needs = and a value",
    f"{TLS4}?pin=": "character 15: the key pin has no value",
    f"{TLS4}?pn={TEXT}": "character 15: unknown key 'pn'; did you mean pin?",
    f"{TLS4}?PIN={TEXT}": "character 15: unknown key 'PIN'; did you mean pin?",
    f"{TLS4}?pins={TEXT}": "character 15: unknown key 'pins'; did you mean pin, once for each pin?",
    f"{TLS4}?pin-sha256={TEXT}": "character 15: unknown key 'pin-sha256'; did you mean pin?",
    f"{TLS4}?issuer_pin={TEXT}": "character 15: unknown key 'issuer_pin'; did you mean issuer-pin?",
    f"{TLS4}?sni=n": "unknown key 'sni'; the name for authentication stands at the end, behind #",
    f"{TLS4}?port=853": "unknown key 'port'; the port stands behind the host, as in tls://192.0.2.1:853",
    f"{TLS4}?ca_file=x": "unknown key 'ca_file'; a URL holds no trust anchors: give trust_anchors=",
    f"{TLS4}?xyzzy=1": "unknown key 'xyzzy'; choose from address, bootstrap, issuer-pin, pin, profile",
    f"{TLS4}?pin={TEXT[:-1]}": "character 19: '62lKu9HsDVby'... is no pin: its padding is wrong: a pin ends with "
    f"exactly one =; did you mean {TLS4}?pin={TEXT} ?",
    f"{TLS4}?pin={HEX}#n": "it looks like hex, while a pin is base64 with a length of 44 characters",
    f"{TLS4}?pin={TEXT.replace('+', '-')}": "it uses the url-safe alphabet: write + for - and / for _; did you mean "
    f"{TLS4}?pin={TEXT} ?",
    f"{TLS4}?pin=sha256//{TEXT}": f"did you mean {TLS4}?pin={TEXT} ?",
    f"{TLS4}?issuer-pin={TEXT[:-1]}#n": f"did you mean {TLS4}?issuer-pin={TEXT}#n ?",
    f"{TLS4}?pin=xyzzy": "character 19: 'xyzzy'... is no pin: its length is 3 octets, while a SHA-256 digest has 32; a "
    "right pin is made by: openssl x509 -in server.pem",
    f"{TLS4}?pin=%2": "character 19: behind % stand two hexadecimal digits of an ASCII character",
    f"{TLS4}?pin=x%C3%A9": "character 20: behind % stand two hexadecimal digits of an ASCII character",
    f"{TLS4}?address=1.0.0.1:853": "character 23: '1.0.0.1:853' names a port: give '1.0.0.1', and the port by itself",
    f"{TLS4}?address=1.0.0.1@853": "'1.0.0.1@853' is more than an address: give '1.0.0.1', and '853' by itself",
    f"{TLS4}?address=tls://1.0.0.1": "'tls://1.0.0.1' is a URL: Upstream.parse reads it",
    f"{TLS4}?address=n": "character 23: 'n' is a name, not an IP address: give the addresses too, or say how",
    f"{TLS4}?profile=none": "character 23: a profile is strict or opportunistic (RFC 8310, section 5), not 'none'",
    f"{TLS4}?profile=strict&profile=opportunistic": "character 30: a second profile: give one",
    f"{TLS4}?bootstrap=system": "bootstrap: it finds the addresses of a name, and addresses are given: leave it out",
    "tls://n?bootstrap=1.1.1.1": f"bootstrap[0]: {NO_SCHEME}; did you mean {TLS4} ?",
    "tls://n?bootstrap=tls://b": "bootstrap[0]: it has no address, and would have to be looked up itself",
    "tls://n?bootstrap=system&bootstrap=system": "bootstrap: 'system' stands alone, or not at all",
    "tls://n?bootstrap=tls://9.9.9.9%3Fprofile=opportunistic": "bootstrap[0]: it is opportunistic",
    f"{TLS4}?issuer-pin={TEXT}&profile=opportunistic": "an opportunistic policy validates no chain",
    f"{TLS4}?pin={TEXT}&issuer-pin={TEXT}": "an issuer alone would let in every customer of that issuer",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_wrong_where_and_what_was_meant(text):
    """RES-2: each error has the place, or the key; what it proposes can be read."""
    message = refusal(text)
    assert BAD[text] in message
    assert message.startswith(("character ", "bootstrap", "an "))
    assert message.isprintable()
    assert len(message) < 600
    for guesses in re.findall(r"; did you mean (tls://.*) \?$", message):
        for guess in guesses.split(" or "):
            Upstream.parse(guess)


@pytest.mark.parametrize("text", [None, b"tls://1.1.1.1", 5, QUAD9])
def test_what_is_no_text_is_refused(text):
    """RES-2."""
    assert refusal(text).startswith("an upstream is a text such as tls://192.0.2.1#dns.example, not ")


@pytest.mark.parametrize(
    "part", ["a", "1", ":", ":1", "[", "]", "%", "@", "#", "?", "&", ",", "/", "a.", "pin=", " ", "="]
)
def test_long_texts_take_no_longer_than_their_length(part):
    """RES-2: a text of 300,000 octets is refused at once, names of accounts looked for included (RES-6)."""
    for text in (part * 300_000, f"tls://{part * 300_000}", f"tls://1.1.1.1?pin={part * 300_000}"):
        refusal(text[:300_000])


def test_many_keys_and_deep_ones_are_refused():
    """RES-8: what finds addresses has them, however often it is said that it has not."""
    assert refusal(f"{TLS4}?{'&'.join(f'address=192.0.{n >> 8}.{n & 255}' for n in range(20_000))}").startswith(
        "addresses: 20001 are too many"
    )
    assert len(Upstream.parse(f"{TLS4}?{'&'.join([f'pin={TEXT}'] * 20_000)}").pins) == 1
    text = "tls://n"
    for _ in range(300):
        text = f"tls://n?bootstrap={text.replace('%', '%25').replace('?', '%3F')}"
    assert refusal(text) == "bootstrap[0]: it has a bootstrap itself, and would have to be looked up"


HOSTS = ["1.1.1.1", "[::1]", "::1", "a.example", "abc.dns.nextdns.io", "fe80::1%eth0", "[fe80::1%eth0]", "127.1"]
PARTS = ["tls://", "https://", "tls:", *HOSTS, ":853", ":53", "@853", "@", "#", "#n", "?", "&", "/", "pin=", TEXT, HEX]
PARTS += ["address=", "profile=opportunistic", "bootstrap=", "%23", "%", "+", " ", "é", "\n", "issuer-pin=", "="]


@given(st.text() | st.text().map("tls://".__add__) | st.lists(st.sampled_from(PARTS), max_size=8).map("".join))
@example("tls://[::1]@1")
@example("@" * 9)
def test_any_text_is_an_upstream_or_refused(text):
    """RES-2: nothing but the documented error, in characters that a terminal shows; what is read is written again."""
    if problems := complaints(Upstream.parse, text):
        (problem,) = problems
        assert problem.isprintable()
    else:
        upstream = Upstream.parse(text)
        assert Upstream.parse(upstream.url) == upstream


@given(strategies.upstreams())
def test_what_is_written_is_read_as_an_equal(upstream):
    """RES-2: parse is the inverse of url, but for trust anchors."""
    assert Upstream.parse(upstream.url) == upstream
    assert upstream.url.isprintable()
    assert " " not in upstream.url


def test_trust_anchors_have_no_text():
    """RES-1: they are an argument, and the round trip needs it."""
    upstream = Upstream.parse("tls://127.0.0.1:8853#dot.test", trust_anchors=[ANCHOR])
    assert upstream.url == "tls://127.0.0.1:8853#dot.test"
    assert Upstream.parse(upstream.url) != upstream
    assert Upstream.parse(upstream.url, trust_anchors=upstream.trust_anchors) == upstream
    assert repr(upstream) == "Upstream.parse('tls://127.0.0.1:8853#dot.test', trust_anchors=[1 of them])"


# What it is.


def test_it_is_frozen_and_compared_by_all_that_it_has():
    """RES-1, RES-10: two that differ in a pin alone have different keys."""
    plain = Upstream(addresses=("192.0.2.1",))
    with pytest.raises(FrozenInstanceError):
        plain.port = 53  # type: ignore[misc]
    others = [
        Upstream(addresses=("192.0.2.1",), pins=(PIN,)),
        Upstream(addresses=("192.0.2.1",), pins=(OTHER,)),
        Upstream(addresses=("192.0.2.1",), name="n"),
        Upstream(addresses=("192.0.2.1",), name="192.0.2.1"),
        Upstream(addresses=("192.0.2.1",), name="n", issuer_pins=(PIN,)),
        Upstream(addresses=("192.0.2.1",), trust_anchors=(ANCHOR,)),
        Upstream(addresses=("192.0.2.1",), port=8853),
        Upstream(addresses=("192.0.2.1",), is_opportunistic=True),
        Upstream(addresses=("192.0.2.1", "192.0.2.2")),
        Upstream(addresses=("192.0.2.2", "192.0.2.1")),
    ]
    assert len({plain, *others}) == 1 + len(others)
    assert Upstream(addresses=["192.0.2.1", "192.0.2.1"]) == plain  # type: ignore[arg-type]


def test_each_form_of_a_host_is_one_form():
    """RES-1: as everywhere in the package."""
    upstream = Upstream(name="DNS.Example.", addresses=("[2001:DB8:0::1]", "2001:db8::1", "FE80::1%eth0"))
    assert upstream.name == "dns.example"
    assert upstream.addresses == ("2001:db8::1", "fe80::1%eth0")


ANY = {"addresses": ("192.0.2.1",)}
MANY = [f"192.0.2.{number}" for number in range(17)]

WRONG = [
    ({}, "addresses: neither an address to dial nor a name to find one by"),
    ({"addresses": "192.0.2.1"}, "addresses: a list is wanted, not str"),
    ({"addresses": None}, "addresses: a list is wanted, not NoneType"),
    ({"addresses": [5]}, r"addresses\[0\]: an address is a text, not 5"),
    ({"addresses": ["192.0.2.1", "a.b"]}, r"addresses\[1\]: 'a.b' is a name, not an IP address"),
    ({"addresses": ["224.0.0.1"]}, r"addresses\[0\]: '224.0.0.1' is the address of no one server"),
    ({"addresses": ["::"]}, r"addresses\[0\]: '::' is the address of no one server"),
    ({"addresses": ["255.255.255.255"]}, "is the address of no one server"),
    ({"addresses": ["192.0.2.1%eth0"]}, "has a zone, which only a link-local address has"),
    ({"addresses": MANY}, "addresses: 17 are too many for one upstream: 16 at the most"),
    ({**ANY, "name": "a..b"}, "name: a label has 1 to 63 octets"),
    ({**ANY, "name": 5}, "name: name must be text, not 5"),
    ({"name": "192.0.2.1"}, "name: '192.0.2.1' is an address and says what to authenticate; give addresses"),
    ({**ANY, "port": 53}, "port: port 53 is for cleartext DNS"),
    ({**ANY, "port": "853"}, "port: port must be a number from 1 to 65535, not '853'"),
    ({**ANY, "port": True}, "port: port must be a number from 1 to 65535, not True"),
    ({**ANY, "pins": [TEXT]}, "pins must be a list of Pin, but number 1 in it is .*: Pin.parse"),
    ({**ANY, "pins": [{}]}, "pins must be a list of Pin, but number 1 in it is dict: Pin.parse"),
    ({**ANY, "pins": PIN}, "pins must be a list of Pin, not Pin: Pin.parse"),
    ({**ANY, "issuer_pins": [TEXT]}, "issuer_pins must be a list of Pin, but number 1 in it is .*: Pin.parse"),
    ({**ANY, "trust_anchors": ()}, "trust_anchors is empty"),
    ({**ANY, "trust_anchors": (b"0x",)}, "certificate 1 of trust_anchors cannot be read: cut off at offset 2"),
    ({**ANY, "trust_anchors": "x"}, "trust_anchors must be a list of certificates in DER"),
    ({**ANY, "pins": (PIN,), "trust_anchors": (ANCHOR,)}, "give the server's name too"),
    ({**ANY, "is_opportunistic": "yes"}, "is_opportunistic: True or False, not str"),
    ({**ANY, "is_opportunistic": True, "trust_anchors": (ANCHOR,)}, "an opportunistic policy validates no chain"),
    ({**ANY, "bootstrap": "system"}, "bootstrap: it finds the addresses of a name, and addresses are given"),
    ({"name": "n", "bootstrap": "sistem"}, "bootstrap: a list is wanted, not str"),
    ({"name": "n", "bootstrap": ["system"]}, r"bootstrap\[0\]: an Upstream is wanted, not str"),
    ({"name": "n", "bootstrap": [Upstream(addresses=(one,)) for one in MANY]}, "bootstrap: 17 upstreams are too many"),
]


@pytest.mark.parametrize(("arguments", "why"), WRONG)
def test_what_could_not_be_asked_is_refused(arguments, why):
    """RES-1: by one kind of error, before anything is dialled."""
    with pytest.raises(UpstreamError, match=why) as refused:
        Upstream(**arguments)
    assert refused.value.problems == (str(refused.value),)


@pytest.mark.parametrize("key", ["name", "addresses", "port", "pins", "trust_anchors", "is_opportunistic", "bootstrap"])
@pytest.mark.parametrize("value", [-5, "x\0", b"x", [None], {"a": 1}, datetime.date(2026, 1, 1), 1.5, object()])
def test_values_of_any_type_are_refused_by_one_error(key, value):
    """RES-1."""
    with pytest.raises(UpstreamError):
        Upstream(**{"addresses": ("192.0.2.1",), key: value})


# What it must prove.


def test_a_name_or_a_pin_authenticates_and_else_the_address():
    """RES-4: never unauthenticated because something was left out."""
    strict = AuthenticationPolicy.strict
    assert Upstream.parse("tls://192.0.2.1").policy_for("192.0.2.1") == strict("192.0.2.1")
    two = Upstream.parse("tls://192.0.2.1?address=fe80::1%25eth0", trust_anchors=[ANCHOR])
    assert two.policy_for("192.0.2.1") == strict("192.0.2.1", trust_anchors=[ANCHOR])
    assert two.policy_for("fe80::1%eth0") == strict("fe80::1", trust_anchors=[ANCHOR])
    assert Upstream.parse(f"tls://192.0.2.1?pin={TEXT}").policy_for("192.0.2.1") == strict(pins=[PIN])
    named = Upstream.parse(f"tls://192.0.2.1?pin={TEXT}#n", trust_anchors=[ANCHOR])
    assert named.policy_for("192.0.2.1") == strict("n", pins=[PIN], trust_anchors=[ANCHOR])
    assert Upstream.parse("tls://n").policy_for("198.51.100.1") == strict("n")
    by_issuer = Upstream.parse(f"tls://192.0.2.1?issuer-pin={TEXT}")
    assert by_issuer.policy_for("192.0.2.1") == strict("192.0.2.1", issuer_pins=[PIN])


def test_opportunistic_is_asked_for_by_its_name():
    """RES-4; RFC 8310, section 5."""
    opportunistic = AuthenticationPolicy.opportunistic
    assert Upstream.parse("tls://192.0.2.1?profile=opportunistic").policy_for("192.0.2.1") == opportunistic()
    upstream = Upstream.parse(f"tls://192.0.2.1?profile=opportunistic&pin={TEXT}#n")
    assert upstream.policy_for("192.0.2.1") == opportunistic("n", pins=[PIN])


@given(strategies.upstreams())
def test_every_address_has_a_policy(upstream):
    """RES-4: a strict upstream has no policy that would let in anybody."""
    for address in upstream.addresses or ["198.51.100.1"]:
        policy = upstream.policy_for(address)
        assert policy.is_opportunistic == upstream.is_opportunistic
        assert policy.is_opportunistic or policy.name or policy.pins


# Names that tell who the customer is.


@pytest.mark.parametrize(
    "name", ["abc123.dns.nextdns.io", "Device-abc123.dns.nextdns.io", "phone.abc123.dns.nextdns.io"]
)
def test_names_of_accounts_are_for_nobody_s_log(name):
    """RES-6: neither in repr, nor in str, nor in errors; only the URL has it."""
    for upstream in (
        Upstream.parse(f"tls://45.90.28.0#{name}"),
        Upstream.parse(f"tls://{name}"),
        Upstream.parse("tls://n", bootstrap=[Upstream.parse(f"tls://45.90.28.0#{name}")]),
    ):
        assert "abc123" in upstream.url.lower()
        for text in (repr(upstream), str(upstream), f"{[upstream]}"):
            assert "abc123" not in text.lower()
            assert "***.dns.nextdns.io" in text
    for wrong in (
        f"45.90.28.0#{name}",
        f"tls://45.90.28.0#{name}:853",
        f"https://{name}/",
        f"tls://45.90.28.0/#{name}",
    ):
        assert "abc123" not in refusal(wrong).lower()
        assert "***.dns.nextdns.io" in refusal(wrong)


@pytest.mark.parametrize("wrong", ["-.abc123.dns.nextdns.io", "abc123.dns.nextdns.io:853", "abc123.dns.nextdns.io/"])
def test_names_of_accounts_are_not_in_tracebacks(wrong):
    """RES-6: an error that is logged with those behind it."""
    for read in (
        lambda: Upstream.parse(f"tls://192.0.2.1#{wrong}"),
        lambda: Upstream.parse(f"tls://{wrong}#a.example"),
        lambda: Upstream(name=wrong, addresses=("192.0.2.1",)),
        lambda: Settings.parse({"upstream": [{"address": "192.0.2.1", "name": wrong}]}),
        lambda: from_resolved_conf(f"192.0.2.1#{wrong}"),
        lambda: from_stubby([{"address_data": "192.0.2.1", "tls_auth_name": wrong}]),
    ):
        with pytest.raises(UpstreamError) as refused:
            read()
        assert "abc123" not in "".join(traceback.format_exception(refused.value))


def test_other_names_are_shown():
    """RES-6."""
    assert str(QUAD9).endswith("#dns.quad9.net")
    assert str(Upstream.parse("tls://192.0.2.1#dns.nextdns.io")) == "tls://192.0.2.1#dns.nextdns.io"
    assert all(normalize_name(domain) == domain for domain in ACCOUNT_DOMAINS)


# Bootstrap: declared, and no more.


def test_bootstrap_is_an_argument_too():
    """RES-8, RES-9: upstreams that have addresses, or the system by word."""
    assert Upstream.parse("tls://n", bootstrap=SYSTEM) == Upstream.parse("tls://n?bootstrap=system")
    upstream = Upstream.parse("tls://n", bootstrap=[QUAD9, QUAD9])
    assert upstream.bootstrap == (QUAD9,)
    assert Upstream.parse(upstream.url) == upstream
    assert Upstream.parse("tls://n").bootstrap == ()
    assert refusal("tls://n?bootstrap=system", bootstrap=[QUAD9]) == (
        "bootstrap is in the URL and in the argument: give one of them"
    )
    assert refusal("tls://n", trust_anchors=b"0").startswith("trust_anchors: a list is wanted, not bytes")


# Operators.


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_has_both_families_a_name_a_source_and_a_date(name):
    """RES-5: and no pins."""
    operator, upstream = OPERATORS[name], Upstream.well_known(name)
    assert upstream == Upstream(name=operator.name, addresses=operator.addresses)
    assert upstream.name == operator.name
    assert upstream.addresses == operator.addresses
    assert {":" in address for address in operator.addresses} == {True, False}
    assert not is_address(operator.name)
    assert re.fullmatch(r"https://[a-z0-9./-]+/[a-z0-9./-]+", operator.source)
    assert datetime.date.fromisoformat(operator.date) >= datetime.date(2026, 11, 27)
    assert Upstream.parse(upstream.url) == upstream


def test_operators_are_told_apart():
    """RES-5: no address and no name stands for two services."""
    addresses = [address for operator in OPERATORS.values() for address in operator.addresses]
    assert len(set(addresses)) == len(addresses)
    assert len({operator.name for operator in OPERATORS.values()}) == len(OPERATORS)
    assert {"cloudflare", "google", "quad9"} <= set(OPERATORS)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("qad9", "unknown operator 'qad9'; did you mean quad9?"),
        ("Cloudflare", "unknown operator 'Cloudflare'; did you mean cloudflare?"),
        ("xyzzy", "unknown operator 'xyzzy'; choose from cloudflare, cloudflare-family, "),
        (["quad9"], "unknown operator ['quad9']; "),
    ],
)
def test_an_operator_that_is_not_known(name, why):
    """RES-5."""
    with pytest.raises(UpstreamError, match=re.escape(why)):
        Upstream.well_known(name)


# Lists of them.


@pytest.mark.parametrize(
    ("upstreams", "why"),
    [
        ([], "upstreams: the list is empty, so that nobody could be asked"),
        (QUAD9, "upstreams: a list is wanted, not Upstream"),
        ("tls://1.1.1.1", "upstreams: a list is wanted, not str"),
        ([QUAD9, "tls://1.1.1.1"], "upstreams[1]: an Upstream is wanted, not str: Upstream.parse reads one"),
        ([None], "upstreams[0]: an Upstream is wanted, not NoneType"),
        ([QUAD9, Upstream.well_known("google"), QUAD9], "upstreams[2]: the same as upstreams[0]"),
        (
            [QUAD9, Upstream.parse("tls://1.1.1.1?profile=opportunistic")],
            "upstreams: some are strict and some opportunistic",
        ),
        ([Upstream.parse(f"tls://{one}") for one in MANY], "upstreams: 17 are too many: 16 at the most"),
    ],
)
def test_lists_that_cannot_be_served(upstreams, why):
    """AUT-2: and no step down in security from one upstream to the next."""
    with pytest.raises(UpstreamError, match=re.escape(why)):
        check_upstreams(upstreams)


def test_lists_keep_their_order():
    """The first one is the favourite."""
    upstreams = [Upstream.well_known(name) for name in OPERATORS]
    assert check_upstreams(iter(upstreams)) == tuple(upstreams)


# What is read in one way.


@given(st.ip_addresses().map(str))
def test_an_address_that_is_dialled_is_the_one_that_is_authenticated(text):
    """RES-1: one reading of hosts in the whole package."""
    ip = ipaddress.ip_address(text)
    if ip.is_multicast or ip.is_unspecified or text == "255.255.255.255":
        with pytest.raises(LocalProtocolError, match="is the address of no one server"):
            normalize_address(text)
    else:
        assert normalize_address(text) == normalize_address(f"[{text}]") == normalize_name(text)


def test_a_port_is_read_once():
    """RFC 7858, section 3.1."""
    assert check_port(443) == 443
