"""``dot-proto demo``: the whole transcript, the refusal, and the server's own count."""

from __future__ import annotations

import os
import re
import shlex
import stat
import tempfile
from pathlib import Path

import dns.message
import pytest

from cli.conftest import Run
from dot_io.blocking import Peer
from dot_io.cli import demo, query
from dot_io.cli.exit_codes import ExitCode
from dot_io.cli.query_arguments import QueryArguments
from support.ipv6 import take_ipv4_away

PEER = Peer("127.0.0.1", 1)
SOA = "ns1.example.com. hostmaster.example.com. 2018033101 3600 900 604800 300"


def test_demonstration(run: Run) -> None:
    """One query answered, one server refused with code 23, and one query received in all."""
    code, out, err = run("demo")
    assert (code, err) == (0, "")
    right, wrong = out.split("$ dot-proto query ")[1:]
    assert "MATCH" in right
    assert ";; DEBUG: TLS, The certificate is trusted.\n" in right
    assert "\nexample.com.        \t2347\tIN\tA\t93.184.216.34\n" in right
    assert ";; Received 468 B\n" in right
    assert right.rstrip().endswith("$ echo $?\n0\n\nThe same with the pin of another key:")
    assert "the server is refused: no pin matches; " in wrong
    assert "dot-proto: no query was sent\n$ echo $?\n23\n" in wrong
    assert "The server received 1 query in all" in wrong


def test_demonstration_on_a_machine_with_ipv6_only(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """FR-80: the server is on ::1, and the command lines say so."""
    take_ipv4_away(monkeypatch)
    code, out, err = run("demo")
    assert (code, err) == (0, "")
    assert len(re.findall(r"^\$ dot-proto query .*@::1 -p [0-9]+ ", out, re.MULTILINE)) == 2


def test_command_lines_are_those_that_were_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is shown is what is parsed: a reader may type it."""
    seen: list[QueryArguments] = []
    real = query.run

    def recording(queries: list[QueryArguments]) -> int:
        seen.extend(queries)
        return real(queries)

    monkeypatch.setattr(query, "run", recording)
    shown = re.findall(r"^\$ dot-proto (query .*)$", run("demo").out, re.MULTILINE)
    assert len(shown) == len(seen) == 2
    for line, arguments in zip(shown, seen, strict=True):
        [server] = arguments.servers
        assert f"@{server.host} -p {server.port} +tls-ca={arguments.session.ca_file} " in line
        assert shlex.split(line)[-1] == "example.com"
    assert seen[0].session.pins != seen[1].session.pins


def test_private_key_is_readable_for_its_owner_and_then_gone(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    modes: list[int] = []
    real = query.run

    def looking(queries: list[QueryArguments]) -> int:
        [folder] = tmp_path.iterdir()
        modes.extend(stat.S_IMODE(os.stat(one).st_mode) for one in (folder, folder / "server-1.pem"))
        return real(queries)

    monkeypatch.setattr(query, "run", looking)
    run("demo")
    assert modes == [0o700, 0o600] * 2
    assert list(tmp_path.iterdir()) == []


def test_demonstration_that_does_not_go_as_promised_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is evidence too: here the wrong pin is accepted."""
    monkeypatch.setattr(query, "run", lambda queries: ExitCode.ANSWER)
    code, out, _ = run("demo")
    assert code == ExitCode.INTERNAL
    assert "The server received 0 queries in all" in out


@pytest.mark.parametrize(
    ("name", "rdtype", "rcode", "answers", "authorities"),
    [
        ("example.com", "A", "NOERROR", ["93.184.216.34"], 0),
        ("EXAMPLE.com", "AAAA", "NOERROR", ["2606:2800:220:1:248:1893:25c8:1946"], 0),
        ("example.com", "MX", "NOERROR", ["10 mail.example.com."], 0),
        ("example.com", "TXT", "NOERROR", ['"v=spf1 -all"'], 0),
        ("example.com", "NS", "NOERROR", ["ns1.example.com."], 0),
        (
            "example.com",
            "SOA",
            "NOERROR",
            ["ns1.example.com. hostmaster.example.com. 2018033101 3600 900 604800 300"],
            0,
        ),
        ("example.com", "CAA", "NOERROR", [], 1),
        ("nowhere.example.com", "A", "NXDOMAIN", [], 1),
        ("example.net", "A", "NXDOMAIN", [], 1),
    ],
)
def test_zone(name: str, rdtype: str, rcode: str, answers: list[str], authorities: int) -> None:
    """No data and NXDOMAIN come with the SOA (RFC 2308, section 3)."""
    zone = demo.Zone()
    response = dns.message.from_wire(zone.answer(dns.message.make_query(name, rdtype).to_wire(), PEER))
    assert dns.rcode.to_text(response.rcode()) == rcode
    assert [record.to_text() for one in response.answer for record in one] == answers
    assert len(response.authority) == authorities
    assert zone.received == 1
