"""What Unbound alone can do: padding and keepalive; and our command, asking it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from conformance.adapters import Backend
from dot_proto import RESPONSE_BLOCK, ClientConfiguration, Pin, make_query
from support.credentials import NAME, Credentials
from support.messages import KEEPALIVE, option
from support.programs import run

pytestmark = pytest.mark.interop


def responses(
    api: Backend, port: int, credentials: Credentials, *queries: bytes, configuration: ClientConfiguration | None = None
) -> list[bytes]:
    """What comes for these queries, one after the other over one connection."""

    async def scenario(api: Backend) -> list[bytes]:
        async with api.connect("127.0.0.1", credentials.policy, port=port, configuration=configuration) as client:
            return [await client.query(query) for query in queries]

    answers: list[bytes] = api.run(scenario)
    return answers


def test_unbound_pads_what_is_padded(api: Backend, unbound: int, credentials: Credentials) -> None:
    """PAD-1, PAD-3, PAD-4: to 468 octets (RFC 8467, section 4.1), and only for a padded query."""
    small, large = make_query("h1.lab.test"), make_query("large.lab.test", "TXT")
    padded = responses(api, unbound, credentials, small, large)
    assert [len(response) for response in padded] == [RESPONSE_BLOCK, RESPONSE_BLOCK * 9]
    plain = ClientConfiguration(padding_block=None)
    [unpadded] = responses(api, unbound, credentials, small, configuration=plain)
    assert len(unpadded) < RESPONSE_BLOCK


def test_unbound_states_its_idle_timeout(api: Backend, unbound: int, credentials: Credentials) -> None:
    """KAL-1, KAL-3: our empty option is understood, and answered with 7 s in units of 100 ms."""
    query, theirs = make_query("h1.lab.test"), option(KEEPALIVE, (70).to_bytes(2))
    [told] = responses(api, unbound, credentials, query)
    assert theirs in told
    [untold] = responses(api, unbound, credentials, query, configuration=ClientConfiguration(keepalive=False))
    assert theirs not in untold


# The command.


def command(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return run(sys.executable, "-m", "dot_io.cli", "query", *words, env=environment)


def test_the_command_asks_like_kdig(unbound: int, credentials: Credentials) -> None:
    """The line that one knows from kdig, and what comes of it."""
    at = ["@127.0.0.1", "-p", str(unbound)]
    done = command("-d", *at, f"+tls-ca={credentials.root_file}", f"+tls-host={NAME}", "h1.lab.test")
    assert done.returncode == 0
    assert "status: NOERROR" in done.stdout
    assert "10.0.0.1" in done.stdout
    assert str(credentials.leaf_pin) in done.stdout + done.stderr
    assert f"Received {RESPONSE_BLOCK} B" in done.stdout


def test_the_command_has_an_exit_code_for_each_refusal(unbound: int, credentials: Credentials) -> None:
    at, ca = ["@127.0.0.1", "-p", str(unbound), "h1.lab.test"], f"+tls-ca={credentials.root_file}"
    wrong_pin = f"+tls-pin={Pin(bytes(32))}"
    assert command(*at, ca).returncode == 0
    assert command(*at, f"+tls-pin={credentials.leaf_pin}").returncode == 0
    assert command(*at, ca, f"+tls-host={NAME}", f"+tls-pin={credentials.issuer_pin}").returncode == 0
    assert command(*at, f"+tls-ca={credentials.stranger_file}", f"+tls-host={NAME}").returncode == 21
    assert command(*at, ca, "+tls-host=other.example").returncode == 22
    assert command(*at, wrong_pin).returncode == 23
    assert command(*at, ca, f"+tls-host={NAME}", wrong_pin).returncode == 23
