"""Wrong command lines, each with the exact words that it gets: what was wrong, where, and what to do."""

from __future__ import annotations

import pytest

from cli.conftest import Run
from dot_io.cli.exit_codes import ExitCode

NO_SERVER = (
    "no server named: add @SERVER, such as @1.1.1.1 or @9.9.9.9#dns.quad9.net "
    "(there is no default, since resolv.conf names resolvers that speak cleartext)"
)
NO_ADDRESS = (
    " ends in a number but is no IP address: "
    "write an IPv4 address as four decimal numbers from 0 to 255, without leading zeros"
)
LONG = "a" * 64

MISTAKES = [
    ("nonsense", "'nonsense' is no command; choose one of query, pin, proxy, demo"),
    ("querry", "'querry' is no command; did you mean 'query'?"),
    ("pni", "'pni' is no command; did you mean 'pin'?"),
    ("--querry", "'--querry' is no command; did you mean 'query'?"),
    ("-x", "'-x' is no command; choose one of query, pin, proxy, demo"),
    (
        "query",
        NO_SERVER,
    ),
    (
        "query example.com",
        NO_SERVER,
    ),
    ("query @ example.com", "@: no host before the port or the name; write @HOST:PORT#NAME"),
    ("query @:853 example.com", "@:853: no host before the port or the name; write @HOST:PORT#NAME"),
    ("query @#dot.example example.com", "@#dot.example: no host before the port or the name; write @HOST:PORT#NAME"),
    ("query @192.0.2.1# example.com", "@192.0.2.1#: no name after '#'; write the name in the server's certificate"),
    ("query @192.0.2.1#a..b example.com", "@192.0.2.1 with these options: a label has 1 to 63 octets: '' in 'a..b'"),
    ("query @192.0.2.1@ example.com", "'' is no port: give a number from 1 to 65535"),
    ("query @192.0.2.1@domain example.com", "'domain' is no port: give a number from 1 to 65535"),
    (
        "query @192.0.2.1@53 example.com",
        "port 53 must not carry TLS (RFC 7858, section 3.1): leave the port out to use 853",
    ),
    ("query @192.0.2.1:853@854 example.com", "two different values for the port: 853 and 854; say it once"),
    (
        "query @192.0.2.1:53 example.com",
        "port 53 must not carry TLS (RFC 7858, section 3.1): leave the port out to use 853",
    ),
    ("query @192.0.2.1:http example.com", "'http' is no port: give a number from 1 to 65535"),
    ("query @192.0.2.1:0 example.com", "'0' is no port: give a number from 1 to 65535"),
    ("query @192.0.2.1:99999 example.com", "'99999' is no port: give a number from 1 to 65535"),
    (
        "query @192.0.2.1/24 example.com",
        "@192.0.2.1/24: '1/24' in '192.0.2.1/24' is no label of a host name: "
        "letters, digits, hyphens and underscores alone",
    ),
    ("query @[::1 example.com", "@[::1: write an address in brackets as [ADDRESS] or [ADDRESS]:PORT"),
    ("query @[::1]853 example.com", "@[::1]853: write an address in brackets as [ADDRESS] or [ADDRESS]:PORT"),
    (
        "query @https://dns.example/dns-query example.com",
        "@https://dns.example/dns-query: write @HOST or @HOST:PORT, without https:// and without a path",
    ),
    (
        "query @dot_.exam!ple example.com",
        "@dot_.exam!ple: 'exam!ple' in 'dot_.exam!ple' is no label of a host name: "
        "letters, digits, hyphens and underscores alone",
    ),
    (
        "query @192.0.2.1 example.com AAAAA",
        "'AAAAA' is no type or class; did you mean AAAA? To ask for the name, write 'AAAAA.'",
    ),
    (
        "query @192.0.2.1 example.com HTPS",
        "'HTPS' is no type or class; did you mean HTTPS? To ask for the name, write 'HTPS.'",
    ),
    (
        "query @192.0.2.1 example.com TYPE70000",
        "'TYPE70000' is no type or class: their numbers end at 65535 (RFC 3597, section 5)",
    ),
    (
        "query @192.0.2.1 example.com CLASS70000",
        "'CLASS70000' is no type or class: their numbers end at 65535 (RFC 3597, section 5)",
    ),
    ("query @192.0.2.1 example.com IN CH", "more than one class for 'example.com': IN CH"),
    ("query @192.0.2.1 example.com AXFR", "a zone transfer takes many messages; this command asks for one"),
    (
        "query @192.0.2.1 example.com A example.com IXFR",
        "a zone transfer takes many messages; this command asks for one",
    ),
    ("query @192.0.2.1 a..b", "'a..b' is no domain name: A DNS label is empty."),
    ("query @192.0.2.1 ..", "'..' is no domain name: A DNS label is empty."),
    ("query @192.0.2.1 ''", "an empty word is no domain name; the root's is '.'"),
    (
        f"query @192.0.2.1 {LONG}.example",
        f"'{LONG}.example' is no domain name: A DNS label is > 63 octets long.",
    ),
    ("query @192.0.2.1 -x 192.0.2", "-x 192.0.2: no IPv4 or IPv6 address"),
    ("query @192.0.2.1 -x example.com", "-x example.com: no IPv4 or IPv6 address"),
    ("query @192.0.2.1 -x", "-x: expected one argument"),
    ("query @192.0.2.1 -p example.com", "'example.com' is no port: give a number from 1 to 65535"),
    (
        "query @192.0.2.1 -p 53 example.com",
        "port 53 must not carry TLS (RFC 7858, section 3.1): leave the port out to use 853",
    ),
    ("query @192.0.2.1 -p 65536 example.com", "'65536' is no port: give a number from 1 to 65535"),
    ("query @192.0.2.1 -p -1 example.com", "'-1' is no port: give a number from 1 to 65535"),
    ("query @192.0.2.1:8853 -p 853 example.com", "two different values for the port: 8853 and 853; say it once"),
    ("query @192.0.2.1 +tsl-ca example.com", "+tsl-ca is no option; did you mean +tls-ca?"),
    ("query @192.0.2.1 --shrot example.com", "+shrot is no option; did you mean +short?"),
    ("query @192.0.2.1 +zzzzzzzz example.com", "+zzzzzzzz is no option; 'dot-proto query --help' lists them"),
    ("query @192.0.2.1 -z example.com", "-z is no option; 'dot-proto query --help' lists them"),
    ("query @192.0.2.1 + example.com", "+ is no option; 'dot-proto query --help' lists them"),
    ("query @192.0.2.1 +short=1 example.com", "+short takes no value, and is given '1'"),
    ("query @192.0.2.1 +tls-pin", "+tls-pin: expected one argument"),
    (
        "query @192.0.2.1#a.example +tls-host=b.example example.com",
        "two different values for the authentication name: a.example and b.example; say it once",
    ),
    (
        "query @192.0.2.1 +tls-host= example.com",
        "+tls-host= without a name; write the name in the server's certificate",
    ),
    (
        "query @192.0.2.1 +tls-host=a..b example.com",
        "@192.0.2.1 with these options: a label has 1 to 63 octets: '' in 'a..b'",
    ),
    ("query @192.0.2.1 +tls-ca=/nowhere.pem example.com", "+tls-ca=/nowhere.pem: No such file or directory"),
    ("query @192.0.2.1 +tls-ca /nowhere.pem example.com", "+tls-ca=/nowhere.pem: No such file or directory"),
    ("query @192.0.2.1 +tls-ca=/ example.com", "+tls-ca=/: Is a directory"),
    (
        "query @192.0.2.1 +tls-ca=/dev/null example.com",
        "+tls-ca=/dev/null: neither DER, which begins with 0x30, nor PEM, which has a line -----BEGIN ...-----",
    ),
    (
        "query @192.0.2.1 +opportunistic +tls-ca example.com",
        "+opportunistic asks whoever answers, +tls-ca only who is trusted: choose one",
    ),
    ("query @192.0.2.1 +timeout=0 example.com", "+timeout=0: give seconds, more than 0, such as +timeout=2.5"),
    ("query @192.0.2.1 +timeout=soon example.com", "+timeout=soon: give seconds, more than 0, such as +timeout=2.5"),
    ("query @192.0.2.1 +timeout=nan example.com", "+timeout=nan: give seconds, more than 0, such as +timeout=2.5"),
    ("query @192.0.2.1 +timeout example.com", "+timeout=example.com: give seconds, more than 0, such as +timeout=2.5"),
    ("query @192.0.2.1 +padding=0 example.com", "+padding=0: give octets from 1 to 65535, or +nopadding"),
    ("query @192.0.2.1 +padding=x example.com", "+padding=x: give octets from 1 to 65535, or +nopadding"),
    ("query @192.0.2.1 +padding=65536 example.com", "+padding=65536: give octets from 1 to 65535, or +nopadding"),
    (
        "query @127.0.0.010 example.com",
        f"@127.0.0.010: '127.0.0.010'{NO_ADDRESS}",
    ),
    (
        "query @127.1 example.com",
        f"@127.1: '127.1'{NO_ADDRESS}",
    ),
    ("query @ß..x example.com", "'ß..x' is no domain name: A DNS label is empty."),
    ("query @192.0.2.1 a.test +sh=1", "+sh takes no value, and is given '1'"),
    ("query @192.0.2.1 +tls-c a.test", "+tls-c is the beginning of several options: +tls-ca, +tls-certfile"),
    (
        "query @192.0.2.1 +nos a.test",
        "+nos is the beginning of several options: +nosubnet, +noshort, +nostats, +nosearch",
    ),
    ("query @192.0.2.1 +nosohrt a.test", "+nosohrt is no option; did you mean +noshort?"),
    ("query @192.0.2.1 +noshort=1 a.test", "+noshort takes no value, and is given '1'"),
    (
        "query @192.0.2.1 +notls a.test",
        "+notls: this command speaks DNS over TLS only; nothing is ever sent in cleartext",
    ),
    ("query @192.0.2.1 +https a.test", "+https: this command speaks DNS over TLS only"),
    ("query @192.0.2.1 +quic a.test", "+quic: this command speaks DNS over TLS only"),
    (
        "query @192.0.2.1 +trace a.test",
        "+trace: this command asks the servers that are named, and no others; servers of the root speak no TLS",
    ),
    ("query @192.0.2.1 +yaml a.test", "+yaml: there is no YAML here; +json is RFC 8427"),
    (
        "query @192.0.2.1 +qid=1 a.test",
        "+qid: the connection draws the ids, since they tell the answers apart (RFC 7766, section 6.2.1)",
    ),
    ("query @192.0.2.1 -u a.test", "-u: this command speaks DNS over TLS only"),
    ("query @192.0.2.1 -d4 a.test", "-d takes no value, and is given '4'"),
    ("query @192.0.2.1 -t", "-t: expected one argument"),
    ("query @192.0.2.1 -t BOGUS a.test", "-t BOGUS: no type of a record; write one as AAAA or TYPE28"),
    (
        "query @192.0.2.1 -t AAA a.test",
        "'AAA' is no type or class; did you mean AAAA? To ask for the name, write 'AAA.'",
    ),
    ("query @192.0.2.1 -t AXFR a.test", "a zone transfer takes many messages; this command asks for one"),
    ("query @192.0.2.1 IXFR=1 a.test", "a zone transfer takes many messages; this command asks for one"),
    ("query @192.0.2.1 -t ixfr=1 a.test", "a zone transfer takes many messages; this command asks for one"),
    ("query @192.0.2.1 -c XX a.test", "-c XX: no class; write one as IN or CLASS1"),
    ("query @192.0.2.1 -q ''", "an empty word is no domain name; the root's is '.'"),
    ("query @192.0.2.1 a.test CH HS", "more than one class for 'a.test': CH HS"),
    ("query @192.0.2.1 -4 -6 a.test", "-4 and -6: choose one"),
    ("query @192.0.2.1 -6 a.test", "-6: 192.0.2.1 is an IPv4 address"),
    ("query @2001:db8::1 -4 a.test", "-4: 2001:db8::1 is an IPv6 address"),
    ("query @192.0.2.1 -b ::1 a.test", "-b ::1 and @192.0.2.1 are of different families"),
    ("query @192.0.2.1 -b here a.test", "-b here: no address of this machine; write ADDR or ADDR#PORT"),
    ("query @192.0.2.1 -b 127.0.0.1#x a.test", "-b 127.0.0.1#x: 'x' is no port: give a number from 1 to 65535"),
    ("query @192.0.2.1 -4 -b ::1 a.test", "-4: ::1 is an IPv6 address"),
    ("query @192.0.2.1 -y key a.test", "-y: write [ALGORITHM:]NAME:BASE64, such as hmac-sha256:key.example:c2VjcmV0"),
    ("query @192.0.2.1 -y key:*** a.test", "-y: the secret of 'key' is not Base64"),
    (
        "query @192.0.2.1 -y md5:key:AAAA a.test",
        "-y: 'md5' is no algorithm of TSIG; one of hmac-md5, hmac-sha1, hmac-sha224, hmac-sha256, "
        "hmac-sha384, hmac-sha512",
    ),
    ("query @192.0.2.1 -y key: a.test", "-y: the secret of 'key' is empty"),
    ("query @192.0.2.1 -k /nowhere.key a.test", "-k /nowhere.key: No such file or directory"),
    (
        "query @192.0.2.1 -k /dev/null a.test",
        '-k /dev/null: no key; BIND writes key "NAME" { algorithm hmac-sha256; secret "BASE64"; };',
    ),
    (
        "query @192.0.2.1 +noedns +dnssec a.test",
        "+noedns leaves no place for +dnssec, which is said by EDNS (RFC 6891): choose one",
    ),
    (
        "query @192.0.2.1 +noedns +nsid a.test",
        "+noedns leaves no place for +nsid, which is said by EDNS (RFC 6891): choose one",
    ),
    ("query @192.0.2.1 +edns=256 a.test", "+edns=256: give a number from 0 to 255"),
    ("query @192.0.2.1 +bufsize=x a.test", "+bufsize=x: give a number from 0 to 65535"),
    (
        "query @192.0.2.1 +subnet=192.0.2.0/33 a.test",
        "+subnet=192.0.2.0/33: give ADDRESS/BITS, or 0/0: '192.0.2.0/33' does not appear to be an IPv4 or IPv6 network",
    ),
    (
        "query @192.0.2.1 +subnet=here a.test",
        "+subnet=here: give ADDRESS/BITS, or 0/0: 'here' does not appear to be an IPv4 or IPv6 network",
    ),
    ("query @192.0.2.1 +cookie=xyz a.test", "+cookie: 'xyz' is not hexadecimal; write two digits for each octet"),
    ("query @192.0.2.1 +cookie=00 a.test", "+cookie=00: a cookie has 8 octets, or 16 to 40 (RFC 7873, section 4)"),
    (
        "query @192.0.2.1 +ednsopt=bogus a.test",
        "+ednsopt=bogus: 'bogus' is no EDNS option; give a number from 0 to 65535, or a name such as NSID, "
        "ECS or COOKIE",
    ),
    ("query @192.0.2.1 +ednsopt=3:xx a.test", "+ednsopt: 'xx' is not hexadecimal; write two digits for each octet"),
    (
        "query @192.0.2.1 +opcode=BOGUS a.test",
        "+opcode=BOGUS: no opcode; give a number from 0 to 15, or one of IQUERY, NOTIFY, QUERY, STATUS, UPDATE",
    ),
    ("query @192.0.2.1 +alignment=0 a.test", "+alignment=0: give octets from 1 to 65535, or +nopadding"),
    ("query @192.0.2.1 --color=blue a.test", "--color=blue: give always, never or auto"),
    ("query @192.0.2.1 --colr=always a.test", "+colr is no option; did you mean --color?"),
    (
        "query @192.0.2.1 +tls-keyfile=k.pem a.test",
        "+tls-keyfile without +tls-certfile: a key is shown with its certificate",
    ),
    (
        "query @192.0.2.1 +opportunistic +tls-certfile=c.pem a.test",
        "+tls-certfile shows our certificate only to a server whose chain is validated: give its name, "
        "+tls-host=NAME, without +opportunistic",
    ),
    ("query @192.0.2.1 +tls-certfile=/nowhere.pem a.test", "+tls-certfile=/nowhere.pem: there is no such file"),
    (
        "query @192.0.2.1 +tls-certfile=/dev/null a.test",
        "+tls-certfile '/dev/null': OpenSSL cannot use it: PEM lib",
    ),
    (
        "query @192.0.2.1 +tls-sni=other a.test",
        "+tls-sni: Python's ssl sends the name that it checks (+tls-host); another one goes with +opportunistic",
    ),
    (
        "query @192.0.2.1 +tls-ca=/dev/null -d +json a.test",
        "+tls-ca=/dev/null: neither DER, which begins with 0x30, nor PEM, which has a line -----BEGIN ...-----",
    ),
    ("query @192.0.2.1 a.test -f /dev/null", "-f stands before the first name, if there is any"),
    ("query @192.0.2.1 --config /nowhere a.test", "--config /nowhere: No such file or directory"),
    (
        "query a.test @192.0.2.1 b.test",
        "no server named for 'b.test': put @SERVER before the first name, where it is for all",
    ),
    ("query '@tls://h#n?pin=AAAA' a.test", "@tls://h#n?pin=AAAA: the pins come before the name: @tls://h?pin=AAAA#n"),
    (
        "query '@tls://h?key=AAAA' a.test",
        "@tls://h?key=AAAA: 'key' is no part of a server's URL: tls://HOST[:PORT][?pin=BASE64][#NAME]",
    ),
    (
        "query '@tls://h?pin=AAAA' a.test",
        "pin=AAAA: 'AAAA'... is no pin: its length is 3 octets, while a SHA-256 digest has 32; a right pin "
        "is made by: openssl x509 -in server.pem -noout -pubkey | openssl pkey -pubin -outform der | openssl "
        "dgst -sha256 -binary | openssl base64",
    ),
    ("query @tls://h/path a.test", "@tls://h/path: a server has no path: write @tls://h"),
    ("query @192.0.2.1 -n a.test", "-n: ip6.int is gone (RFC 4159): -x asks below ip6.arpa"),
    ("query @192.0.2.1 a.test ns1", "'ns1' is no type or class; did you mean NS? To ask for the name, write 'ns1.'"),
    ("query @192.0.2.1 --fial a.test", "+fial is no option; did you mean --fail?"),
    (
        "query @192.0.2.1 +ednsopt=12:00 a.test",
        "+ednsopt: the query is malformed: a second Padding option (RFC 7830, section 3)",
    ),
    (
        "query @192.0.2.1 a.test b.test +ednsopt=11:0001",
        "+ednsopt: the query is malformed: a client's keepalive option must be empty (RFC 7828, section 3.2.1)",
    ),
    ("pin", "name one server or file, not 0: dot-proto pin SERVER|FILE"),
    ("pin a b", "name one server or file, not 2: dot-proto pin SERVER|FILE"),
    ("pin /nowhere/x.pem", "/nowhere/x.pem: no such file"),
    ("pin nowhere.PEM", "nowhere.PEM: no such file; a server may be written @nowhere.PEM"),
    ("pin /dev/null", "/dev/null: neither DER, which begins with 0x30, nor PEM, which has a line -----BEGIN ...-----"),
    ("pin @192.0.2.1:53", "port 53 must not carry TLS (RFC 7858, section 3.1): leave the port out to use 853"),
    ("pin 192.0.2.1@x", "'x' is no port: give a number from 1 to 65535"),
    ("pin -p 0 192.0.2.1", "'0' is no port: give a number from 1 to 65535"),
    ("pin +tls-host=a..b 192.0.2.1", "a label has 1 to 63 octets: '' in 'a..b'"),
    ("pin +tls-ca 192.0.2.1", "+tls-ca is no option; 'dot-proto pin --help' lists them"),
    ("pin +timeout=-1 192.0.2.1", "+timeout=-1: give seconds, more than 0, such as +timeout=2.5"),
    ("demo now", "'now': dot-proto demo takes no words"),
    ("demo +x", "+x is no option; 'dot-proto demo --help' lists them"),
]
"Command line after ``dot-proto``, and the error."


@pytest.mark.parametrize(("line", "error"), MISTAKES)
def test_mistake_is_told_in_a_line(line: str, error: str, run: Run) -> None:
    """FR-47: the advice is right or there is none; nothing on stdout, no traceback, no more than two lines."""
    assert run(line) == (ExitCode.USAGE, "", f"dot-proto: {error}\n")


def test_table_is_long_enough() -> None:
    assert len(MISTAKES) >= 100


@pytest.mark.parametrize("pin", ["abc", "", "yioEpqeR4WtDwE9YxNVnCEkTxIjx6EEIwFSQW+lJsb", "*" * 44])
def test_wrong_pin_comes_with_the_way_to_a_right_one(pin: str, run: Run) -> None:
    code, out, err = run(f"query @192.0.2.1 '+tls-pin={pin}' example.com")
    assert (code, out, err.count("\n")) == (ExitCode.USAGE, "", 1)
    assert err.startswith(f"dot-proto: +tls-pin={pin}: ")
