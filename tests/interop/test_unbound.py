"""Our client, and our command, against Unbound."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from dot_io.blocking import connect
from dot_io.errors import AuthenticationError
from dot_io.tls import ClientContext
from dot_proto import (
    RESPONSE_BLOCK,
    AuthenticationPolicy,
    ClientConfiguration,
    Pin,
    Reason,
    ResponseReceived,
    make_query,
)
from support.credentials import NAME, Credentials
from support.messages import KEEPALIVE, TC, option
from support.programs import free_port, require, run, running

pytestmark = pytest.mark.interop

STRICT = AuthenticationPolicy.strict

NXDOMAIN = 3

CONFIGURATION = """
server:
    interface: 127.0.0.1@{port}
    tls-port: {port}
    tls-service-key: "{file}"
    tls-service-pem: "{file}"
    edns-tcp-keepalive: yes
    edns-tcp-keepalive-timeout: 7000
    directory: "{home}"
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    do-daemonize: no
    num-threads: 1
    module-config: "iterator"
    local-zone: "lab.test." static
    local-data: "a.lab.test. 300 IN A 192.0.2.10"
    local-data: 'large.lab.test. 300 IN TXT {large}'
{hosts}
remote-control:
    control-enable: no
"""

LARGE = [f"{number:02}".encode() + b"x" * 238 for number in range(17)]
"Character strings of one TXT record; 4 KB in all."

HOSTS = 200


@pytest.fixture(scope="module")
def port(credentials: Credentials, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Where Unbound listens, with data of its own and no need of a network."""
    unbound = require("unbound", "unbound")
    home = tmp_path_factory.mktemp("unbound")
    number = free_port()
    large = " ".join(f'"{one.decode()}"' for one in LARGE)
    hosts = "\n".join(f'    local-data: "h{one}.lab.test. 300 IN A 192.0.2.{one}"' for one in range(HOSTS))
    settings = home / "unbound.conf"
    settings.write_text(
        CONFIGURATION.format(port=number, file=credentials.file, home=home, large=large, hosts=hosts), "utf-8"
    )
    with running([unbound, "-d", "-c", settings], number, home / "log"):
        yield number


def policies(credentials: Credentials) -> dict[str, AuthenticationPolicy]:
    anchors = [credentials.anchor]
    return {
        "CA and name": credentials.policy,
        "CA and address": STRICT("127.0.0.1", trust_anchors=anchors),
        "leaf pin": STRICT(pins=[credentials.leaf_pin]),
        "CA, name and issuer's pin": STRICT(NAME, trust_anchors=anchors, pins=[credentials.issuer_pin]),
        "name and issuer pin by hash": STRICT(NAME, issuer_pins=[credentials.issuer_pin]),
    }


def test_unbound_proves_who_it_is_and_answers(port: int, credentials: Credentials) -> None:
    """RFC 8310, sections 6 and 8: by each kind of credential."""
    for what, policy in policies(credentials).items():
        with connect("127.0.0.1", policy, port=port) as client:
            assert client.verdict.authenticated, what
            response = client.query(make_query("a.lab.test"))
            assert bytes([192, 0, 2, 10]) in response, what
            assert response[3] & 15 == 0, what


def test_unbound_is_refused_by_whoever_asks_for_another(port: int, credentials: Credentials) -> None:
    """AUT-1: the reasons are those of the same refusals by our own server."""
    anchors = [credentials.anchor]
    for policy, reason in (
        (STRICT("other.example", trust_anchors=anchors), Reason.NAME),
        (STRICT("127.0.0.2", trust_anchors=anchors), Reason.NAME),
        (STRICT(NAME, trust_anchors=[credentials.stranger]), Reason.UNTRUSTED),
        (STRICT(pins=[Pin(bytes(32))]), Reason.PIN),
        (STRICT(NAME, trust_anchors=anchors, pins=[Pin(bytes(32))]), Reason.PIN),
    ):
        with pytest.raises(AuthenticationError) as refusal:
            connect("127.0.0.1", policy, port=port)
        assert refusal.value.verdict.reason is reason


def test_an_answer_of_four_kilobytes_is_whole(port: int, credentials: Credentials) -> None:
    """EDN-3: the UDP payload size of 1232 octets that the query states is of no account here."""
    with connect("127.0.0.1", credentials.policy, port=port) as client:
        response = client.query(make_query("large.lab.test", "TXT"))
    assert all(string in response for string in LARGE)
    assert not int.from_bytes(response[2:4]) & TC


def test_unbound_pads_what_is_padded(port: int, credentials: Credentials) -> None:
    """PAD-1, PAD-3, PAD-4: to 468 octets (RFC 8467, section 4.1), and only for a padded query."""
    with connect("127.0.0.1", credentials.policy, port=port) as client:
        assert len(client.query(make_query("a.lab.test"))) == RESPONSE_BLOCK
        assert len(client.query(make_query("large.lab.test", "TXT"))) % RESPONSE_BLOCK == 0
    plain = ClientConfiguration(padding_block=None)
    with connect("127.0.0.1", credentials.policy, port=port, configuration=plain) as client:
        assert len(client.query(make_query("a.lab.test"))) < RESPONSE_BLOCK


def test_unbound_states_its_idle_timeout(port: int, credentials: Credentials) -> None:
    """KAL-1, KAL-3: our empty option is understood, and answered with 7 s in units of 100 ms."""
    with connect("127.0.0.1", credentials.policy, port=port) as client:
        assert option(KEEPALIVE, (70).to_bytes(2)) in client.query(make_query("a.lab.test"))
    silent = ClientConfiguration(keepalive=False)
    with connect("127.0.0.1", credentials.policy, port=port, configuration=silent) as client:
        assert option(KEEPALIVE, (70).to_bytes(2)) not in client.query(make_query("a.lab.test"))


def test_a_session_is_resumed(port: int, credentials: Credentials) -> None:
    """TLS-8: Unbound's tickets are good for another connection."""
    context = ClientContext(credentials.policy)
    resumed = []
    for _ in range(2):
        with connect("127.0.0.1", port=port, context=context) as client:
            client.query(make_query("a.lab.test"))
            assert client.handshake is not None
            resumed.append(client.handshake.is_resumed)
    assert resumed == [False, True]


@pytest.mark.parametrize("share_records", [False, True])
def test_two_hundred_queries_at_a_time(port: int, credentials: Credentials, share_records: bool) -> None:
    """CON-2: pipelined; each answer belongs to its question."""
    queries = [make_query(f"h{number}.lab.test") for number in range(HOSTS)]
    with connect("127.0.0.1", credentials.policy, port=port, share_records=share_records) as client:
        outcomes = dict(client.query_many(queries, max_in_flight=HOSTS))
    assert len(outcomes) == HOSTS
    for position, outcome in outcomes.items():
        assert isinstance(outcome, ResponseReceived)
        assert bytes([192, 0, 2, position]) in outcome.message


def test_a_name_that_does_not_exist(port: int, credentials: Credentials) -> None:
    with connect("127.0.0.1", credentials.policy, port=port) as client:
        assert client.query(make_query("nothing.lab.test"))[3] & 15 == NXDOMAIN


# The command.


def command(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return run(sys.executable, "-m", "dot_io.cli", "query", *words, env=environment)


def test_the_command_asks_like_kdig(port: int, credentials: Credentials) -> None:
    """The line that one knows from kdig, and what comes of it."""
    done = command(
        "-d", "@127.0.0.1", "-p", str(port), f"+tls-ca={credentials.root_file}", f"+tls-host={NAME}", "a.lab.test"
    )
    assert done.returncode == 0
    assert "status: NOERROR" in done.stdout
    assert "192.0.2.10" in done.stdout
    assert str(credentials.leaf_pin) in done.stdout + done.stderr
    assert f"Received {RESPONSE_BLOCK} B" in done.stdout


def test_the_command_has_an_exit_code_for_each_refusal(port: int, credentials: Credentials) -> None:
    at, ca = ["@127.0.0.1", "-p", str(port), "a.lab.test"], f"+tls-ca={credentials.root_file}"
    wrong_pin = f"+tls-pin={Pin(bytes(32))}"
    assert command(*at, ca).returncode == 0
    assert command(*at, f"+tls-pin={credentials.leaf_pin}").returncode == 0
    assert command(*at, ca, f"+tls-host={NAME}", f"+tls-pin={credentials.issuer_pin}").returncode == 0
    assert command(*at, f"+tls-ca={credentials.stranger_file}", f"+tls-host={NAME}").returncode == 21
    assert command(*at, ca, "+tls-host=other.example").returncode == 22
    assert command(*at, wrong_pin).returncode == 23
    assert command(*at, ca, f"+tls-host={NAME}", wrong_pin).returncode == 23
