"""Contexts that somebody else has made, on every backend: what their callbacks raise reaches whoever can mend it."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from conformance.adapters import Backend
from conformance.identities import NAME, Identities, make_identities
from conformance.test_servers import is_served
from dot_io.errors import Failure, HandshakeError
from dot_io.tls import ClientContext, ServerContext
from dot_proto import AuthenticationPolicy, CertificateError, DoTError, LocalProtocolError, make_query
from support.peers import RawClient, answer

DESCRIPTORS = Path("/proc/self/fd")

QUERY = make_query("example.com")


class Fault(Exception):
    """What somebody's callback raises."""


def raising(*_: object) -> None:
    raise Fault("of a callback")


def given(identities: Identities, protocol: int) -> Any:
    """A context of somebody's that may be used."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    context.set_ciphers("ECDHE+AESGCM")
    if protocol is ssl.PROTOCOL_TLS_SERVER:
        context.load_cert_chain(identities.certificate_file)
    else:
        context.hostname_checks_common_name = False
        context.load_verify_locations(cadata=identities.anchor)
    return context


def sockets() -> int:
    """Sockets that this process has open."""
    found = 0
    for one in DESCRIPTORS.iterdir():
        try:
            found += os.readlink(one).startswith("socket:")
        except OSError:
            continue  # the directory's own
    return found


def renegotiating(context: Any) -> None:
    context.options &= ~ssl.OP_NO_RENEGOTIATION


def calling_back(context: Any) -> None:
    context._msg_callback = raising


CHANGES: dict[str, tuple[Callable[[Any], None], type[DoTError]]] = {
    "changed for the worse": (renegotiating, LocalProtocolError),
    "its callback raises": (calling_back, HandshakeError),
}


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="no /proc to count sockets in")
@pytest.mark.parametrize("change", CHANGES)
def test_of_the_client(api: Backend, identities: Identities, change: str) -> None:
    """FR-12: out of connect() comes one of our errors, with the cause, and no socket stays open."""
    spoil, kind = CHANGES[change]
    theirs = given(identities, ssl.PROTOCOL_TLS_CLIENT)
    context = ClientContext(AuthenticationPolicy.strict(NAME), ssl_context=theirs)

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", port=port, context=context) as client:
            await client.query(QUERY)
        spoil(theirs)
        before = sockets()
        for first_query in (None, QUERY):
            with pytest.raises(kind) as caught:
                async with api.connect("127.0.0.1", port=port, context=context, first_query=first_query):
                    pytest.fail("connected")
            if isinstance(caught.value, HandshakeError):
                assert caught.value.failure is Failure.LOCAL
                assert isinstance(caught.value.__cause__, Fault)
        await api.until(lambda: sockets() <= before)

    with api.serving(lambda query, peer: answer(query), identities.server) as server:
        api.run(scenario, server.port)


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="no /proc to count sockets in")
@pytest.mark.parametrize("change", CHANGES)
def test_of_the_server(api: Backend, identities: Identities, change: str, caplog: pytest.LogCaptureFixture) -> None:
    """FR-12: the client is turned away, the log says why, no socket stays open, and the next client is served."""
    spoil, _ = CHANGES[change]
    theirs = given(identities, ssl.PROTOCOL_TLS_SERVER)
    context = ServerContext(ssl_context=theirs)
    options, callback = theirs.options, theirs._msg_callback

    async def scenario(api: Backend, port: int) -> None:
        spoil(theirs)
        before = sockets()
        for _ in range(3):
            with pytest.raises(DoTError):
                async with api.connect("127.0.0.1", port=port, context=identities.context()) as client:
                    await client.query(QUERY)
        await api.until(lambda: sockets() <= before)
        theirs.options, theirs._msg_callback = options, callback
        async with api.connect("127.0.0.1", port=port, context=identities.context()) as client:
            assert await client.query(QUERY)

    with api.serving(lambda query, peer: answer(query), context, max_connections=2) as server:
        api.run(scenario, server.port)
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert ("renegotiation" if spoil is renegotiating else "Fault: of a callback") in said
    if spoil is calling_back:
        assert any(record.exc_info and isinstance(record.exc_info[1], Fault) for record in caplog.records)


def test_a_server_that_runs_takes_a_renewed_certificate(api: Backend, identities: Identities, tmp_path: Path) -> None:
    """FR-30: newcomers see it, whoever is there stays, and what is wrong changes nothing."""
    renewed = make_identities(tmp_path, trustme).certificate_file.read_bytes()
    file = tmp_path / "chain.pem"
    file.write_bytes(identities.certificate_file.read_bytes())
    context = ServerContext(file)
    with api.serving(answer, context) as server, RawClient(server.port) as first:
        assert is_served(first)
        file.write_bytes(renewed)
        context.reload()
        with RawClient(server.port) as second:
            assert is_served(second)
            assert second.tls.getpeercert(True) != first.tls.getpeercert(True)
        file.write_bytes(b"")
        with pytest.raises(CertificateError, match="it is empty"):
            context.reload()
        with RawClient(server.port) as third:
            assert is_served(third)
            assert third.tls.getpeercert(True) == second.tls.getpeercert(True)
        assert is_served(first)
