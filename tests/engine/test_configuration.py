"""Defaults and limits (SRV-11, SRV-12, PAD-17): what makes no sense is refused when it is written down."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import math
import re
from itertools import pairwise

import pytest

from dot_proto import ClientConfiguration, LocalProtocolError, ServerConfiguration, configuration

BOTH = [ClientConfiguration, ServerConfiguration]

CLIENT_EDGES = {
    "query_timeout": ([0, 0.1, math.inf], [-0.1]),
    "idle_timeout": ([0, 1e6, math.inf], [-1]),
    "max_idle_timeout": ([0, math.inf], [-1]),
    "close_timeout": ([0, math.inf], [-1]),
    "max_in_flight": ([1, 65_536], [0, -1, 65_537]),
    "max_queries": ([1, 1 << 24], [0, -1, 1 + (1 << 24)]),
    "max_unsolicited": ([0, 10**9], [-1]),
    "silence_timeout": ([0, math.inf], [-1]),
    "max_silent_timeouts": ([None, 1, 10**9], [0, -1]),
    "padding_block": ([None, 1, 128, 65_535], [0, -128, 65_536]),
}
SERVER_EDGES = {
    "idle_timeout": ([0, 0.1, 6553.5], [-1, 6553.6, math.inf]),
    "idle_grace": ([0, math.inf], [-1]),
    "close_timeout": ([0, math.inf], [-1]),
    "max_outstanding": ([1, 8192], [0, -1]),
    "max_outstanding_octets": ([1, 10**9], [0, -1]),
    "hard_outstanding": ([1024, 10**9], [1023, 0]),
    "max_queries": ([None, 1, 10**9], [0, -1]),
    "max_duration": ([None, 0, math.inf], [-1]),
    "max_unsolicited": ([0, 10**9], [-1]),
    "padding_block": ([None, 1, 468, 65_535], [0, 65_536]),
}
EDGES = [
    *((ClientConfiguration, *edge) for edge in CLIENT_EDGES.items()),
    *((ServerConfiguration, *edge) for edge in SERVER_EDGES.items()),
]
SECONDS = [(kind, field.name) for kind in BOTH for field in dataclasses.fields(kind) if "float" in str(field.type)]


@pytest.mark.parametrize(("kind", "name", "values"), EDGES)
def test_the_range_of_each_value(kind, name, values):
    """Both ends of it, and what lies just outside; the error names the value (SRV-12)."""
    good, bad = values
    for value in good:
        assert getattr(kind(**{name: value}), name) == value
    for value in bad:
        with pytest.raises(LocalProtocolError, match=re.escape(f"{name} is {value};")):
            kind(**{name: value})


@pytest.mark.parametrize(("kind", "name"), SECONDS)
def test_not_a_number(kind, name):
    """NaN compares with nothing: a timer set to it would never fire."""
    with pytest.raises(LocalProtocolError, match=name):
        kind(**{name: math.nan})


def test_the_error_says_what_is_allowed():
    """A configuration file is read by people."""
    with pytest.raises(LocalProtocolError, match=r"^max_unsolicited is -1; it must be at least 0$"):
        ClientConfiguration(max_unsolicited=-1)
    with pytest.raises(LocalProtocolError, match=r"^max_in_flight is 0; it must be from 1 to 65536$"):
        ClientConfiguration(max_in_flight=0)


def test_the_hard_limit_is_no_lower_than_the_other():
    """SRV-12: first the server stops reading, then it refuses."""
    assert ServerConfiguration(max_outstanding=5, hard_outstanding=5).hard_outstanding == 5
    with pytest.raises(LocalProtocolError, match="hard_outstanding"):
        ServerConfiguration(max_outstanding=6, hard_outstanding=5)


def test_every_value_has_its_edges_here():
    """A new field needs a row in this module."""
    without_range = {"keepalive", "opcodes"}
    for kind, edges in ((ClientConfiguration, CLIENT_EDGES), (ServerConfiguration, SERVER_EDGES)):
        assert {field.name for field in dataclasses.fields(kind)} - without_range == set(edges)


def test_the_defaults():
    """From the RFCs, and resolv.conf(5); padded unless one says no (RFC 8467, sections 4.1 and 4.2; PAD-17)."""
    client, server = ClientConfiguration(), ServerConfiguration()
    assert client.padding_block == 128
    assert server.padding_block == 468
    assert client.keepalive
    assert client.query_timeout == 5.0
    assert client.idle_timeout == server.idle_timeout == 10.0
    assert server.idle_grace > 0
    assert server.opcodes == {0, 4, 5}


@pytest.mark.parametrize("kind", BOTH)
def test_it_cannot_change_later(kind):
    """A connection may rely on it."""
    made = kind()
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.idle_timeout = 1.0
    assert made == kind()
    assert hash(made) == hash(kind())


@pytest.mark.parametrize("kind", BOTH)
def test_values_are_named(kind):
    """Nobody knows what the third number is."""
    with pytest.raises(TypeError):
        kind(5.0)


@pytest.mark.parametrize("kind", BOTH)
def test_every_value_says_its_unit(kind):
    """Seconds, octets, queries or messages: a number never stands alone."""
    tree = ast.parse(inspect.getsource(configuration))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind.__name__)
    units = ("Seconds", "Octets", "Queries", "Messages")
    for field, text in pairwise(body):
        if isinstance(field, ast.AnnAssign) and ast.unparse(field.annotation) not in ("bool", "frozenset[int]"):
            assert isinstance(text, ast.Expr)
            assert ast.literal_eval(text.value).startswith(units), ast.unparse(field.target)
