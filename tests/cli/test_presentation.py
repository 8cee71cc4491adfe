"""kdig's layout, line by line, and the JSON form of RFC 8427."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rrset
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from dot_io.cli import answers, certificates, json_form, presentation
from dot_io.cli.presentation import SessionFacts, Times
from dot_io.cli.servers import Server
from dot_proto.authentication import (
    AuthenticationPolicy,
    CertificateFacts,
    Evidence,
    PresentedChain,
    Reason,
    ValidatedChain,
    ValidationFailure,
    Verdict,
    judge,
)
from dot_proto.pins import Pin

NOT_BEFORE = datetime(2017, 9, 1, tzinfo=UTC)
NOT_AFTER = datetime(2030, 9, 1, tzinfo=UTC)

WHEN = datetime(2018, 3, 31, 15, 20, 57, tzinfo=timezone(timedelta(hours=-7), "PDT"))
TIMES = Times(connect=0.0021, handshake=0.0072, answer=0.0033)
FACTS = SessionFacts(
    version="TLSv1.3",
    cipher="TLS_AES_256_GCM_SHA384",
    group="secp256r1",
    signature="ecdsa_secp256r1_sha256",
    alpn="dot",
    resumed=False,
)

# The provider's documentation, with the two characters at the end of the session line that it cuts off, and
# without the escapes that the page's own markup put there.
SEED = r"""
;; DEBUG: Querying for owner(example.com.), class(1), type(1), server(1.1.1.1), port(853), protocol(TCP)
;; DEBUG: TLS, imported 170 system certificates
;; DEBUG: TLS, received certificate hierarchy:
;; DEBUG:  #1, C=US,ST=CA,L=San Francisco,O=Cloudflare\, Inc.,CN=*.cloudflare-dns.com
;; DEBUG:      SHA-256 PIN: yioEpqeR4WtDwE9YxNVnCEkTxIjx6EEIwFSQW+lJsbc=
;; DEBUG:  #2, C=US,O=DigiCert Inc,CN=DigiCert ECC Secure Server CA
;; DEBUG:      SHA-256 PIN: PZXN3lRAy+8tBKk2Ox6F7jIlnzr2Yzmwqc3JnyfXoCw=
;; DEBUG: TLS, skipping certificate PIN check
;; DEBUG: TLS, The certificate is trusted.
;; TLS session (TLS1.3)-(ECDHE-SECP256R1)-(ECDSA-SECP256R1-SHA256)-(AES-256-GCM)
;; ->>HEADER<<- opcode: QUERY; status: NOERROR; id: 58548
;; Flags: qr rd ra; QUERY: 1; ANSWER: 1; AUTHORITY: 0; ADDITIONAL: 1

;; EDNS PSEUDOSECTION:
;; Version: 0; flags: ; UDP size: 1536 B; ext-rcode: NOERROR
;; PADDING: 408 B

;; QUESTION SECTION:
;; example.com.        		IN	A

;; ANSWER SECTION:
example.com.        	2347	IN	A	93.184.216.34

;; Received 468 B
;; Time 2018-03-31 15:20:57 PDT
;; From 1.1.1.1@853(TCP) in 12.6 ms
""".strip("\n").split("\n")


def certificate(*names: tuple[x509.ObjectIdentifier, str]) -> bytes:
    """A self-signed certificate in DER, with these names as its subject, in this order."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(kind, value) for kind, value in names])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, NOT_BEFORE, NOT_AFTER)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


LEAF = certificate(
    (NameOID.COUNTRY_NAME, "US"),
    (NameOID.STATE_OR_PROVINCE_NAME, "CA"),
    (NameOID.LOCALITY_NAME, "San Francisco"),
    (NameOID.ORGANIZATION_NAME, "Cloudflare, Inc."),
    (NameOID.COMMON_NAME, "*.cloudflare-dns.com"),
)
ISSUER = certificate(
    (NameOID.COUNTRY_NAME, "US"),
    (NameOID.ORGANIZATION_NAME, "DigiCert Inc"),
    (NameOID.COMMON_NAME, "DigiCert ECC Secure Server CA"),
)
STRANGER = certificate((NameOID.COMMON_NAME, "stranger"))
NAME = "cloudflare-dns.com"


def pin_of(der: bytes) -> Pin:
    return Pin.of_certificate(der)


def judged(
    policy: AuthenticationPolicy, *presented: bytes, validated: tuple[bytes, ...] = (), **evidence: Any
) -> Verdict:
    chain = ValidatedChain(validated, NAME) if validated else None
    return judge(policy, Evidence(PresentedChain(presented), presented[0], chain, **evidence))


def response(*records: dns.rrset.RRset, options: list[dns.edns.Option] | None = None, **edns: Any) -> bytes:
    """An answer to ``example.com. A`` with the seed's id and flags."""
    message = dns.message.make_query("example.com", "A", id=58548)
    message.flags |= dns.flags.QR | dns.flags.RA
    message.use_edns(0, payload=1536, options=options, **edns)
    message.answer.extend(records)
    return message.to_wire()


RECORD = dns.rrset.from_text("example.com.", 2347, "IN", "A", "93.184.216.34")
ANSWER = response(RECORD, options=[dns.edns.GenericOption(dns.edns.OptionType.PADDING, bytes(408))])


def seed_verdict() -> Verdict:
    """An acceptance by name, with the seed's pins in place of those of the certificates made here."""
    chain = (
        CertificateFacts(LEAF, Pin.parse("yioEpqeR4WtDwE9YxNVnCEkTxIjx6EEIwFSQW+lJsbc="), None, None),
        CertificateFacts(ISSUER, Pin.parse("PZXN3lRAy+8tBKk2Ox6F7jIlnzr2Yzmwqc3JnyfXoCw="), None, None),
    )
    return Verdict(AuthenticationPolicy.strict(NAME), True, True, None, "valid", chain, chain)


def test_seed_transcript() -> None:
    """Every line of the seed's transcript, in order; what stands between is ours."""
    transcript = [
        *presentation.querying("example.com.", 1, 1, "1.1.1.1", 853),
        *presentation.imported(170, None),
        *presentation.judgement(seed_verdict()),
        *presentation.handshake_details(FACTS),
        *presentation.session(FACTS),
        *answers.answer(ANSWER)[0],
        *answers.footer(ANSWER, WHEN, Server("1.1.1.1", 853, None), TIMES),
    ]
    at = transcript.index(";; DEBUG: TLS, validated certificate chain:")
    ours = transcript[at : at + 6]
    assert [*transcript[:at], *transcript[at + 6 :]] == SEED
    assert ours == [
        ";; DEBUG: TLS, validated certificate chain:",
        *SEED[3:7],
        ";; DEBUG: TLS, ALPN dot, full handshake",
    ]


def test_trust_anchors_from_a_file() -> None:
    assert presentation.imported(1, "root.pem") == [";; DEBUG: TLS, imported 1 certificates from 'root.pem'"]


def test_times() -> None:
    assert presentation.durations(TIMES) == [
        ";; DEBUG: Time: connect 2.1 ms, handshake 7.2 ms, answer 3.3 ms",
    ]


# The verdict.


def test_pin_of_the_leaf_matches() -> None:
    policy = AuthenticationPolicy.strict(pins=[pin_of(LEAF)])
    assert presentation.judgement(judged(policy, LEAF, ISSUER)) == [
        ";; DEBUG: TLS, received certificate hierarchy:",
        SEED[3],
        f";; DEBUG:      SHA-256 PIN: {pin_of(LEAF)}, MATCH",
        SEED[5],
        f";; DEBUG:      SHA-256 PIN: {pin_of(ISSUER)}",
        ";; DEBUG: TLS, the PIN of certificate #1 matches",
        ";; DEBUG: TLS, skipping certificate verification",
        ";; WARNING: TLS, only one pin: deploy a backup pin too (RFC 7858, section 4.2)",
    ]


def test_pin_matches_in_the_validated_chain_only() -> None:
    """The match is shown where it counts, and a stray is named as one."""
    policy = AuthenticationPolicy.strict(NAME, pins=[pin_of(ISSUER), pin_of(STRANGER)])
    lines = presentation.judgement(judged(policy, LEAF, STRANGER, validated=(LEAF, ISSUER)))
    assert lines == [
        ";; DEBUG: TLS, received certificate hierarchy:",
        SEED[3],
        f";; DEBUG:      SHA-256 PIN: {pin_of(LEAF)}",
        ";; DEBUG:  #2, CN=stranger",
        f";; DEBUG:      SHA-256 PIN: {pin_of(STRANGER)}, pinned, but was only sent: proves nothing",
        ";; DEBUG: TLS, the PIN of certificate #2 of the validated chain matches",
        ";; DEBUG: TLS, The certificate is trusted.",
        ";; DEBUG: TLS, validated certificate chain:",
        SEED[3],
        f";; DEBUG:      SHA-256 PIN: {pin_of(LEAF)}",
        SEED[5],
        f";; DEBUG:      SHA-256 PIN: {pin_of(ISSUER)}, MATCH",
    ]


def test_stray_without_a_pin() -> None:
    lines = presentation.judgement(judged(AuthenticationPolicy.strict(NAME), LEAF, STRANGER, validated=(LEAF, ISSUER)))
    assert lines[4] == f";; DEBUG:      SHA-256 PIN: {pin_of(STRANGER)}, stray: no part of the validated chain"


def test_appended_certificate_is_no_match() -> None:
    """The attack: a stranger's leaf with the pinned public certificate appended (kdig prints MATCH here)."""
    policy = AuthenticationPolicy.strict(pins=[pin_of(LEAF), pin_of(ISSUER)])
    verdict = judged(policy, STRANGER, LEAF)
    assert not verdict.accepted
    lines = presentation.judgement(verdict)
    assert not [line for line in lines if "MATCH" in line]
    assert lines[4] == f";; DEBUG:      SHA-256 PIN: {pin_of(LEAF)}, pinned, but was only sent: proves nothing"
    assert lines[5] == ";; DEBUG: TLS, no certificate PIN match"
    assert lines[6] == f";; DEBUG: TLS, {verdict.explanation}"


def test_untrusted_chain() -> None:
    failure = ValidationFailure(Reason.UNTRUSTED, "the issuer is unknown")
    policy = AuthenticationPolicy.strict(NAME, pins=[pin_of(LEAF), pin_of(ISSUER)])
    lines = presentation.judgement(judged(policy, LEAF, failure=failure))
    assert lines[-2:] == [
        ";; DEBUG: TLS, certificate PINs not compared",
        ";; DEBUG: TLS, The certificate is NOT trusted. the issuer is unknown",
    ]


def test_opportunistic() -> None:
    lines = presentation.judgement(judged(AuthenticationPolicy.opportunistic(), LEAF))
    assert lines[-2:] == [
        ";; DEBUG: TLS, skipping certificate PIN check",
        ";; DEBUG: TLS, skipping certificate verification",
    ]


def test_no_certificate() -> None:
    verdict = judge(AuthenticationPolicy.strict(NAME), Evidence())
    assert presentation.judgement(verdict)[0] == ";; DEBUG: TLS, no certificate received"


def test_resumed_session() -> None:
    """A resumed session sends no certificates: those shown are the first handshake's."""
    policy = AuthenticationPolicy.strict(NAME)
    earlier = judged(policy, LEAF, validated=(LEAF, ISSUER))
    lines = presentation.judgement(judged(policy, LEAF, resumed=earlier))
    assert lines[0] == ";; DEBUG: TLS, certificate hierarchy of the session resumed:"


# Certificates.


def test_subject_cannot_drive_a_terminal() -> None:
    der = certificate((NameOID.COMMON_NAME, "a\x1b[2Jb\u202e"))
    assert certificates.subject(der) == r"CN=a\x1b[2Jb\u202e"


def test_subject_that_is_empty_or_unreadable() -> None:
    assert certificates.subject(certificate()) == certificates.EMPTY
    assert certificates.subject(b"\x30\x00") == certificates.UNREADABLE


# The session line.


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        (("TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256", None, None), "(TLS1.3)-(CHACHA20-POLY1305)"),
        (("TLSv1.3", "TLS_AES_128_GCM_SHA256", "x25519", None), "(TLS1.3)-(ECDHE-X25519)-(AES-128-GCM)"),
        (
            ("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256", "secp384r1", "rsa_pss_rsae_sha256"),
            "(TLS1.2)-(ECDHE-SECP384R1)-(RSA-PSS-RSAE-SHA256)-(AES-128-GCM)",
        ),
        (("TLSv1.3", "TLS_AES_128_CCM_8_SHA256", "ffdhe2048", None), "(TLS1.3)-(DHE-FFDHE2048)-(AES-128-CCM-8)"),
        (("TLSv1.3", "TLS_AES_256_GCM_SHA384", "X25519MLKEM768", None), "(TLS1.3)-(X25519MLKEM768)-(AES-256-GCM)"),
        (("TLSv1.2", "AES256-SHA", None, None), "(TLS1.2)-(AES256-SHA)"),
    ],
)
def test_session_line(facts: tuple[str, str, str | None, str | None], line: str) -> None:
    """What is not known is left out."""
    assert presentation.session(SessionFacts(*facts, alpn=None, resumed=False)) == [f";; TLS session {line}"]


def test_session_without_alpn_and_resumed() -> None:
    facts = SessionFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", None, None, alpn=None, resumed=True)
    assert presentation.handshake_details(facts) == [";; DEBUG: TLS, no ALPN, session resumed"]


# The answer.


@pytest.mark.parametrize(
    ("option", "line"),
    [
        (dns.edns.GenericOption(11, b"\x00\x64"), ";; KEEPALIVE: 10.0 s"),
        (dns.edns.GenericOption(11, b""), ";; KEEPALIVE: no timeout stated"),
        (dns.edns.GenericOption(11, b"\x00"), ";; OPTION 11: 00"),
        (dns.edns.GenericOption(3, b"lab\x1b"), r';; NSID: 6C61621B "lab\x1b"'),
        (dns.edns.EDEOption(22, "no\x1breply"), ";; EDE: 22 (No Reachable Authority): no\\x1breply"),
        (dns.edns.CookieOption(b"client's", b"server's"), ";; COOKIE: 636c69656e742773736572766572277" + "3"),
        (dns.edns.ECSOption("192.0.2.0", 24), ";; CLIENT-SUBNET: 192.0.2.0/24/0"),
        (dns.edns.GenericOption(65001, b"\x01\xff"), ";; OPTION 65001: 01FF"),
    ],
)
def test_edns_option(option: dns.edns.Option, line: str) -> None:
    lines, _ = answers.answer(response(options=[option]))
    assert lines[lines.index(";; EDNS PSEUDOSECTION:") + 2] == line


def test_extended_rcode_and_do_bit() -> None:
    """BADVERS has bits in the header and in OPT (RFC 6891, section 6.1.3)."""
    message = dns.message.make_query("example.com", "A", want_dnssec=True, id=1)
    message.flags |= dns.flags.QR
    message.set_rcode(16)
    lines, _ = answers.answer(message.to_wire())
    assert lines[0] == ";; ->>HEADER<<- opcode: QUERY; status: BADVERS; id: 1"
    assert lines[4].startswith(";; Version: 0; flags: do; UDP size: ")
    assert lines[4].endswith("; ext-rcode: BADVERS")


def test_records_keep_order_and_repetition() -> None:
    """What is shown is what came: dnspython would merge records of one name and type."""
    records = [
        dns.rrset.from_text("example.com.", 60, "IN", "A", "192.0.2.2"),
        dns.rrset.from_text("example.com.", 60, "IN", "TXT", '"x"'),
        dns.rrset.from_text("example.com.", 60, "IN", "A", "192.0.2.1"),
        dns.rrset.from_text("example.com.", 60, "IN", "A", "192.0.2.2"),
    ]
    assert answers.short(response(*records)) == (["192.0.2.2", '"x"', "192.0.2.1", "192.0.2.2"], [], None)


def test_authority_and_additional_sections() -> None:
    message = dns.message.from_wire(response())
    message.authority.append(dns.rrset.from_text("example.com.", 60, "IN", "NS", "ns.example.com."))
    message.additional.append(dns.rrset.from_text("ns.example.com.", 60, "IN", "AAAA", "2001:db8::1"))
    assert answers.answer(message.to_wire())[0][-5:] == [
        ";; AUTHORITY SECTION:",
        "example.com.        \t60\tIN\tNS\tns.example.com.",
        "",
        ";; ADDITIONAL SECTION:",
        "ns.example.com.     \t60\tIN\tAAAA\t2001:db8::1",
    ]


UNREADABLE = response(RECORD)[:-15]
"""An answer that ends inside its record: 4 octets of data and 11 of OPT are missing."""


def test_unreadable_answer_is_what_was_read_and_a_dump() -> None:
    lines, problem = answers.answer(UNREADABLE)
    assert lines[:5] == [
        ";; ->>HEADER<<- opcode: QUERY; status: NOERROR; id: 58548",
        ";; Flags: qr rd ra; QUERY: 1; ANSWER: 1; AUTHORITY: 0; ADDITIONAL: 1",
        "",
        ";; QUESTION SECTION:",
        ";; example.com.        \t\tIN\tA",
    ]
    assert lines[6] == ";; WARNING: the rest of this message cannot be read; the octets of all of it:"
    assert bytes.fromhex("".join(line[8:] for line in lines[7:])) == UNREADABLE
    assert problem == "record 1 of the ANSWER section, at octet 29: the message ends inside it"
    assert answers.short(UNREADABLE) == ([], [], problem)


def test_long_dump_is_cut() -> None:
    lines, _ = answers.answer(bytes(12) + b"\xff" * 65_000)
    assert lines[-1] == ";; and 64500 octets more"


# JSON.


def test_json_of_the_answer() -> None:
    """The members of RFC 8427 that kdig emits, in its order."""
    padding = "000C0198" + "00" * 408
    expected = {
        "msgLength": 468,
        "ID": 58548,
        "QR": 1,
        "Opcode": 0,
        "AA": 0,
        "TC": 0,
        "RD": 1,
        "RA": 1,
        "AD": 0,
        "CD": 0,
        "RCODE": 0,
        "RCODEname": "NOERROR",
        "QDCOUNT": 1,
        "ANCOUNT": 1,
        "NSCOUNT": 0,
        "ARCOUNT": 1,
        "QNAME": "example.com.",
        "QTYPE": 1,
        "QTYPEname": "A",
        "QCLASS": 1,
        "QCLASSname": "IN",
        "answerRRs": [
            {
                "NAME": "example.com.",
                "TYPE": 1,
                "TYPEname": "A",
                "CLASS": 1,
                "TTL": 2347,
                "CLASSname": "IN",
                "rdataA": "93.184.216.34",
                "RDLENGTH": 4,
                "RDATAHEX": "5DB8D822",
            }
        ],
        "additionalRRs": [
            {
                "NAME": ".",
                "TYPE": 41,
                "TYPEname": "OPT",
                "CLASS": 1536,
                "TTL": 0,
                "RDLENGTH": 412,
                "RDATAHEX": padding,
            }
        ],
    }
    message, problem = json_form.message(ANSWER)
    assert problem is None
    assert message == expected
    assert list(message) == list(expected)


def test_json_document() -> None:
    policy = AuthenticationPolicy.strict(NAME, pins=[pin_of(ISSUER), pin_of(LEAF)])
    verdict = judged(policy, LEAF, validated=(LEAF, ISSUER))
    message, _ = json_form.message(ANSWER)
    document = json.loads(json_form.document(message, WHEN, json_form.tls(FACTS, verdict, TIMES)))
    tls = document.pop("tls")
    assert (document.pop("dateString"), document.pop("dateSeconds")) == ("2018-03-31T15:20:57-07:00", 1522534857)
    assert document == message

    def shown(der: bytes, subject: str) -> dict[str, str]:
        dates = {"notBefore": "2017-09-01T00:00:00+00:00", "notAfter": "2030-09-01T00:00:00+00:00"}
        return {"subject": subject, "pin": str(pin_of(der)), **dates}

    leaf, issuer = shown(LEAF, SEED[3].partition(", ")[2]), shown(ISSUER, SEED[5].partition(", ")[2])
    assert tls == {
        "version": "TLSv1.3",
        "cipher": "TLS_AES_256_GCM_SHA384",
        "group": "secp256r1",
        "signature": "ecdsa_secp256r1_sha256",
        "alpn": "dot",
        "resumed": False,
        "verdict": {
            "accepted": True,
            "authenticated": True,
            "reason": None,
            "explanation": verdict.explanation,
            "warnings": [],
            "matchedPin": str(pin_of(LEAF)),
            "matchedDepth": 0,
            "presented": [leaf],
            "validated": [leaf, issuer],
        },
        "times": {"connect": 0.0021, "handshake": 0.0072, "answer": 0.0033, "total": pytest.approx(0.0126)},
        "errors": [],
    }


def test_json_of_a_refusal() -> None:
    """No answer, no session facts: the verdict says why."""
    verdict = judged(AuthenticationPolicy.strict(pins=[pin_of(LEAF), pin_of(ISSUER)]), STRANGER)
    document = json.loads(json_form.document({}, WHEN, json_form.tls(None, verdict, None, ["refused"])))
    assert set(document) == {"dateString", "dateSeconds", "tls"}
    assert document["tls"]["verdict"]["reason"] == "pin"
    assert document["tls"]["times"] is None
    assert document["tls"]["errors"] == ["refused"]


def test_json_of_an_unreadable_answer() -> None:
    message, problem = json_form.message(UNREADABLE)
    assert message["ID"] == 58548
    assert message["comment"] == f"the message cannot be read: {problem}"
    assert bytes.fromhex(message["messageOctetsHEX"]) == UNREADABLE
