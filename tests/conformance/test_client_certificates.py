"""Mutual TLS: whom the handler is told it answers, on every backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme

from conformance.adapters import Backend
from conformance.identities import Identities
from dot_io.errors import ConnectionLostError, HandshakeError
from dot_proto import CertificateFacts, Pin, certificates_from, make_query
from support.messages import response_to


@pytest.mark.parametrize("shows", [True, False], ids=["shown", "none"])
def test_the_handler_sees_the_clients_certificate(
    api: Backend, identities: Identities, tmp_path: Path, shows: bool
) -> None:
    """A server that asks for certificates tells the handler whose; without one nobody is answered."""
    authority = trustme.CA()
    mine = authority.issue_cert("client.example")
    file = tmp_path / "client.pem"
    mine.private_key_and_cert_chain_pem.write_to_path(str(file))
    anchor, own = tmp_path / "ca.pem", tmp_path / "own.pem"
    authority.cert_pem.write_to_path(str(anchor))
    mine.cert_chain_pems[0].write_to_path(str(own))
    seen: list[CertificateFacts | None] = []

    def handler(query: bytes, peer: Any) -> bytes:
        seen.append(peer.certificate)
        return response_to(query)

    async def scenario(api: Backend, port: int) -> None:
        context = identities.context(certificate_file=file if shows else None)
        if shows:
            async with api.connect("127.0.0.1", port=port, context=context) as client:
                await client.query(make_query("example.com"))
        else:
            with pytest.raises((HandshakeError, ConnectionLostError)):
                async with api.connect("127.0.0.1", port=port, context=context) as client:
                    await client.query(make_query("example.com"))

    server = identities.server_context(client_trust_anchors=certificates_from(anchor.read_bytes()))
    with api.serving(handler, server) as running:
        api.run(scenario, running.port)
    assert [one.pin for one in seen if one] == ([Pin.of_certificate(own.read_bytes())] if shows else [])
