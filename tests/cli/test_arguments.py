"""The grammar of ``dot-proto query`` and its siblings, and what a mistake is told."""

from __future__ import annotations

import importlib.metadata
import shlex
import sys
from types import ModuleType

import dns.name
import dns.rdataclass
import dns.rdatatype
import pytest

from dot_io.cli import main
from dot_io.cli._errors import UsageError
from dot_io.cli._failures import code_of_refusal
from dot_io.cli._options import Options
from dot_io.cli.arguments import DemoArguments, PinArguments, parse_demo, parse_pin
from dot_io.cli.exit_codes import ExitCode
from dot_io.cli.query_arguments import Display, Message, QueryArguments, Session
from dot_io.cli.query_line import parse_query
from dot_io.cli.servers import Server, parse_server
from dot_io.cli.tables import TABLES
from dot_proto.authentication import AuthenticationPolicy, Reason
from dot_proto.errors import LocalProtocolError
from dot_proto.pins import Pin
from dot_proto.query import make_query

PIN = "yioEpqeR4WtDwE9YxNVnCEkTxIjx6EEIwFSQW+lJsbc="
OTHER_PIN = "PZXN3lRAy+8tBKk2Ox6F7jIlnzr2Yzmwqc3JnyfXoCw="


def query(line: str) -> QueryArguments:
    [asked] = parse_query(shlex.split(line))
    return asked


def complaint(line: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse_query(shlex.split(line))
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_seed_command_line() -> None:
    """The command line of the provider's documentation, with ``dot-proto query`` for ``kdig``."""
    assert query("-d @1.1.1.1 +tls-ca +tls-host=cloudflare-dns.com  example.com") == QueryArguments(
        servers=(Server("1.1.1.1", 853, None),),
        name="example.com.",
        rdtype=dns.rdatatype.A,
        rdclass=dns.rdataclass.IN,
        session=Session(tls_host="cloudflare-dns.com", ca_file=""),
        message=Message(),
        display=Display(debug=True),
    )


@pytest.mark.parametrize(
    "line",
    [
        "@192.0.2.1 -p 8853 -d +tls-host=dot.example +timeout=2.5 +nopadding +dnssec +short example.com AAAA CH",
        "example.com CH AAAA +short +dnssec +nopadding +timeout=2.5 +tls-host=dot.example -d -p 8853 @192.0.2.1",
        "AAAA --short example.com --timeout=2.5 -p8853 CH --tls-host=dot.example @192.0.2.1 --dnssec --nopadding -d",
        "aaaa ch @192.0.2.1:8853#dot.example example.com. -d --time 2.5 +nopadding +dnssec +short",
    ],
)
def test_words_come_in_any_order_and_either_spelling(line: str) -> None:
    asked = query(line)
    [server] = asked.servers
    assert (server.host, server.port) == ("192.0.2.1", 8853)
    assert asked.session.authentication_name(server) == "dot.example"
    assert (asked.name, asked.rdtype, asked.rdclass) == ("example.com.", dns.rdatatype.AAAA, dns.rdataclass.CH)
    assert (asked.display.debug, asked.display.short) == (True, True)
    assert (asked.message.dnssec, asked.message.padding, asked.session.timeout) == (True, None, 2.5)


@pytest.mark.parametrize(
    ("word", "server"),
    [
        ("1.1.1.1", Server("1.1.1.1", None, None)),
        ("1.1.1.1:8853", Server("1.1.1.1", 8853, None)),
        ("1.1.1.1#dot.example", Server("1.1.1.1", None, "dot.example")),
        ("1.1.1.1:8853#dot.example", Server("1.1.1.1", 8853, "dot.example")),
        ("1.1.1.1#8853", Server("1.1.1.1", 8853, None)),
        ("::1", Server("::1", None, None)),
        ("::1#dot.example", Server("::1", None, "dot.example")),
        ("[::1]", Server("::1", None, None)),
        ("[::1]:8853", Server("::1", 8853, None)),
        ("[2001:db8::1]#dot.example", Server("2001:db8::1", None, "dot.example")),
        ("fe80::1%eth0", Server("fe80::1%eth0", None, None)),
        ("dot.example", Server("dot.example", None, None)),
        ("dot.example:8853", Server("dot.example", 8853, None)),
    ],
)
def test_server(word: str, server: Server) -> None:
    assert parse_server(word) == server


@pytest.mark.parametrize("word", ["", "#dot.example", ":853", "1.1.1.1#", "::g", "[::1", "[::1]853", "a:b", "::1:"])
def test_no_server(word: str) -> None:
    with pytest.raises(UsageError, match=r"@|port"):
        parse_server(word)


@pytest.mark.parametrize(
    ("words", "policy"),
    [
        ("@192.0.2.1", AuthenticationPolicy.strict("192.0.2.1")),
        ("@2001:db8::1", AuthenticationPolicy.strict("2001:db8::1")),
        ("@dot.example", AuthenticationPolicy.strict("dot.example")),
        ("@192.0.2.1#dot.example", AuthenticationPolicy.strict("dot.example")),
        ("@192.0.2.1 +tls-host=dot.example", AuthenticationPolicy.strict("dot.example")),
        ("@192.0.2.1 +tls-hostname=dot.example", AuthenticationPolicy.strict("dot.example")),
        (f"@192.0.2.1 +tls-pin={PIN}", AuthenticationPolicy.strict(pins=[Pin.parse(PIN)])),
        (
            f"@192.0.2.1 +tls-pin={PIN} +tls-pin={OTHER_PIN}",
            AuthenticationPolicy.strict(pins=[Pin.parse(PIN), Pin.parse(OTHER_PIN)]),
        ),
        (f"@192.0.2.1 +tls-ca +tls-pin={PIN}", AuthenticationPolicy.strict("192.0.2.1", pins=[Pin.parse(PIN)])),
        (f"@192.0.2.1#dot.example --tls-pin {PIN}", AuthenticationPolicy.strict("dot.example", pins=[Pin.parse(PIN)])),
        ("@dot.example +opportunistic", AuthenticationPolicy.opportunistic("dot.example")),
        (
            f"@192.0.2.1 +opportunistic +tls-pin={PIN}",
            AuthenticationPolicy.opportunistic("192.0.2.1", pins=[Pin.parse(PIN)]),
        ),
    ],
)
def test_policy(words: str, policy: AuthenticationPolicy) -> None:
    """Strict by the server's name or address; pins alone only where neither a name nor +tls-ca is given."""
    asked = query(f"{words} example.com")
    assert asked.session.policy(asked.servers[0]) == policy


@pytest.mark.parametrize(
    ("words", "validates"), [("", True), (f"+tls-pin={PIN}", False), ("+opportunistic", False), ("+tls-ca", True)]
)
def test_trust_store_is_needed_only_where_a_chain_is_validated(words: str, validates: bool) -> None:
    asked = query(f"@192.0.2.1 {words} example.com")
    assert asked.session.validates(asked.servers[0]) is validates


def test_ca_file() -> None:
    assert query("@192.0.2.1 +tls-ca=root.pem example.com").session.ca_file == "root.pem"


def test_optional_value_never_takes_the_name() -> None:
    """``+tls-ca`` and ``+padding`` stand before the name in real life."""
    asked = query("@192.0.2.1 +tls-ca example.com --padding")
    assert (asked.name, asked.session.ca_file, asked.message.padding) == ("example.com.", "", 128)


@pytest.mark.parametrize(
    ("words", "padding"), [("", 128), ("+padding", 128), ("+padding=468", 468), ("+padding=64 +nopadding", None)]
)
def test_padding(words: str, padding: int | None) -> None:
    assert query(f"@192.0.2.1 {words} example.com").message.padding == padding


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.10", "10.2.0.192.in-addr.arpa."),
        ("2001:db8::1", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa."),
    ],
)
def test_reverse(address: str, name: str) -> None:
    asked = query(f"@192.0.2.1 -x {address}")
    assert (asked.name, asked.rdtype) == (name, dns.rdatatype.PTR)


@pytest.mark.parametrize(
    ("words", "name", "rdtype", "rdclass"),
    [
        ("example.com", "example.com.", 1, 1),
        ("example.com TYPE65280", "example.com.", 65280, 1),
        ("example.com HTTPS", "example.com.", 65, 1),
        ("example.com CLASS3 TXT", "example.com.", 16, 3),
        (".  NS", ".", 2, 1),
        ("mx. MX", "mx.", 15, 1),
        ("mx a", "a.", 15, 1),
        ("bücher.example", "xn--bcher-kva.example.", 1, 1),
        ("_853._tcp.dot.example TLSA", "_853._tcp.dot.example.", 52, 1),
    ],
)
def test_question(words: str, name: str, rdtype: int, rdclass: int) -> None:
    """A word that is a type is one, once; a dot at its end makes it a name."""
    asked = query(f"@192.0.2.1 {words}")
    assert (asked.name, asked.rdtype, asked.rdclass) == (name, rdtype, rdclass)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("example.com", "add @SERVER"),
        ("example.com", "resolv.conf"),
        ("@192.0.2.1 example.com AAAAA", "did you mean AAAA?"),
        ("@192.0.2.1 example.com AXFR", "many messages"),
        ("@192.0.2.1 +tsl-ca example.com", "+tsl-ca is no option; did you mean +tls-ca?"),
        ("@192.0.2.1 --shrot example.com", "+shrot is no option; did you mean +short?"),
        ("@192.0.2.1 +zzzzzzzz example.com", "'dot-proto query --help' lists them"),
        ("@192.0.2.1 -p 53 example.com", "RFC 7858, section 3.1"),
        ("@192.0.2.1:53 example.com", "RFC 7858, section 3.1"),
        ("@192.0.2.1 -p 65536 example.com", "from 1 to 65535"),
        ("@192.0.2.1:8853 -p 853 example.com", "two different values for the port: 8853 and 853"),
        ("@192.0.2.1#a.example +tls-host=b.example example.com", "a.example and b.example"),
        ("@192.0.2.1#a..b example.com", "label"),
        ("@192.0.2.1 +tls-pin=abc example.com", "+tls-pin=abc: "),
        ("@192.0.2.1 +tls-pin", "+tls-pin: expected one argument"),
        ("@192.0.2.1 +opportunistic +tls-ca example.com", "choose one"),
        ("@192.0.2.1 +timeout=0 example.com", "+timeout=0: "),
        ("@192.0.2.1 +timeout=soon example.com", "+timeout=soon: "),
        ("@192.0.2.1 +timeout=inf example.com", "+timeout=inf: "),
        ("@192.0.2.1 +timeout=nan example.com", "+timeout=nan: "),
        ("@192.0.2.1 +padding=0 example.com", "+padding=0: "),
        ("@192.0.2.1 +padding=65536 example.com", "+padding=65536: "),
        ("@192.0.2.1 -x 192.0.2", "-x 192.0.2: "),
        ("@192.0.2.1 a..b", "'a..b' is no domain name"),
    ],
)
def test_mistake_is_told_in_one_line(line: str, part: str) -> None:
    """What was wrong, where, and what to do."""
    assert part in complaint(line)


@pytest.mark.parametrize(
    "words",
    [
        "--tls-ca root.pem example.com",
        "+tls-ca root.pem example.com",
        "example.com --tls-ca root.pem",
        "AAAA example.com +tls-ca root.pem -d",
        "--tls-ca=root.pem example.com",
    ],
)
def test_file_of_trust_anchors_as_the_help_screen_shows_it(words: str) -> None:
    """FR-47: ``--tls-ca FILE``."""
    asked = query(f"@192.0.2.1 {words}")
    assert (asked.session.ca_file, asked.name) == ("root.pem", "example.com.")


@pytest.mark.parametrize(
    ("words", "file"),
    [
        ("+tls-ca ./anchors example.com", "./anchors"),
        ("+tls-ca /etc/anchors AAAA example.com", "/etc/anchors"),
        ("+tls-host dot.example +tls-ca example.com", ""),
        ("+tls-ca example.com AAAA", ""),
        ("+tls-ca AAAA example.com", ""),
        ("+tls-ca -d example.com", ""),
        ("example.com +tls-ca", ""),
    ],
)
def test_plain_word_after_tls_ca_is_the_name(words: str, file: str | None) -> None:
    """FR-47, Q1: its value is optional, and there may be several names: only a path is a file."""
    asked = query(f"@192.0.2.1 {words}")
    assert (asked.session.ca_file, asked.name) == (file, "example.com.")


def test_padding_as_the_help_screen_shows_it() -> None:
    """FR-47: ``--padding N``."""
    assert query("@192.0.2.1 --padding 64 example.com").message.padding == 64
    assert query("@192.0.2.1 +padding example.com").message.padding == 128


@pytest.mark.parametrize(
    ("word", "server"),
    [
        ("127.0.0.1@853", Server("127.0.0.1", 853, None)),
        ("1.1.1.1@8853(TCP)", Server("1.1.1.1", 8853, None)),
        ("::1@853", Server("::1", 853, None)),
        ("[::1]@853", Server("::1", 853, None)),
        ("dot.example@853#dot.example", Server("dot.example", 853, "dot.example")),
        ("192.0.2.1:853@853", Server("192.0.2.1", 853, None)),
    ],
)
def test_server_as_output_shows_it(word: str, server: Server) -> None:
    """FR-47: ``HOST@PORT``, as kdig has it too."""
    assert parse_server(word) == server


@pytest.mark.parametrize(
    ("name", "labels"),
    [("faß.de", "xn--fa-hia.de."), ("βόλος.com", "xn--nxasmm1c.com."), ("BÜCHER.example", "xn--bcher-kva.example.")],
)
def test_names_are_those_of_idna_2008(name: str, labels: str) -> None:
    """FR-39: RFC 5891 in every installation; IDNA 2003 would ask ``fass.de``, which is somebody else's."""
    asked = query(f"@{name}#{name} +tls-host={name} {name}")
    assert (asked.name, asked.servers, asked.session.tls_host) == (
        labels,
        (Server(labels[:-1], 853, labels[:-1]),),
        labels[:-1],
    )


def test_without_idna_a_name_that_needs_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """FR-39: it is a dependency of the extra; where it is missing all the same, ASCII names go on."""
    monkeypatch.setattr(dns.name, "have_idna_2008", False)
    assert "pip install 'dot-proto[cli]'" in complaint("@192.0.2.1 faß.de")
    assert "pip install 'dot-proto[cli]'" in complaint("@faß.de example.com")
    assert query("@192.0.2.1 xn--fa-hia.de").name == "xn--fa-hia.de."


def test_extra_cli_has_all_that_the_command_imports() -> None:
    """FR-39: as the metadata say."""
    needed = importlib.metadata.requires("dot-proto") or []
    extra = {one.partition(">")[0] for one in needed if "extra == 'cli'" in one.replace('"', "'")}
    assert extra == {"dnspython", "cryptography", "idna"}


@pytest.mark.parametrize("name", ["faß.de", "bücher.example", "a\u3002b"])
def test_the_library_leaves_such_names_to_its_caller(name: str) -> None:
    """FR-39: no guess which of the two standards is meant."""
    with pytest.raises(LocalProtocolError, match="not ASCII: give the A-label form"):
        make_query(name)


def test_pin_arguments() -> None:
    assert parse_pin(["@192.0.2.1"]) == PinArguments("@192.0.2.1", None, None, 5.0)
    assert parse_pin(["-p", "8853", "+tls-host=dot.example", "+timeout=1", "dot.example"]) == PinArguments(
        "dot.example", 8853, "dot.example", 1.0
    )
    with pytest.raises(UsageError, match="one server or file, not 2"):
        parse_pin(["a", "b"])


def test_demo_arguments() -> None:
    assert parse_demo([]) == DemoArguments()
    with pytest.raises(UsageError, match="takes no words"):
        parse_demo(["now"])


@pytest.mark.parametrize("words", [["query", "--help"], ["pin", "-h"], ["demo", "--help"]])
def test_help_screen(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == ExitCode.ANSWER
    assert f"usage: dot-proto {words[0]}" in capsys.readouterr().out


@pytest.mark.parametrize("options", TABLES.values())
def test_help_names_every_option(options: Options) -> None:
    """All but those that change nothing."""
    screen = options.help_screen()
    names = [name for option in options.all() if option.sets != ("ignored",) for name in option.names]
    assert [name for name in names if name.replace("+", "--") not in screen] == []
    assert max(map(len, screen.splitlines())) <= 100


def test_main_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == ExitCode.ANSWER
    out = capsys.readouterr().out
    assert all(f"  {command} " in out for command in ("query", "pin", "demo"))
    assert main([]) == ExitCode.USAGE


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["querry"], "dot-proto: 'querry' is no command; did you mean 'query'?\n"),
        (["query", "@192.0.2.1", "-z"], "dot-proto: -z is no option; 'dot-proto query --help' lists them\n"),
    ],
)
def test_usage_error_is_one_line_and_code_1(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == ExitCode.USAGE == 1
    assert capsys.readouterr() == ("", text)


def test_missing_package_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the extra, one line says what to install."""
    for name in [name for name in sys.modules if name.startswith(("dns.", "dot_io.cli."))] + ["dns"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "dns", None)
    assert main(["query", "@192.0.2.1", "example.com"]) == ExitCode.USAGE
    assert capsys.readouterr().err.endswith("pip install 'dot-proto[cli]'\n")


def a_demo_that(outcome: int | BaseException) -> ModuleType:
    """A stand-in for the subcommand's module: the dispatch is under test, not the demonstration."""

    def run(arguments: object) -> int:
        assert arguments == DemoArguments()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    module = ModuleType("dot_io.cli.demo")
    module.run = run
    return module


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (0, 0),
        (ExitCode.PIN, 23),
        (UsageError("not so"), 1),
        (KeyboardInterrupt(), 130),
        (RuntimeError("a defect"), 10),
        (ModuleNotFoundError("not an extra of ours", name="surprise"), 10),
    ],
)
def test_outcome_of_a_subcommand(
    outcome: int | BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The subcommand's code is the process's; an exception becomes one line on stderr, never a traceback."""
    monkeypatch.setitem(sys.modules, "dot_io.cli.demo", a_demo_that(outcome))
    assert main(["demo"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == (1 if isinstance(outcome, Exception) else 0)
    assert "Traceback" not in err


def test_ctrl_c_while_a_class_is_made(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """FR-46: CPython 3.11 raises RuntimeError for whatever comes out of ``__set_name__``, as in an import."""
    error = RuntimeError("Error calling __set_name__")
    error.__cause__ = KeyboardInterrupt()
    monkeypatch.setitem(sys.modules, "dot_io.cli.demo", a_demo_that(error))
    assert main(["demo"]) == 130
    assert capsys.readouterr() == ("", "")


def test_exit_codes() -> None:
    """Stable numbers, since scripts test them."""
    assert {code.name: int(code) for code in ExitCode} == {
        "ANSWER": 0,
        "USAGE": 1,
        "BATCH_FILE": 8,
        "NO_REPLY": 9,
        "INTERNAL": 10,
        "HANDSHAKE": 20,
        "UNTRUSTED": 21,
        "NAME": 22,
        "PIN": 23,
        "PROTOCOL": 24,
        "FAILED_RCODE": 30,
    }


@pytest.mark.parametrize(
    ("reason", "code"),
    [(Reason.NAME, 22), (Reason.PIN, 23), (Reason.UNTRUSTED, 21), (Reason.EXPIRED, 21), (Reason.NO_CERTIFICATE, 20)],
)
def test_exit_code_of_a_refusal(reason: Reason, code: int) -> None:
    assert code_of_refusal(reason) == code
