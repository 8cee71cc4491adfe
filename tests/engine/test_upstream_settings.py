"""A list of upstreams in a configuration file (RES-4a)."""

from __future__ import annotations

import datetime
import json
import math
import tomllib
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dot_proto import Pin, Upstream, UpstreamError
from dot_proto.resolver.settings import KEYS, STRATEGIES, UPSTREAM_KEYS, Settings
from support.travel import check_travels
from support.upstreams import complaints
from support.vectors import certificate, certificate_pem

TEXT, OTHER = "62lKu9HsDVbyiPenApnc4sfmSYTHOVfFgL3pyB+cBL4=", "foxZRnIh9gZpWnl+zEiKa0EJ2rdCGroMWm02gaxSc9Q="
ANCHOR = certificate("leaf-p256")

WHOLE = f"""
strategy = "round-robin"
timeout = 2

[[upstream]]
address = ["192.0.2.1", "[2001:DB8::1]"]
name = "DNS.example"
port = 8853
pins = ["{TEXT}", 'pin-sha256="{OTHER}"']
ca_file = "root.pem"

[[upstream]]
url = "tls://198.51.100.1?pin={TEXT}"

[[upstream]]
url = "tls://other.example"
bootstrap = ["quad9", "tls://192.0.2.1#b.example"]
ca_file = "root.pem"

[[upstream]]
operator = "quad9"

[[upstream]]
name = "third.example"
bootstrap = "system"
issuer_pins = "{TEXT}"
profile = "strict"
"""


def parsed(text: str, **arguments: object) -> Settings:
    return Settings.parse(tomllib.loads(text), **arguments)  # type: ignore[arg-type]


def problems(data: object, **arguments: object) -> list[str]:
    """Each thing that is wrong, in lines of their own."""
    with pytest.raises(UpstreamError) as refused:
        Settings.parse(tomllib.loads(data) if isinstance(data, str) else data, **arguments)  # type: ignore[arg-type]
    assert str(refused.value) == "\n".join(refused.value.problems)
    assert all(problem.isprintable() for problem in refused.value.problems)
    return list(refused.value.problems)


def test_each_key_is_read():
    """RES-4a."""
    files = {"root.pem": certificate_pem("leaf-p256")}
    settings = parsed(WHOLE, read_file=files.__getitem__)
    pin = Pin.parse(TEXT)
    assert settings == Settings(
        strategy="round-robin",
        timeout=2.0,
        upstreams=(
            Upstream(
                name="dns.example",
                addresses=("192.0.2.1", "2001:db8::1"),
                port=8853,
                pins=(pin, Pin.parse(OTHER)),
                trust_anchors=(ANCHOR,),
            ),
            Upstream(addresses=("198.51.100.1",), pins=(pin,)),
            Upstream(
                name="other.example",
                trust_anchors=(ANCHOR,),
                bootstrap=(Upstream.well_known("quad9"), Upstream.parse("tls://192.0.2.1#b.example")),
            ),
            Upstream.well_known("quad9"),
            Upstream(name="third.example", issuer_pins=(pin,), bootstrap="system"),
        ),
    )
    assert {key for table in tomllib.loads(WHOLE)["upstream"] for key in table} == set(UPSTREAM_KEYS)
    assert set(tomllib.loads(WHOLE)) == set(KEYS)
    assert Settings.parse(json.loads(json.dumps(tomllib.loads(WHOLE))), read_file=files.__getitem__) == settings
    check_travels(settings)


def test_defaults():
    """RES-4a: one line of one upstream is enough."""
    settings = parsed('upstream = [{address = "192.0.2.1"}]')
    assert settings == Settings(upstreams=(Upstream(addresses=("192.0.2.1",)),), strategy="ordered", timeout=5.0)
    opportunistic = parsed('upstream = [{address = "192.0.2.1", profile = "opportunistic"}]')
    assert [upstream.is_opportunistic for upstream in opportunistic.upstreams] == [True]


@pytest.mark.parametrize("key", UPSTREAM_KEYS)
def test_a_misspelt_key_is_refused_by_its_name(key):
    """RES-4a: a misspelt ``pins`` must not mean that there are none."""
    for misspelt in {key[:-1], f"{key}s", key.upper(), key[1] + key[0] + key[2:], key.replace("_", "-")} - {key}:
        (problem, *_) = problems({"upstream": [{misspelt: "x", "operator": "quad9"}]})
        if key == "ca_file" and misspelt == "ca-file":
            assert problem == "upstream[0]: unknown key 'ca-file'; did you mean ca_file?"
        assert problem.startswith(f"upstream[0]: unknown key {misspelt!r}; did you mean {key}")


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("stratgy", "did you mean strategy?"),
        ("timeouts", "did you mean timeout?"),
        ("upstreams", "did you mean upstream?"),
        ("nameservers", "did you mean [[upstream]]?"),
        ("xyzzy", "choose from strategy, timeout, upstream"),
    ],
)
def test_a_key_of_the_file_that_is_not_known(key, advice):
    """RES-4a."""
    assert f"unknown key {key!r}; {advice}" in problems({key: 5, "upstream": [{"operator": "quad9"}]})


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("host", "did you mean name, for what is authenticated, or address, for what is dialled?"),
        ("tls_auth_name", "did you mean name?"),
        ("tls_pubkey_pinset", "did you mean pins?"),
        ("trust_anchors", "did you mean ca_file?"),
        ("verify", 'who is not to be authenticated is asked for by profile = "opportunistic"'),
    ],
)
def test_words_of_other_programs(key, advice):
    """RES-4a."""
    assert problems({"upstream": [{key: 5, "operator": "quad9"}]}) == [f"upstream[0]: unknown key {key!r}; {advice}"]


def test_everything_that_is_wrong_is_told_at_once():
    """RES-4a: each with the path of its key, and no name of an account (RES-6)."""
    text = f"""
stratgy = "x"
strategy = "ordred"
timeout = true
[[upstream]]
address = ["1.1.1.1:853", "a.example", 5]
nmae = "x"
name = "a..b"
pins = ["{TEXT[:-1]}", 5]
issuer_pins = []
port = "853"
profile = "none"
ca_file = "x"
bootstrap = "sistem"
[[upstream]]
url = "tls://1.1.1.1#n:853"
[[upstream]]
url = "tls://1.1.1.1"
operator = "qad9"
[[upstream]]
url = "tls://1.1.1.1"
name = "x"
pins = "{TEXT}"
[[upstream]]
operator = 5
ca_file = 5
[[upstream]]
name = "dns.example"
[[upstream]]
url = "tls://dns.example"
[[upstream]]
name = "dns.example"
bootstrap = ["quad9", "system"]
[[upstream]]
name = "dns.example"
bootstrap = ["quad9", "tls://dns.example"]
[[upstream]]
name = "dns.example"
bootstrap = 5
[[upstream]]
address = "192.0.2.1"
bootstrap = "system"
[[upstream]]
[[upstream]]
address = "192.0.2.1"
port = 53
[[upstream]]
address = "192.0.2.1"
profile = 5
[[upstream]]
url = "abc123.dns.nextdns.io"
[[upstream]]
address = "192.0.2.1"
name = "-.abc123.dns.nextdns.io"
"""
    no_address = 'no address to dial: give address, or say who finds it: bootstrap = ["quad9"], or "system"'
    assert problems(text) == [
        "unknown key 'stratgy'; did you mean strategy?",
        "strategy: unknown strategy 'ordred'; did you mean ordered?",
        "timeout: a number of seconds above 0 is wanted, not True",
        "upstream[0]: unknown key 'nmae'; did you mean name?",
        "upstream[0].ca_file: no file is read here: give read_file=, or use dot_io.settings.load",
        "upstream[0].bootstrap[0]: character 1: the text does not begin with tls://; did you mean tls://sistem ?",
        "upstream[0].address[0]: '1.1.1.1:853' names a port: give '1.1.1.1', and the port by itself",
        "upstream[0].address[1]: 'a.example' is a name, not an IP address: give the addresses too, or say how they are "
        "to be found (bootstrap)",
        "upstream[0].address[2]: an address is a text, not 5",
        "upstream[0].name: a label has 1 to 63 octets: '' in 'a..b'",
        f"upstream[0].pins[0]: '{TEXT[:12]}'... is no pin: its padding is wrong: a pin ends with exactly one =; did "
        f"you mean {TEXT}?",
        "upstream[0].pins[1]: a pin is a text in base64, not 5",
        "upstream[0].issuer_pins: the list is empty: leave the key out, or fill it",
        "upstream[0].port: a whole number is wanted, not the text '853'",
        "upstream[0].profile: unknown profile 'none'; choose from opportunistic, strict",
        "upstream[1].url: character 15: 'n:853' has a colon but is no IPv6 address: give a port apart, and of a URL "
        "the host alone; did you mean tls://1.1.1.1:853#n ?",
        "upstream[2].operator: it says all of this: leave out url, or operator",
        "upstream[2].operator: unknown operator 'qad9'; did you mean quad9?",
        "upstream[3].url: it says all of this: leave out name, pins, or url",
        "upstream[4].operator: it says all of this: leave out ca_file, or operator",
        "upstream[4].ca_file: the name of a file is wanted, not 5",
        "upstream[4].operator: unknown operator 5; choose from cloudflare, cloudflare-family, cloudflare-security, "
        "google, quad9, quad9-ecs, quad9-unfiltered",
        f"upstream[5]: {no_address}",
        f"upstream[6]: {no_address}",
        "upstream[7].bootstrap: 'system' stands alone, or not at all",
        "upstream[8].bootstrap[1]: it has no address, and would have to be looked up itself",
        'upstream[9].bootstrap: "system", or a list of URLs and operators is wanted, not 5',
        "upstream[10]: bootstrap: it finds the addresses of a name, and addresses are given: leave it out",
        "upstream[11]: addresses: neither an address to dial nor a name to find one by: give one of them",
        "upstream[12].port: port 53 is for cleartext DNS and must not be used (RFC 7858, section 3.1); try 853",
        "upstream[13].profile: unknown profile 5; choose from opportunistic, strict",
        "upstream[14].url: character 1: the text does not begin with tls://; did you mean tls://***.dns.nextdns.io ?",
        "upstream[15].name: '-' in '***.dns.nextdns.io' is no label of a host name: letters, digits, hyphens and "
        "underscores alone",
    ]


NONE = "upstream: there is none, so that nobody could be asked: begin one with [[upstream]]"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, [NONE]),
        ([], ["a table is wanted, not []", NONE]),
        (None, ["a table is wanted, not None", NONE]),
        ({"upstream": []}, ["upstream: the list is empty, so that nobody could be asked"]),
        ({"upstream": {}}, ["upstream: a list of tables is wanted, each begun with [[upstream]], not {}"]),
        ({"upstream": [5]}, ["upstream[0]: a table is wanted, not 5"]),
        ({"upstream": [{"operator": "quad9"}] * 2}, ["upstream[1]: the same as upstream[0]"]),
        (
            {"upstream": [{"operator": "quad9"}, {"address": "::1", "profile": "opportunistic"}]},
            [
                "upstream: some are strict and some opportunistic, so that queries could end up at an unauthenticated "
                "server (RFC 8310, section 5.1): use one profile"
            ],
        ),
        (
            {"upstream": [{"address": f"192.0.2.{number}"} for number in range(17)]},
            ["upstream: 17 are too many: 16 at the most"],
        ),
    ],
)
def test_lists_that_cannot_be_served(data, expected):
    """RES-4a."""
    assert problems(data) == expected


@pytest.mark.parametrize("timeout", [0, -1, math.inf, math.nan, True, "5", datetime.time(0, 0), [5]])
def test_times_that_are_none(timeout):
    """RES-4a: seconds, above 0."""
    (problem,) = problems({"timeout": timeout, "upstream": [{"operator": "quad9"}]})
    assert problem == f"timeout: a number of seconds above 0 is wanted, not {timeout!r}"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_strategies(strategy):
    """RES-30: by name only; what they do is the resolver's."""
    assert Settings.parse({"strategy": strategy, "upstream": [{"operator": "quad9"}]}).strategy == strategy


def test_files_that_are_not_read():
    """RES-4a: the reason of the system, or of what is in them."""

    def broken(name: str) -> bytes:
        raise FileNotFoundError(2, "No such file or directory", name)

    data = {"upstream": [{"address": "::1", "ca_file": "root.pem"}]}
    assert problems(data, read_file=broken) == [
        "upstream[0].ca_file: 'root.pem' cannot be read: [Errno 2] No such file or directory: 'root.pem'"
    ]
    (problem,) = problems(data, read_file=lambda name: b"")
    assert problem.startswith("upstream[0].ca_file: 'root.pem': neither DER")
    assert Settings.parse(data, read_file=lambda name: ANCHOR).upstreams[0].trust_anchors == (ANCHOR,)


WORDS = st.sampled_from(
    ["system", "quad9", "::1", "tls://192.0.2.1", "tls://a.example", TEXT, "strict", "opportunistic"]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    WORDS,
    st.dates(),
    st.times(),
    st.binary(),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
TABLES = st.dictionaries(st.sampled_from(UPSTREAM_KEYS) | st.text(max_size=5) | st.integers(), VALUES, max_size=5)
FILES = st.fixed_dictionaries(
    {"upstream": VALUES | st.lists(TABLES, max_size=3)}, optional={"strategy": VALUES, "timeout": VALUES, "x": VALUES}
)


@given(VALUES | FILES)
def test_any_data_is_read_or_refused(data):
    """RES-4a: by nothing but the documented error; what is read could be asked."""
    reading = partial(Settings.parse, data, read_file=lambda name: ANCHOR)
    if problems := complaints(reading):
        assert all(problem.isprintable() for problem in problems)
    else:
        assert all(upstream.addresses or upstream.bootstrap for upstream in reading().upstreams)
