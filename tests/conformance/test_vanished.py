"""A server whose machine, or the way to it, has vanished: TCP says nothing for a quarter of an hour, unless told to."""

from __future__ import annotations

import math
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conformance.adapters import BACKENDS, Backend
from conformance.identities import Identities
from dot_proto import ClientConfiguration
from support.peers import scripted

DEFAULT = ClientConfiguration()

needs_user_timeout = pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux only")


@needs_user_timeout
@pytest.mark.parametrize(
    ("configuration", "seconds"),
    [
        (None, 15.0),
        (DEFAULT, DEFAULT.query_timeout * (DEFAULT.max_silent_timeouts or math.nan)),
        (ClientConfiguration(query_timeout=0.1), DEFAULT.silence_timeout),
        (ClientConfiguration(query_timeout=0.0005, max_silent_timeouts=1, silence_timeout=0.0), 0.001),
        (ClientConfiguration(query_timeout=0.0, silence_timeout=0.0), 0.001),
        (ClientConfiguration(query_timeout=1e12), (2**31 - 1) / 1000),
        (ClientConfiguration(query_timeout=math.inf), 0.0),
        (ClientConfiguration(max_silent_timeouts=None), 0.0),
    ],
)
def test_what_is_sent_and_not_acknowledged_ends_the_connection(
    api: Backend, identities: Identities, configuration: ClientConfiguration | None, seconds: float
) -> None:
    """FR-3: retransmission ends when the engine would take the server for dead; 0 is the kernel's own time."""

    async def scenario(api: Backend, port: int) -> None:
        options: dict[str, Any] = {"port": port, "configuration": configuration}
        async with api.connect("127.0.0.1", identities.policy, **options) as client:
            sock = client._driver._socket
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == seconds * 1000

    with scripted(lambda caller: caller.rest(), identities.certificate_file) as server:
        api.run(scenario, server.port)


PROGRAM = """
import fcntl, socket, struct, sys, threading, time
from pathlib import Path
import trustme
from conformance.adapters import BACKENDS
from conformance.identities import make_identities
from dot_io.errors import ConnectionLostError
from dot_proto import ClientConfiguration, make_query
from support.peers import answer, scripted

def loopback(flags):  # SIOCSIFFLAGS
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, 0x8914, struct.pack("16sh14x", b"lo", flags))

async def scenario(api, port):
    configuration = ClientConfiguration(query_timeout=0.5, max_silent_timeouts=2, silence_timeout=1.0)
    async with api.connect("127.0.0.1", identities.policy, port=port, configuration=configuration) as client:
        await client.query(make_query("one.example"), timeout=5.0)
        loopback(0)
        began = time.monotonic()
        try:
            await client.query(make_query("two.example"), timeout=10.0)
        except ConnectionLostError as error:
            print(error.cause.value, error.safe_to_resend, time.monotonic() - began < 6.0)
    loopback(1)
    over.set()

def script(caller):
    caller.send(answer(caller.query()))
    over.wait(10.0)

over = threading.Event()
loopback(1)
identities = make_identities(Path(sys.argv[2]), trustme)
api = next(one for one in BACKENDS if one.name == sys.argv[1])
with scripted(script, identities.certificate_file) as server:
    api.run(scenario, server.port)
"""


@needs_user_timeout
@pytest.mark.parametrize("name", [backend.name for backend in BACKENDS])
def test_a_server_that_vanishes(name: str, tmp_path: Path) -> None:
    """FR-3: in a network of its own, whose one link goes down; the query has 10 s, and its fate comes sooner."""
    unshare = [shutil.which("unshare") or "unshare", "--user", "--map-root-user", "--net"]
    try:
        subprocess.run([*unshare, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system makes no networks for us")
    done = subprocess.run(
        [*unshare, sys.executable, "-c", PROGRAM, name, str(tmp_path)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "transport-failed True True\n", "")
