"""What people write: pins, PEM, names, upstreams.  The octets are such a text."""

from __future__ import annotations

import socket
from contextlib import suppress

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from dot_proto import (
    AuthenticationPolicy,
    CertificateError,
    LocalProtocolError,
    MessageError,
    Pin,
    PinError,
    Upstream,
    UpstreamError,
    certificates_from,
    make_query,
)
from dot_proto import _der as der
from dot_proto import _message as dns_message
from dot_proto import _pem as pem
from dot_proto.authentication import is_address, normalize_name
from dot_proto.resolver.importers import from_resolved_conf, from_stamp, from_unbound_conf


def target(data: bytes) -> None:
    """Each text is read in one way, or refused with an error of its own kind."""
    text = data.decode("latin-1")
    pins(text)
    files(data)
    names(text)
    upstreams(text)


def pins(text: str) -> None:
    """A pin is in its text, and reads back from each of its three forms (AUT-4)."""
    try:
        pin = Pin.parse(text)
    except PinError as refused:
        assert str(refused).isprintable()  # noqa: PT017
        return
    assert str(pin) in text
    for form in (f"{pin}", f"sha256/{pin}", f'pin-sha256="{pin}"'):
        assert Pin.parse(form) == pin


def files(data: bytes) -> None:
    """What comes out of DER or PEM is DER that can be read."""
    try:
        found = certificates_from(data)
    except CertificateError:
        pass
    else:
        assert found
        assert all(der.read_certificate(each) for each in found)
        assert Pin.of_certificate(data) == Pin.of_certificate(found[0])
        is_whole(data, found)
    try:
        key = pem.public_key_from(data)
    except CertificateError:
        pass
    else:
        assert pem.public_key_from(key) == pem.public_key_from(pem.public_key_to_pem(key)) == key


def is_whole(data: bytes, found: list[bytes]) -> None:
    """What another reader finds in an accepted file, we have found."""
    try:
        others = x509.load_pem_x509_certificates(data)
    except (ValueError, x509.InvalidVersion):
        return
    assert {one.public_bytes(Encoding.DER) for one in others} <= set(found)


def names(text: str) -> None:
    """A name in its one form stays so; what can be asked can be walked."""
    try:
        name = normalize_name(text)
    except LocalProtocolError as refused:
        assert str(refused).isascii()  # noqa: PT017
        assert str(refused).isprintable()  # noqa: PT017
    else:
        assert normalize_name(name) == name
        with suppress(OSError, ValueError):  # where the C library reads an IPv4 address, it is this one
            assert socket.inet_ntoa(socket.inet_aton(text.strip("[]"))) == name
        policy = AuthenticationPolicy.strict(text)
        assert policy.name == name
        assert policy.server_name == (None if is_address(name) else name)
    try:
        query = make_query(text)
    except MessageError:
        pass
    else:
        assert dns_message.malformation(query) is None
        assert dns_message.opcode_of(query) == 0


def upstreams(text: str) -> None:
    """An upstream reads back from its URL (RES-2); so do those in the forms of other programs (RES-3, RES-7)."""
    found: list[Upstream] = []
    for read in (Upstream.parse, from_resolved_conf, from_unbound_conf, from_stamp):
        problems: tuple[str, ...] = ()
        try:
            upstream = read(text)
        except UpstreamError as error:
            problems = error.problems
        else:
            found += upstream if isinstance(upstream, tuple) else (upstream,)
        assert all(problem.isprintable() for problem in problems)
    for one in found:
        assert Upstream.parse(one.url) == one
        assert one.is_opportunistic or all(one.policy_for(address).name or one.pins for address in one.addresses)
