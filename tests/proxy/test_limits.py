"""Who is answered, and how much may wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dot_io.proxy._access import Access, faults
from dot_io.proxy._in_flight import InFlight
from dot_io.proxy._policy import DropReason
from dot_io.proxy.configuration import ProxyConfiguration
from dot_proto import LocalProtocolError

LOOPBACK = ["127.0.0.1", "127.0.0.2", "::1"]
OTHERS = ["0.0.0.0", "::", "192.0.2.1", "fe80::1%eth0", "2001:db8::1", "::ffff:127.0.0.1"]


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_is_always_answered(host: str) -> None:
    """P9."""
    for access in (Access(()), Access(ProxyConfiguration(allow=["192.0.2.0/24"]).allow)):
        assert access.fault(host, 40_000, 53) is None


@pytest.mark.parametrize("host", OTHERS)
def test_nobody_else_is_unless_allowed(host: str) -> None:
    """P9: denied, and not listened for."""
    assert Access(()).fault(host, 40_000, 53) is DropReason.DENIED
    [fault] = faults(ProxyConfiguration(listen=[(host.partition("%")[0], 53)]), ())
    assert 'none is allowed: name their networks, as allow = ["192.0.2.0/24"]' in fault


def test_networks_that_are_allowed() -> None:
    """P9, P15: an address with a zone too."""
    access = Access(ProxyConfiguration(allow=["192.0.2.0/24", "fe80::/10"]).allow)
    assert faults(ProxyConfiguration(listen=[("0.0.0.0", 53)], allow=["192.0.2.0/24"]), ()) == []
    assert access.fault("192.0.2.255", 40_000, 53) is None
    assert access.fault("fe80::1%eth0", 40_000, 53) is None
    assert access.fault("192.0.3.0", 40_000, 53) is DropReason.DENIED


@pytest.mark.parametrize(
    ("port", "own_port", "fault"),
    [(0, 5353, DropReason.SOURCE_PORT), (53, 53, DropReason.SOURCE_PORT), (53, 5353, None), (40_000, 53, None)],
)
def test_ports_that_are_a_loop(port: int, own_port: int, fault: DropReason | None) -> None:
    """P7."""
    assert Access(()).fault("127.0.0.1", port, own_port) is fault


@given(
    st.lists(st.tuples(st.sampled_from([b"a", b"A", b"b"]), st.integers(12, 60)) | st.integers(0, 40), max_size=60),
    st.integers(1, 6),
    st.integers(1, 300),
    st.integers(1, 4),
)
def test_what_waits_is_bounded(
    steps: list[tuple[bytes, int] | int], max_in_flight: int, max_octets: int, max_equal: int
) -> None:
    """P14, P17: against a plain list; the oldest go first."""
    configuration = ProxyConfiguration(
        max_in_flight=max_in_flight, max_in_flight_octets=max_octets, max_equal=max_equal
    )
    machine = InFlight[str](configuration)
    model: list[tuple[int, bytes, int]] = []
    for handle, step in enumerate(steps):
        if isinstance(step, int):
            known = [one for one, _, _ in model]
            assert machine.remove(step) == (str(step) if step in known else None)
            model = [each for each in model if each[0] != step]
            continue
        question, octets = step
        assert machine.takes(question.lower()) == (sum(each[1] == question.lower() for each in model) < max_equal)
        if not machine.takes(question.lower()):
            continue
        machine.add(handle, str(handle), question.lower(), octets)
        model.append((handle, question.lower(), octets))
        while (oldest := machine.surplus()) is not None:
            assert machine.remove(oldest) == str(oldest)
            assert oldest == model.pop(0)[0]
        assert len(machine) == len(model) <= max_in_flight
        assert sum(each[2] for each in model) <= max_octets


def test_a_configuration_says_what_is_wrong_with_it() -> None:
    """P25."""
    for wrong, text in [
        ({"allow": "192.0.2.0/24"}, "allow must be a list of networks"),
        ({"allow": ["192.0.2.1/24"]}, "allow: '192.0.2.1/24' is no network.*has host bits set"),
        ({"allow": [4]}, "allow: 4 is no network"),
        ({"max_udp_size": 511}, "max_udp_size is 511; it must be from 512 to 65535"),
        ({"max_in_flight": 0}, "max_in_flight is 0; it must be at least 1"),
        ({"wait_for_upstream": "4"}, "wait_for_upstream must be a number of seconds"),
        ({"special_names": "local"}, "special_names must be a SpecialNames"),
        ({"trust_ad": "no"}, "trust_ad must be True or False"),
    ]:
        with pytest.raises(LocalProtocolError, match=text):
            ProxyConfiguration(**wrong)  # type: ignore[arg-type]
