"""What ``dot-proto query`` shows: each flag beside kdig, folding, units, U-labels, EDNS in words, colour, AD."""

from __future__ import annotations

import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable

import dns.edns
import dns.flags
import dns.message
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.DNSKEY
import dns.rrset
import pytest

from cli.conftest import Run, Site
from dot_io.cli import displays, edns_text, records
from dot_io.cli.query_arguments import Display

LIMIT = 20.0
"Seconds that a process may take."

NEEDS_KDIG = pytest.mark.skipif(shutil.which("kdig") is None, reason="kdig is not installed")

KEY = "mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ=="
RSA = "AwEAAbOFAxl+Lkt0UMglZizKEC1AxUu8zlj65KYatR5wBWMrh18TYzK/ig6Y1t5YTWCO68bynorpNu9fqNFALX7bVl9/gybA"
DIGEST = "0123456789ABCDEF" * 4

ZONE = {
    ("a.test.", "A"): (300, ["192.0.2.10", "192.0.2.11"]),
    ("a.test.", "AAAA"): (300, ["2001:db8::1"]),
    ("soa.test.", "SOA"): (90_061, ["ns1.test. hostmaster.test. 2026010101 3600 900 604800 60"]),
    ("key.test.", "DNSKEY"): (3600, [f"257 3 13 {KEY}", f"256 3 13 {KEY}"]),
    ("rsa.test.", "DNSKEY"): (3600, [f"256 3 8 {RSA}"]),
    ("sig.test.", "RRSIG"): (60, [f"A 13 2 300 20300101000000 20200101000000 12345 test. {KEY}"]),
    ("ds.test.", "DS"): (60, [f"12345 13 2 {DIGEST}"]),
    ("tlsa.test.", "TLSA"): (60, [f"3 1 1 {DIGEST}"]),
    ("txt.test.", "TXT"): (60, ['"a b" "c"']),
    ("mx.test.", "MX"): (0, ["10 mail.test."]),
    ("alias.test.", "CNAME"): (604_800, ["xn--bcher-kva.test."]),
    ("xn--bcher-kva.test.", "CNAME"): (60, ["xn--strae-oqa.test."]),
}


def from_zone(asked: dns.message.Message) -> bytes:
    """The zone above, with NS and its address below the answer."""
    response = dns.message.make_response(asked, recursion_available=True, our_payload=1232)
    [question] = asked.question
    ttl, data = ZONE[question.name.to_text(), dns.rdatatype.to_text(question.rdtype)]
    for one in data:  # one by one: dnspython shuffles those of a set
        response.answer.append(dns.rrset.from_text(question.name, ttl, "IN", question.rdtype, one))
    response.authority.append(dns.rrset.from_text("test.", 60, "IN", "NS", "ns1.test."))
    response.additional.append(dns.rrset.from_text("ns1.test.", 60, "IN", "A", "192.0.2.53"))
    return response.to_wire()


def neutral(out: str) -> list[str]:
    """Without ids, dates, times, and the session's details, which two TLS libraries choose differently."""
    out = re.sub(r"(?m)^;; TLS session .*$", ";; TLS session", out)
    out = re.sub(r"(?m); id: \d+$", "; id: N", out)
    out = re.sub(r"(?m)^;; Time .*$", ";; Time", out)
    return re.sub(r"(?m) in \d+\.\d ms$", "", out).splitlines()


FLAGS = [
    "",
    "+all",
    "+noall",
    "+noall +answer",
    "+noall +answer +authority",
    "+noall +additional",
    "+noall +question",
    "+noall +opt",
    "+noall +stats",
    "+noall +authority +comments",
    "+noheader",
    "+noquestion",
    "+noanswer",
    "+noauthority",
    "+noopt",
    "+nostats",
    "+nottl",
    "+noclass",
    "+nottl +noclass",
    "+noquestion +nostats",
    "+generic",
    "+short",
    "+short +generic",
    "+qr",
    "+qr +noall +answer",
    "+qr +nostats",
    "+qr +noopt",
    "+noedns",
    "+dnssec",
    "+padding=64",
    "+crypto",
    "+cdflag",
]


@NEEDS_KDIG
@pytest.mark.parametrize("flags", FLAGS)
def test_flag_beside_kdig(flags: str, run: Run, at: str, site: Site) -> None:
    """Q14: the same lines."""
    site.respond = from_zone
    size = "" if "+noedns" in flags else "+bufsize=1232"
    padding = flags.replace("+padding=", "+alignment=")
    line = f"{at} {size} a.test"
    kdig = ["kdig", *shlex.split(f"{line} {padding} +retry=0 +noidn")]
    theirs = subprocess.run(kdig, capture_output=True, timeout=LIMIT, text=True).stdout
    result = run(f"query {line} {flags}")
    assert (result.code, result.err) == (0, "")
    assert neutral(result.out) == neutral(theirs)


@NEEDS_KDIG
@pytest.mark.parametrize(
    "line",
    [
        "soa.test SOA +noall +multiline +answer",
        "key.test DNSKEY +noall +multiline +answer",
        "rsa.test DNSKEY +noall +multiline +answer",
        "sig.test RRSIG +noall +multiline +answer",
        "ds.test DS +noall +multiline +answer",
        "tlsa.test TLSA +noall +multiline +answer",
        "txt.test TXT +noall +multiline +answer",
        "mx.test MX +noall +multiline +answer",
        "key.test DNSKEY +noall +nocrypto +answer",
        "sig.test RRSIG +noall +nocrypto +answer",
        "ds.test DS +noall +nocrypto +answer",
        "soa.test SOA +short",
        "key.test DNSKEY +short",
        "xn--bcher-kva.test CNAME +noall +answer +noidn",
        "txt.test TXT +noall +generic +answer",
    ],
)
def test_record_beside_kdig(line: str, run: Run, at: str, site: Site) -> None:
    """Q14; kdig 3.2.6 forgets +noall behind a flag that changes its style, so it comes before."""
    site.respond = from_zone
    kdig = ["kdig", *shlex.split(f"{at} {line} +retry=0")]
    theirs = subprocess.run(kdig, capture_output=True, timeout=LIMIT, text=True).stdout
    records = [one for one in theirs.splitlines() if not one.startswith(";") and one]
    assert run(f"query {at} {line}").out.splitlines() == records


def test_noall_answer_is_records_alone(run: Run, at: str, site: Site) -> None:
    """Q14: the most copied line of dig's; not even the session, and nothing between two queries."""
    site.respond = from_zone
    out = run(f"query {at} +noall +answer a.test mx.test MX").out
    assert out == (
        "a.test.             \t300\tIN\tA\t192.0.2.10\n"
        "a.test.             \t300\tIN\tA\t192.0.2.11\n"
        "mx.test.            \t0\tIN\tMX\t10 mail.test.\n"
    )


def test_without_comments_no_session(run: Run, at: str, site: Site) -> None:
    """Q14: the session line is a comment; kdig keeps it."""
    site.respond = from_zone
    out = run(f"query {at} +nocomments a.test").out
    assert out.startswith(";; ->>HEADER<<- ")
    assert "SECTION" not in out


def test_session_is_the_same_with_and_without_debug(run: Run, at: str) -> None:
    lines = {
        line
        for debug in ("", "-d")
        for line in run(f"query {at} {debug} a.test").out.splitlines()
        if line.startswith(";; TLS session")
    }
    [line] = lines
    assert re.fullmatch(r";; TLS session \(TLS1\.3\)-\(\S+\)-\(ECDSA-SECP256R1-SHA256\)-\(\S+\)", line)


def test_query_is_shown_as_it_is_sent(run: Run, at: str, site: Site) -> None:
    """Q14: +qr proves the padding (RFC 8467)."""
    out = run(f"query {at} +qr example.com").out
    sent, received = out.split(";; Sent 128 B\n")
    assert "\n;; PADDING: 84 B\n" in sent
    assert ";; Flags: rd ad; QUERY: 1" in sent
    assert re.search(rf"^;; To 127\.0\.0\.1@{site.port}\(TCP\)$", received, re.MULTILINE)
    assert len(site.asked[0]) == 128
    identity = re.findall(r"; id: (\d+)$", out, re.MULTILINE)
    assert identity[0] == identity[1]


@pytest.mark.parametrize(
    ("seconds", "short", "words"),
    [
        (0, "0s", "0 seconds"),
        (1, "1s", "1 second"),
        (60, "1m", "1 minute"),
        (300, "5m", "5 minutes"),
        (3600, "1h", "1 hour"),
        (90_061, "1d1h1m1s", "1 day 1 hour 1 minute 1 second"),
        (604_800, "1w", "1 week"),
        (4_294_967_295, "7101w3d6h28m15s", "7101 weeks 3 days 6 hours 28 minutes 15 seconds"),
    ],
)
def test_units(seconds: int, short: str, words: str) -> None:
    """dig's +ttlunits, and kdig's words."""
    assert (edns_text.units(seconds), edns_text.duration(seconds)) == (short, words)


def test_ttlunits(run: Run, at: str, site: Site) -> None:
    site.respond = from_zone
    assert "\t1d1h1m1s\tIN\tSOA\t" in run(f"query {at} soa.test SOA +ttlunits").out


@pytest.mark.parametrize("algorithm", [1, 5, 8, 13, 14, 15, 16])
def test_key_tag(algorithm: int) -> None:
    """RFC 4034, appendix B, as dnspython computes it."""
    from dns.dnssec import key_id

    for flags in (256, 257):
        text = f"{flags} 3 {algorithm} {KEY}"
        rdata = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.DNSKEY, text)
        assert isinstance(rdata, dns.rdtypes.ANY.DNSKEY.DNSKEY)
        assert records.key_tag(rdata.to_wire() or b"") == key_id(rdata)


# U-labels (Q15).


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("xn--bcher-kva", "bücher"),
        ("xn--strae-oqa", "straße"),
        ("xn--fiqs8s", "中国"),
        ("xn--4gbwdl", "xn--4gbwdl"),  # from right to left
        ("xn--80ak6aa92e", "\u0430\u0440\u0440\u04cf\u0435"),  # all Cyrillic: of one script
        ("xn--pple-43d", "xn--pple-43d"),  # Cyrillic and Latin: mixed
        ("xn--i-7iq", "xn--i-7iq"),  # an emoji: no label of IDNA 2008
        ("xn--zzzzzzzz", "xn--zzzzzzzz"),
        ("xn--", "xn--"),
    ],
)
def test_label(label: str, shown: str) -> None:
    """Q15: those that deceive stay as they are asked for."""
    assert records.u_label(label) == shown
    assert records.name(f"a.{label}.test.", Display(idn=True)) == f"a.{shown}.test."
    assert records.name(f"a.{label}.test.", Display(idn=False)) == f"a.{label}.test."


def test_label_without_idna(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "idna", None)
    assert records.u_label("xn--bcher-kva") == "xn--bcher-kva"


@pytest.mark.parametrize(("flag", "is_shown"), [("", False), ("+noidn", False), ("+idn", True)])
def test_u_labels_into_a_pipe(flag: str, is_shown: bool, run: Run, at: str, site: Site) -> None:
    """Q15: dig's rule; kdig shows them in pipes too. The same is asked whichever way it is written."""
    site.respond = from_zone
    for name in ("bücher.test", "xn--bcher-kva.test"):
        out = run(f"query {at} {name} CNAME {flag} +noall +answer").out
        assert ("bücher.test." in out, "straße.test." in out) == (is_shown, is_shown)
    assert site.asked[0][2:] == site.asked[1][2:]
    short = run(f"query {at} bücher.test CNAME +short {flag}").out
    assert short == ("straße.test.\n" if is_shown else "xn--strae-oqa.test.\n")


# EDNS in words (Q16).


def with_options(*options: tuple[int, bytes]) -> Callable[[dns.message.Message], bytes]:
    def respond(asked: dns.message.Message) -> bytes:
        response = dns.message.make_response(asked)
        response.use_edns(0, options=[dns.edns.GenericOption(code, data) for code, data in options])
        return response.to_wire()

    return respond


HOSTILE = b"no\x1b[2J\x07\xe2\x80\xae\xc2\x9b31m\n;; ANSWER SECTION:"


@pytest.mark.parametrize("form", ["", "+short", "-d", "+json", "+jsonl", "+multiline", "+generic"])
def test_no_control_character_of_a_strangers_is_shown(form: str, run: Run, at: str, site: Site) -> None:
    """Q16: in EDE and NSID, in a name and in text; nothing below 0x20 but line ends and tabs of our own."""

    def respond(asked: dns.message.Message) -> bytes:
        options = [(15, b"\0\x16" + HOSTILE), (15, b"\0\x06" + b"x" * 20_000), (3, HOSTILE), (65001, HOSTILE)]
        response = dns.message.make_response(asked)
        response.use_edns(0, options=[dns.edns.GenericOption(code, data) for code, data in options])
        response.answer.append(dns.rrset.from_text(asked.question[0].name, 60, "IN", "TXT", '"\\027[2J\\007\\155"'))
        response.answer.append(dns.rrset.from_text(r"\027[2J.test.", 60, "IN", "CNAME", r"\027\010.test."))
        return response.to_wire(max_size=65_535)

    site.respond = respond
    code, out, err = run(f"query {at} {form} +nsid a.test")
    assert (code, "SERVFAIL" in out, "[2J" in out or "1B5B324A" in out) == (0, False, True)
    assert [one for one in out + err if not (one.isprintable() or one in "\n\t")] == []
    assert len(out) < 50_000  # JSON has the octets too
    if form in ("", "-d"):
        assert ";; EDE: 22 (No Reachable Authority): no\\x1b[2J\\x07\\u202e\\x9b31m\\n;; ANSWER" in out
        assert re.search(r"^;; EDE: 6 \(Dnssec Bogus\): x{1024}\.\.\. \(cut\)$", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("code", "data", "line"),
    [
        (3, b"ns1.lab", 'NSID: 6E73312E6C6162 "ns1.lab"'),
        (3, b"", "NSID"),
        (8, b"\0\1\x18\x10\xc0\0\2", "CLIENT-SUBNET: 192.0.2.0/24/16"),
        (8, b"\0\2\x20\0\x20\1\x0d\xb8", "CLIENT-SUBNET: 2001:db8::/32/0"),
        (8, b"\0\1\0\0", "CLIENT-SUBNET: 0.0.0.0/0/0"),
        (8, b"\0\3\0\0", "OPTION 8: 00030000"),
        (9, b"\0\x09\x3a\x80", "EXPIRE: 604800 (1 week)"),
        (9, b"", "EXPIRE"),
        (9, b"\0", "OPTION 9: 00"),
        (10, b"clientsserverser", "COOKIE: 636c69656e7473736572766572736572"),
        (11, b"\0\x64", "KEEPALIVE: 10.0 s"),
        (12, bytes(4), "PADDING: 4 B"),
        (15, b"\0\x16", "EDE: 22 (No Reachable Authority)"),
        (15, b"\0\x03stale", "EDE: 3 (Stale Answer): stale"),
        (15, b"\xff\xff", "EDE: 65535"),
        (15, b"\0\x16text\0", "EDE: 22 (No Reachable Authority): text"),
        (15, b"\0", "OPTION 15: 00"),
        (65001, b"", "OPTION 65001:"),
    ],
)
def test_option_in_words(code: int, data: bytes, line: str) -> None:
    """Q16: RFC 5001, 7871, 7314, 7873, 7828, 7830, 8914; what has another form is octets."""
    assert edns_text.option(code, data) == line


def test_every_extended_error_is_shown(run: Run, at: str, site: Site) -> None:
    """RFC 8914, section 2: there may be several."""
    site.respond = with_options((15, b"\0\x06bogus"), (15, b"\0\x16"))
    assert run(f"query {at} a.test").out.count(";; EDE: ") == 2


# AD, explained once.


@pytest.mark.parametrize(
    ("flags", "words", "line"),
    [
        (dns.flags.AD, "", "AD: the server says that it has validated the answer"),
        (0, "", "no AD: the server does not say that it has validated the answer"),
        (0, "+noadflag", None),
        (dns.flags.AA, "", None),
    ],
)
def test_validation_is_explained(flags: int, words: str, line: str | None, run: Run, at: str, site: Site) -> None:
    """In -d alone; an authoritative server validates nothing."""

    def respond(asked: dns.message.Message) -> bytes:
        response = dns.message.make_response(asked)
        response.flags |= flags
        return response.to_wire()

    site.respond = respond
    out = run(f"query -d {at} {words} a.test").out
    assert [one.partition("DNSSEC, ")[2][: len(line or "")] for one in out.splitlines() if "DNSSEC" in one] == (
        [] if line is None else [line]
    )
    assert "DNSSEC" not in run(f"query {at} {words} a.test").out


def test_words_that_change_nothing_are_named(run: Run, at: str) -> None:
    """Q10: in -d, one line each."""
    assert ";; DEBUG: +tcp changes nothing over TLS\n;; DEBUG: +retry" in run(f"query -d {at} +tcp +retry=0 a.test").out
    assert "+tcp" not in run(f"query {at} +tcp a.test").out


# Colour (Q18).


def on_a_terminal(line: str, **environment: str) -> str:
    """The command's output where stdout is a terminal."""
    master, slave = pty.openpty()
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONIOENCODING": "utf-8"}
    inherited = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    with subprocess.Popen(
        [sys.executable, "-m", "dot_io.cli", *shlex.split(line)],
        stdout=slave,
        stderr=subprocess.DEVNULL,
        env=inherited | {"TERM": "xterm"} | paths | environment,
    ) as process:
        os.close(slave)
        octets = b""
        while True:
            try:
                part = os.read(master, 65_536)
            except OSError:  # the other side has gone, as Linux says it
                break
            if not part:
                break
            octets += part
        process.wait(LIMIT)
    os.close(master)
    return octets.decode().replace("\r\n", "\n")


def without_colour(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize(
    ("words", "environment", "is_coloured"),
    [
        ("", {}, True),
        ("", {"NO_COLOR": "1"}, False),
        ("", {"NO_COLOR": ""}, True),
        ("", {"TERM": "dumb"}, False),
        ("--color=never", {}, False),
        ("--color=always", {"NO_COLOR": "1"}, True),
        ("+json", {}, False),
        ("--color=always +json", {}, False),
        ("+noall +answer", {}, False),
    ],
)
def test_colour_on_a_terminal(words: str, environment: dict[str, str], is_coloured: bool, at: str, run: Run) -> None:
    """Q18: comments alone are coloured, and the text is the same without."""
    out = on_a_terminal(f"query {at} {words} a.test", **environment)
    assert ("\x1b[" in out) == is_coloured
    if "+json" not in words:
        plain = run(f"query {at} {words.replace('always', 'never')} a.test").out
        assert neutral(without_colour(out)) == neutral(plain)


def test_no_colour_into_a_pipe(run: Run, at: str) -> None:
    assert "\x1b" not in run(f"query {at} a.test").out
    assert "\x1b[36m;; ->>HEADER" in run(f"query {at} --color=always a.test").out


def test_warnings_have_a_colour_of_their_own() -> None:
    assert displays.coloured(";; WARNING: x") == "\x1b[33m;; WARNING: x\x1b[0m"
    assert displays.coloured("a.test. 60 IN A 192.0.2.1") == "a.test. 60 IN A 192.0.2.1"


def test_u_labels_on_a_terminal(at: str, site: Site) -> None:
    """Q15: shown to people."""
    site.respond = from_zone
    out = on_a_terminal(f"query {at} xn--bcher-kva.test CNAME +noall +answer")
    assert "bücher.test." in out
    assert "straße.test." in out
    assert "bücher" not in on_a_terminal(f"query {at} xn--bcher-kva.test CNAME +noidn")
