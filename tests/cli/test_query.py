"""``dot-proto query`` against servers on loopback: what it sends, shows, and returns."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import signal
import socket
import ssl
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.conftest import NAME, Certificates, Run, Site, an_address
from cli.test_presentation import SEED
from dot_io.cli import _failures, main, query
from dot_io.cli._errors import UsageError
from dot_io.cli.arguments import parse_pin
from dot_io.cli.exit_codes import ExitCode
from dot_io.cli.queries import build
from dot_io.cli.query_line import parse_query
from dot_io.cli.tables import QUERY
from dot_io.errors import ConnectionLostError
from dot_proto import Cause, DoTError, Fault, LocalProtocolError, RemoteProtocolError

Starts = Callable[..., int]

LIMIT = 20.0
"Seconds that a process may take; none should need two."


# An answer.


@pytest.mark.parametrize("from_the_system", [False, True])
def test_seed_command_line(
    from_the_system: bool,
    certificates: Certificates,
    site_with: Callable[[Path], Site],
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The provider's own example, but for the loopback address: every line of it comes, in its order."""
    chain, _ = certificates.issue("*.cloudflare-dns.com", "cloudflare-dns.com")
    site = site_with(chain)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.root))
    anchors = "+tls-ca" if from_the_system else f"+tls-ca={certificates.root}"
    code, out, err = run(f"query -d @127.0.0.1 -p {site.port} {anchors} +tls-host=cloudflare-dns.com  example.com")
    assert (code, err) == (0, "")
    lines = iter(out.splitlines())
    volatile = {0, 1, *range(3, 7), 9, 10, len(SEED) - 3, len(SEED) - 2, len(SEED) - 1}
    for number, line in enumerate(SEED):
        if number not in volatile:
            assert line in lines, f"{line!r} is missing, or not in its place"
    source = "system certificates" if from_the_system else f"certificates from '{certificates.root}'"
    assert re.search(rf"^;; DEBUG: TLS, imported \d+ {source}$", out, re.MULTILINE)
    server = f"server(127.0.0.1), port({site.port}), protocol(TCP)"
    assert out.startswith(f";; DEBUG: Querying for owner(example.com.), class(1), type(1), {server}\n")
    assert re.search(
        r"^;; TLS session \(TLS1\.3\)-\(ECDHE-\w+\)-\(ECDSA-SECP256R1-SHA256\)-\(\S+\)$", out, re.MULTILINE
    )
    assert "\n;; DEBUG: TLS, ALPN dot, full handshake\n" in out
    assert re.search(rf"^;; From 127\.0\.0\.1@{site.port}\(TCP\) in \d+\.\d ms$", out, re.MULTILINE)
    assert re.search(r"^;; DEBUG: Time: connect \S+ ms, handshake \S+ ms, answer \S+ ms$", out, re.MULTILINE)


def test_debug_shows_what_was_sent_and_what_was_validated_apart(run: Run, at: str, certificates: Certificates) -> None:
    """The root is never sent; it ends the chain all the same."""
    out = run(f"query -d {at} example.com").out
    sent, validated = out.split(";; DEBUG: TLS, validated certificate chain:")
    assert [line.split(", ", 1)[1] for line in sent.splitlines() if re.search(r" #\d, ", line)] == [
        f"O=test,OU=server,CN={NAME}",
        "O=test,OU=intermediate",
    ]
    assert sent.count("SHA-256 PIN") == 2
    assert validated.count("SHA-256 PIN") == 3
    assert f"SHA-256 PIN: {certificates.pin}\n" in sent
    assert f"SHA-256 PIN: {certificates.issuer_pin}\n" in validated


def test_without_debug_neither_certificates_nor_times(run: Run, at: str) -> None:
    out = run(f"query {at} example.com").out
    assert out.startswith(";; TLS session (TLS1.3)-")
    assert "DEBUG" not in out


def test_short(run: Run, at: str) -> None:
    assert run(f"query {at} example.com +short") == (0, "93.184.216.34\n", "")


def test_nxdomain_is_an_answer(run: Run, at: str, site: Site) -> None:
    def nothing(asked: dns.message.Message) -> bytes:
        response = dns.message.make_response(asked)
        response.set_rcode(dns.rcode.NXDOMAIN)
        return response.to_wire()

    site.respond = nothing
    code, out, err = run(f"query {at} nowhere.example")
    assert (code, err) == (ExitCode.ANSWER, "")
    assert "status: NXDOMAIN" in out


def test_json(run: Run, at: str, certificates: Certificates) -> None:
    """RFC 8427, with one member more; the figures are those of the transcript."""
    code, out, err = run(f"query {at} +tls-pin={certificates.pin} example.com +json -d")
    document = json.loads(out)
    tls = document.pop("tls")
    assert (code, err) == (0, "")
    assert (document["RCODE"], document["QNAME"], document["msgLength"]) == (0, "example.com.", 468)
    assert [record["rdataA"] for record in document["answerRRs"]] == ["93.184.216.34"]
    assert (tls["version"], tls["alpn"], tls["resumed"], tls["errors"]) == ("TLSv1.3", "dot", False, [])
    assert tls["signature"] == "ECDSA-SECP256R1-SHA256"
    verdict = tls["verdict"]
    assert (verdict["authenticated"], verdict["reason"]) == (True, None)
    assert (verdict["matchedPin"], verdict["matchedDepth"]) == (str(certificates.pin), 0)
    assert (len(verdict["presented"]), len(verdict["validated"])) == (2, 3)
    assert tls["times"]["total"] == pytest.approx(sum(tls["times"][one] for one in ("connect", "handshake", "answer")))


def test_json_of_a_failure(run: Run, at: str, certificates: Certificates) -> None:
    """One object whatever happens, so that a program need not read two forms."""
    code, out, err = run(f"query {at} +tls-pin={certificates.other_pin} example.com +json")
    tls = json.loads(out)["tls"]
    assert code == ExitCode.PIN
    assert tls["verdict"]["reason"] == "pin"
    assert tls["times"] is None
    assert [f"dot-proto: {line}" for line in tls["errors"]] == err.splitlines()


def test_json_without_a_connection(run: Run) -> None:
    code, out, _ = run(f"query @127.0.0.1 -p {_closed_port()} example.com +json")
    assert code == ExitCode.NO_REPLY
    assert json.loads(out)["tls"]["verdict"] is None


# What the server receives.


def _padding(message: dns.message.Message) -> int | None:
    [*options] = [option for option in message.options if option.otype == dns.edns.OptionType.PADDING]
    return len(options[0].to_wire() or b"") if options else None


@pytest.mark.parametrize(
    ("option", "block"), [("", 128), ("+padding", 128), ("+padding=64", 64), ("--padding=468", 468)]
)
def test_query_is_padded(option: str, block: int, run: Run, at: str, site: Site) -> None:
    """RFC 8467, section 4.1: 128 octets unless told otherwise."""
    assert run(f"query {at} {option} example.com").code == 0
    assert len(site.asked[0]) == block
    assert _padding(site.queries[0]) is not None


def test_no_padding(run: Run, at: str, site: Site) -> None:
    """Then neither is the response padded (RFC 7830, section 4)."""
    out = run(f"query {at} +nopadding example.com").out
    assert _padding(site.queries[0]) is None
    assert "PADDING" not in out


def test_edns(run: Run, at: str, site: Site) -> None:
    """RD and AD, as dig and kdig have them, no DO, and no keepalive: it is asked for by name."""
    run(f"query {at} example.com")
    [asked] = site.queries
    assert (asked.flags, asked.edns, asked.payload, asked.ednsflags) == (dns.flags.RD | dns.flags.AD, 0, 1232, 0)
    assert [option.otype for option in asked.options] == [dns.edns.OptionType.PADDING]


@pytest.mark.parametrize(("option", "flags"), [("+dnssec", dns.flags.DO), ("+dnssec +nodnssec", 0)])
def test_dnssec(option: str, flags: int, run: Run, at: str, site: Site) -> None:
    run(f"query {at} {option} example.com")
    assert site.queries[0].ednsflags == flags


@pytest.mark.parametrize(
    ("words", "name", "rdtype", "rdclass"),
    [
        ("example.com", "example.com.", "A", "IN"),
        ("example.com. aaaa", "example.com.", "AAAA", "IN"),
        ("version.bind TXT CH", "version.bind.", "TXT", "CH"),
        ("bücher.example MX", "xn--bcher-kva.example.", "MX", "IN"),
        ("-x 192.0.2.1", "1.2.0.192.in-addr.arpa.", "PTR", "IN"),
        ("example.com TYPE65280", "example.com.", "TYPE65280", "IN"),
    ],
)
def test_question(words: str, name: str, rdtype: str, rdclass: str, run: Run, at: str, site: Site) -> None:
    assert run(f"query {at} {words}").code == 0
    [question] = site.queries[0].question
    asked = dns.rdatatype.to_text(question.rdtype), dns.rdataclass.to_text(question.rdclass)
    assert (question.name.to_text(), *asked) == (name, rdtype, rdclass)


def test_id_is_not_foreseen(run: Run, at: str, site: Site) -> None:
    """RFC 5452, section 9.2: on the wire; four ids alike come about once in 2**48."""
    for _ in range(4):
        run(f"query {at} example.com")
    assert len({asked.id for asked in site.queries}) > 1


def test_tls12_only(run: Run, at: str) -> None:
    assert run(f"query {at} +tls1.2 example.com").out.startswith(";; TLS session (TLS1.2)-")


def test_key_material_is_written_where_asked_for(
    run: Run, at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSLKEYLOGFILE; nobody else may read it."""
    file = tmp_path / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(file))
    assert run(f"query {at} example.com").code == 0
    assert "CLIENT_TRAFFIC_SECRET_0 " in file.read_text("ascii")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


# Whom is trusted.


def test_address_is_looked_for_in_the_certificate(run: Run, site: Site, certificates: Certificates) -> None:
    """Without a name, the address that is dialled (RFC 8310, section 5)."""
    assert run(f"query @127.0.0.1 -p {site.port} +tls-ca={certificates.root} example.com").code == 0


def test_name_of_the_server_is_looked_for_in_the_certificate(run: Run, site: Site, certificates: Certificates) -> None:
    assert run(f"query @localhost:{site.port} +tls-ca={certificates.root} example.com").code == 0


def test_name_behind_the_server(run: Run, site: Site, certificates: Certificates) -> None:
    assert run(f"query @127.0.0.1:{site.port}#{NAME} +tls-ca={certificates.root} example.com").code == 0


def test_pins_alone(run: Run, site: Site, certificates: Certificates) -> None:
    """No trust store is read: the leaf's key is the server's identity (RFC 7858, appendix A)."""
    pins = f"+tls-pin={certificates.other_pin} +tls-pin={certificates.pin}"
    code, out, _ = run(f"query -d @127.0.0.1 -p {site.port} {pins} example.com")
    assert code == 0
    assert "imported" not in out
    assert f"SHA-256 PIN: {certificates.pin}, MATCH" in out
    assert "TLS, skipping certificate verification" in out


def test_pin_of_the_issuer_counts_in_the_validated_chain(run: Run, at: str, certificates: Certificates) -> None:
    code, out, _ = run(f"query -d {at} +tls-pin={certificates.issuer_pin} example.com")
    assert code == 0
    assert "TLS, the PIN of certificate #2 of the validated chain matches" in out


def test_pin_of_the_issuer_alone_is_refused(run: Run, site: Site, certificates: Certificates) -> None:
    """AUT: the issuer's certificate was merely sent."""
    code, out, err = run(f"query -d @127.0.0.1 -p {site.port} +tls-pin={certificates.issuer_pin} example.com")
    assert code == ExitCode.PIN
    assert "pinned, but was only sent: proves nothing" in out
    assert "to pin an issuer give a name too" in err
    assert site.asked == []


def test_opportunistic(run: Run, site: Site) -> None:
    """Whoever answers is asked, since that was asked for."""
    assert run(f"query @127.0.0.1 -p {site.port} example.com +short").code == ExitCode.UNTRUSTED
    code, out, _ = run(f"query -d @127.0.0.1 -p {site.port} +opportunistic example.com")
    assert code == 0
    assert "TLS, skipping certificate verification" in out


@pytest.mark.parametrize("debug", ["", "-d"])
@pytest.mark.parametrize(
    ("case", "code", "says"),
    [
        ("pin", ExitCode.PIN, "no pin matches"),
        ("issuer", ExitCode.UNTRUSTED, "does not lead to a trust anchor"),
        ("name", ExitCode.NAME, "the certificate is not for other.example"),
        ("expired", ExitCode.UNTRUSTED, "certificate #1 is expired 3 days ago"),
    ],
)
def test_refusal(
    case: str,
    code: ExitCode,
    says: str,
    debug: str,
    run: Run,
    site_with: Callable[[Path], Site],
    certificates: Certificates,
) -> None:
    """AUT: each reason has its code; no query octet is sent; -d shows the certificates all the same, as kdig does."""
    until = datetime.now(UTC) - timedelta(days=3, hours=1) if case == "expired" else None
    chain, pin = certificates.issue(NAME, until=until)
    site = site_with(chain)
    root = certificates.other_root if case == "issuer" else certificates.root
    pins = f"+tls-pin={certificates.other_pin}" if case == "pin" else ""
    name = "other.example" if case == "name" else NAME
    result = run(f"query {debug} @127.0.0.1 -p {site.port} +tls-ca={root} +tls-host={name} {pins} example.com")
    assert result.code == code
    first, *_, last = result.err.splitlines()
    assert first.startswith(f"dot-proto: 127.0.0.1@{site.port}: the server is refused: ")
    assert says in first
    assert last == "dot-proto: no query was sent"
    if case == "name":
        assert f"dot-proto: the certificate is for {NAME}\n" in result.err
    if debug:
        at = result.out.index(";; DEBUG: TLS, received certificate hierarchy:")
        assert re.search(rf" #1, .*CN={NAME}\n;; DEBUG: +SHA-256 PIN: {re.escape(str(pin))}\n", result.out[at:])
        assert ("no certificate PIN match" if case == "pin" else "The certificate is NOT trusted.") in result.out[at:]
    else:
        assert result.out == ""
    assert site.asked == []


# No answer.


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_nobody_listens(run: Run) -> None:
    port = _closed_port()
    assert run(f"query @127.0.0.1 -p {port} example.com") == (
        ExitCode.NO_REPLY,
        "",
        f"dot-proto: no TCP connection to 127.0.0.1 port {port}: Connection refused\n",
    )


def test_no_such_host(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    code, out, err = run("query @nowhere.example example.com")
    assert (code, out) == (ExitCode.NO_REPLY, "")
    assert "nowhere.example" in err
    assert "Name or service not known" in err


def test_server_never_answers(run: Run, at: str, site: Site) -> None:
    site.respond = lambda asked: None
    code, out, err = run(f"query {at} +timeout=0.5 example.com")
    assert code == ExitCode.NO_REPLY
    assert out.startswith(";; TLS session ")
    # The handshake has had its part of the time.
    assert re.fullmatch(rf"dot-proto: 127\.0\.0\.1@{site.port}: no answer within 0\.\d s\n", err)


def _wait_for_the_end(connection: socket.socket) -> None:
    while connection.recv(65_536):
        pass


def test_server_never_shakes_hands(run: Run, rogue: Starts) -> None:
    """One deadline over all: the handshake does not get its own."""
    code, _, err = run(f"query @127.0.0.1 -p {rogue(_wait_for_the_end)} +timeout=0.2 example.com")
    assert code == ExitCode.NO_REPLY
    assert "took too long" in err


def test_server_closes_inside_the_handshake(run: Run, rogue: Starts) -> None:
    code, _, err = run(f"query @127.0.0.1 -p {rogue(lambda connection: None)} example.com")
    assert code == ExitCode.NO_REPLY
    assert err.count("\n") == 1


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_connection_is_reset_inside_the_handshake(run: Run, rogue: Starts) -> None:
    def behave(connection: socket.socket) -> None:
        connection.recv(1)
        _reset(connection)

    assert run(f"query @127.0.0.1 -p {rogue(behave)} example.com").code == ExitCode.NO_REPLY


def _send_close_notify(tls: ssl.SSLSocket, asked: bytes) -> None:
    tls.unwrap()


def _hang_up(tls: ssl.SSLSocket, asked: bytes) -> None:
    """Without close_notify."""


def _tear_down(tls: ssl.SSLSocket, asked: bytes) -> None:
    _reset(tls)


@pytest.mark.parametrize("behave", [_send_close_notify, _hang_up, _tear_down])
def test_server_closes_before_the_answer(
    behave: Callable[[ssl.SSLSocket, bytes], None], run: Run, tls_rogue: Starts, certificates: Certificates
) -> None:
    code, _, err = run(f"query @127.0.0.1 -p {tls_rogue(behave)} +tls-ca={certificates.root} example.com")
    assert code == ExitCode.NO_REPLY
    assert err.count("\n") == 1


# No TLS.


def test_peer_does_not_speak_tls(run: Run, rogue: Starts) -> None:
    port = rogue(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n"))
    code, _, err = run(f"query @127.0.0.1 -p {port} example.com")
    assert code == ExitCode.HANDSHAKE
    assert err == f"dot-proto: 127.0.0.1@{port}: the peer does not speak TLS but SSH\n"


def test_no_common_version(run: Run, tls_rogue: Starts) -> None:
    port = tls_rogue(_hang_up, minimum_version=ssl.TLSVersion.TLSv1_3)
    code, _, err = run(f"query @127.0.0.1 -p {port} +tls1.2 +opportunistic example.com")
    assert code == ExitCode.HANDSHAKE
    assert "version" in err


# Broken protocol.


def _short_frame(tls: ssl.SSLSocket, asked: bytes) -> None:
    tls.sendall(b"\x00\x0bx")


def _half_an_answer(tls: ssl.SSLSocket, asked: bytes) -> None:
    tls.sendall(asked[:40])
    tls.unwrap()


def _unsolicited(tls: ssl.SSLSocket, asked: bytes) -> None:
    strange = bytearray(asked)
    strange[2] ^= 0xFF
    tls.sendall(bytes(strange) * 100)
    _wait_for_the_end(tls)


@pytest.mark.parametrize("behave", [_short_frame, _half_an_answer, _unsolicited])
def test_server_breaks_the_protocol(
    behave: Callable[[ssl.SSLSocket, bytes], None], run: Run, tls_rogue: Starts, certificates: Certificates
) -> None:
    code, _, err = run(f"query @127.0.0.1 -p {tls_rogue(behave)} +tls-ca={certificates.root} example.com")
    assert code == ExitCode.PROTOCOL
    assert err.count("\n") == 1


def _bad_record(tls: ssl.SSLSocket, asked: bytes) -> None:
    """The right id and question, and one answer that is announced and not there."""
    question = asked[14:31]
    answer = asked[2:4] + bytes.fromhex("8180 0001 0001 0000 0000") + question
    tls.sendall(len(answer).to_bytes(2) + answer)
    _wait_for_the_end(tls)


@pytest.mark.parametrize("form", ["", "+short", "+json"])
def test_malformed_answer(form: str, run: Run, tls_rogue: Starts, certificates: Certificates) -> None:
    """What came is shown, as header and octets, and the code says that it was no answer."""
    port = tls_rogue(_bad_record)
    code, out, err = run(f"query @127.0.0.1 -p {port} +tls-ca={certificates.root} example.com {form}")
    assert code == ExitCode.PROTOCOL
    assert err.startswith("dot-proto: the answer cannot be read: ")
    if form == "":
        assert "status: NOERROR" in out
        assert ";; 0010  " in out
        assert "\n;; Received 29 B\n" in out
    elif form == "+short":
        assert out == ""
    else:
        document = json.loads(out)
        assert document["messageOctetsHEX"].endswith("076578616D706C6503636F6D0000010001")
        assert document["tls"]["errors"] == [err.removeprefix("dot-proto: ").removesuffix("\n")]


def _odd_answer(asked: dns.message.Message) -> bytes:
    """An HTTPS record whose data are none, an address, and an extended error whose text is not UTF-8."""
    response = dns.message.from_wire(an_address(asked))
    response.use_edns(0, options=[dns.edns.GenericOption(15, b"\x00\x16\xff\xfe")])
    odd = dns.rdata.GenericRdata(dns.rdataclass.IN, dns.rdatatype.HTTPS, b"\x00\x01\xc0")
    response.answer.insert(0, dns.rrset.from_rdata(asked.question[0].name, 60, odd))
    return response.to_wire()


def test_answer_that_dnspython_cannot_read(run: Run, at: str, site: Site) -> None:
    """FR-38: one odd record and one odd option take nothing from the address beside them."""
    site.respond = _odd_answer
    code, out, err = run(f"query {at} example.com")
    assert (code, err) == (ExitCode.ANSWER, "")
    assert "\tIN\tA\t93.184.216.34\n" in out
    assert "\tIN\tHTTPS\t\\# 3 0001C0\n" in out
    assert ";; EDE: 22 (No Reachable Authority): \\xff\\xfe\n" in out
    assert ";; WARNING: the data of record 1 of the ANSWER section (HTTPS) cannot be read: " in out
    code, out, err = run(f"query {at} +short example.com")
    assert (code, out) == (ExitCode.ANSWER, "\\# 3 0001C0\n93.184.216.34\n")
    assert err.startswith("dot-proto: warning: the data of record 1 ")
    code, out, err = run(f"query {at} +json example.com")
    records = json.loads(out)["answerRRs"]
    assert (code, err) == (ExitCode.ANSWER, "")
    assert [(one["TYPE"], one.get("rdataA"), one["RDATAHEX"]) for one in records] == [
        (65, None, "0001C0"),
        (1, "93.184.216.34", "5DB8D822"),
    ]
    assert "comment" in records[0]


@pytest.mark.parametrize("option", ["+tls1.2", ""])
def test_client_certificate_is_demanded(option: str, run: Run, tls_rogue: Starts, certificates: Certificates) -> None:
    """FR-43: in TLS 1.3 the alert comes after the handshake, in TLS 1.2 inside it; one code, and what is wanted."""
    port = tls_rogue(_hang_up, verify_mode=ssl.CERT_REQUIRED)
    code, _, err = run(f"query @127.0.0.1 -p {port} {option} +tls-ca={certificates.root} example.com")
    assert code == ExitCode.HANDSHAKE
    assert "alert" in err
    assert "a certificate of its clients" in err


def test_server_that_wants_a_name_is_told_of_with_advice(run: Run, tls_rogue: Starts) -> None:
    """FR-42: the alert unrecognized_name (RFC 6066, section 3), which a client that knows an address only gets."""

    def refuse(*_: object) -> int:
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    code, _, err = run(f"query @127.0.0.1 -p {tls_rogue(_hang_up, sni_callback=refuse)} example.com")
    assert code == ExitCode.HANDSHAKE
    assert "unrecognized_name" in err
    assert err.endswith("give it with +tls-host=NAME\n")


def _another_id(asked: bytes) -> bytes:
    return bytes([asked[2] ^ 0xFF, *asked[3:4], 0x81, 0x80, *asked[6:]])


def _another_question(asked: bytes) -> bytes:
    return bytes([*asked[2:4], 0x81, 0x80, *asked[6:15], asked[15] ^ 1, *asked[16:]])


@pytest.mark.parametrize(
    ("forge", "words"),
    [
        (_another_id, "with an id that no query has"),
        (_another_question, "with another question than the query's"),
    ],
)
def test_what_was_discarded_is_said_when_no_answer_comes(
    forge: Callable[[bytes], bytes], words: str, run: Run, tls_rogue: Starts, certificates: Certificates
) -> None:
    """FR-44: a server that answers wrongly is not one that is silent."""

    def behave(tls: ssl.SSLSocket, asked: bytes) -> None:
        forged = forge(asked)
        tls.sendall((len(forged).to_bytes(2) + forged) * 2)
        _wait_for_the_end(tls)

    where = f"@127.0.0.1 -p {tls_rogue(behave)} +tls-ca={certificates.root} +timeout=0.5"
    code, _, err = run(f"query {where} example.com")
    assert code == ExitCode.NO_REPLY
    assert err.endswith(f"; on this connection discarded from the server: 2 messages, each {words}\n")


@pytest.mark.parametrize("form", ["-d", "+json"])
def test_what_was_discarded_before_the_answer_is_shown(
    form: str, run: Run, tls_rogue: Starts, certificates: Certificates
) -> None:
    """FR-44: a forged answer before the right one leaves a trace."""

    def behave(tls: ssl.SSLSocket, asked: bytes) -> None:
        right = an_address(dns.message.from_wire(asked[2:]))
        forged = _another_id(asked)
        tls.sendall(len(forged).to_bytes(2) + forged + len(right).to_bytes(2) + right)
        _wait_for_the_end(tls)

    code, out, _ = run(f"query {form} @127.0.0.1 -p {tls_rogue(behave)} +tls-ca={certificates.root} example.com")
    assert code == ExitCode.ANSWER
    assert "discarded from the server: a message with an id that no query has" in out


def _lost(fault: Fault) -> ConnectionLostError:
    return ConnectionLostError("over", cause=Cause.PEER_FAULT, error=RemoteProtocolError("over", fault))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RemoteProtocolError("torn", Fault.RESET), ExitCode.NO_REPLY),
        (RemoteProtocolError("torn", Fault.TLS), ExitCode.HANDSHAKE),
        (LocalProtocolError("a mistake"), ExitCode.USAGE),
        (ConnectionLostError("over", cause=Cause.PEER_CLOSED), ExitCode.NO_REPLY),
        (_lost(Fault.SHORT_FRAME), ExitCode.PROTOCOL),
        (_lost(Fault.TRUNCATED), ExitCode.PROTOCOL),
        (_lost(Fault.TOO_MANY_UNSOLICITED), ExitCode.PROTOCOL),
        (_lost(Fault.TLS), ExitCode.PROTOCOL),
        (_lost(Fault.NO_CLOSE_NOTIFY), ExitCode.NO_REPLY),
        (_lost(Fault.RESET), ExitCode.NO_REPLY),
    ],
)
def test_every_failure_has_its_code(error: DoTError, code: ExitCode) -> None:
    got, [line] = _failures.explain(error, "192.0.2.1", 853)
    assert got == code
    assert str(error) in line


def test_a_certificate_with_many_names(run: Run, site_with: Callable[[Path], Site], certificates: Certificates) -> None:
    chain, _ = certificates.issue(*(f"host-{number}.example" for number in range(20)))
    where = f"@127.0.0.1 -p {site_with(chain).port} +tls-ca={certificates.root}"
    code, _, err = run(f"query {where} example.com")
    assert code == ExitCode.NAME
    assert "the certificate is for host-0.example, " in err
    assert "host-7.example and 12 more\n" in err


# Mistakes.


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file or directory"),
        (b"nothing", "neither DER"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "private key"),
    ],
)
def test_trust_anchors_that_are_none(content: bytes | None, says: str, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    code, out, err = run(f"query -d @192.0.2.1 +tls-ca={file} example.com")
    assert (code, out) == (ExitCode.USAGE, "")
    assert f"+tls-ca={file}: " in err
    assert says in err


def test_key_material_cannot_be_written(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "nowhere" / "keys"))
    code, _, err = run("query @192.0.2.1 example.com")
    assert code == ExitCode.USAGE
    assert err.startswith("dot-proto: SSLKEYLOGFILE=")
    assert err.endswith(": No such file or directory\n")


def test_internal_error_is_one_line(run: Run, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_: object) -> None:
        raise RuntimeError("surprise")

    monkeypatch.setattr(query, "build", defect)
    code, out, err = run(f"query {at} example.com")
    assert (code, out) == (ExitCode.INTERNAL, "")
    assert err.startswith("dot-proto: internal error, please report it: RuntimeError: surprise (")
    assert err.endswith("; DOT_PROTO_TRACEBACK=1 shows more\n")


def test_traceback_is_shown_when_asked_for(
    at: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def defect(*_: object) -> None:
        raise RuntimeError("surprise")

    monkeypatch.setattr(query, "build", defect)
    monkeypatch.setenv("DOT_PROTO_TRACEBACK", "1")
    assert main(["query", *shlex.split(at), "example.com"]) == ExitCode.INTERNAL
    assert capsys.readouterr().err.startswith("Traceback")


LINE = """
@192.0.2.1 @[::1]:853 @a#b @a@b -d -p -p53 -x 853 +tls-ca +tls-ca=x +tls-host=a +tls-pin= +tls-pin=AAAA +short --json
+padding=9 +nopadding +timeout=1 +time=-1 + - -- +tls1.2 +opportunistic example.com A IN ANY bücher ß.de xn--a . ..
"""
NAMES = [name for name in QUERY.names() if name not in ("-f", "--config", "-k")]
"All options but those that read files."

WORDS = (
    st.sampled_from(LINE.split())
    | st.sampled_from(NAMES)
    | st.sampled_from(NAMES).map(lambda name: f"+no{name.lstrip('-+')}")
    | st.builds(lambda name, value: f"{name}={value}", st.sampled_from(NAMES), st.text(max_size=8))
    | st.builds(lambda name, value: name[:2] + value, st.sampled_from(NAMES), st.text(max_size=8))
)


@given(st.lists(WORDS | st.text(max_size=12), max_size=6))
def test_any_words_are_understood_or_refused(words: list[str]) -> None:
    """What is understood can be asked: it has octets."""
    with suppress(UsageError):
        for asked in parse_query(words):
            assert 12 < len(build(asked)) <= 65_535
    with suppress(UsageError):
        parse_pin(words).server()


@pytest.mark.parametrize("number", ["9" * 5000, "1" * 20, "٣" * 6])
def test_numbers_that_are_too_long(number: str, run: Run) -> None:
    assert run(f"query @192.0.2.1 -p {number} example.com").code == ExitCode.USAGE
    assert run(f"query @192.0.2.1 +padding={number} example.com").code == ExitCode.USAGE


# Processes.


def _command(line: str) -> list[str]:
    return [sys.executable, "-m", "dot_io.cli", *shlex.split(line)]


def _environment(**more: str) -> dict[str, str]:
    """This process's own, and where it imports from."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)} | more


def test_process(at: str) -> None:
    done = subprocess.run(
        _command(f"query {at} +short example.com"), capture_output=True, text=True, timeout=LIMIT, env=_environment()
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "93.184.216.34\n", "")


def test_errors_come_after_what_was_shown_before_them(at: str, certificates: Certificates) -> None:
    """Into one pipe: stdout is not left in its buffer."""
    done = subprocess.run(
        _command(f"query -d {at} +tls-pin={certificates.other_pin} example.com"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        env=_environment(),
    )
    assert done.returncode == ExitCode.PIN
    assert [line.partition(":")[0] for line in done.stdout.splitlines()[-2:]] == ["dot-proto", "dot-proto"]


def test_reader_of_the_output_has_gone(at: str) -> None:
    """As with "| head -1": no word about it, and the code that a shell knows."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as output:
        done = subprocess.run(
            _command(f"query -d {at} example.com"),
            stdout=output,
            stderr=subprocess.PIPE,
            timeout=LIMIT,
            env=_environment(),
        )
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full on this system")
def test_output_cannot_be_written(at: str) -> None:
    with open("/dev/full", "wb") as output:
        done = subprocess.run(
            _command(f"query {at} example.com"),
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            timeout=LIMIT,
            env=_environment(),
        )
    assert done.returncode == ExitCode.INTERNAL
    assert done.stderr == "dot-proto: the system refuses: [Errno 28] No space left on device\n"


def test_letters_that_the_terminal_does_not_have(at: str, site: Site) -> None:
    """A locale without them gets escapes, not an exception."""

    def answer(asked: dns.message.Message) -> bytes:
        response = dns.message.from_wire(an_address(asked))
        response.use_edns(0, options=[dns.edns.EDEOption(0, "größer")])
        return response.to_wire()

    site.respond = answer
    done = subprocess.run(
        _command(f"query {at} example.com"),
        capture_output=True,
        timeout=LIMIT,
        env=_environment(PYTHONIOENCODING="ascii"),
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"gr\xf6\xdfer" in done.stdout


def test_interrupted(at: str, site: Site) -> None:
    """Ctrl-C while the answer is waited for: at once, without a word, and with a shell's own code."""
    # What starts the tests may have had SIGINT ignored, and children inherit that.
    start = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    start += "from dot_io.cli import main; sys.exit(main())"
    received = threading.Event()

    def silence(asked: dns.message.Message) -> None:
        received.set()

    site.respond = silence
    with subprocess.Popen(
        [sys.executable, "-c", start, *shlex.split(f"query {at} +timeout={LIMIT} example.com")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=_environment(),
    ) as process:
        assert received.wait(LIMIT)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LIMIT / 2)
    assert (process.returncode, err) == (130, b"")


IMPORTED = {
    "dot_io",
    "dot_io._address",
    "dot_io._client",
    "dot_io._clock",
    "dot_io._dial",
    "dot_io._lookup",
    "dot_io._stays",
    "dot_io._transport",
    "dot_io._attempt",
    "dot_io._fork",
    "dot_io._queue",
    "dot_io.blocking",
    "dot_io.blocking.client",
    "dot_io.blocking.dial",
    "dot_io.blocking.driver",
    "dot_io.blocking.poller",
    "dot_io.blocking.sharing",
    "dot_io.cli",
    "dot_io.cli._errors",
    "dot_io.cli._options",
    "dot_io.cli.certificates",
    "dot_io.cli.exit_codes",
    "dot_io.cli.messages",
    "dot_io.cli.presentation",
    "dot_io.cli.query",
    "dot_io.cli._version",
    "dot_io.cli.answers",
    "dot_io.cli.asking",
    "dot_io.cli.displays",
    "dot_io.cli.edns_text",
    "dot_io.cli.queries",
    "dot_io.cli.query_arguments",
    "dot_io.cli.query_line",
    "dot_io.cli.tables",
    "dot_io.cli.records",
    "dot_io.cli.servers",
    "dot_io.cli.values",
    "dot_io.cli.questions",
    "dot_io.errors",
    "dot_io.tls",
    "dot_io.tls.audit",
    "dot_io.tls.cache",
    "dot_io.tls.callbacks",
    "dot_io.tls.context",
    "dot_io.tls.failures",
    "dot_io.tls.hello",
    "dot_io.tls.library",
    "dot_io.tls.pair",
    "dot_io.tls.trial",
    "dot_io.tls._phase",
    "dot_io.tls.client",
    "dot_io.tls.server",
    "dot_io.tls.session",
    "dot_proto",
    "dot_proto._connection",
    "dot_proto._der",
    "dot_proto._edns",
    "dot_proto._event",
    "dot_proto._facts",
    "dot_proto._framing",
    "dot_proto.hosts",
    "dot_proto._keepalive",
    "dot_proto._matching",
    "dot_proto._message",
    "dot_proto._pem",
    "dot_proto._plain",
    "dot_proto._policy",
    "dot_proto._preparation",
    "dot_proto._removal",
    "dot_proto._silence",
    "dot_proto._state",
    "dot_proto._timers",
    "dot_proto.arguments",
    "dot_proto.authentication",
    "dot_proto.client",
    "dot_proto.configuration",
    "dot_proto.errors",
    "dot_proto.events",
    "dot_proto.pins",
    "dot_proto.query",
    "dot_proto.server",
}
"Ours, to ask and to show text: no server, no JSON, no other backend."

TOO_HEAVY = {
    "argparse",
    "asyncio",
    "concurrent.futures",
    "cryptography",
    "difflib",
    "dns.edns",
    "dns.message",
    "gettext",
    "json",
    "logging",
    "trio",
    "trustme",
}
"Each would cost more than a query, or nearly."

BROUGHT_BY_DNSPYTHON = {"json"} if sys.version_info >= (3, 13) else set[str]()
"By importlib.metadata, where it looks for ``idna``."


def test_start_is_lean(at: str) -> None:
    """Q19: what is imported is what is needed: a tenth of a second is all that a command may take before it asks."""
    words = ["", "query", *shlex.split(at), "+short", "example.com"]
    code = f"import sys; from dot_io.cli import process; sys.argv = {words!r}; process(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT, env=_environment(), check=True
    )
    answer, _, modules = done.stdout.partition("\n")
    assert answer == "93.184.216.34"
    loaded = set(modules.split())
    assert {name for name in loaded if name.partition(".")[0] in ("dot_io", "dot_proto")} == IMPORTED
    assert not loaded & TOO_HEAVY - BROUGHT_BY_DNSPYTHON


def _seconds_of_cpu(*arguments: str) -> float:
    """The least of five starts: other processes on the machine make it only longer."""

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True, env=_environment())
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return min(once() for _ in range(5))


@pytest.mark.parametrize("words", [["--help"], ["query", "--help"], ["pin", "--help"], ["--version"]])
def test_help_comes_at_once(words: list[str]) -> None:
    """Q19: at most 6 times a bare interpreter; measured 2.4 times on CPython 3.11."""
    limit = 6 if "--help" in words else 9
    assert _seconds_of_cpu("-m", "dot_io.cli", *words) < limit * _seconds_of_cpu("-c", "pass")


def test_help_imports_no_package() -> None:
    code = "import sys; from dot_io.cli import main; main(['query', '--help']); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT, env=_environment()
    )
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert not loaded & {"dns", "dot_proto", "ssl", "cryptography", "idna", "argparse"}
