"""Pairs of our TLS sessions for the law of a driver's duties: every kind of handshake, and of ends that need TLS."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from dot_io.errors import Failure, HandshakeError
from dot_io.tls import ClientContext, HandshakeCompleted, ServerContext, SessionCache, TLSClient, TLSServer
from dot_proto import (
    AuthenticationPolicy,
    ClientConfiguration,
    Fault,
    PeerRefused,
    ServerConfiguration,
    State,
    Verdict,
)
from dot_proto.testing.duties import CLOSE, ENDS, SILENCE, Make
from dot_proto.testing.exchange import START, Action, End, Endpoint, Exchange, Pair, Plan
from support.pki import CLIENT, NAME, Pki, issue
from support.records import ALERT
from support.scenes import counting
from support.wire import ADDRESS, TLS12, TLS13


class SameAgain(SessionCache):
    """Resumes the session that it was given first, any number of times."""

    first: tuple[ssl.SSLSession, Verdict] | None = None

    def store(self, context: object, server: object, session: ssl.SSLSession, verdict: Verdict, **times: float) -> None:
        self.first = self.first or (session, verdict)

    def take(self, context: object, server: object, *, wall_time: float) -> tuple[ssl.SSLSession, Verdict] | None:
        return self.first


@dataclass
class Kind:
    """What the two sides are, and what comes of their handshake."""

    policy: Callable[[Pki], AuthenticationPolicy] = lambda pki: by_name(pki)
    chain: Callable[[Pki], tuple[Any, ...]] = lambda pki: pki.honest
    client: dict[str, Any] = field(default_factory=dict)
    "More for the client's context."
    server: dict[str, Any] = field(default_factory=dict)
    "More for the server's context."
    later: Callable[[ssl.SSLContext], None] | None = None
    "What is done to the client's context after it was looked at."
    wants_certificate: bool = False
    shows_certificate: bool = False
    resumes: bool = False
    client_configuration: ClientConfiguration | None = None
    server_configuration: ServerConfiguration | None = None
    more: dict[str, Any] = field(default_factory=dict)
    "More for both sessions."

    def maker(self, pki: Pki, *, client: type[TLSClient] = TLSClient, server: type[TLSServer] = TLSServer) -> Make:
        """Who makes pairs of this kind."""
        ours, theirs = self._contexts(pki)

        def make(now: float) -> Pair:
            return (
                client(ours, self.client_configuration, server=ADDRESS, entropy=counting(), now=now, **self.more),
                server(theirs, self.server_configuration, now=now, **self.more),
            )

        if self.resumes:
            Exchange(make(START), Plan()).play()
        return make

    def _contexts(self, pki: Pki) -> tuple[ClientContext, ServerContext]:
        more: dict[str, Any] = {"sessions": SameAgain() if self.resumes else False, **self.client}
        if self.shows_certificate:
            more["certificate_file"] = pki.file(issue("client.test", pki.other_root, usage=CLIENT))
        wanted: dict[str, Any] = {"client_trust_anchors": [pki.other_root.der]} if self.wants_certificate else {}
        client = ClientContext(self.policy(pki), **more)
        if self.later is not None:
            self.later(client._context)
        return client, ServerContext(pki.file(*self.chain(pki)), **wanted, **self.server)


def by_name(pki: Pki) -> AuthenticationPolicy:
    return AuthenticationPolicy.strict(NAME, trust_anchors=[pki.root.der])


def by_another_pin(pki: Pki) -> AuthenticationPolicy:
    return AuthenticationPolicy.strict(pins=[pki.customer.pin])


def without_versions(context: ssl.SSLContext) -> None:
    """No handshake can begin."""
    context.minimum_version, context.maximum_version = TLS13, TLS12


def in_both_versions(name: str, kind: Callable[[dict[str, Any]], Kind]) -> dict[str, Kind]:
    versions = {"1.2": TLS12, "1.3": TLS13}
    return {f"{name}-{number}": kind({"maximum_version": version}) for number, version in versions.items()}


PLAIN = in_both_versions("plain", lambda version: Kind(server=version))
"Nothing out of the ordinary."

KINDS = {
    **in_both_versions("resumed", lambda version: Kind(server=version, resumes=True)),
    **in_both_versions(
        "wrong-name", lambda version: Kind(server=version, chain=lambda pki: (pki.wrong_name, pki.intermediate))
    ),
    **in_both_versions(
        "expired", lambda version: Kind(server=version, chain=lambda pki: (pki.expired, pki.intermediate))
    ),
    **in_both_versions("wrong-pin", lambda version: Kind(server=version, policy=by_another_pin)),
    **in_both_versions(
        "client-certificate", lambda version: Kind(server=version, wants_certificate=True, shows_certificate=True)
    ),
    **in_both_versions("no-client-certificate", lambda version: Kind(server=version, wants_certificate=True)),
    "shared-records": Kind(more={"share_records": True}),
    "no-time-for-handshakes": Kind(more={"handshake_timeout": 0.0}),
    "no-common-version": Kind(client={"minimum_version": TLS13}, server={"maximum_version": TLS12}),
    "no-version-at-all": Kind(later=without_versions),
    "other-protocol": Kind(later=lambda context: context.set_alpn_protocols(["h2"])),
    "keepalive-0": Kind(server_configuration=ServerConfiguration(idle_timeout=0.0)),
    "max-queries": Kind(server_configuration=ServerConfiguration(max_queries=2)),
    # A client that asks for the server's timeout goes before the server's time is over.
    "max-duration": Kind(
        client_configuration=ClientConfiguration(keepalive=False),
        server_configuration=ServerConfiguration(max_duration=3.0, close_timeout=0.5),
    ),
    "one-in-flight": Kind(client_configuration=ClientConfiguration(max_in_flight=1, idle_timeout=0.0)),
}


# What happens beside the end that is put at every moment.

DRAINING = [Plan((Action(CLOSE, at_server, 3),), answered=0, needless=True) for at_server in (False, True)]
"One side closes while queries are in flight: it drains, then close_notify of one side is out, then of both."

PLANS = {
    "plain": Plan(),
    "needless-calls": Plan(needless=True, asks_first=True, prompt=False, server_first=True),
    "resets": Plan(resets=True, asks=(0, 5, 7)),
    "client-drains": DRAINING[0],
    "server-drains": DRAINING[1],
    "server-lingers": Plan((Action(CLOSE, True, 3), Action(SILENCE, True, 7)), needless=True),
}


# Ends that need to know TLS.


class KeysGone:
    """OpenSSL, but that it encrypts nothing any more."""

    def __init__(self, tls: ssl.SSLObject, connection: Any) -> None:
        self._tls = tls
        self._connection = connection
        self.has_failed_before_the_end = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tls, name)

    def write(self, data: bytes) -> int:
        self.has_failed_before_the_end |= self._connection.state is not State.CLOSED
        error = ssl.SSLError(1, "[SSL: PROTOCOL_IS_SHUTDOWN] protocol is shutdown (_ssl.c:2427)")
        error.reason = "PROTOCOL_IS_SHUTDOWN"
        raise error


def _lose_keys(side: Endpoint) -> None:
    session: Any = side.session
    session._tls = KeysGone(session._tls, session.connection)


def _finish_writing(side: Endpoint) -> None:
    with suppress(ssl.SSLError):
        side.session._tls.unwrap()  # type: ignore[attr-defined]


def _alert(side: Endpoint) -> None:
    side.incoming = bytes([ALERT]) + b"\x03\x03\x00\x02\x02\x50" + side.incoming


KEYS_GONE = End("keys gone", _lose_keys)
"OpenSSL refuses to encrypt from here on."
UNASKED_CLOSE_NOTIFY = End("close_notify", _finish_writing)
"OpenSSL sends close_notify in the middle, and nothing after it."
ALERT_IN_THE_CLEAR = End("alert", _alert)
"A fatal alert that is not encrypted comes first; it is valid in the first flights of a handshake alone."

TLS_ENDS = (*ENDS, KEYS_GONE, UNASKED_CLOSE_NOTIFY, ALERT_IN_THE_CLEAR)

HEARD_FROM_THE_PEER = (Failure.END_OF_STREAM, Failure.TIMED_OUT, Failure.ALERT)
"How a handshake fails that this side has not ended for a fault of the other's."


def check_ends_of_tls(exchange: Exchange) -> None:
    """What TLS adds to the law.

    - Where no side is harmed and the handshake was completed, both ends are in order: close_notify has arrived.
    - Where one side ends the handshake for a fault of the other's, the other hears an alert, and not just TCP's end.
    - A failure to encrypt is told, if nothing else ends the connection before the driver calls again.
    """
    sides = exchange.client, exchange.server
    for side in sides:
        tls = side.session._tls  # type: ignore[attr-defined]
        if exchange.plan.prompt and isinstance(tls, KeysGone) and tls.has_failed_before_the_end:
            side.require(_fault(side) is Fault.TLS, f"could not encrypt, and tells {side.closed}")
    if exchange.plan.resets or any(action.end.is_harm for action in exchange.plan.actions):
        return
    is_refused = any(isinstance(event, PeerRefused) for event in exchange.client.events)
    if not is_refused and all(isinstance(side.events[0], HandshakeCompleted) for side in sides):
        for side in sides:
            side.require(_fault(side) is None, f"was not harmed, and tells {side.closed}")
    for side in sides:
        if _failure(side) not in (None, *HEARD_FROM_THE_PEER):
            heard = _failure(side.other)
            side.require(
                heard is not Failure.END_OF_STREAM, f"ended the handshake ({side.closed}), and no alert arrived"
            )


def _fault(side: Endpoint) -> Fault | None:
    return None if side.closed is None or side.closed.error is None else side.closed.error.fault


def _failure(side: Endpoint) -> Failure | None:
    error = None if side.closed is None else side.closed.error
    return error.failure if isinstance(error, HandshakeError) else None
