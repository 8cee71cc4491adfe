"""DER or PEM to DER (RFC 7468)."""

from __future__ import annotations

from base64 import b64decode, b64encode
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dot_proto._der import public_key_of
from dot_proto._pem import certificates_from, public_key_from, public_key_to_pem
from dot_proto.errors import CertificateError
from support.certificates import ALGORITHM, BIT_STRING, SEQUENCE, element, made
from support.vectors import certificate, certificate_pem, load

NAMES = [case["id"] for case in load("pins")["certificates"]]
LEAF, ISSUER = certificate("leaf-p256"), certificate("ca-inter-p256")
LEAF_PEM, ISSUER_PEM = certificate_pem("leaf-p256"), certificate_pem("ca-inter-p256")
KEY = public_key_of(LEAF)
SECRET = b64encode(b"nobody may read this")


def block(label: str, body: bytes) -> bytes:
    return f"-----BEGIN {label}-----\n".encode() + body + f"\n-----END {label}-----\n".encode()


@pytest.mark.parametrize("name", NAMES)
def test_a_certificate_in_either_form(name):
    """Every vector certificate, DER and PEM."""
    assert certificates_from(certificate(name)) == certificates_from(certificate_pem(name)) == [certificate(name)]


@pytest.mark.parametrize(
    "text",
    [
        LEAF_PEM + ISSUER_PEM,
        (LEAF_PEM + ISSUER_PEM).replace(b"\n", b"\r\n"),
        b"subject=CN = leaf\nissuer=CN = ca\n" + LEAF_PEM + b"\n between \n" + ISSUER_PEM + b"behind",
        b"  " + (LEAF_PEM + ISSUER_PEM).replace(b"\n", b"  \n  "),
        block("DH PARAMETERS", b"AAAA") + LEAF_PEM + block("PUBLIC KEY", b"AAAA") + ISSUER_PEM,
        (LEAF_PEM + ISSUER_PEM).rstrip(),
    ],
    ids=["plain", "crlf", "text-between", "indented", "other-blocks", "no-last-newline"],
)
def test_many_certificates_keep_their_order(text):
    """Text between blocks and other blocks are passed over (RFC 7468, section 2)."""
    assert certificates_from(text) == [LEAF, ISSUER]


def test_a_public_key_in_either_form():
    """What we write is what we read, and DER passes through."""
    assert public_key_from(KEY) == public_key_from(public_key_to_pem(KEY)) == KEY


@given(st.binary(min_size=1, max_size=200))
def test_public_key_text_has_lines_of_64_characters(octets):
    """RFC 7468, section 2: the last line alone may be shorter."""
    first, *lines, last, end = public_key_to_pem(octets).split(b"\n")
    assert (first, last, end) == (b"-----BEGIN PUBLIC KEY-----", b"-----END PUBLIC KEY-----", b"")
    assert {len(line) for line in lines[:-1]} <= {64}
    assert 1 <= len(lines[-1]) <= 64
    assert b64decode(b"".join(lines)) == octets


@pytest.mark.parametrize("read", [certificates_from, public_key_from])
@pytest.mark.parametrize(
    "label", ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "OPENSSH PRIVATE KEY"]
)
@pytest.mark.parametrize("beside", [b"", LEAF_PEM + public_key_to_pem(KEY)], ids=["alone", "beside-others"])
def test_a_private_key_is_refused_and_not_shown(read, label, beside):
    """The message names the problem; the key stays out of logs."""
    with pytest.raises(CertificateError, match=f"there is a private key in it \\({label}\\)") as caught:
        read(beside + block(label, SECRET))
    assert SECRET.decode() not in str(caught.value)


@pytest.mark.parametrize(
    ("read", "data", "why"),
    [
        (certificates_from, b"", "neither DER"),
        (certificates_from, b"dot.test", "neither DER"),
        (certificates_from, b"\x31\x00", "neither DER"),
        (certificates_from, public_key_to_pem(KEY), "no CERTIFICATE block, only PUBLIC KEY"),
        (public_key_from, LEAF_PEM, "no PUBLIC KEY block, only CERTIFICATE"),
        (public_key_from, block("RSA PUBLIC KEY", b"AAAA"), "no PUBLIC KEY block, only RSA PUBLIC KEY"),
        (certificates_from, block("X\xe9\x00", b"AAAA"), r"only X\\xc3\\xa9"),
        (certificates_from, LEAF_PEM[:-30], "the PEM block CERTIFICATE has no end"),
        (certificates_from, LEAF_PEM[:200] + b"\n" + LEAF_PEM, "begins before CERTIFICATE has ended"),
        (certificates_from, LEAF_PEM.replace(b"END CERTIFICATE", b"END PUBLIC KEY"), "has no end"),
        (certificates_from, LEAF_PEM.replace(b"MIIB", b"MI*IB"), "the CERTIFICATE block is not base64"),
        (certificates_from, block("CERTIFICATE", b"AAA"), "the CERTIFICATE block is not base64"),
        (certificates_from, block("CERTIFICATE", b""), "cut off at offset 0"),
        (certificates_from, block("CERTIFICATE", b"AAAA"), "Certificate expected at offset 0"),
        (certificates_from, LEAF_PEM + block("CERTIFICATE", b64encode(ISSUER[:-1])), "cut off|does not end"),
        (certificates_from, LEAF + b"\x00", "Certificate does not end"),
        (certificates_from, KEY, "expected at offset"),
        (public_key_from, KEY[:-1], "cut off|does not end"),
        (public_key_from, LEAF, "expected at offset"),
        (public_key_from, block("PUBLIC KEY", b64encode(LEAF)), "expected at offset"),
    ],
)
def test_what_is_neither_is_refused(read, data, why):
    """The message says what was found instead."""
    with pytest.raises(CertificateError, match=why):
        read(data)


@given(st.binary(max_size=200) | st.lists(st.sampled_from([*LEAF_PEM.splitlines(True), b"\n", b"x"])).map(b"".join))
def test_any_octets_are_read_or_refused(data):
    """Nothing but CertificateError is ever raised."""
    for read in (certificates_from, public_key_from):
        with suppress(CertificateError):
            assert read(data)


def test_text_inside_a_certificate_is_not_searched():
    """Somebody else's certificate or key, carried as text inside one's own, stays text (AUT-11)."""
    carrier = made(options=element(0xA3, LEAF_PEM))
    assert certificates_from(carrier) == [carrier]
    key = element(SEQUENCE, ALGORITHM, element(BIT_STRING, b"\x00", public_key_to_pem(KEY)))
    assert public_key_from(key) == key
