"""DER or PEM to DER (RFC 7468)."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
import time
from base64 import b64decode, b64encode
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
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
BOM = b"\xef\xbb\xbf"
PKCS12_ATTRIBUTES = (
    b"Bag Attributes\n    localKeyID: 54 69 6D 65\n    friendlyName: dot\nsubject=CN = dot\n\nissuer=CN=ca\n"
)
SHOWCERTS = b"CONNECTED(00000003)\n---\nCertificate chain\n 0 s:CN = dot\n   i:CN = ca\n"
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
        (LEAF_PEM + ISSUER_PEM).rstrip(),
        BOM + LEAF_PEM + ISSUER_PEM,
        BOM + LEAF_PEM + BOM + ISSUER_PEM,
        BOM + (LEAF_PEM + ISSUER_PEM).replace(b"\n", b"\r\n"),
        (LEAF_PEM + ISSUER_PEM).replace(b"\n", b"\r"),
        (LEAF_PEM + ISSUER_PEM).replace(b"CERTIFICATE", b"X509 CERTIFICATE"),
        (LEAF_PEM + ISSUER_PEM).replace(b"-----\nMI", b"-----\n\nMI"),
        LEAF_PEM.replace(b"\n", b"").replace(b"E-----", b"E-----\n").replace(b"-----END", b"\n-----END") + ISSUER_PEM,
        PKCS12_ATTRIBUTES + LEAF_PEM + b"Bag Attributes: <Empty Attributes>\n" + ISSUER_PEM,
        SHOWCERTS + LEAF_PEM + b" 1 s:CN = ca\n---\n" + ISSUER_PEM + b"---\nNo client certificate CA names sent\n---\n",
        "Amtliches Zertifikat für Überprüfung — endgültig\n".encode() + LEAF_PEM + b"\xff\xfe\x00\x1b\n" + ISSUER_PEM,
    ],
    ids=[
        "plain", "crlf", "text-between", "indented", "no-last-newline", "bom", "two-boms", "bom-crlf", "cr",
        "old-label", "empty-line", "one-long-line", "pkcs12-attributes", "showcerts", "any-text",
    ],
)  # fmt: skip
def test_many_certificates_keep_their_order(text):
    """FR-36: a byte order mark, as some editors write it, hides no certificate; text between blocks is passed over."""
    assert certificates_from(text) == [LEAF, ISSUER]


def in_line(text: bytes, number: int, old: bytes, new: bytes) -> bytes:
    """``text`` with a change in one line, which is counted from 1."""
    lines = text.splitlines(keepends=True)
    assert old in lines[number - 1]
    lines[number - 1] = lines[number - 1].replace(old, new)
    return b"".join(lines)


LENGTH = len(LEAF_PEM.splitlines())
"Lines of the first certificate; the second one begins in the next."

BOTH = LEAF_PEM + ISSUER_PEM
BEGIN, END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"

NEARLY = [
    b"----BEGIN CERTIFICATE-----",
    b"-----BEGIN CERTIFICATE----",
    b"------BEGIN CERTIFICATE------",
    b"-----begin certificate-----",
    b"----- BEGIN CERTIFICATE -----",
    b"-----BEGIN CERTIFICATE",
    b"BEGIN CERTIFICATE-----",
    b"-BEGIN CERTIFICATE-",
    b"-----BEGIN\tCERTIFICATE-----",
    b"-----BEGIN-----",
    b"# -----BEGIN CERTIFICATE-----",
    b"> -----BEGIN CERTIFICATE-----",
    b'"-----BEGIN CERTIFICATE-----',
    b"friendlyName: -----BEGIN CERTIFICATE-----",
    b"-----BEGIN CERTIFICATE----- # the server's",
    b"\xe2\x80\x8b-----BEGIN CERTIFICATE-----",
    b"-----BEGIN\xc2\xa0CERTIFICATE-----",
    b"-----BEGIN " + b"X" * 65 + b"-----",
    "\u2013\u2013\u2013BEGIN CERTIFICATE\u2013\u2013\u2013".encode(),
    "\u2014BEGIN CERTIFICATE\u2014".encode(),
    b"\x97\x97\x97BEGIN CERTIFICATE\x97\x97\x97",
    "\uff0d\uff0dBEGIN CERTIFICATE\uff0d\uff0d".encode(),
]


@pytest.mark.parametrize("line", NEARLY)
@pytest.mark.parametrize("marker", [BEGIN, END])
def test_what_is_nearly_a_marker_hides_no_certificate(line, marker):
    """FR-36: refused wherever it stands, with its line and what it must be."""
    line = line if marker is BEGIN else line.replace(b"BEGIN", b"END").replace(b"begin", b"end")
    number = 1 if marker is BEGIN else LENGTH
    broken = in_line(BOTH, number, marker, line)
    for text, where in (
        (broken, number),
        (BOM + broken.replace(b"\n", b"\r\n"), number),
        (ISSUER_PEM + broken, len(ISSUER_PEM.splitlines()) + number),
    ):
        with pytest.raises(CertificateError, match=rf"^line {where} is nearly a line of PEM: .* five hyphens"):
            certificates_from(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BOTH.replace(b"\n", b""), "line 1 is nearly a line of PEM"),
        (LEAF_PEM.rstrip() + ISSUER_PEM, f"line {LENGTH} is nearly a line of PEM"),
        (BOTH.replace(b"\n", b"\\n"), "line 1 is nearly a line of PEM"),
        (LEAF_PEM + ISSUER_PEM.removeprefix(BEGIN + b"\n"), f"line {LENGTH + 1} looks like base64"),
        (LEAF_PEM + b"text\n" + END, f"line {LENGTH + 2} ends CERTIFICATE, which has no beginning"),
        (LEAF_PEM + ISSUER_PEM.removesuffix(END + b"\n"), f"CERTIFICATE of line {LENGTH + 1} has no end"),
        (LEAF_PEM.removesuffix(END + b"\n") + ISSUER_PEM, f"line {LENGTH} begins CERTIFICATE before CERTIFICATE of"),
        (LEAF_PEM + ISSUER_PEM.replace(END, b"-----END X509 CRL-----"), "ends X509 CRL, but CERTIFICATE began in line"),
        (in_line(BOTH, 1, b"CERT", b"cert"), f"line {LENGTH} ends CERTIFICATE, but certIFICATE began in line 1"),
        (LEAF_PEM + b64encode(ISSUER), f"line {LENGTH + 1} looks like base64"),
        (LEAF_PEM + b'"x5c": ["' + b64encode(ISSUER) + b'"]', f"line {LENGTH + 1} looks like base64"),
        (in_line(BOTH, 3, b"M", b"*"), "line 3 is not base64: copy CERTIFICATE of line 1 again"),
        (in_line(BOTH, 3, b"M", b" "), "line 3 is not base64"),
        (in_line(BOTH, 3, b"M", b"="), "line 3 is not base64"),
        (in_line(BOTH, 3, b"M", b"M-"), "line 3 is not base64"),
        (in_line(BOTH, 3, b"M", b"\0"), "line 3 is not base64"),
        (in_line(BOTH, 3, b"\n", b"=\n"), "CERTIFICATE of line 1 is not base64 to its end"),
        (in_line(BOTH, 2, b"MII", b"Proc-Type: 4,ENCRYPTED\nMII"), "line 2 is a header, which CERTIFICATE may not"),
        (BOTH.decode().encode("utf-16"), "line 1 is UTF-16 or UTF-32: save the file as ASCII or UTF-8"),
        (BOTH.decode().encode("utf-16-be"), "line 1 is UTF-16 or UTF-32"),
        (BOTH.decode().encode("utf-32"), "line 1 is UTF-16 or UTF-32"),
        (LEAF_PEM + ISSUER_PEM.decode().encode("utf-16-le"), f"line {LENGTH + 1} is UTF-16 or UTF-32"),
        (b"0: Certificate\n" + BOTH, "begins with the digit 0, as DER does; remove what stands before"),
        (LEAF + b"\n", "Certificate does not end where it should"),
        (LEAF + ISSUER, "Certificate does not end where it should"),
        (LEAF_PEM + block("CERTIFICATE", b64encode(ISSUER + b"\0")), f"in line {LENGTH + 1} cannot be read"),
        (LEAF_PEM + block("CERTIFICATE", b""), f"the certificate in line {LENGTH + 1} cannot be read"),
    ],
)  # fmt: skip
def test_nothing_in_a_file_of_certificates_is_dropped(text, why):
    """FR-36: what is not read is refused, with its line and what to do, whatever was read before it."""
    with pytest.raises(CertificateError, match=why):
        certificates_from(text)


@pytest.mark.parametrize(
    ("label", "advice"),
    [
        ("TRUSTED CERTIFICATE", "trust settings would be lost; write it without them: openssl x509"),
        ("PKCS7", "openssl pkcs7"),
        ("CMS", "openssl pkcs7"),
        ("X509 CRL", "revocation lists are not looked at; remove it"),
        ("CERTIFICATE REQUEST", "give the certificate that was issued for it"),
        ("PUBLIC KEY", "give it in a file of its own"),
        ("DH PARAMETERS", "remove it"),
        ("PGP PUBLIC KEY BLOCK", "remove it"),
        ("certificate", "remove it"),
        ("", "remove it"),
    ],
)
@pytest.mark.parametrize("before", [b"", BOTH])
def test_every_block_must_be_a_certificate(label, advice, before):
    """FR-36: a revocation list, for one, that nobody looks at would be thought to count."""
    number = len(before.splitlines()) + 1
    with pytest.raises(CertificateError, match=f"line {number} begins {label}, not CERTIFICATE: .*{advice}"):
        certificates_from(before + block(label, b"AAAA") + LEAF_PEM)


def test_what_openssl_calls_trusted_would_lose_its_settings(tmp_path):
    """FR-36: openssl x509 -addreject writes a certificate that must not be trusted."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("the openssl command is not found")
    run = (openssl, "x509", "-inform", "DER", "-addreject", "serverAuth", "-trustout")
    text = subprocess.run(run, input=ISSUER, capture_output=True, check=True, timeout=30).stdout
    with pytest.raises(CertificateError, match="line 1 begins TRUSTED CERTIFICATE"):
        certificates_from(text)


@pytest.mark.parametrize(
    ("start", "advice"),
    [
        ("308205d00201033082058e", "PKCS #12; take the certificates out: openssl pkcs12"),
        ("3082026f06092a864886f70d010702a082", "PKCS #7; take the certificates out: openssl pkcs7"),
    ],
)
def test_containers_are_named(start, advice):
    """FR-36: in DER, with the command that takes the certificates out."""
    with pytest.raises(CertificateError, match=advice):
        certificates_from(bytes.fromhex(start) + bytes(2000))


PIECES = st.sampled_from(
    [
        LEAF_PEM,
        ISSUER_PEM,
        LEAF_PEM.replace(b"\n", b"\r\n"),
        ISSUER_PEM.replace(b"CERTIFICATE", b"X509 CERTIFICATE"),
        LEAF_PEM.rstrip(),
        BEGIN + b"\n",
        END + b"\n",
        BOM,
        b"\n",
        b"\r\n",
        b" ",
        b"subject=CN = leaf\n",
        b"---\n",
        b"-----",
        b"Bag Attributes\n",
        LEAF_PEM[:100],
        LEAF_PEM[100:],
        block("PUBLIC KEY", b"AAAA"),
    ]
)


@given(st.lists(PIECES, max_size=8).map(b"".join))
def test_what_others_find_is_found_or_refused(tmp_path_factory, text):
    """FR-36: cryptography and OpenSSL (by ssl) as oracles: an accepted file has no certificate that only they see."""
    try:
        ours = certificates_from(text)
    except CertificateError:
        return
    with suppress(ValueError):
        assert {one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(text)} <= set(ours)
    file = tmp_path_factory.getbasetemp() / "others.pem"
    file.write_bytes(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with suppress(ssl.SSLError):
        context.load_verify_locations(file)
        assert context.cert_store_stats()["x509"] <= len(set(ours))


@pytest.mark.parametrize("before", [b"", BOM, b"text\n", b"\r\n", PKCS12_ATTRIBUTES])
@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_a_file_is_read_as_openssl_reads_it(before, ends, tmp_path):
    """FR-36: certificate by certificate, as openssl storeutl lists them."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("the openssl command is not found")
    text = (before + LEAF_PEM + before + ISSUER_PEM).replace(b"\n", ends)
    (tmp_path / "file.pem").write_bytes(text)
    run = (openssl, "storeutl", "-certs", tmp_path / "file.pem")
    listed = subprocess.run(run, capture_output=True, check=True, timeout=30).stdout
    listed = re.sub(rb"(?m)^(?!-----|[A-Za-z0-9+/=]+$).*\n", b"", listed)  # what storeutl says between
    assert certificates_from(text) == certificates_from(listed) == [LEAF, ISSUER]


@pytest.mark.parametrize(
    "text",
    [
        LEAF_PEM * 14_000,
        b"-" * 10_000_000,
        b"--" + b" " * 10_000_000,
        b"-- " * 3_300_000,
        b"BEGIN " * 1_600_000 + b"!",
        b"--BEGI" * 1_600_000,
        b"MI" * 5_000_000,
        b"MII!" * 2_500_000,
        b"\n" * 5_000_000,
        BEGIN + b"\n" + b"AAAA" * 2_500_000 + b"\n" + END,
        BEGIN + b"\n" + b"=" * 10_000_000 + b"\n" + END,
        BEGIN.replace(b"CERT", b"C" * 10_000_000),
        b"\x96\xe2" * 5_000_000,
        b"\0-" * 5_000_000,
    ],
    ids=range(14),
)
def test_ten_megabytes_are_read_in_one_pass(text):
    """FR-36: nothing is searched twice; a hundredfold would still be allowed here, a square of it would not."""
    began = time.process_time()
    with suppress(CertificateError):
        assert certificates_from(text)
    assert time.process_time() - began < 10


@pytest.mark.parametrize("data", [LEAF_PEM.decode(), bytearray(LEAF), memoryview(LEAF), Path("ca.pem"), None, [LEAF]])
@pytest.mark.parametrize("read", [certificates_from, public_key_from])
def test_what_is_read_is_bytes(read, data):
    """FR-45: a path and a text are easily given; the message says how to make octets of them."""
    with pytest.raises(CertificateError, match=r"\(bytes\), not .*: give Path\(file\).read_bytes\(\), or text.enc"):
        read(data)


def test_a_public_key_file_has_one_key():
    """FR-36: none of two is dropped."""
    with pytest.raises(CertificateError, match="there is a second public key in line 5"):
        public_key_from(public_key_to_pem(KEY) * 2)


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
        (certificates_from, public_key_to_pem(KEY), "line 1 begins PUBLIC KEY, not CERTIFICATE"),
        (public_key_from, LEAF_PEM, "line 1 begins CERTIFICATE, not PUBLIC KEY"),
        (
            public_key_from,
            block("RSA PUBLIC KEY", b"AAAA"),
            "RSA PUBLIC KEY, not PUBLIC KEY: write it in",
        ),
        (certificates_from, block("X\xe9\x00", b"AAAA"), r"begins X\\xc3\\xa9\\x00, not"),
        (certificates_from, LEAF_PEM[:-30], "CERTIFICATE of line 1 has no end|nearly"),
        (
            certificates_from,
            LEAF_PEM[:200] + b"\n" + LEAF_PEM,
            "begins CERTIFICATE before CERTIFICATE of line 1",
        ),
        (
            certificates_from,
            LEAF_PEM.replace(b"END CERTIFICATE", b"END PUBLIC KEY"),
            "ends PUBLIC KEY, but",
        ),
        (certificates_from, LEAF_PEM.replace(b"MIIB", b"MI*IB"), "line 2 is not base64"),
        (certificates_from, block("CERTIFICATE", b"AAA"), "CERTIFICATE of line 1 is not base64 to its end"),
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
