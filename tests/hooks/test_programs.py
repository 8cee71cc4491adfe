"""The hooks of libraries that want a process of their own: gevent patches it, and Twisted has one reactor in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dot_proto import LocalProtocolError, Upstream
from hooks.conftest import Names

LIMIT = 60.0
"Seconds that a program may take."

PREAMBLE = """
import sys
from pathlib import Path
from dot_proto import Upstream, certificates_from
port, web_port = int(sys.argv[1]), int(sys.argv[2])
anchors = certificates_from(Path(sys.argv[3]).read_bytes())
upstreams = [Upstream(name="dot.test", addresses=["127.0.0.1"], port=port, trust_anchors=anchors)]
"""

GEVENT = (
    """
from gevent import monkey
monkey.patch_all()
"""
    + PREAMBLE
    + """
import os, socket, urllib.request
import gevent
from dot_io.hooks.gevent import Resolver
from dot_proto import UpstreamError
import requests
resolver = Resolver(upstreams, search=["corp.example"])
gevent.get_hub().resolver = resolver
session = requests.Session()
session.trust_env = False
for host in ("web.example", "alias.example", "localhost", "127.0.0.1", "short"):
    assert session.get(f"http://{host}:{web_port}/").text == "the right server\\n", host
assert socket.getaddrinfo(b"web.example", 80, type=socket.SOCK_STREAM)[0][4] == ("127.0.0.1", 80)
assert socket.gethostbyname("web.example") == "127.0.0.1"
with socket.socket() as sock:
    sock.connect(("web.example", web_port))
assert socket.gethostbyaddr("192.0.2.7")[0] == "host.example"
assert socket.getnameinfo(("192.0.2.7", 80), 0) == ("host.example", "http")
try:
    socket.getaddrinfo("none.example", 80)
    raise AssertionError
except socket.gaierror as error:
    assert error.errno == socket.EAI_NONAME
try:
    socket.getaddrinfo("printer.local", 80)  # the system's, in a thread of gevent's
    raise AssertionError
except socket.gaierror:
    pass
# Greenlets wait for one name while others go on.
jobs = [gevent.spawn(socket.gethostbyname, "slow.example" if number == 0 else "web.example") for number in range(20)]
gevent.joinall(jobs[1:], timeout=5.0)
assert [job.value for job in jobs[1:]] == ["127.0.0.1"] * 19
assert not jobs[0].ready()
jobs[0].join()
assert jobs[0].value == "127.0.0.1"
try:
    Resolver([Upstream(name="dot.test", bootstrap="system", trust_anchors=anchors)])
    raise AssertionError
except UpstreamError as error:
    assert "give addresses" in str(error)
child = os.fork()  # on a connection of its own, at the first attempt: else a warning would be printed
if not child:
    os._exit(socket.gethostbyname("web.example") != "127.0.0.1")
assert os.waitpid(child, 0)[1] == 0
assert socket.gethostbyname("web.example") == "127.0.0.1"
named = Resolver([Upstream(name="dot.test", port=port, bootstrap=upstreams, trust_anchors=anchors)])
gevent.get_hub().resolver = named
assert socket.gethostbyname("web.example") == "127.0.0.1"
named.close()
resolver.close()
print("fine")
"""
)

TWISTED = (
    PREAMBLE
    + """
import socket
from twisted.internet import defer, endpoints, error, protocol, reactor, task
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.logger import globalLogBeginner
from twisted.web.client import Agent, readBody
from dot_io.hooks.twisted import NameResolver
names = NameResolver(reactor, upstreams, search=["corp.example"])
before = reactor.installNameResolver(names)
assert before is not None

class Receiver:
    def __init__(self):
        self.found, self.done = [], defer.Deferred()
    def resolutionBegan(self, resolution):
        self.resolution = resolution
    def addressResolved(self, address):
        self.found.append(address)
    def resolutionComplete(self):
        self.done.callback(self.found)

async def resolved(name, *arguments):
    receiver = Receiver()
    assert reactor.nameResolver.resolveHostName(receiver, name, *arguments).name == name
    return await receiver.done

async def main(reactor):
    agent = Agent(reactor)
    for host in ("web.example", "alias.example", "localhost", "127.0.0.1", "short"):
        response = await agent.request(b"GET", f"http://{host}:{web_port}/".encode())
        assert await readBody(response) == b"the right server\\n", host
    assert await reactor.resolve("web.example") == "127.0.0.1"
    assert await resolved("web.example", 80) == [IPv4Address("TCP", "127.0.0.1", 80)]
    assert await resolved("127.0.0.1", 80, [IPv4Address], "UDP") == [IPv4Address("UDP", "127.0.0.1", 80)]
    assert [address.host for address in await resolved("v6.example")] == ["::1"]
    assert await resolved("v6.example", 0, [IPv4Address]) == []
    assert [address.host for address in await resolved("v6.example", 0, [IPv6Address, IPv4Address])] == ["::1"]
    assert await resolved("none.example") == []
    number, name = socket.if_nameindex()[0]
    assert await resolved(f"fe80::1%{name}", 80) == [IPv6Address("TCP", "fe80::1", 80, 0, number)]
    try:
        await agent.request(b"GET", b"http://none.example/")
        raise AssertionError
    except error.DNSLookupError:
        pass
    receiver = Receiver()
    reactor.nameResolver.resolveHostName(receiver, "slow.example").cancel()
    try:
        await defer.maybeDeferred(receiver.done.addTimeout, 1.5, reactor)
        raise AssertionError
    except defer.TimeoutError:
        assert receiver.found == []
    faults = []
    globalLogBeginner.beginLoggingTo([faults.append], redirectStandardIO=False)
    names._functions.getaddrinfo = lambda *_: {}["fault"]
    assert await resolved("web.example") == []  # whatever fails, nobody is left waiting
    assert [fault["log_failure"].type for fault in faults if "log_failure" in fault] == [KeyError]
    print("fine")

task.react(main)
"""
)


@pytest.mark.skipif(sys.platform == "win32", reason="gevent is not installed there")
def test_gevent(names: Names) -> None:
    """``monkey.patch_all()`` first: requests, plain sockets, greenlets that go on, names that are the system's."""
    names.server.answers["slow.example", "A"] = ["127.0.0.1"]
    names.server.delays["slow.example"] = 1.0
    names.server.answers["dot.test", "A"] = ["127.0.0.1"]
    run(names, GEVENT)
    asked = set(names.asked())
    assert {"web.example", "alias.example", "short.corp.example", "none.example", "dot.test"} <= asked
    assert not {"localhost", "127.0.0.1", "printer.local"} & asked


def test_twisted(names: Names) -> None:
    """Agent, the old ``reactor.resolve``, kinds of addresses, cancelling; the reactor's end closes the resolver."""
    names.server.answers["slow.example", "A"] = ["127.0.0.1"]
    names.server.delays["slow.example"] = 1.0
    run(names, TWISTED)
    asked = names.asked()
    assert {"web.example", "alias.example", "short.corp.example", "none.example"} <= set(asked)
    assert not {"localhost", "127.0.0.1"} & set(asked)
    assert names.server.connections == 1


def run(names: Names, program: str, *, says: str = "fine\n") -> None:
    """A program of its own, with warnings as errors; what it prints is all that it may print."""
    done = subprocess.run(
        [sys.executable, "-c", program, str(names.server.port), str(names.web_port), str(names.server.ca_file)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        env={
            "PATH": "",
            "PYTHONPATH": ":".join(sys.path),
            "PYTHONWARNINGS": "ignore,error::ResourceWarning",
            "NO_PROXY": "*",
        },
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, says, "")


def test_gevent_that_has_patched_nothing_is_refused() -> None:
    """It would stop every greenlet; the error says what to do."""
    from dot_io.hooks.gevent import Resolver

    with pytest.raises(
        LocalProtocolError, match=r"not patched socket, select, threading: call gevent.monkey.patch_all"
    ):
        Resolver([Upstream.well_known("quad9")])


def test_a_library_that_is_missing_is_named(tmp_path: Path) -> None:
    """With the extra that brings it."""
    hidden = "import sys; sys.modules['{0}'] = None; import dot_io.hooks.{1}"
    for package, module in (
        ("aiohttp", "aiohttp"),
        ("dns", "dnspython"),
        ("gevent", "gevent"),
        ("niquests", "niquests"),
        ("trio", "trio"),
        ("twisted", "twisted"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", hidden.format(package, module)], capture_output=True, text=True, check=False
        )
        assert f"dot_io.hooks.{module} needs {package}: pip install 'dot-proto[{module}]'" in done.stderr
