"""The system's own clocks and addresses, as a resolver looks at them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dot_io import _network
from dot_io._network import NetworkWatch, source_of


def test_a_machine_that_is_awake_has_not_slept() -> None:
    """RES-39: with the real clocks."""
    watch = NetworkWatch()
    assert not any(watch.has_slept() for _ in range(1000))


def test_where_there_is_no_such_clock_the_calendar_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """RES-39: macOS and Windows; a calendar that is set, in either direction, counts as a sleep."""
    calendar = [1000.0, 1000.0, 1000.5, 1004.0, 1004.1, 900.0]
    monkeypatch.setattr(_network, "time", SimpleNamespace(time=lambda: calendar.pop(0)))
    monkeypatch.setattr(_network, "monotonic", lambda: 0.0)
    watch = NetworkWatch(_network._gap_by_calendar)
    assert [watch.has_slept() for _ in range(5)] == [False, False, True, False, True]


@pytest.mark.parametrize(
    ("address", "source"), [("127.0.0.1", "127.0.0.1"), ("127.9.9.9", "127.0.0.1"), ("::1", "::1")]
)
def test_the_kernels_choice(address: str, source: str) -> None:
    """RES-40: nothing is sent."""
    assert source_of(address) in (source, None if ":" in address else source)


@pytest.mark.parametrize("address", ["fe80::1%no-such-interface", "no address", "255.255.255.255"])
def test_no_way_there(address: str) -> None:
    assert source_of(address) is None


def test_what_has_moved_is_told_once() -> None:
    """RES-40: against the kernel's choice at the time of dialling; where there is no way now, nothing is known."""
    given: dict[str, Any] = {"2001:db8::1": "2001:db8::9"}
    watch = NetworkWatch(source_of=given.get)
    watch.opened(1, "2001:db8::1")
    assert not watch.has_moved()
    given["2001:db8::1"] = None
    assert not watch.has_moved()
    given["2001:db8::1"] = "2001:db8::8"
    assert watch.has_moved()
    assert not watch.has_moved()
    watch.opened(2, "192.0.2.1")
    given["192.0.2.1"] = "192.0.2.9"
    watch.ended(2)
    watch.ended(2)
    assert not watch.has_moved()
