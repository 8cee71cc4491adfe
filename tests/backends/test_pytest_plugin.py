"""The plugin for pytest: what it costs, whom its server serves, and that each knob does what it says."""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dns.edns
import dns.exception
import dns.message
import dns.opcode
import dns.query
import dns.rcode
import pytest

import dot_io.asyncio
from dot_io.blocking import Client, connect
from dot_io.errors import (
    AuthenticationError,
    ConnectError,
    ConnectionLostError,
    Failure,
    HandshakeError,
    QueryTimeoutError,
)
from dot_io.testing import Answers, Authority, HandshakeFault, LoopbackServer, QueryFault
from dot_io.testing.loopback import loopback_address
from dot_proto import (
    AuthenticationPolicy,
    Cause,
    ClientConfiguration,
    Fault,
    Pin,
    ServerConfiguration,
    certificates_from,
    make_query,
)
from support.ipv6 import take_ipv4_away
from support.messages import CD, DO, KEEPALIVE, PADDING, RD, message, opt, option
from support.peers import RawClient

# Where the package is installed its entry point has loaded it already, under the same name.
pytest_plugins = ["dot_io.pytest_plugin"]

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

PAGE = Path(__file__).parents[2] / "docs" / "pytest.md"
TEXT = PAGE.read_text("utf-8")

LIMIT = 60.0
"Seconds that a run of pytest may take."

SHORT = 0.1
"Seconds until a query is given up that will not be answered."

LONG = 3600.0
"Seconds: a delay that no test waits for."

MakeServer = Callable[..., LoopbackServer]


def client_of(server: LoopbackServer, **settings: Any) -> Client:
    return connect(server.host, server.policy, port=server.port, **settings)


def ask(client: Client, name: str = "example.com", rdtype: str = "A", **settings: Any) -> list[str]:
    """The records of the answer; an RCODE that is no NOERROR, in its place."""
    response = dns.message.from_wire(client.query(make_query(name, rdtype), **settings))
    if response.rcode() != dns.rcode.NOERROR:
        return [dns.rcode.to_text(response.rcode())]
    return [record.to_text() for one in response.answer for record in one]


def ask_anew(server: LoopbackServer, *question: str) -> list[str]:
    with client_of(server) as client:
        return ask(client, *question)


@pytest.fixture
def knowing(dot_server: LoopbackServer) -> LoopbackServer:
    dot_server.answers["example.com", "A"] = ["192.0.2.1"]
    return dot_server


# What it costs, and how it is found.


def environment(*, autoload: bool = False) -> dict[str, str]:
    """With what is tested on the path, installed or not; other plugins only with ``autoload``."""
    folders = []
    for package in ("dot_proto", "dot_io"):
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        folders.append(str(Path(spec.origin).parents[1]))
    disabled = {} if autoload else {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folders), **disabled}


def pytest_command(*arguments: str) -> list[str]:
    return [
        *(sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"),
        *("-p", "dot_io.pytest_plugin", *arguments),
    ]


def run_pytest(folder: Path, source: str, *arguments: str, autoload: bool = False) -> str:
    """What pytest says of a test module, in a process of its own where all warnings are errors."""
    (folder / "test_it.py").write_text(source, "utf-8")
    ran = subprocess.run(
        pytest_command(*arguments),
        cwd=folder,
        env=environment(autoload=autoload),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    return ran.stdout + ran.stderr


def test_loading_it_imports_nothing_that_pytest_has_not() -> None:
    code = "import pytest, sys; had = set(sys.modules); import dot_io.pytest_plugin; print(*set(sys.modules) - had)"
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True, timeout=LIMIT
    )
    assert set(ran.stdout.split()) == {"dot_io", "dot_io.pytest_plugin"}


def test_a_run_that_does_not_ask_for_it_imports_nothing_more(tmp_path: Path) -> None:
    source = """
import sys

def test_it(tmp_path):
    ours = {name for name in sys.modules if name.partition(".")[0] in ("dot_io", "dot_proto", "trustme", "dns")}
    assert ours == {"dot_io", "dot_io.pytest_plugin"}
"""
    assert "1 passed" in run_pytest(tmp_path, source)


def test_it_may_be_named_again(tmp_path: Path) -> None:
    """By the entry point, with -p, and in a conftest: pytest loads it once."""
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["dot_io.pytest_plugin"]\n')
    source = "def test_it(dot_server):\n    assert dot_server.queries == []\n"
    assert "1 passed" in run_pytest(tmp_path, source, autoload=True)


def test_fixtures_explain_themselves(tmp_path: Path) -> None:
    """``pytest --fixtures`` shows the three that are for everybody, and what they are."""
    said = run_pytest(tmp_path, "", "--fixtures")
    assert re.findall(r"^_?\w*dot_\w+", said, re.MULTILINE) == ["dot_server", "make_dot_server", "dot_server_factory"]
    assert "A DNS over TLS server on loopback" in said


@pytest.mark.parametrize("scope", ["class", "module", "package", "session"])
def test_fixtures_of_any_scope_can_have_a_server(tmp_path: Path, scope: str) -> None:
    """FR-80: it lives as long as the fixture that asked for it, and ``dot_server`` beside it is another one."""
    source = f"""
import pytest
from dot_io.blocking import connect
from dot_io.errors import ConnectError
from dot_proto import make_query

seen = []

@pytest.fixture(scope="{scope}")
def resolver(dot_server_factory):
    with dot_server_factory("resolver.example") as server:
        yield server
    with pytest.raises(ConnectError):
        connect(server.host, server.policy, port=server.port)
    print("closed with its fixture")

class TestIt:
    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_it(self, resolver, dot_server, number):
        seen.append(resolver)
        with connect(resolver.host, resolver.policy, port=resolver.port) as client:
            client.query(make_query("example.com"))
        assert [resolver] * number == seen
        assert len(resolver.queries) == resolver.connections == number
        assert dot_server is not resolver and dot_server.queries == []
"""
    said = run_pytest(tmp_path, source, "-s")
    assert "3 passed" in said
    assert said.count("closed with its fixture") == 1


def test_the_factory_closes_what_nobody_closed(tmp_path: Path) -> None:
    """FR-80: when the session ends, and not with a test; a socket left open would be an error here."""
    source = """
from dot_io.blocking import connect
from dot_proto import make_query

servers = []

def test_first(dot_server_factory, make_dot_server):
    servers.append(dot_server_factory())
    servers.append(make_dot_server())

def test_second():
    with connect(servers[0].host, servers[0].policy, port=servers[0].port) as client:
        client.query(make_query("example.com"))

def teardown_module():
    print("the module is over")
"""
    (tmp_path / "conftest.py").write_text("""
import socket, sys

def pytest_unconfigure():
    servers = sys.modules["test_it"].servers
    for server in servers:
        with socket.socket() as sock:
            print("refused:", sock.connect_ex(server.address) != 0)
""")
    said = run_pytest(tmp_path, source, "-s")
    assert "2 passed" in said
    assert said.count("refused: True") == 2


@pytest.mark.parametrize("missing", ["dns", "trustme"])
def test_a_missing_dependency_is_named_and_so_is_the_extra(tmp_path: Path, missing: str) -> None:
    (tmp_path / "conftest.py").write_text(f'import sys\n\nsys.modules["{missing}"] = None\n')
    said = run_pytest(tmp_path, "def test_it(dot_server): ...\n")
    assert "1 error" in said
    assert re.search(rf"dot_server needs {missing}[\w.]*: pip install 'dot-proto\[pytest\]'", said)
    assert "Traceback" not in said


def test_sessions_side_by_side(tmp_path: Path) -> None:
    """As under pytest-xdist: processes share nothing, neither ports nor files."""
    source = """
import pytest
from dot_io.blocking import connect
from dot_proto import make_query

@pytest.mark.parametrize("number", range(10))
def test_it(dot_server, number):
    with connect(dot_server.host, dot_server.policy, port=dot_server.port) as client:
        client.query(make_query("example.com"))
    assert len(dot_server.queries) == 1
"""
    (tmp_path / "test_it.py").write_text(source)
    runs = [
        subprocess.Popen(
            # Each cleans up after others where their temporary files are in one folder, and then stumbles over them.
            [*pytest_command(), f"--basetemp={tmp_path / name}"],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "other")
    ]
    said = [run.communicate(timeout=LIMIT)[0] for run in runs]
    assert all("10 passed" in one for one in said), said


@pytest.mark.parametrize("year", ["1970", "2026"])
def test_frozen_clocks(tmp_path: Path, year: str) -> None:
    """FR-81: what the page says of freezegun: dates stand still, deadlines and delays do not, on every backend.

    A clock that is frozen behind the system's and one that is frozen before it fail in two ways: no deadline comes, or
    each has come already, and the loop never rests.
    """
    [arguments] = re.findall(r"`freeze_time\((.*?)\)`", TEXT)
    assert '"2026-' in arguments
    bare, arguments = f'"{year}-01-01"', arguments.replace('"2026-', f'"{year}-')
    source = f"""
import asyncio, os, time
import dot_io.asyncio, dot_io.blocking, dot_io.trio
import dns.message, pytest, trio
from dot_io.errors import QueryTimeoutError
from dot_proto import make_query
from freezegun import freeze_time

async def ask(api, server):
    async with api.connect(server.host, server.policy, port=server.port) as client:
        with pytest.raises(QueryTimeoutError):
            await client.query(make_query("silent.example"), timeout=0.1)
        assert dns.message.from_wire(await client.query(make_query("late.example"))).rcode() == 3

def blocking(server):
    with dot_io.blocking.connect(server.host, server.policy, port=server.port) as client:
        with pytest.raises(QueryTimeoutError):
            client.query(make_query("silent.example"), timeout=0.1)
        assert dns.message.from_wire(client.query(make_query("late.example"))).rcode() == 3

RUNS = [
    (blocking, lambda: freeze_time({bare})),
    (blocking, lambda: freeze_time({arguments})),
    (lambda server: asyncio.run(ask(dot_io.asyncio, server)), lambda: freeze_time({arguments})),
    (lambda server: trio.run(ask, dot_io.trio, server), lambda: freeze_time({arguments})),
]

@pytest.mark.parametrize(("run", "freeze"), RUNS)
def test_it(dot_server, run, freeze):
    dot_server.faults["silent.example"] = "silent"
    dot_server.delays["late.example"] = 0.1
    used = sum(os.times()[:2])
    with freeze():
        before = time.time()
        run(dot_server)
        assert time.time() == before
    assert sum(os.times()[:2]) - used < 0.2, "it waited busily"
"""
    assert "4 passed" in run_pytest(tmp_path, source)


def test_the_page_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    for block in blocks:
        assert f"{block.count('def test_')} passed" in run_pytest(tmp_path, block)


@pytest.mark.parametrize(("knob", "kind"), [("fault", QueryFault), ("handshake_fault", HandshakeFault)])
def test_the_page_has_every_fault(knob: str, kind: type[QueryFault] | type[HandshakeFault]) -> None:
    _, _, table = TEXT.partition(f"| `{knob}` | what comes ")
    rows = re.findall(r"^\| `([\w-]+)` \|", table.partition("\n\n")[0], re.MULTILINE)
    assert rows == list(kind)


def test_the_page_has_every_attribute(dot_server: LoopbackServer) -> None:
    public = {name for name in dir(dot_server) if not name.startswith("_")}
    assert {name for name in public if not re.search(rf"`(dot_server\.)?{name}\b", TEXT)} == set()


def test_the_page_is_read_to_its_end() -> None:
    assert len(TEXT.splitlines()) < 105


# Whom it serves.


def test_stdlib_ssl(knowing: LoopbackServer) -> None:
    """Nothing of ours on the client's side."""
    query = dns.message.make_query("example.com", "A")
    context = ssl.create_default_context(cafile=str(knowing.ca_file))
    with (
        socket.create_connection(knowing.address) as bare,
        context.wrap_socket(bare, server_hostname=knowing.name) as sock,
        sock.makefile("rb") as stream,
    ):
        sock.sendall(query.to_wire(prepend_length=True))
        response = dns.message.from_wire(stream.read(int.from_bytes(stream.read(2))))
    assert query.is_response(response)
    assert response.answer[0].to_text() == "example.com. 300 IN A 192.0.2.1"


def test_dnspython(knowing: LoopbackServer) -> None:
    assert ask_dnspython(knowing).answer[0][0].to_text() == "192.0.2.1"


def test_dnspython_by_address(knowing: LoopbackServer) -> None:
    """The certificate is for the address too."""
    assert ask_dnspython(knowing, server_hostname=None).answer[0][0].to_text() == "192.0.2.1"


def ask_dnspython(server: LoopbackServer, **settings: Any) -> dns.message.Message:
    query = dns.message.make_query("example.com", "A")
    settings = {"server_hostname": server.name, "verify": str(server.ca_file), "timeout": 5.0, **settings}
    return dns.query.tls(query, server.host, port=server.port, **settings)


def test_blocking(knowing: LoopbackServer) -> None:
    assert ask_anew(knowing) == ["192.0.2.1"]


def test_asyncio(knowing: LoopbackServer) -> None:
    async def main() -> bytes:
        async with dot_io.asyncio.connect(knowing.host, knowing.policy, port=knowing.port) as client:
            return await client.query(make_query("example.com"))

    assert dns.message.from_wire(asyncio.run(main())).answer[0][0].to_text() == "192.0.2.1"


def test_clients_side_by_side(knowing: LoopbackServer) -> None:
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(lambda _: ask_anew(knowing), range(64))) == [["192.0.2.1"]] * 64
    assert (knowing.connections, knowing.handshakes, len(knowing.queries)) == (64, 64, 64)
    assert {one.connection for one in knowing.queries} == set(range(1, 65))


def test_pin_alone(knowing: LoopbackServer) -> None:
    """RFC 7858, section 4.2: the pin is that of the server's own key, also as text."""
    policy = AuthenticationPolicy.strict(pins=[Pin.parse(str(knowing.pin))])
    with connect(knowing.host, policy, port=knowing.port) as client:
        assert ask(client) == ["192.0.2.1"]


def test_another_server_has_another_key_and_name(dot_server: LoopbackServer, make_dot_server: MakeServer) -> None:
    other = make_dot_server("other.example")
    assert other.pin != dot_server.pin
    assert other.port != dot_server.port
    with pytest.raises(AuthenticationError):
        connect(other.host, dot_server.policy, port=other.port)
    assert ask_anew(other) == ["NXDOMAIN"]
    assert dot_server.queries == []
    assert len(other.queries) == 1


def test_a_certificate_is_made_once(make_dot_server: MakeServer) -> None:
    """Per name and session: a key costs milliseconds, and a thousand tests ask for one."""
    assert make_dot_server("twice.example").pin == make_dot_server("twice.example").pin


@pytest.mark.usefixtures("needs_ipv6")
def test_ipv6(tmp_path: Path) -> None:
    identity = Authority(tmp_path, "a test").issue("dns.example")
    with LoopbackServer(identity, host="::1") as server:
        assert server.address == ("::1", server.port)
        assert ask_anew(server) == ["NXDOMAIN"]


@pytest.mark.usefixtures("needs_ipv6")
@pytest.mark.parametrize("fixture", ["make_dot_server", "dot_server_factory"])
def test_a_test_may_choose_the_address(request: pytest.FixtureRequest, fixture: str) -> None:
    """FR-80: ``host="::1"``, for which the certificate is too."""
    make: MakeServer = request.getfixturevalue(fixture)
    with make("chosen.example", host="::1") as server:
        assert server.host == "::1"
        by_address = AuthenticationPolicy.strict("::1", trust_anchors=server.policy.trust_anchors)
        with connect("::1", by_address, port=server.port) as client:
            assert ask(client) == ["NXDOMAIN"]


def test_a_machine_with_ipv6_only(monkeypatch: pytest.MonkeyPatch, make_dot_server: MakeServer) -> None:
    """FR-80: it had no server at all, but "[Errno 99]"."""
    take_ipv4_away(monkeypatch)
    server = make_dot_server()
    assert server.host == "::1"
    assert ask_anew(server) == ["NXDOMAIN"]


def test_what_else_keeps_a_socket_from_ipv4_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every error means that ::1 would do: here no descriptor is left."""

    class Exhausted(socket.socket):
        def bind(self, address: Any) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", Exhausted)
    with pytest.raises(OSError, match="Too many open files"):
        loopback_address()


def test_configuration(make_dot_server: MakeServer) -> None:
    with client_of(make_dot_server(configuration=ServerConfiguration(max_queries=1))) as client:
        ask(client)
        with pytest.raises(ConnectionLostError) as caught:
            ask(client)
    assert caught.value.cause is Cause.GO_AWAY


# What it answers.


def test_edns_of_the_response_follows_the_query(knowing: LoopbackServer) -> None:
    """RFC 6891, section 6.1.1; RFC 7830, section 4: OPT and padding for those who send them, and for nobody else."""
    bare = ClientConfiguration(padding_block=None, keepalive=False)
    with client_of(knowing, configuration=bare) as client:
        query = dns.message.make_query("example.com", "A").to_wire()
        assert dns.message.from_wire(client.query(query)).edns == -1
    with client_of(knowing) as client:
        response = client.query(make_query("example.com"))
    parsed = dns.message.from_wire(response)
    assert {int(option.otype) for option in parsed.options} == {KEEPALIVE, PADDING}
    assert len(response) % 468 == 0


def test_names_are_compared_without_regard_to_case(knowing: LoopbackServer) -> None:
    """RFC 1035, section 2.3.3; the answer repeats the question's letters."""
    with client_of(knowing) as client:
        response = dns.message.from_wire(client.query(make_query("eXample.COM")))
    assert response.question[0].name.to_text() == "eXample.COM."
    assert response.answer[0][0].to_text() == "192.0.2.1"
    assert knowing.queries[0].name == "example.com"


def test_answers_may_change(knowing: LoopbackServer) -> None:
    with client_of(knowing) as client:
        assert ask(client) == ["192.0.2.1"]
        knowing.answers["example.com", "A"] = ["192.0.2.2", "192.0.2.3"]
        assert ask(client) == ["192.0.2.2", "192.0.2.3"]
        del knowing.answers["example.com", "A"]
        assert ask(client) == ["NXDOMAIN"]


def test_ttl(knowing: LoopbackServer) -> None:
    knowing.answers.ttl = 7
    assert ask_dnspython(knowing).answer[0].ttl == 7


def test_rcode(dot_server: LoopbackServer) -> None:
    dot_server.answers["example.com", "A"] = "SERVFAIL"
    assert ask_anew(dot_server) == ["SERVFAIL"]


def responses(answers: Answers, name: str, rdtype: str = "A") -> tuple[str, list[str]]:
    response = answers.respond(dns.message.make_query(name, rdtype))
    return dns.rcode.to_text(response.rcode()), [one.to_text() for one in response.answer]


def test_a_name_known_under_another_type() -> None:
    """RFC 2308, section 2.2: no records, and no error."""
    answers = Answers()
    answers["example.com", "A"] = ["192.0.2.1"]
    answers["empty.example", "TXT"] = []
    assert responses(answers, "example.com", "AAAA") == ("NOERROR", [])
    assert responses(answers, "empty.example", "TXT") == ("NOERROR", [])
    assert responses(answers, "empty.example", "A") == ("NOERROR", [])
    assert responses(answers, "nowhere.example") == ("NXDOMAIN", [])


def test_aliases() -> None:
    """RFC 1034, section 4.3.2; the RCODE is that of the last name (RFC 6604, section 3)."""
    answers = Answers()
    answers["www.example", "CNAME"] = ["web.example"]
    assert responses(answers, "www.example") == ("NXDOMAIN", ["www.example. 300 IN CNAME web.example."])
    assert responses(answers, "www.example", "CNAME") == ("NOERROR", ["www.example. 300 IN CNAME web.example."])
    answers["WEB.example", "A"] = ["192.0.2.1"]
    assert responses(answers, "www.example") == (
        "NOERROR",
        ["www.example. 300 IN CNAME web.example.", "web.example. 300 IN A 192.0.2.1"],
    )
    answers["web.example", "A"] = "REFUSED"
    assert responses(answers, "www.example")[0] == "REFUSED"


def test_aliases_that_go_round_in_circles_end() -> None:
    answers = Answers()
    answers["one.example", "CNAME"] = ["two.example"]
    answers["two.example", "CNAME"] = ["one.example"]
    assert len(responses(answers, "one.example")[1]) == 2


def test_answers_are_a_mapping() -> None:
    answers = Answers()
    answers["Example.com.", "mx"] = ["10 mail.example.com"]
    answers["example.com", "TXT"] = ["one", '"two words"']
    answers["example.net", "A"] = "NXDOMAIN"
    assert dict(answers) == {
        ("example.com", "MX"): ["10 mail.example.com."],
        ("example.com", "TXT"): ['"one"', '"two words"'],
        ("example.net", "A"): "NXDOMAIN",
    }
    assert len(answers) == 3
    assert ("EXAMPLE.COM", "MX") in answers
    assert "10 mail.example.com." in repr(answers)
    del answers["EXAMPLE.com", "MX"]
    assert ("example.com", "MX") not in answers


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("example.com", ["192.0.2.1"], "no name and type"),
        (("example..com", "A"), ["192.0.2.1"], "no DNS name"),
        (("example.com", "X"), ["192.0.2.1"], "no record type"),
        (("example.com", "A"), "192.0.2.1", "as a list"),
        (("example.com", "A"), ["192.0.2"], "no A records"),
        (("example.com", "AAAA"), ["192.0.2.1"], "no AAAA records"),
        (("example.com", "TXT"), [f"{number:0250}" for number in range(250)], "250 TXT records of 65750 octets do not"),
    ],
)
def test_answers_that_cannot_be_read_are_refused_where_they_are_set(key: Any, value: Any, complaint: str) -> None:
    answers = Answers()
    with pytest.raises(ValueError, match=complaint):
        answers[key] = value
    assert len(answers) == 0


def test_records_come_in_the_order_given(dot_server: LoopbackServer) -> None:
    """A client that sorts addresses (RFC 6724), or rotates them, is tested against this order."""
    addresses = [f"192.0.2.{number}" for number in range(255, 0, -1)]
    dot_server.answers["example.com", "A"] = addresses
    assert ask_anew(dot_server) == addresses


def test_the_longest_answer(dot_server: LoopbackServer) -> None:
    """It fits under the longest name too, OPT and padding included."""
    name = ".".join(["x" * 63] * 3 + ["y" * 61])
    dot_server.answers[name, "TXT"] = ["z" * 223] + [f"{number:0250}" for number in range(247)]
    with client_of(dot_server) as client:
        response = client.query(make_query(name, "TXT"))
    assert len(dns.message.from_wire(response, one_rr_per_rrset=True).answer) == 248
    assert len(response) > 65_000


@pytest.mark.parametrize("opcode", [dns.opcode.NOTIFY, dns.opcode.UPDATE])
def test_other_opcodes(dot_server: LoopbackServer, opcode: dns.opcode.Opcode) -> None:
    """RFC 1035, section 4.1.1."""
    query = make_query("example.com", "SOA")
    with client_of(dot_server) as client:
        response = dns.message.from_wire(client.query(query[:2] + bytes([opcode << 3]) + query[3:]))
    assert response.rcode() == dns.rcode.NOTIMP


def test_a_query_without_a_question(dot_server: LoopbackServer) -> None:
    """RFC 7873, section 5.4: with a cookie it is one, and no fault makes the server stumble over it."""
    query = dns.message.Message(id=1)
    query.use_edns(0, options=[dns.edns.CookieOption(b"12345678", b"")])
    dot_server.faults["."] = "wrong-question"
    with RawClient(dot_server.port) as client:
        client.send(query.to_wire())
        response = dns.message.from_wire(client.message())
    assert (response.id, response.rcode(), response.question) == (1, dns.rcode.NOERROR, [])
    assert (dot_server.queries[0].name, dot_server.queries[0].rdtype) == (".", "NONE")


def test_a_query_that_dnspython_cannot_read(dot_server: LoopbackServer) -> None:
    """An UPDATE whose zone has another type than SOA, which is no matter of the engine's; it gets FORMERR."""
    query = message(b"\x07example\x00\x00\x01\x00\x01", id=0x9ACD, flags=5 << 11)
    dot_server.fault = "wrong-question"
    with RawClient(dot_server.port) as client:
        client.send(query)
        response = client.message()
    assert (response[:2], response[3] & 15) == (query[:2], dns.rcode.FORMERR)
    assert [(one.name, one.message) for one in dot_server.queries] == [(".", query)]


# What it does wrong.


@pytest.mark.parametrize("fault", [QueryFault.SILENT, QueryFault.WRONG_ID, QueryFault.WRONG_QUESTION])
def test_faults_that_one_query_does_not_survive(knowing: LoopbackServer, fault: QueryFault) -> None:
    """MAT-1 and RFC 7766, section 7: it times out, and the connection goes on."""
    knowing.faults["bad.example"] = fault
    knowing.answers["bad.example", "A"] = ["192.0.2.66"]
    with client_of(knowing) as client:
        with pytest.raises(QueryTimeoutError):
            ask(client, "bad.example", timeout=SHORT)
        assert ask(client) == ["192.0.2.1"]
    assert knowing.connections == 1


@pytest.mark.parametrize(
    ("fault", "cause", "code"),
    [
        (QueryFault.GARBAGE, Cause.PEER_FAULT, Fault.SHORT_FRAME),
        (QueryFault.TRUNCATED, Cause.PEER_FAULT, Fault.TRUNCATED),
        (QueryFault.CLOSE, Cause.PEER_CLOSED, None),
        (QueryFault.CUT, Cause.TRANSPORT_FAILED, Fault.NO_CLOSE_NOTIFY),
        (QueryFault.RESET, Cause.TRANSPORT_FAILED, Fault.RESET),
        (QueryFault.BAD_RECORD, Cause.TRANSPORT_FAILED, Fault.TLS),
    ],
)
def test_faults_that_the_connection_does_not_survive(
    knowing: LoopbackServer, fault: QueryFault, cause: Cause, code: Fault | None
) -> None:
    """What was answered before counts; a new connection is served again."""
    knowing.faults["bad.example"] = fault
    with client_of(knowing) as client:
        assert ask(client) == ["192.0.2.1"]
        with pytest.raises(ConnectionLostError) as caught:
            ask(client, "bad.example")
        error = caught.value.error
        assert (caught.value.cause, error and error.fault) == (cause, code)
    assert ask_anew(knowing) == ["192.0.2.1"]


def question(name: str, number: int) -> bytes:
    return dns.message.make_query(name, "A", id=number).to_wire()


@pytest.mark.parametrize("fault", ["truncated", "close", "cut", "bad-record", "garbage", "wrong-id"])
def test_what_was_asked_before_is_answered_before(knowing: LoopbackServer, fault: str) -> None:
    """Also where both came in one TCP segment."""
    knowing.faults["bad.example"] = fault
    with RawClient(knowing.port) as client:
        client.send(question("example.com", 1), question("bad.example", 2))
        assert client.message()[:2] == b"\x00\x01"


def test_a_wrong_id_was_never_asked_under(knowing: LoopbackServer) -> None:
    """All else is right: who does not look at the id is found out."""
    knowing.faults["bad.example"] = "wrong-id"
    knowing.answers["bad.example", "A"] = ["192.0.2.66"]
    with RawClient(knowing.port) as client:
        client.send(question("example.com", 0), question("example.com", 2), question("bad.example", 1))
        *_, wrong = responses = [dns.message.from_wire(client.message()) for _ in range(3)]
    assert [one.id for one in responses] == [0, 2, 3]
    assert wrong.question[0].name.to_text() == "bad.example."
    assert wrong.answer[0][0].to_text() == "192.0.2.66"


@pytest.mark.parametrize("fault", [None, QueryFault.WRONG_ID, QueryFault.WRONG_QUESTION])
@pytest.mark.parametrize("wants_dnssec", [False, True])
@pytest.mark.parametrize("has_opt", [False, True])
def test_what_is_copied_from_the_query(
    knowing: LoopbackServer, fault: QueryFault | None, wants_dnssec: bool, has_opt: bool
) -> None:
    """FR-62: CD, and DO in OPT if there is one, also where something else is wrong on purpose."""
    knowing.fault = fault
    opts = [opt(option(PADDING), flags=DO * wants_dnssec)] * has_opt
    with RawClient(knowing.port) as client:
        client.send(message(b"\7example\3com\0\0\1\0\1", flags=RD | CD * wants_dnssec, additionals=opts))
        response = dns.message.from_wire(client.message())
    assert bool(response.flags & CD) == wants_dnssec
    assert (response.edns == 0) == has_opt
    assert response.ednsflags == DO * (wants_dnssec and has_opt)
    assert [each.otype for each in response.options] == [PADDING] * has_opt


def test_a_wrong_question_stands_above_the_right_records(knowing: LoopbackServer) -> None:
    """Who does not look at the question is found out."""
    knowing.fault = "wrong-question"
    with RawClient(knowing.port) as client:
        client.send(question("example.com", 7))
        response = dns.message.from_wire(client.message())
    assert response.id == 7
    assert response.question[0].to_text() == "another.question.invalid. IN A"
    assert response.answer[0].to_text() == "example.com. 300 IN A 192.0.2.1"


def test_a_truncated_answer_lacks_one_octet(knowing: LoopbackServer) -> None:
    """And the end is in order, so that only the length prefix tells."""
    knowing.fault = "truncated"
    with RawClient(knowing.port) as client:
        client.send(question("example.com", 7))
        with pytest.raises(EOFError):
            client.message()
        received = client._received
    assert int.from_bytes(received[:2]) == len(received) - 2 + 1


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        (QueryFault.SILENT, dns.exception.Timeout),
        (QueryFault.WRONG_ID, dns.query.BadResponse),
        (QueryFault.WRONG_QUESTION, dns.query.BadResponse),
        (QueryFault.GARBAGE, dns.message.ShortHeader),
        (QueryFault.TRUNCATED, EOFError),
        (QueryFault.CLOSE, EOFError),
        (QueryFault.CUT, (ssl.SSLEOFError, EOFError)),
        (QueryFault.RESET, (ConnectionResetError, EOFError)),  # some Pythons take RST for an end while TLS is read
        (QueryFault.BAD_RECORD, ssl.SSLError),
    ],
)
def test_faults_as_another_client_sees_them(
    knowing: LoopbackServer, fault: QueryFault, raised: type[Exception] | tuple[type[Exception], ...]
) -> None:
    """dnspython, which shares no code with us."""
    knowing.fault = fault
    with pytest.raises(raised):
        ask_dnspython(knowing, timeout=SHORT * 3 if fault is QueryFault.SILENT else 5.0)


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        (HandshakeFault.SILENT, Failure.TIMED_OUT),
        (HandshakeFault.REFUSE, Failure.ALERT),
        (HandshakeFault.CLOSE, Failure.END_OF_STREAM),
        (HandshakeFault.RESET, Failure.END_OF_STREAM),
        (HandshakeFault.NOT_TLS, Failure.NOT_TLS),
    ],
)
def test_handshake_faults(knowing: LoopbackServer, fault: HandshakeFault, failure: Failure) -> None:
    knowing.handshake_fault = fault
    with pytest.raises(HandshakeError) as caught:
        client_of(knowing, timeout=SHORT if fault is HandshakeFault.SILENT else 5.0)
    assert caught.value.failure is failure
    assert caught.value.alert == ("handshake_failure" if fault is HandshakeFault.REFUSE else None)
    assert (knowing.connections, knowing.handshakes, knowing.queries) == (1, 0, [])
    knowing.handshake_fault = None
    assert ask_anew(knowing) == ["192.0.2.1"]


def end_of_tcp(sock: socket.socket) -> str:
    """How it ends, beneath TLS: Pythons differ in what they make of RST while TLS is read."""
    try:
        while socket.socket.recv(sock, 65_536):
            pass
    except ConnectionResetError:
        return "RST"
    return "FIN"


def test_reset_is_one(dot_server: LoopbackServer) -> None:
    """RST, where ``cut`` is FIN."""
    for fault, end in (("reset", "RST"), ("cut", "FIN")):
        dot_server.fault = fault
        with RawClient(dot_server.port) as client:
            client.send(dns.message.make_query("example.com", "A").to_wire())
            assert end_of_tcp(client.socket) == end


def test_reset_inside_the_handshake_is_one(dot_server: LoopbackServer) -> None:
    """RST, where ``close`` is FIN: another client can tell them."""
    for fault, end in (("reset", "RST"), ("close", "FIN")):
        dot_server.handshake_fault = fault
        with socket.create_connection(dot_server.address) as bare:
            bare.sendall(b"ClientHello")
            assert end_of_tcp(bare) == end


def test_a_name_may_be_exempt(knowing: LoopbackServer) -> None:
    knowing.fault = "silent"
    knowing.faults["EXAMPLE.com"] = None
    with client_of(knowing) as client:
        with pytest.raises(QueryTimeoutError):
            ask(client, "example.net", timeout=SHORT)
        assert ask(client) == ["192.0.2.1"]
    del knowing.faults["example.com"]
    assert len(knowing.faults) == 0
    with client_of(knowing) as client, pytest.raises(QueryTimeoutError):
        ask(client, timeout=SHORT)


@pytest.mark.parametrize(
    ("knob", "value", "complaint"),
    [
        ("fault", "resett", "'resett' is no QueryFault; those are silent, wrong-id, "),
        ("handshake_fault", "garbage", "'garbage' is no HandshakeFault; those are silent, refuse, "),
        ("delay", -1.0, "delay of -1.0 seconds"),
        ("delay", float("nan"), "delay of nan seconds"),
        ("delay", float("inf"), "the fault silent"),
        ("close_after", 0, "must be at least 1"),
    ],
)
def test_knobs_refuse_what_they_do_not_know(
    dot_server: LoopbackServer, knob: str, value: object, complaint: str
) -> None:
    before = getattr(dot_server, knob)
    with pytest.raises(ValueError, match=complaint):
        setattr(dot_server, knob, value)
    assert getattr(dot_server, knob) == before


def test_a_misspelt_knob_is_refused(dot_server: LoopbackServer) -> None:
    """It would set nothing, and the test that set it would pass."""
    with pytest.raises(AttributeError, match="falt"):
        dot_server.falt = "reset"  # type: ignore[attr-defined]


def test_knobs_for_names_refuse_it_too(dot_server: LoopbackServer) -> None:
    with pytest.raises(ValueError, match="no QueryFault"):
        dot_server.faults["example.com"] = "resett"
    with pytest.raises(ValueError, match="no DNS name"):
        dot_server.faults["example..com"] = "reset"
    with pytest.raises(ValueError, match="delay of -1 seconds"):
        dot_server.delays["example.com"] = -1
    assert (dict(dot_server.faults), dict(dot_server.delays)) == ({}, {})
    assert repr(dot_server.faults) == "{}"


def test_delay(knowing: LoopbackServer) -> None:
    """Seconds at least."""
    knowing.delay = 0.05
    with client_of(knowing) as client:
        started = time.monotonic()
        assert ask(client) == ["192.0.2.1"]
        assert time.monotonic() - started >= 0.05


def test_a_slow_name_is_overtaken(knowing: LoopbackServer) -> None:
    """RFC 7766, section 6.2.1.1: answers come in any order."""
    knowing.delays["slow.example"] = LONG
    with client_of(knowing) as client:
        position, _ = next(client.query_many([make_query("slow.example"), make_query("example.com")]))
    assert position == 1
    assert [one.name for one in knowing.queries] == ["slow.example", "example.com"]


def test_a_fast_name_among_slow_ones(knowing: LoopbackServer) -> None:
    knowing.delay = LONG
    knowing.delays["example.com"] = 0
    assert ask_anew(knowing) == ["192.0.2.1"]


def test_queries_delayed_alike_are_answered_in_their_order(knowing: LoopbackServer) -> None:
    knowing.delay = 0.01
    queries = [make_query(f"n{number}.example") for number in range(50)]
    with client_of(knowing) as client:
        assert [position for position, _ in client.query_many(queries)] == list(range(50))


def test_a_fault_comes_after_its_delay(knowing: LoopbackServer) -> None:
    knowing.delays["bad.example"] = LONG
    knowing.fault = "close"
    knowing.faults["example.com"] = None
    with client_of(knowing) as client:
        position, _ = next(client.query_many([make_query("bad.example"), make_query("example.com")]))
    assert position == 1


def test_close_after(knowing: LoopbackServer) -> None:
    """So many answers on each connection; what else was asked on it is lost, in order."""
    knowing.close_after = 2
    for _ in range(2):
        with client_of(knowing) as client:
            assert ask(client) == ask(client) == ["192.0.2.1"]
            with pytest.raises(ConnectionLostError) as caught:
                ask(client)
            assert caught.value.cause is Cause.PEER_CLOSED
    assert knowing.connections == 2
    knowing.close_after = None
    with client_of(knowing) as client:
        assert [ask(client) for _ in range(3)] == [["192.0.2.1"]] * 3


def test_a_client_that_has_sent_close_notify_still_gets_what_it_asked(knowing: LoopbackServer) -> None:
    """RFC 8446, section 6.1: close_notify ends one direction only."""
    knowing.delay = 0.01
    with RawClient(knowing.port) as client:
        client.send(dns.message.make_query("example.com", "A", id=7).to_wire(), close_notify=True)
        assert client.message()[:2] == b"\x00\x07"


# What a test sees of it, and what is left of it.


def test_wait_for_queries(knowing: LoopbackServer) -> None:
    """A test learns that a query has come, without sleeping."""
    knowing.fault = "silent"
    with client_of(knowing) as client, ThreadPoolExecutor() as threads:
        asking = threads.submit(ask, client)
        [query] = knowing.wait_for_queries(1)
        knowing.close()
        with pytest.raises(ConnectionLostError):
            asking.result()
    assert (query.name, query.rdtype, query.connection) == ("example.com", "A", 1)
    assert dns.message.from_wire(query.message).question[0].name.to_text() == "example.com."


def test_wait_for_queries_that_do_not_come(dot_server: LoopbackServer) -> None:
    with pytest.raises(TimeoutError, match=r"0 queries have come within 0\.01 s, not 1"):
        dot_server.wait_for_queries(1, timeout=0.01)


def test_close_in_mid_test(knowing: LoopbackServer) -> None:
    with client_of(knowing) as client:
        assert ask(client) == ["192.0.2.1"]
        knowing.close()
        with pytest.raises(ConnectionLostError) as caught:
            ask(client)
        assert caught.value.cause is Cause.PEER_CLOSED
    with pytest.raises(ConnectError):
        client_of(knowing)
    knowing.close()  # again, and nothing happens


@pytest.mark.parametrize("fault", ["silent", "refuse", "close", "not-tls"])
def test_clients_inside_the_handshake_do_not_hold_up_the_end(tmp_path: Path, fault: str) -> None:
    """Neither one that has sent its ClientHello, and takes no hint, nor one that has sent nothing."""
    with LoopbackServer(Authority(tmp_path, "a test").issue("dns.example")) as server:
        server.handshake_fault = fault
        with socket.create_connection(server.address) as hello, socket.create_connection(server.address):
            hello.sendall(b"\x16\x03\x01")
            if fault != "silent":
                hello.recv(1)
            started = time.monotonic()
            server.close()
            assert time.monotonic() - started < 2.0


@pytest.mark.parametrize("fault", [None, "silent", "close", "cut", "bad-record", "truncated"])
def test_clients_that_take_no_hint_do_not_hold_up_the_end(tmp_path: Path, fault: str | None) -> None:
    """Also while the server waits for them to close first."""
    with LoopbackServer(Authority(tmp_path, "a test").issue("dns.example")) as server:
        server.fault = fault
        with RawClient(server.port) as client:
            client.send(dns.message.make_query("example.com", "A").to_wire())
            server.wait_for_queries(1)
            started = time.monotonic()
            server.close()
            assert time.monotonic() - started < 2.0


def test_a_thousand_tests_leave_nothing_behind(make_dot_server: MakeServer) -> None:
    """Well, fifty; the count of threads and descriptors is that of the fixture above."""
    for _ in range(50):
        with make_dot_server() as server:
            ask_anew(server)


def test_private_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "a test")
    identities = [authority.issue("one.example"), authority.issue("two.example")]
    assert len({one.chain_file for one in identities}) == 2
    assert {one.chain_file.stat().st_mode & 0o777 for one in identities} == {0o600}
    assert {one.root_file for one in identities} == {authority.root_file}
    assert len(certificates_from(authority.root_file.read_bytes())) == 1
