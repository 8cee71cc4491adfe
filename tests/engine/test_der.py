"""The DER walk: the octets that came or CertificateError, for any octets (AUT-5, AUT-6, AUT-23, AUT-27)."""

from __future__ import annotations

import shutil
import subprocess
from base64 import b64decode
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime
from hashlib import sha256

import pytest
from cryptography import x509
from hypothesis import example, given
from hypothesis import strategies as st

from dot_proto._der import Certificate, key_bits, may_issue, public_key_of, read_certificate
from dot_proto.authentication import CertificateFacts
from dot_proto.errors import CertificateError
from support.certificates import ALGORITHM, BIT_STRING, INTEGER, KEY, SEQUENCE, element, made
from support.vectors import certificate, load, octets

VECTORS = load("pins")
CERTIFICATES = VECTORS["certificates"]
NAMES = [case["id"] for case in CERTIFICATES]
BY_ID = {case["id"]: case for case in CERTIFICATES}
OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="the openssl command, which is the oracle, is not found")

EPOCH_DATE = b"700101000000Z"


@pytest.mark.parametrize("case", CERTIFICATES, ids=NAMES)
def test_the_key_is_the_slice_of_the_certificate(case):
    """RSA, P-256, P-384, Ed25519, X.509 v1, expired: the octets in the certificate count (AUT-4, AUT-5, AUT-6)."""
    der = certificate(case["id"])
    start, length = case["spki_offset"], case["spki_length"]
    spki = read_certificate(der).spki
    assert spki == public_key_of(der) == der[start : start + length]
    assert sha256(spki).hexdigest() == case["spki_sha256"]


@pytest.mark.parametrize("name", NAMES)
def test_names_and_dates_agree_with_another_reader(name):
    """RFC 5280, sections 4.1.2.4 to 4.1.2.6: UTCTime, GeneralizedTime, issuer and subject."""
    der = certificate(name)
    ours, theirs = read_certificate(der), x509.load_der_x509_certificate(der)
    assert ours.issuer == theirs.issuer.public_bytes()
    assert ours.subject == theirs.subject.public_bytes()
    facts = CertificateFacts.of(der)
    assert (facts.issuer, facts.subject) == (ours.issuer, ours.subject)
    assert ours.not_before == theirs.not_valid_before_utc.timestamp()
    assert ours.not_after == theirs.not_valid_after_utc.timestamp()


def openssl(*arguments: str, given: bytes = b"") -> bytes:
    """What the openssl command prints."""
    assert OPENSSL is not None
    return subprocess.run((OPENSSL, *arguments), input=given, capture_output=True, check=True, timeout=30).stdout


def key_by_openssl(der: bytes) -> bytes:
    text = openssl("x509", "-inform", "DER", "-noout", "-pubkey", given=der)
    return b64decode(b"".join(text.splitlines()[1:-1]))


@needs_openssl
@pytest.mark.parametrize("case", CERTIFICATES, ids=NAMES)
def test_the_key_is_the_one_that_openssl_prints(case):
    """openssl x509 -pubkey agrees where the vectors say that it does (AUT-5)."""
    der = certificate(case["id"])
    assert (public_key_of(der) == key_by_openssl(der)) is case["agrees"]["openssl"]


@needs_openssl
@pytest.mark.parametrize(
    "newkey",
    [
        ("rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_pss_keygen_md:sha256"),
        ("ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"),
        ("ec", "-pkeyopt", "ec_paramgen_curve:secp521r1"),
        ("ed448",),
    ],
    ids=["rsa-pss", "ec-explicit", "p-521", "ed448"],
)
def test_keys_that_libraries_encode_anew(newkey, tmp_path):
    """RSA-PSS and explicit EC parameters are hashed as they stand in the certificate (AUT-5)."""
    config = tmp_path / "openssl.cnf"
    config.write_text("[req]\ndistinguished_name = dn\n[dn]\n")
    request = (
        "req",
        "-x509",
        "-nodes",
        "-config",
        str(config),
        "-subj",
        "/CN=dot.test",
        "-keyout",
        str(tmp_path / "k"),
    )
    der = openssl(*request, "-outform", "DER", "-newkey", *newkey)
    assert public_key_of(der) == key_by_openssl(der)


@pytest.mark.parametrize("case", VECTORS["bad_der"], ids=lambda case: case["id"])
def test_broken_octets_are_refused(case):
    """Truncated, indefinite, not minimal, trailing, not DER at all (AUT-23)."""
    for read in (read_certificate, public_key_of, key_bits):
        with pytest.raises(CertificateError, match=r"at offset \d+"):
            read(octets(case["hex"]))


@pytest.mark.parametrize("name", NAMES)
def test_every_truncation_is_refused(name):
    """A parse never depends on octets that did not come (AUT-23)."""
    der = certificate(name)
    for length in range(len(der)):
        with pytest.raises(CertificateError):
            read_certificate(der[:length])


@pytest.mark.parametrize("name", NAMES)
def test_every_flipped_bit_is_refused_or_leaves_one_key(name):
    """Whatever is accepted has its key where the certificate had it (AUT-23)."""
    der = certificate(name)
    start = BY_ID[name]["spki_offset"]
    end = start + BY_ID[name]["spki_length"]
    for at in range(len(der)):
        for bit in range(8):
            mutant = bytearray(der)
            mutant[at] ^= 1 << bit
            key = key_or_none(bytes(mutant))
            assert key is None or key == mutant[start:end]


def test_every_changed_octet_is_refused_or_leaves_some_key():
    """All 255 other values of every octet of one certificate (AUT-23)."""
    der = certificate("leaf-p256")
    for at in range(len(der)):
        for value in range(256):
            mutant = der[:at] + bytes((value,)) + der[at + 1 :]
            key = key_or_none(mutant)
            assert key is None or key in mutant


def result_of(read, data: bytes):
    """What ``read`` returns, or the one error that it may raise; any other exception fails the test."""
    try:
        return read(data)
    except CertificateError as error:
        return error


def key_or_none(der: bytes) -> bytes | None:
    """The key of a certificate, or ``None`` where it is refused."""
    got = result_of(read_certificate, der)
    return None if isinstance(got, CertificateError) else got.spki


@given(st.binary(max_size=200))
@example(b"\x30")
@example(b"\x30\x82")
@example(b"\x30\x83\xff\xff\xff")
def test_any_octets_are_read_or_refused(data):
    """Nothing but CertificateError is ever raised (AUT-23)."""
    for read in (read_certificate, public_key_of, key_bits):
        got = result_of(read, data)
        assert not isinstance(got, CertificateError) or "at offset" in str(got)


@given(st.data())
def test_any_splice_of_certificates_is_read_or_refused(data):
    """Pieces of good certificates, cut anywhere and put together, raise nothing but CertificateError (AUT-23)."""
    pieces = [
        certificate(name)[slice(*sorted(data.draw(st.tuples(st.integers(0, 500), st.integers(0, 500)))))]
        for name in data.draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4))
    ]
    mutant = certificate(NAMES[0])[: data.draw(st.integers(0, 300))] + b"".join(pieces)
    key = key_or_none(mutant)
    assert key is None or key in mutant


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"version": b""},
        {"version": b"\xa0\x03\x02\x01\x01", "options": b"\x81\x02\x00\x01\x82\x02\x00\x01"},
        {"options": b"\x81\x02\x00\x01\x82\x02\x00\x01\xa3\x02\x30\x00"},
        {"options": b"\x82\x02\x00\x01"},
        {"options": element(0xA3, bytes(200))},
        {"options": element(0xA3, bytes(70_000))},
        {"serial": b"\x02\x01\x00"},
        {"serial": b"\x02\x01\xff"},
        {"serial": element(INTEGER, b"\x01" * 20)},
        {"name": element(SEQUENCE, bytes(300))},
    ],
    ids=[
        "v3", "v1", "v2-unique-ids", "all-options", "second-option", "one-length-octet", "three-length-octets",
        "serial-0", "serial-negative", "serial-20-octets", "long-name",
    ],
)  # fmt: skip
def test_what_is_rare_but_right_is_read(parts):
    """RFC 5280, section 4.1, and certificates older than it."""
    read = read_certificate(made(**parts))
    assert read == Certificate(KEY, parts.get("name", b"\x30\x00"), parts.get("name", b"\x30\x00"), 0, 0)


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"version": b"\xa0\x03\x02\x01\x00"}, "version at offset"),
        ({"version": b"\xa0\x03\x02\x01\x03"}, "version at offset"),
        ({"version": b"\xa0\x04\x02\x02\x00\x02"}, "version at offset"),
        ({"serial": b"\x02\x00"}, "serialNumber at offset 9 is empty"),
        ({"serial": b"\x0a\x01\x01"}, "serialNumber expected at offset 9: tag 0x02, not 0x0a"),
        ({"serial": b"\x1f\x81\x01\x01"}, "serialNumber expected"),
        ({"name": b"\x31\x00"}, "issuer expected"),
        ({"dates": b"\x31\x00"}, "validity expected"),
        ({"dates": b""}, "algorithm expected"),
        ({"options": b"\x83\x01\x00"}, "unknown field, or out of order"),
        ({"options": b"\x05\x00"}, "unknown field, or out of order"),
        ({"options": b"\xa3\x00\x81\x00"}, "unknown field, or out of order"),
        ({"options": b"\x81\x00\x81\x00"}, "unknown field, or out of order"),
        ({"options": b"\xa3\x01"}, "tbsCertificate does not end"),
        ({"signature": b"\x04\x02\x00\xff"}, "signatureValue expected"),
        ({"signature": b""}, "cut off at offset"),
        ({"signature": b"\x03\x80\x00\x00"}, "signatureValue at offset .* indefinite length"),
        ({"signature": b"\x03\x84\x00\x00\x00\x01\x00"}, "more than 3 octets"),
        ({"signature": b"\x03\xff"}, "more than 3 octets"),
        ({"signature": b"\x03\x81\x02\x00\xff"}, "not minimal"),
        ({"signature": b"\x03\x82\x00\x80" + bytes(128)}, "not minimal"),
        ({"signature": b"\x03\x83\x00\x80\x00" + bytes(0x8000)}, "not minimal"),
        ({"signature": b"\x03\x81\x7f" + bytes(0x7F)}, "not minimal"),
        ({"signature": b"\x03\x82\x00\xff" + bytes(0xFF)}, "not minimal"),
        ({"signature": b"\x03\x83\x00\xff\xff" + bytes(0xFFFF)}, "not minimal"),
        ({"behind": b"\x00"}, "signatureValue does not end where it should"),
        ({"key": element(SEQUENCE, ALGORITHM, b"\x03\x01\x00")}, "empty or has unused bits"),
        ({"key": element(SEQUENCE, ALGORITHM, b"\x03\x00")}, "empty or has unused bits"),
        ({"key": element(SEQUENCE, ALGORITHM, b"\x03\x02\x01\xfe")}, "empty or has unused bits"),
        ({"key": element(SEQUENCE, ALGORITHM, b"\x03\x02\x00\xff\x05\x00")}, "does not end with"),
        ({"key": element(SEQUENCE, ALGORITHM, b"\x04\x02\x00\xff")}, "subjectPublicKey expected"),
        ({"key": element(SEQUENCE, b"\x03\x02\x00\xff")}, "algorithm expected"),
    ],
)
def test_what_has_a_second_reading_is_refused(parts, why):
    """Strict where two parsers could disagree: nothing unknown, nothing left over, one length form (AUT-23)."""
    with pytest.raises(CertificateError, match=why):
        read_certificate(made(**parts))


@pytest.mark.parametrize("length", [0, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x10000])
def test_each_length_has_one_form(length):
    """The shortest, which alone is read; on both sides of where another octet is called for (X.690, section 10.1)."""
    for part in ("signature", "name"):
        tag = BIT_STRING if part == "signature" else SEQUENCE
        assert read_certificate(made(**{part: element(tag, bytes(length))})).spki == KEY


@pytest.mark.parametrize("length", range(100, 150))
def test_a_key_may_have_any_length(length):
    """The elements around it too, on both sides of a second octet of length (AUT-5)."""
    key = element(SEQUENCE, ALGORITHM, element(BIT_STRING, b"\0", bytes(length)))
    assert read_certificate(made(key=key)).spki == key
    assert key_bits(key) == bytes(length)


def test_what_was_read_does_not_change():
    """A pin is made of it."""
    with pytest.raises(FrozenInstanceError):
        read_certificate(made()).spki = b""


def test_octets_behind_a_certificate_are_refused():
    """One certificate is all there is (AUT-23)."""
    with pytest.raises(CertificateError, match=f"Certificate does not end where it should, at offset {len(made())}"):
        read_certificate(made() + b"\x00")


@pytest.mark.parametrize(
    "algorithm", ["300906072a8648ce380401", "300906072a8648ce3d0201", "300b06072a8648ce3d02010500"]
)
def test_a_key_with_inherited_parameters_is_refused(algorithm):
    """Such a key is not the whole key, and would match under any issuer (AUT-27; RFC 7469, section 2.4)."""
    key = element(SEQUENCE, bytes.fromhex(algorithm), b"\x03\x02\x00\xff")
    for read, der in ((key_bits, key), (read_certificate, made(key=key))):
        with pytest.raises(CertificateError, match="inherits parameters from its issuer: it cannot be pinned"):
            read(der)


def test_key_bits_are_the_content_of_the_bit_string():
    """Without algorithm identifier, tag, length and the octet that counts unused bits."""
    assert key_bits(element(SEQUENCE, ALGORITHM, b"\x03\x04\x00abc")) == b"abc"


@pytest.mark.parametrize("name", NAMES)
def test_a_public_key_is_whole_or_refused(name):
    """Every truncation, and octets behind (AUT-23)."""
    spki = public_key_of(certificate(name))
    assert spki.endswith(key_bits(spki))
    for broken in (spki + b"\x00", *(spki[:length] for length in range(len(spki)))):
        with pytest.raises(CertificateError):
            key_bits(broken)


def dates_of(not_before: bytes, not_after: bytes) -> tuple[int | None, int | None]:
    read = read_certificate(made(dates=element(SEQUENCE, not_before, not_after)))
    assert read.spki == KEY
    return read.not_before, read.not_after


@given(st.datetimes(datetime(1950, 1, 1), datetime(2049, 12, 31, 23, 59, 59)))
@example(datetime(1950, 1, 1))
@example(datetime(1999, 12, 31, 23, 59, 59))
@example(datetime(2000, 2, 29))
@example(datetime(2049, 12, 31, 23, 59, 59))
def test_utc_time(moment):
    """Two digits of a year stand for 1950 to 2049 (RFC 5280, section 4.1.2.5.1)."""
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    time = element(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())
    assert dates_of(time, time) == (moment.timestamp(), moment.timestamp())


@given(st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 31, 23, 59, 59)))
@example(datetime(2050, 1, 1))
@example(datetime(2100, 2, 28))
@example(datetime(2100, 3, 1))
@example(datetime(9999, 12, 31, 23, 59, 59))
def test_generalized_time(moment):
    """Four digits of a year (RFC 5280, section 4.1.2.5.2)."""
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    time = element(0x18, moment.strftime("%Y%m%d%H%M%SZ").encode())
    assert dates_of(time, time) == (moment.timestamp(), moment.timestamp())


@pytest.mark.parametrize("year", [1600, 1900, 2023, 2024, 2100])
def test_every_month_has_its_days(year):
    """And not one more, in leap years and centuries too."""
    for month in range(1, 13):
        for day in (1, 28, 29, 30, 31, 32):
            time = element(0x18, f"{year}{month:02}{day:02}000000Z".encode())
            try:
                due = datetime(year, month, day, tzinfo=UTC).timestamp()
            except ValueError:
                due = None
            assert dates_of(time, time) == (due, due)


@pytest.mark.parametrize(
    "time",
    [
        element(0x17, b"7001010000Z"),
        element(0x17, b"700101000000+0000"),
        element(0x17, b"19700101000000Z"),
        element(0x17, b"70010100000\xb2Z"),
        element(0x18, b"700101000000Z"),
        element(0x18, b"20500101000000.5Z"),
        element(0x18, b"20500101000000"),
        element(0x18, b"20500101000000+00"),
        element(0x18, b"2050010100000 Z"),
        element(0x18, b"00000101000000Z"),
        element(0x18, b"00001231235959Z"),
        element(0x18, b"-0010101000000Z"),
        element(0x17, b"700101000000z"),
        element(0x17, b"+00101000000Z"),
        element(0x38, b"20500101000000Z"),
        b"\x18\x81\x0f20500101000000Z",
        b"\x18\x8020500101000000Z\0\0",
        element(0x17, b"700001000000Z"),
        element(0x17, b"701301000000Z"),
        element(0x17, b"700100000000Z"),
        element(0x17, b"700431000000Z"),
        element(0x17, b"710229000000Z"),
        element(0x18, b"21000229000000Z"),
        element(0x17, b"700101240000Z"),
        element(0x17, b"700101006000Z"),
        element(0x17, b"700101000060Z"),
        element(0x16, EPOCH_DATE),
        element(0x17, bytes(200)),
        b"\x17\x0d7001",
        b"\x17",
        b"",
    ],
)
def test_a_date_in_no_form_is_none(time):
    """FR-37: the pin does not depend on dates, so that a bad one hides nothing but itself."""
    good = element(0x17, EPOCH_DATE)
    assert dates_of(good, time) == (0, None)
    assert dates_of(time, b"")[0] is None


def test_a_bad_date_does_not_hide_the_other():
    """A well-formed element with the wrong form is stepped over."""
    assert dates_of(element(0x17, b"7001010000Z"), element(0x17, EPOCH_DATE)) == (None, 0)


def test_what_stands_behind_the_dates_spoils_the_last():
    """Validity has two dates and nothing else."""
    good = element(0x17, EPOCH_DATE)
    assert dates_of(good, good + b"\x05\x00") == (0, None)


def test_a_date_ends_with_its_validity():
    """The octets behind are no part of it, even if they look like the rest of a date."""
    name = element(SEQUENCE, b"Z", bytes(47))
    assert name.startswith(b"00Z")
    read = read_certificate(made(dates=element(SEQUENCE, b"\x17\x0d7001010000"), name=name))
    assert (read.not_before, read.not_after) == (None, None)


# Who may issue certificates (RFC 5280, section 4.2.1)


def extension(number: int, value: bytes, *, critical: bool = True) -> bytes:
    flag = b"\x01\x01\xff" if critical else b""
    return element(SEQUENCE, b"\x06\x03\x55\x1d" + bytes([number]), flag, element(0x04, value))


def with_extensions(*extensions: bytes, before: bytes = b"") -> bytes:
    return made(options=before + element(0xA3, element(SEQUENCE, *extensions)))


AUTHORITY = extension(19, b"\x30\x03\x01\x01\xff")
SIGNS, SIGNS_NOT = extension(15, b"\x03\x02\x01\x06"), extension(15, b"\x03\x02\x05\xa0")


@pytest.mark.parametrize("name", ["leaf-p256", "ca-inter-p256", "ca-root-p384", "attacker-self"])
def test_authorities_agree_with_another_reader(name):
    """Basic constraints, as cryptography reads them."""
    extensions = x509.load_der_x509_certificate(certificate(name)).extensions
    try:
        is_authority = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_authority = False
    assert may_issue(certificate(name)) is is_authority


CA_TRUE = b"\x01\x01\xff"

PATHS = [
    (b"\x02\x01\x00", True),
    (b"\x02\x01\x7f", True),
    (b"\x02\x02\x00\x80", True),
    (b"\x02\x01\xff", False),
    (b"\x02\x02\x00\x01", False),
    (b"\x02\x00", False),
    (b"\x02\x01", False),
    (b"\x02\x05\x01", False),
    (b"\x01\x01\x00", False),
    (b"\x02\x01\x00\x05\x00", False),
]
"Lengths of a path, and whether each can be read (RFC 5280, section 4.2.1.9)."

USAGES = [
    (b"\x03\x02\x02\x04", True),
    (b"\x03\x03\x07\x06\x80", True),
    (b"\x03\x02\x01\x02", False),
    (b"\x03\x02\x03\x04", False),
    (b"\x03\x02\x08\x04", False),
    (b"\x03\x01\x00", False),
    (b"\x03\x02\x02\x04\x00", False),
    (b"\x04\x02\x02\x04", False),
    (b"", False),
]
"Key usages, and whether each can be read and lets a key sign certificates (RFC 5280, section 4.2.1.3)."


def limit(tag: int, *names: bytes) -> bytes:
    return element(tag, *(element(SEQUENCE, name) for name in names))


DNS = element(0x82, b"dot.test")

LIMITS = [
    (element(SEQUENCE, limit(0xA0, DNS)), True),
    (element(SEQUENCE, limit(0xA1, DNS, element(0x87, bytes(8)))), True),
    (element(SEQUENCE, limit(0xA0, DNS), limit(0xA1, element(0x87, bytes(32)))), True),
    (element(SEQUENCE, limit(0xA0, element(0xA4, b"\x30\x00"))), True),
    (element(SEQUENCE, limit(0xA0, element(0x82, b"d\xf6t.test"))), False),
    (element(SEQUENCE, limit(0xA0, element(0x87, bytes(4)))), False),
    (element(SEQUENCE, limit(0xA0, element(0x89, b""))), False),
    (element(SEQUENCE, limit(0xA0, element(0x04, b""))), False),
    (element(SEQUENCE, limit(0xA0, DNS + b"\x80\x01\x01")), False),
    (element(SEQUENCE, limit(0xA0, DNS + b"\x81\x01\x05")), False),
    (element(SEQUENCE, limit(0xA1, DNS), limit(0xA0, DNS)), False),
    (element(SEQUENCE, limit(0xA0, DNS), b"\x05\x00"), False),
    (element(SEQUENCE, limit(0xA0)), False),
    (element(SEQUENCE, element(0xA0, b"\x30\x7f" + DNS)), False),
    (element(SEQUENCE, element(0xA0, b"\x30\x0b" + DNS)), False),
    (element(SEQUENCE, element(0xA0, b"\x30\x0b\x82\x09dot.test"), b"t"), False),
    (element(SEQUENCE), False),
    (element(SEQUENCE, limit(0xA0, DNS)) + b"\0", False),
    (b"", False),
]
"Name constraints, and whether each can be read (RFC 5280, section 4.2.1.10)."


@pytest.mark.parametrize(
    ("der", "expected"),
    [
        (with_extensions(AUTHORITY), True),
        (with_extensions(AUTHORITY, SIGNS), True),
        (with_extensions(extension(19, b"\x30\x06\x01\x01\xff\x02\x01\x00", critical=False), SIGNS), True),
        (with_extensions(AUTHORITY, SIGNS, before=b"\x81\x02\x00\x01\x82\x02\x00\x01"), True),
        (with_extensions(AUTHORITY, SIGNS_NOT), False),
        (with_extensions(SIGNS), False),
        (with_extensions(extension(19, b"\x30\x00"), SIGNS), False),
        (with_extensions(extension(19, b"\x30\x03\x01\x01\x00"), SIGNS), False),
        (with_extensions(AUTHORITY, extension(19, b"\x30\x00")), False),
        (with_extensions(AUTHORITY, extension(15, b"\x03")), False),
        (with_extensions(b"\x30\x03\x06\x01\x01"), False),
        (with_extensions(b"\x02\x01\x01"), False),
        (made(options=b"\x82\x02\x00\x01"), False),
        (made(), False),
        (made(options=element(0xA3, b"\x30\x7f")), False),
        *((with_extensions(extension(19, element(SEQUENCE, CA_TRUE, path))), is_read) for path, is_read in PATHS),
        *((with_extensions(AUTHORITY, extension(15, usage)), is_read) for usage, is_read in USAGES),
        *((with_extensions(AUTHORITY, SIGNS, extension(30, limits)), is_read) for limits, is_read in LIMITS),
        (made(version=b"", options=element(0xA3, element(SEQUENCE, AUTHORITY, SIGNS))), False),
        (made(version=b"\xa0\x03\x02\x01\x01", options=element(0xA3, element(SEQUENCE, AUTHORITY))), False),
        (made(options=element(0xA3, element(SEQUENCE, AUTHORITY), b"\x05\x00")), False),
        (with_extensions(AUTHORITY, element(SEQUENCE, b"\x06\x01\x01", b"\x04\x00", b"\x05\x00")), False),
        (with_extensions(AUTHORITY, b"\x30\x05\x06\x01\x01\x04\x02"), False),
        (with_extensions(AUTHORITY, SIGNS, extension(35, b"\xff\xff")), True),
        (with_extensions(extension(19, b"\x30\x03\x01\x01\xff\x00"), SIGNS), False),
        (with_extensions(extension(19, b"\x30\x03\x01\x01\x01"), SIGNS), False),
        (with_extensions(extension(19, b""), SIGNS), False),
    ],
    ids=[
        "ca", "ca-signs", "path-length", "unique-ids", "ca-signs-not", "no-constraints", "no-ca", "ca-false", "twice",
        "empty-usage", "cut", "no-extension", "no-extensions", "plain", "too-long",
        *(f"path-{path.hex()}" for path, _ in PATHS),
        *(f"usage-{usage.hex()}" for usage, _ in USAGES),
        *(f"limits-{limits.hex()}" for limits, _ in LIMITS),
        "v1", "v2", "behind-extensions", "behind-value", "value-too-long", "other-unreadable",
        "behind-constraints", "ca-of-no-form", "no-octets",
    ],
)  # fmt: skip
def test_who_may_issue(der, expected):
    """FR-51: what cannot be read, and what is there twice, means no."""
    read_certificate(der)
    assert may_issue(der) is expected


def test_an_extension_ends_with_the_extensions():
    """FR-51: octets of the signature are no part of it."""
    der = with_extensions(AUTHORITY, extension(35, b"\xab\xcd"))
    start = bytes.fromhex("300c 0603551d23 0101ff 0402")
    longer = der.replace(start, bytes.fromhex("300e 0603551d23 0101ff 0404"))
    assert may_issue(der)
    assert der != longer
    read_certificate(longer)
    assert not may_issue(longer)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@given(
    st.sampled_from(["ca-inter-p256", "ca-root-p384"]), st.lists(st.tuples(st.integers(0, 999), st.integers(0, 255)))
)
def test_whoever_may_issue_may_so_to_another_reader(name, changes):
    """FR-51: of any octets; what the other reader, cryptography, cannot read at all is not compared."""
    octets_of = bytearray(certificate(name))
    for at, value in changes:
        octets_of[at % len(octets_of)] = value
    der = bytes(octets_of)
    if isinstance(result_of(read_certificate, der), CertificateError) or not may_issue(der):
        return
    try:
        extensions = x509.load_der_x509_certificate(der).extensions
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.InvalidVersion):
        return
    assert constraints.ca
    assert usage.key_cert_sign
