"""A driver that keeps the published duties alone hears every fate and one end, however a TLS session ends, and when."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from dot_io.tls import HandshakeCompleted, ServerContext, TLSServer
from dot_io.tls.server import LINGER_TIMEOUT
from dot_proto import Cause, ConnectionClosed
from dot_proto.testing.duties import Make, check_duties, every_moment
from dot_proto.testing.exchange import START, End, Exchange, Plan
from support.messages import Clock, message, stream_of
from support.pki import Pki
from support.pki import pki_fixture as pki_fixture
from support.sessions import KINDS, PLAIN, PLANS, TLS_ENDS, KeysGone, check_ends_of_tls
from support.wire import Peer, Wire, raw_client


@pytest.fixture(scope="session")
def makers(pki: Pki) -> dict[str, Make]:
    return {name: kind.maker(pki) for name, kind in {**PLAIN, **KINDS}.items()}


CAUSES = {
    "wrong-name": Cause.PEER_REFUSED,
    "expired": Cause.PEER_REFUSED,
    "wrong-pin": Cause.PEER_REFUSED,
    "no-client-certificate": Cause.TRANSPORT_FAILED,
    "no-time-for-handshakes": Cause.TRANSPORT_FAILED,
    "no-common-version": Cause.TRANSPORT_FAILED,
    "no-version-at-all": Cause.TRANSPORT_FAILED,
    "other-protocol": Cause.TRANSPORT_FAILED,
    "keepalive-0": Cause.GO_AWAY,
    "max-queries": Cause.PEER_CLOSED,
    "max-duration": Cause.PEER_CLOSED,
}
"How a client of each kind ends; the others end when they have been idle for long enough."


@pytest.mark.parametrize("kind", [*PLAIN, *KINDS])
def test_the_kinds_are_what_they_are_called(makers: dict[str, Make], kind: str) -> None:
    """Else the law would be tried on fewer than it seems."""
    exchange = Exchange(makers[kind](START), Plan()).play()
    assert exchange.client.closed is not None
    expected = CAUSES.get(kind.removesuffix("-1.2").removesuffix("-1.3"), Cause.IDLE)
    assert exchange.client.closed.cause is expected
    completed = [event for event in exchange.client.events if isinstance(event, HandshakeCompleted)]
    assert all(event.is_resumed is kind.startswith("resumed") for event in completed)
    assert all(event.version == f"TLSv{kind[-3:]}" for event in completed if kind[-3:] in ("1.2", "1.3"))


@pytest.mark.parametrize("end", TLS_ENDS, ids=repr)
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("kind", PLAIN)
def test_each_end_at_each_moment(makers: dict[str, Make], kind: str, plan: str, end: End) -> None:
    """FR-1: before each read of an exchange, and inside each."""
    octets = (0, 1, 100) if plan == "plain" else (0,)
    for at_server in (False, True):
        for exchange in every_moment(makers[kind], end, at_server=at_server, plan=PLANS[plan], octets=octets):
            check_ends_of_tls(exchange)


@pytest.mark.parametrize("kind", KINDS)
def test_each_end_of_each_kind_of_handshake(makers: dict[str, Make], kind: str) -> None:
    """Resumed, refused by either side, for whatever reason; and servers that end by themselves."""
    for end in TLS_ENDS:
        for at_server in (False, True):
            for exchange in every_moment(makers[kind], end, at_server=at_server):
                check_ends_of_tls(exchange)


def test_however_octets_are_cut(makers: dict[str, Make]) -> None:
    """Up to three ends, one after the other; and whatever else can be varied."""
    kinds = st.sampled_from(sorted(makers)).map(makers.__getitem__)
    check_duties(kinds, TLS_ENDS, also=check_ends_of_tls)


def test_a_failure_to_encrypt_after_the_end_is_not_waited_for(pki: Pki) -> None:
    """The end has been told, with its own reason: nothing is due before the client has had its time to close TCP."""
    clock = Clock()
    client = Peer(raw_client())
    server = TLSServer(ServerContext(pki.file(*pki.honest)), now=clock.now)
    Wire(client, server, clock=clock).flow()
    client.say(stream_of([message()]))  # is answered by the engine itself
    client.close()
    server._tls = KeysGone(server._tls, server.connection)  # type: ignore[assignment]
    *_, closed = server.receive_data(b"".join(client.data_to_send()), now=clock.now)
    assert isinstance(closed, ConnectionClosed)
    assert server.next_timeout() == clock.now + LINGER_TIMEOUT
