"""The grammar of ``dot-proto query``: command lines, and the queries that they are read into."""

from __future__ import annotations

import io
import shlex
from pathlib import Path

import dns.rdataclass
import dns.rdatatype
import pytest

from dot_io.cli import main, values
from dot_io.cli._errors import BatchFileError, UsageError
from dot_io.cli._options import REQUIRED, Option
from dot_io.cli.exit_codes import ExitCode
from dot_io.cli.query_arguments import Display, Message, QueryArguments, Session
from dot_io.cli.query_line import parse_query
from dot_io.cli.servers import Server, parse_server
from dot_io.cli.tables import IGNORED, QUERY, REFUSED, TABLES

PIN = "yioEpqeR4WtDwE9YxNVnCEkTxIjx6EEIwFSQW+lJsbc="
REVERSE6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa."


def shown(asked: QueryArguments) -> str:
    """A query in a line: name, type, class, servers, and every setting that is not the default."""
    servers = " ".join(
        f"@{server.host}:{server.port}{f'#{server.name}' if server.name else ''}{'?pin' * len(server.pins)}"
        for server in asked.servers
    )
    settings = [
        f"{name}={value}"
        for one in (asked.session, asked.message, asked.display)
        for name, value in one._asdict().items()
        if value != one._field_defaults[name]
    ]
    kind = dns.rdatatype.to_text(asked.rdtype), dns.rdataclass.to_text(asked.rdclass)
    return " ".join([asked.name, *kind, servers, *settings])


LINES = [
    # Which word is a name (Q3), and what is asked where there is none.
    ("@s", [". NS IN @s:853"]),
    ("@s A", [". A IN @s:853"]),
    ("@s any", [". ANY IN @s:853"]),
    ("@s any any", [". ANY ANY @s:853"]),
    ("@s CH", [". NS CH @s:853"]),
    ("@s a a", ["a. A IN @s:853"]),
    ("@s in in", ["in. A IN @s:853"]),
    ("@s mx a", ["a. MX IN @s:853"]),
    ("@s A AAAA", ["aaaa. A IN @s:853".replace("aaaa", "AAAA")]),
    ("@s mx.", ["mx. A IN @s:853"]),
    ("@s -q mx", ["mx. A IN @s:853"]),
    ("@s -q any", ["any. A IN @s:853"]),
    ("@s -qin", ["in. A IN @s:853"]),
    ("@s -q mx MX", ["mx. MX IN @s:853"]),
    ("@s MX -q mx", ["mx. MX IN @s:853"]),
    ("@s . NS", [". NS IN @s:853"]),
    ("@s .", [". A IN @s:853"]),
    ("@s localhost", ["localhost. A IN @s:853"]),
    ("@s wiki", ["wiki. A IN @s:853"]),
    ("@s com", ["com. A IN @s:853"]),
    ("@nsn1.example ns.example", ["ns.example. A IN @nsn1.example:853"]),
    ("@s a.test BOGUS", ["a.test. A IN @s:853", "BOGUS. A IN @s:853"]),
    # Type and class (Q2).
    ("@s a.test", ["a.test. A IN @s:853"]),
    ("@s AAAA a.test", ["a.test. AAAA IN @s:853"]),
    ("@s a.test AAAA", ["a.test. AAAA IN @s:853"]),
    ("a.test AAAA @s", ["a.test. AAAA IN @s:853"]),
    ("@s a.test TXT IN", ["a.test. TXT IN @s:853"]),
    ("@s CH TXT version.bind", ["version.bind. TXT CH @s:853"]),
    ("@s version.bind ch txt", ["version.bind. TXT CH @s:853"]),
    ("@s TYPE65 a.test", ["a.test. HTTPS IN @s:853"]),
    ("@s a.test TYPE65280 CLASS3", ["a.test. TYPE65280 CH @s:853"]),
    ("@s a.test NSAP-PTR", ["a.test. NSAP-PTR IN @s:853"]),
    ("@s -t AAAA a.test", ["a.test. AAAA IN @s:853"]),
    ("@s -tAAAA a.test", ["a.test. AAAA IN @s:853"]),
    ("@s a.test -t aaaa", ["a.test. AAAA IN @s:853"]),
    ("@s -t A -t AAAA a.test", ["a.test. AAAA IN @s:853"]),
    ("@s -c CH -t TXT version.bind", ["version.bind. TXT CH @s:853"]),
    ("@s -cCH -tTXT -qversion.bind", ["version.bind. TXT CH @s:853"]),
    ("@s a.test -c CH", ["a.test. A CH @s:853"]),
    ("@s -t TYPE28 a.test", ["a.test. AAAA IN @s:853"]),
    ("@s a.test ANY ANY", ["a.test. ANY ANY @s:853"]),
    ("@s a.test IN IN", ["a.test. A IN @s:853"]),
    # Reverse (Q2).
    ("@s -x 192.0.2.10", ["10.2.0.192.in-addr.arpa. PTR IN @s:853"]),
    ("@s -x192.0.2.10", ["10.2.0.192.in-addr.arpa. PTR IN @s:853"]),
    ("@s -x 2001:db8::1", [f"{REVERSE6} PTR IN @s:853"]),
    ("@s -x 192.0.2.10 -t SOA", ["10.2.0.192.in-addr.arpa. SOA IN @s:853"]),
    ("@s -x 192.0.2.10 SOA", ["10.2.0.192.in-addr.arpa. SOA IN @s:853"]),
    ("@s SOA -x 192.0.2.10", ["10.2.0.192.in-addr.arpa. SOA IN @s:853"]),
    ("@s -t SOA -x 192.0.2.10", ["10.2.0.192.in-addr.arpa. SOA IN @s:853"]),
    ("@s -x 192.0.2.1 PTR TXT", ["1.2.0.192.in-addr.arpa. PTR IN @s:853", "1.2.0.192.in-addr.arpa. TXT IN @s:853"]),
    ("@s -x 192.0.2.1 a.test", ["1.2.0.192.in-addr.arpa. PTR IN @s:853", "a.test. A IN @s:853"]),
    ("@s a.test -x 192.0.2.1", ["a.test. A IN @s:853", "1.2.0.192.in-addr.arpa. PTR IN @s:853"]),
    # Several names (Q1).
    ("@s a.test b.test", ["a.test. A IN @s:853", "b.test. A IN @s:853"]),
    ("@s a.test A AAAA", ["a.test. A IN @s:853", "a.test. AAAA IN @s:853"]),
    ("@s A a.test b.test AAAA", ["a.test. A IN @s:853", "b.test. AAAA IN @s:853"]),
    ("@s a.test TXT CH b.test MX", ["a.test. TXT CH @s:853", "b.test. MX IN @s:853"]),
    ("@s -t MX a b", ["a. MX IN @s:853", "b. MX IN @s:853"]),
    ("@s a.test b.test -t MX", ["a.test. A IN @s:853", "b.test. MX IN @s:853"]),
    ("@s -c CH a.test b.test -c IN", ["a.test. A CH @s:853", "b.test. A IN @s:853"]),
    ("@s MX a.test b.test TXT", ["a.test. MX IN @s:853", "b.test. TXT IN @s:853"]),
    ("@s -t MX a.test TXT b.test", ["a.test. TXT IN @s:853", "b.test. MX IN @s:853"]),
    ("@s -q a -q b", ["a. A IN @s:853", "b. A IN @s:853"]),
    (
        "@s +short a.test b.test +noshort c.test",
        ["a.test. A IN @s:853 short=True", "b.test. A IN @s:853", "c.test. A IN @s:853 short=True"],
    ),
    ("@s a.test +short b.test", ["a.test. A IN @s:853 short=True", "b.test. A IN @s:853"]),
    ("@s +nottlid a.test b.test +ttlid", ["a.test. A IN @s:853 ttl=False", "b.test. A IN @s:853"]),
    ("@s +dnssec a.test b.test +nodnssec", ["a.test. A IN @s:853 dnssec=True", "b.test. A IN @s:853"]),
    ("@s a.test -p 8853 b.test", ["a.test. A IN @s:8853", "b.test. A IN @s:853"]),
    ("@s -p 8853 a.test b.test -p 853", ["a.test. A IN @s:8853", "b.test. A IN @s:853"]),
    ("@s a.test +timeout=1 b.test", ["a.test. A IN @s:853 timeout=1.0", "b.test. A IN @s:853"]),
    ("a.test @s b.test MX @t", ["a.test. A IN @s:853", "b.test. MX IN @t:853"]),
    ("@s a.test b.test @t", ["a.test. A IN @s:853", "b.test. A IN @t:853"]),
    # Servers (Q7).
    ("@s @t a.test", ["a.test. A IN @s:853 @t:853"]),
    ("@s a.test @t @u", ["a.test. A IN @t:853 @u:853"]),
    ("@s:1 @t -p 2 a.test -p 1", ["a.test. A IN @s:1 @t:1"]),
    ("@192.0.2.1#8853 a.test", ["a.test. A IN @192.0.2.1:8853"]),
    ("@192.0.2.1@8853 a.test", ["a.test. A IN @192.0.2.1:8853"]),
    ("@[2001:db8::1]:8853 a.test", ["a.test. A IN @2001:db8::1:8853"]),
    ("@fe80::1%eth0 a.test", ["a.test. A IN @fe80::1%eth0:853"]),
    ("@192.0.2.1#dot.test a.test", ["a.test. A IN @192.0.2.1:853#dot.test"]),
    ("@192.0.2.1 -p8853 a.test", ["a.test. A IN @192.0.2.1:8853"]),
    ("@tls://192.0.2.1 a.test", ["a.test. A IN @192.0.2.1:853"]),
    ("@tls://192.0.2.1:8853#dot.test a.test", ["a.test. A IN @192.0.2.1:8853#dot.test"]),
    (f"'@tls://192.0.2.1?pin={PIN}' a.test", ["a.test. A IN @192.0.2.1:853?pin"]),
    (f"'@tls://192.0.2.1?pin={PIN}#dot.test' a.test", ["a.test. A IN @192.0.2.1:853#dot.test?pin"]),
    # Whom to trust.
    ("@s +tls-ca a.test", ["a.test. A IN @s:853 ca_file="]),
    ("@s +tls-ca=r.pem a.test", ["a.test. A IN @s:853 ca_file=r.pem"]),
    ("@s +tls-ca r.pem a.test", ["a.test. A IN @s:853 ca_file=r.pem"]),
    ("@s +tls-ca=r.pem a.test b.test +notls-ca", ["a.test. A IN @s:853 ca_file=r.pem", "b.test. A IN @s:853"]),
    ("@s +tls-host=dot.test a.test", ["a.test. A IN @s:853 tls_host=dot.test"]),
    ("@s --tls-hostname dot.test a.test", ["a.test. A IN @s:853 tls_host=dot.test"]),
    ("@s +tls-sni=s a.test", ["a.test. A IN @s:853 sni=s"]),
    ("@s +opportunistic +tls-sni=other a.test", ["a.test. A IN @s:853 opportunistic=True sni=other"]),
    ("@s +tls-certfile=c.pem a.test", ["a.test. A IN @s:853 certificate_file=c.pem"]),
    (
        "@s +tls-certfile=c.pem +tls-keyfile k.pem a.test",
        ["a.test. A IN @s:853 certificate_file=c.pem key_file=k.pem"],
    ),
    ("@s +tls1.2 a.test", ["a.test. A IN @s:853 tls12_only=True"]),
    ("@s -4 a.test", ["a.test. A IN @s:853 ipv4=True"]),
    ("@s -6 a.test", ["a.test. A IN @s:853 ipv6=True"]),
    ("@s -b 192.0.2.9 a.test", ["a.test. A IN @s:853 source=('192.0.2.9', 0)"]),
    ("@s -b192.0.2.9#1234 a.test", ["a.test. A IN @s:853 source=('192.0.2.9', 1234)"]),
    ("@s +time=2 +retry=0 a.test", ["a.test. A IN @s:853 timeout=2.0 ignored=('+retry',)"]),
    # The query (Q11).
    ("@s +norecurse a.test", ["a.test. A IN @s:853 rd=False"]),
    ("@s +nordflag a.test", ["a.test. A IN @s:853 rd=False"]),
    ("@s +cdflag +noadflag a.test", ["a.test. A IN @s:853 ad=False cd=True"]),
    ("@s +cd +noadf a.test", ["a.test. A IN @s:853 ad=False cd=True"]),
    ("@s +aaflag +tcflag +raflag +zflag a.test", ["a.test. A IN @s:853 aa=True tc=True ra=True z=True"]),
    ("@s +do a.test", ["a.test. A IN @s:853 dnssec=True"]),
    ("@s +nsid +expire +keepalive a.test", ["a.test. A IN @s:853 nsid=True expire=True keepalive=True"]),
    ("@s +subnet=192.0.2.77/24 a.test", ["a.test. A IN @s:853 subnet=b'\\x00\\x01\\x18\\x00\\xc0\\x00\\x02'"]),
    ("@s +subnet=0/0 a.test", ["a.test. A IN @s:853 subnet=b'\\x00\\x01\\x00\\x00'"]),
    ("@s +subnet=::/0 a.test", ["a.test. A IN @s:853 subnet=b'\\x00\\x02\\x00\\x00'"]),
    (
        "@s +subnet=0/0 a.test b.test +nosubnet",
        ["a.test. A IN @s:853 subnet=b'\\x00\\x01\\x00\\x00'", "b.test. A IN @s:853"],
    ),
    ("@s +cookie a.test", ["a.test. A IN @s:853 cookie=b''"]),
    ("@s +cookie=6162636465666768 a.test", ["a.test. A IN @s:853 cookie=b'abcdefgh'"]),
    ("@s +ednsopt=65001:6162 a.test", ["a.test. A IN @s:853 options=((65001, b'ab'),)"]),
    ("@s +ednsopt=nsid +ednsopt=10:61 a.test", ["a.test. A IN @s:853 options=((3, b''), (10, b'a'))"]),
    ("@s +ednsopt=3 +noednsopt a.test", ["a.test. A IN @s:853"]),
    ("@s +noedns a.test", ["a.test. A IN @s:853 edns=None"]),
    ("@s +edns=1 a.test", ["a.test. A IN @s:853 edns=1"]),
    ("@s +noedns +edns a.test", ["a.test. A IN @s:853"]),
    ("@s +ednsflags=128 a.test", ["a.test. A IN @s:853 ednsflags=128"]),
    ("@s +bufsize=4096 a.test", ["a.test. A IN @s:853 payload=4096"]),
    ("@s +padding=64 a.test", ["a.test. A IN @s:853 padding=64"]),
    ("@s --padding 64 a.test", ["a.test. A IN @s:853 padding=64"]),
    ("@s +alignment=64 a.test", ["a.test. A IN @s:853 padding=64"]),
    ("@s +padding a.test", ["a.test. A IN @s:853"]),
    ("@s +nopadding a.test", ["a.test. A IN @s:853 padding=None"]),
    ("@s +opcode=NOTIFY a.test SOA", ["a.test. SOA IN @s:853 opcode=4"]),
    ("@s +opcode=15 a.test", ["a.test. A IN @s:853 opcode=15"]),
    (
        "@s -y k:c2VjcmV0 a.test",
        ["a.test. A IN @s:853 key=Key(name='k.', algorithm='hmac-sha256.', is_public=True)"],
    ),
    (
        "@s -yhmac-sha512:k.test:c2VjcmV0 a.test",
        ["a.test. A IN @s:853 key=Key(name='k.test.', algorithm='hmac-sha512.', is_public=True)"],
    ),
    # What is shown (Q14).
    (
        "@s +noall +answer a.test",
        [
            "a.test. A IN @s:853 header=False comments=False question=False authority=False additional=False "
            "opt=False tsig=False stats=False"
        ],
    ),
    ("@s +noall +all a.test", ["a.test. A IN @s:853"]),
    ("@s +noquestion +nostats +nocomments a.test", ["a.test. A IN @s:853 comments=False question=False stats=False"]),
    ("@s +nottl +noclass a.test", ["a.test. A IN @s:853 rrclass=False ttl=False"]),
    ("@s +qr +multiline a.test", ["a.test. A IN @s:853 qr=True multiline=True"]),
    ("@s +ttlunits +nocrypto +generic a.test", ["a.test. A IN @s:853 ttlunits=True crypto=False generic=True"]),
    ("@s +unknownformat a.test", ["a.test. A IN @s:853 generic=True"]),
    ("@s +idn a.test b.test +noidn", ["a.test. A IN @s:853 idn=True", "b.test. A IN @s:853 idn=False"]),
    ("@s +json a.test", ["a.test. A IN @s:853 json=True"]),
    ("@s +jsonl a.test", ["a.test. A IN @s:853 jsonl=True"]),
    ("@s --color=always a.test", ["a.test. A IN @s:853 color=always"]),
    ("@s --color never a.test", ["a.test. A IN @s:853 color=never"]),
    ("@s --fail a.test", ["a.test. A IN @s:853 fail=True"]),
    ("@s -d a.test", ["a.test. A IN @s:853 debug=True"]),
    # Prefixes (Q5), and words that change nothing (Q10).
    ("@s +sho a.test", ["a.test. A IN @s:853 short=True"]),
    ("@s +dnss a.test", ["a.test. A IN @s:853 dnssec=True"]),
    ("@s +norec a.test", ["a.test. A IN @s:853 rd=False"]),
    ("@s --multi a.test", ["a.test. A IN @s:853 multiline=True"]),
    ("@s +nopadd a.test", ["a.test. A IN @s:853 padding=None"]),
    ("@s +tls-h=dot.test a.test", ["a.test. A IN @s:853 tls_host=dot.test"]),
    ("@s +tls +tcp +keepopen a.test", ["a.test. A IN @s:853 ignored=('+tls', '+tcp', '+keepopen')"]),
    ("@s +fail +nocmd -r a.test", ["a.test. A IN @s:853 ignored=('+fail', '+nocmd', '-r')"]),
]
"""Words after ``dot-proto query``, and what is asked."""


@pytest.mark.parametrize(("line", "queries"), LINES)
def test_line(line: str, queries: list[str]) -> None:
    """Q1 to Q11, Q14: no network, no file."""
    assert [shown(asked) for asked in parse_query(shlex.split(line))] == queries


def test_table_is_long_enough() -> None:
    assert len(LINES) >= 120


def test_defaults() -> None:
    """AD is asked for, as dig and kdig do (RFC 6840, section 5.7); everything is shown in full."""
    [asked] = parse_query(["@s", "a.test"])
    assert (asked.session, asked.message, asked.display) == (Session(), Message(), Display())
    assert (asked.message.rd, asked.message.ad, asked.message.padding) == (True, True, 128)


def _types_with_one_letter_wrong() -> list[str]:
    known = {kind.name for kind in dns.rdatatype.RdataType} | {kind.name for kind in dns.rdataclass.RdataClass}
    wrong = {f"{kind}Q" for kind in known} | {f"Q{kind[1:]}" for kind in known if len(kind) > 1}
    return sorted(one for one in wrong - known if "_" not in one and not one.startswith(("TYPE", "RESERVED", "QESER")))


@pytest.mark.parametrize("word", [*_types_with_one_letter_wrong(), "AAA", "XM", "TXTT", "tx", "htpps"])
def test_a_type_with_one_letter_wrong_is_no_name(word: str) -> None:
    """Q4: with the type that was meant, and the way to ask for such a name."""
    if word in ("INQ", "CHQ", "HSQ", "QN", "QH", "QS", "QONE", "NONEQ", "QYPE0"):
        return  # a class's name with a letter wrong; some are a type's too
    with pytest.raises(UsageError, match="did you mean") as caught:
        parse_query(["@s", "a.test", word])
    assert f"write '{word}.'" in str(caught.value)
    assert parse_query(["@s", "a.test", f"{word}."])[1].name == f"{word}."


# Prefixes.

PLUS_NAMES = [name[1:] for name in QUERY.names() if name.startswith("+")]


def _meanings(prefix: str) -> set[tuple[Option, bool]]:
    names = QUERY.names()
    exact = [(f"+{prefix}", False), (f"+{prefix.removeprefix('no')}", True)]
    for name, negated in exact:
        if name in names:
            return {(names[name], negated)}
    return {(names[f"+{name}"], False) for name in PLUS_NAMES if name.startswith(prefix)} | {
        (names[f"+{name}"], True) for name in PLUS_NAMES if f"no{name}".startswith(prefix)
    }


@pytest.mark.parametrize("name", PLUS_NAMES)
@pytest.mark.parametrize("negation", ["", "no"])
def test_every_prefix_of_every_option(name: str, negation: str) -> None:
    """Q5: a unique one is the option; any other lists what it could be."""
    for length in range(1, len(negation + name) + 1):
        prefix = f"{negation}{name}"[:length]
        if prefix in REFUSED:
            continue
        meanings = _meanings(prefix)
        if len(meanings) > 1:
            with pytest.raises(UsageError, match="is the beginning of several options: "):
                QUERY.parse([f"+{prefix}"])
            continue
        [(option, is_negated)] = meanings
        if option.read is not None and option.bare is REQUIRED and not is_negated:
            with pytest.raises(UsageError, match="expected one argument"):
                QUERY.parse([f"+{prefix}"])
            continue
        [word] = QUERY.parse([f"+{prefix}"])
        assert word.option is option
        assert "ignored" in option.sets or (word.is_negated or word.value is False) == is_negated


# Advice.

DIG = """
aaflag aaonly additional adflag all answer authority badcookie besteffort bufsize=1232 cdflag class cmd comments
cookie crypto defname dns64prefix dnssec do domain=x edns=0 ednsflags=1 ednsnegotiation ednsopt=3 expandaaaa expire fail
header-only https https-get http-plain identify idn idnin idnout ignore keepalive keepopen mapped multiline ndots=1 nsid
nssearch onesoa opcode=0 padding=128 proxy qid=1 qr question raflag rdflag recurse retry=1 rrcomments search short
showallmessages showbadcookie showbadvers showsearch split=4 stats subnet=0/0 svcparamkeycompat tcflag tcp timeout=1 tls
tls-ca tls-certfile=c.pem tls-hostname=h trace tries=1 ttlid ttlunits unknownformat vc yaml zflag zoneversion
"""
"Options of dig 9.20, by its manual page."


@pytest.mark.parametrize("word", DIG.split())
def test_options_of_dig(word: str) -> None:
    """Q6: each is taken, or refused with a reason, or with advice that is no option of the opposite sense."""
    for sign in ("", "no"):
        name = word.partition("=")[0] if sign else word
        try:
            parse_query(["@s", f"+{sign}{name}", "a.test"])
        except UsageError as error:
            text = str(error)
            assert "\n" not in text
            if "did you mean" in text:
                assert text.rpartition("did you mean +")[2].startswith("no") == bool(sign)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_options_say_why(name: str) -> None:
    """Q10: nothing is passed over in silence that would change what is sent, or to whom."""
    word = name if name.startswith("-") else f"+{name}"
    with pytest.raises(UsageError) as caught:
        parse_query(["@s", word, "a.test"])
    assert str(caught.value) == f"{word}: {REFUSED[name]}"


@pytest.mark.parametrize("name", IGNORED)
def test_ignored_options_change_nothing_that_is_sent(name: str) -> None:
    """Q10: with a value or without, negated or not; ``-d`` names them."""
    plain = parse_query(["@s", "a.test"])[0]
    for word in (f"+{name}", f"+no{name}", f"--{name}", f"+{name}=3"):
        if word[1:] in REFUSED or word == "--fail":
            continue
        [asked] = parse_query(["@s", word, "a.test"])
        assert asked._replace(display=Display()) == plain
        assert len(asked.display.ignored) == 1


# Servers.


@pytest.mark.parametrize(
    ("word", "server"),
    [
        ("h", ("h", None, None, 0)),
        ("h:853", ("h", 853, None, 0)),
        ("h#8853", ("h", 8853, None, 0)),
        ("h@8853", ("h", 8853, None, 0)),
        ("h@8853(TCP)", ("h", 8853, None, 0)),
        ("h#n.test", ("h", None, "n.test", 0)),
        ("h:853#n.test", ("h", 853, "n.test", 0)),
        ("[2001:db8::1]", ("2001:db8::1", None, None, 0)),
        ("[2001:db8::1]:853", ("2001:db8::1", 853, None, 0)),
        ("2001:db8::1@853", ("2001:db8::1", 853, None, 0)),
        ("fe80::1%eth0", ("fe80::1%eth0", None, None, 0)),
        ("fe80::1%eth0#853", ("fe80::1%eth0", 853, None, 0)),
        ("tls://h", ("h", None, None, 0)),
        ("TLS://h/", ("h", None, None, 0)),
        ("tls://h:8853", ("h", 8853, None, 0)),
        ("tls://[2001:db8::1]:8853", ("2001:db8::1", 8853, None, 0)),
        ("tls://h#n.test", ("h", None, "n.test", 0)),
        (f"tls://h?pin={PIN}", ("h", None, None, 1)),
        (f"tls://h?pin=sha256//{PIN}", ("h", None, None, 1)),
        (f"tls://h?pin={PIN}&pin={PIN.replace('+', '%2B').replace('=', '%3D')}", ("h", None, None, 2)),
        (f"tls://h:8853?pin={PIN}#n.test", ("h", 8853, "n.test", 1)),
    ],
)
def test_server(word: str, server: tuple[str, int | None, str | None, int]) -> None:
    """Q7: ``+`` in a pin is no space, and percent-encoding is read."""
    found = parse_server(word)
    assert (found.host, found.port, found.name, len(found.pins)) == server
    assert all(str(pin) == PIN for pin in found.pins)


def test_pins_of_a_url_stand_alone_or_beside_a_name() -> None:
    alone = parse_query([f"@tls://h?pin={PIN}", "a.test"])[0]
    named = parse_query([f"@tls://h?pin={PIN}#n.test", "a.test"])[0]
    policies = [asked.session.policy(asked.servers[0]) for asked in (alone, named)]
    assert [(policy.name, len(policy.pins)) for policy in policies] == [(None, 1), ("n.test", 1)]


# Files of words.


def test_batch_file(tmp_path: Path) -> None:
    """Q8: comments and empty lines are passed over; the line's own names are asked first."""
    file = tmp_path / "names"
    file.write_text("# a comment\n; another\n\n  \na.test\nb.test MX +noshort\n-x 192.0.2.1\nc.test A AAAA @t\n")
    queries = parse_query(["@s", "+short", "-f", str(file), "first.test"])
    assert [shown(asked) for asked in queries] == [
        "first.test. A IN @s:853 short=True",
        "a.test. A IN @s:853 short=True",
        "b.test. MX IN @s:853",
        "1.2.0.192.in-addr.arpa. PTR IN @s:853 short=True",
        "c.test. A IN @t:853 short=True",
        "c.test. AAAA IN @t:853 short=True",
    ]


def test_batch_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a.test\nb.test\n"))
    assert [asked.name for asked in parse_query(["@s", "-f", "-"])] == ["a.test.", "b.test."]


@pytest.mark.parametrize(
    ("line", "says"),
    [("a.test +sohrt", "did you mean +short?"), ("+short", "no name to ask for"), ("-f other a.test", "-f names")],
)
def test_all_lines_are_read_before_any_is_asked(line: str, says: str, tmp_path: Path) -> None:
    """Q8: with the line's number."""
    file = tmp_path / "names"
    file.write_text(f"a.test\n\n{line}\n")
    with pytest.raises(UsageError, match="line 3: ") as caught:
        parse_query(["@s", "-f", str(file)])
    assert says in str(caught.value)


def test_batch_file_that_cannot_be_read() -> None:
    """Q8: dig's own code."""
    with pytest.raises(BatchFileError, match="-f /nowhere: No such file") as caught:
        parse_query(["@s", "-f", "/nowhere"])
    assert caught.value.code == ExitCode.BATCH_FILE == 8


def test_no_file_is_read_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Q9: neither ``.digrc`` nor ``.kdigrc``."""
    (tmp_path / ".digrc").write_text("+short\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert not parse_query(["@s", "a.test"])[0].display.short


@pytest.mark.parametrize("by", ["variable", "option"])
def test_words_to_be_read_first(by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Q9: a file that is named; what stands on the command line comes after it."""
    file = tmp_path / "words"
    file.write_text("# as I like it\n@s +short\n+dnssec\n")
    words = ["+nodnssec", "a.test"]
    if by == "variable":
        monkeypatch.setenv("DOT_PROTO_QUERY", str(file))
    else:
        words = ["--config", str(file), *words]
    assert [shown(asked) for asked in parse_query(words)] == ["a.test. A IN @s:853 short=True"]
    file.write_text("@s a.test")
    with pytest.raises(UsageError, match="and no names"):
        parse_query(words)


def test_keys_of_files(tmp_path: Path) -> None:
    """Q12: BIND's form, and that of ``-y``; the secret is not shown by accident."""
    file = tmp_path / "key"
    forms = ['key "k.test" {\n\talgorithm hmac-sha512;\n\tsecret "c2VjcmV0";\n};\n', "hmac-sha512:k.test:c2VjcmV0\n"]
    for form in forms:
        file.write_text(form)
        key = parse_query(["@s", "-k", str(file), "a.test"])[0].message.key
        assert key is not None
        assert (key.name, key.algorithm, key.secret, key.is_public) == ("k.test.", "hmac-sha512.", b"secret", False)
        assert "secret" not in repr(key)


@pytest.mark.parametrize("words", ["query -V", "query @s a.test --version", "-V"])
def test_version(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 0
    assert capsys.readouterr().out.startswith("dot-proto ")


def test_every_option_sets_what_there_is() -> None:
    """A table's words are checked by nobody else: settings, readers, and no name twice."""
    settings = {name for kind in (Session, Message, Display) for name in kind._fields}
    others = {"name", "rdtype", "rdclass", "reverse", "batch", "config", "port", "version", "help"}
    assert {name for option in QUERY.all() for name in option.sets} - others <= settings
    assert sum(len(kind._fields) for kind in (Session, Message, Display)) == len(settings)
    for table in TABLES.values():
        names = [name for option in table.all() for name in option.names]
        assert len(names) == len(set(names))
        for option in table.all():
            assert option.read is None or callable(getattr(values, option.read))
            assert option.takes is None or callable(getattr(values, option.takes))


def test_a_server_without_a_port_has_its_own() -> None:
    assert parse_query(["@s", "a.test"])[0].servers == (Server("s", 853, None),)
