"""README.md: its commands, its transcript and its code are what they say.

``python tests/test_readme.py`` writes the transcript anew.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.message
import dns.rdatatype
import dns.rrset
import pytest
import trustme

from dot_io.blocking import Peer, serve
from dot_io.tls import ServerContext
from test_docs_tutorial import demonstration, neutral

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text("utf-8")

COMMANDS = [
    "python3 -m venv .venv && .venv/bin/pip install -q -e '.[cli,demo]' && .venv/bin/dot-proto demo",
    "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/python -m pytest -q",
]

TRANSCRIPT = re.compile(r"(<!-- transcript.*-->\n```\n)(.*?)(```\n<!-- /transcript -->)", re.DOTALL)

EXCERPT = [
    r"\$ dot-proto query -d .* \+tls-host=\S+",
    r";; DEBUG:  #1, O=dot-proto demo.*",
    r";; DEBUG:      SHA-256 PIN: .*, MATCH",
    r";; DEBUG: TLS, The certificate is trusted.*",
    r";; TLS session .*",
    r";; PADDING: .*",
    r"example.com\..*\tA\t.*",
    r";; Received .*",
    r"dot-proto: .* no pin matches;",
    r"dot-proto: no query was sent",
]
"What is shown of each of the ten lines: the first of the demonstration that matches, below the one before."


def excerpt() -> str:
    """The ten lines of what ``dot-proto demo`` prints that say most; dots stand for the rest of a long one."""
    lines = iter(demonstration().splitlines())
    found = [next(filter(None, (re.match(start, line) for line in lines))) for start in EXCERPT]
    return "".join(f"{match[0]}{' ...' if match[0] != match.string else ''}\n" for match in found)


def blocks(language: str) -> list[str]:
    """The code blocks in a language; ``""`` for those without one."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    return found


def test_first_screen() -> None:
    """One sentence that says what it is, the two commands, and the transcript, before anything else."""
    title, sentence, *_ = TEXT.split("\n\n")
    assert title == "# dot_proto"
    assert sentence.startswith("DNS over TLS ")
    assert re.fullmatch(r"[^.]*\.", sentence)
    first, _, _ = TEXT.partition("\n## ")
    assert re.findall(r"```\n(.*)\n```", first)[:2] == COMMANDS
    assert TRANSCRIPT.search(first)


def test_the_lines_are_those_of_the_demonstration() -> None:
    """All of it is in the tutorial, and compared there."""
    shown = TRANSCRIPT.search(TEXT)
    assert shown is not None
    assert neutral(shown[2]) == neutral(excerpt())
    assert len(shown[2].splitlines()) == 10


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", TEXT):
        assert (README.parent / target).exists(), target


def test_length() -> None:
    """A page that is read to its end."""
    assert len(TEXT.splitlines()) < 190


@pytest.fixture
def public_resolvers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """1.1.1.1 and the others on this machine, with a certificate that the system trusts; what they are asked."""
    asked: list[bytes] = []

    def answer(octets: bytes, peer: Peer) -> bytes:
        asked.append(octets)
        response = dns.message.make_response(dns.message.from_wire(octets))
        if response.question[0].rdtype == dns.rdatatype.A:
            response.answer.append(dns.rrset.from_text("example.com.", 60, "IN", "A", "192.0.2.1"))
        return response.to_wire()

    authority = trustme.CA()
    chain, root = tmp_path / "chain.pem", tmp_path / "root.pem"
    chain.write_bytes(authority.issue_cert("1.1.1.1", "dns.quad9.net").private_key_and_cert_chain_pem.bytes())
    root.write_bytes(authority.cert_pem.bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(root))
    with serve(answer, ServerContext(chain), port=0) as server:
        connect = socket.socket.connect

        def redirected(sock: socket.socket, address: Any) -> None:
            connect(sock, (server.host, server.port) if address[1] == 853 else address)

        monkeypatch.setattr(socket.socket, "connect", redirected)
        yield asked


def test_code_runs(public_resolvers: list[bytes], capsys: pytest.CaptureFixture[str]) -> None:
    """Every block of Python, unchanged, one after the other."""
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks("python"), 1):
        exec(compile(block, f"README.md, Python block {number}", "exec"), names)
    queries = list(map(dns.message.from_wire, public_resolvers))
    assert [query.question[0].to_text() for query in queries] == [
        f"example.com. IN {rdtype}" for rdtype in ("A", "AAAA", "MX", "AAAA")
    ]
    assert capsys.readouterr().out == "192.0.2.1\n"
    assert dns.message.from_wire(names["response"]).question == queries[-1].question


if __name__ == "__main__":
    README.write_text(TRANSCRIPT.sub(lambda found: found[1] + excerpt() + found[3], TEXT), "utf-8")
