"""The rules of getaddrinfo, without a network: GAI-1 to GAI-12 of the checklist, beside the system's own function."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dot_io import _addresses
from dot_io._addresses import AddressQueries, records_in
from dot_io.errors import NoAddressError, QueryTimeoutError
from dot_io.hooks._getaddrinfo import Rules
from dot_io.hooks._hosts import HostsFile
from dot_io.hooks._order import Routes
from dot_io.testing import Answers
from dot_proto import DoTError, LocalProtocolError, MessageError, make_query
from dot_proto._message import skip_name

INET, INET6, STREAM = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM
FAMILIES = [socket.AF_UNSPEC, INET, INET6]
EVERYWHERE = {"192.0.2.1": "192.0.2.9", "2001:db8::1": "2001:db8::9"}
"Both families have a route."


class World:
    """Rules, a server's knowledge, a table of hosts, and a kernel that knows the sources in :attr:`sources`."""

    def __init__(self, folder: Path, hosts: str = "", **options: Any) -> None:
        self.answers = Answers()
        self.sources: dict[str, str] = dict(EVERYWHERE)
        self.asked: list[str] = []
        self.file = folder / "hosts"
        self.file.write_text(hosts)
        self.now = 0.0
        routes = Routes(self.sources.get, lambda: self.now)
        self.rules = Rules(hosts=HostsFile(self.file), routes=routes, **options)
        self.failures: dict[str, DoTError] = {}

    def __call__(self, host: Any, port: Any = 80, *arguments: int, **options: int) -> list[Any]:
        lookup = self.rules.lookup(host, port, *arguments, **options)
        while lookup.questions:
            lookup.answer([self.respond(question) for question in lookup.questions])
        if lookup.asks_system:
            lookup.ask_system(lambda *given: [("system", *given)])
        return lookup.result()

    def respond(self, octets: bytes) -> bytes | DoTError:
        query = dns.message.from_wire(octets)
        (question,) = query.question
        kind = str(question).rpartition(" ")[2]
        self.asked.append(f"{question.name} {kind}")
        return self.failures.get(kind) or self.answers.respond(query).to_wire()

    def addresses(self, *arguments: Any, **options: Any) -> list[str]:
        return [info[4][0] for info in self(*arguments, type=STREAM, **options)]

    def code(self, *arguments: Any, **options: Any) -> int:
        with pytest.raises(socket.gaierror) as caught:
            self(*arguments, **options)
        assert caught.value.strerror
        return caught.value.errno or 0


@pytest.fixture(name="world")
def world_fixture(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.answers["both.example", "A"] = ["192.0.2.1"]
    made.answers["both.example", "AAAA"] = ["2001:db8::1"]
    made.answers["v4.example", "A"] = ["192.0.2.1", "192.0.2.2"]
    made.answers["v6.example", "AAAA"] = ["2001:db8::1"]
    return made


NUMERIC: list[tuple[Any, ...]] = [
    (host, port, family, kind, proto, flags)
    for host in ("192.0.2.1", b"192.0.2.1", "127.1", "0x7f.1", "2001:db8::1", "::1", "::ffff:192.0.2.1", None)
    for port in (80, "http", "80", b"80", None, 0)
    for family in FAMILIES
    for kind, proto in ((0, 0), (STREAM, 0), (socket.SOCK_DGRAM, 17), (socket.SOCK_RAW, 0))
    for flags in (0, socket.AI_PASSIVE, socket.AI_CANONNAME, socket.AI_NUMERICHOST)
]


def test_an_address_is_the_systems_to_read(world: World) -> None:
    """GAI-1: ports, services, kinds of sockets, flags and errors are as they always were; nothing is asked."""
    for arguments in NUMERIC:
        assert outcome(world, *arguments) == outcome(socket.getaddrinfo, *arguments), arguments
    assert world.asked == []


def outcome(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except OSError as error:
        return type(error), error.args


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("both.example", "no-such-service"), socket.EAI_SERVICE),
        (("both.example", 80, 99), socket.EAI_FAMILY),
        (("both.example", 80, 0, 99), socket.EAI_SOCKTYPE),
        (("both.example", 80, 0, 0, 0, 1 << 20), socket.EAI_BADFLAGS),
        (("both.example", 80, 0, 0, 0, socket.AI_NUMERICHOST), socket.EAI_NONAME),
        ((None, None), socket.EAI_NONAME),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_asked(world: World, arguments: Any, code: int) -> None:
    """GAI-1."""
    assert world.code(*arguments) == code
    assert world.asked == []


@pytest.mark.parametrize("host", [5, 1.5, ["a"], object()])
def test_what_is_no_host_is_a_type_error_as_always(world: World, host: Any) -> None:
    with pytest.raises(TypeError):
        world(host)


ODD = [
    "", ".", "..", "a..example", ".example", "a b", "a\tb", "a%lo", "::1%no", "fe80::1%", "a:80", "http://a.example/",
    "a/b", "a\0b", "a.example\0", "a" * 64 + ".example", "a." * 127 + "example", "*.example", "a@b", "1.2.3.4.5",
    "256.1.1.1", "1.2.3.999", "a\\.b", "a.example..", "[::1]", "-x-.é", "\ud800.example",
]  # fmt: skip


@pytest.mark.parametrize("host", ODD)
def test_what_is_no_name_is_never_asked(world: World, host: str) -> None:
    """GAI-2."""
    assert world.code(host) == socket.EAI_NONAME
    assert world.asked == []


LABELS = st.sampled_from(["web", "x-1", "_sip", "MÜNCHEN", "xn--a"]) | st.text("a9-_.%:/ \0é\\[]@*", max_size=3)
"Good ones, and others; by themselves, random texts are hardly ever names."


@given(host=st.text(max_size=30) | st.binary(max_size=30) | st.lists(LABELS, max_size=4).map(".".join))
def test_nothing_odd_is_ever_asked(tmp_path_factory: pytest.TempPathFactory, host: str | bytes) -> None:
    """GAI-2: whatever comes in; what is asked are letters, digits, hyphens and underscores."""
    world = World(tmp_path_factory.mktemp("world"), search=[""])
    with contextlib.suppress(socket.gaierror):
        world(host)
    for asked in world.asked:
        name, _, _ = asked.rpartition(" ")
        assert all(label.replace("-", "").replace("_", "a").isalnum() for label in name.removesuffix(".").split("."))


@pytest.mark.parametrize(
    "name", ["both.example", "BOTH.Example", "both.example.", b"both.example", bytearray(b"both.example.")]
)
def test_a_name_has_its_addresses(world: World, name: Any) -> None:
    """GAI-2, GAI-3, GAI-4: text or octets, with or without the final dot; A and AAAA together."""
    found = world(name, "http", type=STREAM)
    assert found == [
        (INET6, STREAM, 6, "", ("2001:db8::1", 80, 0, 0)),
        (INET, STREAM, 6, "", ("192.0.2.1", 80)),
    ]
    assert all(isinstance(one[0], socket.AddressFamily) and isinstance(one[1], socket.SocketKind) for one in found)
    assert [asked.lower() for asked in world.asked] == ["both.example. a", "both.example. aaaa"]


def test_every_kind_of_socket(world: World) -> None:
    """GAI-3: as the system has them for the address."""
    assert world("v6.example", 80) == socket.getaddrinfo("2001:db8::1", 80)
    assert world("v4.example", None, INET, socket.SOCK_RAW, 1) == [
        *socket.getaddrinfo("192.0.2.1", None, INET, socket.SOCK_RAW, 1),
        *socket.getaddrinfo("192.0.2.2", None, INET, socket.SOCK_RAW, 1),
    ]


def test_the_family_decides_what_is_asked(world: World) -> None:
    """GAI-4."""
    assert world.addresses("both.example", family=INET) == ["192.0.2.1"]
    assert world.addresses("both.example", family=INET6) == ["2001:db8::1"]
    assert world.asked == ["both.example. A", "both.example. AAAA"]


@pytest.mark.parametrize("failing", ["A", "AAAA"])
def test_one_answer_is_enough(world: World, failing: str) -> None:
    """GAI-4: where the other is SERVFAIL, or never comes."""
    world.failures[failing] = QueryTimeoutError("no answer")
    assert len(world.addresses("both.example")) == 1
    world.failures.clear()
    world.answers["both.example", failing] = "SERVFAIL"
    assert len(world.addresses("both.example")) == 1


def test_aliases_are_followed(world: World) -> None:
    """GAI-5: and the canonical name is the last one, told in the first entry alone."""
    world.answers["www.example", "CNAME"] = ["Alias.example."]
    world.answers["alias.example", "CNAME"] = ["both.example."]
    found = world("www.example", 80, type=STREAM, flags=socket.AI_CANONNAME)
    assert [(info[3], info[4][0]) for info in found] == [("both.example", "2001:db8::1"), ("", "192.0.2.1")]


@pytest.mark.parametrize("count", [15, 16, 17])
def test_a_chain_has_an_end(world: World, count: int) -> None:
    """GAI-5: 16 aliases, and no more; a circle is no address."""
    for number in range(count):
        world.answers[f"c{number}.example", "CNAME"] = [f"c{number + 1}.example."]
    world.answers[f"c{count}.example", "A"] = ["192.0.2.1"]
    if count <= 16:
        assert world.addresses("c0.example", family=INET) == ["192.0.2.1"]
    else:
        assert world.code("c0.example", family=INET) == socket.EAI_NODATA
    world.answers["round.example", "CNAME"] = ["about.example."]
    world.answers["about.example", "CNAME"] = ["round.example."]
    assert world.code("round.example") == socket.EAI_NODATA


@pytest.mark.parametrize(
    ("a", "aaaa", "code"),
    [
        ("NXDOMAIN", "NXDOMAIN", socket.EAI_NONAME),
        ([], [], socket.EAI_NODATA),
        ("SERVFAIL", "SERVFAIL", socket.EAI_AGAIN),
        ("SERVFAIL", [], socket.EAI_AGAIN),
        ("NXDOMAIN", "SERVFAIL", socket.EAI_NONAME),
        ("REFUSED", "REFUSED", socket.EAI_FAIL),
        ("REFUSED", "SERVFAIL", socket.EAI_AGAIN),
        ("NOTIMP", "NOTIMP", socket.EAI_AGAIN),
    ],
)
def test_codes(world: World, a: Any, aaaa: Any, code: int) -> None:
    """GAI-6: the cause is kept."""
    world.answers["none.example", "A"], world.answers["none.example", "AAAA"] = a, aaaa
    with pytest.raises(socket.gaierror) as caught:
        world("none.example")
    assert caught.value.errno == code
    assert isinstance(caught.value.__cause__, NoAddressError)


def test_what_never_came_may_come_next_time(world: World) -> None:
    """GAI-6."""
    world.failures = {"A": QueryTimeoutError("one"), "AAAA": QueryTimeoutError("two")}
    with pytest.raises(socket.gaierror) as caught:
        world("both.example")
    assert caught.value.errno == socket.EAI_AGAIN
    assert isinstance(caught.value.__cause__, QueryTimeoutError)


HOSTS = """
# a comment
192.0.2.50   printer.lan Printer PRINTER2.lan. # and another
192.0.2.51\tprinter.lan
2001:db8::50 printer.lan
fe80::1%lo   local-link
not-an-address nowhere.example
127.0.0.1 localhost
"""


def test_the_table_of_hosts_goes_first(tmp_path: Path) -> None:
    """GAI-7: aliases, case, both families, the canonical name; what is not there is asked."""
    world = World(tmp_path, HOSTS)
    for name in ("printer.lan", "PRINTER.LAN", "printer.lan."):
        assert set(world.addresses(name)) == {"192.0.2.50", "192.0.2.51", "2001:db8::50"}
    for alias in ("printer", "printer2.lan"):
        assert world.addresses(alias) == ["192.0.2.50"]
        assert world(alias, 80, type=STREAM, flags=socket.AI_CANONNAME)[0][3] == "printer.lan"
    assert world.asked == []
    assert world.code("printer2.lan", family=INET6) == socket.EAI_NONAME
    assert world.code("nowhere.example") == socket.EAI_NONAME
    assert world.asked == ["printer2.lan. AAAA", "nowhere.example. A", "nowhere.example. AAAA"]


def test_an_interface_of_another_system_does_no_harm(tmp_path: Path) -> None:
    """GAI-7: a line that lists of hosts bring along, for a system whose loopback interface has that name."""
    world = World(tmp_path, "fe80::1%no-such localhost\nfe80::2%1 localhost\n127.0.0.1 localhost\n10.0.0.1%1 localhost")
    assert world.addresses("localhost", family=INET) == ["127.0.0.1"]
    assert [address.partition("%")[0] for address in world.addresses("localhost", family=INET6)] == ["fe80::2"]


def test_the_table_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """GAI-7: and where there is none, it is empty."""
    world = World(tmp_path, "192.0.2.1 a.example")
    assert world.addresses("a.example") == ["192.0.2.1"]
    world.file.write_text("192.0.2.2 a.example")
    os.utime(world.file, (1, 1))
    assert world.addresses("a.example") == ["192.0.2.2"]
    world.file.unlink()
    assert world.code("a.example") == socket.EAI_NONAME


@pytest.mark.parametrize("name", ["localhost", "LocalHost.", "foo.localhost", "a.b.LOCALHOST.", b"localhost"])
def test_localhost_never_leaves_the_machine(world: World, name: Any) -> None:
    """GAI-8 (RFC 6761, section 6.3)."""
    assert set(world.addresses(name)) == {"127.0.0.1", "::1"}
    assert world.addresses(name, family=INET) == ["127.0.0.1"]
    assert world.addresses(name, family=INET6) == ["::1"]
    assert world.asked == []


@pytest.mark.parametrize("name", ["a.invalid", "INVALID.", "x.onion"])
def test_names_that_do_not_exist_are_never_asked(world: World, name: str) -> None:
    """GAI-8 (RFC 6761, section 6.4; RFC 7686)."""
    assert world.code(name) == socket.EAI_NONAME
    assert world.asked == []


def test_local_is_the_systems_unless_it_is_asked_for(world: World, tmp_path: Path) -> None:
    """GAI-8 (RFC 6762, section 3): names of multicast DNS that worked go on working."""
    assert world("printer.local", 631, INET, STREAM) == [("system", "printer.local", 631, INET, STREAM, 0, 0)]
    assert world.asked == []
    asking = World(tmp_path, asks_local=True)
    asking.answers["printer.local", "A"] = ["192.0.2.1"]
    assert asking.addresses("printer.local") == ["192.0.2.1"]


def test_a_name_of_one_label_stays_here(world: World, tmp_path: Path) -> None:
    """GAI-9: with a final dot it is absolute; with search domains it is looked for below them, in their order."""
    assert world.code("web") == socket.EAI_NONAME
    assert world.asked == []
    world.answers["web", "A"] = ["192.0.2.3"]
    assert world.addresses("web.") == ["192.0.2.3"]
    searching = World(tmp_path, search=["one.example", "two.example.", ""])
    searching.answers["web.two.example", "A"] = ["192.0.2.4"]
    assert searching.addresses("web", family=INET) == ["192.0.2.4"]
    assert searching.asked == ["web.one.example. A", "web.two.example. A"]
    searching.asked.clear()
    assert searching.code("other", family=INET) == socket.EAI_NONAME
    assert searching.asked == ["other.one.example. A", "other.two.example. A", "other. A"]
    searching.asked.clear()
    assert searching.code("a.b", family=INET) == socket.EAI_NONAME
    assert searching.asked == ["a.b. A", "a.b.one.example. A", "a.b.two.example. A"]
    searching.asked.clear()
    assert searching.code("a.b.", family=INET) == socket.EAI_NONAME
    assert searching.asked == ["a.b. A"]


def test_a_name_without_addresses_exists_whatever_the_search_says(tmp_path: Path) -> None:
    """GAI-6, GAI-9: the code is that of the name that is there, as with the C library."""
    world = World(tmp_path, search=["one.example"])
    world.answers["v4.example", "A"] = ["192.0.2.1"]
    assert world.code("v4.example", family=INET6) == socket.EAI_NODATA
    assert world.asked == ["v4.example. AAAA", "v4.example.one.example. AAAA"]


def test_a_failure_ends_the_search(tmp_path: Path) -> None:
    """GAI-9: another name's address would be the wrong one, where the first might have had one."""
    world = World(tmp_path, search=["one.example", "two.example"])
    world.answers["web.one.example", "A"] = "SERVFAIL"
    world.answers["web.two.example", "A"] = ["192.0.2.4"]
    assert world.code("web", family=INET) == socket.EAI_AGAIN


def test_search_domains_are_checked() -> None:
    for wrong in ("corp.example", ["a b"], [b"corp"], ["a..b"], 5):
        with pytest.raises(LocalProtocolError, match="search must be a list of domain names"):
            Rules(search=wrong)  # type: ignore[arg-type]


def test_families_without_a_route_are_left_out_where_it_is_wished(world: World) -> None:
    """GAI-10: only where the other family has one: a machine without any has loopback still."""
    flags = socket.AI_ADDRCONFIG
    assert len(world.addresses("both.example", flags=flags)) == 2
    del world.sources["2001:db8::1"]
    world.now = 5.0
    assert len(world.addresses("both.example", flags=flags)) == 2  # kept for 10 s
    world.now = 11.0
    assert world.addresses("both.example", flags=flags) == ["192.0.2.1"]
    assert world.code("both.example", family=INET6, flags=flags) == socket.EAI_NONAME
    del world.sources["192.0.2.1"]
    world.now = 22.0
    assert len(world.addresses("both.example", flags=flags)) == 2
    assert len(world.addresses("localhost", flags=flags)) == 2


def test_ipv4_addresses_as_ipv6_ones(world: World) -> None:
    """GAI-10: for AF_INET6 alone, and only where there are no others or all are wanted."""
    mapped, everything = socket.AI_V4MAPPED, socket.AI_V4MAPPED | socket.AI_ALL
    assert world.addresses("v4.example", family=INET6, flags=mapped) == ["::ffff:192.0.2.1", "::ffff:192.0.2.2"]
    assert world.addresses("both.example", family=INET6, flags=mapped) == ["2001:db8::1"]
    assert world.addresses("both.example", family=INET6, flags=everything) == ["2001:db8::1", "::ffff:192.0.2.1"]
    assert world.addresses("v4.example", family=INET, flags=mapped) == ["192.0.2.1", "192.0.2.2"]
    assert len(world.addresses("both.example", flags=everything)) == 2


ORDERS: list[tuple[dict[str, str], list[str]]] = [
    # Unreachable ones come last (rule 1).
    ({"198.51.100.1": "198.51.100.9"}, ["2001:db8::5", "198.51.100.1"]),
    # A source of the same scope (rule 2): a global address is not reached from a link-local one.
    ({"2001:db8::5": "fe80::9", "198.51.100.1": "198.51.100.9"}, ["2001:db8::5", "198.51.100.1"]),
    # The same label (rule 5): no 6to4 source for a native destination.
    ({"2001:db8::5": "2002:c000:201::1", "198.51.100.1": "198.51.100.9"}, ["2001:db8::5", "198.51.100.1"]),
    # IPv6 before IPv4 (rule 6).
    ({"198.51.100.1": "198.51.100.9", "2001:db8::5": "2001:db8::9"}, ["198.51.100.1", "2001:db8::5"]),
    # The longest common prefix (rule 9).
    ({"2001:db8:2::5": "2001:db8:1::9", "2001:db8:1::5": "2001:db8:1::9"}, ["2001:db8:2::5", "2001:db8:1::5"]),
    # The smaller scope (rule 8).
    ({"2001:db8::5": "2001:db8::9", "fe80::5": "fe80::9"}, ["2001:db8::5", "fe80::5"]),
]


@pytest.mark.parametrize(("sources", "given_"), ORDERS)
def test_the_order_of_addresses(sources: dict[str, str], given_: list[str]) -> None:
    """GAI-11 (RFC 6724, section 6): in each of these cases the last one is the best."""
    expected = given_[::-1]
    assert Routes(sources.get).ordered(given_) == expected
    assert Routes(sources.get).ordered(expected) == expected


def test_equally_good_ones_keep_their_order() -> None:
    """GAI-11: so that a server's own rotation stands; and at most 16 are probed."""
    probed: list[str] = []

    def source_of(address: str) -> str:
        probed.append(address)
        return "198.51.100.9"

    addresses = [f"192.0.2.{number}" for number in range(40)]
    assert Routes(source_of).ordered(addresses) == addresses
    assert len(probed) == 16
    near = ["2001:db8::5", "2001:db8::8", "2001:db8::a"]
    assert Routes(lambda _: "2001:db8::9").ordered(near) == near  # of one network, as near as each other
    probed.clear()
    assert Routes(source_of).ordered(addresses[:1]) == addresses[:1]
    assert probed == []


def test_the_kernels_own_choice() -> None:
    """GAI-11: nothing is sent to find it out."""
    routes = Routes()
    assert routes.ordered(["127.0.0.1"]) == ["127.0.0.1"]
    assert set(routes.ordered(["127.0.0.1", "192.0.2.1", "198.51.100.1"])) == {
        "127.0.0.1", "192.0.2.1", "198.51.100.1",
    }  # fmt: skip
    assert routes.families() <= {INET, INET6}


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("münchen.example", "xn--mnchen-3ya.example. A"),
        ("MÜNCHEN.example.", "xn--mnchen-3ya.example. A"),
        ("straße.example", "xn--strae-oqa.example. A"),
        ("xn--mnchen-3ya.example", "xn--mnchen-3ya.example. A"),
        ("_sip.example", "_sip.example. A"),
        ("1and1.example", "1and1.example. A"),
    ],
)
def test_internationalised_names(world: World, name: str, asked: str) -> None:
    """GAI-12: by UTS 46, as browsers do it."""
    assert world.code(name, family=INET) == socket.EAI_NONAME
    assert world.asked == [asked]


def test_without_the_library_they_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """GAI-12: Python's own codec knows the names of 2003, which may be somebody else's today."""
    monkeypatch.setitem(sys.modules, "idna", None)
    with pytest.raises(socket.gaierror) as caught:
        world("münchen.example")
    assert caught.value.errno == socket.EAI_NONAME
    assert "needs the package idna" in str(caught.value.__cause__)


# What is read out of messages.


def respond(name: str, rdtype: str, records: Sequence[tuple[str, str, str]]) -> bytes:
    query = dns.message.from_wire(make_query(name, rdtype))
    response = dns.message.make_response(query)
    for owner, kind, data in records:
        response.answer.append(dns.rrset.from_text(owner, 300, "IN", kind, data))
    return response.to_wire()


def test_only_what_belongs_to_the_name_counts() -> None:
    """GAI-5: records of others in the answer section are nobody's address."""
    response = respond("a.example", "A", [("b.example.", "A", "192.0.2.66"), ("A.EXAMPLE.", "A", "192.0.2.1")])
    assert records_in(response, "A").values == ("192.0.2.1",)


@pytest.mark.parametrize("code", ["NXDOMAIN", "SERVFAIL", "REFUSED"])
def test_an_error_has_no_addresses(code: str) -> None:
    """GAI-6: whatever else the response says."""
    response = dns.message.from_wire(respond("a.example", "A", [("a.example.", "A", "192.0.2.66")]))
    response.set_rcode(dns.rcode.from_text(code))
    found = records_in(response.to_wire(), "A")
    assert (found.rcode, found.values, found.ttl) == (response.rcode(), (), 0)


def of_pointers(count: int, label: bytes) -> bytes:
    """A response to ``a. A`` whose second record is of a name of ``count`` pointers, each behind ``label``."""
    octets = bytearray(b"\0\0\x81\x80\0\1\0\2\0\0\0\0" + b"\1a\0\0\1\0\1")
    octets += struct.pack("!HHHIH", 0xC00C, 16, 1, 60, (len(label) + 2) * (count - 1))
    target = 12
    for _ in range(count - 1):
        start = len(octets)
        octets += label + struct.pack("!H", 0xC000 | target)
        target = start
    return bytes(octets + struct.pack("!HHHIH4s", 0xC000 | target, 1, 1, 60, 4, b"\xc0\0\2\1"))


def test_a_name_is_not_made_of_pointers_alone() -> None:
    """GAI-5: 3,000 names of 8,000 pointers each have room in one message, and took 6 s to read; bounded."""
    assert records_in(of_pointers(127, b""), "A").values == ("192.0.2.1",)
    for count in (128, 5000):
        with pytest.raises(MessageError, match="more than 127 compression pointers"):
            records_in(of_pointers(count, b""), "A")
    assert records_in(of_pointers(127, b"\1b"), "A").values == ()  # of another name: 127 labels, each by a pointer


def test_a_name_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """GAI-5: 3,900 records of one name of 127 pointers took 0.3 s; now each costs two steps, as a short name does."""
    chain = of_pointers(127, b"\1b")
    record, count = chain[-16:], (0xFFFF - len(chain)) // 16
    response = chain[:6] + struct.pack("!H", count + 2) + chain[8:] + record * count
    steps = list[int]()

    def counted(message: bytes, offset: int) -> int:
        steps.append(offset)
        return skip_name(message, offset)

    monkeypatch.setattr(_addresses, "skip_name", counted)
    assert records_in(response, "A").values == ()
    assert len(steps) < 2 * (count + 2 * 127)


def test_octets_that_are_no_response_are_a_clear_error() -> None:
    """Whatever a server sends: an error of ours, never one from inside."""
    whole = respond("a.example", "A", [("a.example.", "CNAME", "b.example."), ("b.example.", "A", "192.0.2.1")])
    assert records_in(whole, "A").name == "b.example"
    for end in range(len(whole) - 11):  # OPT follows the answers
        with pytest.raises(MessageError):
            records_in(whole[:end], "A")
    with pytest.raises(MessageError, match="no response"):
        records_in(make_query("a.example"), "A")
    with pytest.raises(MessageError, match="an address of 4 octets"):
        records_in(whole.replace(b"\0\1\0\1\0\0\1\x2c\0\4", b"\0\x1c\0\1\0\0\1\x2c\0\4"), "AAAA")


@given(data=st.binary(max_size=80), head=st.binary(min_size=12, max_size=12))
def test_any_octets_end_in_records_or_in_an_error_of_ours(data: bytes, head: bytes) -> None:
    """Names in them may point anywhere."""
    for octets in (head + data, head[:2] + b"\x80\0\0\1\0\2\0\0\0\0" + b"\1a\0\0\1\0\1" + data):
        for rdtype in ("A", "AAAA", "PTR"):
            with contextlib.suppress(MessageError):
                records_in(octets, rdtype)


def test_the_smallest_ttl_counts() -> None:
    """RES-8: how long addresses may be kept."""
    query = dns.message.from_wire(make_query("a.example"))
    response = dns.message.make_response(query)
    response.answer.append(dns.rrset.from_text("a.example.", 30, "IN", "CNAME", "b.example."))
    response.answer.append(dns.rrset.from_text("b.example.", 300, "IN", "A", "192.0.2.1"))
    assert records_in(response.to_wire(), "A").ttl == 30
    queries = AddressQueries("a.example", ["A"])
    assert queries.read({0: response.to_wire()}) == (["192.0.2.1"], 30.0)


@pytest.mark.parametrize("types", ["A", ["MX"], [], [1], None])
def test_types_that_have_no_addresses(types: Any) -> None:
    with pytest.raises(LocalProtocolError, match="types"):
        AddressQueries("a.example", types)
