"""Handshakes that fail: what each is called, whom it harms, and that it never raises (TLS-4, TLS-14, CON-24)."""

from __future__ import annotations

import ssl
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dot_io.errors import Failure, HandshakeError
from dot_io.tls import HANDSHAKE_TIMEOUT, ClientContext, TLSClient
from dot_proto import (
    AuthenticationPolicy,
    Cause,
    ConnectionClosed,
    Event,
    Fault,
    QueryLost,
    make_query,
)
from support.messages import Clock, just_before, response_to, stream_of
from support.pki import Pki
from support.pki import pki_fixture as pki_fixture
from support.records import ALERT, HANDSHAKE, records
from support.wire import TLS12, TLS13, Peer, Wire, both_versions, make_client, raw_server, the

ANYBODY = AuthenticationPolicy.opportunistic()
"The policy that lets most through: what fails here fails under every other."


def handshaking(clock: Clock | None = None) -> TLSClient:
    """A client with a query at hand that has sent its ClientHello."""
    clock = clock or Clock()
    client = make_client(ClientContext(ANYBODY), clock)
    client.connection.send_query(make_query("secret.example"), now=clock.now)
    [hello] = records(b"".join(client.data_to_send()))
    assert hello.kind == HANDSHAKE
    return client


def failed(client: TLSClient, events: list[Event]) -> HandshakeError:
    """The error, after a check that the query may be asked elsewhere, and that no octet but an alert still leaves."""
    lost, closed = events
    assert isinstance(lost, QueryLost)
    assert (lost.safe_to_resend, lost.was_sent) == (True, False)
    assert isinstance(closed, ConnectionClosed)
    assert closed.cause is Cause.TRANSPORT_FAILED
    assert isinstance(closed.error, HandshakeError)
    assert client.next_timeout() is None
    assert {record.kind for record in records(b"".join(client.data_to_send()))} <= {ALERT}
    assert client.is_finished
    assert client.receive_data(b"more", now=2000.0) == []
    assert client.receive_eof(now=2000.0) == []
    assert client.data_to_send() == []
    return closed.error


ANSWER = stream_of([response_to(make_query("example.com"))])


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it seems, HTTP"),
        (b"<html><body>", "it seems, HTTP"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "but SSH"),
        (b"220 mail.example ESMTP\r\n", "SMTP or FTP"),
        (ANSWER, "DNS over plain TCP"),
        (bytes(64), "it began with 00 00 00 00"),
    ],
    ids=["http", "html", "ssh", "smtp", "dns", "zeros"],
)
def test_a_peer_that_does_not_speak_tls(octets: bytes, words: str) -> None:
    """TLS-4: and what it seems to speak instead."""
    client = handshaking()
    error = failed(client, client.receive_data(octets, now=1000.0))
    assert (error.failure, error.fault, error.alert) == (Failure.NOT_TLS, Fault.TLS, None)
    assert "the peer does not speak TLS" in str(error)
    assert words in str(error)
    trickled, events = handshaking(), []
    for octet in octets:
        events += trickled.receive_data(bytes([octet]), now=1000.0)
    assert failed(trickled, events).failure is Failure.NOT_TLS


ALERTS = {
    10: "unexpected_message",
    20: "bad_record_mac",
    22: "record_overflow",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    109: "missing_extension",
    110: "unsupported_extension",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
    121: "121",
    255: "255",
}
"Alerts of RFC 8446, section 6, but protocol_version; and two numbers without a name there."


@pytest.mark.parametrize("number", ALERTS)
def test_an_alert_by_its_name(number: int) -> None:
    """TLS-14."""
    client = handshaking()
    error = failed(client, client.receive_data(bytes([ALERT, 3, 3, 0, 2, 2, number]), now=1000.0))
    assert (error.failure, error.alert) == (Failure.ALERT, ALERTS[number])
    assert ALERTS[number] in str(error)


def test_the_alert_protocol_version() -> None:
    """TLS-1: a peer that has nothing newer than TLS 1.1 says so with this alert."""
    client = handshaking()
    error = failed(client, client.receive_data(bytes([ALERT, 3, 2, 0, 2, 2, 70]), now=1000.0))
    assert (error.failure, error.alert) == (Failure.NO_COMMON_VERSION, "protocol_version")


def test_a_warning_ends_nothing() -> None:
    """RFC 6066, section 3: servers that do not know the name may warn and go on."""
    client = handshaking()
    assert client.receive_data(bytes([ALERT, 3, 3, 0, 2, 1, 112]), now=1000.0) == []
    malformed = bytes([HANDSHAKE, 3, 3, 0, 4, 2, 0, 0, 0])
    error = failed(client, client.receive_data(malformed, now=1000.0))
    assert (error.failure, error.alert) == (Failure.OTHER, None)


def test_close_notify_inside_the_handshake() -> None:
    """RFC 8446, section 6.1."""
    client = handshaking()
    error = failed(client, client.receive_data(bytes([ALERT, 3, 3, 0, 2, 1, 0]), now=1000.0))
    assert error.failure is Failure.END_OF_STREAM


def old_server(pki: Pki) -> Peer:
    """A server that has TLS 1.1 and nothing newer."""
    context = raw_server(pki.file(pki.rsa, pki.intermediate), ciphers="ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return Peer(context, is_server=True)


@pytest.mark.skipif(not ssl.HAS_TLSv1_1, reason="this OpenSSL has no TLS 1.1 to refuse")
def test_a_server_with_old_versions_only(pki: Pki) -> None:
    """TLS-1 (RFC 8310, section 9)."""
    clock = Clock()
    wire = Wire(make_client(ClientContext(ANYBODY), clock), old_server(pki), clock=clock)
    wire.ask("secret.example")
    wire.flow()
    error = failed(wire.client, wire.client_events)
    assert error.failure is Failure.NO_COMMON_VERSION
    assert wire.heard == b""


@pytest.mark.parametrize("ours", [TLS12, TLS13])
def test_no_version_in_common(pki: Pki, ours: ssl.TLSVersion) -> None:
    """TLS-14: also when both are new enough."""
    theirs = TLS13 if ours is TLS12 else TLS12
    context = ClientContext(ANYBODY, minimum_version=ours, maximum_version=ours)
    clock = Clock()
    server = Peer(raw_server(pki.file(pki.leaf), theirs), is_server=True)
    wire = Wire(make_client(context, clock), server, clock=clock)
    wire.ask("secret.example")
    wire.flow()
    assert failed(wire.client, wire.client_events).failure is Failure.NO_COMMON_VERSION


def test_a_range_of_versions_that_is_empty() -> None:
    """No handshake can begin, as where somebody changes the context in between two looks at it."""
    context = ClientContext(ANYBODY)
    context._context.minimum_version, context._context.maximum_version = TLS13, TLS12
    client = make_client(context, Clock())
    assert [record.kind for record in records(b"".join(client.data_to_send()))] == [ALERT]
    assert client.next_timeout() == 1000.0
    [closed] = client.handle_timeout(now=1000.0)
    assert isinstance(closed, ConnectionClosed)
    assert isinstance(closed.error, HandshakeError)
    assert closed.error.failure is Failure.NO_COMMON_VERSION


@pytest.mark.parametrize("octets", [b"", b"\x16\x03\x03", b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03"])
def test_the_end_of_the_stream_inside_the_handshake(octets: bytes) -> None:
    """CON-24: a failure to connect, not a lost answer."""
    client = handshaking()
    assert client.receive_data(octets, now=1000.0) == []
    error = failed(client, client.receive_eof(now=1000.0))
    assert error.failure is Failure.END_OF_STREAM


def test_a_reset_inside_the_handshake() -> None:
    """CON-24: the same, with the system's own words."""
    client = handshaking()
    error = failed(client, client.fail("Connection reset by peer", now=1000.0))
    assert error.failure is Failure.END_OF_STREAM
    assert "Connection reset by peer" in str(error)


def test_a_handshake_that_takes_too_long() -> None:
    """CON-18: a peer that accepts and says nothing, or as good as nothing."""
    clock = Clock()
    client = make_client(ClientContext(ANYBODY), clock)
    client.connection.send_query(make_query("secret.example"), now=clock.now, timeout=60.0)
    client.data_to_send()
    deadline = clock.now + HANDSHAKE_TIMEOUT
    for _ in range(3):
        assert client.next_timeout() == deadline
        clock.advance(1.0)
        assert client.receive_data(b"\x16", now=clock.now) == []
        assert client.handle_timeout(now=just_before(deadline)) == []
    error = failed(client, client.handle_timeout(now=deadline))
    assert error.failure is Failure.TIMED_OUT


def test_a_query_that_times_out_before_the_handshake_is_through() -> None:
    """CON-18: its own deadline holds, and the handshake goes on."""
    clock = Clock()
    client = make_client(ClientContext(ANYBODY), clock)
    client.connection.send_query(make_query("secret.example"), now=clock.now, timeout=1.0)
    assert client.next_timeout() == clock.now + 1.0
    [event] = client.handle_timeout(now=clock.advance(1.0))
    assert type(event).__name__ == "QueryTimedOut"
    assert client.next_timeout() == 1000.0 + HANDSHAKE_TIMEOUT


def test_closing_inside_the_handshake() -> None:
    """CON-16: what is held was never sent, so there is nothing to wait for."""
    client = handshaking()
    client.connection.close(now=1001.0)
    assert client.data_to_send() == []
    assert not client.is_finished  # since nobody has been told
    assert client.next_timeout() <= 1001.0
    lost, closed = client.handle_timeout(now=1001.0)
    assert client.is_finished
    assert isinstance(lost, QueryLost)
    assert closed == ConnectionClosed(cause=Cause.LOCAL_CLOSE, error=None)
    assert client.next_timeout() is None


@both_versions
def test_a_server_that_wants_a_certificate(pki: Pki, version: ssl.TLSVersion) -> None:
    """Under TLS 1.3 its alert comes after the handshake (RFC 8446, section 4.4.2.4), under 1.2 inside it."""
    context = raw_server(pki.file(*pki.honest), version)
    context.verify_mode = ssl.CERT_REQUIRED
    clock = Clock()
    wire = Wire(make_client(ClientContext(ANYBODY), clock), Peer(context, is_server=True), clock=clock)
    wire.flow()
    closed = the(ConnectionClosed, wire.client_events)
    assert closed.cause is Cause.TRANSPORT_FAILED
    assert closed.error is not None
    assert closed.error.fault is Fault.TLS
    if version is TLS13:
        assert str(closed.error) == "the TLS session broke: tlsv13 alert certificate required"
    else:
        assert isinstance(closed.error, HandshakeError)
        assert closed.error.alert == "handshake_failure"


@given(st.binary(min_size=1, max_size=200), st.booleans())
def test_any_octets_fail_in_order(octets: bytes, look_like_tls: bool) -> None:
    """Whatever comes instead of a handshake ends in one event, or waits for more."""
    client = handshaking()
    events = client.receive_data((b"\x16\x03\x03" if look_like_tls else b"") + octets, now=1000.0)
    failed(client, events or client.receive_eof(now=1000.0))
