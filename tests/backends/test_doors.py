"""The table of the public arguments of ``dot_io`` (FR-45, FR-56); ``support.doors`` has the law that each keeps.

What is asked of a loop, ``connect``, ``serve`` and what they give, is called on all backends by
``tests/conformance/test_doors.py``.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

import dot_io.asyncio
import dot_io.blocking
import dot_io.errors
import dot_io.pytest_plugin
import dot_io.testing
import dot_io.tls
import dot_io.trio
from dot_io.blocking import Peer
from dot_io.errors import (
    AuthenticationError,
    ConnectionLostError,
    Failure,
    HandshakeError,
    NoAddressError,
    NoUpstreamError,
)
from dot_io.testing import Answers, Authority, Identity, LoopbackServer, SettingError
from dot_io.tls import ClientContext, ServerContext, SessionCache, TLSClient, TLSServer
from dot_proto import (
    AuthenticationPolicy,
    Cause,
    CertificateError,
    ClientConfiguration,
    Evidence,
    Fault,
    LocalProtocolError,
    Pin,
    RemoteProtocolError,
    ServerConfiguration,
    judge,
)
from support.credentials import NAME, Credentials
from support.doors import (
    ANYTHING,
    MESSAGE,
    NO_COUNT,
    NO_DATA,
    NO_FLAG,
    NO_FUNCTION,
    NO_OBJECT,
    NO_OCTETS,
    NO_SECONDS,
    NO_TEXT,
    NO_TIME,
    SECRET,
    Door,
    Miss,
    arguments_of,
    check,
    refused,
    rows,
)

BACKENDS = ("blocking", "asyncio", "trio")
VERDICT = judge(AuthenticationPolicy.opportunistic(), Evidence(leaf=b"leaf"))
ERROR = RemoteProtocolError("TLS failed", Fault.TLS)
NO_PATH: list[object] = [
    5, True, [], ("a",), ssl, *ANYTHING[:-1],
    Miss(b"/etc/server.pem", "path of a file, not bytes .15 octets.: give the file's name"),
    Miss(SECRET, "path of a file, not '-----BEGIN PRIVATE KEY--'... .93 characters.: give the file's name"),
    Miss("a\0b", r"path of a file, not 'a\\x00b'"),
]  # fmt: skip
NO_PASSWORD: list[object] = [
    5, True, 1.5, [], ("a",), Path("a"), bytearray(b"secret"), *ANYTHING[:-1],
    Miss(lambda: "secret", "^password must be a text or octets .*: give what it returns$"),
    Miss("", "^password has 0 octets; it must have 1 to 1024$"),
    Miss("\u20ac" * 342, "^password has 1026 octets; it must have 1 to 1024$"),
    Miss(b"a" * 1025, "^password has 1025 octets; it must have 1 to 1024$"),
    Miss("a\ud800", "^password holds what UTF-8 cannot: give it as bytes$"),
]  # fmt: skip
NO_VERSION: list[object] = ["TLSv1.3", "1.3", 771, ssl.PROTOCOL_TLS_CLIENT, ssl.TLSVersion, *NO_OBJECT]
NO_PORT: list[object] = ["853", None, 853.0, True, False, 65_536, -1, [853], b"853", 10**30, *ANYTHING]
NO_HOST: list[object] = [
    *NO_TEXT, ("127.0.0.1", 853), ["127.0.0.1"],
    Miss("127.0.0.1:853", "'127.0.0.1:853' names a port: give '127.0.0.1' as the host and port=853"),
    Miss("[::1]:853", r"names a port: give '\[::1\]' as the host and port=853"),
    Miss("a.example:1" + "1" * 5000, "names a port: give .* and port=11111$"),
    Miss("tls://dns.example", "is a URL: give the host alone"), Miss("127.0.0.010", "no IP address"),
    Miss("a b", "'a b' is no label"), Miss("a\n.example", r"'a\\n' in"),
]  # fmt: skip
NO_SERVER: list[object] = [
    None, "192.0.2.1", ["192.0.2.1", 853], ("192.0.2.1", "853"), ("192.0.2.1",), ("192.0.2.1", True), (b"a", 853),
    *NO_OBJECT,
]  # fmt: skip


class World:
    """What the calls are made with."""

    def __init__(self, folder: Path) -> None:
        self.credentials = Credentials.make(folder)
        self.client_context = ClientContext(self.credentials.policy)
        self.server_context = self.credentials.context
        self.kit = folder / "kit"
        self.kit.mkdir()
        self.authority = Authority(self.kit, "owner")
        self.identity = self.authority.issue("dot.test", "127.0.0.1")
        self.ours, self.theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for context in (self.ours, self.theirs):
            context.options |= ssl.OP_NO_RENEGOTIATION
            context.minimum_version = ssl.TLSVersion.TLSv1_2
        key = trustme.CA().issue_cert("a.example")
        self.other_key = folder / "other-key.pem"
        key.private_key_pem.write_to_path(str(self.other_key))
        self.table = self.make_table()

    def tls_client(self) -> TLSClient:
        return TLSClient(self.client_context, server=("192.0.2.1", 853), entropy=os.urandom, now=0.0)

    def tls_server(self) -> TLSServer:
        return TLSServer(self.server_context, now=0.0)

    def make_table(self) -> dict[str, Door]:
        buffers = {"incoming": ssl.MemoryBIO(), "outgoing": ssl.MemoryBIO()}
        cache, chain = SessionCache(), self.credentials.file
        key = {"context": self.client_context, "server": ("192.0.2.1", 853)}
        answers = Answers()
        answers["a.example", "A"] = ["192.0.2.1"]
        no_key: list[object] = [
            None, "a.example", ("a.example",), ("a.example", None), ("a.example", 1), ("a.example", "A", "IN"),
            ("a.example", "NO TYPE"), (b"a.example", "A"), (5, "A"), ("a" * 64, "A"), *ANYTHING,
        ]  # fmt: skip
        no_key = [Miss(each, "no name and type|must be text|no record type|no DNS name") for each in no_key]
        sessions = {
            "handshake_timeout": [*NO_SECONDS, None],
            "share_records": NO_FLAG,
            "now": NO_TIME,
        }
        return {
            **self._verbs("TLSClient", self.tls_client),
            **self._verbs("TLSServer", self.tls_server),
            "dot_io.tls.TLSClient": Door(
                lambda: TLSClient,
                {**key, "entropy": os.urandom, "now": 0.0},
                {
                    **sessions,
                    "context": [None, self.server_context, self.ours, ClientContext, *NO_OBJECT],
                    "configuration": [ServerConfiguration(), ClientConfiguration, *NO_OBJECT],
                    "server": NO_SERVER,
                    "entropy": [*NO_FUNCTION, bytes(9)],
                    "tried": NO_OBJECT,
                },
            ),
            "dot_io.tls.TLSServer": Door(
                lambda: TLSServer,
                {"context": self.server_context, "now": 0.0},
                {
                    **sessions,
                    "context": [None, self.client_context, self.theirs, ServerContext, chain, *NO_OBJECT],
                    "configuration": [ClientConfiguration(), ServerConfiguration, *NO_OBJECT],
                },
            ),
            "dot_io.tls.ClientContext": Door(
                lambda: ClientContext,
                {"policy": self.credentials.policy},
                {
                    "policy": [None, self.client_context, AuthenticationPolicy, *NO_OBJECT],
                    "minimum_version": [*NO_VERSION, Miss(ssl.TLSVersion.TLSv1_1, "TLS 1.2 at least")],
                    "maximum_version": [*NO_VERSION, Miss(ssl.TLSVersion.TLSv1_1, "no TLS version is left")],
                    "offer_alpn": NO_FLAG,
                    "observe_handshake": NO_FLAG,
                    "sessions": [5, 0, "no", SessionCache, [], *ANYTHING],
                    "keylog_file": NO_PATH,
                    "certificate_file": NO_PATH,
                    "key_file": [*NO_PATH, Miss(self.other_key, "key_file is given without a certificate_file")],
                    "password": [
                        *NO_PASSWORD,
                        Miss("secret", "^password is given without a certificate_file: give both"),
                    ],
                    # A context of the wrong kind is refused in several lines: see test_tls_contexts_given.py.
                    "ssl_context": [self.client_context, ssl.SSLContext, *NO_OBJECT],
                },
            ),
            "dot_io.tls.ServerContext": Door(
                lambda: ServerContext,
                {"certificate_file": chain},
                {
                    "certificate_file": [*NO_PATH, Miss(None, "needs a certificate_file, or an ssl_context")],
                    "key_file": NO_PATH,
                    "password": NO_PASSWORD,
                    "minimum_version": NO_VERSION,
                    "maximum_version": NO_VERSION,
                    "client_trust_anchors": [
                        "ca.pem",
                        b"0\x82",
                        [chain],
                        {},
                        5,
                        Path("ca.pem"),
                        [None],
                        Miss([], "client_trust_anchors is empty"),
                        Miss(
                            [self.credentials.root_file.read_bytes()], "client_trust_anchors .* number 1 in it is PEM"
                        ),
                        Miss([b"0\x82"], "certificate 1 of client_trust_anchors cannot be read"),
                    ],
                    "ssl_context": [self.server_context, ssl.SSLContext, *NO_OBJECT, Miss(self.theirs, "not both")],
                },
            ),
            "dot_io.tls.ClientContext.with_learnt_anchor": Door(
                lambda: (
                    ClientContext(
                        AuthenticationPolicy.strict(NAME, issuer_pins=[Pin.of_certificate(self.credentials.anchor)])
                    ).with_learnt_anchor
                ),
                {"certificate": self.credentials.anchor},
                {"certificate": [*NO_OCTETS, Miss(self.credentials.stranger, "not among the issuer pins")]},
            ),
            "dot_io.tls.ClientContext.with_anchor": Door(
                lambda: self.client_context.with_anchor,
                {"certificate": self.credentials.anchor},
                {"certificate": NO_OCTETS},
            ),
            "dot_io.tls.ClientContext.under": Door(
                lambda: self.client_context.under,
                {"policy": self.credentials.policy},
                {"policy": [None, AuthenticationPolicy, *NO_OBJECT]},
            ),
            "dot_io.tls.ClientContext.observer_of": Door(
                lambda: self.client_context.observer_of,
                {"tls": self.client_context.wrap(**buffers)},
                {"tls": [None, self.tls_client(), self.ours, *NO_OBJECT]},
            ),
            "dot_io.tls.ClientContext.wrap": Door(
                lambda: self.client_context.wrap,
                buffers,
                {
                    "incoming": [None, bytearray(), *NO_OBJECT],
                    "outgoing": [None, bytearray(), *NO_OBJECT],
                    "session": [self.client_context, *NO_OBJECT],
                },
            ),
            "dot_io.tls.ServerContext.wrap": Door(
                lambda: self.server_context.wrap,
                buffers,
                {"incoming": [None, bytearray(), *NO_OBJECT], "outgoing": [None, bytearray(), *NO_OBJECT]},
            ),
            "dot_io.tls.SessionCache": Door(
                lambda: SessionCache, {}, {"max_servers": [*NO_COUNT, None, 0], "per_server": [*NO_COUNT, None, 0]}
            ),
            "dot_io.tls.SessionCache.take": Door(
                lambda: cache.take,
                {**key, "wall_time": 1.0},
                {"context": [{}, [], ClientContext], "server": NO_SERVER, "wall_time": NO_TIME},
            ),
            "dot_io.tls.SessionCache.forget_server": Door(
                lambda: cache.forget_server, key, {"context": [{}, [], ClientContext], "server": NO_SERVER}
            ),
            "dot_io.testing.Answers.__getitem__": Door(
                lambda: answers.__getitem__, {"key": ("a.example", "A")}, {"key": no_key}
            ),
            "dot_io.testing.Answers.__setitem__": Door(
                lambda: answers.__setitem__,
                {"key": ("a.example", "A"), "value": ["192.0.2.1"]},
                {
                    "key": no_key,
                    "value": [
                        *[
                            Miss(each, "records must be a list of texts")
                            for each in (None, 5, b"192.0.2.1", {}, [None], [b"a"])
                        ],
                        Miss("192.0.2.1", "no RCODE; records are given as a list"),
                        Miss(["no address"], "no A records"),
                        Miss(["192.0.2.1"] * 5000, "do not fit into one DNS message"),
                    ],
                },
            ),
            "dot_io.testing.Answers.__delitem__": Door(lambda: _forget, {"key": ("a.example", "A")}, {"key": no_key}),
            "dot_io.testing.Answers.respond": Door(
                lambda: answers.respond,
                {"query": MESSAGE},
                {"query": [None, MESSAGE.to_wire(), type(MESSAGE), *NO_OBJECT]},
            ),
            "dot_io.testing.Authority": Door(
                lambda: Authority,
                {"folder": self.kit, "owner": "owner"},
                {"folder": [None, str(self.kit), b"/tmp", 5, *ANYTHING[:-1]], "owner": NO_TEXT},
            ),
            "dot_io.testing.Authority.issue": Door(
                lambda: lambda name, more=(): self.authority.issue(name, *more),
                {"name": "a.example"},
                {"name": NO_TEXT, "more": [Miss([each], "name must be .* as text") for each in NO_TEXT]},
            ),
            "dot_io.testing.Identity": Door(
                lambda: Identity,
                {"name": "a", "root_file": chain, "chain_file": chain, "pin": self.identity.pin},
                {
                    "name": NO_TEXT,
                    "root_file": [None, "a.pem", b"a", *ANYTHING[:-1]],
                    "chain_file": [None, "a.pem", b"a", *ANYTHING[:-1]],
                    "pin": [None, str(self.identity.pin), *NO_OBJECT],
                },
            ),
            "dot_io.testing.LoopbackServer": Door(
                lambda: self._serve,
                {"identity": self.identity},
                {
                    "identity": [None, chain, NAME, self.authority, Identity, *NO_OBJECT],
                    "host": [each for each in NO_HOST if each is not None],
                    "configuration": [ClientConfiguration(), ServerConfiguration, *NO_OBJECT],
                },
            ),
            **{
                f"dot_io.testing.LoopbackServer.{knob}": Door(
                    partial(self._setter, knob), {"value": right}, {"value": wrong}
                )
                for knob, right, wrong in (
                    ("close_after", 1, [Miss(each, "close_after is ") for each in (0, -1, "1", 1.5, True, [1], {})]),
                    (
                        "delay",
                        0.5,
                        [Miss(each, "a delay of ") for each in ("1", None, -1, math.nan, math.inf, True, [1])],
                    ),
                    (
                        "fault",
                        "silent",
                        [Miss(each, "is no QueryFault; those are silent") for each in ("refuse", 1, b"cut", [])],
                    ),
                    (
                        "handshake_fault",
                        "refuse",
                        [Miss(each, "is no HandshakeFault; those are") for each in ("cut", 1, [])],
                    ),
                )
            },
            "dot_io.testing.LoopbackServer.wait_for_queries": Door(
                lambda: self._wait_for_queries,
                {"count": 0},
                {"count": [each for each in NO_COUNT if each != -1], "timeout": [*NO_SECONDS, None]},
            ),
            "dot_io.errors.HandshakeError": Door(
                lambda: HandshakeError,
                {"message": "text", "failure": Failure.ALERT},
                {"failure": [None, "alert", Fault.TLS, Failure, *NO_OBJECT]},
            ),
            "dot_io.errors.AuthenticationError": Door(
                lambda: AuthenticationError,
                {"verdict": VERDICT},
                {"verdict": [None, "refused", type(VERDICT), *NO_OBJECT]},
            ),
            "dot_io.errors.ConnectionLostError": Door(
                lambda: ConnectionLostError,
                {"message": "text", "cause": Cause.IDLE},
                {
                    "cause": [None, "idle", Fault.TLS, Cause, *NO_OBJECT],
                    "error": [Fault.TLS, ValueError("text"), RemoteProtocolError, *NO_OBJECT],
                    "safe_to_resend": NO_FLAG,
                },
            ),
            "dot_io.errors.NoAddressError": Door(
                lambda: NoAddressError,
                {"message": "text", "rcode": 3},
                {"rcode": [each for each in NO_COUNT if each != -1]},
            ),
            "dot_io.errors.NoUpstreamError": Door(
                lambda: NoUpstreamError,
                {"message": "text", "upstreams": ()},
                {"upstreams": [each for each in NO_OBJECT if not isinstance(each, tuple)]},
            ),
            **{
                f"dot_io.{backend}.Peer": Door(
                    lambda: Peer,
                    {"host": "192.0.2.1", "port": 853},
                    {
                        "host": NO_TEXT,
                        "port": [each for each in NO_COUNT if each != -1],
                        "certificate": [b"0", self.credentials.anchor, *NO_OBJECT],
                    },
                )
                for backend in BACKENDS
            },
        }

    def _verbs(self, name: str, make: Any) -> dict[str, Door]:
        door = f"dot_io.tls.{name}"
        return {
            f"{door}.abort": Door(lambda: make().abort, {"now": 1.0}, {"now": NO_TIME}),
            f"{door}.fail": Door(
                lambda: make().fail, {"explanation": "reset", "now": 1.0}, {"explanation": NO_TEXT, "now": NO_TIME}
            ),
            f"{door}.handle_timeout": Door(lambda: make().handle_timeout, {"now": 1.0}, {"now": NO_TIME}),
            f"{door}.receive_data": Door(
                lambda: make().receive_data, {"data": b"", "now": 1.0}, {"data": NO_DATA, "now": NO_TIME}
            ),
            f"{door}.receive_eof": Door(lambda: make().receive_eof, {"now": 1.0}, {"now": NO_TIME}),
        }

    def _serve(self, **arguments: Any) -> None:
        LoopbackServer(**arguments).close()

    def _setter(self, knob: str) -> Any:
        def set_it(value: object) -> None:
            with LoopbackServer(self.identity) as server:
                before = getattr(server, knob)
                try:
                    setattr(server, knob, value)
                except SettingError:  # a ValueError too
                    assert getattr(server, knob) == before
                    raise

        return set_it

    def _wait_for_queries(self, **arguments: Any) -> None:
        with LoopbackServer(self.identity) as server:
            server.wait_for_queries(**arguments)


def _forget(key: Any) -> None:
    answers = Answers()
    answers["a.example", "A"] = ["192.0.2.1"]
    del answers[key]


MODULES = [dot_io.blocking, dot_io.asyncio, dot_io.trio, dot_io.tls, dot_io.testing, dot_io.errors]

ON_LOOPS = re.compile(r"dot_io\.(blocking|asyncio|trio)\.(connect|serve|Client\.\w+|Server\.\w+|Resolver(\.\w+)?)")
"In ``tests/conformance/test_doors.py``."

NOT_FOR_CALLERS = {
    **{
        f"dot_io.{backend}.{kind}": "made by connect() and serve()"
        for backend in BACKENDS
        for kind in ("Client", "Server")
    },
    "dot_io.tls.HandshakeCompleted": "an event",
    "dot_io.testing.ReceivedQuery": "what the server has seen",
    **{f"dot_io.{backend}.ConnectionEnd": "what on_end is given" for backend in BACKENDS},
    **{f"dot_io.{backend}.ServerStatistics": "what a server has counted" for backend in BACKENDS},
}

ANY_TEXT = {
    ("dot_io.errors.HandshakeError", "message"),
    ("dot_io.errors.HandshakeError", "alert"),
    ("dot_io.errors.ConnectionLostError", "message"),
    ("dot_io.errors.NoAddressError", "message"),
    ("dot_io.errors.NoUpstreamError", "message"),
}
"As any exception's."

STORE = "dot_io.tls.SessionCache.store"
"Needs the session of a handshake, and so has a test of its own."

ARGUMENTS = sorted(
    (door, argument)
    for door, argument in {*arguments_of(MODULES)} - ANY_TEXT
    if not ON_LOOPS.fullmatch(door) and door not in NOT_FOR_CALLERS and door != STORE
)


@pytest.fixture(scope="module", name="world")
def world_fixture(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def test_no_row_is_for_nothing(world: World) -> None:
    """FR-45: every argument has a row, or the test below fails for it; here the other way round."""
    assert sorted(rows(world.table)) == ARGUMENTS


@pytest.mark.parametrize(("door", "argument"), ARGUMENTS)
def test_what_is_wrong_is_named_and_changes_nothing(world: World, door: str, argument: str) -> None:
    """FR-45, FR-56: by whatever is public but for what needs a loop."""
    check(world.table[door], argument)


def test_a_session_is_stored_for_what_it_was_made_for(world: World) -> None:
    """FR-45: each argument of ``SessionCache.store``, with the session of a handshake."""
    session = resumable(world)
    cache, right = SessionCache(), {
        "context": world.client_context, "server": ("192.0.2.1", 853), "session": session, "verdict": VERDICT,
    }  # fmt: skip
    wrong: dict[str, list[object]] = {
        "context": [{}, [], ClientContext],
        "server": NO_SERVER,
        "session": [None, *NO_OBJECT],
        "verdict": [None, *NO_OBJECT],
        "wall_time": NO_TIME,
    }
    assert {argument for door, argument in arguments_of([dot_io.tls]) if door == STORE} == set(wrong)
    for argument, values in wrong.items():
        for value in values:
            refused(cache.store, {**right, "wall_time": 0.0}, argument, value)
    assert len(cache) == 0
    cache.store(**right, wall_time=session.time + 1.0)  # type: ignore[arg-type]
    assert len(cache) == 1


def resumable(world: World) -> ssl.SSLSession:
    """What a handshake under TLS 1.2 leaves."""
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_verify_locations(world.credentials.root_file)
    ours.maximum_version = ssl.TLSVersion.TLSv1_2
    theirs.load_cert_chain(world.credentials.file)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client, server = ours.wrap_bio(back, there, server_hostname=NAME), theirs.wrap_bio(there, back, server_side=True)
    for _ in range(3):
        for side in (client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    assert client.session is not None
    return client.session


@pytest.mark.parametrize("name", NO_TEXT[1:])
def test_the_plugin_refuses_what_is_no_name(make_dot_server: Callable[..., LoopbackServer], name: Any) -> None:
    """FR-45: also what cannot be hashed."""
    refused(make_dot_server, {}, "name", name)


def test_the_plugin_passes_the_rest_on(make_dot_server: Callable[..., LoopbackServer]) -> None:
    """FR-45: in the server's own words."""
    refused(make_dot_server, {}, "host", 5)
    refused(make_dot_server, {}, "configuration", {})


@pytest.mark.parametrize("wrong", ["missing", "no PEM", "another key", "encrypted"])
def test_a_file_that_cannot_be_used_is_named(world: World, wrong: str, tmp_path: Path) -> None:
    """FR-45: ssl says which of its functions has failed, and asked for a password on the terminal."""
    chain: Path = world.credentials.file
    key: Path | None = None
    kind: type[Exception] = CertificateError
    if wrong == "missing":
        chain, kind = tmp_path / "none.pem", FileNotFoundError
    elif wrong == "no PEM":
        chain = tmp_path / "no.pem"
        chain.write_text("no PEM")
    elif wrong == "another key":
        key = world.other_key
    else:
        key, kind = tmp_path / "locked.pem", LocalProtocolError
        loaded = load_pem_private_key(world.other_key.read_bytes(), None)
        form = Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        key.write_bytes(loaded.private_bytes(*form))
    for make in (
        lambda: ServerContext(chain, key),
        lambda: ClientContext(world.credentials.policy, certificate_file=chain, key_file=key),
    ):
        with pytest.raises(kind) as caught:
            make()
        assert str(chain if wrong != "encrypted" else key) in str(caught.value)
        assert wrong != "another key" or str(key) in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"certificate_file": "a.pem"},
        {"keylog_file": "keys"},
    ],
)
def test_nothing_beside_a_context_is_passed_over(world: World, options: dict[str, Any], tmp_path: Path) -> None:
    """FR-45: it was left out in silence."""
    policy = AuthenticationPolicy.strict(NAME)
    with pytest.raises(LocalProtocolError, match="or an ssl_context that has one; not both"):
        ClientContext(policy, ssl_context=world.ours, **options)
    with pytest.raises(LocalProtocolError, match="password or an ssl_context that has the key; not both"):
        ServerContext(ssl_context=world.theirs, password="secret")
    with pytest.raises(LocalProtocolError, match="client_trust_anchors or an ssl_context"):
        ServerContext(ssl_context=world.theirs, client_trust_anchors=[world.credentials.anchor])


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        ("dot_io.trio", "trio", "trio"),
        ("dot_io.testing", "trustme", "pytest"),
        ("dot_io.testing", "dns", "pytest"),
    ],
)
def test_what_is_not_installed_is_named(module: str, missing: str, extra: str) -> None:
    """FR-45: with the extra that brings it, and nothing is imported by halves."""
    code = f"import sys; sys.modules[{missing!r}] = None; import {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    words = f"ModuleNotFoundError: {module} needs {missing}: pip install 'dot-proto[{extra}]'"
    assert done.stderr.splitlines()[-1] == words
