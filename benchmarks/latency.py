"""How long a first answer takes, on a connection that is new, resumed, or open: ours beside ssl's own socket.

    pip install -e '.[test]'
    python benchmarks/latency.py --quick

Milliseconds from nothing to the first answer over TLS 1.3 on loopback, and on an open connection from a query to its
answer, one at a time.  ``SSLSocket`` is what one writes without this package: a context shared by all connections, the
chain and the name checked as ours are, TCP_NODELAY set.  dnspython is given a shared context too.  Servers are those of
``peers.py`` that are installed, and ours; those not found are named.  Every client asks every server in each round,
in turn; the medians of all rounds are shown, and the ratios are of medians of one run.  Client and server have a core
each.

What to look at.  Whether a client is as fast on its worst server as on its best: Unbound 1.17 and BIND 9.18 leave
Nagle's algorithm on, and hold their answer back until the session tickets before it are acknowledged, which Linux does
40 ms later unless it is told otherwise (TCP_QUICKACK, set again after each read).  SSLSocket and dnspython wait for it.

Where the figures mislead.  No round trip, no loss: on a real path the handshake's round trips are nearly all of it, and
the certificate's checks, where we do more than ssl does, are nothing.  A resumed connection saves the server's
signature and the chain; on loopback that is a tenth of a millisecond.  The close is not measured.

Tried and lost.  Leaving Nagle's algorithm on at the client: kresd then stalls instead.  TCP_QUICKACK once at connect:
the kernel forgets it with the first read.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import ssl
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import perf_counter

import dns.message
import dns.query
import programs
import trio
from answering import HOST, NAMES
from loopback import Site
from measure import machine

import dot_io.asyncio
import dot_io.blocking
import dot_io.trio
from dot_io.tls import ClientContext
from dot_proto import AuthenticationPolicy, Deframer, certificates_from, frame, make_query

PEERS = ("kresd", "dnsdist", "unbound", "named")

QUERY = make_query(NAMES[0])

SOCKET, RESUMED, FRESH = "SSLSocket", "blocking, resumed", "blocking"

Sample = Callable[[int], float]
"From a port to seconds."


def read_message(sock: ssl.SSLSocket) -> None:
    """Until one whole message has come."""
    deframer = Deframer()
    while not deframer.feed(data := sock.recv(65_536)):
        if not data:
            sys.exit("a server closed the connection")


class Clients:
    """Every way to ask on a new connection, and on an open one."""

    def __init__(self, ca: Path) -> None:
        policy = AuthenticationPolicy.strict(HOST, trust_anchors=certificates_from(ca.read_bytes()))
        self._context = ssl.create_default_context(cafile=str(ca))
        self._full = ClientContext(policy, sessions=False)
        self._resuming = ClientContext(policy)
        self.fresh: dict[str, Sample] = {
            SOCKET: self._socket,
            FRESH: lambda port: self._blocking(port, self._full),
            "asyncio": lambda port: asyncio.run(self._asyncio(port)),
            "trio": lambda port: trio.run(self._trio, port),
            RESUMED: lambda port: self._blocking(port, self._resuming),
            "dnspython": self._dnspython,
        }

    def _socket(self, port: int) -> float:
        began = perf_counter()
        with self._connected(port) as sock:
            sock.sendall(frame(QUERY))
            read_message(sock)
            return perf_counter() - began

    def _connected(self, port: int) -> ssl.SSLSocket:
        sock = socket.create_connection((HOST, port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._context.wrap_socket(sock, server_hostname=HOST)

    def _blocking(self, port: int, context: ClientContext) -> float:
        began = perf_counter()
        with dot_io.blocking.connect(HOST, port=port, context=context, first_query=QUERY) as client:
            client.first_response()
            return perf_counter() - began

    async def _asyncio(self, port: int) -> float:
        began = perf_counter()
        async with dot_io.asyncio.connect(HOST, port=port, context=self._full, first_query=QUERY) as client:
            await client.first_response()
            return perf_counter() - began

    async def _trio(self, port: int) -> float:
        began = perf_counter()
        async with dot_io.trio.connect(HOST, port=port, context=self._full, first_query=QUERY) as client:
            await client.first_response()
            return perf_counter() - began

    def _dnspython(self, port: int) -> float:
        began = perf_counter()
        message = dns.message.make_query(NAMES[0], "A")
        dns.query.tls(message, HOST, port=port, ssl_context=self._context, server_hostname=HOST)
        return perf_counter() - began

    def open_socket(self, port: int, count: int) -> list[float]:
        """Seconds of each of ``count`` exchanges on one connection."""
        times = []
        with self._connected(port) as sock:
            for _ in range(count):
                began = perf_counter()
                sock.sendall(frame(QUERY))
                read_message(sock)
                times.append(perf_counter() - began)
        return times

    def open_blocking(self, port: int, count: int) -> list[float]:
        """The same, ours."""
        times = []
        with dot_io.blocking.connect(HOST, port=port, context=self._full) as client:
            for _ in range(count):
                began = perf_counter()
                client.query(QUERY)
                times.append(perf_counter() - began)
        return times


def show(title: str, columns: list[str], rows: dict[str, dict[str, float]]) -> None:
    """Milliseconds by server, and the worst over the best."""
    print(f"\n{title}\n{'':18}" + "".join(f"{column:>14}" for column in columns) + "    worst/best")
    for name, values in rows.items():
        theirs = [value for server, value in values.items() if server in PEERS] or list(values.values())
        cells = "".join(f"{values[column] * 1e3:14.3f}" for column in columns)
        print(f"{name:18}{cells}{max(theirs) / min(theirs):14.1f}")


def judge(what: str, limit: float, ratios: dict[str, float]) -> None:
    """Each server's ratio beside what is aimed at."""
    shown = ", ".join(f"{server} {ratio:.2f}" for server, ratio in ratios.items())
    reached = "yes" if max(ratios.values()) <= limit else "NO" if min(ratios.values()) > limit else "not everywhere"
    print(f"{what}, aim <= {limit}: {shown}: {reached}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds: rough figures")
    parser.add_argument("--smoke", action="store_true", help="shows that it runs, and no figures")
    chosen = parser.parse_args()
    rounds, exchanges = (1, 3) if chosen.smoke else (15, 300) if chosen.quick else (60, 2000)
    machine()
    fresh: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    still: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with ExitStack() as stack:
        site = Site(Path(stack.enter_context(tempfile.TemporaryDirectory())), stack)
        found = [] if chosen.smoke else [name for name in PEERS if programs.find(name)]
        print(*(f"{name} is not installed: skipped" for name in PEERS if name not in found), sep="\n")
        ports = {name: programs.start(site, stack, name).port for name in found}
        ports["ours"] = site.server("asyncio")[0]
        clients = Clients(site.ca)
        stack.enter_context(site.on_core(0))
        for _ in range(rounds):
            for server, port in ports.items():
                for name, sample in clients.fresh.items():
                    fresh[name][server].append(sample(port))
        for server, port in ports.items():
            still[SOCKET][server] = clients.open_socket(port, exchanges)
            still[FRESH][server] = clients.open_blocking(port, exchanges)
    medians = {name: {one: median(times) for one, times in by.items()} for name, by in fresh.items()}
    opened = {name: {one: median(times) for one, times in by.items()} for name, by in still.items()}
    show(f"New connection to first answer, ms, median of {rounds}", list(ports), medians)
    show(f"Open connection, one at a time, ms, median of {exchanges}", list(ports), opened)
    print()
    for name in (FRESH, "asyncio", "trio"):
        ratios = {server: medians[name][server] / medians[SOCKET][server] for server in ports}
        judge(f"{name} over SSLSocket", 1.0, ratios)
    judge("resumed over fresh", 0.9, {server: medians[RESUMED][server] / medians[FRESH][server] for server in ports})
    judge("open, over SSLSocket", 1.1, {server: opened[FRESH][server] / opened[SOCKET][server] for server in ports})


if __name__ == "__main__":
    main()
