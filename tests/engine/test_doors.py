"""The table of the engine's public arguments (FR-45, FR-56); ``support.doors`` has the law that each keeps."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import dns.rdatatype
import pytest

import dot_proto
from dot_proto import (
    AuthenticationPolicy,
    Cause,
    CertificateFacts,
    ClientConfiguration,
    ClientConnection,
    Deframer,
    Event,
    Evidence,
    Fault,
    LocalProtocolError,
    MessageError,
    Pin,
    PresentedChain,
    QueryReceived,
    Reason,
    RemoteProtocolError,
    ResolverConfiguration,
    ServerConfiguration,
    ServerConnection,
    Strategy,
    StubResolver,
    Upstream,
    ValidatedChain,
    ValidationFailure,
    Verdict,
    certificates_from,
    frame,
    judge,
    make_query,
    padding_length,
)
from dot_proto.arguments import shown
from dot_proto.testing._simulation.credentials import certificate
from support.doors import (
    ANYTHING,
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
    Fresh,
    Miss,
    a_coroutine,
    arguments_of,
    check,
    name_of_a_name,
    rows,
    without_none,
)
from support.interpreted import IS_COMPILED, interpreted
from support.vectors import certificate as from_vectors

LEAF = certificate(bytes(32))
PEM = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
PIN = Pin.of_certificate(LEAF)
POLICY = AuthenticationPolicy.opportunistic()
AUTHORITY = from_vectors("ca-inter-p256")
ISSUER = AuthenticationPolicy.strict("a.example", issuer_pins=[Pin.of_certificate(AUTHORITY)])
QUERY = make_query("example.com")
RESPONSE = QUERY[:2] + b"\x81\x80" + QUERY[4:]
EVIDENCE = Evidence(leaf=LEAF)
VERDICT = judge(POLICY, EVIDENCE)
RIGHT = object()
ERROR = RemoteProtocolError("TLS failed", Fault.TLS)

NO_PINS: list[object] = [
    None, str(PIN), [str(PIN)], bytes(32), [bytes(32)], PIN, Pin, [Pin], {str(PIN): 1}, 5, [None],
    Fresh(lambda: iter([str(PIN)]), "number 1 in it is '"),
]  # fmt: skip
NO_CHAIN: list[object] = [
    "a.pem",
    ["a.pem"],
    LEAF,
    bytearray(9),
    [bytearray(9)],
    5,
    {LEAF: 1},
    [None],
    Path("a"),
    bytes,
]
NO_ANCHORS: list[object] = [
    *NO_CHAIN,
    Miss([PEM], "trust_anchors must be .* number 1 in it is PEM"),
    Miss([], "empty"),
    Miss([LEAF, b"0\x82"], "certificate 2 of trust_anchors cannot be read: cut off"),
]
NO_NAME: list[object] = [
    *[one for one in NO_TEXT if one is not None],
    name_of_a_name(), Miss("", "1 to 253"), Miss("a b.example", "'a b' .* no label"), Miss("bücher.example", "A-label"),
    Miss("a" * 64 + ".example", "1 to 63"), Miss("1.2.3.04", "no IP address"), Miss("tls://a", "has a colon"),
    Miss("dns.example:853", "has a colon"), Miss("a.example," * 200, "1 to 253 octets, not 2000"),
    Miss("*.a", "no label"),
]  # fmt: skip
NO_END = Miss(SECRET.encode(), "PRIVATE KEY of line 1 has no end")
NO_HANDLE: list[object] = [
    *NO_COUNT,
    None,
    Miss(10**40, "an int of 133 bits is no handle"),
]
RESOLVER_SECONDS = (
    "query_timeout", "close_timeout", "open_timeout", "next_address_delay", "patience", "probe_timeout",
    "first_delay", "max_delay", "max_delay_while_waiting", "refused_delay", "max_refused_delay",
)  # fmt: skip
NO_NUMBER: list[object] = [None, *[each for each in NO_COUNT if each != -1]]
UPSTREAM = Upstream.parse("tls://192.0.2.1")
ENTROPY = {"policy": POLICY, "entropy": os.urandom}


def client(**options: Any) -> ClientConnection:
    made = ClientConnection(POLICY, ClientConfiguration(**options), entropy=os.urandom)
    made.verify_peer(EVIDENCE, now=0.0)
    return made


def asked() -> ClientConnection:
    made = client()
    made.send_query(QUERY, now=0.0)
    return made


def end_exchange(*, query: Any, now: Any) -> None:
    """Of a zone transfer, of which one message has come; its handle stands for 0."""
    made = client()
    handle = made.send_query(make_query("example.com", "AXFR"), now=0.0, multiple=True)
    [octets] = made.data_to_send()
    made.receive_data(frame(octets[2:4] + b"\x81\x80" + octets[6:]), now=0.0)
    try:
        made.end_exchange(handle if query is RIGHT else query, now=now)
    except LocalProtocolError:
        assert made.pending == 1
        raise


def server() -> ServerConnection:
    made = ServerConnection(now=0.0)
    [event] = made.receive_data(frame(QUERY), now=0.0)
    assert isinstance(event, QueryReceived)
    return made


def resolver() -> StubResolver:
    return StubResolver([UPSTREAM], entropy=os.urandom)


def asking(*, is_open: bool = False) -> StubResolver:
    """It has a query, and a connection that is being opened."""
    made = resolver()
    made.send_query(QUERY, now=0.0)
    if is_open:
        made.connection_opened(0, client(), now=0.0)
    return made


def seconds(kind: type[ClientConfiguration] | type[ServerConfiguration], *names: str) -> dict[str, list[object]]:
    return dict.fromkeys(names, NO_SECONDS)


def both(name: str, make: Any) -> dict[str, Door]:
    """What the two connections have in common."""
    return {
        f"dot_proto.{name}.handle_timeout": Door(lambda: make().handle_timeout, {"now": 1.0}, {"now": NO_TIME}),
        f"dot_proto.{name}.fail": Door(
            lambda: make().fail,
            {"error": ERROR, "now": 1.0},
            {"error": [None, ValueError("text"), RemoteProtocolError, Fault.TLS, *NO_OBJECT], "now": NO_TIME},
        ),
        f"dot_proto.{name}.receive_data": Door(
            lambda: make().receive_data, {"data": b"", "now": 1.0}, {"data": NO_DATA, "now": NO_TIME}
        ),
        f"dot_proto.{name}.receive_eof": Door(
            lambda: make().receive_eof, {"now": 1.0, "orderly": True}, {"now": NO_TIME, "orderly": NO_FLAG}
        ),
        f"dot_proto.{name}.close": Door(
            lambda: make().close, {"now": 1.0, "timeout": 1.0}, {"now": NO_TIME, "timeout": NO_SECONDS}
        ),
    }


TABLE: dict[str, Door] = {
    **both("ClientConnection", client),
    **both("ServerConnection", server),
    "dot_proto.AuthenticationPolicy": Door(
        lambda: AuthenticationPolicy,
        {"name": "a.example"},
        {
            "name": NO_NAME,
            "pins": NO_PINS,
            "trust_anchors": NO_ANCHORS,
            "issuer_pins": NO_PINS,
            "is_opportunistic": NO_FLAG,
            "tries_name": NO_FLAG,
        },
    ),
    "dot_proto.AuthenticationPolicy.strict": Door(
        lambda: AuthenticationPolicy.strict,
        {"name": "a.example"},
        {"name": NO_NAME, "pins": NO_PINS, "trust_anchors": NO_ANCHORS, "issuer_pins": NO_PINS},
    ),
    "dot_proto.AuthenticationPolicy.opportunistic": Door(
        lambda: AuthenticationPolicy.opportunistic,
        {"name": "a.example", "tries_name": True},
        {
            "name": NO_NAME,
            "pins": NO_PINS,
            "tries_name": NO_FLAG,
            "trust_anchors": NO_ANCHORS,
            "issuer_pins": NO_PINS,
        },
    ),
    "dot_proto.AuthenticationPolicy.with_learnt_anchor": Door(
        lambda: ISSUER.with_learnt_anchor,
        {"certificate": AUTHORITY},
        {"certificate": [*NO_OCTETS, Miss(b"", "cut off"), Miss(certificate(b"1" * 32), "not among the issuer pins")]},
    ),
    "dot_proto.CertificateFacts": Door(
        lambda: CertificateFacts,
        {"der": LEAF, "pin": PIN, "not_before": 0, "not_after": None},
        {
            "der": NO_OCTETS,
            "pin": [None, str(PIN), *NO_OBJECT],
            "not_before": [each for each in NO_COUNT if each != -1],
            "not_after": [each for each in NO_COUNT if each != -1],
        },
    ),
    "dot_proto.CertificateFacts.of": Door(lambda: CertificateFacts.of, {"der": LEAF}, {"der": [*NO_OCTETS, PEM]}),
    "dot_proto.CertificateFacts.date_warning": Door(
        lambda: CertificateFacts.of(LEAF).date_warning, {"wall_time": 1.0}, {"wall_time": NO_TIME}
    ),
    "dot_proto.ClientConfiguration": Door(
        lambda: ClientConfiguration,
        {},
        {
            **seconds(ClientConfiguration, "query_timeout", "idle_timeout", "max_idle_timeout", "close_timeout"),
            "silence_timeout": NO_SECONDS,
            "max_in_flight": [*NO_COUNT, None, 0, 65_537],
            "max_queries": [*NO_COUNT, None, 0],
            "max_unsolicited": [*NO_COUNT, None],
            "max_silent_timeouts": [*NO_COUNT, 0],
            "padding_block": [*NO_COUNT, 0, 65_536],
            "keepalive": NO_FLAG,
        },
    ),
    "dot_proto.ServerConfiguration": Door(
        lambda: ServerConfiguration,
        {},
        {
            **seconds(ServerConfiguration, "idle_grace", "close_timeout", "max_duration"),
            "idle_timeout": [*NO_SECONDS, None, math.inf, 6554],
            "max_outstanding": [*NO_COUNT, None, 0],
            "max_outstanding_octets": [*NO_COUNT, None, 0],
            "hard_outstanding": [*NO_COUNT, None, 0, 5],
            "max_queries": [*NO_COUNT, 0],
            "max_unsolicited": [*NO_COUNT, None],
            "padding_block": [*NO_COUNT, 0, 65_536],
            "opcodes": [
                None,
                0,
                "QUERY",
                b"\0",
                ["QUERY"],
                [True],
                [16],
                [-1],
                {0: "QUERY"},
                [0.0],
                set,
                *ANYTHING[:4],
            ],
        },
    ),
    "dot_proto.ClientConnection": Door(
        lambda: ClientConnection,
        ENTROPY,
        {
            "policy": [None, ClientConfiguration(), AuthenticationPolicy, *NO_OBJECT],
            "configuration": [ServerConfiguration(), POLICY, ClientConfiguration, *NO_OBJECT],
            "entropy": [*NO_FUNCTION, bytes(512)],
        },
    ),
    "dot_proto.ServerConnection": Door(
        lambda: ServerConnection,
        {},
        {"configuration": [ClientConfiguration(), ServerConfiguration, *NO_OBJECT], "now": without_none(NO_TIME)},
    ),
    "dot_proto.ClientConnection.send_query": Door(
        lambda: client().send_query,
        {"message": QUERY, "now": 0.0},
        {
            "message": [
                *[Miss(each, "a query must be a DNS message in octets") for each in NO_OCTETS],
                Miss("example.com", r"make_query\('example.com'\) makes one"),
                Miss(SECRET, r"text: make_query\('-----BEGIN PRIVATE KEY--'\.\.\. \(93 char"),
                Miss(QUERY[:11], "12 to 65535 octets, not 11"),
                Miss(bytes(65_536), "12 to 65535 octets, not 65536"),
                Miss(frame(QUERY), "malformed|response"),
                Miss(RESPONSE, "is a response"),
                Miss(bytes(12) + b"x", "malformed"),
            ],
            "now": NO_TIME,
            "timeout": NO_SECONDS,
            "multiple": NO_FLAG,
        },
    ),
    "dot_proto.ClientConnection.cancel": Door(
        lambda: asked().cancel, {"query": 0, "now": 1.0}, {"query": NO_HANDLE, "now": NO_TIME}
    ),
    "dot_proto.ClientConnection.end_exchange": Door(
        lambda: end_exchange, {"query": RIGHT, "now": 1.0}, {"query": [*NO_HANDLE, 0], "now": NO_TIME}
    ),
    "dot_proto.ClientConnection.verify_peer": Door(
        lambda: ClientConnection(**ENTROPY).verify_peer,
        {"evidence": EVIDENCE, "now": 0.0},
        {"evidence": [None, LEAF, VERDICT, Evidence, *NO_OBJECT], "now": NO_TIME},
    ),
    "dot_proto.ServerConnection.begin": Door(lambda: server().begin, {"now": 1.0}, {"now": NO_TIME}),
    "dot_proto.ServerConnection.decline": Door(
        lambda: server().decline, {"query": 0, "now": 1.0}, {"query": NO_HANDLE, "now": NO_TIME}
    ),
    "dot_proto.ServerConnection.send_error": Door(
        lambda: server().send_error,
        {"query": 0, "now": 1.0, "rcode": 2},
        {
            "query": NO_HANDLE,
            "now": NO_TIME,
            "rcode": [
                *[one for one in NO_COUNT if one != -1],
                None,
                Miss(-1, "RCODE .* not -1"),
                Miss(4096, "not 4096"),
            ],
        },
    ),
    "dot_proto.ServerConnection.send_response": Door(
        lambda: server().send_response,
        {"query": 0, "message": RESPONSE, "now": 1.0},
        {
            "query": NO_HANDLE,
            "message": [
                *[Miss(each, "a response must be a DNS message in octets") for each in NO_OCTETS],
                Miss(RESPONSE[:11], "12 to 65535 octets, not 11"),
                Miss(QUERY, "is a query"),
                Miss(RESPONSE + b"x", "malformed"),
            ],
            "now": NO_TIME,
            "more": NO_FLAG,
        },
    ),
    "dot_proto.ResolverConfiguration": Door(
        lambda: ResolverConfiguration,
        {},
        {
            "strategy": [None, "ordered", Strategy, *NO_OBJECT],
            **{name: [*NO_SECONDS, None] for name in RESOLVER_SECONDS},
            "max_connections": [*NO_COUNT, None, 0],
            "max_waiting": [*NO_COUNT, None, 0],
            "failover_rcodes": [
                None,
                2,
                "2",
                b"\x02",
                ["SERVFAIL"],
                {"SERVFAIL": 2},
                [True],
                Miss([4096], "from 0 to 4095"),
                Miss([-1], "from 0 to 4095"),
            ],
            "allow_mixed": NO_FLAG,
            "connection": [None, ServerConfiguration(), ClientConfiguration, *NO_OBJECT],
        },
    ),
    "dot_proto.StubResolver": Door(
        lambda: StubResolver,
        {"upstreams": [UPSTREAM], "entropy": os.urandom},
        {
            "upstreams": [
                None,
                5,
                "tls://192.0.2.1",
                {"a": UPSTREAM},
                ["tls://192.0.2.1"],
                [None],
                [POLICY],
                Upstream,
                [Upstream],
                Miss(UPSTREAM, r"give \[upstream\]"),
                Miss([], "upstreams holds 0"),
                Miss([UPSTREAM] * 2, "twice"),
            ],
            "configuration": [ClientConfiguration(), ResolverConfiguration, *NO_OBJECT],
            "entropy": NO_FUNCTION,
        },
    ),
    "dot_proto.StubResolver.send_query": Door(
        lambda: resolver().send_query,
        {"message": QUERY, "now": 0.0},
        {
            "message": [
                *[Miss(each, "a query must be a DNS message in octets") for each in NO_OCTETS],
                Miss(QUERY[:11], "12 to 65535 octets, not 11"),
                Miss(RESPONSE, "is a response"),
                Miss(make_query("example.com", "AXFR"), "several messages"),
            ],
            "now": NO_TIME,
            "timeout": NO_SECONDS,
        },
    ),
    "dot_proto.StubResolver.cancel": Door(
        lambda: asking().cancel, {"query": 0, "now": 1.0}, {"query": NO_HANDLE, "now": NO_TIME}
    ),
    "dot_proto.StubResolver.network_changed": Door(lambda: asking().network_changed, {"now": 1.0}, {"now": NO_TIME}),
    "dot_proto.StubResolver.close": Door(lambda: asking().close, {"now": 1.0}, {"now": NO_TIME, "timeout": NO_SECONDS}),
    "dot_proto.StubResolver.connection_opened": Door(
        lambda: asking().connection_opened,
        {"connection": 0, "engine": client(), "now": 0.0},
        {"connection": NO_NUMBER, "engine": [None, ClientConnection, *NO_OBJECT], "now": NO_TIME},
    ),
    "dot_proto.StubResolver.receive_events": Door(
        lambda: asking(is_open=True).receive_events,
        {"connection": 0, "events": [], "now": 0.0},
        {
            "connection": NO_NUMBER,
            "events": [None, 5, "events", {"a": 1}, [None], ["event"], (QUERY,), Event],
            "now": NO_TIME,
        },
    ),
    "dot_proto.StubResolver.connection_failed": Door(
        lambda: asking().connection_failed,
        {"connection": 0, "explanation": "reset", "now": 0.0},
        {"connection": NO_NUMBER, "explanation": NO_TEXT, "may_retry": NO_FLAG, "now": NO_TIME},
    ),
    "dot_proto.StubResolver.addresses_found": Door(
        lambda: asking().addresses_found,
        {"upstream": UPSTREAM, "addresses": ["192.0.2.1"], "ttl": 60.0, "now": 0.0},
        {
            "upstream": [None, Upstream, "tls://192.0.2.1", *NO_OBJECT],
            "addresses": [None, "192.0.2.1", [None], [b"192.0.2.1"], 5, {"192.0.2.1": 1}],
            "ttl": [*NO_SECONDS, None],
            "now": NO_TIME,
            "explanation": NO_TEXT,
        },
    ),
    "dot_proto.StubResolver.handle_timeout": Door(lambda: asking().handle_timeout, {"now": 1.0}, {"now": NO_TIME}),
    "dot_proto.Deframer.feed": Door(lambda: Deframer().feed, {"data": b""}, {"data": NO_DATA}),
    "dot_proto.Evidence": Door(
        lambda: Evidence,
        {},
        {
            "presented": [None, [LEAF], LEAF, ValidatedChain((LEAF,), "a"), PresentedChain, *NO_OBJECT],
            "leaf": without_none(NO_OCTETS),
            "validated": [PresentedChain(), [LEAF], ValidatedChain, *NO_OBJECT],
            "failure": [Reason.NAME, ValueError(), ValidationFailure, *NO_OBJECT],
            "resumed": [Reason.NAME, Verdict, *NO_OBJECT],
            "tried": [Reason.NAME, Verdict, *NO_OBJECT],
            "wall_time": without_none(NO_TIME),
        },
    ),
    "dot_proto.PresentedChain": Door(lambda: PresentedChain, {}, {"certificates": [None, *NO_CHAIN]}),
    "dot_proto.ValidatedChain": Door(
        lambda: ValidatedChain,
        {"certificates": [LEAF], "name": "a"},
        {"certificates": [None, *NO_CHAIN], "name": NO_TEXT},
    ),
    "dot_proto.ValidationFailure": Door(
        lambda: ValidationFailure,
        {"reason": Reason.NAME, "explanation": "text"},
        {"reason": [None, "name", Cause.IDLE, Reason, *NO_OBJECT], "explanation": NO_TEXT},
    ),
    "dot_proto.RemoteProtocolError": Door(
        lambda: RemoteProtocolError,
        {"message": "text", "fault": Fault.TLS},
        {"fault": [Miss(each, "fault must be a Fault, not ") for each in ("tls", None, Fault, Reason.PIN, SECRET)]},
    ),
    "dot_proto.Pin": Door(
        lambda: Pin,
        {"digest": bytes(32)},
        {"digest": [*NO_OCTETS, Miss(bytes(31), "32 octets, not 31"), Miss(str(PIN).encode(), "32 octets, not 44")]},
    ),
    "dot_proto.Pin.parse": Door(
        lambda: Pin.parse,
        {"text": str(PIN)},
        {
            "text": [
                *NO_TEXT,
                PIN,
                Miss(f"+tls-pin={PIN}", "no pin"),
                Miss("", "no pin"),
                Miss(bytes(32).hex(), "looks like hex"),
                Miss(SECRET, "no pin"),
            ]
        },
    ),
    "dot_proto.Pin.of_certificate": Door(
        lambda: Pin.of_certificate,
        {"data": LEAF},
        {"data": [*NO_OCTETS, NO_END]},
    ),
    "dot_proto.Pin.of_public_key": Door(
        lambda: Pin.of_public_key,
        {"data": dot_proto._der.public_key_of(LEAF)},
        {"data": [*NO_OCTETS, Miss(LEAF, "offset"), NO_END]},
    ),
    "dot_proto.Pin.explain_mismatch": Door(
        lambda: PIN.explain_mismatch,
        {"configured": [PIN], "certificate": LEAF},
        {"configured": [None, *NO_PINS], "certificate": NO_OCTETS},
    ),
    "dot_proto.certificates_from": Door(
        lambda: certificates_from,
        {"data": LEAF},
        {
            "data": [
                *NO_OCTETS,
                Miss(b"/etc/ca.pem", "neither DER"),
                NO_END,
            ]
        },
    ),
    "dot_proto.frame": Door(
        lambda: frame,
        {"message": QUERY},
        {"message": [*NO_OCTETS, Miss(b"", "not 0"), Miss(bytes(65_536), "not 65536")]},
    ),
    "dot_proto.judge": Door(
        lambda: judge,
        {"policy": POLICY, "evidence": EVIDENCE},
        {"policy": [None, AuthenticationPolicy, *NO_OBJECT], "evidence": [None, LEAF, Evidence, *NO_OBJECT]},
    ),
    "dot_proto.make_query": Door(
        lambda: make_query,
        {"name": "example.com"},
        {
            "name": [
                *NO_TEXT,
                name_of_a_name(),
                Fresh(a_coroutine),
                Miss("bücher.example", "A-label"),
                Miss("a..example", "empty label"),
                Miss("", "empty label"),
                Miss(r"a\.b", "escapes"),
                Miss("a" * 64, "at most 63"),
                Miss("a." * 200, "at most 255 octets on the wire, not 401"),
            ],
            "rdtype": [
                None,
                b"A",
                1.0,
                True,
                ["A"],
                *ANYTHING,
                "IN",
                "",
                Miss("TYPE65536", "rdtype is 65536"),
                65_536,
                -1,
                "A AAAA",
                "TYPE²",
                10**30,
            ],
            "rdclass": [*NO_COUNT, None, "IN", 65_536],
            "message_id": [*NO_COUNT, None, 65_536],
            "recursion_desired": NO_FLAG,
            "dnssec_ok": NO_FLAG,
        },
    ),
    "dot_proto.padding_length": Door(
        lambda: padding_length,
        {"length": 60, "block": 128},
        {"length": [*NO_COUNT, None], "block": [*NO_COUNT, None, 0]},
    ),
}

REPORTS = {
    *(
        name
        for name in dot_proto.__all__
        if isinstance(one := getattr(dot_proto, name), type) and issubclass(one, Event)
    ),
    "Verdict",
}

OF_THEIR_OWN = {"Upstream"}
"What has a table of its own: ``test_upstream.py``."
"""What the engine makes and callers read.  Events are made for each message, where a guard would cost a tenth of what
receiving does; whoever makes one for a test of his own has a type checker."""

ANY_TEXT = {("dot_proto.RemoteProtocolError", "message"), ("dot_proto.UpstreamError", "problems")}
"As any exception's."


@interpreted
def test_every_argument_has_a_row() -> None:
    """FR-45: an argument that is added must say what is wrong for it."""
    others = {f"dot_proto.{name}" for name in REPORTS | OF_THEIR_OWN}
    arguments = {
        (door, argument) for door, argument in arguments_of([dot_proto]) if ".".join(door.split(".")[:2]) not in others
    } - ANY_TEXT
    assert set(rows(TABLE)) == arguments


@pytest.mark.parametrize(("door", "argument"), rows(TABLE))
def test_what_is_wrong_is_named_and_changes_nothing(door: str, argument: str) -> None:
    """FR-45, FR-56: in the same words by everybody, and what is right goes through right behind."""
    check(TABLE[door], argument)


@pytest.mark.parametrize("octets", ["text", None, bytes(3), 5])
def test_what_entropy_returns_is_looked_at(octets: Any) -> None:
    """FR-45: before a query has an id."""
    connection = ClientConnection(POLICY, entropy=lambda count: octets)
    with pytest.raises((LocalProtocolError, TypeError) if IS_COMPILED else LocalProtocolError):
        connection.send_query(QUERY, now=0.0)
    assert connection.pending == 0


def test_what_is_right_in_several_forms_is_taken() -> None:
    """No more is refused than must be."""
    assert make_query("example.com", dns.rdatatype.AAAA) == make_query("example.com", "AAAA")
    assert ServerConfiguration(opcodes=[0, 4]) == ServerConfiguration(opcodes=frozenset({0, 4}))  # type: ignore[arg-type]
    assert PresentedChain(iter([LEAF])).certificates == (LEAF,)  # type: ignore[arg-type]
    assert Deframer().feed(memoryview(frame(QUERY))) == Deframer().feed(bytearray(frame(QUERY))) == [QUERY]
    client().send_query(QUERY, now=-5, timeout=math.inf)


def test_a_wrong_name_is_an_error_of_messages() -> None:
    """FR-45: the class that ``make_query`` documents, which is a ValueError too."""
    for name, rdtype in ((b"a", "A"), ("a", None), ("a", 1.0)):
        with pytest.raises(MessageError):
            make_query(name, rdtype)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (True, "True"),
        (1.5, "1.5"),
        (10**30, "an int of 100 bits"),
        ("a\nb\u202e", r"'a\nb\u202e'"),
        ("x" * 65, "'xxxxxxxxxxxxxxxxxxxxxxxx'... (65 characters)"),
        (b"secret", "bytes (6 octets)"),
        (bytearray(2), "bytearray (2 octets)"),
        (dict, "the class dict"),
        (Fault.TLS, "Fault"),
        (dns.rdatatype.A, "RdataType"),
        ([1], "list"),
    ],
)
def test_what_was_given_is_shown_short(value: object, text: str) -> None:
    """FR-45: on one line, and of octets only the number."""
    assert shown(value) == text
