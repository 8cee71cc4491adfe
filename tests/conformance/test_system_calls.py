"""Each system call that a client makes may fail, with any number: within the deadline, in the system's words.

A client's sockets are of a class whose methods fail from a chosen moment on.  uvloop makes its calls in C, so that only
dialling can be tried there.  What is left open is looked for after each scenario.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

from conformance.adapters import Asyncio, Backend, Blocking, Trio
from conformance.identities import Identities
from conformance.test_cancellation import answering
from dot_io.errors import ConnectError, ConnectionLostError, Failure, HandshakeError
from dot_proto import Cause, Fault, make_query
from support.peers import GIVE_UP, scripted

PROMPT = 2.0
"Seconds within which a failure that needs no deadline is told."

TRANSIENT = [errno.ENOBUFS, errno.ENOMEM]

NETWORK = [errno.EPERM, errno.ENETDOWN, errno.EHOSTUNREACH]
"A firewall's, and a network's that goes away."

READS = ("recv", "recv_into")


class Faults:
    """What fails from now on, for sockets that connect."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def begin(self, number: int, *calls: str) -> None:
        self.numbers |= dict.fromkeys(calls, number)

    def check(self, call: str) -> None:
        number = self.numbers.get(call)
        if number is not None:
            raise OSError(number, os.strerror(number))


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    made, plain = Faults(), socket.socket

    class Socket(plain):  # type: ignore[misc, valid-type]
        is_clients = False

        def connect(self, address: Any) -> None:
            self.is_clients = True
            made.check("connect")
            super().connect(address)

        def _checked(name: str) -> Callable[..., Any]:
            def call(self: Any, *arguments: Any) -> Any:
                if self.is_clients:
                    made.check(name)
                return getattr(plain, name)(self, *arguments)

            call.__name__ = name
            return call

        setsockopt, getsockopt, send, recv, recv_into, shutdown = map(  # type: ignore[assignment]
            _checked, ["setsockopt", "getsockopt", "send", "recv", "recv_into", "shutdown"]
        )

    monkeypatch.setattr(socket, "socket", Socket)
    yield made
    made.numbers.clear()


def in_python(api: Backend) -> None:
    if api.name == "uvloop":
        pytest.skip("uvloop's calls are made in C")


async def connects(api: Backend, identities: Identities, port: int) -> Any:
    async with api.connect("127.0.0.1", identities.policy, port=port, timeout=GIVE_UP) as client:
        return await client.query(make_query("a.example"))


@pytest.mark.parametrize("number", [*TRANSIENT, *NETWORK, errno.EADDRNOTAVAIL, errno.EACCES], ids=os.strerror)
def test_no_way_to_connect(api: Backend, identities: Identities, faults: Faults, number: int) -> None:
    """FR-15's kind: a ConnectError in the system's words."""
    faults.begin(number, "connect")
    began = time.monotonic()
    with pytest.raises(ConnectError, match=os.strerror(number)):
        api.run(connects, identities, 853)
    assert time.monotonic() - began < PROMPT


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.EBADF], ids=os.strerror)
def test_no_way_to_ask_how_connecting_went(
    api: Backend, identities: Identities, faults: Faults, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt has failed then, whatever came of it.  Loopback connects at once; here it says that it does not."""
    real = socket.socket.connect

    def connect(self: Any, address: Any) -> None:
        real(self, address)
        raise BlockingIOError(errno.EINPROGRESS, "")

    monkeypatch.setattr(socket.socket, "connect", connect)
    faults.begin(number, "getsockopt")
    with scripted(answering, identities.certificate_file) as server, pytest.raises(ConnectError) as error:
        api.run(connects, identities, server.port)
    assert os.strerror(number) in str(error.value)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOBUFS], ids=os.strerror)
def test_options_are_wishes(api: Backend, identities: Identities, faults: Faults, number: int) -> None:
    """macOS refuses each option of a connection that its peer has reset; what was read before that still counts."""
    if isinstance(api, Asyncio) and api.is_async:
        pytest.skip("asyncio's transports set one themselves, before they call us")
    faults.begin(number, "setsockopt")
    with scripted(answering, identities.certificate_file) as server:
        assert api.run(connects, identities, server.port)


@pytest.mark.parametrize("number", [errno.ENOBUFS, *NETWORK], ids=os.strerror)
@pytest.mark.parametrize("calls", [("send",), READS], ids=["send", "recv"])
def test_amid_the_handshake(
    api: Backend, identities: Identities, faults: Faults, number: int, calls: tuple[str, ...]
) -> None:
    """A HandshakeError in the system's words."""
    in_python(api)
    faults.begin(number, *calls)
    began = time.monotonic()
    with scripted(answering, identities.certificate_file) as server, pytest.raises(HandshakeError) as error:
        api.run(connects, identities, server.port)
    assert time.monotonic() - began < PROMPT
    assert error.value.failure is Failure.END_OF_STREAM
    assert os.strerror(number) in str(error.value)


@pytest.mark.parametrize("number", [errno.ENOBUFS, *NETWORK], ids=os.strerror)
@pytest.mark.parametrize("calls", [("send",), READS], ids=["send", "recv"])
def test_on_an_open_connection(
    api: Backend, identities: Identities, faults: Faults, number: int, calls: tuple[str, ...]
) -> None:
    """A ConnectionLostError in the system's words; the query may be asked again, and no other is taken."""
    in_python(api)

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            assert await client.query(make_query("a.example"))
            faults.begin(number, *calls)
            for _ in range(2):
                with pytest.raises(ConnectionLostError, match=os.strerror(number)) as lost:
                    await client.query(make_query("b.example"))
                assert lost.value.cause is Cause.TRANSPORT_FAILED
                assert lost.value.error is not None
                assert lost.value.error.fault is Fault.RESET
                assert lost.value.safe_to_resend
            assert client.is_closed

    began = time.monotonic()
    with scripted(answering, identities.certificate_file) as server:
        api.run(scenario, server.port)
    assert time.monotonic() - began < PROMPT


def test_a_socket_that_cannot_be_shut_down(api: Backend, identities: Identities, faults: Faults) -> None:
    in_python(api)
    faults.begin(errno.ENOTCONN, "shutdown")
    with scripted(answering, identities.certificate_file) as server:
        assert api.run(connects, identities, server.port)


# Waits.


def cannot_wait(monkeypatch: pytest.MonkeyPatch, api: Backend, number: int) -> None:
    """The system cannot watch a socket any more."""

    def refuse(*_: object) -> Any:
        raise OSError(number, os.strerror(number))

    if api.is_async:

        async def refuse_async(_: object) -> None:
            refuse()

        monkeypatch.setattr(trio.lowlevel, "wait_readable", refuse_async)
        monkeypatch.setattr(trio.lowlevel, "wait_writable", refuse_async)
    else:
        real = select.poll

        class Poll:
            def __init__(self) -> None:
                self._real = real()

            def __getattr__(self, name: str) -> Any:
                return getattr(self._real, name)

            poll = refuse

        monkeypatch.setattr(select, "poll", Poll)


@pytest.mark.parametrize("api", [Trio(), Blocking()], ids=repr)
@pytest.mark.parametrize("number", [errno.ENOMEM, errno.ENOSPC], ids=os.strerror)
def test_a_socket_that_cannot_be_watched(
    api: Backend, identities: Identities, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """epoll has no more room (fs.epoll.max_user_watches), or the system has no more memory: an error, and no group."""

    async def scenario(api: Backend, port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.setblocking(False)
            if api.is_async:

                async def dialled(*_: object) -> socket.socket:
                    return sock.dup()

                monkeypatch.setattr("dot_io.trio.client.dial", dialled)
            else:
                monkeypatch.setattr("dot_io.blocking.client.dial", lambda *_, **__: sock.dup())
            with monkeypatch.context() as patch:
                cannot_wait(patch, api, number)
                with pytest.raises(HandshakeError):
                    async with api.connect("127.0.0.1", identities.policy, port=port, timeout=0.3):
                        pass

    began = time.monotonic()
    with scripted(lambda caller: caller.rest(), None) as server:
        api.run(scenario, server.port)
    assert time.monotonic() - began < PROMPT


@pytest.mark.parametrize("api", [Trio(), Blocking()], ids=repr)
def test_an_attempt_that_cannot_be_watched(
    api: Backend, identities: Identities, monkeypatch: pytest.MonkeyPatch, faults: Faults
) -> None:
    real = socket.socket.connect

    def connect(self: Any, address: Any) -> None:
        real(self, address)
        raise BlockingIOError(errno.EINPROGRESS, "")

    monkeypatch.setattr(socket.socket, "connect", connect)
    cannot_wait(monkeypatch, api, errno.ENOMEM)
    with scripted(answering, identities.certificate_file) as server, pytest.raises(ConnectError) as error:
        api.run(connects, identities, server.port)
    assert os.strerror(errno.ENOMEM) in str(error.value)


# Descriptors that somebody closes beneath us.


@pytest.mark.parametrize("api", [Trio(), Blocking()], ids=repr)
def test_descriptors_that_are_closed_beneath_a_client(api: Backend, identities: Identities) -> None:
    """As os.closerange() does in a program that becomes a daemon: EBADF is a connection lost."""

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            assert await client.query(make_query("a.example"))
            driver = client._driver
            os.close(driver._socket.fileno())
            if not api.is_async:
                for end in driver._poller._wakers:
                    os.close(end.fileno())
            with pytest.raises(ConnectionLostError, match=os.strerror(errno.EBADF)) as lost:
                await client.query(make_query("b.example"), timeout=1.0)
            assert lost.value.safe_to_resend
            assert client.is_closed

    with scripted(answering, identities.certificate_file) as server:
        api.run(scenario, server.port)


def test_wakers_that_are_closed_beneath_a_client(identities: Identities) -> None:
    """The connection lives on, and others can still wake the thread that waits."""

    async def scenario(api: Backend, port: int) -> None:
        async with api.connect("127.0.0.1", identities.policy, port=port) as client:
            assert await client.query(make_query("a.example"))
            for end in client._driver._poller._wakers:
                os.close(end.fileno())
            answers = await api.gather([client.query(make_query(f"{name}.example")) for name in "bcde"])
            assert all(isinstance(one, bytes) for one in answers), answers

    with scripted(answering, identities.certificate_file) as server:
        Blocking().run(scenario, server.port)


# What a lookup returns.

ODD: dict[str, Any] = {
    "unknown family": (99, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 853)),
    "family without a name": (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (10, b"\0\0\0\0")),
    "octets": (socket.AF_INET, socket.SOCK_STREAM, 6, "", b"\x7f\0\0\1"),
    "no address": (socket.AF_INET, socket.SOCK_STREAM, 6, "", None),
    "no port": (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1",)),
    "port too large": (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 99_999)),
    "port 0": (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    "datagrams": (socket.AF_INET, socket.SOCK_STREAM, 255, "", ("127.0.0.1", 853)),
    "unknown scope": (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 853, 0, 9_999)),
}


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_address_is_one_that_fails(
    api: Backend, identities: Identities, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    """Lookups are replaced by all kinds of packages: a ConnectError alone, and no hindrance to the next address."""

    async def scenario(api: Backend, port: int) -> None:
        found = [ODD[odd], (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        async with api.connect("dns.example", identities.policy, timeout=GIVE_UP) as client:
            assert await client.query(make_query("a.example"))
        del found[1]
        with pytest.raises(ConnectError, match=r"no TCP connection to dns\.example port 853: ."):
            async with api.connect("dns.example", identities.policy, timeout=1.0):
                pass

    with scripted(answering, identities.certificate_file) as server:
        api.run(scenario, server.port)


@pytest.mark.parametrize("found", [None, [()], [1], ["127.0.0.1"], RuntimeError("no resolver")], ids=repr)
def test_a_lookup_that_returns_nothing_of_use(
    api: Backend, identities: Identities, monkeypatch: pytest.MonkeyPatch, found: Any
) -> None:
    """A ConnectError with its words, and what was wrong as its cause."""

    def getaddrinfo(*_: object, **__: object) -> Any:
        if isinstance(found, Exception):
            raise found
        return found

    async def scenario(api: Backend) -> None:
        with pytest.raises(ConnectError, match=r"no TCP connection to dns\.example port 853: .") as error:
            async with api.connect("dns.example", identities.policy, timeout=1.0):
                pass
        assert error.value.__cause__ is not None

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    api.run(scenario)
