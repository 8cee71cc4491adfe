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
    ("query @192.0.2.1", "no name to ask for"),
    ("query @192.0.2.1 NS", "no name to ask for; to ask for the name 'NS', end it with a dot"),
    ("query @192.0.2.1 A AAAA MX", "no word that can only be a name among A AAAA MX: end the name with a dot"),
    (
        "query @192.0.2.1 @192.0.2.2 example.com",
        "more than one server named: @192.0.2.1 @192.0.2.2; ask them one at a time",
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
        "query @tls://192.0.2.1 example.com",
        "@tls://192.0.2.1: write @HOST or @HOST:PORT, without tls:// and without a path",
    ),
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
        "query @192.0.2.1 example.com example.net",
        "more than one name to ask for: example.com example.net; to ask for several, give each its type: NAME TYPE ...",
    ),
    (
        "query @192.0.2.1 example.com A example.net",
        "more than one name to ask for: example.com example.net; to ask for several, give each its type: NAME TYPE ...",
    ),
    ("query @192.0.2.1 example.com AAAAA", "'AAAAA' is no type or class; did you mean AAAA?"),
    ("query @192.0.2.1 example.com HTPS", "'HTPS' is no type or class; did you mean HTTPS?"),
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
    (
        "query @192.0.2.1 -x 192.0.2.1 example.com",
        "-x asks for the name of an address, and 'example.com' is named too: choose one",
    ),
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
    assert len(MISTAKES) >= 60


@pytest.mark.parametrize("pin", ["abc", "", "yioEpqeR4WtDwE9YxNVnCEkTxIjx6EEIwFSQW+lJsb", "*" * 44])
def test_wrong_pin_comes_with_the_way_to_a_right_one(pin: str, run: Run) -> None:
    code, out, err = run(f"query @192.0.2.1 '+tls-pin={pin}' example.com")
    assert (code, out, err.count("\n")) == (ExitCode.USAGE, "", 1)
    assert err.startswith(f"dot-proto: +tls-pin={pin}: ")
