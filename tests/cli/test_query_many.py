"""Several queries of one command line: their connections, their servers, their order, and the code of all."""

from __future__ import annotations

import itertools
import json
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import dns.rrset
import pytest

from cli.conftest import NAME, Certificates, Run, Site, an_address
from dot_io.blocking import Peer, serve
from dot_io.cli import query
from dot_io.cli.displays import Json
from dot_io.cli.exit_codes import ExitCode
from dot_io.cli.query_line import parse_query
from dot_io.tls import ServerContext
from dot_proto import ServerConfiguration

Starts = Callable[..., int]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


class Counting:
    """A server that counts its connections."""

    def __init__(self, certificates: Certificates, configuration: ServerConfiguration | None = None) -> None:
        self.peers: list[Peer] = []
        self._server = serve(self._answer, ServerContext(certificates.chain), port=0, configuration=configuration)
        self.port = self._server.port

    def _answer(self, octets: bytes, peer: Peer) -> bytes:
        self.peers.append(peer)
        return an_address(dns.message.from_wire(octets))

    def __enter__(self) -> Counting:
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.__exit__(None, None, None)


def test_several_questions(run: Run, at: str, site: Site) -> None:
    """FR-47, Q1: as in dig; each in full, and an empty line between."""
    code, out, err = run(f"query {at} +short a.test A b.test AAAA a.test TXT")
    assert (code, err) == (0, "")
    assert [(str(one.question[0].name), int(one.question[0].rdtype)) for one in site.queries] == [
        ("a.test.", 1),
        ("b.test.", 28),
        ("a.test.", 16),
    ]
    assert out.count("93.184.216.34\n") == 3
    out = run(f"query {at} a.test A AAAA").out
    assert (out.count("HEADER"), out.count(";; TLS session"), out.count(" ms\n\n;; TLS session")) == (2, 2, 1)


def test_one_connection_for_all_with_the_same_settings(run: Run, certificates: Certificates) -> None:
    """Section 0, decision 1: what is shown, and what is asked, may differ."""
    with Counting(certificates) as server:
        where = f"@127.0.0.1 -p {server.port} +tls-ca={certificates.root}"
        assert run(f"query {where} a.test b.test +short c.test MX +dnssec d.test +nopadding").code == 0
    assert (len(server.peers), len(set(server.peers))) == (4, 1)


def test_another_policy_is_another_connection(run: Run, certificates: Certificates) -> None:
    with Counting(certificates) as server:
        where = f"@127.0.0.1 -p {server.port} +tls-ca={certificates.root}"
        assert run(f"query {where} a.test b.test +tls-host={NAME} c.test").code == 0
    assert len(set(server.peers)) == 2
    assert server.peers[0] == server.peers[2]


def test_answers_come_in_the_order_of_the_line(run: Run, at: str, site: Site) -> None:
    """Also where the server answers in another one."""
    names = [f"n{number}.test" for number in range(40)]

    def echo(asked: dns.message.Message) -> bytes:
        response = dns.message.make_response(asked)
        name = asked.question[0].name.to_text()
        response.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", name))
        return response.to_wire()

    site.respond = echo
    assert run(f"query {at} +short {' '.join(names)}").out.split() == [f"{name}." for name in names]


def test_ten_thousand_names_over_one_connection(run: Run, certificates: Certificates, tmp_path: Path) -> None:
    """Q8."""
    file = tmp_path / "names"
    file.write_text("".join(f"n{number}.test\n" for number in range(10_000)))
    peers: list[Peer] = []

    def answer(octets: bytes, peer: Peer) -> bytes:
        peers.append(peer)
        return octets[:2] + b"\x81\x80" + octets[4:]  # no data: dnspython would take longer than all else

    with serve(answer, ServerContext(certificates.chain), port=0) as server:
        where = f"@127.0.0.1 -p {server.port} +tls-ca={certificates.root}"
        code, out, err = run(f"query {where} +noall +question -f {file}")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == [f";;n{number}.test." for number in range(10_000)]
    assert (len(peers), len(set(peers))) == (10_000, 1)


def test_a_server_that_closes_between_answers_is_connected_to_again(run: Run, certificates: Certificates) -> None:
    """Q.1, row 37: kdig dies of SIGPIPE there."""
    with Counting(certificates, ServerConfiguration(max_queries=3)) as server:
        where = f"@127.0.0.1 -p {server.port} +tls-ca={certificates.root} +short"
        code, out, err = run(f"query {where} {' '.join(f'n{number}.test' for number in range(20))}")
    assert (code, err, out.count("\n")) == (0, "", 20)
    assert len(set(server.peers)) > 1


def test_each_name_its_own_server(run: Run, certificates: Certificates) -> None:
    """Q.1, row 38."""
    with Counting(certificates) as first, Counting(certificates) as second:
        tail = f"+tls-ca={certificates.root} +short"
        line = f"a.test @127.0.0.1:{first.port} {tail} b.test @127.0.0.1:{second.port} {tail}"
        assert run(f"query {line}").code == 0
    assert (len(first.peers), len(second.peers)) == (1, 1)


# Several servers.


def test_the_second_server_is_asked_where_the_first_is_dead(run: Run, site: Site, certificates: Certificates) -> None:
    """Q7, row 48; the reason why is told."""
    dead = closed_port()
    where = f"@127.0.0.1:{dead} @127.0.0.1:{site.port} +tls-ca={certificates.root}"
    code, out, err = run(f"query {where} +short a.test")
    assert (code, out) == (0, "93.184.216.34\n")
    assert err.startswith(f"dot-proto: warning: 127.0.0.1@{dead}: no TCP connection")
    assert err.endswith("; the next server is tried\n")
    document = json.loads(run(f"query {where} +json a.test").out)
    assert document["tls"]["server"] == f"127.0.0.1@{site.port}"
    assert len(document["tls"]["warnings"]) == 1


def test_the_second_server_is_asked_where_the_first_is_silent(
    run: Run, site: Site, tls_rogue: Starts, certificates: Certificates
) -> None:
    def silence(tls: ssl.SSLSocket, asked: bytes) -> None:
        with suppress(OSError):
            tls.recv(1)

    where = f"@127.0.0.1:{tls_rogue(silence)} @127.0.0.1:{site.port} +tls-ca={certificates.root} +timeout=0.5"
    assert run(f"query {where} +short a.test").out == "93.184.216.34\n"


def test_a_refused_server_ends_the_run(
    run: Run, site: Site, site_with: Callable[[Path], Site], certificates: Certificates
) -> None:
    """Q7: neither the second server nor the next name is asked: whoever is in the way should not choose for us."""
    wrong = site_with(certificates.issue("other.test")[0])
    where = f"@127.0.0.1:{wrong.port} @127.0.0.1:{site.port} +tls-ca={certificates.root}"
    code, out, err = run(f"query {where} a.test b.test c.test @127.0.0.1:{site.port}")
    assert (code, out) == (ExitCode.NAME, "")
    assert (wrong.asked, site.asked) == ([], [])
    assert err.endswith("dot-proto: no query was sent\ndot-proto: 2 queries were not asked\n")


def test_all_servers_are_dead(run: Run) -> None:
    first, second = closed_port(), closed_port()
    code, out, err = run(f"query @127.0.0.1:{first} @127.0.0.1:{second} a.test b.test")
    assert (code, out, err.count("\n")) == (ExitCode.NO_REPLY, "", 3)
    assert err.endswith("dot-proto: 1 query was not asked\n")


def test_one_query_without_an_answer_takes_nothing_from_the_others(run: Run, at: str, site: Site) -> None:
    def some(asked: dns.message.Message) -> bytes | None:
        return None if asked.question[0].name.to_text() == "b.test." else an_address(asked)

    site.respond = some
    code, out, err = run(f"query {at} +short +timeout=0.5 a.test b.test c.test")
    assert (code, out, err.count("\n")) == (ExitCode.NO_REPLY, "93.184.216.34\n93.184.216.34\n", 1)
    assert "no answer within 0.5 s" in err


# The code of all (Q20).


def _of(kind: str, certificates: Certificates, site: Site, ports: dict[str, int]) -> str:
    ca = f"+tls-ca={certificates.root}"
    return {
        "answer": f"a.test @127.0.0.1:{site.port} {ca}",
        "rcode": f"nx.test @127.0.0.1:{site.port} {ca} --fail",
        "silence": f"a.test @127.0.0.1:{ports['closed']}",
        "protocol": f"broken.test @127.0.0.1:{site.port} {ca} +timeout=3",
        "untrusted": f"a.test @127.0.0.1:{site.port}",
        "name": f"a.test @127.0.0.1:{site.port} {ca} +tls-host=other.test",
        "pin": f"a.test @127.0.0.1:{site.port} {ca} +tls-pin={certificates.other_pin}",
    }[kind]


CODES = {
    "answer": ExitCode.ANSWER,
    "rcode": ExitCode.FAILED_RCODE,
    "silence": ExitCode.NO_REPLY,
    "protocol": ExitCode.PROTOCOL,
    "untrusted": ExitCode.UNTRUSTED,
    "name": ExitCode.NAME,
    "pin": ExitCode.PIN,
}

PAIRS = [pair for pair in itertools.product(CODES, repeat=2) if pair != ("protocol", "protocol")]
"All but one: the server that breaks the protocol takes one connection."

REFUSED = ("untrusted", "name", "pin")


def _any_answer(asked: dns.message.Message) -> bytes:
    name = asked.question[0].name.to_text()
    response = dns.message.from_wire(an_address(asked))
    if name == "nx.test.":
        response.set_rcode(dns.rcode.NXDOMAIN)
    octets = response.to_wire()
    return octets + b"junk" if name == "broken.test." else octets


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_worst_code_of_two(
    first: str,
    second: str,
    run: Run,
    site: Site,
    tls_rogue: Starts,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Q20: a refusal ends the run; otherwise the first of the list that is stated."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    site.respond = _any_answer
    ports = {"closed": closed_port()}
    if "protocol" in (first, second):
        # The engine of our own server sends no such answer.
        def behave(tls: ssl.SSLSocket, asked: bytes) -> None:
            broken = _any_answer(dns.message.from_wire(asked[2:]))
            tls.sendall(len(broken).to_bytes(2) + broken)
            with suppress(OSError):
                tls.recv(1)

        ports["broken"] = tls_rogue(behave)
    lines = []
    for kind in (first, second):
        line = _of(kind, certificates, site, ports)
        lines.append(line.replace(str(site.port), str(ports["broken"])) if kind == "protocol" else line)
    result = run(f"query +short {lines[0]} {lines[1]}")
    codes = [CODES[first]] if first in REFUSED else [CODES[first], CODES[second]]
    assert result.code == min(codes, key=query.WORST_FIRST.index)


def test_every_code_has_its_place() -> None:
    """Those that cannot come of a query are told at once."""
    assert set(ExitCode) - set(query.WORST_FIRST) == {ExitCode.INTERNAL, ExitCode.BATCH_FILE}


@pytest.mark.parametrize(("words", "code"), [("--fail", 30), ("", 0), ("--fail +short", 30), ("--fail +json", 30)])
def test_fail(words: str, code: int, run: Run, at: str, site: Site) -> None:
    """Q20: shown all the same, and not a word on stderr: the answer says it."""
    site.respond = _any_answer
    got, out, err = run(f"query {at} {words} nx.test")
    assert (got, err) == (code, "")
    assert out
    assert run(f"query {at} {words} a.test").code == 0


# JSON (Q17).


def test_json_of_several_queries_is_one_array(run: Run, at: str) -> None:
    """stdout is one JSON text."""
    found = json.loads(run(f"query {at} +json a.test b.test MX").out)
    assert [(one["QNAME"], one["QTYPEname"]) for one in found] == [("a.test.", "A"), ("b.test.", "MX")]


def test_jsonl_is_a_line_for_each(run: Run, at: str) -> None:
    lines = run(f"query {at} +jsonl a.test b.test MX").out.splitlines()
    assert [json.loads(line)["QNAME"] for line in lines] == ["a.test.", "b.test."]


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("form", ["+json", "+jsonl"])
def test_json_of_every_exit(
    kind: str, form: str, run: Run, site: Site, tls_rogue: Starts, certificates: Certificates
) -> None:
    """Q17: the question, and what went wrong as stderr has it; one object, or an array for several queries."""
    site.respond = _any_answer
    line = _of(kind, certificates, site, {"closed": closed_port()})
    if kind == "protocol":

        def behave(tls: ssl.SSLSocket, asked: bytes) -> None:
            broken = _any_answer(dns.message.from_wire(asked[2:]))
            tls.sendall(len(broken).to_bytes(2) + broken)
            with suppress(OSError):
                tls.recv(1)

        line = line.replace(str(site.port), str(tls_rogue(behave)))
    code, out, err = run(f"query {form} {line}")
    assert code == CODES[kind]
    document = json.loads(out)
    assert [f"dot-proto: {one}" for one in document["tls"]["errors"]] == err.splitlines()
    assert document["QNAME"] == line.split()[0] + "."
    if kind in REFUSED:
        assert document["tls"]["verdict"]["accepted"] is False
    if kind == "rcode":
        assert document["RCODEname"] == "NXDOMAIN"


def test_json_of_several_with_failures_is_an_array_too(run: Run, at: str) -> None:
    code, out, _ = run(f"query +json {at} a.test b.test -p {closed_port()}")
    first, second = json.loads(out)
    assert code == ExitCode.NO_REPLY
    assert (first["RCODE"], second["QNAME"]) == (0, "b.test.")
    assert second["tls"]["errors"]


@pytest.mark.parametrize("shown", [0, 1])
def test_json_of_several_is_whole_whatever_happens(
    shown: int, run: Run, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Q17: also after a defect of ours, and after Ctrl-C."""
    real = Json.answer
    seen: list[object] = []

    def answer(display: Json, *arguments: Any) -> str | None:
        seen.append(display)
        if len(seen) > shown:
            raise KeyboardInterrupt
        return real(display, *arguments)

    monkeypatch.setattr(Json, "answer", answer)
    code, out, _ = run(f"query {at} +json a.test b.test")
    assert (code, len(json.loads(out))) == (130, shown)


def test_what_kdig_means_by_tls_alone(run: Run, site: Site) -> None:
    """Q.1, row 53: strict by design, and the message says so."""
    code, _, err = run(f"query @127.0.0.1 -p {site.port} +tls a.test")
    assert code == ExitCode.UNTRUSTED
    assert err.endswith("dot-proto: kdig's +tls alone asks whoever answers; here that is +opportunistic\n")


def test_wrong_usage_leaves_stdout_empty(run: Run) -> None:
    assert run("query @192.0.2.1 +json +nonsense a.test")[:2] == (ExitCode.USAGE, "")
    assert run("query @192.0.2.1 +json +tls-ca=/nowhere.pem a.test")[:2] == (ExitCode.USAGE, "")


def test_queries_are_independent_of_their_number() -> None:
    """A line read once and one read as two are the same queries."""
    both = parse_query(["@s", "+short", "a.test", "b.test", "MX"])
    assert both == [*parse_query(["@s", "+short", "a.test"]), *parse_query(["@s", "+short", "b.test", "MX"])]
