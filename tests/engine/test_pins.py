"""SPKI pins: texts, octets, certificates (AUT-4 to AUT-9, AUT-22, AUT-27)."""

from __future__ import annotations

import time
from base64 import b64decode, b64encode
from hashlib import sha256
from itertools import combinations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from dot_proto._der import public_key_of
from dot_proto._pem import public_key_to_pem
from dot_proto.errors import CertificateError, LocalProtocolError, PinError
from dot_proto.pins import Pin
from support.certificates import BIT_STRING, SEQUENCE, element, made
from support.vectors import certificate, certificate_pem, load, octets

VECTORS = load("pins")
CERTIFICATES = VECTORS["certificates"]
TEXT = "wsyQprbKTF4sUcvJR06FbFNi5Apjw/S52id946tDMkU="
DIGEST = b64decode(TEXT)
COMMAND = "openssl x509 -in server.pem -noout -pubkey"


def by_id(case) -> str:
    return case["id"]


@pytest.mark.parametrize("case", CERTIFICATES, ids=by_id)
def test_the_pin_of_a_certificate(case):
    """SHA-256 of the SubjectPublicKeyInfo, from DER and from PEM (AUT-4, AUT-6)."""
    pin = Pin.of_certificate(certificate(case["id"]))
    assert str(pin) == case["pin"]
    assert pin.digest.hex() == case["spki_sha256"]
    assert Pin.of_certificate(certificate_pem(case["id"])) == pin
    assert str(pin) not in case["not_the_pin"].values()


@pytest.mark.parametrize("case", CERTIFICATES, ids=by_id)
def test_the_pin_of_a_public_key(case):
    """From DER, as a raw public key comes (AUT-22), and from PEM (AUT-4)."""
    spki = public_key_of(certificate(case["id"]))
    assert str(Pin.of_public_key(spki)) == str(Pin.of_public_key(public_key_to_pem(spki))) == case["pin"]


@pytest.mark.parametrize("case", VECTORS["spki_only"], ids=by_id)
def test_the_octets_are_hashed_as_they_are(case):
    """RSA without NULL has its own pin (AUT-5)."""
    assert str(Pin.of_public_key(octets(case["hex"]))) == case["pin"]


def test_another_encoding_of_a_key_is_another_pin():
    """A compressed point is other octets (AUT-5)."""
    assert Pin.of_certificate(certificate("leaf-p256-compressed")) != Pin.of_certificate(certificate("leaf-p256"))


def test_the_first_of_several_certificates_counts():
    """As servers list them: leaf first."""
    text = certificate_pem("leaf-p256") + certificate_pem("ca-inter-p256")
    assert Pin.of_certificate(text) == Pin.parse(TEXT)


def test_text_inside_a_certificate_has_no_pin():
    """A peer cannot borrow a pin by carrying its owner's certificate or key as text (AUT-11)."""
    carrier = made(options=element(0xA3, certificate_pem("leaf-p256")))
    assert Pin.of_certificate(carrier) != Pin.parse(TEXT)
    key = element(
        SEQUENCE,
        bytes.fromhex("300506032b6570"),
        element(BIT_STRING, b"\x00", public_key_to_pem(public_key_of(certificate("leaf-p256")))),
    )
    assert Pin.of_public_key(key) != Pin.parse(TEXT)


@pytest.mark.parametrize("of", [Pin.of_certificate, Pin.of_public_key])
@pytest.mark.parametrize("case", VECTORS["bad_der"], ids=by_id)
def test_broken_octets_have_no_pin(of, case):
    """The caller's mistake, said as such (AUT-23)."""
    with pytest.raises(CertificateError):
        of(octets(case["hex"]))


def test_a_key_with_inherited_parameters_has_no_pin():
    """DSA without parameters (AUT-27; RFC 7469, section 2.4)."""
    key = element(SEQUENCE, bytes.fromhex("300906072a8648ce380401"), b"\x03\x02\x00\xff")
    for of, data in ((Pin.of_public_key, key), (Pin.of_certificate, made(key=key))):
        with pytest.raises(CertificateError, match="cannot be pinned"):
            of(data)


@pytest.mark.parametrize("case", VECTORS["good_text"], ids=by_id)
def test_good_text(case):
    """Bare base64 and the directive of RFC 7469 (AUT-7, AUT-8)."""
    pin = Pin.parse(case["text"])
    assert len(pin.digest) == 32
    assert str(pin) in case["text"]


@pytest.mark.parametrize("case", VECTORS["bad_text"], ids=by_id)
def test_bad_text(case):
    """The message says what is wrong: length, padding, alphabet, trailing bits, algorithm, syntax (AUT-7, AUT-8)."""
    why = "trailing bits" if case["why"].startswith("trailing bits") else case["why"].split()[0]
    with pytest.raises(PinError, match=rf"\b{why}\b"):
        Pin.parse(case["text"])


@pytest.mark.parametrize("text", [f'PIN-SHA256="{TEXT}"', f'Pin-Sha256="{TEXT}"', f"sha256/{TEXT}", f"SHA256/{TEXT}"])
def test_labels_are_read_without_regard_to_case(text):
    """A directive name is case-insensitive (AUT-8; RFC 7469, section 2.1)."""
    assert Pin.parse(text) == Pin.parse(TEXT)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f'pin-md5="{TEXT}"', "the algorithm md5 is not supported, only sha256"),
        (f'pin-sha3-256="{TEXT}"', "the algorithm sha3-256 is not supported"),
        (f"sha1/{TEXT}", "the algorithm sha1 is not supported"),
        (f'pin-sha256="{TEXT}', "syntax: pin-sha256 needs double quotes"),
        (f'pin-sha256={TEXT}"', "syntax: pin-sha256 needs double quotes"),
        ('pin-sha256="', "syntax: pin-sha256 needs double quotes"),
        (f"pin-sha256='{TEXT}'", "syntax: pin-sha256 needs double quotes"),
        (f'pin-sha256="{TEXT[:-1]}"', "padding is wrong: a pin ends with exactly one ="),
        (f'pin-sha256="{TEXT}\n"', "white space is not in the base64 alphabet"),
        ('pin-sha256=""', "its length is 0 octets, while a SHA-256 digest has 32"),
        ("sha256/", "its length is 0 octets"),
        (f"{TEXT}{TEXT}", "padding inside the text: give one pin alone"),
        (DIGEST.hex().upper(), "it looks like hex"),
        (DIGEST.hex(":"), "it looks like hex"),
        (DIGEST.hex(), COMMAND),
        ("AAAA", COMMAND),
        (TEXT.replace("/", "_"), "url-safe alphabet: write [+] for - and / for _"),
        (TEXT.replace("K", "\u212a"), "is not in the base64 alphabet"),
        (TEXT.replace("w", "\0"), r"'\\x00' is not in the base64 alphabet"),
        ("====", "its length is 0 octets"),
        (f"+tls-pin={TEXT}", "it is an option of a command line: give what follows the = alone"),
        (f"--tls-pin={TEXT}", "it is an option of a command line"),
        (f"--tls-pin {TEXT}", "it is an option of a command line"),
        (f"+tls-pin=sha256/{TEXT}", "it is an option of a command line"),
        (f"sha256//{TEXT}", "curl writes two slashes here: write sha256/ with one"),
        (f"sha256//{TEXT};sha256//{TEXT}", "';' is not in the base64 alphabet: give one pin alone"),
        (f'pin-sha256="{TEXT}"; max-age=5184000', "it is more than one directive: give what stands between a pair of"),
        (f'pin-sha256="{TEXT}"; pin-sha256="{TEXT}"', "it is more than one directive"),
        (f'pin-sha256="{TEXT}";', "it is more than one directive"),
        (f"sha256:{TEXT}", "a colon follows sha256: write sha256/ and the base64"),
        (f"SHA256:{TEXT[:-1]}", "a colon follows sha256"),
        (f'"{TEXT}"', "quotes are not in the base64 alphabet: leave them out"),
        (f"'{TEXT}'", "quotes are not in the base64 alphabet: leave them out"),
        (f"{TEXT} {TEXT}", "' ' is not in the base64 alphabet: give one pin alone"),
        (f"{TEXT}\n{TEXT}\n", r"'\\n' is not in the base64 alphabet: give one pin alone"),
        (f"{TEXT}==\n", "white space is not in the base64 alphabet: remove it"),
        (f"{TEXT}\r\n", "white space is not in the base64 alphabet: remove it"),
        (f"\ufeff{TEXT}", r"'\\ufeff' is not in the base64 alphabet"),
        (f"\u00a0{TEXT}", "white space is not in the base64 alphabet: remove it"),
        (DIGEST.hex(" "), "it looks like hex"),
        (DIGEST.hex("-"), "it looks like hex"),
        (f"0x{DIGEST.hex()}", r"it looks like hex.* as in TLSA 3 1 1, is Pin\(bytes.fromhex\(...\)\)"),
        (f"{DIGEST.hex()}\n", "it looks like hex"),
        (DIGEST[:20].hex(":"), "it looks like hex"),
        (f"sha256 Fingerprint={DIGEST.hex(':').upper()}", "fingerprint of a certificate is no pin"),
        (f"SHA1 Fingerprint={DIGEST[:20].hex(':').upper()}", "fingerprint of a certificate is no pin"),
        ("the fingerprint", "the fingerprint of a certificate is no pin"),
        (f"sha256/{DIGEST.hex()}", "it looks like hex"),
        (f"{TEXT}=", "its padding is wrong"),
        (TEXT[:-1], "its padding is wrong"),
        (TEXT.replace("/", "_")[:-1], "url-safe alphabet"),
        ("-----BEGIN CERTIFICATE-----\nMII", "it is PEM: Pin.of_certificate and Pin.of_public_key take it, as bytes"),
        ("\ufeff-----BEGIN PUBLIC KEY-----\nMII", "it is PEM"),
        ("server.pem", "it looks like the name of a file: Pin.of_certificate and Pin.of_public_key take its octets"),
        ("/etc/ssl/key.pub\n", "it looks like the name of a file"),
        ("", "its length is 0 octets"),
        ("\0", r"'\\x00' is not in the base64 alphabet"),
    ],
)
def test_what_is_wrong_and_what_to_do(text, why):
    """FR-45: a configuration error is found by reading its message (AUT-7, AUT-8)."""
    with pytest.raises(PinError, match=why):
        Pin.parse(text)


@pytest.mark.parametrize("length", [1, 20, 31, 33, 64])
def test_the_length_of_another_digest_is_said(length):
    """SHA-1 and SHA-512 are told by it (AUT-7)."""
    with pytest.raises(PinError, match=f"its length is {length} octets, while a SHA-256 digest has 32"):
        Pin.parse(b64encode(bytes(length)).decode())


def test_which_pin_of_a_list_is_wrong():
    """Its first 12 characters tell, and the cause is not repeated (AUT-7)."""
    with pytest.raises(PinError, match=r"^'0123456789ab'\.\.\. is no pin: its length is 41 octets") as caught:
        Pin.parse(f"0123456789ab{TEXT}")
    assert caught.value.__suppress_context__


def test_a_pin_error_is_a_mistake_of_the_caller():
    """It can be caught as what a configuration reader expects, and as this package's own (AUT-7)."""
    assert issubclass(PinError, LocalProtocolError)
    assert issubclass(PinError, ValueError)


def test_a_pasted_private_key_is_not_shown():
    """A message may end up in a log: it quotes the first characters only."""
    with pytest.raises(PinError) as caught:
        Pin.parse(f"-----BEGIN PRIVATE KEY-----\n{TEXT}\n-----END PRIVATE KEY-----\n")
    assert TEXT[:8] not in str(caught.value)


@pytest.mark.parametrize(
    ("given_pin", "why"),
    [
        (DIGEST, r"not bytes \(32 octets\): Pin\(digest\) takes the 32 octets themselves"),
        (TEXT.encode(), r"not bytes \(44 octets\): .* octets.decode\(\) makes text of base64"),
        (bytearray(DIGEST), r"not bytearray \(32 octets\): Pin"),
        (Pin(DIGEST), "not Pin: this is a pin already"),
        ([TEXT], "not list: give one pin in base64, as str"),
        (None, "not None: give one pin"),
    ],
)
def test_a_pin_is_parsed_from_text(given_pin, why):
    """FR-45: what was given, and what to do."""
    with pytest.raises(PinError, match=f"text must be a pin as text, {why}"):
        Pin.parse(given_pin)


@pytest.mark.parametrize("sample", ["=", " ", "= ", "aa:", "/", "pin-sha256=", "sha256/", "tls-pin="])
def test_a_long_text_is_refused_soon(sample):
    """FR-45: in time that grows with its length alone, and without showing it."""
    began = time.process_time()
    with pytest.raises(PinError) as refused:
        Pin.parse(sample * 2_000_000)
    assert time.process_time() - began < 5
    assert len(str(refused.value)) < 500


@given(st.binary(min_size=32, max_size=32))
@example(bytes(32))
@example(b"\xff" * 32)
def test_text_and_octets_are_one_to_one(digest):
    """Every digest has one text of 44 characters, and it reads back (AUT-7)."""
    pin = Pin(digest)
    assert str(pin) == b64encode(digest).decode()
    assert Pin.parse(str(pin)) == Pin.parse(f"sha256/{pin}") == Pin.parse(f'pin-sha256="{pin}"') == pin
    assert repr(pin) == f"Pin.parse('{pin}')"


def test_base64_that_looks_like_a_label():
    """A digest's text may itself begin with sha256/ (its length decides)."""
    text = "sha256/" + "A" * 36 + "="
    assert str(Pin.parse(text)) == text


@given(st.text(max_size=60) | st.text('AZaz09+/=-_ "pinsh256', min_size=40, max_size=60))
def test_any_text_is_a_pin_or_a_pin_error(text):
    """Nothing but PinError is raised, and what is accepted contains the pin's one text (AUT-7)."""
    try:
        pin = Pin.parse(text)
    except PinError:
        return
    assert str(pin) in text


@given(st.integers(0, 42), st.characters())
def test_another_character_is_another_pin_or_refused(at, character):
    """No two texts of this length stand for one digest (AUT-7; RFC 4648, section 3.5)."""
    text = TEXT[:at] + character + TEXT[at + 1 :]
    assume(text != TEXT)
    try:
        pin = Pin.parse(text)
    except PinError:
        return
    assert pin != Pin.parse(TEXT)


@pytest.mark.parametrize("digest", [b"", bytes(31), bytes(33), bytes(20), bytes(64)])
def test_a_pin_has_32_octets(digest):
    with pytest.raises(PinError, match=f"a pin has 32 octets, not {len(digest)}"):
        Pin(digest)


@pytest.mark.parametrize("digest", [TEXT, bytearray(32), memoryview(bytes(32)), None, 32])
def test_a_pin_is_made_of_bytes(digest):
    """What could change later is no key of a set, and text has its own constructor."""
    with pytest.raises(PinError, match=r"digest must be made of bytes, not .*: for text use Pin.parse"):
        Pin(digest)


def test_a_pin_is_a_value():
    """Equal by octets, hashable, immutable, and equal to nothing else (AUT-20)."""
    pin = Pin(DIGEST)
    assert {pin, Pin(bytes(bytearray(DIGEST)))} == {pin}
    assert pin != Pin(bytes(32))
    assert pin != DIGEST
    assert pin != TEXT
    with pytest.raises(AttributeError):
        pin.digest = bytes(32)
    with pytest.raises((AttributeError, TypeError)):
        pin.note = "a slot"
    assert pin.digest == DIGEST


MISTAKES = {
    "of_certificate_der": "the whole certificate",
    "of_bare_key_bits": "the bare key",
    "of_public_key_pem": "the public key's PEM text",
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("case", CERTIFICATES, ids=by_id)
def test_a_hash_of_the_wrong_part_is_explained(case, mistake):
    """The three hashes that people take for the pin are recognised, and the right one is given (AUT-4)."""
    pin = Pin.parse(case["pin"])
    wrong = Pin.parse(case["not_the_pin"][mistake])
    said = pin.explain_mismatch([Pin(bytes(32)), wrong], certificate(case["id"]))
    assert said is not None
    assert said.startswith(f"the configured pin {wrong} is the SHA-256 of {MISTAKES[mistake]}")
    assert said.endswith(f"; the pin of its public key is {pin}")


def test_a_stranger_s_pin_is_not_explained():
    """No hint where there is no mistake of this kind."""
    pin = Pin.parse(TEXT)
    der = certificate("leaf-p256")
    assert pin.explain_mismatch([], der) is None
    assert pin.explain_mismatch({Pin(bytes(32)), pin, Pin(sha256(b"").digest())}, der) is None


def test_different_keys_have_different_pins():
    """One key, one pin: certificates share a pin exactly where they share the key's octets."""
    for one, other in combinations(CERTIFICATES, 2):
        ders = certificate(one["id"]), certificate(other["id"])
        same_key = public_key_of(ders[0]) == public_key_of(ders[1])
        assert (Pin.of_certificate(ders[0]) == Pin.of_certificate(ders[1])) is same_key
