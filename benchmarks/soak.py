"""Connections by the thousand, good and bad: whether a client's and a server's memory stay as they are.

    pip install -e '.[test]'
    python benchmarks/soak.py                        # each backend in both roles, 20,000 connections each
    python benchmarks/soak.py --quick --backend trio # 400 of them, seconds
    python benchmarks/soak.py --role client --connections 100000
    python benchmarks/soak.py --role server --minutes 30

Each role of each backend is watched in a process of its own (soaking.py), which other processes keep busy.  Of a
client's connections a third is opened, asked and closed, with and without sessions to resume, by address and by name;
of the others the server's certificate is refused, the handshake fails in four ways, TCP is reset, the server closes, a
query or a connection times out, a dial, a handshake or a query is cancelled.  A server's clients do what clients do:
ask and close, resume, refuse its certificate, go amid the handshake, send no TLS, fall silent, reset TCP, and ask what
makes its handler fail.

First everything that has a bound of its own is filled: caches, pools, and, on a Python that loses memory for each
session that is read (python/cpython#116810), the 256 that a process reads there.  Then what the process holds is
written down, and again at the end.  What may be lost between the two:

* file descriptors, threads, tasks: none;
* objects that the garbage collector follows: :data:`OBJECTS`, whatever the number of connections;
* Python's memory and malloc's: :data:`EACH` KiB for each connection and :data:`ONCE` KiB for all.

"Logged" are lines at WARNING of a client, from the start: one on a Python that loses sessions, where it is said once.

Where the figures mislead.  The resident set moves by itself in steps of what the allocator asks the system for, so it
is only printed; what is in use of it is judged.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from answering import HOST, NAMES
from loopback import HERE, Site, stop
from measure import machine
from soaking import BACKENDS, ROUND, SHORT, Holding

from dot_proto import frame, make_query

ROLES = ("client", "server")

QUICK = 400
"Connections of a short run."

EACH = 0.03
"""KiB for each connection: less than the smallest thing that it could leave behind, an object of 50 octets in a table.
600 KiB for 20,000."""

ONCE = 32.0
"KiB that may be lost in all: tables of Python's and of malloc's that grow in steps, by half or by a quarter."

OBJECTS = 200
"In all: asyncio keeps up to a hundred timers that were called off, and Python has caches of its own."

PATIENCE = 10.0
"Seconds that a peer waits."

WAIT, LONG_WAIT = 1.0, 4.0
"""Seconds that a server waits for a client's handshake, and for a query: longer than a loaded machine needs for one,
and than it needs at its worst moment in a long run."""

NO_HOARDS = "glibc.malloc.tcache_count=0"
"Each thread keeps up to 230 KiB of what was freed for itself, and mallinfo2() takes that for memory in use."

AT_A_TIME = 64
"Clients of a server."

RESET = struct.pack("ii", 1, 0)


# What a client meets, beside a server that answers.


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def rest(sock: socket.socket) -> None:
    while sock.recv(65_536):
        pass


def speaks_no_tls(sock: socket.socket, _: ssl.SSLContext) -> None:
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    rest(sock)


def resets_handshake(sock: socket.socket, _: ssl.SSLContext) -> None:
    sock.recv(1)
    reset(sock)


def is_silent(sock: socket.socket, _: ssl.SSLContext) -> None:
    rest(sock)


def is_mute(sock: socket.socket, context: ssl.SSLContext) -> None:
    with context.wrap_socket(sock, server_side=True) as wrapped:
        rest(wrapped)


def resets_query(sock: socket.socket, context: ssl.SSLContext) -> None:
    with context.wrap_socket(sock, server_side=True) as wrapped:
        wrapped.recv(1)
        reset(wrapped)


def closes_query(sock: socket.socket, context: ssl.SSLContext) -> None:
    with context.wrap_socket(sock, server_side=True) as wrapped:
        wrapped.recv(1)
        wrapped.settimeout(0.0)
        with suppress(OSError):
            wrapped.unwrap()


Conduct = Callable[[socket.socket, ssl.SSLContext], None]

PEERS: dict[str, Conduct] = {
    "no-tls": speaks_no_tls,
    "resets-handshake": resets_handshake,
    "silent": is_silent,
    "mute": is_mute,
    "resets-query": resets_query,
    "closes-query": closes_query,
}


@contextmanager
def listening(conduct: Conduct, context: ssl.SSLContext) -> Iterator[int]:
    """The port of a server that treats each client in this way."""

    def talk(sock: socket.socket) -> None:
        with sock, suppress(OSError):
            sock.settimeout(PATIENCE)
            conduct(sock, context)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server((HOST, 0), backlog=1024) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def dropping_syns() -> Iterator[int]:
    """A port whose queue of connections is full."""
    with socket.create_server((HOST, 0), backlog=0) as listener, ExitStack() as stack:
        with suppress(TimeoutError):
            while True:
                stack.enter_context(socket.create_connection(listener.getsockname(), timeout=SHORT))
        yield listener.getsockname()[1]


@contextmanager
def peers(site: Site) -> Iterator[dict[str, int]]:
    """The port of each peer of ``soaking.ROUND``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(site.chain)
    with ExitStack() as stack, socket.socket() as unused:
        unused.bind((HOST, 0))  # and nobody listens
        yield {
            "good": site.server("asyncio")[0],
            "nobody": unused.getsockname()[1],
            "drops-syn": stack.enter_context(dropping_syns()),
            **{name: stack.enter_context(listening(conduct, context)) for name, conduct in PEERS.items()},
        }


# What a server meets.


class Crowd:
    """Clients of every kind, on threads."""

    def __init__(self, port: int, anchor: Path) -> None:
        self._address = HOST, port
        self._trusting = ssl.create_default_context(cafile=anchor)
        self._refusing = ssl.create_default_context()
        self._session: ssl.SSLSession | None = None
        self._pool = ThreadPoolExecutor(AT_A_TIME)

    def come(self, rounds: int) -> None:
        """Each kind so many times."""
        for outcome in [self._pool.submit(kind, self) for _ in range(rounds) for kind in self.KINDS]:
            outcome.result()

    def close(self) -> None:
        self._pool.shutdown()

    def _tcp(self) -> socket.socket:
        return socket.create_connection(self._address, timeout=PATIENCE)

    def _tls(self, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
        return self._trusting.wrap_socket(self._tcp(), server_hostname=HOST, session=session)

    def _ask(self, sock: ssl.SSLSocket, name: str = NAMES[0]) -> None:
        sock.sendall(frame(make_query(name)))
        if len(sock.recv(4096)) < 12:
            raise AssertionError("the server has not answered")

    def asks(self) -> None:
        with self._tls() as sock:
            self._ask(sock)
            self._session = sock.session
            sock.settimeout(PATIENCE)
            sock.unwrap().close()

    def resumes(self) -> None:
        with self._tls(self._session) as sock:
            self._ask(sock)

    def fails_the_handler(self) -> None:
        with self._tls() as sock:
            self._ask(sock, NAMES[1])

    def refuses(self) -> None:
        with suppress(ssl.SSLError), self._refusing.wrap_socket(self._tcp(), server_hostname=HOST):
            raise AssertionError("this certificate is nobody's")

    def goes(self) -> None:
        self._tcp().close()

    def resets(self) -> None:
        reset(self._tcp())

    def sends_no_tls(self) -> None:
        with self._tcp() as sock, suppress(OSError):
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n" + secrets.token_bytes(100))
            rest(sock)

    def goes_amid_the_handshake(self) -> None:
        with self._tcp() as sock:
            sock.sendall(self._hello()[:-7])

    def resets_after_its_hello(self) -> None:
        sock = self._tcp()
        sock.sendall(self._hello())
        sock.recv(1)
        reset(sock)

    def resets_its_query(self) -> None:
        sock = self._tls()
        sock.sendall(frame(make_query(NAMES[0])))
        reset(sock)

    def falls_silent_before_tls(self) -> None:
        with self._tcp() as sock:
            rest(sock)

    def falls_silent(self) -> None:
        with self._tls() as sock:
            rest(sock)

    def _hello(self) -> bytes:
        outgoing = ssl.MemoryBIO()
        with suppress(ssl.SSLWantReadError):
            self._trusting.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=HOST).do_handshake()
        return outgoing.read()

    KINDS = (
        asks,
        asks,
        asks,
        resumes,
        resumes,
        resumes,
        fails_the_handler,
        refuses,
        goes,
        resets,
        sends_no_tls,
        goes_amid_the_handshake,
        resets_after_its_hello,
        resets_its_query,
        falls_silent_before_tls,
        falls_silent,
    )


# The process that is watched.


class Watched:
    """One process, and the line through which it is asked."""

    def __init__(self, *arguments: str | Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, HERE / "soaking.py", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "GLIBC_TUNABLES": NO_HOARDS},
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        if not said:
            sys.exit(f"the process that is watched has ended, with exit status {self.process.wait()}")
        return said

    def ask(self, command: str) -> Holding:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        return Holding(**json.loads(self.line()))

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        stop(self.process)


Run = tuple[int, Holding, Holding]
"How many connections came between the two."


def portions(kinds: int, connections: int, seconds: float) -> Iterator[int]:
    """Rounds of so many kinds: those that the connections need, and the same again until the time is over."""
    until = time.monotonic() + seconds
    yield -(-connections // kinds)
    while time.monotonic() < until:
        yield -(-connections // kinds)


def soak_client(site: Site, backend: str, connections: int, seconds: float) -> Run:
    with peers(site) as ports, ExitStack() as stack:
        watched = Watched("client", backend, site.ca, json.dumps(ports))
        stack.callback(watched.close)
        watched.ask("warm")
        before = after = watched.ask("3")
        done = 0
        for rounds in portions(len(ROUND), connections, seconds):
            after = watched.ask(str(rounds))
            done += rounds * len(ROUND)
        return done, before, after


def soak_server(site: Site, backend: str, connections: int, seconds: float) -> Run:
    with ExitStack() as stack:
        watched = Watched("server", backend, site.chain, str(LONG_WAIT if seconds else WAIT))
        stack.callback(watched.close)
        crowd = Crowd(int(watched.line()), site.ca)
        stack.callback(crowd.close)
        watched.ask("look")
        crowd.come(5)
        before = watched.ask("look")
        done = 0
        for rounds in portions(len(Crowd.KINDS), connections, seconds):
            crowd.come(rounds)
            done += rounds * len(Crowd.KINDS)
        return done, before, watched.ask("look")


def faults(connections: int, before: Holding, after: Holding) -> list[str]:
    """What has grown beyond its bound."""
    memory = ONCE + EACH * connections
    bounds = {"python": memory, "malloc": memory, "objects": OBJECTS, "descriptors": 0, "threads": 0, "tasks": 0}
    growth = {name: getattr(after, name) - getattr(before, name) for name in bounds}
    return [f"{name} {growth[name]:+,.0f}, bound {bounds[name]:,.0f}" for name in bounds if growth[name] > bounds[name]]


def row(backend: str, role: str, connections: int, before: Holding, after: Holding) -> str:
    each = {
        name: f"{(getattr(after, name) - getattr(before, name)) / connections:+.3f}"
        for name in ("python", "malloc", "resident")
    }
    counts = {
        name: f"{getattr(after, name) - getattr(before, name):+d}"
        for name in ("objects", "descriptors", "threads", "tasks")
    } | {"logged": str(after.warnings)}
    wrong = faults(connections, before, after)
    cells = [f"{backend:8}", f"{role:6}", f"{connections:11,}", *(f"{one:>8}" for one in each.values())]
    cells += [f"{count:>{len(name)}}" for name, count in counts.items()]
    return "  ".join([*cells, f"NO: {'; '.join(wrong)}" if wrong else "yes"])


HEAD = (
    "backend   role    connections    python    malloc  resident  objects  descriptors  threads  tasks  logged  flat\n"
    f"{'':30}KiB each  KiB each  KiB each"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--connections", type=int, default=20_000, help="for each backend and role (default 20000)")
    parser.add_argument("--minutes", type=float, help="for so long instead, each backend and role")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} connections")
    parser.add_argument("--backend", choices=BACKENDS, action="append", help="only this one; may be given again")
    parser.add_argument("--role", choices=ROLES, action="append", help="only this one")
    chosen = parser.parse_args()
    connections = QUICK if chosen.quick or chosen.minutes is not None else chosen.connections
    seconds = 0.0 if chosen.minutes is None else chosen.minutes * 60.0
    if not seconds >= 0:
        parser.error(f"--minutes is {chosen.minutes}; it must be a number from 0 on")
    if connections < 1:
        parser.error(f"--connections is {connections}; it must be at least 1")
    machine()
    print(f"{ssl.OPENSSL_VERSION}, {' '.join(platform.libc_ver())}\n{HEAD}", flush=True)
    grown = False
    for backend in chosen.backend or BACKENDS:
        for role in chosen.role or ROLES:
            with ExitStack() as stack:
                site = Site(Path(stack.enter_context(tempfile.TemporaryDirectory())), stack)
                began = time.monotonic()
                run = (soak_client if role == "client" else soak_server)(site, backend, connections, seconds)
                print(f"{row(backend, role, *run)}  ({time.monotonic() - began:.0f} s)", flush=True)
                grown |= bool(faults(*run))
    if grown:
        sys.exit("something has grown with the number of connections")


if __name__ == "__main__":
    main()
