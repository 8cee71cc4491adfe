"""The fault matrix on every backend: see faults.py for what is expected."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, repeat
from time import monotonic
from typing import Any

import pytest

from conformance import platform_edges
from conformance.adapters import Backend
from conformance.faults import EVERY, LATE, OK, PAGE, SILENT, Fate, Fault, page
from conformance.misbehaviour import ends_handshakes_with_a_session, stalls_after_server_hello
from dot_io.errors import AuthenticationError, ConnectionLostError, HandshakeError
from dot_io.tls import ClientContext
from dot_proto import AuthenticationPolicy, DoTError, make_query
from dot_proto import Fault as Code
from support.forging import accept_and_forge
from support.messages import question_of
from support.peers import Caller, scripted
from support.pki import NAME, Pki
from support.pki import pki_fixture as pki_fixture

SHORT_DEADLINE = 0.25
"Seconds, where a deadline is to pass."

DEADLINE = 8.0
"Seconds, where none should."

PROMPT = 2.0
"Seconds within which a fate that needs no deadline must come, and a deadline's event after it."

EARLY = 0.005
"Seconds: the clock of uvloop has milliseconds, and poll(2) counts in them."

CLOSING = 1.0
"Seconds that close_notify to any server may take."

VOLATILE = {
    r"\d+\.\d s\b": "TIME s",
    r"port \d+": "port PORT",
    r"[A-Za-z0-9+/]{43}=": "PIN",
    r"(?<=trust anchor: ).*(?= \(OpenSSL)": "WORDS",
}
"What differs from run to run, or with the version of OpenSSL."


@contextmanager
def misbehaving(fault: Fault, pki: Pki) -> Iterator[int]:
    """The port of such a server."""
    if fault.conduct is None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        yield port
        return
    conduct, tls = fault.conduct, fault.tls
    context = None if tls is None else tls.context(pki.file(*(getattr(pki, name) for name in tls.chain.split())))

    def talk(caller: Caller) -> None:
        # Nagle's algorithm could keep the last words before a reset back for ever.
        caller.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is None:
            conduct(caller)
        elif tls is not None and tls.stalls:
            stalls_after_server_hello(caller, context)
        elif tls is not None and tls.refuses_sessions:
            ends_handshakes_with_a_session(caller, context)
        elif tls is not None and tls.by_hand:
            try:
                by_hand = accept_and_forge(caller.socket, context)
            except OSError:
                return
            with by_hand.socket:
                conduct(by_hand)
        else:
            try:
                sock = context.wrap_socket(caller.socket, server_side=True)
            except OSError:
                return  # the client has refused us
            with sock:
                conduct(Caller(sock))

    with scripted(talk, None) as server:
        yield server.port


def fate_of(query: bytes, result: Any) -> Fate:
    """What came of a query, or ``connect()``, in the terms of the table."""
    if isinstance(result, bytes):
        assert result[:2] == query[:2]
        if question_of(result):
            assert question_of(result) == question_of(query)
        else:
            assert question_of(query)[:-4] in result  # it owns the record
        return OK
    assert isinstance(result, DoTError), repr(result)
    says = str(result)
    for pattern, name in VOLATILE.items():
        says = re.sub(pattern, name, says)
    if isinstance(result, ConnectionLostError):
        fault = None if result.error is None else result.error.fault
        return Fate(type(result), result.cause, fault, result.safe_to_resend, says)
    if isinstance(result, HandshakeError):
        code = result.verdict.reason if isinstance(result, AuthenticationError) else result.failure
        return Fate(type(result), code, result.fault, says=says)
    return Fate(type(result), says=says)


def came_in_time(took: float, fate: Fate) -> bool:
    """Whether a fate came when it should, by the seconds that it took."""
    if fate.error is LATE.error:
        return SHORT_DEADLINE - EARLY <= took < SHORT_DEADLINE + PROMPT
    return took < PROMPT


async def ask(client: Any, query: bytes, expected: Fate) -> tuple[Fate, bool]:
    """One query's fate, and whether it came when it should."""
    started = monotonic()
    try:
        result: Any = await client.query(query, timeout=SHORT_DEADLINE if expected.error is LATE.error else DEADLINE)
    except DoTError as error:
        result = error
    return fate_of(query, result), came_in_time(monotonic() - started, expected)


async def converse(api: Backend, fault: Fault, client: Any) -> None:
    """Ask one batch after the other."""
    ids = count(1)
    for batch in fault.fates:
        queries = [query_number(next(ids), fault.opcode) for _ in batch]
        results = await api.gather(map(ask, repeat(client), queries, batch))
        assert results == [(fate, True) for fate in batch]
    errors = {fate.error for batch in fault.fates for fate in batch}
    assert client.is_closed is (ConnectionLostError in errors)


async def scenario(api: Backend, fault: Fault, context: ClientContext, port: int) -> None:
    """Connect, ask, and close."""
    connects = OK
    timeout = SHORT_DEADLINE if fault.connects == SILENT else DEADLINE
    started = monotonic()
    try:
        async with api.connect(
            "127.0.0.1", context=context, port=port, timeout=timeout, configuration=fault.configuration
        ) as client:
            await converse(api, fault, client)
            started = monotonic()
    except DoTError as error:
        connects = fate_of(b"", error)
    took = monotonic() - started
    assert connects == fault.connects
    assert took < CLOSING if connects == OK else came_in_time(took, connects)


def query_number(number: int, opcode: int) -> bytes:
    """The queries of one scenario; in the order of their names."""
    query = bytearray(make_query(f"host-{number}.example", message_id=number))
    query[2] |= opcode << 3
    return bytes(query)


@pytest.mark.parametrize("fault", EVERY, ids=lambda fault: fault.id)
def test_fault(api: Backend, fault: Fault, pki: Pki) -> None:
    """FLT: each query's fate and its time, the error with its codes and text, closing, and nothing left behind."""
    if fault.is_pinned:
        policy = AuthenticationPolicy.strict(pins=[pki.leaf.pin])
    else:
        policy = AuthenticationPolicy.strict(NAME, trust_anchors=[pki.root.der])
    context = ClientContext(policy)
    with misbehaving(fault, pki) as port:
        if fault.is_resumed:
            api.run(scenario, fault, context, port)
        api.run(scenario, fault, context, port)


def test_every_fault_that_has_a_code_is_in_the_table() -> None:
    fates = {fault.connects for fault in EVERY} | {fate for fault in EVERY for batch in fault.fates for fate in batch}
    assert {fate.fault for fate in fates} - {None} == set(Code)


def test_each_edge_of_the_platform_has_its_tests_and_each_of_them_a_row() -> None:
    rows = list(platform_edges.named())
    assert len(set(rows)) == len(rows)
    for module in {module for module, _ in rows} | set(platform_edges.MODULES):
        names, there = {name for of, name in rows if of == module}, platform_edges.tests_of(module)
        assert names <= there
        if module in platform_edges.MODULES:
            elsewhere = platform_edges.ELSEWHERE.get(module, set())
            assert names | elsewhere == there
            assert not names & elsewhere


@pytest.mark.parametrize("edge", platform_edges.EDGES, ids=lambda edge: edge.situation)
def test_each_edge_says_what_becomes_of_it_on_each_backend(edge: platform_edges.Edge) -> None:
    assert set(edge.outcomes()) == set(platform_edges.ALL)


def test_page_is_made_from_the_table() -> None:
    assert PAGE.read_text("utf-8") == page()
