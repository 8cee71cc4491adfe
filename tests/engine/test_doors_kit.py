"""What is wrong for the laws and the runner of ``dot_proto.testing`` (FR-45): told before an example is drawn.

The kit has no ``__all__``, so that its doors are listed by hand: those that docs/fuzzing.md shows.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import strategies as st

from dot_proto import ClientConnection, Deframer, ServerConfiguration, ServerConnection
from dot_proto.testing.chains import certificate_reader_law, verifier_law
from dot_proto.testing.duties import ABORT, duties_law, every_moment
from dot_proto.testing.laws import client_law, framer_law, message_reader_law, server_law
from dot_proto.testing.peers import Answer, Ask, Script
from dot_proto.testing.runner import open_client, run_script
from support.doors import NO_COUNT, NO_FLAG, NO_FUNCTION, NO_OBJECT, NO_TIME, Door, check, rows

NO_MINIMUM: list[object] = [*[each for each in NO_COUNT if each != -1], None]
NO_EXCEPTIONS: list[object] = [
    None,
    ValueError("text"),
    "ValueError",
    [ValueError],
    (ValueError, None),
    int,
    *NO_OBJECT[:2],
]
NO_DATE: list[object] = [None, "2026-01-01", 0, date(2026, 1, 1)]


def first_moment(**arguments: Any) -> None:
    """Of a generator."""
    next(every_moment(**arguments), None)


def no_time(now: float) -> Any:
    raise AssertionError("it is not called")


def never(*_: object) -> bool:
    raise AssertionError("it is not called")


TABLE: dict[str, Door] = {
    "framer_law": Door(
        lambda: framer_law,
        {"make": Deframer},
        {"make": [*NO_FUNCTION, Deframer()], "minimum": NO_MINIMUM, "tells_truncation": NO_FLAG},
    ),
    "client_law": Door(
        lambda: client_law, {"make": open_client}, {"make": [*NO_FUNCTION, open_client()], "misbehaving_peers": NO_FLAG}
    ),
    "server_law": Door(lambda: server_law, {"make": ServerConnection}, {"make": [*NO_FUNCTION, ServerConnection()]}),
    "message_reader_law": Door(
        lambda: message_reader_law,
        {"reader": never, "raises": ValueError},
        {"reader": NO_FUNCTION, "raises": NO_EXCEPTIONS, "minimum": NO_MINIMUM},
    ),
    "certificate_reader_law": Door(
        lambda: certificate_reader_law,
        {"public_key_of": never, "raises": (ValueError, TypeError)},
        {"public_key_of": NO_FUNCTION, "raises": NO_EXCEPTIONS, "at": NO_DATE},
    ),
    "verifier_law": Door(lambda: verifier_law, {"accepts": never}, {"accepts": NO_FUNCTION, "at": NO_DATE}),
    "duties_law": Door(
        lambda: duties_law,
        {"pairs": st.just(no_time)},
        {"pairs": [None, no_time, *NO_OBJECT], "ends": ["ABORT", ABORT, [None], ["abort"]], "also": NO_FUNCTION},
    ),
    "every_moment": Door(
        lambda: lambda **given: first_moment(**{"octets": (), **given}),
        {"make": no_time, "end": ABORT, "at_server": False},
        {
            "make": NO_FUNCTION,
            "end": [None, "abort", *NO_OBJECT],
            "at_server": NO_FLAG,
            "plan": ["plan", *NO_OBJECT],
        },
    ),
    "open_client": Door(
        lambda: open_client, {}, {"configuration": [ServerConfiguration(), *NO_OBJECT], "first_id": NO_MINIMUM}
    ),
    "run_script": Door(
        lambda: run_script,
        {"client": open_client(), "script": Script((Ask("a."), Answer()))},
        {
            "client": [None, ClientConnection, ServerConnection(), *NO_OBJECT],
            "script": [None, (Ask("a."),), [Ask("a.")], Ask("a."), Script, *NO_OBJECT],
            "start": NO_TIME,
        },
    ),
    "Script": Door(
        lambda: Script,
        {"steps": (Ask("a."),)},
        {
            "steps": [None, Ask("a."), "Ask", ["Ask"], [Ask], {}],
            "read_size": [*NO_COUNT, None, 0],
            "coalesced": NO_FLAG,
        },
    ),
}


@pytest.mark.parametrize(("door", "argument"), rows(TABLE))
def test_what_is_wrong_is_named(door: str, argument: str) -> None:
    """FR-45: an object where the class is due was an error of Hypothesis's, behind the first example."""
    check(TABLE[door], argument)
