"""What strangers send, through the presentation: nothing raises, hides what could be read, or drives a terminal."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from ssl import DER_cert_to_PEM_cert

import dns.rdatatype
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from cli.conftest import Run
from dot_io.cli import answers, certificates, json_form, presentation
from dot_io.cli.exit_codes import ExitCode
from dot_io.cli.query_arguments import Display
from dot_proto import AuthenticationPolicy, CertificateError, CertificateFacts, Evidence, PresentedChain, judge
from dot_proto.query import make_query

HEADER = bytes.fromhex("e4b4 8180")
QUESTION = b"\x07example\x03com\0\0\x01\0\x01"
ADDRESS = bytes.fromhex("c00c 0001 0001 0000092b 0004 5db8d822")
SHOWN = "example.com.        \t2347\tIN\tA\t93.184.216.34"

HOSTILE = bytes(range(0x20)) + b"\x7f" + "\x85\x9b\u202e\u2066\u200f\u2028\ufeff".encode() + b"\xff\xfe"
"C0 and C1 controls, DEL, bidirectional overrides, separators, and no UTF-8."


def message(*records: bytes, options: bytes | None = None) -> bytes:
    """An answer with these records in its answer section, in octets."""
    opt = b"" if options is None else bytes.fromhex("00 0029 0600 00000000") + len(options).to_bytes(2) + options
    counts = struct.pack("!4H", 1, len(records), 0, 0 if options is None else 1)
    return HEADER + counts + QUESTION + b"".join(records) + opt


def record(rdtype: int, rdata: bytes, rdclass: int = 1) -> bytes:
    return b"\xc0\x0c" + struct.pack("!HHIH", rdtype, rdclass, 60, len(rdata)) + rdata


def option(code: int, data: bytes) -> bytes:
    return struct.pack("!HH", code, len(data)) + data


def is_harmless(lines: list[str]) -> bool:
    return all(line.replace("\t", "").isprintable() for line in lines)


# Messages.

TYPES = sorted(int(kind) for kind in dns.rdatatype.RdataType if int(kind) != dns.rdatatype.OPT)


@pytest.mark.parametrize("rdtype", TYPES, ids=lambda number: dns.rdatatype.to_text(number))
@pytest.mark.parametrize("rdata", [b"", b"\xff", b"\xc0\xff", HOSTILE], ids=["empty", "one", "pointer", "hostile"])
def test_record_of_any_type_takes_nothing_from_the_address_beside_it(rdtype: int, rdata: bytes) -> None:
    """FR-38: data of a bad form are shown as those of an unknown type (RFC 3597, section 5), and which they are."""
    octets = message(record(rdtype, rdata), ADDRESS)
    lines, problem = answers.answer(octets)
    assert problem is None
    assert SHOWN in lines
    assert is_harmless(lines)
    texts, warnings, _ = answers.short(octets)
    assert texts[1] == "93.184.216.34"
    assert len(warnings) <= 1
    if warnings:
        assert texts[0] == f"\\# {len(rdata)} {rdata.hex().upper()}".rstrip()
        assert f";; WARNING: {warnings[0]}" in lines
        assert warnings[0].startswith("the data of record 1 of the ANSWER section (")
    members, problem = json_form.message(octets)
    assert problem is None
    assert members["answerRRs"][1]["rdataA"] == "93.184.216.34"
    assert ("comment" in members["answerRRs"][0]) is bool(warnings)


@pytest.mark.parametrize("code", [*range(24), 100, 26946, 65001, 65535])
@pytest.mark.parametrize("data", [b"", b"\0", b"\0\x16\xff\xfe", b"\0\x01\x18\0\xc0", HOSTILE])
def test_options_are_opaque(code: int, data: bytes) -> None:
    """FR-38 (RFC 6891, section 6.1.2): an option of a bad form takes nothing from the message."""
    octets = message(ADDRESS, options=option(code, data))
    lines, problem = answers.answer(octets)
    assert problem is None
    assert SHOWN in lines
    assert is_harmless(lines)
    assert answers.short(octets) == (["93.184.216.34"], [], None)
    assert json_form.message(octets)[1] is None


def test_extended_error_that_is_not_utf8_still_has_its_code() -> None:
    """FR-38: RFC 8914, section 2."""
    lines, _ = answers.answer(message(ADDRESS, options=option(15, b"\0\x16no \xff") + option(15, b"\xff\xff\xff")))
    at = lines.index(";; EDNS PSEUDOSECTION:")
    assert lines[at + 2 : at + 4] == [r";; EDE: 22 (No Reachable Authority): no \xff", r";; EDE: 65535: \xff"]


@pytest.mark.parametrize("rest", [b"\0", b"\0\x0c\0", b"\0\x0c\0\x05abcd"])
def test_options_that_run_past_their_end(rest: bytes) -> None:
    """FR-38: those before are shown."""
    lines, problem = answers.answer(message(ADDRESS, options=option(65001, b"x") + rest))
    assert problem is None
    at = lines.index(";; OPTION 65001: 78")
    assert lines[at + 1] == f";; no whole option: {rest.hex().upper()}"
    assert lines[-1] == f";; WARNING: the options end with {len(rest)} octets that are no whole option"


def test_two_opt_records_and_octets_at_the_end() -> None:
    """FR-38: both are faults of the server; both leave the address to be seen."""
    opt = bytes.fromhex("00 0029 0600 00000000 0000")
    octets = bytearray(message(ADDRESS, options=b"") + opt)
    octets[11] = 2
    lines, problem = answers.answer(bytes(octets))
    assert (problem, SHOWN in lines) == (None, True)
    assert lines[-1] == ";; WARNING: 2 OPT records, where there may be one (RFC 6891, section 6.1.1)"
    lines, problem = answers.answer(message(ADDRESS) + b"junk")
    assert (problem, SHOWN in lines) == ("4 octets follow the last record", True)


@pytest.mark.parametrize("end", range(len(message()) + 1, len(message(ADDRESS, ADDRESS))))
def test_answer_cut_off_anywhere_shows_what_came_whole(end: int) -> None:
    """FR-38: and says where it ends."""
    lines, problem = answers.answer(message(ADDRESS, ADDRESS)[:end])
    whole = (end - len(message())) // len(ADDRESS)
    assert lines.count(SHOWN) == whole
    where = f"record {whole + 1} of the ANSWER section, at octet {29 + whole * 16}"
    assert problem == f"{where}: the message ends inside it"


RECORDS = st.builds(record, st.sampled_from(TYPES) | st.integers(0, 65_535), st.binary(max_size=60) | st.just(HOSTILE))
OPTIONS = st.builds(option, st.integers(0, 24) | st.integers(0, 65_535), st.binary(max_size=60) | st.just(HOSTILE))
MESSAGES = (
    st.builds(
        lambda records, options: message(*records, options=b"".join(options)), st.lists(RECORDS), st.lists(OPTIONS)
    )
    | st.binary(min_size=12, max_size=80)
    | st.binary(max_size=40).map(lambda tail: message(ADDRESS)[:40] + tail)
    | st.builds(lambda octets, end: (message(ADDRESS) + octets)[: max(end, 12)], st.binary(), st.integers(12, 80))
)


@given(MESSAGES)
def test_no_message_raises_or_drives_a_terminal(octets: bytes) -> None:
    """FR-38: whatever came in 12 octets or more is shown, on lines that hold nothing but characters and tabs."""
    lines, problem = answers.answer(octets)
    texts, warnings, same = answers.short(octets)
    assert is_harmless([*lines, *texts, *warnings, problem or ""])
    members, again = json_form.message(octets)
    assert is_harmless(json.dumps(members, indent=2).splitlines())
    assert problem == same == again


SWITCHES = [
    *("header", "comments", "question", "answer", "authority", "additional", "opt", "tsig", "stats"),
    *("rrclass", "ttl", "ttlunits", "multiline", "crypto", "generic", "idn"),
]


def records_of(rdtype: int, data: bytes) -> bytes:
    """An answer of one record with these data."""
    return message(b"\xc0\x0c" + struct.pack("!HHIH", rdtype, 1, 0x7FFFFFFF, len(data)) + data)


@given(
    MESSAGES
    | st.builds(
        records_of, st.sampled_from([2, 5, 6, 15, 24, 25, 43, 44, 46, 47, 48, 50, 52, 60, 250]), st.binary(max_size=60)
    ),
    st.fixed_dictionaries({name: st.booleans() for name in SWITCHES}),
)
def test_no_display_raises_or_drives_a_terminal(octets: bytes, switches: dict[str, bool]) -> None:
    """Q16: with every combination of flags."""
    display = Display(**switches)
    lines, _ = answers.answer(octets, display)
    texts, _, _ = answers.short(octets, display)
    assert is_harmless([part for line in [*lines, *texts] for part in line.split("\n")])


@pytest.mark.parametrize("rdtype", ["SOA", "DNSKEY", "CDNSKEY", "KEY", "RRSIG", "SIG", "DS", "TLSA", "CERT", "SSHFP"])
@pytest.mark.parametrize("switch", ["multiline", "crypto", "generic"])
def test_data_that_cannot_be_read_by_their_type(rdtype: str, switch: str) -> None:
    """RFC 3597, section 5, whatever the flags."""
    octets = records_of(dns.rdatatype.from_text(rdtype), b"\1")
    lines, _ = answers.short(octets, Display(**{switch: switch != "crypto"}))[:2]
    assert lines == ["\\# 1 01"] or rdtype in ("CERT", "KEY")


def test_every_query_of_ours_reads_well() -> None:
    lines, problem = answers.answer(make_query("example.com", "HTTPS"))
    assert problem is None
    assert not [line for line in lines if "WARNING" in line]


# Certificates.

NOT_BEFORE, NOT_AFTER = b"20200102030405Z", b"20990102030405Z"


def a_certificate(name: str = "dns.example.net") -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    since, until = datetime(2051, 1, 2, tzinfo=UTC), datetime(2099, 1, 2, 3, 4, 5, tzinfo=UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, since, until)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("dns.example.net")]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


DER = a_certificate()
UNTIL = b"20990102030405Z"


def shown(der: bytes) -> tuple[list[str], str]:
    """``query -d`` and ``+json`` of a verdict about one certificate."""
    policy = AuthenticationPolicy.opportunistic()
    verdict = judge(policy, Evidence(PresentedChain((der,)), der, None))
    document = json_form.document({}, datetime.now(UTC), json_form.tls(None, verdict, None))
    return presentation.judgement(verdict), document


DATES = [
    b"00000101000000Z",
    b"00001231235959Z",
    b"00010101000000Z",
    b"99991231235959Z",
    b"19691231235959Z",
    b"20381231235959Z",
    b"20999902030405Z",
    b"2099010203040\xff\xff",
    b"\x1b[2J\x1b[2J\x1b[2J\x1b[3",
]


@pytest.mark.parametrize("moment", DATES)
def test_certificate_with_a_strange_date(moment: bytes, run: Run, tmp_path: Path) -> None:
    """FR-37: `pin`, `query -d` and `+json` show all but the date."""
    der = DER.replace(UNTIL, moment[:15])
    assert len(der) == len(DER)
    lines, document = shown(der)
    assert is_harmless([*lines, *document.splitlines()])
    pin = str(CertificateFacts.of(der).pin)
    assert pin in document
    assert any(pin in line for line in lines)
    file = tmp_path / "strange.der"
    file.write_bytes(der)
    code, out, err = run(f"pin {file}")
    assert (code, err) == (0, "")
    assert f"+tls-pin={pin}\n" in out
    code, out, err = run(f"pin --json {file}")
    assert (code, err) == (0, "")
    assert json.loads(out)["keys"][0]["pin"] == pin


def test_year_0_is_shown_as_unreadable(run: Run, tmp_path: Path) -> None:
    """FR-37: and the far end of the calendar as what it is."""
    file = tmp_path / "strange.der"
    file.write_bytes(DER.replace(UNTIL, b"00000101000000Z"))
    assert "until a date that cannot be read" in run(f"pin {file}").out
    assert json.loads(run(f"pin --json {file}").out)["keys"][0]["notAfter"] is None
    file.write_bytes(DER.replace(UNTIL, b"99991231235959Z"))
    assert "(until 9999-12-31)" in run(f"pin {file}").out


@pytest.mark.parametrize("name", ["\x1b[31mred", "a\u202eb", "a\x9bb", "\u2066", "a\nb", "\x7f"])
def test_names_in_certificates_cannot_drive_a_terminal(name: str) -> None:
    """FR-37."""
    lines, document = shown(a_certificate(name))
    assert is_harmless([*lines, *document.splitlines()])


@given(st.lists(st.tuples(st.integers(0, len(DER) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_no_certificate_raises_or_drives_a_terminal(changes: list[tuple[int, int]]) -> None:
    """FR-37: odd names, dates, keys and extensions: whatever octets of a certificate are changed."""
    octets = bytearray(DER)
    for at, value in changes:
        octets[at] = value
    der = bytes(octets)
    try:
        CertificateFacts.of(der)
    except CertificateError:
        assert certificates.subject(der).isprintable()
    else:
        lines, document = shown(der)
        assert is_harmless([*lines, *document.splitlines()])
    assert all(name.isprintable() for name in certificates.alternative_names(der))


V3_VERSION, V1_VERSION = b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x00"

V1 = DER.replace(V3_VERSION, V1_VERSION, 1)
"With a version that DER leaves out: OpenSSL reads it, we do not."

CHAINS = st.lists(
    st.just(DER)
    | st.just(V1)
    | st.binary(max_size=20)
    | st.builds(
        lambda at, octets: DER[:at] + octets + DER[at + len(octets) :], st.integers(0, len(DER)), st.binary(max_size=3)
    ),
    max_size=4,
).map(tuple)


@given(CHAINS, st.sampled_from([AuthenticationPolicy.opportunistic(), AuthenticationPolicy.strict("dns.example.net")]))
def test_no_chain_raises_or_shifts_its_numbers(chain: tuple[bytes, ...], policy: AuthenticationPolicy) -> None:
    """FR-37: each certificate is shown under its number, or its number is said to be unreadable."""
    verdict = judge(policy, Evidence(PresentedChain(chain), chain[0] if chain else None, wall_time=2e9))
    lines = presentation.judgement(verdict)
    document = json_form.document({}, datetime.now(UTC), json_form.tls(None, verdict, None))
    assert is_harmless([*lines, *document.splitlines()])
    described = json.loads(document)["tls"]["verdict"]["presented"]
    assert len(described) == len(chain)
    for number, (der, member) in enumerate(zip(chain, described, strict=True), 1):
        pin, why = read(der)
        assert (member["pin"], member.get("comment")) == (pin, why)
        if why is None:
            assert any(line.startswith(f";; DEBUG:  #{number}, ") and "cannot be read: " not in line for line in lines)
        else:
            assert f";; DEBUG:  #{number}, cannot be read: {why}" in lines


def read(der: bytes) -> tuple[str | None, str | None]:
    """The pin of a certificate, or why it cannot be read."""
    try:
        return str(CertificateFacts.of(der).pin), None
    except CertificateError as error:
        return None, str(error)


def served(folder: Path, site_with: Callable[[Path], object], unreadable: int) -> tuple[int, str]:
    """The port of a server with one of three certificates that we cannot read, and the pin of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dns.example.net")])
    since, until = datetime(2020, 1, 2, tzinfo=UTC), datetime(2099, 1, 2, 3, 4, 5, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, since, until)
    leaf = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    chain = [leaf, DER, DER]
    chain[unreadable - 1] = chain[unreadable - 1].replace(V3_VERSION, V1_VERSION, 1)
    file = folder / "server.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(secret + "".join(map(DER_cert_to_PEM_cert, chain)).encode())
    return getattr(site_with(file), "port"), str(CertificateFacts.of(leaf).pin)  # noqa: B009


def test_a_server_that_sends_a_certificate_that_cannot_be_read(
    run: Run, tmp_path: Path, site_with: Callable[[Path], object]
) -> None:
    """FR-37 over the wire: the server is asked; a warning has the number of the certificate, others keep theirs."""
    port, pin = served(tmp_path, site_with, 2)
    code, out, err = run(f"pin -p {port} @127.0.0.1")
    assert (code, err) == (ExitCode.ANSWER, "")
    shown = [line.partition(",")[0] for line in out.splitlines() if line.startswith(";; #")]
    assert shown == [";; #1", ";; #2", ";; #3"]
    assert ";; #2, cannot be read: version at offset " in out
    assert out.count("+tls-pin=") == 2
    keys = json.loads(run(f"pin --json -p {port} @127.0.0.1").out)["keys"]
    assert [key["pin"] for key in keys] == [pin, None, str(CertificateFacts.of(DER).pin)]
    code, out, _ = run(f"query -d +tls-pin={pin} @127.0.0.1 -p {port} example.com")
    assert code == ExitCode.ANSWER
    assert "certificate #2 of those sent cannot be read: version at offset " in out
    document = json.loads(run(f"query +json +tls-pin={pin} @127.0.0.1 -p {port} example.com").out)
    assert [one["pin"] is None for one in document["tls"]["verdict"]["presented"]] == [False, True, False]


def test_a_server_whose_own_certificate_cannot_be_read(
    run: Run, tmp_path: Path, site_with: Callable[[Path], object]
) -> None:
    """FR-37: the issuer's pin, which is the first that can be read, is not shown as the server's own."""
    port, pin = served(tmp_path, site_with, 1)
    code, out, err = run(f"pin -p {port} @127.0.0.1")
    assert (code, err) == (ExitCode.ANSWER, "")
    assert ";; #1, cannot be read: version at offset " in out
    assert "the server's own key" not in out
    assert pin not in out
    assert json.loads(run(f"pin --json -p {port} @127.0.0.1").out)["keys"][0]["pin"] is None
    out = run(f"query -d +opportunistic @127.0.0.1 -p {port} example.com").out
    assert ";; DEBUG:  #1, cannot be read: version at offset " in out
    assert ";; DEBUG:  #2, CN=dns.example.net" in out
    assert run(f"query +tls-pin={pin} @127.0.0.1 -p {port} example.com").code == ExitCode.UNTRUSTED


def test_a_server_whose_certificate_has_a_strange_date(
    run: Run, tmp_path: Path, site_with: Callable[[Path], object]
) -> None:
    """FR-37 over the wire: the signature is not looked at where whoever answers is asked."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dns.example.net")])
    until = datetime(2099, 1, 2, 3, 4, 5, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, datetime(2020, 1, 2, tzinfo=UTC), until)
    der = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER).replace(UNTIL, b"00000101000000Z")
    file = tmp_path / "server.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(secret + DER_cert_to_PEM_cert(der).encode())
    port = getattr(site_with(file), "port")  # noqa: B009
    code, out, _ = run(f"pin -p {port} @127.0.0.1")
    assert (code, "until a date that cannot be read" in out) == (ExitCode.ANSWER, True)
    for form in ("-d", "+json"):
        assert run(f"query {form} +opportunistic @127.0.0.1 -p {port} example.com").code == ExitCode.ANSWER
    for form in ("-d", "+json"):
        assert run(f"query {form} @127.0.0.1 -p {port} example.com").code == ExitCode.UNTRUSTED
