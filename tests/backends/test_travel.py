"""What the backends make public can leave its process, or says that it cannot (FR-74).

Each public name stands in one of the tables below, with examples of what it names.
"""

from __future__ import annotations

import enum
import inspect
import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType

import pytest

import dot_io.asyncio
import dot_io.blocking
import dot_io.errors
import dot_io.testing
import dot_io.tls
import dot_io.trio
import dot_proto
from dot_io._connections import ConnectionTable
from dot_io._limits import ConnectionLimits
from dot_io._stays import StaysInProcess
from dot_io.blocking import ConnectionEnd, ConnectionPhase, Peer
from dot_io.errors import (
    AuthenticationError,
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    Failure,
    HandshakeError,
    NoAddressError,
    NoUpstreamError,
    QueryTimeoutError,
    TLSLibraryError,
)
from dot_io.testing import Answers, Authority, LoopbackServer, ReceivedQuery, SettingError
from dot_io.tls import ClientContext, HandshakeCompleted, ServerContext, SessionCache, TLSClient, TLSServer
from dot_proto import (
    AuthenticationPolicy,
    Cause,
    CertificateFacts,
    Evidence,
    Fault,
    RemoteProtocolError,
    Upstream,
    judge,
)
from dot_proto.resolver.events import Phase, UpstreamFailure, UpstreamReport
from support.credentials import Credentials
from support.travel import Workers, alike, check_stays, check_travels

MODULES = [dot_io.errors, dot_io.tls, dot_io.blocking, dot_io.asyncio, dot_io.trio, dot_io.testing]
REPORT = UpstreamReport(
    Upstream.parse("tls://192.0.2.1#dot.test"), UpstreamFailure(Phase.TCP, "192.0.2.1", "refused"), next_try=7.5
)
VERDICT = judge(AuthenticationPolicy.strict("dot.test"), Evidence())
FAULTY = RemoteProtocolError("the peer reset the connection", Fault.RESET)
STATISTICS = ConnectionTable(ConnectionLimits(1, 1), clock=lambda: 0.0).statistics()
LOST = ConnectionLostError("it was reset", cause=Cause.TRANSPORT_FAILED, error=FAULTY, safe_to_resend=False)


def public(module: ModuleType) -> list[str]:
    """The names that a module offers."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [name for name, one in vars(module).items() if getattr(one, "__module__", "") == module.__name__]


NAMES = {name: getattr(module, name) for module in MODULES for name in public(module)}


def offered() -> HandshakeError:
    error = HandshakeError("the peer ended the handshake", Failure.ALERT, alert="unknown_ca")
    error.session_was_offered = True
    return error


def known() -> Answers:
    answers = Answers()
    answers.ttl = 7
    answers["a.test", "A"] = ["192.0.2.1", "192.0.2.2"]
    answers["b.test", "MX"] = "SERVFAIL"
    return answers


TRAVELS: dict[str, list[object]] = {
    "AuthenticationError": [AuthenticationError(VERDICT)],
    "ConnectError": [ConnectError("refused"), ConnectError(111, "refused")],
    "ConnectTimeoutError": [ConnectTimeoutError("too late")],
    "ConnectionEnd": [ConnectionEnd(Peer("192.0.2.1", 853), ConnectionPhase.OPEN, "reset", FAULTY, 3, 1.5)],
    "ConnectionLostError": [LOST, ConnectionLostError("idle", cause=Cause.IDLE)],
    "HandshakeCompleted": [HandshakeCompleted("TLSv1.3", "TLS_AES_128_GCM_SHA256", "dot", False, None, None, b"leaf")],
    "HandshakeError": [offered(), HandshakeError("too late", Failure.TIMED_OUT)],
    "NoAddressError": [NoAddressError("it does not exist", rcode=3)],
    "NoUpstreamError": [NoUpstreamError("nobody can be asked", (REPORT,))],
    "QueryTimeoutError": [QueryTimeoutError("no answer")],
    "TLSLibraryError": [TLSLibraryError("no ciphers")],
    "ReceivedQuery": [ReceivedQuery("a.test", "A", bytes(12), 1)],
    "Answers": [known()],
    "ServerStatistics": [STATISTICS],
    "SettingError": [SettingError("no such fault")],
}
"These arrive with all that they hold; so do ``Peer`` and ``Identity``, which need a certificate."

BY_NAME = {
    "HANDSHAKE_TIMEOUT",
    "ConnectionPhase",
    "Failure",
    "Handler",
    "HandshakeFault",
    "Outcome",
    "QueryFault",
    "TLSVersion",
    "connect",
    "serve",
}
"Numbers, functions, enumerations, types: the same thing is found on the other side."

ERRORS = [one for ones in TRAVELS.values() for one in ones if isinstance(one, dot_proto.DoTError)]


@pytest.fixture(scope="module", name="workers")
def workers_fixture() -> Iterator[Workers]:
    workers = Workers()
    yield workers
    workers.close()


def _tls_client(credentials: Credentials) -> TLSClient:
    return TLSClient(ClientContext(credentials.policy), server=("192.0.2.1", 853), now=0.0, entropy=bytes)


STAYS: dict[str, Callable[[Credentials, Path], AbstractContextManager[object]]] = {
    "Authority": lambda credentials, folder: nullcontext(Authority(folder, "owner")),
    "ClientContext": lambda credentials, folder: nullcontext(ClientContext(credentials.policy)),
    "LoopbackServer": lambda credentials, folder: LoopbackServer(Authority(folder, "owner").issue("dot.test")),
    "Resolver": lambda credentials, folder: dot_io.blocking.Resolver([dot_proto.Upstream.well_known("quad9")]),
    "Server": lambda credentials, folder: dot_io.blocking.serve(lambda query, peer: b"", credentials.context, port=0),
    "ServerContext": lambda credentials, folder: nullcontext(credentials.context),
    "SessionCache": lambda credentials, folder: nullcontext(SessionCache()),
    "TLSClient": lambda credentials, folder: nullcontext(_tls_client(credentials)),
    "TLSServer": lambda credentials, folder: nullcontext(TLSServer(ServerContext(credentials.file), now=0.0)),
}
"Sockets, locks, and what OpenSSL holds.  ``Client``, which needs a server, is below."


def test_every_public_name_is_in_one_table() -> None:
    """FR-74: a name that is added must say whether it travels."""
    tables = [set(TRAVELS) | {"Peer", "Identity"}, BY_NAME, set(STAYS) | {"Client"}]
    assert set().union(*tables) == set(NAMES)
    assert sum(map(len, tables)) == len(NAMES)


@pytest.mark.parametrize("name", TRAVELS)
def test_what_travels_arrives_as_it_was(name: str) -> None:
    """FR-74: by every protocol of pickle, and by both copies."""
    for one in TRAVELS[name]:
        assert type(one).__name__ == name
        check_travels(one)


def test_what_holds_a_certificate_travels(credentials: Credentials, tmp_path: Path) -> None:
    """FR-74: who asked, and what a server of the kit shows."""
    identity = Authority(tmp_path, "owner").issue("dot.test")
    check_travels(identity)
    check_travels(Peer("192.0.2.1", 853, CertificateFacts.of(credentials.anchor)))
    answers = known()
    assert [answers.ttl, dict(answers)] == [7, dict(pickle.loads(pickle.dumps(answers)))]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_what_has_a_name_is_found_by_it(module: ModuleType) -> None:
    """FR-74: an enumeration with each of its members."""
    for name in BY_NAME & set(public(module)):
        one = getattr(module, name)
        members = list(one) if isinstance(one, enum.EnumMeta) else []
        for each in [one, *members]:
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
                assert pickle.loads(pickle.dumps(each, protocol)) == each


@pytest.mark.parametrize("name", STAYS)
def test_what_stays_says_so(name: str, credentials: Credentials, tmp_path: Path) -> None:
    """FR-74: in words, and not by whatever comes first inside it; copies are no second owner either."""
    with STAYS[name](credentials, tmp_path) as one:
        assert type(one).__name__ == name
        check_stays(one)


def test_a_client_stays(credentials: Credentials) -> None:
    """FR-74: what is connected is one socket."""
    with (
        dot_io.blocking.serve(lambda query, peer: b"", credentials.context, port=0) as server,
        dot_io.blocking.connect(server.host, credentials.policy, port=server.port) as client,
    ):
        check_stays(client)


def test_all_that_stays_says_it_in_one_way() -> None:
    """FR-74: on every backend; no class has a way of its own around it."""
    kinds = {one for name, one in NAMES.items() if name in STAYS or name == "Client"}
    kinds |= {getattr(module, name) for module in MODULES[2:5] for name in ("Client", "Resolver", "Server")}
    for kind in kinds:
        assert inspect.getattr_static(kind, "__reduce__") is StaysInProcess.__reduce__, kind


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_a_worker_may_raise_it(workers: Workers, error: dot_proto.DoTError) -> None:
    """FR-74: a pool hung for ever, and an executor was broken for all later jobs."""
    for back in workers.raised(error):
        assert alike(back, error)


def test_a_worker_may_return_all_that_travels(workers: Workers) -> None:
    """FR-74: errors as values, and what a server saw."""
    examples = [one for name, ones in TRAVELS.items() if name != "Answers" for one in ones]
    for back in workers.returned(examples):
        assert alike(back, examples)
