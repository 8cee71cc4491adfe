"""How many new clients a second one core of a server serves, with full handshakes and with resumed ones.

    pip install -e '.[test]'
    python benchmarks/handshakes.py            # our servers, dnsdist and unbound, a minute
    python benchmarks/handshakes.py --quick

A client connects, shakes hands over TLS 1.3, asks once, reads the answer and closes; eight are under way at a time.
Milliseconds are CPU time that the server spends on it, user and system, of all its threads; the rate is what one core
could serve, were it never idle.  The chain is one certificate with a key on P-256.  All
rows run once in each round; the median over the rounds is shown.  Servers that are not installed are named.

Where the figures mislead.  The client is Python's ssl and costs more than the server: on a machine whose cores clients
use too, fewer are served.  A larger chain or an RSA key costs every server the same on top, and makes the ratios
smaller.
"""

from __future__ import annotations

import argparse
import socket
import ssl
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import programs
from answering import HOST, NAMES
from loopback import Site
from measure import machine
from programs import Server

from dot_proto import frame, make_query

OURS = ("asyncio", "trio", "blocking")
PEERS = ("dnsdist", "unbound")

AT_A_TIME = 8

TIMEOUT = 10.0
"Seconds that a client waits."

QUERY = frame(make_query(NAMES[0]))


class Clients:
    """So many at a time, of one server."""

    def __init__(self, ca: Path, port: int) -> None:
        self._context = ssl.create_default_context(cafile=ca)
        self._port = port

    def visit(self, session: ssl.SSLSession | None) -> ssl.SSLSession | None:
        """One client; returns what the next can resume."""
        with (
            socket.create_connection((HOST, self._port), timeout=TIMEOUT) as tcp,
            self._context.wrap_socket(tcp, server_hostname=HOST, session=session) as sock,
        ):
            sock.sendall(QUERY)
            if len(sock.recv(4096)) <= len(QUERY) or bool(sock.session_reused) is not (session is not None):
                sys.exit(f"the server on port {self._port} does not answer, or does not resume")
            return sock.session

    def cost(self, server: Server, count: int, session: ssl.SSLSession | None) -> float:
        """Seconds of the server's CPU time for each of so many clients."""
        before = server.cpu()
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            list(pool.map(self.visit, [session] * count))
        return (server.cpu() - before) / count


def report(found: dict[str, dict[str, list[float]]]) -> None:
    print(f"\n{'server':14}  {'full':>8} {'a second':>9}  {'resumed':>8} {'a second':>9}")
    for name, costs in found.items():
        cells = [f"{median(costs[kind]) * 1000:8.3f} {1 / median(costs[kind]):9,.0f}" for kind in ("full", "resumed")]
        print(f"{name:14}  {'  '.join(cells)}")
    print("milliseconds of CPU time for each client; clients a second that a core could serve")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, default=400, help="of each server in each round (default 400)")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--quick", action="store_true", help="one round of 100 clients")
    parser.add_argument("--smoke", action="store_true", help="5 clients: shows that it runs, and no figures")
    chosen = parser.parse_args()
    count, rounds = (5, 1) if chosen.smoke else (100, 1) if chosen.quick else (chosen.clients, chosen.rounds)
    if count < 1 or rounds < 1:
        parser.error("--clients and --rounds must be at least 1")
    machine()
    print(ssl.OPENSSL_VERSION)
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with ExitStack() as stack:
        site = Site(Path(stack.enter_context(tempfile.TemporaryDirectory())), stack)
        for name in PEERS:
            print(programs.version(name) if programs.find(name) else f"{name} is not installed")
        servers = [programs.start(site, stack, name) for name in PEERS if programs.find(name)]
        servers += [programs.start_ours(site, stack, kind) for kind in OURS]
        with site.on_core(0):
            for _ in range(rounds):
                for server in servers:
                    clients = Clients(site.ca, server.port)
                    session = clients.visit(None)
                    found[server.name]["full"].append(clients.cost(server, count, None))
                    found[server.name]["resumed"].append(clients.cost(server, count, session))
    report(found)


if __name__ == "__main__":
    main()
