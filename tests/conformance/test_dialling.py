"""TCP to a host, in one way on every backend: which address, how long, what is raised, and what is left behind."""

from __future__ import annotations

import errno
import math
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import trio

from conformance.adapters import Backend, Blocking, Trio
from conformance.identities import Identities
from conformance.interruption import Moment, at_each_suspension
from conformance.test_cancellation import answering
from dot_io import _lookup
from dot_io.errors import ConnectError, ConnectTimeoutError
from dot_proto import make_query
from support.lookups import hanging
from support.peers import GIVE_UP, scripted, unanswering

HOST = "dns.example"

SLACK = 2.0
"Seconds that a loaded machine may be late."

Found = list[tuple[socket.AddressFamily, str, int]]
Resolver = Callable[..., list[Any]]


def resolver(found: Found) -> Resolver:
    """What stands in the place of ``getaddrinfo``: the host has these addresses, each with its port."""
    return lambda *_, **__: [(family, socket.SOCK_STREAM, 6, "", (host, port)) for family, host, port in found]


def refused() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@pytest.fixture
def has_addresses(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say which addresses :data:`HOST` has: ports on 127.0.0.1, or families with them."""

    def install(*ports: int | tuple[socket.AddressFamily, int]) -> None:
        pairs = [port if isinstance(port, tuple) else (socket.AF_INET, port) for port in ports]
        monkeypatch.setattr(socket, "getaddrinfo", resolver([(family, "127.0.0.1", port) for family, port in pairs]))

    return install


@pytest.fixture
def no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without IPv6."""

    class Socket(socket.socket):
        def __init__(self, family: int = -1, kind: int = -1, protocol: int = -1, fileno: int | None = None) -> None:
            if family == socket.AF_INET6 and fileno is None:
                raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
            super().__init__(family, kind, protocol, fileno)

    monkeypatch.setattr(socket, "socket", Socket)


async def asks(api: Backend, identities: Identities) -> float:
    """Seconds that connecting took; a query is answered then."""
    async with api.connect(HOST, identities.policy, timeout=GIVE_UP) as client:
        assert await client.query(make_query("a.example"))
        connect_time: float = client.connect_time
        return connect_time


async def fails(api: Backend, identities: Identities, timeout: float = GIVE_UP) -> ConnectError:
    with pytest.raises(ConnectError) as error:
        async with api.connect(HOST, identities.policy, timeout=timeout):
            pass
    return error.value


async def dials(api: Backend) -> socket.socket:
    """TCP alone, without a client."""
    dial = sys.modules[f"{api.package.__name__}.dial"].dial
    if not api.is_async:
        sock: socket.socket = await api.in_thread(dial, HOST, 853, time.monotonic() + GIVE_UP)
    else:
        sock = await dial(HOST, 853, api.now() + GIVE_UP)
    return sock


# Which address.


def test_an_address_that_drops_syns_costs_a_quarter_of_a_second(
    api: Backend, identities: Identities, has_addresses: Callable[..., None]
) -> None:
    """FR-7: the second address is tried beside the first, after the delay of RFC 8305, section 8."""
    with unanswering() as dead, scripted(answering, identities.certificate_file) as server:
        has_addresses(dead, server.port)
        assert 0.24 <= api.run(asks, identities) < 0.25 + SLACK


def test_an_address_that_refuses_costs_nothing(
    api: Backend, identities: Identities, has_addresses: Callable[..., None]
) -> None:
    with scripted(answering, identities.certificate_file) as server:
        has_addresses(refused(), server.port)
        assert api.run(asks, identities) < 0.24


@pytest.mark.usefixtures("no_ipv6")
def test_a_family_that_the_kernel_does_not_have(
    api: Backend, identities: Identities, has_addresses: Callable[..., None]
) -> None:
    """FR-8: AAAA first."""
    with scripted(answering, identities.certificate_file) as server:
        has_addresses((socket.AF_INET6, server.port), (socket.AF_INET, server.port))
        assert api.run(asks, identities) < 0.24


@pytest.mark.usefixtures("no_ipv6")
def test_only_a_family_that_the_kernel_does_not_have(
    api: Backend, identities: Identities, has_addresses: Callable[..., None]
) -> None:
    """FR-8: a ConnectError, with the system's words."""
    has_addresses((socket.AF_INET6, 853))
    assert os.strerror(errno.EAFNOSUPPORT) in str(api.run(fails, identities))


def test_families_take_turns(api: Backend, identities: Identities, has_addresses: Callable[..., None]) -> None:
    """RFC 8305, section 4: ten IPv6 addresses that do not answer keep the one of IPv4 waiting for one delay."""
    with ExitStack() as stack:
        dead = stack.enter_context(unanswering())
        server = stack.enter_context(scripted(answering, identities.certificate_file))
        elsewhere = 12  # any family but AF_INET
        has_addresses(*[(socket.AF_INET, dead)] * 10, (elsewhere, server.port))
        mapped = _as_ipv4(stack, elsewhere)
        assert api.run(asks, identities) < 0.25 * 5
        assert mapped


def _as_ipv4(stack: ExitStack, family: int) -> list[int]:
    """Let sockets of ``family`` be IPv4's: loopback need not have IPv6."""
    monkeypatch = stack.enter_context(pytest.MonkeyPatch.context())
    made: list[int] = []

    class Socket(socket.socket):
        def __init__(self, of: int = -1, kind: int = -1, protocol: int = -1, fileno: int | None = None) -> None:
            if of == family:
                made.append(of)
                of = socket.AF_INET
            super().__init__(of, kind, protocol, fileno)

    monkeypatch.setattr(socket, "socket", Socket)
    return made


def test_many_addresses_that_all_refuse(
    api: Backend, identities: Identities, has_addresses: Callable[..., None]
) -> None:
    """Each is tried, and the error is no longer for that."""
    has_addresses(*[refused()] * 200)
    error = api.run(fails, identities)
    assert not isinstance(error, TimeoutError)
    assert "Connection refused (127.0.0.1, 127.0.0.1" in str(error)
    assert len(str(error)) < 200


def test_many_addresses_that_drop_syns(
    api: Backend, identities: Identities, has_addresses: Callable[..., None]
) -> None:
    """One deadline for all, and not a file descriptor for each."""
    with unanswering() as dead:
        has_addresses(*[dead] * 1000)
        began = time.monotonic()
        assert isinstance(api.run(fails, identities, 0.6), ConnectTimeoutError)
        assert 0.59 <= time.monotonic() - began < 0.6 + SLACK


def test_the_losers_are_closed_when_one_has_won(
    api: Backend, identities: Identities, has_addresses: Callable[..., None]
) -> None:
    """Several are on their way when one answers; what is left behind is looked for after each scenario."""
    with unanswering() as dead, scripted(answering, identities.certificate_file) as server:
        has_addresses(dead, dead, refused(), server.port, dead)
        api.run(asks, identities)


# Looking up the name.


def test_a_name_without_an_address(api: Backend, identities: Identities, has_addresses: Callable[..., None]) -> None:
    has_addresses()
    assert str(api.run(fails, identities)) == f"no TCP connection to {HOST} port 853: it has no address"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "Temporary failure"),
        (OSError(errno.EMFILE, "words"), os.strerror(errno.EMFILE)),
        (UnicodeError("label too long"), "label too long"),
        (ValueError("embedded null character"), "embedded null character"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_lookup_that_fails(
    api: Backend, identities: Identities, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def getaddrinfo(*_: object, **__: object) -> Any:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    failure = api.run(fails, identities)
    assert f"no TCP connection to {HOST} port 853: {words}" in str(failure)
    assert failure.__cause__ is error


def test_a_lookup_that_hangs(api: Backend, identities: Identities, monkeypatch: pytest.MonkeyPatch) -> None:
    """FR-14: one deadline covers the lookup too."""
    with hanging(monkeypatch):
        began = time.monotonic()
        error = api.run(fails, identities, 0.1)
        assert 0.095 <= time.monotonic() - began < 0.1 + SLACK
    assert isinstance(error, ConnectTimeoutError)
    assert "lookup" in str(error)


def test_lookups_that_hang_are_bounded(api: Backend, identities: Identities, monkeypatch: pytest.MonkeyPatch) -> None:
    """FR-14: those that find no thread wait until their deadlines, and are forgotten then."""

    async def scenario(api: Backend) -> None:
        errors = await api.gather(fails(api, identities, timeout=0.3) for _ in range(_lookup.MAX_THREADS + 8))
        assert all(isinstance(error, ConnectTimeoutError) for error in errors)

    with hanging(monkeypatch) as asked:
        api.run(scenario)
        assert len(asked) == _lookup.MAX_THREADS
        assert not _lookup.pool._waiting


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process can start no thread to look a name up."""

    class NoThreads:
        @staticmethod
        def start_new_thread(*_: object) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_lookup, "_thread", NoThreads)


@pytest.mark.usefixtures("no_threads")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_address_needs_no_thread(api: Backend, identities: Identities, host: str) -> None:
    """FR-14: so it can be connected to while all lookups hang."""

    async def scenario(api: Backend, port: int) -> str:
        with pytest.raises(ConnectError) as error:
            async with api.connect(host, identities.policy, port=port):
                pass
        return str(error.value)

    port = refused()
    assert api.run(scenario, port).startswith(f"no TCP connection to {host} port {port}: ")


@pytest.mark.usefixtures("no_threads")
def test_no_thread_for_a_lookup(api: Backend, identities: Identities) -> None:
    assert str(api.run(fails, identities)).endswith(os.strerror(errno.EAGAIN))
    assert not _lookup.pool._waiting


EXITS = """
import asyncio, socket, sys, time, trio
import dot_io.asyncio, dot_io.blocking, dot_io.trio
from dot_io.errors import ConnectTimeoutError
socket.getaddrinfo = lambda *_, **__: time.sleep(60)

async def connect(backend):
    async with backend.connect("dns.example", timeout=0.05):
        pass

try:
    match sys.argv[1]:
        case "blocking": dot_io.blocking.connect("dns.example", timeout=0.05)
        case "asyncio" | "eager": asyncio.run(connect(dot_io.asyncio))
        case "uvloop":
            import uvloop
            uvloop.run(connect(dot_io.asyncio))
        case "trio": trio.run(connect, dot_io.trio)
except ConnectTimeoutError:
    print("late")
"""


def test_a_lookup_that_hangs_does_not_hold_up_the_end_of_the_process(api: Backend) -> None:
    """FR-14: the thread is left behind."""
    done = subprocess.run(
        [sys.executable, "-c", EXITS, api.name], capture_output=True, text=True, timeout=GIVE_UP, check=True
    )
    assert (done.stdout, done.stderr) == ("late\n", "")


FORKS = """
import os, socket, sys, time
from dot_io import _lookup
from dot_io.blocking.dial import dial
from dot_io.errors import ConnectError

def getaddrinfo(host, *_, **__):
    if host == "hangs.example":
        time.sleep(60)
    raise socket.gaierror(socket.EAI_NONAME, "unknown")

socket.getaddrinfo = getaddrinfo
for _ in range(_lookup.MAX_THREADS):
    _lookup.Lookup("hangs.example", 853, print).__enter__()
child = os.fork()
try:
    dial("dns.example", 853, time.monotonic() + (5.0 if child == 0 else 0.1))
except ConnectError as error:
    if child == 0:
        print(error, flush=True)
        os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_looks_names_up_though_all_threads_of_its_parent_hang() -> None:
    """FR-14, FR-11: the threads are the parent's, and so are the lookups that they are at."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS], capture_output=True, text=True, timeout=GIVE_UP, check=True
    )
    assert (done.stdout, done.stderr) == ("no TCP connection to dns.example port 853: unknown\n", "")


# Deadlines and cancellation.


@pytest.mark.parametrize("timeout", [0.0, 0.01, 0.26, 0.4])
def test_a_deadline_in_each_phase(
    api: Backend, identities: Identities, has_addresses: Callable[..., None], timeout: float
) -> None:
    """Before the first attempt, inside it, between two, and with several on their way."""
    with unanswering() as dead:
        has_addresses(refused(), dead, dead)
        began = time.monotonic()
        error = api.run(fails, identities, timeout)
        assert timeout - 0.005 <= time.monotonic() - began < timeout + SLACK
    assert isinstance(error, ConnectTimeoutError)
    assert f"no TCP connection to {HOST} port 853 in time" in str(error) or "lookup" in str(error)


@pytest.mark.parametrize("moment", Moment, ids=lambda moment: moment.value)
def test_dialling_cancelled_at_each_await(
    async_api: Backend, identities: Identities, has_addresses: Callable[..., None], moment: Moment
) -> None:
    """The lookup, an attempt that is refused, one without an answer, and the one that wins; nothing is left."""

    async def scenario(api: Backend) -> int:
        before = api.others()

        async def victim() -> None:
            (await dials(api)).close()

        async def afterwards() -> None:
            await api.until(lambda: api.others() == before and not _lookup.pool._threads)

        return await at_each_suspension(api, victim, moment, afterwards)

    with unanswering() as dead, socket.create_server(("127.0.0.1", 0)) as listener:
        has_addresses(refused(), dead, listener.getsockname()[1])
        assert async_api.run(scenario) >= 3


@pytest.mark.parametrize("api", [Blocking(), Trio()], ids=repr)
def test_ctrl_c_while_dialling(api: Backend, has_addresses: Callable[..., None]) -> None:
    """A plain KeyboardInterrupt, and nothing is left open (asyncio makes a cancellation of it)."""
    dial = sys.modules[f"{api.package.__name__}.dial"].dial
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what starts the tests may have it ignored
    timer = threading.Timer(0.3, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT))
    try:
        with unanswering() as dead:
            has_addresses(dead, dead)
            timer.start()
            run = trio.run if isinstance(api, Trio) else lambda function, *arguments: function(*arguments)
            with pytest.raises(KeyboardInterrupt):
                run(dial, HOST, 853, math.inf)
    finally:
        signal.signal(signal.SIGINT, before)
        timer.join()


# The platform's edges.


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """The process may open so many file descriptors more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    holes = [os.open(os.devnull, os.O_RDONLY)]
    while holes[-1] < max(map(int, os.listdir("/proc/self/fd"))) - 1:
        holes.append(os.open(os.devnull, os.O_RDONLY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (holes[-1] + 1 + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for hole in holes:
            os.close(hole)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_one_descriptor_is_enough_and_none_is_an_error_of_ours(
    api: Backend, identities: Identities, has_addresses: Callable[..., None]
) -> None:
    """FR-15: nothing is left open, which is looked for after each scenario."""

    async def scenario(api: Backend) -> None:
        await api.in_thread(int)  # what the loop needs for threads, it has
        with descriptors_left(1):
            (await dials(api)).close()
        with descriptors_left(0):
            assert os.strerror(errno.EMFILE) in str(await fails(api, identities))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        has_addresses(listener.getsockname()[1])
        api.run(scenario)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("left", [1, 2])
def test_no_descriptors_for_a_client_that_threads_share(
    identities: Identities, has_addresses: Callable[..., None], left: int
) -> None:
    """FR-15: to be woken it needs two more than its connection."""

    async def scenario(api: Backend) -> None:
        await api.in_thread(int)
        with descriptors_left(left):
            assert os.strerror(errno.EMFILE) in str(await fails(api, identities))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        has_addresses(listener.getsockname()[1])
        Blocking().run(scenario)


def test_without_poll(identities: Identities, monkeypatch: pytest.MonkeyPatch, has_addresses: Any) -> None:
    """FR-16: Windows, eventlet."""
    monkeypatch.delattr(select, "poll")
    with unanswering() as dead, scripted(answering, identities.certificate_file) as server:
        has_addresses(dead, refused(), server.port)
        Blocking().run(asks, identities)
