"""The machine's own network: certificates, servers and dnsperf as processes, each on a core of its own."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import trustme
from answering import HOST, NAMES, ZONE
from measure import resident

from dot_proto import frame, make_query

HERE = Path(__file__).parent

DNSPERF = ["dnsperf", "-m", "dot", "-s", HOST, "-c", "1", "-T", "1", "-q", "100"]
"One connection, one pair of threads, its default of 100 in flight."

START = 10.0
"Seconds for unbound to listen."


@dataclass(frozen=True)
class Figure:
    """What a query cost: microseconds of CPU time, and of time."""

    cpu: float
    wall: float


class Site:
    """Certificates, and processes that are ended with the block, on two cores where there are two."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._stack = stack
        self.folder = folder
        authority = trustme.CA()
        self.ca, self.chain = folder / "ca.pem", folder / "chain.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(self.chain))
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
        self.cores = cores[-2:] if len(cores) > 1 else []
        "The client's and the server's."

    @contextmanager
    def on_core(self, number: int) -> Iterator[None]:
        """Processes started in the block run on the client's core (0) or the server's (1)."""
        if not self.cores:
            yield
            return
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self.cores[number]})
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)

    def server(self, kind: str) -> tuple[int, subprocess.Popen[str]]:
        """Start one of ours; returns its port."""
        command = [sys.executable, str(HERE / "answering.py"), kind, str(self.chain)]
        with self.on_core(1):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._stack.callback(stop, process)
        assert process.stdout is not None
        self._stack.callback(process.stdout.close)
        return int(process.stdout.readline()), process

    def unbound(self) -> int:
        """Start unbound with local data for the zone; returns its port."""
        port = free_port()
        config = self.folder / "unbound.conf"
        config.write_text(
            f"""server:
  interface: {HOST}@{port}
  tls-port: {port}
  tls-service-key: {self.chain}
  tls-service-pem: {self.chain}
  num-threads: 1
  incoming-num-tcp: 100
  username: ""
  chroot: ""
  directory: {self.folder}
  pidfile: ""
  do-daemonize: no
  use-syslog: no
  local-zone: {ZONE}. redirect
  local-data: "{ZONE}. 300 A 192.0.2.1"
remote-control:
  control-enable: no
"""
        )
        with self.on_core(1):
            process = subprocess.Popen([unbound_path(), "-d", "-c", config], stderr=subprocess.DEVNULL)
        self._stack.callback(stop, process)
        deadline = monotonic() + START
        while True:
            try:
                socket.create_connection((HOST, port)).close()
            except OSError:
                if process.poll() is not None or monotonic() > deadline:
                    sys.exit("unbound does not start")
                sleep(0.02)
            else:
                return int(port)


def unbound_path() -> str:
    return shutil.which("unbound", path=f"{os.environ['PATH']}:/usr/sbin") or ""


def free_port() -> int:
    """A port that nobody uses just now."""
    with socket.create_server((HOST, 0)) as free:
        return int(free.getsockname()[1])


def stop(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()


def dnsperf(site: Site, port: int, count: int) -> Figure:
    """By the slope: what a long run costs more than a short one."""
    names = site.folder / "names"
    names.write_text("".join(f"{name} A\n" for name in NAMES[: count // 2]))
    size, runs = len(NAMES[: count // 2]), max(2, round(count / len(NAMES)))
    costs = []
    for times in (1, 1 + runs):
        command = [*DNSPERF, "-p", str(port), "-d", str(names), "-n", str(times)]
        with site.on_core(0):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        with process.stdout as stdout:
            said = stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        found = re.search(r"completed: *(\d+) \(100\.00%\)", said)
        if process.returncode != 0 or found is None or int(found[1]) != size * times:
            sys.exit(f"dnsperf did not get all its answers:\n{said}")
        seconds = re.search(r"Run time \(s\): *([\d.]+)", said)
        assert seconds is not None
        costs.append(Figure(usage.ru_utime + usage.ru_stime, float(seconds[1])))
    short, long = costs
    return Figure((long.cpu - short.cpu) / size / runs * 1e6, (long.wall - short.wall) / size / runs * 1e6)


def measure_memory(site: Site, kind: str, few: int, many: int) -> float:
    """KiB of the server's resident set for each further idle connection."""
    port, process = site.server(kind)
    context = ssl.create_default_context(cafile=site.ca)
    query = frame(make_query(NAMES[0]))
    sizes = {}
    with ExitStack() as connections:
        for number in range(1, many + 1):
            sock = context.wrap_socket(socket.create_connection((HOST, port)), server_hostname=HOST)
            connections.enter_context(sock)
            sock.sendall(query)
            if len(sock.recv(4096)) < len(query):
                sys.exit(f"{kind} does not answer")
            if number in (few, many):
                sizes[number] = resident(process.pid)
    stop(process)
    return (sizes[many] - sizes[few]) / (many - few)
