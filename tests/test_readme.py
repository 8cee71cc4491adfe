"""README.md: its commands, its transcript and its code are what they say.

``python tests/test_readme.py`` writes the transcript anew.
"""

from __future__ import annotations

import contextlib
import io
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
from dot_io.cli import main
from dot_io.cli.exit_codes import ExitCode
from dot_io.tls import ServerContext

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text("utf-8")

COMMANDS = [
    "python3 -m venv .venv && .venv/bin/pip install -q -e '.[cli,demo]' && .venv/bin/dot-proto demo",
    "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/python -m pytest -q",
]

TRANSCRIPT = re.compile(r"(<!-- transcript.*-->\n```\n)(.*?)(```\n<!-- /transcript -->)", re.DOTALL)

VOLATILE = {
    r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{43}=": "PIN",
    r"/\S*/dot-proto-demo-[^/]*/": "FOLDER/",
    r"(?<=127\.0\.0\.1@)\d+|(?<=-p )\d+|(?<=port\()\d+": "PORT",
    r"(?<=; id: )\d+": "ID",
    r"\d+\.\d ms": "TIME",
    r"(?<=^;; Time ).*": "DATE",
    r"(?<=^;; TLS session ).*": "SESSION",
}
"What differs from run to run; the session's parts differ with OpenSSL's version."


def neutral(transcript: str) -> list[str]:
    """The lines without what differs from run to run."""
    for pattern, name in VOLATILE.items():
        transcript = re.sub(pattern, name, transcript, flags=re.MULTILINE)
    return transcript.splitlines()


def demonstration() -> str:
    """What ``dot-proto demo`` prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["demo"]) == ExitCode.ANSWER
    return out.getvalue()


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


def test_transcript_is_what_the_demonstration_prints() -> None:
    shown = TRANSCRIPT.search(TEXT)
    assert shown is not None
    assert neutral(shown[2]) == neutral(demonstration())


def test_transcript_shows_all_that_matters() -> None:
    """Hierarchy, pins, verdict, session, padding, answer, size, times, and the refusal."""
    shown = TRANSCRIPT.search(TEXT)
    assert shown is not None
    for part in [
        "received certificate hierarchy:",
        "SHA-256 PIN: ",
        ", MATCH\n",
        "The certificate is trusted.",
        ";; TLS session (TLS1.3)-(",
        ";; PADDING: 408 B",
        "93.184.216.34",
        ";; Received 468 B",
        "handshake ",
        "the server is refused: no pin matches",
        "The server received 1 query in all",
    ]:
        assert part in shown[2]


def test_exit_codes() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)}
    assert listed == set(map(int, ExitCode))


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


def test_code_runs(public_resolvers: list[bytes]) -> None:
    """Every block of Python, unchanged, one after the other."""
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks("python"), 1):
        exec(compile(block, f"README.md, Python block {number}", "exec"), names)
    queries = list(map(dns.message.from_wire, public_resolvers))
    assert [query.question[0].to_text() for query in queries] == [
        f"example.com. IN {rdtype}" for rdtype in ("AAAA", "A", "AAAA", "MX")
    ]
    assert names["addresses"] == ["192.0.2.1"]
    assert dns.message.from_wire(names["response"]).question == queries[-1].question


if __name__ == "__main__":
    README.write_text(TRANSCRIPT.sub(lambda found: found[1] + demonstration() + found[3], TEXT), "utf-8")
